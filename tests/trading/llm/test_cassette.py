"""Cassettes: what is recorded is said again word for word, and what was never said is an error."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.llm.test_caller import QUANT, RISK, question
from trading.council.questions import Outcome, Question
from trading.council.schemas import Status
from trading.errors import BadInput
from trading.events import AgentAnswer, ModelCall
from trading.events import Testimony as Said
from trading.llm.cassette import Cassette, Recorder, about, cassette_line, told_line

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
counts = st.integers(0, 2**40)
calls = st.builds(
    ModelCall,
    attempt=st.integers(1, 9),
    repair=st.booleans(),
    status=st.sampled_from([str(status) for status in Status]),
    code=st.integers(0, 599),
    finish=texts,
    raw=texts,
    problem=texts,
    latency_ms=counts,
    bytes_in=counts,
    bytes_out=counts,
    tokens_in=st.none() | counts,
    tokens_out=st.none() | counts,
    cost_usd=st.decimals(min_value=0, max_value=1000, allow_nan=False, allow_infinity=False),
    key=texts,
)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from(Status),
    text=texts,
    problem=texts,
    calls=st.lists(calls, max_size=3).map(tuple),
    alerts=st.lists(texts, max_size=2).map(tuple),
)
GOOD = Outcome(status=Status.OK, text="yes")


def asked(packet: str = "{}", model: str = "deep/seek") -> Question:
    """A question; other packets and models are other questions."""
    return replace(question(replace(QUANT, model=model)), packet=packet)


@dataclass
class Saying:
    """A panel that says one thing after another."""

    outcomes: list[Outcome]
    asked: list[Question] = field(default_factory=list)

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """The next one."""
        self.asked.append(question)
        return self.outcomes[len(self.asked) - 1]


def recorded(path: Path, *told: tuple[Question, Outcome]) -> Path:
    """A cassette of these."""

    async def record() -> None:
        recorder = Recorder(Saying([outcome for _, outcome in told]), path)
        for one, outcome in told:
            assert await recorder.ask(one, 1.0) == outcome
        recorder.close()

    asyncio.run(record())
    return path


def played(path: Path, *asked: Question) -> list[Outcome]:
    """What the cassette answers."""

    async def play() -> list[Outcome]:
        tape = Cassette(path)
        return [await tape.ask(one, 1.0) for one in asked]

    return asyncio.run(play())


@given(outcomes.filter(lambda outcome: outcome.status is not Status.SKIPPED_BUDGET))
def test_any_outcome_comes_back_whole(tmp_path_factory: pytest.TempPathFactory, outcome: Outcome) -> None:
    """Every status, every text and every call, to the last digit."""
    path = recorded(tmp_path_factory.mktemp("tape") / "tape.jsonl", (asked(), outcome))
    assert played(path, asked()) == [outcome]
    assert path.read_bytes().isascii()
    assert path.read_text().count("\n") == 1


def test_a_tape_has_no_holes(tmp_path: Path) -> None:
    """What the day's budget does not allow is no answer to keep: recording ends and says what to do."""
    recorder = Recorder(Saying([Outcome(status=Status.SKIPPED_BUDGET, problem="nothing is left")]), tmp_path / "t")
    with contextlib.closing(recorder), pytest.raises(BadInput, match="raise the caps"):
        asyncio.run(recorder.ask(asked(), 1.0))


def test_a_repeated_question(tmp_path: Path) -> None:
    """Its answers come in their order, and the last one stays."""
    first, second = (Outcome(status=Status.OK, text=text) for text in ("one", "two"))
    path = recorded(tmp_path / "t", (asked(), first), (asked("[1]"), GOOD), (asked(), second))
    assert len(Cassette(path)) == 3
    assert played(path, asked(), asked(), asked(), asked("[1]")) == [first, second, second, GOOD]


@pytest.mark.parametrize(
    "other",
    [
        asked('{"a":1}'),
        asked(model="another/model"),
        question(RISK),
        replace(asked(), model=replace(QUANT, provider="gemini")),
        replace(asked(), schema={}),
        replace(asked(), prompt=replace(asked().prompt, sha256="1" * 64)),
        replace(asked(), prompt=replace(asked().prompt, agent="strategist")),
    ],
)
def test_what_was_never_asked(tmp_path: Path, other: Question) -> None:
    """Another packet, model, schema, prompt, agent or provider is another question."""
    path = recorded(tmp_path / "t", (asked(), GOOD))
    with pytest.raises(BadInput, match="has no answer of the"):
        played(path, other)


def test_settings_of_a_model_are_no_other_question(tmp_path: Path) -> None:
    """Prices and limits may change between a recording and its replay."""
    path = recorded(tmp_path / "t", (asked(), GOOD))
    assert played(path, replace(asked(), model=replace(QUANT, price_in=9.0, max_tokens=1))) == [GOOD]


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": None},
        {"status": "FINE"},
        {"calls": [{}]},
        {"calls": {}},
        {"calls": 3},
        {"alerts": None},
        {"key": None},
        {"text": 5},
        {"problem": ["no"]},
        {"alerts": "a sentence"},
        {"more": 1},
    ],
)
def test_a_line_that_nobody_wrote(tmp_path: Path, change: dict[str, object]) -> None:
    """Refused with its number, before anything is answered."""
    path = tmp_path / "tape.jsonl"
    line = cassette_line("0" * 64, about(asked()), GOOD)
    path.write_text(line + "\n" + json.dumps(json.loads(line) | change) + "\n")
    with pytest.raises(BadInput, match=r"tape\.jsonl: line 3"):
        Cassette(path)


@pytest.mark.parametrize(
    "change",
    [
        {"latency_ms": "5"},
        {"latency_ms": True},
        {"repair": 1},
        {"cost_usd": "many"},
        {"cost_usd": "NaN"},
        {"cost_usd": float("inf")},
        {"key": 1},
        {"more": 1},
    ],
)
def test_a_call_that_nobody_wrote(tmp_path: Path, change: dict[str, object]) -> None:
    """The same of what lies deeper: where it is wrong is said."""
    path = tmp_path / "t"
    line = json.loads(cassette_line("0" * 64, about(asked()), replace(GOOD, calls=(call(),))))
    line["calls"][0] |= change
    path.write_text(json.dumps(line) + "\n")
    (name,) = change
    with pytest.raises(BadInput, match=rf"line 1 .*calls\.0\.{name}"):
        Cassette(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", b"\x80"])
def test_a_file_that_is_no_cassette(tmp_path: Path, content: bytes) -> None:
    """Empty, or no text at all."""
    path = tmp_path / "t"
    path.write_bytes(content)
    with pytest.raises(BadInput):
        Cassette(path)


def test_files_that_cannot_be_had(tmp_path: Path) -> None:
    """Not there, a folder, or nowhere to write to."""
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(BadInput, match="cannot be read"):
            Cassette(path)
    for path in (tmp_path / "no" / "folder", tmp_path):
        with pytest.raises(BadInput, match="cannot be written"):
            Recorder(Saying([]), path)


def call(**changes: object) -> ModelCall:
    """A good call; pass what differs."""
    plain = ModelCall(
        attempt=1,
        repair=False,
        status="OK",
        code=200,
        finish="stop",
        raw="{}",
        problem="",
        latency_ms=5,
        bytes_in=10,
        bytes_out=2,
        tokens_in=3,
        tokens_out=1,
        cost_usd=Decimal("0.00012"),
        key="abcd",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def said(status: str, text: str = "a line for people", calls: tuple[ModelCall, ...] = (), packet: str = "{}") -> Said:
    """What a running market kept of the question."""
    one = asked(packet)
    return Said(
        answer=AgentAnswer(agent="quant", status=status, vote="", p_win=None, text=text),
        provider=one.model.provider,
        model=one.model.model,
        prompt=one.prompt.name,
        prompt_hash=one.prompt.sha256,
        schema_hash=one.schema_hash,
        packet=packet,
        calls=calls,
    )


def test_what_a_run_kept_is_a_cassette_too(tmp_path: Path) -> None:
    """A good answer is the last call's text, a bad one its problem; nobody was asked about an abstention."""
    good = (call(status="INVALID", raw="{"), call(repair=True, raw='{"a": 1}'))
    failed = (call(status="TIMEOUT", raw="", code=0),)
    lines = [
        told_line(said("OK", calls=good)),
        told_line(said("TIMEOUT", "no answer within 8 s", failed, packet="[1]")),
        told_line(said("ERROR", "left alone", packet="[2]")),
    ]
    assert told_line(said("ABSTAIN")) == ""
    path = tmp_path / "t"
    path.write_text("".join(lines))
    assert played(path, asked(), asked("[1]"), asked("[2]")) == [
        Outcome(status=Status.OK, text='{"a": 1}', calls=good),
        Outcome(status=Status.TIMEOUT, problem="no answer within 8 s", calls=failed),
        Outcome(status=Status.ERROR, problem="left alone"),
    ]
