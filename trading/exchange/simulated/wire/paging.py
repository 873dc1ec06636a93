"""Pages and time windows of lists. A cursor names the last row of its page, percent-encoded like Bybit's.

A row that arrives between two pages moves nothing: the next page goes on behind the row that was named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import islice
from typing import TypeVar
from urllib.parse import quote

from trading.exchange.simulated.wire.parameters import Params, wrong
from trading.model import millis

CURSOR = re.compile(r"page_token=([A-Za-z0-9_:-]{1,80})&\Z", re.ASCII)
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS

T = TypeVar("T")


def page(
    params: Params, rows: Iterable[T], name: Callable[[T], str], *, default: int, most: int
) -> tuple[list[T], str]:
    """The rows of the asked page and the cursor of the next one (empty at the end)."""
    limit = params.integer("limit", default, 1, most)
    source = iter(rows)
    if anchor := _anchor(params):
        for row in source:
            if name(row) == anchor:
                break
    taken = list(islice(source, limit + 1))
    more = len(taken) > limit
    return taken[:limit], cursor(name(taken[limit - 1])) if more else ""


def cursor(name: str) -> str:
    """The cursor of the page behind the row of that name."""
    return quote(f"page_token={name}&", safe="")


def _anchor(params: Params) -> str:
    given = params.text("cursor")
    if not given:
        return ""
    match = CURSOR.match(given)
    if match is None:
        raise wrong("cursor invalid")
    return match[1]


def window(params: Params, now: datetime, span_ms: int = WEEK_MS) -> tuple[int, int]:
    """First and last millisecond asked for. Without bounds the last `span_ms`; with one, so much beside it."""
    start, end = params.moment("startTime"), params.moment("endTime")
    if start is None:
        end = millis(now) + 1 if end is None else end
        return max(end - span_ms, 0), end
    end = start + span_ms if end is None else end
    if end < start or end - start > WEEK_MS:
        raise wrong("the interval between startTime and endTime must be within 7 days")
    return start, end
