"""What the exchange reports, turned into events of the journal: each execution once, nothing foreign as ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from trading import events as ev
from trading.crashpoints import crashpoint
from trading.desk import Desk
from trading.errors import OutcomeUnknown, Transient
from trading.model import ExchangeOrder, Execution, OrderSide, Purpose
from trading.orders import WorkingOrder
from trading.portfolio import Holding


async def book_execution(desk: Desk, execution: Execution) -> None:
    """Book a fill or a funding payment once; a fill that belongs to nothing of ours is only reported.

    Before a trade is finished, what else the exchange has booked on it is fetched: a lost payment belongs to it.
    """
    holding = desk.book.holdings.get(execution.symbol)
    if holding is not None and not execution.funding and finishes(holding, execution):
        for earlier in await known_executions(desk, holding):
            if earlier.exec_id == execution.exec_id:
                break
            await book_one(desk, earlier)
    await book_one(desk, execution)


def finishes(holding: Holding, execution: Execution) -> bool:
    """Would this fill leave the position flat?"""
    return execution.side is OrderSide.closing(holding.side) and execution.qty >= holding.qty


async def known_executions(desk: Desk, holding: Holding) -> Sequence[Execution]:
    """Executions since the entry; none when the exchange cannot be asked now (reconciling asks again)."""
    try:
        return await desk.broker.executions(holding.symbol, holding.entry_time)
    except (OutcomeUnknown, Transient):
        return ()


async def book_one(desk: Desk, execution: Execution) -> None:
    """Book exactly this one, unless it is booked already."""
    if execution.exec_id in desk.book.booked:
        return
    if execution.funding:
        await desk.record(
            ev.FundingPaid(
                at=execution.at, exec_id=execution.exec_id, symbol=execution.symbol, amount=execution.fee
            )
        )
        return
    fill = fill_of(desk, execution)
    if fill is None:
        symbol = execution.symbol
        await report_foreign(desk, execution.at, f"a fill of {symbol}", f"fill:{symbol}")
        return
    crashpoint("before_fill")
    await desk.record(*desk.book.fill_events(fill))
    crashpoint("after_fill")


def fill_of(desk: Desk, execution: Execution) -> ev.OrderFilled | None:
    """The execution as an event; None when it belongs to nothing of ours.

    What somebody else closes of our position is our exit all the same: the exchange wins on quantity.
    """
    order = desk.book.order(execution.link_id)
    holding = desk.book.holdings.get(execution.symbol)
    entry: WorkingOrder | None = None
    qty = execution.qty
    if order is not None:
        purpose, verdict, asked = order.purpose, order.verdict_id, order.price
        entry = order if purpose is Purpose.ENTRY else None
    elif holding is not None and execution.side is OrderSide.closing(holding.side):
        stopped = not execution.link_id and execution.purpose is Purpose.STOP
        purpose, verdict = (Purpose.STOP if stopped else Purpose.EXIT), holding.verdict_id
        asked = holding.stop if stopped else None
        qty = min(qty, holding.qty)  # more than we hold is somebody's own position
    else:
        return None
    return ev.OrderFilled(
        at=execution.at,
        exec_id=execution.exec_id,
        link_id=execution.link_id,
        order_id=execution.order_id,
        verdict_id=verdict,
        symbol=execution.symbol,
        purpose=purpose,
        side=execution.side,
        qty=qty,
        price=execution.price,
        fee=execution.fee * qty / execution.qty,
        maker=execution.maker,
        bar_time=bar_of(desk, execution.at),
        stop=entry.stop if entry else None,
        risk_usdt=_risk(entry, execution) if entry else None,
        slippage_bp=_slippage(execution, asked),
    )


def bar_of(desk: Desk, at: datetime) -> datetime:
    """Open time of the bar in which a moment lies, counted from the last close that was dealt with."""
    last = desk.book.last_close
    if last is None:
        return at
    return last + ((at - last) // desk.interval) * desk.interval


def _risk(entry: WorkingOrder, execution: Execution) -> Decimal | None:
    return None if entry.stop is None else execution.qty * abs(execution.price - entry.stop)


def _slippage(execution: Execution, asked: Decimal | None) -> float | None:
    """Basis points against the price that was asked for, positive when it was worse."""
    if asked is None or asked == 0:
        return None
    return float(execution.side.sign * (execution.price - asked) / asked) * 1e4


async def book_order(desk: Desk, order: ExchangeOrder) -> None:
    """An order of ours that ended without a fill, or with less than was asked; the rest comes as executions."""
    ours = desk.book.working.get(order.link_id)
    if ours is None or order.open:
        return
    flat = ours.purpose is not Purpose.ENTRY and ours.symbol not in desk.book.holdings
    if order.status == "Filled" and not flat:
        return
    at = desk.book.last_close or ours.signal_time
    if order.status == "Rejected":
        await desk.record(
            ev.OrderRefused(
                at=at, link_id=ours.link_id, symbol=ours.symbol, reason=order.reason, verdict_id=ours.verdict_id
            )
        )
        return
    await desk.record(ending_of(ours, at, "flat" if flat else order.reason or order.status))


def ending_of(order: WorkingOrder, at: datetime, reason: str) -> ev.OrderCancelled:
    """An order of ours that will not fill any more."""
    return ev.OrderCancelled(
        at=at,
        link_id=order.link_id,
        symbol=order.symbol,
        purpose=order.purpose,
        reason=reason,
        verdict_id=order.verdict_id,
    )


async def report_foreign(desk: Desk, at: datetime, what: str, about: str) -> None:
    """Tell the owner once about something on the account that is not ours."""
    text = f"{what} is not ours: it is left alone, check who else trades on this account"
    await desk.alert(at, "foreign", text, about)
