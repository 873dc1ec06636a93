"""What models said, kept in a file and said again: a replay of a council needs no server and no key.

A cassette is JSONL, a line for each question: its key (agent, model, schema, prompt and packet, hashed), what was asked
in words for whoever reads the file, and the outcome whole, with every call. The same question may have been asked more
than once: its answers come in the order in which they were given, and the last one stays. A question that a cassette
does not know is an error: nothing is made up. A question that nobody waited for, or that no budget was left for, has no
answer and is not on it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from trading.council.questions import Outcome, Panel, Question, Taped, question_key
from trading.council.schemas import Status
from trading.errors import BadInput
from trading.events import ModelCall, Testimony

VERSION: Final = 1
_NOBODY_WAITED: Final = frozenset({"nobody waited for it any more", "the program is ending"})
"""What the council and the models say of a question that was broken off, or not asked, because the asker was gone."""
_UNFIT: Final = (
    "other candles, settings, models or prompts than it was recorded with, or another command (council eval asks about "
    "every candidate, on a flat account; replay and run about what they trade): make one that fits with council eval "
    "or replay, --council strict --record FILE, on the same candles and settings"
)


class Unrecorded(BadInput):
    """A question that a cassette does not know."""


class Cassette(Taped):
    """A `Panel` that answers from a recording."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[str, list[Outcome]] = {}
        for number, line in enumerate(_lines(path), 1):
            if line.strip():
                key, outcome = _read(line, f"{path}: line {number}")
                self._answers.setdefault(key, []).append(outcome)
        if not self._answers:
            raise BadInput(f"{path} holds no answers: main.py council eval and replay make one with --record FILE")
        self._played: set[str] = set()

    def __len__(self) -> int:
        return sum(len(answers) for answers in self._answers.values())

    @property
    def unplayed(self) -> int:
        """How many of its answers nobody has asked for."""
        return len(self) - len(self._played)

    def knows(self, question: Question) -> bool:
        """Is there an answer to exactly this question?"""
        return question.key in self._answers

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """The recorded outcome; `Unrecorded` when there is none for exactly this question."""
        answers = self._answers.get(question.key)
        if not answers:
            asked = f"the {question.agent.replace('_', ' ')} ({question.model.model}, {question.prompt.name})"
            raise Unrecorded(f"{self._path} has no answer of {asked} to this candidate: {_UNFIT}")
        if len(answers) > 1:
            return answers.pop(0)
        self._played.add(question.key)
        return answers[0]


def kept(path: Path) -> Cassette | None:
    """What a file holds that a recording goes on in; None where there is nothing yet."""
    return Cassette(path) if path.is_file() and path.stat().st_size else None


class Recorder(Taped):
    """A `Panel` that asks another one and writes down every outcome, a line as it comes.

    A cassette that is there already goes on where it ended: what it knows has been paid for and is not asked again.
    What the day's budget does not allow is not written down: with `holes` it is passed on, else it is a `BadInput`.
    """

    def __init__(self, panel: Panel, path: Path, *, holes: bool = False) -> None:
        self._panel, self._path, self._holes = panel, path, holes
        self._before = kept(path)
        try:
            self._file: TextIO = path.open("a", encoding="ascii")
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from error

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """The outcome on the cassette, else the other panel's."""
        if self._before is not None and self._before.knows(question):
            return await self._before.ask(question, seconds)
        outcome = await self._panel.ask(question, seconds)
        if outcome.status is not Status.SKIPPED_BUDGET:
            self._file.write(cassette_line(question.key, about(question), outcome))
            self._file.flush()
        elif not self._holes:
            goes_on = f"{self._path} keeps what was said, and the same command goes on there"
            raise BadInput(f"{outcome.problem}: {goes_on} tomorrow, or with higher caps under council in config.json")
        return outcome

    def close(self) -> None:
        """Nothing more is recorded."""
        self._file.close()


def about(question: Question) -> dict[str, str]:
    """What was asked, for whoever reads the file."""
    return {
        "agent": question.agent,
        "provider": question.model.provider,
        "model": question.model.model,
        "prompt": question.prompt.name,
        "packet": question.packet,
    }


def left_out(said: Testimony) -> bool:
    """Was a question of a running market never answered, because no budget was left or nobody waited for it?

    That is no answer: the council decided nothing by it.
    """
    answer = said.answer
    gone = answer.status == Status.ERROR and answer.text in _NOBODY_WAITED
    return gone or answer.status == Status.SKIPPED_BUDGET


def told_line(said: Testimony) -> str:
    """The line of a question that was asked in a running market; empty where nobody was asked or has answered."""
    answer = said.answer
    if answer.status == Status.ABSTAIN or left_out(said):
        return ""
    asked = {"agent": answer.agent, "provider": said.provider, "model": said.model}
    key = question_key(**asked, schema_hash=said.schema_hash, prompt_hash=said.prompt_hash, packet=said.packet)
    well = answer.status == Status.OK and said.calls
    outcome = Outcome(
        status=Status(answer.status),
        text=said.calls[-1].raw if well else "",
        problem="" if well else answer.text,
        calls=said.calls,
    )
    return cassette_line(key, {**asked, "prompt": said.prompt, "packet": said.packet}, outcome)


def cassette_line(key: str, asked: Mapping[str, str], outcome: Outcome) -> str:
    """One line of a cassette."""
    calls = [{**dataclasses.asdict(call), "cost_usd": str(call.cost_usd)} for call in outcome.calls]
    said = {"status": str(outcome.status), "text": outcome.text, "problem": outcome.problem, "calls": calls}
    line = {"version": VERSION, "key": key, **asked, **said, "alerts": list(outcome.alerts)}
    return json.dumps(line, separators=(",", ":")) + "\n"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8").splitlines()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BadInput(f"{path} is no cassette: it is not text") from None


def _read(line: str, where: str) -> tuple[str, Outcome]:
    """The key and the outcome of a line; `BadInput` for what no recorder wrote."""
    try:
        held = _Line.model_validate_json(line)
    except ValidationError as error:
        if version := _other_version(line):
            raise BadInput(f"{where}: a cassette of version {version}, this program reads {VERSION}") from None
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "it"
        raise BadInput(f"{where} is no line of a cassette ({place}: {first['msg']}): record it again") from None
    outcome = Outcome(
        status=held.status, text=held.text, problem=held.problem, calls=held.calls, alerts=held.alerts
    )
    return held.key, outcome


def _other_version(line: str) -> str:
    """The version of a line that is sound in itself."""
    try:
        held = json.loads(line)
    except (ValueError, RecursionError):
        return ""
    version = held.get("version") if isinstance(held, dict) else None
    return str(version) if isinstance(version, int) and version != VERSION else ""


class _Line(BaseModel):
    """A line as it is written; what nobody wrote is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    version: Literal[1]
    key: str
    agent: str
    provider: str
    model: str
    prompt: str
    packet: str
    status: Status
    text: str
    problem: str
    calls: tuple[ModelCall, ...]
    alerts: tuple[str, ...]
