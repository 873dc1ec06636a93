"""The server: one port on loopback, the two wires, and the script beside them.

    POST /v1/chat/completions                       Hugging Face's router
    POST /v1beta/models/{model}:generateContent     Gemini
    GET  /rehearsal/items                           what a script may say
    GET, POST /rehearsal/script                     what is left of the script; a new script in place of it
    GET  /rehearsal/log, /rehearsal/bodies          what was asked; the last request bodies
    POST /rehearsal/reset                           forget script and log
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final, Self

from aiohttp import web

from trading.errors import BadInput
from trading.llm.rehearsal import desk
from trading.llm.rehearsal.asked import Asked
from trading.llm.rehearsal.delivery import Delivery
from trading.llm.rehearsal.items import KINDS, Item
from trading.llm.rehearsal.log import Bodies, Log
from trading.llm.rehearsal.replies import HttpReply, encoded
from trading.llm.rehearsal.script import Script, tail_of
from trading.llm.rehearsal.temperament import Temperament

HOST: Final = "127.0.0.1"
MAX_REQUEST_BYTES: Final = 4_000_000
_STOP_SECONDS: Final = 0.5
_SERVED: Final = (
    "this rehearsal server answers POST /v1/chat/completions and POST /v1beta/models/{model}:generateContent; "
    "docs/rehearsal.md says what it does under /rehearsal"
)
_URL_KEYS: Final = ("key", "api_key", "access_token", "token")


class RehearsalServer:
    """A model server that needs no key and no model; start and stop it as often as you like.

    `port` 0 takes a free one. `script` is a `Script` or its JSON (a list for anybody, or a mapping of whom to items).
    `temperament` is what a good answer is: sound, contrarian, drunk or hostile. The same seed and the same requests
    give the same answers. `clock` is wall-clock seconds. `keep_bodies` is how many request bodies are remembered.
    Raises `BadInput` for a script or a temperament that is none.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        script: object = None,
        seed: int = 0,
        temperament: str = "sound",
        clock: Callable[[], float] = time.time,
        keep_bodies: int = 500,
    ) -> None:
        self._temperament = Temperament(temperament, seed)
        self.perform(script)
        self.log = Log(clock)
        self.bodies = Bodies(keep_bodies)
        self._clock, self._port = clock, port
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    # Life

    async def start(self) -> None:
        """Open the port; `OSError` when it is taken."""
        if self._runner is not None:
            raise RuntimeError("the rehearsal server is already running")
        self._closing = asyncio.Event()
        runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=_STOP_SECONDS
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Let go of whoever hangs and close the port, within a second. Harmless when not running."""
        runner, self._runner = self._runner, None
        self._closing.set()
        if runner is not None:
            await runner.cleanup()

    async def __aenter__(self) -> Self:
        """`async with RehearsalServer(…) as server:` starts it and stops it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where the running server is; for google-genai's `base_url` as it stands."""
        if self._runner is None:
            raise RuntimeError("the rehearsal server is not running: await server.start() first")
        return f"http://{HOST}:{self._runner.addresses[0][1]}"

    @property
    def chat_url(self) -> str:
        """For huggingface_hub's `base_url`."""
        return f"{self.url}/v1"

    def perform(self, script: object) -> None:
        """A new script in place of what is left of the old one; `BadInput` when it is none, and nothing changes."""
        wanted = Script.of(script)
        if wanted.temperament:
            self._temperament = Temperament(wanted.temperament, self._temperament.seed)
        self.script = wanted

    # Wires

    def _application(self) -> web.Application:
        application = web.Application(client_max_size=MAX_REQUEST_BYTES)
        application.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1beta/models/{model:.+}:generateContent", self._content),
                web.get("/rehearsal/items", self._items),
                web.get("/rehearsal/script", self._left),
                web.post("/rehearsal/script", self._perform),
                web.get("/rehearsal/log", self._entries),
                web.get("/rehearsal/bodies", self._bodies),
                web.post("/rehearsal/reset", self._reset),
                web.route("*", "/{path:.*}", self._nowhere),
            ]
        )
        return application

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
        return await self._answer(request, "huggingface", "", secret.strip() if scheme.lower() == "bearer" else "")

    async def _content(self, request: web.Request) -> web.StreamResponse:
        secret = request.headers.get("x-goog-api-key", "").strip()
        return await self._answer(request, "gemini", request.match_info["model"], secret)

    async def _answer(self, request: web.Request, provider: str, model: str, secret: str) -> web.StreamResponse:
        call = desk.Call(
            provider=provider,
            model=model,
            secret=secret,
            key_in_url=any(name in request.query for name in _URL_KEYS),
            body=await request.read(),
            number=self.log.count,
            at=self._clock(),
            patience=_seconds(request.headers.get("X-Server-Timeout", "")),
        )
        asked = desk.read(call)
        if isinstance(asked, HttpReply):
            return await self._deliver(request, call, None, Item(name="refused"), asked)
        self.bodies.keep(call.body, secret)
        taken = self.script.take(provider=provider, agent=asked.agent, key=asked.key)
        item = self._temperament.item(asked, taken)
        return await self._deliver(request, call, asked, item, desk.reply(call, asked, item, self._temperament))

    async def _deliver(
        self, request: web.Request, call: desk.Call, asked: Asked | None, item: Item, reply: HttpReply
    ) -> web.StreamResponse:
        key = tail_of(call.secret)
        number = self.log.opened(
            provider=call.provider,
            agent=asked.agent if asked else "",
            model=asked.model if asked else call.model,
            key=key,
            bucket=self.script.bucket(key),
            item=str(item),
            bytes_in=len(call.body),
        )
        sending = Delivery(
            request, reply, self._closing, lambda: self.log.answered(number, code=reply.status, hint=reply.hint)
        )
        try:
            return await sending.by(item)
        finally:
            self.log.closed(number, bytes_out=sending.sent)

    # Control

    async def _items(self, _request: web.Request) -> web.Response:
        return _json({name: kind.about for name, kind in KINDS.items()})

    async def _left(self, _request: web.Request) -> web.Response:
        return _json(self.script.left())

    async def _perform(self, request: web.Request) -> web.Response:
        try:
            self.perform(json.loads(await request.read()))
        except BadInput as error:
            return _json({"error": str(error)}, status=400)
        except (ValueError, RecursionError) as error:
            return _json({"error": f"the script is not JSON: {error}"}, status=400)
        return _json(self.script.left())

    async def _entries(self, _request: web.Request) -> web.Response:
        return _json(self.log.as_json())

    async def _bodies(self, _request: web.Request) -> web.Response:
        return _json(list(self.bodies))

    async def _nowhere(self, _request: web.Request) -> web.Response:
        return _json({"error": {"code": 404, "message": _SERVED, "status": "NOT_FOUND"}}, status=404)

    async def _reset(self, _request: web.Request) -> web.Response:
        self.script = Script()
        self.log.forget()
        self.bodies.forget()
        return _json({})


def _seconds(text: str) -> float | None:
    return float(text) if text.replace(".", "", 1).isdecimal() else None


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=encoded(value), status=status, content_type="application/json")
