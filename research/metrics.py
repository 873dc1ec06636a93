"""What a run was worth: the table of `spec/strategy.md`, from an equity curve and the trades' totals.

A `Tape` records a run as it happens. It keeps one float64 per bar and running totals of the trades, so that its
memory does not grow with them. Whatever is undefined is None, never 0 and never infinite.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

import numpy as np

from trading.errors import BadInput
from trading.events import TradeClosed
from trading.model import ZERO, FloatArray

Metrics = dict[str, float | int | None]

YEAR = timedelta(days=365)


@dataclass(slots=True, kw_only=True)
class Totals:
    """Sums over closed trades (`gains`, `losses`: net profits above and below zero, USDT) and over everything
    that was paid, open position included (`fees`, `funding`: positive when paid). `exposed`: bars with a position.
    """

    trades: int = 0
    wins: int = 0
    gains: float = 0.0
    losses: float = 0.0
    r_multiples: float = 0.0
    exposed: int = 0
    fees: float = 0.0
    funding: float = 0.0


class Tape:
    """The record of one run. Fees and funding are told as they are paid, a trade only adds its result."""

    def __init__(self) -> None:
        self._equity = array("d")
        self._exposed = 0
        self._trades = 0
        self._wins = 0
        self._gains = self._losses = self._fees = self._funding = ZERO
        self._r_multiples = 0.0

    def mark(self, equity: float, exposed: bool) -> None:
        """The marked equity at a bar's close, and whether the bar closes with a position."""
        self._equity.append(equity)
        self._exposed += exposed

    def trade(self, closed: TradeClosed) -> None:
        """A finished trade; its fees and funding are in its profit already and are not counted here."""
        self._trades += 1
        if closed.pnl > 0:
            self._wins += 1
            self._gains += closed.pnl
        else:
            self._losses += closed.pnl
        self._r_multiples += float(closed.pnl) / float(closed.risk_usdt)

    def fee(self, paid: Decimal) -> None:
        """A fee, at the fill: an open position's entry fee counts as well."""
        self._fees += paid

    def fund(self, paid: Decimal) -> None:
        """Funding at a settlement, negative when received."""
        self._funding += paid

    @property
    def bars(self) -> int:
        """Closes marked so far."""
        return len(self._equity)

    @property
    def equity(self) -> FloatArray:
        """The equity curve so far (a copy)."""
        return np.array(self._equity, dtype=np.float64)

    @property
    def totals(self) -> Totals:
        """The sums so far."""
        return Totals(
            trades=self._trades,
            wins=self._wins,
            gains=float(self._gains),
            losses=float(self._losses),
            r_multiples=self._r_multiples,
            exposed=self._exposed,
            fees=float(self._fees),
            funding=float(self._funding),
        )

    def summary(self, initial_equity: float, interval: timedelta) -> Metrics:
        """The metrics of the run; `BadInput` when fewer than two bars were marked."""
        return metrics(self.equity, self.totals, initial_equity=initial_equity, interval=interval)


def metrics(equity: FloatArray, totals: Totals, *, initial_equity: float, interval: timedelta) -> Metrics:
    """The table of the specification, in its order, for an equity curve marked at every close."""
    if len(equity) < 2:
        raise BadInput(f"metrics need at least 2 bars and there {'is 1' if len(equity) else 'are none'}: add candles")
    with np.errstate(all="ignore"):
        curve = _curve(equity, initial_equity, YEAR / interval)
    count = totals.trades
    table: Metrics = {
        **curve,
        "win_rate": totals.wins / count if count else None,
        "profit_factor": totals.gains / -totals.losses if totals.losses < 0 else None,
        "expectancy_r": totals.r_multiples / count if count else None,
        "trades": count,
        "exposure": totals.exposed / len(equity),
        "fees": totals.fees,
        "funding": totals.funding,
    }
    return {name: value if value is not None and math.isfinite(value) else None for name, value in table.items()}


def _curve(equity: FloatArray, initial: float, bars_per_year: float) -> Metrics:
    """The metrics that the equity curve alone determines; infinite or NaN where they are undefined."""
    before = np.concatenate(([initial], equity[:-1]))
    last = float(equity[-1])
    sharpe = sortino = None
    if equity.min() > 0:
        returns = (equity - before) / before
        scale = math.sqrt(bars_per_year)
        sharpe = _ratio(returns.mean(), _deviation(returns), scale)
        sortino = _ratio(returns.mean(), np.sqrt(np.mean(np.minimum(returns, 0.0) ** 2)), scale)
    peak = np.maximum(np.maximum.accumulate(equity), initial)
    drawdown = max(float(np.max((peak - equity) / peak)), 0.0)
    growth = np.float64(last / initial) ** (bars_per_year / len(equity)) - 1 if last > 0 else None
    return {
        "total_return": last / initial - 1,
        "sharpe": sharpe,
        "sortino": sortino,
        "max_drawdown": drawdown,
        "calmar": None if growth is None else _ratio(growth, drawdown, 1.0),
    }


def _deviation(returns: FloatArray) -> float:
    """The sample standard deviation; exactly 0 for equal returns, where rounding would leave a trace."""
    return 0.0 if returns.min() == returns.max() else float(np.std(returns, ddof=1))


def _ratio(value: float, over: float, scale: float) -> float | None:
    return float(value / over * scale) if over > 0 else None
