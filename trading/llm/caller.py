"""The `Panel` of real models: whom a question goes to, with which key, how often, for how long and at what price.

    attempt     one request that may reach the model: at most 8 seconds, and two of them for a question
    rotation    429, 402, 401 and 403 are about a key: its bucket rests or it is retired, and another takes its place;
                no model was asked, so that it is no attempt
    repair      one more request, within an attempt, that carries what is wrong with a complete answer
    breaker     a model that keeps failing is not asked at all

5xx, a broken line or a timeout: once more, through another bucket where there is one. 400, 404, 413 and 422 are our
mistake or a retired model, and asked no second time. Nothing of all this goes past the deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final, Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from trading.council.models import Interrupted
from trading.council.questions import AgentModel, Outcome, Question, canonical
from trading.council.reading import read
from trading.council.schemas import Status
from trading.errors import Transient
from trading.events import ModelCall
from trading.llm.breaker import Breakers
from trading.llm.budget import Reservation
from trading.llm.keys import NAMES, VARIABLES, Key
from trading.llm.wire import LanguageModel, ModelReply, ModelRequest, Refused, Unanswered
from trading.model import ZERO
from trading.ports import Clock

LIMIT_REST: Final = 60.0
"""Seconds a bucket rests after a 429 without a hint, and at least after a second one to the same question."""
LEAST: Final = 0.5
"""Seconds under which a further request is not worth its price: a first one is always made."""
GRACE: Final = 0.1
"""Seconds after the deadline at which everything is cut off that has not ended by itself."""
BACKOFF, LONGEST_BACKOFF = 0.25, 2.0  # seconds, before jitter
LONGEST_RAW: Final = 100_000
"""Characters of an answer that are kept; longer ones are never read (`reading.MAX_CHARS`)."""
LONGEST_MENDED: Final = 1_000
"""Bytes of a bad answer that go back with its errors: a good one rarely has a thousand."""
LONGEST_COMPLAINT: Final = 500
"""Bytes of its errors."""
LONGEST_FINISH: Final = 80
LEAST_TOKENS_OUT: Final = 2048
"""What an adapter may raise a smaller limit to."""
_ABOUT_KEYS: Final = frozenset({401, 402, 403, 429})
_MENDING: Final = "You have judged these facts of a trade. Mend your answer: change only what is wrong with it."
_MILLION: Final = Decimal(1_000_000)


class Keys(Protocol):
    """The key pool (`trading.llm.keys`), as far as it is used here."""

    def take(self, provider: str, avoid: Collection[str] = ()) -> Key | None:
        """The least-used healthy key that is not in the buckets of `avoid`."""
        ...

    def usable(self, key: Key) -> bool:
        """May a key that was taken still be used?"""
        ...

    def wait(self, provider: str) -> float | None:
        """Seconds until a bucket is warm again; None when no key is left at all."""
        ...

    async def cool(self, key: Key, seconds: float, why: str) -> None:
        """429: its bucket rests so long."""
        ...

    async def drain(self, key: Key) -> None:
        """402: its bucket rests for six hours."""
        ...

    async def retire(self, key: Key, code: int) -> None:
        """401, 403: the key is not used any more."""
        ...

    def drain_alerts(self) -> tuple[str, ...]:
        """What the owner must do something about, each once."""
        ...


class Budget(Protocol):
    """The day's caps (`trading.llm.budget`), as far as they are used here."""

    async def reserve(self, tokens: int, usd: Decimal) -> Reservation | None:
        """Leave to spend so much; None when not so much is left today."""
        ...

    async def settle(self, reservation: Reservation, tokens: int, usd: Decimal) -> None:
        """What it came to."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long an attempt may take, and how many there are."""

    attempt_seconds: float = 8.0
    attempts: int = 2


class _Failed(Exception):
    """No answer, and why. `again`: another attempt may help. `judged`: the model's answer is at fault, not yet told to
    its breaker."""

    def __init__(self, status: Status, problem: str, *, again: bool = False, judged: bool = False) -> None:
        super().__init__(problem)
        self.status = status
        self.again = again
        self.judged = judged


@dataclass(frozen=True, slots=True)
class _Spent:
    tokens: int
    usd: Decimal


_NOTHING: Final = _Spent(0, ZERO)


@dataclass(slots=True)
class _Inquiry:
    """One question under way."""

    question: Question
    client: LanguageModel
    begun: float
    deadline: float
    attempt: int = 0
    repaired: bool = False
    cut_off: bool = False
    calls: list[ModelCall] = field(default_factory=list)
    avoid: set[str] = field(default_factory=set)
    limited: Counter[str] = field(default_factory=Counter)
    last: _Failed | None = None

    @property
    def model(self) -> AgentModel:
        return self.question.model


@dataclass(frozen=True, slots=True)
class _Request:
    """One request: what it is, whose key it bears, when it began, and the most it can cost."""

    wire: ModelRequest
    key: Key
    begun: float
    bytes_in: int
    most: _Spent


class Caller:
    """Asks models by their clients, by provider; `rng` is for jitter. Safe for several questions at a time."""

    def __init__(
        self,
        clients: Mapping[str, LanguageModel],
        *,
        keys: Keys,
        budget: Budget,
        breakers: Breakers,
        clock: Clock,
        rng: random.Random,
        patience: Patience | None = None,
    ) -> None:
        self._clients = dict(clients)
        self._keys = keys
        self._budget = budget
        self._breakers = breakers
        self._clock = clock
        self._rng = rng
        self._patience = patience or Patience()

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """Ask, read, and if need be repair or ask again, within `seconds`.

        Cancelled, it books the request under way at the most it can cost, leaves nothing running and raises
        `Interrupted` with the calls.
        """
        client = self._clients.get(question.model.provider)
        if client is None:
            return Outcome(status=Status.ERROR, problem=f"nothing speaks to {question.model.provider}")
        shut = self._breakers.blocked(question.model.model)
        if shut is not None:
            problem = f"{question.model.model} has failed too often: it is left alone for {shut:.0f} s more"
            return Outcome(status=Status.ERROR, problem=problem)
        begun = self._clock.monotonic()
        inquiry = _Inquiry(question, client, begun, begun + seconds)
        try:
            return await self._outcome(inquiry, seconds)
        except asyncio.CancelledError:
            raise Interrupted(tuple(inquiry.calls)) from None

    async def _outcome(self, inquiry: _Inquiry, seconds: float) -> Outcome:
        status, text, problem = Status.OK, "", ""
        try:
            async with asyncio.timeout(seconds + GRACE):
                text = await self._retrying(inquiry)(self._attempt, inquiry)
                self._breakers.succeeded(inquiry.model.model)
        except _Failed as no:
            status, problem = no.status, str(no)
            if no.judged:
                self._breakers.failed(inquiry.model.model)
        except TimeoutError:
            status, problem = Status.TIMEOUT, f"no answer within {seconds:.1f} s"
            if inquiry.cut_off:
                self._breakers.failed(inquiry.model.model)
        alerts = self._keys.drain_alerts()
        return Outcome(status=status, text=text, problem=problem, calls=tuple(inquiry.calls), alerts=alerts)

    def _retrying(self, inquiry: _Inquiry) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, _Failed) and error.again),
            stop=lambda state: self._enough(inquiry, state),
            wait=self._pause,
            sleep=self._clock.sleep,
            reraise=True,
        )

    def _enough(self, inquiry: _Inquiry, state: RetryCallState) -> bool:
        late = self._left(inquiry) - state.upcoming_sleep < LEAST
        return late or state.attempt_number >= self._patience.attempts

    def _pause(self, state: RetryCallState) -> float:
        """Exponential with full jitter; an answer that was cut off or blocked is asked for anew at once."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, _Failed) and error.judged:
            return 0.0
        return self._rng.uniform(0.0, min(LONGEST_BACKOFF, BACKOFF * 2.0 ** (state.attempt_number - 1)))

    def _left(self, inquiry: _Inquiry) -> float:
        return inquiry.deadline - self._clock.monotonic()

    async def _attempt(self, inquiry: _Inquiry) -> str:
        """The text of a good answer."""
        inquiry.attempt += 1
        reply, problems = await self._answered(inquiry, None)
        if problems and self._mendable(inquiry, reply):
            inquiry.repaired = True
            reply, problems = await self._answered(inquiry, (_cut(reply.text, LONGEST_MENDED), _complaint(problems)))
        if problems:
            told = not reply.stopped or not reply.text.strip()
            inquiry.last = _Failed(Status.INVALID, "; ".join(problems), again=told, judged=True)
            raise inquiry.last
        return reply.text

    def _mendable(self, inquiry: _Inquiry, reply: ModelReply) -> bool:
        """One repair for a question, of an answer that is complete and says something."""
        complete = reply.stopped and bool(reply.text.strip())
        return complete and not inquiry.repaired and self._left(inquiry) >= LEAST

    async def _answered(self, inquiry: _Inquiry, repair: tuple[str, str] | None) -> tuple[ModelReply, tuple[str, ...]]:
        """What the model says, and what is wrong with it. Keys are changed as often as providers refuse them."""
        while True:
            key = await self._key(inquiry)
            try:
                answered = await self._requested(inquiry, key, repair)
            except (Unanswered, Refused) as no:
                if not await self._rotated(inquiry, key, no):
                    inquiry.last = await self._failure(inquiry, key, no)
                    raise inquiry.last from None
            else:
                if answered is not None:
                    return answered

    async def _key(self, inquiry: _Inquiry) -> Key:
        provider = inquiry.model.provider
        while True:
            key = self._keys.take(provider, inquiry.avoid) or self._keys.take(provider)
            if key is not None:
                return key
            wait = self._keys.wait(provider)
            if wait is None or wait + LEAST > self._left(inquiry):
                raise _without_key(inquiry.last, provider, wait)
            await self._clock.sleep(max(wait, 0.01))

    async def _rotated(self, inquiry: _Inquiry, key: Key, no: Unanswered | Refused) -> bool:
        """Whether it was about the key, which is then out of the way."""
        with contextlib.suppress(Transient):  # it counts at once, and is stored along with the next change
            if no.code == 429:
                await self._keys.cool(key, self._rest(inquiry, key, no), str(no))
            elif no.code == 402:
                await self._keys.drain(key)
            elif no.code in {401, 403}:
                await self._keys.retire(key, no.code)
        return no.code in _ABOUT_KEYS

    def _rest(self, inquiry: _Inquiry, key: Key, no: Unanswered | Refused) -> float:
        """Seconds; a bucket that had waited as long as it was told to, and is told again, gets no third try."""
        hint = no.hint if isinstance(no, Unanswered) else None
        inquiry.limited[key.bucket] += 1
        if hint is None or inquiry.limited[key.bucket] > 1:
            return max(LIMIT_REST, hint or 0.0)
        return hint

    async def _failure(self, inquiry: _Inquiry, key: Key, no: Unanswered | Refused) -> _Failed:
        model = inquiry.model.model
        if isinstance(no, Refused):
            return _Failed(Status.ERROR, f"{no} (a request of ours that is wrong, or {model} was retired)")
        inquiry.avoid.add(key.bucket)
        self._breakers.failed(model)
        if no.hint:
            with contextlib.suppress(Transient):
                await self._keys.cool(key, no.hint, str(no))
        return _Failed(_status(no), self._told(inquiry, no), again=self._breakers.blocked(model) is None)

    def _told(self, inquiry: _Inquiry, no: Unanswered) -> str:
        """What happened; of a second attempt that ran out of time, what both of them took."""
        if not no.timeout or inquiry.attempt < 2:
            return str(no)
        return f"no answer in {inquiry.attempt} attempts, {self._clock.monotonic() - inquiry.begun:.1f} s together"

    async def _requested(
        self, inquiry: _Inquiry, key: Key, repair: tuple[str, str] | None
    ) -> tuple[ModelReply, tuple[str, ...]] | None:
        """One request, booked and recorded, however it ends; None where its key has gone out of use meanwhile."""
        request = self._request(inquiry, key, repair)
        reservation = await self._reserved(request.most)
        spent = request.most  # what was not answered may be billed all the same
        try:
            if not self._keys.usable(key):  # booking takes its time
                spent = _NOTHING
                return None
            reply = _without_secret(await inquiry.client.answer(request.wire, key.secret), key)
            problems = _problems(inquiry.question, reply)
            spent = _spent(inquiry.model, request, reply)
            inquiry.calls.append(self._replied(inquiry, request, reply, problems, spent))
        except asyncio.CancelledError:
            inquiry.cut_off = True
            inquiry.calls.append(self._unanswered(inquiry, request, Unanswered("cut off", timeout=True), spent))
            raise
        except (Unanswered, Refused) as no:
            spent = request.most if isinstance(no, Unanswered) and no.code < 300 and not no.unsent else _NOTHING
            inquiry.calls.append(self._unanswered(inquiry, request, no, spent))
            raise
        finally:
            with contextlib.suppress(Transient):  # then it stays booked at the most it can cost
                await self._budget.settle(reservation, spent.tokens, spent.usd)
        return reply, problems

    async def _reserved(self, most: _Spent) -> Reservation:
        try:
            reservation = await self._budget.reserve(most.tokens, most.usd)
        except Transient as no:
            raise _Failed(Status.ERROR, f"what it costs cannot be booked: {no}") from None
        if reservation is None:
            problem = f"today's budget does not allow {most.tokens} tokens for {most.usd:.4f} USD more"
            raise _Failed(Status.SKIPPED_BUDGET, problem)
        return reservation

    def _request(self, inquiry: _Inquiry, key: Key, repair: tuple[str, str] | None) -> _Request:
        left = self._left(inquiry)
        if left <= 0:
            raise inquiry.last or _Failed(Status.TIMEOUT, "no time was left to ask")
        wire = _wire(inquiry.question, repair, min(left, self._patience.attempt_seconds))
        size = sum(len(part.encode()) for part in (wire.system, wire.user, *(wire.repair or ())))
        most_in = (size + len(canonical(wire.schema))) // 2  # no tokenizer makes more of JSON
        most_out = max(wire.max_tokens, LEAST_TOKENS_OUT)
        most = _Spent(most_in + most_out, _price(inquiry.model, most_in, most_out))
        return _Request(wire, key, self._clock.monotonic(), size, most)

    def _replied(
        self, inquiry: _Inquiry, request: _Request, reply: ModelReply, problems: tuple[str, ...], spent: _Spent
    ) -> ModelCall:
        told = None not in {reply.tokens_in, reply.tokens_out}
        notes = [*problems, *(() if told else ("the cost is estimated: tokens were not reported",))]
        if len(reply.text) > LONGEST_RAW:
            notes.append(f"of {len(reply.text)} characters the first {LONGEST_RAW} are kept")
        return ModelCall(
            attempt=inquiry.attempt,
            repair=request.wire.repair is not None,
            status=Status.INVALID if problems else Status.OK,
            code=200,
            finish=reply.finish,
            raw=reply.text[:LONGEST_RAW],
            problem="; ".join(notes),
            latency_ms=self._latency(request),
            bytes_in=request.bytes_in,
            bytes_out=len(reply.text.encode()),
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            cost_usd=spent.usd,
            key=request.key.tail,
        )

    def _unanswered(self, inquiry: _Inquiry, request: _Request, no: Unanswered | Refused, spent: _Spent) -> ModelCall:
        billed = f" (booked at the most it can cost, {spent.usd:.4f} USD)" if spent.usd else ""
        return ModelCall(
            attempt=inquiry.attempt,
            repair=request.wire.repair is not None,
            status=_status(no),
            code=no.code,
            finish="",
            raw="",
            problem=f"{no}{billed}",
            latency_ms=self._latency(request),
            bytes_in=request.bytes_in,
            bytes_out=0,
            tokens_in=None,
            tokens_out=None,
            cost_usd=spent.usd,
            key=request.key.tail,
        )

    def _latency(self, request: _Request) -> int:
        return round(1000 * (self._clock.monotonic() - request.begun))


def _wire(question: Question, repair: tuple[str, str] | None, seconds: float) -> ModelRequest:
    """A repair is told the form of the answer and the packet, not again how to judge: that is done, and costs bytes."""
    prompt = question.prompt
    return ModelRequest(
        model=question.model.model,
        system=prompt.system if repair is None else f"{_MENDING}\n\n{prompt.form}",
        user=prompt.filled(question.packet),
        schema=question.schema,
        max_tokens=question.model.max_tokens,
        temperature=question.model.temperature,
        seconds=seconds,
        repair=repair,
    )


def _problems(question: Question, reply: ModelReply) -> tuple[str, ...]:
    """What keeps a reply from being an answer; a good text counts only where it ended by itself."""
    if not reply.stopped:
        return (f"the answer ended with {reply.finish}, which is no normal stop",)
    return read(question.agent, reply.text, question.facts).problems


def _without_secret(reply: ModelReply, key: Key) -> ModelReply:
    """A reply is stored and shown: a provider that repeats the key in it must not get it there."""
    text, finish = (part.replace(key.secret, f"…{key.tail}") for part in (reply.text, reply.finish))
    return replace(reply, text=text, finish=finish[:LONGEST_FINISH])


def _complaint(problems: tuple[str, ...]) -> str:
    listed = _cut("\n".join(f"- {problem}" for problem in problems), LONGEST_COMPLAINT)
    return f"That answer cannot be used:\n{listed}\nAnswer again with one corrected JSON object and nothing else."


def _cut(text: str, most: int) -> str:
    """As much of a text as has so many bytes."""
    return text[:most].encode(errors="replace")[:most].decode(errors="ignore")


def _status(no: Unanswered | Refused) -> Status:
    """How a request that brought no answer is recorded. An answer that is none of a model is an invalid one."""
    if isinstance(no, Unanswered) and no.timeout:
        return Status.TIMEOUT
    named = {200: Status.INVALID, 402: Status.QUOTA, 429: Status.QUOTA}
    return named.get(no.code, Status.ERROR)


def _without_key(last: _Failed | None, provider: str, wait: float | None) -> _Failed:
    """Nobody is left to ask with: the failure before, if there is one, says more."""
    name = NAMES.get(provider, provider)
    if wait is None:
        problem = f"no usable key of {name} is left: put one into {VARIABLES.get(provider, 'KEY_FILE')}"
    else:
        problem = f"every key of {name} is resting, the next for {wait:.0f} s more"
    if last is None:
        return _Failed(Status.QUOTA, problem)
    return _Failed(last.status, f"{last}; {problem}", judged=last.judged)


def _spent(model: AgentModel, request: _Request, reply: ModelReply) -> _Spent:
    """By the provider's count, else by four bytes a token."""
    tokens_in = request.bytes_in // 4 if reply.tokens_in is None else reply.tokens_in
    tokens_out = len(reply.text.encode()) // 4 if reply.tokens_out is None else reply.tokens_out
    return _Spent(tokens_in + tokens_out, _price(model, tokens_in, tokens_out))


def _price(model: AgentModel, tokens_in: int, tokens_out: int) -> Decimal:
    """USD, exact."""
    price_in, price_out = Decimal(str(model.price_in)), Decimal(str(model.price_out))
    return (price_in * tokens_in + price_out * tokens_out) / _MILLION
