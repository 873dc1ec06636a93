"""A walk-forward chooses on the past alone, trades what comes after, and its joined whole is what its parts say."""

from __future__ import annotations

import dataclasses
import itertools
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.backtest import backtest
from research.grid import Grid, axes_of
from research.metrics import Totals, metrics
from research.results import Result, WalkForward
from research.walkforward import MOST_FOLDS, walk_forward
from tests.parity.compare import METRICS, same
from tests.parity.laboratory import candle_series, values_of
from tests.parity.series import KINDS, bars_from, random_funding, walk
from trading.errors import BadInput
from trading.model import CandleSeries

LIVELY = {"ema_period": 20, "adx_min": 5.0, "sl_atr_multiplier": 1.5}
WORDS = ("ema_period=10,25", "sl_atr_multiplier=1,2.5", "take_profit_r=0,1")
METRIC_OF = {"sharpe": "sharpe", "return": "total_return", "calmar": "calmar", "expectancy": "expectancy_r"}


def made(seed: int = 5, bars: int = 2400, interval: int = 60, vol: float = 0.006) -> CandleSeries:
    rng = np.random.default_rng(seed)
    series = bars_from(rng, walk(rng, bars, vol=vol), interval=interval)
    return candle_series(series.bars, series.interval_ms)


def grid_of(*words: str, strategy: str = "ema_trend", **changes: float) -> Grid:
    lively: dict[str, float] = LIVELY if strategy == "ema_trend" else {"adx_max": 60.0}
    values = values_of({**lively, **changes}, strategy)
    return Grid(strategy=strategy, values=values, axes=axes_of(words or WORDS, strategy, values))


def changed_from(series: CandleSeries, start: int, stop: int | None = None, seed: int = 99) -> CandleSeries:
    """The series with other bars in rows `start` to `stop`."""
    rng = np.random.default_rng(seed)
    rows = slice(start, stop)
    count = len(series.close[rows])
    closes = walk(rng, count, start=float(series.close[start - 1]), vol=0.02)
    other = bars_from(rng, closes, wick=0.01, interval=60).bars
    columns: dict[str, Any] = {}
    for name in ("open", "high", "low", "close", "volume"):
        column = getattr(series, name).copy()
        column[rows] = other[name]
        columns[name] = column
    return dataclasses.replace(series, **columns)


def traded(joined: Result, start: int, stop: int) -> list[tuple[float, ...]]:
    """The trades signalled in those rows, a tuple each."""
    t = joined.trades
    columns = (t.side, t.signal, t.entry, t.exit, t.entry_price, t.exit_price, t.qty, t.pnl)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [row for row in rows if start <= row[1] < stop]


# What a fold may know


@pytest.mark.parametrize("strategy", ["ema_trend", "mean_reversion"])
def test_a_fold_knows_nothing_of_what_comes_after_its_test(strategy: str) -> None:
    """Change every bar after a fold's test: neither its choice, nor its trades, nor its curve change, to the bit."""
    series, grid = made(), grid_of("sl_atr_multiplier=1,2.5", "take_profit_r=0,1", "adx_period=7,14", strategy=strategy)
    walked, joined = walk_forward(series, grid, 4, "sharpe")
    for number, fold in enumerate(walked.folds[:-1]):
        other, again = walk_forward(changed_from(series, fold.test_to), grid, 4, "sharpe")
        assert other.folds[: number + 1] == walked.folds[: number + 1]
        assert traded(again, 0, fold.test_to) == traded(joined, 0, fold.test_to)
        assert np.array_equal(again.equity[: fold.test_to], joined.equity[: fold.test_to])
    assert len(joined.trades) > 30


def test_a_choice_knows_nothing_of_the_bars_it_is_tested_on() -> None:
    """Change the embargo and the test: the choice and its training metrics stay."""
    series, grid = made(), grid_of()
    walked, joined = walk_forward(series, grid, 4, "return")
    for number, fold in enumerate(walked.folds):
        other, again = walk_forward(changed_from(series, fold.train_to, fold.test_to), grid, 4, "return")
        assert other.folds[number].chosen == fold.chosen
        assert other.folds[number].train == fold.train
        assert traded(again, fold.test_from, fold.test_to) != traded(joined, fold.test_from, fold.test_to)


def test_a_choice_does_depend_on_its_training() -> None:
    """Other bars in training lead to another choice sooner or later: the two tests above prove something."""
    series, grid = made(), grid_of()
    choices = {
        tuple(walk_forward(changed_from(series, 1, 480, seed), grid, 4, "sharpe")[0].folds[0].chosen.values())
        for seed in range(6)
    }
    assert len(choices) > 1


@pytest.mark.parametrize("objective", METRIC_OF)
@pytest.mark.parametrize("folds", [1, 3])
def test_the_chosen_set_is_the_best_of_its_training(objective: str, folds: int) -> None:
    """Recomputed with a backtest for each combination over the training bars alone, funding rates and all."""
    rng = np.random.default_rng(8)
    bars = bars_from(rng, walk(rng, 2000, vol=0.006), interval=60)
    rates = {at: Decimal(repr(rate)) for at, rate in random_funding(rng, bars).items()}
    series, grid = candle_series(bars.bars, bars.interval_ms), grid_of()
    walked, _ = walk_forward(series, grid, folds, objective, rates, jobs=2)
    for fold in walked.folds:
        train = series.between(fold.train_from, fold.train_to)
        found = [
            backtest(train, grid.strategy, grid.chosen(number), rates).metrics for number in range(grid.combinations)
        ]
        worth = [each[METRIC_OF[objective]] for each in found]
        best = max(range(len(worth)), key=lambda place: -math.inf if worth[place] is None else float(worth[place] or 0))
        assert fold.chosen == grid.varied(best)
        assert all(same(found[best][name], fold.train[name]) for name in METRICS)


# Where a fold begins and ends


def embargoes(walked: WalkForward) -> list[int]:
    return [fold.test_from - fold.train_to for fold in walked.folds]


def test_folds_follow_each_other() -> None:
    """Training grows, the parts are of one length, the last test takes what is left over."""
    series = made(bars=2403)
    walked, joined = walk_forward(series, grid_of(), 4, "sharpe")
    assert [(fold.train_from, fold.train_to) for fold in walked.folds] == [(0, 480 * k) for k in (1, 2, 3, 4)]
    assert [fold.test_to for fold in walked.folds] == [960, 1440, 1920, 2403]
    assert walked.rows.tolist() == list(range(walked.folds[0].test_from, 2403))
    assert walked.embargo == max(embargoes(walked))
    assert np.array_equal(walked.equity, joined.equity[walked.rows])


@pytest.mark.parametrize(
    ("interval", "bars", "changes", "expected"),
    [
        (60, 2400, {}, [24, 24, 24, 24]),  # a day
        (240, 2400, {}, [6, 9, 14, 19]),  # a hundredth of the training: 480, 960, 1440, 1920 bars
        (1440, 2400, {"entry_ttl_bars": 40}, [40, 40, 40, 40]),  # the time an entry may rest
        (15, 2400, {}, [96, 96, 96, 96]),  # a day would be more than a fifth of the test
        (5, 2400, {}, [96, 96, 96, 96]),
        (60, 2400, {"entry_ttl_bars": 4000}, [96, 96, 96, 96]),
    ],
)
def test_the_embargo(interval: int, bars: int, changes: dict[str, Any], expected: list[int]) -> None:
    """A day, the entry's rest or a hundredth of the training, whichever is longest; a fifth of a test at most."""
    walked, joined = walk_forward(made(bars=bars, interval=interval), grid_of(**changes), 4, "sharpe")
    assert [math.floor(each) for each in embargoes(walked)] == expected
    for fold in walked.folds:
        assert traded(joined, fold.train_to, fold.test_from) == []
        assert not joined.exposed[fold.train_to : fold.test_from].any()


def test_the_embargo_lasts_as_long_as_any_entry_of_the_grid_may_rest() -> None:
    """Where the resting time itself is searched, its longest counts."""
    walked, _ = walk_forward(made(interval=240), grid_of("entry_ttl_bars=1,60"), 4, "sharpe")
    assert embargoes(walked) == [60, 60, 60, 60]


def test_every_trade_lies_in_its_fold() -> None:
    """Signalled, entered and left between the fold's first and last tested bar, by the fold's own parameters."""
    series, grid = made(), grid_of()
    walked, joined = walk_forward(series, grid, 5, "sharpe")
    t = joined.trades
    assert len(t) > 40
    for signal, entry, leave in zip(t.signal.tolist(), t.entry.tolist(), t.exit.tolist(), strict=True):
        (fold,) = (each for each in walked.folds if each.test_from <= signal < each.test_to)
        assert signal < entry <= leave < fold.test_to
    assert (np.diff(t.exit) >= 0).all()


# Money


def test_money_is_carried_on() -> None:
    """Each fold begins with what the one before it ended with; its trades are those of its own backtest."""
    series, grid = made(), grid_of()
    walked, joined = walk_forward(series, grid, 4, "sharpe")
    cash = float(grid.values["initial_equity"])
    for fold in walked.folds:
        own = backtest(
            series.between(0, fold.test_to),
            grid.strategy,
            {**grid.values, **fold.chosen, "initial_equity": cash},
            first=fold.test_from,
        )
        assert (joined.equity[fold.train_to : fold.test_from] == cash).all()
        assert np.allclose(joined.equity[fold.test_from : fold.test_to], own.equity[fold.test_from :], rtol=1e-6)
        assert len(traded(joined, fold.test_from, fold.test_to)) == len(own.trades) == fold.test["trades"]
        cash = float(joined.equity[fold.test_to - 1])
    assert joined.equity[-1] == cash
    assert (joined.equity[: walked.folds[0].test_from] == grid.values["initial_equity"]).all()


def differing(grid: Grid, walked: WalkForward, joined: Result) -> list[str]:
    """The joined metrics against those of the joined curve and trades."""
    profit = joined.trades.pnl
    totals = Totals(
        trades=len(profit),
        wins=int((profit > 0).sum()),
        gains=math.fsum(profit[profit > 0]),
        losses=math.fsum(profit[profit < 0]),
        r_multiples=math.fsum(joined.trades.r),
        exposed=int(joined.exposed[walked.rows].sum()),
    )
    initial = float(grid.values["initial_equity"])
    again = metrics(walked.equity, totals, initial_equity=initial, interval=joined.series.interval)
    names = [name for name in METRICS if name not in {"fees", "funding"}]
    return [
        f"{name}: {found[name]!r} instead of {again[name]!r}"
        for found in (walked.metrics, joined.metrics)
        for name in names
        if not same(again[name], found[name])
    ]


@pytest.mark.parametrize("strategy", ["ema_trend", "mean_reversion"])
def test_the_joined_metrics_are_those_of_the_joined_curve(strategy: str) -> None:
    """Recomputed from the curve and the trades; what was paid is what trades and open positions have paid."""
    series = made()
    grid = grid_of("sl_atr_multiplier=1,2.5", "take_profit_r=0,1", strategy=strategy)
    for folds in (1, 2, 5):
        walked, joined = walk_forward(series, grid, folds, "sharpe")
        assert differing(grid, walked, joined) == []
        for name in ("fees", "funding"):
            of_folds = math.fsum(float(fold.test[name] or 0.0) for fold in walked.folds)
            assert same(of_folds, joined.metrics[name])
            assert joined.metrics[name] == walked.metrics[name]
        assert float(joined.metrics["fees"] or 0.0) >= math.fsum(joined.trades.fees) - 1e-9
        growth = math.prod(1 + float(fold.test["total_return"] or 0.0) for fold in walked.folds)
        assert math.isclose(growth - 1, float(joined.metrics["total_return"] or 0.0), rel_tol=1e-9, abs_tol=1e-12)


def test_an_open_position_ends_with_its_fold() -> None:
    """Valued at the last close, no trade; the next fold begins flat with that money."""
    series = made()
    grid = grid_of("trail_start_r=0,1", sl_atr_multiplier=6.0, ema_period=60)
    walked, joined = walk_forward(series, grid, 6, "return")
    left_open = [fold for fold in walked.folds if joined.exposed[fold.test_to - 1]]
    assert left_open
    for fold in left_open[:-1]:
        following = next(each for each in walked.folds if each.train_to == fold.test_to)
        assert joined.equity[following.test_from - 1] == joined.equity[fold.test_to - 1]
    assert differing(grid, walked, joined) == []


def test_a_ruined_account_trades_no_more() -> None:
    """Equity at or below zero after a fold: later folds stay flat and the metrics say null, not nonsense."""
    rng = np.random.default_rng(3)
    bars = KINDS["gapped"](rng)
    series = dataclasses.replace(candle_series(bars.bars, 3_600_000))
    stamp = series.timestamp[0] + np.arange(len(series), dtype=np.int64) * 3_600_000
    series = dataclasses.replace(series, timestamp=stamp)
    grid = grid_of(
        "sl_atr_multiplier=0.1,0.2", ema_period=5, risk_per_trade=3.0, leverage=100.0, max_position_usdt=1e9
    )
    walked, joined = walk_forward(series, grid, 4, "return")
    ruined = [number for number, fold in enumerate(walked.folds) if joined.equity[fold.test_to - 1] <= 0]
    assert ruined
    for fold in walked.folds[ruined[0] + 1 :]:
        assert fold.test["trades"] == 0
        assert (joined.equity[fold.train_to : fold.test_to] <= 0).all()
    assert joined.metrics["sharpe"] is None
    assert joined.metrics["calmar"] is None


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), folds=st.integers(1, 6), objective=st.sampled_from(sorted(METRIC_OF)))
def test_any_walk(seed: int, folds: int, objective: str) -> None:
    """Of any series: the joined whole is what its parts say."""
    series, grid = made(seed, bars=900), grid_of("ema_period=5,15", "sl_atr_multiplier=0.5,2")
    walked, joined = walk_forward(series, grid, folds, objective)
    assert differing(grid, walked, joined) == []
    assert sum(int(fold.test["trades"] or 0) for fold in walked.folds) == len(joined.trades)
    for before, after in itertools.pairwise(walked.folds):
        assert after.train_to == before.test_to
    assert np.array_equal(walked.equity, joined.equity[walked.rows])


# Asked wrongly, told on the way, stopped


@pytest.mark.parametrize("folds", [0, -1, MOST_FOLDS + 1])
def test_a_wrong_number_of_folds_is_refused(folds: int) -> None:
    with pytest.raises(BadInput, match=f"1 to {MOST_FOLDS} folds, not {folds}"):
        walk_forward(made(), grid_of(), folds, "sharpe")


@pytest.mark.parametrize(("bars", "folds"), [(2, 1), (100, 1), (2400, 45), (149, 2)])
def test_too_few_bars_are_refused(bars: int, folds: int) -> None:
    """With how many it takes; so many are enough."""
    with pytest.raises(BadInput, match=r"bars are too few for .* folds of .* looks back .*: give") as error:
        walk_forward(made(bars=bars), grid_of(), folds, "sharpe")
    least = int(str(error.value).split("give ")[1].split(" bars")[0].replace(",", ""))
    walked, _ = walk_forward(made(bars=least), grid_of("ema_period=10,25"), folds, "sharpe")
    assert len(walked.folds) == folds


def test_money_may_not_be_searched_where_it_is_carried_on() -> None:
    """A grid over the equity at the start has no meaning from the second fold on."""
    with pytest.raises(BadInput, match="initial_equity"):
        walk_forward(made(), grid_of("initial_equity=1000,10000"), 3, "sharpe")


def test_progress_is_told_fold_by_fold() -> None:
    told: list[tuple[int, int]] = []
    grid = grid_of()
    walk_forward(made(), grid, 3, "sharpe", tell=lambda fold, done: told.append((fold, done)))
    assert told == sorted(told)
    assert [(fold, grid.combinations) in told for fold in range(3)] == [True, True, True]


def test_it_can_be_stopped_between_folds() -> None:
    """Half of a walk-forward is no answer: it ends as Ctrl-C does."""
    folds: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        walk_forward(
            made(), grid_of(), 4, "sharpe", tell=lambda fold, _: folds.append(fold), stopped=lambda: 1 in folds
        )
    assert max(folds) == 1
