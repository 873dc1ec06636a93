"""The public socket: acknowledgements, refusals, heartbeat, and what each topic carries (facts 5.1, 5.2)."""

from __future__ import annotations

import time
from decimal import Decimal

import aiohttp
import pytest

from tests.wire.harness import (
    PATIENCE,
    Inbox,
    Json,
    PaperExchange,
    dial,
    hang_up,
    number,
    pybit_socket,
    raw_socket,
    request,
)
from tests.wire.markets import TIDE

PATH = "/v5/public/linear"
TICKER = frozenset(
    {"symbol", "lastPrice", "markPrice", "indexPrice", "bid1Price", "bid1Size", "ask1Price", "ask1Size", "fundingRate"}
    | {"nextFundingTime", "openInterest", "volume24h", "turnover24h", "highPrice24h", "lowPrice24h", "prevPrice24h"}
    | {"price24hPcnt", "tickDirection"}
)


def carries(topic: str, kind: str | None = None) -> Json:
    """The fields of a frame of this topic."""
    return {"topic": topic} | ({"type": kind} if kind else {})


def fits(frame: Json, fields: Json) -> bool:
    return all(frame.get(name) == value for name, value in fields.items())


# ---- acknowledgements ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("req_id", "echo"),
    [({"req_id": "abc-1"}, "abc-1"), ({"req_id": 17}, "17"), ({}, "")],
    ids=["text", "integer", "absent"],
)
async def test_a_subscription_is_acknowledged_with_its_id(still: PaperExchange, req_id: Json, echo: str) -> None:
    """success, an empty message, a connection id, and the request id as it came: text, number or nothing."""
    async with raw_socket(still, PATH) as socket:
        ack = await socket.subscribe("tickers.BTCUSDT", **req_id)
    assert ack["success"] is True
    assert ack["ret_msg"] == ""
    assert ack["conn_id"]
    assert str(ack["req_id"]) == echo
    assert ack["op"] == "subscribe"


async def test_the_acknowledgement_comes_before_the_first_data_and_not_at_once(still: PaperExchange) -> None:
    """pybit dies of an answer that overtakes its own bookkeeping: the ack takes its 20 ms, and data comes after it."""
    async with raw_socket(still, PATH) as socket:
        begun = time.monotonic()
        ack = await socket.subscribe("tickers.BTCUSDT")
        assert time.monotonic() - begun >= 0.015
        assert socket.seen == [ack]
        await socket.wait(lambda frame: fits(frame, carries("tickers.BTCUSDT", "snapshot")), "the snapshot")


async def test_extra_keys_in_a_request_are_ignored(still: PaperExchange) -> None:
    """ccxt adds names of its own to the subscription."""
    async with raw_socket(still, PATH) as socket:
        ack = await socket.subscribe("kline.15.BTCUSDT", req_id=1, callerMethodName="watchOHLCV")
    assert ack["success"] is True


async def test_topics_may_be_unsubscribed_and_subscribed_again(still: PaperExchange) -> None:
    """After unsubscribing the same topic is new again, not a duplicate."""
    async with raw_socket(still, PATH) as socket:
        assert (await socket.subscribe("tickers.BTCUSDT"))["success"] is True
        gone = await socket.answer({"op": "unsubscribe", "args": ["tickers.BTCUSDT"], "req_id": "u"})
        assert (gone["success"], gone["op"], gone["req_id"]) == (True, "unsubscribe", "u")
        assert (await socket.subscribe("tickers.BTCUSDT"))["success"] is True


async def test_several_topics_fit_in_one_request(still: PaperExchange) -> None:
    """One acknowledgement, and each topic sends its first frame."""
    topics = ["tickers.BTCUSDT", "orderbook.1.BTCUSDT", "orderbook.50.BTCUSDT"]
    async with raw_socket(still, PATH) as socket:
        assert (await socket.subscribe(*topics))["success"] is True
        missing = set(topics)
        while missing:
            frame = await socket.wait(lambda frame: "topic" in frame, f"data of {missing}")
            missing.discard(frame["topic"])


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "topic",
    [
        "nonsense",
        "tickers.NOSUCHUSDT",
        "tickers.btcusdt",
        "orderbook.500.BTCUSDT",
        "kline.7.BTCUSDT",
        "liquidation.BTCUSDT",
        "order",
        "wallet",
        "",
    ],
)
async def test_a_bad_topic_is_refused_by_name(still: PaperExchange, topic: str) -> None:
    """Unknown topics, depths and symbols, and private topics, are 'handler not found'."""
    async with raw_socket(still, PATH) as socket:
        refusal = await socket.subscribe(topic, req_id="7")
    assert refusal["success"] is False
    assert refusal["ret_msg"] == f"error:handler not found,topic:{topic}"
    assert refusal["req_id"] == "7"


async def test_one_bad_topic_rejects_the_whole_batch(still: PaperExchange) -> None:
    """The good topic beside it gets nothing: it can still be subscribed, so it was not."""
    async with raw_socket(still, PATH) as socket:
        refusal = await socket.subscribe("tickers.BTCUSDT", "nonsense")
        assert refusal["success"] is False
        assert "nonsense" in refusal["ret_msg"]
        assert (await socket.subscribe("tickers.BTCUSDT"))["success"] is True
        assert all("topic" not in frame for frame in socket.seen)


async def test_a_duplicate_subscription_is_refused_and_the_first_runs_on(tide: PaperExchange) -> None:
    """'already subscribed', and data keeps coming."""
    async with raw_socket(tide, PATH) as socket:
        assert (await socket.subscribe("kline.1.BTCUSDT"))["success"] is True
        refusal = await socket.subscribe("kline.1.BTCUSDT", req_id="again")
        assert refusal["success"] is False
        assert refusal["ret_msg"] == "error:already subscribed,topic:kline.1.BTCUSDT"
        for _ in range(2):
            await socket.wait(lambda frame: frame.get("topic") == "kline.1.BTCUSDT", "more data")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"op": "fly", "args": []}', "error:invalid op"),
        ("this is no JSON", "Failed to decode incoming data"),
        ('{"op": "subscribe"', "Failed to decode incoming data"),
    ],
)
async def test_bad_frames_are_answered_and_the_socket_stays_open(still: PaperExchange, text: str, words: str) -> None:
    """A bad operation or a broken text is an error frame; the next subscription works."""
    async with raw_socket(still, PATH) as socket:
        await socket.text(text)
        refusal = await socket.wait(lambda frame: frame.get("success") is False, "the refusal")
        assert words in refusal["ret_msg"]
        assert (await socket.subscribe("tickers.BTCUSDT"))["success"] is True


@pytest.mark.parametrize("text", ["[]", "17", '"subscribe"', '{"op": "subscribe", "args": "tickers.BTCUSDT"}', "{}"])
async def test_odd_json_does_not_close_the_socket(still: PaperExchange, text: str) -> None:
    """JSON of another shape than a request is survived."""
    async with raw_socket(still, PATH) as socket:
        await socket.text(text)
        assert (await socket.answer({"op": "ping"}))["ret_msg"] == "pong"


# ---- heartbeat -----------------------------------------------------------------------------------


@pytest.mark.parametrize("req_id", ["hb", 5, None])
async def test_a_text_ping_is_answered(still: PaperExchange, req_id: str | int | None) -> None:
    """The public pong is success true, ret_msg pong, op ping."""
    async with raw_socket(still, PATH) as socket:
        pong = await socket.answer({"op": "ping"} | ({} if req_id is None else {"req_id": req_id}))
    assert (pong["success"], pong["ret_msg"], pong["op"]) == (True, "pong", "ping")
    assert pong["conn_id"]
    assert str(pong["req_id"]) == ("" if req_id is None else str(req_id))


@pytest.mark.parametrize("path", [PATH, "/v5/private", "/v5/trade"])
async def test_a_ping_frame_is_answered_by_a_pong_frame(still: PaperExchange, path: str) -> None:
    """pybit lives on pong frames, on every kind of socket."""
    async with raw_socket(still, path, autoping=False) as socket:
        await socket.socket.ping(b"there?")
        frame = await socket.socket.receive(timeout=PATIENCE)
    assert (frame.type, bytes(frame.data)) == (aiohttp.WSMsgType.PONG, b"there?")


# ---- topics --------------------------------------------------------------------------------------


async def test_the_first_ticker_is_a_snapshot_and_the_rest_are_deltas(tide: PaperExchange) -> None:
    """The snapshot has every field, a delta has the symbol and what changed; ts and cs are integers."""
    async with raw_socket(tide, PATH) as socket:
        await socket.subscribe("tickers.BTCUSDT")
        first = await socket.wait(lambda frame: frame.get("topic") == "tickers.BTCUSDT", "a ticker")
        assert first["type"] == "snapshot"
        assert set(first["data"]) >= TICKER
        assert {type(first["ts"]), type(first["cs"])} == {int}
        assert {type(value) for value in first["data"].values()} == {str}
        delta = await socket.wait(lambda frame: fits(frame, carries("tickers.BTCUSDT", "delta")), "a delta")
        assert delta["data"]["symbol"] == "BTCUSDT"
        assert len(delta["data"]) > 1
        assert set(delta["data"]) <= set(first["data"])


async def test_an_order_book_begins_with_a_snapshot(still: PaperExchange) -> None:
    """Bids fall, asks rise, u and seq are integers, and the symbol is named."""
    async with raw_socket(still, PATH) as socket:
        await socket.subscribe("orderbook.50.BTCUSDT")
        frame = await socket.wait(lambda frame: frame.get("topic") == "orderbook.50.BTCUSDT", "the book")
    data = frame["data"]
    bids, asks = ([number(price) for price, _ in data[side]] for side in ("b", "a"))
    assert frame["type"] == "snapshot"
    assert {type(frame["ts"]), type(data["u"]), type(data["seq"])} == {int}
    assert data["s"] == "BTCUSDT"
    assert (bids, asks) == (sorted(set(bids), reverse=True), sorted(set(asks)))
    assert Decimal("49999.9") <= bids[0] < asks[0] <= Decimal("50000.1")


@pytest.mark.parametrize("depth", [1, 50, 200, 1000])
async def test_order_books_come_in_four_depths(still: PaperExchange, depth: int) -> None:
    """1, 50, 200 and 1,000 levels are the depths there are."""
    async with raw_socket(still, PATH) as socket:
        assert (await socket.subscribe(f"orderbook.{depth}.BTCUSDT"))["success"] is True
        frame = await socket.wait(lambda frame: frame.get("topic") == f"orderbook.{depth}.BTCUSDT", "the book")
    assert 0 < len(frame["data"]["b"]) <= depth


async def test_a_book_kept_by_its_deltas_never_crosses(tide: PaperExchange) -> None:
    """u grows by one with every delta, and applying them leaves bids below asks."""
    async with raw_socket(tide, PATH) as socket:
        await socket.subscribe("orderbook.50.BTCUSDT")
        book: dict[str, dict[str, str]] = {"b": {}, "a": {}}
        last, deltas, deadline = 0, 0, time.monotonic() + PATIENCE
        while deltas < 8 and time.monotonic() < deadline:
            frame = await socket.wait(lambda frame: frame.get("topic") == "orderbook.50.BTCUSDT", "the book")
            data = frame["data"]
            if frame["type"] == "snapshot":
                book = {side: dict(data[side]) for side in ("b", "a")}
            else:
                deltas += 1
                assert data["u"] == last + 1
                for side in ("b", "a"):
                    assert all(price in book[side] for price, size in data[side] if number(size) == 0)
                    book[side] |= dict(data[side])
                    book[side] = {price: size for price, size in book[side].items() if number(size) > 0}
            last = data["u"]
            assert max(map(Decimal, book["b"])) < min(map(Decimal, book["a"]))
    assert deltas >= 8


async def test_a_candle_is_confirmed_once_and_says_what_the_file_says(tide: PaperExchange) -> None:
    """Three confirmed candles in a row: neighbours, whole, and equal to the file; start and end are integers."""
    topic = "kline.1.BTCUSDT"
    rows = {row[0]: row for row in TIDE.rows}
    async with raw_socket(tide, PATH) as socket:
        await socket.subscribe(topic)
        confirmed: list[Json] = []
        while len(confirmed) < 3:
            frame = await socket.wait(lambda frame: frame.get("topic") == topic, "a candle")
            assert (frame["type"], type(frame["ts"]), type(frame["data"])) == ("snapshot", int, list)
            confirmed += [candle for candle in frame["data"] if candle["confirm"] is True]
    starts = [candle["start"] for candle in confirmed]
    assert starts == [starts[0] + i * TIDE.bar for i in range(len(starts))]
    for candle in confirmed:
        stamp, *expected = rows[candle["start"]]
        assert (candle["end"], candle["interval"]) == (stamp + TIDE.bar - 1, "1")
        prices = [number(candle[name]) for name in ("open", "high", "low", "close", "volume")]
        assert prices == [Decimal(str(value)) for value in expected]
        assert {type(candle[name]) for name in ("open", "high", "low", "close", "volume", "turnover")} == {str}
        assert type(candle["timestamp"]) is int


async def test_an_open_candle_grows_inside_the_confirmed_one(tide: PaperExchange) -> None:
    """Before its confirm a candle is pushed unconfirmed, never beyond the range it will have."""
    topic = "kline.1.BTCUSDT"
    rows = {row[0]: row for row in TIDE.rows}
    async with raw_socket(tide, PATH) as socket:
        await socket.subscribe(topic)
        opened: list[Json] = []
        while len(opened) < 6:
            frame = await socket.wait(lambda frame: frame.get("topic") == topic, "a candle")
            opened += [candle for candle in frame["data"] if candle["confirm"] is False]
    for candle in opened:
        _, opening, high, low, _, volume = rows[candle["start"]]
        assert number(candle["open"]) == Decimal(str(opening))
        assert Decimal(str(low)) <= number(candle["low"]) <= number(candle["close"]) <= number(candle["high"])
        assert number(candle["high"]) <= Decimal(str(high))
        assert number(candle["volume"]) <= Decimal(str(volume))


async def test_candles_of_other_intervals_are_pushed(tide: PaperExchange) -> None:
    """A five-minute candle is pushed from the file's one-minute bars, aligned to five minutes."""
    async with raw_socket(tide, PATH) as socket:
        assert (await socket.subscribe("kline.5.BTCUSDT"))["success"] is True
        frame = await socket.wait(lambda frame: frame.get("topic") == "kline.5.BTCUSDT", "a candle")
    candle = frame["data"][0]
    assert candle["interval"] == "5"
    assert (candle["start"] % (5 * TIDE.bar), candle["end"] - candle["start"]) == (0, 5 * TIDE.bar - 1)


async def test_public_trades_walk_through_the_bars(tide: PaperExchange) -> None:
    """Each trade has time, side, size, price and id; prices stay inside the market's range, times never go back."""
    topic = "publicTrade.BTCUSDT"
    async with raw_socket(tide, PATH) as socket:
        await socket.subscribe(topic)
        trades: list[Json] = []
        while len(trades) < 10:
            frame = await socket.wait(lambda frame: frame.get("topic") == topic, "a trade")
            assert (frame["type"], type(frame["ts"])) == ("snapshot", int)
            trades += frame["data"]
    stamps = [trade["T"] for trade in trades]
    assert stamps == sorted(stamps)
    assert len({trade["i"] for trade in trades}) == len(trades)
    for trade in trades:
        assert (type(trade["T"]), trade["s"], trade["S"] in {"Buy", "Sell"}) == (int, "BTCUSDT", True)
        assert 49_000 <= number(trade["p"]) <= 51_000
        assert number(trade["v"]) > 0
        assert type(trade["BT"]) is bool


async def test_a_pushed_trade_is_listed_as_it_was_pushed(tide: PaperExchange) -> None:
    """recent-trade knows the trades of the stream by their id, with the same time, price, size and side."""
    topic = "publicTrade.BTCUSDT"
    async with raw_socket(tide, PATH) as socket:
        await socket.subscribe(topic)
        pushed: list[Json] = []
        while len(pushed) < 10:
            frame = await socket.wait(lambda frame: frame.get("topic") == topic, "a trade")
            pushed += frame["data"]
    reply = request(tide, "GET", "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=1000")
    listed = {row["execId"]: row for row in reply.body["result"]["list"]}
    assert [trade["i"] for trade in pushed if trade["i"] not in listed] == []
    for trade in pushed:
        row = listed[trade["i"]]
        told = (str(trade["T"]), number(trade["p"]), number(trade["v"]), trade["S"])
        assert told == (row["time"], number(row["price"]), number(row["size"]), row["side"])


# ---- as pybit hears it ---------------------------------------------------------------------------


def test_pybit_hears_every_public_topic(tide: PaperExchange) -> None:
    """Ticker, candle, book and trades arrive in pybit's callbacks, the ticker and the book merged."""
    ticker, candle, book, trades = Inbox(), Inbox(), Inbox(), Inbox()
    with pybit_socket(tide, "linear") as client:
        client.ticker_stream("BTCUSDT", ticker)
        client.kline_stream(1, "BTCUSDT", candle)
        client.orderbook_stream(50, "BTCUSDT", book)
        client.trade_stream("BTCUSDT", trades)
        last = ticker.wait(lambda message: len(ticker) >= 5, "five tickers")
        closed = candle.wait(lambda message: message["data"][0]["confirm"], "a confirmed candle")
        levels = book.wait(lambda message: len(book) >= 3, "three books")
        traded = trades.wait(lambda message: bool(message["data"]), "trades")
        assert client.is_connected()
    assert set(last["data"]) >= TICKER
    assert closed["data"][0]["end"] - closed["data"][0]["start"] == TIDE.bar - 1
    assert {"b", "a", "u", "seq", "s"} <= set(levels["data"])
    assert traded["topic"] == "publicTrade.BTCUSDT"


def test_pybit_unsubscribes(tide: PaperExchange) -> None:
    """After pybit's unsubscribe the topic is gone from its list, which only the acknowledgement does."""
    inbox = Inbox()
    with pybit_socket(tide, "linear") as client:
        client.kline_stream(1, "BTCUSDT", inbox)
        inbox.wait(lambda message: True, "a candle")
        client.unsubscribe("kline.1.BTCUSDT")
        deadline = time.monotonic() + PATIENCE
        while client.get_subscription_topics() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.get_subscription_topics() == []


def test_many_pybit_sockets_open_without_a_loss(still: PaperExchange) -> None:
    """Twelve connections with two topics each: every one gets its first frames, none dies of a race."""
    clients = [dial(still, "linear", ping_timeout=2) for _ in range(12)]
    try:
        for client in clients:
            ticker, book = Inbox(), Inbox()
            client.ticker_stream("BTCUSDT", ticker)
            client.orderbook_stream(1, "BTCUSDT", book)
            ticker.wait(lambda message: True, "the ticker")
            book.wait(lambda message: True, "the book")
        assert [client.wst.is_alive() for client in clients] == [True] * 12
    finally:
        hang_up(*clients)
