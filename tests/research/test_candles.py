"""Candle and funding files: what is read, and that every refusal is one line that names the row."""

from __future__ import annotations

import gzip
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.candles import CandleFile, load_candles, load_funding
from tests.structure import ROOT
from trading.errors import BadInput

KNOWN = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
START = 1_700_006_400_000
HOUR = 3_600_000
EIGHT = START + 8 * HOUR
HEADER = "timestamp,open,high,low,close,volume"


def rows(count: int = 6, *, step: int = HOUR, start: int = START) -> list[str]:
    """Sound CSV rows."""
    return [f"{start + k * step},{100 + k},{102 + k}.5,{99 + k}.25,{101 + k},{k}" for k in range(count)]


def csv_file(folder: Path, lines: list[str], *, header: str = HEADER, name: str = "BTCUSDT-1h.csv") -> Path:
    path = folder / name
    text = "\n".join([header, *lines]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def columns(count: int = 6) -> dict[str, Any]:
    """Sound columns."""
    at = np.arange(count, dtype=np.float64)
    stamp = START + np.arange(count, dtype=np.int64) * HOUR
    return {
        "timestamp": stamp,
        "open": 100 + at,
        "high": 102.5 + at,
        "low": 99.25 + at,
        "close": 101 + at,
        "volume": at,
    }


def parquet_file(folder: Path, data: dict[str, Any], name: str = "BTCUSDT-1h.parquet") -> Path:
    path = folder / name
    pq.write_table(pa.table(data), path)
    return path


def load(path: Path, **options: Any) -> CandleFile:
    return load_candles(path, known_symbols=KNOWN, **options)


def refusal(path: Path, **options: Any) -> str:
    """The line with which a file is refused; it is one line and begins with the file."""
    with pytest.raises(BadInput) as caught:
        load(path, **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


@pytest.mark.parametrize("name", ["BTCUSDT-1h.csv", "BTCUSDT-1h.csv.gz", "BTCUSDT-1H.CSV"])
def test_csv_is_read_as_it_is_written(tmp_path: Path, name: str) -> None:
    """Values, times, spacing, symbol and the hash of the file's bytes."""
    path = csv_file(tmp_path, rows(), name=name)
    file = load(path)
    series = file.series
    assert (series.symbol, series.interval, file.rows) == ("BTCUSDT", timedelta(hours=1), 6)
    assert (file.first, file.last) == (START, START + 5 * HOUR)
    assert file.sha256 == sha256(path.read_bytes()).hexdigest()
    for column, wanted in columns().items():
        got = getattr(series, column)
        assert got.dtype == wanted.dtype
        assert got.flags.writeable
        assert np.array_equal(got, wanted)


def test_parquet_and_csv_agree(tmp_path: Path) -> None:
    """Every format of one series is the same series."""
    one, other = load(csv_file(tmp_path, rows())).series, load(parquet_file(tmp_path, columns())).series
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns())


def test_parquet_takes_what_holds_the_same_numbers(tmp_path: Path) -> None:
    """Integers, decimals, dictionaries, text and whole floats; other columns are ignored."""
    data = columns()
    data["timestamp"] = data["timestamp"].astype(np.float64)
    data["volume"] = data["volume"].astype(np.uint32)
    data["close"] = pa.array([Decimal(f"{value:.2f}") for value in data["close"].tolist()])
    data["low"] = pa.array([repr(value) for value in data["low"].tolist()])
    data["open"] = pa.array(data["open"]).dictionary_encode()
    data["turnover"] = pa.array(["?"] * 6)
    series = load(parquet_file(tmp_path, data)).series
    assert all(np.array_equal(getattr(series, name), wanted) for name, wanted in columns().items())


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + "\n".join([HEADER, *rows()]),
        "\r\n".join([HEADER, *rows(), ""]),
        "\n".join(["volume,close,low,high,open,timestamp,x"]
                  + [",".join([*reversed(row.split(",")), "?"]) for row in rows()]),
        "\n".join([HEADER.replace("open", '"open"'), *(row.replace(",", ", ") for row in rows())]),
    ],
    ids=["byte order mark", "carriage returns", "other order", "quotes and blanks"],
)  # fmt: skip
def test_csv_dialects(tmp_path: Path, text: str) -> None:
    """What spreadsheets and other systems make of such a file is read too."""
    path = tmp_path / "BTCUSDT.csv"
    path.write_bytes(text.encode())
    assert np.array_equal(load(path).series.close, columns()["close"])


@pytest.mark.parametrize(
    ("name", "symbol", "wanted"),
    [
        ("ETHUSDT-1h.csv", None, "ETHUSDT"),
        ("ETHUSDT.csv", None, "ETHUSDT"),
        ("ethusdt_60.csv", None, "ETHUSDT"),
        ("SOLUSDT15m.csv", None, "SOLUSDT"),
        ("SOLUSDTM-1h.csv", None, "BTCUSDT"),
        ("candles.csv", None, "BTCUSDT"),
        ("old-ETHUSDT.csv", None, "BTCUSDT"),
        ("ETHUSDT-1h.csv", "SOLUSDT", "SOLUSDT"),
    ],
)
def test_symbol_of_a_file(tmp_path: Path, name: str, symbol: str | None, wanted: str) -> None:
    """--symbol, else the known symbol that the name begins with, else BTCUSDT."""
    assert load(csv_file(tmp_path, rows(), name=name), symbol=symbol).series.symbol == wanted


def test_unknown_symbol_is_refused_with_a_hint(tmp_path: Path) -> None:
    """A symbol without trading rules cannot be traded."""
    with pytest.raises(BadInput, match=r"'ETHUSD' is not known \(did you mean ETHUSDT\?\)"):
        load(csv_file(tmp_path, rows()), symbol="ETHUSD")


def without(text: str) -> list[str]:
    """Sound rows but those that contain a text."""
    return [row for row in rows() if text not in row]


def mended(row: int, change: Callable[[str], str]) -> list[str]:
    """Sound rows with one of them (counted from 1) changed."""
    lines = rows()
    lines[row - 1] = change(lines[row - 1])
    return lines


def cell(row: int, column: str, value: str) -> list[str]:
    """Sound rows with one cell replaced."""
    place = HEADER.split(",").index(column)

    def change(line: str) -> str:
        cells = line.split(",")
        cells[place] = value
        return ",".join(cells)

    return mended(row, change)


THIRD = f"row 3 (timestamp {START + 2 * HOUR}, 2023-11-15 02:00 UTC): "
BAD_ROWS = {
    "not a number": (cell(3, "high", "abc"), THIRD + "high is 'abc', it must be a number"),
    "decimal comma": (cell(3, "high", '"102,5"'), THIRD + "high is '102,5'"),
    "bytes": (cell(3, "low", "\udcff"), THIRD + "low is"),
    "long text": (cell(3, "low", "x" * 500), "x" * 39 + "…"),
    "empty cell": (cell(3, "volume", ""), THIRD + "volume is empty"),
    "nan": (cell(3, "volume", "nan"), THIRD + "volume is nan, not a finite number"),
    "infinite": (cell(3, "high", "inf"), THIRD + "high is inf, not a finite number"),
    "overflow": (cell(3, "high", "1e999"), THIRD + "high is inf, not a finite number"),
    "negative infinite": (cell(3, "low", "-inf"), THIRD + "low is -inf"),
    "zero price": (cell(3, "low", "0"), THIRD + "low is 0: a price must be greater than 0"),
    "negative price": (cell(3, "open", "-5"), THIRD + "open is -5"),
    "negative volume": (cell(3, "volume", "-1"), THIRD + "volume is -1: it must not be negative"),
    "low above open": (cell(3, "low", "102.5"), THIRD + "impossible bar: low 102.5 is above open 102.0"),
    "low above close": (cell(3, "close", "99.5"), THIRD + "impossible bar: low 101.25 is above close 99.5"),
    "high below close": (cell(3, "high", "102.5"), THIRD + "impossible bar: high 102.5 is below close 103.0"),
    "duplicated": ([*rows()[:2], *rows()[1:]], "row 3 (timestamp 1700010000000, 2023-11-15 01:00 UTC)"),
    "unsorted": ([*rows()[:2], rows()[0]], "row 3 (timestamp 1700006400000, 2023-11-15 00:00 UTC): uns"),
    "reversed": (rows()[::-1], "row 2 (timestamp 1700020800000, 2023-11-15 04:00 UTC): unsorted"),
    "one gap": (
        without("1700013600000"),
        "UTC): gapped: 1 bar is missing between 2023-11-15 01:00 UTC and 2023-11-15 03:00 UTC",
    ),
    "a long gap": (rows(3) + rows(3, start=START + 50 * HOUR), "gapped: 47 bars are missing between"),
    "off the grid": (
        [*rows(3), *rows(3, start=START + 4 * HOUR + 60_000)],
        "row 4 (timestamp 1700020860000, 2023-11-15 04:01 UTC): opens 121 minutes after the row above it",
    ),
    "seconds": (
        [row.replace("00000,", "00,", 1) for row in rows()],
        "row 2 (timestamp 1700010000, 1970-01-20 16:13:30 UTC): opens 3.6 s after",
    ),
    "microseconds": ([row.replace(",", "000,", 1) for row in rows()], "row 1 (timestamp 1700006400000000)"),
    "date": (cell(3, "timestamp", "2023-11-15"), "row 3 (timestamp 2023-11-15): timestamp is '2023-11-15'"),
    "float time": (cell(3, "timestamp", "1.7e12"), "row 3 (timestamp 1.7e12): timestamp is '1.7e12'"),
    "no time": (cell(3, "timestamp", ""), "row 3: timestamp is empty"),
    "negative time": (rows(3, start=-HOUR), "row 1 (timestamp -3600000): lies outside"),
    "short row": (mended(3, lambda row: row.rsplit(",", 1)[0]), "row 3: has 5 fields where the header has 6"),
    "long row": (mended(3, lambda row: row + ",7"), "row 3: has 7 fields where the header has 6"),
    "one row": (rows(1), "has 1 row: at least 2 are needed"),
    "no rows": ([], "has no rows, only the header"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_the_offending_row_is_named(tmp_path: Path, case: str) -> None:
    """Row number, its timestamp and what is wrong with it."""
    lines, wanted = BAD_ROWS[case]
    path = tmp_path / "BTCUSDT-1h.csv"
    path.write_bytes("\n".join([HEADER, *lines]).encode("utf-8", "surrogateescape"))
    assert wanted in refusal(path)


def test_the_first_of_several_faults_is_named(tmp_path: Path) -> None:
    """Whatever kind they are of: the earliest row counts."""
    faults = {2: ("low", "nan"), 4: ("high", "abc"), 5: ("volume", "-1")}
    for skipped in ((), (2,), (2, 4)):
        lines = rows(9)
        del lines[6]  # and a gap
        for row, (column, value) in faults.items():
            if row not in skipped:
                cells = lines[row - 1].split(",")
                cells[HEADER.split(",").index(column)] = value
                lines[row - 1] = ",".join(cells)
        lines[7] = "1,2"  # and a row that is cut off
        assert f"row {min(set(faults) - set(skipped))} " in refusal(csv_file(tmp_path, lines))


@pytest.mark.parametrize(
    ("interval", "wanted"),
    [
        (15, "row 2 (timestamp 1700010000000, 2023-11-15 01:00 UTC): gapped: 3 bars are missing"),
        (25, "opens 60 minutes after the row above it, which is no multiple of 25"),
        (240, "which is no multiple of 240: leave --interval out or give 60"),
    ],
)  # fmt: skip
def test_timeframe_must_fit(tmp_path: Path, interval: int, wanted: str) -> None:
    """--interval says how long a bar is; the rows have to agree."""
    path = csv_file(tmp_path, rows())
    assert wanted in refusal(path, interval_minutes=interval)
    assert load(path, interval_minutes=60).series.interval == timedelta(hours=1)


@pytest.mark.parametrize("interval", [0, -5])
def test_timeframe_must_be_positive(tmp_path: Path, interval: int) -> None:
    """Nothing lasts no time."""
    with pytest.raises(BadInput, match="--interval"):
        load(csv_file(tmp_path, rows()), interval_minutes=interval)


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (HEADER.replace("volume", "vol"), "column volume is missing (did you mean 'vol'?): the columns"),
        (HEADER.title(), "column timestamp is missing (did you mean 'Timestamp'?)"),
        (HEADER.replace(",", ";"), "column timestamp is missing"),
        (HEADER.replace("high", "open"), "column open appears twice"),
        (rows()[0], "column timestamp is missing: the columns must be timestamp,open,high,low,close,volume"),
        ("", "column timestamp is missing"),
    ],
)
def test_columns_are_named(tmp_path: Path, header: str, wanted: str) -> None:
    """A missing column is named, with the one that was perhaps meant."""
    assert wanted in refusal(csv_file(tmp_path, rows(), header=header))


@pytest.mark.parametrize(
    ("column", "values", "wanted"),
    [
        ("close", np.zeros(6, np.float32), "column close is float, too coarse for prices"),
        ("close", np.zeros(6, bool), "column close is bool: write it as double"),
        ("timestamp", np.zeros(6, "datetime64[ms]"), "column timestamp is timestamp[ms]: write it as UTC"),
        ("close", [[1.0]] * 6, "column close is list"),
        ("close", [101.0, None, 103.0, 104.0, 105.0, 106.0], "row 2 (timestamp 1700010000000, 2023-11-15"),
        ("close", pa.nulls(6), "column close is null"),
        ("timestamp", [START, None, None, 1, 2, 3], "row 2: timestamp is empty"),
        ("timestamp", [START, START + 0.5, 1, 1, 2, 3], "row 2 (timestamp 1700006400000.5): timestamp must"),
        ("volume", ["1", "2", None, "4", "5", "6"], "row 3 (timestamp 1700013600000"),
    ],
)  # fmt: skip
def test_parquet_types(tmp_path: Path, column: str, values: Any, wanted: str) -> None:
    """A column that holds no numbers is refused by name, a cell by row."""
    assert wanted in refusal(parquet_file(tmp_path, {**columns(), column: values}))


def test_files_that_are_none(tmp_path: Path) -> None:
    """Missing, a directory, empty, of another kind, or broken."""
    (tmp_path / "folder.csv").mkdir()
    files = {
        "empty.csv": (b"", "is empty"),
        "empty.parquet": (b"", "is empty"),
        "text.parquet": (HEADER.encode(), "is not a readable Parquet file"),
        "plain.csv.gz": (HEADER.encode(), "is not a readable gzip file"),
        "cut.csv.gz": (gzip.compress(HEADER.encode())[:-9], "is not a readable gzip file"),
        "blank.csv": (b"\n\n\n", "column timestamp is missing"),
        "binary.csv": (bytes(range(256)), "column timestamp is missing"),
        "candles.feather": (b"ARROW1", "is no .parquet, .csv or .csv.gz file"),
    }
    for name, (content, wanted) in files.items():
        (tmp_path / name).write_bytes(content)
        assert wanted in refusal(tmp_path / name)
    assert "does not exist" in refusal(tmp_path / "nowhere.csv")
    assert "is a directory" in refusal(tmp_path / "folder.csv")
    with pytest.raises(BadInput):
        load(tmp_path / "null\0byte.csv")
    with pytest.raises(BadInput, match="cannot be read"):
        load(tmp_path / ("x" * 5000))


def test_a_damaged_column_name_is_refused(tmp_path: Path) -> None:
    """Names that are no text any more make pyarrow fail in a way of its own."""
    path = parquet_file(tmp_path, columns())
    path.write_bytes(path.read_bytes().replace(b"volume", b"vol\xffme"))
    assert "is not a readable Parquet file" in refusal(path)


def read_or_refused(path: Path) -> bool:
    """Whether a file is read as a series, or refused with one line."""
    try:
        return load(path).rows >= 2
    except BadInput as error:
        return "\n" not in str(error)


def test_damaged_files_are_refused_or_read_never_more(tmp_path: Path) -> None:
    """Whatever bytes are flipped or cut off: a series, or a refusal of one line."""
    generator = random.Random(7)
    packed = csv_file(tmp_path, rows(50), name="BTCUSDT.csv.gz")
    for path in (parquet_file(tmp_path, columns(50)), packed, csv_file(tmp_path, rows(50))):
        sound = path.read_bytes()
        for _ in range(300):
            damaged, size = bytearray(sound), len(sound)
            for _ in range(generator.randrange(1, 4)):
                damaged[generator.randrange(size)] = generator.randrange(256)
            path.write_bytes(damaged[: generator.choice([size, generator.randrange(1, size)])])
            assert read_or_refused(path)


CELL = st.floats() | st.integers() | st.text(max_size=4)


@given(cells=st.lists(st.lists(CELL, min_size=6, max_size=6), max_size=4))
def test_any_rows_are_refused_or_read(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[object]]
) -> None:
    """Whatever stands in the rows: a series, or a refusal of one line."""
    path = tmp_path_factory.mktemp("any") / "any.csv"
    text = "\n".join([HEADER, *(",".join(map(str, row)) for row in cells)])
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert read_or_refused(path)


def test_pandas_stays_out(tmp_path: Path) -> None:
    """Reading any sound file does not import pandas, which would cost a second."""
    names = [str(csv_file(tmp_path, rows())), str(parquet_file(tmp_path, columns()))]
    code = (
        "import sys; from research.candles import load_candles\n"
        f"for name in {names!r}: load_candles(name, known_symbols=['BTCUSDT'])\n"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_recorded_candles_are_gapless(test_data: Path) -> None:
    """Every recorded file passes, and its name says what it holds."""
    minutes = {"1m": 1, "5m": 5, "15m": 15, "1h": 60}
    paths = sorted(test_data.glob("*/*.parquet"))
    assert paths
    for path in paths:
        symbol, interval, *_ = path.name.split("-")
        series = load(path).series
        assert (series.symbol, series.interval) == (symbol, timedelta(minutes=minutes[interval]))


# Funding


def funding_file(folder: Path, lines: list[str], *, header: str = "timestamp,funding_rate") -> Path:
    path = folder / "funding.csv.gz"
    path.write_bytes(gzip.compress("\n".join([header, *lines]).encode()))
    return path


def test_funding_is_exact(tmp_path: Path) -> None:
    """Rates keep the decimals they were written with; missing settlements are no failure."""
    path = funding_file(tmp_path, [f"{START},0.0001", f"{EIGHT},-1.004e-05", f"{EIGHT + 24 * HOUR},0"])
    wanted = {START: Decimal("0.0001"), EIGHT: Decimal("-0.00001004"), EIGHT + 24 * HOUR: Decimal(0)}
    assert load_funding(path) == wanted


BAD_FUNDING = {
    "between": ([f"{START},0", f"{START + HOUR},0"], "row 2 (timestamp 1700010000000, 2023-11-15 01:00 UTC)"),
    "a millisecond late": ([f"{START + 1},0.1"], "row 1 (timestamp 1700006400001, 2023-11-15 00:00:00 UTC)"),
    "a percentage": ([f"{START},0.1", f"{EIGHT},1.5"], "row 2 (timestamp 1700035200000, 2023-11-15"),
    "not a number": ([f"{START},abc"], "funding_rate is 'abc'"),
    "nan": ([f"{START},nan"], "funding_rate is 'nan'"),
    "empty": ([f"{START},"], "funding_rate is empty"),
    "twice": ([f"{START},0.1", f"{START},0.1"], "row 2"),
    "unsorted": ([f"{EIGHT},0.1", f"{START},0.1"], "row 2"),
    "far future": (["28800000000000000,0.1"], "row 1 (timestamp 28800000000000000): lies outside"),
    "ragged": ([f"{START},0.1", "1"], "row 2: has 1 fields"),
    "no rows": ([], "has no rows"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FUNDING)
def test_funding_refusals_name_the_row(tmp_path: Path, case: str) -> None:
    """Only exact settlement times and fractions are funding rates."""
    lines, wanted = BAD_FUNDING[case]
    with pytest.raises(BadInput) as caught:
        load_funding(funding_file(tmp_path, lines))
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


def test_funding_columns_and_format(tmp_path: Path) -> None:
    """A near match is offered, and Parquet is not a funding file."""
    with pytest.raises(BadInput, match="column funding_rate is missing"):
        load_funding(funding_file(tmp_path, [f"{START},0.1"], header="timestamp,rate"))
    with pytest.raises(BadInput, match=r"a funding file is \.csv"):
        load_funding(parquet_file(tmp_path, columns()))


def test_recorded_funding_is_exact(test_data: Path) -> None:
    """Every recorded settlement lies on a multiple of eight hours, none missing."""
    paths = sorted(test_data.glob("funding/*"))
    assert paths
    for path in paths:
        times = list(load_funding(path))
        assert all(b - a == 8 * HOUR for a, b in pairwise(times))
