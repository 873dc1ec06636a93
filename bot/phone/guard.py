"""Keeps other web pages from driving the phone: every page in a browser can reach loopback.

A foreign page can name the phone by a host name of its own (DNS rebinding: refused by `Host`), post to it
(refused by `Origin`) or fetch it as an image or script (refused by `Sec-Fetch-Site`). Programs send none of
the last two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from bot.phone.errors import FaceRefusal

_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})
_OWN_SITE: Final = frozenset({"same-origin", "none"})
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses with 403 what comes from elsewhere; turns a FaceRefusal into {"error": one clear line}."""
    problem = _problem(request)
    if problem is not None:
        body = {"ok": False, "error_code": 403, "description": f"Forbidden: {problem}", "error": problem}
        return web.json_response(body, status=403)
    try:
        response = await handler(request)
    except FaceRefusal as refusal:
        response = web.json_response({"error": refusal.message}, status=refusal.status)
    if not response.prepared:
        response.headers.update(_HEADERS)
    return response


def _problem(request: web.Request) -> str | None:
    if _hostname(f"//{request.host}") not in _LOOPBACK:
        return "the phone answers only to 127.0.0.1 and localhost"
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.host}":
        return "the phone takes no requests from other pages"
    if request.path != "/" and request.headers.get("Sec-Fetch-Site", "none") not in _OWN_SITE:
        return "the phone takes no requests from other pages"
    return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
