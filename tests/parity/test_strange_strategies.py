"""Strategies that nobody should write: the kernel still does with them what the replay does.

They are scripts: their pieces are arrays made from the bars' rows, not indicators, so that any edge can be put where
it hurts. The page's plain implementation is asked where the page has an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

from research.grid import Grid, search
from research.ground import Ground
from tests.parity import plain
from tests.parity.compare import METRICS, differences, same
from tests.parity.laboratory import backtested, candle_series, curve_differences, twin_differences, walked
from tests.parity.plain import simulate
from tests.parity.product import product
from tests.parity.series import MIDNIGHT, MINUTE, Bars, Series, bars_from, walk
from trading.indicators import Indicators
from trading.model import BoolArray, CandleSeries, FloatArray
from trading.parameters import Parameters, param
from trading.strategy import Piece, Rules, strategies

NAME = "scripted"
HOUR = 60 * MINUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedParameters(Parameters):
    """Which script is played, and how far its stops lie."""

    script: float = param(0.0, "number of the script")
    distance: float = param(0.01, "R as a share of the close, or in price where the script says so")


@dataclass(frozen=True, kw_only=True)
class Script:
    """What a script says of every bar."""

    long: BoolArray
    short: BoolArray
    r: FloatArray
    out_long: BoolArray
    out_short: BoolArray
    knife_long: BoolArray
    knife_short: BoolArray


def said(candles: CandleSeries, distance: float, **changes: Any) -> Script:
    """Nothing, but for the changes."""
    n = len(candles)
    names = ("long", "short", "out_long", "out_short", "knife_long", "knife_short")
    return Script(**{**dict.fromkeys(names, np.zeros(n, np.bool_)), "r": candles.close * distance, **changes})


def chance(candles: CandleSeries, share: float, salt: int) -> BoolArray:
    """True on that share of the bars, by their time alone."""
    mixed = (candles.timestamp // HOUR * 2_654_435_761 + salt * 40_503) % 1_000_003 * 7_919 % 10_007
    result: BoolArray = mixed < share * 10_007
    result[0] = False  # the page knows no bar before the first
    return result


def peeking(candles: CandleSeries, distance: float) -> Script:
    """Knows the next close."""
    rises = np.append(candles.close[1:] > candles.close[:-1], False)
    later = np.arange(len(candles)) > 0  # the page knows no bar before the first
    return said(candles, distance, long=rises & later, short=~rises & later, out_long=~rises, out_short=rises)


def both_at_once(candles: CandleSeries, distance: float) -> Script:
    """Wants both sides, often from the same bar on: that is nothing."""
    together = chance(candles, 0.2, 1)
    long, short = together | chance(candles, 0.1, 2), together | chance(candles, 0.1, 3)
    return said(candles, distance, long=long, short=short, out_long=chance(candles, 0.1, 4))


def from_bar_zero(candles: CandleSeries, distance: float) -> Script:
    """Wants in on the very first bar, and later now and then."""
    long = chance(candles, 0.1, 5)
    long[0] = True
    return said(candles, distance, long=long, out_long=chance(candles, 0.2, 6))


def for_ever(candles: CandleSeries, distance: float) -> Script:
    """Wants in all the time: there is one edge, at bar 0."""
    return said(candles, distance, long=np.ones(len(candles), np.bool_))


def without_distance(candles: CandleSeries, distance: float) -> Script:
    """Every other stop distance is none, tiny, or wider than the price."""
    r = candles.close * distance
    kind = np.arange(len(r)) % 6
    for place, value in enumerate((0.0, 1e-12, 1e9)):
        r[kind == place] = value
    return said(candles, distance, long=chance(candles, 0.2, 7), short=chance(candles, 0.2, 8), r=r)


def not_a_number(candles: CandleSeries, distance: float) -> Script:
    """Every other stop distance is no number: NaN, infinite, below zero."""
    r = candles.close * distance
    kind = np.arange(len(r)) % 6
    for place, value in enumerate((np.nan, np.inf, -np.inf, -1.0)):
        r[kind == place] = value
    return said(candles, distance, long=chance(candles, 0.2, 7), short=chance(candles, 0.2, 8), r=r)


def always_out(candles: CandleSeries, distance: float) -> Script:
    """Every position should leave at once."""
    ever = np.ones(len(candles), np.bool_)
    long, short = chance(candles, 0.2, 9), chance(candles, 0.2, 10)
    return said(candles, distance, long=long & ~short, short=short & ~long, out_long=ever, out_short=ever)


def always_a_knife(candles: CandleSeries, distance: float) -> Script:
    """Longs are knives on every other bar, shorts on every bar."""
    long, short = chance(candles, 0.2, 11), chance(candles, 0.2, 12)
    odd = np.arange(len(candles)) % 2 == 1
    ever = np.ones(len(candles), np.bool_)
    return said(candles, distance, long=long & ~short, short=short & ~long, knife_long=odd, knife_short=ever)


def in_price(candles: CandleSeries, distance: float) -> Script:
    """Stops a fixed way off, in price: R is exact."""
    long, short = chance(candles, 0.2, 13), chance(candles, 0.2, 14)
    r = np.full(len(candles), distance)
    return said(candles, distance, long=long & ~short, short=short & ~long, r=r, out_long=chance(candles, 0.02, 15))


SCRIPTS: tuple[Callable[[CandleSeries, float], Script], ...] = (
    *(peeking, both_at_once, from_bar_zero, for_ever, without_distance),
    *(not_a_number, always_out, always_a_knife, in_price),
)
OF_THE_PAGE = (peeking, always_out, always_a_knife, in_price)  # the others ask what the page does not answer


@dataclass(frozen=True, slots=True)
class Scripted:
    """Plays a script."""

    name: ClassVar[str] = NAME
    parameters: ClassVar[type[Parameters]] = ScriptedParameters
    p: ScriptedParameters

    @property
    def longest_period(self) -> int:
        return 2

    def rules(self) -> Rules:
        def piece(name: str) -> Piece[Any]:
            return Piece((NAME, name, self.p.script, self.p.distance), lambda at: getattr(self._script(at), name))

        return Rules(
            long=(piece("long"),),
            short=(piece("short"),),
            stop_distance=piece("r"),
            exit_long=piece("out_long"),
            exit_short=piece("out_short"),
            hazard_long=piece("knife_long"),
            hazard_short=piece("knife_short"),
            calm=piece("out_long"),
        )

    def _script(self, at: Indicators) -> Script:
        return SCRIPTS[int(self.p.script)](at.candles, self.p.distance)


def plain_signals(bars: Any, p: dict[str, float]) -> plain.Signals:
    """The same for the page: `sl_atr_multiplier` is 1 and the ATR is the script's R."""
    one = SCRIPTS[int(p["script"])](candle_series(bars, HOUR), p["distance"])
    states = (one.out_long, one.out_short, one.r, one.long, one.short, one.knife_long, one.knife_short)
    return plain.Signals(*(state.tolist() for state in states))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The strategy in the list of strategies, as a new file would be."""
    others = (*plain.OF_TREND_ALONE, "bb_period", "bb_std", "adx_period", "atr_period", "knife_lookback", "knife_atr")
    defaults = {name: value for name, value in plain.DEFAULTS.items() if name not in others}
    monkeypatch.setitem(strategies(), NAME, Scripted)
    monkeypatch.setitem(plain.SIGNALS, NAME, plain_signals)
    monkeypatch.setitem(
        plain.DEFAULTS_OF, NAME, {**defaults, "sl_atr_multiplier": 1.0, "script": 0.0, "distance": 0.01}
    )


def all_differences(series: Series, script: int, through: bool = True, **changes: Any) -> list[str]:
    """Page, kernel, both command lines and a search of this one combination."""
    params: dict[str, Any] = {"script": script, **changes}
    asked: dict[str, Any] = {"interval_ms": series.interval_ms, "strategy": NAME}
    values = {
        name: int(value) if name in plain.WHOLE else float(value)
        for name, value in {**plain.DEFAULTS_OF[NAME], **params}.items()
    }
    found: list[str] = []
    alone = walked(series.bars, values, **asked)
    if SCRIPTS[script] in OF_THE_PAGE:
        expected = simulate(series.bars, params, **asked)
        found += differences(expected, alone) + curve_differences(expected["equity"], alone["equity"])
    if through:
        replayed, told = product(series.bars, params, **asked), backtested(series.bars, params, **asked)
        found += [f"backtest against replay: {each}" for each in twin_differences(replayed, told)]
        found += [f"kernel against replay: {each}" for each in twin_differences(replayed, alone)]
    grid = Grid(strategy=NAME, values=values, axes=(("script", (float(script),)),))
    summed = search(Ground.of(candle_series(series.bars, series.interval_ms)), grid).metrics()
    for name in METRICS:
        value = float(summed[name][0])
        if not same(alone["metrics"][name], None if np.isnan(value) else value):
            found.append(f"search, {name}: {value!r} instead of {alone['metrics'][name]!r}")
    return found


def hourly(seed: int, bars: int = 800) -> Series:
    rng = np.random.default_rng(seed)
    return bars_from(rng, walk(rng, bars, vol=0.008), wick=0.004, interval=60)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("script", range(len(SCRIPTS)), ids=[each.__name__ for each in SCRIPTS])
def test_a_strange_strategy_is_replayed_as_it_is_walked(script: int, number: int) -> None:
    """Four accounts: plain, take profit, no trailing and long rests, everything at risk."""
    changes: dict[str, Any] = (
        {},
        {"take_profit_r": 1.0, "entry_offset": 0.0, "trail_step_r": 0.1, "trail_start_r": 0.2, "trail_lag_r": 0.05},
        {"trail_start_r": 0.0, "entry_ttl_bars": 40, "entry_offset": 0.01, "runaway_r": 1e6, "cooldown_bars": 5},
        {"risk_per_trade": 1.0, "max_position_usdt": 1e9, "leverage": 20.0, "slippage": 0.01},
    )[number]
    distance = 2.0 if SCRIPTS[script] is in_price else 0.01
    assert all_differences(hourly(number), script, distance=distance, **changes) == []


def test_a_peeker_wins_nearly_always() -> None:
    """The script peeks indeed: were it walked a bar off, it would not."""
    metrics = walked(
        hourly(1).bars, {"script": 0, "distance": 0.05, "slippage": 0.0}, interval_ms=HOUR, strategy=NAME
    )["metrics"]
    assert metrics["win_rate"] > 0.6
    assert metrics["total_return"] > 0.3


def ticking(price: float, tick: float, seed: int, bars: int = 900) -> Series:
    """Prices that move by whole ticks, a few at a time."""
    rng = np.random.default_rng(seed)
    places = round(price / tick) + np.cumsum(rng.integers(-4, 5, bars))
    opens = np.concatenate((places[:1], places[:-1]))
    highs = np.maximum(opens, places) + rng.integers(0, 4, bars)
    lows = np.minimum(opens, places) - rng.integers(0, 4, bars)
    per = round(1 / tick) if tick < 1 else 1
    scale = 1 if tick < 1 else round(tick)
    columns: Bars = {
        name: column * scale / per
        for name, column in (("open", opens), ("high", highs), ("low", lows), ("close", places))
    }
    stamp = MIDNIGHT + np.arange(bars, dtype=np.int64) * HOUR
    return Series(bars={"timestamp": stamp, **columns, "volume": np.zeros(bars)}, interval_ms=HOUR)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("price", "tick", "distance", "step"),
    [
        (100.0, 0.1, 1.0, 0.1),
        (100.0, 0.1, 0.5, 0.2),
        (100_000.0, 0.1, 1.0, 0.1),
        (1e7, 0.1, 1.0, 0.1),
        (1e7, 0.1, 0.5, 0.2),
        (1e7, 1.0, 5.0, 0.2),
        (1e8, 0.1, 1.0, 0.1),
        (3.0, 0.001, 0.01, 0.3),
        (1e6, 0.01, 0.1, 0.1),
    ],
)
def test_highs_exactly_on_trailing_levels(price: float, tick: float, distance: float, step: float, seed: int) -> None:
    """Levels are whole ticks and so are highs: whether one is reached hangs on the last digit, and on it alone."""
    series = ticking(price, tick, seed)
    changes = {"distance": distance, "trail_step_r": step, "trail_start_r": step, "trail_lag_r": 0.3, "tick_size": tick}
    free = {"entry_offset": 0.0, "qty_step": 1e-6, "min_qty": 1e-6, "min_notional": 0.0, "entry_ttl_bars": 9}
    script = SCRIPTS.index(in_price)
    assert all_differences(series, script, through=seed == 0, **changes, **free) == []
    assert all_differences(series, script, through=False, **changes, **free, take_profit_r=2 * step) == []


def borders() -> list[tuple[float, float, float]]:
    """(price, distance, leverage) where a product and a quotient disagree on which side of 0.8 / leverage it lies."""
    found = []
    for leverage in (1.0, 3.0, 5.0, 7.0, 10.0, 25.0):
        for ticks in range(500, 20_000):
            away = round(0.8 / leverage * ticks)
            price, stop = ticks / 10, (ticks - away) / 10
            gap = abs(price - stop)
            if away and (gap / price >= 0.8 / leverage) != (gap >= 0.8 / leverage * price):
                found.append((price, away / 10, leverage))
    return found


def test_a_stop_on_the_border_of_liquidation() -> None:
    """`abs(L - stop) / L >= 0.8 / leverage`, to the last bit."""
    cases = borders()
    assert len(cases) > 20
    script = SCRIPTS.index(in_price)
    wrong: list[str] = []
    for price, distance, leverage in cases[:: len(cases) // 12]:
        bars = ticking(price, 0.1, 1, 40).bars
        level = np.full(40, price)
        bars |= {"open": level, "close": level, "high": level + 1, "low": level - 1}
        series = Series(bars=bars, interval_ms=HOUR)
        terms = {"leverage": leverage, "entry_offset": 0.0, "distance": distance}
        wrong += all_differences(series, script, through=len(wrong) == 0, **terms)
    assert wrong == []
