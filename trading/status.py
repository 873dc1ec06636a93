"""How things stand: a read-only picture of the trader, made on request from its memory in microseconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from trading.model import OrderSide, Purpose, Side
from trading.orders import OrderState


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionView:
    """An open position, marked at the last price; `r` is its unrealised profit in R, `best_r` the best so far.

    `liquidation` is the exchange's estimate when it was last looked at; None: not known, or at no price.
    `initial_risk` is what the first stop would have lost, in USDT before costs; `exit_due` why an exit is under way.
    """

    symbol: str
    side: Side
    verdict_id: int | None
    qty: Decimal
    entry_price: Decimal
    stop: Decimal
    liquidation: Decimal | None
    take_profit: Decimal | None
    mark: Decimal
    unrealised: Decimal
    r: float
    best_r: float
    initial_risk: Decimal
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
class OrderView:
    """An order of ours that is not finished, whatever it is for; `qty` is what is left of it.

    `price` is None at the market, `stop` the one that comes with an entry; `since` the close that it was decided on.
    """

    symbol: str
    purpose: Purpose
    side: OrderSide
    qty: Decimal
    price: Decimal | None
    stop: Decimal | None
    since: datetime
    state: OrderState
    verdict_id: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole account. `gates` names every gate that is shut for new entries, in words; empty means open.

    `day_pnl` is the net result of trades closed in the current UTC day of market time, `day_wins` of
    `day_trades`. `market_time` is None until the first bar has closed. `muted` are symbols that get no new entries,
    `settings` what was changed over config.json. `lost` says why a stream of the exchange is down (empty: none is),
    `council` is its mode and `council_health` says which of its agents do not answer (empty: all do);
    `looked_age` how many seconds ago the exchange was last compared with the book; None: not yet.
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
    muted: tuple[str, ...]
    council: str
    council_health: str
    interval: timedelta
    settings: dict[str, float]
    lost: str
    looked_age: float | None
    last_prices: dict[str, Decimal]
    positions: tuple[PositionView, ...]
    entries: tuple[EntryView, ...]
    orders: tuple[OrderView, ...]
    verdicts: int
    trades: int
