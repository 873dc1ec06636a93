"""Tables for a phone: monospaced, at most 34 columns as they are seen. Wide characters and emoji take two."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from bot.text import UNKNOWN, readable

WIDTH: Final = 34
_GAP: Final = " "
_PICTURES: Final = 0x2190  # symbols from here on are drawn as emoji by some phones
_LEFTWARDS: Final = frozenset({"R", "AL", "AN"})


@dataclass(frozen=True, slots=True)
class Column:
    """A heading with the most columns that its values may take; `left` aligns them there."""

    title: str
    most: int
    left: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *foot: str) -> str:
    """A `<pre>` block: headings, a rule, the rows; `foot` lines stand below a rule of their own.

    Values are plain text: they are cut to their column and escaped here.
    """
    cells = [[cell(value, column.most) for value, column in zip(row, columns, strict=True)] for row in rows]
    widths = [
        max([width(column.title), *(width(row[place]) for row in cells)]) for place, column in enumerate(columns)
    ]
    titles = [column.title for column in columns]
    body = [_line(each, columns, widths) for each in (titles, *cells)]
    rule = "-" * min(sum(widths) + len(_GAP) * (len(columns) - 1), WIDTH)
    lines = [body[0], rule, *body[1:]]
    if foot:
        lines += [rule, *(cell(line, WIDTH) for line in foot)]
    return f"<pre>{html.escape(chr(10).join(lines), quote=False)}</pre>"


def _line(values: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    parts = []
    for value, column, wide in zip(values, columns, widths, strict=True):
        blank = " " * (wide - width(value))
        parts.append(value + blank if column.left else blank + value)
    return _GAP.join(parts).rstrip()


def cell(text: str, most: int) -> str:
    """Text for a table, at most `most` columns: nothing without a width, nothing that turns the row around."""
    kept, used = "", 0
    for character in readable(text[: 8 * most]).strip():
        shown = "?" if unicodedata.bidirectional(character) in _LEFTWARDS else character
        used += width(shown)
        if used > most:
            break
        kept += shown
    return kept or UNKNOWN


def width(text: str) -> int:
    """Columns that a text takes, rather too many than too few: marks that join another character count as well."""
    return len(text) if text.isascii() else sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    picture = ord(character) >= _PICTURES and unicodedata.category(character) == "So"
    wide = unicodedata.east_asian_width(character) in {"W", "F"}
    return 2 if wide or picture or ord(character) > 0xFFFF else 1


def amount(value: Decimal | float) -> str:
    """A signed amount in at most 7 columns: `+41.20`, `-1234.5`, `+123456`, `+1234k`; a dash for what is none."""
    number = float(value)
    if not math.isfinite(number):
        return UNKNOWN
    for divisor, unit in ((1.0, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")):
        for places in (2, 1, 0):
            text = f"{_plain(number / divisor, places)}{unit}"
            if len(text) <= 7:
                return text
    return UNKNOWN


def multiple(value: float) -> str:
    """A signed R multiple in at most 5 columns: `+1.9`, `-12.4`, `+9999`."""
    if not math.isfinite(value):
        return UNKNOWN
    text = _plain(value, 1)
    return text if len(text) <= 5 else _plain(max(min(value, 9999.0), -9999.0), 0)


def per_cent(fraction: float | Decimal | None, places: int = 0, most: float = 999.0) -> str:
    """A fraction as a bare number of per cent, at most `most`; a dash where there is none."""
    if fraction is None or not math.isfinite(fraction):
        return UNKNOWN
    return f"{max(min(float(fraction) * 100, most), 0.0):.{places}f}"


def _plain(number: float, places: int) -> str:
    """With its sign; there is no minus zero."""
    return f"{round(number, places) + 0.0:+.{places}f}"
