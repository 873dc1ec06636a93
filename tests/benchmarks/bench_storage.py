"""How fast the memory is: commits with an fsync each, reading back, and the queues of the chat."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from storage import tables
from storage.codec import decode, encode
from storage.database import Database, open_database
from storage.inbox import InboxStore
from storage.journal import SqlJournal
from storage.memory import MemoryJournal
from storage.outbox import NewMessage, Outbox
from storage.queries import Records
from tests.benchmarks import Figure, benchmark
from tests.storage import samples
from trading.events import Event

SECONDS = 2.0
CURVE = 1_000_000
SENT = 50_000
BAR: tuple[Event, ...] = (samples.alert(1), samples.filled(), samples.marked(1))


@asynccontextmanager
async def opened() -> AsyncIterator[Database]:
    """A database in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        db = await open_database(Path(folder) / "conclave.db")
        try:
            yield db
        finally:
            await db.close()


@benchmark
def append() -> Iterable[Figure]:
    """Committed appends a second, one after the other, by the number of events in each."""
    return asyncio.run(_append())


async def _append() -> list[Figure]:
    figures = [Figure(name="commit of bare sqlite3", value=_bare(), unit="1/s", note="the disk's limit")]
    for batch in (BAR[-1:], BAR, BAR * 2):
        async with opened() as db:
            rate = await _rate(SqlJournal(db, "paper", clock=samples.wall), batch)
        figures.append(Figure(name=f"append of {len(batch)}", value=rate, unit="1/s", note="fsync each"))
    rate = await _rate(MemoryJournal(), BAR[-1:])
    return [*figures, Figure(name="append in memory", value=1e6 / rate, unit="us")]


def _bare() -> float:
    """One small row for each transaction, with the same durability and nothing of ours."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE bare (body TEXT)")
        count, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < SECONDS:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO bare VALUES (?)", ("x" * 300,))
            connection.execute("COMMIT")
            count += 1
        connection.close()
    return count / spent


async def _rate(journal: SqlJournal | MemoryJournal, batch: Sequence[Event]) -> float:
    count, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < SECONDS:
        for _ in range(20):
            await journal.append(batch)
        count += 20
    return count / spent


@benchmark
def codec() -> Iterable[Figure]:
    """Events a second through JSON: a large one (a verdict with its council) and a usual one."""
    for event in (samples.verdict(), samples.marked(1)):
        stored = encode(event)
        began = time.perf_counter()
        for _ in range(10_000):
            encode(event)
        written = time.perf_counter()
        for _ in range(10_000):
            decode(*stored)
        read = time.perf_counter()
        yield Figure(name=f"encode {stored[0]}", value=1e4 / (written - began), unit="1/s")
        yield Figure(name=f"decode {stored[0]}", value=1e4 / (read - written), unit="1/s")


@benchmark
def reading() -> Iterable[Figure]:
    """Reading a journal back, checking its chain, and the whole equity curve as arrays."""
    return asyncio.run(_reading())


async def _reading() -> list[Figure]:
    async with opened() as db:
        journal = SqlJournal(db, "paper", clock=samples.wall)
        for _ in range(20):
            await journal.append([samples.marked(number) for number in range(1000)])
        began, after = time.perf_counter(), 0
        while page := await journal.read(after):
            after = page[-1].seq
        read = time.perf_counter()
        await journal.verify()
        verified = time.perf_counter()
        seconds = await _curve(db)
    return [
        Figure(name="journal read", value=after / (read - began), unit="events/s"),
        Figure(name="journal verify", value=after / (verified - read), unit="events/s"),
        Figure(name="equity curve", value=seconds, unit="s", note=f"{CURVE:,} closes"),
    ]


async def _curve(db: Database) -> float:
    rows = [
        {
            "account": "curve",
            "seq": number,
            "at": datetime(1990, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * number),
            "equity": 10000 + number / 7,
            "cash": samples.marked().cash,
            "exposed": number % 2 == 0,
        }
        for number in range(1, CURVE + 1)
    ]
    await db.write(lambda connection: connection.execute(insert(tables.table(tables.Equity)), rows))
    began = time.perf_counter()
    curve = await Records(db, "curve").equity_curve()
    assert len(curve) == CURVE
    return time.perf_counter() - began


@benchmark
def queues() -> Iterable[Figure]:
    """The chat's queues behind a long history: choosing the next message, accepting an update."""
    return asyncio.run(_queues())


async def _queues() -> list[Figure]:
    async with opened() as db:
        outbox, inbox = Outbox(db, "paper"), InboxStore(db, "bot")
        await outbox.put([NewMessage(key=str(number), chat_id=1, text="x" * 200) for number in range(SENT)])
        sent = tables.table(tables.Outbox).update().values(state="sent", chat_message_id=1)
        await db.write(lambda connection: connection.execute(sent))
        await outbox.put([NewMessage(key=f"new {number}", chat_id=1, text="x") for number in range(200)])
        began = time.perf_counter()
        for _ in range(200):
            await outbox.next()
        chosen = time.perf_counter()
        for update_id in range(200):
            await inbox.accept(update_id, {"text": "/status"}, samples.START)
        accepted = time.perf_counter()
    note = f"{SENT:,} sent before"
    return [
        Figure(name="outbox next", value=(chosen - began) / 200 * 1000, unit="ms", note=note),
        Figure(name="inbox accept", value=(accepted - chosen) / 200 * 1000, unit="ms", note="fsync each"),
    ]
