"""One trade, from the closed bar to the order: the same in a replay, on paper and live.

`run_cycle` is the whole story; everything it calls is either pure or a port. What is open is dealt with first and
never waits for the council; then the strategy proposes, guards object, the council may veto or shrink, risk sizes,
and the intent is written before the order leaves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from trading import events as ev
from trading import risk, trailing
from trading.bookkeeping import ending_of
from trading.council.guards import knife_text
from trading.council.packet import WINDOW, atr_of
from trading.crashpoints import crashpoint
from trading.desk import Desk
from trading.errors import OutcomeUnknown, Rejected, Transient
from trading.model import (
    ZERO,
    AccountFacts,
    Candle,
    CandleSeries,
    ExitReason,
    OrderSide,
    OrderType,
    Proposal,
    Purpose,
    Side,
    exact,
)
from trading.orders import WorkingOrder, link_id_of
from trading.parameters import TradeRules
from trading.portfolio import Holding
from trading.ports import Brief, Deliberation
from trading.risk import Refused, Sized
from trading.signals import Reading

NO_COUNCIL = Deliberation(approved=False, size_multiplier=0.0, reasons=())


async def run_cycle(desk: Desk, candle: Candle) -> None:
    """Deal with one closed bar of one symbol, from what is open to a new entry."""
    reading = desk.signals.read(candle)

    # What is open waits for nobody: trail the stop, leave, take profit, let the entry expire.
    await protect(desk, candle, reading)
    await tend_entry(desk, candle)

    # The strategy proposes. An edge that cannot count now is dropped, not queued.
    if reading.side == 0:
        return
    side = Side.LONG if reading.side > 0 else Side.SHORT
    if reason := busy(desk, candle, reading):
        await desk.record(ev.EdgeDropped(at=candle.close_time, symbol=candle.symbol, side=side, reason=reason))
        return
    case = open_case(desk, candle, reading, side)

    # Guards in code (G1): a hard failure ends here and nothing is spent on the council.
    new_risk = float(case.base.risk_usdt) / float(desk.book.cash) if isinstance(case.base, Sized) else 0.0
    hazard, latched = reading.hazard(side), reading.latched(side)
    objections = desk.guards.before_council(
        case.proposal, case.facts, case.atr, hazard, latched, new_risk, case.knife if hazard else ""
    )
    if objections:
        await reject(desk, case, "guard", tuple(objection.reason for objection in objections))
        return
    if isinstance(case.base, Refused):
        await reject(desk, case, "risk", (case.base.reason,))
        return

    # The council may veto or shrink; nobody waits for it once somebody asks for less risk.
    window = desk.signals.window(candle.symbol, WINDOW)
    brief = Brief(window=window, proposal=case.proposal, account=case.facts)
    ruling = await desk.interrupt.unless(desk.council.deliberate(brief))
    if ruling is None:
        reason = f"{desk.interrupt.asked} was asked for while the council deliberated"
        await reject(desk, case, "operator", (reason,))
        return
    if not ruling.approved:
        await reject(desk, case, "council", ruling.reasons, ruling)
        return

    # Guards again, at the fresh price (G2), and the final size.
    if stale := await second_look(desk, case, candle):
        await reject(desk, case, "guard", (stale,), ruling)
        return
    if asked := desk.interrupt.asked:
        await reject(desk, case, "operator", (f"{asked} was asked for before the order left",), ruling)
        return
    sized = size(desk, case.proposal, ruling.size_multiplier)
    if isinstance(sized, Refused):
        await reject(desk, case, "risk", (sized.reason,), ruling)
        return

    # Verdict and intent are one commit; then the order leaves with its stop attached.
    intent = entry_intent(desk, case, sized)
    verdict = verdict_of(desk, case, ruling, sized=sized)
    await desk.send(intent, risk.approve_entry(case.proposal, sized, intent.link_id), verdict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A candidate with what is known about it at its close.

    `base` is its size before the council, `knife` the move against it in words.
    """

    proposal: Proposal
    facts: AccountFacts
    atr: float | None
    base: Sized | Refused
    knife: str
    verdict_id: int


def busy(desk: Desk, candle: Candle, reading: Reading) -> str | None:
    """Why an edge cannot count at this close, or None."""
    symbol, book = candle.symbol, desk.book
    reasons = {
        # Before a kill that left this close unmarked: there is one verdict for a candidate.
        "decided": book.decided.get(symbol) == candle.open_time,
        "symbol_muted": symbol in book.muted,
        "in_position": symbol in book.holdings,
        "entry_resting": book.entry_of(symbol) is not None,
        "cooldown": book.cooling_down(symbol, candle.open_time, desk.interval, desk.rules.cooldown_bars),
        "stopping": bool(desk.stopping),
        "blocked": symbol in desk.blocked,
        "exchange_unreachable": bool(desk.lost),
        "stale": desk.late,
        "unmeasured": not 0.0 < reading.r < math.inf,  # without a stop distance there is no order
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def open_case(desk: Desk, candle: Candle, reading: Reading, side: Side) -> Case:
    """Price the proposal and take stock of the account."""
    proposal = propose(desk, candle, reading.r, side)
    window = desk.signals.window(candle.symbol, WINDOW)
    atr = atr_of(window)
    return Case(
        proposal=proposal,
        facts=desk.facts(candle),
        atr=atr,
        base=size(desk, proposal, 1.0),
        knife=knife_of(window, side, desk.own_knife_bars.get(candle.symbol, desk.knife_bars), atr),
        verdict_id=desk.book.verdicts + 1,
    )


async def second_look(desk: Desk, case: Case, candle: Candle) -> str | None:
    """Why the decision is stale by now, or None; a price that cannot be read again is no price to trade on."""
    try:
        price = await desk.market.last_price(candle.symbol)
    except (OutcomeUnknown, Transient, Rejected) as error:
        return f"the price could not be read again: {error}"
    objection = desk.guards.before_order(case.proposal, case.atr, price, desk.age_bars(candle))
    return objection.reason if objection else None


def knife_of(window: CandleSeries, side: Side, bars: int, atr: float | None) -> str:
    """The last bars' move against a side, in ATR, in words; empty where it cannot be told."""
    if atr is None or len(window) <= bars:
        return ""
    move = side.sign * float(window.close[-1 - bars] - window.close[-1])
    return knife_text(side, move / atr, bars)


def propose(desk: Desk, candle: Candle, r_distance: float, side: Side) -> Proposal:
    """Entry rule 1: the limit below (above) the close, the stop R away, the take profit if there is one."""
    instrument, rules, sign = desk.instruments[candle.symbol], desk.rules, side.sign
    entry = instrument.round_price(candle.close * (1 - sign * rules.entry_offset))
    price = float(entry)
    take_profit = None
    if rules.take_profit_r > 0:
        take_profit = instrument.round_price(price + sign * rules.take_profit_r * r_distance)
    return Proposal(
        symbol=candle.symbol,
        side=side,
        signal_time=candle.open_time,
        interval=candle.interval,
        close=candle.close,
        entry=entry,
        stop=instrument.round_price(price - sign * r_distance),
        take_profit=take_profit,
        take_profit_r=rules.take_profit_r,
        r_distance=r_distance,
    )


def size(desk: Desk, proposal: Proposal, modifier: float) -> Sized | Refused:
    """Entry rule 2 over the whole account."""
    return risk.size_entry(
        proposal,
        equity=desk.book.cash,
        terms=desk.terms,
        instrument=desk.instruments[proposal.symbol],
        used=desk.exposure(),
        size_modifier=modifier,
    )


async def reject(
    desk: Desk, case: Case, gate: str, reasons: tuple[str, ...], ruling: Deliberation = NO_COUNCIL
) -> None:
    """Write down why a candidate ends here."""
    await desk.record(verdict_of(desk, case, ruling, gate=gate, reasons=reasons))


def verdict_of(
    desk: Desk,
    case: Case,
    ruling: Deliberation,
    *,
    sized: Sized | None = None,
    gate: str = "",
    reasons: tuple[str, ...] = (),
) -> ev.VerdictReached:
    """The verdict as it is stored and shown; approved exactly when there is a size."""
    p = case.proposal
    return ev.VerdictReached(
        at=p.signal_time + p.interval,
        verdict_id=case.verdict_id,
        symbol=p.symbol,
        side=p.side,
        approved=sized is not None,
        gate=gate,
        reasons=reasons or ruling.reasons,
        close=exact(p.close),
        entry=p.entry,
        stop=p.stop,
        take_profit=p.take_profit,
        r_distance=p.r_distance,
        atr=case.atr,
        qty=sized.qty if sized else ZERO,
        size_modifier=min(max(ruling.size_multiplier, 0.0), 1.0) if sized else 0.0,
        risk_usdt=sized.risk_usdt if sized else ZERO,
        equity=desk.book.cash,
        council=desk.council.mode,
        signal_time=p.signal_time,
        answers=ruling.answers,
        clamp=sized.clamp if sized else "",
    )


def entry_intent(desk: Desk, case: Case, sized: Sized) -> ev.OrderIntended:
    """The intent of an approved entry; its id depends only on what it is for."""
    p = case.proposal
    return ev.OrderIntended(
        at=p.signal_time + p.interval,
        link_id=link_id_of(desk.account, p.symbol, Purpose.ENTRY, p.signal_time),
        verdict_id=case.verdict_id,
        symbol=p.symbol,
        purpose=Purpose.ENTRY,
        side=OrderSide.opening(p.side),
        type=OrderType.LIMIT,
        qty=sized.qty,
        price=p.entry,
        stop=p.stop,
        take_profit=p.take_profit,
        r_distance=p.r_distance,
        signal_time=p.signal_time,
    )


async def protect(desk: Desk, candle: Candle, reading: Reading) -> None:
    """Step 7 for an open position: ratchet the stop, or leave at the next open; place the take profit."""
    holding = desk.book.holdings.get(candle.symbol)
    if holding is None or candle.open_time < holding.entry_time:
        return  # a bar before the entry, seen late
    mark = watch(desk, holding, candle)
    if desk.book.exit_of(candle.symbol) is not None:
        return
    held = trailing.Held(
        side=holding.side,
        entry=holding.entry_price,
        r_distance=holding.r_distance,
        stop=holding.stop,
        best=mark.best,
    )
    wants_out = reading.exits(holding.side)
    ask = trailing.step(held, candle.close, wants_out, desk.rules, desk.instruments[candle.symbol])
    # A stop at or beyond the close cannot rest on an exchange: that exit is a market order (7c).
    if ask.stop != holding.stop and ask.exit is not ExitReason.TRAILING:
        await move_stop(desk, holding, candle, ask)
    if ask.exit is not None:
        await leave(desk, holding, candle.open_time, candle.close_time, ask.exit)
    elif desk.stopping != "panic" and holding.take_profit is not None and not desk.book.take_profit_of(candle.symbol):
        await take_profit(desk, holding, candle)


def watch(desk: Desk, holding: Holding, candle: Candle) -> ev.OpenPositionMark:
    """The extremes since the entry, this bar included; they are kept with the close's mark."""
    entry_bar = holding.entry_time == candle.open_time
    best = trailing.best_of(holding.side, holding.best, entry_bar, candle.high, candle.low, candle.close)
    other = holding.side.opposite
    worst = trailing.best_of(other, holding.worst, entry_bar, candle.high, candle.low, candle.close)
    desk.watch[candle.symbol] = ev.OpenPositionMark(symbol=candle.symbol, best=best, worst=worst)
    return desk.watch[candle.symbol]


async def move_stop(desk: Desk, holding: Holding, candle: Candle, ask: trailing.Ask) -> None:
    """Trail the stop; refused, the old one stays and the owner hears it."""
    try:
        await amend_stop(desk, holding, candle.close_time, ask.stop, ask.level_r)
    except Rejected as refusal:
        text = f"{candle.symbol}: the exchange refused the stop {ask.stop}, {holding.stop} stays: {refusal}"
        await desk.alert(candle.close_time, "stop", text)
    except (OutcomeUnknown, Transient):
        pass  # reconciling at the next close keeps the tighter of the two


async def amend_stop(desk: Desk, holding: Holding, at: datetime, stop: Decimal, level_r: float) -> None:
    """Amend the stop on the exchange, then write it down."""
    crashpoint("before_stop_move")
    await desk.broker.move_stop(holding.symbol, stop)
    crashpoint("after_stop_move")
    await desk.record(
        ev.StopMoved(
            at=at,
            symbol=holding.symbol,
            verdict_id=holding.verdict_id,
            old=holding.stop,
            new=stop,
            level_r=level_r,
            locked_r=holding.r_at(stop),
        )
    )


async def leave(desk: Desk, holding: Holding, bar: datetime, at: datetime, reason: ExitReason) -> None:
    """A reduce-only market order; decided at the close of `bar`, it gets the next open."""
    intent = closing_intent(desk, holding, bar, at, Purpose.EXIT, None, reason)
    order = risk.approve_exit(holding.symbol, holding.side, holding.qty, intent.link_id)
    await desk.send(intent, order)


async def take_profit(desk: Desk, holding: Holding, candle: Candle) -> None:
    """The reduce-only limit at the target, once the entry bar has closed."""
    price = holding.take_profit
    if price is None or price <= 0:
        return  # a target below zero is never reached
    intent = closing_intent(desk, holding, candle.open_time, candle.close_time, Purpose.TAKE_PROFIT, price, None)
    order = risk.approve_take_profit(candle.symbol, holding.side, holding.qty, price, intent.link_id)
    await desk.send(intent, order)


def closing_intent(
    desk: Desk,
    holding: Holding,
    bar: datetime,
    at: datetime,
    purpose: Purpose,
    price: Decimal | None,
    reason: ExitReason | None,
) -> ev.OrderIntended:
    """The intent of an order that closes a position."""
    return ev.OrderIntended(
        at=at,
        link_id=link_id_of(desk.account, holding.symbol, purpose, bar),
        verdict_id=holding.verdict_id,
        symbol=holding.symbol,
        purpose=purpose,
        side=OrderSide.closing(holding.side),
        type=OrderType.MARKET if price is None else OrderType.LIMIT,
        qty=holding.qty,
        price=price,
        stop=None,
        take_profit=None,
        r_distance=holding.r_distance,
        signal_time=bar,
        exit_reason=reason,
    )


async def tend_entry(desk: Desk, candle: Candle) -> None:
    """Entry rule 4: cancel a resting entry that has expired or that the price has run away from."""
    order = desk.book.entry_of(candle.symbol)
    if order is None or order.uncertain or order.signal_time >= candle.open_time:
        return
    reason = outlived(order, candle, desk.rules, desk.interval)
    if reason is None:
        return
    crashpoint("before_cancel")
    try:
        ended = await desk.broker.cancel(candle.symbol, order.link_id)
    except (OutcomeUnknown, Transient, Rejected):
        return  # whether it is gone is asked at the next close
    if ended.open or ended.status == "Filled":
        return  # the fill came first: its execution is on the way
    crashpoint("after_cancel")
    await desk.record(ending_of(order, candle.close_time, reason))


def outlived(order: WorkingOrder, candle: Candle, rules: TradeRules, interval: timedelta) -> str | None:
    """Why a resting entry should go at this close, or None."""
    if candle.open_time - order.signal_time >= rules.entry_ttl_bars * interval:
        return "expired"
    if order.price is not None and abs(candle.close - float(order.price)) > rules.runaway_r * order.r_distance:
        return "run_away"
    return None
