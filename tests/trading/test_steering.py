"""What is asked of the trader is done once: every request and refusal, redelivered, killed, cut off, in any order.

`Chat` is the durable inbox as the trader meets it: each request comes three times right after its close, and after a
restart again, until an event with its id is in the journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.codec import decode, encode
from storage.memory import MemoryJournal
from tests.storage import samples
from tests.trading.faults import BadLine, Fault
from tests.trading.rig import (
    BTC,
    COSTLY,
    FEES,
    FLAT,
    FOUR_HOURS,
    NO_FEES,
    START,
    Died,
    MarketClock,
    MortalJournal,
    Row,
    SaysAlways,
    Session,
    Stage,
    World,
    instrument,
    order,
    random_series,
    reading,
    script,
    series_of,
)
from trading import events as ev
from trading.council.guards import PageGuards
from trading.desk import UNREACHABLE, Retune, Tuned
from trading.errors import BadInput, OutcomeUnknown, Rejected, Transient
from trading.events import Request
from trading.exchange.bybit.clock import HeardClock
from trading.exchange.bybit.endpoints import endpoints_of
from trading.exchange.bybit.exchange import BybitExchange
from trading.exchange.bybit.rest import BybitRest
from trading.exchange.simulated.market import FileFeed, FollowedPace, Market, SimulatedClock
from trading.exchange.simulated.memory import MemoryExchange
from trading.exchange.simulated.pace import WirePace
from trading.exchange.simulated.venue import Venue
from trading.exchange.simulated.wire.server import WireServer
from trading.model import (
    AccountSnapshot,
    CandleSeries,
    ExchangeOrder,
    Execution,
    ExitReason,
    Instrument,
    OrderSide,
    PlaceOrder,
    Purpose,
    millis,
)
from trading.orders import OrderState
from trading.parameters import TradeRules
from trading.portfolio import Book
from trading.ports import BarsClosed, Brief, Deliberation, FeedEnded, Inbound, Witness
from trading.reconcile import diff
from trading.risk import Approved
from trading.signals import Reading, RollingWindow, WholeSeries
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters
from trading.trader import Looks, QueueInbox, load_book

ETH = "ETHUSDT"
RULES = {BTC: instrument(), ETH: instrument(ETH)}
TARGETS = TradeRules(entry_offset=0.0, trail_start_r=0.0, take_profit_r=3.0, runaway_r=100.0, entry_ttl_bars=6)
ENTERED: Row = (1000, 1002, 998, 1000)
ABOVE: Row = (1000, 1001, 1000, 1000)  # touches an entry at 1000 and does not fill it
UP: Row = (1000, 1012, 999, 1010)
DOWN: Row = (1000, 1001, 988, 990)
HIGH: Row = (1010, 1012, 1005, 1010)

Asks = Mapping[int, Sequence[Request]]


def panic(command: str = "c1") -> ev.Panic:
    """/panic."""
    return ev.Panic(by="ann", command=command)


def stop(command: str = "c1") -> ev.StopEntries:
    """/stop."""
    return ev.StopEntries(by="ann", command=command)


def close(share: str = "1", symbol: str = BTC, command: str = "c1") -> ev.ClosePosition:
    """/close."""
    return ev.ClosePosition(symbol=symbol, share=Decimal(share), by="ann", command=command)


def breakeven(symbol: str = BTC, command: str = "c1") -> ev.MoveToBreakeven:
    """/breakeven."""
    return ev.MoveToBreakeven(symbol=symbol, by="ann", command=command)


def cancel(symbol: str = BTC, command: str = "c1") -> ev.CancelEntry:
    """/cancel."""
    return ev.CancelEntry(symbol=symbol, by="ann", command=command)


def change(command: str = "c1", **values: float) -> ev.ChangeSettings:
    """/set."""
    return ev.ChangeSettings(values=values, by="ann", command=command)


def mute(*symbols: str, command: str = "c1") -> ev.ChangeSymbols:
    """/symbols."""
    return ev.ChangeSymbols(muted=symbols, by="ann", command=command)


def reconcile(by: str = "ann", command: str = "c1") -> ev.Reconcile:
    """/health asks, or the scheduler."""
    return ev.Reconcile(by=by, command=command)


class Chat(QueueInbox):
    """Delivers what is asked at a row right after that row's close, three times each."""

    def __init__(self, asks: Asks, times: int = 3) -> None:
        super().__init__()
        self._asks = asks
        self._times = times

    def put(self, item: Inbound) -> None:
        """Queue it, and what is asked then."""
        super().put(item)
        if isinstance(item, BarsClosed):
            row = (item.close_time - START) // FOUR_HOURS - 1
            for request in self._asks.get(row, ()):
                for _ in range(self._times):
                    super().put(request)


def named(request: Request) -> str:
    """For the name of a test."""
    return type(request).__name__


def all_of(asks: Asks) -> list[Request]:
    """Every request."""
    return [request for row in sorted(asks) for request in asks[row]]


async def ended(world: World) -> Counter[str]:
    """How many events carry each command."""
    events = await world.events()
    return Counter(command for event in events if (command := getattr(event, "command", "")))


async def life(world: World, asks: Asks, **parts: Any) -> Session:
    """One life: started, asked again for what has not ended, traded to the end of the bars."""
    clock = parts.pop("clock", None) or MarketClock(haste=1000)
    session = await Session.begin(world, inbox=Chat(asks), clock=clock, **parts)
    await session.start()
    now, done = session.clock.now(), await ended(world)
    for row in sorted(asks):
        if START + (row + 1) * FOUR_HOURS <= now:
            for request in asks[row]:
                for _ in range(0 if done[request.command] else 3):
                    session.trader.submit(request)
    trading = asyncio.create_task(session.trader.run())  # before the market moves on
    walking = asyncio.create_task(session.market.run())
    try:
        await asyncio.wait({trading, walking}, return_when=asyncio.FIRST_COMPLETED)
        if walking.done():
            await walking
        await trading
    finally:
        for task in (trading, walking):
            task.cancel()
        await asyncio.gather(trading, walking, return_exceptions=True)
    return session


async def asked(stage: Stage, asks: Asks, **parts: Any) -> tuple[World, Session]:
    """A world in which one life was asked all of this."""
    world = World.of(stage)
    return world, await life(world, asks, **parts)


async def assert_whole(world: World, asks: Asks) -> None:
    """One event for each request, a book that is the exchange's, every execution booked and no order twice."""
    count = await ended(world)
    assert {request.command: count[request.command] for request in all_of(asks)} == {
        request.command: 1 for request in all_of(asks)
    }
    book, _ = await load_book(world.journal, Decimal(10000))
    assert book.cash == world.venue.cash
    held = {symbol: (position.side, position.qty) for symbol, position in world.venue.positions.items()}
    assert {symbol: (holding.side, holding.qty) for symbol, holding in book.holdings.items()} == held
    assert set(book.working) == {each.link_id for each in world.orders()}
    assert not set(book.progress), "something that has ended is still remembered"
    told = [one.exec_id for one in world.executions() if not one.funding]
    assert sorted(told) == sorted(fill.exec_id for fill in await world.fills())
    links = Counter(intent.link_id for intent in await world.intents())
    assert set(links.values()) <= {1}
    assert {one.link_id for one in world.executions() if one.link_id} <= set(links)


async def the_end(world: World, command: str = "c1") -> ev.CommandDone:
    """The one end of a request."""
    (found,) = [done for done in await world.said(ev.CommandDone) if done.command == command]
    assert isinstance(found, ev.CommandDone)
    return found


def one_symbol(rows: list[Row], side: int = 1, rules: TradeRules = TARGETS, **more: Any) -> Stage:
    """An edge at row 1: a position of 5 at 1000 from row 2 on, where the rows fill it."""
    series = series_of(rows)
    return Stage(series=[series], said=script({1: reading(side)}, series), rules=rules, **more)


def two_symbols(bars: int = 9, rules: TradeRules = TARGETS) -> Stage:
    """From row 3 on: a long of 5 BTCUSDT with its take profit, and an entry for 5 ETHUSDT that rests."""
    btc = series_of([FLAT, FLAT, ENTERED, *[HIGH] * (bars - 3)])
    eth = series_of([FLAT, FLAT, *[ABOVE] * (bars - 2)], symbol=ETH)
    said = script({1: reading(1)}, btc) | script({2: reading(1)}, eth)
    return Stage(series=[btc, eth], said=said, rules=rules, terms=NO_FEES, instruments=RULES)


HELD = [FLAT, FLAT, ENTERED, UP, UP, UP, UP]


# ---- stop ----------------------------------------------------------------------------------------


async def test_stop_cancels_what_rests_and_leaves_positions_alone() -> None:
    """Paused first, the entry cancelled, the position and its take profit as before; told once."""
    asks = {3: [stop()]}
    world, session = await asked(two_symbols(), asks)
    done = await the_end(world)
    assert (done.name, done.done, done.by) == ("stop", True, "ann")
    assert done.found == ("cancelled: ETHUSDT entry, Buy 5 at 1,000",)
    (cancelled,) = await world.said(ev.OrderCancelled)
    assert (cancelled.symbol, cancelled.reason, cancelled.request) == (ETH, "manual", "c1")
    paused, *_ = await world.said(ev.TradingPaused)
    assert (paused.command, paused.by) == ("c1:pause", "ann")
    events = await world.events()
    assert events.index(paused) < events.index(cancelled) < events.index(done)
    assert session.desk.book.paused
    assert [each.purpose for each in session.desk.book.working.values()] == [Purpose.TAKE_PROFIT]
    await assert_whole(world, asks)


async def test_stop_with_nothing_resting_says_so() -> None:
    """A pause all the same."""
    world, session = await asked(one_symbol([FLAT] * 4), {0: [stop()]})
    assert (await the_end(world)).found == ("no entry was resting",)
    assert session.desk.book.paused


class Late(BadLine):
    """A line on which a resting entry fills just before its cancel arrives."""

    async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """The price went through it a moment ago."""
        venue = self.exchange._venue
        candle = series_of([(1000, 1000, 990, 995)], symbol=symbol).candle(0)
        venue.begin_bar(symbol, venue.now, FOUR_HOURS, candle.open)
        venue._match_limits(candle, reduce_only=False)
        venue.commit()
        return await super().cancel(symbol, link_id)


async def test_stop_says_when_an_entry_filled_first() -> None:
    """The fill came first: the position is booked, with its stop."""
    world, session = await asked(one_symbol([FLAT, FLAT, *[ABOVE] * 4]), {2: [stop()]}, broker=Late)
    assert (await the_end(world)).found == ("BTCUSDT: the entry filled first, the position keeps its stop",)
    assert session.desk.book.holdings[BTC].stop == 980
    assert await world.said(ev.OrderCancelled) == []


async def test_nothing_is_entered_after_a_stop() -> None:
    """The edge of the very close that follows is refused by the pause."""
    series = series_of([FLAT] * 6)
    stage = Stage(series=[series], said=script({3: reading(1)}, series), rules=TARGETS)
    world, _ = await asked(stage, {2: [stop()]})
    (verdict,) = await world.said(ev.VerdictReached)
    assert (verdict.approved, verdict.gate) == (False, "guard")


# ---- panic ---------------------------------------------------------------------------------------


async def test_panic_cancels_closes_and_proves_it() -> None:
    """Entry and take profit cancelled, the position closed at the next open, the exchange asked afterwards."""
    asks = {3: [panic()]}
    world, session = await asked(two_symbols(), asks)
    done = await the_end(world)
    assert (done.name, done.done) == ("panic", True)
    assert done.found == (
        "cancelled: BTCUSDT take profit, Sell 5 at 1,060",
        "cancelled: ETHUSDT entry, Buy 5 at 1,000",
        "closed 5 of BTCUSDT at 1,010, +50.00 USDT",
        "asked the exchange at 20:00:00 UTC: 0 positions, 0 orders",
    )
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.exit_time) == (ExitReason.MANUAL, START + 4 * FOUR_HOURS)
    assert session.desk.book.paused
    assert session.desk.stopping == ""
    assert {each.reason for each in await world.said(ev.OrderCancelled)} == {"manual"}
    await assert_whole(world, asks)


async def test_panic_with_nothing_open_is_proven_at_once() -> None:
    """The proof is asked for all the same."""
    world, session = await asked(one_symbol([FLAT] * 4), {0: [panic()]})
    done = await the_end(world)
    assert done.found == (f"asked the exchange at {done.at:%H:%M:%S} UTC: 0 positions, 0 orders",)
    assert session.desk.book.paused


async def test_two_panics_have_two_ends_and_one_exit() -> None:
    """The second waits for the first and asks the exchange itself."""
    asks = {3: [panic("c1"), panic("c2")]}
    world, _ = await asked(two_symbols(), asks)
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert [intent.request for intent in exits] == ["c1"]
    assert (await the_end(world, "c2")).found == (
        "BTCUSDT: closed by another order first",
        "asked the exchange at 20:00:00 UTC: 0 positions, 0 orders",
    )
    await assert_whole(world, asks)


async def test_what_was_opened_under_another_configuration_is_closed_too() -> None:
    """No trading rules are known for its symbol any more; a share of it or its stop are left alone."""
    btc, eth = series_of([FLAT] * 12), series_of([FLAT, FLAT, ENTERED, HIGH, HIGH], symbol=ETH)
    before = Stage(series=[btc.between(0, 5), eth], said=script({1: reading(1)}, eth), rules=TARGETS, instruments=RULES)
    world = World.of(before)
    await life(world, {})
    assert world.venue.positions.keys() == {ETH}
    world.stage = Stage(series=[btc], rules=TARGETS, instruments={BTC: instrument()})
    world.venue._bars_open.add(ETH)  # its market goes on elsewhere
    asks: Asks = {7: [close("0.5", ETH, "c0"), breakeven(ETH, "c1"), panic("c2")]}
    await life(world, asks)
    why = "ETHUSDT is not traded any more: "
    assert (await the_end(world, "c0")).found == (f"{why}it can only be closed whole",)
    assert (await the_end(world, "c1")).found == (f"{why}its stop stays at 980",)
    assert (await the_end(world, "c2")).found[1] == "closed 5 of ETHUSDT at 1,010, +50.00 USDT"
    await assert_whole(world, asks)


class Strangers(Chat):
    """Before a request is heard, somebody else trades on the same account."""

    def put(self, item: Inbound) -> None:
        """Somebody else is quicker."""
        if isinstance(item, BarsClosed) and item.close_time == START + 4 * FOUR_HOURS:
            self.venue.place(order(OrderSide.SELL, "3", symbol=ETH, link="theirs"))
            self.venue.place(order(OrderSide.BUY, "1", price="900", symbol=ETH, link="rests"))
        super().put(item)

    venue: Venue


async def test_panic_leaves_what_is_not_ours_alone_and_names_it() -> None:
    """A foreign position and a foreign order are still there, and stand in the proof."""
    btc = series_of([FLAT, FLAT, ENTERED, *[UP] * 8])
    eth = series_of([ABOVE] * 11, symbol=ETH)
    stage = Stage(
        series=[btc, eth], said=script({1: reading(1)}, btc), rules=TARGETS, terms=NO_FEES, instruments=RULES
    )
    world = World.of(stage)
    inbox = Strangers({3: [panic()]})
    inbox.venue = world.venue
    session = await Session.begin(world, inbox=inbox, clock=MarketClock(haste=1000))
    await session.run()
    found = (await the_end(world)).found
    assert found[-3:] == (
        "asked the exchange at 00:00:00 UTC: 0 positions, 0 orders of ours",
        "left alone, not ours: short 3 ETHUSDT",
        "left alone, not ours: an order, Buy 1 ETHUSDT",
    )
    assert world.venue.positions.keys() == {ETH}
    assert [each.link_id for each in world.orders()] == ["rests"]


class Refusing(BadLine):
    """An exchange that refuses so many exits."""

    refuses: int = 0

    async def place(self, placed: Approved[PlaceOrder]) -> str:
        """No, no, no."""
        if placed.order.purpose is Purpose.EXIT and self.refuses > 0:
            self.refuses -= 1
            self.faults = {"place": [Fault.REFUSE]}
        return await super().place(placed)


def refusing(times: int) -> Any:
    """Such an exchange."""

    def line(exchange: MemoryExchange) -> Refusing:
        one = Refusing(exchange)
        one.refuses = times
        return one

    return line


async def test_a_refused_close_is_tried_again_and_told_after_three() -> None:
    """Five refusals, a new id each time, one alert, and in the end it is flat."""
    asks = {3: [panic()]}
    world, _ = await asked(two_symbols(bars=16), asks, broker=refusing(5))
    assert (await the_end(world)).done
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert len({intent.link_id for intent in exits}) == len(exits) == 6
    assert len(await world.said(ev.OrderRefused)) == 5
    (alert,) = await world.said(ev.AlertRaised)
    assert (alert.kind, "refuses to close BTCUSDT" in alert.text) == ("panic", True)
    assert world.venue.positions == {}
    await assert_whole(world, asks)


async def test_the_strategy_stays_out_of_the_way_of_a_panic() -> None:
    """Between two refused attempts no take profit is placed, and nothing is entered even after a resume."""
    btc, eth = series_of([FLAT, FLAT, ENTERED, *[UP] * 9]), series_of([FLAT] * 12, symbol=ETH)
    said = script({1: reading(1)}, btc) | script({5: reading(1)}, eth)
    stage = Stage(series=[btc, eth], said=said, rules=TARGETS, instruments=RULES)
    resumed = ev.ResumeTrading(by="ann", command="c2")
    world, _ = await asked(stage, {3: [panic()], 4: [resumed]}, broker=refusing(4))
    targets = [intent for intent in await world.intents() if intent.purpose is Purpose.TAKE_PROFIT]
    assert len(targets) == 1
    assert (await the_end(world)).done
    assert [(edge.symbol, edge.reason) for edge in await world.said(ev.EdgeDropped)] == [(ETH, "stopping")]


async def test_a_take_profit_in_doubt_is_not_sent_again_into_a_panic() -> None:
    """It never arrived, and nobody wants it any more, though the position is still there."""
    tried: list[str] = []

    class Lost(Refusing):
        async def place(self, placed: Approved[PlaceOrder]) -> str:
            if placed.order.purpose is Purpose.TAKE_PROFIT:
                tried.append(placed.order.link_id)
                raise OutcomeUnknown("place: no reply")
            return await super().place(placed)

    def line(exchange: MemoryExchange) -> Lost:
        one = Lost(exchange)
        one.refuses = 2
        return one

    asks = {2: [panic()]}
    world, _ = await asked(one_symbol([FLAT, FLAT, ENTERED, *[HIGH] * 8]), asks, broker=line)
    assert len(tried) == 1
    assert (await the_end(world)).done
    await assert_whole(world, asks)


@dataclass(slots=True)
class Outage(BadLine):
    """An exchange that does not answer from the close of one row up to that of another."""

    first: int = 0
    last: int = 0

    def _fault(self, method: str) -> Fault:
        row = (self.exchange._venue.now - START) // FOUR_HOURS - 1
        return Fault.DOWN if self.first <= row < self.last else Fault.NONE


class NoCancels(Outage):
    """Only cancelling does not work for a while."""

    def _fault(self, method: str) -> Fault:
        return Outage._fault(self, method) if method == "cancel" else Fault.NONE


async def test_a_cancel_that_fails_does_not_hold_up_a_close() -> None:
    """The position is closed at the next open; the cancel is done when it can be."""
    asks = {3: [panic()]}
    world, _ = await asked(two_symbols(bars=14), asks, broker=partial(NoCancels, first=3, last=7))
    (trade,) = await world.trades()
    assert trade.exit_time == START + 4 * FOUR_HOURS
    assert (await the_end(world)).at >= START + 8 * FOUR_HOURS
    await assert_whole(world, asks)


@pytest.mark.parametrize("request_", [panic(), stop(), close(), cancel(ETH)], ids=named)
async def test_an_exchange_that_is_away_is_waited_for(request_: Request) -> None:
    """Nothing is lost, the owner hears once that it is away, and what was asked is done when it is back."""
    asks = {3: [request_]}
    stage = two_symbols(bars=14, rules=replace(TARGETS, entry_ttl_bars=20))
    world, session = await asked(stage, asks, broker=partial(Outage, first=3, last=7))
    done = await the_end(world)
    assert done.done
    assert done.at >= START + 8 * FOUR_HOURS
    assert [alert.text for alert in await world.said(ev.AlertRaised)].count(UNREACHABLE) == 1
    gone = {"panic": {BTC, ETH}, "stop": {ETH}, "close": {BTC}, "cancel": {ETH}}[done.name]
    kept = {"panic": set(), "stop": {BTC}, "close": {ETH}, "cancel": {BTC}}[done.name]
    assert session.desk.book.holdings.keys() | {each.symbol for each in session.desk.book.working.values()} == kept
    assert gone.isdisjoint(kept)
    await assert_whole(world, asks)


class Thin(BadLine):
    """A thin book: an exit at the market gets half of what it asks for while that is much, the rest is cancelled."""

    asked: dict[str, Decimal]

    async def place(self, placed: Approved[PlaceOrder]) -> str:
        """Half of it."""
        known, wanted = self.exchange, placed.order
        if wanted.purpose is not Purpose.EXIT:
            return await known.place(placed)
        half = (wanted.qty / 2).quantize(Decimal("0.001")) if wanted.qty > Decimal("0.3") else wanted.qty
        self.asked = {**getattr(self, "asked", {}), wanted.link_id: wanted.qty}
        smaller = object.__new__(Approved)
        smaller.order = replace(wanted, qty=half)
        return await known.place(smaller)

    async def find(self, symbol: str, link_id: str) -> ExchangeOrder | None:
        """As the exchange tells of an order of which the rest was cancelled."""
        known = await self.exchange.find(symbol, link_id)
        if known is None or known.open or link_id not in getattr(self, "asked", {}):
            return known
        qty = self.asked[link_id]
        return replace(known, qty=qty, status="Cancelled" if known.filled < qty else known.status)


@pytest.mark.parametrize("request_", [panic(), close(), close("0.5")], ids=["panic", "close", "half"])
async def test_what_is_filled_in_part_is_closed_to_the_end(request_: Request) -> None:
    """The rest goes out under the next id, never more than was asked for."""
    asks = {3: [request_]}
    world, session = await asked(two_symbols(bars=26), asks, broker=Thin)
    done = await the_end(world)
    assert done.done
    left = Decimal("2.5") if request_ == close("0.5") else Decimal(0)
    assert sum((position.qty for position in world.venue.positions.values()), Decimal(0)) == left
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert len(exits) >= 5
    assert any(line.startswith(f"closed {5 - left} of BTCUSDT") for line in done.found)
    await assert_whole(world, asks)
    assert session.desk.book.progress == {}


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN])
@pytest.mark.parametrize("request_", [panic(), close()], ids=["panic", "close"])
async def test_an_exit_in_doubt_is_asked_for_before_it_is_sent_again(request_: Request, fault: Fault) -> None:
    """One order, one id, whatever was lost."""
    asks = {3: [request_]}
    line: list[BadLine] = []

    def bad(exchange: MemoryExchange) -> BadLine:
        line.append(BadLine(exchange, {"place": [*[Fault.NONE] * 3, fault]}))
        return line[0]

    world, _ = await asked(two_symbols(bars=12), asks, broker=bad)
    assert (await the_end(world)).done
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert len(exits) == 1
    assert len(await world.said(ev.OrderDoubted)) == 1
    assert [fill.link_id for fill in await world.fills() if fill.purpose is Purpose.EXIT] == [exits[0].link_id]
    await assert_whole(world, asks)


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN, Fault.REFUSE])
async def test_a_cancel_that_fails_is_repeated(fault: Fault) -> None:
    """Whatever one cancel comes to, both orders are gone in the end and the position with them."""
    asks = {3: [panic()]}
    world, _ = await asked(two_symbols(bars=12), asks, broker=partial(BadLine, faults={"cancel": [fault, fault]}))
    assert (await the_end(world)).done
    assert (world.orders(), world.venue.positions) == ([], {})
    await assert_whole(world, asks)


async def test_an_order_thought_dead_is_cancelled_before_anything_is_proven() -> None:
    """It arrived after all, after everybody had stopped asking: it is ours, and goes."""
    world = World.of(one_symbol([FLAT, FLAT, *[ABOVE] * 8]))
    session = await Session.begin(world, inbox=Chat({4: [panic()]}), clock=MarketClock(haste=1000))
    revived: list[str] = []

    def revive(event: ev.Event) -> None:
        if isinstance(event, ev.OrderCancelled) and event.request and not revived:
            dead = session.desk.book.order(event.link_id)
            revived.append(event.link_id)
            assert dead is not None
            live = world.venue.place(order(OrderSide.BUY, "5", price="1000", link="again", stop="980"))
            live.asked = replace(live.asked, link_id=event.link_id)

    world.journal.listen(revive)
    await session.run()
    assert (await the_end(world)).done
    assert (await the_end(world)).found[-1].endswith(": 0 positions, 0 orders")
    assert (world.orders(), len(revived)) == ([], 1)


async def test_nothing_is_proven_while_an_order_is_in_doubt() -> None:
    """The entry exists and cannot be seen yet: the exchange shows nothing open, and that is no proof."""

    class Hidden(BadLine):
        async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
            if self.unseen:
                raise Rejected("order not exists or too late to cancel", code=110001)
            return await super().cancel(symbol, link_id)

    world, inbox = World.of(one_symbol([FLAT, FLAT, *[ABOVE] * 8])), QueueInbox()
    world.journal.listen(partial(proven, world))
    world.journal.listen(lambda event: inbox.put(panic()) if isinstance(event, ev.OrderDoubted) else None)
    line = partial(Hidden, faults={"place": [Fault.LOSE_REPLY]}, unseen=2)
    session = await Session.begin(world, inbox=inbox, broker=line, clock=MarketClock(haste=1000))
    await session.run()
    assert (await the_end(world)).found[0] == "cancelled: BTCUSDT entry, Buy 5 at 1,000"
    await assert_whole(world, {1: [panic()]})


async def test_of_two_panics_one_acts() -> None:
    """Refused again and again, the attempts are those of one."""
    asks = {3: [panic("c1"), panic("c2")]}
    world, _ = await asked(two_symbols(bars=16), asks, broker=refusing(4))
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert [intent.request for intent in exits] == ["c1"] * 5
    await assert_whole(world, asks)


# ---- close ---------------------------------------------------------------------------------------


async def test_close_says_what_it_brought() -> None:
    """The whole position, at the next open, with the net result of the trade."""
    asks = {3: [close()]}
    world, session = await asked(one_symbol([FLAT, FLAT, ENTERED, UP, (1010, 1011, 1005, 1006), FLAT]), asks)
    done = await the_end(world)
    assert (done.name, done.done) == ("close", True)
    assert done.found == ("closed 5 of BTCUSDT at 1,010, +50.00 USDT",)
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.pnl) == (ExitReason.MANUAL, Decimal(50))
    assert not session.desk.book.paused
    await assert_whole(world, asks)


@pytest.mark.parametrize(
    ("share", "line"),
    [("1", "closed 5 of BTCUSDT at 1,009, +41.43 USDT"), ("0.25", "closed 1.25 of BTCUSDT at 1,009, +10.61 USDT")],
)
async def test_what_a_close_brought_is_after_costs(share: str, line: str) -> None:
    """The whole trade after all its fees (44.95 - 2.52 - 1); a part after its own alone (11.24 - 0.63)."""
    world, _ = await asked(one_symbol([FLAT, FLAT, ENTERED, *[HIGH] * 3], terms=FEES), {3: [close(share)]})
    assert (await the_end(world)).found[0] == line


async def test_a_part_leaves_the_rest_with_its_stop() -> None:
    """Floored to a step; what is left and its stop are named; the trade goes on."""
    asks = {3: [close("0.25")]}
    world, session = await asked(one_symbol([*HELD[:4], (1010, 1011, 1005, 1006), UP, UP]), asks)
    assert (await the_end(world)).found == (
        "closed 1.25 of BTCUSDT at 1,010, +12.50 USDT",
        "3.75 is left, its stop is 980",
    )
    assert session.desk.book.holdings[BTC].qty == Decimal("3.75")
    assert await world.trades() == []
    await assert_whole(world, asks)


async def test_a_rest_that_is_too_small_goes_with_it() -> None:
    """Said so."""
    coarse = {BTC: instrument(step="1", least="3")}
    asks = {3: [close("0.75")]}
    world, _ = await asked(one_symbol([*HELD, UP], instruments=coarse), asks)
    assert (await the_end(world)).found == (
        "closed 5 of BTCUSDT at 1,000, +0.00 USDT",
        "all of it: the rest would have been less than 3, the least quantity",
    )
    await assert_whole(world, asks)


async def test_closing_all_of_it_takes_the_rest_of_its_entry_too() -> None:
    """The entry has filled in part: what still rests would open the position again."""
    world = World.of(one_symbol([FLAT, FLAT, *[ABOVE] * 6]))

    def fill(event: ev.Event) -> None:
        if isinstance(event, ev.EquityMarked) and event.at == START + 3 * FOUR_HOURS:
            (entry,) = world.venue.orders.values()
            entry.status = "PartiallyFilled"
            world.venue._account.fill(entry, Decimal(2), Decimal(1000), event.at, maker=True)
            world.venue.commit()

    world.journal.listen(fill)
    asks = {3: [close()]}
    await life(world, asks)
    assert (await the_end(world)).found == (
        "cancelled: BTCUSDT entry, Buy 5 at 1,000; 2 of it had filled",
        "closed 2 of BTCUSDT at 1,000, +0.00 USDT",
    )
    assert (world.orders(), world.venue.positions) == ([], {})
    await assert_whole(world, asks)


class Mute(MemoryJournal):
    """A journal whose program dies as it wants to say that a request has ended."""

    async def append(self, events: Sequence[ev.Event]) -> int:
        """Die, or commit."""
        if any(isinstance(event, ev.CommandDone) for event in events):
            raise Died
        return await super().append(events)


async def test_a_close_delivered_again_late_leaves_the_next_position_alone() -> None:
    """Killed between fill and end; when the request comes again the strategy holds another position."""
    series = series_of([FLAT, FLAT, ENTERED, HIGH, HIGH, FLAT, ENTERED, *[HIGH] * 5])
    stage = Stage(series=[series], said=script({1: reading(1), 5: reading(1)}, series), rules=TARGETS)
    world = World.of(stage)
    world.journal = Mute(keep=None)
    with pytest.raises(Died):
        await life(world, {3: [close()]})
    journal = MemoryJournal(keep=None)
    await journal.append(await world.events())
    world.journal = journal
    asks = {9: [close()]}
    await life(world, asks)
    assert (await the_end(world)).found == ("closed 5 of BTCUSDT at 1,010, +50.00 USDT",)
    assert world.venue.positions.keys() == {BTC}
    assert len(await world.trades()) == 1
    await assert_whole(world, asks)


REFUSALS = {
    "nothing open": (close(), FLAT, "no position is open on BTCUSDT"),
    "resting": (close(), ABOVE, "no position is open on BTCUSDT, an entry rests: /cancel BTCUSDT"),
    "not known": (close(symbol="DOGEUSDT"), ENTERED, "no position is open on DOGEUSDT"),
    "no share": (close("0"), ENTERED, "a share of 0 cannot be closed: it must be above 0 and at most 1"),
    "too much": (close("1.5"), ENTERED, "a share of 1.5 cannot be closed: it must be above 0 and at most 1"),
    "too little": (close("0.0001"), ENTERED, "0.01% of 5 BTCUSDT is less than 0.001, the least quantity"),
}


@pytest.mark.parametrize("case", list(REFUSALS))
async def test_a_close_that_cannot_be_is_refused_with_its_reason(case: str) -> None:
    """Once, and nothing is sent."""
    request, row, why = REFUSALS[case]
    side, after = (0 if row == FLAT else 1), (UP if row == ENTERED else ABOVE)
    asks = {3: [request]}
    world, _ = await asked(one_symbol([FLAT, FLAT, row, after, after], side), asks)
    done = await the_end(world)
    assert (done.done, done.found) == (False, (why,))
    assert [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT] == []
    await assert_whole(world, asks)


async def test_a_close_while_the_strategy_leaves_is_refused() -> None:
    """Its exit was decided at that very close: one order is enough."""
    series = series_of(HELD)
    said = script({1: reading(1), 3: reading(leave=True)}, series)
    world, _ = await asked(Stage(series=[series], said=said, rules=TARGETS), {3: [close()]})
    assert (await the_end(world)).found == ("BTCUSDT is being closed already (signal)",)
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert [intent.request for intent in exits] == [""]


class Slow(BadLine):
    """An exchange whose exits lie in its books for a while before they fill."""

    async def place(self, placed: Approved[PlaceOrder]) -> str:
        """The open of the next bar passes without it."""
        order_id = await super().place(placed)
        if placed.order.purpose is Purpose.EXIT:
            live = self.exchange._venue.orders[order_id]
            live.status, self.slow = "Waiting", [live, 2]
        return order_id

    async def snapshot(self, *, cash: bool = True) -> AccountSnapshot:
        """Once for each close that passes."""
        if slow := getattr(self, "slow", None):
            slow[1] -= 1
            slow[0].status = "Waiting" if slow[1] else "New"
            self.slow = slow if slow[1] else None
        found = await super().snapshot(cash=cash)
        return replace(found, orders=tuple(replace(one, status="New") for one in found.orders))

    slow: Any = None


async def test_a_close_in_progress_keeps_the_strategy_from_a_second_exit() -> None:
    """The strategy wants out too while our order is on its way: there is one exit."""
    series = series_of([*HELD, UP, UP])
    said = script({1: reading(1), 4: reading(leave=True), 5: reading(leave=True)}, series)
    asks = {3: [close()]}
    world, _ = await asked(Stage(series=[series], said=said, rules=TARGETS), asks, broker=Slow)
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert [intent.request for intent in exits] == ["c1"]
    assert (await the_end(world)).done
    await assert_whole(world, asks)


async def test_a_close_refused_three_times_ends_so() -> None:
    """With the exchange's reason; the position and its stop are as before."""
    asks = {3: [close()]}
    world, session = await asked(one_symbol([*HELD, *[UP] * 6]), asks, broker=refusing(99))
    done = await the_end(world)
    assert not done.done
    assert done.found == ("the exchange refuses to close BTCUSDT: place: refused", "5 is left, its stop is 980")
    assert session.desk.book.holdings[BTC].stop == 980
    assert len(await world.said(ev.OrderRefused)) == 3
    await assert_whole(world, asks)


async def test_a_close_that_the_stop_forestalls_says_so() -> None:
    """The stop is hit in the bar in which the refused close waits for its second attempt."""
    rows: list[Row] = [FLAT, FLAT, ENTERED, UP, (1000, 1001, 970, 975), UP, UP, UP]
    world, _ = await asked(one_symbol(rows), {3: [close()]}, broker=refusing(1))
    done = await the_end(world)
    assert (done.done, done.found) == (False, ("BTCUSDT was closed by another order first",))
    (trade,) = await world.trades()
    assert trade.exit_reason is ExitReason.STOP


# ---- break-even ----------------------------------------------------------------------------------



@pytest.mark.parametrize(("side", "row"), [(1, UP), (-1, DOWN)], ids=["long", "short"])
async def test_the_stop_goes_to_the_entry_price(side: int, row: Row) -> None:
    """Moved on the exchange, written down, told with both prices."""
    asks = {3: [breakeven()]}
    world, session = await asked(one_symbol([FLAT, FLAT, ENTERED, row, row, row], side), asks)
    done = await the_end(world)
    old = "980" if side > 0 else "1,020"
    assert (done.name, done.done) == ("breakeven", True)
    assert done.found == (f"the stop of BTCUSDT was {old} and is at its entry price, 1,000",)
    (moved,) = await world.said(ev.StopMoved)
    assert (moved.new, moved.locked_r, moved.level_r) == (1000, 0.0, 0.0)
    assert session.desk.book.holdings == {} or world.venue.positions[BTC].stop == 1000


@pytest.mark.parametrize(("side", "stop_at"), [(1, "1000.2"), (-1, "1000.0")], ids=["long", "short"])
async def test_the_entry_price_is_rounded_to_the_side_that_does_not_lose(side: int, stop_at: str) -> None:
    """An average between two ticks: up for a long, down for a short."""
    row = UP if side > 0 else DOWN
    world = World.of(one_symbol([FLAT, FLAT, ENTERED, row], side, instruments={BTC: instrument(tick="0.2")}))
    session = await life(world, {})
    session.desk.book.holdings[BTC].entry_price = Decimal("1000.13")
    session.trader.submit(breakeven())
    session.inbox.put(FeedEnded())
    await session.trader.run()
    assert world.venue.positions[BTC].stop == Decimal(stop_at)


async def test_a_stop_is_never_loosened() -> None:
    """It trails above the entry already: refused with both prices."""
    rows: list[Row] = [FLAT, FLAT, ENTERED, (1000, 1050, 999, 1048), *[(1048, 1049, 1046, 1048)] * 3]
    rules = TradeRules(entry_offset=0.0, runaway_r=100.0)
    world, session = await asked(one_symbol(rows, rules=rules), {4: [breakeven()]})
    done = await the_end(world)
    assert (done.done, done.found) == (
        False,
        ("the stop of BTCUSDT stays: 1,020 is better than the entry price 1,000, and a stop is never loosened",),
    )
    assert session.desk.book.holdings[BTC].stop == 1020


async def test_a_stop_that_would_trigger_at_once_is_refused() -> None:
    """The price is at the entry, not beyond it."""
    world, session = await asked(one_symbol([FLAT, FLAT, ENTERED, ENTERED, ENTERED]), {3: [breakeven()]})
    done = await the_end(world)
    why = "the last price 1,000 is not above the entry price 1,000, it would trigger at once"
    assert (done.done, done.found) == (False, (f"the stop of BTCUSDT stays at 980: {why}",))
    assert session.desk.book.holdings[BTC].stop == 980


async def test_breakeven_of_nothing_is_refused() -> None:
    """No position."""
    world, _ = await asked(one_symbol([FLAT] * 4, 0), {1: [breakeven()]})
    assert (await the_end(world)).found == ("no position is open on BTCUSDT",)


async def test_breakeven_while_it_is_being_closed_is_refused() -> None:
    """The exit is on its way."""
    asks: Asks = {3: [close(command="c0"), breakeven()]}
    world, _ = await asked(one_symbol(HELD), asks)
    assert (await the_end(world)).found == ("BTCUSDT is being closed already: its stop stays at 980",)
    await assert_whole(world, asks)


async def test_breakeven_that_the_exchange_refuses_keeps_the_stop() -> None:
    """With its reason."""
    line = partial(BadLine, faults={"move_stop": [Fault.REFUSE]})
    world, session = await asked(one_symbol(HELD), {3: [breakeven()]}, broker=line)
    done = await the_end(world)
    assert (done.done, done.found) == (
        False,
        ("the exchange refuses the stop 1,000, 980 stays: move_stop: refused",),
    )
    assert session.desk.book.holdings[BTC].stop == 980


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN])
async def test_breakeven_on_a_bad_line_is_done_once_it_is_known(fault: Fault) -> None:
    """Whether the first request arrived or not, the stop is there in the end and told once."""
    asks = {3: [breakeven()]}
    stage = one_symbol([FLAT, FLAT, ENTERED, UP, *[HIGH] * 4])
    world, session = await asked(stage, asks, broker=partial(BadLine, faults={"move_stop": [fault]}))
    assert (await the_end(world)).done
    assert len(await world.said(ev.StopMoved)) == 1
    assert world.venue.positions[BTC].stop == session.desk.book.holdings[BTC].stop == 1000
    await assert_whole(world, asks)


# ---- cancel --------------------------------------------------------------------------------------


async def test_cancel_takes_the_entry_of_that_symbol_alone() -> None:
    """Another symbol's entry rests on; nothing is paused."""
    series = [series_of([FLAT, FLAT, *[ABOVE] * 4], symbol=symbol) for symbol in (BTC, ETH)]
    said = {key: what for one in series for key, what in script({1: reading(1)}, one).items()}
    stage = Stage(series=series, said=said, rules=TARGETS, instruments=RULES)
    asks = {3: [cancel(ETH)]}
    world, session = await asked(stage, asks)
    done = await the_end(world)
    assert (done.name, done.done) == ("cancel", True)
    assert done.found == ("cancelled: ETHUSDT entry, Buy 5 at 1,000",)
    assert [each.symbol for each in session.desk.book.working.values()] == [BTC]
    assert not session.desk.book.paused
    await assert_whole(world, asks)


async def test_cancel_of_nothing_is_refused() -> None:
    """No entry."""
    world, _ = await asked(one_symbol([FLAT] * 4, 0), {1: [cancel()]})
    done = await the_end(world)
    assert (done.done, done.found) == (False, ("no entry is resting on BTCUSDT",))


async def test_cancel_of_an_entry_that_filled_first_says_so() -> None:
    """And how to close it."""
    world, _ = await asked(one_symbol([FLAT, FLAT, *[ABOVE] * 4]), {2: [cancel()]}, broker=Late)
    done = await the_end(world)
    why = "the entry on BTCUSDT filled first: 5 at 1,000; /close BTCUSDT closes it"
    assert (done.done, done.found) == (False, (why,))


async def test_cancel_of_an_entry_in_doubt_waits_until_it_is_known() -> None:
    """It never arrived: it is not sent after all, and that is said."""
    asks = {1: [cancel()]}
    line = partial(BadLine, faults={"place": [Fault.LOSE_REQUEST]})
    world, session = await asked(one_symbol([FLAT, FLAT, *[ABOVE] * 4]), asks, broker=line)
    done = await the_end(world)
    why = "the entry on BTCUSDT has ended by itself: it does not rest any more"
    assert (done.done, done.found) == (False, (why,))
    assert (world.orders(), session.desk.book.working) == ([], {})
    await assert_whole(world, asks)


class Open(Chat):
    """A market that stands still after its last bar instead of ending."""

    def put(self, item: Inbound) -> None:
        """Everything but the end."""
        if not isinstance(item, FeedEnded):
            super().put(item)


async def stands_still(stage: Stage, asks: Asks, **parts: Any) -> World:
    """What is asked is done by timed looks alone; at rest an exchange would be asked twice a minute."""
    world, looks = World.of(stage), Looks(steering=0.01, unclear=0.01)
    session = await Session.begin(world, inbox=Open(asks), looks=looks, **parts)
    running = asyncio.create_task(session.run())
    async with asyncio.timeout(5):
        while len(await world.said(ev.CommandDone)) < len(all_of(asks)):
            await world.journal.grown(len(await world.events()))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await assert_whole(world, asks)
    return world


async def test_an_entry_in_doubt_is_not_sent_again_once_somebody_wants_it_gone() -> None:
    """It would still be fresh: nothing reaches the exchange."""
    lines: list[BadLine] = []

    def line(exchange: MemoryExchange) -> BadLine:
        lines.append(BadLine(exchange, {"place": [Fault.LOSE_REQUEST]}))
        return lines[0]

    world = await stands_still(one_symbol([FLAT, FLAT]), {1: [cancel()]}, broker=line)
    assert lines[0].sent == []
    assert [refused.symbol for refused in await world.said(ev.OrderRefused)] == [BTC]


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN, Fault.REFUSE])
@pytest.mark.parametrize("request_", [stop(), panic(), cancel()], ids=named)
async def test_what_failed_is_tried_again_within_a_second_though_no_bar_closes(request_: Request, fault: Fault) -> None:
    """Looks are frequent while something is under way."""
    line = partial(BadLine, faults={"cancel": [fault, fault]})
    world = await stands_still(one_symbol([FLAT, FLAT, ABOVE]), {2: [request_]}, broker=line)
    assert world.orders() == []


# ---- settings ------------------------------------------------------------------------------------


def retuned(session: Session) -> Retune:
    """Parts as a composition root makes them: rules by name, and the scripted strategy as it stands."""
    ground = session.world.stage.rules

    async def retune(values: Mapping[str, float], mode: str) -> Tuned:
        changes = {name: int(value) if float(value).is_integer() else value for name, value in values.items()}
        if unknown := set(changes) - set(ground.names()):
            raise BadInput(f"{min(unknown)} is no setting that can be changed")
        desk = session.desk
        return Tuned(
            rules=ground.changed(changes),
            terms=desk.terms,
            guards=PageGuards(),
            council=SaysAlways(),
            signals=desk.signals,
            knife_bars=5,
            before=desk.rules.as_dict(),
        )

    return retune


async def test_settings_are_swapped_and_kept() -> None:
    """Old and new values in one event that ends the request; the desk works with them; a restart knows them."""
    asks = {1: [change(cooldown_bars=4, trail_lag_r=0.5)], 2: [change("c2", cooldown_bars=5)]}
    world, session = await asked(one_symbol([FLAT] * 6, 0), asks, retune=retuned)
    first, second = await world.said(ev.SettingsChanged)
    assert (first.values, first.old) == (
        {"cooldown_bars": 4, "trail_lag_r": 0.5},
        {"cooldown_bars": 0, "trail_lag_r": 1.0},
    )
    assert (second.values, second.old) == ({"cooldown_bars": 5}, {"cooldown_bars": 4})
    assert (session.desk.rules.cooldown_bars, session.desk.rules.trail_lag_r, session.desk.knife_bars) == (5, 0.5, 5)
    assert session.trader.status().settings == {"cooldown_bars": 5, "trail_lag_r": 0.5}
    book, _ = await load_book(world.journal, Decimal(10000))
    assert book.settings == {"cooldown_bars": 5, "trail_lag_r": 0.5}
    assert await world.said(ev.CommandDone) == []
    await assert_whole(world, asks)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"cooldown_bars": 4, "nonsense": 1.0}, "nonsense is no setting that can be changed"),
        ({"cooldown_bars": -1.0}, "cooldown_bars must be at least 0 (it is -1)"),
        ({"trail_lag_r": float("nan")}, "trail_lag_r must be a finite number"),
        ({}, "no setting was named"),
    ],
)
async def test_settings_that_cannot_be_change_nothing(values: dict[str, float], why: str) -> None:
    """All of them or none."""
    asks = {1: [ev.ChangeSettings(values=values, by="ann", command="c1")]}
    world, session = await asked(one_symbol([FLAT] * 4, 0), asks, retune=retuned)
    done = await the_end(world)
    assert (done.name, done.done, done.found) == ("set", False, (why,))
    assert session.desk.rules == TARGETS
    assert session.desk.book.settings == {}
    await assert_whole(world, asks)


async def test_settings_leave_who_decides_alone() -> None:
    """The council in use, not one that was chosen in the chat and cannot be, or that the command line has replaced."""
    modes: list[str] = []

    def noted(session: Session) -> Retune:
        inner = retuned(session)

        async def retune(values: Mapping[str, float], mode: str) -> Tuned:
            modes.append(mode)
            return await inner(values, mode)

        return retune

    world, session = await asked(one_symbol([FLAT] * 6, 0), {2: [change(cooldown_bars=4)]}, retune=noted)
    session.desk.book.council = "off"  # as an earlier life left it
    await session.trader._steering.take(change("c2", cooldown_bars=5))
    assert modes == [session.desk.council.mode] * 2
    assert len(await world.said(ev.SettingsChanged)) == 2


async def test_settings_wait_for_an_exchange_that_is_away() -> None:
    """The window of history cannot be had: said so, and nothing has changed."""

    def away(session: Session) -> Retune:
        async def retune(values: Mapping[str, float], mode: str) -> Tuned:
            raise Transient("the exchange cannot be reached")

        return retune

    world, session = await asked(one_symbol([FLAT] * 4, 0), {1: [change(cooldown_bars=4)]}, retune=away)
    assert (await the_end(world)).found == ("the exchange cannot be reached",)
    assert session.desk.book.settings == {}


async def test_a_replay_has_fixed_settings() -> None:
    """No port, no change."""
    world, _ = await asked(one_symbol([FLAT] * 4, 0), {1: [change(cooldown_bars=4)]})
    assert not (await the_end(world)).done


QUICK = EmaTrendParameters(ema_period=10, atr_period=5, bb_period=8)


def walk(bars: int = 260) -> Stage:
    """A random walk for the real strategy."""
    series = random_series(np.random.default_rng(5), bars, wobble=0.01)
    return Stage(series=[series], rules=TradeRules(entry_offset=0.0), terms=COSTLY)


def rolling(strategy: EmaTrend) -> Any:
    """The signals of a running market, beginning with nothing."""

    def make(stage: Stage, book: Book) -> RollingWindow:
        return RollingWindow(strategy, [one.between(0, 0) for one in stage.series])

    return make


def with_history(strategy: EmaTrend, *, short: int = 0) -> Any:
    """A port that makes a new window from the exchange's history, `short` bars short."""

    def port(session: Session) -> Retune:
        async def retune(values: Mapping[str, float], mode: str) -> Tuned:
            desk = session.desk
            last = desk.book.last_close
            known = []
            for symbol in desk.symbols:
                series = await desk.market.history(symbol, RollingWindow.wanted(strategy))
                done = int(np.searchsorted(series.timestamp, millis(last) if last else 0))
                known.append(series.between(0, done - short))
            return Tuned(
                rules=desk.rules,
                terms=desk.terms,
                guards=desk.guards,
                council=desk.council,
                signals=RollingWindow(strategy, known),
                knife_bars=desk.knife_bars,
                before={"atr_period": 5},
            )

        return retune

    return port


async def test_a_change_of_signals_neither_loses_nor_doubles_a_bar() -> None:
    """The same values once more at every third close: the trades are those of a market left alone."""
    strategy, stage = EmaTrend(QUICK), walk()
    left_alone = World.of(stage)
    whole = partial(_whole, strategy)
    await (await Session.begin(left_alone, signals=whole)).run()
    asks = {row: [change(f"c{row}", atr_period=5)] for row in range(20, 250, 3)}
    world, _ = await asked(stage, asks, signals=rolling(strategy), retune=with_history(strategy))
    assert len(await world.trades()) > 5
    assert [(trade.signal_time, trade.pnl) for trade in await world.trades()] == [
        (trade.signal_time, trade.pnl) for trade in await left_alone.trades()
    ]
    assert len(await world.said(ev.SettingsChanged)) == len(asks)


def _whole(strategy: EmaTrend, stage: Stage, book: Book) -> WholeSeries:
    return WholeSeries(strategy, list(stage.series))


async def test_a_history_that_is_a_bar_short_is_refused() -> None:
    """The exchange does not show the last close yet: nothing is changed."""
    strategy = EmaTrend(QUICK)
    parts = {"signals": rolling(strategy), "retune": with_history(strategy, short=1)}
    world, session = await asked(walk(40), {20: [change(atr_period=5)]}, **parts)
    done = await the_end(world)
    assert not done.done
    assert "do not end at the last close" in done.found[0]
    assert session.desk.book.settings == {}


@pytest.mark.parametrize("committed", [False, True])
async def test_a_change_of_settings_killed_at_every_append(committed: bool) -> None:
    """Once in the end, whenever it dies, and the desk of the last life works with it."""
    asks = {1: [change(cooldown_bars=4)]}
    for number in range(1, 9):
        world = World.of(one_symbol([FLAT] * 6, 0))
        journal = MortalJournal(world.journal, number, committed=committed)
        with contextlib.suppress(Died):
            await life(world, asks, journal=journal, retune=retuned)
        session = await life(world, asks, retune=retuned)
        assert session.desk.book.settings == {"cooldown_bars": 4}
        await assert_whole(world, asks)


# ---- symbols, reconcile --------------------------------------------------------------------------


async def test_a_muted_symbol_gets_no_entry_and_is_looked_after() -> None:
    """Its edge is dropped with the reason, its position keeps its exit; the other symbol trades."""
    btc = series_of([FLAT, FLAT, ENTERED, ENTERED, ENTERED, FLAT, FLAT])
    eth = series_of([FLAT] * 7, symbol=ETH)
    said = script({1: reading(1), 4: reading(leave=True)}, btc)
    said |= script({3: reading(1)}, eth) | script({5: reading(-1)}, btc)
    stage = Stage(series=[btc, eth], said=said, rules=TARGETS, instruments=RULES)
    asks = {2: [mute(BTC)]}
    world, session = await asked(stage, asks)
    (changed,) = await world.said(ev.SymbolsChanged)
    assert (changed.muted, changed.command) == ((BTC,), "c1")
    assert [(edge.symbol, edge.reason) for edge in await world.said(ev.EdgeDropped)] == [(BTC, "symbol_muted")]
    assert [trade.exit_reason for trade in await world.trades()] == [ExitReason.SIGNAL]
    assert {intent.symbol for intent in await world.intents() if intent.purpose is Purpose.ENTRY} == {BTC, ETH}
    status = session.trader.status()
    assert status.muted == (BTC,)
    assert "BTCUSDT: muted: /symbols +BTCUSDT takes entries again" in status.gates
    await assert_whole(world, asks)


async def test_muting_what_is_not_traded_is_refused() -> None:
    """With what there is."""
    world, session = await asked(one_symbol([FLAT] * 4, 0), {1: [mute(BTC, "DOGEUSDT")]})
    done = await the_end(world)
    assert (done.name, done.done) == ("symbols", False)
    assert done.found == ("DOGEUSDT is not traded here: one of BTCUSDT",)
    assert session.desk.book.muted == ()


async def test_a_comparison_that_finds_nothing_says_so() -> None:
    """Asked by a person; the wallet is asked for too."""
    cash: list[bool] = []

    class Watched(BadLine):
        async def snapshot(self, *, cash: bool = True) -> AccountSnapshot:
            seen(cash)
            return await super().snapshot(cash=cash)

    seen = cash.append
    clock = SimulatedClock(haste=1000)
    world, _ = await asked(one_symbol([FLAT] * 12, 0), {8: [reconcile()]}, broker=Watched, clock=clock)
    done = await the_end(world)
    assert (done.name, done.done, done.found) == ("reconcile", True, ("nothing differed",))
    assert cash.count(True) == 2  # at the start, and now


async def test_the_scheduler_is_told_only_what_differs() -> None:
    """Nothing in the journal when nothing was found or the exchange is away; a difference is an event."""
    asks = {1: [reconcile("scheduler")]}
    world, _ = await asked(one_symbol([FLAT] * 4, 0), asks)
    assert await world.said(ev.CommandDone) == []
    world, _ = await asked(one_symbol([FLAT] * 4, 0), asks, broker=partial(Outage, first=1, last=2))
    assert await world.said(ev.CommandDone) == []
    world = World.of(one_symbol([FLAT] * 4, 0))

    class Hand(Chat):
        def put(self, item: Inbound) -> None:
            super().put(item)
            if isinstance(item, BarsClosed) and item.close_time == START + 2 * FOUR_HOURS:
                world.venue.place(order(OrderSide.BUY, "1", price="900", link="somebody"))

    await (await Session.begin(world, inbox=Hand(asks, times=1), clock=MarketClock(haste=1000))).run()
    assert (await the_end(world)).found == ("BTCUSDT: an order rests that is not ours, it is left alone",)


async def test_a_comparison_with_an_exchange_that_is_away_is_not_done() -> None:
    """Said at once: nobody waits for it."""
    world, _ = await asked(one_symbol([FLAT] * 5, 0), {1: [reconcile()]}, broker=partial(Outage, first=1, last=3))
    done = await the_end(world)
    assert (done.done, done.found) == (False, (UNREACHABLE,))


DIFFERENCES: dict[str, tuple[Callable[[Venue], None], str]] = {
    "stop": (
        lambda venue: venue.protect(BTC, stop_loss=Decimal("970.0")),
        "BTCUSDT: the stop was 970.0 there and is 980.0 again",
    ),
    "order": (
        lambda venue: (venue.place(order(OrderSide.BUY, "1", price="900", link="x")), None)[1],
        "BTCUSDT: an order rests that is not ours, it is left alone",
    ),
    "wallet": (
        lambda venue: venue.restore(replace(venue.state(), cash=venue.cash + 25)),
        "the wallet held +25.00000 USDT more than was traded: it is looked at once more",
    ),
}


@pytest.mark.parametrize("what", list(DIFFERENCES))
async def test_a_comparison_names_what_differs(what: str) -> None:
    """One line each, mended or not; somebody touched the account after the close was dealt with."""
    act, line = DIFFERENCES[what]
    world = World.of(one_symbol(HELD))
    touched: list[ev.Event] = []

    def touch(event: ev.Event) -> None:
        if isinstance(event, ev.EquityMarked) and event.at == START + 4 * FOUR_HOURS:
            touched.append(event)
            act(world.venue)

    world.journal.listen(touch)
    await life(world, {3: [reconcile()]})
    done = await the_end(world)
    assert (done.done, done.found, len(touched)) == (True, (line,), 1)


# ---- the council does not stand in the way -------------------------------------------------------


class Ponders:
    """A council that deliberates until it is told to stop, and takes its time even then."""

    mode = "slow"
    debates = False

    def __init__(self, stubborn: float = 0.0) -> None:
        self.asked = asyncio.Event()
        self.stopped = False
        self._stubborn = stubborn

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """For ever."""
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.stopped = True
            await asyncio.sleep(self._stubborn)
            raise
        raise AssertionError("unreachable")


URGENT = [panic(), stop(), close(symbol=ETH), ev.PauseTrading(by="ann", command="c1")]


@pytest.mark.parametrize("stubborn", [0.0, 30.0], ids=["obedient", "stubborn"])
@pytest.mark.parametrize("request_", URGENT, ids=named)
async def test_a_request_for_less_risk_ends_a_deliberation(request_: Request, stubborn: float) -> None:
    """The candidate is rejected by the operator's gate, and the request is carried out at once."""
    world, council = World.of(one_symbol([FLAT] * 5)), Ponders(stubborn)
    session = await Session.begin(world, council=council)
    running = asyncio.create_task(session.run())
    async with asyncio.timeout(5):
        await council.asked.wait()
        began = time.monotonic()
        session.trader.submit(request_)
        await running
    assert time.monotonic() - began < 1
    assert council.stopped
    (verdict,) = await world.said(ev.VerdictReached)
    name = {"Panic": "/panic", "StopEntries": "/stop", "ClosePosition": "/close"}.get(named(request_), "/pause")
    assert (verdict.approved, verdict.gate) == (False, "operator")
    assert verdict.reasons == (f"{name} was asked for while the council deliberated",)
    assert await world.intents() == []
    assert (await ended(world))["c1"] == 1


async def test_a_council_is_not_even_asked_while_something_urgent_waits() -> None:
    """Two symbols at one close: the first deliberation is ended, the second is not begun."""
    series = [series_of([FLAT] * 5, symbol=symbol) for symbol in (BTC, ETH)]
    said = {key: what for one in series for key, what in script({1: reading(1)}, one).items()}
    world, council = World.of(Stage(series=series, said=said, rules=TARGETS, instruments=RULES)), Ponders()
    session = await Session.begin(world, council=council)
    running = asyncio.create_task(session.run())
    async with asyncio.timeout(5):
        await council.asked.wait()
        council.asked.clear()
        session.trader.submit(panic())
        await running
    assert not council.asked.is_set()
    assert [verdict.gate for verdict in await world.said(ev.VerdictReached)] == ["operator", "operator"]


class Considers(Ponders):
    """A council that takes a moment."""

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Yes."""
        await asyncio.sleep(0.01)
        return Deliberation(approved=True, size_multiplier=1.0, reasons=())


async def test_a_request_that_was_dealt_with_ends_no_later_deliberation() -> None:
    """Paused and resumed before the edge: the council has its time."""
    asks: Asks = {0: [ev.PauseTrading(by="ann", command="c1"), ev.ResumeTrading(by="ann", command="c2")]}
    world, _ = await asked(one_symbol([FLAT] * 4), asks, council=Considers())
    assert [verdict.approved for verdict in await world.said(ev.VerdictReached)] == [True]


async def test_other_requests_wait_for_the_council() -> None:
    """A resume is no reason to end a deliberation."""
    world = World.of(one_symbol([FLAT] * 4))
    session = await Session.begin(world, inbox=Chat({0: [ev.ResumeTrading(by="ann", command="c1")]}))
    await session.run()
    assert [verdict.approved for verdict in await world.said(ev.VerdictReached)] == [True]


async def test_a_trader_that_is_stopped_stops_its_council() -> None:
    """Cancelled while it deliberates: no task is left behind."""
    world, council = World.of(one_symbol([FLAT] * 5)), Ponders()
    session = await Session.begin(world, council=council)
    running = asyncio.create_task(session.run())
    await council.asked.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0)
    assert council.stopped


class Meanwhile:
    """Prices during whose second look somebody asks for something."""

    def __init__(self, exchange: MemoryExchange, ask: Any) -> None:
        self._exchange, self._ask = exchange, ask

    async def instrument(self, symbol: str) -> Instrument:
        """As the exchange says."""
        return await self._exchange.instrument(symbol)

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """As the exchange says."""
        return await self._exchange.history(symbol, bars)

    async def last_price(self, symbol: str) -> Decimal:
        """As the exchange says, with a request meanwhile."""
        self._ask()
        return await self._exchange.last_price(symbol)


@pytest.mark.parametrize("request_", URGENT, ids=named)
async def test_a_request_that_comes_before_the_order_leaves_is_in_time(request_: Request) -> None:
    """Approved by the council, and not sent."""
    world = World.of(one_symbol([FLAT] * 5))
    inbox = QueueInbox()
    session = await Session.begin(
        world, inbox=inbox, market=lambda exchange: Meanwhile(exchange, lambda: inbox.put(request_))
    )
    await session.run()
    (verdict,) = await world.said(ev.VerdictReached)
    assert (verdict.approved, verdict.gate) == (False, "operator")
    assert "before the order left" in verdict.reasons[0]
    assert await world.intents() == []


# ---- an exchange that has not been met -----------------------------------------------------------


async def test_a_trader_without_an_account_pauses_and_leaves_the_rest_to_the_next() -> None:
    """Nothing is said about an account that nobody has seen: only the pause is written down."""
    world = World.of(one_symbol([FLAT] * 4, 0))
    requests: list[Request] = [panic("c1"), stop("c2"), close(command="c3"), breakeven(command="c4")]
    requests += [cancel(command="c5"), change("c6", cooldown_bars=1), mute(BTC, command="c7"), reconcile(command="c8")]
    session = await Session.begin(world, inbox=Chat({0: requests}), absent=True)
    await session.run()
    assert await ended(world) == {"c1:pause": 1, "c2:pause": 1}
    assert session.desk.book.paused


# ---- how things stand ----------------------------------------------------------------------------


async def test_the_status_shows_orders_and_what_is_carried_out() -> None:
    """Every working order, the risk at entry, the best so far, and how old the last comparison is."""
    world = World.of(two_symbols(bars=5))
    session = await life(world, {}, clock=SimulatedClock(haste=1000))
    status = session.trader.status()
    target, entry = status.orders
    assert (target.symbol, target.purpose) == (BTC, Purpose.TAKE_PROFIT)
    assert (target.price, target.qty) == (Decimal(1060), Decimal(5))
    assert (entry.symbol, entry.purpose, entry.state) == (ETH, Purpose.ENTRY, OrderState.ACCEPTED)
    assert entry.stop == 980
    assert (target.since, entry.since) == (START + 3 * FOUR_HOURS, START + 3 * FOUR_HOURS)
    (position,) = status.positions
    assert (position.initial_risk, position.best_r) == (Decimal(100), 12 / 20)
    assert (status.interval, status.lost, status.muted, status.settings) == (FOUR_HOURS, "", (), {})
    assert status.looked_age is not None
    assert 0 <= status.looked_age < 60


async def test_a_status_before_the_first_comparison_knows_no_age() -> None:
    """None, not a number that is not true; a failed question is no comparison."""
    world = World.of(one_symbol([FLAT] * 4, 0))
    session = await Session.begin(world, broker=partial(BadLine, forever={"snapshot": Fault.DOWN}))
    await session.start()
    assert session.trader.status().looked_age is None


async def test_a_panic_under_way_is_a_gate() -> None:
    """Shown while it lasts."""
    seen: list[tuple[str, ...]] = []
    world = World.of(two_symbols())
    session = await Session.begin(world, inbox=Chat({3: [panic()]}), clock=MarketClock(haste=1000))
    world.journal.listen(
        lambda event: seen.append(session.trader.status().gates) if isinstance(event, ev.OrderIntended) else None
    )
    await session.run()
    assert "/panic is being carried out" in seen[-1]
    assert session.trader.status().gates == ("paused: /resume takes entries again",)


def test_the_events_of_requests_are_stored_exactly() -> None:
    """Values, lines and ids come back as they were, and a book folds them alike."""
    for event in (samples.settings_changed(), samples.symbols_changed(), samples.command_done()):
        kind, body = encode(event)
        assert decode(kind, body) == event
        one, other = Book.opening(Decimal(1)), Book.opening(Decimal(1))
        one.apply(event)
        other.apply(decode(kind, body))
        assert one == other == Book.restored(one.state())
        assert list(one.commands) == ["update:7"]


async def test_what_a_request_has_led_to_survives_a_snapshot() -> None:
    """A book taken apart and put together in the middle of a panic is the same book."""
    halfway: list[Book] = []
    world = World.of(two_symbols())
    session = await Session.begin(world, inbox=Chat({3: [panic()]}), clock=MarketClock(haste=1000))
    world.journal.listen(lambda _: halfway.append(Book.restored(session.desk.book.state())))
    await session.run()
    telling = [book for book in halfway if book.progress]
    assert telling
    assert {len(book.progress["c1"].cancelled) for book in telling} == {1, 2}
    assert all(Book.restored(book.state()) == book for book in telling)


# ---- killed --------------------------------------------------------------------------------------

KILLED: dict[str, Asks] = {
    "panic": {3: [panic()]},
    "close": {3: [close()]},
    "half": {3: [close("0.5")]},
    "both": {3: [close("0.5", command="c1"), panic("c2")]},
    "stop": {3: [stop()]},
    "breakeven": {3: [breakeven()]},
    "cancel": {3: [cancel(ETH)]},
}


async def assert_the_same_end(world: World, reference: World, asks: Asks) -> None:
    """The same money, results, positions and exits, each once, and the same word at the end of what was asked last.

    The market has gone on by a bar where the trader died in its own time: every bar is the same.
    """
    await assert_whole(world, asks)
    assert await results(world) == await results(reference)
    assert world.venue.cash == reference.venue.cash
    assert await exits_of(world) == await exits_of(reference)
    assert sizes(world) == sizes(reference)
    last = all_of(asks)[-1]
    if not isinstance(last, ev.CancelEntry):  # a cancel that was carried out unheard is no more than gone
        assert (await the_end(world, last.command)).done == (await the_end(reference, last.command)).done


async def results(world: World) -> list[tuple[str, Decimal, Decimal, Decimal, ExitReason]]:
    """What came of each trade."""
    return [
        (trade.symbol, trade.qty, trade.exit_price, trade.pnl, trade.exit_reason) for trade in await world.trades()
    ]


async def exits_of(world: World) -> list[str]:
    """Every exit's id."""
    return [intent.link_id for intent in await world.intents() if intent.purpose is Purpose.EXIT]


def sizes(world: World) -> dict[str, tuple[str, Decimal, Decimal | None]]:
    """Positions with their stops."""
    held = world.venue.positions.items()
    return {symbol: (position.side.value, position.qty, position.stop) for symbol, position in held}


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("case", list(KILLED))
async def test_killed_at_every_append(case: str, committed: bool) -> None:
    """Nothing is lost and nothing is done twice, wherever in its work the trader dies."""
    asks = KILLED[case]
    reference = World.of(two_symbols())
    journal = MortalJournal(reference.journal, 10**9, committed=True)
    await life(reference, asks, journal=journal)
    appends = 10**9 - journal.left
    assert appends > 12
    for number in range(1, appends + 1):
        world = World.of(two_symbols())
        with pytest.raises(Died):
            await life(world, asks, journal=MortalJournal(world.journal, number, committed=committed))
        await life(world, asks)
        try:
            await assert_the_same_end(world, reference, asks)
        except AssertionError as error:
            raise AssertionError(f"killed at append {number} of {appends}: {error}") from error


@dataclass(slots=True)
class Mortal:
    """A broker that kills the program at its n-th call: before the exchange has it, or before the answer is heard."""

    exchange: MemoryExchange
    dies_at: int
    after: bool
    calls: int = field(default=0)

    async def _dying(self, call: Any) -> Any:
        self.calls += 1
        if self.calls == self.dies_at and not self.after:
            raise Died
        answer = await call()
        if self.calls == self.dies_at:
            raise Died
        return answer

    async def place(self, placed: Approved[PlaceOrder]) -> str:
        """Place."""
        placed_as: str = await self._dying(lambda: self.exchange.place(placed))
        return placed_as

    async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """Cancel."""
        cancelled: ExchangeOrder = await self._dying(lambda: self.exchange.cancel(symbol, link_id))
        return cancelled

    async def move_stop(self, symbol: str, price: Decimal) -> None:
        """Amend the stop."""
        await self._dying(lambda: self.exchange.move_stop(symbol, price))

    async def find(self, symbol: str, link_id: str) -> ExchangeOrder | None:
        """Look for an order."""
        found: ExchangeOrder | None = await self._dying(lambda: self.exchange.find(symbol, link_id))
        return found

    async def snapshot(self, *, cash: bool = True) -> AccountSnapshot:
        """Look at the account."""
        seen: AccountSnapshot = await self._dying(lambda: self.exchange.snapshot(cash=cash))
        return seen

    async def executions(self, symbol: str, since: datetime) -> Sequence[Execution]:
        """Executions."""
        told: Sequence[Execution] = await self._dying(lambda: self.exchange.executions(symbol, since))
        return told

    async def account_id(self) -> str:
        """The account."""
        return await self.exchange.account_id()


def mortal(dies_at: int, *, after: bool) -> tuple[list[Mortal], Any]:
    """Such a broker, and the list in which it can be found."""
    made: list[Mortal] = []

    def make(exchange: MemoryExchange) -> Mortal:
        made.append(Mortal(exchange, dies_at, after))
        return made[0]

    return made, make


@pytest.mark.parametrize("after", [False, True], ids=["before the call", "after the call"])
@pytest.mark.parametrize("case", list(KILLED))
async def test_killed_at_every_call_of_the_exchange(case: str, after: bool) -> None:
    """Between intent and send, between send and fill, between cancel and its event: the end is the same."""
    asks = KILLED[case]
    reference = World.of(two_symbols())
    made, line = mortal(10**9, after=False)
    await life(reference, asks, broker=line)
    for number in range(1, made[0].calls + 1):
        world = World.of(two_symbols())
        _, line = mortal(number, after=after)
        with pytest.raises(Died):
            await life(world, asks, broker=line)
        await life(world, asks)
        try:
            await assert_the_same_end(world, reference, asks)
        except AssertionError as error:
            raise AssertionError(f"killed at call {number} of {made[0].calls}: {error}") from error


@pytest.mark.parametrize("appends", [4, 6, 9])
@pytest.mark.parametrize("case", ["panic", "half", "both"])
async def test_killed_again_and_again(case: str, appends: int) -> None:
    """Lives of a few appends each."""
    asks = KILLED[case]
    world = World.of(two_symbols(bars=60))
    for lives in range(200):
        journal = MortalJournal(world.journal, appends, committed=lives % 2 == 0, gentle=lives % 3 == 0)
        with contextlib.suppress(Died):
            await life(world, asks, journal=journal)
            break
    else:
        pytest.fail("it never came to the end of the bars")
    assert lives > 2
    await assert_whole(world, asks)
    assert len(await exits_of(world)) == len(asks[3])
    assert world.venue.positions.keys() == ({BTC} if case == "half" else set())


# ---- anything, in any order ----------------------------------------------------------------------

KINDS = ["stop", "panic", "close", "half", "breakeven", "cancel", "resume", "pause", "set", "mute", "unmute", "look"]


def request_of(kind: str, symbol: str, command: str) -> Request:
    """A request of a kind."""
    by = "ann"
    requests: dict[str, Request] = {
        "stop": stop(command),
        "panic": panic(command),
        "close": close("1", symbol, command),
        "half": close("0.5", symbol, command),
        "breakeven": breakeven(symbol, command),
        "cancel": cancel(symbol, command),
        "resume": ev.ResumeTrading(by=by, command=command),
        "pause": ev.PauseTrading(by=by, command=command),
        "set": change(command, cooldown_bars=1),
        "mute": mute(symbol, command=command),
        "unmute": mute(command=command),
        "look": reconcile(command=command),
    }
    return requests[kind]


def lively(seed: int, bars: int = 40) -> Stage:
    """Two random walks with many edges, exits and take profits, and every cost."""
    rng = np.random.default_rng(seed)
    series = [random_series(rng, bars, symbol=symbol, wobble=0.006) for symbol in (BTC, ETH)]
    said: dict[tuple[str, int], Reading] = {}
    for one in series:
        for row in range(1, bars):
            side = int(rng.choice([0, 1, -1]))
            said |= script({row: reading(side, float(rng.uniform(5, 25)), leave=bool(rng.random() < 0.05))}, one)
    rules = TradeRules(take_profit_r=2.0, trail_start_r=0.5, trail_step_r=0.5)
    return Stage(series=series, said=said, rules=rules, terms=COSTLY, instruments=RULES)


FAULTS = st.lists(st.sampled_from([Fault.NONE] * 6 + [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN]), max_size=12)


def proven(world: World, event: ev.Event) -> None:
    """Whenever a panic is said to be done, the exchange is flat at that very moment."""
    if isinstance(event, ev.CommandDone) and event.name == "panic":
        assert event.done
        assert (world.venue.positions, world.venue.orders) == ({}, {})


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    words=st.lists(
        st.tuples(st.integers(0, 26), st.sampled_from(KINDS), st.sampled_from([BTC, ETH])), max_size=14
    ),
    place=FAULTS,
    cancels=FAULTS,
    moves=FAULTS,
    looks=FAULTS,
    finds=FAULTS,
    told=FAULTS,
    dies=st.one_of(st.none(), st.integers(1, 120)),
)
def test_after_anything_a_panic_ends_flat(
    seed: int,
    words: list[tuple[int, str, str]],
    place: list[Fault],
    cancels: list[Fault],
    moves: list[Fault],
    looks: list[Fault],
    finds: list[Fault],
    told: list[Fault],
    dies: int | None,
) -> None:
    """Any requests in any order, on any bad line, with a kill somewhere: flat, whole, one event per command."""
    asks: dict[int, list[Request]] = {28: [panic("last")]}
    for number, (row, kind, symbol) in enumerate(words):
        asks.setdefault(row, []).append(request_of(kind, symbol, f"c{number}"))

    async def play() -> None:
        world = World.of(lively(seed))
        world.journal.listen(partial(proven, world))
        faults = {"place": list(place), "cancel": list(cancels), "move_stop": list(moves), "snapshot": list(looks)}
        faults |= {"find": list(finds), "executions": list(told)}
        line = partial(BadLine, faults=faults)
        if dies is not None:
            with contextlib.suppress(Died):
                mortal_journal = MortalJournal(world.journal, dies, committed=dies % 2 == 0)
                await life(world, asks, journal=mortal_journal, broker=line, retune=retuned)
        session = await life(world, asks, broker=line, retune=retuned)
        await assert_whole(world, asks)
        assert (await the_end(world, "last")).done
        assert (world.venue.positions, world.orders()) == ({}, [])
        assert diff(session.desk.book, await session.exchange.snapshot()) == []

    asyncio.run(play())


# ---- ticks, and the wire -------------------------------------------------------------------------


def ticking(session: Session, tick: int, *requests: Request) -> None:
    """Ask when the market has ticked so often."""
    left = [tick]

    def ticked(symbol: str, price: float) -> None:
        left[0] -= 1
        if left[0] == 0:
            for request in requests:
                session.trader.submit(request)

    session.market.ticked = ticked


async def test_within_a_bar_a_panic_gets_the_current_tick() -> None:
    """At speed the bar is walked tick by tick: the close of the bar is not waited for."""
    world = World.of(two_symbols())
    session = await Session.begin(world, speed=14_400.0)
    ticking(session, 4 * 2 * 20 + 21, panic())
    await session.run()
    (trade,) = await world.trades()
    bar = START + 4 * FOUR_HOURS
    assert trade.exit_reason is ExitReason.MANUAL
    assert bar < trade.at < bar + FOUR_HOURS
    done = await the_end(world)
    assert done.at < bar + FOUR_HOURS
    assert done.done
    await assert_whole(world, {0: [panic()]})


@dataclass(slots=True, kw_only=True)
class Wired:
    """A trader whose exchange stands behind its wire, all in this process."""

    world: World
    market: Market
    session: Session
    exchange: BybitExchange


@contextlib.asynccontextmanager
async def wired(stage: Stage, speed: float, inbox: QueueInbox) -> AsyncIterator[Wired]:
    """Server, adapter and trader, at the market's start."""
    world = World.of(stage)
    pace = FollowedPace(free=speed > 0)
    market = Market(
        world.venue, FileFeed(stage.series), pace, SimulatedClock(), lambda _: None, speed=speed
    )
    market.start_at(START)
    server = WireServer(world.venue, market, uid="1", key="key", secret="secret", port=0, pace=pace, limit_factor=1000)
    market.deliver = lambda told: server.bars_closed(told) if isinstance(told, BarsClosed) else server.feed_ended()
    market.ticked = server.ticked
    await server.start()
    clock, endpoints = HeardClock(), endpoints_of("paper", server.url, server.ws_url)
    rest = BybitRest(endpoints.rest, key="key", secret="secret")
    exchange = BybitExchange(
        rest,
        endpoints,
        symbols=stage.symbols,
        interval=FOUR_HOURS,
        inbox=inbox,
        clock=clock,
        key="key",
        secret="secret",
    )
    steps = WirePace(server.ws_url, inbox, clock)
    listener = world.venue.listener
    session = await Session.begin(world, inbox=inbox, broker=lambda _: exchange, market=lambda _: exchange)
    world.venue.listener = listener  # the session's own face of the venue stays silent
    session.desk.clock = clock
    session.trader._pace = steps
    try:
        await steps.start()
        await exchange.start()
        await session.trader.start(clock.now())
        yield Wired(world=world, market=market, session=session, exchange=exchange)
    finally:
        await exchange.stop()
        await steps.stop()
        rest.close()
        await server.stop()


async def run_wired(one: Wired) -> None:
    """Market and trader to the end of the bars."""
    walking = asyncio.create_task(one.market.run())
    try:
        async with asyncio.timeout(30):
            await one.session.trader.run()
    finally:
        walking.cancel()
        await asyncio.gather(walking, return_exceptions=True)


@pytest.mark.parametrize("request_", [panic(), close(), stop(), cancel(ETH), breakeven()], ids=named)
async def test_over_the_wire_between_bars(request_: Request) -> None:
    """At speed 0 what is asked at a close gets the next open; the end is proven by REST."""
    asks = {3: [request_]}
    async with wired(two_symbols(bars=8), 0.0, Chat(asks)) as one:
        await run_wired(one)
        await assert_whole(one.world, asks)
        done = await the_end(one.world)
    assert done.done, done.found
    if isinstance(request_, ev.Panic):
        assert (one.world.venue.positions, one.world.orders()) == ({}, [])
        assert done.found[-1].endswith("0 positions, 0 orders")
        assert [trade.exit_reason for trade in await one.world.trades()] == [ExitReason.MANUAL]


async def test_over_the_wire_within_a_bar_it_is_flat_within_three_seconds() -> None:
    """Asked in the middle of a bar, it gets the current tick, and is flat and proven long before the bar closes."""
    times: list[float] = []
    async with wired(two_symbols(bars=12), 28_800.0, QueueInbox()) as one:
        world, session, tell = one.world, one.session, one.market.ticked

        def ticked(symbol: str, price: float) -> None:
            tell(symbol, price)
            ready = BTC in session.desk.book.holdings and session.desk.book.entry_of(ETH) is not None
            inside = one.world.venue.now > START + 4 * FOUR_HOURS + FOUR_HOURS / 4
            if ready and inside and not times:
                times.append(time.monotonic())
                session.trader.submit(panic())

        one.market.ticked = ticked
        world.journal.listen(lambda e: times.append(time.monotonic()) if isinstance(e, ev.CommandDone) else None)
        await run_wired(one)
        await assert_whole(world, {0: [panic()]})
    asked_at, done_at = times
    assert done_at - asked_at < 3, done_at - asked_at
    assert (await the_end(world)).done
    (trade,) = await world.trades()
    bar = START + ((trade.at - START) // FOUR_HOURS) * FOUR_HOURS
    assert bar < trade.at < bar + FOUR_HOURS
    assert trade.exit_reason is ExitReason.MANUAL
