"""A paper market on live prices: every trade of the real exchange is matched on the venue, tick by tick.

Limits fill only when somebody traded through them, post-only is judged against the real book's top, market orders
and stops get the touch and the slippage of the terms. Bars are the real exchange's own, and everything is told in
the order in which it happened: the fills of a bar, its close, then what came after it.

What is heard waits in a queue for a twentieth of a second, so that books are kept and told once for many trades.
What was traded while nobody listened (the stream was down, the program was away) is walked afterwards, minute by
minute. An order that came meanwhile is matched by the whole of that walk: when it came is not known in market time.

No price is believed that is half as much again as the last, or the reverse: exchanges have price limits of a few
percent, so such a trade, book or bar is more likely a fault. The second witness is the exchange's own record by REST:
it is asked at once, and what it has is walked, however far the price went.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Protocol, TypeVar

import numpy as np

from trading.errors import ConclaveError, Transient
from trading.exchange.simulated.books import NewOrder
from trading.exchange.simulated.market import SimulatedClock
from trading.exchange.simulated.venue import Venue
from trading.model import EPOCH, Candle, CandleSeries, exact, millis
from trading.ports import BarsClosed

log = logging.getLogger(__name__)

BATCH_SECONDS = 0.05
RETRY_SECONDS = 1.0  # from one question about what was missed to the next
SAY_AGAIN_SECONDS = 60.0
LEAP = 1.5  # times the last price, or the last price over it: more is not believed
MINUTE = timedelta(minutes=1)
T = TypeVar("T")


class LivePrices(Protocol):
    """Where the prices come from. Questions raise `Transient` while there is no answer."""

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """The last closed bars."""
        ...

    async def since(self, symbol: str, opening: datetime) -> list[Candle]:
        """Closed bars that opened at a moment or later, oldest first."""
        ...

    async def minutes(self, symbol: str, since: datetime) -> list[Candle]:
        """The finest bars there are that were not over at a moment, oldest first, the one in progress included."""
        ...

    async def settlements(self, symbol: str, since: datetime) -> Mapping[datetime, Decimal]:
        """The rates of the funding settlements after a moment."""
        ...

    async def follow(self, listener: LiveMarket) -> None:
        """Keep the stream open and tell the listener of every change, until cancelled."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """What one symbol did while nobody listened."""

    symbol: str
    bars: Sequence[Candle]
    minutes: Sequence[Candle]
    settlements: Mapping[datetime, Decimal]


@dataclass(slots=True, kw_only=True)
class Reach:
    """How far the price was seen to go in the minute (or bar) that opened then."""

    opening: datetime
    low: float
    high: float


class LiveMarket:
    """The market of a venue on live prices. `deliver` takes closed bars, `ticked` every change between."""

    def __init__(
        self,
        venue: Venue,
        prices: LivePrices,
        symbols: Sequence[str],
        interval: timedelta,
        clock: SimulatedClock,
        *,
        bars: int,
    ) -> None:
        self.interval = interval
        self.deliver: Callable[[BarsClosed], None] = lambda _: None
        self.ticked: Callable[[str, float], None] = lambda _symbol, _price: None
        self._venue = venue
        self._prices = prices
        self._symbols = tuple(symbols)
        self._clock = clock
        self._bars = bars
        self._series: dict[str, CandleSeries] = {}
        self._open: dict[str, Candle] = {}
        self._reached: dict[str, Reach] = {}
        self._due: dict[str, dict[datetime, Decimal]] = {symbol: {} for symbol in symbols}
        self._heard: deque[Callable[[], None]] = deque()
        self._wake = asyncio.Event()
        self._up, self._connection = False, 0
        self._listening = False  # what is heard is the whole since `_heard_until`
        self._heard_until = EPOCH
        self._asked_at, self._said_at = -math.inf, -math.inf
        self._failing = False
        self._closed: list[Candle] = []  # not yet told
        self._newest = EPOCH  # the latest close that is known
        self._moved: dict[str, None] = {}
        self._changed = False

    def history(self, symbol: str, bars: int) -> CandleSeries | None:
        """The last closed bars."""
        series = self._series.get(symbol)
        return series.tail(min(bars, len(series))) if series is not None else None

    def open_candle(self, symbol: str) -> Candle | None:
        """The bar in progress."""
        return self._open.get(symbol)

    async def prepare(self) -> None:
        """Ask for the bars before now, for as long as it takes, and walk what was traded since the books were kept."""
        self._heard_until = self._venue.now
        for symbol in self._symbols:
            self._series[symbol] = await self._patiently(partial(self._prices.history, symbol, self._bars))
        self._walk(await self._patiently(self._missed))
        self._heard_until = self._venue.now

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                answer = await ask()
            except Transient as error:
                if not self._failing:
                    log.warning("live_prices_not_reached reason='%s' next='asking again'", error)
                self._failing = True
                await self._clock.sleep(RETRY_SECONDS)
            else:
                self._failing = False
                return answer

    async def run(self) -> None:
        """Follow the prices until cancelled."""
        following = asyncio.create_task(self._prices.follow(self), name="prices")
        following.add_done_callback(lambda _: self._wake.set())
        try:
            while not following.done():
                await self._wake.wait()
                self._wake.clear()
                self._take_in()
                if self._up and not self._listening:
                    await self._catch_up()
                await self._clock.sleep(BATCH_SECONDS)
            await following
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    # What the prices say

    def connected(self) -> None:
        """Up: what was missed must be asked for."""
        self._up = True
        self._connection += 1
        self._wake.set()

    def disconnected(self, _reason: str) -> None:
        """Down: after what was heard so far the last price stands, and nothing is matched."""
        self._up = False
        self._connection += 1
        if self._listening:
            self._hear(self._fall_deaf)

    def traded(self, symbol: str, price: float, at: datetime) -> None:
        """Somebody traded."""
        if 0 < price < math.inf:
            self._hear(partial(self._on_trade, symbol, price, at))

    def topped(self, symbol: str, bid: Decimal, ask: Decimal, at: datetime) -> None:
        """The best prices of the book have changed."""
        if 0 < float(bid) < float(ask) < math.inf:
            self._hear(partial(self._on_top, symbol, bid, ask, at))

    def charted(self, candle: Candle, *, closed: bool) -> None:
        """A bar has grown, or closed."""
        self._hear(partial(self._on_bar, candle, closed=closed))

    def funded(self, symbol: str, rate: Decimal, due: datetime, at: datetime) -> None:
        """The next settlement, as it stands now. One that is due and not settled yet stays so."""
        known = self._due[symbol]
        for moved in [moment for moment in known if at < moment != due]:
            del known[moved]
        known[due] = rate
        self._hear(partial(self._settle, symbol, at))

    def _hear(self, happened: Callable[[], None]) -> None:
        self._heard.append(happened)
        self._wake.set()

    # What follows from it, in its order

    def _take_in(self) -> None:
        while self._listening and self._heard:
            self._heard.popleft()()
        self._tell()

    def _on_trade(self, symbol: str, price: float, at: datetime) -> None:
        if self._leaps(symbol, price):
            self._doubt(f"{symbol} traded at {price:g} after {self._venue.last[symbol]:g}")
        else:
            self._trade(symbol, price, at)

    def _on_top(self, symbol: str, bid: Decimal, ask: Decimal, at: datetime) -> None:
        if not self._leaps(symbol, float(bid), float(ask)):  # else the next one comes soon
            self._advance(at)
            self._venue.quote(symbol, bid, ask, at)
            self._moved[symbol] = None

    def _on_bar(self, candle: Candle, *, closed: bool) -> None:
        symbol, ends = candle.symbol, self._ends(candle.symbol)
        if ends is not None and candle.open_time < ends:
            return
        odd = self._leaps(symbol, candle.low, candle.high)
        if ends is not None and candle.open_time > ends:
            self._doubt(f"a bar of {symbol} is missing before {candle.open_time:%Y-%m-%d %H:%M}")
        elif odd and closed:
            self._doubt(f"the bar of {symbol} has a low of {candle.low:g} and a high of {candle.high:g}")
        elif closed:
            self._close(candle)
        elif not odd:
            self._open[symbol] = candle
            self._moved[symbol] = None

    def _trade(self, symbol: str, price: float, at: datetime) -> None:
        if self._closed:
            self._tell()
        self._settle(symbol, at)
        self._advance(at)
        self._venue.trade(symbol, price, at)
        opening, reached = at - (at - EPOCH) % MINUTE, self._reached.get(symbol)
        if reached is None or reached.opening < opening:
            self._reached[symbol] = Reach(opening=opening, low=price, high=price)
        else:
            reached.low, reached.high = min(reached.low, price), max(reached.high, price)
        self._moved[symbol] = None
        self._changed = True

    def _settle(self, symbol: str, at: datetime) -> None:
        """Pay or receive the funding that is due, at the last price."""
        for due in sorted(moment for moment in self._due[symbol] if moment <= at):
            self._venue.settle(symbol, self._venue.last.get(symbol, 0.0), self._due[symbol].pop(due), due)
            self._changed = True

    def _close(self, candle: Candle) -> None:
        """Keep a closed bar, once."""
        series, ends = self._series[candle.symbol], self._ends(candle.symbol)
        if ends is not None and candle.open_time < ends:
            return
        self._series[candle.symbol] = _longer(series, candle, self._bars * 2)
        self._open.pop(candle.symbol, None)
        self._newest = max(self._newest, candle.close_time)
        self._closed.append(candle)
        self._changed = True

    def _tell(self) -> None:
        """Keep what happened and tell it, then the closes, then where the prices are."""
        if self._changed:
            self._venue.commit()
        closed, self._closed, self._changed = self._closed, [], False
        for close_time in sorted({candle.close_time for candle in closed}):
            self._advance(close_time)
            candles = tuple(candle for candle in closed if candle.close_time == close_time)
            self.deliver(BarsClosed(close_time=close_time, candles=candles, late=close_time < self._newest))
        moved, self._moved = self._moved, {}
        for symbol in moved:
            if symbol in self._venue.last:
                self.ticked(symbol, self._venue.last[symbol])

    def _advance(self, at: datetime) -> None:
        self._clock.market_time = max(self._clock.market_time, at)
        self._venue.now = max(self._venue.now, at)

    def _ends(self, symbol: str) -> datetime | None:
        """Where the known bars end; None without any."""
        series = self._series[symbol]
        return series.candle(len(series) - 1).close_time if len(series) else None

    # What is not believed, and what was missed

    def _leaps(self, symbol: str, *prices: float) -> bool:
        last = self._venue.last.get(symbol)
        return last is not None and not all(last / LEAP < price < last * LEAP for price in prices)

    def _doubt(self, why: str) -> None:
        """Something is missing or cannot be: the exchange is asked, as after a loss."""
        now = self._clock.monotonic()
        if now - self._said_at >= SAY_AGAIN_SECONDS:
            log.warning("live_prices_doubted reason='%s' next='asking by REST'", why)
            self._said_at = now
        self._fall_deaf()

    def _fall_deaf(self) -> None:
        self._listening = False
        self._heard_until = self._venue.now
        self._wake.set()

    async def _catch_up(self) -> None:
        """Ask for what was missed and walk it; what is heard from the question on comes after it."""
        await self._clock.sleep(self._asked_at + RETRY_SECONDS - self._clock.monotonic())
        self._asked_at = self._clock.monotonic()
        self._heard.clear()
        connection = self._connection
        try:
            missed = await self._missed()
        except ConclaveError as error:
            if not self._failing:
                log.warning("live_prices_not_asked reason='%s' next='asking again'", error)
            self._failing = True
        else:
            self._failing = False
            if connection == self._connection:  # not lost again meanwhile
                self._walk(missed)
                self._listening = True
        self._wake.set()

    async def _missed(self) -> list[Missed]:
        return await asyncio.gather(*(self._missed_of(symbol) for symbol in self._symbols))

    async def _missed_of(self, symbol: str) -> Missed:
        """Minutes count for what could have filled; where there is nothing, those of the last bar show the price."""
        ends, since = self._ends(symbol), self._heard_until
        bars = await self._prices.since(symbol, ends or self._venue.now)
        at_stake = symbol in self._venue.positions or any(o.asked.symbol == symbol for o in self._venue.orders.values())
        if not at_stake:
            since = max(since, bars[-1].close_time if bars else ends or since)
        settlements = await self._prices.settlements(symbol, since) if at_stake else {}
        minutes = await self._prices.minutes(symbol, since)
        return Missed(symbol=symbol, bars=bars, minutes=minutes, settlements=settlements)

    def _walk(self, missed: Iterable[Missed]) -> None:
        """What all symbols did, in its order: a close comes before the minute that opens with it."""
        steps: list[tuple[datetime, int, Callable[[], None]]] = []
        for each in missed:
            self._due[each.symbol].update(each.settlements)
            self._newest = max((self._newest, *(bar.close_time for bar in each.bars)))
            steps += [(bar.close_time, 0, partial(self._close, bar)) for bar in each.bars]
            steps += [(minute.open_time, 1, partial(self._walk_minute, minute)) for minute in each.minutes]
        for _, _, step in sorted(steps, key=lambda step: step[:2]):
            step()
        for symbol in self._symbols:
            self._show(symbol)
        self._changed = True
        self._tell()

    def _walk_minute(self, minute: Candle) -> None:
        """One minute, whole where none of it was heard; else only its close and what lies beyond what was heard.

        Where it is not known what was heard of it (by a process that is gone), its extremes may lie before that.
        """
        symbol, reached = minute.symbol, self._reached.get(minute.symbol)
        at = max(minute.open_time, self._heard_until)
        way = _extremes(minute)
        if reached is not None and reached.opening >= minute.open_time:
            fresh = reached.opening == minute.open_time
            way = tuple(price for price in way if fresh and not reached.low <= price <= reached.high)
        elif minute.open_time > self._heard_until:
            self._trade_unseen(symbol, minute.open, at)
        else:
            way = ()
        for price in (*way, minute.close):
            for level in self._levels(symbol, price):
                self._trade_unseen(symbol, level, at)
            self._trade_unseen(symbol, price, at)
        self._reached[symbol] = Reach(opening=minute.open_time, low=minute.low, high=minute.high)

    def _levels(self, symbol: str, target: float) -> Iterator[float]:
        """On the way to a price every order gets its own: the next level at which one fills or wakes, and the next."""
        tick, here = self._venue.instruments[symbol].tick_size, self._venue.last.get(symbol, target)
        while True:
            asked = ((order.asked, order.status) for order in self._venue.open_orders(symbol))
            levels = [
                float(trigger) if status == "Untriggered" and (trigger := one.trigger_price) else _through(one, tick)
                for one, status in asked
            ]
            between = [level for level in levels if min(here, target) < level < max(here, target)]
            if not between:
                return
            here = min(between, key=lambda level: abs(level - here))
            yield here

    def _trade_unseen(self, symbol: str, price: float, at: datetime) -> None:
        """A trade without its book: one tick either side of it."""
        self._quote(symbol, price, at)
        self._trade(symbol, price, at)

    def _quote(self, symbol: str, price: float, at: datetime) -> None:
        """A book that nobody saw."""
        tick = self._venue.instruments[symbol].tick_size
        self._venue.quote(symbol, exact(price) - tick, exact(price) + tick, at)

    def _show(self, symbol: str) -> None:
        """Where no trade is known, the last close is the price: an order may come before the first trade."""
        if ends := self._ends(symbol):
            self._advance(ends)
            if symbol not in self._venue.last:
                self._venue.last[symbol] = float(self._series[symbol].close[-1])
                self._quote(symbol, self._venue.last[symbol], ends)


def _through(asked: NewOrder, tick: Decimal) -> float:
    """The nearest price at which a limit fills; no price at all for an order at the market."""
    return math.nan if asked.price is None else float(asked.price - asked.side.sign * tick)


def _extremes(candle: Candle) -> tuple[float, ...]:
    """High and low in the order in which a bar usually reaches them."""
    rising = candle.close >= candle.open
    return (candle.low, candle.high) if rising else (candle.high, candle.low)


def _longer(series: CandleSeries, candle: Candle, most: int) -> CandleSeries:
    """The series with one more bar, and at most so many."""
    kept = series.tail(min(len(series), most - 1))
    return CandleSeries(
        symbol=series.symbol,
        interval=series.interval,
        timestamp=np.append(kept.timestamp, millis(candle.open_time)),
        open=np.append(kept.open, candle.open),
        high=np.append(kept.high, candle.high),
        low=np.append(kept.low, candle.low),
        close=np.append(kept.close, candle.close),
        volume=np.append(kept.volume, candle.volume),
    )
