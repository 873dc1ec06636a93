"""The object that `replay --json`, `run --json` and `backtest --json` print, written so that memory stays flat.

Finished trades go to a spool on disk as they happen and are copied into the output one by one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Self, TextIO

from research.candles import CandleFile
from research.metrics import Tape
from trading import events as ev
from trading.model import CandleSeries, exact, millis
from trading.portfolio import Book, Holding

SPOOL_BYTES = 1 << 20


class TradeSpool:
    """Finished trades in the order in which they closed; in memory up to a megabyte, then on disk."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES, mode="w+", encoding="utf-8")  # noqa: SIM115 - `close` closes it

    def add(self, row: Mapping[str, Any]) -> None:
        """One more trade."""
        self._file.write(json.dumps(row) + "\n")

    def close(self) -> None:
        """Give the file back; it has no name and leaves nothing behind."""
        self._file.close()

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every trade so far."""
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)
        self._file.seek(0, 2)


class Outcome:
    """Listens to a journal and sums it up: equity at every close, costs, finished trades. Used inside `with`."""

    def __init__(self, symbols: tuple[str, ...]) -> None:
        self._tape = Tape()
        self._spool = TradeSpool()
        self._several = len(symbols) > 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def hear(self, event: ev.Event) -> None:
        """One event of the journal, in order."""
        if isinstance(event, ev.EquityMarked):
            self._tape.mark(event.equity, event.exposed)
        elif isinstance(event, ev.OrderFilled):
            self._tape.fee(event.fee)
        elif isinstance(event, ev.FundingPaid):
            self._tape.fund(event.amount)
        elif isinstance(event, ev.TradeClosed):
            self._tape.trade(event)
            self._spool.add(trade_row(event, with_symbol=self._several))

    def metrics(self, initial_equity: float, interval: timedelta) -> dict[str, Any]:
        """The metrics of the specification."""
        return self._tape.summary(initial_equity, interval)

    def trades(self) -> Iterator[dict[str, Any]]:
        """Every finished trade, in the order in which they closed."""
        return self._spool.rows()


def trade_row(trade: ev.TradeClosed, *, with_symbol: bool) -> dict[str, Any]:
    """A finished trade as the contract names it; times are open times of bars in ms UTC."""
    row = {
        "side": trade.side.value,
        "signal_time": millis(trade.signal_time),
        "entry_time": millis(trade.entry_time),
        "exit_time": millis(trade.exit_time),
        "entry_price": float(trade.entry_price),
        "exit_price": float(trade.exit_price),
        "qty": float(trade.qty),
        "pnl": float(trade.pnl),
        "r": trade.r,
        "exit_reason": trade.exit_reason.value,
    }
    return {"symbol": trade.symbol, **row} if with_symbol else row


def open_position_row(holding: Holding, close: float) -> dict[str, Any]:
    """A position that is still open, valued at the last close; `unrealised` is before the exit's costs."""
    return {
        "side": holding.side.value,
        "signal_time": millis(holding.signal_time),
        "entry_time": millis(holding.entry_time),
        "entry_price": float(holding.entry_price),
        "qty": float(holding.qty),
        "stop": float(holding.stop),
        "take_profit": None if holding.take_profit is None else float(holding.take_profit),
        "last_close": close,
        "unrealised": float(holding.profit_at(exact(close))),
        "fees": float(holding.fees),
        "funding": float(holding.funding),
    }


def open_position(book: Book, symbols: tuple[str, ...]) -> dict[str, Any] | None:
    """The open position of one symbol; with several symbols, all of them by name."""
    rows = {symbol: open_position_row(h, book.closes[symbol]) for symbol, h in book.holdings.items()}
    return rows.get(symbols[0]) if len(symbols) == 1 else rows or None


def candles_row(file: CandleFile) -> dict[str, Any]:
    """What was replayed: bars, first and last open time in ms, and the file's fingerprint."""
    return series_row(file.series, file.sha256)


def series_row(series: CandleSeries, sha256: str | None) -> dict[str, Any]:
    """The same for bars whose file's fingerprint is known, or which never were a file."""
    first, last = int(series.timestamp[0]), int(series.timestamp[-1])
    return {"rows": len(series), "first": first, "last": last, "sha256": sha256}


def candles_of(files: Iterable[CandleFile]) -> dict[str, Any]:
    """One file's row; with several files, all of them by symbol."""
    rows = {file.series.symbol: candles_row(file) for file in files}
    return next(iter(rows.values())) if len(rows) == 1 else rows


def write_report(
    out: TextIO,
    *,
    params: Mapping[str, Any],
    metrics: Mapping[str, Any],
    trades: Iterable[Mapping[str, Any]],
    position: Mapping[str, Any] | None,
    candles: Mapping[str, Any] | None,
) -> None:
    """One JSON object; NaN and infinity never appear in it."""

    def text(value: Any) -> str:
        return json.dumps(value, allow_nan=False)

    out.write(f'{{"params": {text(params)}, "metrics": {text(metrics)}, "trades": [')
    out.writelines((", " if row else "") + text(trade) for row, trade in enumerate(trades))
    out.write(f'], "open_position": {text(position)}, "candles": {text(candles)}}}\n')
