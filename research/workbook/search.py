"""What was searched: the best sets of a grid, its landscape, the folds of a walk-forward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from research.results import GridTable, Report, WalkForward
from research.views import METRIC_OF, bar_ms, landscape
from research.workbook.book import Book, Column, Kind
from research.workbook.words import KINDS, NAMES

MOST_SETS: Final = 1_000


def grid(book: Book, table: GridTable) -> None:
    """The best sets with their parameters and metrics."""
    rows = table.order[:MOST_SETS]
    sheet = book.sheet("Grid")
    columns = [
        Column(name="Rank", values=np.arange(1, len(rows) + 1), kind="count"),
        *(Column(name=name, values=table.values[rows, at]) for at, name in enumerate(table.names)),
        *(_metric(name, values[rows]) for name, values in table.metrics.items()),
    ]
    end = sheet.listed(0, columns, frozen=1 + len(table.names))
    note = f"{len(rows):,} of {table.evaluated:,} sets evaluated ({table.combinations:,} in the grid, "
    note += f"{table.seconds:,.1f} s), ranked by {_objective(table).lower()}."
    sheet.text(end + 1, 0, note, "note")
    names = [column.name for column in columns]
    for name in dict.fromkeys((METRIC_OF[table.objective], "total_return", "max_drawdown")):
        if name in table.metrics and end > 2:
            at = names.index(NAMES.get(name, name))
            sheet.colours(1, at, end - 1, at, costs=name == "max_drawdown")


def _metric(name: str, values: Any) -> Column:
    return Column(name=NAMES.get(name, name), values=values, kind=KINDS.get(name, "ratio"))


def _objective(table: GridTable) -> str:
    return NAMES[METRIC_OF[table.objective]]


def heatmap(book: Book, table: GridTable) -> None:
    """The objective over the two axes along which it differs most, the best over all the others."""
    view = landscape(table)
    sheet = book.sheet("Heatmap")
    axes = " and ".join(name for name in (view.column_name, view.row_name) if name)
    sheet.text(0, 0, f"{_objective(table)} over {axes}", "title")
    others = f"; each cell is the best over {', '.join(view.others)}" if view.others else ""
    note = f"Columns: {view.column_name}. Rows: {view.row_name or 'none'}{others}. Hatched: undefined."
    sheet.text(1, 0, note, "note")
    kind: Kind = KINDS[METRIC_OF[table.objective]]
    for at, value in enumerate(view.columns, 1):
        sheet.number(3, at, value, "number", "header")
    sheet.text(3, 0, f"{view.row_name} \\ {view.column_name}".strip(" \\"), "header")
    for row, value in enumerate(view.rows, 4):
        if view.row_name:
            sheet.number(row, 0, value, "number", "header")
        for at, cell in enumerate(view.values[row - 4].tolist(), 1):
            sheet.number(row, at, cell, kind)
    sheet.page.set_row(3, 32)
    sheet.page.set_column(0, 0, max(len(view.row_name), len(view.column_name), 8) + 4)
    sheet.page.set_column(1, len(view.columns), 9)
    sheet.colours(4, 1, 3 + len(view.rows), len(view.columns))
    for row, at in np.argwhere(~np.isfinite(view.values)).tolist():
        sheet.page.write_blank(4 + row, 1 + at, None, book.style("undefined"))
    if view.best is not None:
        row, at = view.best
        value = float(view.values[row, at])
        sheet.number(4 + row, 1 + at, value, kind, "", bold=True, border=5, border_color="#131a22")
    sheet.page.freeze_panes(4, 1)


def walk_forward(book: Book, report: Report, walk: WalkForward) -> None:
    """Every fold with what it chose and how that did, then the joined result."""
    sheet = book.sheet("Walk-forward")
    joined = [("Embargo, bars", walk.embargo, "count"), ("Folds", len(walk.folds), "count")]
    stamps, length = report.result.series.timestamp, bar_ms(report.result)
    ends = np.append(stamps, stamps[-1] + length)
    folds = walk.folds
    chosen = list(dict.fromkeys(name for fold in folds for name in fold.chosen))
    columns = [
        Column(name="Fold", values=np.arange(1, len(folds) + 1), kind="count"),
        *(
            Column(name=f"{name} UTC", values=ends[[getattr(fold, of) for fold in folds]], kind="time")
            for name, of in (
                ("Train from", "train_from"),
                ("Train to", "train_to"),
                ("Test from", "test_from"),
                ("Test to", "test_to"),
            )
        ),
        *(Column(name=name, values=[fold.chosen.get(name) for fold in folds]) for name in chosen),
        *(column for word in ("train", "test") for column in _compared(walk, word)),
    ]
    end = sheet.listed(0, columns)
    sheet.text(end + 1, 0, "Out of sample, joined", "heading")
    top = end + 2
    for row, (name, value, kind) in enumerate([*_listed(walk.metrics), *joined], top):
        sheet.text(row, 0, name)
        sheet.number(row, 2, value, kind)  # type: ignore[arg-type]


def _compared(walk: WalkForward, word: str) -> list[Column]:
    names = ("sharpe", "total_return", "max_drawdown", "profit_factor", "trades")
    return [
        Column(
            name=f"{word.capitalize()} {NAMES[name].lower()}",
            values=[getattr(fold, word).get(name) for fold in walk.folds],
            kind=KINDS[name],
        )
        for name in names
    ]


def _listed(metrics: Mapping[str, float | int | None]) -> list[tuple[str, float | int | None, str]]:
    return [(NAMES.get(name, name), value, KINDS.get(name, "ratio")) for name, value in metrics.items()]
