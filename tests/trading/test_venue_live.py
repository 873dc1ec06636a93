"""The venue on a market that moves by itself: books and trades instead of bars, and the walk through a bar's ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.trading.rig import (
    BTC,
    COSTLY,
    FEES,
    FLAT,
    FOUR_HOURS,
    START,
    Died,
    Floor,
    Row,
    instrument,
    order,
    random_series,
    series_of,
)
from trading.exchange.simulated.books import StopKind, TimeInForce
from trading.exchange.simulated.ledger import LedgerFile, MemoryKeeper
from trading.exchange.simulated.market import FileFeed, FollowedPace, Market, ReleasePace, SimulatedClock
from trading.exchange.simulated.venue import NOTHING_TO_TAKE, POST_ONLY_CROSSED, Venue
from trading.model import Candle, CandleSeries, OrderSide
from trading.parameters import AccountTerms
from trading.ports import BarsClosed, FeedEnded

BUY, SELL = OrderSide.BUY, OrderSide.SELL
ETH = "ETHUSDT"


class LiveFloor(Floor):
    """A floor with a book of its own: every second something happens."""

    def __init__(self, terms: AccountTerms = FEES, *, bid: str = "999.5", ask: str = "1000.5") -> None:
        super().__init__(terms, instruments={BTC: instrument(), ETH: instrument(ETH)})
        self.at = START
        self.book(bid, ask)
        self.trades(1000)

    def book(self, bid: str, ask: str) -> None:
        """A new top of the book."""
        self._moment()
        self.venue.quote(BTC, Decimal(bid), Decimal(ask), self.at)
        self.venue.commit()

    def trades(self, *prices: float) -> None:
        """Somebody trades at these prices, one after the other."""
        for price in prices:
            self._moment()
            self.venue.trade(BTC, price, self.at)
            self.venue.commit()

    def settles(self, at: datetime, rate: str = "0.001", symbol: str = BTC) -> None:
        """A settlement at 1000."""
        self.venue.settle(symbol, 1000, Decimal(rate), at)
        self.venue.commit()

    def _moment(self) -> None:
        self.at += timedelta(seconds=1)


def holding(side: OrderSide = BUY, *, terms: AccountTerms = FEES, **guards: str) -> LiveFloor:
    """A live floor on which 1 was bought (or sold) at exactly 1000, some trades ago."""
    floor = LiveFloor(terms)
    floor.venue.place(order(side, "1", price="1000", **guards))  # type: ignore[arg-type]
    floor.trades(1000 - side.sign * 0.1, 1000)
    assert floor.venue.positions[BTC].entry_price == 1000
    return floor


# ---- live orders ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "through"), [(BUY, 999.9), (SELL, 1000.1)])
def test_a_live_limit_fills_only_strictly_through(side: OrderSide, through: float) -> None:
    """A trade at its price may have been another's; one tick beyond it fills at exactly its price, as a maker."""
    floor = LiveFloor()
    floor.venue.place(order(side, "1", price="1000"))
    floor.trades(1000, 1000)
    assert floor.fills() == []
    floor.trades(through)
    (fill,) = floor.fills()
    assert (fill.price, fill.maker, fill.fee, fill.at) == (Decimal(1000), True, Decimal("0.2"), floor.at)


@pytest.mark.parametrize(
    ("side", "price", "rests"),
    [(BUY, "1000.4", True), (BUY, "1000.5", False), (SELL, "999.6", True), (SELL, "999.5", False)],
)
def test_live_post_only_is_judged_by_the_top_of_the_book(side: OrderSide, price: str, rests: bool) -> None:
    """Inside the spread it rests, at the other side's best price it is cancelled."""
    floor = LiveFloor()
    placed = floor.venue.place(order(side, "1", price=price, post_only=True))
    assert (placed.status, placed.reject_reason) == (
        ("New", "EC_NoError") if rests else ("Cancelled", POST_ONLY_CROSSED)
    )


@pytest.mark.parametrize("lasts", [TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK])
@pytest.mark.parametrize(("side", "limit", "price"), [(BUY, "1002", "1000.5"), (SELL, "998", "999.5")])
def test_a_live_limit_takes_at_the_touch(side: OrderSide, limit: str, price: str, lasts: TimeInForce) -> None:
    """The book's best price, whatever the last trade was."""
    floor = LiveFloor()
    floor.trades(1001)
    floor.venue.place(order(side, "1", price=limit, lasts=lasts))
    assert [(fill.price, fill.maker) for fill in floor.fills()] == [(Decimal(price), False)]


@pytest.mark.parametrize(("side", "touch", "slip"), [(BUY, "1000.5", "1.001"), (SELL, "999.5", "0.999")])
def test_a_live_market_order_pays_touch_and_slippage(side: OrderSide, touch: str, slip: str) -> None:
    """At once, also before the next trade."""
    floor = LiveFloor()
    assert floor.venue.place(order(side, "1")).status == "Filled"
    assert [fill.price for fill in floor.fills()] == [Decimal(touch) * Decimal(slip)]


def test_a_book_alone_is_no_price() -> None:
    """Before the first trade nothing is taken."""
    floor = LiveFloor()
    floor.venue.quote(ETH, Decimal(10), Decimal(11), floor.at)
    assert floor.refused(order(BUY, "1", symbol=ETH)) == 10001


@pytest.mark.parametrize(
    ("side", "stop", "bid", "ask", "price", "got"),
    [
        (BUY, "980", "979.5", "980.5", 980.0, "979.5"),  # reached is enough; the bid is what there is
        (BUY, "980", "979.5", "980.5", 979.0, "979"),  # the book is older than the trade
        (SELL, "1020", "1019.5", "1020.5", 1020.0, "1020.5"),
        (SELL, "1020", "1019.5", "1020.5", 1021.0, "1021"),
    ],
)
def test_a_live_stop_gets_the_touch(
    side: OrderSide, stop: str, bid: str, ask: str, price: float, got: str
) -> None:
    """The worse of book and trade, and the slippage on it."""
    floor = holding(side, stop=stop)
    floor.trades(float(stop) + side.sign * 0.1)
    assert BTC in floor.venue.positions
    floor.book(bid, ask)
    floor.trades(price)
    last = floor.fills()[-1]
    assert (last.price, last.stop_order_type) == (Decimal(got) * (1 - side.sign * Decimal("0.001")), StopKind.STOP_LOSS)
    assert floor.venue.positions == {}


@pytest.mark.parametrize(("side", "sign"), [(BUY, 1), (SELL, -1)])
def test_a_live_trailing_stop_follows_trade_by_trade(side: OrderSide, sign: int) -> None:
    """10 behind the best trade; it never goes back, and it is hit where it stands."""
    floor = holding(side)
    floor.venue.protect(BTC, trailing=Decimal(10))
    guard = floor.venue.positions[BTC].guards[StopKind.TRAILING]
    for move, trigger in ((5, -5), (15, 5), (6, 5), (14, 5), (16, 6)):
        floor.trades(1000 + sign * move)
        assert guard.asked.trigger_price == 1000 + sign * trigger
    floor.trades(1000 + sign * 6)
    assert (floor.venue.positions, guard.status) == ({}, "Filled")


def test_a_live_take_profit_is_hit_where_it_stands() -> None:
    """One tick below nothing happens; the sibling is cleared."""
    floor = holding(stop="980", take="1020")
    floor.trades(1019.9)
    assert BTC in floor.venue.positions
    floor.book("1020", "1020.1")
    floor.trades(1020)
    last = floor.fills()[-1]
    assert (last.price, last.stop_order_type) == (Decimal(1020) * Decimal("0.999"), StopKind.TAKE_PROFIT)
    assert floor.venue.open_orders() == []


def test_a_live_market_exit_by_its_guard_sells_to_the_bid() -> None:
    """A take profit is a market order like the stop: the bid is what it gets."""
    floor = holding(take="1020")
    floor.book("1018", "1020")
    floor.trades(1020)
    assert floor.fills()[-1].price == Decimal(1018) * Decimal("0.999")


def test_a_live_trigger_buys_at_the_ask() -> None:
    """A conditional market order takes from the book."""
    floor = LiveFloor()
    floor.venue.place(order(BUY, "1", rises_to="1010"))
    floor.trades(1009.9)
    assert floor.fills() == []
    floor.book("1010", "1012")
    floor.trades(1010)
    assert [fill.price for fill in floor.fills()] == [Decimal(1012) * Decimal("1.001")]


def test_a_live_limit_that_crosses_when_it_is_triggered_takes() -> None:
    """Nobody is paid more than the book asks for: at the touch, as a taker."""
    floor = LiveFloor()
    floor.venue.place(order(BUY, "1", price="1015", rises_to="1010"))
    floor.book("1010", "1010.5")
    floor.trades(1010, 1010.5)
    assert [(fill.price, fill.maker) for fill in floor.fills()] == [(Decimal("1010.5"), False)]


@pytest.mark.parametrize(
    ("lasts", "limit", "why"),
    [
        (TimeInForce.POST_ONLY, "1015", POST_ONLY_CROSSED),
        (TimeInForce.IOC, "1005", NOTHING_TO_TAKE),
        (TimeInForce.FOK, "1005", NOTHING_TO_TAKE),
    ],
)
def test_how_long_a_limit_lasts_counts_from_its_trigger(lasts: TimeInForce, limit: str, why: str) -> None:
    """Awake, it is judged like a new order: post-only must not take, who may not wait has nothing to take."""
    floor = LiveFloor()
    floor.venue.place(order(BUY, "1", price=limit, lasts=lasts, rises_to="1010"))
    floor.book("1010", "1010.5")
    floor.trades(1010)
    assert floor.ending("one") == ("Cancelled", "UNKNOWN", why)
    assert floor.fills() == []


def test_the_first_trade_after_an_entry_may_take_the_profit() -> None:
    """There is no entry bar on a live market: the trade came after the position."""
    floor = LiveFloor()
    floor.venue.place(order(BUY, "1"))
    floor.venue.place(order(SELL, "1", price="1020", link="target", reduce_only=True))
    floor.trades(1021)
    assert floor.ending("target")[0] == "Filled"


def test_live_funding_is_settled_once() -> None:
    """Told twice, or one that is older: nothing more; flat: nothing at all, also when a position comes later."""
    floor = holding()
    eight, midnight = START + timedelta(hours=8), START + timedelta(hours=16)
    for at in (eight, eight, START + timedelta(hours=4)):
        floor.settles(at)
    (payment,) = floor.payments()
    assert (payment.fee, payment.at, payment.fee_rate) == (Decimal(1), eight, Decimal("0.001"))
    floor.venue.place(order(SELL, "1", link="out", reduce_only=True))
    floor.settles(midnight)
    floor.venue.place(order(SELL, "1", link="short"))
    floor.settles(midnight)
    assert len(floor.payments()) == 1
    floor.settles(START + FOUR_HOURS * 6)
    assert [one.fee for one in floor.payments()] == [1, -1]


def test_market_time_never_goes_back() -> None:
    """Books and trades come over two sockets: the older one does not turn the clock."""
    floor = LiveFloor()
    now = floor.venue.now
    floor.venue.quote(BTC, Decimal(999), Decimal(1001), START)
    floor.venue.trade(BTC, 1000, START)
    assert floor.venue.now == now


# ---- the walk through a bar ----------------------------------------------------------------------


class Walk(SimulatedClock):
    """A market that walks bars tick by tick on its venue; `acts` is called at every tick.

    It lets every close be history at once, and remembers what was delivered and ticked.
    """

    def __init__(
        self, venue: Venue, series: list[CandleSeries], acts: Callable[[Walk], None] = lambda _: None
    ) -> None:
        super().__init__()
        self.venue, self.acts = venue, acts
        self.pace = ReleasePace()
        self.heard: list[BarsClosed | FeedEnded] = []
        self.ticks: list[tuple[str, float]] = []
        self.market = Market(
            venue,
            FileFeed(series),
            self.pace,
            self,
            self.deliver,
            speed=FOUR_HOURS.total_seconds(),  # a second for each bar; the waits are not waited
            ticked=lambda symbol, price: self.ticks.append((symbol, price)),
        )
        self.market.start_at(START)

    def deliver(self, item: BarsClosed | FeedEnded) -> None:
        """Released as soon as it is there."""
        self.heard.append(item)
        if isinstance(item, BarsClosed):
            assert self.market.open_candle(BTC) is None
            self.pace.release(item.close_time)

    async def sleep(self, seconds: float) -> None:
        """Nobody waits in a test."""
        self.acts(self)

    async def run(self) -> None:
        """To the end of the bars."""
        self.pace.release(self.market_time)
        await self.market.run()


def walked_series(symbol: str = BTC, seed: int = 7) -> CandleSeries:
    """Thirty random bars on the tick grid."""
    return random_series(np.random.default_rng(seed), 30, symbol=symbol)


def venue_of(*symbols: str) -> Venue:
    """A venue that has not traded."""
    return Venue({symbol: instrument(symbol) for symbol in symbols}, COSTLY, MemoryKeeper())


async def test_ticks_are_prices_of_their_bar() -> None:
    """Every one on the tick grid and inside the bar; they reach both extremes' neighbourhood and end at the close."""
    series = walked_series()
    walk = Walk(venue_of(BTC), [series])
    await walk.run()
    prices = [price for _, price in walk.ticks]
    assert len(prices) % len(series) == 0
    count = len(prices) // len(series)
    for row, candle in enumerate(series.candles()):
        path = prices[row * count : (row + 1) * count]
        assert all(Decimal(repr(price)) % Decimal("0.1") == 0 for price in path)
        assert candle.low <= min(path)
        assert max(path) <= candle.high
        assert path[-1] == candle.close


async def test_the_bar_in_progress_is_shown_as_walked() -> None:
    """Its first price is the open, it grows tick by tick, its volume with it, and it is gone between bars."""
    seen: list[tuple[Candle | None, float, datetime]] = []

    def look(walk: Walk) -> None:
        seen.append((walk.market.open_candle(BTC), walk.venue.last[BTC], walk.venue.now))

    candle = series_of([(1000, 1010, 985, 1005)]).candle(0)
    walk = Walk(venue_of(BTC), [series_of([(1000, 1010, 985, 1005)])], look)
    assert walk.market.open_candle(BTC) is None
    await walk.run()
    high, low = candle.open, candle.open
    for part, price, at in seen:
        assert part is not None
        high, low = max(high, price), min(low, price)
        assert (part.open_time, part.open, part.close) == (candle.open_time, candle.open, price)
        assert (part.high, part.low) == (high, low)
        assert candle.open_time <= at < candle.close_time
    last = seen[-1][0]
    assert last is not None
    assert (last.close, last.volume) == (candle.close, candle.volume)
    volumes = [part.volume for part, _, _ in seen if part]
    assert volumes == sorted(set(volumes))


async def test_symbols_walk_side_by_side() -> None:
    """At every moment each has a tick; one close for both, with both bars."""
    walk = Walk(venue_of(BTC, ETH), [walked_series(), walked_series(ETH, 8)])
    await walk.run()
    assert {symbol for symbol, _ in walk.ticks[::2]} == {BTC}
    assert {symbol for symbol, _ in walk.ticks[1::2]} == {ETH}
    *closes, end = walk.heard
    assert isinstance(end, FeedEnded)
    assert [len(each.candles) for each in closes if isinstance(each, BarsClosed)] == [2] * 30


async def test_the_first_bar_waits_for_the_release_of_the_start() -> None:
    """Nothing moves before whoever follows has looked around."""
    venue = venue_of(BTC)
    walk = Walk(venue, [walked_series()])
    walking = asyncio.create_task(walk.market.run())
    await asyncio.sleep(0.01)
    assert (walk.heard, walk.ticks, venue.now) == ([], [], START)
    walk.pace.release(START)
    await walking
    assert len(walk.heard) == 31


async def test_a_market_killed_inside_a_bar_begins_that_bar_again(tmp_path: Path) -> None:
    """An order of this bar was kept half-way through it; after the restart the bar still ends and fills it."""
    rows: list[Row] = [FLAT, (1000, 1001, 990, 995), FLAT]

    def life(acts: Callable[[Walk], None] = lambda _: None) -> tuple[LedgerFile, Walk]:
        ledger = LedgerFile(tmp_path / "ledger.db", "k", lambda: "u")
        walk = Walk(Venue({BTC: instrument()}, COSTLY, ledger), [series_of(rows)], acts)
        if ledger.state is not None:
            walk.venue.restore(ledger.state)
            walk.market_time = walk.venue.now
        return ledger, walk

    def place_and_die(walk: Walk) -> None:
        if walk.venue.now >= START + FOUR_HOURS * 1.5:
            walk.venue.place(order(BUY, "1", price="992"))
            raise Died

    ledger, walk = life(place_and_die)
    with pytest.raises(Died):
        await walk.run()
    ledger.close()

    ledger, again = life()
    await again.run()
    assert [each.close_time for each in again.heard if isinstance(each, BarsClosed)] == [
        START + FOUR_HOURS * 2,
        START + FOUR_HOURS * 3,
    ]
    assert len(list(ledger.fills(link_id="one"))) == 1
    ledger.close()


# ---- the pace of a market that is followed from afar ---------------------------------------------


async def is_free(pace: FollowedPace) -> bool:
    """Does the market go on from here, now?"""
    waiting = asyncio.create_task(pace.released(START))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    going = waiting.done()
    waiting.cancel()
    return going


async def test_a_market_with_a_speed_waits_only_for_who_is_there() -> None:
    """Free while nobody follows; with two followers it waits until the close is released or both have gone."""
    pace = FollowedPace(free=True)
    assert await is_free(pace)
    pace.follow()
    pace.follow()
    assert not await is_free(pace)
    pace.leave()
    assert not await is_free(pace)
    pace.release(START)
    assert await is_free(pace)


async def test_a_follower_that_goes_lets_a_waiting_market_run_on() -> None:
    """The market was waiting for it."""
    pace = FollowedPace(free=True)
    pace.follow()
    waiting = asyncio.create_task(pace.released(START))
    await asyncio.sleep(0)
    pace.leave()
    await asyncio.wait_for(waiting, 1)


async def test_a_market_without_a_speed_waits_for_somebody() -> None:
    """Nobody there, or gone again: the close stays unreleased; a release lets it go on."""
    pace = FollowedPace(free=False)
    assert not await is_free(pace)
    pace.follow()
    pace.leave()
    assert not await is_free(pace)
    pace.release(START - FOUR_HOURS)
    assert not await is_free(pace)
    pace.release(START)
    assert await is_free(pace)
