"""A report as files: its chart (PNG) and its workbook (xlsx). Only a worker calls this: matplotlib is heavy."""

from __future__ import annotations

from research.charts import draw
from research.report_pictures import chart
from research.results import Report
from research.workbook import write_workbook
from trading.pictures import Theme


def render(report: Report, theme: Theme) -> tuple[bytes, bytes]:
    """The chart in a theme, and the workbook."""
    return draw(chart(report), theme), write_workbook(report)
