"""A report as pictures: the one that answers in the chat, and the ones that show a side of it.

Plain data, composed without a painter: numpy and TA-Lib only.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import numpy as np

from research.metrics import Metrics
from research.results import Report, Result
from research.views import METRIC_OF, bar_ms, landscape, months_of
from trading.errors import BadInput
from trading.indicators import Indicators, bollinger, ema
from trading.model import FloatArray, Instrument, IntArray, Side
from trading.parameters import TradeRules
from trading.pictures import (
    CandlePicture,
    EquityPicture,
    GridPicture,
    Line,
    Mark,
    MonthsPicture,
    Picture,
    StackPicture,
)
from trading.strategy import strategy_named
from trading.trailing import Held, best_of, step

_BARS: Final = 160  # candles of a picture of trades
_BEFORE: Final = 15  # candles before a chosen trade and after it
_UNITS: Final = ((10_080, "w"), (1_440, "d"), (60, "h"), (1, "m"))
_MEASURES: Final = {
    "sharpe": "Sharpe ratio",
    "return": "Return",
    "calmar": "Calmar ratio",
    "expectancy": "Expectancy, R",
}

Facts = tuple[tuple[str, str], ...]


def pictures(report: Report) -> dict[str, Picture]:
    """All that can be drawn of a report, by name; `chart` answers for it in the chat.

    The others: `equity`, `months`, `trades` (where there was one), `grid` (where there is one).
    """
    curve, months = equity_picture(report), months_picture(report)
    months = replace(months, title=f"{title_of(report)}: return by month, %")
    found: dict[str, Picture] = {"chart": chart(report), "equity": curve, "months": months}
    if report.grid is not None:
        found["grid"] = grid_picture(report)
    if len(report.result.trades):
        found["trades"] = trades_picture(report)
    return found


def chart(report: Report) -> StackPicture:
    """The answer to a study on one sheet: its curve, and its months or the landscape of its grid."""
    curve, months = equity_picture(report), months_picture(report)
    parts: tuple[EquityPicture | MonthsPicture | GridPicture, ...] = (curve,)
    if report.grid is not None and report.walk is None:
        parts = (grid_picture(report), curve)
    elif np.isfinite(months.values).sum() > 1:
        parts = (curve, months)
    return StackPicture(title=title_of(report), parts=parts, facts=facts_of(report))


def title_of(report: Report) -> str:
    """The verdict, and what it is about."""
    study, beside = report.study, report.beside
    days = f" {study.days:,}d" if study.days is not None else ""
    kind = {"backtest": "", "optimize": ", best of the grid", "walkforward": ", out of sample"}[study.kind]
    made_up = ", made-up candles" if report.made_up else ""
    council = "" if beside is None else f", {beside.council} council"
    bars = timeframe(study.interval)
    return f"{report.verdict.word}: {study.symbol} {bars}{days} {report.result.strategy}{kind}{council}{made_up}"


def timeframe(minutes: int) -> str:
    """A bar's length in a word: 15m, 4h, 1d."""
    size, unit = next(each for each in _UNITS if minutes % each[0] == 0)
    return f"{minutes // size}{unit}"


def facts_of(report: Report) -> Facts:
    """What the heading says: net, buy-and-hold, drawdown, profit factor, trades.

    With a council the same figures without it instead of buying and holding, which the curve shows.
    """
    if report.beside is not None:
        own, alone = report.result.metrics, report.beside.alone.metrics
        return (*_figures("With: ", own), *_figures("Without: ", alone))
    walk, metrics = report.walk, report.result.metrics
    hold, trades = report.hold.total_return, metrics["trades"]
    if walk is not None:
        metrics, _, base = walk.metrics, *_hold(report)
        hold = float(base[-1] / _initial(report.result) - 1)
        trades = sum(int(fold.test["trades"] or 0) for fold in walk.folds)
    factor = metrics.get("profit_factor")
    facts = [
        ("Net", _percent(metrics["total_return"])),
        ("Hold", _percent(hold)),
        ("Max DD", _percent(None if (fall := metrics["max_drawdown"]) is None else -fall)),
    ]
    if factor is not None:
        facts.append(("Profit factor", f"{factor:,.2f}"))
    return (*facts, ("Trades", f"{trades:,}"))


def _figures(which: str, metrics: Metrics) -> Facts:
    factor, fall = metrics["profit_factor"], metrics["max_drawdown"]
    return (
        (f"{which}net", _percent(metrics["total_return"])),
        (f"{which}max DD", _percent(None if fall is None else -fall)),
        (f"{which}PF", "–" if factor is None else f"{factor:,.2f}"),
        (f"{which}trades", f"{metrics['trades']:,}"),
    )


def _percent(share: float | None) -> str:
    if share is None:
        return "–"
    value = round(share * 100, 1) + 0.0
    return f"{value:+,.1f}%" if value else "0.0%"


def _initial(result: Result) -> float:
    return float(result.params["initial_equity"])


def _hold(report: Report) -> tuple[IntArray, FloatArray]:
    """The rows that are shown, and buying and holding over them from the same start."""
    hold = report.hold.equity
    if report.walk is None:
        return np.arange(len(hold), dtype=np.int64), hold
    rows = report.walk.rows
    before = hold[max(int(rows[0]) - 1, 0)]
    return rows, hold[rows] / before * _initial(report.result)


def equity_picture(report: Report) -> EquityPicture:
    """The curve with drawdown and buy-and-hold; of a walk-forward the joined one on bars nothing was chosen on."""
    result, walk, beside = report.result, report.walk, report.beside
    rows, hold = _hold(report)
    closes = result.series.timestamp + bar_ms(result)
    return EquityPicture(
        title=title_of(report),
        time=closes[rows],
        equity=result.equity if walk is None else walk.equity,
        start=_initial(result),
        facts=facts_of(report),
        hold=hold,
        folds=() if walk is None else tuple(int(result.series.timestamp[fold.test_from]) for fold in walk.folds),
        beside=None if beside is None else beside.alone.equity,
        names=("Equity", "") if beside is None else (f"{beside.council.capitalize()} council", "Without council"),
    )


def months_picture(report: Report) -> MonthsPicture:
    """Returns by month of the curve that is shown."""
    result, walk = report.result, report.walk
    time, curve = result.series.timestamp, result.equity
    if walk is not None:
        time, curve = time[walk.rows], walk.equity
    months = months_of(time, curve, _initial(result))
    title = f"Return by month{'' if report.beside is None else ' with the council'}, %"
    return MonthsPicture(title=title, years=months.years, values=months.values, totals=months.totals)


def grid_picture(report: Report) -> GridPicture:
    """The objective over the two telling axes; `BadInput` without a grid."""
    grid = report.grid
    if grid is None:
        raise BadInput("this study searched no grid: choose an optimisation")
    view = landscape(grid)
    note = f"Each cell: the best over {', '.join(view.others)}" if view.others else ""
    return GridPicture(
        title=title_of(report),
        measure=_MEASURES[grid.objective],
        row_name=view.row_name,
        column_name=view.column_name,
        rows=view.rows,
        columns=view.columns,
        values=view.values,
        best=view.best,
        percent=METRIC_OF[grid.objective] == "total_return",
        note=note,
        facts=facts_of(report),
    )


# Trades


def trades_picture(report: Report, trade: int | None = None) -> CandlePicture:
    """The last candles with trades, or those around one (its place in the table), with the way of every stop.

    `BadInput` where there is no such trade.
    """
    result = report.result
    trades, count = result.trades, len(result.series)
    if not len(trades) or (trade is not None and not 0 <= trade < len(trades)):
        raise BadInput(f"there is no such trade: choose one of {len(trades):,}")
    if trade is None:
        last = min(int(trades.exit[-1]) + _BEFORE, count)
        first = max(last - _BARS, 0)
    else:
        first = max(int(trades.signal[trade]) - _BEFORE, 0)
        last = min(int(trades.exit[trade]) + _BEFORE, count, first + 2_000)
    shown = np.flatnonzero((trades.exit >= first) & (trades.entry < last))
    return CandlePicture(
        title=_trades_title(report, shown, trade),
        series=result.series.between(first, last),
        lines=(*_indicators(result, first, last), *_stops(result, shown, first, last)),
        marks=tuple(mark for row in shown.tolist() for mark in _marks(result, row, first, last)),
        facts=_trades_facts(result, shown),
    )


def _trades_title(report: Report, shown: IntArray, trade: int | None) -> str:
    study = report.study
    what = f"last {len(shown)} trades" if trade is None else f"trade {trade + 1:,} of {len(report.result.trades):,}"
    if trade is None and len(shown) == 1:
        what = "last trade"
    made_up = ", made-up candles" if report.made_up else ""
    return f"{study.symbol} {timeframe(study.interval)} {report.result.strategy}: {what}{made_up}"


def _trades_facts(result: Result, shown: IntArray) -> Facts:
    pnl, r = result.trades.pnl[shown], result.trades.r[shown]
    return (
        ("Net", f"{pnl.sum():+,.2f}"),
        ("Result", f"{r.sum():+.1f}R"),
        ("Won", f"{int((pnl > 0).sum())} of {len(shown)}"),
    )


def _marks(result: Result, trade: int, first: int, last: int) -> list[Mark]:
    """Entry and exit of a trade, as far as they lie within the rows."""
    of, stamps = result.trades, result.series.timestamp
    entry, leave = int(of.entry[trade]), int(of.exit[trade])
    marks = []
    if first <= entry < last:
        side = "long" if of.side[trade] > 0 else "short"
        marks.append(Mark(time=int(stamps[entry]), price=float(of.entry_price[trade]), kind=side))  # type: ignore[arg-type]
    if first <= leave < last:
        won, text = bool(of.pnl[trade] > 0), f"{of.r[trade]:+.1f}R"
        price = float(of.exit_price[trade])
        marks.append(Mark(time=int(stamps[leave]), price=price, kind="exit", text=text, won=won))
    return marks


def _indicators(result: Result, first: int, last: int) -> list[Line]:
    """The strategy's trend, or its bands where it has none."""
    close, params = result.series.close[:last], result.params
    names = strategy_named(result.strategy).parameters.names()
    if "ema_period" in names:
        period = int(params["ema_period"])
        return [Line(name=f"EMA {period}", values=ema(close, period)[first:])]
    if {"bb_period", "bb_std"} <= set(names):
        period, width = int(params["bb_period"]), float(params["bb_std"])
        bands = bollinger(close, period, width)
        name = f"Bollinger {period}, {width:g}"
        return [Line(name=name, values=band[first:], dashed=at == 1) for at, band in enumerate(bands)]
    return []


def _stops(result: Result, shown: IntArray, first: int, last: int) -> list[Line]:
    """The stop in force during each bar of the trades that are shown, as two lines that take turns.

    Two, so that trades that follow each other at once are not joined.
    """
    strategy = strategy_named(result.strategy)
    names = strategy.parameters.names()
    chosen = strategy(strategy.parameters(**{name: result.params[name] for name in names if name in result.params}))
    distance = chosen.rules().stop_distance.make(Indicators(result.series))
    lines = [np.full(last, np.nan), np.full(last, np.nan)]
    for trade in shown.tolist():
        path = stop_path(result, trade, float(distance[result.trades.signal[trade]]))
        entry = int(result.trades.entry[trade])
        line, end = lines[trade % 2], min(entry + len(path), last)
        line[entry:end] = path[: end - entry]
    return [Line(name="Stop", values=line[first:], pane="price", stepped=True) for line in lines]


def stop_path(result: Result, trade: int, r_distance: float) -> FloatArray:
    """The stop in force during each bar of a trade, entry and exit bar included; R in price, not rounded."""
    of, series, params = result.trades, result.series, result.params
    side = Side.LONG if of.side[trade] > 0 else Side.SHORT
    entry, leave = int(of.entry[trade]), int(of.exit[trade])
    price, stop = float(of.entry_price[trade]), float(of.stop[trade])
    rules = TradeRules(**{name: params[name] for name in TradeRules.names() if name in params})
    instrument = _instrument(result)
    path, best = [stop], price
    for row in range(entry, leave):
        bar = series.high[row], series.low[row], series.close[row]
        best = best_of(side, best, row == entry, *(float(each) for each in bar))
        held = Held(side=side, entry=Decimal(repr(price)), r_distance=r_distance, stop=Decimal(repr(stop)), best=best)
        stop = float(step(held, float(series.close[row]), False, rules, instrument).stop)
        path.append(stop)
    return np.array(path, np.float64)


def _instrument(result: Result) -> Instrument:
    terms: dict[str, Any] = {
        name: Decimal(repr(result.params[name])) for name in ("tick_size", "qty_step", "min_qty", "min_notional")
    }
    return Instrument(symbol=result.series.symbol, **terms)
