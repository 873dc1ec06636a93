"""Who may ask and how often: signatures over the raw bytes, the clock window, headers, limits (facts 2.1, 3)."""

from __future__ import annotations

import ccxt  # type: ignore[import-untyped]
import pytest
from pybit.exceptions import FailedRequestError, InvalidRequestError  # type: ignore[import-untyped]

from tests.wire.harness import (
    KEY,
    PaperExchange,
    Reply,
    ccxt_rest,
    code_of,
    pybit_http,
    request,
    signed,
    until,
    wall_ms,
)

WALLET = "/v5/account/wallet-balance"
QUERY = "accountType=UNIFIED"


def ask(exchange: PaperExchange, headers: dict[str, str], query: str = QUERY) -> Reply:
    """A private GET with these headers."""
    return request(exchange, "GET", f"{WALLET}?{query}", headers=headers)


def cancel(exchange: PaperExchange, body: str, headers: dict[str, str]) -> Reply:
    """A private POST that changes nothing."""
    exchange.pace("cancel")
    return request(exchange, "POST", "/v5/order/cancel", headers=headers, body=body)


# ---- accepted ------------------------------------------------------------------------------------


def test_a_good_signature_is_let_in(still: PaperExchange) -> None:
    """Key, time, window and the HMAC of the raw query open the door."""
    reply = ask(still, signed(QUERY))
    assert (reply.status, reply.body["retCode"]) == (200, 0)


def test_the_query_is_signed_in_the_order_it_is_sent(still: PaperExchange) -> None:
    """The signature covers the query as received: parameters are neither sorted nor decoded by the server."""
    query = "coin=USDT%2CBTC&accountType=UNIFIED"
    assert ask(still, signed(query), query).body["retCode"] == 0


def test_a_trailing_question_mark_signs_the_empty_string(still: PaperExchange) -> None:
    """ccxt sends `…/path?` without parameters and signs nothing."""
    reply = request(still, "GET", "/v5/user/query-api?", headers=signed(""))
    assert reply.body["retCode"] == 0


@pytest.mark.parametrize(
    "body",
    [
        '{"category": "linear", "symbol": "BTCUSDT", "orderId": "nothing"}',
        '{"category":"linear","symbol":"BTCUSDT","orderId":"nothing"}',
        '{ "orderId":"nothing",\n  "symbol":"BTCUSDT", "category":"linear" }',
    ],
    ids=["pybit", "ccxt", "by hand"],
)
def test_the_body_is_signed_as_it_is_sent(still: PaperExchange, body: str) -> None:
    """Whatever the spaces and the order of the body, the signature covers those bytes: 110001 is past the door."""
    assert cancel(still, body, signed(body)).body["retCode"] == 110001


def test_the_window_defaults_to_five_seconds(still: PaperExchange) -> None:
    """Without the receive window header 5,000 ms apply; the signature names them or leaves them out."""

    def without_header(age: int) -> set[int]:
        stamp = wall_ms() - age
        named = signed(QUERY, timestamp=stamp)
        del named["X-BAPI-RECV-WINDOW"]
        return {ask(still, headers).body["retCode"] for headers in (named, signed(QUERY, timestamp=stamp, window=None))}

    assert 0 in without_header(0) <= {0, 10004}
    assert 10002 in without_header(6000) <= {10002, 10004}


def test_the_sign_type_header_is_optional(still: PaperExchange) -> None:
    """pybit sends X-BAPI-SIGN-TYPE, ccxt does not; both are served."""
    assert ask(still, signed(QUERY) | {"X-BAPI-SIGN-TYPE": "2"}).body["retCode"] == 0


def test_a_request_may_be_as_late_as_its_window(still: PaperExchange) -> None:
    """A time eight seconds old passes with a window of twenty and fails with one of five."""
    late = wall_ms() - 8000
    assert ask(still, signed(QUERY, timestamp=late, window="20000")).body["retCode"] == 0
    assert ask(still, signed(QUERY, timestamp=late)).body["retCode"] == 10002


# ---- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "window"), [(-60_000, "5000"), (-6_000, "5000"), (10_000, "5000"), (10_000, "60000")]
)
def test_a_time_outside_the_window_is_10002(still: PaperExchange, ahead: int, window: str) -> None:
    """Too old fails by the window; ahead of the server fails whatever the window is."""
    reply = ask(still, signed(QUERY, timestamp=wall_ms() + ahead, window=window))
    assert reply.body["retCode"] == 10002
    assert "server_timestamp" in reply.body["retMsg"]


def test_a_wrong_signature_is_10004_and_shows_what_was_signed(still: PaperExchange) -> None:
    """The refusal echoes the string the server has signed, which is how mistakes are found."""
    headers = signed(QUERY, secret="wrong")
    reply = ask(still, headers)
    assert reply.body["retCode"] == 10004
    assert f"{headers['X-BAPI-TIMESTAMP']}{KEY}5000{QUERY}" in reply.body["retMsg"]


def test_a_changed_query_is_10004(still: PaperExchange) -> None:
    """A signature for one query does not open another."""
    assert ask(still, signed(QUERY), QUERY + "&coin=USDT").body["retCode"] == 10004


def test_a_changed_body_is_10004(still: PaperExchange) -> None:
    """One more space in the body and the signature no longer fits."""
    body = '{"category":"linear","symbol":"BTCUSDT","orderId":"nothing"}'
    assert cancel(still, body + " ", signed(body)).body["retCode"] == 10004


def test_an_unknown_key_is_10003(still: PaperExchange) -> None:
    """A key the exchange has not issued is refused as such."""
    assert ask(still, signed(QUERY, key="stranger")).body["retCode"] == 10003


@pytest.mark.parametrize(
    "missing",
    [
        ("X-BAPI-API-KEY",),
        ("X-BAPI-TIMESTAMP",),
        ("X-BAPI-SIGN",),
        ("X-BAPI-API-KEY", "X-BAPI-TIMESTAMP", "X-BAPI-SIGN", "X-BAPI-RECV-WINDOW"),
    ],
    ids="+".join,
)
def test_missing_headers_are_10001(still: PaperExchange, missing: tuple[str, ...]) -> None:
    """A private request without key, time or signature is a parameter error."""
    headers = {name: value for name, value in signed(QUERY).items() if name not in missing}
    assert ask(still, headers).body["retCode"] == 10001


def test_a_time_that_is_no_number_is_refused(still: PaperExchange) -> None:
    """A timestamp in words is a parameter error or a stale clock, never let in and never a server error."""
    reply = ask(still, signed(QUERY) | {"X-BAPI-TIMESTAMP": "now"})
    assert reply.body["retCode"] in {10001, 10002, 10004}
    assert reply.status < 500


@pytest.mark.parametrize("body", ["", "not json", "[1, 2]", '"text"', '{"category": "linear"'])
def test_a_body_that_is_no_object_is_10001(still: PaperExchange, body: str) -> None:
    """A signed body that is not a JSON object is a parameter error, not a crash."""
    reply = cancel(still, body, signed(body))
    assert reply.body["retCode"] == 10001
    assert reply.status < 500


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v5/order/realtime"),
        ("GET", "/v5/order/history"),
        ("GET", "/v5/execution/list"),
        ("GET", "/v5/position/list"),
        ("GET", "/v5/position/closed-pnl"),
        ("GET", "/v5/account/wallet-balance"),
        ("GET", "/v5/account/info"),
        ("GET", "/v5/account/fee-rate"),
        ("GET", "/v5/account/transaction-log"),
        ("GET", "/v5/user/query-api"),
        ("GET", "/v5/asset/coin/query-info"),
        ("POST", "/v5/order/create"),
        ("POST", "/v5/order/amend"),
        ("POST", "/v5/order/cancel"),
        ("POST", "/v5/order/cancel-all"),
        ("POST", "/v5/position/set-leverage"),
        ("POST", "/v5/position/switch-mode"),
        ("POST", "/v5/position/trading-stop"),
        ("POST", "/v5/account/set-margin-mode"),
    ],
)
def test_every_private_endpoint_is_behind_the_door(still: PaperExchange, method: str, path: str) -> None:
    """Nothing private is served to a wrong signature, and every private path exists."""
    body = "{}" if method == "POST" else ""
    reply = request(still, method, path, headers=signed(body, secret="wrong"), body=body)
    assert reply.body["retCode"] == 10004


# ---- as the clients see it -----------------------------------------------------------------------


def test_pybit_sees_a_wrong_secret(still: PaperExchange) -> None:
    """pybit raises for a wrong secret and gets no wallet."""
    refusals = (InvalidRequestError, FailedRequestError)
    with pybit_http(still, api_secret="wrong") as http, pytest.raises(refusals) as seen:
        http.get_wallet_balance(accountType="UNIFIED")
    assert seen.value.status_code in {10004, 401}


@pytest.mark.parametrize("wrong", [{"apiKey": "stranger"}, {"secret": "wrong"}], ids=str)
def test_ccxt_sees_wrong_keys_as_an_authentication_error(still: PaperExchange, wrong: dict[str, str]) -> None:
    """10003 and 10004 are AuthenticationError to ccxt."""
    with ccxt_rest(still, **wrong) as client, pytest.raises(ccxt.AuthenticationError):
        client.load_markets()


# ---- limits --------------------------------------------------------------------------------------


def test_every_private_reply_tells_its_limit(still: PaperExchange) -> None:
    """X-Bapi-Limit, what is left of it and when it is reset come with every private answer."""
    reply = ask(still, signed(QUERY))
    assert int(reply.headers["x-bapi-limit"]) == 50
    assert 0 <= int(reply.headers["x-bapi-limit-status"]) < 50
    assert abs(int(reply.headers["x-bapi-limit-reset-timestamp"]) - wall_ms()) < 5000


@pytest.mark.parametrize(
    ("path", "query", "limit"),
    [
        ("/v5/order/realtime", "category=linear&symbol=BTCUSDT", 50),
        ("/v5/order/history", "category=linear", 50),
        ("/v5/execution/list", "category=linear", 50),
        ("/v5/position/list", "category=linear&symbol=BTCUSDT", 50),
        ("/v5/position/closed-pnl", "category=linear", 50),
        ("/v5/account/info", "", 50),
        ("/v5/account/transaction-log", "accountType=UNIFIED", 25),
        ("/v5/user/query-api", "", 10),
        ("/v5/account/fee-rate", "category=linear&symbol=BTCUSDT", 5),
    ],
)
def test_each_endpoint_has_its_own_limit(still: PaperExchange, path: str, query: str, limit: int) -> None:
    """The limits of facts 3.2, as the headers tell them."""
    reply = request(still, "GET", f"{path}?{query}", headers=signed(query))
    assert (reply.body["retCode"], int(reply.headers["x-bapi-limit"])) == (0, limit)


def test_the_limit_of_order_calls_is_ten_a_second(still: PaperExchange) -> None:
    """Order endpoints allow ten calls in a second, and the header counts them down."""
    body = '{"category":"linear","symbol":"BTCUSDT","orderId":"nothing"}'
    first, second = cancel(still, body, signed(body)), cancel(still, body, signed(body))
    assert int(first.headers["x-bapi-limit"]) == int(second.headers["x-bapi-limit"]) == 10
    assert 0 <= int(second.headers["x-bapi-limit-status"]) < 10


def test_too_many_calls_are_10006_until_the_reset(still: PaperExchange) -> None:
    """The eleventh call in a second is refused with a reset in the near future; afterwards the door is open again."""
    body = '{"category":"linear","symbol":"BTCUSDT","orderId":"nothing"}'

    def burst() -> Reply | None:
        replies = (request(still, "POST", "/v5/order/amend", headers=signed(body), body=body) for _ in range(60))
        return next((reply for reply in replies if reply.body["retCode"] == 10006), None)

    refused = burst()
    assert refused is not None, "sixty calls in a row and none was too many"
    assert refused.status == 200
    assert int(refused.headers["x-bapi-limit-status"]) == 0
    reset = int(refused.headers["x-bapi-limit-reset-timestamp"])
    assert wall_ms() - 200 <= reset <= wall_ms() + 1100
    until(lambda: wall_ms() > reset + 1100, "a second without calls to pass")
    assert request(still, "POST", "/v5/order/amend", headers=signed(body), body=body).body["retCode"] == 110001


def test_pybit_waits_out_the_limit(still: PaperExchange) -> None:
    """pybit reads the reset from the header, sleeps, and its eleventh call comes through as the ten before."""
    with pybit_http(still) as http:
        codes = [code_of(http.switch_position_mode, category="linear", symbol="BTCUSDT", mode=0) for _ in range(11)]
    assert codes == [110025] * 11
