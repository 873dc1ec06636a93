"""One account on the paper exchange: wallet, positions, what protects them, fees, funding and margin.

It turns a fill at a price into money, exactly; which order fills when and at what price is `venue`'s matter.
One-way mode, cross margin, no liquidation (an entry whose stop lies too near its liquidation is refused by risk).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from trading.exchange.simulated.books import Fill, FillKind, NewOrder, Order, Position, StopKind
from trading.model import ZERO, Instrument, OrderSide, OrderType, Side, exact
from trading.parameters import AccountTerms

PARENTS = {
    StopKind.STOP_LOSS: "CreateByStopLoss",
    StopKind.TAKE_PROFIT: "CreateByTakeProfit",
    StopKind.TRAILING: "CreateByTrailingStop",
}

MAINTENANCE_RATE = Decimal("0.005")


def liquidation_price(held: Position, leverage: Decimal) -> Decimal | None:
    """Bybit's published estimate of isolated margin; None where it lies below zero. Nothing is liquidated here."""
    margin = held.entry_price * (1 / leverage - MAINTENANCE_RATE)
    price = held.entry_price - held.side.sign * margin
    return price if price > 0 and (held.side is Side.SHORT or leverage > 1) else None


class Account:
    """Wallet and positions. `told` collects what happened, in order, until the venue has kept it."""

    def __init__(self, instruments: Mapping[str, Instrument], terms: AccountTerms, uid: str) -> None:
        self.cash = exact(terms.initial_equity)
        self.positions: dict[str, Position] = {}
        self.leverage = dict.fromkeys(instruments, exact(terms.leverage))
        self.realised: dict[str, Decimal] = {}
        self.sequence = 0
        self.told: list[Fill | Order] = []
        self.closed: list[Order] = []
        self.maker, self.taker = exact(terms.maker_fee), exact(terms.taker_fee)
        self._tail = f"-0000-4000-8000-{int(uid) if uid.isdecimal() else 0:012x}"
        self._margin_rates: dict[str, Decimal] = {}

    # Names

    def next_id(self) -> str:
        """A UUID that no order or execution of this account has had."""
        self.sequence += 1
        return f"{self.sequence:08x}{self._tail}"

    # Margin

    def margin_rate(self, symbol: str) -> Decimal:
        """Margin and the fees of both ways, as a share of the notional."""
        rate = self._margin_rates.get(symbol)
        if rate is None:
            rate = self._margin_rates[symbol] = 1 / self.leverage[symbol] + self.maker + self.taker
        return rate

    def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """From now on."""
        self.leverage[symbol] = leverage
        self._margin_rates.pop(symbol, None)

    def bound(self) -> Decimal:
        """Cash that the open positions bind."""
        return sum((p.qty * p.entry_price * self.margin_rate(s) for s, p in self.positions.items()), ZERO)

    # Fills

    def fill(self, order: Order, qty: Decimal, price: Decimal, now: datetime, *, maker: bool) -> None:
        """Book a part of an order at a price: fee, profit, position, what protects it, and the order itself."""
        asked = order.asked
        rate = self.maker if maker else self.taker
        fee = qty * price * rate
        before = self.positions.get(asked.symbol)
        closed, pnl, cost, open_fee = _closing(before, asked.side, qty, price)
        self.cash += pnl - fee
        self._move_position(order, qty, price, fee, now)
        self._note_realised(asked.symbol, before, pnl - fee * closed / qty, pnl - fee)
        order.filled += qty
        order.value += qty * price
        order.fee += fee
        order.updated = now
        position = self.positions.get(asked.symbol)
        self.told.append(
            Fill(
                exec_id=self.next_id(),
                order_id=order.order_id,
                link_id=asked.link_id,
                symbol=asked.symbol,
                side=asked.side,
                qty=qty,
                price=price,
                fee=fee,
                fee_rate=rate,
                maker=maker,
                at=now,
                seq=self.sequence,
                order_type=asked.type.value,
                order_qty=asked.qty,
                order_price=asked.price,
                leaves=asked.qty - order.filled,
                create_type=order.create_type,
                stop_order_type=order.stop_order_type,
                closed=closed,
                pnl=pnl,
                entry_value=cost,
                open_fee=open_fee,
                cash_after=self.cash,
                size_after=position.size if position else ZERO,
            )
        )

    def settle(self, symbol: str, price: Decimal, rate: Decimal, at: datetime) -> None:
        """Funding of the open position: positive rates are paid by longs."""
        position = self.positions[symbol]
        amount = position.side.sign * position.qty * price * rate
        self.cash -= amount
        position.realised -= amount
        self.realised[symbol] = self.realised.get(symbol, ZERO) - amount
        self.told.append(
            Fill(
                exec_id=self.next_id(),
                order_id="",
                link_id="",
                symbol=symbol,
                side=OrderSide.opening(position.side),
                qty=position.qty,
                price=price,
                fee=amount,
                fee_rate=rate,
                maker=False,
                at=at,
                seq=self.sequence,
                kind=FillKind.FUNDING,
                cash_after=self.cash,
                size_after=position.size,
            )
        )

    def end(self, order: Order, status: str, now: datetime, *, reason: str = "", by: str = "") -> None:
        """The order leaves the books: filled, cancelled or deactivated, and why."""
        order.status, order.updated = status, now
        order.reject_reason = reason or order.reject_reason
        order.cancel_type = by or order.cancel_type
        self.closed.append(order)
        self.told.append(order.copy())

    def _note_realised(self, symbol: str, before: Position | None, closing: Decimal, all_of_it: Decimal) -> None:
        """The lifetime's realised result, and that of the holding which this fill reduced."""
        self.realised[symbol] = self.realised.get(symbol, ZERO) + all_of_it
        if before is not None:
            before.realised += closing

    def _move_position(self, order: Order, qty: Decimal, price: Decimal, fee: Decimal, now: datetime) -> None:
        asked = order.asked
        side = Side.LONG if asked.side is OrderSide.BUY else Side.SHORT
        position = self.positions.get(asked.symbol)
        if position is None:
            self._open(order, side, qty, price, fee, now)
        elif position.side is side:
            total = position.qty + qty
            position.entry_price = (position.entry_price * position.qty + price * qty) / total
            position.qty, position.updated = total, now
            position.open_fee += fee
            position.realised -= fee
            self._attach(order, position, now)
        else:
            self._reduce(order, position, qty, price, fee, now)

    def _open(self, order: Order, side: Side, qty: Decimal, price: Decimal, fee: Decimal, now: datetime) -> None:
        position = Position(side=side, qty=qty, entry_price=price, opened_in_bar=True, opened=now, updated=now)
        position.open_fee, position.realised = fee, -fee
        self.positions[order.asked.symbol] = position
        self._attach(order, position, now)

    def _reduce(
        self, order: Order, position: Position, qty: Decimal, price: Decimal, fee: Decimal, now: datetime
    ) -> None:
        closing = min(qty, position.qty)
        position.open_fee -= position.open_fee * closing / position.qty
        position.qty -= closing
        position.updated = now
        if position.qty == 0:
            del self.positions[order.asked.symbol]
            self._unguard(position, now, but=order)
        else:
            self._resize_guards(position, now)
        if qty > closing:
            side = Side.LONG if order.asked.side is OrderSide.BUY else Side.SHORT
            self._open(order, side, qty - closing, price, fee * (qty - closing) / qty, now)

    # What protects a position

    def guard(self, symbol: str, kind: StopKind, price: Decimal, now: datetime, parent: str = "") -> None:
        """Set the stop or take profit of the open position: a new order, or the one there is, amended."""
        position = self.positions[symbol]
        order = position.guards.get(kind)
        if order is None:
            order = position.guards[kind] = self._new_guard(symbol, position, kind, price, now, parent)
        else:
            order.asked = replace(order.asked, qty=position.qty, trigger_price=price)
            order.updated = now
        self.told.append(order.copy())

    def unguard(self, symbol: str, kind: StopKind, now: datetime) -> None:
        """Take a protection away, as its owner wants."""
        order = self.positions[symbol].guards.pop(kind)
        self.end(order, "Deactivated", now, by="CancelByUser")

    def _new_guard(
        self, symbol: str, position: Position, kind: StopKind, price: Decimal, now: datetime, parent: str
    ) -> Order:
        rises = (position.side is Side.LONG) is (kind is StopKind.TAKE_PROFIT)
        asked = NewOrder(
            symbol=symbol,
            side=OrderSide.closing(position.side),
            type=OrderType.MARKET,
            qty=position.qty,
            reduce_only=True,
            close_on_trigger=True,
            trigger_price=price,
            trigger_direction=1 if rises else 2,
        )
        return Order(
            order_id=self.next_id(),
            asked=asked,
            created=now,
            updated=now,
            status="Untriggered",
            create_type=PARENTS[kind],
            stop_order_type=kind.value,
            parent_link_id=parent,
        )

    def _attach(self, order: Order, position: Position, now: datetime) -> None:
        """What came with the order protects the whole position from now on."""
        asked = order.asked
        for kind, price in ((StopKind.STOP_LOSS, asked.stop_loss), (StopKind.TAKE_PROFIT, asked.take_profit)):
            if price is not None:
                self.guard(asked.symbol, kind, price, now, asked.link_id)
        self._resize_guards(position, now)

    def _resize_guards(self, position: Position, now: datetime) -> None:
        for order in position.guards.values():
            if order.asked.qty != position.qty:
                order.asked = replace(order.asked, qty=position.qty)
                order.updated = now
                self.told.append(order.copy())

    def _unguard(self, position: Position, now: datetime, *, but: Order) -> None:
        for order in position.guards.values():
            if order is not but:
                self.end(order, "Cancelled", now, by="CancelByTpSlTsClear")
        position.guards.clear()


def _closing(
    position: Position | None, side: OrderSide, qty: Decimal, price: Decimal
) -> tuple[Decimal, Decimal, Decimal, Decimal]:
    """How much of a position a fill closes, its gross profit, what that part had cost, and its entry fees."""
    if position is None or OrderSide.closing(position.side) is not side:
        return ZERO, ZERO, ZERO, ZERO
    closed = min(qty, position.qty)
    pnl = position.side.sign * closed * (price - position.entry_price)
    return closed, pnl, closed * position.entry_price, position.open_fee * closed / position.qty
