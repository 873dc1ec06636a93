"""Ranks: what earned and what lost, by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.figure import Figure

from research.charts.sheet import EDGE, GAP, WIDTH, Palette, Sheet, heading_height, sign_colour
from research.charts.words import fitted, money, width
from trading.pictures import RankPicture

_MOST_LINES: Final = 14  # rows of one group that are named; the rest is summed up
_ROW: Final = 76
_HEAD: Final = 66


def rank_figure(picture: RankPicture, palette: Palette) -> Figure:
    """Groups of rows, each with its bar, value and note."""
    groups = [(heading, _named_rows(rows, picture.unit, palette)) for heading, rows in picture.groups if rows]
    top = heading_height(picture.title, picture.facts)
    high = sum(_HEAD + len(rows) * _ROW + GAP for _, rows in groups)
    sheet = Sheet(palette, top + high + EDGE)
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
        colour = sign_colour(palette, value)
        return _Row(label=fitted(label, 330), bar=bar, text=text, note=fitted(note, 300), colour=colour)

    shown = [row(label, _number(value), note, _number(value)) for label, value, note in rows]
    if len(shown) <= _MOST_LINES:
        return shown
    first, last = _MOST_LINES * 2 // 3, _MOST_LINES // 3
    between = shown[first:-last]
    rest = row(f"… {len(between)} more", math.fsum(each.bar for each in between), "together", 0.0)
    return [*shown[:first], rest, *shown[-last:]]


def _number(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _rank_row(sheet: Sheet, y: float, row: _Row, room: tuple[float, float], scale: tuple[float, float]) -> None:
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
