"""Things that go wrong on the way to an exchange, as small real implementations of the ports.

`BadLine` is a broker on a bad line: it loses requests or replies, cannot see what is new yet, or is refused.
`DeafInbox` is an entrance at which exchange events get lost, doubled or late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading.errors import OutcomeUnknown, Rejected, Transient
from trading.exchange.simulated.memory import MemoryExchange
from trading.model import AccountSnapshot, CandleSeries, ExchangeOrder, Execution, Instrument, PlaceOrder
from trading.ports import BarsClosed, FeedEnded, Inbound
from trading.risk import Approved
from trading.trader import QueueInbox


class Fault(StrEnum):
    """What happens to one call."""

    NONE = "none"
    LOSE_REQUEST = "request lost"
    LOSE_REPLY = "reply lost"
    DOWN = "down"
    REFUSE = "refused"


@dataclass(slots=True)
class BadLine:
    """A broker that forwards to the venue's face through `faults`: per method, one fault per call, then none.

    `forever` is the fault of every call of a method. `unseen` is how many looks (`find` and `snapshot` alike)
    do not show yet what was placed through this line. `sent` counts what reached the venue.
    """

    exchange: MemoryExchange
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    forever: dict[str, Fault] = field(default_factory=dict)
    unseen: int = 0
    sent: list[PlaceOrder] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def _fault(self, method: str) -> Fault:
        if method in self.forever:
            return self.forever[method]
        left = self.faults.get(method, [])
        return left.pop(0) if left else Fault.NONE

    def _before(self, method: str) -> Fault:
        fault = self._fault(method)
        if fault is Fault.LOSE_REQUEST:
            raise OutcomeUnknown(f"{method}: no reply")
        if fault is Fault.DOWN:
            raise Transient(f"{method}: the exchange cannot be reached")
        if fault is Fault.REFUSE:
            raise Rejected(f"{method}: refused", code=10001)
        return fault

    def _after(self, method: str, fault: Fault) -> None:
        if fault is Fault.LOSE_REPLY:
            raise OutcomeUnknown(f"{method}: no reply")

    def _looks(self) -> bool:
        """One look: can it see what was placed lately?"""
        if self.sent and self.unseen > 0:
            self.unseen -= 1
            return False
        return True

    async def place(self, order: Approved[PlaceOrder]) -> str:
        """Place."""
        fault = self._before("place")
        self.sent.append(order.order)
        order_id = await self.exchange.place(order)
        self._after("place", fault)
        return order_id

    async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """Cancel."""
        fault = self._before("cancel")
        self.cancelled.append(link_id)
        ended = await self.exchange.cancel(symbol, link_id)
        self._after("cancel", fault)
        return ended

    async def move_stop(self, symbol: str, stop: Decimal) -> None:
        """Amend the stop."""
        fault = self._before("move_stop")
        await self.exchange.move_stop(symbol, stop)
        self._after("move_stop", fault)

    async def find(self, symbol: str, link_id: str) -> ExchangeOrder | None:
        """Look for an order."""
        self._before("find")
        return await self.exchange.find(symbol, link_id) if self._looks() else None

    async def snapshot(self, *, cash: bool = True) -> AccountSnapshot:
        """Look at the account."""
        self._before("snapshot")
        seen = await self.exchange.snapshot(cash=cash)
        if self._looks():
            return seen
        late = self.sent[-1].link_id
        orders = tuple(order for order in seen.orders if order.link_id != late)
        return AccountSnapshot(cash=seen.cash, positions=seen.positions, orders=orders)

    async def executions(self, symbol: str, since: datetime) -> Sequence[Execution]:
        """Executions."""
        self._before("executions")
        return await self.exchange.executions(symbol, since)

    async def account_id(self) -> str:
        """The account."""
        return await self.exchange.account_id()


class DeafInbox(QueueInbox):
    """An entrance that loses, doubles or holds back exchange events; bars and requests always come through.

    `fate` says of each event how often it is delivered; an event held back comes after the next bar's close.
    """

    def __init__(self, fate: Callable[[Inbound], int], *, late: bool = False) -> None:
        super().__init__()
        self._fate = fate
        self._late = late
        self._held: list[Inbound] = []

    def put(self, item: Inbound) -> None:
        """Queue an item as often as its fate says."""
        if isinstance(item, BarsClosed | FeedEnded):
            super().put(item)
            held, self._held = self._held, []
            for one in held:
                super().put(one)
            return
        for _ in range(self._fate(item)):
            if self._late:
                self._held.append(item)
            else:
                super().put(item)


@dataclass(slots=True)
class BlindSpot:
    """Market data whose last price cannot be had for the first `down` questions."""

    exchange: MemoryExchange
    down: int

    async def instrument(self, symbol: str) -> Instrument:
        """As the exchange says."""
        return await self.exchange.instrument(symbol)

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """As the exchange says."""
        return await self.exchange.history(symbol, bars)

    async def last_price(self, symbol: str) -> Decimal:
        """As the exchange says, once it answers."""
        if self.down > 0:
            self.down -= 1
            raise Transient("last_price: the exchange cannot be reached")
        return await self.exchange.last_price(symbol)
