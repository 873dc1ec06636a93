"""The trade socket: orders over a websocket, with the REST body as argument and the same limits.

An answer says only that a request was taken; what becomes of the order is told on the private stream.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from trading.exchange.simulated.venue import VenueRefusal
from trading.exchange.simulated.wire.auth import DEFAULT_WINDOW, check_time
from trading.exchange.simulated.wire.connection import Connection
from trading.exchange.simulated.wire.desk import Desk, Endpoint, Reply
from trading.exchange.simulated.wire.formats import encode
from trading.exchange.simulated.wire.objects import LINEAR
from trading.exchange.simulated.wire.parameters import Params, wrong
from trading.exchange.simulated.wire.sockets import NOT_JSON, decoded, echo

OPS = ("create", "amend", "cancel", "create-batch", "amend-batch", "cancel-batch")
LONGEST_ID = 36
REMEMBERED_IDS = 10_000
NOT_SUPPORTED = "op or category is not supported"


class TradeSocket:
    """One client of the trade socket."""

    def __init__(self, connection: Connection, desk: Desk, ack_delay: float) -> None:
        self._connection = connection
        self._desk = desk
        self._ack_delay = ack_delay
        self._authorised = False
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._ops = {f"order.{op}": desk.endpoints["POST", f"/v5/order/{op}"] for op in OPS}

    def quiet(self) -> bool:
        """Nothing is sent here on its own account."""
        return True

    def hear(self, text: str) -> None:
        """A client has said something."""
        message = decoded(text)
        if message is None:
            self._tell({}, 10001, NOT_JSON)
        elif message.get("op") == "ping":
            self._tell(message, 0, "OK", op="pong", data=[str(self._desk.now_ms)])
        elif message.get("op") == "auth":
            self._auth(message)
        else:
            self._order(message)

    def _auth(self, message: dict[str, Any]) -> None:
        if self._authorised:
            self._tell(message, 20001, "Repeat auth")
            return
        try:
            self._desk.credentials.check_socket(message.get("args"), self._desk.now_ms)
        except VenueRefusal as refusal:
            self._tell(message, refusal.code, str(refusal))
            return
        self._authorised = True
        self._tell(message, 0, "OK")

    def _order(self, message: dict[str, Any]) -> None:
        op = message.get("op")
        endpoint = self._ops.get(op) if isinstance(op, str) else None
        if endpoint is None:
            self._tell(message, 10404, NOT_SUPPORTED)
        elif not self._authorised:
            self._tell(message, 10007, "User authentication failed.")
        else:
            self._ask(message, endpoint)

    def _ask(self, message: dict[str, Any], endpoint: Endpoint) -> None:
        try:
            self._check_id(message)
            self._check_header(message.get("header"))
            params = _body(message.get("args"))
        except VenueRefusal as refusal:
            self._tell(message, refusal.code, str(refusal), data={})
            return
        reply = self._desk.answer(endpoint, params)
        self._tell(message, reply.code, reply.message, data=reply.result, **self._beside(reply))

    def _beside(self, reply: Reply) -> dict[str, Any]:
        header = reply.allowance.headers() | {"Traceid": self._connection.conn_id, "Timenow": str(self._desk.now_ms)}
        return {"retExtInfo": reply.ext, "header": header}

    def _check_id(self, message: dict[str, Any]) -> None:
        """An id is used once in a session."""
        req_id = str(echo(message, "reqId"))
        if not req_id:
            return
        if len(req_id) > LONGEST_ID:
            raise wrong("reqId invalid")
        if req_id in self._seen:
            raise VenueRefusal(20006, "reqId is duplicated")
        self._seen[req_id] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)

    def _check_header(self, header: object) -> None:
        fields = header if isinstance(header, dict) else {}
        at, window = (str(fields.get(f"X-BAPI-{name}", "")) for name in ("TIMESTAMP", "RECV-WINDOW"))
        if not at:
            raise wrong("X-BAPI-TIMESTAMP is required")
        check_time(at, window or DEFAULT_WINDOW, self._desk.now_ms)

    def _tell(self, message: dict[str, Any], code: int, text: str, *, op: str = "", **beside: Any) -> None:
        asked = message.get("op")
        body: dict[str, Any] = {"reqId": echo(message, "reqId")} if message.get("reqId") is not None else {}
        body |= {"retCode": code, "retMsg": text, "op": op or (asked if isinstance(asked, str) else "")}
        body |= beside
        body["connId"] = self._connection.conn_id
        self._connection.send(encode(body), 0.0 if op == "pong" else self._ack_delay)


def _body(args: object) -> Params:
    """The one object of a request."""
    if not isinstance(args, list) or len(args) != 1 or not isinstance(args[0], dict):
        raise wrong("args must be a list of one object")
    params = Params(args[0])
    if params.text("category") not in {"", LINEAR}:
        raise VenueRefusal(10404, NOT_SUPPORTED)
    return params
