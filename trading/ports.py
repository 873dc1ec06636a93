"""The ports: what the domain needs from the outside, each with its contract in prose.

Real adapters and embedded ones stand behind the same port and pass the same contract tests.
Every failure is one of `trading.errors`; nothing else leaves an adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from trading.events import (
    AgentAnswer,
    AgentAnswered,
    AlertRaised,
    Event,
    Opinion,
    OpinionReached,
    Request,
    Testimony,
)
from trading.model import (
    AccountFacts,
    AccountSnapshot,
    Candle,
    CandleSeries,
    ExchangeOrder,
    Execution,
    Instrument,
    PlaceOrder,
    Proposal,
)
from trading.risk import Approved


class Clock(Protocol):
    """Time. `now` is market time (bars, expiry, loss days, reports); `monotonic` is for ages and deadlines."""

    def now(self) -> datetime:
        """Market time, aware UTC. Under a replay it stands still between bars."""
        ...

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that many monotonic seconds (tests may scale it)."""
        ...


class Pace(Protocol):
    """Who lets the next bar open. The composition root releases each close once the trader is done with it."""

    def release(self, close_time: datetime) -> None:
        """The close at `close_time` (and every earlier one) has been dealt with."""
        ...

    async def released(self, close_time: datetime) -> None:
        """Returns once `close_time` has been released; at once when it already was."""
        ...


# What an exchange adapter tells the trader, in the order in which it happened.


@dataclass(frozen=True, slots=True, kw_only=True)
class BarsClosed:
    """Bars of one moment, closed, one per symbol at most, in the order of the configuration.

    `late`: a later close is known already, so that this one is too old for a new entry.
    """

    close_time: datetime
    candles: tuple[Candle, ...]
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderUpdated:
    """An order changed its state without a fill (accepted, cancelled, refused)."""

    order: ExchangeOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedEnded:
    """A bar feed has no more bars: a candle file is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost:
    """A stream of the exchange is down or silent: what happens there may not be heard. `reason` is for a person."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRestored:
    """Every stream is up again. Nothing is replayed by the exchange: what was missed must be asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deliberation:
    """What a council said: a veto, or a shrink. `size_multiplier` is in 0..1 and 0 exactly when rejected.

    `opinions` are those of other councils on the same brief. `failed` are agents that did not answer, with the reason,
    by name.
    """

    approved: bool
    size_multiplier: float
    reasons: tuple[str, ...]
    answers: tuple[AgentAnswer, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overheard:
    """What the models would have decided, once they have been heard; `mode` is that in which they were (`shadow`)."""

    opinion: OpinionReached
    ruling: Deliberation
    mode: str


# What the council says beside its verdict comes the same way: only the trader writes anything down.
Said = AgentAnswered | Overheard | AlertRaised
Inbound = BarsClosed | Execution | OrderUpdated | FeedEnded | ConnectionLost | ConnectionRestored | Said | Request


class Inbox(Protocol):
    """The trader's single entrance. Everything that changes trading state comes through here, in order."""

    def put(self, item: Inbound) -> None:
        """Queue one item; never blocks and never drops."""
        ...


class MarketData(Protocol):
    """Prices of one exchange. Missing data raises; nothing is filled in."""

    async def instrument(self, symbol: str) -> Instrument:
        """Trading rules of a symbol; `Rejected` when the exchange does not know it."""
        ...

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """Up to `bars` last closed bars, oldest first; fewer (even none) when there are no more."""
        ...

    async def last_price(self, symbol: str) -> Decimal:
        """The price a decision is checked against just before an order leaves."""
        ...


class Broker(Protocol):
    """Orders on one account. Idempotent by link id: a second `place` of one id never makes a second order."""

    async def place(self, order: Approved[PlaceOrder]) -> str:
        """Send an order, return the exchange's order id. `Rejected`: it does not exist. `OutcomeUnknown`: ask."""
        ...

    async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """Cancel and return the order as it ended: cancelled, or filled when the fill came first."""
        ...

    async def move_stop(self, symbol: str, stop: Decimal) -> None:
        """Amend the stop of the open position, never cancelling first. The same stop again is no failure."""
        ...

    async def find(self, symbol: str, link_id: str) -> ExchangeOrder | None:
        """The order with this link id, open or closed; None when the exchange does not know it (yet)."""
        ...

    async def snapshot(self, *, cash: bool = True) -> AccountSnapshot:
        """Open positions and open orders of the whole account; the wallet balance too, unless it is not wanted."""
        ...

    async def executions(self, symbol: str, since: datetime) -> Sequence[Execution]:
        """Fills and funding since a moment, oldest first; the same ids as the stream's."""
        ...

    async def account_id(self) -> str:
        """The exchange's id of this account: state of another account is never mixed with it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An event with its place in the journal."""

    seq: int
    event: Event


class Journal(Protocol):
    """The append-only memory. `append` commits before it returns: what is not committed has not happened."""

    async def append(self, events: Sequence[Event]) -> int:
        """Commit all of them in order, or none; returns the last sequence number."""
        ...

    async def read(self, after: int, limit: int = 500) -> Sequence[Recorded]:
        """Events after `after`, oldest first, at most `limit`; empty when there are none yet."""
        ...

    async def grown(self, after: int) -> None:
        """Returns when there is an event after `after`."""
        ...

    async def save_snapshot(self, seq: int, state: Mapping[str, Any]) -> None:
        """Keep the trader's folded state as of `seq` (JSON types only), replacing the one before."""
        ...

    async def load_snapshot(self) -> tuple[int, Mapping[str, Any]] | None:
        """The last kept state and its sequence number; None when there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """All that a council may know: a window of closed bars (the last one decided on), proposal, account."""

    window: CandleSeries
    proposal: Proposal
    account: AccountFacts


class Witness(Protocol):
    """Who writes down what is said while a council deliberates; never blocks."""

    def heard(self, said: Testimony) -> None:
        """One agent has been asked and has answered or failed."""
        ...

    def alerted(self, text: str) -> None:
        """What the owner must do something about (a key that is no good any more), once each."""
        ...

    def concluded(self, council: str, ruling: Deliberation) -> None:
        """What the models would have decided, after the rules have (mode `shadow`)."""
        ...


class Council(Protocol):
    """May veto or shrink a proposal, never enlarge or redirect it. `mode` is its name in verdicts."""

    @property
    def mode(self) -> str:
        """One of `trading.council.MODES`."""
        ...

    @property
    def debates(self) -> bool:
        """Does it take its time? Then the candidate is announced before it is asked."""
        ...

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Decide within the council's own deadline; a failure inside is a rejection, never an exception.

        It is cancelled when somebody asks for less risk meanwhile: nobody waits for it then.
        """
        ...
