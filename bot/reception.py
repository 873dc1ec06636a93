"""The durable inbox: what was said to the bot is committed first and done exactly once, whatever dies when.

`accept` commits an update before Telegram's offset moves past it. The dispatcher takes pending ones in order:
gate, handler, answer, effect, done. Every step may be repeated: an answer's key and a command's id come from
the update. A command that changes something is done only when its effect is in the journal (`settle`), so a
crash between asking the trader and the trader acting loses nothing, and the trader acts once per command id.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from telegram import Message, Update

from bot.access import Caller, Gate
from bot.commands import route
from bot.notifier import ANSWER
from bot.ports import Answer, Asked, Command, Desk
from storage.inbox import InboxStore
from storage.inbox import Update as Stored
from storage.outbox import NewMessage, Outbox
from trading.crashpoints import crashpoint
from trading.errors import Transient
from trading.events import Request
from trading.ports import Clock

_LOG = logging.getLogger(__name__)
_LATE: Final = timedelta(seconds=60)
_RETRY_SECONDS: Final = 0.5
_SORRY: Final = "that went wrong inside the bot and was logged. Trading is not affected; please try again."


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message that the gate let through."""

    caller: Caller
    message: Message
    update_id: int


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
        answer_tap: Callable[[str, str], Awaitable[None]],
    ) -> None:
        self._inbox = inbox
        self._outbox = outbox
        self._gate = gate
        self._desk = desk
        self._clock = clock
        self._wall = wall
        self._answer_tap = answer_tap
        self._asked: set[int] = set()

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
        while True:
            await self._inbox.grown(self._asked)
            for row in await self._inbox.pending():
                if row.update_id not in self._asked:
                    await self._dispatch(row)

    async def settle(self, update_id: int) -> None:
        """The command of this update has taken effect: it is done for good."""
        await self._inbox.done(update_id)
        self._asked.discard(update_id)

    async def _dispatch(self, row: Stored) -> None:
        request = await self._heard(_readable(row))
        if request is None:
            await self._inbox.done(row.update_id)
            return
        crashpoint("after_answer")
        self._asked.add(row.update_id)
        self._desk.trader.submit(request)
        crashpoint("after_submit")

    async def _heard(self, update: Update | None) -> Request | None:
        """Answers; what the trader must still be asked, None when everything is done."""
        caller = self._gate.admit(update) if update is not None else None
        if update is None or caller is None:
            return None
        if update.callback_query is not None:
            await self._answer_tap(update.callback_query.id, "This button is no longer active.")
        if update.message is None or update.message.text is None:
            return None
        said = Said(caller=caller, message=update.message, update_id=update.update_id)
        answer = await self._answer(said, update.message.text)
        await self._outbox.put([_reply(said, answer)])
        return answer.request

    async def _answer(self, said: Said, text: str) -> Answer:
        """The handler's answer. The one boundary at which its failure ends: a sentence instead of silence."""
        try:
            command, arguments = route(text, self._desk.commands)
            refusal = self._refusal(command, said)
            if refusal:
                return Answer(text=f"{self._desk.look.lead} {refusal}")
            asked = Asked(
                caller=said.caller, name=command.name, arguments=arguments, update_id=said.update_id
            )
            return await command.handler(asked, self._desk)
        except Exception:  # noqa: BLE001  the supervised boundary of every handler
            _LOG.exception("handler_failed update_id=%d", said.update_id)
            return Answer(text=f"{self._desk.look.lead} {_SORRY}")

    def _refusal(self, command: Command, said: Said) -> str:
        """Why this command is not obeyed; empty when it is."""
        if said.caller.role < command.needs:
            return f"/{command.name} is for the {command.needs.label}; you are {said.caller.role.label}."
        age = abs(self._wall() - said.message.date)
        if command.raises_risk and age > _LATE:
            return (
                f"/{command.name} came {age.total_seconds():,.0f} s late and would raise risk: not done. "
                "Send it again if you still want it."
            )
        return ""


def _readable(row: Stored) -> Update | None:
    """The update as it was stored; one that cannot be read would block every later one."""
    try:
        return Update.de_json(row.body, None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        _LOG.error("update_unreadable update_id=%d error='%s'", row.update_id, error)
        return None


def _reply(said: Said, answer: Answer) -> NewMessage:
    """The answer as a reply. A refusal after an earlier answer is news and has a key of its own."""
    kind = "answer" if answer.request is not None else "said"
    return NewMessage(
        key=f"{kind}:{said.update_id}",
        chat_id=said.caller.user_id,
        text=answer.text,
        reply_to=said.message.message_id,
        priority=ANSWER,
    )
