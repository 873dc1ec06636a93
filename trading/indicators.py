"""Indicators by TA-Lib, the one implementation used in research and live alike.

All arrays are float64, one entry per bar, NaN where the indicator is not defined yet.
"""

from __future__ import annotations

import numpy as np
import talib

from trading.model import FloatArray


def ema(values: FloatArray, period: int) -> FloatArray:
    """Exponential moving average, seeded with the simple mean of its first `period` values."""
    result: FloatArray = talib.EMA(values, period)
    return result


def sma(values: FloatArray, period: int) -> FloatArray:
    """Simple moving average."""
    result: FloatArray = talib.SMA(values, period)
    return result


def rsi(close: FloatArray, period: int) -> FloatArray:
    """Relative strength index, Wilder's smoothing, 0..100."""
    result: FloatArray = talib.RSI(close, period)
    return result


def atr(high: FloatArray, low: FloatArray, close: FloatArray, period: int) -> FloatArray:
    """Average true range, Wilder's smoothing, in price."""
    result: FloatArray = talib.ATR(high, low, close, period)
    return result


def adx(high: FloatArray, low: FloatArray, close: FloatArray, period: int) -> FloatArray:
    """Average directional movement index, Wilder's smoothing, 0..100."""
    result: FloatArray = talib.ADX(high, low, close, period)
    return result


def bollinger(close: FloatArray, period: int, width: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Upper, middle and lower band: the simple mean and `width` population deviations."""
    upper, middle, lower = talib.BBANDS(close, period, width, width)
    return upper, middle, lower


def percent_b(close: FloatArray, upper: FloatArray, lower: FloatArray) -> FloatArray:
    """Where the close lies in the bands: 0 at the lower, 1 at the upper, 0.5 where they have no width."""
    span = upper - lower
    result: FloatArray = np.full_like(close, 0.5)
    np.divide(close - lower, span, out=result, where=span != 0.0)
    return result
