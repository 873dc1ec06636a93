"""Looking after the database file: check it, copy it while it is in use, put a copy back."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from storage import tables
from storage.database import Database, prepare_file, quick_check
from storage.errors import translated
from storage.journal import SqlJournal
from storage.lock import InstanceLock
from storage.queries import Records
from trading import events
from trading.errors import BadInput, Misconfigured

_JOURNAL: Final = tables.table(tables.Journal)
_HEADS: Final = tables.table(tables.Heads)

# A row for each event of the kind. Executions are not among them: one may be reported twice.
_DRAWN: Final = (
    (events.OrderIntended, tables.Intents),
    (events.VerdictReached, tables.Verdicts),
    (events.TradeClosed, tables.Trades),
    (events.EquityMarked, tables.Equity),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a check: `subject` was looked at, `text` says what was seen."""

    subject: str
    ok: bool
    text: str


async def check(db: Database) -> list[Finding]:
    """Every page of the file, then chain and tables of every account, one line each. Raises only `Transient`
    or, for a file that cannot be read at all, `CorruptDatabase`."""
    await asyncio.to_thread(quick_check, Path(db.name))
    findings = [Finding(subject=db.name, ok=True, text="every page is sound")]
    for account in await accounts(db):
        findings.append(await _chain(db, account))
        findings.append(await _drawn(db, account))
    return findings


async def accounts(db: Database) -> list[str]:
    """Every account that the file knows."""
    wanted = select(_JOURNAL.c.account).union(select(_HEADS.c.account))
    async with db.read() as session:
        return sorted((await session.execute(wanted)).scalars())


async def _chain(db: Database, account: str) -> Finding:
    journal = SqlJournal(db, account, clock=lambda: datetime.now(UTC))
    broken = await journal.verify()
    subject = f"{account}: journal"
    if broken is None:
        return Finding(subject=subject, ok=True, text=f"chain whole, {await journal.last_seq()} events")
    return Finding(subject=subject, ok=False, text=f"chain broken at event {broken}: restore a backup")


async def _drawn(db: Database, account: str) -> Finding:
    """Whether the tables hold as many rows as the journal has events for them."""
    wanted = (
        select(_JOURNAL.c.type, func.count()).where(_JOURNAL.c.account == account).group_by(_JOURNAL.c.type)
    )
    async with db.read() as session:
        written = {row[0]: row[1] for row in await session.execute(wanted)}
    counts = await Records(db, account).counts()
    drawn = [(tables.table(model).name, written.get(kind.__name__, 0)) for kind, model in _DRAWN]
    wrong = [f"{counts[name]} {name} for {count} events" for name, count in drawn if counts[name] != count]
    text = "; ".join(wrong) or ", ".join(f"{count} {name}" for name, count in counts.items())
    return Finding(subject=f"{account}: tables", ok=not wrong, text=text)


def backup(database: Path, target: Path) -> None:
    """A consistent copy of a database that may be in use: one file, mode 0600, checked before it is named.

    Blocks while it copies. `BadInput` when there is nothing to copy; an older copy at `target` is replaced.
    """
    if not database.is_file():
        raise BadInput(f"there is no database at {database}")
    if target.is_dir() or target.resolve() == database.resolve():
        raise BadInput(f"{target} cannot take the backup: name another file")
    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        prepare_file(partial)
    except Misconfigured:
        raise BadInput(f"{target} cannot be written: name a file in a folder that exists") from None
    _copy(database, partial)
    quick_check(partial)
    partial.replace(target)


def _copy(database: Path, target: Path) -> None:
    source = sqlite3.connect(database)
    copy = sqlite3.connect(target)
    try:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # a backup is one file, readable from a read-only disk
    except sqlite3.Error as error:
        raise translated(error, str(database)) from error
    finally:
        copy.close()
        source.close()


def restore(database: Path, source: Path, *, data_dir: Path) -> Path | None:
    """Put a backup in the database's place; returns where the old file is now, None when there was none.

    `AnotherInstance` while a Conclave works in `data_dir`; `CorruptDatabase` for a bad backup, and then the
    old file is where it was.
    """
    if not source.is_file():
        raise BadInput(f"there is no backup at {source}")
    quick_check(source)
    if not _ours(source):
        raise BadInput(f"{source} is not a backup of Conclave's: name a file that db backup made")
    with InstanceLock(data_dir):
        fresh = database.with_name(database.name + ".restoring")
        fresh.unlink(missing_ok=True)
        fresh.touch(mode=0o600)
        shutil.copyfile(source, fresh)
        quick_check(fresh)
        aside = _set_aside(database)
        fresh.replace(database)
    return aside


def _ours(source: Path) -> bool:
    """Does the file hold our tables?"""
    connection = sqlite3.connect(source)
    try:
        names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    finally:
        connection.close()
    return {"alembic_version", "journal", "heads"} <= names


def _set_aside(database: Path) -> Path | None:
    """Rename the database with its journal files; a stale write-ahead log must never meet another file."""
    if not database.exists():
        return None
    names = (database.with_name(f"{database.name}.aside-{number}") for number in itertools.count(1))
    aside = next(name for name in names if not name.exists())
    for suffix in ("-wal", "-shm", ""):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside
