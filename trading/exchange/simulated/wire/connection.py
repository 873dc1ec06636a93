"""One client's socket: what is to be sent waits in a queue, in order, each frame until its time has come.

Acks are held back on purpose: pybit stores what it subscribed to after it has sent it, and dies of an answer that
is there before. A client that does not read is dropped before its queue eats the memory.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable

from aiohttp import WSMsgType, web

MOST_WAITING = 50_000
IDLE_SECONDS = 600.0
MOST_BYTES = 1 << 20
CLOSING_SECONDS = 1.0
GOING_AWAY = 1001


class Connection:
    """A socket with its queue. `send` never blocks; a client that reads too slowly is cut off."""

    def __init__(self, *, idle_seconds: float = IDLE_SECONDS, most_waiting: int = MOST_WAITING) -> None:
        self._idle_seconds = idle_seconds
        self._most_waiting = most_waiting
        self.conn_id = str(uuid.uuid4())
        self._socket = web.WebSocketResponse(timeout=CLOSING_SECONDS, max_msg_size=MOST_BYTES, compress=False)
        self._queue: deque[tuple[float, str]] = deque()
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None

    def send(self, text: str, delay: float = 0.0) -> None:
        """Queue a frame, to leave after `delay` seconds and everything before it."""
        self._queue.append((self._loop.time() + delay if delay else 0.0, text))
        self._wake.set()
        if len(self._queue) > self._most_waiting and self._transport is not None:
            self._transport.abort()

    async def serve(
        self, request: web.BaseRequest, hear: Callable[[str], None], quiet: Callable[[], bool]
    ) -> web.WebSocketResponse:
        """Take the request over, hand on what the client says, and return when one side has closed.

        A socket from which nothing has come for a while is closed when it is `quiet`: nothing goes out either.
        """
        await self._socket.prepare(request)
        self._transport = request.transport
        writer = asyncio.create_task(self._write())
        try:
            await self._read(hear, quiet)
        finally:
            writer.cancel()
        return self._socket

    async def close(self) -> None:
        """Say goodbye; the client may come again."""
        await self._socket.close(code=GOING_AWAY)

    async def _read(self, hear: Callable[[str], None], quiet: Callable[[], bool]) -> None:
        while True:
            try:
                message = await self._socket.receive(timeout=self._idle_seconds)
            except TimeoutError:
                if quiet():
                    await self._socket.close()
                    return
                continue
            if message.type is WSMsgType.TEXT:
                hear(message.data)
            elif message.type is WSMsgType.BINARY:
                hear("")
            else:
                return

    async def _write(self) -> None:
        while True:
            while self._queue:
                due, text = self._queue[0]
                if due and (wait := due - self._loop.time()) > 0:
                    await asyncio.sleep(wait)
                self._queue.popleft()
                if not await self._sent(text):
                    return
            self._wake.clear()
            await self._wake.wait()

    async def _sent(self, text: str) -> bool:
        try:
            await self._socket.send_str(text)
        except ConnectionError:
            return False
        return True
