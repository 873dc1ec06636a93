"""Candles with indicators, levels and marks, and panes below for volume and oscillators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Outline

from research.charts.sheet import (
    EDGE,
    FOOT,
    GAP,
    NAME,
    WIDTH,
    Box,
    Palette,
    Pane,
    Sheet,
    Tag,
    bounds,
    column,
    heading_height,
    rectangles,
)
from research.charts.words import amount, fitted, labels, moments, money, period, ticks, width, zone_named
from trading.model import BoolArray, FloatArray, IntArray
from trading.pictures import CandlePicture, Level, Line, Mark

_SLOTS: Final = 30  # a chart of fewer candles leaves the rest empty: one candle is no wall
_FAR: Final = 1.5  # levels and lines may widen the candles' range by this much on each side
_HIGH: Final = 1280
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
    tags: list[Tag]  # one for each level
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


def candles_figure(picture: CandlePicture, palette: Palette) -> Figure:
    """Prices with all that belongs to them, below them volume and indicators."""
    lower = list(dict.fromkeys(line.pane for line in picture.lines if line.pane != "price"))
    volume = picture.volume and bool(np.nansum(picture.series.volume) > 0)
    legend, step = _legend_rows(picture), GAP + 2 * NAME
    head = heading_height(picture.title, picture.facts) + 8 + legend * _LEGEND
    rest = volume * (_VOLUME + step) + len(lower) * (_LOWER + step) + FOOT
    top = head + GAP + NAME
    price = max(_HIGH - top - rest, _PRICE)
    sheet = Sheet(palette, top + price + rest)
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
    right = column([*texts, *lower, "100.0", "USDT"], tags)
    bars = len(picture.series)
    slots = max(bars, _SLOTS)
    name = max((width(tag.name, bold=True) + 34 for tag in tags if tag.name), default=14.0)
    free = slots * name / (right - EDGE - name)
    names = dict.fromkeys(line.name for line in picture.lines)
    colours = {each: palette.lines[at % len(palette.lines)] for at, each in enumerate(names)}
    return _Frame(
        picture=picture,
        palette=palette,
        zone=zone_named(picture.zone),
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


def _price_tag(level: Level, picture: CandlePicture, palette: Palette) -> Tag:
    rising = picture.series.close[-1] >= picture.series.open[-1]
    colours = {
        "entry": palette.entry,
        "stop": palette.down,
        "target": palette.up,
        "last": palette.up if rising else palette.down,
    }
    return Tag(
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
    return bounds(min([low, *near_by]), max([high, *near_by]), 0.05)


def _price_pane(pane: Pane, frame: _Frame, values: FloatArray) -> None:
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


def _bodies(pane: Pane, frame: _Frame) -> None:
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
    pane.axes.add_collection(rectangles(x, middle - half, middle + half, colours, zorder=2.1))


def _indicator(pane: Pane, lines: Sequence[Line], colour: str) -> None:
    wide = 3 if len(lines) == 1 or any(line.stepped for line in lines) else 2
    for line in lines:
        values = np.where(np.isfinite(line.values), line.values, np.nan)
        style = (0, (3, 2)) if line.dashed else "-"
        way = "steps-mid" if line.stepped else "default"
        pane.axes.plot(np.arange(len(values)), values, color=colour, lw=wide, ls=style, drawstyle=way, zorder=2.5)
    if len(lines) > 1 and lines[0].pane == "price":
        first, last = lines[0].values, lines[-1].values
        pane.axes.fill_between(np.arange(len(first)), first, last, color=colour, alpha=0.1, lw=0, zorder=1)


def _marks(pane: Pane, frame: _Frame) -> None:
    """Entries as triangles whose tip is the price, exits as crosses; texts where they have room."""
    places: list[Box] = []
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


def _mark_text(pane: Pane, frame: _Frame, mark: Mark, at: Box) -> None:
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


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _volume_pane(pane: Pane, frame: _Frame) -> None:
    series, palette = frame.picture.series, frame.palette
    x = (series.timestamp - frame.first) / frame.length
    colours = np.where(series.close >= series.open, palette.up, palette.down).tolist()
    boxes = rectangles(x, np.zeros(len(x)), np.nan_to_num(series.volume), colours, zorder=2)
    boxes.set_alpha(0.55)
    pane.axes.add_collection(boxes)
    pane.axes.axhline(0, color=palette.grid, lw=2)
    coin = next((series.symbol.removesuffix(quote) for quote in ("USDT", "USDC") if series.symbol.endswith(quote)), "")
    pane.named(f"Volume {fitted(coin, 200)}".strip(), money(float(np.nan_to_num(series.volume[-1]))))


def _lower_pane(sheet: Sheet, frame: _Frame, name: str, top: float) -> Pane:
    """A pane below the prices: its lines, its guides, the last value beside its name."""
    lines = [line for line in frame.picture.lines if line.pane == name]
    guides = [value for value in frame.picture.guides.get(name, ()) if math.isfinite(value)]
    known = np.concatenate([*(line.values[np.isfinite(line.values)] for line in lines), guides])
    up = bounds(float(known.min()), float(known.max()), 0.12) if len(known) else (0.0, 1.0)
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


def _times(sheet: Sheet, pane: Pane, frame: _Frame) -> None:
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


def _legend(sheet: Sheet, frame: _Frame, top: float) -> None:
    for name, x, row in _legend_places(frame.picture):
        y = top + row * _LEGEND + _LEGEND / 2
        sheet.stroke([x, x + 32], [y, y], frame.colours[name], wide=5)
        sheet.write(x + 44, y, fitted(name, 400), frame.palette.ink)
