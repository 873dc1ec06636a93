"""The Excel file of a council's grade: the word, every arm, every candidate, the agents, and what they cost."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from research.grade import AT_RANDOM, LEAST, MOST_NEEDED, OFF, WITHOUT
from research.workbook.book import GAIN, HOLD, LOSS, Book, Column, Kind, Sheet
from trading.grades import AgentGrade, Arm, Ballot, Grade, Interval, Judged, Word
from trading.model import utc

_COLOURS: Final[dict[Word, str]] = {"helps": GAIN, "hurts": LOSS, "insufficient evidence": "#b07d00"}
_WIDTHS: Final = (34, *(13,) * 9, 60)
_STANCES: Final = {1: "for", 0: "neither", -1: "against"}
_TIME, _RUNNING, _UNVETOED = 1, 9, 10  # columns of the candidates' sheet that feed the chart

Figure = tuple[str, Any, Kind, str]  # label, value, kind, meaning


def write_grade(grade: Grade, rows: Sequence[Judged], title: str) -> bytes:
    """The grade of these candidates as an xlsx file. What is undefined is an empty cell; times are UTC."""
    rows = sorted(rows, key=lambda row: (row.at, row.verdict_id))
    book = Book()
    front = book.sheet("Summary", landscape=True, pages=1)
    _candidates(book.sheet("Candidates"), grade, rows)
    _agents(book.sheet("Agents"), grade)
    _costs(book.sheet("Costs", landscape=False), grade, rows)
    _summary(front, grade, len(rows), title)
    return book.finished()


# Summary


def _summary(sheet: Sheet, grade: Grade, rows: int, title: str) -> None:
    """The front page; `rows` are those of the candidates' sheet, which feeds its chart."""
    for at, wide in enumerate(_WIDTHS):
        sheet.page.set_column(at, at, wide)
    first, last = (f"{utc(each):%Y-%m-%d %H:%M}" for each in (grade.first, grade.last))
    sheet.text(0, 0, title, "title")
    sheet.text(1, 0, f"{first} to {last} UTC, {grade.candidates:,} candidates, council: {grade.council}", "note")
    look = {"bold": True, "font_size": 16, "font_color": "#ffffff", "bg_color": _COLOURS[grade.word]}
    sheet.page.merge_range(3, 0, 3, len(_WIDTHS) - 1, "", sheet.book.style("", None, **look))
    about = f" ({grade.needs})" if grade.needs else ""
    sheet.text(3, 0, f"{grade.word.upper()}{about}", "", **look)
    sheet.page.set_row(3, 26)
    sheet.text(4, 0, grade.reason, "bold")
    row = _arms(sheet, 6, grade)
    row = _figures(sheet, row + 1, grade)
    if grade.last > grade.first:
        shape = {"sheet": "Candidates", "left": _TIME, "rows": (1, rows), "span": (grade.first, grade.last)}
        lines = [(grade.council, _RUNNING, GAIN), ("no council", _UNVETOED, HOLD)]
        title = "Running total of the candidates that ended, R"
        sheet.curve(f"A{row + 2}", title, lines, format="#,##0", width=1060, **shape)
    sheet.page.freeze_panes(4, 0)


def _arms(sheet: Sheet, top: int, grade: Grade) -> int:
    """Every way of deciding on the same candidates; returns the next free row."""
    arms = grade.arms
    columns = [
        Column(name="Arm", values=[_called(arm, at) for at, arm in enumerate(arms)], kind="text"),
        Column(name="Approved", values=_shown(arms, lambda arm: arm.approved), kind="count"),
        Column(name="Vetoed", values=_shown(arms, lambda arm: arm.vetoed), kind="count"),
        Column(name="Mean size", values=_shown(arms, lambda arm: arm.weight), kind="percent"),
        Column(name="Mean R approved", values=_shown(arms, lambda arm: arm.mean_approved), kind="fine"),
        Column(name="Mean R vetoed", values=_shown(arms, lambda arm: arm.mean_vetoed), kind="fine"),
        Column(name="Total R", values=_shown(arms, lambda arm: arm.total), kind="ratio"),
        Column(name="Edge R", values=_shown(arms, lambda arm: arm.edge), kind="fine"),
        *_ends([arm.interval for arm in arms]),
    ]
    end = sheet.table(top, columns, widths=False)
    sheet.text(top, len(columns), "What it is", "header")
    for row, arm in enumerate(arms, top + 1):
        sheet.text(row, len(columns), _meaning(arm, row == top + 1), "meaning")
    return end


def _shown(arms: Sequence[Arm], figure: Callable[[Arm], Any]) -> list[Any]:
    """A figure of each; none where no decision differs from the council's."""
    return [None if arm.same else figure(arm) for arm in arms]


def _ends(intervals: Iterable[Interval | None]) -> tuple[Column, Column]:
    """Both ends of 95 % intervals."""
    found = list(intervals)
    return (
        Column(name="95% from", values=[each and each.low for each in found], kind="fine"),
        Column(name="95% to", values=[each and each.high for each in found], kind="fine"),
    )


def _called(arm: Arm, at: int) -> str:
    return f"{arm.name} (the council)" if not at else "off: no council" if arm.name == OFF else arm.name


_WITHOUT: Final = "Its ballots without that agent, as far as they tell."
_SAME: Final = "No decision differs, which says nothing about that agent."


def _meaning(arm: Arm, own: bool) -> str:
    if own:
        return "Edge: R for each candidate more than vetoing as much at random."
    if arm.name == OFF:
        return "Every candidate at full size."
    if arm.name == AT_RANDOM:
        return "As much, of other candidates; the interval holds 95% of such edges."
    if arm.same:
        return _SAME
    return _WITHOUT if arm.name.startswith(WITHOUT) else "What another council said of them."


def _figures(sheet: Sheet, top: int, grade: Grade) -> int:
    sheet.page.merge_range(top, 2, top, len(_WIDTHS) - 1, "", sheet.book.style("header", None))
    for at, name in enumerate(("Figure", "Value", "What it means")):
        sheet.text(top, at, name, "header")
    rows = _figures_of(grade)
    for row, (name, value, kind, meaning) in enumerate(rows, top + 1):
        sheet.text(row, 0, name, "label")
        sheet.number(row, 1, value, kind, "bold")
        sheet.text(row, 2, meaning, "meaning")
    return top + 1 + len(rows)


def _figures_of(grade: Grade) -> tuple[Figure, ...]:
    return (
        ("Candidates", grade.candidates, "count", "That the council decided on."),
        ("Ended", grade.ended, "count", "With an outcome in R, traded or not: all of this is of these."),
        ("Never filled", grade.unfilled, "count", "Their entries were not reached: no outcome."),
        ("Still waiting", grade.waiting, "count", "They have not ended."),
        ("Not known", grade.lost, "count", "Nobody could follow them to their end: no outcome."),
        ("Base rate", grade.base_rate, "percent", "Share of the ended ones that won."),
        ("Losses avoided, R", grade.avoided, "ratio", "Of losers, times what was taken off their size."),
        ("Gains missed, R", grade.missed, "ratio", "The same of winners."),
        ("Random vetoes as good", grade.random, "percent", "Share of random vetoes that earned at least as much."),
        ("Needed", grade.needed, "count", _needed(grade)),
        ("Cost USD", grade.cost_usd, "fine", _paid_for(grade)),
        ("Cost of a decision USD", grade.cost_per_decision, "fine", "The same for each candidate."),
        ("Cost of a month USD", grade.cost_per_month, "money", "At the pace of these days, one at least."),
        ("Days", grade.days, "ratio", "From the first decision to the last."),
    )  # fmt: skip


def _needed(grade: Grade) -> str:
    if grade.needed is not None and grade.needed >= MOST_NEEDED:
        return f"More than that: {LEAST} on either side, and an edge like this one shown."
    return f"About how many ended ones show such an edge, {LEAST} on either side."


def _paid_for(grade: Grade) -> str:
    if any(agent.calls is not None for agent in grade.agents):
        return "Of all calls to models in this time, also for what was never decided."
    return "Of the calls to models for these candidates."


# Candidates


def _candidates(sheet: Sheet, grade: Grade, rows: Sequence[Judged]) -> None:
    """Every candidate, with what each agent said of it."""
    earned = [None if row.r is None else row.weight * row.r for row in rows]
    columns = [
        Column(name="Verdict", values=[row.verdict_id for row in rows], kind="count"),
        Column(name="Decided UTC", values=[row.at for row in rows], kind="time"),
        Column(name="Symbol", values=[row.symbol for row in rows], kind="text"),
        Column(name="Side", values=[row.side for row in rows], kind="text"),
        Column(name="Council", values=[row.council for row in rows], kind="text"),
        Column(name="Size", values=[row.weight for row in rows], kind="percent"),
        Column(name="Outcome", values=[_outcome(row) for row in rows], kind="text"),
        Column(name="R at full size", values=[row.r for row in rows], kind="ratio"),
        Column(name="R earned", values=earned, kind="ratio"),
        Column(name="Running total R", values=_running(earned), kind="ratio"),
        Column(name="Running total without council R", values=_running([row.r for row in rows]), kind="ratio"),
        *_sizes(rows),
        *(column for agent in grade.agents for column in _said(agent.agent, rows)),
    ]
    end = sheet.listed(0, columns)
    if end > 1:
        sheet.colours(1, 7, end - 1, 8)


def _sizes(rows: Sequence[Judged]) -> list[Column]:
    """What other councils allowed."""
    names = dict.fromkeys(name for row in rows for name in row.others)
    return [
        Column(name=f"Size by {name}", values=[row.others.get(name) for row in rows], kind="percent") for name in names
    ]


def named(agent: str) -> str:
    """An agent as it is written: Risk Manager."""
    return agent.replace("_", " ").title()


def _outcome(row: Judged) -> str:
    if row.lost:
        return "not known"
    if row.r is None:
        return "never filled" if row.ended else "waiting"
    return "won" if row.r > 0 else "lost"


def _running(values: Sequence[float | None]) -> list[float]:
    """The total after each row; one without an outcome leaves it as it is."""
    total, found = 0.0, []
    for value in values:
        total += value or 0.0
        found.append(total)
    return found


def _said(agent: str, rows: Sequence[Judged]) -> list[Column]:
    """What one agent said of each candidate, empty where it was not asked."""
    name = named(agent)
    ballots = [next((ballot for ballot in row.ballots if ballot.agent == agent), None) for row in rows]
    return [
        Column(name=f"{name} status", values=_each(ballots, lambda each: each.status, ""), kind="text"),
        Column(name=f"{name} vote", values=_each(ballots, _vote, ""), kind="text"),
        Column(name=f"{name} chance to win", values=_each(ballots, lambda each: each.p_win), kind="percent"),
        Column(name=f"{name} seconds", values=_each(ballots, lambda each: each.seconds), kind="ratio"),
        Column(name=f"{name} cost USD", values=_each(ballots, lambda each: each.cost_usd), kind="fine"),
    ]


def _each(ballots: Sequence[Ballot | None], what: Callable[[Ballot], Any], missing: Any = None) -> list[Any]:
    return [missing if ballot is None else what(ballot) for ballot in ballots]


def _vote(ballot: Ballot) -> str:
    return _STANCES[ballot.stance] if ballot.status == "OK" else ""


# Agents


def _agents(sheet: Sheet, grade: Grade) -> None:
    """A row for each agent, and below them the bins of what they stated."""
    agents = grade.agents
    end = sheet.table(0, [*_scores(agents), *_tallies(agents)])
    sheet.page.freeze_panes(1, 1)
    notes = (
        "Skill: 1 - Brier score / that of the base rate alone; at 0 or below it knows no more than that rate.",
        "Proposed weight: how much of what it states against the base rate it has earned. Nothing applies it.",
    )
    row = sheet.lines(end + 1, notes) + 1
    sheet.text(row, 0, "Reliability", "heading")
    found = [(agent.agent, each) for agent in agents for each in agent.bins]
    columns = [
        Column(name="Agent", values=[named(agent) for agent, _ in found], kind="text"),
        Column(name="Stated from", values=[each.low for _, each in found], kind="percent"),
        Column(name="Stated to", values=[each.high for _, each in found], kind="percent"),
        Column(name="Answers", values=[each.count for _, each in found], kind="count"),
        Column(name="Stated on average", values=[each.stated for _, each in found], kind="percent"),
        Column(name="Came true", values=[each.won for _, each in found], kind="percent"),
    ]
    sheet.table(row + 1, columns, widths=False)


def _scores(agents: Sequence[AgentGrade]) -> list[Column]:
    return [
        Column(name="Agent", values=[named(each.agent) for each in agents], kind="text", width=18),
        Column(name="Asked", values=[each.asked for each in agents], kind="count", width=11),
        Column(name="Scored", values=[each.scored for each in agents], kind="count", width=11),
        Column(name="Brier score", values=[each.brier for each in agents], kind="fine", width=11),
        Column(name="Skill", values=[each.skill for each in agents], kind="percent", width=11),
        Column(name="Skill 95% from", values=[_end(each, "low") for each in agents], kind="percent", width=11),
        Column(name="Skill 95% to", values=[_end(each, "high") for each in agents], kind="percent", width=11),
        Column(name="Proposed weight", values=[each.proposed_weight for each in agents], kind="ratio", width=11),
    ]


def _end(agent: AgentGrade, name: str) -> float | None:
    return None if agent.skill_interval is None else getattr(agent.skill_interval, name)


def _tallies(agents: Sequence[AgentGrade]) -> list[Column]:
    """How often each vote and each status."""
    votes = dict.fromkeys(vote for each in agents for vote in each.votes)
    statuses = dict.fromkeys(status for each in agents for status in each.statuses)
    found = [(f"Voted {vote}", [each.votes.get(vote, 0) for each in agents]) for vote in votes]
    found += [(status, [each.statuses.get(status, 0) for each in agents]) for status in statuses]
    return [Column(name=name, values=values, kind="count") for name, values in found]


# Costs


def _costs(sheet: Sheet, grade: Grade, rows: Sequence[Judged]) -> None:
    """By agent with their latency, and by month."""
    agents = grade.agents
    columns = [
        Column(name="Agent", values=[*(named(each.agent) for each in agents), "All"], kind="text", width=18),
        Column(name="Cost USD", values=[*(each.cost_usd for each in agents), grade.cost_usd], kind="fine", width=13),
        Column(name="USD for each candidate", values=_per_candidate(grade), kind="fine", width=14),
        *_volumes(agents),
        Column(name="Median seconds", values=[each.seconds and each.seconds[0] for each in agents], kind="ratio"),
        Column(name="95% within seconds", values=[each.seconds and each.seconds[1] for each in agents], kind="ratio"),
        *_rates(agents),
    ]
    row = sheet.table(0, columns)
    row = sheet.lines(row + 1, _cost_notes(grade)) + 1
    sheet.text(row, 0, "By month, UTC", "heading")
    _months(sheet, row + 1, [each.agent for each in agents], rows)


def _volumes(agents: Sequence[AgentGrade]) -> list[Column]:
    """Calls and reported tokens, where a record of them is kept."""
    if all(each.calls is None for each in agents):
        return []
    told = [each.tokens or (None, None) for each in agents]
    return [
        Column(
            name="Calls",
            values=[*(each.calls for each in agents), sum(each.calls or 0 for each in agents)],
            kind="count",
        ),
        Column(name="Tokens in", values=[each for each, _ in told], kind="count"),
        Column(name="Tokens out", values=[each for _, each in told], kind="count"),
    ]


_RATES: Final = (
    ("Invalid", ("INVALID",)),
    ("Timed out", ("TIMEOUT",)),
    ("Other failures", ("ABSTAIN", "QUOTA", "ERROR", "SKIPPED_BUDGET")),
)


def _per_candidate(grade: Grade) -> list[float]:
    return [*(each.cost_usd / grade.candidates for each in grade.agents), grade.cost_per_decision]


def _rates(agents: Sequence[AgentGrade]) -> list[Column]:
    return [
        Column(name=name, values=[_rate(each, *statuses) for each in agents], kind="percent", width=12)
        for name, statuses in _RATES
    ]


def _rate(agent: AgentGrade, *statuses: str) -> float | None:
    return sum(agent.statuses.get(each, 0) for each in statuses) / agent.asked if agent.asked else None


def _cost_notes(grade: Grade) -> list[str]:
    notes = ["Seconds and costs are of all calls for an answer together, repairs included; rules in code have neither."]
    if grade.cost_per_month is not None:
        notes.append(f"At this pace a month costs about {grade.cost_per_month:,.2f} USD.")
    return notes


def _months(sheet: Sheet, top: int, agents: Sequence[str], rows: Sequence[Judged]) -> None:
    paid: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for month, agent, cost in _costs_of(rows):
        paid[month, agent].append(cost)
    counts = Counter(map(_month, rows))
    months = sorted({*counts, *(month for month, _ in paid)})
    spent = [[math.fsum(paid[month, agent]) for month in months] for agent in agents]
    columns = [
        Column(name="Month", values=months, kind="text"),
        Column(name="Candidates", values=[counts[month] for month in months], kind="count"),
        *(
            Column(name=f"{named(name)} USD", values=each, kind="fine")
            for name, each in zip(agents, spent, strict=True)
        ),
        Column(name="All USD", values=[math.fsum(each) for each in zip(*spent, strict=True)], kind="fine"),
    ]
    sheet.table(top, columns, widths=False)


def _costs_of(rows: Sequence[Judged]) -> Iterator[tuple[str, str, float]]:
    """Month, agent and USD of everything that was paid: by the record of calls where there is one."""
    if any(row.bills is not None for row in rows):
        yield from ((f"{b.day:%Y-%m}", b.agent, float(b.cost_usd)) for row in rows for b in row.bills or ())
        return
    yield from ((_month(row), ballot.agent, ballot.cost_usd) for row in rows for ballot in row.ballots)


def _month(row: Judged) -> str:
    return f"{utc(row.at):%Y-%m}"
