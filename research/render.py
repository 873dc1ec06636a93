"""A report or a grade as files: chart (PNG) and workbook (xlsx). Only a worker calls this: matplotlib is heavy."""

from __future__ import annotations

from collections.abc import Sequence

from research.charts import draw
from research.charts.council import CouncilPicture
from research.grade import curves, grade
from research.report_pictures import chart
from research.results import Report
from research.workbook import write_workbook
from research.workbook.council import write_grade
from trading.grades import Grade, Judged
from trading.pictures import Theme


def render(report: Report, theme: Theme) -> tuple[bytes, bytes]:
    """The chart in a theme, and the workbook."""
    return draw(chart(report), theme), write_workbook(report)


def graded(rows: Sequence[Judged], title: str, theme: Theme) -> tuple[Grade, bytes, bytes]:
    """The grade of a council, its chart and its workbook; `BadInput` as `research.grade.grade` says."""
    found = grade(rows)
    picture = CouncilPicture(title=title, grade=found, curves=curves(rows))
    return found, draw(picture, theme), write_grade(found, rows, title)
