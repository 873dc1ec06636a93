"""A paper market on live prices: every trade of the real exchange is matched on the venue, tick by tick.

Limits fill only when somebody traded through them, post-only is judged against the real book's top, market orders
and stops get the touch and the slippage of the terms. Bars are the real exchange's own; fills of a bar are told
before its close. What was traded while the stream was down is walked afterwards, minute by minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

import numpy as np

from trading.errors import ConclaveError, Transient
from trading.exchange.simulated.market import SimulatedClock
from trading.exchange.simulated.venue import Venue
from trading.model import EPOCH, Candle, CandleSeries, millis
from trading.ports import BarsClosed

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
MINUTE = timedelta(minutes=1)


class LivePrices(Protocol):
    """Where the prices come from; it calls the market back on every change."""

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """The last closed bars."""
        ...

    async def since(self, symbol: str, opening: datetime) -> list[Candle]:
        """Closed bars since a moment, oldest first."""
        ...

    async def minutes(self, symbol: str, opening: datetime) -> list[Candle]:
        """Closed one-minute bars since a moment, oldest first; none where there are none so fine."""
        ...

    async def start(self, listener: LiveMarket) -> None:
        """Open the stream and keep it open."""
        ...

    async def stop(self) -> None:
        """Close it."""
        ...


class LiveMarket:
    """The market of a venue on live prices. `deliver` takes closed bars, `ticked` every price between."""

    def __init__(
        self,
        venue: Venue,
        prices: LivePrices,
        symbols: Sequence[str],
        interval: timedelta,
        clock: SimulatedClock,
        *,
        bars: int,
    ) -> None:
        self.interval = interval
        self.deliver: Callable[[BarsClosed], None] = lambda _: None
        self.ticked: Callable[[str, float], None] = lambda _symbol, _price: None
        self._venue = venue
        self._prices = prices
        self._symbols = tuple(symbols)
        self._clock = clock
        self._bars = bars
        self._series: dict[str, CandleSeries] = {}
        self._open: dict[str, Candle] = {}
        self._due: dict[str, tuple[Decimal, datetime]] = {}
        self._closed: list[Candle] = []
        self._heard_until = venue.now
        self._up = asyncio.Event()
        self._caught_up = False
        self._committing = False

    def history(self, symbol: str, bars: int) -> CandleSeries | None:
        """The last closed bars."""
        series = self._series.get(symbol)
        return series.tail(min(bars, len(series))) if series is not None else None

    def open_candle(self, symbol: str) -> Candle | None:
        """The bar in progress."""
        return self._open.get(symbol)

    async def prepare(self) -> None:
        """Ask for the bars before now, for as long as it takes; the venue has prices from then on."""
        self._heard_until = self._venue.now  # as the ledger has it
        for symbol in self._symbols:
            self._series[symbol] = await self._asked(symbol)
        for series in self._series.values():
            if len(series):
                newest = series.candle(len(series) - 1)
                self._venue.last.setdefault(series.symbol, newest.close)
                self._advance(newest.close_time)

    async def _asked(self, symbol: str) -> CandleSeries:
        said = False
        while True:
            try:
                return await self._prices.history(symbol, self._bars)
            except Transient as error:
                if not said:
                    log.warning("live_prices_not_reached reason='%s' next='asking again'", error)
                said = True
                await asyncio.sleep(RETRY_SECONDS)

    async def run(self) -> None:
        """Follow the prices until cancelled."""
        await self._prices.start(self)
        try:
            while True:
                await self._up.wait()
                self._up.clear()
                await self._catch_up()
        finally:
            await self._prices.stop()

    # What the prices say

    def connected(self) -> None:
        """Up: ask for what was missed first."""
        self._up.set()

    def disconnected(self, reason: str) -> None:
        """Down: the last price stands, and nothing is matched."""
        if self._caught_up:
            self._heard_until = self._venue.now
        self._caught_up = False
        log.warning("live_prices_down reason='%s'", reason)

    def traded(self, symbol: str, price: float, at: datetime) -> None:
        """Match what the price reached."""
        if self._caught_up:
            self._advance(at)
            self._settle(symbol, price, at)
            self._venue.trade(symbol, price, at)
            self.ticked(symbol, price)
            self._commit_soon()

    def topped(self, symbol: str, bid: Decimal, ask: Decimal, at: datetime) -> None:
        """What a market order would get."""
        if self._caught_up:
            self._venue.quote(symbol, bid, ask, at)

    def charted(self, candle: Candle, *, closed: bool) -> None:
        """A bar grows or closes; it is told after the fills that happened in it."""
        if not closed:
            self._open[candle.symbol] = candle
        elif self._caught_up and self._append(candle):
            self._closed.append(candle)
            self._commit_soon()

    def funded(self, symbol: str, rate: Decimal, due: datetime) -> None:
        """The next settlement."""
        self._settle(symbol, self._venue.last.get(symbol, 0.0), self._venue.now)
        self._due[symbol] = (rate, due)

    # What follows from it

    def _advance(self, at: datetime) -> None:
        self._clock.market_time = max(self._clock.market_time, at)
        self._venue.now = max(self._venue.now, at)

    def _settle(self, symbol: str, price: float, at: datetime) -> None:
        """Pay or receive funding once its moment has passed."""
        rate, due = self._due.get(symbol, (Decimal(0), at + MINUTE))
        if at >= due:
            del self._due[symbol]
            self._venue.settle(symbol, price, rate, due)
            self._commit_soon()

    def _append(self, candle: Candle) -> bool:
        """Keep a closed bar; False when it is known already."""
        series = self._series[candle.symbol]
        if len(series) and series.timestamp[-1] >= millis(candle.open_time):
            return False
        self._series[candle.symbol] = _longer(series, candle, self._bars * 2)
        self._open.pop(candle.symbol, None)
        return True

    def _commit_soon(self) -> None:
        """Keep and tell once for everything that came in one go."""
        if not self._committing:
            self._committing = True
            asyncio.get_running_loop().call_soon(self._commit)

    def _commit(self) -> None:
        self._committing = False
        self._venue.commit()
        closed, self._closed = self._closed, []
        for close_time in sorted({candle.close_time for candle in closed}):
            self._advance(close_time)
            candles = tuple(candle for candle in closed if candle.close_time == close_time)
            self.deliver(BarsClosed(close_time=close_time, candles=candles))

    async def _catch_up(self) -> None:
        """Walk what was traded while nobody listened, then let the stream go on."""
        while not self._caught_up:
            try:
                for symbol in self._symbols:
                    await self._walk_gap(symbol)
            except ConclaveError as error:
                log.warning("live_prices_not_asked reason='%s' next='asking again'", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._caught_up = True
            self._commit_soon()

    async def _walk_gap(self, symbol: str) -> None:
        """The minutes since the last price, then the bars that closed meanwhile.

        The minute in which the prices stopped is left out but for its close: its extremes may lie before that.
        """
        known = self._heard_until
        for minute in await self._prices.minutes(symbol, known - MINUTE) if known > EPOCH else ():
            if minute.close_time > known:
                whole = minute.open_time >= known
                for price in (minute.open, *_extremes(minute), minute.close) if whole else (minute.close,):
                    self._venue.trade(symbol, price, minute.close_time - timedelta(milliseconds=1))
        series = self._series[symbol]
        opening = series.candle(len(series) - 1).close_time if len(series) else known
        for candle in await self._prices.since(symbol, opening):
            if self._append(candle):
                self._closed.append(candle)


def _extremes(candle: Candle) -> tuple[float, float]:
    """High and low in the order in which a bar usually reaches them."""
    rising = candle.close >= candle.open
    return (candle.low, candle.high) if rising else (candle.high, candle.low)


def _longer(series: CandleSeries, candle: Candle, most: int) -> CandleSeries:
    """The series with one more bar, and at most so many."""
    kept = series.tail(min(len(series), most - 1))
    return CandleSeries(
        symbol=series.symbol,
        interval=series.interval,
        timestamp=np.append(kept.timestamp, millis(candle.open_time)),
        open=np.append(kept.open, candle.open),
        high=np.append(kept.high, candle.high),
        low=np.append(kept.low, candle.low),
        close=np.append(kept.close, candle.close),
        volume=np.append(kept.volume, candle.volume),
    )
