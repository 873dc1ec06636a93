"""Grades: arithmetic that can be done by hand, and councils of which it is known what they are worth.

A slice of the calibration runs always. The whole, 300 councils of every kind, with its figures printed:

    CONCLAVE_FULL_CALIBRATION=1 python -m pytest tests/research/test_grade.py
"""

from __future__ import annotations

import io
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from datetime import time as dt_time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.grade import (
    AT_RANDOM,
    LEAST,
    MOST_NEEDED,
    TRUST,
    _rounded,
    base_rates,
    bins_of,
    block_length,
    curves,
    edge_of,
    grade,
    proposed_weight,
    skill_of,
    without,
)
from research.workbook.council import write_grade
from tests.research import councils
from tests.research.councils import AGENTS, HOURS, START, Kind, ballot, bare, candidate, full
from tests.structure import ROOT
from trading.errors import BadInput
from trading.grades import STATUSES, AgentCost, Arm, Ballot, Grade, Interval, Judged, Word
from trading.model import utc

WHOLE = bool(os.environ.get("CONCLAVE_FULL_CALIBRATION"))
TRIALS = 300 if WHOLE else 20
FIRST_SEED = 810_000  # of no council that the rule was thought out on
SMALL = [
    candidate(0, weight=1.0, r=2.0),
    candidate(1, weight=0.0, r=-1.0),
    candidate(2, weight=0.5, r=-1.0),
    candidate(3, weight=0.0, r=4.0),
    candidate(4, weight=1.0, r=None),
    candidate(5, weight=1.0, r=None, ended=False),
]

pytestmark = pytest.mark.timeout(1800 if WHOLE else 120)


def arm(found: Grade, name: str) -> Arm:
    return next(each for each in found.arms if each.name == name)


# ---- by hand ------------------------------------------------------------------------------------------------------


def test_the_figures_are_those_reckoned_by_hand() -> None:
    """Four ended, one never filled, one waiting."""
    found = grade(SMALL)
    assert (found.candidates, found.ended, found.unfilled, found.waiting, found.lost) == (6, 4, 1, 1, 0)
    assert found.base_rate == 0.5
    assert found.avoided == pytest.approx(1.0 + 0.5)
    assert found.missed == pytest.approx(4.0)
    own, off = found.arms[:2]
    assert (own.name, off.name) == ("strict", "off")
    assert (own.approved, own.vetoed, own.weight) == (2, 2, 0.375)
    assert own.mean_approved == pytest.approx(0.5)
    assert own.mean_vetoed == pytest.approx(1.5)
    assert own.total == pytest.approx(1.5)
    assert own.edge == pytest.approx((1.5 - 0.375 * 4.0) / 4)
    assert off.total == pytest.approx(4.0)
    assert (off.edge, off.interval, off.mean_vetoed) == (0.0, None, None)
    assert (found.first, found.last) == (START, START + 5 * 9 * HOURS)
    assert found.days == pytest.approx(45 / 24)


def test_what_was_avoided_less_what_was_missed_is_the_difference_to_no_council() -> None:
    """On any candidates."""
    found = grade(full())
    assert found.avoided - found.missed == pytest.approx(found.arms[0].total - found.arms[1].total)
    assert min(found.avoided, found.missed) > 0


def test_the_random_arm_is_what_chance_comes_to() -> None:
    """As many vetoes, the same sizes, no edge; its interval holds the edges of those drawn."""
    found = grade(bare("useful", 1))
    own, chance = found.arms[0], found.arms[-1]
    assert chance.name == AT_RANDOM
    assert (chance.approved, chance.vetoed, chance.weight) == (own.approved, own.vetoed, own.weight)
    assert chance.total == pytest.approx(own.weight * found.arms[1].total)
    assert own.total - chance.total == pytest.approx((own.edge or 0.0) * found.ended)
    assert chance.interval is not None
    assert chance.interval.low < 0 < chance.interval.high < (own.edge or 0.0)


def test_costs_are_those_of_every_candidate() -> None:
    """Of those that wait, too; a month needs a day to go by."""
    paid = (ballot("quant", 1, 0.4, cost_usd=0.03), ballot("strategist", 1, 0.3, cost_usd=0.01))
    rows = [candidate(at, r=None, ended=False, ballots=paid) for at in range(8)]
    found = grade(rows)
    assert found.cost_usd == pytest.approx(0.32)
    assert found.cost_per_decision == pytest.approx(0.04)
    assert found.cost_per_month == pytest.approx(0.32 / (63 / 24) * 365 / 12)
    assert grade(rows[:2]).cost_per_month is None


def test_what_will_never_be_known_is_not_waited_for() -> None:
    """Nor has it ended."""
    found = grade([*SMALL, candidate(6, r=None, ended=False), replace(candidate(7, r=None, ended=False), lost=True)])
    assert (found.candidates, found.ended, found.unfilled, found.waiting, found.lost) == (8, 4, 1, 2, 1)


def bill(agent: str, day: date, cost: str, calls: int = 1, unreported: int = 0) -> AgentCost:
    """A day's bill; a call that reports tokens has 100 in and 10 out."""
    told = calls - unreported
    return AgentCost(
        day=day,
        agent=agent,
        calls=calls,
        unreported=unreported,
        tokens_in=told * 100,
        tokens_out=told * 10,
        cost_usd=Decimal(cost),
    )


def test_where_calls_are_on_record_they_are_the_cost() -> None:
    """Not what the ballots tell, which know nothing of debates that were broken off; of their own time, by month."""
    first, last = (utc(START + at * 9 * HOURS).date() for at in (0, 7))
    spoken = (ballot("quant", 1, 0.4, cost_usd=0.03),)
    rows = [replace(candidate(at, r=None, ended=False, ballots=spoken), bills=()) for at in range(8)]
    rows[0] = replace(rows[0], bills=(bill("quant", first, "0.1", 3), bill("strategist", first, "0.02", 2, 1)))
    rows[7] = replace(rows[7], bills=(bill("quant", last, "0.2"), bill("risk_manager", last, "0", unreported=1)))
    found = grade(rows)
    assert found.cost_usd == pytest.approx(0.32)
    assert found.cost_per_decision == pytest.approx(0.04)
    assert found.cost_per_month == pytest.approx(0.32 / (63 / 24) * 365 / 12)
    assert [(each.agent, each.asked, each.calls, each.tokens, each.cost_usd) for each in found.agents] == [
        ("quant", 8, 4, (400, 40), 0.3),
        ("strategist", 0, 2, (100, 10), 0.02),
        ("risk_manager", 0, 1, None, 0.0),
    ]
    later = replace(rows[7], bills=(bill("quant", last + timedelta(days=30), "0.2"),))
    span = (datetime.combine(last + timedelta(days=30), dt_time.min, UTC) - utc(START)).total_seconds() / 86_400
    assert grade([*rows[:7], later]).cost_per_month == pytest.approx(0.32 / span * 365 / 12)
    assert grade([replace(row, bills=()) for row in rows]).cost_usd == 0.0
    assert grade([replace(row, bills=None) for row in rows]).agents[0].calls is None


def test_the_order_of_the_rows_does_not_matter_and_nothing_is_left_to_chance() -> None:
    """The same grade, every time."""
    rows = full(count=300)
    shuffled = random.Random(5).sample(rows, len(rows))
    assert grade(shuffled) == grade(rows)
    assert grade(rows, seed=1) != grade(rows)


# ---- arms ---------------------------------------------------------------------------------------------------------


def test_arms_stand_in_their_order() -> None:
    """The council, none, others, without each agent, at random."""
    names = [each.name for each in grade(full(count=200)).arms]
    assert names == ["strict", "off", "rules", *(f"without {each.replace('_', ' ')}" for each in AGENTS), "at random"]


def test_another_council_is_judged_only_on_the_whole_list() -> None:
    """One that did not decide on every ended candidate is no arm."""
    rows = [replace(row, others={"rules": 0.5}) for row in SMALL]
    assert arm(grade(rows), "rules").total == pytest.approx(2.0)
    assert len(grade([replace(rows[0], others={}), *rows[1:]]).arms) == len(grade(SMALL).arms)


def test_a_council_named_as_an_arm_is_that_arm() -> None:
    """`off` graded is off; rules beside rules are one."""
    assert [each.name for each in grade([replace(row, council="off") for row in SMALL]).arms] == ["off", "at random"]
    rules = [replace(row, council="rules", others={"rules": 1.0}) for row in SMALL]
    assert [each.name for each in grade(rules).arms] == ["rules", "off", "at random"]
    assert grade(rules).arms[0].total == pytest.approx(1.5)


def of(weight: float, *ballots: Ballot) -> Judged:
    return candidate(0, weight=weight, ballots=ballots)


FOR, AGAINST = 1, -1


@pytest.mark.parametrize(
    ("weight", "stances", "left_out", "expected"),
    [
        (0.5, (FOR, FOR, FOR), "quant", 0.5),
        (0.5, (FOR, FOR, FOR), "risk_manager", 1.0),  # nobody else shrinks
        (0.0, (AGAINST, FOR, FOR), "quant", 1.0),
        (0.0, (AGAINST, FOR, FOR), "strategist", 0.0),
        (0.0, (AGAINST, AGAINST, FOR), "quant", 0.0),
        (0.0, (AGAINST, FOR, AGAINST), "quant", 0.0),  # the Risk Manager repeats it
        (0.0, (FOR, 0, AGAINST), "risk_manager", 1.0),
        (0.0, (FOR, FOR, FOR), "quant", 0.0),  # nobody voted for this rejection: a guard in code
        (0.7, (FOR, FOR, FOR), "astrologer", 0.7),
    ],
)
def test_leaving_an_agent_out(weight: float, stances: tuple[int, int, int], left_out: str, expected: float) -> None:
    """The verdict that the other ballots leave."""
    row = of(weight, *(ballot(agent, stance) for agent, stance in zip(AGENTS, stances, strict=True)))
    assert without(row, left_out) == expected


def test_an_agent_that_failed_is_a_veto_of_its_own() -> None:
    """Where the candidate was rejected; where it was not, somebody stood in for it."""
    failed = (ballot("quant", 0, status="TIMEOUT"), ballot("strategist", 1), ballot("risk_manager", 1))
    assert without(of(0.0, *failed), "quant") == 1.0
    assert without(of(0.0, *failed), "strategist") == 0.0
    assert without(of(0.5, *failed), "strategist") == 0.5


def stood_in(agent: str, twin: int) -> Ballot:
    """A model that did not answer, and what its rules said in its place."""
    return replace(ballot(agent, 0, status="TIMEOUT"), twin=twin)


def manager(size: float | None) -> Ballot:
    """A Risk Manager that approves, and the size that it names."""
    return replace(ballot("risk_manager", FOR), size=size)


@pytest.mark.parametrize(
    ("weight", "quant", "strategist", "named", "left_out", "expected"),
    [
        (0.0, stood_in("quant", FOR), AGAINST, 0.8, "strategist", 0.4),  # its size, halved for the twin
        (0.0, stood_in("quant", 0), AGAINST, None, "strategist", 0.5),
        (0.0, stood_in("quant", FOR), AGAINST, 0.8, "quant", 0.0),
        (0.0, stood_in("quant", AGAINST), FOR, 0.8, "strategist", 0.0),  # the twin's veto is one
        (0.0, stood_in("quant", AGAINST), FOR, 0.8, "quant", 0.8),  # and leaves with its agent
        (0.4, stood_in("quant", FOR), FOR, 0.8, "quant", 0.8),  # nothing is halved without it
        (0.4, stood_in("quant", FOR), FOR, 0.8, "strategist", 0.4),
        (0.4, stood_in("quant", FOR), FOR, 0.8, "risk_manager", 0.5),
        (0.0, ballot("quant", AGAINST), FOR, 0.8, "quant", 0.8),  # nobody failed: the size that was named
        (0.0, ballot("quant", 0, status="TIMEOUT"), FOR, 0.8, "strategist", 0.0),  # strict: no twin, a veto
    ],
)
def test_leaving_an_agent_out_where_twins_stand_in(
    weight: float, quant: Ballot, strategist: int, named: float | None, left_out: str, expected: float
) -> None:
    """A twin's vote is its agent's, and not a failure; its half size ends with it."""
    row = of(weight, quant, ballot("strategist", strategist), manager(named))
    assert without(row, left_out) == pytest.approx(expected)


def test_both_twins_halve_once() -> None:
    """One of two is left, and halves still."""
    row = of(0.4, stood_in("quant", FOR), stood_in("strategist", FOR), manager(0.8))
    assert without(row, "quant") == pytest.approx(0.4)


def test_where_no_decision_differs_there_is_no_figure() -> None:
    """The Risk Manager repeats the Quant's objections: what the Quant is worth cannot be told, and nothing is shown."""
    rng = np.random.default_rng(5)
    rows = []
    for at in range(200):
        no = bool(rng.random() < 0.4)
        said = [ballot(agent, AGAINST if no and agent != "strategist" else FOR) for agent in AGENTS]
        rows.append(candidate(at, weight=0.0 if no else 0.5, r=float(rng.normal()), ballots=tuple(said)))
    found = grade(rows)
    for name in ("without quant", "without strategist"):
        silent = arm(found, name)
        assert (silent.same, silent.edge, silent.interval) == (True, None, None)
    last = arm(found, "without risk manager")
    assert not last.same
    assert last.interval is not None
    assert [each.name for each in found.arms if each.same] == ["without quant", "without strategist"]
    assert not any(each.same for each in grade(SMALL[4:]).arms)  # of which none has ended


def test_the_same_weights_have_the_same_interval() -> None:
    """All arms are drawn from the same samples."""
    rows = [replace(row, others={"twin": row.weight, "half": row.weight / 2}) for row in full(count=300)]
    found = grade(rows)
    own, half = found.arms[0].interval, arm(found, "half").interval
    assert own is not None
    assert half is not None
    assert arm(found, "twin").interval == own
    assert (half.low, half.high) == pytest.approx((own.low / 2, own.high / 2))


# ---- the workbook -------------------------------------------------------------------------------------------------


def sheet_of(found: Grade, rows: list[Judged], name: str) -> list[tuple[Any, ...]]:
    """The rows of a sheet."""
    book = openpyxl.load_workbook(io.BytesIO(write_grade(found, rows, "council")))
    return list(book[name].iter_rows(values_only=True))


def test_the_workbook_says_that_no_decision_differs() -> None:
    """In words, and without a figure that would stand for that agent."""
    said = tuple(ballot(agent, FOR) for agent in AGENTS)
    rows = [candidate(at, weight=at % 2, r=float(at % 3), ballots=said if at % 2 else ()) for at in range(12)]
    summary = sheet_of(grade(rows), rows, "Summary")
    silent = next(row for row in summary if row[0] == "without quant")
    assert set(silent[1:-1]) == {None}
    assert silent[-1] == "No decision differs, which says nothing about that agent."


def test_the_workbook_tells_more_from_about() -> None:
    """In the headline and beside the figure."""
    far = replace(grade(SMALL), needed=MOST_NEEDED)
    summary = sheet_of(far, SMALL, "Summary")
    assert summary[3][0] == "INSUFFICIENT EVIDENCE (more than 100,000 needed)"
    assert next(row for row in summary if row[0] == "Needed")[2].startswith("More than that")
    near = sheet_of(replace(far, needed=240), SMALL, "Summary")
    assert near[3][0] == "INSUFFICIENT EVIDENCE (about 240 needed)"


def test_the_workbook_has_every_call_in_its_month() -> None:
    """Also in one without a candidate; and says of whom nothing will be known."""
    march, april = utc(START).date(), utc(START).date() + timedelta(days=31)
    bills = (bill("quant", march, "0.1", 3), bill("risk_manager", april, "0.2", 2, 2))
    spoken = (ballot("quant", 1, 0.4, cost_usd=9.0),)
    rows = [candidate(0, ballots=spoken), replace(candidate(1, r=None, ended=False), lost=True, bills=bills)]
    found = grade(rows)
    costs = sheet_of(found, rows, "Costs")
    header, quant, manager, together = costs[:4]
    named = [header.index(name) for name in ("Cost USD", "Calls", "Tokens in", "Tokens out")]
    assert [[row[at] for at in named] for row in (quant, manager, together)] == [
        [0.1, 3, 300, 30],
        [0.2, 2, None, None],
        [pytest.approx(0.3), 5, None, None],
    ]
    top = next(at for at, row in enumerate(costs) if row[0] == "Month")
    assert [row[:5] for row in costs[top + 1 : top + 3]] == [
        (f"{march:%Y-%m}", 2, 0.1, 0, 0.1),
        (f"{april:%Y-%m}", 0, 0, 0.2, 0.2),
    ]
    candidates = sheet_of(found, rows, "Candidates")
    assert [row[candidates[0].index("Outcome")] for row in candidates[1:]] == ["won", "not known"]


# ---- agents -------------------------------------------------------------------------------------------------------


def test_an_agent_that_states_the_base_rate_has_no_skill() -> None:
    """Nor a hair more than none: the rate it is measured against does not know the outcome it is asked about."""
    won = np.array([1.0, 0.0, 0.0, 0.0] * 50)
    knows_rest = base_rates(won)
    skill, between = skill_of(knows_rest, won, 0)
    assert skill == pytest.approx(0.0)
    constant, _ = skill_of(np.full(200, 0.25), won, 0)
    assert constant == pytest.approx(1 - (199 / 200) ** 2)
    assert between is not None


def test_skill_and_brier_score_by_hand() -> None:
    """Three of four right with confidence."""
    rows = [
        candidate(at, r=r, ballots=(ballot("quant", 1, p),))
        for at, (r, p) in enumerate([(2.0, 0.9), (-1.0, 0.1), (-1.0, 0.1), (-1.0, 0.9)])
    ]
    (agent,) = grade(rows).agents
    assert agent.brier == pytest.approx((3 * 0.01 + 0.81) / 4)
    assert agent.skill == pytest.approx(1 - 0.84 / (1.0 + 3 / 9))
    assert agent.skill_interval is None  # of four answers
    assert [(each.low, each.count, each.won) for each in agent.bins] == [(0.1, 2, 0.0), (0.9, 2, 0.5)]


def test_statuses_votes_and_latency_are_counted() -> None:
    """Votes of those that answered; nothing is scored that was not said."""
    said = [
        ballot("quant", 1, 0.3, seconds=1.0),
        ballot("quant", -1, 0.2, seconds=2.0),
        ballot("quant", 0, 0.9, status="INVALID", seconds=9.0),
        ballot("quant", 0, None, status="TIMEOUT"),
    ]
    rows = [candidate(at, r=float(at) - 1.5, ballots=(each,)) for at, each in enumerate(said)]
    (agent,) = grade(rows).agents
    assert agent.asked == 4
    assert agent.scored == 2
    assert tuple(agent.statuses) == STATUSES
    assert (agent.statuses["OK"], agent.statuses["INVALID"], agent.statuses["TIMEOUT"]) == (2, 1, 1)
    assert agent.votes == {"for": 1, "neither": 0, "against": 1}
    assert agent.seconds == pytest.approx((2.0, 8.3))
    assert agent.proposed_weight == 0.0


@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=50), data=st.data())
@settings(deadline=None)
def test_every_stated_probability_is_in_one_bin(p: list[float], data: st.DataObject) -> None:
    """Bins hold all of them, in order, and each holds what lies between its ends."""
    won = np.array([float(data.draw(st.booleans())) for _ in p])
    found = list(bins_of(np.array(p), won))
    assert sum(each.count for each in found) == len(p)
    assert sum(each.count * each.won for each in found) == pytest.approx(won.sum())
    for each in found:
        assert each.low - 1e-9 <= each.stated <= each.high + 1e-9
    assert [each.low for each in found] == sorted(each.low for each in found)


def test_a_weight_is_proposed_only_for_a_record() -> None:
    """None without skill, more for more answers, never above 1, half of it for one who exaggerates by two."""
    rng = np.random.default_rng(3)
    p = rng.uniform(0.05, 0.6, 2_000)
    won = (rng.random(2_000) < p).astype(float)
    sure = Interval(low=0.05, high=0.2)
    assert proposed_weight(p, won, None) == 0.0
    assert proposed_weight(p, won, Interval(low=0.0, high=0.2)) == 0.0
    assert proposed_weight(p[: LEAST - 1], won[: LEAST - 1], sure) == 0.0
    few, many = proposed_weight(p[:200], won[:200], sure), proposed_weight(p, won, sure)
    assert 0 < few < many <= 2_000 / (2_000 + TRUST)
    loud = won.mean() + 2 * (p - won.mean())
    assert proposed_weight(loud, won, sure) == pytest.approx(many / 2, rel=0.15)


def test_skill_is_seen_where_it_is_and_not_where_it_is_not() -> None:
    """Agents that know the trend earn a weight; one that guesses earns none."""
    found = grade(full())
    assert all(each.skill_interval is not None and each.skill_interval.low > 0 for each in found.agents)
    assert all(0 < each.proposed_weight < 1 for each in found.agents)
    rng = np.random.default_rng(1)
    guessed = [
        replace(row, ballots=tuple(replace(each, p_win=float(rng.uniform(0, 0.6))) for each in row.ballots))
        for row in full()
    ]
    assert all((each.skill or 0.0) < 0 and each.proposed_weight == 0.0 for each in grade(guessed).agents)


# ---- the edge -----------------------------------------------------------------------------------------------------


@given(
    data=st.lists(st.tuples(st.floats(0, 1), st.floats(-5, 40)), min_size=1, max_size=60),
    shift=st.floats(-3, 3),
)
@settings(deadline=None)
def test_the_edge_does_not_depend_on_what_the_market_paid(data: list[tuple[float, float]], shift: float) -> None:
    """R more for all of them changes no edge; the same weight for all of them has none."""
    weights, r = (np.array(each) for each in zip(*data, strict=True))
    assert edge_of(weights, r + shift) == pytest.approx(edge_of(weights, r), abs=1e-9)
    assert edge_of(np.full(len(r), 0.5), r) == pytest.approx(0.0, abs=1e-9)


def test_blocks_grow_with_the_list() -> None:
    """The square root, five at least, twelve of them where there is room."""
    assert [block_length(count) for count in (1, 12, 40, 100, 1_000, 10_000)] == [1, 1, 3, 8, 32, 100]


# ---- curves -------------------------------------------------------------------------------------------------------


def test_curves_end_where_the_arms_do() -> None:
    """And the band of chance lies around what chance comes to."""
    rows = full(count=400)
    found, drawn = grade(rows), curves(rows)
    assert [name for name, _ in drawn.lines] == ["strict", "off", "rules"]
    for name, values in drawn.lines:
        assert len(values) == found.ended == len(drawn.time)
        assert values[-1] == pytest.approx(arm(found, name).total)
    assert drawn.low[-1] < arm(found, AT_RANDOM).total < drawn.high[-1]
    assert (drawn.low <= drawn.high).all()
    assert (np.diff(drawn.time) >= 0).all()
    assert not curves(SMALL[4:]).lines


# ---- what cannot be graded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([], "no candidate"),
        ([candidate(0, weight=1.5)], "weight"),
        ([candidate(0, weight=math.nan)], "weight"),
        ([replace(candidate(0), others={"rules": -0.1})], "weight"),
        ([candidate(0, r=math.inf)], "inf R"),
        ([candidate(0, r=1.0, ended=False)], "1.0 R"),
    ],
)
def test_what_is_no_record_is_refused(rows: list[Judged], match: str) -> None:
    """With the number of the verdict."""
    with pytest.raises(BadInput, match=match):
        grade(rows)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([candidate(0, r=None, ended=False)], "No candidate of 1 has an outcome yet."),
        ([candidate(0)], "Only 1 of its candidates has an outcome yet."),
        ([candidate(at, r=float(at)) for at in range(50)], "it gave all of them the same size"),
        ([candidate(at, weight=at % 2) for at in range(50)], "it met the same outcome each time"),
    ],
)
def test_little_is_no_evidence(rows: list[Judged], reason: str) -> None:
    """Nothing is said, and no number is given for it."""
    found = grade(rows)
    assert (found.word, found.needed, found.random) == ("insufficient evidence", None, None)
    assert reason in found.reason
    assert found.arms[0].interval is None


# ---- the word -----------------------------------------------------------------------------------------------------


def test_a_clear_case_of_few_is_not_enough() -> None:
    """Twenty vetoes, all of losers: the word waits for thirty on either side, and says so."""
    rows = [candidate(at, weight=float(at % 5 > 0), r=3.0 if at % 5 else -1.0) for at in range(100)]
    found = grade(rows)
    assert found.word == "insufficient evidence"
    assert "held back only 20 of them (30 needed)" in found.reason
    assert found.needed == 150
    turned = [replace(row, weight=1 - row.weight, r=-(row.r or 0.0)) for row in rows]
    assert "favoured only 20 of them" in grade(turned).reason


def test_the_reason_is_one_sentence_with_its_figures() -> None:
    """For all three words."""
    for kind, word in (("useful", "helps"), ("harmful", "hurts"), ("random", "insufficient evidence")):
        found = grade(bare(kind, 2))  # type: ignore[arg-type]
        assert found.word == word
        own = found.arms[0]
        assert own.interval is not None
        assert f"{abs(own.edge or 0.0):.3f} R a candidate" in found.reason
        assert f"{own.interval.low:+.3f} to {own.interval.high:+.3f} R" in found.reason
        assert f"of {8_000:,} random vetoes" in found.reason
        assert found.reason.endswith(".")
        assert (found.needed is None) == (word != "insufficient evidence")


def test_shrinking_counts_as_vetoing_does() -> None:
    """A council that halves what it would have vetoed has half the edge, and the same word."""
    rows = bare("useful", 3)
    halved = [replace(row, weight=0.5 + row.weight / 2) for row in rows]
    whole, half = grade(rows), grade(halved)
    assert (half.arms[0].edge or 0.0) == pytest.approx((whole.arms[0].edge or 0.0) / 2)
    assert half.word == whole.word == "helps"


def test_needed_is_about_what_is_needed() -> None:
    """What a short record asks for is enough for most records of that length."""
    short = [grade(bare("useful", seed, 100)) for seed in range(20)]
    asked = sorted(found.needed for found in short if found.needed is not None)
    middle = asked[len(asked) // 2]
    assert 100 < middle < 1_000
    assert sum(grade(bare("useful", seed, middle)).word == "helps" for seed in range(20)) >= 12


def test_needed_has_an_end() -> None:
    """Nobody waits for a million candidates, and the reason says so."""
    pairs = np.repeat(np.random.default_rng(4).normal(0, 2, 200), 2).tolist()
    rows = [candidate(at, weight=at % 2, r=r + (0.01 if at == 1 else 0.0)) for at, r in enumerate(pairs)]
    found = grade(rows)
    assert found.needed == MOST_NEEDED
    assert f"more than {MOST_NEEDED:,} candidates" in found.reason
    assert found.needs == "more than 100,000 needed"
    assert replace(found, needed=99_000).needs == "about 99,000 needed"
    assert replace(found, needed=None).needs == ""


@given(st.floats(1, MOST_NEEDED, exclude_max=True))
def test_an_estimate_is_rounded_up_and_stays_an_estimate(value: float) -> None:
    """To two digits; what is below the end is not told as being beyond it."""
    shown = _rounded(value)
    assert shown < MOST_NEEDED
    assert value - 1_000 <= shown <= value * 1.1 + 1


def words(kind: Kind, trials: int, count: int = 1000, *, trend: float = 6.0, first: int = FIRST_SEED) -> Counter[Word]:
    found = Counter(grade(bare(kind, first + at, count, trend=trend)).word for at in range(trials))
    if WHOLE:
        sys.stderr.write(f"\n{kind:12} {count:5} candidates, trends of {trend:g}: {dict(found)}")
    return found


def test_a_planted_useful_council_helps() -> None:
    """1,000 candidates, every time."""
    found = words("useful", TRIALS)
    assert found["helps"] >= TRIALS - TRIALS // 100


def test_a_planted_harmful_council_hurts() -> None:
    """The same, mirrored."""
    found = words("harmful", TRIALS)
    assert found["hurts"] >= TRIALS - TRIALS // 100


@pytest.mark.parametrize("kind", councils.USELESS)
def test_a_council_that_knows_nothing_is_not_praised(kind: Kind) -> None:
    """Whether it tosses a coin for each candidate, for each trend, or for forty in a row."""
    found = words(kind, TRIALS)
    assert found["helps"] <= TRIALS // 100
    assert found["hurts"] <= TRIALS // 100


@pytest.mark.skipif(not WHOLE, reason="part of the whole calibration")
@pytest.mark.parametrize("count", [80, 200])
@pytest.mark.parametrize("kind", councils.USELESS)
def test_few_candidates_do_not_fool_it(kind: Kind, count: int) -> None:
    """A short record is judged as strictly."""
    assert words(kind, TRIALS, count)["helps"] <= TRIALS // 100


@pytest.mark.skipif(not WHOLE, reason="part of the whole calibration")
@pytest.mark.parametrize("kind", councils.USELESS)
def test_long_trends_do_not_fool_it(kind: Kind) -> None:
    """Twenty candidates win or lose together."""
    assert words(kind, TRIALS, trend=20.0)["helps"] <= TRIALS // 50


@pytest.mark.skipif(not WHOLE, reason="part of the whole calibration")
def test_looking_again_and_again_does_not_fool_it() -> None:
    """A council that tosses a coin, looked at after every fifty candidates up to 1,000."""
    fooled = 0
    for trial in range(TRIALS):
        rows = bare("random", FIRST_SEED + trial)
        fooled += any(grade(rows[:count]).word == "helps" for count in range(50, 1_001, 50))
    sys.stderr.write(f"\nlooked at twenty times: {fooled} of {TRIALS} were praised once")
    assert fooled <= TRIALS // 40


RECORDED = {
    "BTCUSDT": "binance-perp/BTCUSDT-1h-20190908-20260517.parquet",
    "ETHUSDT": "binance-perp/ETHUSDT-1h-20191127-20260517.parquet",
}


@pytest.fixture(scope="module")
def outcomes(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, float]]:
    """Symbol, side and R of every candidate of the recorded candles that ended, in order of time."""
    out = tmp_path_factory.mktemp("eval")
    files = [f"{symbol}={test_data / name}" for symbol, name in RECORDED.items()]
    command = [sys.executable, "main.py", "council", "eval", "--candles", *files, "--interval", "240"]
    subprocess.run([*command, "--council", "rules", "--out", str(out)], cwd=ROOT, check=True, capture_output=True)
    (book,) = out.glob("*.xlsx")
    sheet = openpyxl.load_workbook(io.BytesIO(book.read_bytes()), read_only=True)["Candidates"]
    header, *rows = sheet.iter_rows(values_only=True)
    places = [header.index(name) for name in ("Symbol", "Side", "R at full size")]
    found = [tuple(row[place] for place in places) for row in rows]
    return [(symbol, side, r) for symbol, side, r in found if r is not None]


def by_run(outcomes: list[tuple[str, str, float]], rng: np.random.Generator) -> list[bool]:
    """A coin for each run of candidates of one symbol and side: whole trends, as the market made them."""
    sides: dict[str, str] = {}
    vetoes: dict[str, bool] = {}
    found = []
    for symbol, side, _ in outcomes:
        if sides.get(symbol) != side:
            sides[symbol], vetoes[symbol] = side, bool(rng.random() < 0.5)
        found.append(vetoes[symbol])
    return found


@pytest.mark.skipif(not WHOLE, reason="part of the whole calibration")
@pytest.mark.parametrize("count", [1_000, 3_000])
@pytest.mark.parametrize("kind", ["a coin each", "a coin for forty", "a coin for each run"])
def test_recorded_outcomes_do_not_fool_it(outcomes: list[tuple[str, str, float]], kind: str, count: int) -> None:
    """Real candidates, whose outcomes stay alike for thirty on end, and councils that know nothing of them."""
    found: Counter[Word] = Counter()
    for trial in range(TRIALS):
        rng = np.random.default_rng([FIRST_SEED, trial])
        length = {"a coin each": 1, "a coin for forty": 40}.get(kind, 0)
        start = int(rng.integers(0, len(outcomes) - count + 1))
        shown = outcomes[start : start + count]
        coins = rng.random(count) < 0.5
        vetoes = np.repeat(coins, length)[:count].tolist() if length else by_run(shown, rng)
        rows = [candidate(at, weight=float(not vetoes[at]), r=shown[at][2]) for at in range(count)]
        found[grade(rows).word] += 1
    sys.stderr.write(f"\nrecorded, {kind}, {count} candidates: {dict(found)}")
    assert found["helps"] <= TRIALS // 50


def test_two_thousand_candidates_take_less_than_a_second() -> None:
    """With all their ballots, in this process's own time."""
    rows = full(count=2_000)
    started = time.process_time()
    grade(rows)
    assert time.process_time() - started < 1.0
