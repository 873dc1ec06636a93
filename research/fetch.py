"""Downloading candles and funding into the archive, and reading them back for a study.

Only what is missing is asked for: newer bars, older bars, holes between. Pages are stored as they come, so that a
broken line, Ctrl-C or a crash costs no more than the last few. What is still missing after a second question is either
before the market began, which is told, or a gap, which is refused by name; the bars around it stay stored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from storage.archive import COLUMNS, CandleArchive, Span, missing, series_of
from trading.errors import BadInput, Rejected, Transient
from trading.laboratory import Progress
from trading.model import Candle, CandleSeries, millis, utc

if TYPE_CHECKING:
    from decimal import Decimal

MINUTE: Final = 60_000
DAY: Final = 24 * 60 * MINUTE
MOST_DAYS: Final = 20_000
NAMED: Final = 3  # gaps that a refusal names
SHARE_UNSTORED: Final = 20  # pages are stored once they are a twentieth of what lies there, a single one at first
QUESTIONS: Final = 2  # how often a missing bar is asked for

Tell = Callable[[Progress], None]


class Source(Protocol):
    """An exchange's past. `Transient`: not now, after all patience. `Rejected`: never. Times are ms UTC."""

    name: str
    intervals: Sequence[int]

    async def edge(self, symbol: str, interval: int) -> int:
        """Opening of the bar in progress; `BadInput` when there are no such bars."""
        ...

    async def candles(self, symbol: str, interval: int, first: int, last: int) -> Sequence[Candle]:
        """The newest bars that open from `first` to `last`, oldest first, as many as fit a page; empty: none do."""
        ...

    async def funding(self, symbol: str, first: int, last: int) -> Mapping[int, Decimal]:
        """The newest settlements from `first` to `last`, as many as fit a page; empty: there are none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What lies in the archive now: openings of the first and the last bar in ms UTC, and what of it is new.

    `late`: the exchange's bars begin after the days that were asked for.
    """

    path: Path
    bars: int
    first: int
    last: int
    new: int
    late: bool
    funding_path: Path
    settlements: int
    new_settlements: int
    seconds: float


async def fetch(source: Source, archive: CandleArchive, symbol: str, interval: int, days: int, tell: Tell) -> Fetched:
    """Bring the archive's last `days` up to the exchange's newest closed bar, funding included.

    `BadInput`: the exchange has no such bars, or the archive holds another market's. `Rejected`: bars are missing at
    the exchange. `Transient`: the line did not come back; the same call goes on where this one ended.
    """
    began = time.monotonic()
    if interval not in source.intervals:
        choice = ", ".join(map(str, source.intervals))
        raise BadInput(f"--interval {interval} is none of the exchange's: one of {choice} (minutes)")
    if not 1 <= days <= MOST_DAYS:
        raise BadInput(f"--days {days} is not possible: from 1 to {MOST_DAYS}")
    work = await asyncio.to_thread(_Candles, source, archive, symbol, interval, tell)  # reads the archive
    try:
        span, late = await work.run(days)
        settled = await asyncio.to_thread(_Settlements, source, archive, symbol, tell)
        await settled.run(span)
    except Transient as error:
        raise Transient(f"{error}{work.kept()}") from error
    return Fetched(
        path=archive.path(symbol, interval),
        bars=len(work.stored),
        first=int(work.stored.timestamp[0]),
        last=int(work.stored.timestamp[-1]),
        new=work.new,
        late=late,
        funding_path=archive.funding_path(symbol),
        settlements=len(settled.stored.rates),
        new_settlements=settled.new,
        seconds=time.monotonic() - began,
    )


def candles_for(archive: CandleArchive, symbol: str, interval: int, days: int | None) -> CandleSeries:
    """The archive's last `days` up to its newest bar, all of it with None: at least two bars and no gap.

    `BadInput` when they are not there: it says how much is, and what to do.
    """
    series = archive.candles(symbol, interval)
    command = f"main.py fetch {symbol} --interval {interval} --days {days or 365}"
    if len(series) < 2:
        raise BadInput(f"there are no {interval}-minute candles of {symbol} yet: {command}")
    bar, edge = interval * MINUTE, int(series.timestamp[-1]) + interval * MINUTE
    first = int(series.timestamp[0])
    start = first if days is None else edge - max(days * DAY // bar, 1) * bar
    if gaps := missing(series, max(start, first), edge):
        raise BadInput(f"{symbol}: {_named_gaps(gaps, bar)}; {_way_out(gaps, edge, bar)}, or again: {command}")
    if start < first:
        there = f"{(edge - first) / DAY:.1f} days, {_when(first)} to {_when(edge - bar)} UTC"
        whole = (edge - first) // DAY
        fewer = f", or ask for {whole} days" if whole else ""
        raise BadInput(f"{days} days of {symbol} at {interval} minutes are not there, only {there}: {command}{fewer}")
    return series.tail((edge - start) // bar)


# The work


class _Candles:
    """One download of bars: what is stored, what waits to be."""

    def __init__(self, source: Source, archive: CandleArchive, symbol: str, interval: int, tell: Tell) -> None:
        self._source = source
        self._archive = archive
        self._symbol = symbol
        self._interval = interval
        self._bar = interval * MINUTE
        self._tell = tell
        self._waiting: list[Candle] = []
        self.stored = archive.candles(symbol, interval)
        self.new = 0

    def kept(self) -> str:
        """What to tell beside a failure."""
        if not len(self.stored):
            return ""
        return f"; {len(self.stored)} bars of {self._symbol} are stored, the same command goes on from there"

    async def run(self, days: int) -> tuple[Span, bool]:
        """From when to when the bars are whole now, to the end of the last; and whether the market began in that."""
        edge = await self._source.edge(self._symbol, self._interval)
        count = max(min(days * DAY, edge) // self._bar, 1)
        start, before = edge - count * self._bar, len(self.stored)
        meter = _Meter(f"candles {self._symbol} {self._interval}", count, self._tell)
        try:
            for _ in range(QUESTIONS):
                gaps = missing(self.stored, start, edge)
                meter.left(sum(self._bars(gap) for gap in gaps))
                for gap in reversed(gaps):
                    await self._fill(gap, meter)
                await self._store()
        finally:
            if self._waiting:  # on the way out: there is no loop to wait on any more
                self.stored = self._archive.add(self._waiting_series(), self._source.name)
            self.new = len(self.stored) - before
        begun = self._begun(start, edge)
        meter.total(self._bars((begun, edge - self._bar)))
        return (begun, edge - 1), begun > start

    def _begun(self, start: int, edge: int) -> int:
        """The first bar of what is whole: the start, or where the exchange's bars begin. Gaps are refused."""
        if not len(self.stored):
            raise BadInput(f"{self._source.name} has no closed candles of {self._symbol}: ask for more days")
        begun = max(start, int(self.stored.timestamp[0]))
        if gaps := missing(self.stored, begun, edge):
            named, way_out = _named_gaps(gaps, self._bar), _way_out(gaps, edge, self._bar)
            again = "asked for twice: fetch again later, for they may come yet"
            raise Rejected(f"{self._symbol} at {self._source.name}: {named}, {again}; {way_out}")
        return begun

    async def _fill(self, gap: Span, meter: _Meter) -> None:
        """Ask for a run of missing bars, from its end, with a known bar at each side to compare the market by."""
        known = self._neighbours(gap)
        first, last = min([gap[0], *known]), max([gap[1], *known])
        while gap[0] <= last:
            page = await self._source.candles(self._symbol, self._interval, first, last)
            if not page:
                return
            self._refuse_another_market(page, known)
            self._waiting += page
            meter.more(sum(gap[0] <= millis(candle.open_time) <= gap[1] for candle in page))
            last = millis(page[0].open_time) - self._bar
            if len(self._waiting) * SHARE_UNSTORED >= len(self.stored):
                await self._store()

    def _neighbours(self, gap: Span) -> dict[int, float]:
        """The stored bars next to a gap, with their opening prices, which never change once a bar is there."""
        row = int(self.stored.timestamp.searchsorted(gap[0]))
        near = ((at, gap[edge] + step) for at, edge, step in ((row - 1, 0, -self._bar), (row, 1, self._bar)))
        stamps, opens = self.stored.timestamp, self.stored.open
        return {there: float(opens[at]) for at, there in near if 0 <= at < len(stamps) and stamps[at] == there}

    def _refuse_another_market(self, page: Sequence[Candle], known: Mapping[int, float]) -> None:
        for candle in page:
            price = known.get(millis(candle.open_time), candle.open)
            if price != candle.open:
                path = self._archive.path(self._symbol, self._interval)
                where = f"its bar of {_when(millis(candle.open_time))} opens at {price!r}, theirs at {candle.open!r}"
                what = f"{path} holds other prices than {self._source.name} ({where})"
                raise BadInput(f"{what}: move the file away, or name another folder in DATA_DIR")

    async def _store(self) -> None:
        if self._waiting:
            count = len(self._waiting)
            series = self._waiting_series()
            self.stored = await asyncio.to_thread(self._archive.add, series, self._source.name)
            del self._waiting[:count]

    def _waiting_series(self) -> CandleSeries:
        columns = {name: [getattr(candle, name) for candle in self._waiting] for name in COLUMNS[1:]}
        stamps = [millis(candle.open_time) for candle in self._waiting]
        return series_of(self._symbol, self._interval, {"timestamp": stamps, **columns})

    def _bars(self, span: Span) -> int:
        return (span[1] - span[0]) // self._bar + 1


class _Settlements:
    """One download of funding."""

    def __init__(self, source: Source, archive: CandleArchive, symbol: str, tell: Tell) -> None:
        self._source = source
        self._archive = archive
        self._symbol = symbol
        self._tell = tell
        self.stored = archive.funding(symbol)
        self.new = 0

    async def run(self, span: Span) -> None:
        """Every settlement of a span that was not asked for yet. How many there are nobody knows before."""
        before = len(self.stored.rates)
        meter = _Meter(f"funding {self._symbol}", 0, self._tell)
        for first, last in reversed(self.stored.missing(*span)):
            end = last
            while end >= first:
                page = await self._source.funding(self._symbol, first, end)
                oldest, newest = (min(page), max(page)) if page else (first, None)
                await self._store(page, oldest, newest if end == span[1] else end)
                meter.more(len(page))
                end = oldest - 1
        self.new = len(self.stored.rates) - before

    async def _store(self, page: Mapping[int, Decimal], first: int, last: int | None) -> None:
        """After the newest settlement of all nothing is certain: the next may be told late, and is asked for again."""
        if last is not None:
            self.stored = await asyncio.to_thread(self._archive.add_funding, self._symbol, page, (first, last))


class _Meter:
    """Progress in bars or settlements; the rate counts only what this run has fetched."""

    def __init__(self, stage: str, total: int, tell: Tell) -> None:
        self._stage = stage
        self._total = total
        self._tell = tell
        self._done = self._fetched = 0
        self._began = time.monotonic()
        self._show()

    def left(self, count: int) -> None:
        """So many are still missing."""
        self._done = self._total - count
        self._show()

    def more(self, count: int) -> None:
        """So many have come."""
        self._done += count
        self._fetched += count
        self._show()

    def total(self, count: int) -> None:
        """All are there, and so many they are."""
        self._done = self._total = count
        self._show()

    def _show(self) -> None:
        rate = self._fetched / max(time.monotonic() - self._began, 1e-9) if self._fetched else None
        total = max(self._total, self._done)
        remaining = (total - self._done) / rate if rate and self._total else None
        self._tell(Progress(stage=self._stage, done=self._done, total=total, rate=rate, remaining=remaining))


# What is told


def _named_gaps(gaps: Sequence[Span], bar: int) -> str:
    count = sum((last - first) // bar + 1 for first, last in gaps)
    spans = [_when(first) + (f" to {_when(last)}" if last > first else "") for first, last in gaps[:NAMED]]
    more = f" and {len(gaps) - NAMED} more gaps" if len(gaps) > NAMED else ""
    return f"{count} {'bar is' if count == 1 else 'bars are'} missing or impossible: {', '.join(spans)} UTC{more}"


def _way_out(gaps: Sequence[Span], edge: int, bar: int) -> str:
    """An outage of the exchange left no bars behind, and nobody may make them up: a study begins after it."""
    days = (edge - gaps[-1][1] - bar) // DAY
    if not days:
        return "if the exchange was down then, a whole day after it is needed first"
    return f"if the exchange was down then, use what came after: --days {days}"


def _when(ms: int) -> str:
    return f"{utc(ms):%Y-%m-%d %H:%M}"
