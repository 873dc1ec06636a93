"""The proxy is honest when it is healthy, and each of its faults does what it says and nothing else."""

from __future__ import annotations

import json
import re
import socket
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import requests
import websocket

from tests.stand_ins.proxy import Fault, Kind, Proxy
from tests.stand_ins.upstream import HOST, RawUpstream, Upstream

CREATE = "/v5/order/create"
TIME = "/v5/market/time"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    """A tiny exchange."""
    with Upstream() as running:
        yield running


@pytest.fixture
def proxy(upstream: Upstream) -> Iterator[Proxy]:
    """A line to it."""
    with Proxy(upstream.port) as line:
        yield line


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A client that keeps its connection, like pybit's."""
    with requests.Session() as one:
        one.trust_env = False
        yield one


@pytest.fixture
def link() -> str:
    """An order id of this test's own."""
    return f"cv-{uuid.uuid4().hex[:20]}"


def create(session: requests.Session, proxy: Proxy, link: str) -> requests.Response:
    """Ask for an order."""
    return session.post(proxy.rest + CREATE, json={"symbol": "BTCUSDT", "orderLinkId": link}, timeout=5)


def get(session: requests.Session, proxy: Proxy, path: str = TIME, timeout: float = 5.0) -> requests.Response:
    """Ask for something."""
    return session.get(proxy.rest + path, timeout=timeout)


def told(proxy: Proxy, link: str) -> list[tuple[bool, int | None, str]]:
    """For each time an order was sent: did it reach the exchange, what did that say, what was the program told."""
    return [(each.forwarded, each.exchange, each.told) for each in proxy.seen().orders[link]]


def within(seconds: float, condition: Callable[[], bool], what: str) -> None:
    """Wait for something that is on its way."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


# ---- healthy -------------------------------------------------------------------------------------


def test_requests_go_through_byte_by_byte() -> None:
    """Odd capitals, order and spacing of headers, an undecoded query, a body in pieces: everything stays as it is."""
    body = b'{"symbol": "BTCUSDT",  "price":"1.50", "orderLinkId": "a"}'
    asked = (
        b"POST /v5/order/create?cursor=page_args%3Dx%26&b=2&a=%20 HTTP/1.1\r\nhOST: somewhere\r\nX-BAPI-SIGN: aBc\r\n"
        b"X-Empty:\r\nx-bapi-timestamp:   17\r\nContent-length: " + str(len(body)).encode() + b"\r\n\r\n" + body
    )
    answer = (
        b"HTTP/1.1 200 Very OK\r\nTraceid: 1\r\ntransfer-encoding: Chunked\r\n\r\n"
        b'5;name=x\r\n{"ret\r\nA\r\nCode": 42}\r\n0\r\nTrailer: 1\r\n\r\n'
    )
    with (
        RawUpstream(answer, lambda got: got.endswith(body)) as raw,
        Proxy(raw.port) as proxy,
        socket.create_connection((HOST, proxy.port)) as line,
    ):
        line.settimeout(5)
        for _ in range(2):  # the connection is kept
            for at in range(0, len(asked), 50):
                line.sendall(asked[at : at + 50])
            heard = b""
            while len(heard) < len(answer):
                heard += line.recv(1000)
            assert heard == answer
        assert raw.got == asked * 2
        seen = proxy.seen()
        assert (seen.connections, seen.up, seen.down) == (1, 2 * len(asked), 2 * len(answer))
        assert [each.body for each in seen.orders["a"]] == [body.decode()] * 2


def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    """HTTP/1.0 style: the end of the line is the end of the reply."""
    answer = b'HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{"retCode":7}'
    with (
        RawUpstream(answer, lambda got: got.endswith(b"\r\n\r\n"), closes=True) as raw,
        Proxy(raw.port) as proxy,
        socket.create_connection((HOST, proxy.port)) as line,
    ):
        line.settimeout(5)
        line.sendall(b"GET / HTTP/1.1\r\n\r\n")
        heard = b""
        while data := line.recv(1000):
            heard += data
        assert heard == answer
        assert proxy.seen().ret_codes == {7: 1}


def test_counts_are_right(proxy: Proxy, session: requests.Session, link: str) -> None:
    """Requests by method and path, retCodes, statuses, and orders with what became of each sending."""
    for _ in range(3):
        assert get(session, proxy, TIME + "?a=1").json()["retCode"] == 0
    assert get(session, proxy, "/nowhere").status_code == 404
    assert create(session, proxy, link).json()["retCode"] == 0
    assert create(session, proxy, link).json()["retCode"] == 110072
    assert len(get(session, proxy, "/v5/market/kline").content) > 100_000
    seen = proxy.seen()
    assert seen.requests == {
        f"GET {TIME}": 3,
        "GET /nowhere": 1,
        f"POST {CREATE}": 2,
        "GET /v5/market/kline": 1,
    }
    assert seen.count("/v5/market") == 4
    assert seen.ret_codes == {0: 5, 110072: 1}
    assert seen.statuses == {200: 6, 404: 1}
    assert told(proxy, link) == [(True, 0, "0"), (True, 110072, "110072")]
    assert json.loads(seen.orders[link][0].body) == {"symbol": "BTCUSDT", "orderLinkId": link}
    assert (seen.connections, seen.hits) == (1, {})


def test_sockets_go_through_and_are_counted(proxy: Proxy) -> None:
    """Frames of every length code, both ways, per path; closing one end closes the other."""
    sizes = (0, 1, 125, 126, 65_535, 65_536, 300_000)
    with closing(websocket.create_connection(f"{proxy.ws}/paper/pace", timeout=5)) as ws:
        for size in sizes:
            ws.send("x" * size)
            assert ws.recv() == "x" * size
        counts = proxy.seen().sockets["/paper/pace"]
        assert (counts.opened, counts.live, counts.refused) == (1, 1, 0)
        assert (counts.frames_up, counts.frames_down) == (len(sizes), len(sizes))
        masks = 4 * len(sizes)
        assert counts.bytes_up == counts.bytes_down + masks > sum(sizes)
    within(5, lambda: proxy.seen().sockets["/paper/pace"].live == 0, "the end of the socket")


def test_many_connections_at_once(proxy: Proxy, link: str) -> None:
    """Forty threads, each with a connection of its own: nothing is mixed up, nothing is lost."""

    def one(number: int) -> list[int]:
        with requests.Session() as mine:
            mine.trust_env = False
            return [int(create(mine, proxy, f"{link}-{number}-{k}").json()["retCode"]) for k in range(5)]

    with ThreadPoolExecutor(40) as pool:
        codes = list(pool.map(one, range(40)))
    assert codes == [[0] * 5] * 40
    orders = proxy.seen().orders
    assert [len(orders[f"{link}-{n}-{k}"]) for n in range(40) for k in range(5)] == [1] * 200


def test_it_is_cheap(upstream: Upstream, proxy: Proxy) -> None:
    """What a request costs more than without it, by the median; generous, for machines that do other things too."""
    asked = f"GET {TIME} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()

    def median(port: int) -> float:
        took = []
        with socket.create_connection((HOST, port)) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(400):
                began = time.perf_counter()
                line.sendall(asked)
                line.recv(4096)
                took.append(time.perf_counter() - began)
        return statistics.median(took)

    added = min(median(proxy.port) - median(upstream.port) for _ in range(3))
    assert added < 0.001, f"{added * 1e3:.3f} ms"


def test_an_exchange_that_is_not_there(session: requests.Session) -> None:
    """Nothing listens behind it: the program's connection is reset, and works again once somebody does."""
    with socket.create_server((HOST, 0)) as free:
        port = int(free.getsockname()[1])
    with Proxy(port) as proxy:
        with pytest.raises(requests.ConnectionError):
            get(session, proxy)
        assert proxy.seen().connections >= 1


# ---- the whole line ------------------------------------------------------------------------------


def test_refused_and_back_on_the_same_port(proxy: Proxy, session: requests.Session) -> None:
    """Live connections are reset, new ones refused, and after healing the same addresses work."""
    get(session, proxy)
    with closing(websocket.create_connection(f"{proxy.ws}/v5/private", timeout=5)) as ws:
        proxy.fault(Fault(Kind.REFUSE))
        with pytest.raises(ConnectionResetError):
            ws.recv()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((HOST, proxy.port))
        with pytest.raises(requests.ConnectionError):
            get(session, proxy)
    proxy.heal()
    assert get(session, proxy).status_code == 200
    with closing(websocket.create_connection(f"{proxy.ws}/v5/private", timeout=5)) as ws:
        ws.send("back")
        assert ws.recv() == "back"
    assert proxy.seen().hits == {"refuse": 1}


def test_silence_is_held_and_arrives_late(
    upstream: Upstream, proxy: Proxy, session: requests.Session, link: str
) -> None:
    """Connects work, nothing is answered, nothing is closed; healed, what was held arrives, even if nobody waits."""
    with closing(websocket.create_connection(f"{proxy.ws}/v5/private", timeout=0.3)) as ws:
        proxy.fault(Fault(Kind.SILENT))
        ws.send(link)
        with pytest.raises(requests.ReadTimeout):
            session.post(proxy.rest + CREATE, json={"orderLinkId": link}, timeout=0.3)
        with pytest.raises(websocket.WebSocketTimeoutException):
            ws.recv()
        with socket.create_connection((HOST, proxy.port)) as line:
            line.settimeout(0.1)
            with pytest.raises(TimeoutError):
                line.recv(1)
        assert (upstream.creates[link], link in upstream.heard) == (0, False)
        proxy.heal()
        ws.settimeout(5)
        assert ws.recv() == link
    within(5, lambda: upstream.creates[link] == 1, "the late order")
    within(5, lambda: told(proxy, link) == [(True, 0, "nothing")], "its reply, which nobody heard")
    assert get(session, proxy).status_code == 200


def test_silence_that_loses(upstream: Upstream, proxy: Proxy, session: requests.Session, link: str) -> None:
    """The other kind: what was sent into it never arrives, and those connections are reset at its end."""
    with closing(websocket.create_connection(f"{proxy.ws}/v5/private", timeout=5)) as ws:
        proxy.fault(Fault(Kind.SILENT, path="/v5/", lost=True))
        ws.set_mask_key(lambda _: b"\0\0\0\0")  # type: ignore[no-untyped-call]
        ws.send(f"a frame that looks like a request: {link}")
        with pytest.raises(requests.ReadTimeout):
            session.post(proxy.rest + CREATE, json={"orderLinkId": link}, timeout=0.3)
        proxy.heal()
        with pytest.raises((ConnectionResetError, websocket.WebSocketConnectionClosedException)):
            ws.recv()
    assert get(session, proxy).status_code == 200
    assert upstream.creates[link] == 0
    assert [each for each in upstream.heard if link in each] == []


def test_silence_in_the_middle_of_a_reply(proxy: Proxy, session: requests.Session, link: str) -> None:
    """A reply that was under way when the silence began comes when it ends."""
    proxy.fault(Fault(Kind.DELAY, path=CREATE, times=1, seconds=0.2))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(create, session, proxy, link)
        within(5, lambda: link in proxy.seen().orders, "the order")
        number = proxy.fault(Fault(Kind.SILENT, path=TIME))
        with pytest.raises(requests.ReadTimeout):
            requests.get(proxy.rest + TIME, timeout=0.3)
        assert asking.result(5).json()["retCode"] == 0  # another path
        proxy.heal(number)
    assert get(session, proxy).status_code == 200


# ---- single requests -----------------------------------------------------------------------------


def test_status_on_some_paths_for_some_requests(
    upstream: Upstream, proxy: Proxy, session: requests.Session, link: str
) -> None:
    """503 for two requests under a prefix; others, and the third, go through; nothing was forwarded."""
    proxy.fault(Fault(Kind.STATUS, path="/v5/order", times=2))
    assert [create(session, proxy, link).status_code for _ in range(2)] == [503, 503]
    assert get(session, proxy).status_code == 200
    assert upstream.creates[link] == 0
    assert create(session, proxy, link).json()["retCode"] == 0
    assert told(proxy, link) == [(False, None, "503"), (False, None, "503"), (True, 0, "0")]
    assert proxy.seen().hits == {"status": 2}


def test_html_with_status_200(proxy: Proxy, session: requests.Session) -> None:
    """A page instead of JSON, until it is healed."""
    proxy.fault(Fault(Kind.HTML))
    answer = get(session, proxy)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    with pytest.raises(requests.JSONDecodeError):
        answer.json()
    proxy.heal()
    assert get(session, proxy).json()["retCode"] == 0


def test_rate_limit_with_a_reset_in_the_past(proxy: Proxy, session: requests.Session) -> None:
    """10006, and the header that pybit computes a negative sleep from."""
    proxy.fault(Fault(Kind.RET_CODE, ret_code=10006, ret_msg="Too many visits.", reset_ms=-3_000, times=1))
    before = time.time() * 1000
    answer = get(session, proxy)
    assert (answer.status_code, answer.json()["retCode"]) == (200, 10006)
    reset = int(answer.headers["X-Bapi-Limit-Reset-Timestamp"])
    assert -3_100 < reset - before < 0
    assert get(session, proxy).json()["retCode"] == 0


@pytest.mark.parametrize("code", [10000, 10016])
def test_accepted_but_told_otherwise(
    code: int, upstream: Upstream, proxy: Proxy, session: requests.Session, link: str
) -> None:
    """The exchange has the order; the program reads a server error."""
    proxy.fault(Fault(Kind.RET_CODE, path=CREATE, ret_code=code, forward=True, times=1))
    assert create(session, proxy, link).json()["retCode"] == code
    assert upstream.creates[link] == 1
    assert create(session, proxy, link).json()["retCode"] == 110072
    assert told(proxy, link) == [(True, 0, str(code)), (True, 110072, "110072")]


def lossy(kind: Kind) -> Fault:
    """This fault on one order."""
    return Fault(kind, path=CREATE, times=1)


@pytest.mark.parametrize("kind", [Kind.DROP_REPLY, Kind.TRUNCATE])
def test_a_reply_lost_after_acceptance(
    kind: Kind, upstream: Upstream, proxy: Proxy, session: requests.Session, link: str
) -> None:
    """The connection closes with no reply or half of one; the order is there."""
    proxy.fault(lossy(kind))
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        create(session, proxy, link)
    assert told(proxy, link) == [(True, 0, "nothing")]
    assert upstream.creates[link] == 1
    assert create(session, proxy, link).json()["retCode"] == 110072


def test_a_request_lost_before_it_arrives(
    upstream: Upstream, proxy: Proxy, session: requests.Session, link: str
) -> None:
    """The same for the program, but there is no order."""
    proxy.fault(lossy(Kind.DROP_REQUEST))
    with pytest.raises(requests.ConnectionError):
        create(session, proxy, link)
    assert told(proxy, link) == [(False, None, "nothing")]
    assert upstream.creates[link] == 0
    assert create(session, proxy, link).json()["retCode"] == 0


def test_truncated_means_half_a_body(proxy: Proxy) -> None:
    """The head promises more than comes."""
    proxy.fault(Fault(Kind.TRUNCATE, times=1))
    with socket.create_connection((HOST, proxy.port)) as line:
        line.settimeout(5)
        line.sendall(f"GET {TIME} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        heard = b""
        while data := line.recv(4096):
            heard += data
    head, _, body = heard.partition(b"\r\n\r\n")
    promised = re.search(rb"Content-Length: (\d+)", head)
    assert promised is not None
    assert len(body) == int(promised.group(1)) // 2


def test_delay(proxy: Proxy, session: requests.Session) -> None:
    """The reply is late by so much; other connections do not wait."""
    proxy.fault(Fault(Kind.DELAY, times=1, seconds=0.4))
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        asking = pool.submit(get, session, proxy)
        within(5, lambda: proxy.seen().hits == {"delay": 1}, "the request")
        assert requests.get(proxy.rest + TIME, timeout=5).status_code == 200
        assert not asking.done()
        assert asking.result(5).status_code == 200
        assert 0.4 <= time.monotonic() - began < 2


# ---- sockets -------------------------------------------------------------------------------------


def test_reset_of_sockets_by_path(proxy: Proxy) -> None:
    """One path's sockets are reset, another's live on."""
    with (
        closing(websocket.create_connection(f"{proxy.ws}/v5/private", timeout=5)) as private,
        closing(websocket.create_connection(f"{proxy.ws}/v5/public/linear", timeout=5)) as public,
    ):
        assert proxy.reset("/v5/private") == 1
        with pytest.raises(ConnectionResetError):
            private.recv()
        public.send("still here")
        assert public.recv() == "still here"
    assert proxy.seen().sockets["/v5/private"].live == 0


@pytest.mark.parametrize("direction", ["down", "up"])
def test_freeze_one_direction(direction: Any, upstream: Upstream, proxy: Proxy, link: str) -> None:
    """Frames of one direction are held until it is healed; the socket stays open."""
    with closing(websocket.create_connection(f"{proxy.ws}/v5/private", timeout=0.3)) as ws:
        proxy.fault(Fault(Kind.FREEZE, path="/v5/private", direction=direction))
        ws.send(link)
        with pytest.raises(websocket.WebSocketTimeoutException):
            ws.recv()
        assert (link in upstream.heard) == (direction == "down")
        with closing(websocket.create_connection(f"{proxy.ws}/v5/public/linear", timeout=5)) as other:
            other.send("x")
            assert other.recv() == "x"
        proxy.heal()
        ws.settimeout(5)
        assert ws.recv() == link


def test_upgrades_refused(proxy: Proxy, session: requests.Session) -> None:
    """Whoever wants a socket gets 502; requests go through, also on that path."""
    proxy.fault(Fault(Kind.NO_UPGRADE, path="/v5/private", status=502))
    with pytest.raises(websocket.WebSocketBadStatusException, match="502"):
        websocket.create_connection(f"{proxy.ws}/v5/private", timeout=5)
    with closing(websocket.create_connection(f"{proxy.ws}/v5/public/linear", timeout=5)):
        assert get(session, proxy).status_code == 200
        assert get(session, proxy, "/v5/private").status_code == 400  # the exchange's own word
    sockets = proxy.seen().sockets
    assert (sockets["/v5/private"].opened, sockets["/v5/private"].refused) == (0, 1)
    assert sockets["/v5/public/linear"].opened == 1
    proxy.heal()
    with closing(websocket.create_connection(f"{proxy.ws}/v5/private", timeout=5)):
        assert proxy.seen().sockets["/v5/private"].live == 1


def test_the_oldest_fault_counts_and_each_heals_alone(proxy: Proxy, session: requests.Session) -> None:
    """Two on one path: the second has its turn when the first is over."""
    first = proxy.fault(Fault(Kind.STATUS, status=503))
    proxy.fault(Fault(Kind.STATUS, status=429, times=1))
    assert get(session, proxy).status_code == 503
    proxy.heal(first)
    assert get(session, proxy).status_code == 429
    assert get(session, proxy).status_code == 200


@pytest.mark.parametrize("settings", [{"kind": Kind.SILENT, "times": 1}, {"kind": Kind.REFUSE, "path": "/v5"}])
def test_what_a_fault_cannot_do_is_said(settings: dict[str, Any]) -> None:
    """A silence has no number of requests, a refused port no paths."""
    with pytest.raises(ValueError, match=r"healed|path"):
        Fault(**settings)


def test_it_goes_with_its_block(upstream: Upstream) -> None:
    """Nothing of it is left: not the process, not the port, not a thread."""
    before = threading.active_count()
    with Proxy(upstream.port) as proxy:
        port = proxy.port
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port))
