"""A stream that is always on its way back, against a server that does what real ones do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.trading.exchange_bybit.standin import StandIn, standing_in, until
from trading.exchange.bybit.streams import Plan, Stream

TOPICS = (("kline.1.{symbol}", ("BTCUSDT", "ETHUSDT")), ("tickers.{symbol}", ("BTCUSDT", "ETHUSDT")))
PRIVATE: tuple[tuple[str, tuple[str, ...]], ...] = (("order", ()), ("execution", ()))


class Listener:
    """What a stream told."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.states: list[str] = []

    @property
    def up(self) -> bool:
        return bool(self.states) and self.states[-1] == "up"

    @property
    def ups(self) -> int:
        return self.states.count("up")


@contextlib.asynccontextmanager
async def listening(plan: Plan) -> AsyncIterator[Listener]:
    """A running stream; its threads are gone afterwards."""
    listener = Listener()
    stream = Stream(
        plan,
        on_frame=listener.frames.append,
        on_up=lambda: listener.states.append("up"),
        on_down=listener.states.append,
    )
    task = asyncio.create_task(stream.run())
    try:
        yield listener
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await stream.ended()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """Whatever a test did."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 6
    while {thread for thread in threading.enumerate() if thread.name != "bybit-stream"} - before:
        assert time.monotonic() < deadline, threading.enumerate()
        time.sleep(0.02)


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    """The stand-in."""
    async with standing_in() as one:
        yield one


def has_more_ups(heard: Listener, before: int) -> bool:
    return heard.ups > before


def public(server: StandIn) -> Plan:
    return Plan(name="public", url=server.ws + "/v5/public/linear", topics=TOPICS)


def private(server: StandIn) -> Plan:
    return Plan(name="private", url=server.ws + "/v5/private", topics=PRIVATE, key="THE-KEY", secret="THE-SECRET")


@pytest.mark.parametrize("plan", [public, private])
async def test_it_is_up_when_all_is_acknowledged(server: StandIn, plan: Any) -> None:
    """And not before; then frames come in order."""
    async with listening(plan(server)) as heard:
        await until(lambda: heard.up)
        wanted = (
            ["order", "execution"]
            if plan is private
            else [f"{kind}.{symbol}" for kind in ("kline.1", "tickers") for symbol in ("BTCUSDT", "ETHUSDT")]
        )
        assert server.subscribed == wanted
        for n in range(20):
            await server.tell({"topic": wanted[0], "n": n})
        await until(lambda: len(heard.frames) == 20)
        assert [frame["n"] for frame in heard.frames] == list(range(20))
    assert heard.states == ["up"]


@pytest.mark.parametrize("plan", [public, private])
async def test_it_is_rebuilt_when_it_dies(server: StandIn, plan: Any) -> None:
    """Told once as down with a reason, up again within moments, and everything subscribed anew."""
    async with listening(plan(server)) as heard:
        await until(lambda: heard.ups == 1)
        topics = list(server.subscribed)
        for _ in range(3):
            before = heard.ups
            server.subscribed.clear()
            server.reset()
            await until(partial(has_more_ups, heard, before))
            assert server.subscribed == topics
    assert [state == "up" for state in heard.states] == [True, False] * 3 + [True]
    assert all("stream is down" in state for state in heard.states[1::2])


async def test_an_orderly_close_is_an_end_too(server: StandIn) -> None:
    """As Bybit's own restarts."""
    async with listening(public(server)) as heard:
        await until(lambda: heard.up)
        await server.sockets[0].close()
        await until(lambda: heard.ups == 2)


async def test_it_comes_back_after_refusal(server: StandIn) -> None:
    """Refused for three seconds; up within five of healing, and without a storm of attempts."""
    async with listening(public(server)) as heard:
        await until(lambda: heard.up)
        await server.down()
        await until(lambda: not heard.up)
        await asyncio.sleep(3)
        await server.up()
        assert await until(lambda: heard.up) < 5
    assert len(heard.states) == 3


async def test_it_waits_for_a_server_that_is_not_there(server: StandIn) -> None:
    """From the first start; handshakes that fail are not hurried."""
    server.handshake_status = 502
    async with listening(private(server)) as heard:
        await asyncio.sleep(2)
        assert 2 <= len(server.connects) <= 5
        assert heard.states == []
        server.handshake_status = 101
        assert await until(lambda: heard.up) < 5


async def test_silence_is_noticed(server: StandIn) -> None:
    """Within twelve seconds of the last word, although the connection stands. A quiet market is not silence."""
    async with standing_in() as quiet, listening(public(quiet)) as content, listening(public(server)) as heard:
        await until(lambda: heard.up and content.up)
        server.speaks.clear()
        await server.tell("{}")
        assert await until(lambda: not heard.up, 12) > 5
        server.speaks.set()
        assert await until(lambda: heard.up) < 5
        assert content.states == ["up"]  # answers to pings keep it so


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "not json",
        "[1, 2]",
        "null",
        "7",
        "{}",
        '{"op": "unheard-of"}',
        '{"topic": 7}',
        '{"success": false}',
        "[" * 5000,
        '{"op": "subscribe", "success": true, "req_id": "nobody"}',
        '{"op": "unsubscribe", "success": false}',
    ],
)
async def test_garbage_is_passed_over(server: StandIn, garbage: str) -> None:
    """The connection stays."""
    async with listening(public(server)) as heard:
        await until(lambda: heard.up)
        await server.tell(garbage)
        await server.tell({"topic": "kline.1.BTCUSDT"})
        await until(lambda: heard.frames)
        assert heard.states == ["up"]


async def test_a_broken_frame_is_an_end(server: StandIn) -> None:
    """What is no WebSocket any more."""
    async with listening(public(server)) as heard:
        await until(lambda: heard.up)
        request = server.sockets[0]._req
        assert request is not None
        assert request.transport is not None
        request.transport.write(b"\x8f\x00")
        await until(lambda: heard.ups == 2)


@pytest.mark.parametrize("what", ["key", "topic"])
async def test_a_refusal_is_told_once_and_not_hurried(
    server: StandIn, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """With the exchange's reason, without the key."""
    server.accepts_key, server.accepts_topics = what != "key", what != "topic"
    with caplog.at_level(logging.INFO):
        async with listening(private(server)) as heard:
            await until(lambda: server.connects)
            await asyncio.sleep(1)
            assert (len(server.connects), heard.states) == (1, [])
    told = [record.getMessage() for record in caplog.records if "stream_down" in record.getMessage()]
    assert len(told) == 1
    assert "not accepted: error:handler not found" in told[0]
    assert "THE-KEY" not in told[0]


async def test_stopping_while_it_opens_leaves_nothing(server: StandIn) -> None:
    """At any moment."""
    for wait in (0.0, 0.005, 0.02, 0.03, 0.05, 0.1):
        async with listening(public(server)):
            await asyncio.sleep(wait)
    await until(lambda: not server.sockets)


def test_stderr_stays_clean() -> None:
    """In a process of its own, without any logging set up: nothing but our own lines, whatever happens."""
    probe = Path(__file__).with_name("probe.py")
    done = subprocess.run(
        [sys.executable, "-m", "tests.trading.exchange_bybit.probe"],
        cwd=probe.parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines
    assert [line for line in lines if not line.startswith("stream_down ")] == []
