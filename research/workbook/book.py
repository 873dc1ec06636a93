"""A workbook under way: its formats, and tables that are written column by column.

Every text is written as a string, so that none becomes a formula or a link, whatever it begins with. What is not a
finite number stays an empty cell. Times are ms UTC and stand in the sheet without a zone, the header says UTC.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import xlsxwriter  # type: ignore[import-untyped]
from xlsxwriter.utility import xl_col_to_name  # type: ignore[import-untyped]
from xlsxwriter.worksheet import CellNumberTuple, Worksheet  # type: ignore[import-untyped]

INK: Final = "#17324d"
PALE: Final = "#eef2f6"
GAIN: Final = "#00887f"
LOSS: Final = "#c8380f"
HOLD: Final = "#8a97a5"
WORDS: Final = {"PROVEN": GAIN, "NOT PROVEN": "#b07d00", "LOSES": LOSS}
_LONGEST: Final = 32_000  # characters of a cell
_DAY: Final = 86_400_000
_EPOCH: Final = 25_569  # 1970-01-01 in Excel's days
_WIDEST: Final = 60

Kind = Literal["text", "time", "day", "money", "price", "qty", "percent", "ratio", "fine", "count", "number"]
Values = Sequence[Any] | np.ndarray[Any, Any]

_FORMATS: Final[dict[Kind, str]] = {
    "text": "@",
    "time": "yyyy-mm-dd hh:mm",
    "day": "yyyy-mm-dd",
    "money": "#,##0.00",
    "price": "",  # as many decimals as its values need
    "qty": "",
    "percent": "0.00%",
    "ratio": "#,##0.00",
    "fine": "#,##0.0000",
    "count": "#,##0",
    "number": "General",
}
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "title": {"bold": True, "font_size": 16, "font_color": INK},
    "heading": {"bold": True, "font_size": 12, "font_color": INK, "bottom": 1, "bottom_color": HOLD},
    "header": {
        "bold": True,
        "font_color": "#ffffff",
        "bg_color": INK,
        "text_wrap": True,
        "valign": "vcenter",
        "align": "center",
        "border": 1,
        "border_color": "#ffffff",
    },
    "note": {"font_color": "#5c6a79"},
    "meaning": {"font_color": "#5c6a79", "indent": 1},
    "label": {"valign": "top"},
    "bold": {"bold": True},
    "undefined": {"pattern": 4, "fg_color": "#c9d1d9", "bg_color": "#ffffff"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table: its header, its values (one per row) and how they are shown. `width` in characters."""

    name: str
    values: Values
    kind: Kind = "number"
    width: float | None = None


class _Page(Worksheet):  # type: ignore[misc]  # xlsxwriter ships no type information
    """A sheet that takes a column of numbers at once and writes numbers without looking for characters to escape.

    200,000 cells take half the time: xlsxwriter's own way checks the type of each and its attributes' letters.
    """

    def numbers(self, top: int, at: int, values: Sequence[float], style: Any) -> None:
        """Numbers from row `top` down, in one format; what is not finite stays an empty cell."""
        rows = self.table
        for row, value in enumerate(values, top):
            if -math.inf < value < math.inf:
                rows[row][at] = CellNumberTuple(value, style)
        if len(values):
            self._check_dimensions(top, at)
            self._check_dimensions(top + len(values) - 1, at)

    def _write_cell(self, row: int, column: int, cell: Any) -> None:
        if cell.__class__ is not CellNumberTuple or cell.format is None:
            super()._write_cell(row, column, cell)
            return
        place, style = f"{_letters(column)}{row + 1}", cell.format._get_xf_index()  # noqa: SLF001 - as xlsxwriter does
        self.fh.write(f'<c r="{place}" s="{style}"><v>{cell.number:.16G}</v></c>')


@functools.cache
def _letters(column: int) -> str:
    """A column's name: A, B, … AA."""
    name: str = xl_col_to_name(column)
    return name


@dataclass(slots=True)
class Book:
    """An xlsx file in memory."""

    file: io.BytesIO = field(default_factory=io.BytesIO)
    book: Any = field(init=False)
    _formats: dict[tuple[tuple[str, Any], ...], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
        self.book = xlsxwriter.Workbook(self.file, options)

    def style(self, name: str, kind: Kind | None = None, **more: Any) -> Any:
        """A format: a style by its name, a kind of number, and what else it should be."""
        wanted = _STYLES.get(name, {}) | more
        if kind is not None and kind != "text":
            wanted["num_format"] = _FORMATS[kind]
        key = tuple(sorted(wanted.items()))  # equal formats must be one: xlsxwriter compares two for every cell
        if key not in self._formats:
            self._formats[key] = self.book.add_format(wanted)
        return self._formats[key]

    def sheet(self, name: str, *, landscape: bool = True, pages: int = 0) -> Sheet:
        """A new sheet, set up for print on A4: as wide as the page, on so many pages (0: as many as it takes)."""
        page = self.book.add_worksheet(name, worksheet_class=_Page)
        if landscape:
            page.set_landscape()
        page.set_paper(9)
        page.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.6)
        page.fit_to_pages(1, pages)
        page.set_footer("&L&A&RPage &P of &N")
        page.hide_gridlines(2)
        return Sheet(self, page, name)

    def finished(self) -> bytes:
        """The file; nothing can be written any more."""
        self.book.close()
        return self.file.getvalue()


@dataclass(slots=True)
class Sheet:
    """One sheet: `page` is xlsxwriter's."""

    book: Book
    page: Any
    name: str

    def text(self, row: int, column: int, value: str, style: str = "", **more: Any) -> None:
        """A text."""
        self.page.write_string(row, column, plain(value), self.book.style(style, None, **more))

    def number(self, row: int, column: int, value: Any, kind: Kind, style: str = "", **more: Any) -> None:
        """A number, or an empty cell where it is undefined."""
        if value is not None and math.isfinite(value):
            shown = serial(value) if kind in {"time", "day"} else value
            self.page.write_number(row, column, shown, self.book.style(style, kind, **more))

    def lines(self, row: int, texts: Iterable[str], style: str = "note") -> int:
        """One line of text per row from `row` on; returns the next free row."""
        for text in texts:
            self.text(row, 0, text, style)
            row += 1
        return row

    def table(self, top: int, columns: Sequence[Column], *, left: int = 0, widths: bool = True) -> int:
        """A header at row `top` and the values below it; returns the row after the last."""
        self.page.set_row(top, 32)
        for at, column in enumerate(columns, left):
            self.text(top, at, column.name, "header")
            if widths:
                self.page.set_column(at, at, fitting(column))
            self._fill(top + 1, at, column)
        return top + 1 + max((len(column.values) for column in columns), default=0)

    def listed(self, top: int, columns: Sequence[Column], *, frozen: int = 1) -> int:
        """A table that is the sheet's own: its header stays in sight and on every printed page, with filters."""
        end = self.table(top, columns)
        self.page.freeze_panes(top + 1, frozen)
        self.page.repeat_rows(top)
        if end > top + 1:
            self.page.autofilter(top, 0, end - 1, len(columns) - 1)
        return end

    def _fill(self, top: int, at: int, column: Column) -> None:
        if column.kind == "text":
            text, style = self.page.write_string, self.book.style("", None, indent=1)
            for row, value in enumerate(column.values, top):
                text(row, at, plain(str(value)), style)
            return
        if column.kind in {"price", "qty"}:
            places = decimals(column)
            style = self.book.style("", None, num_format="#,##0" + ("." + "0" * places if places else ""))
        else:
            style = self.book.style("", column.kind)
        self.page.numbers(top, at, numbers(column), style)

    def colours(self, top: int, left: int, bottom: int, right: int, *, costs: bool = False) -> None:
        """Colours over a range of cells: from loss over white at 0 to gain; of `costs` from white to loss."""
        scale: dict[str, Any] = {"type": "3_color_scale", "min_color": "#f3a58c", "max_color": "#6fc9bf"}
        scale |= {"mid_color": "#ffffff", "mid_type": "num", "mid_value": 0}
        if costs:
            scale = {"type": "2_color_scale", "min_color": "#ffffff", "max_color": "#f3a58c"}
        self.page.conditional_format(top, left, bottom, right, scale)

    def curve(self, at: str, title: str, series: Sequence[tuple[str, int, str]], **shape: Any) -> None:
        """A native chart of columns over the first one: (name, column, colour) each; see `_line` for the shape."""
        first, last = shape["rows"]
        chart = self.book.book.add_chart({"type": "scatter", "subtype": "straight"})
        source = shape.get("sheet", self.name)
        left = shape.get("left", 0)
        for name, column, colour in series:
            chart.add_series(
                {
                    "name": name,
                    "categories": [source, first, left, last, left],
                    "values": [source, first, column, last, column],
                    "line": {"color": colour, "width": 1.75},
                    "marker": {"type": "none"},
                }
            )
        low, high = shape["span"]
        chart.set_title({"name": title, "name_font": {"size": 12, "color": INK}, "overlay": False})
        chart.set_x_axis(
            {
                "num_format": "yyyy-mm-dd",
                "min": serial(low),
                "max": serial(high),
                "major_unit": max((serial(high) - serial(low)) / 5, 1e-4),
                "label_position": "low",
                "num_font": {"size": 9},
                "major_gridlines": {"visible": False},
            }
        )
        grid = {"visible": True, "line": {"color": "#e4e9ee"}}
        chart.set_y_axis({"num_format": shape["format"], "major_gridlines": grid, "num_font": {"size": 9}})
        chart.set_legend({"position": "bottom"} if len(series) > 1 else {"none": True})
        chart.set_size({"width": shape.get("width", 720), "height": shape.get("height", 330)})
        self.page.insert_chart(at, chart, {"object_position": 3})


def plain(text: str) -> str:
    """A text that a cell can hold."""
    return text[:_LONGEST].encode("utf-8", "replace").decode("utf-8")


def serial(ms: float) -> float:
    """Excel's day number of a time in ms UTC."""
    return ms / _DAY + _EPOCH


def numbers(column: Column) -> list[float]:
    """The values as floats, undefined ones as NaN; times as Excel's days."""
    values = np.array([math.nan if value is None else value for value in column.values], np.float64)
    if column.kind in {"time", "day"}:
        values = values / _DAY + _EPOCH
    found: list[float] = values.tolist()
    return found


def fitting(column: Column) -> float:
    """A width in characters at which the header (on two lines) and every value can be read."""
    if column.width is not None:
        return column.width
    words = max((len(word) for word in column.name.split()), default=0)
    head = max(words, len(column.name) / 2 + 1)
    return min(max(head + 3, _widest(column) + 2.5, 7.0), _WIDEST)


def decimals(column: Column) -> int:
    """Decimals that the values of a price or a quantity need, at most seven digits in all."""
    values = np.abs(np.array(numbers(column), np.float64))
    values = values[np.isfinite(values) & (values > 0)]
    if not len(values):
        return 2
    most = min(max(6 - math.floor(math.log10(float(values.max()))), 0), 10)
    for places in range(most):
        if np.allclose(values, np.round(values, places), rtol=1e-12, atol=0.0):
            return places
    return most


def _widest(column: Column) -> float:
    """Characters of the widest value as it is shown."""
    if column.kind == "text":
        return max((len(str(value)) for value in column.values), default=0)
    if column.kind in {"time", "day"}:
        return 16 if column.kind == "time" else 10
    known = [value for value in numbers(column) if math.isfinite(value)] if len(column.values) else []
    if not known:
        return 0
    ends = [min(known), max(known)]
    if column.kind in {"price", "qty"}:
        return max(len(f"{value:,.{decimals(column)}f}") for value in ends)
    if column.kind == "number":
        ends += known[:50]
    return max(len(shown(value, column.kind)) for value in ends)


def shown(value: float, kind: Kind) -> str:
    """About what the spreadsheet shows of a number."""
    if kind == "percent":
        return f"{value:.2%}"
    if kind == "count":
        return f"{value:,.0f}"
    if kind in {"money", "ratio"}:
        return f"{value:,.2f}"
    if kind == "fine":
        return f"{value:,.4f}"
    return f"{value:.10g}"
