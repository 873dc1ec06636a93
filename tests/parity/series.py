"""Seeded bar series and parameter sets that put the edges of `spec/strategy.md` close together.

Every generator takes a `numpy.random.Generator` and returns a `Series`: valid, gapless bars and their length.
Prices lie on a 0.1 grid unless the kind says otherwise. Volumes are random: the volume gate opens and closes.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]
Bars = dict[str, npt.NDArray[np.float64] | npt.NDArray[np.int64]]

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
MIDNIGHT = 1_700_006_400_000  # 2023-11-15 00:00 UTC, a funding settlement
MINUTE = 60_000
INTERVALS = (5, 15, 60, 240, 720, 1440)  # minutes; the last ones hold more than one settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Bars of one symbol and the length of one bar in milliseconds."""

    bars: Bars
    interval_ms: int

    @property
    def price(self) -> float:
        return float(np.median(self.bars["close"]))


def bars_from(
    rng: np.random.Generator,
    closes: Array,
    *,
    opens: Array | None = None,
    wick: float = 0.002,
    grid: float | None = 0.1,
    volume: Array | None = None,
    interval: int | None = None,
) -> Series:
    """Valid bars around `closes`: opens are the last closes unless given, wicks average `wick` of price."""
    n = len(closes)
    minutes = interval if interval is not None else int(rng.choice(INTERVALS))
    interval_ms = minutes * MINUTE
    if opens is None:
        opens = np.concatenate((closes[:1], closes[:-1]))
    top, bottom = np.maximum(opens, closes), np.minimum(opens, closes)
    highs = top * (1 + rng.exponential(wick, n) * (rng.random(n) < 0.9))
    lows = bottom * np.maximum(1 - rng.exponential(wick, n) * (rng.random(n) < 0.9), 0.2)
    prices = [opens, highs, lows, closes]
    if grid is not None:
        places = max(0, -int(np.floor(np.log10(grid))))
        prices = [np.maximum(np.round(np.round(x / grid) * grid, places), grid) for x in prices]
    start = MIDNIGHT + int(rng.integers(0, 40)) * interval_ms
    if volume is None:
        volume = np.round(rng.lognormal(5, 1, n), 3)
    return Series(
        bars={
            "timestamp": start + np.arange(n, dtype=np.int64) * interval_ms,
            "open": prices[0],
            "high": prices[1],
            "low": prices[2],
            "close": prices[3],
            "volume": volume,
        },
        interval_ms=interval_ms,
    )


def walk(rng: np.random.Generator, n: int, *, start: float = 2_000.0, drift: float = 0.0, vol: float = 0.004) -> Array:
    """A geometric random walk."""
    return np.asarray(start * np.exp(np.cumsum(rng.normal(drift, vol, n))), dtype=np.float64)


def trending_up(rng: np.random.Generator) -> Series:
    """A drift upwards with pullbacks."""
    return bars_from(rng, walk(rng, 700, drift=0.0012))


def trending_down(rng: np.random.Generator) -> Series:
    """A drift downwards with rallies."""
    return bars_from(rng, walk(rng, 700, start=30_000, drift=-0.0012))


def ranging(rng: np.random.Generator) -> Series:
    """Waves about a level."""
    n = 700
    waves = np.sin(np.arange(n) / 9) * 0.02 + np.sin(np.arange(n) / 31) * 0.03
    return bars_from(rng, 1_000 * np.exp(waves + rng.normal(0, 0.003, n)))


def gapped(rng: np.random.Generator) -> Series:
    """One bar in six opens far from the previous close, so that stops and entries are gapped past."""
    closes = walk(rng, 700, vol=0.006)
    jump = rng.normal(0, 0.02, len(closes)) * (rng.random(len(closes)) < 1 / 6)
    closes = closes * np.exp(np.cumsum(jump))
    opens = np.concatenate((closes[:1], closes[:-1])) * np.exp(jump)
    return bars_from(rng, closes, opens=opens)


def flat(rng: np.random.Generator) -> Series:
    """Stretches in which open, high, low and close are one price: no range, no band width."""
    closes = walk(rng, 700)
    quiet = np.repeat(rng.random(70) < 0.4, 10)
    for k in range(1, len(closes)):
        if quiet[k]:
            closes[k] = closes[k - 1]
    series = bars_from(rng, closes)
    b = series.bars
    for k in np.flatnonzero(quiet)[1:]:
        b["open"][k] = b["high"][k] = b["low"][k] = b["close"][k]
    return series


def constant(rng: np.random.Generator) -> Series:
    """One price and no range from the first bar to the last."""
    closes = np.full(300, 1_234.5)
    return bars_from(rng, closes, wick=0.0)


def zero_volume(rng: np.random.Generator) -> Series:
    """Stretches without any volume, longer than the volume average."""
    volume = np.round(rng.lognormal(5, 1, 700), 3)
    volume[np.repeat(rng.random(35) < 0.5, 20)] = 0.0
    return bars_from(rng, walk(rng, 700), volume=volume)


def crash(rng: np.random.Generator) -> Series:
    """Waterfalls: every hundred bars the price falls by a third in a few bars and comes half the way back."""
    steps = rng.normal(0.001, 0.004, 800)
    for at in range(80, 800, 100):
        length = int(rng.integers(1, 6))
        steps[at : at + length] -= 0.4 / length
        steps[at + length + 2 : at + length + 8] += 0.2 / 6
    return bars_from(rng, 20_000 * np.exp(np.cumsum(steps)), wick=0.006)


def parabolic(rng: np.random.Generator) -> Series:
    """The mirror of `crash`: the price rises by a half in a few bars and gives half of it back."""
    steps = rng.normal(-0.001, 0.004, 800)
    for at in range(80, 800, 100):
        length = int(rng.integers(1, 6))
        steps[at : at + length] += 0.4 / length
        steps[at + length + 2 : at + length + 8] -= 0.2 / 6
    return bars_from(rng, 500 * np.exp(np.cumsum(steps)), wick=0.006)


def off_tick(rng: np.random.Generator) -> Series:
    """Prices with all the digits a double holds."""
    return bars_from(rng, walk(rng, 700, start=97.3), grid=None)


def half_tick(rng: np.random.Generator) -> Series:
    """Prices on a grid of 0.05, so that half of the closes lie half way between two ticks of 0.1."""
    return bars_from(rng, walk(rng, 700, start=1_500), grid=0.05)


def cheap(rng: np.random.Generator) -> Series:
    """A price of a few ticks: stops round onto entries, targets fall below zero."""
    return bars_from(rng, walk(rng, 700, start=2.0, vol=0.02), wick=0.01)


def dear(rng: np.random.Generator) -> Series:
    """A price at which one step of quantity is much money."""
    return bars_from(rng, walk(rng, 700, start=2_500_000.0))


def daily(rng: np.random.Generator) -> Series:
    """Bars of a day: three settlements in each, and returns that compound over years."""
    return bars_from(rng, walk(rng, 900, drift=0.0006, vol=0.02), wick=0.008, interval=1440)


def wild(rng: np.random.Generator) -> Series:
    """Bars far wider than their moves: entry, stop and target often lie in one bar."""
    return bars_from(rng, walk(rng, 700, vol=0.004), wick=0.02)


def short(rng: np.random.Generator) -> Series:
    """Fewer bars than most warm-ups need."""
    return bars_from(rng, walk(rng, int(rng.integers(3, 40))))


def two_bars(rng: np.random.Generator) -> Series:
    """The shortest series allowed."""
    return bars_from(rng, walk(rng, 2))


KINDS: dict[str, Callable[[np.random.Generator], Series]] = {
    make.__name__: make
    for make in (
        trending_up,
        trending_down,
        ranging,
        gapped,
        flat,
        constant,
        zero_volume,
        crash,
        parabolic,
        off_tick,
        half_tick,
        cheap,
        dear,
        daily,
        wild,
        short,
        two_bars,
    )
}


def random_params(rng: np.random.Generator, price: float = 30_000.0) -> dict[str, float]:
    """A valid, widely varied parameter set, mostly with many trades at about `price`; every name is given."""

    def one(*choices: float) -> float:
        return choices[int(rng.integers(0, len(choices)))]

    def whole(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    ticks = [tick for tick in (0.01, 0.1, 0.5, 1.0) if tick <= price / 100] or [0.1, 0.01]
    equity = one(10_000.0, 10_000.0, 500.0, 250_000.0)
    steps = [step for step in (0.001, 0.01, 0.1, 1.0, 10.0) if step * price <= equity / 5] or [0.001]
    trailing = rng.random() < 0.8
    qty_step = one(*steps)
    return {
        "ema_period": one(whole(2, 6), whole(5, 40), whole(20, 200)),
        "rsi_period": whole(2, 20),
        "rsi_long_max": one(75.0, 60.0, 90.0, 100.0, 150.0),
        "rsi_short_min": one(25.0, 40.0, 10.0, 0.0),
        "adx_period": whole(2, 16),
        "adx_min": one(0.0, 0.0, 10.0, 20.0, 30.0),
        "atr_period": whole(2, 20),
        "sl_atr_multiplier": one(0.3, 0.5, 1.0, 1.5, 2.0, 3.3, 4.0, 6.0),
        "take_profit_r": one(0.0, 0.0, 0.5, 1.0, 1.7, 3.0),
        "trail_start_r": one(0.3, 0.5, 1.0, 1.5, 2.0) if trailing else 0.0,
        "trail_step_r": one(0.1, 0.25, 0.3, 0.5, 1.0, 2.0),
        "trail_lag_r": one(0.0, 0.1, 0.5, 1.0, 1.3, 2.0),
        "bb_period": whole(2, 25),
        "bb_std": one(0.5, 1.0, 1.5, 2.0, 2.5, 0.0),
        "volume_ma_period": whole(2, 25),
        "knife_lookback": one(1, 2, 3, 5, 10),
        "knife_atr": one(0.0, 0.5, 1.0, 2.0, 3.0),
        "entry_offset": one(0.0, 0.0, 0.0002, 0.0005, 0.002, 0.004),
        "entry_ttl_bars": whole(1, 5),
        "runaway_r": one(0.0, 0.2, 0.5, 1.0, 3.0),
        "cooldown_bars": one(0, 0, 1, 2, 7),
        "initial_equity": equity,
        "risk_per_trade": one(0.002, 0.01, 0.01, 0.03, 0.1, 0.5),
        "leverage": one(1.0, 2.0, 3.0, 5.0, 10.0, 20.0),
        "max_position_usdt": one(15_000.0, 1_000.0, 300.0, 50_000.0, 1_000_000.0),
        "maker_fee": one(0.0002, 0.0, 0.001),
        "taker_fee": one(0.00055, 0.0, 0.002),
        "slippage": one(0.0002, 0.0, 0.001, 0.01),
        "funding_rate": one(0.0001, 0.0, -0.0003, 0.001),
        "tick_size": one(*ticks),
        "qty_step": qty_step,
        "min_qty": qty_step * whole(1, 2),
        "min_notional": one(5.0, 0.0, 50.0, 200.0),
    }


def random_funding(rng: np.random.Generator, series: Series) -> dict[int, float]:
    """Rates for most settlements of the series; one in eight is missing."""
    times = series.bars["timestamp"]
    first, last = int(times[0]), int(times[-1]) + series.interval_ms
    eight = 8 * 60 * MINUTE
    return {
        at: round(float(rng.normal(0.0001, 0.0004)), 6)
        for at in range(first - first % eight, last + eight, eight)
        if rng.random() < 7 / 8
    }


def write_candles(path: Path, bars: Bars) -> Path:
    """Write a candle file; the suffix (.parquet, .csv, .csv.gz) is the format. Doubles survive exactly."""
    if path.suffix == ".parquet":
        pd.DataFrame({name: bars[name] for name in COLUMNS}).to_parquet(path, index=False)
        return path
    rows = zip(*(np.asarray(bars[name]).tolist() for name in COLUMNS), strict=True)
    text = "".join(",".join(map(str, row)) + "\n" for row in (COLUMNS, *rows)).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def write_funding(path: Path, rates: dict[int, float]) -> Path:
    """Write a funding series as csv.gz."""
    lines = ["timestamp,funding_rate", *(f"{at},{rate!r}" for at, rate in rates.items())]
    path.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))
    return path
