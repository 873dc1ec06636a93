"""How the program is: every figure measured, what is not known said so, and no secret in the log."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.ports import Vitals
from bot.scheduler import JobView
from bot.telegram import Redaction
from bot.vitals import Gauges, LogRing, LoopLag, ProgramVitals, Row, commit, memory_row, program_version
from storage.database import Database, open_database
from storage.housekeeping import LOW_DISK
from storage.migrate import HEAD
from storage.outbox import Amendment, NewMessage, Outbox
from tests.bot.stage import a_status
from tests.structure import ROOT
from trading.status import Status

NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)
TOKEN = "7000000001:AAF-hush_hush_hush_hush"


@dataclass
class Sources:
    """What the vitals look at, as it is set by hand."""

    at: datetime = NOW
    seconds: float = 1000.0
    status: Status = field(default_factory=a_status)
    poll: float | None = 2.0
    exchange: list[Row] = field(default_factory=lambda: [("Public stream", True, "0.2 s")])
    painter: tuple[bool, str] = (True, "idle")
    jobs: list[JobView] = field(default_factory=list)

    def gauges(self) -> Gauges:
        return Gauges(
            status=lambda: self.status,
            poll_age=lambda: self.poll,
            exchange=lambda: self.exchange,
            painter=lambda: self.painter,
            jobs=lambda: self.jobs,
        )


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = await open_database(tmp_path / "test.db")
    yield database
    await database.close()


@pytest.fixture
def sources() -> Sources:
    return Sources()


def vitals_of(db: Database, sources: Sources, **changes: Any) -> ProgramVitals:
    fields: dict[str, Any] = {
        "gauges": sources.gauges(),
        "db": db,
        "account": "test",
        "file": Path(db.name),
        "folder": Path(db.name).parent,
        "lag": LoopLag(),
        "log": LogRing(lambda text: text),
        "zone": UTC,
        "wall": lambda: sources.at,
        "monotonic": lambda: sources.seconds,
        "real_time": True,
        "fingerprint": "0123456789abcdef",
    }
    return ProgramVitals(**(fields | changes))


def row(vitals: Vitals, name: str) -> tuple[bool, str]:
    return next((well, text) for found, well, text in vitals.health() if found == name)


# ---- loop lag -------------------------------------------------------------------------------------------------------


async def test_nothing_is_known_before_the_first_tick() -> None:
    """No zero is made up."""
    lag = LoopLag()
    assert lag.lag() is None
    lag.start()
    assert lag.lag() is None
    lag.stop()


async def test_a_free_loop_is_hardly_late() -> None:
    """Half of the ticks come within a few milliseconds."""
    lag = LoopLag(tick=0.005)
    lag.start()
    await asyncio.sleep(0.3)
    lag.stop()
    found = lag.lag()
    assert found is not None
    assert found.p50 < 0.01
    assert 0 <= found.p50 <= found.p99 <= found.worst
    assert found.window > 0.1


@pytest.mark.parametrize("block", [0.1, 0.3])
async def test_a_blocked_loop_shows(block: float) -> None:
    """As late as it was, and as many ticks as it swallowed: not one of a hundred."""
    lag = LoopLag(tick=0.005)
    lag.start()
    await asyncio.sleep(0.02)
    began = time.perf_counter()
    time.sleep(block)
    blocked = time.perf_counter() - began
    await asyncio.sleep(0.02)
    lag.stop()
    found = lag.lag()
    assert found is not None
    assert blocked - 0.006 <= found.worst <= blocked + 0.5
    assert found.p99 > 0.8 * block
    assert found.p50 > 0.1 * block


async def test_only_the_last_minutes_count() -> None:
    """A block is forgotten when its ticks have left the window; one longer than the window fills it."""
    lag = LoopLag(tick=0.002, window=0.05)
    lag.start()
    await asyncio.sleep(0.01)
    time.sleep(0.2)
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    found = lag.lag()
    assert found is not None
    assert found.window == pytest.approx(0.05)
    assert found.worst < 0.06 + 0.05  # what lies further back than the window is not counted twice
    async with asyncio.timeout(5):
        while (found := lag.lag()) is None or found.worst > 0.03:  # noqa: ASYNC110  a measurement has no event
            await asyncio.sleep(0.01)
    lag.stop()


async def test_started_twice_it_ticks_once() -> None:
    """As it is when the program begins anew in the same process."""
    lag = LoopLag(tick=0.01)
    for _ in range(3):
        lag.start()
    began = time.perf_counter()
    await asyncio.sleep(0.2)
    lag.stop()
    passed = time.perf_counter() - began
    found = lag.lag()
    assert found is not None
    assert found.window <= passed + 0.011
    before = found
    await asyncio.sleep(0.05)
    assert lag.lag() == before


async def test_measuring_costs_next_to_nothing() -> None:
    """A third of a per cent of a core; the bound leaves room for a machine that does other things as well."""
    lag = LoopLag()
    await asyncio.sleep(0.1)
    idle = await busy(2.0)
    lag.start()
    measured = await busy(2.0)
    lag.stop()
    assert (measured - idle) / 2.0 < 0.01


async def busy(seconds: float) -> float:
    """Processor seconds of this process while it sleeps."""
    before = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - before


# ---- the log --------------------------------------------------------------------------------------------------------


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    found = logging.getLogger("tests.vitals")
    found.setLevel(logging.DEBUG)
    found.propagate = False
    yield found
    for handler in list(found.handlers):
        found.removeHandler(handler)


def test_the_last_records_are_kept(logger: logging.Logger) -> None:
    """Five hundred, oldest first; what is below INFO is nobody's business."""
    ring = LogRing(lambda text: text)
    logger.addHandler(ring)
    logger.debug("hidden")
    for number in range(600):
        logger.info("event number=%d", number)
    lines = ring.lines(1000)
    assert len(lines) == 500
    assert lines[0].endswith("number=100")
    assert lines[-1].endswith("number=599")
    assert ring.lines(2) == lines[-2:]
    assert ring.lines(0) == []
    assert "INFO" in lines[0]


@pytest.mark.parametrize("text", [TOKEN, TOKEN.split(":")[1], "7000000001%3AAAF-hush_hush_hush_hush"])
def test_no_secret_stays(logger: logging.Logger, text: str) -> None:
    """In the message, in its arguments, in a traceback: whatever other handlers do."""
    ring = LogRing(Redaction([TOKEN]))
    logger.addHandler(ring)
    logger.warning(text)
    logger.error("failed url=%s", f"https://api.telegram.org/bot{text}/getMe")
    try:
        raise ValueError(text)
    except ValueError:
        logger.exception("failed")
    told = "\n".join(ring.lines(100))
    assert "hush" not in told
    assert told.count("***") >= 3
    assert "Traceback" in told


def test_the_filter_of_the_conversation_does_no_harm(logger: logging.Logger) -> None:
    """It cleans every handler that is there when the conversation begins: this one, too."""
    redact = Redaction([TOKEN])
    ring = LogRing(redact)
    ring.addFilter(redact)
    logger.addHandler(ring)
    logger.info("token=%s", TOKEN)
    assert ring.lines(1)[0].endswith("token=***")


def test_a_traceback_is_many_lines(logger: logging.Logger) -> None:
    """Lines are counted as they are shown."""
    ring = LogRing(lambda text: text)
    logger.addHandler(ring)
    logger.info("before")
    try:
        raise ValueError("deep")
    except ValueError:
        logger.exception("failed")
    assert ring.lines(1) == ["ValueError: deep"]
    lines = ring.lines(100)
    assert lines[0].endswith("before")
    assert len(lines) > 4


def test_a_record_that_cannot_be_written_hurts_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    """The caller goes on; what could be written is there."""
    ring = LogRing(lambda text: text)
    for message, arguments in (("one", ()), ("wrong %d", ("text",)), ("two", ())):
        ring.handle(logging.makeLogRecord({"msg": message, "args": arguments, "levelno": logging.INFO}))
    assert [line.split()[-1] for line in ring.lines(9)] == ["one", "two"]
    assert "Logging error" in capsys.readouterr().err


@given(texts=st.lists(st.text(max_size=30), max_size=20), count=st.integers(0, 60))
def test_as_many_lines_as_wanted(texts: list[str], count: int) -> None:
    """The tail of all of them, never more."""
    ring = LogRing(lambda text: text)
    for text in texts:
        ring.emit(logging.makeLogRecord({"msg": "%s", "args": (text,), "levelno": logging.INFO}))
    everything = ring.lines(10_000)
    assert ring.lines(count) == (everything[-count:] if count else [])
    assert all("\n" not in line for line in everything)


def test_a_huge_record_is_cut() -> None:
    """The ring holds some megabytes at most."""
    ring = LogRing(lambda text: text)
    for _ in range(600):
        ring.emit(logging.makeLogRecord({"msg": "x" * 1_000_000, "levelno": logging.INFO}))
    assert sum(map(len, ring.lines(1000))) <= 500 * 8_000


# ---- health ---------------------------------------------------------------------------------------------------------


async def test_a_healthy_program_says_so_in_every_row(db: Database, sources: Sources) -> None:
    """Every row once, all of them well, each a name and one line."""
    vitals = vitals_of(db, sources)
    await vitals.refresh()
    lag = vitals._lag
    lag.start()
    await asyncio.sleep(0.1)
    sources.jobs = [JobView(name="cards", next_run=NOW, trouble="")]
    rows = vitals.health()
    lag.stop()
    assert [name for name, well, _ in rows if not well] == []
    assert [name for name, _, _ in rows] == [
        *("Telegram", "Outbox", "Public stream", "Last close", "Database", "Disk", "Memory", "Loop lag", "Charts"),
        *("Job cards", "Up"),
    ]
    assert all(text and "\n" not in text for _, _, text in rows)


async def test_what_is_not_known_is_a_dash_and_not_well(db: Database, sources: Sources) -> None:
    """Before anything was looked at."""
    sources.status = a_status(market_time=None, next_close=None)
    vitals = vitals_of(db, sources)
    for name in ("Outbox", "Last close", "Loop lag"):
        assert row(vitals, name) == (False, "–")


@pytest.mark.parametrize(
    ("age", "well", "text"),
    [
        (3.2, True, "last poll answered 3s ago"),
        (120.0, False, "last poll answered 2m ago"),
        (None, False, "not connected"),
    ],
)
async def test_telegram_is_as_old_as_its_last_poll(
    db: Database, sources: Sources, age: float | None, well: bool, text: str
) -> None:
    """Beyond a minute and a half nobody is heard."""
    sources.poll = age
    assert row(vitals_of(db, sources), "Telegram") == (well, text)


async def test_the_outbox_is_as_old_as_what_waits(db: Database, sources: Sources) -> None:
    """Counted, with the age since it was first seen waiting; an edit is another message; an old look is none."""
    outbox, vitals = Outbox(db, "test"), vitals_of(db, sources)
    await vitals.refresh()
    assert row(vitals, "Outbox") == (True, "nothing waits")
    await outbox.put([NewMessage(key=f"m{place}", chat_id=1, text="t") for place in range(30)])
    await vitals.refresh()
    sources.seconds += 45
    await vitals.refresh()
    assert row(vitals, "Outbox") == (True, "30 waiting, the oldest for 45s or more")
    sources.seconds += 45
    await vitals.refresh()
    assert row(vitals, "Outbox") == (False, "30 waiting, the oldest for 1m or more")
    sources.seconds += 121
    assert row(vitals, "Outbox") == (False, "–")


async def test_what_was_sent_and_waits_again_is_young(db: Database, sources: Sources) -> None:
    """A card that is edited all the time is not stuck."""
    outbox, vitals = Outbox(db, "test"), vitals_of(db, sources)
    await outbox.put([NewMessage(key="card", chat_id=1, text="t")])
    for _ in range(10):
        await vitals.refresh()
        sources.seconds += 15
        message = await outbox.next()
        assert message is not None
        await outbox.sent(message.id, 1, message.revision)
        await outbox.put([Amendment(key="card", step="more")])
        await vitals.refresh()
    assert row(vitals, "Outbox") == (True, "1 waiting, the oldest for 0s or more")


@pytest.mark.parametrize(("late", "well"), [(0, True), (239, True), (241, True), (243, False)])
async def test_a_close_that_is_overdue_is_not_well(db: Database, sources: Sources, late: int, well: bool) -> None:
    """Four hours after the last one the next is due; two minutes are nothing."""
    sources.at = NOW + timedelta(minutes=late)
    found, text = row(vitals_of(db, sources), "Last close")
    assert found is well
    assert text.endswith("one every 4h00m")


async def test_a_replay_has_no_overdue_close(db: Database, sources: Sources) -> None:
    """Its market is not the wall's."""
    names = [name for name, _, _ in vitals_of(db, sources, real_time=False).health()]
    assert "Last close" not in names


async def test_the_database_is_as_large_as_its_files(db: Database, sources: Sources, tmp_path: Path) -> None:
    """File and write-ahead log; a file that went away says so; a server has none."""
    well, text = row(vitals_of(db, sources), "Database")
    size = Path(db.name).stat().st_size
    assert well
    assert text.startswith(f"{size / 1000:.1f} kB, write-ahead log ")
    well, text = row(vitals_of(db, sources, file=tmp_path / "absent.db"), "Database")
    assert (well, text) == (False, "No such file or directory")
    assert row(vitals_of(db, sources, file=None), "Database") == (True, "on a server")


async def test_the_disk_is_that_of_the_folder(db: Database, sources: Sources, tmp_path: Path) -> None:
    """As much as the system says is free."""
    well, text = row(vitals_of(db, sources), "Disk")
    free = os.statvfs(tmp_path)
    assert well is (free.f_bavail * free.f_frsize >= LOW_DISK)
    assert text.endswith(" free")
    assert row(vitals_of(db, sources, folder=tmp_path / "absent"), "Disk") == (False, "No such file or directory")


def test_the_memory_is_what_the_system_says() -> None:
    """Now and at most, in megabytes of this process."""
    _, well, text = memory_row()
    assert well
    now, most = (float(each.split()[0]) for each in text.replace("at most ", "").split(", "))
    assert 20 < now <= most * 1.2 < 20_000


async def test_a_failing_job_is_not_well(db: Database, sources: Sources) -> None:
    """Its row names the trouble and the next attempt."""
    sources.jobs = [
        JobView(name="cards", next_run=datetime(2026, 7, 21, 14, 5, tzinfo=UTC), trouble="Transient"),
        JobView(name="disk", next_run=None, trouble=""),
    ]
    vitals = vitals_of(db, sources)
    assert row(vitals, "Job cards") == (False, "next 21 Jul 14:05, the last run failed: Transient")
    assert row(vitals, "Job disk") == (True, "next –")


async def test_it_knows_since_when_it_runs(db: Database, sources: Sources) -> None:
    """By a clock that never jumps; the start by the wall's."""
    vitals = vitals_of(db, sources)
    sources.seconds += 3 * 3600 + 12 * 60
    sources.at += timedelta(days=400)
    assert row(vitals, "Up") == (True, "3h12m, since 21 Jul 12:00")


async def test_it_is_the_vitals_of_the_desk(db: Database, sources: Sources) -> None:
    """Handlers ask it by the port."""
    ring = LogRing(lambda text: text)
    vitals: Vitals = vitals_of(db, sources, log=ring)
    ring.emit(logging.makeLogRecord({"msg": "hello", "levelno": logging.INFO}))
    assert vitals.logs(5)[-1].endswith("hello")


async def test_looking_is_quick(db: Database, sources: Sources) -> None:
    """It is asked on the loop: a full ring of ticks and of records costs milliseconds."""
    lag = LoopLag()
    lag._count = 10**6
    vitals = vitals_of(db, sources, lag=lag)
    vitals.version()
    began = time.perf_counter()
    for _ in range(10):
        vitals.health()
        vitals.version()
    assert (time.perf_counter() - began) / 10 < 0.02


# ---- versions -------------------------------------------------------------------------------------------------------


async def test_every_version_is_named(db: Database, sources: Sources) -> None:
    """Program, Python, libraries, schema and configuration; none of them is guessed."""
    found = dict(vitals_of(db, sources).version())
    assert found["Conclave"] == program_version(ROOT) != "–"
    assert found["Schema"] == HEAD
    assert found["Configuration"] == "0123456789abcdef"
    for name in ("Python", "python-telegram-bot", "pybit", "pandas", "sqlmodel", "APScheduler"):
        assert found[name][0].isdigit()


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b.c", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_read_without_git(tmp_path: Path) -> None:
    """On a branch, packed away, on no branch; and nothing where there is no repository."""
    assert commit(tmp_path) is None
    git(tmp_path, "init", "-q", "-b", "main")
    assert commit(tmp_path) is None
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(tmp_path) == head[:12]
    git(tmp_path, "pack-refs", "--all")
    assert commit(tmp_path) == head[:12]
    git(tmp_path, "checkout", "-q", "--detach")
    assert commit(tmp_path) == head[:12]


def test_without_its_folder_the_version_is_a_dash(tmp_path: Path) -> None:
    """Installed elsewhere or damaged."""
    assert program_version(tmp_path) == "–"
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert program_version(tmp_path) == "–"
    (tmp_path / "pyproject.toml").write_text("not toml at all")
    assert program_version(tmp_path) == "–"
