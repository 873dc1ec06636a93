"""The council of three models: Quant and Strategist side by side, then the Risk Manager, then code.

    strict     the models or nobody: an agent that does not answer is a rejection
    degraded   the rules twin votes for a missing Quant or Strategist, at half size; no Risk Manager is a rejection
    shadow     the rules decide at once, the models are heard and recorded

Neither of the first two sees the other, and the Risk Manager sees their enums and numbers, not their prose. Whatever a
model says, `aggregate` decides, and it can only veto or shrink.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Generic, TypeVar

from trading.council.aggregate import (
    QUANT,
    RISK_MANAGER,
    STRATEGIST,
    aggregate,
    quant_card,
    risk_manager_card,
    strategist_card,
    unanswered,
)
from trading.council.packet import (
    Market,
    Packet,
    PacketTerms,
    QuantPacket,
    StrategistPacket,
    mismatch,
    quant_packet,
    read_market,
    risk_packet,
    strategist_packet,
)
from trading.council.questions import (
    AgentModel,
    Outcome,
    Panel,
    Prompt,
    Question,
    Taped,
    canonical,
    sha256,
)
from trading.council.reading import read, schema_of
from trading.council.rules import RulesCouncil, cannot_judge
from trading.council.schemas import A, QuantAnswer, Reply, RiskManagerAnswer, Status, StrategistAnswer
from trading.council.twins import (
    QUANT_NEEDS,
    RISK_NEEDS,
    STRATEGIST_NEEDS,
    QuantTwin,
    StrategistTwin,
)
from trading.events import AgentAnswer, ModelCall, Opinion, Testimony
from trading.grades import TWIN_SHARE
from trading.ports import Brief, Deliberation, Witness

V = TypeVar("V", QuantAnswer, StrategistAnswer)
NAMES: Final = {QUANT: "Quant", STRATEGIST: "Strategist"}
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    QUANT: QUANT_NEEDS,
    STRATEGIST: STRATEGIST_NEEDS,
    RISK_MANAGER: RISK_NEEDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadlines:
    """Seconds: for the whole council, and for each agent with its retries and its repair."""

    council: float = 25.0
    agent: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seats:
    """Who sits on the council and how long is waited; `models` and `prompts` are by agent."""

    panel: Panel
    models: Mapping[str, AgentModel]
    prompts: Mapping[str, Prompt]
    terms: PacketTerms
    monotonic: Callable[[], float]
    deadlines: Deadlines = field(default_factory=Deadlines)


class Interrupted(asyncio.CancelledError):
    """Nobody waits for an answer any more; `calls` are those that were made, which have their price."""

    def __init__(self, calls: tuple[ModelCall, ...] = ()) -> None:
        super().__init__()
        self.calls = calls


class ModelCouncil:
    """A `Council` of mode `strict`, `degraded` or `shadow`."""

    def __init__(self, mode: str, seats: Seats) -> None:
        self._mode = mode
        self._seats = seats
        self._rules = RulesCouncil(seats.terms)
        self._overhearing: set[asyncio.Task[None]] = set()

    @property
    def mode(self) -> str:
        """The name in verdicts."""
        return self._mode

    @property
    def debates(self) -> bool:
        """Does a candidate wait for the models? Not in their shadow."""
        return self._mode != "shadow"

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """See `Council`; `BadInput` when a cassette does not know the candidate."""
        if problem := mismatch(brief):
            return cannot_judge(problem)
        market = read_market(brief.window)
        rules = self._rules.verdict_on(brief, market)
        debate = Debate(self._seats, self._mode, brief, market, witness)
        if self._mode == "shadow":
            task = asyncio.create_task(self._overhear(debate, witness))
            self._overhearing.add(task)
            task.add_done_callback(self._overhearing.discard)
            if isinstance(self._seats.panel, Taped):
                await task
            return rules
        ruling = await debate.ruling()
        beside = Opinion(council="rules", approved=rules.approved, size_modifier=rules.size_multiplier)
        return replace(ruling, opinions=(beside,))

    async def _overhear(self, debate: Debate, witness: Witness) -> None:
        witness.concluded("strict", await debate.ruling())


class Debate:
    """One brief before the three."""

    def __init__(self, seats: Seats, mode: str, brief: Brief, market: Market, witness: Witness) -> None:
        self._seats = seats
        self._mode = mode
        self._brief = brief
        self._market = market
        self._witness = witness
        self._ends = seats.monotonic() + seats.deadlines.council
        self._failed: dict[str, str] = {}
        self._stood_in: list[str] = []

    async def ruling(self) -> Deliberation:
        """The verdict of the models, and of who stands in for them."""
        brief, market, terms = self._brief, self._market, self._seats.terms
        seen = quant_packet(brief, market, terms), strategist_packet(brief, market, terms)
        quant, strategist = await self._both(*seen)
        if self._mode == "degraded":
            quant = self._or_twin(QUANT, quant, lambda: QuantTwin().answer(seen[0]))
            strategist = self._or_twin(STRATEGIST, strategist, lambda: StrategistTwin().answer(seen[1]))
        packet = risk_packet(brief, market, terms, quant, strategist)
        risk_manager = await self._ask(RISK_MANAGER, packet, RiskManagerAnswer)
        self._hear(RISK_MANAGER, packet, risk_manager, risk_manager_card(risk_manager.reply))
        return self._concluded(aggregate(brief.proposal.side, quant, strategist, risk_manager.reply))

    async def _both(
        self, quant: QuantPacket, strategist: StrategistPacket
    ) -> tuple[Reply[QuantAnswer], Reply[StrategistAnswer]]:
        """Side by side; told in one order, so that a replay tells the same."""
        first = asyncio.create_task(self._ask(QUANT, quant, QuantAnswer))
        second = asyncio.create_task(self._ask(STRATEGIST, strategist, StrategistAnswer))
        try:
            one = await first
            self._hear(QUANT, quant, one, quant_card(one.reply))
            other = await second
        finally:
            for task in (first, second):
                task.cancel()
            _, said = await asyncio.gather(first, second, return_exceptions=True)
            if not isinstance(said, BaseException):  # also when nobody waits for the Quant any more: it has cost money
                self._hear(STRATEGIST, strategist, said, strategist_card(said.reply))
        return one.reply, other.reply

    async def _ask(self, agent: str, packet: Packet, kind: type[A]) -> Asked[A]:
        """The answer of an agent's model; nobody is asked about what is not known."""
        if missing := packet.missing(NEEDS[agent]):
            return _nobody(Status.ABSTAIN, f"not known: {', '.join(missing)}")
        if agent not in self._seats.models:
            return _nobody(Status.ERROR, f"config.json names no model: write council.{agent} into it")
        seconds = min(self._seats.deadlines.agent, self._ends - self._seats.monotonic())
        if seconds <= 0:
            return _nobody(Status.TIMEOUT, "the council had no time left")
        question = self._question(agent, packet)
        try:
            outcome = await self._seats.panel.ask(question, seconds)
        except asyncio.CancelledError as cut:
            made = cut.calls if isinstance(cut, Interrupted) else ()
            nobody: Asked[A] = _nobody(Status.ERROR, "nobody waited for it any more")
            gone = Asked(nobody.reply, replace(nobody.outcome, calls=made))
            self._hear(agent, packet, gone, unanswered(agent, gone.reply))
            raise
        for text in outcome.alerts:
            self._witness.alerted(text)
        return Asked(_reply_of(question, outcome, kind), outcome)

    def _question(self, agent: str, packet: Packet) -> Question:
        return Question(
            model=self._seats.models[agent],
            prompt=self._seats.prompts[agent],
            schema=_schema(agent),
            packet=packet.json(),
            facts=packet.facts(),
        )

    def _hear(self, agent: str, packet: Packet, asked: Asked[A], answer: AgentAnswer) -> None:
        """Keep what an agent said, and remember that it failed."""
        model, prompt = self._seats.models.get(agent), self._seats.prompts[agent]
        if asked.reply.status not in (Status.OK, Status.ABSTAIN):
            self._failed[agent] = f"{asked.reply.status} ({asked.reply.problem or 'no reason given'})"
        self._witness.heard(
            Testimony(
                answer=answer,
                provider=model.provider if model else "",
                model=model.model if model else "",
                prompt=prompt.name,
                prompt_hash=prompt.sha256,
                schema_hash=_schema_hash(agent),
                packet=packet.json(),
                calls=asked.outcome.calls,
                twin=self._mode == "degraded" and agent != RISK_MANAGER and asked.reply.status is not Status.OK,
            )
        )

    def _or_twin(self, agent: str, reply: Reply[V], twin: Callable[[], Reply[V]]) -> Reply[V]:
        """The model's answer, or its twin's."""
        if reply.status is Status.OK:
            return reply
        self._stood_in.append(f"{NAMES[agent]} ({reply.status})")
        return twin()

    def _concluded(self, ruling: Deliberation) -> Deliberation:
        reasons, size = ruling.reasons, ruling.size_multiplier
        if self._stood_in:
            size *= TWIN_SHARE
            reasons = (*reasons, f"Its rules twin voted for the {' and the '.join(self._stood_in)}: at most half size.")
        return replace(ruling, reasons=reasons, size_multiplier=size, failed=dict(self._failed))


@dataclass(frozen=True, slots=True)
class Asked(Generic[A]):
    """A reply with what led to it."""

    reply: Reply[A]
    outcome: Outcome


@functools.cache
def _schema(agent: str) -> Mapping[str, Any]:
    """It takes longer to write down than a packet."""
    return schema_of(agent)


@functools.cache
def _schema_hash(agent: str) -> str:
    return sha256(canonical(_schema(agent)))


def _nobody(status: Status, problem: str) -> Asked[A]:
    """No model was asked, or none was listened to."""
    return Asked(Reply(status=status, problem=problem), Outcome(status=status, problem=problem))


def _reply_of(question: Question, outcome: Outcome, kind: type[A]) -> Reply[A]:
    """What the council works with: the text is read here again, whoever has read it before."""
    if outcome.status is not Status.OK:
        return Reply(status=outcome.status, problem=outcome.problem)
    found = read(question.agent, outcome.text, question.facts)
    if isinstance(found.answer, kind):
        return Reply(status=Status.OK, answer=found.answer)
    return Reply(status=Status.INVALID, problem="; ".join(found.problems))
