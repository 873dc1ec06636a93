"""How much has been tried: who tries a thousand parameter sets on the same bars finds a good one by luck."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Tried(NamedTuple):
    """A group of parameter sets, told apart by its fingerprint, tried on bars from `first` to `last` (ms UTC)."""

    params: str
    sets: int
    first: int
    last: int


def trials(tried: Iterable[Tried], first: int, last: int) -> int:
    """Parameter sets of all groups that were tried on bars which the span (ms UTC) shares, each group once.

    Two groups that have some sets in common count these twice, which errs on the side of doubt.
    """
    counted: dict[str, int] = {}
    for each in tried:
        if each.first <= last and each.last >= first:
            counted[each.params] = max(counted.get(each.params, 0), each.sets)
    return sum(counted.values())
