"""The chat page at `/` and its parts. It comes with its first messages: whole as soon as it is loaded."""

from __future__ import annotations

import json
from importlib import resources
from typing import Final

from aiohttp import web

from bot.phone.errors import FaceRefusal
from bot.phone.face import Face

_FIRST_MESSAGES: Final = 200
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_PARTS: Final = frozenset(
    {
        "api.js", "chat.css", "commands.js", "composer.js", "dom.js", "icon.svg", "lightbox.js", "main.js", "menu.js",
        "message.js", "model.js", "notices.js", "overlays.css", "reading.js", "theme.css", "thread.js", "timeline.js",
    }
)  # fmt: skip
_THEMES: Final = frozenset({"light", "dark"})


class Page:
    """Handlers for / and /page/NAME."""

    def __init__(self, face: Face) -> None:
        self._face = face

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/", self.index), web.get("/page/{name}", self.part)]

    async def index(self, request: web.Request) -> web.Response:
        """`?user_id=U` shows and acts as another user than the owner, `?theme=light|dark` overrides the system's."""
        start = {
            "about": self._face.described(request),
            "history": self._face.newest(request, _FIRST_MESSAGES),
        }
        safe = json.dumps(start).replace("<", "\\u003c")
        theme = request.query.get("theme", "")
        return _asset("index.html", "text/html", THEME=theme if theme in _THEMES else "", START=safe)

    async def part(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in _PARTS:
            raise FaceRefusal("no such page", 404)
        return _asset(name, _KINDS[name.rpartition(".")[2]])


def _asset(name: str, mime: str, **filled: str) -> web.Response:
    text = resources.files("bot.phone").joinpath("page", name).read_text("utf-8")
    for placeholder, value in filled.items():
        text = text.replace(f"%{placeholder}%", value)
    return web.Response(text=text, content_type=mime, headers={"Cache-Control": "no-cache"})
