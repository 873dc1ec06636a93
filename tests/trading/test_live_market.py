"""The market on live prices, on an exchange of a few lines that says the same by its stream and by its records."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.trading.rig import BTC, FEES, FLAT, NO_FEES, START, instrument, order, series_of
from trading.errors import Rejected, Transient
from trading.exchange.bybit.objects import series_of as series_of_candles
from trading.exchange.simulated.books import Fill, FillKind, Order, StopKind
from trading.exchange.simulated.ledger import LedgerFile, MemoryKeeper
from trading.exchange.simulated.live import MINUTE, LiveMarket
from trading.exchange.simulated.market import SimulatedClock
from trading.exchange.simulated.venue import POST_ONLY_CROSSED, Keeper, Venue
from trading.model import Candle, CandleSeries, OrderSide, millis
from trading.parameters import AccountTerms
from trading.ports import BarsClosed

BUY, SELL = OrderSide.BUY, OrderSide.SELL
ETH = "ETHUSDT"
BAR = timedelta(minutes=5)
HISTORY = 6  # bars before START
SECOND = timedelta(seconds=1)
PATIENCE = 5.0


@dataclass(slots=True)
class Chart:
    """Bars of one length, made of trades; the last one is open."""

    length: timedelta
    bars: list[Candle] = field(default_factory=list)

    def trade(self, symbol: str, price: float, at: datetime) -> None:
        """One more trade."""
        self.open_at(symbol, at)
        bar = self.bars[-1]
        high, low = max(bar.high, price), min(bar.low, price)
        self.bars[-1] = replace(bar, high=high, low=low, close=price, volume=bar.volume + 1)

    def open_at(self, symbol: str, at: datetime) -> list[Candle]:
        """Open every bar up to a moment at the last close; the bars that closed."""
        closed: list[Candle] = []
        while self.bars and self.bars[-1].close_time <= at:
            closed.append(self.bars[-1])
            flat = dict.fromkeys(("open", "high", "low", "close"), closed[-1].close)
            bar = Candle(symbol=symbol, open_time=closed[-1].close_time, interval=self.length, volume=0.0, **flat)
            self.bars.append(bar)
        return closed


class Exchange:
    """A whole exchange in miniature: what happens is told by the stream while that is up, and recorded always."""

    def __init__(self, *symbols: str) -> None:
        self.now = START
        self.bars: dict[str, Chart] = {}
        self.fine: dict[str, Chart] = {}
        for symbol in symbols or (BTC,):
            bars = series_of(
                [FLAT] * (HISTORY + 1), symbol=symbol, interval=BAR, start_ms=millis(START - HISTORY * BAR)
            )
            self.bars[symbol] = Chart(BAR, [*bars.candles()])
            quiet = series_of([(1000, 1000, 1000, 1000)], symbol=symbol, interval=MINUTE)
            self.fine[symbol] = Chart(MINUTE, [*quiet.candles()])
            self.bars[symbol].bars[-1] = replace(quiet.candle(0), interval=BAR)
        self.rates: dict[datetime, Decimal] = {}
        self.up = True
        self.errors: list[Exception] = []
        self.asked: list[str] = []
        self.longest = 0  # answer to a question for minutes
        self.hold: asyncio.Event | None = None
        self.broken = asyncio.Event()
        self.listener: LiveMarket | None = None

    # As the market asks

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """Closed bars."""
        await self._answer("history")
        return series_of_candles(self.bars[symbol].bars[:-1], symbol, BAR).tail(bars)

    async def since(self, symbol: str, opening: datetime) -> list[Candle]:
        """Closed bars since then."""
        await self._answer("since")
        return [bar for bar in self.bars[symbol].bars[:-1] if bar.open_time >= opening]

    async def minutes(self, symbol: str, since: datetime) -> list[Candle]:
        """Minutes that were not over then."""
        await self._answer("minutes")
        found = [bar for bar in self.fine[symbol].bars if bar.close_time > since]
        self.longest = max(self.longest, len(found))
        if self.hold is not None:
            await self.hold.wait()
        return found

    async def settlements(self, symbol: str, since: datetime) -> Mapping[datetime, Decimal]:
        """The rates after then."""
        await self._answer("settlements")
        return {at: rate for at, rate in self.rates.items() if since < at <= self.now}

    async def follow(self, listener: LiveMarket) -> None:
        """Until somebody breaks it."""
        self.listener = listener
        if self.up:
            listener.connected()
        await self.broken.wait()
        raise RuntimeError("the stream has broken for good")

    async def _answer(self, question: str) -> None:
        self.asked.append(question)
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)

    # As it moves

    def passes(self, seconds: float) -> None:
        """Time goes on; bars close."""
        self.now += timedelta(seconds=seconds)
        for symbol, chart in self.bars.items():
            self.fine[symbol].open_at(symbol, self.now)
            for bar in chart.open_at(symbol, self.now):
                if ear := self._ear():
                    ear.charted(bar, closed=True)

    def trades(self, *prices: float, symbol: str = BTC, each: float = 1.0) -> None:
        """Somebody trades at these prices, so many seconds apart."""
        for price in prices:
            self.passes(each)
            for chart in (self.bars[symbol], self.fine[symbol]):
                chart.trade(symbol, price, self.now)
            if ear := self._ear():
                ear.traded(symbol, price, self.now)
                ear.charted(self.bars[symbol].bars[-1], closed=False)

    def book(self, bid: str, ask: str, symbol: str = BTC) -> None:
        """A new top of the book."""
        if ear := self._ear():
            ear.topped(symbol, Decimal(bid), Decimal(ask), self.now)

    def funding(self, rate: str, due: datetime, symbol: str = BTC) -> None:
        """What the ticker says of the next settlement."""
        self.rates[due] = Decimal(rate)
        if ear := self._ear():
            ear.funded(symbol, Decimal(rate), due, self.now)

    def goes(self) -> None:
        """The stream is down."""
        self.up = False
        if self.listener:
            self.listener.disconnected("gone")

    def returns(self) -> None:
        """The stream is up again."""
        self.up = True
        if self.listener:
            self.listener.connected()

    def _ear(self) -> LiveMarket | None:
        return self.listener if self.up else None


Told = Fill | Order | BarsClosed


@dataclass(slots=True)
class Stand:
    """A venue on an exchange's prices, and everything it tells, in order."""

    exchange: Exchange
    venue: Venue
    market: LiveMarket
    clock: SimulatedClock
    told: list[Told] = field(default_factory=list)
    ticks: list[tuple[str, float]] = field(default_factory=list)

    @classmethod
    def on(cls, exchange: Exchange, terms: AccountTerms = NO_FEES, keeper: Keeper | None = None) -> Stand:
        """A stand that has not asked for anything yet."""
        symbols = tuple(exchange.bars)
        venue = Venue({symbol: instrument(symbol) for symbol in symbols}, terms, keeper or MemoryKeeper())
        clock = SimulatedClock(haste=20)
        market = LiveMarket(venue, exchange, symbols, BAR, clock, bars=20)
        stand = cls(exchange, venue, market, clock)
        venue.listener = stand.told.extend
        market.deliver = stand.told.append
        market.ticked = lambda symbol, price: stand.ticks.append((symbol, price))
        return stand

    async def quiet(self) -> None:
        """Until everything that the exchange has said is dealt with."""
        await until(lambda: not self.market._heard and self.market._listening == self.exchange.up)
        await asyncio.sleep(0)

    async def trades(self, *prices: float, symbol: str = BTC, each: float = 1.0) -> None:
        """Somebody trades, and it is dealt with."""
        self.exchange.trades(*prices, symbol=symbol, each=each)
        await self.quiet()

    @property
    def fills(self) -> list[Fill]:
        """The fills that were told."""
        return [one for one in self.told if isinstance(one, Fill) and one.kind is FillKind.TRADE]

    @property
    def payments(self) -> list[Fill]:
        """The funding that was told."""
        return [one for one in self.told if isinstance(one, Fill) and one.kind is FillKind.FUNDING]

    @property
    def closes(self) -> list[BarsClosed]:
        """The closes that were told."""
        return [one for one in self.told if isinstance(one, BarsClosed)]

    def story(self) -> list[str]:
        """Fills and closes in the order in which they were told."""
        shown = (one for one in self.told if not isinstance(one, Order))
        return ["close" if isinstance(one, BarsClosed) else f"fill {float(one.price):g}" for one in shown]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; it comes soon or never."""
    for _ in range(round(PATIENCE / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"waited {PATIENCE:g} s in vain")


@asynccontextmanager
async def running(stand: Stand) -> AsyncIterator[Stand]:
    """Prepared, connected and caught up; gone afterwards as by kill -9."""
    await stand.market.prepare()
    task = asyncio.create_task(stand.market.run())
    try:
        await until(lambda: stand.exchange.listener is stand.market)
        await stand.quiet()
        yield stand
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def stand_on(*symbols: str, terms: AccountTerms = NO_FEES) -> AsyncIterator[Stand]:
    """A running stand on a new exchange whose price is 1000."""
    async with running(Stand.on(Exchange(*symbols), terms)) as stand:
        yield stand


async def holding(stand: Stand, side: OrderSide = BUY, **guards: str) -> None:
    """Hold 1, bought or sold at 1000 by a limit."""
    stand.venue.place(order(side, "1", price="1000", link="entry", **guards))  # type: ignore[arg-type]
    await stand.trades(1000 - side.sign * 0.1, 1000)
    assert stand.venue.positions[BTC].entry_price == 1000


# ---- matching ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "through"), [(BUY, 999.9), (SELL, 1000.1)])
async def test_a_limit_fills_only_strictly_through(side: OrderSide, through: float) -> None:
    """A trade at its price is not enough; one beyond it fills at exactly its price, when it happened."""
    async with stand_on() as stand:
        stand.venue.place(order(side, "1", price="1000"))
        await stand.trades(1000, 1000)
        assert stand.fills == []
        await stand.trades(through)
        assert [(fill.price, fill.maker, fill.at) for fill in stand.fills] == [
            (Decimal(1000), True, stand.exchange.now)
        ]


async def test_fills_and_closes_are_told_as_they_happened() -> None:
    """The fill of a bar before its close, the next bar's fill behind it, though all of it came in one go."""
    async with stand_on() as stand:
        for price in ("998", "995"):
            stand.venue.place(order(BUY, "1", price=price, link=price))
        stand.exchange.trades(997, each=BAR.total_seconds() - 1)
        await stand.trades(994, each=2)
        assert stand.story() == ["fill 998", "close", "fill 995"]
        (close,) = stand.closes
        assert close.close_time == START + BAR
        first, second = stand.fills
        assert first.at < close.close_time <= second.at
        assert (stand.clock.now(), stand.venue.now) == (stand.exchange.now, stand.exchange.now)


async def test_a_trade_that_is_told_after_its_bars_close_belongs_to_the_next() -> None:
    """Trades and bars have no mutual order: market time does not go back for one."""
    async with stand_on() as stand:
        stand.venue.place(order(BUY, "1", price="998"))
        stand.exchange.passes(BAR.total_seconds())
        stand.market.traded(BTC, 997.0, stand.exchange.now - SECOND)
        await stand.quiet()
        assert stand.story() == ["close", "fill 998"]
        assert stand.fills[0].at == START + BAR


@pytest.mark.parametrize(("price", "rests"), [("1001.9", True), ("1002", False)])
async def test_post_only_is_judged_by_the_top_of_the_book(price: str, rests: bool) -> None:
    """The real one, whatever the last trade was; and whoever watches hears that the book has moved."""
    async with stand_on() as stand:
        stand.ticks.clear()
        stand.exchange.book("999", "1002")
        await stand.quiet()
        assert stand.ticks == [(BTC, 1000.0)]
        placed = stand.venue.place(order(BUY, "1", price=price, post_only=True))
        assert (placed.status, placed.reject_reason) == (
            ("New", "EC_NoError") if rests else ("Cancelled", POST_ONLY_CROSSED)
        )


async def test_a_stop_gets_the_touch_and_slippage() -> None:
    """The bid where it is worse than the trade."""
    async with stand_on(terms=FEES) as stand:
        await holding(stand, stop="980")
        stand.exchange.book("979.5", "980.5")
        await stand.trades(980)
        last = stand.fills[-1]
        assert (last.price, last.stop_order_type) == (Decimal("979.5") * Decimal("0.999"), StopKind.STOP_LOSS)


@pytest.mark.parametrize("minutes", [True, False])
async def test_an_order_at_the_market_fills_before_the_first_trade(minutes: bool) -> None:
    """The newest price known, one tick either side of it, is the market until somebody trades."""
    exchange = Exchange()
    if not minutes:
        exchange.fine[BTC].bars.clear()
    exchange.up = False
    async with running(Stand.on(exchange)) as stand:
        stand.venue.place(order(BUY, "1"))
        assert [fill.price for fill in stand.fills] == [Decimal("1000.1")]


async def test_many_trades_are_kept_once() -> None:
    """The books are written once for everything that came in one go, and not at all for a book that moves."""

    class Counting(MemoryKeeper):
        kept = 0

        def keep(self, state: Callable[[], object], closed: Sequence[Order], fills: Sequence[Fill]) -> None:
            self.kept += 1

    keeper = Counting()
    async with running(Stand.on(Exchange(), keeper=keeper)) as stand:
        keeper.kept = 0
        stand.ticks.clear()
        await stand.trades(*[1000, 1001] * 100, each=0.01)
        assert (keeper.kept, stand.ticks) == (1, [(BTC, 1001.0)])
        stand.exchange.book("1000", "1001")
        await stand.quiet()
        assert keeper.kept == 1


async def test_a_stream_that_ends_ends_the_market() -> None:
    """A fault must not leave an exchange without prices behind."""
    stand = Stand.on(Exchange())
    await stand.market.prepare()
    stand.exchange.broken.set()
    with pytest.raises(RuntimeError):
        await asyncio.wait_for(stand.market.run(), PATIENCE)


# ---- bars ----------------------------------------------------------------------------------------


async def test_a_bar_is_kept_once() -> None:
    """Told again, or older, it changes nothing; history is the exchange's own, bar by bar."""
    async with stand_on() as stand:
        assert stand.market.history(BTC, 100) is not None
        stand.exchange.trades(1001, 1002, each=BAR.total_seconds())
        done = stand.exchange.bars[BTC].bars[:-1]
        for bar in (done[-1], done[-1], done[0]):
            stand.market.charted(bar, closed=True)
        await stand.quiet()
        assert [close.candles for close in stand.closes] == [(bar,) for bar in done[HISTORY:]]
        series = stand.market.history(BTC, 100)
        assert series is not None
        assert list(series.candles()) == done
        short = stand.market.history(BTC, 2)
        assert short is not None
        assert list(short.candles()) == done[-2:]
        assert stand.market.history("NOSUCHUSDT", 5) is None


async def test_the_bar_in_progress_is_the_exchanges() -> None:
    """It grows with the frames and is gone when it has closed; an older one does not come back."""
    async with stand_on() as stand:
        await stand.trades(1003, 1001)
        running_bar = stand.exchange.bars[BTC].bars[-1]
        assert stand.market.open_candle(BTC) == running_bar
        stand.exchange.passes(BAR.total_seconds())
        stand.market.charted(running_bar, closed=False)
        await stand.quiet()
        assert stand.market.open_candle(BTC) is None


async def test_memory_does_not_grow_with_the_bars() -> None:
    """Twice what was asked for at the start is enough."""
    async with stand_on() as stand:
        await stand.trades(*[1000] * 60, each=BAR.total_seconds())
        series = stand.market.history(BTC, 1000)
        assert series is not None
        assert len(series) == 40
        assert len(stand.closes) == 60


async def test_bars_of_several_symbols_close_together() -> None:
    """One close for both where both are there; each symbol's fills lie before it."""
    async with stand_on(BTC, ETH) as stand:
        stand.venue.place(order(BUY, "1", price="998", link="b"))
        stand.venue.place(order(BUY, "1", price="998", link="e", symbol=ETH))
        stand.exchange.trades(997, each=60)
        stand.exchange.trades(997, symbol=ETH, each=60)
        stand.exchange.passes(BAR.total_seconds())
        await stand.quiet()
        assert stand.story() == ["fill 998", "fill 998", "close"]
        assert [candle.symbol for candle in stand.closes[0].candles] == [BTC, ETH]


async def test_a_bar_that_was_not_told_is_asked_for() -> None:
    """The next bar shows that one is missing: both are told once, in their order, and no trade is lost."""
    async with stand_on() as stand:
        stand.venue.place(order(BUY, "1", price="998"))
        stand.exchange.up = False  # nothing of this is told
        stand.exchange.passes(BAR.total_seconds())
        stand.exchange.up = True
        await stand.trades(999)
        assert [close.close_time for close in stand.closes] == [START + BAR]
        await stand.trades(997)
        assert [fill.price for fill in stand.fills] == [998]


# ---- what is not believed ------------------------------------------------------------------------


@pytest.mark.parametrize("price", [math.nan, math.inf, -math.inf, 0.0, -1000.0])
async def test_a_price_that_is_none_is_refused(price: float) -> None:
    """Not matched, not shown, not asked about; a book that is none neither."""
    async with stand_on() as stand:
        await holding(stand, stop="980")
        asked = len(stand.exchange.asked)
        stand.market.traded(BTC, price, stand.exchange.now)
        stand.market.topped(BTC, Decimal(repr(price)), Decimal(2000), stand.exchange.now)
        stand.market.topped(BTC, Decimal(1001), Decimal(1000), stand.exchange.now)
        await stand.quiet()
        assert (stand.venue.last[BTC], len(stand.fills), len(stand.exchange.asked)) == (1000, 1, asked)
        assert stand.venue.ask(BTC) < 1001


@pytest.mark.parametrize("factor", [10.0, 0.1])
async def test_a_spike_that_the_record_does_not_know_is_nothing(factor: float) -> None:
    """Ten times the price, or a tenth: the exchange is asked, and as it knows of none, neither stop nor target goes."""
    async with stand_on() as stand:
        await holding(stand, stop="980", take="1020")
        stand.exchange.book(f"{1000 * factor - 1}", f"{1000 * factor + 1}")
        stand.market.traded(BTC, 1000 * factor, stand.exchange.now)
        await stand.quiet()
        await stand.trades(1001)
        assert (stand.venue.last[BTC], len(stand.fills)) == (1001, 1)
        assert stand.venue.ask(BTC) < 1100
        await stand.trades(1020)
        assert len(stand.fills) == 2


async def test_a_spike_that_the_record_knows_is_a_price() -> None:
    """However far it is: the stop has sold on the way, as it does in a minute that is walked."""
    async with stand_on() as stand:
        await holding(stand, stop="980")
        await stand.trades(100)
        assert [fill.price for fill in stand.fills][1:] == [Decimal("979.9")]
        await stand.trades(101)
        assert stand.venue.last[BTC] == 101


async def test_a_bar_with_a_spike_is_the_records() -> None:
    """What the stream says of it is not taken, neither while it grows nor when it closes."""
    async with stand_on() as stand:
        await stand.trades(1001)
        bar = stand.exchange.bars[BTC].bars[-1]
        stand.market.charted(replace(bar, high=10_000.0), closed=False)
        await stand.quiet()
        assert stand.market.open_candle(BTC) == bar
        stand.exchange.up = False
        stand.exchange.passes(BAR.total_seconds())
        stand.exchange.up = True
        stand.market.charted(replace(bar, high=10_000.0), closed=True)
        await stand.quiet()
        assert [close.candles for close in stand.closes] == [(bar,)]


# ---- funding -------------------------------------------------------------------------------------

EIGHT = START + timedelta(hours=8)


async def test_funding_is_settled_once_at_its_moment() -> None:
    """At the last price before it, with the rate as it stood last, however often the ticker says so."""
    async with stand_on() as stand:
        await holding(stand)
        stand.exchange.funding("0.002", EIGHT)
        stand.exchange.funding("0.001", EIGHT)
        stand.exchange.now = EIGHT - 2 * SECOND
        await stand.trades(1010)
        assert stand.payments == []
        await stand.trades(1100, 1200)
        stand.market.funded(BTC, Decimal("0.5"), EIGHT, stand.exchange.now)  # a ticker that lags
        stand.exchange.funding("0.003", EIGHT + timedelta(hours=8))
        await stand.trades(1100)
        (payment,) = stand.payments
        assert (payment.at, payment.fee, payment.fee_rate) == (EIGHT, Decimal("1.01"), Decimal("0.001"))


async def test_funding_needs_no_trade() -> None:
    """The ticker goes on to the next settlement: the one before is due. A settlement that was moved is not."""
    async with stand_on() as stand:
        await holding(stand)
        stand.exchange.funding("0.001", EIGHT)
        stand.exchange.funding("0.001", EIGHT + timedelta(hours=8))  # moved before it was due
        stand.exchange.funding("0.001", EIGHT)  # and back
        await stand.quiet()
        assert stand.payments == []
        stand.exchange.now = EIGHT
        stand.exchange.funding("0.003", EIGHT + timedelta(hours=8))
        await stand.quiet()
        assert [payment.at for payment in stand.payments] == [EIGHT]


async def test_funding_of_a_gap_is_paid_by_who_held_then() -> None:
    """The stop went after the first settlement and before the second."""
    async with stand_on() as stand:
        await holding(stand, stop="980")
        stand.exchange.goes()
        stand.exchange.now = EIGHT + 90 * SECOND
        stand.exchange.trades(970, each=60)
        stand.exchange.rates |= {EIGHT: Decimal("0.001"), EIGHT + timedelta(hours=8): Decimal("0.001")}
        stand.exchange.now = EIGHT + timedelta(hours=8)
        stand.exchange.trades(1000)
        stand.exchange.returns()
        await stand.quiet()
        assert [payment.at for payment in stand.payments] == [EIGHT]
        assert BTC not in stand.venue.positions


@pytest.mark.parametrize("paid_before", [True, False])
async def test_funding_is_settled_once_across_a_restart(tmp_path: Path, paid_before: bool) -> None:
    """Killed just before or just after: the account pays once."""
    exchange, path = Exchange(), tmp_path / "ledger.db"
    async with running(reopened(exchange, path)) as stand:
        await holding(stand)
        exchange.funding("0.001", EIGHT)
        exchange.now = EIGHT - 2 * SECOND
        await stand.trades(1000)
        await stand.trades(*[1000] * (2 if paid_before else 0))
        assert len(stand.payments) == paid_before
    exchange.trades(*[1000] * 3)
    async with running(reopened(exchange, path)) as stand:
        exchange.funding("0.001", EIGHT + timedelta(hours=8))
        await stand.trades(1000)
        paid = [fill for fill in stand.venue.keeper.fills() if fill.kind is FillKind.FUNDING]
        assert [(payment.at, payment.fee) for payment in paid] == [(EIGHT, Decimal(1))]


# ---- gaps ----------------------------------------------------------------------------------------


def reopened(exchange: Exchange, path: Path) -> Stand:
    """A stand on the ledger of one that is gone."""
    ledger = LedgerFile(path, "live", lambda: "1")
    stand = Stand.on(exchange, keeper=ledger)
    if ledger.state is not None:
        stand.venue.restore(ledger.state)
    exchange.listener = None
    return stand


async def test_a_gap_is_walked_minute_by_minute() -> None:
    """The entry fills in one minute and its stop goes in a later one; each is told before the close of its bar."""
    async with stand_on() as stand:
        stand.venue.place(order(BUY, "1", price="995", stop="980"))
        await stand.trades(1000, each=30)
        stand.exchange.goes()
        await stand.quiet()
        stand.exchange.trades(999, 994, 996, 979, 990, each=75)
        stand.exchange.trades(1001, each=BAR.total_seconds())
        assert stand.told[1:] == []
        stand.exchange.returns()
        await stand.quiet()
        # 994 was traded at 3:00, 979 at 5:30: the close of 5:00 lies between.
        assert stand.story() == ["fill 995", "close", "fill 979.9", "close"]
        assert [close.late for close in stand.closes] == [True, False]
        times = [fill.at - START for fill in stand.fills]
        assert times == [timedelta(minutes=3), timedelta(minutes=5)]
        assert stand.venue.last[BTC] == 1001


@pytest.mark.parametrize(("while_away", "fills"), [(996.0, 0), (994.0, 1)])
async def test_the_minute_in_which_the_prices_stopped(while_away: float, fills: int) -> None:
    """What was heard of it before the order came is not matched again; what lies beyond that was traded since."""
    async with stand_on() as stand:
        await stand.trades(994.5, 1000)
        stand.venue.place(order(BUY, "1", price="995"))
        stand.exchange.goes()
        stand.exchange.trades(while_away, 1000)
        stand.exchange.returns()
        await stand.quiet()
        assert len(stand.fills) == fills


async def test_the_minute_of_a_kill_counts_by_its_close(tmp_path: Path) -> None:
    """What was heard of it nobody knows any more: its low may be older than the order."""
    exchange, path = Exchange(), tmp_path / "ledger.db"
    async with running(reopened(exchange, path)) as stand:
        await stand.trades(990, 1000)
        stand.venue.place(order(BUY, "1", price="995"))
        stand.venue.place(order(BUY, "1", price="998", link="two"))
    exchange.trades(997)
    async with running(reopened(exchange, path)) as stand:
        assert [order.asked.link_id for order in stand.venue.keeper.closed_orders()] == ["two"]


async def test_nothing_is_matched_twice_after_a_reconnect() -> None:
    """Down and up again and again within a minute: its prices are old news to an order that came in between."""
    async with stand_on() as stand:
        await stand.trades(1000)
        for number in range(3):
            stand.exchange.goes()
            stand.exchange.trades(990, 1000, each=2)
            stand.exchange.returns()
            await stand.quiet()
            stand.venue.place(order(BUY, "1", price="995", link=f"{number}"))
        assert stand.fills == []
        assert stand.closes == []
        await stand.trades(994)
        assert len(stand.fills) == 3


async def test_what_is_heard_before_the_gap_is_asked_for_is_in_the_answer() -> None:
    """The first question fails; what is heard until the second is walked, and not heard once more behind it."""
    async with stand_on() as stand:
        stand.venue.place(order(BUY, "1", price="995", take="1005"))
        stand.exchange.goes()
        stand.exchange.errors = [Transient("no answer")]
        stand.exchange.returns()
        await until(lambda: not stand.exchange.errors)
        stand.exchange.trades(1010, 994, each=60)
        await stand.quiet()
        assert stand.story() == ["fill 995"]


async def test_what_was_heard_before_a_loss_is_matched_as_it_was_heard() -> None:
    """A trade and the end of the stream in one go: the stop gets the trade, not the minute's way there."""
    async with stand_on() as stand:
        await holding(stand, stop="980")
        stand.exchange.trades(970)
        stand.exchange.goes()
        await until(lambda: len(stand.fills) == 2)
        assert stand.fills[-1].price == 970
        stand.exchange.returns()
        await stand.quiet()
        assert len(stand.fills) == 2


@pytest.mark.parametrize("seed", range(6))
async def test_outages_change_nothing_about_what_fills(seed: int) -> None:
    """Random prices, random outages, some shorter than a minute: as if there had been none, each order once."""
    rng = np.random.default_rng(seed)
    levels = [str(price) for price in range(960, 1041, 8)]
    async with stand_on() as stand:
        for level in levels:
            stand.venue.place(order(BUY if float(level) < 1000 else SELL, "0.1", price=level, link=level))
        price, reached = 1000.0, [1000.0]
        for _ in range(40):
            if rng.random() < 0.4:
                (stand.exchange.goes if stand.exchange.up else stand.exchange.returns)()
            price = round(price + float(rng.normal(0, 5)), 1)
            reached.append(price)
            stand.exchange.trades(price, each=float(rng.choice([1, 5, 20, 90])))
            await asyncio.sleep(0)
        stand.exchange.returns()
        await stand.quiet()
        wanted = {level for level in levels if min(reached) < float(level) < max(reached)}
        assert {fill.link_id for fill in stand.fills} == wanted
        assert len(stand.fills) == len(wanted)
        times = [close.close_time for close in stand.closes]
        assert times == [START + (number + 1) * BAR for number in range(len(times))]
        assert stand.exchange.now - [START, *times][-1] < BAR


async def test_what_is_heard_while_the_gap_is_asked_for_counts() -> None:
    """A trade and a close that come between question and answer are matched and told once."""
    async with stand_on() as stand:
        stand.venue.place(order(BUY, "1", price="995"))
        stand.exchange.goes()
        stand.exchange.hold = asyncio.Event()
        stand.exchange.returns()
        await until(lambda: stand.exchange.asked[-1] == "minutes")
        await asyncio.sleep(0)
        stand.exchange.trades(994, 1000, each=1)
        stand.exchange.passes(BAR.total_seconds())
        stand.exchange.hold.set()
        await stand.quiet()
        assert stand.story() == ["fill 995", "close"]


async def test_lost_again_while_the_gap_is_asked_for() -> None:
    """The answer to the first question is not the whole: it is asked again, and nothing is walked twice."""
    async with stand_on() as stand:
        stand.venue.place(order(BUY, "1", price="995"))
        stand.exchange.goes()
        held = stand.exchange.hold = asyncio.Event()
        stand.exchange.returns()
        count = len(stand.exchange.asked)
        await until(lambda: stand.exchange.asked[count:].count("minutes") == 1)
        stand.exchange.goes()
        stand.exchange.trades(994, 1000, each=60)
        held.set()
        await stand.quiet()
        assert stand.fills == []
        stand.exchange.returns()
        await stand.quiet()
        assert len(stand.fills) == 1
        await stand.trades(1001)
        assert stand.venue.last[BTC] == 1001


@pytest.mark.parametrize("error", [Transient("no answer"), Rejected("no such symbol", code=10001)])
async def test_errors_while_catching_up(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """It asks again until it has everything of every symbol, walks it once, and complains once."""
    async with stand_on(BTC, ETH) as stand:
        for symbol in (BTC, ETH):
            stand.venue.place(order(BUY, "1", price="995", stop="980", link=symbol, symbol=symbol))
        stand.exchange.goes()
        for symbol in (BTC, ETH):
            stand.exchange.trades(979.5, 994, 1000, symbol=symbol, each=60)
        stand.exchange.errors = [error, error]
        caplog.clear()
        stand.exchange.returns()
        await stand.quiet()
        # One walk: the low of 979.5 fills and stops out, and no second walk fills anything again.
        assert [fill.symbol for fill in stand.fills] == [BTC, BTC, ETH, ETH]
        assert len(warnings(caplog)) == 1


async def test_a_restart_walks_what_was_traded_meanwhile(tmp_path: Path) -> None:
    """Before anybody asks: the stop has gone at its price, the bars are history, and none of them is news."""
    exchange, path = Exchange(), tmp_path / "ledger.db"
    async with running(reopened(exchange, path)) as stand:
        await holding(stand, stop="980")
        cash = stand.venue.cash
    exchange.trades(990, 979, 1000, each=130)
    exchange.trades(1002, each=BAR.total_seconds())
    stand = reopened(exchange, path)
    await stand.market.prepare()
    assert [fill.price for fill in stand.fills] == [Decimal("979.9")]
    assert stand.fills[0].at == START + timedelta(minutes=4)
    assert (stand.venue.cash - cash, stand.venue.positions) == (Decimal("-20.1"), {})
    series = stand.market.history(BTC, 100)
    assert series is not None
    assert list(series.candles()) == exchange.bars[BTC].bars[:-1]
    async with running(stand):
        await stand.trades(1003)
        assert stand.closes == []
        assert len(stand.fills) == 1


async def test_a_restart_without_anything_at_stake_asks_for_little(tmp_path: Path) -> None:
    """A flat account that was away for a month does not read its minutes; the price is the newest."""
    exchange, path = Exchange(), tmp_path / "ledger.db"
    async with running(reopened(exchange, path)) as stand:
        await stand.trades(1000)
    exchange.trades(*[1001] * 30, each=timedelta(days=1).total_seconds())
    exchange.asked.clear()
    async with running(reopened(exchange, path)) as stand:
        assert stand.venue.last[BTC] == 1001
        assert "settlements" not in exchange.asked
        assert exchange.longest <= BAR // MINUTE
        assert stand.venue.now >= exchange.bars[BTC].bars[-1].open_time


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What the market has complained of."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING and "live" in record.name]


async def test_an_exchange_that_is_not_there_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    """It waits, says so once, and begins when it is there."""
    exchange = Exchange()
    exchange.errors = [Transient("refused"), Transient("refused")]
    async with running(Stand.on(exchange)) as stand:
        await stand.trades(1001)
        assert stand.venue.last[BTC] == 1001
    assert len(warnings(caplog)) == 1


async def test_a_symbol_that_the_exchange_does_not_have_ends_the_start() -> None:
    """Waiting would not help."""
    exchange = Exchange()
    exchange.errors = [Rejected("no such symbol", code=10001)]
    with pytest.raises(Rejected):
        await Stand.on(exchange).market.prepare()
