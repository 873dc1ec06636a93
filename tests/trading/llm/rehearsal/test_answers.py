"""The server's own opinion: valid, grounded, of more than one mind, and without a preferred direction."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.council.candidates import STRATEGY, brief_at, edges, recorded
from tests.trading.llm.rehearsal.talk import (
    SCHEMAS,
    VOTES,
    checked,
    every_packet,
    example,
    mirrored_packets,
    packets,
    taken,
)
from trading.council.mirror import mirrored_facts
from trading.council.schemas import Facts
from trading.errors import BadInput
from trading.llm.doctor import practice
from trading.llm.rehearsal.answers import answer_for
from trading.llm.rehearsal.asked import Asked
from trading.llm.rehearsal.items import GOOD
from trading.llm.rehearsal.said import tokens
from trading.llm.rehearsal.temperament import TEMPERAMENTS, Temperament
from trading.strategy import evaluate

OPPOSITE = {"LONG": "SHORT", "SHORT": "LONG", "BULLISH": "BEARISH", "BEARISH": "BULLISH"}


def asked(agent: str, facts: Facts) -> Asked:
    return Asked(
        provider="gemini",
        model="m",
        agent=agent,
        key="",
        facts=facts,
        limit=None,
        prompt=json.dumps(facts),
        properties=(),
    )


@pytest.mark.parametrize("agent", SCHEMAS)
def test_answers_are_valid_grounded_and_in_order(agent: str) -> None:
    """Over hundreds of packets: the schema's fields in the schema's order, every citation borne out."""
    assert len(every_packet()) >= 300
    for one in every_packet():
        answer = answer_for(agent, one[agent])
        checked(agent, json.dumps(answer), one[agent])
        assert list(answer) == list(SCHEMAS[agent].model_fields)


def test_no_single_answer_rules() -> None:
    """None above four in five, every vote occurs, and the chance stays near the base rate."""
    answered = [{agent: answer_for(agent, one[agent]) for agent in SCHEMAS} for one in every_packet()]
    for agent, field in (*VOTES.items(), ("strategist", "structure"), ("strategist", "trap_suspected")):
        counts = Counter(str(one[agent][field]) for one in answered)
        assert max(counts.values()) <= 0.8 * len(answered), (agent, field, counts)
        assert len(counts) >= 2
    assert {one["quant"]["signal"] for one in answered} == {"LONG", "SHORT", "NEUTRAL"}
    assert {one["strategist"]["bias"] for one in answered} == {"BULLISH", "BEARISH", "CHOPPY"}
    assert len({one["risk_manager"]["size_multiplier"] for one in answered}) >= 5
    for one, facts in zip(answered, every_packet(), strict=True):
        for agent in SCHEMAS:
            assert abs(one[agent]["p_win"] - float(facts[agent]["base_rate"] or 0.0)) <= 0.3


def test_a_market_upside_down_turns_every_vote() -> None:
    """The other side, the other vote, the same decision, size and chance: no direction is preferred."""
    for plain, turned in mirrored_packets(150):
        for agent, vote in VOTES.items():
            first, second = answer_for(agent, plain[agent]), answer_for(agent, turned[agent])
            assert second[vote] == OPPOSITE.get(first[vote], first[vote])
            assert second["p_win"] == pytest.approx(first["p_win"], abs=0.002)
        one, other = (answer_for("risk_manager", both["risk_manager"]) for both in (plain, turned))
        assert one["size_multiplier"] == other["size_multiplier"]


@pytest.mark.parametrize("agent", SCHEMAS)
def test_every_directional_fact_flipped_flips_the_vote(agent: str) -> None:
    """Fact by fact, without a market: on made-up candidates and on the real ones that the doctor asks about."""
    real = [candidate[agent].facts() for candidate in practice()]
    assert len(real) >= 2
    for facts in [one[agent] for one in every_packet()] + real:
        first, second = answer_for(agent, facts), answer_for(agent, mirrored_facts(facts))
        assert second[VOTES[agent]] == OPPOSITE.get(first[VOTES[agent]], first[VOTES[agent]])
        assert second["p_win"] == first["p_win"]
        assert second.get("size_multiplier") == first.get("size_multiplier")
        assert second.get("trap_suspected") == first.get("trap_suspected")


WORDS = st.sampled_from(["LONG", "HH", "OK", "x"])
JSON = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e6, 1e6) | WORDS


@given(agent=st.sampled_from(sorted(SCHEMAS)), noise=st.data())
def test_any_packet_gets_a_valid_answer(agent: str, noise: Any) -> None:
    """Facts missing, unknown or of another kind: still an answer of the schema, grounded in what is there."""
    facts = dict(example(agent))
    for key in noise.draw(st.lists(st.sampled_from(sorted(set(facts) - {"side"})), max_size=12)):
        facts[key] = noise.draw(JSON)
    gone = noise.draw(st.lists(st.sampled_from(sorted(set(facts) - {"side"})), max_size=8, unique=True))
    left = {key: value for key, value in facts.items() if key not in gone}
    checked(agent, json.dumps(answer_for(agent, left)), left)


@pytest.mark.parametrize(
    ("changes", "hazard"),
    [
        ({"drawdown_percent": 25.0}, "DRAWDOWN"),
        ({"data_age_bars": 1.0}, "STALE_DATA"),
        ({"spread_atr": 2.0}, "THIN_LIQUIDITY"),
        ({"waterfall": True, "side": "long", "quant_signal": "LONG", "strategist_bias": "BULLISH"}, "WATERFALL"),
        ({"parabolic": True, "side": "short", "quant_signal": "SHORT", "strategist_bias": "BEARISH"}, "PARABOLIC"),
    ],
)
def test_the_risk_manager_names_what_it_refuses_for(changes: dict[str, Any], hazard: str) -> None:
    """A trade that it would have taken, and one fact that forbids it."""
    assert answer_for("risk_manager", taken())["decision"] == "APPROVED"
    answer = answer_for("risk_manager", {**taken(), **changes})
    assert (answer["decision"], answer["size_multiplier"]) == ("REJECTED", 0.0)
    assert hazard in answer["hazards"]


@pytest.mark.parametrize("name", ["sound", "contrarian", "drunk"])
def test_a_temperament_still_answers_validly(name: str) -> None:
    """Contrarian and drunk differ in opinion, not in form, and the same seed says the same."""
    other = 0
    for one in every_packet()[:100]:
        for agent in SCHEMAS:
            answer = Temperament(name, 3).answer(asked(agent, one[agent]))
            checked(agent, json.dumps(answer), one[agent])
            assert answer == Temperament(name, 3).answer(asked(agent, one[agent]))
            other += answer[VOTES[agent]] != answer_for(agent, one[agent])[VOTES[agent]]
    assert (other == 0) == (name == "sound")


def test_a_hostile_server_does_harm_in_many_ways() -> None:
    """Over packets it is not always the same; a word of the script is left as it is."""
    temper = Temperament("hostile", 1)
    chosen = {temper.item(asked("risk_manager", one["risk_manager"]), GOOD).name for one in every_packet()[:100]}
    assert {"size50", "nan", "negative", "size0approved", "injection"} <= chosen
    obliging = temper.answer(asked("risk_manager", {**taken(), "drawdown_percent": 99.0}))
    assert (obliging["decision"], obliging["size_multiplier"]) == ("APPROVED", 1.0)


def test_a_temperament_that_is_none_is_refused() -> None:
    """With the nearest one that is."""
    with pytest.raises(BadInput, match="did you mean hostile"):
        Temperament("hostil", 0)
    assert "sound" in TEMPERAMENTS


def words(text: str) -> int:
    return len(text.split())


def test_an_answer_is_as_brief_as_the_prompts_ask() -> None:
    """Readings of at most 12 words, 40 against, 15 for a conflict, 60 for a rationale."""
    for one in every_packet():
        for agent in ("quant", "strategist"):
            answer = answer_for(agent, one[agent])
            assert max(words(cited["reading"]) for cited in answer["evidence"]) <= 12
            assert words(answer["against"]) <= 40
        risk = answer_for("risk_manager", one["risk_manager"])
        assert all(words(conflict) <= 15 for conflict in risk["conflicts"])
        assert words(risk["rationale"]) <= 60


def test_an_answer_is_small() -> None:
    """A decision's three answers stay far under five kilobytes."""
    for one in every_packet():
        sizes = [len(json.dumps(answer_for(agent, one[agent])).encode()) for agent in SCHEMAS]
        assert sum(sizes) < 4000
        assert all(tokens("x" * size) < 512 for size in sizes)




def test_no_single_answer_rules_on_recorded_candidates(test_data: Path) -> None:
    """Over every recorded market and timeframe: valid, grounded, and none above four in five."""
    counts: dict[str, Counter[str]] = {agent: Counter() for agent in SCHEMAS}
    for _, series in recorded(test_data):
        signals = evaluate(STRATEGY, series)
        for row in edges(series, signals, 40):
            for agent, facts in packets(brief_at(series, signals, row)).items():
                answer = answer_for(agent, facts)
                checked(agent, json.dumps(answer), facts)
                counts[agent][answer[VOTES[agent]]] += 1
    for votes in counts.values():
        assert votes.total() >= 300
        assert max(votes.values()) <= 0.8 * votes.total()
