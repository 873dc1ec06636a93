"""A request on either wire: who is asked, with which key, about which packet, and within how many tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trading.llm.rehearsal.script import tail_of

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One call. `agent` is empty when neither schema nor packet tells; `key` holds its last four characters.

    `properties` are the fields of the asked schema in its order; `limit` are the tokens an answer may have, None for as
    many as it takes.
    """

    provider: str
    model: str
    agent: str
    key: str
    facts: Json
    limit: int | None
    prompt: str
    properties: tuple[str, ...]


_MARKS: Final = (("decision", "risk_manager"), ("structure", "strategist"), ("bias", "strategist"), ("signal", "quant"))
_FACTS: Final = (("quant_status", "risk_manager"), ("candle_0_close_atr", "strategist"), ("rsi", "quant"))


def asked_of(provider: str, model: str, secret: str, body: Json) -> Asked:
    """The call in a body of either wire. `ValueError` when it is not of that wire."""
    wire = _chat if provider == "huggingface" else _contents
    users, everything = wire(body)
    schema, limit = _terms(provider, body)
    facts = packet_in("\n".join(users))
    properties = tuple(schema.get("properties", {})) if isinstance(schema.get("properties", {}), Mapping) else ()
    return Asked(
        provider=provider,
        model=model,
        agent=_agent(properties, facts),
        key=tail_of(secret),
        facts=facts,
        limit=limit,
        prompt="\n".join(everything),
        properties=properties,
    )


def _agent(properties: tuple[str, ...], facts: Json) -> str:
    named = (agent for mark, agent in _MARKS if mark in properties)
    known = (agent for mark, agent in _FACTS if mark in facts)
    return next(named, "") or next(known, "")


def _chat(body: Json) -> tuple[list[str], list[str]]:
    """The user's texts and all texts of chat completions."""
    messages = _objects(body.get("messages"), "messages")
    spoken = [(message.get("role"), _text(message.get("content"))) for message in messages]
    return [text for role, text in spoken if role == "user"], [text for _, text in spoken]


def _contents(body: Json) -> tuple[list[str], list[str]]:
    """The user's texts and all texts of generateContent."""
    contents = _objects(body.get("contents"), "contents")
    spoken = [(content.get("role", "user"), _text(content.get("parts"))) for content in contents]
    system = _either(body, "systemInstruction", "system_instruction")
    first = [_text(system.get("parts"))] if isinstance(system, Mapping) else []
    return [text for role, text in spoken if role == "user"], first + [text for _, text in spoken]


def _objects(value: object, name: str) -> list[Json]:
    if not isinstance(value, list) or not value or not all(isinstance(one, Mapping) for one in value):
        raise ValueError(f"{name} must be a list of objects with at least one")
    return value


def _text(content: object) -> str:
    """A message's text: a string, or a list of parts with text."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _either(source: Json, camel: str, snake: str) -> Any:
    return source.get(camel, source.get(snake))


def _terms(provider: str, body: Json) -> tuple[Json, int | None]:
    """The schema of the answer and its greatest length in tokens, as either wire writes them."""
    if provider == "huggingface":
        wanted = body.get("response_format")
        return _chat_schema(wanted if isinstance(wanted, Mapping) else {}), _whole(body.get("max_tokens"))
    found = _either(body, "generationConfig", "generation_config")
    config = found if isinstance(found, Mapping) else {}
    for camel, snake in (("responseJsonSchema", "response_json_schema"), ("responseSchema", "response_schema")):
        schema = _either(config, camel, snake)
        if isinstance(schema, Mapping):
            return schema, _whole(_either(config, "maxOutputTokens", "max_output_tokens"))
    return {}, _whole(_either(config, "maxOutputTokens", "max_output_tokens"))


def _chat_schema(wanted: Json) -> Json:
    """What the hub client sends (`value`), and what OpenAI's shape says (`json_schema.schema`)."""
    inside = wanted.get("value", wanted.get("json_schema", wanted.get("schema")))
    if isinstance(inside, Mapping) and isinstance(inside.get("schema"), Mapping):
        return inside["schema"]  # type: ignore[no-any-return]  # checked on the line above
    return inside if isinstance(inside, Mapping) else {}


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def packet_in(text: str) -> Json:
    """The last object of the text that names a side, else the last object; empty when there is none."""
    found = list(objects_in(text))
    packets = [one for one in found if "side" in one]
    return (packets or found or [{}])[-1]


def objects_in(text: str) -> Iterator[Json]:
    """Every outermost JSON object of a text, in order."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            yield value
        at = text.find("{", end)
