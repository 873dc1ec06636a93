"""The candle files of these tests and the parameters they are traded with.

`lively`: four-hour bars of the synthetic market with an entry every ten bars or so, and every kind of exit.
`steady`: a climb in which every third bar is an edge, every bar dips through the entry that was put before it,
and nothing ever takes the position out again: whoever trades it fills at the end of the bar after the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import numpy as np

from research.synthetic import START, synthetic, write_candles
from trading.model import CandleSeries, millis

SYMBOL = "BTCUSDT"
BAR = timedelta(hours=4)
EVERY = 3  # bars from edge to edge of the steady market
LIVELY: Mapping[str, float] = {
    "ema_period": 20,
    "rsi_long_max": 100,
    "rsi_short_min": 0,
    "adx_period": 5,
    "adx_min": 0,
    "atr_period": 5,
    "sl_atr_multiplier": 3,
    "volume_ma_period": 2,
    "bb_period": 5,
    "entry_offset": 0.002,
    "entry_ttl_bars": 3,
    "take_profit_r": 1.5,
    "trail_start_r": 0.5,
    "trail_step_r": 0.25,
    "trail_lag_r": 0.75,
    "risk_per_trade": 0.005,
}
STEADY: Mapping[str, float] = {
    "ema_period": 20,
    "rsi_long_max": 101,
    "adx_period": 5,
    "adx_min": 0,
    "atr_period": 5,
    "sl_atr_multiplier": 6,
    "volume_ma_period": EVERY,
    "bb_period": 5,
    "knife_atr": 50,
    "entry_offset": 0.001,
    "trail_step_r": 0.5,
}


def words(settings: Mapping[str, float]) -> tuple[str, ...]:
    """The parameters as the command line takes them."""
    return tuple(word for name, value in settings.items() for word in ("--set", f"{name}={value}"))


def lively(folder: Path, bars: int) -> Path:
    """Write the lively market."""
    return write_candles(synthetic(SYMBOL, seed=18, bars=bars), folder / f"{SYMBOL}-lively.parquet")


def steady(folder: Path, bars: int) -> Path:
    """Write the steady market: a gentle climb, loud volume and an edge every third bar, a dip in each."""
    number = np.arange(bars, dtype=np.int64)
    steps = np.where(number % EVERY == 1, -0.0008, 0.001)
    close = np.round(50_000 * np.exp(np.cumsum(steps)), 1)
    opened = np.concatenate(([50_000.0], close[:-1]))
    series = CandleSeries(
        symbol=SYMBOL,
        interval=BAR,
        timestamp=millis(START) + number * (BAR // timedelta(milliseconds=1)),
        open=opened,
        high=np.round(np.maximum(opened, close) * 1.0005, 1),
        low=np.round(np.minimum(opened, close) * 0.998, 1),
        close=close,
        volume=np.where(number % EVERY == 0, 400.0, 100.0),
    )
    return write_candles(series, folder / f"{SYMBOL}-steady.parquet")
