"""Grades councils in the drawing process: numpy, matplotlib and xlsxwriter never stand in the bot's own."""

from __future__ import annotations

import asyncio
import pickle
import re
from collections.abc import Sequence
from typing import Final

from research.studio import Studio
from trading.errors import BadInput
from trading.grades import Graded, Judged
from trading.pictures import Theme

_PIECE: Final = 100
"""Candidates that are packed at a time: about two milliseconds, after which the event loop has its turn."""
_LONGEST: Final = 60  # characters of a file's name


class StudioGrader:
    """A `trading.grades.Grader` on the process that draws, which the pictures of the chat share."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    async def grade(self, rows: Sequence[Judged], title: str, theme: Theme) -> Graded:
        """The grade with its files. `Transient`: not now; `BadInput`: no candidate, or one that cannot be graded."""
        if not rows:
            raise BadInput("there is no candidate to grade a council by: the next ones come with the next closed bars")
        pieces = []
        for at in range(0, len(rows), _PIECE):
            pieces.append(pickle.dumps(list(rows[at : at + _PIECE]), protocol=pickle.HIGHEST_PROTOCOL))
            await asyncio.sleep(0)
        found, chart, workbook = await self._studio.grade(pieces, title, theme)
        return Graded(grade=found, chart=chart, workbook=workbook, workbook_name=named(title))


def named(title: str) -> str:
    """A file name from a title, without what stands there in brackets: council-rules-btcusdt-4h.xlsx."""
    words = re.findall(r"[a-z0-9]+", title.partition(" (")[0].lower())
    return f"{'-'.join(words)[:_LONGEST].strip('-') or 'council'}.xlsx"
