"""From a model's text to an answer: what is taken, what is refused, and how the refusal is worded."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from trading.council.reading import (
    ANSWERS,
    MAX_ANSWER_CHARS,
    MAX_CHARS,
    MAX_DEPTH,
    MAX_PROBLEM_CHARS,
    MAX_PROBLEMS,
    Read,
    read,
    schema_of,
)
from trading.council.schemas import Facts, QuantAnswer, RiskManagerAnswer

FACTS: Facts = {"adx": 31.2, "rsi": 61.0, "higher_timeframe_bias": "BULLISH", "support_atr": None, "trap": False}
CITED = [{"key": "adx", "value": 31.2, "reading": "a strong trend"}]
QUANT: dict[str, Any] = {"evidence": CITED, "against": "it is late", "signal": "LONG", "p_win": 0.4}
RISK: dict[str, Any] = {
    "conflicts": [],
    "hazards": ["DRAWDOWN"],
    "rationale": "half is enough",
    "decision": "APPROVED",
    "size_multiplier": 0.5,
    "p_win": 0.4,
}
GOOD = json.dumps(QUANT)
OTHER = json.dumps({**QUANT, "signal": "SHORT"})


def quant(text: str) -> Read:
    return read("quant", text, FACTS)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\ufeff \n{GOOD}\n",
        f"```json\n{GOOD}\n```",
        f"Here it is: {GOOD} I hope that helps.",
        f'With {{rsi: 61}} and a " in mind: {GOOD} (see {{above}})',
        f"{OTHER}\nNo, rather:\n{GOOD}",
        f"<think>hm</think>{GOOD}",
        f"<THINK>\nhm {OTHER}\n</Think>\n{GOOD}",
        f"<thinking>{OTHER}</thinking>{GOOD}",
        f"<think>a<think>b</think>{OTHER}</think>{GOOD}",
        f"<think>a</think>{OTHER}<think>b</think>{GOOD}",
        f"{GOOD}<think>was that right? {OTHER}",
        f"{GOOD}<think>was that right?</think>",
        f"{OTHER} it began before the text did</think>{GOOD}",
        f"<think></think><think></think>{GOOD}",
        json.dumps(QUANT, indent=2),
        f"[{GOOD}]",
    ],
)
def test_the_last_complete_object_outside_of_thoughts_is_the_answer(text: str) -> None:
    """Whatever stands around it."""
    assert quant(text) == Read(answer=QuantAnswer.model_validate_json(GOOD))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "there is no JSON object in the answer"),
        ("LONG, I am sure", "there is no JSON object in the answer"),
        ("{signal: LONG}", "there is no JSON object in the answer"),
        (f"<think>{GOOD}", "there is no JSON object in the answer"),
        (f"<think>a<think>b</think>{GOOD}", "there is no JSON object in the answer"),
        (f"{GOOD}</think>", "there is no JSON object in the answer"),
        (GOOD[:-1], "the JSON object is cut off: close it"),
        (f'{{"draft": {GOOD}, "final": ', "the JSON object is cut off: close it"),
        (GOOD * 100, "there are 100 JSON objects in the answer or more: answer with one"),
        (f"{GOOD} and {{}}", "evidence: is missing"),
        (GOOD.replace("0.4", "NaN"), "NaN is not a number: use a finite one"),
        (GOOD.replace("31.2", "-Infinity"), "-Infinity is not a number: use a finite one"),
        (GOOD.replace("0.4", "1e999"), "p_win: Input should be a finite number"),
        (GOOD.replace("0.4", "9" * 5_000), "a number in the JSON has too many digits"),
        (GOOD.replace('"p_win"', '"signal": "SHORT", "p_win"'), "the key 'signal' stands twice in one object"),
        (GOOD.replace('"key"', '"key": "rsi", "key"'), "the key 'key' stands twice in one object"),
        (GOOD.replace('"LONG"', "'LONG'"), "the JSON is malformed: Expecting value (character 110)"),
        (GOOD.replace("late", "la\nte"), "the JSON is malformed: Invalid control character at (character 95)"),
        (
            GOOD.replace("late", "\\ud800"),
            "the answer: Invalid JSON: unexpected end of hex escape at line 1 column 100",
        ),
        (GOOD.replace("late", "\ud800"), "the JSON holds characters that are no Unicode text"),
        (GOOD.replace("LONG", "BUY"), "signal: Input should be 'LONG', 'SHORT' or 'NEUTRAL'"),
        (GOOD.replace("31.2", "31.3"), "evidence 'adx' is 31.2 in the packet, not 31.3"),
        (GOOD.replace("adx", "atr"), "evidence 'atr' is not in the packet"),
        (GOOD.replace('"adx"', '"support_atr"'), "evidence 'support_atr' is None in the packet, not 31.2"),
        (GOOD.replace("0.4}", '0.4, "stop": 0.1}'), "stop: is not part of the schema, leave it out"),
        (
            GOOD.replace("31.2", "null"),
            "evidence.0.value: must be the packet's value: a finite number, true or false, or a word",
        ),
        ('{"a":' * (MAX_DEPTH + 1), f"the JSON is nested deeper than {MAX_DEPTH} levels"),
        (
            GOOD.replace("late", "x" * MAX_ANSWER_CHARS),
            "the JSON object has more than 10000 characters: stay under 5000",
        ),
        ("x" * (MAX_CHARS + 1), f"the answer has {MAX_CHARS + 1} characters: answer with one short JSON object"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(text: str, problem: str) -> None:
    """Nothing is coerced, defaulted or guessed."""
    found = quant(text)
    assert found.answer is None
    assert found.problems[0] == problem


def test_a_repair_prompt_is_told_everything_but_not_at_length() -> None:
    """All the fields that are wrong, at most eight of them, each short and printable."""
    found = read("risk_manager", json.dumps({**RISK, "size_multiplier": 50, "decision": "YES"}), FACTS)
    assert found.problems == (
        "decision: Input should be 'APPROVED' or 'REJECTED'",
        "size_multiplier: Input should be less than or equal to 1",
    )
    noise = {f"{row}\n\u2028\u202e\ud7fc{'k' * 300}": row for row in range(20)}
    problems = quant(json.dumps({**QUANT, **noise})).problems
    assert len(problems) == MAX_PROBLEMS
    assert all(len(problem) <= MAX_PROBLEM_CHARS and problem.isprintable() for problem in problems)


def test_size_and_decision_must_agree() -> None:
    """The Risk Manager cites nothing, so only the schema speaks."""
    assert read("risk_manager", json.dumps(RISK), {}).answer == RiskManagerAnswer.model_validate_json(json.dumps(RISK))
    found = read("risk_manager", json.dumps({**RISK, "decision": "REJECTED"}), {})
    assert found.problems == ("the answer: size_multiplier must be 0 when REJECTED and above 0 when APPROVED",)


GARBAGE = {
    "braces": "{",
    "openings": '{"',
    "quotes": '"',
    "escapes": '\\"',
    "escaped openings": '{"\\"',
    "spaced braces": "{ ",
    "thoughts": "<think>",
    "thoughts that end": "</think>",
    "half tags": "<",
    "objects": '{"a":1}',
    "lists": '{"a":[]},',
    "colons": '{"a":1,',
    "open lists": '{"a":[[[',
    "letters": "x",
    "blanks": " ",
    "surrogates": "\ud800",
}


@pytest.mark.parametrize("piece", GARBAGE.values(), ids=GARBAGE)
def test_a_megabyte_of_garbage_is_dealt_with_at_once(piece: str) -> None:
    """A megabyte, as much as is read at all, a string that never ends, garbage in an answer: the best of three."""
    filled = piece * (MAX_CHARS // len(piece))
    inside = GOOD.replace("late", piece * (MAX_ANSWER_CHARS // len(piece) - 200))
    texts = (
        piece * (1_000_000 // len(piece)),
        filled,
        f'{{"{filled[:-3]}'[:MAX_CHARS],
        inside,
        f"{filled[:-300]}{GOOD}",
    )
    for text in texts:
        rounds = []
        for _ in range(3):
            started = time.thread_time()
            quant(text)
            rounds.append(time.thread_time() - started)
        assert min(rounds) < 0.05


def test_a_list_of_thousands_is_no_more_work() -> None:
    """Validation does not multiply what is wrong."""
    for item in ("{}", "null", '{"key":"a","value":1,"reading":"b"}'):
        many = ",".join([item] * (MAX_ANSWER_CHARS // (len(item) + 2)))
        started = time.thread_time()
        assert quant(f'{{"evidence":[{many}]}}').answer is None
        assert time.thread_time() - started < 0.2


@pytest.mark.parametrize("agent", ANSWERS)
def test_the_schema_is_one_that_both_providers_take(agent: str) -> None:
    """No reference, no keyword beyond Gemini's list, objects closed, fields and `required` in the models' order."""
    schema = schema_of(agent)
    assert list(schema["properties"]) == schema["required"] == list(ANSWERS[agent].model_fields)
    known = {"type", "enum", "items", "minItems", "maxItems", "minimum", "maximum", "anyOf"}
    objects = known | {"properties", "additionalProperties", "required"}

    def check(node: dict[str, Any]) -> None:
        assert set(node) <= objects
        if node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert node["required"] == list(node["properties"])
        for inner in [*node.get("properties", {}).values(), *node.get("anyOf", []), *filter(None, [node.get("items")])]:
            check(inner)

    check(schema)
    assert len(json.dumps(schema, separators=(",", ":"))) < 800


def test_the_schema_says_what_a_vote_may_be() -> None:
    """The words and the bounds are enforced by the provider already where it can."""
    assert schema_of("quant")["properties"]["signal"] == {"enum": ["LONG", "SHORT", "NEUTRAL"], "type": "string"}
    assert schema_of("risk_manager")["properties"]["size_multiplier"] == {
        "maximum": 1.0,
        "minimum": 0.0,
        "type": "number",
    }
    evidence = schema_of("strategist")["properties"]["evidence"]
    assert (evidence["minItems"], evidence["maxItems"]) == (1, 5)
    assert list(evidence["items"]["properties"]) == ["key", "value", "reading"]
