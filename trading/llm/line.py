"""The HTTP line that both SDKs run on, and what becomes of their exceptions.

What went wrong is read from the HTTP response, not from what an SDK made of it: on bodies that are no JSON, or a JSON
of another shape, they raise whatever their parsing trips over. Imports httpx2: import this on first use only.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401  with the next one: what the first connection would stall the loop for
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import anyio._backends._asyncio  # noqa: F401
import httpx2

from trading.llm.hints import waiting_hint
from trading.llm.wire import Refused, Unanswered

MOST_TOKENS: Final = 1_000_000  # no model of today has a longer memory
LONGEST_BODY: Final = 2 * 1024 * 1024
"""Bytes; an honest answer is a hundredth of it."""
MESSAGE_CHARS: Final = 200

_TITLE: Final = re.compile(r"<title[^>]*>([^<]{1,200})", re.IGNORECASE)
_HTML: Final = re.compile(r"\s*<(?:!doctype|html|head|body|title)\b", re.IGNORECASE)
_KEY: Final = re.compile(r"[!-~]+")  # what may stand in a header
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_WORDS: Final = ("message", "error", "detail", "error_description", "errors")
_heard: ContextVar[list[httpx2.Response] | None] = ContextVar("heard", default=None)

T = TypeVar("T")


class Line(httpx2.AsyncClient):
    """One pool of connections, lent to an SDK for call after call: its `async with` does not close it, `aclose` does.

    A loopback address is never asked through a proxy. Redirects are not followed: they would carry the key elsewhere.
    """

    def __init__(self, base_url: str) -> None:
        super().__init__(
            trust_env=not is_loopback(base_url),
            timeout=None,  # each call brings its own
            headers={"accept-encoding": "identity"},  # so that the longest body is that in memory, too
            event_hooks={"response": [_hear]},
        )

    async def __aenter__(self) -> Self:
        """Nothing: it is open as long as it is not closed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing: a call ends, the line stays."""


class _Bounded(httpx2.AsyncByteStream):
    """A body that breaks off where it gets too long."""

    def __init__(self, body: httpx2.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        length = 0
        async for chunk in self._body:
            length += len(chunk)
            if length > LONGEST_BODY:
                raise httpx2.DecodingError(f"one longer than {LONGEST_BODY} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._body.aclose()


async def _hear(response: httpx2.Response) -> None:
    """Remember the response for the call that it belongs to, before its body is read.

    Nobody asked for a packed one: it would be unpacked whole, whatever it comes to.
    """
    heard = _heard.get()
    if heard is not None:
        heard.append(response)
    if response.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}:
        await response.aclose()
        raise httpx2.DecodingError("a packed body, which was not asked for")
    if isinstance(response.stream, httpx2.AsyncByteStream):
        response.stream = _Bounded(response.stream)


def is_loopback(url: str) -> bool:
    """True for an address on this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def mapping(value: object) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value: object) -> str:
    """The value if it is text, else none; half a surrogate pair, which JSON allows, can be stored nowhere."""
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else ""


def whole(value: object) -> int | None:
    """The value if it can be a count of tokens."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS else None


async def asked(call: Callable[[], Awaitable[T]], *, seconds: float, secret: str, bad_key: str = "") -> T:
    """What an SDK's call returns within `seconds`, else `Unanswered` or `Refused` and nothing else.

    `bad_key`: a word by which an error's body says that it is about the key, whatever its code says.
    """
    if not _KEY.fullmatch(secret):
        raise Refused("the key holds what no key holds: copy it anew", code=401)
    responses: list[httpx2.Response] = []
    token = _heard.set(responses)
    try:
        async with asyncio.timeout(seconds):
            return await call()
    except Exception as error:  # noqa: BLE001  an SDK raises anything; all of it becomes one of the two
        heard = _Heard(error, responses[-1] if responses else None, secret)
        failure = _failure(heard, seconds, bad_key)
    finally:
        _heard.reset(token)
    raise failure  # outside of the handler: what the SDK raised holds the request, and that the key


@dataclass(frozen=True)
class _Heard:
    """What the SDK raised, and the response that it raised it for."""

    error: Exception
    response: httpx2.Response | None
    secret: str = field(repr=False)

    @cached_property
    def text(self) -> str:
        """As much of the body as arrived, without the key, which some providers repeat."""
        try:
            return self.response.text.replace(self.secret, "…") if self.response is not None else ""
        except httpx2.ResponseNotRead:
            return ""

    @cached_property
    def body(self) -> Any:
        """The body's JSON value, None where it has none."""
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError):
            return None

    def reason(self) -> str:
        """The exception's own sentence."""
        return _shortened(str(self.error).replace(self.secret, "…")) or type(self.error).__name__

    def said(self) -> str:
        """The body in one line without the key, also where JSON spells it with escapes."""
        return _said(self.body, self.text).replace(self.secret, "…")


def _failure(heard: _Heard, seconds: float, bad_key: str) -> Refused | Unanswered:
    """Told by the status if there is one: an error's headers count also where its body never ends."""
    error, response = heard.error, heard.response
    if response is not None and not response.is_success:
        return _of_status(heard, response, bad_key)
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        unsent = isinstance(error, httpx2.ConnectTimeout)
        return Unanswered(f"no answer within {seconds:.1f} s", timeout=True, unsent=unsent)
    if response is not None and not isinstance(error, httpx2.TransportError):
        what = heard.reason() if isinstance(error, httpx2.DecodingError) else heard.said() or "an empty body"
        return Unanswered(f"{response.status_code}: no answer of a model, but {what}", code=response.status_code)
    if isinstance(error, OSError | httpx2.TransportError) and not isinstance(error, httpx2.UnsupportedProtocol):
        unsent = isinstance(error, httpx2.ConnectError | httpx2.ProxyError)
        return Unanswered(f"the line broke: {heard.reason()}", unsent=unsent)
    return Refused(f"the request could not be made: {heard.reason()}")


def _of_status(heard: _Heard, response: httpx2.Response, bad_key: str) -> Refused | Unanswered:
    code = response.status_code
    message = f"{code}: {heard.said() or response.reason_phrase or 'no reason given'}"
    if code in {408, 425, 429} or code >= 500:
        return Unanswered(message, code=code, hint=waiting_hint(response.headers, heard.body, datetime.now(UTC)))
    return Refused(message, code=401 if bad_key and bad_key in heard.text else code)


def _said(body: object, text: str) -> str:
    """An error's own sentence, from JSON, an HTML page's title, or plain text."""
    found = _sentence(body)
    if found:
        return _shortened(found)
    if _HTML.match(text):
        title = _TITLE.search(text)
        return _shortened(f"an HTML page, {title[1]}" if title else "an HTML page")
    return _shortened(text)


def _sentence(body: Any, depth: int = 4) -> str:
    """The first text under a name by which errors are told."""
    if isinstance(body, str) or depth == 0:
        return body if isinstance(body, str) else ""
    inner = body[:1] if isinstance(body, list) else []
    if isinstance(body, dict):
        inner = [body[word] for word in _WORDS if word in body]
    return next((found for each in inner if (found := _sentence(each, depth - 1))), "")


def _shortened(text: str) -> str:
    """One printable line."""
    line = " ".join(text[: 4 * MESSAGE_CHARS].split())
    plain = "".join(mark if mark.isprintable() else "?" for mark in line)
    return plain if len(plain) <= MESSAGE_CHARS else f"{plain[: MESSAGE_CHARS - 1]}…"
