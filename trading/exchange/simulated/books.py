"""What the exchange has on its books: orders, fills, positions. Values and records, no behaviour of the market.

An order of a client, a stop attached to a position and a conditional order are all `Order`s, as on Bybit; what
tells them apart is `stop_order_type` and `create_type`, which hold Bybit's own words.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading.model import EPOCH, ZERO, OrderSide, OrderType, Side

OPEN_STATUSES = frozenset({"New", "PartiallyFilled", "Untriggered"})


class TimeInForce(StrEnum):
    """How long an order may wait, and whether it may take."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    POST_ONLY = "PostOnly"


class StopKind(StrEnum):
    """What a conditional order is: one of the three that protect a position, or a client's own."""

    STOP_LOSS = "StopLoss"
    TAKE_PROFIT = "TakeProfit"
    TRAILING = "TrailingStop"
    OWN = "Stop"


class FillKind(StrEnum):
    """Why an execution happened; only trades change a position."""

    TRADE = "Trade"
    FUNDING = "Funding"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """An order as a client asks for it. `qty` in the base coin; `trigger_direction` 1 rises to, 2 falls to.

    `stop_loss` and `take_profit` protect the position from the first fill on. With a `trigger_price` it is a
    conditional order, which waits untriggered.
    """

    symbol: str
    side: OrderSide
    type: OrderType
    qty: Decimal
    price: Decimal | None = None
    link_id: str = ""
    time_in_force: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False
    close_on_trigger: bool = False
    stop_loss: Decimal | None = None
    take_profit: Decimal | None = None
    trigger_price: Decimal | None = None
    trigger_direction: int = 0

    @property
    def post_only(self) -> bool:
        """Never takes."""
        return self.time_in_force is TimeInForce.POST_ONLY


@dataclass(slots=True, kw_only=True)
class Order:
    """An order on the books, or one that has left them. `status` and the reasons are Bybit's words.

    `value` is the sum of its fills in USDT, `fee` what they cost; `parent_link_id` is that of the entry which an
    attached stop came with; `last_price` the price when it was made (None before the first price).
    """

    order_id: str
    asked: NewOrder
    created: datetime
    updated: datetime
    status: str = "New"
    filled: Decimal = ZERO
    value: Decimal = ZERO
    fee: Decimal = ZERO
    create_type: str = "CreateByUser"
    stop_order_type: str = ""
    parent_link_id: str = ""
    cancel_type: str = "UNKNOWN"
    reject_reason: str = "EC_NoError"
    last_price: float | None = None

    @property
    def open(self) -> bool:
        """True while it can still fill."""
        return self.status in OPEN_STATUSES

    @property
    def protects(self) -> bool:
        """True for the stop, take profit or trailing stop of a position, which the exchange made itself."""
        return self.stop_order_type not in {"", StopKind.OWN}

    @property
    def leaves(self) -> Decimal:
        """What is still to fill; nothing once it has ended."""
        return self.asked.qty - self.filled if self.open or self.status == "Triggered" else ZERO

    def copy(self) -> Order:
        """As it is now."""
        return replace(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One execution. Amounts in USDT; `fee` is positive when paid, also for funding.

    `closed` is how much of a position it closed, `pnl` the gross profit of that (price difference times size),
    `entry_value` what the closed part had cost and `open_fee` its share of the entry's fees. `cash_after` and
    `size_after` (signed) are the wallet and the position afterwards; `seq` grows by one with each fill.
    """

    exec_id: str
    order_id: str
    link_id: str
    symbol: str
    side: OrderSide
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_rate: Decimal
    maker: bool
    at: datetime
    seq: int
    kind: FillKind = FillKind.TRADE
    order_type: str = "UNKNOWN"
    order_qty: Decimal = ZERO
    order_price: Decimal | None = None
    leaves: Decimal = ZERO
    create_type: str = ""
    stop_order_type: str = ""
    closed: Decimal = ZERO
    pnl: Decimal = ZERO
    entry_value: Decimal = ZERO
    open_fee: Decimal = ZERO
    cash_after: Decimal = ZERO
    size_after: Decimal = ZERO

    @property
    def value(self) -> Decimal:
        """Quantity times price."""
        return self.qty * self.price


@dataclass(slots=True, kw_only=True)
class Position:
    """An open position. `opened_in_bar` is true until the bar in which it was opened has ended.

    `guards` are the orders that protect it, by kind, each with its trigger price; a trailing stop has its
    `trail` distance. `open_fee` is what the entry of the part still open has cost, `realised` what this holding
    has brought so far with all fees and funding.
    """

    side: Side
    qty: Decimal
    entry_price: Decimal
    opened_in_bar: bool = False
    opened: datetime = EPOCH
    updated: datetime = EPOCH
    open_fee: Decimal = ZERO
    realised: Decimal = ZERO
    trail: Decimal | None = None
    guards: dict[StopKind, Order] = field(default_factory=dict)

    @property
    def stop(self) -> Decimal | None:
        """The price at which it is stopped out, None when it stands unprotected."""
        order = self.guards.get(StopKind.STOP_LOSS)
        return order.asked.trigger_price if order else None

    @property
    def take_profit(self) -> Decimal | None:
        """The price at which its attached take profit sells, or None."""
        order = self.guards.get(StopKind.TAKE_PROFIT)
        return order.asked.trigger_price if order else None

    @property
    def size(self) -> Decimal:
        """Signed quantity."""
        return self.side.sign * self.qty


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueState:
    """Everything that is live on the exchange. `begun` is the last bar begun by symbol, in ms."""

    cash: Decimal
    sequence: int
    now: datetime
    begun: dict[str, int]
    last: dict[str, float]
    positions: dict[str, Position]
    orders: dict[str, Order]
    leverage: dict[str, Decimal]
    realised: dict[str, Decimal]
    funding_missing: int
