"""How a reply reaches the caller: at once, late, a byte at a time, by half, or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

from aiohttp import web

from trading.llm.rehearsal.items import Item
from trading.llm.rehearsal.replies import HttpReply

_NO_LINGER: Final = struct.pack("ii", 1, 0)  # closing sends RST

Sending = Callable[[], None]


class Delivery:
    """One reply on its way. `sending` is called when its head leaves; `sent` counts the bytes of its body."""

    def __init__(self, request: web.Request, reply: HttpReply, closing: asyncio.Event, sending: Sending) -> None:
        self.sent = 0
        self._request, self._reply = request, reply
        self._closing, self._sending = closing, sending

    async def by(self, item: Item) -> web.StreamResponse:
        """Deliver as the item says; whatever is no matter of delivery goes at once."""
        if item.name in {"reset", "close"}:
            return self._gone(reset=item.name == "reset")
        if item.name == "hang":
            await self._pause(item.number("seconds"))
            return self._gone(reset=False)
        if item.name == "slow_drip":
            return await self._drip(item.number("seconds") or 0.0)
        if item.name == "cut":
            return await self._cut()
        if item.name == "late":
            await self._pause(item.number("seconds"))
        return await self._whole()

    async def _pause(self, seconds: float | None) -> None:
        """Until then, or until the server stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return

    async def _whole(self) -> web.StreamResponse:
        response = await self._head()
        await self._write(response, self._reply.body)
        await response.write_eof()
        return response

    async def _drip(self, seconds: float) -> web.StreamResponse:
        body, now = self._reply.body, asyncio.get_running_loop().time
        response = await self._head()
        began = now()
        for place in range(len(body)):
            await self._write(response, body[place : place + 1])
            await self._pause(max(0.0, began + seconds * (place + 1) / len(body) - now()))
        await response.write_eof()
        return response

    async def _cut(self) -> web.StreamResponse:
        response = await self._head()
        await self._write(response, self._reply.body[: len(self._reply.body) // 2])
        self._gone(reset=False)
        return response

    async def _head(self) -> web.StreamResponse:
        self._sending()
        response = web.StreamResponse(status=self._reply.status, headers=dict(self._reply.headers))
        response.headers["Content-Type"] = self._reply.content_type
        response.content_length = len(self._reply.body)
        await response.prepare(self._request)
        return response

    async def _write(self, response: web.StreamResponse, part: bytes) -> None:
        await response.write(part)
        self.sent += len(part)

    def _gone(self, *, reset: bool) -> web.StreamResponse:
        """Close the line under the caller's hands; what is returned goes nowhere."""
        transport = self._request.transport
        if transport is not None and reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            transport.abort()
        elif transport is not None:
            transport.close()
        return web.Response()
