"""Bybit's public prices without an account: trades, book tops, candles and funding, for a paper exchange to run on.

What cannot be read is left out: the listener notices a bar that is missing and asks for it. Block trades are left
out too, as they are agreed upon beside the book.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, Protocol

from trading.errors import Rejected, Transient
from trading.exchange.bybit.candles import MINUTE, PAGE, Candles, interval_name
from trading.exchange.bybit.clock import HearingClock
from trading.exchange.bybit.endpoints import Endpoints
from trading.exchange.bybit.objects import (
    Json,
    Unreadable,
    at_ms,
    candle_of,
    candle_of_row,
    flag,
    moment,
    number,
    objects_of,
    positive,
    rows_of,
)
from trading.exchange.bybit.rest import BybitRest
from trading.exchange.bybit.streams import Frame, Plan, Stream
from trading.model import Candle, CandleSeries, millis

RATE, DUE = "fundingRate", "nextFundingTime"
SETTLEMENTS: Final = 200  # the most that one answer holds; what is older stays unsettled


class PriceListener(Protocol):
    """Who runs on the prices. Called on the loop, in the order in which the stream tells it; none of it may raise."""

    def traded(self, symbol: str, price: float, at: datetime) -> None:
        """Somebody traded."""
        ...

    def topped(self, symbol: str, bid: Decimal, ask: Decimal, at: datetime) -> None:
        """The best prices of the book have changed."""
        ...

    def charted(self, candle: Candle, *, closed: bool) -> None:
        """A bar has grown, or closed."""
        ...

    def funded(self, symbol: str, rate: Decimal, due: datetime, at: datetime) -> None:
        """The rate and the moment of the next settlement, as they stand now."""
        ...

    def connected(self) -> None:
        """The stream is up: what was traded while it was not must be asked for."""
        ...

    def disconnected(self, reason: str) -> None:
        """The stream is down."""
        ...


class BybitPrices:
    """The public side of one Bybit environment."""

    def __init__(
        self, rest: BybitRest, endpoints: Endpoints, symbols: Sequence[str], interval: timedelta, clock: HearingClock
    ) -> None:
        self._rest = rest
        self._symbols = tuple(symbols)
        self._interval = interval
        self._candles = Candles(rest, interval, clock)
        self._url = endpoints.public
        self._funding: dict[str, dict[str, Any]] = {}

    # ---- questions -------------------------------------------------------------------------------

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """The last closed bars."""
        return await self._candles.last(symbol, bars)

    async def since(self, symbol: str, opening: datetime) -> list[Candle]:
        """Closed bars that opened at a moment or later, oldest first."""
        return await self._candles.since(symbol, opening)

    async def minutes(self, symbol: str, since: datetime) -> list[Candle]:
        """Bars of one minute that were not over at a moment, oldest first, with the one in progress.

        Where the exchange has none so fine, bars of the market's own length.
        """
        try:
            return await self._bars(symbol, since, MINUTE)
        except Rejected:
            return await self._bars(symbol, since, self._interval)

    async def _bars(self, symbol: str, since: datetime, length: timedelta) -> list[Candle]:
        found: list[Candle] = []
        window: dict[str, Any] = {"symbol": symbol, "interval": interval_name(length), "limit": PAGE}
        start = since - length
        while True:
            result = await self._rest.read("get_kline", category="linear", start=max(millis(start), 0), **window)
            try:
                page = [candle_of_row(row, symbol, length) for row in reversed(rows_of(result))]
            except Unreadable as error:
                raise Transient(f"the exchange's candles of {symbol} cannot be read: {error}") from None
            found += [candle for candle in page if candle.close_time > since]
            if len(page) < PAGE:
                return found
            start = page[-1].close_time

    async def settlements(self, symbol: str, since: datetime) -> dict[datetime, Decimal]:
        """The rates of the funding settlements after a moment."""
        ask = partial(self._rest.read, "get_funding_rate_history", category="linear")
        result = await ask(symbol=symbol, limit=SETTLEMENTS)
        try:
            found = {moment(raw, "fundingRateTimestamp"): number(raw, RATE) for raw in objects_of(result)}
        except Unreadable as error:
            raise Transient(f"the exchange's funding of {symbol} cannot be read: {error}") from None
        return {at: rate for at, rate in found.items() if at > since}

    # ---- the stream ------------------------------------------------------------------------------

    async def follow(self, listener: PriceListener) -> None:
        """Keep the stream open until cancelled, then give up the connection."""
        topics = ("publicTrade.{symbol}", "orderbook.1.{symbol}", "tickers.{symbol}")
        kline = f"kline.{interval_name(self._interval)}.{{symbol}}"
        plan = Plan(name="prices", url=self._url, topics=tuple((topic, self._symbols) for topic in (*topics, kline)))
        on_frame = partial(self._on_frame, listener)
        stream = Stream(plan, on_frame=on_frame, on_up=listener.connected, on_down=listener.disconnected)
        try:
            await stream.run()
        finally:
            await stream.ended()
            self._rest.close()

    def _on_frame(self, listener: PriceListener, frame: Frame) -> None:
        kind, _, rest = str(frame["topic"]).partition(".")
        symbol = rest.rpartition(".")[2]
        readers: dict[str, Callable[[PriceListener, Frame, str], None]] = {
            "publicTrade": self._on_trades,
            "orderbook": self._on_book,
            "kline": self._on_candles,
            "tickers": self._on_ticker,
        }
        if kind in readers and symbol in self._symbols:
            with contextlib.suppress(Unreadable):
                readers[kind](listener, frame, symbol)

    def _on_trades(self, listener: PriceListener, frame: Frame, symbol: str) -> None:
        """No trade is later than the frame that tells of it."""
        told_at = moment(frame, "ts")
        for raw in objects_of(frame, "data"):
            with contextlib.suppress(Unreadable):
                if raw.get("BT") is not True:
                    listener.traded(symbol, float(positive(raw, "p")), min(moment(raw, "T"), told_at))

    def _on_book(self, listener: PriceListener, frame: Frame, symbol: str) -> None:
        """Depth 1 comes whole every time. A side may be empty, and a book that crosses itself is none."""
        bid, ask = _best(frame, "b"), _best(frame, "a")
        if bid is not None and ask is not None and bid < ask:
            listener.topped(symbol, bid, ask, moment(frame, "ts"))

    def _on_candles(self, listener: PriceListener, frame: Frame, symbol: str) -> None:
        for raw in objects_of(frame, "data"):
            with contextlib.suppress(Unreadable):
                listener.charted(candle_of(raw, symbol, self._interval), closed=flag(raw, "confirm"))

    def _on_ticker(self, listener: PriceListener, frame: Frame, symbol: str) -> None:
        """A delta names only what has changed."""
        known, data = self._funding.setdefault(symbol, {}), _data(frame)
        news = {name: data[name] for name in (RATE, DUE) if name in data}
        known.update(news)
        if news and len(known) == 2:
            listener.funded(symbol, number(known, RATE), at_ms(known[DUE], DUE), moment(frame, "ts"))


def _data(frame: Frame) -> Json:
    data = frame.get("data")
    if not isinstance(data, dict):
        raise Unreadable("data is missing")
    return data


def _best(frame: Frame, side: str) -> Decimal | None:
    """The price of the first level of a side; None when the side is empty."""
    levels = _data(frame).get(side)
    if not isinstance(levels, list) or not all(isinstance(level, list) and level for level in levels):
        raise Unreadable(f"{side} is missing")
    return positive({"price": levels[0][0]}, "price") if levels else None
