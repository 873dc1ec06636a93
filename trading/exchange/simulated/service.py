"""The paper exchange as a service: ledger, venue, market and wire together, on loopback.

Its books and its market's clock are durable: killed at any moment, it goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Protocol

from trading.exchange.simulated.ledger import LedgerFile
from trading.exchange.simulated.market import FollowedPace, SimulatedClock
from trading.exchange.simulated.venue import Venue
from trading.exchange.simulated.wire.market import MarketLike
from trading.exchange.simulated.wire.server import WireServer
from trading.model import Instrument
from trading.parameters import AccountTerms
from trading.ports import BarsClosed, FeedEnded

HASTY_BAR_SECONDS = 0.2  # a bar that lasts less wall time than this is a replay: Bybit's rate limits would stop it
HASTE = 1000.0


class Walking(MarketLike, Protocol):
    """A market that walks by itself: over bars, or on live prices."""

    deliver: Callable[[Any], None]
    ticked: Callable[[str, float], None]

    async def prepare(self) -> None:
        """Get ready to be asked."""
        ...

    async def run(self) -> None:
        """Walk to the end, or until cancelled."""
        ...


class PaperExchange:
    """One paper exchange. `port` 0 takes a free one; `start` raises OSError when the port is taken.

    `market` makes the market on the venue. Where its time runs very fast, Bybit's limits of requests a second are
    lifted: they would only stop a replay.
    """

    def __init__(
        self,
        instruments: Mapping[str, Instrument],
        terms: AccountTerms,
        ledger: LedgerFile,
        market: Callable[[Venue, FollowedPace, SimulatedClock], Walking],
        *,
        funding: Mapping[str, Mapping[int, Decimal]],
        key: str,
        secret: str,
        port: int,
        speed: float,
    ) -> None:
        self._ledger = ledger
        pace, clock = FollowedPace(free=speed > 0), SimulatedClock()
        self._venue = Venue(instruments, terms, ledger, uid=ledger.uid, funding=funding)
        self._market = market(self._venue, pace, clock)
        bar = self._market.interval.total_seconds()
        hasty = speed == 0 or bar / speed < HASTY_BAR_SECONDS
        if ledger.state is not None:
            self._venue.restore(ledger.state)
            clock.market_time = self._venue.now
        self._server = WireServer(
            self._venue,
            self._market,
            pace=pace,
            uid=ledger.uid,
            key=key,
            secret=secret,
            port=port,
            speed=speed,
            limit_factor=HASTE if hasty else 1.0,
        )
        self.ended = False

    @property
    def url(self) -> str:
        """Where REST is."""
        return self._server.url

    @property
    def ws_url(self) -> str:
        """Where the sockets are."""
        return self._server.ws_url

    async def start(self) -> None:
        """Open the port; the market does not move yet."""
        self._market.deliver = self._deliver
        self._market.ticked = self._server.ticked
        await self._market.prepare()
        await self._server.start()

    def _deliver(self, told: BarsClosed | FeedEnded) -> None:
        if isinstance(told, BarsClosed):
            self._server.bars_closed(told)
        else:
            self._server.feed_ended()

    async def run(self) -> None:
        """Walk the market to its end; everything stays answered afterwards."""
        await self._market.run()
        self.ended = True

    def finish(self) -> None:
        """The market has come to its end and everybody knows: the next start begins anew."""
        self._ledger.finish()

    async def stop(self) -> None:
        """Close the port and the ledger."""
        await self._server.stop()
        self._ledger.close()
