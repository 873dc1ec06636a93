"""Long work beside the conversation: the laboratory does one study at a time, the others wait and say so.

    jobs = Jobs(laboratory=…, outbox=…, …)
    await jobs.start()     # what a restart interrupted says so in its own message
    await jobs.begin(nonce, study, errand)
    await jobs.stop()      # what is under way ends; the next start tells of it

The message of a job is one living message: how far it is, edited now and then, at last the chart with the verdict
under it. That work is under way is a ticket, committed before it begins, so that no restart forgets it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from bot.buttons import button, rows
from bot.cards import PUSHED, Look
from bot.notifier import ANSWER, EDIT, EVENT
from bot.ports import Errand, JobView, Shown
from bot.studies import WEEKLY_DAYS, Studies
from bot.views.research import (
    cancelled_view,
    failed_view,
    finding_view,
    finished_view,
    interrupted_view,
    progress_view,
    proposal_view,
    quiet_view,
    too_large_view,
)
from storage.errors import Conflict
from storage.outbox import Amendment, Buttons, Media, NewMessage, Outbox
from storage.tickets import Ticket, Tickets
from trading.errors import ConclaveError, Transient
from trading.laboratory import WAITING, Finding, Found, Laboratory, Progress, Study
from trading.ports import Clock

_LOG = logging.getLogger(__name__)

PATIENCE: Final = 1.0
"""Seconds that an answer may take before a message tells of its progress."""
EVERY: Final = 3.0
"""Seconds between two edits of a message."""
_KIND: Final = "job"
_KEPT: Final = timedelta(days=3650)  # a job has no end by the clock
_RETRY_SECONDS: Final = 0.5
_LARGEST: Final = 50_000_000  # bytes of a document, for Telegram
_SORRY: Final = "it went wrong inside the bot and was logged; trading is not affected"
_OBJECTIVES: Final = {"return": "total_return", "expectancy": "expectancy_r"}


@dataclass(slots=True, kw_only=True, eq=False)
class _Job:
    """One study on its way. `shown` is what its message says, `over` that nobody may write to it any more."""

    nonce: str
    study: Study
    errand: Errand
    began: float
    progress: Progress | None = None
    shown: str = ""
    over: bool = False
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class Jobs:
    """One account's. `recipients` hear of finished optimisations, `owners` among them may take one over."""

    def __init__(
        self,
        *,
        laboratory: Laboratory,
        studies: Studies,
        outbox: Outbox,
        tickets: Tickets,
        look: Look,
        clock: Clock,
        wall: Callable[[], datetime],
        recipients: Sequence[int],
        owners: Sequence[int],
    ) -> None:
        self._laboratory = laboratory
        self._studies = studies
        self._outbox = outbox
        self._tickets = tickets
        self._look = look
        self._clock = clock
        self._wall = wall
        self._recipients = tuple(recipients)
        self._owners = frozenset(owners)
        self._line: list[object] = []  # whose work has not ended, in the order of asking
        self._jobs: dict[str, _Job] = {}
        self._weekly: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Whatever a restart interrupted says so in its own message, with a button that starts it again."""
        for ticket in await self._tickets.pending(_KIND):
            study, errand = _stored(ticket)
            shown = Shown(text=interrupted_view(study, self._look), buttons=_again(ticket.nonce))
            await self._outbox.put(_becoming(errand, shown))
            await self._tickets.withdraw(ticket.nonce)

    async def begin(self, nonce: str, study: Study, errand: Errand) -> None:
        """Start it, or let it wait its turn; returns at once. A nonce that was used before starts nothing."""
        now = self._wall()
        body = {"study": dataclasses.asdict(study), "errand": dataclasses.asdict(errand)}
        ticket = Ticket(
            nonce=nonce,
            kind=_KIND,
            digest="",
            chat_id=errand.chat_id,
            created_at=now,
            expires_at=now + _KEPT,
            body=body,
        )
        try:
            await self._tickets.issue(ticket)
        except Conflict:
            return
        job = _Job(nonce=nonce, study=study, errand=errand, began=self._clock.monotonic())
        self._jobs[nonce] = job
        self._line.append(job)
        job.tasks = [
            asyncio.create_task(self._work(job), name=f"job:{nonce}"),
            asyncio.create_task(self._tell(job), name=f"job:{nonce}:progress"),
        ]
        job.tasks[0].add_done_callback(lambda _: self._line.remove(job))

    async def cancel(self, nonce: str, by: str) -> Shown | None:
        """End it now, its message says so and is returned; None when it is not under way."""
        job = self._jobs.get(nonce)
        if job is None or job.over:
            return None
        text = cancelled_view(job.study, by, self._elapsed(job), self._look)
        for task in job.tasks:
            task.cancel()
        shown = Shown(text=text, buttons=_again(nonce))
        await self._finish(job, _becoming(job.errand, shown))
        return shown

    def under_way(self) -> Sequence[JobView]:
        """What works or waits, in order."""
        return [
            JobView(
                nonce=job.nonce,
                study=job.study,
                by=job.errand.by,
                stage=job.progress.stage if job.progress else "",
                before=self._before(job),
                elapsed=self._elapsed(job),
            )
            for job in self._line
            if isinstance(job, _Job) and not job.over
        ]

    async def study_of(self, nonce: str) -> Study | None:
        """What was to be found out by work that is over; None for an unknown one."""
        known = await self._tickets.find(nonce)
        return _stored(known[0])[0] if known is not None and known[0].kind == _KIND else None

    async def stop(self) -> None:
        """End what is under way. Its tickets stay: the next start tells of it."""
        tasks = [task for job in self._jobs.values() for task in job.tasks]
        tasks += [self._weekly] if self._weekly is not None else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # One job

    async def _work(self, job: _Job) -> None:
        """The work itself, from its turn to its answer. The one boundary at which its failures end."""
        try:
            found = await self._laboratory.find(job.study, lambda progress: _note(job, progress))
            messages = await self._answer(job, found)
        except ConclaveError as error:
            _LOG.info("study_failed nonce=%s reason='%s'", job.nonce, error)
            messages = self._failure(job, error)
        except Exception:  # noqa: BLE001  the supervised boundary of all long work
            _LOG.exception("study_failed nonce=%s", job.nonce)
            messages = self._failure(job, ConclaveError(_SORRY))
        if not job.over:
            job.over = True
            job.tasks[1].cancel()
            await asyncio.gather(job.tasks[1], return_exceptions=True)
            await self._finish(job, messages)


    async def _tell(self, job: _Job) -> None:
        """How far it is, now and then, when it takes longer than a moment."""
        await self._clock.sleep(PATIENCE)
        buttons = rows(button("Cancel", "abandon", job.nonce)) or []
        while not job.over:
            text = progress_view(job.study, job.progress, self._elapsed(job), self._before(job), self._look)
            if text != job.shown:
                await self._show(job, Shown(text=text, buttons=buttons))
            await self._clock.sleep(EVERY)

    async def _show(self, job: _Job, shown: Shown) -> None:
        """The message as it is now. Progress that cannot be stored is nobody's loss: the next one may."""
        messages = _becoming(job.errand, shown, priority=EDIT)
        with contextlib.suppress(Transient):
            await self._outbox.put(messages[1:] if job.shown else messages[:1])
            job.shown = shown.text

    def _failure(self, job: _Job, error: ConclaveError) -> list[NewMessage | Amendment]:
        text = failed_view(job.study, str(error), isinstance(error, Transient), self._look)
        return _becoming(job.errand, Shown(text=text, buttons=_again(job.nonce)))

    async def _answer(self, job: _Job, found: Found) -> list[NewMessage | Amendment]:
        """The message becomes the chart, the workbook replies to it, the others hear of an optimisation."""
        finding = found.finding
        text = finding_view(found.run, finding, self._look)
        if len(found.workbook) > _LARGEST:
            text = f"{text}\n{too_large_view(len(found.workbook))}"
        chart = _chart(found)
        shown = Shown(text=text, buttons=await self._offers(found))
        messages = _becoming(job.errand, shown, media=chart)
        if 0 < len(found.workbook) <= _LARGEST:
            messages.append(_workbook(job.errand, found, self._look, silent=not job.shown))
        if finding.study.kind == "optimize" and not finding.cached:
            others = [chat for chat in self._recipients if chat != job.errand.chat_id]
            messages += self._pushed(others, f"optimised:{job.nonce}", finished_view(found, job.errand.by, self._look))
        return messages

    async def _offers(self, found: Found) -> Buttons:
        """What makes sense after a result."""
        run, finding = found.run, found.finding
        last: list[int] = []
        with contextlib.suppress(ConclaveError):  # the answer is worth more than a button
            last = [number for number, _, _ in await self._laboratory.runs(2) if number != run]
        offered = [
            button("Apply…", "apply", run) if self._studies.proposed(finding) else [],
            button(f"Compare with #{last[0]}", "compare", run, last[0]) if last else [],
            button("Walk-forward", "walkforward", f"#{run}") if finding.study.kind != "walkforward" else [],
            button("Again", finding.study.kind, f"#{run}"),
        ]
        return rows(*offered, across=2) or []

    async def _finish(self, job: _Job, messages: Sequence[NewMessage | Amendment]) -> None:
        """The last word on a job, whatever the disk says; then it is nobody's any more."""
        job.over = True
        self._jobs.pop(job.nonce, None)
        await self._certainly(lambda: self._outbox.put(messages))
        await self._certainly(lambda: self._tickets.withdraw(job.nonce))

    async def _certainly(self, store: Callable[[], Awaitable[object]]) -> None:
        while True:
            try:
                await store()
            except Transient as error:
                _LOG.warning("finding_not_stored error='%s'", error)
                await self._clock.sleep(_RETRY_SECONDS)
            else:
                return

    def _before(self, job: _Job) -> int:
        """How many come before it; 0 while it is being done."""
        waits = job.progress is None or job.progress.stage == WAITING
        return self._line.index(job) if waits and job in self._line else 0

    def _elapsed(self, job: _Job) -> float:
        return self._clock.monotonic() - job.began

    # Once a week

    async def reoptimise(self) -> None:
        """Begin a search around what trades, for every market; it proposes, and never changes anything."""
        if self._push == "off" or (self._weekly is not None and not self._weekly.done()):
            return
        self._weekly = asyncio.create_task(self._markets(), name="job:weekly")

    async def _markets(self) -> None:
        for symbol in self._studies.traded:
            try:
                await self._propose(symbol)
            except ConclaveError as error:
                await self._announce(symbol, quiet_view(symbol, f"not done: {error}", None, self._look), silent=True)
            except Exception:  # noqa: BLE001  the supervised boundary of the weekly search
                _LOG.exception("weekly_search_failed symbol=%s", symbol)

    async def _propose(self, symbol: str) -> None:
        """The diff as a message when something proven is better than what trades, else one quiet line."""
        place = object()
        self._line.append(place)
        try:
            now = await self._laboratory.find(self._studies.current(symbol, WEEKLY_DAYS), _ignored)
            found = await self._laboratory.find(self._studies.search(symbol, WEEKLY_DAYS), _ignored)
        finally:
            self._line.remove(place)
        changes = self._studies.proposed(found.finding)
        if found.finding.verdict.word != "PROVEN" or not changes or not _better(found.finding, now.finding):
            await self._announce(symbol, quiet_view(symbol, "", found, self._look), silent=True)
            return
        text = proposal_view(found, now.finding, changes, self._look)
        buttons = rows(button("Apply…", "apply", found.run), button("Compare", "compare", now.run, found.run)) or []
        await self._announce(symbol, text, buttons=buttons, media=_chart(found))

    async def _announce(
        self,
        symbol: str,
        text: str,
        *,
        silent: bool = False,
        buttons: Buttons | None = None,
        media: Media | None = None,
    ) -> None:
        """What came of a week's search of a market: once for each week and chat."""
        key = f"weekly:{self._wall():%G-%V}:{symbol}"
        messages = self._pushed(self._recipients, key, text, silent=silent, buttons=buttons, media=media)
        await self._certainly(lambda: self._outbox.put(messages))

    @property
    def _push(self) -> str:
        return self._look.push.get("optimisation", PUSHED["optimisation"])

    def _pushed(
        self,
        chats: Sequence[int],
        key: str,
        text: str,
        *,
        silent: bool = False,
        buttons: Buttons | None = None,
        media: Media | None = None,
    ) -> list[NewMessage | Amendment]:
        """The same news for several chats, as the configuration wants it; only owners get the buttons."""
        if self._push == "off":
            return []
        return [
            NewMessage(
                key=f"{key}:{chat}",
                chat_id=chat,
                text=text,
                priority=EVENT,
                silent=silent or self._push == "silent",
                buttons=buttons if chat in self._owners else None,
                media=media,
            )
            for chat in chats
        ]


def _note(job: _Job, progress: Progress) -> None:
    job.progress = progress


def _ignored(progress: Progress) -> None:
    """Nobody watches the weekly search."""


def _better(found: Finding, now: Finding) -> bool:
    """Is it more than what trades shows on the same bars, by the objective of the search?"""
    name = _OBJECTIVES.get(found.study.objective, found.study.objective)
    best, have = found.metrics.get(name), now.metrics.get(name)
    return best is not None and (have is None or best > have)


def _becoming(
    errand: Errand, shown: Shown, *, media: Media | None = None, priority: int = ANSWER
) -> list[NewMessage | Amendment]:
    """The message of an errand, whether it exists already or not: a new one, then a change of the old one."""
    return [
        NewMessage(
            key=errand.key,
            chat_id=errand.chat_id,
            text=shown.text,
            reply_to=errand.reply_to,
            priority=ANSWER,
            buttons=shown.buttons,
            media=media,
        ),
        Amendment(key=errand.key, text=shown.text, buttons=shown.buttons, media=media, priority=priority),
    ]


def _chart(found: Found) -> Media | None:
    return Media(kind="photo", name=f"run-{found.run}.png", data=found.chart) if found.chart else None


def _workbook(errand: Errand, found: Found, look: Look, *, silent: bool) -> NewMessage:
    """The Excel file as a reply; it makes the sound that the edit of a message cannot make."""
    return NewMessage(
        key=f"{errand.key}:xlsx",
        chat_id=errand.chat_id,
        text=f"{look.lead} #{found.run} with every trade",
        thread=errand.key,
        priority=ANSWER,
        silent=silent,
        media=Media(kind="document", name=found.workbook_name, data=found.workbook),
    )


def _again(nonce: str) -> Buttons:
    return rows(button("Start again", "again", nonce)) or []


def _stored(ticket: Ticket) -> tuple[Study, Errand]:
    """Study and errand as `begin` wrote them."""
    study: Mapping[str, Any] = ticket.body["study"]
    grid = tuple((name, tuple(values)) for name, values in study["grid"])
    return Study(**{**study, "grid": grid}), Errand(**ticket.body["errand"])
