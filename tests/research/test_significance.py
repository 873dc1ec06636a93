"""Luck in figures: against published examples, plain definitions written out, and the frequencies they promise."""

from __future__ import annotations

import math
from datetime import timedelta
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research import significance as sig
from research.significance import Moments
from tests.research.worlds import walk
from trading.model import FloatArray

YEAR_OF_DAYS = 250


def normal(count: int, sharpe: float) -> Moments:
    return Moments(count=count, sharpe=sharpe, skew=0.0, kurtosis=3.0)


# Sharpe ratios


def test_the_deflated_ratio_of_the_papers_example() -> None:
    """Bailey and López de Prado (2014): 2.5 a year over five years of days, the best of 100, skewed and fat-tailed."""
    shown = Moments(count=1250, sharpe=2.5 / math.sqrt(YEAR_OF_DAYS), skew=-3.0, kurtosis=10.0)
    variance = 0.5 / YEAR_OF_DAYS  # of the trials, per day
    assert sig.expected_maximum(100, variance) == pytest.approx(0.1132, abs=5e-5)
    assert sig.probabilistic_sharpe(shown, sig.expected_maximum(100, variance)) == pytest.approx(0.9004, abs=5e-5)
    assert sig.probabilistic_sharpe(shown, sig.expected_maximum(46, variance)) == pytest.approx(0.9505, abs=5e-5)
    as_normal = normal(1250, shown.sharpe)
    assert sig.probabilistic_sharpe(as_normal, sig.expected_maximum(88, variance)) == pytest.approx(0.9505, abs=5e-4)


def test_the_moments_of_returns() -> None:
    """The population's skewness and kurtosis, and the ratio with the sample deviation."""
    returns = np.random.default_rng(1).standard_t(5, 4000) * 0.01 + 0.0003
    shown = sig.moments(returns)
    assert shown is not None
    scores = ((returns - returns.mean()) / returns.std(ddof=0)).tolist()
    assert shown.skew == pytest.approx(math.fsum(each**3 for each in scores) / 4000)
    assert shown.kurtosis == pytest.approx(math.fsum(each**4 for each in scores) / 4000)
    assert shown.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1))
    assert shown.count == 4000


@pytest.mark.parametrize("returns", [[], [0.1], [0.1, 0.1, 0.1], [0.0] * 9])
def test_returns_without_deviation_have_no_moments(returns: list[float]) -> None:
    """Undefined is None."""
    assert sig.moments(np.array(returns)) is None


def test_the_probability_keeps_its_promise() -> None:
    """Of worthless strategies, one in twenty is 95 % sure to be better than nothing."""
    rng = np.random.default_rng(2)
    sure = 0
    for _ in range(2000):
        shown = sig.moments(rng.standard_t(6, 500) * 0.01)
        assert shown is not None
        sure += sig.probabilistic_sharpe(shown) >= 0.95
    assert 0.03 < sure / 2000 < 0.07


@pytest.mark.parametrize("trials", [2, 10, 100, 1000])
def test_the_expected_maximum_is_what_the_best_of_worthless_sets_shows(trials: int) -> None:
    """Drawn, the mean of the maximum of so many normal ratios."""
    drawn = np.random.default_rng(3).standard_normal((4000, trials)).max(axis=1).mean() * 0.02
    assert sig.expected_maximum(trials, 0.02**2) == pytest.approx(drawn, rel=0.1)


def test_one_trial_is_not_deflated() -> None:
    """Nothing was selected."""
    shown = normal(5000, 0.03)
    assert sig.deflated_sharpe(shown, 1) == sig.probabilistic_sharpe(shown)


def test_the_best_of_many_worthless_sets_does_not_pass() -> None:
    """One strategy in twenty passes alone; of the best of a hundred, hardly one does once it is deflated."""
    rng = np.random.default_rng(4)
    naive = passed = 0
    for _ in range(300):
        returns = rng.standard_normal((100, 400)) * 0.01
        ratios = returns.mean(axis=1) / returns.std(axis=1, ddof=1)
        shown = sig.moments(returns[int(ratios.argmax())])
        assert shown is not None
        naive += sig.probabilistic_sharpe(shown) >= 0.95
        passed += sig.deflated_sharpe(shown, 100, float(ratios.var(ddof=1))) >= 0.95
    assert naive > 290
    assert passed <= 15


def test_sets_that_are_worse_by_nature_do_not_raise_the_bar() -> None:
    """A grid with bad corners varies more than luck does; the best one is held against luck alone."""
    shown = normal(10_001, 0.03)
    assert sig.luck(shown, 50, 4.0) == sig.luck(shown, 50, None) == sig.expected_maximum(50, 1e-4)
    assert sig.luck(shown, 50, 1e-6) == sig.expected_maximum(50, 1e-6)


@given(st.floats(0.005, 0.2), st.floats(-2, 2), st.floats(6, 20))
def test_the_least_record_is_just_long_enough(sharpe: float, skew: float, kurtosis: float) -> None:
    """At that many bars the probability is the one asked for."""
    count = sig.least_bars(Moments(count=100, sharpe=sharpe, skew=skew, kurtosis=kurtosis))
    assert count is not None
    long = Moments(count=math.ceil(count), sharpe=sharpe, skew=skew, kurtosis=kurtosis)
    assert 0.95 <= sig.probabilistic_sharpe(long) + 1e-9 < 0.97


def test_no_record_is_long_enough_for_a_loss() -> None:
    """A ratio below the benchmark never gets above it."""
    assert sig.least_bars(normal(100, -0.01)) is None


def test_bar_returns_begin_at_the_initial_equity() -> None:
    """As the metrics count them; a ruined account has none."""
    returns = sig.bar_returns(np.array([110.0, 99.0]), 100.0)
    assert returns is not None
    assert returns.tolist() == pytest.approx([0.1, -0.1])
    assert sig.bar_returns(np.array([110.0, 0.0, 5.0]), 100.0) is None


# Overfitting


def blocks_of(returns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sums and squares of (sets, bars) returns in sixteen blocks."""
    cut = returns.reshape(len(returns), sig.BLOCKS, -1)
    return cut.sum(axis=2), (cut**2).sum(axis=2)


def plain_overfitting(returns: FloatArray) -> tuple[float, float]:
    """CSCV by its definition: the returns of each half put together, the Sharpe ratios of all sets on both."""
    cut = returns.reshape(len(returns), sig.BLOCKS, -1)

    def ratios(blocks: tuple[int, ...]) -> list[float]:
        half = cut[:, list(blocks)].reshape(len(cut), -1)
        deviation = half.std(axis=1, ddof=1)
        return [mean / spread if spread > 0 else 0.0 for mean, spread in zip(half.mean(axis=1), deviation, strict=True)]

    below = lost = 0
    for train in combinations(range(sig.BLOCKS), sig.BLOCKS // 2):
        inside, outside = ratios(train), ratios(tuple(sorted(set(range(sig.BLOCKS)) - set(train))))
        chosen = outside[inside.index(max(inside))]
        rank = sum(each < chosen for each in outside) + (sum(each == chosen for each in outside) + 1) / 2
        share = rank / (len(outside) + 1)
        below += math.log(share / (1 - share)) <= 1e-12
        lost += chosen < 0
    return below / sig.SPLITS, lost / sig.SPLITS


@pytest.mark.parametrize("drift", [0.0, 0.002])
def test_overfitting_is_that_of_the_plain_definition(drift: float) -> None:
    """All 12,870 splits, five sets, one of which trades in three blocks only, and two of which are the same."""
    returns = np.random.default_rng(5).standard_normal((5, 16 * 10)) * 0.01 + drift
    returns[1, 30:] = 0.0
    returns[4] = returns[3]
    found = sig.overfitting(*blocks_of(returns))
    assert found is not None
    assert found.splits == sig.SPLITS == 12_870
    assert (found.probability, found.loss) == plain_overfitting(returns)


def test_overfitting_knows_noise_from_skill() -> None:
    """Among worthless sets the best is a coin's toss; where one of them is better, it is found again."""
    rng = np.random.default_rng(6)
    noise = []
    for _ in range(40):
        found = sig.overfitting(*blocks_of(rng.standard_normal((20, 320)) * 0.01))
        assert found is not None
        noise.append(found.probability)
    assert 0.4 < float(np.mean(noise)) < 0.6
    skilled = rng.standard_normal((20, 320)) * 0.01
    skilled[7] += 0.004
    found = sig.overfitting(*blocks_of(skilled))
    assert found is not None
    assert found.probability < 0.02
    assert found.loss < 0.02


def test_a_sample_of_the_splits_stands_for_all() -> None:
    """Too many sets for every split: a seeded sample, near the whole."""
    sums, squares = blocks_of(np.random.default_rng(7).standard_normal((300, 320)) * 0.01 + 0.0005)
    whole, part = sig.overfitting(sums, squares), sig.overfitting(sums, squares, work=600_000)
    assert whole is not None
    assert part is not None
    assert (whole.splits, part.splits) == (12_870, 2000)
    assert part.probability == pytest.approx(whole.probability, abs=0.04)
    assert part.loss == pytest.approx(whole.loss, abs=0.04)
    assert part == sig.overfitting(sums, squares, work=600_000)
    assert part != sig.overfitting(sums, squares, work=600_000, seed=1)


def test_float32_sums_are_good_enough() -> None:
    """What the search keeps for each set."""
    sums, squares = blocks_of(np.random.default_rng(8).standard_normal((50, 320)) * 0.01)
    whole, half = sig.overfitting(sums, squares), sig.overfitting(sums.astype(np.float32), squares.astype(np.float32))
    assert whole is not None
    assert half is not None
    assert half.probability == pytest.approx(whole.probability, abs=0.002)


def test_one_set_cannot_be_overfitted() -> None:
    """Nor can one among sets that never traded."""
    sums, squares = blocks_of(np.random.default_rng(9).standard_normal((3, 160)))
    assert sig.overfitting(sums[:1], squares[:1]) is None
    sums[1:], squares[1:] = 0.0, 0.0
    assert sig.overfitting(sums, squares) is None


def test_the_ratio_from_block_sums_is_that_of_the_returns() -> None:
    """And NaN for a set that never had a return."""
    returns = np.random.default_rng(10).standard_normal((3, 320)) * 0.01
    returns[2] = 0.0
    found = sig.block_sharpe(*blocks_of(returns), 320)
    assert found[:2] == pytest.approx(returns[:2].mean(axis=1) / returns[:2].std(axis=1, ddof=1))
    assert np.isnan(found[2])


# Trades


def test_shares_of_equity_compound_to_the_profit() -> None:
    """Whatever the trades are, growing by their shares gives the cash they left."""
    pnl = np.random.default_rng(11).normal(5, 80, 300)
    shares = sig.shares_of_equity(pnl, 10_000.0)
    assert 10_000 * np.prod(1 + shares) == pytest.approx(10_000 + pnl.sum())


def test_a_ruined_account_stays_ruined() -> None:
    """A trade can lose all there is, and what comes after it has nothing to grow."""
    assert sig.shares_of_equity(np.array([-150.0, 50.0]), 100.0).tolist() == [-1.0, -1.0]


def test_resampled_figures_are_those_of_each_path() -> None:
    """Return and drawdown of a row of trades, against a loop."""
    shares = np.random.default_rng(12).normal(0.002, 0.02, (50, 40))
    total, drawdown = sig._grown(shares)
    for row, path in enumerate(shares.tolist()):
        wealth, deepest, peak = 1.0, 0.0, 1.0
        for share in path:
            wealth *= 1 + share
            peak = max(peak, wealth)
            deepest = max(deepest, 1 - wealth / peak)
        assert total[row] == pytest.approx(wealth - 1)
        assert drawdown[row] == pytest.approx(deepest)


@pytest.mark.parametrize("count", [1, 2, 7, 100, 1001])
def test_blocks_are_neighbours(count: int) -> None:
    """Every resample has as many trades as there were, in runs of neighbours; the first follows the last."""
    length = sig.block_length(count)
    rows = sig._blocks(np.random.default_rng(13), 20, count, length)
    assert rows.shape == (20, count)
    assert rows.min() >= 0
    assert rows.max() < count
    for row in rows.tolist():
        assert all((b - a) % count == 1 % count for place, (a, b) in enumerate(pairwise(row), 1) if place % length)


def test_intervals_cover_the_truth() -> None:
    """Nine in ten intervals from 5 % to 95 % hold the true expectancy, skewed as trades are."""
    rng = np.random.default_rng(14)
    held = 0
    for seed in range(300):
        r = rng.exponential(1.5, 200) - 1.2  # most lose, a few win much: 0.3 on average
        found = sig.bootstrap(r * 0.01, r, resamples=1000, seed=seed)
        assert found is not None
        held += found.expectancy_r.low <= 0.3 <= found.expectancy_r.high
    assert 0.84 <= held / 300 <= 0.95


def test_streaks_widen_the_interval() -> None:
    """Wins and losses that come in runs say less than as many that do not; blocks keep the runs."""
    rng = np.random.default_rng(15)
    streaks = np.repeat(rng.normal(0.1, 1.0, 100), 8)
    mixed = rng.permutation(streaks)
    one, other = (sig.bootstrap(each * 0.01, each) for each in (streaks, mixed))
    assert one is not None
    assert other is not None
    wide, narrow = (each.expectancy_r.high - each.expectancy_r.low for each in (one, other))
    assert wide > 1.5 * narrow


def test_the_bootstrap_is_seeded() -> None:
    """The same trades and seed give the same intervals; their middle is near what was seen."""
    r = np.random.default_rng(16).normal(0.2, 1.0, 2000)
    found = sig.bootstrap(r * 0.01, r)
    assert found is not None
    assert found == sig.bootstrap(r * 0.01, r)
    assert found != sig.bootstrap(r * 0.01, r, seed=1)
    assert found.expectancy_r.middle == pytest.approx(r.mean(), abs=0.01)
    assert found.total_return.low < np.prod(1 + r * 0.01) - 1 < found.total_return.high
    assert 0 <= found.max_drawdown.low < found.max_drawdown.middle < found.max_drawdown.high <= 1


def test_no_trades_no_intervals() -> None:
    """Undefined is None."""
    assert sig.bootstrap(np.zeros(0), np.zeros(0)) is None


# Beside a result


def test_buy_and_hold_is_the_close_itself() -> None:
    """All the equity at the first close: its return, its deepest fall and its ratio."""
    series = walk(1, 900)
    hold = sig.buy_and_hold(series, 10_000.0)
    close = series.close
    returns = np.diff(close, prepend=close[0]) / np.concatenate((close[:1], close[:-1]))
    assert hold.equity[0] == 10_000
    assert hold.total_return == pytest.approx(close[-1] / close[0] - 1)
    assert hold.max_drawdown == pytest.approx(float((1 - close / np.maximum.accumulate(close)).max()))
    assert hold.sharpe == pytest.approx(returns.mean() / returns.std(ddof=1) * math.sqrt(365 * 6))


def test_bars_per_year() -> None:
    """Of 365 days."""
    assert sig.bars_per_year(timedelta(hours=4)) == 2190
