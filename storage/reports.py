"""Finished trades and the equity curve, summed up: pure reductions, fed trade by trade, so that memory stays flat.

Days, ISO weeks and months are UTC, in market time, as the loss limits count them. Money is summed exactly; what is
undefined (a win rate without trades, a profit factor without losses) is None, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from typing import Final, Generic, Literal, TypeVar

import numpy as np

from trading.events import TradeClosed
from trading.model import ZERO, FloatArray

Period = Literal["day", "week", "month"]
K = TypeVar("K", str, date)

_EXACT: Final = Context(prec=400)  # digits: no sum of amounts is ever rounded


def summed(one: Decimal, other: Decimal) -> Decimal:
    """The exact sum, whatever the digits."""
    return _EXACT.add(one, other)


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over finished trades: money in USDT, fees and funding positive when paid. A win is a profit above zero."""

    trades: int = 0
    wins: int = 0
    pnl: Decimal = ZERO
    gains: Decimal = ZERO
    losses: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    r: float = 0.0
    best: TradeClosed | None = None
    worst: TradeClosed | None = None

    def add(self, trade: TradeClosed) -> None:
        """One more trade."""
        self.trades += 1
        self.pnl = summed(self.pnl, trade.pnl)
        self.fees = summed(self.fees, trade.fees)
        self.funding = summed(self.funding, trade.funding)
        self.r += trade.r
        if trade.pnl > 0:
            self.wins += 1
            self.gains = summed(self.gains, trade.pnl)
        else:
            self.losses = summed(self.losses, trade.pnl)
        if self.best is None or trade.pnl > self.best.pnl:
            self.best = trade
        if self.worst is None or trade.pnl < self.worst.pnl:
            self.worst = trade

    @property
    def win_rate(self) -> float | None:
        """Winning trades of all; None without a trade."""
        return self.wins / self.trades if self.trades else None

    @property
    def profit_factor(self) -> float | None:
        """Gains over losses; None while nothing was lost."""
        return float(self.gains / -self.losses) if self.losses < 0 else None

    @property
    def expectancy_r(self) -> float | None:
        """The mean result of a trade in R; None without a trade."""
        return self.r / self.trades if self.trades else None


class Tally(Generic[K]):
    """Totals by a key of the trade: its period, its symbol, the reason of its exit."""

    def __init__(self, key: Callable[[TradeClosed], K]) -> None:
        self._key: Callable[[TradeClosed], K] = key
        self.groups: dict[K, Totals] = {}

    def add(self, trade: TradeClosed) -> None:
        """One more trade, to its group."""
        self.groups.setdefault(self._key(trade), Totals()).add(trade)

    def ranked(self) -> list[tuple[K, Totals]]:
        """Every group, the best result first; equal ones by name."""
        return sorted(self.groups.items(), key=lambda each: (-each[1].pnl, each[0]))


def by_symbol() -> Tally[str]:
    """An empty tally of symbols."""
    return Tally(lambda trade: trade.symbol)


def by_reason() -> Tally[str]:
    """An empty tally of exit reasons."""
    return Tally(lambda trade: trade.exit_reason.value)


def by_period(period: Period) -> Tally[date]:
    """An empty tally of periods, by their first day."""
    return Tally(lambda trade: first_day(trade.at, period))


def first_day(at: datetime, period: Period) -> date:
    """The day on which the UTC day, ISO week or month of `at` begins."""
    day = at.astimezone(UTC).date()
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def midnight(day: date) -> datetime:
    """The moment at which a UTC day begins."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def last_periods(at: datetime, period: Period, count: int) -> list[date]:
    """First days of the last `count` periods, oldest first; the last one is that of `at`."""
    days = [first_day(at, period)]
    while len(days) < count:
        before = midnight(days[-1]) - timedelta(days=1)
        days.append(first_day(before, period))
    return days[::-1]


def drawdown(equity: FloatArray, start: float | None = None) -> float | None:
    """The deepest fall below an earlier peak, as a fraction of that peak. `start`: the equity before the first value.

    None when there is no value, or no peak above zero to fall from.
    """
    values = equity if start is None else np.concatenate(([start], equity))
    if not len(equity) or not np.isfinite(values).all():
        return None
    peak = np.maximum.accumulate(values)
    above = peak > 0
    return float(np.max((peak[above] - values[above]) / peak[above])) if above.any() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """How many signals died where. `dropped`: edges that could not count, by reason; `rejected`: decisions, by gate;
    `outcomes`: approved decisions, by what became of them (`projections.VERDICT_OUTCOMES`)."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, int] = field(default_factory=dict)
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def decided(self) -> int:
        """Signals that became a candidate: each got a verdict."""
        return sum(self.rejected.values()) + self.approved

    @property
    def approved(self) -> int:
        """Decisions for the trade."""
        return sum(self.outcomes.values())

    @property
    def signals(self) -> int:
        """All of them. An edge seen again after a restart (`decided`) has its verdict already and is not one more."""
        return self.decided + sum(count for reason, count in self.dropped.items() if reason != "decided")

    def became(self, *outcomes: str) -> int:
        """Approved decisions with one of these outcomes."""
        return sum(self.outcomes.get(outcome, 0) for outcome in outcomes)


def counted(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Counts added up by name, the largest first."""
    sums: dict[str, int] = {}
    for name, count in pairs:
        sums[name] = sums.get(name, 0) + count
    return dict(sorted(sums.items(), key=lambda each: (-each[1], each[0])))
