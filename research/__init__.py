"""The laboratory: market data, backtests and what they measure. Knows nothing of the conversation."""
