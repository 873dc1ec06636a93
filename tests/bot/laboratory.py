"""A laboratory that is small and real: it computes, remembers, tells how far it is, and can be held or told to fail."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import mean, stdev
from typing import Any

from tests.bot.phone.driver import Json
from trading.errors import ConclaveError
from trading.laboratory import WAITING, CouncilEffect, Finding, Found, Progress, Study, Verdict, Word

CHART = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c"
    "638ccff0a50e00038601800cd96a770000000049454e44ae426082"
)
ENDED = 1_784_635_200_000  # ms UTC
DAY = 86_400_000


@dataclass
class Work:
    """A study that is being done: `tell` says how far it is, `go` lets it end."""

    study: Study
    tell: Callable[[Progress], None]
    go: asyncio.Event = field(default_factory=asyncio.Event)
    ended: str = ""


class SmallLaboratory:
    """One study at a time; known ones at once. `held`: studies wait for their `go`; `fails` is raised instead."""

    def __init__(self, *, held: bool = False, word: Word = "NOT PROVEN", made_up: bool = True) -> None:
        self.held = held
        self.word = word
        self.made_up = made_up
        self.fails: ConclaveError | None = None
        self.works: list[Work] = []
        self.found: list[Found] = []
        self.gains: dict[tuple[Any, ...], float] = {}
        self._turn = asyncio.Lock()
        self._begun = asyncio.Condition()

    async def find(self, study: Study, tell: Callable[[Progress], None]) -> Found:
        """Done once, in turn; cancelling ends it."""
        known = next((each for each in self.found if each.finding.study == study), None)
        if known is not None:
            return replace(known, finding=replace(known.finding, cached=True))
        if self._turn.locked():
            tell(Progress(stage=WAITING))
        async with self._turn:
            work = await self._begin(study, tell)
            try:
                await work.go.wait()
            except asyncio.CancelledError:
                work.ended = "cancelled"
                raise
            work.ended = "done"
            if self.fails is not None:
                raise self.fails
            return self._done(study)

    async def runs(self, count: int) -> Sequence[tuple[int, int, Finding]]:
        """The newest first."""
        return [(each.run, ENDED + each.run, each.finding) for each in reversed(self.found)][:count]

    async def run(self, number: int) -> Finding | None:
        """By its number."""
        return next((each.finding for each in self.found if each.run == number), None)

    def warm(self) -> None:
        """There is nothing to get ready."""

    async def begun(self, count: int = 1) -> Work:
        """The latest study once so many have begun."""
        async with asyncio.timeout(10), self._begun:
            await self._begun.wait_for(lambda: len(self.works) >= count)
        return self.works[-1]

    async def _begin(self, study: Study, tell: Callable[[Progress], None]) -> Work:
        work = Work(study, tell)
        if not self.held:
            work.go.set()
        async with self._begun:
            self.works.append(work)
            self._begun.notify_all()
        return work

    def _done(self, study: Study) -> Found:
        finding = self._best(study)
        run = 88 + len(self.found)
        found = Found(run=run, finding=finding, chart=CHART, workbook=b"PK-book", workbook_name=f"run-{run}.xlsx")
        self.found.append(found)
        return found

    def _best(self, study: Study) -> Finding:
        names = [name for name, _ in study.grid]
        sets = [dict(zip(names, each, strict=True)) for each in product(*(values for _, values in study.grid))]
        ranked = sorted(((traded(study, each), each) for each in sets), key=lambda pair: -pair[0]["sharpe"])
        metrics, chosen = ranked[0]
        bars = (study.days or 400) * 1440 // study.interval
        return a_finding(
            study,
            verdict=Verdict(word=self.word, reasons=(f"{metrics['trades']} trades (<100)", "out-of-sample Sharpe 0.3")),
            metrics=metrics,
            trials=len(sets),
            bars=bars,
            chosen=chosen,
            made_up=self.made_up,
            data_fingerprint=f"{study.symbol}-{study.interval}-{study.days}",
            rows=tuple((each, figures) for figures, each in ranked[:10]),
            effect=an_effect() if study.has_council else None,
        )


def traded(study: Study, chosen: Json) -> Json:
    """Forty-one trades whose results follow from the parameters alone."""
    values = {**study.values, **chosen}
    chance = random.Random(repr((study.symbol, study.interval, study.days, study.strategy, sorted(values.items()))))
    results = [chance.gauss(0.1, 1.5) for _ in range(41)]
    won = [each for each in results if each > 0]
    lost = [each for each in results if each <= 0]
    return {
        "total_return": sum(results) / 100,
        "sharpe": mean(results) / stdev(results) * 4,
        "sortino": None,
        "max_drawdown": 0.079,
        "calmar": 0.8,
        "win_rate": len(won) / len(results),
        "profit_factor": sum(won) / -sum(lost),
        "expectancy_r": mean(results),
        "trades": len(results),
        "exposure": 0.31,
        "fees": 210.0,
        "funding": 80.5,
    }


def an_effect(**changes: Any) -> CouncilEffect:
    """What a council did that helped a little."""
    metrics = {"total_return": -0.13, "max_drawdown": 0.17, "trades": 88, "sharpe": -0.4}
    fields: Json = {"metrics": metrics, "candidates": 101, "guarded": 12, "vetoed": 48, "shrunk": 9}
    return CouncilEffect(**(fields | changes))


def a_finding(study: Study, **changes: Any) -> Finding:
    """The specification's example."""
    fields: Json = {
        "study": study,
        "verdict": Verdict(word="NOT PROVEN", reasons=("41 trades (<100)", "out-of-sample Sharpe 0.3")),
        "metrics": {
            "total_return": 0.062, "sharpe": 0.41, "sortino": None, "max_drawdown": 0.079, "calmar": 0.8,
            "win_rate": 0.46, "profit_factor": 1.12, "expectancy_r": 0.05, "trades": 41, "exposure": 0.31,
            "fees": 210.0, "funding": 80.5,
        },
        "hold_return": 0.184, "hold_drawdown": 0.22, "gross": 1030.0, "fees": 210.0, "funding": 80.5, "slippage": 119.5,
        "out_of_sample": 0.3, "trials": 1, "first": ENDED - 365 * DAY, "last": ENDED, "bars": 35_040,
        "params_fingerprint": "a91f03", "data_fingerprint": "7c02aa", "made_up": False, "seconds": 12.4,
    }  # fmt: skip
    return Finding(**(fields | changes))
