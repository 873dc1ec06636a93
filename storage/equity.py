"""The account over time, finer than its closes: samples between them, and what one day brought.

Samples are for eyes: nothing is decided by them and no figure of a report comes from them. What a day brought is
read out of the journal itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
from sqlalchemy import BigInteger, Table, Text, bindparam, func, select, type_coerce
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from storage.codec import decode
from storage.database import Database, Reader
from storage.queries import EquityCurve
from storage.reports import Totals, midnight, summed
from trading.events import Event, FundingPaid, OrderFilled, SessionStarted, TradeClosed
from trading.model import EPOCH, ZERO

_SAMPLES: Final = tables.table(tables.Samples)
_JOURNAL: Final = tables.table(tables.Journal)
_TRADES: Final = tables.table(tables.Trades)
_EXECUTIONS: Final = tables.table(tables.Executions)
_VERDICTS: Final = tables.table(tables.Verdicts)

_PAGE: Final = 5_000  # converted in a few milliseconds: the loop is not held longer
_ADD: Final = insert(_SAMPLES).on_conflict_do_nothing()
_SINCE: Final = _SAMPLES.c.at >= bindparam("since", type_=_SAMPLES.c.at.type)
_OURS: Final = _SAMPLES.c.account == bindparam("of_account")
_LATEST: Final = select(_SAMPLES).where(_OURS).order_by(_SAMPLES.c.at.desc()).limit(1)
_AMOUNTS: Final = (_SAMPLES.c.equity, _SAMPLES.c.cash)
_CURVE: Final = (
    select(type_coerce(_SAMPLES.c.at, BigInteger), *(type_coerce(each, Text) for each in _AMOUNTS))
    .where(_OURS, type_coerce(_SAMPLES.c.at, BigInteger) > bindparam("after"), _SINCE)
    .order_by(_SAMPLES.c.at)
    .limit(_PAGE)
)
_FIRST: Final = (
    select(_JOURNAL.c.at)
    .where(_JOURNAL.c.account == bindparam("of_account"), _JOURNAL.c.type == SessionStarted.__name__)
    .order_by(_JOURNAL.c.seq)
    .limit(1)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The account in USDT at market time `at`: `equity` counts the open positions at the last prices."""

    at: datetime
    equity: Decimal
    cash: Decimal

    @property
    def unrealised(self) -> Decimal:
        """Profit of the open positions."""
        return self.equity - self.cash


class EquitySamples:
    """The samples of one account."""

    def __init__(self, db: Database, account: str) -> None:
        self._db = db
        self._account = account

    async def add(self, sample: Sample) -> bool:
        """Commit a sample; False, and nothing is written, when its moment has one already."""
        values = {"account": self._account, "at": sample.at, "equity": sample.equity, "cash": sample.cash}
        return await self._db.write(lambda connection: connection.execute(_ADD, values).rowcount == 1)

    async def latest(self) -> Sample | None:
        """The newest sample, None when there is none."""
        async with self._db.read() as session:
            row = (await session.execute(_LATEST, {"of_account": self._account})).first()
        return None if row is None else Sample(at=row.at, equity=row.equity, cash=row.cash)

    async def curve(self, since: datetime = EPOCH) -> EquityCurve:
        """The samples from a market time on, oldest first; exposed is one with unrealised profit or loss."""
        wanted: dict[str, Any] = {"of_account": self._account, "after": -1, "since": since}
        times: list[int] = []
        values: list[float] = []
        exposed: list[bool] = []
        async with self._db.read() as session:
            while rows := (await session.execute(_CURVE, wanted)).all():
                times += [at // 1000 for at, _, _ in rows]
                values += [float(equity) for _, equity, _ in rows]
                exposed += [equity != cash for _, equity, cash in rows]
                wanted["after"] = rows[-1][0]
        return EquityCurve(
            time=np.array(times, np.int64), equity=np.array(values, np.float64), exposed=np.array(exposed, np.bool_)
        )


def refined(closes: EquityCurve, samples: EquityCurve) -> EquityCurve:
    """Closes and samples as one curve, oldest first, each moment once: where both know it, the close counts."""
    time = np.concatenate([samples.time, closes.time])
    order = np.argsort(time, kind="stable")
    last = np.append(np.diff(time[order]) != 0, np.ones(min(len(time), 1), np.bool_))
    order = order[last]
    equity = np.concatenate([samples.equity, closes.equity])
    exposed = np.concatenate([samples.exposed, closes.exposed])
    return EquityCurve(time=time[order], equity=equity[order], exposed=exposed[order])


@dataclass(frozen=True, slots=True, kw_only=True)
class DayRecord:
    """One UTC day of market time: the trades that were closed in it, the decisions, and what was paid (USDT).

    `fees` and `funding` are of every fill and settlement of the day, open positions included; positive when paid.
    """

    day: date
    trades: Totals = field(default_factory=Totals)
    approved: int = 0
    rejected: int = 0
    fees: Decimal = ZERO
    funding: Decimal = ZERO


class Days:
    """The days of one account."""

    def __init__(self, db: Database, account: str) -> None:
        self._db = db
        self._account = account

    async def first(self) -> date | None:
        """The UTC day of the first session; None before it."""
        async with self._db.read() as session:
            at: datetime | None = (await session.execute(_FIRST, {"of_account": self._account})).scalar()
        return None if at is None else at.astimezone(UTC).date()

    async def record(self, day: date) -> DayRecord:
        """What a day brought, all of it of one consistent state; zeros for a day on which nothing happened."""
        totals, fees, funding = Totals(), ZERO, ZERO
        async with self._db.read() as session:
            for event in await self._events(session, _TRADES, day):
                if isinstance(event, TradeClosed):
                    totals.add(event)
            for event in await self._events(session, _EXECUTIONS, day):
                if isinstance(event, OrderFilled):
                    fees = summed(fees, event.fee)
                elif isinstance(event, FundingPaid):
                    funding = summed(funding, event.amount)
            decided = await self._decided(session, day)
        return DayRecord(
            day=day,
            trades=totals,
            approved=decided.get(True, 0),
            rejected=decided.get(False, 0),
            fees=fees,
            funding=funding,
        )

    async def _events(self, session: Reader, table: Table, day: date) -> list[Event]:
        """The journal's own rows of what a table drawn from it has of the day."""
        same = (_JOURNAL.c.account == table.c.account) & (_JOURNAL.c.seq == table.c.seq)
        wanted = select(_JOURNAL.c.type, _JOURNAL.c.body).join_from(table, _JOURNAL, same)
        rows = await session.execute(wanted.where(*self._of(table, day)).order_by(table.c.seq))
        return [decode(kind, body) for kind, body in rows]

    async def _decided(self, session: Reader, day: date) -> dict[bool, int]:
        """Decisions by whether they were approved."""
        wanted = select(_VERDICTS.c.approved, func.count()).where(*self._of(_VERDICTS, day))
        rows = await session.execute(wanted.group_by(_VERDICTS.c.approved))
        return {row[0]: row[1] for row in rows}

    def _of(self, table: Table, day: date) -> tuple[Any, ...]:
        start, end = midnight(day), midnight(day + timedelta(days=1))
        return table.c.account == self._account, table.c.at >= start, table.c.at < end
