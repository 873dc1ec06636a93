"""Killed at every commit and started again: the trades are those of a run that was never disturbed.

Every scenario is traded once without interruption. Then the program is killed at its first append, its
second and so on, just before and just after the commit, is rebuilt from the journal and the surviving venue,
and trades on.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from decimal import Decimal

import pytest

from tests.trading.rig import (
    COSTLY,
    Died,
    MortalJournal,
    Row,
    Session,
    Stage,
    World,
    busy_walk,
    reading,
    script,
    series_of,
    traded,
)
from trading.model import ExitReason, Purpose
from trading.parameters import TradeRules
from trading.trader import load_book

QUIET: Row = (1000, 1001, 999, 1000)


def by_hand() -> Stage:
    """Two steps of the trail, a take profit, an expiry, a run-away, a signal exit, a stop in the entry bar."""
    rows: list[Row] = [
        QUIET,
        QUIET,  # 1: long, L 1000, stop 980, target 1060
        (1000, 1003, 999, 1002),  # 2: filled
        (1002, 1026, 1001, 1024),  # 3: 1 R: the stop goes to 1000
        (1024, 1047, 1023, 1045),  # 4: 2 R: to 1020
        (1045, 1045, 1018, 1022),  # 5: stopped at 1020; edge again: long, L 1022, stop 1002, target 1082
        (1022, 1024, 1020, 1023),  # 6: filled
        (1023, 1090, 1022, 1085),  # 7: target
        (1085, 1086, 1084, 1085),  # 8: long, L 1085, never filled
        (1086, 1088, 1086, 1087),  # 9
        (1087, 1088, 1086, 1087),  # 10: expired; short at that very close, L 1087, stop 1107
        (1060, 1061, 1059, 1060),  # 11: run away (27 > 1.2 R)
        (1060, 1061, 1059, 1060),  # 12: short, L 1060, stop 1080
        (1060, 1062, 1055, 1056),  # 13: filled; the strategy wants out
        (1054, 1055, 1053, 1054),  # 14: out at the open 1054
        (1054, 1055, 1053, 1054),  # 15: long, L 1054, stop 1034
        (1050, 1051, 1030, 1033),  # 16: filled and stopped in one bar
        QUIET,
        QUIET,
    ]
    series = series_of(rows)
    said = {1: 1, 5: 1, 8: 1, 10: -1, 12: -1, 15: 1}
    what = {row: reading(side) for row, side in said.items()} | {13: reading(leave=True)}
    rules = TradeRules(entry_offset=0.0, take_profit_r=3.0, entry_ttl_bars=2, runaway_r=1.2)
    return Stage(series=[series], said=script(what, series), rules=rules, terms=COSTLY)


SCENARIOS = {
    "hair trigger": busy_walk(17, TradeRules(entry_offset=0.001, runaway_r=0.01, trail_start_r=0.5)),
    "by hand": by_hand(),
    "trailing": busy_walk(3, TradeRules(trail_start_r=0.5, trail_step_r=0.25, trail_lag_r=0.5)),
    "take profit": busy_walk(7, TradeRules(take_profit_r=1.0, trail_step_r=0.5, entry_ttl_bars=1)),
    "cooldown": busy_walk(11, TradeRules(cooldown_bars=3, runaway_r=0.5, entry_ttl_bars=6)),
    "half days": busy_walk(13, TradeRules(take_profit_r=2.0, trail_start_r=0.3, trail_step_r=0.3), hours=12),
}


@pytest.fixture(params=list(SCENARIOS))
def stage(request: pytest.FixtureRequest) -> Stage:
    """One scenario after the other."""
    return SCENARIOS[request.param]


async def undisturbed(stage: Stage) -> tuple[World, int]:
    """The reference, and how often it appends."""
    world = World.of(stage)
    journal = MortalJournal(world.journal, 10**9, committed=True)
    session = await Session.begin(world, journal=journal)
    await session.run()
    return world, 10**9 - journal.left


async def one_life(world: World, dies_at: int, *, committed: bool, gentle: bool = False) -> bool:
    """A life that ends at its n-th append, or with the bars; True when it saw the end."""
    journal = MortalJournal(world.journal, dies_at, committed=committed, gentle=gentle)
    session = await Session.begin(world, journal=journal)
    with contextlib.suppress(Died):
        await session.run()
        return True
    return False


async def assert_same(world: World, reference: World) -> None:
    """The same trades to the last digit, the same money, every execution booked once, nothing sent twice."""
    assert await world.trades() == await reference.trades()
    assert world.venue.cash == reference.venue.cash
    assert world.venue.positions == reference.venue.positions
    assert world.orders() == reference.orders()
    told = [one.exec_id for one in world.executions() if not one.funding]
    assert sorted(told) == sorted(fill.exec_id for fill in await world.fills())
    links = Counter(intent.link_id for intent in await world.intents())
    assert set(links.values()) <= {1}, "an intent was written twice"
    known = {one.link_id for one in world.executions() if one.link_id}
    assert known <= set(links), "an order without an intent"
    book, _ = await load_book(world.journal, Decimal(10000))
    assert book.cash == world.venue.cash
    orders = {order.link_id for order in world.orders()}
    assert set(book.working) == orders


async def test_the_scenario_by_hand_has_every_ending() -> None:
    """The scenario that the kills are spread over holds what it says."""
    world = await traded(SCENARIOS["by hand"])
    trades = await world.trades()
    reasons = [trade.exit_reason for trade in trades]
    assert reasons == [ExitReason.STOP, ExitReason.TAKE_PROFIT, ExitReason.SIGNAL, ExitReason.STOP]
    assert [trade.entry_price for trade in trades] == [1000, 1022, 1060, 1054]
    purposes = Counter(intent.purpose for intent in await world.intents())
    # The entry bar counts with its close 1002; 1047 is the best while it was held, 1000 the worst.
    assert (trades[0].best_r, trades[0].worst_r) == (47 / 20, 0.0)
    assert purposes == {Purpose.ENTRY: 6, Purpose.TAKE_PROFIT: 2, Purpose.EXIT: 1}


@pytest.mark.parametrize("committed", [False, True], ids=["before the commit", "after the commit"])
async def test_killed_at_every_append(stage: Stage, committed: bool) -> None:
    """One kill, everywhere: the end is the same."""
    reference, appends = await undisturbed(stage)
    assert len(await reference.trades()) >= 3
    for number in range(1, appends + 1):
        world = World.of(stage)
        assert not await one_life(world, number, committed=committed)
        assert await one_life(world, 10**9, committed=True)
        try:
            await assert_same(world, reference)
        except AssertionError as error:
            raise AssertionError(f"killed at append {number} of {appends}: {error}") from error


async def test_ended_by_an_exception_at_every_append(stage: Stage) -> None:
    """A program that ends by an exception still keeps a snapshot: it is one of what was committed."""
    reference, appends = await undisturbed(stage)
    for number in range(1, appends + 1, 2):
        world = World.of(stage)
        await one_life(world, number, committed=True, gentle=True)
        assert await one_life(world, 10**9, committed=True)
        await assert_same(world, reference)


@pytest.mark.parametrize("appends", [4, 7, 11])
async def test_killed_again_and_again(stage: Stage, appends: int) -> None:
    """Lives of a few appends each: it gets there, and the end is the same."""
    reference, _ = await undisturbed(stage)
    world = World.of(stage)
    lives = 0
    while not await one_life(world, appends, committed=lives % 2 == 0, gentle=lives % 3 == 0):
        lives += 1
        assert lives < 500, "no progress"
    assert lives > 3
    await assert_same(world, reference)
