"""Journal events as chat messages: pure functions from an event to Telegram HTML.

The first line carries the whole news and begins with the badge, because it is read on a lock screen.
An event without a card is not worth a message (orders on their way, marks, dropped edges, funding). A decision's card
is its verdict's, or, where the council takes its time, that of the proposal it debates. What happens after it is told
twice: as a message of its own in the decision's thread, and as a line on its card (`step`), so that the card alone
tells debate and trade; what it said first is never overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from bot.buttons import button
from bot.text import (
    UNKNOWN,
    coin,
    duration,
    fitted,
    moment,
    money,
    multiple,
    own,
    percent,
    price,
    prose,
    quantity,
    share,
    signed,
    word,
)
from trading.council.ballots import stance
from trading.events import (
    AgentAnswer,
    AgentAnswered,
    AlertRaised,
    CandidateProposed,
    CommandDone,
    CouncilImpaired,
    CouncilModeChanged,
    CouncilRecovered,
    Event,
    ModelCall,
    Opinion,
    OpinionReached,
    OrderAccepted,
    OrderCancelled,
    OrderDoubted,
    OrderFilled,
    OrderIntended,
    OrderRefused,
    SessionStarted,
    SettingsChanged,
    ShadowEnded,
    StopMoved,
    SymbolsChanged,
    Testimony,
    TradeClosed,
    TradingPaused,
    TradingResumed,
    VerdictReached,
)
from trading.model import ExitReason, OrderSide, Purpose, Side
from trading.pictures import Theme

if TYPE_CHECKING:
    from storage.outbox import Buttons  # settings know the kinds of messages without knowing a database

_HEADLINE_REASON: Final = 120
_SENTENCE: Final = 240
_STEP_REASON: Final = 120
_DERIVED: Final = 5  # significant digits of a distance that was computed, not quoted
_MOST_REASONS: Final = 6
_MOST_ANSWERS: Final = 6
_MOST_FOUND: Final = 12
_EXITS: Final[Mapping[ExitReason, str]] = MappingProxyType(
    {
        ExitReason.STOP: "stop",
        ExitReason.TAKE_PROFIT: "take profit",
        ExitReason.TRAILING: "trailing stop",
        ExitReason.SIGNAL: "exit signal",
        ExitReason.MANUAL: "closed by hand",
        ExitReason.EXTERNAL: "closed outside the bot",
    }
)
_SHADOWS: Final[Mapping[str, str]] = MappingProxyType({reason.value: words for reason, words in _EXITS.items()})
_CANCELLED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "expired": "not filled in time",
        "run_away": "the price ran away",
        "flat": "the position is closed",
        "manual": "cancelled by hand",
    }
)

_MODELS: Final = "the models"
_SPOKEN: Final[Mapping[str, str]] = MappingProxyType({"rules": "the rules", "off": "no council at all"})
MODE_MEANS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "strict": "three models decide; one that does not answer means no trade",
        "degraded": "three models decide; a missing Quant or Strategist is replaced by rules, at half size",
        "rules": "three sets of rules in code decide, no model is asked",
        "shadow": "the rules decide, the models are asked and recorded beside them",
        "off": "nobody decides: the strategy alone, without council, guards and limits",
    }
)
"""What each mode of the council means, in a line, from the strictest to none."""


Push = Literal["on", "silent", "off"]
PUSHED: Final[Mapping[str, Push]] = MappingProxyType(
    {
        "debate": "silent",
        "approved": "on",
        "rejected": "silent",
        "order": "off",
        "fill": "on",
        "stop": "silent",
        "exit": "on",
        "cancelled": "silent",
        "refused": "on",
        "session": "on",
        "pause": "on",
        "alert": "on",
        "command": "on",
        "settings": "on",
        "daily": "on",
        "optimisation": "on",
    }
)
"""Every kind of message that comes by itself, with how it comes unless the configuration says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How the chat looks: the badge that comes first, the reader's time zone, the charts' theme, what is pushed.

    `real_money`: what is traded is somebody's money, and allowing entries asks for a confirmation. `made_up`: prices
    are no exchange's of now, but synthetic or recorded.
    """

    badge: str
    zone: tzinfo = UTC
    theme: Theme = "dark"
    push: Mapping[str, Push] = field(default_factory=lambda: PUSHED)
    real_money: bool = False
    made_up: bool = True

    @property
    def lead(self) -> str:
        """The badge, safe and short."""
        return word(self.badge, 24)

    @property
    def shows_debates(self) -> bool:
        """Whether a proposal has a card of its own while the council debates it."""
        return self.push.get("debate", PUSHED["debate"]) != "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The trades closed on one UTC day of market time so far, the one just reported among them."""

    pnl: Decimal = Decimal(0)
    trades: int = 0
    wins: int = 0

    def plus(self, pnl: Decimal) -> Day:
        """The day with one more closed trade."""
        return Day(pnl=self.pnl + pnl, trades=self.trades + 1, wins=self.wins + (pnl > 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A message to be, of a kind of `PUSHED`: `verdict_id` is the decision whose thread it belongs to.

    `opens_thread` starts one. `command` is what it answers, by the id of a request from the chat.
    """

    text: str
    kind: str
    verdict_id: int | None = None
    opens_thread: bool = False
    urgent: bool = False
    buttons: Buttons | None = None
    command: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an event adds to the card of its decision: a line, and the buttons that make sense from then on."""

    verdict_id: int
    line: str
    buttons: Buttons | None = None


def draw(event: Event, look: Look, day: Day | None = None) -> Card | None:
    """The card of an event, None when it gives no message. `day` is shown under an exit."""
    if isinstance(event, TradeClosed):
        return Card(text=exit_card(event, look, day), kind="exit", verdict_id=event.verdict_id)
    draughtsman = _CARDS.get(type(event))
    return draughtsman(event, look) if draughtsman else None


def verdict_card(event: VerdictReached, look: Look) -> str:
    """The decision on one candidate with all that led to it."""
    return fitted([_verdict_headline(event, look), *_verdict_numbers(event, look), *_verdict_voices(event)])


def _verdict_headline(event: VerdictReached, look: Look) -> str:
    state = "APPROVED" if event.approved else "REJECTED"
    head = f"{look.lead} <b>{state} #{event.verdict_id} {_side(event.side)} {coin(event.symbol)}</b>"
    if event.approved:
        risk = f"risk {money(event.risk_usdt, sign=False)} ({share(event.risk_usdt, event.equity)})"
        return f"{head} {quantity(event.qty)} at {price(event.entry)}, {risk}"
    by = f" by {word(event.gate)}" if event.gate else ""
    why = f": {prose(event.reasons[0], _HEADLINE_REASON)}" if event.reasons else ""
    return f"{head}{by}{why}"


def _verdict_numbers(event: VerdictReached, look: Look) -> list[str]:
    lines = _levels(event, look)
    if event.approved and event.size_modifier < 1:
        capped = f", then {own(event.clamp, _SENTENCE)}" if event.clamp else ""
        lines.append(f"Size shrunk to {percent(event.size_modifier, 0)} by the council{capped}")
    return lines


def _levels(event: VerdictReached | CandidateProposed, look: Look) -> list[str]:
    """Entry, stop and target, and what they were made of."""
    target = price(event.take_profit) if event.take_profit is not None else "trailing"
    facts = [f"1R {price(event.r_distance, _DERIVED)}"]
    if event.atr is not None:
        facts.append(f"ATR {price(event.atr, _DERIVED)}")
    facts += [f"close {price(event.close)}", f"bar {moment(event.signal_time, look.zone)}"]
    return [f"Entry {price(event.entry)}  SL {price(event.stop)}  TP {target}", " · ".join(facts)]


def _verdict_voices(event: VerdictReached) -> list[str]:
    lines = [f"Council {word(event.council)}: {_votes(event.answers)}" if event.answers else ""]
    lines += [opinion_line(opinion) for opinion in event.opinions[:_MOST_ANSWERS]]
    strongest = strongest_no(event.answers, event.side)
    if strongest:
        lines.append(f"Strongest no: “{prose(strongest, _SENTENCE)}”")
    told = event.reasons if event.approved else event.reasons[1:]
    if not event.approved and event.reasons and len(event.reasons[0]) > _HEADLINE_REASON:
        told = event.reasons
    lines += [f"– {prose(reason, _SENTENCE)}" for reason in told[:_MOST_REASONS]]
    return [line for line in lines if line]


def _votes(answers: tuple[AgentAnswer, ...]) -> str:
    return " · ".join(_vote(answer) for answer in answers[:_MOST_ANSWERS])


def _vote(answer: AgentAnswer) -> str:
    """`Quant SHORT 0.61`; what failed says how: `Quant TIMEOUT`."""
    return f"{agent_name(answer.agent)} {_says(answer)}"


def _says(answer: AgentAnswer) -> str:
    if answer.status.upper() != "OK":
        return word(answer.status)
    return word(answer.vote) + (f" {answer.p_win:.2f}" if answer.p_win is not None else "")


def agent_name(agent: str) -> str:
    """`risk_manager` as people say it."""
    return word(agent).replace("_", " ").capitalize()


def opinion_line(opinion: Opinion) -> str:
    """What another council would have decided on the same candidate."""
    return f"{_council(opinion.council).capitalize()} would have {_would(opinion.approved, opinion.size_modifier)}"


def _would(approved: bool, size: float) -> str:
    if not approved:
        return "rejected it"
    return "approved it in full" if size >= 1 else f"approved {percent(size, 0)} of it"


def _council(name: str) -> str:
    """A council by its name in events, as a person would call it."""
    if name in MODE_MEANS or name == "models":
        return _SPOKEN.get(name, _MODELS)
    return word(name)


def strongest_no(answers: Sequence[AgentAnswer], side: Side) -> str:
    """What the one who believes least in the trade says against it; empty when nobody has answered.

    Who is for the trade has its counter-argument in `against`; who is against it, in `text`. Who takes no stand is
    heard only where nobody does, with the case for taking none.
    """
    stands = [(answer, stance(answer, side)) for answer in answers if answer.status.upper() == "OK"]
    said = [(answer.p_win, answer.text if place < 0 else answer.against) for answer, place in stands if place]
    undecided = [(answer.p_win, answer.text or answer.against) for answer, place in stands if not place]
    for group in (said, undecided):
        noes = [(1.0 if odds is None else odds, text.strip()) for odds, text in group if text.strip()]
        if noes:
            return min(noes)[1]
    return ""


# The debate: what is said while the council takes its time, and what is found out about it afterwards.


def debate_card(event: CandidateProposed, look: Look) -> str:
    """The candidate that the council is asked about, at its base size."""
    head = f"{look.lead} <b>#{event.verdict_id} {_side(event.side)} {coin(event.symbol)} PROPOSED</b>"
    base = f"Base size {quantity(event.qty)}, risk {money(event.risk_usdt, sign=False)}"
    return fitted(
        [
            f"{head}, the council debates",
            *_levels(event, look),
            f"{base} ({share(event.risk_usdt, event.equity)})",
            f"Council {word(event.council)}: it may veto or shrink this, nothing else",
        ]
    )


def testimony_line(said: Testimony) -> str:
    """`Quant SHORT 0.61 · 3.2 s`; a failure says why, and whose vote counts instead."""
    answer, took = said.answer, seconds_of(said.calls)
    parts = [_vote(answer)]
    if answer.status.upper() != "OK":
        parts[0] += f": {prose(answer.text, _STEP_REASON) or 'no reason given'}"
    parts += [f"{took:.1f} s"] if took is not None else []
    return " · ".join([*parts, "its rules twin votes instead"] if said.twin else parts)


def seconds_of(calls: Sequence[ModelCall]) -> float | None:
    """How long the calls took together; None where no model was asked."""
    return sum(call.latency_ms for call in calls) / 1000 if calls else None


def impaired_card(event: CouncilImpaired, look: Look) -> str:
    """Agents that have stopped answering, and what that means for trades."""
    names = ", ".join(agent_name(agent) for agent in event.agents[:_MOST_ANSWERS])
    return f"{look.lead} <b>COUNCIL IMPAIRED</b>{f' ({names})' if names else ''}: {prose(event.text, 1000)}"


def recovered_card(event: CouncilRecovered, look: Look) -> str:
    """All agents answer again."""
    return f"{look.lead} <b>COUNCIL RECOVERED</b>: {prose(event.text, 1000)}"


def mode_card(event: CouncilModeChanged, look: Look) -> str:
    """Who decides from now on."""
    head = f"{look.lead} <b>COUNCIL {word(event.old)} → {word(event.mode)}</b> by {word(event.by, 40)}"
    means = MODE_MEANS.get(event.mode)
    return fitted([f"{head}{f': {means}' if means else ''}", "From the next candidate on; kept over restarts."])


def fill_card(event: OrderFilled, look: Look) -> str:
    """One execution: what, how much, at which price, how far from the one asked for."""
    opening = event.purpose is Purpose.ENTRY
    side = _side(_position_side(event))
    what = "filled" if opening else f"{word(event.purpose.value).replace('_', ' ')} filled"
    head = f"{_about(look, event.verdict_id)} <b>{side} {coin(event.symbol)} {what}</b>"
    lines = [f"{head} {quantity(event.qty)} at {price(event.price)}"]
    slip = f", slip {signed(event.slippage_bp, 1)} bp" if event.slippage_bp is not None else ""
    lines.append(f"Fee {money(event.fee, sign=False)} ({'maker' if event.maker else 'taker'}){slip}")
    if event.stop is not None:
        lines.append(f"Stop {price(event.stop)} on the exchange")
    if event.risk_usdt is not None:
        lines.append(f"Risk {money(event.risk_usdt, sign=False)}")
    return fitted(lines)


def _position_side(event: OrderFilled) -> Side:
    bought = event.side is OrderSide.BUY
    return Side.LONG if bought == (event.purpose is Purpose.ENTRY) else Side.SHORT


def exit_card(event: TradeClosed, look: Look, day: Day | None) -> str:
    """The finished trade in four lines."""
    head = f"{_about(look, event.verdict_id)} <b>CLOSED {coin(event.symbol)}</b>"
    way = f"{price(event.entry_price)} → {price(event.exit_price)}"
    lines = [
        f"{head} <b>{money(event.pnl)} {multiple(event.r)}</b> {way_out(event)}",
        f"{_side(event.side)} {quantity(event.qty)}: {way} in {duration(event.exit_time - event.entry_time)}",
        f"Fees {money(event.fees, sign=False, unit='')}, funding {money(event.funding.copy_negate(), unit='')}",
        f"Best {multiple(event.best_r)}, worst {multiple(event.worst_r)}",
        f"Cash {money(event.cash, sign=False)}",
    ]
    if day is not None:
        lines.insert(4, f"Today {money(day.pnl)} ({day.wins}/{day.trades})")
    return fitted(lines)


def way_out(event: TradeClosed) -> str:
    """Why the trade ended. A stop that was hit with a gain had been trailed: the first one lies below the entry."""
    if event.exit_reason is ExitReason.STOP and event.pnl > 0:
        return _EXITS[ExitReason.TRAILING]
    return _EXITS[event.exit_reason]


def stop_card(event: StopMoved, look: Look) -> str:
    """The trailing stop's new level."""
    head = f"{_about(look, event.verdict_id)} <b>{coin(event.symbol)} stop {price(event.new)}</b>"
    return f"{head} (was {price(event.old)}), locks in {multiple(event.locked_r)}"


def cancelled_card(event: OrderCancelled, look: Look) -> str:
    """A resting order that left the book unfilled."""
    why = _CANCELLED.get(event.reason) or prose(event.reason, _SENTENCE)
    what = word(event.purpose.value).replace("_", " ")
    return f"{_about(look, event.verdict_id)} <b>{coin(event.symbol)} {what} cancelled</b>: {why}"


def refused_card(event: OrderRefused, look: Look) -> str:
    """The exchange said no."""
    head = f"{_about(look, event.verdict_id)} <b>{coin(event.symbol)} order refused</b> by the exchange"
    return fitted([f"{head}: {prose(event.reason, _SENTENCE)}", f"Order {word(event.link_id, 40)}"])


def doubted_card(event: OrderDoubted, look: Look) -> str:
    """An order whose fate is being looked up."""
    head = f"{_about(look, event.verdict_id)} <b>{coin(event.symbol)} order in doubt</b>"
    head = f"{head}: {prose(event.reason, _SENTENCE)}"
    return fitted([head, f"No new entry on it until order {word(event.link_id, 40)} is known."])


def session_card(event: SessionStarted, look: Look) -> str:
    """The restart report: what came up and what reconciling found."""
    markets = ", ".join(coin(symbol) for symbol in event.symbols[:8])
    if len(event.symbols) > 8:
        markets += f" and {len(event.symbols) - 8} more"
    how = "carries on" if event.resumed else "starts"
    start = f"Started with {money(event.initial_equity, sign=False)}"
    lines = [f"{look.lead} <b>Conclave {how}</b>: {markets or 'no market'}, {_interval(event)} bars", start]
    lines += [f"– {prose(line, _SENTENCE)}" for line in event.found[:_MOST_FOUND]]
    if len(event.found) > _MOST_FOUND:
        lines.append(f"… {len(event.found) - _MOST_FOUND} more lines")
    return fitted(lines)


def _interval(event: SessionStarted) -> str:
    minutes = event.interval_minutes
    return f"{minutes // 60}h" if minutes >= 60 and minutes % 60 == 0 else f"{minutes}m"


def paused_card(event: TradingPaused, look: Look) -> str:
    """No new entries from now on."""
    return f"{look.lead} <b>PAUSED</b> by {word(event.by, 40)}: no new entries; stops and exits go on"


def resumed_card(event: TradingResumed, look: Look) -> str:
    """Entries are allowed again."""
    return f"{look.lead} <b>RESUMED</b> by {word(event.by, 40)}: new entries are allowed again"


def alert_card(event: AlertRaised, look: Look) -> str:
    """Something the owner must know."""
    return f"{look.lead} <b>ALERT {word(event.kind, 40)}</b>: {prose(event.text, 1000)}"


def _about(look: Look, verdict_id: int | None) -> str:
    return f"{look.lead} #{verdict_id}" if verdict_id is not None else look.lead


def _side(side: Side) -> str:
    return side.value.upper()


def command_card(event: CommandDone, look: Look) -> str:
    """How a request ended, with what was found: for a panic, the proof."""
    word_ = "DONE" if event.done else "NOT DONE"
    first, *more = event.found or ("nothing to do",)
    lines = [f"{look.lead} <b>{word(event.name).upper()} {word_}</b>: {prose(first, _SENTENCE)}"]
    lines += [f"– {prose(line, _SENTENCE)}" for line in more[:_MOST_FOUND]]
    if len(more) > _MOST_FOUND:
        lines.append(f"… {len(more) - _MOST_FOUND} more lines")
    return fitted(lines)


def settings_card(event: SettingsChanged, look: Look) -> str:
    """What is different from now on, old → new."""
    changes = [f"{word(name, 40)} {_plain(event.old.get(name))} → {_plain(new)}" for name, new in event.values.items()]
    source = f" ({word(event.source, 40)})" if event.source else ""
    first = changes[0] if changes else "nothing"
    head = f"{look.lead} <b>SETTINGS CHANGED</b> by {word(event.by, 40)}{source}: {first}"
    return fitted([head, *(f"– {change}" for change in changes[1:]), "From the next close on; kept over restarts."])


def _plain(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:g}"


def symbols_card(event: SymbolsChanged, look: Look) -> str:
    """Which symbols get no new entries."""
    names = ", ".join(coin(symbol) for symbol in event.muted) or "none: every symbol is traded"
    return f"{look.lead} <b>SYMBOLS</b> without new entries, by {word(event.by, 40)}: {names}"


def order_card(event: OrderAccepted, look: Look) -> str:
    """The exchange has an order of ours."""
    return f"{look.lead} <b>{coin(event.symbol)} order placed</b>: {word(event.link_id, 40)}"


# The steps of a living card: one line for each thing that happened to the decision's trade.


def step(event: Event, look: Look) -> Step | None:
    """What an event adds to its decision's card; None when it belongs to none, or is what that card begins with."""
    writer = _STEPS.get(type(event))
    verdict_id: int | None = getattr(event, "verdict_id", None)
    if writer is None or verdict_id is None or (isinstance(event, VerdictReached) and _opens(event, look)):
        return None
    line, buttons = writer(event)
    return Step(verdict_id=verdict_id, line=f"{moment(event.at, look.zone)} {line}", buttons=buttons)


def _answered_step(event: AgentAnswered) -> tuple[str, Buttons | None]:
    aside = "beside it " if event.council == "shadow" else ""
    return f"{aside}{testimony_line(event.said)}", None


def _verdict_step(event: VerdictReached) -> tuple[str, Buttons | None]:
    if event.approved:
        # The share is of the size before the caps: one that holds the base size down too may leave it as it was.
        shrunk = f", the council shrank it to {percent(event.size_modifier, 0)}" if event.size_modifier < 1 else ""
        capped = ", a cap holds it" if event.clamp else ""
        return f"<b>APPROVED</b> {quantity(event.qty)} at {price(event.entry)}{shrunk}{capped}", _verdict_buttons(event)
    by = f" by {word(event.gate)}" if event.gate else ""
    why = f": {prose(event.reasons[0], _STEP_REASON)}" if event.reasons else ""
    return f"<b>REJECTED</b>{by}{why}", _verdict_buttons(event)


def _verdict_buttons(event: VerdictReached) -> Buttons:
    number = event.verdict_id
    cancel = button("Cancel", "cancel", number) if event.approved else []
    return [[*button("Why", "why", number), *button("Chart", "chart", event.symbol), *cancel]]


def _opinion_step(event: OpinionReached) -> tuple[str, Buttons | None]:
    why = f": {prose(event.reasons[0], _STEP_REASON)}" if event.reasons and not event.approved else ""
    return f"{_MODELS} would have {_would(event.approved, event.size_modifier)}{why}", None


def _shadow_step(event: ShadowEnded) -> tuple[str, Buttons | None]:
    return shadow_line(event.ended, event.r), None


def shadow_line(ended: str, r: float | None) -> str:
    """What a candidate that was not traded came to by the rules, as in `ShadowEnded`."""
    if ended == "unfilled":
        return "would not have filled"
    if r is None:
        return "what it would have come to is not known: its bars are gone"
    trailed = ended == ExitReason.STOP.value and r > 0  # the first stop lies below the entry
    how = _SHADOWS[ExitReason.TRAILING.value] if trailed else _SHADOWS.get(ended) or word(ended)
    return f"would have ended {multiple(r)} by {how}"


def _intended_step(event: OrderIntended) -> tuple[str, Buttons | None]:
    what = _purpose(event.purpose)
    at = f" at {price(event.price)}" if event.price is not None else " at the market"
    return f"{what} order {quantity(event.qty)}{at}", None


def _filled_step(event: OrderFilled) -> tuple[str, Buttons | None]:
    opening = event.purpose is Purpose.ENTRY
    what = "<b>FILLED</b>" if opening else f"{_purpose(event.purpose)} filled"
    slip = f", slip {signed(event.slippage_bp, 1)} bp" if event.slippage_bp is not None else ""
    line = f"{what} {quantity(event.qty)} at {price(event.price)}, fee {money(event.fee, sign=False, unit='')}{slip}"
    return line, _open_buttons(event) if opening and event.verdict_id is not None else None


def _open_buttons(event: OrderFilled) -> Buttons:
    number = event.verdict_id
    return [
        [*button("Why", "why", number), *button("Chart", "chart", event.symbol)],
        [*button("Break-even", "breakeven", number), *button("Close…", "close", number, "choose")],
    ]


def _stop_step(event: StopMoved) -> tuple[str, Buttons | None]:
    return f"stop {price(event.old)} → {price(event.new)} ({multiple(event.locked_r)})", None


def _cancelled_step(event: OrderCancelled) -> tuple[str, Buttons | None]:
    why = _CANCELLED.get(event.reason) or prose(event.reason, 80)
    gone = "<b>EXPIRED</b>" if event.reason == "expired" else f"{_purpose(event.purpose)} cancelled"
    entry = event.purpose is Purpose.ENTRY
    return f"{gone}: {why}", [button("Why", "why", event.verdict_id)] if entry else None


def _refused_step(event: OrderRefused) -> tuple[str, Buttons | None]:
    return f"<b>REFUSED</b> by the exchange: {prose(event.reason, 120)}", None


def _doubted_step(event: OrderDoubted) -> tuple[str, Buttons | None]:
    return f"order in doubt: {prose(event.reason, 120)}", None


def _closed_step(event: TradeClosed) -> tuple[str, Buttons | None]:
    line = f"<b>CLOSED {money(event.pnl)} {multiple(event.r)}</b> {way_out(event)}"
    number = event.verdict_id
    return line, [[*button("Why", "why", number), *button("Trade", "trade", number)]]


def _purpose(purpose: Purpose) -> str:
    return word(purpose.value).replace("_", " ")


_STEPS: Final[Mapping[type[Event], Callable[[Any], tuple[str, Buttons | None]]]] = MappingProxyType(
    {
        AgentAnswered: _answered_step,
        VerdictReached: _verdict_step,
        OpinionReached: _opinion_step,
        ShadowEnded: _shadow_step,
        OrderIntended: _intended_step,
        OrderFilled: _filled_step,
        StopMoved: _stop_step,
        OrderCancelled: _cancelled_step,
        OrderRefused: _refused_step,
        OrderDoubted: _doubted_step,
        TradeClosed: _closed_step,
    }
)


def _opens(event: VerdictReached, look: Look) -> bool:
    """Whether a verdict is the first that is heard of its candidate."""
    return not (event.debated and look.shows_debates)


def _proposed(event: CandidateProposed, look: Look) -> Card:
    return Card(
        text=debate_card(event, look),
        kind="debate",
        verdict_id=event.verdict_id,
        opens_thread=True,
        buttons=[button("Chart", "chart", event.symbol)],
    )


def _verdict(event: VerdictReached, look: Look) -> Card:
    """In a thread that its debate has opened, the buttons that follow the trade stand on the card of the debate."""
    number, opens = event.verdict_id, _opens(event, look)
    plainly = [[*button("Why", "why", number), *button("Chart", "chart", event.symbol)]]
    return Card(
        text=verdict_card(event, look),
        kind="approved" if event.approved else "rejected",
        verdict_id=number,
        opens_thread=opens,
        buttons=_verdict_buttons(event) if opens else plainly,
    )


def _said(kind: str, write: Callable[[Any, Look], str], *, urgent: bool = False) -> Callable[[Any, Look], Card]:
    """The card of an event whose text `write` makes."""

    def card(event: Any, look: Look) -> Card:
        return Card(
            text=write(event, look),
            kind=kind,
            verdict_id=getattr(event, "verdict_id", None),
            urgent=urgent,
            command=getattr(event, "command", ""),
        )

    return card


_CARDS: Final[Mapping[type[Event], Callable[[Any, Look], Card]]] = MappingProxyType(
    {
        CandidateProposed: _proposed,
        VerdictReached: _verdict,
        CouncilImpaired: _said("alert", impaired_card),
        CouncilRecovered: _said("alert", recovered_card),
        CouncilModeChanged: _said("settings", mode_card),
        OrderAccepted: _said("order", order_card),
        OrderFilled: _said("fill", fill_card),
        StopMoved: _said("stop", stop_card),
        OrderCancelled: _said("cancelled", cancelled_card),
        OrderRefused: _said("refused", refused_card),
        OrderDoubted: _said("refused", doubted_card),
        SessionStarted: _said("session", session_card),
        TradingPaused: _said("pause", paused_card, urgent=True),
        TradingResumed: _said("pause", resumed_card, urgent=True),
        SettingsChanged: _said("settings", settings_card),
        SymbolsChanged: _said("settings", symbols_card),
        CommandDone: _said("command", command_card, urgent=True),
        AlertRaised: _said("alert", alert_card, urgent=True),
    }
)
