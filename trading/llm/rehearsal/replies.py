"""One HTTP reply as bytes, and the forms in which providers ask to wait."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final

from trading.llm.rehearsal.items import KINDS, Item

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
PAGE: Final = (
    "<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n"
    "<body><center><h1>{title}</h1></center><hr><center>cloudfront</center></body></html>\n"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """What is sent; `hint` is how many seconds it asks to wait, None when it asks for nothing."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    hint: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long to wait, and how a reply says so; `seconds` None asks for nothing. Headers know whole seconds only."""

    seconds: float | None
    forms: frozenset[str]

    @classmethod
    def of(cls, item: Item, usual: str) -> Wait:
        """From the options of 429 or 503; `usual` is the form of the provider when none is given."""
        if "retry_after" not in KINDS[item.name].options or item.number("retry_after") is None:
            return cls(seconds=None, forms=frozenset())
        forms = frozenset((item.choice("form") or usual).split("+")) - {"none"}
        return cls(seconds=item.number("retry_after") if forms else None, forms=forms)

    @property
    def hint(self) -> float | None:
        """The seconds that a reader of the reply gets to know."""
        if self.seconds is None:
            return None
        return self.seconds if self.forms == {"retry_info"} else math.ceil(self.seconds)

    def headers(self, now: float) -> dict[str, str]:
        """The headers of the forms; `now` in seconds since 1970."""
        wait = math.ceil(self.seconds or 0.0)
        headers: dict[str, str] = {}
        if "date" in self.forms:
            until = formatdate(math.ceil(now) + wait, usegmt=True)
            headers |= {"Retry-After": until, "Date": formatdate(math.floor(now), usegmt=True)}
        elif "seconds" in self.forms:
            headers["Retry-After"] = str(wait)
        if "ratelimit" in self.forms:
            headers |= {"RateLimit": f'"default";r=0;t={wait}', "RateLimit-Policy": '"default";q=100;w=300'}
        if "ratelimit_old" in self.forms:
            headers["RateLimit"] = f"limit=100, remaining=0, reset={wait}"
        return headers


def encoded(value: Any) -> bytes:
    """JSON as a provider sends it."""
    return json.dumps(value, ensure_ascii=False).encode()


def page(status: int, title: str) -> HttpReply:
    """An HTML page, as a gateway sends it."""
    return HttpReply(status=status, body=PAGE.format(title=title).encode(), content_type=HTML)


def foreign(name: str) -> HttpReply | None:
    """200 with a body that is not the provider's; None for any other item."""
    if name == "html":
        return page(200, "Just a moment...")
    if name == "not_json":
        text = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
        return HttpReply(status=200, body=text)
    return HttpReply(status=200, body=b"") if name == "empty_body" else None
