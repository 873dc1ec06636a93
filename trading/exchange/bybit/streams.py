"""One WebSocket stream of Bybit that is always on its way back: a supervisor around pybit's object.

pybit sends, pings, signs and subscribes; everything that kills it silently is kept from it (facts: section 8.3):
it never reconnects by itself, frames do not pass through its own bookkeeping, and its endless waiting loops end.
`Stream.run` opens a connection in a thread, reports it once the exchange has acknowledged authentication and every
subscription, watches it, reports its end with a reason, and starts over, for ever. Frames reach the loop in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import socket as sockets
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NoReturn, TypeVar

import websocket
from pybit.unified_trading import WebSocket  # type: ignore[import-untyped]

from trading.exchange.bybit.outcomes import one_line
from trading.exchange.bybit.rest import quiet_libraries

_LOG = logging.getLogger(__name__)

OPEN_SECONDS: Final = 4.0  # from the first packet to the last acknowledgement
PING_SECONDS: Final = 4
PONG_SECONDS: Final = 3
SILENT_SECONDS: Final = 8.5  # two pings without any answer
WATCH_SECONDS: Final = 0.5
HEALTHY_SECONDS: Final = 10.0  # a connection that lived so long starts the back-off anew
LEAST_PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 3.0  # some 95 attempts in five minutes; Bybit allows 500
REFUSED_PAUSE: Final = 30.0
AUTH_EXPIRY: Final = 10
DISCARD_SECONDS: Final = 2.0

# What a socket may raise that another thread is closing.
SOCKET_ERRORS: Final = (websocket.WebSocketException, OSError, AttributeError, ValueError)

Frame = dict[str, Any]
T = TypeVar("T")


class Broken(Exception):
    """The connection cannot be made, or has ended."""


class Refused(Exception):
    """The exchange does not accept the key or a topic: trying again soon is pointless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to connect to. `topics` are templates with the symbols that fill them (none for private topics)."""

    name: str
    url: str
    topics: tuple[tuple[str, tuple[str, ...]], ...]
    key: str = ""
    secret: str = ""

    @property
    def private(self) -> bool:
        """Whether it is authenticated."""
        return bool(self.key)


class Link:
    """What the threads of one connection and its supervisor know of each other. Every method is thread-safe."""

    def __init__(self, deliver: Callable[[Frame], None], on_end: Callable[[], None]) -> None:
        self.heard_at = time.monotonic()
        self.failure: str | None = None
        self._deliver = deliver
        self._on_end = on_end
        self._changed = threading.Condition()
        self._open_until: float | None = time.monotonic() + OPEN_SECONDS
        self._authorised = False
        self._acks = 0
        self._refusal: str | None = None
        self.socket: Socket | None = None

    def check(self) -> None:
        """Raise when there is no use in going on: pybit's loops wait for a connection and ask nothing else."""
        if self._refusal is not None:
            raise Refused(self._refusal)
        if self.failure is not None:
            raise Broken(self.failure)
        if self._open_until is not None and time.monotonic() > self._open_until:
            raise Broken(f"no answer within {OPEN_SECONDS:.0f} seconds")

    def end(self, reason: str) -> None:
        """The connection is over; the first reason counts."""
        with self._changed:
            if self.failure is not None:
                return
            self.failure = reason
            self._changed.notify_all()
        self._on_end()

    def opened(self) -> None:
        """Everything is acknowledged: from now on only silence counts. Raises when it was given up meanwhile."""
        self.check()
        self._open_until = None

    def await_auth(self) -> None:
        """Block until the exchange has accepted the key."""
        self._await(lambda: self._authorised)

    def await_acks(self, count: int) -> None:
        """Block until so many subscriptions are acknowledged."""
        self._await(lambda: self._acks >= count)

    def received(self, message: str | bytes) -> None:
        """Take in one frame. What is no JSON object, or nothing known, proves only that the other side lives."""
        self.heard_at = time.monotonic()
        try:
            frame = json.loads(message)
        except (ValueError, RecursionError):
            return
        if not isinstance(frame, dict) or self.failure is not None:
            return
        if isinstance(frame.get("topic"), str):
            self._deliver(frame)
        elif self._open_until is None:
            return  # a pong
        elif frame.get("op") == "auth":
            self._answered(frame, "the key was not accepted")
        elif frame.get("op") == "subscribe":
            self._answered(frame, "a topic was not accepted")

    def _answered(self, frame: Frame, complaint: str) -> None:
        said = str(frame.get("ret_msg") or frame.get("retMsg") or "")
        good = frame.get("success") is True or frame.get("retCode") == 0 or "already subscribed" in said
        with self._changed:
            if not good:
                self._refusal = f"{complaint}: {said or 'no reason given'}"
            elif frame["op"] == "auth":
                self._authorised = True
            else:
                self._acks += 1
            self._changed.notify_all()

    def _await(self, done: Callable[[], bool]) -> None:
        with self._changed:
            while not done():
                self.check()
                self._changed.wait(0.25)
            self.check()


class Socket(WebSocket):  # type: ignore[misc]
    """pybit's WebSocket on our address, opened once and never again; what it hears goes to its link."""

    def __init__(self, plan: Plan, link: Link) -> None:
        self._plan = plan
        self._link = link
        self._raw: sockets.socket | None = None
        link.socket = self
        super().__init__(
            channel_type="private" if plan.private else "linear",
            testnet=False,
            api_key=plan.key or None,
            api_secret=plan.secret or None,
            ping_interval=PING_SECONDS,
            ping_timeout=PONG_SECONDS,
            retries=2,  # with 1 it raises although it is connected; `is_connected` prevents the second attempt
            restart_on_error=False,
            private_auth_expire=AUTH_EXPIRY,
        )

    def _connect(self, url: str) -> None:
        super()._connect(self._plan.url)

    def is_connected(self) -> bool:
        """pybit waits for this in loops that nothing else ends."""
        self._link.check()
        return bool(super().is_connected())

    @property
    def alive(self) -> bool:
        """Whether the thread that reads still runs."""
        return bool(self.wst.is_alive())

    def _on_open(self) -> None:
        connection = self.ws.sock
        self._raw = connection.sock if connection else None
        if self._link.failure is not None:  # given up while it was being opened
            self.ws.close()

    def _on_message(self, message: str | bytes) -> None:
        self._link.received(message)

    def _on_error(self, error: BaseException) -> None:
        status = getattr(error, "status_code", None)
        refused = isinstance(error, websocket.WebSocketBadStatusException)
        self._link.end(f"HTTP {status} instead of a stream" if refused else one_line(error) or type(error).__name__)

    def _on_close(self) -> None:
        self._link.end("the exchange closed the connection")

    def _send_initial_ping(self) -> None:
        """The answer to the first protocol ping brings the first text ping: no timer thread is needed."""

    def _send_custom_ping(self) -> None:
        with contextlib.suppress(*SOCKET_ERRORS):
            self.ws.send(self.custom_ping_message)

    def discard(self) -> None:
        """Close for good, from any thread but its own; returns when its thread has ended, or after a moment."""
        self.handle_error = False
        self.exited = True
        self._link.end("given up")
        connection: Any = getattr(getattr(self, "ws", None), "sock", None)
        with contextlib.suppress(*SOCKET_ERRORS):
            self.ws.keep_running = False
            connection.send(struct.pack("!H", websocket.STATUS_NORMAL), websocket.ABNF.OPCODE_CLOSE)
        with contextlib.suppress(*SOCKET_ERRORS):
            connection.sock.shutdown(sockets.SHUT_RDWR)  # wakes its thread, which waits in select
        if (thread := getattr(self, "wst", None)) is not None:
            with contextlib.suppress(RuntimeError):  # it has not begun yet, and ends as soon as it is connected
                thread.join(DISCARD_SECONDS)
        if self._raw is not None and not self.alive:
            self._raw.close()  # websocket-client leaves it open after an orderly close


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """A stream as people see it: `silence` is the seconds since anything was heard on its connection."""

    name: str
    up: bool
    silence: float | None
    trouble: str


class Stream:
    """The supervisor. `on_frame`, `on_up` and `on_down(reason)` are called on the loop, the last two in turns."""

    def __init__(
        self,
        plan: Plan,
        *,
        on_frame: Callable[[Frame], None],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
    ) -> None:
        quiet_libraries()
        self._plan = plan
        self._on_frame = on_frame
        self._on_up = on_up
        self._on_down = on_down
        self._up = False
        self._told: str | None = None  # the complaint in the log, told once until it is up again
        self._since = 0.0
        self._leaving: threading.Thread | None = None
        self._link: Link | None = None

    @property
    def view(self) -> StreamView:
        """How it is now."""
        silence = None if self._link is None else time.monotonic() - self._link.heard_at
        return StreamView(name=self._plan.name, up=self._up, silence=silence, trouble=self._told or "")

    async def run(self) -> NoReturn:
        """Keep the stream open until cancelled."""
        websocket.setdefaulttimeout(OPEN_SECONDS)  # there is no other way to bound its connecting
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await self._live()
            except Broken as broken:
                failures = 0 if time.monotonic() - began > HEALTHY_SECONDS else failures
                pause = min(LEAST_PAUSE * 2.0**failures, LONGEST_PAUSE)
                self._report_down(str(broken))
            except Refused as refused:
                pause = REFUSED_PAUSE
                self._report_down(str(refused), retry=REFUSED_PAUSE)
            failures = min(failures + 1, 10)
            # Counted from the start of the attempt: one that hung for seconds has waited enough.
            spent = time.monotonic() - began
            await asyncio.sleep(max(pause * random.uniform(1.0, 1.15) - spent, 0.05))

    async def ended(self) -> None:
        """After `run` was cancelled: returns when the thread of its connection has ended, or after a moment."""
        if self._leaving is not None:
            await in_thread(self._leaving.join)

    async def _live(self) -> NoReturn:
        """One connection, from its first packet to its end, which is raised."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        link = Link(deliver=partial(_on_loop, loop, self._on_frame), on_end=partial(_on_loop, loop, ended.set))
        self._link = link
        try:
            socket = await in_thread(partial(_open, self._plan, link))
            self._report_up()
            await _watch(link, socket, ended)
        finally:
            link.end("given up")  # a connection that is still being opened sees it and closes itself
            if link.socket is not None:
                self._leaving = threading.Thread(target=link.socket.discard, name="bybit-stream", daemon=True)
                self._leaving.start()

    def _report_up(self) -> None:
        if self._told is not None:
            _LOG.info("stream_up stream=%s after=%.1fs", self._plan.name, time.monotonic() - self._since)
        self._told = None
        self._up = True
        self._on_up()

    def _report_down(self, reason: str, *, retry: float = LONGEST_PAUSE) -> None:
        """Log it once, and again only when the exchange refuses us instead of being away."""
        reason = one_line(reason, hide=(self._plan.key, self._plan.secret))
        if self._told is None:
            self._since = time.monotonic()
        if self._told is None or (retry == REFUSED_PAUSE and self._told != reason):
            self._told = reason
            _LOG.warning("stream_down stream=%s reason='%s' next='trying again'", self._plan.name, reason)
        if self._up:
            self._up = False
            self._on_down(f"the {self._plan.name} stream is down: {reason}")


def in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run something that blocks in a daemon thread of its own: a hung connection holds up nobody, not even the exit."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  it is raised where the outcome is awaited
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=run, name="bybit-stream", daemon=True).start()
    return asyncio.wrap_future(outcome)


def _open(plan: Plan, link: Link) -> Socket:
    """In a thread: connect, authenticate, subscribe; done when everything is acknowledged."""
    opened = False
    try:
        socket = Socket(plan, link)
        if plan.private:
            link.await_auth()
        for topic, symbols in plan.topics:
            socket.subscribe(topic, _unused, list(symbols))
        link.await_acks(len(plan.topics))
        link.opened()
        opened = True
    except SOCKET_ERRORS as error:
        raise Broken(f"it cannot be opened ({type(error).__name__})") from None
    finally:
        if not opened and link.socket is not None:
            link.socket.discard()
    return socket


async def _watch(link: Link, socket: Socket, ended: asyncio.Event) -> NoReturn:
    """Returns never: raises once the connection has ended, its thread has died, or nothing was heard for long."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WATCH_SECONDS):
                await ended.wait()
        link.check()
        if not socket.alive:
            raise Broken("its thread has ended")
        if time.monotonic() - link.heard_at > SILENT_SECONDS:
            raise Broken(f"nothing heard for {SILENT_SECONDS:.0f} seconds")


def _on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> None:
    """Hand over to the loop from a thread; a loop that is closed wants nothing any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


def _unused(message: Frame) -> None:
    """Frames are taken before pybit looks for this callback."""
