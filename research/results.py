"""What research finds, whole: one backtest with its trades and curve, a grid, a walk-forward, and what they prove.

Made by the kernel and the checks, read by the workbook, the charts and the desk. Arrays are float64 unless said
otherwise; rows of trades name bars by their place in the series. Money is USDT, shares are fractions; whatever is
undefined is None (NaN in an array), never 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from research.metrics import Metrics
from trading.laboratory import Study, Verdict
from trading.model import BoolArray, CandleSeries, FloatArray, IntArray, SideArray

REASONS: Final = ("stop", "take_profit", "trailing", "signal")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TradeTable:
    """Closed trades in the order in which they closed, a column each, all of one length.

    side: +1 long, -1 short. signal, entry, exit: rows of bars (int64). stop: the one placed with the entry. pnl: net
    of fees and funding. r: pnl over the risk. fees, funding: paid (funding negative when received). slippage: what
    moving the exit price cost. reason: place in `REASONS` (int8).
    """

    side: SideArray
    signal: IntArray
    entry: IntArray
    exit: IntArray
    entry_price: FloatArray
    exit_price: FloatArray
    qty: FloatArray
    stop: FloatArray
    pnl: FloatArray
    r: FloatArray
    fees: FloatArray
    funding: FloatArray
    slippage: FloatArray
    reason: SideArray

    def __len__(self) -> int:
        return len(self.side)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What became of the edges that counted: flat, nothing resting, outside the cooldown."""

    edges: int
    knives: int  # rejected by the anti-knife guard
    skipped: int  # could not be sized
    placed: int
    filled: int
    expired: int
    ran_away: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Result:
    """One backtest. `equity` and `exposed` (closes with a position) have one entry per bar.

    params: every name of the specification with its value. open_position: as `backtest --json` prints it.
    candles: rows, first, last, sha256. settlements: how many were paid, and how many of them had no rate of their own
    in the funding series (all of them, without one).
    """

    series: CandleSeries
    strategy: str
    params: Mapping[str, Any]
    trades: TradeTable
    equity: FloatArray
    exposed: BoolArray
    metrics: Metrics
    open_position: Mapping[str, Any] | None
    candles: Mapping[str, Any]
    gates: Gates
    settlements: int
    unrated: int
    funded: bool  # a funding series was given


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hold:
    """Buying at the first close with all the equity, once, no leverage and no costs, and holding to the last close."""

    equity: FloatArray
    total_return: float
    max_drawdown: float
    sharpe: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A bootstrap's middle and its 5 % and 95 % ends."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What speaks for and against a result.

    trials: parameter sets tried on these bars before this one was shown (at least 1). expected_best: the Sharpe ratio
    (a year) that the best of so many worthless sets would show by luck. probable: probabilistic Sharpe ratio against
    zero; deflated: against `expected_best` (probabilities). overfit: probability of backtest overfitting (CSCV), None
    without a grid; overfit_loss: the share of the same choices that lost money on the bars they were not made on.
    out_of_sample: Sharpe (a year) on bars nothing was chosen on, with `out_trades` trades there.
    total_return, max_drawdown, expectancy_r: block bootstrap of the trades. cost_share: costs over gross profit, None
    without a gross profit. look_ahead, warm_up: None when sound, else what was found. second_opinion: None when
    vectorbt agrees, else where it does not.
    """

    trials: int
    expected_best: float | None
    probable: float | None
    deflated: float | None
    overfit: float | None
    out_of_sample: float | None
    out_trades: int
    total_return: Interval | None
    max_drawdown: Interval | None
    expectancy_r: Interval | None
    gross: float
    fees: float
    funding: float
    slippage: float
    cost_share: float | None
    look_ahead: str | None
    warm_up: str | None
    second_opinion: str | None = None
    overfit_loss: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridTable:
    """A grid search. `names` are the parameters that vary; `axes` their values in order; `values` has one row per
    combination evaluated and one column per name; `metrics` one array per metric of the specification (NaN where it is
    undefined), `trades` as float too. `order` ranks the rows by the objective, the best first; rows whose objective is
    undefined stand at its end. `combinations`: how many the grid holds, `evaluated` how many of them are here.
    """

    names: tuple[str, ...]
    axes: tuple[tuple[float, ...], ...]
    objective: str
    values: FloatArray
    metrics: Mapping[str, FloatArray]
    order: IntArray
    combinations: int
    evaluated: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One step of a walk-forward: rows [train_from, train_to) chose, rows [test_from, test_to) were traded.

    Between them lies the embargo. `chosen`: the parameters of the grid that were best in training.
    """

    train_from: int
    train_to: int
    test_from: int
    test_to: int
    chosen: Mapping[str, float]
    train: Metrics
    test: Metrics


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WalkForward:
    """All folds, and the joined out-of-sample result: each test's returns one after the other.

    `rows`: the bars of the joined curve as rows of the series, first test to last; `equity` one entry for each of them.
    The result beside it spans the whole series, flat before the first test, with the metrics of the tested bars.
    """

    folds: tuple[Fold, ...]
    rows: IntArray
    equity: FloatArray
    metrics: Metrics
    embargo: int  # bars


class Ruled(NamedTuple):
    """What was decided on one candidate: at a bar's close (`time`), that bar's open (`signal`), ms UTC.

    side: +1 long, -1 short. size: share of the base size, 0 when it was rejected. gate: who rejected it (`guard`,
    `council`, `risk`), empty when approved. reason: the first one that was given.
    """

    time: int
    signal: int
    side: int
    approved: bool
    size: float
    gate: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Beside:
    """What stands beside a result that was traded with a council: `alone`, the same bars without it.

    verdicts: on every candidate of the result with the council, in order.
    """

    council: str
    alone: Result
    verdicts: tuple[Ruled, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Report:
    """A study's whole answer: what workbook, charts and caption are made of.

    result: the backtest itself, the best of the grid, or the out-of-sample whole as one backtest where there is one.
    beside: where the study has a council, which the result was then traded with.
    statistics: vectorbt's table of the same fills, name and value in its own words. made_up: the candles are synthetic.
    versions: libraries and their versions.
    """

    study: Study
    result: Result
    hold: Hold
    evidence: Evidence
    verdict: Verdict
    made_up: bool
    seconds: float
    params_fingerprint: str
    data_fingerprint: str
    grid: GridTable | None = None
    walk: WalkForward | None = None
    statistics: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())
    beside: Beside | None = None
