"""The panel of real models: attempts, repair, keys, money and deadlines, on both SDKs against a scripted server."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.trading.llm.in_memory import MemoryKeys, MemorySpending
from tests.trading.llm.loopback import (
    ModelServer,
    Reply,
    chat,
    drip,
    generated,
    half,
    hang,
    model_server,
    reset,
    status,
)
from trading.council.prompting import load_prompts
from trading.council.questions import AgentModel, Outcome, Prompt, Question
from trading.council.reading import schema_of
from trading.council.schemas import Facts, Status
from trading.llm.breaker import REST, Breakers
from trading.llm.budget import Budget, Caps
from trading.llm.caller import LIMIT_REST, Caller, Patience
from trading.llm.doctor import practice
from trading.llm.gemini import Gemini
from trading.llm.huggingface import HuggingFace
from trading.llm.keys import DRAIN_SECONDS, Key, KeyPool
from trading.llm.rehearsal.items import BODIES, KINDS, SPOILT, WORDS
from trading.llm.rehearsal.server import RehearsalServer
from trading.llm.wire import LanguageModel

FACTS: Facts = {"rsi": 51.2, "proposal_side": "LONG"}
GOOD = {
    "evidence": [{"key": "rsi", "value": 51.2, "reading": "in the middle"}],
    "against": "the trend may be spent",
    "signal": "LONG",
    "p_win": 0.55,
}
MANAGED = {
    "conflicts": [],
    "hazards": [],
    "rationale": "nothing speaks against it",
    "decision": "APPROVED",
    "size_multiplier": 0.5,
    "p_win": 0.5,
}
ANSWER, MANAGER = json.dumps(GOOD), json.dumps(MANAGED)
QUANT = AgentModel(
    agent="quant",
    provider="huggingface",
    model="deep/seek",
    max_tokens=1000,
    temperature=0.2,
    price_in=0.5,
    price_out=2.0,
)
RISK = replace(QUANT, agent="risk_manager", provider="gemini", model="gemini-flash-latest")
COST = Decimal("0.0009")  # 1,000 tokens at 0.5 and 200 at 2.0 USD a million


def question(model: AgentModel = QUANT) -> Question:
    """The agent of this model, asked about `FACTS`."""
    prompt = Prompt(
        agent=model.agent,
        name=f"{model.agent}/v001",
        sha256="0" * 64,
        system="Be brief.",
        user="Packet: {{packet_json}}",
    )
    schema = schema_of(model.agent)
    return Question(model=model, prompt=prompt, schema=schema, packet=json.dumps(FACTS), facts=FACTS)


def good(text: str = ANSWER, finish: str = "stop", usage: object = None) -> Reply:
    """The Quant's server answers."""
    return status(200, chat(text, finish, usage))


class SteadyClock:
    """Real time; remembers how long it was asked to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(seconds)


@dataclass
class Desk:
    """A caller with everything real behind it: two buckets of two keys for each provider unless told otherwise."""

    server: ModelServer
    keys: Sequence[Key]
    caps: Caps = field(default_factory=lambda: Caps(daily_usd=Decimal(10), daily_tokens=10_000_000))
    patience: Patience = field(default_factory=lambda: Patience(attempt_seconds=0.6))
    ahead: float = 0.0

    def __post_init__(self) -> None:
        self.clock = SteadyClock()
        self.pool = KeyPool(self.keys, MemoryKeys(), lambda: datetime.now(UTC))
        self.budget = Budget(self.caps, MemorySpending(), lambda: datetime.now(UTC))
        self.breakers = Breakers(lambda: time.monotonic() + self.ahead)
        self.clients: dict[str, LanguageModel] = {
            "huggingface": HuggingFace(self.server.url),
            "gemini": Gemini(self.server.url),
        }
        self.caller = Caller(
            self.clients,
            keys=self.pool,
            budget=self.budget,
            breakers=self.breakers,
            clock=self.clock,
            rng=random.Random(6),
            patience=self.patience,
        )

    async def open(self) -> Desk:
        """Load what the first question would load, so that times are those of the questions."""
        await self.budget.load()
        for client in self.clients.values():
            await client.ready()  # type: ignore[attr-defined]
        return self

    async def ask(self, *script: Reply, seconds: float = 5.0, model: AgentModel = QUANT) -> Outcome:
        """One question, and these replies to it."""
        self.server.script.extend(script)
        return await self.caller.ask(question(model), seconds)

    def states(self) -> list[str]:
        """Every key of the first provider: healthy, cooling, draining or retired."""
        return [report.state for report in self.pool.report() if report.provider == "huggingface"]

    async def close(self) -> None:
        """Close the clients."""
        for client in self.clients.values():
            await client.close()


def some_keys(*buckets: int, provider: str = "huggingface") -> tuple[Key, ...]:
    """So many random keys in each bucket."""
    return tuple(
        Key(provider=provider, bucket=f"{provider} {number}", secret="hf_" + secrets.token_hex(16))
        for number, size in enumerate(buckets)
        for _ in range(size)
    )


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A provider."""
    async with model_server() as running:
        yield running


@pytest.fixture
async def desk(server: ModelServer) -> AsyncIterator[Desk]:
    """Two buckets of two keys at either provider."""
    opened = await Desk(server, [*some_keys(2, 2), *some_keys(1, provider="gemini")]).open()
    yield opened
    await opened.close()
    gc.collect()


@pytest.fixture
async def single(server: ModelServer) -> AsyncIterator[Desk]:
    """One key."""
    opened = await Desk(server, some_keys(1)).open()
    yield opened
    await opened.close()
    gc.collect()


def seen(outcome: Outcome) -> list[tuple[int, bool, str, int]]:
    """Its calls in short: attempt, repair, status, code."""
    return [(call.attempt, call.repair, call.status, call.code) for call in outcome.calls]


async def test_a_good_answer(desk: Desk, server: ModelServer) -> None:
    """One call, its cost by the provider's count, and the budget settled to the cent."""
    outcome = await desk.ask(good())
    assert (outcome.status, outcome.text, outcome.problem, outcome.alerts) == (Status.OK, ANSWER, "", ())
    (call,) = outcome.calls
    assert seen(outcome) == [(1, False, "OK", 200)]
    assert (call.tokens_in, call.tokens_out, call.cost_usd, call.finish) == (1000, 200, COST, "stop")
    assert (call.raw, call.bytes_out, call.problem) == (ANSWER, len(ANSWER), "")
    system, user = (part["content"] for part in server.asked[0].body["messages"])
    assert call.bytes_in == len(system) + len(user)
    assert call.key == server.asked[0].key[-4:]
    assert 0 <= call.latency_ms < 1000
    assert (desk.budget.spent().tokens, desk.budget.spent().usd) == (1200, COST)


async def test_the_risk_manager_by_the_other_wire(desk: Desk) -> None:
    """Gemini's thinking counts as output."""
    outcome = await desk.ask(status(200, generated(MANAGER)), model=RISK)
    assert (outcome.status, outcome.text) == (Status.OK, MANAGER)
    assert outcome.calls[0].cost_usd == COST


async def test_tokens_that_are_not_reported_are_estimated_and_marked(desk: Desk) -> None:
    """Four bytes a token, and the call says so."""
    outcome = await desk.ask(good(usage={"prompt_tokens": None}))
    (call,) = outcome.calls
    assert (call.tokens_in, call.tokens_out) == (None, None)
    assert "estimated" in call.problem
    expected = Decimal(call.bytes_in // 4) * Decimal("0.5") + Decimal(call.bytes_out // 4) * 2
    assert call.cost_usd == expected / 1_000_000
    assert outcome.status is Status.OK


UNGROUNDED = json.dumps(GOOD | {"evidence": [{"key": "rsi", "value": 99.0, "reading": "high"}]})
BAD_TEXTS = {
    "enum": json.dumps(GOOD | {"signal": "BUY"}),
    "extra": json.dumps(GOOD | {"size": 50}),
    "nan": ANSWER.replace("0.55", "NaN"),
    "ungrounded": UNGROUNDED,
    "prose": "I would buy.",
    "truncated": ANSWER[:-20],
}


@pytest.mark.parametrize("form", sorted(BAD_TEXTS))
async def test_a_bad_answer_is_repaired_once(desk: Desk, server: ModelServer, form: str) -> None:
    """The repair carries the answer and what is wrong with it, and is no second attempt."""
    outcome = await desk.ask(good(BAD_TEXTS[form]), good())
    assert outcome.status is Status.OK
    assert seen(outcome) == [(1, False, "INVALID", 200), (1, True, "OK", 200)]
    *_, answer, complaint = server.asked[1].body["messages"]
    assert answer == {"role": "assistant", "content": BAD_TEXTS[form]}
    assert outcome.calls[0].problem in complaint["content"].replace("\n- ", "; ")
    system, packet, *_ = server.asked[1].body["messages"]
    assert packet == server.asked[0].body["messages"][1]
    whole = server.asked[0].body["messages"][0]["content"]
    assert whole.endswith(system["content"].partition("\n\n")[2])
    assert outcome.calls[1].bytes_in == sum(len(each["content"].encode()) for each in server.asked[1].body["messages"])


async def test_a_repair_that_is_bad_again_is_the_end(desk: Desk, server: ModelServer) -> None:
    """INVALID, with what is wrong, and no third request."""
    outcome = await desk.ask(good(BAD_TEXTS["enum"]), good(BAD_TEXTS["extra"]))
    assert (outcome.status, outcome.text) == (Status.INVALID, "")
    assert "size" in outcome.problem
    assert len(server.asked) == 2


async def test_think_and_fences_need_no_repair(desk: Desk) -> None:
    """What surrounds the answer is none of it."""
    text = f"<think>LONG or SHORT? {{}}</think>\n```json\n{ANSWER}\n```"
    outcome = await desk.ask(good(text))
    assert (outcome.status, outcome.text) == (Status.OK, text)


@pytest.mark.parametrize(
    ("model", "cut"),
    [
        (QUANT, status(200, chat(ANSWER, "length"))),
        (QUANT, status(200, chat(ANSWER, "content_filter"))),
        (RISK, status(200, generated(MANAGER, "MAX_TOKENS"))),
        (RISK, status(200, generated(MANAGER, "SAFETY"))),
        (RISK, status(200, {"promptFeedback": {"blockReason": "SAFETY"}})),
        (QUANT, status(200, chat(None))),
    ],
    ids=["length", "filter", "MAX_TOKENS", "SAFETY", "blocked", "nothing said"],
)
async def test_a_truncated_or_blocked_answer_takes_the_other_attempt(
    desk: Desk, server: ModelServer, model: AgentModel, cut: Reply
) -> None:
    """Asked anew instead of repaired, also where the text would do; twice is INVALID."""
    fine = good() if model is QUANT else status(200, generated(MANAGER))
    outcome = await desk.ask(cut, fine, model=model)
    assert outcome.status is Status.OK
    assert seen(outcome) == [(1, False, "INVALID", 200), (2, False, "OK", 200)]
    outcome = await desk.ask(cut, cut, model=model)
    assert (outcome.status, len(outcome.calls)) == (Status.INVALID, 2)
    assert len(server.asked) == 4


async def test_at_most_two_attempts_and_a_repair(desk: Desk, server: ModelServer) -> None:
    """Three requests, in whatever order the failures come."""
    outcome = await desk.ask(good("BUY"), status(503), good("BUY"))
    assert seen(outcome) == [(1, False, "INVALID", 200), (1, True, "ERROR", 503), (2, False, "INVALID", 200)]
    assert outcome.status is Status.INVALID
    desk.breakers.succeeded("deep/seek")
    outcome = await desk.ask(status(503), good("BUY"), good())
    assert seen(outcome) == [(1, False, "ERROR", 503), (2, False, "INVALID", 200), (2, True, "OK", 200)]
    assert outcome.status is Status.OK
    assert len(server.asked) == 6


@pytest.mark.parametrize("code", [500, 502, 503, 504, 529, 408])
async def test_5xx_is_tried_once_more_through_another_bucket(desk: Desk, server: ModelServer, code: int) -> None:
    """Each failure is one of the two attempts; the other account may be served elsewhere."""
    outcome = await desk.ask(status(code), good())
    assert outcome.status is Status.OK
    assert seen(outcome) == [(1, False, "ERROR", code), (2, False, "OK", 200)]
    buckets = {key.secret: key.bucket for key in desk.keys}
    assert buckets[server.asked[0].key] != buckets[server.asked[1].key]
    assert desk.states() == ["healthy"] * 4
    outcome = await desk.ask(status(code), status(code))
    assert (outcome.status, len(outcome.calls)) == (Status.ERROR, 2)
    assert str(code) in outcome.problem
    assert desk.budget.spent().usd == COST


async def test_5xx_with_a_single_bucket_is_tried_once_more_there(single: Desk) -> None:
    """There is no other."""
    outcome = await single.ask(status(503), good())
    assert seen(outcome) == [(1, False, "ERROR", 503), (2, False, "OK", 200)]


async def test_503_with_a_hint_lets_the_bucket_rest(desk: Desk, server: ModelServer) -> None:
    """The other bucket is asked at once, the first not before its time."""
    outcome = await desk.ask(status(503, headers={"Retry-After": "30"}), good())
    assert outcome.status is Status.OK
    assert sorted(desk.states()) == ["cooling", "cooling", "healthy", "healthy"]
    first = {key.secret: key.bucket for key in desk.keys}[server.asked[0].key]
    await asyncio.gather(*(desk.ask(good()) for _ in range(4)))
    assert first not in {key.bucket for key in desk.keys for asked in server.asked[1:] if key.secret == asked.key}


@pytest.mark.parametrize("broken", [reset, half])
async def test_a_broken_line_is_tried_once_more(desk: Desk, broken: Reply) -> None:
    """Counted at the most that it can have cost."""
    outcome = await desk.ask(broken, good())
    assert seen(outcome) == [(1, False, "ERROR", 0), (2, False, "OK", 200)]
    assert outcome.calls[0].cost_usd > 0
    assert "at the most" in outcome.calls[0].problem
    assert desk.budget.spent().usd == sum(call.cost_usd for call in outcome.calls)


@pytest.mark.parametrize("body", ["", "<html><title>Welcome</title></html>", {}, "OK", [1]])
async def test_no_answer_of_a_model_is_invalid(desk: Desk, body: object) -> None:
    """HTML, an empty body, another JSON: twice, then INVALID."""
    garbage = status(200, body, kind="text/html")
    outcome = await desk.ask(garbage, garbage)
    assert outcome.status is Status.INVALID
    assert seen(outcome) == [(1, False, "INVALID", 200), (2, False, "INVALID", 200)]


LIMITS: dict[str, tuple[dict[str, str], object]] = {
    "seconds": ({"Retry-After": "30"}, ""),
    "older": ({"RateLimit": "limit=9, remaining=0, reset=30"}, ""),
    "newer": ({"RateLimit": '"default";r=0;t=30'}, ""),
    "body": ({}, {"error": {"details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "30s"}]}}),
}


@pytest.mark.parametrize("form", sorted(LIMITS))
async def test_429_cools_the_bucket_and_takes_another(desk: Desk, server: ModelServer, form: str) -> None:
    """At once, by the hint, and it is no attempt: it never reached the model."""
    headers, body = LIMITS[form]
    outcome = await desk.ask(status(429, body, headers), status(503), good())
    assert outcome.status is Status.OK
    assert seen(outcome) == [(1, False, "QUOTA", 429), (1, False, "ERROR", 503), (2, False, "OK", 200)]
    cooled = [report for report in desk.pool.report() if report.state == "cooling"]
    assert len(cooled) == 2
    assert all(25 < report.seconds <= 30 for report in cooled)
    assert not {asked.key[-4:] for asked in server.asked[1:]} & {report.tail for report in cooled}


async def test_429_without_a_hint_rests_a_minute(desk: Desk) -> None:
    """And says nothing about the model."""
    await desk.ask(status(429), status(429))
    seconds = [report.seconds for report in desk.pool.report() if report.state == "cooling"]
    assert len(seconds) == 4
    assert all(LIMIT_REST - 5 < left <= LIMIT_REST for left in seconds)
    assert desk.breakers.blocked("deep/seek") is None


async def test_a_short_hint_is_waited_for(single: Desk) -> None:
    """With one bucket, the question waits as long as it is told to, and not shorter."""
    begun = time.monotonic()
    outcome = await single.ask(status(429, headers={"Retry-After": "0.4"}), good(), seconds=3)
    assert outcome.status is Status.OK
    assert 0.38 < time.monotonic() - begun < 1.0


async def test_a_hint_beyond_the_deadline_is_not_waited_for(single: Desk, server: ModelServer) -> None:
    """QUOTA at once; the next question finds the bucket cold and asks nobody."""
    begun = time.monotonic()
    outcome = await single.ask(status(429, headers={"Retry-After": "30"}), seconds=3)
    assert (outcome.status, len(outcome.calls)) == (Status.QUOTA, 1)
    outcome = await single.ask(seconds=3)
    assert (outcome.status, outcome.calls) == (Status.QUOTA, ())
    assert "resting" in outcome.problem
    assert time.monotonic() - begun < 1.0
    assert len(server.asked) == 1


async def test_a_bucket_that_says_no_again_and_again_is_left_alone(single: Desk, server: ModelServer) -> None:
    """A hint of 0 seconds is no leave to hammer."""
    server.after = status(429, headers={"Retry-After": "0"})
    outcome = await single.ask(seconds=3)
    assert outcome.status is Status.QUOTA
    assert len(server.asked) == 2


async def test_402_drains_the_bucket_and_tells(desk: Desk, server: ModelServer) -> None:
    """Six hours, for all of its keys; the other account answers."""
    outcome = await desk.ask(status(402, {"error": "credits"}), good())
    assert outcome.status is Status.OK
    assert seen(outcome) == [(1, False, "QUOTA", 402), (1, False, "OK", 200)]
    assert len(outcome.alerts) == 1
    drained = [report for report in desk.pool.report() if report.state == "draining"]
    assert len(drained) == 2
    assert all(DRAIN_SECONDS - 5 < report.seconds <= DRAIN_SECONDS for report in drained)
    assert server.asked[0].key[-4:] in outcome.alerts[0]
    assert (await desk.ask(good())).alerts == ()


@pytest.mark.parametrize("code", [401, 403])
async def test_401_and_403_retire_the_key_and_tell(desk: Desk, server: ModelServer, code: int) -> None:
    """Until none is left: QUOTA, and no request any more."""
    server.after = status(code, {"error": "Invalid credentials"})
    outcome = await desk.ask()
    assert (outcome.status, len(outcome.calls), len(outcome.alerts)) == (Status.QUOTA, 4, 4)
    assert "HF_TOKEN" in outcome.problem
    assert sorted(asked.key for asked in server.asked) == sorted(
        key.secret for key in desk.keys if key.provider == "huggingface"
    )
    assert desk.states() == ["retired"] * 4
    outcome = await desk.ask()
    assert (outcome.status, outcome.calls, outcome.alerts) == (Status.QUOTA, (), ())
    assert desk.breakers.blocked("deep/seek") is None


@pytest.mark.parametrize("code", [400, 404, 413, 422, 302, 418])
async def test_what_is_our_mistake_is_not_repeated(desk: Desk, server: ModelServer, code: int) -> None:
    """No other key is burnt on it, the model's breaker does not count it, and nothing is booked."""
    for _ in range(4):
        outcome = await desk.ask(status(code, {"error": {"message": "not supported by any provider"}}))
        assert outcome.status is Status.ERROR
        assert "not supported by any provider" in outcome.problem
        assert "retired" in outcome.problem
        assert seen(outcome) == [(1, False, "ERROR", code)]
    assert len(server.asked) == 4
    assert desk.states() == ["healthy"] * 4
    assert desk.budget.spent().usd == 0


@pytest.mark.parametrize("stalling", [hang, drip(200)])
async def test_two_attempts_that_hang_end_in_timeout(desk: Desk, stalling: Reply) -> None:
    """Each as long as an attempt may take."""
    begun = time.monotonic()
    outcome = await desk.ask(stalling, stalling)
    assert 1.15 < time.monotonic() - begun < 2.2
    assert outcome.status is Status.TIMEOUT
    assert outcome.problem.startswith("no answer in 2 attempts, 1.")
    assert seen(outcome) == [(1, False, "TIMEOUT", 0), (2, False, "TIMEOUT", 0)]
    assert desk.budget.spent().usd == sum(call.cost_usd for call in outcome.calls) > 0


@pytest.mark.parametrize("stalling", [hang, drip(200), drip(503)])
async def test_the_deadline_is_kept(server: ModelServer, stalling: Reply) -> None:
    """With the patience of the page, a server that hangs is left after the two seconds that there are."""
    desk = await Desk(server, some_keys(1, 1), patience=Patience()).open()
    server.after = stalling
    begun = time.monotonic()
    outcome = await desk.ask(seconds=2)
    assert 1.9 < time.monotonic() - begun < 2.3
    assert outcome.status in {Status.TIMEOUT, Status.ERROR}
    await desk.close()


async def test_a_bad_answer_without_time_for_a_repair(desk: Desk, server: ModelServer) -> None:
    """INVALID, not TIMEOUT: there was an answer."""

    async def late(server: ModelServer, request: Any) -> Any:
        await asyncio.sleep(0.3)
        return await good("BUY")(server, request)

    outcome = await desk.ask(late, seconds=0.6)
    assert outcome.status is Status.INVALID
    assert len(server.asked) == 1


async def test_no_key_at_all(server: ModelServer) -> None:
    """QUOTA, and which variable to fill."""
    desk = await Desk(server, ()).open()
    outcome = await desk.ask()
    assert (outcome.status, outcome.calls) == (Status.QUOTA, ())
    assert "HF_TOKEN" in outcome.problem
    await desk.close()


async def test_a_model_that_keeps_failing_is_left_alone(desk: Desk, server: ModelServer) -> None:
    """Three failures open the breaker, also in the middle of a question; then one trial."""
    server.after = status(500)
    assert (await desk.ask()).status is Status.ERROR
    outcome = await desk.ask()
    assert (outcome.status, len(outcome.calls)) == (Status.ERROR, 1)
    outcome = await desk.ask()
    assert (outcome.status, outcome.calls) == (Status.ERROR, ())
    assert "299 s" in outcome.problem or "300 s" in outcome.problem
    assert len(server.asked) == 3
    assert (await desk.ask(status(200, generated(MANAGER)), model=RISK)).status is Status.OK
    desk.ahead = REST
    assert (await desk.ask()).status is Status.ERROR
    assert len(server.asked) == 5
    desk.ahead = 2 * REST
    assert (await desk.ask(good())).status is Status.OK
    assert (await desk.ask(good())).status is Status.OK


async def test_invalid_answers_open_the_breaker(desk: Desk, server: ModelServer) -> None:
    """One failure a question, when its repair was no good either; 429 and 401 in between are none."""
    for _ in range(3):
        assert (await desk.ask(good("BUY"), good("BUY"))).status is Status.INVALID
    assert (await desk.ask()).status is Status.ERROR
    assert len(server.asked) == 6


async def test_the_budget_is_asked_first(server: ModelServer) -> None:
    """SKIPPED_BUDGET, and no request."""
    caps = Caps(daily_usd=Decimal("0.001"), daily_tokens=10_000_000)
    desk = await Desk(server, some_keys(1), caps=caps).open()
    outcome = await desk.ask()
    assert (outcome.status, outcome.calls) == (Status.SKIPPED_BUDGET, ())
    assert not server.asked
    assert desk.budget.spent().usd == 0
    await desk.close()


async def test_cancelled_it_books_the_most_and_leaves_nothing(desk: Desk, server: ModelServer) -> None:
    """The provider may bill what it was asked, also when nobody waits for the answer any more."""
    before = asyncio.all_tasks()
    task = asyncio.create_task(desk.ask(hang))
    await server.was_asked(1)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 0.5
    await asyncio.wait_for(server.left.wait(), 2)
    assert desk.budget.spent().usd >= Decimal("0.004096")  # 2,048 tokens out at 2 USD a million
    assert asyncio.all_tasks() - before <= {task for task in asyncio.all_tasks() if "aiohttp" in repr(task)}
    assert desk.breakers.blocked("deep/seek") is None


async def test_a_megabyte_is_invalid_and_kept_in_part(desk: Desk, server: ModelServer) -> None:
    """The repair does not send it back whole, and what is kept says that it is not all."""
    outcome = await desk.ask(good("x" * 1_000_000), good())
    assert outcome.status is Status.OK
    first, second = outcome.calls
    assert (first.bytes_out, len(first.raw)) == (1_000_000, 100_000)
    assert "1000000 characters" in first.problem
    assert second.bytes_in < 3_600


async def test_pauses_have_full_jitter_from_the_seed(desk: Desk, server: ModelServer) -> None:
    """The same seed pauses the same; no pause is longer than its step."""
    await desk.ask(status(500), good())
    await desk.ask(status(500), good())
    twin = await Desk(server, desk.keys).open()
    await twin.ask(status(500), good())
    await twin.ask(status(500), good())
    await twin.close()
    assert twin.clock.waits == desk.clock.waits
    assert len(set(desk.clock.waits)) == 2
    assert all(0 <= wait <= 0.25 for wait in desk.clock.waits)


async def test_agents_side_by_side(desk: Desk, server: ModelServer) -> None:
    """Two hang, one answers: each ends as if it were alone."""
    server.after = hang
    first, second = asyncio.create_task(desk.ask()), asyncio.create_task(desk.ask())
    await server.was_asked(2)
    assert (await desk.ask(status(200, generated(MANAGER)), model=RISK)).status is Status.OK
    assert (await first).status is (await second).status is Status.TIMEOUT


async def test_nothing_holds_a_key(server: ModelServer, caplog: pytest.LogCaptureFixture) -> None:
    """Random keys, echoed by the provider in every body: not in an outcome, a call, an alert, a repr or a log line."""
    caplog.set_level(logging.DEBUG)
    server.after = _echoing
    for code in (429, 500, 503, 402, 400, 404, 422, 403, 401, 200):
        keys = some_keys(2, 2, 1)
        desk = await Desk(server, keys).open()
        server.codes = [200, code]
        outcome = await desk.ask(seconds=2)
        await desk.close()
        told = repr(outcome) + repr(desk.caller) + repr(desk.clients) + repr(desk.pool.report())
        assert outcome.calls
        assert not any(key.secret in told or key.secret in caplog.text for key in keys)


async def _echoing(server: ModelServer, request: Any) -> Any:
    """A bad answer and then a failure, each with the key that it was asked with in its body."""
    key, code = server.asked[-1].key, server.codes[0]
    server.codes = server.codes[1:] or server.codes
    body = chat(f"{key} BUY", key) if code == 200 else {"error": {"message": f"no {key}"}}
    return await status(code, body, {"Retry-After": "0"})(server, request)


async def test_a_storm(server: ModelServer) -> None:
    """5 keys in 3 buckets under 429, 402, 401 and 503: no cooled bucket is asked before its time, no key after 401."""
    keys = some_keys(2, 2, 1)
    desk = await Desk(server, keys, patience=Patience(attempt_seconds=2)).open()
    rng, cold, retired = random.Random(6), dict[str, float](), set[str]()
    bucket = {key.secret: key.bucket for key in keys}

    async def storm(_server: ModelServer, request: Any) -> Any:
        key = server.asked[-1].key
        assert key not in retired
        assert cold.get(bucket[key], 0.0) <= time.monotonic()
        code = rng.choices([200, 429, 503, 402, 401], [40, 30, 20, 1, 1])[0]
        if code == 200:
            return await good()(server, request)
        wait = {429: 0.3, 503: 0.2, 402: DRAIN_SECONDS}.get(code, 0.0)
        if code == 401:
            retired.add(key)
        else:
            cold[bucket[key]] = time.monotonic() + wait - 0.05  # the wait begins when the answer arrives
        return await status(code, headers={"Retry-After": str(wait)} if code != 402 else {})(server, request)

    server.after = storm
    ended = []
    for _ in range(60):
        desk.breakers.succeeded("deep/seek")
        ended.append((await desk.ask(seconds=1.5)).status)
    assert set(ended) <= {Status.OK, Status.QUOTA, Status.ERROR}
    assert ended.count(Status.OK) > 10
    await desk.close()


EVERY = {
    **dict.fromkeys(WORDS, Status.OK),
    **dict.fromkeys([*SPOILT, *BODIES], Status.INVALID),
    **dict.fromkeys(["401", "402", "403", "bad_key", "429"], Status.QUOTA),
    **dict.fromkeys(["400", "404", "413", "422", "bad_model"], Status.ERROR),
    **dict.fromkeys(["408", "500", "502", "503", "504", "reset", "close", "cut"], Status.ERROR),
    **dict.fromkeys(["late", "slow_drip", "hang"], Status.TIMEOUT),
}
NOT_OF = {"ungrounded": "risk_manager", "size0approved": "quant", "rejected_with_size": "quant"}
"""Who cannot go wrong in this way: the one cites nothing, the other names no size."""


@pytest.mark.parametrize("item", list(KINDS))
async def test_every_script_of_the_rehearsal_server_ends_as_specified(item: str) -> None:
    """On either wire, for as long as the server keeps to it, and within the deadline."""
    expected = {"quant": {EVERY[item]}, "risk_manager": {EVERY[item]}}
    if item in NOT_OF:
        expected[NOT_OF[item]] = {Status.OK}
    if item == "injection":  # its prose is longer than an answer's may be, unless the model is asked to be brief
        expected = {agent: {Status.OK, Status.INVALID} for agent in expected}
    candidate, prompts = practice()[0], load_prompts()
    async with RehearsalServer(script=[f"{item}*forever"]) as rehearsal:
        keys = [*some_keys(2, 1), *some_keys(2, 1, provider="gemini")]
        desk = await Desk(ModelServer(rehearsal.url), keys, patience=Patience(attempt_seconds=0.9)).open()
        for model in (QUANT, RISK):
            packet = candidate[model.agent]
            asked = replace(question(model), prompt=prompts[model.agent], packet=packet.json(), facts=packet.facts())
            begun = time.monotonic()
            outcome = await desk.caller.ask(asked, 2)
            assert time.monotonic() - begun < 2.3
            assert outcome.status in expected[model.agent], outcome
            assert len(outcome.calls) <= 4
        await desk.close()
