"""The position endpoints: what is held, how it is protected, leverage, and what closing it brought."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

from trading.exchange.simulated.books import Fill
from trading.exchange.simulated.venue import Venue, VenueRefusal
from trading.exchange.simulated.wire.market import Prices
from trading.exchange.simulated.wire.market_data import CATEGORIES
from trading.exchange.simulated.wire.objects import (
    COIN,
    LINEAR,
    Holding,
    Object,
    closed_pnl_object,
    position_object,
)
from trading.exchange.simulated.wire.orders import check_index, check_stops
from trading.exchange.simulated.wire.paging import page, window
from trading.exchange.simulated.wire.parameters import PARAMS_ERROR, Params, wrong
from trading.model import EPOCH, exact

ONE_WAY, HEDGE = "0", "3"


class Positions:
    """Answers of the position endpoints. `note` keeps the number of each symbol's last fill.

    `changed` hears of a position that a request changed without an order or a fill.
    """

    def __init__(self, prices: Prices, changed: Callable[[str], None]) -> None:
        self._prices = prices
        self._changed = changed
        self._venue: Venue = prices.venue
        self._taker = exact(prices.venue.terms.taker_fee)
        self._seq: dict[str, int] = {}
        self._hedged: set[str] = set()

    def note(self, fill: Fill) -> None:
        """A fill has happened."""
        self._seq[fill.symbol] = fill.seq

    def holding(self, symbol: str) -> Holding:
        """What a position object is made of."""
        if symbol not in self._seq:
            before = next(self._venue.keeper.fills(symbol), None)
            self._seq[symbol] = before.seq if before else -1
        return Holding(
            symbol=symbol,
            position=self._venue.positions.get(symbol),
            mark=self._prices.last(symbol),
            leverage=self._venue.leverage[symbol],
            realised=self._venue.realised.get(symbol, exact(0.0)),
            seq=self._seq[symbol],
            taker=self._taker,
        )

    def listed(self, params: Params) -> Object:
        """The position of a symbol, flat or not, or all open ones of a settle coin."""
        category = params.choice("category", CATEGORIES)
        symbol = params.text("symbol")
        if not symbol and category == LINEAR and not params.text("settleCoin"):
            raise wrong("symbol or settleCoin is required")
        held: list[str] = []
        if category == LINEAR and symbol:
            held = [params.symbol(self._venue.instruments)]
        elif category == LINEAR and params.text("settleCoin") == COIN:
            held = list(self._venue.positions)
        rows, cursor = page(params, held, str, default=20, most=200)
        shown = [row for symbol in rows for row in self._rows(symbol)]
        return {"category": category, "list": shown, "nextPageCursor": cursor}

    def _rows(self, symbol: str) -> list[Object]:
        """The row of a symbol; in hedge mode, which only a flat symbol can be in, one for either side."""
        shown = position_object(self.holding(symbol))
        return [shown | {"positionIdx": index} for index in (1, 2)] if symbol in self._hedged else [shown]

    def set_leverage(self, params: Params) -> Object:
        """Set the leverage of a symbol; in one-way mode both sides have the same."""
        symbol = self._linear_symbol(params)
        buy, sell = params.decimal("buyLeverage"), params.decimal("sellLeverage")
        if buy is None or sell is None:
            raise wrong("buyLeverage and sellLeverage are required")
        if buy != sell:
            raise VenueRefusal(PARAMS_ERROR, "buy leverage not equal sell leverage")
        self._venue.set_leverage(symbol, buy)
        self._changed(symbol)
        return {}

    def switch_mode(self, params: Params) -> Object:
        """Switch symbols between one-way and hedge mode, while nothing is open on them. Not kept over a restart."""
        self._only_linear(params)
        symbol = params.known_symbol(self._venue.instruments)
        if symbol is None and params.text("coin") != COIN:
            raise wrong("symbol or coin is required")
        symbols = {symbol} if symbol else set(self._venue.instruments)
        hedge = params.choice("mode", (ONE_WAY, HEDGE)) == HEDGE
        if (symbols <= self._hedged) if hedge else symbols.isdisjoint(self._hedged):
            raise VenueRefusal(110025, "Position mode is not modified")
        if not symbols.isdisjoint(self._venue.positions):
            raise VenueRefusal(110024, "You have an existing position, so the position mode cannot be switched.")
        if any(order.asked.symbol in symbols for order in self._venue.orders.values()):
            raise VenueRefusal(110028, "You have open orders, so you cannot switch position mode.")
        self._hedged = self._hedged | symbols if hedge else self._hedged - symbols
        return {}

    def hedged(self, symbol: str) -> bool:
        """Has the symbol been switched to hedge mode?"""
        return symbol in self._hedged

    def trading_stop(self, params: Params) -> Object:
        """Set what protects the whole position; "0" takes it away."""
        symbol = self._linear_symbol(params)
        check_index(params, hedged=self.hedged(symbol))
        check_stops(params)
        if params.amount("activePrice") is not None:
            raise wrong("activePrice is not supported by the paper exchange: a trailing stop is active at once")
        stop, profit = params.decimal("stopLoss"), params.decimal("takeProfit")
        trailing = params.decimal("trailingStop")
        if stop is None and profit is None and trailing is None:
            raise wrong("one of takeProfit, stopLoss and trailingStop is required")
        self._venue.protect(symbol, stop_loss=stop, take_profit=profit, trailing=trailing)
        return {}

    def closed_pnl(self, params: Params) -> Object:
        """What closing orders brought, newest first, one record for each order."""
        category = params.choice("category", CATEGORIES)
        first, last = window(params, self._venue.now)
        symbol = params.known_symbol(self._venue.instruments) if category == LINEAR else None
        groups = self._closing(symbol, first, last) if category == LINEAR else iter(())
        rows, cursor = page(params, groups, lambda fills: fills[0].order_id, default=50, most=100)
        shown = [closed_pnl_object(fills, self._venue.leverage[fills[0].symbol]) for fills in rows]
        return {"category": category, "list": shown, "nextPageCursor": cursor}

    def _closing(self, symbol: str | None, first: int, last: int) -> Iterator[list[Fill]]:
        """The closing fills of each order, newest first."""
        since, until = EPOCH + timedelta(milliseconds=first), EPOCH + timedelta(milliseconds=last)
        groups: dict[str, list[Fill]] = {}
        for fill in self._venue.keeper.fills(symbol, since=since, until=until):
            if fill.closed:
                groups.setdefault(fill.order_id, []).append(fill)
        yield from groups.values()

    def _linear_symbol(self, params: Params) -> str:
        self._only_linear(params)
        return params.symbol(self._venue.instruments)

    def _only_linear(self, params: Params) -> None:
        if params.choice("category", CATEGORIES) != LINEAR:
            raise wrong("category is not supported by the paper exchange: only linear is")
