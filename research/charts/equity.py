"""The equity curve with its drawdown, what buying and holding would have made, and another curve to compare with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from research.charts.sheet import EDGE, FOOT, GAP, NAME, Palette, Pane, Sheet, Tag, bounds, column, heading_height
from research.charts.words import day_of, labels, moments, money, period, ticks, width, zone_named
from trading.model import FloatArray, utc
from trading.pictures import EquityPicture, deepest, drawdown

_HIGH: Final = 1200
_FALL: Final = 210
_WIDE: Final = 5.0  # curves of which one is so many times another are drawn on a logarithmic scale
_MOST_TICKS: Final = 7
_BETWEEN: Final = GAP * 2 + 10  # from the curve to the drawdown
_NUMBERED: Final = 16  # more folds than this have no room for numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """The vertical axis: money as it is, or its logarithm."""

    log: bool

    def __call__(self, values: FloatArray) -> FloatArray:
        return np.log10(values) if self.log else values

    def at(self, value: float) -> float:
        """One value."""
        return float(np.log10(value)) if self.log else value


def equity_figure(picture: EquityPicture, palette: Palette) -> Figure:
    """The curve and below it the drawdown."""
    sheet = Sheet(palette, _HIGH)
    sheet.heading(picture.title, picture.facts)
    equity_on(sheet, picture, heading_height(picture.title, picture.facts), _HIGH - FOOT, _FALL)
    sheet.footing(span(picture))
    return sheet.figure


def span(picture: EquityPicture) -> str:
    """The time that the curve covers, in words."""
    return period(int(picture.time[0]), int(picture.time[-1]), zone_named(picture.zone))


def equity_on(sheet: Sheet, picture: EquityPicture, top: float, bottom: float, deep: float) -> None:
    """The curve from `top` on and the drawdown, `deep` high, down to `bottom`; times stand below that."""
    zone, palette = zone_named(picture.zone), sheet.palette
    scale, time = _scale_of(picture), (picture.time - picture.time[0]).astype(np.float64)
    across = (0.0, float(time[-1]) or 1.0)
    fall = drawdown(picture.equity, picture.start) * 100
    low, depths = _depths(np.concatenate((fall, _fall_beside(picture))))
    up = _bounds(picture, scale)
    values, texts = _ticks(up, scale)
    deeps, tags = labels(depths, "%"), _equity_tags(picture, palette, scale)
    right = column([*texts, *deeps, "USDT"], tags)
    begin, lower = top + GAP + NAME, bottom - deep
    curve = sheet.pane(begin, lower - _BETWEEN - begin, right, across, up)
    below = sheet.pane(lower, deep, right, across, (low, 0.0))
    _folds(curve, picture)
    _curve(curve, time, picture, scale)
    curve.scale(values, texts, tags, unit="USDT")
    _legend(curve, picture, scale)
    _fall(below, time, fall, picture, zone)
    below.scale(depths, deeps)
    first, last = int(picture.time[0]), int(picture.time[-1])
    places, words = moments(first, last, zone)
    below.below((places - first).tolist(), words)


def _everything(picture: EquityPicture) -> FloatArray:
    """All values that the curve's pane shows."""
    others = [curve for curve in (picture.hold, picture.beside) if curve is not None]
    return np.concatenate([picture.equity, np.array([picture.start]), *others])


def _fall_beside(picture: EquityPicture) -> FloatArray:
    """The other curve's drawdown in per cent; empty without one."""
    return np.zeros(0) if picture.beside is None else drawdown(picture.beside, picture.start) * 100


def _scale_of(picture: EquityPicture) -> _Scale:
    values = _everything(picture)
    low, high = float(values.min()), float(values.max())
    several = picture.hold is not None or picture.beside is not None
    return _Scale(log=several and low > 0 and high > low * _WIDE)


def _bounds(picture: EquityPicture, scale: _Scale) -> tuple[float, float]:
    values = _everything(picture)
    return bounds(scale.at(float(values.min())), scale.at(float(values.max())))


def _ticks(up: tuple[float, float], scale: _Scale) -> tuple[FloatArray, list[str]]:
    """Places on the axis and what stands there; of a logarithmic one round numbers, as many as have room."""
    if not scale.log:
        values = ticks(*up, 6)
        return values, labels(values)
    low, high = (math.floor(each) for each in up)
    found = np.zeros(0)
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        more = np.array([step * 10.0**power for power in range(low, high + 1) for step in steps])
        more = more[(np.log10(more) >= up[0]) & (np.log10(more) <= up[1])]
        if len(more) <= _MOST_TICKS:
            found = more
    return np.log10(found), [money(value).removesuffix(".00") for value in found.tolist()]


def _depths(fall: FloatArray) -> tuple[float, FloatArray]:
    """The lower end of the drawdown's axis and its ticks."""
    if not fall.min() < 0:
        return -1.0, np.zeros(1)
    low = float(fall.min()) * 1.08
    return low, ticks(low, 0.0, 3)


def _equity_tags(picture: EquityPicture, palette: Palette, scale: _Scale) -> list[Tag]:
    last = float(picture.equity[-1])
    tags = [Tag(value=scale.at(last), text=money(last), colour=_end_colour(picture, palette))]
    if picture.beside is not None:
        other = float(picture.beside[-1])
        tags.append(Tag(value=scale.at(other), text=money(other), colour=palette.lines[2], filled=False))
    if picture.hold is not None:
        held = float(picture.hold[-1])
        tags.append(Tag(value=scale.at(held), text=money(held), colour=palette.lines[0], filled=False))
    if last != picture.start:
        start = money(picture.start).removesuffix(".00")
        tags.append(Tag(value=scale.at(picture.start), text=start, colour=palette.muted, filled=False))
    return tags


def _end_colour(picture: EquityPicture, palette: Palette) -> str:
    last = float(picture.equity[-1])
    return palette.ink if last == picture.start else palette.up if last > picture.start else palette.down


def _legend(pane: Pane, picture: EquityPicture, scale: _Scale) -> None:
    """Which line is which, above the curve; alone it needs no name."""
    palette, x, y = pane.palette, float(EDGE), pane.top - NAME
    named = [(picture.names[0], _end_colour(picture, palette), 5.0)]
    if picture.beside is not None:
        named.append((picture.names[1], palette.lines[2], 4.0))
    if picture.hold is not None:
        named.append(("Buy and hold", palette.lines[0], 3.0))
    for text, colour, wide in named if len(named) > 1 else []:
        pane.sheet.stroke([x, x + 32], [y, y], colour, wide=wide)
        pane.sheet.write(x + 44, y, text, palette.ink)
        x += 44 + width(text) + 36
    if scale.log:
        text = next((each for each in ("log scale", "log") if x + width(each) < pane.right), "")
        pane.sheet.write(x, y, text, palette.muted)


def _folds(pane: Pane, picture: EquityPicture) -> None:
    """Where the folds begin, and their numbers at the bottom of the pane."""
    origin, (low, high) = int(picture.time[0]), pane.axes.get_xlim()
    places = [float(min(max(time - origin, low), high)) for time in picture.folds]
    for place in places:
        if low < place < high:
            pane.axes.axvline(place, color=pane.palette.muted, lw=2, ls=(0, (2, 2)), zorder=1)
    if not 0 < len(places) <= _NUMBERED:
        return
    for number, (begin, end) in enumerate(zip(places, [*places[1:], high], strict=True), 1):
        x = pane.x((begin + end) / 2)
        pane.sheet.write(x, pane.top + pane.high - 18, str(number), pane.palette.muted, ha="center")


def _curve(pane: Pane, time: FloatArray, picture: EquityPicture, scale: _Scale) -> None:
    """The curve in the colours of gain and loss, filled against the start."""
    start, equity, axes, palette = scale.at(picture.start), scale(picture.equity), pane.axes, pane.palette
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    line = (high - low) / pane.high * 1.5  # the curve at the start itself is no loss
    for colour, floor, ceiling in ((palette.up, start - line, high), (palette.down, low, start - line)):
        window = Rectangle((left, floor), right - left, ceiling - floor, transform=axes.transData)
        filling = axes.fill_between(time, equity, start, color=colour, alpha=0.2, lw=0)
        (stroke,) = axes.plot(time, equity, color=colour, lw=4, solid_joinstyle="round")
        for artist in (filling, stroke):
            artist.set_clip_path(window)
    if picture.beside is not None:
        axes.plot(time, scale(picture.beside), color=palette.lines[2], lw=3, solid_joinstyle="round", zorder=1.95)
    if picture.hold is not None:
        axes.plot(time, scale(picture.hold), color=palette.lines[0], lw=2.5, solid_joinstyle="round", zorder=1.9)
    pane.level(start, palette.muted)
    away = 24 if equity[-1] > start else -24  # where the curve is not
    if picture.hold is None and picture.beside is None and abs(pane.y(float(equity[-1])) - pane.y(start)) > 60:
        pane.sheet.write(pane.right - 8, pane.y(start) + away, "Start", palette.muted, ha="right")
    pane.dot(time[-1], equity[-1], palette.ink)


def _fall(pane: Pane, time: FloatArray, fall: FloatArray, picture: EquityPicture, zone: ZoneInfo) -> None:
    """The drawdown with its deepest point marked."""
    palette = pane.palette
    if picture.beside is not None:
        pane.axes.plot(time, _fall_beside(picture), color=palette.lines[2], lw=2.5, zorder=1.9)
    if not fall.min() < 0:
        pane.named("Drawdown", "none", palette.up)
        return
    pane.axes.fill_between(time, fall, 0.0, color=palette.down, alpha=0.28, lw=0)
    pane.axes.plot(time, fall, color=palette.down, lw=2.5)
    _, trough = deepest(picture.equity, picture.start)
    first, day, last = (utc(int(picture.time[row])).astimezone(zone) for row in (0, trough, -1))
    at = day_of(day) if first.year == last.year else f"{day_of(day)} {day.year}"
    pane.named("Drawdown", f"max {fall[trough]:,.{_percent_places(fall[trough])}f}% on {at}", palette.down)
    pane.dot(time[trough], fall[trough], palette.down)


def _percent_places(value: float) -> int:
    """Decimals of a percentage: more for a small one."""
    return 1 if abs(value) >= 10 else 2 if abs(value) >= 0.01 else 4
