"""The market that walks bars: it opens and closes them on the venue, at its pace, and tells the trader.

A bar feed is matched bar by bar. At speed 0 whole bars follow each other as fast as the trader releases them; at
other speeds ticks walk through the bar for display and whatever rests is matched when it ends. The next bar
opens only when the last close has been released: an exit decided at a close gets the next open.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Protocol

import numpy as np

from trading.exchange.simulated.venue import Venue
from trading.model import EPOCH, Candle, CandleSeries, millis
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


class Market:
    """Walks a feed over a venue. `deliver` takes what the trader hears; `speed` 0 follows the trader's pace."""

    def __init__(
        self,
        venue: Venue,
        feed: Feed,
        pace: Pace,
        clock: SimulatedClock,
        deliver: Callable[[BarsClosed | FeedEnded], None],
        *,
        speed: float = 0.0,
    ) -> None:
        self._venue = venue
        self._feed = feed
        self._pace = pace
        self._clock = clock
        self._deliver = deliver
        self._speed = speed

    def start_at(self, moment: datetime) -> None:
        """Set the market's clock and last prices without trading: what lies before is history."""
        self._clock.market_time = moment
        self._venue.now = moment
        for series in self._feed.series():
            if before := int(np.searchsorted(series.timestamp, millis(moment - series.interval), "right")):
                self._venue.last[series.symbol] = float(series.close[before - 1])

    def history(self, symbol: str, bars: int) -> CandleSeries | None:
        """The last closed bars of a symbol as of the market's clock; None for a symbol it does not have."""
        for series in self._feed.series():
            if series.symbol == symbol:
                closed = np.searchsorted(series.timestamp, millis(self._clock.market_time - series.interval), "right")
                return series.between(max(int(closed) - bars, 0), int(closed))
        return None

    async def run(self) -> None:
        """Walk until the feed ends; each close waits for its release."""
        while True:
            for candles in self._steps():
                await self._walk(candles)
            if not self._feed.extend():
                break
        self._deliver(FeedEnded())

    def _steps(self) -> Iterator[tuple[Candle, ...]]:
        """Groups of bars with one open time, from the market's clock on."""
        start = millis(self._clock.market_time)
        sources = [
            series.candles(int(np.searchsorted(series.timestamp, start, "left"))) for series in self._feed.series()
        ]
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
        close_time = candles[0].close_time
        clock.market_time = close_time
        venue.commit()
        self._deliver(BarsClosed(close_time=close_time, candles=candles))
        await self._pace.released(close_time)

    async def _tick_through(self, candles: tuple[Candle, ...]) -> None:
        interval = candles[0].interval
        seconds = interval.total_seconds() / self._speed
        count = max(1, min(TICKS_PER_BAR, int(seconds / LEAST_TICK_SECONDS)))
        paths = [(candle.symbol, _path(candle, count)) for candle in candles]
        for step in range(count):
            for symbol, prices in paths:
                self._venue.tick(symbol, prices[step])
            self._clock.market_time = candles[0].open_time + interval * (step / count)
            await self._clock.sleep(seconds / count)


def _path(candle: Candle, count: int) -> list[float]:
    """Prices through a bar: to the nearer extreme first, then the other, then the close."""
    down_first = candle.close >= candle.open
    first, second = (candle.low, candle.high) if down_first else (candle.high, candle.low)
    corners = [candle.open, first, second, candle.close]
    places = np.linspace(0, 3, count + 1)[1:]
    return [float(price) for price in np.interp(places, range(4), corners)]


