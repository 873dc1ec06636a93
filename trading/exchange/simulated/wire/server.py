"""The server: one port on loopback with REST, the three sockets of Bybit V5, and the pace control beside them.

It stands on the running event loop and on the venue of this process; every request is done in one go, so that
nothing else happens to the books meanwhile. A reply to a request leaves before the events that it caused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aiohttp import web

from trading.exchange.simulated.books import Fill, Order
from trading.exchange.simulated.venue import Venue
from trading.exchange.simulated.wire.auth import Credentials
from trading.exchange.simulated.wire.connection import Connection
from trading.exchange.simulated.wire.desk import Desk, Reply
from trading.exchange.simulated.wire.limits import Limits
from trading.exchange.simulated.wire.market import MarketLike, Prices
from trading.exchange.simulated.wire.pace import Followed, PaceControl
from trading.exchange.simulated.wire.private import PrivateSocket, PrivateStream
from trading.exchange.simulated.wire.public import PublicSocket, PublicStream
from trading.exchange.simulated.wire.sockets import ACK_DELAY
from trading.exchange.simulated.wire.trade import TradeSocket
from trading.model import MILLISECOND, millis
from trading.ports import BarsClosed

EVENT_DELAY = 0.002  # seconds between the reply to a request and the events that it caused
LOOPBACK = ("127.", "::1")
JSON = "application/json; charset=utf-8"
GOODBYE_SECONDS = 1.0

Serve = Callable[[web.BaseRequest, Connection], Coroutine[Any, Any, web.StreamResponse]]


class WireServer:
    """One account of one venue on one port. The composition root hands it the market's closes and ticks."""

    def __init__(
        self,
        venue: Venue,
        market: MarketLike,
        *,
        uid: str,
        key: str,
        secret: str,
        port: int,
        pace: Followed,
        host: str = "127.0.0.1",
        speed: float = 0.0,
        limit_factor: float = 1.0,
        ack_delay: float = ACK_DELAY,
    ) -> None:
        self._venue = venue
        self._host, self._port = host, port
        self._ack_delay = ack_delay
        prices = Prices(venue, market)
        credentials = Credentials(key=key, secret=secret)
        self._desk = Desk(prices, credentials, Limits(limit_factor), uid=uid, changed=self._position_changed)
        self._public = PublicStream(prices, self._desk.data)
        self._private = PrivateStream(venue, self._desk.positions, self._desk.wallet, uid)
        self._pace = PaceControl(pace, uid=uid, speed=speed, interval_ms=market.interval // MILLISECOND)
        self._sockets = {
            "/v5/public/linear": self._serve_public,
            "/v5/private": self._serve_private,
            "/v5/trade": self._serve_trade,
            "/paper/pace": self._serve_pace,
        }
        self._connections: dict[Connection, None] = {}
        self._runner: web.ServerRunner | None = None
        venue.listener = self.heard

    # Life

    async def start(self) -> None:
        """Open the port; `OSError` when it is taken."""
        server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=GOODBYE_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._port = runner.addresses[0][1]

    async def stop(self) -> None:
        """Close every socket, then the port."""
        self._public.close()
        await asyncio.gather(*(connection.close() for connection in self._connections))
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        """Where REST is."""
        return f"http://{self._host}:{self._port}"

    @property
    def ws_url(self) -> str:
        """Where the sockets are."""
        return f"ws://{self._host}:{self._port}"

    @property
    def followers(self) -> int:
        """How many clients hold the pace control."""
        return self._pace.pace.followers

    # What the venue and the market say

    def heard(self, events: Sequence[Fill | Order]) -> None:
        """The venue has committed something."""
        self._private.publish(events, EVENT_DELAY if self._desk.asking else 0.0)

    def bars_closed(self, closed: BarsClosed) -> None:
        """Bars have closed, and everything that happened in them has been published."""
        self._public.bars_closed(closed)
        self._pace.closed(millis(closed.close_time))

    def ticked(self, symbol: str, _price: float) -> None:
        """A price within a bar."""
        self._public.ticked(symbol)

    def feed_ended(self) -> None:
        """There will be no more bars."""
        self._pace.end()

    def _position_changed(self, symbol: str) -> None:
        self._private.position_changed(symbol, EVENT_DELAY)

    # Requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        endpoint = self._desk.endpoints.get((request.method, path))
        if endpoint is None:
            serve = self._sockets.get(path)
            if serve is None or request.headers.get("Upgrade", "").lower() != "websocket":
                return self._response(self._desk.unrouted(), status=404)
            return await self._converse(request, serve)
        try:
            body = await request.read() if request.method == "POST" else None
        except web.HTTPRequestEntityTooLarge:
            return self._response(self._desk.too_large(), status=413)
        return self._response(self._desk.read(endpoint, request.headers, query, body))

    def _response(self, reply: Reply, status: int = 200) -> web.Response:
        headers = {"Content-Type": JSON, **reply.allowance.headers()}
        return web.Response(body=reply.body(self._desk.now_ms).encode(), status=status, headers=headers)

    # Sockets

    async def _converse(self, request: web.BaseRequest, serve: Serve) -> web.StreamResponse:
        connection = Connection()
        self._connections[connection] = None
        try:
            return await serve(request, connection)
        finally:
            self._connections.pop(connection)

    async def _serve_public(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        socket = PublicSocket(connection, self._public, self._ack_delay)
        try:
            return await connection.serve(request, socket.hear, socket.quiet)
        finally:
            socket.gone()

    async def _serve_private(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        desk = self._desk
        socket = PrivateSocket(
            connection,
            self._private,
            self._ack_delay,
            credentials=desk.credentials,
            now_ms=lambda: desk.now_ms,
        )
        try:
            return await connection.serve(request, socket.hear, socket.quiet)
        finally:
            socket.gone()

    async def _serve_trade(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        socket = TradeSocket(connection, self._desk, self._ack_delay)
        return await connection.serve(request, socket.hear, socket.quiet)

    async def _serve_pace(self, request: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        if not (request.remote or "").startswith(LOOPBACK) or "Origin" in request.headers:
            return self._response(self._desk.unrouted(), status=404)
        self._pace.follow(connection, millis(self._venue.now))
        try:
            return await connection.serve(request, self._pace.hear, lambda: False)
        finally:
            self._pace.leave(connection)
