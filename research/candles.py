"""Candle and funding files: read whole, checked whole, refused with the first offending row named.

A candle file is Parquet, CSV or CSV.gz with the columns `timestamp` (bar open, UTC ms, whole) and
`open high low close volume`; other columns are ignored. What is refused is `BadInput`, one line that names
the file, the row (data rows count from 1, the header does not count), its timestamp, and what to do about it.
pyarrow reads both formats; pandas is not imported.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import re
import zlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trading.errors import BadInput
from trading.model import BoolArray, CandleSeries, FloatArray, IntArray, utc
from trading.parameters import near

if TYPE_CHECKING:
    import pyarrow as pa

PRICES = ("open", "high", "low", "close")
COLUMNS = ("timestamp", *PRICES, "volume")
WORTH_THREADS = 4_000_000  # bytes; a program that ends at once must not find threads that have just begun
DEFAULT_SYMBOL = "BTCUSDT"
MINUTE = 60_000
SETTLEMENT = 8 * 60 * MINUTE
LATEST = 253_370_764_800_000  # 9999-01-01, about the last that a datetime holds; micro- and nanoseconds lie beyond

# What a cell may hold, blanks around it aside; the words are read, and refused as not finite.
_NUMBER = r"^\s*-?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?\s*$"
_FLOAT = r"^\s*-?((\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?|(?i:nan|inf|infinity))\s*$"
_WHOLE = r"^\s*-?\d{1,18}\s*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class CandleFile:
    """A checked file. `sha256` is that of the file's bytes as they lie on disk; `first`, `last` in ms UTC."""

    series: CandleSeries
    path: Path
    sha256: str

    @property
    def rows(self) -> int:
        """Number of bars."""
        return len(self.series)

    @property
    def first(self) -> int:
        """Open time of the first bar, ms UTC."""
        return int(self.series.timestamp[0])

    @property
    def last(self) -> int:
        """Open time of the last bar, ms UTC."""
        return int(self.series.timestamp[-1])


class _Finding(NamedTuple):
    """Why a row (counted from 0) is refused."""

    row: int
    why: str


class _Table(NamedTuple):
    """Columns as numbers; `broken` is the first row that could not be read, where the arrays end."""

    columns: dict[str, Any]
    rows: int
    broken: _Finding | None
    stamp: str  # the broken row's timestamp, for a person


def load_candles(
    path: Path | str,
    *,
    symbol: str | None = None,
    interval_minutes: int | None = None,
    known_symbols: Collection[str],
) -> CandleFile:
    """Read and check a candle file. `BadInput` for anything that is not a gapless series of possible bars.

    The symbol is `symbol`, else the known symbol that the file's name begins with, else BTCUSDT.
    The timeframe is `interval_minutes`, else the smallest spacing of the rows: there always is one, as two
    rows are the least there may be.
    """
    path = Path(path)
    chosen = _symbol(path, symbol, known_symbols)
    content = _content(path)
    table = _read_table(path, content, COLUMNS)
    interval = _check(path, table, interval_minutes)
    series = CandleSeries(symbol=chosen, interval=timedelta(milliseconds=interval), **table.columns)
    return CandleFile(series=series, path=path, sha256=hashlib.sha256(content).hexdigest())


def load_funding(path: Path | str) -> dict[int, Decimal]:
    """Funding rates by settlement time (ms UTC, multiples of 8 h exactly), from CSV or CSV.gz.

    Columns `timestamp` and `funding_rate`, a fraction per settlement (0.0001 is one basis point); rates are
    the decimals of the file, never through a float. Missing settlements are no failure: the specification
    says what stands in for them.
    """
    path = Path(path)
    if path.name.lower().endswith(".parquet"):
        raise _refusal(path, "a funding file is .csv or .csv.gz with the columns timestamp and funding_rate")
    table = _read_table(path, _content(path), ("timestamp", "funding_rate"), exact=("funding_rate",))
    stamp: IntArray = table.columns["timestamp"]
    rates = [Decimal(text) for text in table.columns["funding_rate"]]
    large = np.fromiter((abs(rate) >= 1 for rate in rates), bool, len(rates))
    checks = (
        _first(large, lambda _: "funding_rate is a fraction (0.0001 is 0.01 %), not a percentage"),
        _first((stamp < 0) | (stamp >= LATEST), _misplaced),
        _disorder(stamp),
        _first(stamp % SETTLEMENT != 0, lambda _: "is no settlement time: write exact multiples of 8 h UTC"),
    )
    _refuse_first(path, table, checks)
    if not rates:
        raise _refusal(path, "has no rows: a funding file needs one for each settlement")
    return dict(zip(stamp.tolist(), rates, strict=True))


# Which symbol, which bytes


def _symbol(path: Path, symbol: str | None, known: Collection[str]) -> str:
    if symbol is not None:
        if symbol not in known:
            choice = ", ".join(sorted(known))
            raise BadInput(f"symbol {symbol!r} is not known{near(symbol, known)}: one of {choice}")
        return symbol
    name = path.name.upper()
    fitting = [each for each in known if re.match(rf"{re.escape(each.upper())}(?![A-Z])", name)]
    return max(fitting, key=len, default=DEFAULT_SYMBOL)


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise _refusal(path, "is a directory: name a .parquet, .csv or .csv.gz file in it")
        if not path.exists():
            raise _refusal(path, "does not exist: check the path")
        if not path.is_file():
            raise _refusal(path, "is not a regular file")
        content = path.read_bytes()
    except OSError as error:
        raise _refusal(path, f"cannot be read: {error.strerror or 'the system refuses'}") from error
    if not content:
        raise _refusal(path, "is empty: download it again")
    return content


def _refusal(path: Path, why: str) -> BadInput:
    return BadInput(" ".join(f"{path}: {why}".split()))


# From bytes to columns of numbers


def _read_table(path: Path, content: bytes, wanted: Sequence[str], exact: Sequence[str] = ()) -> _Table:
    """The wanted columns up to the first row that is no numbers; those in `exact` stay decimal text."""
    name, ragged = path.name.lower(), None
    if name.endswith(".parquet"):
        arrow = _read_parquet(path, content, wanted)
    elif name.endswith((".csv", ".csv.gz")):
        arrow, ragged = _read_csv(path, _unpacked(path, content), wanted, exact)
    else:
        raise _refusal(path, "is no .parquet, .csv or .csv.gz file: convert or rename it")
    columns, broken = {}, ragged
    for column in wanted:
        kind = "exact" if column in exact else "whole" if column == "timestamp" else "float"
        columns[column], finding = _numbers(path, column, arrow.column(column), kind)
        broken = _earlier(broken, finding)
    rows = broken.row if broken else arrow.num_rows
    stamp = _stamp(arrow.column("timestamp")[rows].as_py()) if broken and broken is not ragged else ""
    return _Table({key: column[:rows] for key, column in columns.items()}, rows, broken, stamp)


def _read_parquet(path: Path, content: bytes, wanted: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(pa.BufferReader(content))
        _check_names(path, file.schema_arrow.names, wanted)
        return file.read(columns=list(wanted), use_threads=len(content) > WORTH_THREADS)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:  # names and sizes can be damaged, too
        raise _refusal(path, "is not a readable Parquet file: download or write it again") from error


def _unpacked(path: Path, content: bytes) -> bytes:
    if not path.name.lower().endswith(".gz"):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise _refusal(path, "is not a readable gzip file: download or pack it again") from error


def _read_csv(
    path: Path, text: bytes, wanted: Sequence[str], exact: Sequence[str]
) -> tuple[pa.Table, _Finding | None]:
    """The table, and the first row that has not as many fields as the header.

    Well-formed files take the fast way: parsed as numbers, on several threads. Any other is read again as
    text, in order, so that the first offending row can be named.
    """
    import pyarrow as pa
    from pyarrow import csv

    header, _, body = text.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n").partition(b"\n")
    names = header.decode("utf-8", "replace").split(",")
    _check_names(path, [name.strip().strip('"') for name in names], wanted)
    if not body.strip():
        raise _refusal(path, "has no rows, only the header")
    types = {name: pa.binary() if name in exact else pa.float64() for name in wanted}
    types["timestamp"] = pa.int64()
    try:
        return csv.read_csv(pa.BufferReader(text), convert_options=_conversion(types)), None
    except (pa.ArrowException, OSError):
        return _read_csv_slowly(path, text, wanted)


def _read_csv_slowly(path: Path, text: bytes, wanted: Sequence[str]) -> tuple[pa.Table, _Finding | None]:
    import pyarrow as pa
    from pyarrow import csv

    ragged: list[_Finding] = []

    def skip(row: Any) -> str:
        if not ragged:
            why = f"has {row.actual_columns} fields where the header has {row.expected_columns}: mend the row"
            ragged.append(_Finding(row.number - 2, why))
        return "skip"

    readable = text.decode("utf-8", "replace").encode()
    try:
        table = csv.read_csv(
            pa.BufferReader(readable),
            read_options=csv.ReadOptions(use_threads=False),
            parse_options=csv.ParseOptions(invalid_row_handler=skip),
            convert_options=_conversion(dict.fromkeys(wanted, pa.binary())),
        )
    except (pa.ArrowException, OSError) as error:
        raise _refusal(path, "is not a readable CSV file: write it again with commas and a header") from error
    return table, ragged[0] if ragged else None


def _conversion(types: dict[str, Any]) -> Any:
    from pyarrow import csv

    return csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[""])


def _check_names(path: Path, names: Sequence[str], wanted: Sequence[str]) -> None:
    for column in wanted:
        if names.count(column) > 1:
            raise _refusal(path, f"column {column} appears twice: keep one of them")
        if column in names:
            continue
        others = {name.lower(): name for name in names if name not in wanted}
        close = difflib.get_close_matches(column, others, n=1, cutoff=0.6)
        hint = f" (did you mean {others[close[0]][:40]!r}?)" if close else ""
        raise _refusal(path, f"column {column} is missing{hint}: the columns must be {','.join(wanted)}")


def _numbers(path: Path, name: str, column: pa.ChunkedArray, kind: str) -> tuple[Any, _Finding | None]:
    """A column as int64 (`whole`), float64 (`float`) or decimal text (`exact`), and its first bad cell."""
    import pyarrow as pa

    is_type = pa.types
    if is_type.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    stored = column.type
    if is_type.is_binary(stored) or is_type.is_string(stored) or is_type.is_large_string(stored):
        return _from_text(name, column, kind)
    if is_type.is_integer(stored) or is_type.is_float64(stored) or is_type.is_decimal(stored):
        return _from_numbers(name, column, kind)
    if is_type.is_floating(stored):
        raise _refusal(path, f"column {name} is {stored}, too coarse for prices: write it as double")
    advice = "UTC milliseconds as int64" if kind == "whole" else "double"
    raise _refusal(path, f"column {name} is {stored}: write it as {advice}")


def _from_numbers(name: str, column: pa.ChunkedArray, kind: str) -> tuple[Any, _Finding | None]:
    import pyarrow as pa

    values: FloatArray = _plain(column.cast(pa.float64(), safe=False))  # an empty cell is NaN
    finding = _first(_plain(column.is_null()) != 0, lambda _: f"{name} is empty: fill it or remove the row")
    if kind == "float":
        return values, finding
    odd = ~(np.abs(values) < 2.0**62) | (np.trunc(values) != values)
    finding = _earlier(finding, _first(odd, lambda _: f"{name} must be whole UTC milliseconds"))
    usable = column.slice(0, finding.row) if finding else column
    return _plain(usable.cast(pa.int64())), finding


def _from_text(name: str, column: pa.ChunkedArray, kind: str) -> tuple[Any, _Finding | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    pattern = {"whole": _WHOLE, "float": _FLOAT, "exact": _NUMBER}[kind]
    raw = column.cast(pa.binary())
    numeric = _plain(pc.match_substring_regex(raw, pattern)) == 1  # an empty cell matches nothing
    finding = _first(~numeric, lambda row: _unreadable(name, kind, raw[row].as_py()))
    usable = raw.slice(0, finding.row) if finding else raw
    text = pc.utf8_trim_whitespace(usable.cast(pa.string()))
    if kind == "exact":
        return text.to_pylist(), finding
    return _plain(text.cast(pa.int64() if kind == "whole" else pa.float64())), finding


def _unreadable(name: str, kind: str, cell: bytes | None) -> str:
    if not cell:
        return f"{name} is empty: fill it or remove the row"
    wanted = "whole UTC milliseconds" if kind == "whole" else "a number with a decimal point"
    return f"{name} is {_written(cell)!r}, it must be {wanted}"


def _written(cell: object) -> str:
    text = cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell)
    return text if len(text) <= 40 else text[:39] + "…"


def _stamp(cell: object) -> str:
    """A row's timestamp as it stands in the file, with its date where it is one."""
    text = "" if cell is None else _written(cell).strip()
    return f"{text}, {_when(int(text))}" if re.fullmatch(r"\d{1,15}", text) and int(text) < LATEST else text


def _plain(column: pa.ChunkedArray) -> Any:
    """A numpy copy, booleans as uint8. Through DLPack, because arrow's own `to_numpy` imports pandas; a copy,
    because arrow's memory is read-only, which compiled kernels take for another type.
    """
    import pyarrow as pa

    array = column.combine_chunks()
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.uint8())
    if array.null_count:  # on the way to a refusal, where time does not matter
        return np.array(array.to_numpy(zero_copy_only=False))
    return np.from_dlpack(array).copy()


# What a series of bars must be


def _check(path: Path, table: _Table, interval_minutes: int | None) -> int:
    """The bar length in ms of a table of possible, ordered, gapless bars; anything else is refused."""
    if interval_minutes is not None and interval_minutes < 1:
        raise BadInput(f"--interval {interval_minutes} is no timeframe: give whole minutes, 1 or more")
    columns, stamp = table.columns, table.columns["timestamp"]
    findings = [_impossible(columns), _first((stamp < 0) | (stamp >= LATEST), _misplaced)]
    spacing, disorder = 0, _disorder(stamp)
    if disorder is None and table.rows >= 2:
        steps = np.diff(stamp)
        spacing = int(steps.min())
        disorder = _gap(stamp, steps, spacing, interval_minutes)
    _refuse_first(path, table, [*findings, disorder])
    if table.rows < 2:
        raise _refusal(path, f"has {'1 row' if table.rows else 'no rows'}: at least 2 are needed")
    return spacing


def _refuse_first(path: Path, table: _Table, findings: Sequence[_Finding | None]) -> None:
    """Refuse the earliest row of all findings; of one row's, the first listed."""
    finding = _earlier(*findings, table.broken)
    if finding is None:
        return
    stamp = table.stamp
    if finding.row < table.rows:
        stamp = _stamp(int(table.columns["timestamp"][finding.row]))
    where = f"row {finding.row + 1}" + (f" (timestamp {stamp})" if stamp else "")
    raise _refusal(path, f"{where}: {finding.why}")


def _earlier(*findings: _Finding | None) -> _Finding | None:
    return min(filter(None, findings), default=None, key=lambda finding: finding.row)


def _first(bad: BoolArray, why: Callable[[int], str]) -> _Finding | None:
    row = int(np.argmax(bad)) if len(bad) else 0
    return _Finding(row, why(row)) if len(bad) and bad[row] else None


def _impossible(columns: dict[str, FloatArray]) -> _Finding | None:
    """The first row whose numbers no bar can have; every comparison is written so that NaN fails it."""
    open_, high, low, close = (columns[name] for name in PRICES)
    volume = columns["volume"]
    top, bottom = np.maximum(open_, close), np.minimum(open_, close)
    sound = (low > 0) & (low <= bottom) & (high >= top) & (high < np.inf) & (volume >= 0) & (volume < np.inf)
    return _first(~sound, lambda row: _flaw({name: float(columns[name][row]) for name in COLUMNS[1:]}))


def _flaw(bar: dict[str, float]) -> str:
    for name, value in bar.items():
        if not np.isfinite(value):
            return f"{name} is {value}, not a finite number: mend or download the file again"
        if name in PRICES and value <= 0:
            return f"{name} is {value:g}: a price must be greater than 0"
    if bar["volume"] < 0:
        return f"volume is {bar['volume']:g}: it must not be negative"
    for name in ("open", "close"):
        if bar["high"] < bar[name]:
            return f"impossible bar: high {bar['high']!r} is below {name} {bar[name]!r}"
        if bar["low"] > bar[name]:
            return f"impossible bar: low {bar['low']!r} is above {name} {bar[name]!r}"
    return "impossible bar"


def _misplaced(_: int) -> str:
    return "lies outside the years 1970 to 9998: timestamps are milliseconds since 1970 UTC"


def _disorder(stamp: IntArray) -> _Finding | None:
    """The first row that does not open after the row above it."""
    late = np.zeros(len(stamp), dtype=bool)
    late[1:] = stamp[1:] <= stamp[:-1]

    def why(row: int) -> str:
        if stamp[row] == stamp[row - 1]:
            return "duplicated: it repeats the timestamp of the row above it, remove one of the two"
        return "unsorted: it is earlier than the row above it, sort the file by timestamp"

    return _first(late, why)


def _gap(stamp: IntArray, steps: IntArray, spacing: int, interval_minutes: int | None) -> _Finding | None:
    """The first row that does not open one bar after the row above it, or that the timeframe does not fit."""
    closest = int(np.argmin(steps)) + 1
    if spacing % MINUTE:
        why = f"opens {spacing / 1000:g} s after the row above it: bars are whole minutes apart, times in ms"
        return _Finding(closest, why)
    minutes = spacing // MINUTE
    if interval_minutes is not None and minutes % interval_minutes:
        why = f"opens {minutes} minutes after the row above it, which is no multiple of {interval_minutes}"
        return _Finding(closest, f"{why}: leave --interval out or give {minutes}")
    bar = spacing if interval_minutes is None else interval_minutes * MINUTE

    def why_gapped(row: int) -> str:
        before, after = int(stamp[row]), int(stamp[row + 1])
        if (after - before) % bar:
            minutes = f"{(after - before) / MINUTE:g} minutes"
            return f"opens {minutes} after the row above it, bars are {bar // MINUTE} long: mend it"
        missing = (after - before) // bar - 1
        bars = "bar is" if missing == 1 else "bars are"
        between = f"between {_when(before)} and {_when(after)}"
        return f"gapped: {missing} {bars} missing {between}, fetch the span again"

    found = _first(steps != bar, why_gapped)
    return _Finding(found.row + 1, found.why) if found else None


def _when(ms: int) -> str:
    at = utc(ms)
    return at.strftime("%Y-%m-%d %H:%M:%S" if ms % MINUTE else "%Y-%m-%d %H:%M") + " UTC"
