"""What the composition root makes of two strategies: fingerprint, council, knives, windows."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import main
from bot.settings import read_settings
from research.synthetic import synthetic
from tests.parity.plain import DEFAULTS_OF
from trading.errors import BadInput
from trading.model import CandleSeries
from trading.portfolio import Book
from trading.signals import BySymbol, RollingWindow

OWN = {"name": "mean_reversion", "bb_period": 30, "knife_lookback": 5, "knife_atr": 2.0}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan_of(folder: Path, *words: str, **config: Any) -> main.Plan:
    """The plan of `run` with these words and that configuration."""
    (folder / "config.json").write_text(json.dumps({"symbols": ["BTCUSDT", "ETHUSDT"], **config}), encoding="utf-8")
    return main.make_plan(main.build_parser().parse_args(["run", *words]), read_settings())


def test_the_council_is_told_of_each_symbols_strategy(folder: Path) -> None:
    """Trend, odds and knife are those of the strategy that the symbol is traded by."""
    plan = plan_of(folder, "--set", "ema_period=50", strategies={"ETHUSDT": OWN})
    trend, reversion = main.packet_terms(plan, "BTCUSDT"), main.packet_terms(plan, "ETHUSDT")
    assert (trend.trend_period, trend.base_rate, trend.horizon_bars) == (50, 0.32, 48)
    assert (trend.knife_lookback, trend.knife_atr) == (3, 3.0)
    assert (reversion.trend_period, reversion.base_rate, reversion.horizon_bars) == (200, 0.53, 6)
    assert (reversion.knife_lookback, reversion.knife_atr) == (5, 2.0)
    assert main.knife_bars(plan) == {"BTCUSDT": 3, "ETHUSDT": 5}


def test_parameters_name_the_symbol_where_they_differ(folder: Path) -> None:
    """Of one strategy every name once; of a second one its own, with the symbol."""
    assert set(plan_of(folder).params) == set(DEFAULTS_OF["ema_trend"])
    params = plan_of(folder, strategies={"ETHUSDT": OWN}).params
    assert (params["bb_period"], params["ETHUSDT.bb_period"], params["ETHUSDT.adx_max"]) == (20, 30, 20.0)
    assert "ETHUSDT.take_profit_r" not in params


def test_the_fingerprint_knows_every_strategy(folder: Path) -> None:
    """Another strategy or another parameter of one symbol is another outcome; of a symbol not traded it is none."""
    own = plan_of(folder, strategies={"ETHUSDT": OWN})
    plans = [
        plan_of(folder),
        own,
        plan_of(folder, strategies={"BTCUSDT": OWN}),
        plan_of(folder, strategies={"ETHUSDT": OWN | {"bb_period": 31}}),
        plan_of(folder, "--strategy", "mean_reversion"),
        plan_of(folder, symbols=["ETHUSDT", "BTCUSDT"], strategies={"ETHUSDT": OWN}),
    ]
    assert len({plan.fingerprint for plan in plans}) == len(plans)
    other = plan_of(folder, strategies={"ETHUSDT": OWN, "SOLUSDT": OWN})
    assert other.fingerprint == own.fingerprint


def test_the_configuration_is_that_of_the_symbols_traded(folder: Path) -> None:
    """Candle files decide which symbols there are, and so which names `--set` takes."""
    rows = "\n".join(f"{1_700_006_400_000 + n * 3_600_000},1,1,1,1,1" for n in range(3))
    (folder / "bars.csv").write_text(f"timestamp,open,high,low,close,volume\n{rows}\n", encoding="utf-8")
    words = ("--candles", "ETHUSDT=bars.csv", "--set", "adx_max=30")
    plan = plan_of(folder, *words, strategies={"ETHUSDT": OWN})
    assert (plan.symbols, plan.config.symbols) == (("ETHUSDT",), ("ETHUSDT",))
    assert plan.params["adx_max"] == 30.0
    with pytest.raises(BadInput, match="--set ema_period: is a parameter of ema_trend"):
        plan_of(folder, *words, "--set", "ema_period=50", strategies={"ETHUSDT": OWN})


def test_the_longest_look_back_decides_the_history(folder: Path) -> None:
    """Every window is full when trading begins."""
    plan = plan_of(folder, strategies={"ETHUSDT": OWN | {"bb_period": 900}})
    wanted = BySymbol.wanted(plan.config.strategy_for, plan.symbols)
    assert wanted == RollingWindow.wanted(plan.config.strategy_for("ETHUSDT"))
    assert wanted > RollingWindow.wanted(plan.config.strategy_for("BTCUSDT"))


async def test_a_close_before_the_first_mark_is_not_history(folder: Path) -> None:
    """A session that was killed before it had dealt with any close has missed those since its start."""
    series = synthetic("BTCUSDT", seed=3, bars=60)
    plan = replace(plan_of(folder), symbols=("BTCUSDT",), interval=series.interval)

    class Past:
        """An exchange that remembers one series."""

        async def history(self, symbol: str, bars: int) -> CandleSeries:
            """All of it."""
            return series

    floor: Any = SimpleNamespace(market=Past())
    book = Book.opening(Decimal(10_000))
    source, missed, newest = await main.warmed_up(plan, floor, book)
    assert (len(missed), newest) == (0, series.candle(59).close_time)
    book.since = series.candle(56).close_time
    source, missed, newest = await main.warmed_up(plan, floor, book)
    assert [(each.close_time, each.late) for each in missed] == [
        (series.candle(row).close_time, row != 59) for row in (57, 58, 59)
    ]
    assert source.window("BTCUSDT", 1).candle(0) == series.candle(56)
