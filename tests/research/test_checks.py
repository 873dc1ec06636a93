"""The two checks of a strategy: whoever peeks is caught, whoever never forgets is caught, and the honest never are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from research.candles import load_candles
from research.checks import BARS, look_ahead, warm_up
from research.synthetic import synthetic
from tests.parity.series import KINDS
from tests.research.worlds import shuffled, stormy, trends
from trading.indicators import Indicators
from trading.model import CandleSeries
from trading.parameters import Parameters
from trading.strategy import Piece, Rules, Strategy, strategies, strategy_named

Array = Any
Bend = Callable[[Array, Indicators], Array]  # what becomes of a piece's array
TRIALS = 20
RECORDED = [
    "binance-perp/BTCUSDT-1h-20190908-20260517.parquet",
    "binance-perp/BTCUSDT-15m-20230101-20260517.parquet",
    "bybit/ETHUSDT-15m-20250924-20260721.parquet",
    "crash-1m/BTCUSDT-1m-20240726-20240825.parquet",
]


def made(name: str, **changes: Any) -> Strategy:
    """A shipped strategy, with its defaults but for `changes`."""
    kind = strategy_named(name)
    strategy: Strategy = kind(kind.parameters(**changes))
    return strategy


@dataclass(frozen=True)
class Bent:
    """A strategy one of whose pieces is bent."""

    name: ClassVar[str] = "bent"
    parameters: ClassVar[type[Parameters]] = Parameters
    inner: Strategy
    piece: str
    bend: Bend
    claims: int | None = None

    @property
    def longest_period(self) -> int:
        return self.claims or self.inner.longest_period

    def rules(self) -> Rules:
        rules = self.inner.rules()
        kept: Any = getattr(rules, self.piece)
        bent: Any = (self._bent(kept[0]), *kept[1:]) if isinstance(kept, tuple) else self._bent(kept)
        return replace(rules, **{self.piece: bent})

    def _bent(self, piece: Piece[Any]) -> Piece[Any]:
        return Piece(("bent", *piece.key), lambda at: self.bend(piece.make(at), at))


def ahead_or_nothing(values: Array, at: Indicators) -> Array:
    """One bar ahead; where the future has not come yet, nothing."""
    shifted = np.full_like(values, np.nan if values.dtype == np.float64 else False)
    shifted[:-1] = values[1:]
    return shifted


def ahead_or_the_last(values: Array, at: Indicators) -> Array:
    """One bar ahead; where the future has not come yet, what is known: the hardest to see."""
    return np.concatenate((values[1:], values[-1:]))


def only_before_a_rise(values: Array, at: Indicators) -> Array:
    """A filter that knows the next close, and lets everything through where it does not."""
    close = at.candles.close
    falls = np.append(close[1:] < close[:-1], False)
    return np.where(falls, np.zeros_like(values), values)


@cache
def market(seed: int) -> CandleSeries:
    return synthetic("BTCUSDT", seed=seed, bars=6000)


PIECES = ("long", "short", "stop_distance", "exit_long", "exit_short", "hazard_long", "hazard_short", "calm")
PEEKS: Sequence[Bend] = (ahead_or_nothing, ahead_or_the_last)


@pytest.mark.parametrize("name", sorted(strategies()))
@pytest.mark.parametrize("bend", PEEKS)
@pytest.mark.parametrize("piece", PIECES)
def test_peeking_by_one_bar_is_caught(name: str, piece: str, bend: Bend) -> None:
    """In any piece, twenty times of twenty, each time on other bars and with other cuts."""
    peeking = Bent(made(name), piece, bend)
    found = [look_ahead(peeking, market(seed), seed=seed) for seed in range(TRIALS)]
    assert [why is not None for why in found] == [True] * TRIALS
    assert all(why is not None and why.startswith("sees the future: '") for why in found)


@pytest.mark.parametrize("piece", ["long", "short", "exit_long", "stop_distance"])
def test_a_filter_that_knows_the_next_close_is_caught(piece: str) -> None:
    """Twenty times of twenty, though it hides where the bars end."""
    peeking = Bent(made("ema_trend"), piece, only_before_a_rise)
    assert all(look_ahead(peeking, stormy(seed, 6000), seed=seed) for seed in range(TRIALS))


def test_a_figure_of_the_whole_series_is_caught() -> None:
    """A distance scaled by what all bars together show."""
    scaled = Bent(made("ema_trend"), "stop_distance", lambda values, at: values / np.std(at.candles.close))
    assert look_ahead(scaled, trends(1, 5000)) is not None


@pytest.mark.parametrize("name", sorted(strategies()))
@pytest.mark.parametrize("seed", range(6))
def test_the_honest_pass_on_made_up_bars(name: str, seed: int) -> None:
    """Neither check has anything to say, whatever the market."""
    for series in (synthetic("BTCUSDT", seed=seed, bars=9000), stormy(seed, 12_000), trends(seed, 7000)):
        assert look_ahead(made(name), series, seed=seed) is None
        assert warm_up(made(name), series) is None


@pytest.mark.parametrize("name", sorted(strategies()))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_honest_pass_on_edges(name: str, kind: str) -> None:
    """Flat bars, gaps, half ticks, crashes, hardly any bars: nothing sees the future there."""
    made_up = KINDS[kind](np.random.default_rng(17))
    columns: dict[str, Any] = made_up.bars
    series = CandleSeries(symbol="BTCUSDT", interval=timedelta(milliseconds=made_up.interval_ms), **columns)
    assert look_ahead(made(name, atr_period=3, adx_period=3), series) is None


@pytest.mark.parametrize("name", sorted(strategies()))
@pytest.mark.parametrize("path", RECORDED)
def test_the_honest_pass_on_recorded_bars(name: str, path: str, test_data: Path) -> None:
    """As they are, and shuffled."""
    series = load_candles(test_data / path, known_symbols=("BTCUSDT", "ETHUSDT")).series
    assert look_ahead(made(name), series) is None
    assert warm_up(made(name), series) is None
    if "-1h-" in path:
        mixed = shuffled(test_data / path)(1, 14_000)
        assert look_ahead(made(name), mixed) is None
        assert warm_up(made(name), mixed) is None


# Where history starts


def mean_so_far(values: Array, at: Indicators) -> Array:
    """Above the mean of all closes since the first one: it never forgets."""
    close = at.candles.close
    return close > np.cumsum(close) / np.arange(1, len(close) + 1)


@pytest.mark.parametrize("seed", range(TRIALS))
def test_a_strategy_that_never_forgets_is_caught(seed: int) -> None:
    """It sees no future, and yet decides by where its bars happen to begin."""
    clinging = Bent(made("ema_trend"), "long", mean_so_far)
    series = stormy(seed, 12_000)
    assert look_ahead(clinging, series) is None
    why = warm_up(clinging, series)
    assert why is not None
    assert why.startswith("depends on where its history starts: 'long: bent' at 20")


def test_a_strategy_that_needs_more_than_it_says_is_caught() -> None:
    """Its longest period is a fifth of the one it looks back."""
    needy = Bent(made("ema_trend"), "calm", lambda values, at: values, claims=8)
    assert warm_up(needy, stormy(3, 12_000)) is not None


def test_too_short_a_history_is_said() -> None:
    """What cannot be checked is not called sound."""
    strategy = made("ema_trend")
    assert warm_up(strategy, stormy(4, 2399)) == "warm-up not checked: 2,399 bars, 2,400 needed"
    assert warm_up(strategy, stormy(4, 2400)) is None


def test_two_bars_have_no_future_to_cut_off() -> None:
    """Nothing to say of them."""
    assert look_ahead(made("ema_trend"), stormy(5, 2)) is None


def test_the_sentence_names_a_bar_of_the_series() -> None:
    """The last bars are the ones looked at, and the bar named is where the flaw shows."""
    series = stormy(6, BARS + 5000)
    why = look_ahead(Bent(made("ema_trend"), "stop_distance", ahead_or_nothing), series)
    assert why is not None
    assert "'stop distance' at 20" in why
