"""What the checks of the wire share: the program as a process, its clients, and waiting for conditions."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import ccxt  # type: ignore[import-untyped]
import ccxt.pro  # type: ignore[import-untyped]
from pybit.exceptions import InvalidRequestError  # type: ignore[import-untyped]
from pybit.unified_trading import HTTP, WebSocket, WebSocketTrading  # type: ignore[import-untyped]

from tests.wire.markets import Market

Json = dict[str, Any]
T = TypeVar("T")

MAIN = Path(__file__).resolve().parents[2] / "main.py"
SYMBOL = "BTCUSDT"
UNIFIED = "BTC/USDT:USDT"
KEY = SECRET = "paper"
PATIENCE = 15.0  # seconds: a condition that has not come true by then never will
LINGER = 1.5  # seconds: a closed socket of pybit lives on for its ping timeout (facts 8.3)
OPEN_STATES = frozenset({"New", "PartiallyFilled", "Untriggered", "Triggered"})


# ---- waiting -------------------------------------------------------------------------------------


def until(condition: Callable[[], T | None], what: str, *, timeout: float = PATIENCE) -> T:
    """The first thing `condition` returns that is neither None nor False; fails by name when the time is up."""
    deadline = time.monotonic() + timeout
    while True:
        found = condition()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(0.02)


async def eventually(condition: Callable[[], T | None], what: str, *, patience: float = PATIENCE) -> T:
    """`until` for a test whose own loop must go on running."""
    deadline = time.monotonic() + patience
    while True:
        found = condition()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {patience:g} s in vain for {what}")
        await asyncio.sleep(0.02)


def wall_ms() -> int:
    """Now, in ms UTC."""
    return time.time_ns() // 1_000_000


# ---- the program ---------------------------------------------------------------------------------


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class PaperExchange:
    """`main.py exchange` as a process of its own, in a folder of its own."""

    folder: Path
    market: Market
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    calls: dict[str, deque[float]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder / "exchange.log"

    def start(self) -> None:
        """Start the process and wait until its port answers market/time."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        candles = next(self.folder.glob("BTCUSDT-*"), None) or self.market.write(self.folder)
        options = {"--candles": candles, "--port": self.port, "--speed": self.market.speed}
        options |= {"--history": self.market.history}
        command = [sys.executable, str(MAIN), "exchange", *(str(part) for item in options.items() for part in item)]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env={**kept, "DATA_DIR": str(data)}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log,
            )  # fmt: skip
        until(self._answers, "the exchange to answer market/time", timeout=40)

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise AssertionError(f"main.py exchange ended with {self.process.returncode}: {said}")
        with suppress(OSError, http.client.HTTPException, ValueError):
            return bool(request(self, "GET", "/v5/market/time").body["retCode"] == 0)
        return False

    def kill(self) -> None:
        """What a power cut does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=10)

    def stop(self) -> None:
        """Ask it to end, and do not take no for an answer."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()

    def pace(self, kind: str) -> None:
        """Wait as long as a call of this kind would break the limit of ten in a second (facts 3.2)."""
        times = self.calls.setdefault(kind, deque(maxlen=9))
        if len(times) == 9:  # one less than allowed, for calls do not arrive as evenly as they are sent
            time.sleep(max(0.0, times[0] + 1.03 - time.monotonic()))
        times.append(time.monotonic())


@contextmanager
def running(folder: Path, market: Market) -> Iterator[PaperExchange]:
    """A fresh account in a running exchange."""
    exchange = PaperExchange(folder=folder, market=market)
    try:
        exchange.start()
        yield exchange
    finally:
        exchange.stop()


# ---- requests by hand: what the clients cannot send ----------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back over HTTP."""

    status: int
    headers: dict[str, str]
    body: Json


def request(
    exchange: PaperExchange, method: str, target: str, *, headers: dict[str, str] | None = None, body: str = ""
) -> Reply:
    """Send exactly these bytes; header names of the reply are in lower case."""
    connection = http.client.HTTPConnection("127.0.0.1", exchange.port, timeout=10)
    try:
        connection.request(method, target, body=body.encode() if body else None, headers=headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        return Reply(
            status=response.status,
            headers={name.lower(): value for name, value in response.getheaders()},
            body=json.loads(text),
        )
    finally:
        connection.close()


def signed(
    payload: str,
    *,
    key: str = KEY,
    secret: str = SECRET,
    timestamp: int | None = None,
    window: str | None = "5000",
) -> dict[str, str]:
    """The headers of a signed request (facts 2.1); `payload` is the raw query or the raw body."""
    stamp = str(wall_ms() if timestamp is None else timestamp)
    text = f"{stamp}{key}{window or ''}{payload}"
    headers = {
        "Content-Type": "application/json",
        "X-BAPI-API-KEY": key,
        "X-BAPI-TIMESTAMP": stamp,
        "X-BAPI-SIGN": hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest(),
    }
    if window is not None:
        headers["X-BAPI-RECV-WINDOW"] = window
    return headers


# ---- pybit ---------------------------------------------------------------------------------------


@contextmanager
def pybit_http(exchange: PaperExchange, **options: Any) -> Iterator[HTTP]:
    """pybit's REST client, its endpoint overwritten (facts 8.1)."""
    client = HTTP(**({"api_key": KEY, "api_secret": SECRET} | options))
    client.endpoint = exchange.url
    try:
        yield client
    finally:
        client.client.close()


class _Loopback:
    """Sends pybit's sockets to the loopback (facts 8.1)."""

    base = ""

    def _connect(self, url: str) -> None:
        if "{SUBDOMAIN}" in url:
            url = self.base + url[url.index("/v5/") :]
        super()._connect(url)  # type: ignore[misc]


def hang_up(*clients: Any) -> None:
    """Close sockets of pybit for good: they must neither reconnect nor outlive the test."""
    threads: list[threading.Thread] = []
    for client in clients:
        client.handle_error = False
        threads.append(client.wst)
        client.exit()
    for client, thread in zip(clients, threads, strict=True):
        thread.join(timeout=client.ping_timeout + 5)


def dial(exchange: PaperExchange, channel: str, **options: Any) -> WebSocket:
    """Open pybit's public or private socket."""

    class Socket(_Loopback, WebSocket):  # type: ignore[misc]
        base = exchange.socket_url

    private = {"api_key": KEY, "api_secret": SECRET, "private_auth_expire": 10} if channel == "private" else {}
    return Socket(testnet=False, channel_type=channel, **({"ping_timeout": LINGER} | private | options))


@contextmanager
def pybit_socket(exchange: PaperExchange, channel: str, **options: Any) -> Iterator[WebSocket]:
    """pybit's public or private socket, closed in the end."""
    client = dial(exchange, channel, **options)
    try:
        yield client
    finally:
        hang_up(client)


@contextmanager
def pybit_trade(exchange: PaperExchange) -> Iterator[WebSocketTrading]:
    """pybit's trade socket."""

    class Socket(_Loopback, WebSocketTrading):  # type: ignore[misc]
        base = exchange.socket_url

    client = Socket(testnet=False, api_key=KEY, api_secret=SECRET, private_auth_expire=10, ping_timeout=LINGER)
    try:
        yield client
    finally:
        hang_up(client)


class Inbox:
    """A callback for pybit's sockets: it only keeps what came, and lets a test wait for it."""

    def __init__(self) -> None:
        self._messages: list[Json] = []
        self._came = threading.Condition()

    def __call__(self, message: Json) -> None:
        with self._came:
            self._messages.append(copy.deepcopy(message))
            self._came.notify_all()

    def __len__(self) -> int:
        with self._came:
            return len(self._messages)

    def mark(self) -> int:
        """How many messages there are once nothing more is on its way: none for 0.15 s."""
        with self._came:
            while True:
                count = len(self._messages)
                if not self._came.wait(timeout=0.15):
                    return count

    def since(self, mark: int) -> list[Json]:
        with self._came:
            return self._messages[mark:]

    def wait(
        self, fits: Callable[[Json], bool], what: str, *, mark: int = 0, timeout: float = PATIENCE
    ) -> Json:
        """The first message after `mark` that fits."""
        deadline = time.monotonic() + timeout
        with self._came:
            while True:
                found = next((message for message in self._messages[mark:] if fits(message)), None)
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                assert left > 0, f"waited {timeout:g} s in vain for {what}"
                self._came.wait(left)

    def rows(self, topic: str, *, mark: int = 0) -> list[Json]:
        """The data rows of one topic, in the order of their coming."""
        return [row for message in self.since(mark) if message["topic"] == topic for row in message["data"]]

    def row(self, topic: str, what: str, *, mark: int = 0, **fields: Any) -> Json:
        """Wait for a data row of the topic whose fields have these values."""

        def fits(message: Json) -> bool:
            return message["topic"] == topic and any(has(row, fields) for row in message["data"])

        message = self.wait(fits, what, mark=mark)
        return next(row for row in message["data"] if has(row, fields))


def has(row: Json, fields: Json) -> bool:
    """Whether the row carries these values."""
    return all(row.get(name) == value for name, value in fields.items())


# ---- an account by pybit -------------------------------------------------------------------------


def number(text: str) -> Decimal:
    """A number of the wire; the empty string means no value and is zero here."""
    return Decimal(text or "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a test does with an account, through pybit."""

    exchange: PaperExchange
    http: HTTP

    def create(self, **fields: Any) -> Json:
        """Send an order for the one symbol; returns the ids of the acknowledgement."""
        self.exchange.pace("create")
        answer: Json = self.http.place_order(**({"category": "linear", "symbol": SYMBOL} | fields))
        result: Json = answer["result"]
        return result

    def limit(self, side: str, qty: str, price: str, **fields: Any) -> str:
        """Send a limit order; returns its id."""
        order_id: str = self.create(side=side, orderType="Limit", qty=qty, price=price, **fields)["orderId"]
        return order_id

    def trade(self, side: str, qty: str, **fields: Any) -> Json:
        """Send a market order and wait until it is filled; returns it."""
        order_id: str = self.create(side=side, orderType="Market", qty=qty, **fields)["orderId"]
        return self.reaches(order_id, "Filled")

    def cancel(self, order_id: str) -> Json:
        self.exchange.pace("cancel")
        answer: Json = self.http.cancel_order(category="linear", symbol=SYMBOL, orderId=order_id)
        result: Json = answer["result"]
        return result

    def cancel_all(self) -> Json:
        self.exchange.pace("cancel-all")
        answer: Json = self.http.cancel_all_orders(category="linear", settleCoin="USDT")
        result: Json = answer["result"]
        return result

    def protect(self, **fields: Any) -> Json:
        """Set the stops of the position."""
        self.exchange.pace("trading-stop")
        whole = {"category": "linear", "symbol": SYMBOL, "tpslMode": "Full", "positionIdx": 0}
        answer: Json = self.http.set_trading_stop(**(whole | fields))
        return answer

    def orders(self, **filters: Any) -> list[Json]:
        """Open orders, newest first."""
        asked = {"category": "linear", "symbol": SYMBOL, "limit": 50} | filters
        rows: list[Json] = self.http.get_open_orders(**asked)["result"]["list"]
        return rows

    def order(self, order_id: str) -> Json | None:
        """One order by its id, open or closed."""
        return next((row for row in self.orders(orderId=order_id) if row["orderId"] == order_id), None)

    def reaches(self, order_id: str, *states: str) -> Json:
        """Wait until the order is in one of these states."""

        def there() -> Json | None:
            row = self.order(order_id)
            return row if row is not None and row["orderStatus"] in states else None

        return until(there, f"order {order_id} to be {' or '.join(states)}, is {self.order(order_id)}")

    def position(self) -> Json:
        rows: list[Json] = self.http.get_positions(category="linear", symbol=SYMBOL)["result"]["list"]
        assert len(rows) == 1, rows
        return rows[0]

    def size(self) -> Decimal:
        """The position, signed."""
        row = self.position()
        return number(row["size"]) * (-1 if row["side"] == "Sell" else 1)

    def wallet(self) -> Json:
        answer: Json = self.http.get_wallet_balance(accountType="UNIFIED", coin="USDT")["result"]["list"][0]
        return answer

    def coin(self) -> Json:
        """The USDT of the wallet."""
        coins: list[Json] = self.wallet()["coin"]
        return next(coin for coin in coins if coin["coin"] == "USDT")

    def balance(self) -> Decimal:
        return number(self.coin()["walletBalance"])

    def executions(self, **filters: Any) -> list[Json]:
        """Fills and settlements, newest first."""
        asked = {"category": "linear", "symbol": SYMBOL, "limit": 100} | filters
        rows: list[Json] = self.http.get_executions(**asked)["result"]["list"]
        return rows

    def ledger(self, **filters: Any) -> list[Json]:
        """The transaction log, all pages, newest first."""
        asked = {"accountType": "UNIFIED", "category": "linear", "currency": "USDT", "limit": 50} | filters
        return list(pages(self.http.get_transaction_log, **asked))

    def closed(self, **filters: Any) -> list[Json]:
        """Closed profits, newest first."""
        asked = {"category": "linear", "symbol": SYMBOL, "limit": 100} | filters
        rows: list[Json] = self.http.get_closed_pnl(**asked)["result"]["list"]
        return rows

    def open_candle(self) -> int:
        """When the bar that the market is in has opened."""
        interval = self.exchange.market.minutes
        answer: Json = self.http.get_kline(category="linear", symbol=SYMBOL, interval=interval, limit=1)
        return int(answer["result"]["list"][0][0])

    def wait_for_calm(self) -> int:
        """Wait for the first flat bars of the pattern; returns the opening time of the bar found."""

        def calm() -> int | None:
            opened = self.open_candle()
            return opened if self.exchange.market.place_in_cycle(opened) <= 1 else None

        return until(calm, "the calm at the beginning of the pattern")

    def flatten(self) -> None:
        """No orders, no position; the wallet stays what it has become."""
        if self.orders(settleCoin="USDT"):
            self.cancel_all()
        size = self.size()
        if size:
            self.trade("Sell" if size > 0 else "Buy", str(abs(size)), reduceOnly=True)
        until(lambda: not self.orders(settleCoin="USDT") and self.size() == 0, "a flat account")


def pages(call: Callable[..., Json], **asked: Any) -> Iterator[Json]:
    """The rows of all pages, following the cursor until it is empty."""
    for _ in range(200):
        result: Json = call(**asked)["result"]
        yield from result["list"]
        asked["cursor"] = result["nextPageCursor"]
        if not asked["cursor"]:
            return
    raise AssertionError("the cursor never ends")


def code_of(call: Callable[..., Any], *arguments: Any, **fields: Any) -> int:
    """The retCode with which pybit reports a refusal; 0 when there is none."""
    try:
        call(*arguments, **fields)
    except InvalidRequestError as refusal:
        code: int = refusal.status_code
        return code
    return 0


def refusal_of(call: Callable[..., Any], *arguments: Any, **fields: Any) -> tuple[int, str]:
    """The retCode and the retMsg of a refusal."""
    try:
        call(*arguments, **fields)
    except InvalidRequestError as refusal:
        return refusal.status_code, refusal.message
    return 0, ""


# ---- ccxt ----------------------------------------------------------------------------------------


def _configured(client: Any, exchange: PaperExchange) -> Any:
    for name in ("spot", "futures", "v2", "public", "private"):
        client.urls["api"][name] = exchange.url
    return client


def _options(**more: Any) -> Json:
    linear = {"fetchMarkets": {"types": ["linear"]}}
    return {"apiKey": KEY, "secret": SECRET, "enableRateLimit": False, "options": linear} | more


@contextmanager
def ccxt_rest(exchange: PaperExchange, **options: Any) -> Iterator[Any]:
    """ccxt's synchronous client (facts 9.1)."""
    client = _configured(ccxt.bybit(_options(**options)), exchange)
    try:
        yield client
    finally:
        client.close()


@asynccontextmanager
async def ccxt_pro(exchange: PaperExchange, **options: Any) -> AsyncIterator[Any]:
    """ccxt's client with sockets (facts 9.1)."""
    client = _configured(ccxt.pro.bybit(_options(**options)), exchange)
    urls, base = client.urls["api"]["ws"], exchange.socket_url
    for name in ("spot", "inverse", "option", "linear"):
        urls["public"][name] = f"{base}/v5/public/{name}"
    urls["private"]["contract"] = urls["private"]["spot"]["unified"] = f"{base}/v5/private"
    urls["private"]["trade"] = f"{base}/v5/trade"
    try:
        yield client
    finally:
        await client.close()


# ---- sockets by hand -----------------------------------------------------------------------------


def login(*, key: str = KEY, secret: str = SECRET, expires: int | None = None, text: bool = False) -> Json:
    """The request that authenticates a socket (facts 2.2); `text` sends the time as a string, as ccxt does."""
    good_until = wall_ms() + 10_000 if expires is None else expires
    sign = hmac.new(secret.encode(), f"GET/realtime{good_until}".encode(), hashlib.sha256).hexdigest()
    return {"op": "auth", "args": [key, str(good_until) if text else good_until, sign]}


@dataclass(slots=True)
class RawSocket:
    """A WebSocket that keeps every frame it has seen."""

    socket: aiohttp.ClientWebSocketResponse
    seen: list[Json] = field(default_factory=list)

    async def send(self, message: Json) -> None:
        await self.socket.send_json(message)

    async def text(self, text: str) -> None:
        await self.socket.send_str(text)

    async def wait(self, fits: Callable[[Json], bool], what: str, *, timeout: float = PATIENCE) -> Json:  # noqa: ASYNC109
        """The next frame that fits."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"waited {timeout:g} s in vain for {what}; last seen: {self.seen[-3:]}"
            try:
                frame = await self.socket.receive(timeout=left)
            except TimeoutError:
                continue
            assert frame.type is aiohttp.WSMsgType.TEXT, f"{frame.type} while waiting for {what}"
            message: Json = json.loads(frame.data)
            self.seen.append(message)
            if fits(message):
                return message

    async def answer(self, message: Json) -> Json:
        """Send a request and wait for the answer, which names the same operation."""
        await self.send(message)
        names = {message["op"], "pong"} if message["op"] == "ping" else {message["op"]}
        return await self.wait(lambda frame: frame.get("op") in names, f"the answer to {message}")

    async def subscribe(self, *topics: str, **more: Any) -> Json:
        return await self.answer({"op": "subscribe", "args": list(topics)} | more)

    async def login(
        self, *, key: str = KEY, secret: str = SECRET, expires: int | None = None, text: bool = False
    ) -> Json:
        """Authenticate and return the answer."""
        return await self.answer(login(key=key, secret=secret, expires=expires, text=text))


@asynccontextmanager
async def raw_socket(exchange: PaperExchange, path: str, *, autoping: bool = True) -> AsyncIterator[RawSocket]:
    """A WebSocket to one of `/v5/public/linear`, `/v5/private`, `/v5/trade`."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(exchange.socket_url + path, autoping=autoping, timeout=aiohttp.ClientWSTimeout(ws_close=2))
        as socket_,
    ):  # fmt: skip
        yield RawSocket(socket_)


# ---- looking at answers --------------------------------------------------------------------------


def names(text: str) -> frozenset[str]:
    """The words of a list of fields."""
    return frozenset(text.split())


def strings_in(value: Any, path: str = "") -> Iterable[tuple[str, str]]:
    """Every string of an answer with its path."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from strings_in(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from strings_in(inner, f"{path}[{i}]")
