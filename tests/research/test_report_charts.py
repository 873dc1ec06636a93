"""Pictures of a report: what the chat answers with, readable whatever was found."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pytest

from research.charts import draw, figure
from research.charts.sheet import PALETTES
from research.render import render
from research.report_pictures import chart, facts_of, grid_picture, pictures, stop_path, title_of, trades_picture
from research.results import Report, Result
from research.views import kept_rows, landscape, months_of, sides_of
from tests.research import samples
from tests.research.test_charts import check_layout, opened, pixels, words
from trading.errors import BadInput
from trading.indicators import Indicators
from trading.laboratory import Verdict
from trading.model import FloatArray, millis
from trading.pictures import (
    EquityPicture,
    GridPicture,
    MonthsPicture,
    Picture,
    StackPicture,
    Theme,
    drawdown,
    thinned,
)
from trading.strategy import strategy_named

THEMES: tuple[Theme, ...] = ("dark", "light")
DAY = 86_400_000
NEW_YEAR = millis(datetime(2019, 1, 1, tzinfo=UTC))
AXES = (("ema_period", (20, 40, 80)), ("sl_atr_multiplier", (1.0, 2.0, 3.0)), ("adx_min", (10.0, 30.0)))


@cache
def backtested() -> Report:
    """A backtest of 3,000 bars."""
    return samples.report()


@cache
def searched() -> Report:
    """The best of a small grid."""
    table, best = samples.grid(samples.market(900), AXES)
    return samples.report(best, grid=table, kind="optimize")


@cache
def walked() -> Report:
    """A walk-forward of four folds."""
    return samples.walk_forward(samples.market(2400))


def cut(result: Result, count: int) -> Result:
    """The same with the first trades only."""
    trades = result.trades
    fewer = replace(trades, **{name: getattr(trades, name)[:count] for name in trades.__slots__})
    return replace(result, trades=fewer)


def with_curve(curve: FloatArray, hold: FloatArray) -> EquityPicture:
    """A curve and buy-and-hold at the ends of days."""
    time = NEW_YEAR + (1 + np.arange(len(curve), dtype=np.int64)) * DAY
    return EquityPicture(title="NOT PROVEN: a curve", time=time, equity=curve, start=float(curve[0]), hold=hold)


def months(years: int, size: float) -> MonthsPicture:
    """So many years of months, some of them missing."""
    rng = np.random.default_rng(3)
    values = rng.normal(0, size, (years, 12))
    values[0, :5] = values[-1, 9:] = np.nan
    totals = np.nanprod(1 + values, axis=1) - 1
    return MonthsPicture(
        title="Return by month, %", years=tuple(range(2012, 2012 + years)), values=values, totals=totals
    )


def grid(high: int, wide: int, **changes: Any) -> GridPicture:
    """A hill over two parameters."""
    view = landscape(samples.landscape_grid(high, wide, holes=changes.pop("holes", 0.0)))
    fields: dict[str, Any] = {
        "title": "NOT PROVEN: a grid",
        "measure": "Sharpe ratio",
        "row_name": view.row_name,
        "column_name": view.column_name,
        "rows": view.rows,
        "columns": view.columns,
        "values": view.values,
        "best": view.best,
    }
    return GridPicture(**(fields | changes))


def extremes() -> dict[str, Picture]:
    """Pictures that a study may come to, however seldom."""
    days = np.arange(2500)
    rise: FloatArray = 10_000.0 * np.exp(days.astype(np.float64) / 500)
    ruin: FloatArray = np.maximum(10_000.0 - 5.0 * days, 0.0)
    long = "1000000MOGBABYDOGEUSDT"
    odd = replace(backtested(), study=replace(backtested().study, symbol=long, strategy="mean_reversion_in_ranges"))
    many = StackPicture(title="NOT PROVEN: seven years", parts=(with_curve(rise, rise[::-1]), months(8, 0.05)))
    none = np.full((4, 5), np.nan)
    return {
        "hold far above": with_curve(np.linspace(10_000.0, 11_250.0, len(days)), rise),
        "losing all": with_curve(ruin, rise),
        "hold below zero": with_curve(rise, -rise),
        "hold not finite": with_curve(rise, np.where(days == 7, np.nan, rise)),
        "constant": with_curve(np.full(300, 1e4), np.full(300, 1e4)),
        "forty folds": replace(with_curve(rise, rise), folds=tuple(NEW_YEAR + each * 50 * DAY for each in range(40))),
        "folds outside": replace(with_curve(rise, rise), folds=(0, NEW_YEAR * 9)),
        "a hundred thousand closes": with_curve(np.linspace(1e4, 2e4, 100_000), np.linspace(1e4, 3e4, 100_000)),
        "long names": chart(odd),
        "long names in trades": trades_picture(odd),
        "one trade": trades_picture(replace(backtested(), result=cut(backtested().result, 1))),
        "seven years": many,
        "one year": months(1, 0.05),
        "thirty years": replace(many, parts=(with_curve(rise, rise), months(30, 0.05))),
        "months of thousands": months(7, 30.0),
        "months of nothing": replace(months(2, 0.0), values=np.zeros((2, 12))),
        "no month at all": replace(months(2, 0.1), values=np.full((2, 12), np.nan), totals=np.full(2, np.nan)),
        "100 x 100": grid(100, 100, holes=0.1),
        "100 x 100 in a stack": StackPicture(title="grid", parts=(grid(100, 100), with_curve(rise, rise))),
        "2 x 60": grid(2, 60),
        "60 x 2": grid(60, 2),
        "one cell": grid(1, 1),
        "one row": grid(1, 9, row_name="", holes=0.3),
        "nothing defined": grid(4, 5, values=none, best=None),
        "losses only": grid(6, 6, values=-1 - np.random.default_rng(1).random((6, 6))),
        "all the same": grid(3, 3, values=np.ones((3, 3))),
        "all zero": grid(3, 3, values=np.zeros((3, 3))),
        "huge numbers": grid(3, 3, values=np.full((3, 3), 1e12), rows=(1e-9, 1.0, 1e9), percent=True),
        "long parameter": grid(5, 5, row_name="W" * 90, column_name="parameter " * 20, note="W " * 90),
    }


EXTREME = extremes()
USUAL: dict[str, Picture] = {
    f"{word} {name}": picture
    for word, report in (("backtest", backtested()), ("optimize", searched()), ("walkforward", walked()))
    for name, picture in pictures(report).items()
}


@pytest.mark.parametrize("name", [*USUAL, *EXTREME])
def test_nothing_is_cut_off_and_nothing_lies_over_something_else(name: str) -> None:
    """The usual and the extreme, in letters that a phone shows."""
    check_layout(figure((USUAL | EXTREME)[name], "dark"))


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("name", USUAL)
def test_a_picture_of_a_report_fits_a_phone(name: str, theme: Theme) -> None:
    """1080 pixels wide, at most 1280 high, in the colours of its theme."""
    content = draw(USUAL[name], theme)
    image = opened(content)
    assert image.width == 1080
    assert 200 <= image.height <= 1280
    assert pixels(content, PALETTES[theme].back) > 0.2 * math.prod(image.size)


@pytest.mark.parametrize("name", EXTREME)
def test_no_find_breaks_a_picture(name: str) -> None:
    """Warnings are errors here."""
    image = opened(draw(EXTREME[name], "light"))
    assert image.width + image.height <= 10_000


@pytest.mark.parametrize("kind", ["seven years", "100 x 100 in a stack"])
def test_a_full_answer_is_no_higher_than_a_phone(kind: str) -> None:
    """Eight calendar years of months, and a grid of 10,000 sets."""
    assert opened(draw(EXTREME[kind], "dark")).height <= 1280


# What they say


def test_the_verdict_comes_first_and_the_figures_stand_below_it() -> None:
    """Net, buy-and-hold, drawdown, profit factor, trades: as the metrics have them."""
    report = backtested()
    written = words(figure(chart(report), "dark"))
    metrics = report.result.metrics
    assert written[0].startswith("NOT PROVEN: BTCUSDT 4h")
    assert "made-up candles" in title_of(report)
    assert facts_of(report) == (
        ("Net", f"{metrics['total_return']:+.1%}"),
        ("Hold", f"{report.hold.total_return:+.1%}"),
        ("Max DD", f"{-float(metrics['max_drawdown'] or 0):.1%}"),
        ("Profit factor", f"{metrics['profit_factor']:.2f}"),
        ("Trades", str(len(report.result.trades))),
    )
    assert {text for fact in facts_of(report) for text in fact} <= set(written)
    assert {"Equity", "Buy and hold"} <= set(written)


def test_what_is_undefined_is_not_named() -> None:
    """No trade, no profit factor; no drawdown is none."""
    report = samples.report(samples.result(samples.market(400), {"adx_min": 99.0}))
    assert [name for name, _ in facts_of(report)] == ["Net", "Hold", "Max DD", "Trades"]
    assert "trades" not in pictures(report)
    assert "none" in words(figure(chart(report), "dark"))
    with pytest.raises(BadInput, match="no such trade"):
        trades_picture(report)
    with pytest.raises(BadInput, match="optimisation"):
        grid_picture(report)


def test_each_kind_of_study_has_its_parts() -> None:
    """A backtest its months, a search its landscape, a walk-forward its folds."""
    assert [type(part) for part in chart(backtested()).parts] == [EquityPicture, MonthsPicture]
    assert [type(part) for part in chart(searched()).parts] == [GridPicture, EquityPicture]
    curve = chart(walked()).parts[0]
    assert isinstance(curve, EquityPicture)
    assert len(curve.folds) == 4
    assert "Max DD" in words(figure(chart(walked()), "dark"))


def test_buying_and_holding_starts_with_the_same_money_out_of_sample() -> None:
    """Its first close differs from the start by that bar's move alone."""
    report = walked()
    assert report.walk is not None
    curve = chart(report).parts[0]
    assert isinstance(curve, EquityPicture)
    assert curve.hold is not None
    first, close = int(report.walk.rows[0]), report.result.series.close
    assert curve.hold[0] == pytest.approx(10_000 * close[first] / close[first - 1])
    assert len(curve.hold) == len(curve.equity) == len(curve.time)
    assert facts_of(report)[1] == ("Hold", f"{curve.hold[-1] / 10_000 - 1:+.1%}")


def test_curves_far_apart_share_a_logarithmic_scale() -> None:
    """And say so; so does no curve that falls to zero."""
    assert "log scale" in words(figure(EXTREME["hold far above"], "dark"))
    assert "log scale" not in words(figure(EXTREME["losing all"], "dark"))
    assert "Buy and hold" not in words(figure(EXTREME["hold not finite"], "dark"))


def test_thinning_keeps_the_extremes_of_both_curves() -> None:
    """One spike each among 100,000 closes."""
    curve, hold = np.linspace(1e4, 2e4, 100_000), np.linspace(1e4, 3e4, 100_000)
    curve[50_001], hold[70_007] = 5e3, 9e4
    kept = thinned(with_curve(curve, hold))
    assert isinstance(kept, EquityPicture)
    assert kept.hold is not None
    assert len(kept.time) == len(kept.hold) == len(kept.equity) < 9_000
    assert (kept.equity.min(), kept.hold.max()) == (5e3, 9e4)
    assert drawdown(kept.equity, 1e4).min() == drawdown(curve, 1e4).min()


def test_a_month_is_written_with_its_sign_and_a_missing_one_is_empty() -> None:
    """One decimal below ten, none above where there is no room for it."""
    picture = months(1, 0.0)
    values = np.full((1, 12), np.nan)
    values[0, :5] = 0.0123, -0.0456, 0.0, 1.234, 12.5
    written = words(figure(replace(picture, values=values, totals=np.array([0.5])), "light"))
    assert {"2012", "Jan", "Dec", "Year", "+1.2", "-4.6", "0.0", "+123", "+50.0"} <= set(written)
    assert any(text in {"+1,250", "+1k"} for text in written)
    assert len(written) == 1 + 13 + 1 + 6


def test_the_best_cell_is_framed_and_the_undefined_are_hatched() -> None:
    """And the key says what both mean."""
    drawn = figure(grid(8, 8, holes=0.2), "dark")
    assert {"best", "undefined", "ema_period", "Sharpe ratio by adx_min (up)"} <= set(words(drawn))
    assert "undefined" not in words(figure(grid(8, 8), "dark"))
    picture = grid(5, 5)
    assert picture.best is not None
    assert f"{picture.values[picture.best]:.2f}" in words(figure(picture, "dark"))


# What they are made of


def test_a_landscape_shows_the_best_over_the_other_axes() -> None:
    """Every cell is the greatest objective of the sets that share its two values."""
    table = searched().grid
    assert table is not None
    view = landscape(table)
    assert {view.row_name, view.column_name, *view.others} == set(table.names)
    at = {name: table.values[:, column] for column, name in enumerate(table.names)}
    for row, low in enumerate(view.rows):
        for column, high in enumerate(view.columns):
            sets = (at[view.row_name] == low) & (at[view.column_name] == high)
            assert view.values[row, column] == np.nanmax(table.metrics["sharpe"][sets])
    assert view.best is not None
    assert view.values[view.best] == np.nanmax(table.metrics["sharpe"])


def test_a_landscape_of_a_grid_that_was_stopped_has_holes() -> None:
    """What was not evaluated is undefined, and so is what has no objective."""
    whole = samples.landscape_grid(4, 6)
    part = replace(
        whole,
        values=whole.values[:10],
        metrics={name: values[:10] for name, values in whole.metrics.items()},
        order=np.argsort(-whole.metrics["sharpe"][:10]),
        evaluated=10,
    )
    view = landscape(part)
    assert np.isfinite(view.values).sum() == 10
    nothing = replace(part, metrics={name: np.full(10, np.nan) for name in part.metrics})
    assert landscape(nothing).best is None
    assert not np.isfinite(landscape(nothing).values).any()


def test_months_multiply_to_the_whole() -> None:
    """Months to their year, years to the total return; a month without a bar is none."""
    result = backtested().result
    found = months_of(result.series.timestamp, result.equity, 10_000.0)
    grown = np.nan_to_num(found.values) + 1
    assert np.prod(grown, axis=1) == pytest.approx(found.totals + 1)
    assert float(np.prod(found.totals + 1)) - 1 == pytest.approx(result.metrics["total_return"])
    assert np.isnan(found.values[-1, -1])


def test_months_after_ruin_are_undefined() -> None:
    """There is nothing to grow."""
    time = NEW_YEAR + np.arange(120, dtype=np.int64) * DAY
    found = months_of(time, np.where(np.arange(120) < 20, 100.0, 0.0), 100.0)
    assert found.values[0, 0] == -1.0
    assert np.isnan(found.values[0, 1:4]).all()


def test_sides_are_those_of_the_bars_with_a_position() -> None:
    """Also with a position that is still open."""
    for report in (backtested(), searched()):
        result = report.result
        assert ((sides_of(result) != 0) == result.exposed).all()


def test_kept_rows_are_few_and_hold_every_extreme() -> None:
    """Of two curves, with the rows that must be there."""
    rng = np.random.default_rng(2)
    one, two = (np.cumsum(rng.normal(0, 1, 245_431)) for _ in range(2))
    rows = kept_rows((one, two), 5_000, (77,))
    assert len(rows) <= 5_000
    assert (np.diff(rows) > 0).all()
    assert {0, 77, len(one) - 1, int(one.argmin()), int(one.argmax()), int(two.argmin()), int(two.argmax())} <= set(
        rows.tolist()
    )
    assert kept_rows((one[:10],), 5_000).tolist() == list(range(10))


def test_the_way_of_a_stop_ends_where_the_trade_did() -> None:
    """Every trade that left at its stop left at the stop that the path says, slippage aside."""
    result = backtested().result
    of, series, slip = result.trades, result.series, result.params["slippage"]
    kind = strategy_named(result.strategy)
    names = kind.parameters.names()
    strategy = kind(kind.parameters(**{name: result.params[name] for name in names}))
    distance = strategy.rules().stop_distance.make(Indicators(series))
    checked = 0
    for trade in np.flatnonzero(of.reason == 0).tolist():
        path = stop_path(result, trade, float(distance[of.signal[trade]]))
        side, row = int(of.side[trade]), int(of.exit[trade])
        assert len(path) == row - of.entry[trade] + 1
        meant = path[-1] if side * series.open[row] > side * path[-1] or len(path) == 1 else series.open[row]
        assert of.exit_price[trade] == pytest.approx(meant * (1 - side * slip), rel=1e-12)
        checked += 1
    assert checked > 20


def test_a_chosen_trade_is_shown_with_its_marks_and_stop() -> None:
    """From before its signal to after its exit."""
    report = backtested()
    picture = trades_picture(report, 5)
    stamps, of = report.result.series.timestamp, report.result.trades
    assert "trade 6 of" in picture.title
    times = {mark.time for mark in picture.marks}
    assert {int(stamps[of.entry[5]]), int(stamps[of.exit[5]])} <= times
    assert [line for line in picture.lines if line.name == "Stop"]
    with pytest.raises(BadInput, match="no such trade"):
        trades_picture(report, len(of))


def test_a_report_becomes_a_chart_and_a_workbook() -> None:
    """What the worker that renders answers with."""
    losing = replace(backtested(), verdict=Verdict(word="LOSES", reasons=("it lost",)))
    png, xlsx = render(losing, "light")
    assert opened(png).size[0] == 1080
    assert xlsx[:2] == b"PK"
