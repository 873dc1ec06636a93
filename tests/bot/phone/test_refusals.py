"""Refusals, word for word: bots branch on them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from aiohttp import ClientSession, FormData
from telegram import Bot
from telegram.error import InvalidToken

from bot.phone import Phone
from bot.phone.errors import Refusal
from bot.phone.limits import RateLimit
from tests.bot.phone.driver import Human, call

NOT_MODIFIED = (
    "message is not modified: specified new message content and reply markup are exactly the same as a"
    " current content and reply markup of the message"
)
SEND: dict[str, Any] = {"chat_id": 1, "text": "x"}


def keyboard(**button: Any) -> dict[str, Any]:
    return {**SEND, "reply_markup": {"inline_keyboard": [[{"text": "t", **button}]]}}


@pytest.mark.parametrize(
    ("method", "parameters", "description"),
    [
        ("sendMessage", {"chat_id": 1}, "message text is empty"),
        ("sendMessage", {**SEND, "text": " \n "}, "message text is empty"),
        ("sendMessage", {**SEND, "text": "<b></b>", "parse_mode": "HTML"}, "message text is empty"),
        ("sendMessage", {**SEND, "text": "x" * 4097}, "message is too long"),
        ("sendMessage", {**SEND, "text": "😀" * 2049}, "message is too long"),
        ("sendMessage", {**SEND, "text": "\ud800"}, "text must be encoded in UTF-8"),
        ("sendMessage", {"text": "x"}, "chat_id is empty"),
        ("sendMessage", {**SEND, "chat_id": 99}, "chat not found"),
        ("sendMessage", {**SEND, "chat_id": "@channel"}, "chat not found"),
        ("sendMessage", {**SEND, "chat_id": 10**30}, "chat not found"),
        ("sendMessage", {**SEND, "parse_mode": "Markdown"}, "unsupported parse_mode"),
        (
            "sendMessage",
            {**SEND, "text": "<p>x", "parse_mode": "HTML"},
            'can\'t parse entities: Unsupported start tag "p" at byte offset 0',
        ),
        ("sendMessage", {**SEND, "reply_parameters": {"message_id": 9}}, "message to be replied not found"),
        ("sendMessage", {**SEND, "reply_to_message_id": 9}, "message to be replied not found"),
        ("sendMessage", {**SEND, "reply_markup": "{"}, "can't parse reply keyboard markup JSON object"),
        ("sendMessage", keyboard(callback_data="x" * 65), "BUTTON_DATA_INVALID"),
        ("sendMessage", keyboard(callback_data="ü" * 33), "BUTTON_DATA_INVALID"),
        ("sendMessage", keyboard(callback_data=""), "BUTTON_DATA_INVALID"),
        ("sendMessage", keyboard(url="file:///x"), "BUTTON_URL_INVALID"),
        ("sendMessage", keyboard(), "Text buttons are unallowed in the inline keyboard"),
        ("editMessageText", {**SEND, "message_id": 9}, "message to edit not found"),
        ("editMessageText", SEND, "message identifier is not specified"),
        ("editMessageText", {**SEND, "message_id": 1}, "message can't be edited"),
        ("editMessageText", {"chat_id": 1, "message_id": 1}, "message text is empty"),
        (
            "editMessageCaption",
            {"chat_id": 1, "message_id": 2, "caption": "x"},
            "there is no caption in the message to edit",
        ),
        (
            "editMessageText",
            {"chat_id": 1, "message_id": 2, "text": "answer"},
            NOT_MODIFIED,
        ),
        ("deleteMessage", {"chat_id": 1, "message_id": 9}, "message to delete not found"),
        ("sendPhoto", {"chat_id": 1}, "there is no photo in the request"),
        ("sendPhoto", {"chat_id": 1, "photo": "nonsense"}, "wrong file identifier/HTTP URL specified"),
        ("sendDocument", {"chat_id": 1, "caption": "x" * 1025}, "message caption is too long"),
        ("getFile", {"file_id": "nonsense"}, "invalid file_id"),
        ("setMyCommands", {"commands": [{"command": "No", "description": "d"}]}, "BOT_COMMAND_INVALID"),
        (
            "setWebhook",
            {"url": "https://e.org"},
            "bad webhook: the phone calls nobody, poll it with getUpdates",
        ),
        (
            "answerCallbackQuery",
            {"callback_query_id": "17"},
            "query is too old and response timeout expired or query ID is invalid",
        ),
    ],
)
async def test_a_bad_request_is_told_in_telegrams_words(
    session: ClientSession, human: Human, bot: Bot, method: str, parameters: dict[str, Any], description: str
) -> None:
    """400 and the description; message 1 is the user's, message 2 the bot's."""
    await human.say("hello")
    await bot.send_message(1, "answer")
    status, answer = await call(session, method, **parameters)
    assert status == 400
    assert answer == {"ok": False, "error_code": 400, "description": f"Bad Request: {description}"}


@pytest.mark.parametrize(
    ("path", "status", "description"),
    [
        ("/bot7:x/noSuchMethod", 404, "Not Found"),
        ("/bot7:x/_send", 404, "Not Found"),
        ("/botnonsense/getMe", 401, "Unauthorized"),
        ("/bot7:/getMe", 401, "Unauthorized"),
        ("/file/bot7:x/photos/none.png", 404, "Not Found"),
        ("/file/botnonsense/photos/none.png", 401, "Unauthorized"),
    ],
)
async def test_a_wrong_address(session: ClientSession, path: str, status: int, description: str) -> None:
    """A method that does not exist is 404, a token that cannot be one is 401."""
    async with session.get(path) as response:
        assert response.status == status
        answer = await response.json()
    assert answer == {"ok": False, "error_code": status, "description": description}


async def test_python_telegram_bot_understands_a_wrong_token(phone: Phone) -> None:
    """It raises InvalidToken, as at Telegram."""
    with pytest.raises(InvalidToken):
        async with Bot("nonsense", base_url=phone.base_url):
            pass


@pytest.mark.parametrize(
    ("body", "description"),
    [
        ("{", "Bad Request: can't parse the request's JSON"),
        ("[]", "Bad Request: can't parse the request's JSON"),
    ],
)
async def test_a_body_that_is_no_object(session: ClientSession, body: str, description: str) -> None:
    """A broken JSON body is told, not swallowed."""
    headers = {"Content-Type": "application/json"}
    async with session.post("/bot7:x/sendMessage", data=body, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["description"] == description


@pytest.mark.parametrize(
    ("content", "description"),
    [
        (b"", "Bad Request: file must be non-empty"),
        (b"GIF89a" + bytes(20), "Bad Request: PHOTO_INVALID_DIMENSIONS"),
        (b"no picture", "Bad Request: IMAGE_PROCESS_FAILED"),
    ],
)
async def test_what_is_no_photo(session: ClientSession, content: bytes, description: str) -> None:
    """Empty, unreadable and misshapen files are told apart."""
    assert await _uploaded(session, content) == description


async def test_what_is_too_big(session: ClientSession) -> None:
    """10 MB for a photo, 50 MB for anything."""
    refused = await _uploaded(session, bytes(10 * 1024 * 1024 + 1))
    assert refused.startswith("Bad Request: file of size 10485761 bytes is too big for a photo;")
    assert await _uploaded(session, bytes(51 * 1024 * 1024)) == "Request Entity Too Large"


async def _uploaded(session: ClientSession, photo: bytes) -> str:
    form = FormData({"chat_id": "1"})
    form.add_field("photo", io.BytesIO(photo), filename="p.png")
    async with session.post("/bot7:x/sendPhoto", data=form) as response:
        description = (await response.json())["description"]
    assert isinstance(description, str)
    return description


async def test_an_old_tap_cannot_be_answered() -> None:
    """A callback query lives for a minute."""
    now = [1_700_000_000.0]
    async with Phone(None, clock=lambda: now[0]) as phone, ClientSession(phone.url) as session:
        human = Human(session)
        await call(session, "sendMessage", **keyboard(callback_data="a"))
        query = (await human.tap(1, "a"))["callback_query_id"]
        now[0] += 61
        status, answer = await call(session, "answerCallbackQuery", callback_query_id=query)
        assert status == 400
        assert answer["description"].startswith("Bad Request: query is too old")
        assert (await human.get(f"/phone/taps/{query}"))["answered"] is False


async def test_the_pace_is_limited_when_asked() -> None:
    """With rate_limit on, the fourth message of a burst is 429 with the seconds to wait."""
    async with Phone(None, rate_limit=True) as phone, ClientSession(phone.url) as session:
        answers = [await call(session, "sendMessage", **SEND) for _ in range(4)]
    assert [status for status, _ in answers] == [200, 200, 200, 429]
    assert answers[-1][1] == {
        "ok": False,
        "error_code": 429,
        "description": "Too Many Requests: retry after 1",
        "parameters": {"retry_after": 1},
    }


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
