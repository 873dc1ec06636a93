"""What people, cards and reports ask of the past. Reading never waits for the writer.

Events come out of the journal itself; the tables drawn from it only say where to look, so that a figure in a
report is one that the hash chain covers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, Integer, Select, bindparam, func, select, type_coerce
from sqlmodel import col

from storage import tables
from storage.codec import decode
from storage.database import Database
from trading.events import Event, TradeClosed, TradingPaused, TradingResumed, VerdictReached
from trading.model import EPOCH, BoolArray, FloatArray, IntArray

_JOURNAL: Final = tables.table(tables.Journal)
_VERDICTS: Final = tables.table(tables.Verdicts)
_TRADES: Final = tables.table(tables.Trades)
_EQUITY: Final = tables.table(tables.Equity)
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
_CURVE_PAGE: Final = 5_000  # converted in about 10 ms: the loop is not held longer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EquityCurve:
    """The account at every close, oldest first: `time` in ms UTC, `equity` in USDT."""

    time: IntArray
    equity: FloatArray
    exposed: BoolArray

    def __len__(self) -> int:
        return len(self.time)


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

    async def equity_curve(self, since: datetime = EPOCH) -> EquityCurve:
        """The equity curve from a market time on; empty arrays when nothing was marked yet."""
        pages: list[tuple[IntArray, FloatArray, BoolArray]] = []
        wanted: dict[str, Any] = {"of_account": self._account, "after": 0, "since": since}
        while rows := await self._rows(_CURVE, wanted):
            seqs, times, equity, exposed = zip(*rows, strict=True)
            ms = np.array(times, np.int64) // 1000
            pages.append((ms, np.array(equity, np.float64), np.array(exposed, np.bool_)))
            wanted["after"] = seqs[-1]
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


async def paused_last(db: Database) -> bool:
    """Whether the newest word on pausing, over all accounts of the database, is that it is paused."""
    words = (TradingPaused.__name__, TradingResumed.__name__)
    wanted = select(_JOURNAL.c.type).where(_JOURNAL.c.type.in_(words)).order_by(_JOURNAL.c.recorded_at.desc()).limit(1)
    async with db.read() as session:
        return (await session.execute(wanted)).scalar() == TradingPaused.__name__
