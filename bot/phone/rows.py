"""What the store keeps: plain values that know nothing of SQL or HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bot.phone.entities import Formatted

Keyboard = list[list[dict[str, Any]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A private chat; its id is the user's id. `blocked`: its user lets the bot write no more."""

    chat_id: int
    first_name: str
    username: str
    blocked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A stored file without its content; width and height are 0 unless it is a picture."""

    file_id: str
    path: str
    name: str
    mime: str
    size: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """What a message shows besides its text: `kind` is "photo" or "document"."""

    kind: str
    file: File


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A message about to be sent. With media, `body` is the caption.

    `album` is the media group it belongs to, `origin` the Bot API's MessageOrigin of a forwarded message.
    """

    chat_id: int
    sender_id: int
    from_bot: bool
    date: int
    body: Formatted
    reply_to: int | None = None
    keyboard: Keyboard | None = None
    media: Media | None = None
    silent: bool = False
    album: str | None = None
    origin: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(Draft):
    """A stored message; a deleted one stays as a gravestone so that pollers learn of it.

    `thread` is the message at the top of its chain of replies, None for one that answers nothing. `pinned` grows with
    every pin of the chat and is 0 for what is not pinned. `reaction` is the bot's emoji.
    """

    message_id: int
    edit_date: int | None
    deleted: bool
    changed: int
    thread: int | None
    pinned: int
    reaction: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tap:
    """A press on an inline button, that is a callback query."""

    tap_id: int
    user_id: int
    message_id: int
    data: str
    date: int
    answered: bool
    answer: str | None
    alert: bool
