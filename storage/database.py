"""One database: a writer that is alone by construction, and readers that never wait for it.

SQLite in WAL mode with `synchronous=FULL`: what `write` has returned survives the power. A write is a plain
function that runs from BEGIN IMMEDIATE to COMMIT in the writer's own thread, on one connection that stays
open: nothing can be awaited inside, so a transaction is never held across the network, and a caller that is
cancelled meanwhile neither tears the transaction nor stops it. It also costs one thread hop instead of the
thirteen of an async driver. Reads run the same way in threads of their own, each on one consistent state: a
query whose caller is cancelled ends in its thread, and no connection is left behind half used.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine, Executable, Result, ScalarResult, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from storage.errors import damaged, translated
from storage.migrate import upgrade
from storage.signal import Signal
from trading.errors import ConclaveError, Misconfigured

Outcome = TypeVar("Outcome")

BUSY_SECONDS: Final = 5.0
READERS: Final = 2
_DRIVERS: Final = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
_PRAGMAS: Final = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")


async def open_database(where: str | Path, *, busy_seconds: float = BUSY_SECONDS) -> Database:
    """Open (and create or upgrade) the database at a path or an SQLAlchemy URL.

    A new file and everything beside it is readable by its owner only. A damaged file raises
    `CorruptDatabase` and is left as it is; one that another program holds raises `Transient`.
    """
    url = database_url(where)
    if url.get_backend_name() == "sqlite":
        await asyncio.to_thread(prepare_file, database_file(url))
    try:
        database = Database(url, busy_seconds=busy_seconds)
    except ImportError as error:
        raise Misconfigured(f"DATABASE_URL needs a driver: pip install {error.name}") from error
    try:
        await database.write(upgrade)
    except BaseException:
        await database.close()
        raise
    return database


def database_url(where: str | Path) -> URL:
    """The URL of a path, or the URL that was given; `Misconfigured` for one that cannot work."""
    if isinstance(where, Path) or "://" not in where:
        return URL.create("sqlite", database=str(where))
    try:
        url = make_url(where)
    except ArgumentError:
        url = URL.create("unknown")
    if url.get_backend_name() not in _DRIVERS:
        raise Misconfigured("DATABASE_URL is no sqlite or postgresql address: leave it empty for SQLite")
    return url


def database_file(url: URL) -> Path:
    """The file of an SQLite URL."""
    if not url.database or url.database == ":memory:":
        raise Misconfigured("DATABASE_URL names no file: use sqlite:///data/conclave.db")
    return Path(url.database)


def prepare_file(path: Path) -> None:
    """Make the file with mode 0600 where there is none, tighten an older one, and check its pages."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            if name.exists() and name.stat().st_mode & 0o077:
                name.chmod(0o600)
    except OSError as error:
        raise Misconfigured(f"{path} cannot be opened ({error.strerror}): check DATA_DIR") from error
    quick_check(path)


def quick_check(path: Path) -> None:
    """SQLite's own look at every page; `CorruptDatabase` when it finds anything."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        findings = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.Error as error:
        raise translated(error, str(path)) from error
    finally:
        connection.close()
    if findings != ["ok"]:
        raise damaged(str(path), "; ".join(findings))


class Reader:
    """A connection that only reads, in a thread of its own; one session at a time."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="reader")
        self._session: Session | None = None  # touched by the thread only

    async def execute(
        self, statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Result[*tuple[Any, ...]]:
        """Run one query; all its rows are fetched."""
        return await self._run(lambda: self._execute(statement, values))

    async def scalars(self, statement: Executable) -> ScalarResult[Any]:
        """Run one query for the first column of its rows, or its one entity."""
        return (await self.execute(statement)).scalars()

    def end(self) -> asyncio.Future[None]:
        """Give up the consistent state: queued in the thread before this returns, behind a query still running."""
        return self._run(self._end)

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self._run(self._end)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[], Outcome]) -> asyncio.Future[Outcome]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _execute(self, statement: Executable, values: Any) -> Result[*tuple[Any, ...]]:
        if self._session is None:
            self._session = Session(self._engine, expire_on_commit=False)
        return self._session.execute(statement, values).freeze()()

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with suppress(SQLAlchemyError):  # nothing was written
                session.close()


class Database:
    """The writer and the readers of one database, made by `open_database`."""

    def __init__(self, url: URL, *, busy_seconds: float) -> None:
        self.name = url.database or url.render_as_string()
        self._engine = _writing_engine(url, busy_seconds)
        self._reading = _reading_engine(url, busy_seconds)
        self._readers = [Reader(self._reading) for _ in range(READERS)]
        self._idle: asyncio.LifoQueue[Reader] = asyncio.LifoQueue()
        for reader in self._readers:
            self._idle.put_nowait(reader)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._connection: Connection | None = None  # touched by the writer's thread only
        self._signals: dict[str, Signal] = {}
        self._closed = False

    async def write(self, work: Callable[[Connection], Outcome]) -> Outcome:
        """Run `work` in one transaction, after every earlier one; committed when this returns.

        Any exception rolls all of it back. `Transient`: locked, full or unreadable, nothing was written.
        `Conflict`: such a row exists. A cancelled caller does not know whether it was written; it is not stopped.
        """
        if self._closed:
            raise ConclaveError(f"{self.name} is closed")
        # Without the shield, work that is still in the queue would be dropped with its caller.
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)
        return await asyncio.shield(writing)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Reader]:
        """A session on one consistent, committed state; it cannot write."""
        if self._closed:
            raise ConclaveError(f"{self.name} is closed")
        reader = await self._idle.get()
        try:
            yield reader
        except SQLAlchemyError as error:
            raise translated(error, self.name) from error
        finally:
            # The end is in the thread's queue before anybody else can have the reader, cancelled or not:
            # whoever reads next sees all that has been committed by then.
            ending = reader.end()
            self._idle.put_nowait(reader)
            await asyncio.shield(ending)

    def signal(self, name: str) -> Signal:
        """The bell of this name, shared by every store on this database."""
        return self._signals.setdefault(name, Signal())

    async def close(self) -> None:
        """Finish the writes that are queued and close every connection; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)
        self._engine.dispose()
        for reader in self._readers:
            await reader.close()
        self._reading.dispose()

    def _transaction(self, work: Callable[[Connection], Outcome]) -> Outcome:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                return work(self._connection)
        except SQLAlchemyError as error:
            # A connection that has seen a full disk or a damaged page is not trusted again: the next
            # write opens a new one, which is also how writing heals without a restart.
            self._disconnect()
            raise translated(error, self.name) from error
        except (UnicodeError, OverflowError) as error:
            raise ConclaveError(f"{self.name}: a value that cannot be stored: {error}") from error

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):  # its transaction is over; how it ends no longer matters
                connection.close()


def _writing_engine(url: URL, busy_seconds: float) -> Engine:
    arguments = _arguments(url, busy_seconds)
    driver = _DRIVERS[url.get_backend_name()]
    engine = create_engine(url.set(drivername=driver), poolclass=NullPool, connect_args=arguments)
    if url.get_backend_name() == "sqlite":
        _prepare_sqlite(engine, "BEGIN IMMEDIATE", _PRAGMAS)
    return engine


def _reading_engine(url: URL, busy_seconds: float) -> Engine:
    arguments = _arguments(url, busy_seconds)
    if url.get_backend_name() == "sqlite":
        arguments["check_same_thread"] = False  # a reader's connection may be closed by the pool
    engine = create_engine(url.set(drivername=_DRIVERS[url.get_backend_name()]), connect_args=arguments)
    if url.get_backend_name() == "sqlite":
        _prepare_sqlite(engine, "BEGIN", ("query_only=ON",))
    return engine


def _arguments(url: URL, busy_seconds: float) -> dict[str, Any]:
    return {"timeout": busy_seconds} if url.get_backend_name() == "sqlite" else {}


def _prepare_sqlite(engine: Engine, begin: str, pragmas: tuple[str, ...]) -> None:
    """Take BEGIN into our own hands: the driver's would start every transaction as a reader."""

    def connected(connection: Any, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
