"""The second opinion: vectorbt's books agree with a sound result and name what is wrong with any other."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from research.accountant import _text, books, second_opinion, statistics
from research.backtest import backtest
from research.results import REASONS, Gates, Result, TradeTable
from tests.parity.plain import DEFAULTS, simulate
from tests.parity.series import KINDS, Bars, random_funding, random_params, trending_up, walk
from tests.parity.series import bars_from as bars_of
from tests.structure import ROOT
from trading.model import CandleSeries, exact

SETS = 4
YEAR_OF_QUARTERS = 35_040
EAGER = {"ema_period": 20, "adx_min": 0.0, "sl_atr_multiplier": 1.0, "entry_offset": 0.0001}


def seeded(*words: object) -> np.random.Generator:
    """A generator that depends on the words alone."""
    return np.random.default_rng(zlib.crc32("/".join(map(str, words)).encode()))


def series_of(bars: Bars, interval_ms: int) -> CandleSeries:
    """The bars as the product holds them."""
    prices = {name: np.asarray(bars[name], dtype=np.float64) for name in ("open", "high", "low", "close", "volume")}
    stamps = np.asarray(bars["timestamp"], dtype=np.int64)
    return CandleSeries(symbol="BTCUSDT", interval=timedelta(milliseconds=interval_ms), timestamp=stamps, **prices)


def plain_result(
    bars: Bars, interval_ms: int, params: Mapping[str, float], funding: Mapping[int, float] | None = None
) -> Result:
    """A backtest by the plain implementation, as the product's result."""
    plain = simulate(bars, params, interval_ms=interval_ms, funding=funding)
    series = series_of(bars, interval_ms)
    row = {int(at): number for number, at in enumerate(series.timestamp)}
    stops = {order["time"]: order for order in plain["entries"]}
    trades = plain["trades"]

    def column(name: str) -> Any:
        return np.array([trade[name] for trade in trades], dtype=np.float64)

    def rows(name: str) -> Any:
        return np.array([row[trade[name]] for trade in trades], dtype=np.int64)

    side = np.array([1 if trade["side"] == "long" else -1 for trade in trades], dtype=np.int8)
    reason = np.array([REASONS.index(trade["exit_reason"]) for trade in trades], dtype=np.int8)
    qty, entry, left = column("qty"), column("entry_price"), column("exit_price")
    terms = plain["params"]
    fees = qty * (entry * terms["maker_fee"] + left * np.where(reason == 1, terms["maker_fee"], terms["taker_fee"]))
    return Result(
        series=series,
        strategy="ema_trend",
        params=terms,
        trades=TradeTable(
            side=side,
            signal=rows("signal_time"),
            entry=rows("entry_time"),
            exit=rows("exit_time"),
            entry_price=entry,
            exit_price=left,
            qty=qty,
            stop=np.array([stops[trade["signal_time"]]["stop"] for trade in trades], dtype=np.float64),
            pnl=column("pnl"),
            r=column("r"),
            fees=fees,
            funding=side * qty * (left - entry) - fees - column("pnl"),
            slippage=np.zeros(len(trades)),
            reason=reason,
        ),
        equity=np.array(plain["equity"]),
        exposed=np.zeros(len(series), dtype=np.bool_),
        metrics=plain["metrics"],
        open_position=plain["open_position"],
        candles={"rows": len(series)},
        gates=Gates(edges=0, knives=0, skipped=0, placed=0, filled=0, expired=0, ran_away=0),
        settlements=0,
        unrated=0,
        funded=funding is not None,
    )


def sound_result() -> Result:
    """Trades of both sides, funding at the constant rate and an open position at the end."""
    rng = seeded("sound")
    series = bars_of(rng, walk(rng, 3_000, start=30_000), interval=15)
    return plain_result(series.bars, series.interval_ms, EAGER)


@pytest.fixture(scope="module")
def sound() -> Result:
    """Made once; nobody changes it."""
    found = sound_result()
    assert len(found.trades) > 50
    assert set(found.trades.side.tolist()) == {1, -1}
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rates", ["none", "constant", "series"])
def test_agrees_with_a_sound_result(kind: str, rates: str) -> None:
    """On every kind of series, without funding, with a constant rate, and with a series of rates."""
    for number in range(SETS):
        rng = seeded(kind, rates, number)
        series = KINDS[kind](rng)
        params = random_params(rng, series.price)
        if rates == "none":
            params["funding_rate"] = 0.0
        funding = random_funding(rng, series) if rates == "series" else None
        result = plain_result(series.bars, series.interval_ms, params, funding)
        assert second_opinion(result, funding)[1] is None, (kind, number)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_the_kernel(kind: str) -> None:
    """The product's own backtest, with a constant rate and with a series of rates."""
    for number in range(SETS):
        rng = seeded(kind, "kernel", number)
        series = KINDS[kind](rng)
        values = random_params(rng, series.price)
        rates = {at: exact(rate) for at, rate in random_funding(rng, series).items()} if number % 2 else None
        result = backtest(series_of(series.bars, series.interval_ms), "ema_trend", values, rates)
        assert second_opinion(result, rates)[1] is None, (kind, number)
        assert second_opinion(result)[1] is None, (kind, number)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_where_the_rates_are_not_known(kind: str) -> None:
    """Funding folded into the exits: profits, sums and the ratios of our own curve still agree."""
    rng = seeded(kind, "folded")
    series = KINDS[kind](rng)
    funding = random_funding(rng, series)
    result = plain_result(series.bars, series.interval_ms, random_params(rng, series.price), funding)
    assert second_opinion(result)[1] is None


def test_an_open_position_is_booked_too() -> None:
    """At the end of the series: its entry fee, its funding and its value at the last close are in the last equity."""
    found = 0
    for number in range(40):
        rng = seeded("open", number)
        series = trending_up(rng)
        funding = random_funding(rng, series)
        result = plain_result(series.bars, series.interval_ms, EAGER, funding)
        if result.open_position is not None:
            found += 1
            assert [second_opinion(result, rates)[1] for rates in (funding, None)] == [None, None]
            assert int(books(result).portfolio.trades.open.count()) == 1
    assert found > 5


def test_an_entry_and_its_exit_may_share_a_bar() -> None:
    """Two orders in one bar, and no position at its close."""
    rng = seeded("one bar")
    series = KINDS["wild"](rng)
    result = plain_result(series.bars, series.interval_ms, {**EAGER, "sl_atr_multiplier": 0.3})
    assert np.any(result.trades.entry == result.trades.exit)
    assert second_opinion(result)[1] is None


def changed(result: Result, name: str, value: Any) -> Result:
    """The result with one column of its trades replaced."""
    return dataclasses.replace(result, trades=dataclasses.replace(result.trades, **{name: value}))


def metric(name: str, change: Callable[[float], float]) -> Callable[[Result], Result]:
    def spoil(result: Result) -> Result:
        value = result.metrics[name]
        assert value is not None
        return dataclasses.replace(result, metrics={**result.metrics, name: change(value)})

    return spoil


def column(name: str, change: Callable[[float], float]) -> Callable[[Result], Result]:
    def spoil(result: Result) -> Result:
        values = getattr(result.trades, name).copy()
        values[7] = change(values[7])
        return changed(result, name, values)

    return spoil


def bent(result: Result) -> Result:
    """One point of the curve a cent too high."""
    curve = result.equity.copy()
    curve[1_000] += 0.01
    return dataclasses.replace(result, equity=curve)


def without_a_trade(result: Result) -> Result:
    """The eighth trade is missing."""
    fields = dataclasses.fields(TradeTable)
    kept = {each.name: np.delete(getattr(result.trades, each.name), 7) for each in fields}
    return dataclasses.replace(result, trades=TradeTable(**kept))


CORRUPTIONS: dict[str, tuple[Callable[[Result], Result], str]] = {
    "a profit a cent too high": (column("pnl", lambda x: x + 0.01), "profit of trade 8"),
    "a price one tick off": (column("exit_price", lambda x: x + 0.1), "profit of trade 8"),
    "an entry one tick off": (column("entry_price", lambda x: x - 0.1), "profit of trade 8"),
    "a quantity one step off": (column("qty", lambda x: x + 0.001), "profit of trade 8"),
    "the wrong side": (column("side", lambda x: -x), "profit of trade 8"),
    "a fee that is too low": (column("fees", lambda x: x * 0.999), "fees of trade 8"),
    "a wrong multiple": (column("r", lambda x: x * 1.0001), "R multiple of trade 8"),
    "funding nobody paid": (column("funding", lambda x: x + 0.01), "funding of trade 8"),
    "an exit a bar late": (column("exit", lambda x: x + 1), "equity at bar"),
    "a missing trade": (without_a_trade, "last equity"),
    "a point of the curve": (bent, "equity at bar 1001"),
    **{
        f"a better {name}": (metric(name, lambda x: x + abs(x) * 1e-6), words)
        for name, words in {
            "sharpe": "Sharpe ratio",
            "sortino": "Sortino ratio",
            "max_drawdown": "maximum drawdown",
            "calmar": "Calmar ratio",
            "total_return": "total return",
            "win_rate": "win rate",
            "profit_factor": "profit factor",
            "expectancy_r": "expectancy",
            "fees": "fees",
            "funding": "funding",
            "exposure": "exposure",
        }.items()
    },
}


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_a_corrupted_result_is_caught(sound: Result, what: str) -> None:
    """Each figure is held against vectorbt's, and the complaint names it."""
    spoil, words = CORRUPTIONS[what]
    assert second_opinion(sound)[1] is None
    complaint = second_opinion(spoil(sound))[1]
    assert complaint is not None
    assert words in complaint


def test_statistics_are_text_with_nothing_undefined_in_them(sound: Result) -> None:
    """vectorbt's own names, times to the minute, no NaN, and funding named where it was paid."""
    table = dict(second_opinion(sound)[0])
    assert table["Total Closed Trades"] == str(len(sound.trades))
    assert table["Sharpe Ratio"] == f"{sound.metrics['sharpe']:,.4f}"
    assert table["End Value"] == f"{sound.equity[-1]:,.4f}"
    assert "Total Fees and Funding Paid" in table
    assert len(table["Start"]) == len("2025-01-01 00:00")
    assert not {"nan", "inf", "-inf", "None"} & set(table.values())


def test_figures_over_records_are_what_vectorbt_makes_of_them(sound: Result) -> None:
    """Its own reducers are not used for their compilation; here they are, and say the same. In a process of their own
    that compiles nothing: they are the same functions, and a dozen seconds sooner.
    """
    code = "import json; from tests.research.test_accountant import theirs; print(json.dumps(theirs()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    ours = dict(statistics(books(sound)))
    shared = ours.keys() & figures.keys()
    assert len(shared) >= 36
    for name in shared:
        assert ours[name].removesuffix(".0000") == figures[name].removesuffix(".0000"), name


def theirs() -> dict[str, str]:
    """vectorbt's own statistics of the sound result, as text."""
    portfolio = books(sound_result()).portfolio
    figures = {
        **portfolio.trades.stats().to_dict(),
        **portfolio.drawdowns.stats().to_dict(),
        **portfolio.stats().to_dict(),
    }
    figures["Max Drawdown [%]"] = -100 * portfolio.returns_acc.max_drawdown()
    return {name: _text(value) for name, value in figures.items()}


def test_no_trades_no_complaint() -> None:
    """A strategy that never trades has an empty table where ratios would stand."""
    series = KINDS["constant"](seeded("nothing"))
    result = plain_result(series.bars, series.interval_ms, {})
    table, complaint = second_opinion(result)
    assert complaint is None
    assert dict(table)["Sharpe Ratio"] == ""
    assert dict(table)["Total Closed Trades"] == "0"


def test_the_module_itself_is_light() -> None:
    """vectorbt, pandas and numba come with the first question, not with the import."""
    heavy = "{'vectorbt', 'numba', 'pandas', 'plotly'} & set(sys.modules)"
    command = f"import sys, research.accountant; sys.exit(bool({heavy}))"
    subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=True)


def test_recorded_candles(test_data: Path) -> None:
    """A year and more of real bars at every recorded length; warm, it takes well under a second."""
    files = sorted((test_data / "bybit").glob("*.parquet"))
    assert files
    for file in files:
        frame = pd.read_parquet(file)
        stamps = frame["timestamp"].to_numpy()
        interval = int(np.diff(stamps).min())
        start = int(np.flatnonzero(np.diff(stamps) != interval)[-1]) + 1 if np.any(np.diff(stamps) != interval) else 0
        bars = {name: frame[name].to_numpy()[start:][-YEAR_OF_QUARTERS:] for name in frame.columns}
        result = backtest(series_of(bars, interval), "ema_trend", {**DEFAULTS, **EAGER})
        assert len(result.trades) > 100
        assert second_opinion(result)[1] is None, file.name
        began = time.perf_counter()
        second_opinion(result)
        assert time.perf_counter() - began < 2.0, file.name
