"""What the council has said, what it cost, and how its candidates ended: for grading it, and for telling one decision.

Verdicts, opinions and outcomes come out of the journal itself, as in `storage.queries`; latency, cost and status of an
agent come from the tables drawn from it. Read in pages, decoded beside the loop.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date
from decimal import Decimal
from typing import Any, Final, TypeVar

from sqlalchemy import Select, and_, bindparam, func, or_, select, tuple_

from storage import tables
from storage.codec import decode
from storage.database import Database, Reader
from storage.queries import Records, Story
from storage.reports import summed
from trading.council import MODEL_MODES
from trading.council.aggregate import RISK_MANAGER
from trading.council.ballots import ballot_of, named_size
from trading.events import (
    AgentAnswer,
    AgentAnswered,
    CandidateProposed,
    CouncilModeChanged,
    Event,
    OpinionReached,
    ShadowEnded,
    VerdictReached,
)
from trading.grades import TWIN_SHARE, AgentCost, Ballot, Judged, added
from trading.model import ZERO, Side, millis, utc

T = TypeVar("T", bound=Event)

_JOURNAL: Final = tables.table(tables.Journal)
_VERDICTS: Final = tables.table(tables.Verdicts)
_HEARINGS: Final = tables.table(tables.Hearings)
_CALLS: Final = tables.table(tables.Calls)
_SHADOWS: Final = tables.table(tables.Shadows)
_SNAPSHOTS: Final = tables.table(tables.Snapshots)

NEWEST: Final = 2_000
"""Candidates that are graded at most, the last ones: read in a third of a second, whatever the record holds."""
_PAGE: Final = 250  # decisions with all that was said of them: 10 ms beside the loop
_CALLS_PAGE: Final = 2_000
_VOICES: Final = MODEL_MODES - {"shadow"}  # where the answers of a verdict are the models' own
_SHADOW: Final = "shadow"  # where the models are graded, and the rules have decided

_BEFORE: Final = (
    select(_JOURNAL.c.type, _JOURNAL.c.body, _VERDICTS.c.seq, _VERDICTS.c.verdict_id)
    .join_from(_VERDICTS, _JOURNAL, (_JOURNAL.c.account == _VERDICTS.c.account) & (_JOURNAL.c.seq == _VERDICTS.c.seq))
    .where(
        _VERDICTS.c.account == bindparam("of_account"),
        _VERDICTS.c.seq < bindparam("before"),
        _VERDICTS.c.council == bindparam("of_council"),
    )
    .order_by(_VERDICTS.c.seq.desc())
    .limit(_PAGE)
)
_CONCLUDED: Final = (
    select(_HEARINGS.c.seq)
    .where(
        _HEARINGS.c.account == _VERDICTS.c.account,
        _HEARINGS.c.verdict_id == _VERDICTS.c.verdict_id,
        _HEARINGS.c.kind == OpinionReached.__name__,
    )
    .exists()
)
_COUNCILS: Final = (
    select(_VERDICTS.c.council, func.count(), func.max(_VERDICTS.c.seq))
    .where(_VERDICTS.c.account == bindparam("of_account"), _VERDICTS.c.seq < bindparam("before"))
    .group_by(_VERDICTS.c.council)
)
_CHANGES: Final = (
    select(_JOURNAL.c.type, _JOURNAL.c.body)
    .where(
        _JOURNAL.c.account == bindparam("of_account"),
        _JOURNAL.c.seq > bindparam("after"),
        _JOURNAL.c.type == CouncilModeChanged.__name__,
    )
    .order_by(_JOURNAL.c.seq.desc())
    .limit(1)
)
_BOOK: Final = select(_SNAPSHOTS.c.seq, _SNAPSHOTS.c.state).where(_SNAPSHOTS.c.account == bindparam("of_account"))
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
        *(_CALLS.c.cost_usd, _VERDICTS.c.council, _JOURNAL.c.type, _JOURNAL.c.body),
    )
    .select_from(_CALLS)
    .outerjoin(_VERDICTS, and_(_VERDICTS.c.account == _CALLS.c.account, _VERDICTS.c.verdict_id == _CALLS.c.verdict_id))
    .outerjoin(  # whoever was asked without a verdict: by a person, or in a debate that goes on
        _JOURNAL,
        and_(_VERDICTS.c.verdict_id.is_(None), _JOURNAL.c.account == _CALLS.c.account, _JOURNAL.c.seq == _CALLS.c.seq),
    )
    .where(
        _CALLS.c.account == bindparam("of_account"),
        tuple_(_CALLS.c.seq, _CALLS.c.part) > tuple_(bindparam("after"), bindparam("after_part")),
        or_(_VERDICTS.c.verdict_id.is_(None), _VERDICTS.c.seq > bindparam("later_than")),
    )
    .order_by(_CALLS.c.seq, _CALLS.c.part)
    .limit(_CALLS_PAGE)
)
_OFF: Final = "off"
_LAST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dossier:
    """All that is kept of one decision, from the packets to the order. `story` is None while there is no verdict yet.

    `testimonies` are whole, in the order in which they were heard; `opinion` is the models' in mode `shadow`.
    `followed`: the candidate has ended, or will be followed until it has; else nobody will know how it would have.
    """

    candidate: CandidateProposed | None
    testimonies: tuple[AgentAnswered, ...]
    opinion: OpinionReached | None
    story: Story | None
    followed: bool = True

    @property
    def shadow(self) -> ShadowEnded | None:
        """How it would have ended by the rules alone; None while it has not."""
        return None if self.story is None else self.story.shadow


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The decisions that are graded together, the oldest first: of one council, and nobody else's.

    `council` is its mode; in `shadow` they are what the models said beside the rules that decided. Left out were
    `earlier` candidates of the same council, and `others`, by the council that they stood before.
    """

    council: str
    rows: tuple[Judged, ...] = ()
    earlier: int = 0
    others: Mapping[str, int] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What is graded, and in brackets how much is not: `council strict (left out: 500 of rules)`."""
        about = ["the models, not traded"] if self.beside else []
        about += [f"left out: {', '.join(self.left_out)}"] if self.left_out else []
        name = f"council {self.council}".strip()
        return f"{name} ({'; '.join(about)})" if about else name

    @property
    def beside(self) -> bool:
        """Are they what the models said beside the rules that decided?"""
        return self.council == _SHADOW

    @property
    def left_out(self) -> tuple[str, ...]:
        """Candidates that are not among them: `3 of strict`, `18,000 earlier ones`."""
        others = tuple(f"{count:,} of {name}" for name, count in sorted(self.others.items()))
        return (*((f"{self.earlier:,} earlier ones",) if self.earlier else ()), *others)


class CouncilRecords:
    """The council's past on one account."""

    def __init__(self, db: Database, account: str) -> None:
        self._db = db
        self._account = account
        self._records = Records(db, account)

    async def graded(self, current: str | None = None, *, newest: int = NEWEST) -> Record:
        """What is graded together: the last decisions (at most `newest`) of the council that decides now.

        `current` is its mode; without it, it is the one that was chosen last in the chat, or that decided last. A
        council that has judged nothing yet leaves the word to the one that decided last. `weight` is the council's
        own word, also where a guard or the sizing ended the candidate after it; what it cost is on the rows.
        """
        known = await self._councils(_LAST)
        current = current or await self._current(known)
        asked = {council: count for council, (count, _) in known.items() if council != _OFF}
        for council in (each for each in dict.fromkeys((current, *asked)) if each in asked):
            rows, after = await self._judged(council, newest)
            if rows:
                earlier = (await self._councils(after + 1))[council][0] if after else 0
                others = {name: count for name, count in asked.items() if name != council}
                bills = await self.costs(council, after=after)
                return Record(council=council, rows=tuple(_billed(rows, bills)), earlier=earlier, others=others)
        return Record(council=current)

    async def dossier(self, verdict_id: int) -> Dossier | None:
        """All that is kept of a decision; None for an unknown number."""
        if not 0 < verdict_id <= _LAST:
            return None  # SQLite would not even look
        async with self._db.read() as session:
            rows = (await session.execute(_SAID, {"of_account": self._account, "of_verdict": verdict_id})).all()
        said = await asyncio.to_thread(_decoded, rows)
        followed = await self._is_followed(verdict_id)  # before its end is looked for: it may come meanwhile
        story = await self._records.story(verdict_id)
        if story is None and not said:
            return None
        return Dossier(
            candidate=next(iter(_of(CandidateProposed, said)), None),
            testimonies=tuple(_of(AgentAnswered, said)),
            opinion=next(iter(_of(OpinionReached, said)), None),
            story=story,
            followed=followed or story is None or story.shadow is not None,
        )

    async def costs(self, council: str | None = None, *, after: int = 0) -> list[AgentCost]:
        """What was paid for the models, by day and agent: every call, whatever came of it.

        Of one council, or of all. `after` is the place in the journal of a verdict; what belongs to later ones counts,
        and what people have asked since.
        """
        sums: dict[tuple[date, str], AgentCost] = {}
        wanted: dict[str, Any] = {"of_account": self._account, "after": after, "after_part": _LAST, "later_than": after}
        theirs = or_(_VERDICTS.c.council.is_(None), _VERDICTS.c.council == council)
        statement = _COST if council is None else _COST.where(theirs)
        while rows := await self._rows(statement, wanted):
            await asyncio.to_thread(_add_costs, sums, rows, council)
            wanted |= {"after": rows[-1].seq, "after_part": rows[-1].part}
        return [sums[key] for key in sorted(sums)]

    async def shadow_of(self, ids: Iterable[int]) -> Mapping[int, ShadowEnded]:
        """How these candidates would have ended, by decision number; who has not ended is missing."""
        return await self._records.shadows(ids)

    async def _councils(self, before: int) -> dict[str, tuple[int, int]]:
        """How many candidates before a place in the journal, and the place of the last, by council; the last first."""
        rows = await self._rows(_COUNCILS, {"of_account": self._account, "before": before})
        return {name: (count, last) for name, count, last in sorted(rows, key=lambda row: -row[2])}

    async def _current(self, known: Mapping[str, tuple[int, int]]) -> str:
        """The mode that was chosen after the last decision, else the one that decided it; empty before any."""
        newest = max((last for _, last in known.values()), default=0)
        changed = await self._rows(_CHANGES, {"of_account": self._account, "after": newest})
        chosen = next((event.mode for event in _of(CouncilModeChanged, _decoded(changed))), "")
        return chosen or next(iter(known), "")

    async def _judged(self, council: str, newest: int) -> tuple[list[Judged], int]:
        """The last candidates that one council has judged, the oldest first, and the place of the last verdict before
        them; 0 where there is none."""
        found: list[tuple[int, Judged]] = []
        before, following = _LAST, await self._following()
        while len(found) <= newest:
            page = await self._page(council, before)
            if page is None:
                break
            before = page.verdicts[-1].seq
            found += await asyncio.to_thread(page.judged, following)
        after = found[newest][0] if len(found) > newest else 0
        return [row for _, row in found[:newest]][::-1], after

    async def _following(self) -> _Following:
        """Who is followed: what the last snapshot of the trader's book says, and every decision after it."""
        rows = await self._rows(_BOOK, {"of_account": self._account})
        return await asyncio.to_thread(_read_book, rows)

    async def _is_followed(self, verdict_id: int) -> bool:
        place = select(_VERDICTS.c.seq).where(
            _VERDICTS.c.account == self._account, _VERDICTS.c.verdict_id == verdict_id
        )
        rows = await self._rows(place, {})
        return bool(rows) and (await self._following()).knows(rows[0].seq, verdict_id)

    async def _page(self, council: str, before: int) -> _Page | None:
        """Decisions of a council before a place in the journal, the newest first; None when there is none."""
        wanted = _BEFORE.where(_CONCLUDED) if council == _SHADOW else _BEFORE
        async with self._db.read() as session:
            about = {"of_account": self._account, "before": before, "of_council": council}
            rows = (await session.execute(wanted, about)).all()
            if not rows:
                return None
            ids = [row.verdict_id for row in rows]
            named = {"of_account": self._account, "of_verdicts": ids}
            twins = (await session.execute(_TWINS, named)).all()
            calls = (await session.execute(_EFFORTS, named)).all()
            opinions = await self._journaled(session, _HEARINGS, ids, OpinionReached)
            shadows = await self._journaled(session, _SHADOWS, ids, ShadowEnded)
        return _Page(verdicts=rows, twins=twins, calls=calls, opinions=opinions, shadows=shadows)

    async def _journaled(self, session: Reader, table: Any, ids: list[int], kind: type[Event]) -> Sequence[Any]:
        """The journal's own rows of one kind that a table drawn from it has of these decisions."""
        same = (_JOURNAL.c.account == table.c.account) & (_JOURNAL.c.seq == table.c.seq)
        joined = select(_JOURNAL.c.type, _JOURNAL.c.body).join_from(table, _JOURNAL, same)
        ours = (table.c.account == self._account, table.c.verdict_id.in_(ids), _JOURNAL.c.type == kind.__name__)
        return (await session.execute(joined.where(*ours))).all()

    async def _rows(self, wanted: Select[Any], values: Mapping[str, Any]) -> Sequence[Any]:
        async with self._db.read() as session:
            return (await session.execute(wanted, values)).all()


@dataclass(frozen=True, slots=True)
class _Following:
    """Which candidates without an end are still followed: as `Book.restored` and the events after it have it.

    `seq` is how far the snapshot goes, `named` are those that it follows. A snapshot from before candidates were
    followed names none.
    """

    seq: int = 0
    named: frozenset[int] = frozenset()

    def knows(self, seq: int, verdict_id: int) -> bool:
        """Is the candidate followed that was decided at this place in the journal?"""
        return seq > self.seq or verdict_id in self.named


def _read_book(rows: Sequence[Any]) -> _Following:
    for row in rows:
        return _Following(row.seq, frozenset(map(int, json.loads(row.state).get("followed", {}))))
    return _Following()


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

    def judged(self, following: _Following) -> list[tuple[int, Judged]]:
        """Those that reached their council, in their order, with their places in the journal."""
        opinions = {each.verdict_id: each for each in _of(OpinionReached, _decoded(self.opinions))}
        shadows = {each.verdict_id: each for each in _of(ShadowEnded, _decoded(self.shadows))}
        files = _files(self.twins, self.calls)
        found: list[tuple[int, Judged]] = []
        for row, verdict in zip(self.verdicts, _of(VerdictReached, _decoded(self.verdicts)), strict=True):
            number = verdict.verdict_id
            case = _Case(
                verdict,
                opinions.get(number),
                shadows.get(number),
                files.get(number, _File()),
                following.knows(row.seq, number),
            )
            if (judged := case.of_models() if verdict.council == _SHADOW else case.of_council()) is not None:
                found.append((row.seq, judged))
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
    followed: bool

    def of_council(self) -> Judged | None:
        """As the council that decided judged it; None when it was not asked."""
        verdict = self.verdict
        if not verdict.answers:
            return None
        others = {each.council: _weight(each.approved, each.size_modifier) for each in verdict.opinions}
        file = self.file if verdict.council in _VOICES else _File()
        return self._judged(_allowed(verdict, file), verdict.answers, file, others)

    def of_models(self) -> Judged | None:
        """As the models judged it beside the rules; None when they did not."""
        opinion = self.opinion
        if opinion is None:
            return None
        weight = _weight(opinion.approved, opinion.size_modifier)
        return self._judged(weight, opinion.answers, self.file, {"rules": _allowed(self.verdict, _File())})

    def _judged(
        self, weight: float, answers: tuple[AgentAnswer, ...], file: _File, others: Mapping[str, float]
    ) -> Judged:
        verdict, shadow = self.verdict, self.shadow
        gone = shadow is not None and shadow.ended == "lost"
        return Judged(
            verdict_id=verdict.verdict_id,
            at=millis(verdict.at),
            symbol=verdict.symbol,
            side=verdict.side.value,
            council=verdict.council,
            weight=weight,
            r=None if shadow is None else shadow.r,
            ended=shadow is not None and not gone,
            lost=gone or (shadow is None and not self.followed),
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
    named = next((each for each in verdict.answers if each.agent == RISK_MANAGER), None)
    share = (named_size(named) if named else None) or 0.0
    return share * TWIN_SHARE if file.missing else share


def _ballot(answer: AgentAnswer, side: Side, file: _File) -> Ballot:
    effort, failed = file.efforts.get(answer.agent), file.missing.get(answer.agent)
    return ballot_of(
        answer,
        side,
        failed=failed or "",
        seconds=effort.milliseconds / 1000 if effort else None,
        cost_usd=float(effort.cost) if effort else 0.0,
    )


def _billed(rows: Sequence[Judged], bills: Sequence[AgentCost]) -> list[Judged]:
    """The rows with what was paid: a day's bill on its first candidate or the next one, what came later on the last."""
    days = [utc(row.at).date() for row in rows]
    placed: defaultdict[int, list[AgentCost]] = defaultdict(list)
    for bill in bills:
        placed[min(bisect_left(days, bill.day), len(rows) - 1)].append(bill)
    return [replace(row, bills=tuple(placed[place])) for place, row in enumerate(rows)]


def _add_costs(sums: dict[tuple[date, str], AgentCost], rows: Sequence[Any], council: str | None) -> None:
    for row in rows:
        if council is not None and council != _asked_by(row):
            continue
        day = row.at.astimezone(UTC).date()
        bill = AgentCost(
            day=day,
            agent=row.agent,
            calls=1,
            unreported=row.tokens_in is None and row.tokens_out is None,
            tokens_in=row.tokens_in or 0,
            tokens_out=row.tokens_out or 0,
            cost_usd=row.cost_usd,
        )
        sums[day, row.agent] = added(sums.get((day, row.agent)), bill)


def _asked_by(row: Any) -> str:
    """The council that a call was made for."""
    if row.council is not None:
        return str(row.council)
    return next((event.council for event in _of(AgentAnswered, [decode(row.type, row.body)])), "")


def _decoded(rows: Sequence[Any]) -> list[Event]:
    return [decode(row[0], row[1]) for row in rows]


def _of(kind: type[T], events: Iterable[Event]) -> list[T]:
    return [event for event in events if isinstance(event, kind)]
