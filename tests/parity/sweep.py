"""Random comparisons of replay, backtest and the plain page, as many as there is patience for.

    python -m tests.parity.sweep --count 200 --seed 7
    python -m tests.parity.sweep --seed 7 --only 123        repeats one comparison

Draws a series (synthetic, or a window of a recorded file when CONCLAVE_TEST_DATA is set), a strategy, a parameter set
and sometimes a funding series; `--fast` leaves the command lines out and compares `research.backtest` with the page
alone, a hundred times as fast. Prints counts, and for every mismatch the one command that repeats it.
Exit code 1 on a mismatch.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tests.parity.compare import differences
from tests.parity.laboratory import backtested, curve_differences, twin_differences, walked
from tests.parity.plain import OF_TREND_ALONE, simulate
from tests.parity.product import product
from tests.parity.series import COLUMNS, KINDS, Series, random_funding, random_params


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One question for all of them."""

    name: str
    strategy: str
    series: Series
    params: dict[str, float]
    funding: dict[int, float] | None


@cache
def recorded() -> list[Path]:
    root = os.environ.get("CONCLAVE_TEST_DATA", "")
    return sorted(Path(root).rglob("*.parquet")) if root else []


@cache
def frame_of(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, columns=list(COLUMNS))


def window_of(rng: np.random.Generator, path: Path, longest: int) -> tuple[str, Series]:
    """A random window of a recorded file, at most `longest` bars (0: the whole file)."""
    frame = frame_of(path)
    n = len(frame) if longest == 0 else min(longest, len(frame))
    start = int(rng.integers(0, len(frame) - n + 1))
    part = frame.iloc[start : start + n]
    spacing = int(np.diff(frame["timestamp"].to_numpy()).min())
    series = Series(bars={name: part[name].to_numpy() for name in COLUMNS}, interval_ms=spacing)
    return f"{path.parent.name}/{path.name}[{start}:{start + n}]", series


def draw(seed: int, number: int, longest: int) -> Case:
    """Case `number` of `seed`; depends on nothing else but the recorded files that are there."""
    rng = np.random.default_rng([seed, number])
    files = recorded()
    if files and rng.random() < 0.5:
        name, series = window_of(rng, files[int(rng.integers(0, len(files)))], longest)
    else:
        name = list(KINDS)[int(rng.integers(0, len(KINDS)))]
        series = KINDS[name](rng)
    params = random_params(rng, series.price)
    funding = random_funding(rng, series) if rng.random() < 0.3 else None
    strategy = "mean_reversion" if rng.random() < 1 / 3 else "ema_trend"
    if strategy == "mean_reversion":
        params = {each: value for each, value in params.items() if each not in OF_TREND_ALONE}
        params["adx_max"] = float(rng.choice([15.0, 30.0, 60.0, 101.0]))
    return Case(name=name, strategy=strategy, series=series, params=params, funding=funding)


def compared(case: Case, *, fast: bool) -> tuple[list[str], int]:
    """What differs between the page, the kernel and both command lines, and how many trades there are."""
    bars, params = case.series.bars, case.params
    asked: dict[str, Any] = {
        "interval_ms": case.series.interval_ms,
        "funding": case.funding,
        "strategy": case.strategy,
    }
    expected, alone = simulate(bars, params, **asked), walked(bars, params, **asked)
    found = [f"backtest: {each}" for each in differences(expected, alone)]
    found += curve_differences(expected["equity"], alone["equity"])
    if not fast:
        replayed = product(bars, params, **asked)
        found += [f"replay: {each}" for each in differences(expected, replayed)]
        told = backtested(bars, params, **asked)
        found += [f"backtest against replay: {each}" for each in twin_differences(replayed, told)]
    return found, len(expected["trades"])


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparisons; 1 when any of them differs."""
    parser = argparse.ArgumentParser(description="Random comparisons of the program with the plain page.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, default=None, help="the number of the one comparison to run")
    parser.add_argument("--window", type=int, default=5_000, help="longest recorded window; 0 means whole files")
    parser.add_argument("--fast", action="store_true", help="research.backtest against the page alone")
    chosen = parser.parse_args(argv)

    numbers = [chosen.only] if chosen.only is not None else range(chosen.count)
    started = time.monotonic()
    bars = trades = mismatches = done = 0
    for number in numbers:
        case = draw(chosen.seed, number, chosen.window)
        found, count = compared(case, fast=chosen.fast)
        done += 1
        bars += len(case.series.bars["close"])
        trades += count
        if found:
            mismatches += 1
            say(f"MISMATCH {number} on {case.name}, {case.strategy}: " + " | ".join(found))
            again = f"--seed {chosen.seed} --window {chosen.window} --only {number}"
            say(f"  python -m tests.parity.sweep {again}")
            say("  " + " ".join(f"{name}={value!r}" for name, value in case.params.items()))
    seconds = time.monotonic() - started
    counts = f"comparisons {done}, bars {bars}, trades compared {trades}, mismatches {mismatches}"
    say(f"{counts}, {seconds:.1f} s")
    return 1 if mismatches else 0


if __name__ == "__main__":
    raise SystemExit(main())
