"""Indicators by TA-Lib, the one implementation used in research and live alike.

All arrays are float64, one entry per bar, NaN where the indicator is not defined yet.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import talib

from trading.model import CandleSeries, FloatArray


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


class Indicators:
    """Indicators over one series of bars; the newest ones asked for are remembered, so that pieces share them."""

    def __init__(self, candles: CandleSeries, keep: int = 16) -> None:
        self.candles = candles
        self._keep = keep
        self._known: dict[tuple[object, ...], FloatArray] = {}

    def ema(self, period: int) -> FloatArray:
        """EMA of the close."""
        return self._remembered(("ema", period), lambda: ema(self.candles.close, period))

    def rsi(self, period: int) -> FloatArray:
        """RSI of the close."""
        return self._remembered(("rsi", period), lambda: rsi(self.candles.close, period))

    def adx(self, period: int) -> FloatArray:
        """ADX of the bars."""
        bars = self.candles
        return self._remembered(("adx", period), lambda: adx(bars.high, bars.low, bars.close, period))

    def atr(self, period: int) -> FloatArray:
        """ATR of the bars, in price."""
        bars = self.candles
        return self._remembered(("atr", period), lambda: atr(bars.high, bars.low, bars.close, period))

    def mean(self, period: int) -> FloatArray:
        """Simple mean of the close: the middle of the Bollinger Bands."""
        return self._remembered(("mean", period), lambda: bollinger(self.candles.close, period, 1.0)[1])

    def band(self, period: int, width: float) -> FloatArray:
        """%B of the close."""
        close = self.candles.close

        def make() -> FloatArray:
            upper, _, lower = bollinger(close, period, width)
            return percent_b(close, upper, lower)

        return self._remembered(("band", period, width), make)

    def mean_volume(self, period: int) -> FloatArray:
        """Simple mean of the volume."""
        return self._remembered(("volume", period), lambda: sma(self.candles.volume, period))

    def _remembered(self, key: tuple[object, ...], make: Callable[[], FloatArray]) -> FloatArray:
        values = self._known.pop(key, None)
        if values is None:
            values = make()
            while len(self._known) >= self._keep:
                del self._known[next(iter(self._known))]
        self._known[key] = values  # the newest stands last
        return values


def shifted(values: FloatArray, bars: int) -> FloatArray:
    """The value `bars` earlier; NaN where there is none."""
    result: FloatArray = np.full_like(values, np.nan)
    result[bars:] = values[: len(values) - bars] if bars < len(values) else []
    return result
