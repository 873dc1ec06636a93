"""The account and its arithmetic: wallet, fees, profits, the transaction log, paging (facts 4.3, 4.4, 7.1, 7.3)."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.wire.harness import Account, Json, code_of, names, number, pages, strings_in, until
from tests.wire.markets import DAY, STILL

CENT = Decimal("1e-8")
TAKER = Decimal("0.00055")
MAKER = Decimal("0.0002")
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")

WALLET = names("""
    accountType accountIMRate accountMMRate totalEquity totalWalletBalance totalMarginBalance totalAvailableBalance
    totalPerpUPL totalInitialMargin totalMaintenanceMargin
""")
COIN = names("""
    coin equity usdValue walletBalance locked borrowAmount accruedInterest totalOrderIM totalPositionIM totalPositionMM
    unrealisedPnl cumRealisedPnl bonus availableToWithdraw
""")
EXECUTION = names("""
    symbol orderId orderLinkId side orderPrice orderQty leavesQty createType orderType stopOrderType execFee execId
    execPrice execQty execType execValue execTime feeRate markPrice indexPrice tradeIv markIv underlyingPrice
    blockTradeId closedSize
""")
CLOSED = names("""
    symbol orderId side qty orderPrice orderType execType closedSize cumEntryValue avgEntryPrice cumExitValue
    avgExitPrice closedPnl fillCount leverage openFee closeFee createdTime updatedTime
""")
LOGGED = names("""
    id symbol category side transactionTime type qty size currency tradePrice funding fee cashFlow change cashBalance
    feeRate tradeId orderId orderLinkId
""")


def close_to(left: Decimal, right: Decimal) -> bool:
    """Equal to 1e-8."""
    return abs(left - right) <= CENT


# ---- the wallet ----------------------------------------------------------------------------------


def test_the_wallet_has_every_field_as_text(account: Account) -> None:
    """Totals of the account and of USDT are strings; the deprecated 'available to withdraw' is there and empty."""
    wallet, coin = account.wallet(), account.coin()
    assert {name: wallet.get(name) for name in WALLET if type(wallet.get(name)) is not str} == {}
    assert {name: coin.get(name) for name in COIN if type(coin.get(name)) is not str} == {}
    assert (wallet["accountType"], coin["coin"]) == ("UNIFIED", "USDT")
    assert {type(coin[name]) for name in ("marginCollateral", "collateralSwitch")} == {bool}


def test_a_flat_wallet_is_all_available(account: Account) -> None:
    """Without position and orders equity, wallet, margin balance and what is available are one number."""
    wallet, coin = account.wallet(), account.coin()
    balance = number(coin["walletBalance"])
    assert balance > 0
    assert number(coin["equity"]) == number(wallet["totalEquity"]) == number(wallet["totalAvailableBalance"]) == balance
    assert number(wallet["totalWalletBalance"]) == number(wallet["totalMarginBalance"]) == balance
    for name in ("totalOrderIM", "totalPositionIM", "totalPositionMM", "unrealisedPnl", "locked"):
        assert number(coin[name]) == 0


def test_a_resting_order_reserves_margin_and_gives_it_back(account: Account) -> None:
    """The wallet balance stays, what is available falls by the order's margin, and a cancel returns it."""
    before = account.wallet()
    leverage = number(account.position()["leverage"])
    order_id = account.limit("Buy", "0.1", "45000")
    coin, wallet = account.coin(), account.wallet()
    margin = Decimal(4500) / leverage
    assert number(coin["walletBalance"]) == number(before["totalWalletBalance"])
    assert margin <= number(coin["totalOrderIM"]) <= margin + Decimal(4500) * Decimal("0.0012")
    reserved = number(before["totalAvailableBalance"]) - number(wallet["totalAvailableBalance"])
    assert close_to(reserved, number(coin["totalOrderIM"]))
    account.cancel(order_id)
    account.reaches(order_id, "Cancelled")
    assert number(account.wallet()["totalAvailableBalance"]) == number(before["totalAvailableBalance"])


def test_an_open_position_moves_the_equity_not_the_wallet(account: Account) -> None:
    """Equity is wallet plus unrealised profit, which is the one of the position."""
    account.trade("Buy", "0.1")
    coin, wallet, position = account.coin(), account.wallet(), account.position()
    assert number(coin["unrealisedPnl"]) == number(position["unrealisedPnl"]) == -1
    assert number(coin["equity"]) == number(coin["walletBalance"]) - 1
    assert number(wallet["totalPerpUPL"]) == -1
    assert number(wallet["totalMarginBalance"]) == number(wallet["totalWalletBalance"]) - 1
    assert number(coin["totalPositionIM"]) == number(position["positionIM"])


def test_another_account_type_is_refused(account: Account) -> None:
    """There is one kind of account, the unified one."""
    assert code_of(account.http.get_wallet_balance, accountType="NONSENSE") == 10001


# ---- who one is ----------------------------------------------------------------------------------


def test_the_fee_rates_are_the_account_s(account: Account) -> None:
    """0.0002 for makers, 0.00055 for takers."""
    rows = account.http.get_fee_rates(category="linear", symbol="BTCUSDT")["result"]["list"]
    assert [(row["symbol"], number(row["makerFeeRate"]), number(row["takerFeeRate"])) for row in rows] == [
        ("BTCUSDT", MAKER, TAKER)
    ]


def test_the_account_is_a_unified_one(account: Account) -> None:
    """account/info and user/query-api agree that it is a unified trading account."""
    info = account.http.get_account_info()["result"]
    user = account.http.get_api_key_information()["result"]
    assert info["unifiedMarginStatus"] in {5, 6}
    assert info["marginMode"] in {"REGULAR_MARGIN", "ISOLATED_MARGIN"}
    assert (user["uta"], user["readOnly"], user["apiKey"], user["secret"]) == (1, 0, "paper", "")
    assert "ContractTrade" in user["permissions"]


def test_the_key_cannot_withdraw(account: Account) -> None:
    """The paper key has no permission to move money out."""
    permissions = account.http.get_api_key_information()["result"]["permissions"]
    assert "Withdraw" not in permissions.get("Wallet", [])


def test_the_margin_mode_may_be_confirmed(account: Account) -> None:
    """Setting the mode that is set is a success or 'not modified', and changes nothing."""
    mode = account.http.get_account_info()["result"]["marginMode"]
    assert code_of(account.http.set_margin_mode, setMarginMode=mode) in {0, 110026}
    assert account.http.get_account_info()["result"]["marginMode"] == mode


def test_a_margin_mode_that_does_not_exist_is_refused(account: Account) -> None:
    """Neither a success nor a change."""
    assert code_of(account.http.set_margin_mode, setMarginMode="NONSENSE") in {10001, 3400045}


def test_the_coins_are_listed_for_ccxt(account: Account) -> None:
    """query-info has USDT with its list of chains."""
    rows = account.http.get_coin_info()["result"]["rows"]
    usdt = next(row for row in rows if row["coin"] == "USDT")
    assert isinstance(usdt["chains"], list)


# ---- a round trip --------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "other"), [("Buy", "Sell"), ("Sell", "Buy")])
def test_a_round_trip_costs_slippage_and_fees_to_the_last_digit(account: Account, side: str, other: str) -> None:
    """In at 50,010 and out at 49,990, or mirrored: ten a coin lost twice over, and a taker fee on either leg."""
    before = account.balance()
    entry = account.trade(side, "0.1")
    exit_ = account.trade(other, "0.1", reduceOnly=True)
    first, second = number(entry["cumExecValue"]), number(exit_["cumExecValue"])
    assert {first, second} == {Decimal(5001), Decimal(4999)}
    assert close_to(account.balance() - before, -2 - TAKER * (first + second))


def test_the_fee_of_a_fill_is_value_times_rate(account: Account) -> None:
    """execValue is price by quantity, execFee value by rate, and a market order is a taker."""
    order_id = account.trade("Buy", "0.03")["orderId"]
    fill = account.executions(orderId=order_id)[0]
    value = number(fill["execPrice"]) * number(fill["execQty"])
    assert number(fill["execValue"]) == value == Decimal("0.03") * 50_010
    assert (number(fill["feeRate"]), fill["isMaker"]) == (TAKER, False)
    assert close_to(number(fill["execFee"]), value * TAKER)


def test_an_execution_has_every_field_in_its_type(account: Account) -> None:
    """Numbers and times are strings, isMaker is a boolean, seq an integer."""
    order_id = account.trade("Buy", "0.01")["orderId"]
    fill = account.executions(orderId=order_id)[0]
    assert {name: fill.get(name) for name in EXECUTION if type(fill.get(name)) is not str} == {}
    assert (type(fill["isMaker"]), type(fill["seq"])) == (bool, int)
    assert (fill["execType"], fill["orderType"], fill["createType"]) == ("Trade", "Market", "CreateByUser")
    assert number(fill["closedSize"]) == number(fill["leavesQty"]) == 0
    assert STILL.begin <= int(fill["execTime"]) < STILL.begin + STILL.bar


def test_closed_profit_is_exit_less_entry_less_both_fees(account: Account) -> None:
    """The closed-pnl row of a long: its side is the closing order's, its profit is net of the fees of both legs."""
    account.trade("Buy", "0.1")
    closing = account.trade("Sell", "0.1", reduceOnly=True)["orderId"]
    row = until(lambda: next((row for row in account.closed() if row["orderId"] == closing), None), "the profit")
    assert {name: row.get(name) for name in CLOSED if type(row.get(name)) is not str} == {}
    assert (row["side"], row["execType"], row["orderType"]) == ("Sell", "Trade", "Market")
    assert number(row["qty"]) == number(row["closedSize"]) == Decimal("0.1")
    assert (number(row["cumEntryValue"]), number(row["cumExitValue"])) == (Decimal(5001), Decimal(4999))
    assert (number(row["avgEntryPrice"]), number(row["avgExitPrice"])) == (Decimal(50_010), Decimal(49_990))
    assert close_to(number(row["openFee"]), 5001 * TAKER)
    assert close_to(number(row["closeFee"]), 4999 * TAKER)
    assert close_to(number(row["closedPnl"]), -2 - 10_000 * TAKER)


def test_closed_profit_of_a_short_has_its_sign_reversed(account: Account) -> None:
    """Sold at 49,990 and bought back at 50,010: entry less exit less both fees."""
    account.trade("Sell", "0.1")
    closing = account.trade("Buy", "0.1", reduceOnly=True)["orderId"]
    row = until(lambda: next((row for row in account.closed() if row["orderId"] == closing), None), "the profit")
    assert row["side"] == "Buy"
    assert (number(row["cumEntryValue"]), number(row["cumExitValue"])) == (Decimal(4999), Decimal(5001))
    assert close_to(number(row["closedPnl"]), -2 - 10_000 * TAKER)


def test_closing_in_parts_shares_the_entry(account: Account) -> None:
    """Two partial closes carry their part of the entry value and of the opening fee each."""
    account.trade("Buy", "0.04")
    ids = [account.trade("Sell", qty, reduceOnly=True)["orderId"] for qty in ("0.01", "0.03")]
    rows = {row["orderId"]: row for row in account.closed()}
    for order_id, qty in zip(ids, (Decimal("0.01"), Decimal("0.03")), strict=True):
        row = rows[order_id]
        entry, exit_ = qty * 50_010, qty * 49_990
        assert (number(row["closedSize"]), number(row["cumEntryValue"])) == (qty, entry)
        assert close_to(number(row["openFee"]), entry * TAKER)
        assert close_to(number(row["closedPnl"]), exit_ - entry - (entry + exit_) * TAKER)


def test_turning_a_position_closes_only_what_was_open(account: Account) -> None:
    """Selling 0.03 against a long of 0.01 closes 0.01 and opens a short of 0.02."""
    account.trade("Buy", "0.01")
    turning = account.trade("Sell", "0.03")["orderId"]
    fills = account.executions(orderId=turning)
    assert sum(number(fill["closedSize"]) for fill in fills) == Decimal("0.01")
    assert sum(number(fill["execQty"]) for fill in fills) == Decimal("0.03")
    row = next(row for row in account.closed() if row["orderId"] == turning)
    assert number(row["closedSize"]) == Decimal("0.01")
    assert close_to(number(row["cumEntryValue"]), Decimal("500.1"))


# ---- the transaction log -------------------------------------------------------------------------


def test_every_change_of_the_wallet_is_in_the_log(account: Account) -> None:
    """change = cashFlow + funding − fee on every row, the balances form a chain, and the last one is the wallet."""
    account.trade("Buy", "0.02")
    account.trade("Sell", "0.05")
    account.trade("Buy", "0.03")
    rows = account.ledger()[::-1]
    balance = number(rows[0]["cashBalance"]) - number(rows[0]["change"])
    assert balance in {0, 10_000}
    for row in rows:
        assert close_to(number(row["change"]), number(row["cashFlow"]) + number(row["funding"]) - number(row["fee"]))
        assert close_to(number(row["cashBalance"]), balance + number(row["change"]))
        balance = number(row["cashBalance"])
    assert balance == account.balance()


def test_a_trade_in_the_log_is_the_trade(account: Account) -> None:
    """A row has every field as text, names order and trade, and shows the signed position after it."""
    order_id = account.trade("Sell", "0.02")["orderId"]
    row = next(row for row in account.ledger() if row["orderId"] == order_id)
    fill = account.executions(orderId=order_id)[0]
    assert {name: row.get(name) for name in LOGGED if type(row.get(name)) is not str} == {}
    assert (row["type"], row["side"], row["symbol"], row["currency"]) == ("TRADE", "Sell", "BTCUSDT", "USDT")
    assert (number(row["qty"]), number(row["size"])) == (Decimal("0.02"), Decimal("-0.02"))
    assert (number(row["tradePrice"]), number(row["cashFlow"])) == (Decimal(49_990), Decimal(0))
    assert number(row["fee"]) == number(fill["execFee"])
    assert row["tradeId"] == fill["execId"]
    assert row["transactionTime"] == fill["execTime"]


def test_the_log_is_filtered_by_type(account: Account) -> None:
    """type=TRADE has trades alone, and nothing was ever settled here."""
    account.trade("Buy", "0.01")
    assert {row["type"] for row in account.ledger(type="TRADE")} == {"TRADE"}
    assert account.ledger(type="SETTLEMENT") == []


# ---- paging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["executions", "closed", "log"])
def test_lists_are_paged_by_cursor(account: Account, what: str) -> None:
    """Pages of two, followed to the empty cursor, are the whole list, newest first, nothing twice."""
    for side in ("Buy", "Sell", "Sell", "Buy", "Buy", "Sell"):
        account.trade(side, "0.001")
    http = account.http
    linear = {"category": "linear"}
    calls: dict[str, tuple[Callable[..., Json], Json, str, str]] = {
        "executions": (http.get_executions, linear | {"symbol": "BTCUSDT"}, "execId", "execTime"),
        "closed": (http.get_closed_pnl, linear | {"symbol": "BTCUSDT"}, "orderId", "updatedTime"),
        "log": (http.get_transaction_log, linear | {"accountType": "UNIFIED"}, "tradeId", "transactionTime"),
    }
    call, asked, id_, time = calls[what]
    whole = list(pages(call, **asked, limit=50))
    first = call(**asked, limit=2)["result"]
    paged = list(pages(call, **asked, limit=2))
    assert (len(first["list"]), first["nextPageCursor"] != "") == (2, True)
    assert [row[id_] for row in paged] == [row[id_] for row in whole]
    assert len({row[id_] for row in paged}) == len(paged) >= 3
    stamps = [int(row[time]) for row in paged]
    assert stamps == sorted(stamps, reverse=True)


def test_executions_are_found_by_link_id_and_by_time(account: Account) -> None:
    """The ids override every other filter; a window in the past is empty."""
    name = f"exec-{len(account.executions())}-{account.open_candle()}"
    order_id = account.trade("Buy", "0.01", orderLinkId=name)["orderId"]
    assert [fill["orderId"] for fill in account.executions(orderLinkId=name)] == [order_id]
    stamp = int(account.executions(orderId=order_id)[0]["execTime"])
    inside = account.executions(startTime=stamp, endTime=stamp)
    assert order_id in [fill["orderId"] for fill in inside]
    assert account.executions(startTime=STILL.begin - 2 * STILL.bar, endTime=STILL.begin - STILL.bar) == []


@pytest.mark.parametrize("what", ["get_executions", "get_closed_pnl", "get_order_history", "get_transaction_log"])
def test_a_window_of_more_than_seven_days_is_refused(account: Account, what: str) -> None:
    """Both bounds may lie seven days apart, not eight."""
    asked = {"accountType": "UNIFIED"} if what == "get_transaction_log" else {"symbol": "BTCUSDT"}
    window = {"category": "linear", "endTime": STILL.begin}
    call = getattr(account.http, what)
    assert code_of(call, **asked, **window, startTime=STILL.begin - 7 * DAY) == 0
    assert code_of(call, **asked, **window, startTime=STILL.begin - 8 * DAY) == 10001


# ---- how numbers are written ---------------------------------------------------------------------


QUESTIONS: dict[str, Callable[[Any], Json]] = {
    "kline": lambda http: http.get_kline(category="linear", symbol="BTCUSDT", interval=15, limit=1000),
    "instruments": lambda http: http.get_instruments_info(category="linear"),
    "tickers": lambda http: http.get_tickers(category="linear", symbol="BTCUSDT"),
    "orderbook": lambda http: http.get_orderbook(category="linear", symbol="BTCUSDT", limit=50),
    "funding": lambda http: http.get_funding_rate_history(category="linear", symbol="BTCUSDT"),
    "risk": lambda http: http.get_risk_limit(category="linear", symbol="BTCUSDT"),
    "trades": lambda http: http.get_public_trade_history(category="linear", symbol="BTCUSDT"),
    "open orders": lambda http: http.get_open_orders(category="linear", symbol="BTCUSDT", openOnly=1),
    "history": lambda http: http.get_order_history(category="linear", symbol="BTCUSDT"),
    "executions": lambda http: http.get_executions(category="linear", symbol="BTCUSDT"),
    "position": lambda http: http.get_positions(category="linear", symbol="BTCUSDT"),
    "closed": lambda http: http.get_closed_pnl(category="linear", symbol="BTCUSDT"),
    "wallet": lambda http: http.get_wallet_balance(accountType="UNIFIED"),
    "fees": lambda http: http.get_fee_rates(category="linear", symbol="BTCUSDT"),
    "log": lambda http: http.get_transaction_log(accountType="UNIFIED", category="linear"),
}


@pytest.fixture(scope="module")
def answers(still_account: Account) -> dict[str, Json]:
    """Every question asked of an account that has traded, holds a position and has an order resting."""
    account = still_account
    account.flatten()
    account.trade("Buy", "0.002")
    account.trade("Sell", "0.001")
    account.limit("Buy", "0.001", "45000.1")
    return {name: ask(account.http) for name, ask in QUESTIONS.items()}


@pytest.mark.parametrize("question", QUESTIONS)
def test_numbers_are_never_written_with_an_exponent(answers: dict[str, Json], question: str) -> None:
    """However small a volume or a fee is, it is written out, and nothing is NaN or infinite."""
    texts = list(strings_in(answers[question]["result"]))
    assert len(texts) > 2
    assert [(path, text) for path, text in texts if EXPONENT.fullmatch(text)] == []
    assert [(path, text) for path, text in texts if text.lower() in {"nan", "inf", "infinity"}] == []
