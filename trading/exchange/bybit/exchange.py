"""Bybit behind the ports `MarketData` and `Broker`, and the streams that tell the trader what happens there.

One account, linear USDT perpetuals, one-way mode, stops on the last price. Nothing here repeats a request that may
have been executed: an order is asked for by its link id instead, in every place where Bybit keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from trading.errors import ConclaveError, OutcomeUnknown, Rejected, Transient
from trading.exchange.bybit.candles import Candles
from trading.exchange.bybit.clock import HearingClock
from trading.exchange.bybit.endpoints import Endpoints
from trading.exchange.bybit.feed import Feed
from trading.exchange.bybit.objects import (
    ENDED,
    Json,
    Unreadable,
    cash_of,
    execution_of,
    guards_position,
    instrument_of,
    objects_of,
    order_of,
    order_of_executions,
    position_of,
    positive,
    sequence_of,
)
from trading.exchange.bybit.outcomes import DUPLICATE_LINK_ID, NO_SUCH_ORDER, UNKNOWN_SYMBOL
from trading.exchange.bybit.rest import BybitRest
from trading.exchange.bybit.streams import StreamView
from trading.model import (
    MILLISECOND,
    AccountSnapshot,
    CandleSeries,
    ExchangeOrder,
    ExchangePosition,
    Execution,
    Instrument,
    OrderType,
    PlaceOrder,
    millis,
)
from trading.ports import Inbox
from trading.risk import Approved

LINEAR: Final = "linear"
COIN: Final = "USDT"
WINDOW: Final = timedelta(days=7)
MEMORY: Final = timedelta(days=730)  # how long Bybit keeps executions
FASTEST: Final = timedelta(milliseconds=-500)  # our clock may be this far ahead of the exchange's …
SLOWEST: Final = timedelta(seconds=2)  # … or this far behind it when an entry is sent
CANCEL_SECONDS: Final = 3.0
PAGES: Final = 50  # of one listing: a cursor that leads nowhere ends

POSITIONS: Final = ("get_positions", {"category": LINEAR, "settleCoin": COIN, "limit": 200})
ORDERS: Final = ("get_open_orders", {"category": LINEAR, "settleCoin": COIN, "openOnly": 0, "limit": 50})
WALLET: Final = ("get_wallet_balance", {"accountType": "UNIFIED", "coin": COIN})


class BybitExchange:
    """One account. `start` opens the streams; questions and orders work without them."""

    def __init__(
        self,
        rest: BybitRest,
        endpoints: Endpoints,
        *,
        symbols: Sequence[str],
        interval: timedelta,
        inbox: Inbox,
        clock: HearingClock,
        key: str,
        secret: str,
    ) -> None:
        self._rest = rest
        self._clock = clock
        self._candles = Candles(rest, interval, clock)
        self._feed = Feed(
            endpoints,
            symbols=symbols,
            interval=interval,
            inbox=inbox,
            clock=clock,
            fetch=self._candles.since,
            key=key,
            secret=secret,
        )

    # ---- the streams -----------------------------------------------------------------------------

    @property
    def quotes(self) -> dict[str, float]:
        """The last prices heard, by symbol; for display."""
        return self._feed.quotes

    @property
    def delivered_up_to(self) -> datetime | None:
        """The last close told to the trader; set it before the start to the last one it has dealt with."""
        return self._feed.delivered_up_to

    @delivered_up_to.setter
    def delivered_up_to(self, close: datetime | None) -> None:
        self._feed.delivered_up_to = close

    def streams(self) -> list[StreamView]:
        """The streams as they are now."""
        return self._feed.views()

    async def start(self) -> None:
        """Open the streams; returns once both are up, however long that takes."""
        await self._feed.start()

    async def stop(self) -> None:
        """Close the streams."""
        await self._feed.stop()

    # ---- market data -----------------------------------------------------------------------------

    async def instrument(self, symbol: str) -> Instrument:
        """Trading rules of a symbol."""
        try:
            return instrument_of(await self._listed("get_instruments_info", symbol))
        except Unreadable as error:
            raise _unreadable("the rules of the symbol", error) from None

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """The last closed bars; where one is missing, only those after the gap."""
        return await self._candles.last(symbol, bars)

    async def last_price(self, symbol: str) -> Decimal:
        """The last traded price."""
        try:
            return positive(await self._listed("get_tickers", symbol), "lastPrice")
        except Unreadable as error:
            raise _unreadable("the price", error) from None

    async def _listed(self, method: str, symbol: str) -> Json:
        """The row of one symbol in a public list."""
        rows = _objects(await self._rest.read(method, category=LINEAR, symbol=symbol))
        if not rows:
            raise Rejected(f"{symbol} is not traded on this exchange", code=UNKNOWN_SYMBOL)
        return rows[0]

    # ---- orders ----------------------------------------------------------------------------------

    async def place(self, order: Approved[PlaceOrder]) -> str:
        """Send it once; a link id that the exchange has seen before is the order that was meant."""
        asked = order.order
        if not asked.reduce_only:
            await self._refuse_on_a_wrong_clock()
        try:
            result = await self._rest.write("place_order", **request_of(asked))
        except Rejected as refusal:
            if refusal.code != DUPLICATE_LINK_ID:
                raise
            return (await self._known(asked)).order_id
        order_id = result.get("orderId")
        if not isinstance(order_id, str) or not order_id:
            raise OutcomeUnknown("the order was taken, but its number cannot be read: ask for it")
        return order_id

    async def _refuse_on_a_wrong_clock(self) -> None:
        """Entries wait until the clocks agree: a request that arrives late would be a surprise."""
        error = await self._rest.clock_error()
        if not FASTEST <= error <= SLOWEST:
            way = "behind" if error > timedelta() else "ahead of"
            seconds = abs(error.total_seconds())
            raise Rejected(f"this machine's clock is {seconds:.1f} s {way} the exchange's: set it by NTP")

    async def _known(self, asked: PlaceOrder) -> ExchangeOrder:
        """The order that this link id already names; it exists, whatever a question about it says."""
        try:
            known = await self.find(asked.symbol, asked.link_id)
        except ConclaveError as error:
            raise OutcomeUnknown(f"the order exists, but asking for it failed: {error}") from None
        if known is None:
            raise OutcomeUnknown("the order exists, but the exchange does not show it yet: ask again")
        return known

    async def cancel(self, symbol: str, link_id: str) -> ExchangeOrder:
        """Cancel, and return the order once it has ended."""
        doubt: ConclaveError | None = None
        try:
            await self._rest.write("cancel_order", category=LINEAR, symbol=symbol, orderLinkId=link_id)
        except OutcomeUnknown as unknown:
            doubt = unknown
        except Rejected as refusal:
            if refusal.code != NO_SUCH_ORDER:
                raise
            doubt = refusal
        return await self._ended(symbol, link_id, doubt)

    async def _ended(self, symbol: str, link_id: str, doubt: ConclaveError | None) -> ExchangeOrder:
        """Ask until it has ended; an order that nobody knows, or that goes on, raises what the cancelling said."""
        deadline, pause = self._clock.monotonic() + CANCEL_SECONDS, 0.01
        while True:
            known = await self.find(symbol, link_id)
            if known is not None and known.status in ENDED:
                return known
            if (known is None and isinstance(doubt, Rejected)) or self._clock.monotonic() > deadline:
                raise doubt or OutcomeUnknown("the order was to be cancelled but has not ended yet: ask again")
            await self._clock.sleep(pause)
            pause = min(pause * 2, 0.5)

    async def move_stop(self, symbol: str, stop: Decimal) -> None:
        """Amend the stop of the position, for its whole size."""
        await self._rest.write(
            "set_trading_stop",
            category=LINEAR,
            symbol=symbol,
            tpslMode="Full",
            positionIdx=0,
            stopLoss=_plain(stop),
            slTriggerBy="LastPrice",
        )

    async def find(self, symbol: str, link_id: str) -> ExchangeOrder | None:
        """Where it may be: open or just closed, in the history, or only in its fills. None when in none of them."""
        named = {"category": LINEAR, "symbol": symbol, "orderLinkId": link_id}
        try:
            for method in ("get_open_orders", "get_order_history"):
                for raw in _objects(await self._rest.read(method, **named)):
                    if raw.get("orderLinkId") == link_id:
                        return order_of(raw)
            fills = _objects(await self._rest.read("get_executions", **named, limit=100))
            fills = [raw for raw in fills if raw.get("orderLinkId") == link_id]
            return order_of_executions(fills) if fills else None
        except Unreadable as error:
            raise _unreadable("the order", error) from None

    # ---- the account -----------------------------------------------------------------------------

    async def snapshot(self, *, cash: bool = True) -> AccountSnapshot:
        """Orders first: one that fills between two questions is then seen twice rather than not at all."""
        calls = (ORDERS, POSITIONS, WALLET) if cash else (ORDERS, POSITIONS)
        answers = await self._rest.read_all(*calls)
        try:
            orders = await self._all_pages(ORDERS, answers[0])
            positions = await self._all_pages(POSITIONS, answers[1])
            return AccountSnapshot(
                cash=cash_of(answers[2], COIN) if cash else None,
                positions=_positions(positions),
                orders=tuple(order_of(raw) for raw in orders if not guards_position(raw)),
            )
        except Unreadable as error:
            raise _unreadable("the account", error) from None

    async def executions(self, symbol: str, since: datetime) -> Sequence[Execution]:
        """Fills and funding, oldest first, in windows of seven days, as far back as Bybit remembers."""
        now = self._clock.now()
        start = max(since, now - MEMORY)
        found: dict[str, tuple[datetime, int, Execution]] = {}
        try:
            while True:
                for raw in await self._window_of_executions(symbol, start):
                    execution = execution_of(raw)
                    if execution is not None and execution.at >= since:
                        found[execution.exec_id] = (execution.at, sequence_of(raw), execution)
                start += WINDOW
                if start > now:
                    break
        except Unreadable as error:
            raise _unreadable("the executions", error) from None
        except Rejected as refusal:
            if refusal.code != UNKNOWN_SYMBOL or "symbol" not in str(refusal):
                raise
            return []  # what is not traded has no executions
        return [execution for _, _, execution in sorted(found.values(), key=lambda one: one[:2])]

    async def _window_of_executions(self, symbol: str, start: datetime) -> list[Json]:
        """Everything in seven days, newest first per page; reversed, so that ties keep the order of time."""
        first, last = millis(start), millis(start + WINDOW - MILLISECOND)
        params = {"category": LINEAR, "symbol": symbol, "startTime": first, "endTime": last, "limit": 100}
        result = await self._rest.read("get_executions", **params)
        return (await self._all_pages(("get_executions", params), result))[::-1]

    async def account_id(self) -> str:
        """The user id of the key's account."""
        uid = (await self._rest.read("get_api_key_information")).get("userID")
        if not isinstance(uid, int | str) or not str(uid):
            raise Transient("the exchange did not say whose account this is")
        return str(uid)

    async def key_problems(self) -> list[str]:
        """What speaks against trading with this key, one line each: too much power, or too little."""
        about = await self._rest.read("get_api_key_information")
        permissions = about.get("permissions")
        if not isinstance(permissions, dict):
            raise Transient("the exchange did not say what this key may do")
        problems = []
        if "Withdraw" in (permissions.get("Wallet") or ()):
            problems.append("the key may withdraw: make one that may only trade")
        if about.get("readOnly") in {1, "1"}:
            problems.append("the key is read-only: make one that may trade")
        elif not {"Order", "Position"} <= set(permissions.get("ContractTrade") or ()):
            problems.append("the key may not trade contracts: it needs orders and positions")
        return problems

    async def set_leverage(self, symbol: str, leverage: Decimal) -> None:
        """Of both sides; the same again is no failure."""
        value = _plain(leverage.normalize())
        body = {"category": LINEAR, "symbol": symbol, "buyLeverage": value, "sellLeverage": value}
        await self._rest.write("set_leverage", **body)

    async def measure_clock(self) -> timedelta:
        """How far the exchange's clock is ahead of ours."""
        return await self._rest.clock_error()

    async def _all_pages(self, call: tuple[str, Mapping[str, Any]], result: Json) -> list[Json]:
        """This page and every further one."""
        method, params = call
        rows, page, cursor = objects_of(result), objects_of(result), result.get("nextPageCursor")
        for _ in range(PAGES):
            if not cursor or not page:
                break
            result = await self._rest.read(method, **params, cursor=cursor)
            page = objects_of(result)
            rows = [*rows, *page]
            cursor = None if result.get("nextPageCursor") == cursor else result.get("nextPageCursor")
        return rows


def request_of(asked: PlaceOrder) -> dict[str, Any]:
    """The body of order/create."""
    body: dict[str, Any] = {
        "category": LINEAR,
        "symbol": asked.symbol,
        "side": asked.side.value,
        "orderType": asked.type.value,
        "qty": _plain(asked.qty),
        "positionIdx": 0,
        "orderLinkId": asked.link_id,
        "reduceOnly": asked.reduce_only,
    }
    if asked.type is OrderType.LIMIT and asked.price is not None:
        body |= {"price": _plain(asked.price), "timeInForce": "PostOnly" if asked.post_only else "GTC"}
    if asked.stop_loss is not None:
        body |= {"stopLoss": _plain(asked.stop_loss), "slTriggerBy": "LastPrice", "tpslMode": "Full"}
    return body


def _plain(value: Decimal) -> str:
    """Without an exponent."""
    return f"{value:f}"


def _objects(result: Json) -> list[Json]:
    try:
        return objects_of(result)
    except Unreadable as error:
        raise _unreadable("the list", error) from None


def _positions(rows: Sequence[Json]) -> tuple[ExchangePosition, ...]:
    return tuple(held for raw in rows if (held := position_of(raw)) is not None)


def _unreadable(what: str, error: Unreadable) -> Transient:
    return Transient(f"{what} in the exchange's answer cannot be read: {error}")
