"""ccxt.pro: every watch call of facts 9.2 and the orders it sends over the trade socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import ccxt  # type: ignore[import-untyped]
import pytest

from tests.wire.harness import PATIENCE, UNIFIED, Account, PaperExchange, ccxt_pro, eventually, until, wall_ms
from tests.wire.markets import TIDE


@pytest.fixture
async def pro(account: Account) -> AsyncIterator[Any]:
    """ccxt.pro where the market stands, over a flat account."""
    async with ccxt_pro(account.exchange) as client:
        await client.load_markets()
        yield client


@pytest.fixture
async def watcher(tide: PaperExchange) -> AsyncIterator[Any]:
    """ccxt.pro where the market moves."""
    async with ccxt_pro(tide) as client:
        await client.load_markets()
        yield client


async def within(promise: Awaitable[Any]) -> Any:
    """What is watched for, or a failure when the patience is over."""
    return await asyncio.wait_for(promise, PATIENCE)


async def gather(watch: Callable[[], Awaitable[Any]], act: Callable[[], Any], found: Callable[[Any], bool]) -> Any:
    """Start watching, act until the watch wakes, and watch on until what is wanted is found."""
    first = asyncio.ensure_future(watch())
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not first.done() and asyncio.get_running_loop().time() < deadline:
        await asyncio.wait([first], timeout=0.3)
        if not first.done():
            await asyncio.to_thread(act)
            await asyncio.wait([first], timeout=0.5)
    seen = await within(first)
    while not found(seen):
        seen = await within(watch())
    return seen


# ---- public --------------------------------------------------------------------------------------


async def test_watch_ticker(watcher: Any) -> None:
    """The ticker comes as a snapshot and stays whole under its deltas."""
    for _ in range(3):
        ticker = await within(watcher.watch_ticker(UNIFIED))
        assert ticker["symbol"] == UNIFIED
        assert 49_000 <= ticker["last"] <= 51_000
        assert ticker["bid"] < ticker["ask"]


async def test_watch_tickers_and_bids_asks(watcher: Any) -> None:
    """The plural calls work on the same topics."""
    tickers = await within(watcher.watch_tickers([UNIFIED]))
    asks = await within(watcher.watch_bids_asks([UNIFIED]))
    assert tickers[UNIFIED]["last"] > 0
    assert asks[UNIFIED]["bid"] < asks[UNIFIED]["ask"]


async def test_watch_ohlcv(watcher: Any) -> None:
    """Candles of the file's own timeframe, one after the other."""
    seen: set[int] = set()
    while len(seen) < 3:
        seen |= {row[0] for row in await within(watcher.watch_ohlcv(UNIFIED, "1m"))}
    stamps = sorted(seen)
    assert stamps == [stamps[0] + i * TIDE.bar for i in range(len(stamps))]


@pytest.mark.parametrize("depth", [None, 1, 200])
async def test_watch_order_book(watcher: Any, depth: int | None) -> None:
    """The book in ccxt's default depth of 50 and in others never crosses."""
    for _ in range(3):
        book = await within(watcher.watch_order_book(UNIFIED, depth))
        assert book["bids"][0][0] < book["asks"][0][0]


async def test_watch_and_fetch_trades(watcher: Any) -> None:
    """Public trades have a side, a price and a size, pushed or listed."""
    pushed = await within(watcher.watch_trades(UNIFIED))
    listed = await within(watcher.fetch_trades(UNIFIED, limit=10))
    assert pushed
    assert listed
    for trade in [*pushed, *listed]:
        assert trade["side"] in {"buy", "sell"}
        assert trade["price"] * trade["amount"] > 0


async def test_a_bad_topic_rejects_the_watch(watcher: Any) -> None:
    """ccxt turns success false into an error of the one who waits, by its integer request id."""
    watcher.options["watchTicker"]["name"] = "tickers"
    url = watcher.urls["api"]["ws"]["public"]["linear"]
    with pytest.raises(ccxt.ExchangeError, match="handler not found"):
        await within(watcher.watch_topics(url, ["nonsense"], ["nonsense"]))


async def test_un_watch(watcher: Any) -> None:
    """Unsubscribing is acknowledged, and watching again works."""
    await within(watcher.watch_ticker(UNIFIED))
    await within(watcher.un_watch_ticker(UNIFIED))
    assert (await within(watcher.watch_ticker(UNIFIED)))["symbol"] == UNIFIED


async def test_the_keepalive_is_answered(watcher: Any) -> None:
    """ccxt's ping, sent here without waiting for its 18 seconds, moves its last pong on."""
    await within(watcher.watch_ticker(UNIFIED))
    client = watcher.clients[watcher.urls["api"]["ws"]["public"]["linear"]]
    before = client.lastPong or 0
    await asyncio.sleep(0.005)  # the pong is told by the ms
    await client.send(watcher.ping(client))
    assert await eventually(lambda: (client.lastPong or 0) > before, "the pong")


# ---- private -------------------------------------------------------------------------------------


async def test_watch_orders(pro: Any, account: Account) -> None:
    """A resting order is seen as open."""
    made: list[str] = []

    def rest() -> None:
        made.append(account.limit("Buy", "0.01", "45000"))

    orders = await gather(pro.watch_orders, rest, lambda seen: {row["id"] for row in seen} & set(made) != set())
    row = next(row for row in orders if row["id"] in made)
    assert (row["symbol"], row["status"], row["price"], row["amount"]) == (UNIFIED, "open", 45_000, 0.01)


async def test_watch_my_trades(pro: Any, account: Account) -> None:
    """A fill is seen with its price and its fee."""
    trades = await gather(pro.watch_my_trades, lambda: account.trade("Buy", "0.001"), lambda seen: len(seen) > 0)
    assert {(row["symbol"], row["side"], row["price"], row["takerOrMaker"]) for row in trades} == {
        (UNIFIED, "buy", 50_010, "taker")
    }
    assert trades[0]["fee"]["cost"] == pytest.approx(0.001 * 50_010 * 0.00055)


async def test_watch_positions(pro: Any, account: Account) -> None:
    """First the snapshot over REST, then the change over the socket."""
    account.trade("Buy", "0.001")
    snapshot = await within(pro.watch_positions())
    assert [(row["symbol"], row["side"]) for row in snapshot] == [(UNIFIED, "long")]

    def shown(rows: Any) -> bool:
        return any(row["contracts"] and row["contracts"] > 0.001 for row in rows)

    rows = await gather(pro.watch_positions, lambda: account.trade("Buy", "0.001"), shown)
    assert {(row["symbol"], row["side"], row["entryPrice"]) for row in rows} == {(UNIFIED, "long", 50_010)}


async def test_watch_balance(pro: Any, account: Account) -> None:
    """A fill changes the wallet, and the change is told."""
    balance = await gather(pro.watch_balance, lambda: account.trade("Buy", "0.001"), lambda seen: "USDT" in seen)
    assert balance["USDT"]["total"] == pytest.approx(float(account.balance()), abs=1)


@pytest.mark.parametrize("wrong", [{"secret": "wrong"}, {"apiKey": "stranger"}], ids=str)
async def test_a_failed_login_is_an_authentication_error(still: PaperExchange, wrong: dict[str, str]) -> None:
    """Watching with wrong keys raises AuthenticationError and does not hang."""
    unified = {"enableUnifiedMargin": False, "enableUnifiedAccount": True, "unifiedMarginStatus": 6}
    async with ccxt_pro(still) as client:
        await client.load_markets()
        client.options |= unified
        client.apiKey, client.secret = wrong.get("apiKey", client.apiKey), wrong.get("secret", client.secret)
        with pytest.raises(ccxt.ExchangeError):
            await within(client.watch_orders())


# ---- orders over the trade socket ----------------------------------------------------------------


async def test_an_order_over_the_trade_socket(pro: Any, account: Account) -> None:
    """createOrderWs, editOrderWs and cancelOrderWs make, change and cancel one order."""
    name = f"ws-{wall_ms()}"
    account.exchange.pace("create")
    made = await within(pro.create_order_ws(UNIFIED, "limit", "buy", 0.01, 45_000, {"clientOrderId": name}))
    assert made["clientOrderId"] == name
    account.reaches(made["id"], "New")
    await within(pro.edit_order_ws(made["id"], UNIFIED, "limit", "buy", 0.02, 44_000))
    until(lambda: (account.order(made["id"]) or {"qty": ""})["qty"] == "0.02", "the edited order")
    account.exchange.pace("cancel")
    gone = await within(pro.cancel_order_ws(made["id"], UNIFIED))
    assert gone["id"] == made["id"]
    account.reaches(made["id"], "Cancelled")


async def test_a_refusal_over_the_trade_socket(pro: Any, account: Account) -> None:
    """The refusal reaches the one who waits, as the exception it is over REST, and the socket lives on."""
    with pytest.raises(ccxt.InsufficientFunds):
        await within(pro.create_order_ws(UNIFIED, "limit", "buy", 30, 45_000))
    account.exchange.pace("create")
    made = await within(pro.create_order_ws(UNIFIED, "limit", "buy", 0.01, 45_000))
    account.reaches(made["id"], "New")


async def test_rest_calls_of_the_asynchronous_client(pro: Any, account: Account) -> None:
    """ccxt's asynchronous REST signs like the synchronous one, trailing question mark and all."""
    balance, positions, orders = await asyncio.gather(
        pro.fetch_balance(), pro.fetch_positions(), pro.fetch_open_orders(UNIFIED)
    )
    assert balance["USDT"]["total"] == pytest.approx(float(account.balance()), abs=1e-6)
    assert (positions, orders) == ([], [])
