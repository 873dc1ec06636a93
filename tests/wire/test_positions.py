"""The position, its leverage, its mode and its stops, where the market stands at 50,000 (facts 4.3, 7.3 to 7.6)."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from tests.wire.harness import Account, Json, code_of, names, number, refusal_of, until

TEXTS = names("""
    riskLimitValue symbol side size avgPrice positionValue positionStatus leverage breakEvenPrice markPrice liqPrice
    positionIM positionMM takeProfit stopLoss trailingStop unrealisedPnl curRealisedPnl cumRealisedPnl createdTime
    updatedTime tpslMode bustPrice positionBalance
""")
INTEGERS = frozenset({"positionIdx", "riskId", "autoAddMargin", "adlRankIndicator", "seq", "tradeMode"})


def stop_orders(account: Account) -> list[Json]:
    """The conditional orders that wait, newest first."""
    return account.orders(orderFilter="StopOrder")


def stop_price(account: Account) -> Decimal:
    return number(account.position()["stopLoss"])


# ---- the row -------------------------------------------------------------------------------------


def test_a_flat_symbol_still_has_a_row(account: Account) -> None:
    """Asked by symbol, a flat position is a row without side and of size zero."""
    row = account.position()
    assert (row["symbol"], row["side"], row["positionIdx"]) == ("BTCUSDT", "", 0)
    assert number(row["size"]) == number(row["avgPrice"]) == number(row["positionValue"]) == 0
    assert row["liqPrice"] == ""


def test_by_settle_coin_only_open_positions_are_listed(account: Account) -> None:
    """Asked by settle coin, a flat symbol is not there, an open one is."""
    asked = {"category": "linear", "settleCoin": "USDT"}
    assert account.http.get_positions(**asked)["result"]["list"] == []
    account.trade("Buy", "0.01")
    rows = account.http.get_positions(**asked)["result"]["list"]
    assert [(row["symbol"], row["side"], number(row["size"])) for row in rows] == [("BTCUSDT", "Buy", Decimal("0.01"))]


def test_positions_need_a_scope(account: Account) -> None:
    """Neither symbol nor settle coin is a parameter error."""
    assert code_of(account.http.get_positions, category="linear") == 10001


def test_an_open_position_has_every_field_in_its_type(account: Account) -> None:
    """Numbers are strings, a few counters are integers, isReduceOnly is a boolean."""
    account.trade("Buy", "0.01")
    row = account.position()
    assert set(row) >= TEXTS | INTEGERS | {"isReduceOnly"}
    assert {name: row[name] for name in TEXTS if type(row[name]) is not str} == {}
    assert {name: row[name] for name in INTEGERS if type(row[name]) is not int} == {}
    assert type(row["isReduceOnly"]) is bool
    assert row["positionStatus"] == "Normal"


@pytest.mark.parametrize(("side", "entry"), [("Buy", "50010"), ("Sell", "49990")])
def test_an_open_position_is_valued_at_mark(account: Account, side: str, entry: str) -> None:
    """Entry at the fill, value and unrealised profit at the mark price, liquidation on the losing side."""
    account.trade(side, "0.1")
    row = account.position()
    mark, price, size = (number(row[name]) for name in ("markPrice", "avgPrice", "size"))
    direction = 1 if side == "Buy" else -1
    assert (row["side"], size, price, mark) == (side, Decimal("0.1"), Decimal(entry), Decimal(50_000))
    assert number(row["unrealisedPnl"]) == direction * (mark - price) * size
    assert number(row["positionValue"]) in {mark * size, price * size}
    if row["liqPrice"]:
        assert direction * (price - number(row["liqPrice"])) > 0


def test_margin_is_value_by_leverage(account: Account) -> None:
    """The initial margin of a position is its value by its leverage, plus no more than the fees to close it."""
    account.trade("Buy", "0.1")
    row = account.position()
    margin = number(row["positionValue"]) / number(row["leverage"])
    assert margin <= number(row["positionIM"]) <= margin + number(row["positionValue"]) * Decimal("0.0012")
    assert 0 < number(row["positionMM"]) < number(row["positionIM"])


def test_the_entry_is_averaged_by_size_and_kept_on_reduction(account: Account) -> None:
    """Two buys average; a partial sale changes the size alone; selling through zero starts anew."""
    account.trade("Buy", "0.01")
    limit = account.limit("Buy", "0.03", "50500")
    second = account.reaches(limit, "Filled")
    average = (Decimal("0.01") * 50_010 + Decimal("0.03") * number(second["avgPrice"])) / Decimal("0.04")
    assert abs(number(account.position()["avgPrice"]) - average) < Decimal("0.01")
    account.trade("Sell", "0.02")
    assert account.size() == Decimal("0.02")
    assert abs(number(account.position()["avgPrice"]) - average) < Decimal("0.01")
    account.trade("Sell", "0.05")
    assert account.size() == Decimal("-0.03")
    assert number(account.position()["avgPrice"]) == 49_990


# ---- leverage and modes --------------------------------------------------------------------------


def set_leverage(account: Account, value: str) -> int:
    """Set both sides; the code of the answer."""
    account.exchange.pace("leverage")
    asked = {"category": "linear", "symbol": "BTCUSDT", "buyLeverage": value, "sellLeverage": value}
    return code_of(account.http.set_leverage, **asked)


@pytest.fixture
def leverage(account: Account) -> Iterator[Decimal]:
    """The leverage the account has, which the test may change."""
    before = account.position()["leverage"]
    yield number(before)
    account.flatten()
    assert set_leverage(account, before) in {0, 110043}


def test_leverage_is_set_and_read_back(account: Account, leverage: Decimal) -> None:
    """The position list shows the new leverage."""
    assert leverage != 17
    assert set_leverage(account, "17") == 0
    assert number(account.position()["leverage"]) == 17


def test_unchanged_leverage_is_110043(account: Account, leverage: Decimal) -> None:
    """Setting what is already set is 'leverage not modified', however the number is written."""
    assert set_leverage(account, str(leverage)) == 110043
    assert set_leverage(account, f"{leverage:.2f}") == 110043
    assert number(account.position()["leverage"]) == leverage


@pytest.mark.parametrize("value", ["101", "0", "-3", "many"])
def test_impossible_leverage_is_refused(account: Account, leverage: Decimal, value: str) -> None:
    """Beyond the tier is 110013, nonsense is a parameter error, and the old leverage stays."""
    assert set_leverage(account, value) in {110013, 10001}
    assert number(account.position()["leverage"]) == leverage


def test_more_leverage_needs_less_margin(account: Account, leverage: Decimal) -> None:
    """An order that is refused at 2x is accepted at 20x."""
    assert leverage > 0
    assert set_leverage(account, "2") in {0, 110043}
    assert code_of(account.create, side="Buy", orderType="Limit", qty="0.6", price="45000") == 110007
    assert set_leverage(account, "20") == 0
    assert account.limit("Buy", "0.6", "45000")


def test_one_way_mode_is_the_default(account: Account) -> None:
    """Switching to one-way is 'position mode not modified', by symbol and by coin."""
    assert code_of(account.http.switch_position_mode, category="linear", symbol="BTCUSDT", mode=0) == 110025
    assert code_of(account.http.switch_position_mode, category="linear", coin="USDT", mode=0) == 110025


def test_the_mode_cannot_be_switched_with_a_position(account: Account) -> None:
    """110024 while a position is open, 110028 while an order is."""
    account.trade("Buy", "0.01")
    assert code_of(account.http.switch_position_mode, category="linear", symbol="BTCUSDT", mode=3) == 110024
    account.flatten()
    account.limit("Buy", "0.01", "45000")
    assert code_of(account.http.switch_position_mode, category="linear", symbol="BTCUSDT", mode=3) == 110028
    assert account.position()["positionIdx"] == 0


# ---- trading-stop --------------------------------------------------------------------------------


def test_a_stop_without_a_position_is_10001(account: Account) -> None:
    """There is nothing to protect: 'can not set tp/sl/ts for zero position'."""
    code, text = refusal_of(account.protect, stopLoss="49000")
    assert code == 10001
    assert "zero position" in text


@pytest.mark.parametrize(
    ("side", "stops", "words"),
    [
        ("Buy", {"stopLoss": "51000"}, "should lower than base_price"),
        ("Sell", {"stopLoss": "49000"}, "should greater than base_price"),
        ("Buy", {"takeProfit": "49000"}, ""),
        ("Sell", {"takeProfit": "51000"}, ""),
    ],
)
def test_a_stop_on_the_wrong_side_is_10001(account: Account, side: str, stops: dict[str, str], words: str) -> None:
    """The market is already beyond it: the call fails and the position stays without the stop."""
    account.trade(side, "0.01")
    code, text = refusal_of(account.protect, **stops)
    assert code == 10001
    assert words in text
    assert stop_price(account) == number(account.position()["takeProfit"]) == 0
    assert stop_orders(account) == []


def test_a_stop_is_set_and_shown(account: Account) -> None:
    """The position shows the stop, and a conditional order waits for it."""
    account.trade("Buy", "0.01")
    answer = account.protect(stopLoss="49000")
    assert answer["result"] == {}
    until(lambda: stop_price(account) == 49_000, "the stop on the position")
    row = until(lambda: next(iter(stop_orders(account)), None), "the order of the stop")
    assert (row["orderStatus"], row["stopOrderType"], row["side"]) == ("Untriggered", "StopLoss", "Sell")
    assert (row["orderType"], row["reduceOnly"], row["closeOnTrigger"]) == ("Market", True, True)
    assert (number(row["triggerPrice"]), row["triggerBy"], row["triggerDirection"]) == (Decimal(49_000), "LastPrice", 2)
    assert row["orderLinkId"] == ""


def test_the_same_stop_again_is_34040(account: Account) -> None:
    """Nothing changes: 'not modified', which clients take as success."""
    account.trade("Buy", "0.01")
    account.protect(stopLoss="49000")
    assert code_of(account.protect, stopLoss="49000") == 34040
    assert code_of(account.protect, stopLoss="49000.0") == 34040
    assert len(stop_orders(account)) == 1


def test_a_stop_is_moved_not_doubled(account: Account) -> None:
    """In Full mode a second call modifies the one stop."""
    account.trade("Buy", "0.01")
    account.protect(stopLoss="49000")
    account.protect(stopLoss="49200")
    until(lambda: stop_price(account) == 49_200, "the moved stop")
    until(lambda: [number(row["triggerPrice"]) for row in stop_orders(account)] == [49_200], "one order")


def test_zero_removes_a_stop(account: Account) -> None:
    """stopLoss 0 takes the stop off the position and its order away."""
    account.trade("Buy", "0.01")
    account.protect(stopLoss="49000")
    account.protect(stopLoss="0")
    until(lambda: stop_price(account) == 0 and stop_orders(account) == [], "the stop to be gone")


def test_stop_and_target_stand_together(account: Account) -> None:
    """A take profit is a second conditional order on the other side of the market."""
    account.trade("Sell", "0.01")
    account.protect(stopLoss="51000", takeProfit="49000")
    row = account.position()
    assert (number(row["stopLoss"]), number(row["takeProfit"])) == (Decimal(51_000), Decimal(49_000))
    kinds = {order["stopOrderType"]: order for order in stop_orders(account)}
    assert set(kinds) == {"StopLoss", "TakeProfit"}
    assert {order["side"] for order in kinds.values()} == {"Buy"}
    assert (kinds["StopLoss"]["triggerDirection"], kinds["TakeProfit"]["triggerDirection"]) == (1, 2)


def test_a_trailing_stop_is_set_and_removed(account: Account) -> None:
    """The distance is shown on the position; zero takes it off."""
    account.trade("Buy", "0.01")
    account.protect(trailingStop="500")
    assert number(account.position()["trailingStop"]) == 500
    account.protect(trailingStop="0")
    assert number(account.position()["trailingStop"]) == 0


def test_the_stop_goes_with_the_position(account: Account) -> None:
    """Closing the position cancels what protected it."""
    account.trade("Buy", "0.01")
    account.protect(stopLoss="49000")
    stop = stop_orders(account)[0]["orderId"]
    account.trade("Sell", "0.01", reduceOnly=True)
    account.reaches(stop, "Cancelled", "Deactivated")
    assert stop_price(account) == 0


def test_a_full_stop_follows_the_size(account: Account) -> None:
    """When the position grows, the stop covers the whole of it."""
    account.trade("Buy", "0.01")
    account.protect(stopLoss="49000")
    account.trade("Buy", "0.02")
    until(lambda: [number(row["qty"]) in {0, Decimal("0.03")} for row in stop_orders(account)] == [True], "the size")
    assert stop_price(account) == 49_000


def test_the_stop_goes_when_the_position_turns(account: Account) -> None:
    """Selling through zero closes the long with its stop; the short that begins has none."""
    account.trade("Buy", "0.01")
    account.protect(stopLoss="49000")
    account.trade("Sell", "0.03")
    assert account.size() == Decimal("-0.02")
    until(lambda: stop_price(account) == 0 and stop_orders(account) == [], "the stop of the long to go")


def test_a_partial_close_keeps_the_stop(account: Account) -> None:
    """What is left of the position stays protected."""
    account.trade("Buy", "0.03")
    account.protect(stopLoss="49000")
    account.trade("Sell", "0.01", reduceOnly=True)
    assert stop_price(account) == 49_000
    until(lambda: [number(row["qty"]) in {0, Decimal("0.02")} for row in stop_orders(account)] == [True], "the size")


def test_cancelling_the_order_of_a_stop_removes_the_stop(account: Account) -> None:
    """The order and the position's stop are one thing."""
    account.trade("Buy", "0.01")
    account.protect(stopLoss="49000")
    account.cancel(stop_orders(account)[0]["orderId"])
    until(lambda: stop_price(account) == 0 and stop_orders(account) == [], "the stop to be gone")


def test_a_new_attached_stop_replaces_the_old_one(account: Account) -> None:
    """An order that enlarges the position brings its own stop, which becomes the stop of the whole."""
    account.trade("Buy", "0.01", stopLoss="48000")
    account.trade("Buy", "0.01", stopLoss="49000")
    until(lambda: stop_price(account) == 49_000, "the new stop")
    until(lambda: [number(row["triggerPrice"]) for row in stop_orders(account)] == [49_000], "one stop order")


# ---- attached stops ------------------------------------------------------------------------------


def test_an_attached_stop_appears_when_the_order_fills(account: Account) -> None:
    """A filled order with a stop leaves an Untriggered child that names its parent, and the position shows the stop."""
    parent = account.trade("Buy", "0.02", stopLoss="49000", orderLinkId=f"parent-{account.open_candle()}-{id(account)}")
    child = until(lambda: next(iter(stop_orders(account)), None), "the child order")
    assert child["orderId"] != parent["orderId"]
    assert (child["orderStatus"], child["stopOrderType"], child["side"]) == ("Untriggered", "StopLoss", "Sell")
    assert (child["orderType"], child["reduceOnly"], child["closeOnTrigger"]) == ("Market", True, True)
    assert (number(child["triggerPrice"]), child["triggerDirection"]) == (Decimal(49_000), 2)
    assert child["orderLinkId"] == ""
    assert child["parentOrderLinkId"] in {parent["orderLinkId"], parent["orderId"]}
    assert stop_price(account) == 49_000
    assert number(parent["stopLoss"]) == 49_000


def test_an_attached_stop_waits_for_its_order(account: Account) -> None:
    """While the order rests, it carries the stop and there is no child."""
    row = account.reaches(account.limit("Buy", "0.01", "45000", stopLoss="44000", takeProfit="48000"), "New")
    assert (number(row["stopLoss"]), number(row["takeProfit"])) == (Decimal(44_000), Decimal(48_000))
    assert stop_orders(account) == []


def test_an_attached_stop_is_amended_with_its_order(account: Account) -> None:
    """The stop of a resting order can be moved, and removed by zero."""
    order_id = account.limit("Buy", "0.01", "45000", stopLoss="44000")
    asked = {"category": "linear", "symbol": "BTCUSDT", "orderId": order_id, "slTriggerBy": "LastPrice"}
    account.http.amend_order(**asked, stopLoss="43000")
    until(lambda: number((account.order(order_id) or {"stopLoss": ""})["stopLoss"]) == 43_000, "the moved stop")
    account.http.amend_order(**asked, stopLoss="0")
    until(lambda: number((account.order(order_id) or {"stopLoss": "1"})["stopLoss"]) == 0, "the stop to be gone")


# ---- hedge mode: the account's last state, so it has the file's last word ------------------------


def test_hedge_mode_shows_two_rows(account: Account) -> None:
    """In hedge mode a flat symbol has a row for either side; switching back leaves one."""
    switch = account.http.switch_position_mode
    assert code_of(switch, category="linear", symbol="BTCUSDT", mode=3) == 0
    try:
        rows = account.http.get_positions(category="linear", symbol="BTCUSDT")["result"]["list"]
        assert sorted(row["positionIdx"] for row in rows) == [1, 2]
    finally:
        assert code_of(switch, category="linear", symbol="BTCUSDT", mode=0) == 0
    assert account.position()["positionIdx"] == 0
