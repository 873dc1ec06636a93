"""How the models' keys fare and what a day has cost, over restarts and kills. Of no account: keys and money are shared.

Nothing of a key is stored but its fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from decimal import Decimal
from typing import Any, Final

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from storage.database import Database
from trading.llm.budget import Caps, Spent
from trading.llm.keys import KeyRecord

_KEYS: Final = tables.table(tables.ModelKeys)
_SPENDING: Final = tables.table(tables.ModelSpending)

_ADD_KEY: Final = insert(_KEYS)
_KEEP_KEY: Final = _ADD_KEY.on_conflict_do_update(
    index_elements=["provider", "fingerprint"],
    set_={column.name: _ADD_KEY.excluded[column.name] for column in _KEYS.columns if not column.primary_key},
)
_OPEN_DAY: Final = insert(_SPENDING).on_conflict_do_nothing()
_DAY: Final = select(_SPENDING.c.tokens, _SPENDING.c.usd).where(_SPENDING.c.day == bindparam("of_day"))
_MOVE_DAY: Final = (
    update(_SPENDING)
    .where(_SPENDING.c.day == bindparam("of_day"))
    .values(tokens=bindparam("new_tokens"), usd=bindparam("new_usd", type_=_SPENDING.c.usd.type))
)


class SqlKeys:
    """`trading.llm.keys.PoolStore` in the database."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self) -> Sequence[KeyRecord]:
        """Every key that was ever used; a key that is not configured any more may come back."""
        async with self._db.read() as session:
            rows = (await session.execute(select(_KEYS))).mappings().all()
        return [KeyRecord(**row) for row in rows]

    async def save(self, records: Sequence[KeyRecord]) -> None:
        """Replace these, committed when it returns. `Transient`: nothing was written."""
        rows: list[dict[str, Any]] = [asdict(record) for record in records]
        if rows:
            await self._db.write(lambda connection: connection.execute(_KEEP_KEY, rows))


class SqlSpending:
    """`trading.llm.budget.SpendingStore` in the database: whoever else spends from it is counted too."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def spent(self, day: date) -> Spent:
        """The sum of a day; zeros for one on which nothing was spent."""
        async with self._db.read() as session:
            row = (await session.execute(_DAY, {"of_day": day.isoformat()})).first()
        return Spent() if row is None else Spent(tokens=row.tokens, usd=row.usd)

    async def add(self, day: date, tokens: int, usd: Decimal, caps: Caps | None) -> tuple[bool, Spent]:
        """Add, unless the sum would be beyond `caps`: whether it was, and the sum then; committed when it returns."""

        def work(connection: Connection) -> tuple[bool, Spent]:
            name = day.isoformat()
            connection.execute(_OPEN_DAY, {"day": name, "tokens": 0, "usd": Decimal(0)})
            row = connection.execute(_DAY.with_for_update(), {"of_day": name}).one()
            before = Spent(tokens=row.tokens, usd=row.usd)
            after = before.plus(tokens, usd)
            if caps is not None and not after.within(caps):
                return False, before
            connection.execute(_MOVE_DAY, {"of_day": name, "new_tokens": after.tokens, "new_usd": after.usd})
            return True, after

        return await self._db.write(work)
