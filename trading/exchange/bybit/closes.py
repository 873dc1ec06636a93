"""Closes in their order: bars of one moment together, each moment once, none left out.

The stream brings confirmed candles, one symbol at a time; it may lose some, and brings nothing of the time when it
was down. What is complete and next in line is delivered at once. For everything else the exchange is asked: a
symbol that lags, a close that was skipped, the closes of an outage. Of several closes delivered together only the
newest is not `late`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from trading.errors import ConclaveError
from trading.model import Candle
from trading.ports import BarsClosed, Clock

_LOG = logging.getLogger(__name__)

GRACE_SECONDS: Final = 0.05  # for the other symbols' frames of the same close
OVERDUE_SECONDS: Final = 1.0  # for a confirmation, once the next candle has been seen
RETRY_SECONDS: Final = 1.0

Fetch = Callable[[str, datetime], Awaitable[Sequence[Candle]]]


class Closes:
    """Collects candles and delivers closes. It holds back while `held`: before the first question is answered."""

    def __init__(
        self,
        symbols: Sequence[str],
        interval: timedelta,
        *,
        deliver: Callable[[BarsClosed], None],
        fetch: Fetch,
        clock: Clock,
    ) -> None:
        self.delivered_up_to: datetime | None = None
        self._symbols = tuple(symbols)
        self._interval = interval
        self._deliver = deliver
        self._fetch = fetch
        self._clock = clock
        self._pending: dict[datetime, dict[str, Candle]] = {}
        self._begun: datetime | None = None  # the latest opening seen: every bar before it has closed
        self._held = True
        self._asking = asyncio.Lock()
        self._wake = asyncio.Event()

    def heard(self, candle: Candle) -> None:
        """A confirmed candle of the stream."""
        close = candle.close_time
        if candle.symbol not in self._symbols or self._is_old(close):
            return
        self._pending.setdefault(close, {})[candle.symbol] = candle
        if self._held or self._asking.locked():
            return
        if len(self._pending) == 1 and self._in_line(close) and self._whole(close):
            self._flush(close)
        else:
            self._wake.set()

    def begun(self, opening: datetime) -> None:
        """An open candle was seen; the one before it should have been confirmed."""
        if self.delivered_up_to is not None and opening > self.delivered_up_to and opening != self._begun:
            self._begun = opening
            self._wake.set()

    def hold(self) -> None:
        """The stream is down: nothing more is delivered before `catch_up`."""
        self._held = True

    async def catch_up(self) -> None:
        """Ask for everything after the last delivered close, deliver it, and let the stream go on."""
        async with self._asking:
            if self.delivered_up_to is not None:
                await self._ask(self.delivered_up_to, self._symbols)
            self._held = False
            if whole := [close for close in self._pending if self._whole(close)]:
                self._flush(max(whole))
            if self._pending:  # the newest lacks a symbol: it is under way, or asked for once more
                self._wake.set()

    async def run(self) -> None:
        """Deal with what is incomplete or out of line, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._settle()
            except ConclaveError as error:
                _LOG.warning("close_not_asked reason='%s' next='asking again'", error)
                await self._clock.sleep(RETRY_SECONDS)
                self._wake.set()

    async def _settle(self) -> None:
        """Wait a moment for what is under way, then ask for what is missing, once."""
        while not self._held and (target := self._target()) is not None:
            await self._clock.sleep(GRACE_SECONDS if target in self._pending else OVERDUE_SECONDS)
            async with self._asking:
                if self._no_longer_wanted(target):
                    continue
                if not self._line_is_whole(target):
                    base = self._base()
                    await self._ask(base, self._lacking(base, target))
                self._flush(target)

    async def _ask(self, after: datetime, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            for candle in await self._fetch(symbol, after):
                if not self._is_old(candle.close_time):
                    self._pending.setdefault(candle.close_time, {}).setdefault(symbol, candle)

    def _base(self) -> datetime:
        """The close after which everything counts: the last delivered one, or the one before the first heard."""
        if self.delivered_up_to is not None:
            return self.delivered_up_to
        return min(self._pending) - self._interval

    def _target(self) -> datetime | None:
        """The latest close that should have been delivered by now."""
        known = [*self._pending, *([self._begun] if self._begun else [])]
        due = max(known, default=None)
        return None if due is None or self._is_old(due) else due

    def _flush(self, target: datetime) -> None:
        """Deliver what is pending up to `target`, and never anything before it again."""
        newest = max(self._pending, default=target)
        for close in sorted(close for close in self._pending if close <= target):
            bars = self._pending.pop(close)
            candles = tuple(bars[symbol] for symbol in self._symbols if symbol in bars)
            self.delivered_up_to = close
            self._deliver(BarsClosed(close_time=close, candles=candles, late=close < newest))
        self.delivered_up_to = target

    def _is_old(self, close: datetime) -> bool:
        return self.delivered_up_to is not None and close <= self.delivered_up_to

    def _no_longer_wanted(self, close: datetime) -> bool:
        """Delivered while we waited, or left to `catch_up` because the stream went down."""
        return self._held or self._is_old(close)

    def _in_line(self, close: datetime) -> bool:
        return self.delivered_up_to is None or close == self.delivered_up_to + self._interval

    def _whole(self, close: datetime) -> bool:
        return len(self._pending.get(close, ())) == len(self._symbols)

    def _line_is_whole(self, target: datetime) -> bool:
        """Every close from the last delivered one to `target` is there, with every symbol."""
        if self.delivered_up_to is None:
            return all(self._whole(close) for close in self._pending)
        count = (target - self.delivered_up_to) // self._interval
        return count <= len(self._pending) and all(
            self._whole(self.delivered_up_to + self._interval * step) for step in range(1, count + 1)
        )

    def _lacking(self, base: datetime, target: datetime) -> list[str]:
        """The symbols that miss a close between the two."""
        count = (target - base) // self._interval
        return [
            symbol
            for symbol in self._symbols
            if sum(symbol in bars for close, bars in self._pending.items() if close <= target) < count
        ]
