"""Is the verdict right as often as it claims? Markets of noise must not be proven, planted edges must be.

A slice of it runs always. The whole, 200 series for every count, with its figures printed:

    CONCLAVE_FULL_CALIBRATION=1 python -m pytest tests/research/test_calibration.py

Seeds are those of no market that the rule was thought out on. Series are of 10,000 to 20,000 bars of four hours, five
to nine years.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.backtest import backtest
from research.grid import Axis, Grid, search
from research.ground import Ground
from research.verdict import Searched, gather, judge
from research.walkforward import walk_forward
from tests.parity.plain import DEFAULTS, WHOLE
from tests.research import worlds
from tests.research.worlds import World
from trading.laboratory import Verdict
from trading.model import CandleSeries
from trading.strategy import strategy_named

FULL = bool(os.environ.get("CONCLAVE_FULL_CALIBRATION"))
SERIES = 200 if FULL else 24
EDGED = 200 if FULL else 12  # of each edge
FIRST_SEED = 730_000
RECORDED = "binance-perp/BTCUSDT-1h-20190908-20260517.parquet"
FREE = dict.fromkeys(("maker_fee", "taker_fee", "slippage", "funding_rate"), 0.0)
GRIDS: dict[str, tuple[Axis, ...]] = {
    "ema_trend": (
        ("ema_period", (50, 100, 150, 200, 300)),
        ("rsi_period", (7, 14)),
        ("sl_atr_multiplier", (2.0, 3.0, 4.0, 6.0)),
    ),
    "mean_reversion": (
        ("bb_period", (14, 20, 30)),
        ("bb_std", (1.5, 2.0, 2.5)),
        ("sl_atr_multiplier", (1.5, 2.0, 3.0)),
        ("adx_max", (20.0, 25.0)),
    ),
}

Study = Callable[[CandleSeries, str, dict[str, Any]], Verdict]

pytestmark = pytest.mark.timeout(1800 if FULL else 120)


def values_of(strategy: str) -> dict[str, Any]:
    """The defaults of the specification and of the strategy."""
    page = {name: int(value) if name in WHOLE else value for name, value in DEFAULTS.items()}
    return {**page, **strategy_named(strategy).parameters().as_dict()}


def alone(series: CandleSeries, strategy: str, values: dict[str, Any]) -> Verdict:
    """One backtest of the defaults."""
    result = backtest(series, strategy, values)
    return judge(result, gather(result))


def chosen(series: CandleSeries, strategy: str, values: dict[str, Any]) -> Verdict:
    """The best set of a grid by its Sharpe ratio: selection by luck."""
    grid = Grid(strategy=strategy, values=values, axes=GRIDS[strategy])
    found = search(Ground.of(series), grid)

    def again(number: int) -> Any:
        return backtest(series, strategy, grid.chosen(number))

    result = again(int(found.table("sharpe", 0.0).order[0]))
    return judge(result, gather(result, searched=Searched.of(found, again)))


def walked(series: CandleSeries, strategy: str, values: dict[str, Any]) -> Verdict:
    """A walk-forward of four folds over the same grid, judged on its joined tests."""
    walk, joined = walk_forward(series, Grid(strategy=strategy, values=values, axes=GRIDS[strategy]), 4, "sharpe")
    return judge(joined, gather(joined, walk=walk))


STUDIES: dict[str, Study] = {"alone": alone, "chosen": chosen, **({"walked": walked} if FULL else {})}


def noise() -> dict[str, World]:
    """Kinds of noise; with recorded bars where there are any."""
    path = Path(os.environ.get("CONCLAVE_TEST_DATA", "/nowhere")) / RECORDED
    return {**worlds.NOISE, "shuffled": worlds.shuffled(path)} if path.is_file() else worlds.NOISE


def series_of(world: World, place: int) -> CandleSeries:
    seed = FIRST_SEED + place
    return world(seed, int(np.random.default_rng(seed).integers(10_000, 20_000)))


def noisy() -> Iterator[tuple[str, CandleSeries]]:
    """Strategies in turn with kinds of noise in turn."""
    kinds, names = list(noise().values()), list(GRIDS)
    for place in range(SERIES):
        yield names[place // len(kinds) % len(names)], series_of(kinds[place % len(kinds)], place)


def told(name: str, words: Counter[str], capsys: pytest.CaptureFixture[str]) -> None:
    if FULL:
        with capsys.disabled():
            sys.stdout.write(f"\n{name}: {dict(words)} of {words.total()}\n")


@pytest.mark.parametrize("costs", ["costs", "free"])
@pytest.mark.parametrize("study", sorted(STUDIES))
def test_noise_is_not_proven(study: str, costs: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At most 5 %, also where trading costs nothing and noise is a fair game."""
    words: Counter[str] = Counter()
    for strategy, series in noisy():
        values = values_of(strategy) | (FREE if costs == "free" else {})
        words[STUDIES[study](series, strategy, values).word] += 1
    told(f"noise, {study}, {costs}", words, capsys)
    assert words["PROVEN"] <= 0.05 * SERIES, words


@pytest.mark.parametrize("study", sorted(STUDIES))
@pytest.mark.parametrize("edge", sorted(worlds.EDGES))
def test_planted_edges_are_proven(edge: str, study: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At least 80 %, after all costs, with the strategy that the edge was planted for."""
    strategy, world = worlds.EDGES[edge]
    words: Counter[str] = Counter(
        STUDIES[study](series_of(world, place), strategy, values_of(strategy)).word for place in range(EDGED)
    )
    told(f"edge, {edge}, {study}", words, capsys)
    assert words["PROVEN"] >= 0.80 * EDGED, words


@pytest.mark.parametrize("edge", sorted(worlds.EDGES))
def test_planted_edges_are_no_miracles(edge: str) -> None:
    """What is planted is what a good strategy earns: a Sharpe ratio of about two a year after costs."""
    strategy, world = worlds.EDGES[edge]
    ratios = [backtest(series_of(world, at), strategy, values_of(strategy)).metrics["sharpe"] for at in range(24)]
    assert 1.5 < float(np.mean([each or 0.0 for each in ratios])) < 2.5
