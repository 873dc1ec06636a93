"""Messages to the chat, kept until the chat has them, and alive after that: an amendment makes an edit of it.

The notifier turns events into messages and moves its cursor in one transaction (`deliver`), so a crash at any
point repeats nothing and loses nothing. One sender takes `next()`, sends, and reports `sent` or `failed`; a
crash between sending and `sent` makes the message come again (Telegram has no idempotent send).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, bindparam, case, func, select, update
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from storage.database import Database

Buttons = list[list[dict[str, str]]]
MediaKind = Literal["photo", "document"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A file that goes with a message; the message's text is its caption then."""

    kind: MediaKind
    name: str
    data: bytes = field(repr=False)


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
    media: Media | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """A change to the message of that key, sent or not: what is None stays as it is.

    `step` is a line added below the text. Changes that come before the message (or an earlier change) has been
    sent are sent with it; nothing happens to a message that is unknown or dead. `priority` is that of the edit.
    """

    key: str
    text: str | None = None
    step: str | None = None
    buttons: Buttons | None = None
    media: Media | None = None
    priority: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A message whose turn it is; `reply_to` is the chat's own message id, or None.

    With a `chat_message_id` the chat has it already and shows an older revision. `pictured`: it was sent as a file.
    """

    id: int
    key: str
    chat_id: int
    text: str
    steps: tuple[str, ...]
    reply_to: int | None
    priority: int
    silent: bool
    buttons: Buttons | None
    attempts: int
    revision: int
    chat_message_id: int | None
    media: Media | None
    pictured: bool


_OUTBOX: Final = tables.table(tables.Outbox)
_CURSORS: Final = tables.table(tables.Cursors)
_OURS: Final = _OUTBOX.c.account == bindparam("of_account")

_ADD: Final = insert(_OUTBOX).on_conflict_do_nothing()
_FIRST: Final = (
    select(_OUTBOX).where(_OURS, tables.WAITING).order_by(_OUTBOX.c.priority, _OUTBOX.c.id).limit(1)
)
_BY_KEY: Final = select(_OUTBOX).where(_OURS, _OUTBOX.c.key == bindparam("of_key"))
_BY_MESSAGE: Final = select(_OUTBOX.c.key).where(
    _OURS, _OUTBOX.c.chat_id == bindparam("of_chat"), _OUTBOX.c.chat_message_id == bindparam("of_message")
)
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

    async def deliver(
        self, cursor_name: str, upto_seq: int, messages: Sequence[NewMessage | Amendment]
    ) -> bool:
        """Put messages and amendments, in order, and move the reader's cursor to `upto_seq`, together or not at all.

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

    async def put(self, messages: Sequence[NewMessage | Amendment]) -> None:
        """Put what stands in no journal: answers to commands, for instance."""
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
                if root is None or root.id == row.id or root.state != "waiting" or root.chat_message_id is not None:
                    reply_to = None if root is None else root.chat_message_id
                    break
                row = root
        return None if row is None else _outgoing(row, row.reply_to if row.reply_to is not None else reply_to)

    async def sent(self, message_id: int, chat_message_id: int, revision: int = 0) -> None:
        """The chat shows this revision, under its own id `chat_message_id`; a newer one waits to be sent."""
        newest = _OUTBOX.c.revision == revision
        await self._finish(
            message_id,
            state=case((newest, "sent"), else_=_OUTBOX.c.state),
            media=case((newest, None), else_=_OUTBOX.c.media),
            chat_message_id=chat_message_id,
            error=None,
        )

    async def failed(self, message_id: int, error: str, *, permanent: bool) -> None:
        """It was not sent. `permanent`: it never will be, and the others go on without it.

        An edit that never will be leaves a message that was sent.
        """
        attempts = _OUTBOX.c.attempts + 1
        if not permanent:
            await self._finish(message_id, state="waiting", error=error, attempts=attempts)
            return
        buried = case((_OUTBOX.c.chat_message_id.is_(None), "dead"), else_="sent")
        unshown = case((_OUTBOX.c.media.is_(None), _OUTBOX.c.media_kind), else_=None)
        await self._finish(
            message_id, state=buried, error=error, attempts=attempts, media=None, media_kind=unshown
        )

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

    async def key_of(self, chat_id: int, chat_message_id: int) -> str | None:
        """The key of what the chat shows under an id; None for a message that is not of this outbox."""
        wanted = {"of_account": self._account, "of_chat": chat_id, "of_message": chat_message_id}
        async with self._db.read() as session:
            key: str | None = (await session.execute(_BY_MESSAGE, wanted)).scalar()
        return key

    async def _finish(self, message_id: int, **values: Any) -> None:
        change = update(_OUTBOX).where(_OUTBOX.c.account == self._account, _OUTBOX.c.id == message_id)
        await self._db.write(lambda connection: connection.execute(change.values(**values)))
        self._signal.ring()

    def _put(self, connection: Connection, messages: Sequence[NewMessage | Amendment]) -> None:
        """Neighbouring new messages go in together."""
        for new, group in groupby(messages, lambda each: isinstance(each, NewMessage)):
            if new:
                connection.execute(_ADD, [self._row(each) for each in group if isinstance(each, NewMessage)])
                continue
            for each in group:
                if isinstance(each, Amendment):
                    self._amend(connection, each)

    def _row(self, message: NewMessage) -> dict[str, Any]:
        return {
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
            "revision": 0,
            **_media_columns(message.media),
        }

    def _amend(self, connection: Connection, change: Amendment) -> None:
        row = connection.execute(_BY_KEY, {"of_account": self._account, "of_key": change.key}).first()
        if row is None or row.state == "dead":
            return
        values: dict[str, Any] = {"revision": row.revision + 1, "state": "waiting"}
        if change.text is not None:
            values["text"] = change.text
        if change.step is not None:
            values["steps"] = json.dumps([*json.loads(row.steps or "[]"), change.step])
        if change.buttons is not None:
            values["buttons"] = json.dumps(change.buttons)
        if change.media is not None:
            values |= _media_columns(change.media)
        if row.chat_message_id is not None:
            values["priority"] = change.priority
        connection.execute(update(_OUTBOX).where(_OUTBOX.c.id == row.id).values(**values))


def _media_columns(media: Media | None) -> dict[str, Any]:
    if media is None:
        return {"media": None, "media_kind": None, "media_name": None}
    return {"media": media.data, "media_kind": media.kind, "media_name": media.name}


def _outgoing(row: Row[Any], reply_to: int | None) -> Outgoing:
    media = None
    if row.media is not None:
        media = Media(kind=row.media_kind, name=row.media_name, data=row.media)
    return Outgoing(
        id=row.id,
        key=row.key,
        chat_id=row.chat_id,
        text=row.text,
        steps=tuple(json.loads(row.steps or "[]")),
        reply_to=reply_to,
        priority=row.priority,
        silent=row.silent,
        buttons=None if row.buttons is None else json.loads(row.buttons),
        attempts=row.attempts,
        revision=row.revision,
        chat_message_id=row.chat_message_id,
        media=media,
        pictured=row.media_kind is not None and row.media is None,
    )
