"""The council itself: how good it is, in which mode it decides, and what it reads in a market now.

Figures of a grade are those of the laboratory (`trading.grades`), in R of candidates that were each followed to their
end, traded or not. What models wrote passes through `prose`, like everything else from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from bot.cards import MODE_MEANS, Look, agent_name, seconds_of, strongest_no, testimony_line
from bot.ports import Advice
from bot.text import UNKNOWN, coin, counted, fitted, moment, multiple, own, percent, price, prose, signed, word
from bot.views.table import Column, per_cent, table
from bot.views.table import multiple as short_multiple
from trading.events import AgentAnswer, Testimony
from trading.grades import AgentGrade, Arm, Grade, Judged, paid
from trading.ports import Deliberation

LEAST_ENDED: Final = 5
"""Candidates that must have ended before a grade says more than their count."""
_SENTENCE: Final = 240
_MOST_AGENTS: Final = 6
_MOST_ARMS: Final = 12
_MOST_REASONS: Final = 8
_SHORT: Final = {"strategist": "Strateg.", "risk_manager": "Risk mgr"}
_VOTES: Final = (
    Column("AGENT", 9, left=True),
    Column("FOR", 4),
    Column("AGN", 4),
    Column("NEU", 4),
    Column("INV%", 4),
    Column("TMO%", 4),
)
_SCORES: Final = (
    Column("AGENT", 9, left=True),
    Column("BRIER", 5),
    Column("SKILL", 5),
    Column("N", 4),
    Column("SEC", 4),
)
_ARMS: Final = (
    Column("ARM", 11, left=True),
    Column("IN", 4),
    Column("OUT", 4),
    Column("TOTAL", 6),
    Column("EDGE", 5),
)
_EFFECTS: Final[Mapping[str, str]] = {
    "degraded": "A missing Quant or Strategist stops no trade any more: its rules vote for it, at half size.",
    "rules": "No model can veto any more: rules in code decide alone.",
    "shadow": "No model can veto any more: rules in code decide; the models are asked beside them, and paid.",
    "off": "Nothing but the strategy decides: no veto, no smaller size, no guard, no loss limit and no breaker.",
}


# The grade


def grade_view(grade: Grade, notes: Sequence[str], look: Look) -> str:
    """The scoreboard: the word and why, approved against vetoed, every agent, every arm, and what it cost.

    `notes` (HTML) say whose decisions are counted.
    """
    lines = [_grade_headline(grade, look), prose(grade.reason, 400), *_sides(grade)]
    if grade.agents:
        lines += [table(_VOTES, [_votes_row(each) for each in grade.agents[:_MOST_AGENTS]])]
        lines += [table(_SCORES, [_scores_row(each) for each in grade.agents[:_MOST_AGENTS]])]
        lines += _explained(grade)
    lines += [table(_ARMS, [_arm_row(arm) for arm in grade.arms[:_MOST_ARMS] if not arm.same])]
    lines.append("IN, OUT: candidates taken, vetoed. TOTAL: R earned. EDGE: R a candidate over vetoing at random")
    lines += _no_difference(grade.arms[:_MOST_ARMS])
    return fitted([*lines, *_bill(grade), *_counts(grade, look), *notes])


def grade_caption(grade: Grade, look: Look) -> str:
    """The headline and the reason, below the chart or the workbook."""
    return "\n".join([_grade_headline(grade, look), prose(grade.reason, 400)])


def _grade_headline(grade: Grade, look: Look) -> str:
    about = f" ({grade.needs})" if grade.needs else ""
    name = f"{look.lead} <b>council {word(grade.council, 40)}: {word(grade.word).upper()}{about}</b>"
    return f"{name}, {grade.ended} of {counted(grade.candidates, 'candidate')} ended"


def _sides(grade: Grade) -> list[str]:
    """What was approved against what was vetoed, and what the difference was worth."""
    own_arm = next(iter(grade.arms), None)
    lines = []
    if own_arm is not None:
        approved = f"Approved {own_arm.approved}, mean {_mean(own_arm.mean_approved)}"
        lines.append(f"{approved} · vetoed {own_arm.vetoed}, mean {_mean(own_arm.mean_vetoed)}")
    lines.append(f"Avoided loss {_plain_r(grade.avoided)}, missed gain {_plain_r(grade.missed)}")
    rates = [f"{percent(grade.base_rate, 0)} of all won"] if grade.base_rate is not None else []
    rates += [f"{percent(grade.random, 1)} of random vetoes earned as much"] if grade.random is not None else []
    return [*lines, " · ".join(rates)] if rates else lines


def _mean(value: float | None) -> str:
    return UNKNOWN if value is None else multiple(value, 2)


def _plain_r(value: float) -> str:
    """A positive sum in R, without a sign."""
    return multiple(value).removeprefix("+")


def _votes_row(agent: AgentGrade) -> list[str]:
    votes = [str(agent.votes.get(each, 0)) for each in ("for", "against", "neither")]
    return [_short(agent.agent), *votes, _rate(agent, "INVALID"), _rate(agent, "TIMEOUT")]


def _rate(agent: AgentGrade, status: str) -> str:
    return per_cent(agent.statuses.get(status, 0) / agent.asked) if agent.asked else UNKNOWN


def _scores_row(agent: AgentGrade) -> list[str]:
    brier = UNKNOWN if agent.brier is None else f"{agent.brier:.3f}"
    skill = UNKNOWN if agent.skill is None else signed(max(agent.skill, -9.99), 2)
    seconds = UNKNOWN if agent.seconds is None else f"{agent.seconds[0]:.1f}"
    return [_short(agent.agent), brier, skill, str(agent.scored), seconds]


def _short(agent: str) -> str:
    return _SHORT.get(agent, agent.replace("_", " ").capitalize())


def _explained(grade: Grade) -> list[str]:
    """What stands in the tables, other failures than those, and what each record would earn."""
    lines = ["FOR, AGN, NEU: votes for, against, neither. INV, TMO: per cent of answers that were invalid, too late"]
    lines.append("BRIER: 0 is perfect. SKILL: over the base rate alone, 0 knows nothing. SEC: median seconds")
    lines += _failures({each.agent: each.statuses for each in grade.agents[:_MOST_AGENTS]})
    weights = [f"{agent_name(each.agent)} {each.proposed_weight:.2f}" for each in grade.agents[:_MOST_AGENTS]]
    return [*lines, f"Weight by track record, proposed and not applied: {', '.join(weights)}"]


def _failures(statuses: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Which failures there were, by agent; nothing where there was none."""
    told = []
    for agent, counts in statuses.items():
        failed = [f"{word(status)} {count}" for status, count in counts.items() if status != "OK" and count]
        told += [f"{agent_name(agent)} {', '.join(failed[:_MOST_AGENTS])}"] if failed else []
    return [f"Not OK: {'; '.join(told)}"] if told else []


def _arm_row(arm: Arm) -> list[str]:
    edge = UNKNOWN if arm.edge is None else signed(max(min(arm.edge, 99.0), -99.0), 2)
    name = arm.name.replace("without ", "w/o ").replace("risk manager", "risk m.")
    return [name, str(arm.approved), str(arm.vetoed), short_multiple(arm.total), edge]


def _no_difference(arms: Sequence[Arm]) -> list[str]:
    """Whom leaving out changes nothing: that is no figure of theirs."""
    names = [word(arm.name.removeprefix("without "), 40) for arm in arms if arm.same]
    told = "no decision differs, which says nothing about"
    return [f"Without {' or '.join(names)} {told} {'it' if len(names) == 1 else 'them'}"] if names else []


def _bill(grade: Grade) -> list[str]:
    if not grade.cost_usd:
        return ["It cost nothing: no model was asked that is paid"]
    month = "" if grade.cost_per_month is None else f", {usd(grade.cost_per_month)} a month"
    bill = f"Cost {usd(grade.cost_per_decision)} a decision{month}, {usd(grade.cost_usd)} so far"
    calls = sum(agent.calls or 0 for agent in grade.agents)
    if not calls:
        return [bill]
    ins, outs = (sum(agent.tokens[at] for agent in grade.agents if agent.tokens) for at in (0, 1))
    return [bill, f"All {counted(calls, 'call')} of the time counted, {ins:,} tokens in, {outs:,} out"]


def usd(amount: float | Decimal) -> str:
    """Dollars for a model, with four digits behind the point below one."""
    value = float(amount)
    return f"{value:,.2f} USD" if abs(value) >= 1 else f"{value:.4f} USD"


def _counts(grade: Grade, look: Look) -> list[str]:
    """What is not in the figures, and when they are from."""
    first, last = (datetime.fromtimestamp(at / 1000, UTC) for at in (grade.first, grade.last))
    lines = [f"Decided {moment(first, look.zone)} to {moment(last, look.zone)}, {counted(round(grade.days), 'day')}"]
    open_ = [f"{grade.unfilled} would not have filled" if grade.unfilled else ""]
    open_ += [f"{grade.waiting} still followed" if grade.waiting else ""]
    open_ += [f"{grade.lost} not known" if grade.lost else ""]
    lines += [", ".join(each for each in open_ if each)] if any(open_) else []
    return lines


def no_grade_view(rows: Sequence[Judged], why: str, notes: Sequence[str], look: Look) -> str:
    """What can be counted while there is no grade, and `why` there is none; `rows` are those of one council."""
    if not rows:
        return f"{look.lead} <b>no decision yet</b>: the scoreboard begins with the first one"
    ended = sum(row.r is not None for row in rows)
    unfilled = sum(row.ended and row.r is None for row in rows)
    approved = sum(row.weight > 0 for row in rows)
    lost = sum(row.lost for row in rows)
    head = f"{look.lead} <b>council {word(rows[-1].council, 40)}: {counted(len(rows), 'decision')}, {ended} ended</b>"
    lines = [f"{head}, no grade", why]
    lines.append(f"Approved {approved}, vetoed {len(rows) - approved}")
    followed = f"{len(rows) - ended - unfilled - lost} still followed, {unfilled} would not have filled"
    lines.append(followed + (f", {lost} not known" if lost else ""))
    return fitted([*lines, *_ballots(rows), *notes])


def too_few(ended: int) -> str:
    """Why there is no grade of so few."""
    left = counted(LEAST_ENDED - ended, "more candidate")
    return f"A grade takes {LEAST_ENDED} candidates that have ended, traded or not: {left} to come"


def _ballots(rows: Sequence[Judged]) -> list[str]:
    """Votes and failures so far, and what they cost."""
    statuses: dict[str, dict[str, int]] = {}
    stances: dict[str, dict[int, int]] = {}
    for ballot in (ballot for row in rows for ballot in row.ballots):
        counts, votes = statuses.setdefault(ballot.agent, {}), stances.setdefault(ballot.agent, {})
        counts[ballot.status] = counts.get(ballot.status, 0) + 1
        if ballot.status == "OK":
            votes[ballot.stance] = votes.get(ballot.stance, 0) + 1
    cost = _cost(rows)
    if not statuses:
        return ["No agent was asked"]
    lines = [
        f"{agent_name(agent)}: {votes.get(1, 0)} for, {votes.get(-1, 0)} against, {votes.get(0, 0)} neither"
        for agent, votes in list(stances.items())[:_MOST_AGENTS]
    ]
    return [*lines, *_failures(statuses), *([f"Cost {usd(cost)} so far"] if cost else [])]


def _cost(rows: Sequence[Judged]) -> float:
    """What the models were paid: by the record of calls where there is one, else by the ballots."""
    if any(row.bills is not None for row in rows):
        return float(sum((bill.cost_usd for bill in paid(rows).values()), Decimal(0)))
    return sum(ballot.cost_usd for row in rows for ballot in row.ballots)


# The mode


def modes_view(mode: str, health: str, missing: Mapping[str, str], look: Look) -> str:
    """Who decides now, and what else there could be: a line for each mode, with what is missing for it.

    `health` says which agents do not answer; empty when all do.
    """
    head = f"{look.lead} <b>council {word(mode)}</b>: {MODE_MEANS.get(mode, 'not one of the usual modes')}"
    lines = [head]
    if health:
        lines.append(f"Impaired: {prose(health, 300)}")
    for name, means in MODE_MEANS.items():
        if name != mode:
            lack = missing.get(name, "is not known here")
            lines.append(f"<b>{name}</b> – {means}" + (f". Not possible now: it {own(lack, 300)}" if lack else ""))
    return fitted([*lines, "Stricter is done at once; what may let more trades through asks the owner."])


def mode_change(old: str, new: str, look: Look) -> list[str]:
    """The card that asks the owner: old → new with its effect, in lines."""
    return [
        f"{look.lead} <b>Change the council?</b> {word(old)} → {word(new)}",
        f"Now {word(old)}: {MODE_MEANS.get(old, UNKNOWN)}",
        f"Then {word(new)}: {MODE_MEANS.get(new, UNKNOWN)}",
        _EFFECTS.get(new, "This may let more trades through."),
        "Holds from the next candidate on, also after a restart. Open trades are looked after as before.",
    ]


# Advice


def advice_view(advice: Advice, look: Look) -> str:
    """What the council reads in a market now. The first line says that nothing is ordered."""
    name, ruling = coin(advice.symbol), advice.ruling
    if advice.problem or ruling is None:
        why = prose(advice.problem, 400) or "it said nothing"
        return f"{look.lead} <b>no reading of {name}</b>: {why}. Nothing was ordered"
    side = "" if advice.side is None else f" {advice.side.value.upper()}"
    head = f"{look.lead} <b>{name}{side}: the council would {_would(ruling)}</b>"
    lines = [f"{head}. This is a reading, nothing is ordered"]
    close = UNKNOWN if advice.close is None else price(advice.close)
    at = "" if advice.at is None else f" of {moment(advice.at, look.zone)}"
    lines.append(f"Council {word(advice.council)} on the close {close}{at}")
    if advice.why:
        lines.append(f"Why{side or ' this side'}: {prose(advice.why, _SENTENCE)}")
    lines += _heard(advice, ruling)
    strongest = strongest_no(ruling.answers, advice.side) if advice.side is not None else ""
    lines += [f"Strongest no: “{prose(strongest, _SENTENCE)}”"] if strongest else []
    lines += [f"– {prose(reason, _SENTENCE)}" for reason in ruling.reasons[:_MOST_REASONS]]
    return "\n".join([*lines, *_spent(advice.said)])


def _would(ruling: Deliberation) -> str:
    if not ruling.approved:
        return "reject it"
    size = ruling.size_multiplier
    return "approve it at full size" if size >= 1 else f"approve {percent(size, 0)} of the size"


def _heard(advice: Advice, ruling: Deliberation) -> list[str]:
    """Everybody who was asked; where no model was, the answers that there are."""
    if advice.said:
        return [line for said in advice.said[:_MOST_AGENTS] for line in voice(said.answer, testimony_line(said))]
    return [line for answer in ruling.answers[:_MOST_AGENTS] for line in voice(answer)]


def voice(answer: AgentAnswer, head: str = "") -> list[str]:
    """What one agent said, with its strongest argument and the strongest against it. `head` is its own first line."""
    name = agent_name(answer.agent)
    if answer.status.upper() != "OK":
        why = prose(answer.text, _SENTENCE) or "no reason given"
        return [f"<b>{head}</b>" if head else f"<b>{name} {word(answer.status)}</b>: {why}"]
    belief = f", p(win) {answer.p_win:.2f}" if answer.p_win is not None else ""
    lines = [f"<b>{head}</b>" if head else f"<b>{name} {word(answer.vote)}</b>{belief}"]
    if answer.text.strip():
        lines.append(f"because {prose(answer.text, _SENTENCE)}")
    if answer.against.strip():
        lines.append(f"but {prose(answer.against, _SENTENCE)}")
    return lines


def _spent(said: Sequence[Testimony]) -> list[str]:
    """What asking has cost; nothing where no model was asked."""
    calls = [call for each in said for call in each.calls]
    if not calls:
        return []
    cost, took = sum((call.cost_usd for call in calls), Decimal(0)), seconds_of(calls)
    return [f"{counted(len(calls), 'call')}, {UNKNOWN if took is None else f'{took:.1f}'} s of work, {usd(cost)}"]
