"""Orders over REST by pybit, where the market stands at 50,000: refused, resting, filled (facts 4.2, 6)."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from tests.wire.harness import OPEN_STATES, Account, Json, code_of, names, number, pages, until
from tests.wire.markets import STILL

TEXTS = names("""
    orderId orderLinkId symbol price qty side orderStatus createType cancelType rejectReason avgPrice leavesQty
    leavesValue cumExecQty cumExecValue cumExecFee timeInForce orderType stopOrderType triggerPrice takeProfit stopLoss
    tpslMode tpLimitPrice slLimitPrice tpTriggerBy slTriggerBy triggerBy lastPriceOnCreated placeType smpType smpOrderId
    createdTime updatedTime blockTradeId isLeverage orderIv marketUnit ocoTriggerBy
""")
INTEGERS = frozenset({"positionIdx", "triggerDirection", "smpGroup"})
TRUTHS = frozenset({"reduceOnly", "closeOnTrigger"})

BUY = {"side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "45000"}
MARKET = {"side": "Buy", "orderType": "Market", "qty": "0.01"}
CLOSE = {"side": "Sell", "orderType": "Market", "qty": "0.01", "reduceOnly": True}
STOP = {"side": "Buy", "orderType": "Market", "qty": "0.01"}


def link() -> str:
    """An orderLinkId nobody has used."""
    return f"wire-{uuid.uuid4().hex[:24]}"


# ---- refused at once -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "order"),
    [
        pytest.param(110094, BUY | {"qty": "0.001", "price": "4000"}, id="worth less than 5 USDT"),
        pytest.param(110007, BUY | {"qty": "30"}, id="more than the account can carry"),
        pytest.param(110007, MARKET | {"qty": "30"}, id="a market order beyond the account"),
        pytest.param(110017, CLOSE, id="reduce-only when flat"),
        pytest.param(110017, BUY | {"reduceOnly": True}, id="a reduce-only limit when flat"),
        pytest.param(110092, STOP | {"triggerPrice": "49000", "triggerDirection": 1}, id="rise to below the last"),
        pytest.param(110092, STOP | {"triggerPrice": "50000", "triggerDirection": 1}, id="rise to the last price"),
        pytest.param(110093, STOP | {"triggerPrice": "51000", "triggerDirection": 2}, id="fall to above the last"),
        pytest.param(110093, STOP | {"triggerPrice": "50000", "triggerDirection": 2}, id="fall to the last price"),
        pytest.param(10001, BUY | {"qty": "0.0015"}, id="a quantity off the step"),
        pytest.param(10001, MARKET | {"qty": "0.0105"}, id="a market quantity off the step"),
        pytest.param(10001, BUY | {"qty": "0"}, id="no quantity"),
        pytest.param(10001, BUY | {"qty": "-0.01"}, id="a negative quantity"),
        pytest.param(10001, BUY | {"qty": "much"}, id="a quantity in words"),
        pytest.param(10001, BUY | {"qty": "NaN"}, id="not a number"),
        pytest.param(10001, BUY | {"price": "Infinity"}, id="an infinite price"),
        pytest.param(10001, BUY | {"price": "-45000"}, id="a negative price"),
        pytest.param(10001, {"side": "Buy", "orderType": "Limit", "qty": "0.01"}, id="a limit order without a price"),
        pytest.param(10001, {"orderType": "Limit", "qty": "0.01", "price": "45000"}, id="no side"),
        pytest.param(10001, {"side": "Buy", "orderType": "Limit", "price": "45000"}, id="no quantity at all"),
        pytest.param(10001, {"side": "Buy", "qty": "0.01", "price": "45000"}, id="no type"),
        pytest.param(10001, BUY | {"side": "Hold"}, id="a side that does not exist"),
        pytest.param(10001, BUY | {"orderType": "Fancy"}, id="a type that does not exist"),
        pytest.param(10001, BUY | {"timeInForce": "Whenever"}, id="a time in force that does not exist"),
        pytest.param(10001, BUY | {"symbol": "NOSUCHUSDT"}, id="a symbol that does not exist"),
        pytest.param(10001, BUY | {"category": "nonsense"}, id="a category that does not exist"),
        pytest.param(10001, BUY | {"orderLinkId": "x" * 37}, id="a link id of 37 characters"),
        pytest.param(10001, BUY | {"orderLinkId": "no spaces!"}, id="a link id with other characters"),
        pytest.param(10001, BUY | {"positionIdx": 1}, id="a hedge index in one-way mode"),
        pytest.param(10001, BUY | {"stopLoss": "51000"}, id="a long whose stop lies above"),
        pytest.param(10001, BUY | {"takeProfit": "44000"}, id="a long whose target lies below"),
    ],
)
def test_a_bad_order_is_refused_with_its_code_and_leaves_nothing(account: Account, code: int, order: Json) -> None:
    """The refusal carries Bybit's code, no order comes to be, and the wallet is not touched."""
    before = account.balance()
    assert code_of(account.create, **order) == code
    assert account.orders() == []
    assert account.balance() == before


def test_a_price_off_the_tick_never_rests(account: Account) -> None:
    """Whether it is refused or rounded, no order stands at a price that is no multiple of the tick."""
    code = code_of(account.create, **(BUY | {"price": "45000.05"}))
    assert code in {0, 10001}
    resting = account.orders()
    assert len(resting) == (1 if code == 0 else 0)
    assert all(number(row["price"]) % Decimal("0.1") == 0 for row in resting)


@pytest.mark.parametrize("end", ["open", "cancelled", "filled", "would have crossed"])
def test_a_link_id_is_good_for_one_order_forever(account: Account, end: str) -> None:
    """A second order of the same orderLinkId is 110072, whatever has become of the first."""
    name = link()
    if end == "filled":
        account.trade("Buy", "0.01", orderLinkId=name)
    elif end == "would have crossed":
        crossing = account.limit("Buy", "0.01", "51000", orderLinkId=name, timeInForce="PostOnly")
        account.reaches(crossing, "Cancelled")
    else:
        order_id = account.limit("Buy", "0.01", "45000", orderLinkId=name)
        if end == "cancelled":
            account.cancel(order_id)
            account.reaches(order_id, "Cancelled")
    size = account.size()
    assert code_of(account.create, **BUY, orderLinkId=name) == 110072
    assert len(account.orders()) == (1 if end == "open" else 0)
    assert account.size() == size


def test_a_refused_order_leaves_its_link_id_free(account: Account) -> None:
    """What was refused at create never was, so its id may be used by the next order."""
    name = link()
    assert code_of(account.create, **(BUY | {"qty": "0.0015"}), orderLinkId=name) == 10001
    assert account.create(**BUY, orderLinkId=name)["orderLinkId"] == name


# ---- resting -------------------------------------------------------------------------------------


def test_the_acknowledgement_names_both_ids(account: Account) -> None:
    """create answers with a UUID and the link id, which is empty when none was given."""
    name = link()
    named, nameless = account.create(**BUY, orderLinkId=name), account.create(**BUY)
    assert named["orderLinkId"] == name
    assert nameless["orderLinkId"] == ""
    assert str(uuid.UUID(named["orderId"])) == named["orderId"] != nameless["orderId"]


def test_a_resting_order_has_every_field_in_its_type(account: Account) -> None:
    """Numbers are strings, three fields are integers, two are booleans, fees are a map."""
    row = account.reaches(account.limit("Buy", "0.01", "45000", orderLinkId=link()), "New")
    assert set(row) >= TEXTS | INTEGERS | TRUTHS | {"cumFeeDetail"}
    assert {name: row[name] for name in TEXTS if type(row[name]) is not str} == {}
    assert {name: row[name] for name in INTEGERS if type(row[name]) is not int} == {}
    assert {name: row[name] for name in TRUTHS if type(row[name]) is not bool} == {}


def test_a_resting_order_says_what_was_asked(account: Account) -> None:
    """Side, size, price, what is left and that nothing has been filled."""
    name = link()
    row = account.reaches(account.limit("Buy", "0.01", "45000", orderLinkId=name), "New")
    assert (row["symbol"], row["side"], row["orderType"], row["orderLinkId"]) == ("BTCUSDT", "Buy", "Limit", name)
    assert (row["timeInForce"], row["createType"], row["positionIdx"]) == ("GTC", "CreateByUser", 0)
    assert (row["rejectReason"], row["cancelType"]) == ("EC_NoError", "UNKNOWN")
    assert (number(row["price"]), number(row["qty"])) == (Decimal(45_000), Decimal("0.01"))
    assert (number(row["leavesQty"]), number(row["leavesValue"])) == (Decimal("0.01"), Decimal(450))
    assert number(row["cumExecQty"]) == number(row["cumExecValue"]) == number(row["avgPrice"]) == 0
    assert (row["reduceOnly"], row["closeOnTrigger"]) == (False, False)


def test_orders_carry_market_time(account: Account) -> None:
    """createdTime lies inside the bar the market stands in, not in the year of the wall clock."""
    row = account.reaches(account.limit("Buy", "0.01", "45000"), "New")
    assert STILL.begin <= int(row["createdTime"]) <= int(row["updatedTime"]) < STILL.begin + STILL.bar


def test_an_amended_order_keeps_its_id_and_takes_the_new_terms(account: Account) -> None:
    """Price and total quantity change; the order stays New under the same id."""
    order_id = account.limit("Buy", "0.01", "45000")
    answer = account.http.amend_order(
        category="linear", symbol="BTCUSDT", orderId=order_id, qty="0.02", price="45100.5"
    )
    assert answer["result"]["orderId"] == order_id

    def amended() -> bool:
        row = account.order(order_id)
        return row is not None and (number(row["price"]), number(row["qty"])) == (Decimal("45100.5"), Decimal("0.02"))

    until(amended, "the amended order")
    rows = account.orders()
    assert [(row["orderId"], row["orderStatus"]) for row in rows] == [(order_id, "New")]
    assert number(rows[0]["leavesQty"]) == Decimal("0.02")


def test_an_order_is_amended_by_its_link_id(account: Account) -> None:
    """The link id names the order as well as the id does."""
    name = link()
    order_id = account.limit("Buy", "0.01", "45000", orderLinkId=name)
    account.http.amend_order(category="linear", symbol="BTCUSDT", orderLinkId=name, price="44000")
    until(lambda: number((account.order(order_id) or {"price": "0"})["price"]) == 44_000, "the new price")


def test_an_order_amended_through_the_market_fills(account: Account) -> None:
    """A resting buy moved above the market does not go on resting there."""
    order_id = account.limit("Buy", "0.01", "45000")
    account.http.amend_order(category="linear", symbol="BTCUSDT", orderId=order_id, price="50500")
    row = account.reaches(order_id, "Filled")
    assert number(row["avgPrice"]) <= 50_500


def test_an_order_is_not_amended_beyond_the_account(account: Account) -> None:
    """A quantity the account cannot carry is 110007, and the order rests on as it was."""
    order_id = account.limit("Buy", "0.01", "45000")
    asked = {"category": "linear", "symbol": "BTCUSDT", "orderId": order_id, "qty": "30"}
    assert code_of(account.http.amend_order, **asked) == 110007
    assert number(account.reaches(order_id, "New")["qty"]) == Decimal("0.01")


@pytest.mark.parametrize("which", ["unknown", "cancelled", "filled"])
def test_only_an_open_order_is_amended(account: Account, which: str) -> None:
    """Unknown and closed orders are 110001."""
    order_id = "00000000-0000-0000-0000-000000000000"
    if which == "cancelled":
        order_id = account.limit("Buy", "0.01", "45000")
        account.cancel(order_id)
        account.reaches(order_id, "Cancelled")
    elif which == "filled":
        order_id = account.trade("Buy", "0.01")["orderId"]
    asked = {"category": "linear", "symbol": "BTCUSDT", "orderId": order_id, "qty": "0.02"}
    assert code_of(account.http.amend_order, **asked) in ({110001, 110008} if which == "filled" else {110001})


def test_a_bad_amendment_leaves_the_order_as_it_was(account: Account) -> None:
    """A quantity off the step is refused and the order rests on."""
    order_id = account.limit("Buy", "0.01", "45000")
    asked = {"category": "linear", "symbol": "BTCUSDT", "orderId": order_id, "qty": "0.0155"}
    assert code_of(account.http.amend_order, **asked) == 10001
    row = account.reaches(order_id, "New")
    assert number(row["qty"]) == Decimal("0.01")


def test_a_batch_answers_item_by_item(account: Account) -> None:
    """One bad item does not spoil the batch: its code stands beside it, the good order rests."""
    items = [BUY | {"symbol": "BTCUSDT"}, BUY | {"symbol": "BTCUSDT", "qty": "0.0015"}]
    answer = account.http.place_batch_order(category="linear", request=items)
    assert [item["code"] for item in answer["retExtInfo"]["list"]] == [0, 10001]
    assert answer["result"]["list"][0]["orderId"] == account.orders()[0]["orderId"]
    assert len(account.orders()) == 1


# ---- cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["orderId", "orderLinkId"])
def test_a_cancelled_order_says_who_cancelled_it(account: Account, by: str) -> None:
    """Cancelled by either id, nothing filled, nothing left, cancelType CancelByUser."""
    name = link()
    order_id = account.limit("Buy", "0.01", "45000", orderLinkId=name)
    account.exchange.pace("cancel")
    ids = {"orderId": order_id, "orderLinkId": name}
    answer = account.http.cancel_order(category="linear", symbol="BTCUSDT", **{by: ids[by]})
    assert answer["result"]["orderId"] == order_id
    row = account.reaches(order_id, "Cancelled")
    assert row["cancelType"] == "CancelByUser"
    assert number(row["leavesQty"]) == number(row["cumExecQty"]) == 0
    assert account.orders() == []


def test_an_unknown_order_cannot_be_cancelled(account: Account) -> None:
    """Cancelling what never was is 110001."""
    assert code_of(account.cancel, "00000000-0000-0000-0000-000000000000") == 110001


def test_an_order_is_cancelled_once(account: Account) -> None:
    """The second cancel is too late: 110001."""
    order_id = account.limit("Buy", "0.01", "45000")
    account.cancel(order_id)
    account.reaches(order_id, "Cancelled")
    assert code_of(account.cancel, order_id) == 110001


def test_a_filled_order_cannot_be_cancelled(account: Account) -> None:
    """A filled order is beyond cancelling: 110001, or 110008 for completed."""
    order_id = account.trade("Buy", "0.01")["orderId"]
    assert code_of(account.cancel, order_id) in {110001, 110008}


@pytest.mark.parametrize("scope", [{"symbol": "BTCUSDT"}, {"settleCoin": "USDT"}, {"baseCoin": "BTC"}], ids=str)
def test_cancel_all_names_what_it_cancelled(account: Account, scope: dict[str, str]) -> None:
    """By symbol, base coin or settle coin: every open order goes, and the answer lists them with success 1."""
    made = {account.limit("Buy", "0.01", f"{price}") for price in (45_000, 45_100)}
    account.exchange.pace("cancel-all")
    result = account.http.cancel_all_orders(category="linear", **scope)["result"]
    assert {row["orderId"] for row in result["list"]} == made
    assert result["success"] == "1"
    for order_id in made:
        account.reaches(order_id, "Cancelled")
    assert account.orders() == []


def test_cancelling_nothing_is_a_success(account: Account) -> None:
    """Without open orders cancel-all answers with an empty list."""
    result = account.cancel_all()
    assert (result["list"], result["success"]) == ([], "1")


def test_cancel_all_needs_a_scope(account: Account) -> None:
    """Linear contracts demand a symbol, a base coin or a settle coin; without one nothing is cancelled."""
    order_id = account.limit("Buy", "0.01", "45000")
    account.exchange.pace("cancel-all")
    assert code_of(account.http.cancel_all_orders, category="linear") == 10001
    assert account.reaches(order_id, "New")


def test_cancel_all_may_spare_the_stops(account: Account) -> None:
    """orderFilter Order cancels what rests in the book and leaves conditional orders alone."""
    resting = account.limit("Buy", "0.01", "45000")
    stop = account.create(**STOP, triggerPrice="52000", triggerDirection=1)["orderId"]
    account.exchange.pace("cancel-all")
    account.http.cancel_all_orders(category="linear", symbol="BTCUSDT", orderFilter="Order")
    account.reaches(resting, "Cancelled")
    assert [row["orderId"] for row in account.orders()] == [stop]


# ---- queries -------------------------------------------------------------------------------------


def test_open_orders_come_newest_first(account: Account) -> None:
    """The list is sorted by creation, the newest at the head, whatever the prices are."""
    made = [account.limit("Buy", "0.01", price) for price in ("45000", "46000", "44000")]
    assert [row["orderId"] for row in account.orders()] == made[::-1]


def test_open_orders_are_paged_by_cursor(account: Account) -> None:
    """Pages of two show every open order once, in order, and the last cursor is empty."""
    made = [account.limit("Buy", "0.001", f"{45_000 + i}") for i in range(5)]
    asked = {"category": "linear", "symbol": "BTCUSDT", "limit": 2}
    first = account.http.get_open_orders(**asked)["result"]
    assert len(first["list"]) == 2
    assert first["nextPageCursor"] != ""
    assert [row["orderId"] for row in pages(account.http.get_open_orders, **asked)] == made[::-1]


def test_open_orders_need_a_scope(account: Account) -> None:
    """A question without symbol, coin or id is a parameter error."""
    assert code_of(account.http.get_open_orders, category="linear") == 10001


def test_order_filters_tell_stops_from_the_rest(account: Account) -> None:
    """orderFilter StopOrder lists conditional orders, Order lists the others."""
    resting = account.limit("Buy", "0.01", "45000")
    stop = account.create(**STOP, triggerPrice="52000", triggerDirection=1)["orderId"]
    assert [row["orderId"] for row in account.orders(orderFilter="StopOrder")] == [stop]
    assert [row["orderId"] for row in account.orders(orderFilter="Order")] == [resting]


def test_recently_closed_orders_are_still_shown(account: Account) -> None:
    """openOnly=1 lists the closed ones, and asking by id finds an order open or closed."""
    name = link()
    order_id = account.limit("Buy", "0.01", "45000", orderLinkId=name)
    account.cancel(order_id)
    account.reaches(order_id, "Cancelled")
    assert order_id in [row["orderId"] for row in account.orders(openOnly=1)]
    assert order_id not in [row["orderId"] for row in account.orders(openOnly=0)]
    assert [row["orderId"] for row in account.orders(orderLinkId=name)] == [order_id]


def test_order_history_keeps_closed_orders(account: Account) -> None:
    """history finds closed orders by id and by link id and filters by status."""
    name = link()
    filled = account.trade("Buy", "0.01", orderLinkId=name)["orderId"]
    cancelled = account.limit("Buy", "0.01", "45000")
    account.cancel(cancelled)
    account.reaches(cancelled, "Cancelled")

    def history(**filters: Any) -> list[str]:
        asked = {"category": "linear", "symbol": "BTCUSDT", "limit": 50} | filters
        return [row["orderId"] for row in account.http.get_order_history(**asked)["result"]["list"]]

    until(lambda: history(orderId=cancelled) == [cancelled], "the cancelled order in the history")
    assert history(orderLinkId=name) == [filled]
    assert history()[:2] == [cancelled, filled]
    assert filled in history(orderStatus="Filled")
    assert cancelled not in history(orderStatus="Filled")


def test_order_history_is_paged_by_cursor(account: Account) -> None:
    """Pages of two together are the list, without repetition."""
    for price in ("45000", "45001", "45002"):
        account.limit("Buy", "0.001", price)
    account.flatten()
    asked = {"category": "linear", "symbol": "BTCUSDT"}
    whole = [row["orderId"] for row in pages(account.http.get_order_history, **asked, limit=50)]
    paged = [row["orderId"] for row in pages(account.http.get_order_history, **asked, limit=2)]
    assert len(whole) >= 3
    assert len(set(whole)) == len(whole)
    assert paged == whole


# ---- post-only, IOC, FOK -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "price"),
    [("Buy", "50000.1"), ("Buy", "50500"), ("Sell", "49999.9"), ("Sell", "49500")],
)
def test_a_crossing_post_only_order_is_accepted_and_then_cancelled(account: Account, side: str, price: str) -> None:
    """retCode 0, then Cancelled with EC_PostOnlyWillTakeLiquidity, nothing filled, nothing left."""
    row = account.reaches(account.limit(side, "0.01", price, timeInForce="PostOnly"), *(OPEN_STATES | {"Cancelled"}))
    row = account.reaches(row["orderId"], "Cancelled")
    assert row["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    assert row["cancelType"] == "UNKNOWN"
    assert number(row["leavesQty"]) == number(row["cumExecQty"]) == 0
    assert account.size() == 0


@pytest.mark.parametrize(
    ("side", "price"),
    [("Buy", "50000"), ("Buy", "49999.9"), ("Sell", "50000"), ("Sell", "50000.1")],
)
def test_a_post_only_order_within_the_spread_rests(account: Account, side: str, price: str) -> None:
    """One tick around the last price is not crossed by the last price itself."""
    order_id = account.limit(side, "0.01", price, timeInForce="PostOnly")
    assert account.reaches(order_id, "New", "Cancelled")["orderStatus"] == "New"
    assert account.orders()[0]["timeInForce"] == "PostOnly"


@pytest.mark.parametrize("force", ["IOC", "FOK"])
def test_an_immediate_order_with_nothing_to_hit_is_cancelled(account: Account, force: str) -> None:
    """retCode 0, then Cancelled without a fill; for IOC the reason is EC_NoImmediateQtyToFill."""
    row = account.reaches(account.limit("Buy", "0.01", "49000", timeInForce=force), "Cancelled")
    assert number(row["cumExecQty"]) == number(row["leavesQty"]) == 0
    reasons = {"EC_NoImmediateQtyToFill"} if force == "IOC" else {"EC_CancelForNoFullFill", "EC_NoEnoughQtyToFill"}
    assert row["rejectReason"] in reasons | ({"EC_NoImmediateQtyToFill"} if force == "FOK" else set())


@pytest.mark.parametrize("force", ["GTC", "IOC", "FOK"])
def test_a_marketable_limit_fills_at_once_as_taker(account: Account, force: str) -> None:
    """A limit above the market takes at no worse than its limit."""
    order_id = account.limit("Buy", "0.01", "50500", timeInForce=force)
    row = account.reaches(order_id, "Filled")
    assert 49_999 < number(row["avgPrice"]) <= 50_500
    assert [fill["isMaker"] for fill in account.executions(orderId=order_id)] == [False]


# ---- market orders -------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "price"), [("Buy", "50010"), ("Sell", "49990")])
def test_a_market_order_fills_at_the_tick_with_slippage(account: Account, side: str, price: str) -> None:
    """A buy pays 50,000 × 1.0002, a sell gets 50,000 × 0.9998, at once and whole, as taker."""
    row = account.trade(side, "0.02")
    assert number(row["avgPrice"]) == number(price)
    assert number(row["cumExecQty"]) == number(row["qty"]) == Decimal("0.02")
    assert number(row["cumExecValue"]) == Decimal("0.02") * number(price)
    assert (row["orderType"], row["timeInForce"], row["rejectReason"]) == ("Market", "IOC", "EC_NoError")
    assert number(row["leavesQty"]) == 0
    assert number(row["price"]) > 0
    fee = Decimal("0.02") * number(price) * Decimal("0.00055")
    assert abs(number(row["cumFeeDetail"]["USDT"]) - fee) < Decimal("1e-8")


def test_a_reduce_only_order_is_cut_to_the_position(account: Account) -> None:
    """A reduce-only sell of 0.05 against a long of 0.02 fills 0.02 and leaves the account flat, never short."""
    account.trade("Buy", "0.02")
    order_id = account.create(side="Sell", orderType="Market", qty="0.05", reduceOnly=True)["orderId"]
    row = account.reaches(order_id, "Filled", "Cancelled")
    assert number(row["cumExecQty"]) == Decimal("0.02")
    assert account.size() == 0


def test_a_reduce_only_order_on_the_side_of_the_position_is_110017(account: Account) -> None:
    """It could only enlarge the position."""
    account.trade("Buy", "0.02")
    assert code_of(account.create, **MARKET, reduceOnly=True) == 110017
    assert account.size() == Decimal("0.02")


def test_quantity_zero_closes_the_whole_position(account: Account) -> None:
    """qty 0 with reduceOnly and closeOnTrigger closes whatever there is."""
    account.trade("Buy", "0.03")
    account.create(side="Sell", orderType="Market", qty="0", reduceOnly=True, closeOnTrigger=True)
    until(lambda: account.size() == 0, "the position to be closed")


def test_resting_reduce_only_orders_go_with_the_position(account: Account) -> None:
    """When the position closes, a reduce-only order that rests is cancelled with CancelByReduceOnly."""
    account.trade("Buy", "0.02")
    target = account.limit("Sell", "0.02", "52000", reduceOnly=True, timeInForce="PostOnly")
    account.reaches(target, "New")
    account.trade("Sell", "0.02", reduceOnly=True)
    assert account.reaches(target, "Cancelled")["cancelType"] == "CancelByReduceOnly"


# ---- conditional orders --------------------------------------------------------------------------


def test_a_conditional_order_waits_untriggered(account: Account) -> None:
    """It is Untriggered, a stop of the user's making, with its trigger, and it reserves no margin."""
    free = number(account.wallet()["totalAvailableBalance"])
    order_id = account.create(**STOP, triggerPrice="52000", triggerDirection=1)["orderId"]
    row = account.reaches(order_id, "Untriggered")
    assert (row["stopOrderType"], row["createType"], row["triggerDirection"]) == ("Stop", "CreateByUser", 1)
    assert (number(row["triggerPrice"]), row["triggerBy"]) == (Decimal(52_000), "LastPrice")
    assert number(account.wallet()["totalAvailableBalance"]) == free


def test_a_conditional_order_is_amended(account: Account) -> None:
    """Its trigger can be moved."""
    order_id = account.create(**STOP, triggerPrice="52000", triggerDirection=1)["orderId"]
    account.http.amend_order(category="linear", symbol="BTCUSDT", orderId=order_id, triggerPrice="53000")
    until(lambda: number((account.order(order_id) or {"triggerPrice": "0"})["triggerPrice"]) == 53_000, "the trigger")


def test_a_conditional_order_is_cancelled_before_its_trigger(account: Account) -> None:
    """Cancelled or Deactivated, as the real exchange has both."""
    order_id = account.create(**STOP, triggerPrice="52000", triggerDirection=1)["orderId"]
    account.cancel(order_id)
    account.reaches(order_id, "Cancelled", "Deactivated")
    assert account.orders() == []


def test_ten_conditional_orders_are_the_limit(account: Account) -> None:
    """The eleventh untriggered order of a symbol is refused with 110009."""
    for i in range(10):
        account.create(**(STOP | {"qty": "0.001"}), triggerPrice=f"{52_000 + i}", triggerDirection=1)
    assert code_of(account.create, **STOP, triggerPrice="53000", triggerDirection=1) == 110009
    assert len(account.orders()) == 10
