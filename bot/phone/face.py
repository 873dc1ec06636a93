"""The JSON face: how scripts and the page read the chat and act as its human.

    GET  /phone/messages?after=N[&since=C][&wait=S]       {"messages", "deleted", "cursor", "threads", "originals"}
    GET  /phone/messages?last=K[&before=N]                the newest K (below message N), the same shape
    GET  /phone/messages?thread=N                         message N and its replies, the same shape
    POST /phone/messages {"text", "user_id"?, "reply_to"?}      the message
    POST /phone/edits    {"message_id", "text", "user_id"?}     the message, corrected by its author
    POST /phone/taps     {"message_id", "data", "user_id"?}     {"callback_query_id", "message_id", "data"}
    GET  /phone/taps/ID                                         {..., "answered", "answer", "alert"}
    POST /phone/blocks   {"blocked": true, "user_id"?}          {"user_id", "blocked"}
    GET  /phone/actions?after=N[&wait=S]                        {"actions": [{"action_id", "action", "date"}], "now"}
    GET  /phone/about                                           bot, owner, users, command menu, pins
    GET  /phone/events                                          server-sent events, nudges for the page
    GET  /phone/files/ID/NAME                                   a photo or document

What "after" means. `after=N` answers every message of the chat that was sent or edited after message N was
sent: those with a larger message_id, and older ones whose last edit is younger than message N. So a poller
that always passes the largest message_id it has seen misses neither a message nor an edit. It may see the
same edit again until a newer message comes: messages are whole, so taking the later copy by message_id is
enough. A poller that wants each change once passes back `cursor` as `since`, which takes the place of
`after`. Both list messages by message_id; `deleted` are the ids deleted since. `wait` holds an empty answer
for up to 60 s. `last` gives the newest K only.

A thread is a message with everything that answers it, or answers an answer. Each message names the one at the top of
its thread; `threads` counts the replies of every thread that a message of the answer belongs to. `originals` are the
messages that those of the answer reply to, as {"from", "text"} by id, for a quote above a reply.

The chat is the owner's unless `user_id` says otherwise, in the query of a GET. A tap may come from another
user than the chat's: it is delivered as from a group, so that a bot's check of who taps can be tried.
`actions` are what the bot was seen doing (typing, ...), `now` is what it is seen doing at this moment, or null.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web

from bot.phone.content import MAX_TEXT
from bot.phone.entities import Formatted, is_utf8, utf16_length
from bot.phone.errors import FaceRefusal
from bot.phone.formatting import plain, to_html
from bot.phone.params import BIGGEST_ID
from bot.phone.profile import menu
from bot.phone.rows import Chat, Message, Tap
from bot.phone.shapes import bot_shape
from bot.phone.store import Store
from bot.phone.switchboard import Switchboard

_PAGE: Final = 200
_LONGEST_THREAD: Final = 1000
_LONGEST_WAIT: Final = 60
_KEEP_ALIVE_SECONDS: Final = 15
_QUOTED: Final = 200
_REMEMBERED: Final = 512  # messages


class Face:
    """Handlers for /phone/...; each raises FaceRefusal for what it does not accept."""

    def __init__(self, board: Switchboard, owner_id: int) -> None:
        self._board = board
        self._store = board.store
        self._owner_id = owner_id
        self._known: dict[tuple[int, int, str], str] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/phone/messages", self.messages),
            web.post("/phone/messages", self.say),
            web.post("/phone/edits", self.correct),
            web.post("/phone/taps", self.tap),
            web.get("/phone/taps/{tap_id:[0-9]{1,18}}", self.tapped),
            web.post("/phone/blocks", self.block),
            web.get("/phone/actions", self.actions),
            web.get("/phone/about", self.about),
            web.get("/phone/events", self.events),
            web.get("/phone/files/{file_id}/{name}", self.file),
        ]

    async def messages(self, request: web.Request) -> web.Response:
        """See the module's docstring."""
        chat_id = self._user_id(request)
        last, root = _number(request, "last", 0), _number(request, "thread", 0)
        if root > 0:
            return web.json_response(self._thread(request, root))
        if last > 0:
            return web.json_response(self.newest(request, last, _number(request, "before", BIGGEST_ID)))
        change = _number(request, "since", -1)
        if change < 0:
            change = self._store.change_at_creation(chat_id, _number(request, "after", 0))
        await self._wait(lambda: self._store.last_change(chat_id) > change, request)
        return await self._changed(chat_id, change, _origin(request))

    async def say(self, request: web.Request) -> web.Response:
        body = await _body(request)
        user = self._user(body)
        text = _text(body)
        reply_to = body.get("reply_to")
        if reply_to is not None:
            self._message(reply_to)
        return web.json_response(face_shape(self._board.say(user, text, reply_to), _origin(request)))

    async def correct(self, request: web.Request) -> web.Response:
        body = await _body(request)
        user, message = self._user(body), self._message(body.get("message_id"))
        if message.from_bot or message.sender_id != user.chat_id:
            raise FaceRefusal(f"message {message.message_id} is not from user {user.chat_id}")
        return web.json_response(face_shape(self._board.correct(message, _text(body)), _origin(request)))

    async def tap(self, request: web.Request) -> web.Response:
        body = await _body(request)
        message, data = self._message(body.get("message_id")), body.get("data")
        if not isinstance(data, str):
            raise FaceRefusal("data must be the data of a button, a string")
        buttons = [button for row in message.keyboard or [] for button in row]
        if not any(button.get("callback_data") == data for button in buttons):
            raise FaceRefusal(f"message {message.message_id} has no button with data {data!r}")
        tap_id = self._board.tap(self._user(body), message, data)
        answer = {"callback_query_id": str(tap_id), "message_id": message.message_id, "data": data}
        return web.json_response(answer)

    async def tapped(self, request: web.Request) -> web.Response:
        tap = self._store.tap(int(request.match_info["tap_id"]))
        if tap is None:
            raise FaceRefusal("no such tap", 404)
        return web.json_response(_tap_shape(tap))

    async def block(self, request: web.Request) -> web.Response:
        """A blocked bot may write no more to this user: its calls are refused with 403."""
        body = await _body(request)
        blocked = body.get("blocked")
        if not isinstance(blocked, bool):
            raise FaceRefusal("blocked must be true or false")
        user = self._board.block(self._user(body), blocked)
        return web.json_response({"user_id": user.chat_id, "blocked": user.blocked})

    async def actions(self, request: web.Request) -> web.Response:
        """Typing and the like, kept while the phone runs: a poller need not look at the right moment."""
        chat_id, after = self._user_id(request), _number(request, "after", 0)
        await self._wait(lambda: bool(self._board.actions(chat_id, after)), request)
        told = [
            {"action_id": each.action_id, "action": each.action, "date": each.date}
            for each in self._board.actions(chat_id, after)
        ]
        return web.json_response({"actions": told, "now": self._board.acting(chat_id)})

    async def about(self, request: web.Request) -> web.Response:
        return web.json_response(self.described(request))

    def newest(self, request: web.Request, count: int, before: int = BIGGEST_ID) -> dict[str, Any]:
        """The chat's last `count` messages below the id `before` as `GET /phone/messages` shows them."""
        chat_id = self._user_id(request)
        found = self._store.last_messages(chat_id, count, before)
        return self._answer(request, chat_id, reversed(found))

    def described(self, request: web.Request) -> dict[str, Any]:
        """Who talks here, the commands of the chat's menu, what is pinned and what the bot is seen doing."""
        chat_id = self._user_id(request)
        chats = self._store.chats()
        bot = {
            "name": bot_shape(self._store, 0)["first_name"],
            "description": self._store.fact("description:") or "",
        }
        pins = [face_shape(message, _origin(request)) for message in self._store.pinned_messages(chat_id)]
        return {
            "bot": bot,
            "owner_id": self._owner_id,
            "users": [{"user_id": chat.chat_id, "name": chat.first_name} for chat in chats],
            "blocked": any(chat.blocked for chat in chats if chat.chat_id == chat_id),
            "commands": menu(self._store, chat_id),
            "pinned": pins,
            "action": self._board.acting(chat_id),
        }

    async def file(self, request: web.Request) -> web.Response:
        file = self._store.file(request.match_info["file_id"])
        if file is None:
            raise FaceRefusal("no such file", 404)
        kind = "inline" if file.width else "attachment"
        headers = {
            "Content-Disposition": f"{kind}; filename*=UTF-8''{quote(file.name, safe='')}",
            "Cache-Control": "private, max-age=31536000, immutable",  # an id never gets another content
        }
        mime = file.mime if re.fullmatch(r"[\w.+-]+/[\w.+-]+", file.mime) else "application/octet-stream"
        return web.Response(body=self._store.content(file.file_id), content_type=mime, headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Nudges of the chat: change, action, answer, commands. The page fetches changes by its cursor."""
        chat_id = self._user_id(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        queue = self._board.feed.subscribe()
        try:
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
            while (event := await _next(queue)) is not None:
                name, data = event
                if data.get("user_id") in (None, chat_id):
                    await response.write(f"event: {name}\ndata: {json.dumps(data)}\n\n".encode())
        except ConnectionError:
            return response
        finally:
            self._board.feed.unsubscribe(queue)
        return response

    async def _wait(self, happened: Callable[[], bool], request: web.Request) -> None:
        """Returns once something happened, when the time of `wait` is over, or when the phone stops."""
        now = asyncio.get_running_loop().time
        deadline = now() + min(_number(request, "wait", 0), _LONGEST_WAIT)
        while not happened() and now() < deadline and not self._board.changes.closed:
            await self._board.changes.wait(deadline - now())

    def _thread(self, request: web.Request, root: int) -> dict[str, Any]:
        chat_id = self._user_id(request)
        return self._answer(request, chat_id, self._store.thread_messages(chat_id, root, _LONGEST_THREAD))

    def _answer(self, request: web.Request, chat_id: int, messages: Iterable[Message]) -> dict[str, Any]:
        messages = list(messages)
        shown = [face_shape(message, _origin(request)) for message in messages]
        return {
            "messages": shown,
            "deleted": [],
            "cursor": self._store.last_change(chat_id),
            "threads": _threads(self._store, messages),
            "originals": _originals(self._store, messages),
        }

    async def _changed(self, chat_id: int, change: int, origin: str) -> web.Response:
        """Everything after `change`, read and written a page at a time so that nobody else waits long."""
        found: dict[int, str | None] = {}
        beside: dict[str, dict[str, Any]] = {"threads": {}, "originals": {}}
        while page := self._store.messages_changed_after(chat_id, change, _PAGE):
            beside["threads"] |= _threads(self._store, page)
            beside["originals"] |= _originals(self._store, page)
            for message in page:
                found[message.message_id] = None if message.deleted else self._told(message, origin)
            change = page[-1].changed
            await asyncio.sleep(0)
        ordered = sorted(found.items())
        shown = ", ".join(text for _, text in ordered if text is not None)
        deleted = json.dumps([message_id for message_id, text in ordered if text is None])
        rest = f'"deleted": {deleted}, "cursor": {change}, {json.dumps(beside)[1:]}'
        return web.Response(text=f'{{"messages": [{shown}], {rest}', content_type="application/json")

    def _told(self, message: Message, origin: str) -> str:
        """A message as JSON; whoever waits for news is told the newest ones again and again."""
        key = message.message_id, message.changed, origin
        text = self._known.get(key)
        if text is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            text = self._known[key] = json.dumps(face_shape(message, origin))
        return text

    def _user_id(self, request: web.Request) -> int:
        return _number(request, "user_id", self._owner_id)

    def _user(self, body: dict[str, Any]) -> Chat:
        """The acting user; one who was never seen gets a chat of their own."""
        user_id = body.get("user_id", self._owner_id)
        if not isinstance(user_id, int) or isinstance(user_id, bool) or not 0 < user_id < BIGGEST_ID:
            raise FaceRefusal("user_id must be a positive whole number")
        chat = self._store.chat(user_id)
        if chat is None:
            chat = Chat(chat_id=user_id, first_name=f"Stranger {user_id}", username=f"stranger_{user_id}")
            with self._store.writing():
                self._store.save_chat(chat)
        return chat

    def _message(self, message_id: Any) -> Message:
        if not isinstance(message_id, int) or isinstance(message_id, bool) or abs(message_id) > BIGGEST_ID:
            raise FaceRefusal("message_id must be a whole number")
        message = self._store.message(message_id)
        if message is None:
            raise FaceRefusal(f"there is no message {message_id}")
        return message


def face_shape(message: Message, origin: str) -> dict[str, Any]:
    """One message as the face shows it; `html` is safe to put into a page."""
    media = message.media
    rows = [[_button_shape(button) for button in row] for row in message.keyboard or []]
    return {
        "message_id": message.message_id,
        "from": "bot" if message.from_bot else "user",
        "date": message.date,
        "edit_date": message.edit_date,
        "text": None if media else message.body.text,
        "caption": message.body.text or None if media else None,
        "html": to_html(message.body),
        "reply_to": message.reply_to,
        "thread": message.thread,
        **_media_shape(message, origin),
        "buttons": rows,
        "silent": message.silent,
        "album": message.album,
        "pinned": message.pinned > 0,
        "reaction": message.reaction,
        "forwarded_from": message.origin["sender_user"]["first_name"] if message.origin else None,
    }


def _media_shape(message: Message, origin: str) -> dict[str, Any]:
    media = message.media
    url = f"{origin}/phone/files/{media.file.file_id}/{quote(media.file.name, safe='')}" if media else None
    photo, document = (media if media and media.kind == kind else None for kind in ("photo", "document"))
    return {
        "photo": url if photo else None,
        "photo_size": [photo.file.width, photo.file.height] if photo else None,
        "document": url if document else None,
        "document_name": document.file.name if document else None,
        "document_size": document.file.size if document else None,
    }


def _threads(store: Store, messages: Iterable[Message]) -> dict[str, int]:
    """Replies of every thread that the messages belong to, by the id of its top; JSON's keys are strings."""
    roots = {each.thread or each.message_id for each in messages}
    return {str(root): count for root, count in store.thread_sizes(roots).items()}


def _originals(store: Store, messages: Iterable[Message]) -> dict[str, dict[str, str]]:
    """The messages that these reply to, shortened; JSON's keys are strings."""
    found = store.messages_of({each.reply_to for each in messages if each.reply_to is not None})
    return {str(each.message_id): _original(each) for each in found}


def _original(message: Message) -> dict[str, str]:
    media = message.media
    words = message.body.text or (media.file.name if media and media.kind == "document" else "Photo")
    return {"from": "bot" if message.from_bot else "user", "text": words[:_QUOTED]}


def _button_shape(button: dict[str, Any]) -> dict[str, Any]:
    """`data` is None for a button that is not a callback: it opens `url`, copies `copy`, or does nothing here."""
    shape = {"text": button["text"], "data": button.get("callback_data")}
    address = button.get("url") or button.get("web_app", {}).get("url")
    copied = button.get("copy_text", {}).get("text")
    return shape | ({"url": address} if address else {}) | ({"copy": copied} if copied else {})


def _tap_shape(tap: Tap) -> dict[str, Any]:
    return {
        "callback_query_id": str(tap.tap_id),
        "message_id": tap.message_id,
        "data": tap.data,
        "user_id": tap.user_id,
        "answered": tap.answered,
        "answer": tap.answer,
        "alert": tap.alert,
    }


async def _next(queue: asyncio.Queue[Any]) -> Any:
    """The next event; an idle stream gets a "ping" now and then, so that a dead reader is noticed."""
    try:
        async with asyncio.timeout(_KEEP_ALIVE_SECONDS):
            return await queue.get()
    except TimeoutError:
        return "ping", {}


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise FaceRefusal(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise FaceRefusal('the body must be a JSON object such as {"text": "/status"}')
    return body


def _text(body: dict[str, Any]) -> Formatted:
    text = body.get("text")
    if not isinstance(text, str) or not is_utf8(text):
        raise FaceRefusal("text must be a string")
    formatted = plain(text)
    if not formatted.text:
        raise FaceRefusal("text is empty")
    if utf16_length(formatted.text) > MAX_TEXT:
        raise FaceRefusal(f"text is longer than {MAX_TEXT} characters")
    return formatted


def _number(request: web.Request, name: str, default: int) -> int:
    value = request.query.get(name, "")
    if not value:
        return default
    if not re.fullmatch(r"-?\d{1,18}", value):
        raise FaceRefusal(f"{name} must be a whole number, not {value[:40]!r}")
    return int(value)


def _origin(request: web.Request) -> str:
    return f"http://{request.host}"
