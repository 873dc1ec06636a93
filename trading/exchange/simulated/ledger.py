"""What the paper exchange remembers: in memory for a replay, in its own SQLite file for a running market.

The bot never reads this file: it is the exchange's, and survives a kill of the process like a real one would.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from trading.errors import Misconfigured
from trading.exchange.simulated.books import Fill, Order, VenueState
from trading.model import millis

RECENT = 2000
FORMAT = 2  # of the bodies below; another one begins a new account

SCHEMA = """
CREATE TABLE IF NOT EXISTS market (one INTEGER PRIMARY KEY CHECK (one = 1), key TEXT NOT NULL, uid TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0, state TEXT);
CREATE TABLE IF NOT EXISTS closed_orders (order_id TEXT PRIMARY KEY, link_id TEXT NOT NULL, symbol TEXT NOT NULL,
    body TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS closed_by_link ON closed_orders (link_id) WHERE link_id != '';
CREATE TABLE IF NOT EXISTS fills (seq INTEGER PRIMARY KEY, symbol TEXT NOT NULL, order_id TEXT NOT NULL,
    link_id TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS fills_by_time ON fills (symbol, at);
CREATE INDEX IF NOT EXISTS fills_by_order ON fills (order_id);
"""


class MemoryKeeper:
    """Keeps the recent past only, so that a long replay does not grow with its trades."""

    def __init__(self, recent: int = RECENT) -> None:
        self._recent = recent
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._links: dict[str, Order] = {}
        self._fills: deque[Fill] = deque(maxlen=recent)

    def keep(self, state: Callable[[], VenueState], closed: Sequence[Order], fills: Sequence[Fill]) -> None:
        """Remember closed orders and fills; the live state needs no keeping here."""
        self._fills.extend(fills)
        for order in closed:
            self._orders[order.order_id] = order
            if order.asked.link_id:
                self._links[order.asked.link_id] = order
        while len(self._orders) > self._recent:
            _, gone = self._orders.popitem(last=False)
            self._links.pop(gone.asked.link_id, None)

    def find(self, link_id: str) -> Order | None:
        """A recently closed order."""
        return self._links.get(link_id)

    def order(self, order_id: str) -> Order | None:
        """A recently closed order."""
        return self._orders.get(order_id)

    def closed_orders(self, symbol: str | None = None) -> Iterator[Order]:
        """Recently closed orders."""
        return (order for order in reversed(self._orders.values()) if symbol in {None, order.asked.symbol})

    def fills(
        self,
        symbol: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        order_id: str = "",
        link_id: str = "",
    ) -> Iterator[Fill]:
        """Recent fills."""
        for fill in reversed(self._fills):
            wanted = symbol in {None, fill.symbol} and order_id in {"", fill.order_id} and link_id in {"", fill.link_id}
            if wanted and (since is None or fill.at >= since) and (until is None or fill.at <= until):
                yield fill


ORDERS, FILLS, STATES = TypeAdapter(Order), TypeAdapter(Fill), TypeAdapter(VenueState)


class LedgerFile:
    """The durable ledger of one market. `key` names the market; another key, or a market that has run to its
    end, begins a new account with a new `uid`, so that nobody mistakes one ledger's state for another's."""

    def __init__(self, path: Path, key: str, new_uid: Callable[[], str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.chmod(0o600)
            self._db = sqlite3.connect(path, isolation_level=None)
            self.uid, self.state = self._load(f"{FORMAT}:{key}", new_uid)
        except OSError as error:
            raise Misconfigured(f"{path} cannot be opened ({error.strerror}): check DATA_DIR") from error
        except (sqlite3.DatabaseError, ValidationError) as error:
            why = "its content is not readable" if isinstance(error, ValidationError) else error
            raise Misconfigured(f"{path} is damaged ({why}): move it away, and a new paper account begins") from error

    def _load(self, key: str, new_uid: Callable[[], str]) -> tuple[str, VenueState | None]:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        row = self._db.execute("SELECT key, uid, finished, state FROM market").fetchone()
        if row is None or row[0] != key or row[2]:
            row = self._begin(key, new_uid())
        return row[1], STATES.validate_json(row[3]) if row[3] else None

    def _begin(self, key: str, uid: str) -> tuple[str, str, int, str | None]:
        self._db.execute("BEGIN IMMEDIATE")
        for table in ("market", "closed_orders", "fills"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - three literal names
        self._db.execute("INSERT INTO market (one, key, uid) VALUES (1, ?, ?)", (key, uid))
        self._db.execute("COMMIT")
        return key, uid, 0, None

    def keep(self, state: Callable[[], VenueState], closed: Sequence[Order], fills: Sequence[Fill]) -> None:
        """Write state, closed orders and fills in one transaction."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE market SET state = ?", (STATES.dump_json(state()).decode(),))
        for order in closed:
            row = (order.order_id, order.asked.link_id, order.asked.symbol, ORDERS.dump_json(order).decode())
            db.execute("INSERT OR REPLACE INTO closed_orders VALUES (?, ?, ?, ?)", row)
        for fill in fills:
            body = FILLS.dump_json(fill).decode()
            about = (fill.seq, fill.symbol, fill.order_id, fill.link_id, millis(fill.at), body)
            db.execute("INSERT OR REPLACE INTO fills VALUES (?, ?, ?, ?, ?, ?)", about)
        db.execute("COMMIT")

    def find(self, link_id: str) -> Order | None:
        """A closed order by link id."""
        return next(self._orders("WHERE link_id = ?", (link_id,)), None) if link_id else None

    def order(self, order_id: str) -> Order | None:
        """A closed order by order id."""
        return next(self._orders("WHERE order_id = ?", (order_id,)), None)

    def closed_orders(self, symbol: str | None = None) -> Iterator[Order]:
        """Closed orders, newest first."""
        where, values = ("WHERE symbol = ?", (symbol,)) if symbol else ("", ())
        return self._orders(f"{where} ORDER BY rowid DESC", values)

    def fills(
        self,
        symbol: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        order_id: str = "",
        link_id: str = "",
    ) -> Iterator[Fill]:
        """Fills, newest first."""
        asked = {
            "symbol = ?": symbol,
            "at >= ?": None if since is None else millis(since),
            "at <= ?": None if until is None else millis(until),
            "order_id = ?": order_id or None,
            "link_id = ?": link_id or None,
        }
        known = {term: value for term, value in asked.items() if value is not None}
        where = f"WHERE {' AND '.join(known)}" if known else ""
        rows = self._rows("fills", f"{where} ORDER BY seq DESC", known.values())
        return (FILLS.validate_json(row[0]) for row in rows)

    def _orders(self, where: str, values: Iterable[object]) -> Iterator[Order]:
        return (ORDERS.validate_json(row[0]) for row in self._rows("closed_orders", where, values))

    def _rows(self, table: str, where: str, values: Iterable[object]) -> sqlite3.Cursor:
        return self._db.execute(f"SELECT body FROM {table} {where}", tuple(values))  # noqa: S608 - our own words only

    def finish(self) -> None:
        """The market has come to its end: the next start begins anew."""
        self._db.execute("UPDATE market SET finished = 1")

    def close(self) -> None:
        """Close the file."""
        self._db.close()
