"""The venue core: matching, fees, funding, margin, positions and attached stops of linear perpetuals.

A real, small exchange on closed bars, in the order of the specification ("What happens inside bar k"):
`begin_bar` settles funding (step 1) and fills due market orders at the open (2); `end_bar` matches the stop
through the gap (3), resting entries (4), the stop (5) and reduce-only limits (6). Step 7 is the trader's.
It keeps its own ledger and knows nothing of strategies, councils or clocks. One-way mode, isolated from I/O:
what must be durable goes to a `Keeper`, what happened goes to the listener, both after the books are straight.

Comparisons of bars with prices are made in float64 on purpose: a bar's low is the double nearest its decimal.
Money is exact decimal. No liquidation is modelled: an entry whose stop lies too near it is refused by risk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from trading.model import (
    EPOCH,
    ZERO,
    AccountSnapshot,
    Candle,
    ExchangeOrder,
    ExchangePosition,
    Execution,
    Instrument,
    OrderSide,
    OrderType,
    PlaceOrder,
    Purpose,
    Side,
    exact,
    millis,
    utc,
)
from trading.parameters import AccountTerms

SETTLEMENT_MS = 8 * 3600 * 1000
POST_ONLY_CROSSED = "EC_PostOnlyWillTakeLiquidity"
REDUCE_ONLY_FLAT = "EC_ReduceOnlyPositionClosed"
BY_USER = "EC_PerCancelRequest"


class VenueRefusal(Exception):
    """An order or request that the exchange will not take; `code` is Bybit's return code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True, kw_only=True)
class Order:
    """A live order in the books."""

    order_id: str
    request: PlaceOrder
    created: datetime
    status: str = "New"
    filled: Decimal = ZERO
    reason: str = ""

    @property
    def leaves(self) -> Decimal:
        """What is still to fill."""
        return self.request.qty - self.filled

    def view(self) -> ExchangeOrder:
        """As the outside sees it."""
        asked = self.request
        return ExchangeOrder(
            order_id=self.order_id,
            link_id=asked.link_id,
            symbol=asked.symbol,
            side=asked.side,
            type=asked.type,
            qty=asked.qty,
            filled=self.filled,
            price=asked.price,
            reduce_only=asked.reduce_only,
            status=self.status,
            reason=self.reason,
        )


@dataclass(slots=True, kw_only=True)
class Position:
    """A position in the books; `opened_in_bar` is true until the bar in which it was opened has ended."""

    side: Side
    qty: Decimal
    entry_price: Decimal
    stop: Decimal | None = None
    opened_in_bar: bool = False


VenueEvent = Execution | ExchangeOrder


class Keeper(Protocol):
    """Where the exchange keeps what it must not forget. Called after every change, before anyone is told."""

    def keep(
        self, state: Callable[[], dict[str, Any]], closed: Sequence[Order], executions: Sequence[Execution]
    ) -> None:
        """Store the state with the orders that left the books and the executions since the last call."""
        ...

    def find(self, link_id: str) -> Order | None:
        """A closed order by its link id."""
        ...

    def executions(self, symbol: str, since: datetime) -> list[Execution]:
        """Executions of a symbol at or after a moment, oldest first."""
        ...


@dataclass(frozen=True, slots=True)
class _Money:
    """The account's terms as exact decimals."""

    maker: Decimal
    taker: Decimal
    slippage: Decimal
    margin_rate: Decimal
    funding: Decimal


class Venue:
    """One account on one exchange. `listener` hears executions and order changes in the order they happen."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        terms: AccountTerms,
        keeper: Keeper,
        *,
        funding: Mapping[str, Mapping[int, Decimal]] | None = None,
        listener: Callable[[VenueEvent], None] = lambda _: None,
    ) -> None:
        self.instruments = dict(instruments)
        self.listener = listener
        self.cash = exact(terms.initial_equity)
        self.positions: dict[str, Position] = {}
        self.orders: dict[str, Order] = {}
        self.last: dict[str, float] = {}
        self.now = EPOCH
        self.funding_missing = 0
        self._funding = {symbol: dict(table) for symbol, table in (funding or {}).items()}
        self._keeper = keeper
        self._money = _decimals(terms)
        self._bars_open: set[str] = set()
        self._begun: dict[str, int] = {}
        self._sequence = 0
        self._told: list[VenueEvent] = []
        self._closed: list[Order] = []

    # Requests

    def place(self, request: PlaceOrder) -> ExchangeOrder:
        """Take an order: at once into the books, or filled, or cancelled. `VenueRefusal` when it is not taken."""
        self._check_new(request)
        if request.reduce_only:
            request = replace(request, qty=min(request.qty, self.positions[request.symbol].qty))
        order = Order(order_id=self._next_id("o"), request=request, created=self.now)
        self.orders[order.order_id] = order
        self._told.append(order.view())
        if request.type is OrderType.MARKET:
            if request.symbol in self._bars_open:
                self._fill_market(order, self.last[request.symbol])
        elif self._crosses(request):
            self._cross(order)
        self.commit()
        return order.view()

    def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """Cancel a live order; one that is closed already is returned as it ended."""
        for order in self.orders.values():
            if order.request.link_id == link_id and order.request.symbol == symbol:
                self._close_order(order, "Cancelled", BY_USER)
                self.commit()
                return order.view()
        closed = self._keeper.find(link_id)
        if closed is None:
            raise VenueRefusal(110001, "order not exists or too late to cancel")
        return closed.view()

    def move_stop(self, symbol: str, stop: Decimal) -> None:
        """Set the stop of the open position; on the wrong side of the last price it is refused."""
        position = self.positions.get(symbol)
        if position is None:
            raise VenueRefusal(10001, "can not set tp/sl/ts for zero position")
        self._check_stop(position.side, stop, self.last[symbol])
        position.stop = stop
        self.commit()

    def find(self, link_id: str) -> ExchangeOrder | None:
        """An order by link id, live or closed."""
        for order in self.orders.values():
            if order.request.link_id == link_id:
                return order.view()
        closed = self._keeper.find(link_id)
        return closed.view() if closed else None

    def executions(self, symbol: str, since: datetime) -> list[Execution]:
        """Executions of a symbol since a moment, oldest first."""
        return self._keeper.executions(symbol, since)

    def snapshot(self) -> AccountSnapshot:
        """Wallet balance, positions and live orders."""
        positions = tuple(
            ExchangePosition(symbol=symbol, side=p.side, qty=p.qty, entry_price=p.entry_price, stop=p.stop)
            for symbol, p in self.positions.items()
        )
        orders = tuple(order.view() for order in self.orders.values())
        return AccountSnapshot(cash=self.cash, positions=positions, orders=orders)

    # The market

    def begin_bar(self, symbol: str, open_time: datetime, interval: timedelta, open_price: float) -> None:
        """A bar opens: funding of its settlements, then every market order that waited for an open.

        Nothing is kept or told before `commit`. A bar that had begun before a restart is not settled twice.
        """
        again = self._begun.get(symbol) == millis(open_time)
        self._begun[symbol] = millis(open_time)
        self.now = open_time
        self.last[symbol] = open_price
        self._bars_open.add(symbol)
        if symbol in self.positions and not again:
            self._settle_funding(symbol, open_time, interval, open_price)
        if self.orders:
            for order in self._of(symbol):
                if order.request.type is OrderType.MARKET and order.order_id in self.orders:
                    self._fill_market(order, open_price)

    def tick(self, symbol: str, price: float) -> None:
        """The price walks inside the open bar; nothing that rests is matched before the bar ends."""
        self.last[symbol] = price

    def end_bar(self, candle: Candle) -> None:
        """A bar ends: whatever rests is matched against the whole of it; between bars the close is the price.

        Nothing is kept or told before `commit`, so that bars of one moment end together.
        """
        self.now = candle.close_time - timedelta(milliseconds=1)
        symbol = candle.symbol
        if symbol in self.positions:
            self._stop_through_gap(candle)
        if self.orders:
            self._match_limits(candle, reduce_only=False)
        if symbol in self.positions:
            self._match_stop(candle)
        if self.orders and symbol in self.positions:
            self._match_limits(candle, reduce_only=True)
        if symbol in self.positions:
            self.positions[symbol].opened_in_bar = False
        self.last[symbol] = candle.close
        self._bars_open.discard(symbol)
        self.now = candle.close_time

    def _of(self, symbol: str) -> list[Order]:
        """Live orders of a symbol, oldest first; some may end while the list is walked."""
        return [order for order in self.orders.values() if order.request.symbol == symbol]

    def _stop_through_gap(self, candle: Candle) -> None:
        position = self.positions[candle.symbol]
        if not position.opened_in_bar and _beyond(position, candle.open):
            self._fill_stop(candle.symbol, exact(candle.open))

    def _match_limits(self, candle: Candle, *, reduce_only: bool) -> None:
        for order in self._of(candle.symbol):
            asked = order.request
            if asked.price is None or asked.type is not OrderType.LIMIT or asked.reduce_only is not reduce_only:
                continue
            if order.order_id not in self.orders:
                continue  # another fill of this bar ended it
            if reduce_only and (candle.symbol not in self.positions or self.positions[candle.symbol].opened_in_bar):
                continue
            price = float(asked.price)
            through = candle.low < price if asked.side is OrderSide.BUY else candle.high > price
            if through:
                self._fill(order, asked.price, maker=True)

    def _match_stop(self, candle: Candle) -> None:
        position = self.positions[candle.symbol]
        worst = candle.low if position.side is Side.LONG else candle.high
        if position.stop is None or not _beyond(position, worst):
            return
        gapped = position.opened_in_bar and _beyond(position, candle.open)
        self._fill_stop(candle.symbol, exact(candle.open) if gapped else position.stop)

    def _settle_funding(self, symbol: str, open_time: datetime, interval: timedelta, price: float) -> None:
        position = self.positions[symbol]
        start, end = millis(open_time), millis(open_time + interval)
        table = self._funding.get(symbol)
        for settlement in range(-(-start // SETTLEMENT_MS) * SETTLEMENT_MS, end, SETTLEMENT_MS):
            rate = self._money.funding if table is None else table.get(settlement)
            if rate is None:
                self.funding_missing += 1
                rate = self._money.funding
            amount = position.side.sign * position.qty * exact(price) * rate
            self.cash -= amount
            self._told.append(
                Execution(
                    exec_id=self._next_id("f"),
                    order_id="",
                    link_id="",
                    symbol=symbol,
                    side=OrderSide.opening(position.side),
                    qty=position.qty,
                    price=exact(price),
                    fee=amount,
                    maker=False,
                    at=utc(settlement),
                    funding=True,
                )
            )

    # Fills

    def _fill_market(self, order: Order, price: float) -> None:
        self._fill(order, self._slipped(exact(price), order.request.side), maker=False)

    def _fill_stop(self, symbol: str, price: Decimal) -> None:
        position = self.positions[symbol]
        side = OrderSide.closing(position.side)
        request = PlaceOrder(
            link_id="",
            symbol=symbol,
            side=side,
            type=OrderType.MARKET,
            qty=position.qty,
            purpose=Purpose.STOP,
            reduce_only=True,
        )
        order = Order(order_id=self._next_id("o"), request=request, created=self.now)
        self.orders[order.order_id] = order
        self._fill(order, self._slipped(price, side), maker=False)

    def _slipped(self, price: Decimal, side: OrderSide) -> Decimal:
        return price * (1 + side.sign * self._money.slippage)

    def _fill(self, order: Order, price: Decimal, *, maker: bool) -> None:
        asked, qty = order.request, order.leaves
        if asked.reduce_only:
            qty = min(qty, self.positions[asked.symbol].qty)
        fee = qty * price * (self._money.maker if maker else self._money.taker)
        self.cash -= fee
        self._change_position(asked, qty, price)
        order.filled += qty
        self._told.append(
            Execution(
                exec_id=self._next_id("x"),
                order_id=order.order_id,
                link_id=asked.link_id,
                symbol=asked.symbol,
                side=asked.side,
                qty=qty,
                price=price,
                fee=fee,
                maker=maker,
                at=self.now,
                purpose=asked.purpose,
            )
        )
        self._close_order(order, "Filled", "")
        self._drop_reduce_only(asked.symbol)

    def _change_position(self, asked: PlaceOrder, qty: Decimal, price: Decimal) -> None:
        side = Side.LONG if asked.side is OrderSide.BUY else Side.SHORT
        position = self.positions.get(asked.symbol)
        if position is None:
            self.positions[asked.symbol] = Position(
                side=side, qty=qty, entry_price=price, stop=asked.stop_loss, opened_in_bar=True
            )
        elif position.side is side:
            total = position.qty + qty
            position.entry_price = (position.entry_price * position.qty + price * qty) / total
            position.qty = total
            position.stop = asked.stop_loss or position.stop
        else:
            self._reduce(asked, position, qty, price)

    def _reduce(self, asked: PlaceOrder, position: Position, qty: Decimal, price: Decimal) -> None:
        closing = min(qty, position.qty)
        self.cash += position.side.sign * closing * (price - position.entry_price)
        position.qty -= closing
        if position.qty == 0:
            del self.positions[asked.symbol]
        if qty > closing:
            self._change_position(asked, qty - closing, price)

    def _close_order(self, order: Order, status: str, reason: str) -> None:
        order.status, order.reason = status, reason
        self.orders.pop(order.order_id, None)
        self._closed.append(order)
        self._told.append(order.view())

    def _drop_reduce_only(self, symbol: str) -> None:
        """Cancel what was to reduce a position that is flat or has turned."""
        position = self.positions.get(symbol)
        for order in self._of(symbol):
            asked = order.request
            if asked.reduce_only and (position is None or OrderSide.closing(position.side) is not asked.side):
                self._close_order(order, "Cancelled", REDUCE_ONLY_FLAT)

    # Checks

    def _crosses(self, asked: PlaceOrder) -> bool:
        """Would it take liquidity now? Between bars the book is one tick either side of the last price.

        A reduce-only limit is never judged: the specification lets a take profit rest beyond the close.
        """
        if asked.reduce_only or asked.price is None:
            return False
        tick = float(self.instruments[asked.symbol].tick_size)
        last = self.last[asked.symbol]
        return float(asked.price) >= last + tick if asked.side is OrderSide.BUY else float(asked.price) <= last - tick

    def _cross(self, order: Order) -> None:
        if order.request.post_only:
            self._close_order(order, "Cancelled", POST_ONLY_CROSSED)
            return
        tick = self.instruments[order.request.symbol].tick_size
        self._fill(order, exact(self.last[order.request.symbol]) + order.request.side.sign * tick, maker=False)

    def _check_new(self, asked: PlaceOrder) -> None:
        rules = self.instruments.get(asked.symbol)
        if rules is None or asked.symbol not in self.last:
            raise VenueRefusal(10001, f"params error: symbol {asked.symbol} is not traded here")
        if asked.link_id and self.find(asked.link_id) is not None:
            raise VenueRefusal(110072, "OrderLinkedID is duplicate")
        if asked.qty <= 0 or asked.qty % rules.qty_step != 0:
            raise VenueRefusal(10001, "Qty invalid")
        if asked.type is OrderType.LIMIT and (asked.price is None or asked.price <= 0):
            raise VenueRefusal(10001, "Price invalid")
        if asked.price is not None and asked.price % rules.tick_size != 0:
            raise VenueRefusal(10001, "Price is not a multiple of the tick size")
        if asked.reduce_only:
            self._check_reduce_only(asked)
        else:
            self._check_opening(asked, rules)

    def _check_reduce_only(self, asked: PlaceOrder) -> None:
        position = self.positions.get(asked.symbol)
        if position is None or OrderSide.closing(position.side) is not asked.side:
            raise VenueRefusal(110017, "current position is zero, cannot fix reduce-only order qty")

    def _check_opening(self, asked: PlaceOrder, rules: Instrument) -> None:
        price = asked.price if asked.price is not None else exact(self.last[asked.symbol])
        if asked.qty < rules.min_qty:
            raise VenueRefusal(10001, "The number of contracts is below the minimum limit allowed")
        if asked.qty * price < rules.min_notional:
            raise VenueRefusal(110094, f"Order does not meet minimum order value {rules.min_notional}USDT")
        if asked.stop_loss is not None:
            side = Side.LONG if asked.side is OrderSide.BUY else Side.SHORT
            self._check_stop(side, asked.stop_loss, float(price))
        # A hair of tolerance: risk floors the size with the specification's own.
        if asked.qty * price * self._money.margin_rate > self.available * (1 + Decimal("1e-9")) + Decimal("1e-6"):
            raise VenueRefusal(110007, "ab not enough for new order")

    def _check_stop(self, side: Side, stop: Decimal, base: float) -> None:
        wrong = float(stop) >= base if side is Side.LONG else float(stop) <= base
        if wrong or stop <= 0:
            name = "Buy" if side is Side.LONG else "Sell"
            word = "lower" if side is Side.LONG else "higher"
            raise VenueRefusal(10001, f"StopLoss:{stop} set for {name} position should {word} than base_price:{base}")

    @property
    def available(self) -> Decimal:
        """Cash that no position and no resting entry binds."""
        bound = sum((p.qty * p.entry_price for p in self.positions.values()), ZERO)
        for order in self.orders.values():
            asked = order.request
            if not asked.reduce_only:
                price = asked.price if asked.price is not None else exact(self.last[asked.symbol])
                bound += order.leaves * price
        return self.cash - bound * self._money.margin_rate

    # Keeping and telling

    def _next_id(self, kind: str) -> str:
        self._sequence += 1
        return f"{kind}{self._sequence:09d}"

    def commit(self) -> None:
        """Keep what changed, then tell it: what was told has been kept."""
        told, self._told = self._told, []
        closed, self._closed = self._closed, []
        self._keeper.keep(self.state, closed, [event for event in told if isinstance(event, Execution)])
        for event in told:
            self.listener(event)

    def state(self) -> dict[str, Any]:
        """Everything live, as plain values of Python (see `ledger` for how it is written)."""
        return {
            "cash": self.cash,
            "sequence": self._sequence,
            "now": self.now,
            "begun": dict(self._begun),
            "last": dict(self.last),
            "positions": dict(self.positions),
            "orders": dict(self.orders),
            "funding_missing": self.funding_missing,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a kept state."""
        self.cash = state["cash"]
        self._sequence = state["sequence"]
        self.now = state["now"]
        self._begun = dict(state["begun"])
        self.last = dict(state["last"])
        self.positions = dict(state["positions"])
        self.orders = dict(state["orders"])
        self.funding_missing = state["funding_missing"]


def _beyond(position: Position, price: float) -> bool:
    """Is the price at or past the stop?"""
    if position.stop is None:
        return False
    stop = float(position.stop)
    return price <= stop if position.side is Side.LONG else price >= stop


def _decimals(terms: AccountTerms) -> _Money:
    maker, taker = exact(terms.maker_fee), exact(terms.taker_fee)
    return _Money(
        maker=maker,
        taker=taker,
        slippage=exact(terms.slippage),
        margin_rate=1 / exact(terms.leverage) + maker + taker,
        funding=exact(terms.funding_rate),
    )
