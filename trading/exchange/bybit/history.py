"""Klines and funding settlements of the past, page by page, from the public REST interface.

Bybit answers with the newest first, and of a span that holds more than a page with its newest rows: a long span is
asked for from its end, each page up to just before the oldest row of the page before it (facts: section 4.1).

A download may take minutes, so it is more patient than a trader's questions: once the exchange has answered, it waits
out rate limits, overload and broken lines for a while. A ban of this IP address is not waited out: it takes ten
minutes, and looks like a region that is not served.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay

from trading.errors import BadInput, Rejected, Transient
from trading.exchange.bybit.candles import PAGE, interval_name
from trading.exchange.bybit.objects import Unreadable, candle_of_row, moment, number, objects_of, rows_of
from trading.exchange.bybit.outcomes import UNKNOWN_SYMBOL, Barred, Throttled
from trading.exchange.bybit.rest import BybitRest
from trading.model import Candle, millis

SETTLEMENTS: Final = 200  # the most that one answer holds
PATIENCE: Final = 45.0  # seconds from a first failure, with all repetitions
LONGEST_PAUSE: Final = 10.0
INTERVALS: Final = (1, 3, 5, 15, 30, 60, 120, 240, 360, 720, 1440)  # minutes; weeks and months have other grids


class BybitHistory:
    """What `research.fetch` downloads from. `close` when done."""

    intervals: Sequence[int] = INTERVALS

    def __init__(self, rest: BybitRest, name: str, *, patience: float = PATIENCE) -> None:
        self._rest = rest
        self.name = name  # of the address, for people
        self._patience = patience
        self._answered = False

    async def edge(self, symbol: str, interval: int) -> int:
        """When the bar in progress has opened, ms UTC: everything before it is closed, by the market's own clock.

        The newest bar is taken for the one in progress also when the exchange is a moment late with the next.
        `BadInput` when the exchange knows no such bars.
        """
        with _refusals_explained(symbol, interval):
            rows = rows_of(await self._kline(symbol, interval, limit=1))
        if not rows:
            raise BadInput(f"{self.name} has no candles of {symbol}: check the symbol")
        with _readable(f"candles of {symbol}"):
            return millis(_candle(rows[0], symbol, interval).open_time)

    async def candles(self, symbol: str, interval: int, first: int, last: int) -> list[Candle]:
        """The newest bars that open from `first` to `last` (ms UTC, both included), oldest first; empty: none do.

        An impossible bar among possible ones is left out: whoever asked finds it missing, and can name it.
        """
        end = last + interval * 60_000 - 1  # within the last bar: right whether the bound itself counts or not
        result = await self._kline(symbol, interval, limit=PAGE, start=first, end=end)
        with _readable(f"candles of {symbol}"):
            page = _possible(rows_of(result), symbol, interval)
        return [candle for candle in page if first <= millis(candle.open_time) <= last]

    async def funding(self, symbol: str, first: int, last: int) -> Mapping[int, Decimal]:
        """The newest settlements from `first` to `last` (ms UTC, both included); empty: there are none."""
        window = {"startTime": first, "endTime": last, "limit": SETTLEMENTS}
        result = await self._read("get_funding_rate_history", category="linear", symbol=symbol, **window)
        with _readable(f"funding of {symbol}"):
            rows = objects_of(result)
            rates = {millis(moment(row, "fundingRateTimestamp")): number(row, "fundingRate") for row in rows}
        return {at: rate for at, rate in rates.items() if first <= at <= last}

    def close(self) -> None:
        """Give up the connections."""
        self._rest.close()

    async def _kline(self, symbol: str, interval: int, **window: Any) -> dict[str, Any]:
        name = interval_name(timedelta(minutes=interval))
        return await self._read("get_kline", category="linear", symbol=symbol, interval=name, **window)

    async def _read(self, method: str, **params: Any) -> dict[str, Any]:
        """A first question that fails is told at once: the address may be wrong."""
        try:
            result: dict[str, Any] = await self._patiently()(self._rest.read, method, **params)
        except Transient as error:
            raise Transient(f"{self.name}: {error}") from error
        self._answered = True
        return result

    def _patiently(self) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(self._may_pass),
            stop=stop_before_delay(self._patience),
            wait=self._pause,
            reraise=True,
        )

    def _may_pass(self, error: BaseException) -> bool:
        return self._answered and isinstance(error, Transient) and not isinstance(error, Barred)

    def _pause(self, state: RetryCallState) -> float:
        """Growing, and until the exchange takes requests again if it said when."""
        backoff = min(2.0 ** (state.attempt_number - 1), LONGEST_PAUSE) * random.uniform(0.5, 1.0)
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Throttled) and error.reset_ms is not None:
            now = time.time() + self._rest.offset.total_seconds()
            return float(max(error.reset_ms / 1000 - now, 0.0) + backoff)
        return backoff


def _candle(row: object, symbol: str, interval: int) -> Candle:
    return candle_of_row(row, symbol, timedelta(minutes=interval))


def _possible(rows: Sequence[object], symbol: str, interval: int) -> list[Candle]:
    """Oldest first; `Unreadable` when not one of them is a bar."""
    page: list[Candle] = []
    flaw: Unreadable | None = None
    for row in reversed(rows):
        try:
            page.append(_candle(row, symbol, interval))
        except Unreadable as error:
            flaw = error
    if flaw is not None and not page:
        raise flaw
    return page


@contextmanager
def _refusals_explained(symbol: str, interval: int) -> Iterator[None]:
    """The one code for everything that is wrong with a request; its text says what."""
    try:
        yield
    except Rejected as refusal:
        if refusal.code != UNKNOWN_SYMBOL:
            raise
        what = f"{symbol} at {interval} minutes"
        raise BadInput(f"the exchange has no {what}: {refusal}; check the symbol and --interval") from refusal


@contextmanager
def _readable(what: str) -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        raise Transient(f"the exchange's {what} cannot be read: {error}") from None
