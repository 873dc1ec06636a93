"""Updates from the chat, committed before they are acknowledged, kept until they are dealt with.

python-telegram-bot acknowledges an update before its handler has finished: without this table a crash in
between loses a command.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from storage.database import Database


class Update(NamedTuple):
    """One stored update: Telegram's own id and body, and when it came (wall time)."""

    update_id: int
    body: dict[str, Any]
    received_at: datetime


_INBOX: Final = tables.table(tables.Inbox)
_ADD: Final = insert(_INBOX).on_conflict_do_nothing()
_PENDING: Final = (
    select(_INBOX.c.update_id, _INBOX.c.body, _INBOX.c.received_at)
    .where(_INBOX.c.account == bindparam("of_account"), tables.PENDING)
    .order_by(_INBOX.c.id)
)
_DONE: Final = (
    update(_INBOX)
    .where(_INBOX.c.account == bindparam("of_account"), _INBOX.c.update_id == bindparam("of_update"))
    .values(done=True)
)


class InboxStore:
    """The updates of one bot: two bots may use the same update ids."""

    def __init__(self, db: Database, bot_id: str) -> None:
        self._db = db
        self._bot = bot_id
        self._signal = db.signal(f"inbox:{bot_id}")

    async def accept(self, update_id: int, body: Mapping[str, Any], received_at: datetime) -> bool:
        """Commit an update; False when it is known already (Telegram repeats what was not acknowledged)."""
        values = {
            "account": self._bot,
            "update_id": update_id,
            "received_at": received_at,
            "body": json.dumps(dict(body)),
            "done": False,
        }
        added = await self._db.write(lambda connection: connection.execute(_ADD, values).rowcount == 1)
        if added:
            self._signal.ring()
        return added

    async def pending(self) -> list[Update]:
        """Every update that is not done, in the order of arrival."""
        async with self._db.read() as session:
            rows = (await session.execute(_PENDING, {"of_account": self._bot})).all()
        return [Update(row.update_id, json.loads(row.body), row.received_at) for row in rows]

    async def done(self, update_id: int) -> None:
        """It has had its effect and never comes again; a second call does nothing."""
        values = {"of_account": self._bot, "of_update": update_id}
        await self._db.write(lambda connection: connection.execute(_DONE, values))

    async def grown(self, known: Collection[int] = ()) -> None:
        """Returns when an update is pending that is not among `known` (those being dealt with)."""
        while True:
            waiter = self._signal.waiter()
            if any(each.update_id not in known for each in await self.pending()):
                return
            await waiter.wait()
