"""What the laboratory has found: a row for each run, numbered from 1, and its chart and workbook as files.

A finding is kept as JSON, exactly: numbers by their shortest form, None as null. Runs belong to no account: bars and
parameters know none. Files lie under FOLDER/<run>/ and come and go whole; a run without its files is only history, and
whoever asks the same again has it done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from sqlalchemy import Connection, Row, Select, func, insert, select

from storage import tables
from storage.database import Database
from storage.trials import Tried, trials
from trading.errors import ConclaveError, Transient
from trading.laboratory import CouncilEffect, Finding, Study, Verdict
from trading.model import millis

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the JSON form: a finding of another version is history that cannot be read."""
KEEP: Final = 200
"""Of so many last runs the files stay."""
CHART: Final = "chart.png"
WORKBOOK: Final = "workbook.xlsx"

_RUNS: Final = tables.table(tables.Runs)
_HALF_MADE: Final = ".new-"
_ABANDONED: Final = 3600.0  # seconds after which a half-made folder belongs to nobody any more


class UnreadableFinding(ConclaveError):
    """A finding cannot become JSON, or JSON cannot become a finding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run answers: fingerprints of the whole question, and of where its bars come from. Equal: equal answers.

    `params` is that of the parameter sets alone, `sets` of them; `lineage` tells histories of one symbol apart that
    have nothing to do with each other (the exchange's, a file's, a made-up one).
    """

    question: str
    source: str
    params: str
    sets: int
    lineage: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run whose files are there. `ended` in ms UTC."""

    number: int
    ended: int
    finding: Finding
    chart: bytes
    workbook: bytes


class Runs:
    """The runs of one database, and the folder with their files."""

    def __init__(self, db: Database, folder: Path, *, keep: int = KEEP) -> None:
        self._db = db
        self._folder = folder
        self._keep = keep

    async def add(self, finding: Finding, identity: Identity, *, ended: datetime, chart: bytes, workbook: bytes) -> int:
        """The new run's number, once row and files are on disk. Files of old runs go.

        `Transient`: the disk or the database refuses; at most the row was kept, as history without files.
        """
        values = _row(finding, identity, ended)

        def insert_row(connection: Connection) -> int:
            return int(connection.execute(insert(_RUNS).values(values).returning(_RUNS.c.number)).scalar_one())

        made = await asyncio.to_thread(self._written, chart, workbook)
        try:
            number = await self._db.write(insert_row)
            await asyncio.to_thread(self._placed, made, number)
        except BaseException:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, made, ignore_errors=True))
            raise
        return number

    async def known(self, identity: Identity) -> Run | None:
        """The newest answer to that question on those bars, with its files; None when there is none, or no files."""
        same = (_RUNS.c.question == identity.question, _RUNS.c.source == identity.source)
        rows = await self._rows(_LISTED.where(*same).order_by(_RUNS.c.number.desc()).limit(1))
        found = _listed(rows)
        if not found:
            return None
        number, ended, finding = found[0]
        files = await asyncio.to_thread(self._read, number)
        if files is None:
            return None
        return Run(number=number, ended=ended, finding=finding, chart=files[0], workbook=files[1])

    async def last(self, count: int) -> list[tuple[int, int, Finding]]:
        """The last runs, the newest first: number, when it ended (ms UTC), finding."""
        rows = await self._rows(_LISTED.order_by(_RUNS.c.number.desc()).limit(count))
        return await asyncio.to_thread(_listed, rows)

    async def finding(self, number: int) -> Finding | None:
        """One run's finding; None when there is none of that number."""
        if not 0 < number < 1 << 63:
            return None
        found = _listed(await self._rows(_LISTED.where(_RUNS.c.number == number)))
        return found[0][2] if found else None

    async def tried(self, symbol: str, interval: int, lineage: str) -> tuple[Tried, ...]:
        """What has been tried on bars of that history: every group of parameter sets once for each span of bars."""
        one = (_RUNS.c.params, _RUNS.c.first, _RUNS.c.last)
        wanted = select(_RUNS.c.params, func.max(_RUNS.c.sets), _RUNS.c.first, _RUNS.c.last).group_by(*one)
        of = (_RUNS.c.symbol == symbol, _RUNS.c.interval == interval, _RUNS.c.lineage == lineage)
        return tuple(Tried._make(row) for row in await self._rows(wanted.where(*of)))

    async def trials(self, symbol: str, interval: int, lineage: str, first: int, last: int) -> int:
        """How many distinct parameter sets have been tried so far on bars that the span (ms UTC) shares."""
        return trials(await self.tried(symbol, interval, lineage), first, last)

    async def _rows(self, wanted: Select[Any]) -> Sequence[Row[Any]]:
        async with self._db.read() as session:
            rows: Sequence[Row[Any]] = (await session.execute(wanted)).all()
        return rows

    # Files, in a thread

    def _written(self, chart: bytes, workbook: bytes) -> Path:
        """A folder with the files of a run that has no number yet."""
        made = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = Path(tempfile.mkdtemp(prefix=_HALF_MADE, dir=self._folder))
            for name, content in ((CHART, chart), (WORKBOOK, workbook)):
                with (made / name).open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
        except OSError as error:
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)
            why = f"{error.strerror}: free some space or check DATA_DIR"
            raise Transient(f"{self._folder}: the run's files cannot be written ({why})") from error
        return made

    def _placed(self, made: Path, number: int) -> None:
        place = self._folder / str(number)
        try:
            shutil.rmtree(place, ignore_errors=True)  # of a database that is no more
            made.replace(place)
        except OSError as error:
            raise Transient(f"{place}: the run's files cannot be kept ({error.strerror}): check DATA_DIR") from error
        self._sweep(number)

    def _sweep(self, newest: int) -> None:
        """Delete the files of old runs, and what an earlier end of the program has left half made."""
        for each in self._folder.iterdir():
            old = each.name.isdecimal() and int(each.name) <= newest - self._keep
            with contextlib.suppress(OSError):
                if old or (each.name.startswith(_HALF_MADE) and time.time() - each.stat().st_mtime > _ABANDONED):
                    shutil.rmtree(each, ignore_errors=True)

    def _read(self, number: int) -> tuple[bytes, bytes] | None:
        place = self._folder / str(number)
        try:
            chart, workbook = (place / CHART).read_bytes(), (place / WORKBOOK).read_bytes()
        except OSError:
            return None
        return (chart, workbook) if chart and workbook else None


# Findings as JSON


_LISTED: Final = select(_RUNS.c.number, _RUNS.c.ended, _RUNS.c.version, _RUNS.c.finding)


def _row(finding: Finding, identity: Identity, ended: datetime) -> dict[str, Any]:
    study = finding.study
    return {
        **asdict(identity),
        "ended": ended,
        **{name: getattr(study, name) for name in ("kind", "symbol", "interval", "days", "strategy")},
        "verdict": finding.verdict.word,
        "seconds": float(finding.seconds),
        "first": int(finding.first),
        "last": int(finding.last),
        "params_fingerprint": finding.params_fingerprint,
        "data_fingerprint": finding.data_fingerprint,
        "version": VERSION,
        "finding": encode(finding),
    }


def _listed(rows: Sequence[Row[Any]]) -> list[tuple[int, int, Finding]]:
    """The rows that can be read; what another version has written is left out."""
    found = []
    for number, ended, version, text in map(tuple, rows):
        try:
            if version != VERSION:
                raise UnreadableFinding(f"version {version} of a finding, this program knows {VERSION}")
            found.append((number, millis(ended), decode(text)))
        except UnreadableFinding as error:
            log.warning("run_unreadable run=%d reason='%s' next='it is left out'", number, error)
    return found


def encode(finding: Finding) -> str:
    """A finding as one JSON object; `UnreadableFinding` when it cannot be exact."""
    try:
        return _ENCODER.encode(finding)
    except (TypeError, ValueError) as error:
        raise UnreadableFinding(f"a finding that cannot be stored: {error}") from error


def decode(text: str) -> Finding:
    """The finding that `encode` wrote; `UnreadableFinding` for what does not fit."""
    try:
        raw = _DECODER.decode(text)
        study, verdict = raw.pop("study"), raw.pop("verdict")
        grid = tuple((name, tuple(values)) for name, values in study.pop("grid"))
        effect = raw.pop("effect", None)
        return Finding(
            study=Study(**study, grid=grid),
            verdict=Verdict(word=verdict["word"], reasons=tuple(verdict["reasons"])),
            rows=tuple((params, metrics) for params, metrics in raw.pop("rows")),
            effect=None if effect is None else CouncilEffect(**effect),
            **raw,
        )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UnreadableFinding(f"a finding that does not fit: {error}") from error


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} is no number, text or truth")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number that may be stored")


_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain)
_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant)
