"""Compiles the kernel, or loads what was compiled before: `python -m research.warm`, a few seconds, once a version.

The compiled code lies in `__pycache__` beside the source. `make install` fills it, so that the first backtest of a
new installation does not wait for a compiler.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np

from research.backtest import backtest
from research.grid import Grid, search
from research.ground import Ground
from trading.model import CandleSeries
from trading.parameters import AccountTerms, InstrumentTerms, TradeRules
from trading.strategy import strategy_named

_BARS = 256
_STRATEGY = "ema_trend"


def compiled() -> None:
    """Once this returns, neither a backtest nor a search compiles anything."""
    series, values = _waves(), _values()
    backtest(series, _STRATEGY, values)
    grid = Grid(strategy=_STRATEGY, values=values, axes=(("ema_period", (5, 10)),))
    search(Ground.of(series), grid)


def _values() -> dict[str, Any]:
    values: dict[str, Any] = {}
    for group in (strategy_named(_STRATEGY).parameters, TradeRules, AccountTerms, InstrumentTerms):
        values |= group().as_dict()
    return {**values, "ema_period": 10, "adx_min": 0.0}


def _waves() -> CandleSeries:
    """Bars with a few trades in them."""
    rows = np.arange(_BARS)
    close = 1000.0 + 100.0 * np.sin(rows / 20.0)
    opened = np.concatenate((close[:1], close[:-1]))
    return CandleSeries(
        symbol="BTCUSDT",
        interval=timedelta(hours=4),
        timestamp=1_700_006_400_000 + rows.astype(np.int64) * 14_400_000,
        open=opened,
        high=np.maximum(opened, close) + 2.0,
        low=np.minimum(opened, close) - 2.0,
        close=close,
        volume=1.0 + rows % 7,
    )


if __name__ == "__main__":
    compiled()
