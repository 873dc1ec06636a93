"""The workbook: read back cell by cell, reckoned again, and converted by another program."""

from __future__ import annotations

import io
import math
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl  # type: ignore[import-untyped]
import pytest
from openpyxl.worksheet.worksheet import Worksheet  # type: ignore[import-untyped]

from research.results import Report
from research.views import months_of
from research.workbook import write_workbook
from research.workbook.words import NAMES
from tests.research import samples
from trading.laboratory import Verdict
from trading.model import EPOCH
from trading.pictures import drawdown

AXES = (("ema_period", (20, 40, 80)), ("sl_atr_multiplier", (1.0, 2.0, 3.0)), ("adx_min", (10.0, 99.0)))
ALWAYS = ["Summary", "Trades", "Equity", "Monthly returns", "Exposure", "Costs", "Statistics", "Assumptions"]


@cache
def backtested() -> Report:
    """A backtest of 3,000 bars."""
    return samples.report()


@cache
def still_open() -> Report:
    """A backtest that ends with a position."""
    whole = backtested().result
    row = int(whole.trades.entry[-1]) + 1
    return samples.report(samples.result(whole.series.between(0, row + 1)))


@cache
def searched() -> Report:
    """The best of a grid in which some sets never trade."""
    table, best = samples.grid(samples.market(900), AXES)
    return samples.report(best, grid=table, kind="optimize")


@cache
def walked() -> Report:
    """A walk-forward of four folds."""
    return samples.walk_forward(samples.market(2400))


@cache
def idle() -> Report:
    """Nothing was ever traded."""
    return samples.report(samples.result(samples.market(500), {"adx_min": 99.0}))


REPORTS = {"backtest": backtested, "open": still_open, "grid": searched, "walk": walked, "idle": idle}


@cache
def opened(name: str) -> Any:
    """The workbook of a report, read back."""
    return openpyxl.load_workbook(io.BytesIO(write_workbook(REPORTS[name]())))


def column(sheet: Worksheet, name: str, top: int = 1, most: int | None = None) -> list[Any]:
    """The values below a header."""
    at = next(cell.column for cell in sheet[top] if cell.value == name)
    return [sheet.cell(row, at).value for row in range(top + 1, (most or sheet.max_row) + 1)]


def beside(sheet: Worksheet, label: str, at: int = 2) -> Any:
    """What stands in the row of a label."""
    return next(sheet.cell(row, at).value for row in range(1, sheet.max_row + 1) if sheet.cell(row, 1).value == label)


def cells(book: Any) -> Iterator[Any]:
    for sheet in book.worksheets:
        for row in sheet.iter_rows():
            yield from (cell for cell in row if cell.value is not None)


def moment(ms: int) -> datetime:
    return (EPOCH + timedelta(milliseconds=ms)).replace(tzinfo=None)


# What it holds


def test_every_sheet_is_there_in_its_order() -> None:
    """A grid and a walk-forward bring their own."""
    assert opened("backtest").sheetnames == ALWAYS
    assert opened("grid").sheetnames == [*ALWAYS[:6], "Grid", "Heatmap", *ALWAYS[6:]]
    assert opened("walk").sheetnames == [*ALWAYS[:6], "Walk-forward", *ALWAYS[6:]]


def test_the_summary_begins_with_the_verdict_and_its_reasons() -> None:
    """Then the figures beside buying and holding, each with what it means."""
    sheet, report = opened("backtest")["Summary"], backtested()
    assert sheet["A1"].value == "Backtest: ema_trend on BTCUSDT, 240 minutes, 365 days (made-up candles)"
    assert sheet["A4"].value == "NOT PROVEN"
    assert [sheet.cell(row, 1).value for row in (5, 6, 7)] == [f"• {each}" for each in report.verdict.reasons]
    for name, label in NAMES.items():
        assert beside(sheet, label) == pytest.approx(report.result.metrics[name]), name
        assert beside(sheet, label, 5), name
    assert beside(sheet, "Total return", 3) == pytest.approx(report.hold.total_return)
    assert beside(sheet, "Max drawdown", 3) == pytest.approx(report.hold.max_drawdown)


def test_evidence_stands_with_its_interval() -> None:
    """Middle, 5% and 95% end; what is unknown is empty."""
    sheet, evidence = opened("backtest")["Summary"], backtested().evidence
    rows = [row for row in range(1, sheet.max_row + 1) if sheet.cell(row, 1).value == "Total return"]
    assert evidence.total_return is not None
    wanted = [evidence.total_return.middle, evidence.total_return.low, evidence.total_return.high]
    assert [sheet.cell(rows[1], at).value for at in (2, 3, 4)] == wanted
    assert beside(sheet, "Overfitting probability") is None
    assert beside(sheet, "Look-ahead check") == "sound"
    found = replace(backtested(), evidence=replace(evidence, look_ahead="row 7 changed"))
    again = openpyxl.load_workbook(io.BytesIO(write_workbook(found)))["Summary"]
    assert (beside(again, "Look-ahead check"), beside(again, "Look-ahead check", 5)) == ("FAILED", "row 7 changed")


@pytest.mark.parametrize("name", ["backtest", "grid", "open", "walk"])
def test_the_trades_add_up_to_the_metrics(name: str) -> None:
    """Net to the balance, costs to the costs, wins to the win rate, R to the expectancy."""
    sheet, report = opened(name)["Trades"], REPORTS[name]()
    result, metrics = report.result, report.result.metrics
    net, r = column(sheet, "Net USDT"), column(sheet, "R multiple")
    held = result.open_position or {"unrealised": 0.0, "fees": 0.0, "funding": 0.0}
    floating = held["unrealised"] - held["fees"] - held["funding"]
    assert len(net) == metrics["trades"]
    assert math.fsum(net) + floating == pytest.approx((metrics["total_return"] or 0.0) * 10_000, rel=1e-9)
    assert math.fsum(column(sheet, "Fees USDT")) + held["fees"] == pytest.approx(metrics["fees"], rel=1e-9)
    assert math.fsum(column(sheet, "Funding USDT")) + held["funding"] == pytest.approx(metrics["funding"], rel=1e-9)
    assert sum(each > 0 for each in net) / len(net) == pytest.approx(metrics["win_rate"])
    assert math.fsum(r) / len(r) == pytest.approx(metrics["expectancy_r"], rel=1e-9)
    gains, losses = (math.fsum(each for each in net if sign * each > 0) for sign in (1, -1))
    assert gains / -losses == pytest.approx(metrics["profit_factor"], rel=1e-9)


def test_every_trade_adds_up_in_its_row() -> None:
    """Gross less costs is net; the balance runs; notional, exposure and times are those of its fills."""
    sheet, result = opened("backtest")["Trades"], backtested().result
    of, stamps = result.trades, result.series.timestamp
    names = ("Gross USDT", "Fees USDT", "Funding USDT", "Slippage USDT", "Net USDT", "Balance after USDT")
    gross, fees, funding, slippage, net, balance = (np.array(column(sheet, name)) for name in names)
    assert gross - fees - funding - slippage == pytest.approx(net)
    assert balance == pytest.approx(10_000 + np.cumsum(of.pnl))
    assert column(sheet, "Notional USDT") == pytest.approx(of.qty * of.entry_price)
    share = np.array(column(sheet, "Notional / equity")) * np.concatenate(([10_000.0], balance[:-1]))
    assert share == pytest.approx(of.qty * of.entry_price)
    assert column(sheet, "Entry bar UTC") == [moment(int(each)) for each in stamps[of.entry]]
    assert column(sheet, "Bars held") == (of.exit - of.entry).tolist()
    assert set(column(sheet, "Side")) == {"long", "short"}
    assert set(column(sheet, "Exit reason")) <= {"stop", "take profit", "trailing", "signal"}


def test_the_equity_sheet_has_every_close_of_a_short_study() -> None:
    """With drawdown and buy-and-hold, and native charts over it."""
    book, report = opened("backtest"), backtested()
    sheet, curve = book["Equity"], report.result.equity
    assert column(sheet, "Equity USDT") == pytest.approx(curve)
    assert column(sheet, "Drawdown") == pytest.approx(drawdown(curve, 10_000.0))
    assert column(sheet, "Buy and hold USDT") == pytest.approx(report.hold.equity)
    assert column(sheet, "Close UTC")[0] == moment(int(report.result.series.timestamp[0]) + 4 * 3_600_000)
    charts = {name: len(book[name]._charts) for name in book.sheetnames}
    assert (charts["Summary"], charts["Equity"]) == (1, 2)
    assert sheet["G1"].value == "3,000 of 3,000 closes: every one."


def test_a_long_curve_is_thinned_without_losing_its_extremes() -> None:
    """And the sheet says that it was."""
    report = samples.many_trades(5_000)
    sheet = openpyxl.load_workbook(io.BytesIO(write_workbook(report)))["Equity"]
    curve, hold = report.result.equity, report.hold.equity
    shown, held, falls = (column(sheet, name) for name in ("Equity USDT", "Buy and hold USDT", "Drawdown"))
    assert len(shown) <= 4_000 < len(curve)
    assert (min(shown), max(shown), shown[-1]) == pytest.approx((curve.min(), curve.max(), curve[-1]))
    assert (min(held), max(held), held[-1]) == pytest.approx((hold.min(), hold.max(), hold[-1]))
    assert min(falls) == pytest.approx(drawdown(curve, 1e6).min())
    assert f"of {len(curve):,} closes" in sheet["G1"].value


def test_months_stand_as_a_table_of_years() -> None:
    """A month without a bar is an empty cell."""
    sheet, result = opened("backtest")["Monthly returns"], backtested().result
    found = months_of(result.series.timestamp, result.equity, 10_000.0)
    for row, (values, total) in enumerate(zip(found.values.tolist(), found.totals.tolist(), strict=True), 6):
        shown = [sheet.cell(row, at).value for at in range(2, 15)]
        wanted = [None if math.isnan(value) else pytest.approx(value) for value in (*values, total)]
        assert shown == wanted
    assert sheet.conditional_formatting


def test_costs_lead_from_gross_to_net() -> None:
    """The bridge, the months and what an open position has paid."""
    for name in ("backtest", "open"):
        sheet, trades = opened(name)["Costs"], REPORTS[name]().result.trades
        values = [beside(sheet, each) for each in ("Gross profit", "Fees", "Funding", "Slippage")]
        assert math.fsum(values) == pytest.approx(beside(sheet, "Net profit"))
        assert beside(sheet, "Net profit") == pytest.approx(trades.pnl.sum())
        assert beside(sheet, "All", 7) == pytest.approx(trades.pnl.sum())
        assert beside(sheet, "Fees", 5) == pytest.approx(-trades.fees.mean())
    notes = [cell.value for cell in opened("open")["Costs"]["A"] if cell.value]
    assert any("were not closed have paid" in note for note in notes)


def test_shares_of_time_add_up() -> None:
    """Long, short and flat are a whole in every month; together they are the exposure."""
    sheet, result = opened("backtest")["Exposure"], backtested().result
    top = next(row for row in range(5, 20) if sheet.cell(row, 1).value == "Month")
    for row in range(top + 1, sheet.max_row + 1):
        assert math.fsum(sheet.cell(row, at).value for at in (2, 3, 4)) == pytest.approx(1.0)
    assert beside(sheet, "Both") == pytest.approx(result.metrics["exposure"])
    assert beside(sheet, "Both", 5) == int((result.trades.exit - result.trades.entry).max())


def test_the_grid_shows_its_best_sets_first_and_leaves_the_undefined_empty() -> None:
    """With parameters and all metrics, in the order of the table."""
    sheet, table = opened("grid")["Grid"], searched().grid
    assert table is not None
    count = table.evaluated + 1
    assert column(sheet, "ema_period", most=count) == table.values[table.order, 0].tolist()
    wanted = table.metrics["sharpe"][table.order]
    shown = column(sheet, "Sharpe ratio", most=count)
    assert shown == [None if math.isnan(each) else pytest.approx(each) for each in wanted.tolist()]
    assert None in shown
    heat = opened("grid")["Heatmap"]
    assert heat["A1"].value.startswith("Sharpe ratio over ")
    numbers = [cell.value for row in heat.iter_rows(min_row=5, min_col=2) for cell in row if cell.value is not None]
    assert max(numbers) == pytest.approx(np.nanmax(wanted))


def test_no_more_than_a_thousand_sets() -> None:
    """Of a grid of 10,000; the heatmap holds them all."""
    report = replace(backtested(), grid=samples.landscape_grid(100, 100, holes=0.2))
    book = openpyxl.load_workbook(io.BytesIO(write_workbook(report)))
    assert sum(each is not None for each in column(book["Grid"], "Rank")[:1001]) == 1_000
    assert (book["Heatmap"].max_row, book["Heatmap"].max_column) == (104, 101)


def test_a_walk_forward_shows_what_each_fold_chose() -> None:
    """Training and test beside each other, and the joined metrics below."""
    sheet, walk = opened("walk")["Walk-forward"], walked().walk
    assert walk is not None
    assert column(sheet, "ema_period", most=5) == [fold.chosen["ema_period"] for fold in walk.folds]
    assert column(sheet, "Test sharpe ratio", most=5) == pytest.approx([fold.test["sharpe"] for fold in walk.folds])
    assert beside(sheet, "Total return", 3) == pytest.approx(walk.metrics["total_return"])


def test_a_walk_forward_speaks_of_the_bars_on_which_nothing_was_chosen() -> None:
    """Curve, buy-and-hold, months and shares of time leave the first training out."""
    book, report = opened("walk"), walked()
    assert report.walk is not None
    first, stamps = int(report.walk.rows[0]), report.result.series.timestamp
    assert column(book["Equity"], "Equity USDT") == pytest.approx(report.walk.equity)
    assert column(book["Equity"], "Close UTC")[0] == moment(int(stamps[first]) + 4 * 3_600_000)
    close = report.result.series.close
    held = close[int(report.walk.rows[-1])] / close[first - 1] - 1
    assert beside(book["Summary"], "Total return", 3) == pytest.approx(held)
    assert beside(book["Exposure"], "Both") == pytest.approx(report.walk.metrics["exposure"])
    assert column(book["Trades"], "Entry bar UTC")[0] == moment(int(stamps[report.result.trades.entry[0]]))
    assert beside(book["Costs"], "Net profit") == pytest.approx(report.result.trades.pnl.sum())


def test_every_assumption_is_told() -> None:
    """All parameters, the fingerprints, the source of funding, what is not modelled, the versions."""
    sheet, report = opened("backtest")["Assumptions"], backtested()
    for name, value in report.result.params.items():
        assert beside(sheet, name) == pytest.approx(value), name
    assert beside(sheet, "Fingerprint of the candles") == report.data_fingerprint
    assert beside(sheet, "Fingerprint of the parameters") == report.params_fingerprint
    assert beside(sheet, "Of these without a rate of their own") == 123
    assert beside(sheet, "Funding") == "the constant funding_rate"
    assert beside(sheet, "vectorbt") == "1.2.0"
    assert any("Liquidation" in str(cell.value) for cell in sheet["A"])


# How it is made


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_undefined_is_shown_as_a_number(name: str) -> None:
    """No error value, no infinity, no formula anywhere."""
    for cell in cells(opened(name)):
        assert cell.data_type in {"n", "s", "d"}, cell
        assert not (isinstance(cell.value, float) and not math.isfinite(cell.value)), cell


def test_a_study_without_trades_leaves_its_metrics_empty() -> None:
    """Win rate, profit factor and expectancy do not exist."""
    sheet = opened("idle")["Summary"]
    assert [beside(sheet, label) for label in ("Win rate", "Profit factor", "Expectancy, R")] == [None] * 3
    assert beside(sheet, "Trades") == 0
    assert opened("idle")["Trades"]["A2"].value == "No trade was closed."
    assert beside(opened("idle")["Exposure"], "Both", 5) is None


EVIL = ("=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x")', "http://x.example", "\t=1", "{=1}", "a\x00b\ud800")


@pytest.mark.parametrize("text", EVIL)
def test_no_text_becomes_a_formula_or_a_link(text: str) -> None:
    """Symbols, reasons, notes and statistics stay what they are, whatever they begin with."""
    report = backtested()
    table = replace(samples.landscape_grid(3, 3), names=(text, "b"))
    evil = replace(
        report,
        study=replace(report.study, symbol=text),
        verdict=Verdict(word="LOSES", reasons=(text,)),
        notes=(text,),
        statistics=((text, text),),
        versions=((text, text),),
        data_fingerprint=text,
        grid=table,
    )
    book = openpyxl.load_workbook(io.BytesIO(write_workbook(evil)))
    assert {cell.data_type for cell in cells(book)} <= {"n", "s", "d"}
    assert [cell for cell in cells(book) if cell.hyperlink] == []
    if text.isprintable():
        assert book["Statistics"]["B2"].value == text
        assert beside(book["Assumptions"], "Symbol") == text


def test_times_have_no_zone_and_headers_name_it() -> None:
    """A bar's open as it is in UTC."""
    for name in ("backtest", "walk"):
        for sheet in opened(name).worksheets:
            for row in sheet.iter_rows():
                for cell in row:
                    if isinstance(cell.value, datetime):
                        assert cell.value.tzinfo is None
                        assert "UTC" in str(sheet.cell(1, cell.column).value)


def test_tables_can_be_read_filtered_and_printed() -> None:
    """Frozen headers, filters, the header on every page, one page wide, numbers in their formats."""
    for name, tables in (("backtest", ["Trades", "Equity"]), ("grid", ["Grid"]), ("walk", ["Walk-forward"])):
        for table in tables:
            sheet = opened(name)[table]
            assert sheet.freeze_panes.endswith("2")
            assert sheet.auto_filter.ref.startswith("A1:")
            assert sheet.print_title_rows == "$1:$1"
            assert (sheet.page_setup.fitToWidth, sheet.page_setup.paperSize) in {(1, 9), (None, 9)}
            assert sheet.sheet_properties.pageSetUpPr.fitToPage
    formats = {sheet["B2"].number_format for sheet in [opened("backtest")["Equity"]]}
    assert formats == {"#,##0.00"}
    assert opened("backtest")["Equity"]["C2"].number_format == "0.00%"


def test_every_column_is_wide_enough() -> None:
    """For its values as they are formatted, and for each word of its header."""
    for name, table in (("backtest", "Trades"), ("grid", "Grid"), ("walk", "Walk-forward")):
        sheet = opened(name)[table]
        for cell in sheet[1]:
            width = sheet.column_dimensions[cell.column_letter].width
            assert max(len(word) for word in str(cell.value).split()) < width, cell.value


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
def test_another_program_reads_it_without_a_complaint(tmp_path: Path) -> None:
    """LibreOffice makes pages of every workbook and says nothing but so."""
    names: Sequence[str] = ("backtest", "grid", "walk", "idle")
    for name in names:
        (tmp_path / f"{name}.xlsx").write_bytes(write_workbook(REPORTS[name]()))
    command = [
        "soffice",
        f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}",
        "--headless",
        "--convert-to",
        "pdf",
    ]
    done = subprocess.run(
        [*command, *(f"{name}.xlsx" for name in names)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    complaints = [line for line in done.stderr.splitlines() if line and "javaldx" not in line]  # no Java is needed
    assert complaints == []
    assert [(tmp_path / f"{name}.pdf").stat().st_size > 20_000 for name in names] == [True] * len(names)


def test_ten_thousand_trades_are_written_whole() -> None:
    """Every one of them, their sum, and a file of a few megabytes."""
    report = samples.many_trades(10_000)
    content = write_workbook(report)
    assert len(content) < 5_000_000
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
    sheet = openpyxl.load_workbook(io.BytesIO(content), read_only=True)["Trades"]
    rows = list(sheet.iter_rows(min_row=2, values_only=True))
    assert len(rows) == 10_000
    assert math.fsum(row[18] for row in rows) == pytest.approx(float(report.result.trades.pnl.sum()), rel=1e-9)
