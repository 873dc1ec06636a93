"""Candle files through strategy, guards, council and venue, in memory: the live trader, bar by bar.

Nothing that is plugged in knows it is not live.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

from research.report import Outcome
from storage.memory import MemoryJournal
from trading.council.guards import Guards
from trading.desk import Desk
from trading.events import Event
from trading.exchange.simulated.ledger import MemoryKeeper
from trading.exchange.simulated.market import FileFeed, Market, ReleasePace, SimulatedClock
from trading.exchange.simulated.memory import MemoryExchange
from trading.exchange.simulated.venue import Venue
from trading.model import CandleSeries, Instrument, exact, utc
from trading.parameters import AccountTerms, TradeRules
from trading.portfolio import Book
from trading.ports import Council
from trading.signals import BySymbol
from trading.strategy import Strategy
from trading.trader import QueueInbox, Trader

KEPT_EVENTS = 1000  # what the journal remembers: whoever wants more listens


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What is replayed: the bars (one length, a series for each symbol), who trades them, and who may object."""

    series: tuple[CandleSeries, ...]
    strategy_for: Callable[[str], Strategy]
    rules: TradeRules
    terms: AccountTerms
    instruments: Mapping[str, Instrument]
    council: Council
    guards: Guards
    funding: Mapping[str, Mapping[int, Decimal]] = field(default_factory=dict)
    own_knife_bars: Mapping[str, int] = field(default_factory=dict)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols, in the order of their files."""
        return tuple(one.symbol for one in self.series)

    @property
    def interval(self) -> timedelta:
        """Length of one bar."""
        return self.series[0].interval


async def replayed(what: Replay, outcome: Outcome, hear: Callable[[Event], None] | None = None) -> Book:
    """Trade the bars to their end; `outcome`, and whoever else wants to `hear`, is told every event.

    Memory grows with the bars, not with the trades.
    """
    venue = Venue(what.instruments, what.terms, MemoryKeeper(), funding=what.funding)
    inbox, clock, pace = QueueInbox(), SimulatedClock(), ReleasePace()
    market = Market(venue, FileFeed(list(what.series)), pace, clock, inbox.put)
    market.start_at(utc(min(int(one.timestamp[0]) for one in what.series)))
    exchange = MemoryExchange(venue, market, inbox, "replay")
    journal = MemoryJournal(keep=KEPT_EVENTS)
    journal.listen(outcome.hear)
    if hear is not None:
        journal.listen(hear)
    desk = Desk(
        account="replay",
        symbols=what.symbols,
        interval=what.interval,
        rules=what.rules,
        terms=what.terms,
        instruments=what.instruments,
        book=Book.opening(exact(what.terms.initial_equity)),
        journal=journal,
        market=exchange,
        broker=exchange,
        council=what.council,
        guards=what.guards,
        signals=BySymbol.whole(what.strategy_for, list(what.series)),
        clock=clock,
        own_knife_bars=what.own_knife_bars,
    )
    trader = Trader(desk, inbox, pace, badge="REPLAY", quotes=venue.last)
    await trader.start(clock.now())
    walking, trading = asyncio.create_task(market.run()), asyncio.create_task(trader.run())
    try:
        await asyncio.gather(walking, trading)
    finally:  # one that breaks down leaves the other waiting for ever
        for task in (walking, trading):
            task.cancel()
        await asyncio.gather(walking, trading, return_exceptions=True)
    return desk.book
