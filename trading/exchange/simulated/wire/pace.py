"""The pace control, which Bybit does not have: a trader on this machine says which close it is done with.

It holds no key and moves no money, but it lets market time go on: only loopback may connect, and no web page.
"""

from __future__ import annotations

from typing import Protocol

from trading.exchange.simulated.wire.connection import Connection
from trading.exchange.simulated.wire.formats import encode
from trading.exchange.simulated.wire.sockets import decoded
from trading.model import utc
from trading.ports import Pace

LATEST_MS = 10**14


class Followed(Pace, Protocol):
    """A pace whose followers come and go."""

    followers: int

    def follow(self) -> None:
        """Somebody follows from now on."""
        ...

    def leave(self) -> None:
        """A follower has gone."""
        ...


class PaceControl:
    """Everybody who follows this market."""

    def __init__(self, pace: Followed, *, uid: str, speed: float, interval_ms: int) -> None:
        self.pace = pace
        self.ended = False
        self._fixed = {"speed": speed, "uid": uid, "interval_ms": interval_ms}
        self._connections: dict[Connection, None] = {}

    def follow(self, connection: Connection, now_ms: int) -> None:
        """Somebody has connected: say where market time stands."""
        self._connections[connection] = None
        connection.send(encode({"now": now_ms, **self._fixed, "ended": self.ended}))
        self.pace.follow()

    def leave(self, connection: Connection) -> None:
        """Somebody has gone."""
        self._connections.pop(connection)
        self.pace.leave()

    def closed(self, close_ms: int) -> None:
        """A close has been published."""
        self._tell(f'{{"now":{close_ms}}}')

    def end(self) -> None:
        """The feed is over."""
        self.ended = True
        self._tell('{"ended":true}')

    def hear(self, text: str) -> None:
        """A follower is done with a close; anything else is not understood and changes nothing."""
        released = (decoded(text) or {}).get("release")
        if isinstance(released, int) and not isinstance(released, bool) and 0 <= released <= LATEST_MS:
            self.pace.release(utc(released))

    def _tell(self, text: str) -> None:
        for connection in self._connections:
            connection.send(text)
