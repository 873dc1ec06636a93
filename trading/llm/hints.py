"""How long a provider asks us to wait, wherever it says so.

    Retry-After    seconds, or an HTTP date                                      (RFC 9110)
    RateLimit      `limit=100, remaining=0, reset=30` or `"default";r=0;t=30`    (two ages of one IETF draft)
    RetryInfo      `retryDelay: "34s"` in the body of an error                   (google.rpc)

They are asked in this order, and the first that can be read counts. What lies in the past is 0 seconds, what cannot be
read is no hint, and nothing is cut short: who finds a hint too long lets the bucket rest instead of waiting.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_NUMBER: Final = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_QUOTED: Final = re.compile(r'"[^"]*"')
_SHORT: Final = {"remaining": "r", "reset": "t"}


def waiting_hint(headers: Mapping[str, str], body: object, now: datetime) -> float | None:
    """Seconds from now, None where nothing legible is said.

    `headers` have lower-case names, or a mapping that does not care; `body` is the error's JSON value, None where it
    has none; `now` is aware UTC and counts only where the answer itself bears no date.
    """
    found = (
        _retry_after(headers.get("retry-after", ""), _said_at(headers) or now),
        _rate_limit(headers.get("ratelimit", "")),
        _retry_info(body),
    )
    return next((seconds for seconds in found if seconds is not None), None)


def _said_at(headers: Mapping[str, str]) -> datetime | None:
    """The server's own time: its clock set the date that we are to wait for."""
    return _date(headers.get("date", ""))


def _retry_after(text: str, now: datetime) -> float | None:
    seconds = _seconds(text)
    if seconds is not None:
        return seconds
    date = _date(text)
    return None if date is None else max(0.0, (date - now).total_seconds())


def _rate_limit(text: str) -> float | None:
    """The longest wait among the limits that are used up: either form, one limit or a list of them."""
    spent = [limit for limit in _limits(text) if limit.get("r", "0") == "0"]
    waits = [seconds for limit in spent if (seconds := _seconds(limit.get("t", ""))) is not None]
    return max(waits, default=None)


def _limits(text: str) -> Iterator[dict[str, str]]:
    """Each limit's parameters by their short names. The older form is one limit, with commas inside."""
    plain = _QUOTED.sub("", text).lower()  # a policy's name may hold whatever separates
    for limit in [plain.replace(",", ";")] if "reset=" in plain else plain.split(","):
        pairs = (part.partition("=") for part in limit.split(";"))
        yield {_SHORT.get(name.strip(), name.strip()): value.strip() for name, _, value in pairs}


def _retry_info(body: object) -> float | None:
    if isinstance(body, list):
        body = body[0] if len(body) == 1 else None  # streaming endpoints answer a list of one
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith("google.rpc.RetryInfo"):
            return _seconds(str(detail.get("retryDelay", "")).strip().removesuffix("s"))
    return None


def _seconds(text: str) -> float | None:
    if not _NUMBER.fullmatch(text.strip()):
        return None
    seconds = float(text)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
