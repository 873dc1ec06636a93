"""The in-memory face of the venue: the ports `MarketData` and `Broker`, without a wire between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from trading.errors import Rejected
from trading.exchange.simulated.account import liquidation_price
from trading.exchange.simulated.books import Fill, FillKind, NewOrder, Order, StopKind, TimeInForce
from trading.exchange.simulated.market import Market
from trading.exchange.simulated.venue import Venue, VenueEvent, VenueRefusal
from trading.model import (
    AccountSnapshot,
    CandleSeries,
    ExchangeOrder,
    ExchangePosition,
    Execution,
    Instrument,
    PlaceOrder,
    Purpose,
    exact,
)
from trading.ports import Inbox, OrderUpdated
from trading.risk import Approved

DUPLICATE_LINK_ID = 110072
NOT_MODIFIED = 34040
NOT_LIVE = 110001
CODE_UNKNOWN_SYMBOL = 10001
STOPS = {StopKind.STOP_LOSS.value, StopKind.TRAILING.value}


class MemoryExchange:
    """One account on a venue in this process. What happens on it goes to the trader's inbox, in order."""

    def __init__(self, venue: Venue, market: Market, inbox: Inbox, uid: str) -> None:
        self._venue = venue
        self._market = market
        self._inbox = inbox
        self._uid = uid
        venue.listener = self._tell

    def _tell(self, events: Sequence[VenueEvent]) -> None:
        for event in events:
            if isinstance(event, Fill):
                self._inbox.put(execution_of(event))
            elif not event.protects:
                self._inbox.put(OrderUpdated(order=view_of(event)))

    async def instrument(self, symbol: str) -> Instrument:
        """Trading rules of a symbol."""
        if symbol not in self._venue.instruments:
            raise Rejected(f"{symbol} is not traded on this exchange", code=CODE_UNKNOWN_SYMBOL)
        return self._venue.instruments[symbol]

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """The last closed bars."""
        series = self._market.history(symbol, bars)
        if series is None:
            raise Rejected(f"{symbol} has no candles on this exchange", code=CODE_UNKNOWN_SYMBOL)
        return series

    async def last_price(self, symbol: str) -> Decimal:
        """The last price."""
        if symbol not in self._venue.last:
            raise Rejected(f"{symbol} has no price yet", code=CODE_UNKNOWN_SYMBOL)
        return exact(self._venue.last[symbol])

    async def place(self, order: Approved[PlaceOrder]) -> str:
        """Place once: a link id that is known already is the order that was meant."""
        try:
            return self._venue.place(asked_of(order.order)).order_id
        except VenueRefusal as refusal:
            if refusal.code == DUPLICATE_LINK_ID and (known := self._venue.find(order.order.link_id)):
                return known.order_id
            raise Rejected(str(refusal), code=refusal.code) from refusal

    async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """Cancel; the order as it ended."""
        try:
            return view_of(self._venue.cancel(symbol, link_id=link_id))
        except VenueRefusal as refusal:
            ended = self._venue.find(link_id) if refusal.code == NOT_LIVE else None
            if ended is None:
                raise Rejected(str(refusal), code=refusal.code) from refusal
            return view_of(ended)

    async def move_stop(self, symbol: str, stop: Decimal) -> None:
        """Amend the position's stop."""
        try:
            self._venue.protect(symbol, stop_loss=stop)
        except VenueRefusal as refusal:
            if refusal.code != NOT_MODIFIED:
                raise Rejected(str(refusal), code=refusal.code) from refusal

    async def find(self, symbol: str, link_id: str) -> ExchangeOrder | None:
        """An order by link id."""
        known = self._venue.find(link_id)
        return view_of(known) if known else None

    async def snapshot(self, *, cash: bool = True) -> AccountSnapshot:
        """The account now; what protects positions is told with them."""
        positions = tuple(
            ExchangePosition(
                symbol=symbol,
                side=p.side,
                qty=p.qty,
                entry_price=p.entry_price,
                stop=p.stop,
                liquidation=liquidation_price(p, self._venue.leverage[symbol]),
            )
            for symbol, p in self._venue.positions.items()
        )
        orders = tuple(view_of(order) for order in self._venue.orders.values())
        return AccountSnapshot(cash=self._venue.cash if cash else None, positions=positions, orders=orders)

    async def executions(self, symbol: str, since: datetime) -> Sequence[Execution]:
        """Executions since a moment."""
        fills = [execution_of(fill) for fill in self._venue.keeper.fills(symbol, since=since)]
        return fills[::-1]

    async def account_id(self) -> str:
        """The ledger's uid."""
        return self._uid


def asked_of(order: PlaceOrder) -> NewOrder:
    """An order of ours in the exchange's words."""
    return NewOrder(
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        qty=order.qty,
        price=order.price,
        link_id=order.link_id,
        time_in_force=TimeInForce.POST_ONLY if order.post_only else TimeInForce.GTC,
        reduce_only=order.reduce_only,
        stop_loss=order.stop_loss,
    )


def view_of(order: Order) -> ExchangeOrder:
    """An order of the exchange as the domain sees it."""
    asked = order.asked
    why = order.reject_reason if order.reject_reason != "EC_NoError" else order.cancel_type
    return ExchangeOrder(
        order_id=order.order_id,
        link_id=asked.link_id,
        symbol=asked.symbol,
        side=asked.side,
        type=asked.type,
        qty=asked.qty,
        filled=order.filled,
        price=asked.price,
        reduce_only=asked.reduce_only,
        status=order.status,
        reason="" if why == "UNKNOWN" else why,
    )


def execution_of(fill: Fill) -> Execution:
    """A fill as the domain sees it."""
    return Execution(
        exec_id=fill.exec_id,
        order_id=fill.order_id,
        link_id=fill.link_id,
        symbol=fill.symbol,
        side=fill.side,
        qty=fill.qty,
        price=fill.price,
        fee=fill.fee,
        maker=fill.maker,
        at=fill.at,
        purpose=Purpose.STOP if fill.stop_order_type in STOPS else None,
        funding=fill.kind is FillKind.FUNDING,
    )
