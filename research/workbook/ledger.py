"""What happened: trades, equity, months, time in the market, costs."""

from __future__ import annotations

from typing import Final

import numpy as np

from research.results import REASONS, Report, Result
from research.views import (
    Books,
    Months,
    bar_ms,
    books_of,
    gross_of,
    kept_rows,
    month_numbers,
    months_of,
    sides_of,
)
from research.workbook.book import GAIN, HOLD, LOSS, Book, Column, Kind, Sheet
from trading.model import BoolArray, FloatArray, IntArray
from trading.pictures import deepest, drawdown

MOST_ROWS: Final = 4_000  # of the equity sheet
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_WORDS: Final = np.array([reason.replace("_", " ") for reason in REASONS])


# Trades


def trades(book: Book, report: Report) -> None:
    """Every closed trade in the order of closing, with its exposure, R, costs and the balance after it."""
    result, of = report.result, report.result.trades
    stamps, notional = result.series.timestamp, of.qty * of.entry_price
    before = result.equity[of.signal]  # nothing is open at a signal: this is the cash
    after = before + of.pnl
    share = np.divide(notional, before, out=np.full(len(of), np.nan), where=before > 0)
    sheet = book.sheet("Trades")
    columns = [
        Column(name="No.", values=np.arange(1, len(of) + 1), kind="count"),
        Column(name="Side", values=np.where(of.side > 0, "long", "short"), kind="text"),
        Column(name="Signal bar UTC", values=stamps[of.signal], kind="time"),
        Column(name="Entry bar UTC", values=stamps[of.entry], kind="time"),
        Column(name="Exit bar UTC", values=stamps[of.exit], kind="time"),
        Column(name="Bars held", values=of.exit - of.entry, kind="count"),
        Column(name="Entry price", values=of.entry_price, kind="price"),
        Column(name="First stop", values=of.stop, kind="price"),
        Column(name="Exit price", values=of.exit_price, kind="price"),
        Column(name="Exit reason", values=_WORDS[of.reason], kind="text"),
        Column(name="Quantity", values=of.qty, kind="qty"),
        Column(name="Notional USDT", values=notional, kind="money"),
        Column(name="Notional / equity", values=share, kind="percent"),
        Column(name="R multiple", values=of.r, kind="ratio"),
        Column(name="Gross USDT", values=gross_of(result), kind="money"),
        Column(name="Fees USDT", values=of.fees, kind="money"),
        Column(name="Funding USDT", values=of.funding, kind="money"),
        Column(name="Slippage USDT", values=of.slippage, kind="money"),
        Column(name="Net USDT", values=of.pnl, kind="money"),
        Column(name="Balance after USDT", values=after, kind="money"),
    ]
    end = sheet.listed(0, columns, frozen=2)
    if end == 1:
        sheet.text(1, 0, "No trade was closed.", "note")
        return
    net = [column.name for column in columns].index("Net USDT")
    for test, colour in ((">", GAIN), ("<", LOSS)):
        rule = {"type": "cell", "criteria": test, "value": 0, "format": book.book.add_format({"font_color": colour})}
        sheet.page.conditional_format(1, net, end - 1, net, rule)


# Equity


def equity(book: Book, report: Report) -> int:
    """The marked equity with drawdown and buy-and-hold, thinned; returns the number of rows."""
    result, hold = report.result, report.hold
    initial, count = float(result.params["initial_equity"]), len(result.series)
    rows = kept_rows((result.equity, hold.equity), MOST_ROWS, deepest(result.equity, initial))
    fall = drawdown(result.equity, initial)
    sheet = book.sheet("Equity", landscape=False)
    closes = result.series.timestamp[rows] + bar_ms(result)
    end = sheet.listed(
        0,
        [
            Column(name="Close UTC", values=closes, kind="time"),
            Column(name="Equity USDT", values=result.equity[rows], kind="money", width=16),
            Column(name="Drawdown", values=fall[rows], kind="percent", width=12),
            Column(name="Buy and hold USDT", values=hold.equity[rows], kind="money", width=18),
            Column(name="In position", values=result.exposed[rows].astype(np.float64), kind="count", width=10),
        ],
    )
    note = f"{len(rows):,} of {count:,} closes: "
    note += "every one." if len(rows) == count else "of each stretch the first, the highest and the lowest are kept."
    sheet.text(0, 6, note, "note")
    shape = {"rows": (1, end - 1), "span": (int(closes[0]), int(closes[-1]))}
    sheet.curve("G3", "Equity and buy and hold, USDT", EQUITY_LINES, format="#,##0", **shape)
    sheet.curve("G21", "Drawdown", (("Drawdown", 2, LOSS),), format="0%", **shape)
    sheet.page.print_area(0, 0, min(end, 50) - 1, 17)
    sheet.page.set_landscape()
    return len(rows)


EQUITY_LINES: Final = (("Equity", 1, GAIN), ("Buy and hold", 3, HOLD))


# Months


def monthly(book: Book, report: Report) -> None:
    """Returns by calendar month, of the strategy and of buying and holding."""
    result = report.result
    initial, time = float(result.params["initial_equity"]), result.series.timestamp
    sheet = book.sheet("Monthly returns")
    own, hold = months_of(time, result.equity, initial), months_of(time, report.hold.equity, initial)
    sheet.text(0, 0, "Returns by calendar month (UTC)", "title")
    note = "Marked equity at the last close of a bar that opened in the month, against that of the month before."
    sheet.text(1, 0, note, "note")
    free = _months(sheet, 3, "Strategy", own)
    _months(sheet, free + 1, "Buy and hold", hold)
    sheet.page.freeze_panes(0, 1)


def _months(sheet: Sheet, top: int, heading: str, months: Months) -> int:
    sheet.text(top, 0, heading, "heading")
    columns = [Column(name="Year", values=[str(year) for year in months.years], kind="text", width=10)]
    for month, name in enumerate(MONTHS):
        columns.append(Column(name=name, values=months.values[:, month], kind="percent", width=9.5))
    columns.append(Column(name="Year total", values=months.totals, kind="percent", width=12))
    end = sheet.table(top + 1, columns)
    sheet.colours(top + 2, 1, end - 1, 12)
    sheet.colours(top + 2, 13, end - 1, 13)
    return end


# Exposure


def exposure(book: Book, report: Report) -> None:
    """How much of the time was spent long, short and flat, by side and by month."""
    result = report.result
    sheet, sides = book.sheet("Exposure"), sides_of(result)
    sheet.text(0, 0, "Time in the market", "title")
    note = "Shares of all closes; a bar counts for the position with which it closes."
    sheet.text(1, 0, note, "note")
    every = np.ones(len(result.trades), np.bool_)
    groups = (("Long", result.trades.side > 0), ("Short", result.trades.side < 0), ("Both", every))
    free = sheet.table(3, _by_side(result, groups))
    if result.open_position is not None or report.walk is not None:
        sheet.text(free, 0, _NOT_CLOSED, "note")
    numbers = month_numbers(result.series.timestamp)
    sheet.text(free + 2, 0, "By month", "heading")
    top = free + 3
    months = np.unique(numbers)
    states = (("Long", sides > 0), ("Short", sides < 0), ("Flat", ~result.exposed))
    shares = {word: _share(numbers, months, state) for word, state in states}
    opened = np.array([np.sum(numbers[result.trades.entry] == month) for month in months], np.float64)
    columns = [
        Column(name="Month", values=[_month(month) for month in months.tolist()], kind="text"),
        *(Column(name=word, values=share, kind="percent") for word, share in shares.items()),
        Column(name="Trades opened", values=opened, kind="count"),
    ]
    end = sheet.table(top, columns, widths=False)
    for at in (1, 2, 3):
        bar = {"type": "data_bar", "bar_color": _BARS[at - 1], "max_type": "num"}
        sheet.page.conditional_format(top + 1, at, end - 1, at, bar | {"max_value": 1, "min_type": "num"})


_NOT_CLOSED: Final = (
    "A position that is open after the last bar or at a fold's end counts in the shares, not as a trade."
)
_NOTHING: Final = 0.005  # USDT
_BARS: Final = ("#9ad5cd", "#f3b09b", "#cfd6dd")


def _month(number: int) -> str:
    return f"{1970 + number // 12}-{number % 12 + 1:02d}"


def _share(numbers: IntArray, months: IntArray, state: BoolArray) -> FloatArray:
    """Of the bars of each month, the share for which something held."""
    places = np.searchsorted(months, numbers)
    return np.bincount(places, weights=state, minlength=len(months)) / np.bincount(places, minlength=len(months))


def _by_side(result: Result, groups: tuple[tuple[str, BoolArray], ...]) -> list[Column]:
    of, sides = result.trades, sides_of(result)
    days = bar_ms(result) / 86_400_000
    held, notional = (of.exit - of.entry).astype(np.float64), of.qty * of.entry_price
    shares = (np.mean(sides > 0), np.mean(sides < 0), np.mean(result.exposed))

    def each(values: FloatArray, how: str) -> list[float | None]:
        return [float(getattr(np, how)(values[rows])) if rows.any() else None for _, rows in groups]

    longest = each(held, "max")
    return [
        Column(name="Side", values=[name for name, _ in groups], kind="text", width=14),
        Column(name="Share of time", values=shares, kind="percent", width=12),
        Column(name="Trades", values=[int(rows.sum()) for _, rows in groups], kind="count", width=10),
        Column(name="Mean bars held", values=each(held, "mean"), kind="ratio", width=12),
        Column(name="Longest, bars", values=longest, kind="count", width=12),
        Column(name="Longest, days", values=[v and v * days for v in longest], kind="ratio", width=12),
        Column(name="Mean notional USDT", values=each(notional, "mean"), kind="money", width=16),
        Column(name="Largest notional USDT", values=each(notional, "max"), kind="money", width=16),
        Column(name="Net USDT", values=[float(of.pnl[rows].sum()) for _, rows in groups], kind="money", width=14),
    ]


# Costs


def costs(book: Book, report: Report) -> None:
    """From the gross profit to the net one, whole, per trade and per month of closing."""
    result = report.result
    sheet, whole = book.sheet("Costs"), books_of(result)
    sheet.text(0, 0, "From gross to net", "title")
    sheet.text(1, 0, "Closed trades. Funding is positive when it was paid, negative when it was received.", "note")
    free = sheet.table(3, _bridge(result, whole))
    free = sheet.lines(free, _open_costs(result))
    sheet.text(free + 1, 0, "By month of closing", "heading")
    numbers = month_numbers(result.series.timestamp)[result.trades.exit]
    months = np.unique(numbers)
    found = [books_of(result, numbers == month) for month in months]
    names = [_month(month) for month in months.tolist()]
    sheet.table(free + 2, _books([*names, "All"], [*found, whole]), widths=False)
    sheet.page.set_column(5, 6, 14)


def _bridge(result: Result, whole: Books) -> list[Column]:
    signs = (("Gross profit", whole.gross), ("Fees", -whole.fees), ("Funding", -whole.funding))
    rows = [*signs, ("Slippage", -whole.slippage), ("Net profit", whole.net)]
    values = [value for _, value in rows]
    initial, count = float(result.params["initial_equity"]), whole.trades

    def over(divisor: float) -> list[float | None]:
        return [value / divisor if divisor > 0 else None for value in values]

    return [
        Column(name="Item", values=[name for name, _ in rows], kind="text", width=16),
        Column(name="USDT", values=values, kind="money", width=14),
        Column(name="Share of gross profit", values=over(whole.gross), kind="percent", width=14),
        Column(name="Share of initial equity", values=over(initial), kind="percent", width=14),
        Column(name="Per trade USDT", values=over(count), kind="money", width=14),
    ]


def _open_costs(result: Result) -> list[str]:
    """What positions that were not closed have paid: part of the metrics, of no trade."""
    own, metrics = books_of(result), result.metrics
    fees, funding = (metrics["fees"] or 0.0) - own.fees, (metrics["funding"] or 0.0) - own.funding
    if abs(fees) < _NOTHING and abs(funding) < _NOTHING:
        return []
    paid = f"{fees:,.2f} USDT of fees and {funding:,.2f} USDT of funding"
    return [f"Positions that were not closed have paid {paid} besides; the summary's figures include them."]


def _books(names: list[str], rows: list[Books]) -> list[Column]:
    shown: tuple[tuple[str, str, Kind], ...] = (
        ("Trades", "trades", "count"),
        ("Gross USDT", "gross", "money"),
        ("Fees USDT", "fees", "money"),
        ("Funding USDT", "funding", "money"),
        ("Slippage USDT", "slippage", "money"),
        ("Net USDT", "net", "money"),
    )
    columns = [Column(name="Month", values=names, kind="text")]
    return columns + [Column(name=name, values=[getattr(r, of) for r in rows], kind=kind) for name, of, kind in shown]
