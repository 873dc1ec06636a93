"""Everything a call can be answered with: the vocabulary of a script.

An item is written `NAME`, `NAME(VALUE)` or `NAME(option=value, …)`, then `*N` or `*forever`: `429(30)*3`,
`late(2)`, `503*forever`. In JSON it may be an object too: `{"item": "429", "retry_after": 30, "times": 3}`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from trading.errors import BadInput

Value = float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of an item: a number, or one of `choices` (several may be joined by `+`)."""

    default: Value
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What an item does, and its options; the first one may be given without its name."""

    about: str
    options: Mapping[str, Option] = field(default_factory=dict)


def _seconds(default: float | None) -> Mapping[str, Option]:
    return {"seconds": Option(default=default)}


HINTS: Final = ("seconds", "date", "ratelimit", "ratelimit_old", "retry_info", "none")
_WAIT: Final = {"retry_after": Option(default=None), "form": Option(default="", choices=("", *HINTS))}
_LONG: Final = {"size": Option(default="short", choices=("short", "long"))}

WORDS: Final[Mapping[str, Kind]] = {
    "good": Kind(about="a well-formed, grounded answer reasoned from the packet"),
    "think": Kind(about="a <think> block with a draft in it before the answer"),
    "reasoning_content": Kind(about="the thinking in the provider's own field, the answer in the text"),
    "fence": Kind(about="the answer in a code fence"),
    "prose_around": Kind(about="sentences before and after the answer"),
    "two_objects": Kind(about="an example object first, the answer last"),
    "bom": Kind(about="a byte order mark before the answer"),
    "injection": Kind(about="prose of links, tags, markdown, RTL and orders; long: 10,000 characters", options=_LONG),
}
SPOILT: Final[Mapping[str, Kind]] = {
    "truncated": Kind(about="the answer cut in half, for length"),
    "max_tokens": Kind(
        about="all tokens went into thinking; whole: the answer is complete, yet the finish says length",
        options={"text": Option(default="nothing", choices=("nothing", "whole"))},
    ),
    "wrong_enum": Kind(about="a vote that is none: BUY, BULL, MAYBE"),
    "lower_enum": Kind(about="the vote in lower case"),
    "extra_keys": Kind(about="fields nobody asked for: side, leverage, stop"),
    "missing_key": Kind(about="the vote is left out"),
    "duplicate_keys": Kind(about="the vote twice, first the opposite"),
    "deep_nesting": Kind(about="brackets without end", options={"depth": Option(default=20_000)}),
    "nan": Kind(about="NaN where a number belongs"),
    "infinity": Kind(about="Infinity where a number belongs"),
    "strings_for_numbers": Kind(about='"0.25" where 0.25 belongs'),
    "ungrounded": Kind(
        about="evidence that the packet does not bear out, by its key or its value",
        options={"by": Option(default="key", choices=("key", "value"))},
    ),
    "size50": Kind(about="size_multiplier 50 (p_win 50 of an agent without it)"),
    "size0approved": Kind(about="APPROVED with a size of 0"),
    "rejected_with_size": Kind(about="REJECTED with a size of 1"),
    "negative": Kind(about="size_multiplier -1 (p_win -1 of an agent without it)"),
    "prose": Kind(about="a sentence and no object at all"),
    "empty": Kind(about="no text, and a normal finish"),
    "null_content": Kind(about="null where the text belongs"),
    "no_choices": Kind(about="no choice, no candidate"),
    "safety": Kind(about="the answer withheld by a content filter"),
    "blocked": Kind(about="the prompt blocked (Gemini: promptFeedback and no candidate)"),
    "big": Kind(
        about="a body of a million bytes, in the answer itself or in prose before it",
        options={"bytes": Option(default=1_000_000), "where": Option(default="answer", choices=("answer", "prose"))},
    ),
}
BODIES: Final[Mapping[str, Kind]] = {
    "html": Kind(about="200 with an HTML page"),
    "not_json": Kind(about="200 with a line of text that says it is JSON"),
    "empty_body": Kind(about="200 without a single byte"),
}
CODES: Final[Mapping[str, Kind]] = {
    "400": Kind(about="the request is refused as malformed"),
    "bad_model": Kind(about="400 of a model that no provider serves (Gemini: 404)"),
    "bad_key": Kind(about="a key that is none (Hugging Face: 401; Gemini: 400 with API_KEY_INVALID)"),
    "401": Kind(about="the key is not accepted"),
    "402": Kind(about="the credits are spent"),
    "403": Kind(about="the key may not do this"),
    "404": Kind(about="there is no such model"),
    "408": Kind(about="the provider waited too long for the request"),
    "413": Kind(about="the request is too large"),
    "422": Kind(about="the request failed validation"),
    "429": Kind(about="too many requests; wait `retry_after` seconds, said in `form`", options=_WAIT),
    "500": Kind(about="an error within the provider"),
    "502": Kind(about="a gateway's HTML page"),
    "503": Kind(about="overloaded", options=_WAIT),
    "504": Kind(about="the provider's own deadline passed"),
}
LINES: Final[Mapping[str, Kind]] = {
    "late": Kind(about="a good answer after so many seconds", options=_seconds(2.0)),
    "slow_drip": Kind(about="a good answer, a byte at a time over so many seconds", options=_seconds(30.0)),
    "hang": Kind(about="no answer, the line stays open (for ever, or so many seconds)", options=_seconds(None)),
    "reset": Kind(about="the connection reset (RST) without an answer"),
    "close": Kind(about="the connection closed (FIN) without an answer"),
    "cut": Kind(about="the connection closed in the middle of the body"),
}
KINDS: Final[Mapping[str, Kind]] = {**WORDS, **SPOILT, **BODIES, **CODES, **LINES}
"""Every item by its name, in the order of the documentation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One entry of a script: answered `times` times, None for ever."""

    name: str
    options: Mapping[str, Value] = field(default_factory=dict)
    times: int | None = 1

    def number(self, option: str) -> float | None:
        """A numeric option, its default where it was not given."""
        value = self._value(option)
        return None if value is None else float(value)

    def choice(self, option: str) -> str:
        """An option that is a word, its default where it was not given."""
        return str(self._value(option))

    def _value(self, option: str) -> Value:
        return self.options.get(option, KINDS[self.name].options[option].default)

    def __str__(self) -> str:
        """As it is written in a script."""
        inside = ", ".join(f"{name}={_plain(value)}" for name, value in self.options.items())
        times = "" if self.times == 1 else f"*{self.times or 'forever'}"
        return f"{self.name}({inside}){times}" if inside else f"{self.name}{times}"


GOOD: Final = Item(name="good")
_WRITTEN: Final = re.compile(
    r"(?P<name>\w+)\s*(?:\((?P<options>[^()]*)\))?\s*(?:\*\s*(?P<times>\d+|forever)|\s(?P<ever>forever))?"
)


def _plain(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def item_of(source: object) -> Item:
    """An item from its text, its code as a number, or an object of JSON. `BadInput` says what is wrong with it."""
    if isinstance(source, Item):
        return source
    if isinstance(source, Mapping):
        return _from_object({str(key): value for key, value in source.items()})
    if isinstance(source, bool) or not isinstance(source, str | int):
        raise BadInput(f"a script item is text such as 429(30)*3 or an object with an item, not {source!r}")
    return _from_text(str(source).strip())


def _from_text(text: str) -> Item:
    found = _WRITTEN.fullmatch(text)
    if found is None:
        raise BadInput(f"cannot read the script item {text!r}: write it like good, late(2) or 429(retry_after=30)*3")
    kind = kind_of(found["name"])
    parts = [part.strip() for part in (found["options"] or "").split(",") if part.strip()]
    given = dict(_named(found["name"], kind, part, place) for place, part in enumerate(parts))
    times = found["times"] or found["ever"] or "1"
    return _checked(found["name"], given, times)


def _named(name: str, kind: Kind, part: str, place: int) -> tuple[str, str]:
    option, equals, value = (piece.strip() for piece in part.partition("="))
    if equals:
        return option, value
    if place or not kind.options:
        raise BadInput(f"{name} takes {_options(kind)}, not {part!r}")
    return next(iter(kind.options)), part


def _options(kind: Kind) -> str:
    return ", ".join(f"{name}=…" for name in kind.options) or "no options"


def _from_object(source: Mapping[str, object]) -> Item:
    rest = dict(source)
    name, times = str(rest.pop("item", "")), rest.pop("times", 1)
    return _checked(name, {option: value for option, value in rest.items() if value is not None}, times)


def _checked(name: str, given: Mapping[str, object], times: object) -> Item:
    kind = kind_of(name)
    options = {option: _option(name, kind, option, value) for option, value in given.items()}
    if str(times) == "forever":
        return Item(name=name, options=options, times=None)
    if isinstance(times, bool) or not re.fullmatch(r"0*[1-9]\d{0,8}", str(times)):
        raise BadInput(f"{name} is repeated a whole number of times or forever, not {str(times)[:20]!r}")
    return Item(name=name, options=options, times=int(str(times)))


def _option(name: str, kind: Kind, option: str, value: object) -> Value:
    if option not in kind.options:
        raise BadInput(f"{name} takes {_options(kind)}, not {option!r}{near(option, kind.options)}")
    choices = kind.options[option].choices
    if not choices:
        return _number(name, option, value)
    if wrong := [word for word in str(value).split("+") if word not in choices]:
        raise BadInput(f"{option} of {name} is one of {', '.join(filter(None, choices))}, not {wrong[0]!r}")
    return str(value)


def _number(name: str, option: str, value: object) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1e7:
        raise BadInput(f"{option} of {name} is a number from 0 to ten million, not {value!r}")
    return number


def kind_of(name: str) -> Kind:
    """The kind of that name; `BadInput` names the nearest one when there is none."""
    if name not in KINDS:
        raise BadInput(f"there is no script item {name!r}{near(name, KINDS)}")
    return KINDS[name]


def near(word: str, words: Iterable[str]) -> str:
    """"The words `: did you mean …?` with the nearest of `words`, empty when none is near."""
    found = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f": did you mean {found[0]}?" if found else ""
