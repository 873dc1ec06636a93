"""A search says of every combination what a single backtest says of it, and keeps what it has done."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import subprocess
import sys
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.backtest import backtest
from research.grid import CHUNK, MOST, Chunk, Grid, Searcher, Sums, axes_of, chunks, search
from research.ground import Ground
from research.metrics import Metrics, Totals, metrics
from research.results import Result
from research.synthetic import synthetic
from tests.parity.compare import METRICS, same
from tests.parity.laboratory import candle_series, values_of
from tests.parity.series import KINDS, bars_from, random_funding, walk
from trading.errors import BadInput
from trading.model import CandleSeries

TREND = {"ema_period": 20, "adx_min": 5.0, "sl_atr_multiplier": 1.5, "trail_start_r": 0.5, "trail_step_r": 0.5}
RANGES = {"bb_period": 12, "bb_std": 1.2, "adx_max": 60.0}
BASE: dict[str, Mapping[str, float]] = {"ema_trend": TREND, "mean_reversion": RANGES}


def made(seed: int = 5, bars: int = 1500, kind: str | None = None) -> CandleSeries:
    """A lively series."""
    rng = np.random.default_rng(seed)
    series = KINDS[kind](rng) if kind else bars_from(rng, walk(rng, bars, vol=0.006), interval=60)
    return candle_series(series.bars, series.interval_ms)


def grid_of(*words: str, strategy: str = "ema_trend", **changes: float) -> Grid:
    values = values_of({**BASE[strategy], **changes}, strategy)
    return Grid(strategy=strategy, values=values, axes=axes_of(words, strategy, values))


def alone(series: CandleSeries, grid: Grid, number: int, funding: Any = None, first: int = 0) -> Result:
    """The combination's own backtest."""
    return backtest(series, grid.strategy, grid.chosen(number), funding, first=first)


def metrics_from(result: Result, first: int) -> Metrics:
    """The metrics of the bars from `first` on, from the curve and the trades that were written down."""
    profit = result.trades.pnl
    totals = Totals(
        trades=len(profit),
        wins=int((profit > 0).sum()),
        gains=math.fsum(profit[profit > 0]),
        losses=math.fsum(profit[profit <= 0]),
        r_multiples=math.fsum(result.trades.r),
        exposed=int(result.exposed.sum()),
        fees=float(result.metrics["fees"] or 0.0),
        funding=float(result.metrics["funding"] or 0.0),
    )
    initial = float(result.params["initial_equity"])
    return metrics(result.equity[first:], totals, initial_equity=initial, interval=result.series.interval)


def differing(series: CandleSeries, grid: Grid, sums: Sums, funding: Any = None, first: int = 0) -> list[str]:
    """Every metric of every combination in which the search and the backtest differ."""
    assert sums.done.all()
    found, wrong = sums.metrics(), []
    for number in range(grid.combinations):
        result = alone(series, grid, number, funding, first)
        expected = metrics_from(result, first) if first else result.metrics
        for name in METRICS:
            value = float(found[name][number])
            if not same(expected[name], None if math.isnan(value) else value):
                wrong.append(f"{grid.varied(number)} {name}: {value!r} instead of {expected[name]!r}")
    return wrong


GRIDS: dict[str, tuple[str, str]] = {
    "entry filters": ("ema_trend", "rsi_long_max=50:80:10 rsi_short_min=20,40 adx_min=0,15,30"),
    "entry indicators": ("ema_trend", "rsi_period=5,14 volume_ma_period=5,20 adx_period=7,14 knife_atr=0.5,3"),
    "exits": ("ema_trend", "take_profit_r=0,1,2 trail_start_r=0,0.5,1 trail_lag_r=0.3,1 trail_step_r=0.1,1"),
    "stops": ("ema_trend", "sl_atr_multiplier=0.3,1,4,50 atr_period=2,14 bb_std=0,2"),
    "orders": ("ema_trend", "entry_offset=0,0.001,0.004 entry_ttl_bars=1,3,9 runaway_r=0,0.5,3"),
    "mixed": ("ema_trend", "ema_period=10:40:15 rsi_period=7,14 sl_atr_multiplier=1,2.5 cooldown_bars=0,1,9"),
    "account": ("ema_trend", "risk_per_trade=0,0.01,0.5 leverage=1,5,100 max_position_usdt=100,15000,1e7"),
    "costs": ("ema_trend", "maker_fee=0,0.001 taker_fee=0,0.002 slippage=0,0.01 funding_rate=-0.001,0,0.002"),
    "instrument": ("ema_trend", "tick_size=0.01,0.1,1 qty_step=0.001,0.1 min_qty=0,0.2 min_notional=0,500"),
    "equity": ("ema_trend", "initial_equity=1,100,10000 risk_per_trade=0.01,0.9 rsi_period=7,14"),
    "everything": ("ema_trend", "ema_period=10,30 initial_equity=50,1e4 take_profit_r=0,1 funding_rate=0,0.01"),
    "one value each": ("ema_trend", "ema_period=12 rsi_period=9 slippage=0.001"),
    "one axis": ("ema_trend", "sl_atr_multiplier=0.5:3:0.5"),
    "reversion, entries": ("mean_reversion", "adx_max=15,30,60,101 adx_period=7,14"),
    "reversion, exits": ("mean_reversion", "bb_period=5,12,20 bb_std=0,1,2 sl_atr_multiplier=0.5,2"),
    "reversion, mixed": ("mean_reversion", "adx_max=30,60 take_profit_r=0,1 risk_per_trade=0.01,0.2"),
}


@pytest.mark.parametrize("first", [0, 317])
@pytest.mark.parametrize("name", GRIDS)
def test_every_combination_is_its_own_backtest(name: str, first: int) -> None:
    """All metrics, with funding rates of which some are missing; None exactly where None."""
    strategy, words = GRIDS[name]
    rng = np.random.default_rng(len(name))
    series = bars_from(rng, walk(rng, 1200, vol=0.006), interval=60)
    rates = {at: Decimal(repr(rate)) for at, rate in random_funding(rng, series).items()}
    bars, grid = candle_series(series.bars, series.interval_ms), grid_of(*words.split(), strategy=strategy)
    for funding in (None, rates):
        sums = search(Ground.of(bars, funding), grid, first=first)
        assert differing(bars, grid, sums, funding, first) == []
        assert sums.metrics()["trades"].max() > 20


@pytest.mark.parametrize("strategy", ["ema_trend", "mean_reversion"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_series(kind: str, strategy: str) -> None:
    """Gaps, crashes, flat stretches, cheap and dear prices, days, two bars."""
    series = made(11, kind=kind)
    words = ["atr_period=3,9", "sl_atr_multiplier=0.5,2", "risk_per_trade=0.01,0.3", "take_profit_r=0,0.7"]
    grid = grid_of(*words, strategy=strategy, adx_period=5, **({"ema_period": 6} if strategy == "ema_trend" else {}))
    assert differing(series, grid, search(Ground.of(series), grid)) == []


def test_ruin_is_the_same_in_a_search() -> None:
    """Equity driven to zero and below by gaps, high leverage and all of the money at risk."""
    series = made(3, kind="gapped")
    grid = grid_of("risk_per_trade=0.5,1,5", "leverage=1,20,100", "sl_atr_multiplier=0.1,0.5", max_position_usdt=1e9)
    sums = search(Ground.of(series), grid)
    assert differing(series, grid, sums) == []
    assert 0 < sums.sums[:, -1].sum() < grid.combinations


def test_small_trades_of_a_rich_account() -> None:
    """A trade's profit is no difference of two large balances: fractions of a dollar beside ten billion."""
    grid = grid_of("initial_equity=1e4,1e8,1e12", "max_position_usdt=20,1000", "take_profit_r=0,1", cooldown_bars=3)
    series = made()
    found = search(Ground.of(series), grid).metrics()
    for number in range(grid.combinations):
        result = alone(series, grid, number)
        for name in ("trades", "win_rate", "profit_factor", "expectancy_r", "fees", "funding"):
            assert same(result.metrics[name], float(found[name][number])), f"{grid.varied(number)} {name}"


def test_returns_of_a_minute_may_not_be_annualised_to_infinity() -> None:
    """Five hours of minutes that made money: a year of that is no number, in a search as in a backtest."""
    rng = np.random.default_rng(8)
    rising = bars_from(rng, walk(rng, 300, drift=0.004, vol=0.003), interval=1)
    series = candle_series(rising.bars, rising.interval_ms)
    lively: dict[str, Any] = {"ema_period": 5, "adx_period": 3, "rsi_long_max": 200.0, "leverage": 20.0}
    lively["trail_start_r"] = 0.0
    grid = grid_of("risk_per_trade=0.01,0.5,1", max_position_usdt=1e9, **lively)
    sums = search(Ground.of(series), grid)
    assert sums.metrics()["total_return"].max() > 1
    assert differing(series, grid, sums) == []
    assert not any(np.isinf(values).any() for values in sums.metrics().values())


@pytest.mark.parametrize("wobble", [0.0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3])
def test_small_losses_beside_large_gains_count_in_sortino(wobble: float) -> None:
    """A straight rise with falls ever so small: what falls is summed up without being drowned by what rises."""
    n = 400
    closes = 1000 * np.exp(np.cumsum(np.where(np.arange(n) % 7 == 6, -wobble, 0.02)))
    series = bars_from(np.random.default_rng(1), closes, wick=0.004, grid=None, interval=60)
    free: dict[str, Any] = {"maker_fee": 0.0, "taker_fee": 0.0, "slippage": 0.0, "funding_rate": 0.0, "tick_size": 1e-6}
    free |= {"trail_start_r": 0.0, "adx_period": 5, "rsi_long_max": 200.0, "max_position_usdt": 1e12}
    free |= {"volume_ma_period": 2, "bb_period": 3, "qty_step": 1e-6, "min_qty": 1e-6}
    grid = grid_of(
        "ema_period=5,10",
        "sl_atr_multiplier=2,6",
        **free,
    )
    bars = candle_series(series.bars, series.interval_ms)
    assert differing(bars, grid, search(Ground.of(bars), grid)) == []


# How the work is cut does not matter


def test_chunks_of_any_size_give_the_same_to_the_bit() -> None:
    """1, 7 and 200 combinations at a time, and one that mixes groups."""
    series = made()
    grid = grid_of("rsi_long_max=50:80:5", "adx_min=0,10,20", "sl_atr_multiplier=1,2", "cooldown_bars=0,3")
    whole = search(Ground.of(series), grid)
    for most in (1, 7, CHUNK):
        searcher, seen = Searcher(Ground.of(series), grid), np.zeros(grid.combinations, np.int64)
        for chunk in chunks(grid, np.zeros(grid.combinations, np.bool_), most):
            assert 1 <= len(chunk.numbers) <= most
            sums, blocks = searcher.search(chunk)
            assert np.array_equal(sums, whole.sums[chunk.numbers])
            assert np.array_equal(blocks, whole.blocks[chunk.numbers])
            seen[chunk.numbers] += 1
        assert (seen == 1).all()
    mixed = np.random.default_rng(0).permutation(grid.combinations)
    sums, _ = Searcher(Ground.of(series), grid).search(Chunk(mixed))
    assert np.array_equal(sums, whole.sums[mixed])


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_any_number_of_jobs_gives_the_same_to_the_bit(jobs: int) -> None:
    """Also where funding rates vary, which all threads take from one place."""
    series = made()
    grid = grid_of("rsi_long_max=50:80:2", "adx_min=0,10,20", "sl_atr_multiplier=1,2", "funding_rate=0,0.001,0.01")
    one, many = search(Ground.of(series), grid), search(Ground.of(series), grid, jobs=jobs)
    assert np.array_equal(one.sums, many.sums)
    assert np.array_equal(one.blocks, many.blocks)
    assert many.done.all()


def test_a_full_bank_of_conditions_begins_anew_without_harm() -> None:
    """More conditions than there is room for, at the least room that there ever is."""
    series = made(bars=400)
    grid = grid_of("rsi_long_max=20:100:0.1", "rsi_short_min=0:40:20", "adx_min=0,10", ema_period=5, adx_period=3)
    whole = search(Ground.of(series), grid)
    for each in ("rsi_short_min", "rsi_long_max"):
        turned = sorted(grid.axes, key=lambda axis, last=each: axis[0] == last)  # type: ignore[misc]
        other = dataclasses.replace(grid, axes=tuple(turned))
        searcher = Searcher(Ground.of(series), other)
        searcher._bank._room = 1024
        places = {name: place for place, name in enumerate(other.names)}
        for chunk in chunks(other, np.zeros(other.combinations, np.bool_)):
            at = np.unravel_index(chunk.numbers, other.shape)
            same_ones = np.ravel_multi_index([at[places[name]] for name in grid.names], grid.shape)
            assert np.array_equal(searcher.search(chunk)[0], whole.sums[same_ones])


def test_blocks_sum_to_the_returns() -> None:
    """The sixteen blocks hold each bar's return once: sums and squares, span by span."""
    series = made(bars=1237)
    grid = grid_of("rsi_long_max=50,70", "sl_atr_multiplier=1,3")
    sums = search(Ground.of(series), grid, first=100)
    assert sums.bars_per_block.sum() == sums.bars == 1137
    edges = 100 + np.concatenate(([0], np.cumsum(sums.bars_per_block)))
    for number in range(grid.combinations):
        equity = alone(series, grid, number, first=100).equity
        before = np.concatenate(([grid.values["initial_equity"]], equity[:-1]))
        returns = equity / before - 1
        parts = [returns[start:stop] for start, stop in itertools.pairwise(edges)]
        assert np.allclose(sums.blocks[number, 0], [part.sum() for part in parts], rtol=1e-5, atol=1e-8)
        assert np.allclose(sums.blocks[number, 1], [(part**2).sum() for part in parts], rtol=1e-5, atol=1e-10)
        assert math.isclose(sums.sums[number, 1], returns.sum(), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.parametrize("bars", [2, 3, 15, 16, 17, 31, 33])
def test_fewer_bars_than_blocks(bars: int) -> None:
    """Every bar falls into one block."""
    series = made(bars=bars)
    grid = grid_of("sl_atr_multiplier=1,3", ema_period=2, rsi_period=2, adx_period=2, atr_period=2)
    sums = search(Ground.of(series), grid)
    assert sums.bars_per_block.sum() == bars
    assert differing(series, grid, sums) == []


AXES: dict[str, st.SearchStrategy[list[Any]]] = {
    "ema_period": st.lists(st.integers(2, 60), min_size=1, max_size=2),
    "rsi_period": st.lists(st.integers(2, 20), min_size=1, max_size=2),
    "rsi_long_max": st.lists(st.sampled_from([40.0, 60.0, 75.0, 101.0]), min_size=1, max_size=2),
    "adx_min": st.lists(st.sampled_from([0.0, 10.0, 30.0]), min_size=1, max_size=2),
    "atr_period": st.lists(st.integers(2, 20), min_size=1, max_size=2),
    "sl_atr_multiplier": st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.3, 50.0]), min_size=1, max_size=2),
    "take_profit_r": st.lists(st.sampled_from([0.0, 0.4, 1.0, 3.0]), min_size=1, max_size=2),
    "trail_start_r": st.lists(st.sampled_from([0.0, 0.3, 1.0]), min_size=1, max_size=2),
    "trail_step_r": st.lists(st.sampled_from([0.05, 0.3, 1.0]), min_size=1, max_size=2),
    "trail_lag_r": st.lists(st.sampled_from([0.0, 0.5, 2.0]), min_size=1, max_size=2),
    "knife_atr": st.lists(st.sampled_from([0.0, 1.0, 3.0]), min_size=1, max_size=2),
    "bb_std": st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=1, max_size=2),
    "entry_offset": st.lists(st.sampled_from([0.0, 0.0005, 0.01, 1.0]), min_size=1, max_size=2),
    "entry_ttl_bars": st.lists(st.integers(1, 6), min_size=1, max_size=2),
    "runaway_r": st.lists(st.sampled_from([0.0, 0.3, 3.0]), min_size=1, max_size=2),
    "cooldown_bars": st.lists(st.integers(0, 9), min_size=1, max_size=2),
    "initial_equity": st.lists(st.sampled_from([3.0, 500.0, 1e4, 1e7]), min_size=1, max_size=2),
    "risk_per_trade": st.lists(st.sampled_from([0.0, 0.01, 0.2, 3.0]), min_size=1, max_size=2),
    "leverage": st.lists(st.sampled_from([1.0, 5.0, 100.0]), min_size=1, max_size=2),
    "funding_rate": st.lists(st.sampled_from([-0.01, 0.0, 0.0001, 0.05]), min_size=1, max_size=2),
    "slippage": st.lists(st.sampled_from([0.0, 0.0002, 0.05]), min_size=1, max_size=2),
    "tick_size": st.lists(st.sampled_from([0.001, 0.1, 5.0, 0.25]), min_size=1, max_size=2),
    "qty_step": st.lists(st.sampled_from([0.0001, 0.001, 1.0]), min_size=1, max_size=2),
}


@st.composite
def some_grid(draw: st.DrawFn) -> Grid:
    """Up to four axes of up to two values each."""
    names = draw(st.lists(st.sampled_from(sorted(AXES)), min_size=1, max_size=4, unique=True))
    axes = tuple((name, tuple(sorted(set(draw(AXES[name]))))) for name in names)
    values = values_of({**TREND, "max_position_usdt": draw(st.sampled_from([15_000.0, 1e9]))})
    return Grid(strategy="ema_trend", values=values, axes=axes)


@settings(max_examples=150)
@given(
    grid=some_grid(),
    kind=st.sampled_from(sorted(KINDS)),
    seed=st.integers(0, 10_000),
    first=st.sampled_from([0, 0, 1, 30, 200]),
)
def test_any_grid_on_any_series(grid: Grid, kind: str, seed: int, first: int) -> None:
    """The property of all the above."""
    series = made(seed, kind=kind)
    first = min(first, len(series) - 2)
    assert differing(series, grid, search(Ground.of(series), grid, first=first), None, first) == []


# What a grid is made of


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("ema_perod=3", r"ema_perod: unknown name \(did you mean ema_period\?\)"),
        ("adx_max=3", r"adx_max: unknown name"),
        ("=3", "unknown name"),
        ("", "unknown name"),
        ("ema_period", "ema_period: write ema_period=a,b,c or ema_period=start:stop:step"),
        ("ema_period=", "ema_period: write ema_period=a,b,c or ema_period=start:stop:step"),
        ("ema_period=1,,2", "ema_period=1,,2: write ema_period=a,b,c or"),
        ("ema_period=10:20", "ema_period=10:20: write ema_period=a,b,c or"),
        ("ema_period=a:b:c", "ema_period=a:b:c: write ema_period=a,b,c or"),
        ("ema_period=2.5", "ema_period: 2.5 must be a whole number"),
        ("ema_period=10:12:0.5", "ema_period: 10.5 must be a whole number"),
        ("ema_period=1", "ema_period must be at least 2"),
        ("leverage=0.5,2", "leverage must be at least 1"),
        ("tick_size=0", "tick_size must be greater than 0"),
        ("initial_equity=-5", "initial_equity must be greater than 0"),
        ("ema_period=20:10:1", "ema_period=20:10:1: start must not be above stop, and step must be above 0"),
        ("ema_period=10:20:0", "step must be above 0"),
        ("ema_period=10:20:-1", "step must be above 0"),
        ("ema_period=5,7,5", "ema_period: a value stands there twice"),
        ("rsi_long_max=nan", "rsi_long_max: nan is not a finite number"),
        ("rsi_long_max=inf", "rsi_long_max: inf is not a finite number"),
        ("rsi_long_max=1e400", "rsi_long_max: inf is not a finite number"),
        ("rsi_long_max=nan:3:1", "rsi_long_max=nan:3:1: start must"),
        ("rsi_long_max=1:inf:1", "rsi_long_max=1:inf:1: start must"),
        ("rsi_long_max=0:1e7:1", "rsi_long_max=0:1e7:1: that is .*2,000,000 .* the most"),
        ("rsi_long_max=0:100:1e-320", "rsi_long_max=0:100:1e-320: "),
        ("rsi_long_max=0:1e308:1e-5", "rsi_long_max=0:1e308:1e-5: "),
    ],
)
def test_a_wrong_axis_is_refused_by_name(word: str, said: str) -> None:
    """One line that names the parameter and says what is wrong with it."""
    values = values_of({})
    with pytest.raises(BadInput, match=said) as refused:
        axes_of([word], "ema_trend", values)
    assert "\n" not in str(refused.value)


TOO_LARGE = ["ema_period=100001", "rsi_period=1e300", "cooldown_bars=0,1e19", "entry_ttl_bars=1e16"]


@pytest.mark.parametrize("word", TOO_LARGE)
def test_what_the_command_line_refuses_elsewhere_is_no_axis(word: str) -> None:
    """`--set` refuses these: TA-Lib knows no longer periods, and such a count of bars is no number of the kernel's."""
    name = word.partition("=")[0]
    with pytest.raises(BadInput, match=name):
        axes_of([word], "ema_trend", values_of({}))


def test_wrong_grids_are_refused() -> None:
    """An axis twice, none at all, too many combinations, another strategy's parameter."""
    values = values_of({})
    with pytest.raises(BadInput, match=r"ema_period is on the grid twice: .*ema_period=a,b,c"):
        axes_of(["ema_period=20,30", "ema_period=40"], "ema_trend", values)
    with pytest.raises(BadInput, match="a search needs a grid: --grid name=a,b,c"):
        axes_of([], "ema_trend", values)
    with pytest.raises(BadInput, match=f"3,996,001 combinations and {MOST:,} are the most"):
        axes_of(["ema_period=2:2000:1", "rsi_period=2:2000:1"], "ema_trend", values)
    with pytest.raises(BadInput, match="rsi_period: unknown name"):
        axes_of(["rsi_period=7"], "mean_reversion", values_of({}, "mean_reversion"))


def test_ranges_hold_both_ends_and_no_dust() -> None:
    """0.1 and two steps of 0.1 are 0.3; whole parameters stay whole."""
    values = values_of({})
    ((_, steps),) = axes_of(["trail_step_r=0.1:0.5:0.1"], "ema_trend", values)
    assert steps == (0.1, 0.2, 0.3, 0.4, 0.5)
    ((_, periods),) = axes_of(["ema_period=30, 10,20"], "ema_trend", values)
    assert [repr(period) for period in periods] == ["10", "20", "30"]
    ((_, uneven),) = axes_of(["ema_period=10:25:10"], "ema_trend", values)
    assert uneven == (10, 20)


@given(st.text(max_size=30))
def test_any_words_are_read_or_refused(text: str) -> None:
    """Never anything but axes or `BadInput`."""
    values = values_of({})
    for word in (text, f"rsi_long_max={text}", f"ema_period={text}"):
        with contextlib.suppress(BadInput):
            assert axes_of([word], "ema_trend", values)


def test_a_number_is_a_combination() -> None:
    """Row-major, the last axis fastest; the matrix says the same."""
    grid = grid_of("ema_period=10,20", "rsi_long_max=50,60,70")
    assert (grid.shape, grid.combinations) == ((2, 3), 6)
    expected = list(itertools.product((10, 20), (50, 60, 70)))
    assert [tuple(grid.varied(number).values()) for number in range(6)] == expected
    assert [tuple(row) for row in grid.matrix().tolist()] == expected
    assert grid.chosen(5) == {**grid.values, "ema_period": 20, "rsi_long_max": 70.0}


@pytest.mark.parametrize("objective", ["sharpe", "return", "calmar", "expectancy"])
def test_the_table_ranks_by_the_objective(objective: str) -> None:
    """The best first, undefined ones at the end."""
    series = made()
    grid = grid_of("rsi_long_max=0,50,60,70,80", "rsi_short_min=30,100", "sl_atr_multiplier=0.5,1,2")
    table = search(Ground.of(series), grid).table(objective, 1.5)
    name = {"sharpe": "sharpe", "return": "total_return", "calmar": "calmar", "expectancy": "expectancy_r"}[objective]
    worth = [alone(series, grid, number).metrics[name] for number in range(grid.combinations)]
    ranked = [worth[row] for row in table.order.tolist()]
    defined = [value for value in ranked if value is not None]
    assert defined == sorted(defined, reverse=True)
    assert ranked[len(defined) :] == [None] * (len(ranked) - len(defined))
    assert None in ranked or objective == "return"
    assert (table.combinations, table.evaluated, table.seconds) == (30, 30, 1.5)


# Stopped and taken up again


def long_grid() -> Grid:
    return grid_of("rsi_long_max=50:80:1", "adx_min=0:20:4", "sl_atr_multiplier=1,2,3", "cooldown_bars=0,2")


class After:
    """True from the count-th question on."""

    def __init__(self, count: int) -> None:
        self.left = count

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_stopped_search_goes_on_where_it_was(tmp_path: Path, count: int) -> None:
    """What is done is kept, said, and not done again; the sums are those of one search."""
    series, grid = made(bars=600), long_grid()
    whole = search(Ground.of(series), grid)
    part = search(Ground.of(series), grid, stopped=After(count))
    done = int(part.done.sum())
    work = chunks(grid, np.zeros(grid.combinations, np.bool_))
    assert done == sum(len(chunk.numbers) for chunk in itertools.islice(work, count))
    assert np.array_equal(part.sums[part.done], whole.sums[part.done])
    table = part.table("sharpe", 0.0)
    assert (table.evaluated, table.combinations, len(table.order)) == (done, grid.combinations, done)
    part.save(tmp_path / "kept.npz", "data")
    again = Sums.empty(grid, part.bars, part.interval)
    assert again.resume(tmp_path / "kept.npz", "data") == done
    told: list[int] = []
    search(Ground.of(series), grid, known=again, jobs=2, tell=told.append)
    assert told == sorted(told)
    assert told[-1] == grid.combinations
    assert np.array_equal(again.sums, whole.sums)
    assert np.array_equal(again.blocks, whole.blocks)


def test_an_error_in_the_middle_keeps_what_is_done() -> None:
    """Ctrl-C comes as an exception between two chunks: `known` holds what was done before it."""
    series, grid = made(bars=600), long_grid()
    known = Sums.empty(grid, len(series), series.interval)
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        if asked > 4:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        search(Ground.of(series), grid, known=known, stopped=stopped)
    assert 0 < known.done.sum() < grid.combinations
    search(Ground.of(series), grid, known=known)
    assert np.array_equal(known.sums, search(Ground.of(series), grid).sums)


def test_leftovers_of_something_else_are_not_taken_over(tmp_path: Path) -> None:
    """Another grid, another account, other bars, another file."""
    series, grid, kept = made(bars=600), long_grid(), tmp_path / "kept.npz"
    search(Ground.of(series), grid).save(kept, "data")
    others = [
        (dataclasses.replace(grid, values={**grid.values, "slippage": 0.001}), 600, "data"),
        (dataclasses.replace(grid, axes=tuple(reversed(grid.axes))), 600, "data"),
        (dataclasses.replace(grid, axes=(*grid.axes[:-1], ("cooldown_bars", (0, 3)))), 600, "data"),
        (dataclasses.replace(grid, strategy="mean_reversion"), 600, "data"),
        (grid, 599, "data"),
        (grid, 600, "other data"),
    ]
    for other, bars, data in others:
        sums = Sums.empty(other, bars, series.interval)
        assert sums.resume(kept, data) == 0
        assert not sums.done.any()
    mine = Sums.empty(grid, 600, series.interval)
    assert mine.resume(tmp_path / "nothing.npz", "data") == 0
    assert mine.resume(kept, "data") == grid.combinations


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.3, 0.7, 0.99, 0.9999])
def test_a_truncated_file_is_ignored(tmp_path: Path, share: float) -> None:
    """A full disk: what is there is not whole, and is not taken for anything."""
    series, grid, kept = made(bars=600), long_grid(), tmp_path / "kept.npz"
    search(Ground.of(series), grid).save(kept, "data")
    content = kept.read_bytes()
    kept.write_bytes(content[: int(len(content) * share)])
    sums = Sums.empty(grid, 600, series.interval)
    assert sums.resume(kept, "data") == 0
    assert not sums.done.any()


@pytest.mark.parametrize("member", [b"done.npy", b"sums.npy", b"blocks.npy"])
def test_a_damaged_file_is_ignored(tmp_path: Path, member: bytes) -> None:
    """A flipped bit in any of its arrays: nothing counts as done that is not there."""
    series, grid, kept = made(bars=600), long_grid(), tmp_path / "kept.npz"
    search(Ground.of(series), grid).save(kept, "data")
    content = bytearray(kept.read_bytes())
    content[content.index(member) + 300] ^= 0x40
    kept.write_bytes(bytes(content))
    sums = Sums.empty(grid, 600, series.interval)
    assert sums.resume(kept, "data") == 0
    assert not sums.done.any()


# Memory

MEASURED = """
import sys
import numpy as np
from research.grid import Grid, axes_of, search
from research.ground import Ground
from research.synthetic import synthetic
from tests.parity.laboratory import values_of

def most():
    with open("/proc/self/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith("VmHWM")).split()[1])

values = values_of({})
series = synthetic("BTCUSDT", seed=7, bars=int(sys.argv[1]), interval_minutes=15)
ground = Ground.of(series)
def run(*words):
    sums = search(ground, Grid(strategy="ema_trend", values=values, axes=axes_of(words, "ema_trend", values)), jobs=2)
    return len(sums.table("sharpe", 1.0).order), most()
few, before = run("ema_period=100:280:20", "rsi_period=5:14:1", "sl_atr_multiplier=1:5.5:0.5")
many, after = run("ema_period=100:280:20", "rsi_period=5:14:1", "rsi_long_max=50:99:1", "sl_atr_multiplier=1:5.5:0.5",
                  "cooldown_bars=0,5")
print(few, many, (after - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_hardly_grows_with_the_combinations() -> None:
    """From 1,000 to 100,000 combinations: 50 MB at most, sums of 240 bytes each included."""
    here = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "5000"], cwd=here, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    few, many, grown = map(int, done.stdout.split())
    assert (few, many) == (1000, 100_000)
    assert grown <= 50


def test_synthetic_candles_search_as_any() -> None:
    """The shipped market at the shipped defaults."""
    series = synthetic("BTCUSDT", seed=7, bars=2500, interval_minutes=240)
    grid = Grid(strategy="ema_trend", values=values_of({}), axes=(("ema_period", (50, 200)), ("rsi_period", (7, 14))))
    assert differing(series, grid, search(Ground.of(series), grid)) == []
