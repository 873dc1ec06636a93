"""How waiting requests learn that something happened: a bell for long polls, a feed for event streams."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_BACKLOG: Final = 256


class Bell:
    """Wakes everyone who waits; a ring with nobody waiting is forgotten, so look before you wait."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()
        self.closed = False

    def ring(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()

    def close(self) -> None:
        """Wakes everyone for the last time; later waits return at once."""
        self.closed = True
        self.ring()

    async def wait(self, seconds: float) -> None:
        """Returns at the next ring, after `seconds`, or at once when closed."""
        if self.closed or seconds <= 0:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=seconds)
        finally:
            self._waiting.discard(waiter)


Event = tuple[str, dict[str, Any]]


class Feed:
    """Hands each event to every subscriber; one that falls behind loses events, which are only nudges."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[Event | None]] = set()
        self._closed = False

    def subscribe(self) -> asyncio.Queue[Event | None]:
        """A queue of events that ends with None; give it back to `unsubscribe`."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_BACKLOG)
        self._queues.add(queue)
        if self._closed:
            queue.put_nowait(None)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Event | None]) -> None:
        self._queues.discard(queue)

    def publish(self, name: str, data: dict[str, Any]) -> None:
        for queue in self._queues:
            if not queue.full():
                queue.put_nowait((name, data))

    def close(self) -> None:
        """Ends every stream, a full one too."""
        self._closed = True
        for queue in self._queues:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)
