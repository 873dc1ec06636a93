"""Klines: which bars a window holds, and how longer bars are put together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from trading.exchange.simulated.wire.candles import Interval, intervals, window
from trading.model import Candle, CandleSeries, millis, utc

HOUR = 3_600_000
FOUR_HOURS = timedelta(hours=4)
START = millis(datetime(2024, 1, 30, tzinfo=UTC))  # a Tuesday, two days before a new month
STEP = 4 * HOUR
MADE = intervals(FOUR_HOURS)


def series(bars: int) -> CandleSeries:
    """Bar k opens at k, closes at k + 0.5, with one unit of volume."""
    opens = np.arange(bars, dtype=np.float64) + 1
    return CandleSeries(
        symbol="BTCUSDT",
        interval=FOUR_HOURS,
        timestamp=START + STEP * np.arange(bars, dtype=np.int64),
        open=opens,
        high=opens + 1,
        low=opens - 0.5,
        close=opens + 0.5,
        volume=np.ones(bars),
    )


def running(bar: int) -> Candle:
    """The bar in progress, after `bar` closed ones."""
    prices = {"open": bar + 1.0, "high": bar + 9.0, "low": bar + 1.0, "close": bar + 2.0}
    return Candle(symbol="BTCUSDT", open_time=utc(START + bar * STEP), interval=FOUR_HOURS, volume=0.25, **prices)


def opened(name: str, start: int | None = None, end: int | None = None, limit: int = 200, bars: int = 30) -> list[int]:
    """Openings of the window's bars in steps after START, newest first."""
    found = window(series(bars), running(bars), MADE[name], start, end, limit)
    return [(bar.start - START) // STEP for bar in found]


def test_without_bounds_the_latest_come_newest_first_with_the_open_one() -> None:
    assert opened("240", limit=3) == [30, 29, 28]


def test_a_start_alone_goes_forward() -> None:
    assert opened("240", start=9999, limit=2) == [1, 0]
    assert opened("240", start=START + 28 * STEP, limit=200) == [30, 29, 28]


def test_an_end_alone_gives_what_lies_before_it() -> None:
    assert opened("240", end=START + 5 * STEP, limit=2) == [5, 4]
    assert opened("240", end=START + 6 * STEP - 1, limit=2) == [5, 4]


def test_both_bounds_give_the_most_recent_inside() -> None:
    assert opened("240", start=START, end=START + 5 * STEP, limit=2) == [5, 4]
    assert opened("240", start=START + 4 * STEP, end=START + 5 * STEP) == [5, 4]


def test_the_candle_that_holds_an_unaligned_start_belongs_to_it() -> None:
    assert opened("240", start=START + 4 * STEP + 1, end=START + 5 * STEP) == [5, 4]


def test_windows_outside_the_bars_are_empty() -> None:
    assert opened("240", end=START - 1) == []
    assert opened("240", start=START + 31 * STEP) == []
    assert opened("240", start=START + 5 * STEP, end=START + 4 * STEP) == []


def test_the_open_candle_can_be_the_only_one() -> None:
    found = window(series(30).between(0, 0), running(0), MADE["240"], START, None, 5)
    assert [(bar.start, bar.close) for bar in found] == [(START, 2.0)]


def test_days_are_put_together_with_the_bar_in_progress() -> None:
    """Bars 24 to 29 make the fifth day; the sixth has only begun."""
    young, old = window(series(30), running(30), MADE["D"], None, None, 2)
    assert (old.open, old.high, old.low, old.close, old.volume) == (25, 31, 24.5, 30.5, 6)
    assert (young.start, young.high, young.close, young.volume) == (START + 30 * STEP, 39, 32, 0.25)


def test_a_bar_in_progress_joins_the_longer_bar_it_belongs_to() -> None:
    newest = window(series(31), running(31), MADE["D"], None, None, 1)[0]
    assert (newest.open, newest.high, newest.close, newest.volume) == (31, 40, 33, 1.25)


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("W", datetime(2024, 1, 29, tzinfo=UTC)),
        ("M", datetime(2024, 2, 1, tzinfo=UTC)),
        ("720", utc(START + 30 * STEP)),
    ],
)
def test_long_bars_begin_on_monday_on_the_first_and_at_noon(name: str, start: datetime) -> None:
    assert window(series(30), running(30), MADE[name], None, None, 1)[0].start == millis(start)


def test_months_are_counted_by_the_calendar() -> None:
    month = Interval("M", 0)
    assert utc(month.shift(millis(datetime(2024, 1, 1, tzinfo=UTC)), 14)) == datetime(2025, 3, 1, tzinfo=UTC)
    assert opened("M", limit=1) == [12]
    assert len(opened("M", limit=5)) == 2


def test_only_multiples_of_the_feed_are_offered() -> None:
    assert set(MADE) == {"240", "720", "D", "W", "M"}
    assert set(intervals(timedelta(minutes=15))) == {"15", "30", "60", "120", "240", "360", "720", "D", "W", "M"}
    assert "10" in intervals(timedelta(minutes=10))
