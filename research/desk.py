"""The one door to the laboratory: a question goes in, and a finding comes out with its chart and its workbook.

The desk finds the candles, looks among what is known already, has the study done and the report drawn, each in a
process of its own, and keeps the answer. One study is done at a time, and few may wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

from research.lab import SEARCH, Lab, Task
from research.program import fingerprint
from research.sources import CandleSource, Origin
from research.worker import Pieces
from storage.runs import Identity, Run, Runs
from trading.errors import BadInput, Transient
from trading.laboratory import Finding, Found, Progress, Study, check_council
from trading.pictures import Theme

QUEUE: Final = 4
"""Studies that are done or wait, at a time."""
_DECIDING: Final = ("research/**/*.py", "trading/**/*.py")  # the code that an answer depends on


class Renderer(Protocol):
    """Makes a report's files."""

    def warm(self) -> None:
        """Get ready in the background; harmless at any time."""
        ...

    async def render(self, report: Pieces, theme: Theme) -> tuple[bytes, bytes]:
        """Chart (PNG) and workbook (xlsx) of a pickled `Report`."""
        ...


class Desk:
    """A `trading.laboratory.Laboratory`.

    `folder`: where searches keep what they have done so far; `wall`: the wall's clock, for when a run ended; `theme`:
    of the charts.
    """

    def __init__(
        self,
        *,
        lab: Lab,
        renderer: Renderer,
        runs: Runs,
        source: CandleSource,
        folder: Path,
        wall: Callable[[], datetime],
        theme: Theme = "dark",
    ) -> None:
        self._lab = lab
        self._renderer = renderer
        self._runs = runs
        self._source = source
        self._folder = folder.resolve()  # the laboratory's process has another working directory
        self._wall = wall
        self._theme = theme
        self._turn = asyncio.Lock()
        self._asked = 0

    async def find(self, study: Study, tell: Callable[[Progress], None]) -> Found:
        """Do the study, or find it among those done already; see `Laboratory`."""
        check(study)
        origin = await self._source.origin(study, tell)
        if origin is None:
            what = f"{study.symbol} at {study.interval} minutes"
            raise BadInput(f"there are no candles of {what}: main.py fetch {study.symbol} --interval {study.interval}")
        program = await asyncio.to_thread(fingerprint, *_DECIDING)
        asked = identity(study, origin, program=program, theme=self._theme)
        if (run := await self._runs.known(asked)) is not None:
            return _found(run)
        if self._asked >= QUEUE:
            raise Transient(f"{self._asked} studies are being done or wait: ask again when one of them is finished")
        if self._asked:
            tell(Progress(stage="waiting", total=self._asked))
        self._asked += 1
        try:
            async with self._turn:
                return await self._answered(study, origin, asked, tell)
        finally:
            self._asked -= 1

    async def runs(self, count: int) -> Sequence[tuple[int, int, Finding]]:
        """The last runs, the newest first: number, when it ended (ms UTC), finding."""
        return await self._runs.last(count)

    async def run(self, number: int) -> Finding | None:
        """One run's finding; None when there is none of that number."""
        return await self._runs.finding(number)

    def warm(self) -> None:
        """Get ready in the background; harmless at any time."""
        self._lab.warm()

    async def close(self) -> None:
        """End the laboratory's process. The renderer is somebody else's."""
        await self._lab.close()

    async def _answered(self, study: Study, origin: Origin, asked: Identity, tell: Callable[[Progress], None]) -> Found:
        """In its turn: somebody else may have asked the same meanwhile."""
        if (run := await self._runs.known(asked)) is not None:
            return _found(run)
        self._renderer.warm()
        tried = await self._runs.tried(study.symbol, study.interval, asked.lineage)
        task = Task(
            study=study,
            origin=origin,
            params=asked.params,
            tried=tried,
            folder=self._folder / f"{SEARCH}{asked.question[:16]}",
            jobs=self._lab.jobs,
        )
        done = await self._lab.do(task, tell)
        tell(Progress(stage="drawing"))
        chart, workbook = await self._renderer.render(done.report, self._theme)
        finding = replace(done.finding, cached=False)
        number = await self._runs.add(finding, asked, ended=self._wall(), chart=chart, workbook=workbook)
        return Found(
            run=number,
            finding=finding,
            chart=chart,
            workbook=workbook,
            workbook_name=workbook_name(study, number),
        )


def check(study: Study) -> None:
    """`BadInput` for what no study can be."""
    if study.interval < 1:
        raise BadInput(f"{study.interval} is no timeframe: give whole minutes, 1 or more")
    if study.days is not None and study.days < 1:
        raise BadInput(f"{study.days} days are none: ask for 1 or more")
    if empty := [name for name, values in study.grid if not values]:
        raise BadInput(f"the grid has no values for {empty[0]}: name at least one")
    check_council(study)


def identity(study: Study, origin: Origin, *, program: str, theme: Theme) -> Identity:
    """What tells this answer from every other one: the question, the bars, and the program that answers."""
    values = {name: float(value) for name, value in study.values.items()}
    axes = [(name, [float(each) for each in axis]) for name, axis in study.grid]
    sets: list[object] = [study.strategy, values, axes]
    if study.has_council:  # one that has none counts as the same trial that it always was
        sets += [study.council, {name: float(value) for name, value in study.limits.items()}]
    terms = [study.kind, study.symbol, study.interval, study.days, study.objective, study.folds, theme, program]
    return Identity(
        question=_hashed([terms, sets]),
        source=_hashed(origin.key),
        params=_hashed(sets),
        sets=study.combinations,
        lineage=origin.lineage,
    )


def workbook_name(study: Study, number: int) -> str:
    """The workbook's name as somebody gets it."""
    return f"{study.symbol}-{study.interval}m-{study.kind}-{number}.xlsx"


def _hashed(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _found(run: Run) -> Found:
    return Found(
        run=run.number,
        finding=replace(run.finding, cached=True),
        chart=run.chart,
        workbook=run.workbook,
        workbook_name=workbook_name(run.finding.study, run.number),
    )
