"""Swings, structure, levels, the higher timeframe and candlestick patterns."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.council.patterns import NAMES, patterns
from trading.council.schemas import Bias, Structure
from trading.council.structure import (
    Pivots,
    higher_bias,
    higher_timeframe,
    pivots,
    room,
    structure_of,
    swings,
)
from trading.model import CandleSeries, FloatArray

WING = 3
HOUR = 3_600_000


def plain_peaks(values: list[float], wing: int) -> list[int]:
    """The definition, read aloud: higher than all before, as high as any after."""
    return [
        k
        for k in range(wing, len(values) - wing)
        if all(values[k] > other for other in values[k - wing : k])
        and all(values[k] >= other for other in values[k + 1 : k + wing + 1])
    ]


walks = st.lists(st.integers(-3, 3), min_size=0, max_size=120).map(lambda steps: np.cumsum([100.0, *steps]))


@given(walks, st.integers(1, 5))
def test_pivots_are_the_extremes_of_their_neighbourhood(middle: FloatArray, wing: int) -> None:
    """Against the plain definition; a bar that is both is neither."""
    high, low = middle + 1.0, middle - 1.0
    found = pivots(high, low, wing)
    tops, bottoms = plain_peaks(high.tolist(), wing), plain_peaks((-low).tolist(), wing)
    assert found.highs.tolist() == [k for k in tops if k not in bottoms]
    assert found.lows.tolist() == [k for k in bottoms if k not in tops]


@given(walks, st.integers(1, 60))
def test_pivots_do_not_look_ahead(middle: FloatArray, known: int) -> None:
    """What is known at a bar is what is known later, cut off: a pivot needs its right wing closed."""
    later = pivots(middle + 1.0, middle - 1.0, WING)
    then = pivots(middle[:known] + 1.0, middle[:known] - 1.0, WING)
    last = min(known, len(middle)) - 1 - WING
    assert then.highs.tolist() == [k for k in later.highs.tolist() if k <= last]
    assert then.lows.tolist() == [k for k in later.lows.tolist() if k <= last]


@given(walks)
def test_swings_upside_down(middle: FloatArray) -> None:
    """HH becomes LL and HL becomes LH, at the same bars."""
    other = {"HH": "LL", "LL": "HH", "HL": "LH", "LH": "HL"}
    high, low = middle + 1.0, middle - 1.0
    found = pivots(high, low, WING)
    plain = swings(high, low, found)
    assert swings(-low, -high, Pivots(found.lows, found.highs)) == [(row, other[name]) for row, name in plain]


@pytest.mark.parametrize(
    ("names", "structure"),
    [
        (["HH", "HL"], Structure.HH_HL),
        (["HL", "HH"], Structure.HH_HL),
        (["HH", "HL", "LH", "LL"], Structure.LH_LL),
        (["LH", "HL"], Structure.RANGE),
        (["HH", "LL"], Structure.UNCLEAR),
        (["HH", "HH"], Structure.UNCLEAR),
        ([], Structure.UNCLEAR),
    ],
)
def test_structure_is_the_last_high_and_the_last_low(names: list[str], structure: Structure) -> None:
    """The order of the two does not matter."""
    assert structure_of(list(enumerate(names))) is structure


def test_room_is_up_to_the_nearest_level() -> None:
    """Levels at or below the close do not count."""
    assert room(np.array([90.0, 104.0, 100.0, 120.0]), 100.0) == 4.0
    assert room(np.array([90.0]), 100.0) is None


def bars(close: FloatArray, first: int = 0, step: int = HOUR) -> CandleSeries:
    """Candles one hour long that open at the close before, the first one `first` hours after midnight."""
    opened = np.concatenate((close[:1], close[:-1]))
    return CandleSeries(
        symbol="BTCUSDT",
        interval=timedelta(milliseconds=step),
        timestamp=1_700_006_400_000 + (first + np.arange(len(close), dtype=np.int64)) * step,
        open=opened,
        high=np.maximum(opened, close) + 0.5,
        low=np.minimum(opened, close) - 0.5,
        close=close,
        volume=np.ones(len(close)),
    )


@pytest.mark.parametrize(("first", "expected"), [(0, [5, 11, 17]), (1, [10, 16]), (5, [6, 12, 18])])
def test_the_higher_timeframe_has_complete_aligned_bars_alone(first: int, expected: list[int]) -> None:
    """Six hours, at 0, 6, 12 and 18 UTC, whatever hour the window begins with."""
    assert higher_timeframe(bars(np.arange(20.0), first)).tolist() == expected


def test_the_higher_bias_needs_its_average() -> None:
    """Unknown with few bars; up in a rise, down in a fall, choppy after a turn."""
    rise = np.arange(600.0) + 100
    assert higher_bias(bars(rise[:60])) is None
    assert higher_bias(bars(rise)) is Bias.BULLISH
    assert higher_bias(bars(-rise)) is Bias.BEARISH
    turn = np.concatenate((rise[:594], rise[593] - 12.0 * np.arange(1.0, 7.0)))
    assert higher_bias(bars(turn)) is Bias.CHOPPY


def found_on(
    last: list[tuple[float, float, float, float]], atr: float = 2.0, low_row: int = 40
) -> dict[str, int]:
    """Patterns on a quiet decline from 130 followed by the bars (open, high, low, close) of `last`."""
    quiet = 130.0 - 0.5 * np.arange(60.0)
    series = bars(quiet)
    rows = np.array(last)
    stamps = np.concatenate((series.timestamp, series.timestamp[-1] + HOUR * np.arange(1, len(last) + 1)))
    whole = CandleSeries(
        symbol=series.symbol,
        interval=series.interval,
        timestamp=stamps,
        open=np.concatenate((series.open, rows[:, 0])),
        high=np.concatenate((series.high, rows[:, 1])),
        low=np.concatenate((series.low, rows[:, 2])),
        close=np.concatenate((series.close, rows[:, 3])),
        volume=np.ones(len(stamps)),
    )
    given_pivots = Pivots(np.array([20]), np.array([low_row]))
    ages = patterns(whole, atr, given_pivots, WING)
    assert tuple(ages) == NAMES
    return {name: age for name, age in ages.items() if age is not None}


# The decline closes at 100.5; the low of its bar 40, taken as the last confirmed low here, is 109.5.
def test_a_hammer_and_a_pin_bar() -> None:
    """A small body on top of a long lower wick."""
    found = found_on([(100.1, 100.25, 97.0, 100.2)])
    assert found["hammer"] == 0
    assert found["bullish_pin_bar"] == 0
    assert "shooting_star" not in found


def test_a_shooting_star_is_a_hammer_upside_down() -> None:
    """Also without the gap that TA-Lib's own asks for."""
    found = found_on([(100.5, 101.9, 100.4, 101.8), (101.8, 105.5, 101.7, 102.0)])
    assert found["shooting_star"] == 0
    assert found["bearish_pin_bar"] == 0
    assert "hammer" not in found


def test_engulfing_and_marubozu() -> None:
    """A long body without wicks around the one before; one bar later it is one bar old."""
    found = found_on([(100.5, 100.6, 99.4, 99.5), (99.4, 103.0, 99.4, 103.0)])
    assert found["bullish_engulfing"] == 0
    assert found["bullish_marubozu"] == 0
    later = found_on([(100.5, 100.6, 99.4, 99.5), (99.4, 103.0, 99.4, 103.0), (103.0, 103.4, 102.8, 103.2)])
    assert later["bullish_engulfing"] == 1


def test_a_sweep_takes_the_low_and_closes_back_above() -> None:
    """From above, through 109.5 and back; a close below it is a break, not a sweep."""
    above = (111.0, 111.5, 110.5, 111.0)
    assert found_on([above, (111.0, 111.2, 109.0, 110.8)])["bullish_sweep"] == 0
    assert "bullish_sweep" not in found_on([above, (111.0, 111.2, 109.0, 109.2)])
    assert "bullish_sweep" not in found_on([above, (111.0, 111.2, 109.6, 110.8)])


def test_a_sweep_knows_only_confirmed_lows() -> None:
    """A low counts from three bars after it, and not for the bar that closes just then."""
    last = [(100.5, 101.5, 100.4, 101.0), (101.0, 101.5, 100.8, 101.2), (101.2, 101.5, 101.0, 101.2)]
    last += [(101.2, 101.5, 99.0, 101.0)]
    assert found_on(last, low_row=59)["bullish_sweep"] == 0
    assert "bullish_sweep" not in found_on(last[1:], low_row=59)
