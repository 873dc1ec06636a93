"""Values of the domain: sides, candles, instruments, orders, executions.

Frozen, keyword-only, compared by value. Money, prices and quantities are `Decimal`; candles carry the
exchange's float64 prices, whose shortest decimal form is the price itself (`exact`). Times are aware UTC.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
ZERO = Decimal(0)

PRICE_COLUMNS = ("open", "high", "low", "close", "volume")

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
SideArray = NDArray[np.int8]


def utc(ms: int) -> datetime:
    """The aware UTC time of `ms` milliseconds since the epoch (exact, unlike `fromtimestamp`)."""
    return EPOCH + timedelta(milliseconds=ms)


def millis(at: datetime) -> int:
    """Whole milliseconds since the epoch of an aware time."""
    return (at - EPOCH) // MILLISECOND


def exact(value: float) -> Decimal:
    """The decimal that a float64 price was written as: its shortest round-trip form."""
    return Decimal(repr(float(value)))


class Side(StrEnum):
    """Direction of a position or of a proposal."""

    LONG = "long"
    SHORT = "short"

    @property
    def sign(self) -> int:
        """+1 for long, -1 for short."""
        return 1 if self is Side.LONG else -1

    @property
    def opposite(self) -> Side:
        """The other direction."""
        return Side.SHORT if self is Side.LONG else Side.LONG


class OrderSide(StrEnum):
    """Direction of an order."""

    BUY = "Buy"
    SELL = "Sell"

    @property
    def sign(self) -> int:
        """+1 for buy, -1 for sell."""
        return 1 if self is OrderSide.BUY else -1

    @classmethod
    def opening(cls, side: Side) -> OrderSide:
        """The order side that opens a position of `side`."""
        return cls.BUY if side is Side.LONG else cls.SELL

    @classmethod
    def closing(cls, side: Side) -> OrderSide:
        """The order side that closes a position of `side`."""
        return cls.SELL if side is Side.LONG else cls.BUY


class OrderType(StrEnum):
    """How an order is priced."""

    LIMIT = "Limit"
    MARKET = "Market"


class Purpose(StrEnum):
    """Why an order exists. The attached stop is not an order of ours: the exchange makes it."""

    ENTRY = "entry"
    EXIT = "exit"
    TAKE_PROFIT = "take_profit"
    STOP = "stop"


class ExitReason(StrEnum):
    """Why a position was closed; the first four are those of the specification."""

    STOP = "stop"
    TAKE_PROFIT = "take_profit"
    TRAILING = "trailing"
    SIGNAL = "signal"
    MANUAL = "manual"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candle:
    """One closed bar. `volume` is in the base asset; `interval` is the declared bar length."""

    symbol: str
    open_time: datetime
    interval: timedelta
    open: float
    high: float
    low: float
    close: float
    volume: float

    @property
    def close_time(self) -> datetime:
        """Open time of the next bar: the moment at which this one is closed."""
        return self.open_time + self.interval


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandleSeries:
    """Closed bars of one symbol, oldest first, gapless: `timestamp` int64 ms of the open, the rest float64."""

    symbol: str
    interval: timedelta
    timestamp: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.timestamp)

    def between(self, start: int, stop: int) -> Self:
        """Rows `start` to `stop` (exclusive), as views."""
        rows = slice(max(start, 0), stop)
        return type(self)(
            symbol=self.symbol,
            interval=self.interval,
            timestamp=self.timestamp[rows],
            open=self.open[rows],
            high=self.high[rows],
            low=self.low[rows],
            close=self.close[rows],
            volume=self.volume[rows],
        )

    def tail(self, count: int) -> Self:
        """The last `count` rows (fewer where there are fewer)."""
        return self.between(len(self) - count, len(self))

    def locked(self) -> Self:
        """The same rows, which nobody can write to."""
        columns = {name: getattr(self, name).view() for name in ("timestamp", *PRICE_COLUMNS)}
        for column in columns.values():
            column.flags.writeable = False
        return type(self)(symbol=self.symbol, interval=self.interval, **columns)

    def candle(self, row: int) -> Candle:
        """One row as a value."""
        return Candle(
            symbol=self.symbol,
            open_time=utc(int(self.timestamp[row])),
            interval=self.interval,
            open=float(self.open[row]),
            high=float(self.high[row]),
            low=float(self.low[row]),
            close=float(self.close[row]),
            volume=float(self.volume[row]),
        )

    def candles(self, start: int = 0, chunk: int = 4096) -> Iterator[Candle]:
        """Every row from `start` as a value; converted in chunks, so that memory stays flat."""
        for first in range(start, len(self), chunk):
            part = self.between(first, first + chunk)
            columns = (part.open, part.high, part.low, part.close, part.volume)
            rows = zip(part.timestamp.tolist(), *(column.tolist() for column in columns), strict=True)
            for ms, open_, high, low, close, volume in rows:
                yield Candle(
                    symbol=self.symbol,
                    open_time=utc(ms),
                    interval=self.interval,
                    open=open_,
                    high=high,
                    low=low,
                    close=close,
                    volume=volume,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """Trading rules of one linear perpetual; quantities in the base coin, notional in USDT."""

    symbol: str
    tick_size: Decimal
    qty_step: Decimal
    min_qty: Decimal
    min_notional: Decimal

    def round_price(self, price: float) -> Decimal:
        """The nearest tick, halves away from zero, with the specification's tolerance."""
        ticks = abs(price) / float(self.tick_size)
        count = math.floor(ticks + 0.5 + 1e-9 + 1e-15 * ticks)
        return self.tick_size * (count if price >= 0 else -count)

    def floor_qty(self, qty: float) -> Decimal:
        """Whole steps not above `qty` (never more risk), with the specification's tolerance."""
        steps = qty / float(self.qty_step)
        return self.qty_step * max(math.floor(steps + 1e-9 + 1e-15 * steps), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """An order as it is asked for. `stop_loss` is attached to an entry: the position is never naked."""

    link_id: str
    symbol: str
    side: OrderSide
    type: OrderType
    qty: Decimal
    purpose: Purpose
    price: Decimal | None = None
    post_only: bool = False
    reduce_only: bool = False
    stop_loss: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """A fill (or a funding payment) as the exchange reports it; `exec_id` is its identity.

    `fee` is positive when paid. For funding, `qty` and `price` describe the position that paid and `fee` is
    the amount. `link_id` is empty when the exchange made the order itself (an attached stop, a liquidation);
    `purpose` is then the exchange's own word for it.
    """

    exec_id: str
    order_id: str
    link_id: str
    symbol: str
    side: OrderSide
    qty: Decimal
    price: Decimal
    fee: Decimal
    maker: bool
    at: datetime
    purpose: Purpose | None = None
    funding: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangePosition:
    """A position as the exchange sees it; `stop` is None when it stands unprotected.

    `liquidation` is the price at which the exchange would close it by force, by its own estimate; None: at none.
    """

    symbol: str
    side: Side
    qty: Decimal
    entry_price: Decimal
    stop: Decimal | None
    liquidation: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeOrder:
    """An order as the exchange sees it; `status` is the exchange's own word."""

    order_id: str
    link_id: str
    symbol: str
    side: OrderSide
    type: OrderType
    qty: Decimal
    filled: Decimal
    price: Decimal | None
    reduce_only: bool
    status: str
    reason: str = ""

    @property
    def open(self) -> bool:
        """True while it can still fill."""
        return self.status in {"New", "PartiallyFilled", "Untriggered"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSnapshot:
    """What the exchange holds for us at one moment: wallet balance (None: not asked for), positions, orders."""

    cash: Decimal | None
    positions: tuple[ExchangePosition, ...]
    orders: tuple[ExchangeOrder, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What the strategy wants, priced to the tick, before anyone has sized it.

    `r_distance` is R in price (not rounded); `signal_time` is the open time of the bar that was decided on and
    `close` its close; `interval` its length. `take_profit` is None when the trailing stop alone takes profit.
    """

    symbol: str
    side: Side
    signal_time: datetime
    interval: timedelta
    close: float
    entry: Decimal
    stop: Decimal
    take_profit: Decimal | None
    take_profit_r: float
    r_distance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountFacts:
    """The account in R multiples and fractions, as guards and the Risk Manager see it.

    `*_r` are in units of the base risk per trade (negative is a loss); `drawdown` and `open_risk` are positive
    fractions of equity; `spread` and `slippage` are price distances; `data_age_bars` is how many bar lengths
    have passed since the decided bar closed (0 when the decision is made at its close).
    """

    equity: Decimal
    initial_equity: Decimal
    day_r: float
    week_r: float
    drawdown: float
    losing_streak: int
    bars_since_loss: int | None
    open_risk: float
    open_positions: int
    spread: float
    slippage: float
    funding_rate: float
    data_age_bars: float
    paused: bool = False
