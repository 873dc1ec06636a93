"""Bybit's JSON objects, made of the venue's records. Pure: the same record is always the same object.

REST and streams differ in a few fields; where they do the functions come in pairs. Empty strings are "no value".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from trading.exchange.simulated.account import MAINTENANCE_RATE, liquidation_price
from trading.exchange.simulated.books import Fill, FillKind, Order, Position
from trading.exchange.simulated.wire.formats import number, stamp
from trading.model import ZERO, Instrument, OrderSide, OrderType, exact, millis

Object = dict[str, Any]

MAX_LEVERAGE = 100
RISK_LIMIT = "2000000"
MARKET_BOUND = Decimal("0.05")
LEAST_TAKER = Decimal("0.00055")  # of the break-even formula
COIN = "USDT"
LINEAR = "linear"

ORDER_FIXED: Object = {
    "blockTradeId": "",
    "positionIdx": 0,
    "isLeverage": "",
    "orderIv": "",
    "marketUnit": "",
    "slippageToleranceType": "UNKNOWN",
    "slippageTolerance": "",
    "ocoTriggerBy": "OcoTriggerByUnknown",
    "tpLimitPrice": "",
    "slLimitPrice": "",
    "basePrice": "",
    "placeType": "",
    "smpType": "None",
    "smpGroup": 0,
    "smpOrderId": "",
    "extraFees": "",
    "rpiTakerAccess": False,
    "rpiMatchedQty": "",
}
FILL_FIXED: Object = {
    "tradeIv": "",
    "markIv": "",
    "underlyingPrice": "",
    "blockTradeId": "",
    "extraFees": "",
    "execFeeV2": "",
    "feeCurrency": COIN,
}
POSITION_FIXED: Object = {
    "positionIdx": 0,
    "riskId": 1,
    "riskLimitValue": RISK_LIMIT,
    "autoAddMargin": 0,
    "positionStatus": "Normal",
    "delta": "",
    "gamma": "",
    "vega": "",
    "theta": "",
    "adlRankIndicator": 0,
    "isReduceOnly": False,
    "mmrSysUpdatedTime": "",
    "leverageSysUpdatedTime": "",
    "tpslMode": "Full",
    "bustPrice": "",
    "positionBalance": "",
    "tradeMode": 0,
}
FLAT: Object = {
    "side": "",
    "size": "0",
    "positionValue": "",
    "breakEvenPrice": "",
    "liqPrice": "",
    "positionIM": "",
    "positionIMByMp": "",
    "positionMM": "",
    "positionMMByMp": "",
    "takeProfit": "",
    "stopLoss": "",
    "trailingStop": "",
    "sessionAvgPrice": "",
    "unrealisedPnl": "",
    "curRealisedPnl": "0",
    "createdTime": "0",
    "updatedTime": "0",
    "openTime": 0,
}


# Orders


def order_object(order: Order, rules: Instrument) -> Object:
    """An order as REST shows it."""
    asked = order.asked
    return {
        **ORDER_FIXED,
        "orderId": order.order_id,
        "orderLinkId": asked.link_id,
        "parentOrderLinkId": order.parent_link_id,
        "symbol": asked.symbol,
        "price": number(_shown_price(order, rules)),
        "qty": number(asked.qty),
        "side": asked.side.value,
        "timeInForce": "IOC" if asked.type is OrderType.MARKET else asked.time_in_force.value,
        "orderType": asked.type.value,
        "reduceOnly": asked.reduce_only,
        "closeOnTrigger": asked.close_on_trigger,
        "lastPriceOnCreated": "" if order.last_price is None else number(exact(order.last_price)),
        "createdTime": stamp(order.created),
        "updatedTime": stamp(order.updated),
        **_progress(order),
        **_stops(order),
    }


def _progress(order: Order) -> Object:
    """How far it has come, and why no further."""
    return {
        "orderStatus": order.status,
        "createType": order.create_type,
        "cancelType": order.cancel_type,
        "rejectReason": order.reject_reason,
        "avgPrice": number(order.value / order.filled) if order.filled else "",
        "leavesQty": number(order.leaves),
        "leavesValue": number(order.leaves * (order.asked.price or ZERO)),
        "cumExecQty": number(order.filled),
        "cumExecValue": number(order.value),
        "cumExecFee": number(order.fee),
        "cumFeeDetail": {COIN: number(order.fee)} if order.filled else {},
    }


def _stops(order: Order) -> Object:
    """What triggers it, and what it brings along. Every price that triggers is the last one."""
    asked = order.asked
    return {
        "stopOrderType": order.stop_order_type,
        "triggerPrice": number(asked.trigger_price),
        "triggerDirection": asked.trigger_direction,
        "triggerBy": "LastPrice" if asked.trigger_price is not None else "",
        "takeProfit": number(asked.take_profit),
        "stopLoss": number(asked.stop_loss),
        "tpTriggerBy": "LastPrice" if asked.take_profit is not None else "",
        "slTriggerBy": "LastPrice" if asked.stop_loss is not None else "",
        "tpslMode": "Full" if order.protects or asked.stop_loss or asked.take_profit else "",
    }


def order_frame(order: Order, rules: Instrument, closed_pnl: Decimal) -> Object:
    """An order as the stream shows it."""
    extra = {"category": LINEAR, "closedPnl": number(closed_pnl), "feeCurrency": COIN, "brokerOrderPrice": ""}
    return order_object(order, rules) | extra


def _shown_price(order: Order, rules: Instrument) -> Decimal:
    """The limit; of a market order the bound within which it may fill, not its fill."""
    if order.asked.type is OrderType.LIMIT:
        return order.asked.price or ZERO
    if order.asked.trigger_price is not None or order.last_price is None:
        return ZERO
    bound = exact(order.last_price) * (1 + order.asked.side.sign * MARKET_BOUND)
    return bound // rules.tick_size * rules.tick_size


# Fills


def fill_object(fill: Fill) -> Object:
    """An execution as REST shows it."""
    return {
        **FILL_FIXED,
        "symbol": fill.symbol,
        "orderId": fill.order_id,
        "orderLinkId": fill.link_id,
        "side": fill.side.value,
        "orderPrice": number(fill.order_price or ZERO),
        "orderQty": number(fill.order_qty),
        "leavesQty": number(fill.leaves),
        "createType": fill.create_type,
        "orderType": fill.order_type,
        "stopOrderType": fill.stop_order_type or "UNKNOWN",
        "execFee": number(fill.fee),
        "execId": fill.exec_id,
        "execPrice": number(fill.price),
        "execQty": number(fill.qty),
        "execType": fill.kind.value,
        "execValue": number(fill.value),
        "execTime": stamp(fill.at),
        "isMaker": fill.maker,
        "feeRate": number(fill.fee_rate),
        "markPrice": number(fill.price),
        "indexPrice": number(fill.price),
        "closedSize": number(fill.closed),
        "seq": fill.seq,
    }


def fill_frame(fill: Fill) -> Object:
    """An execution as the stream shows it."""
    extra = {"category": LINEAR, "isLeverage": "0", "execPnl": number(fill.pnl), "marketUnit": ""}
    return fill_object(fill) | extra


def fast_fill_frame(fill: Fill) -> Object:
    """An execution as the fast stream shows it: trades only, without fees; a maker's link id is left out."""
    return {
        "category": LINEAR,
        "symbol": fill.symbol,
        "execId": fill.exec_id,
        "execPrice": number(fill.price),
        "execQty": number(fill.qty),
        "orderId": fill.order_id,
        "isMaker": fill.maker,
        "orderLinkId": "" if fill.maker else fill.link_id,
        "side": fill.side.value,
        "execTime": stamp(fill.at),
        "seq": fill.seq,
    }


def transaction_object(fill: Fill, uid: str) -> Object:
    """A fill or funding as the transaction log shows it; funding is positive when received."""
    funding = fill.kind is FillKind.FUNDING
    fee = ZERO if funding else fill.fee
    received = -fill.fee if funding else None
    return {
        "id": f"{uid}_{fill.symbol}_{fill.seq}",
        "symbol": fill.symbol,
        "category": LINEAR,
        "side": fill.side.value,
        "transactionTime": stamp(fill.at),
        "type": "SETTLEMENT" if funding else "TRADE",
        "transSubType": "",
        "qty": number(fill.qty),
        "size": number(fill.size_after),
        "currency": COIN,
        "tradePrice": number(fill.price),
        "funding": number(received),
        "fee": number(fee),
        "cashFlow": number(fill.pnl),
        "change": number(fill.pnl + (received or ZERO) - fee),
        "cashBalance": number(fill.cash_after),
        "feeRate": number(fill.fee_rate),
        "bonusChange": "",
        "tradeId": fill.exec_id,
        "orderId": fill.order_id,
        "orderLinkId": fill.link_id,
        "extraFees": "",
    }


def closed_pnl(fill: Fill) -> Decimal:
    """What the closing part of a fill brought: gross profit less both fees, without funding."""
    return fill.pnl - fill.open_fee - _close_fee(fill) if fill.closed else ZERO


def _close_fee(fill: Fill) -> Decimal:
    return fill.fee if fill.closed == fill.qty else fill.fee * fill.closed / fill.qty


def closed_pnl_object(fills: Sequence[Fill], leverage: Decimal) -> Object:
    """The closing fills of one order, newest first, as one record of realised profit."""
    newest, oldest = fills[0], fills[-1]
    size = sum((fill.closed for fill in fills), ZERO)
    entry = sum((fill.entry_value for fill in fills), ZERO)
    exit_value = sum((fill.closed * fill.price for fill in fills), ZERO)
    return {
        "symbol": newest.symbol,
        "orderId": newest.order_id,
        "side": newest.side.value,
        "qty": number(newest.order_qty),
        "orderPrice": number(newest.order_price or newest.price),
        "orderType": newest.order_type,
        "execType": "Trade",
        "closedSize": number(size),
        "cumEntryValue": number(entry),
        "avgEntryPrice": number(entry / size),
        "cumExitValue": number(exit_value),
        "avgExitPrice": number(exit_value / size),
        "closedPnl": number(sum((closed_pnl(fill) for fill in fills), ZERO)),
        "fillCount": str(len(fills)),
        "leverage": number(leverage),
        "openFee": number(sum((fill.open_fee for fill in fills), ZERO)),
        "closeFee": number(sum((_close_fee(fill) for fill in fills), ZERO)),
        "createdTime": stamp(oldest.at),
        "updatedTime": stamp(newest.at),
    }


# Positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What a position object is made of. `position` is None when flat, `mark` before the first price.

    `seq` is that of the symbol's last fill, -1 when it was never traded; `realised` of the symbol's lifetime.
    """

    symbol: str
    position: Position | None
    mark: Decimal | None
    leverage: Decimal
    realised: Decimal
    seq: int
    taker: Decimal


def position_object(holding: Holding) -> Object:
    """A position as REST shows it; a row of a flat symbol too."""
    entry, specific = _held(holding)
    return {
        **POSITION_FIXED,
        "symbol": holding.symbol,
        "leverage": number(holding.leverage),
        "markPrice": number(holding.mark),
        "cumRealisedPnl": number(holding.realised),
        "seq": holding.seq,
        "avgPrice": entry,
        **specific,
    }


def position_frame(holding: Holding) -> Object:
    """A position as the stream shows it: the entry price has another name."""
    shown = position_object(holding)
    shown["entryPrice"] = shown.pop("avgPrice") or "0"
    shown["category"] = LINEAR
    return shown


def _held(holding: Holding) -> tuple[str, Object]:
    held, mark = holding.position, holding.mark
    if held is None or mark is None:
        return "", FLAT
    value = held.qty * mark
    initial, least = map(number, margins(value, holding.leverage, holding.taker))
    return number(held.entry_price), {
        "side": OrderSide.opening(held.side).value,
        "size": number(held.qty),
        "positionValue": number(value),
        "breakEvenPrice": number(break_even(held, holding.taker)),
        "liqPrice": number(liquidation_price(held, holding.leverage)),
        "positionIM": initial,
        "positionIMByMp": initial,
        "positionMM": least,
        "positionMMByMp": least,
        "takeProfit": number(held.take_profit),
        "stopLoss": number(held.stop),
        "trailingStop": number(held.trail),
        "sessionAvgPrice": "",
        "unrealisedPnl": number(held.size * (mark - held.entry_price)),
        "curRealisedPnl": number(held.realised),
        "createdTime": stamp(held.opened),
        "updatedTime": stamp(held.updated),
        "openTime": millis(held.opened),
    }


def margins(value: Decimal, leverage: Decimal, taker: Decimal) -> tuple[Decimal, Decimal]:
    """Initial and maintenance margin of a position of that value, each with the fee of closing it."""
    exit_fee = value * taker
    return value / leverage + exit_fee, value * MAINTENANCE_RATE + exit_fee


def break_even(held: Position, taker: Decimal) -> Decimal:
    """The price at which closing pays for everything; Bybit's formula."""
    size = held.size
    return (held.entry_price * size - held.realised) / (size - abs(size) * max(taker, LEAST_TAKER))


# Wallet


@dataclass(frozen=True, slots=True, kw_only=True)
class Funds:
    """What the wallet object is made of, in USDT. `bound` is margin of positions and resting orders together."""

    cash: Decimal
    unrealised: Decimal
    available: Decimal
    position_margin: Decimal
    order_margin: Decimal
    maintenance: Decimal
    realised: Decimal


def wallet_object(funds: Funds, coins: Iterable[str]) -> Object:
    """The unified account; a coin that is named is shown even with nothing in it."""
    equity = funds.cash + funds.unrealised
    initial = funds.position_margin + funds.order_margin
    totals = {
        "totalEquity": number(equity),
        "totalWalletBalance": number(funds.cash),
        "totalMarginBalance": number(equity),
        "totalAvailableBalance": number(max(funds.available, ZERO)),
        "totalPerpUPL": number(funds.unrealised),
        "totalInitialMargin": number(initial),
        "totalInitialMarginByMp": number(initial),
        "totalMaintenanceMargin": number(funds.maintenance),
        "totalMaintenanceMarginByMp": number(funds.maintenance),
    }
    rates = {"accountIMRate": _rate(initial, equity), "accountMMRate": _rate(funds.maintenance, equity)}
    twins = {"accountIMRateByMp": rates["accountIMRate"], "accountMMRateByMp": rates["accountMMRate"]}
    named = [coin_object(coin, funds if coin == COIN else NOTHING) for coin in dict.fromkeys(coins)]
    return {"accountType": "UNIFIED", "accountLTV": "", **rates, **twins, **totals, "coin": named}


def coin_object(coin: str, funds: Funds) -> Object:
    """One coin of the wallet."""
    equity = funds.cash + funds.unrealised
    return {
        "coin": coin,
        "equity": number(equity),
        "usdValue": number(equity),
        "walletBalance": number(funds.cash),
        "locked": "0",
        "spotHedgingQty": "0",
        "borrowAmount": "0",
        "accruedInterest": "0",
        "totalOrderIM": number(funds.order_margin),
        "totalPositionIM": number(funds.position_margin),
        "totalPositionMM": number(funds.maintenance),
        "unrealisedPnl": number(funds.unrealised),
        "cumRealisedPnl": number(funds.realised),
        "bonus": "0",
        "marginCollateral": True,
        "collateralSwitch": True,
        "colRes": "0",
        "spotBorrow": "0",
        "free": "",
        "availableToWithdraw": "",
        "availableToBorrow": "",
    }


NOTHING = Funds(
    cash=ZERO,
    unrealised=ZERO,
    available=ZERO,
    position_margin=ZERO,
    order_margin=ZERO,
    maintenance=ZERO,
    realised=ZERO,
)


def _rate(margin: Decimal, equity: Decimal) -> str:
    return number(round(margin / equity, 6)) if equity > 0 else ""
