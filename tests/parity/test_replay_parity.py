"""The program and the plain page agree trade by trade, on series made to disagree on and on recorded ones.

CONCLAVE_FULL_PARITY=1 takes more parameter sets of the recorded ones.
"""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.parity.compare import differences
from tests.parity.plain import simulate
from tests.parity.product import product, replay_file
from tests.parity.series import COLUMNS, KINDS, Bars, random_funding, random_params

FULL = os.environ.get("CONCLAVE_FULL_PARITY") == "1"
SETS = 10 if FULL else 4
MANY_BARS = 40_000
SETS_FOR_MANY_BARS = 0  # the kernel meets them in test_backtest_parity.py
NUMBERS = 12 if FULL else 6  # of each kind of made-up series
ETHUSDT = {"tick_size": 0.01, "qty_step": 0.01, "min_qty": 0.01, "min_notional": 5.0}


def seeded(*parts: object) -> np.random.Generator:
    """A generator that depends on the words alone."""
    return np.random.default_rng(zlib.crc32(" ".join(map(str, parts)).encode()))


# Synthetic series


@pytest.mark.parametrize("number", range(NUMBERS))
@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_series_give_equal_trades_and_money(kind: str, number: int) -> None:
    """Every kind of series, each time another one with other parameters; every third has funding rates."""
    rng = seeded("synthetic", kind, number)
    series = KINDS[kind](rng)
    params = random_params(rng, series.price)
    rates = random_funding(rng, series) if number % 3 == 2 else None
    expected = simulate(series.bars, params, interval_ms=series.interval_ms, funding=rates)
    suffix = (".parquet", ".csv", ".csv.gz")[number % 3]
    actual = product(series.bars, params, interval_ms=series.interval_ms, funding=rates, suffix=suffix)
    assert differences(expected, actual) == []


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_the_pages_defaults(kind: str) -> None:
    """Without any `--set` the program trades the page's default parameters, and says which they are."""
    series = KINDS[kind](seeded("defaults", kind))
    expected = simulate(series.bars, {}, interval_ms=series.interval_ms)
    actual = product(series.bars, {}, interval_ms=series.interval_ms)
    assert differences(expected, actual) == []
    assert {name: actual["params"][name] for name in expected["params"]} == expected["params"]


def test_the_synthetic_matrix_is_worth_comparing() -> None:
    """The matrix holds many trades of every exit, on both sides, and candidates the knife rejects."""
    reasons: dict[tuple[str, str], int] = {}
    rejected = 0
    for kind in KINDS:
        for number in range(NUMBERS):
            rng = seeded("synthetic", kind, number)
            series = KINDS[kind](rng)
            result = simulate(series.bars, random_params(rng, series.price), interval_ms=series.interval_ms)
            rejected += len(result["rejected"])
            for trade in result["trades"]:
                key = (trade["side"], trade["exit_reason"])
                reasons[key] = reasons.get(key, 0) + 1
    assert len(reasons) == 8
    assert min(reasons.values()) >= 4 * NUMBERS
    assert rejected >= 4 * NUMBERS


# Recorded series


def recorded(folder: str = "") -> list[Path]:
    """The candle files of the test data, none when there is no test data."""
    root = os.environ.get("CONCLAVE_TEST_DATA", "")
    return sorted((Path(root) / folder).rglob("*.parquet")) if root else []


@cache
def candles(path: Path) -> tuple[Bars, int]:
    """The bars of a file and their length, the smallest spacing."""
    frame = pd.read_parquet(path)
    bars: Bars = {name: frame[name].to_numpy() for name in COLUMNS}
    return bars, int(np.diff(bars["timestamp"]).min())


def recorded_cases() -> list[Any]:
    """Every file with its parameter sets; without test data one case that says so."""
    cases = []
    for path in recorded():
        many = len(candles(path)[0]["close"]) > MANY_BARS
        sets = SETS_FOR_MANY_BARS if many and not FULL else SETS
        cases += [pytest.param(path, number, id=f"{path.parent.name}/{path.stem}-{number}") for number in range(sets)]
    return cases or [pytest.param(None, 0, marks=pytest.mark.skip(reason="CONCLAVE_TEST_DATA is not set"))]


def recorded_params(path: Path, number: int, price: float) -> dict[str, float]:
    """The defaults first, then random sets; another symbol than BTCUSDT names its instrument."""
    symbol = path.name.split("-")[0]
    instrument = ETHUSDT if symbol == "ETHUSDT" else {}
    if number == 0:
        return {**instrument}
    return {**random_params(seeded("recorded", path.name, number), price), **instrument}


@pytest.mark.parametrize(("path", "number"), recorded_cases())
def test_recorded_series_give_equal_trades_and_money(path: Path, number: int) -> None:
    """Real candles: the defaults and random parameter sets."""
    bars, interval_ms = candles(path)
    params = recorded_params(path, number, float(np.median(bars["close"])))
    expected = simulate(bars, params, interval_ms=interval_ms)
    assert differences(expected, replay_file(path, params)) == []


def funding_cases() -> list[Any]:
    """The bybit files with the rates of their symbol."""
    root = Path(os.environ.get("CONCLAVE_TEST_DATA", ""))
    cases = []
    for path in recorded("bybit"):
        if "-5m-" in path.stem and not FULL:
            continue
        symbol = path.name.split("-")[0]
        rates = next((root / "funding").glob(f"{symbol}-bybit-*.csv.gz"))
        cases += [pytest.param(path, rates, number, id=f"{path.stem}-{number}") for number in range(3 if FULL else 1)]
    skip = pytest.mark.skip(reason="CONCLAVE_TEST_DATA is not set")
    return cases or [pytest.param(None, None, 0, marks=skip)]


@pytest.mark.parametrize(("path", "rates", "number"), funding_cases())
def test_recorded_funding_is_paid_at_its_own_settlements(path: Path, rates: Path, number: int) -> None:
    """Real candles with the exchange's own funding rates; settlements beyond the series fall back."""
    bars, interval_ms = candles(path)
    params = recorded_params(path, number, float(np.median(bars["close"])))
    with gzip.open(rates, "rt", newline="") as file:
        series = {int(row["timestamp"]): float(row["funding_rate"]) for row in csv.DictReader(file)}
    expected = simulate(bars, params, interval_ms=interval_ms, funding=series)
    assert differences(expected, replay_file(path, params, funding=rates)) == []
    without = simulate(bars, params, interval_ms=interval_ms)
    assert expected["metrics"]["funding"] != without["metrics"]["funding"]


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in recorded("bybit") if "-1h-" in path.stem]
)
def test_the_answer_names_its_candles(path: Path) -> None:
    """The object says how many rows it has seen, and their first and last times."""
    bars, _ = candles(path)
    params = ETHUSDT if path.name.startswith("ETHUSDT") else {}
    seen = replay_file(path, params)["candles"]
    assert seen["rows"] == len(bars["close"])
    assert (seen["first"], seen["last"]) == (int(bars["timestamp"][0]), int(bars["timestamp"][-1]))
    assert len(seen["sha256"]) == 64
