"""Making the book agree with the exchange: one path for the start, a reconnect and every close.

The exchange wins on quantity: executions that were missed are fetched and booked. An order whose fate is not known
is asked for by its id and sent again under the same id only when it never arrived and is still wanted. A stop that
is looser there than here, or gone, is set again. What is foreign is reported, left alone, and keeps entries away.
"""

from __future__ import annotations

from datetime import datetime

from trading import events as ev
from trading import risk
from trading.bookkeeping import book_execution, book_order, report_foreign
from trading.desk import Desk
from trading.errors import Rejected
from trading.model import EPOCH, Purpose, Side
from trading.orders import WorkingOrder
from trading.reconcile import (
    CashDiffers,
    Difference,
    ForeignOrder,
    OrderMissing,
    SizeDiffers,
    StopDiffers,
    diff,
)


async def reconcile(desk: Desk, at: datetime) -> list[str]:
    """Compare, mend, compare again; returns what was found, one line each. What stays different is alerted."""
    differences = diff(desk.book, await desk.broker.snapshot())
    if not differences:
        desk.blocked.clear()
        return []
    await fetch_executions(desk, differences)
    found = [line for each in differences if (line := await mend(desk, each, at))]
    desk.blocked.clear()
    for left in diff(desk.book, await desk.broker.snapshot()):
        await report(desk, left, at)
    return found


async def fetch_executions(desk: Desk, differences: list[Difference]) -> None:
    """Book what was missed, for every symbol of ours (cheap, and a payment has no symbol in a cash difference)."""
    if all(isinstance(each, ForeignOrder) for each in differences):
        return
    last = desk.book.last_close
    since = last - desk.interval if last else EPOCH
    for symbol in desk.symbols:
        for execution in await desk.broker.executions(symbol, since):
            await book_execution(desk, execution)


async def mend(desk: Desk, difference: Difference, at: datetime) -> str | None:
    """Deal with one difference; None when it has gone with the executions booked meanwhile."""
    if isinstance(difference, OrderMissing):
        if difference.order.link_id not in desk.book.working:
            return f"{difference.order.symbol}: {difference.order.purpose} filled while away"
        return await resolve(desk, difference.order, at)
    if isinstance(difference, StopDiffers):
        return await agree_on_stop(desk, difference, at)
    if isinstance(difference, SizeDiffers):
        return f"{difference.symbol}: exchange holds {difference.theirs}, book held {difference.ours}"
    return None


async def resolve(desk: Desk, order: WorkingOrder, at: datetime) -> str:
    """Ask what became of an order; absent, it is sent again under its own id or given up."""
    known = await desk.broker.find(order.symbol, order.link_id)
    if known is not None:
        await book_order(desk, known)
        return f"{order.symbol}: {order.purpose} order is {known.status}"
    if still_wanted(desk, order, at):
        await desk.dispatch(at, order.link_id, order.symbol, risk.approve_again(order))
        return f"{order.symbol}: {order.purpose} order had not arrived and was sent"
    reason = "it never arrived and is no longer wanted"
    await desk.record(ev.OrderRefused(at=at, link_id=order.link_id, symbol=order.symbol, reason=reason))
    return f"{order.symbol}: {order.purpose} order never arrived and was given up"


def still_wanted(desk: Desk, order: WorkingOrder, at: datetime) -> bool:
    """An exit is wanted while there is a position; an entry only at the very close that it was decided on."""
    if order.purpose is not Purpose.ENTRY:
        return order.symbol in desk.book.holdings
    return at <= order.signal_time + desk.interval and not desk.book.paused


async def agree_on_stop(desk: Desk, difference: StopDiffers, at: datetime) -> str | None:
    """Keep the tighter stop of the two: a move may have reached the exchange but not the journal."""
    holding = desk.book.holdings.get(difference.symbol)
    if holding is None:
        return None
    theirs, ours = difference.theirs, holding.stop
    if theirs is not None and (theirs > ours if holding.side is Side.LONG else theirs < ours):
        await desk.record(
            ev.StopMoved(
                at=at,
                symbol=difference.symbol,
                verdict_id=holding.verdict_id,
                old=ours,
                new=theirs,
                level_r=0.0,
            )
        )
        return f"{difference.symbol}: the exchange's stop {theirs} is tighter than ours and is kept"
    try:
        await desk.broker.move_stop(difference.symbol, ours)
    except Rejected as refusal:
        return f"{difference.symbol}: the stop {ours} could not be set: {refusal}"
    return f"{difference.symbol}: the stop was {theirs} there and is {ours} again"


async def report(desk: Desk, left: Difference, at: datetime) -> None:
    """What mending did not cure: the owner hears it once, and no entry is made on that symbol."""
    if isinstance(left, ForeignOrder):
        desk.blocked[left.order.symbol] = "foreign_order"
        await report_foreign(desk, at, left.order.order_id, f"an order on {left.order.symbol}")
    elif isinstance(left, CashDiffers):
        await alert_once(desk, at, "cash", f"the wallet holds {left.theirs} USDT, the book says {left.ours}")
    elif isinstance(left, SizeDiffers):
        desk.blocked[left.symbol] = "size_differs"
        text = f"{left.symbol}: the exchange holds {left.theirs}, the book says {left.ours}; no entries on it"
        await alert_once(desk, at, f"size:{left.symbol}", text)
    elif isinstance(left, StopDiffers):
        text = f"{left.symbol}: the stop is {left.theirs} on the exchange, it should be {left.ours}"
        await alert_once(desk, at, f"stop:{left.symbol}", text)


async def alert_once(desk: Desk, at: datetime, key: str, text: str) -> None:
    """One alert for one state of things."""
    if (key, text) not in desk.alerted:
        desk.alerted.add((key, text))
        await desk.record(ev.AlertRaised(at=at, kind=key, text=text))
