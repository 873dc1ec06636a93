"""What is asked of an agent's model, and what came of it: the contract between the council and `trading.llm`.

A `Panel` asks. Behind it stand the real models with their deadlines, retries, keys and budget
(`trading.llm.caller`), a cassette that answers from a recording, or one that records what another panel says.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from trading.council.schemas import Facts, Status
from trading.events import ModelCall

PROVIDERS = ("huggingface", "gemini")


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A released prompt file: `name` is `quant/v001`, `sha256` that of its bytes; `user` has one `{{packet_json}}`.

    The last paragraph of `system` says the form of the answer.
    """

    agent: str
    name: str
    sha256: str
    system: str
    user: str

    def filled(self, packet: str) -> str:
        """The user part with the packet in its place."""
        return self.user.replace("{{packet_json}}", packet)

    @property
    def form(self) -> str:
        """The form of the answer: all that is needed to mend one."""
        return self.system.rpartition("\n\n")[2]


@dataclass(frozen=True, kw_only=True)
class AgentModel:
    """Which model an agent is: configuration, never a constant in code.

    Prices are USD for a million tokens; `max_tokens` bounds the answer, thinking included.
    """

    agent: str
    provider: str
    model: str
    max_tokens: int
    temperature: float
    price_in: float
    price_out: float


@dataclass(frozen=True, kw_only=True)
class Question:
    """One agent asked about one packet. `packet` is `facts` as JSON text; `schema` that of the answer."""

    model: AgentModel
    prompt: Prompt
    schema: Mapping[str, Any]
    packet: str
    facts: Facts

    @property
    def agent(self) -> str:
        """Who is asked: `quant`, `strategist` or `risk_manager`."""
        return self.prompt.agent

    @cached_property
    def schema_hash(self) -> str:
        """SHA-256 of the schema's canonical JSON."""
        return sha256(canonical(self.schema))

    @cached_property
    def key(self) -> str:
        """What a cassette knows the question by: agent, model, schema, prompt and packet, hashed."""
        model = self.model
        return question_key(
            self.agent, model.provider, model.model, self.schema_hash, self.prompt.sha256, self.packet
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a question. `text` is the model's answer exactly when the status is OK, else `problem` says why not.

    `alerts` are sentences about what the owner must do something about.
    """

    status: Status
    text: str = ""
    problem: str = ""
    calls: tuple[ModelCall, ...] = ()
    alerts: tuple[str, ...] = ()


class Panel(Protocol):
    """Asks models. Never raises for what a model or a network does: that is a status."""

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """An outcome within `seconds`, retries and one repair included; `BadInput` when a cassette does not know it.

        OK is an answer that was read, validated and grounded (`trading.council.reading`). Cancelled, it raises
        `trading.council.models.Interrupted`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Nobody:
    """A `Panel` for a council that was chosen and lost its models: `problem` says what is missing."""

    problem: str

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """Nobody answers."""
        return Outcome(status=Status.QUOTA, problem=self.problem)


class Taped:
    """Marks a `Panel` that plays a tape or keeps one: what it says must come in the same order every time, so that
    the council waits for it where it would not wait for models (mode `shadow`)."""


def question_key(agent: str, provider: str, model: str, schema_hash: str, prompt_hash: str, packet: str) -> str:
    """What tells a question from every other one."""
    return sha256(canonical([agent, provider, model, schema_hash, prompt_hash, packet]))


def canonical(value: object) -> str:
    """JSON text that is the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256(text: str) -> str:
    """Hexadecimal SHA-256 of UTF-8 text."""
    return hashlib.sha256(text.encode()).hexdigest()
