"""Check, backup and restore."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from storage.checks import backup, check, restore
from storage.database import Database, open_database
from storage.errors import CorruptDatabase
from storage.journal import SqlJournal
from storage.lock import InstanceLock
from tests.storage import samples
from tests.storage.samples import content
from trading.errors import AnotherInstance, BadInput


async def write(db: Database, count: int) -> None:
    """`count` alerts and marks in each of two accounts."""
    for account in ("live", "paper"):
        events = [samples.alert(number) for number in range(count)]
        await SqlJournal(db, account, clock=samples.wall).append([*events, samples.marked()])


async def events_in(path: Path) -> int:
    """How many events the paper account of a database has, its chain being whole."""
    db = await open_database(path)
    journal = SqlJournal(db, "paper", clock=samples.wall)
    assert await journal.verify() is None
    count = await journal.last_seq()
    await db.close()
    return count


async def test_a_sound_database(db: Database) -> None:
    """One line for the file and two for each account."""
    await write(db, 3)
    findings = await check(db)
    assert all(finding.ok for finding in findings)
    subjects = [finding.subject for finding in findings[1:]]
    assert subjects == ["live: journal", "live: tables", "paper: journal", "paper: tables"]


async def test_tampering_is_named(db: Database) -> None:
    """The account with a changed event, and the one with a missing row, are pointed at."""
    await write(db, 3)
    with sqlite3.connect(db.name) as other:
        other.execute("UPDATE journal SET body = replace(body, 'alert 1', 'alert 9') WHERE account = 'live'")
        other.execute("DELETE FROM equity WHERE account = 'paper'")
    other.close()
    bad = {finding.subject: finding.text for finding in await check(db) if not finding.ok}
    assert set(bad) == {"live: journal", "paper: tables"}
    assert "event 2" in bad["live: journal"]
    assert "0 equity for 1 events" in bad["paper: tables"]


async def test_a_backup_of_a_database_in_use(db: Database, tmp_path: Path) -> None:
    """It is whole, one file, private, and later writes are not in it."""
    await write(db, 3)
    target = tmp_path / "copies" / "today.db"
    backup(Path(db.name), target)
    await write(db, 3)
    assert [each.name for each in target.parent.iterdir()] == ["today.db"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    backup(Path(db.name), target)
    backup(target, tmp_path / "again.db")
    assert await events_in(tmp_path / "again.db") == 8


async def test_restoring_keeps_the_old_file_aside(path: Path, tmp_path: Path) -> None:
    """The backup is in place with its chain, the newer database beside it, in one piece."""
    db = await open_database(path)
    await write(db, 3)
    backup(path, tmp_path / "backup.db")
    await write(db, 5)
    await db.close()
    aside = restore(path, tmp_path / "backup.db", data_dir=tmp_path)
    assert aside is not None
    assert await events_in(path) == 4
    assert await events_in(aside) == 10
    assert restore(path, tmp_path / "backup.db", data_dir=tmp_path) != aside


async def test_restoring_into_an_empty_folder(path: Path, tmp_path: Path) -> None:
    """Nothing to set aside."""
    db = await open_database(tmp_path / "other.db")
    await write(db, 1)
    await db.close()
    backup(tmp_path / "other.db", tmp_path / "backup.db")
    assert restore(path, tmp_path / "backup.db", data_dir=tmp_path) is None
    assert await events_in(path) == 2


async def test_what_restore_refuses(path: Path, tmp_path: Path) -> None:
    """A running Conclave, a missing and a damaged backup: the database stays where and what it is."""
    await (await open_database(path)).close()
    before = content(path)
    good, bad = tmp_path / "good.db", tmp_path / "bad.db"
    backup(path, good)
    content(bad, content(good)[:4096] + b"\x5a" * 8192)
    with InstanceLock(tmp_path), pytest.raises(AnotherInstance):
        restore(path, good, data_dir=tmp_path)
    with pytest.raises(BadInput):
        restore(path, tmp_path / "nowhere.db", data_dir=tmp_path)
    with pytest.raises(CorruptDatabase):
        restore(path, bad, data_dir=tmp_path)
    assert content(path) == before


async def test_what_backup_refuses(path: Path, tmp_path: Path) -> None:
    """Nothing to copy, the database itself, a folder."""
    with pytest.raises(BadInput):
        backup(path, tmp_path / "x.db")
    await (await open_database(path)).close()
    for target in (path, tmp_path):
        with pytest.raises(BadInput):
            backup(path, target)
