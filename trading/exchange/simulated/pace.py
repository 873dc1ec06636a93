"""The trader's end of the paper exchange's pace control: it lets the next bar open, over the wire.

Not part of Bybit: a real exchange waits for nobody. The socket also tells the market's time and its end.
"""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import datetime
from typing import Any, Protocol

import aiohttp

from trading.model import EPOCH, millis, utc
from trading.ports import FeedEnded, Inbox

PATH = "/paper/pace"
RETRY_SECONDS = 0.5

log = logging.getLogger(__name__)


class Hearing(Protocol):
    """A clock that is told the time."""

    def hear(self, at: datetime) -> None:
        """It is at least this late."""
        ...


class WirePace:
    """Follows one paper exchange; the connection is made again for as long as it runs."""

    def __init__(self, ws_url: str, inbox: Inbox, clock: Hearing) -> None:
        self._url = ws_url + PATH
        self._inbox = inbox
        self._clock = clock
        self._released = EPOCH
        self._moved, self._unsaid = asyncio.Event(), asyncio.Event()
        self._met = asyncio.Event()
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Connect; returns once the exchange has told its time."""
        self._task = asyncio.create_task(self._run(), name="pace")
        await self._met.wait()

    async def stop(self) -> None:
        """Stop following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def release(self, close_time: datetime) -> None:
        """The close has been dealt with."""
        self._released = max(self._released, close_time)
        self._unsaid.set()
        self._moved.set()

    async def released(self, close_time: datetime) -> None:
        """Wait until it has been."""
        while self._released < close_time:
            self._moved.clear()
            await self._moved.wait()

    async def _run(self) -> None:
        while True:
            try:
                async with aiohttp.ClientSession() as session, session.ws_connect(self._url, heartbeat=10) as socket:
                    telling = asyncio.create_task(self._tell(socket), name="pace release")
                    try:
                        await self._listen(socket)
                    finally:
                        telling.cancel()
                        await asyncio.gather(telling, return_exceptions=True)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                log.debug("pace control is away: %s", error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._hear(json.loads(message.data))

    def _hear(self, told: dict[str, Any]) -> None:
        if "now" in told:
            self._clock.hear(utc(int(told["now"])))
            self._met.set()
        if told.get("ended") and not self._ended:
            self._ended = True
            self._inbox.put(FeedEnded())

    async def _tell(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Pass on every release; after a reconnect the last one again."""
        self._unsaid.set()
        while True:
            await self._unsaid.wait()
            self._unsaid.clear()
            await socket.send_str(json.dumps({"release": millis(self._released)}))
