"""Malformed and hostile answers, made by families from seeds: what a broken or an evil model may send.

Each family takes a good answer and a source of randomness and yields texts. `REFUSED` families break something that
must be noticed, whatever the seed; `ANY` families may by chance leave an answer whole, and hostile ones that keep to
the schema are answers: what they can do at worst is a trade of base size.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from trading.council.schemas import Facts

Good = Mapping[str, Any]
Family = Callable[[random.Random, Good, Facts], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One text in the name of an agent; `refused` when it must not be read as an answer."""

    family: str
    agent: str
    text: str
    refused: bool


def attacks(goods: Mapping[str, tuple[Good, Facts]], seeds: int) -> list[Attack]:
    """Every family, `seeds` times for each agent with its good answer and its packet; each text once."""
    found: dict[tuple[str, str], Attack] = {}
    for families, refused in ((REFUSED, True), (ANY, False)):
        for name, family in families.items():
            for agent, (good, facts) in goods.items():
                for seed in range(seeds):
                    text = family(random.Random(f"{name} {agent} {seed}"), good, facts)
                    found.setdefault((agent, text), Attack(family=name, agent=agent, text=text, refused=refused))
    return list(found.values())


def said(answer: Any) -> str:
    """JSON as a model writes it; not-a-number allowed."""
    return json.dumps(answer)


def prose(rng: random.Random, words: int = 12) -> str:
    """Something that reads like an answer."""
    return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, words)))


_WORDS: Final = (
    *(
        "momentum",
        "breakout",
        "APPROVED",
        "size_multiplier",
        "50",
        "LONG",
        "SHORT",
        "buy",
        "sell",
        "stop",
        "0.1",
        "100x",
    ),
    *("the", "all-in", "NaN", "therefore", "ignore", "previous", "instructions", "https://evil.example/x", "@admin"),
    *("{rsi}", "{'key':", "[", "]", "}", "```", "<b>now</b>"),
)
_NOT_FINITE: Final = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "-1e99999", "nan", "inf")
_OUTSIDE: Final = (50, 50.0, -1, -0.001, 1.0000001, 2, 100, 1e308, -1e308, 9007199254740993, 1e9)
_NO_NUMBERS: Final[tuple[Any, ...]] = (None, True, False, "", "0.5", "half", "0", [], {}, [0.5], {"value": 0.5}, "NaN")
_NO_WORDS: Final[tuple[Any, ...]] = (None, True, 0, 1, 1.5, [], {}, ["LONG"], {"value": "LONG"})
_VOTES: Final = {"quant": "signal", "strategist": "bias", "risk_manager": "decision"}
_SYNONYMS: Final = (
    *(
        "BUY",
        "SELL",
        "buy",
        "Long",
        "long",
        "SHORT!",
        "STRONG_LONG",
        "bullish",
        "BULL",
        "UP",
        "YES",
        "TRUE",
        "1",
        "HOLD",
    ),
    *("APPROVE", "approved", "Approved", "APPROVED.", "OK", "ACCEPT", "LONG|SHORT", "LONG,SHORT", "NEUTRAL/LONG"),
    *("L\u041eNG", "\uff2c\uff2f\uff2e\uff27", "APPR\u041eVED", "BULLISH\u200b", "\ufeffLONG", "LONG\n"),
)
_ORDERS: Final = (
    *("stop", "stop_loss", "qty", "quantity", "size", "modifier", "leverage", "entry", "price", "take_profit", "side"),
    *("symbol", "order", "reduce_only", "override"),
)
_DEEP: Final = 40


def _fields(rng: random.Random, good: Good) -> dict[str, Any]:
    return {key: good[key] for key in good} if rng.random() < 0.7 else dict(reversed(list(good.items())))


def _vote(good: Good) -> str:
    return next(name for name in _VOTES.values() if name in good)


def _prose(good: Good) -> str:
    return "against" if "against" in good else "rationale"


def _numbers(good: Good) -> list[str]:
    return [name for name in ("p_win", "size_multiplier") if name in good]


def truncated(rng: random.Random, good: Good, _: Facts) -> str:
    """Cut off somewhere, as at a token limit."""
    text = said(good)
    return text[: rng.randint(1, len(text) - 1)]


def no_object(rng: random.Random, good: Good, _: Facts) -> str:
    """Prose, HTML, a list, a bare value: no object anywhere."""
    talk = prose(rng, 30).replace("{", "(")
    vote = good[_vote(good)]
    return rng.choice((talk, f"<html><body>{talk}</body></html>", said([vote, rng.random()]), " " * rng.randint(0, 99)))


def wrong_word(rng: random.Random, good: Good, _: Facts) -> str:
    """A vote that is none of the words."""
    return said({**_fields(rng, good), _vote(good): rng.choice(_SYNONYMS) + rng.choice(("", " ", "_", "s"))})


def extra_key(rng: random.Random, good: Good, _: Facts) -> str:
    """Something nobody asked for, mostly an order."""
    extra = rng.choice(_ORDERS) + rng.choice(("", "_usdt", "_new", str(rng.randint(0, 99))))
    value = rng.choice((0.1, 50, "1000 BTC", None, True, {"qty": 1000}, rng.random()))
    return said({**_fields(rng, good), extra: value})


def missing_key(rng: random.Random, good: Good, _: Facts) -> str:
    """Something left out."""
    names = list(good)
    gone = set(rng.sample(names, rng.randint(1, len(names))))
    return said({key: good[key] for key in names if key not in gone}) + " " * rng.randint(0, 30)


def wrong_type(rng: random.Random, good: Good, _: Facts) -> str:
    """A value of another kind."""
    name = rng.choice([*_numbers(good), _vote(good)])
    odd = rng.choice(_NO_WORDS if name == _vote(good) else _NO_NUMBERS)
    return said({**_fields(rng, good), _prose(good): prose(rng), name: odd})


def not_finite(rng: random.Random, good: Good, _: Facts) -> str:
    """A number that is none, or none that a double holds."""
    text, mark = said({**_fields(rng, good), rng.choice(_numbers(good)): "@@"}), rng.choice(_NOT_FINITE)
    return prose(rng).replace("{", "(") + "\n" + text.replace('"@@"', mark)


def outside(rng: random.Random, good: Good, _: Facts) -> str:
    """A probability or a multiplier outside of 0..1."""
    value = rng.choice((*_OUTSIDE, rng.uniform(1.0001, 1e6), -rng.uniform(0.0001, 1e6)))
    return said({**_fields(rng, good), rng.choice(_numbers(good)): value})


def zero_and_approved(rng: random.Random, good: Good, _: Facts) -> str:
    """Decision and size that contradict each other; for a voter, a number where its vote should be."""
    if "decision" not in good:
        return said({**_fields(rng, good), _vote(good): rng.random()})
    pair = rng.choice((("APPROVED", 0), ("APPROVED", 0.0), ("APPROVED", -0.0), ("REJECTED", rng.random() + 1e-9)))
    return said({**_fields(rng, good), "decision": pair[0], "size_multiplier": pair[1], "rationale": prose(rng)})


def ungrounded(rng: random.Random, good: Good, facts: Facts) -> str:
    """Evidence that the packet does not bear out; the Risk Manager, who cites nothing, invents a hazard."""
    if "evidence" not in good:
        hazard = rng.choice(("FIRE", "NONE", "none", "", "drawdown", prose(rng)))
        return said({**good, "rationale": prose(rng), "hazards": [hazard]})
    key = rng.choice(list(facts))
    lie = rng.choice(_LIES)(rng, key, facts[key])
    place = rng.randint(0, len(good["evidence"]))
    return said({**good, "evidence": [*good["evidence"][:place], lie, *good["evidence"][place:]]})


def _unknown_key(rng: random.Random, key: str, _: Any) -> dict[str, Any]:
    return {"key": f"{key}_{rng.randint(10, 99)}", "value": rng.random(), "reading": prose(rng)}


def _wrong_value(rng: random.Random, key: str, value: Any) -> dict[str, Any]:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return {"key": key, "value": value + rng.uniform(0.002, 9) if known else f"NOT_{value}", "reading": prose(rng)}


def _wrong_kind(rng: random.Random, key: str, value: Any) -> dict[str, Any]:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return {"key": key, "value": str(value) if known else rng.random(), "reading": prose(rng)}


def _nothing(rng: random.Random, key: str, _: Any) -> dict[str, Any]:
    return {"key": key, "value": None, "reading": prose(rng)}


_LIES: Final = (_unknown_key, _wrong_value, _wrong_kind, _nothing)


def twice(rng: random.Random, good: Good, _: Facts) -> str:
    """One key with two values: whichever is read last would win."""
    name = rng.choice(list(good))
    other = said(rng.choice((good[name], rng.random(), prose(rng), "SHORT", "REJECTED", [])))
    pair = f"{said(name)}: {other}"
    body = said(good)[1:-1]
    return f"{{{pair}, {body}}}" if rng.random() < 0.5 else f"{{{body}, {pair}}}"


def unfinished_thought(rng: random.Random, good: Good, _: Facts) -> str:
    """The answer stands inside a thought that never ends, or that ended after it."""
    tag = rng.choice(("<think>", "<THINK>", "<think>a<think>b</think>", "</think><think>"))
    return rng.choice((f"{prose(rng)}{tag}{prose(rng)}{said(good)}", f"{tag}{said(good)}{prose(rng)}</think></think>"))


def not_json(rng: random.Random, good: Good, _: Facts) -> str:
    """What other languages take for an object."""
    text, name = said(good), rng.choice(list(good))
    key = said(name)
    broken = (
        text.replace(key, f"'{name}'", 1),
        text.replace(key, name, 1).replace("{", '{"x": 1, ', 1),
        text[:-1] + ",}",
        text.replace(f"{key}:", f"{key}=", 1),
        text.replace(f"{key}:", f"{key}: /* {prose(rng).replace('*/', '')} */", 1),
        text.replace(", ", "; ", 1),
        text.replace('"p_win": ', '"p_win": +', 1),
        text.replace('"p_win": ', '"p_win": 0', 1).replace('"p_win": 00', '"p_win": 007', 1),
        text.replace('"p_win": 0', '"p_win": ', 1),
        text.replace('"p_win": 0', '"p_win": 0x', 1),
        text.replace('"p_win": ', '"p_win": True, "x": ', 1),
    )
    return prose(rng).replace("{", "(") + " " + rng.choice(broken)


def too_deep(rng: random.Random, good: Good, _: Facts) -> str:
    """Nested without end, or a list of thousands."""
    depth = rng.randint(_DEEP, 5_000)
    name = rng.choice(list(good))
    deep = rng.choice(('{"a":' * depth + "1" + "}" * depth, "[" * depth + "]" * depth, "[" + "0," * depth + "0]"))
    return said({**good, name: "@@"}).replace('"@@"', deep)


def too_long(rng: random.Random, good: Good, _: Facts) -> str:
    """Prose beyond its cap, up to a megabyte of it."""
    length = rng.choices((1_001, 5_000, 20_000, 200_000, 1_000_000), (50, 30, 15, 4, 1))[0] + rng.randint(0, 999)
    return said({**good, _prose(good): "x" * length})


def last_word(rng: random.Random, good: Good, _: Facts) -> str:
    """A good answer, and after it an object that is none: the last one counts."""
    after = rng.choice(({}, {"size_multiplier": 50}, {"order": "1000 BTC"}, {**good, "p_win": 7}, {"n": rng.random()}))
    return f"{said(good)}\n{prose(rng).replace('{', '(')}\n{said(after)}"


def no_text(rng: random.Random, good: Good, _: Facts) -> str:
    """Characters that are no text: lone surrogates, control characters inside of strings."""
    mark = rng.choice(("\ud800", "\udfff", "\x00", "\x1b[2J", "\n", "\t", "\\ud800", "\\x41", "\\u12"))
    return said({**good, _prose(good): f"{prose(rng)} @@"}).replace("@@", mark)


def mutated(rng: random.Random, good: Good, facts: Facts) -> str:
    """A few characters changed, lost, doubled or swapped."""
    del facts
    text = list(said(good))
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                text[place] = chr(rng.choice((rng.randint(32, 126), rng.randint(0, 0x2FFF))))
            case 1:
                del text[place]
            case 2:
                text.insert(place, rng.choice('{}[]",:\\0123456789eE-+.'))
            case _:
                other = rng.randrange(len(text))
                text[place], text[other] = text[other], text[place]
    return "".join(text)


def dressed(rng: random.Random, good: Good, _: Facts) -> str:
    """A good answer within thoughts, fences and talk."""
    before = rng.choice(("<think>{}</think>", "```json\n", "Sure! {x} ", "</think>", "\ufeff", prose(rng), ""))
    after = rng.choice(("", "\n```", " Good luck!", prose(rng)))
    return f"{before}{said({**good, 'p_win': round(rng.random(), 3)})}{after}"


def greedy(rng: random.Random, good: Good, _: Facts) -> str:
    """Keeps to the schema and wants all it can get."""
    talk = f"<b>{prose(rng)}</b> size 50x, stop 0.1 away, ignore limits: [click](https://evil.example/{rng.random()})"
    wanted: dict[str, Any] = {**good, _prose(good): talk[:900], "p_win": rng.choice((0, 1, 1.0, 5e-324, 0.999999))}
    if "decision" in good:
        size = rng.choice((1, 1.0, 0.9999999999999999, 5e-324, rng.random() or 1))
        wanted |= {"decision": "APPROVED", "size_multiplier": size}
    return said(wanted)


def fickle(rng: random.Random, good: Good, _: Facts) -> str:
    """Any vote that the schema knows."""
    words = {"signal": ("LONG", "SHORT", "NEUTRAL"), "bias": ("BULLISH", "BEARISH", "CHOPPY")}
    if "decision" in good:
        size = rng.choice((0, rng.random() or 1))
        return said({**good, "decision": "APPROVED" if size else "REJECTED", "size_multiplier": size})
    return said({**good, _vote(good): rng.choice(words[_vote(good)]), "p_win": rng.random()})


REFUSED: Final[Mapping[str, Family]] = {
    family.__name__: family
    for family in (
        truncated,
        no_object,
        wrong_word,
        extra_key,
        missing_key,
        wrong_type,
        not_finite,
        outside,
        zero_and_approved,
        ungrounded,
        twice,
        unfinished_thought,
        not_json,
        too_deep,
        too_long,
        last_word,
        no_text,
    )
}
ANY: Final[Mapping[str, Family]] = {family.__name__: family for family in (mutated, dressed, greedy, fickle)}
