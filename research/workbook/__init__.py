"""The Excel file of a study: everything behind its verdict, to be read, filtered and reckoned again.

Only the worker that renders imports this package: xlsxwriter never stands in the bot's own process.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

from research.results import Report
from research.views import tested
from research.workbook.beside import compared, verdicts
from research.workbook.book import Book
from research.workbook.ledger import costs, equity, exposure, monthly, trades
from research.workbook.search import grid, heatmap, walk_forward
from research.workbook.summary import assumptions, statistics, summary


def write_workbook(report: Report) -> bytes:
    """The report as an xlsx file: the verdict first, then trades, curve, months, costs, search and assumptions.

    Sums of its trades are the metrics; what is undefined is an empty cell. 10,000 trades take about a second.
    """
    with _uncollected():
        return _written(Book(), report)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage: a quarter of a million cells are no cycles, and looking takes a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _written(book: Book, report: Report) -> bytes:
    front, shown = book.sheet("Summary", landscape=False, pages=1), tested(report)
    trades(book, report)
    rows = equity(book, shown)
    summary(front, shown, rows)
    monthly(book, shown)
    exposure(book, shown)
    costs(book, shown)
    if report.beside is not None:
        compared(book, report, report.beside)
        verdicts(book, report.beside)
    if report.grid is not None:
        grid(book, report.grid)
        heatmap(book, report.grid)
    if report.walk is not None:
        walk_forward(book, report, report.walk)
    if report.statistics:
        statistics(book, report)
    assumptions(book, report)
    return book.finished()
