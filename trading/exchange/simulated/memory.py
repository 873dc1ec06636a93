"""The in-memory face of the venue: the ports `MarketData` and `Broker`, without a wire between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from trading.errors import Rejected
from trading.exchange.simulated.market import Market
from trading.exchange.simulated.venue import Venue, VenueEvent, VenueRefusal
from trading.model import (
    AccountSnapshot,
    CandleSeries,
    ExchangeOrder,
    Execution,
    Instrument,
    PlaceOrder,
    exact,
)
from trading.ports import Inbox, OrderUpdated
from trading.risk import Approved

DUPLICATE_LINK_ID = 110072
CODE_UNKNOWN_SYMBOL = 10001


class MemoryExchange:
    """One account on a venue in this process. What happens on it goes to the trader's inbox, in order."""

    def __init__(self, venue: Venue, market: Market, inbox: Inbox, uid: str) -> None:
        self._venue = venue
        self._market = market
        self._inbox = inbox
        self._uid = uid
        venue.listener = self._tell

    def _tell(self, event: VenueEvent) -> None:
        self._inbox.put(event if isinstance(event, Execution) else OrderUpdated(order=event))

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
            return self._venue.place(order.order).order_id
        except VenueRefusal as refusal:
            if refusal.code == DUPLICATE_LINK_ID and (known := self._venue.find(order.order.link_id)):
                return known.order_id
            raise Rejected(str(refusal), code=refusal.code) from refusal

    async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """Cancel; the order as it ended."""
        try:
            return self._venue.cancel(symbol, link_id)
        except VenueRefusal as refusal:
            raise Rejected(str(refusal), code=refusal.code) from refusal

    async def move_stop(self, symbol: str, stop: Decimal) -> None:
        """Amend the position's stop."""
        try:
            self._venue.move_stop(symbol, stop)
        except VenueRefusal as refusal:
            raise Rejected(str(refusal), code=refusal.code) from refusal

    async def find(self, symbol: str, link_id: str) -> ExchangeOrder | None:
        """An order by link id."""
        return self._venue.find(link_id)

    async def snapshot(self) -> AccountSnapshot:
        """The account now."""
        return self._venue.snapshot()

    async def executions(self, symbol: str, since: datetime) -> Sequence[Execution]:
        """Executions since a moment."""
        return self._venue.executions(symbol, since)

    async def account_id(self) -> str:
        """The ledger's uid."""
        return self._uid
