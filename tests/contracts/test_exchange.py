"""The contract of the ports `MarketData` and `Broker`, held against every face of the venue.

A face joins by a fixture parameter: it starts on the bars of `ROWS` (four hours each, from 2023-11-15 00:00 UTC,
10,000 USDT, no costs), lets one more bar pass on `next_bar`, and shows in `heard` what it told the trader.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

import pytest

from tests.trading.rig import BTC, FOUR_HOURS, NO_FEES, START, Row, approved_entry, instrument, series_of
from trading import risk
from trading.errors import Rejected
from trading.exchange.bybit.clock import HeardClock
from trading.exchange.bybit.endpoints import endpoints_of
from trading.exchange.bybit.exchange import BybitExchange
from trading.exchange.bybit.rest import BybitRest
from trading.exchange.simulated.books import Fill
from trading.exchange.simulated.ledger import MemoryKeeper
from trading.exchange.simulated.market import FileFeed, FollowedPace, Market, ReleasePace, SimulatedClock
from trading.exchange.simulated.memory import MemoryExchange
from trading.exchange.simulated.pace import WirePace
from trading.exchange.simulated.venue import Venue, VenueEvent
from trading.exchange.simulated.wire.server import WireServer
from trading.model import EPOCH, Execution, Purpose, Side
from trading.ports import BarsClosed, Broker, Inbound, MarketData, OrderUpdated
from trading.trader import QueueInbox

ROWS: list[Row] = [
    (1000, 1001, 999, 1000),
    (1000, 1005, 995, 1002),
    (1002, 1010, 1001, 1008),
    (1008, 1030, 1007, 1025),
    (1025, 1026, 960, 965),
    (965, 970, 960, 966),
]
LONG, SHORT = Side.LONG, Side.SHORT


class Face(Protocol):
    """One way to reach the venue."""

    broker: Broker
    data: MarketData
    heard: list[Inbound]

    async def next_bar(self) -> BarsClosed:
        """Let one more bar pass, whole; returns it once the face has told everything that happened in it."""
        ...


@dataclass(slots=True)
class InMemory:
    """The face without a wire."""

    broker: Broker
    data: MarketData
    inbox: QueueInbox
    pace: ReleasePace
    walking: asyncio.Task[None]
    heard: list[Inbound] = field(default_factory=list)
    last: BarsClosed | None = None

    async def next_bar(self) -> BarsClosed:
        """Release the last close and listen until the next."""
        if self.last is not None:
            self.pace.release(self.last.close_time)
        while not isinstance(item := await self.inbox.get(), BarsClosed):
            self.heard.append(item)
        self.last = item
        return item


@asynccontextmanager
async def in_memory() -> AsyncIterator[Face]:
    """A venue in this process."""
    inbox, pace, clock = QueueInbox(), ReleasePace(), SimulatedClock()
    venue = Venue({BTC: instrument()}, NO_FEES, MemoryKeeper())
    market = Market(venue, FileFeed([series_of(ROWS)]), pace, clock, inbox.put)
    market.start_at(START)
    exchange = MemoryExchange(venue, market, inbox, "uid-1")
    pace.release(START)
    walking = asyncio.create_task(market.run())
    try:
        yield InMemory(exchange, exchange, inbox, pace, walking)
    finally:
        walking.cancel()


@dataclass(slots=True)
class OnTheWire:
    """The adapter of the real exchange, over loopback. `expected` is what the venue has told so far."""

    broker: Broker
    data: MarketData
    inbox: QueueInbox
    pace: WirePace
    expected: list[VenueEvent]
    heard: list[Inbound] = field(default_factory=list)
    last: BarsClosed | None = None

    async def next_bar(self) -> BarsClosed:
        """Release the last close and listen until the next, and until everything told of it is here."""
        self.pace.release(self.last.close_time if self.last is not None else START)
        closed: BarsClosed | None = None
        async with asyncio.timeout(10):
            while closed is None or len(self.heard) < self._told():
                item = await self.inbox.get()
                if isinstance(item, BarsClosed):
                    closed = item
                else:
                    self.heard.append(item)
        self.last = closed
        return closed

    def _told(self) -> int:
        """Fills, and orders that changed without one; what protects a position is told with it."""
        return sum(
            isinstance(event, Fill) or (not event.protects and event.status not in {"Filled", "PartiallyFilled"})
            for event in self.expected
        )


@asynccontextmanager
async def on_the_wire() -> AsyncIterator[Face]:
    """The same venue behind its wire face, and the adapter that would trade live."""
    inbox, pace, expected = QueueInbox(), FollowedPace(free=False), list[VenueEvent]()
    venue = Venue({BTC: instrument()}, NO_FEES, MemoryKeeper())
    market = Market(venue, FileFeed([series_of(ROWS)]), pace, SimulatedClock(), lambda _: None)
    market.start_at(START)
    server = WireServer(venue, market, uid="1", key="key", secret="secret", port=0, pace=pace, limit_factor=1000)
    publish = venue.listener

    def listen(events: Sequence[VenueEvent]) -> None:
        expected.extend(events)
        publish(events)

    venue.listener = listen
    market.deliver = lambda told: server.bars_closed(told) if isinstance(told, BarsClosed) else server.feed_ended()
    await server.start()
    clock, endpoints = HeardClock(), endpoints_of("paper", server.url, server.ws_url)
    rest = BybitRest(endpoints.rest, key="key", secret="secret")
    exchange = BybitExchange(
        rest, endpoints, symbols=(BTC,), interval=FOUR_HOURS, inbox=inbox, clock=clock, key="key", secret="secret"
    )
    steps = WirePace(server.ws_url, inbox, clock)
    walking = asyncio.create_task(market.run())
    try:
        await steps.start()
        await exchange.start()
        yield OnTheWire(exchange, exchange, inbox, steps, expected)
    finally:
        walking.cancel()
        await exchange.stop()
        await steps.stop()
        rest.close()
        await server.stop()


FACES: dict[str, Callable[[], AbstractAsyncContextManager[Face]]] = {"memory": in_memory, "wire": on_the_wire}


@pytest.fixture(params=list(FACES))
async def face(request: pytest.FixtureRequest) -> AsyncIterator[Face]:
    """Every face, one after the other, after its first bar has closed."""
    async with FACES[request.param]() as one:
        await one.next_bar()
        yield one


async def settled(face: Face) -> list[Execution]:
    """The fills that were told so far (funding, at a rate of zero, is told as well)."""
    return [item for item in face.heard if isinstance(item, Execution) and not item.funding]


# ---- market data ---------------------------------------------------------------------------------


async def test_an_instrument_has_its_rules(face: Face) -> None:
    """Ticks, steps and least sizes, exactly; an unknown symbol is rejected."""
    assert await face.data.instrument(BTC) == instrument()
    with pytest.raises(Rejected):
        await face.data.instrument("NOSUCHUSDT")


async def test_history_is_the_closed_bars(face: Face) -> None:
    """Oldest first, never an open bar, fewer when there are no more; unknown symbols are rejected."""
    assert (await face.data.history(BTC, 10)).close.tolist() == [1000]
    await face.next_bar()
    await face.next_bar()
    series = await face.data.history(BTC, 2)
    assert series.symbol == BTC
    assert series.close.tolist() == [1002, 1008]
    assert len(await face.data.history(BTC, 1000)) == 3
    with pytest.raises(Rejected):
        await face.data.history("NOSUCHUSDT", 10)


async def test_history_asks_for_nothing_and_gets_nothing(face: Face) -> None:
    """No bars wanted, none given."""
    assert len(await face.data.history(BTC, 0)) == 0


async def test_the_last_price_is_the_close_between_bars(face: Face) -> None:
    """Exactly, as a decimal."""
    assert await face.data.last_price(BTC) == 1000
    await face.next_bar()
    assert await face.data.last_price(BTC) == 1002
    with pytest.raises(Rejected):
        await face.data.last_price("NOSUCHUSDT")


async def test_closed_bars_come_as_they_were(face: Face) -> None:
    """Open time, length, prices."""
    closed = await face.next_bar()
    (candle,) = closed.candles
    assert closed.close_time == candle.close_time
    assert (candle.symbol, candle.open_time - START) == (BTC, candle.interval)
    assert (candle.open, candle.high, candle.low, candle.close) == ROWS[1]


# ---- placing -------------------------------------------------------------------------------------


async def test_an_entry_rests_with_its_stop_and_fills(face: Face) -> None:
    """Placed, found open, filled through its price; the position has the attached stop from its first fill."""
    order_id = await face.broker.place(approved_entry(LONG, "2", "1000", "980"))
    known = await face.broker.find(BTC, "entry-1")
    assert known is not None
    assert (known.order_id, known.open, known.qty, known.filled) == (order_id, True, Decimal(2), Decimal(0))
    await face.next_bar()
    (fill,) = await settled(face)
    assert (fill.link_id, fill.order_id, fill.qty, fill.price) == ("entry-1", order_id, Decimal(2), Decimal(1000))
    snapshot = await face.broker.snapshot()
    (position,) = snapshot.positions
    assert (position.side, position.qty, position.entry_price) == (LONG, Decimal(2), Decimal(1000))
    assert position.stop == 980
    assert position.liquidation is not None
    assert 800 <= position.liquidation < 840  # leverage 5, less the maintenance margin
    assert snapshot.orders == ()
    done = await face.broker.find(BTC, "entry-1")
    assert done is not None
    assert (done.status, done.open, done.filled) == ("Filled", False, Decimal(2))


async def test_placing_one_id_again_is_the_same_order(face: Face) -> None:
    """Idempotent while it rests and after it has ended: one order, the same id, one fill."""
    entry = approved_entry(LONG, "2", "1000", "980")
    first = await face.broker.place(entry)
    assert await face.broker.place(entry) == first
    assert len((await face.broker.snapshot()).orders) == 1
    await face.next_bar()
    assert await face.broker.place(entry) == first
    await face.next_bar()
    assert len(await settled(face)) == 1
    assert (await face.broker.snapshot()).positions[0].qty == 2


@pytest.mark.parametrize(
    ("qty", "price", "stop"),
    [
        ("2.0005", "1000", "980"),
        ("2", "1000.05", "980"),
        ("2", "1000", "1000"),
        ("2", "1000", "1010"),
        ("0.001", "1000", "980"),
        ("500", "1000", "980"),
    ],
    ids=["off the step", "off the tick", "stop on the entry", "stop beyond it", "too small", "too much"],
)
async def test_what_cannot_be_is_rejected(face: Face, qty: str, price: str, stop: str) -> None:
    """`Rejected` with a code; the order does not exist."""
    with pytest.raises(Rejected) as caught:
        await face.broker.place(approved_entry(LONG, qty, price, stop))
    assert caught.value.code != 0
    assert await face.broker.find(BTC, "entry-1") is None
    assert (await face.broker.snapshot()).orders == ()


async def test_post_only_that_would_take_does_not_fill(face: Face) -> None:
    """It ends cancelled; whether that is told by a refusal or by the order's end, nothing is bought."""
    with suppress(Rejected):
        await face.broker.place(approved_entry(LONG, "2", "1005", "980"))
    await face.next_bar()
    assert await settled(face) == []
    snapshot = await face.broker.snapshot()
    assert (snapshot.positions, snapshot.orders) == ((), ())


async def test_an_exit_at_a_close_gets_the_next_open(face: Face) -> None:
    """Reduce-only at the market, between bars."""
    await face.broker.place(approved_entry(LONG, "2", "1000", "980"))
    await face.next_bar()
    await face.broker.place(risk.approve_exit(BTC, LONG, Decimal(2), "exit-1"))
    await face.next_bar()
    last = (await settled(face))[-1]
    assert (last.link_id, last.price, last.side.sign) == ("exit-1", Decimal(1002), -1)
    snapshot = await face.broker.snapshot()
    assert snapshot.positions == ()
    assert snapshot.cash == 10_004


async def test_an_exit_of_nothing_is_rejected(face: Face) -> None:
    """Reduce-only cannot open."""
    with pytest.raises(Rejected):
        await face.broker.place(risk.approve_exit(BTC, LONG, Decimal(2), "exit-1"))
    await face.next_bar()
    assert (await face.broker.snapshot()).positions == ()


async def test_a_take_profit_rests_and_fills(face: Face) -> None:
    """Strictly through its price; it is gone afterwards."""
    await face.broker.place(approved_entry(LONG, "2", "1000", "980"))
    await face.next_bar()
    await face.broker.place(risk.approve_take_profit(BTC, LONG, Decimal(2), Decimal(1020), "tp-1"))
    await face.next_bar()
    assert len((await face.broker.snapshot()).orders) == 1
    await face.next_bar()
    assert (await settled(face))[-1].price == 1020
    assert (await face.broker.snapshot()).orders == ()


# ---- cancelling, stops ---------------------------------------------------------------------------


async def test_a_cancelled_order_says_how_it_ended(face: Face) -> None:
    """Cancelled; and again the same."""
    await face.broker.place(approved_entry(LONG, "2", "990", "980"))
    for _ in range(2):
        ended = await face.broker.cancel(BTC, "entry-1")
        assert (ended.link_id, ended.status, ended.open) == ("entry-1", "Cancelled", False)
    assert (await face.broker.snapshot()).orders == ()


async def test_a_cancel_that_comes_too_late_says_filled(face: Face) -> None:
    """The fill came first."""
    await face.broker.place(approved_entry(LONG, "2", "1000", "980"))
    await face.next_bar()
    ended = await face.broker.cancel(BTC, "entry-1")
    assert (ended.status, ended.filled) == ("Filled", Decimal(2))


async def test_cancelling_what_never_was_is_rejected(face: Face) -> None:
    """It does not exist."""
    with pytest.raises(Rejected):
        await face.broker.cancel(BTC, "nobody")


async def test_a_stop_is_amended(face: Face) -> None:
    """Moved, set to the same again without complaint, refused beyond the price, and hit."""
    await face.broker.place(approved_entry(LONG, "2", "1000", "980"))
    await face.next_bar()
    await face.broker.move_stop(BTC, Decimal(990))
    await face.broker.move_stop(BTC, Decimal(990))
    assert (await face.broker.snapshot()).positions[0].stop == 990
    with pytest.raises(Rejected):
        await face.broker.move_stop(BTC, Decimal(1003))
    assert (await face.broker.snapshot()).positions[0].stop == 990
    for _ in range(3):
        await face.next_bar()
    last = (await settled(face))[-1]
    assert (last.link_id, last.purpose, last.price) == ("", Purpose.STOP, Decimal(990))
    assert (await face.broker.snapshot()).positions == ()


async def test_there_is_no_stop_without_a_position(face: Face) -> None:
    """Rejected."""
    with pytest.raises(Rejected):
        await face.broker.move_stop(BTC, Decimal(900))


# ---- asking --------------------------------------------------------------------------------------


async def test_an_unknown_order_is_none(face: Face) -> None:
    """Not an error."""
    assert await face.broker.find(BTC, "nobody") is None


async def test_executions_are_those_of_the_stream(face: Face) -> None:
    """The same ids in the same order; none from before the moment asked for."""
    await face.broker.place(approved_entry(SHORT, "2", "1004", "1024", link="short"))
    for _ in range(3):
        await face.next_bar()
    told = [item for item in face.heard if isinstance(item, Execution)]
    assert len(await settled(face)) == 2
    assert list(await face.broker.executions(BTC, EPOCH)) == told
    assert list(await face.broker.executions(BTC, told[-1].at)) == told[-1:]
    assert list(await face.broker.executions("NOSUCHUSDT", EPOCH)) == []


async def test_cash_is_the_wallet(face: Face) -> None:
    """An open profit is no cash; a realised loss is. Who does not ask for it is not told."""
    await face.broker.place(approved_entry(SHORT, "2", "1004", "1024", link="short"))
    assert (await face.broker.snapshot()).cash == 10_000
    await face.next_bar()
    assert (await face.broker.snapshot()).cash == 10_000
    for _ in range(2):
        await face.next_bar()
    assert (await face.broker.snapshot()).cash == 10_000 - 2 * 20
    assert (await face.broker.snapshot(cash=False)).cash is None


async def test_orders_are_told_when_they_change(face: Face) -> None:
    """New, then cancelled, with our id."""
    await face.broker.place(approved_entry(LONG, "2", "990", "980"))
    await face.broker.cancel(BTC, "entry-1")
    await face.next_bar()
    told = [item.order.status for item in face.heard if isinstance(item, OrderUpdated)]
    assert told == ["New", "Cancelled"]


async def test_the_account_has_a_name(face: Face) -> None:
    """The same one every time."""
    name = await face.broker.account_id()
    assert name
    assert await face.broker.account_id() == name


def test_every_method_of_the_ports_is_under_contract() -> None:
    """A method that joins a port joins this suite."""
    here = inspect.getsource(inspect.getmodule(test_the_account_has_a_name))  # type: ignore[arg-type]
    for port, prefix in ((Broker, "face.broker."), (MarketData, "face.data.")):
        methods = [name for name, _ in inspect.getmembers(port, inspect.isfunction) if not name.startswith("_")]
        assert [name for name in methods if prefix + name + "(" not in here] == []
