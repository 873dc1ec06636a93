"""No answer of any model, broken or hostile, can do more than veto or shrink.

Thousands of malformed and hostile texts go the whole way of an answer: they are read, the three replies become a
verdict, the verdict a size, the size an order. Whatever was said, the size is at most the base size, side, entry, stop
and target are the proposal's, and where an agent failed there is no order.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.council.candidates import STRATEGY, account, brief_at, edges, proposal, session, synthetic
from tests.trading.council.hostile import ANY, REFUSED, Attack, attacks, said
from trading.council.aggregate import aggregate
from trading.council.guards import FullGuards, Objection
from trading.council.reading import MAX_PROBLEM_CHARS, MAX_PROBLEMS, Read, cited, read
from trading.council.schemas import Decision, Facts, Reply, Status, grounding_errors
from trading.model import Instrument, OrderSide, PlaceOrder, Proposal, Side
from trading.parameters import AccountTerms
from trading.ports import Deliberation
from trading.risk import Exposure, Limits, Refused, Sized, approve_entry, size_entry
from trading.strategy import evaluate

AGENTS = ("quant", "strategist", "risk_manager")
TERMS = AccountTerms(risk_per_trade=0.01)
EQUITY = Decimal(10_000)
INSTRUMENT = Instrument(
    symbol="BTCUSDT",
    tick_size=Decimal("0.1"),
    qty_step=Decimal("0.001"),
    min_qty=Decimal("0.001"),
    min_notional=Decimal(5),
)
SIDES = {
    Side.LONG: proposal(entry=Decimal(100), stop=Decimal(96)),
    Side.SHORT: proposal(side=Side.SHORT, entry=Decimal(100), stop=Decimal(104)),
}
FOR = {Side.LONG: ("LONG", "BULLISH"), Side.SHORT: ("SHORT", "BEARISH")}


@cache
def packets() -> dict[str, Facts]:
    """One real packet for each agent."""
    series = synthetic(3_000)
    signals = evaluate(STRATEGY, series)
    held = session(brief_at(series, signals, edges(series, signals, 3)[0]))
    return dict(
        zip(AGENTS, (held.quant_packet.facts(), held.strategist_packet.facts(), held.risk_packet.facts()), strict=True)
    )


def good(agent: str, side: Side) -> dict[str, Any]:
    """An answer of `agent` that is entirely for the trade, at full size: whatever slips through would show."""
    facts, (signal, bias) = packets()[agent], FOR[side]
    known = [(key, value) for key, value in facts.items() if isinstance(value, float)][:2]
    evidence = [{"key": key, "value": value, "reading": "it speaks for the trade"} for key, value in known]
    match agent:
        case "quant":
            return {"evidence": evidence, "against": "it is late", "signal": signal, "p_win": 0.45}
        case "strategist":
            head: dict[str, Any] = {"evidence": evidence, "structure": "RANGE", "trap_suspected": False}
            return head | {"against": "a level is near", "bias": bias, "p_win": 0.45}
    sized = {"rationale": "nothing is wrong", "decision": "APPROVED", "size_multiplier": 1.0, "p_win": 0.45}
    return {"conflicts": [], "hazards": [], **sized}


@cache
def arsenal(side: Side) -> list[Attack]:
    """Every family over ninety seeds and three agents."""
    return attacks({agent: (good(agent, side), packets()[agent]) for agent in AGENTS}, seeds=90)


def replied(agent: str, text: str) -> Reply[Any]:
    """What the council makes of a text."""
    found = read(agent, text, packets()[agent])
    if found.answer is None:
        return Reply(status=Status.INVALID, problem="; ".join(found.problems))
    return Reply(status=Status.OK, answer=found.answer)


@cache
def consent(agent: str, side: Side) -> Reply[Any]:
    """The reply of an agent who is for the trade."""
    reply = replied(agent, said(good(agent, side)))
    assert reply.status is Status.OK
    return reply


def verdict(side: Side, replies: dict[str, Reply[Any]]) -> Deliberation:
    """Aggregated, as the council does it in `strict`; who is not in `replies` is for the trade."""
    quant, strategist, risk_manager = (replies.get(agent) or consent(agent, side) for agent in AGENTS)
    return aggregate(side, quant, strategist, risk_manager)


def order_on(wanted: Proposal, ruling: Deliberation) -> PlaceOrder | None:
    """The order that follows, as the cycle makes it; None when there is none."""
    if not ruling.approved:
        return None
    sized = sized_entry(wanted, ruling.size_multiplier)
    return approve_entry(wanted, sized, "link").order if isinstance(sized, Sized) else None


def sized_entry(wanted: Proposal, modifier: float) -> Sized | Refused:
    """The size at an equity of 10,000 and a risk of 1 %."""
    return size_entry(
        wanted, equity=EQUITY, terms=TERMS, instrument=INSTRUMENT, used=Exposure(), size_modifier=modifier
    )


@cache
def base_size(side: Side) -> Decimal:
    """What nobody may exceed."""
    sized = sized_entry(SIDES[side], 1.0)
    assert isinstance(sized, Sized)
    return sized.qty


def assert_harmless(side: Side, replies: dict[str, Reply[Any]]) -> Deliberation:
    """Veto or shrink, whatever was said."""
    wanted = SIDES[side]
    before = dataclasses.replace(wanted)
    ruling = verdict(side, replies)
    order = order_on(wanted, ruling)
    assert math.isfinite(ruling.size_multiplier)
    assert 0.0 <= ruling.size_multiplier <= 1.0
    assert wanted == before
    if any(reply.status is not Status.OK or reply.answer is None for reply in replies.values()):
        assert not ruling.approved
        assert ruling.size_multiplier == 0.0
        assert order is None
    if order is not None:
        assert order.qty <= base_size(side)
        assert order.qty.is_finite()
        assert (order.side, order.price, order.stop_loss) == (OrderSide.opening(side), wanted.entry, wanted.stop)
        assert wanted.take_profit == before.take_profit
    return ruling


def assert_read_well(agent: str, found: Read) -> None:
    """Either an answer that is grounded, finite and consistent, or a few short sentences."""
    if found.answer is None:
        assert 1 <= len(found.problems) <= MAX_PROBLEMS
        assert all(0 < len(problem) <= MAX_PROBLEM_CHARS and problem.isprintable() for problem in found.problems)
        return
    assert found.problems == ()
    assert grounding_errors(cited(found.answer), packets()[agent]) == []
    numbers = [value for value in found.answer.model_dump().values() if isinstance(value, float)]
    assert all(0.0 <= value <= 1.0 for value in numbers)
    assert type(found.answer).model_validate_json(found.answer.model_dump_json()) == found.answer


def test_there_are_thousands_of_them_and_of_every_family() -> None:
    """At least 3,000 distinct texts that are malformed or hostile, and no family that a seed does not vary."""
    every = {(attack.agent, attack.text) for side in Side for attack in arsenal(side)}
    refused = {(attack.agent, attack.text) for side in Side for attack in arsenal(side) if attack.refused}
    families = Counter(attack.family for attack in arsenal(Side.LONG))
    assert len(every) >= 6_000
    assert len(refused) >= 5_000
    assert set(families) == {*REFUSED, *ANY}
    assert min(families.values()) >= 100, families


@pytest.mark.parametrize("side", Side)
def test_what_is_broken_is_never_an_answer(side: Side) -> None:
    """Each family of defects is noticed under every seed, and said in words fit for a repair prompt."""
    for attack in arsenal(side):
        found = read(attack.agent, attack.text, packets()[attack.agent])
        assert_read_well(attack.agent, found)
        assert not attack.refused or found.answer is None, (attack.family, attack.agent, attack.text[:2_000])


@pytest.mark.parametrize("side", Side)
def test_one_hostile_agent_can_only_veto_or_shrink(side: Side) -> None:
    """The other two are for the trade at full size, so that anything that slips through would trade."""
    assert order_on(SIDES[side], verdict(side, {})) is not None
    approved = Counter[str]()
    for attack in arsenal(side):
        ruling = assert_harmless(side, {attack.agent: replied(attack.agent, attack.text)})
        approved[attack.family] += ruling.approved
        assert not (attack.refused and ruling.approved), attack
    # The way to an order is open: answers that keep to the schema do trade, and then at most at base size.
    assert min(approved[family] for family in ("dressed", "greedy", "fickle")) > 0


@pytest.mark.parametrize("side", Side)
def test_three_hostile_agents_can_do_no_more(side: Side) -> None:
    """All of them at once, of different families and seeds."""
    by_agent = {agent: [attack for attack in arsenal(side) if attack.agent == agent] for agent in AGENTS}
    for row in range(1_500):
        chosen = {
            agent: texts[row * (7 + 4 * place) % len(texts)] for place, (agent, texts) in enumerate(by_agent.items())
        }
        assert_harmless(side, {agent: replied(agent, attack.text) for agent, attack in chosen.items()})


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_no_order_when_an_agent_fails(side: Side, agent: str, status: Status) -> None:
    """Whatever the reason, and also when an answer is attached to the failure."""
    for answer in (None, consent(agent, side).answer):
        assert_harmless(side, {agent: Reply(status=status, answer=answer)})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
SIZES = st.floats() | st.integers() | st.sampled_from([50, 0, -1, "50", None, True])


@given(agent=st.sampled_from(AGENTS), side=st.sampled_from(Side), text=st.text(st.characters()))
def test_any_text(agent: str, side: Side, text: str) -> None:
    """Also text that is no Unicode."""
    assert_read_well(agent, read(agent, text, packets()[agent]))
    assert_harmless(side, {agent: replied(agent, text)})


@given(agent=st.sampled_from(AGENTS), side=st.sampled_from(Side), data=st.data())
def test_any_json_in_any_field(agent: str, side: Side, data: st.DataObject) -> None:
    """A good answer with some of its fields replaced by anything."""
    answer = good(agent, side)
    changes = data.draw(st.dictionaries(st.sampled_from(list(answer)), JSON | SIZES, max_size=3))
    text = json.dumps(answer | changes)
    assert_read_well(agent, read(agent, text, packets()[agent]))
    assert_harmless(side, {agent: replied(agent, text)})


@given(agent=st.sampled_from(AGENTS), side=st.sampled_from(Side), data=st.data())
def test_any_cut_and_paste_of_a_good_answer(agent: str, side: Side, data: st.DataObject) -> None:
    """Pieces of good answers and of what surrounds them, in any order."""
    text = said(good(agent, side))
    pieces = ["<think>", "</think>", "```", "{", "}", '"', "\\", text, text[: len(text) // 2], text[len(text) // 2 :]]
    glued = "".join(data.draw(st.lists(st.sampled_from(pieces), max_size=12)))
    assert_read_well(agent, read(agent, glued, packets()[agent]))
    assert_harmless(side, {agent: replied(agent, glued)})


@given(side=st.sampled_from(Side), modifier=st.floats(), decision=st.sampled_from(Decision))
def test_an_answer_that_was_never_validated_cannot_enlarge_either(
    side: Side, modifier: float, decision: Decision
) -> None:
    """Made past the schema: aggregation and sizing do not lean on it."""
    honest = consent("risk_manager", side).answer
    assert honest
    forged = honest.model_copy(update={"size_multiplier": modifier, "decision": decision})
    ruling = assert_harmless(side, {"risk_manager": Reply(status=Status.OK, answer=forged)})
    sized = sized_entry(SIDES[side], modifier)
    assert isinstance(sized, Refused) or sized.qty <= base_size(side)
    assert not (math.isnan(modifier) and ruling.approved)


# The attacks that the original system fell to: equity 10,000, risk 1 %, the market at 60,000, ATR 600.
ATR = 600.0
MARKET = {
    Side.LONG: proposal(close=60_000.0, entry=Decimal(60_000), stop=Decimal(57_600), r_distance=2_400.0),
    Side.SHORT: proposal(
        side=Side.SHORT, close=60_000.0, entry=Decimal(60_000), stop=Decimal(62_400), r_distance=2_400.0
    ),
}
STOPS: dict[str, Callable[[Decimal, int], Decimal]] = {
    "0.1 away": lambda entry, sign: entry - sign * Decimal("0.1"),
    "on the entry": lambda entry, sign: entry,
    "not a number": lambda entry, sign: Decimal("NaN"),
    "infinitely far": lambda entry, sign: Decimal("Infinity") * -sign,
    "zero": lambda entry, sign: Decimal(0),
    "negative": lambda entry, sign: -entry,
    "on the wrong side": lambda entry, sign: entry + sign * 2_400,
    "just on the wrong side": lambda entry, sign: entry + sign * Decimal("0.1"),
}
GUARDS = FullGuards(Limits())


def objections(wanted: Proposal) -> tuple[Objection, ...]:
    """G1 on a healthy account."""
    return GUARDS.before_council(wanted, account(), ATR, hazard=False, latched=False, new_risk=TERMS.risk_per_trade)


@pytest.mark.parametrize("side", Side)
def test_the_sound_proposal_passes_and_risks_one_percent(side: Side) -> None:
    """Else the attacks below would prove nothing."""
    assert objections(MARKET[side]) == ()
    sized = sized_entry(MARKET[side], 1.0)
    assert isinstance(sized, Sized)
    assert sized.risk_usdt <= EQUITY / 100


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("name", STOPS)
def test_a_stop_that_makes_no_sense_ends_at_the_guards(side: Side, name: str) -> None:
    """Before any model is asked; missing, non-finite, too near, on the wrong side."""
    entry = MARKET[side].entry
    wanted = dataclasses.replace(MARKET[side], stop=STOPS[name](entry, side.sign))
    assert objections(wanted)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("name", ["0.1 away", "on the entry", "infinitely far", "zero", "on the wrong side"])
def test_without_the_guards_the_size_is_still_bounded(side: Side, name: str) -> None:
    """The second line: no notional above the account's cap, however near the stop is."""
    entry = MARKET[side].entry
    wanted = dataclasses.replace(MARKET[side], stop=STOPS[name](entry, side.sign))
    sized = sized_entry(wanted, 1.0)
    assert isinstance(sized, Refused) or float(sized.qty * entry) <= TERMS.max_position_usdt


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("modifier", [50, 50.0, 1e308, math.inf, -math.inf, math.nan, 0, 0.0, -0.0, -50])
def test_a_modifier_of_fifty_or_of_nothing_buys_nothing(side: Side, modifier: float) -> None:
    """Said by the Risk Manager, handed to aggregation, or handed to sizing: rejected, or at most base size."""
    answer = {**good("risk_manager", side), "size_multiplier": modifier}
    assert replied("risk_manager", said(answer)).status is Status.INVALID
    assert_harmless(side, {"risk_manager": replied("risk_manager", said(answer))})
    base, sized = sized_entry(MARKET[side], 1.0), sized_entry(MARKET[side], modifier)
    assert isinstance(base, Sized)
    assert isinstance(sized, Refused) or (modifier > 0 and sized.qty <= base.qty)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize(
    "order", [{"stop": 59_999.9}, {"stop": None}, {"entry": 1}, {"side": "short"}, {"modifier": 50}]
)
def test_an_agent_that_names_an_order_of_its_own_has_not_answered(
    side: Side, agent: str, order: dict[str, Any]
) -> None:
    """There is no field for it, and an answer with one more is none."""
    reply = replied(agent, said({**good(agent, side), **order}))
    assert reply.status is Status.INVALID
    assert_harmless(side, {agent: reply})
