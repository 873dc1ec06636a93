"""What the paper exchange remembers: in memory for a replay, in its own SQLite file for a running market.

The bot never reads this file: it is the exchange's, and survives a kill of the process like a real one would.
"""

from __future__ import annotations

import json
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from trading.errors import Misconfigured
from trading.exchange.simulated.venue import Order, Position
from trading.model import Execution, OrderSide, OrderType, PlaceOrder, Purpose, Side, millis, utc

RECENT = 2000

SCHEMA = """
CREATE TABLE IF NOT EXISTS market (one INTEGER PRIMARY KEY CHECK (one = 1), key TEXT NOT NULL, uid TEXT NOT NULL,
    finished INTEGER NOT NULL DEFAULT 0, state TEXT);
CREATE TABLE IF NOT EXISTS orders (link_id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS executions (exec_id TEXT PRIMARY KEY, symbol TEXT NOT NULL, at INTEGER NOT NULL,
    body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS executions_by_time ON executions (symbol, at);
"""


class MemoryKeeper:
    """Keeps the recent past only, so that a long replay does not grow with its trades."""

    def __init__(self, recent: int = RECENT) -> None:
        self._recent = recent
        self._orders: OrderedDict[str, Order] = OrderedDict()
        self._executions: deque[Execution] = deque(maxlen=recent)

    def keep(
        self, state: Callable[[], dict[str, Any]], closed: Sequence[Order], executions: Sequence[Execution]
    ) -> None:
        """Remember closed orders and executions; the live state needs no keeping here."""
        self._executions.extend(executions)
        for order in closed:
            self._orders[order.request.link_id or order.order_id] = order
        while len(self._orders) > self._recent:
            self._orders.popitem(last=False)

    def find(self, link_id: str) -> Order | None:
        """A recently closed order."""
        return self._orders.get(link_id)

    def executions(self, symbol: str, since: datetime) -> list[Execution]:
        """Recent executions of a symbol since a moment."""
        return [e for e in self._executions if e.symbol == symbol and e.at >= since]


class LedgerFile:
    """The durable ledger of one market. `key` names the market; another key, or a market that has run to its
    end, begins a new account with a new `uid`, so that nobody mistakes one ledger's state for another's."""

    def __init__(self, path: Path, key: str, new_uid: Callable[[], str]) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.chmod(0o600)
            self._db = sqlite3.connect(path, isolation_level=None)
            self.uid, self.state = self._load(key, new_uid)
        except OSError as error:
            raise Misconfigured(f"{path} cannot be opened ({error.strerror}): check DATA_DIR") from error
        except (sqlite3.DatabaseError, ValueError, KeyError) as error:
            raise Misconfigured(
                f"{path} is damaged ({error}): move it away, and a new paper account begins"
            ) from error

    def _load(self, key: str, new_uid: Callable[[], str]) -> tuple[str, dict[str, Any] | None]:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        row = self._db.execute("SELECT key, uid, finished, state FROM market").fetchone()
        if row is None or row[0] != key or row[2]:
            row = self._begin(key, new_uid())
        return row[1], _decode_state(json.loads(row[3])) if row[3] else None

    def _begin(self, key: str, uid: str) -> tuple[str, str, int, str | None]:
        self._db.execute("BEGIN IMMEDIATE")
        for table in ("market", "orders", "executions"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - three literal names
        self._db.execute("INSERT INTO market (one, key, uid) VALUES (1, ?, ?)", (key, uid))
        self._db.execute("COMMIT")
        return key, uid, 0, None

    def keep(
        self, state: Callable[[], dict[str, Any]], closed: Sequence[Order], executions: Sequence[Execution]
    ) -> None:
        """Write state, closed orders and executions in one transaction."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE market SET state = ?", (json.dumps(_encode_state(state())),))
        for order in closed:
            name = order.request.link_id or order.order_id
            db.execute("INSERT OR REPLACE INTO orders VALUES (?, ?)", (name, json.dumps(_encode_order(order))))
        for item in executions:
            row = (item.exec_id, item.symbol, millis(item.at), json.dumps(_encode_execution(item)))
            db.execute("INSERT OR REPLACE INTO executions VALUES (?, ?, ?, ?)", row)
        db.execute("COMMIT")

    def find(self, link_id: str) -> Order | None:
        """A closed order by link id."""
        row = self._db.execute("SELECT body FROM orders WHERE link_id = ?", (link_id,)).fetchone()
        return _decode_order(json.loads(row[0])) if row else None

    def executions(self, symbol: str, since: datetime) -> list[Execution]:
        """Executions of a symbol since a moment, in the order in which they happened."""
        query = "SELECT body FROM executions WHERE symbol = ? AND at >= ? ORDER BY rowid"
        return [_decode_execution(json.loads(row[0])) for row in self._db.execute(query, (symbol, millis(since)))]

    def finish(self) -> None:
        """The market has come to its end: the next start begins anew."""
        self._db.execute("UPDATE market SET finished = 1")

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _encode_state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "cash": str(state["cash"]),
        "sequence": state["sequence"],
        "now": millis(state["now"]),
        "begun": state["begun"],
        "last": state["last"],
        "funding_missing": state["funding_missing"],
        "positions": {symbol: _encode_position(p) for symbol, p in state["positions"].items()},
        "orders": [_encode_order(order) for order in state["orders"].values()],
    }


def _decode_state(body: Mapping[str, Any]) -> dict[str, Any]:
    orders = [_decode_order(order) for order in body["orders"]]
    return {
        "cash": Decimal(body["cash"]),
        "sequence": body["sequence"],
        "now": utc(body["now"]),
        "begun": body["begun"],
        "last": body["last"],
        "funding_missing": body["funding_missing"],
        "positions": {symbol: _decode_position(p) for symbol, p in body["positions"].items()},
        "orders": {order.order_id: order for order in orders},
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _decimal(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)


def _encode_position(p: Position) -> dict[str, Any]:
    return {
        "side": p.side.value,
        "qty": str(p.qty),
        "entry_price": str(p.entry_price),
        "stop": _text(p.stop),
        "opened_in_bar": p.opened_in_bar,
    }


def _decode_position(body: Mapping[str, Any]) -> Position:
    return Position(
        side=Side(body["side"]),
        qty=Decimal(body["qty"]),
        entry_price=Decimal(body["entry_price"]),
        stop=_decimal(body["stop"]),
        opened_in_bar=body["opened_in_bar"],
    )


def _encode_order(order: Order) -> dict[str, Any]:
    asked = order.request
    return {
        "order_id": order.order_id,
        "created": millis(order.created),
        "status": order.status,
        "filled": str(order.filled),
        "reason": order.reason,
        "link_id": asked.link_id,
        "symbol": asked.symbol,
        "side": asked.side.value,
        "type": asked.type.value,
        "qty": str(asked.qty),
        "purpose": asked.purpose.value,
        "price": _text(asked.price),
        "post_only": asked.post_only,
        "reduce_only": asked.reduce_only,
        "stop_loss": _text(asked.stop_loss),
    }


def _decode_order(body: Mapping[str, Any]) -> Order:
    request = PlaceOrder(
        link_id=body["link_id"],
        symbol=body["symbol"],
        side=OrderSide(body["side"]),
        type=OrderType(body["type"]),
        qty=Decimal(body["qty"]),
        purpose=Purpose(body["purpose"]),
        price=_decimal(body["price"]),
        post_only=body["post_only"],
        reduce_only=body["reduce_only"],
        stop_loss=_decimal(body["stop_loss"]),
    )
    return Order(
        order_id=body["order_id"],
        request=request,
        created=utc(body["created"]),
        status=body["status"],
        filled=Decimal(body["filled"]),
        reason=body["reason"],
    )


def _encode_execution(e: Execution) -> dict[str, Any]:
    return {
        "exec_id": e.exec_id,
        "order_id": e.order_id,
        "link_id": e.link_id,
        "symbol": e.symbol,
        "side": e.side.value,
        "qty": str(e.qty),
        "price": str(e.price),
        "fee": str(e.fee),
        "maker": e.maker,
        "at": millis(e.at),
        "purpose": e.purpose.value if e.purpose else None,
        "funding": e.funding,
    }


def _decode_execution(body: Mapping[str, Any]) -> Execution:
    return Execution(
        exec_id=body["exec_id"],
        order_id=body["order_id"],
        link_id=body["link_id"],
        symbol=body["symbol"],
        side=OrderSide(body["side"]),
        qty=Decimal(body["qty"]),
        price=Decimal(body["price"]),
        fee=Decimal(body["fee"]),
        maker=body["maker"],
        at=utc(body["at"]),
        purpose=Purpose(body["purpose"]) if body["purpose"] else None,
        funding=body["funding"],
    )
