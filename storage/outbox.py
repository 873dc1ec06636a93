"""Messages to the chat, kept until the chat has them.

The notifier turns events into messages and moves its cursor in one transaction (`deliver`), so a crash at any
point repeats nothing and loses nothing. One sender takes `next()`, sends, and reports `sent` or `failed`; a
crash between sending and `sent` makes the message come again (Telegram has no idempotent send).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, select, update
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from storage.database import Database

Buttons = list[list[dict[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to send once: `key` is its identity, a second one with the same key is ignored.

    `text` is Telegram HTML. `thread` is the key of the message it replies to, which is then sent first;
    `reply_to` is a message id of the chat itself and wins over `thread`. `priority` 0 is the most urgent.
    `buttons` are rows of {"text", "data"}.
    """

    key: str
    chat_id: int
    text: str
    thread: str | None = None
    reply_to: int | None = None
    priority: int = 5
    silent: bool = False
    buttons: Buttons | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message whose turn it is; `reply_to` is the chat's own message id, or None."""

    id: int
    key: str
    chat_id: int
    text: str
    reply_to: int | None
    priority: int
    silent: bool
    buttons: Buttons | None
    attempts: int


_OUTBOX: Final = tables.table(tables.Outbox)
_CURSORS: Final = tables.table(tables.Cursors)
_OURS: Final = _OUTBOX.c.account == bindparam("of_account")

_ADD: Final = insert(_OUTBOX).on_conflict_do_nothing()
_FIRST: Final = (
    select(_OUTBOX).where(_OURS, tables.WAITING).order_by(_OUTBOX.c.priority, _OUTBOX.c.id).limit(1)
)
_BY_KEY: Final = select(_OUTBOX).where(_OURS, _OUTBOX.c.key == bindparam("of_key"))
_COUNT: Final = select(func.count()).select_from(_OUTBOX).where(_OURS, tables.WAITING)
_ADVANCE: Final = (
    update(_CURSORS)
    .where(
        _CURSORS.c.account == bindparam("of_account"),
        _CURSORS.c.name == bindparam("of_name"),
        _CURSORS.c.seq < bindparam("new_seq"),
    )
    .values(seq=bindparam("new_seq"))
)
_START: Final = insert(_CURSORS).on_conflict_do_nothing()
_LONGEST_THREAD: Final = 100


class Outbox:
    """The messages of one account, in order of priority, then age."""

    def __init__(self, db: Database, account: str) -> None:
        self._db = db
        self._account = account
        self._signal = db.signal(f"outbox:{account}")

    async def deliver(self, cursor_name: str, upto_seq: int, messages: Sequence[NewMessage]) -> bool:
        """Put the messages and move the reader's cursor to `upto_seq`, together or not at all.

        False, and nothing is put, when the cursor is there or beyond already: these events were delivered.
        """

        def work(connection: Connection) -> bool:
            place = {"account": self._account, "name": cursor_name}
            connection.execute(_START, {**place, "seq": 0})
            moved = {"of_account": self._account, "of_name": cursor_name, "new_seq": upto_seq}
            if connection.execute(_ADVANCE, moved).rowcount == 0:
                return False
            self._put(connection, messages)
            return True

        delivered = await self._db.write(work)
        self._signal.ring()
        return delivered

    async def put(self, messages: Sequence[NewMessage]) -> None:
        """Put messages that stand in no journal: answers to commands, for instance."""
        await self._db.write(lambda connection: self._put(connection, messages))
        self._signal.ring()

    async def next(self) -> Outgoing | None:
        """The message to send now, None when nothing waits. It stays the next until it is `sent` or dead."""
        async with self._db.read() as session:
            row = (await session.execute(_FIRST, {"of_account": self._account})).first()
            reply_to: int | None = None
            for _ in range(_LONGEST_THREAD):
                if row is None or row.thread is None or row.reply_to is not None:
                    break
                wanted = {"of_account": self._account, "of_key": row.thread}
                root = (await session.execute(_BY_KEY, wanted)).first()
                if root is None or root.state != "waiting" or root.id == row.id:
                    reply_to = None if root is None else root.chat_message_id
                    break
                row = root
        return None if row is None else _outgoing(row, row.reply_to if row.reply_to is not None else reply_to)

    async def sent(self, message_id: int, chat_message_id: int) -> None:
        """The chat has it, under its own id `chat_message_id`."""
        await self._finish(message_id, state="sent", chat_message_id=chat_message_id, error=None)

    async def failed(self, message_id: int, error: str, *, permanent: bool) -> None:
        """It was not sent. `permanent`: it never will be, and the others go on without it."""
        state = "dead" if permanent else "waiting"
        await self._finish(message_id, state=state, error=error, attempts=_OUTBOX.c.attempts + 1)

    async def pending(self) -> int:
        """How many messages wait."""
        async with self._db.read() as session:
            waiting: int = (await session.execute(_COUNT, {"of_account": self._account})).scalar_one()
        return waiting

    async def grown(self) -> None:
        """Returns when a message waits; at once when one already does."""
        while True:
            waiter = self._signal.waiter()
            async with self._db.read() as session:
                if (await session.execute(_FIRST, {"of_account": self._account})).first() is not None:
                    return
            await waiter.wait()

    async def message_id_of(self, key: str) -> int | None:
        """The chat's id of a message that was sent; None while it waits, or for an unknown key."""
        wanted = {"of_account": self._account, "of_key": key}
        async with self._db.read() as session:
            row = (await session.execute(_BY_KEY, wanted)).first()
        return None if row is None else row.chat_message_id

    async def _finish(self, message_id: int, **values: Any) -> None:
        change = update(_OUTBOX).where(_OUTBOX.c.account == self._account, _OUTBOX.c.id == message_id)
        await self._db.write(lambda connection: connection.execute(change.values(**values)))
        self._signal.ring()

    def _put(self, connection: Connection, messages: Sequence[NewMessage]) -> None:
        rows = [
            {
                "account": self._account,
                "key": message.key,
                "state": "waiting",
                "priority": message.priority,
                "chat_id": message.chat_id,
                "text": message.text,
                "thread": message.thread,
                "reply_to": message.reply_to,
                "silent": message.silent,
                "buttons": None if message.buttons is None else json.dumps(message.buttons),
                "attempts": 0,
            }
            for message in messages
        ]
        if rows:
            connection.execute(_ADD, rows)


def _outgoing(row: Row[Any], reply_to: int | None) -> Outgoing:
    return Outgoing(
        id=row.id,
        key=row.key,
        chat_id=row.chat_id,
        text=row.text,
        reply_to=reply_to,
        priority=row.priority,
        silent=row.silent,
        buttons=None if row.buttons is None else json.loads(row.buttons),
        attempts=row.attempts,
    )
