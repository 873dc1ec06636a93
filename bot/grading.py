"""A grade is worked out once: as long as no candidate has been added or has ended, the last one is the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trading.grades import Graded, Grader, Judged
from trading.pictures import Theme


class RememberingGrader:
    """A `Grader` that asks another one, and not again for the same rows. Who asks meanwhile waits for the same work."""

    def __init__(self, grader: Grader) -> None:
        self._grader = grader
        self._turn = asyncio.Lock()
        self._asked: tuple[tuple[Judged, ...], str, Theme] | None = None
        self._known: Graded | None = None

    async def grade(self, rows: Sequence[Judged], title: str, theme: Theme) -> Graded:
        """As the other one; a failure is not remembered."""
        asked = (tuple(rows), title, theme)
        async with self._turn:
            if self._known is None or asked != self._asked:
                self._known = await self._grader.grade(rows, title, theme)
                self._asked = asked
            return self._known
