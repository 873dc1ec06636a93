"""The candle archive: one Parquet file for each symbol and bar length, one for the funding of each symbol.

    DATA_DIR/candles/BTCUSDT-240.parquet        timestamp (bar open, UTC ms), open high low close volume
    DATA_DIR/candles/BTCUSDT-funding.parquet    timestamp (settlement, UTC ms), funding_rate (decimal text)

Rows are sorted and unique, and numbers are kept exactly. What is added is merged in and replaces what lay at the same
time; a file is replaced as a whole, so that a reader, a power cut or a full disk never meets half of one, and writers
take turns across processes. Missing bars stay missing here: `missing` finds them, and `research.candles.load_candles`
refuses such a file by name.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trading.errors import BadInput, Transient
from trading.model import CandleSeries, IntArray

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER: Final = "candles"
COLUMNS: Final = ("timestamp", "open", "high", "low", "close", "volume")
RATE: Final = "funding_rate"
COVERED: Final = b"covered"
SOURCE: Final = b"source"
MINUTE: Final = 60_000
SYMBOL: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,39}\Z", re.ASCII)

Span = tuple[int, int]
"""First and last moment, both included, ms UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """Settled rates by their time (ms UTC), oldest first; `covered`: the spans that were asked for and answered."""

    rates: Mapping[int, Decimal] = field(default_factory=dict)
    covered: tuple[Span, ...] = ()

    def missing(self, first: int, last: int) -> list[Span]:
        """The parts of a span that were never asked for, oldest first."""
        found, at = [], first
        for begin, end in self.covered:
            if begin > at and at <= last:
                found.append((at, min(begin - 1, last)))
            at = max(at, end + 1)
        return [*found, (at, last)] if at <= last else found


class CandleArchive:
    """The files of one data directory. Nothing is made before the first bar is stored."""

    def __init__(self, data_dir: Path) -> None:
        self.folder = data_dir / FOLDER

    def path(self, symbol: str, interval: int) -> Path:
        """Where the bars of so many minutes lie, whether there are any or not."""
        return self.folder / f"{_file_name(symbol)}-{interval}.parquet"

    def funding_path(self, symbol: str) -> Path:
        """Where a symbol's funding lies, whether there is any or not."""
        return self.folder / f"{_file_name(symbol)}-funding.parquet"

    def candles(self, symbol: str, interval: int) -> CandleSeries:
        """All bars, oldest first; empty when there are none. The one series that may have gaps: see `missing`.

        `BadInput` for a file that cannot be read as such; it says what to do.
        """
        path = self.path(symbol, interval)
        table = _read(path, COLUMNS)
        if table is None:
            return series_of(symbol, interval, {})
        series = series_of(symbol, interval, {name: _array(path, name, table.column(name)) for name in COLUMNS})
        if not _sound(series):
            raise _unreadable(path)
        return series

    def source(self, symbol: str, interval: int) -> str:
        """Where the newest bars were downloaded from, as `add` was told; empty when nobody knows."""
        table = _read(self.path(symbol, interval), COLUMNS)
        return _source(table)

    def add(self, bars: CandleSeries, source: str = "") -> CandleSeries:
        """Merge bars in, in any order; of two bars of one time the later given stays. All bars then, stored for good.

        `source` is kept beside them. `Transient` when the disk refuses: what lay there before still does.
        """
        minutes = bars.interval // timedelta(minutes=1)
        path = self.path(bars.symbol, minutes)
        with self._turn():
            before = self.candles(bars.symbol, minutes)
            after = _merged(before, bars)
            if not _same(before, after):
                _replace(path, _table(after).replace_schema_metadata({SOURCE: source}))
        return after

    def funding(self, symbol: str) -> Funding:
        """All settlements; empty when there are none. `BadInput` for a file that cannot be read as such."""
        path = self.funding_path(symbol)
        table = _read(path, ("timestamp", RATE))
        if table is None:
            return Funding()
        try:
            rates = [Decimal(text) for text in table.column(RATE).to_pylist()]
            covered = json.loads((table.schema.metadata or {}).get(COVERED, b"[]"))
            spans = tuple((int(first), int(last)) for first, last in covered)
        except (InvalidOperation, TypeError, ValueError):
            raise _unreadable(path) from None
        return Funding(rates=dict(zip(table.column("timestamp").to_pylist(), rates, strict=True)), covered=spans)

    def add_funding(self, symbol: str, rates: Mapping[int, Decimal], answered: Span) -> Funding:
        """Merge settlements in, which are all that there are in the span `answered`. All of them then."""
        with self._turn():
            before = self.funding(symbol)
            merged = {**before.rates, **rates}
            after = Funding(rates={at: merged[at] for at in sorted(merged)}, covered=_joined(before.covered, answered))
            if after != before:
                _replace(self.funding_path(symbol), _funding_table(after))
        return after

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """One writer at a time. The lock is the kernel's: nothing stays behind when its process dies."""
        with _disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def fingerprint(series: CandleSeries) -> str:
    """SHA-256 over the columns' numbers: the same bars give the same one, however they were stored or cut out."""
    digest = hashlib.sha256()
    for name in COLUMNS:
        kind = "<i8" if name == "timestamp" else "<f8"
        digest.update(np.ascontiguousarray(getattr(series, name), dtype=kind).tobytes())
    return digest.hexdigest()


def missing(series: CandleSeries, first: int, stop: int) -> list[Span]:
    """The bars from `first` to before `stop` (openings, whole bars apart) that are not there, oldest first.

    Runs of neighbours as (first, last opening).
    """
    bar = series.interval // timedelta(milliseconds=1)
    wanted: IntArray = np.arange(first, stop, bar, dtype=np.int64)
    absent = wanted[~np.isin(wanted, series.timestamp, assume_unique=True)]
    if not len(absent):
        return []
    breaks = np.flatnonzero(np.diff(absent) != bar)
    begins, ends = absent[np.r_[0, breaks + 1]], absent[np.r_[breaks, len(absent) - 1]]
    return list(zip(begins.tolist(), ends.tolist(), strict=True))


def series_of(symbol: str, interval: int, columns: Mapping[str, Any]) -> CandleSeries:
    """Columns by name as a series of bars of so many minutes; a column that is not given is empty."""
    typed: dict[str, Any] = {
        name: np.ascontiguousarray(columns.get(name, ()), dtype=np.int64 if name == "timestamp" else np.float64)
        for name in COLUMNS
    }
    return CandleSeries(symbol=symbol, interval=timedelta(minutes=interval), **typed)


def _sound(series: CandleSeries) -> bool:
    """In order, and every bar possible; NaN makes a comparison false, whichever it is in."""
    top, bottom = np.maximum(series.open, series.close), np.minimum(series.open, series.close)
    fits = (series.low > 0) & (series.low <= bottom) & (top <= series.high) & (series.high < np.inf)
    counted = (series.volume >= 0) & (series.volume < np.inf)
    return bool((fits & counted).all() and (np.diff(series.timestamp) > 0).all())


def _merged(before: CandleSeries, bars: CandleSeries) -> CandleSeries:
    stamps = np.concatenate([before.timestamp, bars.timestamp])
    order = np.argsort(stamps, kind="stable")  # what was given later comes after what it replaces
    stamps = stamps[order]
    last = np.append(np.diff(stamps) > 0, True) if len(stamps) else np.zeros(0, dtype=bool)
    rows = order[last]
    columns = {name: np.concatenate([getattr(before, name), getattr(bars, name)])[rows] for name in COLUMNS}
    return series_of(bars.symbol, bars.interval // timedelta(minutes=1), columns)


def _same(one: CandleSeries, other: CandleSeries) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


def _joined(covered: Sequence[Span], answered: Span) -> tuple[Span, ...]:
    """Spans in order, those that touch or overlap as one."""
    joined: list[Span] = []
    for begin, end in sorted([*covered, answered]):
        if joined and begin <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((begin, end))
    return tuple(joined)


# The files


def _file_name(symbol: str) -> str:
    """A symbol that may be a part of a file's name."""
    if not SYMBOL.match(symbol):
        raise BadInput(f"{symbol[:40]!r} is no symbol: write it as Bybit does, such as BTCUSDT")
    return symbol


def _read(path: Path, names: Sequence[str]) -> pa.Table | None:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror}): check DATA_DIR") from error
    try:
        table = parquet.ParquetFile(pa.BufferReader(content)).read()
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise _unreadable(path) from error
    if any(table.schema.names.count(name) != 1 or table.column(name).null_count for name in names):
        raise _unreadable(path)
    return table


def _unreadable(path: Path) -> BadInput:
    return BadInput(f"{path} is not as it was written here: move it away and fetch again (main.py fetch)")


def _source(table: pa.Table | None) -> str:
    metadata = {} if table is None else table.schema.metadata or {}
    return str(metadata.get(SOURCE, b"").decode("utf-8", "replace"))


def _array(path: Path, name: str, column: pa.ChunkedArray) -> Any:
    """A copy that can be written to: compiled kernels take a read-only array for another type."""
    import pyarrow as pa

    if column.type != (pa.int64() if name == "timestamp" else pa.float64()):
        raise _unreadable(path)
    return np.from_dlpack(column.combine_chunks()).copy()  # `to_numpy` would import pandas


def _table(series: CandleSeries) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: pa.array(getattr(series, name)) for name in COLUMNS})


def _funding_table(funding: Funding) -> pa.Table:
    import pyarrow as pa

    columns = {
        "timestamp": pa.array(list(funding.rates), pa.int64()),
        RATE: pa.array([f"{rate:f}" for rate in funding.rates.values()], pa.string()),
    }
    return pa.table(columns).replace_schema_metadata({COVERED: json.dumps(funding.covered)})


def _replace(path: Path, table: pa.Table) -> None:
    """Write beside the file, to the disk, then put it in its place. What a crash leaves beside it is overwritten."""
    from pyarrow import parquet

    beside = path.with_name(f".{path.name}.part")
    with _disk(path):
        try:
            with beside.open("wb") as file:
                parquet.write_table(table, file, compression="zstd", use_dictionary=False)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError:
            beside.unlink(missing_ok=True)  # a full disk gets its space back
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """What the disk refuses, in one line."""
    try:
        yield
    except OSError as error:
        why = error.strerror or "the disk refuses"
        raise Transient(f"{path} cannot be written ({why}): check DATA_DIR and free space") from error
