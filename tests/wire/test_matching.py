"""What bars do to orders: makers, stops, targets, gaps and the events they bring (facts 6, spec/strategy.md).

The tide has five flat bars at 50,000, one that dips to 49,000, one flat, one that surges to 51,000, for ever.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tests.wire.harness import Account, Inbox, Json, number, pybit_socket, until, wall_ms
from tests.wire.markets import GAP, TIDE

MAKER = Decimal("0.0002")
TAKER = Decimal("0.00055")
SOLD, BOUGHT = Decimal("0.9998"), Decimal("1.0002")
CENT = Decimal("1e-8")


def link(name: str) -> str:
    return f"{name}-{wall_ms()}"


# ---- a protected entry, from its order to its end ------------------------------------------------


class Entry:
    """A post-only buy at 49,500 with a stop at 48,000; filled by the dip, moved to 49,300, stopped by the next dip."""

    def __init__(self, account: Account, events: Inbox) -> None:
        self.account, self.events = account, events
        account.flatten()
        self.before = account.balance()
        self.link = link("entry")
        account.wait_for_calm()
        self.mark = events.mark()
        self.id = account.limit(
            "Buy", "0.1", "49500", stopLoss="48000", timeInForce="PostOnly", orderLinkId=self.link
        )
        self.announced = events.row("order", "the entry", mark=self.mark, orderId=self.id)
        self.filled = events.row("order", "the fill", mark=self.mark, orderId=self.id, orderStatus="Filled")
        self.entry = events.row("execution", "the fill", mark=self.mark, orderId=self.id)
        self.child = events.row("order", "the stop", mark=self.mark, orderStatus="Untriggered")
        until(lambda: number(account.position()["stopLoss"]) == 48_000, "the stop on the position")
        self.held = account.position()
        account.wait_for_calm()
        self.moved = events.mark()
        account.protect(stopLoss="49300")
        self.stopped = events.row(
            "order", "the stop to fill", mark=self.moved, stopOrderType="StopLoss", orderStatus="Filled"
        )
        self.exit = events.row("execution", "the stop to fill", mark=self.moved, orderId=self.stopped["orderId"])
        self.flat = events.row("position", "the flat position", mark=self.moved, side="")
        self.wallet = events.wait(lambda message: message["topic"] == "wallet", "the wallet", mark=self.moved)
        events.mark()
        self.after = account.balance()


@pytest.fixture(scope="module")
def entry(tide_account: Account, tide_events: Inbox) -> Entry:
    """The story of one trade, told once and looked at from many sides."""
    return Entry(tide_account, tide_events)


def test_the_entry_rests_first(entry: Entry) -> None:
    """New, post-only, with its stop attached."""
    assert (entry.announced["orderStatus"], entry.announced["timeInForce"]) == ("New", "PostOnly")
    assert number(entry.announced["stopLoss"]) == 48_000


def test_the_dip_fills_the_entry_at_exactly_its_price(entry: Entry) -> None:
    """Through the price, so filled, at the price, as a maker, for the maker's fee."""
    fill = entry.entry
    assert (number(fill["execPrice"]), number(fill["execQty"])) == (Decimal(49_500), Decimal("0.1"))
    assert (fill["isMaker"], number(fill["feeRate"]), fill["orderLinkId"]) == (True, MAKER, entry.link)
    assert abs(number(fill["execFee"]) - 4950 * MAKER) < CENT
    assert number(entry.filled["avgPrice"]) == 49_500


def test_the_fill_is_timed_in_the_dip(entry: Entry) -> None:
    """Its market time lies in the bar that dips, or at its very end."""
    stamp = int(entry.entry["execTime"])
    assert 5 in {TIDE.place_in_cycle(moment // TIDE.bar * TIDE.bar) for moment in (stamp - 1, stamp)}


def test_the_attached_stop_waits_as_a_child(entry: Entry) -> None:
    """Untriggered, a reduce-only market order on the other side that names its parent and has no link id."""
    child = entry.child
    assert (child["stopOrderType"], child["side"], child["orderType"]) == ("StopLoss", "Sell", "Market")
    assert (child["reduceOnly"], child["closeOnTrigger"], child["orderLinkId"]) == (True, True, "")
    assert child["parentOrderLinkId"] in {entry.link, entry.id}
    assert (number(child["triggerPrice"]), child["triggerDirection"]) == (Decimal(48_000), 2)


def test_the_position_shows_entry_and_stop(entry: Entry) -> None:
    """Size, entry and stop of the position are those of the order."""
    held = entry.held
    assert (held["side"], number(held["size"]), number(held["avgPrice"])) == ("Buy", Decimal("0.1"), Decimal(49_500))
    assert number(held["stopLoss"]) == 48_000


def test_the_stop_goes_through_triggered_to_filled(entry: Entry) -> None:
    """On the stream the stop's states only go forward and end in Filled; it was triggered, not sent by the user."""
    rows = [row for row in entry.events.rows("order", mark=entry.moved) if row["orderId"] == entry.stopped["orderId"]]
    states = [row["orderStatus"] for row in rows]
    rank = {"Untriggered": 0, "Triggered": 1, "New": 2, "Filled": 3}
    assert [rank[state] for state in states] == sorted(rank[state] for state in states)
    assert states[-1] == "Filled"
    assert "Triggered" in states
    assert (entry.stopped["createType"], entry.stopped["orderLinkId"]) == ("CreateByStopLoss", "")
    assert entry.stopped["side"] == "Sell"


def test_the_stop_fills_at_its_price_with_slippage(entry: Entry) -> None:
    """49,300 less two basis points, as a taker, marked as a stop loss."""
    fill = entry.exit
    assert number(fill["execPrice"]) == 49_300 * SOLD
    assert (fill["isMaker"], number(fill["feeRate"])) == (False, TAKER)
    assert (fill["stopOrderType"], fill["createType"], fill["orderLinkId"]) == ("StopLoss", "CreateByStopLoss", "")
    assert (number(fill["execQty"]), number(fill["closedSize"])) == (Decimal("0.1"), Decimal("0.1"))


def test_after_the_stop_the_position_is_flat(entry: Entry) -> None:
    """Side empty, size and entry zero, no stop left, on the stream and over REST."""
    assert (entry.flat["side"], entry.flat["size"], entry.flat["entryPrice"]) == ("", "0", "0")
    assert number(entry.flat["stopLoss"]) == 0
    assert entry.account.orders() == []


def test_the_stop_is_in_the_lists_as_on_the_stream(entry: Entry) -> None:
    """History and executions tell of the stop what the stream told."""
    order = entry.account.reaches(entry.stopped["orderId"], "Filled")
    fill = entry.account.executions(orderId=entry.stopped["orderId"])[0]
    assert (order["createType"], order["stopOrderType"], order["orderLinkId"]) == ("CreateByStopLoss", "StopLoss", "")
    assert (fill["execId"], fill["stopOrderType"]) == (entry.exit["execId"], "StopLoss")


def test_the_whole_trade_adds_up(entry: Entry) -> None:
    """The wallet has changed by the price difference less a maker's and a taker's fee, and closed-pnl says the same."""
    bought, sold = Decimal(4950), 4930 * SOLD
    profit = sold - bought - bought * MAKER - sold * TAKER
    row = next(row for row in entry.account.closed() if row["orderId"] == entry.stopped["orderId"])
    assert abs(entry.after - entry.before - profit) <= CENT
    assert abs(number(row["closedPnl"]) - profit) <= CENT
    assert abs(number(row["openFee"]) - bought * MAKER) <= CENT


def test_the_wallet_event_has_the_new_balance(entry: Entry) -> None:
    """The last wallet message shows what REST shows."""
    last = entry.events.rows("wallet", mark=entry.moved)[-1]
    coin = next(coin for coin in last["coin"] if coin["coin"] == "USDT")
    assert (last["accountType"], number(coin["walletBalance"])) == ("UNIFIED", entry.after)


# ---- one bar at a time ---------------------------------------------------------------------------


def test_a_limit_is_filled_through_its_price_not_at_it(sailor: Account) -> None:
    """The dip's low is 49,000: a buy one tick above is filled, a buy at it is not."""
    sailor.wait_for_calm()
    touched, crossed = sailor.limit("Buy", "0.01", "49000"), sailor.limit("Buy", "0.01", "49000.1")
    row = sailor.reaches(crossed, "Filled")
    assert number(row["avgPrice"]) == Decimal("49000.1")
    assert sailor.reaches(touched, "New")


def test_entry_and_stop_may_fall_into_one_bar(sailor: Account, tide_events: Inbox) -> None:
    """A buy at 49,500 with a stop at 49,200 is filled and stopped by one dip: maker in, taker out at the stop."""
    sailor.wait_for_calm()
    mark = tide_events.mark()
    order_id = sailor.limit("Buy", "0.01", "49500", stopLoss="49200", timeInForce="PostOnly")
    bought = tide_events.row("execution", "the entry", mark=mark, orderId=order_id)
    sold = tide_events.row("execution", "the stop", mark=mark, side="Sell")
    assert (number(bought["execPrice"]), bought["isMaker"]) == (Decimal(49_500), True)
    assert (number(sold["execPrice"]), sold["isMaker"], sold["stopOrderType"]) == (49_200 * SOLD, False, "StopLoss")
    assert int(bought["execTime"]) // TIDE.bar == int(sold["execTime"]) // TIDE.bar
    until(lambda: sailor.size() == 0, "a flat position")


def test_the_fill_is_published_before_the_candle_is_confirmed(sailor: Account) -> None:
    """Who hears the confirm of the dip and asks, is told of the fill."""
    candles = Inbox()
    with pybit_socket(sailor.exchange, "linear") as client:
        client.kline_stream(TIDE.minutes, "BTCUSDT", candles)
        candles.wait(lambda message: True, "a candle")
        sailor.wait_for_calm()
        mark = len(candles)
        order_id = sailor.limit("Buy", "0.01", "49500")

        def dipped(message: Json) -> bool:
            return any(bar["confirm"] and TIDE.place_in_cycle(bar["start"]) == 5 for bar in message["data"])

        candles.wait(dipped, "the confirmed dip", mark=mark)
        row = sailor.order(order_id)
    assert row is not None
    assert row["orderStatus"] == "Filled"


def test_a_short_is_stopped_by_the_surge(sailor: Account, tide_events: Inbox) -> None:
    """A sell at the market with a stop at 50,500 is bought back at the stop plus slippage."""
    sailor.wait_for_calm()
    mark = tide_events.mark()
    sailor.trade("Sell", "0.01", stopLoss="50500")
    fill = tide_events.row("execution", "the stop", mark=mark, side="Buy")
    assert (number(fill["execPrice"]), fill["isMaker"]) == (50_500 * BOUGHT, False)
    assert fill["createType"] == "CreateByStopLoss"
    until(lambda: sailor.size() == 0, "a flat position")


def test_a_resting_target_is_filled_as_a_maker(sailor: Account) -> None:
    """A reduce-only post-only sell at 50,500 is filled by the surge at exactly its price."""
    sailor.wait_for_calm()
    sailor.trade("Buy", "0.01")
    order_id = sailor.limit("Sell", "0.01", "50500", reduceOnly=True, timeInForce="PostOnly")
    row = sailor.reaches(order_id, "Filled")
    fill = sailor.executions(orderId=order_id)[0]
    assert (number(row["avgPrice"]), fill["isMaker"], number(fill["feeRate"])) == (Decimal(50_500), True, MAKER)
    assert sailor.size() == 0


def test_a_target_that_triggers_clears_the_stop(sailor: Account, tide_events: Inbox) -> None:
    """Take profit at 50,500, stop at 45,000: the surge fills the one and cancels the other as CancelByTpSlTsClear."""
    sailor.wait_for_calm()
    mark = tide_events.mark()
    sailor.trade("Buy", "0.01", takeProfit="50500", stopLoss="45000")
    filled = tide_events.row("order", "the target", mark=mark, stopOrderType="TakeProfit", orderStatus="Filled")
    cleared = tide_events.row(
        "order", "the stop to go", mark=mark, stopOrderType="StopLoss", cancelType="CancelByTpSlTsClear"
    )
    assert (filled["createType"], filled["side"], filled["orderLinkId"]) == ("CreateByTakeProfit", "Sell", "")
    assert cleared["orderStatus"] == "Cancelled"
    until(lambda: sailor.size() == 0 and sailor.orders() == [], "a flat account")


def test_a_conditional_order_triggers_and_fills(sailor: Account, tide_events: Inbox) -> None:
    """A buy stop at 50,500 is triggered by the surge and filled at the stop plus slippage, as a taker."""
    name = link("breakout")
    sailor.wait_for_calm()
    mark = tide_events.mark()
    order_id = sailor.create(
        side="Buy", orderType="Market", qty="0.01", triggerPrice="50500", triggerDirection=1, orderLinkId=name
    )["orderId"]
    row = tide_events.row("order", "the breakout", mark=mark, orderId=order_id, orderStatus="Filled")
    fill = tide_events.row("execution", "the fill", mark=mark, orderId=order_id)
    states = [event["orderStatus"] for event in tide_events.rows("order", mark=mark) if event["orderId"] == order_id]
    assert (row["stopOrderType"], row["orderLinkId"]) == ("Stop", name)
    assert (states[0], "Triggered" in states, states[-1]) == ("Untriggered", True, "Filled")
    assert (number(fill["execPrice"]), fill["isMaker"]) == (50_500 * BOUGHT, False)


def test_a_trailing_stop_follows_and_triggers(sailor: Account, tide_events: Inbox) -> None:
    """A long trailed by 800 from 50,000 is closed by the dip at 49,200, createType CreateByTrailingStop."""
    sailor.wait_for_calm()
    sailor.trade("Buy", "0.01")
    mark = tide_events.mark()
    sailor.protect(trailingStop="800")
    row = tide_events.row("order", "the trailing stop", mark=mark, stopOrderType="TrailingStop", orderStatus="Filled")
    assert (row["createType"], row["side"], row["orderLinkId"]) == ("CreateByTrailingStop", "Sell", "")
    assert number(row["avgPrice"]) == 49_200 * SOLD
    until(lambda: sailor.size() == 0, "a flat position")


def test_a_resting_reduce_only_order_goes_when_the_stop_fires(sailor: Account, tide_events: Inbox) -> None:
    """The stop closes the position, and the target that rested beside it is cancelled with CancelByReduceOnly."""
    sailor.wait_for_calm()
    mark = tide_events.mark()
    sailor.trade("Buy", "0.01", stopLoss="49500")
    target = sailor.limit("Sell", "0.01", "52000", reduceOnly=True, timeInForce="PostOnly")
    row = tide_events.row("order", "the target to go", mark=mark, orderId=target, orderStatus="Cancelled")
    assert row["cancelType"] == "CancelByReduceOnly"
    assert sailor.size() == 0


# ---- gaps ----------------------------------------------------------------------------------------


@pytest.fixture
def jumper(gap_account: Account) -> Account:
    """A flat account where the market gaps from 50,000 to 49,000, in the calm before it."""
    gap_account.flatten()
    gap_account.wait_for_calm()
    return gap_account


def test_a_stop_behind_a_gap_fills_at_the_open(jumper: Account) -> None:
    """The stop at 49,500 gets the open of 49,000 less slippage."""
    jumper.trade("Buy", "0.01", stopLoss="49500")
    stop = until(lambda: next(iter(jumper.orders(orderFilter="StopOrder")), None), "the stop")
    row = jumper.reaches(stop["orderId"], "Filled")
    assert number(row["avgPrice"]) == 49_000 * SOLD
    assert jumper.size() == 0


def test_a_limit_behind_a_gap_fills_at_its_own_price(jumper: Account) -> None:
    """A buy at 49,700 is filled at 49,700 as a maker, though the bar opened far below."""
    order_id = jumper.limit("Buy", "0.01", "49700", timeInForce="PostOnly")
    row = jumper.reaches(order_id, "Filled")
    assert number(row["avgPrice"]) == 49_700
    assert [fill["isMaker"] for fill in jumper.executions(orderId=order_id)] == [True]


def test_entry_and_stop_behind_one_gap(jumper: Account) -> None:
    """A buy at 49,700 with a stop at 49,400 is filled at its price and stopped at the open, for both lie above it."""
    order_id = jumper.limit("Buy", "0.01", "49700", stopLoss="49400", timeInForce="PostOnly")
    jumper.reaches(order_id, "Filled")

    def stopped() -> Json | None:
        fills: list[Json] = [row for row in jumper.executions() if row["stopOrderType"] == "StopLoss"]
        return next((row for row in fills if int(row["execTime"]) >= int(_of(jumper, order_id)["execTime"])), None)

    fill = until(stopped, "the stop")
    assert number(_of(jumper, order_id)["execPrice"]) == 49_700
    assert number(fill["execPrice"]) == 49_000 * SOLD
    assert int(fill["execTime"]) // GAP.bar == int(_of(jumper, order_id)["execTime"]) // GAP.bar


def _of(account: Account, order_id: str) -> dict[str, Any]:
    """The fill of an order."""
    return account.executions(orderId=order_id)[0]
