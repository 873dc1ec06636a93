"""Waking whoever waits for a table to grow, without polling."""

from __future__ import annotations

import asyncio


class Signal:
    """A bell with a height. Take `waiter()`, look at the data, then await it: no ring is missed."""

    def __init__(self) -> None:
        self.level: int | None = None  # highest committed number, None until somebody has looked
        self._bell: asyncio.Event | None = None

    def waiter(self) -> asyncio.Event:
        """The event that the next `ring` sets."""
        if self._bell is None:
            self._bell = asyncio.Event()
        return self._bell

    def ring(self, level: int | None = None) -> None:
        """Wake everyone who waits; a `level` below the known one changes nothing but still wakes."""
        if level is not None:
            self.level = level if self.level is None else max(self.level, level)
        if self._bell is not None:
            self._bell.set()
            self._bell = None
