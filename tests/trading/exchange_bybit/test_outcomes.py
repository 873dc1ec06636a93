"""What answers mean: nothing unknown is taken for a refusal, and no secret is passed on."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading.errors import ConclaveError, OutcomeUnknown, Rejected, Transient
from trading.exchange.bybit.outcomes import (
    ALREADY_SO,
    CLOCK_OFF,
    KEY_REFUSALS,
    REFUSALS,
    TOO_MANY,
    ClockOff,
    Throttled,
    of_code,
    of_library,
    of_status,
    one_line,
    result_of,
)

REVIEWED = REFUSALS | set(KEY_REFUSALS)


@given(st.integers(), st.text(), st.booleans())
def test_only_reviewed_codes_reject(code: int, text: str, write: bool) -> None:
    """Every other code leaves a write unknown and a read to be repeated, but for the three that are told apart."""
    outcome = of_code(code, text, write=write)
    if code in ALREADY_SO:
        assert outcome is None
    elif code in REVIEWED:
        assert isinstance(outcome, Rejected)
        assert outcome.code == code
    elif code in {TOO_MANY, CLOCK_OFF}:
        assert isinstance(outcome, Transient)
    else:
        assert type(outcome) is (OutcomeUnknown if write else Transient)


@pytest.mark.parametrize("code", [-1, 429, 10000, 10014, 10016, 40004, 110079, 999999])
def test_what_may_have_happened_is_unknown(code: int) -> None:
    """Timeouts, overload, duplicates of requests, and codes that nobody has seen before."""
    assert type(of_code(code, "…", write=True)) is OutcomeUnknown
    assert type(of_code(code, "…", write=False)) is Transient


@pytest.mark.parametrize("code", sorted(ALREADY_SO))
def test_what_is_already_so_is_done(code: int) -> None:
    """The same stop, leverage, position mode, margin mode again."""
    assert of_code(code, "not modified", write=True) is None


def test_what_was_surely_not_executed_may_be_repeated() -> None:
    """Also by a writer."""
    throttled = of_code(TOO_MANY, "Too many visits", write=True, reset_ms=5)
    assert isinstance(throttled, Throttled)
    assert throttled.reset_ms == 5
    assert isinstance(of_code(CLOCK_OFF, "check your timestamp", write=True), ClockOff)


@given(st.integers(400, 599), st.booleans())
def test_no_status_is_a_refusal(status: int, write: bool) -> None:
    """Not even 4xx: a proxy may have said it after the exchange had acted."""
    assert type(of_status(status, write=write)) is (OutcomeUnknown if write else Transient)


@given(st.text(), st.booleans())
def test_a_broken_request_tells_only_its_kind(text: str, write: bool) -> None:
    """Its text may hold what was sent."""
    outcome = of_library(ConnectionResetError(f"secret{text}"), write=write)
    assert type(outcome) is (OutcomeUnknown if write else Transient)
    assert "secret" not in str(outcome)


ENVELOPES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=30, deadline=None)
@given(ENVELOPES, st.booleans())
def test_nothing_without_a_code_is_a_success(envelope: object, write: bool) -> None:
    """pybit takes any JSON without `retCode` for one."""
    assert isinstance(result_of(envelope, write=write), ConclaveError)


def test_a_success_has_its_result() -> None:
    """An object, or nothing where nothing is to be said."""
    assert result_of({"retCode": 0, "result": {"a": 1}}, write=True) == {"a": 1}
    assert result_of({"retCode": 0}, write=True) == {}
    for odd in ({"retCode": False, "result": {}}, {"retCode": "0", "result": {}}, {"retCode": 0, "result": []}):
        assert isinstance(result_of(odd, write=True), OutcomeUnknown)


@given(st.sampled_from(sorted(REVIEWED)), st.text(), st.text())
def test_messages_never_hold_a_secret(code: int, before: str, after: str) -> None:
    """Neither key nor secret nor signature, wherever the exchange puts them; 10004 echoes what was signed."""
    key, secret, sign = "THE-KEY", "THE-SECRET", "0123456789abcdef" * 4
    said = str(of_code(code, f"{before}{key}{secret} {sign}{after}", write=True, hide=(key, secret)))
    assert not any(word in said for word in (key, secret, sign))


@given(st.text())
def test_messages_are_one_short_line(text: str) -> None:
    """Printable, no line breaks."""
    said = one_line(text)
    assert said.isprintable()
    assert len(said) <= 200
