"""The private stream: orders, executions, positions and wallet of the account, after each commit of the venue.

No topic sends a snapshot on subscription, and nothing is repeated: what was missed must be asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from trading.exchange.simulated.books import Fill, FillKind, Order
from trading.exchange.simulated.venue import Venue, VenueRefusal
from trading.exchange.simulated.wire.auth import Credentials
from trading.exchange.simulated.wire.connection import Connection
from trading.exchange.simulated.wire.formats import encode
from trading.exchange.simulated.wire.objects import (
    COIN,
    Object,
    closed_pnl,
    fast_fill_frame,
    fill_frame,
    order_frame,
    position_frame,
)
from trading.exchange.simulated.wire.positions import Positions
from trading.exchange.simulated.wire.sockets import TopicSocket
from trading.exchange.simulated.wire.wallet import Wallet
from trading.model import ZERO, millis

BY_CATEGORY = ("order", "execution", "execution.fast", "position")
CATEGORIES = ("linear", "inverse", "spot", "option")
ALL_IN_ONE = (*BY_CATEGORY, "wallet", "greeks", "dcp.future")
CATEGORISED = {f"{topic}.{category}" for topic in BY_CATEGORY for category in CATEGORIES}
AUTH_SECONDS = 3.0
MOST_WAITING = 100
UNAUTHORISED = "Request not authorized"

Frames = Iterator[tuple[str, list[Object]]]


class PrivateStream:
    """Tells every subscriber what the venue has committed."""

    def __init__(self, venue: Venue, positions: Positions, wallet: Wallet, uid: str) -> None:
        self.sockets: dict[PrivateSocket, None] = {}
        self._venue = venue
        self._positions = positions
        self._wallet = wallet
        self._uid = uid
        self._money = (venue.cash, venue.available)
        self._sequence = 0

    def publish(self, events: Sequence[Fill | Order], delay: float) -> None:
        """Tell what happened: orders, executions, then the positions they touched, and the wallet if it moved."""
        for event in events:
            if isinstance(event, Fill):
                self._positions.note(event)
        before, self._money = self._money, (self._venue.cash, self._venue.available)
        moved = before != self._money  # by money, or by margin that an order binds or sets free
        if wanted := {topic for socket in self.sockets for topic in socket.topics}:
            for topic, data in self._frames(events, wallet=moved):
                self._send(topic, data, wanted, delay)

    def position_changed(self, symbol: str, delay: float) -> None:
        """A position changed without an order or a fill."""
        wanted = {topic for socket in self.sockets for topic in socket.topics}
        self._send("position", [position_frame(self._positions.holding(symbol))], wanted, delay)

    def _frames(self, events: Sequence[Fill | Order], *, wallet: bool) -> Frames:
        fills = [event for event in events if isinstance(event, Fill)]
        for event in events:
            if isinstance(event, Order):
                yield "order", [self._order(event, fills)]
        if fills:
            yield "execution", [fill_frame(fill) for fill in fills]
        if fast := [fast_fill_frame(fill) for fill in fills if fill.kind is FillKind.TRADE]:
            yield "execution.fast", fast
        touched = dict.fromkeys(event.asked.symbol if isinstance(event, Order) else event.symbol for event in events)
        for symbol in touched:
            yield "position", [position_frame(self._positions.holding(symbol))]
        if wallet:
            yield "wallet", [self._wallet.shown([COIN])]

    def _order(self, order: Order, fills: Sequence[Fill]) -> Object:
        brought = sum((closed_pnl(fill) for fill in fills if fill.order_id == order.order_id), ZERO)
        return order_frame(order, self._venue.instruments[order.asked.symbol], brought)

    def _send(self, topic: str, data: list[Object], wanted: set[str], delay: float) -> None:
        for name in (topic, f"{topic}.linear"):
            if name not in wanted:
                continue
            self._sequence += 1
            head = {"id": f"{self._uid}_{topic}_{self._sequence}", "topic": name}
            text = encode({**head, "creationTime": millis(self._venue.now), "data": data})
            for socket in self.sockets:
                if name in socket.topics:
                    socket.connection.send(text, delay)


class PrivateSocket(TopicSocket):
    """One client of the private stream. Subscriptions that come before the auth wait for it."""

    def __init__(
        self,
        connection: Connection,
        stream: PrivateStream,
        ack_delay: float,
        *,
        credentials: Credentials,
        now_ms: Callable[[], int],
    ) -> None:
        super().__init__(connection, ack_delay)
        self._stream = stream
        self._credentials = credentials
        self._now_ms = now_ms
        self._authorised = False
        self._waiting: list[dict[str, Any]] = []
        self._deadline: asyncio.TimerHandle | None = None
        self._ops["auth"] = self._auth
        self._ops["subscribe"] = self._subscribe_authorised
        stream.sockets[self] = None

    def knows(self, topic: str) -> bool:
        """One of the private topics."""
        return topic in ALL_IN_ONE or topic in CATEGORISED

    def pong(self, req_id: str | int) -> dict[str, Any]:
        """The private socket has a pong of its own."""
        stamp = str(self._now_ms())
        return {"req_id": req_id, "op": "pong", "args": [stamp], "conn_id": self.connection.conn_id}

    def gone(self) -> None:
        """The client has hung up."""
        self._stream.sockets.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()

    def _auth(self, message: dict[str, Any]) -> None:
        try:
            self._credentials.check_socket(message.get("args"), self._now_ms())
        except VenueRefusal as refusal:
            self._refuse_auth(str(refusal))
            self._give_up()
            return
        self._authorised = True
        self.acknowledge(message)
        waiting, self._waiting = self._waiting, []
        for subscription in waiting:
            self._subscribe(subscription)

    def _refuse_auth(self, text: str) -> None:
        request = {"op": "auth", "args": None}
        body = {"success": False, "ret_msg": text, "op": "auth", "conn_id": self.connection.conn_id, "request": request}
        self.connection.send(encode(body), self.ack_delay)

    def _subscribe_authorised(self, message: dict[str, Any]) -> None:
        if self._authorised:
            self._subscribe(message)
            return
        if len(self._waiting) >= MOST_WAITING:
            self.refuse(message, UNAUTHORISED)
            return
        self._waiting.append(message)
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(AUTH_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """No auth has come, or a wrong one: what waited for it is rejected."""
        waiting, self._waiting = self._waiting, []
        self._deadline = None
        for subscription in waiting:
            self.refuse(subscription, UNAUTHORISED)

    def _fault(self, topics: list[str]) -> str:
        both = any(topic in CATEGORISED for topic in topics) and any(topic in BY_CATEGORY for topic in topics)
        return "error:all-in-one and categorised topics cannot be mixed" if both else super()._fault(topics)
