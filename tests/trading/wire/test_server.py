"""The server on a small market of its own: its port, its sockets, its pace."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from trading.exchange.simulated.instruments import KNOWN
from trading.exchange.simulated.ledger import MemoryKeeper
from trading.exchange.simulated.market import FileFeed, FollowedPace, Market, SimulatedClock
from trading.exchange.simulated.venue import Venue
from trading.exchange.simulated.wire.connection import Connection
from trading.exchange.simulated.wire.server import WireServer
from trading.model import CandleSeries, utc
from trading.parameters import AccountTerms
from trading.ports import BarsClosed, FeedEnded

START = 1_700_006_400_000
BARS = 40
HISTORY = 20
HOUR = timedelta(hours=1)

ClientSocket = aiohttp.ClientWebSocketResponse


def bars() -> CandleSeries:
    opens = 50_000.0 + 100 * np.arange(BARS, dtype=np.float64)
    return CandleSeries(
        symbol="BTCUSDT",
        interval=HOUR,
        timestamp=START + 3_600_000 * np.arange(BARS, dtype=np.int64),
        open=opens,
        high=opens + 150,
        low=opens - 50,
        close=opens + 100,
        volume=np.ones(BARS),
    )


class Floor:
    """A market and its server; nothing moves before the first release."""

    def __init__(self, port: int = 0) -> None:
        pace, clock = FollowedPace(free=False), SimulatedClock()
        self.venue = Venue({"BTCUSDT": KNOWN["BTCUSDT"]}, AccountTerms(), MemoryKeeper(), uid="77")
        self.market = Market(self.venue, FileFeed([bars()]), pace, clock, self.deliver)
        self.market.start_at(utc(START + HISTORY * 3_600_000))
        self.server = WireServer(
            self.venue, self.market, uid="77", key="a-key", secret="a-secret", port=port, pace=pace
        )

    def deliver(self, told: BarsClosed | FeedEnded) -> None:
        if isinstance(told, BarsClosed):
            self.server.bars_closed(told)
        else:
            self.server.feed_ended()


@asynccontextmanager
async def open_floor() -> AsyncIterator[tuple[Floor, aiohttp.ClientSession]]:
    floor = Floor()
    await floor.server.start()
    running = asyncio.create_task(floor.market.run())
    try:
        async with aiohttp.ClientSession() as session:
            yield floor, session
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        await floor.server.stop()


def auth(secret: bytes = b"a-secret") -> dict[str, Any]:
    expires = int(time.time() * 1000) + 5000
    sign = hmac.new(secret, f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
    return {"op": "auth", "args": ["a-key", expires, sign]}


def signed(payload: str) -> dict[str, str]:
    at = str(int(time.time() * 1000))
    sign = hmac.new(b"a-secret", f"{at}a-key5000{payload}".encode(), hashlib.sha256).hexdigest()
    return {"X-BAPI-API-KEY": "a-key", "X-BAPI-TIMESTAMP": at, "X-BAPI-RECV-WINDOW": "5000", "X-BAPI-SIGN": sign}


async def heard(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    message: dict[str, Any] = await socket.receive_json(timeout=5)
    return message


async def test_a_taken_port_is_an_error_and_a_stopped_server_gives_it_back() -> None:
    first = Floor()
    await first.server.start()
    port = int(first.server.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"):
        await Floor(port).server.start()
    await first.server.stop()
    second = Floor(port)
    await second.server.start()
    await second.server.stop()


async def test_a_follower_walks_the_market_to_its_end() -> None:
    """Every close is told once, in order, and nothing moves without a release."""
    async with open_floor() as (floor, session), session.ws_connect(f"{floor.server.ws_url}/paper/pace") as pace:
        hello = await heard(pace)
        assert hello == {
            "now": START + HISTORY * 3_600_000,
            "speed": 0.0,
            "uid": "77",
            "interval_ms": 3_600_000,
            "ended": False,
        }
        assert floor.server.followers == 1
        now, closes = hello["now"], 0
        for junk in ("", "[]", '{"release":"x"}', '{"release":true}', '{"release":-1}', '{"release":1e30}'):
            await pace.send_str(junk)
        while True:
            await pace.send_json({"release": now})
            told = await heard(pace)
            if told.get("ended"):
                break
            assert told == {"now": now + 3_600_000}
            now, closes = told["now"], closes + 1
        assert closes == BARS - HISTORY
    await asyncio.sleep(0.05)
    assert floor.server.followers == 0


async def test_a_web_page_cannot_set_the_pace() -> None:
    async with open_floor() as (floor, session):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{floor.server.ws_url}/paper/pace", headers={"Origin": "https://example.com"})


async def test_a_fill_is_told_before_the_close_of_its_bar() -> None:
    """Order, execution, position, wallet; the reply to the request came first."""
    async with open_floor() as (floor, session):
        server = floor.server
        async with session.ws_connect(f"{server.ws_url}/v5/private") as private:
            topics = ["order", "execution", "position", "wallet"]
            await private.send_json({"op": "subscribe", "req_id": 5, "args": topics})  # waits for the auth
            await private.send_json(auth())
            assert (await heard(private))["op"] == "auth"
            assert (await heard(private)) | {"conn_id": ""} == {
                "success": True,
                "ret_msg": "",
                "conn_id": "",
                "req_id": 5,
                "op": "subscribe",
            }
            order = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.01"}
            body = json.dumps(order)
            async with session.post(f"{server.url}/v5/order/create", data=body, headers=signed(body)) as reply:
                told = await reply.json()
            assert told["retCode"] == 0
            async with session.ws_connect(f"{server.ws_url}/paper/pace") as pace:
                await pace.send_json({"release": (await heard(pace))["now"]})
                frames = [await heard(private) for _ in range(7)]
                assert (await heard(pace))["now"] == START + (HISTORY + 1) * 3_600_000
        asked, filled = ["order", "position", "wallet"], ["order", "execution", "position", "wallet"]
        assert [frame["topic"] for frame in frames] == asked + filled
        assert [frame["data"][0].get("orderStatus") for frame in (frames[0], frames[3])] == ["New", "Filled"]
        assert frames[0]["data"][0]["orderId"] == told["result"]["orderId"]
        assert {frame["creationTime"] for frame in frames[3:]} == {START + (HISTORY + 1) * 3_600_000}


async def test_a_bar_is_confirmed_in_its_own_and_in_longer_intervals() -> None:
    async with open_floor() as (floor, session), session.ws_connect(f"{floor.server.ws_url}/v5/public/linear") as feed:
        topics = ["kline.60.BTCUSDT", "kline.120.BTCUSDT"]
        await feed.send_json({"op": "subscribe", "args": topics})
        before = time.monotonic()
        assert (await heard(feed))["success"]
        assert time.monotonic() - before >= 0.02
        assert [(await heard(feed))["data"][0]["confirm"] for _ in topics] == [False, False]
        async with session.ws_connect(f"{floor.server.ws_url}/paper/pace") as pace:
            now = (await heard(pace))["now"]
            await pace.send_json({"release": now + 3_600_000})
            rows = [(await heard(feed))["data"][0] for _ in range(4)]
        assert [(row["interval"], row["confirm"]) for row in rows] == [
            ("60", True),
            ("120", False),
            ("60", True),
            ("120", True),
        ]
        assert (rows[3]["start"], rows[3]["end"]) == (now, now + 2 * 3_600_000 - 1)
        assert (rows[3]["open"], rows[3]["close"], rows[3]["volume"]) == ("52000", "52200", "2")


@asynccontextmanager
async def one_connection(connection: Callable[[], Connection], frames: int) -> AsyncIterator[ClientSocket]:
    """The client's end of a socket to which so many frames are sent at once."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        made = connection()

        def send() -> None:
            for _ in range(frames):
                made.send("x" * 9999)

        sending = asyncio.get_running_loop().call_later(0.05, send)
        try:
            return await made.serve(request, lambda _: None, lambda: True)
        finally:
            sending.cancel()

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            yield socket
    finally:
        await runner.cleanup()


async def test_a_socket_that_says_and_hears_nothing_is_closed() -> None:
    async with one_connection(lambda: Connection(idle_seconds=0.02), 0) as socket:
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    """Its queue would eat the memory: 1,000 frames wait at most, and some are under way."""
    async with one_connection(lambda: Connection(most_waiting=1000), 5000) as socket:
        await asyncio.sleep(0.2)
        assert len([message async for message in socket]) < 5000
