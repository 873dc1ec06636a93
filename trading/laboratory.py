"""What the laboratory is asked and what it answers, as plain data: the bot asks, the research desk answers.

Times are ms UTC, money is USDT, shares are fractions. Whatever is undefined is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from trading.errors import BadInput

Kind = Literal["backtest", "optimize", "walkforward"]
Word = Literal["PROVEN", "NOT PROVEN", "LOSES"]
OBJECTIVES: Final = ("sharpe", "return", "calmar", "expectancy")
COUNCILS: Final = ("off", "rules")
"""Councils that a backtest can have: none, or the rules twins. Models answer for the present only."""
WAITING: Final = "waiting"
"""The stage of a study whose turn has not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is to be found out. `values` holds every name of the specification: strategy, rules, account, instrument.

    interval: minutes of a bar. days: how many days up to the newest bar, None for all there are. grid: parameters
    with the values to try, in order (empty for a backtest). folds: of a walk-forward. council: one of `COUNCILS`; with
    one, the bars are replayed with it and without it. limits: the account's limits by name under which it is then
    traded; what is not named has its default.
    """

    kind: Kind
    symbol: str
    interval: int
    days: int | None
    strategy: str
    values: Mapping[str, float]
    grid: tuple[tuple[str, tuple[float, ...]], ...] = ()
    objective: str = "sharpe"
    folds: int = 0
    council: str = "off"
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def has_council(self) -> bool:
        """Is it done with a council, and without it beside?"""
        return self.council != "off"

    @property
    def combinations(self) -> int:
        """How many parameter sets the grid holds."""
        count = 1
        for _, values in self.grid:
            count *= len(values)
        return count

    @property
    def chosen_from(self) -> int:
        """Of how many sets the shown result is the best on its own bars: 1 where they were chosen on others."""
        return self.combinations if self.kind == "optimize" and not self.folds else 1


def check_council(study: Study) -> None:
    """`BadInput` for a council that there is not, or that this kind of study cannot have."""
    if study.council not in COUNCILS:
        raise BadInput(f"council={study.council[:40]} is not known: one of {', '.join(COUNCILS)}")
    if study.has_council and study.kind != "backtest":
        raise BadInput("a search has no council: backtest what it finds with council=rules")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a study is. `done` of `total` in the unit of the stage; `rate` units a second, `remaining` seconds."""

    stage: str
    done: int = 0
    total: int = 0
    rate: float | None = None
    remaining: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What may be believed. `reasons` says why, the weightiest first; there is always one."""

    word: Word
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CouncilEffect:
    """What a council did to a backtest: `metrics` are those of the same bars without it.

    candidates: that the strategy proposed with it. guarded: rejected by guards in code, or because they could not be
    sized; vetoed: by the council; shrunk: traded at less than base size. last_entry: when the last one was approved
    (ms UTC, None: never), where many came after it; `shut` then says why the last of them was not.
    """

    metrics: Mapping[str, float | int | None]
    candidates: int
    guarded: int
    vetoed: int
    shrunk: int
    last_entry: int | None = None
    shut: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a study found, small enough for a list and a caption; the whole stands in its files.

    metrics: those of the specification, of the result that is shown (the best of a grid, the out-of-sample whole of a
    walk-forward). hold_return, hold_drawdown: buy-and-hold over the same bars. gross: profit before costs;
    fees, funding, slippage: what was paid. out_of_sample: Sharpe ratio on bars that nothing was chosen on, None where
    there are none. trials: parameter sets that were tried on these bars. chosen: the parameters an optimisation would
    apply, by name (only those of its grid). rows: (parameters, metrics) of the best sets of a grid, the best first, or
    of each fold. cached: the answer was known; `seconds` is then what finding it had taken. effect: of the council,
    where the study has one.
    """

    study: Study
    verdict: Verdict
    metrics: Mapping[str, float | int | None]
    hold_return: float
    hold_drawdown: float
    gross: float
    fees: float
    funding: float
    slippage: float
    out_of_sample: float | None
    trials: int
    first: int
    last: int
    bars: int
    params_fingerprint: str
    data_fingerprint: str
    made_up: bool
    seconds: float
    chosen: Mapping[str, float] = field(default_factory=dict)
    rows: tuple[tuple[Mapping[str, Any], Mapping[str, float | int | None]], ...] = ()
    cached: bool = False
    effect: CouncilEffect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finding with its files: the chart (PNG) and the workbook (xlsx), and the run's number."""

    run: int
    finding: Finding
    chart: bytes
    workbook: bytes
    workbook_name: str


class Laboratory(Protocol):
    """Backtests, searches and walk-forwards, away from the event loop; nothing here can trade.

    What is known already is answered at once; else one study is done at a time, in the order of asking, and one that
    waits is told so by a `Progress` whose stage is `WAITING`.
    """

    async def find(self, study: Study, tell: Callable[[Progress], None]) -> Found:
        """Do the study, or find it among those done already. Cancelling the call ends the work.

        `BadInput`: ask differently, it says how. `Transient`: not now. `Rejected`: this very study cannot be done.
        `tell` is called from the event loop.
        """
        ...

    async def runs(self, count: int) -> Sequence[tuple[int, int, Finding]]:
        """The last runs, the newest first: number, when it ended (ms UTC), finding."""
        ...

    async def run(self, number: int) -> Finding | None:
        """One run's finding; None when there is none of that number."""
        ...

    def warm(self) -> None:
        """Get ready in the background; harmless at any time."""
        ...
