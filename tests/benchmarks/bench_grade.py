"""What a council's grade costs: the arithmetic, its chart and its workbook, and what the bot's loop feels of it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable

from research.charts import draw
from research.charts.council import CouncilPicture
from research.grade import curves, grade
from research.grader import StudioGrader
from research.studio import Studio
from research.workbook.council import write_grade
from tests.benchmarks import Figure, benchmark
from tests.benchmarks.bench_charts import IDLE, lag, metered
from tests.research.councils import full

CANDIDATES = 2_000
EACH = 5
TITLE = "strict council, BTC ETH 4h"


@benchmark
def grading() -> Iterable[Figure]:
    """Each part in this process."""
    rows = full(count=CANDIDATES)
    found = grade(rows)
    picture = CouncilPicture(title=TITLE, grade=found, curves=curves(rows))
    parts: dict[str, Callable[[], object]] = {
        "grade": lambda: grade(rows),
        "its curves": lambda: curves(rows),
        "its chart": lambda: draw(picture, "dark"),
        "its workbook": lambda: write_grade(found, rows, TITLE),
    }
    for name, part in parts.items():
        taken = []
        for _ in range(EACH):
            started = time.perf_counter()
            part()
            taken.append((time.perf_counter() - started) * 1000)
        note = f"worst of {EACH}: {max(taken):.0f} ms, {CANDIDATES:,} candidates of three agents"
        yield Figure(name=f"council, {name}", value=statistics.median(taken), unit="ms", note=note)


@benchmark
def grading_beside() -> Iterable[Figure]:
    """As the bot asks for it: in the drawing process, with the loop's lag meanwhile."""
    return asyncio.run(_beside())


async def _beside() -> list[Figure]:
    rows, studio = full(count=CANDIDATES), Studio()
    grader = StudioGrader(studio)
    with metered() as lags:  # what the machine itself does to the loop just now
        await asyncio.sleep(IDLE)
    figures = list(lag("nothing is graded", lags))
    await grader.grade(rows[:100], TITLE, "dark")
    taken = []
    with metered() as lags:
        for _ in range(EACH):
            started = time.perf_counter()
            await grader.grade(rows, TITLE, "dark")
            taken.append((time.perf_counter() - started) * 1000)
    note = f"worst of {EACH}: {max(taken):.0f} ms, chart and workbook included"
    figures.append(Figure(name="council, graded with its files", value=statistics.median(taken), unit="ms", note=note))
    figures += lag("grading", lags)
    await studio.close()
    return figures
