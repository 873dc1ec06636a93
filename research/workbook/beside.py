"""A backtest with a council: its figures beside those without it, why it said no, and every verdict."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

import numpy as np

from research.results import Beside, Report, Ruled
from research.views import bar_ms, effect_of, kept_rows, shut_lines
from research.workbook.book import GAIN, HOLD, Book, Column, Kind, Sheet
from research.workbook.words import KINDS, MEANINGS, NAMES
from trading.pictures import deepest

MOST_ROWS: Final = 2_000  # of the curves
_MOST_REASONS: Final = 30
_CHART_ROWS: Final = 18
_WIDTHS: Final = (34, 16, 16, 16, 78)
_CURVES: Final = 26  # the column where the curves begin that feed the chart: beyond what is read
_FIGURE: Final = re.compile(r"[-+−]?\d+([.,]\d+)*(\s?%)?")
_WHO: Final = {"": "approved", "guard": "guards in code", "council": "the council", "risk": "sizing"}


def compared(book: Book, report: Report, beside: Beside) -> None:
    """Both columns of figures, what became of the candidates and why, and both curves."""
    sheet = book.sheet("Council", landscape=False)
    for at, wide in enumerate(_WIDTHS):
        sheet.page.set_column(at, at, wide)
    sheet.text(0, 0, f"With and without the {beside.council} council", "title")
    note = "The same bars and parameters. Without: no council and no limit of the account, the strategy alone."
    sheet.text(1, 0, note, "note")
    note = "Smaller sizes alone make returns and drawdowns smaller: expectancy and profit factor tell of its choices."
    sheet.text(2, 0, note, "note")
    row = _figures(sheet, 4, report, beside)
    row = _fates(sheet, row + 1, beside)
    _curves(sheet, row + 1, report, beside)
    _reasons(sheet, row + 2 + _CHART_ROWS, beside.verdicts)
    sheet.page.freeze_panes(5, 1)


def _figures(sheet: Sheet, top: int, report: Report, beside: Beside) -> int:
    own, alone = report.result, beside.alone
    rows: list[tuple[str, float | int | None, float | int | None, Kind, str]] = [
        ("Final equity USDT", float(own.equity[-1]), float(alone.equity[-1]), "money", "Equity at the last close."),
        *((NAMES[each], own.metrics[each], alone.metrics[each], KINDS[each], MEANINGS[each]) for each in NAMES),
    ]
    for at, name in enumerate(("Key figures", "With the council", "Without", "Difference", "What it means")):
        sheet.text(top, at, name, "header")
    for row, (name, here, there, kind, meaning) in enumerate(rows, top + 1):
        sheet.text(row, 0, name, "label")
        sheet.number(row, 1, here, kind, "bold")
        sheet.number(row, 2, there, kind)
        sheet.number(row, 3, None if here is None or there is None else here - there, kind)
        sheet.text(row, 4, meaning, "meaning")
    return top + 1 + len(rows)


def _fates(sheet: Sheet, top: int, beside: Beside) -> int:
    """What became of the candidates; returns the next free row."""
    effect, said = effect_of(beside), beside.verdicts
    approved = [each.size for each in said if each.approved]
    rows: tuple[tuple[str, float | None, Kind, str], ...] = (
        ("Candidates", effect.candidates, "count", "Signals while flat, on the account with the council."),
        ("Approved", len(approved), "count", "Orders were placed for them."),
        ("Of these shrunk", effect.shrunk, "count", "At less than base size."),
        ("Mean size approved", float(np.mean(approved)) if approved else None, "percent", "Of base size."),
        ("Vetoed by the council", effect.vetoed, "count", "It was asked, and said no."),
        ("Rejected by code", effect.guarded, "count", "By guards and limits of the account, or too small to be sized."),
    )
    for at, name in enumerate(("Candidates", "With the council")):
        sheet.text(top, at, name, "header")
    sheet.text(top, 4, "What it means", "header")
    for row, (name, value, kind, meaning) in enumerate(rows, top + 1):
        sheet.text(row, 0, name, "label")
        sheet.number(row, 1, value, kind, "bold")
        sheet.text(row, 4, meaning, "meaning")
    shut = (line[:1].upper() + line[1:] for line in shut_lines(effect))
    return sheet.lines(top + 1 + len(rows), shut, "bold")


def _reasons(sheet: Sheet, top: int, said: tuple[Ruled, ...]) -> None:
    """The most frequent reasons of a no: their first clause without its figures."""
    found = Counter((each.gate, reason_of(each)) for each in said if not each.approved)
    for at, name in enumerate(("Rejected by", "Candidates")):
        sheet.text(top, at, name, "header")
    sheet.text(top, 4, "First reason", "header")
    listed = found.most_common(_MOST_REASONS)
    for row, ((gate, reason), count) in enumerate(listed, top + 1):
        sheet.text(row, 0, who(gate), "label")
        sheet.number(row, 1, count, "count", "bold")
        sheet.text(row, 4, reason, "meaning")
    sheet.page.print_area(0, 0, top + len(listed), len(_WIDTHS) - 1)


def reason_of(said: Ruled) -> str:
    """The first clause of the reason, its figures left out, so that equal ones can be counted."""
    return _FIGURE.sub("…", said.reason.partition(";")[0]).rstrip(".")


def who(gate: str) -> str:
    """Who rejected a candidate, in words."""
    return _WHO.get(gate, gate)


def _curves(sheet: Sheet, top: int, report: Report, beside: Beside) -> None:
    """Both curves as columns far to the right, and their chart."""
    own, alone = report.result.equity, beside.alone.equity
    rows = kept_rows((own, alone), MOST_ROWS, deepest(own, float(report.result.params["initial_equity"])))
    closes = report.result.series.timestamp[rows] + bar_ms(report.result)
    columns = [
        Column(name="Close UTC", values=closes, kind="time"),
        Column(name="With the council USDT", values=own[rows], kind="money", width=16),
        Column(name="Without USDT", values=alone[rows], kind="money", width=16),
    ]
    end = sheet.table(0, columns, left=_CURVES)
    shape = {"left": _CURVES, "rows": (1, end - 1), "span": (int(closes[0]), int(closes[-1])), "width": 1060}
    lines = ((f"{beside.council} council", _CURVES + 1, GAIN), ("without council", _CURVES + 2, HOLD))
    sheet.curve(f"A{top + 1}", "Equity with and without the council, USDT", lines, format="#,##0", **shape)


def verdicts(book: Book, beside: Beside) -> None:
    """Every candidate with what was decided on it, in order."""
    sheet, said = book.sheet("Verdicts"), beside.verdicts
    columns = [
        Column(name="Decided at (bar's close) UTC", values=[each.time for each in said], kind="time"),
        Column(name="Side", values=["long" if each.side > 0 else "short" for each in said], kind="text"),
        Column(name="Verdict", values=["APPROVED" if each.approved else "REJECTED" for each in said], kind="text"),
        Column(name="Size of base size", values=[each.size for each in said], kind="percent"),
        Column(name="Decided by", values=[_decided_by(each) for each in said], kind="text", width=18),
        Column(name="First reason", values=[each.reason for each in said], kind="text", width=110),
    ]
    if sheet.listed(0, columns, frozen=1) == 1:
        sheet.text(1, 0, "There was no candidate.", "note")


def _decided_by(said: Ruled) -> str:
    return "the council" if said.approved else who(said.gate)
