"""What the kernel walks over: one series of bars in the kernel's own layout, with what funding costs on it.

Layouts and dtypes are pinned here, so that the kernel is compiled once: float64 and C-contiguous, longs first and
their mirror for shorts second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from research.kernel import RULES, TERMS
from research.lanes import LANES
from trading.errors import BadInput
from trading.model import BoolArray, CandleSeries, FloatArray, IntArray

EIGHT_HOURS: Final = 8 * 3_600_000
_LARGEST: Final = 2**53  # whole numbers up to here are exact in a float64
_FINEST: Final = 22  # and so are powers of ten up to this one

Bits = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ground:
    """A series for the kernel. `ranges` (2n, 2): low and high, `ends` (2n, 2): open and close, of longs and
    then of their mirror.

    `settled`: how many settlements fall on each bar; `rates`: the sum of their rates where the series of rates knows
    them, `unrated` how many it does not know (there the terms' constant rate stands in).
    """

    series: CandleSeries
    ranges: FloatArray
    ends: FloatArray
    settled: IntArray
    rates: FloatArray
    unrated: IntArray
    funded: bool
    _curves: dict[float, tuple[FloatArray, FloatArray]] = field(default_factory=dict)

    @classmethod
    def of(cls, series: CandleSeries, funding: Mapping[int, Decimal] | None = None) -> Ground:
        """Lay a series out; `BadInput` for fewer than two bars or impossible ones."""
        if len(series) < 2:
            raise BadInput(f"a backtest needs at least 2 bars and there are {len(series)}: add candles")
        open_, high, low, close = series.open, series.high, series.low, series.close
        sound = (low > 0) & (low <= np.minimum(open_, close)) & (high >= np.maximum(open_, close)) & (high < np.inf)
        if not sound.all():  # the kernel relies on it; files and archives are checked when they are read
            raise BadInput(f"bar {int(np.argmin(sound)) + 1} is impossible: high and low must enclose open and close")
        n = len(series)
        ranges, ends = np.empty((2 * n, 2)), np.empty((2 * n, 2))
        for place, of_long, of_short in ((0, low, high), (1, high, low)):
            ranges[:n, place] = of_long
            np.negative(of_short, out=ranges[n:, place])
        for place, both in enumerate((open_, close)):
            ends[:n, place] = both
            np.negative(both, out=ends[n:, place])
        settled, rates, unrated = _settlements(series, funding)
        return cls(
            series=series,
            ranges=ranges,
            ends=ends,
            settled=settled,
            rates=rates,
            unrated=unrated,
            funded=funding is not None,
        )

    def curves(self, rate: float) -> tuple[FloatArray, FloatArray]:
        """`curve` and `paid`, (2n) each: closes less the funding a unit has paid so far, and that funding.

        The memory of the curve goes on for the lanes of vectors that look beyond its end.
        """
        if rate not in self._curves:
            self._curves.clear()  # grids seldom vary the rate, and then one after the other
            of_long = np.cumsum(self.series.open * (self.rates + rate * self.unrated))
            paid = np.concatenate((of_long, -of_long))
            curve = np.zeros(len(paid) + LANES)[: len(paid)]
            self._curves[rate] = np.subtract(self.ends[:, 1], paid, out=curve), paid
        return self._curves[rate]


def _settlements(
    series: CandleSeries, funding: Mapping[int, Decimal] | None
) -> tuple[IntArray, FloatArray, IntArray]:
    """Settlements of each bar: how many, the sum of the known rates, how many are not known."""
    stamp, length = series.timestamp, series.interval // timedelta(milliseconds=1)
    first = -(-stamp // EIGHT_HOURS) * EIGHT_HOURS
    settled = np.maximum(-(-(stamp + length - first) // EIGHT_HOURS), 0)
    if funding is None:
        return settled, np.zeros(len(stamp)), settled
    rates, unrated = np.zeros(len(stamp)), np.zeros(len(stamp), np.int64)
    for row in np.flatnonzero(settled).tolist():
        for place in range(int(settled[row])):
            rate = funding.get(int(first[row]) + place * EIGHT_HOURS)
            if rate is None:
                unrated[row] += 1
            else:
                rates[row] += float(rate)
    return settled, rates, unrated


def packed(state: BoolArray) -> Bits:
    """A bool per bar as bits, 64 bars a word, the first bar lowest."""
    words = -(-len(state) // 64)
    content = np.zeros(words * 8, np.uint8)
    content[: -(-len(state) // 8)] = np.packbits(state, bitorder="little")
    return content.view("<u8")


def rules_of(values: Mapping[str, Any]) -> FloatArray:
    """The kernel's rules from the names of the specification."""
    known = dict(values) | dict(zip(("tick", "tick_num", "tick_den"), steps_of("tick_size", values), strict=True))
    return np.array([known[name] for name in RULES], np.float64)


def terms_of(values: Mapping[str, Any]) -> FloatArray:
    """The kernel's terms from the names of the specification."""
    known = dict(values) | dict(zip(("step", "step_num", "step_den"), steps_of("qty_step", values), strict=True))
    return np.array([known[name] for name in TERMS], np.float64)


def steps_of(name: str, values: Mapping[str, Any]) -> tuple[float, float, float]:
    """A step as a float64 and as an exact fraction; `BadInput` for one that is too fine to be exact."""
    step = float(values[name])
    _, digits, exponent = Decimal(repr(step)).normalize().as_tuple()
    numerator = int("".join(map(str, digits)))
    if not isinstance(exponent, int) or exponent < -_FINEST or numerator >= _LARGEST or exponent > _FINEST:
        raise BadInput(f"{name} {step!r} is too fine or too coarse to be reckoned with exactly")
    if exponent >= 0:
        return step, float(numerator * 10**exponent), 1.0
    return step, float(numerator), float(10**-exponent)
