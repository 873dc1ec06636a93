"""The whole conversation: journal → notifier → outbox → courier → chat, and chat → inbox → trader.

    conversation = Conversation(...)
    await conversation.start()      # returns at once; Telegram is connected in the background
    await conversation.drain()      # everything journaled so far has been sent (waits for an outage to end)
    await conversation.stop()       # within two seconds; what was not sent waits in the outbox

A handful of tasks, each supervised: a failure is logged, and the task is run again from what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from telegram import Update

from bot.access import AllowList, Gate, Role
from bot.commands import menu
from bot.courier import Courier, Pace
from bot.illustrator import Illustrator
from bot.notifier import Notifier
from bot.ports import Desk
from bot.reception import Reception
from bot.telegram import Door, Redaction, TelegramBot, quiet
from storage.inbox import InboxStore
from storage.journal import SqlJournal
from storage.outbox import Outbox
from trading.ports import Clock

_LOG = logging.getLogger(__name__)
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
_FINISH_SECONDS: Final = 1.0


def wall_clock() -> datetime:
    """The time by which Telegram dates messages."""
    return datetime.now(UTC)


class Conversation:
    """One bot with its people. Everything that lives is in the stores: it may be killed at any moment.

    `desk` is what handlers look at. `api_url` is None for Telegram itself, else the root of another Bot API server.
    `pace` None sends without pacing. Events are pushed to the owner and the operators; every role may ask.
    `illustrated`: approved decisions get a chart in their thread.
    """

    def __init__(
        self,
        *,
        token: str,
        api_url: str | None,
        allowed: AllowList,
        journal: SqlJournal,
        outbox: Outbox,
        inbox: InboxStore,
        desk: Desk,
        clock: Clock,
        pace: Pace | None,
        illustrated: bool,
        wall: Callable[[], datetime] = wall_clock,
    ) -> None:
        quiet()  # before the bot is made: its very constructor logs the token
        self._journal = journal
        self._clock = clock
        self.redact = Redaction([token])
        self._gate = Gate(allowed)
        recipients = allowed.at_least(Role.OPERATOR)
        door = Door(self._accept)
        self.telegram = TelegramBot(
            token=token, api_url=api_url, door=door, menu=menu(desk.commands), clock=clock, redact=self.redact
        )
        self._reception = Reception(
            inbox=inbox,
            outbox=outbox,
            gate=self._gate,
            desk=desk,
            clock=clock,
            wall=wall,
            answer_tap=self.telegram.answer_tap,
            typing=self.telegram.typing,
        )
        self._notifier = Notifier(
            journal=journal,
            outbox=outbox,
            records=desk.records,
            look=desk.look,
            recipients=recipients,
            settled=self._reception.settle,
        )
        self._illustrator = None
        if illustrated:
            self._illustrator = Illustrator(
                journal=journal, outbox=outbox, desk=desk, recipients=recipients, told=self._notifier.reached
            )
        self._courier = Courier(outbox=outbox, bot=self.telegram.bot, clock=clock, pace=pace, redact=self.redact)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begins all four tasks; never waits for Telegram."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self.redact)
        head = await self._journal.last_seq()
        jobs: dict[str, Callable[[], Awaitable[None]]] = {
            "notifier": self._notifier.run,
            "reception": lambda: self._receive(head),
            "courier": self._send,
            "telegram": self.telegram.run,
        }
        if self._illustrator is not None:
            jobs["illustrator"] = self._illustrator.run
        for name, job in jobs.items():
            self._tasks[name] = asyncio.create_task(self._supervised(name, job), name=f"chat:{name}")

    async def drain(self) -> None:
        """Returns once every event journaled so far has been sent to everybody who gets it."""
        await self._notifier.reached(await self._journal.last_seq())
        await self._courier.drained()

    async def stop(self) -> None:
        """Ends everything within two seconds; the message under way is finished first."""
        self._courier.finish()
        courier = self._tasks.pop("courier", None)
        for task in self._tasks.values():
            task.cancel()
        if courier is not None:
            await self._finished(courier)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        await self.telegram.close()
        for handler in logging.getLogger().handlers:
            handler.removeFilter(self.redact)

    async def _finished(self, courier: asyncio.Task[None]) -> None:
        if not self._courier.busy:
            courier.cancel()
        await asyncio.wait({courier}, timeout=_FINISH_SECONDS)
        courier.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await courier

    async def _accept(self, update: Update) -> None:
        await self._reception.accept(update)

    async def _receive(self, head: int) -> None:
        """Dispatching waits until effects journaled before the start are known: nothing is asked twice."""
        await self._notifier.reached(head)
        await self._reception.run()

    async def _send(self) -> None:
        await self.telegram.connected.wait()
        await self._courier.run()

    async def _supervised(self, name: str, job: Callable[[], Awaitable[None]]) -> None:
        """Runs a task for ever. The one boundary at which its failures end."""
        wait = _FIRST_WAIT
        while True:
            began = self._clock.monotonic()
            try:
                await job()
                return
            except Exception as error:  # noqa: BLE001  the supervised boundary of every task
                _LOG.exception("chat_task_failed task=%s error='%s'", name, self.redact(repr(error)))
            if self._clock.monotonic() - began > _LONGEST_WAIT:
                wait = _FIRST_WAIT
            await self._clock.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
