"""Funding: a market that stands still while eight hours pass in a second (facts 4.4, 7.4; spec: Funding)."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.wire.harness import UNIFIED, Account, Inbox, Json, ccxt_rest, number, pybit_socket, until
from tests.wire.markets import DAY, FUNDING, HOUR

SETTLEMENT = 8 * HOUR
PAID = Decimal("0.1") * 50_000 * Decimal("0.0001")


class Story:
    """A long and a short of 0.1, each held through two settlements."""

    def __init__(self, account: Account, events: Inbox) -> None:
        self.account, self.events = account, events
        begun = account.open_candle()
        self.week = {"startTime": begun, "endTime": begun + 7 * DAY}  # by itself the log shows no more than a day
        self.settled: dict[str, list[Json]] = {}
        for side, other in (("Buy", "Sell"), ("Sell", "Buy")):
            before = len(self.settlements())
            account.trade(side, "0.1")
            self.wait_for_settlements(before + 2)
            account.trade(other, "0.1", reduceOnly=True)
            rows = self.settlements()
            self.settled[side] = rows[: len(rows) - before]
        self.log = account.ledger(**self.week)[::-1]
        self.executions = account.executions(execType="Funding", **self.week)
        events.mark()
        self.trades = account.executions(execType="Trade", **self.week)
        self.closed = account.closed(**self.week)
        self.balance = account.balance()
        self.now = account.open_candle()
        self.yesterday = account.ledger()

    def wait_for_settlements(self, count: int) -> None:
        until(lambda: len(self.settlements()) >= count, "the settlements")

    def settlements(self) -> list[Json]:
        """Newest first."""
        return self.account.ledger(type="SETTLEMENT", **self.week)


@pytest.fixture(scope="module")
def story(funding_account: Account) -> Story:
    """What has happened to an account that was long and then short."""
    events = Inbox()
    with pybit_socket(funding_account.exchange, "private") as client:
        client.execution_stream(events)
        until(lambda: client.auth, "the login")
        return Story(funding_account, events)


def test_a_long_pays(story: Story) -> None:
    """Every settlement costs a long its size by the price by the rate: 0.5, negative in the log."""
    assert {number(row["funding"]) for row in story.settled["Buy"]} == {-PAID}


def test_a_short_receives(story: Story) -> None:
    """What a long pays, a short gets."""
    assert {number(row["funding"]) for row in story.settled["Sell"]} == {PAID}


@pytest.mark.parametrize("side", ["Buy", "Sell"])
def test_each_settlement_is_due_once_every_eight_hours(story: Story, side: str) -> None:
    """The settlements of a holding are eight hours apart, none missed, none twice, each in the bar it is due in."""
    stamps = [int(row["transactionTime"]) for row in story.settled[side]]
    due = [stamp // SETTLEMENT for stamp in stamps]
    assert due == list(range(due[0], due[0] - len(due), -1))
    assert all(stamp % SETTLEMENT < FUNDING.bar for stamp in stamps)


def test_a_settlement_changes_the_wallet_by_itself(story: Story) -> None:
    """No fee and no cash flow: the change is the funding, and side, size and price are the position's."""
    for side, direction in (("Buy", 1), ("Sell", -1)):
        for row in story.settled[side]:
            assert number(row["fee"]) == number(row["cashFlow"]) == 0
            assert number(row["change"]) == number(row["funding"])
            assert (row["symbol"], row["side"]) == ("BTCUSDT", side)
            assert number(row["size"]) == direction * Decimal("0.1")
            assert number(row["tradePrice"]) == 50_000


def test_the_log_is_a_chain_with_funding_in_it(story: Story) -> None:
    """wallet change = cashFlow + funding − fee, to 1e-8, from 10,000 to what the wallet shows."""
    balance = Decimal(10_000)
    for row in story.log:
        if row["type"] in {"TRADE", "SETTLEMENT"}:
            change = number(row["cashFlow"]) + number(row["funding"]) - number(row["fee"])
            assert abs(number(row["change"]) - change) <= Decimal("1e-8")
            balance += change
            assert abs(number(row["cashBalance"]) - balance) <= Decimal("1e-8")
    assert abs(story.balance - balance) <= Decimal("1e-8")


def test_without_a_window_the_log_shows_a_day(story: Story) -> None:
    """The default of the transaction log is the last 24 hours of market time, and more than that has passed here."""
    stamps = [int(row["transactionTime"]) for row in story.yesterday]
    assert min(stamps) >= story.now - DAY
    assert 0 < len(stamps) < len(story.log)


def test_funding_is_an_execution_too(story: Story) -> None:
    """execType Funding, order type UNKNOWN, the position's size, the fee positive when paid."""
    paid = [row for row in story.executions if number(row["execFee"]) > 0]
    received = [row for row in story.executions if number(row["execFee"]) < 0]
    assert len(paid) == len(story.settled["Buy"])
    assert len(received) == len(story.settled["Sell"])
    for row in story.executions:
        assert (row["execType"], row["orderType"], row["symbol"]) == ("Funding", "UNKNOWN", "BTCUSDT")
        assert (number(row["execQty"]), abs(number(row["execFee"]))) == (Decimal("0.1"), PAID)
    assert {row["side"] for row in paid} == {"Buy"}
    assert {row["side"] for row in received} == {"Sell"}


def test_funding_is_pushed_to_the_stream(story: Story) -> None:
    """The execution topic has every settlement under the execId of the list."""
    pushed = {row["execId"]: row for row in story.events.rows("execution") if row["execType"] == "Funding"}
    assert set(pushed) == {row["execId"] for row in story.executions}
    for row in story.executions:
        event = pushed[row["execId"]]
        assert (event["execFee"], event["execQty"], event["orderType"]) == (row["execFee"], row["execQty"], "UNKNOWN")


def test_ccxt_reads_the_funding_history(story: Story) -> None:
    """fetch_funding_history lists what was paid and received."""
    with ccxt_rest(story.account.exchange) as client:
        client.load_markets()
        rows = client.fetch_funding_history(UNIFIED, since=story.week["startTime"])
    assert {abs(row["amount"]) for row in rows} == {float(PAID)}
    assert len(rows) == len(story.executions)


def test_funding_is_not_in_the_closed_profit(story: Story) -> None:
    """closedPnl has the fees of both legs and no funding."""
    long_, short = sorted(story.closed, key=lambda row: int(row["updatedTime"]))
    for row in (long_, short):
        sign = 1 if row["side"] == "Sell" else -1
        gross = sign * (number(row["cumExitValue"]) - number(row["cumEntryValue"]))
        fees = (number(row["cumExitValue"]) + number(row["cumEntryValue"])) * Decimal("0.00055")
        assert abs(number(row["closedPnl"]) - (gross - fees)) <= Decimal("1e-8")


def test_trades_are_listed_without_funding(story: Story) -> None:
    """execType=Trade has the four fills and no settlement."""
    assert [row["execType"] for row in story.trades] == ["Trade"] * 4
