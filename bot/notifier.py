"""From the journal to the outbox: tails the journal by a stored cursor and writes each event's card and step.

A decision's card lives: the debate about it and what happens to its trade are added to it, and what is news comes as a
reply in its thread too. Cards and
cursor are committed together and every message has a key made from the event's place in the
journal: a crash anywhere neither loses nor doubles one, and a slow or dead Telegram never delays a trade.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, date
from itertools import dropwhile
from typing import Final

from bot.cards import PUSHED, Card, Day, Look, draw, step
from bot.ports import update_of
from storage.journal import SqlJournal
from storage.outbox import Amendment, NewMessage, Outbox
from storage.queries import Records
from storage.signal import Signal
from trading.events import Event, ShadowEnded, TradeClosed
from trading.ports import Recorded

CURSOR: Final = "notifier"
URGENT: Final = 0
ANSWER: Final = 10
EVENT: Final = 20
EDIT: Final = 30
_BATCH: Final = 500
_GATHER_SECONDS: Final = 0.04
_RECENT: Final = 200


class Notifier:
    """One task. `settled` is told the update whose command took effect, before the effect is reported."""

    def __init__(
        self,
        *,
        journal: SqlJournal,
        outbox: Outbox,
        records: Records,
        look: Look,
        recipients: Sequence[int],
        settled: Callable[[int], Awaitable[None]],
    ) -> None:
        self._journal = journal
        self._outbox = outbox
        self._look = look
        self._recipients = tuple(recipients)
        self._settled = settled
        self._records = records
        self._days = _Days(records)
        self._seen = 0
        self._stored = 0
        self._progress = Signal()

    async def run(self) -> None:
        """Works until it is cancelled; after a failure it can simply be run again."""
        self._days = _Days(self._records)
        self._stored = await self._journal.cursor(CURSOR)
        self._advance(self._stored)
        while True:
            batch = await self._journal.read(self._seen, _BATCH)
            if batch:
                await self._report(batch)
                self._advance(batch[-1].seq)
            if len(batch) < _BATCH:
                await self._journal.grown(self._seen)
                await asyncio.sleep(_GATHER_SECONDS)  # a burst becomes one batch and one commit

    async def reached(self, seq: int) -> None:
        """Returns once every event up to `seq` has its message in the outbox."""
        while True:
            waiter = self._progress.waiter()
            if self._seen >= seq:
                return
            await waiter.wait()

    def _advance(self, seq: int) -> None:
        self._seen = seq
        self._progress.ring()

    async def _report(self, batch: Sequence[Recorded]) -> None:
        messages: list[NewMessage | Amendment] = []
        for recorded in batch:
            await self._settle(recorded.event)
            day = await self._days.after(recorded.event)
            if not await self._known(recorded.event):
                messages += self._told(recorded, day)
        # Events that give no message need no commit of their own: read again, they give none again.
        if messages or batch[-1].seq - self._stored >= _BATCH:
            await self._outbox.deliver(CURSOR, batch[-1].seq, messages)
            self._stored = batch[-1].seq

    def _told(self, recorded: Recorded, day: Day | None) -> Iterator[NewMessage | Amendment]:
        """What an event gives to everybody who gets it: its own message, and a line on its decision's card."""
        card, added = draw(recorded.event, self._look, day), step(recorded.event, self._look)
        push = "off" if card is None else self._look.push.get(card.kind, PUSHED[card.kind])
        for chat in self._recipients:
            if card is not None and push != "off":
                yield addressed(card, recorded.seq, chat, silent=push == "silent")
            if added is not None:
                key = thread_of(added.verdict_id, chat)
                yield Amendment(key=key, step=added.line, buttons=added.buttons, priority=EDIT)

    async def _known(self, event: Event) -> bool:
        """Whether an event is no news: what an approved candidate would have come to, its own trade tells."""
        return isinstance(event, ShadowEnded) and await self._records.outcome(event.verdict_id) != "rejected"

    async def _settle(self, event: Event) -> None:
        update = update_of(getattr(event, "command", ""))
        if update is not None:
            await self._settled(update)


def thread_of(verdict_id: int, chat: int) -> str:
    """The key of a decision's card in a chat."""
    return f"verdict:{verdict_id}:{chat}"


def answer_of(update_id: int) -> str:
    """The key of the answer to a command that asks the trader for something, without its chat."""
    return f"answer:{update_id}"


def addressed(card: Card, seq: int, chat: int, *, silent: bool) -> NewMessage:
    """The card as a message to one chat: the first of a decision opens a thread, what follows on it replies there.

    The end of a request replies to its answer, for the one who asked (a thread of another chat is not one).
    """
    thread = None if card.verdict_id is None else thread_of(card.verdict_id, chat)
    update = update_of(card.command)
    if update is not None:
        thread = f"{answer_of(update)}:{chat}"
    opens = card.opens_thread and thread is not None
    return NewMessage(
        key=thread if opens and thread is not None else f"ev:{seq}:{chat}",
        chat_id=chat,
        text=card.text,
        thread=None if opens else thread,
        priority=URGENT if card.urgent else EVENT,
        silent=silent,
        buttons=card.buttons,
    )


class _Days:
    """Sums of one UTC day of market time, rebuilt from the records when the notifier starts in its middle."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._date: date | None = None
        self._day = Day()

    async def after(self, event: Event) -> Day | None:
        """The day so far, this trade included; None for an event that closes no trade."""
        if not isinstance(event, TradeClosed):
            return None
        closed = _date(event)
        if self._date is None:
            self._day = await self._earlier(event)
        elif closed != self._date:
            self._day = Day()
        self._date = closed
        self._day = self._day.plus(event.pnl)
        return self._day

    async def _earlier(self, event: TradeClosed) -> Day:
        """The trades of the same day that were closed before this one."""
        found = await self._records.trades(_RECENT)
        if event not in found:
            found = await self._records.trades()
        day = Day()
        for trade in dropwhile(lambda each: each != event, found):
            if _date(trade) != _date(event):
                break
            if trade != event:
                day = day.plus(trade.pnl)
        return day


def _date(trade: TradeClosed) -> date:
    return trade.at.astimezone(UTC).date()
