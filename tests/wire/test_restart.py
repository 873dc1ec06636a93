"""Power cuts: killed with -9, twice in a row, and started again on the same port and folder (facts 5.1, 8.3)."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.wire.harness import (
    Account,
    Inbox,
    Json,
    PaperExchange,
    code_of,
    dial,
    hang_up,
    number,
    pybit_http,
    running,
    until,
    wall_ms,
)
from tests.wire.markets import CALM

LINK = "before-the-cut"


def cut(exchange: PaperExchange) -> None:
    """Kill the process as a power cut does, and start it again."""
    exchange.kill()
    exchange.start()


class Outage:
    """A new account that gets a protected position, two orders and a history, before and after two power cuts."""

    def __init__(self, exchange: PaperExchange) -> None:
        with pybit_http(exchange) as http:
            self.account = Account(exchange=exchange, http=http)
            self._live_before()
        self.downtime = -wall_ms()
        cut(exchange)
        self.orders, self.candles = Inbox(), Inbox()
        # retries=0 is the one setting with which pybit survives that nobody answers for a while (facts 8.3)
        private, public = dial(exchange, "private", retries=0), dial(exchange, "linear", retries=0)
        try:
            private.order_stream(self.orders)
            public.kline_stream(CALM.minutes, "BTCUSDT", self.candles)
            self.candles.wait(lambda message: True, "a candle")
            until(lambda: private.auth, "the login")
            cut(exchange)  # the second one hits a process that has just come back
            self.downtime += wall_ms()
            with pybit_http(exchange) as http:
                self.account = Account(exchange=exchange, http=http)
                self._live_after()
        finally:
            hang_up(private, public)

    def _live_before(self) -> None:
        account = self.account
        self.fresh = self._snapshot() | {"bar": account.open_candle()}
        account.trade("Buy", "0.02")
        account.trade("Sell", "0.01")
        self.resting = account.limit("Buy", "0.01", "45000", orderLinkId=LINK)
        self.reached = until(lambda: account.open_candle() if account.open_candle() > CALM.begin else None, "a bar")
        account.protect(stopLoss="47000")
        until(lambda: number(account.position()["stopLoss"]) == 47_000, "the stop")
        self.before = self._snapshot()
        self.last = account.limit("Buy", "0.01", "44000")  # acknowledged, and the power goes at once

    def _live_after(self) -> None:
        account = self.account
        self.resumed = account.open_candle()
        self.after = self._snapshot()
        self.duplicate = code_of(
            account.create, side="Buy", orderType="Limit", qty="0.01", price="45000", orderLinkId=LINK
        )
        mark = len(self.candles)
        order_id = account.limit("Buy", "0.01", "43000")
        self.heard = self.orders.row("order", "an order on the old private socket", orderId=order_id)
        self.seen = self.candles.wait(lambda message: True, "a candle on the old public socket", mark=mark)
        self.fill = account.trade("Buy", "0.01")
        self.entry = account.position()
        account.flatten()
        self.end = account.balance()
        self.log = account.ledger(startTime=CALM.begin, endTime=CALM.begin + 86_400_000)[::-1]

    def _snapshot(self) -> Json:
        account = self.account
        position = account.position()
        return {
            "position": {name: position[name] for name in ("side", "size", "avgPrice", "stopLoss", "leverage")},
            "orders": {row["orderId"]: row for row in account.orders()},
            "balance": account.balance(),
            "executions": [row["execId"] for row in account.executions()],
            "closed": account.closed(),
            "log": [row["tradeId"] for row in account.ledger()],
        }


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outage]:
    """One story of power cuts, looked at from many sides."""
    with running(tmp_path_factory.mktemp("outage"), CALM) as exchange:
        yield Outage(exchange)


def test_a_new_folder_is_a_new_account(outage: Outage) -> None:
    """10,000 USDT, flat, no orders, no fills, in the first bars after the history."""
    assert outage.fresh["balance"] == 10_000
    assert (outage.fresh["position"]["side"], number(outage.fresh["position"]["size"])) == ("", Decimal(0))
    assert (outage.fresh["orders"], outage.fresh["executions"], outage.fresh["closed"]) == ({}, [], [])
    assert CALM.begin <= outage.fresh["bar"] <= CALM.begin + 20 * CALM.bar


def test_the_position_survives(outage: Outage) -> None:
    """Side, size, entry, leverage and stop are what they were."""
    assert outage.after["position"] == outage.before["position"]
    assert outage.after["position"]["side"] == "Buy"


def test_the_orders_survive(outage: Outage) -> None:
    """Every open order is there with all its fields, the stop among them."""
    kept = {name: row for name, row in outage.after["orders"].items() if name in outage.before["orders"]}
    assert kept == outage.before["orders"]
    assert outage.resting in kept
    assert "StopLoss" in {row["stopOrderType"] for row in kept.values()}


def test_what_was_acknowledged_last_survives(outage: Outage) -> None:
    """An order whose acknowledgement came the moment before the cut rests after it, and nothing else is new."""
    assert set(outage.after["orders"]) - set(outage.before["orders"]) == {outage.last}


def test_the_wallet_survives(outage: Outage) -> None:
    """The balance is the same to the last digit."""
    assert outage.after["balance"] == outage.before["balance"]


@pytest.mark.parametrize("what", ["executions", "closed", "log"])
def test_the_history_survives(outage: Outage, what: str) -> None:
    """Fills, closed profits and the transaction log are what they were."""
    assert outage.after[what] == outage.before[what]
    assert outage.after[what]


def test_the_market_clock_goes_on_where_it_was(outage: Outage) -> None:
    """After the cut the market is not back at its beginning, and not further than the time that passed allows."""
    assert outage.reached > CALM.begin
    at_most = outage.reached + (outage.downtime + 15_000) * CALM.speed
    assert outage.reached <= outage.resumed <= at_most


def test_a_link_id_stays_used(outage: Outage) -> None:
    """110072 also for an id of before the cut."""
    assert outage.duplicate == 110072


def test_pybit_finds_its_way_back(outage: Outage) -> None:
    """The sockets reconnect and subscribe anew by themselves: orders and candles arrive as before."""
    assert outage.heard["orderStatus"] == "New"
    assert outage.seen["topic"] == "kline.1.BTCUSDT"


def test_trading_goes_on(outage: Outage) -> None:
    """The next fill adds to the position of before the cut."""
    assert number(outage.fill["avgPrice"]) == 50_010
    assert (number(outage.entry["size"]), number(outage.entry["avgPrice"])) == (Decimal("0.02"), Decimal(50_010))


def test_the_books_balance_across_the_cut(outage: Outage) -> None:
    """The transaction log is one chain from before the cut to after it, and ends with the wallet."""
    balance = number(outage.log[0]["cashBalance"])
    for row in outage.log[1:]:
        balance += number(row["change"])
        assert abs(number(row["cashBalance"]) - balance) <= Decimal("1e-8")
    assert balance == outage.end
