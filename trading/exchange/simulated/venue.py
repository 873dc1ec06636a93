"""The venue core: matching, requests and their refusals, on one account of linear perpetuals.

A real, small exchange on closed bars, in the order of the specification ("What happens inside bar k"):
`begin_bar` settles funding (step 1) and fills due market orders at the open (2); `end_bar` matches the stop
through the gap (3), resting entries (4), the stop (5) and reduce-only limits (6); attached take profits, trailing
stops and conditional orders, which the specification does not know, come after. Step 7 is the trader's.
A live feed has no bars: `quote` and `trade` match tick by tick, under the same rules.

It knows nothing of strategies, councils or clocks. What must be durable goes to a `Keeper`, what happened goes to
the listener, both after the books are straight. Comparisons of bars with prices are made in float64 on purpose:
a bar's low is the double nearest its decimal. Money is exact decimal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from trading.exchange.simulated.account import Account
from trading.exchange.simulated.books import Fill, NewOrder, Order, Position, StopKind, TimeInForce, VenueState
from trading.model import EPOCH, ZERO, Candle, Instrument, OrderSide, OrderType, Side, exact, millis, utc
from trading.parameters import AccountTerms

SETTLEMENT_MS = 8 * 3600 * 1000
MOST_ACTIVE, MOST_UNTRIGGERED = 500, 10
POST_ONLY_CROSSED = "EC_PostOnlyWillTakeLiquidity"
NOTHING_TO_TAKE = "EC_NoImmediateQtyToFill"
BY_USER = "CancelByUser"

VenueEvent = Fill | Order


class VenueRefusal(Exception):
    """An order or request that the exchange will not take; `code` is Bybit's return code for it."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Keeper(Protocol):
    """Where the exchange keeps what it must not forget. Called after every change, before anyone is told."""

    def keep(self, state: Callable[[], VenueState], closed: Sequence[Order], fills: Sequence[Fill]) -> None:
        """Store the state with the orders that left the books and the fills since the last call."""
        ...

    def find(self, link_id: str) -> Order | None:
        """A closed order by its link id."""
        ...

    def order(self, order_id: str) -> Order | None:
        """A closed order by its order id."""
        ...

    def closed_orders(self, symbol: str | None = None) -> Iterator[Order]:
        """Closed orders, newest first."""
        ...

    def fills(
        self,
        symbol: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        order_id: str = "",
        link_id: str = "",
    ) -> Iterator[Fill]:
        """Fills and funding, newest first; bounds are inclusive."""
        ...


class Venue:
    """One account on one exchange. `listener` hears what happened, in order, after it has been kept."""

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        terms: AccountTerms,
        keeper: Keeper,
        *,
        uid: str = "1",
        funding: Mapping[str, Mapping[int, Decimal]] | None = None,
        listener: Callable[[Sequence[VenueEvent]], None] = lambda _: None,
    ) -> None:
        self.instruments = dict(instruments)
        self.terms = terms
        self.keeper = keeper
        self.listener = listener
        self.orders: dict[str, Order] = {}
        self.last: dict[str, float] = {}
        self.now = EPOCH
        self.funding_missing = 0
        self._funding = {symbol: dict(table) for symbol, table in (funding or {}).items()}
        self._account = Account(instruments, terms, uid)
        self._slippage, self._rate = exact(terms.slippage), exact(terms.funding_rate)
        self._ticks = {symbol: float(rules.tick_size) for symbol, rules in instruments.items()}
        self._tops: dict[str, tuple[Decimal, Decimal]] = {}
        self._bars_open: set[str] = set()
        self._begun: dict[str, int] = {}

    # How things stand

    @property
    def cash(self) -> Decimal:
        """The wallet."""
        return self._account.cash

    @property
    def positions(self) -> dict[str, Position]:
        """Open positions by symbol."""
        return self._account.positions

    @property
    def leverage(self) -> dict[str, Decimal]:
        """Leverage by symbol."""
        return self._account.leverage

    @property
    def realised(self) -> dict[str, Decimal]:
        """Realised profit of all time by symbol, fees and funding inside."""
        return self._account.realised

    @property
    def available(self) -> Decimal:
        """Cash that no position and no resting entry binds."""
        return self._free()

    def _free(self, but: Order | None = None) -> Decimal:
        """As `available`, leaving one order out."""
        bound = self._account.bound()
        for order in self.orders.values():
            asked = order.asked
            if not asked.reduce_only and order.status in {"New", "PartiallyFilled"} and order is not but:
                price = asked.price if asked.price is not None else exact(self.last[asked.symbol])
                bound += order.leaves * price * self._account.margin_rate(asked.symbol)
        return self._account.cash - bound

    def funding_rate(self, symbol: str, at_ms: int) -> Decimal | None:
        """The rate of a settlement: of the table where there is one (None: it has no such row), else the terms'."""
        table = self._funding.get(symbol)
        return self._rate if table is None else table.get(at_ms)

    def unrealised(self, symbol: str) -> Decimal:
        """Profit of the open position at the last price, before fees; 0 when flat."""
        position = self.positions.get(symbol)
        return position.size * (exact(self.last[symbol]) - position.entry_price) if position else ZERO

    def bid(self, symbol: str) -> Decimal:
        """The best price at which somebody buys: the book's, else one tick below the last."""
        top = self._tops.get(symbol)
        return top[0] if top else exact(self.last[symbol]) - self.instruments[symbol].tick_size

    def ask(self, symbol: str) -> Decimal:
        """The best price at which somebody sells: the book's, else one tick above the last."""
        top = self._tops.get(symbol)
        return top[1] if top else exact(self.last[symbol]) + self.instruments[symbol].tick_size

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Clients' live orders and what protects positions, newest first."""
        live = [order for order in self.orders.values() if symbol in {None, order.asked.symbol}]
        for name, position in self.positions.items():
            if symbol in {None, name}:
                live += position.guards.values()
        return sorted(live, key=lambda order: (order.created, order.order_id), reverse=True)

    def find(self, link_id: str) -> Order | None:
        """An order by link id, live or closed."""
        if not link_id:
            return None
        for order in self.orders.values():
            if order.asked.link_id == link_id:
                return order
        return self.keeper.find(link_id)

    def order(self, order_id: str) -> Order | None:
        """An order by order id, live or closed."""
        live = self.orders.get(order_id)
        if live is None:
            guards = (order for p in self.positions.values() for order in p.guards.values())
            live = next((order for order in guards if order.order_id == order_id), None)
        return live or self.keeper.order(order_id)

    # Requests

    def place(self, asked: NewOrder) -> Order:
        """Take an order: at once into the books, or filled, or cancelled. `VenueRefusal` when it is not taken."""
        self._check_new(asked)
        if asked.reduce_only and asked.trigger_price is None:
            asked = replace(asked, qty=min(asked.qty, self.positions[asked.symbol].qty))
        order = Order(
            order_id=self._account.next_id(),
            asked=asked,
            created=self.now,
            updated=self.now,
            status="New" if asked.trigger_price is None else "Untriggered",
            stop_order_type="" if asked.trigger_price is None else StopKind.OWN.value,
            last_price=self.last[asked.symbol],
        )
        self.orders[order.order_id] = order
        self._account.told.append(order.copy())
        if asked.trigger_price is None:
            self._arrive(order)
        self.commit()
        return order

    def amend(
        self,
        symbol: str,
        *,
        order_id: str = "",
        link_id: str = "",
        qty: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        stop_loss: Decimal | None = None,
        take_profit: Decimal | None = None,
    ) -> Order:
        """Change a live order of a client; `qty` is the new total. Zero takes a stop or take profit away."""
        order = self._live(symbol, order_id, link_id)
        old = order.asked
        new = replace(
            old,
            qty=old.qty if qty is None else qty,
            price=old.price if price is None else price,
            trigger_price=old.trigger_price if trigger_price is None else trigger_price,
            stop_loss=old.stop_loss if stop_loss is None else stop_loss or None,
            take_profit=old.take_profit if take_profit is None else take_profit or None,
        )
        if new == old:
            raise VenueRefusal(10001, "order not modified")
        self._check_amended(order, new)
        order.asked, order.updated = new, self.now
        self._account.told.append(order.copy())
        if order.status != "Untriggered" and price is not None:
            self._arrive(order)
        self.commit()
        return order

    def cancel(self, symbol: str, *, order_id: str = "", link_id: str = "") -> Order:
        """Cancel a live order; `VenueRefusal` when there is none."""
        order = self._live(symbol, order_id, link_id)
        self._end(order, "Deactivated" if order.status == "Untriggered" else "Cancelled", by=BY_USER)
        self.commit()
        return order

    def cancel_all(self, symbol: str | None = None, *, conditional: bool | None = None) -> list[Order]:
        """Cancel clients' live orders: the resting ones, the conditional ones, or both."""
        chosen = [
            order
            for order in self.orders.values()
            if symbol in {None, order.asked.symbol} and conditional in {None, order.status == "Untriggered"}
        ]
        for order in chosen:
            self._end(order, "Deactivated" if order.status == "Untriggered" else "Cancelled", by=BY_USER)
        self.commit()
        return chosen

    def protect(
        self,
        symbol: str,
        *,
        stop_loss: Decimal | None = None,
        take_profit: Decimal | None = None,
        trailing: Decimal | None = None,
    ) -> None:
        """Set what protects the open position; zero takes it away, None leaves it alone."""
        position = self.positions.get(symbol)
        if position is None:
            raise VenueRefusal(10001, "can not set tp/sl/ts for zero position")
        if all(
            wanted is None or (wanted or None) == held
            for wanted, held in (
                (stop_loss, position.stop),
                (take_profit, position.take_profit),
                (trailing, position.trail),
            )
        ):
            raise VenueRefusal(34040, "not modified")
        base = self.last[symbol]
        if stop_loss:
            self._check_guard(symbol, "StopLoss", position.side, stop_loss, base)
        if take_profit:
            self._check_guard(symbol, "TakeProfit", position.side.opposite, take_profit, base)
        if trailing is not None and (trailing < 0 or trailing % self.instruments[symbol].tick_size != 0):
            raise VenueRefusal(10001, "TrailingStop is not a distance in ticks")
        self._set_guard(symbol, StopKind.STOP_LOSS, stop_loss)
        self._set_guard(symbol, StopKind.TAKE_PROFIT, take_profit)
        if trailing is not None:
            start = exact(base) - position.side.sign * trailing
            self._set_guard(symbol, StopKind.TRAILING, start if trailing else ZERO)
            position.trail = trailing or None
        position.updated = self.now
        self.commit()

    def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Leverage of what comes and what is open on a symbol."""
        if symbol not in self.instruments:
            raise VenueRefusal(10001, f"params error: symbol {symbol} is not traded here")
        if not 1 <= leverage <= 100:
            raise VenueRefusal(110013, "cannot set leverage due to risk limit level")
        if self.leverage[symbol] == leverage:
            raise VenueRefusal(110043, "leverage not modified")
        self._account.set_leverage(symbol, leverage)
        self.commit()

    # The market, bar by bar

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
            self._settle_bar(symbol, open_time, interval, open_price)
        if self.orders:
            for order in self._of(symbol):
                if order.asked.type is OrderType.MARKET and order.status == "New":
                    self._take(order)

    def tick(self, symbol: str, price: float, at: datetime) -> None:
        """The price walks inside the open bar; nothing that rests is matched before the bar ends."""
        self.last[symbol] = price
        self.now = at

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
            self._match_other_guards(candle)
        if self.orders:
            self._match_triggers(candle)
        if symbol in self.positions:
            self.positions[symbol].opened_in_bar = False
        self.last[symbol] = candle.close
        self._bars_open.discard(symbol)
        self.now = candle.close_time

    def _of(self, symbol: str) -> list[Order]:
        """Live orders of a symbol, oldest first; some may end while the list is walked."""
        return [order for order in self.orders.values() if order.asked.symbol == symbol]

    def _stop_through_gap(self, candle: Candle) -> None:
        position = self.positions[candle.symbol]
        if not position.opened_in_bar and _beyond(position, candle.open):
            self._trigger_guard(candle.symbol, StopKind.STOP_LOSS, exact(candle.open))

    def _match_limits(self, candle: Candle, *, reduce_only: bool) -> None:
        for order in self._of(candle.symbol):
            asked = order.asked
            if asked.price is None or asked.type is not OrderType.LIMIT or asked.reduce_only is not reduce_only:
                continue
            if order.order_id not in self.orders or order.status == "Untriggered":
                continue  # another fill of this bar ended it, or it does not rest yet
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
        self._trigger_guard(candle.symbol, StopKind.STOP_LOSS, exact(candle.open) if gapped else position.stop)

    def _match_other_guards(self, candle: Candle) -> None:
        """Take profit and trailing stop of the position, which neither its entry bar nor its stop has ended."""
        position = self.positions[candle.symbol]
        for kind in (StopKind.TRAILING, StopKind.TAKE_PROFIT):
            order = position.guards.get(kind)
            if order is None or position.opened_in_bar:
                continue
            price = _triggered_at(order, candle)
            if price is not None:
                self._trigger_guard(candle.symbol, kind, price)
                return
        self._trail(candle.symbol, candle.high if position.side is Side.LONG else candle.low)

    def _trail(self, symbol: str, best: float) -> None:
        """A trailing stop follows the best price at its distance, and never goes back."""
        position = self.positions[symbol]
        order = position.guards.get(StopKind.TRAILING)
        if order is None or position.trail is None or order.asked.trigger_price is None:
            return
        price, sign = exact(best) - position.side.sign * position.trail, position.side.sign
        if sign * (price - order.asked.trigger_price) > 0:
            self._account.guard(symbol, StopKind.TRAILING, price, self.now)

    def _match_triggers(self, candle: Candle) -> None:
        for order in self._of(candle.symbol):
            if order.status == "Untriggered" and (price := _triggered_at(order, candle)) is not None:
                self._trigger(order, price)

    def _settle_bar(self, symbol: str, open_time: datetime, interval: timedelta, price: float) -> None:
        start, end = millis(open_time), millis(open_time + interval)
        for settlement in range(-(-start // SETTLEMENT_MS) * SETTLEMENT_MS, end, SETTLEMENT_MS):
            rate = self.funding_rate(symbol, settlement)
            if rate is None:
                self.funding_missing += 1
                rate = self._rate
            self._account.settle(symbol, exact(price), rate, utc(settlement))

    # The market, tick by tick

    def quote(self, symbol: str, bid: Decimal, ask: Decimal, at: datetime) -> None:
        """The top of a live book: what a market order gets, and what post-only must not cross."""
        self._tops[symbol] = (bid, ask)
        self._bars_open.add(symbol)
        self.now = max(self.now, at)

    def trade(self, symbol: str, price: float, at: datetime) -> None:
        """Somebody traded: what the price went through fills, what it reached is triggered."""
        self.last[symbol] = price
        self._bars_open.add(symbol)
        self.now = max(self.now, at)
        if symbol in self.positions:
            self.positions[symbol].opened_in_bar = False
            if _beyond(self.positions[symbol], price):
                self._trigger_guard(symbol, StopKind.STOP_LOSS, exact(price))
        prices = dict.fromkeys(("open", "high", "low", "close"), price)
        point = Candle(symbol=symbol, open_time=at, interval=timedelta(), volume=0.0, **prices)
        for reduce_only in (False, True):
            if self.orders:
                self._match_limits(point, reduce_only=reduce_only)
        if symbol in self.positions:
            self._match_other_guards(point)
        if self.orders:
            self._match_triggers(point)

    def settle(self, symbol: str, price: float, rate: Decimal, at: datetime) -> None:
        """Funding of a live market, once for each settlement."""
        if symbol in self.positions and self._begun.get(symbol, 0) < millis(at):
            self._account.settle(symbol, exact(price), rate, at)
        self._begun[symbol] = max(self._begun.get(symbol, 0), millis(at))

    def _touch(self, symbol: str, side: OrderSide, price: Decimal) -> Decimal:
        """What an order at the market gets at this price, before slippage: of a live book its worse side."""
        if symbol not in self._tops:
            return price
        return max(self.ask(symbol), price) if side is OrderSide.BUY else min(self.bid(symbol), price)

    # Fills

    def _arrive(self, order: Order) -> None:
        """An order reaches the book: what may take takes, what must not is cancelled, the rest rests."""
        asked = order.asked
        if asked.type is OrderType.MARKET:
            if asked.symbol in self._bars_open:
                self._take(order)
        elif self._crosses(asked):
            if asked.post_only:
                self._end(order, "Cancelled", reason=POST_ONLY_CROSSED)
            else:
                self._fill(order, self.ask(asked.symbol) if asked.side is OrderSide.BUY else self.bid(asked.symbol))
        elif asked.time_in_force in {TimeInForce.IOC, TimeInForce.FOK}:
            self._end(order, "Cancelled", reason=NOTHING_TO_TAKE)

    def _take(self, order: Order) -> None:
        """Fill at the market: the last price, or the top of a live book, and the slippage on it."""
        self._fill_at(order, exact(self.last[order.asked.symbol]))

    def _fill_at(self, order: Order, price: Decimal) -> None:
        side = order.asked.side
        self._fill(order, self._touch(order.asked.symbol, side, price) * (1 + side.sign * self._slippage))

    def _trigger_guard(self, symbol: str, kind: StopKind, price: Decimal) -> None:
        order = self.positions[symbol].guards[kind]
        self._trigger(order, price)

    def _trigger(self, order: Order, price: Decimal) -> None:
        """A conditional order wakes: a market order fills at this price, a limit rests from now on."""
        asked = order.asked
        order.status, order.updated = "Triggered", self.now
        self._account.told.append(order.copy())
        position = self.positions.get(asked.symbol)
        if asked.reduce_only and (position is None or OrderSide.closing(position.side) is not asked.side):
            self._end(order, "Cancelled", by="CancelByReduceOnly")
            return
        if not asked.reduce_only and self._lacks_funds(asked, price):
            self._end(order, "Cancelled", reason="EC_Others", by="CancelByNoMargin")
            return
        if asked.type is OrderType.MARKET:
            self._fill_at(order, price)
            return
        order.status = "New"
        self._account.told.append(order.copy())
        self.last[asked.symbol] = float(price)  # where the market is when it wakes
        self._arrive(order)

    def _fill(self, order: Order, price: Decimal, *, maker: bool = False) -> None:
        asked, qty = order.asked, order.asked.qty - order.filled
        if asked.reduce_only and qty > self.positions[asked.symbol].qty:
            qty = self.positions[asked.symbol].qty
            order.asked = replace(asked, qty=order.filled + qty)
        self._account.fill(order, qty, price, self.now, maker=maker)
        self._end(order, "Filled")
        self._drop_reduce_only(asked.symbol)

    def _end(self, order: Order, status: str, *, reason: str = "", by: str = "") -> None:
        self.orders.pop(order.order_id, None)
        self._account.end(order, status, self.now, reason=reason, by=by)

    def _drop_reduce_only(self, symbol: str) -> None:
        """Cancel what was to reduce a position that is flat or has turned; conditional orders wait on."""
        position = self.positions.get(symbol)
        for order in self._of(symbol):
            asked = order.asked
            if not asked.reduce_only or order.status == "Untriggered":
                continue
            if position is None or OrderSide.closing(position.side) is not asked.side:
                self._end(order, "Cancelled", by="CancelByReduceOnly")

    # Checks

    def _live(self, symbol: str, order_id: str, link_id: str) -> Order:
        """A client's live order: by its order id where both are given."""
        for order in self.orders.values() if order_id or link_id else ():
            same = order.order_id == order_id if order_id else order.asked.link_id == link_id
            if same and order.asked.symbol == symbol:
                return order
        raise VenueRefusal(110001, "order not exists or too late to cancel")

    def _crosses(self, asked: NewOrder) -> bool:
        """Would it take liquidity now? Between bars the book is one tick either side of the last price.

        A reduce-only post-only limit is never judged: the specification lets a take profit rest beyond the close.
        """
        if asked.price is None or (asked.reduce_only and asked.post_only):
            return False
        buys = asked.side is OrderSide.BUY
        if asked.symbol in self._tops:
            return asked.price >= self.ask(asked.symbol) if buys else asked.price <= self.bid(asked.symbol)
        tick, last = self._ticks[asked.symbol], self.last[asked.symbol]
        return float(asked.price) >= last + tick if buys else float(asked.price) <= last - tick

    def _check_new(self, asked: NewOrder) -> None:
        rules = self.instruments.get(asked.symbol)
        if rules is None or asked.symbol not in self.last:
            raise VenueRefusal(10001, f"params error: symbol {asked.symbol} is not traded here")
        if asked.link_id and self.find(asked.link_id) is not None:
            raise VenueRefusal(110072, "OrderLinkedID is duplicate")
        self._check_numbers(asked, rules)
        self._check_room(asked)
        if asked.trigger_price is not None:
            self._check_trigger(asked)
        if asked.reduce_only:
            if asked.trigger_price is None:
                self._check_reduce_only(asked)
        else:
            self._check_opening(asked, rules)

    def _check_numbers(self, asked: NewOrder, rules: Instrument) -> None:
        if asked.qty <= 0 or asked.qty % rules.qty_step != 0:
            raise VenueRefusal(10001, "Qty invalid")
        if asked.type is OrderType.LIMIT and (asked.price is None or asked.price <= 0):
            raise VenueRefusal(10001, "Price invalid")
        for price in (asked.price, asked.trigger_price, asked.stop_loss, asked.take_profit):
            if price is not None and (price <= 0 or price % rules.tick_size != 0):
                raise VenueRefusal(10001, "Price is not a multiple of the tick size")

    def _check_room(self, asked: NewOrder) -> None:
        if len(self.orders) < MOST_UNTRIGGERED:
            return
        waiting = sum(order.status == "Untriggered" for order in self._of(asked.symbol))
        if asked.trigger_price is not None and waiting >= MOST_UNTRIGGERED:
            raise VenueRefusal(110009, "The number of stop orders exceeds the maximum allowable limit.")
        if len(self._of(asked.symbol)) - waiting >= MOST_ACTIVE:
            raise VenueRefusal(110020, "Not allowed to have more than 500 active orders")

    def _check_trigger(self, asked: NewOrder) -> None:
        price, last = float(asked.trigger_price or 0), self.last[asked.symbol]
        if asked.trigger_direction == 1 and price <= last:
            raise VenueRefusal(110092, f"expect Rising, but trigger_price[{price:g}] <= current[{last:g}]??LastPrice")
        if asked.trigger_direction == 2 and price >= last:
            raise VenueRefusal(110093, f"expect Falling, but trigger_price[{price:g}] >= current[{last:g}]??LastPrice")

    def _check_reduce_only(self, asked: NewOrder) -> None:
        position = self.positions.get(asked.symbol)
        if position is None or OrderSide.closing(position.side) is not asked.side:
            raise VenueRefusal(110017, "current position is zero, cannot fix reduce-only order qty")

    def _check_opening(self, asked: NewOrder, rules: Instrument, amended: Order | None = None) -> None:
        price = asked.price or asked.trigger_price or exact(self.last[asked.symbol])
        if asked.qty < rules.min_qty:
            raise VenueRefusal(10001, "The number of contracts is below the minimum limit allowed")
        if asked.qty * price < rules.min_notional:
            raise VenueRefusal(110094, f"Order does not meet minimum order value {rules.min_notional}USDT")
        side = Side.LONG if asked.side is OrderSide.BUY else Side.SHORT
        if asked.stop_loss is not None:
            self._check_guard(asked.symbol, "StopLoss", side, asked.stop_loss, float(price))
        if asked.take_profit is not None:
            self._check_guard(asked.symbol, "TakeProfit", side.opposite, asked.take_profit, float(price))
        sleeps = asked.trigger_price is not None and (amended is None or amended.status == "Untriggered")
        if not sleeps and self._lacks_funds(asked, price, amended):
            raise VenueRefusal(110007, "ab not enough for new order")

    def _check_amended(self, order: Order, new: NewOrder) -> None:
        """As for a new order; what the order itself binds counts as free meanwhile."""
        if new.qty <= order.filled:
            raise VenueRefusal(110064, "the order quantity must be larger than what has been filled")
        self._check_numbers(new, self.instruments[new.symbol])
        if new.trigger_price != order.asked.trigger_price:
            if order.status != "Untriggered":
                raise VenueRefusal(10001, "the trigger of an active order cannot be changed")
            self._check_trigger(new)
        if not new.reduce_only:
            self._check_opening(new, self.instruments[new.symbol], order)

    def _lacks_funds(self, asked: NewOrder, price: Decimal, order: Order | None = None) -> bool:
        """Is the margin missing? What closes the position binds nothing. A hair of tolerance: risk floors with it."""
        position = self.positions.get(asked.symbol)
        qty = asked.qty
        if position is not None and OrderSide.closing(position.side) is asked.side:
            qty = max(qty - position.qty, ZERO)
        need = qty * price * self._account.margin_rate(asked.symbol)
        return need > self._free(order) * (1 + Decimal("1e-9")) + Decimal("1e-6")

    def _check_guard(self, symbol: str, name: str, below: Side, price: Decimal, base: float) -> None:
        """A stop of a long (and a take profit of a short) lies below the price, the others above it."""
        if price % self.instruments[symbol].tick_size != 0:
            raise VenueRefusal(10001, f"{name}:{price} is not a multiple of the tick size")
        wrong = float(price) >= base if below is Side.LONG else float(price) <= base
        if wrong or price <= 0:
            holder = below if name == "StopLoss" else below.opposite
            side = "Buy" if holder is Side.LONG else "Sell"
            word = "lower" if below is Side.LONG else "greater"
            text = f"{name}:{price} set for {side} position should {word} than base_price:{base}??LastPrice"
            raise VenueRefusal(10001, text)

    def _set_guard(self, symbol: str, kind: StopKind, price: Decimal | None) -> None:
        position = self.positions[symbol]
        if price:
            self._account.guard(symbol, kind, price, self.now)
        elif price is not None and kind in position.guards:
            self._account.unguard(symbol, kind, self.now)

    # Keeping and telling

    def commit(self) -> None:
        """Keep what changed, then tell it: what was told has been kept."""
        account = self._account
        told, account.told = account.told, []
        closed, account.closed = account.closed, []
        self.keeper.keep(self.state, closed, [event for event in told if isinstance(event, Fill)])
        if told:
            self.listener(told)

    def state(self) -> VenueState:
        """Everything live (see `ledger` for how it is written)."""
        account = self._account
        return VenueState(
            cash=account.cash,
            sequence=account.sequence,
            now=self.now,
            begun=self._begun,
            last=self.last,
            positions=account.positions,
            orders=self.orders,
            leverage=account.leverage,
            realised=account.realised,
            funding_missing=self.funding_missing,
        )

    def restore(self, state: VenueState) -> None:
        """Go on from a kept state."""
        account = self._account
        account.cash, account.sequence = state.cash, state.sequence
        account.positions = dict(state.positions)
        account.realised = dict(state.realised)
        for symbol, leverage in state.leverage.items():
            account.set_leverage(symbol, leverage)
        self.now = state.now
        self._begun = dict(state.begun)
        self.last = dict(state.last)
        self.orders = dict(state.orders)
        self.funding_missing = state.funding_missing


def _beyond(position: Position, price: float) -> bool:
    """Is the price at or past the stop?"""
    stop = position.stop
    if stop is None:
        return False
    return price <= float(stop) if position.side is Side.LONG else price >= float(stop)


def _triggered_at(order: Order, bar: Candle) -> Decimal | None:
    """The price at which a bar triggers a conditional order: its trigger, or the open beyond it; else None."""
    trigger = order.asked.trigger_price
    if trigger is None:
        return None
    level, rises = float(trigger), order.asked.trigger_direction == 1
    if bar.open >= level if rises else bar.open <= level:
        return exact(bar.open)
    reached = bar.high >= level if rises else bar.low <= level
    return trigger if reached else None
