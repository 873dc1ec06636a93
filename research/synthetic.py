"""A market without end: seeded candles with everything a strategy should meet, the same ones every time.

The market is made of acts of 480 bars. Every act plays the same scenes, in an order, with directions and sizes of
its own: ranges, a trend each way, a move that accelerates until it breaks, a price gap, bars without a trade, and
between them four of the set pieces the anti-knife exists for (a climb on falling volume that ends in a waterfall,
or a slide that ends in a parabola). An act depends on the seed, the symbol, its number and where the act before it
ended: bar k is the same however many bars are asked for, and a market can go on where it stopped.
It is made to show every part of the program soon, and says nothing about what a strategy earns anywhere else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np

from trading.errors import BadInput
from trading.exchange.simulated.instruments import KNOWN
from trading.model import MILLISECOND, CandleSeries, FloatArray, millis

ACT = 480
START = datetime(2024, 1, 1, tzinfo=UTC)
START_PRICES = {
    "BTCUSDT": 60_000.0,
    "ETHUSDT": 3_000.0,
    "SOLUSDT": 150.0,
    "BNBUSDT": 600.0,
    "XRPUSDT": 0.6,
    "ADAUSDT": 0.5,
    "DOGEUSDT": 0.15,
    "LINKUSDT": 15.0,
    "AVAXUSDT": 30.0,
    "LTCUSDT": 80.0,
}
SIGMA = 0.005  # noise of the log price per bar of four hours; shorter bars have less, by the square root of time
REVERSION = 0.35  # share of its distance from the start that the price loses per act, so that it stays in bounds
MEMORY = 1 - 2 / 201  # the scenes know how far the price is from a mean of this memory, an EMA of 200 bars


@dataclass(slots=True, kw_only=True)
class _Scene:
    """A stretch of bars: drift of the log price and its noise, both in units of SIGMA, and relative volume."""

    drift: FloatArray
    noise: FloatArray
    volume: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class _Where:
    """Where an act begins, in logarithms of the price over the start price: the last close and its slow mean."""

    close: float = 0.0
    mean: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """Bars of one act, prices as logarithms like `_Where`, and where the next act begins."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    end: _Where


def synthetic(
    symbol: str,
    *,
    seed: int,
    bars: int,
    interval_minutes: int = 240,
    start: datetime = START,
    start_price: float | None = None,
) -> CandleSeries:
    """The first `bars` bars of the market of that seed and symbol; `start` is the first bar's open.

    Prices lie on the symbol's tick (five significant digits for a symbol that the instruments list does not know).
    """
    if bars < 1 or interval_minutes < 1 or seed < 0:
        raise BadInput("a synthetic market needs at least 1 bar, 1 minute per bar and a seed of 0 or more")
    price = START_PRICES.get(symbol, 100.0) if start_price is None else start_price
    if not 0 < price < math.inf:
        raise BadInput("a synthetic market needs a start price above 0")
    scale = SIGMA * math.sqrt(interval_minutes / 240)
    identity = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8], "big")
    acts: list[_Act] = []
    for number in range(-(-bars // ACT)):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, identity, number])))
        acts.append(_act(rng, acts[-1].end if acts else _Where(), scale))
    interval = timedelta(minutes=interval_minutes)
    tick, columns = _tick(symbol, price), {}
    for name in ("open", "high", "low", "close"):
        path = np.concatenate([getattr(act, name) for act in acts])[:bars]
        columns[name] = _on_grid(price * np.exp(path), tick)
    return CandleSeries(
        symbol=symbol,
        interval=interval,
        timestamp=millis(start) + np.arange(bars, dtype=np.int64) * (interval // MILLISECOND),
        volume=np.round(np.concatenate([act.volume for act in acts])[:bars] * (6e7 / price), 3),
        **columns,
    )


def write_candles(series: CandleSeries, path: Path) -> Path:
    """Write a candle file, Parquet or CSV(.gz) by its name; `research.candles.load_candles` reads it."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    names = ("timestamp", "open", "high", "low", "close", "volume")
    table = pa.table([pa.array(getattr(series, name)) for name in names], names=list(names))
    if path.name.endswith(".parquet"):
        parquet.write_table(table, path)
    elif path.name.endswith((".csv", ".csv.gz")):
        with pa.output_stream(path, compression="gzip" if path.name.endswith(".gz") else None) as out:
            csv.write_csv(table, out)
    else:
        raise BadInput(f"{path}: a candle file is .parquet, .csv or .csv.gz")
    return path


# The scenes: `rng` is the act's own generator, `side` is +1 upwards and -1 downwards.


def _level(bars: int, drift: float, noise: float, volume: float) -> _Scene:
    return _Scene(drift=np.full(bars, drift), noise=np.full(bars, noise), volume=np.full(bars, volume))


def _wave(bars: int, height: float, period: float) -> FloatArray:
    """The steps of a sine from zero."""
    return np.diff(height * np.sin(2 * np.pi * np.arange(bars + 1) / period))


def _range(rng: np.random.Generator, bars: int, side: int) -> _Scene:
    """Waves around a level."""
    scene = _level(bars, 0.0, 0.8, 1.0)
    scene.drift = side * _wave(bars, rng.uniform(7.0, 10.0), rng.uniform(22, 32))
    return scene


def _trend(rng: np.random.Generator, bars: int, side: int) -> _Scene:
    """A run with pullbacks, the last of them the deepest."""
    scene = _level(bars, rng.uniform(1.0, 1.4), 0.9, 1.2)
    scene.drift[-8:] = -1.5
    scene.drift = side * (scene.drift + _wave(bars, 2.0, rng.uniform(9, 15)))
    return scene


def _blow_off(rng: np.random.Generator, bars: int, side: int) -> _Scene:
    """A move that feeds on itself and then gives back most of it."""
    rise = bars * 2 // 3
    scene = _level(bars, 0.0, 0.9, 1.0)
    scene.drift[:rise] = side * np.geomspace(0.2, rng.uniform(2.5, 3.5), rise)
    scene.drift[rise:] = -scene.drift[:rise].sum() / (bars - rise) * rng.uniform(0.7, 1.0)
    scene.volume[:rise] = np.geomspace(0.8, 2.5, rise)
    return scene


def _knife(rng: np.random.Generator, lag: float) -> _Scene:
    """Above the mean: a dip through it, a climb on less and less volume that flattens and then breaks in one bar
    on much volume. Nobody wanted in before, so that the break is an edge, and a falling knife. Below: a mirror.
    """
    dip, climb, still, settle = 6, 14, 16, 8
    stretches = (
        np.full(dip, -min(max(abs(lag) + 1.0, 7.0), 25.0) / dip),
        np.full(climb, rng.uniform(1.2, 1.5)),
        np.full(still, 0.15),
        np.array([-rng.uniform(9.0, 11.0), -rng.uniform(0.0, 3.0)]),
    )
    drift = np.concatenate((*stretches, np.full(settle, -sum(part.sum() for part in stretches) / settle)))
    quiet = climb + still
    noise = np.concatenate((np.full(dip, 0.6), np.full(quiet, 0.45), [0.3, 0.5], np.full(settle, 0.8)))
    volume = np.concatenate((np.full(dip, 1.5), np.geomspace(1.0, 0.3, quiet), [3.5, 2.5], np.full(settle, 1.2)))
    return _Scene(drift=drift if lag > 0 else -drift, noise=noise, volume=volume)


# The scenes of an act, with their lengths and sides (0: either). Knives, 46 bars each, stand between them.
_SCENES: tuple[tuple[Callable[[np.random.Generator, int, int], _Scene], int, int], ...] = (
    (_range, 60, 1),
    (_range, 50, -1),
    (_range, 50, 1),
    (_trend, 50, 1),
    (_trend, 50, -1),
    (_blow_off, 36, 0),
)
_KNIFE_AFTER = {0, 2, 3, 5}  # places


def _script(rng: np.random.Generator, lag: float) -> Iterator[_Scene]:
    """The scenes of an act in its order; `lag` is how far the price is above its mean, in units of SIGMA."""

    def played(scene: _Scene) -> _Scene:
        nonlocal lag
        bars = len(scene.drift)
        fade = MEMORY**bars  # the lag behind a line of that slope tends to slope / (1 - MEMORY)
        lag = lag * fade + float(scene.drift.mean()) / (1 - MEMORY) * (1 - fade)
        return scene

    for place, choice in enumerate(rng.permutation(len(_SCENES))):
        play, bars, side = _SCENES[choice]
        yield played(play(rng, bars, side or int(rng.choice((-1, 1)))))
        if place in _KNIFE_AFTER:
            yield played(_knife(rng, lag))


def _act(rng: np.random.Generator, start: _Where, scale: float) -> _Act:
    """One act; `scale` is a bar's SIGMA."""
    scenes = list(_script(rng, (start.close - start.mean) / scale))
    drift, noise, busy = (np.concatenate([getattr(s, name) for s in scenes]) for name in _Scene.__slots__)
    step = scale * (drift + noise * rng.standard_normal(ACT)) - REVERSION * start.close / ACT
    gap = np.zeros(ACT)
    gap[rng.integers(ACT)] = rng.choice((-1, 1)) * rng.uniform(2.0, 4.0) * scale
    wicks = scale * 0.35 * rng.standard_exponential((2, ACT)) * np.maximum(noise, 0.5)
    idle = rng.choice(ACT, 2, replace=False)
    for moves in (step, gap, wicks):
        moves[..., idle] = 0.0
    close = start.close + np.cumsum(step + gap)
    open_ = np.concatenate(([start.close], close[:-1])) + gap
    high, low = np.maximum(open_, close) + wicks[0], np.minimum(open_, close) - wicks[1]
    volume = busy * (0.7 + 0.15 * (high - low) / scale) * np.exp(0.25 * rng.standard_normal(ACT))
    volume[idle] = 0.0
    weights = (1 - MEMORY) * MEMORY ** np.arange(ACT - 1, -1, -1.0)
    end = _Where(close=float(close[-1]), mean=float(start.mean * MEMORY**ACT + np.sum(weights * close)))
    return _Act(open=open_, high=high, low=low, close=close, volume=volume, end=end)


def _tick(symbol: str, price: float) -> Decimal:
    if symbol in KNOWN:
        return KNOWN[symbol].tick_size
    return Decimal(1).scaleb(math.floor(math.log10(price)) - 4)


def _on_grid(prices: FloatArray, tick: Decimal) -> FloatArray:
    """The nearest tick of each price, one tick at least, as the doubles nearest to the decimals."""
    ticks = np.maximum(np.rint(prices / float(tick)), 1.0)
    numerator, denominator = tick.as_integer_ratio()
    return np.asarray(ticks * numerator / denominator, dtype=np.float64)
