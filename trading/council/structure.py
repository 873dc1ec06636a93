"""Swings, structure, levels and the higher timeframe, from closed bars alone.

A pivot needs `wing` bars on either side, so it is known only `wing` bars after it happened: nothing here
looks ahead. Every definition is its own mirror image: reflecting the prices swaps highs with lows, no more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from trading import indicators
from trading.council.schemas import Bias, Structure
from trading.model import BoolArray, CandleSeries, FloatArray, IntArray

HIGHER = 6  # bars of the window in one bar of the higher timeframe
HIGHER_EMA, HIGHER_SLOPE = 20, 3


@dataclass(frozen=True, slots=True, eq=False)
class Pivots:
    """Rows of confirmed pivots, oldest first. A bar that is both a high and a low is neither."""

    highs: IntArray
    lows: IntArray


def pivots(high: FloatArray, low: FloatArray, wing: int) -> Pivots:
    """Pivots of a series: the extreme of `wing` bars on either side, the first where several are equal."""
    tops, bottoms = _peaks(high, wing), _peaks(-low, wing)
    both = tops & bottoms
    return Pivots(np.flatnonzero(tops & ~both), np.flatnonzero(bottoms & ~both))


def _peaks(values: FloatArray, wing: int) -> BoolArray:
    """One flag per row; False within `wing` rows of either end."""
    found = np.zeros(len(values), dtype=np.bool_)
    if len(values) < 2 * wing + 1:
        return found
    span = len(values) - 2 * wing
    highest = sliding_window_view(values, 2 * wing + 1).max(axis=1)
    before = sliding_window_view(values, wing).max(axis=1)[:span]
    centre = values[wing : wing + span]
    found[wing : wing + span] = (centre == highest) & (centre > before)
    return found


def swings(high: FloatArray, low: FloatArray, found: Pivots) -> list[tuple[int, str]]:
    """(row, HH | LH | HL | LL) of every pivot but the first of its kind, oldest first."""
    labels = _labels(high, found.highs, "HH", "LH") + [
        (row, "LL" if name == "lower" else "HL") for row, name in _labels(-low, found.lows, "lower", "higher")
    ]
    return sorted(labels)


def _labels(values: FloatArray, rows: IntArray, beyond: str, within: str) -> list[tuple[int, str]]:
    """Each pivot against the one before: `beyond` when it is more extreme."""
    further = values[rows[1:]] > values[rows[:-1]]
    return [
        (row, beyond if more else within)
        for row, more in zip(rows[1:].tolist(), further.tolist(), strict=True)
    ]


def structure_of(labelled: list[tuple[int, str]]) -> Structure:
    """The last high and low together: RANGE when they contract, UNCLEAR when they widen or are missing."""
    last_high = next((name for _, name in reversed(labelled) if name in {"HH", "LH"}), "")
    last_low = next((name for _, name in reversed(labelled) if name in {"HL", "LL"}), "")
    named = {"HHHL": Structure.HH_HL, "LHLL": Structure.LH_LL, "LHHL": Structure.RANGE}
    return named.get(last_high + last_low, Structure.UNCLEAR)


def room(prices: FloatArray, close: float) -> float | None:
    """Distance in price from `close` up to the nearest of `prices` above it; None when there is none."""
    above = prices[prices > close]
    return float(above.min()) - close if len(above) else None


def higher_timeframe(window: CandleSeries) -> FloatArray:
    """Closes of the higher timeframe: complete bars only, aligned to UTC multiples of its length."""
    length = HIGHER * int(window.interval.total_seconds() * 1000)
    group = window.timestamp // length
    first = np.flatnonzero(np.diff(group, prepend=-1))
    complete = np.diff(np.append(first, len(group))) == HIGHER
    closes: FloatArray = window.close[first[complete] + HIGHER - 1]
    return closes


def higher_bias(window: CandleSeries) -> Bias | None:
    """The higher timeframe's close against its average, and where that average goes; None if unknown."""
    closes = higher_timeframe(window)
    if len(closes) < HIGHER_EMA + HIGHER_SLOPE:
        return None
    mean = indicators.ema(closes, HIGHER_EMA)
    if closes[-1] > mean[-1] > mean[-1 - HIGHER_SLOPE]:
        return Bias.BULLISH
    if closes[-1] < mean[-1] < mean[-1 - HIGHER_SLOPE]:
        return Bias.BEARISH
    return Bias.CHOPPY
