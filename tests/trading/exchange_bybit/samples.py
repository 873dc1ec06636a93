"""Bybit's objects as its documentation shows them, for tests to bend."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]

ORDER: Object = {
    "orderId": "fd4300ae-7847-404e-b947-b46980a4d140",
    "orderLinkId": "entry-1",
    "symbol": "BTCUSDT",
    "price": "16700.50",
    "qty": "0.10",
    "side": "Buy",
    "positionIdx": 0,
    "orderStatus": "New",
    "createType": "CreateByUser",
    "cancelType": "UNKNOWN",
    "rejectReason": "EC_NoError",
    "avgPrice": "",
    "leavesQty": "0.10",
    "cumExecQty": "0.00",
    "orderType": "Limit",
    "stopOrderType": "",
    "triggerPrice": "",
    "reduceOnly": False,
    "createdTime": "1684738540559",
    "updatedTime": "1684738540561",
}
EXECUTION: Object = {
    "symbol": "BTCUSDT",
    "orderType": "Limit",
    "orderId": "fd4300ae-7847-404e-b947-b46980a4d140",
    "orderLinkId": "entry-1",
    "orderPrice": "1757.1",
    "orderQty": "0.3",
    "leavesQty": "0",
    "side": "Sell",
    "stopOrderType": "UNKNOWN",
    "createType": "CreateByUser",
    "execFee": "0.1",
    "execId": "e0cbe81d-0f18-5866-9415-cf319b5dab3b",
    "execPrice": "1755.10",
    "execQty": "0.10",
    "execType": "Trade",
    "execTime": "1672282722429",
    "isMaker": False,
    "seq": 4688002127,
}
POSITION: Object = {
    "positionIdx": 0,
    "symbol": "BTCUSDT",
    "side": "Buy",
    "size": "0.10",
    "avgPrice": "16700.50",
    "stopLoss": "16000.0",
    "trailingStop": "0",
}
INSTRUMENT: Object = {
    "symbol": "BTCUSDT",
    "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
    "lotSizeFilter": {"minNotionalValue": "5", "maxOrderQty": "1190.000", "minOrderQty": "0.001", "qtyStep": "0.001"},
}
WALLET: Object = {"list": [{"accountType": "UNIFIED", "coin": [{"coin": "USDT", "walletBalance": "10000.50"}]}]}


def candle_frame(
    start: int, *, close: str = "100", confirm: bool = True, symbol: str = "BTCUSDT", step: int = 60_000
) -> Object:
    """A frame of the one-minute kline topic."""
    bar = {
        "start": start,
        "end": start + step - 1,
        "interval": "1",
        "open": "100",
        "high": "101",
        "low": "99",
        "close": close,
        "volume": "5",
        "turnover": "500",
        "confirm": confirm,
        "timestamp": start + (step if confirm else step // 2),
    }
    return {"topic": f"kline.1.{symbol}", "type": "snapshot", "ts": bar["timestamp"], "data": [bar]}


def candle_rows(first: int, last: int, step: int = 60_000) -> list[list[str]]:
    """Rows of the kline endpoint, newest first."""
    return [[str(start), "100", "101", "99", "100", "5", "500"] for start in range(last, first - 1, -step)]
