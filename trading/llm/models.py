"""The models behind the council, plugged together: clients, keys, budget, breakers, and who asks with them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from trading.council.questions import Outcome, Question
from trading.council.schemas import Status
from trading.llm.breaker import Breakers
from trading.llm.budget import Budget, Caps, SpendingStore
from trading.llm.caller import Caller, Patience
from trading.llm.gemini import Gemini
from trading.llm.huggingface import HuggingFace
from trading.llm.keys import Key, KeyPool, KeyReport, PoolStore
from trading.ports import Clock

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Where the state of the keys and the day's spending are kept."""

    keys: PoolStore
    spending: SpendingStore


class Models:
    """A `Panel` of real models. `urls` are addresses by provider, None for the provider's own; `wall` is aware UTC."""

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        caps: Caps,
        patience: Patience,
        memory: Memory,
        urls: Mapping[str, str | None],
        clock: Clock,
        wall: Callable[[], datetime],
        rng: random.Random | None = None,
    ) -> None:
        self.caps = caps
        self._clients = (HuggingFace(urls.get("huggingface")), Gemini(urls.get("gemini")))
        self._asking: set[asyncio.Task[Outcome]] = set()
        self._closed = False
        self._pool = KeyPool(keys, memory.keys, wall)
        self._budget = Budget(caps, memory.spending, wall)
        self._caller = Caller(
            {client.provider: client for client in self._clients},
            keys=self._pool,
            budget=self._budget,
            breakers=Breakers(clock.monotonic),
            patience=patience,
            clock=clock,
            rng=rng or random.Random(),
        )

    async def open(self) -> None:
        """Remember the keys and what was spent today."""
        await self._pool.load()
        await self._budget.load()

    async def revive(self) -> None:
        """Take keys that were refused into use again."""
        await self._pool.revive()

    async def ready(self) -> None:
        """Load the libraries, in a thread: a second that the first question need not spend."""
        for client in self._clients:
            with contextlib.suppress(ImportError):  # whoever asks hears of it
                await client.ready()

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """See `Panel`."""
        if self._closed:
            return Outcome(status=Status.ERROR, problem="the program is ending")
        asking = asyncio.create_task(self._caller.ask(question, seconds))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        try:
            return await asking
        except Exception as error:  # noqa: BLE001  no reason to trade, and none to leave what is open alone
            _LOG.exception("question_failed agent=%s", question.agent)
            return Outcome(status=Status.ERROR, problem=f"asking failed: {type(error).__name__}")

    def report(self) -> tuple[KeyReport, ...]:
        """How the keys are."""
        return self._pool.report()

    def health(self) -> tuple[bool, str]:
        """Well or not, and one line: how many keys can be used, and what was spent today (UTC) of what may be."""
        keys, spent = self.report(), self._budget.spent()
        healthy = sum(key.state == "healthy" for key in keys)
        money = f"{spent.usd:.4f} of {self.caps.daily_usd:f} USD"
        tokens = f"{spent.tokens:,} of {self.caps.daily_tokens:,} tokens"
        return healthy == len(keys), f"{healthy} of {len(keys)} keys, today {money}, {tokens}"

    async def close(self) -> None:
        """End what is still asked, and book it; keep the counts, close the connections."""
        self._closed = True
        asking = tuple(self._asking)
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        await self._budget.close()
        await self._pool.flush()
        for client in self._clients:
            await client.close()
