"""Bars of profit and loss per period, with their running total."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from research.charts.sheet import (
    FOOT,
    GAP,
    NAME,
    Palette,
    Pane,
    Sheet,
    Tag,
    bounds,
    column,
    heading_height,
    rectangles,
    sign_colour,
)
from research.charts.words import SMALL, fitted, labels, money, ticks, width
from trading.model import FloatArray
from trading.pictures import BarsPicture

_HIGH: Final = 1120
_TOTAL: Final = 240


def bars_figure(picture: BarsPicture, palette: Palette) -> Figure:
    """A bar per period and below them the running total."""
    values = _finite(picture.values)
    total = np.concatenate(([0.0], np.cumsum(values)))
    top = heading_height(picture.title, picture.facts) + GAP + NAME
    lower = _HIGH - FOOT + GAP - _TOTAL
    sheet = Sheet(palette, _HIGH)
    sheet.heading(picture.title, picture.facts)
    up = bounds(min(float(values.min()), 0.0), max(float(values.max()), 0.0), 0.12)
    run = bounds(float(total.min()), float(total.max()), 0.12)
    at, sums = ticks(*up), ticks(*run, 4)
    texts, sum_texts = labels(at), labels(sums)
    end = float(total[-1])
    tags = [Tag(value=end, text=money(end, sign=True), colour=sign_colour(palette, end))]
    unit = fitted(picture.unit, 160)
    right = column([*texts, *sum_texts, unit], tags)
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


def _columns(pane: Pane, values: FloatArray) -> None:
    """The bars, with their values where all of them have room."""
    palette, rows = pane.palette, np.arange(len(values))
    colours = [sign_colour(palette, value) for value in values.tolist()]
    boxes = rectangles(rows.astype(np.float64), np.minimum(values, 0), np.maximum(values, 0), colours, zorder=2)
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


def _running(pane: Pane, total: FloatArray) -> None:
    rows = np.arange(len(total)) - 0.5
    colour = sign_colour(pane.palette, total[-1])
    pane.axes.axhline(0, color=pane.palette.muted, lw=2)
    pane.axes.fill_between(rows, total, 0.0, color=colour, alpha=0.15, lw=0)
    pane.axes.plot(rows, total, color=colour, lw=4, solid_joinstyle="round")
    pane.dot(rows[-1], total[-1], colour)
