"""One decision from packet to order: all that is stored, in lines that a terminal shows as they are."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.views.dossier import COLUMNS, dossier_object, dossier_text
from bot.views.table import width
from storage.council import CouncilRecords, Dossier
from storage.database import open_database
from storage.journal import SqlJournal
from storage.queries import Story
from tests.storage import samples
from tests.storage.samples import agent_answer, answered, model_call
from trading import events as ev
from trading.events import AgentAnswer, AgentAnswered

PACKET = '{"side":"long","rsi":61.5,"rsi_divergence":null}'
QUANT = AgentAnswer(
    agent="quant",
    status="OK",
    vote="LONG",
    p_win=0.61,
    text="momentum is with it",
    against="a late entry",
    details={"evidence": [{"key": "rsi", "value": 61.5, "reading": "above its middle"}]},
)
MANAGER = agent_answer("risk_manager", "APPROVED", details={"hazards": [], "size_multiplier": 0.5})


def heard(answer: AgentAnswer, *calls: ev.ModelCall, **changes: Any) -> AgentAnswered:
    """An agent that was asked, with a packet of its own."""
    event = answered(1, answer, *calls)
    return replace(event, said=replace(event.said, **({"packet": PACKET} | changes)))


def a_dossier(**changes: Any) -> Dossier:
    """A candidate that the models approved at half size, that was traded and closed."""
    voices = (QUANT, agent_answer("strategist", "CHOPPY"), MANAGER)
    verdict = replace(
        samples.verdict(1), council="strict", answers=voices, size_modifier=0.5, clamp="", debated=True,
        opinions=(ev.Opinion(council="rules", approved=False, size_modifier=0.0),),
    )  # fmt: skip
    first = model_call(1, status="INVALID")
    calls = (first, replace(model_call(2), repair=True))
    testimonies = (heard(QUANT, *calls), heard(voices[1], model_call(1)), heard(MANAGER))
    trade = (samples.intended(), samples.filled(), samples.closed())
    story = Story(verdict=verdict, outcome="closed", events=trade, shadow=samples.shadow_ended(1))
    fields: dict[str, Any] = {
        "candidate": samples.proposed(1), "testimonies": testimonies, "opinion": None, "story": story,
    }  # fmt: skip
    return Dossier(**(fields | changes))


def told(dossier: Dossier) -> str:
    """The text, every line of which a terminal shows where it was put."""
    text = dossier_text(dossier)
    for line in text.split("\n"):
        assert width(line) <= COLUMNS, line
        assert line.isprintable(), ascii(line)
    return re.sub("  +", "  ", text)


def test_everything_of_a_decision_is_told() -> None:
    """From packet to order, in the order in which it happened."""
    text = told(a_dossier())
    wanted = [
        "DECISION 1  LONG BTCUSDT  APPROVED  (council strict)",
        "PROPOSAL",
        "  stop  62,650; 1R is 760.1 = 4.00 ATR of 190.02",
        "  target  the trailing stop alone",
        "  base size  0.01, at risk 7.60 USDT",
        "QUANT",
        "  asked  deepseek-ai/DeepSeek-V3.1:fireworks-ai (huggingface), ",
        "  prompt  quant/v001  aaaaaaaa",
        "  packet  48 bytes",
        '  |  "rsi": 61.5,',
        "  call 1  INVALID, HTTP 200, finish stop, 1,250 ms, key …ab12",
        "9,000 bytes in, 700 out; 2,100 tokens in, 160 out; 0.000123 USD",
        "  problem  it went wrong",
        '  | {"signal": "LONG "}',
        "  call 2 repair  OK",
        "  together  2 calls, 2,500 ms; 18,000 bytes in, 1,400 out; 4,200 tokens in, 320 out;",
        "  read  LONG, p(win) 0.61",
        "  because  momentum is with it",
        "  but  a late entry",
        "  evidence  rsi = 61.5: above its middle",
        "STRATEGIST",
        "RISK MANAGER",
        "  calls  none was made",
        "  hazards  none",
        "  size multiplier  0.5",
        "VERDICT",
        "  gates  guards passed, council passed, size passed, sent",
        "  size  0.01 (50% of the base size), at risk 7.60 USDT",
        "OTHER COUNCILS",
        "  rules  would reject",
        "ORDER",
        "intended cv-1-e: entry limit buy 0.01 at 63,410.1, stop 62,650",
        "filled cv-1-e: entry buy 0.01 at 63,410.1, maker, fee 0.13 USDT",
        "closed by trailing at 65,140.1: +17.30 USDT = +1.90R; fees 0.93 USDT, funding",
        "  came to  closed",
        "SHADOW",
        "  ended  by trailing at 64,550.25: +1.50R after costs",
    ]
    place = 0
    for part in wanted:
        assert part in text[place:], f"{part!r} is missing after\n{text[:place]}\n----\n{text[place:]}"
        place = text.index(part, place)


def test_a_twin_that_stood_in_is_told_beside_the_model_that_failed() -> None:
    """Both: what the model did, and what the rules said in its place."""
    failed = agent_answer("quant", status="TIMEOUT")
    dossier = a_dossier(testimonies=(heard(failed, model_call(1, status="TIMEOUT"), twin=True),))
    text = told(dossier)
    assert "read  TIMEOUT: because" in text
    assert "its rules in code voted in its place, at half size" in text
    assert "2,100 tokens in, – out" in text
    assert text.count("QUANT\n") == 2
    assert "  asked  its rules in code" in text


def test_the_models_in_the_shadow_of_the_rules() -> None:
    """The rules' votes, and the opinion that came later."""
    later = samples.opinion(1, size=0.25)
    text = told(a_dossier(opinion=later, candidate=None))
    assert "strict  would approve at 25% of the base size\n  - because" in text


def test_what_is_not_there_is_said() -> None:
    """A debate that goes on; a candidate that code refused; nothing but a testimony."""
    debate = told(a_dossier(story=None, testimonies=()))
    assert debate.startswith("DECISION 1  LONG BTCUSDT  UNDER DEBATE  (council strict)")
    assert "AGENTS\n  asked  nobody" in debate
    assert "VERDICT\n  none yet" in debate
    refused = replace(samples.verdict(1, approved=False), gate="guard", answers=(), reasons=("a falling knife",))
    guarded = told(a_dossier(candidate=None, testimonies=(), story=Story(verdict=refused, outcome="rejected")))
    assert "REJECTED by guard" in guarded
    assert "gates  stopped by the guards" in guarded
    assert "reasons  - a falling knife" in guarded
    assert "ORDER\n  none was sent" in guarded
    assert "no end is stored: it is followed on its own" in guarded
    left = a_dossier(story=Story(verdict=refused, outcome="rejected"), followed=False)
    assert "no end is stored: nobody has followed it" in told(left)
    assert told(a_dossier(candidate=None, story=None)).startswith("DECISION 1\n")
    unfilled = Story(verdict=refused, outcome="rejected", shadow=samples.shadow_ended(1, r=None))
    assert "its entry would not have filled" in told(a_dossier(story=unfilled))


def test_a_long_answer_is_cut_on_the_screen_and_whole_in_json() -> None:
    """A megabyte of it is not printed."""
    long = replace(model_call(1), raw="漢" * 1_000_000)
    dossier = a_dossier(testimonies=(heard(QUANT, long),))
    text = told(dossier)
    assert "… 992,000 characters more: --json has them" in text
    assert dossier_object(dossier)["testimonies"][0]["said"]["calls"][0]["raw"] == long.raw


def test_the_object_is_every_stored_event() -> None:
    """JSON types only, amounts exact."""
    whole = json.loads(json.dumps(dossier_object(a_dossier()), allow_nan=False))
    assert (whole["verdict_id"], whole["outcome"]) == (1, "closed")
    assert whole["candidate"]["event"] == "CandidateProposed"
    assert [each["event"] for each in whole["events"]] == ["OrderIntended", "OrderFilled", "TradeClosed"]
    assert whole["testimonies"][0]["said"]["calls"][1]["cost_usd"] == "0.000123"
    assert (whole["verdict"]["size_modifier"], whole["shadow"]["r"], whole["opinion"]) == (0.5, 1.5, None)


async def test_a_stored_decision_is_told_from_the_database(tmp_path: Path) -> None:
    """What the journal holds is what is shown."""
    wanted = a_dossier()
    story = wanted.story
    assert story is not None
    shadow = samples.shadow_ended(1)
    db = await open_database(tmp_path / "conclave.db")
    try:
        journal = SqlJournal(db, "paper", clock=samples.wall)
        said = [replace(each, verdict_id=1) for each in wanted.testimonies]
        await journal.append([samples.proposed(1), *said, story.verdict, *story.events, shadow])
        found = await CouncilRecords(db, "paper").dossier(1)
        assert found is not None
        assert told(found) == told(wanted)
        assert await CouncilRecords(db, "paper").dossier(2) is None
    finally:
        await db.close()


NASTY = (
    *("\x1b[2J", "\u202eabc", "שלום 12", "漢字 漢字", "👨\u200d👩\u200d👧", "\x00\x07", "\n\n\r\t", "\ud800"),
    *("x" * 5_000, "", '{"a":' * 200, "a b " * 1_000, "\u0301" * 50),
)
WORDS = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=()), max_size=60)


@given(text=WORDS, other=WORDS, details=st.dictionaries(WORDS, st.lists(WORDS, max_size=2) | WORDS, max_size=2))
def test_whatever_a_model_says(text: str, other: str, details: dict[str, Any]) -> None:
    """No line is too wide, none moves the cursor."""
    answer = replace(QUANT, agent=text or "quant", vote=other, text=text, against=other, details=details)
    call = replace(model_call(1), raw=text + other, problem=other, finish=text, key=other, status=text)
    told(a_dossier(testimonies=(heard(answer, call, model=text, packet=other, prompt=text, provider=other),)))


@given(events=st.lists(samples.every_event(), max_size=3), verdict=samples.built(ev.VerdictReached))
def test_whatever_came_of_it(events: list[ev.Event], verdict: ev.VerdictReached) -> None:
    """Every event of the journal has its words."""
    told(a_dossier(story=Story(verdict=verdict, outcome="closed", events=tuple(events))))


@pytest.mark.parametrize("gate", ["guard", "council", "risk", "operator", "superseded", "something new"])
def test_every_gate_has_its_words(gate: str) -> None:
    """Where the candidate came to its end."""
    verdict = replace(samples.verdict(1, approved=False), gate=gate)
    assert "  gates  " in told(a_dossier(story=Story(verdict=verdict, outcome="rejected")))


def test_the_day_of_a_decision_is_in_utc() -> None:
    """Whatever zone the chat speaks."""
    at = samples.START + timedelta(seconds=5)
    verdict = replace(samples.verdict(1), at=at)
    text = told(a_dossier(story=Story(verdict=verdict, outcome="approved")))
    assert f"decided {at:%Y-%m-%d %H:%M:%S} UTC" in text
