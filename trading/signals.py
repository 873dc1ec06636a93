"""Signals at a close: computed once for a whole file in a replay, over a rolling window in a running market.

Both give the same reading for the same bar: the rolling window is never shorter than twenty times the longest
period, where the seed of a smoothed indicator has decayed below the last digit of a float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from trading.errors import BadInput
from trading.model import Candle, CandleSeries, Side, millis
from trading.strategy import Signals, Strategy, evaluate

PERIODS_KEPT = 20
SPARE = 4  # a window grows by this part of itself before it is cut back
LEAST_KEPT = 1200
CHUNK = 4096


class Reading(NamedTuple):
    """What the strategy says at one close. `side` is +1, -1 or 0; `r` is R in price (NaN where undefined)."""

    side: int
    r: float
    exit_long: bool
    exit_short: bool
    hazard_long: bool
    hazard_short: bool
    latched_long: bool
    latched_short: bool

    def exits(self, side: Side) -> bool:
        """Should an open position on this side leave?"""
        return self.exit_long if side is Side.LONG else self.exit_short

    def hazard(self, side: Side) -> bool:
        """Is this bar a knife for an entry on this side?"""
        return self.hazard_long if side is Side.LONG else self.hazard_short

    def latched(self, side: Side) -> bool:
        """Has there been a knife for this side since the last calm bar?"""
        return self.latched_long if side is Side.LONG else self.latched_short


class SignalSource(Protocol):
    """Readings and windows of closed bars, symbol by symbol."""

    def read(self, candle: Candle) -> Reading:
        """The reading at this candle's close; candles of a symbol come in order, each once."""
        ...

    def window(self, symbol: str, bars: int) -> CandleSeries:
        """The last `bars` closed bars up to the last candle read; read-only."""
        ...


def _columns(signals: Signals) -> tuple[NDArray[Any], ...]:
    """The arrays of a `Reading`, field by field."""
    return (
        signals.side,
        signals.stop_distance,
        signals.exit_long,
        signals.exit_short,
        signals.hazard_long,
        signals.hazard_short,
        signals.latched(signals.hazard_long),
        signals.latched(signals.hazard_short),
    )


def _rows(columns: tuple[NDArray[Any], ...], first: int, last: int) -> list[Reading]:
    return [Reading(*row) for row in zip(*(column[first:last].tolist() for column in columns), strict=True)]


class WholeSeries:
    """Readings of complete files, computed at once (no value depends on a later bar)."""

    def __init__(self, strategy: Strategy, series: list[CandleSeries]) -> None:
        self._tracks = {one.symbol: _Track(one, evaluate(strategy, one)) for one in series}

    def read(self, candle: Candle) -> Reading:
        """The reading of this bar."""
        return self._tracks[candle.symbol].read(candle)

    def window(self, symbol: str, bars: int) -> CandleSeries:
        """The bars up to the last one read."""
        track = self._tracks[symbol]
        return track.series.between(track.row + 1 - bars, track.row + 1).locked()


class _Track:
    """One file's readings, turned into Python values a chunk at a time."""

    def __init__(self, series: CandleSeries, signals: Signals) -> None:
        self.series = series
        self.row = -1
        self._columns = _columns(signals)
        self._chunk: list[Reading] = []
        self._first = 0

    def read(self, candle: Candle) -> Reading:
        self.row += 1
        if millis(candle.open_time) != self.series.timestamp[self.row]:
            raise BadInput(f"{candle.symbol}: bars were read out of order at {candle.open_time}")
        offset = self.row - self._first
        if offset >= len(self._chunk):
            self._first, offset = self.row, 0
            self._chunk = _rows(self._columns, self.row, self.row + CHUNK)
        return self._chunk[offset]


class RollingWindow:
    """Readings over the most recent bars, for a market without an end."""

    def __init__(self, strategy: Strategy, history: list[CandleSeries]) -> None:
        self._strategy = strategy
        keep, most = self._kept(strategy), self.wanted(strategy)
        self._buffers = {one.symbol: _Buffer(one.tail(most), keep, most) for one in history}

    @staticmethod
    def wanted(strategy: Strategy) -> int:
        """Bars of history that fill the window."""
        keep = RollingWindow._kept(strategy)
        return keep + keep // SPARE

    @staticmethod
    def _kept(strategy: Strategy) -> int:
        return max(PERIODS_KEPT * strategy.longest_period, LEAST_KEPT)

    def read(self, candle: Candle) -> Reading:
        """Append the bar and evaluate the window."""
        buffer = self._buffers[candle.symbol]
        buffer.append(candle)
        series = buffer.series()
        return _rows(_columns(evaluate(self._strategy, series)), len(series) - 1, len(series))[0]

    def window(self, symbol: str, bars: int) -> CandleSeries:
        """The last bars."""
        return self._buffers[symbol].series().tail(bars).locked()


class BySymbol:
    """Each symbol from a source of its own: how several strategies trade on one account."""

    def __init__(self, sources: Mapping[str, SignalSource]) -> None:
        self._sources = dict(sources)

    @classmethod
    def whole(cls, strategy_for: Callable[[str], Strategy], series: Iterable[CandleSeries]) -> BySymbol:
        """Complete files, each under its symbol's strategy."""
        return cls({one.symbol: WholeSeries(strategy_for(one.symbol), [one]) for one in series})

    @classmethod
    def rolling(cls, strategy_for: Callable[[str], Strategy], history: Iterable[CandleSeries]) -> BySymbol:
        """Markets without an end, each under its symbol's strategy."""
        return cls({one.symbol: RollingWindow(strategy_for(one.symbol), [one]) for one in history})

    @staticmethod
    def wanted(strategy_for: Callable[[str], Strategy], symbols: Iterable[str]) -> int:
        """Bars of history that fill every symbol's window: all ask for the same span, so that closes go together."""
        return max(RollingWindow.wanted(strategy_for(symbol)) for symbol in symbols)

    def read(self, candle: Candle) -> Reading:
        """The reading of its symbol's source."""
        return self._sources[candle.symbol].read(candle)

    def window(self, symbol: str, bars: int) -> CandleSeries:
        """The last bars of that symbol."""
        return self._sources[symbol].window(symbol, bars)


class _Buffer:
    """A growing block of bars that is cut back to `keep` when there are `most`."""

    def __init__(self, history: CandleSeries, keep: int, most: int) -> None:
        self._keep = keep
        self._most = most
        self._symbol, self._interval = history.symbol, history.interval
        self._count = len(history)
        self._timestamp = np.zeros(most + 1, dtype=np.int64)
        self._prices = np.zeros((5, most + 1))
        self._timestamp[: self._count] = history.timestamp
        for row, column in enumerate((history.open, history.high, history.low, history.close, history.volume)):
            self._prices[row, : self._count] = column

    def append(self, candle: Candle) -> None:
        ms = millis(candle.open_time)
        if self._count and self._timestamp[self._count - 1] >= ms:
            if self._timestamp[self._count - 1] > ms:
                raise BadInput(f"{candle.symbol}: bars were read out of order at {candle.open_time}")
            return  # the warm-up history already ended with this bar
        if self._count > self._most:
            self._timestamp[: self._keep] = self._timestamp[self._count - self._keep : self._count]
            self._prices[:, : self._keep] = self._prices[:, self._count - self._keep : self._count]
            self._count = self._keep
        self._timestamp[self._count] = ms
        self._prices[:, self._count] = (candle.open, candle.high, candle.low, candle.close, candle.volume)
        self._count += 1

    def series(self) -> CandleSeries:
        n = self._count
        return CandleSeries(
            symbol=self._symbol,
            interval=self._interval,
            timestamp=self._timestamp[:n],
            open=self._prices[0, :n],
            high=self._prices[1, :n],
            low=self._prices[2, :n],
            close=self._prices[3, :n],
            volume=self._prices[4, :n],
        )
