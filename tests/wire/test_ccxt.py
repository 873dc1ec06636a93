"""The same exchange through ccxt's REST client: every call of facts 9.2, where the market stands at 50,000."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import ccxt  # type: ignore[import-untyped]
import pytest

from tests.wire.harness import KEY, SECRET, UNIFIED, Account, PaperExchange, ccxt_rest, number, request, until, wall_ms
from tests.wire.markets import HOUR, STILL

NOW = STILL.history
TIMEFRAME = "15m"


@pytest.fixture
def bybit(still_ccxt: Any, account: Account) -> Any:
    """ccxt over an account that is flat."""
    assert account.size() == 0
    return still_ccxt


def placed(account: Account, client: Any, *order: Any, **params: Any) -> str:
    """Create an order by ccxt; returns its id."""
    account.exchange.pace("create")
    order_id: str = client.create_order(UNIFIED, *order, params=params)["id"]
    return order_id


# ---- markets and prices --------------------------------------------------------------------------


def test_markets_load_with_keys(still: PaperExchange) -> None:
    """With keys ccxt asks for the coins and for listed and pre-launch instruments, and finds one linear swap."""
    with ccxt_rest(still) as client:
        markets = client.load_markets()
    market = markets[UNIFIED]
    assert (market["id"], market["type"], market["linear"], market["active"]) == ("BTCUSDT", "swap", True, True)
    assert (market["base"], market["quote"], market["settle"]) == ("BTC", "USDT", "USDT")
    assert (market["precision"]["price"], market["precision"]["amount"]) == (0.1, 0.001)
    assert (market["limits"]["amount"]["min"], market["limits"]["cost"]["min"]) == (0.001, 5)
    assert market["limits"]["leverage"]["max"] == 100
    assert "USDT" in client.currencies


def test_all_kinds_of_markets_load(still: PaperExchange) -> None:
    """With ccxt's own settings it asks for spot, inverse and options as well, and is content with empty lists."""
    with ccxt_rest(still, options={}) as client:
        assert UNIFIED in client.load_markets()


def test_markets_load_without_keys(still: PaperExchange) -> None:
    """Nothing public needs a key."""
    with ccxt_rest(still, apiKey="", secret="") as client:
        assert UNIFIED in client.load_markets()
        assert client.fetch_ticker(UNIFIED)["last"] == 50_000


def test_time(still_ccxt: Any) -> None:
    """fetch_time is the wall clock."""
    assert abs(still_ccxt.fetch_time() - wall_ms()) < 5000


def test_the_clock_difference_is_small(still: PaperExchange) -> None:
    """adjustForTimeDifference finds next to none."""
    with ccxt_rest(still) as client:
        assert abs(client.load_time_difference()) < 5000


def test_candles_from_a_start(still_ccxt: Any) -> None:
    """fetch_ohlcv with `since` goes forward, oldest first, with the numbers of the file."""
    rows = still_ccxt.fetch_ohlcv(UNIFIED, TIMEFRAME, since=STILL.rows[100][0], limit=5)
    assert [tuple(row) for row in rows] == list(STILL.rows[100:105])


def test_candles_from_a_start_inside_a_bar(still_ccxt: Any) -> None:
    """ccxt rounds the start up itself; the answer begins with the next bar."""
    rows = still_ccxt.fetch_ohlcv(UNIFIED, TIMEFRAME, since=STILL.rows[100][0] + 1, limit=1)
    assert [row[0] for row in rows] == [STILL.rows[101][0]]


def test_the_latest_candles(still_ccxt: Any) -> None:
    """Without `since` the latest 200 come, the open one last."""
    rows = still_ccxt.fetch_ohlcv(UNIFIED, TIMEFRAME)
    assert [row[0] for row in rows] == [row[0] for row in STILL.rows[NOW - 199 : NOW + 1]]


def test_all_candles_by_paging(still_ccxt: Any) -> None:
    """Following `since` reads more than 1,000 candles without a hole."""
    seen: list[int] = []
    since = STILL.rows[0][0]
    while rows := still_ccxt.fetch_ohlcv(UNIFIED, TIMEFRAME, since=since, limit=1000):
        seen += [row[0] for row in rows]
        since = seen[-1] + STILL.bar
    assert seen == [row[0] for row in STILL.rows[: NOW + 1]]


def test_ticker(still_ccxt: Any) -> None:
    """fetch_ticker and fetch_tickers agree."""
    one, all_ = still_ccxt.fetch_ticker(UNIFIED), still_ccxt.fetch_tickers()
    assert (one["symbol"], one["last"], one["markPrice"]) == (UNIFIED, 50_000, 50_000)
    assert one["bid"] < one["ask"]
    assert all_[UNIFIED]["last"] == 50_000


def test_order_book(still_ccxt: Any) -> None:
    """fetch_order_book has both sides around the last price."""
    book = still_ccxt.fetch_order_book(UNIFIED, 25)
    assert 49_999.9 <= book["bids"][0][0] < book["asks"][0][0] <= 50_000.1


def test_funding_rate_and_its_history(still_ccxt: Any) -> None:
    """The current rate is in the ticker, the past ones are in the history, oldest first."""
    current = still_ccxt.fetch_funding_rate(UNIFIED)
    history = still_ccxt.fetch_funding_rate_history(UNIFIED, limit=5)
    stamps = [row["timestamp"] for row in history]
    assert (current["fundingRate"], current["interval"]) == (0.0001, "8h")
    assert stamps == [stamps[-1] - (4 - i) * 8 * HOUR for i in range(5)]
    assert {row["fundingRate"] for row in history} == {0.0001}


def test_funding_rate_history_since(still_ccxt: Any) -> None:
    """With `since` ccxt sends both bounds, and gets the newest settlements inside them, oldest first."""
    since = STILL.begin // (8 * HOUR) * 8 * HOUR - 48 * HOUR
    rows = still_ccxt.fetch_funding_rate_history(UNIFIED, since=since + 1, limit=3)
    assert [row["timestamp"] for row in rows] == [since + i * 8 * HOUR for i in (1, 2, 3)]


def test_leverage_tiers(still_ccxt: Any) -> None:
    """The first tier allows 100x."""
    tiers = still_ccxt.fetch_market_leverage_tiers(UNIFIED)
    assert (tiers[0]["minNotional"], tiers[0]["maxLeverage"]) == (0, 100)
    assert tiers[0]["maintenanceMarginRate"] > 0


# ---- account -------------------------------------------------------------------------------------


def test_trading_fee(still_ccxt: Any) -> None:
    """fetch_trading_fee reads the account's rates, not those ccxt carries in its source."""
    fee = still_ccxt.fetch_trading_fee(UNIFIED)
    assert (fee["maker"], fee["taker"]) == (0.0002, 0.00055)


def test_the_unified_account_is_recognised(still: PaperExchange) -> None:
    """ccxt finds out by query-api and account/info that this is a unified account."""
    with ccxt_rest(still) as client:
        assert client.is_unified_enabled() == [False, True]


def test_balance(bybit: Any, account: Account) -> None:
    """total is the wallet, used is the margin of an order, free the rest."""
    assert bybit.fetch_balance()["USDT"]["total"] == pytest.approx(float(account.balance()), abs=1e-6)
    assert bybit.fetch_balance()["USDT"]["used"] == 0
    placed(account, bybit, "limit", "buy", 0.1, 45_000)
    balance = bybit.fetch_balance()["USDT"]
    assert 0 < balance["used"] < 4600
    assert balance["free"] == pytest.approx(balance["total"] - balance["used"])


def test_leverage(bybit: Any, account: Account) -> None:
    """set_leverage works once and is a BadRequest when nothing changes, which is how ccxt maps 110043."""
    before = account.position()["leverage"]
    try:
        bybit.set_leverage(13, UNIFIED)
        assert bybit.fetch_leverage(UNIFIED)["longLeverage"] == 13
        with pytest.raises(ccxt.BadRequest):
            bybit.set_leverage(13, UNIFIED)
    finally:
        bybit.set_leverage(before, UNIFIED)


@pytest.mark.parametrize("symbol", [UNIFIED, None], ids=["by symbol", "by coin"])
def test_position_mode(bybit: Any, symbol: str | None) -> None:
    """set_position_mode(False) is NoChange: one-way already."""
    with pytest.raises(ccxt.NoChange):
        bybit.set_position_mode(False, symbol)


# ---- orders --------------------------------------------------------------------------------------


def test_a_limit_order_from_birth_to_cancel(bybit: Any, account: Account) -> None:
    """create, fetch_open_orders, fetch_order, edit, cancel, fetch_canceled_orders tell one story."""
    name = f"ccxt-{wall_ms()}"
    order_id = placed(account, bybit, "limit", "buy", 0.01, 45_000, clientOrderId=name)
    opened = until(lambda: next(iter(bybit.fetch_open_orders(UNIFIED)), None), "the open order")
    assert (opened["id"], opened["clientOrderId"], opened["status"]) == (order_id, name, "open")
    assert (opened["price"], opened["amount"], opened["filled"], opened["side"]) == (45_000, 0.01, 0, "buy")
    bybit.edit_order(order_id, UNIFIED, "limit", "buy", 0.02, 44_000)

    def edited() -> bool:
        row = bybit.fetch_order(order_id, UNIFIED, {"acknowledged": True})
        return (row["price"], row["amount"]) == (44_000, 0.02)

    until(edited, "the edited order")
    account.exchange.pace("cancel")
    assert bybit.cancel_order(order_id, UNIFIED)["id"] == order_id
    until(lambda: order_id in [row["id"] for row in bybit.fetch_canceled_orders(UNIFIED)], "the cancelled order")
    assert bybit.fetch_order(order_id, UNIFIED, {"acknowledged": True})["status"] == "canceled"
    assert bybit.fetch_open_orders(UNIFIED) == []


def test_a_market_order_and_its_trades(bybit: Any, account: Account) -> None:
    """create, fetch_closed_orders, fetch_my_trades and fetch_order_trades agree on price, cost and fee."""
    order_id = placed(account, bybit, "market", "buy", 0.02)
    order = until(
        lambda: next((row for row in bybit.fetch_closed_orders(UNIFIED) if row["id"] == order_id), None), "the order"
    )
    trade = next(row for row in bybit.fetch_my_trades(UNIFIED) if row["order"] == order_id)
    assert (order["status"], order["average"], order["filled"], order["remaining"]) == ("closed", 50_010, 0.02, 0)
    assert (trade["price"], trade["amount"], trade["takerOrMaker"]) == (50_010, 0.02, "taker")
    assert trade["cost"] == pytest.approx(1000.2)
    assert (trade["fee"]["currency"], trade["fee"]["rate"]) == ("USDT", 0.00055)
    assert trade["fee"]["cost"] == pytest.approx(0.55011)
    assert order["fee"]["cost"] == pytest.approx(0.55011)
    assert [row["id"] for row in bybit.fetch_order_trades(order_id, UNIFIED)] == [trade["id"]]


def test_positions(bybit: Any, account: Account) -> None:
    """fetch_positions lists what is open, fetch_position the symbol; inverse contracts are an empty list."""
    assert bybit.fetch_positions() == []
    account.trade("Sell", "0.02")
    rows = bybit.fetch_positions()
    one = bybit.fetch_position(UNIFIED)
    assert [row["symbol"] for row in rows] == [one["symbol"]] == [UNIFIED]
    assert (one["side"], one["contracts"], one["entryPrice"], one["hedged"]) == ("short", 0.02, 49_990, False)
    assert one["unrealizedPnl"] == pytest.approx(-0.2)
    assert one["initialMargin"] > one["maintenanceMargin"] > 0
    assert bybit.fetch_positions(None, {"subType": "inverse"}) == []


def test_an_attached_stop(bybit: Any, account: Account) -> None:
    """params.stopLoss leaves a conditional order and the position's stop."""
    placed(account, bybit, "market", "buy", 0.01, stopLoss={"triggerPrice": 49_000})
    until(lambda: bybit.fetch_position(UNIFIED)["stopLossPrice"] == 49_000, "the stop on the position")
    stops = bybit.fetch_open_orders(UNIFIED, params={"trigger": True})
    assert [(row["stopLossPrice"], row["side"], row["reduceOnly"]) for row in stops] == [(49_000, "sell", True)]


def test_an_attached_target(bybit: Any, account: Account) -> None:
    """params.takeProfit beside params.stopLoss."""
    stops = {"stopLoss": {"triggerPrice": 51_000}, "takeProfit": {"triggerPrice": 49_000}}
    placed(account, bybit, "market", "sell", 0.01, **stops)
    until(lambda: bybit.fetch_position(UNIFIED)["takeProfitPrice"] == 49_000, "the target on the position")
    assert bybit.fetch_position(UNIFIED)["stopLossPrice"] == 51_000


def test_a_stop_loss_order(bybit: Any, account: Account) -> None:
    """params.stopLossPrice is a reduce-only conditional order that falls to its trigger."""
    account.trade("Buy", "0.01")
    order_id = placed(account, bybit, "market", "sell", 0.01, stopLossPrice=49_000)
    row = account.reaches(order_id, "Untriggered")
    assert (number(row["triggerPrice"]), row["triggerDirection"], row["reduceOnly"]) == (Decimal(49_000), 2, True)
    assert bybit.fetch_order(order_id, UNIFIED, {"acknowledged": True, "trigger": True})["status"] == "open"


def test_a_trigger_order(bybit: Any, account: Account) -> None:
    """params.triggerPrice with its direction, market or limit."""
    above = placed(account, bybit, "market", "buy", 0.01, triggerPrice=52_000, triggerDirection="ascending")
    below = placed(account, bybit, "limit", "buy", 0.01, 48_000, triggerPrice=48_500, triggerDirection="descending")
    assert account.reaches(above, "Untriggered")["triggerDirection"] == 1
    row = account.reaches(below, "Untriggered")
    assert (row["triggerDirection"], row["orderType"], number(row["price"])) == (2, "Limit", Decimal(48_000))


def test_a_trailing_stop(bybit: Any, account: Account) -> None:
    """params.trailingAmount goes to trading-stop without a position index or a mode, and is understood."""
    account.trade("Buy", "0.01")
    bybit.create_order(UNIFIED, "market", "sell", 0.01, None, {"trailingAmount": "700"})
    assert number(account.position()["trailingStop"]) == 700


def test_the_trading_stop_endpoint(bybit: Any, account: Account) -> None:
    """params.tradingStopEndpoint sets the stop of the whole position."""
    account.trade("Buy", "0.01")
    bybit.create_order(
        UNIFIED, "market", "sell", 0, None, {"stopLossPrice": 49_100, "tradingStopEndpoint": True}
    )
    assert number(account.position()["stopLoss"]) == 49_100


def test_post_only(bybit: Any, account: Account) -> None:
    """postOnly=True rests below the market and is canceled above it."""
    resting = placed(account, bybit, "limit", "buy", 0.01, 49_000, postOnly=True)
    crossing = placed(account, bybit, "limit", "buy", 0.01, 51_000, postOnly=True)
    assert account.reaches(resting, "New")["timeInForce"] == "PostOnly"
    account.reaches(crossing, "Cancelled")
    assert bybit.fetch_order(crossing, UNIFIED, {"acknowledged": True})["status"] == "canceled"


def test_cancel_all(bybit: Any, account: Account) -> None:
    """cancel_all_orders by symbol and by settle coin empties the list."""
    for symbol in (UNIFIED, None):
        made = {placed(account, bybit, "limit", "buy", 0.01, price) for price in (45_000, 45_500)}
        account.exchange.pace("cancel-all")
        assert {row["id"] for row in bybit.cancel_all_orders(symbol)} == made
        until(lambda: bybit.fetch_open_orders(UNIFIED) == [], "no open orders")


def test_hidden_pages(bybit: Any, account: Account) -> None:
    """ccxt's own paging by cursor finds every trade."""
    ids = {account.trade(side, "0.001")["orderId"] for side in ("Buy", "Sell", "Buy", "Sell")}
    trades = bybit.fetch_my_trades(UNIFIED, None, None, {"paginate": True, "paginationCalls": 5})
    assert ids <= {trade["order"] for trade in trades}


def test_the_ledger_and_past_positions(bybit: Any, account: Account) -> None:
    """fetch_ledger reads the transaction log, fetch_positions_history the closed profits."""
    account.trade("Buy", "0.01")
    closing = account.trade("Sell", "0.01", reduceOnly=True)["orderId"]
    entries = bybit.fetch_ledger("USDT")
    assert {entry["currency"] for entry in entries} == {"USDT"}
    assert closing in {entry["info"]["orderId"] for entry in entries}
    past = bybit.fetch_positions_history([UNIFIED])
    assert closing in {row["info"]["orderId"] for row in past}


def test_the_margin_mode_is_confirmed(bybit: Any, account: Account) -> None:
    """set_margin_mode takes the mode that is set, or says that nothing changes."""
    modes = {"REGULAR_MARGIN": "cross", "ISOLATED_MARGIN": "isolated"}
    mode = modes[account.http.get_account_info()["result"]["marginMode"]]
    with suppress(ccxt.NoChange):
        bybit.set_margin_mode(mode)
    assert modes[account.http.get_account_info()["result"]["marginMode"]] == mode


# ---- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "order", "params"),
    [
        (ccxt.InsufficientFunds, ("limit", "buy", 30, 45_000), {}),
        (ccxt.InvalidOrder, ("limit", "buy", 0.001, 4000), {}),
        (ccxt.InvalidOrder, ("market", "sell", 0.01), {"reduceOnly": True}),
        (ccxt.InvalidOrder, ("market", "buy", 0.01), {"triggerPrice": 49_000, "triggerDirection": "ascending"}),
        (ccxt.InvalidOrder, ("market", "buy", 0.01), {"triggerPrice": 51_000, "triggerDirection": "descending"}),
        (ccxt.BadRequest, ("limit", "buy", 0.01, 45_000), {"timeInForce": "GTC", "positionIdx": 2}),
    ],
)
def test_refusals_are_the_exceptions_ccxt_knows(
    bybit: Any, account: Account, error: type[Exception], order: tuple[Any, ...], params: dict[str, Any]
) -> None:
    """110007, 110094, 110017, 110092, 110093 and 10001 arrive as their exceptions."""
    with pytest.raises(error):
        placed(account, bybit, *order, **params)
    assert account.orders() == []


def test_a_duplicate_client_id_is_an_invalid_order(bybit: Any, account: Account) -> None:
    """110072 is InvalidOrder."""
    name = f"twice-{wall_ms()}"
    placed(account, bybit, "limit", "buy", 0.01, 45_000, clientOrderId=name)
    with pytest.raises(ccxt.InvalidOrder, match="110072"):
        placed(account, bybit, "limit", "buy", 0.01, 45_000, clientOrderId=name)


def test_cancelling_the_unknown_is_order_not_found(bybit: Any, account: Account) -> None:
    """110001 is OrderNotFound, and so is an id that finds nothing."""
    account.exchange.pace("cancel")
    unknown = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(ccxt.OrderNotFound):
        bybit.cancel_order(unknown, UNIFIED)
    with pytest.raises(ccxt.OrderNotFound):
        bybit.fetch_order(unknown, UNIFIED, {"acknowledged": True})


def test_a_late_clock_is_an_invalid_nonce(still: PaperExchange) -> None:
    """10002 is InvalidNonce."""
    with ccxt_rest(still) as client:
        client.load_markets()
        client.nonce = lambda: wall_ms() - 60_000
        with pytest.raises(ccxt.InvalidNonce):
            client.fetch_balance()


def test_the_default_key_and_secret_are_paper(still: PaperExchange) -> None:
    """Without settings of its own the exchange accepts key and secret `paper`."""
    assert (KEY, SECRET) == ("paper", "paper")
    assert request(still, "GET", "/v5/market/time").body["retCode"] == 0
    with ccxt_rest(still) as client:
        client.load_markets()
        assert client.fetch_balance()["USDT"]["total"] > 0
