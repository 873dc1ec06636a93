"""How fast the laboratory searches: beside a tuned vectorbt, beside the memory's own speed, on one core and on two.

Every rate is in bar-combinations a second: bars times parameter sets, indicators included. Whatever is compared is
run in turns in one process and its median taken; what must be equal is compared before it is timed. Recorded candles
are used where CONCLAVE_TEST_DATA names them, a seeded synthetic series of the same length otherwise.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from research.backtest import backtest
from research.grid import Axis, Grid, search
from research.ground import Ground
from research.synthetic import write_candles
from tests.benchmarks import Figure, benchmark
from tests.benchmarks.bench_replay import synthetic
from tests.parity.plain import DEFAULTS
from tests.structure import ROOT
from trading.model import CandleSeries, FloatArray, IntArray

RECORDED: Final = "binance-perp/BTCUSDT-15m-*.parquet"
QUARTER: Final = timedelta(minutes=15)
BARS: Final = 100_000
RUNS: Final = 7
AXES: Final[tuple[Axis, ...]] = (
    ("ema_period", tuple(range(50, 300, 25))),
    ("rsi_period", tuple(range(6, 26, 2))),
    ("sl_atr_multiplier", tuple(np.arange(1.0, 6.0, 0.5).tolist())),
)
RIVALS_SHARE: Final = 25  # vectorbt does every 25th combination
VALUES: Final[Mapping[str, Any]] = {**DEFAULTS, "funding_rate": 0.0}  # funding is what vectorbt cannot express
MILLION: Final = 1e6


# What is measured on


@cache
def candles(bars: int = BARS) -> tuple[CandleSeries, str]:
    """Gapless 15-minute bars, and what to call them."""
    data = os.environ.get("CONCLAVE_TEST_DATA", "")
    for file in sorted(Path(data).glob(RECORDED)) if data else ():
        if (found := _gapless(pd.read_parquet(file), bars)) is not None:
            return _series(found), file.stem
    return _series(synthetic(bars)), "synthetic"


def _gapless(frame: pd.DataFrame, bars: int) -> pd.DataFrame | None:
    """The last `bars` rows without a gap between them, None where there are not as many."""
    breaks = np.flatnonzero(np.diff(frame["timestamp"]) != QUARTER / timedelta(milliseconds=1))
    edges = [0, *(breaks + 1).tolist(), len(frame)]
    runs = [(start, stop) for start, stop in itertools.pairwise(edges) if stop - start >= bars]
    return frame.iloc[runs[-1][1] - bars : runs[-1][1]] if runs else None


def _series(frame: pd.DataFrame) -> CandleSeries:
    prices = {name: frame[name].to_numpy(np.float64) for name in ("open", "high", "low", "close", "volume")}
    stamps = frame["timestamp"].to_numpy(np.int64)
    return CandleSeries(symbol="BTCUSDT", interval=QUARTER, timestamp=stamps, **prices)


def combinations(axes: tuple[Axis, ...]) -> list[dict[str, float]]:
    """Every combination of a grid, in its order."""
    names = [name for name, _ in axes]
    return [dict(zip(names, row, strict=True)) for row in itertools.product(*(values for _, values in axes))]


# Who is measured


def ours(series: CandleSeries, axes: tuple[Axis, ...], jobs: int) -> tuple[IntArray, FloatArray, float]:
    """Trade counts, total returns and seconds of a grid search, from the bars to the metrics."""
    began = time.perf_counter()
    metrics = search(Ground.of(series), Grid(strategy="ema_trend", values=VALUES, axes=axes), jobs=jobs).metrics()
    seconds = time.perf_counter() - began
    return metrics["trades"].astype(np.int64), metrics["total_return"], seconds


@cache
def summing() -> Callable[[FloatArray, int, bool], float]:
    """A loop that only sums the bar arrays once per combination, on one thread or on two: seconds."""
    from numba import njit, prange, set_num_threads

    def body(bars: FloatArray, times: int, sums: FloatArray) -> None:
        for combination in prange(times):
            total = float(combination)  # so that no two rounds are the same
            for column in range(bars.shape[0]):
                row = bars[column]
                for bar in range(len(row)):
                    total += row[bar]
            sums[combination] = total

    alone, together = njit(fastmath=True)(body), njit(parallel=True, fastmath=True)(body)

    def run(bars: FloatArray, times: int, both: bool) -> float:
        sums = np.empty(times)
        set_num_threads(2 if both and (os.cpu_count() or 1) > 1 else 1)
        began = time.perf_counter()
        (together if both else alone)(bars, times, sums)
        return time.perf_counter() - began

    return run


def medians(**runs: Callable[[], float]) -> dict[str, float]:
    """The median seconds of each, run in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(RUNS):
        for name, run in runs.items():
            seconds[name].append(run())
    return {name: statistics.median(found) for name, found in seconds.items()}


def _rate(name: str, bars: int, combos: int, seconds: float, note: str) -> Figure:
    return Figure(
        name=name, value=bars * combos / seconds / MILLION, unit="M/s", note=f"{bars:,} bars x {combos:,}, {note}"
    )


# The benchmarks


@benchmark
def side_by_side() -> Iterator[Figure]:
    """Ours on one core and two, a tuned vectorbt on the one it can use, and a loop that only sums, in turns."""
    from tests.benchmarks.rivals.vectorbt_orders import vectorbt_grid

    series, note = candles()
    every = combinations(AXES)
    some = every[::RIVALS_SHARE]
    bars = np.ascontiguousarray(np.stack([series.open, series.high, series.low, series.close]))
    _agree(series, note, vectorbt_grid(series, some, VALUES, together=True), vectorbt_grid(series, some, VALUES))
    for both in (False, True):
        summing()(bars, 2, both)
    found = medians(
        ours=lambda: ours(series, AXES, 2)[2],
        alone=lambda: _on_one_core(lambda: ours(series, AXES, 1)[2]),
        vectorbt=lambda: vectorbt_grid(series, some, VALUES, together=True)[2],
        columns=lambda: vectorbt_grid(series, some, VALUES)[2],
        sums=lambda: summing()(bars, len(every), True),
        sums_alone=lambda: summing()(bars, len(every), False),
    )
    n, rate = len(series), {name: len(every) / seconds for name, seconds in found.items()}
    rate["vectorbt"], rate["columns"] = len(some) / found["vectorbt"], len(some) / found["columns"]
    yield _rate("search, two cores", n, len(every), found["ours"], f"{note}, median of {RUNS}")
    yield _rate("search, one core", n, len(every), found["alone"], "the same")
    yield _rate("vectorbt from_order_func, one group", n, len(some), found["vectorbt"], "one thread, identical results")
    yield _rate("vectorbt from_order_func, columns", n, len(some), found["columns"], "one thread, identical results")
    yield _rate("sums of the bars, two cores", n, len(every), found["sums"], "open, high, low, close; nothing else")
    yield _rate("sums of the bars, one core", n, len(every), found["sums_alone"], "the same")
    yield Figure(name="search over vectorbt (one group)", value=rate["ours"] / rate["vectorbt"], unit="times")
    yield Figure(name="search over vectorbt (columns)", value=rate["ours"] / rate["columns"], unit="times")
    yield Figure(name="search of sums, two cores", value=100 * rate["ours"] / rate["sums"], unit="%")
    yield Figure(name="search of sums, one core", value=100 * rate["alone"] / rate["sums_alone"], unit="%")
    yield Figure(name="two cores over one", value=rate["ours"] / rate["alone"], unit="times")


def _on_one_core(run: Callable[[], float]) -> float:
    """With nothing beside it: planning would take a second core where there is one."""
    if not hasattr(os, "sched_setaffinity"):
        return run()
    every = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(every)})
    try:
        return run()
    finally:
        os.sched_setaffinity(0, every)


def _agree(series: CandleSeries, note: str, *rivals: tuple[IntArray, FloatArray, float]) -> None:
    """The same trades and the same money, or there is nothing to compare; compiles everything on the way."""
    trades, returns, _ = ours(series, AXES, 2)
    for counted, earned, _ in rivals:
        assert np.array_equal(counted, trades[::RIVALS_SHARE]), note
        assert np.allclose(earned, returns[::RIVALS_SHARE], rtol=1e-9, atol=1e-9), note
    assert int(trades.min()) > 0


@benchmark
def one_backtest() -> Iterator[Figure]:
    """One parameter set with every trade written down, warm."""
    series, note = candles()
    backtest(series, "ema_trend", VALUES)
    seconds = medians(one=lambda: _timed(lambda: backtest(series, "ema_trend", VALUES)))["one"]
    yield Figure(name="backtest", value=seconds * 1000, unit="ms", note=f"{len(series):,} bars, {note}")


@benchmark
def million() -> Iterator[Figure]:
    """Millions of data points in seconds."""
    series = _series(synthetic(1_000_000))
    ours(series, tuple((name, values[:1]) for name, values in AXES), 2)
    seconds = medians(search=lambda: ours(series, AXES, 2)[2])["search"]
    yield Figure(name="a million bars x 1,000", value=seconds, unit="s", note=f"synthetic, two cores, median of {RUNS}")
    yield _rate("a million bars x 1,000", len(series), 1_000, seconds, "synthetic")


@benchmark
def accounting() -> Iterator[Figure]:
    """vectorbt as the accountant of one backtest: in a fresh process, and again."""
    told = dict(_child(_ACCOUNT))
    _, before = told.pop("before")
    for name, (seconds, _) in told.items():
        yield Figure(name=f"second opinion, {name}", value=seconds * 1000, unit="ms", note="a year of 15-minute bars")
    yield Figure(name="second opinion, memory", value=told["warm"][1] - before, unit="MB", note="beside the kernel's")


@benchmark
def memory() -> Iterator[Figure]:
    """The largest a process has been after a search of so many combinations."""
    peaks = []
    for count in (1_000, 100_000):
        ((_, (seconds, megabytes)),) = _child(_SEARCH, count)
        peaks.append(megabytes)
        note = f"{BARS:,} bars x {count:,} in {seconds:.1f} s, two cores"
        yield Figure(name="memory, peak", value=megabytes, unit="MB", note=note)
    yield Figure(name="memory, growth", value=peaks[1] - peaks[0], unit="MB", note="1,000 to 100,000 combinations")


@benchmark
def start() -> Iterator[Figure]:
    """A fresh process with the compiled code on disk: what `main.py optimize` does up to its first grid result."""
    with tempfile.TemporaryDirectory() as folder:
        file = write_candles(candles()[0], Path(folder) / "BTCUSDT-15m.parquet")
        command = [sys.executable, "-c", _FIRST, str(file)]
        subprocess.run(command, cwd=ROOT, check=True)
        runs = [_timed(lambda: subprocess.run(command, cwd=ROOT, check=True)) for _ in range(RUNS)]
    note = f"{BARS:,} bars x 8, the process's start and end included, median of {RUNS}"
    yield Figure(name="cached start to first grid", value=statistics.median(runs), unit="s", note=note)


@benchmark
def cluster() -> Iterator[Figure]:
    """Dask on this machine: the same search on one worker and on two, a thread each, in turns."""
    if importlib.util.find_spec("research.cluster") is None or importlib.util.find_spec("distributed") is None:
        print("dask is measured where the extra `cluster` is installed: skipped")
        return
    with _workers(1) as one, _workers(2) as two:
        found = medians(one=one, two=two)
    for workers, seconds in found.items():
        yield Figure(name=f"dask, workers: {workers}", value=seconds, unit="s", note=f"{BARS:,} bars x 16,000, warm")
    yield Figure(name="dask, two workers over one", value=found["one"] / found["two"], unit="times")


@contextmanager
def _workers(count: int) -> Iterator[Callable[[], float]]:
    """A scheduler with so many workers, and a search of 16,000 combinations on it: seconds."""
    from distributed import LocalCluster

    from research.cluster import Cluster

    ground, stops = Ground.of(candles()[0]), tuple((1 + np.arange(160) / 32).tolist())
    grid = Grid(strategy="ema_trend", values=VALUES, axes=(*AXES[:2], ("sl_atr_multiplier", stops)))
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=count, threads_per_worker=1, dashboard_address=":0"
        ) as local,
        Cluster(local.scheduler_address) as found,
    ):

        def run() -> float:
            return _timed(lambda: found.search(ground, grid, jobs=count))

        run()
        yield run


@benchmark
def rivals() -> Iterator[Figure]:
    """backtesting.py and freqtrade on a strategy of the same kind; downloads them, so only when asked for by name."""
    if not any("rivals" in word for word in sys.argv[1:]):
        print("rivals: backtesting.py and freqtrade are measured when asked for: make bench ARGS=rivals")
        return
    from tests.benchmarks.rivals.others import BARS as FEWER
    from tests.benchmarks.rivals.others import figures

    series, note = candles()
    yield from figures(series, note)
    short = series.between(len(series) - FEWER, len(series))
    yield from _ours_on(short, note)


def _ours_on(series: CandleSeries, note: str) -> Iterator[Figure]:
    """What the others are asked, asked of us; one core."""
    stops = ("sl_atr_multiplier", (2.0, 3.0, 4.0, 5.0))
    axes: tuple[Axis, ...] = (("ema_period", (100, 150, 200, 250)), ("rsi_period", (7, 14, 21)), stops)
    trades = len(backtest(series, "ema_trend", VALUES).trades)
    ours(series, axes, 1)
    found = medians(
        one=lambda: _timed(lambda: backtest(series, "ema_trend", VALUES)), grid=lambda: ours(series, axes, 1)[2]
    )
    on, count = f"{len(series):,} bars, {note}, {trades} trades", len(combinations(axes))
    yield Figure(name="ours, backtest", value=found["one"] * 1000, unit="ms", note=on)
    yield Figure(name="ours, backtest", value=len(series) / found["one"], unit="bars/s")
    yield Figure(name="ours, grid", value=60 * count / found["grid"], unit="sets/min", note=f"{count} combinations")
    yield _rate("ours, grid", len(series), count, found["grid"], "one core")


# Children: their memory and their start are their own


_PRELUDE: Final = """
import time
began = time.perf_counter()
from tests.benchmarks import bench_lab as lab
def tell(name, began):
    held = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(name, time.perf_counter() - began, int(held) // 1024, flush=True)
"""
_SEARCH: Final = """
import sys
side = round(int(sys.argv[1]) / 100)
axes = (*lab.AXES[:2], ("sl_atr_multiplier", tuple(1 + 5 * place / side for place in range(side))))
series, _ = lab.candles()
began = time.perf_counter()
lab.ours(series, axes, 2)
tell("search", began)
"""
_FIRST: Final = """
import sys
from main import slim_talib
slim_talib()
from research.candles import load_candles
series = load_candles(sys.argv[1], known_symbols=("BTCUSDT",)).series
from research.grid import Grid, search
from research.ground import Ground
from tests.parity.plain import DEFAULTS
axes = (("ema_period", (50, 75)), ("rsi_period", (6, 8)), ("sl_atr_multiplier", (1.0, 1.5)))
found = search(Ground.of(series), Grid(strategy="ema_trend", values=DEFAULTS, axes=axes), jobs=2)
assert found.metrics()["trades"].min() > 0
"""
_ACCOUNT: Final = """
import dataclasses
series = lab.candles(35_040)[0]
result = lab.backtest(series, "ema_trend", lab.VALUES)
tell("before", time.perf_counter())
began = time.perf_counter()
import vectorbt
tell("import", began)
from research.accountant import second_opinion
for name in ("first", "warm"):
    began = time.perf_counter()
    assert second_opinion(result)[1] is None
    tell(name, began)
"""


def _child(code: str, *arguments: object) -> list[tuple[str, tuple[float, int]]]:
    """What a fresh process tells: name, seconds, and the megabytes it has held at most."""
    command = [sys.executable, "-c", _PRELUDE + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return [(name, (float(seconds), int(held))) for name, seconds, held in rows]


def _timed(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began
