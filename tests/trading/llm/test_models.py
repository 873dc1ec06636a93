"""The models plugged together as the program has them: real clients and a real database, a scripted server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from storage.database import open_database
from storage.model_state import SqlKeys, SqlSpending
from tests.trading.llm.in_memory import MemoryKeys, MemorySpending
from tests.trading.llm.loopback import ModelServer, chat, generated, hang, model_server, reset, status
from tests.trading.llm.test_caller import ANSWER, MANAGER, QUANT, RISK, question
from trading.council.models import Interrupted
from trading.council.questions import Outcome
from trading.council.schemas import Status
from trading.exchange.bybit.clock import HeardClock
from trading.llm.budget import Caps, Spent
from trading.llm.caller import Patience
from trading.llm.keys import Key, keys_of
from trading.llm.models import Memory, Models

HF: Final = ("hf_firstAccountsOnlyKey0001", "hf_secondAccountsOnlyKey0002")
GEMINI: Final = ("AIzaTheFirstProjectsKey0003", "AIzaTheSecondProjectsKey0004")
CAPS: Final = Caps(daily_usd=Decimal(10), daily_tokens=10_000_000)


def models(
    server: ModelServer, memory: Memory | None = None, *, keys: Sequence[Key] | None = None, caps: Caps = CAPS
) -> Models:
    """Both providers at this server."""
    return Models(
        keys_of([",".join(HF)], [",".join(GEMINI)], []) if keys is None else keys,
        caps=caps,
        patience=Patience(attempt_seconds=2.0),
        memory=memory or Memory(keys=MemoryKeys(), spending=MemorySpending()),
        urls={"huggingface": server.url, "gemini": server.url},
        clock=HeardClock(),
        wall=lambda: datetime.now(UTC),
        rng=random.Random(1),
    )


@contextlib.asynccontextmanager
async def opened(panel: Models) -> AsyncIterator[Models]:
    """Opened and closed."""
    await panel.ready()  # on a busy machine loading the libraries takes longer than an attempt may
    await panel.open()
    try:
        yield panel
    finally:
        await panel.close()


@contextlib.asynccontextmanager
async def kept(path: Path) -> AsyncIterator[Memory]:
    """A database."""
    database = await open_database(path)
    try:
        yield Memory(keys=SqlKeys(database), spending=SqlSpending(database))
    finally:
        await database.close()


async def test_both_wires_and_their_health(tmp_path: Path) -> None:
    """A question to each provider; how the keys are and what was spent is one line."""
    async with model_server() as server, kept(tmp_path / "c.db") as memory, opened(models(server, memory)) as panel:
        assert panel.health() == (True, "4 of 4 keys, today 0.0000 of 10 USD, 0 of 10,000,000 tokens")
        server.script.extend([status(200, chat(ANSWER)), status(200, generated(MANAGER))])
        assert (await panel.ask(question(), 5.0)).status is Status.OK
        assert (await panel.ask(question(RISK), 5.0)).status is Status.OK
        well, line = panel.health()
        assert well
        assert line.startswith("4 of 4 keys, today 0.00")
        assert "2,400 of 10,000,000 tokens" in line
        server.script.append(status(401))
        server.after = status(200, chat(ANSWER))
        assert (await panel.ask(question(), 5.0)).status is Status.OK
        assert panel.health()[0] is False
        assert panel.health()[1].startswith("3 of 4 keys")


async def test_a_restart_remembers(tmp_path: Path) -> None:
    """Who rests, who is refused, how often a key was used, and what the day has cost."""
    async with model_server() as server:
        async with kept(tmp_path / "c.db") as memory, opened(models(server, memory)) as panel:
            server.by_key = {HF[0]: status(402), HF[1]: status(429, headers={"Retry-After": "600"})}
            outcome = await panel.ask(question(), 5.0)
            assert outcome.status is Status.QUOTA
            assert len(outcome.alerts) == 1
            server.after = status(200, generated(MANAGER))
            await panel.ask(question(RISK), 5.0)
            before, spent = panel.report(), panel.health()[1]
        asked = len(server.asked)
        async with kept(tmp_path / "c.db") as memory, opened(models(server, memory)) as panel:
            after = panel.report()
            assert [(key.tail, key.state, key.uses) for key in after] == [
                (key.tail, key.state, key.uses) for key in before
            ]
            assert panel.health()[1] == spent
            outcome = await panel.ask(question(), 5.0)
            assert (outcome.status, outcome.alerts) == (Status.QUOTA, ())
            assert len(server.asked) == asked


class SlowSpending(MemorySpending):
    """Booking waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may = asyncio.Event()
        self.waiting = asyncio.Event()

    async def add(self, day: date, tokens: int, usd: Decimal, caps: Caps | None) -> tuple[bool, Spent]:
        """As ever, but late."""
        self.waiting.set()
        await self.may.wait()
        return await super().add(day, tokens, usd, caps)


async def test_a_bucket_that_was_cooled_while_a_request_was_booked() -> None:
    """It is not asked: the other one is."""
    spending = SlowSpending()
    async with model_server() as server:
        panel = models(server, Memory(keys=MemoryKeys(), spending=spending))
        async with opened(panel):
            server.after = status(200, chat(ANSWER))
            task = asyncio.create_task(panel.ask(question(), 5.0))
            await spending.waiting.wait()
            taken = next(key for key in panel.report() if key.uses)
            (key,) = [each for each in keys_of([",".join(HF)], [], []) if each.tail == taken.tail]
            await panel._pool.cool(key, 60.0, "another request was told so")
            spending.may.set()
            assert (await task).status is Status.OK
            (asked,) = server.asked
            assert asked.key != key.secret
            assert spending_of(panel) == 1200


def spending_of(panel: Models) -> int:
    """Tokens of today."""
    return panel._budget.spent().tokens


ECHOES: Final[Mapping[str, int]] = {"refused": 401, "wrong": 400, "spent": 402, "limited": 429, "broken": 500}


@pytest.mark.parametrize("code", [*ECHOES.values(), 200])
@pytest.mark.parametrize("model", [QUANT, RISK], ids=lambda model: model.provider)
async def test_a_provider_that_repeats_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: int, model: object
) -> None:
    """In the error, in a header, in the answer: it is in no outcome, no log line and no byte of the database."""
    caplog.set_level(logging.DEBUG)
    for chatty in ("httpx2", "httpcore2"):  # they write down a reply's headers; the program never lets them
        caplog.set_level(logging.WARNING, logger=chatty)
    assert model in (QUANT, RISK)
    asked = QUANT if model is QUANT else RISK
    async with model_server() as server, kept(tmp_path / "c.db") as memory, opened(models(server, memory)) as panel:
        for secret in (*HF, *GEMINI):
            text = f"the key {secret} is no good {secret[::-1]} {secret}"
            body: object = {"error": {"code": code, "message": text, "status": text, "details": [{"reason": text}]}}
            if code == 200:
                body = chat(text) if secret in HF else generated(text)
            server.by_key[secret] = status(code, body, {"X-Key": secret, "Retry-After": secret})
        outcome = await panel.ask(question(asked), 3.0)
        assert outcome.status is not Status.OK
        assert any("0001" in call.key or "0003" in call.key for call in outcome.calls)
        unsaid(repr(outcome) + repr(panel.report()) + caplog.text)
        for path in tmp_path.iterdir():
            unsaid(path.read_bytes().decode("latin-1"))


def unsaid(text: str) -> None:
    """No key is in it."""
    for secret in (*HF, *GEMINI):
        assert secret not in text
        assert secret[4:-4] not in text


async def test_nothing_is_asked_without_a_key_or_money() -> None:
    """A provider without keys is a quota, a day without money is skipped: neither is a request."""
    async with model_server() as server:
        async with opened(models(server, keys=keys_of([",".join(HF)], [], []))) as panel:
            outcome = await panel.ask(question(RISK), 5.0)
            assert (outcome.status, outcome.calls) == (Status.QUOTA, ())
            assert "GEMINI_API_KEY" in outcome.problem
        async with opened(models(server, caps=Caps(daily_usd=Decimal("0.000001"), daily_tokens=10**9))) as panel:
            assert (await panel.ask(question(), 5.0)).status is Status.SKIPPED_BUDGET
        assert server.asked == []


async def test_a_question_that_nobody_waits_for_any_more_says_what_was_asked() -> None:
    """Its calls are the price of it: one that failed, one that was cut off."""
    async with model_server() as server, opened(models(server)) as panel:
        server.script.extend([status(503), hang])
        asking = asyncio.create_task(panel.ask(question(), 5.0))
        await server.was_asked(2)
        asking.cancel()
        with pytest.raises(Interrupted) as cut:
            await asking
        assert [(call.code, call.status) for call in cut.value.calls] == [(503, "ERROR"), (0, "TIMEOUT")]
        assert cut.value.calls[1].cost_usd > 0
        assert spending_of(panel) > 2_000


@pytest.mark.parametrize("count", [10**7, 10**19, 10**400])
async def test_a_count_that_cannot_be_is_not_believed(count: int) -> None:
    """It neither uses up the day nor ends the program; the cost is estimated and says so."""
    async with model_server() as server, opened(models(server)) as panel:
        server.script.append(status(200, chat(ANSWER, usage={"prompt_tokens": count, "completion_tokens": 5})))
        outcome = await panel.ask(question(), 5.0)
        assert (outcome.status, outcome.calls[0].tokens_in) == (Status.OK, None)
        assert "estimated" in outcome.calls[0].problem
        assert spending_of(panel) < 100


class Torn(MemorySpending):
    """A store that breaks in a way that nobody has thought of."""

    async def add(self, day: date, tokens: int, usd: Decimal, caps: Caps | None) -> tuple[bool, Spent]:
        """Never."""
        raise OverflowError("a number that no column holds")


async def test_whatever_goes_wrong_is_an_answer_that_failed() -> None:
    """No exception of any kind comes out to the trader."""
    async with model_server() as server:
        async with opened(models(server, Memory(keys=MemoryKeys(), spending=Torn()))) as panel:
            outcome = await panel.ask(question(), 5.0)
            assert (outcome.status, outcome.problem) == (Status.ERROR, "asking failed: OverflowError")
        outcome = await panel.ask(question(), 5.0)
        assert (outcome.status, outcome.problem) == (Status.ERROR, "the program is ending")


async def test_many_at_once_and_then_gone() -> None:
    """Forty questions, cancelled together: none is left, and what was under way stays booked."""
    async with model_server() as server, opened(models(server)) as panel:
        server.after = reset
        tasks = [asyncio.create_task(panel.ask(question(RISK if at % 2 else QUANT), 5.0)) for at in range(40)]
        await server.was_asked(10)
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError | Outcome) for each in ended)
        ours = [task for task in asyncio.all_tasks() if "trading/llm" in str(task.get_coro())]
        assert ours == []
        assert spending_of(panel) > 0
