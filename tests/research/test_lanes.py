"""The vector loops over bars against the plain ones, at every length around their width."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from research.lanes import LANES, extremes, sums_of_returns
from trading.model import FloatArray

BARS = 70


@njit
def _sums(curve: Any, first: Any, last: Any, away: Any) -> Any:
    return sums_of_returns(curve, np.uint64(first), np.uint64(last), away)


@njit
def _extremes(curve: Any, first: Any, last: Any) -> Any:
    return extremes(curve, np.uint64(first), np.uint64(last))


def curve_of(seed: int, behind: float) -> FloatArray:
    """A walk around 50, with something behind its end that must not be looked at."""
    rng = np.random.default_rng(seed)
    return np.concatenate((50 + np.cumsum(rng.normal(0, 0.5, BARS)), np.full(LANES, behind)))


@pytest.mark.parametrize("behind", [0.0, -1_000.0, np.nan, np.inf])
@pytest.mark.parametrize("length", [*range(3 * LANES + 2), BARS - 1])
def test_lanes_behind_the_last_bar_add_nothing(length: int, behind: float) -> None:
    """Neither what stands there nor how many there are is seen in the result."""
    curve, last = curve_of(length, behind), BARS
    first = last - length
    away = 1_000.0
    changes = np.diff(curve[first - 1 : last]) / (curve[first - 1 : last - 1] + away)
    expected = changes.sum(), (changes**2).sum(), (np.minimum(changes, 0) ** 2).sum()
    assert _sums(curve, first, last, away) == pytest.approx(expected, rel=1e-13, abs=1e-18)
    low, high = _extremes(curve, first, last)
    if length:
        assert (low, high) == (curve[first:last].min(), curve[first:last].max())
    else:
        assert (low, high) == (np.inf, -np.inf)


@given(
    seed=st.integers(0, 1_000), first=st.integers(1, BARS), length=st.integers(0, BARS), away=st.floats(-30, 1e9)
)
def test_any_stretch_is_what_a_plain_loop_makes_of_it(seed: int, first: int, length: int, away: float) -> None:
    """Whatever the equity beside the position is, short of nothing left."""
    curve, last = curve_of(seed, 1.0), min(first + length, BARS)
    if (curve[: last + 1] + away).min() < 1:  # ruined: nobody asks
        return
    total = squares = falls = 0.0
    for bar in range(first, last):
        change = (curve[bar] - curve[bar - 1]) / (curve[bar - 1] + away)
        total, squares, falls = total + change, squares + change * change, falls + min(change, 0.0) ** 2
    assert _sums(curve, first, last, away) == pytest.approx((total, squares, falls), rel=1e-12, abs=1e-15)
