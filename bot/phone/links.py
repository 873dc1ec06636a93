"""Which addresses Telegram takes for links, and what it makes of them.

Follows td's `LinkManager::check_link` and `parse_url` (td/telegram/LinkManager.cpp, tdutils/td/utils/HttpUrl.cpp).
"""

from __future__ import annotations

import re
from typing import Final

_OWN_SCHEME: Final = re.compile(r"(tg|ton):(?://)?(.+)", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"[\w.\-!$,~*'();&+=%]*", re.ASCII)
_PORT: Final = re.compile(r"[1-9]\d{0,4}")


class BadLink(ValueError):
    """Not an address; the message gives Telegram's reason."""


def checked_link(link: str, *, https_only: bool = False) -> str:
    """The address in its full form ("e.org" becomes "http://e.org/"); raises BadLink."""
    try:
        return _checked(link, https_only)
    except BadLink as problem:
        raise BadLink(f"URL '{link}' is invalid: {problem}") from problem


def _checked(link: str, https_only: bool) -> str:
    own = _OWN_SCHEME.fullmatch(link.strip())
    if own is not None:
        if https_only:
            raise BadLink("Only HTTP links are allowed")
        return f"{own.group(1).lower()}://{own.group(2)}"
    scheme, rest = _scheme(link.strip())
    if https_only and scheme != "https":
        raise BadLink("Only HTTPS links are allowed")
    place = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host, port = _host(place.rpartition("@")[2])
    if "." not in host:
        raise BadLink("Wrong HTTP URL")
    return f"{scheme}://{host}{port}{_path(rest[len(place) :])}"


def _scheme(link: str) -> tuple[str, str]:
    """http unless the address says otherwise, and what follows it."""
    scheme, mark, rest = link.partition("://")
    if not mark or re.search(r"[/?#@:]", scheme):
        return "http", link
    if scheme.lower() not in ("http", "https"):
        raise BadLink("Unsupported URL protocol")
    return scheme.lower(), rest


def _host(place: str) -> tuple[str, str]:
    """Host in lower case, and ":port" when there is one."""
    host, mark, port = place.partition(":")
    if mark and not (_PORT.fullmatch(port) and int(port) < 65536):
        raise BadLink("Wrong port number specified in the URL")
    if not host:
        raise BadLink("URL host is empty")
    if not _HOST.fullmatch("".join(char for char in host if char.isascii())):
        raise BadLink("Disallowed character in URL host")
    return host.lower(), mark + port


def _path(rest: str) -> str:
    path = rest if rest.startswith("/") else f"/{rest}"
    return "".join(f"%{ord(char):02X}" if char <= " " else char for char in path)
