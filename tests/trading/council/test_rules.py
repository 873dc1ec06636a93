"""The councils without a model, as the trader meets them."""

from __future__ import annotations

import dataclasses

import pytest

from tests.trading.council.candidates import STRATEGY, brief_at, edges, session, synthetic
from trading.council.rules import NoCouncil, RulesCouncil
from trading.hearing import Minutes
from trading.ports import Council
from trading.strategy import evaluate

SERIES = synthetic()
SIGNALS = evaluate(STRATEGY, SERIES)
ROWS = edges(SERIES, SIGNALS, 40)


async def test_the_rules_council_is_its_twins_and_nothing_else() -> None:
    """The same brief is the same verdict, and both kinds occur."""
    council: Council = RulesCouncil()
    assert council.mode == "rules"
    verdicts = set()
    for row in ROWS:
        brief = brief_at(SERIES, SIGNALS, row)
        ruling = await council.deliberate(brief, Minutes())
        assert ruling == await council.deliberate(brief, Minutes()) == session(brief).ruling
        assert 0.0 <= ruling.size_multiplier <= 1.0
        verdicts.add(ruling.approved)
    assert verdicts == {True, False}


@pytest.mark.parametrize("bars", [1, 2, 5, 14, 30, 120, 199])
async def test_too_little_history_is_a_rejection_that_says_so(bars: int) -> None:
    """Not an exception, and never a verdict on guessed facts."""
    ruling = await RulesCouncil().deliberate(brief_at(SERIES, SIGNALS, ROWS[0], bars), Minutes())
    assert not ruling.approved
    assert ruling.size_multiplier == 0.0
    assert "not known: " in ruling.reasons[0]


async def test_the_shortest_history_that_the_strategy_itself_needs_is_enough() -> None:
    """The trend average is the longest: from its first slope on, everything can be judged."""
    brief = brief_at(SERIES, SIGNALS, ROWS[0], 201)
    ruling = await RulesCouncil().deliberate(brief, Minutes())
    assert all(answer.status == "OK" for answer in ruling.answers)


async def test_bars_that_do_not_belong_to_the_proposal_are_a_rejection() -> None:
    """Another bar, another market, none at all."""
    brief = brief_at(SERIES, SIGNALS, ROWS[0])
    for window in (brief.window.between(0, 500), brief.window.between(0, 0)):
        ruling = await RulesCouncil().deliberate(dataclasses.replace(brief, window=window), Minutes())
        assert not ruling.approved
        assert "cannot judge" in ruling.reasons[0]
        assert ruling.answers == ()


async def test_no_council_approves_base_size() -> None:
    """Off is off: nobody is asked, nothing is shrunk."""
    council: Council = NoCouncil()
    ruling = await council.deliberate(brief_at(SERIES, SIGNALS, ROWS[0], 1), Minutes())
    assert council.mode == "off"
    assert (ruling.approved, ruling.size_multiplier, ruling.answers) == (True, 1.0, ())
