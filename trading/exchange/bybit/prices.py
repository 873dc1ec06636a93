"""Bybit's public prices without an account: trades, book tops, candles and funding, for a paper exchange to run on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol

from trading.errors import ConclaveError
from trading.exchange.bybit.candles import Candles, interval_name
from trading.exchange.bybit.clock import HearingClock
from trading.exchange.bybit.endpoints import Endpoints
from trading.exchange.bybit.objects import Unreadable, at_ms, candle_of, flag, number, objects_of, positive
from trading.exchange.bybit.rest import BybitRest
from trading.exchange.bybit.streams import Frame, Plan, Stream
from trading.model import Candle, CandleSeries

MINUTE: Final = timedelta(minutes=1)
RATE, DUE = "fundingRate", "nextFundingTime"


class PriceListener(Protocol):
    """Who runs on the prices. Called on the loop, in the order in which the stream tells it."""

    def traded(self, symbol: str, price: float, at: datetime) -> None:
        """Somebody traded."""
        ...

    def topped(self, symbol: str, bid: Decimal, ask: Decimal, at: datetime) -> None:
        """The best prices of the book have changed."""
        ...

    def charted(self, candle: Candle, *, closed: bool) -> None:
        """A bar has grown, or closed."""
        ...

    def funded(self, symbol: str, rate: Decimal, due: datetime) -> None:
        """The rate of the next settlement, as it stands."""
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
        self._bars = Candles(rest, interval, clock)
        self._minutes = Candles(rest, MINUTE, clock)
        self._url = endpoints.public
        self._funding: dict[str, dict[str, Any]] = {}
        self._listener: PriceListener | None = None
        self._stream: Stream | None = None
        self._task: asyncio.Task[None] | None = None

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """The last closed bars."""
        return await self._bars.last(symbol, bars)

    async def since(self, symbol: str, opening: datetime) -> list[Candle]:
        """Closed bars that opened at a moment or later, oldest first."""
        return await self._bars.since(symbol, opening)

    async def minutes(self, symbol: str, opening: datetime) -> list[Candle]:
        """Closed bars of one minute since a moment; none where the exchange has no bars so fine."""
        try:
            return await self._minutes.since(symbol, opening)
        except ConclaveError:
            return []

    async def start(self, listener: PriceListener) -> None:
        """Open the stream and keep it open; the listener hears when it is up."""
        self._listener = listener
        topics = ("publicTrade.{symbol}", "orderbook.1.{symbol}", "tickers.{symbol}")
        kline = f"kline.{interval_name(self._interval)}.{{symbol}}"
        plan = Plan(name="prices", url=self._url, topics=tuple((topic, self._symbols) for topic in (*topics, kline)))
        self._stream = Stream(plan, on_frame=self._on_frame, on_up=listener.connected, on_down=listener.disconnected)
        self._task = asyncio.create_task(self._stream.run(), name="prices")

    async def stop(self) -> None:
        """Close the stream and the connection."""
        if self._task is not None and self._stream is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._stream.ended()
        self._rest.close()

    def _on_frame(self, frame: Frame) -> None:
        kind, _, rest = str(frame["topic"]).partition(".")
        symbol = rest.rpartition(".")[2]
        with contextlib.suppress(Unreadable, KeyError, TypeError):  # the next frame says it again
            if kind == "publicTrade":
                self._on_trades(frame, symbol)
            elif kind == "orderbook":
                self._on_book(frame, symbol)
            elif kind == "kline":
                self._on_candles(frame, symbol)
            elif kind == "tickers":
                self._on_ticker(frame, symbol)

    def _on_trades(self, frame: Frame, symbol: str) -> None:
        for raw in objects_of(frame, "data"):
            if self._listener is not None:
                self._listener.traded(symbol, float(positive(raw, "p")), at_ms(raw["T"], "T"))

    def _on_book(self, frame: Frame, symbol: str) -> None:
        """Depth 1 comes whole every time."""
        bids, asks = frame["data"]["b"], frame["data"]["a"]
        if bids and asks and self._listener is not None:
            bid, ask = Decimal(bids[0][0]), Decimal(asks[0][0])
            if 0 < bid < ask:
                self._listener.topped(symbol, bid, ask, at_ms(frame["ts"], "ts"))

    def _on_candles(self, frame: Frame, symbol: str) -> None:
        for raw in objects_of(frame, "data"):
            if self._listener is not None:
                candle = candle_of(raw, symbol, self._interval)
                self._listener.charted(candle, closed=flag(raw, "confirm"))

    def _on_ticker(self, frame: Frame, symbol: str) -> None:
        """A delta names only what has changed."""
        known, data = self._funding.setdefault(symbol, {}), frame["data"]
        known.update({name: data[name] for name in (RATE, DUE) if name in data})
        if self._listener is not None and len(known) == 2:
            self._listener.funded(symbol, number(known, RATE), at_ms(known[DUE], DUE))
