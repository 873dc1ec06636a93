"""Trend following on the EMA with RSI, ADX and volume as filters, exactly as the specification says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading.indicators import Indicators, shifted
from trading.model import BoolArray, FloatArray
from trading.parameters import Parameters, param
from trading.strategy import Piece, Rules


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
        return max(p.ema_period, wilder, p.bb_period, p.volume_ma_period, p.knife_lookback)

    def rules(self) -> Rules:
        """Trend, momentum, strength and volume agree on a bar that can be measured."""
        p = self.p
        both = (
            Piece(("strong", p.adx_period, p.adx_min), self._strong),
            Piece(("busy", p.volume_ma_period), self._busy),
            Piece(("measured", p.atr_period, p.bb_period, p.bb_std), self._measured),
        )
        knife = (p.atr_period, p.bb_period, p.bb_std, p.knife_lookback, p.knife_atr)
        return Rules(
            long=(
                Piece(("rising above", p.ema_period), self._rising_above),
                Piece(("rsi below", p.rsi_period, p.rsi_long_max), lambda at: at.rsi(p.rsi_period) < p.rsi_long_max),
                *both,
            ),
            short=(
                Piece(("falling below", p.ema_period), self._falling_below),
                Piece(("rsi above", p.rsi_period, p.rsi_short_min), lambda at: at.rsi(p.rsi_period) > p.rsi_short_min),
                *both,
            ),
            stop_distance=Piece(
                ("atr", p.atr_period, p.sl_atr_multiplier), lambda at: p.sl_atr_multiplier * at.atr(p.atr_period)
            ),
            exit_long=Piece(("below ema", p.ema_period), lambda at: at.candles.close < at.ema(p.ema_period)),
            exit_short=Piece(("above ema", p.ema_period), lambda at: at.candles.close > at.ema(p.ema_period)),
            hazard_long=Piece(("waterfall", *knife), self._waterfall),
            hazard_short=Piece(("parabolic", *knife), self._parabolic),
            calm=Piece(("calm", p.bb_period, p.bb_std), self._calm),
        )

    def _rising_above(self, at: Indicators) -> BoolArray:
        ema, close = at.ema(self.p.ema_period), at.candles.close
        result: BoolArray = (close > ema) & (ema > shifted(ema, 1))
        return result

    def _falling_below(self, at: Indicators) -> BoolArray:
        ema, close = at.ema(self.p.ema_period), at.candles.close
        result: BoolArray = (close < ema) & (ema < shifted(ema, 1))
        return result

    def _strong(self, at: Indicators) -> BoolArray:
        result: BoolArray = at.adx(self.p.adx_period) >= self.p.adx_min
        return result

    def _busy(self, at: Indicators) -> BoolArray:
        # The tolerance absorbs the last digits of a running mean over equal volumes.
        mean = at.mean_volume(self.p.volume_ma_period)
        result: BoolArray = at.candles.volume >= mean * (1 - 1e-9) - 1e-9
        return result

    def _measured(self, at: Indicators) -> BoolArray:
        result: BoolArray = ~np.isnan(at.atr(self.p.atr_period) + at.band(self.p.bb_period, self.p.bb_std))
        return result

    def _waterfall(self, at: Indicators) -> BoolArray:
        result: BoolArray = (at.band(self.p.bb_period, self.p.bb_std) < 0) & (self._fall(at) >= self._move(at))
        return result

    def _parabolic(self, at: Indicators) -> BoolArray:
        result: BoolArray = (at.band(self.p.bb_period, self.p.bb_std) > 1) & (-self._fall(at) >= self._move(at))
        return result

    def _calm(self, at: Indicators) -> BoolArray:
        band = at.band(self.p.bb_period, self.p.bb_std)
        result: BoolArray = (band >= 0) & (band <= 1)
        return result

    def _fall(self, at: Indicators) -> FloatArray:
        close = at.candles.close
        result: FloatArray = shifted(close, self.p.knife_lookback) - close
        return result

    def _move(self, at: Indicators) -> FloatArray:
        result: FloatArray = self.p.knife_atr * at.atr(self.p.atr_period)
        return result


STRATEGY = EmaTrend
