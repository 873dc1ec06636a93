"""The private socket: login, heartbeat, and the events of orders, fills, position and wallet (facts 2.2, 5.3)."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal

import pytest

from tests.wire.harness import (
    Account,
    Inbox,
    PaperExchange,
    code_of,
    login,
    number,
    pybit_socket,
    raw_socket,
    until,
    wall_ms,
)
from tests.wire.markets import STILL

PATH = "/v5/private"


# ---- the door ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [False, True], ids=["a number, as pybit", "a string, as ccxt"])
async def test_authentication_accepts_either_kind_of_time(still: PaperExchange, text: bool) -> None:
    """success true, op auth and a connection id."""
    async with raw_socket(still, PATH) as socket:
        answer = await socket.login(text=text)
    assert (answer["success"], answer["op"]) == (True, "auth")
    assert answer["conn_id"]


@pytest.mark.parametrize("wrong", ["secret", "key", "expired"])
async def test_failed_authentication_says_so(still: PaperExchange, wrong: str) -> None:
    """A wrong secret, an unknown key or a time in the past is success false, op auth."""
    async with raw_socket(still, PATH) as socket:
        if wrong == "expired":
            answer = await socket.login(expires=wall_ms() - 5000)
        elif wrong == "key":
            answer = await socket.login(key="stranger")
        else:
            answer = await socket.login(secret="wrong")
    assert (answer["success"], answer["op"]) == (False, "auth")


async def test_a_stranger_hears_nothing(account: Account) -> None:
    """A socket that has not authenticated gets no order, whatever it subscribes."""
    async with raw_socket(account.exchange, PATH) as stranger, raw_socket(account.exchange, PATH) as owner:
        await owner.login()
        assert (await owner.subscribe("order"))["success"] is True
        await stranger.send({"op": "subscribe", "args": ["order"]})
        order_id = account.limit("Buy", "0.01", "45000")
        await owner.wait(lambda frame: frame.get("topic") == "order", "the order")
        with suppress(AssertionError):  # the server may have hung up on a stranger, which is its right
            await stranger.answer({"op": "ping"})
    assert order_id
    assert [frame for frame in stranger.seen if "topic" in frame] == []


async def test_a_subscription_that_outruns_the_login_is_served(account: Account) -> None:
    """pybit sends auth and subscriptions in one go: they are answered in order and the topics work."""
    async with raw_socket(account.exchange, PATH) as socket:
        await socket.send(login())
        ack = await socket.subscribe("order", req_id="s1")
        assert [frame["op"] for frame in socket.seen] == ["auth", "subscribe"]
        assert (ack["success"], ack["req_id"]) == (True, "s1")
        order_id = account.limit("Buy", "0.01", "45000")
        frame = await socket.wait(lambda frame: frame.get("topic") == "order", "the order")
    assert frame["data"][0]["orderId"] == order_id


@pytest.mark.parametrize("topic", ["nonsense", "tickers.BTCUSDT"])
async def test_a_bad_private_topic_is_refused(still: PaperExchange, topic: str) -> None:
    """Neither an unknown topic nor a public one is served on the private socket."""
    async with raw_socket(still, PATH) as socket:
        await socket.login()
        refusal = await socket.subscribe(topic)
    assert refusal["success"] is False


@pytest.mark.parametrize("req_id", ["hb", 5, None])
async def test_the_private_pong_carries_the_time(still: PaperExchange, req_id: str | int | None) -> None:
    """op pong, the request id echoed, one argument: the time in ms as text."""
    async with raw_socket(still, PATH) as socket:
        await socket.login()
        pong = await socket.answer({"op": "ping"} | ({} if req_id is None else {"req_id": req_id}))
    assert pong["op"] == "pong"
    assert str(pong.get("req_id") or "") == ("" if req_id is None else str(req_id))
    assert abs(int(pong["args"][0]) - wall_ms()) < 5000
    assert pong["conn_id"]


async def test_no_snapshot_is_sent_on_subscribing(account: Account) -> None:
    """With a position and an order open, the private topics stay silent until something happens."""
    account.trade("Buy", "0.01")
    account.limit("Buy", "0.01", "45000")
    async with raw_socket(account.exchange, PATH) as socket:
        await socket.login()
        await socket.subscribe("order", "execution", "position", "wallet")
        await socket.answer({"op": "ping"})
        assert [frame for frame in socket.seen if "topic" in frame] == []


async def test_topics_by_category_are_served_too(account: Account) -> None:
    """order.linear is the categorised name of the same events."""
    async with raw_socket(account.exchange, PATH) as socket:
        await socket.login()
        assert (await socket.subscribe("order.linear"))["success"] is True
        order_id = account.limit("Buy", "0.01", "45000")
        frame = await socket.wait(lambda frame: str(frame.get("topic")).startswith("order"), "the order")
    assert frame["data"][0]["orderId"] == order_id


# ---- events, as pybit hears them -----------------------------------------------------------------


def test_every_frame_has_the_private_envelope(account: Account, still_events: Inbox) -> None:
    """id, topic, creationTime as a number of market time or wall time, data as a list, and only known topics."""
    mark = still_events.mark()
    account.trade("Buy", "0.01")
    still_events.wait(lambda frame: frame["topic"] == "wallet", "the wallet", mark=mark)
    for frame in still_events.since(mark):
        assert set(frame) >= {"id", "topic", "creationTime", "data"}
        assert frame["topic"] in {"order", "execution", "position", "wallet"}
        assert (type(frame["creationTime"]), type(frame["data"])) == (int, list)
        assert frame["data"]


def test_a_resting_order_is_announced(account: Account, still_events: Inbox) -> None:
    """order: New, with the REST fields, the category and the fields that only the stream has."""
    mark = still_events.mark()
    order_id = account.limit("Buy", "0.01", "45000", orderLinkId=f"rest-{mark}-{wall_ms()}")
    event = still_events.row("order", "the order", mark=mark, orderId=order_id)
    rest = account.reaches(order_id, "New")
    assert (event["orderStatus"], event["category"]) == ("New", "linear")
    assert (event["rejectReason"], event["cancelType"]) == ("EC_NoError", "UNKNOWN")
    assert {"closedPnl", "feeCurrency"} <= set(event)
    shared = set(rest) - {"closedPnl", "feeCurrency"}
    assert shared <= set(event)
    assert {name: (rest[name], event[name]) for name in shared if rest[name] != event[name]} == {}


def test_a_position_message_comes_with_every_order(account: Account, still_events: Inbox) -> None:
    """Even a resting order brings a position message without a change: flat, side and size empty."""
    mark = still_events.mark()
    account.limit("Buy", "0.01", "45000")
    row = still_events.row("position", "a position", mark=mark, symbol="BTCUSDT")
    assert (row["side"], row["size"], row["entryPrice"], row["category"]) == ("", "0", "0", "linear")
    assert "avgPrice" not in row


def test_a_resting_order_changes_the_wallet_s_margin(account: Account, still_events: Inbox) -> None:
    """A wallet message tells of the margin the order reserves; the balance in it is what it was."""
    balance = account.balance()
    mark = still_events.mark()
    account.limit("Buy", "0.1", "45000")
    still_events.wait(lambda frame: frame["topic"] == "wallet", "the wallet", mark=mark, timeout=4)
    coin = still_events.rows("wallet", mark=mark)[-1]["coin"][0]
    assert (coin["coin"], number(coin["walletBalance"])) == ("USDT", balance)
    assert number(coin["totalOrderIM"]) > 0


def test_an_amended_order_is_announced_as_new_again(account: Account, still_events: Inbox) -> None:
    """The same id, New, with the new price; updatedTime does not go back."""
    mark = still_events.mark()
    order_id = account.limit("Buy", "0.01", "45000")
    first = still_events.row("order", "the order", mark=mark, orderId=order_id)
    mark = still_events.mark()
    account.http.amend_order(category="linear", symbol="BTCUSDT", orderId=order_id, price="45001")
    second = still_events.row("order", "the amended order", mark=mark, orderId=order_id)
    assert (second["orderStatus"], number(second["price"])) == ("New", Decimal(45_001))
    assert int(second["updatedTime"]) >= int(first["updatedTime"])


def test_a_cancelled_order_is_announced(account: Account, still_events: Inbox) -> None:
    """Cancelled by the user, and nothing comes after that."""
    mark = still_events.mark()
    order_id = account.limit("Buy", "0.01", "45000")
    account.cancel(order_id)
    event = still_events.row("order", "the cancel", mark=mark, orderId=order_id, orderStatus="Cancelled")
    assert event["cancelType"] == "CancelByUser"
    assert number(event["leavesQty"]) == 0
    states = [row["orderStatus"] for row in still_events.rows("order", mark=mark) if row["orderId"] == order_id]
    assert states == ["New", "Cancelled"]


def test_a_crossing_post_only_order_is_announced_as_cancelled(account: Account, still_events: Inbox) -> None:
    """The acknowledgement was good; the stream says Cancelled and why."""
    mark = still_events.mark()
    order_id = account.limit("Buy", "0.01", "50500", timeInForce="PostOnly")
    event = still_events.row("order", "the cancel", mark=mark, orderId=order_id, orderStatus="Cancelled")
    assert event["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    assert [row for row in still_events.rows("execution", mark=mark) if row["orderId"] == order_id] == []


def test_a_refused_order_is_not_announced(account: Account, still_events: Inbox) -> None:
    """A refusal at create leaves no trace on the stream: the next order is the next event."""
    mark = still_events.mark()
    assert code_of(account.create, side="Sell", orderType="Market", qty="0.01", reduceOnly=True) == 110017
    order_id = account.limit("Buy", "0.01", "45000")
    still_events.row("order", "the next order", mark=mark, orderId=order_id)
    assert {row["orderId"] for row in still_events.rows("order", mark=mark)} == {order_id}


@pytest.mark.parametrize(("side", "price"), [("Buy", "50010"), ("Sell", "49990")])
def test_a_fill_is_announced_on_four_topics(
    account: Account, still_events: Inbox, side: str, price: str
) -> None:
    """order Filled, execution, position and wallet tell one story in their own words."""
    mark = still_events.mark()
    before = account.balance()
    order_id = account.trade(side, "0.02")["orderId"]
    order = still_events.row("order", "the order", mark=mark, orderId=order_id, orderStatus="Filled")
    fill = still_events.row("execution", "the fill", mark=mark, orderId=order_id)
    position = still_events.row("position", "the position", mark=mark, side=side)
    still_events.wait(lambda frame: frame["topic"] == "wallet", "the wallet", mark=mark)
    coin = still_events.rows("wallet", mark=mark)[-1]["coin"][0]
    fee = Decimal("0.02") * number(price) * Decimal("0.00055")
    assert (number(order["avgPrice"]), number(order["cumExecQty"])) == (number(price), Decimal("0.02"))
    assert (number(fill["execPrice"]), number(fill["execQty"])) == (number(price), Decimal("0.02"))
    assert (fill["execType"], fill["isMaker"], fill["category"]) == ("Trade", False, "linear")
    assert (number(fill["execPnl"]), abs(number(fill["execFee"]) - fee) < Decimal("1e-8")) == (Decimal(0), True)
    assert (number(position["size"]), number(position["entryPrice"])) == (Decimal("0.02"), number(price))
    assert (coin["coin"], number(coin["walletBalance"])) == ("USDT", account.balance())
    assert abs(before - fee - number(coin["walletBalance"])) < Decimal("1e-8")


def test_the_states_of_a_market_order_only_go_forward(account: Account, still_events: Inbox) -> None:
    """New may come or not; Filled comes once and last."""
    mark = still_events.mark()
    order_id = account.trade("Buy", "0.01")["orderId"]
    still_events.row("order", "the fill", mark=mark, orderId=order_id, orderStatus="Filled")
    states = [row["orderStatus"] for row in still_events.rows("order", mark=mark) if row["orderId"] == order_id]
    assert states in (["Filled"], ["New", "Filled"])


def test_the_fill_on_the_stream_is_the_fill_in_the_list(account: Account, still_events: Inbox) -> None:
    """Every field that both know is the same over REST and on the stream."""
    mark = still_events.mark()
    order_id = account.trade("Buy", "0.01")["orderId"]
    event = still_events.row("execution", "the fill", mark=mark, orderId=order_id)
    row = account.executions(orderId=order_id)[0]
    shared = set(row) & set(event)
    assert {"execId", "execPrice", "execQty", "execFee", "execTime", "execValue", "seq", "feeRate"} <= shared
    assert {name: (row[name], event[name]) for name in shared if row[name] != event[name]} == {}


def test_closing_is_announced_with_its_profit(account: Account, still_events: Inbox) -> None:
    """The closing fill carries closedSize and execPnl; the position is flat: side empty, size and entry zero."""
    account.trade("Buy", "0.02")
    mark = still_events.mark()
    order_id = account.trade("Sell", "0.02", reduceOnly=True)["orderId"]
    fill = still_events.row("execution", "the closing fill", mark=mark, orderId=order_id)
    flat = still_events.row("position", "the flat position", mark=mark, side="")
    assert (number(fill["closedSize"]), number(fill["execPnl"])) == (Decimal("0.02"), Decimal("-0.4"))
    assert (flat["size"], flat["entryPrice"]) == ("0", "0")
    assert fill["seq"] == flat["seq"]


def test_every_execution_has_its_own_id(account: Account, still_events: Inbox) -> None:
    """Executions are told apart by execId, and none is told twice."""
    mark = still_events.mark()
    ids = [account.trade(side, "0.001")["orderId"] for side in ("Buy", "Sell", "Buy", "Sell")]
    for order_id in ids:
        still_events.row("execution", "the fill", mark=mark, orderId=order_id)
    seen = [row["execId"] for row in still_events.rows("execution", mark=mark)]
    assert len(seen) == len(set(seen)) == 4


def test_an_attached_stop_is_announced_as_untriggered(account: Account, still_events: Inbox) -> None:
    """The child order comes on the stream with its parent, and the position with the stop."""
    mark = still_events.mark()
    parent = account.trade("Buy", "0.01", stopLoss="49000", orderLinkId=f"p-{wall_ms()}")
    child = still_events.row("order", "the child", mark=mark, orderStatus="Untriggered")
    assert (child["stopOrderType"], child["side"], child["orderLinkId"]) == ("StopLoss", "Sell", "")
    assert child["parentOrderLinkId"] in {parent["orderLinkId"], parent["orderId"]}
    assert number(child["triggerPrice"]) == 49_000
    until(
        lambda: [row for row in still_events.rows("position", mark=mark) if number(row["stopLoss"]) == 49_000],
        "the stop on the position",
    )


def test_a_stop_set_later_is_announced(account: Account, still_events: Inbox) -> None:
    """trading-stop brings the untriggered order and the position with its stop; removing it takes both back."""
    account.trade("Sell", "0.01")
    mark = still_events.mark()
    account.protect(stopLoss="51000")
    stop = still_events.row("order", "the stop", mark=mark, orderStatus="Untriggered", stopOrderType="StopLoss")
    still_events.mark()
    assert number(still_events.rows("position", mark=mark)[-1]["stopLoss"]) == 51_000
    mark = still_events.mark()
    account.protect(stopLoss="0")
    gone = still_events.row("order", "the stop to go", mark=mark, orderId=stop["orderId"])
    still_events.mark()
    assert gone["orderStatus"] in {"Cancelled", "Deactivated"}
    assert number(still_events.rows("position", mark=mark)[-1]["stopLoss"]) == 0


def test_events_carry_market_time(account: Account, still_events: Inbox) -> None:
    """Times of orders and fills lie inside the bar the market stands in."""
    mark = still_events.mark()
    order_id = account.trade("Buy", "0.01")["orderId"]
    order = still_events.row("order", "the order", mark=mark, orderId=order_id, orderStatus="Filled")
    fill = still_events.row("execution", "the fill", mark=mark, orderId=order_id)
    for stamp in (order["createdTime"], order["updatedTime"], fill["execTime"]):
        assert STILL.begin <= int(stamp) < STILL.begin + STILL.bar


def test_two_private_sockets_hear_the_same(account: Account, still_events: Inbox) -> None:
    """A second connection gets the same executions as the first."""
    inbox = Inbox()
    with pybit_socket(account.exchange, "private") as client:
        client.execution_stream(inbox)
        until(lambda: client.auth, "the login")
        mark = still_events.mark()
        until(lambda: account.trade("Buy", "0.001") and len(inbox) > 0, "a fill on the second socket")
        heard = {row["execId"] for row in inbox.rows("execution")}
    assert heard
    until(lambda: heard <= {row["execId"] for row in still_events.rows("execution", mark=mark)}, "the same")
