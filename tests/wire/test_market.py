"""Public REST: time, candles, instruments, tickers, book, funding, risk limits, trades (facts 3.1, 4.1)."""

from __future__ import annotations

import http.client
from decimal import Decimal
from typing import Any

import pytest
from pybit.exceptions import FailedRequestError  # type: ignore[import-untyped]

from tests.wire.harness import Account, Json, PaperExchange, code_of, number, request, until, wall_ms
from tests.wire.markets import HOUR, STILL, TIDE

NOW = STILL.history  # the index of the bar the market stands in
FIRST = STILL.rows[0][0]
LAST = STILL.rows[NOW][0]


def bars(reader: Any, **window: Any) -> list[list[str]]:
    """What kline answers for this window."""
    answer = reader.get_kline(category="linear", symbol="BTCUSDT", interval=STILL.minutes, **window)
    rows: list[list[str]] = answer["result"]["list"]
    return rows


def times(rows: list[list[str]]) -> list[int]:
    return [int(row[0]) for row in rows]


def opened(first: int, last: int) -> list[int]:
    """The opening times of the bars `first` to `last` of the file, newest first, as kline lists them."""
    return [STILL.rows[i][0] for i in range(last, first - 1, -1)]


# ---- time, envelope, routes ----------------------------------------------------------------------


def test_time_is_the_wall_clock(reader: Any) -> None:
    """market/time tells the wall clock three times: seconds, nanoseconds, and the envelope's ms."""
    before = wall_ms()
    answer = reader.get_server_time()
    after = wall_ms()
    assert before <= answer["time"] <= after
    assert before // 1000 <= int(answer["result"]["timeSecond"]) <= after // 1000
    assert before - 1 <= int(answer["result"]["timeNano"]) // 1_000_000 <= after + 1


@pytest.mark.parametrize(
    "target",
    [
        "/v5/market/time",
        "/v5/market/kline?category=linear&symbol=BTCUSDT&interval=15&limit=2",
        "/v5/market/instruments-info?category=linear",
        "/v5/market/tickers?category=linear&symbol=BTCUSDT",
        "/v5/market/orderbook?category=linear&symbol=BTCUSDT",
        "/v5/market/funding/history?category=linear&symbol=BTCUSDT",
        "/v5/market/risk-limit?category=linear&symbol=BTCUSDT",
        "/v5/market/recent-trade?category=linear&symbol=BTCUSDT",
    ],
)
def test_public_endpoints_need_no_keys_and_share_one_envelope(still: PaperExchange, target: str) -> None:
    """Every public answer is HTTP 200 with retCode 0, a message, a result, retExtInfo and the time as a number."""
    reply = request(still, "GET", target)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    assert set(reply.body) >= {"retCode", "retMsg", "result", "retExtInfo", "time"}
    assert reply.body["retCode"] == 0
    assert reply.body["retMsg"] in {"OK", "success", "SUCCESS", ""}
    assert isinstance(reply.body["result"], dict)
    assert type(reply.body["time"]) is int
    assert abs(reply.body["time"] - wall_ms()) < 5000


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_path_is_404_with_10017(still: PaperExchange, method: str) -> None:
    """A route that does not exist is HTTP 404 and retCode 10017."""
    reply = request(still, method, "/v5/market/no-such-thing", body="{}" if method == "POST" else "")
    assert reply.status == 404
    assert reply.body["retCode"] == 10017


def test_pybit_reports_an_unknown_path_as_404(reader: Any) -> None:
    """pybit turns the missing route into a FailedRequestError with the HTTP status."""
    with pytest.raises(FailedRequestError) as caught:
        reader._submit_request(method="GET", path=f"{reader.endpoint}/v5/market/nothing", query={})
    assert caught.value.status_code == 404


def test_a_connection_serves_one_request_after_the_other(still: PaperExchange) -> None:
    """HTTP/1.1 keeps the connection: three requests go through one socket, an error among them."""
    connection = http.client.HTTPConnection("127.0.0.1", still.port, timeout=10)
    try:
        sockets = set()
        for target, status in (("/v5/market/time", 200), ("/v5/nothing", 404), ("/v5/market/time", 200)):
            connection.request("GET", target)
            sockets.add(connection.sock)
            response = connection.getresponse()
            response.read()
            assert response.status == status
        assert len(sockets) == 1
    finally:
        connection.close()


# ---- candles -------------------------------------------------------------------------------------


def test_without_a_window_the_latest_200_candles_come(reader: Any) -> None:
    """No start, no end, no limit: the latest 200 candles, newest first, the open one included."""
    assert times(bars(reader)) == opened(NOW - 199, NOW)


def test_a_candle_has_seven_strings_and_the_numbers_of_the_file(reader: Any) -> None:
    """start, open, high, low, close, volume and turnover are strings and say what the file says."""
    for i, row in zip(range(NOW - 1, NOW - 300, -1), bars(reader, limit=300)[1:], strict=True):
        assert [type(text) for text in row] == [str] * 7
        stamp, *rest = STILL.rows[i]
        assert int(row[0]) == stamp
        assert [Decimal(text) for text in row[1:6]] == [Decimal(str(value)) for value in rest]
        low, high = Decimal(str(rest[2])), Decimal(str(rest[1]))
        volume, turnover, rounding = Decimal(row[5]), Decimal(row[6]), Decimal("0.001")
        assert low * volume - rounding <= turnover <= high * volume + rounding


def test_the_open_candle_is_included_and_its_close_is_the_last_price(reader: Any) -> None:
    """The newest candle is the one the market stands in; it opened and closes at the last price of 50,000."""
    row = bars(reader, limit=1)[0]
    last = reader.get_tickers(category="linear", symbol="BTCUSDT")["result"]["list"][0]["lastPrice"]
    assert int(row[0]) == LAST
    assert number(row[4]) == number(last) == 50_000
    assert [number(text) for text in row[1:5]] == [50_000] * 4


@pytest.mark.parametrize("limit", [1, 7, 1000])
def test_a_limit_gives_the_latest_candles(reader: Any, limit: int) -> None:
    """`limit` alone gives exactly that many candles, the latest ones, up to 1,000."""
    assert times(bars(reader, limit=limit)) == opened(NOW - limit + 1, NOW)


def test_a_start_alone_goes_forward(reader: Any) -> None:
    """Only `start`: `limit` candles going forward from it, listed newest first."""
    assert times(bars(reader, start=STILL.rows[100][0], limit=5)) == opened(100, 104)


def test_a_start_before_everything_gives_the_first_candle_ever(reader: Any) -> None:
    """`start=9999&limit=1` is how clients find the first candle there is (pybit issue 186)."""
    assert times(bars(reader, start=9999, limit=1)) == [FIRST]


def test_a_start_near_the_end_stops_at_the_open_candle(reader: Any) -> None:
    """Going forward ends with the open candle, however large the limit."""
    assert times(bars(reader, start=STILL.rows[NOW - 2][0], limit=10)) == opened(NOW - 2, NOW)


def test_a_start_in_the_future_gives_nothing(reader: Any) -> None:
    """No candle has opened there yet, so the list is empty."""
    assert bars(reader, start=LAST + 10 * STILL.bar, limit=10) == []


def test_start_and_end_give_the_most_recent_candles_inside(reader: Any) -> None:
    """Both bounds: the most recent `limit` candles between them, bounds included."""
    start, end = STILL.rows[100][0], STILL.rows[200][0]
    assert times(bars(reader, start=start, end=end, limit=5)) == opened(196, 200)


def test_both_bounds_are_inclusive_on_the_opening_time(reader: Any) -> None:
    """A window from one opening time to another holds both candles and nothing beyond them."""
    start, end = STILL.rows[100][0], STILL.rows[103][0]
    assert times(bars(reader, start=start, end=end)) == opened(100, 103)
    assert times(bars(reader, start=start + 1, end=end - 1))[0] == STILL.rows[102][0]


def test_an_end_alone_gives_the_candles_up_to_it(reader: Any) -> None:
    """Only `end`: the `limit` candles that end there, also when it lies inside a bar."""
    end = STILL.rows[300][0]
    assert times(bars(reader, end=end, limit=5)) == opened(296, 300)
    assert times(bars(reader, end=end + STILL.bar // 2, limit=5)) == opened(296, 300)


def test_paging_back_by_the_end_reads_all_of_history(reader: Any) -> None:
    """Moving `end` to the oldest candle less one, `start` fixed, reads more than 1,000 candles without a hole."""
    seen: list[int] = []
    end = LAST
    for _ in range(10):
        page = times(bars(reader, start=FIRST, end=end, limit=1000))
        if not page:
            break
        seen += page
        end = page[-1] - 1
    assert seen == opened(0, NOW)


def test_paging_forward_by_the_start_reads_all_of_history(reader: Any) -> None:
    """Moving `start` alone to the newest candle plus one bar reads everything as well."""
    seen: list[int] = []
    start = FIRST
    for _ in range(10):
        page = times(bars(reader, start=start, limit=1000))
        if not page:
            break
        seen += reversed(page)
        start = page[0] + STILL.bar
    assert seen == opened(0, NOW)[::-1]


def test_moving_the_start_with_a_fixed_end_truncates(reader: Any) -> None:
    """With both bounds the oldest candles of a wide window are what is left out, as on the real exchange."""
    page = times(bars(reader, start=FIRST, end=LAST, limit=1000))
    assert page == opened(NOW - 999, NOW)


@pytest.mark.parametrize(("interval", "hours"), [("60", 1), ("240", 4), ("D", 24)])
def test_longer_intervals_are_made_of_the_file_s_bars(reader: Any, interval: str, hours: int) -> None:
    """A candle of an hour, four hours or a day has the first open, the extremes, the last close and all the volume."""
    asked = {"category": "linear", "symbol": "BTCUSDT", "interval": interval, "limit": 4}
    rows = reader.get_kline(**asked)["result"]["list"][1:]  # the newest one is still open
    assert len(rows) == 3
    for row in rows:
        start = int(row[0])
        parts = [bar for bar in STILL.rows[:NOW] if start <= bar[0] < start + hours * HOUR]
        assert start % (hours * HOUR) == 0
        assert len(parts) == hours * 4
        low, high = min(bar[3] for bar in parts), max(bar[2] for bar in parts)
        assert [float(text) for text in row[1:5]] == [parts[0][1], high, low, parts[-1][4]]
        assert abs(number(row[5]) - sum(Decimal(str(bar[5])) for bar in parts)) < Decimal("1e-6")


def test_mark_price_candles_have_no_volume(reader: Any) -> None:
    """mark-price-kline lists five strings a candle, newest first."""
    rows = reader.get_mark_price_kline(category="linear", symbol="BTCUSDT", interval=15, limit=3)["result"]["list"]
    assert times(rows) == opened(NOW - 2, NOW)
    assert [len(row) for row in rows] == [5] * 3


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"symbol": "NOSUCHUSDT"},
        {"symbol": "btcusdt"},
        {"interval": "7"},
        {"interval": None},
        {"symbol": None},
        {"category": "nonsense"},
        {"start": "yesterday"},
    ],
    ids=str,
)
def test_a_wrong_kline_request_is_10001(reader: Any, wrong: Json) -> None:
    """A symbol, interval, category or time that does not exist is a parameter error."""
    asked = {"category": "linear", "symbol": "BTCUSDT", "interval": "15"} | wrong
    assert code_of(reader.get_kline, **asked) == 10001


@pytest.mark.parametrize("endpoint", ["get_tickers", "get_orderbook", "get_public_trade_history", "get_risk_limit"])
def test_an_unknown_symbol_is_10001_everywhere(reader: Any, endpoint: str) -> None:
    """No market endpoint invents an instrument."""
    assert code_of(getattr(reader, endpoint), category="linear", symbol="NOSUCHUSDT") == 10001


# ---- instruments ---------------------------------------------------------------------------------


def test_the_instrument_is_described_as_bybit_describes_it(reader: Any) -> None:
    """BTCUSDT has every field of the documentation, the tick of 0.1 and the step of 0.001 among them."""
    result = reader.get_instruments_info(category="linear", symbol="BTCUSDT")["result"]
    row = result["list"][0]
    assert result["category"] == "linear"
    assert len(result["list"]) == 1
    texts = {"symbol", "contractType", "status", "baseCoin", "quoteCoin", "settleCoin", "launchTime", "deliveryTime"}
    texts |= {"deliveryFeeRate", "priceScale", "copyTrading", "upperFundingRate", "lowerFundingRate"}
    assert {name: type(row.get(name)) for name in texts} == dict.fromkeys(texts, str)
    assert (row["symbol"], row["contractType"], row["status"]) == ("BTCUSDT", "LinearPerpetual", "Trading")
    assert (row["baseCoin"], row["quoteCoin"], row["settleCoin"]) == ("BTC", "USDT", "USDT")
    assert row["fundingInterval"] == 480
    assert isinstance(row["unifiedMarginTrade"], bool)
    assert set(row["leverageFilter"]) >= {"minLeverage", "maxLeverage", "leverageStep"}
    assert set(row["priceFilter"]) >= {"minPrice", "maxPrice", "tickSize"}
    lots = row["lotSizeFilter"]
    assert set(lots) >= {"minNotionalValue", "maxOrderQty", "maxMktOrderQty", "minOrderQty", "qtyStep"}
    assert number(row["priceFilter"]["tickSize"]) == Decimal("0.1")
    assert (number(lots["qtyStep"]), number(lots["minOrderQty"])) == (Decimal("0.001"), Decimal("0.001"))
    assert number(lots["minNotionalValue"]) == 5


@pytest.mark.parametrize(
    "asked",
    [
        {"category": "spot"},
        {"category": "inverse"},
        {"category": "option", "baseCoin": "BTC"},
        {"category": "linear", "status": "PreLaunch", "limit": 1000},
    ],
    ids=str,
)
def test_other_instruments_are_an_empty_list(reader: Any, asked: Json) -> None:
    """What the exchange does not trade is an empty page without a cursor, not an error."""
    result = reader.get_instruments_info(**asked)["result"]
    assert result["list"] == []
    assert result.get("nextPageCursor", "") == ""


def test_the_list_of_instruments_ends(reader: Any) -> None:
    """A client that follows the cursor comes to an end: the last page has an empty one."""
    result = reader.get_instruments_info(category="linear", limit=1000)["result"]
    assert "BTCUSDT" in [row["symbol"] for row in result["list"]]
    assert result["nextPageCursor"] == ""


# ---- prices --------------------------------------------------------------------------------------


def test_the_ticker_has_every_field(reader: Any) -> None:
    """The ticker carries last, mark and index price, the top of the book, the day, funding and open interest."""
    rows = reader.get_tickers(category="linear", symbol="BTCUSDT")["result"]["list"]
    assert len(rows) == 1
    row = rows[0]
    names = {"symbol", "lastPrice", "indexPrice", "markPrice", "prevPrice24h", "price24hPcnt", "highPrice24h"}
    names |= {"lowPrice24h", "prevPrice1h", "openInterest", "openInterestValue", "turnover24h", "volume24h"}
    names |= {"fundingRate", "nextFundingTime", "ask1Size", "bid1Price", "ask1Price", "bid1Size"}
    names |= {"deliveryTime", "deliveryFeeRate", "fundingIntervalHour"}
    assert names <= set(row)
    assert {type(row[name]) for name in names} == {str}


def test_the_ticker_says_where_the_market_stands(reader: Any) -> None:
    """Last 50,000, a spread of one tick on either side at the most, the day's range from the bars of that day."""
    row = reader.get_tickers(category="linear", symbol="BTCUSDT")["result"]["list"][0]
    day = [row_ for row_ in STILL.rows[: NOW + 1] if row_[0] > LAST - 23 * HOUR]
    assert number(row["lastPrice"]) == number(row["markPrice"]) == 50_000
    assert Decimal("49999.9") <= number(row["bid1Price"]) < number(row["ask1Price"]) <= Decimal("50000.1")
    assert number(row["highPrice24h"]) >= Decimal(str(max(bar[2] for bar in day)))
    assert number(row["lowPrice24h"]) <= Decimal(str(min(bar[3] for bar in day)))
    assert abs(number(row["price24hPcnt"])) < Decimal("0.01")
    assert number(row["volume24h"]) > 0


def test_the_next_funding_time_is_the_next_multiple_of_eight_hours(reader: Any) -> None:
    """Funding is due at 00:00, 08:00 and 16:00 UTC of market time."""
    row = reader.get_tickers(category="linear", symbol="BTCUSDT")["result"]["list"][0]
    assert int(row["nextFundingTime"]) == (LAST // (8 * HOUR) + 1) * 8 * HOUR
    assert number(row["fundingRate"]) == Decimal("0.0001")


def test_tickers_without_a_symbol_list_the_category(reader: Any) -> None:
    """Leaving out the symbol gives every instrument of the category."""
    assert "BTCUSDT" in [row["symbol"] for row in reader.get_tickers(category="linear")["result"]["list"]]


@pytest.mark.parametrize("limit", [1, 25, 50])
def test_the_order_book_is_sorted_and_around_the_last_price(reader: Any, limit: int) -> None:
    """Bids fall, asks rise, nothing crosses, no side is longer than the limit."""
    book = reader.get_orderbook(category="linear", symbol="BTCUSDT", limit=limit)["result"]
    bids, asks = ([number(price) for price, _ in book[side]] for side in ("b", "a"))
    assert book["s"] == "BTCUSDT"
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert 0 < len(bids) <= limit
    assert 0 < len(asks) <= limit
    assert Decimal("49999.9") <= bids[0] < asks[0] <= Decimal("50000.1")
    assert all(number(size) > 0 for _, size in book["b"] + book["a"])
    assert [type(book[name]) for name in ("ts", "u", "seq", "cts")] == [int] * 4


def test_recent_trades_are_public_trades(sailor: Account) -> None:
    """recent-trade lists the last trades, newest first, each with a taker side, a time and a price of the market."""

    def recent() -> list[Json]:
        answer = sailor.http.get_public_trade_history(category="linear", symbol="BTCUSDT", limit=5)
        rows: list[Json] = answer["result"]["list"]
        return rows

    rows = until(lambda: recent() if len(recent()) == 5 else None, "five trades")
    stamps = [int(row["time"]) for row in rows]
    assert stamps == sorted(stamps, reverse=True)
    for row in rows:
        assert {"execId", "symbol", "price", "size", "side", "time", "isBlockTrade"} <= set(row)
        assert row["side"] in {"Buy", "Sell"}
        assert int(row["time"]) >= TIDE.begin - TIDE.history * TIDE.bar
        assert 49_000 <= number(row["price"]) <= 51_000


# ---- funding, risk -------------------------------------------------------------------------------


def test_funding_history_is_newest_first_on_multiples_of_eight_hours(reader: Any) -> None:
    """Every settlement that history has seen is listed with its rate, none from the future."""
    rows = reader.get_funding_rate_history(category="linear", symbol="BTCUSDT")["result"]["list"]
    stamps = [int(row["fundingRateTimestamp"]) for row in rows]
    assert stamps[0] == LAST // (8 * HOUR) * 8 * HOUR
    assert stamps == list(range(stamps[0], stamps[-1] - 1, -8 * HOUR))
    assert {(row["symbol"], number(row["fundingRate"])) for row in rows} == {("BTCUSDT", Decimal("0.0001"))}


def test_funding_history_heeds_its_window(reader: Any) -> None:
    """Both bounds and the limit cut the list: the newest settlements inside."""
    end = LAST // (8 * HOUR) * 8 * HOUR - 24 * HOUR
    asked = {"category": "linear", "symbol": "BTCUSDT", "startTime": end - 48 * HOUR, "endTime": end}
    whole = reader.get_funding_rate_history(**asked)["result"]["list"]
    assert [int(row["fundingRateTimestamp"]) for row in whole] == [end - i * 8 * HOUR for i in range(7)]
    assert reader.get_funding_rate_history(**asked, limit=3)["result"]["list"] == whole[:3]


def test_funding_history_with_only_a_start_is_an_error(reader: Any) -> None:
    """A start without an end is refused, as the documentation says."""
    asked = {"category": "linear", "symbol": "BTCUSDT", "startTime": FIRST}
    assert code_of(reader.get_funding_rate_history, **asked) == 10001


def test_risk_limits_rise(reader: Any) -> None:
    """The tiers grow in value, the first is marked lowest, and each names its margins and its leverage."""
    result = reader.get_risk_limit(category="linear", symbol="BTCUSDT")["result"]
    rows = result["list"]
    values = [number(row["riskLimitValue"]) for row in rows]
    assert values == sorted(set(values))
    assert [row["isLowestRisk"] for row in rows] == [1] + [0] * (len(rows) - 1)
    assert all(type(row["id"]) is int for row in rows)
    for row in rows:
        assert number(row["maintenanceMargin"]) > 0
        assert number(row["initialMargin"]) > number(row["maintenanceMargin"])
        assert number(row["maxLeverage"]) >= 1
    assert number(rows[0]["maxLeverage"]) == 100
