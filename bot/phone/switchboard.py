"""Connects the two ends of the line: whatever one side does is stored, then the other side is woken.

The bot's side is the Bot API, the human's side is the JSON face. Every change of a message and every update
goes through here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bot.phone.formatting import Formatted
from bot.phone.rows import Chat, Draft, Message
from bot.phone.shapes import message_shape, user_shape
from bot.phone.store import Store
from bot.phone.wake import Bell, Feed


class Switchboard:
    """See the module's docstring. `clock` is wall-clock seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self.updates = Bell()
        self.changes = Bell()
        self.feed = Feed()
        self._clock = clock

    def now(self) -> int:
        return int(self._clock())

    def close(self) -> None:
        """Lets every waiting request go."""
        self.updates.close()
        self.changes.close()
        self.feed.close()

    def send(self, draft: Draft) -> Message:
        """Stores a message of the bot."""
        with self.store.writing():
            message = self.store.add_message(draft)
        self._tell_page(message)
        return message

    def edit(self, message: Message) -> Message:
        """Stores a message of the bot in its new form, stamped as edited."""
        with self.store.writing():
            stored = self.store.save_message(replace(message, edit_date=self.now()))
        self._tell_page(stored)
        return stored

    def delete(self, message: Message) -> None:
        with self.store.writing():
            stored = self.store.save_message(replace(message, deleted=True, keyboard=None))
        self._tell_page(stored)

    def say(self, user: Chat, body: Formatted, reply_to: int | None) -> Message:
        """A user writes: the message and its update are stored together."""
        draft = Draft(
            chat_id=user.chat_id,
            sender_id=user.chat_id,
            from_bot=False,
            date=self.now(),
            body=body,
            reply_to=reply_to,
        )
        with self.store.writing():
            message = self.store.add_message(draft)
            self.store.add_update("message", message_shape(self.store, message))
        self._tell_bot(message)
        return message

    def correct(self, message: Message, body: Formatted) -> Message:
        """A user edits a message of their own: the bot gets an edited_message."""
        with self.store.writing():
            stored = self.store.save_message(replace(message, body=body, edit_date=self.now()))
            self.store.add_update("edited_message", message_shape(self.store, stored))
        self._tell_bot(stored)
        return stored

    def tap(self, user: Chat, message: Message, data: str) -> int:
        """A user presses an inline button; returns the id of the callback query."""
        with self.store.writing():
            tap_id = self.store.add_tap(user.chat_id, message.message_id, data, self.now())
            query = {
                "id": str(tap_id),
                "from": user_shape(user),
                "message": message_shape(self.store, message),
                "chat_instance": str(message.chat_id),
                "data": data,
            }
            self.store.add_update("callback_query", query)
        self.updates.ring()
        return tap_id

    def tell(self, name: str, chat_id: int, **details: Any) -> None:
        """A passing event for the page: typing, an answered tap, a new command menu."""
        self.feed.publish(name, {"user_id": chat_id, **details})

    def _tell_bot(self, message: Message) -> None:
        self.updates.ring()
        self._tell_page(message)

    def _tell_page(self, message: Message) -> None:
        self.changes.ring()
        self.tell("change", message.chat_id, cursor=message.changed)
