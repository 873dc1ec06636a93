"""Reductions: sums are exact, what is undefined is None, and days are those that the loss limits count."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import reports
from storage.reports import Funnel, Period, Totals
from tests.storage import samples
from trading.events import TradeClosed
from trading.model import ExitReason
from trading.portfolio import Results

AMOUNTS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30)
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=samples.ZONES)  # noqa: DTZ001
PERIODS = st.sampled_from(["day", "week", "month"])
FINITE = st.floats(-1e9, 1e9)


def a_trade(**changes: Any) -> TradeClosed:
    return dataclasses.replace(samples.closed(), **changes)


def added(trades: Iterable[TradeClosed]) -> Totals:
    totals = Totals()
    for trade in trades:
        totals.add(trade)
    return totals


TRADES = st.lists(st.builds(a_trade, pnl=AMOUNTS, fees=AMOUNTS, funding=AMOUNTS, r=FINITE), max_size=30)


@given(TRADES)
def test_money_is_summed_exactly(trades: list[TradeClosed]) -> None:
    """Not a digit is lost, whatever the amounts, and gains and losses make the result."""
    totals = added(trades)
    for name in ("pnl", "fees", "funding"):
        wanted = sum((Fraction(getattr(trade, name)) for trade in trades), Fraction(0))
        assert Fraction(getattr(totals, name)) == wanted
    assert Fraction(totals.gains) + Fraction(totals.losses) == Fraction(totals.pnl)
    assert totals.trades == len(trades)
    assert totals.wins == sum(trade.pnl > 0 for trade in trades)


@given(TRADES)
def test_the_best_and_the_worst_trade_are_found(trades: list[TradeClosed]) -> None:
    """None without a trade."""
    totals = added(trades)
    if not trades:
        assert (totals.best, totals.worst) == (None, None)
        return
    assert totals.best is not None
    assert totals.worst is not None
    assert totals.best.pnl == max(trade.pnl for trade in trades)
    assert totals.worst.pnl == min(trade.pnl for trade in trades)


def test_rates_are_undefined_without_what_they_divide_by() -> None:
    """Never 0 for what nobody knows, never infinite."""
    nothing = Totals()
    assert (nothing.win_rate, nothing.profit_factor, nothing.expectancy_r) == (None, None, None)
    won = added([a_trade(pnl=Decimal(3), r=1.5)])
    assert (won.win_rate, won.profit_factor, won.expectancy_r) == (1.0, None, 1.5)
    both = added([a_trade(pnl=Decimal(3), r=1.5), a_trade(pnl=Decimal(-2), r=-1.0), a_trade(pnl=Decimal(0), r=0.0)])
    assert both.win_rate == pytest.approx(1 / 3)
    assert both.profit_factor == 1.5
    assert both.expectancy_r == pytest.approx(0.5 / 3)


@given(MOMENTS, PERIODS)
def test_a_period_begins_in_utc_and_holds_its_moment(at: datetime, period: Period) -> None:
    """Whatever the zone in which the moment was told."""
    first = reports.first_day(at, period)
    begins = reports.midnight(first)
    assert begins <= at < begins + {"day": timedelta(1), "week": timedelta(7), "month": timedelta(31)}[period]
    assert reports.first_day(begins, period) == first
    assert {"day": True, "week": first.isocalendar().weekday == 1, "month": first.day == 1}[period]


@given(MOMENTS, PERIODS, st.integers(1, 60))
def test_the_last_periods_follow_each_other(at: datetime, period: Period, count: int) -> None:
    """Without a gap and without an overlap, the newest last."""
    days = reports.last_periods(at, period, count)
    assert len(days) == count
    assert days[-1] == reports.first_day(at, period)
    for day, following in pairwise(days):
        assert reports.first_day(reports.midnight(following) - timedelta(microseconds=1), period) == day


@given(st.lists(MOMENTS, min_size=1, max_size=20))
def test_days_are_those_of_the_loss_limits(moments: list[datetime]) -> None:
    """The report of the last day says what the book that guards it says."""
    book, tally = Results(), reports.by_period("day")
    for at in sorted(moments):
        trade = a_trade(at=at, pnl=Decimal("1.10"))
        book.add(trade.pnl, at.astimezone(UTC))
        tally.add(trade)
    last = tally.groups[reports.first_day(max(moments), "day")]
    assert (last.pnl, last.trades, last.wins) == (book.day_pnl, book.day_trades, book.day_wins)


def test_a_trade_counts_in_the_period_of_its_exit() -> None:
    """Just before and just after midnight in UTC, told in another zone."""
    east = timezone(timedelta(hours=5, minutes=30))
    late = datetime(2026, 8, 1, 5, 29, tzinfo=east)  # 31 July 23:59 UTC, a Friday
    tallies = {period: reports.by_period(period) for period in ("day", "week", "month")}
    for tally in tallies.values():
        tally.add(a_trade(at=late))
        tally.add(a_trade(at=late + timedelta(minutes=1)))
    assert list(tallies["day"].groups) == [date(2026, 7, 31), date(2026, 8, 1)]
    assert list(tallies["week"].groups) == [date(2026, 7, 27)]
    assert list(tallies["month"].groups) == [date(2026, 7, 1), date(2026, 8, 1)]


def test_groups_are_ranked_by_their_result() -> None:
    """By symbol and by exit reason, the best first, equal ones by name."""
    symbols, reasons = reports.by_symbol(), reports.by_reason()
    for symbol, pnl, reason in (
        ("BTCUSDT", 1, ExitReason.STOP),
        ("ETHUSDT", 2, ExitReason.TRAILING),
        ("ADAUSDT", 1, ExitReason.STOP),
    ):
        trade = a_trade(symbol=symbol, pnl=Decimal(pnl), exit_reason=reason)
        symbols.add(trade)
        reasons.add(trade)
    assert [name for name, _ in symbols.ranked()] == ["ETHUSDT", "ADAUSDT", "BTCUSDT"]
    assert [(name, totals.trades) for name, totals in reasons.ranked()] == [("stop", 2), ("trailing", 1)]


def test_the_drawdown_of_a_span() -> None:
    """Below an earlier peak, the value before the span among them; None where there is nothing to fall from."""
    curve = np.array([110.0, 99.0, 120.0, 90.0, 100.0])
    assert reports.drawdown(curve) == pytest.approx(0.25)
    assert reports.drawdown(curve[:2], 120.0) == pytest.approx(21 / 120)
    assert reports.drawdown(np.array([1.0, 2.0, 3.0])) == 0.0
    assert reports.drawdown(np.empty(0), 100.0) is None
    assert reports.drawdown(np.array([-5.0, -1.0])) is None
    assert reports.drawdown(np.array([1.0, np.nan])) is None


@given(st.lists(st.floats(0.01, 1e9), min_size=1, max_size=40), st.none() | st.floats(0.01, 1e9))
def test_the_drawdown_is_the_deepest_of_all_falls(values: list[float], start: float | None) -> None:
    """As the slow way finds it."""
    whole = ([start] if start is not None else []) + values
    falls = [(max(whole[: place + 1]) - value) / max(whole[: place + 1]) for place, value in enumerate(whole)]
    assert reports.drawdown(np.array(values), start) == pytest.approx(max(falls))


def test_the_funnel_adds_up() -> None:
    """Signals are what was dropped and what was decided; an edge seen again after a restart is not one more."""
    funnel = Funnel(
        dropped={"in_position": 12, "decided": 2},
        rejected={"council": 21, "guard": 8},
        outcomes={"closed": 6, "filled": 1, "cancelled": 7, "refused": 1},
    )
    assert (funnel.signals, funnel.decided, funnel.approved) == (56, 44, 15)
    assert funnel.became("filled", "closed") == 7
    assert Funnel().signals == 0


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(0, 100))))
def test_counts_are_added_up_by_name(pairs: list[tuple[str, int]]) -> None:
    """The largest first."""
    counts = reports.counted(pairs)
    assert sum(counts.values()) == sum(count for _, count in pairs)
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert set(counts) == {name for name, _ in pairs}
