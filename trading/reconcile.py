"""What differs between our book and the exchange: a pure diff, the same at start, on reconnect and at each close.

The exchange wins on quantity. What it holds that nobody here intended is reported and left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from trading.model import AccountSnapshot, ExchangeOrder, ExchangePosition, Side
from trading.orders import WorkingOrder
from trading.portfolio import Book, Holding


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeDiffers:
    """Signed quantities differ: executions are missing here, or somebody else traded."""

    symbol: str
    ours: Decimal
    theirs: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class StopDiffers:
    """The exchange protects the position at another price, or (`theirs` None) not at all."""

    symbol: str
    ours: Decimal
    theirs: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFound:
    """An order of ours that was in doubt is open there."""

    order: WorkingOrder
    theirs: ExchangeOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderMissing:
    """An order of ours is not open there: it ended unheard, or it never arrived."""

    order: WorkingOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOrder:
    """An open order that is not ours."""

    order: ExchangeOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class CashDiffers:
    """The wallet differs while all else agrees: a payment was missed, or money came or went."""

    ours: Decimal
    theirs: Decimal


Difference = SizeDiffers | StopDiffers | OrderFound | OrderMissing | ForeignOrder | CashDiffers

TOLERANCE = Decimal("1e-8")


def diff(book: Book, snapshot: AccountSnapshot) -> list[Difference]:
    """Every difference over the union of both sides' symbols; an empty list when they agree."""
    positions = {position.symbol: position for position in snapshot.positions}
    found: list[Difference] = []
    for symbol in sorted(book.holdings.keys() | positions.keys()):
        found += _position(symbol, book.holdings.get(symbol), positions.get(symbol))
    found += _orders(book, snapshot.orders)
    unsettled = any(isinstance(each, SizeDiffers | OrderMissing) for each in found)
    if snapshot.cash is not None and not unsettled and abs(book.cash - snapshot.cash) > TOLERANCE:
        found.append(CashDiffers(ours=book.cash, theirs=snapshot.cash))
    return found


def _position(symbol: str, ours: Holding | None, theirs: ExchangePosition | None) -> Iterable[Difference]:
    mine = _signed(ours.side, ours.qty) if ours else Decimal(0)
    other = _signed(theirs.side, theirs.qty) if theirs else Decimal(0)
    if mine != other:
        yield SizeDiffers(symbol=symbol, ours=mine, theirs=other)
    elif ours and theirs and ours.stop != theirs.stop:
        yield StopDiffers(symbol=symbol, ours=ours.stop, theirs=theirs.stop)


def _signed(side: Side, qty: Decimal) -> Decimal:
    return side.sign * qty


def _orders(book: Book, theirs: tuple[ExchangeOrder, ...]) -> Iterable[Difference]:
    open_there = {order.link_id: order for order in theirs}
    for order in book.working.values():
        known = open_there.get(order.link_id)
        if known is None:
            yield OrderMissing(order=order)
        elif order.uncertain:
            yield OrderFound(order=order, theirs=known)
    for other in theirs:
        if other.link_id not in book.working:
            yield ForeignOrder(order=other)
