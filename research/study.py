"""A study done whole: walked, searched or walked forward, then held against everything that speaks for and against it.

This is what the laboratory's process and the one-shot commands run. Nothing here knows where the bars came from, and
nothing decides anything about trading.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import numpy as np

from research.backtest import backtest
from research.beside import with_and_without
from research.candles import CandleFile
from research.grid import Grid, Seek, Sums, search
from research.ground import Ground
from research.program import SEARCH, fingerprint
from research.results import Beside, GridTable, Report, Result, WalkForward
from research.significance import buy_and_hold
from research.verdict import Searched, gather, judge
from research.views import effect_of, tested
from research.walkforward import spans, walk_forward
from trading.errors import BadInput
from trading.laboratory import OBJECTIVES, Finding, Progress, Study, Verdict, check_council

SHOWN: Final = 20  # parameter sets of a grid that a finding names
KEPT: Final = "search.npz"
_SAVE_SECONDS: Final = 2.0  # between two savings, at least
_SAVE_SHARE: Final = 20  # and this many times as long as one takes
_LIBRARIES: Final = ("numpy", "numba", "TA-Lib", "vectorbt", "pandas")

Funding = Mapping[int, Decimal]
Tell = Callable[[Progress], None]


class Stopped(Exception):
    """A search was asked to stop. `table`: what it has found so far, which may be nothing; all of it is kept."""

    def __init__(self, table: GridTable) -> None:
        super().__init__(f"stopped after {table.evaluated:,} of {table.combinations:,}")
        self.table = table


def do(
    study: Study,
    file: CandleFile,
    funding: Funding | None,
    *,
    made_up: bool,
    trials: int,
    tell: Tell,
    folder: Path,
    jobs: int,
    stopped: Callable[[], bool] = lambda: False,
    seek: Seek = search,
    keep: bool = False,
) -> Report:
    """The whole answer. `folder`: where a search keeps what it has done, to be taken up again; `keep` leaves that
    there for whoever writes the report down and then calls `forget`.

    trials: parameter sets tried on these bars, this study's own included. `BadInput`: ask differently; `Stopped`:
    `stopped` became true in the middle of a search.
    """
    began = time.monotonic()
    if study.objective not in OBJECTIVES:
        raise BadInput(f"objective {study.objective[:40]!r} is not known: one of {', '.join(OBJECTIVES)}")
    check_council(study)
    work = _Work(study, file, funding, tell, folder, jobs, stopped, seek)
    found = work.found()
    tell(Progress(stage="second opinion"))
    statistics, dissent = _second_opinion(found, funding)
    tell(Progress(stage="evidence"))
    evidence = gather(
        found.result, trials=max(trials, 1), searched=found.searched, walk=found.walk, second_opinion=dissent
    )
    if not keep:
        forget(folder)
    return Report(
        study=study,
        result=found.result,
        hold=buy_and_hold(found.result.series, float(study.values["initial_equity"])),
        evidence=evidence,
        verdict=_said(judge(found.result, evidence), found.grid),
        made_up=made_up,
        seconds=time.monotonic() - began,
        params_fingerprint=params_fingerprint(study),
        data_fingerprint=data_fingerprint(file, funding),
        grid=found.grid,
        walk=found.walk,
        statistics=statistics,
        versions=versions(),
        notes=_notes(study, found.walk),
        beside=found.beside,
    )


def forget(folder: Path) -> None:
    """Remove what a search kept."""
    (folder / KEPT).unlink(missing_ok=True)


def finding(report: Report) -> Finding:
    """The small part of a report: what the chat says and lists."""
    evidence, shown = report.evidence, tested(report)
    series = shown.result.series
    return Finding(
        study=report.study,
        verdict=report.verdict,
        metrics=dict(report.result.metrics),
        hold_return=shown.hold.total_return,
        hold_drawdown=shown.hold.max_drawdown,
        gross=evidence.gross,
        fees=evidence.fees,
        funding=evidence.funding,
        slippage=evidence.slippage,
        out_of_sample=evidence.out_of_sample,
        trials=evidence.trials,
        first=int(series.timestamp[0]),
        last=int(series.timestamp[-1]),
        bars=len(series),
        params_fingerprint=report.params_fingerprint,
        data_fingerprint=report.data_fingerprint,
        made_up=report.made_up,
        seconds=report.seconds,
        chosen=chosen_of(report),
        rows=rows_of(report, SHOWN),
        effect=None if report.beside is None else effect_of(report.beside),
    )


def chosen_of(report: Report) -> dict[str, float]:
    """The parameters that a search or the last fold of a walk-forward has chosen; none for a backtest."""
    if report.grid is not None:
        return row_of(report.grid, int(report.grid.order[0]), report.study.values)[0]
    return dict(report.walk.folds[-1].chosen) if report.walk is not None else {}


def rows_of(report: Report, count: int) -> tuple[tuple[dict[str, Any], dict[str, float | int | None]], ...]:
    """(parameters, metrics) of the best sets of a grid, the best first; or of each fold."""
    if report.grid is not None:
        return tuple(row_of(report.grid, int(row), report.study.values) for row in report.grid.order[:count])
    if report.walk is not None:
        return tuple((dict(fold.chosen), dict(fold.test)) for fold in report.walk.folds)
    return ()


def row_of(
    table: GridTable, row: int, values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, float | int | None]]:
    """One combination: its parameters and its metrics."""
    params = {
        name: int(value) if isinstance(values[name], int) else float(value)
        for name, value in zip(table.names, table.values[row], strict=True)
    }
    return params, {name: _plain(name, float(column[row])) for name, column in table.metrics.items()}


def _plain(name: str, value: float) -> float | int | None:
    if np.isnan(value):
        return None
    return int(value) if name == "trades" else value


def op_config(report: Report) -> dict[str, Any]:
    """What a search found, for a file: the best parameters, all values with them, and how far to believe it."""
    table = report.grid
    if table is None:
        raise BadInput("only a grid search chooses parameters")
    params, figures = row_of(table, int(table.order[0]), report.study.values)
    return {
        "symbol": report.study.symbol,
        "interval": report.study.interval,
        "strategy": report.study.strategy,
        "objective": report.study.objective,
        "params": params,
        "values": {**report.study.values, **params},
        "metrics": figures,
        "verdict": {"word": report.verdict.word, "reasons": list(report.verdict.reasons)},
        "combinations": table.combinations,
        "evaluated": table.evaluated,
        "candles": {"first": _first(report), "rows": len(report.result.series), "data": report.data_fingerprint},
        "made_up": report.made_up,
    }


def _first(report: Report) -> int:
    return int(report.result.series.timestamp[0])


# Doing it


class _Found:
    """What a study's own work gives: the result that is shown, and where it comes from."""

    def __init__(
        self,
        result: Result,
        grid: GridTable | None = None,
        searched: Searched | None = None,
        walk: WalkForward | None = None,
        parts: Sequence[Result] = (),
        beside: Beside | None = None,
    ) -> None:
        self.result = result
        self.grid = grid
        self.searched = searched
        self.walk = walk
        self.parts = parts  # of a walk-forward: the test of each fold
        self.beside = beside


class _Work:
    """One study's own work, by its kind."""

    def __init__(
        self,
        study: Study,
        file: CandleFile,
        funding: Funding | None,
        tell: Tell,
        folder: Path,
        jobs: int,
        stopped: Callable[[], bool],
        seek: Seek,
    ) -> None:
        self._study = study
        self._file = file
        self._funding = funding
        self._tell = tell
        self._folder = folder
        self._jobs = jobs
        self._stopped = stopped
        self._seek = seek

    def found(self) -> _Found:
        """The result with what it was chosen from."""
        kinds = {"backtest": self._backtest, "optimize": self._optimize, "walkforward": self._walk_forward}
        return kinds[self._study.kind]()

    def _grid(self) -> Grid:
        return Grid(strategy=self._study.strategy, values=dict(self._study.values), axes=self._study.grid)

    def _result(self, values: Mapping[str, Any]) -> Result:
        return backtest(
            self._file.series, self._study.strategy, values, self._funding, sha256=self._file.sha256 or None
        )

    def _backtest(self) -> _Found:
        study, series = self._study, self._file.series
        if not study.has_council:
            self._tell(Progress(stage="backtest", total=len(series)))
            return _Found(self._result(study.values))
        meter = _Meter("replay with and without the council", 2 * len(series), self._tell, 0)
        sha256 = self._file.sha256 or None
        result, beside = with_and_without(study, series, self._funding, sha256=sha256, tell=meter.at)
        return _Found(result, beside=beside)

    def _optimize(self) -> _Found:
        grid = self._grid()
        series = self._file.series
        if self._study.folds:
            spans(series, grid, self._study.folds)  # refuses what cannot be walked before anything is searched
        sums = Sums.empty(grid, len(series), series.interval)
        self._folder.mkdir(parents=True, exist_ok=True)
        kept, data = self._folder / KEPT, f"{data_fingerprint(self._file, self._funding)} {fingerprint(*SEARCH)}"
        known = sums.resume(kept, data)
        meter = _Meter("search", grid.combinations, self._tell, known)
        due = time.monotonic() + _SAVE_SECONDS

        def told(done: int) -> None:
            nonlocal due
            meter.at(done)
            if (began := time.monotonic()) > due:
                sums.save(kept, data)
                took = time.monotonic() - began
                due = began + took + max(_SAVE_SECONDS, _SAVE_SHARE * took)

        try:
            self._seek(
                Ground.of(series, self._funding),
                grid,
                jobs=self._jobs,
                known=sums,
                tell=told,
                stopped=self._stopped,
            )
        finally:
            if sums.done.any():
                sums.save(kept, data)
        table = sums.table(self._study.objective, meter.seconds)
        if self._stopped():
            raise Stopped(table)
        numbers = np.flatnonzero(sums.done)
        searched = Searched.of(sums, lambda number: self._result(grid.chosen(number)))
        if self._study.folds:
            with contextlib.suppress(KeyboardInterrupt):  # stopped in the middle of it: the search itself is done
                forward = self._walk_forward()
                return _Found(forward.result, table, searched, forward.walk, forward.parts)
        return _Found(self._result(grid.chosen(int(numbers[table.order[0]]))), table, searched)

    def _walk_forward(self) -> _Found:
        """The joined whole of the tests: nothing in it was chosen on the bars it shows."""
        grid, folds = self._grid(), self._study.folds
        meter = _Meter("walk-forward", grid.combinations * folds, self._tell, 0)
        parts: list[Result] = []
        walk, joined = walk_forward(
            self._file.series,
            grid,
            folds,
            self._study.objective,
            self._funding,
            jobs=self._jobs,
            tell=lambda fold, done: meter.at(fold * grid.combinations + done),
            stopped=self._stopped,
            seek=self._seek,
            look=parts.append,
        )
        return _Found(joined, walk=walk, parts=parts)


class _Meter:
    """Tells how far a search is, with its rate since it began and what that means for the rest."""

    def __init__(self, stage: str, total: int, tell: Tell, known: int) -> None:
        self._stage = stage
        self._total = total
        self._tell = tell
        self._known = known
        self._began = time.monotonic()
        self.at(known)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def at(self, done: int) -> None:
        """So many are done."""
        rate = (done - self._known) / self.seconds if self.seconds > 0 and done > self._known else None
        remaining = (self._total - done) / rate if rate else None
        self._tell(Progress(stage=self._stage, done=done, total=self._total, rate=rate, remaining=remaining))


# Beside it


def _second_opinion(
    found: _Found, funding: Funding | None
) -> tuple[tuple[tuple[str, str], ...], str | None]:
    """vectorbt's books of the same fills; of a walk-forward those of each fold, whose accounts are accounts."""
    from research.accountant import second_opinion

    if found.walk is None:
        return second_opinion(found.result, funding)
    dissent = [(place, second_opinion(part, funding)[1]) for place, part in enumerate(found.parts, 1)]
    return (), next((f"fold {place}: {said}" for place, said in dissent if said is not None), None)


def _said(verdict: Verdict, grid: GridTable | None) -> Verdict:
    """A search that was stopped says so first."""
    if grid is None or grid.evaluated == grid.combinations:
        return verdict
    stopped = f"stopped after {grid.evaluated:,} of {grid.combinations:,}"
    word = "NOT PROVEN" if verdict.word == "PROVEN" else verdict.word
    return replace(verdict, word=word, reasons=(stopped, *verdict.reasons))


def _notes(study: Study, walk: WalkForward | None) -> tuple[str, ...]:
    notes = ["Liquidation, partial fills and the exchange's outages are not modelled."]
    if walk is not None:
        notes.append(f"Embargo between choosing and trading: {walk.embargo} bars. Training grows with every fold.")
    if study.kind == "optimize":
        notes.append(f"Shown is the best of {study.combinations:,} sets by {study.objective}, chosen on these bars.")
    if study.has_council:
        notes.append(f"Traded with the {study.council} council under the account's limits, bar by bar, and judged so.")
    return tuple(notes)


def params_fingerprint(study: Study) -> str:
    """Of every parameter with its value, the grid's included, and of the council with its limits."""
    parts: list[Any] = [study.strategy, {name: float(value) for name, value in study.values.items()}, study.grid]
    if study.has_council:
        parts += [study.council, {name: float(value) for name, value in study.limits.items()}]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def data_fingerprint(file: CandleFile, funding: Funding | None) -> str:
    """Of the bars and of the funding that was given."""
    rates = sorted((at, str(rate)) for at, rate in (funding or {}).items())
    parts = [file.series.symbol, str(file.series.interval), file.first, file.last, file.rows, file.sha256, rates]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def versions() -> tuple[tuple[str, str], ...]:
    """What reckoned it."""
    found = [("Python", platform.python_version())]
    return (*found, *((name, importlib.metadata.version(name)) for name in _LIBRARIES))
