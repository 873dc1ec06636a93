"""The council's side: decisions, one in full, and where signals die."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from typing import Final

from bot.cards import Look, agent_name, opinion_line, shadow_line, testimony_line
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
from bot.views.council import usd, voice
from bot.views.results import became
from bot.views.table import Column, table
from storage.council import Dossier
from storage.queries import Story
from storage.reports import Funnel
from trading.events import (
    AgentAnswer,
    CandidateProposed,
    Opinion,
    Testimony,
    VerdictReached,
)
from trading.model import ZERO

_DERIVED: Final = 5  # significant digits of a distance that was computed, not quoted
_SENTENCE: Final = 240
_MOST_REASONS: Final = 8
_MOST_ANSWERS: Final = 6
_MOST_EVIDENCE: Final = 5
_MOST_DETAILS: Final = 6
_TOLD: Final = frozenset({"evidence", "conflicts"})  # in lines of their own
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


def why_view(dossier: Dossier, look: Look) -> str:
    """The whole decision, from what was stored when it was made; under debate, what was said so far."""
    story = dossier.story
    if story is None:
        return _under_debate(dossier, look)
    event = story.verdict
    voices = _voices(dossier, event)
    return "\n".join(
        [
            _why_headline(story, look),
            *_candidate(event, look.zone),
            f"<b>Council {word(event.council)}</b>" + ("" if voices else _silent(event)),
            *voices,
            *_other_councils(dossier, event),
            f"<b>Gates</b> {_gates(event)}",
            *_reasons(event),
            *_size(event),
            *_after(dossier, story, look),
        ]
    )


def _silent(event: VerdictReached) -> str:
    return ": what was said is not known" if event.debated else ": nobody was asked"


def _under_debate(dossier: Dossier, look: Look) -> str:
    event = dossier.candidate
    if event is None:
        return f"{look.lead} <b>under debate</b>: nothing more is stored yet"
    head = f"{look.lead} <b>#{event.verdict_id} {event.side.value.upper()} {coin(event.symbol)} under debate</b>"
    said = [line for each in dossier.testimonies for line in _testimony(each.said)]
    base = f"Base size {quantity(event.qty)}, risk {money(event.risk_usdt, sign=False)}"
    council = f"<b>Council {word(event.council)}</b>" + ("" if said else ": nobody has answered yet")
    return "\n".join([head, *_candidate(event, look.zone), base, council, *said])


def _voices(dossier: Dossier, event: VerdictReached) -> list[str]:
    """Everybody who was asked: models with all that asking took, then the rules that voted, alone or for them."""
    heard = [each.said for each in dossier.testimonies]
    models = [line for said in heard for line in _testimony(said)]
    others = [answer for answer in event.answers if answer not in [said.answer for said in heard]]
    beside = event.council == "shadow"
    rules = [line for answer in others[:_MOST_ANSWERS] for line in _rules_voice(answer, bool(heard) and not beside)]
    if len(others) > _MOST_ANSWERS:
        rules.append(f"… {len(others) - _MOST_ANSWERS} more answers")
    return [*rules, "<b>Asked beside it</b>", *models] if beside and models else [*models, *rules]


def _rules_voice(answer: AgentAnswer, stood_in: bool) -> list[str]:
    """The vote of rules in code; `stood_in`: for a model that did not answer."""
    if not stood_in or answer.status.upper() != "OK":
        return voice(answer)
    odds = "" if answer.p_win is None else f" {answer.p_win:.2f}"
    return voice(answer, f"{agent_name(answer.agent)} {word(answer.vote)}{odds} by its rules twin")


def _testimony(said: Testimony) -> list[str]:
    """What one agent said, what it said that of, and what asking it took."""
    lines = voice(said.answer, testimony_line(said))
    evidence = _evidence(said.answer.details.get("evidence"))
    lines += [f"from {', '.join(evidence)}"] if evidence else []
    told = [f"{word(name)} {_fact(value)}" for name, value in said.answer.details.items() if name not in _TOLD]
    lines += [", ".join(told[:_MOST_DETAILS])] if told else []
    return [*lines, *_asking(said)]


def _evidence(cited: object) -> list[str]:
    """Keys of the packet with the values that stand there."""
    items = cited if isinstance(cited, list) else []
    pairs = [(item.get("key"), item.get("value")) for item in items if isinstance(item, dict)]
    return [f"{word(str(key), 40)} {_fact(value)}" for key, value in pairs[:_MOST_EVIDENCE]]


def _fact(value: object) -> str:
    """A value of a packet or of an answer; a list is its parts."""
    if isinstance(value, list):
        return prose(" ".join(str(each) for each in value), 80) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, int | float) else word(str(value), 40)


def _asking(said: Testimony) -> list[str]:
    """Model and prompt; calls with their tokens, bytes and cost; what went wrong in them."""
    lines, calls = [f"{word(said.model, 60)}, prompt {word(said.prompt, 40)}"], said.calls
    if calls:
        repairs = sum(call.repair for call in calls)
        tries = counted(len(calls), "call") + (f" ({counted(repairs, 'repair')})" if repairs else "")
        ins, outs = (_tokens([call.tokens_in for call in calls]), _tokens([call.tokens_out for call in calls]))
        size = f"{sum(call.bytes_in for call in calls):,} bytes in, {sum(call.bytes_out for call in calls):,} out"
        cost = usd(sum((call.cost_usd for call in calls), ZERO))
        lines.append(f"{tries}, {size}, tokens {ins} in, {outs} out, {cost}")
    failed = [(place, call) for place, call in enumerate(calls, 1) if call.status.upper() != "OK"]
    return [*lines, *(f"call {place} {word(call.status)}: {prose(call.problem, 160)}" for place, call in failed)]


def _tokens(reported: Sequence[int | None]) -> str:
    """Their sum, as far as the provider reports any."""
    known = [count for count in reported if count is not None]
    return f"{sum(known):,}" if known else UNKNOWN


def _other_councils(dossier: Dossier, event: VerdictReached) -> list[str]:
    """What others would have decided on the same candidate."""
    lines = [opinion_line(opinion) for opinion in event.opinions[:_MOST_ANSWERS]]
    later = dossier.opinion
    if later is not None:
        known = Opinion(council=later.council, approved=later.approved, size_modifier=later.size_modifier)
        lines += [opinion_line(known), *(f"– {prose(reason, _SENTENCE)}" for reason in later.reasons[:_MOST_ANSWERS])]
    return lines


def _why_headline(story: Story, look: Look) -> str:
    event = story.verdict
    head = f"{look.lead} <b>#{event.verdict_id} {event.side.value.upper()} {coin(event.symbol)}"
    if not event.approved:
        return f"{head} REJECTED</b> by {word(event.gate)}"
    if story.trade is not None:
        return f"{head} APPROVED</b>, closed {money(story.trade.pnl)} {multiple(story.trade.r)}"
    return f"{head} APPROVED</b>, {became(story.fate)}"


def _candidate(event: VerdictReached | CandidateProposed, zone: tzinfo) -> list[str]:
    target = price(event.take_profit) if event.take_profit is not None else "trailing"
    distance = f"1R {price(event.r_distance, _DERIVED)}"
    if event.atr is not None and event.atr > 0:
        distance += f" = {event.r_distance / event.atr:.2f} ATR of {price(event.atr, _DERIVED)}"
    return [
        f"Entry {price(event.entry)}  SL {price(event.stop)}  TP {target}",
        f"{distance} · close {price(event.close)}",
        f"Bar {moment(event.signal_time, zone)}, {_when(event, zone)}",
    ]


def _when(event: VerdictReached | CandidateProposed, zone: tzinfo) -> str:
    return f"{'decided' if isinstance(event, VerdictReached) else 'proposed'} {moment(event.at, zone)}"


def _gates(event: VerdictReached) -> str:
    """Which gates it passed and which one it met its end at, as far as the stored event tells them apart."""
    asked = bool(event.answers)
    known = asked or event.debated or event.approved or event.gate in {"risk", "council"}
    passed = ["guards passed"] if known else []
    if asked and event.gate != "council":
        passed.append("council approved")
    end = {
        "guard": "stopped by the guards at the second look" if asked else "stopped by the guards",
        "council": "vetoed by the council",
        "risk": "no size that the account allows",
        "operator": "stopped before an order left",
        "superseded": "stopped: the next bar closed first",
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


def _after(dossier: Dossier, story: Story, look: Look) -> list[str]:
    """What became of it; of one that was not traded, what it would have come to."""
    if not story.verdict.approved:
        return [_shadow(dossier, look)]
    turned = story.fills[:1] if story.fate == "filled" else story.events[-1:]
    at = f", {moment(turned[0].at, look.zone)}" if turned else ""
    return [f"<b>Then</b> it {became(story.fate)}{at}. /trade {story.verdict.verdict_id} has the time line"]


def _shadow(dossier: Dossier, look: Look) -> str:
    ended = dossier.shadow
    if ended is None and not dossier.followed:
        return "<b>Not traded</b>: what it would have come to is not known, nobody has followed it"
    if ended is None:
        return "<b>Not traded</b>: it is followed by the rules, what it would come to is not known yet"
    best = "" if ended.best_r is None else f", best {multiple(ended.best_r)}"
    return f"<b>Not traded</b>: {shadow_line(ended.ended, ended.r)}, {moment(ended.at, look.zone)}{best}"


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
