"""Klines: Bybit's intervals, bars put together from shorter ones, and the windows that a client can ask for.

Longer bars begin at UTC multiples of their length, weeks on Monday, months on the first. With a start alone a
window goes forward from it; otherwise it is the most recent bars up to the end. The bar in progress belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from trading.model import Candle, CandleSeries, IntArray, millis

MINUTE_MS = 60_000
DAY_MS = 86_400_000
MONDAY_MS = 4 * DAY_MS  # the first Monday after the epoch
FOREVER = 2**62
VOLUME_DIGITS = 8  # of a sum of float volumes; what lies behind them is noise
MINUTES = ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar as it is shown. `start` in ms; `turnover` in the quote coin at the bar's mean price."""

    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def turnover(self) -> float:
        """Volume times the mean of the four prices."""
        return round(self.volume * (self.open + self.high + self.low + self.close) / 4, 4)


@dataclass(frozen=True, slots=True)
class Interval:
    """A bar length. `step` is in ms, zero for months, whose length varies."""

    name: str
    step: int
    anchor: int = 0

    def floor(self, ms: int) -> int:
        """The start of the bar that holds this moment."""
        if self.step:
            return (ms - self.anchor) // self.step * self.step + self.anchor
        return int(np.datetime64(ms, "ms").astype("M8[M]").astype("M8[ms]").astype(np.int64))

    def shift(self, start: int, bars: int) -> int:
        """The start of the bar so many bars later (negative: earlier)."""
        if self.step:
            return start + bars * self.step
        month = np.datetime64(start, "ms").astype("M8[M]") + np.timedelta64(bars, "M")
        return int(month.astype("M8[ms]").astype(np.int64))

    def floors(self, ms: IntArray) -> IntArray:
        """`floor` of many moments."""
        if self.step:
            return (ms - self.anchor) // self.step * self.step + self.anchor
        return ms.astype("M8[ms]").astype("M8[M]").astype("M8[ms]").astype(np.int64)


def intervals(feed: timedelta) -> dict[str, Interval]:
    """The intervals that can be made of the feed's bars, by Bybit's names, and the feed's own."""
    own = feed // timedelta(milliseconds=1)
    every = [Interval(name, int(name) * MINUTE_MS) for name in MINUTES]
    every += [Interval("D", DAY_MS), Interval("W", 7 * DAY_MS, MONDAY_MS), Interval("M", 0)]
    made = {interval.name: interval for interval in every if (interval.step or DAY_MS) % own == 0}
    if not any(interval.step == own for interval in made.values()):
        name = str(own // MINUTE_MS)
        made[name] = Interval(name, own)
    return made


def window(
    closed: CandleSeries, running: Candle | None, interval: Interval, start: int | None, end: int | None, limit: int
) -> list[Bar]:
    """The bars asked for, newest first. `running` is the feed's bar in progress, after all the closed ones."""
    first = interval.floor(start) if start is not None else 0
    until = interval.shift(interval.floor(end), 1) if end is not None else FOREVER
    found = _opens(closed, running, first, until)
    if found is None:
        return []
    if start is not None and end is None:
        until = interval.shift(interval.floor(found[0]), limit)
    else:
        first = max(first, interval.shift(interval.floor(found[1]), 1 - limit))
    low, high = np.searchsorted(closed.timestamp, (first, until)).tolist()
    if running and not first <= millis(running.open_time) < until:
        running = None
    return list(merged(closed.between(low, high), running, interval))[::-1]


def _opens(closed: CandleSeries, running: Candle | None, first: int, until: int) -> tuple[int, int] | None:
    """The first and the last opening of a feed's bar from `first` to before `until`; None without any."""
    low, high = np.searchsorted(closed.timestamp, (first, until)).tolist()
    opens = [int(closed.timestamp[low]), int(closed.timestamp[high - 1])] if low < high else []
    if running and first <= (opening := millis(running.open_time)) < until:
        opens.append(opening)
    return (opens[0], opens[-1]) if opens else None


def merged(closed: CandleSeries, running: Candle | None, interval: Interval) -> Iterator[Bar]:
    """The bars of an interval, oldest first, made of the feed's bars and the one in progress."""
    bars = list(_aggregated(closed, interval)) if len(closed) else []
    if running is not None:
        start = interval.floor(millis(running.open_time))
        bar = Bar(start, running.open, running.high, running.low, running.close, running.volume)
        if bars and bars[-1].start == start:
            bar = _joined(bars.pop(), bar)
        bars.append(bar)
    yield from bars


def _aggregated(series: CandleSeries, interval: Interval) -> Iterator[Bar]:
    starts = interval.floors(series.timestamp)
    edges = np.flatnonzero(np.diff(starts, prepend=starts[0] - 1))
    if len(edges) == len(starts):
        columns = (starts, series.open, series.high, series.low, series.close, series.volume)
    else:
        lasts = np.append(edges[1:], len(starts)) - 1
        highs, lows = np.maximum.reduceat(series.high, edges), np.minimum.reduceat(series.low, edges)
        volumes = np.add.reduceat(series.volume, edges).round(VOLUME_DIGITS)
        columns = (starts[edges], series.open[edges], highs, lows, series.close[lasts], volumes)
    yield from map(Bar, *(column.tolist() for column in columns))


def _joined(first: Bar, then: Bar) -> Bar:
    high, low = max(first.high, then.high), min(first.low, then.low)
    return Bar(first.start, first.open, high, low, then.close, round(first.volume + then.volume, VOLUME_DIGITS))
