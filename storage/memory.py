"""The journal in memory: the same contract, nothing on the disk, for replays and tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from storage.errors import ForgottenEvents
from storage.journal import state_text
from storage.signal import Signal
from trading.events import Event
from trading.ports import Recorded


class MemoryJournal:
    """`trading.ports.Journal` that keeps the last `keep` events (None: all) and tells its listeners."""

    def __init__(self, *, keep: int | None = 10_000) -> None:
        self._keep = keep
        self._events: list[Event] = []
        self._dropped = 0  # events let go of so far: `_events[0]` is number `_dropped + 1`
        self._listeners: list[Callable[[Event], None]] = []
        self._signal = Signal()
        self._snapshot: tuple[int, str] | None = None

    def listen(self, callback: Callable[[Event], None]) -> None:
        """Call `callback` for every event from now on, in order, before its `append` returns."""
        self._listeners.append(callback)

    async def append(self, events: Sequence[Event]) -> int:
        """Keep all of them in order; returns the last sequence number."""
        self._events.extend(events)
        if self._keep is not None and len(self._events) > 2 * self._keep + 1000:
            self._let_go(self._keep)
        for callback in self._listeners:
            for event in events:
                callback(event)
        self._signal.ring()
        return self._dropped + len(self._events)

    async def read(self, after: int, limit: int = 500) -> Sequence[Recorded]:
        """Events after `after`, oldest first, at most `limit`; `ForgottenEvents` below what is kept."""
        first = max(after, 0)
        forgotten = self._forgotten()
        if first < forgotten:
            raise ForgottenEvents(
                f"events {first + 1} to {forgotten} are gone: this journal keeps the last {self._keep}"
            )
        start = first - self._dropped
        part = self._events[start : start + limit]
        return [Recorded(seq=first + place, event=event) for place, event in enumerate(part, 1)]

    async def grown(self, after: int) -> None:
        """Returns when there is an event after `after`."""
        while self._dropped + len(self._events) <= after:
            await self._signal.waiter().wait()
        await asyncio.sleep(0)  # a reader that is always behind still lets others run

    async def save_snapshot(self, seq: int, state: Mapping[str, Any]) -> None:
        """Keep a copy of the state as of `seq` (JSON types only), replacing the one before."""
        self._snapshot = (seq, state_text(state))

    async def load_snapshot(self) -> tuple[int, Mapping[str, Any]] | None:
        """The last kept state and its sequence number; None when there is none."""
        return None if self._snapshot is None else (self._snapshot[0], json.loads(self._snapshot[1]))

    def _forgotten(self) -> int:
        """How many of the oldest events are outside of what is promised (memory is freed in larger steps)."""
        if self._keep is None:
            return 0
        return max(self._dropped + len(self._events) - self._keep, 0)

    def _let_go(self, keep: int) -> None:
        excess = len(self._events) - keep
        del self._events[:excess]
        self._dropped += excess
