"""What the exchange reports, turned into events of the journal: each execution once, nothing foreign as ours."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from trading import events as ev
from trading.crashpoints import crashpoint
from trading.desk import Desk
from trading.model import ExchangeOrder, Execution, Purpose
from trading.orders import WorkingOrder


async def book_execution(desk: Desk, execution: Execution) -> None:
    """Book a fill or a funding payment once; a fill that belongs to nothing of ours is only reported."""
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
        await report_foreign(desk, execution.at, execution.exec_id, f"a fill of {execution.symbol}")
        return
    crashpoint("before_fill")
    await desk.record(*desk.book.fill_events(fill))
    crashpoint("after_fill")


def fill_of(desk: Desk, execution: Execution) -> ev.OrderFilled | None:
    """The execution as an event; None when it belongs to nothing of ours."""
    order = desk.book.working.get(execution.link_id)
    holding = desk.book.holdings.get(execution.symbol)
    entry: WorkingOrder | None = None
    if order is not None:
        purpose, verdict, asked = order.purpose, order.verdict_id, order.price
        entry = order if purpose is Purpose.ENTRY else None
    elif holding is not None and not execution.link_id and execution.purpose is Purpose.STOP:
        purpose, verdict, asked = Purpose.STOP, holding.verdict_id, holding.stop
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
        qty=execution.qty,
        price=execution.price,
        fee=execution.fee,
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
    """An order of ours that ended without a fill; everything else is known or comes as an execution."""
    ours = desk.book.working.get(order.link_id)
    if ours is None or order.open or order.status == "Filled":
        return
    at = desk.book.last_close or ours.signal_time
    if order.status == "Rejected":
        refused = ev.OrderRefused(at=at, link_id=ours.link_id, symbol=ours.symbol, reason=order.reason)
        await desk.record(refused)
        return
    flat = ours.purpose is not Purpose.ENTRY and ours.symbol not in desk.book.holdings
    await desk.record(
        ev.OrderCancelled(
            at=at,
            link_id=ours.link_id,
            symbol=ours.symbol,
            purpose=ours.purpose,
            reason="flat" if flat else order.reason or order.status,
            verdict_id=ours.verdict_id,
        )
    )


async def report_foreign(desk: Desk, at: datetime, key: str, what: str) -> None:
    """Tell the owner once about something on the account that is not ours."""
    if key not in desk.reported:
        desk.reported.add(key)
        text = f"{what} is not ours: it is left alone, check who else trades on this account"
        await desk.record(ev.AlertRaised(at=at, kind="foreign", text=text))
