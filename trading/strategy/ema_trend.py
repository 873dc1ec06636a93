"""Trend following on the EMA with RSI, ADX and volume as filters, exactly as the specification says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading import indicators
from trading.model import BoolArray, CandleSeries, FloatArray
from trading.parameters import Parameters, param
from trading.strategy import Signals


@dataclass(frozen=True, slots=True, kw_only=True)
class EmaTrendParameters(Parameters):
    """Periods in bars, thresholds in the indicator's own units, stops in ATR."""

    ema_period: int = param(200, "trend filter, bars", least=2)
    rsi_period: int = param(14, "RSI period, bars", least=2)
    rsi_long_max: float = param(75.0, "a long needs RSI below it")
    rsi_short_min: float = param(25.0, "a short needs RSI above it")
    adx_period: int = param(14, "ADX period, bars", least=2)
    adx_min: float = param(20.0, "both sides need ADX at or above it")
    atr_period: int = param(14, "ATR period, bars", least=2)
    sl_atr_multiplier: float = param(4.0, "stop distance R in ATR", above=0.0)
    bb_period: int = param(20, "Bollinger period, bars", least=2)
    bb_std: float = param(2.0, "Bollinger width in population deviations")
    volume_ma_period: int = param(20, "volume mean period, bars", least=2)
    knife_lookback: int = param(3, "anti-knife: bars of the move", least=1)
    knife_atr: float = param(3.0, "anti-knife: size of the move in ATR")


@dataclass(frozen=True, slots=True)
class EmaTrend:
    """Enters when price, trend, momentum, strength and volume come to agree; leaves beyond the EMA."""

    name: ClassVar[str] = "ema_trend"
    parameters: ClassVar[type[Parameters]] = EmaTrendParameters
    p: EmaTrendParameters

    @property
    def longest_period(self) -> int:
        """The longest of the indicator periods, bars; Wilder's n forgets like an exponential mean of 2n."""
        p = self.p
        wilder = 2 * max(p.rsi_period, p.adx_period, p.atr_period)
        return max(p.ema_period, wilder, p.bb_period, p.volume_ma_period)

    def evaluate(self, candles: CandleSeries) -> Signals:
        """Signals for every bar of the series."""
        p, close = self.p, candles.close
        ema = indicators.ema(close, p.ema_period)
        atr = indicators.atr(candles.high, candles.low, close, p.atr_period)
        upper, _, lower = indicators.bollinger(close, p.bb_period, p.bb_std)
        band = indicators.percent_b(close, upper, lower)
        long_ok, short_ok = self._conditions(candles, ema, atr, band)
        move = p.knife_atr * atr
        fall = _shifted(close, p.knife_lookback) - close
        return Signals(
            side=_edges(long_ok).astype(np.int8) - _edges(short_ok).astype(np.int8),
            stop_distance=p.sl_atr_multiplier * atr,
            exit_long=close < ema,
            exit_short=close > ema,
            hazard_long=(band < 0) & (fall >= move),
            hazard_short=(band > 1) & (-fall >= move),
            calm=(band >= 0) & (band <= 1),
        )

    def _conditions(
        self, candles: CandleSeries, ema: FloatArray, atr: FloatArray, band: FloatArray
    ) -> tuple[BoolArray, BoolArray]:
        p, close = self.p, candles.close
        rsi = indicators.rsi(close, p.rsi_period)
        adx = indicators.adx(candles.high, candles.low, close, p.adx_period)
        mean_volume = indicators.sma(candles.volume, p.volume_ma_period)
        previous = _shifted(ema, 1)
        defined = ~np.isnan(previous + ema + rsi + adx + atr + band + mean_volume)
        # The tolerance absorbs the last digits of a running mean over equal volumes.
        busy = candles.volume >= mean_volume * (1 - 1e-9) - 1e-9
        strong = defined & (adx >= p.adx_min) & busy
        long_ok: BoolArray = strong & (close > ema) & (ema > previous) & (rsi < p.rsi_long_max)
        short_ok: BoolArray = strong & (close < ema) & (ema < previous) & (rsi > p.rsi_short_min)
        return long_ok, short_ok


def _shifted(values: FloatArray, bars: int) -> FloatArray:
    """The value `bars` earlier; NaN where there is none."""
    result: FloatArray = np.full_like(values, np.nan)
    result[bars:] = values[: len(values) - bars] if bars < len(values) else []
    return result


def _edges(state: BoolArray) -> BoolArray:
    """True where a state begins."""
    result = state.copy()
    result[1:] &= ~state[:-1]
    return result


STRATEGY = EmaTrend
