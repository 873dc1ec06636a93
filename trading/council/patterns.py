"""Candlestick patterns on the last five closed bars.

TA-Lib finds hammer, doji, marubozu and engulfing. Its shooting star asks for a gap, which a market that
never closes does not make, and it is no mirror image of its hammer; so a shooting star is the hammer of the
reflected candles. Its engulfing counts a bar that closed where it opened as white, so it too is asked both
ways. Pin bar and liquidity sweep are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import talib

from trading.council.structure import Pivots
from trading.model import BoolArray, CandleSeries, FloatArray, IntArray

LAST = 5
CONTEXT = 40  # bars handed to TA-Lib: its averages look back at most ten
PIN_WICK, PIN_BODY, PIN_RANGE_ATR = 0.6, 0.3, 0.8

NAMES = (
    "hammer",
    "shooting_star",
    "doji",
    "bullish_marubozu",
    "bearish_marubozu",
    "bullish_engulfing",
    "bearish_engulfing",
    "bullish_pin_bar",
    "bearish_pin_bar",
    "bullish_sweep",
    "bearish_sweep",
)


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """Open, high, low and close, float64, one entry per bar."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray

    @property
    def reflected(self) -> Bars:
        """The same bars upside down."""
        return Bars(-self.open, -self.low, -self.high, -self.close)


def patterns(window: CandleSeries, atr: float, found: Pivots, wing: int) -> dict[str, int | None]:
    """Every pattern of `NAMES`: how many bars ago it last closed (0..4), None when not on the last five."""
    bars = Bars(window.open, window.high, window.low, window.close)
    return dict(zip(NAMES, _ages(bars, atr, found, wing), strict=True))


def _ages(bars: Bars, atr: float, found: Pivots, wing: int) -> list[int | None]:
    flipped = bars.reflected
    near, near_flipped = _tail(bars, CONTEXT), _tail(bars, CONTEXT).reflected
    up, down = _engulfing(near, near_flipped)
    body = talib.CDLMARUBOZU(near.open, near.high, near.low, near.close)
    flags = (
        _hammer(near),
        _hammer(near_flipped),
        talib.CDLDOJI(near.open, near.high, near.low, near.close) != 0,
        body > 0,
        body < 0,
        up,
        down,
        _pin_bar(near, atr),
        _pin_bar(near_flipped, atr),
        sweeps(bars, found.lows, wing),
        sweeps(flipped, found.highs, wing),
    )
    return [_age(flag[-LAST:]) for flag in flags]


def _tail(bars: Bars, count: int) -> Bars:
    return Bars(bars.open[-count:], bars.high[-count:], bars.low[-count:], bars.close[-count:])


def _age(flags: BoolArray) -> int | None:
    """Bars since the last True; None when there is none."""
    rows = np.flatnonzero(flags)
    return int(len(flags) - 1 - rows[-1]) if len(rows) else None


def _hammer(bars: Bars) -> BoolArray:
    found: BoolArray = talib.CDLHAMMER(bars.open, bars.high, bars.low, bars.close) > 0
    return found


def _engulfing(bars: Bars, flipped: Bars) -> tuple[BoolArray, BoolArray]:
    """Bullish and bearish."""
    one = talib.CDLENGULFING(bars.open, bars.high, bars.low, bars.close)
    other = talib.CDLENGULFING(flipped.open, flipped.high, flipped.low, flipped.close)
    return (one > 0) | (other < 0), (one < 0) | (other > 0)


def _pin_bar(bars: Bars, atr: float) -> BoolArray:
    """A long lower wick, a small body, and a range worth looking at."""
    span = bars.high - bars.low
    wick = np.minimum(bars.open, bars.close) - bars.low
    body = np.abs(bars.close - bars.open)
    found: BoolArray = (span >= PIN_RANGE_ATR * atr) & (wick >= PIN_WICK * span) & (body <= PIN_BODY * span)
    return found


def sweeps(bars: Bars, lows: IntArray, wing: int) -> BoolArray:
    """On the last five bars: went below the last low confirmed before it, and closed back above.

    `lows` are pivot rows, each known from `wing` bars after it on. The bar before had still closed above.
    """
    total = len(bars.close)
    rows = np.arange(max(total - LAST, 1), total)
    known = np.searchsorted(lows, rows - 1 - wing, side="right") - 1
    level = np.where(known >= 0, bars.low[lows[known]], np.nan) if len(lows) else np.full(len(rows), np.nan)
    found: BoolArray = (
        (bars.low[rows] < level) & (bars.close[rows] > level) & (bars.close[rows - 1] > level)
    )
    return found
