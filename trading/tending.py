"""What is open and what rests, at a close: it waits for nobody, whatever else is to be decided.

Step 7 of the specification for positions, and entry rule 4 for resting entries.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from trading import events as ev
from trading import risk, trailing
from trading.bookkeeping import ending_of
from trading.crashpoints import crashpoint
from trading.desk import Desk
from trading.errors import OutcomeUnknown, Rejected, Transient
from trading.model import Candle, ExitReason, OrderSide, OrderType, Purpose
from trading.orders import WorkingOrder, link_id_of
from trading.parameters import TradeRules
from trading.portfolio import Holding
from trading.signals import Reading


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
