"""Connects the two ends of the line: whatever one side does is stored, then the other side is woken.

The bot's side is the Bot API, the human's side is the JSON face. Every change of a message and every update
goes through here, and nowhere else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from bot.phone.entities import Formatted
from bot.phone.rows import Chat, Draft, Message
from bot.phone.shapes import chat_shape, member_shape, message_shape, user_shape
from bot.phone.store import Store
from bot.phone.wake import Bell, Feed

_ACTION_SECONDS: Final = 5  # core.telegram.org/bots/api#sendchataction
_ACTIONS_KEPT: Final = 1000
_ALLOWED: Final = "allowed_updates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A chat action the bot told, such as "typing"; ids count up while the phone runs."""

    action_id: int
    chat_id: int
    action: str
    date: int


class Switchboard:
    """See the module's docstring. `clock` is wall-clock seconds."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store = store
        self.updates = Bell()
        self.changes = Bell()
        self.feed = Feed()
        self.bot_id = 0  # of the token that called last
        self._clock = clock
        self._actions: deque[Action] = deque(maxlen=_ACTIONS_KEPT)
        self._acting: dict[int, Action] = {}

    def now(self) -> int:
        return int(self._clock())

    def close(self) -> None:
        """Lets every waiting request go."""
        self.updates.close()
        self.changes.close()
        self.feed.close()

    # the bot's side

    def send(self, drafts: Iterable[Draft]) -> list[Message]:
        """Stores messages of the bot, all or none; they end what it was seen doing."""
        with self.store.writing():
            messages = [self.store.add_message(draft) for draft in drafts]
        for message in messages:
            self._acting.pop(message.chat_id, None)
            self._tell_page(message)
        return messages

    def edit(self, message: Message) -> Message:
        """Stores a message of the bot in its new form, stamped as edited."""
        return self.mark(replace(message, edit_date=self.now()))

    def mark(self, message: Message) -> Message:
        """Stores what stands beside a message (a pin, a reaction) or its new form."""
        with self.store.writing():
            stored = self.store.save_message(message)
        self._tell_page(stored)
        return stored

    def delete(self, message: Message) -> None:
        self.mark(replace(message, deleted=True, keyboard=None, pinned=0))

    def act(self, chat: Chat, action: str) -> None:
        """The bot is seen typing or uploading for five seconds; "cancel" ends it."""
        last = self._actions[-1].action_id if self._actions else 0
        told = Action(action_id=last + 1, chat_id=chat.chat_id, action=action, date=self.now())
        self._actions.append(told)
        self._acting[chat.chat_id] = told
        self.tell("action", chat.chat_id, action=None if action == "cancel" else action)
        self.changes.ring()

    def acting(self, chat_id: int) -> str | None:
        """What the bot is seen doing in the chat right now."""
        told = self._acting.get(chat_id)
        if told is None or told.action == "cancel" or self.now() - told.date >= _ACTION_SECONDS:
            return None
        return told.action

    def actions(self, chat_id: int, after: int) -> list[Action]:
        """What the bot was seen doing in the chat since the action `after`; the last thousand are kept."""
        return [told for told in self._actions if told.chat_id == chat_id and told.action_id > after]

    def allow(self, kinds: list[str] | None) -> None:
        """From now on only these kinds of update are queued; an empty list brings back the usual ones."""
        with self.store.writing():
            self.store.set_fact(_ALLOWED, kinds or None)

    # the human's side

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
            self._queue("message", message_shape(self.store, message))
        self._tell_bot(message)
        return message

    def correct(self, message: Message, body: Formatted) -> Message:
        """A user edits a message of their own: the bot gets an edited_message."""
        with self.store.writing():
            stored = self.store.save_message(replace(message, body=body, edit_date=self.now()))
            self._queue("edited_message", message_shape(self.store, stored))
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
            self._queue("callback_query", query)
        self.updates.ring()
        return tap_id

    def block(self, user: Chat, blocked: bool) -> Chat:
        """A user blocks the bot or lets it write again: the bot gets a my_chat_member."""
        changed = replace(user, blocked=blocked)
        if changed != user:
            with self.store.writing():
                self.store.save_chat(changed)
                update: dict[str, Any] = {"chat": chat_shape(user), "from": user_shape(user), "date": self.now()}
                for name, state in (("old_chat_member", user), ("new_chat_member", changed)):
                    update[name] = member_shape(self.store, state, self.bot_id)
                self._queue("my_chat_member", update)
            self.updates.ring()
        return changed

    def tell(self, name: str, chat_id: int, **details: Any) -> None:
        """A passing event for the page: typing, an answered tap, a new command menu."""
        self.feed.publish(name, {"user_id": chat_id, **details})

    def _queue(self, kind: str, payload: dict[str, Any]) -> None:
        allowed = self.store.fact(_ALLOWED)
        if allowed is None or kind in allowed:
            self.store.add_update(kind, payload)

    def _tell_bot(self, message: Message) -> None:
        self.updates.ring()
        self._tell_page(message)

    def _tell_page(self, message: Message) -> None:
        self.changes.ring()
        self.tell("change", message.chat_id, cursor=message.changed)
