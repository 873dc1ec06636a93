"""The candle archive: exact, sorted, merged, replaced as a whole; and a fingerprint that storing does not change."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from research.candles import load_candles
from research.synthetic import synthetic, write_candles
from storage.archive import COLUMNS, CandleArchive, Funding, _joined, fingerprint, missing, series_of
from tests.structure import ROOT
from trading.errors import BadInput, Transient
from trading.model import CandleSeries

BAR = 15 * 60_000
SERIES = synthetic("BTCUSDT", seed=3, bars=3000, interval_minutes=15)
FIRST = int(SERIES.timestamp[0])


@pytest.fixture
def archive(tmp_path: Path) -> CandleArchive:
    """An empty archive."""
    return CandleArchive(tmp_path)


def same(one: CandleSeries, other: CandleSeries) -> bool:
    """Bit by bit."""
    return all(getattr(one, name).tobytes() == getattr(other, name).tobytes() for name in COLUMNS)


def without(series: CandleSeries, *rows: int) -> CandleSeries:
    """The series with holes."""
    return series_of("BTCUSDT", 15, {name: np.delete(getattr(series, name), rows) for name in COLUMNS})


# ---- candles -------------------------------------------------------------------------------------


def test_what_is_stored_is_what_is_read(archive: CandleArchive) -> None:
    """Every double exactly, the symbol and the bar length with them."""
    archive.add(SERIES)
    read = archive.candles("BTCUSDT", 15)
    assert same(read, SERIES)
    assert (read.symbol, read.interval) == (SERIES.symbol, SERIES.interval)
    assert all(getattr(read, name).flags.writeable for name in COLUMNS)


def test_an_archive_of_nothing_is_empty(archive: CandleArchive) -> None:
    """Looking makes no folder."""
    assert len(archive.candles("BTCUSDT", 15)) == 0
    assert archive.funding("BTCUSDT").rates == {}
    assert not archive.folder.exists()


@given(cuts=st.lists(st.tuples(st.integers(0, 299), st.integers(1, 300)), min_size=1, max_size=6))
def test_pieces_in_any_order_make_the_whole(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, int]]
) -> None:
    """Overlapping, repeated, newest first: sorted and each bar once, and adding again changes nothing."""
    archive, whole = CandleArchive(tmp_path_factory.mktemp("pieces")), SERIES.between(0, 300)
    rows: set[int] = set()
    for start, length in cuts:
        piece = whole.between(start, start + length)
        rows |= set(range(start, start + len(piece)))
        assert same(archive.add(piece), without(whole, *(set(range(300)) - rows)))
    read = archive.candles("BTCUSDT", 15)
    assert same(read, without(whole, *(set(range(300)) - rows)))
    assert same(archive.add(read), read)


def test_of_two_bars_of_one_time_the_later_given_stays(archive: CandleArchive) -> None:
    """Within one batch, too: the exchange has the last word."""
    archive.add(SERIES.between(0, 10))
    columns = {name: np.repeat(getattr(SERIES, name)[5:6], 2) for name in COLUMNS}
    columns["close"] = np.array([1.25, 1.5])
    after = archive.add(series_of("BTCUSDT", 15, columns))
    assert len(after) == 10
    assert after.close[5] == 1.5


def test_adding_what_is_there_leaves_the_file_alone(archive: CandleArchive) -> None:
    """Not even written again."""
    archive.add(SERIES)
    before = archive.path("BTCUSDT", 15).stat().st_ino
    archive.add(SERIES.between(100, 200))
    assert archive.path("BTCUSDT", 15).stat().st_ino == before


def test_where_bars_came_from_is_kept(archive: CandleArchive) -> None:
    """The last word counts; bars that nobody said it of have none, and it is no part of the numbers."""
    assert archive.source("BTCUSDT", 15) == ""
    archive.add(SERIES.between(0, 10))
    assert archive.source("BTCUSDT", 15) == ""
    archive.add(SERIES.between(0, 20), "http://127.0.0.1:8765")
    archive.add(SERIES, "https://api.bybit.com")
    assert archive.source("BTCUSDT", 15) == "https://api.bybit.com"
    assert same(archive.candles("BTCUSDT", 15), SERIES)


def test_symbols_and_bar_lengths_lie_apart(archive: CandleArchive) -> None:
    """One file each."""
    other = synthetic("ETHUSDT", seed=3, bars=100, interval_minutes=240)
    archive.add(SERIES)
    archive.add(other)
    assert same(archive.candles("BTCUSDT", 15), SERIES)
    assert same(archive.candles("ETHUSDT", 240), other)
    assert len(archive.candles("BTCUSDT", 240)) == 0


def test_a_file_of_the_archive_is_a_candle_file(archive: CandleArchive) -> None:
    """`load_candles` takes it, by its name for what it is; with a gap in it, it says which bars are missing."""
    archive.add(SERIES)
    file = load_candles(archive.path("BTCUSDT", 15), known_symbols=("BTCUSDT", "ETHUSDT"))
    assert same(file.series, SERIES)
    assert (file.series.symbol, file.series.interval) == ("BTCUSDT", SERIES.interval)
    holed = CandleArchive(archive.folder / "holed")
    holed.add(without(SERIES, 7, 8))
    with pytest.raises(BadInput, match=r"2 bars are missing between"):
        load_candles(holed.path("BTCUSDT", 15), known_symbols=("BTCUSDT",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1 and no more",
        pa.table({"timestamp": [1, 2]}),
        pa.table({name: pa.array([3, 1], pa.int64() if name == "timestamp" else pa.float64()) for name in COLUMNS}),
        pa.table({name: pa.array([1, None], pa.int64() if name == "timestamp" else pa.float64()) for name in COLUMNS}),
        pa.table({name: pa.array([1, 2], pa.int64()) for name in COLUMNS}),
        pa.table({"timestamp": [1, 2], **{name: [1.0, 1.0] for name in COLUMNS[1:5]}, "volume": [1.0, math.nan]}),
    ],
    ids=["empty", "cut off", "columns", "unsorted", "holes in columns", "types", "numbers"],
)
def test_a_damaged_file_is_refused_by_name(archive: CandleArchive, content: bytes | pa.Table) -> None:
    """It says what to do, and adding to it does not overwrite it."""
    path = archive.path("BTCUSDT", 15)
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        parquet.write_table(content, path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"BTCUSDT-15\.parquet .* move it away"):
        archive.candles("BTCUSDT", 15)
    with pytest.raises(BadInput, match="move it away"):
        archive.add(SERIES)
    assert path.read_bytes() == before


@pytest.mark.parametrize("symbol", ["", "../BTCUSDT", "btcusdt", "A/B", ".", "A" * 41])
def test_a_symbol_that_is_no_file_name_is_refused(archive: CandleArchive, symbol: str) -> None:
    """Nothing is read or written outside of the folder."""
    with pytest.raises(BadInput, match="is no symbol"):
        archive.candles(symbol, 15)


# ---- the disk ------------------------------------------------------------------------------------


def test_writers_take_turns(archive: CandleArchive) -> None:
    """Eight at once, each with bars of its own: none is lost."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda at: archive.add(SERIES.between(at, at + 50)), range(0, 400, 50)))
    assert same(archive.candles("BTCUSDT", 15), SERIES.between(0, 400))


def test_a_reader_never_meets_half_a_file(archive: CandleArchive) -> None:
    """While another process is writing all the time, every look finds a whole series."""
    words = f"""
from pathlib import Path
from research.synthetic import synthetic
from storage.archive import CandleArchive
series = synthetic("BTCUSDT", seed=3, bars=3000, interval_minutes=15)
for stop in range(50, 3001, 50):
    CandleArchive(Path({str(archive.folder.parent)!r})).add(series.between(0, stop))
"""
    with subprocess.Popen([sys.executable, "-c", words], cwd=ROOT) as writer:
        seen = {0}
        while writer.poll() is None:
            read = archive.candles("BTCUSDT", 15)
            assert same(read, SERIES.between(0, len(read)))
            seen.add(len(read))
    assert writer.returncode == 0
    assert len(seen) > 3
    assert same(archive.candles("BTCUSDT", 15), SERIES)


def test_a_disk_that_refuses_costs_nothing_that_was_there(archive: CandleArchive) -> None:
    """`Transient` names the file; the old bars stay, and nothing is left beside them."""
    archive.add(SERIES.between(0, 10))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))  # the disk is full in the middle of the file
    try:
        with pytest.raises(Transient, match=r"BTCUSDT-15\.parquet cannot be written .* free space"):
            archive.add(SERIES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(archive.candles("BTCUSDT", 15), SERIES.between(0, 10))
    assert sorted(each.name for each in archive.folder.iterdir()) == [".lock", "BTCUSDT-15.parquet"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """DATA_DIR is a file."""
    (tmp_path / "data").write_text("")
    with pytest.raises(Transient, match="check DATA_DIR and free space"):
        CandleArchive(tmp_path / "data").add(SERIES)


def test_what_a_crash_left_beside_is_overwritten(archive: CandleArchive) -> None:
    """Half a file under the working name neither disturbs nor stays."""
    archive.add(SERIES.between(0, 10))
    beside = archive.folder / ".BTCUSDT-15.parquet.part"
    beside.write_bytes(b"half of a file")
    assert same(archive.add(SERIES), SERIES)
    assert not beside.exists()


# ---- gaps and fingerprints -----------------------------------------------------------------------


def test_missing_bars_are_found_as_runs() -> None:
    """Before, between and after; None where all are there."""
    series, stop = without(SERIES.between(2, 20), 3, 4, 9), FIRST + 22 * BAR

    def span(first: int, last: int) -> tuple[int, int]:
        return FIRST + first * BAR, FIRST + last * BAR

    assert missing(series, FIRST, stop) == [span(0, 1), span(5, 6), span(11, 11), span(20, 21)]
    assert missing(SERIES, FIRST, FIRST + len(SERIES) * BAR) == []
    assert missing(series_of("BTCUSDT", 15, {}), FIRST, stop) == [span(0, 21)]
    assert missing(series, FIRST, FIRST) == []


def test_the_fingerprint_is_of_the_numbers(tmp_path: Path) -> None:
    """The same through Parquet of another make, through CSV and as a cut-out; another with one bit changed."""
    archive = CandleArchive(tmp_path)
    archive.add(SERIES)
    other = tmp_path / "BTCUSDT-other.parquet"
    table = parquet.read_table(archive.path("BTCUSDT", 15))
    parquet.write_table(table, other, compression="gzip", row_group_size=100, use_dictionary=True)
    text = write_candles(SERIES, tmp_path / "BTCUSDT.csv.gz")
    wanted = fingerprint(SERIES)
    for file in (archive.path("BTCUSDT", 15), other, text):
        assert fingerprint(load_candles(file, known_symbols=("BTCUSDT",)).series) == wanted
    assert fingerprint(synthetic("BTCUSDT", seed=3, bars=4000, interval_minutes=15).between(0, 3000)) == wanted
    changed = {name: getattr(SERIES, name).copy() for name in COLUMNS}
    changed["volume"][1234] = np.nextafter(changed["volume"][1234], np.inf)
    assert fingerprint(series_of("BTCUSDT", 15, changed)) != wanted
    assert fingerprint(SERIES.between(0, 2999)) != wanted


# ---- funding -------------------------------------------------------------------------------------


def test_rates_keep_every_digit(archive: CandleArchive) -> None:
    """Decimals as they came, small ones without an exponent in the file."""
    rates = {28_800_000: Decimal("0.0001"), 57_600_000: Decimal("-0.00000001"), 0: Decimal("0.000100000000000001")}
    archive.add_funding("BTCUSDT", rates, (0, 60_000_000))
    read = archive.funding("BTCUSDT")
    assert dict(read.rates) == rates
    assert list(read.rates) == sorted(rates)
    assert parquet.read_table(archive.funding_path("BTCUSDT")).column("funding_rate").to_pylist() == [
        "0.000100000000000001",
        "0.0001",
        "-0.00000001",
    ]


def test_what_was_asked_for_is_remembered(archive: CandleArchive) -> None:
    """An answer without settlements is an answer; spans that touch become one."""
    archive.add_funding("BTCUSDT", {}, (100, 199))
    archive.add_funding("BTCUSDT", {350: Decimal("0.1")}, (300, 399))
    read = archive.funding("BTCUSDT")
    assert read.missing(0, 500) == [(0, 99), (200, 299), (400, 500)]
    assert read.missing(150, 350) == [(200, 299)]
    assert read.missing(100, 199) == []
    assert read.missing(250, 260) == [(250, 260)]
    assert read.missing(0, 99) == [(0, 99)]
    assert archive.add_funding("BTCUSDT", {}, (200, 299)).covered == ((100, 399),)


@given(spans=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=8), at=st.integers(0, 60))
def test_covered_and_missing_make_the_whole(spans: list[tuple[int, int]], at: int) -> None:
    """Whatever was asked for in whatever order."""
    covered: tuple[tuple[int, int], ...] = ()
    for first, length in spans:
        covered = _joined(covered, (first, first + length))
    known = {each for first, length in spans for each in range(first, first + length + 1)}
    found = Funding(covered=covered).missing(at, at + 20)
    assert {each for first, last in found for each in range(first, last + 1)} == set(range(at, at + 21)) - known


def test_a_damaged_funding_file_is_refused_by_name(archive: CandleArchive) -> None:
    """Rates that are no numbers."""
    archive.folder.mkdir()
    parquet.write_table(pa.table({"timestamp": [1], "funding_rate": ["much"]}), archive.funding_path("BTCUSDT"))
    with pytest.raises(BadInput, match=r"BTCUSDT-funding\.parquet .* move it away"):
        archive.funding("BTCUSDT")
