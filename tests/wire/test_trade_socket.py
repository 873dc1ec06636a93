"""The trade socket: login, create, amend, cancel, batches, and how errors come back (facts 2.2, 5.4)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.wire.harness import Account, Inbox, Json, PaperExchange, RawSocket, number, pybit_trade, raw_socket, wall_ms

PATH = "/v5/trade"
LINEAR = {"category": "linear", "symbol": "BTCUSDT"}
BUY = LINEAR | {"side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "45000"}


@pytest.fixture(scope="module")
def trader(still: PaperExchange) -> Iterator[Any]:
    """pybit's trade socket."""
    with pybit_trade(still) as client:
        yield client


@pytest.fixture
async def socket(account: Account) -> AsyncIterator[RawSocket]:
    """A trade socket that is logged in."""
    async with raw_socket(account.exchange, PATH) as raw:
        assert (await raw.login())["retCode"] == 0
        yield raw


async def ask(socket: RawSocket, op: str, *args: Json, **more: Any) -> Json:
    """Send a request and wait for the answer that names its id."""
    req_id = uuid.uuid4().hex
    header = {"X-BAPI-TIMESTAMP": str(wall_ms()), "X-BAPI-RECV-WINDOW": "5000"}
    await socket.send({"reqId": req_id, "header": header, "op": op, "args": list(args)} | more)
    return await socket.wait(lambda frame: frame.get("reqId") == more.get("reqId", req_id), f"the answer to {op}")


async def create(socket: RawSocket, account: Account, **more: Any) -> Json:
    """Ask for an order as soon as the limit allows one."""
    account.exchange.pace("create")
    return await ask(socket, "order.create", BUY, **more)


class Answers:
    """The two callbacks of one request of pybit."""

    def __init__(self) -> None:
        self.good, self.bad = Inbox(), Inbox()

    def fine(self) -> Json:
        return self.good.wait(lambda message: True, "the acknowledgement")

    def refused(self) -> Json:
        return self.bad.wait(lambda message: True, "the refusal")


# ---- pybit ---------------------------------------------------------------------------------------


def test_pybit_places_an_order(account: Account, trader: Any) -> None:
    """The callback gets retCode 0, both ids and the limits in the header, and the order rests."""
    answers, link = Answers(), f"trade-{wall_ms()}"
    account.exchange.pace("create")
    trader.place_order(answers.good, answers.bad, **BUY, orderLinkId=link)
    ack = answers.fine()
    assert (ack["retCode"], ack["op"], ack["data"]["orderLinkId"]) == (0, "order.create", link)
    assert {"X-Bapi-Limit", "X-Bapi-Limit-Status", "X-Bapi-Limit-Reset-Timestamp"} <= set(ack["header"])
    assert ack["connId"]
    row = account.reaches(ack["data"]["orderId"], "New")
    assert (row["orderLinkId"], len(answers.bad)) == (link, 0)


def test_pybit_amends_and_cancels(account: Account, trader: Any) -> None:
    """order.amend and order.cancel answer with the id and do what they say."""
    order_id = account.limit("Buy", "0.01", "45000")
    amended, cancelled = Answers(), Answers()
    trader.amend_order(amended.good, amended.bad, **LINEAR, orderId=order_id, price="44000")
    assert amended.fine()["data"]["orderId"] == order_id
    account.exchange.pace("cancel")
    trader.cancel_order(cancelled.good, cancelled.bad, **LINEAR, orderId=order_id)
    assert (cancelled.fine()["op"], cancelled.fine()["data"]["orderId"]) == ("order.cancel", order_id)
    row = account.reaches(order_id, "Cancelled")
    assert number(row["price"]) == 44_000


@pytest.mark.parametrize(
    ("code", "order"),
    [
        (110007, BUY | {"qty": "30"}),
        (110094, BUY | {"qty": "0.001", "price": "4000"}),
        (110017, BUY | {"reduceOnly": True}),
        (10001, BUY | {"qty": "0.0015"}),
    ],
)
def test_pybit_s_error_callback_gets_the_refusal(account: Account, trader: Any, code: int, order: Json) -> None:
    """A refusal on the socket has the code it has over REST."""
    answers = Answers()
    account.exchange.pace("create")
    trader.place_order(answers.good, answers.bad, **order)
    refusal = answers.refused()
    assert (refusal["retCode"], refusal["op"]) == (code, "order.create")
    assert refusal["retMsg"]
    assert len(answers.good) == 0
    assert account.orders() == []


def test_a_link_id_is_shared_by_both_ways(account: Account, trader: Any) -> None:
    """An orderLinkId used over REST is a duplicate on the socket: 110072."""
    link = f"both-{wall_ms()}"
    account.limit("Buy", "0.01", "45000", orderLinkId=link)
    answers = Answers()
    account.exchange.pace("create")
    trader.place_order(answers.good, answers.bad, **BUY, orderLinkId=link)
    assert answers.refused()["retCode"] == 110072


def test_cancelling_the_unknown_is_110001(account: Account, trader: Any) -> None:
    """The error callback of a cancel gets 110001."""
    answers = Answers()
    account.exchange.pace("cancel")
    trader.cancel_order(answers.good, answers.bad, **LINEAR, orderId="00000000-0000-0000-0000-000000000000")
    assert answers.refused()["retCode"] == 110001


def test_a_batch_answers_item_by_item(account: Account, trader: Any) -> None:
    """The batch is accepted, one item fails: its code stands beside it, the other order rests."""
    answers = Answers()
    items = [{k: v for k, v in order.items() if k != "category"} for order in (BUY, BUY | {"qty": "0.0015"})]
    account.exchange.pace("create")
    trader.place_batch_order(answers.good, answers.bad, category="linear", request=items)
    ack = answers.fine()
    assert [item["code"] for item in ack["retExtInfo"]["list"]] == [0, 10001]
    assert len(ack["data"]["list"]) == 2
    assert [row["orderId"] for row in account.orders()] == [ack["data"]["list"][0]["orderId"]]


# ---- by hand -------------------------------------------------------------------------------------


async def test_the_login_answers_in_the_trade_socket_s_own_shape(still: PaperExchange) -> None:
    """retCode 0, OK, op auth, connId."""
    async with raw_socket(still, PATH) as raw:
        answer = await raw.login()
    assert (answer["retCode"], answer["retMsg"], answer["op"]) == (0, "OK", "auth")
    assert answer["connId"]


async def test_a_second_login_is_20001(socket: RawSocket) -> None:
    """Authenticating twice is a mistake that is named."""
    assert (await socket.login())["retCode"] == 20001


@pytest.mark.parametrize(("wrong", "codes"), [({"secret": "wrong"}, {10004}), ({"key": "stranger"}, {10003, 10004})])
async def test_a_bad_login_is_refused(still: PaperExchange, wrong: dict[str, str], codes: set[int]) -> None:
    """A bad signature is 10004; an unknown key is 10003 or 10004."""
    async with raw_socket(still, PATH) as raw:
        answer = await raw.login(**wrong)  # type: ignore[arg-type]
    assert answer["retCode"] in codes
    assert answer["op"] == "auth"


async def test_without_a_login_nothing_is_traded(account: Account) -> None:
    """An order before the login is refused and does not come to be."""
    async with raw_socket(account.exchange, PATH) as raw:
        answer = await ask(raw, "order.create", BUY)
    assert answer["retCode"] != 0
    assert account.orders() == []


async def test_the_trade_pong_carries_the_time(socket: RawSocket) -> None:
    """retCode 0, op pong, the time in ms as text."""
    pong = await socket.answer({"op": "ping"})
    assert (pong["retCode"], pong["op"]) == (0, "pong")
    assert abs(int(pong["data"][0]) - wall_ms()) < 5000


async def test_an_unknown_operation_is_10404(socket: RawSocket) -> None:
    """A bad op is refused and the socket stays open."""
    assert (await ask(socket, "order.fly", BUY))["retCode"] == 10404
    assert (await socket.answer({"op": "ping"}))["op"] == "pong"


async def test_a_request_id_is_used_once(socket: RawSocket, account: Account) -> None:
    """Sending the same reqId again is 20006 and no second order."""
    first = await create(socket, account, reqId="the-same")
    second = await create(socket, account, reqId="the-same")
    assert (first["retCode"], second["retCode"]) == (0, 20006)


async def test_a_stale_request_is_10002(socket: RawSocket, account: Account) -> None:
    """The header's time is judged as a REST request's is."""
    header = {"X-BAPI-TIMESTAMP": str(wall_ms() - 60_000), "X-BAPI-RECV-WINDOW": "5000"}
    assert (await create(socket, account, header=header))["retCode"] == 10002
    assert account.orders() == []


@pytest.mark.parametrize("as_text", [True, False], ids=["ccxt's string", "pybit's number"])
async def test_the_header_s_time_may_be_text_or_number(socket: RawSocket, account: Account, as_text: bool) -> None:
    """Both clients' ways of writing it are understood."""
    stamp: Any = str(wall_ms()) if as_text else wall_ms()
    assert (await create(socket, account, header={"X-BAPI-TIMESTAMP": stamp}))["retCode"] == 0


@pytest.mark.parametrize("text", ["no json", "[]", '{"op": "order.create"}', '{"reqId": "x", "op": "order.create"}'])
async def test_broken_requests_do_not_close_the_trade_socket(socket: RawSocket, text: str) -> None:
    """Whatever is sent, the next ping is answered."""
    await socket.text(text)
    assert (await socket.answer({"op": "ping"}))["op"] == "pong"
