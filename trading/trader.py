"""The trader: the single writer of trading state. Everything reaches it through its inbox, in order.

Starting is recovering: the book is folded from the journal, compared with the exchange, and the closes that were
missed are dealt with before anything new. There is no other start.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeVar

from trading import events as ev
from trading.bookkeeping import book_execution, book_order
from trading.council import MODEL_MODES
from trading.cycle import run_cycle
from trading.desk import UNREACHABLE, URGENT, Desk, Interruption
from trading.hearing import abandoned, tell_health
from trading.model import EPOCH, ZERO, Candle, Execution, OrderSide, Purpose, Side, exact
from trading.orders import WorkingOrder
from trading.portfolio import Book, Holding
from trading.ports import (
    BarsClosed,
    ConnectionLost,
    ConnectionRestored,
    FeedEnded,
    Inbound,
    Journal,
    OrderUpdated,
    Overheard,
    Pace,
)
from trading.recovery import reconcile
from trading.status import EntryView, OrderView, PositionView, Status
from trading.steering import Patience, Steer, Steering
from trading.tending import protect

T = TypeVar("T")

SNAPSHOT_EVERY = 500
LAST_WORDS = 0.25  # seconds that a council has to stop at the program's end

# What the council says beside its verdict.
SAID: Final = (ev.AgentAnswered, ev.AlertRaised, Overheard)
# What is dealt with while a council deliberates.
MEANWHILE: Final = (Execution, OrderUpdated, ConnectionLost, ConnectionRestored, *SAID)
# While it takes its time, so is this; whether a symbol is muted by now is looked at before its order. Other requests
# wait their turn: one that cancels an entry may be about the very one that is being decided on, one that changes
# settings would change the parts in use.
AT_ONCE: Final = (ev.MoveToBreakeven, ev.ChangeSymbols)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """Seconds between two looks at the exchange when no close comes in between: while something is unclear, open
    or resting, or nothing is; and how long a stream may be down before the owner hears of it.

    `steering` holds while a request is under way, and is the pause before what failed in it is tried again; `refused`
    is that pause after three refusals, `strange` how long a panic asks about what is open and unknown here.
    """

    unclear: float = 2.0
    exposed: float = 30.0
    flat: float = 60.0
    patience: float = 4.0
    steering: float = 1.0
    refused: float = 5.0
    strange: float = 5.0

    @property
    def steering_patience(self) -> Patience:
        """As the requests under way need it."""
        return Patience(again=self.steering, refused=self.refused, strange=self.strange)


class QueueInbox:
    """The trader's inbox in this process: in order, but for what is dealt with while a council deliberates."""

    def __init__(self) -> None:
        self._items: deque[Inbound] = deque()
        self._waiting: list[asyncio.Future[None]] = []

    def put(self, item: Inbound) -> None:
        """Queue one item."""
        self._items.append(item)
        while self._waiting:
            if not (waiting := self._waiting.pop()).done():
                waiting.set_result(None)

    async def get(self) -> Inbound:
        """The next item, waiting for it."""
        while not self._items:
            await self.stirred()
        return self._items.popleft()

    def waiting(self) -> Inbound | None:
        """The next item when there is one already."""
        return self._items.popleft() if self._items else None

    def stirred(self) -> asyncio.Future[None]:
        """Done when something has come after this call."""
        stirred: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = [*(each for each in self._waiting if not each.done()), stirred]
        return stirred

    def urgent(self, dealt_with: datetime) -> Interruption | None:
        """What nobody waits for a council any more for, the oldest such item; of closes only later ones count."""
        for item in self._items:
            again = isinstance(item, BarsClosed) and item.close_time <= dealt_with
            if type(item) in URGENT and not again:
                return URGENT[type(item)]
        return None

    def calm(self, kinds: tuple[type[object], ...]) -> Inbound | None:
        """The oldest item of these kinds, taken out; what came before it keeps its place."""
        found = next((item for item in self._items if isinstance(item, kinds)), None)
        if found is not None:
            self._items.remove(found)
        return found


async def load_book(journal: Journal, initial_equity: Decimal) -> tuple[Book, int]:
    """The book as the journal tells it: the last snapshot, then every event after it; and how far that is."""
    book, seq = Book.opening(initial_equity), 0
    if kept := await journal.load_snapshot():
        with contextlib.suppress(ValueError):  # a snapshot of another version: the journal knows it all
            seq, book = kept[0], Book.restored(kept[1])
    while batch := await journal.read(seq):
        for recorded in batch:
            book.apply(recorded.event)
            seq = recorded.seq
    return book, seq


class Trader:
    """Runs the desk: closes, executions, order updates and requests, one after the other.

    `quotes` are the last prices by symbol, for display only; decisions use closed bars and the exchange's word.
    """

    def __init__(
        self,
        desk: Desk,
        inbox: QueueInbox,
        pace: Pace,
        *,
        badge: str,
        quotes: Mapping[str, float],
        looks: Looks | None = None,
    ) -> None:
        self._desk = desk
        self._inbox = inbox
        self._pace = pace
        self._badge = badge
        self._quotes = quotes
        self._snapshot_at = desk.sequence
        self._looks = looks or Looks()
        self._lost_at = 0.0
        desk.attend, desk.say = self._attend, inbox.put
        desk.waiting = self._waiting
        self._dealt_with = EPOCH
        self._dismissed: set[asyncio.Task[Any]] = set()
        self._steering = Steering(desk, self._looks.steering_patience)

    def submit(self, request: ev.Request) -> None:
        """Ask for something; it ends in an event of the journal, and a deliberation does not wait for less risk."""
        self._inbox.put(request)

    async def start(
        self, now: datetime, missed: tuple[BarsClosed, ...] = (), ended: Sequence[ev.ShadowEnded] = ()
    ) -> None:
        """Compare with the exchange, say what was found, then deal with the closes missed while away.

        `ended` are followed candidates whose end was found in history.
        """
        desk = self._desk
        resumed = desk.book.badge != ""  # a session before this one is in the journal
        found = await reconcile(desk, now)
        await desk.record(
            ev.SessionStarted(
                at=now,
                badge=self._badge,
                symbols=desk.symbols,
                interval_minutes=desk.interval // timedelta(minutes=1),
                initial_equity=desk.book.initial_equity,
                resumed=resumed,
                found=tuple(found),
            )
        )
        given_up = [abandoned(proposed) for proposed in desk.book.debated.values()]
        if given_up or ended:
            await desk.record(*given_up, *ended)
        for closed in missed:
            await self._on_close(closed)
        self._pace.release(now)

    async def run(self) -> None:
        """Work until the feed ends or the task is cancelled; a snapshot is kept at the end.

        When nothing comes in for a while, the exchange is compared with the book all the same.
        """
        try:
            while not isinstance(item := await self._next(), FeedEnded):
                await self._handle(item)
            if self._dismissed:  # what they have been told so far has its price
                await asyncio.wait(self._dismissed, timeout=LAST_WORDS)
            await self._hear_out()
        finally:
            await self._keep_snapshot()

    async def _next(self) -> Inbound | None:
        """The next item, or None when it is time to look at the exchange."""
        if (item := self._inbox.waiting()) is not None:
            return item
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._inbox.get(), self._until_look())
        return None

    def _until_look(self) -> float:
        """Seconds until the exchange is to be looked at."""
        desk = self._desk
        exposed = desk.book.holdings or desk.book.working
        every = self._looks.unclear if desk.unsettled else self._looks.exposed if exposed else self._looks.flat
        if self._steering.under_way:
            every = min(every, self._looks.steering)
        return max(desk.looked + every - desk.clock.monotonic(), 0.0)

    async def _attend(self, work: Coroutine[Any, Any, T]) -> T | Interruption:
        """See `desk.Attend`. Fills, connections and looks at the exchange go on; what was said is written down."""
        if urgent := self._waiting():
            work.close()
            return urgent
        doing = asyncio.create_task(work)
        try:
            while not (doing.done() or self._waiting()):
                await self._meanwhile(doing)
            await self._hear_out()
            return self._waiting() or doing.result()
        finally:
            self._dismiss(doing)

    async def _hear_out(self) -> None:
        """Write down what has been said."""
        while (said := self._inbox.calm(SAID)) is not None:
            await self._handle(said)

    def _waiting(self) -> Interruption | None:
        return self._inbox.urgent(self._dealt_with)

    async def _meanwhile(self, doing: asyncio.Task[Any]) -> None:
        """Deal with one thing that has come, or wait for the next, for the work's end or until the next look."""
        kinds = (*MEANWHILE, *AT_ONCE) if self._desk.book.debated else MEANWHILE
        if (item := self._inbox.calm(kinds)) is not None:
            await self._handle(item)
            return
        stirred = self._inbox.stirred()
        await asyncio.wait({doing, stirred}, timeout=self._until_look(), return_when=asyncio.FIRST_COMPLETED)
        if not (stirred.done() or doing.done()):
            await self._handle(None)
        stirred.cancel()

    def _dismiss(self, task: asyncio.Task[Any]) -> None:
        """However long it takes to stop, and whatever it still raises, is nobody's business any more."""
        self._dismissed.add(task)
        task.add_done_callback(self._forget)
        task.cancel()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._dismissed.discard(task)
        if not task.cancelled():
            task.exception()

    async def _handle(self, item: Inbound | None) -> None:
        await self._desk.kept()
        if item is None:
            await self._look()
        elif isinstance(item, BarsClosed):
            await self._on_close(item)
        elif isinstance(item, Execution):
            await book_execution(self._desk, item)
        elif isinstance(item, OrderUpdated):
            await book_order(self._desk, item.order)
        elif isinstance(item, ConnectionLost):
            self._lost_at = self._lost_at if self._desk.lost else self._desk.clock.monotonic()
            self._desk.lost = item.reason
        elif isinstance(item, ConnectionRestored):
            self._desk.lost = ""
            await self._look()
        elif isinstance(item, ev.AgentAnswered | ev.AlertRaised):
            await self._desk.record(item)
        elif isinstance(item, Overheard):
            await self._overheard(item)
        elif isinstance(item, ev.PauseTrading):
            await self._once(item, ev.TradingPaused)
        elif isinstance(item, ev.ResumeTrading):
            await self._once(item, ev.TradingResumed)
        elif isinstance(item, Steer):
            await self._steering.take(item)
        await self._steering.advance()

    async def _overheard(self, item: Overheard) -> None:
        await self._desk.record(item.opinion)
        if item.mode == self._desk.council.mode:  # else who decides was changed while they were heard
            await tell_health(self._desk, item.opinion.at, item.ruling)

    async def _look(self) -> None:
        """Compare with the exchange between closes. A stream that stays down is told; a short drop is not."""
        desk = self._desk
        now = desk.clock.now()
        await self._tell_lost(now)
        await reconcile(desk, now)
        desk.looked = desk.clock.monotonic()  # also when there was no answer

    async def _tell_lost(self, at: datetime) -> None:
        """That a stream has been down for a while, once."""
        if self._desk.lost and self._desk.clock.monotonic() - self._lost_at > self._looks.patience:
            await self._desk.alert(at, "exchange", UNREACHABLE)

    async def _on_close(self, closed: BarsClosed) -> None:
        desk, book = self._desk, self._desk.book
        desk.late = closed.late
        if book.last_close is None or closed.close_time > book.last_close:
            await self._tell_lost(closed.close_time)
            # Sockets have no mutual order: what the exchange holds is asked for before anything is decided.
            await reconcile(desk, closed.close_time)
            before, self._dealt_with = desk.sequence, closed.close_time
            given = {candle.symbol: candle for candle in closed.candles}
            candles = {symbol: given[symbol] for symbol in desk.symbols if symbol in given}
            ended = await self._deal(candles)
            await self._mark(closed.close_time, candles, ended, quiet=desk.sequence == before)
            if desk.sequence - self._snapshot_at >= SNAPSHOT_EVERY:
                await self._keep_snapshot()
        self._pace.release(closed.close_time)

    async def _deal(self, candles: Mapping[str, Candle]) -> list[ev.ShadowEnded]:
        """Symbol by symbol, in the order of the configuration; what is open on all of them comes first.

        The ends of followed candidates, which nobody acts on, are for the close's mark.
        """
        desk = self._desk
        desk.closed = candles
        readings = {symbol: desk.signals.read(candle) for symbol, candle in candles.items()}
        for symbol, candle in candles.items():
            await protect(desk, candle, readings[symbol])
        for symbol, candle in candles.items():
            await run_cycle(desk, candle, readings[symbol])
        ended: list[ev.ShadowEnded] = []
        for symbol, candle in candles.items():
            rules, terms, instrument = desk.rules, desk.terms, desk.instruments[symbol]
            ended += desk.shadows.close(candle, readings[symbol], rules=rules, terms=terms, instrument=instrument)
        return ended

    async def _mark(
        self, at: datetime, candles: Mapping[str, Candle], ended: Sequence[ev.ShadowEnded], *, quiet: bool
    ) -> None:
        """The last event of a close: equity, and the trailing state that must survive. `quiet`: it is the only one."""
        desk, book = self._desk, self._desk.book
        closes = {symbol: candle.close for symbol, candle in candles.items()}
        marks = tuple(desk.watch[symbol] for symbol in book.holdings if symbol in desk.watch)
        desk.watch.clear()
        mark = ev.EquityMarked(
            at=at,
            equity=book.marked({**book.closes, **closes}),
            cash=book.cash,
            exposed=bool(book.holdings),
            closes=closes,
            marks=marks,
        )
        if quiet and not (marks or ended):
            await desk.record_soon(mark)
        else:
            await desk.record(*ended, mark)

    async def _keep_snapshot(self) -> None:
        desk = self._desk
        await desk.kept()
        if desk.sequence > self._snapshot_at:
            await desk.journal.save_snapshot(desk.sequence, desk.book.state())
            self._snapshot_at = desk.sequence

    async def _once(
        self,
        request: ev.PauseTrading | ev.ResumeTrading,
        effect: type[ev.TradingPaused] | type[ev.TradingResumed],
    ) -> None:
        """A request has its effect once, however often it is delivered."""
        book = self._desk.book
        if request.command not in book.commands:
            at = book.last_close or EPOCH
            await self._desk.record(effect(at=at, by=request.by, command=request.command))

    # How things stand

    def status(self) -> Status:
        """A picture of the account, from memory."""
        desk, book, results = self._desk, self._desk.book, self._desk.book.results
        last = {symbol: exact(price) for symbol in desk.symbols if (price := self._price(symbol)) is not None}
        unrealised = sum((h.profit_at(last[s]) for s, h in book.holdings.items() if s in last), ZERO)
        return Status(
            badge=self._badge,
            leverage=desk.terms.leverage,
            market_time=book.last_close,
            next_close=book.last_close + desk.interval if book.last_close else None,
            paused=book.paused,
            gates=self._gates(),
            cash=book.cash,
            equity=book.cash + unrealised,
            initial_equity=book.initial_equity,
            day_pnl=results.day_pnl,
            day_trades=results.day_trades,
            day_wins=results.day_wins,
            open_risk=float(desk.open_risk() / book.cash) if book.cash > 0 else 0.0,
            symbols=desk.symbols,
            muted=book.muted,
            council=desk.council.mode,
            council_health=_health(book.impaired) if desk.council.mode in MODEL_MODES else "",
            interval=desk.interval,
            settings=dict(book.settings),
            lost=desk.lost,
            looked_age=self._looked_age(),
            last_prices=last,
            positions=tuple(self._position(h, last) for h in book.holdings.values()),
            entries=tuple(self._entry(o) for o in book.working.values() if o.purpose is Purpose.ENTRY),
            orders=tuple(self._order(o) for o in book.working.values()),
            verdicts=book.verdicts,
            trades=results.trades,
        )

    def closes(self, symbol: str, bars: int) -> list[float]:
        """The last closes of a symbol that were dealt with, oldest first."""
        return [float(close) for close in self._desk.signals.window(symbol, bars).close]

    def _price(self, symbol: str) -> float | None:
        return self._quotes.get(symbol, self._desk.book.closes.get(symbol))

    def _looked_age(self) -> float | None:
        age = self._desk.clock.monotonic() - self._desk.compared
        return age if math.isfinite(age) else None

    def _gates(self) -> tuple[str, ...]:
        desk, book = self._desk, self._desk.book
        gates = ["paused: /resume takes entries again"] if book.paused else []
        gates += [f"/{desk.stopping} is being carried out"] if desk.stopping else []
        muted = (symbol for symbol in desk.symbols if symbol in book.muted)
        gates += [f"{symbol}: muted: /symbols +{symbol} takes entries again" for symbol in muted]
        gates += [f"{symbol}: {reason.replace('_', ' ')}" for symbol, reason in desk.blocked.items()]
        if book.last_close is None:
            return (*gates, "no data: the first bar has not closed yet")
        bar = book.last_close - desk.interval
        cooling = [
            s for s in desk.symbols if book.cooling_down(s, bar, desk.interval, desk.rules.cooldown_bars)
        ]
        gates += [f"{symbol}: cooling down after a loss" for symbol in cooling]
        last = desk.signals.window(desk.symbols[0], 1)
        shut = desk.guards.shut(desk.facts(last.candle(0))) if len(last) else ()
        return (*gates, *(objection.reason for objection in shut))

    def _position(self, h: Holding, last: Mapping[str, Decimal]) -> PositionView:
        mark = last.get(h.symbol, h.entry_price)
        leaving = self._desk.book.exit_of(h.symbol)
        return PositionView(
            symbol=h.symbol,
            side=h.side,
            verdict_id=h.verdict_id,
            qty=h.qty,
            entry_price=h.entry_price,
            stop=h.stop,
            liquidation=self._desk.liquidations.get(h.symbol),
            take_profit=h.take_profit,
            mark=mark,
            unrealised=h.profit_at(mark),
            r=h.r_at(mark),
            best_r=h.side.sign * (h.best - float(h.entry_price)) / h.r_distance,
            initial_risk=(h.qty + h.exit_qty) * h.risk_per_unit,
            opened=h.entry_time,
            exit_due=leaving.exit_reason if leaving else None,
        )

    def _entry(self, order: WorkingOrder) -> EntryView:
        desk = self._desk
        rested = 0
        if desk.book.last_close is not None:
            rested = (desk.book.last_close - order.signal_time) // desk.interval - 1
        return EntryView(
            symbol=order.symbol,
            side=Side.LONG if order.side is OrderSide.BUY else Side.SHORT,
            verdict_id=order.verdict_id,
            qty=order.qty,
            price=order.price or ZERO,
            stop=order.stop or ZERO,
            bars_left=max(desk.rules.entry_ttl_bars - rested, 0),
        )

    def _order(self, order: WorkingOrder) -> OrderView:
        return OrderView(
            symbol=order.symbol,
            purpose=order.purpose,
            side=order.side,
            qty=order.qty - order.filled,
            price=order.price,
            stop=order.stop,
            since=order.signal_time + self._desk.interval,
            state=order.state,
            verdict_id=order.verdict_id,
        )


def _health(impaired: tuple[str, ...]) -> str:
    names = ", ".join(agent.replace("_", " ") for agent in impaired)
    return f"no answer from the {names}" if names else ""
