"""Journal events as chat messages: pure functions from an event to Telegram HTML.

The first line carries the whole news and begins with the badge, because it is read on a lock screen.
An event without a card is not worth a message (orders on their way, marks, dropped edges, funding). What happens
after a decision is told twice: as a message of its own in the decision's thread, and as a line on its card (`step`),
so that the card alone tells the whole trade; what it said first is never overwritten.
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
    percent,
    price,
    prose,
    quantity,
    share,
    signed,
    word,
)
from trading.events import (
    AgentAnswer,
    AlertRaised,
    CommandDone,
    Event,
    OrderAccepted,
    OrderCancelled,
    OrderDoubted,
    OrderFilled,
    OrderIntended,
    OrderRefused,
    SessionStarted,
    SettingsChanged,
    StopMoved,
    SymbolsChanged,
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
_CANCELLED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "expired": "not filled in time",
        "run_away": "the price ran away",
        "flat": "the position is closed",
        "manual": "cancelled by hand",
    }
)


Push = Literal["on", "silent", "off"]
PUSHED: Final[Mapping[str, Push]] = MappingProxyType(
    {
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
    target = price(event.take_profit) if event.take_profit is not None else "trailing"
    lines = [f"Entry {price(event.entry)}  SL {price(event.stop)}  TP {target}"]
    facts = [f"1R {price(event.r_distance, _DERIVED)}"]
    if event.atr is not None:
        facts.append(f"ATR {price(event.atr, _DERIVED)}")
    facts += [f"close {price(event.close)}", f"bar {moment(event.signal_time, look.zone)}"]
    lines.append(" · ".join(facts))
    if event.approved and event.size_modifier < 1:
        lines.append(f"Size shrunk to {percent(event.size_modifier, 0)} by the council")
    return lines


def _verdict_voices(event: VerdictReached) -> list[str]:
    lines = [f"Council {word(event.council)}: {_votes(event.answers)}" if event.answers else ""]
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
    name = word(answer.agent).replace("_", " ").capitalize()
    if answer.status.upper() != "OK":
        return f"{name} {word(answer.status)}"
    return f"{name} {word(answer.vote)}" + (f" {answer.p_win:.2f}" if answer.p_win is not None else "")


def stance(answer: AgentAnswer, side: Side) -> int:
    """+1 for a trade on that side, -1 against it, 0 for neither."""
    vote = answer.vote.upper()
    if vote in {"APPROVED", "REJECTED"}:
        return 1 if vote == "APPROVED" else -1
    return {"LONG": 1, "BULLISH": 1, "SHORT": -1, "BEARISH": -1}.get(vote, 0) * side.sign


def strongest_no(answers: Sequence[AgentAnswer], side: Side) -> str:
    """What the one who believes least in the trade says against it; empty when nobody takes a stand.

    Who is for the trade has its counter-argument in `against`; who is against it, in `text`.
    """
    stands = [(answer, stance(answer, side)) for answer in answers if answer.status.upper() == "OK"]
    said = [(answer.p_win, answer.text if place < 0 else answer.against) for answer, place in stands if place]
    noes = [(1.0 if odds is None else odds, text.strip()) for odds, text in said if text.strip()]
    return min(noes, default=(1.0, ""))[1]


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
    """What an event adds to its decision's card; None when it belongs to none."""
    writer = _STEPS.get(type(event))
    verdict_id: int | None = getattr(event, "verdict_id", None)
    if writer is None or verdict_id is None:
        return None
    line, buttons = writer(event)
    return Step(verdict_id=verdict_id, line=f"{moment(event.at, look.zone)} {line}", buttons=buttons)


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
        OrderIntended: _intended_step,
        OrderFilled: _filled_step,
        StopMoved: _stop_step,
        OrderCancelled: _cancelled_step,
        OrderRefused: _refused_step,
        OrderDoubted: _doubted_step,
        TradeClosed: _closed_step,
    }
)


def _verdict(event: VerdictReached, look: Look) -> Card:
    number = event.verdict_id
    buttons = [[*button("Why", "why", number), *button("Chart", "chart", event.symbol)]]
    if event.approved:
        buttons[0] += button("Cancel", "cancel", number)
    return Card(
        text=verdict_card(event, look),
        kind="approved" if event.approved else "rejected",
        verdict_id=number,
        opens_thread=True,
        buttons=buttons,
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
        VerdictReached: _verdict,
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
