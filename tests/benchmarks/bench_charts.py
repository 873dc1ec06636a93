"""What a chart costs: the drawing process's start, one picture of each kind, and what the bot's loop feels of it.

Pictures are asked for as the bot asks for them, one after the other, of the drawing process; the lag is how much
later than asked a sleep of one millisecond returns in the asking loop, all that time. The lag while nothing is
drawn says how busy the machine is with other things.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np

from research.studio import Studio
from tests.benchmarks import Figure, benchmark
from trading import indicators
from trading.model import CandleSeries, FloatArray
from trading.pictures import BarsPicture, CandlePicture, EquityPicture, Level, Line, Mark, Picture, RankPicture, thinned

NEW_YEAR = 1_735_689_600_000
FACTS = (("Return", "+4.20%"), ("Max drawdown", "-7.90%"), ("Sharpe", "0.64"), ("Trades", "71"))
EACH = 20
STARTS = 5
IDLE = 3.0


def walk(count: int, sigma: float, start: float) -> FloatArray:
    return start * np.exp(np.cumsum(np.random.default_rng(11).normal(0, sigma, count)))


def equity(points: int) -> EquityPicture:
    minutes = NEW_YEAR + np.arange(points, dtype=np.int64) * 60_000
    curve = walk(points, 0.0005, 10_000)
    return EquityPicture(title="PAPER equity", time=minutes, equity=curve, start=10_000.0, facts=FACTS)


def candles(shown: int) -> CandlePicture:
    """Candles with EMA, Bollinger Bands and RSI, volume, three levels and twenty marks."""
    close = walk(2 * shown, 0.006, 60_000)
    opened = np.concatenate((close[:1], close[:-1]))
    series = CandleSeries(
        symbol="BTCUSDT",
        interval=timedelta(hours=4),
        timestamp=NEW_YEAR + np.arange(2 * shown, dtype=np.int64) * 14_400_000,
        open=opened,
        high=np.maximum(opened, close) * 1.004,
        low=np.minimum(opened, close) * 0.996,
        close=close,
        volume=np.random.default_rng(12).lognormal(3, 1, 2 * shown),
    )
    bands = [Line(name="Bollinger 20, 2", values=band[-shown:]) for band in indicators.bollinger(close, 20, 2.0)]
    rows = range(shown + 5, 2 * shown, max(shown // 20, 1))
    return CandlePicture(
        title="BTC 4h",
        series=series.tail(shown),
        lines=(
            Line(name="EMA 200", values=indicators.ema(close, 200)[-shown:]),
            *bands,
            Line(name="RSI 14", values=indicators.rsi(close, 14)[-shown:], pane="RSI 14"),
        ),
        guides={"RSI 14": (25.0, 75.0)},
        levels=(
            Level(name="Entry", price=float(close[-1]), kind="entry"),
            Level(name="Stop", price=float(close[-1]) * 0.97, kind="stop"),
            Level(name="Target", price=float(close[-1]) * 1.03, kind="target"),
        ),
        marks=tuple(
            Mark(time=int(series.timestamp[row]), price=float(close[row]), kind="exit", text="+1.9R", won=row % 2 == 0)
            for row in rows
        ),
        facts=FACTS,
    )


def pictures() -> dict[str, Picture]:
    """One of each kind, the heavy ones at the size that must not hurt."""
    days = np.random.default_rng(13).normal(8, 40, 90)
    rows = tuple((f"SYMBOL{at}USDT", 100.0 - 15 * at, "12 trades, 58% won") for at in range(12))
    labels = tuple(f"{day % 30 + 1} Jul" for day in range(90))
    return {
        "equity of 100,000": equity(100_000),
        "300 candles": candles(300),
        "90 bars": BarsPicture(title="PAPER daily", labels=labels, values=tuple(days.tolist()), facts=FACTS),
        "rank of 12": RankPicture(title="PAPER by symbol", groups=(("Symbol", rows),)),
    }


@contextmanager
def metered() -> Iterator[list[float]]:
    """Milliseconds by which the loop was late, as they come."""
    lags: list[float] = []

    async def meter() -> None:
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(0.001)
            lags.append((time.perf_counter() - asked - 0.001) * 1000)

    task = asyncio.get_running_loop().create_task(meter())
    try:
        yield lags
    finally:
        task.cancel()


def lag(name: str, lags: list[float]) -> Iterator[Figure]:
    note = f"{len(lags):,} looks, worst {max(lags):.1f} ms"
    yield Figure(name=f"lag while {name}, p99", value=statistics.quantiles(lags, n=100)[-1], unit="ms", note=note)


@benchmark
def painting() -> Iterable[Figure]:
    """Each kind with the process warm, and the loop's lag while it draws."""
    return asyncio.run(_painting())


async def _painting() -> list[Figure]:
    studio = Studio()
    with metered() as lags:  # what the machine itself does to the loop just now
        await asyncio.sleep(IDLE)
    figures = list(lag("nothing is drawn", lags))
    for name, picture in pictures().items():
        await studio.paint(picture, "dark")
        taken, content = [], b""
        with metered() as lags:
            for _ in range(EACH):
                started = time.perf_counter()
                content = await studio.paint(picture, "dark")
                taken.append((time.perf_counter() - started) * 1000)
        note = f"worst of {EACH}: {max(taken):.0f} ms, file {len(content) // 1024} kB"
        figures.append(Figure(name=f"chart, {name}", value=statistics.median(taken), unit="ms", note=note))
        figures += lag(f"drawing {name}", lags)
    figures.append(Figure(name="memory of the drawing process", value=_resident(studio.pid), unit="MB"))
    await studio.close()
    return figures


def _resident(pid: int | None) -> float:
    """Megabytes in memory; Linux says so."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@benchmark
def starting() -> Iterable[Figure]:
    """From nothing to the first picture: what somebody waits who asks before the process was warmed."""
    return asyncio.run(_starting())


async def _starting() -> list[Figure]:
    taken = []
    bars = pictures()["90 bars"]
    with metered() as lags:
        for _ in range(STARTS):
            studio = Studio()
            started = time.perf_counter()
            await studio.paint(bars, "dark")
            taken.append((time.perf_counter() - started) * 1000)
            await studio.close()
    note = f"worst of {STARTS}: {max(taken):.0f} ms, its first picture included"
    first = Figure(name="chart, first after the start", value=statistics.median(taken), unit="ms", note=note)
    return [first, *lag("starting", lags)]


@benchmark
def thinning() -> Iterable[Figure]:
    """How long the bot's loop is held by a curve of 300,000 points."""
    picture, taken = equity(300_000), []
    for _ in range(EACH):
        started = time.perf_counter()
        thinned(picture)
        taken.append((time.perf_counter() - started) * 1000)
    note = f"worst of {EACH}: {max(taken):.1f} ms"
    yield Figure(name="thinning 300,000 points", value=statistics.median(taken), unit="ms", note=note)
