"""Markets of which it is known whether a strategy can earn on them: noise, and edges that were planted.

Every generator takes a seed and a number of bars and gives bars of four hours. Noise has no drift and nothing to
predict in its direction: walks, walks whose volatility comes in clusters, and recorded bars cut into short blocks that
are shuffled and turned upside down at random. An edge is made of the same bars with a part that can be known: trends
that last, or a price that comes back to a level.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np

from research.candles import load_candles
from trading.model import CandleSeries, FloatArray, IntArray

INTERVAL = timedelta(hours=4)
START = 1_577_836_800_000  # 2020-01-01
SIGMA = 0.01  # of a bar's log return
STEPS = 12  # a bar is walked in so many steps, so that its high and low are those of its own path

World = Callable[[int, int], CandleSeries]


def bars_of(rng: np.random.Generator, drift: FloatArray, sigma: FloatArray, price: float = 20_000.0) -> CandleSeries:
    """Bars of a walk with that drift and volatility of log return, one of each a bar; volume goes with the range."""
    n = len(sigma)
    steps = drift[:, None] / STEPS + sigma[:, None] / np.sqrt(STEPS) * rng.standard_normal((n, STEPS))
    return _bars(np.cumsum(steps).reshape(n, STEPS), rng, price)


def _bars(path: FloatArray, rng: np.random.Generator, price: float) -> CandleSeries:
    """Bars of a log path, a row of steps for each."""
    before = np.concatenate(([0.0], path[:-1, -1]))
    logs = np.column_stack((before, path))
    reach = logs.max(axis=1) - logs.min(axis=1)
    volume = 1_000 * np.exp(0.4 * rng.standard_normal(len(path))) * (0.5 + reach / reach.mean())
    return series_of(before, logs.max(axis=1), logs.min(axis=1), path[:, -1], volume, price)


def series_of(
    open_: FloatArray, high: FloatArray, low: FloatArray, close: FloatArray, volume: FloatArray, price: float
) -> CandleSeries:
    """Bars of log prices on a tick of 0.1, around `price` at the start."""
    columns = (np.maximum(np.round(price * np.exp(each), 1), 0.1) for each in (open_, high, low, close))
    names = ("open", "high", "low", "close")
    return CandleSeries(
        symbol="BTCUSDT",
        interval=INTERVAL,
        timestamp=START + np.arange(len(close), dtype=np.int64) * (INTERVAL // timedelta(milliseconds=1)),
        volume=np.round(volume, 3),
        **dict(zip(names, columns, strict=True)),
    )


def clustered(rng: np.random.Generator, bars: int) -> FloatArray:
    """Volatility that comes in clusters, SIGMA on the whole: a logarithm that reverts, with a memory of weeks."""
    memory, shock = 0.97, 0.12
    logs = np.empty(bars)
    heat = 0.0
    for bar, chance in enumerate(rng.standard_normal(bars).tolist()):
        heat = memory * heat + shock * chance
        logs[bar] = heat
    sigma: FloatArray = SIGMA * np.exp(logs - shock**2 / (1 - memory**2))
    return sigma


# Noise


def walk(seed: int, bars: int) -> CandleSeries:
    """A geometric random walk."""
    return bars_of(np.random.default_rng(seed), np.zeros(bars), np.full(bars, SIGMA))


def stormy(seed: int, bars: int) -> CandleSeries:
    """A walk whose volatility comes in clusters, with fat tails."""
    rng = np.random.default_rng(seed)
    fat = np.sqrt(5 / rng.chisquare(5, bars)) * np.sqrt(3 / 5)
    return bars_of(rng, np.zeros(bars), clustered(rng, bars) * fat)


def shuffled(path: Path, block: int = 6) -> World:
    """Recorded bars in blocks of a day, drawn at random with replacement and turned upside down at random."""
    real = load_candles(path, known_symbols=("BTCUSDT", "ETHUSDT")).series
    real = _resampled(real, int(INTERVAL / real.interval))
    close = np.log(real.close)
    shape = np.column_stack([np.log(each)[1:] - close[:-1] for each in (real.open, real.high, real.low, real.close)])
    volume = real.volume[1:] / np.convolve(real.volume, np.ones(180) / 180, mode="same")[1:]  # it grew over the years

    def world(seed: int, bars: int) -> CandleSeries:
        rng = np.random.default_rng(seed)
        rows = _drawn(rng, len(shape), bars, block)
        turned = np.repeat(rng.random(-(-bars // block)) < 0.5, block)[:bars]
        moves = np.where(turned[:, None], -shape[rows][:, [0, 2, 1, 3]], shape[rows])
        before = np.concatenate(([0.0], np.cumsum(moves[:, 3])[:-1]))
        open_, high, low, end = (before[:, None] + moves).T
        return series_of(open_, high, low, end, 1_000 * volume[rows], 20_000.0)

    return world


def _drawn(rng: np.random.Generator, count: int, bars: int, block: int) -> IntArray:
    starts = rng.integers(0, count - block, -(-bars // block))
    rows: IntArray = (starts[:, None] + np.arange(block)).ravel()[:bars]
    return rows


def _resampled(series: CandleSeries, times: int) -> CandleSeries:
    """Bars `times` as long, complete ones only."""
    n = len(series) // times
    column = {name: getattr(series, name)[: n * times].reshape(n, times) for name in ("open", "high", "low", "close")}
    return CandleSeries(
        symbol=series.symbol,
        interval=series.interval * times,
        timestamp=series.timestamp[: n * times : times],
        open=column["open"][:, 0],
        high=column["high"].max(axis=1),
        low=column["low"].min(axis=1),
        close=column["close"][:, -1],
        volume=series.volume[: n * times].reshape(n, times).sum(axis=1),
    )


# Planted edges


def trends(seed: int, bars: int, drift: float = 0.12, last: int = 150) -> CandleSeries:
    """Trends up and down that last `last` bars on average, with a drift of `drift` deviations of a bar."""
    rng = np.random.default_rng(seed)
    side, sides = rng.choice((-1.0, 1.0)), np.empty(bars)
    for bar, chance in enumerate(rng.random(bars).tolist()):
        side = -side if chance < 1 / last else side
        sides[bar] = side
    sigma = clustered(rng, bars)
    return bars_of(rng, drift * sides * sigma, sigma)


def ranges(seed: int, bars: int, swing: float = 2.0, memory: float = 0.85) -> CandleSeries:
    """A price that strays from a slow walk by `swing` deviations of a bar and comes back, keeping `memory` a bar."""
    rng = np.random.default_rng(seed)
    sigma = clustered(rng, bars)
    level = np.repeat(np.cumsum(0.35 * sigma * rng.standard_normal(bars)), STEPS)
    keep = memory ** (1 / STEPS)
    shocks = np.repeat(sigma, STEPS) * swing * np.sqrt(1 - keep**2) * rng.standard_normal(bars * STEPS)
    away, strays = 0.0, np.empty(bars * STEPS)
    for step, shock in enumerate(shocks.tolist()):
        away = keep * away + shock
        strays[step] = away
    return _bars((level + strays).reshape(bars, STEPS), rng, 20_000.0)


NOISE: dict[str, World] = {"walk": walk, "stormy": stormy}
EDGES: dict[str, tuple[str, World]] = {"trends": ("ema_trend", trends), "ranges": ("mean_reversion", ranges)}
