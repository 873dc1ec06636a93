"""The candle files of the checks, each made so that what must happen in it is certain.

`STILL`    15-minute bars in real time: the market stands inside a flat bar at 50,000, after 2,500 bars of history
`TIDE`     1-minute bars of 0.3 s: five flat at 50,000, one that dips to 49,000, one flat, one that surges to 51,000
`GAP`      1-minute bars of 0.3 s: four flat at 50,000, one that opens at 49,000 and comes back, one flat
`FUNDING`  1-hour bars of 0.15 s, all flat: funding is settled every 1.2 seconds
`CALM`     1-minute bars of 0.5 s, all flat, far from any funding: a clock to watch
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet

Row = tuple[int, float, float, float, float, float]
"""timestamp (bar open, UTC ms), open, high, low, close, volume"""

MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
NEW_YEAR = 1_704_067_200_000  # 2024-01-01 00:00 UTC
COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")

FLAT = (50_000.0, 50_000.0, 50_000.0, 50_000.0)
DIP = (50_000.0, 50_000.0, 49_000.0, 50_000.0)
SURGE = (50_000.0, 51_000.0, 50_000.0, 50_000.0)
GAP_DOWN = (49_000.0, 50_000.0, 48_900.0, 50_000.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """A candle file and how it is played: the first `history` bars lie in the past, the rest is lived through."""

    name: str
    minutes: int
    rows: tuple[Row, ...]
    history: int
    speed: float
    cycle: int = 1

    @property
    def bar(self) -> int:
        """The length of a bar in ms of market time."""
        return self.minutes * MINUTE

    @property
    def begin(self) -> int:
        """When the first bar that is lived through opens."""
        return self.rows[self.history][0]

    def place_in_cycle(self, bar_open: int) -> int:
        """Which bar of the repeated pattern this one is."""
        return (bar_open - self.begin) // self.bar % self.cycle

    def write(self, folder: Path) -> Path:
        """The file as the program takes it: Parquet for the long one, CSV for the others."""
        path = folder / f"BTCUSDT-{self.name}.{'parquet' if self.name == 'still' else 'csv'}"
        if path.suffix == ".parquet":
            columns = {name: [row[i] for row in self.rows] for i, name in enumerate(COLUMNS)}
            pyarrow.parquet.write_table(pyarrow.table(columns), path)
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([COLUMNS, *self.rows])
        return path


def _wave(count: int, *, start: int, bar: int) -> list[Row]:
    """Bars that differ from each other, whole ticks all of them, the last closing at 50,000.

    Their volumes are such that a careless formatter writes an exponent.
    """
    ticks = [500_000 + (i * 37) % 401 - 200 for i in range(count)] + [500_000]
    volumes = (0.00001, 12.5, 12_345_678.25)
    rows: list[Row] = []
    for i in range(count):
        opening, closing = ticks[i], ticks[i + 1]
        high, low = max(opening, closing) + 5, min(opening, closing) - 5
        rows.append((start + i * bar, opening / 10, high / 10, low / 10, closing / 10, volumes[i % 3]))
    return rows


def _repeated(pattern: list[tuple[float, float, float, float]], count: int, *, start: int, bar: int) -> list[Row]:
    """`count` bars of the pattern, over and over."""
    return [(start + i * bar, *pattern[i % len(pattern)], 10.0) for i in range(count)]


def _market(
    name: str,
    *,
    minutes: int,
    begin: int,
    history: int,
    pattern: list[tuple[float, float, float, float]],
    count: int,
    seconds: float,
    waving: bool = False,
) -> Market:
    """A market whose bars last `seconds` of the wall, beginning at `begin` after its history."""
    bar = minutes * MINUTE
    start = begin - history * bar
    past = _wave(history, start=start, bar=bar) if waving else _repeated([FLAT], history, start=start, bar=bar)
    lived = _repeated(pattern, count, start=begin, bar=bar)
    return Market(
        name=name,
        minutes=minutes,
        rows=(*past, *lived),
        history=history,
        speed=minutes * 60 / seconds,
        cycle=len(pattern),
    )


# 2024-02-01 00:15, just after a settlement: in real time the next one is out of reach. So for the next two.
STILL = _market(
    "still", minutes=15, begin=NEW_YEAR + 31 * DAY + 15 * MINUTE, history=2500, pattern=[FLAT], count=40, seconds=900,
    waving=True,
)  # fmt: skip
TIDE = _market(
    "tide", minutes=1, begin=NEW_YEAR + DAY + MINUTE, history=64, pattern=[FLAT] * 5 + [DIP, FLAT, SURGE], count=4000,
    seconds=0.3,
)  # fmt: skip
GAP = _market(
    "gap", minutes=1, begin=NEW_YEAR + DAY + MINUTE, history=64, pattern=[FLAT] * 4 + [GAP_DOWN, FLAT], count=4000,
    seconds=0.3,
)  # fmt: skip
FUNDING = _market(
    "funding", minutes=60, begin=NEW_YEAR + 2 * DAY + HOUR, history=48, pattern=[FLAT], count=6000, seconds=0.15
)
CALM = _market("calm", minutes=1, begin=NEW_YEAR + DAY + MINUTE, history=64, pattern=[FLAT], count=4000, seconds=0.5)
