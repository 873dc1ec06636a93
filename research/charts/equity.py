"""The equity curve with its drawdown."""

from __future__ import annotations

from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from research.charts.sheet import FOOT, GAP, NAME, Palette, Pane, Sheet, Tag, bounds, column, heading_height
from research.charts.words import day_of, labels, moments, money, period, ticks, zone_named
from trading.model import FloatArray, utc
from trading.pictures import EquityPicture, deepest, drawdown

_HIGH: Final = 1200
_FALL: Final = 210


def equity_figure(picture: EquityPicture, palette: Palette) -> Figure:
    """The curve and below it the drawdown."""
    zone = zone_named(picture.zone)
    top = heading_height(picture.title, picture.facts) + GAP + NAME
    lower = _HIGH - FOOT - _FALL
    sheet = Sheet(palette, _HIGH)
    sheet.heading(picture.title, picture.facts)
    time = (picture.time - picture.time[0]).astype(np.float64)
    across = (0.0, float(time[-1]) or 1.0)
    fall = drawdown(picture.equity, picture.start) * 100
    up = bounds(min(float(picture.equity.min()), picture.start), max(float(picture.equity.max()), picture.start))
    values = ticks(*up, 6)
    low = float(fall.min()) * 1.08 if fall.min() < 0 else -1.0
    depths = ticks(low, 0.0, 3) if fall.min() < 0 else np.zeros(1)
    texts, deep = labels(values), labels(depths, "%")
    tags = _equity_tags(picture, palette)
    right = column([*texts, *deep, "USDT"], tags)
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


def _equity_tags(picture: EquityPicture, palette: Palette) -> list[Tag]:
    last = float(picture.equity[-1])
    colour = palette.ink if last == picture.start else palette.up if last > picture.start else palette.down
    tags = [Tag(value=last, text=money(last), colour=colour)]
    if last != picture.start:
        start = money(picture.start).removesuffix(".00")
        tags.append(Tag(value=picture.start, text=start, colour=palette.muted, filled=False))
    return tags


def _curve(pane: Pane, time: FloatArray, picture: EquityPicture) -> None:
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


def _fall(pane: Pane, time: FloatArray, fall: FloatArray, picture: EquityPicture, zone: ZoneInfo) -> None:
    """The drawdown with its deepest point marked."""
    palette = pane.palette
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
