"""The public stream: klines, tickers, books and trades of every symbol, to whoever has subscribed.

Confirmed klines leave at once; everything else is gathered and told at most ten times a second of the wall, as
market time may run far faster. Nothing is built that nobody listens to.
"""

from __future__ import annotations

import asyncio
from typing import Any

from trading.exchange.simulated.wire.candles import Bar, Interval, merged
from trading.exchange.simulated.wire.connection import Connection
from trading.exchange.simulated.wire.depth import Stream, book
from trading.exchange.simulated.wire.formats import encode, price
from trading.exchange.simulated.wire.market import Prices
from trading.exchange.simulated.wire.market_data import MarketData, trade
from trading.exchange.simulated.wire.sockets import TopicSocket
from trading.model import MILLISECOND, Candle, millis
from trading.ports import BarsClosed

FLUSH_SECONDS = 0.1
REPEAT_SECONDS = 3.0
DEPTHS = ("1", "50", "200", "1000")
TWO_PARTS = ("tickers", "publicTrade", "allLiquidation")


class PublicStream:
    """Who listens to what, and what they hold."""

    def __init__(self, prices: Prices, data: MarketData) -> None:
        self._prices = prices
        self._venue = prices.venue
        self._data = data
        self._topics: dict[str, dict[Connection, None]] = {}
        self._klines: dict[str, dict[str, Interval]] = {}
        self._tickers: dict[str, dict[str, str]] = {}
        self._books: dict[str, Stream] = {}
        self._traded: dict[str, float] = {}
        self._ticks: dict[str, list[tuple[float, int]]] = {}
        self._ticked: dict[str, tuple[float, int]] = {}
        self._dirty: dict[str, None] = {}
        self._flushing: asyncio.TimerHandle | None = None
        self._repeating: asyncio.TimerHandle | None = None
        self._sequence = 0

    # Subscriptions

    def knows(self, topic: str) -> bool:
        """Is it a topic of this exchange?"""
        kind, *rest = topic.split(".")
        if kind in {"kline", "orderbook"}:
            names = self._prices.intervals if kind == "kline" else DEPTHS
            return len(rest) == 2 and rest[0] in names and rest[1] in self._venue.instruments
        return kind in TWO_PARTS and len(rest) == 1 and rest[0] in self._venue.instruments

    def join(self, connection: Connection, topic: str) -> None:
        """From now on; the first frame says how things stand."""
        kind, *rest = topic.split(".")
        fresh = not self._topics.get(topic)
        self._topics.setdefault(topic, {})[connection] = None
        symbol = rest[-1]
        if kind == "kline":
            self._klines.setdefault(symbol, {})[topic] = self._prices.intervals[rest[0]]
        if symbol not in self._venue.last:
            return
        if kind == "kline":
            self._send_running(connection, symbol, topic)
        elif kind == "tickers":
            connection.send(self._ticker_snapshot(symbol, topic, fresh=fresh))
        elif kind == "orderbook":
            connection.send(self._book_snapshot(symbol, topic, int(rest[0]), fresh=fresh))

    def leave(self, connection: Connection, topic: str) -> None:
        """No longer."""
        listeners = self._topics.get(topic, {})
        listeners.pop(connection, None)
        if not listeners:
            self._topics.pop(topic, None)
            self._klines.get(topic.rpartition(".")[2], {}).pop(topic, None)
            self._books.pop(topic, None)

    def close(self) -> None:
        """Nothing more will be told."""
        for timer in (self._flushing, self._repeating):
            if timer is not None:
                timer.cancel()

    # What the market says

    def bars_closed(self, closed: BarsClosed) -> None:
        """Bars have closed: confirm them."""
        for candle in closed.candles:
            for topic, interval in self._klines.get(candle.symbol, {}).items():
                self._send(topic, self._closed_frame(topic, interval, candle))
            self._touch(candle.symbol)

    def ticked(self, symbol: str) -> None:
        """The price has moved within a bar."""
        for topic in self._klines.get(symbol, {}):
            self._send(topic, self._running_frame(symbol, topic))
        self._touch(symbol)

    def _closed_frame(self, topic: str, interval: Interval, candle: Candle) -> str:
        start, close = interval.floor(millis(candle.open_time)), millis(candle.close_time)
        end = interval.shift(start, 1)
        bar = Bar(start, candle.open, candle.high, candle.low, candle.close, candle.volume)
        if end - start != candle.interval // MILLISECOND:
            closed = self._prices.recent(candle.symbol, (close - start) // (candle.interval // MILLISECOND))
            bar = list(merged(closed, None, interval))[-1] if closed is not None and len(closed) else bar
        return kline_frame(topic, interval, bar, close, confirm=close == end)

    def _running_frame(self, symbol: str, topic: str) -> str:
        interval = self._klines[symbol][topic]
        running = self._prices.running(symbol)
        if running is None:
            return ""
        opening, length = millis(running.open_time), self._prices.interval // MILLISECOND
        closed = self._prices.recent(symbol, (opening - interval.floor(opening)) // length)
        bar = list(merged(closed, running, interval))[-1] if closed is not None else None
        return kline_frame(topic, interval, bar, self._prices.now_ms, confirm=False) if bar else ""

    def _send_running(self, connection: Connection, symbol: str, topic: str) -> None:
        if frame := self._running_frame(symbol, topic):
            connection.send(frame)

    # What is gathered

    def _touch(self, symbol: str) -> None:
        self._dirty[symbol] = None
        if f"publicTrade.{symbol}" in self._topics:
            tick, ticks = (self._venue.last[symbol], self._prices.now_ms), self._ticks.setdefault(symbol, [])
            if tick != self._ticked.get(symbol):
                ticks.append(tick)
            self._ticked[symbol] = tick
        if self._flushing is None and any(not topic.startswith("kline.") for topic in self._topics):
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self._flush)

    def _flush(self) -> None:
        self._flushing = None
        dirty, self._dirty = self._dirty, {}
        for topic in list(self._topics):
            kind, *rest = topic.split(".")
            if rest[-1] not in dirty or rest[-1] not in self._venue.last:
                continue
            if kind == "tickers":
                self._send(topic, self._ticker_delta(rest[-1], topic))
            elif kind == "orderbook":
                self._send(topic, self._book_change(rest[-1], topic, int(rest[0])))
            elif kind == "publicTrade":
                self._send(topic, self._trade_frame(rest[-1], topic))

    def _ticker_snapshot(self, symbol: str, topic: str, *, fresh: bool) -> str:
        if fresh or symbol not in self._tickers:
            self._tickers[symbol] = self._data.ticker(symbol)
        data = {**self._tickers[symbol], "tickDirection": "PlusTick"}
        return self._frame(topic, "snapshot", data, cs=self._next())

    def _ticker_delta(self, symbol: str, topic: str) -> str:
        held, now = self._tickers.get(symbol, {}), self._data.ticker(symbol)
        self._tickers[symbol] = now
        if not held:
            return self._ticker_snapshot(symbol, topic, fresh=False)
        changed = {name: value for name, value in now.items() if held.get(name) != value}
        if not changed:
            return ""
        if "lastPrice" in changed:
            rose = float(now["lastPrice"]) > float(held["lastPrice"])
            changed["tickDirection"] = "PlusTick" if rose else "MinusTick"
        return self._frame(topic, "delta", {"symbol": symbol, **changed}, cs=self._next())

    def _book_snapshot(self, symbol: str, topic: str, levels: int, *, fresh: bool) -> str:
        if fresh or topic not in self._books:
            self._book_change(symbol, topic, levels)
        stream = self._books[topic]
        if levels == 1 and self._repeating is None:
            self._repeating = asyncio.get_running_loop().call_later(REPEAT_SECONDS, self._repeat)
        return self._frame(topic, "snapshot", stream.snapshot(), cts=self._prices.now_ms)

    def _book_change(self, symbol: str, topic: str, levels: int) -> str:
        stream = self._books.setdefault(topic, Stream(symbol, levels))
        first = stream.update == 0
        rules = self._venue.instruments[symbol]
        change = stream.move(book(rules, self._venue.bid(symbol), self._venue.ask(symbol), levels))
        if change is None:
            return ""
        stream.told = asyncio.get_running_loop().time()
        if first or levels == 1:
            return self._frame(topic, "snapshot", stream.snapshot(), cts=self._prices.now_ms)
        return self._frame(topic, "delta", change, cts=self._prices.now_ms)

    def _repeat(self) -> None:
        """A best bid and ask that has not moved for three seconds is told again."""
        loop = asyncio.get_running_loop()
        shallow = {topic: stream for topic, stream in self._books.items() if stream.levels == 1}
        for topic, stream in shallow.items():
            if loop.time() - stream.told >= REPEAT_SECONDS:
                stream.told = loop.time()
                self._send(topic, self._frame(topic, "snapshot", stream.snapshot(), cts=self._prices.now_ms))
        self._repeating = loop.call_later(REPEAT_SECONDS, self._repeat) if shallow else None

    def _trade_frame(self, symbol: str, topic: str) -> str:
        """Every price since the last frame as a trade."""
        rows = [self._trade_row(symbol, price, at) for price, at in self._ticks.pop(symbol, [])]
        return self._frame(topic, "snapshot", rows) if rows else ""

    def _trade_row(self, symbol: str, last: float, at: int) -> dict[str, Any]:
        before = self._traded.get(symbol, last)
        self._traded[symbol] = last
        rose = last >= before
        made = trade(symbol, last, float(self._venue.instruments[symbol].min_qty) * 10, at, "Buy" if rose else "Sell")
        self._data.push(made)
        return {
            "T": at,
            "s": symbol,
            "S": made["side"],
            "v": made["size"],
            "p": made["price"],
            "L": "PlusTick" if rose else "MinusTick",
            "i": made["execId"],
            "BT": False,
            "RPI": False,
            "seq": self._next(),
        }

    def _frame(self, topic: str, kind: str, data: Any, **beside: int) -> str:
        return encode({"topic": topic, "type": kind, "ts": self._prices.now_ms, "data": data, **beside})

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def _send(self, topic: str, frame: str) -> None:
        if frame:
            for connection in self._topics.get(topic, ()):
                connection.send(frame)


def kline_frame(topic: str, interval: Interval, bar: Bar, ts: int, *, confirm: bool) -> str:
    """One kline message, written by hand: it is the one frame that a replay sends for every bar."""
    end = interval.shift(bar.start, 1) - 1
    return (
        f'{{"topic":"{topic}","data":[{{"start":{bar.start},"end":{end},"interval":"{interval.name}",'
        f'"open":"{price(bar.open)}","close":"{price(bar.close)}","high":"{price(bar.high)}",'
        f'"low":"{price(bar.low)}","volume":"{price(bar.volume)}","turnover":"{price(bar.turnover)}",'
        f'"confirm":{"true" if confirm else "false"},"timestamp":{min(ts, end)}}}],"ts":{ts},"type":"snapshot"}}'
    )


class PublicSocket(TopicSocket):
    """One client of the public stream."""

    def __init__(self, connection: Connection, stream: PublicStream, ack_delay: float) -> None:
        super().__init__(connection, ack_delay)
        self._stream = stream

    def knows(self, topic: str) -> bool:
        """As the stream says."""
        return self._stream.knows(topic)

    def joined(self, topics: list[str]) -> None:
        """How things stand goes out behind the ack."""
        for topic in topics:
            self._stream.join(self.connection, topic)

    def left(self, topics: list[str]) -> None:
        """Nothing more of these."""
        for topic in topics:
            self._stream.leave(self.connection, topic)

    def gone(self) -> None:
        """The client has hung up."""
        self.left(list(self.topics))
