"""What people ask of the trader while it works: carried out once, whatever dies when, and however often it is asked.

A request that needs the exchange is an undertaking: begun when it comes, looked at after everything else that the
trader has dealt with, ended by one `CommandDone` that carries its id. It never waits inside: a fill, an answer to a
doubt, an exchange that comes back are found at the next look. What it has done stands in the journal
(`Book.progress`), intents before orders, so that the same request delivered again after a kill goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, ClassVar, Final

from trading import events as ev
from trading import risk
from trading.bookkeeping import ending_of
from trading.crashpoints import crashpoint
from trading.desk import UNREACHABLE, Desk, Tuned
from trading.errors import BadInput, ConclaveError, OutcomeUnknown, Rejected, Transient
from trading.model import (
    EPOCH,
    ZERO,
    AccountSnapshot,
    ExchangePosition,
    ExitReason,
    Instrument,
    Purpose,
    Side,
)
from trading.orders import OrderState, WorkingOrder, link_id_of
from trading.portfolio import Closing, Holding, Progress
from trading.reconcile import CashDiffers, Difference, ForeignOrder, SizeDiffers, StopDiffers
from trading.recovery import compare, tighter
from trading.signals import SignalSource
from trading.tending import amend_stop, closing_intent

TRIES: Final = 3  # refusals after which a person must know
SCHEDULER: Final = "scheduler"  # nobody waits for the answer to what it asks

Steer = (
    ev.StopEntries
    | ev.Panic
    | ev.ClosePosition
    | ev.MoveToBreakeven
    | ev.CancelEntry
    | ev.ChangeSettings
    | ev.ChangeSymbols
    | ev.ChangeCouncil
    | ev.Reconcile
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds: until what failed is tried again; the same after `TRIES` refusals; and how long the exchange is asked
    about something open there that nobody here knows, before it is called somebody else's."""

    again: float
    refused: float
    strange: float


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a request ended: done or not, and what was found, one line each."""

    done: bool
    found: tuple[str, ...]


def yes(*found: str) -> End:
    """Done."""
    return End(done=True, found=found)


def no(*found: str) -> End:
    """Not done, and why."""
    return End(done=False, found=found)


class Undertaking(ABC):
    """A request under way. What it remembers itself only spares the exchange questions: the rest is in the book."""

    name: ClassVar[str]

    def __init__(self, desk: Desk, request: Any, patience: Patience) -> None:
        self.desk = desk
        self.book = desk.book
        self.request = request
        self.patience = patience
        self._tried: dict[str, tuple[float, float]] = {}

    @abstractmethod
    async def step(self) -> End | None:
        """Do what can be done now; the end, or None while there is none. `OutcomeUnknown`, `Transient`: later."""

    @property
    def progress(self) -> Progress:
        """What it has led to so far."""
        return self.book.progress.get(self.request.command) or Progress()

    def ready(self, about: str) -> bool:
        """May this be tried (again)? After a failure only when some time has passed and the exchange was asked."""
        after, looked = self._tried.get(about, (-math.inf, -math.inf))
        return self.desk.clock.monotonic() >= after and (math.isinf(looked) or self.desk.looked > looked)

    def later(self, about: str, seconds: float | None = None) -> None:
        """This did not work now."""
        wait = self.patience.again if seconds is None else seconds
        self._tried[about] = (self.desk.clock.monotonic() + wait, max(self.desk.looked, 0.0))

    # What several of them do

    def working(self, *purposes: Purpose) -> list[WorkingOrder]:
        """Our orders of these purposes that have not ended."""
        return [order for order in self.book.working.values() if order.purpose in purposes]

    async def cancel(self, orders: Sequence[WorkingOrder]) -> None:
        """Cancel orders of ours. One in doubt may not be there: then its doubt is ended first (see `recovery`)."""
        for order in orders:
            if not self.ready(order.link_id):
                continue
            try:
                await self.cancel_one(order)
            except (OutcomeUnknown, Transient):
                self.later(order.link_id)
                return  # nobody answers: what else is to be done is not kept waiting

    async def cancel_one(self, order: WorkingOrder) -> None:
        """Cancel one order. A fill that came first is on its way; what is not there any more the next look tells."""
        crashpoint("before_cancel")
        try:
            ended = await self.desk.broker.cancel(order.symbol, order.link_id)
        except Rejected:
            self.later(order.link_id)
            return
        if ended.open or ended.status == "Filled":
            self.later(order.link_id)
            return
        crashpoint("after_cancel")
        cancelled = ending_of(order, self.desk.clock.now(), "manual")
        await self.desk.record(dataclasses.replace(cancelled, request=self.request.command))

    async def close(self, holding: Holding, qty: Decimal) -> None:
        """Close so much at the market, unless an exit is on its way; again only after a look at what became of it."""
        symbol, closing = holding.symbol, self.progress.closings.get(holding.symbol)
        if self.book.exit_of(symbol) is not None:
            return
        if closing is not None and not self._may_repeat(closing):
            return
        intent = self._exit_intent(holding, qty, closing.attempts if closing else 0)
        await self.desk.send(intent, risk.approve_exit(symbol, holding.side, qty, intent.link_id))

    def _may_repeat(self, closing: Closing) -> bool:
        last = closing.links[-1]
        known = self.book.order(last)
        if known is not None and known.state is OrderState.FILLED:
            return True
        if last not in self._tried:
            self.later(last, self.patience.refused if closing.refusals >= TRIES else self.patience.again)
        return self.ready(last)

    def _exit_intent(self, holding: Holding, qty: Decimal, attempts: int) -> ev.OrderIntended:
        """The intent of the next attempt; its id depends on the request, the symbol and the attempt alone."""
        command, now = self.request.command, self.desk.clock.now()
        bar = (self.book.last_close or now) - self.desk.interval
        intent = closing_intent(self.desk, holding, bar, now, Purpose.EXIT, None, ExitReason.MANUAL)
        salt = f"{command}:{attempts + 1}"
        link_id = link_id_of(self.desk.account, holding.symbol, Purpose.EXIT, EPOCH, salt=salt)
        return dataclasses.replace(intent, link_id=link_id, qty=qty, request=command)

    def closed_line(self, symbol: str, closing: Closing) -> str:
        """How much was closed, at which price on average, and what it brought."""
        price = figure(_on_tick(closing.value / closing.filled, self.desk.instruments.get(symbol)))
        brought = closing.profit if closing.pnl is None else closing.pnl
        return f"closed {figure(closing.filled)} of {symbol} at {price}, {brought:+,.2f} USDT"


class Stop(Undertaking):
    """/stop: no resting entry is left. Positions keep their stops, take profits and exits."""

    name = "stop"

    def __init__(self, desk: Desk, request: Any, patience: Patience) -> None:
        super().__init__(desk, request, patience)
        self._rested = self.working(Purpose.ENTRY)

    async def step(self) -> End | None:
        """Cancel, until the book has no entry."""
        await self.cancel(self.working(Purpose.ENTRY))
        if self.working(Purpose.ENTRY):
            return None
        lines = [cancelled_line(order) for order in self.progress.cancelled]
        filled = (order for order in self._rested if order.state is OrderState.FILLED)
        lines += [f"{order.symbol}: the entry filled first, the position keeps its stop" for order in filled]
        return yes(*(lines or ["no entry was resting"]))


class Flatten(Undertaking):
    """/panic: nothing of ours is left, proven by what the exchange shows after the last fill was booked."""

    name = "panic"

    def __init__(self, desk: Desk, request: Any, patience: Patience) -> None:
        super().__init__(desk, request, patience)
        self._held = frozenset(desk.book.holdings)
        self._gone: set[str] = set()
        self._strange: frozenset[tuple[str, Side]] = frozenset()
        self._since = 0.0

    async def step(self) -> End | None:
        """Cancel, close, and once the book is empty ask the exchange."""
        await self.cancel(self.working(Purpose.ENTRY, Purpose.TAKE_PROFIT))
        for holding in list(self.book.holdings.values()):
            await self.close(holding, holding.qty)
            closing = self.progress.closings.get(holding.symbol)
            if closing is not None and closing.refusals >= TRIES and self.book.exit_of(holding.symbol) is None:
                await self._stuck(holding, closing)
        if self.book.working or self.book.holdings.keys() - self._gone or not self.ready("proof"):
            return None
        return await self._prove()

    async def _stuck(self, holding: Holding, closing: Closing) -> None:
        """A close that is refused again and again: the position is not there, or somebody must know."""
        symbol = holding.symbol
        if not self.ready(f"stuck:{symbol}"):
            return
        self.later(f"stuck:{symbol}")
        shown = await self.desk.broker.snapshot(cash=False)
        if not any(held.symbol == symbol and held.side is holding.side for held in shown.positions):
            self._gone.add(symbol)
            return
        text = (
            f"/panic: the exchange refuses to close {symbol}: {closing.reason}. It is tried again every "
            f"{self.patience.refused:g} s; close it on the exchange's own page if you can"
        )
        await self.desk.alert(self.desk.clock.now(), "panic", text, f"{self.request.command}:{symbol}")

    async def _prove(self) -> End | None:
        at = self.desk.clock.now()
        shown = await self.desk.broker.snapshot(cash=False)
        revived = [order for order in shown.orders if self.book.order(order.link_id) is not None]
        for order in revived:  # thought dead, and ours all the same
            await self.desk.broker.cancel(order.symbol, order.link_id)
        if revived or not self._explained(shown.positions):
            self.later("proof")
            return None
        return yes(*self._lines(at, shown))

    def _explained(self, positions: Sequence[ExchangePosition]) -> bool:
        """Is whatever is still open somebody else's? A fill of ours may be seen late, so it is asked for a while."""
        strange = frozenset((held.symbol, held.side) for held in positions)
        now = self.desk.clock.monotonic()
        if strange != self._strange:
            self._strange, self._since = strange, now
        return not strange or now - self._since >= self.patience.strange

    def _lines(self, at: datetime, shown: AccountSnapshot) -> Iterable[str]:
        closings = {symbol: one for symbol, one in self.progress.closings.items() if one.filled}
        yield from (cancelled_line(order) for order in self.progress.cancelled)
        yield from (self.closed_line(symbol, closing) for symbol, closing in closings.items())
        for symbol in sorted(self._held - closings.keys() - self._gone):
            yield f"{symbol}: closed by another order first"
        for symbol in sorted(self._gone & self.book.holdings.keys()):
            yield f"{symbol}: the exchange shows no position, our book still does: /health says more"
        foreign = " of ours" if shown.positions or shown.orders else ""
        yield f"asked the exchange at {at:%H:%M:%S} UTC: 0 positions, 0 orders{foreign}"
        for held in shown.positions:
            yield f"left alone, not ours: {held.side} {figure(held.qty)} {held.symbol}"
        for order in shown.orders:
            yield f"left alone, not ours: an order, {order.side} {figure(order.qty)} {order.symbol}"


class Close(Undertaking):
    """/close: a share of one position, at the market."""

    name = "close"

    async def step(self) -> End | None:
        """Begin, or see what became of the orders so far."""
        symbol = self.request.symbol
        closing = self.progress.closings.get(symbol)
        if closing is None:
            return await self._begin(symbol, self.book.holdings.get(symbol))
        if closing.links[-1] in self.book.working:
            return None  # the fill, or the end of the doubt, comes
        return await self._go_on(symbol, closing, self._same(symbol, closing))

    async def _begin(self, symbol: str, holding: Holding | None) -> End | None:
        entry = self.book.entry_of(symbol)
        if holding is None:
            return no(f"no position is open on {symbol}" + (f", an entry rests: /cancel {symbol}" if entry else ""))
        if entry is not None and self.request.share == 1:  # what is left of it would open the position again
            await self.cancel([entry])
            return None if self.book.entry_of(symbol) is not None else await self.step()
        if (leaving := self.book.exit_of(symbol)) is not None:
            return no(f"{symbol} is being closed already ({leaving.exit_reason or 'at the market'})")
        qty, why = self._portion(holding)
        if qty <= 0:
            return no(why)
        await self.close(holding, qty)
        return None

    def _portion(self, holding: Holding) -> tuple[Decimal, str]:
        """How much to close; zero with the reason when so little cannot be."""
        share, rules = Decimal(self.request.share), self.desk.instruments.get(holding.symbol)
        if not ZERO < share <= 1:
            return ZERO, f"a share of {share} cannot be closed: it must be above 0 and at most 1"
        if share == 1:
            return holding.qty, ""
        if rules is None:
            return ZERO, f"{holding.symbol} is not traded any more: it can only be closed whole"
        qty = rules.floor_qty(float(share * holding.qty))
        if holding.qty - qty < rules.min_qty:
            return holding.qty, ""
        if qty < rules.min_qty or qty <= 0:
            least = f"{figure(rules.min_qty)}, the least quantity"
            return ZERO, f"{figure(share * 100)}% of {figure(holding.qty)} {holding.symbol} is less than {least}"
        return qty, ""

    def _same(self, symbol: str, closing: Closing) -> Holding | None:
        """The position that the closing is about; None once it is flat, whatever was opened since."""
        holding = self.book.holdings.get(symbol)
        same = holding is not None and closing.pnl is None and holding.verdict_id == closing.verdict_id
        return holding if same else None

    async def _go_on(self, symbol: str, closing: Closing, holding: Holding | None) -> End | None:
        left = closing.asked - closing.filled
        if holding is None or left <= 0:
            if not closing.filled:
                return no(f"{symbol} was closed by another order first")
            return yes(*self._lines(symbol, closing, holding))
        if closing.refusals >= TRIES:
            why = f"the exchange refuses to close {symbol}: {closing.reason}"
            return no(why, *self._lines(symbol, closing, holding))
        await self.close(holding, min(left, holding.qty))
        return None

    def _lines(self, symbol: str, closing: Closing, holding: Holding | None) -> Iterable[str]:
        yield from (cancelled_line(order) for order in self.progress.cancelled)
        if closing.filled:
            yield self.closed_line(symbol, closing)
        if holding is not None:
            yield f"{figure(holding.qty)} is left, its stop is {figure(holding.stop)}"
        elif self.request.share < 1 and closing.asked == closing.of:
            least = figure(self.desk.instruments[symbol].min_qty)
            yield f"all of it: the rest would have been less than {least}, the least quantity"


class Breakeven(Undertaking):
    """/breakeven: the stop at the entry price, where that lessens the risk and does not trigger at once."""

    name = "breakeven"

    async def step(self) -> End | None:
        """Look at everything again each time: prices move while an exchange is away."""
        symbol = self.request.symbol
        holding = self.book.holdings.get(symbol)
        if holding is None:
            return no(f"no position is open on {symbol}")
        if self.book.exit_of(symbol) is not None:
            return no(f"{symbol} is being closed already: its stop stays at {figure(holding.stop)}")
        if (rules := self.desk.instruments.get(symbol)) is None:
            return no(f"{symbol} is not traded any more: its stop stays at {figure(holding.stop)}")
        stop = breakeven_of(holding, rules)
        if stop == holding.stop:
            return yes(f"the stop of {symbol} is at its entry price, {figure(stop)}")
        if not tighter(holding.side, stop, holding.stop):
            better = f"{figure(holding.stop)} is better than the entry price {figure(stop)}"
            return no(f"the stop of {symbol} stays: {better}, and a stop is never loosened")
        return await self._move(holding, stop)

    async def _move(self, holding: Holding, stop: Decimal) -> End:
        symbol, old = holding.symbol, holding.stop
        try:
            price = await self.desk.market.last_price(symbol)
            if not tighter(holding.side, price, stop):
                way = "above" if holding.side is Side.LONG else "below"
                trigger = f"the last price {figure(price)} is not {way} the entry price {figure(stop)}"
                return no(f"the stop of {symbol} stays at {figure(old)}: {trigger}, it would trigger at once")
            await amend_stop(self.desk, holding, self.desk.clock.now(), stop, 0.0)
        except Rejected as refusal:
            return no(f"the exchange refuses the stop {figure(stop)}, {figure(old)} stays: {refusal}")
        return yes(f"the stop of {symbol} was {figure(old)} and is at its entry price, {figure(stop)}")


class Cancel(Undertaking):
    """/cancel: the resting entry of one symbol."""

    name = "cancel"

    def __init__(self, desk: Desk, request: Any, patience: Patience) -> None:
        super().__init__(desk, request, patience)
        self._entry = desk.book.entry_of(request.symbol)

    async def step(self) -> End | None:
        """Cancel it, unless it has ended by itself."""
        symbol = self.request.symbol
        if self.progress.cancelled:
            return yes(*(cancelled_line(order) for order in self.progress.cancelled))
        if (entry := self.book.entry_of(symbol)) is not None:
            await self.cancel([entry])
            return None if self.book.entry_of(symbol) is not None else await self.step()
        if self._entry is None:
            return no(f"no entry is resting on {symbol}")
        if self._entry.filled:
            filled = f"{figure(self._entry.filled)} at {figure(self._entry.price or ZERO)}"
            return no(f"the entry on {symbol} filled first: {filled}; /close {symbol} closes it")
        return no(f"the entry on {symbol} has ended by itself: it does not rest any more")


UNDERTAKINGS: Final[Mapping[type[Any], type[Undertaking]]] = {
    ev.StopEntries: Stop,
    ev.Panic: Flatten,
    ev.ClosePosition: Close,
    ev.MoveToBreakeven: Breakeven,
    ev.CancelEntry: Cancel,
}


class Steering:
    """The requests under way, by their ids; one trader's."""

    def __init__(self, desk: Desk, patience: Patience) -> None:
        self._desk = desk
        self._patience = patience
        self._open: dict[str, Undertaking] = {}

    @property
    def under_way(self) -> tuple[str, ...]:
        """Names of the commands that have not ended, the oldest first."""
        return tuple(work.name for work in self._open.values())

    async def take(self, request: Steer) -> None:
        """Begin with a request; one that has begun or ended is known by its id."""
        desk = self._desk
        if request.command in desk.book.commands or request.command in self._open:
            return
        if isinstance(request, ev.StopEntries | ev.Panic):
            await pause_for(desk, request)
        if desk.absent:
            return  # whoever delivers it does so again, to the trader that has met the exchange
        if isinstance(request, ev.ChangeSettings):
            await change_settings(desk, request)
        elif isinstance(request, ev.ChangeSymbols):
            await change_symbols(desk, request)
        elif isinstance(request, ev.ChangeCouncil):
            await change_council(desk, request)
        elif isinstance(request, ev.Reconcile):
            await look_now(desk, request)
        else:
            self._open[request.command] = UNDERTAKINGS[type(request)](desk, request, self._patience)
            self._tell_desk()

    async def advance(self) -> None:
        """Look at everything under way. Of two panics the second waits for the first, and then asks for itself."""
        panicking = False
        for command, work in list(self._open.items()):
            if (panicking and work.name == Flatten.name) or not work.ready("step"):
                continue
            panicking = panicking or work.name == Flatten.name
            try:
                ended = await work.step()
            except (OutcomeUnknown, Transient, Rejected):
                work.later("step")
                continue
            if ended is not None:
                await end(self._desk, work.request, work.name, ended)
                del self._open[command]
                self._tell_desk()

    def _tell_desk(self) -> None:
        """What a cycle and a comparison must know of it."""
        names = self.under_way
        self._desk.stopping = next((name for name in (Flatten.name, Stop.name) if name in names), "")
        cancelling = (work.request.symbol for work in self._open.values() if isinstance(work, Cancel))
        self._desk.unwanted = frozenset(cancelling)


async def end(desk: Desk, request: Steer, name: str, ended: End) -> None:
    """The one event that ends a request."""
    about: dict[str, Any] = {"at": desk.clock.now(), "by": request.by, "command": request.command}
    await desk.record(ev.CommandDone(**about, name=name, done=ended.done, found=ended.found))


async def pause_for(desk: Desk, request: ev.StopEntries | ev.Panic) -> None:
    """No new entries from this moment on, once; the request's own id stays free for its end."""
    command = f"{request.command}:pause"
    if command not in desk.book.commands:
        await desk.record(ev.TradingPaused(at=desk.clock.now(), by=request.by, command=command))


async def change_settings(desk: Desk, request: ev.ChangeSettings) -> None:
    """All of them or none; the desk works with them once they are committed."""
    try:
        tuned = await tuned_for(desk, request.values)
    except ConclaveError as error:
        await end(desk, request, "set", no(str(error)))
        return
    old = {name: tuned.before[name] for name in request.values if name in tuned.before}
    about: dict[str, Any] = {"at": desk.clock.now(), "by": request.by, "command": request.command}
    await desk.record(ev.SettingsChanged(**about, values=dict(request.values), old=old, source=request.source))
    desk.tune(tuned)


async def change_council(desk: Desk, request: ev.ChangeCouncil) -> None:
    """Another council from now on; one that cannot be (no keys) says why."""
    try:
        tuned = await retuned(desk, desk.book.settings, request.mode)
    except ConclaveError as error:
        await end(desk, request, "mode", no(str(error)))
        return
    about: dict[str, Any] = {"at": desk.clock.now(), "by": request.by, "command": request.command}
    await desk.record(ev.CouncilModeChanged(**about, mode=request.mode, old=desk.council.mode))
    desk.tune(tuned)


async def tuned_for(desk: Desk, values: Mapping[str, float]) -> Tuned:
    """The parts for these settings over those changed before; `BadInput` says why they cannot be had."""
    if not values:
        raise BadInput("no setting was named")
    for name, value in values.items():
        if not math.isfinite(value):
            raise BadInput(f"{name} must be a finite number")
    return await retuned(desk, {**desk.book.settings, **values}, desk.council.mode)


async def retuned(desk: Desk, values: Mapping[str, float], mode: str) -> Tuned:
    """The parts for all settings and a council; `BadInput` says why they cannot be had."""
    if desk.retune is None:
        raise BadInput("settings cannot be changed while this market is replayed")
    tuned = await desk.retune(values, mode)
    if not ends_alike(desk.symbols, desk.signals, tuned.signals):
        raise Transient("the exchange's candles do not end at the last close yet: nothing was changed, try again")
    return tuned


def ends_alike(symbols: Iterable[str], one: SignalSource, other: SignalSource) -> bool:
    """Have both read up to the same bar of every symbol? Else one would be lost, or come twice."""
    lasts = ((one.window(symbol, 1), other.window(symbol, 1)) for symbol in symbols)
    return all(ours.timestamp.tolist() == theirs.timestamp.tolist() for ours, theirs in lasts)


async def change_symbols(desk: Desk, request: ev.ChangeSymbols) -> None:
    """From now on these get no new entries."""
    if unknown := [symbol for symbol in request.muted if symbol not in desk.symbols]:
        known = f"one of {', '.join(desk.symbols)}"
        await end(desk, request, "symbols", no(f"{', '.join(unknown)} is not traded here: {known}"))
        return
    muted = tuple(symbol for symbol in desk.symbols if symbol in request.muted)
    about: dict[str, Any] = {"at": desk.clock.now(), "by": request.by, "command": request.command}
    await desk.record(ev.SymbolsChanged(**about, muted=muted))


async def look_now(desk: Desk, request: ev.Reconcile) -> None:
    """Compare everything, the wallet too. What the scheduler asks for is worth an event only if something was found."""
    desk.wallet_look = None
    comparison = await compare(desk, desk.clock.now())
    lines = []
    if comparison is not None:
        lines = [*comparison.found, *(left_line(desk, each) for each in comparison.left)]
    if request.by == SCHEDULER and not lines:
        return  # that the exchange is away is an alert already
    away = comparison is None
    await end(desk, request, "reconcile", no(UNREACHABLE) if away else yes(*(lines or ["nothing differed"])))


# In words


def figure(value: Decimal) -> str:
    """A number for a person: thousands apart, no zeros at its end."""
    return f"{value.normalize():,f}" if value else "0"


def cancelled_line(order: WorkingOrder) -> str:
    """An order that was cancelled; what had filled of it before is told."""
    what = "take profit" if order.purpose is Purpose.TAKE_PROFIT else order.purpose.value
    line = f"cancelled: {order.symbol} {what}, {order.side} {figure(order.qty)}"
    line += f" at {figure(order.price)}" if order.price is not None else ""
    return f"{line}; {figure(order.filled)} of it had filled" if order.filled else line


def left_line(desk: Desk, left: Difference) -> str:
    """What a comparison could not mend."""
    if isinstance(left, ForeignOrder):
        return f"{left.order.symbol}: an order rests that is not ours, it is left alone"
    if isinstance(left, CashDiffers):
        then = "it is looked at once more" if desk.cash_difference is not None else "it was booked as paid in or out"
        return f"the wallet held {left.theirs - left.ours:+f} USDT more than was traded: {then}"
    if isinstance(left, SizeDiffers):
        return f"{left.symbol}: the exchange holds {figure(left.theirs)}, the book says {figure(left.ours)}"
    if isinstance(left, StopDiffers):
        there = "missing" if left.theirs is None else figure(left.theirs)
        return f"{left.symbol}: the stop is {there} on the exchange, it should be {figure(left.ours)}"
    return f"{left.order.symbol}: the fate of the {left.order.purpose} order is not known yet"


def breakeven_of(holding: Holding, rules: Instrument) -> Decimal:
    """The entry price on a tick, rounded to the side that does not lose."""
    rounding = ROUND_CEILING if holding.side is Side.LONG else ROUND_FLOOR
    return (holding.entry_price / rules.tick_size).to_integral_value(rounding) * rules.tick_size


def _on_tick(price: Decimal, rules: Instrument | None) -> Decimal:
    """An average price with as many digits as the market's prices have, as far as they are known."""
    return round(price, 8) if rules is None else price.quantize(rules.tick_size)
