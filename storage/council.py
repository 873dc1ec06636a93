"""What the council has said, what it cost, and how its candidates ended: for grading it, and for telling one decision.

Verdicts, opinions and outcomes come out of the journal itself, as in `storage.queries`; latency, cost and status of an
agent come from the tables drawn from it. Read in pages, decoded beside the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

from sqlalchemy import Select, bindparam, select, tuple_

from storage import tables
from storage.codec import decode
from storage.database import Database, Reader
from storage.queries import Records, Story
from storage.reports import summed
from trading.council import MODEL_MODES
from trading.council.aggregate import RISK_MANAGER
from trading.council.ballots import ballot_of
from trading.council.schemas import Status
from trading.events import (
    AgentAnswer,
    AgentAnswered,
    CandidateProposed,
    Event,
    OpinionReached,
    ShadowEnded,
    VerdictReached,
)
from trading.grades import Ballot, Judged
from trading.model import EPOCH, ZERO, Side, millis

T = TypeVar("T", bound=Event)

_JOURNAL: Final = tables.table(tables.Journal)
_VERDICTS: Final = tables.table(tables.Verdicts)
_HEARINGS: Final = tables.table(tables.Hearings)
_CALLS: Final = tables.table(tables.Calls)
_SHADOWS: Final = tables.table(tables.Shadows)

_PAGE: Final = 250  # decisions with all that was said of them: 10 ms beside the loop
_CALLS_PAGE: Final = 2_000
_VOICES: Final = MODEL_MODES - {"shadow"}  # where the answers of a verdict are the models' own
_TWIN_SHARE: Final = 0.5  # `trading.council.models.HALF`, which is not worth 0.5 s of imports here

_BEFORE: Final = (
    select(_JOURNAL.c.type, _JOURNAL.c.body, _VERDICTS.c.seq, _VERDICTS.c.verdict_id)
    .join_from(_VERDICTS, _JOURNAL, (_JOURNAL.c.account == _VERDICTS.c.account) & (_JOURNAL.c.seq == _VERDICTS.c.seq))
    .where(_VERDICTS.c.account == bindparam("of_account"), _VERDICTS.c.seq < bindparam("before"))
    .order_by(_VERDICTS.c.seq.desc())
    .limit(_PAGE)
)
_SAID: Final = (
    select(_JOURNAL.c.type, _JOURNAL.c.body)
    .join_from(_HEARINGS, _JOURNAL, (_JOURNAL.c.account == _HEARINGS.c.account) & (_JOURNAL.c.seq == _HEARINGS.c.seq))
    .where(_HEARINGS.c.account == bindparam("of_account"), _HEARINGS.c.verdict_id == bindparam("of_verdict"))
    .order_by(_HEARINGS.c.seq)
)
_TWINS: Final = select(_HEARINGS.c.verdict_id, _HEARINGS.c.agent, _HEARINGS.c.status).where(
    _HEARINGS.c.account == bindparam("of_account"),
    _HEARINGS.c.verdict_id.in_(bindparam("of_verdicts", expanding=True)),
    _HEARINGS.c.twin,
)
_EFFORTS: Final = select(_CALLS.c.verdict_id, _CALLS.c.agent, _CALLS.c.latency_ms, _CALLS.c.cost_usd).where(
    _CALLS.c.account == bindparam("of_account"), _CALLS.c.verdict_id.in_(bindparam("of_verdicts", expanding=True))
)
_COST: Final = (
    select(
        *(_CALLS.c.seq, _CALLS.c.part, _CALLS.c.at, _CALLS.c.agent, _CALLS.c.tokens_in, _CALLS.c.tokens_out),
        _CALLS.c.cost_usd,
    )
    .where(
        _CALLS.c.account == bindparam("of_account"),
        tuple_(_CALLS.c.seq, _CALLS.c.part) > tuple_(bindparam("after"), bindparam("after_part")),
        _CALLS.c.at >= bindparam("since", type_=_CALLS.c.at.type),
    )
    .order_by(_CALLS.c.seq, _CALLS.c.part)
    .limit(_CALLS_PAGE)
)
_LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """All that is kept of one decision, from the packets to the order. `story` is None while there is no verdict yet.

    `testimonies` are whole, in the order in which they were heard; `opinion` is the models' in mode `shadow`.
    """

    candidate: CandidateProposed | None
    testimonies: tuple[AgentAnswered, ...]
    opinion: OpinionReached | None
    story: Story | None

    @property
    def shadow(self) -> ShadowEnded | None:
        """How it would have ended by the rules alone; None while it has not."""
        return None if self.story is None else self.story.shadow


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCost:
    """What an agent's calls of one UTC day of market time came to.

    Tokens are those that were reported; `unreported` calls have told none.
    """

    day: date
    agent: str
    calls: int
    unreported: int
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal


class CouncilRecords:
    """The council's past on one account."""

    def __init__(self, db: Database, account: str) -> None:
        self._db = db
        self._account = account
        self._records = Records(db, account)

    async def judged(self, limit: int | None = None, *, models: bool = False) -> list[Judged]:
        """The last candidates that reached a council (at most `limit`), the oldest first, and how they ended.

        `weight` is the council's own word, also where a guard or the sizing ended the candidate after it. In mode
        `shadow` the rules have decided and the models are among `others`; with `models` only candidates that models
        have judged are given, as they judged them, and the rules are among `others`.
        """
        found: list[Judged] = []
        before = _LAST
        while limit is None or len(found) < limit:
            page, before = await self._page(before)
            if page is None:
                break
            found += await asyncio.to_thread(page.judged, models)
        return found[:limit][::-1]

    async def dossier(self, verdict_id: int) -> Dossier | None:
        """All that is kept of a decision; None for an unknown number."""
        if not 0 < verdict_id <= _LAST:
            return None  # SQLite would not even look
        async with self._db.read() as session:
            rows = (await session.execute(_SAID, {"of_account": self._account, "of_verdict": verdict_id})).all()
        said = await asyncio.to_thread(_decoded, rows)
        story = await self._records.story(verdict_id)
        if story is None and not said:
            return None
        return Dossier(
            candidate=next(iter(_of(CandidateProposed, said)), None),
            testimonies=tuple(_of(AgentAnswered, said)),
            opinion=next(iter(_of(OpinionReached, said)), None),
            story=story,
        )

    async def costs(self, since: datetime = EPOCH) -> list[AgentCost]:
        """What was paid for the models from a market time on, by day and agent; questions of people are included."""
        sums: dict[tuple[date, str], AgentCost] = {}
        wanted = {"of_account": self._account, "after": 0, "after_part": 0, "since": since}
        while rows := await self._rows(_COST, wanted):
            await asyncio.to_thread(_add_costs, sums, rows)
            wanted |= {"after": rows[-1].seq, "after_part": rows[-1].part}
        return [sums[key] for key in sorted(sums)]

    async def shadow_of(self, ids: Iterable[int]) -> Mapping[int, ShadowEnded]:
        """How these candidates would have ended, by decision number; who has not ended is missing."""
        return await self._records.shadows(ids)

    async def _page(self, before: int) -> tuple[_Page | None, int]:
        """Decisions before a place in the journal, the newest first, and where to go on; None when there is none."""
        async with self._db.read() as session:
            rows = (await session.execute(_BEFORE, {"of_account": self._account, "before": before})).all()
            if not rows:
                return None, before
            ids = [row.verdict_id for row in rows]
            named = {"of_account": self._account, "of_verdicts": ids}
            twins = (await session.execute(_TWINS, named)).all()
            calls = (await session.execute(_EFFORTS, named)).all()
            opinions = await self._journaled(session, _HEARINGS, ids, OpinionReached)
            shadows = await self._journaled(session, _SHADOWS, ids, ShadowEnded)
        return _Page(verdicts=rows, twins=twins, calls=calls, opinions=opinions, shadows=shadows), rows[-1].seq

    async def _journaled(self, session: Reader, table: Any, ids: list[int], kind: type[Event]) -> Sequence[Any]:
        """The journal's own rows of one kind that a table drawn from it has of these decisions."""
        same = (_JOURNAL.c.account == table.c.account) & (_JOURNAL.c.seq == table.c.seq)
        joined = select(_JOURNAL.c.type, _JOURNAL.c.body).join_from(table, _JOURNAL, same)
        ours = (table.c.account == self._account, table.c.verdict_id.in_(ids), _JOURNAL.c.type == kind.__name__)
        return (await session.execute(joined.where(*ours))).all()

    async def _rows(self, wanted: Select[Any], values: Mapping[str, Any]) -> Sequence[Any]:
        async with self._db.read() as session:
            return (await session.execute(wanted, values)).all()


@dataclass(slots=True)
class _Effort:
    """What all calls of one agent for one candidate took together."""

    milliseconds: int = 0
    cost: Decimal = ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """Rows of some decisions and of everything that was said of them, as they came out of the database."""

    verdicts: Sequence[Any]
    twins: Sequence[Any]
    calls: Sequence[Any]
    opinions: Sequence[Any]
    shadows: Sequence[Any]

    def judged(self, models: bool) -> list[Judged]:
        """Those that reached a council, in their order."""
        opinions = {each.verdict_id: each for each in _of(OpinionReached, _decoded(self.opinions))}
        shadows = {each.verdict_id: each for each in _of(ShadowEnded, _decoded(self.shadows))}
        files = _files(self.twins, self.calls)
        found: list[Judged] = []
        for verdict in _of(VerdictReached, _decoded(self.verdicts)):
            number = verdict.verdict_id
            case = _Case(verdict, opinions.get(number), shadows.get(number), files.get(number, _File()))
            if (row := case.of_models() if models else case.of_council()) is not None:
                found.append(row)
        return found


@dataclass(frozen=True, slots=True)
class _File:
    """What the tables know of the models' part in one decision, by agent: the effort, and how models ended for whom
    a twin stood in."""

    efforts: dict[str, _Effort] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def _files(twins: Sequence[Any], calls: Sequence[Any]) -> dict[int, _File]:
    files: dict[int, _File] = {}
    for row in twins:
        files.setdefault(row.verdict_id, _File()).missing[row.agent] = row.status
    for row in calls:
        effort = files.setdefault(row.verdict_id, _File()).efforts.setdefault(row.agent, _Effort())
        effort.milliseconds += row.latency_ms
        effort.cost = summed(effort.cost, row.cost_usd)
    return files


@dataclass(frozen=True, slots=True)
class _Case:
    """One decision with all that was said of it."""

    verdict: VerdictReached
    opinion: OpinionReached | None
    shadow: ShadowEnded | None
    file: _File

    def of_council(self) -> Judged | None:
        """As the council that decided judged it; None when it was not asked."""
        verdict = self.verdict
        if not verdict.answers:
            return None
        others = {each.council: _weight(each.approved, each.size_modifier) for each in verdict.opinions}
        if self.opinion is not None:
            others[self.opinion.council] = _weight(self.opinion.approved, self.opinion.size_modifier)
        file = self.file if verdict.council in _VOICES else _File()
        return self._judged(verdict.council, _allowed(verdict, file), verdict.answers, file, others)

    def of_models(self) -> Judged | None:
        """As the models judged it; None when they did not."""
        if self.verdict.council in _VOICES:
            return self.of_council()
        opinion = self.opinion
        if opinion is None:
            return None
        weight = _weight(opinion.approved, opinion.size_modifier)
        others = {"rules": _allowed(self.verdict, _File())}
        return self._judged(opinion.council, weight, opinion.answers, self.file, others)

    def _judged(
        self,
        council: str,
        weight: float,
        answers: tuple[AgentAnswer, ...],
        file: _File,
        others: Mapping[str, float],
    ) -> Judged:
        verdict, shadow = self.verdict, self.shadow
        return Judged(
            verdict_id=verdict.verdict_id,
            at=millis(verdict.at),
            symbol=verdict.symbol,
            side=verdict.side.value,
            council=council,
            weight=weight,
            r=None if shadow is None else shadow.r,
            ended=shadow is not None and shadow.ended != "lost",
            ballots=tuple(_ballot(answer, verdict.side, file) for answer in answers),
            others=others,
        )


def _weight(approved: bool, size_modifier: float) -> float:
    return size_modifier if approved else 0.0


def _allowed(verdict: VerdictReached, file: _File) -> float:
    """The share of the base size that the council allowed. A verdict that something else ended after the council had
    approved carries no size: then it is what the Risk Manager named, halved where a twin stood in."""
    if verdict.approved or verdict.gate == "council":
        return _weight(verdict.approved, verdict.size_modifier)
    named = next((each for each in verdict.answers if each.agent == RISK_MANAGER and each.status == Status.OK), None)
    multiplier = named.details.get("size_multiplier") if named else None
    share = min(max(float(multiplier), 0.0), 1.0) if isinstance(multiplier, float | int) else 0.0
    return share * _TWIN_SHARE if file.missing else share


def _ballot(answer: AgentAnswer, side: Side, file: _File) -> Ballot:
    effort, failed = file.efforts.get(answer.agent), file.missing.get(answer.agent)
    return ballot_of(
        answer,
        side,
        failed=failed or "",
        seconds=effort.milliseconds / 1000 if effort else None,
        cost_usd=float(effort.cost) if effort else 0.0,
    )


def _add_costs(sums: dict[tuple[date, str], AgentCost], rows: Sequence[Any]) -> None:
    for row in rows:
        day = row.at.astimezone(UTC).date()
        so_far = sums.get((day, row.agent))
        silent = row.tokens_in is None and row.tokens_out is None
        sums[day, row.agent] = AgentCost(
            day=day,
            agent=row.agent,
            calls=(so_far.calls if so_far else 0) + 1,
            unreported=(so_far.unreported if so_far else 0) + silent,
            tokens_in=(so_far.tokens_in if so_far else 0) + (row.tokens_in or 0),
            tokens_out=(so_far.tokens_out if so_far else 0) + (row.tokens_out or 0),
            cost_usd=summed(so_far.cost_usd if so_far else ZERO, row.cost_usd),
        )


def _decoded(rows: Sequence[Any]) -> list[Event]:
    return [decode(row[0], row[1]) for row in rows]


def _of(kind: type[T], events: Iterable[Event]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]
