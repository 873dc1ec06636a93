"""The metrics of the specification, against its definitions written out in decimals."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.metrics import Metrics, Tape
from trading.errors import BadInput
from trading.events import TradeClosed
from trading.model import EPOCH, ExitReason, Side

HOUR = timedelta(hours=1)
ORDER = [
    *("total_return", "sharpe", "sortino", "max_drawdown", "calmar", "win_rate", "profit_factor"),
    *("expectancy_r", "trades", "exposure", "fees", "funding"),
]


def closed(pnl: str, risk: str = "100") -> TradeClosed:
    """A finished trade of which only the profit and the risk at entry matter here."""
    return TradeClosed(
        at=EPOCH,
        verdict_id=None,
        symbol="BTCUSDT",
        side=Side.LONG,
        signal_time=EPOCH,
        entry_time=EPOCH,
        exit_time=EPOCH,
        entry_price=Decimal(100),
        exit_price=Decimal(101),
        qty=Decimal(1),
        pnl=Decimal(pnl),
        fees=Decimal(3),
        funding=Decimal(2),
        risk_usdt=Decimal(risk),
        r=0.0,
        best_r=0.0,
        worst_r=0.0,
        exit_reason=ExitReason.STOP,
        cash=Decimal(0),
    )


def tape(curve: Sequence[float], trades: Sequence[TradeClosed] = (), *, exposed: int = 0) -> Tape:
    record = Tape()
    for bar, equity in enumerate(curve):
        record.mark(equity, bar < exposed)
    for trade in trades:
        record.trade(trade)
    return record


def root(value: Fraction) -> float:
    with localcontext() as context:
        context.prec = 60
        return float((Decimal(value.numerator) / value.denominator).sqrt())


def naive(curve: Sequence[float], initial: float, bars_per_year: int) -> Metrics:
    """The page's definitions of the curve's metrics, bar by bar, in fractions."""
    values, n = [Fraction(x) for x in curve], len(curve)
    before = [Fraction(initial), *values[:-1]]
    found: Metrics = {"total_return": float(values[-1] / Fraction(initial) - 1), "sharpe": None, "sortino": None}
    if min(values) > 0:
        returns = [(e - b) / b for e, b in zip(values, before, strict=True)]
        mean = sum(returns, Fraction()) / n
        variance = sum(((r - mean) ** 2 for r in returns), Fraction()) / (n - 1)
        downside = sum((min(r, Fraction()) ** 2 for r in returns), Fraction()) / n
        scale = math.sqrt(bars_per_year)
        found["sharpe"] = float(mean) / root(variance) * scale if variance else None
        found["sortino"] = float(mean) / root(downside) * scale if downside else None
    peak = worst = Fraction()
    for value in [Fraction(initial), *values]:
        peak = max(peak, value)
        worst = max(worst, (peak - value) / peak)
    found["max_drawdown"], found["calmar"] = float(worst), None
    if values[-1] > 0 and worst > 0:
        growth = math.log(values[-1] / Fraction(initial)) * bars_per_year / n
        found["calmar"] = math.expm1(growth) / float(worst) if growth < 700 else None
    return found


def agrees(curve: Sequence[float], initial: float, interval: timedelta, bars_per_year: int) -> bool:
    got, wanted = tape(curve).summary(initial, interval), naive(curve, initial, bars_per_year)
    numbers = {name: value for name, value in wanted.items() if value is not None}
    missing = {name for name in wanted if got[name] is None}
    return missing == wanted.keys() - numbers and {name: got[name] for name in numbers} == pytest.approx(
        numbers, rel=1e-9
    )


# Whole numbers, because equal returns are then exactly equal in both.
SOUND = st.lists(st.integers(1, 1000), min_size=2, max_size=40)
RUINED = st.lists(st.integers(-1000, 1000), min_size=2, max_size=10)


@given(curve=SOUND | RUINED)
def test_the_curve_agrees_with_the_page(curve: list[float]) -> None:
    """Whatever the curve does; daily bars, so that a year's growth stays a number."""
    assert agrees(curve, 100.0, timedelta(days=1), 365)


@pytest.mark.parametrize("seed", range(5))
def test_a_long_curve_agrees_with_the_page(seed: int) -> None:
    """Five days of a random walk around its start."""
    steps = np.random.default_rng(seed).normal(0, 0.003, 120)
    assert agrees((10_000 * np.exp(np.cumsum(steps))).tolist(), 10_000.0, HOUR, 8760)


def test_a_table_in_the_page_s_order() -> None:
    """Every name, with trades, fees, funding and exposure."""
    record = tape([101.0, 99.0, 103.0, 102.0], [closed("30"), closed("-10"), closed("0", "50")], exposed=3)
    for fee in ("0.1", "0.2"):
        record.fee(Decimal(fee))
    record.fund(Decimal("-0.05"))
    got = record.summary(100.0, HOUR)
    assert list(got) == ORDER
    assert (got["win_rate"], got["profit_factor"]) == (1 / 3, 3.0)
    assert got["expectancy_r"] == pytest.approx((0.3 - 0.1) / 3, rel=1e-12)
    assert (got["trades"], got["exposure"], got["fees"], got["funding"]) == (3, 0.75, 0.3, -0.05)
    assert got["max_drawdown"] == pytest.approx(2 / 101, rel=1e-12)
    assert record.bars == 4


def test_nothing_happened() -> None:
    """A flat curve without trades has no ratios; no drawdown is a drawdown of 0."""
    got = tape([100.0, 100.0, 100.0]).summary(100.0, HOUR)
    undefined = [name for name, value in got.items() if value is None]
    assert undefined == ["sharpe", "sortino", "calmar", "win_rate", "profit_factor", "expectancy_r"]
    assert {name: value for name, value in got.items() if value is not None} == dict.fromkeys(
        ["total_return", "max_drawdown", "trades", "exposure", "fees", "funding"], 0
    )


def test_equal_returns_have_no_deviation() -> None:
    """Steady growth is not an infinite Sharpe ratio, rounding or not."""
    got = tape([200.0, 400.0, 800.0]).summary(100.0, HOUR)
    assert (got["sharpe"], got["sortino"], got["calmar"]) == (None, None, None)


def test_no_losses_and_no_wins() -> None:
    """A factor over no losses is undefined; one without gains is 0."""
    assert tape([101.0, 102.0], [closed("5")]).summary(100.0, HOUR)["profit_factor"] is None
    assert tape([101.0, 102.0], [closed("0")]).summary(100.0, HOUR)["profit_factor"] is None
    assert tape([101.0, 102.0], [closed("-5")]).summary(100.0, HOUR)["profit_factor"] == 0.0


@pytest.mark.parametrize("ruin", [0.0, -5.0])
def test_ruin_has_no_sharpe(ruin: float) -> None:
    """Once the marked equity has been 0 or less, returns mean nothing; recovered or not."""
    recovered = tape([90.0, ruin, 110.0]).summary(100.0, HOUR)
    assert (recovered["sharpe"], recovered["sortino"]) == (None, None)
    assert recovered["max_drawdown"] == pytest.approx(1 - ruin / 100)
    assert recovered["calmar"] is not None
    ruined = tape([90.0, ruin]).summary(100.0, HOUR)
    assert ruined["calmar"] is None
    assert ruined["total_return"] == ruin / 100 - 1


def test_never_infinite() -> None:
    """A growth beyond every number is undefined, not infinite."""
    got = tape([1e200, 1e300, 1e299]).summary(1e-10, timedelta(minutes=1))
    assert got["calmar"] is None
    assert all(value is None or math.isfinite(value) for value in got.values())


@pytest.mark.parametrize("curve", [[], [100.0]])
def test_two_bars_at_least(curve: list[float]) -> None:
    """A single bar has no deviation and a year of nothing."""
    with pytest.raises(BadInput, match="at least 2 bars"):
        tape(curve).summary(100.0, HOUR)


def test_memory_does_not_grow_with_trades() -> None:
    """Totals, not lists: a hundred thousand trades take no more room than ten."""
    record, trade = tape([100.0, 101.0]), closed("1.5")
    record.trade(trade)
    tracemalloc.start()
    try:
        for _ in range(20_000):
            record.trade(trade)
            record.fee(Decimal("0.1"))
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 10_000
