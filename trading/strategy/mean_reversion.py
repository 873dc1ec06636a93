"""Mean reversion in ranges: in when the price comes back inside the bands, out at their middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from trading.indicators import Indicators, shifted
from trading.model import BoolArray, FloatArray
from trading.parameters import Parameters, param
from trading.strategy import Piece, Rules

# The tolerance absorbs the last digits of a running mean: closes lie on ticks, and so does many a mean of them.
_NEARLY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanReversionParameters(Parameters):
    """Periods in bars, thresholds in the indicator's own units, stops in ATR."""

    bb_period: int = param(20, "Bollinger period, bars", least=2)
    bb_std: float = param(2.0, "Bollinger width in population deviations")
    adx_period: int = param(14, "ADX period, bars", least=2)
    adx_max: float = param(20.0, "both sides need ADX below it: a range, not a trend")
    atr_period: int = param(14, "ATR period, bars", least=2)
    sl_atr_multiplier: float = param(2.0, "stop distance R in ATR", above=0.0)
    knife_lookback: int = param(3, "anti-knife: bars of the move", least=1)
    knife_atr: float = param(3.0, "anti-knife: size of the move in ATR")


@dataclass(frozen=True, slots=True)
class MeanReversion:
    """Enters when a close comes back inside the bands while there is no trend; leaves at the middle band.

    `base_rate` is the share of its trades that ended with a profit and `horizon_bars` how long they were held on
    average, for the council: over 4,969 trades of the defaults on recorded candles (1 m to 4 h). Most of these
    series lost money all the same: a loss is larger than a profit.
    """

    name: ClassVar[str] = "mean_reversion"
    parameters: ClassVar[type[Parameters]] = MeanReversionParameters
    base_rate: ClassVar[float] = 0.53
    horizon_bars: ClassVar[int] = 6
    p: MeanReversionParameters

    @property
    def longest_period(self) -> int:
        """The longest of the look-backs, bars; Wilder's n forgets like an exponential mean of 2n."""
        p = self.p
        return max(2 * max(p.adx_period, p.atr_period), p.bb_period, p.knife_lookback)

    def rules(self) -> Rules:
        """Back inside the bands on a bar without a trend that can be measured."""
        p = self.p
        bands = (p.bb_period, p.bb_std)
        both = (
            Piece(("ranging", p.adx_period, p.adx_max), lambda at: at.adx(p.adx_period) < p.adx_max),
            Piece(("measured", p.atr_period, *bands), self._measured),
        )
        knife = (p.atr_period, *bands, p.knife_lookback, p.knife_atr)
        return Rules(
            long=(Piece(("back from below", *bands), self._back_from_below), *both),
            short=(Piece(("back from above", *bands), self._back_from_above), *both),
            stop_distance=Piece(
                ("atr", p.atr_period, p.sl_atr_multiplier), lambda at: p.sl_atr_multiplier * at.atr(p.atr_period)
            ),
            exit_long=Piece(("at or above middle", p.bb_period), self._at_or_above_middle),
            exit_short=Piece(("at or below middle", p.bb_period), self._at_or_below_middle),
            hazard_long=Piece(("waterfall", *knife), self._waterfall),
            hazard_short=Piece(("parabolic", *knife), self._parabolic),
            calm=Piece(("calm", *bands), self._calm),
        )

    def _back_from_below(self, at: Indicators) -> BoolArray:
        band = self._band(at)
        result: BoolArray = (shifted(band, 1) < 0) & (band >= 0)
        return result

    def _back_from_above(self, at: Indicators) -> BoolArray:
        band = self._band(at)
        result: BoolArray = (shifted(band, 1) > 1) & (band <= 1)
        return result

    def _measured(self, at: Indicators) -> BoolArray:
        result: BoolArray = ~np.isnan(at.atr(self.p.atr_period) + self._band(at))
        return result

    def _at_or_above_middle(self, at: Indicators) -> BoolArray:
        result: BoolArray = at.candles.close >= at.mean(self.p.bb_period) * (1 - _NEARLY)
        return result

    def _at_or_below_middle(self, at: Indicators) -> BoolArray:
        result: BoolArray = at.candles.close <= at.mean(self.p.bb_period) * (1 + _NEARLY)
        return result

    def _waterfall(self, at: Indicators) -> BoolArray:
        result: BoolArray = (self._band(at) < 0) & (self._fall(at) >= self._move(at))
        return result

    def _parabolic(self, at: Indicators) -> BoolArray:
        result: BoolArray = (self._band(at) > 1) & (-self._fall(at) >= self._move(at))
        return result

    def _calm(self, at: Indicators) -> BoolArray:
        band = self._band(at)
        result: BoolArray = (band >= 0) & (band <= 1)
        return result

    def _band(self, at: Indicators) -> FloatArray:
        return at.band(self.p.bb_period, self.p.bb_std)

    def _fall(self, at: Indicators) -> FloatArray:
        close = at.candles.close
        result: FloatArray = shifted(close, self.p.knife_lookback) - close
        return result

    def _move(self, at: Indicators) -> FloatArray:
        result: FloatArray = self.p.knife_atr * at.atr(self.p.atr_period)
        return result


STRATEGY = MeanReversion
