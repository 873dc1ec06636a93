"""The trader's desk: everything one cycle works with, plugged together once by the composition root."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol, TypeVar

from trading import risk
from trading.council.guards import Guards
from trading.crashpoints import crashpoint
from trading.errors import OutcomeUnknown, Rejected, Transient
from trading.events import (
    AlertRaised,
    ClosePosition,
    EquityMarked,
    Event,
    OpenPositionMark,
    OrderAccepted,
    OrderDoubted,
    OrderIntended,
    OrderRefused,
    Panic,
    PauseTrading,
    StopEntries,
    VerdictReached,
)
from trading.model import ZERO, AccountFacts, Candle, Instrument, PlaceOrder
from trading.parameters import AccountTerms, TradeRules
from trading.portfolio import Book
from trading.ports import BarsClosed, Broker, Clock, Council, FeedEnded, Journal, MarketData, Said
from trading.risk import Approved, Exposure
from trading.shadows import Shadows
from trading.signals import SignalSource

T = TypeVar("T")

UNREACHABLE = "the exchange cannot be reached: stops stay where they are, no new entries until it answers"
REACHED = "the exchange answers again: positions, orders and stops were compared with it"
FOREIGN = "foreign_order"
CASH_EVERY_SECONDS = 60.0

@dataclass(frozen=True, slots=True, kw_only=True)
class Interruption:
    """Why nobody waits for a council any more: the gate of the verdict, and the reason in words."""

    gate: str
    reason: str


def _asked(command: str) -> Interruption:
    return Interruption(gate="operator", reason=f"{command} was asked for")


# Requests for less risk, the next close, the end: nobody waits for a council while one of them does.
URGENT: Final[Mapping[type[Any], Interruption]] = {
    PauseTrading: _asked("/pause"),
    StopEntries: _asked("/stop"),
    Panic: _asked("/panic"),
    ClosePosition: _asked("/close"),
    BarsClosed: Interruption(gate="superseded", reason="the next bar closed"),
    FeedEnded: Interruption(gate="operator", reason="the program was asked to stop"),
}


class Attend(Protocol):
    """Waits for a deliberation while the trader goes on dealing with what cannot wait for it."""

    async def __call__(self, work: Coroutine[Any, Any, T]) -> T | Interruption:
        """The result of some work, or what came that it is not waited for: then it is cancelled and left alone."""
        ...


async def alone(work: Coroutine[Any, Any, T]) -> T | Interruption:
    """`Attend` for a desk that no trader sits at."""
    return await work


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """Parts of a desk under changed settings. `before` is every settable name with its value until now.

    `signals` have read every bar up to the last close that was dealt with, and none after it.
    """

    rules: TradeRules
    terms: AccountTerms
    guards: Guards
    council: Council
    signals: SignalSource
    knife_bars: int = 3
    own_knife_bars: Mapping[str, int] = field(default_factory=dict)
    before: Mapping[str, float]


# Parts for all settings that differ from config.json, and for a council mode (empty: the configuration's own);
# `BadInput` names what cannot be, `Transient`: later.
Retune = Callable[[Mapping[str, float], str], Awaitable[Tuned]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletLook:
    """When the wallet was compared with the book (market time, monotonic), and what the book held then."""

    at: datetime
    monotonic: float
    cash: Decimal


@dataclass(slots=True, kw_only=True)
class Desk:
    """Parts and settings of one account.

    `naked` counts refused attempts to protect a position, `cash_difference` is that of the last look.
    `late`: the close dealt with is too old for a new entry. `lost`: which stream of the exchange is down, and why.
    `looked`: when (monotonic) the exchange was last asked, `compared`: when it last answered; `wallet_look` is the
    last comparison of the wallet.
    `commit_behind`: see `record_soon`. `knife_bars`: over how many bars a knife is told, and
    `own_knife_bars`: by symbol, where that differs.
    `attend` waits for a council, `waiting` is what came that nobody waits any more, `say` puts what the council says
    into the trader's inbox. `shadows` are the candidates that are followed to their end, `closed` the bars of
    the close that is dealt with. `retune` makes parts for changed settings; None: they are fixed.
    `liquidations`: the exchange's estimates at the last look, by the symbols that had a position then.
    `stopping`: `stop` or `panic` while one is carried out. `unwanted`: symbols whose entry somebody is cancelling.
    `absent`: the exchange has not been met yet, nothing is known of the account, and requests about it must wait.
    """

    account: str
    symbols: tuple[str, ...]
    interval: timedelta
    rules: TradeRules
    terms: AccountTerms
    instruments: Mapping[str, Instrument]
    book: Book
    journal: Journal
    market: MarketData
    broker: Broker
    council: Council
    guards: Guards
    signals: SignalSource
    clock: Clock
    knife_bars: int = 3
    own_knife_bars: Mapping[str, int] = field(default_factory=dict)
    retune: Retune | None = None
    absent: bool = False
    attend: Attend = alone
    waiting: Callable[[], Interruption | None] = lambda: None
    say: Callable[[Said], None] = lambda said: None
    closed: Mapping[str, Candle] = field(default_factory=dict)
    stopping: str = ""
    unwanted: frozenset[str] = frozenset()
    blocked: dict[str, str] = field(default_factory=dict)
    liquidations: dict[str, Decimal | None] = field(default_factory=dict)
    watch: dict[str, OpenPositionMark] = field(default_factory=dict)
    alerted: set[tuple[str, str]] = field(default_factory=set)
    naked: dict[str, int] = field(default_factory=dict)
    cash_difference: Decimal | None = None
    late: bool = False
    lost: str = ""
    looked: float = -math.inf
    compared: float = -math.inf
    wallet_look: WalletLook | None = None
    sequence: int = 0
    commit_behind: bool = False
    shadows: Shadows = field(default_factory=Shadows)
    _keeping: tuple[EquityMarked, asyncio.Future[int]] | None = None

    async def record(self, *events: Event) -> None:
        """Commit events, then fold them into the book: what is not committed has not happened."""
        await self.kept()
        self.sequence = await self.journal.append(events)
        for event in events:
            self.book.apply(event)
            if isinstance(event, VerdictReached):
                self.shadows.add(event)

    async def record_soon(self, mark: EquityMarked) -> None:
        """Commit the mark of a flat close at which nothing happened while the market goes on; the next record waits.

        Only with `commit_behind`, for a journal that takes its time. Killed in between, the next start deals with that
        close once more and comes to the same mark.
        """
        if not self.commit_behind:
            await self.record(mark)
            return
        await self.kept()
        self._keeping = (mark, asyncio.ensure_future(self.journal.append([mark])))

    async def kept(self) -> None:
        """Returns when everything recorded is committed and in the book."""
        if self._keeping is not None:
            (mark, committing), self._keeping = self._keeping, None
            self.sequence = await committing
            self.book.apply(mark)

    async def send(self, intent: OrderIntended, order: Approved[PlaceOrder], *before: Event) -> None:
        """Commit the intent (with what led to it), then send the order; a lost reply leaves it doubted.

        An intent that is in the book already was sent before a kill, and whatever became of it counts.
        """
        if self.book.order(intent.link_id) is not None:
            return
        crashpoint("before_intent")
        await self.record(*before, intent)
        crashpoint("after_intent")
        await self.dispatch(intent.at, intent.link_id, intent.symbol, order)

    async def dispatch(self, at: datetime, link_id: str, symbol: str, order: Approved[PlaceOrder]) -> None:
        """Send an order whose intent is committed. Repeating it is safe: its id is the same."""
        ours = self.book.order(link_id)
        known: dict[str, Any] = {"at": at, "link_id": link_id, "symbol": symbol}
        about = {**known, "verdict_id": ours.verdict_id if ours else None}
        try:
            order_id = await self.broker.place(order)
        except Rejected as refusal:
            await self.record(OrderRefused(**about, reason=str(refusal)))
        except (OutcomeUnknown, Transient) as doubt:
            await self.record(OrderDoubted(**about, reason=str(doubt)))
        else:
            crashpoint("after_send")
            await self.record(OrderAccepted(**known, order_id=order_id))

    async def settled(self, at: datetime, *, keep_cash: bool = False) -> None:
        """Book and exchange were compared: what still differs is blocked anew."""
        self.blocked.clear()
        self.looked = self.compared = self.clock.monotonic()
        if not keep_cash:
            self.cash_difference = None
        if not self.lost and ("exchange", UNREACHABLE) in self.alerted:
            self.alerted.discard(("exchange", UNREACHABLE))
            await self.record(AlertRaised(at=at, kind="exchange", text=REACHED))

    def tune(self, tuned: Tuned) -> None:
        """Work with these parts from now on."""
        self.rules, self.terms, self.guards = tuned.rules, tuned.terms, tuned.guards
        self.council, self.signals = tuned.council, tuned.signals
        self.knife_bars, self.own_knife_bars = tuned.knife_bars, tuned.own_knife_bars

    def wallet_due(self) -> bool:
        """Must the wallet be compared too? Between fills only funding moves it, and that at whole hours."""
        look = self.wallet_look
        if look is None or self.cash_difference is not None or look.cash != self.book.cash:
            return True
        hour = self.clock.now().replace(minute=0, second=0, microsecond=0)
        funded = bool(self.book.holdings) and look.at <= hour
        return funded or self.clock.monotonic() - look.monotonic >= CASH_EVERY_SECONDS

    @property
    def unsettled(self) -> bool:
        """True while something must be asked again soon: an order in doubt, a stream down, no answer."""
        unclear = any(reason != FOREIGN for reason in self.blocked.values())
        return bool(self.lost) or unclear or any(order.uncertain for order in self.book.working.values())

    async def alert(self, at: datetime, kind: str, text: str, about: str = "") -> None:
        """Tell the owner once about one state of things: the text, unless `about` says what it is."""
        if (kind, about or text) not in self.alerted:
            self.alerted.add((kind, about or text))
            await self.record(AlertRaised(at=at, kind=kind, text=text))

    def exposure(self) -> Exposure:
        """Notional and margin of all positions and resting entries together."""
        notional = sum((h.qty * h.entry_price for h in self.book.holdings.values()), ZERO)
        for order in self.book.working.values():
            if order.price is not None and order.stop is not None:
                notional += (order.qty - order.filled) * order.price
        value = float(notional)
        return Exposure(notional=value, margin=risk.margin_of(value, self.terms))

    def open_risk(self) -> Decimal:
        """Loss in USDT if every stop were hit, over positions and resting entries; gains count as zero."""
        total = ZERO
        for holding in self.book.holdings.values():
            loss = holding.side.sign * (holding.entry_price - holding.stop) * holding.qty
            total += max(loss, ZERO)
        for order in self.book.working.values():
            if order.price is not None and order.stop is not None:
                total += (order.qty - order.filled) * abs(order.price - order.stop)
        return total

    def age_bars(self, candle: Candle) -> float:
        """How many bar lengths of market time have passed since this bar closed."""
        return max(self.clock.now() - candle.close_time, timedelta()) / self.interval

    def facts(self, candle: Candle) -> AccountFacts:
        """The account as guards and council see it at this close."""
        book, terms, results = self.book, self.terms, self.book.results
        cash = float(book.cash)
        base_risk = max(cash, 1e-9) * terms.risk_per_trade or 1e-9
        losses = [(candle.open_time - at) // self.interval for at in book.last_loss.values()]
        return AccountFacts(
            equity=book.cash,
            initial_equity=book.initial_equity,
            day_r=float(results.day_pnl) / base_risk,
            week_r=float(results.week_pnl) / base_risk,
            drawdown=max(1 - book.equity / book.peak, 0.0) if book.peak > 0 else 1.0,
            losing_streak=results.losing_streak,
            bars_since_loss=min(losses, default=None),
            open_risk=float(self.open_risk()) / max(cash, 1e-9),
            open_positions=len(book.holdings) + sum(o.stop is not None for o in book.working.values()),
            spread=float(self.instruments[candle.symbol].tick_size),
            slippage=terms.slippage * candle.close,
            funding_rate=terms.funding_rate,
            data_age_bars=self.age_bars(candle),
            paused=book.paused,
        )
