"""How much of a result luck would explain: pure functions over arrays.

Sharpe ratios are *per bar* here (mean over sample deviation of bar returns, not annualised) unless a name says
`yearly`; a yearly one is the per-bar one times sqrt(bars per year). Probabilities and shares are fractions.

Sources: Bailey and López de Prado, "The Sharpe Ratio Efficient Frontier" (2012), probabilistic Sharpe ratio and least
track record; the same, "The Deflated Sharpe Ratio" (2014); Bailey, Borwein, López de Prado and Zhu, "The Probability
of Backtest Overfitting" (2017), combinatorially symmetric cross-validation (CSCV).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import combinations
from statistics import NormalDist
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from research.metrics import Totals, metrics
from research.results import Hold, Interval
from trading.model import CandleSeries, FloatArray, IntArray

BLOCKS: Final = 16
SPLITS: Final = math.comb(BLOCKS, BLOCKS // 2)  # 12,870: each half of the blocks once in training, once in test
EULER_GAMMA: Final = 0.5772156649015329
_NORMAL = NormalDist()
_WORK = 60_000_000  # sets times splits that are looked at; above it a sample of the splits stands for all
_CELLS = 1 << 18  # cells of one array in a chunk: 2 MB, which stays near the processor


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Bar returns summed up: how many, their Sharpe ratio per bar, skewness, kurtosis (3 for a normal one)."""

    count: int
    sharpe: float
    skew: float
    kurtosis: float

    @property
    def spread(self) -> float:
        """Standard error of the Sharpe ratio times sqrt(count - 1): 1 for normal returns without an edge."""
        variance = 1 - self.skew * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2
        return math.sqrt(max(variance, 1e-12))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overfit:
    """What CSCV says. probability: share of the splits in which the set that was best in one half did no better than
    the median set in the other. loss: share in which it lost money there. splits: how many were looked at.
    """

    probability: float
    loss: float
    splits: int


def bar_returns(equity: FloatArray, initial_equity: float) -> FloatArray | None:
    """Returns from close to close, the first from the initial equity; None once the equity has been <= 0."""
    if len(equity) == 0 or equity.min() <= 0:
        return None
    before = np.concatenate(([initial_equity], equity[:-1]))
    returns: FloatArray = (equity - before) / before
    return returns


def moments(returns: FloatArray) -> Moments | None:
    """The moments of bar returns; None for fewer than two bars or returns without deviation."""
    if len(returns) < 2 or returns.min() == returns.max():
        return None
    centred = returns - returns.mean()
    second = float(np.mean(centred**2))
    return Moments(
        count=len(returns),
        sharpe=float(returns.mean() / np.std(returns, ddof=1)),
        skew=float(np.mean(centred**3)) / second**1.5,
        kurtosis=float(np.mean(centred**4)) / second**2,
    )


def probabilistic_sharpe(shown: Moments, benchmark: float = 0.0) -> float:
    """Probability that the true Sharpe ratio per bar lies above `benchmark` (per bar), given the returns shown."""
    return _NORMAL.cdf((shown.sharpe - benchmark) * math.sqrt(shown.count - 1) / shown.spread)


def expected_maximum(trials: int, variance: float) -> float:
    """The Sharpe ratio that the best of `trials` worthless sets shows by luck; `variance` is that of their ratios.

    In the unit of the ratios that `variance` was taken from: per bar or yearly. 0 for a single trial.
    """
    if trials < 2:
        return 0.0
    first, second = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER_GAMMA) * first + EULER_GAMMA * second)


def luck(shown: Moments, trials: int, variance: float | None) -> float:
    """`expected_maximum` per bar for the trials behind a result; `variance` of their ratios, None where not known.

    Worthless sets differ by sampling alone, by no more than 1 / (bars - 1). Where the trials differ by more, some of
    them are truly worse than others; that is no luck of the best one, and is not held against it. Where they differ
    by less, they are much alike, and few of them are a trial of their own.
    """
    sampling = 1 / (shown.count - 1)
    return expected_maximum(trials, sampling if variance is None else min(variance, sampling))


def deflated_sharpe(shown: Moments, trials: int, variance: float | None = None) -> float:
    """Probability that the true Sharpe ratio is above what the best of so many worthless trials would show."""
    return probabilistic_sharpe(shown, luck(shown, trials, variance))


def least_bars(shown: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float | None:
    """How many bars of such returns would show a Sharpe ratio above `benchmark` at that confidence.

    None when the one shown is not above it.
    """
    if shown.sharpe <= benchmark:
        return None
    return 1 + (shown.spread * _NORMAL.inv_cdf(confidence) / (shown.sharpe - benchmark)) ** 2


# Block sums


Sums = NDArray[np.floating[Any]]  # float64 or float32


def block_sharpe(sums: Sums, squares: Sums, bars: int) -> FloatArray:
    """Sharpe ratio per bar of every set (rows) over all the blocks given (columns), `bars` in all.

    NaN where a set never had a return.
    """
    total, square = (each.sum(axis=1, dtype=np.float64) for each in (sums, squares))
    with np.errstate(invalid="ignore", divide="ignore"):
        result: FloatArray = (total / bars) / np.sqrt((square - total**2 / bars) / (bars - 1))
    return np.where(square > 0, result, np.nan)


def overfitting(sums: Sums, squares: Sums, *, seed: int = 0, work: int = _WORK) -> Overfit | None:
    """CSCV over the splits of 16 blocks of (nearly) equal length: rows are sets, columns blocks; None for one set.

    The performance of a set in a half is its Sharpe ratio there, 0 where it had no return; sets that never had one in
    any block do not take part. Up to `work` sets
    times splits every one of the 12,870 splits is looked at; above it a seeded sample of them, in pairs of a split and
    its opposite, at least 200. The sets are never sampled: that would change who is the best.
    """
    candidates = squares.sum(axis=1) > 0
    if candidates.sum() < 2:
        return None
    sums, squares = (each if candidates.all() else each[candidates] for each in (sums, squares))
    halves = _halves(max(work // (2 * len(sums)), 100), seed).astype(sums.dtype)
    beaten = lost = 0.0
    for chosen, rank in _choices(sums, squares, halves):
        beaten += float(np.count_nonzero(rank <= 0.5))
        lost += float(np.count_nonzero(chosen < 0))
    splits = 2 * len(halves)
    return Overfit(probability=beaten / splits, loss=lost / splits, splits=splits)


def _halves(most: int, seed: int) -> FloatArray:
    """One split of each pair as a row of ones (training) and zeros; `most` of them, chosen by the seed."""
    ways = list(combinations(range(1, BLOCKS), BLOCKS // 2 - 1))  # block 0 trains: the opposite is the other of a pair
    picked = np.arange(len(ways))
    if len(ways) > most:
        picked = np.random.default_rng(seed).choice(len(ways), most, replace=False)
    halves = np.zeros((len(picked), BLOCKS))
    halves[:, 0] = 1.0
    np.put_along_axis(halves, np.array(ways)[picked], 1.0, axis=1)
    return halves


def _choices(sums: Sums, squares: Sums, halves: Sums) -> Iterator[tuple[Sums, FloatArray]]:
    """For chunks of splits, both ways round: test performance of the set that was best in training, and its rank.

    The rank is its place among the sets, the worst 1, over their number plus 1; equals share their places.
    """
    step = max(_CELLS // len(sums), 1)
    for start in range(0, len(halves), step):
        half = halves[start : start + step]
        one, other = (_performance(rows @ sums.T, rows @ squares.T) for rows in (half, 1.0 - half))
        for train, test in ((one, other), (other, one)):
            chosen = np.take_along_axis(test, np.argmax(train, axis=1)[:, None], axis=1)
            below, equal = (np.count_nonzero(found, axis=1) for found in (test < chosen, test == chosen))
            yield chosen[:, 0], (below + (equal + 1) / 2) / (len(sums) + 1)


def _performance(total: Sums, square: Sums) -> Sums:
    """Grows with the Sharpe ratio among sets over the same bars, and has its sign.

    The ratio is x / sqrt(1 - x^2 / bars) up to a constant, for this x: the order is the same, and nothing cancels.
    """
    result = np.zeros_like(total)
    np.divide(total, np.sqrt(square), out=result, where=square > 0)
    return result


# Trades


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """Intervals from resampled trades. The drawdown is that of the cash after each trade: marks inside a trade and
    positions still open are not in it.
    """

    total_return: Interval
    max_drawdown: Interval
    expectancy_r: Interval


def shares_of_equity(pnl: FloatArray, initial_equity: float) -> FloatArray:
    """Each trade's profit over the cash before it, in the order in which they closed; at least -1."""
    cash = initial_equity + np.concatenate(([0.0], np.cumsum(pnl)))[:-1]
    shares: FloatArray = np.divide(pnl, cash, out=np.full(len(pnl), -1.0), where=cash > 0)
    shares[shares < -1.0] = -1.0
    return shares


def block_length(trades: int) -> int:
    """Trades drawn together: the cube root of their number, the usual rate for means, so that streaks stay."""
    return max(round(math.cbrt(trades)), 1)


def bootstrap(shares: FloatArray, r: FloatArray, *, resamples: int = 4000, seed: int = 0) -> Resampled | None:
    """Circular block bootstrap of the trades: 5 %, middle and 95 % of what they could have come to; None for none.

    `shares` compound; `r` are the R multiples. Every resample has as many trades as there were.
    """
    if len(shares) == 0:
        return None
    rng, length = np.random.default_rng(seed), block_length(len(shares))
    found = []
    step = max(_CELLS // 4 // len(shares), 1)
    for start in range(0, resamples, step):
        rows = _blocks(rng, min(step, resamples - start), len(shares), length)
        found.append((*_grown(shares[rows]), r[rows].mean(axis=1)))
    total, drawdown, expectancy = (interval(np.concatenate(each)) for each in zip(*found, strict=True))
    return Resampled(total_return=total, max_drawdown=drawdown, expectancy_r=expectancy)


def interval(values: FloatArray) -> Interval:
    """The 5 %, 50 % and 95 % points."""
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95)).tolist()
    return Interval(low=low, middle=middle, high=high)


def _blocks(rng: np.random.Generator, resamples: int, count: int, length: int) -> IntArray:
    """Rows of trades, one resample each: blocks of neighbours from anywhere, the last followed by the first."""
    starts = rng.integers(0, count, (resamples, -(-count // length), 1))
    rows: IntArray = (starts + np.arange(length)).reshape(resamples, -1)[:, :count] % count
    return rows


def _grown(shares: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Total return and largest drawdown of each row of compounding shares."""
    wealth = np.asarray(np.cumprod(1 + shares, axis=1), dtype=np.float64)
    peak = np.maximum(np.maximum.accumulate(wealth, axis=1), 1.0)
    return wealth[:, -1] - 1, np.asarray((1 - wealth / peak).max(axis=1), dtype=np.float64)


# Beside a result


def buy_and_hold(series: CandleSeries, initial_equity: float) -> Hold:
    """All the equity into the first close, no leverage, no costs, held to the last close; two bars at least."""
    equity = initial_equity * (series.close / series.close[0])
    table = metrics(equity, Totals(), initial_equity=initial_equity, interval=series.interval)
    return Hold(
        equity=equity,
        total_return=float(table["total_return"] or 0.0),
        max_drawdown=float(table["max_drawdown"] or 0.0),
        sharpe=table["sharpe"],
    )


def bars_per_year(interval: timedelta) -> float:
    """Bars in a year of 365 days."""
    return timedelta(days=365) / interval
