"""A second opinion by vectorbt: a backtest's fills booked again by somebody else's accountant.

The fills of a `Result` become the order records of a vectorbt `Portfolio`, which keeps its own cash, positions, trades
and drawdowns. Fees are computed anew from the parameters, funding from the candles and the rates; nothing is taken
over but what was bought and sold, when, and at what price. For the lab worker: vectorbt is imported on first use
(seconds, a quarter of a gigabyte).

vectorbt knows no funding. A payment is booked as the fee of an order so small (`NOTHING`) that it moves neither size
nor price, in the bar of its settlement, so that curve and ratios agree as well. Where a funding series was used and
its rates are not given here, each trade's funding goes into the fee of its exit instead: profits and final values are
then comparable, the path between is not, and the ratios are vectorbt's reading of the result's own curve.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np

from research.metrics import YEAR
from research.results import REASONS, Result
from trading.model import MILLISECOND, BoolArray, CandleSeries, FloatArray, IntArray

Statistics = tuple[tuple[str, str], ...]
Differences = Iterator[str]

SETTLED: Final = timedelta(hours=8) // MILLISECOND
NOTHING: Final = 1e-300  # added to any size, it leaves the size what it was
RELATIVE: Final = 1e-9
NAMED: Final = 3  # differences that are named before the rest is only counted
BUY, SELL = 0, 1  # vectorbt's OrderSide
# Metrics in vectorbt's names.
OF_PORTFOLIO: Final = [
    *("start", "end", "period", "start_value", "end_value", "total_return", "benchmark_return", "max_gross_exposure")
]
OF_RETURNS: Final = [
    *("sharpe_ratio", "calmar_ratio", "omega_ratio", "sortino_ratio", "ann_return", "ann_volatility", "skew"),
    *("kurtosis", "tail_ratio", "value_at_risk"),
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fills:
    """Positions in the order in which they were opened, the one still open last; a column each.

    side: +1, -1. entry, exit: rows; an open position's exit is the last row + 1. entry_fee, exit_fee: from the
    parameters. funding: as the result has it. `closed` of them are trades.
    """

    side: IntArray
    entry: IntArray
    exit: IntArray
    qty: FloatArray
    entry_price: FloatArray
    exit_price: FloatArray
    entry_fee: FloatArray
    exit_fee: FloatArray
    funding: FloatArray
    closed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Books:
    """vectorbt's portfolio of a result. exact: its curve can be compared, bar by bar.

    funding: what each position paid, by `rates` (by the result's word where they are not known).
    """

    portfolio: Any
    fills: Fills
    funding: FloatArray
    exact: bool


def second_opinion(result: Result, rates: Mapping[int, Any] | None = None) -> tuple[Statistics, str | None]:
    """vectorbt's statistics of the fills, and where its books do not agree with the result to 1e-9 (None: they do).

    rates: the funding series the backtest was given, by settlement time in ms; only of use where it was given one.
    """
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # means of nothing, and what its own dependencies are told about themselves
        kept = books(result, rates)
        found = list(differences(result, kept))
        table = statistics(kept, funded=bool(np.any(kept.funding)))
    rest = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return table, "; ".join(found[:NAMED]) + rest if found else None


def books(result: Result, rates: Mapping[int, Any] | None = None) -> Books:
    """The result's fills as a vectorbt portfolio."""
    from vectorbt.base.array_wrapper import ArrayWrapper  # type: ignore[import-untyped]
    from vectorbt.portfolio.base import Portfolio  # type: ignore[import-untyped]
    from vectorbt.portfolio.enums import log_dt  # type: ignore[import-untyped]

    fills = fills_of(result)
    exact = not result.funded or rates is not None or not np.any(fills.funding)
    payments = _payments(result, rates or {}) if exact else np.zeros(len(result.series))
    wrapper = ArrayWrapper(
        index=_times(result.series), columns=[result.series.symbol], ndim=1, freq=_timedelta(result.series.interval)
    )
    portfolio = Portfolio(
        wrapper,
        wrapper.wrap(result.series.close),
        _orders(fills, payments, fills.funding if not exact else np.zeros_like(fills.funding)),
        np.empty(0, dtype=log_dt),
        np.array([float(result.params["initial_equity"])]),
        False,
    )
    return Books(
        portfolio=portfolio, fills=fills, funding=_paid(fills, payments) if exact else fills.funding, exact=exact
    )


def fills_of(result: Result) -> Fills:
    """Every position of a result with the fees that its parameters ask for."""
    t, last, params = result.trades, len(result.series), result.params
    maker, taker = float(params["maker_fee"]), float(params["taker_fee"])
    exit_rate = np.where(t.reason == REASONS.index("take_profit"), maker, taker)
    held = result.open_position
    open_row = [] if held is None else [_row(result.series, int(held["entry_time"]))]
    side, qty, price = ([] if held is None else [held[name]] for name in ("side", "qty", "entry_price"))
    qtys, prices = np.append(t.qty, qty).astype(np.float64), np.append(t.entry_price, price).astype(np.float64)
    return Fills(
        side=np.append(t.side, [1 if word == "long" else -1 for word in side]).astype(np.int64),
        entry=np.append(t.entry, open_row).astype(np.int64),
        exit=np.append(t.exit, [last] * len(open_row)).astype(np.int64),
        qty=qtys,
        entry_price=prices,
        exit_price=np.append(t.exit_price, [math.nan] * len(open_row)),
        entry_fee=qtys * prices * maker,
        exit_fee=np.append(t.qty * t.exit_price * exit_rate, [0.0] * len(open_row)),
        funding=np.append(t.funding, [_funding_total(result) - float(t.funding.sum())] * len(open_row)),
        closed=len(t),
    )


def differences(result: Result, kept: Books) -> Differences:
    """Where the two sets of books differ, in words, the most telling first."""
    t, trades = result.trades, kept.portfolio.trades.closed
    if len(trades.values) != len(t):
        yield f"{len(t)} trades, {len(trades.values)} in vectorbt"
        return
    values, sizes = trades.values, t.qty * np.abs(t.entry_price - t.stop)
    fees = values["entry_fees"] + values["exit_fees"] - kept.funding[: kept.fills.closed]
    yield from _columns(
        {
            "entry bar": (t.entry, values["entry_idx"]),
            "exit bar": (t.exit, values["exit_idx"]),
            "side": (t.side, 1 - 2 * values["direction"]),
            "quantity": (t.qty, values["size"]),
            "entry price": (t.entry_price, values["entry_price"]),
            "exit price": (t.exit_price, values["exit_price"]),
            "fees": (t.fees, fees),
            "funding": (t.funding, kept.funding[: kept.fills.closed]),
            "profit": (t.pnl, values["pnl"]),
            "R multiple": (t.r, values["pnl"] / sizes),
        }
    )
    yield from _sums(result, kept)
    yield from _ratios(result, kept)


def statistics(kept: Books, *, funded: bool = False) -> Statistics:
    """vectorbt's tables of portfolio, returns, drawdowns and trades, each value as text; undefined is empty.

    Its own reducers of records are compiled anew in every process (seven seconds); sums and means over its records are
    numpy's here, under its titles.
    """
    portfolio = kept.portfolio
    fees = {"Total Fees and Funding Paid" if funded else "Total Fees Paid": portfolio.orders.values["fees"].sum()}
    tables = (
        portfolio.stats(metrics=OF_PORTFOLIO),
        fees,
        portfolio.returns_acc.stats(metrics=OF_RETURNS),
        _of_drawdowns(portfolio),
        _of_trades(portfolio),
    )
    return tuple((str(name), _text(value)) for table in tables for name, value in table.items())


def _of_drawdowns(portfolio: Any) -> dict[str, Any]:
    """Of the curve's drawdowns: how many were recovered, how deep those were, how long they took."""
    every, bar = portfolio.drawdowns, portfolio.wrapper.freq
    recovered = every.recovered
    lengths = every.duration.values
    return {
        "Max Drawdown [%]": -100 * portfolio.returns_acc.max_drawdown(),  # the initial equity is a peak too
        "Max Drawdown Duration": lengths.max() * bar if len(lengths) else None,
        "Total Recovered Drawdowns": len(recovered.values),
        "Avg Drawdown [%]": -100 * _mean(recovered.drawdown.values),
        "Avg Drawdown Duration": _mean(recovered.duration.values) * bar,
        "Avg Recovery Duration": _mean(recovered.recovery_duration.values) * bar,
    }


def _of_trades(portfolio: Any) -> dict[str, Any]:
    """Of the trades: how many, the best and the worst in percent of their notional, how long, in what order."""
    bar, every, trades = portfolio.wrapper.freq, portfolio.trades, portfolio.trades.closed
    pnl, back, bars = trades.values["pnl"], 100 * trades.values["return"], trades.duration.values
    won, lost, long = pnl > 0, pnl < 0, every.values["direction"] == 0
    return {
        "Total Trades": len(every.values),
        "Total Closed Trades": len(pnl),
        "Total Open Trades": len(every.values) - len(pnl),
        "Open Trade PnL": every.open.values["pnl"].sum(),
        "Total Long Trades": int(long.sum()),
        "Total Short Trades": int((~long).sum()),
        "Win Rate [%]": 100 * _mean(won),
        "Best Trade [%]": back.max(initial=-math.inf),
        "Worst Trade [%]": back.min(initial=math.inf),
        "Avg Winning Trade [%]": _mean(back[won]),
        "Avg Losing Trade [%]": _mean(back[lost]),
        "Avg Winning Trade Duration": _mean(bars[won]) * bar,
        "Avg Losing Trade Duration": _mean(bars[lost]) * bar,
        "Max Win Streak": _streak(won),
        "Max Loss Streak": _streak(lost),
        "Profit Factor": pnl[won].sum() / -pnl[lost].sum() if lost.any() else None,
        "Expectancy": _mean(pnl),
        "SQN": math.sqrt(len(pnl)) * _mean(pnl) / pnl.std(ddof=1) if len(pnl) > 1 else None,
    }


def _mean(values: Any) -> float:
    return float(values.mean()) if len(values) else math.nan


def _streak(happened: BoolArray) -> int:
    """The longest run of trades in which it happened."""
    breaks = np.flatnonzero(np.concatenate(([True], ~happened, [True])))
    return int(np.diff(breaks).max()) - 1


def _orders(fills: Fills, payments: FloatArray, folded: FloatArray) -> Any:
    """vectorbt's order records: each position's entry, its funding payments, its exit.

    payments: USDT per bar for a long of one coin. folded: funding that goes into the exits' fees instead, that of an
    open position into its entry's.
    """
    paying, rows = _settlements(fills, np.flatnonzero(payments))
    done, count = fills.closed, len(fills.side)
    held = np.arange(count) >= done
    entries = (np.arange(count), fills.entry, fills.qty, fills.entry_price, fills.entry_fee + folded * held, fills.side)
    funding = fills.side[paying] * fills.qty[paying] * payments[rows]
    nothing = np.full(len(paying), NOTHING)
    between = (paying, rows, nothing, fills.entry_price[paying], funding, fills.side[paying])
    exits = (np.arange(count), fills.exit, fills.qty, fills.exit_price, fills.exit_fee + folded, -fills.side)
    return _records(entries, between, tuple(column[:done] for column in exits))


def _settlements(fills: Fills, settled: IntArray) -> tuple[IntArray, IntArray]:
    """Which position pays in which row: those after its entry's, up to its exit's."""
    starts = np.searchsorted(settled, fills.entry, side="right")
    stops = np.searchsorted(settled, fills.exit, side="right")
    rows = [settled[start:stop] for start, stop in zip(starts, stops, strict=True)]
    return np.repeat(np.arange(len(rows)), stops - starts), np.concatenate([np.empty(0, np.int64), *rows])


def _records(*steps: tuple[Any, ...]) -> Any:
    """Order records out of (position, row, size, price, fees, sign), position by position, step by step."""
    from vectorbt.portfolio.enums import order_dt

    position, row, size, price, fees, sign = (np.concatenate(column) for column in zip(*steps, strict=True))
    step = np.repeat(np.arange(len(steps)), [len(each[0]) for each in steps])
    order = np.lexsort((row, step, position))
    records = np.zeros(len(order), dtype=order_dt)
    records["id"] = np.arange(len(order))
    records["side"] = np.where(sign[order] > 0, BUY, SELL)
    for name, column in (("idx", row), ("size", size), ("price", price), ("fees", fees)):
        records[name] = column[order]
    return records


def _payments(result: Result, rates: Mapping[int, Any]) -> FloatArray:
    """What a long of one coin pays in each bar: open times rate, for every settlement in it."""
    series, usual = result.series, float(result.params["funding_rate"])
    start, step = int(series.timestamp[0]), series.interval // MILLISECOND
    times = np.arange(-(-start // SETTLED) * SETTLED, start + len(series) * step, SETTLED)
    rate = [float(rates.get(time, usual)) for time in times.tolist()] if result.funded else usual
    rows = (times - start) // step
    return np.bincount(rows, weights=series.open[rows] * rate, minlength=len(series)).astype(np.float64)


def _paid(fills: Fills, payments: FloatArray) -> FloatArray:
    """The funding of each position: the payments after its entry's bar, up to its exit's."""
    paying, rows = _settlements(fills, np.flatnonzero(payments))
    weights = fills.side[paying] * fills.qty[paying] * payments[rows]
    return np.bincount(paying, weights=weights, minlength=len(fills.side)).astype(np.float64)


def _columns(columns: Mapping[str, tuple[Any, Any]]) -> Differences:
    """For each column in which trades differ, the first of them."""
    for name, (ours, theirs) in columns.items():
        wrong = np.flatnonzero(~np.isclose(ours, theirs, rtol=RELATIVE, atol=RELATIVE))
        if len(wrong):
            first = wrong[0]
            yield f"{name} of trade {first + 1}: {ours[first]:.12g}, {theirs[first]:.12g} in vectorbt"


def _sums(result: Result, kept: Books) -> Differences:
    """Money at the end and what the trades add up to."""
    portfolio, metrics, fills = kept.portfolio, result.metrics, kept.fills
    pnl = portfolio.trades.closed.values["pnl"]
    gains, losses = pnl[pnl > 0].sum(), -pnl[pnl < 0].sum()
    r = pnl / (result.trades.qty * np.abs(result.trades.entry_price - result.trades.stop))
    yield from _value("last equity", float(result.equity[-1]), portfolio.final_value())
    yield from _value("total return", metrics["total_return"], portfolio.total_return())
    yield from _value("fees", metrics["fees"], portfolio.orders.values["fees"].sum() - float(kept.funding.sum()))
    yield from _value("funding", metrics["funding"], float(kept.funding.sum()))
    yield from _value("trades", metrics["trades"], fills.closed)
    yield from _value("win rate", metrics["win_rate"], _mean(pnl > 0))
    yield from _value("profit factor", metrics["profit_factor"], gains / losses if losses else None)
    yield from _value("expectancy", metrics["expectancy_r"], _mean(r))


def _ratios(result: Result, kept: Books) -> Differences:
    """The curve bar by bar where it can be expressed, and the ratios; none once the equity has been at or below 0."""
    portfolio, metrics = kept.portfolio, result.metrics
    if kept.exact:
        yield from _curve(result.equity, portfolio.value().to_numpy(), float(result.params["initial_equity"]))
        yield from _value("exposure", metrics["exposure"], float(portfolio.position_mask().mean()))
    if result.equity.min() > 0:
        returns = portfolio.returns_acc if kept.exact else _returns(result)
        drawdown = -float(returns.max_drawdown())
        yield from _value("Sharpe ratio", metrics["sharpe"], returns.sharpe_ratio(risk_free=0.0, ddof=1))
        yield from _value("Sortino ratio", metrics["sortino"], returns.sortino_ratio(required_return=0.0))
        yield from _value("maximum drawdown", metrics["max_drawdown"], drawdown)
        yield from _value("Calmar ratio", metrics["calmar"], returns.calmar_ratio() if drawdown else None)


def _returns(result: Result) -> Any:
    """vectorbt's accessor on the returns of the result's own curve."""
    import pandas as pd
    from vectorbt.returns.accessors import ReturnsSRAccessor  # type: ignore[import-untyped]

    before = np.concatenate(([float(result.params["initial_equity"])], result.equity[:-1]))
    returns = pd.Series(result.equity / before - 1, index=_times(result.series))
    return ReturnsSRAccessor(returns, freq=_timedelta(result.series.interval), year_freq=_timedelta(YEAR))


def _curve(ours: FloatArray, theirs: FloatArray, initial: float) -> Differences:
    wrong = np.flatnonzero(~np.isclose(ours, theirs, rtol=RELATIVE, atol=RELATIVE * initial))
    if len(wrong):
        yield f"equity at bar {wrong[0] + 1}: {ours[wrong[0]]:.12g}, {theirs[wrong[0]]:.12g} in vectorbt"


def _value(name: str, ours: float | None, theirs: Any) -> Differences:
    """Undefined is None here, NaN or infinite there."""
    other = float(theirs) if theirs is not None and math.isfinite(theirs) else None
    if ours is None or other is None:
        agree = ours is other
    else:
        agree = math.isclose(ours, other, rel_tol=RELATIVE, abs_tol=RELATIVE)
    if not agree:
        yield f"{name}: {_figure(ours)}, {_figure(other)} in vectorbt"


def _figure(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.12g}"


def _text(value: Any) -> str:
    """A cell of vectorbt's table: times to the minute, numbers to four places, undefined empty."""
    import pandas as pd

    if pd.isna(value):
        return ""
    if isinstance(value, pd.Timestamp):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, pd.Timedelta):
        return str(value.round("s"))
    if isinstance(value, int | np.integer):
        return str(int(value))
    return f"{value:,.4f}" if math.isfinite(value) else ""


def _funding_total(result: Result) -> float:
    return float(result.metrics["funding"] or 0.0)


def _row(series: CandleSeries, time: int) -> int:
    return (time - int(series.timestamp[0])) // (series.interval // MILLISECOND)


def _times(series: CandleSeries) -> Any:
    import pandas as pd

    return pd.DatetimeIndex(series.timestamp.astype("datetime64[ms]"))


def _timedelta(length: timedelta) -> Any:
    import pandas as pd

    return pd.Timedelta(length)
