"""How it looks: colours by what they mean, lines of exact width, aligned columns, charts.

A `Line` is segments of text with a style; widths are in cells, of which some characters take two. All of it is pure,
and no text is read as markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from bot.terminal import inert

GAP: Final = "  "  # between two columns
NO_PRICE: Final = 1e18  # from here on a number is none

Line = list[Segment]


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Styles by what they mean."""

    plain: Style
    strong: Style
    faint: Style
    good: Style
    bad: Style
    warn: Style
    accent: Style
    title: Style
    bar: Style
    badge: Style
    real: Style
    paused: Style

    @classmethod
    def of(cls, styles: Mapping[str, str]) -> Palette:
        """From style definitions, for example `bold white on red`."""
        return cls(**{name: Style.parse(words) for name, words in styles.items()})

    def sign(self, value: Decimal | float) -> Style:
        """Profit or loss."""
        return self.good if value > 0 else self.bad if value < 0 else self.plain


COLOURS: Final = Palette.of(
    {
        "plain": "none",
        "strong": "bold",
        "faint": "dim",
        "good": "green",
        "bad": "red",
        "warn": "bold yellow",
        "accent": "cyan",
        "title": "bold cyan",
        "bar": "white on grey23",
        "badge": "bold black on cyan",
        "real": "bold bright_white on red",
        "paused": "bold black on yellow",
    }
)
# Signs and words carry the meaning where there are no colours.
NO_COLOURS: Final = Palette.of(
    {
        "plain": "none",
        "strong": "bold",
        "faint": "dim",
        "good": "none",
        "bad": "none",
        "warn": "bold",
        "accent": "none",
        "title": "bold",
        "bar": "reverse",
        "badge": "bold",
        "real": "bold",
        "paused": "bold reverse",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How everything is drawn: colours, the reader's zone, and the console whose words are wrapped."""

    console: Console
    zone: tzinfo = UTC
    palette: Palette = COLOURS
    ascii_only: bool = False

    @classmethod
    def of(cls, console: Console, zone: tzinfo) -> Look:
        """What this console can show."""
        coloured = console.color_system is not None and not console.no_color
        simple = not console.encoding.lower().replace("-", "").startswith("utf")
        return cls(console=console, zone=zone, palette=COLOURS if coloured else NO_COLOURS, ascii_only=simple)


BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_LIKENESS: Final = str.maketrans("▁▂▃▄▅▆▇█─│…–−×·●○“”’→▲▼", "_.,-~=+#-|~--x.*o\"\"'>^v")


def in_ascii(line: Line) -> Line:
    """The same line for a terminal that knows nothing else, cell by cell."""
    return [Segment(plainly(text), style) for text, style, _ in line]


def plainly(text: str) -> str:
    """The text in ASCII, as many cells wide."""
    if text.isascii():
        return text
    alike = text.translate(_LIKENESS)
    return "".join(each if each.isascii() else "?" * cell_len(each) for each in alike)


def ansi(line: Line, console: Console) -> str:
    """The line as the terminal takes it."""
    system = COLOR_SYSTEMS[console.color_system or "standard"]
    return "".join(style.render(text, color_system=system) if style else text for text, style, _ in line)


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, an ellipsis showing where something was left off."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1).rstrip()}…" if width > 0 else ""


def fitted(line: Line, width: int) -> Line:
    """The line in exactly `width` cells."""
    if length(line) <= width:
        return Segment.adjust_line_length(line, width)
    kept: Line = []
    for text, style, _ in line:
        room = width - length(kept)
        if cell_len(text) >= room:
            kept.append(Segment(cut(f"{text}…", room), style))
            break
        kept.append(Segment(text, style))
    return Segment.adjust_line_length(kept, width)


def length(line: Line) -> int:
    """In cells."""
    return sum(segment.cell_length for segment in line)


def packed(parts: Sequence[Line], width: int, gap: str = GAP) -> Line:
    """As many of the parts as fit, the first one always; the most important ones come first."""
    line: Line = []
    for part in filter(None, parts):
        if not line:
            line = list(part)
        elif length(line) + len(gap) + length(part) <= width:
            line += [Segment(gap), *part]
    return line


def flowing(parts: Sequence[Line], width: int, gap: str = GAP) -> list[Line]:
    """All parts, on as many lines as they take."""
    lines: list[Line] = []
    for part in filter(None, parts):
        if lines and length(lines[-1]) + len(gap) + length(part) <= width:
            lines[-1] += [Segment(gap), *part]
        else:
            lines.append(list(part))
    return lines


def spread(left: Line, right: Line, width: int, style: Style | None = None) -> Line:
    """Left and right on one line; what is on the right gives way."""
    room = width - length(left) - length(right)
    return [*left, Segment(" " * room, style), *right] if room >= 2 else Segment.adjust_line_length(left, width, style)


def wrapped(text: str, width: int, most: int, look: Look) -> list[str]:
    """Somebody else's sentence on at most `most` lines."""
    lines = _wrapped(inert(text), max(width, 1), look.console)
    return [*lines[: most - 1], cut(f"{lines[most - 1]}…", width)] if len(lines) > most else [*lines]


@lru_cache(maxsize=256)
def _wrapped(text: str, width: int, console: Console) -> tuple[str, ...]:
    return tuple(line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold"))


def table(rows: Sequence[Sequence[Segment]], right: str, drop: Sequence[int], width: int) -> list[Line]:
    """Aligned columns, `>` in `right` for those that end alike; those of `drop` give way first, in this order."""
    if not rows:
        return []
    widths = [max(row[place].cell_length for row in rows) for place in range(len(right))]
    shown = [place for place, wide in enumerate(widths) if wide]
    for victim in drop:
        if sum(widths[place] for place in shown) + len(GAP) * (len(shown) - 1) <= width:
            break
        shown = [place for place in shown if place != victim]
    return [_table_row(row, right, widths, shown) for row in rows]


def _table_row(row: Sequence[Segment], right: str, widths: Sequence[int], shown: Sequence[int]) -> Line:
    line: Line = []
    for place in shown:
        cell, pad = row[place], Segment(" " * (widths[place] - row[place].cell_length))
        line += [Segment(GAP)] if line else []
        line += [pad, cell] if right[place] == ">" else [cell, pad]
    return line


def chart(values: Sequence[float], width: int, height: int = 1) -> list[str]:
    """The last `width` values as columns of blocks, `height` lines from the top; empty lines without values."""
    shown = _last(values, width)
    if not shown:
        return [""] * height
    low, span, steps = min(shown), max(shown) - min(shown), 8 * height - 1
    levels = [1 + round((value - low) / span * steps) if span else (steps + 1) // 2 for value in shown]
    return [
        "".join(BLOCKS[min(max(level - 8 * below, 0), 8)] for level in levels) for below in range(height - 1, -1, -1)
    ]


_NO_DOT: Final = 0x2800
_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # braille, from the top, left and right


def plot(values: Sequence[float], width: int, height: int) -> list[str]:
    """The last values as a line of braille dots, two to a column; `height` lines from the top. Few ones are spread."""
    shown = _spread_out(_last(values, 2 * width), 2 * width)
    cells = [[_NO_DOT] * width for _ in range(height)]
    low, span, steps = min(shown, default=0.0), max(shown, default=0.0) - min(shown, default=0.0), 4 * height - 1
    before: int | None = None
    for column, value in enumerate(shown):
        row = round((1 - (value - low) / span) * steps) if span else steps // 2
        for dot in range(row, row + 1) if before is None else range(min(row, before), max(row, before) + 1):
            cells[dot // 4][column // 2] |= _DOTS[column % 2][dot % 4]
        before = row
    return ["".join(map(chr, line)).replace(chr(_NO_DOT), " ") for line in cells]


def _last(values: Sequence[float], count: int) -> list[float]:
    """The last values that can be a price."""
    return [value for value in values if abs(value) < NO_PRICE][-count:] if count > 0 else []


def _spread_out(values: list[float], count: int) -> list[float]:
    """As many values as there are places, on straight lines between those that are known."""
    if not 2 <= len(values) < count:
        return values
    steps = [place * (len(values) - 1) / (count - 1) for place in range(count)]
    whole = [min(int(step), len(values) - 2) for step in steps]
    return [
        values[at] + (values[at + 1] - values[at]) * (step - at) for at, step in zip(whole, steps, strict=True)
    ]
