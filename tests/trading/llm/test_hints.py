"""How long a provider asks us to wait, read wherever it says so."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.llm.hints import waiting_hint

NOW = datetime(2026, 7, 21, 12, 0, 0, tzinfo=UTC)


def retry_info(delay: object) -> dict[str, object]:
    """An error of Gemini that asks to wait."""
    kinds = ["QuotaFailure", "RetryInfo"]
    details = [{"@type": f"type.googleapis.com/google.rpc.{kind}", "retryDelay": delay} for kind in kinds]
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": details}}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("86400", 86_400.0),
        ("Tue, 21 Jul 2026 12:00:30 GMT", 30.0),
        ("Tuesday, 21-Jul-26 12:00:30 GMT", 30.0),
        ("Tue, 21 Jul 2026 12:00:30 -0000", 30.0),
        ("Tue, 21 Jul 2026 11:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("1e9", None),
        ("nan", None),
        ("9" * 400, None),
        ("\u0667", None),
        ("Tue, 99 Jul 2026 12:00:30 GMT", None),
        ("Tue, 21 Jul 99999 12:00:30 GMT", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds or an HTTP date; what has passed is no wait, what cannot be read is no hint."""
    assert waiting_hint({"retry-after": text}, None, NOW) == seconds


def test_a_date_is_measured_by_the_clock_that_set_it() -> None:
    """Where this machine's clock is an hour off, the wait is still half a minute."""
    headers = {"retry-after": "Tue, 21 Jul 2026 13:00:30 GMT", "date": "Tue, 21 Jul 2026 13:00:00 GMT"}
    assert waiting_hint(headers, None, NOW) == 30.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("limit=100, remaining=0, reset=30", 30.0),
        ("limit=100,remaining=0,reset=30", 30.0),
        ("reset=30", 30.0),
        ("limit=100, remaining=5, reset=30", None),
        ("limit=100, remaining=0, reset=-3", 0.0),
        ("limit=100;w=60, remaining=0, reset=30", 30.0),
        ('"default";r=0;t=30', 30.0),
        ('"default"; r=0; t=0.5', 0.5),
        ('"default";r=7;t=30', None),
        ('"burst";r=3;t=5, "day";r=0;t=3600, "hour";r=0;t=60', 3600.0),
        ('"a,b;t=9";r=0;t=30', 30.0),
        ('"default";r=0', None),
        ('"default";r=0;t=soon', None),
        ("garbage", None),
        ("", None),
        (";,;=,", None),
    ],
)
def test_rate_limit(text: str, seconds: float | None) -> None:
    """Both forms; a limit that is not used up asks nobody to wait, and the longest of several counts."""
    assert waiting_hint({"ratelimit": text}, None, NOW) == seconds


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("34s", 34.0), ("0.5s", 0.5), ("34", 34.0), ("-1s", 0.0), ("soon", None), ("", None), (None, None), ({}, None)],
)
def test_retry_info(delay: object, seconds: float | None) -> None:
    """Gemini says it in the body; some of its endpoints answer a list of one error."""
    assert waiting_hint({}, retry_info(delay), NOW) == seconds
    assert waiting_hint({}, [retry_info(delay)], NOW) == seconds


def test_the_first_that_can_be_read_counts() -> None:
    """`Retry-After`, then `RateLimit`, then the body."""
    rate, body = '"d";r=0;t=20', retry_info("30s")
    assert waiting_hint({"retry-after": "10", "ratelimit": rate}, body, NOW) == 10.0
    assert waiting_hint({"retry-after": "soon", "ratelimit": rate}, body, NOW) == 20.0
    assert waiting_hint({"retry-after": "soon", "ratelimit": "-"}, body, NOW) == 30.0


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["error", "details", "@type"]), inner),
    max_leaves=10,
)


@given(after=st.text(max_size=40), rate=st.text(alphabet='"dr=t;0,- a', max_size=40), body=json_values)
def test_whatever_stands_there_is_a_wait_or_none(after: str, rate: str, body: object) -> None:
    """No header and no body raises, and no wait is negative or endless."""
    hint = waiting_hint({"retry-after": after, "ratelimit": rate}, body, NOW)
    assert hint is None or 0.0 <= hint < float("inf")
