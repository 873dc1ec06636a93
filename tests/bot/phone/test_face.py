"""The JSON face: what a poller sees, what it refuses, who may ask."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from aiohttp import ClientSession, StreamReader
from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup

from bot.phone import Phone
from tests.bot.phone.driver import Human, Json, call

PARTS = Path(__file__).parents[3] / "bot" / "phone" / "page"
FIELDS = {
    "message_id",
    "from",
    "date",
    "edit_date",
    "text",
    "caption",
    "reply_to",
    "photo",
    "document",
    "buttons",
}


async def test_a_message_has_the_promised_fields(bot: Bot, human: Human) -> None:
    """The face's object is the contract of the design, plus what the page needs."""
    said = await human.say("/status")
    markup = InlineKeyboardMarkup(
        [[InlineKeyboardButton("A", callback_data="a"), InlineKeyboardButton("B", url="https://e.org")]]
    )
    await bot.send_message(1, "<b>flat</b>", parse_mode="HTML", reply_markup=markup, reply_to_message_id=1)
    first, second = await human.messages(after=0)
    assert first == said
    assert set(second) >= FIELDS
    assert (first["from"], first["text"], first["buttons"], first["edit_date"]) == (
        "user",
        "/status",
        [],
        None,
    )
    assert (second["from"], second["text"], second["reply_to"]) == ("bot", "flat", 1)
    assert second["buttons"] == [[{"text": "A", "data": "a"}, {"text": "B", "data": None, "url": "https://e.org/"}]]


async def test_after_shows_new_messages_and_younger_edits(bot: Bot, human: Human) -> None:
    """A poller that passes the largest id it has seen misses no message and no edit."""
    for text in ("one", "two", "three"):
        await bot.send_message(1, text)
    assert [each["message_id"] for each in await human.messages(after=0)] == [1, 2, 3]
    assert await human.messages(after=3) == []
    await bot.edit_message_text("ONE", 1, 1)
    assert [each["text"] for each in await human.messages(after=3)] == ["ONE"]
    await bot.edit_message_text("THREE", 1, 3)
    assert [each["text"] for each in await human.messages(after=3)] == ["ONE", "THREE"]
    await bot.send_message(1, "four")
    assert [each["text"] for each in await human.messages(after=3)] == ["ONE", "THREE", "four"]
    assert await human.messages(after=4) == []
    assert [each["text"] for each in await human.messages(after=2)] == ["ONE", "THREE", "four"]


async def test_a_cursor_shows_each_change_once(bot: Bot, human: Human) -> None:
    """`since` takes the place of `after`: nothing is repeated."""
    await bot.send_message(1, "one")
    cursor = (await human.read())["cursor"]
    await bot.edit_message_text("ONE", 1, 1)
    await bot.edit_message_text("One", 1, 1)
    changed = await human.read(since=cursor)
    assert [each["text"] for each in changed["messages"]] == ["One"]
    assert await human.read(since=changed["cursor"]) == {
        "messages": [],
        "deleted": [],
        "cursor": changed["cursor"],
        "threads": {},
        "originals": {},
    }


async def test_the_last_messages(bot: Bot, human: Human) -> None:
    """`last` gives the newest ones, oldest first, with a cursor to go on from."""
    for number in range(5):
        await bot.send_message(1, str(number))
    newest = await human.read(last=2)
    assert [each["text"] for each in newest["messages"]] == ["3", "4"]
    assert (await human.read(since=newest["cursor"]))["messages"] == []
    earlier = await human.read(last=2, before=newest["messages"][0]["message_id"])
    assert [each["text"] for each in earlier["messages"]] == ["1", "2"]


async def test_a_thread_is_a_chain_of_replies(bot: Bot, human: Human) -> None:
    """Every message names the top of its thread; a thread can be read alone, and its replies are counted."""
    root = (await bot.send_message(1, "PROPOSAL")).message_id
    await bot.send_message(1, "of another matter")
    first = (await bot.send_message(1, "approved", reply_to_message_id=root)).message_id
    said = await human.say("why?", reply_to=first)
    gone = (await bot.send_message(1, "a slip", reply_to_message_id=said["message_id"])).message_id
    await bot.delete_message(1, gone)
    seen = await human.read()
    assert [each["thread"] for each in seen["messages"]] == [None, None, root, root]
    assert seen["threads"] == {str(root): 2}
    assert seen["originals"][str(root)] == {"from": "bot", "text": "PROPOSAL"}
    thread = await human.read(thread=root)
    assert [each["text"] for each in thread["messages"]] == ["PROPOSAL", "approved", "why?"]


async def test_typing_and_silence_can_be_seen(bot: Bot, human: Human) -> None:
    """What the bot was seen doing is kept for a poller; a message says whether it came without a sound."""
    assert await human.get("/phone/actions") == {"actions": [], "now": None}
    waiting = asyncio.create_task(human.get("/phone/actions", wait=30))
    await bot.send_chat_action(1, "typing")
    async with asyncio.timeout(5):
        told = await waiting
    assert [(each["action_id"], each["action"]) for each in told["actions"]] == [(1, "typing")]
    assert (told["now"], (await human.get("/phone/about"))["action"]) == ("typing", "typing")
    await bot.send_message(1, "done", disable_notification=True)
    await bot.send_message(1, "loud")
    after = await human.get("/phone/actions", after=1)
    assert after == {"actions": [], "now": None}
    assert [each["silent"] for each in await human.messages()] == [True, False]


async def test_typing_ends(human: Human) -> None:
    """After five seconds, or when the bot says so; it is told once to each chat."""
    now = [1_700_000_000.0]
    async with Phone(None, listed=[5], clock=lambda: now[0]) as phone, ClientSession(phone.url) as session:
        human = Human(session)
        await call(session, "sendChatAction", chat_id=1, action="upload_photo")
        await call(session, "sendChatAction", chat_id=5, action="typing")
        assert (await human.get("/phone/actions"))["now"] == "upload_photo"
        now[0] += 5
        assert (await human.get("/phone/actions"))["now"] is None
        await call(session, "sendChatAction", chat_id=1, action="typing")
        await call(session, "sendChatAction", chat_id=1, action="cancel")
        told = await human.get("/phone/actions")
    assert ([each["action"] for each in told["actions"]], told["now"]) == (["upload_photo", "typing", "cancel"], None)


async def test_waiting_for_news(bot: Bot, human: Human) -> None:
    """`wait` holds an empty answer until something happens in that chat."""
    waiting = asyncio.create_task(human.messages(after=0, wait=30))
    await human.say("elsewhere", user_id=666)
    await bot.send_message(1, "news")
    async with asyncio.timeout(5):
        assert [each["text"] for each in await waiting] == ["news"]


async def test_a_long_history_is_answered_fast(session: ClientSession, human: Human) -> None:
    """Thousands of messages: all of them come, in order, and `after` reads only what is new."""
    for number in range(1_201):
        await call(session, "sendMessage", chat_id=1, text=str(number))
    everything = await human.messages(after=0)
    assert [each["text"] for each in everything] == [str(number) for number in range(1_201)]
    assert [each["text"] for each in await human.messages(after=1_200)] == ["1200"]


@pytest.mark.parametrize(
    ("path", "body", "line"),
    [
        ("/phone/messages", "{", "the body is not JSON: Expecting property name"),
        ("/phone/messages", "\udcff", "the body is not JSON"),
        ("/phone/messages", "[]", 'the body must be a JSON object such as {"text": "/status"}'),
        ("/phone/messages", "{}", "text must be a string"),
        ("/phone/messages", '{"text": 1}', "text must be a string"),
        ("/phone/messages", '{"text": "  "}', "text is empty"),
        ("/phone/messages", json.dumps({"text": "x" * 4097}), "text is longer than 4096 characters"),
        ("/phone/messages", '{"text": "x", "user_id": "me"}', "user_id must be a positive whole number"),
        ("/phone/messages", '{"text": "x", "user_id": true}', "user_id must be a positive whole number"),
        ("/phone/messages", '{"text": "x", "reply_to": 9}', "there is no message 9"),
        ("/phone/taps", '{"message_id": 9, "data": "a"}', "there is no message 9"),
        ("/phone/taps", '{"message_id": "9", "data": "a"}', "message_id must be a whole number"),
        ("/phone/taps", '{"message_id": 1, "data": "b"}', "message 1 has no button with data 'b'"),
        ("/phone/taps", '{"message_id": 1}', "data must be the data of a button, a string"),
        ("/phone/edits", '{"message_id": 1, "text": "x"}', "message 1 is not from user 1"),
        ("/phone/blocks", '{"blocked": 1}', "blocked must be true or false"),
    ],
)
async def test_nonsense_is_refused_in_one_line(
    session: ClientSession, human: Human, path: str, body: str, line: str
) -> None:
    """400 and one clear line; message 1 is the bot's and has the button "a"."""
    markup = {"inline_keyboard": [[{"text": "A", "callback_data": "a"}]]}
    await call(session, "sendMessage", chat_id=1, text="x", reply_markup=markup)
    raw = body.encode("utf-8", "surrogateescape").decode("latin-1") if "\udcff" in body else body
    assert (await human.refusal(path, raw)).startswith(line)


@pytest.mark.parametrize("query", ["after=x", "after=1.5", "user_id=me", "last=9999999999999999999"])
async def test_a_wrong_query_is_refused(session: ClientSession, query: str) -> None:
    """Numbers are numbers."""
    async with session.get(f"/phone/messages?{query}") as response:
        assert response.status == 400
        assert "must be a whole number" in (await response.json())["error"]


async def test_the_event_stream_nudges(bot: Bot, session: ClientSession) -> None:
    """The page hears of changes, of typing and of an answered tap as they happen."""
    async with session.get("/phone/events") as stream:
        assert (await stream.content.readuntil(b"\n\n")).startswith(b"retry")
        await bot.send_message(1, "x")
        assert await _event(stream.content) == ("change", {"user_id": 1, "cursor": 1})
        await bot.send_message(5, "not for this page")
        await bot.send_chat_action(1, "typing")
        assert await _event(stream.content) == ("action", {"user_id": 1, "action": "typing"})


async def _event(content: StreamReader) -> tuple[str, Json]:
    name, data = (await content.readuntil(b"\n\n")).decode().strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/phone/messages", {"Host": "evil.example"}),
        ("GET", "/", {"Host": "evil.example:80"}),
        ("GET", "/bot7:x/getMe", {"Host": "["}),
        ("POST", "/phone/messages", {"Origin": "https://evil.example"}),
        ("POST", "/phone/messages", {"Origin": "null"}),
        ("POST", "/bot7:x/sendMessage", {"Origin": "http://localhost:1"}),
        ("GET", "/bot7:x/sendMessage?chat_id=1&text=x", {"Sec-Fetch-Site": "cross-site"}),
    ],
)
async def test_other_pages_cannot_drive_the_phone(
    session: ClientSession, method: str, path: str, headers: dict[str, str]
) -> None:
    """A foreign host name, origin or fetch site is 403, and nothing happens."""
    async with session.request(method, path, headers=headers, data=b'{"text": "x"}') as response:
        assert response.status == 403
        assert (await response.json())["description"].startswith("Forbidden: ")
    assert await Human(session).messages() == []


async def test_its_own_page_may(session: ClientSession, phone: Phone) -> None:
    """The page's own origin is welcome, by number and by name."""
    port = phone.url.rsplit(":", 1)[1]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        async with session.post("/phone/messages", json={"text": "x"}, headers=headers) as response:
            assert response.status == 200


async def test_the_page_is_whole_and_closed(bot: Bot, session: ClientSession) -> None:
    """It comes with its messages, loads nothing from outside, and cannot be broken out of by a message."""
    await bot.send_message(1, "</script><script>alert(1)</script>")
    async with session.get("/") as response:
        text = await response.text()
        assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "alert(1)" in text
    assert text.count("</script>") == 2
    wanted = set(re.findall(r'(?:href|src)="(/page/[^"]+)"', text))
    seen: set[str] = set()
    while missing := wanted - seen:
        path = missing.pop()
        seen.add(path)
        async with session.get(path) as response:
            assert response.status == 200, path
            part = await response.text()
        text += part
        wanted |= {f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', part)}
    assert {f"/page/{path.name}" for path in PARTS.iterdir()} - seen == {"/page/index.html"}
    outside = set(re.findall(r"https?://[^\s\"'`]*", text)) - {f"{str(session._base_url).rstrip('/')}"}
    assert outside == {"http://www.w3.org/2000/svg"}, "the name of a language, not an address"
    async with session.get("/page/../server.py") as response:
        assert response.status == 404
