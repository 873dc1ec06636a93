"""The agents as rules: same packet, same schema, no model.

Each fact is turned into a `Reading`: points for the proposal (positive) or against it, and a sentence. The
sum of the points is the vote; the heaviest readings are the evidence; the heaviest one on the other side is
the argument against. The rules are what any trend follower is told: do not chase, do not buy into
resistance, do not trust a move that momentum has left. Thresholds come from the spread of each fact; some
rules (last bar, slope, volume, higher timeframe, shelter) were revised in two passes after looking at outcomes
on the recorded candles, which are therefore no clean test of them. No edge is claimed: over 43,000 candidates
approved and vetoed did alike (a sample of them: `make bench ARGS=council`).

A fact that a rule needs and the packet lacks makes the agent abstain. Turning the market upside down turns
every vote around, because every rule looks at the facts from the proposal's side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trading.council.packet import (
    Divergence,
    Macro,
    Packet,
    QuantPacket,
    Regime,
    RiskPacket,
    StrategistPacket,
)
from trading.council.schemas import (
    Bias,
    Decision,
    Evidence,
    Fact,
    Hazard,
    QuantAnswer,
    Reply,
    RiskManagerAnswer,
    Status,
    StrategistAnswer,
    Structure,
    Vote,
)
from trading.model import Side

POINT = 0.02  # what one point moves the probability of a win, away from the base rate
LEAN = 2  # points from which a vote is cast


@dataclass(frozen=True, slots=True)
class Reading:
    """One fact as a rule reads it: `points` above zero speak for the proposal."""

    key: str
    value: Fact
    points: int
    text: str


class _Numbers:
    """The packet's numbers, and the same seen from the proposed side (down is good for a short)."""

    def __init__(self, packet: Packet) -> None:
        self.facts = packet.facts()
        self.sign = packet.proposal.side.sign

    def plain(self, key: str) -> float:
        """The number as it stands in the packet; it has been checked to be there."""
        value = self.facts[key]
        return float(value) if isinstance(value, int | float) else float("nan")

    def towards(self, key: str) -> float:
        """The number from the proposed side."""
        return self.sign * self.plain(key)

    def reading(self, key: str, points: int, text: str) -> Reading:
        """What a rule makes of one fact."""
        return Reading(key, self.facts[key], points, text)


def _abstains(packet: Packet, needed: tuple[str, ...]) -> str:
    """Why an agent cannot judge, or an empty string."""
    missing = packet.missing(needed)
    return f"not known: {', '.join(missing)}" if missing else ""


def _net(readings: Iterable[Reading]) -> int:
    return sum(reading.points for reading in readings)


def _p_win(base_rate: float, net: int) -> float:
    """The base rate moved by the points, within 5 % and 95 %."""
    return round(min(max(base_rate + POINT * net, 0.05), 0.95), 3)


def _evidence(readings: list[Reading]) -> tuple[Evidence, ...]:
    """Up to five citations: what carried the vote, the heaviest first; if nothing did, the first facts."""
    carried = 1 if _net(readings) >= 0 else -1
    ranked = sorted(readings, key=lambda reading: -reading.points * carried)
    cited = [
        (reading.points, Evidence(key=reading.key, value=reading.value, reading=reading.text))
        for reading in ranked
        if reading.value is not None
    ]
    leading = [evidence for points, evidence in cited if points * carried > 0]
    return tuple((leading or [evidence for _, evidence in cited])[:5])


def _against(readings: list[Reading], packet: Packet) -> str:
    """The strongest case against the vote."""
    carried = 1 if _net(readings) >= 0 else -1
    heaviest = min(readings, key=lambda reading: reading.points * carried)
    if heaviest.points * carried < 0:
        return heaviest.text
    rate, stop = packet.proposal.base_rate, packet.proposal.stop_atr
    if carried < 0:
        return f"nothing here speaks for the trade, yet {rate:.0%} of all candidates do win"
    odds = f"only {rate:.0%} of all candidates win and the stop is {stop:.1f} ATR away"
    return f"nothing here speaks against it, yet {odds}"


@dataclass(frozen=True, slots=True)
class QuantTwin:
    """Indicators by rule: momentum, stretch, strength, participation."""

    def answer(self, packet: QuantPacket) -> Reply[QuantAnswer]:
        """The vote, or an abstention that names what is missing."""
        if problem := _abstains(packet, QUANT_NEEDS):
            return Reply(status=Status.ABSTAIN, problem=problem)
        readings = list(quant_readings(packet))
        net, side = _net(readings), packet.proposal.side
        answer = QuantAnswer(
            evidence=_evidence(readings),
            against=_against(readings, packet),
            signal=_signal(side, net),
            p_win=_p_win(packet.proposal.base_rate, net),
        )
        return Reply(status=Status.OK, answer=answer)


QUANT_NEEDS = (
    "stop_atr",
    "rsi",
    "rsi_divergence",
    "percent_b",
    "band_width_percentile",
    "ema_divergence_atr",
    "ema_divergence_slope",
    "trend_distance_atr",
    "adx",
    "relative_volume",
    "return_1_atr",
    "return_12_atr",
)


def _signal(side: Side, net: int) -> Vote:
    if abs(net) < LEAN:
        return Vote.NEUTRAL
    return Vote.LONG if (net > 0) == (side is Side.LONG) else Vote.SHORT


def quant_readings(packet: QuantPacket) -> Iterator[Reading]:
    """Every indicator from the proposed side."""
    numbers = _Numbers(packet)
    yield _momentum(numbers)
    yield _acceleration(numbers)
    yield _stretch(numbers)
    yield _run(numbers)
    yield _last_bar(numbers)
    yield _oscillator(numbers)
    yield _bands(numbers)
    yield _divergence(packet)
    yield _strength(numbers)
    yield _squeeze(numbers)
    yield _participation(numbers)


def _momentum(n: _Numbers) -> Reading:
    lead = n.towards("ema_divergence_atr")
    points = 1 if lead >= 0.5 else -2 if lead < -0.25 else -1 if lead < 0 else 0
    words = "with" if lead >= 0 else "against"
    text = f"the fast average stands {abs(lead):.2f} ATR {words} the trade"
    return n.reading("ema_divergence_atr", points, text)


def _acceleration(n: _Numbers) -> Reading:
    slope = n.towards("ema_divergence_slope")
    points = 1 if 0.05 <= slope <= 0.35 else -1 if slope <= -0.2 else 0
    words = "is building" if slope > 0 else "is fading"
    return n.reading("ema_divergence_slope", points, f"momentum {words} ({slope:+.2f} ATR in three bars)")


def _stretch(n: _Numbers) -> Reading:
    away = n.towards("trend_distance_atr")
    points = -2 if away >= 8 else -1 if away >= 5.5 or away < 0 else 1 if away <= 3 else 0
    words = "stretched" if away >= 5.5 else "on the wrong side" if away < 0 else "within reach"
    text = f"price is {abs(away):.1f} ATR from the trend average: {words}"
    return n.reading("trend_distance_atr", points, text)


def _run(n: _Numbers) -> Reading:
    run = n.towards("return_12_atr")
    points = -2 if run >= 6 else -1 if run >= 4.5 or run < -1 else 0
    words = f"already ran {run:.1f} ATR" if run >= 0 else f"went {-run:.1f} ATR the other way"
    return n.reading("return_12_atr", points, f"price {words} in twelve bars")


def _last_bar(n: _Numbers) -> Reading:
    last = n.towards("return_1_atr")
    points = -1 if last >= 1.25 else 1 if last <= 0.25 else 0
    words = "it is late" if points < 0 else "a pause to enter on" if points else "an ordinary bar"
    way = "with" if last >= 0 else "against"
    return n.reading("return_1_atr", points, f"the last bar went {abs(last):.2f} ATR {way} the trade: {words}")


def _oscillator(n: _Numbers) -> Reading:
    level = n.sign * (n.plain("rsi") - 50)
    points = -1 if level >= 18 or level < 0 else 1 if level <= 12 else 0
    words = "overdone" if level >= 18 else "without drive" if level < 0 else "with room left"
    return n.reading("rsi", points, f"RSI {n.plain('rsi'):.0f}: {words}")


def _bands(n: _Numbers) -> Reading:
    beyond = n.sign * (n.plain("percent_b") - 0.5)
    points = -1 if beyond >= 0.6 else 0
    words = "far outside" if beyond >= 0.6 else "just outside" if beyond > 0.5 else "not stretched in"
    return n.reading("percent_b", points, f"the close is {words} the bands (%B {n.plain('percent_b'):.2f})")


def _divergence(packet: QuantPacket) -> Reading:
    found, long = packet.rsi_divergence, packet.proposal.side is Side.LONG
    opposed = Divergence.BEARISH if long else Divergence.BULLISH
    aligned = Divergence.BULLISH if long else Divergence.BEARISH
    if found is opposed:
        return Reading("rsi_divergence", str(found), -2, "the RSI does not confirm the new extreme in price")
    points = 1 if found is aligned else 0
    words = "speaks for the turn that this trade needs" if points else "shows no warning"
    return Reading("rsi_divergence", str(found), points, f"RSI divergence {words}")


def _strength(n: _Numbers) -> Reading:
    adx = n.plain("adx")
    points = 1 if adx >= 28 else -1 if adx < 21 else 0
    words = "a strong trend" if adx >= 28 else "hardly a trend" if adx < 21 else "a middling trend"
    return n.reading("adx", points, f"ADX {adx:.0f}: {words}")


def _squeeze(n: _Numbers) -> Reading:
    width = n.plain("band_width_percentile")
    points = 1 if width <= 0.35 else -1 if width >= 0.9 else 0
    words = "from a squeeze" if width <= 0.35 else "after a blow-out" if width >= 0.9 else "at usual width"
    text = f"the move comes {words}: the bands were narrower {width:.0%} of the time"
    return n.reading("band_width_percentile", points, text)


def _participation(n: _Numbers) -> Reading:
    volume, last = n.plain("relative_volume"), n.towards("return_1_atr")
    climax = volume >= 3 and last >= 1.5
    points = -1 if climax else 1 if volume >= 1.5 and last > 0 else 0
    words = "a climax" if climax else "interest in the move" if points else "nothing unusual"
    return n.reading("relative_volume", points, f"volume {volume:.1f} times its mean: {words}")


@dataclass(frozen=True, slots=True)
class StrategistTwin:
    """The chart by rule: structure, higher timeframe, room, candles, traps."""

    def answer(self, packet: StrategistPacket) -> Reply[StrategistAnswer]:
        """The bias, or an abstention that names what is missing."""
        if problem := _abstains(packet, STRATEGIST_NEEDS):
            return Reply(status=Status.ABSTAIN, problem=problem)
        readings = list(strategist_readings(packet))
        net, side = _net(readings), packet.proposal.side
        answer = StrategistAnswer(
            evidence=_evidence(readings),
            structure=packet.structure,
            trap_suspected=any(reading.points <= -2 and reading.key.endswith("_ago") for reading in readings),
            against=_against(readings, packet),
            bias=_bias(side, net),
            p_win=_p_win(packet.proposal.base_rate, net),
        )
        return Reply(status=Status.OK, answer=answer)


STRATEGIST_NEEDS = ("stop_atr", "higher_timeframe_bias", "swing_0", "candle_4_open_atr")
FOR_LONG = ("hammer", "bullish_marubozu", "bullish_engulfing", "bullish_pin_bar", "bullish_sweep")
FOR_SHORT = ("shooting_star", "bearish_marubozu", "bearish_engulfing", "bearish_pin_bar", "bearish_sweep")
TRAPS = frozenset({"sweep", "pin_bar", "star", "hammer"})


def _bias(side: Side, net: int) -> Bias:
    if abs(net) < LEAN:
        return Bias.CHOPPY
    return Bias.BULLISH if (net > 0) == (side is Side.LONG) else Bias.BEARISH


def strategist_readings(packet: StrategistPacket) -> Iterator[Reading]:
    """The chart from the proposed side."""
    numbers = _Numbers(packet)
    yield _order(packet)
    yield _higher(packet)
    yield _headroom(packet)
    yield _shelter(packet)
    yield _five_bars(numbers)
    yield from _candles(packet)


def _order(packet: StrategistPacket) -> Reading:
    aligned = Structure.HH_HL if packet.proposal.side is Side.LONG else Structure.LH_LL
    clear = packet.structure in {Structure.HH_HL, Structure.LH_LL}
    points = 0 if not clear else 1 if packet.structure is aligned else -1
    words = "in no clear order" if not clear else "with the trade" if points > 0 else "against the trade"
    return Reading("structure", str(packet.structure), points, f"swings are {words} ({packet.structure})")


def _higher(packet: StrategistPacket) -> Reading:
    bias = packet.higher_timeframe_bias
    aligned = Bias.BULLISH if packet.proposal.side is Side.LONG else Bias.BEARISH
    points = -1 if bias is Bias.CHOPPY else 1 if bias is aligned else -2
    return Reading("higher_timeframe_bias", str(bias), points, f"the higher timeframe is {str(bias).lower()}")


def _headroom(packet: StrategistPacket) -> Reading:
    long = packet.proposal.side is Side.LONG
    key = "resistance_atr" if long else "support_atr"
    room = packet.resistance_atr if long else packet.support_atr
    if room is None:
        return Reading(key, None, 1, "no level of the window stands in the way")
    points = -1 if room < 1 else 1 if room >= 3 else 0
    return Reading(key, room, points, f"the next level in the way is {room:.1f} ATR off")


def _shelter(packet: StrategistPacket) -> Reading:
    long = packet.proposal.side is Side.LONG
    key = "support_atr" if long else "resistance_atr"
    behind, stop = (packet.support_atr if long else packet.resistance_atr), packet.proposal.stop_atr or 0.0
    if behind is None:
        return Reading(key, None, 0, "no level of the window shelters the stop")
    points = 1 if behind < stop / 2 else 0
    where = "in front of" if behind < stop else "behind"
    return Reading(key, behind, points, f"the nearest shelter is {behind:.1f} ATR away, {where} the stop")


def _five_bars(n: _Numbers) -> Reading:
    start = -n.towards("candle_4_open_atr")
    points = -1 if start >= 3.5 else 0
    words = f"ran {start:.1f} ATR with" if start >= 0 else f"went {-start:.1f} ATR against"
    return n.reading("candle_4_open_atr", points, f"the last five candles {words} the trade")


def _candles(packet: StrategistPacket) -> Iterator[Reading]:
    """Fresh patterns; a rejection against the trade, of the last three candles, is suspected to be a trap."""
    long = packet.proposal.side is Side.LONG
    for name, age in packet.patterns.items():
        with_trade = name in (FOR_LONG if long else FOR_SHORT)
        trap = not with_trade and any(name.endswith(kind) for kind in TRAPS)
        if age is None or name == "doji" or age > (2 if trap else 1):
            continue
        points = 1 if with_trade else -2 if trap else -1
        when = ("on the last candle", "one candle ago", "two candles ago")[age]
        stand = "for the trade" if with_trade else "against it"
        yield Reading(f"{name}_bars_ago", age, points, f"{name.replace('_', ' ')} {when}, {stand}")


@dataclass(frozen=True, slots=True)
class RiskManagerTwin:
    """Votes, account and hazards by rule: each concern costs size, too many of them the trade."""

    def answer(self, packet: RiskPacket) -> Reply[RiskManagerAnswer]:
        """The decision, or an abstention that names what is missing."""
        if problem := _abstains(packet, RISK_NEEDS):
            return Reply(status=Status.ABSTAIN, problem=problem)
        concerns = list(risk_concerns(packet))
        size = _size(concerns)
        ranked = sorted(concerns, key=lambda concern: concern.size)
        answer = RiskManagerAnswer(
            conflicts=tuple(risk_conflicts(packet))[:5],
            hazards=tuple(dict.fromkeys(concern.hazard for concern in ranked if concern.hazard)),
            rationale=_rationale(ranked, size),
            decision=Decision.APPROVED if size > 0 else Decision.REJECTED,
            size_multiplier=size,
            p_win=_joint_p_win(packet),
        )
        return Reply(status=Status.OK, answer=answer)


RISK_NEEDS = (
    "stop_atr",
    "quant_signal",
    "strategist_bias",
    "open_risk_percent",
    "day_r",
    "week_r",
    "drawdown_percent",
    "spread_atr",
    "slippage_atr",
    "funding_bp",
    "volatility_regime",
    "macro_trend",
    "waterfall",
    "parabolic",
    "data_age_bars",
)


@dataclass(frozen=True, slots=True)
class Concern:
    """One reason for less: `size` is what it leaves of the trade, 0 for a veto."""

    size: float
    text: str
    hazard: Hazard | None = None


def _size(concerns: list[Concern]) -> float:
    """The concerns multiplied, rounded down to quarters."""
    left = 1.0
    for concern in concerns:
        left *= concern.size
    return math.floor(left * 4) / 4


def risk_concerns(packet: RiskPacket) -> Iterator[Concern]:
    """Everything that costs size."""
    yield from _vote_concerns(packet)
    yield from _market_concerns(packet)
    yield from _account_concerns(packet)


def _stand(packet: RiskPacket) -> tuple[int, int]:
    """The two votes from the proposed side: +1 for it, 0 neither, -1 against."""
    votes = {Vote.LONG: 1, Vote.SHORT: -1, Vote.NEUTRAL: 0, Bias.BULLISH: 1, Bias.BEARISH: -1, Bias.CHOPPY: 0}
    sign, answers = packet.proposal.side.sign, packet.answers
    signal, bias = answers.quant_signal, answers.strategist_bias
    return sign * votes[signal] if signal else 0, sign * votes[bias] if bias else 0


def _vote_concerns(packet: RiskPacket) -> Iterator[Concern]:
    quant, strategist = _stand(packet)
    if min(quant, strategist) < 0:
        yield Concern(0.0, "a vote stands against the trade")
    elif quant + strategist == 0:
        yield Concern(0.0, "nobody argues for the trade")
    elif quant + strategist == 1:
        yield Concern(0.75, "only one of the two argues for it")
    if packet.answers.trap_suspected:
        yield Concern(0.5, "the chart suggests a trap")
    if packet.macro_trend is Macro.AGAINST:
        yield Concern(0.0, "the higher timeframe runs the other way")
    elif packet.macro_trend is Macro.CHOPPY:
        yield Concern(0.5, "the higher timeframe has no direction")


def _market_concerns(packet: RiskPacket) -> Iterator[Concern]:
    account = packet.account
    if packet.waterfall:
        yield Concern(0.0, "a waterfall has not calmed down", Hazard.WATERFALL)
    if packet.parabolic:
        yield Concern(0.0, "a parabolic rise has not calmed down", Hazard.PARABOLIC)
    if packet.volatility_regime is Regime.EXTREME:
        yield Concern(0.5, "volatility is extreme", Hazard.OTHER)
    # Measured against the stop: what an exit costs in R before the trade has moved.
    stop, paid = packet.proposal.stop_atr or 0.0, (account.spread_atr or 0.0) + (account.slippage_atr or 0.0)
    cost = paid / stop if stop > 0 else math.inf
    if cost > 0.1:
        size = 0.0 if cost > 0.25 else 0.5
        yield Concern(size, f"spread and slippage cost {cost:.0%} of the stop", Hazard.THIN_LIQUIDITY)
    if (account.funding_bp or 0.0) > 5:
        yield Concern(0.75, f"this side pays {account.funding_bp:.1f} basis points of funding", Hazard.OTHER)
    if (account.data_age_bars or 0.0) > 0.25:
        yield Concern(0.0, "the data is old", Hazard.STALE_DATA)


def _account_concerns(packet: RiskPacket) -> Iterator[Concern]:
    account = packet.account
    drawdown, day, week = account.drawdown_percent or 0.0, account.day_r or 0.0, account.week_r or 0.0
    if drawdown >= 10:
        # Never 0: without a trade a drawdown cannot heal. When it is too deep for any, a limit in code says so.
        size = 0.34 if drawdown >= 18 else 0.5
        yield Concern(size, f"the account is {drawdown:.1f} % below its peak", Hazard.DRAWDOWN)
    if day <= -2 or week <= -4:
        yield Concern(0.5, f"{day:+.1f}R today and {week:+.1f}R this week", Hazard.DRAWDOWN)
    if account.losing_streak >= 3 and (account.bars_since_loss or 0) <= packet.proposal.horizon_bars:
        yield Concern(0.75, f"{account.losing_streak} losses in a row", Hazard.DRAWDOWN)
    if (account.open_risk_percent or 0.0) >= 2:
        yield Concern(0.5, f"{account.open_risk_percent:.1f} % of equity is at risk already", Hazard.OTHER)


def risk_conflicts(packet: RiskPacket) -> Iterator[str]:
    """Where the answers contradict each other, the side or the higher timeframe."""
    quant, strategist = _stand(packet)
    side, answers = packet.proposal.side.value, packet.answers
    if quant * strategist < 0:
        yield f"Quant {answers.quant_signal} against Strategist {answers.strategist_bias}"
    if quant < 0:
        yield f"Quant {answers.quant_signal} against the proposed {side}"
    if strategist < 0:
        yield f"Strategist {answers.strategist_bias} against the proposed {side}"
    if packet.macro_trend is Macro.AGAINST and max(quant, strategist) > 0:
        yield f"a vote for the {side} against the higher timeframe"


def _rationale(ranked: list[Concern], size: float) -> str:
    if not ranked:
        return "Both argue for it and nothing in market or account speaks against it: full base size."
    causes = "; ".join(concern.text for concern in ranked[:4])
    return f"{causes[0].upper()}{causes[1:]}." if size == 0 else f"{size:.0%} of the base size: {causes}."


def _joint_p_win(packet: RiskPacket) -> float:
    """The mean of both, the base rate where an answer has none."""
    base, answers = packet.proposal.base_rate, packet.answers
    stated = [base if p is None else p for p in (answers.quant_p_win, answers.strategist_p_win)]
    return round(sum(stated) / 2, 3)
