"""A report seen from one side, for workbook and charts alike: months, time in the market, the landscape of a grid.

Everything here is reckoned from a `Report` and from nothing else. Shares are fractions, undefined is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from research.metrics import Totals, metrics
from research.results import Beside, GridTable, Hold, Report, Result
from trading.laboratory import CouncilEffect, Study
from trading.model import BoolArray, FloatArray, IntArray, SideArray, utc
from trading.risk import Limits

METRIC_OF: Final = {"sharpe": "sharpe", "return": "total_return", "calmar": "calmar", "expectancy": "expectancy_r"}
MANY: Final = 50  # candidates without an entry, at the end: that is told; by chance there are seldom 20
_ROWS_OF_BUCKET: Final = 5  # the first, and the lowest and highest of two curves


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Months:
    """Returns by calendar month (UTC): `values` has a row per year and 12 columns, `totals` one entry per year.

    A month without a bar is NaN, and so is what began without money.
    """

    years: tuple[int, ...]
    values: FloatArray
    totals: FloatArray


def month_numbers(time: IntArray) -> IntArray:
    """Months since January 1970 of times in ms UTC."""
    return time.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)


def months_of(time: IntArray, equity: FloatArray, start: float) -> Months:
    """The returns of a curve by month; `time` are the open times of its bars, `start` the equity before them."""
    numbers = month_numbers(time)
    ends = np.append(np.flatnonzero(np.diff(numbers)), len(numbers) - 1)
    first, last = int(numbers[0]) // 12, int(numbers[-1]) // 12
    values = np.full((last - first + 1, 12), np.nan)
    found = numbers[ends]
    values[found // 12 - first, found % 12] = _growth(equity[ends], start)
    closing = np.append(np.flatnonzero(np.diff(numbers // 12)), len(numbers) - 1)
    totals = np.full(last - first + 1, np.nan)
    totals[numbers[closing] // 12 - first] = _growth(equity[closing], start)
    return Months(years=tuple(range(1970 + first, 1971 + last)), values=values, totals=totals)


def _growth(ends: FloatArray, start: float) -> FloatArray:
    """Each entry over the one before it, less one; NaN where there was nothing to grow."""
    before = np.concatenate(([start], ends[:-1]))
    share = np.divide(ends, before, out=np.full(len(ends), np.nan), where=before > 0)
    return np.asarray(share - 1.0, np.float64)


def sides_of(result: Result) -> SideArray:
    """+1, -1 or 0 for every bar: the side of the position with which it closes."""
    change = np.zeros(len(result.series) + 1, np.int64)
    trades = result.trades
    np.add.at(change, trades.entry, trades.side)
    np.subtract.at(change, trades.exit, trades.side)
    held = result.open_position
    if held is not None:
        row = int(np.searchsorted(result.series.timestamp, int(held["entry_time"])))
        change[row] += 1 if held["side"] == "long" else -1
    return np.cumsum(change[:-1]).astype(np.int8)


def kept_rows(curves: tuple[FloatArray, ...], most: int, always: tuple[int, ...] = ()) -> IntArray:
    """At most about `most` rows: of each bucket the first and where each curve is lowest and highest, and the last.

    `always`: rows that are kept whatever they are.
    """
    count = len(curves[0])
    if count <= most:
        return np.arange(count, dtype=np.int64)
    size = -(-count * (1 + 2 * len(curves)) // (most - len(always) - 1))
    starts = np.arange(0, count, size, dtype=np.int64)
    rows = [starts, np.array([*always, count - 1], np.int64)]
    for curve in curves:
        whole = np.pad(curve, (0, len(starts) * size - count), constant_values=np.nan).reshape(-1, size)
        rows.append(starts + _arg(whole, np.inf, lowest=True))
        rows.append(starts + _arg(whole, -np.inf, lowest=False))
    found = np.unique(np.concatenate(rows))
    return found[(found >= 0) & (found < count)]


def _arg(values: FloatArray, instead: float, *, lowest: bool) -> IntArray:
    """Where each row is lowest or highest; what is undefined counts as `instead`."""
    known = np.where(np.isfinite(values), values, instead)
    found: IntArray = known.argmin(axis=1) if lowest else known.argmax(axis=1)
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Landscape:
    """A grid's objective over two of its axes, the best over all the others: `values[row, column]`, NaN undefined.

    With one axis there is one row without a name. `best`: row and column of the best set, None without one.
    `others`: the axes over which the best was taken.
    """

    row_name: str
    column_name: str
    rows: tuple[float, ...]
    columns: tuple[float, ...]
    values: FloatArray
    best: tuple[int, int] | None
    others: tuple[str, ...]


def landscape(grid: GridTable) -> Landscape:
    """The grid over the two axes along which the objective differs most."""
    axes = telling_axes(grid)
    objective = grid.metrics[METRIC_OF[grid.objective]]
    column = axes[0]
    row = axes[1] if len(axes) > 1 else None
    rows = (0.0,) if row is None else grid.axes[row]
    at_row = np.zeros(len(objective), np.int64) if row is None else _places(grid, row)
    values = np.full((len(rows), len(grid.axes[column])), -np.inf)
    known = np.isfinite(objective)
    np.maximum.at(values, (at_row[known], _places(grid, column)[known]), objective[known])
    values[np.isinf(values)] = np.nan
    best = None
    if known.any():
        top = int(grid.order[0])
        best = int(at_row[top]), int(_places(grid, column)[top])
    return Landscape(
        row_name="" if row is None else grid.names[row],
        column_name=grid.names[column],
        rows=rows,
        columns=grid.axes[column],
        values=values,
        best=best,
        others=tuple(name for at, name in enumerate(grid.names) if at not in (row, column)),
    )


def telling_axes(grid: GridTable) -> list[int]:
    """Up to two axes, the one with more values first: those whose mean objective varies most along them."""
    objective = grid.metrics[METRIC_OF[grid.objective]]
    known = np.isfinite(objective)
    effect = [_effect(grid, axis, objective, known) for axis in range(len(grid.axes))]
    ranked = sorted(range(len(effect)), key=lambda axis: (-(len(grid.axes[axis]) > 1), -effect[axis], axis))
    return sorted(ranked[:2], key=lambda axis: -len(grid.axes[axis]))


def _effect(grid: GridTable, axis: int, objective: FloatArray, known: BoolArray) -> float:
    """The variance of the objective's mean along one axis."""
    places, count = _places(grid, axis)[known], len(grid.axes[axis])
    sizes = np.bincount(places, minlength=count)
    means = np.bincount(places, weights=objective[known], minlength=count)[sizes > 0] / sizes[sizes > 0]
    return float(means.var()) if len(means) > 1 else 0.0


def _places(grid: GridTable, axis: int) -> IntArray:
    """Which of the axis' values each row has: the nearest one."""
    values = np.asarray(grid.axes[axis], np.float64)
    order = np.argsort(values)
    middles = (values[order][1:] + values[order][:-1]) / 2
    return np.asarray(order[np.searchsorted(middles, grid.values[:, axis])], np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What closed trades brought and cost, USDT: net is gross less all the rest."""

    trades: int
    gross: float
    fees: float
    funding: float
    slippage: float
    net: float


def gross_of(result: Result) -> FloatArray:
    """Profit of each trade before fees, funding and slippage."""
    trades = result.trades
    return trades.pnl + trades.fees + trades.funding + trades.slippage


def books_of(result: Result, rows: BoolArray | slice = slice(None)) -> Books:
    """The books of all trades, or of some."""
    trades = result.trades
    return Books(
        trades=len(trades.pnl[rows]),
        gross=float(gross_of(result)[rows].sum()),
        fees=float(trades.fees[rows].sum()),
        funding=float(trades.funding[rows].sum()),
        slippage=float(trades.slippage[rows].sum()),
        net=float(trades.pnl[rows].sum()),
    )


def tested(report: Report) -> Report:
    """The report over the bars that its figures are about: of a walk-forward those on which nothing was chosen.

    Buying and holding starts there with the same money; trades of earlier bars do not exist.
    """
    if report.walk is None:
        return report
    first, last = int(report.walk.rows[0]), int(report.walk.rows[-1]) + 1
    result, trades = report.result, report.result.trades
    shifted = {name: np.maximum(getattr(trades, name) - first, 0) for name in ("signal", "entry", "exit")}
    shown = replace(
        result,
        series=result.series.between(first, last),
        trades=replace(trades, **shifted),
        equity=result.equity[first:last],
        exposed=result.exposed[first:last],
    )
    return replace(report, result=shown, hold=_held(report, first, last))


def _held(report: Report, first: int, last: int) -> Hold:
    """Buying at the last close before some rows and holding to their end."""
    series, whole = report.result.series, report.hold.equity
    initial = float(report.result.params["initial_equity"])
    equity = whole[first:last] / whole[max(first - 1, 0)] * initial
    found = metrics(equity, Totals(), initial_equity=initial, interval=series.interval)
    fall, sharpe = found["max_drawdown"], found["sharpe"]
    return Hold(equity=equity, total_return=float(equity[-1] / initial - 1), max_drawdown=fall or 0.0, sharpe=sharpe)


def bar_ms(result: Result) -> int:
    """The length of a bar in ms."""
    return round(result.series.interval.total_seconds() * 1000)


def first_and_last(result: Result) -> tuple[int, int]:
    """When the first bar opened and when the last one closed, ms UTC."""
    stamps = result.series.timestamp
    return int(stamps[0]), int(stamps[-1]) + bar_ms(result)


def limits_of(study: Study) -> Limits:
    """The account's limits that a study is traded under with its council."""
    return Limits(**{name: value for name, value in study.limits.items() if name in Limits.names()})  # type: ignore[arg-type]


def effect_of(beside: Beside) -> CouncilEffect:
    """The small part: what the chat says."""
    said = beside.verdicts
    last = next((at for at in range(len(said) - 1, -1, -1) if said[at].approved), -1)
    shut = len(said) - 1 - last >= MANY
    return CouncilEffect(
        metrics=dict(beside.alone.metrics),
        candidates=len(said),
        guarded=sum(each.gate in {"guard", "risk"} for each in said),
        vetoed=sum(each.gate == "council" for each in said),
        shrunk=sum(each.approved and each.size < 1 for each in said),
        last_entry=said[last].time if shut and last >= 0 else None,
        shut=said[-1].reason if shut else "",
    )


def beside_lines(report: Report) -> list[str]:
    """For a terminal: the result with the council, without it, and what became of the candidates; empty without one."""
    beside = report.beside
    if beside is None:
        return []
    effect = effect_of(beside)
    fates = f"{effect.vetoed:,} vetoed, {effect.shrunk:,} shrunk, {effect.guarded:,} stopped by guards"
    return [
        f"with the {beside.council} council: {_in_short(report.result)}",
        f"without it: {_in_short(beside.alone)}",
        f"candidates: {effect.candidates:,}; {fates}",
        *shut_lines(effect),
    ]


def shut_lines(effect: CouncilEffect) -> list[str]:
    """That the account has traded no more, since when and why; empty where it did to the end."""
    if not effect.shut:
        return []
    since = "at all" if effect.last_entry is None else f"since {utc(effect.last_entry):%Y-%m-%d %H:%M} UTC"
    return [f"no entry {since}: {effect.shut}"]


def _in_short(result: Result) -> str:
    net, fall, trades = (result.metrics[name] for name in ("total_return", "max_drawdown", "trades"))
    known = [f"{net:+.2%}" if net is not None else "-", f"{fall:.2%}" if fall is not None else "-"]
    return f"net {known[0]}, drawdown {known[1]}, {trades:,} trades"
