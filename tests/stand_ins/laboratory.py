"""A laboratory's process whose studies are small and can be watched: `research.lab` with other research in it.

Each study leaves a line in the file `done` beside its folder. While a file `hold` is there it goes on, telling how far
it is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from research.candles import CandleFile
from research.lab import work
from research.results import Report
from tests.research import samples
from trading.errors import BadInput
from trading.laboratory import Finding, Progress, Study


class SmallResearch:
    """Reports of the plain implementation over the last bars."""

    def do(
        self,
        study: Study,
        file: CandleFile,
        funding: Mapping[int, Decimal] | None,
        *,
        made_up: bool,
        trials: int,
        tell: Callable[[Progress], None],
        folder: Path,
        jobs: int,
    ) -> Report:
        """A small report about the bars it was given."""
        if study.objective == "refuse":
            raise BadInput("choose another objective")
        with (folder.parent / "done").open("a") as done:
            done.write(f"{os.getpid()} {study.symbol} {trials} {jobs} {len(funding or {})}\n")
        step = 0
        while (folder.parent / "hold").exists():
            step += 1
            tell(Progress(stage="holding", done=step))
            time.sleep(0.02)
        report = samples.report(samples.result(file.series.tail(600)), kind=study.kind)
        return replace(report, study=study, made_up=made_up, data_fingerprint=file.sha256)

    def finding(self, report: Report) -> Finding:
        """What stands in the report."""
        series, evidence = report.result.series, report.evidence
        return Finding(
            study=report.study,
            verdict=report.verdict,
            metrics=report.result.metrics,
            hold_return=report.hold.total_return,
            hold_drawdown=report.hold.max_drawdown,
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
        )


if __name__ == "__main__":
    work(SmallResearch)
