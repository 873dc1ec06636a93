"""A model server on loopback that answers both wires with whatever a test hands it, one reply after the other."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from multidict import CIMultiDictProxy

Reply = Callable[["ModelServer", web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    url: str
    headers: CIMultiDictProxy[str]
    body: Any

    @property
    def key(self) -> str:
        """The key it bore, by either wire."""
        return self.headers.get("x-goog-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")


class ModelServer:
    """Plays `script` from its start, then `after` for ever; `by_key` comes first. `codes` are a reply's own to use."""

    def __init__(self, url: str = "") -> None:
        self.asked: list[Asked] = []
        self.script: deque[Reply] = deque()
        self.by_key: dict[str, Reply] = {}
        self.after: Reply = status(500)
        self.codes: list[int] = []
        self.url = url
        self.closing = asyncio.Event()
        self.left = asyncio.Event()
        self._came = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request at all."""
        asked = Asked(str(request.url), request.headers, await request.json())
        self.asked.append(asked)
        async with self._came:
            self._came.notify_all()
        reply = self.by_key.get(asked.key) or (self.script.popleft() if self.script else self.after)
        return await reply(self, request)

    async def was_asked(self, times: int) -> None:
        """Returns once that many requests have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.asked) >= times)


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """A server that listens."""
    server = ModelServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.closing.set()
        await runner.cleanup()


def status(code: int, body: object = None, headers: Mapping[str, str] | None = None, kind: str = "") -> Reply:
    """A reply with this status: `body` as it is when it is text or bytes, else as JSON."""
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    shown = kind or ("application/json" if not isinstance(body, str | bytes) else "text/plain")

    async def reply(_server: ModelServer, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=raw, content_type=shown, headers=dict(headers or {}))

    return reply


async def hang(server: ModelServer, _request: web.Request) -> web.StreamResponse:
    """Accepts the request and says nothing."""
    try:
        await server.closing.wait()
    except asyncio.CancelledError:
        server.left.set()
        raise
    return web.Response()


def drip(code: int, headers: Mapping[str, str] | None = None) -> Reply:
    """A body that comes byte by byte, without end."""

    async def reply(server: ModelServer, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=code, headers=dict(headers or {}))
        await response.prepare(request)
        while not server.closing.is_set():
            try:
                await response.write(b" ")
            except ConnectionError:
                break
            await asyncio.sleep(0.01)
        return response

    return reply


async def reset(_server: ModelServer, request: web.Request) -> web.StreamResponse:
    """Closes the line instead of answering."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def half(_server: ModelServer, request: web.Request) -> web.StreamResponse:
    """Closes the line in the middle of a body."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    if request.transport is not None:
        request.transport.abort()
    return response


def chat(text: object, finish: str = "stop", usage: object = None) -> dict[str, Any]:
    """A chat completion that thought before it spoke."""
    message = {"role": "assistant", "content": text, "reasoning_content": "let me THINK"}
    return {
        "id": "1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "finish_reason": finish, "message": message}],
        "usage": usage or {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
    }


def generated(text: object, finish: str = "STOP", usage: object = None) -> dict[str, Any]:
    """What `generateContent` answers, with a thought among its parts."""
    parts = [{"text": "let me THINK", "thought": True}, {"text": text}]
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}],
        "usageMetadata": usage or {"promptTokenCount": 1000, "candidatesTokenCount": 150, "thoughtsTokenCount": 50},
        "modelVersion": "m",
    }
