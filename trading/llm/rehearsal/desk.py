"""From a request to the reply that the script asks for: everything but the line it is sent on."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trading.llm.rehearsal import gemini, huggingface
from trading.llm.rehearsal.asked import Asked, asked_of
from trading.llm.rehearsal.items import BODIES, CODES, Item
from trading.llm.rehearsal.replies import HttpReply, encoded, foreign
from trading.llm.rehearsal.said import Turn, said
from trading.llm.rehearsal.temperament import Temperament


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as it came. `number` counts calls, `at` is seconds since 1970, `secret` the whole key.

    `patience` is the caller's own deadline in seconds, where its library says so (`X-Server-Timeout`).
    """

    provider: str
    model: str
    secret: str
    key_in_url: bool
    body: bytes
    number: int
    at: float
    patience: float | None = None


def read(call: Call) -> Asked | HttpReply:
    """Who is asked what, or the refusal of a request that the provider would not have taken."""
    invalid = huggingface.invalid if call.provider == "huggingface" else gemini.invalid
    if call.key_in_url:
        return invalid("The key stands in the URL, where logs and proxies see it: send it in a header.")
    if not call.secret:
        return _nobody(call.provider)
    try:
        body = json.loads(call.body)
        if not isinstance(body, Mapping):
            raise ValueError("the body must be an object of JSON")
        if body.get("stream") is True:
            raise ValueError("this server does not stream: ask with stream set to false")
        if call.provider == "gemini" and (problem := gemini.refused(body, call.patience)):
            return invalid(problem)
        model = call.model or str(body.get("model") or "")
        if not model:
            raise ValueError("model is missing")
        return asked_of(call.provider, model, call.secret, body)
    except (ValueError, RecursionError) as error:
        return invalid(f"Invalid request: {error}")


def _nobody(provider: str) -> HttpReply:
    if provider == "huggingface":
        return HttpReply(status=401, body=encoded({"error": "Invalid username or password."}))
    text = "Method doesn't allow unregistered callers (callers without established identity)."
    return gemini.invalid(text, status=403, word="PERMISSION_DENIED")


def reply(call: Call, asked: Asked, item: Item, temperament: Temperament) -> HttpReply:
    """The reply to a call; an item of delivery carries a good answer."""
    refusal = huggingface.refusal if call.provider == "huggingface" else gemini.refusal
    if item.name in CODES:
        return refusal(item, asked.model, call.at)
    if item.name in BODIES:
        return foreign(item.name) or HttpReply(status=200, body=b"")
    turn = Turn(asked=asked, answer=temperament.answer(asked), item=item)
    spoken, ident = said(turn), _ident(temperament.seed, call.number)
    body: dict[str, Any]
    if call.provider == "huggingface":
        body = huggingface.completion(spoken, asked, ident=ident, created=int(call.at))
    else:
        body = gemini.content(spoken, asked, ident=ident)
    return HttpReply(status=200, body=encoded(body))


def _ident(seed: int, number: int) -> str:
    return f"{random.Random(f'{seed}:{number}').getrandbits(96):024x}"
