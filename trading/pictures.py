"""What a chart shows, as plain data: whoever knows the records composes it, whoever has a painter draws it.

All times are ms UTC of market time, prices and money float64: pictures are for eyes, never for decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

import numpy as np

from trading.errors import BadInput
from trading.model import CandleSeries, FloatArray, IntArray

Theme = Literal["dark", "light"]
MOST: Final = 5_000  # candles, bars or rows of one picture: a phone shows no more
BUCKETS: Final = 900  # about as many as a phone's chart is wide in pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EquityPicture:
    """The account over time with its drawdown below. `time` and `equity` (USDT) have one length, at least 2.

    `facts` are short label-value pairs beside the title: ("Return", "+4.2%"). `zone` names the zone of the axis.
    `hold`: what buying and holding made of the same start at the same times. `folds`: times at which a new stretch
    of a walk-forward begins, in ms. `beside`: another equity from the same start at the same times, to be compared
    with this one; `names` are those of both in the legend.
    """

    title: str
    time: IntArray
    equity: FloatArray
    start: float
    facts: tuple[tuple[str, str], ...] = ()
    zone: str = "UTC"
    hold: FloatArray | None = None
    folds: tuple[int, ...] = ()
    beside: FloatArray | None = None
    names: tuple[str, str] = ("Equity", "Beside")


@dataclass(frozen=True, slots=True, kw_only=True)
class BarsPicture:
    """Results by period as bars, oldest first: profit up, loss down, the running total as a line."""

    title: str
    labels: tuple[str, ...]
    values: tuple[float, ...]
    unit: str = "USDT"
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPicture:
    """Results by name (symbol, exit reason) as horizontal bars, the best first; `notes` stand at each bar's end."""

    title: str
    groups: tuple[tuple[str, tuple[tuple[str, float, str], ...]], ...]  # (heading, ((label, value, note), …))
    unit: str = "USDT"
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Line:
    """An indicator: one value per candle, NaN where it is undefined. `pane` is `price` or the name of one below.

    Lines of one name are one indicator: they share a colour and an entry in the legend, and of two or more of them
    in the price pane the first and the last enclose a shaded band. `stepped`: it jumps from bar to bar.
    """

    name: str
    values: FloatArray
    pane: str = "price"
    dashed: bool = False
    stepped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A price drawn from a time on to the right edge: an entry, a stop, a take profit."""

    name: str
    price: float
    kind: Literal["entry", "stop", "target", "last"]
    since: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at a price: a fill on the way in or out. `won` colours an exit."""

    time: int
    price: float
    kind: Literal["long", "short", "exit"]
    text: str = ""
    won: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandlePicture:
    """Candles with indicators, levels and marks. `guides` are constant lines of a pane below: {"RSI 14": (25, 75)}.

    `volume` gives the traded volume a pane of its own, unless nothing was traded at all.
    """

    title: str
    series: CandleSeries
    lines: tuple[Line, ...] = ()
    levels: tuple[Level, ...] = ()
    marks: tuple[Mark, ...] = ()
    guides: dict[str, tuple[float, ...]] = field(default_factory=dict)
    facts: tuple[tuple[str, str], ...] = ()
    zone: str = "UTC"
    volume: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MonthsPicture:
    """Returns by calendar month: `values` has a row per year and 12 columns, `totals` an entry per year.

    All are fractions, NaN where there is no month.
    """

    title: str
    years: tuple[int, ...]
    values: FloatArray
    totals: FloatArray
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GridPicture:
    """A measure over two parameters: `values[row, column]`, NaN where it is undefined, which is hatched.

    `rows` and `columns` are the parameters' values; a grid of one parameter has one row and an empty `row_name`.
    `best`: row and column of the cell that is marked. `percent`: the measure is a fraction. `note`: a line below.
    """

    title: str
    measure: str
    row_name: str
    column_name: str
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    values: FloatArray
    best: tuple[int, int] | None = None
    percent: bool = False
    note: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPicture:
    """Several pictures on one sheet below each other, under one title; their own titles name them."""

    title: str
    parts: tuple[EquityPicture | MonthsPicture | GridPicture, ...]
    facts: tuple[tuple[str, str], ...] = ()


Picture = EquityPicture | BarsPicture | RankPicture | CandlePicture | MonthsPicture | GridPicture | StackPicture


def drawdown(equity: FloatArray, start: float) -> FloatArray:
    """How far each point lies below the highest so far, as a fraction at most 0; `start` counts as a peak."""
    peak: FloatArray = np.maximum.accumulate(equity)
    np.maximum(peak, start, out=peak)
    nothing = peak <= 0  # of which there is no share
    share = np.divide(equity, peak, out=peak, where=~nothing)
    share -= 1.0
    share[nothing] = 0.0
    return share


def deepest(equity: FloatArray, start: float) -> tuple[int, int]:
    """Rows of the peak and of the trough of the largest drawdown; the peak is -1 where `start` is it."""
    trough = int(np.argmin(drawdown(equity, start)))
    peak = int(np.argmax(equity[: trough + 1]))
    return (peak if equity[peak] > start else -1), trough


def thinned(picture: Picture) -> Picture:
    """The same picture with no more points than can be seen; `BadInput` for one that nobody could read.

    An equity curve keeps the first, lowest and highest point of each bucket and the ends of its largest drawdown, so
    that no extreme is lost. Points that are not finite are left out. 300,000 points take a few milliseconds.
    """
    if isinstance(picture, EquityPicture):
        return _thinned_curve(picture)
    if isinstance(picture, StackPicture):
        return replace(picture, parts=tuple(_thinned_part(part) for part in picture.parts))
    count = _size(picture)
    if not 0 < count <= MOST:
        raise BadInput(f"a picture shows 1 to {MOST:,} rows and this would be {count:,}: choose another period")
    return picture


def _thinned_part(part: EquityPicture | MonthsPicture | GridPicture) -> EquityPicture | MonthsPicture | GridPicture:
    if isinstance(part, EquityPicture):
        return _thinned_curve(part)
    thinned(part)
    return part


def _size(picture: BarsPicture | RankPicture | CandlePicture | MonthsPicture | GridPicture) -> int:
    if isinstance(picture, CandlePicture):
        return len(picture.series)
    if isinstance(picture, MonthsPicture):
        return len(picture.years)
    if isinstance(picture, GridPicture):
        return max(len(picture.rows), len(picture.columns)) if picture.values.size else 0
    if isinstance(picture, BarsPicture):
        return len(picture.values)
    return sum(len(rows) for _, rows in picture.groups)


def _thinned_curve(picture: EquityPicture) -> EquityPicture:
    others = {"hold": picture.hold, "beside": picture.beside}
    known = {name: curve for name, curve in others.items() if curve is not None and np.isfinite(curve).all()}
    curves = {"equity": picture.equity, **known}
    time, finite = picture.time, np.isfinite(picture.equity)
    if not finite.all():
        time, curves = time[finite], {name: curve[finite] for name, curve in curves.items()}
    if len(time) < 2:
        raise BadInput("an equity curve needs at least 2 points: the next ones come with the next closed bars")
    if len(time) > 5 * BUCKETS:
        kept = _extremes(curves["equity"], picture.start)
        for curve in list(curves.values())[1:]:
            kept = np.union1d(kept, _extremes(curve, picture.start))
        time, curves = time[kept], {name: curve[kept] for name, curve in curves.items()}
    return replace(
        picture, time=time, equity=curves["equity"], hold=curves.get("hold"), beside=curves.get("beside")
    )


def _extremes(equity: FloatArray, start: float) -> IntArray:
    size = len(equity) // BUCKETS
    whole = equity[: len(equity) // size * size].reshape(-1, size)
    first = np.arange(len(whole), dtype=np.int64) * size
    rest = np.arange(whole.size, len(equity), dtype=np.int64)
    ends = np.array([*deepest(equity, start), len(equity) - 1], np.int64)
    rows = np.concatenate((first, first + whole.argmin(axis=1), first + whole.argmax(axis=1), rest, ends[ends >= 0]))
    rows.sort()  # numpy's `unique` takes 14 ms when it is first called
    return rows[np.diff(rows, prepend=-1) > 0]


class Painter(Protocol):
    """Draws pictures away from the event loop. `Transient` when it cannot be done now; trading never waits for it.

    `BadInput` says what to choose instead of a picture that nobody could read; `Rejected` means that this very
    picture cannot be drawn at all.
    """

    async def paint(self, picture: Picture, theme: Theme) -> bytes:
        """A PNG for a phone: at most 10 MB, width + height at most 10,000 pixels."""
        ...

    def warm(self) -> None:
        """Get ready in the background, so that the first picture comes as soon as any; harmless at any time."""
        ...
