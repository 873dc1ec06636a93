"""Making the book agree with the exchange: one path for the start, a reconnect and every close.

The exchange wins on quantity: executions that were missed are fetched and booked. An order whose fate is not known
is asked for by its id and sent again under the same id only when it never arrived and is still wanted. A stop that
is looser there than here, or gone, is set again; a position that cannot be protected is closed. What is foreign is
reported, left alone, and keeps entries away.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from trading import events as ev
from trading import risk
from trading.bookkeeping import book_execution, book_order, ending_of, report_foreign
from trading.desk import FOREIGN, UNREACHABLE, Desk, WalletLook
from trading.errors import OutcomeUnknown, Rejected, Transient
from trading.model import EPOCH, AccountSnapshot, ExchangeOrder, ExitReason, Purpose, Side
from trading.orders import OrderState, WorkingOrder
from trading.portfolio import Holding
from trading.reconcile import (
    CashDiffers,
    Difference,
    ForeignOrder,
    OrderFound,
    OrderMissing,
    SizeDiffers,
    StopDiffers,
    diff,
)
from trading.tending import leave

LOOKS: Final = 3  # an order is absent only after this many looks …
LOOK_SECONDS: Final = 2.5  # … this far apart: what was accepted may be invisible for seconds
FRESH_BARS: Final = 0.05  # an entry that never arrived is sent again so long after its close, and no later
TRIES: Final = 3  # attempts to protect a naked position before it is closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a comparison with the exchange has shown: one line for each thing that was mended, and what is left."""

    found: tuple[str, ...] = ()
    left: tuple[Difference, ...] = ()


async def reconcile(desk: Desk, at: datetime) -> list[str]:
    """Compare, mend, compare again; returns what was found, one line each. What stays different is alerted.

    When the exchange cannot be asked, nothing new is entered until it can.
    """
    comparison = await compare(desk, at)
    return [UNREACHABLE] if comparison is None else list(comparison.found)


async def compare(desk: Desk, at: datetime) -> Comparison | None:
    """As `reconcile`, with what is left different; None when the exchange cannot be asked."""
    try:
        return await _compare(desk, at)
    except (OutcomeUnknown, Transient):
        desk.blocked.update(dict.fromkeys(desk.symbols, "exchange_unreachable"))
        await desk.alert(at, "exchange", UNREACHABLE)
        return None


async def _compare(desk: Desk, at: datetime) -> Comparison:
    differences = diff(desk.book, await look(desk))
    if not differences:
        await desk.settled(at)
        return Comparison()
    await fetch_executions(desk, differences)
    found = [line for each in differences if (line := await mend(desk, each, at))]
    left = diff(desk.book, await desk.broker.snapshot())
    await desk.settled(at, keep_cash=any(isinstance(each, CashDiffers) for each in left))
    for difference in left:
        await report(desk, difference, at)
    return Comparison(found=tuple(found), left=tuple(left))


async def look(desk: Desk) -> AccountSnapshot:
    """What the exchange holds now, the wallet only when it may have moved."""
    cash = desk.wallet_due()
    if cash:
        now, monotonic = desk.clock.now(), desk.clock.monotonic()
        desk.wallet_look = WalletLook(at=now, monotonic=monotonic, cash=desk.book.cash)
    held = await desk.broker.snapshot(cash=cash)
    desk.liquidations = {each.symbol: each.liquidation for each in held.positions}
    return held


async def fetch_executions(desk: Desk, differences: list[Difference]) -> None:
    """Book what was missed, over all symbols of ours in the order of time (each symbol's own order is kept)."""
    if all(isinstance(each, ForeignOrder | OrderFound) for each in differences):
        return
    last = desk.book.last_close
    since = last - desk.interval if last else EPOCH
    heard = [await desk.broker.executions(symbol, since) for symbol in desk.symbols]
    for execution in heapq.merge(*heard, key=lambda one: one.at):
        await book_execution(desk, execution)


async def mend(desk: Desk, difference: Difference, at: datetime) -> str | None:
    """Deal with one difference; None when it has gone with the executions booked meanwhile."""
    if isinstance(difference, OrderFound):
        return await accept(desk, difference.order, difference.theirs, at)
    if isinstance(difference, OrderMissing):
        if difference.order.link_id not in desk.book.working:
            return f"{difference.order.symbol}: {difference.order.purpose} filled while away"
        return await resolve(desk, difference.order, at)
    if isinstance(difference, StopDiffers):
        return await agree_on_stop(desk, difference, at)
    if isinstance(difference, SizeDiffers):
        return f"{difference.symbol}: exchange holds {difference.theirs}, book held {difference.ours}"
    return None


async def accept(desk: Desk, order: WorkingOrder, known: ExchangeOrder, at: datetime) -> str:
    """Nobody doubts an order any longer that the exchange shows as open."""
    if order.link_id in desk.book.working and order.uncertain:
        accepted = ev.OrderAccepted(at=at, link_id=order.link_id, symbol=order.symbol, order_id=known.order_id)
        await desk.record(accepted)
    return f"{order.symbol}: {order.purpose} order rests"


async def resolve(desk: Desk, order: WorkingOrder, at: datetime) -> str:
    """Ask what became of an order; absent, it is sent again under its own id or given up."""
    known = await look_for(desk, order)
    if known is not None and known.open:
        return await accept(desk, order, known, at)
    if known is not None:
        await book_order(desk, known)
        return f"{order.symbol}: {order.purpose} order is {known.status}"
    if order.state is OrderState.ACCEPTED:  # it ended so long ago that the exchange has forgotten it
        await desk.record(ending_of(order, at, "forgotten by the exchange"))
        return f"{order.symbol}: {order.purpose} order is not shown any longer"
    if still_wanted(desk, order, at):
        await desk.dispatch(at, order.link_id, order.symbol, risk.approve_again(order))
        return f"{order.symbol}: {order.purpose} order had not arrived and was sent"
    reason = "it never arrived and is no longer wanted"
    await desk.record(
        ev.OrderRefused(
            at=at, link_id=order.link_id, symbol=order.symbol, reason=reason, verdict_id=order.verdict_id
        )
    )
    return f"{order.symbol}: {order.purpose} order never arrived and was given up"


async def look_for(desk: Desk, order: WorkingOrder) -> ExchangeOrder | None:
    """Find an order by its id; None only after several looks over some seconds."""
    for look in range(LOOKS):
        if look:
            await desk.clock.sleep(LOOK_SECONDS)
        known = await desk.broker.find(order.symbol, order.link_id)
        if known is not None:
            return known
    return None


def still_wanted(desk: Desk, order: WorkingOrder, at: datetime) -> bool:
    """An exit is wanted while there is a position; an entry only right after the close that it was decided on.

    Of what somebody has asked to be cancelled, nothing is.
    """
    if order.purpose is Purpose.EXIT:
        return order.symbol in desk.book.holdings
    if order.purpose is not Purpose.ENTRY:
        return order.symbol in desk.book.holdings and desk.stopping != "panic"
    fresh = at <= order.signal_time + (1 + FRESH_BARS) * desk.interval
    return fresh and not (desk.book.paused or desk.stopping or order.symbol in desk.unwanted)


async def agree_on_stop(desk: Desk, difference: StopDiffers, at: datetime) -> str | None:
    """Keep the tighter stop of the two: a move may have reached the exchange but not the journal."""
    symbol, theirs = difference.symbol, difference.theirs
    holding = desk.book.holdings.get(symbol)
    if holding is None:
        return None
    if theirs is not None and tighter(holding.side, theirs, holding.stop):
        await desk.record(
            ev.StopMoved(
                at=at,
                symbol=symbol,
                verdict_id=holding.verdict_id,
                old=holding.stop,
                new=theirs,
                level_r=0.0,
                locked_r=holding.r_at(theirs),
            )
        )
        return f"{symbol}: the exchange's stop {theirs} is tighter than ours and is kept"
    try:
        await desk.broker.move_stop(symbol, holding.stop)
    except Rejected as refusal:
        if theirs is None:
            await close_unprotected(desk, holding, at)
        return f"{symbol}: the stop {holding.stop} could not be set: {refusal}"
    desk.naked.pop(symbol, None)
    return f"{symbol}: the stop was {theirs} there and is {holding.stop} again"


def tighter(side: Side, one: Decimal, other: Decimal) -> bool:
    """Does the first stop risk less than the other?"""
    return one > other if side is Side.LONG else one < other


async def close_unprotected(desk: Desk, holding: Holding, at: datetime) -> None:
    """A position without a stop is closed once the price is beyond it, or when it cannot be set again and again."""
    symbol = holding.symbol
    desk.naked[symbol] = desk.naked.get(symbol, 0) + 1
    price = await desk.market.last_price(symbol)
    beyond = not tighter(holding.side, price, holding.stop)
    if (beyond or desk.naked[symbol] >= TRIES) and desk.book.exit_of(symbol) is None:
        text = f"{symbol}: the position has no stop and none can be set: it is closed at the market"
        await desk.alert(at, f"naked:{symbol}", text)
        await leave(desk, holding, at - desk.interval, at, ExitReason.STOP)


async def report(desk: Desk, left: Difference, at: datetime) -> None:
    """What mending did not cure: the owner hears it once, and no entry is made on that symbol."""
    if isinstance(left, ForeignOrder):
        desk.blocked[left.order.symbol] = FOREIGN
        await report_foreign(desk, at, f"an order on {left.order.symbol}", left.order.order_id)
    elif isinstance(left, CashDiffers):
        await look_at_cash(desk, left, at)
    elif isinstance(left, SizeDiffers):
        desk.blocked[left.symbol] = "size_differs"
        text = f"{left.symbol}: the exchange holds {left.theirs}, the book says {left.ours}; no entries on it"
        await desk.alert(at, f"size:{left.symbol}", text)
    elif isinstance(left, StopDiffers):
        text = f"{left.symbol}: the stop is {left.theirs} on the exchange, it should be {left.ours}"
        await desk.alert(at, f"stop:{left.symbol}", text)


async def look_at_cash(desk: Desk, left: CashDiffers, at: datetime) -> None:
    """A difference that is the same at two looks is money that came or went; until then nothing is entered."""
    amount = left.theirs - left.ours
    if desk.cash_difference != amount:
        desk.cash_difference = amount
        desk.blocked.update(dict.fromkeys(desk.symbols, "cash_differs"))
        return
    desk.cash_difference = None
    text = f"the wallet holds {amount:+f} USDT more than was traded: a deposit, a withdrawal, or another's trade"
    alert = ev.AlertRaised(at=at, kind="cash", text=text)
    await desk.record(ev.CashAdjusted(at=at, amount=amount, cash=left.theirs), alert)
