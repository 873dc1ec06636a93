"""Keys' states and a day's spending, kept as long as a test lasts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal

from trading.llm.budget import Caps, Spent
from trading.llm.keys import KeyRecord


class MemoryKeys:
    """`PoolStore` for a run that leaves nothing behind."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], KeyRecord] = {}

    async def load(self) -> Sequence[KeyRecord]:
        """Every record there is."""
        return list(self._records.values())

    async def save(self, records: Sequence[KeyRecord]) -> None:
        """Replace these."""
        self._records.update({record.identity: record for record in records})


class MemorySpending:
    """`SpendingStore` for a run that leaves nothing behind."""

    def __init__(self) -> None:
        self._days: dict[date, Spent] = {}

    async def spent(self, day: date) -> Spent:
        """The sum of a day."""
        return self._days.get(day, Spent())

    async def add(self, day: date, tokens: int, usd: Decimal, caps: Caps | None) -> tuple[bool, Spent]:
        """Add unless it would be too much."""
        before = self._days.get(day, Spent())
        after = before.plus(tokens, usd)
        if caps is not None and not after.within(caps):
            return False, before
        self._days[day] = after
        return True, after
