"""Keys and spending over restarts: what was committed is there after a kill, and no key's text is in the file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from storage.database import Database, open_database
from storage.model_state import SqlKeys, SqlSpending
from tests.storage import samples
from tests.trading.llm.in_memory import MemoryKeys, MemorySpending
from trading.llm.budget import Budget, Caps, SpendingStore, Spent
from trading.llm.keys import Key, KeyPool, KeyRecord, PoolStore
from trading.model import ZERO

CAPS = Caps(daily_usd=Decimal("1.00"), daily_tokens=100_000)
DAY = date(2026, 11, 23)
RECORD = KeyRecord(
    provider="gemini",
    fingerprint="0123456789abcdef",
    state="cooling",
    since=samples.START,
    until=samples.START + timedelta(microseconds=61_000_001),
    why="429 \ud800",
    uses=2**40,
    told=False,
)
KEYS = [
    Key(provider=provider, bucket=f"b{number}", secret=f"{prefix}SECRET{number:020}")
    for provider, prefix in (("huggingface", "hf_"), ("gemini", "AIza"))
    for number in range(3)
]


@pytest.mark.parametrize("kind", ["memory", "sql"])
async def test_key_records_come_back_as_they_were(db: Database, kind: str) -> None:
    """The last word on each, of both providers, to the microsecond; nothing is lost by saving others."""
    store: PoolStore = MemoryKeys() if kind == "memory" else SqlKeys(db)
    assert await store.load() == []
    await store.save([])
    plain = replace(RECORD, why="429")
    other = KeyRecord(provider="huggingface", fingerprint=RECORD.fingerprint)
    await store.save([plain, other])
    gone = replace(other, state="retired", code=401, why="refused (401)")
    await store.save([gone])
    assert {record.identity: record for record in await store.load()} == {plain.identity: plain, gone.identity: gone}


async def test_a_reason_that_no_database_takes_is_taken(db: Database) -> None:
    """What a provider wrote must not keep a bucket from resting."""
    await SqlKeys(db).save([RECORD])
    assert [record.why for record in await SqlKeys(db).load()] == ["429 \ufffd"]


@pytest.mark.parametrize("kind", ["memory", "sql"])
async def test_spending_is_added_up_exactly_and_kept_under_the_caps(db: Database, kind: str) -> None:
    """Day by day; a refusal changes nothing."""
    store: SpendingStore = MemorySpending() if kind == "memory" else SqlSpending(db)
    assert await store.spent(DAY) == Spent()
    cent = Decimal("0.00000000000000000001")
    assert await store.add(DAY, 100_000, cent, CAPS) == (True, Spent(tokens=100_000, usd=cent))
    assert await store.add(DAY, 1, ZERO, CAPS) == (False, Spent(tokens=100_000, usd=cent))
    assert await store.add(DAY, -99_999, Decimal("0.9"), None) == (True, Spent(tokens=1, usd=cent + Decimal("0.9")))
    assert await store.add(DAY, 0, Decimal("0.1"), CAPS) == (False, Spent(tokens=1, usd=cent + Decimal("0.9")))
    assert await store.add(DAY, 200_000, ZERO, None) == (True, Spent(tokens=200_001, usd=cent + Decimal("0.9")))
    assert await store.spent(DAY) == Spent(tokens=200_001, usd=cent + Decimal("0.9"))
    assert await store.spent(DAY + timedelta(days=1)) == Spent()


async def test_two_programs_share_one_cap(path: Path) -> None:
    """Forty reservations at once from two connections: exactly as many as fit."""
    one, two = await open_database(path), await open_database(path)
    budgets = [Budget(CAPS, SqlSpending(each), samples.wall) for each in (one, two)]
    held = await asyncio.gather(*(budgets[number % 2].reserve(3_000, Decimal("0.031")) for number in range(40)))
    assert sum(each is not None for each in held) == 32
    await budgets[0].load()
    assert (budgets[0].spent().tokens, budgets[0].spent().usd) == (96_000, Decimal("0.992"))
    for each in (one, two):
        await each.close()


def killed(program: str, path: Path) -> str:
    """Run a program that reports its commit and then hangs; kill it with SIGKILL there."""
    arguments = [sys.executable, "-c", PROLOGUE + program, str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    return said.strip()


PROLOGUE = """
import asyncio, sys
from decimal import Decimal
from pathlib import Path
from storage.database import open_database
from storage.model_state import SqlKeys, SqlSpending
from tests.storage import samples
from tests.storage.test_model_state import CAPS, KEYS
from trading.llm.budget import Budget
from trading.llm.keys import KeyPool

async def run():
    db = await open_database(Path(sys.argv[1]))
    await main(db)
    print("committed", flush=True)
    await asyncio.sleep(60)
"""
ABOUT_KEYS = """
async def main(db):
    pool = KeyPool(KEYS, SqlKeys(db), samples.wall)
    await pool.load()
    pool.take("huggingface")
    await pool.cool(KEYS[0], 60.0, f"429 for {KEYS[0].secret}")
    await pool.drain(KEYS[3])
    await pool.retire(KEYS[1], 401)

asyncio.run(run())
"""
ABOUT_MONEY = """
async def main(db):
    budget = Budget(CAPS, SqlSpending(db), samples.wall)
    settled = await budget.reserve(50_000, Decimal("0.5"))
    await budget.settle(settled, 1_000, Decimal("0.01"))
    await budget.reserve(30_000, Decimal("0.3"))

asyncio.run(run())
"""


async def test_what_happened_to_keys_survives_sigkill(path: Path) -> None:
    """Cooled, drained, retired: as before, but that nobody can say whether the alerts were read."""
    assert killed(ABOUT_KEYS, path) == "committed"

    db = await open_database(path)
    pool = KeyPool(KEYS, SqlKeys(db), samples.wall)
    await pool.load()
    assert [row.state for row in pool.report()] == ["cooling", "retired", "healthy", "draining", "healthy", "healthy"]
    assert [row.seconds for row in pool.report()][:4] == [60.0, 0.0, 0.0, 21_600.0]
    assert (pool.report()[0].uses, pool.report()[0].why) == (1, "429 for …0000")
    assert pool.take("huggingface") == KEYS[2]
    assert len(pool.drain_alerts()) == 2
    await db.close()


async def test_a_reservation_survives_sigkill(path: Path) -> None:
    """The settled one at what it came to, the open one in full."""
    assert killed(ABOUT_MONEY, path) == "committed"

    db = await open_database(path)
    budget = Budget(CAPS, SqlSpending(db), samples.wall)
    await budget.load()
    assert (budget.spent().tokens, budget.spent().usd) == (31_000, Decimal("0.31"))
    assert await budget.reserve(69_001, ZERO) is None
    await db.close()


async def test_no_text_of_a_key_is_in_the_files(path: Path) -> None:
    """Neither in the database nor beside it, also where a reason quotes it."""
    killed(ABOUT_KEYS, path)
    files = list(path.parent.iterdir())
    assert len(files) >= 2
    everything = b"".join(file.read_bytes() for file in files)
    assert KEYS[0].fingerprint.encode() in everything
    assert b"SECRET" not in everything
