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

from tests.trading.council.test_models import Answers, approved_brief, council, well
from tests.trading.llm.test_caller import QUANT, RISK, question
from trading.council.questions import Outcome, Question
from trading.council.schemas import Status
from trading.errors import BadInput
from trading.events import AgentAnswer, ModelCall
from trading.events import Testimony as Said
from trading.hearing import Minutes
from trading.llm.cassette import Cassette, Recorder, about, cassette_line, left_out, told_line

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


SKIPPED = Outcome(status=Status.SKIPPED_BUDGET, problem="nothing is left")


def test_a_tape_has_no_holes(tmp_path: Path) -> None:
    """What the day's budget does not allow is no answer to keep: recording ends and says what to do."""
    recorder = Recorder(Saying([SKIPPED]), tmp_path / "t")
    told = r"nothing is left: .* goes on there .*higher caps"
    with contextlib.closing(recorder), pytest.raises(BadInput, match=told):
        asyncio.run(recorder.ask(asked(), 1.0))


def test_whoever_ends_by_itself_hears_of_the_hole(tmp_path: Path) -> None:
    """It is passed on, and what was said before it is kept."""
    path = tmp_path / "t"

    async def record() -> list[Outcome]:
        with contextlib.closing(Recorder(Saying([GOOD, SKIPPED]), path, holes=True)) as recorder:
            return [await recorder.ask(asked(packet), 1.0) for packet in ("[1]", "[2]")]

    assert asyncio.run(record()) == [GOOD, SKIPPED]
    assert path.read_text().count("\n") == 1
    assert played(path, asked("[1]")) == [GOOD]


def test_a_recording_goes_on_where_it_ended(tmp_path: Path) -> None:
    """What is on the tape was paid for: it is not asked again, not written again, and not lost."""
    path = recorded(tmp_path / "t", (asked("[1]"), GOOD))
    panel, other = Saying([Outcome(status=Status.OK, text="new")]), asked("[2]")

    async def record() -> list[Outcome]:
        with contextlib.closing(Recorder(panel, path)) as recorder:
            return [await recorder.ask(one, 1.0) for one in (asked("[1]"), other)]

    both = asyncio.run(record())
    assert (both[0], panel.asked) == (GOOD, [other])
    assert played(path, asked("[1]"), other) == both
    assert path.read_text().count("\n") == 2


def test_a_recording_never_replaces_what_is_no_cassette(tmp_path: Path) -> None:
    """A file of something else is refused and stays as it is; an empty one is a beginning."""
    path = tmp_path / "t"
    path.write_text("my diary\n")
    with pytest.raises(BadInput, match="line 1"):
        Recorder(Saying([]), path)
    assert path.read_text() == "my diary\n"
    path.write_text("")
    Recorder(Saying([]), path).close()


def test_what_nobody_asked_for_is_counted(tmp_path: Path) -> None:
    """A tape that was played to its end has nothing left, also where a question came twice."""
    path = recorded(tmp_path / "t", (asked(), GOOD), (asked("[1]"), GOOD), (asked(), GOOD))
    tape = Cassette(path)
    left = [tape.unplayed]
    for packet in ("{}", "{}", "{}", "[1]"):
        asyncio.run(tape.ask(asked(packet), 1.0))
        left.append(tape.unplayed)
    assert left == [3, 2, 1, 1, 0]


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
    """Another packet, model, schema, prompt, agent or provider is another question; how to make a tape is said."""
    path = recorded(tmp_path / "t", (asked(), GOOD))
    with pytest.raises(BadInput, match=r"has no answer of the .* council eval or replay, .*--record FILE"):
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


def test_a_question_without_an_answer_is_left_out(tmp_path: Path) -> None:
    """No budget was left, or the program was ending: the council decided nothing by it. A failure stays."""
    paid = (call(status="INVALID", raw="{"),)
    ended = said("ERROR", "the program is ending")
    for one in (said("SKIPPED_BUDGET", "no"), said("SKIPPED_BUDGET", "no", paid), ended):
        assert (told_line(one), left_out(one)) == ("", True)
    for kept in (said("ERROR", "left alone"), said("TIMEOUT", "no answer within 8 s"), said("QUOTA", "none is left")):
        assert told_line(kept)
        assert not left_out(kept)
    assert not left_out(said("ABSTAIN"))


async def test_agents_that_nobody_waited_for_are_left_out() -> None:
    """As a council tells it that is broken off while its Quant is silent: the Strategist has answered, and stays."""
    answered, hangs, minutes = asyncio.Event(), asyncio.Event(), Minutes()

    async def strategist(question: Question) -> Outcome:
        answered.set()
        return well(question)

    async def quant(question: Question) -> Outcome:
        await answered.wait()
        hangs.set()
        await asyncio.Event().wait()
        raise AssertionError

    panel = Answers({"quant": quant, "strategist": strategist})
    asking = asyncio.create_task(council("strict", panel).deliberate(approved_brief(), minutes))
    await hangs.wait()
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
    told = {one.answer.agent: (one.answer.status, left_out(one), bool(told_line(one))) for one in minutes.said}
    assert told["quant"] == ("ERROR", True, False)
    assert told["strategist"] == ("OK", False, True)
