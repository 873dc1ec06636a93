"""A model's text becomes an answer, or a short list of what is wrong with it.

What a model marks as thinking is not its answer. Of the rest the last complete JSON object counts, and it must be
exactly what its schema says: no key twice, no NaN, nothing coerced, nothing defaulted. Then it is grounded: each
citation of the packet is in the packet. Pure, and bounded in size, depth and time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trading.council.schemas import (
    Answer,
    Evidence,
    Facts,
    QuantAnswer,
    RiskManagerAnswer,
    StrategistAnswer,
    grounding_errors,
)

ANSWERS: Final[Mapping[str, type[Answer]]] = {
    "quant": QuantAnswer,
    "strategist": StrategistAnswer,
    "risk_manager": RiskManagerAnswer,
}
"""What each agent answers."""

MAX_CHARS = 64_000  # thinking included
MAX_ANSWER_CHARS = 10_000  # a full answer stays under 5,000
MAX_OBJECTS = 100  # prose and drafts before the answer
MAX_DEPTH = 16
MAX_PROBLEMS = 8
MAX_PROBLEM_CHARS = 200

_THINK = re.compile(r"<(/?)think(?:ing)?>", re.IGNORECASE)
# Prose may use braces: an object begins with a key or is empty.
_OPENING = re.compile(r'\{\s*+["}]')
# A string that never ends is one token, too: what follows it would be searched again and again.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[{}\[\]]', re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_LEFT_OUT = frozenset({"title", "description", "$defs", "minLength", "maxLength"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An answer, or the `problems` that keep it from being one: sentences for a repair prompt, at most eight."""

    answer: Answer | None
    problems: tuple[str, ...] = ()


class _Unreadable(Exception):
    """Carries one problem out of the parser."""


def read(agent: str, text: str, facts: Facts) -> Read:
    """The answer of `agent` in `text`, grounded in the `facts` it was shown. Never raises for what a text holds."""
    try:
        found = _last_object(_spoken(text))
        answer = ANSWERS[agent].model_validate_json(found)
    except _Unreadable as no:
        return _refused([str(no)])
    except ValidationError as errors:
        return _refused(_validation_problems(errors))
    problems = grounding_errors(cited(answer), facts)
    return _refused(problems) if problems else Read(answer=answer)


def cited(answer: Answer) -> tuple[Evidence, ...]:
    """What an answer cites of its packet; the Risk Manager cites nothing."""
    return answer.evidence if isinstance(answer, QuantAnswer | StrategistAnswer) else ()


def _refused(problems: list[str]) -> Read:
    plain: dict[str, None] = {}
    for problem in problems:
        if len(plain) == MAX_PROBLEMS:
            break
        plain[_printable(problem[: 2 * MAX_PROBLEM_CHARS])[:MAX_PROBLEM_CHARS]] = None
    return Read(answer=None, problems=tuple(plain))


def _printable(text: str) -> str:
    """What the model wrote itself stands in it: no control or direction marks, nothing unassigned."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _spoken(text: str) -> str:
    """The text outside of `<think>…</think>`.

    Blocks may be nested; one that never closes hides all the rest. A closing tag without an opening one ends a
    thought that the prompt's template began, so everything before it goes.
    """
    if len(text) > MAX_CHARS:
        raise _Unreadable(f"the answer has {len(text)} characters: answer with one short JSON object")
    kept: list[str] = []
    depth, start = 0, 0
    for tag in _THINK.finditer(text):
        if depth == 0:
            kept.append(text[start : tag.start()])
        if not tag[1]:
            depth += 1
        elif depth == 0:
            kept.clear()
        else:
            depth -= 1
        start = tag.end()
    return "\n".join([*kept, text[start:]] if depth == 0 else kept)


def _last_object(text: str) -> str:
    """The last complete JSON object, checked for what the schema cannot see.

    An object is complete when it closes: one inside another that never closes is a fragment.
    """
    found, position = "", 0
    for _ in range(MAX_OBJECTS):
        opening = _OPENING.search(text, position)
        end = _end_of(text, opening.start()) if opening else None
        if opening is None or end is None:
            break
        found, position = text[opening.start() : end], end
    else:
        raise _Unreadable(f"there are {MAX_OBJECTS} JSON objects in the answer or more: answer with one")
    if not found:
        problem = "the JSON object is cut off: close it" if opening else "there is no JSON object in the answer"
        raise _Unreadable(problem)
    _check_syntax(found)
    return found


def _end_of(text: str, start: int) -> int | None:
    """Where the object that opens at `start` ends; None when it does not."""
    depth, longest = 0, start + MAX_ANSWER_CHARS
    for token in _TOKEN.finditer(text, start, longest):
        mark = token[0]
        if mark in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise _Unreadable(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        elif mark in "}]":
            depth -= 1
            if depth == 0:
                return token.end()
    if len(text) > longest:
        raise _Unreadable(f"the JSON object has more than {MAX_ANSWER_CHARS} characters: stay under 5000")
    return None


def _check_syntax(text: str) -> None:
    try:
        json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except json.JSONDecodeError as no:
        raise _Unreadable(f"the JSON is malformed: {no.msg} (character {no.pos})") from None
    except ValueError:  # an integer of more digits than Python reads
        raise _Unreadable("a number in the JSON has too many digits") from None
    if _SURROGATE.search(text):
        raise _Unreadable("the JSON holds characters that are no Unicode text")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, unless it says something twice."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _Unreadable(f"the key {twice!r} stands twice in one object")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise _Unreadable(f"{name} is not a number: use a finite one")


def _validation_problems(errors: ValidationError) -> list[str]:
    """One sentence for each field that is wrong."""
    found = errors.errors(include_url=False, include_context=False)
    # A list whose items are wrong is called too short as well, once they are left out.
    spoilt = {error["loc"][0] for error in found if len(error["loc"]) > 1}
    told = [error for error in found if error["type"] != "too_short" or error["loc"][0] not in spoilt]
    return list(dict.fromkeys(_sentence(error) for error in told))


def _sentence(error: ErrorDetails) -> str:
    where = [str(part) for part in error["loc"]]
    if where[:1] == ["evidence"] and where[2:3] == ["value"]:  # three branches, each with an error of its own
        return f"{'.'.join(where[:3])}: must be the packet's value: a finite number, true or false, or a word"
    name = ".".join(where) or "the answer"
    if error["type"] == "missing":
        return f"{name}: is missing"
    if error["type"] == "extra_forbidden":
        return f"{name[:80]}: is not part of the schema, leave it out"
    return f"{name}: {error['msg'].removeprefix('Value error, ').replace('Tuple', 'List')}"


def schema_of(agent: str) -> dict[str, Any]:
    """JSON schema of an agent's answer for structured output: no references, fields in the order of thought.

    It holds only keywords that both providers accept; the lengths of texts are not among them: the prompts say them in
    words and `read` checks them.
    """
    schema = ANSWERS[agent].model_json_schema()
    plain = _plain(schema, schema.get("$defs", {}))
    if not isinstance(plain, dict):
        raise TypeError(f"the schema of {agent} is no object")
    return plain


def _plain(node: Any, definitions: Mapping[str, Any]) -> Any:
    """A schema with its references put in place, without titles and docstrings."""
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _plain(definitions[node["$ref"].rpartition("/")[2]], definitions)
    return dict(_keywords(node, definitions))


def _keywords(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for word, value in node.items():
        if word == "properties":
            yield word, {name: _plain(field, definitions) for name, field in value.items()}
        elif word not in _LEFT_OUT:
            yield word, _plain(value, definitions)
