"""Reports for the tests of workbook and charts: made by the plain implementation of the specification."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np

from research.metrics import Totals, metrics
from research.results import (
    REASONS,
    Evidence,
    Fold,
    Gates,
    GridTable,
    Hold,
    Interval,
    Report,
    Result,
    TradeTable,
    WalkForward,
)
from research.synthetic import synthetic
from research.views import METRIC_OF
from tests.parity import plain
from trading.laboratory import Kind, Study, Verdict
from trading.model import CandleSeries, FloatArray
from trading.pictures import drawdown

QUICK = {"ema_period": 50.0, "adx_min": 15.0, "sl_atr_multiplier": 2.0}  # a trade every few days
VERDICT = Verdict(
    word="NOT PROVEN",
    reasons=("41 trades (<100)", "out-of-sample Sharpe 0.3 is not above 0.5", "costs take 63% of the gross profit"),
)


def market(bars: int = 3000, interval: int = 240, symbol: str = "BTCUSDT", seed: int = 7) -> CandleSeries:
    """Made-up candles."""
    return synthetic(symbol, seed=seed, bars=bars, interval_minutes=interval)


def outcome(series: CandleSeries, changes: Mapping[str, float] | None = None) -> dict[str, Any]:
    """What the plain implementation says of a series."""
    columns = {name: getattr(series, name) for name in ("timestamp", "open", "high", "low", "close", "volume")}
    length = series.interval // timedelta(milliseconds=1)
    return plain.simulate(columns, {**QUICK, **(changes or {})}, interval_ms=length)


def trade_table(series: CandleSeries, found: Mapping[str, Any]) -> TradeTable:
    """The trades of the plain implementation in columns, their costs worked out from the page."""
    p, trades = found["params"], found["trades"]
    stops = {each["time"]: each["stop"] for each in found["entries"]}

    def column(name: str) -> FloatArray:
        return np.array([trade[name] for trade in trades], np.float64)

    def rows(name: str) -> Any:
        return np.searchsorted(series.timestamp, np.array([trade[name] for trade in trades], np.int64)).astype(np.int64)

    side = np.array([1 if trade["side"] == "long" else -1 for trade in trades], np.int8)
    reason = np.array([REASONS.index(trade["exit_reason"]) for trade in trades], np.int8)
    entry, leave, qty, pnl = (column(name) for name in ("entry_price", "exit_price", "qty", "pnl"))
    market_order = reason != REASONS.index("take_profit")
    fees = qty * (entry * p["maker_fee"] + leave * np.where(market_order, p["taker_fee"], p["maker_fee"]))
    meant = np.where(market_order, leave / (1 - side * p["slippage"]), leave)
    return TradeTable(
        side=side,
        signal=rows("signal_time"),
        entry=rows("entry_time"),
        exit=rows("exit_time"),
        entry_price=entry,
        exit_price=leave,
        qty=qty,
        stop=np.array([stops[trade["signal_time"]] for trade in trades], np.float64),
        pnl=pnl,
        r=column("r"),
        fees=fees,
        funding=side * qty * (leave - entry) - fees - pnl,
        slippage=qty * np.abs(meant - leave),
        reason=reason,
    )


def result(series: CandleSeries, changes: Mapping[str, float] | None = None) -> Result:
    """One backtest of a series."""
    found = outcome(series, changes)
    trades = trade_table(series, found)
    exposed = np.zeros(len(series), bool)
    for first, last in zip(trades.entry.tolist(), trades.exit.tolist(), strict=True):
        exposed[first:last] = True
    held = found["open_position"]
    if held is not None:
        exposed[np.searchsorted(series.timestamp, held["entry_time"]) :] = True
        m = found["metrics"]
        fees, funding = m["fees"] - float(trades.fees.sum()), m["funding"] - float(trades.funding.sum())
        held = {**held, "last_close": float(series.close[-1]), "fees": fees, "funding": funding}
    fates = [each["fate"] for each in found["entries"]]
    return Result(
        series=series,
        strategy="ema_trend",
        params={name: int(value) if name in plain.WHOLE else value for name, value in found["params"].items()},
        trades=trades,
        equity=np.array(found["equity"], np.float64),
        exposed=exposed,
        metrics=found["metrics"],
        open_position=held,
        candles={
            "rows": len(series),
            "first": int(series.timestamp[0]),
            "last": int(series.timestamp[-1]),
            "sha256": "7c02" * 16,
        },
        gates=Gates(
            edges=len(found["rejected"]) + len(found["skipped"]) + len(fates),
            knives=len(found["rejected"]),
            skipped=len(found["skipped"]),
            placed=len(fates),
            filled=fates.count("filled"),
            expired=fates.count("expired"),
            ran_away=fates.count("runaway"),
        ),
        settlements=123,
        unrated=123,
        funded=False,
    )


def hold(series: CandleSeries, initial: float) -> Hold:
    """Buying at the first close and holding."""
    equity = initial * series.close / series.close[0]
    found = metrics(equity, Totals(), initial_equity=initial, interval=series.interval)
    depth = float(-drawdown(equity, initial).min())
    sharpe = found["sharpe"]
    return Hold(equity=equity, total_return=float(equity[-1] / initial - 1), max_drawdown=depth, sharpe=sharpe)


def evidence(of: Result) -> Evidence:
    """What a report says besides: its costs are the result's own, the rest is made up."""
    trades, m = of.trades, of.metrics
    costs = float(trades.fees.sum() + trades.funding.sum() + trades.slippage.sum())
    gross = float(trades.pnl.sum()) + costs
    return Evidence(
        trials=1,
        expected_best=0.42,
        probable=0.81,
        deflated=0.55,
        overfit=None,
        out_of_sample=0.31,
        out_trades=12,
        total_return=Interval(low=-0.11, middle=0.05, high=0.24),
        max_drawdown=Interval(low=0.04, middle=0.09, high=0.21),
        expectancy_r=None if not len(trades) else Interval(low=-0.1, middle=0.06, high=0.22),
        gross=gross,
        fees=float(m["fees"] or 0.0),
        funding=float(m["funding"] or 0.0),
        slippage=float(trades.slippage.sum()),
        cost_share=costs / gross if gross > 0 else None,
        look_ahead=None,
        warm_up=None,
    )


def report(of: Result | None = None, *, kind: Kind = "backtest", verdict: Verdict = VERDICT, **changes: Any) -> Report:
    """A whole answer around a result; pass what differs."""
    of = of if of is not None else result(market())
    minutes = of.series.interval // timedelta(minutes=1)
    study = Study(
        kind=kind,
        symbol=of.series.symbol,
        interval=minutes,
        days=365,
        strategy=of.strategy,
        values=dict(of.params),
    )
    whole = Report(
        study=study,
        result=of,
        hold=hold(of.series, of.params["initial_equity"]),
        evidence=evidence(of),
        verdict=verdict,
        made_up=True,
        seconds=12.4,
        params_fingerprint="a91f" * 16,
        data_fingerprint="7c02" * 16,
        statistics=(("Start Value", "10000.0"), ("Total Return [%]", "6.2"), ("Max Drawdown Duration", "12 days")),
        versions=(("conclave", "0.4.0"), ("numba", "0.61.2"), ("vectorbt", "1.2.0")),
        notes=("The candles are made up.",),
    )
    return replace(whole, **changes)


def grid(
    series: CandleSeries, axes: Sequence[tuple[str, Sequence[float]]], objective: str = "sharpe"
) -> tuple[GridTable, Result]:
    """Every combination run plainly, and the best of them."""
    values = np.array(np.meshgrid(*(each for _, each in axes), indexing="ij"), np.float64).reshape(len(axes), -1).T
    names = tuple(name for name, _ in axes)
    runs = [outcome(series, dict(zip(names, row, strict=True)))["metrics"] for row in values.tolist()]
    table = {name: np.array([math.nan if run[name] is None else run[name] for run in runs], float) for name in runs[0]}
    return ranked(names, tuple(tuple(map(float, each)) for _, each in axes), values, table, objective), result(
        series, dict(zip(names, values[ranked_rows(table, objective)[0]].tolist(), strict=True))
    )


def ranked_rows(table: Mapping[str, FloatArray], objective: str) -> Any:
    """The rows, the best first, undefined ones last."""
    scores = table[METRIC_OF[objective]]
    return np.argsort(np.where(np.isfinite(scores), -scores, np.inf), kind="stable")


def ranked(
    names: tuple[str, ...],
    axes: tuple[tuple[float, ...], ...],
    values: FloatArray,
    table: Mapping[str, FloatArray],
    objective: str,
) -> GridTable:
    """A grid of these rows."""
    return GridTable(
        names=names,
        axes=axes,
        objective=objective,
        values=values,
        metrics=table,
        order=ranked_rows(table, objective),
        combinations=len(values),
        evaluated=len(values),
        seconds=1.5,
    )


def landscape_grid(
    rows: int, columns: int, *, holes: float = 0.0, names: Sequence[str] = ("ema_period", "adx_min")
) -> GridTable:
    """A grid of any size whose metrics are a smooth hill with some noise; a share of them is undefined."""
    rng = np.random.default_rng(4)
    axes = (tuple(10.0 + 5 * at for at in range(columns)), tuple(10 + 0.5 * at for at in range(rows)))
    values = np.array(np.meshgrid(*axes, indexing="ij"), np.float64).reshape(2, -1).T
    x, y = (values[:, at] / values[:, at].max() for at in (0, 1))
    hill = 2.2 * np.exp(-8 * ((x - 0.6) ** 2 + (y - 0.7) ** 2)) - 0.7 + rng.normal(0, 0.1, len(x))
    hill[rng.random(len(x)) < holes] = np.nan
    table = {
        "total_return": hill / 4,
        "sharpe": hill,
        "sortino": hill * 1.4,
        "max_drawdown": 0.3 - hill / 20,
        "calmar": hill / 2,
        "win_rate": 0.4 + hill / 50,
        "profit_factor": 1 + hill / 5,
        "expectancy_r": hill / 10,
        "trades": np.round(80 + 10 * hill),
        "exposure": 0.4 + hill / 50,
        "fees": 90 + hill,
        "funding": -3 + hill,
    }
    return ranked(tuple(names), axes, values, table, "sharpe")


def walk_forward(series: CandleSeries, folds: int = 4) -> Report:
    """Each fold's best of three averages, traded on the next stretch; the tests joined into one result."""
    step, last = len(series) // (folds + 2), 10_000.0
    found, parts = [], []
    curve, exposed = np.full(len(series), last), np.zeros(len(series), bool)
    for fold in range(folds):
        cut, end = step * (fold + 2), step * (fold + 3)
        train = [(result(series.between(cut - 2 * step, cut - 10), {"ema_period": p}), p) for p in (30.0, 50.0, 80.0)]
        best, period = max(train, key=lambda each: each[0].metrics["sharpe"] or -9.0)
        test = result(series.between(cut, end), {"ema_period": period, "initial_equity": last})
        found.append(
            Fold(
                train_from=cut - 2 * step,
                train_to=cut - 10,
                test_from=cut,
                test_to=end,
                chosen={"ema_period": period},
                train=best.metrics,
                test=test.metrics,
            )
        )
        moved = {name: getattr(test.trades, name) + cut for name in ("signal", "entry", "exit")}
        parts.append(replace(test.trades, **moved))
        cash = last + float(test.trades.pnl.sum())  # a position that is open at a fold's end is given up
        curve[cut:end], exposed[cut:end] = test.equity, test.exposed
        curve[end - 1], last = cash, cash
        exposed[int(parts[-1].exit[-1]) : end] = False
    rows = np.arange(2 * step, step * (folds + 2), dtype=np.int64)
    curve[rows[-1] :] = last
    joined = replace(
        parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in parts[0].__slots__}
    )
    totals = Totals(
        trades=len(joined),
        wins=int((joined.pnl > 0).sum()),
        gains=float(joined.pnl[joined.pnl > 0].sum()),
        losses=float(joined.pnl[joined.pnl <= 0].sum()),
        r_multiples=float(joined.r.sum()),
        exposed=int(exposed[rows].sum()),
        fees=float(joined.fees.sum()),
        funding=float(joined.funding.sum()),
    )
    whole = metrics(curve[rows], totals, initial_equity=10_000.0, interval=series.interval)
    walk = WalkForward(folds=tuple(found), rows=rows, equity=curve[rows], metrics=whole, embargo=10)
    shown = replace(result(series), trades=joined, equity=curve, exposed=exposed, metrics=whole, open_position=None)
    return report(shown, walk=walk, kind="walkforward")


def many_trades(count: int) -> Report:
    """A backtest with so many trades on 15-minute bars, for measuring: every trade three bars long."""
    rng = np.random.default_rng(11)
    series = market(bars=count * 4 + 10, interval=15)
    entry = 5 + 4 * np.arange(count, dtype=np.int64)
    side = rng.choice(np.array([-1, 1], np.int8), count)
    prices, qty = series.open[entry], np.round(rng.uniform(0.01, 0.2, count), 3)
    leave = series.open[entry + 3]
    fees, slippage = qty * prices * 0.00075, qty * prices * 0.0002
    funding = rng.normal(0, 0.02, count)
    pnl = side * qty * (leave - prices) - fees - slippage - funding
    equity: FloatArray = 1e6 + np.cumsum(np.bincount(entry + 3, weights=pnl, minlength=len(series)).astype(np.float64))
    exposed = np.zeros(len(series), bool)
    for offset in range(3):
        exposed[entry + offset] = True
    base = result(series.tail(600))
    table = TradeTable(
        side=side,
        signal=entry - 1,
        entry=entry,
        exit=entry + 3,
        entry_price=prices,
        exit_price=leave - side * leave * 0.0002,
        qty=qty,
        stop=prices * (1 - side * 0.02),
        pnl=pnl,
        r=pnl / (qty * prices * 0.02),
        fees=fees,
        funding=funding,
        slippage=slippage,
        reason=rng.choice(np.array([0, 1, 2, 3], np.int8), count),
    )
    totals = Totals(
        trades=count,
        wins=int((pnl > 0).sum()),
        gains=float(pnl[pnl > 0].sum()),
        losses=float(pnl[pnl <= 0].sum()),
        r_multiples=float(table.r.sum()),
        exposed=int(exposed.sum()),
        fees=float(fees.sum()),
        funding=float(funding.sum()),
    )
    params = {**base.params, "initial_equity": 1e6}
    found = metrics(equity, totals, initial_equity=1e6, interval=series.interval)
    whole = replace(base, series=series, params=params, trades=table, equity=equity, exposed=exposed, metrics=found)
    return report(replace(whole, open_position=None))
