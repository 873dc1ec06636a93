"""What a call wants to show (text, keyboard, file, the message it answers), checked as Telegram checks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from bot.phone.errors import Refusal, bad_request
from bot.phone.formatting import Formatted, is_utf8, parse_html, plain, utf16_length, with_entities
from bot.phone.params import BIGGEST_ID, Call, Upload
from bot.phone.pictures import measure
from bot.phone.rows import Chat, Keyboard, Media
from bot.phone.store import Store

MAX_TEXT: Final = 4096
MAX_CAPTION: Final = 1024
MAX_CALLBACK_DATA: Final = 64  # bytes
_MAX_PHOTO_BYTES: Final = 10 * 1024 * 1024
_MAX_DOCUMENT_BYTES: Final = 50 * 1024 * 1024
_MAX_PHOTO_SIDES: Final = 10_000
_MAX_PHOTO_RATIO: Final = 20
_MAX_BUTTONS: Final = 100
_BUTTON_KEYS: Final = ("text", "callback_data", "url", "copy_text")


def chat_of(store: Store, call: Call) -> Chat:
    """The chat of `chat_id`. A bot cannot write first: a stranger's chat opens when they write."""
    if not call.text("chat_id"):
        raise bad_request("chat_id is empty")
    chat = store.chat(call.integer("chat_id"))
    if chat is None:
        raise bad_request("chat not found")
    return chat


def text_of(call: Call) -> Formatted:
    """The `text`, 1 to 4096 after parsing; UTF-16 units are counted, the stricter reading of the limit."""
    body = formatted(call.text("text"), call.text("parse_mode"), call.parsed("entities", "entities"))
    if not body.text:
        raise bad_request("message text is empty")
    if utf16_length(body.text) > MAX_TEXT:
        raise bad_request("message is too long")
    return body


def caption_of(call: Call) -> Formatted:
    """The `caption`, empty when there is none; up to 1024 after parsing."""
    entities = call.parsed("caption_entities", "caption entities")
    return checked_caption(formatted(call.text("caption"), call.text("parse_mode"), entities))


def checked_caption(caption: Formatted) -> Formatted:
    if utf16_length(caption.text) > MAX_CAPTION:
        raise bad_request("message caption is too long")
    return caption


def formatted(text: str, parse_mode: str, entities: Any) -> Formatted:
    """Text in the HTML mode, or plain text with or without ready-made entities."""
    if not is_utf8(text):
        raise bad_request("text must be encoded in UTF-8")
    mode = parse_mode.lower()
    if mode == "html":
        return parse_html(text)
    if mode not in ("", "none"):
        raise bad_request("unsupported parse_mode")
    if not entities:
        return plain(text)
    try:
        return with_entities(text, entities)
    except (TypeError, KeyError, ValueError) as error:
        raise bad_request("can't parse MessageEntity") from error


def reply_of(store: Store, call: Call, chat: Chat) -> int | None:
    """The message this one answers, from `reply_parameters` or the older `reply_to_message_id`."""
    parameters = call.mapping("reply_parameters", "reply parameters")
    wanted = parameters.get("message_id") or call.integer("reply_to_message_id")
    if not isinstance(wanted, int) or abs(wanted) > BIGGEST_ID:
        raise bad_request('can\'t parse reply parameters: Field "message_id" must be a valid Number')
    if not wanted:
        return None
    original = store.message(wanted)
    if original is not None and original.chat_id == chat.chat_id:
        return wanted
    if parameters.get("allow_sending_without_reply") or call.flag("allow_sending_without_reply"):
        return None
    raise bad_request("message to be replied not found")


def keyboard_of(call: Call) -> Keyboard | None:
    """The inline keyboard of `reply_markup`; other kinds of markup are accepted and not shown."""
    rows = call.mapping("reply_markup", "reply keyboard markup").get("inline_keyboard")
    if rows is None:
        return None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request('can\'t parse inline keyboard markup: Field "inline_keyboard" must be of type Array')
    keyboard = [[_button(button) for button in row] for row in rows if row]
    if sum(len(row) for row in keyboard) > _MAX_BUTTONS:
        raise bad_request("reply markup is too long")
    return keyboard or None


def _button(button: Any) -> dict[str, Any]:
    if not isinstance(button, dict) or not isinstance(button.get("text"), str) or not button["text"]:
        raise bad_request('can\'t parse inline keyboard button: Field "text" must be of type String')
    data = button.get("callback_data")
    if data is not None:
        if not isinstance(data, str) or not is_utf8(data) or not 1 <= len(data.encode()) <= MAX_CALLBACK_DATA:
            raise bad_request("BUTTON_DATA_INVALID")
    elif "url" in button:
        if not str(button["url"]).lower().startswith(("http://", "https://", "tg://")):
            raise bad_request("BUTTON_URL_INVALID")
    elif "copy_text" not in button:
        raise bad_request("Text buttons are unallowed in the inline keyboard")
    return {key: button[key] for key in _BUTTON_KEYS if key in button}


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


def media_of(store: Store, call: Call, kind: str, reference: str) -> NewMedia:
    """The file that `reference` names: the call's own field `kind`, "attach://FIELD" or a file_id."""
    field = reference.removeprefix("attach://") if reference.startswith("attach://") else kind
    upload = call.uploads.get(field)
    if upload is not None:
        return _uploaded(kind, upload)
    if not reference or reference.startswith("attach://"):
        raise bad_request(f"there is no {kind} in the request")
    if reference.startswith(("http://", "https://")):
        raise bad_request("failed to get HTTP URL content")
    file = store.file(reference)
    if file is None or (kind == "photo") != (file.width > 0):
        raise bad_request("wrong file identifier/HTTP URL specified")
    return NewMedia(kind, stored=Media(kind=kind, file=file))


def _uploaded(kind: str, upload: Upload) -> NewMedia:
    count = len(upload.content)
    if not count:
        raise bad_request("file must be non-empty")
    if count > _MAX_DOCUMENT_BYTES:
        raise Refusal(413, "Request Entity Too Large")
    if kind != "photo":
        return NewMedia(kind, upload=upload)
    if count > _MAX_PHOTO_BYTES:
        limit = f"the maximum size is {_MAX_PHOTO_BYTES} bytes"
        raise bad_request(f"file of size {count} bytes is too big for a photo; {limit}")
    picture = measure(upload.content)
    if picture is None:
        raise bad_request("IMAGE_PROCESS_FAILED")
    mime, width, height = picture
    shorter, longer = sorted((width, height))
    if shorter == 0 or longer > _MAX_PHOTO_RATIO * shorter or width + height > _MAX_PHOTO_SIDES:
        raise bad_request("PHOTO_INVALID_DIMENSIONS")
    return NewMedia(kind, upload=Upload(upload.name, mime, upload.content), size=(width, height))
