"""The rules twins: grounded, deterministic, fast, without a preferred direction, and of more than one opinion."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.trading.council.candidates import (
    STRATEGY,
    Session,
    brief_at,
    edges,
    recorded,
    session,
    synthetic,
)
from tests.trading.council.test_packet import assert_mirror_image
from trading.council.packet import Macro, Regime
from trading.council.schemas import (
    Bias,
    Decision,
    Hazard,
    QuantAnswer,
    RiskManagerAnswer,
    Status,
    StrategistAnswer,
    Structure,
    Vote,
    grounding_errors,
)
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin
from trading.model import CandleSeries, Side
from trading.strategy import evaluate

SERIES = synthetic()
MOST = 0.8  # no single answer may have a larger share


def held_over(series: CandleSeries, count: int) -> list[Session]:
    signals = evaluate(STRATEGY, series)
    return [session(brief_at(series, signals, row)) for row in edges(series, signals, count)]


@cache
def made_up() -> list[Session]:
    """What the twins say of made-up candidates."""
    return held_over(SERIES, 1200)


@cache
def example() -> Session:
    """A long that is taken whole."""
    taken = (held for held in made_up() if held.ruling.size_multiplier == 1.0)
    return next(held for held in taken if held.quant_packet.proposal.side is Side.LONG)


def test_evidence_is_grounded_and_the_answer_survives_its_own_schema() -> None:
    """Every citation stands in the packet, also after the way through JSON; the case against is never empty."""
    for held in made_up():
        quant, strategist, risk = held.quant.answer, held.strategist.answer, held.risk_manager.answer
        assert quant
        assert strategist
        assert risk
        assert grounding_errors(quant.evidence, json.loads(held.quant_packet.json())) == []
        assert grounding_errors(strategist.evidence, json.loads(held.strategist_packet.json())) == []
        assert QuantAnswer.model_validate_json(quant.model_dump_json()) == quant
        assert StrategistAnswer.model_validate_json(strategist.model_dump_json()) == strategist
        assert RiskManagerAnswer.model_validate_json(risk.model_dump_json()) == risk
        assert quant.against not in {item.reading for item in quant.evidence}
        assert all(0.05 <= p_win <= 0.6 for p_win in (quant.p_win, strategist.p_win, risk.p_win))


def shares(held: list[Session]) -> dict[str, dict[str, float]]:
    """Question to answer to share; votes also from the proposed side."""
    counts: dict[str, Counter[str]] = {}
    for one in held:
        quant, strategist, risk = one.quant.answer, one.strategist.answer, one.risk_manager.answer
        assert quant
        assert strategist
        assert risk
        long = one.quant_packet.proposal.side is Side.LONG
        answers = {
            "signal": quant.signal,
            "signal for the side": quant.signal is (Vote.LONG if long else Vote.SHORT),
            "signal against the side": quant.signal is (Vote.SHORT if long else Vote.LONG),
            "structure": strategist.structure,
            "trap": strategist.trap_suspected,
            "bias": strategist.bias,
            "bias for the side": strategist.bias is (Bias.BULLISH if long else Bias.BEARISH),
            "decision": risk.decision,
            "size": risk.size_multiplier,
            "verdict": one.ruling.approved,
        }
        for question, answer in answers.items():
            counts.setdefault(question, Counter())[str(answer)] += 1
    return {
        question: {answer: count / len(held) for answer, count in counter.items()}
        for question, counter in counts.items()
    }


def assert_discriminates(held: list[Session]) -> None:
    # "Against the side: no" is nine in ten by right: most edges of a trend follower do follow the trend.
    judged = {name: found for name, found in shares(held).items() if name != "signal against the side"}
    for question, found in judged.items():
        assert max(found.values()) <= MOST, (question, found)
    assert {str(vote) for vote in Vote} == set(judged["signal"])
    assert {str(bias) for bias in Bias} == set(judged["bias"])
    assert {str(structure) for structure in Structure} == set(judged["structure"])


def test_twins_discriminate_on_made_up_candidates() -> None:
    """No answer of any agent, nor the verdict, above four in five."""
    assert len(made_up()) >= 1000
    assert_discriminates(made_up())


def test_twins_discriminate_on_recorded_candidates(test_data: Path) -> None:
    """The same over every recorded market and timeframe, all together and each for itself."""
    every: list[Session] = []
    for name, series in recorded(test_data):
        held = held_over(series, 150)
        assert max(shares(held)["verdict"].values()) <= 0.9, name
        every += held
    assert len(every) >= 1000
    assert_discriminates(every)


def test_recorded_markets_upside_down(test_data: Path) -> None:
    """No twin prefers a direction: on recorded candles."""
    for _, series in recorded(test_data):
        assert_mirror_image(series, edges(series, evaluate(STRATEGY, series), 40))


def test_a_twin_answers_in_less_than_a_millisecond() -> None:
    """The best of several rounds, so that a busy machine does not decide."""
    rounds = []
    for _ in range(5):
        started = time.perf_counter()
        for held in made_up()[:50]:
            QuantTwin().answer(held.quant_packet)
            StrategistTwin().answer(held.strategist_packet)
            RiskManagerTwin().answer(held.risk_packet)
        rounds.append((time.perf_counter() - started) / 150)
    assert min(rounds) < 0.001


def test_what_is_not_known_is_an_abstention_that_names_it() -> None:
    """No twin votes on a fact that it does not have."""
    quant = QuantTwin().answer(dataclasses.replace(example().quant_packet, rsi=None, adx=None))
    chart = StrategistTwin().answer(dataclasses.replace(example().strategist_packet, higher_timeframe_bias=None))
    risk = RiskManagerTwin().answer(dataclasses.replace(example().risk_packet, macro_trend=None))
    for reply, named in ((quant, "rsi, adx"), (chart, "higher_timeframe_bias"), (risk, "macro_trend")):
        assert reply.status is Status.ABSTAIN
        assert reply.answer is None
        assert named in reply.problem


def decision_on(**changes: object) -> RiskManagerAnswer:
    """The Risk Manager on the approved example with the given account or market facts changed."""
    packet = example().risk_packet
    inside = {key: value for key, value in changes.items() if hasattr(packet.account, key)}
    account = dataclasses.replace(packet.account, **inside)  # type: ignore[arg-type]
    outside = {key: value for key, value in changes.items() if key not in inside}
    changed = dataclasses.replace(packet, account=account, **outside)  # type: ignore[arg-type]
    answer = RiskManagerTwin().answer(changed).answer
    assert answer
    return answer


@pytest.mark.parametrize(
    ("changes", "size", "hazard"),
    [
        ({"waterfall": True}, 0.0, Hazard.WATERFALL),
        ({"parabolic": True}, 0.0, Hazard.PARABOLIC),
        ({"drawdown_percent": 12.0}, 0.5, Hazard.DRAWDOWN),
        ({"drawdown_percent": 19.0}, 0.25, Hazard.DRAWDOWN),
        ({"slippage_atr": 0.6}, 0.5, Hazard.THIN_LIQUIDITY),
        ({"slippage_atr": 3.0}, 0.0, Hazard.THIN_LIQUIDITY),
        ({"data_age_bars": 0.4}, 0.0, Hazard.STALE_DATA),
        ({"day_r": -2.5}, 0.5, Hazard.DRAWDOWN),
        ({"losing_streak": 3}, 0.75, Hazard.DRAWDOWN),
        ({"losing_streak": 3, "bars_since_loss": 100}, 1.0, None),
        ({"open_risk_percent": 2.0}, 0.5, Hazard.OTHER),
        ({"funding_bp": 12.0}, 0.75, Hazard.OTHER),
        ({"volatility_regime": Regime.EXTREME}, 0.5, Hazard.OTHER),
        ({"macro_trend": Macro.AGAINST}, 0.0, None),
        ({"macro_trend": Macro.CHOPPY}, 0.5, None),
    ],
)
def test_each_concern_costs_size(changes: dict[str, object], size: float, hazard: Hazard | None) -> None:
    """From a trade that would have been taken whole."""
    assert decision_on().size_multiplier == 1.0
    answer = decision_on(**changes)
    assert answer.size_multiplier == size
    assert (answer.decision is Decision.REJECTED) == (size == 0.0)
    assert hazard is None or hazard in answer.hazards


@pytest.mark.parametrize(
    ("signal", "bias", "size"),
    [
        (Vote.LONG, Bias.BULLISH, 1.0),
        (Vote.LONG, Bias.CHOPPY, 0.75),
        (Vote.NEUTRAL, Bias.BULLISH, 0.75),
        (Vote.NEUTRAL, Bias.CHOPPY, 0.0),
        (Vote.SHORT, Bias.BULLISH, 0.0),
        (Vote.LONG, Bias.BEARISH, 0.0),
        (Vote.SHORT, Bias.BEARISH, 0.0),
    ],
)
def test_the_risk_manager_weighs_both_votes(signal: Vote, bias: Bias, size: float) -> None:
    """On a long: nobody for it is a rejection too."""
    answers = dataclasses.replace(example().risk_packet.answers, quant_signal=signal, strategist_bias=bias)
    answer = decision_on(answers=answers)
    assert answer.size_multiplier == size
    opposed = signal is Vote.SHORT or bias is Bias.BEARISH
    assert bool(answer.conflicts) == opposed


def quant_vote(**changes: object) -> QuantAnswer:
    packet = dataclasses.replace(example().quant_packet, **changes)  # type: ignore[arg-type]
    answer = QuantTwin().answer(packet).answer
    assert answer
    return answer


def test_the_quant_turns_against_a_chase() -> None:
    """Far from the average after a long run, and momentum no longer confirms: each costs, together they turn it."""
    calm = quant_vote()
    stretched = quant_vote(trend_distance_atr=9.0, return_12_atr=7.0, rsi=72.0)
    assert calm.signal is Vote.LONG
    assert stretched.signal is Vote.SHORT
    assert stretched.p_win < calm.p_win
    assert "stretched" in stretched.evidence[0].reading
