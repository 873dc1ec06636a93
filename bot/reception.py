"""The durable inbox: what was said to the bot is committed first and done exactly once, whatever dies when.

`accept` commits an update before Telegram's offset moves past it. The dispatcher takes pending ones in order:
gate, handler, answer, effect, done. Every step may be repeated: an answer's key and a command's id come from
the update. A command that changes something is done only when its effect is in the journal (`settle`), so a
crash between asking the trader and the trader acting loses nothing, and the trader acts once per command id.
A pressed button says a command and goes the same way. What takes long is answered beside the others, so that
nothing ever waits behind a chart, a panic least of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from telegram import Update

from bot.access import Caller, Gate
from bot.commands import route
from bot.notifier import ANSWER, answer_of
from bot.ports import Answer, Asked, Command, Desk, Errand, said_key
from bot.text import CAPTION_LIMIT, fitted, pages, plain
from storage.inbox import InboxStore
from storage.inbox import Update as Stored
from storage.outbox import Amendment, Media, NewMessage, Outbox
from trading.crashpoints import crashpoint
from trading.errors import Transient
from trading.ports import Clock

_LOG = logging.getLogger(__name__)
_LATE: Final = timedelta(seconds=60)
_RETRY_SECONDS: Final = 0.5
_MOST_PARTS: Final = 5  # messages of one answer; beyond that it is a file
_TYPING_SECONDS: Final = 4.0  # Telegram shows "typing" for five
_SORRY: Final = "that went wrong inside the bot and was logged. Trading is not affected; please try again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A command as the gate let it through: a message, or (`tapped`) a press on the button of that message."""

    caller: Caller
    text: str
    message_id: int
    update_id: int
    at: datetime
    tapped: bool


class Reception:
    """One task (`run`), and `accept`, which the poller calls. `wall` is the clock Telegram dates by."""

    def __init__(
        self,
        *,
        inbox: InboxStore,
        outbox: Outbox,
        gate: Gate,
        desk: Desk,
        clock: Clock,
        wall: Callable[[], datetime],
        answer_tap: Callable[[str], Coroutine[Any, Any, None]],
        typing: Callable[[int], Awaitable[None]],
    ) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._gate = gate
        self._desk = desk
        self._clock = clock
        self._wall = wall
        self._answer_tap = answer_tap
        self._typing = typing
        self._asked: set[int] = set()
        self._beside: set[asyncio.Task[None]] = set()

    async def accept(self, update: Update) -> None:
        """Commit an update of somebody on the list, however long it takes; strangers never reach the disk."""
        if self._gate.admit(update) is None:
            return
        body = update.to_dict()
        said = False
        while True:
            try:
                await self._inbox.accept(update.update_id, body, self._wall())
            except Transient as error:
                if not said:
                    _LOG.error("update_not_stored update_id=%d error='%s'", update.update_id, error)
                said = True
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                crashpoint("after_inbox")
                return

    async def run(self) -> None:
        """Works until it is cancelled; after a failure it can simply be run again."""
        self._asked.clear()
        try:
            while True:
                await self._inbox.grown(self._asked)
                for row in await self._inbox.pending():
                    if row.update_id not in self._asked:
                        await self._dispatch(row)
        finally:
            for task in self._beside:
                task.cancel()
            await asyncio.gather(*self._beside, return_exceptions=True)

    async def settle(self, update_id: int) -> None:
        """The command of this update has taken effect: it is done for good."""
        await self._inbox.done(update_id)
        self._asked.discard(update_id)

    async def _dispatch(self, row: Stored) -> None:
        said = await self._heard(row)
        if said is None:
            await self._inbox.done(row.update_id)
            return
        command, arguments = route(said.text, self._desk.commands, tapped=said.tapped)
        if command.slow:
            self._asked.add(row.update_id)
            self._begin(self._unhurried(command, arguments, said))
        else:
            await self._deal_with(command, arguments, said)

    async def _heard(self, row: Stored) -> Said | None:
        """What was said by somebody who may say it; None for everything else. A tap's spinner ends here."""
        update = _readable(row)
        caller = self._gate.admit(update) if update is not None else None
        if update is None or caller is None:
            return None
        if (tap := update.callback_query) is not None:
            self._begin(self._answer_tap(tap.id))  # at once, and nobody waits for Telegram
            if tap.message is None or not tap.data:
                return None
            text, message_id, at = f"/{tap.data}", tap.message.message_id, row.received_at
        elif update.message is not None and update.message.text is not None:
            text, message_id, at = update.message.text, update.message.message_id, update.message.date
        else:
            return None
        tapped = tap is not None
        return Said(
            caller=caller, text=text, message_id=message_id, update_id=row.update_id, at=at, tapped=tapped
        )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the dispatcher, as long as it runs itself."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _unhurried(self, command: Command, arguments: tuple[str, ...], said: Said) -> None:
        """Deal with what takes a while, showing that somebody is at it. A failure leaves it to be asked again."""
        typing = asyncio.create_task(self._keep_typing(said.caller.user_id), name="typing")
        try:
            await self._deal_with(command, arguments, said)
        except Transient as error:
            _LOG.error("answer_not_stored update_id=%d error='%s'", said.update_id, error)
            await self._clock.sleep(_RETRY_SECONDS)
        finally:
            typing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await typing
            self._asked.discard(said.update_id)

    async def _keep_typing(self, chat_id: int) -> None:
        while True:
            await self._typing(chat_id)
            await self._clock.sleep(_TYPING_SECONDS)

    async def _deal_with(self, command: Command, arguments: tuple[str, ...], said: Said) -> None:
        """Answer, then ask the trader for what must be done, or be done."""
        answer = await self._answer(command, arguments, said)
        if answer.study is not None:
            await self._desk.jobs.begin(f"update:{said.update_id}", answer.study, _errand(said))
            await self._inbox.done(said.update_id)
            return
        await self._outbox.put(await self._messages(said, answer, command.name))
        if answer.request is None:
            await self._inbox.done(said.update_id)
            return
        crashpoint("after_answer")
        self._asked.add(said.update_id)
        self._desk.trader.submit(answer.request)
        crashpoint("after_submit")

    async def _answer(self, command: Command, arguments: tuple[str, ...], said: Said) -> Answer:
        """The handler's answer. The one boundary at which its failure ends: a sentence instead of silence."""
        try:
            refusal = self._refusal(command, said)
            if refusal:
                return Answer(text=f"{self._desk.look.lead} {refusal}")
            asked = Asked(
                caller=said.caller,
                name=command.name,
                arguments=arguments,
                update_id=said.update_id,
                at=self._wall(),
                tapped=said.message_id if said.tapped else None,
            )
            return await command.handler(asked, self._desk)
        except Exception:  # noqa: BLE001  the supervised boundary of every handler
            _LOG.exception("handler_failed update_id=%d", said.update_id)
            return Answer(text=f"{self._desk.look.lead} {_SORRY}")

    def _refusal(self, command: Command, said: Said) -> str:
        """Why this command is not obeyed; empty when it is."""
        if said.caller.role < command.needs:
            return f"/{command.name} is for the {command.needs.label}; you are {said.caller.role.label}."
        age = abs(self._wall() - said.at)
        if command.raises_risk and age > _LATE:
            return (
                f"/{command.name} came {age.total_seconds():,.0f} s late and would raise risk: not done. "
                "Send it again if you still want it."
            )
        return ""

    async def _messages(self, said: Said, answer: Answer, name: str) -> Sequence[NewMessage | Amendment]:
        """The answer as a reply, or as a change of the message whose button was pressed.

        A refusal after an earlier answer is news and has a key of its own. A long answer goes on in further
        messages, a very long one in a file.
        """
        chat = said.caller.user_id
        if answer.in_place and said.tapped and (shown := await self._outbox.key_of(chat, said.message_id)):
            return [
                Amendment(
                    key=shown, text=answer.text, buttons=answer.buttons or [], media=answer.media, priority=ANSWER
                )
            ]
        parts = [answer] if answer.request or answer.media else _parts(answer, name)
        key = said_key(said.update_id, chat)
        if answer.request is not None:
            key = f"{answer_of(said.update_id)}:{chat}"
        return [
            NewMessage(
                key=key if place == 1 else f"{key}:{place}",
                chat_id=chat,
                text=part.text,
                reply_to=said.message_id,
                priority=ANSWER,
                buttons=part.buttons,
                media=part.media,
            )
            for place, part in enumerate(parts, 1)
        ]


def _errand(said: Said) -> Errand:
    """The answer to long work goes where every answer goes."""
    chat = said.caller.user_id
    by = f"{said.caller.role.label} {chat}"
    return Errand(key=said_key(said.update_id, chat), chat_id=chat, reply_to=said.message_id, by=by)


def _parts(answer: Answer, name: str) -> list[Answer]:
    """An answer as messages that Telegram takes, the buttons under the last one; or as a file."""
    found = pages(answer.text)
    if len(found) <= _MOST_PARTS:
        return [Answer(text=text) for text in found[:-1]] + [Answer(text=found[-1], buttons=answer.buttons)]
    head = answer.text.split("\n", 1)[0]
    media = Media(kind="document", name=f"{name}.txt", data=plain(answer.text).encode())
    caption = fitted([head, "The whole answer is in the file."], CAPTION_LIMIT)
    return [Answer(text=caption, buttons=answer.buttons, media=media)]


def _readable(row: Stored) -> Update | None:
    """The update as it was stored; one that cannot be read would block every later one."""
    try:
        return Update.de_json(row.body, None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _LOG.error("update_unreadable update_id=%d error='%s'", row.update_id, error)
        return None
