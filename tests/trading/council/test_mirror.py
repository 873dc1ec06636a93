"""A market upside down: the facts turn as the candles do, and every vote of the twins with them."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.council.candidates import STRATEGY, brief_at, edges, mirrored, recorded, session, synthetic
from trading.council.mirror import (
    agent_of,
    ask_panel,
    ask_twins,
    mirror_votes,
    mirrored_facts,
    mirrored_packet,
    packet_from_facts,
    turned_vote,
    vote_of,
)
from trading.council.packet import Divergence, EquityBand, Macro, Packet, QuantPacket, Regime
from trading.council.prompting import load_prompts, packet_keys
from trading.council.questions import AgentModel, Outcome, Question
from trading.council.reading import ANSWERS
from trading.council.schemas import Bias, Fact, Facts, QuantAnswer, Reply, Status, Structure, Vote
from trading.model import CandleSeries
from trading.strategy import evaluate

AGENTS = tuple(ANSWERS)
SERIES = synthetic(6_000)


def pairs(series: CandleSeries, count: int) -> list[tuple[Packet, Packet]]:
    """The three packets of each candidate, and those built from its mirrored brief."""
    signals = evaluate(STRATEGY, series)
    found: list[tuple[Packet, Packet]] = []
    for row in edges(series, signals, count):
        brief = brief_at(series, signals, row)
        plain, image = session(brief), session(mirrored(brief))
        found += [
            (plain.quant_packet, image.quant_packet),
            (plain.strategist_packet, image.strategist_packet),
            (plain.risk_packet, image.risk_packet),
        ]
    return found


PAIRS = pairs(SERIES, 80)


def assert_mirrored(found: list[tuple[Packet, Packet]]) -> None:
    """The mirrored facts are those of the mirrored candles; numbers to the last decimal that a packet has."""
    for plain, image in found:
        expected, facts = image.facts(), mirrored_facts(plain.facts())
        assert list(facts) == list(expected)
        for key, value in facts.items():
            if isinstance(value, float):
                assert value == pytest.approx(expected[key], abs=1.001e-3), key
            else:
                assert value == expected[key], key


def test_mirrored_facts_are_the_facts_of_the_mirrored_candles() -> None:
    """On made-up candles; and something does turn in each of them."""
    assert len(PAIRS) >= 150
    assert_mirrored(PAIRS)
    assert all(mirrored_facts(plain.facts()) != plain.facts() for plain, _ in PAIRS)


def test_mirrored_facts_are_those_of_recorded_candles_upside_down(test_data: Path) -> None:
    """The same on every recorded market and timeframe."""
    for _, series in recorded(test_data):
        assert_mirrored(pairs(series, 15))


def test_a_packet_can_be_had_back_from_its_facts() -> None:
    """Also from their JSON, as it is recorded."""
    for plain, _ in PAIRS:
        assert packet_from_facts(agent_of(plain), plain.facts()) == plain
        assert packet_from_facts(agent_of(plain), json.loads(plain.json())) == plain


def test_turned_twice_a_packet_is_itself() -> None:
    """To the byte."""
    for plain, _ in PAIRS:
        assert mirrored_packet(mirrored_packet(plain)).json() == plain.json()


NUMBERS = st.none() | st.integers(-100_000, 100_000).map(lambda thousandths: thousandths / 1000)
ENUMS: Mapping[str, Any] = {
    "side": st.sampled_from(["long", "short"]),
    "rsi_divergence": st.sampled_from(Divergence),
    "structure": st.sampled_from(Structure),
    "higher_timeframe_bias": st.none() | st.sampled_from(Bias),
    "quant_status": st.sampled_from(Status),
    "strategist_status": st.sampled_from(Status),
    "quant_signal": st.none() | st.sampled_from(Vote),
    "strategist_structure": st.none() | st.sampled_from(Structure),
    "strategist_bias": st.none() | st.sampled_from(Bias),
    "equity_band": st.none() | st.sampled_from(EquityBand),
    "volatility_regime": st.none() | st.sampled_from(Regime),
    "macro_trend": st.none() | st.sampled_from(Macro),
    **{key: st.none() | st.booleans() for key in ("trap_suspected", "waterfall", "parabolic")},
    **{f"swing_{age}": st.none() | st.sampled_from(["HH", "HL", "LH", "LL"]) for age in range(4)},
}


def fact(key: str) -> st.SearchStrategy[Fact]:
    """Anything that may stand under a key."""
    if key.endswith("_bars_ago"):
        return st.none() | st.integers(0, 4)
    known: st.SearchStrategy[Fact] = (
        ENUMS[key].map(lambda word: getattr(word, "value", word)) if key in ENUMS else NUMBERS
    )
    return known


@given(agent=st.sampled_from(AGENTS), data=st.data())
def test_any_packet_turned_twice_is_itself(agent: str, data: st.DataObject) -> None:
    """Facts that no market has shown yet, whole packets of them; nothing of the account turns."""
    facts: Facts = {key: data.draw(fact(key)) for key in packet_keys(agent)}
    packet = packet_from_facts(agent, facts)
    assert packet.facts() == facts
    image = mirrored_packet(packet)
    assert mirrored_packet(image) == packet
    assert mirrored_facts(image.facts()) == facts
    assert image.proposal.side is packet.proposal.side.opposite
    for key in (
        "stop_atr",
        "base_rate",
        "adx",
        "relative_volume",
        "funding_bp",
        "day_r",
        "macro_trend",
        "doji_bars_ago",
    ):
        assert image.facts().get(key) == facts.get(key)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"price": 1.0}, "price"),
        ({"rsi": "high"}, "'high' is no number"),
        ({"rsi_divergence": "SIDEWAYS"}, "SIDEWAYS"),
        ({"side": "buy"}, "buy"),
    ],
)
def test_what_is_no_packet_is_refused(change: Facts, complaint: str) -> None:
    """By key or by word."""
    facts = next(plain for plain, _ in PAIRS if isinstance(plain, QuantPacket)).facts()
    with pytest.raises(ValueError, match=complaint):
        packet_from_facts("quant", facts | change)


def test_a_key_too_few_or_a_list_that_is_none() -> None:
    """The Strategist's lists are checked as well."""
    facts = next(plain for plain, _ in PAIRS if agent_of(plain) == "strategist").facts()
    changes: tuple[Facts, ...] = ({"swing_0": 1.0}, {"hammer_bars_ago": 0.5}, {"candle_0_open_atr": "up"})
    for change in changes:
        with pytest.raises(ValueError, match="is no"):
            packet_from_facts("strategist", facts | change)
    facts.pop("swing_3")
    with pytest.raises(ValueError, match="not a packet of the strategist: swing_3"):
        packet_from_facts("strategist", facts)


async def test_every_vote_of_the_twins_turns() -> None:
    """No twin prefers a direction."""
    report = await mirror_votes(ask_twins, [plain for plain, _ in PAIRS])
    assert report.clean
    assert (report.asked, report.turned, report.unturned, report.unanswered) == (len(PAIRS), len(PAIRS), (), ())
    assert report.p_win_drift == 0.0


async def test_every_vote_of_the_twins_turns_on_recorded_candles(test_data: Path) -> None:
    """On each recorded market."""
    for name, series in recorded(test_data):
        report = await mirror_votes(ask_twins, [plain for plain, _ in pairs(series, 15)])
        assert report.clean, name


async def test_a_preferred_direction_is_found_out() -> None:
    """A Quant who is for longs whatever the facts say: each of his packets is listed with what should have been."""

    async def bull(agent: str, packet: Packet) -> Reply[Any]:
        reply = await ask_twins(agent, packet)
        if isinstance(reply.answer, QuantAnswer):
            return dataclasses.replace(reply, answer=reply.answer.model_copy(update={"signal": Vote.LONG}))
        return reply

    report = await mirror_votes(bull, [plain for plain, _ in PAIRS])
    assert not report.clean
    assert report.turned == report.asked - len(report.unturned)
    assert {(one.agent, one.said, one.mirrored, one.wanted) for one in report.unturned} == {
        ("quant", "LONG", "LONG", "SHORT")
    }
    assert len(report.unturned) == len(PAIRS) / 3


async def test_a_missing_answer_is_told_as_such() -> None:
    """It is no vote that turned; and nothing at all asked proves nothing."""

    async def silent(agent: str, packet: Packet) -> Reply[Any]:
        del agent, packet
        return Reply(status=Status.TIMEOUT, problem="no answer in 10 s")

    report = await mirror_votes(silent, [PAIRS[0][0]])
    assert (report.asked, report.turned, report.clean, report.p_win_drift) == (1, 0, False, None)
    assert report.unanswered == ("quant: TIMEOUT, no answer in 10 s",)
    assert not (await mirror_votes(ask_twins, [])).clean


@dataclass(frozen=True, slots=True)
class TwinPanel:
    """A `Panel` that asks the twins and answers in their JSON; some of it garbled by `seed`."""

    garbled: float = 0.0
    seed: int = 1

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """The twin's word on the packet as it was sent."""
        rng = random.Random(f"{self.seed} {question.key}")
        packet = packet_from_facts(question.agent, json.loads(question.packet))
        reply = await ask_twins(question.agent, packet)
        if seconds <= 0 or reply.answer is None:
            return Outcome(status=Status.TIMEOUT, problem="no time")
        text = reply.answer.model_dump_json()
        return Outcome(status=Status.OK, text=text[:-1] if rng.random() < self.garbled else f"<think>hm</think>{text}")


MODELS = {
    agent: AgentModel(
        agent=agent, provider="gemini", model="m", max_tokens=2048, temperature=0.0, price_in=0.0, price_out=0.0
    )
    for agent in AGENTS
}


async def test_any_panel_can_be_asked() -> None:
    """By its own prompts and schemas; an answer that cannot be read is no answer."""
    packets = [plain for plain, _ in PAIRS[:60]]
    assert (await mirror_votes(ask_panel(TwinPanel(), MODELS, load_prompts(), 1.0), packets)).clean
    garbled = await mirror_votes(ask_panel(TwinPanel(garbled=0.3), MODELS, load_prompts(), 1.0), packets)
    assert 0 < len(garbled.unanswered) < len(packets)
    assert garbled.unturned == ()
    assert "INVALID, the JSON object is cut off" in garbled.unanswered[0]
    late = await mirror_votes(ask_panel(TwinPanel(), MODELS, load_prompts(), 0.0), packets)
    assert late.turned == 0
    assert late.unanswered[0].endswith("TIMEOUT, no time")


async def test_votes_in_a_word() -> None:
    """What is compared."""
    votes = {agent: set[str]() for agent in AGENTS}
    for plain, _ in PAIRS:
        answer = (await ask_twins(agent_of(plain), plain)).answer
        assert answer is not None
        votes[agent_of(plain)].add(f"{vote_of(answer)} -> {turned_vote(answer)}")
    assert votes["quant"] == {"LONG -> SHORT", "SHORT -> LONG", "NEUTRAL -> NEUTRAL"}
    assert votes["strategist"] == {"BULLISH -> BEARISH", "BEARISH -> BULLISH", "CHOPPY -> CHOPPY"}
    assert {"REJECTED 0 -> REJECTED 0", "APPROVED 1 -> APPROVED 1"} <= votes["risk_manager"]
