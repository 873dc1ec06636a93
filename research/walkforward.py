"""Walk-forward: choose on the past, trade on what comes after it, move on.

The series is cut into `folds` + 1 parts of one length. Each fold chooses its parameters by the objective on all the
parts before (anchored: the past only grows), skips an embargo and trades the next part with them. The embargo is a
day, the time an entry may rest, or a hundredth of the training bars, whichever is longest, so that what the last
training bars know does not reach into the test. Indicators of the test are warmed up on the bars before it, as they
would be in life; money is carried from one fold to the next, and a position that is open at a fold's end is valued
at the last close and ends there, without costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import numpy as np

from research.backtest import backtest, strategy_of
from research.grid import Grid, Seek, search
from research.ground import Ground
from research.metrics import Metrics, Totals, metrics
from research.report import series_row
from research.results import Fold, Gates, Result, TradeTable, WalkForward
from trading.errors import BadInput
from trading.model import CandleSeries

MOST_FOLDS: Final = 50
_WARM: Final = 10  # times the longest period
_PARTS_OF_A_FOLD: Final = 5  # the embargo is at most this part of a test

Funding = Mapping[int, Decimal]


def walk_forward(
    series: CandleSeries,
    grid: Grid,
    folds: int,
    objective: str,
    funding: Funding | None = None,
    *,
    jobs: int = 1,
    tell: Callable[[int, int], None] = lambda fold, done: None,
    stopped: Callable[[], bool] = lambda: False,
    seek: Seek = search,
    look: Callable[[Result], None] = lambda _: None,
) -> tuple[WalkForward, Result]:
    """The folds and their joined whole as one result over the series, with the metrics of the tested bars.

    `tell` hears the fold and how many combinations of it are done. `BadInput` when the bars are too few. `seek` does
    the searching: `search`, or the same on a cluster. `look` is shown the test of each fold.
    """
    steps = spans(series, grid, folds)
    values = dict(grid.values)
    done: list[Fold] = []
    parts: list[tuple[int, Result]] = []
    for number, (train_to, test_from, test_to) in enumerate(steps):

        def told(count: int, fold: int = number) -> None:
            tell(fold, count)

        train = Ground.of(series.between(0, train_to), funding)
        table = seek(train, grid, jobs=jobs, tell=told, stopped=stopped).table(objective, 0.0)
        if stopped():
            raise KeyboardInterrupt
        best = int(table.order[0])
        row = zip(table.names, table.values[best], strict=True)
        chosen = {name: _like(grid.values[name], value) for name, value in row}
        before = _warm_up(grid, chosen, test_from)
        traded = backtest(
            series.between(before, test_to), grid.strategy, {**values, **chosen}, funding, first=test_from - before
        )
        values["initial_equity"] = float(traded.equity[-1])
        parts.append((before, traded))
        look(traded)
        done.append(
            Fold(
                train_from=0,
                train_to=train_to,
                test_from=test_from,
                test_to=test_to,
                chosen=chosen,
                train={name: _number(column[best]) for name, column in table.metrics.items()},
                test=_tested(traded, test_from - before),
            )
        )
    return _joined(series, grid, done, parts)


def spans(series: CandleSeries, grid: Grid, folds: int) -> list[tuple[int, int, int]]:
    """End of training, begin and end of the test of each fold."""
    if not 1 <= folds <= MOST_FOLDS:
        raise BadInput(f"a walk-forward has 1 to {MOST_FOLDS} folds, not {folds}")
    if "initial_equity" in grid.names:
        raise BadInput("initial_equity cannot be searched in a walk-forward: each fold carries on the last one's money")
    n = len(series)
    part = n // (folds + 1)
    day = -(-timedelta(days=1) // series.interval)
    longest = max(strategy_of(grid.strategy, grid.chosen(0)).longest_period, _largest(grid))
    rest = int(max(dict(grid.axes).get("entry_ttl_bars", (grid.values["entry_ttl_bars"],))))
    found = []
    for fold in range(folds):
        train_to = part * (fold + 1)
        embargo = min(max(day, rest, train_to // 100), part // _PARTS_OF_A_FOLD)
        found.append((train_to, train_to + embargo, n if fold == folds - 1 else train_to + part))
    if part < 2 * longest:
        least = 2 * longest * (folds + 1)
        raise BadInput(
            f"{n:,} bars are too few for {folds} folds of a strategy that looks back {longest} bars: "
            f"give {least:,} bars or fewer folds"
        )
    return found


def _largest(grid: Grid) -> int:
    """The longest look-back of any combination."""
    chosen = {name: values[-1] for name, values in grid.axes}
    return strategy_of(grid.strategy, {**grid.values, **chosen}).longest_period


def _warm_up(grid: Grid, chosen: Mapping[str, Any], test_from: int) -> int:
    """The row from which the indicators of a test are reckoned."""
    longest = strategy_of(grid.strategy, {**grid.values, **chosen}).longest_period
    return max(test_from - _WARM * longest, 0)


def _like(value: Any, number: float) -> Any:
    return int(number) if isinstance(value, int) else float(number)


def _number(value: float) -> float | int | None:
    return None if np.isnan(value) else float(value)


def _tested(result: Result, first: int) -> Metrics:
    """The metrics of the tested bars alone."""
    return metrics(
        result.equity[first:],
        _totals([result], int(np.count_nonzero(result.exposed))),
        initial_equity=float(result.params["initial_equity"]),
        interval=result.series.interval,
    )


def _totals(results: Sequence[Result], exposed: int) -> Totals:
    profit = np.concatenate([each.trades.pnl for each in results])
    return Totals(
        trades=len(profit),
        wins=int(np.count_nonzero(profit > 0)),
        gains=float(profit[profit > 0].sum()),
        losses=float(profit[profit <= 0].sum()),
        r_multiples=float(sum(each.trades.r.sum() for each in results)),
        exposed=exposed,
        fees=float(sum(each.metrics["fees"] or 0.0 for each in results)),
        funding=float(sum(each.metrics["funding"] or 0.0 for each in results)),
    )


def _joined(
    series: CandleSeries, grid: Grid, folds: Sequence[Fold], parts: Sequence[tuple[int, Result]]
) -> tuple[WalkForward, Result]:
    """One result over the series; before the first test and in an embargo it holds no position."""
    first, last = folds[0].test_from, folds[-1].test_to
    cash = float(grid.values["initial_equity"])
    equity, exposed = np.full(len(series), cash), np.zeros(len(series), np.bool_)
    for fold, (before, part) in zip(folds, parts, strict=True):
        equity[fold.train_to : fold.test_from] = cash
        own, rows = slice(fold.test_from - before, None), slice(fold.test_from, fold.test_to)
        equity[rows], exposed[rows] = part.equity[own], part.exposed[own]
        cash = float(part.equity[-1])
    results = [part for _, part in parts]
    tested = equity[first:last]
    found = metrics(
        tested,
        _totals(results, int(np.count_nonzero(exposed))),
        initial_equity=float(grid.values["initial_equity"]),
        interval=series.interval,
    )
    latest = results[-1]
    joined = Result(
        series=series,
        strategy=grid.strategy,
        params={**grid.values, **folds[-1].chosen},
        trades=_table([(before, part.trades) for before, part in parts]),
        equity=equity,
        exposed=exposed,
        metrics=found,
        open_position=latest.open_position,
        candles=series_row(series, None),
        gates=Gates(**{name: sum(getattr(each.gates, name) for each in results) for name in Gates.__slots__}),
        settlements=sum(each.settlements for each in results),
        unrated=sum(each.unrated for each in results),
        funded=latest.funded,
    )
    walk = WalkForward(
        folds=tuple(folds),
        rows=np.arange(first, last, dtype=np.int64),
        equity=tested,
        metrics=found,
        embargo=max(fold.test_from - fold.train_to for fold in folds),
    )
    return walk, joined


def _table(parts: Sequence[tuple[int, TradeTable]]) -> TradeTable:
    """All folds' trades; each comes with how far its rows lie from those of the whole."""
    moved = [
        replace(table, signal=table.signal + by, entry=table.entry + by, exit=table.exit + by) for by, table in parts
    ]
    return TradeTable(
        **{name: np.concatenate([getattr(each, name) for each in moved]) for name in TradeTable.__slots__}
    )
