"""The council's side: decisions, one in full, the scoreboard, and where signals die."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Final

from bot.cards import Look
from bot.text import (
    UNKNOWN,
    coin,
    counted,
    moment,
    money,
    multiple,
    own,
    percent,
    price,
    prose,
    quantity,
    share,
    word,
)
from bot.views.results import became
from bot.views.table import Column, per_cent, table
from storage import reports
from storage.queries import Story
from storage.reports import Funnel, Score, Scoreboard
from trading.events import AgentAnswer, VerdictReached

_DERIVED: Final = 5  # significant digits of a distance that was computed, not quoted
_SENTENCE: Final = 240
_MOST_REASONS: Final = 8
_MOST_ANSWERS: Final = 6
_AGENTS: Final = {"strategist": "Strateg.", "risk_manager": "Risk mgr"}
_BOARD: Final = (
    Column("AGENT", 9, left=True),
    Column("FOR", 4),
    Column("AGN", 4),
    Column("NEU", 4),
    Column("BAD", 3),
    Column("BRIER", 5),
)
_STEPS: Final = (Column("STEP", 26, left=True), Column("N", 7))


def verdicts_view(rows: Sequence[tuple[VerdictReached, str]], look: Look) -> str:
    """The last decisions with what became of each, the newest first."""
    if not rows:
        return f"{look.lead} <b>no decision yet</b>: one comes with the first signal after a bar's close"
    approved = sum(event.approved for event, _ in rows)
    counts = f"{approved} approved, {len(rows) - approved} rejected"
    many = "the last decision" if len(rows) == 1 else f"last {len(rows)} decisions"
    head = f"{look.lead} <b>{many}</b>: {counts}"
    return "\n".join([head, *(_verdict(event, outcome, look.zone) for event, outcome in rows)])


def _verdict(event: VerdictReached, outcome: str, zone: tzinfo) -> str:
    head = f"#{event.verdict_id} {moment(event.at, zone)} {event.side.value.upper()} {coin(event.symbol)}"
    if event.approved:
        return f"{head} approved, {quantity(event.qty)} at {price(event.entry)}: {word(outcome, 40)}"
    why = f": {prose(event.reasons[0], 100)}" if event.reasons else ""
    return f"{head} rejected by {word(event.gate)}{why}"


def why_view(story: Story, look: Look) -> str:
    """The whole decision, from what was stored when it was made."""
    event = story.verdict
    answers = [line for answer in event.answers[:_MOST_ANSWERS] for line in _voice(answer)]
    if len(event.answers) > _MOST_ANSWERS:
        answers.append(f"… {len(event.answers) - _MOST_ANSWERS} more answers")
    return "\n".join(
        [
            _why_headline(story, look),
            *_candidate(event, look.zone),
            f"<b>Council {word(event.council)}</b>" + ("" if answers else ": nobody was asked"),
            *answers,
            f"<b>Gates</b> {_gates(event)}",
            *_reasons(event),
            *_size(event),
            *_after(story, look),
        ]
    )


def _why_headline(story: Story, look: Look) -> str:
    event = story.verdict
    head = f"{look.lead} <b>#{event.verdict_id} {event.side.value.upper()} {coin(event.symbol)}"
    if not event.approved:
        return f"{head} REJECTED</b> by {word(event.gate)}"
    if story.trade is not None:
        return f"{head} APPROVED</b>, closed {money(story.trade.pnl)} {multiple(story.trade.r)}"
    return f"{head} APPROVED</b>, {became(story.fate)}"


def _candidate(event: VerdictReached, zone: tzinfo) -> list[str]:
    target = price(event.take_profit) if event.take_profit is not None else "trailing"
    distance = f"1R {price(event.r_distance, _DERIVED)}"
    if event.atr is not None and event.atr > 0:
        distance += f" = {event.r_distance / event.atr:.2f} ATR of {price(event.atr, _DERIVED)}"
    return [
        f"Entry {price(event.entry)}  SL {price(event.stop)}  TP {target}",
        f"{distance} · close {price(event.close)}",
        f"Bar {moment(event.signal_time, zone)}, decided {moment(event.at, zone)}",
    ]


def _voice(answer: AgentAnswer) -> list[str]:
    """What one agent said, with its strongest argument and the strongest against it."""
    name = word(answer.agent).replace("_", " ").capitalize()
    if answer.status.upper() != "OK":
        return [f"<b>{name} {word(answer.status)}</b>: {prose(answer.text, _SENTENCE) or 'no reason given'}"]
    belief = f", p(win) {answer.p_win:.2f}" if answer.p_win is not None else ""
    lines = [f"<b>{name} {word(answer.vote)}</b>{belief}"]
    if answer.text.strip():
        lines.append(f"because {prose(answer.text, _SENTENCE)}")
    if answer.against.strip():
        lines.append(f"but {prose(answer.against, _SENTENCE)}")
    return lines


def _gates(event: VerdictReached) -> str:
    """Which gates it passed and which one it met its end at, as far as the stored event tells them apart."""
    asked = bool(event.answers)
    passed = ["guards passed"] if asked or event.approved or event.gate in {"risk", "council"} else []
    if asked and event.gate != "council":
        passed.append("council approved")
    end = {
        "guard": "stopped by the guards at the second look" if asked else "stopped by the guards",
        "council": "vetoed by the council",
        "risk": "no size that the account allows",
    }.get(event.gate, f"stopped by {word(event.gate)}")
    return " · ".join([*passed, "sized" if event.approved else end])


def _reasons(event: VerdictReached) -> list[str]:
    lines = [f"– {prose(reason, _SENTENCE)}" for reason in event.reasons[:_MOST_REASONS]]
    if len(event.reasons) > _MOST_REASONS:
        lines.append(f"… {len(event.reasons) - _MOST_REASONS} more reasons")
    return lines


def _size(event: VerdictReached) -> list[str]:
    """The size with each clamp that the event tells; what was never sized has none."""
    if not event.approved:
        return [f"Never sized; equity then {money(event.equity, sign=False)}"]
    notional = event.qty * event.entry
    shrunk = "left the base size" if event.size_modifier >= 1 else f"shrank it to {percent(event.size_modifier, 0)}"
    risk = f"{money(event.risk_usdt, sign=False)} = {share(event.risk_usdt, event.equity)}"
    lines = [f"<b>Size</b> {quantity(event.qty)} = {money(notional, sign=False)}; the council {shrunk}"]
    if event.clamp:
        lines.append(f"Cap: {own(event.clamp, _SENTENCE)}")
    return [*lines, f"Risk {risk} of {money(event.equity, sign=False)}, in whole steps of the market"]


def _after(story: Story, look: Look) -> list[str]:
    if not story.verdict.approved:
        return ["What it would have come to is not known: rejected candidates are not followed in this version"]
    turned = story.fills[:1] if story.fate == "filled" else story.events[-1:]
    at = f", {moment(turned[0].at, look.zone)}" if turned else ""
    return [f"<b>Then</b> it {became(story.fate)}{at}. /trade {story.verdict.verdict_id} has the time line"]


def council_view(board: Scoreboard, left_out: int, look: Look) -> str:
    """The scoreboard: votes, failures, Brier scores, results of what was approved, and who rejected the rest.

    `left_out`: older decisions that are not counted.
    """
    if not board.decisions:
        return f"{look.lead} <b>no decision yet</b>: the scoreboard begins with the first one"
    many = counted(board.decisions, "decision")
    rejected = sum(board.gates.values())
    lines = [f"{look.lead} <b>{many}: {board.decisions - rejected} approved</b>, {_results(board.approved)}"]
    if board.agents:
        lines.append(table(_BOARD, [_record(name, score) for name, score in board.agents.items()]))
        lines.append("FOR, AGN, NEU: votes for, against, neutral. BAD: per cent of answers whose status was not OK")
        lines += _failures(board.agents)
        lines.append(_scored(board.agents))
    else:
        lines.append("No agent was asked: the council is off, or code rejected every candidate")
    lines.append(f"Rejected by {_listed(reports.counted(board.gates.items()))}" if rejected else "Nothing was rejected")
    lines.append("What vetoed trades would have come to only shadow trades could tell; this version has none")
    if left_out:
        lines.append(f"{counted(left_out, 'older decision')} not counted")
    return "\n".join(lines)


def _results(approved: Sequence[float]) -> str:
    if not approved:
        return "none of them closed yet"
    total = sum(approved)
    return f"{len(approved)} closed {multiple(total)}, mean {multiple(total / len(approved), 2)}"


def _record(name: str, score: Score) -> list[str]:
    stances = score.stances
    brier = UNKNOWN if score.brier is None else f"{score.brier:.3f}"
    shown = _AGENTS.get(name, name.replace("_", " ").capitalize())
    votes = [str(stances[each]) for each in ("for", "against", "neutral")]
    return [shown, *votes, per_cent(score.failed_rate), brier]


def _failures(agents: Mapping[str, Score]) -> list[str]:
    """Which failures they were; nothing when there was none."""
    failed = [(name, score) for name, score in agents.items() if score.failures]
    told = [f"{_AGENTS.get(name, word(name))} {_listed(score.failures)}" for name, score in failed]
    return [f"Not OK: {'; '.join(told[:_MOST_ANSWERS])}"] if told else []


def _scored(agents: Mapping[str, Score]) -> str:
    most = max(len(score.forecasts) for score in agents.values())
    if not most:
        return "Brier: not known before an approved trade has closed"
    return f"Brier: over {most} approved trades that have closed, no others; 0 is perfect, 0.25 is a coin's"


def _listed(counts: Mapping[str, int], most: int = 6) -> str:
    shown = [f"{word(name)} {count}" for name, count in list(counts.items())[:most]]
    return ", ".join(shown)


def whynot_view(funnel: Funnel, symbol: str | None, waits: str, look: Look) -> str:
    """Where signals die, from all of them down to those that were filled. `waits`: when the next can come."""
    about = f" on {coin(symbol)}" if symbol is not None else ""
    if not funnel.signals:
        return f"{look.lead} <b>no signal yet{about}</b>: {waits}"
    filled = funnel.became("filled", "closed")
    head = f"{look.lead} <b>{counted(funnel.signals, 'signal')}{about}, {filled} filled</b>{_deadliest(funnel)}"
    lines = [head, table(_STEPS, _funnel_rows(funnel, filled))]
    again = funnel.dropped.get("decided", 0)
    if again:
        lines.append(f"{again} more were seen again after a restart: they had their decision already")
    return "\n".join(lines)


def _funnel_rows(funnel: Funnel, filled: int) -> list[list[str]]:
    steps: list[tuple[str, int]] = [("signals", funnel.signals)]
    steps += [(f"- {name.replace('_', ' ')}", count) for name, count in funnel.dropped.items() if name != "decided"]
    steps.append(("= decided", funnel.decided))
    steps += [(f"- {name or 'rejected'}", count) for name, count in funnel.rejected.items()]
    steps.append(("= approved", funnel.approved))
    ends = (("- refused by exchange", ("refused",)), ("- not filled", ("cancelled",)))
    steps += [(name, funnel.became(*outcomes)) for name, outcomes in ends]
    steps += [("- still waiting", funnel.became("approved", "intended")), ("= filled", filled)]
    return [[name, str(count)] for name, count in steps]


def _deadliest(funnel: Funnel) -> str:
    deaths = {name.replace("_", " "): count for name, count in funnel.dropped.items() if name != "decided"}
    deaths |= dict(funnel.rejected)
    deaths["the exchange"] = funnel.became("refused")
    deaths["not being filled"] = funnel.became("cancelled")
    name, count = max(deaths.items(), key=lambda each: each[1], default=("", 0))
    return f"; most died of {word(name)} ({count})" if count else ""
