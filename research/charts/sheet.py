"""The sheet that a chart is drawn on: its themes, title and facts, and panes with tags at their right edge."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.transforms import IdentityTransform

from research.charts.words import SMALL, TITLE, VALUE, fitted, font, readable, width, wrapped
from trading.model import FloatArray
from trading.pictures import Theme

WIDTH: Final = 1080
EDGE: Final = 44  # free on every side
GAP: Final = 28  # between panes
_TITLES: Final = (TITLE, TITLE - 4, TITLE - 7)
_TITLE_ROW: Final = 50
_AIR: Final = 14
_FACT_ROW: Final = 88
NAME: Final = 20  # how far above a pane its name stands
FOOT: Final = 112  # labels of the time axis and the foot line
_TAG: Final = 40  # height of a tag
_TAG_GAP: Final = 6

Box = tuple[float, float, float, float]  # left, top, right, bottom


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


@dataclass(slots=True)
class Sheet:
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
            fontproperties=font(bold, size),
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

    def add(self, artist: FancyBboxPatch | Rectangle | Line2D) -> None:
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
        self.facts(y + _AIR, facts)

    def facts(self, y: float, facts: Sequence[tuple[str, str]]) -> None:
        """The row of facts, from `y` down."""
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
    ) -> Pane:
        """Axes from the left edge to `right`, without a frame, with horizontal lines at the ticks."""
        box = (EDGE / WIDTH, 1 - (top + high) / self.height, (right - EDGE) / WIDTH, high / self.height)
        axes = self.figure.add_axes(box, facecolor="none")
        axes.set(xlim=across, ylim=up, xticks=[], yticks=[])
        axes.set_axisbelow(True)
        axes.spines[:].set_visible(False)
        return Pane(self, axes, top, high, right)

    def footing(self, text: str) -> None:
        """The small line at the foot."""
        self.write(EDGE, self.height - EDGE + 4, fitted(text, WIDTH - 2 * EDGE), self.palette.muted)


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


def _fact_rows(facts: Sequence[tuple[str, str]]) -> list[Sequence[tuple[str, str]]]:
    """At most five in one row, else two rows of about one length."""
    facts = facts[:8]
    if len(facts) <= 5:
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
class Tag:
    """A value at the right edge of a pane, level with its place on the axis; `name` stands left of it in the pane."""

    value: float
    text: str
    colour: str
    name: str = ""
    filled: bool = True


@dataclass(slots=True)
class Pane:
    """Axes and where they lie on the sheet."""

    sheet: Sheet
    axes: Axes
    top: float
    high: float
    right: float
    taken: list[Box] = field(default_factory=list)  # what is written inside, where nothing else may be

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

    def scale(self, values: FloatArray, texts: Sequence[str], tags: Sequence[Tag] = (), unit: str = "") -> None:
        """Labels and lines at the ticks, tags over them at the right edge; ticks give way to tags."""
        places = self._tagged(tags)
        self.axes.set_yticks(values)
        self.axes.tick_params(axis="both", length=0, labelleft=False)
        self.axes.grid(visible=True, axis="y", color=self.palette.grid, lw=1.5)
        if unit:
            self.sheet.write(self.right + 14, self.top - NAME, unit, self.palette.muted)
            places.append(self.top - NAME - 6.0)
        for value, text in zip(values.tolist(), texts, strict=True):
            y = self.y(value)
            if all(abs(y - other) > (_TAG + SMALL) / 2 + 2 for other in places):
                self.sheet.write(self.right + 14, y, text, self.palette.muted)
                places.append(y)

    def _tagged(self, tags: Sequence[Tag]) -> list[float]:
        """Draws the tags apart from each other; returns their places."""
        ordered = sorted(tags, key=lambda tag: -tag.value)
        wanted = [self.y(self.inside(tag.value)) for tag in ordered]
        places = spread(wanted, _TAG + _TAG_GAP, self.top + _TAG / 2, self.top + self.high - _TAG / 2)
        for tag, place, exact in zip(ordered, places, wanted, strict=True):
            self._tag(tag, place, exact)
        return places

    def _tag(self, tag: Tag, place: float, exact: float) -> None:
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
        y = self.top - NAME
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


def bounds(low: float, high: float, pad: float = 0.06) -> tuple[float, float]:
    """Limits of an axis around what it shows, never without extent."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return -1.0, 1.0
    room = (high - low) * pad
    least = max(abs(low), abs(high)) * 1e-6 or 1.0
    if high - low < least:
        room = max(abs(low) * 0.01, least)
    return low - room, high + room


def column(texts: Iterable[str], tags: Iterable[Tag] = ()) -> float:
    """Where the panes end so that what stands at the right of them fits."""
    widest = max((width(text) + 14 for text in texts), default=0.0)
    tagged = max((width(f"▲ {tag.text}", bold=True) + 26 for tag in tags), default=0.0)
    return WIDTH - 20 - max(widest, tagged)


def sign_colour(palette: Palette, value: float) -> str:
    """The colour of a number: gain, loss or neither."""
    return palette.up if value > 0 else palette.down if value < 0 else palette.muted


def rectangles(
    x: FloatArray, low: FloatArray, high: FloatArray, colours: list[str], *, zorder: float
) -> PolyCollection:
    """Boxes of one width around places, each from its low to its high, as one collection."""
    left, right = x - 0.36, x + 0.36
    corners = np.stack(
        (np.stack((left, low), 1), np.stack((left, high), 1), np.stack((right, high), 1), np.stack((right, low), 1)), 1
    )
    return PolyCollection(list(corners), facecolors=colours, linewidths=0, zorder=zorder)
