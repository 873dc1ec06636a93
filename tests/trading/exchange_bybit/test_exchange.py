"""The adapter whole, against the stand-in: what the trader is told, and what a broker's promises rest on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.trading.exchange_bybit.samples import EXECUTION, ORDER, POSITION, WALLET, candle_frame, candle_rows
from tests.trading.exchange_bybit.standin import Reply, StandIn, failure, result, standing_in, until
from tests.trading.rig import approved_entry
from trading import risk
from trading.errors import ConclaveError, OutcomeUnknown, Rejected, Transient
from trading.exchange.bybit.clock import HeardClock, WallClock
from trading.exchange.bybit.endpoints import endpoints_of
from trading.exchange.bybit.exchange import BybitExchange
from trading.exchange.bybit.rest import BybitRest
from trading.model import EPOCH, Execution, Side, utc
from trading.ports import BarsClosed, ConnectionLost, Inbound, OrderUpdated

MINUTE = 60_000
T0 = 1_700_006_400_000
KLINE, CREATE, CANCEL = "/v5/market/kline", "/v5/order/create", "/v5/order/cancel"
REALTIME, HISTORY, FILLS = "/v5/order/realtime", "/v5/order/history", "/v5/execution/list"
BTC = "BTCUSDT"


class Heard:
    """An inbox that keeps everything."""

    def __init__(self) -> None:
        self.items: list[Inbound] = []

    def put(self, item: Inbound) -> None:
        self.items.append(item)

    def kinds(self) -> list[str]:
        return [type(item).__name__ for item in self.items]

    @property
    def closes(self) -> list[tuple[int, bool]]:
        return [
            ((i.close_time - utc(T0)) // timedelta(minutes=1), i.late) for i in self.items if isinstance(i, BarsClosed)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """Everything of one test."""

    server: StandIn
    exchange: BybitExchange
    inbox: Heard
    clock: HeardClock


@pytest.fixture
async def on() -> AsyncIterator[Set]:
    """An exchange of one-minute bars, not started."""
    async with standing_in() as server:
        rest, inbox, clock = BybitRest(server.rest, key="K", secret="S"), Heard(), HeardClock(haste=10)
        exchange = BybitExchange(
            rest,
            endpoints_of("paper", server.rest),
            symbols=(BTC,),
            interval=timedelta(minutes=1),
            inbox=inbox,
            clock=clock,
            key="K",
            secret="S",
        )
        server.always[KLINE] = lambda params: klines(server, params)
        server.always |= dict.fromkeys((REALTIME, HISTORY, FILLS, "/v5/position/list"), listed())
        bars(server, 0)
        try:
            yield Set(server=server, exchange=exchange, inbox=inbox, clock=clock)
        finally:
            await exchange.stop()
            rest.close()


def bars(server: StandIn, count: int) -> None:
    """Let the server know so many closed bars, and the open one."""
    server.rows = candle_rows(T0, T0 + count * MINUTE)


def klines(server: StandIn, params: dict[str, Any]) -> Reply:
    """Bybit's windows: forward from a start alone, else the most recent up to the end."""
    start, end, limit = int(params.get("start", 0)), int(params.get("end", 2**60)), int(params["limit"])
    rows = [row for row in server.rows if start <= int(row[0]) <= end]
    forward = "start" in params and "end" not in params
    return result({"list": rows[-limit:] if forward else rows[:limit]})


# ---- what the trader is told ---------------------------------------------------------------------


async def test_a_start_tells_what_was_missed_and_nothing_of_connections(on: Set) -> None:
    """The closes after the last one that was dealt with."""
    bars(on.server, 3)
    on.exchange.delivered_up_to = utc(T0 + MINUTE)
    await on.exchange.start()
    assert on.inbox.closes == [(2, True), (3, False)]
    assert set(on.inbox.kinds()) == {"BarsClosed"}
    await on.server.tell(candle_frame(T0 + 3 * MINUTE, close="100.5"))
    await until(lambda: on.inbox.closes[-1] == (4, False))
    assert on.exchange.quotes == {BTC: 100.5}
    assert on.clock.now() == utc(T0 + 4 * MINUTE) == on.exchange.delivered_up_to


async def test_an_outage_is_told_once_and_made_up_for(on: Set) -> None:
    """Lost, then the closes, then restored."""
    on.exchange.delivered_up_to = utc(T0)
    await on.exchange.start()
    await on.server.down()
    await until(lambda: on.inbox.items)
    bars(on.server, 2)
    await on.server.up()
    await until(lambda: on.inbox.kinds()[-1] == "ConnectionRestored")
    assert on.inbox.kinds() == ["ConnectionLost", "BarsClosed", "BarsClosed", "ConnectionRestored"]
    assert on.inbox.closes == [(1, True), (2, False)]
    lost = on.inbox.items[0]
    assert isinstance(lost, ConnectionLost)
    assert "stream is down" in lost.reason


async def test_fills_and_order_changes_are_told(on: Set) -> None:
    """Fills as executions alone; guards of positions and other products not at all."""
    await on.exchange.start()
    orders = [
        ORDER,
        ORDER | {"orderStatus": "Filled"},
        ORDER | {"stopOrderType": "StopLoss", "orderStatus": "Untriggered"},
        ORDER | {"category": "spot"},
        ORDER | {"orderStatus": "Cancelled", "cancelType": "CancelByUser"},
    ]
    await on.server.tell({"topic": "order", "data": orders})
    fills = [EXECUTION, EXECUTION | {"execType": "Funding"}, {"execType": "Settle"}]
    await on.server.tell({"topic": "execution", "data": fills})
    await until(lambda: len(on.inbox.items) == 4)
    assert [i.order.status for i in on.inbox.items if isinstance(i, OrderUpdated)] == ["New", "Cancelled"]
    assert [i.funding for i in on.inbox.items if isinstance(i, Execution)] == [False, True]


async def test_a_message_that_cannot_be_read_sends_the_trader_to_ask(on: Set) -> None:
    """A short loss, once, however many there are; the stream stays."""
    await on.exchange.start()
    for bad in ({"execType": "Trade"}, {}, EXECUTION | {"execPrice": "NaN"}):
        await on.server.tell({"topic": "execution", "data": [bad]})
    await on.server.tell({"topic": "order", "data": "nonsense"})
    await on.server.tell({"topic": "kline.1.BTCUSDT", "data": [{"confirm": True}]})
    await until(lambda: len(on.inbox.items) == 2)
    assert on.inbox.kinds() == ["ConnectionLost", "ConnectionRestored"]
    assert len(on.server.connects) == 2


async def test_a_delta_without_a_price_keeps_the_last(on: Set) -> None:
    """Tickers name only what has changed."""
    await on.exchange.start()
    for data in ({"lastPrice": "7.5"}, {"markPrice": "8"}, {"lastPrice": "soon"}, None):
        await on.server.tell({"topic": "tickers.BTCUSDT", "ts": T0, "data": data})
    await until(lambda: on.exchange.quotes)
    assert on.exchange.quotes == {BTC: 7.5}


# ---- market data ---------------------------------------------------------------------------------


async def test_history_is_paged_backwards(on: Set) -> None:
    """More than one page, without the open candle, oldest first."""
    bars(on.server, 2600)
    series = await on.exchange.history(BTC, 2500)
    assert len(series) == 2500
    assert series.timestamp[-1] == T0 + 2599 * MINUTE
    assert len(await on.exchange.history(BTC, 9999)) == 2600


async def test_history_has_no_gap(on: Set) -> None:
    """Only what follows it."""
    bars(on.server, 20)
    del on.server.rows[5]
    assert (await on.exchange.history(BTC, 15)).timestamp.tolist() == [T0 + n * MINUTE for n in range(16, 20)]


async def test_what_cannot_be_read_is_no_answer(on: Set) -> None:
    """Transient, never a neutral value."""
    on.server.always["/v5/market/tickers"] = result({"list": [{"lastPrice": ""}]})
    with pytest.raises(Transient):
        await on.exchange.last_price(BTC)
    on.server.always["/v5/position/list"] = result({"list": [POSITION | {"size": "many"}]})
    with pytest.raises(Transient):
        await on.exchange.snapshot()


# ---- orders --------------------------------------------------------------------------------------


def listed(*rows: Any, cursor: str = "") -> Reply:
    return result({"list": list(rows), "nextPageCursor": cursor})


async def test_an_order_goes_out_as_it_was_approved(on: Set) -> None:
    """Prices as written, the stop attached, on the last price."""
    on.server.always[CREATE] = result({"orderId": "o-1"})
    assert await on.exchange.place(approved_entry(Side.LONG, "2", "1E+3", "980.50")) == "o-1"
    assert await on.exchange.place(risk.approve_exit(BTC, Side.LONG, Decimal(2), "exit-1")) == "o-1"
    entry, leave = (seen.params for seen in on.server.asked(CREATE))
    common = {"category": "linear", "symbol": BTC, "qty": "2", "positionIdx": 0}
    stop = {"stopLoss": "980.50", "slTriggerBy": "LastPrice", "tpslMode": "Full"}
    limit = {"side": "Buy", "orderType": "Limit", "price": "1000", "timeInForce": "PostOnly", "reduceOnly": False}
    assert entry == common | stop | limit | {"orderLinkId": "entry-1"}
    assert leave == common | {"side": "Sell", "orderType": "Market", "reduceOnly": True, "orderLinkId": "exit-1"}


async def test_a_known_link_id_is_the_order_that_was_meant(on: Set) -> None:
    """Wherever it is kept; unknown as long as it is not shown, for it exists."""
    entry = approved_entry(Side.LONG, "2", "1000", "980")
    on.server.always[CREATE] = failure(110072, "OrderLinkedID is duplicate")
    on.server.always[HISTORY] = listed(ORDER)
    assert await on.exchange.place(entry) == ORDER["orderId"]
    on.server.always[HISTORY] = listed()
    with pytest.raises(OutcomeUnknown):
        await on.exchange.place(entry)
    on.server.always[HISTORY] = failure(10005)
    with pytest.raises(OutcomeUnknown):
        await on.exchange.place(entry)


@pytest.mark.parametrize(("ahead", "word"), [(-0.8, "ahead"), (2.5, "behind")])
async def test_no_entry_leaves_on_a_wrong_clock(on: Set, ahead: float, word: str) -> None:
    """Nothing is sent; an exit goes out all the same."""
    on.server.clock_ahead = ahead
    on.server.always[CREATE] = result({"orderId": "o-1"})
    with pytest.raises(Rejected, match=word):
        await on.exchange.place(approved_entry(Side.LONG, "2", "1000", "980"))
    assert on.server.asked(CREATE) == []
    await on.exchange.place(risk.approve_exit(BTC, Side.LONG, Decimal(2), "exit-1"))


async def test_an_order_is_looked_for_everywhere(on: Set) -> None:
    """None only when all three places answered."""
    assert await on.exchange.find(BTC, "entry-1") is None
    assert [seen.path for seen in on.server.seen] == [REALTIME, HISTORY, FILLS]
    on.server.always[FILLS] = listed(EXECUTION | {"execQty": "0.1"}, EXECUTION | {"execId": "2", "execQty": "0.2"})
    known = await on.exchange.find(BTC, "entry-1")
    assert known is not None
    assert (known.filled, known.status) == (Decimal("0.3"), "Filled")
    on.server.always[FILLS] = failure(10005)
    with pytest.raises(Rejected):
        await on.exchange.find(BTC, "entry-1")


async def test_a_cancel_waits_for_the_end(on: Set) -> None:
    """The acknowledgement only says that it was heard."""
    on.server.script[REALTIME].extend([listed(ORDER), listed(ORDER), listed(ORDER | {"orderStatus": "Cancelled"})])
    assert (await on.exchange.cancel(BTC, "entry-1")).status == "Cancelled"
    on.server.always[CANCEL] = failure(110001, "order not exists or too late to cancel")
    on.server.always[REALTIME] = listed(ORDER | {"orderStatus": "Filled", "cumExecQty": "0.10"})
    assert (await on.exchange.cancel(BTC, "entry-1")).filled == Decimal("0.10")
    on.server.always[REALTIME] = listed()
    with pytest.raises(Rejected):
        await on.exchange.cancel(BTC, "entry-1")


async def test_a_cancel_that_does_not_end_is_unknown(on: Set) -> None:
    """After some seconds."""
    on.server.always[REALTIME] = listed(ORDER)
    with pytest.raises(OutcomeUnknown):
        await on.exchange.cancel(BTC, "entry-1")


# ---- the account ---------------------------------------------------------------------------------


async def test_a_snapshot_is_the_whole_account(on: Set) -> None:
    """Every page; guards of positions are their stops; the wallet only when it is wanted."""
    on.server.script[REALTIME].extend([listed(ORDER, cursor="a%3D1"), listed(ORDER | {"stopOrderType": "StopLoss"})])
    on.server.always["/v5/position/list"] = listed(POSITION)
    on.server.always["/v5/account/wallet-balance"] = result(WALLET)
    seen = await on.exchange.snapshot()
    assert (len(seen.orders), seen.positions[0].stop, seen.cash) == (1, Decimal(16000), Decimal("10000.50"))
    assert on.server.asked(REALTIME)[1].params["cursor"] == "a=1"
    assert (await on.exchange.snapshot(cash=False)).cash is None
    assert len(on.server.asked("/v5/account/wallet-balance")) == 1


async def test_executions_come_oldest_first_from_every_week(on: Set) -> None:
    """Each once, also on a page's edge; none from before."""
    on.clock.hear(utc(T0))

    def fills(params: dict[str, Any]) -> Reply:
        first, last = int(params["startTime"]), int(params["endTime"])
        assert last - first < 7 * 86_400_000
        times = [t for t in range(T0, T0 - 20 * 86_400_000, -86_400_000) if first <= t <= last]
        rows = [EXECUTION | {"execId": f"{t}-{n}", "execTime": str(t), "seq": n} for t in times for n in (2, 1)]
        half = len(rows) // 2
        return listed(*rows[half:]) if "cursor" in params else listed(*rows[:half], cursor="more")

    on.server.always[FILLS] = fills
    since = utc(T0) - timedelta(days=15)
    found = await on.exchange.executions(BTC, since)
    assert len({one.exec_id for one in found}) == len(found) == 32
    assert [(one.at, one.exec_id) for one in found] == sorted((one.at, one.exec_id) for one in found)
    assert found[0].at == since
    assert len(await on.exchange.executions(BTC, EPOCH)) == 40


async def test_the_account_is_named(on: Set) -> None:
    """A number or a string, as text."""
    on.server.always["/v5/user/query-api"] = result({"userID": 24617703})
    assert await on.exchange.account_id() == "24617703"
    on.server.always["/v5/user/query-api"] = result({})
    with pytest.raises(Transient):
        await on.exchange.account_id()


# ---- clocks --------------------------------------------------------------------------------------


async def test_heard_time_never_goes_back() -> None:
    """It stands still between frames."""
    clock = HeardClock(haste=100)
    for ms in (5, 3, 9, 7):
        clock.hear(utc(ms))
    assert clock.now() == utc(9)
    began = clock.monotonic()
    await clock.sleep(1)
    assert 1 <= clock.monotonic() - began < 50


async def test_the_wall_clock_is_put_right() -> None:
    """By what was measured; frames are no measure."""
    offset = timedelta(seconds=30)
    right, wrong = WallClock(lambda: offset), WallClock(timedelta)
    right.hear(utc(2**41))
    assert timedelta(seconds=29) < right.now() - wrong.now() < timedelta(seconds=31)
    await right.sleep(0)
    assert right.monotonic() <= asyncio.get_running_loop().time()


# ---- the key, the leverage -----------------------------------------------------------------------

KEY_INFO = {"userID": 7, "readOnly": 0, "permissions": {"ContractTrade": ["Order", "Position"], "Wallet": []}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"permissions": {"ContractTrade": ["Order", "Position"], "Wallet": ["Withdraw"]}}, ["withdraw"]),
        ({"readOnly": 1}, ["read-only"]),
        ({"permissions": {"ContractTrade": ["Order"], "Wallet": []}}, ["may not trade"]),
        ({"permissions": {}}, ["may not trade"]),
        ({"readOnly": 1, "permissions": {"Wallet": ["AccountTransfer", "Withdraw"]}}, ["withdraw", "read-only"]),
    ],
    ids=["as it should be", "withdraws", "read-only", "no positions", "nothing", "both"],
)
async def test_a_key_is_looked_at(on: Set, change: dict[str, Any], words: list[str]) -> None:
    """Too much power or too little, each in one line; a key that may trade and no more is fine."""
    on.server.always["/v5/user/query-api"] = result({**KEY_INFO, **change})
    problems = await on.exchange.key_problems()
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


async def test_a_key_that_says_nothing_is_not_trusted(on: Set) -> None:
    """Missing permissions are no permission to go on."""
    on.server.always["/v5/user/query-api"] = result({"userID": 7})
    with pytest.raises(Transient):
        await on.exchange.key_problems()


async def test_leverage_that_is_so_already_is_no_failure(on: Set) -> None:
    """Set for both sides, as text; 110043 is success, anything else is not."""
    path = "/v5/position/set-leverage"
    on.server.script[path].extend([result({}), failure(110043, "leverage not modified"), failure(110013, "no")])
    await on.exchange.set_leverage(BTC, Decimal("5.0"))
    (seen,) = [each for each in on.server.seen if each.path == path]
    assert (seen.params["buyLeverage"], seen.params["sellLeverage"]) == ("5", "5")
    await on.exchange.set_leverage(BTC, Decimal(5))
    with pytest.raises(ConclaveError):
        await on.exchange.set_leverage(BTC, Decimal(500))
