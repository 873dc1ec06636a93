"""What a call wants to show (text, caption, file, the message it answers), checked as Telegram checks it."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Final

from bot.phone.entities import Formatted, utf16_length
from bot.phone.errors import Refusal, bad_request
from bot.phone.fields import FieldProblem, optional_flag, optional_text, required_integer, required_text
from bot.phone.formatting import formatted
from bot.phone.params import BIGGEST_ID, Call, Upload
from bot.phone.pictures import measure
from bot.phone.rows import Chat, File, Media
from bot.phone.store import Store

MAX_TEXT: Final = 4096
MAX_CAPTION: Final = 1024
KINDS: Final = ("photo", "document")
_MAX_PHOTO_BYTES: Final = 10 * 1024 * 1024
_MAX_DOCUMENT_BYTES: Final = 50 * 1024 * 1024
_MAX_PHOTO_SIDES: Final = 10_000
_MAX_PHOTO_RATIO: Final = 20
_BASE64: Final = re.compile(r"[A-Za-z0-9_-]*")


def chat_of(store: Store, call: Call, field: str = "chat_id") -> Chat:
    """The chat of `chat_id`. A bot cannot write first: a stranger's chat opens when they write."""
    if not call.text(field):
        raise bad_request("chat_id is empty")
    chat = store.chat(call.integer(field))
    if chat is None:
        raise bad_request("chat not found")
    return chat


def open_chat_of(store: Store, call: Call) -> Chat:
    """The chat, if its user lets the bot write there."""
    chat = chat_of(store, call)
    if chat.blocked:
        raise Refusal(403, "Forbidden: bot was blocked by the user")
    return chat


def text_of(call: Call) -> Formatted:
    """The `text`, 1 to 4096 after parsing; UTF-16 units are counted, the stricter reading of the limit."""
    text = call.text("text")
    if not text:
        raise bad_request("Message text is empty")
    body = formatted(text, call.text("parse_mode"), call.lenient("entities"))
    if not body.text:
        raise bad_request("Text must be non-empty")
    if utf16_length(body.text) > MAX_TEXT:
        raise bad_request("Message is too long")
    return body


def caption_of(call: Call) -> Formatted:
    """The `caption`, empty when there is none; up to 1024 after parsing."""
    caption = formatted(call.text("caption"), call.text("parse_mode"), call.lenient("caption_entities"))
    return _checked_caption(caption)


def _checked_caption(caption: Formatted) -> Formatted:
    if utf16_length(caption.text) > MAX_CAPTION:
        raise bad_request("Message caption is too long")
    return caption


@dataclass(frozen=True, slots=True)
class Answered:
    """The message a call wants to answer; `optional` when it may be sent without that answer."""

    message_id: int = 0
    optional: bool = False

    def found(self, store: Store, chat: Chat) -> int | None:
        """Its id, once it is known to be in the chat."""
        if self.message_id <= 0:
            return None
        original = store.message(self.message_id)
        if original is not None and original.chat_id == chat.chat_id:
            return self.message_id
        if self.optional:
            return None
        raise bad_request("Message to be replied not found")


def reply_of(call: Call) -> Answered:
    """What `reply_parameters` or the older `reply_to_message_id` ask for; a quote is not shown."""
    parameters = call.parsed("reply_parameters", "reply parameters")
    if parameters is None:
        return Answered(call.integer("reply_to_message_id"), call.flag("allow_sending_without_reply"))
    if not isinstance(parameters, dict):
        raise bad_request("Object expected as reply parameters")
    if not parameters:
        return Answered()
    try:
        message_id = required_integer(parameters, "message_id")
        return Answered(min(message_id, BIGGEST_ID), optional_flag(parameters, "allow_sending_without_reply"))
    except FieldProblem as problem:
        raise bad_request(str(problem)) from problem


@dataclass(frozen=True, slots=True)
class NewMedia:
    """A file to be shown: `upload` and its measured size when it came with the call, else `stored`."""

    kind: str
    upload: Upload | None = None
    stored: Media | None = None
    size: tuple[int, int] = (0, 0)

    def store(self, store: Store) -> Media:
        """Keeps an upload; inside `store.writing()`."""
        if self.stored is not None:
            return self.stored
        if self.upload is None:
            raise ValueError("NewMedia needs an upload or a stored file")
        upload, folder = self.upload, f"{self.kind}s"
        file = store.add_file(folder=folder, name=upload.name, mime=upload.mime, content=upload.content, size=self.size)
        return Media(kind=self.kind, file=file)


def media_of(store: Store, call: Call, kind: str) -> NewMedia:
    """The file that the call's field `kind` brings or names."""
    media = _referred(store, call, kind, call.text(kind), field=kind)
    if media is None:
        raise bad_request(f"There is no {kind} in the request")
    return media


def input_media(store: Store, call: Call, shape: Any, *, album: bool = False) -> tuple[NewMedia, Formatted]:
    """An InputMedia: its file and caption."""
    try:
        return _input_media(store, call, shape, album)
    except FieldProblem as problem:
        raise bad_request(f"Can't parse InputMedia: {problem}") from problem


def _input_media(store: Store, call: Call, shape: Any, album: bool) -> tuple[NewMedia, Formatted]:
    if not isinstance(shape, dict):
        raise FieldProblem("expected an Object")
    text, mode = optional_text(shape, "caption"), optional_text(shape, "parse_mode")
    try:
        caption = formatted(text, mode, shape.get("caption_entities"))
    except Refusal as refusal:
        raise FieldProblem(refusal.reason) from refusal
    reference, kind = optional_text(shape, "media"), optional_text(shape, "type")
    if not reference or (reference.startswith("attach://") and reference[9:] not in call.uploads):
        raise FieldProblem("media not found")
    required_text(shape, "type")
    if album and kind == "animation":
        raise FieldProblem(f'type "{kind}" can\'t be used in sendMediaGroup')
    if kind not in KINDS:
        raise FieldProblem(f'type "{kind}" is unsupported')
    media = _referred(store, call, kind, reference, field="")
    if media is None:
        raise FieldProblem("media not found")
    return media, _checked_caption(caption)


def _referred(store: Store, call: Call, kind: str, reference: str, field: str) -> NewMedia | None:
    """The file of "attach://FIELD", of a file_id, or uploaded as `field`; None when there is none."""
    if reference and not reference.startswith("attach://"):
        return NewMedia(kind, stored=Media(kind=kind, file=_known(store, kind, reference)))
    upload = call.uploads.get(reference.removeprefix("attach://") if reference else field)
    return None if upload is None else _uploaded(kind, upload)


def _known(store: Store, kind: str, file_id: str) -> File:
    if "." in file_id:
        raise bad_request("Failed to get HTTP URL content")  # an address: the phone fetches nothing
    file = store.file(file_id)
    if file is None:
        raise bad_request(f"Wrong remote file identifier specified: {_unreadable(file_id)}")
    own = "photo" if file.width else "document"
    if own != kind:
        raise bad_request(f"Can't use file of type {own.capitalize()} as {kind.capitalize()}")
    return file


def _unreadable(file_id: str) -> str:
    """Why td cannot decode the identifier (tdutils/td/utils/base64.cpp)."""
    bare = file_id.rstrip("=")
    padding = len(file_id) - len(bare)
    if padding >= 3:
        return "Wrong string padding"
    if padding and len(file_id) % 4:
        return "Wrong padding length"
    if len(bare) % 4 == 1:
        return "Wrong string length"
    if not _BASE64.fullmatch(bare):
        return "Wrong character in the string"
    return "can't unserialize it" if _decodes(bare) else "Wrong padding in the string"


def _decodes(bare: str) -> bool:
    """The bits that padding leaves over must be zero."""
    try:
        raw = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        return False
    return base64.urlsafe_b64encode(raw).decode().rstrip("=") == bare


def _uploaded(kind: str, upload: Upload) -> NewMedia:
    count = len(upload.content)
    if not count:
        raise bad_request("File must be non-empty")
    if count > _MAX_DOCUMENT_BYTES:
        raise Refusal(413, "Request Entity Too Large")
    if kind != "photo":
        return NewMedia(kind, upload=upload)
    if count > _MAX_PHOTO_BYTES:
        limit = f"the maximum size is {_MAX_PHOTO_BYTES} bytes"
        raise bad_request(f"File of size {count} bytes is too big for a photo; {limit}")
    return _photo(upload)


def _photo(upload: Upload) -> NewMedia:
    picture = measure(upload.content)
    if picture is None:
        raise bad_request("IMAGE_PROCESS_FAILED")
    mime, width, height = picture
    shorter, longer = sorted((width, height))
    if shorter == 0 or longer > _MAX_PHOTO_RATIO * shorter or width + height > _MAX_PHOTO_SIDES:
        raise bad_request("PHOTO_INVALID_DIMENSIONS")
    return NewMedia("photo", upload=Upload(upload.name, mime, upload.content), size=(width, height))
