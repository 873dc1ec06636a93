"""backtesting.py and freqtrade, each in a virtual environment that is thrown away afterwards.

They are AGPL and GPL and pin what the project pins otherwise: they are never its dependencies, only read by an
interpreter of their own, which is given the bars as a file and answers with one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import Figure
from trading.model import CandleSeries

HERE = Path(__file__).parent
RIVALS = {
    "backtesting.py": (("backtesting", "TA-Lib"), "with_backtesting.py", 36),
    "freqtrade": (("freqtrade",), "with_freqtrade.py", 4),
}
PATIENCE = 900  # seconds, for an installation and for a run
BARS = 28_000  # ten months


def figures(series: CandleSeries, note: str) -> Iterator[Figure]:
    """Bars a second of one backtest and bar-combinations a second of a small grid, for each that can be installed."""
    short = series.between(len(series) - BARS, len(series))
    with tempfile.TemporaryDirectory(prefix="rivals-") as name:
        bars = Path(name) / "bars.npz"
        columns = ("timestamp", "open", "high", "low", "close", "volume")
        np.savez(bars, **{column: getattr(short, column) for column in columns})
        for rival, (packages, script, combinations) in RIVALS.items():
            found = _measured(Path(name) / rival, packages, [str(HERE / script), str(bars), str(combinations)])
            if isinstance(found, str):
                print(f"{rival}: {found}: skipped")
                continue
            yield from _figures(rival, found, note)


def _figures(rival: str, found: dict[str, Any], note: str) -> Iterator[Figure]:
    bars, grid = found["bars"], found["combinations"]
    on = f"{bars:,} bars, {note}, {found['trades']} trades"
    yield Figure(name=f"{rival}, backtest", value=found["seconds"] * 1000, unit="ms", note=on)
    yield Figure(name=f"{rival}, backtest", value=bars / found["seconds"], unit="bars/s")
    rate = grid / found["grid_seconds"]
    yield Figure(name=f"{rival}, grid", value=60 * rate, unit="sets/min", note=f"{grid} combinations, one process")
    yield Figure(name=f"{rival}, grid", value=bars * rate, unit="1/s", note="bar-combinations")


def _measured(folder: Path, packages: tuple[str, ...], command: list[str]) -> dict[str, Any] | str:
    """What the rival printed, or in a few words why there is nothing."""
    try:
        venv.create(folder, with_pip=True)
        python = str(folder / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        subprocess.run(install, check=True, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError) as error:
        return f"cannot be installed ({_last_line(error)})"
    try:
        done = subprocess.run([python, *command], check=True, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.SubprocessError as error:
        return f"does not run ({_last_line(error)})"
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _last_line(error: Exception) -> str:
    said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
    return said[-1][:160] if said else type(error).__name__
