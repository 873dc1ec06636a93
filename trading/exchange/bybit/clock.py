"""Two clocks for one adapter: market time as it is heard, or the wall clock put right by the exchange's.

On the paper exchange a bar of four hours may take a millisecond, so market time is what its frames say. On the
real one it is the wall clock plus the measured offset. Both tell ages by the event loop's monotonic clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from trading.model import EPOCH
from trading.ports import Clock


class HearingClock(Clock, Protocol):
    """A clock that is told of market time."""

    def hear(self, at: datetime) -> None:
        """The market is at least this far; an earlier moment than the last one is no news."""
        ...


class HeardClock:
    """Market time is the latest that was heard, the epoch before the first. For the paper exchange.

    `haste` shortens every wait and every deadline by that factor; tests use it.
    """

    def __init__(self, *, haste: float = 1.0) -> None:
        self._now = EPOCH
        self._haste = haste

    def now(self) -> datetime:
        """The latest market time heard."""
        return self._now

    def hear(self, at: datetime) -> None:
        """Go forward to this moment; never back."""
        self._now = max(self._now, at)

    def monotonic(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time() * self._haste

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds / self._haste)


class WallClock:
    """Market time is this machine's time plus `offset()`, what the exchange's clock was ahead of it when measured."""

    def __init__(self, offset: Callable[[], timedelta]) -> None:
        self._offset = offset

    def now(self) -> datetime:
        """The exchange's time, as far as it is known."""
        return datetime.now(UTC) + self._offset()

    def hear(self, at: datetime) -> None:
        """No news: the offset is measured, not guessed from frames that were under way."""

    def monotonic(self) -> float:
        """Seconds of the event loop's clock."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
