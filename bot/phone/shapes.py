"""The Bot API's objects (core.telegram.org/bots/api#available-types), made from the store's rows."""

from __future__ import annotations

from typing import Any, Final

from bot.phone.rows import Chat, File, Message
from bot.phone.store import Store

BOT_NAME: Final = "Conclave"
BOT_USERNAME: Final = "conclave_bot"

Json = dict[str, Any]


def user_shape(chat: Chat) -> Json:
    """The human of a private chat."""
    names = {"first_name": chat.first_name, "username": chat.username}
    return {"id": chat.chat_id, "is_bot": False, **names, "language_code": "en"}


def bot_shape(store: Store, bot_id: int) -> Json:
    name = store.fact("name:") or BOT_NAME
    return {"id": bot_id, "is_bot": True, "first_name": name, "username": BOT_USERNAME}


def member_shape(store: Store, chat: Chat, bot_id: int) -> Json:
    """The bot as a member of a private chat: "kicked" when it is blocked."""
    status: Json = {"status": "kicked", "until_date": 0} if chat.blocked else {"status": "member"}
    return {"user": bot_shape(store, bot_id), **status}


def chat_shape(chat: Chat) -> Json:
    return {"id": chat.chat_id, "type": "private", "first_name": chat.first_name, "username": chat.username}


def file_shape(file: File) -> Json:
    return {"file_id": file.file_id, "file_unique_id": file.file_id[:16], "file_size": file.size}


def message_shape(store: Store, message: Message, *, with_reply: bool = True) -> Json:
    """A Message; the message it replies to is included once, not down the thread."""
    chat = store.chat(message.chat_id)
    if chat is None:
        raise LookupError(f"message {message.message_id} is in no known chat")
    sender = bot_shape(store, message.sender_id) if message.from_bot else _sender(store, message, chat)
    shape: Json = {
        "message_id": message.message_id,
        "from": sender,
        "chat": chat_shape(chat),
        "date": message.date,
    }
    shape |= _content(message) | _extras(message)
    if with_reply and message.reply_to is not None:
        original = store.message(message.reply_to)
        if original is not None:
            shape["reply_to_message"] = message_shape(store, original, with_reply=False)
    return shape


def _sender(store: Store, message: Message, chat: Chat) -> Json:
    return user_shape(chat if message.sender_id == chat.chat_id else store.chat(message.sender_id) or chat)


def _extras(message: Message) -> Json:
    """Fields that only some messages have."""
    extras = {
        "edit_date": message.edit_date,
        "media_group_id": message.album,
        "forward_origin": message.origin,
        "reply_markup": {"inline_keyboard": message.keyboard} if message.keyboard else None,
    }
    return {name: value for name, value in extras.items() if value is not None}


def _content(message: Message) -> Json:
    entities = [entity.shape() for entity in message.body.entities]
    media = message.media
    if media is None:
        return {"text": message.body.text} | ({"entities": entities} if entities else {})
    shape: Json = {}
    if media.kind == "photo":
        shape["photo"] = [file_shape(media.file) | {"width": media.file.width, "height": media.file.height}]
    else:
        shape["document"] = file_shape(media.file) | {
            "file_name": media.file.name,
            "mime_type": media.file.mime,
        }
    if message.body.text:
        shape["caption"] = message.body.text
    if entities:
        shape["caption_entities"] = entities
    return shape
