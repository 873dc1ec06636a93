"""Two checks of a strategy itself: does it see the future, and does it forget where its history began?

Both compare what the strategy says on the same bars twice, piece by piece, so that a flaw in one condition shows even
where another one hides it. What they find is one sentence; None means sound.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trading.indicators import Indicators
from trading.model import BoolArray, CandleSeries, IntArray, utc
from trading.strategy import Strategy

CUTS: Final = 12  # at random bars
EVENTS: Final = 3  # cuts where a piece begins to hold, and where it ceases to: chance would never hit rare ones
BARS: Final = 20_000  # the newest bars that are looked at
STARTS: Final = 4  # later starts, spread over the series
PERIODS: Final = 10  # history of so many times the longest period is what a running market is given
EXACT: Final = 1e-12  # relative: the same sum may be taken in another order
FORGOTTEN: Final = 1e-6  # relative: what is left of the start after ten periods is far below a tick
RARE: Final = 1000  # one bar and one in so many may differ: a price on a mean to the last digit falls to either side

Said = list[tuple[str, NDArray[Any]]]  # every piece by its name; a name may occur twice


def look_ahead(strategy: Strategy, series: CandleSeries, *, seed: int = 0, cuts: int = CUTS) -> str | None:
    """Cut the future off at random bars: every piece must say of the bars before what it said with the future there.

    The cuts are `cuts` random bars and bars just after a piece changed its mind, drawn by the seed.
    """
    series = series.tail(BARS)
    if len(series) < 3:
        return None
    known = _said(strategy, series)
    for cut in _cuts(known, len(series), np.random.default_rng(seed), cuts).tolist():
        before = _said(strategy, series.between(0, cut))
        for (name, values), (_, whole) in zip(before, known, strict=True):
            differs = _different(values, whole[:cut], EXACT)
            if differs.any():
                at, last = (_when(series, row) for row in (int(np.flatnonzero(differs)[-1]), cut - 1))
                return f"sees the future: '{name}' at {at} changes with the bars after {last}"
    return None


def warm_up(strategy: Strategy, series: CandleSeries) -> str | None:
    """Start later: after ten times the longest period, every piece must say what it says with all of the history.

    There are a few later starts, the first after ten times the longest period, or after as much as there is, one such
    period at least; with less history than that the sentence says so.
    """
    settled = PERIODS * strategy.longest_period
    series = series.tail(max(BARS, 4 * settled))
    latest = len(series) - settled - strategy.longest_period
    if latest < strategy.longest_period:
        return f"warm-up not checked: {len(series):,} bars, {settled + 2 * strategy.longest_period:,} needed"
    whole = _said(strategy, series)
    for start in np.unique(np.linspace(min(settled, latest), latest, STARTS).astype(int)).tolist():
        late = _said(strategy, series.between(start, len(series)))
        for (name, values), (_, known) in zip(late, whole, strict=True):
            differs = _different(values, known[start:], FORGOTTEN)[settled:]
            if differs.sum() > 1 + len(differs) / RARE:
                row = settled + int(np.flatnonzero(differs)[0])
                return (
                    f"depends on where its history starts: '{name}' at {_when(series, start + row)}, {row:,} bars "
                    f"after the start ({differs.sum():,} of {len(differs):,} differ)"
                )
    return None


def _said(strategy: Strategy, candles: CandleSeries) -> Said:
    """Every piece of the strategy over these bars."""
    rules, known = strategy.rules(), Indicators(candles)
    decisions = ("stop_distance", "exit_long", "exit_short", "hazard_long", "hazard_short", "calm")
    pieces = [
        *((f"{side}: {piece.key[0]}", piece) for side in ("long", "short") for piece in getattr(rules, side)),
        *((name.replace("_", " "), getattr(rules, name)) for name in decisions),
    ]
    return [(name, piece.make(known)) for name, piece in pieces]


def _different(values: NDArray[Any], others: NDArray[Any], tolerance: float) -> BoolArray:
    """Where two arrays of a piece are not the same; NaN equals NaN."""
    if values.dtype == np.bool_:
        differs: BoolArray = values != others
    else:
        differs = ~np.isclose(values, others, rtol=tolerance, atol=0.0, equal_nan=True)
    return differs


def _cuts(known: Said, bars: int, rng: np.random.Generator, count: int) -> IntArray:
    """How many bars are left by each cut: at random, and so that the last bar left is one where a piece changes."""
    found = [rng.integers(2, bars, count)]
    for _, values in known:
        if values.dtype != np.bool_:
            continue
        for state in (True, False):
            rows = np.flatnonzero((values[1:] == state) & (values[:-1] != state)) + 1
            rows = rows[rows < bars - 1]  # its future must be there to be cut off
            found.append(rng.permutation(rows)[:EVENTS] + 1)
    return np.unique(np.concatenate(found))


def _when(series: CandleSeries, row: int) -> str:
    return f"{utc(int(series.timestamp[row])):%Y-%m-%d %H:%M}"
