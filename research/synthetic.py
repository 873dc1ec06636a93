"""A market without end: seeded candles with everything a strategy should meet, the same ones every time.

The bars look like those of a crypto perpetual: noise with fat tails that comes in clusters, volume that goes with it,
wicks, a gap now and then. Under the noise the market is made of acts of 240 bars, each with the same scenes in lengths,
sizes and directions of its own. First a trend that leaves its mean far behind, rolls over on dwindling volume and
breaks in a crash (after a fall: a squeeze upwards), which is what the anti-knife exists for; then a feint, a break
that fails. After that, in any order: a range, a lull, another feint, and a move that feeds on itself up to a climax.

An act depends on the seed, the symbol, its number and where the act before it ended: bar k is the same however many
bars are asked for, and a market can go on where it stopped. It is made to show every part of the program soon, and
says nothing about what a strategy earns anywhere else.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trading.errors import BadInput
from trading.exchange.simulated.instruments import KNOWN
from trading.model import MILLISECOND, CandleSeries, FloatArray, millis

ACT = 240
BREAK = 18  # bars of a crash
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
SIGMA = 0.006  # a move of the log price in four hours; bars of other lengths have it by the square root of time
TURNOVER = 6e7  # quote currency traded in four hours
HOME = 130.0  # at this distance from the start, in SIGMA, most moves lead back: the price stays in bounds
MEMORY = 1 - 2 / 201  # the scenes know how far the price is from a mean of this memory, an EMA of 200 bars
CLUSTER, EXCITED = 0.94, 0.10  # how long the noise of a bar echoes in the next ones, and how much
RECOIL = 0.25  # share of a bar's surprise that the next one takes back: without it trends are smoother than real ones
WICKS = 1.3  # noise within a bar over that of its close: bodies are 0.45 of the range, on recorded candles 0.41


class _Step(NamedTuple):
    """One bar of a scene: drift and noise in units of SIGMA, volume relative.

    The bar reaches at least `wick` above its body (below, where it is negative). `pull` is the share of the way to the
    scene's level that the price goes.
    """

    drift: float
    noise: float
    volume: float
    wick: float = 0.0
    pull: float = 0.0


_Scene = list[_Step]


class _Chance(NamedTuple):
    """What a bar owes to chance: its surprise (of deviation 1), its change of mood in trading, its gap in SIGMA."""

    surprise: float
    mood: float
    gap: float


@dataclass(slots=True, kw_only=True)
class _State:
    """Where the market stands: the close and its slow mean as distances from the start, in units of SIGMA.

    `heat` is the logarithm of the noise over a scene's own, `mood` that of the volume; `surprise` is the last bar's.
    """

    close: float = 0.0
    mean: float = 0.0
    heat: float = 0.0
    mood: float = 0.0
    surprise: float = 0.0

    @property
    def lead(self) -> float:
        """How far the price is above its mean."""
        return self.close - self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class _Act:
    """Bars of one act, prices as distances like those of `_State`, and where the next act begins."""

    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray
    end: _State


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
    acts = list(_acts(symbol, seed, -(-bars // ACT)))
    scale, interval = SIGMA * math.sqrt(interval_minutes / 240), timedelta(minutes=interval_minutes)
    tick, columns = _tick(symbol, price), {}
    for name in ("open", "high", "low", "close"):
        path = np.concatenate([getattr(act, name) for act in acts])[:bars]
        columns[name] = _on_grid(price * np.exp(scale * path), tick)
    volume = np.concatenate([act.volume for act in acts])[:bars]
    return CandleSeries(
        symbol=symbol,
        interval=interval,
        timestamp=millis(start) + np.arange(bars, dtype=np.int64) * (interval // MILLISECOND),
        volume=np.round(volume * (TURNOVER * interval_minutes / 240 / price), 3),
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


# The scenes of an act. Each is written upwards; `_turned` makes its mirror image.


def _steps(
    bars: int,
    drift: float | FloatArray,
    noise: float | tuple[float, float],
    volume: float | tuple[float, float],
) -> _Scene:
    """Bars with the same values, or with values from the first to the second of a pair."""
    columns = [
        np.linspace(*values, bars) if isinstance(values, tuple) else np.broadcast_to(values, bars)
        for values in (drift, noise, volume)
    ]
    return [_Step(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _turned(scene: _Scene, side: int) -> _Scene:
    """The scene upwards (1) or downwards (-1)."""
    return [step._replace(drift=side * step.drift, wick=side * step.wick) for step in scene]


def _range(rng: np.random.Generator, now: _State, bars: int) -> Iterator[_Scene]:
    """Noise around the scene's level."""
    yield [_Step(0.0, 1.0, 1.0, pull=rng.uniform(0.03, 0.06))] * bars


def _lull(rng: np.random.Generator, now: _State, bars: int) -> Iterator[_Scene]:
    """Hardly anything."""
    yield _steps(bars, 0.0, (0.9, 0.7), (0.85, 0.5))


def _feint(rng: np.random.Generator, now: _State, bars: int) -> Iterator[_Scene]:
    """A calm, a break on volume, and all of it given back, and more."""
    side, height, calm = _side(rng, now, 0.45, 6.0), rng.uniform(4.0, 13.0), 5
    rise = min(max(round(height / 1.2), 3), bars - calm - 9)
    back = bars - calm - rise
    scene = [
        *_steps(calm, 0.0, 0.75, (0.8, 0.6)),
        *_steps(rise, height / rise, 1.1, (1.8, 1.2)),
        *_steps(back, -min(1.6 * height, 13.0) / back, 1.1, 1.0),
    ]
    yield _turned(scene, side)


def _broken_trend(rng: np.random.Generator, now: _State, bars: int) -> Iterator[_Scene]:
    """A calm, a break on volume, a run in legs, a top that rolls over on less and less volume, and a crash.

    The run is steered so far from the mean that the crash ends short of it: to a trend follower the trend is intact.
    """
    side, top = _side(rng, now, 0.4, 8.0), int(rng.integers(7, 11))
    run, wanted = bars - BREAK - top - 10, 20.0 + top / 2
    yield _turned([*_steps(7, 0.0, 0.7, 0.6), *_steps(3, 1.0, 0.8, 2.0)], side)
    for parts in (3, 2, 1):
        slope = 1.2 * (wanted - side * now.lead) / run
        yield _turned(_legs(rng, run // parts, min(max(slope, rng.uniform(0.25, 0.4)), 0.85)), side)
        run -= run // parts
    yield _turned(_steps(top, -0.65, (0.85, 0.65), (0.7, 0.45)), side)
    yield _turned(_crash(rng, BREAK, side * now.lead), side)


def _legs(rng: np.random.Generator, bars: int, slope: float) -> _Scene:
    """Impulses and shorter corrections on less volume; `slope` is their mean drift."""
    way: list[bool] = []
    while len(way) < bars:
        way += [True] * int(rng.integers(7, 13)) + [False] * int(rng.integers(3, 6))
    with_trend = np.array(way[:bars])
    drift = np.where(with_trend, 1.0, -0.55)
    drift *= slope / max(float(drift.mean()), 0.2)
    return [
        _Step(step, 1.0, 1.15 if on else 0.75) for step, on in zip(drift.tolist(), with_trend.tolist(), strict=True)
    ]


def _crash(rng: np.random.Generator, bars: int, lead: float) -> _Scene:
    """The end of a trend: two waves, a breath between them, a long wick, and a quiet bounce.

    Hardly anybody trades before and between the waves, so that each of them is an edge for a trend follower; the
    second one takes out the stops that the first one has left.
    """
    size = min(max(lead - 3, 11.0), rng.uniform(14.0, 17.0))
    bounce = bars - 4
    return [
        _Step(-0.02 * size, 0.5, 0.35),
        _Step(-0.60 * size, 0.6, 2.2),
        _Step(-0.11 * size, 0.6, 0.45),
        _Step(-0.27 * size, 0.8, 2.2, wick=-rng.uniform(5.0, 9.0)),
        *_steps(bounce, size * rng.uniform(0.1, 0.45) / bounce, (1.2, 1.0), (1.0, 0.6)),
    ]


def _blow_off(rng: np.random.Generator, now: _State, bars: int) -> Iterator[_Scene]:
    """A calm, a move that feeds on itself, a climax with a long wick, and most of it given back."""
    side, calm, fall = _side(rng, now, 0.4, 8.0), 10, 10
    run = bars - calm - fall
    rise = np.geomspace(0.25, rng.uniform(1.3, 1.8), run)
    back = rise.sum() * rng.uniform(0.45, 0.75) * rng.dirichlet(np.geomspace(6.0, 1.0, fall))
    climax, *rest = _steps(fall, -back, (1.25, 1.0), (1.5, 0.7))
    scene = [
        *_steps(calm, 0.0, 0.75, (0.8, 0.6)),
        *_steps(run, rise, (0.85, 1.25), (0.9, 2.0)),
        climax._replace(wick=rng.uniform(6.0, 10.0)),
        *rest,
    ]
    yield _turned(scene, side)


def _side(rng: np.random.Generator, now: _State, faith: float, reach: float) -> int:
    """Up or down: the way the price has gone from its mean, and more likely homewards the farther it is from home."""
    upwards = 0.5 + faith * math.tanh(now.lead / reach) - 0.5 * math.tanh(now.close / HOME)
    return 1 if rng.random() < upwards else -1


def _script(rng: np.random.Generator, now: _State) -> Iterator[_Scene]:
    """The scenes of an act; `now` is the market as the last of them has left it."""
    trend, feint, blow = int(rng.integers(80, 92)), int(rng.integers(24, 34)), int(rng.integers(42, 52))
    long, short = int(rng.integers(22, 28)), int(rng.integers(16, 20))
    yield from _broken_trend(rng, now, trend)
    yield from _feint(rng, now, feint)
    rest = [(_blow_off, blow), (_feint, long), (_lull, short), (_range, ACT - trend - feint - blow - long - short)]
    for place in rng.permutation(len(rest)):
        play, bars = rest[place]
        yield from play(rng, now, bars)


# From scenes to bars


def _acts(symbol: str, seed: int, count: int) -> Iterator[_Act]:
    """The first acts of a market."""
    identity = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:8], "big")
    state = _State()
    for number in range(count):
        act = _act(np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, identity, number]))), state)
        yield act
        state = act.end


def _act(rng: np.random.Generator, start: _State) -> _Act:
    """One act."""
    chances, depth = _chances(rng), np.log(rng.uniform(1e-9, 1.0, (2, ACT)))
    state, rows = replace(start), []
    for scene in _script(rng, state):
        level = (state.mean + state.close) / 2  # half way back to the mean: what is open for long comes to an end
        rows += [_walk(state, step, next(chances), level) for step in scene]
    open_, close, spread, wick, volume = np.array(rows).T
    # The extremes of a Brownian bridge from open to close: how far the noise within the bar has reached.
    up, down = np.sqrt((close - open_) ** 2 - 2 * (WICKS * spread) ** 2 * depth)
    high = np.maximum((open_ + close + up) / 2, np.maximum(open_, close) + wick)
    low = np.minimum((open_ + close - down) / 2, np.minimum(open_, close) + wick)
    return _Act(open=open_, high=high, low=low, close=close, volume=volume, end=state)


def _chances(rng: np.random.Generator) -> Iterator[_Chance]:
    """The chances of an act's bars; one of them opens with a gap."""
    surprise = np.clip(rng.standard_t(5, ACT) * math.sqrt(3 / 5), -4.0, 4.0)
    mood, gap = rng.standard_normal(ACT), np.zeros(ACT)
    gap[rng.integers(ACT)] = rng.choice((-1, 1)) * rng.uniform(1.5, 3.0)
    return (_Chance(*row) for row in zip(surprise.tolist(), mood.tolist(), gap.tolist(), strict=True))


def _walk(state: _State, step: _Step, chance: _Chance, level: float) -> tuple[float, float, float, float, float]:
    """Walk one bar: open, close, noise, wick and volume."""
    spread = step.noise * min(max(math.exp(state.heat), 0.55), 1.6)
    surprise = spread * chance.surprise
    open_ = state.close + chance.gap
    move = step.drift + surprise - RECOIL * state.surprise + step.pull * (level - state.close)
    state.close = open_ + move
    state.mean = MEMORY * state.mean + (1 - MEMORY) * state.close
    state.heat = CLUSTER * state.heat + EXCITED * (abs(chance.surprise) - 0.74)  # what it is on average
    state.mood = 0.85 * state.mood + 0.16 * chance.mood
    state.surprise = surprise
    volume = step.volume * math.exp(state.mood + 0.8 * state.heat) * (0.75 + 0.25 * abs(move))
    return open_, state.close, spread, step.wick, volume


def _tick(symbol: str, price: float) -> Decimal:
    if symbol in KNOWN:
        return KNOWN[symbol].tick_size
    return Decimal(1).scaleb(math.floor(math.log10(price)) - 4)


def _on_grid(prices: FloatArray, tick: Decimal) -> FloatArray:
    """The nearest tick of each price, one tick at least, as the doubles nearest to the decimals."""
    ticks = np.maximum(np.rint(prices / float(tick)), 1.0)
    numerator, denominator = tick.as_integer_ratio()
    return np.asarray(ticks * numerator / denominator, dtype=np.float64)
