"""Starts and stops the phone inside a running event loop."""

from __future__ import annotations

import asyncio
import errno
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Self

from aiohttp import web

from bot.phone.api import BotApi
from bot.phone.errors import PhonePortInUse
from bot.phone.face import Face
from bot.phone.guard import guard
from bot.phone.limits import RateLimit
from bot.phone.page import Page
from bot.phone.params import MAX_REQUEST_BYTES
from bot.phone.rows import Chat
from bot.phone.store import Store
from bot.phone.switchboard import Switchboard

DEFAULT_TOKEN: Final = "7000000001:phone"  # noqa: S105  no secret: the phone accepts any well-formed token
_HOST: Final = "127.0.0.1"
_STOP_SECONDS: Final = 0.5


class Phone:
    """A Telegram Bot API server on loopback with a chat page; start and stop it as often as you like.

    `data_dir` None keeps everything in memory. The chats of the owner and of the `listed` users exist from
    the start; anybody else's opens when they write. `port` 0 takes a free one. `rate_limit` answers 429 at
    Telegram's pace. `clock` is wall-clock seconds and dates the messages. With a `token` any other is refused.
    """

    def __init__(
        self,
        data_dir: Path | None,
        *,
        owner_id: int = 1,
        listed: Sequence[int] = (),
        port: int = 0,
        rate_limit: bool = False,
        clock: Callable[[], float] = time.time,
        token: str | None = None,
    ) -> None:
        self._data_dir = data_dir
        self._owner_id = owner_id
        self._listed = tuple(listed)
        self._port = port
        self._rate_limit = rate_limit
        self._clock = clock
        self._token = token
        self._runner: web.AppRunner | None = None
        self._running = AsyncExitStack()

    @property
    def url(self) -> str:
        """Where the running phone is, such as "http://127.0.0.1:8081"; the page is there too."""
        if self._runner is None:
            raise RuntimeError("the phone is not running: await phone.start() first")
        port = self._runner.addresses[0][1]
        return f"http://{_HOST}:{port}"

    @property
    def base_url(self) -> str:
        """For python-telegram-bot's `base_url`."""
        return f"{self.url}/bot"

    @property
    def base_file_url(self) -> str:
        """For python-telegram-bot's `base_file_url`."""
        return f"{self.url}/file/bot"

    async def start(self) -> None:
        """Opens the store, then the port. Raises PhonePortInUse, PhoneStoreUnusable or another OSError."""
        if self._runner is not None:
            raise RuntimeError("the phone is already running")
        async with AsyncExitStack() as opening:
            store = Store(self._data_dir, first_update_id=int(self._clock()))
            opening.callback(store.close)
            self._open_chats(store)
            board = Switchboard(store, self._clock)
            runner = web.AppRunner(
                self._application(board),
                access_log=None,
                handler_cancellation=True,
                shutdown_timeout=_STOP_SECONDS,
            )
            opening.push_async_callback(runner.cleanup)
            await self._listen(runner)
            opening.callback(board.close)
            self._runner, self._running = runner, opening.pop_all()

    async def __aenter__(self) -> Self:
        """`async with Phone(...) as phone:` starts it and stops it."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Lets hanging polls go, closes port and store, within a second. Harmless when not running."""
        self._runner = None
        await self._running.aclose()

    async def _listen(self, runner: web.AppRunner) -> None:
        await runner.setup()
        try:
            await web.TCPSite(runner, _HOST, self._port).start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PhonePortInUse(self._port) from error
            raise

    def _open_chats(self, store: Store) -> None:
        with store.writing():
            for user_id in self._listed:
                store.open_chat(Chat(chat_id=user_id, first_name=f"User {user_id}", username=f"user_{user_id}"))
            store.open_chat(Chat(chat_id=self._owner_id, first_name="Owner", username="owner"))

    def _application(self, board: Switchboard) -> web.Application:
        now = asyncio.get_running_loop().time
        application = web.Application(middlewares=[guard], client_max_size=MAX_REQUEST_BYTES)
        limit = RateLimit(now) if self._rate_limit else None
        application.add_routes(BotApi(board, limit, self._token).routes())
        face = Face(board, self._owner_id)
        application.add_routes([*face.routes(), *Page(face).routes()])
        return application
