"""What cards and reports ask of the past."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage.database import Database
from storage.journal import SqlJournal
from storage.queries import Records
from tests.storage import samples
from trading.model import millis


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
