"""Between closes: streams that go down and come back, and a look at the exchange when nothing is heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal

from tests.trading.faults import BadLine, Fault
from tests.trading.rig import BTC, FLAT, Row, Session, World, order
from tests.trading.test_recovery import STEADY, stage_of
from trading.desk import REACHED, UNREACHABLE
from trading.events import AlertRaised, EdgeDropped, Event, OrderAccepted, OrderFilled, OrderIntended
from trading.model import OrderSide, Purpose
from trading.ports import BarsClosed, ConnectionLost, ConnectionRestored, FeedEnded
from trading.trader import Looks, Trader

QUICK = Looks(unclear=0.01, exposed=0.02, flat=0.03, patience=0.05)
LOST = ConnectionLost(reason="the public stream is down: test")
OPENING: list[Row] = [FLAT, FLAT, STEADY, STEADY, STEADY]


class Desk:
    """A trader at work whose market is moved by hand, bar by bar."""

    def __init__(self, world: World, session: Session) -> None:
        self.world = world
        self.session = session
        self.trader = Trader(
            session.desk, session.inbox, session.pace, badge="TEST", quotes=world.venue.last, looks=QUICK
        )
        self.rows = iter(range(len(world.stage.series[0])))

    async def bar(self, *, late: bool = False) -> None:
        """One bar from open to close, dealt with."""
        candle = self.world.stage.series[0].candle(next(self.rows))
        self.world.venue.begin_bar(BTC, candle.open_time, candle.interval, candle.open)
        self.world.venue.end_bar(candle)
        self.session.clock.market_time = candle.close_time
        self.world.venue.commit()
        self.session.inbox.put(BarsClosed(close_time=candle.close_time, candles=(candle,), late=late))
        await self.session.pace.released(candle.close_time)

    async def until(self, kind: type[Event], count: int = 1) -> list[Event]:
        """The events of a kind once there are so many."""
        async with asyncio.timeout(5):
            while len(found := await self.world.said(kind)) < count:
                await self.world.journal.grown(len(await self.world.events()))
        return found


@asynccontextmanager
async def at_work(world: World, **parts: object) -> AsyncIterator[Desk]:
    """A trader that runs until the end of the block."""
    session = await Session.begin(world, **parts)
    desk = Desk(world, session)
    await session.start()
    running = asyncio.create_task(desk.trader.run())
    try:
        yield desk
        session.inbox.put(FeedEnded())
        async with asyncio.timeout(5):
            await running
    finally:
        running.cancel()


async def alerts(world: World) -> list[str]:
    """What the owner was told."""
    return [alert.text for alert in await world.said(AlertRaised)]


async def test_no_entry_while_a_stream_is_down() -> None:
    """The edge is dropped with its reason; with the stream back the next one counts."""
    world = World.of(stage_of([FLAT, FLAT, FLAT, FLAT], {1: 1, 3: 1}))
    async with at_work(world) as desk:
        await desk.bar()
        desk.session.inbox.put(LOST)
        await desk.bar()
        assert [edge.reason for edge in await world.said(EdgeDropped)] == ["exchange_unreachable"]
        desk.session.inbox.put(ConnectionRestored())
        await desk.bar()
        await desk.bar()
    assert len(await world.said(OrderIntended)) == 1


async def test_a_short_drop_is_nobodys_business() -> None:
    """A stream that is back at once is not told."""
    world = World.of(stage_of([FLAT, FLAT], {}))
    async with at_work(world) as desk:
        desk.session.inbox.put(LOST)
        desk.session.inbox.put(ConnectionRestored())
        await desk.bar()
        await desk.bar()
    assert await alerts(world) == []


async def test_a_long_drop_is_told_once_and_so_is_its_end() -> None:
    """Once each, however long it lasts."""
    world = World.of(stage_of([FLAT, FLAT], {}))
    async with at_work(world) as desk:
        desk.session.inbox.put(LOST)
        await desk.until(AlertRaised)
        await asyncio.sleep(10 * QUICK.unclear)
        assert await alerts(world) == [UNREACHABLE]
        desk.session.inbox.put(ConnectionRestored())
        await desk.until(AlertRaised, 2)
        await desk.bar()
    assert await alerts(world) == [UNREACHABLE, REACHED]


async def test_what_happened_while_a_stream_was_down_is_asked_for() -> None:
    """A fill that nobody told is in the journal without waiting for the next close."""
    world = World.of(stage_of(OPENING, {1: 1}))
    async with at_work(world) as desk:
        await desk.bar()
        await desk.bar()
        await desk.until(OrderAccepted)
        world.venue.listener = lambda _: None  # deaf from here on
        desk.session.inbox.put(LOST)
        candle = world.stage.series[0].candle(2)
        world.venue.begin_bar(BTC, candle.open_time, candle.interval, candle.open)
        world.venue.end_bar(candle)
        world.venue.commit()
        await desk.until(OrderFilled)
        assert [fill.purpose for fill in await world.fills()] == [Purpose.ENTRY]


async def test_a_stop_taken_away_is_set_again_between_closes() -> None:
    """No close is needed to see that a position stands unprotected."""
    world = World.of(stage_of(OPENING, {1: 1}))
    async with at_work(world) as desk:
        for _ in range(3):
            await desk.bar()
        stop = world.venue.positions[BTC].stop
        world.venue.protect(BTC, stop_loss=Decimal(0))
        set_again = asyncio.Event()
        world.venue.listener = lambda _: set_again.set()
        async with asyncio.timeout(5):
            await set_again.wait()
        assert world.venue.positions[BTC].stop == stop


async def test_an_order_in_doubt_is_asked_for_soon() -> None:
    """The reply to an entry is lost: that it exists is known long before the next close."""
    world = World.of(stage_of(OPENING, {1: 1}))
    async with at_work(world, broker=lambda exchange: BadLine(exchange, {"place": [Fault.LOSE_REPLY]})) as desk:
        await desk.bar()
        await desk.bar()
        await desk.until(OrderAccepted)
        assert len(world.orders()) == 1


async def test_a_lost_entry_is_sent_again_while_it_is_fresh() -> None:
    """It never arrived and its bar has just closed: the same id goes out again, once."""
    world = World.of(stage_of(OPENING, {1: 1}))
    async with at_work(world, broker=lambda exchange: BadLine(exchange, {"place": [Fault.LOSE_REQUEST]})) as desk:
        await desk.bar()
        await desk.bar()
        await desk.until(OrderAccepted)
        (intent,) = await world.said(OrderIntended)
        assert [order.link_id for order in world.orders()] == [intent.link_id]


async def test_a_late_close_is_too_old_for_an_entry() -> None:
    """What was missed is dealt with, but nothing new is entered on it."""
    world = World.of(stage_of([FLAT, FLAT, FLAT], {1: 1}))
    async with at_work(world) as desk:
        await desk.bar()
        await desk.bar(late=True)
        await desk.bar()
    assert [edge.reason for edge in await world.said(EdgeDropped)] == ["stale"]
    assert await world.said(OrderIntended) == []


async def test_the_wallet_is_asked_for_when_it_may_have_moved() -> None:
    """With nothing open or resting, a quiet close asks for positions and orders alone."""
    asked: list[bool] = []

    class Counting(BadLine):
        async def snapshot(self, *, cash: bool = True):  # type: ignore[no-untyped-def]
            asked.append(cash)
            return await super().snapshot(cash=cash)

    world = World.of(stage_of([FLAT, FLAT, FLAT, FLAT, STEADY, STEADY], {3: 1}))
    async with at_work(world, broker=lambda exchange: Counting(exchange, {})) as desk:
        for _ in range(3):
            await desk.bar()
        assert asked[0] is True
        assert False in asked
        del asked[:]
        await desk.bar()
        await desk.bar()
        await desk.bar()
        assert asked[-1] is True


async def test_foreign_orders_do_not_make_it_restless() -> None:
    """They are told once and left alone; the exchange is not asked every two seconds because of them."""
    world = World.of(stage_of([FLAT, FLAT], {}))
    async with at_work(world) as desk:
        await desk.bar()
        world.venue.place(order(OrderSide.BUY, "1", price="900", link="somebody"))
        await desk.bar()
        await desk.until(AlertRaised)
        assert not desk.session.desk.unsettled
    assert len(world.orders()) == 1
