"""Refusals, word for word: bots branch on them.

Every call of the table goes through python-telegram-bot, as its own method or, where it would refuse to send such a
thing, as a raw request of its. The texts are those of the Bot API server and of td, which it is built on
(github.com/tdlib/telegram-bot-api, github.com/tdlib/td), and of what Telegram was seen to answer.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientSession, FormData
from telegram import (
    Bot,
    BotCommand,
    BotCommandScopeChat,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputMediaPhoto,
    InputPollOption,
    MessageEntity,
    ReactionTypeEmoji,
    ReplyKeyboardMarkup,
    ReplyParameters,
)
from telegram.error import BadRequest, Forbidden, InvalidToken, NetworkError, RetryAfter, TelegramError
from telegram.request import HTTPXRequest

from bot.phone import DEFAULT_TOKEN, Phone
from bot.phone.errors import Refusal
from bot.phone.limits import RateLimit
from tests.bot.phone.driver import Human, call
from tests.bot.phone.pictures import painting

OWNER = 1
SAID, TEXT, PHOTO, DOCUMENT, ALBUM = 1, 2, 3, 4, 5  # message ids: the user's, then the bot's
SAME = (
    "message is not modified: specified new message content and reply markup are exactly the same as a"
    " current content and reply markup of the message"
)
RESERVED = "is reserved and must be escaped with the preceding '\\'"


class Recorder(HTTPXRequest):
    """python-telegram-bot's connection, which remembers the last answer as it came."""

    last: tuple[int, dict[str, Any]] = (0, {})

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        code, payload = await super().do_request(*args, **kwargs)
        self.last = code, json.loads(payload)
        return code, payload


@dataclass(frozen=True, slots=True)
class Stage:
    """A chat with something of everything in it; `documents` and `photos` name stored files."""

    bot: Bot
    recorder: Recorder
    photo: str
    document: str


@pytest.fixture
async def stage(phone: Phone, human: Human) -> AsyncIterator[Stage]:
    recorder = Recorder()
    urls = {"base_url": phone.base_url, "base_file_url": phone.base_file_url}
    async with Bot(DEFAULT_TOKEN, request=recorder, **urls) as bot:  # type: ignore[arg-type]  # two texts
        await human.say("hello")
        await bot.send_message(OWNER, "answer", reply_markup=keys(data="a"))
        photo = await bot.send_photo(OWNER, painting(40, 20), caption="chart")
        document = await bot.send_document(OWNER, b"x", filename="x.txt", caption="table")
        await bot.send_media_group(OWNER, [InputMediaPhoto(painting(40, 20)), InputMediaPhoto(painting(20, 40))])
        assert document.document is not None
        yield Stage(bot, recorder, photo.photo[0].file_id, document.document.file_id)


Request = Callable[[Stage], Awaitable[Any]]


def raw(method: str, **parameters: Any) -> Request:
    """A request as it is, which no method of python-telegram-bot would make."""
    waits = dict.fromkeys(("read_timeout", "write_timeout", "connect_timeout", "pool_timeout"), 30)
    return lambda stage: stage.bot._do_post(method, parameters, **waits)


def text(body: str, mode: str | None = None, **more: Any) -> Request:
    return lambda stage: stage.bot.send_message(OWNER, body, parse_mode=mode, **more)


def markup(value: Any) -> Request:
    """sendMessage with this reply_markup."""
    return raw("sendMessage", chat_id=OWNER, text="x", reply_markup=value)


def keys(text: str = "t", *, data: str | None = None, url: str | None = None) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[InlineKeyboardButton(text, callback_data=data, url=url)]])


def raw_key(**button: Any) -> Request:
    return markup({"inline_keyboard": [[{"text": "t", **button}]]})


def entities(*shapes: dict[str, Any]) -> Request:
    return raw("sendMessage", chat_id=OWNER, text="hello", entities=list(shapes))


def photo(content: bytes) -> Request:
    return lambda stage: stage.bot.send_photo(OWNER, content)


def album(*shapes: Any) -> Request:
    return raw("sendMediaGroup", chat_id=OWNER, media=list(shapes))


def commands(*pairs: tuple[str, str], **more: Any) -> Request:
    shapes = [{"command": name, "description": description} for name, description in pairs]
    return raw("setMyCommands", commands=shapes, **more)


@dataclass(frozen=True, slots=True)
class Refused:
    """A request, and how it is refused: python-telegram-bot's error, the status, Telegram's words."""

    request: Request
    error: type[TelegramError]
    status: int
    description: str


def bad(request: Request, reason: str) -> Refused:
    return Refused(request, BadRequest, 400, f"Bad Request: {reason}")


HTML = "can't parse entities: "
ENTITY = "can't parse MessageEntity: "
KEY = "can't parse inline keyboard button: "
MEDIA = "can't parse InputMedia: "
SCOPE = "can't parse BotCommandScope: "

REFUSED: dict[str, Refused] = {
    # text and its formatting
    "no text": bad(raw("sendMessage", chat_id=OWNER), "message text is empty"),
    "empty text": bad(text(""), "message text is empty"),
    "white text": bad(text(" \n "), "text must be non-empty"),
    "empty tags": bad(text("<b></b>", "HTML"), "text must be non-empty"),
    "4,097 characters": bad(text("x" * 4097), "message is too long"),
    "32 KiB and a byte": bad(text("x" * 32_769), "text is too long"),
    "unknown mode": bad(text("x", "BBCode"), "unsupported parse_mode"),
    "HTML: never closed": bad(text("<b>x", "HTML"), HTML + 'Can\'t find end tag corresponding to start tag "b"'),
    "HTML: no such tag": bad(text("ü<table>", "HTML"), HTML + 'Unsupported start tag "table" at byte offset 2'),
    "HTML: bare <": bad(text("a < b", "HTML"), HTML + 'Unsupported start tag "" at byte offset 2'),
    "HTML: crossed": bad(
        text("<b><i>test</b></i>", "HTML"),
        HTML + 'Unmatched end tag at byte offset 10, expected "</i>", found "</b>"',
    ),
    "HTML: only an end": bad(text("x</b>", "HTML"), HTML + "Unexpected end tag at byte offset 1"),
    "HTML: cut tag": bad(text("x <b", "HTML"), HTML + "Unclosed start tag at byte offset 2"),
    "HTML: cut end": bad(text("<b>x</b", "HTML"), HTML + "Unclosed end tag at byte offset 4"),
    "HTML: cut attribute": bad(text("<a href='x", "HTML"), HTML + 'Unclosed start tag "a" at byte offset 0'),
    "HTML: bare value": bad(text("<a href=x_y>x</a>", "HTML"), HTML + "Unexpected end of name token at byte offset 8"),
    "HTML: span": bad(
        text("<span>x</span>", "HTML"), HTML + 'Tag "span" must have class "tg-spoiler" at byte offset 0'
    ),
    "HTML: emoji": bad(
        text("<tg-emoji emoji-id='9999999999999999999'>x</tg-emoji>", "HTML"),
        HTML + "Invalid custom emoji identifier specified",
    ),
    "V2: dot": bad(text("hello.", "MarkdownV2"), HTML + f"Character '.' {RESERVED}"),
    "V2: dash": bad(text("a-b", "MarkdownV2"), HTML + f"Character '-' {RESERVED}"),
    "V2: parenthesis": bad(text("test()", "MarkdownV2"), HTML + f"Character '(' {RESERVED}"),
    "V2: pipe": bad(text("a|b", "MarkdownV2"), HTML + f"Character '|' {RESERVED}"),
    "V2: bold": bad(text("*unclosed", "MarkdownV2"), HTML + "Can't find end of Bold entity at byte offset 0"),
    "V2: nested": bad(
        text("*bold _italic\\_*", "MarkdownV2"),
        HTML + "Can't find end of Bold entity at byte offset 15",
    ),
    "V2: code": bad(text("`x", "MarkdownV2"), HTML + "Can't find end of Code entity at byte offset 0"),
    "V2: link": bad(text("[x](e.org", "MarkdownV2"), HTML + "Can't find end of a URL at byte offset 4"),
    "V1: bold": bad(
        text("ü *unclosed", "Markdown"),
        HTML + "Can't find end of the entity starting at byte offset 3",
    ),
    "V1: link": bad(text("[x", "Markdown"), HTML + "Can't find end of the entity starting at byte offset 0"),
    "entity: after the end": bad(
        text("hello", entities=[MessageEntity("bold", 100, 1)]),
        "entity begins after the end of the text at UTF-16 offset 100",
    ),
    "entity: beyond the end": bad(
        text("hello", entities=[MessageEntity("bold", 0, 100)]),
        "entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 100",
    ),
    "entity: negative": bad(
        text("hello", entities=[MessageEntity("bold", -1, 1)]),
        "receive an entity with incorrect offset -1",
    ),
    "entity: half a symbol": bad(
        text("😀x", entities=[MessageEntity("bold", 1, 2)]),
        "entity begins in a middle of a UTF-16 symbol at byte offset 4",
    ),
    "entity: bad type": bad(entities({"type": "no", "offset": 0, "length": 1}), ENTITY + "Unsupported type specified"),
    "entity: no url": bad(
        entities({"type": "text_link", "offset": 0, "length": 1}),
        ENTITY + 'Can\'t find field "url"',
    ),
    "entity: bad url": bad(
        text("click", entities=[MessageEntity("text_link", 0, 5, url="not-a-url")]),
        "entity URL 'not-a-url' is invalid: Wrong HTTP URL",
    ),
    "entity: no user": bad(
        entities({"type": "text_mention", "offset": 0, "length": 1}),
        ENTITY + 'Can\'t find field "user"',
    ),
    # whom it is for, and what it answers
    "no chat_id": bad(raw("sendMessage", text="x"), "chat_id is empty"),
    "empty chat_id": bad(raw("sendMessage", chat_id="", text="x"), "chat_id is empty"),
    "unknown chat": bad(lambda stage: stage.bot.send_message(99, "x"), "chat not found"),
    "a channel": bad(lambda stage: stage.bot.send_message("@channel", "x"), "chat not found"),
    "a huge chat": bad(lambda stage: stage.bot.send_message(10**30, "x"), "chat not found"),
    "unknown chat for getChat": bad(lambda stage: stage.bot.get_chat(99), "chat not found"),
    "reply to nothing": bad(text("x", reply_parameters=ReplyParameters(99)), "message to be replied not found"),
    "reply to nothing, the old way": bad(text("x", reply_to_message_id=99), "message to be replied not found"),
    "reply to no id": bad(
        raw("sendMessage", chat_id=OWNER, text="x", reply_parameters={"quote": "x"}),
        'can\'t find field "message_id"',
    ),
    "reply to a word": bad(
        raw("sendMessage", chat_id=OWNER, text="x", reply_parameters={"message_id": "one"}),
        'field "message_id" must be a valid Number',
    ),
    "reply in bad JSON": bad(
        raw("sendMessage", chat_id=OWNER, text="x", reply_parameters="{"),
        "can't parse reply parameters JSON object",
    ),
    # keyboards
    "markup in bad JSON": bad(markup("{"), "can't parse reply keyboard markup JSON object"),
    "markup is a list": bad(markup([1]), "object expected as reply markup"),
    "keyboard is a word": bad(markup({"inline_keyboard": "bad"}), 'field "inline_keyboard" must be of type Array'),
    "keyboard of one dimension": bad(
        markup({"inline_keyboard": [{"text": "t"}]}),
        'field "inline_keyboard" of the InlineKeyboardMarkup must be an Array of Arrays',
    ),
    "forced reply is a word": bad(markup({"force_reply": "yes"}), 'field "force_reply" must be of type Boolean'),
    "button is a word": bad(markup({"inline_keyboard": [["t"]]}), KEY + "InlineKeyboardButton must be an Object"),
    "button without text": bad(
        markup({"inline_keyboard": [[{"callback_data": "x"}]]}), KEY + 'Can\'t find field "text"'
    ),
    "button with empty text": bad(
        markup({"inline_keyboard": [[{"text": "", "callback_data": "x"}]]}),
        "inline keyboard button text must be non-empty",
    ),
    "button without action": bad(
        text("x", reply_markup=keys()), KEY + "Text buttons are unallowed in the inline keyboard"
    ),
    "button with empty data": bad(raw_key(callback_data=""), KEY + "Text buttons are unallowed in the inline keyboard"),
    "data of 65 bytes": bad(text("x", reply_markup=keys(data="x" * 65)), "BUTTON_DATA_INVALID"),
    "data of 33 umlauts": bad(text("x", reply_markup=keys(data="ü" * 33)), "BUTTON_DATA_INVALID"),
    "url: no address": bad(
        text("x", reply_markup=keys(url="not-a-url")),
        "inline keyboard button URL 'not-a-url' is invalid: Wrong HTTP URL",
    ),
    "url: another protocol": bad(
        text("x", reply_markup=keys(url="ftp://example.com")),
        "inline keyboard button URL 'ftp://example.com' is invalid: Unsupported URL protocol",
    ),
    "url: this machine": bad(
        text("x", reply_markup=keys(url="http://localhost:8080/")),
        "inline keyboard button URL 'http://localhost:8080/' is invalid: Wrong HTTP URL",
    ),
    "web app without https": bad(
        raw_key(web_app={"url": "http://example.com"}),
        "inline keyboard button Web App URL 'http://example.com' is invalid: Only HTTPS links are allowed",
    ),
    "pay without invoice": bad(raw_key(pay=True), "BUTTON_TYPE_INVALID"),
    "nothing to copy": bad(raw_key(copy_text={"text": ""}), "BUTTON_COPY_TEXT_INVALID"),
    "101 buttons": bad(
        text("x", reply_markup=InlineKeyboardMarkup([keys(data="a").inline_keyboard[0]] * 101)),
        "reply markup is too long",
    ),
    # edits
    "edit nothing": bad(lambda stage: stage.bot.edit_message_text("x", OWNER, 99), "message to edit not found"),
    "edit no id": bad(raw("editMessageText", chat_id=OWNER, text="x"), "message to edit not found"),
    "edit neither chat nor id": bad(raw("editMessageText", text="x"), "message identifier is not specified"),
    "edit what the user said": bad(
        lambda stage: stage.bot.edit_message_text("x", OWNER, SAID),
        "message can't be edited",
    ),
    "edit the user's markup": bad(
        lambda stage: stage.bot.edit_message_reply_markup(OWNER, SAID),
        "message can't be edited",
    ),
    "edit to nothing": bad(lambda stage: stage.bot.edit_message_text("", OWNER, TEXT), "message text is empty"),
    "edit a photo's text": bad(
        lambda stage: stage.bot.edit_message_text("x", OWNER, PHOTO),
        "there is no text in the message to edit",
    ),
    "edit a text's caption": bad(
        lambda stage: stage.bot.edit_message_caption(OWNER, TEXT, caption="x"),
        "there is no caption in the message to edit",
    ),
    "edit into a reply keyboard": bad(
        lambda stage: stage.bot.edit_message_text("x", OWNER, TEXT, reply_markup=ReplyKeyboardMarkup([["a"]])),  # type: ignore[arg-type]
        "inline keyboard expected",
    ),
    "same text": bad(
        lambda stage: stage.bot.edit_message_text("answer", OWNER, TEXT, reply_markup=keys(data="a")),
        SAME,
    ),
    "same caption": bad(lambda stage: stage.bot.edit_message_caption(OWNER, PHOTO, caption="chart"), SAME),
    "same markup": bad(
        lambda stage: stage.bot.edit_message_reply_markup(OWNER, TEXT, reply_markup=keys(data="a")),
        SAME,
    ),
    "same media": bad(
        lambda stage: stage.bot.edit_message_media(InputMediaPhoto(stage.photo, caption="chart"), OWNER, PHOTO),
        SAME,
    ),
    "edit the media of nothing": bad(
        lambda stage: stage.bot.edit_message_media(InputMediaPhoto(stage.photo), OWNER, 99),
        "message to edit not found",
    ),
    "edit to a sticker": bad(
        raw("editMessageMedia", chat_id=OWNER, message_id=TEXT, media={"type": "sticker", "media": "x"}),
        MEDIA + 'type "sticker" is unsupported',
    ),
    "edit to no media": bad(raw("editMessageMedia", chat_id=OWNER, message_id=TEXT), 'parameter "media" is required'),
    "edit to media in bad JSON": bad(
        raw("editMessageMedia", chat_id=OWNER, message_id=TEXT, media="{"),
        "can't parse input media JSON object",
    ),
    "edit to a missing part": bad(
        raw("editMessageMedia", chat_id=OWNER, message_id=TEXT, media={"type": "photo", "media": "attach://x"}),
        MEDIA + "media not found",
    ),
    "edit to a caption that is no HTML": bad(
        lambda stage: stage.bot.edit_message_media(InputMediaPhoto(stage.photo, "<p>", "HTML"), OWNER, TEXT),
        MEDIA + 'Can\'t parse entities: Unsupported start tag "p" at byte offset 0',
    ),
    "edit a photo of an album to a document": bad(
        lambda stage: stage.bot.edit_message_media(InputMediaDocument(stage.document), OWNER, ALBUM),
        "can't change media type in the album",
    ),
    # deleting, pinning, reacting, copying
    "delete nothing": bad(lambda stage: stage.bot.delete_message(OWNER, 99), "message to delete not found"),
    "delete no id": bad(raw("deleteMessage", chat_id=OWNER), "message identifier is not specified"),
    "delete in no chat": bad(raw("deleteMessage", message_id=TEXT), "chat identifier is not specified"),
    "delete none": bad(lambda stage: stage.bot.delete_messages(OWNER, []), "message identifiers are not specified"),
    "delete 101": bad(
        lambda stage: stage.bot.delete_messages(OWNER, list(range(1, 102))),
        "too many message identifiers specified",
    ),
    "delete -1": bad(
        lambda stage: stage.bot.delete_messages(OWNER, [-1]),
        "invalid message identifier specified",
    ),
    "pin nothing": bad(lambda stage: stage.bot.pin_chat_message(OWNER, 99), "message to pin not found"),
    "unpin nothing": bad(lambda stage: stage.bot.unpin_chat_message(OWNER, 99), "message to unpin not found"),
    "unpin the last of none": bad(lambda stage: stage.bot.unpin_chat_message(OWNER), "message to unpin not found"),
    "react to nothing": bad(
        lambda stage: stage.bot.set_message_reaction(OWNER, 99, "👍"),
        "message to react not found",
    ),
    "react with a letter": bad(lambda stage: stage.bot.set_message_reaction(OWNER, SAID, "x"), "REACTION_INVALID"),
    "react twice": bad(
        lambda stage: stage.bot.set_message_reaction(OWNER, SAID, [ReactionTypeEmoji("👍"), ReactionTypeEmoji("🔥")]),
        "REACTIONS_TOO_MANY",
    ),
    "react in a new way": bad(
        raw("setMessageReaction", chat_id=OWNER, message_id=SAID, reaction=[{"type": "sound"}]),
        "can't parse ReactionType: invalid reaction type specified",
    ),
    "forward nothing": bad(
        lambda stage: stage.bot.forward_message(OWNER, OWNER, 99),
        "message to forward not found",
    ),
    "forward from nowhere": bad(
        raw("forwardMessage", chat_id=OWNER, message_id=TEXT), 'parameter "from_chat_id" is required'
    ),
    "copy nothing": bad(lambda stage: stage.bot.copy_message(OWNER, OWNER, 99), "message to copy not found"),
    "wrong action": bad(
        lambda stage: stage.bot.send_chat_action(OWNER, "dancing"), "wrong parameter action in request"
    ),
    "no action": bad(raw("sendChatAction", chat_id=OWNER), "wrong parameter action in request"),
    # files
    "no photo": bad(raw("sendPhoto", chat_id=OWNER), "there is no photo in the request"),
    "no document": bad(raw("sendDocument", chat_id=OWNER), "there is no document in the request"),
    "1,025 characters of caption": bad(
        lambda stage: stage.bot.send_photo(OWNER, stage.photo, caption="x" * 1025),
        "message caption is too long",
    ),
    "caption that is no HTML": bad(
        lambda stage: stage.bot.send_document(OWNER, stage.document, caption="<p>", parse_mode="HTML"),
        HTML + 'Unsupported start tag "p" at byte offset 0',
    ),
    "empty photo": bad(photo(b""), "file must be non-empty"),
    "empty document": bad(lambda stage: stage.bot.send_document(OWNER, b""), "file must be non-empty"),
    "no picture": bad(photo(b"no picture"), "IMAGE_PROCESS_FAILED"),
    "picture without size": bad(photo(b"GIF89a" + bytes(20)), "PHOTO_INVALID_DIMENSIONS"),
    "10,001 px around": bad(photo(painting(5001, 5000)), "PHOTO_INVALID_DIMENSIONS"),
    "21 times as wide as high": bad(photo(painting(210, 10)), "PHOTO_INVALID_DIMENSIONS"),
    "photo of 10 MiB and a byte": bad(
        photo(bytes(10 * 1024 * 1024 + 1)),
        "file of size 10485761 bytes is too big for a photo; the maximum size is 10485760 bytes",
    ),
    "document of 51 MiB": Refused(
        lambda stage: stage.bot.send_document(OWNER, bytes(51 * 1024 * 1024)),
        NetworkError,
        413,
        "Request Entity Too Large",
    ),
    "unknown file_id": bad(
        lambda stage: stage.bot.send_photo(OWNER, "AgACAgIAAxkB"),
        "wrong remote file identifier specified: can't unserialize it",
    ),
    "file_id of bad length": bad(
        lambda stage: stage.bot.send_photo(OWNER, "nonsense!"),
        "wrong remote file identifier specified: Wrong string length",
    ),
    "file_id of bad letters": bad(
        lambda stage: stage.bot.send_photo(OWNER, "non sens"),
        "wrong remote file identifier specified: Wrong character in the string",
    ),
    "a photo as a document": bad(
        lambda stage: stage.bot.send_document(OWNER, stage.photo),
        "can't use file of type Photo as Document",
    ),
    "an address": bad(
        lambda stage: stage.bot.send_photo(OWNER, "https://e.org/x.png"),
        "failed to get HTTP URL content",
    ),
    "get no file": bad(raw("getFile"), "file_id not specified"),
    "get an unknown file": bad(lambda stage: stage.bot.get_file("nonsense"), "invalid file_id"),
    "album of nothing": bad(raw("sendMediaGroup", chat_id=OWNER), 'parameter "media" is required'),
    "empty album": bad(album(), "there are no messages to send"),
    "album of eleven": bad(
        lambda stage: stage.bot.send_media_group(OWNER, [InputMediaPhoto(stage.photo)] * 11),
        "too many messages to send as an album",
    ),
    "mixed album": bad(
        lambda stage: stage.bot.send_media_group(
            OWNER, [InputMediaPhoto(stage.photo), InputMediaDocument(stage.document)]
        ),
        "document can't be mixed with other media types",
    ),
    "album with an animation": bad(
        album({"type": "animation", "media": "x"}),
        MEDIA + 'type "animation" can\'t be used in sendMediaGroup',
    ),
    "album with a broken picture": bad(
        lambda stage: stage.bot.send_media_group(OWNER, [InputMediaPhoto(stage.photo), InputMediaPhoto(b"no picture")]),
        'failed to send message #2 with the error message "IMAGE_PROCESS_FAILED"',
    ),
    # the bot itself
    "101 commands": bad(
        lambda stage: stage.bot.set_my_commands([BotCommand(f"c{number}", "d") for number in range(101)]),
        "BOT_COMMANDS_TOO_MUCH",
    ),
    "commands are a word": bad(raw("setMyCommands", commands='"x"'), "expected an Array of BotCommand"),
    "commands in bad JSON": bad(raw("setMyCommands", commands="["), "can't parse commands JSON object"),
    "command without name": bad(
        raw("setMyCommands", commands=[{"description": "d"}]),
        "can't parse BotCommand: Can't find field \"command\"",
    ),
    "empty command": bad(commands(("", "d")), "command must be non-empty"),
    "bad command": bad(commands(("bad command", "d")), "BOT_COMMAND_INVALID"),
    "command of 33 letters": bad(commands(("c" * 33, "d")), "command length must not exceed 32"),
    "empty description": bad(commands(("start", "")), "command description must be non-empty"),
    "description of 257": bad(commands(("start", "d" * 257)), "command description length must not exceed 256"),
    "commands of a new scope": bad(
        commands(("start", "d"), scope={"type": "planet"}),
        SCOPE + "Unsupported type specified",
    ),
    "commands of no chat": bad(commands(("start", "d"), scope={"type": "chat"}), SCOPE + 'Can\'t find field "chat_id"'),
    "commands of an unknown chat": bad(
        lambda stage: stage.bot.set_my_commands([BotCommand("start", "d")], BotCommandScopeChat(99)),
        "chat not found",
    ),
    "commands in no language": bad(
        lambda stage: stage.bot.set_my_commands([BotCommand("start", "d")], language_code="english"),
        "invalid language code specified",
    ),
    "no name": bad(lambda stage: stage.bot.set_my_name(""), "BOT_TITLE_INVALID"),
    "unknown tap": bad(
        lambda stage: stage.bot.answer_callback_query("17"),
        "query is too old and response timeout expired or query ID is invalid",
    ),
    "webhook without https": bad(
        lambda stage: stage.bot.set_webhook("http://e.org/x"),
        "bad webhook: An HTTPS URL must be provided for webhook",
    ),
    "webhook": bad(
        lambda stage: stage.bot.set_webhook("https://e.org/x"),
        "bad webhook: the phone calls nobody, poll it with getUpdates",
    ),
    "a method of tomorrow": Refused(
        raw("sendThought", chat_id=OWNER), InvalidToken, 404, "Not Found: method not found"
    ),
    "a method not modelled": Refused(
        lambda stage: stage.bot.send_poll(OWNER, "?", [InputPollOption("a"), InputPollOption("b")]),
        InvalidToken,
        404,
        "Not Found: method not found",
    ),
    "a private method": Refused(raw("_send"), InvalidToken, 404, "Not Found: method not found"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_has_telegrams_class_status_and_words(stage: Stage, name: str) -> None:
    """python-telegram-bot raises what it raises at Telegram, and the answer reads as Telegram's; nothing was sent."""
    row = REFUSED[name]
    before = (await stage.bot.send_message(OWNER, "before")).message_id
    with pytest.raises(row.error) as refused:
        await row.request(stage)
    assert type(refused.value) is row.error
    told = {"ok": False, "error_code": row.status, "description": row.description}
    assert stage.recorder.last == (row.status, told)
    assert (await stage.bot.send_message(OWNER, "after")).message_id == before + 1


# ---- the token


@pytest.mark.parametrize(
    ("path", "status", "description"),
    [
        ("/botnonsense/getMe", 404, "Not Found"),
        ("/bot7:/getMe", 404, "Not Found"),
        ("/bot/getMe", 404, "Not Found"),
        ("/bot0000000000:INVALID_TOKEN/getMe", 401, "Unauthorized: invalid token specified"),
        ("/file/bot7:x/photos/none.png", 404, "Not Found"),
        ("/file/botnonsense/photos/none.png", 404, "Not Found"),
    ],
)
async def test_a_wrong_address(session: ClientSession, path: str, status: int, description: str) -> None:
    """What cannot be a token is not found, a token that cannot be one of Telegram's is unauthorized."""
    async with session.get(path) as response:
        assert response.status == status
        answer = await response.json()
    assert answer == {"ok": False, "error_code": status, "description": description}


async def test_another_bots_token_is_refused() -> None:
    """A phone that was given a token takes no other: 401, which python-telegram-bot raises as InvalidToken."""
    async with Phone(None, token="7:right") as phone, ClientSession(phone.url) as session:
        async with Bot("7:right", base_url=phone.base_url) as bot:
            assert (await bot.get_me()).id == 7
        with pytest.raises(InvalidToken):
            async with Bot("7:wrong", base_url=phone.base_url):
                pass
        async with session.get("/bot7:wrong/getMe") as response:
            assert (response.status, (await response.json())["description"]) == (401, "Unauthorized")


# ---- the body of a request


@pytest.mark.parametrize(
    ("body", "description"),
    [
        ("{", "expected parameter name"),
        ("[]", "JSON object expected"),
        ('{"chat_id": }', "can't parse parameter value"),
    ],
)
async def test_a_body_that_is_no_object(session: ClientSession, body: str, description: str) -> None:
    """A broken JSON body is told, not swallowed."""
    headers = {"Content-Type": "application/json"}
    async with session.post("/bot7:x/sendMessage", data=body, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["description"] == f"Bad Request: {description}"


async def test_half_a_surrogate_pair_is_no_text(session: ClientSession) -> None:
    """JSON can carry one, Telegram takes none."""
    status, answer = await call(session, "sendMessage", chat_id=OWNER, text="\ud800")
    assert (status, answer["description"]) == (400, "Bad Request: text must be encoded in UTF-8")


async def test_a_body_above_50_megabytes_is_not_read(session: ClientSession) -> None:
    """Refused with 413 whatever else is in it."""
    form = FormData({"chat_id": "99"})
    form.add_field("photo", io.BytesIO(bytes(52 * 1024 * 1024)), filename="p.png")
    async with session.post("/bot7:x/sendPhoto", data=form) as response:
        assert response.status == 413
        assert (await response.json())["description"] == "Request Entity Too Large"


# ---- blocked, late, too fast, two at once


async def test_a_blocked_bot_is_forbidden(bot: Bot, human: Human) -> None:
    """Nothing can be sent to a user who blocked the bot; the bot hears of it, and of the pardon."""
    await bot.get_updates(allowed_updates=["message", "my_chat_member"])
    old = await bot.send_message(OWNER, "before")
    await human.block(True)
    for attempt in (
        bot.send_message(OWNER, "x"),
        bot.send_photo(OWNER, painting(40, 20)),
        bot.send_chat_action(OWNER, "typing"),
        bot.copy_message(OWNER, OWNER, old.message_id),
    ):
        with pytest.raises(Forbidden, match=r"^Forbidden: bot was blocked by the user$"):
            await attempt
    await human.block(False)
    await bot.send_message(OWNER, "after")
    states = [
        update.my_chat_member.new_chat_member.status for update in await bot.get_updates() if update.my_chat_member
    ]
    assert states == ["kicked", "member"]


async def test_an_old_message_stays() -> None:
    """A bot may delete for 48 hours; several at once are deleted as far as that goes."""
    now = [1_700_000_000.0]
    async with Phone(None, clock=lambda: now[0]) as phone, Bot(DEFAULT_TOKEN, base_url=phone.base_url) as bot:
        old = await bot.send_message(OWNER, "old")
        now[0] += 48 * 3600 + 1
        young = await bot.send_message(OWNER, "young")
        with pytest.raises(BadRequest, match=r"^Message can't be deleted for everyone$"):
            await bot.delete_message(OWNER, old.message_id)
        assert await bot.delete_messages(OWNER, [old.message_id, young.message_id])
        async with ClientSession(phone.url) as session:
            assert [each["text"] for each in await Human(session).messages()] == ["old"]


async def test_an_old_tap_cannot_be_answered() -> None:
    """A callback query lives for a minute."""
    now = [1_700_000_000.0]
    async with Phone(None, clock=lambda: now[0]) as phone, ClientSession(phone.url) as session:
        human = Human(session)
        keyboard = {"inline_keyboard": [[{"text": "t", "callback_data": "a"}]]}
        await call(session, "sendMessage", chat_id=OWNER, text="x", reply_markup=keyboard)
        query = (await human.tap(1, "a"))["callback_query_id"]
        now[0] += 61
        status, answer = await call(session, "answerCallbackQuery", callback_query_id=query)
        assert status == 400
        assert answer["description"].startswith("Bad Request: query is too old")
        assert (await human.get(f"/phone/taps/{query}"))["answered"] is False


async def test_a_long_answer_to_a_tap_is_refused(bot: Bot, human: Human) -> None:
    """200 characters."""
    sent = await bot.send_message(OWNER, "x", reply_markup=keys(data="a"))
    query = (await human.tap(sent.message_id, "a"))["callback_query_id"]
    with pytest.raises(BadRequest, match=r"^Message_too_long$"):
        await bot.answer_callback_query(query, "x" * 201)
    assert await bot.answer_callback_query(query, "x" * 200)


async def test_the_pace_is_limited_when_asked() -> None:
    """With rate_limit on, the fourth message of a burst is 429 with the seconds to wait."""
    async with Phone(None, rate_limit=True) as phone, ClientSession(phone.url) as session:
        answers = [await call(session, "sendMessage", chat_id=OWNER, text="x") for _ in range(4)]
        assert [status for status, _ in answers] == [200, 200, 200, 429]
        assert answers[-1][1] == {
            "ok": False,
            "error_code": 429,
            "description": "Too Many Requests: retry after 1",
            "parameters": {"retry_after": 1},
        }


@pytest.mark.filterwarnings("ignore:.*attribute `retry_after`")  # of its own future
async def test_python_telegram_bot_understands_the_pace() -> None:
    """It raises RetryAfter."""
    async with Phone(None, rate_limit=True) as phone, Bot(DEFAULT_TOKEN, base_url=phone.base_url) as bot:
        for _ in range(3):
            await bot.send_message(OWNER, "x")
        with pytest.raises(RetryAfter, match=r"^Flood control exceeded"):
            await bot.send_message(OWNER, "x")


def test_the_bucket_fills_by_the_second() -> None:
    """Three at once, then one a second per chat; thirty a second over all chats."""
    now = [0.0]
    limit = RateLimit(lambda: now[0])
    for _ in range(3):
        limit.take(1)
    with pytest.raises(Refusal) as refused:
        limit.take(1)
    assert (refused.value.status, refused.value.retry_after) == (429, 1)
    assert refused.value.description == "Too Many Requests: retry after 1"
    now[0] = 1.0
    limit.take(1)
    for chat in range(29):
        limit.take(100 + chat)
    with pytest.raises(Refusal):
        limit.take(500)
