"""How fast the event-driven engine goes through candles, the start of the process included.

Each figure is the median of three fresh processes of `main.py replay`, as a user would run it. Recorded
candles are used where CONCLAVE_TEST_DATA names them, a seeded synthetic series of the same length otherwise.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from tests.benchmarks import Figure, benchmark
from tests.structure import ROOT

RECORDED = "bybit/BTCUSDT-15m-20250924-20260721.parquet"
BARS = 28_867  # the length of the recorded series
RUNS = 3


def synthetic(bars: int = BARS) -> pd.DataFrame:
    """A seeded random walk of 15-minute bars with wicks and uneven volume, on the tick grid of 0.1."""
    rng = np.random.default_rng(20_250_924)
    close = np.round(60_000 * np.exp(np.cumsum(rng.normal(0, 0.002, bars))), 1)
    opened = np.concatenate((close[:1], close[:-1]))
    high = np.round(np.maximum(opened, close) * (1 + rng.exponential(0.0007, bars)), 1)
    low = np.round(np.minimum(opened, close) * (1 - rng.exponential(0.0007, bars)), 1)
    timestamp = 1_758_672_000_000 + np.arange(bars, dtype=np.int64) * 900_000
    volume = np.round(rng.lognormal(4, 1, bars), 3)
    prices = {"open": opened, "high": high, "low": low, "close": close}
    return pd.DataFrame({"timestamp": timestamp, **prices, "volume": volume})


def candles(folder: Path) -> tuple[Path, str]:
    """The candle file to measure on, and what to call it."""
    data = os.environ.get("CONCLAVE_TEST_DATA", "")
    recorded = Path(data) / RECORDED
    if data and recorded.exists():
        return recorded, recorded.stem
    made = folder / "BTCUSDT-15m-synthetic.parquet"
    synthetic().to_parquet(made)
    return made, made.stem


def replay(file: Path, council: str, folder: Path) -> tuple[float, int, int]:
    """Seconds of one fresh process, the bars it went through and the trades it made."""
    command = [sys.executable, "main.py", "replay", "--candles", str(file), "--council", council, "--json"]
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - started
    result = json.loads(done.stdout)
    return seconds, int(result["candles"]["rows"]), len(result["trades"])


def measured(file: Path, note: str, council: str, folder: Path) -> Iterator[Figure]:
    runs = [replay(file, council, folder) for _ in range(RUNS)]
    seconds = statistics.median(run[0] for run in runs)
    _, bars, trades = runs[0]
    name = f"replay, council {council}"
    yield Figure(name=name, value=seconds, unit="s", note=f"{bars:,} bars, {note}")
    yield Figure(name=name, value=bars / seconds, unit="bars/s", note=f"{trades:,} trades")


@benchmark
def replays() -> Iterator[Figure]:
    """The engine alone, and the engine with the rules council."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, note = candles(folder)
        for council in ("off", "rules"):
            yield from measured(file, note, council, folder)
