"""What models said, kept in a file and said again: a replay of a council needs no server and no key.

A cassette is JSONL, a line for each question: its key (agent, model, schema, prompt and packet, hashed), what was asked
in words for whoever reads the file, and the outcome whole, with every call. The same question may have been asked more
than once: its answers come in the order in which they were given, and the last one stays. A question that a cassette
does not know is an error: nothing is made up.
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
            raise BadInput(f"{path} holds no answers: record one with main.py replay --record FILE")

    def __len__(self) -> int:
        return sum(len(answers) for answers in self._answers.values())

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """The recorded outcome; `BadInput` when there is none for exactly this question."""
        answers = self._answers.get(question.key)
        if not answers:
            asked = f"the {question.agent.replace('_', ' ')} ({question.model.model}, {question.prompt.name})"
            why = "other candles, settings, models or prompts than it was recorded with"
            raise BadInput(f"{self._path} has no answer of {asked} to this candidate: {why}")
        return answers.pop(0) if len(answers) > 1 else answers[0]


class Recorder(Taped):
    """A `Panel` that asks another one and writes down every outcome, a line as it comes."""

    def __init__(self, panel: Panel, path: Path) -> None:
        self._panel = panel
        try:
            self._file: TextIO = path.open("w", encoding="ascii")
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error.strerror}") from error

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """The other panel's outcome."""
        outcome = await self._panel.ask(question, seconds)
        if outcome.status is Status.SKIPPED_BUDGET:
            raise BadInput(f"{outcome.problem}: a tape with holes is none, raise the caps under council in config.json")
        self._file.write(cassette_line(question.key, about(question), outcome))
        self._file.flush()
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


def told_line(said: Testimony) -> str:
    """The line of a question that was asked in a running market; empty where nobody was asked."""
    answer = said.answer
    if answer.status == Status.ABSTAIN:
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
