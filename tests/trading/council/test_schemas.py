"""An answer is exactly what the schema says, or it is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from trading.council.schemas import (
    Answer,
    Evidence,
    Fact,
    QuantAnswer,
    RiskManagerAnswer,
    StrategistAnswer,
    grounding_errors,
)

CITED = [{"key": "adx", "value": 31.2, "reading": "a strong trend"}]
QUANT: dict[str, Any] = {"evidence": CITED, "against": "it is late", "signal": "LONG", "p_win": 0.4}
STRATEGIST: dict[str, Any] = {
    "evidence": CITED,
    "structure": "HH_HL",
    "trap_suspected": False,
    "against": "resistance is near",
    "bias": "BULLISH",
    "p_win": 0.4,
}
RISK: dict[str, Any] = {
    "conflicts": [],
    "hazards": ["DRAWDOWN"],
    "rationale": "half is enough",
    "decision": "APPROVED",
    "size_multiplier": 0.5,
    "p_win": 0.4,
}
GOOD = ((QuantAnswer, QUANT), (StrategistAnswer, STRATEGIST), (RiskManagerAnswer, RISK))


@pytest.mark.parametrize(("schema", "answer"), GOOD)
def test_fields_stand_in_the_order_of_the_specification(schema: type[Answer], answer: dict[str, Any]) -> None:
    """A model must give its evidence and the case against before it votes."""
    assert list(schema.model_fields) == list(answer)
    assert list(schema.model_json_schema()["properties"]) == list(answer)
    assert json.loads(schema.model_validate_json(json.dumps(answer)).model_dump_json()) == answer


BAD: tuple[tuple[type[Answer], dict[str, Any], dict[str, Any]], ...] = (
    (QuantAnswer, QUANT, {"signal": "BUY"}),
    (QuantAnswer, QUANT, {"signal": "long"}),
    (QuantAnswer, QUANT, {"p_win": "0.4"}),
    (QuantAnswer, QUANT, {"p_win": 1.2}),
    (QuantAnswer, QUANT, {"p_win": float("nan")}),
    (QuantAnswer, QUANT, {"p_win": True}),
    (QuantAnswer, QUANT, {"evidence": []}),
    (QuantAnswer, QUANT, {"evidence": CITED * 6}),
    (QuantAnswer, QUANT, {"evidence": [{"key": "adx", "value": None, "reading": "unknown"}]}),
    (QuantAnswer, QUANT, {"evidence": [{"key": "adx", "value": float("inf"), "reading": "endless"}]}),
    (QuantAnswer, QUANT, {"against": ""}),
    (QuantAnswer, QUANT, {"stop": 0.1}),
    (StrategistAnswer, STRATEGIST, {"bias": "LONG"}),
    (StrategistAnswer, STRATEGIST, {"trap_suspected": "no"}),
    (StrategistAnswer, STRATEGIST, {"trap_suspected": 0}),
    (RiskManagerAnswer, RISK, {"size_multiplier": 50}),
    (RiskManagerAnswer, RISK, {"size_multiplier": -0.1}),
    (RiskManagerAnswer, RISK, {"size_multiplier": 0}),
    (RiskManagerAnswer, RISK, {"decision": "REJECTED"}),
    (RiskManagerAnswer, RISK, {"hazards": ["FIRE"]}),
    (RiskManagerAnswer, RISK, {"stop": 99.9}),
)


@pytest.mark.parametrize(("schema", "answer", "change"), BAD)
def test_nothing_is_coerced_and_nothing_is_defaulted(
    schema: type[Answer], answer: dict[str, Any], change: dict[str, Any]
) -> None:
    """Whatever is off makes the whole answer invalid."""
    with pytest.raises(ValidationError):
        schema.model_validate_json(json.dumps(answer | change))


@pytest.mark.parametrize(("schema", "answer"), GOOD)
def test_a_missing_field_is_an_error(schema: type[Answer], answer: dict[str, Any]) -> None:
    """There are no defaults to fall back on."""
    for name in answer:
        with pytest.raises(ValidationError):
            schema.model_validate_json(json.dumps({key: value for key, value in answer.items() if key != name}))


def test_a_rejection_has_size_zero_and_nothing_else_has() -> None:
    """The two fields say the same thing."""
    rejected = RISK | {"decision": "REJECTED", "size_multiplier": 0}
    assert RiskManagerAnswer.model_validate_json(json.dumps(rejected)).size_multiplier == 0.0


FACTS: dict[str, Fact] = {"adx": 31.2, "bias": "BULLISH", "waterfall": False, "support_atr": None, "swings": 3}


@pytest.mark.parametrize(
    ("key", "value", "grounded"),
    [
        ("adx", 31.2, True),
        ("adx", 31.2009, True),
        ("adx", 31.202, False),
        ("adx", "31.2", False),
        ("rsi", 50.0, False),
        ("bias", "BULLISH", True),
        ("bias", "BEARISH", False),
        ("waterfall", False, True),
        ("waterfall", 0.0, False),
        ("support_atr", 0.0, False),
        ("swings", 3.0, True),
    ],
)
def test_evidence_must_stand_in_the_packet(key: str, value: float | bool | str, grounded: bool) -> None:
    """Key and value, numbers to a thousandth; a flag is no number and an unknown fact proves nothing."""
    item = Evidence(key=key, value=value, reading="so it is said")
    assert (grounding_errors((item,), FACTS) == []) is grounded
