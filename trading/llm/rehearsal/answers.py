"""Three agents of the server's own opinion: answers reasoned from the facts in the prompt.

The two voters add up how far each fact leans, up or down, smoothly and without thresholds of the twins; the sum is
the vote, the heaviest leanings are the evidence, the heaviest one on the other side is the case against. Every term
is odd in its fact, so that a market upside down turns the vote around. The Risk Manager spends a budget of one: each
concern costs a part of it, what is left is the size. A fact that is not known says nothing.

An answer here is a plain mapping in the order of the published schema; it is valid and grounded for any packet.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Facts = Mapping[str, Any]
Answer = dict[str, Any]

QUANT_LEANS: Final = 0.55  # a smaller sum is no vote: about one candidate in five
CHART_LEANS: Final = 0.5
P_PER_POINT: Final = 0.03
SMALLEST: Final = 0.25  # a size below it is not worth the trade
USUAL_RATE: Final = 0.25  # where the packet names no base rate


@dataclass(frozen=True, slots=True)
class Lean:
    """How far one fact leans: `pull` above zero is up."""

    key: str
    pull: float
    says: str


def answer_for(agent: str, facts: Facts) -> Answer:
    """A sound answer of `quant`, `strategist` or `risk_manager` to the facts of a packet."""
    return _AGENTS[agent](facts)


def number(facts: Facts, key: str) -> float | None:
    """A fact as a number, None where it is missing or something else."""
    value = facts.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def sign(facts: Facts) -> int:
    """1 when the proposal is long, -1 when it is short."""
    return -1 if str(facts.get("side")).lower() == "short" else 1


def _rate(facts: Facts) -> float:
    rate = number(facts, "base_rate")
    return USUAL_RATE if rate is None else rate


def p_win(rate: float, points: float) -> float:
    """The base rate moved by what speaks for the trade, at most fifteen points and within 2 % and 98 %."""
    moved = rate + min(max(P_PER_POINT * points, -0.15), 0.15)
    return round(min(max(moved, 0.02), 0.98), 3)


# Quant


def quant(facts: Facts) -> Answer:
    """Indicators: momentum, less what is overdone."""
    leans = list(_indicators(facts))
    total = _sum(leans) * _conviction(facts)
    return {
        "evidence": _evidence(facts, leans, total),
        "against": _against(facts, leans, total),
        "signal": _word(total, QUANT_LEANS, "LONG", "SHORT", "NEUTRAL"),
        "p_win": p_win(_rate(facts), sign(facts) * total),
    }


def _conviction(facts: Facts) -> float:
    """Without a trend, little that leans on one is worth much: 0.7 to 1.1."""
    adx = number(facts, "adx")
    return 1.0 if adx is None else 0.7 + 0.4 * min(adx / 35.0, 1.0)


def _odd(value: float, slope: float, limit: float, penalty: float) -> float:
    """Odd in `value`: follows it smoothly, and turns against it beyond `limit`."""
    beyond = max(0.0, abs(value) - limit)
    return math.tanh(value / slope) - math.copysign(penalty * beyond / limit, value)


# key, weight, slope, from where on it is overdone, how hard it then turns, the middle, what it says
_INDICATORS: Final = (
    ("ema_divergence_atr", 0.8, 0.6, 2.0, 1.5, 0.0, "the fast average stands {0:+.2f} ATR from the slow one"),
    ("ema_divergence_slope", 0.5, 0.25, 0.8, 1.0, 0.0, "that distance changed by {0:+.2f} ATR in three bars"),
    ("trend_distance_atr", 0.6, 3.0, 5.5, 3.0, 0.0, "price stands {0:+.1f} ATR from the trend average"),
    ("rsi", 0.4, 10.0, 17.0, 3.0, 50.0, "RSI is {0:+.0f} points from its middle"),
    ("rsi_slope", 0.2, 8.0, 25.0, 1.0, 0.0, "RSI moved {0:+.0f} points in three bars"),
    ("percent_b", 0.3, 0.6, 0.5, 4.0, 0.5, "the close is {0:+.2f} band widths from the middle band"),
    ("return_1_atr", -0.35, 1.2, 9.0, 0.0, 0.0, "the last bar alone went {0:+.1f} ATR"),
    ("return_3_atr", 0.25, 2.0, 4.0, 2.0, 0.0, "three bars went {0:+.1f} ATR"),
    ("return_12_atr", 0.4, 3.0, 4.5, 4.0, 0.0, "twelve bars went {0:+.1f} ATR"),
)


def _indicators(facts: Facts) -> Iterator[Lean]:
    for key, weight, slope, limit, penalty, middle, words in _INDICATORS:
        value = number(facts, key)
        if value is not None:
            away = round(value - middle, 6)
            follows = _odd(away, slope, limit, penalty)
            overdone = ": overdone" if follows * away < 0 else ""
            yield Lean(key, weight * follows, words.format(away) + overdone)
    turn = {"BULLISH": 1.0, "BEARISH": -1.0}.get(str(facts.get("rsi_divergence")))
    if turn is not None:
        yield Lean("rsi_divergence", 0.9 * turn, f"RSI did not follow price: a {'rise' if turn > 0 else 'fall'} is due")


# Strategist

_PATTERNS: Final = {
    "hammer": 0.6,
    "shooting_star": -0.6,
    "bullish_marubozu": 0.5,
    "bearish_marubozu": -0.5,
    "bullish_engulfing": 0.7,
    "bearish_engulfing": -0.7,
    "bullish_pin_bar": 0.6,
    "bearish_pin_bar": -0.6,
    "bullish_sweep": 0.9,
    "bearish_sweep": -0.9,
}
_REJECTIONS: Final = {
    1: ("shooting_star", "bearish_pin_bar", "bearish_sweep"),
    -1: ("hammer", "bullish_pin_bar", "bullish_sweep"),
}
_STRUCTURES: Final = ("HH_HL", "LH_LL", "RANGE", "UNCLEAR")
_SWINGS: Final = {"HH": 1.0, "HL": 1.0, "LH": -1.0, "LL": -1.0}


def strategist(facts: Facts) -> Answer:
    """The chart: order of the swings, higher timeframe, room, candles."""
    leans = [*_order(facts), *_levels(facts), *_candles(facts), *_patterns(facts)]
    total = _sum(leans)
    return {
        "evidence": _evidence(facts, leans, total),
        "structure": facts["structure"] if facts.get("structure") in _STRUCTURES else "UNCLEAR",
        "trap_suspected": _trap(facts),
        "against": _against(facts, leans, total),
        "bias": _word(total, CHART_LEANS, "BULLISH", "BEARISH", "CHOPPY"),
        "p_win": p_win(_rate(facts), sign(facts) * total),
    }


def _order(facts: Facts) -> Iterator[Lean]:
    swings = {"HH_HL": (0.7, "rise"), "LH_LL": (-0.7, "fall")}.get(str(facts.get("structure")))
    if swings:
        yield Lean("structure", swings[0], f"highs and lows {swings[1]}")
    higher = {"BULLISH": (0.8, "up"), "BEARISH": (-0.8, "down")}.get(str(facts.get("higher_timeframe_bias")))
    if higher:
        yield Lean("higher_timeframe_bias", higher[0], f"the higher timeframe points {higher[1]}")
    for age, weight in enumerate((0.3, 0.2, 0.1, 0.1)):
        name = str(facts.get(f"swing_{age}"))
        if name in _SWINGS:
            yield Lean(f"swing_{age}", weight * _SWINGS[name], f"swing {age} is {name}")


def _levels(facts: Facts) -> Iterator[Lean]:
    for key, pull in (("support_atr", 0.9), ("resistance_atr", -0.9)):
        away = number(facts, key)
        if away is not None:
            text = f"{key.removesuffix('_atr')} is {away:.1f} ATR away"
            yield Lean(key, pull * math.exp(-abs(away) / 1.2), text)


def _candles(facts: Facts) -> Iterator[Lean]:
    for age, weight in enumerate((0.4, 0.25, 0.15)):
        key = f"candle_{age}_body_ratio"
        body = number(facts, key)
        if body is not None:
            yield Lean(key, weight * body, f"the body of candle {age} is {body:+.2f} of its range")
    for key, pull in (("candle_0_lower_wick_ratio", 0.5), ("candle_0_upper_wick_ratio", -0.5)):
        wick = number(facts, key)
        if wick is not None:
            yield Lean(key, pull * wick, f"{wick:.2f} of the last candle was refused there")
    start = number(facts, "candle_4_open_atr")
    if start is not None:
        text = f"five candles ago the open was {start:+.1f} ATR from here"
        yield Lean("candle_4_open_atr", 0.4 * _odd(-start, 2.0, 2.5, 3.0), text)


def _patterns(facts: Facts) -> Iterator[Lean]:
    for name, weight in _PATTERNS.items():
        age = number(facts, f"{name}_bars_ago")
        if age is not None:
            when = {0: "on the last bar", 1: "one bar ago"}.get(int(age), f"{age:.0f} bars ago")
            fresh = max(0.0, 1.0 - age / 4.0)
            yield Lean(f"{name}_bars_ago", weight * fresh, f"{name.replace('_', ' ')} {when}")


def _trap(facts: Facts) -> bool:
    """A fresh rejection against the proposed side: as a pattern, or half of the last candle refused."""
    ages = [number(facts, f"{name}_bars_ago") for name in _REJECTIONS[sign(facts)]]
    refused = number(facts, "candle_0_upper_wick_ratio" if sign(facts) > 0 else "candle_0_lower_wick_ratio")
    return any(age is not None and age <= 1 for age in ages) or (refused is not None and refused >= 0.5)


# Risk Manager


@dataclass(frozen=True, slots=True)
class Concern:
    """What costs size: `cost` is the part of the whole that it takes."""

    cost: float
    says: str
    hazard: str = ""


def risk_manager(facts: Facts) -> Answer:
    """A budget of one, less the cost of each concern."""
    concerns = sorted([*_votes(facts), *_market(facts), *_account(facts)], key=lambda one: -one.cost)
    spent = math.fsum(one.cost for one in concerns)
    left = math.floor(round(20 * (1.0 - spent), 6)) / 20
    size = left if left >= SMALLEST else 0.0
    return {
        "conflicts": list(_conflicts(facts))[:5],
        "hazards": list(dict.fromkeys(one.hazard for one in concerns if one.hazard))[:6],
        "rationale": _rationale(concerns, size),
        "decision": "APPROVED" if size else "REJECTED",
        "size_multiplier": size,
        "p_win": p_win(_joint(facts), -spent),
    }


def _joint(facts: Facts) -> float:
    stated = [number(facts, "quant_p_win"), number(facts, "strategist_p_win")]
    known = [one for one in stated if one is not None]
    return math.fsum(known) / len(known) if known else _rate(facts)


def _stands(facts: Facts) -> tuple[int, int]:
    """Each vote from the proposed side: 1 for it, -1 against, 0 neither."""
    words = {"LONG": 1, "SHORT": -1, "BULLISH": 1, "BEARISH": -1}
    votes = (words.get(str(facts.get(key)), 0) for key in ("quant_signal", "strategist_bias"))
    first, second = (sign(facts) * vote for vote in votes)
    return first, second


def _votes(facts: Facts) -> Iterator[Concern]:
    stands = _stands(facts)
    for name, stand in zip(("Quant", "Strategist"), stands, strict=True):
        if facts.get(f"{name.lower()}_status", "OK") != "OK":
            yield Concern(0.5, f"the {name} gave no answer", "OTHER")
        elif stand < 0:
            yield Concern(1.0, f"the {name} argues for the other side")
        elif stand == 0:
            yield Concern(0.2, f"the {name} takes no side")
    if stands == (0, 0):
        yield Concern(0.6, "nobody argues for the trade")
    if facts.get("trap_suspected") is True:
        yield Concern(0.25, "the move may be a trap")
    macro = {"AGAINST": 0.7, "CHOPPY": 0.15}.get(str(facts.get("macro_trend")))
    if macro is not None:
        yield Concern(macro, f"the higher timeframe is {str(facts['macro_trend']).lower()}")


def _market(facts: Facts) -> Iterator[Concern]:
    for flag, blocked in (("waterfall", 1), ("parabolic", -1)):
        if facts.get(flag) is True:
            yield Concern(1.0 if sign(facts) == blocked else 0.3, f"a {flag} move is running", flag.upper())
    regime = {"EXTREME": 0.35, "ELEVATED": 0.1}.get(str(facts.get("volatility_regime")))
    if regime is not None:
        hazard = "OTHER" if regime > 0.2 else ""
        yield Concern(regime, f"volatility is {str(facts['volatility_regime']).lower()}", hazard)
    yield from _costs(facts)
    if (number(facts, "data_age_bars") or 0.0) > 0.5:
        yield Concern(1.0, "the data is old", "STALE_DATA")


def _costs(facts: Facts) -> Iterator[Concern]:
    """Getting in and out, against the stop; a stop that is not known cannot be paid for."""
    stop, spread, slip = (number(facts, key) for key in ("stop_atr", "spread_atr", "slippage_atr"))
    share = ((spread or 0.0) + (slip or 0.0)) / stop if stop else 1.0
    if share > 0.08:
        text = f"getting in and out costs {share:.0%} of the stop"
        yield Concern(1.0 if share > 0.3 else 0.35, text, "THIN_LIQUIDITY")


# key, at least (or at most, below zero), cost, what it says, hazard
_LIMITS: Final = (
    ("drawdown_percent", 20.0, 1.0, "{0:.1f} % below the peak of the account", "DRAWDOWN"),
    ("drawdown_percent", 8.0, 0.35, "a drawdown of {0:.1f} %", "DRAWDOWN"),
    ("day_r", -2.0, 0.3, "{0:+.1f}R today", "DRAWDOWN"),
    ("week_r", -4.0, 0.3, "{0:+.1f}R this week", "DRAWDOWN"),
    ("losing_streak", 3.0, 0.2, "{0:.0f} losses in a row", "DRAWDOWN"),
    ("open_risk_percent", 2.5, 0.4, "{0:.1f} % of equity at risk already", "OTHER"),
    ("funding_bp", 8.0, 0.2, "{0:.1f} basis points of funding to pay", "OTHER"),
)


def _account(facts: Facts) -> Iterator[Concern]:
    seen: set[str] = set()
    for key, limit, cost, words, hazard in _LIMITS:
        value = number(facts, key)
        if value is not None and key not in seen and math.copysign(1.0, limit) * value >= abs(limit):
            seen.add(key)
            yield Concern(cost, words.format(value), hazard)


def _conflicts(facts: Facts) -> Iterator[str]:
    first, second = _stands(facts)
    if first * second < 0:
        yield f"the Quant says {facts['quant_signal']}, the Strategist {facts['strategist_bias']}"
    if facts.get("macro_trend") == "AGAINST" and max(first, second) > 0:
        yield "a vote for the trade goes against the higher timeframe"
    gap = [number(facts, key) for key in ("quant_p_win", "strategist_p_win")]
    if gap[0] is not None and gap[1] is not None and abs(gap[0] - gap[1]) > 0.1:
        yield f"their chances differ: {gap[0]:.2f} and {gap[1]:.2f}"


def _rationale(concerns: list[Concern], size: float) -> str:
    causes = "; ".join(one.says for one in concerns[:4]) or "nothing in votes, market or account speaks against it"
    return f"{'Rejected' if size == 0 else f'{size:.0%} of the base size'}: {causes}."


# Shared


def _sum(leans: Iterable[Lean]) -> float:
    """Exact and rounded, so that the mirror image has the same sum to the digit."""
    return round(math.fsum(lean.pull for lean in leans), 6) + 0.0


def _word(total: float, needed: float, up: str, down: str, neither: str) -> str:
    if abs(total) < needed:
        return neither
    return up if total > 0 else down


def _evidence(facts: Facts, leans: list[Lean], total: float) -> list[Answer]:
    """Up to four facts that carried the vote, the heaviest first; the side when nothing is known at all."""
    way = 1.0 if total >= 0 else -1.0
    carried = sorted((lean for lean in leans if lean.pull * way > 0), key=lambda lean: -abs(lean.pull))
    cited = carried or [Lean("side", 0.0, "nothing else is known")]
    return [{"key": lean.key, "value": facts.get(lean.key), "reading": lean.says} for lean in cited[:4]]


def _against(facts: Facts, leans: list[Lean], total: float) -> str:
    way = 1.0 if total >= 0 else -1.0
    opposed = [lean for lean in leans if lean.pull * way < 0]
    if opposed:
        return f"{max(opposed, key=lambda lean: abs(lean.pull)).says}, which leans the other way"
    return f"nothing leans the other way, and still only {_rate(facts):.0%} of such trades win"


_AGENTS: Final = {"quant": quant, "strategist": strategist, "risk_manager": risk_manager}
