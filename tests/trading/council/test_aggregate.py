"""Aggregation: it can veto and shrink, whatever the answers are, and it can do nothing else."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.trading.council.candidates import account, proposal
from trading.council.aggregate import aggregate
from trading.council.guards import FullGuards
from trading.council.schemas import (
    Bias,
    Decision,
    Evidence,
    QuantAnswer,
    Reply,
    RiskManagerAnswer,
    Status,
    StrategistAnswer,
    Structure,
    Vote,
)
from trading.model import Instrument, Proposal, Side
from trading.parameters import AccountTerms
from trading.ports import Deliberation
from trading.risk import Exposure, Limits, Sized, size_entry

CITED = (Evidence(key="adx", value=30.0, reading="a strong trend"),)


def quant(signal: Vote, status: Status = Status.OK) -> Reply[QuantAnswer]:
    answer = QuantAnswer(evidence=CITED, against="it is late", signal=signal, p_win=0.3)
    return Reply(status=status, answer=answer if status is Status.OK else None, problem="it took too long")


def strategist(bias: Bias, status: Status = Status.OK) -> Reply[StrategistAnswer]:
    answer = StrategistAnswer(
        evidence=CITED,
        structure=Structure.RANGE,
        trap_suspected=False,
        against="a level is near",
        bias=bias,
        p_win=0.3,
    )
    return Reply(status=status, answer=answer if status is Status.OK else None, problem="no key was left")


def risk_manager(decision: Decision, size: float, status: Status = Status.OK) -> Reply[RiskManagerAnswer]:
    """Built past the schema: aggregation must not rely on it."""
    answer = RiskManagerAnswer.model_construct(
        conflicts=(),
        hazards=(),
        rationale="Because I say so.",
        decision=decision,
        size_multiplier=size,
        p_win=0.3,
    )
    return Reply(status=status, answer=answer if status is Status.OK else None, problem="no answer came")


def verdict(side: Side, signal: Vote, bias: Bias, decision: Decision, size: float) -> Deliberation:
    return aggregate(side, quant(signal), strategist(bias), risk_manager(decision, size))


sides = st.sampled_from(Side)
sizes = st.floats() | st.sampled_from([50.0, 0.0, -1.0, 1.0, math.nan, math.inf])
statuses = st.sampled_from([*[Status.OK] * 40, *Status])  # mostly fine, or nothing would ever be approved


@given(
    sides,
    st.builds(quant, st.sampled_from(Vote), statuses),
    st.builds(strategist, st.sampled_from(Bias), statuses),
    st.builds(risk_manager, st.sampled_from(Decision), sizes, statuses),
)
def test_it_never_enlarges_and_approves_only_without_an_objection(
    side: Side,
    one: Reply[QuantAnswer],
    two: Reply[StrategistAnswer],
    three: Reply[RiskManagerAnswer],
) -> None:
    """Whatever three agents say: a size in 0..1, zero exactly when rejected, and a reason for a person."""
    ruling = aggregate(side, one, two, three)
    assert 0.0 <= ruling.size_multiplier <= 1.0
    assert ruling.approved == (ruling.size_multiplier > 0.0)
    assert ruling.reasons
    assert all(reason.endswith(".") for reason in ruling.reasons)
    assert [answer.agent for answer in ruling.answers] == ["quant", "strategist", "risk_manager"]
    if ruling.approved:
        against = (Vote.SHORT, Bias.BEARISH) if side is Side.LONG else (Vote.LONG, Bias.BULLISH)
        assert {one.status, two.status, three.status} == {Status.OK}
        assert one.answer
        assert two.answer
        assert three.answer
        assert one.answer.signal is not against[0]
        assert two.answer.bias is not against[1]
        assert three.answer.decision is Decision.APPROVED
        assert ruling.size_multiplier == min(three.answer.size_multiplier, 1.0)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("signal", Vote)
@pytest.mark.parametrize("bias", Bias)
@pytest.mark.parametrize("decision", Decision)
def test_the_whole_table(side: Side, signal: Vote, bias: Bias, decision: Decision) -> None:
    """Every combination of votes, read off the page."""
    opposed = {Side.LONG: (Vote.SHORT, Bias.BEARISH), Side.SHORT: (Vote.LONG, Bias.BULLISH)}[side]
    expected = signal is not opposed[0] and bias is not opposed[1] and decision is Decision.APPROVED
    size = 0.5 if decision is Decision.APPROVED else 0.0
    ruling = verdict(side, signal, bias, decision, size)
    assert ruling.approved is expected
    assert ruling.size_multiplier == (0.5 if expected else 0.0)


@pytest.mark.parametrize(
    ("wanted", "given_size"), [(50.0, 1.0), (1.0, 1.0), (0.3, 0.3), (0.0, 0.0), (-1.0, 0.0), (math.inf, 0.0)]
)
def test_the_size_is_clamped(wanted: float, given_size: float) -> None:
    """More than base size is base size; what is no size is a rejection."""
    ruling = verdict(Side.SHORT, Vote.SHORT, Bias.CHOPPY, Decision.APPROVED, wanted)
    assert ruling.size_multiplier == given_size
    assert ruling.approved == (given_size > 0)


def test_a_vote_in_no_known_word_is_a_vote_against() -> None:
    """An answer that got past the schema cannot talk its way in."""
    strange = QuantAnswer.model_construct(evidence=CITED, against="none", signal="BUY", p_win=0.3)
    reply: Reply[QuantAnswer] = Reply(status=Status.OK, answer=strange)
    assert not aggregate(Side.LONG, reply, strategist(Bias.BULLISH), risk_manager(Decision.APPROVED, 1.0)).approved


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_a_failed_agent_is_a_rejection_with_its_cause(status: Status) -> None:
    """Each of the three; the reason names who and why, and the answer is kept with its status."""
    good = (quant(Vote.LONG), strategist(Bias.BULLISH), risk_manager(Decision.APPROVED, 1.0))
    failed = (
        aggregate(Side.LONG, quant(Vote.LONG, status), good[1], good[2]),
        aggregate(Side.LONG, good[0], strategist(Bias.BULLISH, status), good[2]),
        aggregate(Side.LONG, good[0], good[1], risk_manager(Decision.APPROVED, 1.0, status)),
    )
    for place, (ruling, name) in enumerate(zip(failed, ("Quant", "Strategist", "Risk Manager"), strict=True)):
        assert not ruling.approved
        assert f"The {name} did not answer ({status})" in ruling.reasons[0]
        assert ruling.answers[place].status == status
        assert ruling.answers[place].vote == ""
        assert ruling.answers[place].p_win is None


def test_an_answer_is_kept_with_its_evidence_in_json_types() -> None:
    """What the journal stores can be read back."""
    ruling = verdict(Side.LONG, Vote.LONG, Bias.CHOPPY, Decision.APPROVED, 0.75)
    first, second, third = ruling.answers
    assert (first.vote, second.vote, third.vote) == ("LONG", "CHOPPY", "APPROVED")
    assert first.details == {"evidence": [{"key": "adx", "value": 30.0, "reading": "a strong trend"}]}
    assert second.details["structure"] == "RANGE"
    assert third.details["size_multiplier"] == 0.75
    for answer in ruling.answers:
        assert json.loads(json.dumps(answer.details)) == answer.details
    assert ruling.reasons[-1] == "The Risk Manager approves 75% of the base size."


# The hostile Risk Manager of the specification: equity 10 000, risk 1 %. A model has no field for a stop, so the
# stops arrive in the proposal here, as if someone had managed to put them there.
TERMS = AccountTerms(max_position_usdt=1e9, leverage=1.0)
COIN = Instrument(
    symbol="BTCUSDT",
    tick_size=Decimal("0.1"),
    qty_step=Decimal("0.001"),
    min_qty=Decimal("0.001"),
    min_notional=Decimal(5),
)
BASE_RISK = Decimal(100)


def risked(wanted: Proposal, multiplier: float) -> Decimal:
    """USDT at the stop after guards, council and sizing; zero when any of them refuses."""
    if FullGuards(Limits()).before_council(wanted, account(), 2.0, False, False, 0.01):
        return Decimal(0)
    ruling = verdict(wanted.side, Vote.LONG, Bias.BULLISH, Decision.APPROVED, multiplier)
    if not ruling.approved:
        return Decimal(0)
    sized = size_entry(
        wanted,
        equity=Decimal(10_000),
        terms=TERMS,
        instrument=COIN,
        used=Exposure(),
        size_modifier=ruling.size_multiplier,
    )
    return sized.risk_usdt if isinstance(sized, Sized) else Decimal(0)


@pytest.mark.parametrize(
    ("multiplier", "stop", "most"),
    [
        (1.0, Decimal(96), BASE_RISK),
        (50.0, Decimal(96), BASE_RISK),
        (0.0, Decimal(96), Decimal(0)),
        (math.nan, Decimal(96), Decimal(0)),
        (math.inf, Decimal(96), Decimal(0)),
        (-1.0, Decimal(96), Decimal(0)),
        (1.0, Decimal("99.9"), Decimal(0)),
        (1.0, Decimal("NaN"), Decimal(0)),
        (1.0, Decimal(0), Decimal(0)),
        (1.0, Decimal(104), Decimal(0)),
        (1.0, Decimal(100), Decimal(0)),
    ],
)
def test_a_hostile_risk_manager_gets_base_size_at_most(
    multiplier: float, stop: Decimal, most: Decimal
) -> None:
    """Modifier 50 and 0, stop 0.1 away, missing, on the wrong side: a rejection or at most base size."""
    assert risked(proposal(stop=stop), multiplier) <= most


@pytest.mark.parametrize("size", ["50", "0", "NaN", "-1", '"all"', "null"])
def test_a_hostile_answer_does_not_pass_the_schema(size: str) -> None:
    """An approval with such a size is INVALID, and there is no field for a stop."""
    text = '{"conflicts":[],"hazards":[],"rationale":"go","decision":"APPROVED","size_multiplier":%s,"p_win":1}'
    assert RiskManagerAnswer.model_validate_json(text % "1").size_multiplier == 1.0
    with pytest.raises(ValidationError):
        RiskManagerAnswer.model_validate_json(text % size)
    with pytest.raises(ValidationError):
        RiskManagerAnswer.model_validate_json((text % "1").replace('"p_win"', '"stop":99.9,"p_win"'))
