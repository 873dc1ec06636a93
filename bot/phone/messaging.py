"""The Bot API's methods that send, edit and delete messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from bot.phone.content import (
    NewMedia,
    caption_of,
    chat_of,
    checked_caption,
    formatted,
    keyboard_of,
    media_of,
    reply_of,
    text_of,
)
from bot.phone.errors import bad_request
from bot.phone.formatting import Formatted
from bot.phone.limits import RateLimit
from bot.phone.params import Call
from bot.phone.rows import Chat, Draft, Keyboard, Media, Message
from bot.phone.shapes import Json, message_shape
from bot.phone.switchboard import Switchboard

_NOT_MODIFIED: Final = (
    "message is not modified: specified new message content and reply markup are exactly the same as a"
    " current content and reply markup of the message"
)
_KINDS: Final = ("photo", "document")


class Messaging:
    """Each public method is the Bot API method of that name: it answers the `result` or raises Refusal."""

    def __init__(self, board: Switchboard, limit: RateLimit | None) -> None:
        self._board = board
        self._store = board.store
        self._limit = limit

    def send_message(self, call: Call) -> Json:
        return self._send(call, text_of(call), None)

    def send_photo(self, call: Call) -> Json:
        return self._send(call, caption_of(call), media_of(self._store, call, "photo", call.text("photo")))

    def send_document(self, call: Call) -> Json:
        return self._send(call, caption_of(call), media_of(self._store, call, "document", call.text("document")))

    def send_chat_action(self, call: Call) -> bool:
        chat = chat_of(self._store, call)
        if not call.text("action"):
            raise bad_request("wrong parameter action in request")
        self._board.tell("action", chat.chat_id, action=call.text("action"))
        return True

    def edit_message_text(self, call: Call) -> Json:
        body = text_of(call)
        message = self._editable(call)
        if message.media is not None:
            raise bad_request("there is no text in the message to edit")
        return self._edit(message, body, keyboard_of(call), None)

    def edit_message_caption(self, call: Call) -> Json:
        caption = caption_of(call)
        message = self._editable(call)
        if message.media is None:
            raise bad_request("there is no caption in the message to edit")
        return self._edit(message, caption, keyboard_of(call), message.media)

    def edit_message_reply_markup(self, call: Call) -> Json:
        message = self._editable(call)
        return self._edit(message, message.body, keyboard_of(call), message.media)

    def edit_message_media(self, call: Call) -> Json:
        """Also turns a text message into a photo or document, as Telegram allows since Bot API 7.11."""
        wanted = call.mapping("media", "InputMedia")
        kind = str(wanted.get("type", ""))
        if kind not in _KINDS:
            raise bad_request("can't parse InputMedia: the phone knows the types photo and document")
        raw = formatted(
            str(wanted.get("caption") or ""),
            str(wanted.get("parse_mode") or ""),
            wanted.get("caption_entities"),
        )
        caption = checked_caption(raw)
        media = media_of(self._store, call, kind, str(wanted.get("media") or ""))
        return self._edit(self._editable(call), caption, keyboard_of(call), media)

    def delete_message(self, call: Call) -> bool:
        chat = chat_of(self._store, call)
        message = self._find(chat, call.integer("message_id"))
        if message is None:
            raise bad_request("message to delete not found")
        self._board.delete(message)
        return True

    def delete_messages(self, call: Call) -> bool:
        """Those that cannot be found are skipped."""
        chat = chat_of(self._store, call)
        wanted = call.parsed("message_ids", "message identifiers")
        if not isinstance(wanted, list) or not all(isinstance(each, int) for each in wanted):
            raise bad_request("message identifiers are not specified")
        for message_id in wanted:
            message = self._find(chat, message_id)
            if message is not None:
                self._board.delete(message)
        return True

    def _send(self, call: Call, body: Formatted, media: NewMedia | None) -> Json:
        chat = chat_of(self._store, call)
        reply_to = reply_of(self._store, call, chat)
        keyboard = keyboard_of(call)
        self._pace(chat.chat_id)
        message = self._board.send(
            Draft(
                chat_id=chat.chat_id,
                sender_id=call.bot_id,
                from_bot=True,
                date=self._board.now(),
                body=body,
                reply_to=reply_to,
                keyboard=keyboard,
                media=self._kept(media),
            )
        )
        return message_shape(self._store, message)

    def _kept(self, media: NewMedia | None) -> Media | None:
        if media is None:
            return None
        with self._store.writing():
            return media.store(self._store)

    def _find(self, chat: Chat, message_id: int) -> Message | None:
        message = self._store.message(message_id)
        return message if message is not None and message.chat_id == chat.chat_id else None

    def _editable(self, call: Call) -> Message:
        chat = chat_of(self._store, call)
        message_id = call.integer("message_id")
        if not message_id:
            raise bad_request("message identifier is not specified")
        message = self._find(chat, message_id)
        if message is None:
            raise bad_request("message to edit not found")
        if not message.from_bot:
            raise bad_request("message can't be edited")
        return message

    def _edit(
        self, message: Message, body: Formatted, keyboard: Keyboard | None, media: Media | NewMedia | None
    ) -> Json:
        """A keyboard that is not given again goes away, as at Telegram. A new upload always differs."""
        stored = media.stored if isinstance(media, NewMedia) else media
        uploads = isinstance(media, NewMedia) and media.stored is None
        same: tuple[Any, ...] = (message.body, message.keyboard, message.media)
        if not uploads and (body, keyboard, stored) == same:
            raise bad_request(_NOT_MODIFIED)
        self._pace(message.chat_id)
        if isinstance(media, NewMedia):
            stored = self._kept(media)
        edited = self._board.edit(replace(message, body=body, keyboard=keyboard, media=stored))
        return message_shape(self._store, edited)

    def _pace(self, chat_id: int) -> None:
        if self._limit is not None:
            self._limit.take(chat_id)
