"""What an agent may answer, and nothing more.

Field order is the order in which a model has to think: evidence first, then the argument against itself, then
the vote. Nothing is coerced ("BUY" is not LONG) and nothing is defaulted; NaN and infinity are refused. Parse
text with `model_validate_json`, which is as strict as the fields say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Fact = str | bool | int | float | None
Facts = dict[str, Fact]

TOLERANCE = 1e-3  # how far a cited value may be from the packet's


class Status(StrEnum):
    """How asking an agent ended; only OK carries an answer."""

    OK = "OK"
    ABSTAIN = "ABSTAIN"
    INVALID = "INVALID"
    TIMEOUT = "TIMEOUT"
    QUOTA = "QUOTA"
    ERROR = "ERROR"
    SKIPPED_BUDGET = "SKIPPED_BUDGET"


class Vote(StrEnum):
    """The Quant's signal."""

    LONG = "LONG"
    SHORT = "SHORT"
    NEUTRAL = "NEUTRAL"


class Structure(StrEnum):
    """How the swings are ordered."""

    HH_HL = "HH_HL"
    LH_LL = "LH_LL"
    RANGE = "RANGE"
    UNCLEAR = "UNCLEAR"


class Bias(StrEnum):
    """The Strategist's reading of the chart, and the higher timeframe's."""

    BULLISH = "BULLISH"
    BEARISH = "BEARISH"
    CHOPPY = "CHOPPY"


class Hazard(StrEnum):
    """What the Risk Manager may warn of."""

    WATERFALL = "WATERFALL"
    PARABOLIC = "PARABOLIC"
    THIN_LIQUIDITY = "THIN_LIQUIDITY"
    DRAWDOWN = "DRAWDOWN"
    STALE_DATA = "STALE_DATA"
    OTHER = "OTHER"


class Decision(StrEnum):
    """The Risk Manager's word."""

    APPROVED = "APPROVED"
    REJECTED = "REJECTED"


Probability = Annotated[float, Field(ge=0.0, le=1.0)]
# Three answers together stay under 5 kB whatever they say.
Sentence = Annotated[str, StringConstraints(min_length=1, max_length=160)]
Prose = Annotated[str, StringConstraints(min_length=1, max_length=400)]
Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Answer(BaseModel):
    """Base of every answer: strict, frozen, finite, no field beyond the declared ones."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Evidence(Answer):
    """One fact of the packet, cited by its key with its value, and what it says."""

    key: Key
    value: float | bool | Annotated[str, StringConstraints(max_length=64)]
    reading: Sentence


Cited = Annotated[tuple[Evidence, ...], Field(min_length=1, max_length=5)]


class QuantAnswer(Answer):
    """The Quant: what the indicators say of the proposal."""

    evidence: Cited
    against: Prose
    signal: Vote
    p_win: Probability


class StrategistAnswer(Answer):
    """The Strategist: what the chart says of the proposal."""

    evidence: Cited
    structure: Structure
    trap_suspected: bool
    against: Prose
    bias: Bias
    p_win: Probability


class RiskManagerAnswer(Answer):
    """The Risk Manager: take it or not, and how much of the base size. Zero exactly when rejected."""

    conflicts: Annotated[tuple[Sentence, ...], Field(max_length=5)]
    hazards: Annotated[tuple[Hazard, ...], Field(max_length=6)]
    rationale: Prose
    decision: Decision
    size_multiplier: Probability
    p_win: Probability

    @model_validator(mode="after")
    def _zero_exactly_when_rejected(self) -> Self:
        if (self.decision is Decision.REJECTED) != (self.size_multiplier == 0.0):
            raise ValueError("size_multiplier must be 0 when REJECTED and above 0 when APPROVED")
        return self


A = TypeVar("A", QuantAnswer, StrategistAnswer, RiskManagerAnswer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply(Generic[A]):
    """What came of asking one agent: an answer exactly when the status is OK, else the reason why not."""

    status: Status
    answer: A | None = None
    problem: str = ""


def grounding_errors(evidence: tuple[Evidence, ...], facts: Mapping[str, Fact]) -> list[str]:
    """Every citation that the packet does not bear out, one sentence each; empty when all are grounded."""
    return [problem for item in evidence if (problem := _ungrounded(item, facts))]


def _ungrounded(item: Evidence, facts: Mapping[str, Fact]) -> str | None:
    if item.key not in facts:
        return f"evidence {item.key!r} is not in the packet"
    fact = facts[item.key]
    numbers = _is_number(fact) and _is_number(item.value)
    if numbers and abs(float(item.value) - float(fact or 0.0)) <= TOLERANCE:
        return None
    if not numbers and type(fact) is type(item.value) and fact == item.value:
        return None
    return f"evidence {item.key!r} is {fact!r} in the packet, not {item.value!r}"


def _is_number(value: Fact) -> bool:
    """True for numbers alone: a flag is not a number here."""
    return isinstance(value, int | float) and not isinstance(value, bool)
