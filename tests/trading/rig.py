"""A small trading floor for tests: hand-made bars, scripted signals, a program that can die and come back.

`World` is what survives the death of the program: the venue with its ledger, the bars, the journal.
`Session` is one life of the program on it. Nothing here is patched: every part stands behind
a port of the product.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest

from storage.memory import MemoryJournal
from trading import risk
from trading.council.guards import Guards, PageGuards
from trading.desk import Desk, Retune
from trading.errors import Rejected
from trading.events import Event, OrderFilled, OrderIntended, TradeClosed
from trading.exchange.simulated.books import Fill, FillKind, NewOrder, Order, TimeInForce
from trading.exchange.simulated.ledger import MemoryKeeper
from trading.exchange.simulated.market import FileFeed, Market, ReleasePace, SimulatedClock
from trading.exchange.simulated.memory import MemoryExchange, execution_of, view_of
from trading.exchange.simulated.venue import Keeper, Venue, VenueRefusal
from trading.model import (
    EPOCH,
    Candle,
    CandleSeries,
    ExchangeOrder,
    Execution,
    Instrument,
    OrderSide,
    OrderType,
    PlaceOrder,
    Proposal,
    Side,
    millis,
    utc,
)
from trading.parameters import AccountTerms, TradeRules
from trading.portfolio import Book
from trading.ports import BarsClosed, Brief, Broker, Council, Deliberation, Journal, MarketData, Recorded, Witness
from trading.risk import Approved, Sized
from trading.signals import Reading, SignalSource
from trading.trader import Looks, QueueInbox, Trader, load_book

HOUR_MS = 3_600_000
START_MS = 1_700_006_400_000  # 2023-11-15 00:00 UTC, a funding settlement
START = utc(START_MS)
FOUR_HOURS = timedelta(hours=4)
BTC = "BTCUSDT"

Row = tuple[float, float, float, float]  # open, high, low, close
FLAT: Row = (1000, 1001, 999, 1000)

NO_FEES = AccountTerms(maker_fee=0.0, taker_fee=0.0, slippage=0.0, funding_rate=0.0)
COSTLY = AccountTerms(funding_rate=0.0001)
FEES = AccountTerms(maker_fee=0.0002, taker_fee=0.0005, slippage=0.001, funding_rate=0.0)
FREE_RUN = TradeRules(entry_offset=0.0, trail_start_r=0.0, runaway_r=100.0)


def instrument(
    symbol: str = BTC, *, tick: str = "0.1", step: str = "0.001", least: str = "0.001", notional: str = "5"
) -> Instrument:
    """Trading rules; BTCUSDT's unless told otherwise."""
    return Instrument(
        symbol=symbol,
        tick_size=Decimal(tick),
        qty_step=Decimal(step),
        min_qty=Decimal(least),
        min_notional=Decimal(notional),
    )


def series_of(
    rows: Sequence[Row],
    *,
    symbol: str = BTC,
    start_ms: int = START_MS,
    interval: timedelta = FOUR_HOURS,
    volume: float = 100.0,
) -> CandleSeries:
    """Gapless bars of one symbol from hand-written rows."""
    step = interval // timedelta(milliseconds=1)
    prices = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return CandleSeries(
        symbol=symbol,
        interval=interval,
        timestamp=start_ms + np.arange(len(rows), dtype=np.int64) * step,
        open=prices[:, 0].copy(),
        high=prices[:, 1].copy(),
        low=prices[:, 2].copy(),
        close=prices[:, 3].copy(),
        volume=np.full(len(rows), volume),
    )


def random_series(
    rng: np.random.Generator,
    count: int,
    *,
    symbol: str = BTC,
    price: float = 1000.0,
    wobble: float = 0.006,
    start_ms: int = START_MS,
    interval: timedelta = FOUR_HOURS,
    tick: float = 0.1,
) -> CandleSeries:
    """Valid bars of a random walk on the tick grid, with random volume and the occasional gap."""
    closes = price * np.exp(np.cumsum(rng.normal(0, wobble, count)))
    gaps = (rng.random(count) < 0.2) * rng.normal(0, wobble, count)
    opens = np.concatenate(([price], closes[:-1])) * (1 + gaps)
    highs = np.maximum(opens, closes) * (1 + rng.exponential(wobble / 2, count))
    lows = np.minimum(opens, closes) * (1 - rng.exponential(wobble / 2, count))
    places = max(0, -int(np.floor(np.log10(tick))))
    opens, highs, lows, closes = (
        np.round(np.round(column / tick) * tick, places) for column in (opens, highs, lows, closes)
    )
    step = interval // timedelta(milliseconds=1)
    return CandleSeries(
        symbol=symbol,
        interval=interval,
        timestamp=start_ms + np.arange(count, dtype=np.int64) * step,
        open=opens,
        high=highs,
        low=lows,
        close=closes,
        volume=np.round(rng.lognormal(5, 1, count), 3),
    )


def reading(side: int = 0, r: float = 20.0, *, leave: bool = False, hazard: bool = False) -> Reading:
    """What a scripted strategy says at one close."""
    return Reading(side, r, leave, leave, hazard, hazard, hazard, hazard)


Readings = Mapping[tuple[str, int], Reading]


def script(said: Mapping[int, Reading], series: CandleSeries) -> dict[tuple[str, int], Reading]:
    """Readings by row, named by symbol and open time."""
    return {(series.symbol, int(series.timestamp[row])): what for row, what in said.items()}


class Script:
    """A `SignalSource` that says what it was told to say, and nothing on every other bar."""

    def __init__(self, series: Sequence[CandleSeries], said: Readings) -> None:
        self._series = {one.symbol: one for one in series}
        self._said = said
        self._rows: dict[str, int] = {}

    def read(self, candle: Candle) -> Reading:
        """The scripted reading of this bar."""
        stamps = self._series[candle.symbol].timestamp
        self._rows[candle.symbol] = int(np.searchsorted(stamps, millis(candle.open_time)))
        return self._said.get((candle.symbol, millis(candle.open_time)), reading())

    def window(self, symbol: str, bars: int) -> CandleSeries:
        """The bars up to the one read last."""
        row = self._rows.get(symbol, -1)
        return self._series[symbol].between(row + 1 - bars, row + 1)


class SaysAlways:
    """A council with one opinion."""

    mode = "off"
    debates = False

    def __init__(self, ruling: Deliberation | None = None) -> None:
        self.ruling = ruling or Deliberation(approved=True, size_multiplier=1.0, reasons=())
        self.asked: list[Brief] = []

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """The same answer every time."""
        self.asked.append(brief)
        return self.ruling


@dataclass(slots=True, kw_only=True)
class Stage:
    """A scenario: bars, what the strategy says, and the terms."""

    series: Sequence[CandleSeries]
    said: Readings = field(default_factory=dict)
    rules: TradeRules = FREE_RUN
    terms: AccountTerms = NO_FEES
    instruments: Mapping[str, Instrument] = field(default_factory=lambda: {BTC: instrument()})
    funding: Mapping[str, Mapping[int, Decimal]] | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """In the order of the configuration."""
        return tuple(one.symbol for one in self.series)

    @property
    def interval(self) -> timedelta:
        """The bar length of every symbol."""
        return self.series[0].interval

    @property
    def start_ms(self) -> int:
        """Open time of the first bar of all."""
        return min(int(one.timestamp[0]) for one in self.series)

    def closed_between(self, after_ms: int, until_ms: int) -> tuple[BarsClosed, ...]:
        """The closes in (after, until], as the exchange's history tells them: all but the last are late."""
        step = self.interval // timedelta(milliseconds=1)
        groups: dict[int, list[Candle]] = {}
        for one in self.series:
            for row, opened in enumerate(one.timestamp.tolist()):
                if after_ms < opened + step <= until_ms:
                    groups.setdefault(opened + step, []).append(one.candle(row))
        return tuple(
            BarsClosed(close_time=utc(moment), candles=tuple(groups[moment]), late=moment < max(groups))
            for moment in sorted(groups)
        )


@dataclass(slots=True, kw_only=True)
class World:
    """What outlives the program: the venue, the bars and the journal."""

    stage: Stage
    venue: Venue
    journal: MemoryJournal
    keeper: MemoryKeeper

    @classmethod
    def of(cls, stage: Stage, *, remembers: int = 2000) -> World:
        """A venue that has not traded and an empty journal; it remembers so many closed orders and executions."""
        keeper = MemoryKeeper(remembers)
        venue = Venue(stage.instruments, stage.terms, keeper, funding=stage.funding)
        return cls(stage=stage, venue=venue, journal=MemoryJournal(keep=None), keeper=keeper)

    async def events(self) -> list[Event]:
        """The whole journal."""
        found: list[Event] = []
        while batch := await self.journal.read(len(found)):
            found += [recorded.event for recorded in batch]
        return found

    async def said(self, *kinds: type[Event]) -> list[Any]:
        """The events of some kinds."""
        return [event for event in await self.events() if isinstance(event, kinds)]

    async def trades(self) -> list[TradeClosed]:
        """The finished trades."""
        return await self.said(TradeClosed)

    async def fills(self) -> list[OrderFilled]:
        """The booked fills."""
        return await self.said(OrderFilled)

    async def intents(self) -> list[OrderIntended]:
        """The intents."""
        return await self.said(OrderIntended)

    def executions(self) -> list[Execution]:
        """Everything that the venue has executed, oldest first."""
        return [execution_of(fill) for fill in self.keeper.fills()][::-1]

    def orders(self) -> list[ExchangeOrder]:
        """Our live orders on the venue, as the domain sees them."""
        return [view_of(order) for order in self.venue.orders.values()]


Wrap = Callable[[MemoryExchange], Broker]


@dataclass(slots=True, kw_only=True)
class Parts:
    """What a life of the program may have instead of the plain parts."""

    journal: Journal | None = None
    broker: Wrap | None = None
    council: Council | None = None
    guards: Guards | None = None
    signals: Callable[[Stage, Book], SignalSource] | None = None
    market: Callable[[MemoryExchange], MarketData] | None = None
    inbox: QueueInbox | None = None
    clock: SimulatedClock | None = None
    looks: Looks | None = None
    retune: Callable[[Session], Retune] | None = None
    speed: float = 0.0
    absent: bool = False


class MarketClock(SimulatedClock):
    """Ages are those of the market: between two closes of four hours lie four hours, however fast it goes."""

    def monotonic(self) -> float:
        """Seconds of the market's time."""
        return (self.market_time - EPOCH).total_seconds()


class Session:
    """One life of the program on a world: folded from the journal, run until the bars end or it dies."""

    def __init__(self, world: World, book: Book, sequence: int, parts: Parts) -> None:
        stage, self.world = world.stage, world
        self.inbox = parts.inbox or QueueInbox()
        self.clock, self.pace = parts.clock or SimulatedClock(haste=1000), ReleasePace()
        feed, speed = FileFeed(stage.series), parts.speed
        self.market = Market(world.venue, feed, self.pace, self.clock, self.inbox.put, speed=speed)
        self.market.start_at(max(world.venue.now, utc(stage.start_ms)))
        self.exchange = MemoryExchange(world.venue, self.market, self.inbox, "uid-1")
        data: MarketData = parts.market(self.exchange) if parts.market else self.exchange
        self.desk = Desk(
            account="uid-1",
            symbols=stage.symbols,
            interval=stage.interval,
            rules=stage.rules,
            terms=stage.terms,
            instruments=stage.instruments,
            book=book,
            journal=parts.journal or world.journal,
            market=data,
            broker=parts.broker(self.exchange) if parts.broker else self.exchange,
            council=parts.council or SaysAlways(),
            guards=parts.guards or PageGuards(),
            signals=parts.signals(stage, book) if parts.signals else Script(stage.series, stage.said),
            clock=self.clock,
            sequence=sequence,
            commit_behind=True,
            absent=parts.absent,
        )
        if parts.retune:
            self.desk.retune = parts.retune(self)
        quotes = world.venue.last
        self.trader = Trader(self.desk, self.inbox, self.pace, badge="TEST", quotes=quotes, looks=parts.looks)

    @classmethod
    async def begin(cls, world: World, **parts: Any) -> Session:
        """A life that has not started yet: the book as the journal tells it."""
        chosen = Parts(**parts)
        opening = Decimal(repr(world.stage.terms.initial_equity))
        book, sequence = await load_book(chosen.journal or world.journal, opening)
        return cls(world, book, sequence, chosen)

    async def start(self) -> None:
        """Reconcile and catch up on the closes that were missed."""
        last = self.desk.book.last_close
        known = millis(last) if last else self.world.stage.start_ms
        missed = self.world.stage.closed_between(known, millis(self.clock.now()))
        await self.trader.start(self.clock.now(), missed)

    async def run(self) -> None:
        """Start, then trade."""
        await self.start()
        await self.trade()

    async def trade(self) -> None:
        """Trade to the end of the bars; the market stops when the trader dies."""
        walking = asyncio.create_task(self.market.run())
        trading = asyncio.create_task(self.trader.run())
        try:
            await asyncio.wait({walking, trading}, return_when=asyncio.FIRST_COMPLETED)
            if walking.done():
                await walking  # a market that broke down would leave the trader waiting for ever
            await trading
        finally:
            walking.cancel()
            trading.cancel()


def busy_walk(seed: int, rules: TradeRules, *, bars: int = 45, hours: int = 4) -> Stage:
    """A random walk with many edges, some exits, and every cost."""
    rng = np.random.default_rng(seed)
    series = random_series(rng, bars, wobble=0.008, interval=timedelta(hours=hours))
    said: dict[int, Reading] = {}
    for row in range(1, bars):
        side = int(rng.choice([0, 0, 1, -1]))
        said[row] = reading(side, float(rng.uniform(5, 25)), leave=bool(rng.random() < 0.08))
    return Stage(series=[series], said=script(said, series), rules=rules, terms=COSTLY)


async def traded(stage: Stage, **parts: Any) -> World:
    """A world in which one uninterrupted life has traded the whole scenario."""
    world = World.of(stage)
    session = await Session.begin(world, **parts)
    await session.run()
    return world


async def away(stage: Stage, dies_after: int, returns_after: int) -> tuple[World, Session]:
    """The program dies when row `dies_after` has been dealt with; the market goes on to row `returns_after`."""
    world = World.of(stage)
    world.stage = replace(stage, series=[one.between(0, dies_after + 1) for one in stage.series])
    session = await Session.begin(world)
    await session.run()
    world.stage = stage
    for row in range(dies_after + 1, returns_after + 1):
        for one in stage.series:
            candle = one.candle(row)
            world.venue.begin_bar(candle.symbol, candle.open_time, candle.interval, candle.open)
            world.venue.end_bar(candle)
        world.venue.commit()
    session = await Session.begin(world)
    await session.start()
    return world, session


class Floor:
    """A venue walked by hand, bar by bar, with the events it tells; no trader."""

    def __init__(
        self,
        terms: AccountTerms = NO_FEES,
        *,
        instruments: Mapping[str, Instrument] | None = None,
        funding: Mapping[str, Mapping[int, Decimal]] | None = None,
        interval: timedelta = FOUR_HOURS,
        start_ms: int = START_MS,
        keeper: Keeper | None = None,
    ) -> None:
        self.told: list[Fill | Order] = []
        known = instruments or {BTC: instrument()}
        self.opened = partial(Venue, known, terms, funding=funding, listener=self.told.extend)
        self.venue = self.opened(keeper or MemoryKeeper())
        self.interval = interval
        self.next_ms = start_ms

    def bar(self, row: Row, symbol: str = BTC) -> Candle:
        """One whole bar of one symbol, begun, ended and committed."""
        candle = self.begin(row, symbol)
        self.end(candle)
        return candle

    def begin(self, row: Row, symbol: str = BTC) -> Candle:
        """Open a bar; `end` closes it."""
        candle = series_of([row], symbol=symbol, start_ms=self.next_ms, interval=self.interval).candle(0)
        self.venue.begin_bar(symbol, candle.open_time, candle.interval, candle.open)
        self.venue.commit()
        return candle

    def end(self, candle: Candle) -> None:
        """Close a bar that was begun."""
        self.venue.end_bar(candle)
        self.venue.commit()
        self.next_ms = millis(candle.close_time)

    def fills(self, kind: FillKind = FillKind.TRADE) -> list[Fill]:
        """The fills told so far, funding apart."""
        return [event for event in self.told if isinstance(event, Fill) and event.kind is kind]

    def orders(self, link: str | None = None) -> list[Order]:
        """The orders told so far, as they were then: those of a link id, or all."""
        told = [event for event in self.told if isinstance(event, Order)]
        return [event for event in told if link in {None, event.asked.link_id}]

    def statuses(self, link: str) -> list[str]:
        """Every status of an order that was told."""
        return [event.status for event in self.orders(link)]

    def ending(self, link: str) -> tuple[str, str, str]:
        """How an order ended: status, cancel type, reject reason."""
        ended = self.venue.find(link)
        assert ended is not None
        return ended.status, ended.cancel_type, ended.reject_reason

    def refused(self, asked: NewOrder) -> int:
        """The code with which an order is refused."""
        return code_of(partial(self.venue.place, asked))

    def payments(self) -> list[Fill]:
        """The funding told so far."""
        return self.fills(FillKind.FUNDING)


def code_of(request: Callable[[], object]) -> int:
    """The code with which the venue refuses a request."""
    with pytest.raises(VenueRefusal) as caught:
        request()
    return caught.value.code


def floor_with_position(
    side: OrderSide = OrderSide.BUY,
    qty: str = "2",
    *,
    terms: AccountTerms = NO_FEES,
    stop: str | None = None,
    take: str | None = None,
    **more: Any,
) -> Floor:
    """A floor whose second bar has filled an entry at 1000; the next bar is the third."""
    floor = Floor(terms, **more)
    floor.bar(FLAT)
    floor.venue.place(order(side, qty, price="1000", stop=stop, take=take, link="entry"))
    floor.bar(FLAT)
    assert floor.venue.positions[BTC].qty == Decimal(qty)
    return floor


def order(
    side: OrderSide,
    qty: str,
    *,
    price: str | None = None,
    link: str = "one",
    symbol: str = BTC,
    stop: str | None = None,
    take: str | None = None,
    post_only: bool = False,
    lasts: TimeInForce = TimeInForce.GTC,
    reduce_only: bool = False,
    rises_to: str | None = None,
    falls_to: str | None = None,
) -> NewOrder:
    """A request for the venue: at the market without a price, conditional with a price it rises or falls to."""
    return NewOrder(
        link_id=link,
        symbol=symbol,
        side=side,
        type=OrderType.LIMIT if price is not None else OrderType.MARKET,
        qty=Decimal(qty),
        price=number(price),
        time_in_force=TimeInForce.POST_ONLY if post_only else lasts,
        reduce_only=reduce_only,
        stop_loss=number(stop),
        take_profit=number(take),
        trigger_price=number(rises_to or falls_to),
        trigger_direction=1 if rises_to else 2 if falls_to else 0,
    )


def number(text: str | None) -> Decimal | None:
    """A decimal, or nothing."""
    return None if text is None else Decimal(text)


def approved_entry(
    side: Side, qty: str, price: str, stop: str, *, link: str = "entry-1", symbol: str = BTC
) -> Approved[PlaceOrder]:
    """An entry as risk approves it."""
    proposal = Proposal(
        symbol=symbol,
        side=side,
        signal_time=START,
        interval=FOUR_HOURS,
        close=float(price),
        entry=Decimal(price),
        stop=Decimal(stop),
        take_profit=None,
        take_profit_r=0.0,
        r_distance=abs(float(price) - float(stop)),
    )
    return risk.approve_entry(proposal, Sized(qty=Decimal(qty), risk_usdt=Decimal(1)), link)


class Died(BaseException):
    """The program was killed: nothing in it may catch this."""


class MortalJournal:
    """A journal that kills the program at its n-th append: `committed` says whether that one still counts.

    Once dead it refuses everything, snapshots included, like a process that is gone; with `gentle` the
    program still gets to keep its last snapshot, like one that ends by an exception.
    """

    def __init__(self, inner: MemoryJournal, dies_at: int, *, committed: bool, gentle: bool = False) -> None:
        self._inner = inner
        self.left = dies_at
        self._committed = committed
        self._gentle = gentle
        self._dead = False

    async def append(self, events: Sequence[Event]) -> int:
        """Commit, or die."""
        self._breathe()
        self.left -= 1
        if self.left > 0:
            return await self._inner.append(events)
        self._dead = True
        if self._committed:
            await self._inner.append(events)
        raise Died

    async def read(self, after: int, limit: int = 500) -> Sequence[Recorded]:
        """As the journal beneath."""
        self._breathe()
        return await self._inner.read(after, limit)

    async def grown(self, after: int) -> None:
        """As the journal beneath."""
        self._breathe()
        await self._inner.grown(after)

    async def save_snapshot(self, seq: int, state: Mapping[str, Any]) -> None:
        """As the journal beneath, while there is a process."""
        if not self._gentle:
            self._breathe()
        await self._inner.save_snapshot(seq, state)

    async def load_snapshot(self) -> tuple[int, Mapping[str, Any]] | None:
        """As the journal beneath."""
        self._breathe()
        return await self._inner.load_snapshot()

    def _breathe(self) -> None:
        if self._dead:
            raise Died


async def place(exchange: Broker, asked: Approved[PlaceOrder]) -> Rejected | str:
    """The order id, or the refusal."""
    try:
        return await exchange.place(asked)
    except Rejected as refusal:
        return refusal
