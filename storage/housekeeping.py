"""What keeps the database small and the disk free: old rows go, the write-ahead log is folded back.

What may go is looked for by a reader, in a state of its own, and is deleted by its key in short transactions: the
single writer is held for a few milliseconds at a time, and each row is judged again as it goes. A message that
waits, an update that is not done and a ticket that may still be used never go.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Select,
    Table,
    bindparam,
    delete,
    exists,
    func,
    literal,
    select,
    type_coerce,
    update,
)

from storage import tables
from storage.columns import MICROSECOND
from storage.database import Database
from storage.errors import primary_code, translated
from trading.model import EPOCH

LOW_DISK: Final = 500_000_000
"""Bytes of free space below which somebody must be told."""
BIG_LOG: Final = 64_000_000
"""Bytes of write-ahead log from which on it is folded back into the database."""

_OUTBOX: Final = tables.table(tables.Outbox)
_INBOX: Final = tables.table(tables.Inbox)
_TICKETS: Final = tables.table(tables.Tickets)
_SAMPLES: Final = tables.table(tables.Samples)

_FOUND_AT_ONCE: Final = 1_000
_HOLD_SECONDS: Final = 0.005  # of one transaction; what is queued behind it waits that long and a commit
_PAUSE_SECONDS: Final = 0.01
_CHECKPOINT_WAIT: Final = 0.02
_ENOUGH_AGAIN: Final = 1.2  # times the limit: a disk at its edge is not told of every minute
_HOUR: Final = timedelta(hours=1)
_WAITING_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How much stays: newest rows of each account, tickets that are newer than `ticket_age` all the same.

    Samples are kept whole for `samples_age`, after that the last one of each hour, for ever.
    """

    messages: int = 20_000
    updates: int = 5_000
    tickets: int = 1_000
    ticket_age: timedelta = timedelta(days=30)
    samples_age: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class _Rule:
    """`find` yields keys of rows that may go, named as `remove` wants them; `remove` ends one of them."""

    name: str
    find: Select[Any]
    remove: Any


class Housekeeping:
    """The rows of every account in one database; `pause` is what the writer gets to breathe between two batches.

    `file` is the database's own, None where it is no file (then there is no log to fold back).
    """

    def __init__(
        self,
        db: Database,
        file: Path | None,
        *,
        keep: Keep | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._db = db
        self._file = file
        self._keep = keep or Keep()
        self._pause = pause

    async def run(self, at: datetime) -> dict[str, int]:
        """Everything once, as of wall time `at`; how many rows of each kind went. `Transient` stops it midway,
        and the next time carries on."""
        gone = {rule.name: await self._apply(rule) for rule in rules(self._keep, at)}
        await self._db.write(_optimize)
        if self._file is not None and log_size(self._file) > BIG_LOG:
            await asyncio.to_thread(fold_log, self._file)
        return gone

    async def _apply(self, rule: _Rule) -> int:
        gone = 0
        while keys := await self._found(rule):
            while keys:
                done, removed = await self._db.write(partial(_remove, rule.remove, keys))
                keys, gone = keys[done:], gone + removed
                await self._pause(_PAUSE_SECONDS)
        return gone

    async def _found(self, rule: _Rule) -> list[dict[str, Any]]:
        async with self._db.read() as session:
            rows = (await session.execute(rule.find.limit(_FOUND_AT_ONCE))).mappings().all()
        return [dict(row) for row in rows]


def rules(keep: Keep, at: datetime) -> tuple[_Rule, ...]:
    """What may go at wall time `at`."""
    whole = at - keep.samples_age
    return (
        _Rule("messages", _beyond(_OUTBOX, _OUTBOX.c.state != "waiting", keep.messages), _END_MESSAGE),
        _Rule("files", _DEAD_FILES, _END_FILE),
        _Rule("updates", _beyond(_INBOX, _INBOX.c.done, keep.updates), _END_UPDATE),
        _Rule("tickets", _old_tickets(keep.tickets, at - keep.ticket_age), _END_TICKET),
        _Rule("samples", _fine_samples(whole - (whole - EPOCH) % _HOUR), _END_SAMPLE),
    )


def _beyond(table: Table, over: Any, keep: int) -> Select[Any]:
    """Ids of rows that are over, but for the newest `keep` of each account; the oldest first."""
    ranked = _ranked(table, table.c.id, over).subquery()
    return select(ranked.c.id.label("of_id")).where(ranked.c.place > keep).order_by(ranked.c.id)


def _ranked(table: Table, age: Column[Any], over: Any) -> Select[Any]:
    """Rows that are over with their `place` in their account, 1 for the newest."""
    place = func.row_number().over(partition_by=table.c.account, order_by=age.desc()).label("place")
    return select(*table.primary_key.columns, age.label("age"), place).where(over)


def _old_tickets(keep: int, before: datetime) -> Select[Any]:
    ranked = _ranked(_TICKETS, _TICKETS.c.created_at, _TICKETS.c.state != "pending").subquery()
    wanted = select(ranked.c.account.label("of_account"), ranked.c.nonce.label("of_nonce"))
    limit = literal(before, _TICKETS.c.created_at.type)
    return wanted.where(ranked.c.place > keep, ranked.c.age < limit).order_by(ranked.c.age)


def _fine_samples(before: datetime) -> Select[Any]:
    """Samples before a full hour that have a later one within their own hour."""
    hour = _HOUR // MICROSECOND
    later = _SAMPLES.alias("later")
    at, then = type_coerce(_SAMPLES.c.at, BigInteger), type_coerce(later.c.at, BigInteger)
    same_hour = then < at - at % hour + hour
    finer = exists().where(later.c.account == _SAMPLES.c.account, then > at, same_hour)
    wanted = select(_SAMPLES.c.account.label("of_account"), at.label("of_at"))
    return wanted.where(at < (before - EPOCH) // MICROSECOND, finer).order_by(at)


_DEAD_FILES: Final = select(_OUTBOX.c.id.label("of_id")).where(_OUTBOX.c.state == "dead", _OUTBOX.c.media.is_not(None))
_ONE_MESSAGE: Final = _OUTBOX.c.id == bindparam("of_id")
_END_MESSAGE: Final = delete(_OUTBOX).where(_ONE_MESSAGE, _OUTBOX.c.state != "waiting")
_END_FILE: Final = update(_OUTBOX).where(_ONE_MESSAGE, _OUTBOX.c.state == "dead").values(media=None)
_END_UPDATE: Final = delete(_INBOX).where(_INBOX.c.id == bindparam("of_id"), _INBOX.c.done)
_END_TICKET: Final = delete(_TICKETS).where(
    _TICKETS.c.account == bindparam("of_account"),
    _TICKETS.c.nonce == bindparam("of_nonce"),
    _TICKETS.c.state != "pending",
)
_END_SAMPLE: Final = delete(_SAMPLES).where(
    _SAMPLES.c.account == bindparam("of_account"), type_coerce(_SAMPLES.c.at, BigInteger) == bindparam("of_at")
)


def _remove(statement: Any, keys: Sequence[Mapping[str, Any]], connection: Connection) -> tuple[int, int]:
    """As many of the keys as fit one transaction: how many were dealt with, and how many rows that ended."""
    end = time.perf_counter() + _HOLD_SECONDS
    removed = 0
    for done, key in enumerate(keys, 1):
        removed += connection.execute(statement, key).rowcount
        if time.perf_counter() >= end:
            return done, removed
    return len(keys), removed


def _optimize(connection: Connection) -> None:
    """Figures for the query planner, from a bounded look at each index."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA analysis_limit=400")
        connection.exec_driver_sql("PRAGMA optimize")


def log_size(file: Path) -> int:
    """Bytes of the write-ahead log beside a database; 0 without one."""
    try:
        return file.with_name(file.name + "-wal").stat().st_size
    except FileNotFoundError:
        return 0


def fold_log(file: Path) -> bool:
    """Bring the write-ahead log into the database and cut it; False while a reader still needs it. Blocks.

    Most of it is done beside the writer; only the rest, a few pages, is done while nobody writes.
    """
    try:
        with closing(sqlite3.connect(file, timeout=_CHECKPOINT_WAIT)) as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.Error as error:
        if primary_code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return False
        raise translated(error, str(file)) from error
    return not busy


def free_space(folder: Path) -> int:
    """Free bytes on the disk of a folder, for whoever is not its administrator."""
    return shutil.disk_usage(folder).free


class DiskWatch:
    """Remembers whether a disk was too full, so that it is told once, and its end once.

    Low is below `low` bytes; enough again is `_ENOUGH_AGAIN` times as much.
    """

    def __init__(self, low: int = LOW_DISK) -> None:
        self._low = low
        self.full = False

    def news(self, free: int) -> Literal["low", "enough"] | None:
        """What is new about it; it stays new until it was `told`."""
        if not self.full and free < self._low:
            return "low"
        return "enough" if self.full and free >= self._low * _ENOUGH_AGAIN else None

    def told(self, news: Literal["low", "enough"]) -> None:
        """Somebody knows."""
        self.full = news == "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleCard:
    """A message whose buttons no longer do anything. `used`: a permission of it was used before the end."""

    key: str
    used: bool


async def stale_cards(db: Database, account: str, since: datetime) -> list[StaleCard]:
    """Cards that still show buttons although every ticket of theirs (that ran out at `since` or later) is over.

    A ticket names its card's outbox key as `card` in its body. What is stored is asked: a crash between a ticket's
    end and its card's does not leave the buttons standing.
    """
    limit = literal(since, _TICKETS.c.expires_at.type)
    wanted = select(_TICKETS.c.state, _TICKETS.c.body).where(
        _TICKETS.c.account == account, _TICKETS.c.expires_at >= limit
    )
    async with db.read() as session:
        states: dict[str, set[str]] = {}
        for state, body in await session.execute(wanted):
            if isinstance(card := json.loads(body).get("card"), str):
                states.setdefault(card, set()).add(state)
        over = {card: seen for card, seen in states.items() if "expired" in seen and "pending" not in seen}
        shown = [card for card in over if await _has_buttons(session, account, card)]
    return [StaleCard(key=card, used="used" in over[card]) for card in shown]


async def _has_buttons(session: Any, account: str, key: str) -> bool:
    wanted = select(_OUTBOX.c.buttons).where(
        _OUTBOX.c.account == account, _OUTBOX.c.key == key, _OUTBOX.c.state != "dead"
    )
    buttons = (await session.execute(wanted)).scalar()
    return bool(buttons and json.loads(buttons))


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What the outbox has not sent yet: how many, and the oldest of them by id and revision."""

    count: int
    oldest: tuple[tuple[int, int], ...]


async def waiting(db: Database, account: str) -> Waiting:
    """The messages of an account that wait."""
    ours = (_OUTBOX.c.account == account, tables.WAITING)
    counted = select(func.count()).select_from(_OUTBOX).where(*ours)
    wanted = select(_OUTBOX.c.id, _OUTBOX.c.revision).where(*ours).order_by(_OUTBOX.c.id).limit(_WAITING_SHOWN)
    async with db.read() as session:
        count: int = (await session.execute(counted)).scalar_one()
        rows = (await session.execute(wanted)).all() if count else []
    return Waiting(count=count, oldest=tuple((row.id, row.revision) for row in rows))
