"""What the wire needs of a market, and what it says of it: last price, day statistics, the bar in progress.

Nothing here lies beyond market time: closed bars, the bar in progress as far as it has come, the last price.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

import numpy as np

from trading.exchange.simulated.venue import SETTLEMENT_MS, Venue
from trading.exchange.simulated.wire.candles import DAY_MS, Interval, intervals
from trading.model import EPOCH, MILLISECOND, Candle, CandleSeries, exact, millis

ALL_BARS = 2**62
HOUR_MS = 3_600_000


class MarketLike(Protocol):
    """The market behind the venue, as of market time."""

    @property
    def interval(self) -> timedelta:
        """The length of the feed's bars."""
        ...

    def history(self, symbol: str, bars: int) -> CandleSeries | None:
        """The last closed bars; None for a symbol it does not have."""
        ...

    def open_candle(self, symbol: str) -> Candle | None:
        """The bar in progress as far as it has come; None between bars."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The last 24 hours of a symbol; prices are None where there is no bar so old."""

    high: float
    low: float
    volume: float
    turnover: float
    price_24h: float
    price_1h: float


class Prices:
    """Prices of the venue's symbols, with the market's bars."""

    def __init__(self, venue: Venue, market: MarketLike) -> None:
        self.venue = venue
        self._market = market
        self.interval = market.interval
        self.intervals: dict[str, Interval] = intervals(market.interval)

    @property
    def now_ms(self) -> int:
        """Market time."""
        return millis(self.venue.now)

    def closed(self, symbol: str) -> CandleSeries | None:
        """Every closed bar."""
        return self._market.history(symbol, ALL_BARS)

    def recent(self, symbol: str, bars: int) -> CandleSeries | None:
        """The last closed bars."""
        return self._market.history(symbol, bars)

    def running(self, symbol: str) -> Candle | None:
        """The bar in progress: as walked so far, or between bars the one that begins now, at the last price."""
        candle = self._market.open_candle(symbol)
        if candle is not None or symbol not in self.venue.last:
            return candle
        length = self.interval // MILLISECOND
        opening = EPOCH + MILLISECOND * (self.now_ms // length * length)
        prices = dict.fromkeys(("open", "high", "low", "close"), self.venue.last[symbol])
        return Candle(symbol=symbol, open_time=opening, interval=self.interval, volume=0.0, **prices)

    def last(self, symbol: str) -> Decimal | None:
        """The last price, or None before the first."""
        value = self.venue.last.get(symbol)
        return None if value is None else exact(value)

    def funding(self, symbol: str) -> tuple[Decimal, int]:
        """The rate and the time of the next settlement; where no rate is known yet, that of the terms."""
        at = (self.now_ms // SETTLEMENT_MS + 1) * SETTLEMENT_MS
        rate = self.venue.funding_rate(symbol, at)
        return exact(self.venue.terms.funding_rate) if rate is None else rate, at

    def day(self, symbol: str) -> Day:
        """Statistics of the last 24 hours, of a symbol that has a last price."""
        last = self.venue.last[symbol]
        series = self.recent(symbol, DAY_MS // (self.interval // MILLISECOND) + 1)
        if series is None or not len(series):
            return Day(high=last, low=last, volume=0.0, turnover=0.0, price_24h=last, price_1h=last)
        part = series.between(int(np.searchsorted(series.timestamp, self.now_ms - DAY_MS)), len(series))
        mean = (part.open + part.high + part.low + part.close) / 4
        return Day(
            high=max(last, float(part.high.max(initial=last))),
            low=min(last, float(part.low.min(initial=last))),
            volume=float(part.volume.sum()),
            turnover=float((part.volume * mean).sum()),
            price_24h=_price_at(series, self.now_ms - DAY_MS),
            price_1h=_price_at(series, self.now_ms - HOUR_MS),
        )


def _price_at(series: CandleSeries, ms: int) -> float:
    """The price at a moment: the open of the bar that begins there, else the close of the one before."""
    row = int(np.searchsorted(series.timestamp, ms))
    if row < len(series) and int(series.timestamp[row]) == ms:
        return float(series.open[row])
    return float(series.close[max(row - 1, 0)]) if row else float(series.open[0])
