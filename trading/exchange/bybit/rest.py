"""Bybit's REST interface for coroutines: pybit's blocking sessions in threads, with our own patience.

`read` is repeated while that can help, for about six seconds; `write` only when it surely was not executed. Reads
and writes have threads of their own, so that no slow question delays a stop. Every failure is one of
`trading.errors` with a one-line message; nothing that pybit or requests raises leaves this module, and no
exception of theirs is chained to ours, because their texts hold what was signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pybit.exceptions import FailedRequestError, InvalidRequestError  # type: ignore[import-untyped]
from pybit.unified_trading import HTTP  # type: ignore[import-untyped]
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay

from trading.errors import ConclaveError, OutcomeUnknown, Transient
from trading.exchange.bybit import outcomes
from trading.exchange.bybit.endpoints import is_loopback
from trading.exchange.bybit.outcomes import Barred, ClockOff, Throttled

_LOG = logging.getLogger(__name__)

HTTP_SECONDS: Final = 5  # of one request, to connect and again to answer
READ_SECONDS: Final = 6.0  # of a read with all its repetitions
WRITE_SECONDS: Final = 8.0  # of a write with all its repetitions
ATTEMPTS: Final = 6
READERS: Final = 4
WRITERS: Final = 3
BAN_SECONDS: Final = 600.0
CLOCK_SECONDS: Final = 60.0  # how long a measured clock offset holds
QUICK_SECONDS: Final = 0.25  # a round trip within which half of it is a fair guess of one way
LEAST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 2.0
RESET_HEADER: Final = "X-Bapi-Limit-Reset-Timestamp"

# What a library may raise on an answer of any shape: requests' errors are OSErrors, and pybit looks into the
# answer before it knows that it is an object.
LIBRARY_ERRORS: Final = (OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError)

Call = tuple[str, dict[str, Any]]
Answers = list[dict[str, Any]]


class Session(HTTP):  # type: ignore[misc]
    """pybit's session; the clock's offset is taken into the timestamps, and nobody sees the secret by printing it."""

    offset_ms: Callable[[], int]

    def _prepare_headers(
        self, payload: str, recv_window: int, content_type: str = "application/json"
    ) -> dict[str, str]:
        stamp = time.time_ns() // 1_000_000 + self.offset_ms()
        return {
            "Content-Type": content_type,
            "X-BAPI-API-KEY": self.api_key,
            "X-BAPI-SIGN": self._auth(payload=payload, recv_window=recv_window, timestamp=stamp),
            "X-BAPI-SIGN-TYPE": "2",
            "X-BAPI-TIMESTAMP": str(stamp),
            "X-BAPI-RECV-WINDOW": str(recv_window),
        }

    def __repr__(self) -> str:
        return f"Session({self.endpoint})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offset:
    """How far the exchange's clock is ahead of ours, and when (monotonic) that was found out."""

    ahead: float
    at: float


class BybitRest:
    """One account's REST interface. `close` when done. `monotonic` is replaced in tests of long bans."""

    def __init__(
        self, url: str, *, key: str = "", secret: str = "", monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        quiet_libraries()
        self._url = url
        self._key = key
        self._secret = secret
        self._monotonic = monotonic
        self._readers = ThreadPoolExecutor(READERS, "bybit-read")
        self._writers = ThreadPoolExecutor(WRITERS, "bybit-trade")
        self._local = threading.local()
        self._sessions: list[Session] = []
        self._closed = False
        self._banned_until = -math.inf
        self._offset: Offset | None = None
        self._measuring = asyncio.Lock()

    @property
    def offset(self) -> timedelta:
        """How far the exchange's clock is ahead of ours, as last measured; zero before."""
        return timedelta(seconds=self._offset.ahead) if self._offset else timedelta()

    async def read(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of pybit's session that changes nothing; the `result` of its answer."""
        return (await self.read_all((method, params)))[0]

    async def read_all(self, *calls: Call) -> Answers:
        """Several reads, one after the other on one connection: cheaper than side by side, and repeated as one."""
        return await self._patiently(self._readers, calls, write=False)

    async def write(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method that changes something. What is already as asked gives an empty result."""
        return (await self._patiently(self._writers, ((method, params),), write=True))[0]

    async def clock_error(self) -> timedelta:
        """How far the exchange's clock is ahead of ours, measured within the last minute."""
        if self._offset is None or self._monotonic() - self._offset.at > CLOCK_SECONDS:
            await self._measure()
        return self.offset

    def close(self) -> None:
        """Give up the connections; what is still under way ends by itself."""
        self._closed = True
        for pool in (self._readers, self._writers):
            pool.shutdown(wait=False, cancel_futures=True)
        for session in self._sessions:
            session.client.close()

    # ---- patience --------------------------------------------------------------------------------

    async def _patiently(self, pool: ThreadPoolExecutor, calls: Sequence[Call], *, write: bool) -> Answers:
        """At once, as nearly always; only a failure that may pass costs the machinery of repetition."""
        deadline = self._monotonic() + (WRITE_SECONDS if write else READ_SECONDS)
        try:
            return await self._once(pool, calls, deadline, write=write)
        except Transient as error:
            first: Transient | None = error
            if not _worth_repeating(error, write=write):
                raise

        async def attempt() -> Answers:
            nonlocal first
            if first is not None:
                error, first = first, None
                raise error
            return await self._once(pool, calls, deadline, write=write)

        return await self._repeated(deadline, write=write)(attempt)

    def _repeated(self, deadline: float, *, write: bool) -> AsyncRetrying:
        return AsyncRetrying(
            retry=retry_if_exception(lambda error: _worth_repeating(error, write=write)),
            stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(max(deadline - self._monotonic(), 0.0)),
            wait=self._pause,
            before_sleep=self._before_pause,
            sleep=asyncio.sleep,
            reraise=True,
        )

    def _pause(self, state: RetryCallState) -> float:
        """Exponential with jitter, or until the exchange takes requests again: its stamp may lie in the past."""
        steps = float(2 ** (state.attempt_number - 1))
        backoff = min(LEAST_PAUSE * steps, LONGEST_PAUSE) * random.uniform(0.5, 1.0)
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, Throttled) and error.reset_ms is not None:
            until_reset = error.reset_ms / 1000 - (time.time() + self.offset.total_seconds())
            return float(max(min(until_reset, LONGEST_PAUSE), 0.0) + backoff)
        return backoff

    async def _before_pause(self, state: RetryCallState) -> None:
        """A clock that the exchange finds wrong is measured again before the next attempt."""
        if state.outcome and isinstance(state.outcome.exception(), ClockOff):
            with contextlib.suppress(ConclaveError):  # the next attempt fails by itself, and says why
                await self._measure()

    # ---- one attempt -----------------------------------------------------------------------------

    async def _once(self, pool: ThreadPoolExecutor, calls: Sequence[Call], deadline: float, *, write: bool) -> Answers:
        self._refuse_when_shut()
        work = pool.submit(self._run, calls, write)
        try:
            async with asyncio.timeout(max(deadline - self._monotonic(), 0.1)):
                outcome = await asyncio.wrap_future(work)
        except TimeoutError:
            if work.cancel() or not write:  # it never began, or has no effect
                raise Transient("the exchange has not answered in time") from None
            raise OutcomeUnknown("the exchange has not answered in time: ask what became of it") from None
        if isinstance(outcome, ConclaveError):
            raise outcome
        return outcome

    def _run(self, calls: Sequence[Call], write: bool) -> Answers | ConclaveError:
        """In a thread: the calls in order, up to the first failure. Failures are returned, so that nothing chains."""
        session, answers = self._session(), []
        for method, params in calls:
            if self._monotonic() < self._banned_until:
                return self._ban()
            answer = self._call(session, method, params, write)
            if isinstance(answer, ConclaveError):
                return answer
            answers.append(answer)
        return answers

    def _call(
        self, session: Session, method: str, params: dict[str, Any], write: bool
    ) -> dict[str, Any] | ConclaveError:
        ask = getattr(session, method)
        try:
            return outcomes.result_of(ask(**params), write=write)
        except InvalidRequestError as error:
            code, said, reset = error.status_code, error.message, _reset_of(error)
        except FailedRequestError as error:
            return self._failed(error.status_code, write)
        except LIBRARY_ERRORS as error:
            return outcomes.of_library(error, write=write)
        if not isinstance(code, int):
            return outcomes.result_of(None, write=write)
        failure = outcomes.of_code(code, said, write=write, reset_ms=reset, hide=(self._key, self._secret))
        return {} if failure is None else failure

    def _failed(self, status: int, write: bool) -> ConclaveError:
        """An answer that is no answer. 403 is a ban of the whole address: every further request prolongs it."""
        if status == outcomes.HTTP_FORBIDDEN:
            self._banned_until = self._monotonic() + BAN_SECONDS
            ban = self._ban()
            _LOG.error("exchange_bans_us reason='%s'", ban)
            return OutcomeUnknown(str(ban)) if write else ban
        return outcomes.of_status(status, write=write)

    def _refuse_when_shut(self) -> None:
        if self._closed:
            raise Barred("the connection to the exchange was given up")
        if self._monotonic() < self._banned_until:
            raise self._ban()

    def _ban(self) -> Barred:
        left = timedelta(seconds=self._banned_until - self._monotonic())
        until = datetime.now(UTC) + left
        return Barred(f"the exchange refuses this IP address (HTTP 403): nothing is sent before {until:%H:%M:%S} UTC")

    def _session(self) -> Session:
        """This thread's session."""
        known: Session | None = getattr(self._local, "session", None)
        if known is None:
            known = self._local.session = self._new_session()
            self._sessions.append(known)
        return known

    def _new_session(self) -> Session:
        """pybit may not repeat anything by itself: one attempt, no code of its own to repeat on (-1 is none)."""
        session = Session(
            api_key=self._key,
            api_secret=self._secret,
            timeout=HTTP_SECONDS,
            retry_codes={-1},
            max_retries=1,
            retry_delay=0,
            force_retry=False,
            log_requests=False,
        )
        session.offset_ms = lambda: round(self._offset.ahead * 1000) if self._offset else 0
        session.endpoint = self._url
        session.client.max_redirects = 0  # nobody else gets to see what was signed
        for handler in tuple(session.logger.handlers):  # it adds one of its own when the root logger has none
            session.logger.removeHandler(handler)
        if is_loopback(self._url):
            session.client.trust_env = False  # a proxy of the environment is not for this machine; quicker, too
        return session

    # ---- the clock -------------------------------------------------------------------------------

    async def _measure(self) -> None:
        """Ask for the exchange's time, up to three times for a quick answer; the quickest counts."""
        async with self._measuring:
            best = (math.inf, 0.0)
            for _ in range(3):
                self._refuse_when_shut()
                took = await asyncio.wrap_future(self._readers.submit(self._ask_time))
                if isinstance(took, ConclaveError):
                    raise took
                best = min(best, took)
                if best[0] <= QUICK_SECONDS:
                    break
            self._offset = Offset(ahead=best[1], at=self._monotonic())

    def _ask_time(self) -> tuple[float, float] | ConclaveError:
        """In a thread: seconds of the round trip, and the exchange's time less ours in the middle of it."""
        session = self._session()
        began, ours = time.monotonic(), time.time()
        answer = self._call(session, "get_server_time", {}, False)
        if isinstance(answer, ConclaveError):
            return answer
        took = time.monotonic() - began
        try:
            return took, int(answer["timeNano"]) / 1e9 - (ours + took / 2)
        except (KeyError, TypeError, ValueError):
            return Transient("the exchange's answer is not what was expected")


def quiet_libraries() -> None:
    """pybit, websocket-client and urllib3 log what we report ourselves, some of it with what was signed."""
    for name in ("pybit", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.getLogger("websocket").propagate = False  # pybit sets its level back with every connection


def _worth_repeating(error: BaseException, *, write: bool) -> bool:
    """A read while it can help; a write only when the exchange said that it has not executed it."""
    if isinstance(error, Throttled | ClockOff):
        return True
    return isinstance(error, Transient) and not write and not isinstance(error, Barred)


def _reset_of(error: Any) -> int | None:
    """When the exchange takes requests again, in ms of its clock; None when it did not say."""
    try:
        return int(error.resp_headers[RESET_HEADER])
    except (KeyError, TypeError, ValueError):
        return None
