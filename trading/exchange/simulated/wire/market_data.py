"""The public endpoints: klines, instruments, tickers, books, trades and funding, all drawn from the market's bars.

What bars do not tell is made up, always the same way: sizes in the book, single trades, open interest. Mark and
index price are the last price.
"""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from itertools import islice

from trading.exchange.simulated.account import MAINTENANCE_RATE
from trading.exchange.simulated.venue import SETTLEMENT_MS, VenueRefusal
from trading.exchange.simulated.wire.candles import Bar, window
from trading.exchange.simulated.wire.depth import book
from trading.exchange.simulated.wire.formats import number, price
from trading.exchange.simulated.wire.market import Prices
from trading.exchange.simulated.wire.objects import COIN, LINEAR, MAX_LEVERAGE, RISK_LIMIT, Object
from trading.exchange.simulated.wire.paging import page
from trading.exchange.simulated.wire.parameters import Params, wrong
from trading.model import CandleSeries, Instrument, exact, millis

CATEGORIES = ("linear", "inverse", "spot", "option")
STATUSES = ("Trading", "PreLaunch", "Delivering", "Closed")
MOST_STEPS = 1_190_000
MOST_PUSHED = 1000
MOST_DRAWN = 2000  # bars that are looked through for what was traded while nobody listened
OPEN_INTEREST = Decimal(50_000)
FUNDING_CAP = "0.00375"
BAND = Decimal("0.05")
INSTRUMENT_FIXED: Object = {
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "quoteCoin": COIN,
    "settleCoin": COIN,
    "symbolType": "",
    "launchTime": "1577836800000",
    "deliveryTime": "0",
    "deliveryFeeRate": "",
    "leverageFilter": {"minLeverage": "1", "maxLeverage": f"{MAX_LEVERAGE}.00", "leverageStep": "0.01"},
    "unifiedMarginTrade": True,
    "fundingInterval": SETTLEMENT_MS // 60_000,
    "copyTrading": "none",
    "upperFundingRate": FUNDING_CAP,
    "lowerFundingRate": f"-{FUNDING_CAP}",
    "displayName": "",
    "forbidUplWithdrawal": False,
    "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
    "isPreListing": False,
    "preListingInfo": None,
}


class MarketData:
    """Answers of the market endpoints, as of market time."""

    def __init__(self, prices: Prices, wall: Callable[[], float]) -> None:
        self._prices = prices
        self._venue = prices.venue
        self._wall = wall
        self.pushed: dict[str, deque[dict[str, object]]] = {}

    def time(self, _: Params) -> Object:
        """The wall's time, which signatures go by."""
        now = self._wall()
        return {"timeSecond": str(int(now)), "timeNano": str(int(now * 1e9))}

    def status(self, _: Params) -> Object:
        """No maintenance, ever."""
        return {"list": []}

    # Klines

    def kline(self, params: Params) -> Object:
        """Candles with volume."""
        return self._klines(params, _traded)

    def price_kline(self, params: Params) -> Object:
        """Candles of the mark or the index price, which is the last price."""
        return self._klines(params, _priced)

    def premium_kline(self, params: Params) -> Object:
        """Candles of the premium, of which there is none."""
        return self._klines(params, lambda bar: [str(bar.start), "0", "0", "0", "0"])

    def _klines(self, params: Params, row: Callable[[Bar], list[str]]) -> Object:
        category = params.choice("category", ("linear", "inverse", "spot"), LINEAR)
        symbol = params.symbol(self._venue.instruments)
        if category != LINEAR:
            raise VenueRefusal(10001, "Not supported symbols")
        interval = self._prices.intervals.get(params.needed("interval"))
        if interval is None:
            raise VenueRefusal(10001, "Invalid period!")
        limit = params.integer("limit", 200, 1, 1000)
        start, end = params.moment("start"), params.moment("end")
        closed = self._prices.closed(symbol)
        if closed is None or symbol not in self._venue.last:
            return {"category": category, "symbol": symbol, "list": []}
        bars = window(closed, self._prices.running(symbol), interval, start, end, limit)
        return {"category": category, "symbol": symbol, "list": [row(bar) for bar in bars]}

    # Instruments

    def instruments(self, params: Params) -> Object:
        """The venue's instruments; other categories have none."""
        category = params.choice("category", CATEGORIES)
        status = params.choice("status", STATUSES, "Trading")
        base, symbol = params.text("baseCoin"), params.text("symbol")
        chosen = [
            (row, rules)
            for row, rules in enumerate(self._venue.instruments.values(), 1)
            if category == LINEAR and status == "Trading" and base in {"", _base(rules.symbol)}
        ]
        if symbol and category == LINEAR:
            params.symbol(self._venue.instruments)
            chosen = [item for item in chosen if item[1].symbol == symbol]
        rows, cursor = page(params, chosen, lambda item: item[1].symbol, default=500, most=1000)
        return {
            "category": category,
            "list": [self._instrument(row, rules) for row, rules in rows],
            "nextPageCursor": cursor,
        }

    def _instrument(self, row: int, rules: Instrument) -> Object:
        tick, most = rules.tick_size, number(rules.qty_step * MOST_STEPS)
        return {
            **INSTRUMENT_FIXED,
            "symbol": rules.symbol,
            "symbolId": row,
            "baseCoin": _base(rules.symbol),
            "priceScale": str(_scale(tick)),
            "priceFilter": {"minPrice": number(tick), "maxPrice": number(tick * 19_999_998), "tickSize": number(tick)},
            "lotSizeFilter": {
                "minNotionalValue": number(rules.min_notional),
                "maxOrderQty": most,
                "maxMktOrderQty": most,
                "minOrderQty": number(rules.min_qty),
                "qtyStep": number(rules.qty_step),
                "postOnlyMaxOrderQty": most,
            },
        }

    def risk_limit(self, params: Params) -> Object:
        """One tier for each symbol."""
        category = params.choice("category", CATEGORIES)
        symbols = self._symbols(params, category)
        rows, cursor = page(params, symbols, str, default=15, most=15)
        tiers = [
            {
                "id": 1,
                "symbol": symbol,
                "riskLimitValue": RISK_LIMIT,
                "maintenanceMargin": number(MAINTENANCE_RATE),
                "initialMargin": number(Decimal(1) / MAX_LEVERAGE),
                "isLowestRisk": 1,
                "maxLeverage": f"{MAX_LEVERAGE}.00",
                "mmDeduction": "",
            }
            for symbol in rows
        ]
        return {"category": category, "list": tiers, "nextPageCursor": cursor}

    # Prices

    def tickers(self, params: Params) -> Object:
        """Tickers of the symbols that have a price."""
        category = params.choice("category", CATEGORIES)
        symbols = [symbol for symbol in self._symbols(params, category) if symbol in self._venue.last]
        return {"category": category, "list": [self.ticker(symbol) for symbol in symbols]}

    def ticker(self, symbol: str) -> dict[str, str]:
        """All fields of one ticker; the symbol must have a price."""
        venue, rules = self._venue, self._venue.instruments[symbol]
        last, day = exact(venue.last[symbol]), self._prices.day(symbol)
        rate, settlement = self._prices.funding(symbol)
        interest = rules.qty_step * OPEN_INTEREST
        change = (float(last) - day.price_24h) / day.price_24h
        return {
            "symbol": symbol,
            **dict.fromkeys(("lastPrice", "indexPrice", "markPrice"), number(last)),
            "prevPrice24h": price(day.price_24h),
            "price24hPcnt": price(round(change, 6)),
            "highPrice24h": price(day.high),
            "lowPrice24h": price(day.low),
            "prevPrice1h": price(day.price_1h),
            **dict.fromkeys(("openInterest", "singleOpenInterest"), number(interest)),
            **dict.fromkeys(("openInterestValue", "singleOpenInterestValue"), number(interest * last)),
            "turnover24h": price(round(day.turnover, 4)),
            "volume24h": price(round(day.volume, 8)),
            "fundingRate": number(rate),
            "nextFundingTime": str(settlement),
            **dict.fromkeys(("predictedDeliveryPrice", "basisRate", "basis", "basisRateYear", "deliveryFeeRate"), ""),
            "deliveryTime": "0",
            **self._touch(symbol),
            **dict.fromkeys(("preOpenPrice", "preQty", "curPreListingPhase"), ""),
            "fundingIntervalHour": str(SETTLEMENT_MS // 3_600_000),
            "fundingCap": FUNDING_CAP,
        }

    def _touch(self, symbol: str) -> dict[str, str]:
        top = book(self._venue.instruments[symbol], self._venue.bid(symbol), self._venue.ask(symbol), 1)
        bid, ask = (*top.bids, ("", ""))[0], (*top.asks, ("", ""))[0]
        return {"ask1Size": ask[1], "bid1Price": bid[0], "ask1Price": ask[0], "bid1Size": bid[1]}

    def order_book(self, params: Params) -> Object:
        """The book around the best bid and ask."""
        symbol = self._symbol(params, params.choice("category", CATEGORIES))
        levels = params.integer("limit", 25, 1, 1000)
        now = self._prices.now_ms
        rules = self._venue.instruments[symbol]
        shown = book(rules, self._venue.bid(symbol), self._venue.ask(symbol), levels)
        sides = {"b": [list(level) for level in shown.bids], "a": [list(level) for level in shown.asks]}
        return {"s": symbol, **sides, "ts": now, "u": now // 100, "seq": now // 10, "cts": now}

    def price_limit(self, params: Params) -> Object:
        """The band that orders should stay in."""
        symbol = self._symbol(params, params.choice("category", CATEGORIES, LINEAR))
        tick, last = self._venue.instruments[symbol].tick_size, exact(self._venue.last[symbol])
        highest, lowest = (last * (1 + BAND) // tick * tick, last * (1 - BAND) // tick * tick)
        return {"symbol": symbol, "buyLmt": number(highest), "sellLmt": number(lowest), "ts": str(self._prices.now_ms)}

    def trades(self, params: Params) -> Object:
        """Public trades, newest first: those that were pushed, before them four for each bar, at its corners."""
        category = params.choice("category", CATEGORIES)
        symbol = self._symbol(params, category)
        limit = params.integer("limit", 500, 1, 1000)
        series = self._prices.recent(symbol, MOST_DRAWN)
        pushed = self.pushed.get(symbol, ())
        drawn = _trades(series) if series is not None else iter(())
        return {"category": category, "list": list(islice(_merged(pushed, drawn), limit))}

    def push(self, made: dict[str, object]) -> None:
        """Remember a trade that was told on the stream."""
        self.pushed.setdefault(str(made["symbol"]), deque(maxlen=MOST_PUSHED)).appendleft(made)

    def funding_history(self, params: Params) -> Object:
        """Settlements up to market time, newest first."""
        symbol = self._symbol(params, params.choice("category", CATEGORIES))
        limit = params.integer("limit", 200, 1, 200)
        start, end = params.moment("startTime"), params.moment("endTime")
        if start is not None and end is None:
            raise wrong("endTime is required with startTime")
        series = self._prices.closed(symbol)
        oldest = int(series.timestamp[0]) if series is not None and len(series) else self._prices.now_ms
        newest = min(self._prices.now_ms, self._prices.now_ms if end is None else end)
        last = newest // SETTLEMENT_MS * SETTLEMENT_MS
        settlements = range(last, max(oldest, start or 0) - 1, -SETTLEMENT_MS)
        rows = ((at, self._venue.funding_rate(symbol, at)) for at in settlements)
        known = islice(((at, rate) for at, rate in rows if rate is not None), limit)
        shown = [{"symbol": symbol, "fundingRate": number(r), "fundingRateTimestamp": str(at)} for at, r in known]
        return {"category": LINEAR, "list": shown}

    # Symbols

    def _symbol(self, params: Params, category: str) -> str:
        """A symbol with a price, which must be named."""
        symbol = params.symbol(self._venue.instruments)
        if category != LINEAR or symbol not in self._venue.last:
            raise VenueRefusal(10001, "Not supported symbols")
        return symbol

    def _symbols(self, params: Params, category: str) -> list[str]:
        """The symbol that is named, or all; none in another category."""
        if category != LINEAR:
            return []
        named = params.known_symbol(self._venue.instruments)
        return [named] if named else list(self._venue.instruments)


def _traded(bar: Bar) -> list[str]:
    return [*_priced(bar), price(bar.volume), price(bar.turnover)]


def _priced(bar: Bar) -> list[str]:
    return [str(bar.start), price(bar.open), price(bar.high), price(bar.low), price(bar.close)]


def _base(symbol: str) -> str:
    return symbol.removesuffix(COIN)


def _scale(tick: Decimal) -> int:
    exponent = tick.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _merged(pushed: Sequence[Object], drawn: Iterator[Object]) -> Iterator[Object]:
    """Newest first: the drawn ones stand for the time before and after those that were pushed."""
    if not pushed:
        yield from drawn
        return
    newest, oldest = int(str(pushed[0]["time"])), int(str(pushed[-1]["time"]))
    told = False
    for row in drawn:
        at = int(str(row["time"]))
        if at <= newest and not told:
            told = True
            yield from pushed
        if at > newest or at < oldest:
            yield row
    if not told:
        yield from pushed


def _trades(series: CandleSeries) -> Iterator[dict[str, object]]:
    """Made-up trades through each bar, newest first."""
    for row in range(len(series) - 1, -1, -1):
        bar = series.candle(row)
        middle = (bar.low, bar.high) if bar.close >= bar.open else (bar.high, bar.low)
        corners = (bar.open, *middle, bar.close)
        for step in (3, 2, 1, 0):
            at = bar.open_time + bar.interval * (step + 1) / 5
            rose = step > 0 and corners[step] >= corners[step - 1]
            yield trade(bar.symbol, corners[step], bar.volume / 4, millis(at), "Buy" if rose else "Sell")


def trade(symbol: str, at_price: float, volume: float, ms: int, side: str) -> dict[str, object]:
    """One public trade, whose id is always the same for the same moment and price."""
    return {
        "execId": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{symbol}:{ms}:{at_price!r}")),
        "symbol": symbol,
        "price": price(at_price),
        "size": price(math.floor(volume * 1000) / 1000),
        "side": side,
        "time": str(ms),
        "isBlockTrade": False,
        "isRPITrade": False,
        "seq": str(ms // 10),
    }
