"""The account endpoints: wallet, executions, transaction log, fees, and who the key belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from trading.exchange.simulated.books import Fill, FillKind
from trading.exchange.simulated.venue import Venue, VenueRefusal
from trading.exchange.simulated.wire.formats import number
from trading.exchange.simulated.wire.market_data import CATEGORIES
from trading.exchange.simulated.wire.objects import (
    COIN,
    LINEAR,
    Funds,
    Object,
    fill_object,
    margins,
    transaction_object,
    wallet_object,
)
from trading.exchange.simulated.wire.paging import DAY_MS, page, window
from trading.exchange.simulated.wire.parameters import Params, wrong
from trading.model import ZERO, exact, millis, utc

ISOLATED, CROSS, PORTFOLIO = "ISOLATED_MARGIN", "REGULAR_MARGIN", "PORTFOLIO_MARGIN"
UNIFIED_PRO = 6
CREATED = "2024-01-01T00:00:00Z"
EXECUTIONS = ("Trade", "Funding", "AdlTrade", "BustTrade", "Settle", "Delivery", "BlockTrade", "MovePosition")
LOG_TYPES = {"TRADE": FillKind.TRADE, "SETTLEMENT": FillKind.FUNDING}
PERMISSIONS: Object = {
    "ContractTrade": ["Order", "Position"],
    "Spot": [],
    "Wallet": [],
    "Options": [],
    "Derivatives": ["DerivativesTrade"],
    "CopyTrading": [],
    "BlockTrade": [],
    "Exchange": [],
    "NFT": [],
    "Affiliate": [],
    "Earn": [],
}


class Wallet:
    """Answers of the account endpoints for one key of one account."""

    def __init__(self, venue: Venue, uid: str, key: str) -> None:
        self._venue = venue
        self._uid = uid
        self._key = key
        self._maker, self._taker = exact(venue.terms.maker_fee), exact(venue.terms.taker_fee)

    # Money

    def balance(self, params: Params) -> Object:
        """The unified account."""
        params.choice("accountType", ("UNIFIED",))
        coins = [coin for coin in params.text("coin").split(",") if coin] or [COIN]
        if len(coins) > 50 or not all(coin.isalnum() and coin.isascii() and coin.isupper() for coin in coins):
            raise wrong("coin invalid")
        return {"list": [self.shown(coins)]}

    def shown(self, coins: list[str]) -> Object:
        """The wallet as both REST and stream show it."""
        venue = self._venue
        position_margin = unrealised = maintenance = bound = ZERO
        for symbol, held in venue.positions.items():
            mark, leverage = exact(venue.last[symbol]), venue.leverage[symbol]
            initial, least = margins(held.qty * mark, leverage, self._taker)
            position_margin += initial
            maintenance += least
            unrealised += held.size * (mark - held.entry_price)
            bound += held.qty * held.entry_price * (1 / leverage + self._maker + self._taker)
        available = venue.available
        funds = Funds(
            cash=venue.cash,
            unrealised=unrealised,
            available=available,
            position_margin=position_margin,
            order_margin=max(venue.cash - available - bound, ZERO) if venue.orders else ZERO,
            maintenance=maintenance,
            realised=sum(venue.realised.values(), ZERO),
        )
        return wallet_object(funds, coins)

    # Lists

    def executions(self, params: Params) -> Object:
        """Fills and funding, newest first; an order's ids override every other filter."""
        category = params.choice("category", CATEGORIES)
        kind = params.choice("execType", EXECUTIONS, "Trade") if "execType" in params else ""
        first, last = window(params, self._venue.now)
        order_id, link_id = params.text("orderId"), params.link_id()
        found: Iterator[Fill] = iter(())
        if category == LINEAR and (order_id or link_id):
            found = self._venue.keeper.fills(order_id=order_id, link_id="" if order_id else link_id)
        elif category == LINEAR:
            fills = self._fills(params, first, last)
            found = (fill for fill in fills if kind in {"", fill.kind.value})
        rows, cursor = page(params, found, lambda fill: fill.exec_id, default=50, most=100)
        return {"category": category, "list": [fill_object(fill) for fill in rows], "nextPageCursor": cursor}

    def transactions(self, params: Params) -> Object:
        """What moved the wallet, newest first; without bounds those of 24 hours."""
        params.choice("accountType", ("UNIFIED",), "UNIFIED")
        category = params.choice("category", CATEGORIES, LINEAR)
        kind = params.text("type")
        first, last = window(params, self._venue.now, DAY_MS)
        found: Iterator[Fill] = iter(())
        if category == LINEAR and params.text("currency") in {"", COIN} and (not kind or kind in LOG_TYPES):
            wanted = LOG_TYPES.get(kind)
            found = (fill for fill in self._fills(params, first, last) if wanted in {None, fill.kind})
        rows, cursor = page(params, found, lambda fill: fill.exec_id, default=20, most=50)
        return {"list": [transaction_object(fill, self._uid) for fill in rows], "nextPageCursor": cursor}

    def _fills(self, params: Params, first: int, last: int) -> Iterator[Fill]:
        symbol = params.known_symbol(self._venue.instruments)
        base, settle = params.text("baseCoin"), params.text("settleCoin")
        fills = self._venue.keeper.fills(symbol, since=utc(first), until=utc(last))
        if settle not in {"", COIN}:
            return iter(())
        return (fill for fill in fills if base in {"", fill.symbol.removesuffix(COIN)})

    # Who it is

    def info(self, _: Params) -> Object:
        """What kind of account it is."""
        return {
            "unifiedMarginStatus": UNIFIED_PRO,
            "marginMode": CROSS,
            "isMasterTrader": False,
            "spotHedgingStatus": "OFF",
            "updatedTime": str(millis(self._venue.now)),
            "dcpStatus": "OFF",
            "timeWindow": 10,
            "smpGroup": 0,
        }

    def fee_rate(self, params: Params) -> Object:
        """Maker and taker fee of a symbol, or of all."""
        category = params.choice("category", CATEGORIES)
        named = params.known_symbol(self._venue.instruments) if category == LINEAR else None
        symbols = [named] if named else list(self._venue.instruments) if category == LINEAR else []
        fees = {"takerFeeRate": number(self._taker), "makerFeeRate": number(self._maker)}
        return {"category": category, "list": [{"symbol": symbol, **fees} for symbol in symbols]}

    def set_margin_mode(self, params: Params) -> Object:
        """Cross margin is the only mode there is."""
        if params.choice("setMarginMode", (ISOLATED, CROSS, PORTFOLIO)) == CROSS:
            raise VenueRefusal(110026, "Cross/isolated margin mode is not modified")
        raise VenueRefusal(3400045, "Set margin mode failed")

    def key_info(self, _: Params) -> Object:
        """What the key may do, and whose it is."""
        user = int(self._uid) if self._uid.isdecimal() else self._uid
        return {
            "id": "1",
            "note": "paper exchange",
            "apiKey": self._key,
            "readOnly": 0,
            "secret": "",
            "permissions": PERMISSIONS,
            "ips": ["127.0.0.1"],
            "type": 1,
            "deadlineDay": 90,
            "expiredAt": "2034-01-01T00:00:00Z",
            "createdAt": CREATED,
            "unified": 0,
            "uta": 1,
            "userID": user,
            "inviterID": 0,
            "vipLevel": "No VIP",
            "mktMakerLevel": "0",
            "affiliateID": 0,
            "rsaPublicKey": "",
            "isMaster": True,
            "parentUid": "0",
            "kycLevel": "LEVEL_DEFAULT",
            "kycRegion": "",
        }

    def coins(self, params: Params) -> Object:
        """The coins of the exchange, none of which can leave it."""
        names = list(dict.fromkeys([COIN, *(symbol.removesuffix(COIN) for symbol in self._venue.instruments)]))
        wanted = params.text("coin")
        return {"rows": [_coin(name) for name in names if wanted in {"", name}]}


def _coin(name: str) -> Object:
    chain = {
        "chain": name,
        "chainType": name,
        "confirmation": "1",
        "withdrawFee": number(Decimal(1)),
        "depositMin": "0",
        "withdrawMin": "1",
        "minAccuracy": "8",
        "chainDeposit": "0",
        "chainWithdraw": "0",
        "withdrawPercentageFee": "0",
        "contractAddress": "",
    }
    return {"name": name, "coin": name, "remainAmount": "0", "chains": [chain]}
