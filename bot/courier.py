"""From the outbox to Telegram: one message or edit at a time, in the outbox's order, until each is sent or hopeless.

A message that the chat has already is edited in place: its text, its caption, its buttons, or from text to picture.
It is marked as sent after Telegram has confirmed it; a crash in between sends a new message twice, for the Bot API
has no key that would tell. An outage is waited out with back-off and said once, its end as well.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputMediaPhoto,
    LinkPreviewOptions,
    ReplyParameters,
)
from telegram.constants import ParseMode
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Forbidden,
    RetryAfter,
    TelegramError,
)

from bot.notifier import ANSWER
from bot.text import CAPTION_LIMIT, LIMIT, plain, stepped
from storage.outbox import Outbox, Outgoing
from storage.signal import Signal
from trading.crashpoints import crashpoint
from trading.ports import Clock

_LOG = logging.getLogger(__name__)
_NO_PREVIEW: Final = LinkPreviewOptions(is_disabled=True)
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_LOOK_AGAIN: Final = 0.25
_ENTITIES: Final = ("can't parse entities", "entities_too_long", "entity_bounds_invalid")
_BUTTON_BYTES: Final = 64
_UNCHANGED: Final = ("message is not modified",)
_NO_REPLY: Final = ("message to be replied not found", "reply message not found", "replied message not found")


@dataclass(slots=True)
class _Bucket:
    tokens: float
    stamp: float


@dataclass(slots=True, kw_only=True)
class Pace:
    """Telegram's patience with one chat: `rate` messages a second, `burst` at once, the last for answers."""

    rate: float = 1.0
    burst: float = 3.0
    _chats: dict[int, _Bucket] = field(default_factory=dict)

    def wait(self, chat_id: int, now: float, *, answer: bool) -> float:
        """Seconds until the chat may be written to; 0 takes the token."""
        bucket = self._chats.setdefault(chat_id, _Bucket(self.burst, now))
        bucket.tokens = min(self.burst, bucket.tokens + (now - bucket.stamp) * self.rate)
        bucket.stamp = now
        needed = 1.0 if answer else 2.0
        if bucket.tokens + 1e-9 >= needed:
            bucket.tokens -= 1
            return 0.0
        return (needed - bucket.tokens) / self.rate


class Courier:
    """One task. `pace` is None for a chat server of our own, which does not mind being written to quickly."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        bot: Bot,
        clock: Clock,
        pace: Pace | None,
        redact: Callable[[str], str],
    ) -> None:
        self._outbox = outbox
        self._bot = bot
        self._clock = clock
        self._pace = pace
        self._redact = redact
        self._failures = 0
        self._hopeless: set[tuple[int, str]] = set()
        self._idle = Signal()
        self._stopping = False
        self.busy = False  # a message is on its way and not yet marked as sent

    async def run(self) -> None:
        """Works until it is cancelled or told to `finish`; after a failure it can simply be run again."""
        while not self._stopping:
            message = await self._outbox.next()
            if message is None:
                self._idle.ring()
                await self._outbox.grown()
            elif (wait := self._must_wait(message)) > 0:
                await self._clock.sleep(min(wait, _LOOK_AGAIN))  # meanwhile an answer may come first
            else:
                await self._deliver(message)

    def finish(self) -> None:
        """Asks for an end after the message that is under way, so that it is not sent again."""
        self._stopping = True

    async def drained(self) -> None:
        """Returns once no message waits."""
        while True:
            idle = self._idle.waiter()
            if await self._outbox.pending() == 0:
                return
            await idle.wait()

    def _must_wait(self, message: Outgoing) -> float:
        if self._pace is None:
            return 0.0
        now = self._clock.monotonic()
        return self._pace.wait(message.chat_id, now, answer=message.priority <= ANSWER)

    async def _deliver(self, message: Outgoing) -> None:
        """One attempt. What may succeed later stays the outbox's next message."""
        try:
            await self._hand_over(message)
        except RetryAfter as error:
            seconds = _seconds(error)
            _LOG.warning("telegram_asks_to_wait seconds=%.0f chat_id=%d", seconds, message.chat_id)
            await self._clock.sleep(seconds)
        except (BadRequest, Forbidden, ChatMigrated) as error:
            await self._give_up(message, str(error))
        except TelegramError as error:
            await self._wait_out(error)
        else:
            self._recovered()

    async def _hand_over(self, message: Outgoing) -> None:
        self.busy = True
        try:
            sent = await self._shown(message)
            crashpoint("after_chat_send")
            await self._outbox.sent(message.id, sent, message.revision)
        finally:
            self.busy = False

    async def _shown(self, message: Outgoing) -> int:
        """The message as it is; then, as far as Telegram objects, without its markup or without its reply."""
        try:
            return await self._put(message, ParseMode.HTML)
        except BadRequest as error:
            objection = str(error).lower()
            if any(words in objection for words in _UNCHANGED) and message.chat_message_id is not None:
                return message.chat_message_id
            if any(words in objection for words in _ENTITIES):
                _LOG.warning("markup_refused key=%s reason='%s'", message.key, self._redact(str(error)))
                return await self._put(message, None)
            if any(words in objection for words in _NO_REPLY):
                return await self._put(replace(message, reply_to=None), ParseMode.HTML)
            raise

    async def _put(self, message: Outgoing, mode: ParseMode | None) -> int:
        """Send it, or change what the chat shows."""
        if message.chat_message_id is None:
            return await self._send(message, mode)
        await self._edit(message, message.chat_message_id, mode)
        return message.chat_message_id

    async def _send(self, message: Outgoing, mode: ParseMode | None) -> int:
        reply = None
        if message.reply_to is not None:
            reply = ReplyParameters(message.reply_to, allow_sending_without_reply=True)
        common: dict[str, Any] = {
            "parse_mode": mode,
            "disable_notification": message.silent,
            "reply_parameters": reply,
            "reply_markup": _keyboard(message),
        }
        media = message.media
        if media is None:
            sent = await self._bot.send_message(
                message.chat_id, _text(message, mode, LIMIT), link_preview_options=_NO_PREVIEW, **common
            )
        elif media.kind == "photo":
            caption = _text(message, mode, CAPTION_LIMIT)
            sent = await self._bot.send_photo(
                message.chat_id, media.data, filename=media.name, caption=caption, **common
            )
        else:
            caption = _text(message, mode, CAPTION_LIMIT)
            sent = await self._bot.send_document(
                message.chat_id, media.data, filename=media.name, caption=caption, **common
            )
        return sent.message_id

    async def _edit(self, message: Outgoing, shown: int, mode: ParseMode | None) -> None:
        where: dict[str, Any] = {
            "chat_id": message.chat_id,
            "message_id": shown,
            "reply_markup": _keyboard(message),
        }
        media = message.media
        if media is not None:
            kind = InputMediaPhoto if media.kind == "photo" else InputMediaDocument
            caption = _text(message, mode, CAPTION_LIMIT)
            picture = kind(media.data, caption=caption, parse_mode=mode, filename=media.name)
            await self._bot.edit_message_media(picture, **where)
        elif message.pictured:
            caption = _text(message, mode, CAPTION_LIMIT)
            await self._bot.edit_message_caption(caption=caption, parse_mode=mode, **where)
        else:
            text = _text(message, mode, LIMIT)
            await self._bot.edit_message_text(text, parse_mode=mode, link_preview_options=_NO_PREVIEW, **where)

    async def _give_up(self, message: Outgoing, reason: str) -> None:
        """Telegram will never take it: the others go on. Said once for each chat and reason."""
        clean = self._redact(reason)
        if (message.chat_id, clean) not in self._hopeless:
            self._hopeless.add((message.chat_id, clean))
            _LOG.error("message_refused chat_id=%d key=%s reason='%s'", message.chat_id, message.key, clean)
        await self._outbox.failed(message.id, clean, permanent=True)

    async def _wait_out(self, error: TelegramError) -> None:
        """An outage: wait longer each time, with full jitter in the upper half."""
        if self._failures == 0:
            reason = self._redact(f"{type(error).__name__}: {error}")
            _LOG.warning("sending_interrupted reason='%s' next='messages wait in the outbox'", reason)
        ceiling = min(_FIRST_WAIT * 2 ** min(self._failures, 10), _LONGEST_WAIT)
        self._failures += 1
        await self._clock.sleep(random.uniform(ceiling / 2, ceiling))

    def _recovered(self) -> None:
        if self._failures:
            _LOG.info("sending_resumed failures=%d", self._failures)
        self._failures = 0


def _seconds(error: RetryAfter) -> float:
    """Exactly what Telegram asked for; PTB gives a number or a duration, depending on its settings."""
    asked = error.retry_after
    return asked.total_seconds() if isinstance(asked, timedelta) else float(asked)


def _text(message: Outgoing, mode: ParseMode | None, limit: int) -> str:
    """Text and steps as they fit; as plain text without a parse mode."""
    markup = stepped(message.text, message.steps, limit)
    return markup if mode else plain(markup)


def _keyboard(message: Outgoing) -> InlineKeyboardMarkup | None:
    """The buttons that Telegram will take: one that is too long must not cost the message."""
    rows = [
        [
            InlineKeyboardButton(button["text"], callback_data=button["data"])
            for button in row
            if button["text"].strip() and 0 < len(button["data"].encode("utf-8", "replace")) <= _BUTTON_BYTES
        ]
        for row in message.buttons or []
    ]
    kept = [row for row in rows if row]
    return InlineKeyboardMarkup(kept) if kept else None
