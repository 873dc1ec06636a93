"""Reads the parameters of a Bot API call, however they were sent: query, form, multipart or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from bot.phone.errors import Refusal, bad_request

MAX_REQUEST_BYTES: Final = 51 * 1024 * 1024
BIGGEST_ID: Final = 2**62
_TRUE: Final = frozenset({"true", "1", "yes", "on"})


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with the call."""

    name: str
    mime: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """One Bot API call: the bot's id (the token's number), its parameters and its files by field name."""

    bot_id: int
    params: Mapping[str, Any]
    uploads: Mapping[str, Upload] = field(default_factory=dict)

    def text(self, name: str) -> str:
        """The parameter as text, empty when it is missing."""
        value = self.params.get(name)
        if value is None:
            return ""
        return value if isinstance(value, str) else json.dumps(value)

    def integer(self, name: str, default: int = 0) -> int:
        """The parameter as a whole number; `default` when it is missing, as Telegram does when it is none."""
        try:
            number = int(self.text(name) or default)
        except ValueError:
            return default
        return number if abs(number) <= BIGGEST_ID else default

    def flag(self, name: str) -> bool:
        return self.text(name).lower() in _TRUE

    def lenient(self, name: str) -> Any:
        """The parameter's JSON, None when it is missing or no JSON."""
        try:
            return self.parsed(name, name)
        except Refusal:
            return None

    def parsed(self, name: str, what: str) -> Any:
        """The parameter's JSON, None when it is missing; `what` names it in the refusal."""
        value = self.params.get(name)
        if not isinstance(value, str):
            return value
        if not value:
            return None
        try:
            return json.loads(value)
        except ValueError as error:
            raise bad_request(f"Can't parse {what} JSON object") from error

    def required(self, name: str) -> str:
        """The parameter as text; refused when it is missing."""
        if not self.text(name):
            raise bad_request(f'Parameter "{name}" is required')
        return self.text(name)


async def read_call(request: web.Request, bot_id: int) -> Call:
    """Raises Refusal 413 for a body above Telegram's 50 MB and 400 for a body that is no JSON object."""
    params: dict[str, Any] = dict(request.query)
    uploads: dict[str, Upload] = {}
    try:
        if request.content_type == "application/json":
            params.update(await _json_body(request))
        elif request.method == "POST":
            for name, value in (await request.post()).items():
                if isinstance(value, web.FileField):
                    with value.file as file:
                        uploads[name] = Upload(value.filename or name, value.content_type, file.read())
                else:
                    params[name] = value if isinstance(value, str) else bytes(value).decode("utf-8", "replace")
    except web.HTTPRequestEntityTooLarge as error:
        raise Refusal(413, "Request Entity Too Large") from error
    return Call(bot_id, params, uploads)


async def _json_body(request: web.Request) -> dict[str, Any]:
    """Telegram's complaints are those of td's HttpReader."""
    raw = await request.read() or b"{}"
    try:
        body = json.loads(raw)
    except json.JSONDecodeError as error:
        named = error.msg.startswith(("Expecting property name", "Illegal trailing comma"))
        raise bad_request("expected parameter name" if named else "can't parse parameter value") from error
    except (ValueError, RecursionError) as error:
        raise bad_request("can't parse parameter value") from error
    if not isinstance(body, dict):
        raise bad_request("JSON object expected")
    return body
