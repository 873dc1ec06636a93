"""The protocol of the public and the private socket: ping, subscribe, unsubscribe, auth, and their answers.

One bad topic rejects the whole request. Ids are echoed as they came. `TopicSocket` is what the two have in common.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from trading.exchange.simulated.wire.connection import Connection
from trading.exchange.simulated.wire.formats import encode

NOT_JSON = "Failed to decode incoming data"
MOST_TOPIC_CHARACTERS = 21_000
ACK_DELAY = 0.025  # seconds; Bybit's answers are never there before the client has noted its question


def decoded(text: str) -> dict[str, Any] | None:
    """The object a client has sent, or None."""
    try:
        message = json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def echo(message: dict[str, Any], name: str) -> str | int:
    """The id of a request as it came; empty when there is none."""
    value = message.get(name)
    return value if isinstance(value, str | int) and not isinstance(value, bool) else ""


class TopicSocket:
    """One client of a stream of topics. Subclasses say which topics there are and what a ping is answered with."""

    def __init__(self, connection: Connection, ack_delay: float) -> None:
        self.connection = connection
        self.topics: dict[str, None] = {}
        self.ack_delay = ack_delay
        self._ops: dict[str, Callable[[dict[str, Any]], None]] = {
            "ping": self._ping,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
        }

    def quiet(self) -> bool:
        """True when nothing is sent here on its own account."""
        return not self.topics

    def hear(self, text: str) -> None:
        """A client has said something."""
        message = decoded(text)
        if message is None:
            self.refuse({}, NOT_JSON)
            return
        op = message.get("op")
        handle = self._ops.get(op) if isinstance(op, str) else None
        if handle is None:
            self.refuse(message, "error:invalid op")
        else:
            handle(message)

    def knows(self, topic: str) -> bool:
        """Is there such a topic here?"""
        raise LookupError(topic)

    def joined(self, topics: list[str]) -> None:
        """Topics have been subscribed to, and the ack is on its way."""

    def left(self, topics: list[str]) -> None:
        """Topics are no longer wanted."""

    def acknowledge(self, message: dict[str, Any]) -> None:
        """Answer a request that was done."""
        self._reply(message, success=True, text="")

    def refuse(self, message: dict[str, Any], text: str) -> None:
        """Answer a request that was not done."""
        self._reply(message, success=False, text=text)

    def _reply(self, message: dict[str, Any], *, success: bool, text: str) -> None:
        op = message.get("op")
        body = {
            "success": success,
            "ret_msg": text,
            "conn_id": self.connection.conn_id,
            "req_id": echo(message, "req_id"),
            "op": op if isinstance(op, str) else "",
        }
        self.connection.send(encode(body), self.ack_delay)

    def _ping(self, message: dict[str, Any]) -> None:
        self.connection.send(encode(self.pong(echo(message, "req_id"))))

    def pong(self, req_id: str | int) -> dict[str, Any]:
        """The answer to a ping."""
        return {
            "success": True,
            "ret_msg": "pong",
            "conn_id": self.connection.conn_id,
            "req_id": req_id,
            "op": "ping",
        }

    def _subscribe(self, message: dict[str, Any]) -> None:
        topics = _topics(message)
        if fault := self._fault(topics):
            self.refuse(message, fault)
            return
        self.topics |= dict.fromkeys(topics)
        self.acknowledge(message)
        self.joined(topics)

    def _fault(self, topics: list[str]) -> str:
        """What is wrong with a subscription; empty when nothing is."""
        if not topics:
            return "error:request args is empty"
        if sum(map(len, topics)) + sum(map(len, self.topics)) > MOST_TOPIC_CHARACTERS:
            return "error:args size exceeds the limit of 21000 characters"
        seen = set(self.topics)
        for topic in topics:
            if not self.knows(topic):
                return f"error:handler not found,topic:{topic}"
            if topic in seen:
                return f"error:already subscribed,topic:{topic}"
            seen.add(topic)
        return ""

    def _unsubscribe(self, message: dict[str, Any]) -> None:
        gone = [topic for topic in _topics(message) if topic in self.topics]
        for topic in gone:
            self.topics.pop(topic, None)
        self.acknowledge(message)
        self.left(gone)


def _topics(message: dict[str, Any]) -> list[str]:
    args = message.get("args")
    return [topic if isinstance(topic, str) else str(topic) for topic in args] if isinstance(args, list) else []
