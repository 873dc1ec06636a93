"""The laboratory's process: backtests, searches and walk-forwards, with everything heavy that they need.

`Lab` is the bot's side; `work` is the other one (see `research.worker` for how the two stand to each other). It is as
polite as a process can be, and the only one that imports numba and vectorbt. `done` does the same work in whatever
process calls it: that is what the commands without a bot do.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from research.sources import Funding, MadeUp, Origin
from research.worker import MODEST, Answer, Craft, Pieces, Worker, serve
from research.worker import Tell as Word
from storage.trials import Tried, trials
from trading.errors import Transient
from trading.laboratory import Finding, Progress, Study
from trading.parameters import AccountTerms, InstrumentTerms, TradeRules

if TYPE_CHECKING:
    from research.candles import CandleFile
    from research.results import Report

DEADLINE: Final = 1800.0  # seconds for one study
REST: Final = 900.0  # idle seconds after which the process gives its memory back
QUEUE: Final = 8
START: Final = 180.0  # seconds until the process is ready: the first start after an update compiles the kernel
SEARCH: Final = "search-"
"""What the names of folders begin with in which searches keep what they have done."""
_FORGOTTEN: Final = 7 * 86_400.0  # seconds
_REHEARSED: Final = "ema_trend"
_CRAFT: Final = Craft(one="study", many="studies", made="done", shorter="try fewer days or a smaller grid")

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A study with where its bars come from.

    `tried`: what was tried on this history before; `params`: fingerprint of the study's own sets, as it is there.
    `folder`: where a search keeps what it has done, its own; `jobs`: cores.
    """

    study: Study
    origin: Origin
    params: str
    tried: tuple[Tried, ...]
    folder: Path
    jobs: int

    def trials(self, first: int, last: int) -> int:
        """Parameter sets that will have been tried on bars that this span shares, the study's own included."""
        own = Tried(params=self.params, sets=self.study.chosen_from, first=first, last=last)
        return trials((*self.tried, own), first, last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A study that was done: the finding, and the report as bytes, for the studio to look into."""

    finding: Finding
    report: Pieces


class Research(Protocol):
    """What does a study: the module `research.study`."""

    def do(
        self,
        study: Study,
        file: CandleFile,
        funding: Funding | None,
        *,
        made_up: bool,
        trials: int,
        tell: Tell,
        folder: Path,
        jobs: int,
    ) -> Report:
        """The whole answer. `trials`: see `Task.trials`."""
        ...

    def finding(self, report: Report) -> Finding:
        """Its small part."""
        ...


class Lab:
    """One laboratory process, started by the first study or by `warm`."""

    def __init__(
        self, *, jobs: int | None = None, deadline: float = DEADLINE, rest: float = REST, module: str = "research.lab"
    ) -> None:
        self.jobs = jobs or max((os.cpu_count() or 1) - 1, 1)  # a core stays with whoever trades
        self._deadline = deadline
        self._worker = Worker(module, _CRAFT, queue=QUEUE, start=START, limits=_limits(self.jobs), rest=rest)

    @property
    def pid(self) -> int | None:
        """The laboratory's process; None while there is none."""
        return self._worker.pid

    async def do(self, task: Task, tell: Tell) -> Done:
        """Do a study. `BadInput`: ask differently; `Transient`: not now; `Rejected`: it cannot be done at all.

        Cancelling the call kills the process; the next one is started at once, in the background.
        """
        request = pickle.dumps(task, protocol=pickle.HIGHEST_PROTOCOL)

        def told(word: bytes) -> None:
            tell(pickle.loads(word))  # noqa: S301 - our own child wrote it

        try:
            found, report = await self._worker.ask([[request]], deadline=self._deadline, tell=told)
        except asyncio.CancelledError:
            self.warm()
            raise
        return Done(finding=pickle.loads(b"".join(found)), report=report)  # noqa: S301 - our own child wrote it

    def warm(self) -> None:
        """Start the process in the background and let it load compiled code."""
        self._worker.warm()

    async def close(self) -> None:
        """End the process, at once. May be called twice."""
        await self._worker.close()


def _limits(jobs: int) -> tuple[str, ...]:
    """No library may start threads of its own for a matrix product: the kernel's are all there are."""
    single = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS")
    return (*(f"{name}=1" for name in single), f"NUMBA_NUM_THREADS={jobs}")


def done(task: Task, tell: Tell, research: Research | None = None) -> Report:
    """Do a study here and now: for the laboratory's process, and for commands that have no bot beside them."""
    tell(Progress(stage="candles"))
    file, funding = task.origin.open()
    _tidy(task.folder)
    report = (research or _research()).do(
        task.study,
        file,
        funding,
        made_up=task.origin.made_up,
        trials=task.trials(file.first, file.last),
        tell=tell,
        folder=task.folder,
        jobs=task.jobs,
    )
    with contextlib.suppress(OSError):
        task.folder.rmdir()  # unless a search that was stopped has left something to go on from
    return report


def _tidy(folder: Path) -> None:
    """Make a search's folder, and forget searches that nobody has gone on with for long."""
    with contextlib.suppress(OSError):
        for each in folder.parent.glob(f"{SEARCH}*"):
            if time.time() - each.stat().st_mtime > _FORGOTTEN:
                shutil.rmtree(each, ignore_errors=True)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Transient(f"{folder} cannot be made ({error.strerror}): check DATA_DIR and free space") from error


def rehearse(research: Research) -> None:
    """A small backtest and a small search, so that libraries are imported and compiled code is loaded."""
    from trading.strategy import strategy_named  # TA-Lib

    values: dict[str, float] = {}
    for terms in (strategy_named(_REHEARSED).parameters(), TradeRules(), AccountTerms(), InstrumentTerms()):
        values |= terms.as_dict()
    study = Study(kind="backtest", symbol="BTCUSDT", interval=240, days=100, strategy=_REHEARSED, values=values)
    search = replace(study, kind="optimize", grid=(("adx_min", (15.0, 20.0)),))
    origin = MadeUp(symbol=study.symbol, seed=0, bars=600, interval=study.interval)
    with tempfile.TemporaryDirectory() as folder:
        for each in (study, search):
            task = Task(study=each, origin=origin, params="", tried=(), folder=Path(folder) / "search", jobs=1)
            with contextlib.suppress(Exception):  # what is wrong is told to whoever asks for a study
                done(task, lambda _: None, research)


def _research() -> Research:
    from research import study

    return study


def work(load: Callable[[], Research] = _research) -> None:
    """The laboratory's process. `load` imports what does the studies."""

    def prepared() -> Answer:
        research = load()
        rehearse(research)

        def answer(request: list[bytes], word: Word) -> Sequence[bytes]:
            task = pickle.loads(request[0])  # noqa: S301 - our own parent wrote it

            def tell(progress: Progress) -> None:
                word(pickle.dumps(progress))

            report = done(task, tell, research)
            parts = (research.finding(report), report)
            return [pickle.dumps(part, protocol=pickle.HIGHEST_PROTOCOL) for part in parts]

        return answer

    serve(prepared, nice=MODEST)


if __name__ == "__main__":
    if sys.argv[1:] == ["warm"]:  # `make install`: compile now what would be compiled before the first study
        rehearse(_research())
    else:
        work()
