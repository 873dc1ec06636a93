"""The studio: charts and workbooks are made in a process of their own, so that the event loop never waits for them.

`Studio` lives in the bot's process and imports neither a plotting library nor one for Excel; `work` is the drawing
process (see `research.worker` for how the two stand to each other). A report comes from the laboratory as bytes and
goes through here as bytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Final, cast

from research.worker import Answer, Craft, Pieces, Tell, Worker, serve
from trading.grades import Grade, Judged
from trading.pictures import Picture, Theme, thinned

DEADLINE: Final = 10.0  # seconds for one picture
REPORT_DEADLINE: Final = 60.0  # for a chart and a workbook of many thousand trades, or candidates
_QUEUE: Final = 8  # pictures drawn and waited for at a time
_NICE: Final = 15
_CRAFT: Final = Craft(one="chart", many="charts", made="drawn", shorter="try a shorter period")


class Studio:
    """A `Painter` with one drawing process, started by the first picture or by `warm`."""

    def __init__(self, *, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._worker = Worker("research.studio", _CRAFT, queue=_QUEUE)

    @property
    def pid(self) -> int | None:
        """The drawing process; None while there is none."""
        return self._worker.pid

    async def paint(self, picture: Picture, theme: Theme) -> bytes:
        """A PNG. `Transient`: not now; `BadInput`: choose otherwise; `Rejected`: this picture cannot be drawn."""
        request = pickle.dumps((thinned(picture), theme), protocol=pickle.HIGHEST_PROTOCOL)
        (drawn,) = await self._worker.ask([[request]], deadline=self._deadline)
        return b"".join(drawn)

    async def render(self, report: Pieces, theme: Theme) -> tuple[bytes, bytes]:
        """Chart (PNG) and workbook (xlsx) of a pickled `Report`, which is not looked into; fails as `paint` does."""
        chart, workbook = await self._worker.ask([[theme.encode()], report], deadline=REPORT_DEADLINE)
        return b"".join(chart), b"".join(workbook)

    async def grade(self, rows: Pieces, title: str, theme: Theme) -> tuple[Grade, bytes, bytes]:
        """Grade, chart (PNG) and workbook (xlsx) of candidates, a pickled list in each piece; fails as `paint` does."""
        request = [[theme.encode()], rows, [title.encode()]]
        found, chart, workbook = await self._worker.ask(request, deadline=REPORT_DEADLINE)
        known: Grade = pickle.loads(b"".join(found))  # noqa: S301 - our own process wrote it
        return known, b"".join(chart), b"".join(workbook)

    def warm(self) -> None:
        """Start the drawing process in the background, so that the first picture does not wait for it."""
        self._worker.warm()

    async def close(self) -> None:
        """End the drawing process, at once; what is still being drawn is `Transient`. May be called twice."""
        await self._worker.close()


def work() -> None:
    """The drawing process."""
    serve(_prepared, nice=_NICE)


def _prepared() -> Answer:
    from research.charts import draw

    def answer(request: list[bytes], _: Tell) -> Sequence[bytes]:
        if len(request) == 1:
            picture, theme = pickle.loads(request[0])  # noqa: S301 - our own parent wrote it
            return [draw(picture, theme)]
        from research.render import graded, render

        theme = cast("Theme", request[0].decode())
        if len(request) == 3:
            found, chart, workbook = graded(_joined(request[1]), request[2].decode(), theme)
            return [pickle.dumps(found, protocol=pickle.HIGHEST_PROTOCOL), chart, workbook]
        return render(pickle.loads(request[1]), theme)  # noqa: S301 - our own laboratory wrote it

    return answer


def _joined(content: bytes) -> list[Judged]:
    """Several pickled lists, one behind the other, as one."""
    source, rows = io.BytesIO(content), []
    while source.tell() < len(content):
        rows += pickle.load(source)  # noqa: S301 - our own parent wrote it
    return rows


if __name__ == "__main__":
    work()
