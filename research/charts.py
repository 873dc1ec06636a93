"""Charts for a phone: a picture of `trading.pictures` drawn to a PNG, 1080 pixels wide, in a dark or a light theme.

One point of matplotlib is one pixel here. A phone shows the file at about 390 of its own pixels, so that nothing is
written smaller than 24; the file is at most 1280 high wherever the data allow it, which Telegram passes on unscaled.
Layout is computed from the top down with the measured width of every text: what does not fit is shortened or left
out, never laid over something else. Gain and loss are a light teal and a dark orange, which differ in lightness and
in blue for every kind of colour blindness, and every sign is written out as well. matplotlib's own font is used, so
that a chart is the same on every machine; what the font cannot write is left out or shown as an empty box.
Only the drawing process imports this module.
"""

from __future__ import annotations

import functools
import io
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib import get_data_path
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import IdentityTransform

from trading.errors import BadInput
from trading.model import BoolArray, FloatArray, IntArray, utc
from trading.pictures import (
    BarsPicture,
    CandlePicture,
    EquityPicture,
    Level,
    Line,
    Mark,
    Picture,
    RankPicture,
    Theme,
    deepest,
    drawdown,
    thinned,
)

WIDTH: Final = 1080
EDGE: Final = 44  # free on every side
GAP: Final = 28  # between panes
SMALL, VALUE, TITLE = 24, 32, 40  # sizes of letters
_FONTS: Final = Path(get_data_path()) / "fonts" / "ttf"
_TITLES: Final = (TITLE, TITLE - 4, TITLE - 7)
_LONGEST: Final = 300  # characters of a text that are looked at at all
_SLOTS: Final = 30  # a chart of fewer candles leaves the rest empty: one candle is no wall
_MOST_LINES: Final = 14  # rows of one group that are named; the rest is summed up
_FAR: Final = 1.5  # levels and lines may widen the candles' range by this much on each side


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours of a theme."""

    back: str
    ink: str
    muted: str
    grid: str
    up: str
    down: str
    entry: str
    on: str  # text on a coloured tag
    lines: tuple[str, ...]


PALETTES: Final[dict[Theme, Palette]] = {
    "dark": Palette(
        back="#10151d",
        ink="#eef2f6",
        muted="#9aa7b5",
        grid="#232c38",
        up="#3ddbc0",
        down="#f0643c",
        entry="#6ea8ff",
        on="#0b0f14",
        lines=("#f2c14e", "#8fa3bf", "#c792ea", "#6ea8ff", "#e58fb1", "#b5c26a"),
    ),
    "light": Palette(
        back="#ffffff",
        ink="#131a22",
        muted="#5c6a79",
        grid="#e4e9ee",
        up="#00887f",
        down="#c8380f",
        entry="#2563c9",
        on="#ffffff",
        lines=("#b07d00", "#6b7f99", "#8440b0", "#2563c9", "#b3427a", "#66751c"),
    ),
}


def draw(picture: Picture, theme: Theme) -> bytes:
    """The picture as a PNG of at most 10 MB; `BadInput` when it holds nothing that could be shown."""
    content = io.BytesIO()
    canvas = FigureCanvasAgg(figure(picture, theme))
    canvas.print_png(content, pil_kwargs={"compress_level": 4})  # type: ignore[no-untyped-call]
    return content.getvalue()


def figure(picture: Picture, theme: Theme) -> Figure:
    """The same as a matplotlib figure, whose pixels are its points."""
    picture, palette = thinned(picture), PALETTES[theme]
    if isinstance(picture, EquityPicture):
        return _equity(picture, palette)
    if isinstance(picture, BarsPicture):
        return _bars(picture, palette)
    if isinstance(picture, RankPicture):
        return _rank(picture, palette)
    return _candles(picture, palette)


# ---------------------------------------------------------------------------------------------------------- letters


@functools.cache
def _font(bold: bool, size: float) -> FontProperties:
    return FontProperties(fname=_FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size=size)


@functools.cache
def _drawable() -> frozenset[int]:
    """The characters that the font can write, in both weights."""
    regular, bold = (set(get_font(_FONTS / name).get_charmap()) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"))
    return frozenset(regular & bold)


def readable(text: str) -> str:
    """What the font can write of a text, on one line: unknown letters become a box, emoji and marks go."""
    known = _drawable()
    kept = []
    for character in unicodedata.normalize("NFC", text[:_LONGEST]):
        category = unicodedata.category(character)
        if category[0] in "ZC":
            kept.append(" " if category in {"Zs", "Zl", "Zp", "Cc"} else "")
        elif ord(character) in known:
            kept.append(character)
        else:
            kept.append("□" if category[0] in "LN" else "")
    return " ".join("".join(kept).split())


@functools.cache
def _ruler() -> RendererAgg:
    return RendererAgg(8, 8, 72)  # type: ignore[no-untyped-call]


@functools.lru_cache(maxsize=4096)
def width(text: str, size: float = SMALL, *, bold: bool = False) -> float:
    """How wide a text is, in pixels."""
    measured: float = _ruler().get_text_width_height_descent(text, _font(bold, size), False)[0]  # type: ignore[no-untyped-call]
    return measured


def fitted(text: str, room: float, size: float = SMALL, *, bold: bool = False) -> str:
    """The text, shortened with an ellipsis where it is wider than `room` pixels."""
    text = readable(text)
    if width(text, size, bold=bold) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = width(text[:middle].rstrip() + "…", size, bold=bold) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + "…"


def wrapped(text: str, room: float, size: float, *, lines: int) -> list[str]:
    """The text in bold on at most so many lines, broken at blanks, the last one shortened."""
    words, found = readable(text).split(), [""]
    for at, word in enumerate(words):
        longer = f"{found[-1]} {word}".strip()
        if width(longer, size, bold=True) <= room or not found[-1]:
            found[-1] = longer
        elif len(found) == lines:
            found[-1] = " ".join([found[-1], *words[at:]])
            break
        else:
            found.append(word)
    return [fitted(line, room, size, bold=True) for line in found if line]


def headline(title: str) -> tuple[float, list[str]]:
    """Size and lines of a title: one line where it fits, else two of about one length, the second shortened."""
    text, room = readable(title), float(WIDTH - 2 * EDGE)
    for size in _TITLES:
        if width(text, size, bold=True) <= room:
            return size, [text]
    for size in _TITLES[1:]:
        for share in (0.6, 0.7, 0.8, 0.9, 1.0):
            lines = wrapped(text, room * share, size, lines=2)
            if " ".join(lines) == text:
                return size, lines
    return _TITLES[-1], wrapped(text, room, _TITLES[-1], lines=2)


# ---------------------------------------------------------------------------------------------------------- numbers


def amount(value: float, digits: int = 8) -> str:
    """A price or amount with the digits that count, thousands separated: 62,650.5 · 0.0000123 · 3.2e+18."""
    if not math.isfinite(value):
        return "–"
    if value and not 1e-10 <= abs(value) < 1e15:
        return f"{value:.4g}"
    exact = Decimal(f"{value:.{digits}g}")
    text = f"{exact:,f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) if exact else "0"


def money(value: float, *, sign: bool = False) -> str:
    """An amount of money in few characters: 10,312.40 · 1,204,331 · 12.35M."""
    plus = "+" if sign and value > 0 else ""
    for least, divisor, suffix in ((1e15, 0.0, ""), (1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e7, 1e6, "M")):
        if abs(value) >= least:
            return plus + (f"{value / divisor:,.2f}{suffix}" if divisor else f"{value:.3g}")
    if 0 < abs(value) < 0.01:
        return plus + amount(value, 2)
    return plus + f"{value:,.{0 if abs(value) >= 100_000 else 2}f}"


def ticks(low: float, high: float, most: int = 5) -> FloatArray:
    """A few round numbers between two bounds."""
    found = np.asarray(MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high), np.float64)
    return found[(found >= low) & (found <= high)]


def labels(values: FloatArray, unit: str = "") -> list[str]:
    """Round numbers as they stand on an axis, all with the same number of decimals."""
    largest = float(np.abs(values).max(initial=0.0))
    step = float(np.diff(values).min()) if len(values) > 1 else largest
    for divisor, suffix, most in ((1.0, "", 10), (1e6, "M", 3), (1e9, "B", 3), (1e12, "T", 3)):
        places = _places(step / divisor)
        if step > 1e-10 and largest / divisor < 1e7 and places <= most:
            written = [f"{value / divisor + 0.0:,.{places}f}{suffix}" for value in values.tolist()]
            return [text.removesuffix(suffix if text == f"0{suffix}" else "") + unit for text in written]
    if step >= 1 and largest < 1e15:
        return [f"{value:,.0f}{unit}" for value in values.tolist()]
    digits = max(math.ceil(math.log10(largest / step)) + 2, 3) if 0 < step < largest else 3
    return [f"{value + 0.0:.{digits}g}{unit}" for value in values.tolist()]


def _places(step: float) -> int:
    """Decimals that a step needs; a step of no size needs none."""
    if step <= 0:
        return 0
    places = max(-math.floor(math.log10(step)), 0)
    scaled = step * 10.0**places
    return places if abs(scaled - round(scaled)) < 0.01 else places + 1


# ---------------------------------------------------------------------------------------------------------- times


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadInput(f"{name!r} is no time zone: name one such as Europe/Berlin") from None


def moments(first: int, last: int, zone: ZoneInfo, most: int = 7) -> tuple[FloatArray, list[str]]:
    """Round times in ms UTC between two, with short labels: 14:00, 3 Mar, Mar, 2026."""
    if last - first < 5_000:
        return np.array([float(first)]), [f"{utc(first).astimezone(zone):%H:%M:%S}"]
    locator = AutoDateLocator(tz=zone, minticks=2, maxticks=most)  # type: ignore[no-untyped-call]
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        tz=zone,
        formats=["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"],
        zero_formats=["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
        show_offset=False,
    )
    days = locator.tick_values(utc(first).astimezone(zone), utc(last).astimezone(zone))  # type: ignore[no-untyped-call]
    times = np.rint(np.asarray(days, np.float64) * 86_400_000.0)
    within = (times >= first) & (times <= last)
    words = formatter.format_ticks(np.asarray(days)[within])  # type: ignore[no-untyped-call]
    return times[within], [word.removeprefix("0") if " " in word else word for word in words]


def period(first: int, last: int, zone: ZoneInfo) -> str:
    """From when to when, as a line for people: 3 Mar 08:00 – 21 Jul 2026 14:00 · Europe/Berlin."""
    start, end = utc(first).astimezone(zone), utc(last).astimezone(zone)
    year = "" if start.year == end.year else f" {start.year}"
    return f"{_day(start)}{year} {start:%H:%M} – {_day(end)} {end.year} {end:%H:%M} · {zone.key}"


def _day(at: datetime) -> str:
    return f"{at.day} {at:%b}"


# ---------------------------------------------------------------------------------------------------------- the sheet


@dataclass(slots=True)
class _Sheet:
    """A figure whose places are pixels from its top left corner."""

    palette: Palette
    height: float
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.height = math.ceil(self.height)
        self.figure = Figure(figsize=(WIDTH / 72, self.height / 72), dpi=72, facecolor=self.palette.back)

    def write(
        self,
        x: float,
        y: float,
        text: str,
        colour: str,
        *,
        size: float = SMALL,
        bold: bool = False,
        ha: Literal["left", "center", "right"] = "left",
        va: Literal["center", "baseline", "center_baseline"] = "center_baseline",
    ) -> None:
        """One line of text."""
        self.figure.text(
            x,
            self.height - y,
            text,
            transform=IdentityTransform(),
            color=colour,
            fontproperties=_font(bold, size),
            ha=ha,
            va=va,
            parse_math=False,
        )

    def box(self, x: float, y: float, wide: float, high: float, colour: str, *, alpha: float = 1.0) -> None:
        """A filled box with round corners; `y` is its middle."""
        corner = (x, self.height - y - high / 2)
        style = "round,pad=0,rounding_size=6"
        shape = FancyBboxPatch(corner, wide, high, boxstyle=style, fc=colour, ec="none", alpha=alpha, zorder=1)
        self.add(shape)

    def stroke(self, x: Sequence[float], y: Sequence[float], colour: str, *, wide: float) -> None:
        """A line through places of the sheet."""
        self.add(Line2D(x, [self.height - each for each in y], color=colour, lw=wide, zorder=1))

    def add(self, artist: FancyBboxPatch | Line2D) -> None:
        """A shape in pixels, counted from the bottom as matplotlib does."""
        artist.set_transform(IdentityTransform())
        self.figure.add_artist(artist)

    def heading(self, title: str, facts: Sequence[tuple[str, str]]) -> None:
        """The title and below it a row of facts, as `heading_height` reckons."""
        y = float(EDGE)
        size, lines = headline(title)
        for line in lines:
            self.write(EDGE, y + TITLE / 2, line, self.palette.ink, size=size, bold=True)
            y += _TITLE_ROW
        y += _AIR
        for row in _fact_rows(facts):
            for (label, value), cell in zip(row, _cells(len(row)), strict=True):
                self._fact(cell, y, label, value)
            y += _FACT_ROW

    def _fact(self, cell: tuple[float, float], y: float, label: str, value: str) -> None:
        x, room = cell
        size = float(VALUE)
        while size > SMALL and width(readable(value), size, bold=True) > room:
            size -= 2
        self.write(x, y + 13, fitted(label, room), self.palette.muted)
        value = fitted(value, room, size, bold=True)
        self.write(x, y + 52, value, self.signed(value), size=size, bold=True)

    def signed(self, value: str) -> str:
        """The colour of a value as it is written: that of its sign, if it has one."""
        if value[:1] in {"+", "-", "−"} and any("1" <= character <= "9" for character in value):
            return self.palette.up if value[0] == "+" else self.palette.down
        return self.palette.ink

    def pane(
        self, top: float, high: float, right: float, across: tuple[float, float], up: tuple[float, float]
    ) -> _Pane:
        """Axes from the left edge to `right`, without a frame, with horizontal lines at the ticks."""
        box = (EDGE / WIDTH, 1 - (top + high) / self.height, (right - EDGE) / WIDTH, high / self.height)
        axes = self.figure.add_axes(box, facecolor="none")
        axes.set(xlim=across, ylim=up, xticks=[], yticks=[])
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        return _Pane(self, axes, top, high, right)

    def footing(self, text: str) -> None:
        """The small line at the foot."""
        self.write(EDGE, self.height - EDGE + 4, fitted(text, WIDTH - 2 * EDGE), self.palette.muted)


_TITLE_ROW: Final = 50
_AIR: Final = 14
_FACT_ROW: Final = 88
_NAME: Final = 20  # how far above a pane its name stands
_FOOT: Final = 112  # labels of the time axis and the foot line


def _fact_rows(facts: Sequence[tuple[str, str]]) -> list[Sequence[tuple[str, str]]]:
    """At most four in a row, the rows of about one length, two rows at most."""
    facts = facts[:8]
    if len(facts) <= 4:
        return [facts] if facts else []
    half = (len(facts) + 1) // 2
    return [facts[:half], facts[half:]]


def _cells(count: int) -> list[tuple[float, float]]:
    """Left edge and width of each of so many columns."""
    wide = (WIDTH - 2 * EDGE) / max(count, 3)
    return [(EDGE + at * wide, wide - 20) for at in range(count)]


def heading_height(title: str, facts: Sequence[tuple[str, str]]) -> float:
    """Pixels from the top to the end of the heading."""
    return EDGE + len(headline(title)[1]) * _TITLE_ROW + _AIR + len(_fact_rows(facts)) * _FACT_ROW


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tag:
    """A value at the right edge of a pane, level with its place on the axis; `name` stands left of it in the pane."""

    value: float
    text: str
    colour: str
    name: str = ""
    filled: bool = True


_Box = tuple[float, float, float, float]  # left, top, right, bottom
_TAG: Final = 40  # height of a tag
_TAG_GAP: Final = 6


@dataclass(slots=True)
class _Pane:
    """Axes and where they lie on the sheet."""

    sheet: _Sheet
    axes: Axes
    top: float
    high: float
    right: float
    taken: list[_Box] = field(default_factory=list)  # what is written inside, where nothing else may be

    @property
    def palette(self) -> Palette:
        """The colours of the sheet."""
        return self.sheet.palette

    def y(self, value: float) -> float:
        """Where a value lies, in pixels from the sheet's top."""
        low, high = self.axes.get_ylim()
        return self.top + self.high * (high - value) / (high - low)

    def x(self, value: float) -> float:
        """Where a place on the horizontal axis lies, in pixels."""
        low, high = self.axes.get_xlim()
        return EDGE + (self.right - EDGE) * (value - low) / (high - low)

    def inside(self, value: float) -> float:
        """The value, or the pane's edge beyond which it lies."""
        low, high = self.axes.get_ylim()
        return min(max(value, low), high)

    def scale(self, values: FloatArray, texts: Sequence[str], tags: Sequence[_Tag] = (), unit: str = "") -> None:
        """Labels and lines at the ticks, tags over them at the right edge; ticks give way to tags."""
        places = self._tagged(tags)
        self.axes.set_yticks(values)
        self.axes.tick_params(axis="both", length=0, labelleft=False)
        self.axes.grid(visible=True, axis="y", color=self.palette.grid, lw=1.5)
        if unit:
            self.sheet.write(self.right + 14, self.top - _NAME, unit, self.palette.muted)
            places.append(self.top - _NAME - 6.0)
        for value, text in zip(values.tolist(), texts, strict=True):
            y = self.y(value)
            if all(abs(y - other) > (_TAG + SMALL) / 2 + 2 for other in places):
                self.sheet.write(self.right + 14, y, text, self.palette.muted)
                places.append(y)

    def _tagged(self, tags: Sequence[_Tag]) -> list[float]:
        """Draws the tags apart from each other; returns their places."""
        ordered = sorted(tags, key=lambda tag: -tag.value)
        wanted = [self.y(self.inside(tag.value)) for tag in ordered]
        places = spread(wanted, _TAG + _TAG_GAP, self.top + _TAG / 2, self.top + self.high - _TAG / 2)
        for tag, place, exact in zip(ordered, places, wanted, strict=True):
            self._tag(tag, place, exact)
        return places

    def _tag(self, tag: _Tag, place: float, exact: float) -> None:
        sheet, left = self.sheet, self.right + 4
        text = f"{self._beyond(tag.value)}{tag.text}"
        if tag.filled:
            sheet.box(left, place, width(text, bold=True) + 20, _TAG, tag.colour)
        if abs(place - exact) > 3:
            sheet.stroke([self.right - 12, left], [exact, place], tag.colour, wide=2.5)
        sheet.write(left + 10, place, text, self.palette.on if tag.filled else tag.colour, bold=True)
        if tag.name:
            wide = width(tag.name, bold=True) + 16
            self.taken.append((self.right - 14 - wide, place - _TAG / 2, self.right, place + _TAG / 2))
            sheet.box(self.right - 14 - wide, place, wide, _TAG, self.palette.back, alpha=0.85)
            sheet.write(self.right - 14 - wide / 2, place, tag.name, tag.colour, bold=True, ha="center")

    def _beyond(self, value: float) -> str:
        low, high = self.axes.get_ylim()
        return "▲ " if value > high else "▼ " if value < low else ""

    def named(self, text: str, note: str = "", colour: str | None = None) -> None:
        """What the pane shows, above it on the left; `note` behind it in `colour`."""
        y = self.top - _NAME
        self.sheet.write(EDGE, y, text, self.palette.muted)
        if note:
            self.sheet.write(EDGE + width(text) + 14, y, note, colour or self.palette.ink, bold=True)

    def below(self, places: Iterable[float], texts: Iterable[str]) -> None:
        """Labels under the pane, as many as have room, none beyond the edge of the sheet."""
        free = 20.0
        for place, text in zip(places, texts, strict=True):
            x, half = self.x(place), width(text) / 2
            if text and x - half >= free and x + half <= WIDTH - 8:
                self.sheet.write(x, self.top + self.high + 30, text, self.palette.muted, ha="center")
                free = x + half + 24

    def dot(self, x: float, y: float, colour: str) -> None:
        """A round mark on a curve."""
        self.axes.plot(x, y, "o", ms=14, mec=self.palette.back, mew=3, color=colour, clip_on=False, zorder=4)

    def level(self, value: float, colour: str, *, since: float | None = None, dashed: bool = True) -> None:
        """A horizontal line from a place to the right edge."""
        low, high = self.axes.get_xlim()
        start = low if since is None else min(max(since, low), high)
        style = (0, (5, 3)) if dashed else (0, (1, 2))
        self.axes.add_line(Line2D([start, high], [value, value], color=colour, lw=2.5, ls=style, zorder=3))


def spread(wanted: Sequence[float], apart: float, low: float, high: float) -> list[float]:
    """Places near those wanted (in rising order), at least `apart` from each other, between two bounds.

    Where there is no room for all of them they share it evenly.
    """
    if len(wanted) > 1 and (len(wanted) - 1) * apart > high - low:
        apart = (high - low) / (len(wanted) - 1)
    places: list[float] = []
    for place in wanted:
        places.append(max(place, places[-1] + apart if places else low))
    ceiling = high
    for at in reversed(range(len(places))):
        places[at] = min(places[at], ceiling)
        ceiling = places[at] - apart
    return places


def _bounds(low: float, high: float, pad: float = 0.06) -> tuple[float, float]:
    """Limits of an axis around what it shows, never without extent."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return -1.0, 1.0
    room = (high - low) * pad
    least = max(abs(low), abs(high)) * 1e-6 or 1.0
    if high - low < least:
        room = max(abs(low) * 0.01, least)
    return low - room, high + room


def _column(texts: Iterable[str], tags: Iterable[_Tag] = ()) -> float:
    """Where the panes end so that what stands at the right of them fits."""
    widest = max((width(text) + 14 for text in texts), default=0.0)
    tagged = max((width(f"▲ {tag.text}", bold=True) + 26 for tag in tags), default=0.0)
    return WIDTH - 20 - max(widest, tagged)


# ---------------------------------------------------------------------------------------------------------- equity

_EQUITY_HIGH: Final = 1200
_FALL: Final = 210


def _equity(picture: EquityPicture, palette: Palette) -> Figure:
    zone = _zone(picture.zone)
    top = heading_height(picture.title, picture.facts) + GAP + _NAME
    lower = _EQUITY_HIGH - _FOOT - _FALL
    sheet = _Sheet(palette, _EQUITY_HIGH)
    sheet.heading(picture.title, picture.facts)
    time = (picture.time - picture.time[0]).astype(np.float64)
    across = (0.0, float(time[-1]) or 1.0)
    fall = drawdown(picture.equity, picture.start) * 100
    up = _bounds(min(float(picture.equity.min()), picture.start), max(float(picture.equity.max()), picture.start))
    values = ticks(*up, 6)
    low = float(fall.min()) * 1.08 if fall.min() < 0 else -1.0
    depths = ticks(low, 0.0, 3) if fall.min() < 0 else np.zeros(1)
    texts, deep = labels(values), labels(depths, "%")
    tags = _equity_tags(picture, palette)
    right = _column([*texts, *deep, "USDT"], tags)
    curve = sheet.pane(top, lower - GAP * 2 - 10 - top, right, across, up)
    below = sheet.pane(lower, _FALL, right, across, (low, 0.0))
    _curve(curve, time, picture)
    curve.scale(values, texts, tags, unit="USDT")
    _fall(below, time, fall, picture, zone)
    below.scale(depths, deep)
    first, last = int(picture.time[0]), int(picture.time[-1])
    places, words = moments(first, last, zone)
    below.below((places - first).tolist(), words)
    sheet.footing(period(first, last, zone))
    return sheet.figure


def _equity_tags(picture: EquityPicture, palette: Palette) -> list[_Tag]:
    last = float(picture.equity[-1])
    colour = palette.ink if last == picture.start else palette.up if last > picture.start else palette.down
    tags = [_Tag(value=last, text=money(last), colour=colour)]
    if last != picture.start:
        start = money(picture.start).removesuffix(".00")
        tags.append(_Tag(value=picture.start, text=start, colour=palette.muted, filled=False))
    return tags


def _curve(pane: _Pane, time: FloatArray, picture: EquityPicture) -> None:
    """The curve in the colours of gain and loss, filled against the start."""
    start, equity, axes, palette = picture.start, picture.equity, pane.axes, pane.palette
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    line = (high - low) / pane.high * 1.5  # the curve at the start itself is no loss
    for colour, floor, ceiling in ((palette.up, start - line, high), (palette.down, low, start - line)):
        window = Rectangle((left, floor), right - left, ceiling - floor, transform=axes.transData)
        filling = axes.fill_between(time, equity, start, color=colour, alpha=0.2, lw=0)
        (stroke,) = axes.plot(time, equity, color=colour, lw=4, solid_joinstyle="round")
        for artist in (filling, stroke):
            artist.set_clip_path(window)
    pane.level(start, palette.muted)
    away = 24 if equity[-1] > start else -24  # where the curve is not
    if abs(pane.y(float(equity[-1])) - pane.y(start)) > 60:
        pane.sheet.write(pane.right - 8, pane.y(start) + away, "Start", palette.muted, ha="right")
    pane.dot(time[-1], equity[-1], palette.ink)


def _fall(pane: _Pane, time: FloatArray, fall: FloatArray, picture: EquityPicture, zone: ZoneInfo) -> None:
    """The drawdown with its deepest point marked."""
    palette = pane.palette
    if not fall.min() < 0:
        pane.named("Drawdown", "none", palette.up)
        return
    pane.axes.fill_between(time, fall, 0.0, color=palette.down, alpha=0.28, lw=0)
    pane.axes.plot(time, fall, color=palette.down, lw=2.5)
    _, trough = deepest(picture.equity, picture.start)
    first, day, last = (utc(int(picture.time[row])).astimezone(zone) for row in (0, trough, -1))
    at = _day(day) if first.year == last.year else f"{_day(day)} {day.year}"
    pane.named("Drawdown", f"max {fall[trough]:,.{_percent_places(fall[trough])}f}% on {at}", palette.down)
    pane.dot(time[trough], fall[trough], palette.down)


def _percent_places(value: float) -> int:
    """Decimals of a percentage: more for a small one."""
    return 1 if abs(value) >= 10 else 2 if abs(value) >= 0.01 else 4


# ---------------------------------------------------------------------------------------------------------- bars

_BARS_HIGH: Final = 1120
_TOTAL: Final = 240


def _bars(picture: BarsPicture, palette: Palette) -> Figure:
    values = _finite(picture.values)
    total = np.concatenate(([0.0], np.cumsum(values)))
    top = heading_height(picture.title, picture.facts) + GAP + _NAME
    lower = _BARS_HIGH - _FOOT + GAP - _TOTAL
    sheet = _Sheet(palette, _BARS_HIGH)
    sheet.heading(picture.title, picture.facts)
    up = _bounds(min(float(values.min()), 0.0), max(float(values.max()), 0.0), 0.12)
    run = _bounds(float(total.min()), float(total.max()), 0.12)
    at, sums = ticks(*up), ticks(*run, 4)
    texts, sum_texts = labels(at), labels(sums)
    tags = [_Tag(value=float(total[-1]), text=money(float(total[-1]), sign=True), colour=_sign(palette, total[-1]))]
    unit = fitted(picture.unit, 160)
    right = _column([*texts, *sum_texts, unit], tags)
    spare = max(5 - len(values), 0) / 2  # a few bars stand in the middle
    across = (-0.5 - spare, len(values) - 0.5 + spare)
    bars = sheet.pane(top, lower - GAP * 2 - 10 - top, right, across, up)
    running = sheet.pane(lower, _TOTAL, right, across, run)
    _columns(bars, values)
    bars.scale(at, texts, unit=unit)
    _running(running, total)
    running.scale(sums, sum_texts, tags)
    bars.named("Per period")
    running.named("Running total")
    widest = width(fitted(max(picture.labels, key=len), 200)) + 24
    every = math.ceil(widest / (bars.x(1.0) - bars.x(0.0)))
    running.below(range(0, len(values), every), [fitted(label, 200) for label in picture.labels[::every]])
    return sheet.figure


def _finite(values: Sequence[float]) -> FloatArray:
    """The values; one that is no number counts as nothing."""
    return np.nan_to_num(np.asarray(values, np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _sign(palette: Palette, value: float) -> str:
    return palette.up if value > 0 else palette.down if value < 0 else palette.muted


def _columns(pane: _Pane, values: FloatArray) -> None:
    """The bars, with their values where all of them have room."""
    palette, rows = pane.palette, np.arange(len(values))
    colours = [_sign(palette, value) for value in values.tolist()]
    boxes = _boxes(rows.astype(np.float64), np.minimum(values, 0), np.maximum(values, 0), colours, zorder=2)
    pane.axes.add_collection(boxes)
    pane.axes.axhline(0, color=palette.muted, lw=2)
    slot = pane.x(1.0) - pane.x(0.0)
    if slot < SMALL:
        return
    texts = [money(value, sign=True) if value else "0" for value in values.tolist()]
    if max(width(text) for text in texts) + 10 > slot:
        texts = [f"{value:+,.0f}" if value else "0" for value in values.tolist()]
    if max(width(text) for text in texts) + 10 > slot:
        return
    for row, value in enumerate(values.tolist()):
        away = 18 if value < 0 else -18
        pane.sheet.write(pane.x(row), pane.y(value) + away, texts[row], colours[row], ha="center")


def _running(pane: _Pane, total: FloatArray) -> None:
    rows = np.arange(len(total)) - 0.5
    colour = _sign(pane.palette, total[-1])
    pane.axes.axhline(0, color=pane.palette.muted, lw=2)
    pane.axes.fill_between(rows, total, 0.0, color=colour, alpha=0.15, lw=0)
    pane.axes.plot(rows, total, color=colour, lw=4, solid_joinstyle="round")
    pane.dot(rows[-1], total[-1], colour)


# ---------------------------------------------------------------------------------------------------------- rank

_ROW: Final = 76
_HEAD: Final = 66


def _rank(picture: RankPicture, palette: Palette) -> Figure:
    groups = [(heading, _named_rows(rows, picture.unit, palette)) for heading, rows in picture.groups if rows]
    top = heading_height(picture.title, picture.facts)
    high = sum(_HEAD + len(rows) * _ROW + GAP for _, rows in groups)
    sheet = _Sheet(palette, top + high + EDGE)
    sheet.heading(picture.title, picture.facts)
    everything = [row for _, rows in groups for row in rows]
    left = EDGE + max(width(row.label) for row in everything) + 24
    right = WIDTH - EDGE - 24 - max(max(width(row.text, 28, bold=True), width(row.note)) for row in everything)
    scale = (min(0.0, *(row.bar for row in everything)), max(0.0, *(row.bar for row in everything)))
    for heading, rows in groups:
        sheet.write(EDGE, top + 26, fitted(heading, WIDTH - 2 * EDGE, 28, bold=True), palette.ink, size=28, bold=True)
        sheet.stroke([EDGE, WIDTH - EDGE], [top + _HEAD - 12] * 2, palette.grid, wide=2)
        top += _HEAD
        for row in rows:
            _rank_row(sheet, top + _ROW / 2, row, (left, right), scale)
            top += _ROW
        top += GAP
    return sheet.figure


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """A row of a rank; `bar` is its value again, or 0 where no bar is drawn."""

    label: str
    bar: float
    text: str
    note: str
    colour: str


def _named_rows(rows: Sequence[tuple[str, float, str]], unit: str, palette: Palette) -> list[_Row]:
    """The rows as they are written; of many the first and the last, what lies between summed up without a bar."""

    def row(label: str, value: float, note: str, bar: float) -> _Row:
        text = f"{money(value, sign=True)} {fitted(unit, 120)}".strip()
        return _Row(label=fitted(label, 330), bar=bar, text=text, note=fitted(note, 300), colour=_sign(palette, value))

    shown = [row(label, _number(value), note, _number(value)) for label, value, note in rows]
    if len(shown) <= _MOST_LINES:
        return shown
    first, last = _MOST_LINES * 2 // 3, _MOST_LINES // 3
    between = shown[first:-last]
    rest = row(f"… {len(between)} more", math.fsum(each.bar for each in between), "together", 0.0)
    return [*shown[:first], rest, *shown[-last:]]


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _rank_row(sheet: _Sheet, y: float, row: _Row, room: tuple[float, float], scale: tuple[float, float]) -> None:
    """Label, bar from zero, and at the right edge the value over its note."""
    palette, (left, right), (low, high) = sheet.palette, room, scale
    per = (right - left) / ((high - low) or 1.0)
    zero = left - low * per
    start, end = sorted((zero, zero + row.bar * per))
    sheet.write(EDGE, y, row.label, palette.ink)
    if row.bar:
        sheet.box(start, y, max(end - start, 4.0), 38, row.colour)
    sheet.stroke([zero, zero], [y - _ROW / 2, y + _ROW / 2], palette.muted, wide=1.5)
    sheet.write(WIDTH - EDGE, y - 15 if row.note else y, row.text, row.colour, size=28, bold=True, ha="right")
    sheet.write(WIDTH - EDGE, y + 19, row.note, palette.muted, ha="right")


# ---------------------------------------------------------------------------------------------------------- candles

_CANDLES_HIGH: Final = 1280
_PRICE: Final = 420  # at least
_VOLUME: Final = 90
_LOWER: Final = 140
_LEGEND: Final = 44
_UP: Final = Outline([(0, 0), (-1, -1.6), (1, -1.6), (0, 0)], closed=True)  # their tips lie at the price
_DOWN: Final = Outline([(0, 0), (-1, 1.6), (1, 1.6), (0, 0)], closed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """The candle picture with what its panes have in common: x counts bars, the first is 0."""

    picture: CandlePicture
    palette: Palette
    zone: ZoneInfo
    colours: dict[str, str]
    levels: list[Level]
    tags: list[_Tag]  # one for each level
    right: float
    across: tuple[float, float]

    def bar(self, time: float) -> float:
        """The bar in which a time lies, as a place on the horizontal axis."""
        return math.floor((time - self.first) / self.length)

    @property
    def first(self) -> int:
        """Open time of the first bar in ms."""
        return int(self.picture.series.timestamp[0])

    @property
    def length(self) -> float:
        """A bar in ms."""
        return self.picture.series.interval.total_seconds() * 1000

    @property
    def thick(self) -> float:
        """Pixels per bar."""
        return (self.right - EDGE) / (self.across[1] - self.across[0])


def _candles(picture: CandlePicture, palette: Palette) -> Figure:
    lower = list(dict.fromkeys(line.pane for line in picture.lines if line.pane != "price"))
    volume = picture.volume and bool(np.nansum(picture.series.volume) > 0)
    legend, step = _legend_rows(picture), GAP + 2 * _NAME
    head = heading_height(picture.title, picture.facts) + 8 + legend * _LEGEND
    rest = volume * (_VOLUME + step) + len(lower) * (_LOWER + step) + _FOOT
    top = head + GAP + _NAME
    price = max(_CANDLES_HIGH - top - rest, _PRICE)
    sheet = _Sheet(palette, top + price + rest)
    sheet.heading(picture.title, picture.facts)
    up = _price_bounds(picture)
    values = ticks(*up, 6)
    frame = _framed(picture, palette, labels(values))
    _legend(sheet, frame, head - legend * _LEGEND)
    pane = sheet.pane(top, price, frame.right, frame.across, up)
    _price_pane(pane, frame, values)
    top += price + step
    if volume:
        most = float(np.nanmax(picture.series.volume))
        pane = sheet.pane(top, _VOLUME, frame.right, frame.across, (0.0, most * 1.05))
        _volume_pane(pane, frame)
        top += _VOLUME + step
    for name in lower:
        pane = _lower_pane(sheet, frame, name, top)
        top += _LOWER + step
    _times(sheet, pane, frame)
    return sheet.figure


def _framed(picture: CandlePicture, palette: Palette, texts: Sequence[str]) -> _Frame:
    levels = _levels(picture)
    tags = [_price_tag(level, picture, palette) for level in levels]
    lower = [text for values in picture.guides.values() for text in labels(np.asarray(values, np.float64))]
    right = _column([*texts, *lower, "100.0", "USDT"], tags)
    bars = len(picture.series)
    slots = max(bars, _SLOTS)
    name = max((width(tag.name, bold=True) + 34 for tag in tags if tag.name), default=14.0)
    free = slots * name / (right - EDGE - name)
    names = dict.fromkeys(line.name for line in picture.lines)
    colours = {each: palette.lines[at % len(palette.lines)] for at, each in enumerate(names)}
    return _Frame(
        picture=picture,
        palette=palette,
        zone=_zone(picture.zone),
        colours=colours,
        levels=levels,
        tags=tags,
        right=right,
        across=(bars - slots - 0.7, bars - 0.3 + free),
    )


def _levels(picture: CandlePicture) -> list[Level]:
    """The levels, and the last close unless a level says it."""
    levels = [level for level in picture.levels if math.isfinite(level.price)]
    last, at = float(picture.series.close[-1]), int(picture.series.timestamp[-1])
    if math.isfinite(last) and not any(level.kind == "last" for level in levels):
        levels.append(Level(name="", price=last, kind="last", since=at))
    return levels


def _price_tag(level: Level, picture: CandlePicture, palette: Palette) -> _Tag:
    rising = picture.series.close[-1] >= picture.series.open[-1]
    colours = {
        "entry": palette.entry,
        "stop": palette.down,
        "target": palette.up,
        "last": palette.up if rising else palette.down,
    }
    return _Tag(
        value=level.price,
        text=amount(level.price),
        colour=colours[level.kind],
        name=fitted(level.name, 150, bold=True) if level.kind != "last" else "",
        filled=level.kind != "last",
    )


def _price_bounds(picture: CandlePicture) -> tuple[float, float]:
    """The candles' range, widened for levels, marks and lines that are not too far away."""
    series = picture.series
    low, high = float(np.nanmin(series.low)), float(np.nanmax(series.high))
    span = high - low or abs(high) * 0.01 or 1.0
    least, most = low - span * _FAR, high + span * _FAR
    wanted = [level.price for level in picture.levels]
    wanted += [mark.price for mark in picture.marks if series.timestamp[0] <= mark.time]
    for line in picture.lines:
        if line.pane == "price":
            known = line.values[np.isfinite(line.values)]
            near = known[(known >= low - span * 0.4) & (known <= high + span * 0.4)]
            wanted += [float(near.min()), float(near.max())] if len(near) else []
    near_by = [price for price in wanted if least <= price <= most]
    return _bounds(min([low, *near_by]), max([high, *near_by]), 0.05)


def _price_pane(pane: _Pane, frame: _Frame, values: FloatArray) -> None:
    picture = frame.picture
    _bodies(pane, frame)
    for name, colour in frame.colours.items():
        _indicator(pane, [line for line in picture.lines if line.pane == "price" and line.name == name], colour)
    for level, tag in zip(frame.levels, frame.tags, strict=True):
        since = None if level.since is None else frame.bar(level.since)
        pane.level(level.price, tag.colour, since=since, dashed=level.kind != "last")
    pane.scale(values, labels(values), frame.tags, unit=_quote(picture.series.symbol))
    _marks(pane, frame)


def _quote(symbol: str) -> str:
    """The currency of a symbol's prices, where its name says it."""
    return next((quote for quote in ("USDT", "USDC", "USD") if symbol.endswith(quote)), "")


def _bodies(pane: _Pane, frame: _Frame) -> None:
    """Candles as two collections, however many there are."""
    series, palette = frame.picture.series, frame.palette
    x = (series.timestamp - frame.first) / frame.length
    rising: BoolArray = series.close >= series.open
    colours = np.where(rising, palette.up, palette.down).tolist()
    wicks = np.stack((np.stack((x, series.low), 1), np.stack((x, series.high), 1)), 1)
    thin = min(max(frame.thick * 0.14, 1.2), 4.0)
    pane.axes.add_collection(LineCollection(list(wicks), colors=colours, linewidths=thin, zorder=2))
    low, high = pane.axes.get_ylim()
    least = (high - low) / pane.high * 2  # a bar that closed where it opened is a dash, not nothing
    middle, half = (series.open + series.close) / 2, np.maximum(np.abs(series.close - series.open), least) / 2
    pane.axes.add_collection(_boxes(x, middle - half, middle + half, colours, zorder=2.1))


def _boxes(x: FloatArray, low: FloatArray, high: FloatArray, colours: list[str], *, zorder: float) -> PolyCollection:
    left, right = x - 0.36, x + 0.36
    corners = np.stack(
        (np.stack((left, low), 1), np.stack((left, high), 1), np.stack((right, high), 1), np.stack((right, low), 1)), 1
    )
    return PolyCollection(list(corners), facecolors=colours, linewidths=0, zorder=zorder)


def _indicator(pane: _Pane, lines: Sequence[Line], colour: str) -> None:
    wide = 3 if len(lines) == 1 else 2
    for line in lines:
        values = np.where(np.isfinite(line.values), line.values, np.nan)
        style = (0, (3, 2)) if line.dashed else "-"
        pane.axes.plot(np.arange(len(values)), values, color=colour, lw=wide, ls=style, zorder=2.5)
    if len(lines) > 1 and lines[0].pane == "price":
        first, last = lines[0].values, lines[-1].values
        pane.axes.fill_between(np.arange(len(first)), first, last, color=colour, alpha=0.1, lw=0, zorder=1)


def _marks(pane: _Pane, frame: _Frame) -> None:
    """Entries as triangles whose tip is the price, exits as crosses; texts where they have room."""
    places: list[_Box] = []
    shown = [mark for mark in frame.picture.marks if frame.first <= mark.time and math.isfinite(mark.price)]
    size = min(max(frame.thick * 1.6, 24.0), 32.0)
    for mark in shown:
        colour = _mark_colour(mark, frame.palette)
        shape = {"long": _UP, "short": _DOWN}.get(mark.kind, "X")
        scale = size * 1.5 if mark.kind != "exit" else size
        point = Line2D([_mark_place(mark, frame)], [mark.price], marker=shape, ms=scale, ls="", color=colour, zorder=5)
        point.set(markeredgecolor=frame.palette.back, markeredgewidth=2.5)
        pane.axes.add_line(point)
        x, y = pane.x(_mark_place(mark, frame)), pane.y(mark.price)
        middle = {"long": y + size * 0.6, "short": y - size * 0.6}.get(mark.kind, y)
        places.append((x - size * 0.6, middle - size * 0.7, x + size * 0.6, middle + size * 0.7))
    pane.taken += places
    for mark, place in zip(reversed(shown), reversed(places), strict=True):
        _mark_text(pane, frame, mark, place)


def _mark_place(mark: Mark, frame: _Frame) -> float:
    return min(frame.bar(mark.time), len(frame.picture.series))


def _mark_colour(mark: Mark, palette: Palette) -> str:
    if mark.kind != "exit":
        return palette.entry
    return palette.ink if mark.won is None else palette.up if mark.won else palette.down


def _mark_text(pane: _Pane, frame: _Frame, mark: Mark, at: _Box) -> None:
    """A mark's text above or below it, unless it would lie on something else or outside the pane."""
    text = fitted(mark.text, 200, bold=True)
    if not text:
        return
    left, top, right, bottom = at
    wide, high = width(text, bold=True) + 12, 34.0
    x = min(max((left + right) / 2 - wide / 2, EDGE + 2), frame.right - wide - 2)
    for y in (top - high - 2, bottom + 2):
        box = (x, y, x + wide, y + high)
        within = y >= pane.top and y + high <= pane.top + pane.high
        if within and not any(_overlap(box, other) for other in pane.taken):
            pane.sheet.box(x, y + high / 2, wide, high, frame.palette.back, alpha=0.8)
            colour = _mark_colour(mark, frame.palette)
            pane.sheet.write(x + wide / 2, y + high / 2, text, colour, bold=True, ha="center")
            pane.taken.append(box)
            return


def _overlap(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _volume_pane(pane: _Pane, frame: _Frame) -> None:
    series, palette = frame.picture.series, frame.palette
    x = (series.timestamp - frame.first) / frame.length
    colours = np.where(series.close >= series.open, palette.up, palette.down).tolist()
    boxes = _boxes(x, np.zeros(len(x)), np.nan_to_num(series.volume), colours, zorder=2)
    boxes.set_alpha(0.55)
    pane.axes.add_collection(boxes)
    pane.axes.axhline(0, color=palette.grid, lw=2)
    coin = next((series.symbol.removesuffix(quote) for quote in ("USDT", "USDC") if series.symbol.endswith(quote)), "")
    pane.named(f"Volume {fitted(coin, 200)}".strip(), money(float(np.nan_to_num(series.volume[-1]))))


def _lower_pane(sheet: _Sheet, frame: _Frame, name: str, top: float) -> _Pane:
    """A pane below the prices: its lines, its guides, the last value beside its name."""
    lines = [line for line in frame.picture.lines if line.pane == name]
    guides = [value for value in frame.picture.guides.get(name, ()) if math.isfinite(value)]
    known = np.concatenate([*(line.values[np.isfinite(line.values)] for line in lines), guides])
    up = _bounds(float(known.min()), float(known.max()), 0.12) if len(known) else (0.0, 1.0)
    pane = sheet.pane(top, _LOWER, frame.right, frame.across, up)
    values = np.asarray(sorted(guides), np.float64) if guides or not len(known) else ticks(*up, 3)
    for line in lines:
        _indicator(pane, [line], frame.colours[line.name])
    for value in guides:
        pane.level(value, frame.palette.muted, dashed=False)
    pane.scale(values, labels(values))
    last = lines[0].values[-1]
    pane.named(fitted(name, 500), amount(float(last), 4), frame.colours[lines[0].name])
    return pane


def _times(sheet: _Sheet, pane: _Pane, frame: _Frame) -> None:
    stamps: IntArray = frame.picture.series.timestamp
    first, last = int(stamps[0]), int(stamps[-1])
    places, words = moments(first, max(last, first + int(frame.length)), frame.zone)
    pane.below(((places - first) / frame.length).tolist(), words)
    sheet.footing(period(first, last + int(frame.length), frame.zone))


def _legend_places(picture: CandlePicture) -> list[tuple[str, float, int]]:
    """Name, left edge and row of each indicator in the price pane."""
    places, x, row = [], float(EDGE), 0
    shown = (line.name for line in picture.lines if line.pane == "price" and np.isfinite(line.values).any())
    for name in dict.fromkeys(shown):
        text = fitted(name, 400)
        wide = 44 + width(text) + 36
        if x + wide > WIDTH - EDGE and x > EDGE:
            x, row = float(EDGE), row + 1
        places.append((name, x, row))
        x += wide
    return places


def _legend_rows(picture: CandlePicture) -> int:
    return max((row + 1 for _, _, row in _legend_places(picture)), default=0)


def _legend(sheet: _Sheet, frame: _Frame, top: float) -> None:
    for name, x, row in _legend_places(frame.picture):
        y = top + row * _LEGEND + _LEGEND / 2
        sheet.stroke([x, x + 32], [y, y], frame.colours[name], wide=5)
        sheet.write(x + 44, y, fitted(name, 400), frame.palette.ink)
