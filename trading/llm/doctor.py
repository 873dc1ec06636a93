"""Is the council fit for work? Each agent's model is asked once, for real, and whatever is wrong says what to do.

The question is the packet of a real candidate (`practice.json`): what is found out here is what a decision will meet,
from the key to the last field of the answer. With `mirror` more of them are asked about, and about their images upside
down. Nothing is printed here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Final

from trading.council.mirror import Ask, MirrorReport, ask_panel, ask_twins, mirror_votes, packet_from_facts, vote_of
from trading.council.packet import Packet
from trading.council.questions import AgentModel, Outcome, Panel, Prompt, Question
from trading.council.reading import read, schema_of
from trading.council.schemas import Answer, Status
from trading.events import ModelCall
from trading.llm.budget import Caps
from trading.llm.keys import NAMES, VARIABLES, KeyReport
from trading.model import ZERO

TITLES: Final[Mapping[str, str]] = {"quant": "Quant", "strategist": "Strategist", "risk_manager": "Risk Manager"}
SLOW: Final = 0.8
"""Of the deadline: an answer that takes longer today will miss it on another day."""
_PRACTICE: Final = Path(__file__).parent / "practice.json"
_LEFT: Final = {"healthy": "", "cooling": "rests", "draining": "its credits are used up: rests", "retired": "retired"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at, whether it is well, and what was found or is to be done.

    A `warning` is no reason to call the whole unfit.
    """

    name: str
    ok: bool
    text: str
    warning: bool = False

    @property
    def line(self) -> str:
        """As it stands on a terminal, whatever a provider has said."""
        state = "ok  " if self.ok else "warn" if self.warning else "BAD "
        shown = "".join(each if each.isprintable() else " " for each in f"{self.name}: {self.text}")
        return f"{state} {' '.join(shown.split())}"


def fit(findings: Sequence[Finding]) -> bool:
    """Is everything well, warnings aside? Else the program that asked exits with 1."""
    return all(finding.ok or finding.warning for finding in findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """Whom to examine: a panel with its agents' models and prompts, or the rules alone (`panel` None).

    `seconds` is the deadline of one agent, `monotonic` counts them; `keys` is what the pool says, `caps` a day's.
    `notes` are findings of the caller's own, told first: of the mode that is asked for, of the files that keys are in.
    """

    monotonic: Callable[[], float]
    panel: Panel | None = None
    models: Mapping[str, AgentModel]
    prompts: Mapping[str, Prompt]
    seconds: float = 10.0
    keys: Callable[[], Sequence[KeyReport]] = tuple
    caps: Caps | None = None
    notes: Sequence[Finding] = ()


@cache
def practice() -> tuple[Mapping[str, Packet], ...]:
    """Real candidates, each as its three packets by agent; longs and shorts by turns."""
    raw = json.loads(_PRACTICE.read_text(encoding="utf-8"))
    return tuple(
        {agent: packet_from_facts(agent, facts) for agent, facts in each.items()} for each in raw["candidates"]
    )


async def examine(parts: Examined, *, mirror: int = 0) -> list[Finding]:
    """Every finding, in the order in which they are read; `mirror` is over so many candidates (0: not at all)."""
    if parts.panel is None:
        return [*parts.notes, _of_rules(), *await _mirrored(parts, ask_twins, mirror)]
    findings = [_named(agent, parts.models) for agent in TITLES]
    asked = await asyncio.gather(*(_ask(parts, parts.panel, agent) for agent in TITLES if agent in parts.models))
    findings += [finding for each in asked for finding in _of_agent(each, parts.seconds)]
    findings.append(_decision(asked, parts.caps))
    ask = ask_panel(parts.panel, parts.models, parts.prompts, parts.seconds)
    findings += await _mirrored(parts, ask, mirror)
    return [*parts.notes, *_of_keys(parts), *findings]


def _of_rules() -> Finding:
    text = "three agents in code decide: they need no model, no key and no network"
    return Finding(name="council", ok=True, text=text)


# Keys


def _of_keys(parts: Examined) -> list[Finding]:
    """After everything was asked: who was refused meanwhile is told."""
    reports = parts.keys()
    held = {report.provider for report in reports}
    wanted = dict.fromkeys(model.provider for model in parts.models.values())
    missing = [provider for provider in wanted if provider not in held]
    return [*map(_of_key, reports), *map(_keyless, missing)]


def _of_key(report: KeyReport) -> Finding:
    well = report.state == "healthy"
    text = f"{'healthy' if well else _LEFT[report.state]}, {report.uses:,} uses, counted as {report.bucket}"
    if report.seconds > 0:
        text += f", for {report.seconds:,.0f} s more"
    if report.why:
        text += f" ({report.why})"
    if report.state == "retired":
        text += f": put a new one into {VARIABLES.get(report.provider, 'its variable')} or KEY_FILE"
    name = f"key …{report.tail} of {NAMES.get(report.provider, report.provider)}"
    return Finding(name=name, ok=well, text=text, warning=report.state == "cooling")


def _keyless(provider: str) -> Finding:
    text = f"there is none: write {VARIABLES[provider]} into .env, or the key into KEY_FILE"
    return Finding(name=f"key of {NAMES[provider]}", ok=False, text=text)


# Agents


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One agent's model after one question."""

    agent: str
    model: AgentModel
    outcome: Outcome
    answer: Answer | None
    problem: str
    seconds: float

    @property
    def cost(self) -> Decimal:
        return sum((call.cost_usd for call in self.outcome.calls), ZERO)

    @property
    def tokens(self) -> int | None:
        """In and out, of every call; None when one of them was not reported."""
        told = [(call.tokens_in, call.tokens_out) for call in self.outcome.calls]
        if not told or any(part is None for pair in told for part in pair):
            return None
        return sum(part or 0 for pair in told for part in pair)


async def _ask(parts: Examined, panel: Panel, agent: str) -> _Asked:
    packet = practice()[0][agent]
    question = Question(
        model=parts.models[agent],
        prompt=parts.prompts[agent],
        schema=schema_of(agent),
        packet=packet.json(),
        facts=packet.facts(),
    )
    began = parts.monotonic()
    outcome = await panel.ask(question, parts.seconds)
    took = parts.monotonic() - began
    answer, problem = None, outcome.problem
    if outcome.status is Status.OK:
        found = read(agent, outcome.text, question.facts)
        answer, problem = found.answer, "; ".join(found.problems)
    return _Asked(agent=agent, model=question.model, outcome=outcome, answer=answer, problem=problem, seconds=took)


def _named(agent: str, models: Mapping[str, AgentModel]) -> Finding:
    """A model without its provider may be served by another one tomorrow, with other limits and prices."""
    name, model = f"{TITLES[agent]}'s model", models.get(agent)
    if model is None:
        return Finding(name=name, ok=False, text=f"there is none: write council.{agent} into config.json")
    pinned = model.provider != "huggingface" or ":" in model.model
    text = f"{model.model} ({NAMES[model.provider]}), {model.price_in:g} and {model.price_out:g} USD per million tokens"
    if not pinned:
        text += f": pin its provider in config.json, council.{model.agent}.model: owner/model:provider"
    return Finding(name=name, ok=pinned, text=text, warning=not pinned)


def _of_agent(asked: _Asked, seconds: float) -> list[Finding]:
    title = TITLES[asked.agent]
    if asked.answer is None:
        return [Finding(name=f"{title}'s answer", ok=False, text=_failure(asked))]
    limit = f"{asked.seconds:.1f} of {seconds:g} s"
    slow = asked.seconds > SLOW * seconds
    return [
        Finding(name=f"{title}'s answer", ok=True, text=_success(asked, asked.answer)),
        Finding(
            name=f"{title}'s speed",
            ok=not slow,
            text=f"{limit}: choose a faster model or provider, or raise council.agent_seconds" if slow else limit,
            warning=slow,
        ),
        Finding(name=f"{title}'s cost", ok=True, text=_cost(asked)),
    ]


def _success(asked: _Asked, answer: Answer) -> str:
    repaired = any(call.repair for call in asked.outcome.calls)
    how = "by the schema after one repair" if repaired else "by the schema"
    key = asked.outcome.calls[-1].key if asked.outcome.calls else ""
    cited = len(getattr(answer, "evidence", ()))
    grounded = f", {cited} {'citation' if cited == 1 else 'citations'} borne out by the packet" if cited else ""
    return f"{vote_of(answer)}, {how}{grounded}" + (f", with key …{key}" if key else "")


def _cost(asked: _Asked) -> str:
    calls = asked.outcome.calls
    if not calls:
        return "no request was made: it came from a recording"
    size = f"{sum(call.bytes_in for call in calls):,} bytes in, {sum(call.bytes_out for call in calls):,} out"
    tokens = "tokens not reported by the provider" if asked.tokens is None else f"{asked.tokens:,} tokens"
    return f"{size}, {tokens}, {asked.cost:f} USD"


def _decision(asked: Sequence[_Asked], caps: Caps | None) -> Finding:
    """What one decision costs, and how many of them a day's caps allow."""
    cost = sum((each.cost for each in asked), ZERO)
    tokens = [each.tokens for each in asked]
    whole = None if any(each is None for each in tokens) else sum(each or 0 for each in tokens)
    if len(asked) < len(TITLES) or any(each.answer is None for each in asked):
        return Finding(name="one decision", ok=False, text=f"not all three answered: asking cost {cost:f} USD")
    text = f"{cost:f} USD" + (", tokens not all reported" if whole is None else f" and {whole:,} tokens")
    if caps is None:
        return Finding(name="one decision", ok=True, text=text)
    rooms = [int(caps.daily_usd / cost)] if cost else []
    rooms += [caps.daily_tokens // whole] if whole else []
    if not rooms:
        return Finding(name="one decision", ok=True, text=text)
    allowed = f"{text}; the caps of a day allow {min(rooms):,}"
    enough = min(rooms) >= 1
    more = "" if enough else ": raise council.daily_usd or council.daily_tokens in config.json"
    return Finding(name="one decision", ok=enough, text=allowed + more)


# What went wrong, and what to do


def _failure(asked: _Asked) -> str:
    said = asked.problem or f"{asked.outcome.status}, no reason given"
    return f"{asked.model.model} did not answer ({asked.outcome.status}): {said.rstrip('.')}: {_advice(asked)}"


def _advice(asked: _Asked) -> str:
    last = asked.outcome.calls[-1] if asked.outcome.calls else None
    match asked.outcome.status:
        case Status.SKIPPED_BUDGET:
            return "wait for tomorrow (UTC), or raise council.daily_usd or council.daily_tokens in config.json"
        case Status.TIMEOUT:
            return f"choose a faster model or provider in {_place(asked)}, or raise council.agent_seconds"
        case Status.INVALID | Status.OK:
            return f"choose a model that keeps to a JSON schema, or raise max_tokens, in {_place(asked)}"
    return _advice_on(asked, last) if last else _advice_without_call(asked.outcome.status)


def _place(asked: _Asked) -> str:
    return f"config.json, council.{asked.agent}"


def _advice_without_call(status: Status) -> str:
    return "see the keys above" if status is Status.QUOTA else "try again in five minutes"


def _advice_on(asked: _Asked, last: ModelCall) -> str:
    variable, url = VARIABLES[asked.model.provider], _URLS[asked.model.provider]
    if last.code in _SAME_FOR_ALL:
        return _SAME_FOR_ALL[last.code]
    if last.code in {401, 403}:
        return f"put a key that may use this model into {variable}"
    if last.code == 402:
        return f"top up the account's credits, or put another account's key into {variable}"
    if last.code == 429:
        return f"wait, or put another account's key into {variable}"
    if last.code in {400, 404} and asked.model.provider == "huggingface":
        return f"see on the model's page which providers serve it, and write owner/model:provider in {_place(asked)}"
    if last.code in {400, 404}:
        return f"choose a model that is still served in {_place(asked)}"
    return f"look at the network, and at {url} if it is set" if last.code == 0 else "try again later"


_URLS: Final[Mapping[str, str]] = {"huggingface": "HF_BASE_URL", "gemini": "GEMINI_BASE_URL"}
_SAME_FOR_ALL: Final[Mapping[int, str]] = {
    413: "lower max_tokens, or choose a model with a longer context",
    422: "this provider does not take the request, most likely its JSON schema: choose another one",
}


# Upside down


async def _mirrored(parts: Examined, ask: Ask, candidates: int) -> list[Finding]:
    """Each agent on so many candidates and on their mirror images; agents side by side, each in its own order."""
    if candidates <= 0:
        return []
    rules, chosen = parts.panel is None, practice()[:candidates]
    agents = [agent for agent in TITLES if rules or agent in parts.models]
    reports = await asyncio.gather(*(mirror_votes(ask, [each[agent] for each in chosen]) for agent in agents))
    return [_turned(agent, report, rules=rules) for agent, report in zip(agents, reports, strict=True)]


def _turned(agent: str, report: MirrorReport, *, rules: bool) -> Finding:
    drift = "" if report.p_win_drift is None else f"; p(win) differs by {report.p_win_drift:.3f} on average"
    text = f"{report.turned} of {report.asked} votes are right upside down{drift}"
    if report.unturned:
        worst = report.unturned[0]
        text += f"; said {worst.said}, upside down {worst.mirrored} instead of {worst.wanted}"
    if report.unanswered:
        text += f"; {len(report.unanswered)} had no answer, the first: {report.unanswered[0]}"
    if report.unturned and not rules:
        text += f": it prefers a direction, choose another model in config.json, council.{agent}, or less temperature"
    return Finding(name=f"{TITLES[agent]} upside down", ok=report.clean, text=text)
