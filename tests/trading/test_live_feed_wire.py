"""The live feed on a wire: one paper exchange plays Bybit, a second one runs on its prices, and a trader on the second.

The upstream walks bars of one minute, ten a second: mostly at about 1000, and for ten minutes of every forty at 990.
The exchange behind it has bars of 15 minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from pybit.unified_trading import HTTP  # type: ignore[import-untyped]

from tests.trading.rig import BTC, NO_FEES, START, Row, approved_entry, instrument, series_of
from trading.errors import Rejected
from trading.exchange.bybit.clock import HeardClock
from trading.exchange.bybit.endpoints import Endpoints, endpoints_of
from trading.exchange.bybit.exchange import BybitExchange
from trading.exchange.bybit.prices import BybitPrices
from trading.exchange.bybit.rest import BybitRest
from trading.exchange.simulated.ledger import MemoryKeeper
from trading.exchange.simulated.live import LiveMarket
from trading.exchange.simulated.market import FileFeed, FollowedPace, Market, SimulatedClock
from trading.exchange.simulated.venue import Venue
from trading.exchange.simulated.wire.server import WireServer
from trading.model import Candle, Execution, Side, millis, utc
from trading.ports import BarsClosed, ConnectionLost, FeedEnded
from trading.trader import QueueInbox

MINUTE, BAR = timedelta(minutes=1), timedelta(minutes=15)
MINUTES_A_SECOND = 10
CYCLE = 40  # minutes
DIP = range(20, 30)  # of each cycle
HISTORY = 20 * 15  # minutes
KEY = SECRET = "paper"
PATIENCE = 10.0


def waves(minutes: int) -> list[Row]:
    """Minutes on the tick grid that wobble around their level."""
    rng = np.random.default_rng(1)
    levels = [990.0 if minute % CYCLE in DIP else 1000.0 for minute in range(minutes)]
    closes = [
        round(level + float(wobble), 1) for level, wobble in zip(levels, rng.uniform(-1, 1, minutes), strict=True)
    ]
    opens = [closes[0], *closes[:-1]]
    return [
        (opened, round(max(opened, close) + 0.2, 1), round(min(opened, close) - 0.2, 1), close)
        for opened, close in zip(opens, closes, strict=True)
    ]


class Upstream:
    """The exchange that plays Bybit. Its market walks on when its port is closed."""

    def __init__(self) -> None:
        clock, self._pace = SimulatedClock(), FollowedPace(free=True)
        self.venue = Venue({BTC: instrument()}, NO_FEES, MemoryKeeper())
        series = series_of(waves(HISTORY + 6000), interval=MINUTE)
        speed = MINUTES_A_SECOND * MINUTE.total_seconds()
        self.market = Market(self.venue, FileFeed([series]), self._pace, clock, self._deliver, speed=speed)
        self.market.start_at(START + HISTORY * MINUTE)
        self._server: WireServer | None = None
        self.port = 0

    def _deliver(self, told: BarsClosed | FeedEnded) -> None:
        if self._server is not None and isinstance(told, BarsClosed):
            self._server.bars_closed(told)

    async def open(self) -> None:
        """Open the port: always the same one."""
        server = WireServer(
            self.venue, self.market, uid="1", key="", secret="", port=self.port, pace=self._pace, limit_factor=1000
        )
        await server.start()
        self.market.ticked = server.ticked
        self.port, self._server = int(server.url.rpartition(":")[2]), server

    async def close(self) -> None:
        """Close the port and every socket."""
        if self._server is not None:
            server, self._server = self._server, None
            self.market.ticked = lambda _symbol, _price: None
            await server.stop()

    @property
    def endpoints(self) -> Endpoints:
        """Where it is."""
        return endpoints_of("live", f"http://127.0.0.1:{self.port}")

    async def reaches(self, *minutes: int) -> None:
        """Wait until it is in one of these minutes of a cycle."""
        await until(lambda: (self.venue.now - START) // MINUTE % CYCLE in minutes)


@dataclass(slots=True, kw_only=True)
class Downstream:
    """The paper exchange on the upstream's prices, and a trader's line to it."""

    venue: Venue
    market: LiveMarket
    server: WireServer
    exchange: BybitExchange
    inbox: QueueInbox
    http: Any
    closes: list[BarsClosed] = field(default_factory=list)
    fills: list[Execution] = field(default_factory=list)
    lost: int = 0

    async def listen(self) -> None:
        """Sort what the trader is told."""
        while True:
            item = await self.inbox.get()
            if isinstance(item, BarsClosed):
                self.closes.append(item)
            elif isinstance(item, Execution):
                self.fills.append(item)
            self.lost += isinstance(item, ConnectionLost)

    @property
    def connected(self) -> bool:
        """Does it follow its prices?"""
        return self.market._listening


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Wait for it, and say how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"waited {seconds:g} s in vain"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


def session(url: str) -> Any:
    """pybit's REST client."""
    http = HTTP(api_key=KEY, api_secret=SECRET)
    http.endpoint = url
    http.client.trust_env = False
    return http


async def ask(http: Any, method: str, **params: Any) -> Any:
    """What pybit answers; it blocks, and the exchanges live on this loop."""
    answer = await asyncio.to_thread(getattr(http, method), category="linear", symbol=BTC, **params)
    return answer["result"]


@asynccontextmanager
async def upstream() -> AsyncIterator[Upstream]:
    """An exchange that walks."""
    one = Upstream()
    await one.open()
    walking = asyncio.create_task(one.market.run())
    try:
        yield one
    finally:
        walking.cancel()
        await asyncio.gather(walking, return_exceptions=True)
        await one.close()


@asynccontextmanager
async def downstream(source: Upstream) -> AsyncIterator[Downstream]:
    """The exchange on its prices, caught up, with a trader."""
    rest = BybitRest(source.endpoints.rest)
    prices = BybitPrices(rest, source.endpoints, (BTC,), BAR, HeardClock())
    venue = Venue({BTC: instrument()}, NO_FEES, MemoryKeeper())
    market = LiveMarket(venue, prices, (BTC,), BAR, SimulatedClock(), bars=40)
    pace = FollowedPace(free=True)
    server = WireServer(venue, market, uid="2", key=KEY, secret=SECRET, port=0, pace=pace, limit_factor=1000)
    market.deliver, market.ticked = server.bars_closed, server.ticked
    await market.prepare()
    await server.start()
    inbox, clock, endpoints = QueueInbox(), HeardClock(), endpoints_of("paper", server.url)
    trader = BybitRest(server.url, key=KEY, secret=SECRET)
    exchange = BybitExchange(
        trader, endpoints, symbols=(BTC,), interval=BAR, inbox=inbox, clock=clock, key=KEY, secret=SECRET
    )
    http = session(server.url)
    one = Downstream(venue=venue, market=market, server=server, exchange=exchange, inbox=inbox, http=http)
    tasks = [asyncio.create_task(market.run()), asyncio.create_task(one.listen())]
    try:
        await exchange.start()
        await until(lambda: one.connected)
        yield one
    finally:
        http.client.close()
        await exchange.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        trader.close()
        await server.stop()


async def same_bars(source: Upstream, behind: Downstream, *, at_least: int) -> None:
    """The closed bars that both have are the same to the last digit, without a hole and up to now."""
    there = session(source.endpoints.rest)
    theirs = {row[0]: row for row in (await ask(there, "get_kline", interval="15", limit=200))["list"]}
    there.client.close()
    ours = (await ask(behind.http, "get_kline", interval="15", limit=200))["list"]
    assert len(ours) > at_least
    assert ours[1:] == [theirs[row[0]] for row in ours[1:]]
    starts = [int(row[0]) for row in ours]
    assert starts == list(range(starts[0], starts[-1] - 1, -(BAR // timedelta(milliseconds=1))))
    assert source.venue.now - utc(starts[0]) < BAR + MINUTE


async def test_the_exchange_behind_shows_the_prices_of_the_one_before() -> None:
    """Bars, last price and book top over pybit, and every close once for the trader, as it happens."""
    async with upstream() as source, downstream(source) as behind:
        await until(lambda: len(behind.closes) >= 2)
        await same_bars(source, behind, at_least=21)
        for close in behind.closes:
            rows = await ask(behind.http, "get_kline", interval="15", start=millis(close.candles[0].open_time), limit=1)
            shown = [float(value) for value in rows["list"][0][1:5]]
            candle = close.candles[0]
            assert [candle.open, candle.high, candle.low, candle.close] == shown
        times = [close.close_time for close in behind.closes]
        assert times == [times[0] + number * BAR for number in range(len(times))]
        assert not any(close.late for close in behind.closes)
        await until(lambda: behind.venue.last == source.venue.last)
        await until(lambda: behind.venue.bid(BTC) == source.venue.bid(BTC) and behind.venue.last == source.venue.last)
        before = behind.venue.now
        (ticker,) = (await ask(behind.http, "get_tickers"))["list"]
        book = await ask(behind.http, "get_orderbook", limit=1)
        assert Decimal(ticker["bid1Price"]) < Decimal(ticker["ask1Price"])
        assert abs(Decimal(ticker["lastPrice"]) - Decimal(book["b"][0][0])) < 20
        await until(lambda: behind.venue.now > before)
        assert behind.lost == 0


async def test_an_order_behind_fills_when_the_market_before_trades_through_it() -> None:
    """Placed by the adapter at 995; told by the stream once the price is at 990, then its stop stands."""
    async with upstream() as source, downstream(source) as behind:
        await source.reaches(*range(34, 40), *range(10))  # well after a dip: what is told lags
        await behind.exchange.place(approved_entry(Side.LONG, "1", "995", "980"))
        assert behind.fills == []
        await until(lambda: len(behind.fills) == 1)
        (fill,) = behind.fills
        assert (fill.price, fill.maker, fill.link_id) == (Decimal(995), True, "entry-1")
        assert (fill.at - START) // MINUTE % CYCLE in range(DIP.start - 1, DIP.stop + 1)
        (position,) = (await behind.exchange.snapshot()).positions
        assert (position.qty, position.entry_price, position.stop) == (Decimal(1), Decimal(995), Decimal(980))


async def test_the_exchange_before_goes_and_comes_back() -> None:
    """Within five seconds all is well: the order filled in the dip that nobody heard, and no close is missing."""
    async with upstream() as source, downstream(source) as behind:
        await source.reaches(*range(34, 40), *range(15))
        await behind.exchange.place(approved_entry(Side.LONG, "1", "995", "980"))
        await source.close()
        await until(lambda: not behind.connected)
        stands = behind.venue.now
        await source.reaches(*DIP)
        await source.reaches(33)
        assert (behind.fills, behind.venue.now) == ([], stands)
        await source.open()
        assert await until(lambda: behind.connected) < 5
        await until(lambda: len(behind.fills) == 1)
        assert behind.fills[0].price == 995
        assert (behind.fills[0].at - START) // MINUTE % CYCLE in DIP
        await until(lambda: behind.venue.last == source.venue.last)
        told = len(behind.closes)
        await until(lambda: len(behind.closes) > told)
        await same_bars(source, behind, at_least=22)
        times = [close.close_time for close in behind.closes]
        assert times == [times[0] + number * BAR for number in range(len(times))]
        assert (len(behind.fills), behind.lost) == (1, 0)


async def test_an_upstream_that_is_not_there_yet() -> None:
    """The questions fail as they do while an exchange is away, and are answered when it is there."""
    async with upstream() as source:
        rest = BybitRest(source.endpoints.rest)
        prices = BybitPrices(rest, source.endpoints, (BTC,), BAR, HeardClock())
        await source.close()
        asking = asyncio.create_task(prices.minutes(BTC, START))
        await asyncio.sleep(0.05)
        assert not asking.done()
        await source.open()
        minutes = await asyncio.wait_for(asking, PATIENCE)
        assert [minute.open_time for minute in minutes[:2]] == [START, START + MINUTE]
        assert minutes[-1].close_time > source.venue.now - MINUTE
        assert await prices.settlements(BTC, START) == {}
        with pytest.raises(Rejected):
            await prices.minutes("NOSUCHUSDT", START)
        rest.close()


async def test_where_there_are_no_minutes_the_bars_are_the_finest() -> None:
    """An exchange on bars of four hours refuses the question for minutes; funding has its rates."""
    hours = timedelta(hours=4)
    venue = Venue({BTC: instrument()}, NO_FEES, MemoryKeeper())
    market = Market(venue, FileFeed([series_of(waves(20))]), FollowedPace(free=True), SimulatedClock(), lambda _: None)
    market.start_at(START + 10 * hours)
    server = WireServer(venue, market, uid="1", key="", secret="", port=0, pace=FollowedPace(free=True))
    await server.start()
    rest = BybitRest(server.url)
    prices = BybitPrices(rest, endpoints_of("live", server.url), (BTC,), hours, HeardClock())
    since = START + 8 * hours
    assert [bar.open_time for bar in await prices.minutes(BTC, since)] == [since, since + hours, since + 2 * hours]
    assert await prices.settlements(BTC, START + hours) == {
        START + number * hours: Decimal(0) for number in (2, 4, 6, 8, 10)
    }
    rest.close()
    await server.stop()


# ---- frames --------------------------------------------------------------------------------------


class Ear:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def traded(self, symbol: str, price: float, at: datetime) -> None:
        self.heard.append(("trade", symbol, price, millis(at)))

    def topped(self, symbol: str, bid: Decimal, ask: Decimal, at: datetime) -> None:
        self.heard.append(("top", symbol, bid, ask, millis(at)))

    def charted(self, candle: Candle, *, closed: bool) -> None:
        self.heard.append(("bar", candle.symbol, candle.close, closed))

    def funded(self, symbol: str, rate: Decimal, due: datetime, at: datetime) -> None:
        self.heard.append(("funding", symbol, rate, millis(due), millis(at)))

    def connected(self) -> None:
        self.heard.append(("up",))

    def disconnected(self, reason: str) -> None:
        self.heard.append(("down", reason))


NOW = millis(START)
TRADE = {"T": NOW, "s": BTC, "S": "Buy", "v": "1", "p": "1000.5", "i": "a", "BT": False}
BOOK = {"s": BTC, "b": [["999.5", "1"]], "a": [["1000", "2"]], "u": 1, "seq": 1}
BAR_ROW = {
    "start": NOW,
    "end": NOW + 899_999,
    "open": "1",
    "close": "2",
    "high": "3",
    "low": "1",
    "volume": "5",
    "confirm": True,
}


def told(topic: str, data: Any, **more: Any) -> list[tuple[Any, ...]]:
    """What a listener hears of one frame."""
    ear = Ear()
    endpoints = endpoints_of("live", "http://127.0.0.1:9")
    prices = BybitPrices(BybitRest(endpoints.rest), endpoints, (BTC,), BAR, HeardClock())
    prices._on_frame(ear, {"topic": topic, "type": "snapshot", "ts": NOW, "data": data, **more})
    return ear.heard


def test_what_can_be_read_is_told() -> None:
    """A trade, a book, a bar, and the funding of a ticker that names both of its parts."""
    assert told("publicTrade.BTCUSDT", [TRADE, {**TRADE, "p": "1001"}]) == [
        ("trade", BTC, 1000.5, NOW),
        ("trade", BTC, 1001.0, NOW),
    ]
    assert told("orderbook.1.BTCUSDT", BOOK) == [("top", BTC, Decimal("999.5"), Decimal(1000), NOW)]
    assert told("kline.15.BTCUSDT", [BAR_ROW]) == [("bar", BTC, 2.0, True)]
    ticker = {"symbol": BTC, "lastPrice": "1", "fundingRate": "-0.0001", "nextFundingTime": str(NOW + 1)}
    assert told("tickers.BTCUSDT", ticker) == [("funding", BTC, Decimal("-0.0001"), NOW + 1, NOW)]


def test_a_trade_is_no_later_than_its_frame() -> None:
    """A moment in the next century would stop the clock."""
    assert told("publicTrade.BTCUSDT", [{**TRADE, "T": NOW * 2}]) == [("trade", BTC, 1000.5, NOW)]


def test_block_trades_are_none() -> None:
    """They were agreed upon beside the book; the trade behind one counts."""
    assert told("publicTrade.BTCUSDT", [{**TRADE, "BT": True, "p": "500"}, TRADE]) == [("trade", BTC, 1000.5, NOW)]


NO_FRAMES: list[tuple[str, Any]] = [
    *(("publicTrade.BTCUSDT", [{**TRADE, "p": price}]) for price in ("NaN", "Infinity", "0", "-1", "", None, 7)),
    *(("publicTrade.BTCUSDT", [{**TRADE, "T": when}]) for when in (None, "soon", 10**30, True)),
    ("orderbook.1.BTCUSDT", {**BOOK, "b": []}),
    ("orderbook.1.BTCUSDT", {**BOOK, "b": [[]]}),
    ("orderbook.1.BTCUSDT", {**BOOK, "b": [["NaN", "1"]]}),
    ("orderbook.1.BTCUSDT", {**BOOK, "b": [["1000", "1"]]}),
    ("orderbook.1.BTCUSDT", {"b": {}, "a": {}}),
    *(("kline.15.BTCUSDT", [{**BAR_ROW, "high": high}]) for high in ("NaN", "0", "1.5", "1e400", None)),
    ("kline.15.BTCUSDT", [{**BAR_ROW, "confirm": "yes"}]),
    ("kline.15.BTCUSDT", [{**BAR_ROW, "start": None}]),
    *(("tickers.BTCUSDT", {"fundingRate": rate, "nextFundingTime": "1"}) for rate in ("", "NaN", None, 1)),
    ("tickers.BTCUSDT", {"fundingRate": "0"}),
    ("tickers.BTCUSDT", {"lastPrice": "1"}),
    *((f"{kind}.BTCUSDT", None) for kind in ("publicTrade", "orderbook.1", "kline.15", "tickers")),
    *((f"{kind}.BTCUSDT", "x") for kind in ("publicTrade", "orderbook.1", "kline.15", "tickers")),
    *((f"{kind}.BTCUSDT", [None, [], {}]) for kind in ("publicTrade", "orderbook.1", "kline.15", "tickers")),
    *((f"{kind}.BTCUSDT", {}) for kind in ("publicTrade", "orderbook.1", "kline.15", "tickers")),
    ("publicTrade.ETHUSDT", [TRADE]),
    ("publicTrade", [TRADE]),
    ("liquidation.BTCUSDT", [TRADE]),
]


@pytest.mark.parametrize(("topic", "data"), NO_FRAMES)
def test_what_cannot_be_read_is_not_told(topic: str, data: Any) -> None:
    """And nothing is raised, whatever it is."""
    assert told(topic, data) == []


def test_one_bad_trade_does_not_take_the_others_along() -> None:
    """Every trade stands for itself."""
    assert [each[2] for each in told("publicTrade.BTCUSDT", [TRADE, {**TRADE, "p": "NaN"}, TRADE])] == [1000.5, 1000.5]


def test_a_ticker_delta_is_put_together_with_what_was_known() -> None:
    """The rate comes alone; a delta that does not speak of funding says nothing."""
    ear, endpoints = Ear(), endpoints_of("live", "http://127.0.0.1:9")
    prices = BybitPrices(BybitRest(endpoints.rest), endpoints, (BTC,), BAR, HeardClock())
    for data in ({"fundingRate": "0.1"}, {"nextFundingTime": "5"}, {"lastPrice": "1"}, {"fundingRate": "0.2"}):
        prices._on_frame(ear, {"topic": "tickers.BTCUSDT", "ts": NOW, "data": data})
    assert [each[2:4] for each in ear.heard] == [(Decimal("0.1"), 5), (Decimal("0.2"), 5)]
