"""The Bot API's methods that send, edit, mark and delete messages."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import Any, Final

from bot.phone.content import (
    Answered,
    NewMedia,
    caption_of,
    chat_of,
    input_media,
    media_of,
    open_chat_of,
    reply_of,
    text_of,
)
from bot.phone.entities import Formatted
from bot.phone.errors import Refusal, bad_request
from bot.phone.fields import FieldProblem, required_text
from bot.phone.keyboards import keyboard_of
from bot.phone.limits import RateLimit
from bot.phone.params import Call
from bot.phone.rows import Chat, Draft, Keyboard, Media, Message
from bot.phone.shapes import Json, bot_shape, message_shape, user_shape
from bot.phone.switchboard import Switchboard
from bot.phone.vocabulary import ACTIONS, REACTIONS

_NOT_MODIFIED: Final = (
    "message is not modified: specified new message content and reply markup are exactly the same as a"
    " current content and reply markup of the message"
)
_LARGEST_ALBUM: Final = 10
_MOST_IDS: Final = 100
_DELETABLE_SECONDS: Final = 48 * 3600
_ONE_BY_ONE: Final = frozenset({"IMAGE_PROCESS_FAILED", "PHOTO_INVALID_DIMENSIONS"})  # found by Telegram, not by td


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """How a message is to be sent: read before the chat is looked at, as Telegram does it."""

    answered: Answered
    keyboard: Keyboard | None
    silent: bool


class Messaging:
    """Each public method is the Bot API method of that name: it answers the `result` or raises Refusal."""

    def __init__(self, board: Switchboard, limit: RateLimit | None) -> None:
        self._board = board
        self._store = board.store
        self._limit = limit

    # sending

    def send_message(self, call: Call) -> Json:
        return self._send(call, text_of(call), None)

    def send_photo(self, call: Call) -> Json:
        media = media_of(self._store, call, "photo")
        return self._send(call, caption_of(call), media)

    def send_document(self, call: Call) -> Json:
        media = media_of(self._store, call, "document")
        return self._send(call, caption_of(call), media)

    def send_media_group(self, call: Call) -> list[Json]:
        """Photos, or documents; a single one is sent outside any album."""
        order = _order(call)
        call.required("media")
        shapes = call.parsed("media", "media")
        if not isinstance(shapes, list):
            raise bad_request("Expected an Array of InputMedia")
        items = [self._album_item(call, shape, place) for place, shape in enumerate(shapes, 1)]
        _check_album(items)
        album = str(secrets.randbits(63)) if len(items) > 1 else None
        drafts = [replace(self._draft(call, order, caption), album=album) for _, caption in items]
        self._pace(drafts[0].chat_id)
        kept = [replace(draft, media=self._kept(media)) for draft, (media, _) in zip(drafts, items, strict=True)]
        return [message_shape(self._store, message) for message in self._board.send(kept)]

    def forward_message(self, call: Call) -> Json:
        source = self._source(call, "message to forward")
        draft = self._copied(call, source)
        return self._sent(replace(draft, origin=source.origin or self._origin(source)))

    def copy_message(self, call: Call) -> Json:
        """As forwardMessage, without a word of where it comes from; media may get a new caption."""
        source = self._source(call, "message to copy")
        draft = self._copied(call, source)
        if source.media is not None and call.params.get("caption") is not None:
            draft = replace(draft, body=caption_of(call))
        return {"message_id": self._sent(draft)["message_id"]}

    def send_chat_action(self, call: Call) -> bool:
        action = call.text("action").lower()
        if action not in ACTIONS:
            raise bad_request("Wrong parameter action in request")
        self._board.act(open_chat_of(self._store, call), action)
        return True

    # editing

    def edit_message_text(self, call: Call) -> Json:
        body, keyboard = text_of(call), keyboard_of(call, inline_only=True)
        message = self._editable(call)
        if message.media is not None:
            raise bad_request("There is no text in the message to edit")
        return self._edit(message, body, keyboard, None)

    def edit_message_caption(self, call: Call) -> Json:
        keyboard, caption = keyboard_of(call, inline_only=True), caption_of(call)
        message = self._editable(call)
        if message.media is None:
            raise bad_request("There is no caption in the message to edit")
        return self._edit(message, caption, keyboard, message.media)

    def edit_message_reply_markup(self, call: Call) -> Json:
        keyboard = keyboard_of(call, inline_only=True)
        message = self._editable(call)
        return self._edit(message, message.body, keyboard, message.media)

    def edit_message_media(self, call: Call) -> Json:
        """Also turns a text message into a photo or document, as Telegram allows since Bot API 7.11."""
        keyboard = keyboard_of(call, inline_only=True)
        call.required("media")
        media, caption = input_media(self._store, call, call.parsed("media", "input media"))
        message = self._editable(call)
        if message.album is not None and message.media is not None and message.media.kind != media.kind:
            raise bad_request("Can't change media type in the album")
        return self._edit(message, caption, keyboard, media)

    # marking

    def set_message_reaction(self, call: Call) -> bool:
        """One emoji, as bots may; an empty list takes it back."""
        emojis = _reactions(call)
        message = self._found(call, "message to react")
        if len(emojis) > 1:
            raise bad_request("REACTIONS_TOO_MANY")
        if not REACTIONS.issuperset(emojis):
            raise bad_request("REACTION_INVALID")
        self._board.mark(replace(message, reaction=emojis[0] if emojis else None))
        return True

    def pin_chat_message(self, call: Call) -> bool:
        message = self._found(call, "message to pin")
        pins = self._store.pinned_messages(message.chat_id)
        self._board.mark(replace(message, pinned=1 + max((each.pinned for each in pins), default=0)))
        return True

    def unpin_chat_message(self, call: Call) -> bool:
        """Without `message_id` the one that was pinned last."""
        if call.integer("message_id") > 0:
            message = self._found(call, "message to unpin")
        else:
            pins = self._store.pinned_messages(chat_of(self._store, call).chat_id)
            if not pins:
                raise bad_request("Message to unpin not found")
            message = pins[0]
        if message.pinned:
            self._board.mark(replace(message, pinned=0))
        return True

    def unpin_all_chat_messages(self, call: Call) -> bool:
        for message in self._store.pinned_messages(chat_of(self._store, call).chat_id):
            self._board.mark(replace(message, pinned=0))
        return True

    # deleting

    def delete_message(self, call: Call) -> bool:
        """Up to 48 hours after it was sent, whoever sent it."""
        if not call.text("chat_id"):
            raise bad_request("Chat identifier is not specified")
        if call.integer("message_id") <= 0:
            raise bad_request("Message identifier is not specified")
        message = self._found(call, "message to delete")
        if not self._deletable(message):
            raise bad_request("Message can't be deleted for everyone")
        self._board.delete(message)
        return True

    def delete_messages(self, call: Call) -> bool:
        """Those that cannot be found or deleted are skipped."""
        wanted = _message_ids(call)
        chat = chat_of(self._store, call)
        for message_id in wanted:
            message = self._in_chat(chat, message_id)
            if message is not None and self._deletable(message):
                self._board.delete(message)
        return True

    # what they share

    def _send(self, call: Call, body: Formatted, media: NewMedia | None) -> Json:
        draft = self._draft(call, _order(call), body)
        self._pace(draft.chat_id)
        return self._stored(replace(draft, media=self._kept(media)))

    def _sent(self, draft: Draft) -> Json:
        self._pace(draft.chat_id)
        return self._stored(draft)

    def _stored(self, draft: Draft) -> Json:
        (message,) = self._board.send([draft])
        return message_shape(self._store, message)

    def _draft(self, call: Call, order: _Order, body: Formatted) -> Draft:
        """The message as it would be sent, once its chat and what it answers are known to be there."""
        chat = open_chat_of(self._store, call)
        return Draft(
            chat_id=chat.chat_id,
            sender_id=call.bot_id,
            from_bot=True,
            date=self._board.now(),
            body=body,
            reply_to=order.answered.found(self._store, chat),
            keyboard=order.keyboard,
            silent=order.silent,
        )

    def _album_item(self, call: Call, shape: Any, place: int) -> tuple[NewMedia, Formatted]:
        try:
            return input_media(self._store, call, shape, album=True)
        except Refusal as refusal:
            if refusal.reason not in _ONE_BY_ONE:
                raise
            told = f'Failed to send message #{place} with the error message "{refusal.reason}"'
            raise bad_request(told) from refusal

    def _source(self, call: Call, what: str) -> Message:
        call.required("from_chat_id")
        return self._found(call, what, "from_chat_id")

    def _copied(self, call: Call, source: Message) -> Draft:
        return replace(self._draft(call, _order(call), source.body), media=source.media)

    def _origin(self, source: Message) -> Json:
        """The MessageOrigin of a message that is forwarded for the first time."""
        chat = None if source.from_bot else self._store.chat(source.sender_id)
        sender = bot_shape(self._store, source.sender_id) if chat is None else user_shape(chat)
        return {"type": "user", "date": source.date, "sender_user": sender}

    def _kept(self, media: NewMedia | None) -> Media | None:
        if media is None:
            return None
        with self._store.writing():
            return media.store(self._store)

    def _found(self, call: Call, what: str, field: str = "chat_id") -> Message:
        """The message of `message_id`; `what` names it in the refusal."""
        message = self._in_chat(chat_of(self._store, call, field), call.integer("message_id"))
        if message is None:
            raise bad_request(f"{what} not found")
        return message

    def _in_chat(self, chat: Chat, message_id: int) -> Message | None:
        message = self._store.message(message_id)
        return message if message is not None and message.chat_id == chat.chat_id else None

    def _deletable(self, message: Message) -> bool:
        return self._board.now() - message.date <= _DELETABLE_SECONDS

    def _editable(self, call: Call) -> Message:
        if not call.text("chat_id") and call.integer("message_id") <= 0:
            missing = not call.text("inline_message_id")
            raise bad_request("Message identifier is not specified" if missing else "MESSAGE_ID_INVALID")
        message = self._found(call, "message to edit")
        if not message.from_bot or message.origin is not None:
            raise bad_request("Message can't be edited")
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
        """Whatever is sent at once counts once, an album too."""
        if self._limit is not None:
            self._limit.take(chat_id)


def _order(call: Call) -> _Order:
    return _Order(answered=reply_of(call), keyboard=keyboard_of(call), silent=call.flag("disable_notification"))


def _check_album(items: list[tuple[NewMedia, Formatted]]) -> None:
    if not items:
        raise bad_request("There are no messages to send")
    if len(items) > _LARGEST_ALBUM:
        raise bad_request("Too many messages to send as an album")
    if len({media.kind for media, _ in items}) > 1:
        raise bad_request("Document can't be mixed with other media types")


def _reactions(call: Call) -> list[str]:
    shapes = call.parsed("reaction", "reaction types")
    if shapes is not None and not isinstance(shapes, list):
        raise bad_request("Expected an Array of ReactionType")
    try:
        return [_reaction(shape) for shape in shapes or []]
    except FieldProblem as problem:
        raise bad_request(f"Can't parse ReactionType: {problem}") from problem


def _reaction(shape: Any) -> str:
    """The emoji; one that only Premium users may use is as good as an unknown one."""
    if not isinstance(shape, dict):
        raise FieldProblem("expected an Object")
    kind = required_text(shape, "type")
    if kind == "emoji":
        return required_text(shape, "emoji").replace("\ufe0f", "")
    if kind == "custom_emoji":
        return required_text(shape, "custom_emoji_id")
    raise FieldProblem("invalid reaction type specified")


def _message_ids(call: Call) -> list[int]:
    wanted = call.parsed("message_ids", "message_ids")
    if wanted is None or wanted == []:
        raise bad_request("Message identifiers are not specified")
    if not isinstance(wanted, list):
        raise bad_request("Expected an Array of message identifiers")
    if len(wanted) > _MOST_IDS:
        raise bad_request("Too many message identifiers specified")
    return [_message_id(each) for each in wanted]


def _message_id(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise bad_request("Message identifier must be a Number")
    if not re.fullmatch(r"-?\d{1,10}", str(value)):
        raise bad_request("Can't parse message identifier as Number")
    number = int(value)
    if number <= 0:
        raise bad_request("Invalid message identifier specified")
    return number
