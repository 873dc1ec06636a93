"""What the agents see: numbers and enums built by code, and nothing that names the market.

No symbol, no date, no absolute price: prices appear as distances in ATR, the account as R and fractions, so
that identical facts give the identical packet to the byte and a model cannot recall the future of a known
chart. Every number is rounded to three decimals. Facts are computed on exactly the last `WINDOW` closed
bars; where that is not enough for a fact (the start of a series) it is None, never a neutral default, and
the agent that needs it abstains.

Directional facts are signed by the market (up is positive), not by the proposal, and antisymmetric: the same
prices upside down give the same facts with the sign changed, or the opposite enum.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from trading import indicators
from trading.council import patterns as candlesticks
from trading.council import structure
from trading.council.schemas import (
    Bias,
    Facts,
    QuantAnswer,
    Reply,
    Status,
    StrategistAnswer,
    Structure,
    Vote,
)
from trading.model import CandleSeries, FloatArray, IntArray, Proposal, Side
from trading.ports import Brief

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from trading.strategy import Strategy

WINDOW = 600
DECIMALS = 3
SLOPE_BARS = 3
SWING_WING = 3
LEVEL_WING = 8
RANK_BARS = 100  # a percentile of fewer values is none
BAND_PERIOD, BAND_WIDTH = 20, 2.0


class Divergence(StrEnum):
    """Price at a new extreme that the RSI does not confirm: BEARISH at a high, BULLISH at a low."""

    BULLISH = "BULLISH"
    BEARISH = "BEARISH"
    BOTH = "BOTH"
    NONE = "NONE"


class Regime(StrEnum):
    """How volatile the market is against its own last weeks: by the percentile of ATR."""

    CALM = "CALM"
    NORMAL = "NORMAL"
    ELEVATED = "ELEVATED"
    EXTREME = "EXTREME"


class Macro(StrEnum):
    """The higher timeframe seen from the proposed side."""

    WITH = "WITH"
    AGAINST = "AGAINST"
    CHOPPY = "CHOPPY"


class EquityBand(StrEnum):
    """Equity against what the account began with."""

    BELOW_80 = "BELOW_80"
    FROM_80_TO_95 = "FROM_80_TO_95"
    FROM_95_TO_105 = "FROM_95_TO_105"
    ABOVE_105 = "ABOVE_105"


BASE_RATES: Final[Mapping[int, float]] = {1: 0.19, 5: 0.20, 15: 0.22, 30: 0.22, 60: 0.24, 240: 0.32}
"""Minutes of a bar -> the share of the default strategy's candidates that ended with a profit, costs included: 42,000
on recorded BTC and ETH, 1 m to 4 h. Costs weigh less on longer bars."""


def base_rate(interval: timedelta) -> float:
    """That of the nearest bar length that was measured, by ratio."""
    minutes = interval / timedelta(minutes=1)
    return BASE_RATES[min(BASE_RATES, key=lambda known: abs(math.log(known / minutes)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketTerms:
    """What the packet needs beside the brief; periods in bars.

    `base_rate` is the share of candidates that ended with a profit (see `BASE_RATES`), `horizon_bars` how long they
    were held on average: 46 bars over 43,000 filled candidates of the default strategy on recorded candles (1 m to
    4 h, see `tests/trading/council/candidates.py`). The knife is the default of `spec/strategy.md`.
    """

    trend_period: int = 200
    horizon_bars: int = 48
    base_rate: float = 0.22
    knife_lookback: int = 3
    knife_atr: float = 3.0

    @classmethod
    def of(cls, strategy: Strategy, values: Mapping[str, float], interval: timedelta) -> PacketTerms:
        """What is told of a strategy on bars of this length; `values` are all parameters it trades by, by name."""
        usual = cls()
        return cls(
            trend_period=int(values.get("ema_period", usual.trend_period)),
            horizon_bars=getattr(strategy, "horizon_bars", usual.horizon_bars),
            base_rate=getattr(strategy, "base_rate", base_rate(interval)),
            knife_lookback=int(values.get("knife_lookback", usual.knife_lookback)),
            knife_atr=float(values.get("knife_atr", usual.knife_atr)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalFacts:
    """The proposal: `target_r` is None when the trailing stop alone takes profit."""

    side: Side
    stop_atr: float | None
    target_r: float | None
    horizon_bars: int
    base_rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """Base of a packet: every key is always present."""

    proposal: ProposalFacts

    def facts(self) -> Facts:
        """Key to JSON value, flat, in the order of the fields; the parts of a packet are merged into it."""
        return flattened(self)

    def missing(self, keys: tuple[str, ...]) -> list[str]:
        """Those of `keys` that are not known."""
        facts = self.facts()
        return [key for key in keys if facts[key] is None]

    def json(self) -> str:
        """The packet as it goes into a prompt; the same facts are the same bytes."""
        return json.dumps(self.facts(), separators=(",", ":"), allow_nan=False)


def flattened(part: DataclassInstance) -> Facts:
    """The fields of a dataclass, those of its parts in their place."""
    flat: Facts = {}
    for spec in dataclasses.fields(part):
        value = getattr(part, spec.name)
        if isinstance(value, _PARTS):
            flat |= flattened(value)
        else:
            flat[spec.name] = value.value if isinstance(value, Enum) else value
    return flat


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantPacket(Packet):
    """Indicators, in the window's last bar.

    Slopes are changes over three bars; `band_width_percentile` and `atr_percentile` are shares (0..1) of the
    window below the last value; `relative_volume` is over its mean of 20 bars; `atr_percent` is of the close.
    """

    rsi: float | None
    rsi_slope: float | None
    rsi_divergence: Divergence | None
    percent_b: float | None
    band_width_percentile: float | None
    atr_percent: float | None
    atr_percentile: float | None
    ema_divergence_atr: float | None
    ema_divergence_slope: float | None
    trend_distance_atr: float | None
    adx: float | None
    relative_volume: float | None
    return_1_atr: float | None
    return_3_atr: float | None
    return_12_atr: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleFacts:
    """One closed candle: distances from the last close in ATR; body (signed) and wicks as shares.

    The shares are None for a bar without range.
    """

    open_atr: float | None
    high_atr: float | None
    low_atr: float | None
    close_atr: float | None
    body_ratio: float | None
    upper_wick_ratio: float | None
    lower_wick_ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategistPacket(Packet):
    """The chart. `candles` are five, the last one first; `swings` four of HH HL LH LL, the last one first.

    `patterns` says how many bars ago a pattern closed, None when it is not on the five candles. `support_atr`
    and `resistance_atr` are distances to the nearest confirmed level; None when the window has none there.
    """

    candles: tuple[CandleFacts, ...]
    patterns: dict[str, int | None]
    swings: tuple[str | None, ...]
    structure: Structure
    support_atr: float | None
    resistance_atr: float | None
    higher_timeframe_bias: Bias | None

    def facts(self) -> Facts:
        """Flat: `candle_0_close_atr` is of the last candle, `swing_0` the last swing, `hammer_bars_ago`."""
        flat = {key: value for key, value in flattened(self).items() if key not in _LISTS}
        for age, candle in enumerate(self.candles):
            flat |= {f"candle_{age}_{key}": value for key, value in flattened(candle).items()}
        flat |= {f"{name}_bars_ago": age for name, age in self.patterns.items()}
        flat |= {f"swing_{age}": name for age, name in enumerate(self.swings)}
        return flat


_LISTS = frozenset({"candles", "patterns", "swings"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFacts:
    """Both answers without their prose; None where there is no answer."""

    quant_status: Status
    quant_signal: Vote | None
    quant_p_win: float | None
    strategist_status: Status
    strategist_structure: Structure | None
    trap_suspected: bool | None
    strategist_bias: Bias | None
    strategist_p_win: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountInR:
    """The account without an amount of money: percentages are of equity, P&L is in R.

    `funding_bp` is in basis points per settlement, positive when the proposed side pays; `bars_since_loss` is
    None when there was no loss.
    """

    equity_band: EquityBand | None
    open_risk_percent: float | None
    open_positions: int
    day_r: float | None
    week_r: float | None
    drawdown_percent: float | None
    losing_streak: int
    bars_since_loss: int | None
    spread_atr: float | None
    slippage_atr: float | None
    funding_bp: float | None
    data_age_bars: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskPacket(Packet):
    """Both answers, the account and the market's hazards; `waterfall` and `parabolic` are latched."""

    answers: AnswerFacts
    account: AccountInR
    volatility_regime: Regime | None
    macro_trend: Macro | None
    waterfall: bool | None
    parabolic: bool | None


_PARTS = (ProposalFacts, AnswerFacts, AccountInR)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Market:
    """What the packets share, once per window: arrays have one entry per bar, `atr` is the last."""

    window: CandleSeries
    atr: float | None
    atrs: FloatArray
    rsi: FloatArray
    percent_b: FloatArray
    band_width: FloatArray
    pivots: structure.Pivots
    bias: Bias | None

    def in_atr(self, distance: float | None) -> float | None:
        """A price distance in ATR, rounded; None where either is not known."""
        if distance is None or self.atr is None:
            return None
        return rounded(distance / self.atr)


def rounded(value: float | None) -> float | None:
    """Three decimals, no negative zero; None for what is not a finite number."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), DECIMALS) + 0.0


def atr_of(window: CandleSeries) -> float | None:
    """ATR 14 in price at the last bar, on the fixed window; None with too few bars or no movement at all."""
    part = window.tail(WINDOW)
    values = indicators.atr(part.high, part.low, part.close, 14)
    return _last_positive(values)


def _last_positive(values: FloatArray) -> float | None:
    last = float(values[-1]) if len(values) else math.nan
    return last if math.isfinite(last) and last > 0 else None


def mismatch(brief: Brief) -> str | None:
    """Why the window does not belong to the proposal, or None: an answer must be about this very bar."""
    window, proposal = brief.window, brief.proposal
    if not len(window):
        return "there are no closed bars to judge it by"
    last = window.candle(len(window) - 1)
    if (window.symbol, last.open_time) != (proposal.symbol, proposal.signal_time):
        return "the window of bars does not end at the bar the proposal was made on"
    return None


def read_market(window: CandleSeries) -> Market:
    """All shared indicators of the last `WINDOW` bars."""
    part = window.tail(WINDOW)
    atrs = indicators.atr(part.high, part.low, part.close, 14)
    upper, _, lower = indicators.bollinger(part.close, BAND_PERIOD, BAND_WIDTH)
    return Market(
        window=part,
        atr=_last_positive(atrs),
        atrs=atrs,
        rsi=_rsi(part.close),
        percent_b=indicators.percent_b(part.close, upper, lower),
        band_width=upper - lower,
        pivots=structure.pivots(part.high, part.low, SWING_WING),
        bias=structure.higher_bias(part),
    )


def _rsi(close: FloatArray) -> FloatArray:
    """RSI 14. TA-Lib says 0 where no price moved at all, which would be a direction: unknown instead."""
    values = indicators.rsi(close, 14)
    if len(close) and np.ptp(close[-15:]) == 0.0:
        values[-1] = np.nan
    return values


def quant_packet(brief: Brief, market: Market, terms: PacketTerms) -> QuantPacket:
    """The Quant's facts."""
    close = market.window.close
    divergence = indicators.ema(close, 12) - indicators.ema(close, 26)
    return QuantPacket(
        proposal=_proposal_facts(brief.proposal, market, terms),
        rsi=rounded(_back(market.rsi, 0)),
        rsi_slope=rounded(_change(market.rsi, SLOPE_BARS)),
        rsi_divergence=rsi_divergence(market),
        percent_b=rounded(_back(market.percent_b, 0)),
        band_width_percentile=rank(market.band_width),
        atr_percent=rounded(100 * market.atr / _back(close, 0)) if market.atr else None,
        atr_percentile=rank(market.atrs),
        ema_divergence_atr=market.in_atr(_back(divergence, 0)),
        ema_divergence_slope=market.in_atr(_change(divergence, SLOPE_BARS)),
        trend_distance_atr=market.in_atr(_back(close - indicators.ema(close, terms.trend_period), 0)),
        adx=rounded(_back(indicators.adx(market.window.high, market.window.low, close, 14), 0)),
        relative_volume=_relative_volume(market.window.volume),
        return_1_atr=market.in_atr(_change(close, 1)),
        return_3_atr=market.in_atr(_change(close, 3)),
        return_12_atr=market.in_atr(_change(close, 12)),
    )


def _proposal_facts(proposal: Proposal, market: Market, terms: PacketTerms) -> ProposalFacts:
    return ProposalFacts(
        side=proposal.side,
        stop_atr=market.in_atr(abs(float(proposal.entry - proposal.stop))),
        target_r=rounded(proposal.take_profit_r) if proposal.take_profit is not None else None,
        horizon_bars=terms.horizon_bars,
        base_rate=round(terms.base_rate, DECIMALS),
    )


def _back(values: FloatArray, bars: int) -> float:
    """The value `bars` before the last one; NaN where there is none."""
    return float(values[-1 - bars]) if len(values) > bars else math.nan


def _change(values: FloatArray, bars: int) -> float:
    return _back(values, 0) - _back(values, bars)


def rank(values: FloatArray) -> float | None:
    """The share of the known values that lie below the last one; None with fewer than a hundred of them."""
    known = values[np.isfinite(values)]
    if len(known) < RANK_BARS or not math.isfinite(_back(values, 0)):
        return None
    # The tolerance keeps equal values equal when the prices are scaled.
    return rounded(float(np.mean(known < known[-1] * (1 - 1e-9))))


def _relative_volume(volume: FloatArray) -> float | None:
    mean = _back(indicators.sma(volume, 20), 0)
    return rounded(_back(volume, 0) / mean) if mean > 0 else None


def rsi_divergence(market: Market) -> Divergence | None:
    """The last new extreme of the price against the one before, and whether the RSI went along.

    A new extreme is the highest high (lowest low) of the last three bars, beyond the last confirmed pivot of
    its kind within 60 bars; the RSI must fall short of the pivot's by two points.
    """
    if not math.isfinite(_back(market.rsi, 0)):
        return None
    window, found = market.window, market.pivots
    bearish = _diverges(window.high, market.rsi, found.highs)
    bullish = _diverges(-window.low, 100.0 - market.rsi, found.lows)
    if bearish and bullish:
        return Divergence.BOTH
    return Divergence.BEARISH if bearish else Divergence.BULLISH if bullish else Divergence.NONE


def _diverges(extreme: FloatArray, strength: FloatArray, rows: IntArray) -> bool:
    """Written for highs; lows are handed in upside down."""
    recent = rows[rows >= len(extreme) - 60]
    if not len(recent):
        return False
    pivot = int(recent[-1])
    further = float(extreme[-3:].max()) > float(extreme[pivot])
    return further and float(strength[-3:].max()) < float(strength[pivot]) - 2.0


def strategist_packet(brief: Brief, market: Market, terms: PacketTerms) -> StrategistPacket:
    """The Strategist's facts."""
    window, close = market.window, _back(market.window.close, 0)
    labelled = structure.swings(window.high, window.low, market.pivots)
    last = [name for _, name in labelled[:-5:-1]]
    levels = structure.pivots(window.high, window.low, LEVEL_WING)
    return StrategistPacket(
        proposal=_proposal_facts(brief.proposal, market, terms),
        candles=tuple(_candle(market, age) for age in range(candlesticks.LAST)),
        patterns=candlesticks.patterns(window, market.atr or math.inf, market.pivots, SWING_WING),
        swings=(*last, *[None] * (4 - len(last))),
        structure=structure.structure_of(labelled),
        support_atr=market.in_atr(structure.room(-window.low[levels.lows], -close)),
        resistance_atr=market.in_atr(structure.room(window.high[levels.highs], close)),
        higher_timeframe_bias=market.bias,
    )


def _candle(market: Market, age: int) -> CandleFacts:
    window, close = market.window, _back(market.window.close, 0)
    o, h, low, c = (_back(values, age) for values in (window.open, window.high, window.low, window.close))
    span = h - low
    shares = ((c - o) / span, (h - max(o, c)) / span, (min(o, c) - low) / span) if span > 0 else (None,) * 3
    body, upper, lower = (rounded(share) for share in shares)
    return CandleFacts(
        open_atr=market.in_atr(o - close),
        high_atr=market.in_atr(h - close),
        low_atr=market.in_atr(low - close),
        close_atr=market.in_atr(c - close),
        body_ratio=body,
        upper_wick_ratio=upper,
        lower_wick_ratio=lower,
    )


def risk_packet(
    brief: Brief,
    market: Market,
    terms: PacketTerms,
    quant: Reply[QuantAnswer],
    strategist: Reply[StrategistAnswer],
) -> RiskPacket:
    """The Risk Manager's facts."""
    return RiskPacket(
        proposal=_proposal_facts(brief.proposal, market, terms),
        answers=_answer_facts(quant, strategist),
        account=_account_facts(brief, market),
        volatility_regime=regime(rank(market.atrs)),
        macro_trend=macro_trend(market.bias, brief.proposal.side),
        waterfall=latched_knife(market, Side.LONG, terms),
        parabolic=latched_knife(market, Side.SHORT, terms),
    )


def _answer_facts(quant: Reply[QuantAnswer], strategist: Reply[StrategistAnswer]) -> AnswerFacts:
    signal, chart = quant.answer, strategist.answer
    return AnswerFacts(
        quant_status=quant.status,
        quant_signal=signal.signal if signal else None,
        quant_p_win=rounded(signal.p_win) if signal else None,
        strategist_status=strategist.status,
        strategist_structure=chart.structure if chart else None,
        trap_suspected=chart.trap_suspected if chart else None,
        strategist_bias=chart.bias if chart else None,
        strategist_p_win=rounded(chart.p_win) if chart else None,
    )


def _account_facts(brief: Brief, market: Market) -> AccountInR:
    account = brief.account
    return AccountInR(
        equity_band=equity_band(float(account.equity), float(account.initial_equity)),
        open_risk_percent=rounded(100 * account.open_risk),
        open_positions=account.open_positions,
        day_r=rounded(account.day_r),
        week_r=rounded(account.week_r),
        drawdown_percent=rounded(100 * account.drawdown),
        losing_streak=account.losing_streak,
        bars_since_loss=account.bars_since_loss,
        spread_atr=market.in_atr(account.spread),
        slippage_atr=market.in_atr(account.slippage),
        funding_bp=rounded(1e4 * account.funding_rate * brief.proposal.side.sign),
        data_age_bars=rounded(account.data_age_bars),
    )


def equity_band(equity: float, initial: float) -> EquityBand | None:
    """Which band equity lies in; None when it cannot be said."""
    share = equity / initial if initial > 0 else math.nan
    if not math.isfinite(share):
        return None
    if share < 0.95:
        return EquityBand.BELOW_80 if share < 0.8 else EquityBand.FROM_80_TO_95
    return EquityBand.FROM_95_TO_105 if share <= 1.05 else EquityBand.ABOVE_105


def regime(atr_percentile: float | None) -> Regime | None:
    """The volatility regime: quarters at either end, and the last twentieth."""
    if atr_percentile is None:
        return None
    if atr_percentile >= 0.75:
        return Regime.EXTREME if atr_percentile >= 0.95 else Regime.ELEVATED
    return Regime.CALM if atr_percentile < 0.25 else Regime.NORMAL


def macro_trend(bias: Bias | None, side: Side) -> Macro | None:
    """The higher timeframe from the proposed side."""
    if bias is None or bias is Bias.CHOPPY:
        return None if bias is None else Macro.CHOPPY
    return Macro.WITH if (bias is Bias.BULLISH) == (side is Side.LONG) else Macro.AGAINST


def latched_knife(market: Market, side: Side, terms: PacketTerms) -> bool | None:
    """Whether a waterfall (against longs) or a parabolic rise (against shorts) has not calmed down yet."""
    close, bars = market.window.close, terms.knife_lookback
    if market.atr is None or len(close) <= max(bars, BAND_PERIOD):
        return None
    move = (close[:-bars] - close[bars:]) * side.sign
    band = market.percent_b[bars:]
    outside = band < 0 if side is Side.LONG else band > 1
    hazard = np.flatnonzero(outside & (move >= terms.knife_atr * market.atrs[bars:]))
    calm = np.flatnonzero((band >= 0) & (band <= 1))
    return bool(len(hazard)) and (not len(calm) or bool(hazard[-1] > calm[-1]))
