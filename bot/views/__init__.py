"""Longer answers as HTML: pure functions from a picture of the state. Tables are at most 34 columns wide.

Every first line carries the whole news and begins with the badge; values from outside are escaped and capped.
"""

from __future__ import annotations

from bot.views.account import Paid, balance_view, orders_view, status_view
from bot.views.council import advice_view, grade_caption, grade_view, mode_change, modes_view, no_grade_view
from bot.views.decisions import verdicts_view, why_view, whynot_view
from bot.views.program import health_view, logs_view, version_view
from bot.views.results import (
    Course,
    Span,
    chart_view,
    equity_view,
    performance_view,
    periods_view,
    profit_view,
    trade_view,
    trades_view,
)
from bot.views.table import WIDTH

__all__ = [
    "WIDTH",
    "Course",
    "Paid",
    "Span",
    "advice_view",
    "balance_view",
    "chart_view",
    "equity_view",
    "grade_caption",
    "grade_view",
    "health_view",
    "logs_view",
    "mode_change",
    "modes_view",
    "no_grade_view",
    "orders_view",
    "performance_view",
    "periods_view",
    "profit_view",
    "status_view",
    "trade_view",
    "trades_view",
    "verdicts_view",
    "version_view",
    "why_view",
    "whynot_view",
]
