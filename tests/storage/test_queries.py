"""What cards and reports ask of the past."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from decimal import Decimal

import pytest

from storage.database import Database
from storage.journal import SqlJournal
from storage.queries import Records
from storage.reports import Funnel
from tests.storage import samples
from trading import events
from trading.model import Purpose, Side, millis


@pytest.fixture
async def records(db: Database) -> Records:
    """Three decisions, 1,203 trades, five marks, and another account's noise."""
    journal = SqlJournal(db, "paper", clock=samples.wall)
    await SqlJournal(db, "noise", clock=samples.wall).append([samples.verdict(9), samples.closed(), samples.marked()])
    await journal.append([samples.verdict(1), samples.verdict(2, approved=False), samples.verdict(3)])
    await journal.append([samples.closed(None, pnl=f"{number}.10") for number in range(1203)])
    await journal.append([samples.marked(number, exposed=number == 2) for number in range(5)])
    return Records(db, "paper")


async def test_verdicts(records: Records) -> None:
    """Newest first, whole, and one by its number."""
    assert [each.verdict_id for each in await records.verdicts()] == [3, 2, 1]
    assert await records.verdicts(limit=1) == [samples.verdict(3)]
    assert await records.verdict(2) == samples.verdict(2, approved=False)
    assert await records.verdict(9) is None
    assert (await records.outcome(2), await records.outcome(9)) == ("rejected", None)


async def test_trades(records: Records) -> None:
    """Newest first with a limit; oldest first as a stream over several pages."""
    assert [str(each.pnl) for each in await records.trades(limit=2)] == ["1202.10", "1201.10"]
    oldest = [str(each.pnl) async for each in records.trades_oldest_first()]
    assert oldest == [f"{number}.10" for number in range(1203)]
    assert len(await records.trades()) == 1203


async def test_the_equity_curve(records: Records, db: Database) -> None:
    """Arrays of times, equity and exposure, whole or from a moment on; empty when there is none."""
    curve = await records.equity_curve()
    start = millis(samples.START)
    assert curve.time.tolist() == [start + 4 * 3_600_000 * number for number in range(5)]
    assert curve.equity.tolist() == [10000 + number / 3 for number in range(5)]
    assert curve.exposed.tolist() == [False, False, True, False, False]
    dtypes = [column.dtype.name for column in (curve.time, curve.equity, curve.exposed)]
    assert dtypes == ["int64", "float64", "bool"]
    assert len(await records.equity_curve(samples.START + timedelta(hours=9))) == 2
    assert len(await Records(db, "nobody").equity_curve()) == 0


async def test_counts(records: Records) -> None:
    """Rows of this account by table."""
    counts = await records.counts()
    assert counts == {
        "journal": 1211,
        "verdicts": 3,
        "intents": 0,
        "executions": 0,
        "trades": 1203,
        "equity": 5,
        "outbox": 0,
    }


async def test_decisions_come_with_what_became_of_them(records: Records) -> None:
    """Newest first, in one look."""
    found = await records.decisions(limit=2)
    assert [(event.verdict_id, outcome) for event, outcome in found] == [(3, "approved"), (2, "rejected")]
    assert [event.verdict_id for event, _ in await records.decisions()] == [3, 2, 1]


async def test_trades_come_in_pages_from_a_moment_on(records: Records, db: Database) -> None:
    """Every one of them once, oldest first; none of an account that has none."""
    pages = [page async for page in records.trade_pages()]
    assert [len(page) for page in pages] == [500, 500, 203]
    assert [str(each.pnl) for page in pages for each in page] == [f"{number}.10" for number in range(1203)]
    ended = samples.closed().at
    assert sum([len(page) async for page in records.trade_pages(ended)]) == 1203
    assert [page async for page in records.trade_pages(ended + timedelta(microseconds=1))] == []
    assert [page async for page in Records(db, "nobody").trade_pages()] == []


async def test_the_first_close_and_the_equity_before_a_moment(records: Records, db: Database) -> None:
    """None where there is none; the moment itself is not before it."""
    assert await records.first_marked() == samples.START
    assert await records.equity_before(samples.START) is None
    assert await records.equity_before(samples.START + timedelta(hours=4)) == 10000
    assert await records.equity_before(samples.START + timedelta(days=9)) == 10000 + 4 / 3
    nobody = Records(db, "nobody")
    assert (await nobody.first_marked(), await nobody.equity_before(samples.START)) == (None, None)


async def test_fees_and_funding_are_added_up_exactly(db: Database) -> None:
    """Open positions included; every page; what another account paid is not ours."""
    journal, other = (SqlJournal(db, name, clock=samples.wall) for name in ("paper", "noise"))
    await other.append([samples.filled()])
    assert await Records(db, "paper").fees_and_funding() == (Decimal(0), Decimal(0))
    fee = Decimal("0.00000000000000000001")
    await journal.append([dataclasses.replace(samples.filled(f"x{n}"), fee=fee) for n in range(2001)])
    await journal.append([funding("a", "0.25"), funding("b", "-1.5")])
    assert await Records(db, "paper").fees_and_funding() == (2001 * fee, Decimal("-1.25"))


def funding(exec_id: str, amount: str, symbol: str = "BTCUSDT") -> events.FundingPaid:
    return events.FundingPaid(at=samples.START, exec_id=exec_id, symbol=symbol, amount=Decimal(amount))


async def test_money_moved_in_and_out(db: Database) -> None:
    """Deposits less withdrawals, from a moment on, wherever they stand in a long journal."""
    journal, records = SqlJournal(db, "paper", clock=samples.wall), Records(db, "paper")
    assert await records.moved_money() == 0
    await journal.append([samples.alert(number) for number in range(700)])
    for days, amount in ((0, "100.5"), (1, "-40")):
        at = samples.START + timedelta(days=days)
        await journal.append([events.CashAdjusted(at=at, amount=Decimal(amount), cash=Decimal(1))])
    assert await records.moved_money() == Decimal("60.5")
    assert await records.moved_money(samples.START + timedelta(days=1)) == Decimal(-40)


def the_story() -> list[events.Event]:
    """A decision from its order to its exit, with others' events in between."""
    start = samples.START
    moved = events.StopMoved(
        at=start, symbol="BTCUSDT", verdict_id=1, old=Decimal(1), new=Decimal(2), level_r=1.0, locked_r=0.0
    )
    return [
        samples.verdict(1),
        samples.intended("a"),
        funding("early", "9"),
        samples.filled("x-1", "a"),
        dataclasses.replace(samples.filled("x-2", "b"), verdict_id=2),
        funding("f-1", "0.2"),
        funding("f-2", "7", "ETHUSDT"),
        moved,
        dataclasses.replace(samples.filled("x-3", "a"), purpose=Purpose.STOP, fee=Decimal(1)),
        samples.closed(1),
        funding("late", "9"),
    ]


async def test_a_decision_is_told_with_all_that_came_of_it(db: Database) -> None:
    """Its orders, fills, funding, stop moves and end, in order, and nobody else's."""
    told = the_story()
    await SqlJournal(db, "paper", clock=samples.wall).append([samples.alert(0), *told, samples.alert(1)])
    story = await Records(db, "paper").story(1)
    assert story is not None
    assert (story.verdict, story.outcome) == (told[0], "closed")
    assert list(story.events) == [told[place] for place in (1, 3, 5, 7, 8, 9)]
    assert story.trade == samples.closed(1)
    assert [fill.exec_id for fill in story.fills] == ["x-1", "x-3"]
    assert (story.fees, story.funding) == (Decimal("1.12682020"), Decimal("0.2"))
    assert await Records(db, "paper").story(99) is None


async def test_an_open_story_goes_on_to_the_end(db: Database) -> None:
    """However long the journal has become; one that was rejected or cancelled ends there."""
    journal, records = SqlJournal(db, "paper", clock=samples.wall), Records(db, "paper")
    gone = events.OrderCancelled(
        at=samples.START, link_id="b", symbol="BTCUSDT", purpose=Purpose.ENTRY, reason="expired", verdict_id=2
    )
    await journal.append([samples.verdict(2), samples.intended("b", verdict_id=2), gone])
    await journal.append([samples.verdict(3, approved=False)])
    await journal.append([samples.verdict(1), samples.intended("a"), samples.filled("x-1", "a")])
    await journal.append([samples.alert(number) for number in range(3000)])
    await journal.append([funding("f-1", "0.2")])
    stories = [await records.story(number) for number in (1, 2, 3)]
    assert [story.outcome for story in stories if story] == ["filled", "cancelled", "rejected"]
    assert [len(story.events) for story in stories if story] == [3, 2, 0]


async def test_a_part_that_was_filled_is_a_trade(db: Database) -> None:
    """Cancelling the rest of an entry does not end its story."""
    journal, records = SqlJournal(db, "paper", clock=samples.wall), Records(db, "paper")
    rest = events.OrderCancelled(
        at=samples.START, link_id="a", symbol="BTCUSDT", purpose=Purpose.ENTRY, reason="expired", verdict_id=1
    )
    await journal.append([samples.verdict(1), samples.intended("a"), samples.filled("x-1", "a"), rest])
    await journal.append([funding("f-1", "0.2")])
    story = await records.story(1)
    assert story is not None
    assert story.fate == "filled"
    assert [type(event).__name__ for event in story.events][-2:] == ["OrderCancelled", "FundingPaid"]


async def test_the_funnel(db: Database) -> None:
    """Edges by reason, decisions by gate, approved ones by what became of them; of one symbol or of all."""
    journal, records = SqlJournal(db, "paper", clock=samples.wall), Records(db, "paper")
    assert await records.funnel() == Funnel()
    drops = [("BTCUSDT", "in_position"), ("ETHUSDT", "in_position"), ("BTCUSDT", "cooldown")]
    await journal.append(
        [events.EdgeDropped(at=samples.START, symbol=name, side=Side.LONG, reason=why) for name, why in drops]
    )
    elsewhere = dataclasses.replace(samples.verdict(4), symbol="ETHUSDT")
    await journal.append([samples.verdict(1), samples.verdict(2, approved=False), samples.verdict(3), elsewhere])
    await journal.append([samples.closed(1)])
    every = Funnel(
        dropped={"in_position": 2, "cooldown": 1}, rejected={"council": 1}, outcomes={"approved": 2, "closed": 1}
    )
    assert await records.funnel() == every
    of_eth = Funnel(dropped={"in_position": 1}, rejected={}, outcomes={"approved": 1})
    assert await records.funnel("ETHUSDT") == of_eth
