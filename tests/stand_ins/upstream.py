"""A tiny exchange for the proxy's own tests: an envelope, a book of order ids, a WebSocket that echoes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Self

from aiohttp import WSMsgType, web

HOST = "127.0.0.1"


class Upstream:
    """An aiohttp server in a thread of its own; `creates` counts what reached it."""

    def __init__(self) -> None:
        self.creates: Counter[str] = Counter()
        self.heard: list[str] = []  # what came over sockets
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_get("/v5/market/time", self._time)
        app.router.add_post("/v5/order/create", self._create)
        app.router.add_get("/v5/market/kline", self._long)
        for path in ("/v5/private", "/v5/public/linear", "/paper/pace"):
            app.router.add_get(path, self._echo)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, HOST, 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._up.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _time(self, _: web.Request) -> web.Response:
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": {"timeSecond": "1"}})

    async def _create(self, request: web.Request) -> web.Response:
        link = str((await request.json())["orderLinkId"])
        self.creates[link] += 1
        if self.creates[link] > 1:
            return web.json_response({"retCode": 110072, "retMsg": "OrderLinkedID is duplicate", "result": {}})
        return web.json_response({"retCode": 0, "retMsg": "OK", "result": {"orderLinkId": link}})

    async def _long(self, request: web.Request) -> web.StreamResponse:
        """A chunked reply, piece by piece."""
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(20):
            await response.write(b'{"retCode":0,"part":%d}' % number * 500)
        await response.write_eof()
        return response

    async def _echo(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                self.heard.append(message.data)
                await ws.send_str(message.data)
        return ws


class RawUpstream:
    """A socket that keeps every byte it is sent, answers each message with the same bytes, and may close then."""

    def __init__(self, answer: bytes, whole: Callable[[bytes], bool], *, closes: bool = False) -> None:
        self.got = b""
        self._answer = answer
        self._whole = whole
        self._closes = closes
        self._server = socket.create_server((HOST, 0))
        self.port = int(self._server.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.create_connection((HOST, self.port)):  # wakes accept, for the last time
            pass
        self._thread.join(10)
        self._server.close()

    def _serve(self) -> None:
        line, _ = self._server.accept()
        with line, contextlib.suppress(ConnectionResetError):
            while data := line.recv(65536):
                self.got += data
                if self._whole(self.got):
                    line.sendall(self._answer)
                    if self._closes:
                        return
