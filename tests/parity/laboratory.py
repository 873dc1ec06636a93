"""The laboratory, asked what the plain page and the replay are asked: in this process, and by `backtest --json`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from research.backtest import backtest, trade_rows
from tests.parity.compare import METRICS, open_differences, same, trade_differences
from tests.parity.plain import DEFAULTS_OF, WHOLE
from tests.parity.product import replay_arguments, run
from tests.parity.series import Bars, write_candles, write_funding
from trading.model import CandleSeries


def candle_series(bars: Bars, interval_ms: int) -> CandleSeries:
    """The bars as the product holds them."""
    columns: dict[str, Any] = dict(bars)
    return CandleSeries(symbol="BTCUSDT", interval=timedelta(milliseconds=interval_ms), **columns)


def values_of(params: Mapping[str, float], strategy: str = "ema_trend") -> dict[str, Any]:
    """Every name of the page with its value; periods and counts are whole numbers."""
    known = {**DEFAULTS_OF.get(strategy, {}), **params}
    return {name: int(value) if name in WHOLE else float(value) for name, value in known.items()}


def walked(
    bars: Bars,
    params: Mapping[str, float],
    *,
    interval_ms: int,
    funding: Mapping[int, float] | None = None,
    strategy: str = "ema_trend",
) -> dict[str, Any]:
    """`research.backtest` in this process: the object of `backtest --json`, and the equity curve."""
    rates = None if funding is None else {at: Decimal(repr(rate)) for at, rate in funding.items()}
    found = backtest(candle_series(bars, interval_ms), strategy, values_of(params, strategy), rates)
    return {
        "metrics": found.metrics,
        "trades": trade_rows(found),
        "open_position": found.open_position,
        "equity": found.equity.tolist(),
        "gates": found.gates,
    }


def backtest_file(
    candles: Path, params: Mapping[str, float], *, funding: Path | None = None, strategy: str | None = None
) -> dict[str, Any]:
    """The object that `backtest --json` prints for a candle file."""
    argv = replay_arguments(candles, params, funding=funding, strategy=strategy)
    argv = ["backtest", *argv[1:]]
    place = argv.index("--council")
    del argv[place : place + 2]
    code, out, err = run(argv)
    assert code == 0, f"exit code {code}: {err[-2000:]}"
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def backtested(
    bars: Bars,
    params: Mapping[str, float],
    *,
    interval_ms: int,
    funding: Mapping[int, float] | None = None,
    strategy: str | None = None,
) -> dict[str, Any]:
    """What `product` asks of `replay`, asked of `backtest`: the bars go through a candle file."""
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        candles = write_candles(Path(folder) / "BTCUSDT-parity.parquet", bars)
        rates = None if funding is None else write_funding(Path(folder) / "funding.csv.gz", dict(funding))
        return backtest_file(candles, params, funding=rates, strategy=strategy)


def curve_differences(expected: list[float], actual: list[float]) -> list[str]:
    """The first bar whose marked equity differs."""
    if len(expected) != len(actual):
        return [f"equity: {len(actual)} bars instead of {len(expected)}"]
    for bar, (want, got) in enumerate(zip(expected, actual, strict=True)):
        if not same(want, got):
            return [f"equity at bar {bar}: {got!r} instead of {want!r}"]
    return []


def twin_differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Where two answers of the program differ, `take_profit` of an open position and all: `other` against `one`."""
    ours, theirs = one["trades"], other["trades"]
    found = [f"{len(theirs)} trades instead of {len(ours)}"] if len(ours) != len(theirs) else []
    for number, (want, got) in enumerate(zip(ours, theirs, strict=False)):
        if wrong := trade_differences(want, got):
            found.append(f"trade {number}: " + "; ".join(wrong))
            break
    found += [
        f"{name}: {other['metrics'][name]!r} instead of {one['metrics'][name]!r}"
        for name in METRICS
        if not same(one["metrics"][name], other["metrics"][name])
    ]
    held, holds = one["open_position"], other["open_position"]
    found += open_differences(held, holds)
    for name in ("stop", "take_profit", "last_close", "unrealised", "fees", "funding", "signal_time"):
        if held is not None and holds is not None and not same(held.get(name), holds.get(name)):
            found.append(f"open position, {name}: {holds.get(name)!r} instead of {held.get(name)!r}")
    return found
