"""The desk: candles found, studies done once, one at a time, ended when nobody wants them; and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.candles import load_candles
from research.desk import QUEUE, Desk, identity, workbook_name
from research.lab import Lab, Task, done
from research.results import Report
from research.sources import (
    MOST_BARS,
    ArchiveSource,
    CandleSource,
    FileSource,
    FirstOf,
    FromArchive,
    MadeUp,
    MadeUpSource,
    Origin,
    Tell,
    archived,
    from_file,
    resampled,
)
from research.studio import Studio
from research.study import finding
from research.synthetic import synthetic, write_candles
from research.worker import Pieces
from storage.archive import CandleArchive, fingerprint
from storage.database import Database, open_database
from storage.runs import Runs
from storage.trials import Tried
from tests.stand_ins.laboratory import SmallResearch
from tests.structure import ROOT
from trading.errors import BadInput, Transient
from trading.laboratory import Laboratory, Progress, Study
from trading.model import CandleSeries
from trading.parameters import AccountTerms, InstrumentTerms, TradeRules
from trading.pictures import Theme
from trading.strategy.ema_trend import EmaTrendParameters

SOON = 20.0  # seconds within which what is waited for happens, on a machine that is busy with other tests
NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)
STUDY = Study(
    kind="backtest", symbol="BTCUSDT", interval=240, days=200, strategy="ema_trend", values={"ema_period": 50}
)
MARKET = MadeUpSource(seed=7)
COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")


def nobody(_: Progress) -> None:
    """Does not listen."""


class Draughtsman:
    """A renderer that counts, and looks whether it was given a report."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.warmed = 0

    def warm(self) -> None:
        """Counts."""
        self.warmed += 1

    async def render(self, report: Pieces, theme: Theme) -> tuple[bytes, bytes]:
        """Not files, but as many bytes as are needed to tell them apart."""
        self.reports.append(pickle.loads(b"".join(report)))  # noqa: S301 - our own laboratory wrote it
        return f"chart {len(self.reports)} {theme}".encode(), b"workbook"


class Room:
    """A desk with all that belongs to it."""

    def __init__(self, db: Database, folder: Path, **terms: Any) -> None:
        self.folder = folder
        self.lab = Lab(module="tests.stand_ins.laboratory", **({"jobs": 2} | terms))
        self.draughtsman = Draughtsman()
        self.runs = Runs(db, folder / "research")
        self.desk = self.at(MARKET)

    def at(self, source: CandleSource, theme: Theme = "dark") -> Desk:
        """A desk with another source."""
        return Desk(
            lab=self.lab,
            renderer=self.draughtsman,
            runs=self.runs,
            source=source,
            folder=self.folder,
            wall=lambda: NOW,
            theme=theme,
        )

    def done(self) -> list[list[str]]:
        """What the laboratory has done: process, symbol, trials, jobs, rates."""
        file = self.folder / "done"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    async def at_it(self, study: Study, tell: Callable[[Progress], None] = nobody) -> asyncio.Task[Any]:
        """A study that the laboratory is at, and stays at until `hold` is gone."""
        (self.folder / "hold").touch()
        begun = asyncio.Event()

        def told(progress: Progress) -> None:
            tell(progress)
            if progress.stage == "holding":
                begun.set()

        task = asyncio.create_task(self.desk.find(study, told))
        async with asyncio.timeout(SOON):
            await begun.wait()
        return task

    def release(self) -> None:
        """Let studies come to their end."""
        (self.folder / "hold").unlink()


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    db = await open_database(tmp_path / "conclave.db")
    made = Room(db, tmp_path)
    yield made
    await made.desk.close()
    await db.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(SOON):
        while not holds():  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0.005)


def gone(pid: int) -> bool:
    """Whether there is no such process; a dead one nobody asked about is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return True


def same(one: CandleSeries, other: CandleSeries) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


# ---- studies -----------------------------------------------------------------------------------------------------


async def test_a_study_is_done_drawn_and_kept(room: Room) -> None:
    """The finding is that of the report, the files are the renderer's, and the run is on the list."""
    told: list[Progress] = []
    laboratory: Laboratory = room.desk
    found = await laboratory.find(STUDY, told.append)
    assert (found.run, found.chart, found.workbook) == (1, b"chart 1 dark", b"workbook")
    assert room.draughtsman.warmed == 1  # while the study was being done
    assert found.workbook_name == "BTCUSDT-240m-backtest-1.xlsx" == workbook_name(STUDY, 1)
    assert found.finding.study == STUDY
    assert not found.finding.cached
    assert found.finding.made_up
    (report,) = room.draughtsman.reports
    assert same(report.result.series, synthetic("BTCUSDT", seed=7, bars=1200).tail(600))
    assert [each.stage for each in told][-1] == "drawing"
    assert await laboratory.runs(5) == [(1, int(NOW.timestamp() * 1000), found.finding)]
    assert await laboratory.run(1) == found.finding
    assert await laboratory.run(2) is None


async def test_the_same_study_answers_from_disk(room: Room) -> None:
    """In well under half a second, by its number, without a process; whole numbers are the numbers they are."""
    first = await room.desk.find(STUDY, nobody)
    await room.lab.close()
    began = time.perf_counter()
    again = await room.desk.find(replace(STUDY, values={"ema_period": 50.0}), nobody)
    assert time.perf_counter() - began < 0.5
    assert again == replace(first, finding=replace(first.finding, cached=True))
    assert len(room.done()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"values": {"ema_period": 51.0}},
        {"days": 201},
        {"interval": 60},
        {"symbol": "ETHUSDT"},
        {"kind": "optimize", "grid": (("ema_period", (40.0, 50.0)),)},
        {"objective": "calmar"},
        {"folds": 4},
        {"strategy": "mean_reversion"},
        {"council": "rules"},
    ],
)
def test_another_question_is_another_one(change: dict[str, Any]) -> None:
    """Whatever differs; so does another program's answer, and a chart in other colours."""

    def asked(study: Study, program: str = "1", theme: Theme = "dark") -> tuple[str, str]:
        origin = MadeUp(symbol=study.symbol, seed=7, bars=(study.days or 0) * 6, interval=study.interval)
        found = identity(study, origin, program=program, theme=theme)
        return found.question, found.source

    known = asked(STUDY)
    assert asked(replace(STUDY, **change)) != known
    assert asked(STUDY, program="2") != known
    assert asked(STUDY, theme="light") != known
    assert asked(replace(STUDY)) == known
    council = replace(STUDY, council="rules", limits={"max_drawdown": 0.2})
    assert len({asked(council), asked(replace(council, limits={"max_drawdown": 0.1})), known}) == 3


async def test_a_run_whose_files_are_gone_is_done_again(room: Room) -> None:
    """Under a number of its own."""
    await room.desk.find(STUDY, nobody)
    (room.folder / "research" / "1" / "chart.png").unlink()
    again = await room.desk.find(STUDY, nobody)
    assert (again.run, again.finding.cached, again.chart) == (2, False, b"chart 2 dark")


async def test_the_laboratory_knows_what_was_tried_before(room: Room) -> None:
    """On these bars, its own sets included; the same sets again, on a few days more, are no more sets."""
    grid = replace(STUDY, kind="optimize", grid=(("ema_period", (40.0, 50.0, 60.0)), ("adx_min", (15.0, 20.0))))
    for study in (STUDY, grid, replace(grid, kind="walkforward"), replace(grid, days=210), replace(STUDY, interval=60)):
        await room.desk.find(study, nobody)
    assert [line[2:4] for line in room.done()] == [["1", "2"], ["7", "2"], ["7", "2"], ["7", "2"], ["1", "2"]]


async def test_what_cannot_be_studied_is_refused(room: Room) -> None:
    """Before a process is troubled, or by the laboratory, whose process stays."""
    impossible: tuple[dict[str, Any], ...] = (
        {"days": 0},
        {"interval": 0},
        {"grid": (("ema_period", ()),)},
        {"days": 400_000},
        {"interval": 10**6},
        {"council": "strict"},
        {"council": "rules", "kind": "walkforward", "folds": 3},
    )
    for change in impossible:
        with pytest.raises(BadInput):
            await room.desk.find(replace(STUDY, **change), nobody)
    before = room.lab.pid
    with pytest.raises(BadInput, match="another objective"):
        await room.desk.find(replace(STUDY, objective="refuse"), nobody)
    assert (before, room.lab.pid is None) == (None, False)
    assert await room.desk.runs(5) == []


# ---- waiting, ending ---------------------------------------------------------------------------------------------


async def test_one_study_at_a_time_and_few_that_wait(room: Room) -> None:
    """Who waits is told how many are before them; who comes when it is full is told so; what is known needs no turn."""
    known = await room.desk.find(STUDY, nobody)
    first = await room.at_it(replace(STUDY, days=100))
    waited: list[Progress] = []
    rest: list[asyncio.Task[Any]] = []
    for each in range(QUEUE - 1):
        rest.append(asyncio.create_task(room.desk.find(replace(STUDY, days=90 + each), waited.append)))
        await until(lambda: len(waited) == len(rest))
    assert waited == [Progress(stage="waiting", total=each) for each in (1, 2, 3)]
    with pytest.raises(Transient, match="4 studies"):
        await room.desk.find(replace(STUDY, days=80), nobody)
    assert (await room.desk.find(STUDY, nobody)).run == known.run
    rest[1].cancel()
    room.release()
    done = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [getattr(each, "run", None) for each in done] == [2, 3, None, 4]


async def test_the_same_study_asked_for_twice_is_done_once(room: Room) -> None:
    """The second finds the first one's answer when its turn comes."""
    first = await room.at_it(STUDY)
    second = asyncio.create_task(room.desk.find(STUDY, nobody))
    await asyncio.sleep(0)
    room.release()
    one, other = await asyncio.gather(first, second)
    assert (one.run, one.finding.cached, other.run, other.finding.cached) == (1, False, 1, True)


async def test_progress_comes_in_order(room: Room) -> None:
    """A few words a second, each farther than the one before, the drawing last."""
    told: list[Progress] = []
    task = await room.at_it(STUDY, told.append)
    await until(lambda: len([each for each in told if each.stage == "holding"]) >= 3)
    room.release()
    await task
    steps = [each.done for each in told if each.stage == "holding"]
    assert steps == sorted(set(steps))
    assert told[-1].stage == "drawing"


async def test_a_cancelled_study_ends_at_once(room: Room) -> None:
    """Its process is killed, another stands ready, nothing is kept, and the next study is done."""
    task = await room.at_it(STUDY)
    pid = room.lab.pid
    assert pid is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: gone(pid) and room.lab.pid is not None)
    assert room.lab.pid != pid
    room.release()
    assert await room.desk.runs(5) == []
    assert (await room.desk.find(STUDY, nobody)).run == 1


async def test_a_laboratory_that_is_killed_begins_again(room: Room) -> None:
    """Once, with the same study; whoever waits gets the answer."""
    task = await room.at_it(STUDY)
    pid = room.lab.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: len(room.done()) == 2)
    room.release()
    assert (await task).run == 1
    assert room.done()[0][0] == str(pid) != room.done()[1][0]


async def test_a_study_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    """With a word about what to do."""
    db = await open_database(tmp_path / "conclave.db")
    room = Room(db, tmp_path, deadline=0.5)
    await room.desk.find(STUDY, nobody)
    (tmp_path / "hold").touch()
    with pytest.raises(Transient, match=r"within 0\.5 s: try fewer days"):
        await room.desk.find(replace(STUDY, days=100), nobody)
    await room.desk.close()
    await db.close()


async def test_closing_ends_what_goes_on(room: Room) -> None:
    """Whoever waits is told, nothing is left."""
    task = await room.at_it(STUDY)
    pid = room.lab.pid
    assert pid is not None
    await room.desk.close()
    with pytest.raises(Transient):
        await task
    assert gone(pid)
    with pytest.raises(Transient, match="ending"):
        await room.desk.find(STUDY, nobody)


async def test_the_laboratory_is_polite(room: Room) -> None:
    """The nicest there is, within a session of its own; warmed up, it stands ready."""
    room.desk.warm()
    room.desk.warm()
    await until(lambda: room.lab.pid is not None)
    pid = room.lab.pid
    assert pid is not None
    await room.desk.find(STUDY, nobody)
    assert room.done()[0][0] == str(pid)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert os.getsid(pid) == pid


BOT = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from research.desk import Desk
from research.lab import Lab
from research.sources import MadeUpSource
from research.studio import Studio
from storage.database import open_database
from storage.runs import Runs
from trading.laboratory import Study

async def main() -> None:
    folder = Path(sys.argv[1])
    db = await open_database(folder / "conclave.db")
    lab = Lab(module="tests.stand_ins.laboratory")
    desk = Desk(
        lab=lab, renderer=Studio(), runs=Runs(db, folder / "research"), source=MadeUpSource(seed=7), folder=folder,
        wall=lambda: datetime.now(UTC),
    )
    study = Study(kind="backtest", symbol="BTCUSDT", interval=240, days=200, strategy="ema_trend", values={})
    await desk.find(study, lambda progress: print(lab.pid, progress.stage, flush=True))

asyncio.run(main())
"""


async def test_nothing_is_left_when_the_bot_is_killed(tmp_path: Path) -> None:
    """kill -9 of the bot in the middle of a study."""
    (tmp_path / "hold").touch()
    command = [sys.executable, "-c", BOT, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        line = ""
        while "holding" not in line:
            line = await asyncio.to_thread(parent.stdout.readline)
        pid = int(line.split()[0])
        assert not gone(pid)
        parent.kill()
        await until(lambda: gone(pid))


def test_the_bot_imports_nothing_heavy() -> None:
    """Neither for the desk nor for its sources."""
    code = "import sys, research.desk, research.studio, research.sources, storage.runs\nprint(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"numba", "vectorbt", "scipy", "matplotlib", "xlsxwriter", "pyarrow", "pandas", "talib", "plotly"}
    assert not heavy & set(ended.stdout.split())


def test_a_study_can_be_done_without_a_loop(tmp_path: Path) -> None:
    """In whatever process wants it: for the commands without a bot."""
    told: list[Progress] = []
    task = Task(
        study=STUDY,
        origin=MadeUp(symbol="BTCUSDT", seed=7, bars=1200, interval=240),
        params="p",
        tried=(Tried("p", 9, 0, 2**50), Tried("q", 10, 0, 2**50), Tried("r", 100, 0, 1)),
        folder=tmp_path / "search-1",
        jobs=1,
    )
    report = done(task, told.append, SmallResearch())
    assert report.study == STUDY
    assert told == [Progress(stage="candles")]
    assert (tmp_path / "done").read_text().split()[1:] == ["BTCUSDT", "19", "1", "0"]


VALUES = {
    name: value
    for terms in (EmaTrendParameters(), TradeRules(), AccountTerms(), InstrumentTerms())
    for name, value in terms.as_dict().items()
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"kind": "optimize", "grid": (("adx_min", (15.0, 20.0)), ("ema_period", (100, 200)))},
        {"council": "rules", "limits": {"losing_streak": 3}},
    ],
)
async def test_the_real_laboratory_says_what_is_said_without_a_process(tmp_path: Path, change: dict[str, Any]) -> None:
    """The same finding, a picture and a workbook; nothing is left of a search that came to its end."""
    db = await open_database(tmp_path / "conclave.db")
    lab, studio, folder = Lab(jobs=2), Studio(), tmp_path / "research"
    desk = Desk(lab=lab, renderer=studio, runs=Runs(db, folder), source=MARKET, folder=folder, wall=lambda: NOW)
    study = replace(STUDY, days=600, values=VALUES, **change)
    found = await desk.find(study, nobody)
    origin = await MARKET.origin(study, nobody)
    task = Task(study=study, origin=origin, params="", tried=(), folder=tmp_path / "here" / "search-1", jobs=2)
    expected = finding(await asyncio.to_thread(done, task, nobody))
    assert found.finding == replace(expected, seconds=found.finding.seconds)
    assert (await desk.find(study, nobody)).finding == replace(found.finding, cached=True)
    assert found.chart.startswith(b"\x89PNG")
    assert found.workbook.startswith(b"PK")
    assert [each.name for each in folder.iterdir()] == ["1"]
    await desk.close()
    await studio.close()
    await db.close()


# ---- where the candles come from -------------------------------------------------------------------------------------


async def origin_of(source: CandleSource, **change: Any) -> Origin | None:
    return await source.origin(replace(STUDY, **change), nobody)


async def opened(source: CandleSource, **change: Any) -> CandleSeries:
    found = await origin_of(source, **change)
    assert found is not None
    return found.open()[0].series


async def test_a_made_up_history_is_always_the_same(room: Room) -> None:
    """As many bars as the days hold, from the beginning; some years of it when nobody says."""
    series = await opened(MARKET)
    assert same(series, synthetic("BTCUSDT", seed=7, bars=1200))
    assert len(await opened(MARKET, days=None)) == 1461 * 6
    assert len(await opened(MARKET, days=None, interval=5)) == 200_000
    found = await origin_of(MARKET)
    assert found is not None
    assert found.made_up
    assert found.key != MadeUp(symbol="BTCUSDT", seed=8, bars=1200, interval=240).key
    with pytest.raises(BadInput, match=f"{MOST_BARS:,}"):
        await origin_of(MARKET, days=400_000)


def a_file(folder: Path, *, minutes: int = 15, bars: int = 3000, symbol: str = "BTCUSDT") -> Path:
    series = synthetic(symbol, seed=3, bars=bars, interval_minutes=minutes)
    return write_candles(series, folder / f"{symbol}-{minutes}.parquet")


async def test_a_file_is_cut_and_made_into_longer_bars(tmp_path: Path) -> None:
    """Its own bars, whole multiples of them, the last days; nothing else, and no other symbol's."""
    file = load_candles(a_file(tmp_path), known_symbols=("BTCUSDT",))
    source = FileSource(files=(file,))
    assert same(await opened(source, interval=15, days=None), file.series)
    assert same(await opened(source, interval=15, days=3), file.series.tail(288))
    hours = await opened(source, interval=60, days=None)
    assert same(hours, resampled(file.series, 60))
    assert same(await opened(source, interval=60, days=3), hours.tail(72))
    assert await origin_of(source, symbol="ETHUSDT") is None
    with pytest.raises(BadInput, match="bars of 15 minutes"):
        await origin_of(source, interval=20)
    with pytest.raises(BadInput, match="fewer than 2"):
        await opened(source, interval=60 * 24 * 30, days=None)


async def test_the_fingerprint_is_that_of_the_bars(tmp_path: Path) -> None:
    """A whole file has its bytes' as ever; what is cut out of it has that of its numbers."""
    file = load_candles(a_file(tmp_path), known_symbols=("BTCUSDT",))
    whole, _ = from_file(file, 15, None).open()
    cut, _ = from_file(file, 15, 3).open()
    assert whole.sha256 == file.sha256
    assert cut.sha256 == fingerprint(file.series.tail(288))
    assert cut.series.timestamp.base is None
    assert from_file(file, 15, 3).key != from_file(file, 15, 4).key


async def test_a_file_that_was_changed_is_refused(tmp_path: Path) -> None:
    """An answer about other bars would carry the wrong name."""
    file = load_candles(a_file(tmp_path), known_symbols=("BTCUSDT",))
    found = from_file(file, 15, None)
    a_file(tmp_path, bars=3001)
    with pytest.raises(BadInput, match="changed"):
        found.open()


async def test_funding_belongs_to_the_question(tmp_path: Path) -> None:
    """Rates come with the bars, and other rates are another answer."""
    file = load_candles(a_file(tmp_path), known_symbols=("BTCUSDT",))
    rates = tmp_path / "funding.csv"
    rates.write_text("timestamp,funding_rate\n1704067200000,0.0001\n")
    found = from_file(file, 15, None, rates)
    assert found.open()[1] == {1704067200000: Decimal("0.0001")}
    before = found.key
    rates.write_text("timestamp,funding_rate\n1704067200000,0.00025\n")
    assert found.key != before


def series_of(minutes: int, opens: list[int]) -> CandleSeries:
    """Bars that open at these minutes, with prices that tell them apart."""
    count = np.arange(len(opens), dtype=np.float64)
    return CandleSeries(
        symbol="BTCUSDT",
        interval=timedelta(minutes=minutes),
        timestamp=np.array(opens, np.int64) * 60_000,
        open=100 + count,
        high=110 + count,
        low=90 + count,
        close=101 + count,
        volume=1 + count,
    )


def test_longer_bars_are_whole_and_begin_where_the_exchange_begins_them() -> None:
    """Incomplete ones at either end are left out."""
    long = resampled(series_of(5, list(range(10, 60, 5))), 15)
    assert (long.timestamp // 60_000).tolist() == [15, 30, 45]
    assert long.open.tolist() == [101, 104, 107]
    assert long.high.tolist() == [113, 116, 119]
    assert long.low.tolist() == [91, 94, 97]
    assert long.close.tolist() == [104, 107, 110]
    assert long.volume.tolist() == [9, 18, 27]
    assert long.interval == timedelta(minutes=15)
    assert len(resampled(series_of(5, [15, 20]), 15)) == 0


@pytest.mark.parametrize(("minutes", "opens"), [(7, [0, 5, 10]), (3, [0, 5]), (15, [5, 10])])
def test_bars_that_do_not_make_up_longer_ones_are_refused(minutes: int, opens: list[int]) -> None:
    """Never by guessing."""
    with pytest.raises(BadInput):
        resampled(series_of(5, opens), minutes)


async def test_the_archive_has_what_it_has(tmp_path: Path) -> None:
    """Its own length, or the longest of the shorter ones that make it up; nothing of another symbol."""
    archive = CandleArchive(tmp_path)
    source = ArchiveSource(archive=archive)
    assert await origin_of(source) is None
    for minutes in (15, 60):
        archive.add(synthetic("BTCUSDT", seed=3, bars=20_000 // minutes * 15, interval_minutes=minutes))
    archive.add_funding("BTCUSDT", {1704067200000: Decimal("0.00010")}, (1704067200000, 1704067200000))
    assert same(await opened(source, interval=15, days=2), archive.candles("BTCUSDT", 15).tail(192))
    found = await origin_of(source, interval=240, days=20)
    assert isinstance(found, FromArchive)
    assert (found.file_interval, found.made_up, found.lineage) == (60, False, "exchange")
    file, rates = found.open()
    assert same(file.series, resampled(archive.candles("BTCUSDT", 60).tail(480), 240))
    assert rates == {1704067200000: Decimal("0.00010")}
    assert await origin_of(source, interval=20) is None
    assert await origin_of(source, symbol="BTC") is None


async def test_more_bars_in_the_archive_are_other_bars(tmp_path: Path) -> None:
    """The same ones once more are not."""
    archive = CandleArchive(tmp_path)
    bars = synthetic("BTCUSDT", seed=3, bars=300)
    archive.add(bars.between(0, 299))
    before = archived(archive, "BTCUSDT", 240, 10)
    archive.add(bars.between(200, 299))
    assert archived(archive, "BTCUSDT", 240, 10) == before
    archive.add(bars)
    after = archived(archive, "BTCUSDT", 240, 10)
    assert before is not None
    assert after is not None
    assert before.key != after.key


async def test_what_is_not_there_is_fetched(tmp_path: Path) -> None:
    """And an exchange that does not answer is no reason to do without what is there."""
    archive = CandleArchive(tmp_path)
    bars = synthetic("BTCUSDT", seed=3, bars=2400)
    asked: list[tuple[str, int, int]] = []
    away = False

    async def fetch(symbol: str, interval: int, days: int, tell: Tell) -> None:
        asked.append((symbol, interval, days))
        tell(Progress(stage="download", done=1, total=2))
        if away:
            raise Transient("the exchange does not answer")
        archive.add(bars)

    told: list[Progress] = []
    source = ArchiveSource(archive=archive, fetch=fetch)
    away = True
    with pytest.raises(Transient, match="does not answer"):
        await source.origin(STUDY, told.append)
    away = False
    assert same(await opened(source), bars.tail(1200))
    away = True
    assert same(await opened(source, days=None), bars)
    assert asked == [("BTCUSDT", 240, 200)] * 2 + [("BTCUSDT", 240, 365)]
    assert told == [Progress(stage="download", done=1, total=2)]


async def test_sources_are_asked_in_order(room: Room, tmp_path: Path) -> None:
    """The first that has the bars; when none has, it is said what to do."""
    file = load_candles(a_file(tmp_path), known_symbols=("BTCUSDT",))
    archive = ArchiveSource(archive=CandleArchive(tmp_path))
    both = FirstOf(FileSource(files=(file,)), archive)
    found = await room.at(both).find(replace(STUDY, interval=15, days=10), nobody)
    assert not found.finding.made_up
    with pytest.raises(BadInput, match=r"main\.py fetch ETHUSDT --interval 240"):
        await room.at(both).find(replace(STUDY, symbol="ETHUSDT"), nobody)
