"""How things stand: a read-only picture of the trader, made on request from its memory in microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from trading.model import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionView:
    """An open position, marked at the last price; `r` is its unrealised profit in R."""

    symbol: str
    side: Side
    verdict_id: int | None
    qty: Decimal
    entry_price: Decimal
    stop: Decimal
    take_profit: Decimal | None
    mark: Decimal
    unrealised: Decimal
    r: float
    opened: datetime
    exit_due: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryView:
    """A resting entry; `bars_left` is how many closes it may still rest."""

    symbol: str
    side: Side
    verdict_id: int | None
    qty: Decimal
    price: Decimal
    stop: Decimal
    bars_left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole account. `gates` names every gate that is shut for new entries, in words; empty means open.

    `day_pnl` is the net result of trades closed in the current UTC day of market time, `day_wins` of
    `day_trades`. `market_time` is None until the first bar has closed.
    """

    badge: str
    leverage: float
    market_time: datetime | None
    next_close: datetime | None
    paused: bool
    gates: tuple[str, ...]
    cash: Decimal
    equity: Decimal
    initial_equity: Decimal
    day_pnl: Decimal
    day_trades: int
    day_wins: int
    open_risk: float
    symbols: tuple[str, ...]
    last_prices: dict[str, Decimal]
    positions: tuple[PositionView, ...]
    entries: tuple[EntryView, ...]
    verdicts: int
    trades: int
