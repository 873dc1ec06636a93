"""A list of candidates before a council, from the first to the last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from research.candidates import Candidate, Hearing
from trading.grades import Judged
from trading.ports import Council


async def judge(
    asked: Iterable[Candidate], council: Council, *, others: Mapping[str, Council] | None = None
) -> list[Judged]:
    """What a council says of every candidate that the first guard lets through, and the others of the same ones.

    What the council itself says that others think is told under their names, too; what models conclude after their
    council has answered is not waited for. It ends where the day's budget does; `Unrecorded` from a cassette.
    """
    hearing = Hearing(council, others)
    for candidate in asked:
        if not await hearing.hear(candidate):
            break
    if hearing.missed:
        raise hearing.missed
    return hearing.rows
