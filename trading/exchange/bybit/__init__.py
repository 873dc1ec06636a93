"""Bybit V5 through pybit, linear USDT perpetuals in one-way mode: `MarketData`, `Broker` and the streams."""
