"""Guards in code: what they let through has sane numbers, sane levels and room in every limit."""

from __future__ import annotations

import dataclasses
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.council.candidates import account, proposal
from trading.council.guards import FullGuards, Guards, PageGuards, knife_text, stale
from trading.model import AccountFacts, Proposal, Side
from trading.risk import Limits

FULL = FullGuards(Limits())
PAGE = PageGuards()
ATR = 2.0


def rules_of(wanted: Proposal, facts: AccountFacts, atr: float | None = ATR, new_risk: float = 0.01) -> list[str]:
    return [found.rule for found in FULL.before_council(wanted, facts, atr, False, False, new_risk)]


def short(**changes: Any) -> Proposal:
    return proposal(**({"side": Side.SHORT, "stop": Decimal(104)} | changes))


def test_a_sound_proposal_passes_both_policies() -> None:
    """Long and short, with and without a target."""
    for wanted in (proposal(), short(), proposal(take_profit=Decimal(110)), short(take_profit=Decimal(90))):
        for guards in (FULL, PAGE):
            assert guards.before_council(wanted, account(), ATR, False, False, 0.01) == ()
            assert guards.before_order(wanted, ATR, Decimal("100.1")) is None


@pytest.mark.parametrize(
    ("wanted", "rule"),
    [
        (proposal(stop=Decimal(104)), "stop_side"),
        (short(stop=Decimal(96)), "stop_side"),
        (proposal(take_profit=Decimal(99)), "target_side"),
        (short(take_profit=Decimal(101)), "target_side"),
        (proposal(stop=Decimal("99.1")), "stop_distance"),
        (proposal(stop=Decimal("83.9")), "stop_distance"),
        (proposal(stop=Decimal("NaN")), "numbers"),
        (proposal(entry=Decimal("Infinity")), "numbers"),
        (proposal(stop=Decimal(-1)), "numbers"),
        (short(take_profit=Decimal(0)), "numbers"),
        (proposal(close=math.nan), "numbers"),
        (proposal(r_distance=0.0), "numbers"),
    ],
)
def test_a_proposal_that_makes_no_sense(wanted: Proposal, rule: str) -> None:
    """Each flaw is named by its rule."""
    assert rules_of(wanted, account()) == [rule]


def test_the_stop_may_be_half_an_atr_to_eight_away() -> None:
    """The bounds themselves are allowed."""
    assert rules_of(proposal(stop=Decimal(99)), account()) == []
    assert rules_of(proposal(stop=Decimal(84)), account()) == []


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"data_age_bars": 0.6}, "data_age"),
        ({"data_age_bars": -0.1}, "open_bar"),
        ({"day_r": -3.0}, "daily_loss"),
        ({"week_r": -6.0}, "weekly_loss"),
        ({"drawdown": 0.2}, "drawdown"),
        ({"losing_streak": 4, "bars_since_loss": 2}, "losing_streak"),
        ({"open_risk": 0.025}, "open_risk"),
        ({"open_positions": 3}, "positions"),
        ({"paused": True}, "paused"),
        ({"equity": Decimal(0)}, "numbers"),
        ({"day_r": math.nan}, "numbers"),
        ({"drawdown": math.nan}, "numbers"),
        ({"open_risk": -0.01}, "numbers"),
        ({"data_age_bars": math.inf}, "numbers"),
    ],
)
def test_an_account_that_must_not_trade(changes: dict[str, Any], rule: str) -> None:
    """Limits, age and numbers; NaN does not slip past a comparison."""
    assert rules_of(proposal(), account(**changes)) == [rule]


@pytest.mark.parametrize("atr", [None, 0.0, -1.0, math.nan, math.inf])
def test_without_atr_nothing_can_be_judged(atr: float | None) -> None:
    """An objection, not an exception and not a pass."""
    assert rules_of(proposal(), account(), atr) == ["atr"]
    assert FULL.before_order(proposal(), atr, Decimal(100))


@pytest.mark.parametrize("new_risk", [math.nan, math.inf, -0.01])
def test_the_risk_of_the_entry_must_be_a_number(new_risk: float) -> None:
    """It is added to the open risk."""
    assert rules_of(proposal(), account(), ATR, new_risk) == ["numbers"]


@pytest.mark.parametrize(("side", "name"), [(Side.LONG, "waterfall"), (Side.SHORT, "parabolic rise")])
def test_the_knife_comes_first_and_stays_latched(side: Side, name: str) -> None:
    """On the bar and until it has calmed; the baseline knows this very bar alone."""
    wanted = proposal() if side is Side.LONG else short()
    losing = account(day_r=-5.0)
    now = FULL.before_council(wanted, losing, ATR, True, True, 0.01)
    assert [found.rule for found in now] == ["knife", "daily_loss"]
    assert now[0].reason == f"anti-knife: {name} on this bar"
    later = FULL.before_council(wanted, losing, ATR, False, True, 0.01)
    assert later[0].rule == "knife"
    assert "until a bar closes back inside the bands" in later[0].reason
    assert [found.rule for found in PAGE.before_council(wanted, losing, ATR, True, True, 0.01)] == ["knife"]
    assert PAGE.before_council(wanted, losing, ATR, False, True, 0.01) == ()


def test_the_knife_in_words() -> None:
    """The chat shows how far it fell."""
    text = knife_text(Side.LONG, 3.4, 3)
    assert text == "falling knife: closed below the bands after a drop of 3.4 ATR in 3 bars"
    assert "rise of 3.4 ATR" in knife_text(Side.SHORT, 3.4, 3)
    found = FULL.before_council(proposal(), account(), ATR, True, True, 0.01, text)
    assert found[0].reason == text


@pytest.mark.parametrize(
    ("price", "atr", "age", "good"),
    [
        ("100", 2.0, 0.0, True),
        ("100.5", 2.0, 0.0, True),
        ("100.51", 2.0, 0.0, False),
        ("99.49", 2.0, 0.0, False),
        ("100", 2.0, 0.51, False),
        ("100", 2.0, math.nan, False),
        ("100", None, 0.0, False),
        ("NaN", 2.0, 0.0, False),
        ("0", 2.0, 0.0, False),
    ],
)
def test_a_verdict_on_a_price_that_has_gone_is_stale(
    price: str, atr: float | None, age: float, good: bool
) -> None:
    """A quarter of an ATR from the close decided on, and not older than its expiry."""
    found = stale(proposal(), atr, Decimal(price), Limits(), age)
    assert (found is None) is good
    assert found is None or found.rule == "stale"
    assert PAGE.before_order(proposal(), atr, Decimal(price), age) is None


numbers = st.floats() | st.floats(-10, 200)
prices = st.decimals(-10, 300) | st.sampled_from([Decimal("NaN"), Decimal("Infinity"), Decimal("-Infinity")])
proposals = st.builds(
    proposal,
    side=st.sampled_from(Side),
    close=numbers,
    entry=prices,
    stop=prices,
    take_profit=st.none() | prices,
    r_distance=numbers,
)
accounts = st.builds(
    account,
    equity=prices,
    day_r=numbers,
    week_r=numbers,
    drawdown=numbers,
    losing_streak=st.integers(0, 9),
    bars_since_loss=st.none() | st.integers(0, 20),
    open_risk=numbers,
    open_positions=st.integers(0, 5),
    spread=numbers,
    slippage=numbers,
    funding_rate=numbers,
    data_age_bars=numbers,
    paused=st.booleans(),
)


@given(proposals, accounts, st.none() | numbers, st.booleans(), st.booleans(), numbers)
def test_whatever_comes_in_what_goes_through_is_sane(
    wanted: Proposal, facts: AccountFacts, atr: float | None, hazard: bool, latched: bool, new_risk: float
) -> None:
    """No input raises; no objection means that every rule of the page holds."""
    found = FULL.before_council(wanted, facts, atr, hazard, latched, new_risk)
    assert all(objection.reason for objection in found)
    if found:
        return
    limits, sign = FULL.limits, wanted.side.sign
    assert not hazard
    assert not latched
    assert atr is not None
    assert 0 < atr < math.inf
    assert 0.5 - 1e-9 <= float(wanted.entry - wanted.stop) * sign / atr <= 8 + 1e-9
    assert wanted.take_profit is None or (wanted.take_profit - wanted.entry) * sign > 0
    assert facts.day_r > -limits.daily_loss_r
    assert facts.drawdown < limits.max_drawdown
    assert facts.open_risk + new_risk <= limits.max_open_risk + 1e-9
    assert 0 <= facts.data_age_bars <= limits.max_data_age_bars


def test_a_found_rule_stays_found_when_more_is_wrong() -> None:
    """The knife is reported also when the numbers are broken."""
    broken = dataclasses.replace(account(), day_r=math.nan)
    guards: Guards = FULL
    found = guards.before_council(proposal(), broken, None, True, True, 0.01)
    assert [objection.rule for objection in found] == ["knife", "atr", "numbers"]


@pytest.mark.parametrize("guards", [FULL, PAGE])
def test_a_pause_holds_whatever_the_council(guards: Guards) -> None:
    """Without a council there are no limits, but the owner's word still counts."""
    found = guards.before_council(proposal(), account(paused=True), ATR, False, False, 0.01)
    assert [each.rule for each in found] == ["paused"]
