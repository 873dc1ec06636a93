"""The database as a file: modes, durability, one writer, faults that heal and faults that stop."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text

from storage import tables
from storage.database import Database, open_database
from storage.errors import Conflict, CorruptDatabase
from storage.journal import SqlJournal
from storage.outbox import Outbox
from tests.storage import samples
from tests.storage.samples import content
from trading.errors import ConclaveError, Misconfigured, Transient

EQUITY = tables.table(tables.Equity)


def row(seq: int, *, at: datetime = samples.START, cash: str = "1.10") -> dict[str, object]:
    """A row of the equity table."""
    return {"account": "a", "seq": seq, "at": at, "equity": 0.1, "cash": Decimal(cash), "exposed": False}


def modes(folder: Path) -> dict[str, int]:
    """File modes by name."""
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}


async def test_files_are_for_the_owner_only(path: Path) -> None:
    """Database, write-ahead log and shared memory are 0600, also when an older file was wider."""
    content(path, b"")
    assert modes(path.parent) == {"conclave.db": 0o644}
    db = await open_database(path)
    await SqlJournal(db, "a", clock=samples.wall).append([samples.alert(1)])
    assert modes(path.parent) == dict.fromkeys(("conclave.db", "conclave.db-wal", "conclave.db-shm"), 0o600)
    await db.close()


async def test_the_writer_is_durable(db: Database) -> None:
    """WAL, a sync for every commit, foreign keys."""
    names = ("journal_mode", "synchronous", "foreign_keys")

    def pragmas(connection: Connection) -> list[object]:
        return [connection.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    assert await db.write(pragmas) == ["wal", 2, 1]


async def test_decimals_times_and_floats_come_back_exactly(db: Database) -> None:
    """Digits, microseconds and every bit of a float."""
    amounts = ["0.00010", "-1E+20", "12345678901234567890.123456789", "0"]
    at = samples.START.replace(microsecond=1)
    rows = [row(seq, at=at, cash=amount) for seq, amount in enumerate(amounts)]
    await db.write(lambda connection: connection.execute(insert(EQUITY), rows))
    async with db.read() as session:
        found = (await session.execute(select(EQUITY).order_by(EQUITY.c.seq))).all()
    assert [str(each.cash) for each in found] == amounts
    assert {(each.at, each.at.utcoffset().total_seconds(), each.equity) for each in found} == {(at, 0.0, 0.1)}


@pytest.mark.parametrize(
    "bad", [row(1, at=samples.START.replace(tzinfo=None)), row(1, cash="NaN"), row(1, cash="-Infinity")]
)
async def test_naive_times_and_nan_are_refused(db: Database, bad: dict[str, object]) -> None:
    """A column refuses what it could not give back."""
    with pytest.raises(ConclaveError):
        await db.write(lambda connection: connection.execute(insert(EQUITY), [bad]))


async def test_a_failed_write_leaves_nothing(db: Database) -> None:
    """The rows before the failing one are rolled back, and the next write is fine."""
    with pytest.raises(Conflict):
        await db.write(lambda connection: connection.execute(insert(EQUITY), [row(1), row(2), row(1)]))
    await db.write(lambda connection: connection.execute(insert(EQUITY), [row(2)]))
    async with db.read() as session:
        assert (await session.execute(select(EQUITY.c.seq))).scalars().all() == [2]


async def test_an_error_of_the_caller_rolls_back_too(db: Database) -> None:
    """Whatever is raised inside a write, none of it is kept."""

    def work(connection: Connection) -> None:
        connection.execute(insert(EQUITY), [row(1)])
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await db.write(work)
    async with db.read() as session:
        assert not (await session.execute(select(EQUITY.c.seq))).all()


async def test_readers_cannot_write(db: Database) -> None:
    """Only the writer's connection changes anything."""
    with pytest.raises(Transient, match="readonly"):
        async with db.read() as session:
            await session.execute(insert(EQUITY), [row(1)])


async def test_a_cancelled_writer_does_not_tear_a_transaction(db: Database) -> None:
    """What it has asked for is done all the same, whole, and the next write works."""
    many = [row(seq) for seq in range(20_000)]
    task = asyncio.create_task(db.write(lambda connection: connection.execute(insert(EQUITY), many)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await db.write(lambda connection: connection.execute(insert(EQUITY), [row(20_000)]))
    async with db.read() as session:
        count = len((await session.execute(select(EQUITY.c.seq))).all())
    assert count == 20_001


async def test_what_is_in_the_queue_is_not_dropped_with_its_caller(db: Database) -> None:
    """A caller that is cancelled before its turn has come."""
    behind = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        loop.call_soon_threadsafe(behind.set)
        connection.execute(insert(EQUITY), [row(seq) for seq in range(20_000)])

    first = asyncio.create_task(db.write(slow))
    second = asyncio.create_task(db.write(lambda connection: connection.execute(insert(EQUITY), [row(20_000)])))
    await behind.wait()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    await first
    await db.write(lambda connection: None)
    async with db.read() as session:
        assert len((await session.execute(select(EQUITY.c.seq))).all()) == 20_001


async def test_readers_do_not_wait_for_a_writer(db: Database) -> None:
    """A reader sees the committed state at once while a transaction is open."""

    def slow(connection: Connection) -> None:
        connection.execute(insert(EQUITY), [row(1)])
        time.sleep(1.5)

    writing = asyncio.create_task(db.write(slow))
    await asyncio.sleep(0.1)
    began = time.monotonic()
    async with db.read() as session:
        assert not (await session.execute(select(EQUITY.c.seq))).all()
    assert time.monotonic() - began < 1.2
    await writing


async def test_a_lock_by_another_program_is_transient(path: Path) -> None:
    """BUSY is waited for, then reported as repeatable, and nothing is lost or doubled."""
    db = await open_database(path, busy_seconds=0.2)
    journal = SqlJournal(db, "a", clock=samples.wall)
    await journal.append([samples.alert(1)])
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient, match="locked"):
        await journal.append([samples.alert(2)])
    other.execute("ROLLBACK")
    other.close()
    assert await journal.append([samples.alert(2)]) == 2
    assert await journal.verify() is None
    await db.close()


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from storage.database import open_database
from storage.journal import SqlJournal
from storage.outbox import Outbox
from tests.storage import samples
from tests.storage.samples import content
from trading.errors import Transient

async def main(path):
    db = await open_database(path)
    journal = SqlJournal(db, "a", clock=samples.wall)
    await journal.append([samples.alert(1)])
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    appended, refused = 1, 0
    while refused < 5:
        try:
            appended = await journal.append([samples.alert(appended)])
        except Transient:
            refused += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert await journal.append([samples.alert(0)]) == appended + 1
    assert len(await journal.read(0, 100_000)) == appended + 1
    assert await journal.verify() is None
    await db.close()
    print("healed", appended)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_disk_is_transient_and_heals(path: Path) -> None:
    """Appends fail as a whole while no byte can be written, and go on without a restart afterwards."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("healed"), done.stderr


@pytest.mark.parametrize("noise", [b"not a database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 8192])
async def test_a_file_that_is_no_database_is_refused(path: Path, noise: bytes) -> None:
    """It is named, and it is left as it was."""
    content(path, noise)
    with pytest.raises(CorruptDatabase, match=r"conclave\.db"):
        await open_database(path)
    assert content(path) == noise


async def test_damaged_pages_are_found_at_open(path: Path) -> None:
    """A database with an overwritten page does not open."""
    db = await open_database(path)
    await SqlJournal(db, "a", clock=samples.wall).append([samples.alert(number) for number in range(500)])
    await db.close()
    sound = content(path)
    content(path, sound[:-8192] + b"\xa5" * 4096 + sound[-4096:])
    with pytest.raises(CorruptDatabase):
        await open_database(path)


async def test_text_that_is_no_text_is_damage(path: Path) -> None:
    """A flipped byte that makes a body unreadable is reported as what it is."""
    db = await open_database(path)
    journal = SqlJournal(db, "a", clock=samples.wall)
    await journal.append([samples.alert(1)])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE journal SET body = CAST(x'7bff' AS TEXT)")
    other.close()
    with pytest.raises(CorruptDatabase):
        await journal.read(0)
    assert await journal.verify() == 1
    await db.close()


async def test_a_value_that_no_column_takes_fails_alone(db: Database) -> None:
    """Half a surrogate pair in an id, or a number beyond 64 bits: nothing is written, the next append works."""
    journal = SqlJournal(db, "a", clock=samples.wall)
    for bad in (samples.intended("x\ud800"), samples.verdict(2**70)):
        with pytest.raises(ConclaveError, match="cannot be stored"):
            await journal.append([samples.alert(1), bad])
    assert await journal.append([samples.alert(1)]) == 1


async def test_readers_that_are_cancelled_at_any_moment_leave_nothing_behind(db: Database) -> None:
    """Their connections go back or are closed; journal and outbox go on."""
    journal, outbox = SqlJournal(db, "a", clock=samples.wall), Outbox(db, "a")
    for number in range(1, 101):
        tasks = [asyncio.create_task(work) for work in (journal.read(0), journal.grown(number), outbox.next())]
        await asyncio.sleep(number / 50_000)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await journal.append([samples.alert(number)]) == number
    assert len(await journal.read(0)) == 100


async def test_an_address_may_name_its_driver(path: Path) -> None:
    """`sqlite:///` and `sqlite+aiosqlite:///` are the same file."""
    for number, scheme in enumerate(("sqlite", "sqlite+aiosqlite"), 1):
        db = await open_database(f"{scheme}:///{path}")
        assert await SqlJournal(db, "a", clock=samples.wall).append([samples.alert(1)]) == number
        await db.close()


UNUSABLE = [
    "mysql://x/y",
    "postgresql://u:p@localhost/x",
    "sqlite://",
    "sqlite:///:memory:",
    "://",
    "/proc/nowhere/conclave.db",
]


@pytest.mark.parametrize("address", UNUSABLE)
async def test_an_address_that_cannot_work_is_a_configuration_error(address: str) -> None:
    """The message names what to set."""
    with pytest.raises(Misconfigured, match="DATA"):
        await open_database(address)


async def test_closing_twice_and_writing_after(db: Database) -> None:
    """A closed database says so."""
    await db.close()
    await db.close()
    with pytest.raises(ConclaveError, match="closed"):
        await db.write(lambda _: None)


def putting(seq: int) -> Callable[[Connection], object]:
    """Work that writes one row."""
    return lambda connection: connection.execute(insert(EQUITY), [row(seq)])


async def test_everybody_reads_what_they_have_written(db: Database) -> None:
    """However many tasks take turns with the readers, nobody is given a state older than their own commit."""

    async def writes_and_reads(first: int) -> None:
        for seq in range(first, first + 40):
            await db.write(putting(seq))
            async with db.read() as session:
                found = (await session.execute(select(EQUITY.c.seq).where(EQUITY.c.seq == seq))).all()
            assert len(found) == 1, f"row {seq} was committed and not seen"

    await asyncio.gather(*(writes_and_reads(1000 * number) for number in range(8)))


async def test_a_cancelled_reader_leaves_its_connection_usable(db: Database) -> None:
    """Readers are cancelled at every moment of a query; whoever comes next reads the present."""
    await db.write(lambda connection: connection.execute(insert(EQUITY), [row(seq) for seq in range(2000)]))

    async def reads() -> None:
        async with db.read() as session:
            await session.execute(select(EQUITY))

    for number in range(40):
        task = asyncio.create_task(reads())
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await db.write(putting(5000 + number))
        async with db.read() as session:
            seen = (await session.execute(select(EQUITY.c.seq).where(EQUITY.c.seq == 5000 + number))).all()
        assert len(seen) == 1
