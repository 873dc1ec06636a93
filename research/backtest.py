"""One backtest: a strategy's signals walked over a series by the kernel, every trade written down.

It gives the trades and the money of `main.py replay --council off`, of which it is the deliberate second
implementation; `tests/parity` holds the two and a third one, written plainly, together.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import numpy as np

from research import kernel
from research.ground import Ground, packed, rules_of, terms_of
from research.metrics import Metrics, Totals, metrics
from research.report import series_row
from research.results import REASONS, Gates, Result, TradeTable
from trading.model import CandleSeries, FloatArray, Side
from trading.strategy import Signals, Strategy, evaluate, strategy_named


def strategy_of(name: str, values: Mapping[str, Any]) -> Strategy:
    """The strategy of that name with its parameters out of `values`; `BadInput` names what does not fit."""
    kind = strategy_named(name)
    parameters = kind.parameters
    strategy: Strategy = kind(parameters(**{each: values[each] for each in parameters.names() if each in values}))
    return strategy


def backtest(
    series: CandleSeries,
    strategy: str | Strategy,
    values: Mapping[str, Any],
    funding: Mapping[int, Decimal] | None = None,
    *,
    sha256: str | None = None,
    first: int = 0,
) -> Result:
    """Walk one parameter set over a series. `values`: every name of the specification (see `Study.values`).

    `funding`: rates by settlement time, ms UTC. `sha256`: of the file the bars came from.
    `first`: the bar from which on entries are proposed; those before it only warm the indicators.
    """
    chosen = strategy_of(strategy, values) if isinstance(strategy, str) else strategy
    ground = Ground.of(series, funding)
    signals = evaluate(chosen, series)
    trades, count, is_open, equity, exposed, gates = _walked(ground, signals, values, first)
    table = _table(trades[:count])
    end = np.append(table.exit, len(series) - 1) if is_open else table.exit
    entry = np.append(table.entry, int(trades[count, 2])) if is_open else table.entry
    return Result(
        series=series,
        strategy=chosen.name,
        params=dict(values),
        trades=table,
        equity=equity,
        exposed=exposed,
        metrics=_metrics(ground, trades, count, is_open, equity, exposed, values),
        open_position=_open_row(series, trades[count], values) if is_open else None,
        candles=series_row(series, sha256),
        gates=Gates(**dict(zip(kernel.GATES, gates.tolist(), strict=True))),
        settlements=_within(ground.settled, entry, end),
        unrated=_within(ground.unrated, entry, end),
        funded=ground.funded,
    )


def _walked(ground: Ground, signals: Signals, values: Mapping[str, Any], first: int) -> tuple[Any, ...]:
    n = len(ground.series)
    curve, paid = ground.curves(float(values["funding_rate"]))
    trades = np.zeros((int(np.count_nonzero(signals.side)) + 1, len(kernel.TRADE)))
    equity, exposed = np.empty(n), np.zeros(n, np.bool_)
    gates = np.zeros(len(kernel.GATES), np.int64)
    count, is_open = kernel.walk(
        first,
        ground.ranges,
        ground.ends,
        curve,
        paid,
        signals.side,
        np.stack((packed(signals.exit_long), packed(signals.exit_short))),
        np.stack((signals.hazard_long, signals.hazard_short)),
        np.ascontiguousarray(signals.stop_distance, np.float64),
        rules_of(values),
        terms_of(values),
        trades,
        equity,
        exposed,
        gates,
    )
    return trades, count, is_open, equity, exposed, gates


def _table(rows: FloatArray) -> TradeTable:
    columns = {name: np.ascontiguousarray(rows[:, place]) for place, name in enumerate(kernel.TRADE)}
    del columns["last_stop"], columns["target"]
    whole: dict[str, Any] = {name: columns[name].astype(np.int64) for name in ("signal", "entry", "exit")}
    short: dict[str, Any] = {name: columns[name].astype(np.int8) for name in ("side", "reason")}
    return TradeTable(**{**columns, **whole, **short})


def _metrics(
    ground: Ground,
    trades: FloatArray,
    count: int,
    is_open: bool,
    equity: FloatArray,
    exposed: Any,
    values: Mapping[str, Any],
) -> Metrics:
    closed, paid = dict(zip(kernel.TRADE, trades[:count].T, strict=True)), trades[: count + is_open]
    profit = closed["pnl"]
    totals = Totals(
        trades=count,
        wins=int(np.count_nonzero(profit > 0)),
        gains=float(profit[profit > 0].sum()),
        losses=float(profit[profit <= 0].sum()),
        r_multiples=float(closed["r"].sum()),
        exposed=int(np.count_nonzero(exposed)),
        fees=float(paid[:, kernel.TRADE.index("fees")].sum()),
        funding=float(paid[:, kernel.TRADE.index("funding")].sum()),
    )
    return metrics(
        equity, totals, initial_equity=float(values["initial_equity"]), interval=ground.series.interval
    )


def _open_row(series: CandleSeries, row: FloatArray, values: Mapping[str, Any]) -> dict[str, Any]:
    """As `research.report.open_position_row` writes it."""
    trade = dict(zip(kernel.TRADE, row.tolist(), strict=True))
    side = Side.LONG if trade["side"] > 0 else Side.SHORT
    signal, entry = int(trade["signal"]), int(trade["entry"])
    close = float(series.close[-1])
    return {
        "side": side.value,
        "signal_time": int(series.timestamp[signal]),
        "entry_time": int(series.timestamp[entry]),
        "entry_price": trade["entry_price"],
        "qty": trade["qty"],
        "stop": trade["last_stop"],
        "take_profit": trade["target"] or None,
        "last_close": close,
        "unrealised": side.sign * trade["qty"] * (close - trade["entry_price"]),
        "fees": trade["fees"],
        "funding": trade["funding"],
    }


def _within(per_bar: Any, entry: Any, end: Any) -> int:
    """How many settlements positions have been through: on the bars after the entry's, up to the exit's."""
    total = np.cumsum(per_bar)
    return int((total[end] - total[entry]).sum())


def trade_rows(result: Result) -> list[dict[str, Any]]:
    """The trades as `backtest --json` names them."""
    stamp, trades = result.series.timestamp, result.trades
    columns = {
        "side": ["long" if side > 0 else "short" for side in trades.side.tolist()],
        "signal_time": stamp[trades.signal].tolist(),
        "entry_time": stamp[trades.entry].tolist(),
        "exit_time": stamp[trades.exit].tolist(),
        "entry_price": trades.entry_price.tolist(),
        "exit_price": trades.exit_price.tolist(),
        "qty": trades.qty.tolist(),
        "pnl": trades.pnl.tolist(),
        "r": trades.r.tolist(),
        "exit_reason": [REASONS[reason] for reason in trades.reason.tolist()],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
