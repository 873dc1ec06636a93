"""The council of models in every mode, before panels of which it is known what they say and how long they take."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pytest

from tests.trading.council.candidates import STRATEGY, TERMS, brief_at, edges, synthetic
from trading import events as ev
from trading.council.mirror import packet_from_facts
from trading.council.models import Deadlines, Interrupted, ModelCouncil, Seats
from trading.council.prompting import load_prompts
from trading.council.questions import AgentModel, Outcome, Panel, Question, Taped
from trading.council.rules import RulesCouncil
from trading.council.schemas import Status
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin
from trading.errors import BadInput
from trading.events import ModelCall, Opinion
from trading.hearing import Minutes
from trading.ports import Brief, Deliberation
from trading.strategy import evaluate

AGENTS: Final = ("quant", "strategist", "risk_manager")
PROMPTS: Final = load_prompts()
MODELS: Final = {
    agent: AgentModel(
        agent=agent,
        provider="gemini" if agent == "risk_manager" else "huggingface",
        model=f"a model for the {agent}",
        max_tokens=2048,
        temperature=0.0,
        price_in=1.0,
        price_out=1.0,
    )
    for agent in AGENTS
}
TWINS: Final[Mapping[str, Any]] = dict(zip(AGENTS, (QuantTwin(), StrategistTwin(), RiskManagerTwin()), strict=True))
HANGS: Final = 100.0  # seconds
SERIES = synthetic()
SIGNALS = evaluate(STRATEGY, SERIES)
RULES = RulesCouncil(TERMS)
BRIEFS = [brief_at(SERIES, SIGNALS, row) for row in edges(SERIES, SIGNALS, 60)]
CALL: Final = ModelCall(
    attempt=1,
    repair=False,
    status="OK",
    code=200,
    finish="stop",
    raw="",
    problem="",
    latency_ms=7,
    bytes_in=1,
    bytes_out=1,
    tokens_in=1,
    tokens_out=1,
    cost_usd=Decimal("0.001"),
    key="abcd",
)


def approved_brief() -> Brief:
    """A candidate that the twins let pass at full size."""
    return next(brief for brief in BRIEFS if RULES.verdict(brief).size_multiplier == 1.0)


def well(question: Question) -> Outcome:
    """What the agent's twin says of the packet, as a model would write it."""
    said = TWINS[question.agent].answer(packet_from_facts(question.agent, dict(question.facts))).answer
    return Outcome(status=Status.OK, text=said.model_dump_json(), calls=(CALL,))


def failed(status: Status) -> Outcome:
    """What comes of a model that does not answer."""
    alerts = ("a key is used up",) if status is Status.QUOTA else ()
    return Outcome(status=status, problem=f"it was {status.lower()}", calls=(CALL,), alerts=alerts)


@dataclass
class Known:
    """A panel: a status for each agent, and how long each takes, in seconds of its own clock."""

    statuses: Mapping[str, Status] = field(default_factory=dict)
    takes: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0
    asked: list[tuple[str, float]] = field(default_factory=list)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """As it was told."""
        self.asked.append((question.agent, seconds))
        if (takes := self.takes.get(question.agent, 0.0)) > HANGS:
            self.hangs.set()
        try:
            await asyncio.sleep(takes / self.scale)
        except asyncio.CancelledError:
            raise Interrupted((CALL,)) from None
        status = self.statuses.get(question.agent, Status.OK)
        return well(question) if status is Status.OK else failed(status)

    def monotonic(self) -> float:
        """Its own clock."""
        return time.monotonic() * self.scale


@dataclass
class Answers:
    """A panel that answers with whatever it is given."""

    by_agent: Mapping[str, Callable[[Question], Awaitable[Outcome]]]

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """The agent's own, else what its twin says."""
        return await self.by_agent[question.agent](question) if question.agent in self.by_agent else well(question)


def council(mode: str, panel: Panel, monotonic: Callable[[], float] = time.monotonic, **more: Any) -> ModelCouncil:
    """The council before this panel."""
    return ModelCouncil(
        mode, Seats(panel=panel, models=MODELS, prompts=PROMPTS, terms=TERMS, monotonic=monotonic, **more)
    )


class Waited(Minutes):
    """Minutes of a council in the shadow: they can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._concluded = asyncio.Event()

    def concluded(self, council: str, ruling: Deliberation) -> None:
        """What the models would have decided."""
        super().concluded(council, ruling)
        self._concluded.set()

    async def all(self) -> Deliberation:
        """What the models concluded."""
        await asyncio.wait_for(self._concluded.wait(), 5)
        ((name, ruling),) = self.opinions
        assert name == "strict"
        return ruling


# ---- who may approve -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["strict", "degraded", "shadow"])
async def test_every_combination_of_failures(mode: str) -> None:
    """All of seven statuses for each of three agents: approved only when it may be, and at half size at most."""
    brief = approved_brief()
    rules = RULES.verdict(brief)
    for statuses in itertools.product(Status, repeat=3):
        named = dict(zip(AGENTS, statuses, strict=True))
        minutes = Waited()
        ruling = await council(mode, Known(named)).deliberate(brief, minutes)
        if mode == "shadow":
            assert ruling == rules
            ruling = await minutes.all()
        holds(mode, named, ruling)
        quotas = [agent for agent in ruling.failed if named[agent] is Status.QUOTA]
        assert minutes.alerts == ["a key is used up"] * len(quotas)
        told(mode, named, minutes.said)


def holds(mode: str, statuses: Mapping[str, Status], ruling: Deliberation) -> None:
    """What a verdict may be after these."""
    missing = [agent for agent, status in statuses.items() if status is not Status.OK]
    voters_missing = [agent for agent in missing if agent != "risk_manager"]
    may = not missing if mode != "degraded" else "risk_manager" not in missing
    assert ruling.approved is may, (statuses, ruling.reasons)
    most = 0.0 if not may else 0.5 if voters_missing else 1.0
    assert ruling.size_multiplier == most
    asked_last = mode == "degraded" or not voters_missing
    known = {agent for agent in missing if statuses[agent] is not Status.ABSTAIN}
    assert set(ruling.failed) == (known if asked_last else known - {"risk_manager"})
    assert all(str(statuses[agent]) in why for agent, why in ruling.failed.items())
    if mode != "shadow":
        assert ruling.opinions == (Opinion(council="rules", approved=True, size_modifier=1.0),)


def told(mode: str, statuses: Mapping[str, Status], said: list[ev.Testimony]) -> None:
    """Each agent once, in one order, with its call; where a twin voted, that is said."""
    assert [each.answer.agent for each in said] == list(AGENTS)
    for each in said:
        status = statuses[each.answer.agent]
        if each.calls:
            assert each.answer.status == status
        else:  # nobody asks the Risk Manager about votes that are not there
            assert (each.answer.agent, each.answer.status) == ("risk_manager", Status.ABSTAIN)
        assert each.twin is (mode == "degraded" and each.answer.agent != "risk_manager" and status is not Status.OK)


@pytest.mark.parametrize("mode", ["strict", "degraded"])
async def test_models_that_say_what_the_rules_say(mode: str) -> None:
    """The same answers make the same verdict, whoever gives them."""
    seen = set()
    for brief in BRIEFS:
        ruling = await council(mode, Known()).deliberate(brief, Minutes())
        rules = RULES.verdict(brief)
        assert (ruling.approved, ruling.size_multiplier, ruling.reasons) == (
            rules.approved,
            rules.size_multiplier,
            rules.reasons,
        )
        seen.add(ruling.approved)
    assert seen == {True, False}


@pytest.mark.parametrize("text", ["", "null", "{}", "[]", '{"p_win": NaN}', "BUY!", "{" * 9000])
@pytest.mark.parametrize("agent", AGENTS)
async def test_a_text_is_read_again(agent: str, text: str) -> None:
    """A panel that calls anything well has not the last word."""

    async def answer(_question: Question) -> Outcome:
        return Outcome(status=Status.OK, text=text)

    ruling = await council("strict", Answers({agent: answer})).deliberate(approved_brief(), Minutes())
    assert not ruling.approved
    assert ruling.failed[agent].startswith("INVALID")


@pytest.mark.parametrize("multiplier", [1e-9, 0.3, 1.0])
async def test_a_twin_halves_whatever_size_is_left(multiplier: float) -> None:
    """Half of what the Risk Manager allows, not half of the whole."""

    async def manager(question: Question) -> Outcome:
        said = json.loads(well(question).text) | {"decision": "APPROVED", "size_multiplier": multiplier}
        return Outcome(status=Status.OK, text=json.dumps(said))

    async def nothing(_question: Question) -> Outcome:
        return failed(Status.TIMEOUT)

    panel = Answers({"quant": nothing, "risk_manager": manager})
    ruling = await council("degraded", panel).deliberate(approved_brief(), Minutes())
    assert ruling.approved
    assert ruling.size_multiplier == multiplier / 2
    assert "half size" in ruling.reasons[-1]


# ---- when, and in which order --------------------------------------------------------------------


@pytest.mark.parametrize("slow", ["quant", "strategist"])
async def test_one_order_of_testimonies(slow: str) -> None:
    """Whoever answers first, the Quant is heard first; neither waits for the other to be asked."""
    panel, minutes = Known(takes={slow: 0.05}), Minutes()
    await council("strict", panel).deliberate(approved_brief(), minutes)
    assert [each.answer.agent for each in minutes.said] == list(AGENTS)
    assert {agent for agent, _ in panel.asked[:2]} == {"quant", "strategist"}


async def test_neither_voter_sees_the_other_and_nobody_sees_prose() -> None:
    """What is asked of the voters does not depend on answers; the Risk Manager gets enums and numbers."""
    canary = "zanzibar"
    packets: list[dict[str, str]] = []
    for word in ("one", canary):

        async def answer(question: Question, word: str = word) -> Outcome:
            packets[-1][question.agent] = question.packet
            said = json.loads(well(question).text)
            said |= {name: word for name in ("against", "rationale") if name in said}
            return Outcome(status=Status.OK, text=json.dumps(said))

        packets.append({})
        await council("strict", Answers(dict.fromkeys(AGENTS, answer))).deliberate(approved_brief(), Minutes())
    assert packets[0] == packets[1]
    assert canary not in json.dumps(packets)


async def test_deadlines() -> None:
    """Ten seconds an agent, twenty-five together; whom no time is left for is not asked. A hundred times as fast."""
    quick = Known(takes={"quant": 9.0, "strategist": 9.0, "risk_manager": 9.0}, scale=100)
    began = quick.monotonic()
    ruling = await council("strict", quick, quick.monotonic).deliberate(approved_brief(), Minutes())
    assert ruling.approved
    assert quick.monotonic() - began < 25
    assert [seconds for _, seconds in quick.asked] == [10.0, 10.0, 10.0]
    tight = Known(takes=quick.takes, scale=100)
    short = Deadlines(council=15.0, agent=10.0)
    await council("strict", tight, tight.monotonic, deadlines=short).deliberate(approved_brief(), Minutes())
    assert 0 < tight.asked[2][1] < 6.01
    late, minutes = Known(takes={"quant": 30.0}, scale=100), Minutes()
    ruling = await council("strict", late, late.monotonic).deliberate(approved_brief(), minutes)
    assert [agent for agent, _ in late.asked] == ["quant", "strategist"]
    assert ruling.failed["risk_manager"].startswith("TIMEOUT")
    assert not ruling.approved


@pytest.mark.parametrize("mode", ["strict", "degraded"])
@pytest.mark.parametrize("hanging", AGENTS)
async def test_cancelled(mode: str, hanging: str) -> None:
    """Nothing is left running, and everybody who was asked is heard once: also who had answered already."""
    before, minutes = asyncio.all_tasks(), Minutes()
    panel = Known(takes={hanging: 3600.0})
    task = asyncio.create_task(council(mode, panel).deliberate(approved_brief(), minutes))
    await panel.hangs.wait()
    await asyncio.sleep(0.02)  # whoever answers at once has
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    found = {each.answer.agent: each.answer.status for each in minutes.said}
    assert len(minutes.said) == len(found) == len(panel.asked)
    assert all(each.calls == (CALL,) for each in minutes.said)
    assert found.pop(hanging) == Status.ERROR
    assert set(found.values()) == {Status.OK}


@pytest.mark.parametrize("mode", ["strict", "degraded"])
@pytest.mark.parametrize("agents", [AGENTS[:1], AGENTS[1:2], AGENTS[:2], AGENTS[2:]])
async def test_what_a_cassette_does_not_know(mode: str, agents: tuple[str, ...]) -> None:
    """It is the user's mistake and nobody's answer: it ends the deliberation, and leaves nothing running."""

    async def unknown(_question: Question) -> Outcome:
        await asyncio.sleep(0.01)
        raise BadInput("no answer")

    before = asyncio.all_tasks()
    with pytest.raises(BadInput, match="no answer"):
        await council(mode, Answers(dict.fromkeys(agents, unknown))).deliberate(approved_brief(), Minutes())
    assert asyncio.all_tasks() == before


# ---- the shadow ----------------------------------------------------------------------------------


async def test_the_rules_do_not_wait_for_a_shadow() -> None:
    """They decide at once, while the models are still being asked."""
    panel, minutes = Known(takes=dict.fromkeys(AGENTS, 0.05)), Waited()
    chamber = council("shadow", panel)
    assert not chamber.debates
    ruling = await chamber.deliberate(approved_brief(), minutes)
    assert ruling == RULES.verdict(approved_brief())
    assert (minutes.said, minutes.opinions) == ([], [])
    assert (await minutes.all()).approved


async def test_a_tape_is_waited_for_in_the_shadow() -> None:
    """Or no two replays would hear it at the same moment; what it does not know is told."""

    class Tape(Known, Taped):
        pass

    class Blank(Answers, Taped):
        pass

    async def unknown(_question: Question) -> Outcome:
        raise BadInput("no answer")

    minutes = Minutes()
    tape = Tape(takes=dict.fromkeys(AGENTS, 0.01))
    assert await council("shadow", tape).deliberate(approved_brief(), minutes) == RULES.verdict(approved_brief())
    assert [name for name, _ in minutes.opinions] == ["strict"]
    with pytest.raises(BadInput):
        await council("shadow", Blank({"quant": unknown})).deliberate(approved_brief(), Minutes())


# ---- what cannot be judged -----------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["strict", "degraded", "shadow"])
@pytest.mark.parametrize("bars", [2, 30, 199])
async def test_nobody_is_asked_about_what_is_not_known(mode: str, bars: int) -> None:
    """Too little history is a rejection that costs nothing, and not a failure of the models."""
    panel = Known()
    brief = brief_at(SERIES, SIGNALS, edges(SERIES, SIGNALS, 5)[0], bars)
    minutes = Waited()
    ruling = await council(mode, panel).deliberate(brief, minutes)
    if mode == "shadow":
        ruling = await minutes.all()
    assert not ruling.approved
    assert ruling.failed == {}
    assert {agent for agent, _ in panel.asked} <= {"strategist"}
