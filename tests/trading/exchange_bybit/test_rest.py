"""REST against a stand-in: what is repeated, what is unknown, what costs nothing, and what never leaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import contextmanager
from typing import Any

import pytest

from tests.trading.exchange_bybit.standin import Reply, StandIn, envelope, failure, result, standing_in
from trading.errors import OutcomeUnknown, Rejected, Transient
from trading.exchange.bybit.rest import BybitRest

CREATE = "/v5/order/create"
TICKERS = "/v5/market/tickers"
KEY, SECRET = "THE-KEY", "THE-SECRET"
ORDER = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Market",
    "qty": "1",
    "orderLinkId": "a",
}


@contextmanager
def rest_on(url: str, **more: Any) -> Any:
    """An adapter on a server."""
    rest = BybitRest(url, key=KEY, secret=SECRET, **more)
    try:
        yield rest
    finally:
        rest.close()


@pytest.fixture
async def server() -> AsyncIterator[StandIn]:
    """The stand-in."""
    async with standing_in() as one:
        yield one


@pytest.fixture
async def rest(server: StandIn) -> AsyncIterator[BybitRest]:
    """An adapter on it."""
    with rest_on(server.rest) as one:
        yield one


async def ask(rest: BybitRest) -> dict[str, Any]:
    return await rest.read("get_tickers", category="linear", symbol="BTCUSDT")


async def send(rest: BybitRest) -> dict[str, Any]:
    return await rest.write("place_order", **ORDER)


async def test_an_answer_is_its_result(server: StandIn, rest: BybitRest) -> None:
    """One request, with the parameters as given."""
    server.always[TICKERS] = result({"list": [{"lastPrice": "1.50"}]})
    assert await ask(rest) == {"list": [{"lastPrice": "1.50"}]}
    assert [seen.params for seen in server.seen] == [{"category": "linear", "symbol": "BTCUSDT"}]


async def test_several_reads_are_one(server: StandIn, rest: BybitRest) -> None:
    """In order; when the second fails, both are repeated."""
    server.always[TICKERS] = result({"n": 1})
    server.script["/v5/position/list"].extend([failure(10016), result({"n": 2})])
    answers = await rest.read_all(("get_tickers", {"category": "linear"}), ("get_positions", {"category": "linear"}))
    assert answers == [{"n": 1}, {"n": 2}]
    assert [seen.path.rsplit("/", 1)[1] for seen in server.seen] == ["tickers", "list"] * 2


@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=503, raw=b"busy"),
        Reply(status=429, raw=b"slow"),
        Reply(status=302, headers={"Location": "/elsewhere"}, raw=b""),
        Reply(raw=b"<html>maintenance</html>"),
        Reply(raw=b'{"retCode": 0, "resu'),
        Reply(raw=b"[]"),
        Reply(raw=b"null"),
        Reply(raw=b'"OK"'),
        Reply(raw=b'{"retCode": 10001}'),
        Reply(raw=b'{"retCode": 0, "result": []}'),
        Reply(raw=b"\xff\xfe"),
        Reply(raw=b'{"ok": true}'),
        failure(10000, "Server Timeout"),
        failure(10016, "Request timeout, please try again later"),
        failure(110079, "order is processing"),
        failure(777777, "never seen before"),
    ],
    ids=lambda reply: f"{reply.status} {reply.raw or (reply.body or {}).get('retCode')}"[:24],
)
async def test_a_read_is_repeated_and_a_write_is_unknown(server: StandIn, rest: BybitRest, bad: Reply) -> None:
    """The write left exactly one request behind."""
    server.script[TICKERS].append(bad)
    assert await ask(rest) == {}
    server.script[CREATE].append(bad)
    with pytest.raises(OutcomeUnknown) as caught:
        await send(rest)
    assert "\n" not in str(caught.value)
    assert len(server.asked(CREATE)) == 1


async def test_a_refusal_is_final(server: StandIn, rest: BybitRest) -> None:
    """With its code and its reason."""
    server.always[CREATE] = failure(110007, "ab not enough\nfor new order")
    with pytest.raises(Rejected, match="ab not enough for new order") as caught:
        await send(rest)
    assert caught.value.code == 110007
    server.always[TICKERS] = failure(10001, "params error: symbol invalid")
    with pytest.raises(Rejected):
        await ask(rest)
    assert len(server.seen) == 2


async def test_what_is_already_so_is_done(server: StandIn, rest: BybitRest) -> None:
    """The same stop again."""
    server.always["/v5/position/trading-stop"] = failure(34040, "not modified")
    assert await rest.write("set_trading_stop", category="linear", symbol="BTCUSDT", stopLoss="1") == {}


@pytest.mark.parametrize("seconds", [-5.0, -0.2, 0.4], ids=["long past", "past", "ahead"])
async def test_a_limit_is_waited_for(server: StandIn, rest: BybitRest, seconds: float) -> None:
    """Whatever the stamp says: the request goes out again, also a write, for it was not executed."""
    stamp = str(int((time.time() + seconds) * 1000))
    for path, call in ((TICKERS, ask), (CREATE, send)):
        server.script[path].append(failure(10006, "Too many visits", X_Bapi_Limit_Reset_Timestamp=stamp))
        began = time.monotonic()
        await call(rest)
        assert len(server.asked(path)) == 2
        if path == TICKERS:
            assert time.monotonic() - began >= max(seconds, 0.0)


async def test_effort_is_bounded(server: StandIn, rest: BybitRest) -> None:
    """A limit that never ends, and a server that is not there: some seconds, some attempts, one line."""
    server.always[CREATE] = failure(10006, "Too many visits")
    began = time.monotonic()
    with rest_on("http://127.0.0.1:1") as nowhere:
        ends = await asyncio.gather(send(rest), ask(nowhere), return_exceptions=True)
    assert time.monotonic() - began < 9
    assert all(isinstance(end, Transient) for end in ends)
    assert "cannot be reached" in str(ends[1])
    assert 3 <= len(server.asked(CREATE)) <= 6


async def test_a_clock_that_is_off_is_measured(server: StandIn, rest: BybitRest) -> None:
    """The next request carries the exchange's time, the window does not grow."""
    server.clock_ahead = 90.0
    server.script[CREATE].append(failure(10002, "invalid request, please check your server timestamp"))
    await send(rest)
    assert rest.offset.total_seconds() == pytest.approx(90, abs=0.5)
    first, second = (seen.headers for seen in server.asked(CREATE))
    moved = int(second["X-BAPI-TIMESTAMP"]) - int(first["X-BAPI-TIMESTAMP"])
    assert moved == pytest.approx(90_000, abs=2000)
    assert first["X-BAPI-RECV-WINDOW"] == second["X-BAPI-RECV-WINDOW"] == "5000"


async def test_the_clock_is_asked_once_a_minute(server: StandIn) -> None:
    """Lazily."""
    now = [1000.0]
    with rest_on(server.rest, monotonic=lambda: now[0]) as rest:
        for seconds in (0, 30, 29, 2):
            now[0] += seconds
            await rest.clock_error()
    assert len(server.asked("/v5/market/time")) == 2


async def test_a_refused_connection_is_repeated_or_unknown(server: StandIn) -> None:
    """A read comes through once the server is back; a write is not guessed about."""
    await server.down()
    with rest_on(server.rest) as rest:
        with pytest.raises(OutcomeUnknown):
            await send(rest)
        reading = asyncio.create_task(ask(rest))
        await asyncio.sleep(0.5)
        await server.up()
        assert await reading == {}
    assert len(server.seen) == 1


async def test_a_write_without_an_answer_is_unknown(server: StandIn, rest: BybitRest) -> None:
    """Sent once. Meanwhile reads and other writes go on."""
    server.script[CREATE].append(Reply(body=envelope(), delay=6))
    writing = asyncio.create_task(send(rest))
    began = time.monotonic()
    await asyncio.sleep(0.05)
    await ask(rest)
    await rest.write("set_trading_stop", category="linear", symbol="BTCUSDT", stopLoss="1")
    assert time.monotonic() - began < 1
    with pytest.raises(OutcomeUnknown):
        await writing
    assert len(server.asked(CREATE)) == 1


async def test_slow_reads_do_not_delay_a_stop(server: StandIn, rest: BybitRest) -> None:
    """They have threads of their own."""
    server.always[TICKERS] = Reply(body=envelope(), delay=0.4)
    reads = [asyncio.create_task(ask(rest)) for _ in range(8)]
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await rest.write("set_trading_stop", category="linear", symbol="BTCUSDT", stopLoss="1")
    assert time.monotonic() - began < 0.3
    await asyncio.gather(*reads)


@pytest.mark.parametrize("call", [ask, send])
async def test_a_ban_is_obeyed(server: StandIn, call: Callable[[BybitRest], Any]) -> None:
    """Not one request for ten minutes, not even by a retry; then they go on."""
    now = [1000.0]
    with rest_on(server.rest, monotonic=lambda: now[0]) as rest:
        path = TICKERS if call is ask else CREATE
        server.script[path].append(Reply(status=403, raw=b"access too frequent"))
        with pytest.raises((Transient, OutcomeUnknown), match="nothing is sent before"):
            await call(rest)
        for _ in range(3):
            now[0] += 199
            for other in (ask, send):
                with pytest.raises(Transient, match="nothing is sent before"):
                    await other(rest)
        assert len(server.seen) == 1
        now[0] += 4
        assert await ask(rest) == {}


@pytest.mark.parametrize("code", [10001, 10003, 10004, 10005, 33004, 110007, 10016])
async def test_no_failure_holds_a_secret(server: StandIn, rest: BybitRest, code: int) -> None:
    """Neither in its message nor in anything chained to it; 10004 echoes what was signed."""
    await send(rest)
    headers = server.seen[-1].headers
    echoed = f"error sign! origin_string[{headers['X-BAPI-TIMESTAMP']}{KEY}5000] {headers['X-BAPI-SIGN']} {SECRET}"
    server.always[CREATE] = failure(code, echoed)
    with pytest.raises((Rejected, OutcomeUnknown)) as caught:
        await send(rest)
    error: BaseException | None = caught.value
    while error is not None:
        assert not any(word in f"{error!r} {error}" for word in (KEY, SECRET, headers["X-BAPI-SIGN"]))
        error = error.__cause__ or error.__context__


async def test_a_session_does_not_show_its_secret(rest: BybitRest) -> None:
    """Printing an object is how secrets get into logs."""
    await ask(rest)
    assert not any(word in repr([rest, *rest._sessions]) for word in (KEY, SECRET))


async def test_nothing_is_sent_after_closing(server: StandIn, rest: BybitRest) -> None:
    """A late question is refused."""
    rest.close()
    with pytest.raises(Transient):
        await ask(rest)
    assert server.seen == []
