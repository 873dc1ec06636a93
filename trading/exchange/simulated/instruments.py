"""The instruments list of the paper exchange: trading rules of Bybit's USDT perpetuals, as last looked up.

Bybit changes them now and then (`GET /v5/market/instruments-info`); `config.json` can override any of them.
"""

from __future__ import annotations

from decimal import Decimal

from trading.model import Instrument


def _rules(symbol: str, tick_size: str, qty_step: str, min_qty: str, min_notional: str = "5") -> Instrument:
    return Instrument(
        symbol=symbol,
        tick_size=Decimal(tick_size),
        qty_step=Decimal(qty_step),
        min_qty=Decimal(min_qty),
        min_notional=Decimal(min_notional),
    )


KNOWN: dict[str, Instrument] = {
    rules.symbol: rules
    for rules in (
        _rules("BTCUSDT", "0.1", "0.001", "0.001"),
        _rules("ETHUSDT", "0.01", "0.01", "0.01"),
        _rules("SOLUSDT", "0.01", "0.1", "0.1"),
        _rules("BNBUSDT", "0.1", "0.01", "0.01"),
        _rules("XRPUSDT", "0.0001", "0.1", "0.1"),
        _rules("ADAUSDT", "0.0001", "1", "1"),
        _rules("DOGEUSDT", "0.00001", "1", "1"),
        _rules("LINKUSDT", "0.001", "0.1", "0.1"),
        _rules("AVAXUSDT", "0.001", "0.1", "0.1"),
        _rules("LTCUSDT", "0.01", "0.1", "0.1"),
    )
}
