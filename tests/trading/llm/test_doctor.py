"""The doctor: what is wrong with a key, a model or an answer is said with what to do, nothing else is well."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from bot.settings import read_config
from tests.structure import ROOT
from tests.trading.llm.in_memory import MemoryKeys, MemorySpending
from trading.council.mirror import ask_twins, mirrored_packet, packet_from_facts
from trading.council.models import NEEDS
from trading.council.prompting import load_prompts
from trading.council.questions import Outcome, Panel, Question
from trading.council.schemas import Status
from trading.events import ModelCall
from trading.exchange.bybit.clock import HeardClock
from trading.llm.budget import Caps
from trading.llm.caller import Patience
from trading.llm.doctor import TITLES, Examined, Finding, examine, fit, practice
from trading.llm.keys import KeyReport, keys_of
from trading.llm.models import Memory, Models
from trading.llm.rehearsal.server import RehearsalServer

MODELS = read_config(ROOT / "config.json").council.agents
PROMPTS = load_prompts()
HF, GEMINI = "hf_" + "a" * 30 + "1234", "AIza" + "b" * 31 + "5678"
CAPS = Caps(daily_usd=Decimal("0.10"), daily_tokens=300_000)


def a_call(**changes: Any) -> ModelCall:
    """A request that was answered in 800 ms with a key that ends in abcd."""
    good = ModelCall(
        attempt=1, repair=False, status="OK", code=200, finish="stop", raw="{}", problem="", latency_ms=800,
        bytes_in=5_000, bytes_out=900, tokens_in=1_500, tokens_out=250, cost_usd=Decimal("0.0021"), key="abcd",
    )  # fmt: skip
    return replace(good, **changes)


@dataclass
class Rules:
    """A panel whose models answer as the rules do; `changed` are the outcomes of agents that do otherwise."""

    changed: Mapping[str, Outcome] = field(default_factory=dict)
    edit: Callable[[dict[str, Any]], object] = lambda answer: None
    call: ModelCall = field(default_factory=a_call)
    asked: list[Question] = field(default_factory=list)

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """What the twin says, as text."""
        self.asked.append(question)
        if question.agent in self.changed:
            return self.changed[question.agent]
        reply = await ask_twins(question.agent, packet_from_facts(question.agent, question.facts))
        assert reply.answer is not None
        answer = json.loads(reply.answer.model_dump_json())
        self.edit(answer)
        return Outcome(status=Status.OK, text=json.dumps(answer), calls=(self.call,))


def ticking(step: float) -> Callable[[], float]:
    """A clock that goes on by `step` seconds whenever it is looked at."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += step
        return now

    return look


def a_report(**changes: Any) -> KeyReport:
    """A healthy key."""
    fields: dict[str, Any] = {
        "provider": "huggingface", "tail": "abcd", "bucket": "HF_TOKEN 1", "state": "healthy", "seconds": 0.0,
        "uses": 12, "why": "",
    }  # fmt: skip
    return KeyReport(**(fields | changes))


KEYS = (a_report(), a_report(provider="gemini", tail="wxyz", bucket="GEMINI_API_KEY 1"))


def parts(panel: Panel | None = None, **changes: Any) -> Examined:
    """A council that is well."""
    fields: dict[str, Any] = {
        "monotonic": ticking(0.1), "panel": panel or Rules(), "models": MODELS, "prompts": PROMPTS,
        "keys": lambda: KEYS, "caps": CAPS,
    }  # fmt: skip
    return Examined(**(fields | changes))


def bad(findings: list[Finding]) -> dict[str, str]:
    """What is not well, by name."""
    return {finding.name: finding.text for finding in findings if not finding.ok}


async def test_a_council_that_is_well() -> None:
    """Every agent is asked once, about real facts, by its own prompt; speed and price are told."""
    panel = Rules()
    findings = await examine(parts(panel))
    assert bad(findings) == {}
    assert fit(findings)
    assert [(question.agent, question.prompt.name) for question in panel.asked] == [
        (agent, PROMPTS[agent].name) for agent in TITLES
    ]
    told = {finding.name: finding.text for finding in findings}
    assert told["Quant's model"] == f"{MODELS['quant'].model} (Hugging Face), 0.28 and 0.42 USD per million tokens"
    assert "borne out by the packet, with key …abcd" in told["Quant's answer"]
    assert told["Quant's speed"].endswith("of 10 s")
    assert told["Quant's cost"] == "5,000 bytes in, 900 out, 1,750 tokens, 0.0021 USD"
    assert told["one decision"] == "0.0063 USD and 5,250 tokens; the caps of a day allow 15"
    assert told["key …abcd of Hugging Face"] == "healthy, 12 uses, counted as HF_TOKEN 1"


FAILURES: list[tuple[str, Outcome, str]] = [
    ("quant", Outcome(status=Status.ERROR, problem="401: Invalid username", calls=(a_call(code=401),)),
     "401: Invalid username: put a key that may use this model into HF_TOKEN"),
    ("quant", Outcome(status=Status.QUOTA, problem="402: credits", calls=(a_call(code=402),)),
     "top up the account's credits, or put another account's key into HF_TOKEN"),
    ("quant", Outcome(status=Status.ERROR, problem="400: not supported by any provider", calls=(a_call(code=400),)),
     "which providers serve it, and write owner/model:provider in config.json, council.quant"),
    ("risk_manager", Outcome(status=Status.ERROR, problem="404: not found", calls=(a_call(code=404),)),
     "choose a model that is still served in config.json, council.risk_manager"),
    ("strategist", Outcome(status=Status.ERROR, problem="422: schema", calls=(a_call(code=422),)),
     "does not take the request, most likely its JSON schema"),
    ("risk_manager", Outcome(status=Status.QUOTA, problem="429: slow down", calls=(a_call(code=429),)),
     "wait, or put another account's key into GEMINI_API_KEY"),
    ("risk_manager", Outcome(status=Status.QUOTA, problem="no key is free"), "no key is free: see the keys above"),
    ("risk_manager", Outcome(status=Status.ERROR, problem="the line broke", calls=(a_call(code=0),)),
     "look at the network, and at GEMINI_BASE_URL if it is set"),
    ("quant", Outcome(status=Status.ERROR, problem="503: overloaded", calls=(a_call(code=503),)), "try again later"),
    ("quant", Outcome(status=Status.TIMEOUT, problem="no answer within 8.0 s", calls=(a_call(code=0),)),
     "choose a faster model or provider in config.json, council.quant"),
    ("quant", Outcome(status=Status.INVALID, problem="p_win: is missing", calls=(a_call(),)),
     "choose a model that keeps to a JSON schema, or raise max_tokens"),
    ("quant", Outcome(status=Status.SKIPPED_BUDGET, problem="the day's budget is spent"),
     "wait for tomorrow (UTC), or raise council.daily_usd"),
]  # fmt: skip


@pytest.mark.parametrize(("agent", "outcome", "wanted"), FAILURES, ids=range(len(FAILURES)))
async def test_what_is_wrong_says_what_to_do(agent: str, outcome: Outcome, wanted: str) -> None:
    """Of the one agent that failed; the others are well, and the whole is not."""
    findings = await examine(parts(Rules(changed={agent: outcome})))
    wrong = bad(findings)
    assert list(wrong) == [f"{TITLES[agent]}'s answer", "one decision"]
    assert MODELS[agent].model in wrong[f"{TITLES[agent]}'s answer"]
    assert outcome.problem in wrong[f"{TITLES[agent]}'s answer"]
    assert wanted in wrong[f"{TITLES[agent]}'s answer"]
    assert not fit(findings)
    assert all("\n" not in finding.line and finding.line.isprintable() for finding in findings)


async def test_an_answer_is_read_again_here() -> None:
    """A panel that calls an ungrounded answer OK is not believed."""

    def invent(answer: dict[str, Any]) -> None:
        for item in answer.get("evidence", ()):
            item["key"] = "a_fact_of_its_own"

    wrong = bad(await examine(parts(Rules(edit=invent))))
    assert "a_fact_of_its_own" in wrong["Quant's answer"]
    assert set(wrong) == {"Quant's answer", "Strategist's answer", "one decision"}


async def test_slow_unpinned_and_unreported_are_warnings() -> None:
    """Nothing of it makes the council unfit, all of it is said."""
    loose = {**MODELS, "quant": replace(MODELS["quant"], model="deepseek-ai/DeepSeek-V3.2")}
    silent = Rules(call=a_call(tokens_in=None, tokens_out=None, repair=True))
    findings = await examine(parts(silent, models=loose, monotonic=ticking(9.0)))
    wrong = bad(findings)
    assert "pin its provider in config.json, council.quant.model" in wrong["Quant's model"]
    assert "raise council.agent_seconds" in wrong["Quant's speed"]
    assert fit(findings)
    told = {finding.name: finding.text for finding in findings}
    assert "after one repair" in told["Quant's answer"]
    assert "tokens not reported by the provider" in told["Quant's cost"]
    assert told["one decision"].startswith("0.0063 USD, tokens not all reported; the caps of a day allow 15")


async def test_what_the_caller_knows_is_told_first() -> None:
    """With models and without; it counts like everything else."""
    note = Finding(name="mode", ok=False, text="strict needs HF_TOKEN")
    for examined in (parts(notes=[note]), replace(parts(notes=[note]), panel=None)):
        findings = await examine(examined)
        assert findings[0] == note
        assert not fit(findings)


async def test_caps_that_allow_no_decision_are_told() -> None:
    """Every candidate would be rejected for want of money."""
    poor = Caps(daily_usd=Decimal("0.006"), daily_tokens=300_000)
    wrong = bad(await examine(parts(caps=poor)))
    text = "0.0063 USD and 5,250 tokens; the caps of a day allow 0: raise council.daily_usd or council.daily_tokens in"
    assert wrong == {"one decision": f"{text} config.json"}


async def test_keys_are_told_by_their_last_characters() -> None:
    """After the questions: what became of a key meanwhile counts; a provider without one is named."""
    panel = Rules()
    reports = (
        a_report(state="retired", why="401 from the provider"),
        a_report(tail="efgh", state="draining", seconds=21_000.0, bucket="HF_TOKEN 2"),
        a_report(tail="ijkl", state="cooling", seconds=30.0, bucket="HF_TOKEN 3"),
    )
    findings = await examine(parts(panel, keys=lambda: reports if len(panel.asked) == 3 else ()))
    wrong = bad(findings)
    assert wrong["key …abcd of Hugging Face"].endswith("put a new one into HF_TOKEN or KEY_FILE")
    assert "its credits are used up: rests, 12 uses" in wrong["key …efgh of Hugging Face"]
    assert wrong["key …ijkl of Hugging Face"].endswith("for 30 s more")
    assert wrong["key of Gemini"] == "there is none: write GEMINI_API_KEY into .env, or the key into KEY_FILE"
    assert [finding.warning for finding in findings[:4]] == [False, False, True, False]


async def test_upside_down_a_fair_council_turns_and_a_biased_one_is_found() -> None:
    """Exact figures over real candidates; the rules need no model for it."""
    rules = await examine(Examined(monotonic=ticking(1), models={}, prompts={}), mirror=16)
    assert [finding.text.partition(";")[0] for finding in rules[1:]] == ["16 of 16 votes are right upside down"] * 3
    assert fit(rules)
    assert rules[0].text.startswith("three agents in code")

    def bullish(answer: dict[str, Any]) -> None:
        if "signal" in answer:
            answer["signal"] = "LONG"

    panel = Rules(edit=bullish)
    findings = await examine(parts(panel), mirror=4)
    assert len(panel.asked) == 3 + 2 * 3 * 4
    wrong = bad(findings)
    assert list(wrong) == ["Quant upside down"]
    assert wrong["Quant upside down"].startswith("0 of 4 votes are right upside down")
    assert "said LONG, upside down LONG instead of SHORT: it prefers a direction" in wrong["Quant upside down"]


async def test_an_agent_without_a_model_is_told() -> None:
    """The others are examined all the same."""
    some = {agent: MODELS[agent] for agent in ("quant", "risk_manager")}
    findings = await examine(parts(models=some), mirror=1)
    wrong = bad(findings)
    assert wrong["Strategist's model"] == "there is none: write council.strategist into config.json"
    assert list(wrong) == ["Strategist's model", "one decision"]
    assert "Risk Manager upside down" in {finding.name for finding in findings}


async def test_no_answer_upside_down_is_no_proof() -> None:
    """An agent that does not answer has not passed."""
    gone = Rules(changed={"strategist": Outcome(status=Status.TIMEOUT, problem="no answer within 8.0 s")})
    wrong = bad(await examine(parts(gone), mirror=2))
    text = "0 of 2 votes are right upside down; 2 had no answer, the first: strategist: TIMEOUT, no answer within 8.0 s"
    assert wrong["Strategist upside down"] == text


def test_what_a_provider_says_cannot_move_the_cursor() -> None:
    """One line, printable, whatever it was."""
    nasty = Finding(name="x", ok=False, text="a\x1b[2Jb\r\nc\u202ed")
    assert nasty.line == "BAD  x: a [2Jb c d"


# Over the wires


@asynccontextmanager
async def rehearsed(script: object) -> AsyncIterator[Examined]:
    """The real clients with two keys at the rehearsal server, which answers by `script` and well after it."""
    keys = keys_of((HF,), (GEMINI,), ())
    async with RehearsalServer(script=script) as server:
        models = Models(
            keys,
            caps=Caps(daily_usd=Decimal(10), daily_tokens=3_000_000),
            patience=Patience(attempt_seconds=8.0),
            memory=Memory(keys=MemoryKeys(), spending=MemorySpending()),
            urls={"huggingface": server.chat_url, "gemini": server.url},
            clock=HeardClock(),
            wall=lambda: datetime.now(UTC),
            rng=random.Random(0),
        )
        await models.open()
        try:
            yield parts(panel=models, keys=models.report, caps=models.caps, monotonic=time.monotonic)
        finally:
            await models.close()


async def test_over_both_wires_a_sound_council_is_well() -> None:
    """Keys, models, answers, prices and the market upside down, through the real libraries."""
    async with rehearsed(()) as well:
        findings = await examine(well, mirror=3)
    assert bad(findings) == {}
    told = {finding.name: finding.text for finding in findings}
    assert {f"key …{HF[-4:]} of Hugging Face", f"key …{GEMINI[-4:]} of Gemini"} <= set(told)
    assert "tokens, 0.00" in told["Risk Manager's cost"]
    assert "3 of 3 votes are right upside down" in told["Quant upside down"]
    assert not any(secret in finding.line for secret in (HF, GEMINI) for finding in findings)


async def test_over_both_wires_what_is_wrong_is_told() -> None:
    """A retired model, a refused key, a model that does not keep to its schema."""
    script = {"quant": ["bad_model*forever"], "strategist": ["wrong_enum*forever"], "gemini": ["bad_key*forever"]}
    async with rehearsed(script) as poor:
        findings = await examine(poor)
    wrong = bad(findings)
    assert "write owner/model:provider in config.json, council.quant" in wrong["Quant's answer"]
    assert "choose a model that keeps to a JSON schema" in wrong["Strategist's answer"]
    assert "put a key that may use this model into GEMINI_API_KEY" in wrong["Risk Manager's answer"]
    assert "retired" in wrong[f"key …{GEMINI[-4:]} of Gemini"]
    assert not fit(findings)
    assert not any(secret in finding.line for secret in (HF, GEMINI) for finding in findings)


async def test_over_both_wires_a_biased_council_is_found() -> None:
    """Temperaments that are not sound do not turn."""
    async with rehearsed({"temperament": "drunk"}) as tipsy:
        wrong = bad(await examine(tipsy, mirror=8))
    assert any(name.endswith("upside down") for name in wrong)


# The packets


def packets() -> Iterator[tuple[str, Any]]:
    for each in practice():
        yield from each.items()


def test_the_practice_is_real_and_whole() -> None:
    """Longs and shorts alike, nothing unknown that an agent needs, no name of a market; twice turned it is itself."""
    sides = [each["quant"].proposal.side.value for each in practice()]
    assert sides == ["long", "short"] * 8
    for agent, packet in packets():
        assert packet.missing(NEEDS[agent]) == []
        assert mirrored_packet(mirrored_packet(packet)) == packet
        assert not any(word in packet.json() for word in ("BTC", "ETH", "USDT"))
