"""What people, cards and reports ask of the past. Reading never waits for the writer.

Events come out of the journal itself; the tables drawn from it only say where to look, so that a figure in a
report is one that the hash chain covers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, Integer, Select, bindparam, func, select, type_coerce
from sqlmodel import col

from storage import tables
from storage.codec import decode
from storage.database import Database
from storage.reports import Funnel, counted, summed
from trading.events import (
    CandidateProposed,
    CashAdjusted,
    EdgeDropped,
    Event,
    FundingPaid,
    OrderCancelled,
    OrderDoubted,
    OrderFilled,
    OrderIntended,
    OrderRefused,
    SettingsChanged,
    ShadowEnded,
    StopMoved,
    TradeClosed,
    TradingPaused,
    TradingResumed,
    VerdictReached,
)
from trading.model import EPOCH, ZERO, BoolArray, FloatArray, IntArray

_JOURNAL: Final = tables.table(tables.Journal)
_VERDICTS: Final = tables.table(tables.Verdicts)
_TRADES: Final = tables.table(tables.Trades)
_EXECUTIONS: Final = tables.table(tables.Executions)
_EQUITY: Final = tables.table(tables.Equity)
_SHADOWS: Final = tables.table(tables.Shadows)
_COUNTED: Final = (
    tables.Journal,
    tables.Verdicts,
    tables.Intents,
    tables.Executions,
    tables.Trades,
    tables.Equity,
    tables.Outbox,
)
_PAGE: Final = 500
_CURVE_PAGE: Final = 5_000  # fetched and converted beside the loop, which is held for about 2 ms
_PAID_PAGE: Final = 2_000  # added up on the loop in about 1 ms
_SCAN: Final = 20_000  # journal rows looked through in about 10 ms: no reader is held longer
_FIRST_SCAN: Final = 500  # a trade is rarely longer
_STORY: Final = (
    *(OrderIntended, OrderRefused, OrderDoubted, OrderCancelled, OrderFilled, FundingPaid, StopMoved, TradeClosed),
)
_ENDINGS: Final = {"closed": TradeClosed, "cancelled": OrderCancelled, "refused": OrderRefused}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EquityCurve:
    """The account at every close, oldest first: `time` in ms UTC, `equity` in USDT."""

    time: IntArray
    equity: FloatArray
    exposed: BoolArray

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A decision and what came of it: `outcome` is one of `projections.VERDICT_OUTCOMES`.

    `events` are its orders, fills, funding, stop moves and its finished trade, in order. `shadow` is how it would have
    ended by the rules alone, traded or not; None while it has not.
    """

    verdict: VerdictReached
    outcome: str
    events: tuple[Event, ...] = ()
    shadow: ShadowEnded | None = None

    @property
    def fate(self) -> str:
        """The outcome, where an entry that was cancelled after a part of it had been filled was filled."""
        return "filled" if self.fills and self.outcome in {"cancelled", "refused"} else self.outcome

    @property
    def fills(self) -> tuple[OrderFilled, ...]:
        """Its executions."""
        return tuple(event for event in self.events if isinstance(event, OrderFilled))

    @property
    def trade(self) -> TradeClosed | None:
        """Its finished trade; None while there is none."""
        return next((event for event in self.events if isinstance(event, TradeClosed)), None)

    @property
    def fees(self) -> Decimal:
        """Fees paid so far."""
        return sum((fill.fee for fill in self.fills), ZERO)

    @property
    def funding(self) -> Decimal:
        """Funding paid so far, negative when received."""
        return sum((event.amount for event in self.events if isinstance(event, FundingPaid)), ZERO)


_PAID: Final = (
    select(_EXECUTIONS.c.seq, _EXECUTIONS.c.fee, _EXECUTIONS.c.funding)
    .where(_EXECUTIONS.c.account == bindparam("of_account"), _EXECUTIONS.c.seq > bindparam("after"))
    .order_by(_EXECUTIONS.c.seq)
    .limit(_PAID_PAGE)
)
_CURVE: Final = (
    select(
        _EQUITY.c.seq,
        type_coerce(_EQUITY.c.at, BigInteger),
        _EQUITY.c.equity,
        type_coerce(_EQUITY.c.exposed, Integer),
    )
    .where(
        _EQUITY.c.account == bindparam("of_account"),
        _EQUITY.c.seq > bindparam("after"),
        _EQUITY.c.at >= bindparam("since", type_=_EQUITY.c.at.type),
    )
    .order_by(_EQUITY.c.seq)
    .limit(_CURVE_PAGE)
)


class Records:
    """The past of one account."""

    def __init__(self, db: Database, account: str) -> None:
        self._db = db
        self._account = account

    async def verdicts(self, limit: int | None = None) -> list[VerdictReached]:
        """Decisions, newest first."""
        found = await self._events(self._joined(_VERDICTS).order_by(_VERDICTS.c.seq.desc()).limit(limit))
        return [event for event in found if isinstance(event, VerdictReached)]

    async def verdict(self, verdict_id: int) -> VerdictReached | None:
        """One decision; None when there is none of this number."""
        found = await self._events(self._joined(_VERDICTS).where(_VERDICTS.c.verdict_id == verdict_id))
        return next((event for event in found if isinstance(event, VerdictReached)), None)

    async def outcome(self, verdict_id: int) -> str | None:
        """What became of a decision: one of `projections.VERDICT_OUTCOMES`; None for an unknown number."""
        wanted = select(_VERDICTS.c.outcome).where(
            _VERDICTS.c.account == self._account, _VERDICTS.c.verdict_id == verdict_id
        )
        async with self._db.read() as session:
            return (await session.execute(wanted)).scalar()

    async def decisions(self, limit: int | None = None) -> list[tuple[VerdictReached, str]]:
        """Decisions with what became of each, newest first."""
        wanted = self._joined(_VERDICTS).add_columns(_VERDICTS.c.outcome).order_by(_VERDICTS.c.seq.desc()).limit(limit)
        rows = await self._rows(wanted, {})
        found = await asyncio.to_thread(_decoded, rows)
        return [(event, row[3]) for event, row in zip(found, rows, strict=True) if isinstance(event, VerdictReached)]

    async def story(self, verdict_id: int) -> Story | None:
        """A decision with all that came of it; None when there is none of this number."""
        wanted = self._joined(_VERDICTS).add_columns(_VERDICTS.c.outcome).where(_VERDICTS.c.verdict_id == verdict_id)
        for seq, kind, body, outcome in await self._rows(wanted, {}):
            verdict = decode(kind, body)
            if isinstance(verdict, VerdictReached):
                events = await self._story(verdict, outcome, seq) if outcome != "rejected" else ()
                shadow = (await self.shadows([verdict_id])).get(verdict_id)
                return Story(verdict=verdict, outcome=outcome, events=tuple(events), shadow=shadow)
        return None

    async def shadows(self, ids: Iterable[int]) -> dict[int, ShadowEnded]:
        """How these candidates would have ended, by decision number; who has not ended is missing."""
        wanted, found = list(ids), list[Event]()
        for start in range(0, len(wanted), _PAGE):
            named = _SHADOWS.c.verdict_id.in_(wanted[start : start + _PAGE])
            found += await asyncio.to_thread(_decoded, await self._rows(self._joined(_SHADOWS).where(named), {}))
        return {event.verdict_id: event for event in found if isinstance(event, ShadowEnded)}

    async def _story(self, verdict: VerdictReached, outcome: str, seq: int) -> list[Event]:
        """From the decision on, until it is over; an open one goes on to the end of the journal.

        Cancelled after a part had been filled, it is not over: a position is open.
        """
        found: list[Event] = []
        async for event in self._scan(*_STORY, after=seq):
            number = getattr(event, "verdict_id", None)
            ours = number == verdict.verdict_id
            filled = any(isinstance(each, OrderFilled) for each in found)
            if isinstance(event, FundingPaid):
                ours = filled and event.symbol == verdict.symbol
            if ours:
                found.append(event)
                if isinstance(event, _ENDINGS.get(outcome, ())) and not (filled and outcome != "closed"):
                    break
        return found

    async def trades(self, limit: int | None = None) -> list[TradeClosed]:
        """Finished trades, newest first."""
        found = await self._events(self._joined(_TRADES).order_by(_TRADES.c.seq.desc()).limit(limit))
        return [event for event in found if isinstance(event, TradeClosed)]

    async def trades_oldest_first(self) -> AsyncIterator[TradeClosed]:
        """Every finished trade, oldest first, read in pages: memory stays flat."""
        after = 0
        while True:
            wanted = self._joined(_TRADES).where(_TRADES.c.seq > after).order_by(_TRADES.c.seq).limit(_PAGE)
            async with self._db.read() as session:
                rows = (await session.execute(wanted)).all()
            if not rows:
                return
            for _, kind, body in rows:
                event = decode(kind, body)
                if isinstance(event, TradeClosed):
                    yield event
            after = rows[-1][0]

    async def trade_pages(self, since: datetime = EPOCH) -> AsyncIterator[Sequence[TradeClosed]]:
        """Trades finished from a market time on, oldest first, in pages; the loop is held for none of them."""
        async for page in self._pages(_TRADES, since):
            yield [event for event in page if isinstance(event, TradeClosed)]

    async def fees_and_funding(self) -> tuple[Decimal, Decimal]:
        """All that was paid so far, open positions included; funding is negative when more was received."""
        fees, funding, after = ZERO, ZERO, 0
        while rows := await self._rows(_PAID, {"of_account": self._account, "after": after}):
            for _, amount, is_funding in rows:
                if is_funding:
                    funding = summed(funding, amount)
                else:
                    fees = summed(fees, amount)
            after = rows[-1][0]
        return fees, funding

    async def moved_money(self, since: datetime = EPOCH) -> Decimal:
        """Deposits less withdrawals from a market time on."""
        total = ZERO
        async for event in self._scan(CashAdjusted):
            if isinstance(event, CashAdjusted) and event.at >= since:
                total = summed(total, event.amount)
        return total

    async def settings_changes(self) -> list[SettingsChanged]:
        """Every change of settings, oldest first."""
        return [event async for event in self._scan(SettingsChanged) if isinstance(event, SettingsChanged)]

    async def first_marked(self) -> datetime | None:
        """The first close on record; None before it."""
        wanted = select(_EQUITY.c.at).where(_EQUITY.c.account == self._account).order_by(_EQUITY.c.seq).limit(1)
        rows = await self._rows(wanted, {})
        return rows[0][0] if rows else None

    async def equity_before(self, at: datetime) -> float | None:
        """The equity at the last close before a market time; None when there is none."""
        earlier = select(_EQUITY.c.equity).where(_EQUITY.c.account == self._account, _EQUITY.c.at < at)
        rows = await self._rows(earlier.order_by(_EQUITY.c.seq.desc()).limit(1), {})
        return rows[0][0] if rows else None

    async def funnel(self, symbol: str | None = None) -> Funnel:
        """How many signals died where, of one symbol or of all."""
        fate = (_VERDICTS.c.approved, _VERDICTS.c.gate, _VERDICTS.c.outcome)
        wanted = select(*fate, func.count()).where(_VERDICTS.c.account == self._account).group_by(*fate)
        rows = await self._rows(wanted if symbol is None else wanted.where(_VERDICTS.c.symbol == symbol), {})
        dropped = [
            (event.reason, 1)
            async for event in self._scan(EdgeDropped)
            if isinstance(event, EdgeDropped) and symbol in {None, event.symbol}
        ]
        return Funnel(
            dropped=counted(dropped),
            rejected=counted((gate, count) for approved, gate, _, count in rows if not approved),
            outcomes=counted((outcome, count) for approved, _, outcome, count in rows if approved),
        )

    async def equity_curve(self, since: datetime = EPOCH) -> EquityCurve:
        """The equity curve from a market time on; empty arrays when nothing was marked yet."""
        pages: list[tuple[IntArray, FloatArray, BoolArray]] = []
        wanted: dict[str, Any] = {"of_account": self._account, "after": 0, "since": since}
        while rows := await self._rows(_CURVE, wanted):
            pages.append(await asyncio.to_thread(_columns, rows))
            wanted["after"] = rows[-1][0]
        if not pages:
            return EquityCurve(time=np.empty(0, np.int64), equity=np.empty(0), exposed=np.empty(0, np.bool_))
        times_, equities, flags = zip(*pages, strict=True)
        return EquityCurve(
            time=np.concatenate(times_), equity=np.concatenate(equities), exposed=np.concatenate(flags)
        )

    async def executions(self) -> Sequence[tables.Executions]:
        """Every fill and funding payment, oldest first."""
        wanted = select(tables.Executions).where(col(tables.Executions.account) == self._account)
        async with self._db.read() as session:
            return (await session.scalars(wanted.order_by(col(tables.Executions.seq)))).all()

    async def intents(self, *states: str) -> Sequence[tables.Intents]:
        """Every intent, oldest first; with `states`, those in one of them."""
        wanted = select(tables.Intents).where(col(tables.Intents.account) == self._account)
        if states:
            wanted = wanted.where(col(tables.Intents.state).in_(states))
        async with self._db.read() as session:
            return (await session.scalars(wanted.order_by(col(tables.Intents.seq)))).all()

    async def counts(self) -> dict[str, int]:
        """How many rows each table holds of this account."""
        found: dict[str, int] = {}
        async with self._db.read() as session:
            for model in _COUNTED:
                table = tables.table(model)
                wanted = select(func.count()).select_from(table).where(table.c.account == self._account)
                found[table.name] = (await session.execute(wanted)).scalar_one()
        return found

    async def _pages(self, table: Any, since: datetime) -> AsyncIterator[list[Event]]:
        """The journal's rows of a table drawn from it, oldest first, decoded beside the loop."""
        after = 0
        late = self._joined(table).where(table.c.at >= since).order_by(table.c.seq).limit(_PAGE)
        while rows := await self._rows(late.where(table.c.seq > after), {}):
            yield await asyncio.to_thread(_decoded, rows)
            after = rows[-1][0]

    async def _scan(self, *kinds: type[Event], after: int = 0) -> AsyncIterator[Event]:
        """Every event of some kinds, oldest first. The journal has no index on kinds: it is looked through."""
        names = [kind.__name__ for kind in kinds]
        ours = _JOURNAL.c.account == self._account
        last = (await self._rows(select(func.max(_JOURNAL.c.seq)).where(ours), {}))[0][0] or 0
        columns = select(_JOURNAL.c.seq, _JOURNAL.c.type, _JOURNAL.c.body).where(ours, _JOURNAL.c.type.in_(names))
        rows = _FIRST_SCAN
        while after < last:
            part = columns.where(_JOURNAL.c.seq > after, _JOURNAL.c.seq <= after + rows).order_by(_JOURNAL.c.seq)
            for event in await asyncio.to_thread(_decoded, await self._rows(part, {})):
                yield event
            after, rows = after + rows, min(4 * rows, _SCAN)

    def _joined(self, table: Any) -> Select[Any]:
        """The journal's own rows of a table drawn from it."""
        same = (_JOURNAL.c.account == table.c.account) & (_JOURNAL.c.seq == table.c.seq)
        joined = select(_JOURNAL.c.seq, _JOURNAL.c.type, _JOURNAL.c.body).join_from(table, _JOURNAL, same)
        return joined.where(table.c.account == self._account)

    async def _events(self, wanted: Select[Any]) -> list[Event]:
        return [decode(kind, body) for _, kind, body in await self._rows(wanted, {})]

    async def _rows(self, wanted: Select[Any], values: dict[str, Any]) -> Sequence[Any]:
        async with self._db.read() as session:
            rows: Sequence[Any] = (await session.execute(wanted, values)).all()
        return rows


def _decoded(rows: Sequence[Any]) -> list[Event]:
    return [decode(row[1], row[2]) for row in rows]


def _columns(rows: Sequence[Any]) -> tuple[IntArray, FloatArray, BoolArray]:
    """Times in ms, equity and exposure of a page of the curve."""
    _, times, equity, exposed = zip(*rows, strict=True)
    return np.array(times, np.int64) // 1000, np.array(equity, np.float64), np.array(exposed, np.bool_)


async def paused_last(db: Database) -> bool:
    """Whether the newest word on pausing, over all accounts of the database, is that it is paused."""
    words = (TradingPaused.__name__, TradingResumed.__name__)
    wanted = select(_JOURNAL.c.type).where(_JOURNAL.c.type.in_(words)).order_by(_JOURNAL.c.recorded_at.desc()).limit(1)
    async with db.read() as session:
        return (await session.execute(wanted)).scalar() == TradingPaused.__name__


async def last_account(db: Database) -> str | None:
    """The account that was decided on last, or is being decided on; None where nothing has been proposed yet."""
    decided = _JOURNAL.c.type.in_([VerdictReached.__name__, CandidateProposed.__name__])
    wanted = select(_JOURNAL.c.account).where(decided).order_by(_JOURNAL.c.recorded_at.desc()).limit(1)
    async with db.read() as session:
        account: str | None = (await session.execute(wanted)).scalar()
        return account
