"""The Bot API over HTTP: finds the method, gives its answer Telegram's envelope, serves files."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from bot.phone.errors import Refusal
from bot.phone.limits import RateLimit
from bot.phone.messaging import Messaging
from bot.phone.params import Call, read_call
from bot.phone.polling import Poller
from bot.phone.profile import Profile
from bot.phone.switchboard import Switchboard

_TOKEN: Final = re.compile(r"(\d{1,18}):[A-Za-z0-9_-]+")

Method = Callable[[Call], Any]


class BotApi:
    """Handlers for /bot<token>/<method> and /file/bot<token>/<path>.

    Without a `token` any well-formed one is good, because whoever reaches loopback may use the phone. Its number is
    the bot's id.
    """

    def __init__(self, board: Switchboard, limit: RateLimit | None, token: str | None) -> None:
        self._board = board
        self._store = board.store
        self._token = token
        self._poller = Poller(board)
        self._methods = _methods(Messaging(board, limit), Profile(board))

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/bot{token:[^/]*}/{method:[^/]*}", self.call),
            web.post("/bot{token:[^/]*}/{method:[^/]*}", self.call),
            web.get("/file/bot{token:[^/]*}/{path:.+}", self.file),
        ]

    async def call(self, request: web.Request) -> web.Response:
        """Every method, by GET or POST; its name's case does not matter."""
        try:
            result = await self._result(request)
        except Refusal as refusal:
            return _refused(refusal)
        return web.json_response({"ok": True, "result": result})

    async def file(self, request: web.Request) -> web.Response:
        """The bytes behind the file_path of getFile."""
        try:
            self._bot_id(request)
        except Refusal as refusal:
            return _refused(refusal)
        file = self._store.file_at(request.match_info["path"])
        if file is None:
            return _refused(Refusal(404, "Not Found"))
        return web.Response(body=self._store.content(file.file_id), content_type="application/octet-stream")

    async def _result(self, request: web.Request) -> Any:
        bot_id = self._board.bot_id = self._bot_id(request)
        name = request.match_info["method"].lower()
        method = self._methods.get(name)
        if method is None and name != "getupdates":
            raise Refusal(404, "Not Found: method not found")
        call = await read_call(request, bot_id)
        return method(call) if method is not None else await self._poller.get_updates(call)

    def _bot_id(self, request: web.Request) -> int:
        """What is no token at all is an unknown address; one that is wrong is unauthorized."""
        token = request.match_info["token"]
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise Refusal(404, "Not Found")
        if token.startswith("0"):
            raise Refusal(401, "Unauthorized: invalid token specified")
        if self._token not in (None, token):
            raise Refusal(401, "Unauthorized")
        return int(match.group(1))


def _methods(messaging: Messaging, profile: Profile) -> dict[str, Method]:
    """Public methods of both, by their Bot API name in lower case: send_message is sendmessage."""
    found: dict[str, Method] = {}
    for part in (messaging, profile):
        for name in vars(type(part)):
            if not name.startswith("_"):
                found[name.replace("_", "")] = getattr(part, name)
    return found


def _refused(refusal: Refusal) -> web.Response:
    body: dict[str, Any] = {"ok": False, "error_code": refusal.status, "description": refusal.description}
    if refusal.retry_after is not None:
        body["parameters"] = {"retry_after": refusal.retry_after}
    return web.json_response(body, status=refusal.status)
