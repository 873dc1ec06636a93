"""What stands before every request: signatures, limits, parameters, pages."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.exchange.simulated.venue import VenueRefusal
from trading.exchange.simulated.wire.auth import Credentials
from trading.exchange.simulated.wire.formats import number, price
from trading.exchange.simulated.wire.limits import Limits
from trading.exchange.simulated.wire.paging import DAY_MS, WEEK_MS, page, window
from trading.exchange.simulated.wire.parameters import Params, from_body, from_query
from trading.model import millis

NOW = 1_700_000_000_000
KEY = Credentials(key="a-key", secret="a-canary-secret")


def signed(payload: str, *, at: int = NOW, receive: str = "5000", key: str = "a-key") -> dict[str, str]:
    text = f"{at}{key}{receive}{payload}".encode()
    sign = hmac.new(b"a-canary-secret", text, hashlib.sha256).hexdigest()
    return {
        "X-BAPI-API-KEY": key,
        "X-BAPI-TIMESTAMP": str(at),
        "X-BAPI-RECV-WINDOW": receive,
        "X-BAPI-SIGN": sign,
    }


def code_of(headers: dict[str, str], payload: str) -> int:
    """What a request is refused with, 0 when it is not; the secret is never in the text."""
    text, code = "", 0
    try:
        KEY.check_request(headers, payload.encode(), NOW)
    except VenueRefusal as refusal:
        text, code = str(refusal), refusal.code
    assert "canary" not in text
    return code


def test_a_signature_over_the_very_bytes_is_accepted() -> None:
    """Spaces, percent signs and the order of the parameters are as the client sent them."""
    for payload in ("", "b=2&a=1", "cursor=page%3Dx%26", '{"a": 1}', '{"a":"ä"}'):
        assert code_of(signed(payload), payload) == 0


@pytest.mark.parametrize(("offset", "code"), [(-5000, 0), (-5001, 10002), (999, 0), (1000, 10002)])
def test_a_timestamp_counts_for_its_window_and_a_second_ahead(offset: int, code: int) -> None:
    assert code_of(signed("x", at=NOW + offset), "x") == code


def test_each_fault_of_a_signature_has_its_code() -> None:
    assert code_of({}, "x") == 10001
    assert code_of(signed("x") | {"X-BAPI-TIMESTAMP": "soon"}, "x") == 10001
    assert code_of(signed("x", key="other"), "x") == 10003
    assert code_of(signed("x"), "y") == 10004
    assert code_of(signed("x") | {"X-BAPI-SIGN": "\udcff"}, "x") == 10004


@pytest.mark.parametrize("kind", [int, str])
def test_a_socket_signs_its_expiry_as_number_or_string(kind: type) -> None:
    sign = hmac.new(b"a-canary-secret", f"GET/realtime{NOW + 1}".encode(), hashlib.sha256).hexdigest()
    KEY.check_socket(["a-key", kind(NOW + 1), sign], NOW)
    with pytest.raises(VenueRefusal):
        KEY.check_socket(["a-key", kind(NOW + 1), sign], NOW + 1)


@pytest.mark.parametrize("args", [None, [], ["a-key", 1], ["a-key", True, "x"], ["a-key", {}, "x"], "a-key"])
def test_anything_else_is_no_auth(args: object) -> None:
    with pytest.raises(VenueRefusal):
        KEY.check_socket(args, NOW)


def test_a_limit_rolls_over_one_second() -> None:
    limits = Limits()
    seen = [limits.take("create", 10, 100.0 + step / 10) for step in range(11)]
    assert [allowance.left for allowance in seen[:10]] == list(range(9, -1, -1))
    assert seen[10].allowed  # a second after the first
    refused = limits.take("create", 10, 101.0)
    assert not refused.allowed
    assert refused.reset_ms == 101_101
    assert limits.take("amend", 10, 101.0).allowed


def test_a_batch_counts_by_its_orders_and_a_factor_multiplies() -> None:
    assert not Limits().take("batch", 10, 1.0, 11).allowed
    assert Limits(2.0).take("batch", 10, 1.0, 20).left == 0


@given(st.decimals(0, 10**12, places=9))
def test_numbers_are_read_and_written_exactly(value: Decimal) -> None:
    given_text = format(value, "f")
    for params in (from_query(f"qty={given_text}"), from_body(f'{{"qty":{given_text}}}'.encode())):
        assert params.decimal("qty") == value
    assert Decimal(number(value)) == value
    assert "E" not in number(value)


@pytest.mark.parametrize(
    "text", ["NaN", "inf", "-1", "1e309", "1e99", "0x1", "1_0", " 1", "\u0661", "1." + "0" * 19, "-"]
)
def test_what_is_no_plain_number_is_refused(text: str) -> None:
    with pytest.raises(VenueRefusal, match="qty invalid"):
        Params({"qty": text}).decimal("qty")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"a":NaN}', b"\xff", b"[" * 100_000, b'"x"'])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(VenueRefusal) as caught:
        from_body(body)
    assert caught.value.code == 10001


def test_prices_are_written_without_exponent() -> None:
    assert [price(value) for value in (1e-05, 1e16, 5.0, 0.1)] == ["0.00001", "10000000000000000", "5", "0.1"]
    assert number(Decimal("-0.00")) == "0"


@given(st.integers(0, 60), st.integers(1, 20))
def test_pages_give_every_row_once(rows: int, limit: int) -> None:
    """However many there are, following the cursor ends, and with the last row."""
    seen: list[str] = []
    cursor = "start"
    while cursor:
        query = f"limit={limit}" + (f"&cursor={cursor}" if cursor != "start" else "")
        taken, cursor = page(from_query(query), (f"row-{n}" for n in range(rows)), str, default=5, most=50)
        assert len(taken) == limit or not cursor
        seen += taken
        assert unquote(cursor) != cursor or not cursor
    assert seen == [f"row-{n}" for n in range(rows)]


def test_a_cursor_of_somebody_elses_is_refused() -> None:
    with pytest.raises(VenueRefusal, match="cursor"):
        page(from_query("cursor=abc"), ["x"], str, default=5, most=50)


def test_windows_follow_the_seven_day_rule() -> None:
    now = datetime(2024, 1, 31, tzinfo=UTC)
    end = millis(now) + 1
    assert window(Params({}), now) == (end - WEEK_MS, end)
    assert window(Params({}), now, DAY_MS) == (end - DAY_MS, end)
    assert window(Params({"startTime": "5"}), now) == (5, 5 + WEEK_MS)
    assert window(Params({"endTime": str(WEEK_MS + 5)}), now) == (5, WEEK_MS + 5)
    assert window(Params({"startTime": "5", "endTime": "9"}), now, DAY_MS) == (5, 9)
    for wrong in ({"startTime": "9", "endTime": "5"}, {"startTime": "0", "endTime": str(WEEK_MS + 1)}):
        with pytest.raises(VenueRefusal, match="7 days"):
            window(Params(wrong), now)
