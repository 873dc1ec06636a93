"""The order endpoints: what a client may ask for is read strictly, what becomes of it is the venue's decision.

A take profit or stop of a position is an order too: it is amended, cancelled and listed under its order id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice

from trading.exchange.simulated.books import NewOrder, Order, StopKind, TimeInForce
from trading.exchange.simulated.venue import Venue, VenueRefusal
from trading.exchange.simulated.wire.market_data import CATEGORIES, MOST_STEPS
from trading.exchange.simulated.wire.objects import COIN, LINEAR, Object, order_object
from trading.exchange.simulated.wire.paging import page, window
from trading.exchange.simulated.wire.parameters import PARAMS_ERROR, Params, wrong
from trading.model import ZERO, OrderSide, OrderType, millis

FILTERS = ("Order", "StopOrder", "OpenOrder", "tpslOrder")
PRICE_KINDS = ("LastPrice", "IndexPrice", "MarkPrice")
MOST_RECENT = 500
MOST_IN_BATCH = 20
MODE_MISMATCH = "position idx not match position mode"
PARTIAL = "tpslMode Partial is not supported by the paper exchange: use Full"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The answer of a batch: results and, beside them, a code and a text for each."""

    result: Object
    ext: Object


class Orders:
    """Answers of the order endpoints. `hedged` tells whether a symbol has been switched to hedge mode."""

    def __init__(self, venue: Venue, hedged: Callable[[str], bool]) -> None:
        self._venue = venue
        self._hedged = hedged

    # Requests

    def create(self, params: Params) -> Object:
        """Place an order."""
        return _ids(self._venue.place(self._new_order(params)))

    def amend(self, params: Params) -> Object:
        """Change a live order, or the trigger of what protects a position."""
        symbol, order_id, link_id = self._target(params)
        if kind := self._guard(symbol, order_id):
            self._protect(symbol, kind, params.amount("triggerPrice") or _unchanged())
            return {"orderId": order_id, "orderLinkId": ""}
        check_stops(params)
        self._check_conditional(params, order_id, link_id)
        qty = params.amount("qty")
        order = self._venue.amend(
            symbol,
            order_id=order_id,
            link_id=link_id,
            qty=None if qty is None else self._within(qty, symbol),
            price=params.amount("price"),
            trigger_price=params.amount("triggerPrice"),
            stop_loss=params.decimal("stopLoss"),
            take_profit=params.decimal("takeProfit"),
        )
        return _ids(order)

    def cancel(self, params: Params) -> Object:
        """Cancel a live order, or take away what protects a position."""
        symbol, order_id, link_id = self._target(params)
        if kind := self._guard(symbol, order_id):
            self._protect(symbol, kind, ZERO)
            return {"orderId": order_id, "orderLinkId": ""}
        return _ids(self._venue.cancel(symbol, order_id=order_id, link_id=link_id))

    def cancel_all(self, params: Params) -> Object:
        """Cancel every live order of a symbol or of all; without a filter also what protects positions."""
        _only_linear(params)
        symbols = self._scope(params)
        chosen = params.choice("orderFilter", FILTERS, "OpenOrder")
        conditional = {"Order": False, "OpenOrder": None}.get(chosen, True)
        guards = "orderFilter" not in params or (conditional is True and params.text("stopOrderType") != "Stop")
        cancelled: list[Object] = []
        for symbol in symbols:
            cancelled += map(_ids, self._venue.cancel_all(symbol, conditional=conditional))
            cancelled += self._unprotect(symbol) if guards else []
        return {"list": cancelled, "success": "1"}

    def create_batch(self, params: Params) -> Batch:
        """Place several orders."""
        return self._batch(params, self.create)

    def amend_batch(self, params: Params) -> Batch:
        """Change several orders."""
        return self._batch(params, self.amend)

    def cancel_batch(self, params: Params) -> Batch:
        """Cancel several orders."""
        return self._batch(params, self.cancel)

    def _batch(self, params: Params, each: Callable[[Params], Object]) -> Batch:
        _only_linear(params)
        items = params.objects("request")
        if len(items) > MOST_IN_BATCH:
            raise wrong(f"request has more than {MOST_IN_BATCH} orders")
        results, outcomes = [], []
        for item in items:
            ids: Object = {"orderId": "", "orderLinkId": ""}
            symbol, code, message = "", 0, "OK"
            try:
                symbol = item.text("symbol")
                ids = each(item.with_default("category", LINEAR))
            except VenueRefusal as refusal:
                code, message = refusal.code, str(refusal)
            results.append({"category": LINEAR, "symbol": symbol, **ids})
            outcomes.append({"code": code, "msg": message})
        return Batch(result={"list": results}, ext={"list": outcomes})

    # Reading an order

    def _new_order(self, params: Params) -> NewOrder:
        _only_linear(params)
        symbol = params.symbol(self._venue.instruments)
        side = OrderSide(params.choice("side", ("Buy", "Sell")))
        kind = OrderType(params.choice("orderType", ("Market", "Limit")))
        check_index(params, hedged=self._hedged(symbol))
        check_stops(params)
        reduce_only, closing = params.flag("reduceOnly"), params.flag("closeOnTrigger")
        stop, profit = params.amount("stopLoss"), params.amount("takeProfit")
        if reduce_only and (stop or profit):
            raise wrong("takeProfit and stopLoss cannot be set with reduceOnly")
        trigger, direction = _trigger(params)
        return NewOrder(
            symbol=symbol,
            side=side,
            type=kind,
            qty=self._quantity(params, symbol, everything=reduce_only and closing),
            price=_limit_price(params) if kind is OrderType.LIMIT else None,
            link_id=params.link_id(),
            time_in_force=_time_in_force(params, kind),
            reduce_only=reduce_only,
            close_on_trigger=closing,
            stop_loss=stop,
            take_profit=profit,
            trigger_price=trigger,
            trigger_direction=direction,
        )

    def _quantity(self, params: Params, symbol: str, *, everything: bool) -> Decimal:
        """The quantity; zero with reduceOnly and closeOnTrigger is the whole position."""
        qty = params.decimal("qty")
        if qty is None:
            raise wrong("qty is required")
        if qty == 0 and everything:
            position = self._venue.positions.get(symbol)
            if position is None:
                raise VenueRefusal(110017, "current position is zero, cannot fix reduce-only order qty")
            return position.qty
        return self._within(qty, symbol)

    def _within(self, qty: Decimal, symbol: str) -> Decimal:
        if qty > self._venue.instruments[symbol].qty_step * MOST_STEPS:
            raise VenueRefusal(PARAMS_ERROR, "The number of contracts exceeds maximum limit allowed: too large")
        return qty

    def _check_conditional(self, params: Params, order_id: str, link_id: str) -> None:
        """Only an order that waits for a trigger has one that can be changed."""
        if "triggerPrice" not in params:
            return
        order = self._venue.order(order_id) if order_id else self._venue.find(link_id)
        if order is not None and order.status != "Untriggered":
            raise VenueRefusal(110001, "order not exists or too late to replace")

    def _target(self, params: Params) -> tuple[str, str, str]:
        """Symbol, order id and link id of a live order; the order id counts where both are given."""
        _only_linear(params)
        symbol = params.symbol(self._venue.instruments)
        order_id, link_id = params.text("orderId"), params.link_id()
        if not order_id and not link_id:
            raise wrong("orderId or orderLinkId is required")
        return symbol, order_id, link_id

    def _guard(self, symbol: str, order_id: str) -> StopKind | None:
        """Which protection of the position that order is."""
        position = self._venue.positions.get(symbol)
        guards = position.guards.items() if position and order_id else ()
        return next((kind for kind, order in guards if order.order_id == order_id), None)

    def _protect(self, symbol: str, kind: StopKind, price: Decimal) -> None:
        if kind is StopKind.TRAILING and price:
            raise wrong("the trigger of a trailing stop is changed by position/trading-stop")
        name = {StopKind.STOP_LOSS: "stop_loss", StopKind.TAKE_PROFIT: "take_profit", StopKind.TRAILING: "trailing"}
        self._venue.protect(symbol, **{name[kind]: price})

    def _unprotect(self, symbol: str) -> list[Object]:
        position = self._venue.positions.get(symbol)
        guards = list(position.guards.items()) if position else []
        for kind, _ in guards:
            self._protect(symbol, kind, ZERO)
        return [_ids(order) for _, order in guards]

    def _scope(self, params: Params) -> list[str]:
        """The symbols meant by symbol, base coin or settle coin, of which one must be given."""
        instruments = self._venue.instruments
        if symbol := params.known_symbol(instruments):
            return [symbol]
        if base := params.text("baseCoin"):
            return [symbol for symbol in instruments if symbol.removesuffix(COIN) == base]
        if settle := params.text("settleCoin"):
            return list(instruments) if settle == COIN else []
        raise wrong("one of symbol, baseCoin and settleCoin is required")

    # Lists

    def realtime(self, params: Params) -> Object:
        """Open orders, newest first; with an id also a closed one, with openOnly 1 the closed ones only."""
        category = params.choice("category", CATEGORIES)
        recent = params.integer("openOnly", 0, 0, 2) == 1
        if category != LINEAR:
            return _listed(category, [], "")
        found = self._named(params)
        if found is None:
            scope = set(self._scope(params))
            orders = islice(self._venue.keeper.closed_orders(), MOST_RECENT) if recent else self._venue.open_orders()
            found = (order for order in orders if order.asked.symbol in scope and _filtered(params, order))
        rows, cursor = page(params, found, lambda order: order.order_id, default=20, most=50)
        return _listed(category, [self.shown(order) for order in rows], cursor)

    def history(self, params: Params) -> Object:
        """Closed orders, newest first."""
        category = params.choice("category", CATEGORIES)
        first, last = window(params, self._venue.now)
        if category != LINEAR:
            return _listed(category, [], "")
        found = self._named(params)
        if found is None:
            found = self._closed(params, first, last)
        rows, cursor = page(params, found, lambda order: order.order_id, default=20, most=50)
        return _listed(category, [self.shown(order) for order in rows], cursor)

    def shown(self, order: Order) -> Object:
        """An order as REST shows it."""
        return order_object(order, self._venue.instruments[order.asked.symbol])

    def _named(self, params: Params) -> Iterator[Order] | None:
        """The order that is asked for by an id; None when none is given."""
        order_id, link_id = params.text("orderId"), params.link_id()
        if not order_id and not link_id:
            return None
        symbol = params.known_symbol(self._venue.instruments)
        order = self._venue.order(order_id) if order_id else self._venue.find(link_id)
        return iter([order] if order and symbol in {None, order.asked.symbol} else [])

    def _closed(self, params: Params, first: int, last: int) -> Iterator[Order]:
        wanted = None
        if any(name in params for name in ("symbol", "baseCoin", "settleCoin")):
            wanted = set(self._scope(params))
        status = params.text("orderStatus")
        symbol = params.text("symbol") or None
        for order in self._venue.keeper.closed_orders(symbol):
            at = millis(order.updated)
            if at < first:
                return
            mine = wanted is None or order.asked.symbol in wanted
            if mine and at <= last and status in {"", order.status} and _filtered(params, order):
                yield order


def _only_linear(params: Params) -> None:
    if params.choice("category", CATEGORIES) != LINEAR:
        raise wrong("category is not supported by the paper exchange: only linear is")


def check_index(params: Params, *, hedged: bool) -> None:
    """The index of the position that is meant. Hedge mode can be switched on, but not traded in."""
    index = params.integer("positionIdx", 0, 0, 2)
    if (index == 0) is hedged:
        raise VenueRefusal(PARAMS_ERROR, MODE_MISMATCH)
    if hedged:
        raise wrong("positionIdx: the paper exchange does not trade in hedge mode")


def check_stops(params: Params) -> None:
    """Stops are of the whole position, market orders, and go by any price (all of them are the last price)."""
    if params.choice("tpslMode", ("Full", "Partial"), "Full") != "Full" or "tpSize" in params or "slSize" in params:
        raise VenueRefusal(PARAMS_ERROR, PARTIAL)
    for name in ("triggerBy", "tpTriggerBy", "slTriggerBy"):
        params.choice(name, PRICE_KINDS, "LastPrice")
    for name in ("tpOrderType", "slOrderType"):
        if params.choice(name, ("Market", "Limit"), "Market") != "Market":
            raise VenueRefusal(PARAMS_ERROR, PARTIAL)


def _trigger(params: Params) -> tuple[Decimal | None, int]:
    price = params.amount("triggerPrice")
    direction = params.integer("triggerDirection", 0, 0, 2)
    if price is None:
        return None, 0
    if direction == 0:
        raise VenueRefusal(PARAMS_ERROR, "TriggerDirection invalid")
    return price, direction


def _limit_price(params: Params) -> Decimal:
    price = params.amount("price")
    if price is None:
        raise VenueRefusal(PARAMS_ERROR, "Price invalid")
    return price


def _time_in_force(params: Params, kind: OrderType) -> TimeInForce:
    """A market order is always immediate or cancelled."""
    asked = TimeInForce(params.choice("timeInForce", tuple(TimeInForce), TimeInForce.GTC))
    return TimeInForce.IOC if kind is OrderType.MARKET else asked


def _unchanged() -> Decimal:
    raise wrong("triggerPrice is required")


def _filtered(params: Params, order: Order) -> bool:
    chosen = params.choice("orderFilter", FILTERS, "OpenOrder")
    return chosen == "OpenOrder" or (chosen == "Order") == (not order.stop_order_type)


def _ids(order: Order) -> Object:
    return {"orderId": order.order_id, "orderLinkId": order.asked.link_id}


def _listed(category: str, rows: list[Object], cursor: str) -> Object:
    return {"category": category, "list": rows, "nextPageCursor": cursor}
