"""The phone's own memory: chats, messages and their edits, files, taps and the bot's queue of updates.

One SQLite file (WAL, synchronous=NORMAL: survives kill -9 of the process), or memory alone. Every call is a
few dozen microseconds, so it runs in the event loop and is never held across an await. Writes belong inside
`with store.writing():`, which commits them together or not at all.

Each message row carries `changed`, a counter over all messages that grows with every send, edit and deletion;
`created` is its value at the send. Both cursors of the JSON face rest on it.
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from bot.phone.entities import Formatted, entities_from_json, entities_to_json
from bot.phone.errors import PhoneStoreUnusable
from bot.phone.rows import Chat, Draft, File, Keyboard, Media, Message, Tap

_SCHEMA: Final = """
CREATE TABLE chats (chat_id INTEGER PRIMARY KEY, first_name TEXT NOT NULL, username TEXT NOT NULL);
CREATE TABLE files (
    file_id TEXT PRIMARY KEY, path TEXT NOT NULL UNIQUE, name TEXT NOT NULL, mime TEXT NOT NULL,
    size INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, content BLOB NOT NULL);
CREATE TABLE messages (
    message_id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id INTEGER NOT NULL, sender_id INTEGER NOT NULL,
    from_bot INTEGER NOT NULL, date INTEGER NOT NULL, edit_date INTEGER, text TEXT NOT NULL, entities TEXT,
    reply_to INTEGER, keyboard TEXT, media_kind TEXT, file_id TEXT, deleted INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL, changed INTEGER NOT NULL);
CREATE UNIQUE INDEX messages_by_change ON messages (changed);
CREATE INDEX messages_by_chat_change ON messages (chat_id, changed);
CREATE INDEX messages_by_chat ON messages (chat_id, message_id);
CREATE TABLE updates (update_id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, payload TEXT NOT NULL);
CREATE TABLE taps (
    tap_id INTEGER PRIMARY KEY AUTOINCREMENT, user_id INTEGER NOT NULL, message_id INTEGER NOT NULL, data TEXT
    NOT NULL, date INTEGER NOT NULL, answered INTEGER NOT NULL DEFAULT 0, answer TEXT, alert INTEGER);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""
_THREADS_AND_MORE: Final = """
ALTER TABLE chats ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN thread INTEGER;
ALTER TABLE messages ADD COLUMN silent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN album TEXT;
ALTER TABLE messages ADD COLUMN origin TEXT;
ALTER TABLE messages ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE messages ADD COLUMN reaction TEXT;
CREATE INDEX messages_by_reply ON messages (reply_to);
CREATE INDEX messages_by_thread ON messages (thread);
WITH RECURSIVE chain (message_id, root) AS (
    SELECT message_id, message_id FROM messages WHERE reply_to IS NULL
    UNION ALL SELECT m.message_id, chain.root FROM chain JOIN messages m ON m.reply_to = chain.message_id)
UPDATE messages SET thread = (SELECT root FROM chain WHERE chain.message_id = messages.message_id)
WHERE reply_to IS NOT NULL;
DROP INDEX messages_by_reply;
"""
_STEPS: Final = (_SCHEMA, _THREADS_AND_MORE)  # from each version of the file to the next
SCHEMA_VERSION: Final = len(_STEPS)
_SEED: Final = "INSERT INTO sqlite_sequence (name, seq) VALUES ('updates', {0:d}), ('taps', {0:d});"
_REMEMBERED: Final = 512  # messages
_THREAD_SIZES: Final = "SELECT thread, count(*) FROM messages WHERE thread IN ({}) AND deleted = 0 GROUP BY thread"
_CHATS: Final = "SELECT chat_id, first_name, username, blocked FROM chats"
_ADD_FILE: Final = """
INSERT INTO files (file_id, path, name, mime, size, width, height, content) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_TAP: Final = """
SELECT tap_id, user_id, message_id, data, date, answered, answer, alert FROM taps WHERE tap_id = ?
"""
_CREATED: Final = """
SELECT created FROM messages WHERE chat_id = ? AND message_id <= ? ORDER BY message_id DESC LIMIT 1
"""
_MESSAGES: Final = """
SELECT m.message_id, m.chat_id, m.sender_id, m.from_bot, m.date, m.edit_date, m.text, m.entities,
    m.reply_to, m.keyboard, m.media_kind, m.deleted, m.changed, m.thread, m.silent, m.album, m.origin, m.pinned,
    m.reaction, f.file_id, f.path, f.name, f.mime, f.size, f.width, f.height
FROM messages m LEFT JOIN files f ON f.file_id = m.file_id
"""
_ADD_MESSAGE: Final = """
INSERT INTO messages (chat_id, sender_id, from_bot, date, text, entities, reply_to, thread, keyboard, media_kind,
    file_id, silent, album, origin, created, changed)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, (SELECT coalesce(thread, message_id) FROM messages WHERE message_id = ?7), ?8, ?9,
    ?10, ?11, ?12, ?13, next, next
FROM (SELECT coalesce(max(changed), 0) + 1 AS next FROM messages)
RETURNING message_id
"""
_SAVE_MESSAGE: Final = """
UPDATE messages SET text = ?, entities = ?, keyboard = ?, media_kind = ?, file_id = ?, edit_date = ?,
    deleted = ?, pinned = ?, reaction = ?, changed = (SELECT max(changed) + 1 FROM messages) WHERE message_id = ?
"""


class Store:
    """See the module's docstring. Not for use from several threads."""

    def __init__(self, directory: Path | None, *, first_update_id: int) -> None:
        """Opens or creates `directory`/phone.db with mode 0600.

        A fresh store counts updates from `first_update_id`: give it the wall clock's second, then an inbox
        that outlives the phone's store sees no update_id twice.
        """
        self._db = sqlite3.connect(_prepared(directory), cached_statements=256)
        try:
            self._open(first_update_id)
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise PhoneStoreUnusable(f"phone.db cannot be opened: {error}; move it away or mend it") from error
        except PhoneStoreUnusable:
            self._db.close()
            raise

    def _open(self, first_update_id: int) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA busy_timeout=5000")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise PhoneStoreUnusable(f"phone.db has version {version}, newer than {SCHEMA_VERSION}: update the program")
        for step in range(version, SCHEMA_VERSION):
            seed = _SEED.format(first_update_id) if step == 0 else ""
            self._db.executescript(f"BEGIN; {_STEPS[step]} {seed} PRAGMA user_version={step + 1}; COMMIT;")

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction; not to be nested."""
        with self._db:
            yield

    # chats

    def chat(self, chat_id: int) -> Chat | None:
        found = self._chats("WHERE chat_id = ?", (chat_id,))
        return found[0] if found else None

    def chats(self) -> list[Chat]:
        return self._chats("ORDER BY chat_id", ())

    def save_chat(self, chat: Chat) -> None:
        """Creates the chat, renames its user or notes that they blocked the bot."""
        sql = "INSERT OR REPLACE INTO chats (chat_id, first_name, username, blocked) VALUES (?, ?, ?, ?)"
        self._db.execute(sql, (chat.chat_id, chat.first_name, chat.username, chat.blocked))

    def open_chat(self, chat: Chat) -> None:
        """Creates the chat or renames its user, who may have blocked the bot before."""
        known = self.chat(chat.chat_id)
        self.save_chat(replace(chat, blocked=known.blocked) if known else chat)

    def _chats(self, which: str, arguments: tuple[int, ...]) -> list[Chat]:
        """`which` is one of this module's own literals."""
        rows = self._db.execute(f"{_CHATS} {which}", arguments)
        return [Chat(chat_id=row[0], first_name=row[1], username=row[2], blocked=bool(row[3])) for row in rows]

    # messages

    def add_message(self, draft: Draft) -> Message:
        kind, file_id = _reference(draft.media)
        entities, keyboard = entities_to_json(draft.body.entities), _dumped(draft.keyboard)
        row: tuple[Any, ...] = (draft.chat_id, draft.sender_id, draft.from_bot, draft.date, draft.body.text)
        row = (*row, entities, draft.reply_to, keyboard, kind, file_id, draft.silent, draft.album)
        row = (*row, json.dumps(draft.origin) if draft.origin else None)
        ((message_id,),) = self._db.execute(_ADD_MESSAGE, row).fetchall()
        return self._stored(message_id)

    def save_message(self, message: Message) -> Message:
        """Stores what may change (body, keyboard, media, dates and marks), with a new `changed`."""
        kind, file_id = _reference(message.media)
        entities, keyboard = entities_to_json(message.body.entities), _dumped(message.keyboard)
        row = (message.body.text, entities, keyboard, kind, file_id, message.edit_date, message.deleted)
        self._db.execute(_SAVE_MESSAGE, (*row, message.pinned, message.reaction, message.message_id))
        return self._stored(message.message_id)

    def message(self, message_id: int) -> Message | None:
        """None when it never was or is deleted."""
        found = self._messages("m.message_id = ? AND m.deleted = 0", (message_id,))
        return found[0] if found else None

    def messages_of(self, ids: Iterable[int]) -> list[Message]:
        """Those that are not deleted."""
        wanted = tuple(ids)
        return self._messages(f"m.message_id IN ({', '.join('?' * len(wanted))}) AND m.deleted = 0", wanted)

    def messages_changed_after(self, chat_id: int, change: int, limit: int) -> list[Message]:
        """The chat's next `limit` messages by `changed`, gravestones included."""
        where = "m.chat_id = ? AND m.changed > ? ORDER BY m.changed LIMIT ?"
        return self._messages(where, (chat_id, change, limit))

    def last_messages(self, chat_id: int, count: int, before: int) -> list[Message]:
        """The newest `count` messages below the id `before`, newest first, without deleted ones."""
        where = "m.chat_id = ? AND m.message_id < ? AND m.deleted = 0 ORDER BY m.message_id DESC LIMIT ?"
        return self._messages(where, (chat_id, before, count))

    def thread_messages(self, chat_id: int, root: int, limit: int) -> list[Message]:
        """The message at the top of a thread and its newest `limit` replies, oldest first, without deleted ones."""
        where = "m.chat_id = ? AND m.deleted = 0 AND"
        top = self._messages(f"{where} m.message_id = ?", (chat_id, root))
        replies = self._messages(f"{where} m.thread = ? ORDER BY m.message_id DESC LIMIT ?", (chat_id, root, limit))
        return [*top, *reversed(replies)]

    def thread_sizes(self, roots: Iterable[int]) -> dict[int, int]:
        """How many replies each of these messages has below it, for those that have any."""
        wanted = sorted(roots)
        marks = ", ".join("?" * len(wanted))
        return dict(self._db.execute(_THREAD_SIZES.format(marks), wanted).fetchall())

    def pinned_messages(self, chat_id: int) -> list[Message]:
        """The one pinned last first."""
        return self._messages("m.chat_id = ? AND m.pinned > 0 AND m.deleted = 0 ORDER BY m.pinned DESC", (chat_id,))

    def change_at_creation(self, chat_id: int, message_id: int) -> int:
        """The counter when the chat's newest message not above `message_id` was sent, else 0."""
        row = self._db.execute(_CREATED, (chat_id, message_id)).fetchone()
        return int(row[0]) if row else 0

    def last_change(self, chat_id: int) -> int:
        """The counter at the chat's newest change; 0 when nothing ever happened there."""
        row = self._db.execute("SELECT max(changed) FROM messages WHERE chat_id = ?", (chat_id,)).fetchone()
        return int(row[0] or 0)

    def _stored(self, message_id: int) -> Message:
        return self._messages("m.message_id = ?", (message_id,))[0]

    def _messages(self, where: str, arguments: tuple[int, ...]) -> list[Message]:
        """`where` is one of this module's own literals."""
        return [_message(row) for row in self._db.execute(f"{_MESSAGES} WHERE {where}", arguments).fetchall()]

    # updates

    def add_update(self, kind: str, payload: dict[str, Any]) -> int:
        """Queues {"update_id": n, kind: payload}; update_id grows for the life of the store."""
        sql = "INSERT INTO updates (kind, payload) VALUES (?, ?)"
        return int(self._db.execute(sql, (kind, json.dumps(payload))).lastrowid or 0)

    def updates(self, limit: int) -> list[dict[str, Any]]:
        sql = "SELECT update_id, kind, payload FROM updates ORDER BY update_id LIMIT ?"
        rows = self._db.execute(sql, (limit,))
        return [{"update_id": update_id, kind: json.loads(payload)} for update_id, kind, payload in rows]

    def pending_updates(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM updates").fetchone()
        return int(count)

    def acknowledge(self, offset: int) -> None:
        """Forgets updates below `offset`; a negative one keeps only the last -offset."""
        if offset < 0:
            sql = "SELECT update_id FROM updates ORDER BY update_id DESC LIMIT 1 OFFSET ?"
            row = self._db.execute(sql, (-offset - 1,)).fetchone()
            offset = row[0] if row else 0
        self._db.execute("DELETE FROM updates WHERE update_id < ?", (offset,))

    # taps

    def add_tap(self, user_id: int, message_id: int, data: str, date: int) -> int:
        sql = "INSERT INTO taps (user_id, message_id, data, date) VALUES (?, ?, ?, ?)"
        return int(self._db.execute(sql, (user_id, message_id, data, date)).lastrowid or 0)

    def tap(self, tap_id: int) -> Tap | None:
        row = self._db.execute(_TAP, (tap_id,)).fetchone()
        if row is None:
            return None
        return Tap(
            tap_id=row[0], user_id=row[1], message_id=row[2], data=row[3], date=row[4],
            answered=bool(row[5]), answer=row[6], alert=bool(row[7]),
        )  # fmt: skip

    def answer_tap(self, tap_id: int, answer: str | None, alert: bool) -> None:
        sql = "UPDATE taps SET answered = 1, answer = ?, alert = ? WHERE tap_id = ?"
        self._db.execute(sql, (answer, alert, tap_id))

    # files

    def add_file(self, *, folder: str, name: str, mime: str, content: bytes, size: tuple[int, int] = (0, 0)) -> File:
        """Keeps the bytes for good; `size` is the width and height of a picture."""
        file_id = secrets.token_hex(16)
        file = File(
            file_id=file_id, path=f"{folder}/{file_id}{Path(name).suffix}", name=name, mime=mime,
            size=len(content), width=size[0], height=size[1],
        )  # fmt: skip
        row = (file.file_id, file.path, name, mime, file.size, file.width, file.height, content)
        self._db.execute(_ADD_FILE, row)
        return file

    def file(self, file_id: str) -> File | None:
        sql = "SELECT file_id, path, name, mime, size, width, height FROM files WHERE file_id = ?"
        row = self._db.execute(sql, (file_id,)).fetchone()
        return _file(row) if row else None

    def file_at(self, path: str) -> File | None:
        row = self._db.execute("SELECT file_id FROM files WHERE path = ?", (path,)).fetchone()
        return self.file(row[0]) if row else None

    def content(self, file_id: str) -> bytes:
        (content,) = self._db.execute("SELECT content FROM files WHERE file_id = ?", (file_id,)).fetchone()
        return bytes(content)

    # facts

    def fact(self, name: str) -> Any:
        """A remembered JSON value, None when it was never set or was forgotten."""
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return json.loads(row[0]) if row else None

    def set_fact(self, name: str, value: Any) -> None:
        """Remembers a JSON value; None forgets it."""
        if value is None:
            self._db.execute("DELETE FROM facts WHERE name = ?", (name,))
        else:
            self._db.execute("INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)", (name, json.dumps(value)))


def _prepared(directory: Path | None) -> str:
    """Creates the file before SQLite does, so that it is never readable by others."""
    if directory is None:
        return ":memory:"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "phone.db"
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    path.chmod(0o600)
    return str(path)


def _reference(media: Media | None) -> tuple[str | None, str | None]:
    return (media.kind, media.file.file_id) if media else (None, None)


def _dumped(keyboard: Keyboard | None) -> str | None:
    return json.dumps(keyboard) if keyboard else None


def _file(row: tuple[Any, ...]) -> File:
    return File(file_id=row[0], path=row[1], name=row[2], mime=row[3], size=row[4], width=row[5], height=row[6])


@lru_cache(maxsize=_REMEMBERED)
def _message(row: tuple[Any, ...]) -> Message:
    """A row of `_MESSAGES`. Whoever waits for news asks for the newest ones again and again."""
    file = _file(row[19:]) if row[19] is not None else None
    return Message(
        message_id=row[0],
        chat_id=row[1],
        sender_id=row[2],
        from_bot=bool(row[3]),
        date=row[4],
        edit_date=row[5],
        body=Formatted(row[6], entities_from_json(row[7])),
        reply_to=row[8],
        keyboard=json.loads(row[9]) if row[9] else None,
        media=Media(kind=row[10], file=file) if file else None,
        deleted=bool(row[11]),
        changed=row[12],
        thread=row[13],
        silent=bool(row[14]),
        album=row[15],
        origin=json.loads(row[16]) if row[16] else None,
        pinned=row[17],
        reaction=row[18],
    )
