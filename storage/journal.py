"""The journal in the database: append-only, hash-chained, committed before `append` returns.

The chain: `hash = SHA-256(previous, account, seq, at, type, recorded_at, body)`, each account for itself,
from 32 zero bytes on. `heads` holds the end of each chain, and an append is an UPDATE of that row on the
condition that it is still the one that was continued: two journals on one account cannot fork the chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    LargeBinary,
    bindparam,
    cast,
    func,
    select,
    type_coerce,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from storage.codec import decode, encode
from storage.columns import MICROSECOND
from storage.database import Database
from storage.errors import CorruptDatabase
from storage.projections import project
from trading.errors import ConclaveError
from trading.events import Event
from trading.model import EPOCH
from trading.ports import Recorded

GENESIS: Final = bytes(32)
_VERIFY_PAGE: Final = 2000

_JOURNAL: Final = tables.table(tables.Journal)
_HEADS: Final = tables.table(tables.Heads)
_CURSORS: Final = tables.table(tables.Cursors)
_SNAPSHOTS: Final = tables.table(tables.Snapshots)
_FOLLOWERS: Final = tuple(
    tables.table(model)
    for model in (
        tables.Cursors,
        tables.Snapshots,
        tables.Intents,
        tables.Executions,
        tables.Verdicts,
        tables.Trades,
        tables.Equity,
        tables.Hearings,
        tables.Calls,
        tables.Shadows,
    )
)

_ADD: Final = insert(_JOURNAL)
_FIND_HEAD: Final = select(_HEADS.c.seq, _HEADS.c.hash).where(_HEADS.c.account == bindparam("of_account"))
_MOVE_HEAD: Final = (
    update(_HEADS)
    .where(_HEADS.c.account == bindparam("of_account"), _HEADS.c.hash == bindparam("old_hash"))
    .values(seq=bindparam("new_seq"), hash=bindparam("new_hash"))
)
_READ: Final = (
    select(_JOURNAL.c.seq, _JOURNAL.c.type, _JOURNAL.c.body)
    .where(_JOURNAL.c.account == bindparam("of_account"), _JOURNAL.c.seq > bindparam("after"))
    .order_by(_JOURNAL.c.seq)
    .limit(bindparam("most"))
)
_LATEST: Final = union_all(
    *(select(func.max(each.c.seq)).where(each.c.account == bindparam("of_account")) for each in _FOLLOWERS)
)
# For verifying, the bytes as they lie in the file: a byte that is no UTF-8 must be found, not raise.
_READ_RAW: Final = (
    select(
        _JOURNAL.c.seq,
        type_coerce(_JOURNAL.c.at, BigInteger),
        cast(_JOURNAL.c.type, LargeBinary),
        type_coerce(_JOURNAL.c.recorded_at, BigInteger),
        cast(_JOURNAL.c.body, LargeBinary),
        _JOURNAL.c.previous,
        _JOURNAL.c.hash,
    )
    .where(_JOURNAL.c.account == bindparam("of_account"), _JOURNAL.c.seq > bindparam("after"))
    .order_by(_JOURNAL.c.seq)
    .limit(_VERIFY_PAGE)
)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a chain: the last sequence number and its hash."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    """An event on its way into the journal; times in microseconds, as they are stored and hashed."""

    event: Event
    type: str
    body: str


class SqlJournal:
    """`trading.ports.Journal` in the database, for one account; `clock` is wall time, for `recorded_at`."""

    def __init__(self, db: Database, account: str, *, clock: Callable[[], datetime]) -> None:
        if not account or "\n" in account:
            raise ConclaveError(f"{account!r} cannot be an account: a name on one line is needed")
        self._db = db
        self._account = account
        self._clock = clock
        self._signal = db.signal(f"journal:{account}")
        self._head: Head | None = None  # as the writer's thread last saw it; the database has the last word

    async def append(self, events: Sequence[Event]) -> int:
        """Commit all of them in order, or none; returns the last sequence number."""
        if not events:
            return await self.last_seq()
        entries = [_Entry(event, *encode(event)) for event in events]
        seq = await self._db.write(partial(self._append, entries, self._clock()))
        self._signal.ring(seq)
        return seq

    async def read(self, after: int, limit: int = 500) -> Sequence[Recorded]:
        """Events after `after`, oldest first, at most `limit`; empty when there are none yet."""
        wanted = {"of_account": self._account, "after": after, "most": limit}
        async with self._db.read() as session:
            rows = (await session.execute(_READ, wanted)).all()
        return [Recorded(seq=seq, event=decode(kind, body)) for seq, kind, body in rows]

    async def grown(self, after: int) -> None:
        """Returns when there is an event after `after`."""
        while True:
            waiter = self._signal.waiter()
            if await self.last_seq() > after:
                return
            await waiter.wait()

    async def last_seq(self) -> int:
        """The last committed sequence number, 0 when there is none."""
        if self._signal.level is None:
            async with self._db.read() as session:
                row = (await session.execute(_FIND_HEAD, {"of_account": self._account})).first()
            self._signal.ring(0 if row is None else row.seq)
        return self._signal.level or 0

    async def save_snapshot(self, seq: int, state: Mapping[str, Any]) -> None:
        """Keep the trader's folded state as of `seq` (JSON types only), replacing the one before."""
        values = {"account": self._account, "seq": seq, "state": state_text(state)}
        added = insert(_SNAPSHOTS).values(values)
        keep = added.on_conflict_do_update(index_elements=["account"], set_=values)
        await self._db.write(lambda connection: connection.execute(keep))

    async def load_snapshot(self) -> tuple[int, Mapping[str, Any]] | None:
        """The last kept state and its sequence number; None when there is none."""
        wanted = select(_SNAPSHOTS.c.seq, _SNAPSHOTS.c.state).where(_SNAPSHOTS.c.account == self._account)
        async with self._db.read() as session:
            row = (await session.execute(wanted)).first()
        return None if row is None else (row.seq, json.loads(row.state))

    async def cursor(self, name: str) -> int:
        """How far the reader `name` has come; 0 before its first step. `Outbox.deliver` moves it."""
        wanted = select(_CURSORS.c.seq).where(_CURSORS.c.account == self._account, _CURSORS.c.name == name)
        async with self._db.read() as session:
            return (await session.execute(wanted)).scalar() or 0

    async def check_end(self) -> None:
        """A quick look at every start: does the journal end where it should? `CorruptDatabase` when it does not.

        `verify` looks at all of it; this notices a lost end, an emptied journal and a lost head.
        """
        latest = select(_JOURNAL.c.seq, _JOURNAL.c.hash).where(_JOURNAL.c.account == self._account)
        async with self._db.read() as session:
            head = (await session.execute(_FIND_HEAD, {"of_account": self._account})).first()
            last = (await session.execute(latest.order_by(_JOURNAL.c.seq.desc()).limit(1))).first()
        known = None if head is None else (head.seq, head.hash)
        found = None if last is None else (last.seq, last.hash)
        if known != found:
            raise CorruptDatabase(
                f"the journal of {self._account} does not end where it should: look with main.py db check, "
                "put a backup back with main.py db restore FILE"
            )

    async def verify(self) -> int | None:
        """The first sequence number at which the chain is broken; None when it is whole.

        Any changed byte, missing, added or reordered row is found, and so is a chain cut short at its end.
        """
        head = Head(0, GENESIS)
        async for page in self._raw_pages():
            for seq, at, kind, recorded_at, body, previous, found in page:
                expected = _digest(head.hash, self._account, seq, at, kind, recorded_at, body)
                if seq != head.seq + 1 or previous != head.hash or found != expected:
                    return head.seq + 1
                head = Head(seq, expected)
        return None if await self._ends_at(head) else head.seq + 1

    async def _raw_pages(self) -> AsyncIterator[Sequence[Any]]:
        after = -1
        while True:
            async with self._db.read() as session:
                wanted = {"of_account": self._account, "after": after}
                page = (await session.execute(_READ_RAW, wanted)).all()
            if not page:
                return
            yield page
            after = page[-1].seq

    async def _ends_at(self, end: Head) -> bool:
        """Whether nothing else in the database knows a later event than the chain's last."""
        async with self._db.read() as session:
            row = (await session.execute(_FIND_HEAD, {"of_account": self._account})).first()
            latest = (await session.execute(_LATEST, {"of_account": self._account})).scalars().all()
        head = Head(0, GENESIS) if row is None else Head(row.seq, row.hash)
        return head == end and all((seq or 0) <= end.seq for seq in latest)

    def _append(self, entries: Sequence[_Entry], recorded_at: datetime, connection: Connection) -> int:
        """In the writer's thread: continue the chain, move its head, write rows and projections."""
        head = self._head or _load_head(connection, self._account)
        rows = chained(self._account, head, entries, recorded_at)
        if not _moved(connection, self._account, head, rows[-1]):
            # Somebody else continued the chain, or our last commit failed after we had counted on it.
            head = _load_head(connection, self._account)
            rows = chained(self._account, head, entries, recorded_at)
            if not _moved(connection, self._account, head, rows[-1]):
                raise ConclaveError(f"the journal of {self._account} has no head: run 'main.py db check'")
        connection.execute(_ADD, rows)
        for statement, values in project(self._account, head.seq + 1, [entry.event for entry in entries]):
            connection.execute(statement, values)
        self._head = Head(rows[-1]["seq"], rows[-1]["hash"])
        return self._head.seq


def state_text(state: Mapping[str, Any]) -> str:
    """A snapshot as JSON; `ConclaveError` for anything that JSON cannot hold exactly."""
    try:
        return json.dumps(dict(state), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise ConclaveError(f"the trader's state is not made of JSON types: {error}") from error


def chained(
    account: str, head: Head, entries: Sequence[_Entry], recorded_at: datetime
) -> list[dict[str, Any]]:
    """The journal rows of `entries`, each bound to the one before it."""
    rows = []
    recorded = _microseconds(recorded_at)
    for seq, entry in enumerate(entries, head.seq + 1):
        at = _microseconds(entry.event.at)
        found = _digest(head.hash, account, seq, at, entry.type.encode(), recorded, entry.body.encode())
        row = {
            "account": account,
            "seq": seq,
            "at": entry.event.at,
            "type": entry.type,
            "body": entry.body,
            "recorded_at": recorded_at,
            "previous": head.hash,
            "hash": found,
        }
        rows.append(row)
        head = Head(seq, found)
    return rows


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def _digest(
    previous: bytes, account: str, seq: object, at: object, kind: bytes, recorded_at: object, body: bytes
) -> bytes:
    """Hash of one row. The parts are on lines of their own; only the last could hold a line break."""
    text = f"{account}\n{seq}\n{at}\n{recorded_at}\n".encode()
    return hashlib.sha256(b"".join((previous, text, kind, b"\n", body))).digest()


def _load_head(connection: Connection, account: str) -> Head:
    row = connection.execute(_FIND_HEAD, {"of_account": account}).first()
    if row is not None:
        return Head(row.seq, row.hash)
    connection.execute(insert(_HEADS).values(account=account, seq=0, hash=GENESIS))
    return Head(0, GENESIS)


def _moved(connection: Connection, account: str, head: Head, last: Mapping[str, Any]) -> bool:
    values = {"of_account": account, "old_hash": head.hash, "new_seq": last["seq"], "new_hash": last["hash"]}
    return connection.execute(_MOVE_HEAD, values).rowcount == 1
