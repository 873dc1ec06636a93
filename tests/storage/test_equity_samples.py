"""The account between its closes, and what one day brought."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from storage.database import Database, open_database
from storage.equity import Days, EquitySamples, Sample, refined
from storage.journal import SqlJournal
from storage.queries import EquityCurve, Records
from tests.storage.samples import START, closed, filled, marked, verdict, wall
from trading.errors import Transient
from trading.events import Event, FundingPaid, SessionStarted
from trading.model import EPOCH, millis

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def a_sample(minutes: int = 0, equity: str = "10000.10", cash: str = "10000") -> Sample:
    return Sample(at=START + timedelta(minutes=minutes), equity=Decimal(equity), cash=Decimal(cash))


# ---- samples -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "equity", ["10028.30", "0.00000001", "-3.5", "1E+3", "123456789012345678901234567890.123456789"]
)
async def test_amounts_are_kept_digit_by_digit(db: Database, equity: str) -> None:
    """SQLite has no decimals: the table keeps text."""
    samples = EquitySamples(db, "paper:1")
    written = a_sample(equity=equity, cash="1.10")
    await samples.add(written)
    read = await samples.latest()
    assert read == written
    assert read is not None
    assert read.equity.as_tuple() == Decimal(equity).as_tuple()
    assert read.unrealised == Decimal(equity) - Decimal("1.10")
    assert read.at.tzinfo is UTC


async def test_no_sample_is_none_and_an_empty_curve(db: Database) -> None:
    """Nothing is made up."""
    samples = EquitySamples(db, "paper:1")
    assert await samples.latest() is None
    curve = await samples.curve()
    assert (len(curve), len(curve.equity), len(curve.exposed)) == (0, 0, 0)


async def test_a_moment_has_one_sample(db: Database) -> None:
    """A market that stands still is sampled once, the first one counts."""
    samples = EquitySamples(db, "paper:1")
    assert await samples.add(a_sample())
    assert not await samples.add(a_sample(equity="7"))
    assert await samples.latest() == a_sample()


async def test_accounts_do_not_see_each_other(db: Database) -> None:
    """Two accounts may be sampled at the same moment."""
    one, other = EquitySamples(db, "paper:1"), EquitySamples(db, "paper:2")
    assert await one.add(a_sample(equity="1"))
    assert await other.add(a_sample(equity="2"))
    assert (await one.curve()).equity.tolist() == [1.0]
    assert (await other.curve()).equity.tolist() == [2.0]


async def test_the_curve_begins_where_it_is_asked_to(db: Database) -> None:
    """Oldest first, from a moment on, that one included."""
    samples = EquitySamples(db, "paper:1")
    for minutes in (15, 0, 10, 5):
        await samples.add(a_sample(minutes, str(minutes)))
    curve = await samples.curve(START + timedelta(minutes=5))
    assert curve.equity.tolist() == [5.0, 10.0, 15.0]
    assert curve.time.tolist() == [millis(START) + 60_000 * minutes for minutes in (5, 10, 15)]


async def test_a_curve_of_many_pages_is_whole(db: Database) -> None:
    """Thirty days of five minutes are read in pages, none is lost or doubled between two."""
    table = "INSERT INTO samples VALUES (?, ?, ?, ?)"
    first = (START - EPOCH) // timedelta(microseconds=1)
    rows = [("paper:1", first + 300_000_000 * place, str(place), "0") for place in range(10_001)]
    await db.write(lambda connection: connection.exec_driver_sql(table, rows))
    curve = await EquitySamples(db, "paper:1").curve()
    assert curve.equity.tolist() == list(range(10_001))
    assert set(np.diff(curve.time)) == {300_000}
    assert curve.exposed.tolist() == [False, *[True] * 10_000]


async def test_a_sample_before_a_kill_is_there_after_it(path: Path) -> None:
    """What `add` has returned is committed."""
    database = await open_database(path)
    await EquitySamples(database, "paper:1").add(a_sample())
    again = await open_database(path)  # as another process would, with nothing closed
    assert await EquitySamples(again, "paper:1").latest() == a_sample()
    await again.close()
    await database.close()


@hypothesis(max_examples=100)
@given(closes=st.sets(st.integers(0, 60)), sampled=st.sets(st.integers(0, 60)))
def test_a_refined_curve_has_every_moment_once(closes: set[int], sampled: set[int]) -> None:
    """Sorted, without a double, and where both know a moment the close is what counts."""
    both = refined(a_curve(closes, 0.5, exposed=False), a_curve(sampled, 0.25, exposed=True))
    assert both.time.tolist() == sorted(closes | sampled)
    assert both.equity.tolist() == [each + (0.5 if each in closes else 0.25) for each in both.time.tolist()]
    assert both.exposed.tolist() == [each not in closes for each in both.time.tolist()]


def a_curve(times: set[int], above: float, *, exposed: bool) -> EquityCurve:
    time = np.array(sorted(times), np.int64)
    return EquityCurve(time=time, equity=np.float64(above) + time, exposed=np.full(len(time), exposed))


# ---- days ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def journal(db: Database) -> SqlJournal:
    return SqlJournal(db, "paper:1", clock=wall)


def session(at: datetime) -> SessionStarted:
    return SessionStarted(
        at=at, badge="PAPER", symbols=("BTCUSDT",), interval_minutes=240, initial_equity=Decimal(10000), resumed=False
    )


def funding(exec_id: str, at: datetime, amount: str) -> FundingPaid:
    return FundingPaid(at=at, exec_id=exec_id, symbol="BTCUSDT", amount=Decimal(amount))


async def test_the_first_day_is_that_of_the_first_session(db: Database, journal: SqlJournal) -> None:
    """None before it; later sessions do not move it, what was said before it does not count."""
    days = Days(db, "paper:1")
    assert await days.first() is None
    await journal.append([marked()])
    assert await days.first() is None
    await journal.append([session(at=datetime(2026, 3, 1, 23, 59, tzinfo=UTC))])
    await journal.append([session(at=datetime(2026, 3, 5, tzinfo=UTC))])
    assert await days.first() == date(2026, 3, 1)
    assert await Days(db, "paper:2").first() is None


async def test_a_quiet_day_is_all_zeros(db: Database) -> None:
    """Nothing happened, and that is what it says."""
    record = await Days(db, "paper:1").record(date(2026, 3, 1))
    assert record.trades.trades == 0
    assert {record.trades.pnl, record.fees, record.funding} == {Decimal(0)}
    assert (record.approved, record.rejected) == (0, 0)


async def test_a_day_holds_what_happened_in_it_and_nothing_else(db: Database, journal: SqlJournal) -> None:
    """Trades, decisions, fees and funding, from its first microsecond to its last."""
    micro = timedelta(microseconds=1)
    inside, first, last = MIDNIGHT + DAY / 2, MIDNIGHT, MIDNIGHT + DAY - micro
    before, after = MIDNIGHT - micro, MIDNIGHT + DAY
    events: list[Event] = []
    for place, at in enumerate((before, first, inside, last, after), 1):
        events.append(dataclasses.replace(verdict(place, approved=place != 3), at=at))
        events.append(dataclasses.replace(filled(f"x-{place}"), at=at, fee=Decimal("0.1") * place))
        events.append(funding(f"f-{place}", at, f"-0.{place}"))
        events.append(dataclasses.replace(closed(place, pnl=str(place - 3)), at=at))
    await journal.append(events)
    record = await Days(db, "paper:1").record(date(2026, 3, 1))
    assert (record.trades.trades, record.trades.wins, record.trades.pnl) == (3, 1, Decimal(0))
    assert record.trades.r == pytest.approx(3 * 1.9)
    assert (record.approved, record.rejected) == (2, 1)
    assert (record.fees, record.funding) == (Decimal("0.9"), Decimal("-0.9"))


async def test_an_execution_reported_twice_is_paid_once(db: Database, journal: SqlJournal) -> None:
    """Streams repeat themselves: the first report counts, as in the book."""
    await journal.append([dataclasses.replace(filled("x-1"), fee=Decimal("1.5"))])
    await journal.append([dataclasses.replace(filled("x-1"), fee=Decimal("1.5"))])
    assert (await Days(db, "paper:1").record(START.date())).fees == Decimal("1.5")


amounts = st.decimals(Decimal("-1e9"), Decimal("1e9"), places=8)
moments = st.integers(-30, 60).map(lambda hours: MIDNIGHT + timedelta(hours=hours, minutes=17))


changes = st.lists(st.tuples(moments, amounts), max_size=12)


@hypothesis(max_examples=25)
@given(trades=changes, paid=changes)
def test_the_days_add_up_to_the_whole(
    trades: list[tuple[datetime, Decimal]], paid: list[tuple[datetime, Decimal]]
) -> None:
    """No trade and no payment falls between two days or into both, and no digit is lost."""

    async def days_of(path: Path) -> tuple[Decimal, Decimal, int]:
        db = await open_database(path)
        events: list[Event] = [dataclasses.replace(closed(None, pnl=str(pnl)), at=at) for at, pnl in trades]
        events += [funding(f"f-{place}", at, str(amount)) for place, (at, amount) in enumerate(paid)]
        await SqlJournal(db, "paper:1", clock=wall).append(events)
        records = [await Days(db, "paper:1").record(MIDNIGHT.date() + back * DAY) for back in range(-2, 4)]
        await db.close()
        pnl = sum((record.trades.pnl for record in records), Decimal(0))
        funded = sum((record.funding for record in records), Decimal(0))
        return pnl, funded, sum(record.trades.trades for record in records)

    with TemporaryDirectory() as folder:
        pnl, funded, count = asyncio.run(days_of(Path(folder) / "days.db"))
    assert count == len(trades)
    assert pnl == sum((pnl for _, pnl in trades), Decimal(0))
    assert funded == sum((amount for _, amount in paid), Decimal(0))


async def test_a_close_wins_over_a_sample_of_its_moment(db: Database, journal: SqlJournal) -> None:
    """The curve of the journal, refined with what was seen between two closes."""
    samples = EquitySamples(db, "paper:1")
    await journal.append([marked(0), marked(1)])
    await samples.add(Sample(at=marked(1).at, equity=Decimal(1), cash=Decimal(1)))
    await samples.add(Sample(at=marked(0).at + timedelta(minutes=5), equity=Decimal(2), cash=Decimal(1)))
    curve = await Records(db, "paper:1").equity_curve()
    both = refined(curve, await samples.curve())
    assert both.equity.tolist() == [marked(0).equity, 2.0, marked(1).equity]


async def test_a_closed_table_is_an_answer_of_the_storage(db: Database) -> None:
    """A failure below comes out as one of the storage's own."""
    await db.write(lambda connection: connection.exec_driver_sql("DROP TABLE samples"))
    with pytest.raises(Transient):
        await EquitySamples(db, "paper:1").add(a_sample())
