"""Where a study's candles come from. A `CandleSource` finds the place, an `Origin` opens it.

An origin is small: it crosses to the laboratory's process, and what is slow (reading, checking, resampling, making up)
is done there, without an event loop. Its `key` names its bars: equal keys, equal bars.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from research.candles import MINUTE, CandleFile, load_candles, load_funding
from research.fetch import candles_for
from research.synthetic import synthetic
from storage.archive import CandleArchive, fingerprint
from trading.errors import BadInput, Transient
from trading.exchange.bybit.endpoints import is_loopback
from trading.laboratory import Progress, Study
from trading.model import CandleSeries

log = logging.getLogger(__name__)

DAY: Final = 1440
HISTORY_DAYS: Final = 1461
"""How long a made-up history is when nobody says."""
FETCHED_DAYS: Final = 365
"""How much is downloaded when nobody says."""
USUAL_BARS: Final = 200_000  # of a made-up history of which nobody says how long it is to be
MOST_BARS: Final = 2_000_000
"""More made-up bars than this are not asked for by a person."""

Funding = Mapping[int, Decimal]
Tell = Callable[[Progress], None]


class Origin(Protocol):
    """Where some bars lie, with the funding paid on them."""

    @property
    def key(self) -> str:
        """Names the bars and the funding: equal keys, equal bars."""
        ...

    @property
    def lineage(self) -> str:
        """Tells histories of one symbol apart that have nothing to do with each other."""
        ...

    @property
    def made_up(self) -> bool:
        """No exchange anywhere knows these prices."""
        ...

    def open(self) -> tuple[CandleFile, Funding | None]:
        """Read and check them; blocks. `BadInput`: they cannot be used, it says why; `Transient`: not now."""
        ...


class CandleSource(Protocol):
    """Knows where the bars for a study are."""

    async def origin(self, study: Study, tell: Tell) -> Origin | None:
        """The place, or None where this source has none. May download first. `BadInput`, `Transient`."""
        ...


# Origins


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUp:
    """The first bars of a synthetic market: always the same ones."""

    symbol: str
    seed: int
    bars: int
    interval: int

    @property
    def key(self) -> str:
        """The recipe."""
        return f"synthetic:{self.seed}:{self.symbol}:{self.interval}:{self.bars}"

    @property
    def lineage(self) -> str:
        """One market for each seed."""
        return f"synthetic:{self.seed}"

    @property
    def made_up(self) -> bool:
        """Always."""
        return True

    def open(self) -> tuple[CandleFile, Funding | None]:
        """Make them up: about 100,000 bars a second."""
        series = synthetic(self.symbol, seed=self.seed, bars=self.bars, interval_minutes=self.interval)
        place = Path(f"{self.symbol}-{self.interval}-synthetic-{self.seed}")
        return CandleFile(series=series, path=place, sha256=fingerprint(series)), None


@dataclass(frozen=True, slots=True, kw_only=True)
class FromFile:
    """A candle file as it was when somebody named it, cut and resampled to what a study wants.

    `interval`: minutes of a bar that is wanted, the file's own or a whole multiple; `days`: how many up to the
    newest bar, None for all. `sha256`: of the file's bytes.
    """

    path: Path
    symbol: str
    sha256: str
    file_interval: int
    interval: int
    days: int | None
    funding: Path | None = None

    @property
    def key(self) -> str:
        """The file's content and what is taken of it."""
        rates = _stamp(self.funding) if self.funding else ""
        return f"file:{self.sha256}:{self.symbol}:{self.file_interval}:{self.interval}:{self.days}:{rates}"

    @property
    def lineage(self) -> str:
        """Each file is a history of its own."""
        return f"file:{self.path.name}"

    @property
    def made_up(self) -> bool:
        """Nobody knows better."""
        return False

    def open(self) -> tuple[CandleFile, Funding | None]:
        """Read it; `BadInput` when it has been changed."""
        file = load_candles(
            self.path, symbol=self.symbol, interval_minutes=self.file_interval, known_symbols=(self.symbol,)
        )
        if file.sha256 != self.sha256:
            raise BadInput(f"{self.path} has been changed since the start: start again to use what it holds now")
        funding = load_funding(self.funding) if self.funding else None
        return taken(file, self.interval, self.days), funding


@dataclass(frozen=True, slots=True, kw_only=True)
class FromArchive:
    """Bars of the archive under a data directory, as they are when it is opened.

    `stamp` tells one state of the files from another without reading them.
    """

    data_dir: Path
    symbol: str
    file_interval: int
    interval: int
    days: int | None
    stamp: str

    @property
    def key(self) -> str:
        """The state of the files and what is taken of them."""
        return f"archive:{self.symbol}:{self.file_interval}:{self.interval}:{self.days}:{self.stamp}"

    @property
    def lineage(self) -> str:
        """What an exchange has recorded is one history."""
        return "exchange"

    @property
    def made_up(self) -> bool:
        """Downloaded from an exchange on this machine, which is a paper one. Reads the archive."""
        return is_loopback(CandleArchive(self.data_dir).source(self.symbol, self.file_interval))

    def open(self) -> tuple[CandleFile, Funding | None]:
        """Read them; `BadInput` names gaps, and days that are not there."""
        archive = CandleArchive(self.data_dir)
        series = candles_for(archive, self.symbol, self.file_interval, self.days)
        path = archive.path(self.symbol, self.file_interval)
        file = CandleFile(series=series, path=path, sha256=fingerprint(series))
        return taken(file, self.interval, None), archive.funding(self.symbol).rates or None


def archived(archive: CandleArchive, symbol: str, interval: int, days: int | None) -> FromArchive | None:
    """The archive's bars of that length, or shorter ones that make them up; None when there are none."""
    fitting = [minutes for minutes in _lengths(archive, symbol) if interval % minutes == 0]
    if not fitting:
        return None
    length = max(fitting)
    files = (archive.path(symbol, length), archive.funding_path(symbol))
    return FromArchive(
        data_dir=archive.folder.parent.resolve(),  # the laboratory's process has another working directory
        symbol=symbol,
        file_interval=length,
        interval=interval,
        days=days,
        stamp=" ".join(map(_stamp, files)),
    )


def _lengths(archive: CandleArchive, symbol: str) -> list[int]:
    prefix = archive.path(symbol, 1).stem.removesuffix("1")
    stems = [path.stem.removeprefix(prefix) for path in archive.folder.glob(f"{prefix}*.parquet")]
    return [int(stem) for stem in stems if stem.isdecimal() and int(stem) > 0]


def _stamp(path: Path) -> str:
    """A file's size and age; nothing where there is no file."""
    try:
        about = path.stat()
    except OSError:
        return "-"
    return f"{about.st_size}@{about.st_mtime_ns}"


def taken(file: CandleFile, interval: int, days: int | None) -> CandleFile:
    """What a study wants of a file; the file itself when that is all of it."""
    series = resampled(file.series, interval)
    if days is not None:
        series = series.tail(days * DAY // interval)
    if len(series) < 2:
        raise BadInput(f"{file.path} has fewer than 2 whole bars of {interval} minutes: name shorter ones")
    if len(series) == len(file.series):
        return file
    owned = {name: getattr(series, name).copy() for name in ("timestamp", "open", "high", "low", "close", "volume")}
    series = replace(series, **owned)  # a view would hold the whole file in memory
    return replace(file, series=series, sha256=fingerprint(series))


def resampled(series: CandleSeries, minutes: int) -> CandleSeries:
    """The same market in bars of so many minutes, a whole multiple of the series' own; complete bars only.

    Bars begin at whole multiples of their length since 1970 UTC, as the exchange's do up to a day.
    """
    own = series.interval // timedelta(minutes=1)
    count, rest = divmod(minutes, own)
    if rest or not count:
        raise BadInput(f"bars of {own} minutes do not make up bars of {minutes}: choose a whole multiple of {own}")
    if count == 1:
        return series
    first = int(np.argmax(series.timestamp % (minutes * MINUTE) == 0))
    if series.timestamp[first] % (minutes * MINUTE):
        raise BadInput(f"no bar opens at a whole multiple of {minutes} minutes: choose another length")
    whole = (len(series) - first) // count * count
    rows = slice(first, first + whole)
    grouped = {name: getattr(series, name)[rows].reshape(-1, count) for name in ("open", "high", "low", "close")}
    return CandleSeries(
        symbol=series.symbol,
        interval=timedelta(minutes=minutes),
        timestamp=series.timestamp[rows].reshape(-1, count)[:, 0].copy(),
        open=grouped["open"][:, 0].copy(),
        high=grouped["high"].max(axis=1),
        low=grouped["low"].min(axis=1),
        close=grouped["close"][:, -1].copy(),
        volume=series.volume[rows].reshape(-1, count).sum(axis=1),
    )


# Sources


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeUpSource:
    """The synthetic history of the demo: as many bars from its beginning as the study's days hold."""

    seed: int

    async def origin(self, study: Study, tell: Tell) -> Origin:
        """`BadInput` for more bars than anybody wants."""
        if study.days is None:
            bars = min(HISTORY_DAYS * DAY // study.interval, USUAL_BARS)
        else:
            bars = study.days * DAY // study.interval
        if not 2 <= bars <= MOST_BARS:
            much = f"{study.days} days of {study.interval} minutes are {bars:,} bars"
            raise BadInput(f"{much}: ask for days that hold 2 to {MOST_BARS:,}")
        return MadeUp(symbol=study.symbol, seed=self.seed, bars=bars, interval=study.interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSource:
    """The candle files that a command named, and the funding files by symbol."""

    files: tuple[CandleFile, ...]
    funding: Mapping[str, Path] = field(default_factory=dict)

    async def origin(self, study: Study, tell: Tell) -> Origin | None:
        """The symbol's file; `BadInput` when its bars do not make up the study's."""
        found = [file for file in self.files if file.series.symbol == study.symbol]
        if not found:
            return None
        return from_file(found[0], study.interval, study.days, self.funding.get(study.symbol))


def from_file(file: CandleFile, interval: int, days: int | None, funding: Path | None = None) -> FromFile:
    """What a study wants of a loaded file; `BadInput` when the file's bars do not make up the study's."""
    own = file.series.interval // timedelta(minutes=1)
    if interval % own:
        raise BadInput(f"{file.path.name} has bars of {own} minutes: ask for {own} or a whole multiple of it")
    return FromFile(
        path=file.path.resolve(),
        symbol=file.series.symbol,
        sha256=file.sha256,
        file_interval=own,
        interval=interval,
        days=days,
        funding=funding.resolve() if funding else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSource:
    """The archive; `fetch` (symbol, interval, days, tell), where there is one, brings it up to date first.

    An exchange that does not answer is no reason to do without what is there.
    """

    archive: CandleArchive
    fetch: Callable[[str, int, int, Tell], Awaitable[object]] | None = None

    async def origin(self, study: Study, tell: Tell) -> Origin | None:
        """None when nothing is there and nothing can be fetched."""
        known = archived(self.archive, study.symbol, study.interval, study.days)
        if self.fetch is None:
            return known
        try:
            await self.fetch(study.symbol, study.interval, study.days or FETCHED_DAYS, tell)
        except Transient as error:
            if known is None:
                raise
            log.warning("candles_not_fetched reason='%s' next='the archive as it is'", error)
        return archived(self.archive, study.symbol, study.interval, study.days)


class FirstOf:
    """Several sources: the first that has the bars."""

    def __init__(self, *sources: CandleSource) -> None:
        self._sources = sources

    async def origin(self, study: Study, tell: Tell) -> Origin | None:
        """None when none has them."""
        for source in self._sources:
            if (found := await source.origin(study, tell)) is not None:
                return found
        return None
