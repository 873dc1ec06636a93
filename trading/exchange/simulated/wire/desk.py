"""Every REST endpoint in one table, and the way of a request: signature, limit, parameters, answer.

The trade socket goes the same way without the signature. Whatever is refused has a code and a text, never more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from trading.exchange.simulated.venue import VenueRefusal
from trading.exchange.simulated.wire.auth import Credentials
from trading.exchange.simulated.wire.formats import envelope
from trading.exchange.simulated.wire.limits import Allowance, Limits
from trading.exchange.simulated.wire.market import Prices
from trading.exchange.simulated.wire.market_data import MarketData
from trading.exchange.simulated.wire.objects import Object
from trading.exchange.simulated.wire.orders import Batch, Orders
from trading.exchange.simulated.wire.parameters import Params, from_body, from_query
from trading.exchange.simulated.wire.positions import Positions
from trading.exchange.simulated.wire.wallet import Wallet

TOO_OFTEN = 10006
PUBLIC_PER_SECOND = 120  # Bybit's 600 in 5 s for an IP address; told in headers, not enforced
NO_ROUTE = "Route not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path. Without a limit it is public: no signature, and it is never refused for its frequency."""

    path: str
    handle: Callable[[Params], Object | Batch]
    limit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What comes back, with the headers that tell what is left of the limit."""

    code: int
    message: str
    allowance: Allowance
    result: Object = field(default_factory=dict)
    ext: Object = field(default_factory=dict)

    def body(self, now_ms: int) -> str:
        """As JSON."""
        return envelope(self.code, self.message, self.result, self.ext, now_ms)


class Desk:
    """Takes requests. `asking` is true while one of them is at the venue."""

    def __init__(
        self,
        prices: Prices,
        credentials: Credentials,
        limits: Limits,
        *,
        uid: str,
        changed: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.asking = False
        self.wall = wall
        self.credentials = credentials
        self.data = MarketData(prices, wall)
        self.positions = Positions(prices, changed)
        self.wallet = Wallet(prices.venue, uid, credentials.key)
        self._limits = limits
        orders = Orders(prices.venue, self.positions.hedged)
        self.endpoints = {("GET", endpoint.path): endpoint for endpoint in self._public()}
        self.endpoints |= {("GET", endpoint.path): endpoint for endpoint in self._private(orders)}
        self.endpoints |= {("POST", endpoint.path): endpoint for endpoint in self._requests(orders)}

    def _public(self) -> list[Endpoint]:
        data = self.data
        table: dict[str, Callable[[Params], Object | Batch]] = {
            "/v5/market/time": data.time,
            "/v5/market/kline": data.kline,
            "/v5/market/mark-price-kline": data.price_kline,
            "/v5/market/index-price-kline": data.price_kline,
            "/v5/market/premium-index-price-kline": data.premium_kline,
            "/v5/market/instruments-info": data.instruments,
            "/v5/market/tickers": data.tickers,
            "/v5/market/orderbook": data.order_book,
            "/v5/market/funding/history": data.funding_history,
            "/v5/market/risk-limit": data.risk_limit,
            "/v5/market/recent-trade": data.trades,
            "/v5/market/price-limit": data.price_limit,
            "/v5/system/status": data.status,
        }
        return [Endpoint(path=path, handle=handle) for path, handle in table.items()]

    def _private(self, orders: Orders) -> list[Endpoint]:
        positions, wallet = self.positions, self.wallet
        return [
            Endpoint(path="/v5/order/realtime", handle=orders.realtime, limit=50),
            Endpoint(path="/v5/order/history", handle=orders.history, limit=50),
            Endpoint(path="/v5/execution/list", handle=wallet.executions, limit=50),
            Endpoint(path="/v5/position/list", handle=positions.listed, limit=50),
            Endpoint(path="/v5/position/closed-pnl", handle=positions.closed_pnl, limit=50),
            Endpoint(path="/v5/account/wallet-balance", handle=wallet.balance, limit=50),
            Endpoint(path="/v5/account/info", handle=wallet.info, limit=50),
            Endpoint(path="/v5/account/fee-rate", handle=wallet.fee_rate, limit=5),
            Endpoint(path="/v5/account/transaction-log", handle=wallet.transactions, limit=25),
            Endpoint(path="/v5/user/query-api", handle=wallet.key_info, limit=10),
            Endpoint(path="/v5/asset/coin/query-info", handle=wallet.coins, limit=5),
        ]

    def _requests(self, orders: Orders) -> list[Endpoint]:
        positions = self.positions
        return [
            Endpoint(path="/v5/order/create", handle=orders.create, limit=10),
            Endpoint(path="/v5/order/amend", handle=orders.amend, limit=10),
            Endpoint(path="/v5/order/cancel", handle=orders.cancel, limit=10),
            Endpoint(path="/v5/order/cancel-all", handle=orders.cancel_all, limit=10),
            Endpoint(path="/v5/order/create-batch", handle=orders.create_batch, limit=10),
            Endpoint(path="/v5/order/amend-batch", handle=orders.amend_batch, limit=10),
            Endpoint(path="/v5/order/cancel-batch", handle=orders.cancel_batch, limit=10),
            Endpoint(path="/v5/position/set-leverage", handle=positions.set_leverage, limit=10),
            Endpoint(path="/v5/position/switch-mode", handle=positions.switch_mode, limit=10),
            Endpoint(path="/v5/position/trading-stop", handle=positions.trading_stop, limit=10),
            Endpoint(path="/v5/account/set-margin-mode", handle=self.wallet.set_margin_mode, limit=5),
        ]

    @property
    def now_ms(self) -> int:
        """The wall's time."""
        return int(self.wall() * 1000)

    def read(self, endpoint: Endpoint, headers: Mapping[str, str], query: str, body: bytes | None) -> Reply:
        """Answer a REST request: a POST has a body, a GET has none."""
        try:
            if endpoint.limit:
                payload = query.encode(errors="surrogateescape") if body is None else body
                self.credentials.check_request(headers, payload, self.now_ms)
            params = from_query(query) if body is None else from_body(body)
        except VenueRefusal as refusal:
            return Reply(code=refusal.code, message=str(refusal), allowance=self._unused(endpoint))
        return self.answer(endpoint, params)

    def answer(self, endpoint: Endpoint, params: Params) -> Reply:
        """Answer a request that may be made, if it comes not too often."""
        allowance = self._unused(endpoint)
        if endpoint.limit:
            count = params.length("request")
            allowance = self._limits.take(endpoint.path, endpoint.limit, self.wall(), count)
        if not allowance.allowed:
            text = "Too many visits. Exceeded the API Rate Limit."
            return Reply(code=TOO_OFTEN, message=text, allowance=allowance)
        self.asking = True
        try:
            answer = endpoint.handle(params)
        except VenueRefusal as refusal:
            return Reply(code=refusal.code, message=str(refusal), allowance=allowance)
        finally:
            self.asking = False
        if isinstance(answer, Batch):
            return Reply(code=0, message="OK", allowance=allowance, result=answer.result, ext=answer.ext)
        return Reply(code=0, message="OK", allowance=allowance, result=answer)

    def unrouted(self) -> Reply:
        """The answer to a path that does not exist."""
        return Reply(code=10017, message=NO_ROUTE, allowance=self._full(PUBLIC_PER_SECOND))

    def too_large(self) -> Reply:
        """The answer to a body that nobody reads."""
        text = "params error: request body is too large"
        return Reply(code=10001, message=text, allowance=self._full(PUBLIC_PER_SECOND))

    def _unused(self, endpoint: Endpoint) -> Allowance:
        return self._full(endpoint.limit or PUBLIC_PER_SECOND)

    def _full(self, limit: int) -> Allowance:
        return Allowance(limit=limit, left=limit, reset_ms=self.now_ms, allowed=True)
