"""Permissions that wait for a tap: single use, with an end, bound to the hash of exactly what they permit.

Using one is a conditional UPDATE, so of any number of taps, replayed or at once, one has an effect.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select, update
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from storage.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """`nonce` is what the button carries, `digest` the hash of what it permits, `body` that itself (JSON)."""

    nonce: str
    kind: str
    digest: str
    chat_id: int
    created_at: datetime
    expires_at: datetime
    body: Mapping[str, Any]


_TICKETS: Final = tables.table(tables.Tickets)
_OURS: Final = _TICKETS.c.account == bindparam("of_account")
_ONE: Final = select(_TICKETS).where(_OURS, _TICKETS.c.nonce == bindparam("of_nonce"))
_OVER: Final = _TICKETS.c.expires_at <= bindparam("now", type_=_TICKETS.c.expires_at.type)
_LATE: Final = select(_TICKETS).where(_OURS, _TICKETS.c.state == "pending", _OVER)


class Tickets:
    """The tickets of one account."""

    def __init__(self, db: Database, account: str) -> None:
        self._db = db
        self._account = account

    async def issue(self, ticket: Ticket) -> None:
        """Commit a new ticket; `Conflict` when its nonce exists."""
        values = {
            "account": self._account,
            "nonce": ticket.nonce,
            "kind": ticket.kind,
            "digest": ticket.digest,
            "state": "pending",
            "chat_id": ticket.chat_id,
            "created_at": ticket.created_at,
            "expires_at": ticket.expires_at,
            "body": json.dumps(dict(ticket.body)),
        }
        await self._db.write(lambda connection: connection.execute(insert(_TICKETS).values(values)))

    async def use(self, nonce: str, *, user: int, update_id: int, at: datetime) -> Ticket | None:
        """The ticket, once: None when it is used, withdrawn, unknown, or over at `at`.

        The same update gets it again: a crash between using and acting must not swallow the tap.
        """
        change = (
            update(_TICKETS)
            .where(_TICKETS.c.account == self._account, _TICKETS.c.nonce == nonce)
            .where(_TICKETS.c.state == "pending", _TICKETS.c.expires_at > at)
            .values(state="used", used_by=user, used_update=update_id, used_at=at)
        )

        def work(connection: Connection) -> Row[Any] | None:
            connection.execute(change)
            row = connection.execute(_ONE, {"of_account": self._account, "of_nonce": nonce}).first()
            ours = row is not None and (row.state, row.used_update) == ("used", update_id)
            return row if ours else None

        row = await self._db.write(work)
        return None if row is None else _ticket(row)

    async def find(self, nonce: str) -> tuple[Ticket, str] | None:
        """A ticket with its state (`pending`, `used`, `expired`, `withdrawn`); None for an unknown nonce."""
        async with self._db.read() as session:
            wanted = {"of_account": self._account, "of_nonce": nonce}
            row = (await session.execute(_ONE, wanted)).first()
        return None if row is None else (_ticket(row), row.state)

    async def pending(self, kind: str) -> list[Ticket]:
        """Tickets of a kind that nobody has used or ended yet, oldest first."""
        wanted = select(_TICKETS).where(_OURS, _TICKETS.c.kind == kind, _TICKETS.c.state == "pending")
        async with self._db.read() as session:
            rows = (await session.execute(wanted.order_by(_TICKETS.c.created_at), {"of_account": self._account})).all()
        return [_ticket(row) for row in rows]

    async def withdraw(self, nonce: str) -> bool:
        """End a pending ticket before its time; False when it was not pending any more."""
        return await self._db.write(lambda connection: self._end(connection, nonce, "withdrawn"))

    async def expire(self, at: datetime) -> list[Ticket]:
        """End every pending ticket whose time is over and return them: their buttons can go."""

        def work(connection: Connection) -> list[Ticket]:
            rows = connection.execute(_LATE, {"of_account": self._account, "now": at}).all()
            return [_ticket(row) for row in rows if self._end(connection, row.nonce, "expired")]

        return await self._db.write(work)

    def _end(self, connection: Connection, nonce: str, state: str) -> bool:
        one = (_TICKETS.c.account == self._account) & (_TICKETS.c.nonce == nonce)
        change = update(_TICKETS).where(one, _TICKETS.c.state == "pending").values(state=state)
        return connection.execute(change).rowcount == 1


def _ticket(row: Row[Any]) -> Ticket:
    return Ticket(
        nonce=row.nonce,
        kind=row.kind,
        digest=row.digest,
        chat_id=row.chat_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        body=json.loads(row.body),
    )
