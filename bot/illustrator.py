"""A chart for every approved decision, in its thread: the candles it was made on, with entry, stop and target.

Tails the journal by a cursor of its own, so that drawing never delays a card and a crash neither loses nor doubles
a picture. What cannot be drawn in time is left out: the card says it all in words.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from bot.cards import Look
from bot.notifier import EVENT, thread_of
from bot.pictures import verdict_picture
from bot.ports import Desk
from bot.text import coin, price
from storage.journal import SqlJournal
from storage.outbox import Media, NewMessage, Outbox
from trading.errors import BadInput, OutcomeUnknown, Rejected, Transient
from trading.events import VerdictReached
from trading.ports import Recorded

_LOG = logging.getLogger(__name__)
CURSOR: Final = "illustrator"
BARS: Final = 400  # enough for the slowest indicator to have settled in what is shown
_BATCH: Final = 500
_AT_ONCE: Final = 3  # after an outage only the newest decisions are drawn


class Illustrator:
    """One task. `told` returns once everything up to a place in the journal has its card: a picture comes after it."""

    def __init__(
        self,
        *,
        journal: SqlJournal,
        outbox: Outbox,
        desk: Desk,
        recipients: Sequence[int],
        told: Callable[[int], Awaitable[None]],
    ) -> None:
        self._told = told
        self._journal = journal
        self._outbox = outbox
        self._desk = desk
        self._recipients = tuple(recipients)

    async def run(self) -> None:
        """Works until it is cancelled; after a failure it can simply be run again."""
        seen = stored = await self._journal.cursor(CURSOR)
        while True:
            batch = await self._journal.read(seen, _BATCH)
            if batch:
                seen = batch[-1].seq
                messages = await self._drawn(batch)
                if messages or seen - stored >= _BATCH:
                    await self._told(seen)
                    await self._outbox.deliver(CURSOR, seen, messages)
                    stored = seen
            if len(batch) < _BATCH:
                await self._journal.grown(seen)

    async def _drawn(self, batch: Sequence[Recorded]) -> list[NewMessage]:
        approved = [
            recorded.event
            for recorded in batch
            if isinstance(recorded.event, VerdictReached) and recorded.event.approved
        ]
        messages: list[NewMessage] = []
        for event in approved[-_AT_ONCE:]:
            if (media := await self._picture(event)) is not None:
                messages += [illustration(event, media, chat, self._desk.look) for chat in self._recipients]
        return messages

    async def _picture(self, event: VerdictReached) -> Media | None:
        desk = self._desk
        try:
            series = await desk.prices.history(event.symbol, BARS)
            picture = verdict_picture(event, series, desk.params, badge=desk.look.badge, zone=desk.look.zone)
            data = await desk.painter.paint(picture, desk.look.theme)
        except (Transient, OutcomeUnknown, Rejected, BadInput) as error:
            _LOG.warning("picture_left_out verdict_id=%d reason='%s'", event.verdict_id, error)
            return None
        return Media(kind="photo", name=f"decision-{event.verdict_id}.png", data=data)


def illustration(event: VerdictReached, media: Media, chat: int, look: Look) -> NewMessage:
    """The picture as a silent reply to its decision's card."""
    head = f"{look.lead} #{event.verdict_id} {event.side.value.upper()} {coin(event.symbol)}"
    return NewMessage(
        key=f"picture:{event.verdict_id}:{chat}",
        chat_id=chat,
        text=f"{head}: entry {price(event.entry)}, stop {price(event.stop)}",
        thread=thread_of(event.verdict_id, chat),
        priority=EVENT + 5,
        silent=True,
        media=media,
    )
