"""Recovery: after every fault the book agrees with the exchange, each order exists once, nothing foreign moves."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pytest

from storage.memory import MemoryJournal
from tests.trading.faults import BadLine, BlindSpot, DeafInbox, Fault
from tests.trading.rig import (
    BTC,
    FLAT,
    FOUR_HOURS,
    FREE_RUN,
    START,
    MarketClock,
    Row,
    Session,
    Stage,
    World,
    away,
    busy_walk,
    order,
    reading,
    script,
    series_of,
    traded,
)
from trading.bookkeeping import book_execution, book_order
from trading.desk import REACHED, UNREACHABLE
from trading.errors import ConclaveError
from trading.events import AlertRaised, EdgeDropped, OrderCancelled, OrderRefused, StopMoved, TradeClosed
from trading.exchange.simulated.memory import MemoryExchange
from trading.exchange.simulated.venue import Venue
from trading.model import ExchangeOrder, Execution, ExitReason, OrderSide, OrderType, Purpose
from trading.orders import OrderState
from trading.parameters import TradeRules
from trading.ports import BarsClosed, FeedEnded, Inbound
from trading.reconcile import diff
from trading.trader import QueueInbox

STEADY: Row = (1000, 1002, 998, 1000)
TRAILING = TradeRules(entry_offset=0.0, runaway_r=100.0)


def stage_of(
    rows: list[Row], sides: dict[int, int], rules: TradeRules = FREE_RUN, *, leave: tuple[int, ...] = ()
) -> Stage:
    """One symbol, edges by row, no costs; the strategy wants out at the rows of `leave`."""
    series = series_of(rows)
    said = {row: reading(side) for row, side in sides.items()}
    said |= {row: reading(leave=True) for row in leave}
    return Stage(series=[series], said=script(said, series), rules=rules)


async def agrees(session: Session) -> None:
    """Nothing is left to mend, and what is open is protected where our book says."""
    assert diff(session.desk.book, await session.exchange.snapshot()) == []


async def on_a_bad_line(
    stage: Stage, faults: dict[str, list[Fault]]
) -> tuple[World, Session, BadLine]:
    """One life on a bad line, from the first bar to the last."""
    world = World.of(stage)
    lines: list[BadLine] = []

    def line(exchange: MemoryExchange) -> BadLine:
        lines.append(BadLine(exchange, faults))
        return lines[0]

    session = await Session.begin(world, broker=line)
    await session.run()
    return world, session, lines[0]


# ---- lost replies and lost requests --------------------------------------------------------------


async def test_a_lost_reply_to_an_entry_changes_nothing() -> None:
    """The order exists: it is found by its id, fills, and is one order."""
    stage = stage_of([FLAT, FLAT, STEADY, (1000, 1001, 970, 975), FLAT], {1: 1})
    world, session, line = await on_a_bad_line(stage, {"place": [Fault.LOSE_REPLY]})
    assert await world.trades() == await (await traded(stage)).trades()
    assert len(line.sent) == 1
    await agrees(session)


async def test_a_doubted_entry_that_exists_still_expires() -> None:
    """An order that is found resting is accepted: its time to live counts like any other's."""
    rows: list[Row] = [FLAT, FLAT, *[(1005.0, 1006.0, 1004.0, 1005.0)] * 6]
    world, session, _ = await on_a_bad_line(stage_of(rows, {1: 1}), {"place": [Fault.LOSE_REPLY]})
    assert [event.reason for event in await world.said(OrderCancelled)] == ["expired"]
    assert session.desk.book.working == {}
    await agrees(session)


async def test_a_doubted_order_that_rests_is_accepted_at_the_next_close() -> None:
    """Nobody doubts an order any longer that the exchange shows as open."""
    rows: list[Row] = [FLAT, FLAT, (1005, 1006, 1004, 1005)]
    _, session, _ = await on_a_bad_line(stage_of(rows, {1: 1}), {"place": [Fault.LOSE_REPLY]})
    entry = session.desk.book.entry_of(BTC)
    assert entry is not None
    assert entry.state is OrderState.ACCEPTED


async def test_a_lost_entry_request_is_given_up_when_it_is_no_longer_fresh() -> None:
    """It never arrived and its close has passed: refused, and the next edge is free."""
    rows: list[Row] = [FLAT, FLAT, FLAT, FLAT, STEADY, FLAT]
    stage = stage_of(rows, {1: 1, 3: 1})
    world, session, line = await on_a_bad_line(stage, {"place": [Fault.LOSE_REQUEST]})
    assert len(await world.said(OrderRefused)) == 1
    assert [sent.link_id for sent in line.sent] == [(await world.intents())[1].link_id]
    assert session.desk.book.holdings[BTC].entry_time == START + 4 * FOUR_HOURS
    await agrees(session)


async def test_no_entry_while_one_is_in_doubt() -> None:
    """R5: the edge of the very next close is dropped while nobody knows about the first (it is known there)."""
    away_from_it: Row = (1005.0, 1006.0, 1004.0, 1005.0)
    stage = stage_of([FLAT, FLAT, away_from_it, away_from_it], {1: 1, 2: -1})
    world, _, line = await on_a_bad_line(stage, {"place": [Fault.LOSE_REPLY]})
    assert [event.reason for event in await world.said(EdgeDropped)] == ["entry_resting"]
    assert len(line.sent) == 1


EXIT_ROWS: list[Row] = [FLAT, FLAT, STEADY, FLAT, FLAT, (1003, 1004, 1002, 1003), (1005, 1006, 1004, 1005), FLAT]


@pytest.mark.parametrize(("fault", "opened"), [(Fault.LOSE_REPLY, 5), (Fault.LOSE_REQUEST, 6), (Fault.DOWN, 6)])
async def test_an_exit_is_sent_until_it_arrives(fault: Fault, opened: int) -> None:
    """A lost reply costs nothing; a lost request costs one bar, under the same id."""
    stage = stage_of(EXIT_ROWS, {1: 1}, leave=(4,))
    world, session, line = await on_a_bad_line(stage, {"place": [Fault.NONE, fault]})
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.exit_time) == (ExitReason.SIGNAL, START + opened * FOUR_HOURS)
    assert trade.exit_price == Decimal(repr(EXIT_ROWS[opened][0]))
    assert len({sent.link_id for sent in line.sent}) == 2
    await agrees(session)


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN])
async def test_a_take_profit_arrives_once(fault: Fault) -> None:
    """One resting take profit, whatever was lost on the way."""
    rows: list[Row] = [FLAT, FLAT, STEADY, FLAT, FLAT, (1000, 1070, 999, 1060), FLAT]
    rules = TradeRules(entry_offset=0.0, trail_start_r=0.0, take_profit_r=3.0, runaway_r=100.0)
    world, session, line = await on_a_bad_line(stage_of(rows, {1: 1}, rules), {"place": [Fault.NONE, fault]})
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.exit_price) == (ExitReason.TAKE_PROFIT, Decimal("1060.0"))
    assert len({sent.link_id for sent in line.sent}) == 2
    await agrees(session)


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN])
async def test_a_lost_cancel_is_no_reason_to_die(fault: Fault) -> None:
    """Whether it was cancelled is asked at the next close; the protective loop goes on (I11)."""
    rows: list[Row] = [FLAT, FLAT, *[(1005.0, 1006.0, 1004.0, 1005.0)] * 7]
    world, session, _ = await on_a_bad_line(stage_of(rows, {1: 1}), {"cancel": [fault]})
    assert len(await world.said(OrderCancelled)) == 1
    assert session.desk.book.working == {}
    await agrees(session)


TRAIL_ROWS: list[Row] = [
    FLAT,
    FLAT,
    STEADY,
    (1000, 1025, 999, 1022),  # 1 R
    (1022, 1028, 1018, 1022),
    (1022, 1027, 1019, 1021),
    FLAT,
]


@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.LOSE_REQUEST, Fault.DOWN])
async def test_a_lost_stop_move_is_no_reason_to_die(fault: Fault) -> None:
    """Whichever stop stands there, the next close makes both sides agree on the tighter one (I11)."""
    world, session, _ = await on_a_bad_line(stage_of(TRAIL_ROWS, {1: 1}, TRAILING), {"move_stop": [fault]})
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.exit_price) == (ExitReason.STOP, Decimal("1000.0"))
    assert {event.new for event in await world.said(StopMoved)} == {Decimal("1000.0")}
    await agrees(session)


METHODS = ["place", "cancel", "move_stop", "find", "snapshot", "executions"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fault", [Fault.LOSE_REPLY, Fault.DOWN])
async def test_a_life_ended_by_a_failure_is_followed_by_another(method: str, fault: Fault) -> None:
    """Whatever one failing call does to the program, a restart cures it: nothing is doubled, the books agree."""
    stage = busy_walk(5, TradeRules(trail_start_r=0.5, trail_step_r=0.5, take_profit_r=2.0))
    for call in range(0, 12, 2):
        world = World.of(stage)
        faults = {method: [*[Fault.NONE] * call, fault]}
        for _ in range(4):
            session = await Session.begin(world, broker=partial(BadLine, faults=faults))
            with contextlib.suppress(ConclaveError):
                await session.run()
                break
        else:
            pytest.fail("it never came to the end of the bars")
        await agrees(session)
        assert {one.link_id for one in world.executions() if one.link_id} <= {
            intent.link_id for intent in await world.intents()
        }
        fills = [fill.exec_id for fill in await world.fills()]
        assert sorted(fills) == sorted(one.exec_id for one in world.executions() if not one.funding)


async def test_an_order_not_visible_yet_is_not_given_up() -> None:
    """R4, F05: the stream is silent and `find` does not show it yet: one look does not make it absent."""
    rows: list[Row] = [FLAT, FLAT, *[(1005.0, 1006.0, 1004.0, 1005.0)] * 2, STEADY, FLAT, FLAT]
    world = World.of(stage_of(rows, {1: 1}))

    def line(exchange: MemoryExchange) -> BadLine:
        return BadLine(exchange, {"place": [Fault.LOSE_REPLY]}, unseen=2)

    session = await Session.begin(world, broker=line, inbox=DeafInbox(lambda _: 0))
    await session.run()
    assert session.desk.book.holdings.keys() == world.venue.positions.keys()
    assert await world.said(AlertRaised) == []


# ---- events that get lost, doubled, late ---------------------------------------------------------


def walks() -> list[Stage]:
    """Random scenarios with trailing, take profit and signals."""
    return [
        busy_walk(21, TradeRules(trail_start_r=0.5, trail_step_r=0.5, take_profit_r=1.5), bars=80),
        busy_walk(22, TradeRules(entry_ttl_bars=2, runaway_r=0.7, cooldown_bars=2), bars=80),
        busy_walk(23, TradeRules(trail_start_r=0.4, trail_step_r=0.2, trail_lag_r=0.8), bars=80, hours=12),
    ]


@pytest.mark.parametrize("stage", walks(), ids=["target", "expiry", "half days"])
@pytest.mark.parametrize("late", [False, True], ids=["at once", "late"])
@pytest.mark.parametrize("lost", [0.0, 0.05, 0.5, 1.0])
async def test_lost_doubled_and_late_events_change_nothing(stage: Stage, late: bool, lost: float) -> None:
    """I4: what the stream loses is fetched, what it doubles is booked once, what is late is known already."""
    rng = np.random.default_rng(99)

    def fate(_: Inbound) -> int:
        return 0 if rng.random() < lost else 1 + int(rng.random() < 0.3)

    reference = await traded(stage)
    world = World.of(stage)
    session = await Session.begin(world, inbox=DeafInbox(fate, late=late))
    await session.run()
    assert [apart_from_funding(one) for one in await world.trades()] == [
        apart_from_funding(one) for one in await reference.trades()
    ]
    assert session.desk.book.cash == reference.venue.cash
    assert await world.intents() == await reference.intents()
    assert sorted(one.exec_id for one in world.executions()) == sorted(session.desk.book.booked)


def apart_from_funding(trade: TradeClosed) -> TradeClosed:
    """The trade before funding (see the next test)."""
    gross = trade.pnl + trade.funding
    return replace(trade, funding=Decimal(0), pnl=gross, r=float(gross / trade.risk_usdt), cash=Decimal(0))


async def test_funding_lost_before_the_exit_belongs_to_the_trade() -> None:
    """F13: the payment is lost, the exit of the same bar is heard: the trade has paid it all the same."""
    stage = busy_walk(22, TradeRules(entry_ttl_bars=2, runaway_r=0.7, cooldown_bars=2), bars=80)
    reference = await traded(stage)
    world = World.of(stage)

    def fate(item: Inbound) -> int:
        return 0 if isinstance(item, Execution) and item.funding else 1

    await (await Session.begin(world, inbox=DeafInbox(fate))).run()
    assert [trade.funding for trade in await world.trades()] == [
        trade.funding for trade in await reference.trades()
    ]


class Stutter(QueueInbox):
    """An entrance that delivers every close twice."""

    def put(self, item: Inbound) -> None:
        """Queue it, and a close once more."""
        super().put(item)
        if isinstance(item, BarsClosed):
            super().put(item)


async def test_a_close_told_twice_is_decided_once() -> None:
    """The journal is that of a stream without the stutter."""
    stage = busy_walk(24, TradeRules(trail_start_r=0.5, trail_step_r=0.5, take_profit_r=1.5))
    world = World.of(stage)
    await (await Session.begin(world, inbox=Stutter())).run()
    assert await world.events() == await (await traded(stage)).events()


async def desk_with_entry() -> Session:
    """A desk whose entry of 5 at 1000 is accepted and rests."""
    session = await Session.begin(World.of(stage_of([FLAT, FLAT], {1: 1})))
    await session.run()
    assert session.desk.book.entry_of(BTC) is not None
    return session


def ended(session: Session, status: str, filled: str) -> ExchangeOrder:
    """The resting entry as the exchange reports its end."""
    (entry,) = session.desk.book.working.values()
    return ExchangeOrder(
        order_id="o000000001",
        link_id=entry.link_id,
        symbol=BTC,
        side=OrderSide.BUY,
        type=OrderType.LIMIT,
        qty=entry.qty,
        filled=Decimal(filled),
        price=entry.price,
        reduce_only=False,
        status=status,
        reason="EC_NoError",
    )


def part(link_id: str, qty: str, exec_id: str = "x000000077") -> Execution:
    """A partial fill of the entry."""
    return Execution(
        exec_id=exec_id,
        order_id="o000000001",
        link_id=link_id,
        symbol=BTC,
        side=OrderSide.BUY,
        qty=Decimal(qty),
        price=Decimal(1000),
        fee=Decimal(0),
        maker=True,
        at=START + 2 * FOUR_HOURS + timedelta(minutes=5),
    )


async def test_a_partial_fill_then_a_cancel_leaves_what_was_filled() -> None:
    """F15: size is what was filled; the remainder is gone."""
    session = await desk_with_entry()
    gone = ended(session, "Cancelled", "2")
    await book_execution(session.desk, part(gone.link_id, "2"))
    await book_order(session.desk, gone)
    assert session.desk.book.working == {}
    assert session.desk.book.holdings[BTC].qty == 2


async def test_a_cancel_heard_before_its_partial_fill_loses_nothing() -> None:
    """F13, F15: sockets have no mutual order; the fill that comes after its cancel is still ours."""
    session = await desk_with_entry()
    gone = ended(session, "Cancelled", "2")
    await book_order(session.desk, gone)
    await book_execution(session.desk, part(gone.link_id, "2"))
    assert session.desk.book.holdings[BTC].qty == 2
    assert session.desk.book.working == {}


async def test_an_order_rejected_after_its_acknowledgement_is_gone() -> None:
    """An acknowledgement is only a receipt: `Rejected` may still come, and frees the symbol."""
    session = await desk_with_entry()
    await book_order(session.desk, ended(session, "Rejected", "0"))
    assert session.desk.book.working == {}


# ---- the account is touched by others ------------------------------------------------------------


Act = Callable[[Venue], None]


class Hands(QueueInbox):
    """Somebody else on the account: acts on the venue after a bar has closed, before the trader hears of it."""

    def __init__(self, venue: Venue, acts: dict[int, Act]) -> None:
        super().__init__()
        self._venue = venue
        self._acts = {START + (row + 1) * FOUR_HOURS: act for row, act in acts.items()}

    def put(self, item: Inbound) -> None:
        """Act when it is time, then queue."""
        if isinstance(item, BarsClosed) and (act := self._acts.pop(item.close_time, None)):
            act(self._venue)
        super().put(item)


async def visited(stage: Stage, acts: dict[int, Act], **parts: Any) -> tuple[World, Session]:
    """A life during which others act: `acts[row]` right after bar `row` has closed."""
    world = World.of(stage)
    session = await Session.begin(world, inbox=Hands(world.venue, acts), **parts)
    await session.run()
    return world, session


def by_hand(side: OrderSide, qty: str, link: str = "hand", **more: Any) -> Act:
    """An order typed in by somebody; at the market when it has no price."""

    def act(venue: Venue) -> None:
        venue.place(order(side, qty, link=link, **more))

    return act


def set_stop(price: str | None) -> Act:
    """Somebody moves our stop, or takes it away."""

    def act(venue: Venue) -> None:
        venue.protect(BTC, stop_loss=Decimal(price or 0))

    return act


def paid_in(amount: str) -> Act:
    """Somebody pays money in, or takes it out."""

    def act(venue: Venue) -> None:
        venue.restore(replace(venue.state(), cash=venue.cash + Decimal(amount)))
        venue.commit()

    return act


async def test_a_foreign_order_is_told_once_left_alone_and_keeps_entries_away() -> None:
    """F20: it rests for three closes; the edge meanwhile is dropped; when it has gone, entries are taken again."""
    stage = stage_of([FLAT] * 8, {3: 1, 6: 1})
    acts: dict[int, Act] = {
        1: by_hand(OrderSide.BUY, "1", price="900"),
        4: lambda venue: void(venue.cancel(BTC, link_id="hand")),
    }
    lines: list[BadLine] = []

    def line(exchange: MemoryExchange) -> BadLine:
        lines.append(BadLine(exchange))
        return lines[0]

    world, session = await visited(stage, acts, broker=line)
    assert [alert.kind for alert in await world.said(AlertRaised)] == ["foreign"]
    assert [(event.reason, event.at) for event in await world.said(EdgeDropped)] == [
        ("blocked", START + 4 * FOUR_HOURS)
    ]
    assert lines[0].cancelled == []
    assert len(await world.intents()) == 1
    await agrees(session)


async def test_a_foreign_order_does_not_stop_the_protection_of_ours() -> None:
    """Our position still trails and leaves while a stranger's order rests."""
    world, _ = await visited(
        stage_of(TRAIL_ROWS, {1: 1}, TRAILING), {2: by_hand(OrderSide.BUY, "1", price="900")}
    )
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.exit_price) == (ExitReason.STOP, Decimal("1000.0"))
    assert [one.link_id for one in world.orders()] == ["hand"]


async def test_a_foreign_position_is_not_touched_and_keeps_entries_away() -> None:
    """F20: a stranger's position stays as it is; nothing is entered on its symbol; the owner hears it once."""
    stage = stage_of([FLAT] * 8, {3: 1, 5: -1})
    world, session = await visited(stage, {1: by_hand(OrderSide.BUY, "1")})
    assert world.venue.positions[BTC].qty == 1
    assert await world.intents() == []
    assert session.desk.book.holdings == {}
    texts = [alert.text for alert in await world.said(AlertRaised)]
    assert len(texts) == len(set(texts)) <= 3  # the order, its fill, the size


OPEN_ROWS: list[Row] = [FLAT, FLAT, STEADY, FLAT, FLAT, FLAT, FLAT, FLAT]


async def test_a_position_closed_by_hand_is_closed_in_the_book() -> None:
    """F19: the book adopts the exchange's size within two looks, and the trade is finished."""
    stage = stage_of(OPEN_ROWS, {1: 1})
    world, session = await visited(stage, {3: by_hand(OrderSide.SELL, "5", reduce_only=True)})
    assert session.desk.book.holdings == {}
    (trade,) = await world.trades()
    assert trade.exit_reason in {ExitReason.EXTERNAL, ExitReason.MANUAL}
    assert len(await world.intents()) == 1, "it is not opened again"


async def test_a_position_reduced_by_hand_is_adopted() -> None:
    """F19: the exchange wins on quantity."""
    world, session = await visited(
        stage_of(OPEN_ROWS, {1: 1}), {3: by_hand(OrderSide.SELL, "2", reduce_only=True)}
    )
    assert world.venue.positions[BTC].qty == 3
    assert session.desk.book.holdings[BTC].qty == 3


async def test_a_position_closed_by_hand_raises_no_alert_at_every_close() -> None:
    """One state of things, one alert; a position that is gone is neither trailed nor left."""
    rows = [*TRAIL_ROWS[:3], (1000.0, 1045.0, 999.0, 1042.0), *[(1042.0, 1043.0, 1041.0, 1042.0)] * 5]
    world, _ = await visited(
        stage_of(rows, {1: 1}, TRAILING), {2: by_hand(OrderSide.SELL, "5", reduce_only=True)}
    )
    texts = [alert.text for alert in await world.said(AlertRaised)]
    assert len(texts) == len(set(texts)) <= 3, texts


async def test_an_exit_from_a_position_closed_by_hand_is_not_tried_for_ever() -> None:
    """A ghost is not closed again at every close."""
    rows = [FLAT, FLAT, STEADY, *[FLAT] * 8]
    world, _ = await visited(
        stage_of(rows, {1: 1}, leave=tuple(range(4, 11))), {2: by_hand(OrderSide.SELL, "5", reduce_only=True)}
    )
    exits = [intent for intent in await world.intents() if intent.purpose is Purpose.EXIT]
    assert len(exits) <= 1, "a refused exit of nothing is repeated at every close"


async def test_a_stop_that_is_gone_is_set_again() -> None:
    """F18: at the next look the position is protected again, where it was."""
    world, session = await visited(stage_of(OPEN_ROWS, {1: 1}), {3: set_stop(None)})
    assert world.venue.positions[BTC].stop == Decimal("980.0")
    await agrees(session)
    assert await world.said(StopMoved) == []


async def test_a_looser_stop_is_set_back() -> None:
    """Risk is never more than was decided."""
    world, session = await visited(stage_of(OPEN_ROWS, {1: 1}), {3: set_stop("900")})
    assert world.venue.positions[BTC].stop == Decimal("980.0")
    await agrees(session)


async def test_a_tighter_stop_is_kept() -> None:
    """A move may have reached the exchange but not the journal."""
    world, session = await visited(stage_of(OPEN_ROWS, {1: 1}), {3: set_stop("990")})
    assert world.venue.positions[BTC].stop == Decimal(990)
    assert [(event.old, event.new) for event in await world.said(StopMoved)] == [
        (Decimal("980.0"), Decimal(990))
    ]
    await agrees(session)


async def test_a_naked_position_beyond_its_stop_is_closed() -> None:
    """F17, I2: the stop was taken away and the price went through it: leave, do not stand naked."""
    rows: list[Row] = [FLAT, FLAT, STEADY, FLAT, (990.0, 991.0, 970.0, 971.0), *[(971.0, 972.0, 970.0, 971.0)] * 4]
    world, _ = await visited(stage_of(rows, {1: 1}), {3: set_stop(None)}, broker=refuses_a_stop)
    assert world.venue.positions == {}, "still open, without a stop, below the stop that was decided"


def refuses_a_stop(exchange: MemoryExchange) -> BadLine:
    """A line on which the first attempt to set a stop is refused."""
    return BadLine(exchange, {"move_stop": [Fault.REFUSE]})


async def test_a_refused_stop_move_is_told_once() -> None:
    """The old stop stays; the owner hears it once, not at every close."""
    rows = [*TRAIL_ROWS[:4], *[(1022.0, 1024.0, 1020.0, 1022.0)] * 6]
    stage = stage_of(rows, {1: 1}, TRAILING)
    world = World.of(stage)

    def line(exchange: MemoryExchange) -> BadLine:
        return BadLine(exchange, forever={"move_stop": Fault.REFUSE})

    session = await Session.begin(world, broker=line)
    await session.run()
    assert world.venue.positions[BTC].stop == Decimal("980.0")
    assert len(await world.said(AlertRaised)) == 1


async def test_a_wallet_that_holds_less_than_the_book_is_not_overdrawn() -> None:
    """I8: half the money was withdrawn: the next size is not taken from money that is not there."""
    stage = stage_of([FLAT] * 6, {3: 1})

    world, _ = await visited(stage, {1: paid_in("-5000")}, clock=MarketClock())
    risked = [intent.qty * 20 for intent in await world.intents()]
    assert all(risk <= world.venue.cash / 100 for risk in risked), "more than 1% of the wallet is at risk"


async def test_a_constant_difference_of_cash_is_told_once() -> None:
    """A deposit of 100 is one piece of news, however often our own trades change the sum."""
    stage = busy_walk(31, TradeRules(trail_start_r=0.5, trail_step_r=0.5), bars=60)

    world, _ = await visited(stage, {2: paid_in("100")})
    assert len(await world.trades()) > 5
    assert len([alert for alert in await world.said(AlertRaised) if alert.kind == "cash"]) == 1


async def test_a_second_stranger_is_told_as_well() -> None:
    """DEFECT 21: one alert for one state of things: a foreign order that went, and another one later, are two."""
    acts: dict[int, Act] = {
        1: by_hand(OrderSide.BUY, "1", price="900", link="first"),
        3: lambda venue: void(venue.cancel(BTC, link_id="first")),
        6: by_hand(OrderSide.BUY, "1", price="800", link="second"),
    }
    world, _ = await visited(stage_of([FLAT] * 10, {}), acts)
    assert [alert.kind for alert in await world.said(AlertRaised)] == ["foreign", "foreign"]


async def test_a_position_flipped_by_hand_is_closed_in_the_book() -> None:
    """DEFECT 22: F19: 8 sold out of 5: our trade is finished, the 3 short are a stranger's and stay as they are."""
    world, session = await visited(stage_of(OPEN_ROWS, {1: 1}), {3: by_hand(OrderSide.SELL, "8")})
    assert session.desk.book.holdings == {}
    (trade,) = await world.trades()
    assert trade.qty == 5
    position = world.venue.positions[BTC]
    assert (position.qty, position.stop) == (Decimal(3), None)
    assert BTC in session.desk.blocked


async def test_a_take_profit_larger_than_what_is_left_is_finished() -> None:
    """DEFECT 23: 2 of 5 were sold by hand, the target takes the 3: nothing is left working, the next trade has one."""
    rows: list[Row] = [FLAT, FLAT, STEADY, FLAT, FLAT, FLAT, (1000, 1070, 999, 1060), FLAT, FLAT, STEADY, FLAT, FLAT]
    rules = TradeRules(entry_offset=0.0, trail_start_r=0.0, take_profit_r=3.0, runaway_r=100.0)
    world, session = await visited(
        stage_of(rows, {1: 1, 8: 1}, rules), {3: by_hand(OrderSide.SELL, "2", reduce_only=True)}
    )
    assert len(await world.trades()) == 1
    targets = [one for one in world.venue.orders.values() if one.asked.reduce_only]
    assert len(targets) == 1, "the second trade has no take profit"
    assert len(session.desk.book.working) == 1
    await agrees(session)


async def test_an_entry_that_the_exchange_forgot_does_not_block_its_symbol_for_ever() -> None:
    """DEFECT 24: R4: cancelled by hand and older than the exchange remembers: after its time it is given up (I17)."""
    rows: list[Row] = [FLAT, FLAT, *[(1005.0, 1006.0, 1004.0, 1005.0)] * 12]
    stage = stage_of(rows, {1: 1, 13: 1})  # the last bar: a venue that remembers nothing could not tell of a fill
    world = World.of(stage, remembers=0)

    def cancel_all(venue: Venue) -> None:
        venue.cancel_all(BTC)

    inbox = ForgetfulHands(world.venue, {2: cancel_all})
    session = await Session.begin(world, inbox=inbox)
    await session.run()
    assert len(await world.intents()) == 2, "the edge ten bars later was still in the way of the first entry"
    await agrees(session)


class ForgetfulHands(Hands):
    """Somebody acts, and the stream that would have told of it is silent."""

    def put(self, item: Inbound) -> None:
        """Closes and the end come through."""
        if isinstance(item, BarsClosed | FeedEnded):
            super().put(item)


# ---- the exchange cannot be reached --------------------------------------------------------------


async def test_no_price_at_the_last_moment_is_no_entry_and_no_end() -> None:
    """DEFECT 25: the second look at the price fails: this candidate ends here, the protective loop goes on."""
    stage = stage_of([FLAT] * 6, {1: 1, 3: 1})
    world = World.of(stage)
    session = await Session.begin(world, market=partial(BlindSpot, down=1))
    await session.run()
    (intent,) = await world.intents()
    assert intent.signal_time == START + 3 * FOUR_HOURS


async def test_an_unreachable_exchange_is_told_once_and_entered_again_afterwards() -> None:
    """DEFECT 26: three closes without an answer: no entry, told once and once when it is over; the next edge counts."""
    stage = stage_of([FLAT] * 9, {3: 1, 6: 1})
    faults = {"snapshot": [Fault.NONE, Fault.NONE, *[Fault.DOWN] * 3]}
    world, session, _ = await on_a_bad_line(stage, faults)
    (intent,) = await world.intents()
    assert intent.signal_time == START + 6 * FOUR_HOURS
    assert [event.reason for event in await world.said(EdgeDropped)] == ["blocked"]
    assert [alert.text for alert in await world.said(AlertRaised)] == [UNREACHABLE, REACHED]
    await agrees(session)


async def test_a_position_is_protected_by_its_stop_while_nothing_answers() -> None:
    """The attached stop works without us; when the line is back the trade is booked as it happened."""
    stage = stage_of([*TRAIL_ROWS[:3], FLAT, (995, 996, 975, 976), FLAT, FLAT, FLAT], {1: 1})
    world = World.of(stage)

    def down(exchange: MemoryExchange) -> BadLine:
        faults = [*[Fault.NONE] * 4, *[Fault.DOWN] * 3]
        return BadLine(exchange, {name: list(faults) for name in ("snapshot", "executions")})

    session = await Session.begin(world, broker=down, inbox=DeafInbox(lambda _: 0))
    await session.run()
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.exit_price) == (ExitReason.STOP, Decimal("980.0"))
    await agrees(session)


# ---- away for a while ----------------------------------------------------------------------------


async def test_a_stop_hit_while_away_is_booked() -> None:
    """The trade is finished as the exchange finished it, in its own bar."""
    rows: list[Row] = [FLAT, FLAT, STEADY, FLAT, (995.0, 996.0, 975.0, 976.0), FLAT, FLAT]
    world, session = await away(stage_of(rows, {1: 1}), 3, 6)
    (trade,) = await world.trades()
    assert (trade.exit_reason, trade.exit_price) == (ExitReason.STOP, Decimal("980.0"))
    assert trade.exit_time == START + 4 * FOUR_HOURS
    await agrees(session)


async def test_an_entry_and_its_stop_while_away_are_one_trade() -> None:
    """Opened and closed with nobody watching: both fills, one trade."""
    rows: list[Row] = [FLAT, FLAT, (1000.0, 1001.0, 970.0, 975.0), FLAT, FLAT]
    world, session = await away(stage_of(rows, {1: 1}), 1, 4)
    (trade,) = await world.trades()
    assert (trade.entry_time, trade.exit_time) == (START + 2 * FOUR_HOURS,) * 2
    await agrees(session)


async def test_an_edge_missed_while_away_is_stale() -> None:
    """Only the last close is fresh enough for a new entry."""
    world, session = await away(stage_of([FLAT] * 9, {4: 1, 6: 1, 7: 1}), 3, 7)
    assert [event.reason for event in await world.said(EdgeDropped)] == ["stale", "stale"]
    (intent,) = await world.intents()
    assert intent.signal_time == START + 7 * FOUR_HOURS
    await agrees(session)


async def test_bars_before_the_entry_do_not_count_for_its_trail() -> None:
    """Away for two bars: a spike in the first, the entry in the second. Best starts at the entry."""
    rows: list[Row] = [
        FLAT,
        FLAT,  # 1: long, L 1000, stop 980
        (1005, 1060, 1004, 1006),  # 2: away; 3 R above the entry, which has not been filled
        (1006, 1007, 990, 1004),  # 3: away; filled at 1000
        (1004, 1005, 1003, 1004),
    ]
    world, session = await away(stage_of(rows, {1: 1}, TRAILING), 1, 3)
    holding = session.desk.book.holdings[BTC]
    assert holding.best == 1004.0
    assert await world.said(StopMoved) == []
    assert session.desk.book.exit_of(BTC) is None
    assert world.venue.positions[BTC].stop == Decimal("980.0")


async def test_a_signal_before_the_entry_does_not_close_it() -> None:
    """The strategy wanted out at a close before there was anything to leave."""
    rows: list[Row] = [FLAT, FLAT, (1005, 1006, 1004, 1005), (1005, 1006, 990, 1004), FLAT]
    world, session = await away(stage_of(rows, {1: 1}, leave=(2,)), 1, 3)
    assert session.desk.book.exit_of(BTC) is None
    assert [intent.purpose for intent in await world.intents()] == [Purpose.ENTRY]


async def test_a_lost_database_does_not_trade_into_an_open_position() -> None:
    """F28: the journal is gone, the position is not: no entry on it, its stop stays, the owner hears it."""
    stage = stage_of([*OPEN_ROWS, FLAT, FLAT], {1: 1, 6: 1, 8: -1})
    world = await traded(Stage(series=[stage.series[0].between(0, 5)], said=stage.said, rules=stage.rules))
    assert world.venue.positions[BTC].stop == Decimal("980.0")
    world.journal, world.stage = MemoryJournal(keep=None), stage
    session = await Session.begin(world)
    await session.run()
    assert await world.intents() == []
    assert world.venue.positions[BTC].stop == Decimal("980.0")
    assert session.desk.blocked == {BTC: "size_differs"}
    assert await world.said(AlertRaised) != []


async def test_a_new_journal_on_an_old_account_is_no_flood() -> None:
    """The history of an account is not news: a handful of alerts at most."""
    stage = busy_walk(33, TradeRules(trail_start_r=0.5, trail_step_r=0.5), bars=120)
    world = await traded(Stage(series=[stage.series[0].between(0, 100)], said=stage.said, rules=stage.rules))
    assert len(await world.trades()) > 10
    world.journal, world.stage = MemoryJournal(keep=None), stage
    await (await Session.begin(world)).start()
    assert len(await world.said(AlertRaised)) <= 3


def void(_: object) -> None:
    """Throw a result away."""
