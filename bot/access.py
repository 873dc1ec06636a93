"""Who may talk to the bot: the allow-list, the roles and the one gate in front of every handler.

Nobody but the gate makes a `Caller`, and every handler asks for one: there is no way around it. A stranger
gets silence and one counted log line. Silence also meets what is not a new private message or a button press
(edits, forwards, groups, channels, inline queries, other bots, and kinds of update not invented yet).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from telegram import Chat, Message, Update, User
from telegram.constants import ChatType

_LOG = logging.getLogger(__name__)
_REMEMBERED = 10_000  # strangers counted one by one; beyond that they share one counter


class Role(IntEnum):
    """What somebody may do; each role may do all that the ones below it may."""

    VIEWER = 1
    OPERATOR = 2
    OWNER = 3

    @property
    def label(self) -> str:
        """The role as a word for people."""
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody the gate let through. Private chats only: the chat's id is the user's."""

    user_id: int
    role: Role


class AllowList:
    """Roles by numeric user id; an empty list means nobody."""

    def __init__(self, owner: int | None, operators: Iterable[int] = (), viewers: Iterable[int] = ()) -> None:
        self._roles = dict.fromkeys(viewers, Role.VIEWER)
        self._roles |= dict.fromkeys(operators, Role.OPERATOR)
        if owner is not None:
            self._roles[owner] = Role.OWNER

    @property
    def has_owner(self) -> bool:
        """False while nobody may raise risk."""
        return Role.OWNER in self._roles.values()

    def role(self, user_id: int) -> Role | None:
        """None for a stranger."""
        return self._roles.get(user_id)

    def at_least(self, role: Role) -> tuple[int, ...]:
        """Ids of everybody with that role or a higher one, the highest first."""
        ranked = sorted(self._roles.items(), key=lambda each: (-each[1], each[0]))
        return tuple(user_id for user_id, held in ranked if held >= role)


class Gate:
    """The one place that decides whether an update is heard at all."""

    def __init__(self, allowed: AllowList) -> None:
        self._allowed = allowed
        self._strangers: dict[int | None, int] = {}

    @property
    def refused(self) -> int:
        """How many updates of strangers were refused since the start."""
        return sum(self._strangers.values())

    def admit(self, update: Update) -> Caller | None:
        """The caller when the update is a new private message or a button press of somebody on the list."""
        user = update.effective_user
        role = self._allowed.role(user.id) if user else None
        if user is None or role is None or user.is_bot:
            self._count(user)
            return None
        if not _private(update, user):
            _LOG.debug("update_ignored update_id=%d user_id=%d", update.update_id, user.id)
            return None
        return Caller(user_id=user.id, role=role)

    def _count(self, user: User | None) -> None:
        """One line per stranger, repeated with the count at 10, 100, 1000, …"""
        key = user.id if user and (user.id in self._strangers or len(self._strangers) < _REMEMBERED) else None
        count = self._strangers[key] = self._strangers.get(key, 0) + 1
        if str(count).strip("0") != "1":
            return
        hint = "" if self._allowed.has_owner else " hint='if this is you, set TELEGRAM_OWNER_ID to this id'"
        _LOG.warning("stranger_refused user_id=%s count=%d%s", key, count, hint)


def _private(update: Update, user: User) -> bool:
    """A new message of the user's own in their private chat, or a press on a button there."""
    if update.callback_query is not None:
        message = update.callback_query.message
        return message is not None and _own_chat(message.chat, user)
    return update.message is not None and _own_words(update.message) and _own_chat(update.message.chat, user)


def _own_chat(chat: Chat, user: User) -> bool:
    return chat.type == ChatType.PRIVATE and chat.id == user.id


def _own_words(message: Message) -> bool:
    """False for what was forwarded, sent through another bot, in a chat's name, or edited."""
    foreign = (message.forward_origin, message.via_bot, message.sender_chat, message.edit_date)
    return not any(foreign) and not message.is_automatic_forward
