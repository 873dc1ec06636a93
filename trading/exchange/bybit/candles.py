"""Closed candles by REST: the last ones before now, or all since a moment.

Bybit's answers are newest first and include the candle that is still open. With a start alone a page goes forward
from it; with an end alone it goes back from it (facts: section 4.1). A candle is closed when a later one exists or
its end has passed on the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from trading.errors import Transient
from trading.exchange.bybit.clock import HearingClock
from trading.exchange.bybit.objects import Unreadable, candle_of_row, rows_of, series_of
from trading.exchange.bybit.rest import BybitRest
from trading.model import Candle, CandleSeries, millis

PAGE: Final = 1000
NAMES: Final = {timedelta(days=1): "D", timedelta(days=7): "W"}
MINUTE: Final = timedelta(minutes=1)


def interval_name(interval: timedelta) -> str:
    """Bybit's name of a bar length: minutes, D or W."""
    return NAMES.get(interval) or str(interval // MINUTE)


class Candles:
    """The candles of one bar length."""

    def __init__(self, rest: BybitRest, interval: timedelta, clock: HearingClock) -> None:
        self._rest = rest
        self._interval = interval
        self._name = interval_name(interval)
        self._clock = clock

    async def last(self, symbol: str, bars: int) -> CandleSeries:
        """Up to `bars` last closed candles, without a gap: where one is missing, only what came after it."""
        found: dict[datetime, Candle] = {}
        end: int | None = None
        while len(found) < bars:
            wanted = min(bars - len(found) + 1, PAGE)  # and the open one
            page = await self._page(symbol, limit=wanted, end=end)
            found.update((candle.open_time, candle) for candle in self._closed(page))
            if len(page) < wanted:
                break
            end = millis(page[0].open_time) - 1
        return series_of((found[at] for at in sorted(found)), symbol, self._interval).tail(bars)

    async def since(self, symbol: str, opening: datetime) -> list[Candle]:
        """Every closed candle that opened at `opening` or later, oldest first."""
        found: list[Candle] = []
        while True:
            page = await self._page(symbol, limit=PAGE, start=millis(opening))
            found += [candle for candle in self._closed(page) if candle.open_time >= opening]
            if len(page) < PAGE:
                return found
            opening = page[-1].close_time

    async def _page(self, symbol: str, **window: Any) -> list[Candle]:
        """One page, oldest first; the clock hears how far the market is."""
        result = await self._rest.read("get_kline", category="linear", symbol=symbol, interval=self._name, **window)
        try:
            page = [candle_of_row(row, symbol, self._interval) for row in reversed(rows_of(result))]
        except Unreadable as error:
            raise Transient(f"the exchange's candles of {symbol} cannot be read: {error}") from None
        if page:
            self._clock.hear(page[-1].open_time)
        return page

    def _closed(self, page: Sequence[Candle]) -> list[Candle]:
        now = max(self._clock.now(), page[-1].open_time) if page else self._clock.now()
        return [candle for candle in page if candle.close_time <= now]
