"""Bybit's JSON objects as values of the domain: pure and strict.

Every number is a string there, and an empty string means "no value". A field that is missing or cannot be read
raises `Unreadable`, and nothing is filled in: the caller skips the message and asks by REST.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import numpy as np

from trading.model import (
    ZERO,
    Candle,
    CandleSeries,
    ExchangeOrder,
    ExchangePosition,
    Execution,
    Instrument,
    OrderSide,
    OrderType,
    Purpose,
    Side,
    utc,
)

Json = Mapping[str, Any]

ENDED: Final = frozenset({"Filled", "Cancelled", "Rejected", "Deactivated", "PartiallyFilledCanceled"})
FILLS: Final = frozenset({"Trade", "AdlTrade", "BustTrade"})
FUNDING: Final = "Funding"
STOPS: Final = frozenset({"StopLoss", "PartialStopLoss", "TrailingStop"})
STOPPED: Final = frozenset({"CreateByStopLoss", "CreateByPartialStopLoss", "CreateByTrailingStop"})
SAYS_NOTHING: Final = frozenset({"", "UNKNOWN", "EC_NoError"})


class Unreadable(Exception):
    """An object of the exchange lacks a field, or holds one that makes no sense."""


# ---- fields --------------------------------------------------------------------------------------


def text(raw: Json, name: str) -> str:
    """A string that must be there; it may be empty."""
    value = raw.get(name)
    if not isinstance(value, str):
        raise Unreadable(f"{name} is missing")
    return value


def optional(raw: Json, name: str) -> Decimal | None:
    """A finite decimal exactly as written, None for the empty string; the field itself must be there."""
    written = text(raw, name)
    if not written:
        return None
    try:
        value = Decimal(written)
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite():
        raise Unreadable(f"{name} is no number")
    return value


def number(raw: Json, name: str) -> Decimal:
    """A finite decimal that must have a value."""
    value = optional(raw, name)
    if value is None:
        raise Unreadable(f"{name} has no value")
    return value


def positive(raw: Json, name: str) -> Decimal:
    """A decimal above zero."""
    value = number(raw, name)
    if value <= 0:
        raise Unreadable(f"{name} is not above zero")
    return value


def level(raw: Json, name: str) -> Decimal | None:
    """A price level; "", "0" and "0.00" mean that there is none."""
    return optional(raw, name) or None


def estimate(raw: Json, name: str) -> Decimal | None:
    """A price level that is only shown: one that cannot be read must not hide the position it belongs to."""
    try:
        return level(raw, name)
    except Unreadable:
        return None


def moment(raw: Json, name: str) -> datetime:
    """A time in ms since the epoch, as an integer or as a string of one."""
    return at_ms(raw.get(name), name)


def at_ms(value: object, name: str) -> datetime:
    """The time of so many ms; refused outside of the calendar."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Unreadable(f"{name} is missing")
    try:
        return utc(int(value))
    except (ValueError, OverflowError):
        raise Unreadable(f"{name} is no time") from None


def flag(raw: Json, name: str) -> bool:
    """A boolean."""
    value = raw.get(name)
    if not isinstance(value, bool):
        raise Unreadable(f"{name} is missing")
    return value


def side_of(raw: Json) -> OrderSide:
    """Buy or Sell."""
    try:
        return OrderSide(text(raw, "side"))
    except ValueError:
        raise Unreadable("side is neither Buy nor Sell") from None


def rows_of(result: Json) -> list[Any]:
    """The `list` of an answer."""
    rows = result.get("list")
    if not isinstance(rows, list):
        raise Unreadable("list is missing")
    return rows


def objects_of(result: Json, name: str = "list") -> list[Json]:
    """The objects in the `list` of an answer, or the `data` of a frame."""
    rows = result.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unreadable(f"{name} is missing")
    return rows


# ---- instruments, orders, positions, executions --------------------------------------------------


def instrument_of(raw: Json) -> Instrument:
    """Trading rules out of instruments-info."""
    prices, lots = raw.get("priceFilter"), raw.get("lotSizeFilter")
    if not isinstance(prices, dict) or not isinstance(lots, dict):
        raise Unreadable("priceFilter or lotSizeFilter is missing")
    return Instrument(
        symbol=text(raw, "symbol"),
        tick_size=positive(prices, "tickSize"),
        qty_step=positive(lots, "qtyStep"),
        min_qty=number(lots, "minOrderQty"),
        min_notional=number(lots, "minNotionalValue"),
    )


def order_of(raw: Json) -> ExchangeOrder:
    """An order, by REST or from the stream."""
    try:
        kind = OrderType(text(raw, "orderType"))
    except ValueError:
        raise Unreadable("orderType is neither Limit nor Market") from None
    return ExchangeOrder(
        order_id=text(raw, "orderId"),
        link_id=text(raw, "orderLinkId"),
        symbol=text(raw, "symbol"),
        side=side_of(raw),
        type=kind,
        qty=number(raw, "qty"),
        filled=optional(raw, "cumExecQty") or ZERO,
        price=number(raw, "price") if kind is OrderType.LIMIT else None,  # a market order shows its slippage bound
        reduce_only=flag(raw, "reduceOnly"),
        status=text(raw, "orderStatus"),
        reason=_reason(raw),
    )


def _reason(raw: Json) -> str:
    """Why it ended: the reason of a rejection, else the kind of cancellation."""
    said = [str(raw.get(name) or "") for name in ("rejectReason", "cancelType")]
    return next((word for word in said if word not in SAYS_NOTHING), "")


def guards_position(raw: Json) -> bool:
    """True for what the exchange made to protect a position: it is that position's stop, not an order."""
    kind = str(raw.get("stopOrderType") or "")
    return kind in {"StopLoss", "TakeProfit", "TrailingStop"} or kind.lower().startswith(("partial", "tpsl"))


def position_of(raw: Json) -> ExchangePosition | None:
    """A position out of position/list; None when it is flat."""
    qty = number(raw, "size")
    if qty == 0:
        return None
    return ExchangePosition(
        symbol=text(raw, "symbol"),
        side=Side.LONG if side_of(raw) is OrderSide.BUY else Side.SHORT,
        qty=qty,
        entry_price=positive(raw, "avgPrice"),
        stop=level(raw, "stopLoss"),
        liquidation=estimate(raw, "liqPrice"),
    )


def execution_of(raw: Json) -> Execution | None:
    """A fill or a funding payment; None for the kinds that are neither (deliveries, block trades, …)."""
    kind = text(raw, "execType")
    if kind not in FILLS and kind != FUNDING:
        return None
    exec_id = text(raw, "execId")
    if not exec_id:
        raise Unreadable("execId has no value")
    stopped = str(raw.get("stopOrderType")) in STOPS or str(raw.get("createType")) in STOPPED
    return Execution(
        exec_id=exec_id,
        order_id=text(raw, "orderId"),
        link_id=text(raw, "orderLinkId"),
        symbol=text(raw, "symbol"),
        side=side_of(raw),
        qty=positive(raw, "execQty"),
        price=positive(raw, "execPrice"),
        fee=optional(raw, "execFee") or ZERO,
        maker=flag(raw, "isMaker"),
        at=moment(raw, "execTime"),
        purpose=Purpose.STOP if stopped else None,
        funding=kind == FUNDING,
    )


def sequence_of(raw: Json) -> int:
    """The exchange's cross sequence of an execution: what happened first when the time is the same; 0 when unsaid."""
    value = raw.get("seq")
    return value if isinstance(value, int) else 0


def order_of_executions(executions: Sequence[Json]) -> ExchangeOrder:
    """An order of which only the fills are known: it exists, and has filled at least so much."""
    last = executions[0]
    filled = sum((number(raw, "execQty") for raw in executions), ZERO)
    qty = number(last, "orderQty")
    return ExchangeOrder(
        order_id=text(last, "orderId"),
        link_id=text(last, "orderLinkId"),
        symbol=text(last, "symbol"),
        side=side_of(last),
        type=OrderType.LIMIT if last.get("orderType") == "Limit" else OrderType.MARKET,
        qty=qty,
        filled=filled,
        price=level(last, "orderPrice") if last.get("orderType") == "Limit" else None,
        reduce_only=False,
        status="Filled" if filled >= qty else "PartiallyFilled",
    )


def cash_of(result: Json, coin: str) -> Decimal:
    """The wallet balance of a coin out of wallet-balance; a coin that was never held is left out there: zero."""
    accounts = objects_of(result)
    if not accounts:
        raise Unreadable("the account is missing")
    for held in objects_of(accounts[0], "coin"):
        if held.get("coin") == coin:
            return number(held, "walletBalance")
    return ZERO


# ---- candles -------------------------------------------------------------------------------------


def candle_of(raw: Json, symbol: str, interval: timedelta) -> Candle:
    """A candle of the kline topic."""
    prices = [_float(raw.get(name)) for name in ("open", "high", "low", "close", "volume")]
    return _candle(symbol, moment(raw, "start"), interval, prices)


def candle_of_row(row: object, symbol: str, interval: timedelta) -> Candle:
    """A candle of the kline endpoint: a list of seven strings."""
    if not isinstance(row, list) or len(row) < 6:
        raise Unreadable("a candle has too few fields")
    return _candle(symbol, at_ms(row[0], "start"), interval, [_float(value) for value in row[1:6]])


def series_of(candles: Iterable[Candle], symbol: str, interval: timedelta) -> CandleSeries:
    """Candles, oldest first, as a series; where some are missing, only what follows the last gap."""
    kept: list[Candle] = []
    for candle in candles:
        if kept and candle.open_time != kept[-1].close_time:
            kept.clear()
        kept.append(candle)
    step = timedelta(milliseconds=1)
    epoch = utc(0)
    return CandleSeries(
        symbol=symbol,
        interval=interval,
        timestamp=np.array([(candle.open_time - epoch) // step for candle in kept], dtype=np.int64),
        open=np.array([candle.open for candle in kept], dtype=np.float64),
        high=np.array([candle.high for candle in kept], dtype=np.float64),
        low=np.array([candle.low for candle in kept], dtype=np.float64),
        close=np.array([candle.close for candle in kept], dtype=np.float64),
        volume=np.array([candle.volume for candle in kept], dtype=np.float64),
    )


def _float(value: object) -> float:
    try:
        return float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return math.nan


def _candle(symbol: str, opening: datetime, interval: timedelta, prices: Sequence[float]) -> Candle:
    """Refused when it cannot be: not finite, not positive, or its high and low do not hold the rest."""
    open_, high, low, close, volume = prices
    # A NaN makes a comparison false, whichever it is in.
    possible = 0 < low <= min(open_, close) <= max(open_, close) <= high < math.inf
    if not possible or math.isnan(open_ + close) or not 0 <= volume < math.inf:
        raise Unreadable(f"the candle of {opening:%Y-%m-%d %H:%M} is impossible")
    return Candle(
        symbol=symbol,
        open_time=opening,
        interval=interval,
        open=open_,
        high=high,
        low=low,
        close=close,
        volume=volume,
    )
