"""How the program itself is: connections, outbox, disk, memory, the loop's lag, its log and its versions.

Everything is looked at when it is asked for, without waiting: what needs the database is fetched now and then by
`refresh`. What is not known is a dash and not well; nothing is guessed.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import platform
import resource
import sys
import time
import tomllib
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from bot.scheduler import JobView
from bot.text import UNKNOWN, duration, moment
from storage.database import Database
from storage.housekeeping import BIG_LOG, LOW_DISK, Waiting, free_space, log_size, waiting
from storage.migrate import HEAD
from trading.status import Status

Row = tuple[str, bool, str]
"""Name, well or not, one line."""

_TICK: Final = 0.04  # a wake-up costs up to 0.14 ms of a busy machine: 0.3% of a core
_WINDOW: Final = 300.0
_LAG_P99: Final = 0.05
_POLL_SECONDS: Final = 90.0  # as long as the connection to Telegram may be silent before it is made anew
_OUTBOX_SECONDS: Final = 60.0
_STALE_SECONDS: Final = 120.0
_CLOSE_GRACE: Final = timedelta(minutes=2)
_LINES: Final = 500
_LONGEST_RECORD: Final = 8_000
_LIBRARIES: Final = ("python-telegram-bot", "pybit", "pandas", "sqlmodel", "APScheduler")
_ROOT: Final = Path(__file__).resolve().parent.parent


# ------------------------------------------------------------------------------------------------------- loop lag


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How late the loop was, in seconds, over the last `window` seconds."""

    p50: float
    p99: float
    p999: float
    worst: float
    window: float


class LoopLag:
    """Measures how late the event loop comes to what is due: every 40 ms, remembered for five minutes.

    A tick that a busy loop could not make counts as well, with the lateness it would have had: one block of a second
    is 25 late ticks, as it would have been for 25 callers.
    """

    def __init__(self, *, tick: float = _TICK, window: float = _WINDOW) -> None:
        self._tick = tick
        self._late = array("f", bytes(4 * max(int(window / tick), 1)))
        self._count = 0
        self._due = 0.0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, in the running loop; what was measured before stays."""
        self.stop()
        loop = asyncio.get_running_loop()
        self._due = loop.time() + self._tick
        self._handle = loop.call_at(self._due, self._look, loop)

    def stop(self) -> None:
        """End; what was measured stays."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def lag(self) -> Lag | None:
        """The figures; None before the first tick."""
        known = min(self._count, len(self._late))
        if not known:
            return None
        late = np.frombuffer(self._late, np.float32, known)
        p50, p99, p999 = (float(each) for each in np.quantile(late, (0.5, 0.99, 0.999)))
        return Lag(p50=p50, p99=p99, p999=p999, worst=float(late.max()), window=known * self._tick)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, size = loop.time(), len(self._late)
        self._due = max(self._due, now - size * self._tick)  # no more than can be remembered
        while self._due <= now:
            self._late[self._count % size] = now - self._due
            self._count += 1
            self._due += self._tick
        self._handle = loop.call_at(self._due, self._look, loop)


# ------------------------------------------------------------------------------------------------------------ log


class LogRing(logging.Handler):
    """The last records of the log, as text without secrets. `redact` cleans each of them, whoever else does too."""

    def __init__(self, redact: Callable[[str], str], *, size: int = _LINES) -> None:
        super().__init__(logging.INFO)
        formatter = logging.Formatter("%(asctime)s %(levelname)-7s %(message)s")
        formatter.converter = time.gmtime
        self.setFormatter(formatter)
        self._redact = redact
        self._records: deque[str] = deque(maxlen=size)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; a record that cannot be written is the logger's trouble, not the caller's."""
        try:
            text = self._redact(self.format(record))
        except Exception:  # noqa: BLE001  as every handler of the standard library does it
            self.handleError(record)
        else:
            self._records.append(text[:_LONGEST_RECORD])

    def lines(self, count: int) -> list[str]:
        """The last `count` lines, oldest first; a traceback is many."""
        found: deque[str] = deque()
        for text in reversed(tuple(self._records)):
            found.extendleft(reversed(text.splitlines()))
            if len(found) >= count:
                break
        return list(found)[-count:] if count > 0 else []


# ---------------------------------------------------------------------------------------------------------- vitals


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """Where the figures come from; each is asked whenever somebody wants to know, and must not wait.

    `poll_age`: seconds since Telegram answered a poll, None without a connection. `exchange`: rows of its streams
    and looks. `painter`: whether charts can be drawn, and one line about it.
    """

    status: Callable[[], Status]
    poll_age: Callable[[], float | None]
    exchange: Callable[[], Sequence[Row]]
    painter: Callable[[], tuple[bool, str]]
    jobs: Callable[[], Sequence[JobView]]


@dataclass(slots=True, kw_only=True)
class _Backlog:
    """The outbox as it was last looked at: when each of the oldest messages was first seen waiting."""

    count: int
    looked: float
    since: dict[tuple[int, int], float] = field(default_factory=dict)

    def after(self, seen: Waiting, now: float) -> _Backlog:
        """The next look."""
        since = {each: self.since.get(each, now) for each in seen.oldest}
        return _Backlog(count=seen.count, looked=now, since=since)


class ProgramVitals:
    """The `Vitals` of the running program. `real_time`: market time is the wall's, so that a close can be overdue.

    `file` is the database's own, None where it is no file; `folder` lies on the disk that must not run full.
    """

    def __init__(
        self,
        *,
        gauges: Gauges,
        db: Database,
        account: str,
        file: Path | None,
        folder: Path,
        lag: LoopLag,
        log: LogRing,
        zone: tzinfo,
        wall: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        real_time: bool,
        fingerprint: str,
    ) -> None:
        self._gauges = gauges
        self._db = db
        self._account = account
        self._file = file
        self._folder = folder
        self._lag = lag
        self._log = log
        self._zone = zone
        self._wall = wall
        self._monotonic = monotonic
        self._real_time = real_time
        self._fingerprint = fingerprint
        self._began, self._began_at = monotonic(), wall()
        self._backlog: _Backlog | None = None

    async def refresh(self) -> None:
        """Look at what must be asked of the database; every quarter of a minute will do."""
        seen = await waiting(self._db, self._account)
        now = self._monotonic()
        self._backlog = (self._backlog or _Backlog(count=0, looked=now)).after(seen, now)

    def health(self) -> list[Row]:
        """Every row there is, the connections first."""
        rows = [self._telegram(), self._outbox(), *self._gauges.exchange()]
        if self._real_time:
            rows.append(self._last_close())
        rows += [self._database(), self._disk(), memory_row(), self._loop(), ("Charts", *self._gauges.painter())]
        rows += [self._job(each) for each in self._gauges.jobs()]
        up = duration(timedelta(seconds=self._monotonic() - self._began))
        return [*rows, ("Up", True, f"{up}, since {moment(self._began_at, self._zone)}")]

    def logs(self, count: int) -> list[str]:
        """The last lines of the log."""
        return self._log.lines(count)

    def version(self) -> list[tuple[str, str]]:
        """Program, libraries, schema and configuration."""
        return [*self._versions, ("Schema", HEAD), ("Configuration", self._fingerprint or UNKNOWN)]

    @cached_property
    def _versions(self) -> list[tuple[str, str]]:
        """What does not change while the program runs."""
        rows = [("Conclave", program_version(_ROOT)), ("Commit", commit(_ROOT) or UNKNOWN)]
        rows.append(("Python", platform.python_version()))
        return [*rows, *((name, _installed(name)) for name in _LIBRARIES)]

    def _telegram(self) -> Row:
        age = self._gauges.poll_age()
        if age is None:
            return "Telegram", False, "not connected"
        return "Telegram", age < _POLL_SECONDS, f"last poll answered {_ago(age)}"

    def _outbox(self) -> Row:
        seen, now = self._backlog, self._monotonic()
        if seen is None or now - seen.looked > _STALE_SECONDS:
            return "Outbox", False, UNKNOWN
        if not seen.count:
            return "Outbox", True, "nothing waits"
        oldest = now - min(seen.since.values(), default=now)
        return "Outbox", oldest < _OUTBOX_SECONDS, f"{seen.count:,} waiting, the oldest for {_span(oldest)} or more"

    def _last_close(self) -> Row:
        status = self._gauges.status()
        if status.market_time is None or status.next_close is None:
            return "Last close", False, UNKNOWN
        age = self._wall() - status.market_time
        interval = status.next_close - status.market_time
        return "Last close", age < interval + _CLOSE_GRACE, f"{duration(age)} ago, one every {duration(interval)}"

    def _database(self) -> Row:
        if self._file is None:
            return "Database", True, "on a server"
        try:
            size, log = self._file.stat().st_size, log_size(self._file)
        except OSError as error:
            return "Database", False, error.strerror or UNKNOWN
        return "Database", log < 2 * BIG_LOG, f"{_size(size)}, write-ahead log {_size(log)}"

    def _disk(self) -> Row:
        try:
            free = free_space(self._folder)
        except OSError as error:
            return "Disk", False, error.strerror or UNKNOWN
        return "Disk", free >= LOW_DISK, f"{_size(free)} free"

    def _loop(self) -> Row:
        lag = self._lag.lag()
        if lag is None:
            return "Loop lag", False, UNKNOWN
        p50, p99, p999, worst = (f"{1000 * value:.1f}" for value in (lag.p50, lag.p99, lag.p999, lag.worst))
        window = duration(timedelta(seconds=lag.window))
        text = f"p50 {p50} ms, p99 {p99} ms, p99.9 {p999} ms, max {worst} ms in {window}"
        return "Loop lag", lag.p99 <= _LAG_P99, text

    def _job(self, job: JobView) -> Row:
        when = UNKNOWN if job.next_run is None else moment(job.next_run, self._zone)
        trouble = f", the last run failed: {job.trouble}" if job.trouble else ""
        return f"Job {job.name}", not job.trouble, f"next {when}{trouble}"


def memory_row() -> Row:
    """What the process holds in memory now, and the most it ever held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # a system that has no such file
        return "Memory", True, f"{UNKNOWN} now, {_size(most)} at most"
    return "Memory", True, f"{_size(pages * os.sysconf('SC_PAGE_SIZE'))}, at most {_size(most)}"


def program_version(root: Path) -> str:
    """The version that pyproject.toml names: the program runs from its folder and is not installed."""
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"])
    except (OSError, ValueError, KeyError):
        return UNKNOWN


def commit(root: Path) -> str | None:
    """The commit that is checked out, short, as far as it can be read without asking git; None elsewhere."""
    folder = root / ".git"
    try:
        head = (folder / "HEAD").read_text(encoding="ascii").strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head[:12]
        if (folder / name).exists():
            return (folder / name).read_text(encoding="ascii").strip()[:12]
        packed = (folder / "packed-refs").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    return next((line[:12] for line in packed if line.endswith(f" {name}")), None)


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return UNKNOWN


def _ago(seconds: float) -> str:
    return f"{_span(seconds)} ago"


def _span(seconds: float) -> str:
    return duration(timedelta(seconds=seconds))


def _size(count: float) -> str:
    """Bytes in the unit that fits."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
