"""Tables in colours: returns by month, and a measure over two parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from research.charts.sheet import EDGE, GAP, NAME, WIDTH, Palette, Sheet, heading_height
from research.charts.words import SMALL, amount, fitted, width
from trading.model import FloatArray
from trading.pictures import GridPicture, MonthsPicture

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_ROW: Final = 40
_ABOVE: Final = GAP + NAME  # the name of a part, above it
_YEAR: Final = 78  # width of the years' column
_TOTAL: Final = 112
_STRONG: Final = 0.5  # how much of its colour the strongest month has: its number must stay readable
_PANE: Final = 620  # height of a grid that stands alone
_BELOW: Final = 128  # labels, name and colours below a grid
_LEAST_CELL: Final = 34.0  # pixels of a cell that has room for its number
_RING: Final = 26.0  # the mark of the best cell is at least so large


def blend(palette: Palette, colour: str, share: float) -> FloatArray:
    """Some of a colour over the background, as red, green and blue."""
    back, full = (np.asarray(to_rgb(each)) for each in (palette.back, colour))
    return np.asarray(back + (full - back) * share, np.float64)


# Months


def months_figure(picture: MonthsPicture, palette: Palette) -> Figure:
    """A row per year."""
    top = heading_height(picture.title, picture.facts)
    sheet = Sheet(palette, top + months_height(picture) + EDGE)
    sheet.heading(picture.title, picture.facts)
    months_on(sheet, picture, top, named=False)
    return sheet.figure


def months_height(picture: MonthsPicture, most: int | None = None) -> float:
    """Pixels that it takes, of the last `most` years at most."""
    return _ABOVE + (min(len(picture.years), most or len(picture.years)) + 1) * _ROW


def months_on(sheet: Sheet, picture: MonthsPicture, top: float, *, most: int | None = None, named: bool = True) -> None:
    """The table from `top` on; its name above it says so when it shows the last `most` years only."""
    years = picture.years[-most:] if most else picture.years
    if named:
        left_out = f", last {len(years)} of {len(picture.years)} years" if len(years) < len(picture.years) else ""
        sheet.write(EDGE, top + GAP, fitted(picture.title + left_out, WIDTH - 2 * EDGE), sheet.palette.muted)
    slot = (WIDTH - 2 * EDGE - _YEAR - _TOTAL) / 12
    y = top + _ABOVE + _ROW / 2
    for month, name in enumerate(_MONTHS):
        sheet.write(EDGE + _YEAR + (month + 0.5) * slot, y, name, sheet.palette.muted, ha="center")
    sheet.write(WIDTH - EDGE - _TOTAL / 2, y, "Year", sheet.palette.muted, ha="center")
    first = len(picture.years) - len(years)
    size, total_size = (_typical(each[first:]) for each in (picture.values, picture.totals))
    for row, year in enumerate(years, first):
        y += _ROW
        sheet.write(EDGE, y, str(year), sheet.palette.ink)
        for month, value in enumerate(picture.values[row].tolist()):
            _cell(sheet, EDGE + _YEAR + month * slot, y, slot, value, size)
        _cell(sheet, WIDTH - EDGE - _TOTAL, y, _TOTAL, float(picture.totals[row]), total_size, bold=True)


def _typical(values: FloatArray) -> float:
    """A size at which a value has its full colour: most are smaller."""
    known = np.abs(values[np.isfinite(values)])
    return max(float(np.percentile(known, 90)), 1e-4) if len(known) else 1.0


def _cell(sheet: Sheet, left: float, y: float, wide: float, value: float, size: float, *, bold: bool = False) -> None:
    """A value in a box of its colour; nothing where there is none."""
    if not math.isfinite(value):
        return
    palette = sheet.palette
    colour = palette.up if value > 0 else palette.down
    strength = min(abs(value) / size, 1.0) * _STRONG
    spare = 14 if bold else 2  # the year stands apart
    shape = Rectangle(
        (left + spare, sheet.height - y - _ROW / 2 + 2), wide - spare - 2, _ROW - 4, fc=blend(palette, colour, strength)
    )
    sheet.add(shape)
    text = next((each for each in _written(value) if width(each, 22, bold=bold) <= wide - spare - 4), "")
    sheet.write(left + (wide + spare) / 2, y, text, palette.ink, size=22, bold=bold, ha="center")


def _written(value: float) -> list[str]:
    """A return in per cent, ever shorter; the sign is always there."""
    share = value * 100
    if abs(share) < 0.05:
        return ["0.0", "0"]
    texts = [f"{share:+,.1f}", f"{share:+,.0f}"] if abs(share) < 99.95 else [f"{share:+,.0f}"]
    for divisor, suffix in ((1e3, "k"), (1e6, "M"), (1e9, "B")):
        if abs(share) >= divisor:
            texts.append(f"{share / divisor:+.0f}{suffix}")
    return [*texts, f"{share:+.0e}".replace("e+", "e")]


# Grids


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tones:
    """From a value to its colour; beyond `low` and `high` there is no more of it."""

    palette: Palette
    low: float
    high: float

    def __call__(self, values: FloatArray) -> FloatArray:
        """Red, green and blue for each value; whatever is undefined has none that means anything."""
        share = self.shares(values)[..., None]
        back, up, down = (np.asarray(to_rgb(each)) for each in (self.palette.back, self.palette.up, self.palette.down))
        full = np.where(share >= 0, up, down)
        return np.asarray(back + (full - back) * np.abs(share), np.float64)

    def shares(self, values: FloatArray) -> FloatArray:
        """How much of its colour a value has: above 0 of gain, below 0 of loss."""
        low, high = self.low, self.high
        known = np.clip(np.nan_to_num(values), low, high)
        if low >= 0:
            return np.asarray(0.06 + 0.94 * (known - low) / ((high - low) or 1.0), np.float64)
        if high <= 0:
            return np.asarray(-0.06 - 0.94 * (high - known) / ((high - low) or 1.0), np.float64)
        return np.asarray(known / max(high, -low), np.float64)  # a small loss beside a large gain looks small

    def ink(self, share: float) -> str:
        """What can be read on a colour."""
        return self.palette.on if abs(share) > 0.6 else self.palette.ink


def grid_figure(picture: GridPicture, palette: Palette) -> Figure:
    """Cells in colours, the best one marked."""
    top = heading_height(picture.title, picture.facts)
    high = _PANE if len(picture.rows) > 1 else 160
    sheet = Sheet(palette, top + grid_height(picture, high) + EDGE)
    sheet.heading(picture.title, picture.facts)
    grid_on(sheet, picture, top, high)
    return sheet.figure


def grid_height(picture: GridPicture, pane: float) -> float:
    """Pixels of a grid whose cells take `pane` of them."""
    return _ABOVE + pane + _BELOW + (34 if picture.note else 0)


def grid_on(sheet: Sheet, picture: GridPicture, top: float, high: float) -> None:
    """The grid from `top` on, its cells `high` pixels in all."""
    palette, values = sheet.palette, picture.values
    tones = _tones(values, palette)
    texts = [amount(value, 6) for value in picture.rows] if picture.row_name else []
    left = EDGE + (max(width(fitted(text, 150)) for text in texts) + 14 if texts else 0.0)
    begin = top + _ABOVE
    box = (left / WIDTH, 1 - (begin + high) / sheet.height, (WIDTH - EDGE - left) / WIDTH, high / sheet.height)
    axes = sheet.figure.add_axes(box, facecolor="none")
    rows, columns = values.shape
    axes.set(xlim=(-0.5, columns - 0.5), ylim=(-0.5, rows - 0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    _cells(axes, values, tones)
    place = _Places(left=left, top=begin, wide=(WIDTH - EDGE - left) / columns, tall=high / rows, rows=rows)
    _numbers(sheet, picture, place, tones)
    _best(sheet, picture, place)
    _row_labels(sheet, [fitted(text, 150) for text in texts], place)
    _column_labels(sheet, picture, place, begin + high)
    what = f"{picture.measure} by {picture.row_name} (up)" if picture.row_name else picture.measure
    sheet.write(EDGE, top + GAP, fitted(what, WIDTH - 2 * EDGE), palette.muted)
    _key(sheet, picture, tones, begin + high + 104)
    if picture.note:
        sheet.write(EDGE, begin + high + 146, fitted(picture.note, WIDTH - 2 * EDGE), palette.muted)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Where the cells lie on the sheet, in pixels; row 0 is the lowest."""

    left: float
    top: float
    wide: float
    tall: float
    rows: int

    def x(self, column: float) -> float:
        """The middle of a column."""
        return self.left + (column + 0.5) * self.wide

    def y(self, row: float) -> float:
        """The middle of a row."""
        return self.top + (self.rows - row - 0.5) * self.tall


def _tones(values: FloatArray, palette: Palette) -> _Tones:
    """Colours over the values; of many cells the outermost hundredth does not take them all."""
    known = values[np.isfinite(values)]
    if not len(known):
        return _Tones(palette=palette, low=0.0, high=1.0)
    low, high = np.percentile(known, (1, 99) if len(known) >= 100 else (0, 100)).tolist()
    return _Tones(palette=palette, low=float(low), high=float(high))


def _cells(axes: Axes, values: FloatArray, tones: _Tones) -> None:
    """The cells as one image; what is undefined lets the hatching behind it be seen."""
    rows, columns = values.shape
    known = np.isfinite(values)
    if not known.all():
        muted, grid = tones.palette.muted, tones.palette.grid
        axes.add_patch(Rectangle((-0.5, -0.5), columns, rows, fc=grid, ec=muted, hatch="//", lw=0, zorder=0))
    colours = np.concatenate((tones(values), known[..., None].astype(np.float64)), axis=2)
    extent = (-0.5, columns - 0.5, -0.5, rows - 0.5)
    axes.imshow(colours, origin="lower", aspect="auto", interpolation="nearest", extent=extent, zorder=1)


def _formatted(values: FloatArray, percent: bool) -> Callable[[float], str]:
    """One way to write all values: as many decimals as tell them apart, three digits or so."""
    known = np.abs(values[np.isfinite(values)]) * (100 if percent else 1)
    largest = float(known.max(initial=0.0))
    places = 0 if largest >= 100 else 1 if largest >= 10 else 2
    return lambda value: f"{value * (100 if percent else 1):,.{places}f}{'%' if percent else ''}"


def _numbers(sheet: Sheet, picture: GridPicture, place: _Places, tones: _Tones) -> None:
    """Each cell's value, where all of them have room."""
    written = _formatted(picture.values, picture.percent)
    known = np.argwhere(np.isfinite(picture.values)).tolist()
    if place.tall < _LEAST_CELL or place.wide < 2 * SMALL or len(known) > 400:
        return
    texts = [written(float(picture.values[row, column])) for row, column in known]
    if not texts or max(width(text) for text in texts) + 10 > place.wide:
        return
    shares = tones.shares(picture.values)
    for (row, column), text in zip(known, texts, strict=True):
        colour = tones.ink(float(shares[row, column]))
        bold = (row, column) == picture.best
        sheet.write(place.x(column), place.y(row), text, colour, bold=bold, ha="center")


def _best(sheet: Sheet, picture: GridPicture, place: _Places) -> None:
    """A frame around the best cell, larger than the cell where that is small."""
    if picture.best is None:
        return
    row, column = picture.best
    wide, tall = max(place.wide, _RING), max(place.tall, _RING)
    corner = (place.x(column) - wide / 2, sheet.height - place.y(row) - tall / 2)
    for colour, thick in ((sheet.palette.back, 9.0), (sheet.palette.ink, 4.5)):
        sheet.add(Rectangle(corner, wide, tall, fc="none", ec=colour, lw=thick, zorder=3))


def _row_labels(sheet: Sheet, texts: Sequence[str], place: _Places) -> None:
    every = math.ceil((SMALL + 10) / place.tall)
    for row in range(0, len(texts), every):
        y = max(place.y(row), place.top + SMALL / 2 + 2)  # what the grid shows stands right above it
        sheet.write(place.left - 12, y, texts[row], sheet.palette.muted, ha="right")


def _column_labels(sheet: Sheet, picture: GridPicture, place: _Places, bottom: float) -> None:
    """Values under the cells, as many as have room, and the parameter's name."""
    texts = [fitted(amount(value, 6), 150) for value in picture.columns]
    every = math.ceil((max(width(text) for text in texts) + 20) / place.wide)
    for column in range(0, len(texts), every):
        half = width(texts[column]) / 2
        x = min(max(place.x(column), half + 8), WIDTH - 8 - half)
        sheet.write(x, bottom + 26, texts[column], sheet.palette.muted, ha="center")
    name = fitted(picture.column_name, WIDTH - 2 * EDGE)
    sheet.write(place.left + (WIDTH - EDGE - place.left) / 2, bottom + 62, name, sheet.palette.ink, ha="center")


def _key(sheet: Sheet, picture: GridPicture, tones: _Tones, y: float) -> None:
    """What the colours mean: a strip from the lowest to the highest, and the hatching."""
    palette, written = sheet.palette, _formatted(picture.values, picture.percent)
    known = picture.values[np.isfinite(picture.values)]
    x = float(EDGE)
    if len(known):
        low = ("≤ " if float(known.min()) < tones.low else "") + written(tones.low)
        high = ("≥ " if float(known.max()) > tones.high else "") + written(tones.high)
        sheet.write(x, y, low, palette.muted)
        x += width(low) + 14
        _strip(sheet, tones, x, y)
        x += 300 + 14
        sheet.write(x, y, high, palette.muted)
        x += width(high) + 50
    if len(known) < picture.values.size:
        corner = (x, sheet.height - y - 13)
        sheet.add(Rectangle(corner, 44, 26, fc=palette.grid, ec=palette.muted, hatch="//", lw=1))
        sheet.write(x + 58, y, "undefined", palette.muted)
        x += 58 + width("undefined") + 50
    if picture.best is not None and x + 58 + width("best") < WIDTH - EDGE:
        sheet.add(Rectangle((x, sheet.height - y - 13), 44, 26, fc="none", ec=palette.ink, lw=4.5))
        sheet.write(x + 58, y, "best", palette.muted)


def _strip(sheet: Sheet, tones: _Tones, x: float, y: float) -> None:
    axes = sheet.figure.add_axes((x / WIDTH, 1 - (y + 13) / sheet.height, 300 / WIDTH, 26 / sheet.height))
    axes.imshow(tones(np.linspace(tones.low, tones.high, 100)[None, :]), aspect="auto")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
