"""The kernel's backtest, the replay and the plain page agree: trades, money, metrics and the equity curve.

Most comparisons are made in this process (`research.backtest` and the plain page); a part of them goes through both
command lines as well. CONCLAVE_FULL_PARITY=1 takes the recorded files whole, in several parameter sets.
"""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.compare import differences
from tests.parity.laboratory import backtest_file, backtested, curve_differences, twin_differences, walked
from tests.parity.plain import OF_TREND_ALONE, simulate
from tests.parity.product import product, run
from tests.parity.series import COLUMNS, KINDS, Bars, Series, bars_from, random_funding, random_params, walk
from tests.parity.series import write_candles as written
from tests.parity.test_replay_parity import ETHUSDT, FULL, candles, recorded, seeded

STRATEGIES = ("ema_trend", "mean_reversion")
SETS = 10 if FULL else 5  # of each kind of series and strategy
WINDOW = 0 if FULL else 5_000  # of recorded files; 0: whole


def drawn(rng: np.random.Generator, price: float, strategy: str) -> dict[str, float]:
    """A parameter set for the strategy; one in three goes to extremes in a few names."""
    params = random_params(rng, price)
    if strategy == "mean_reversion":
        params = {name: value for name, value in params.items() if name not in OF_TREND_ALONE}
        params |= {"adx_max": float(rng.choice([15.0, 30.0, 60.0, 101.0])), "bb_period": int(rng.integers(2, 40))}
    if rng.random() < 1 / 3:
        extremes = EXTREMES if strategy == "ema_trend" else {k: v for k, v in EXTREMES.items() if k in params}
        names = rng.choice(sorted(extremes), size=int(rng.integers(1, 5)), replace=False)
        params |= {str(name): extremes[name][int(rng.integers(0, len(extremes[name])))] for name in names}
    return params


EXTREMES: dict[str, tuple[float, ...]] = {
    "sl_atr_multiplier": (0.1, 0.05, 50.0),
    "entry_offset": (0.0, 0.05, 0.9, 1.0),
    "leverage": (1.0, 100.0),
    "initial_equity": (0.5, 4.0, 1e6),
    "risk_per_trade": (0.0, 1.0, 5.0),
    "max_position_usdt": (0.0, 4.0, 1e12),
    "cooldown_bars": (50, 100_000),
    "entry_ttl_bars": (1, 500),
    "take_profit_r": (0.05, 30.0, 1000.0),
    "trail_start_r": (0.0, 1e-3, 40.0),
    "trail_step_r": (0.001, 25.0),
    "trail_lag_r": (0.0, 30.0),
    "runaway_r": (0.0, 1000.0),
    "funding_rate": (0.05, -0.05),
    "slippage": (0.2, 1.0),
    "taker_fee": (0.3,),
    "tick_size": (0.001, 0.25, 7.0),
    "min_qty": (1e6,),
    "min_notional": (1e9,),
    "ema_period": (2, 5_000),
}


def compared(
    series: Series,
    params: dict[str, float],
    *,
    funding: dict[int, float] | None = None,
    strategy: str = "ema_trend",
    through: bool = False,
) -> list[str]:
    """Every difference between the page and the backtest; `through`: and the replay, by both command lines."""
    asked: dict[str, Any] = {"interval_ms": series.interval_ms, "funding": funding, "strategy": strategy}
    expected, actual = simulate(series.bars, params, **asked), walked(series.bars, params, **asked)
    found = differences(expected, actual) + curve_differences(expected["equity"], actual["equity"])
    gates, entries = actual["gates"], Counter(entry["fate"] for entry in expected["entries"])
    fates = {"placed": entries.total(), "filled": entries["filled"], "expired": entries["expired"]}
    fates |= {"ran_away": entries["runaway"], "knives": len(expected["rejected"]), "skipped": len(expected["skipped"])}
    found += [
        f"gate {name}: {getattr(gates, name)} instead of {count}"
        for name, count in fates.items()
        if getattr(gates, name) != count
    ]
    counts = f"compared {1 + 2 * through} bars {len(expected['equity'])} trades {len(expected['trades'])}\n"
    sys.stdout.write(counts)  # `pytest -rP` shows it
    if through:
        replayed, told = product(series.bars, params, **asked), backtested(series.bars, params, **asked)
        leave_stop_that_is_past(expected["open_position"], replayed["open_position"], told["open_position"])
        found += [f"replay: {each}" for each in differences(expected, replayed)]
        found += [f"backtest against replay: {each}" for each in twin_differences(replayed, told)]
        assert replayed["params"] == told["params"]
        assert {k: v for k, v in replayed["candles"].items() if k != "sha256"} == {
            k: v for k, v in told["candles"].items() if k != "sha256"
        }
    return found


def leave_stop_that_is_past(
    expected: dict[str, Any] | None, replayed: dict[str, Any] | None, told: dict[str, Any] | None
) -> None:
    """A stop that was ratcheted beyond the close is never sent to an exchange (it would refuse it): the position leaves
    at the next open. Where there is no next bar, the replay reports the stop that still stands.
    """
    if expected is None or replayed is None or told is None:
        return
    sign = 1 if expected["side"] == "long" else -1
    if sign * expected["stop"] >= sign * replayed["last_close"]:
        replayed["stop"] = told["stop"]


# Synthetic series


@pytest.mark.parametrize("number", range(SETS))
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_series(kind: str, strategy: str, number: int) -> None:
    """Every kind of series, each time another one with other parameters; every third has funding rates."""
    rng = seeded("backtest", kind, strategy, number)
    series = KINDS[kind](rng)
    params = drawn(rng, series.price, strategy)
    rates = random_funding(rng, series) if number % 3 == 2 else None
    assert compared(series, params, funding=rates, strategy=strategy, through=number == 0 or FULL) == []


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", EXTREMES)
def test_each_extreme_alone(name: str, strategy: str) -> None:
    """On lively bars, each of its values."""
    if strategy == "mean_reversion" and name in OF_TREND_ALONE:
        pytest.skip("a parameter of the other strategy")
    rng = seeded("extreme", name, strategy)
    series = bars_from(rng, walk(rng, 900, vol=0.008), wick=0.004, interval=60)
    lively = {"adx_min": 5.0, "ema_period": 20} if strategy == "ema_trend" else {"adx_max": 60.0, "bb_std": 1.0}
    for value in EXTREMES[name]:
        params = {**lively, "sl_atr_multiplier": 1.5, name: value}
        assert compared(series, params, strategy=strategy, through=value == EXTREMES[name][0]) == []


@pytest.mark.parametrize("minutes", [480, 720, 1440, 2880, 10_080])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_bars_that_hold_more_than_one_settlement(strategy: str, minutes: int) -> None:
    """Up to a week; constant rates and a series with holes."""
    rng = seeded("settlements", strategy, minutes)
    series = bars_from(rng, walk(rng, 700, vol=0.02), wick=0.01, interval=minutes)
    lively = {"adx_min": 5.0, "ema_period": 20} if strategy == "ema_trend" else {"adx_max": 60.0, "bb_std": 1.0}
    params = {**lively, "funding_rate": 0.0007}
    for rates in (None, random_funding(rng, series), {}):
        through = minutes in {720, 1440} and rates != {}  # a file without any rate is refused
        assert compared(series, params, funding=rates, strategy=strategy, through=through) == []


def test_equity_below_zero() -> None:
    """Marked below zero and back, and ended below zero: null where the page says null."""
    seen = set()
    for number in range(12):
        rng = seeded("ruin", number)
        series = KINDS["gapped"](rng)
        risky = {"risk_per_trade": 2.0, "leverage": 100.0, "max_position_usdt": 1e9, "sl_atr_multiplier": 0.2}
        params = {**drawn(rng, series.price, "ema_trend"), **risky, "ema_period": 8, "adx_min": 0.0}
        assert compared(series, params, through=number < 3) == []
        metrics = walked(series.bars, params, interval_ms=series.interval_ms)["metrics"]
        seen.add((metrics["sharpe"] is None, metrics["total_return"] <= -1))
    assert (True, True) in seen


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_trades_at_all(strategy: str) -> None:
    """Nothing is undefined in another way: null, 0 and a flat curve."""
    rng = seeded("nothing")
    params = {"adx_min": 1000.0} if strategy == "ema_trend" else {"adx_max": 0.0}
    for length in (2, 3, 400):
        series = bars_from(rng, walk(rng, length), interval=60)
        assert compared(series, params, strategy=strategy, through=True) == []
        metrics = walked(series.bars, params, interval_ms=series.interval_ms, strategy=strategy)["metrics"]
        assert (metrics["trades"], metrics["sharpe"], metrics["max_drawdown"]) == (0, None, 0.0)


def cut(series: Series, bars: int) -> Series:
    return dataclasses.replace(series, bars={name: column[:bars] for name, column in series.bars.items()})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_way_to_end(strategy: str) -> None:
    """The series ends with a position, a resting entry, an exit that is due, on the bar of a fill and of an exit."""
    rng = seeded("ends", strategy)
    series = bars_from(rng, walk(rng, 900, vol=0.008), wick=0.004, interval=60)
    lively = {"adx_min": 5.0, "ema_period": 20} if strategy == "ema_trend" else {"adx_max": 60.0, "bb_std": 1.0}
    params = {**lively, "sl_atr_multiplier": 1.5, "take_profit_r": 2.0, "entry_ttl_bars": 4}
    stamp = series.bars["timestamp"].tolist()
    whole = simulate(series.bars, params, interval_ms=series.interval_ms, strategy=strategy)
    ends: dict[int, str] = {}
    for trade in whole["trades"][3:18]:
        signal, entry, leave = (stamp.index(trade[name]) for name in ("signal_time", "entry_time", "exit_time"))
        ends |= {signal + 1: "signal", signal + 2: "after", entry + 1: "entry", leave: "before", leave + 1: "exit"}
    resting = held = 0
    for number, bars in enumerate(sorted(ends)):
        part = cut(series, bars)
        assert compared(part, params, strategy=strategy, through=number < 12 or FULL) == [], ends[bars]
        end = simulate(part.bars, params, interval_ms=part.interval_ms, strategy=strategy)
        resting += bool(end["entries"]) and end["entries"][-1]["fate"] == "resting"
        held += end["open_position"] is not None
    assert resting >= 5
    assert held >= 10


# Numbers at the edges


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize(
    ("price", "grid", "tick", "step"),
    [
        (1e-6, 1e-9, 1e-9, 1000.0),
        (1e-6, 5e-10, 1e-9, 1.0),
        (2.5e-5, 1e-8, 1e-8, 100.0),
        (0.07, 0.00005, 0.0001, 1.0),
        (1e7, 0.1, 0.1, 1e-6),
        (1e7, 0.5, 1.0, 1e-5),
        (1e7, 50.0, 100.0, 1e-4),
        (20_000.0, 0.25, 0.5, 0.0025),
        (3_000.0, 0.005, 0.01, 0.03),
    ],
)
def test_prices_of_any_size_on_half_ticks(price: float, grid: float, tick: float, step: float, number: int) -> None:
    """Closes half way between two ticks, no offset: every limit is a tie; quantities that fit their steps exactly."""
    rng = seeded("sizes", price, grid, number)
    strategy = STRATEGIES[number % 2]
    series = bars_from(rng, walk(rng, 700, start=price, vol=0.006), grid=grid, interval=60)
    volume = series.bars["volume"]
    volume[np.repeat(rng.random(35) < 0.3, 20)] = 0.0
    lively = {"adx_min": 0.0, "ema_period": 12} if strategy == "ema_trend" else {"adx_max": 101.0, "bb_std": 0.8}
    params = {**lively, "entry_offset": 0.0 if number < 4 else 0.001, "tick_size": tick, "qty_step": step}
    params |= {"min_qty": step, "max_position_usdt": step * price * 4096, "risk_per_trade": 0.05, "leverage": 2.0}
    params |= {"sl_atr_multiplier": 1.0 + number % 3, "trail_step_r": 0.25, "trail_start_r": 0.5, "trail_lag_r": 0.5}
    assert compared(series, params, strategy=strategy, through=number == 0) == []
    assert compared(series, {**params, "max_position_usdt": 1e12, "risk_per_trade": 1.0}, strategy=strategy) == []


# Recorded series


def skipped() -> list[Any]:
    return [pytest.param(None, 0, marks=pytest.mark.skip(reason="CONCLAVE_TEST_DATA is not set"))]


def file_cases(sets: int) -> list[Any]:
    cases = [
        pytest.param(path, number, id=f"{path.parent.name}/{path.stem}-{number}")
        for path in recorded()
        for number in range(sets)
    ]
    return cases or skipped()


def instrument_of(path: Path) -> dict[str, float]:
    return ETHUSDT if path.name.startswith("ETHUSDT") else {}


def window(path: Path, rng: np.random.Generator) -> Series:
    """The file, or a window of it."""
    bars, interval_ms = candles(path)
    n = len(bars["close"])
    start = int(rng.integers(0, max(n - WINDOW, 0) + 1)) if WINDOW else 0
    stop = start + WINDOW if WINDOW else n
    return Series(bars={name: column[start:stop] for name, column in bars.items()}, interval_ms=interval_ms)


def rates_of(path: Path) -> dict[int, float] | None:
    """The symbol's recorded funding rates of the file's exchange, where there are any."""
    exchange = "bybit" if path.parent.name == "bybit" else "binance"
    found = sorted(path.parents[1].glob(f"funding/{path.name.split('-')[0]}-{exchange}-*.csv.gz"))
    if not found:
        return None
    with gzip.open(found[0], "rt", newline="") as file:
        return {int(row["timestamp"]): float(row["funding_rate"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("path", "number"), file_cases(6 if FULL else 3))
def test_recorded_series(path: Path, number: int, strategy: str) -> None:
    """Real candles, another symbol's instrument: the defaults, then random sets; with recorded funding rates too."""
    rng = seeded("recorded backtest", path.name, number, strategy)
    series = window(path, rng)
    params = drawn(rng, series.price, strategy) if number else {}
    rates = rates_of(path) if number % 2 else None
    assert compared(series, {**params, **instrument_of(path)}, funding=rates, strategy=strategy) == []


def longer(bars: Bars, interval_ms: int, times: int) -> Series:
    """Bars `times` as long on the clock's own grid; only those that are complete."""
    span, columns = interval_ms * times, {name: bars[name].tolist() for name in COLUMNS}
    rows = []
    stamp = columns["timestamp"]
    for start in range(len(stamp)):
        if stamp[start] % span or start + times > len(stamp):
            continue
        if stamp[start + times - 1] != stamp[start] + span - interval_ms:
            continue
        part = slice(start, start + times)
        volume = float(np.sum(columns["volume"][part]))
        extremes = max(columns["high"][part]), min(columns["low"][part])
        rows.append((stamp[start], columns["open"][start], *extremes, columns["close"][part][-1], volume))
    together: Bars = {name: np.array(column) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    return Series(bars=together, interval_ms=span)


def resampled_cases() -> list[Any]:
    cases = [
        pytest.param(path, times, id=f"{path.parent.name}/{path.stem}x{times}")
        for path in recorded()
        for times in ((4, 24) if "-1h-" in path.name else (4, 3))
        if FULL or "bybit" in str(path)
    ]
    return cases or skipped()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("path", "times"), resampled_cases())
def test_resampled_series(path: Path, times: int, strategy: str) -> None:
    """1 h to 4 h and a day, 15 min to 1 h: complete bars on the clock's grid, as `backtest --interval` takes them."""
    bars, interval_ms = candles(path)
    series = longer(bars, interval_ms, times)
    rng = seeded("resampled", path.name, times, strategy)
    few = len(series.bars["close"]) < 9_000
    for params in ({}, drawn(rng, series.price, strategy)):
        own = {**params, **instrument_of(path)}
        assert compared(series, own, strategy=strategy, through=few and FULL) == []


HOURLY = [pytest.param(path, id=path.stem) for path in recorded("bybit") if "-1h-" in path.name]


@pytest.mark.parametrize("path", HOURLY)
def test_the_command_resamples_a_file_itself(path: Path, tmp_path: Path) -> None:
    """`backtest --interval 240` of an hourly file is `replay` of the same bars written out."""
    bars, interval_ms = candles(path)
    series = longer(bars, interval_ms, 4)
    argv = ["backtest", "--candles", str(path), "--interval", "240", "--json"]
    symbol = path.name.split("-")[0]
    aside = written(tmp_path / f"{symbol}-4h.parquet", series.bars)
    for name, value in instrument_of(path).items():
        argv += ["--set", f"{name}={value!r}"]
    code, out, err = run(argv)
    assert code == 0, err
    again = backtest_file(aside, instrument_of(path))
    told = json.loads(out)
    assert twin_differences(again, told) == []
    assert told["candles"]["rows"] == len(series.bars["close"])


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("path", [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in recorded()])
def test_whole_files_through_both_command_lines(path: Path, strategy: str) -> None:
    """Every recorded file whole, at the defaults: all three."""
    if not FULL:
        pytest.skip("CONCLAVE_FULL_PARITY=1 runs it")
    bars, interval_ms = candles(path)
    series = Series(bars=bars, interval_ms=interval_ms)
    assert compared(series, instrument_of(path), strategy=strategy, through=True) == []


def test_enough_is_compared() -> None:
    """At least 300 random parameter sets, whatever else is there."""
    synthetic = len(KINDS) * len(STRATEGIES) * SETS
    extremes = sum(map(len, EXTREMES.values())) * len(STRATEGIES)
    sizes = 9 * 6 * 2
    assert synthetic + extremes + sizes >= 300
