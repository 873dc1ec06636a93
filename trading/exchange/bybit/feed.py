"""What happens on Bybit, told to the trader: closes, fills and order changes, and whether the streams can be believed.

Two streams, public and private. `ConnectionLost` is told once when the first of them is down, `ConnectionRestored`
when both are up again and the closes that were missed have been delivered; the first start tells neither. A private
message that cannot be read counts as a short loss: the trader then asks by REST for what it may have said.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from trading.errors import ConclaveError
from trading.exchange.bybit.candles import interval_name
from trading.exchange.bybit.clock import HearingClock
from trading.exchange.bybit.closes import Closes, Fetch
from trading.exchange.bybit.endpoints import Endpoints
from trading.exchange.bybit.objects import (
    Json,
    Unreadable,
    candle_of,
    execution_of,
    flag,
    guards_position,
    moment,
    objects_of,
    order_of,
)
from trading.exchange.bybit.streams import Frame, Plan, Stream, StreamView
from trading.model import MILLISECOND
from trading.ports import ConnectionLost, ConnectionRestored, Inbox, OrderUpdated

_LOG = logging.getLogger(__name__)

PRIVATE_TOPICS: Final = (("order", ()), ("execution", ()))
DOUBT_SECONDS: Final = 2.0  # after a message that could not be read, before the trader is sent to ask
RETRY_SECONDS: Final = 1.0
MEANWHILE_SECONDS: Final = 2.0
FILLING: Final = frozenset({"Filled", "PartiallyFilled"})  # told by the executions


class Feed:
    """Both streams of one account. Set `delivered_up_to` before the start: what came after it is delivered first."""

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        symbols: Sequence[str],
        interval: timedelta,
        inbox: Inbox,
        clock: HearingClock,
        fetch: Fetch,
        key: str,
        secret: str,
    ) -> None:
        self.quotes: dict[str, float] = {}
        self.closes = Closes(symbols, interval, deliver=inbox.put, fetch=fetch, clock=clock)
        self._symbols = tuple(symbols)
        self._interval = interval
        self._inbox = inbox
        self._clock = clock
        self._down: dict[str, str] = {"public": "not yet up", "private": "not yet up"}
        self._behind = True  # closes may have passed unheard
        self._started = asyncio.Event()
        self._changed = asyncio.Event()
        self._lost = False
        self._doubt: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        topics = ((f"kline.{interval_name(interval)}.{{symbol}}", self._symbols), ("tickers.{symbol}", self._symbols))
        public = Plan(name="public", url=endpoints.public, topics=topics)
        private = Plan(name="private", url=endpoints.private, topics=PRIVATE_TOPICS, key=key, secret=secret)
        self._streams = (self._stream(public, self._on_public), self._stream(private, self._on_private))

    def _stream(self, plan: Plan, on_frame: Callable[[Frame], None]) -> Stream:
        name = plan.name
        return Stream(
            plan,
            on_frame=on_frame,
            on_up=lambda: self._on_up(name),
            on_down=lambda reason: self._on_down(name, reason),
        )

    def views(self) -> list[StreamView]:
        """Both streams as they are now."""
        return [stream.view for stream in self._streams]

    async def start(self) -> None:
        """Open both streams; returns when they are acknowledged and what was missed is delivered."""
        works = (*(stream.run for stream in self._streams), self.closes.run, self._tend, self._ask_meanwhile)
        self._tasks = [asyncio.create_task(self._kept(work)) for work in works]
        await self._started.wait()

    async def stop(self) -> None:
        """Close both streams; nothing is told any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._doubt is not None:
            self._doubt.cancel()
        for stream in self._streams:
            await stream.ended()

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """The boundary of a task: a fault in it is told, and it starts over."""
        while True:
            try:
                await work()
            except Exception as error:  # noqa: BLE001  the supervised boundary of every task
                _LOG.exception("feed_task_failed error=%s", type(error).__name__)
                self._doubted(f"a fault of this program ({type(error).__name__})")
                await asyncio.sleep(RETRY_SECONDS)

    # ---- up and down -----------------------------------------------------------------------------

    def _on_up(self, name: str) -> None:
        self._down.pop(name, None)
        self._changed.set()

    def _on_down(self, name: str, reason: str) -> None:
        self._down[name] = reason
        if name == "public":
            self._behind = True
            self.closes.hold()
        self._tell_lost(reason)

    async def _tend(self) -> None:
        """After every change: catch up once the public stream is there, and say when all is well again."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._behind and "public" not in self._down:
                await self._catch_up()
            self._tell_restored()

    async def _ask_meanwhile(self) -> None:
        """While the public stream is down, closes are asked for: stops are trailed and exits decided all the same."""
        while True:
            await asyncio.sleep(MEANWHILE_SECONDS)
            if self._started.is_set() and "public" in self._down:
                with contextlib.suppress(ConclaveError):  # not even REST: there is nothing to be had
                    await self.closes.catch_up()
                if "public" in self._down:
                    self.closes.hold()

    async def _catch_up(self) -> None:
        self._behind = False
        try:
            await self.closes.catch_up()
        except ConclaveError as error:
            _LOG.warning("closes_not_asked reason='%s' next='asking again'", error)
            self._behind = True
            await asyncio.sleep(RETRY_SECONDS)
            self._changed.set()
        if "public" in self._down:  # lost again meanwhile
            self._behind = True
            self.closes.hold()

    def _doubted(self, reason: str) -> None:
        """Something was said that could not be read: lost for a moment, so that the trader asks."""
        _LOG.warning("message_unreadable reason='%s' next='asking by REST'", reason)
        self._tell_lost(f"a message of the exchange could not be read: {reason}")
        if self._doubt is None:
            self._doubt = asyncio.get_running_loop().call_later(DOUBT_SECONDS, self._settled)

    def _settled(self) -> None:
        self._doubt = None
        self._tell_restored()

    def _tell_lost(self, reason: str) -> None:
        if self._started.is_set() and not self._lost:
            self._lost = True
            self._inbox.put(ConnectionLost(reason=reason))

    def _tell_restored(self) -> None:
        if self._down or self._behind or self._doubt is not None:
            return
        self._started.set()
        if self._lost:
            self._lost = False
            self._inbox.put(ConnectionRestored())

    # ---- frames ----------------------------------------------------------------------------------

    def _on_public(self, frame: Frame) -> None:
        kind, _, rest = str(frame["topic"]).partition(".")
        with contextlib.suppress(Unreadable):  # what a bad candle would have said is asked for when it is overdue
            if kind == "kline":
                for raw in objects_of(frame, "data"):
                    self._on_candle(raw, rest.partition(".")[2])
            elif kind == "tickers":
                self._on_ticker(frame, rest)
            if "ts" in frame:
                self._clock.hear(moment(frame, "ts"))

    def _on_candle(self, raw: Json, symbol: str) -> None:
        """A candle, open or closed; the clock is at its close before anyone hears of it."""
        confirmed = flag(raw, "confirm")
        candle = candle_of(raw, symbol, self._interval)
        self.quotes[symbol] = candle.close
        if not confirmed:
            self.closes.begun(candle.open_time)
            return
        self._clock.hear(moment(raw, "end") + MILLISECOND)
        self.closes.heard(candle)

    def _on_ticker(self, frame: Frame, symbol: str) -> None:
        """The last price, where this frame has it: a delta names only what has changed."""
        data = frame.get("data")
        price = data.get("lastPrice") if isinstance(data, dict) else None
        if isinstance(price, str):
            with contextlib.suppress(ValueError):
                self.quotes[symbol] = float(price)

    def _on_private(self, frame: Frame) -> None:
        try:
            for raw in objects_of(frame, "data"):
                if raw.get("category", "linear") == "linear":
                    self._on_private_object(str(frame["topic"]), raw)
        except Unreadable as error:
            self._doubted(f"{frame['topic']}: {error}")

    def _on_private_object(self, topic: str, raw: Json) -> None:
        if topic.startswith("execution"):
            if (execution := execution_of(raw)) is not None:
                self._inbox.put(execution)
        elif topic.startswith("order") and not guards_position(raw):
            order = order_of(raw)
            if order.status not in FILLING:
                self._inbox.put(OrderUpdated(order=order))

    @property
    def delivered_up_to(self) -> datetime | None:
        """The last close that was dealt with."""
        return self.closes.delivered_up_to

    @delivered_up_to.setter
    def delivered_up_to(self, close: datetime | None) -> None:
        self.closes.delivered_up_to = close
