"""A stand-in for Bybit on loopback: replies are scripted by path, streams acknowledge and can be made to fail.

It checks nothing and keeps no books. Acknowledgements come 20 ms late, as over a network.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

ACK_SECONDS = 0.02


def envelope(result: Any = None, *, code: int = 0, text: str = "OK") -> dict[str, Any]:
    """What every answer is wrapped in."""
    return {"retCode": code, "retMsg": text, "result": {} if result is None else result, "retExtInfo": {}, "time": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted answer; `delay` in seconds before it."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    raw: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as it came in."""

    path: str
    params: dict[str, Any]
    headers: dict[str, str]
    at: float


def result(value: Any) -> Reply:
    """A success."""
    return Reply(body=envelope(value))


def failure(code: int, text: str = "no", **headers: str) -> Reply:
    """A business error."""
    return Reply(body=envelope(code=code, text=text), headers={k.replace("_", "-"): v for k, v in headers.items()})


class StandIn:
    """The server. `script[path]` is used up first, then `always[path]`; an unknown path is an empty success."""

    def __init__(self) -> None:
        self.script: dict[str, deque[Reply]] = defaultdict(deque)
        self.always: dict[str, Reply | Callable[[dict[str, Any]], Reply]] = {}
        self.seen: list[Seen] = []
        self.rows: list[list[str]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.subscribed: list[str] = []
        self.connects: list[float] = []
        self.accepts_key = True
        self.accepts_topics = True
        self.speaks = asyncio.Event()
        self.speaks.set()
        self.handshake_status = 101
        self.clock_ahead = 0.0
        self.port = 0
        self._runner: web.AppRunner | None = None

    @property
    def rest(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def asked(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path]

    async def up(self) -> None:
        """Listen; always on the same port."""
        app = web.Application()
        app.router.add_get("/v5/public/linear", self._stream)
        app.router.add_get("/v5/private", self._stream)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def down(self) -> None:
        """Gone: connections die, new ones are refused."""
        for socket in self.sockets:
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()
        self.sockets.clear()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        params = json.loads(body) if body else dict(request.query)
        self.seen.append(Seen(path=request.path, params=params, headers=dict(request.headers), at=time.monotonic()))
        reply = self._reply(request.path, params)
        if reply.delay:
            await asyncio.sleep(reply.delay)
        if reply.raw is not None:
            return web.Response(body=reply.raw, status=reply.status, headers=reply.headers)
        return web.json_response(reply.body, status=reply.status, headers=reply.headers)

    def _reply(self, path: str, params: dict[str, Any]) -> Reply:
        if self.script[path]:
            return self.script[path].popleft()
        if path == "/v5/market/time" and path not in self.always:
            nanos = time.time_ns() + int(self.clock_ahead * 1e9)
            return result({"timeSecond": str(nanos // 10**9), "timeNano": str(nanos)})
        known = self.always.get(path, result({}))
        return known(params) if callable(known) else known

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self.connects.append(time.monotonic())
        if self.handshake_status != 101:
            return web.Response(status=self.handshake_status, text="no")
        socket = web.WebSocketResponse()
        try:
            await socket.prepare(request)
        except ConnectionResetError:  # the client has gone already
            return web.Response()
        self.sockets.append(socket)
        try:
            while self.speaks.is_set():
                message = await socket.receive()
                if message.type is not WSMsgType.TEXT:
                    break
                if self.speaks.is_set():
                    with contextlib.suppress(ConnectionResetError):  # the client may have gone meanwhile
                        await self._respond(socket, json.loads(message.data))
            await self.speaks.wait()
        finally:
            if socket in self.sockets:
                self.sockets.remove(socket)
        return socket

    async def _respond(self, socket: web.WebSocketResponse, said: dict[str, Any]) -> None:
        await asyncio.sleep(ACK_SECONDS)
        if said["op"] == "ping":
            await socket.send_json({"op": "pong", "args": [str(time.time_ns() // 10**6)], "conn_id": "c"})
            return
        good = self.accepts_key if said["op"] == "auth" else self.accepts_topics
        if said["op"] == "subscribe" and good:
            self.subscribed += said["args"]
        complaint = "" if good else f"error:handler not found,topic:{said['args'][0]}"
        ack = {
            "success": good,
            "ret_msg": complaint,
            "op": said["op"],
            "conn_id": "c",
            "req_id": said.get("req_id", ""),
        }
        await socket.send_json(ack)

    async def tell(self, frame: Any) -> None:
        """Send one frame on every open stream."""
        text = frame if isinstance(frame, str) else json.dumps(frame)
        for socket in tuple(self.sockets):
            await socket.send_str(text)

    def reset(self) -> None:
        """Break every connection without a word."""
        for socket in tuple(self.sockets):
            if socket._req is not None and socket._req.transport is not None:
                socket._req.transport.abort()


@asynccontextmanager
async def standing_in() -> AsyncIterator[StandIn]:
    """A server for one test."""
    server = StandIn()
    await server.up()
    try:
        yield server
    finally:
        server.speaks.set()
        await server.down()


async def until(condition: Callable[[], Any], seconds: float = 5.0) -> float:
    """Wait for a condition; how long that took. The test fails when it does not come true in time."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began
