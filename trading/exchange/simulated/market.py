"""The market that walks bars: it opens and closes them on the venue, at its pace, and tells the trader.

A bar feed is matched bar by bar. At speed 0 whole bars follow each other as fast as the trader releases them; at
other speeds ticks walk through the bar for display and whatever rests is matched when it ends. The next bar
opens only when the last close has been released: an exit decided at a close gets the next open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import numpy as np

from trading.exchange.simulated.venue import Venue
from trading.model import EPOCH, Candle, CandleSeries, Instrument, millis
from trading.ports import BarsClosed, FeedEnded, Pace

TICKS_PER_BAR = 24
LEAST_TICK_SECONDS = 0.05


class Feed(Protocol):
    """Where bars come from; every symbol has the same bar length."""

    def series(self) -> Sequence[CandleSeries]:
        """All bars known so far, one series per symbol, in the order of the configuration."""
        ...

    def extend(self) -> bool:
        """Make more bars known; False when there will never be more (a file is over)."""
        ...


class FileFeed:
    """The bars of candle files and nothing after them."""

    def __init__(self, series: Sequence[CandleSeries]) -> None:
        self._series = tuple(series)

    def series(self) -> Sequence[CandleSeries]:
        """The files' bars."""
        return self._series

    def extend(self) -> bool:
        """A file has an end."""
        return False


class GrowingFeed:
    """A market without end: `generate(bars)` gives every symbol's first `bars` bars, always the same ones."""

    def __init__(self, generate: Callable[[int], Sequence[CandleSeries]], bars: int) -> None:
        self._generate = generate
        self._bars = bars
        self._series = tuple(generate(bars))

    def series(self) -> Sequence[CandleSeries]:
        """What has been generated so far."""
        return self._series

    def extend(self) -> bool:
        """Generate as many again."""
        self._bars *= 2
        self._series = tuple(self._generate(self._bars))
        return True


class SimulatedClock:
    """Market time as the market sets it; ages and deadlines by the loop's monotonic clock.

    `haste` shortens every wait by that factor; tests use it, a running market does not.
    """

    def __init__(self, *, haste: float = 1.0) -> None:
        self.market_time = EPOCH
        self._haste = haste

    def now(self) -> datetime:
        """The market's time."""
        return self.market_time

    def monotonic(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds / self._haste)


class ReleasePace:
    """The pace control: remembers the last released close and wakes whoever waits for it."""

    def __init__(self) -> None:
        self._released = EPOCH
        self._wake = asyncio.Event()

    def release(self, close_time: datetime) -> None:
        """Let everything up to this close be history."""
        self._released = max(self._released, close_time)
        self._wake.set()

    async def released(self, close_time: datetime) -> None:
        """Wait until the close has been released."""
        while self._released < close_time:
            self._wake.clear()
            await self._wake.wait()


class FollowedPace(ReleasePace):
    """The pace of a market whose trader sits at the other end of a wire, and may come and go.

    While somebody follows, each close waits for its release. With nobody there, a market with a speed of its own
    runs on as a real one would (`free`); at speed 0 it waits for somebody to come.
    """

    def __init__(self, *, free: bool) -> None:
        super().__init__()
        self._free = free
        self.followers = 0

    def follow(self) -> None:
        """Somebody follows from now on."""
        self.followers += 1

    def leave(self) -> None:
        """A follower has gone."""
        self.followers -= 1
        self._wake.set()

    async def released(self, close_time: datetime) -> None:
        """Wait until the close has been released, or nobody is there to do it."""
        while self._released < close_time and not (self._free and self.followers == 0):
            self._wake.clear()
            await self._wake.wait()


class Market:
    """Walks a feed over a venue. `deliver` takes what a trader hears at a close, `ticked` every price between.

    `speed` 0 follows the trader's pace alone. The first bar opens when the market's start has been released.
    """

    def __init__(
        self,
        venue: Venue,
        feed: Feed,
        pace: Pace,
        clock: SimulatedClock,
        deliver: Callable[[BarsClosed | FeedEnded], None],
        *,
        speed: float = 0.0,
        ticked: Callable[[str, float], None] = lambda _symbol, _price: None,
    ) -> None:
        self._venue = venue
        self.feed = feed
        self.interval = feed.series()[0].interval
        self._pace = pace
        self._clock = clock
        self.deliver = deliver
        self.ticked = ticked
        self._speed = speed
        self._open: dict[str, Candle] = {}
        self._begins = EPOCH

    def open_candle(self, symbol: str) -> Candle | None:
        """The bar in progress as walked so far; None between bars."""
        return self._open.get(symbol)

    async def prepare(self) -> None:
        """Nothing to ask for: the feed has its bars."""

    def start_at(self, moment: datetime) -> None:
        """Set the market's clock and last prices without trading: what lies before is history."""
        self._clock.market_time = moment
        self._venue.now = moment
        for series in self.feed.series():
            if before := int(np.searchsorted(series.timestamp, millis(moment - series.interval), "right")):
                self._venue.last[series.symbol] = float(series.close[before - 1])
            elif len(series) and series.timestamp[0] == millis(moment):
                self._venue.last[series.symbol] = float(series.open[0])  # the bar that opens now

    def history(self, symbol: str, bars: int) -> CandleSeries | None:
        """The last closed bars of a symbol as of the market's clock; None for a symbol it does not have."""
        for series in self.feed.series():
            if series.symbol == symbol:
                closed = np.searchsorted(series.timestamp, millis(self._clock.market_time - series.interval), "right")
                return series.between(max(int(closed) - bars, 0), int(closed))
        return None

    async def run(self) -> None:
        """Walk until the feed ends; each close waits for its release."""
        self._begins = self._clock.market_time
        await self._pace.released(self._begins)
        while True:
            for candles in self._steps():
                await self._walk(candles)
            if not self.feed.extend():
                break
        self.deliver(FeedEnded())

    def _steps(self) -> Iterator[tuple[Candle, ...]]:
        """Groups of bars with one open time, from the market's clock on."""
        start = self._clock.market_time
        sources = [series.candles(_first(series, start)) for series in self.feed.series()]
        heads = [next(source, None) for source in sources]
        while any(heads):
            opening = min(candle.open_time for candle in heads if candle)
            yield tuple(candle for candle in heads if candle and candle.open_time == opening)
            for row, candle in enumerate(heads):
                if candle and candle.open_time == opening:
                    heads[row] = next(sources[row], None)

    async def _walk(self, candles: tuple[Candle, ...]) -> None:
        venue, clock = self._venue, self._clock
        for candle in candles:
            clock.market_time = candle.open_time
            venue.begin_bar(candle.symbol, candle.open_time, candle.interval, candle.open)
        if self._speed > 0:
            venue.commit()
            await self._tick_through(candles)
        for candle in candles:
            venue.end_bar(candle)
        self._open.clear()
        close_time = candles[0].close_time
        clock.market_time = close_time
        venue.commit()
        self.deliver(BarsClosed(close_time=close_time, candles=candles))
        await self._pace.released(close_time)

    async def _tick_through(self, candles: tuple[Candle, ...]) -> None:
        interval = candles[0].interval
        seconds = interval.total_seconds() / self._speed
        count = max(1, min(TICKS_PER_BAR, int(seconds / LEAST_TICK_SECONDS)))
        rules = self._venue.instruments
        paths = [_path(candle, count, rules[candle.symbol]) for candle in candles]
        for step in range(count):
            now = self._clock.market_time = candles[0].open_time + interval * (step / count)
            for candle, prices in zip(candles, paths, strict=True):
                self._venue.tick(candle.symbol, prices[step], now)
                self._open[candle.symbol] = _part(candle, prices[: step + 1], count)
                self.ticked(candle.symbol, prices[step])
            if now >= self._begins:  # a bar that a restart found half walked goes on from there
                await self._clock.sleep(seconds / count)


def _first(series: CandleSeries, moment: datetime) -> int:
    """The row of the bar that is open at a moment, or else of the next one."""
    row = int(np.searchsorted(series.timestamp, millis(moment), "right")) - 1
    return row if row >= 0 and millis(moment - series.interval) < series.timestamp[row] else row + 1


def _part(candle: Candle, prices: list[float], count: int) -> Candle:
    """A bar as far as it has come."""
    return replace(
        candle,
        high=max(candle.open, *prices),
        low=min(candle.open, *prices),
        close=prices[-1],
        volume=candle.volume * len(prices) / count,
    )


def _path(candle: Candle, count: int, rules: Instrument) -> list[float]:
    """Prices through a bar, on the tick: to the nearer extreme first, then the other, then the close."""
    down_first = candle.close >= candle.open
    first, second = (candle.low, candle.high) if down_first else (candle.high, candle.low)
    corners = [candle.open, first, second, candle.close]
    places = np.linspace(0, 3, count + 1)[1:]
    return [float(rules.round_price(float(price))) for price in np.interp(places, range(4), corners)]


