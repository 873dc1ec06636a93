"""The book: the trader's whole state, a fold over its events.

`Book.apply` is the only thing that changes it, so a restart is a snapshot plus the events after it.
An execution is booked once by its id; one for an order that nobody intended is not booked at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar

from pydantic import TypeAdapter

from trading import events as ev
from trading.model import (
    ZERO,
    ExitReason,
    OrderSide,
    Purpose,
    Side,
)
from trading.orders import OrderState, WorkingOrder, may_become
from trading.shadows import Shadow
from trading.shadows import opened as shadow_of

REMEMBERED = 4096
ENDED_KEPT = 64  # a fill may be heard after the end of its order: sockets have no mutual order
UNENDED_KEPT = 256


@dataclass(slots=True, kw_only=True)
class Holding:
    """An open position. `r_distance` is R in price; `best` and `worst` are the extreme prices since the entry.

    `risk_per_unit` is the distance from the asked entry to the first stop: the R of the trade's result.
    """

    symbol: str
    side: Side
    verdict_id: int | None
    qty: Decimal
    entry_price: Decimal
    stop: Decimal
    take_profit: Decimal | None
    r_distance: float
    risk_per_unit: Decimal
    signal_time: datetime
    entry_time: datetime
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    exit_value: Decimal = ZERO
    exit_qty: Decimal = ZERO
    best: float = 0.0
    worst: float = 0.0

    def r_at(self, price: Decimal) -> float:
        """The result in R at a price, before costs."""
        return self.side.sign * float(price - self.entry_price) / self.r_distance

    def profit_at(self, price: Decimal) -> Decimal:
        """Unrealised profit at a price, before fees."""
        return self.side.sign * self.qty * (price - self.entry_price)


def _day(at: datetime) -> str:
    return at.strftime("%Y-%m-%d")


def _week(at: datetime) -> str:
    return at.strftime("%G-%V")


@dataclass(slots=True, kw_only=True)
class Results:
    """Finished trades summed up as the limits need them. Days and weeks are UTC, in market time."""

    trades: int = 0
    losing_streak: int = 0
    day: str = ""
    day_pnl: Decimal = ZERO
    day_trades: int = 0
    day_wins: int = 0
    week: str = ""
    week_pnl: Decimal = ZERO

    def turn_to(self, at: datetime) -> None:
        """Begin a new day or week when `at` lies in a later one; what is told late does not turn them back."""
        day, week = _day(at), _week(at)
        if day > self.day:
            self.day, self.day_pnl, self.day_trades, self.day_wins = day, ZERO, 0, 0
        if week > self.week:
            self.week, self.week_pnl = week, ZERO

    def add(self, pnl: Decimal, at: datetime) -> None:
        """One more finished trade, in the day and week in which it happened."""
        self.turn_to(at)
        self.trades += 1
        if _week(at) == self.week:
            self.week_pnl += pnl
        if _day(at) == self.day:
            self.day_pnl += pnl
            self.day_trades += 1
            self.day_wins += pnl > 0
        self.losing_streak = self.losing_streak + 1 if pnl < 0 else 0


@dataclass(slots=True, kw_only=True)
class Closing:
    """How a request's closing of one position goes: what its first order was to close, of what, and what came of it.

    `links` are its latest orders, `value` is quantity times price, `profit` that of its fills after their own fees.
    `pnl` is the net result of the trade, once one of them left it flat. `refusals` are orders in a row that closed
    nothing, `reason` is the last word against one.
    """

    asked: Decimal
    of: Decimal
    verdict_id: int | None
    links: list[str] = field(default_factory=list)
    attempts: int = 0
    refusals: int = 0
    filled: Decimal = ZERO
    value: Decimal = ZERO
    profit: Decimal = ZERO
    pnl: Decimal | None = None
    reason: str = ""


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a request that has not ended has led to so far: orders cancelled for it, and closings by symbol."""

    cancelled: list[WorkingOrder] = field(default_factory=list)
    closings: dict[str, Closing] = field(default_factory=dict)


@dataclass(slots=True)
class Book:
    """Cash, positions, working orders, pause, and what the limits look at.

    `settings` lie over those of config.json, `muted` symbols get no new entries. `commands` are requests that have
    ended, `progress` is what those that have not ended have done. `council` is the mode that was chosen in the chat
    (empty: none was), `impaired` its agents that were told not to answer. `debated` are candidates before the council,
    `followed` those whose outcome is not known yet, as they were at their decision. `since` is when the account's first
    session began, `last_close` the last one that was dealt with.
    """

    initial_equity: Decimal
    cash: Decimal = ZERO
    badge: str = ""
    paused: bool = False
    verdicts: int = 0
    decided: dict[str, datetime] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    working: dict[str, WorkingOrder] = field(default_factory=dict)
    ended: OrderedDict[str, WorkingOrder] = field(default_factory=OrderedDict)
    results: Results = field(default_factory=Results)
    equity: float = 0.0
    peak: float = 0.0
    closes: dict[str, float] = field(default_factory=dict)
    since: datetime | None = None
    last_close: datetime | None = None
    last_loss: dict[str, datetime] = field(default_factory=dict)
    booked: OrderedDict[str, None] = field(default_factory=OrderedDict)
    commands: OrderedDict[str, None] = field(default_factory=OrderedDict)
    progress: OrderedDict[str, Progress] = field(default_factory=OrderedDict)
    settings: dict[str, float] = field(default_factory=dict)
    muted: tuple[str, ...] = ()
    council: str = ""
    impaired: tuple[str, ...] = ()
    debated: dict[int, ev.CandidateProposed] = field(default_factory=dict)
    followed: dict[int, Shadow] = field(default_factory=dict)

    @classmethod
    def opening(cls, initial_equity: Decimal) -> Book:
        """The book of an account that has never traded."""
        value = float(initial_equity)
        return cls(initial_equity, cash=initial_equity, equity=value, peak=value)

    def state(self) -> dict[str, Any]:
        """The whole book in JSON types, for a snapshot."""
        state: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return state

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Book:
        """The book of a snapshot."""
        return _adapter().validate_python(dict(state))

    def apply(self, event: ev.Event) -> None:
        """Fold one event in. Events that change nothing here are fine."""
        handler = self._folds.get(type(event))
        if handler is not None:
            handler(self, event)

    def entry_of(self, symbol: str) -> WorkingOrder | None:
        """The entry that rests (or may rest) on a symbol."""
        return self._working(symbol, Purpose.ENTRY)

    def exit_of(self, symbol: str) -> WorkingOrder | None:
        """The exit that is on its way."""
        return self._working(symbol, Purpose.EXIT)

    def take_profit_of(self, symbol: str) -> WorkingOrder | None:
        """The resting take profit."""
        return self._working(symbol, Purpose.TAKE_PROFIT)

    def order(self, link_id: str) -> WorkingOrder | None:
        """An order of ours, working or lately ended."""
        return self.working.get(link_id) or self.ended.get(link_id)

    def _working(self, symbol: str, purpose: Purpose) -> WorkingOrder | None:
        for order in self.working.values():
            if order.symbol == symbol and order.purpose is purpose:
                return order
        return None

    def cooling_down(self, symbol: str, bar_time: datetime, interval: timedelta, bars: int) -> bool:
        """Is this bar within `bars` bars of the one in which the last losing trade closed?"""
        loss = self.last_loss.get(symbol)
        return loss is not None and bar_time - loss < bars * interval

    def marked(self, closes: Mapping[str, float]) -> float:
        """Cash plus the open positions at these closes."""
        value = float(self.cash)
        for symbol, holding in self.holdings.items():
            close = closes[symbol]
            value += holding.side.sign * float(holding.qty) * (close - float(holding.entry_price))
        return value

    def fill_events(self, fill: ev.OrderFilled) -> list[ev.Event]:
        """The fill, and the finished trade when it leaves the position flat. Nothing when it is booked already."""
        if fill.exec_id in self.booked:
            return []
        holding = self.holdings.get(fill.symbol)
        if fill.purpose is Purpose.ENTRY or holding is None or fill.qty < holding.qty:
            return [fill]
        return [fill, self._closed(holding, fill)]

    def _closed(self, holding: Holding, fill: ev.OrderFilled) -> ev.TradeClosed:
        exit_value = holding.exit_value + fill.qty * fill.price
        qty = holding.exit_qty + fill.qty
        gross = holding.side.sign * (exit_value - qty * holding.entry_price)
        fees = holding.fees + fill.fee
        pnl = gross - fees - holding.funding
        risk = qty * holding.risk_per_unit
        sign, entry = holding.side.sign, float(holding.entry_price)
        exit_price = exit_value / qty if holding.exit_qty else fill.price
        # The bar on which it ended is not followed: the way out itself may be the farthest that it came.
        prices = (holding.best, holding.worst, float(exit_price))
        reached = [sign * (price - entry) / holding.r_distance for price in prices]
        return ev.TradeClosed(
            at=fill.at,
            verdict_id=holding.verdict_id,
            symbol=holding.symbol,
            side=holding.side,
            signal_time=holding.signal_time,
            entry_time=holding.entry_time,
            exit_time=fill.bar_time,
            entry_price=holding.entry_price,
            exit_price=exit_price,
            qty=qty,
            pnl=pnl,
            fees=fees,
            funding=holding.funding,
            risk_usdt=risk,
            r=float(pnl / risk),
            best_r=max(reached),
            worst_r=min(reached),
            exit_reason=self._reason(fill),
            cash=self.cash - fill.fee + holding.side.sign * fill.qty * (fill.price - holding.entry_price),
        )

    def _reason(self, fill: ev.OrderFilled) -> ExitReason:
        if fill.purpose is Purpose.STOP:
            return ExitReason.STOP
        if fill.purpose is Purpose.TAKE_PROFIT:
            return ExitReason.TAKE_PROFIT
        order = self.order(fill.link_id)
        return (order.exit_reason if order else None) or ExitReason.EXTERNAL

    # Folds, one for each kind of event

    def _session(self, event: ev.SessionStarted) -> None:
        if not self.badge:  # the account's first session: what its wallet held is what it began with
            self.cash += event.initial_equity - self.initial_equity
            self.initial_equity = event.initial_equity
            self.equity = self.peak = float(self.initial_equity)
            self.since = event.at
        self.badge = event.badge

    def _proposed(self, event: ev.CandidateProposed) -> None:
        self.debated[event.verdict_id] = event

    def _verdict(self, event: ev.VerdictReached) -> None:
        self.verdicts = max(self.verdicts, event.verdict_id)
        self.decided[event.symbol] = event.signal_time
        self.debated.pop(event.verdict_id, None)
        self.followed[event.verdict_id] = shadow_of(event)

    def _followed(self, event: ev.ShadowEnded) -> None:
        self.followed.pop(event.verdict_id, None)

    def _council(self, event: ev.CouncilModeChanged) -> None:
        self.council, self.impaired = event.mode, ()
        self._end_request(event.command)

    def _impaired(self, event: ev.CouncilImpaired) -> None:
        self.impaired = event.agents

    def _recovered(self, event: ev.CouncilRecovered) -> None:
        self.impaired = ()

    def _intended(self, event: ev.OrderIntended) -> None:
        if event.link_id not in self.working:
            self.working[event.link_id] = WorkingOrder(
                **{name: getattr(event, name) for name in _ORDER_FIELDS}  # same names on purpose
            )
        if event.request and event.purpose is Purpose.EXIT:
            self._try_closing(self._progress(event.request), event)

    def _try_closing(self, progress: Progress, intent: ev.OrderIntended) -> None:
        closing = progress.closings.get(intent.symbol)
        if closing is None:
            holding = self.holdings.get(intent.symbol)
            of = holding.qty if holding else intent.qty
            closing = Closing(asked=intent.qty, of=of, verdict_id=intent.verdict_id)
            progress.closings[intent.symbol] = closing
        closing.attempts += 1
        closing.links = [*closing.links[1 - ENDED_KEPT :], intent.link_id]

    def _progress(self, request: str) -> Progress:
        progress = self.progress.setdefault(request, Progress())
        while len(self.progress) > UNENDED_KEPT:
            self.progress.popitem(last=False)
        return progress

    def _closing_of(self, link_id: str) -> Closing | None:
        """The closing that an order was sent for, of a request that has not ended."""
        for progress in self.progress.values():
            for closing in progress.closings.values():
                if link_id in closing.links:
                    return closing
        return None

    def _accepted(self, event: ev.OrderAccepted) -> None:
        self._turn(event.link_id, OrderState.ACCEPTED)

    def _doubted(self, event: ev.OrderDoubted) -> None:
        self._turn(event.link_id, OrderState.DOUBTED)

    def _refused(self, event: ev.OrderRefused) -> None:
        self._turn(event.link_id, OrderState.REFUSED)
        self._closed_nothing(event.link_id, event.reason)

    def _cancelled(self, event: ev.OrderCancelled) -> None:
        self._turn(event.link_id, OrderState.CANCELLED)
        self._closed_nothing(event.link_id, event.reason)
        if event.request and (order := self.order(event.link_id)):
            self._progress(event.request).cancelled.append(replace(order))

    def _closed_nothing(self, link_id: str, reason: str) -> None:
        """An order that was to close a position for a request has ended before its time."""
        order = self.order(link_id)
        if (closing := self._closing_of(link_id)) and order is not None:
            closing.refusals += not order.filled
            closing.reason = reason

    def _turn(self, link_id: str, state: OrderState) -> None:
        order = self.working.get(link_id)
        if order is None or not may_become(order.state, state):
            return
        order.state = state
        if state in {OrderState.FILLED, OrderState.CANCELLED, OrderState.REFUSED}:
            self.ended[link_id] = self.working.pop(link_id)
            while len(self.ended) > ENDED_KEPT:
                self.ended.popitem(last=False)

    def _filled(self, event: ev.OrderFilled) -> None:
        if event.exec_id in self.booked:
            return
        _remember(self.booked, event.exec_id)
        self.cash -= event.fee
        order = self.order(event.link_id)
        if event.purpose is Purpose.ENTRY and order is not None:
            self._enter(order, event)
        elif event.symbol in self.holdings:
            holding = self.holdings[event.symbol]
            if closing := self._closing_of(event.link_id):
                self._bring(closing, holding, event)
            self._leave(holding, event)
        if order is not None:
            order.filled += event.qty
            if order.filled >= order.qty:
                self._turn(order.link_id, OrderState.FILLED)

    def _enter(self, order: WorkingOrder, fill: ev.OrderFilled) -> None:
        if order.price is None or order.stop is None:
            raise ValueError(f"{order.link_id}: an entry has a price and a stop")
        holding = self.holdings.get(order.symbol)
        if holding is not None:  # a further part of the same entry
            total = holding.qty + fill.qty
            holding.entry_price = (holding.entry_price * holding.qty + fill.price * fill.qty) / total
            holding.qty = total
            holding.fees += fill.fee
            return
        self.holdings[order.symbol] = Holding(
            symbol=order.symbol,
            side=Side.LONG if order.side is OrderSide.BUY else Side.SHORT,
            verdict_id=order.verdict_id,
            qty=fill.qty,
            entry_price=fill.price,
            stop=order.stop,
            take_profit=order.take_profit,
            r_distance=order.r_distance,
            risk_per_unit=abs(order.price - order.stop),
            signal_time=order.signal_time,
            entry_time=fill.bar_time,
            fees=fill.fee,
            best=float(fill.price),
            worst=float(fill.price),
        )

    def _bring(self, closing: Closing, holding: Holding, fill: ev.OrderFilled) -> None:
        """What a fill brings to the closing that asked for it."""
        gross = holding.side.sign * fill.qty * (fill.price - holding.entry_price)
        closing.refusals = 0
        closing.filled += fill.qty
        closing.value += fill.qty * fill.price
        closing.profit += gross - fill.fee
        if fill.qty >= holding.qty:
            closing.pnl = self._closed(holding, fill).pnl

    def _leave(self, holding: Holding, fill: ev.OrderFilled) -> None:
        self.cash += holding.side.sign * fill.qty * (fill.price - holding.entry_price)
        holding.qty -= fill.qty
        holding.exit_qty += fill.qty
        holding.exit_value += fill.qty * fill.price
        holding.fees += fill.fee
        if holding.qty <= 0:
            del self.holdings[holding.symbol]

    def _funding(self, event: ev.FundingPaid) -> None:
        if event.exec_id in self.booked:
            return
        _remember(self.booked, event.exec_id)
        self.cash -= event.amount
        if holding := self.holdings.get(event.symbol):
            holding.funding += event.amount

    def _stop_moved(self, event: ev.StopMoved) -> None:
        if holding := self.holdings.get(event.symbol):
            holding.stop = event.new

    def _trade(self, event: ev.TradeClosed) -> None:
        self.results.add(event.pnl, event.at)
        if event.pnl < 0:
            self.last_loss[event.symbol] = event.exit_time

    def _equity(self, event: ev.EquityMarked) -> None:
        self.last_close = event.at
        self.equity = event.equity
        self.peak = max(self.peak, event.equity)
        self.closes.update(event.closes)
        self.results.turn_to(event.at)
        for mark in event.marks:
            if holding := self.holdings.get(mark.symbol):
                holding.best, holding.worst = mark.best, mark.worst

    def _adjusted(self, event: ev.CashAdjusted) -> None:
        self.cash += event.amount

    def _paused(self, event: ev.TradingPaused) -> None:
        self.paused = True
        _remember(self.commands, event.command)

    def _resumed(self, event: ev.TradingResumed) -> None:
        self.paused = False
        _remember(self.commands, event.command)

    def _settings(self, event: ev.SettingsChanged) -> None:
        self.settings.update(event.values)
        self._end_request(event.command)

    def _symbols(self, event: ev.SymbolsChanged) -> None:
        self.muted = event.muted
        self._end_request(event.command)

    def _done(self, event: ev.CommandDone) -> None:
        self._end_request(event.command)

    def _end_request(self, command: str) -> None:
        _remember(self.commands, command)
        self.progress.pop(command, None)

    _folds: ClassVar[dict[type[ev.Event], Callable[[Book, Any], None]]] = {
        ev.SessionStarted: _session,
        ev.CandidateProposed: _proposed,
        ev.VerdictReached: _verdict,
        ev.ShadowEnded: _followed,
        ev.CouncilModeChanged: _council,
        ev.CouncilImpaired: _impaired,
        ev.CouncilRecovered: _recovered,
        ev.OrderIntended: _intended,
        ev.OrderAccepted: _accepted,
        ev.OrderDoubted: _doubted,
        ev.OrderRefused: _refused,
        ev.OrderCancelled: _cancelled,
        ev.OrderFilled: _filled,
        ev.FundingPaid: _funding,
        ev.StopMoved: _stop_moved,
        ev.TradeClosed: _trade,
        ev.EquityMarked: _equity,
        ev.CashAdjusted: _adjusted,
        ev.TradingPaused: _paused,
        ev.TradingResumed: _resumed,
        ev.SettingsChanged: _settings,
        ev.SymbolsChanged: _symbols,
        ev.CommandDone: _done,
    }


_ORDER_FIELDS = (
    "link_id",
    "verdict_id",
    "symbol",
    "purpose",
    "side",
    "type",
    "qty",
    "price",
    "stop",
    "take_profit",
    "r_distance",
    "signal_time",
    "exit_reason",
)

@cache
def _adapter() -> TypeAdapter[Book]:
    return TypeAdapter(Book)


def _remember(ids: OrderedDict[str, None], one: str) -> None:
    ids[one] = None
    while len(ids) > REMEMBERED:
        ids.popitem(last=False)
