"""The proxy's own process: `python -m tests.stand_ins.relay --target P [--port P]`, told what to do on stdin.

One `Link` is one connection of the program and its own connection to the exchange. Requests go through whole, one
at a time; after an upgrade bytes go through as they come. What a silence or a freeze holds is delivered when it
ends, also when the program has given up meanwhile: so does a real network.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import json
import socket
import struct
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

from tests.stand_ins.messages import Frames, Reply, Request, envelope, made_up, take_reply, take_request
from tests.stand_ins.proxy import Fault, Kind

HOST = "127.0.0.1"
CREATE = "/v5/order/create"
PAGE = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body>We will be back soon.</body></html>"
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST
_MADE_UP = frozenset({Kind.STATUS, Kind.HTML, Kind.RET_CODE, Kind.NO_UPGRADE})


def cut(transport: asyncio.Transport | None) -> None:
    """Reset a connection at once."""
    if transport is not None and not transport.is_closing():
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()


@dataclass(slots=True)
class Socket:
    """Counts of one path's WebSockets."""

    opened: int = 0
    refused: int = 0
    live: int = 0
    frames_up: int = 0
    frames_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(slots=True)
class Tally:
    """Everything that is counted."""

    requests: Counter[str] = field(default_factory=Counter)
    ret_codes: Counter[int] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    orders: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sockets: dict[str, Socket] = field(default_factory=dict)
    hits: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    up: int = 0
    down: int = 0

    def note(self, request: Request) -> dict[str, Any] | None:
        """Count a request; the record of its sending if it asks for an order."""
        self.requests[f"{request.method} {request.path}"] += 1
        if request.path != CREATE or request.method != "POST" or (link := request.link_id) is None:
            return None
        body = request.body.decode("utf-8", "replace")
        record = {"at": time.monotonic(), "body": body, "forwarded": False, "exchange": None, "told": "nothing"}
        self.orders.setdefault(link, []).append(record)
        return record

    def socket(self, path: str) -> Socket:
        """The counts of one path."""
        return self.sockets.setdefault(path, Socket())

    def as_json(self) -> dict[str, Any]:
        """All of it in JSON types."""
        counted = {name: dict(getattr(self, name)) for name in ("requests", "ret_codes", "statuses", "hits")}
        sockets = {path: dataclasses.asdict(each) for path, each in self.sockets.items()}
        whole = {"connections": self.connections, "up": self.up, "down": self.down}
        return {**counted, **whole, "orders": self.orders, "sockets": sockets}


@dataclass(slots=True)
class Active:
    """A fault that has not been healed, and for how many requests it still is."""

    fault: Fault
    left: int | None


class Relay:
    """The listening port, the links and the faults."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.links: set[Link] = set()
        self.tally = Tally()
        self.port = 0
        self._faults: dict[int, Active] = {}
        self._numbers = 0
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None

    async def open(self, port: int = 0) -> None:
        """Listen on this port, or on any."""
        self._placeholder = self._bound(port)
        self.port = self._placeholder.getsockname()[1]
        await self._listen()

    async def close(self) -> None:
        """Stop listening and drop everything."""
        self._stop_listening()
        for link in list(self.links):
            link.cut()

    # Faults

    async def begin(self, fault: Fault) -> int:
        """Begin a fault."""
        self._numbers += 1
        self._faults[self._numbers] = Active(fault, fault.times)
        if fault.kind is Kind.REFUSE and self._server is not None:
            self._stop_listening()
            self._placeholder = self._bound(self.port)  # nobody else gets the port meanwhile
            self.tally.hits[fault.kind] += 1
            for link in list(self.links):
                link.cut()
        return self._numbers

    async def heal(self, number: int | None) -> None:
        """End one fault, or all, and let go what they held."""
        ended = list(self._faults) if number is None else [number] if number in self._faults else []
        healed = [self._faults.pop(each).fault for each in ended]
        if self._server is None and not any(each.fault.kind is Kind.REFUSE for each in self._faults.values()):
            await self._listen()
        lost = [each.path for each in healed if each.kind is Kind.SILENT and each.lost]
        for link in list(self.links):
            if any(link.holds(path) for path in lost):
                link.cut()
            else:
                link.go_on()

    def reset(self, path: str, *, sockets_only: bool) -> int:
        """Reset the live connections of these paths."""
        hit = [each for each in self.links if each.path.startswith(path) and (each.tunnel or not sockets_only)]
        for link in hit:
            link.cut()
        return len(hit)

    def silent(self, path: str) -> bool:
        """Does nothing pass on this path?"""
        return any(a.fault.kind is Kind.SILENT and path.startswith(a.fault.path) for a in self._faults.values())

    def frozen(self, path: str, direction: str) -> bool:
        """Is this direction of this path's sockets held?"""
        return any(
            a.fault.kind is Kind.FREEZE and a.fault.direction == direction and path.startswith(a.fault.path)
            for a in self._faults.values()
        )

    def hit(self, request: Request) -> Fault | None:
        """The fault of this request, which counts as one of its times."""
        for number, active in self._faults.items():
            kind = active.fault.kind
            if kind in {Kind.REFUSE, Kind.SILENT, Kind.FREEZE} or not request.path.startswith(active.fault.path):
                continue
            if kind is Kind.NO_UPGRADE and not request.upgrade:
                continue
            if active.left is not None:
                active.left -= 1
                if active.left == 0:
                    del self._faults[number]
            self.tally.hits[kind] += 1
            return active.fault
        return None

    # The port

    async def _listen(self) -> None:
        assert self._placeholder is not None
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Link(self), sock=self._placeholder, backlog=512
        )
        self._placeholder = None

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None

    @staticmethod
    def _bound(port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((HOST, port))
        return made


class Link(asyncio.Protocol):
    """The program's end of a connection; `_Far` is the exchange's end of it."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._near: asyncio.Transport | None = None
        self._far: asyncio.Transport | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._up = bytearray()  # from the program, not forwarded yet
        self._down = bytearray()  # from the exchange, not forwarded yet
        self._request: Request | None = None  # the one under way
        self._fault: Fault | None = None
        self._record: dict[str, Any] | None = None
        self._waiting: asyncio.TimerHandle | None = None
        self._near_gone = False
        self._far_gone = False
        self._frames_up = Frames()
        self._frames_down = Frames()
        self.tunnel = False
        self.path = ""

    # The program's end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self._near = cast("asyncio.Transport", transport)
        self._relay.links.add(self)
        self._relay.tally.connections += 1

    def data_received(self, data: bytes) -> None:
        """The program has sent something."""
        self._relay.tally.up += len(data)
        self._up += data
        self._push_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """The program has gone. What it had sent still arrives, also after a silence."""
        self._near_gone = True
        self._push_up()
        self._leave_if_done()

    # The exchange's end

    def answered(self, data: bytes) -> None:
        """The exchange has sent something."""
        self._relay.tally.down += len(data)
        self._down += data
        self._push_down()

    def far_lost(self) -> None:
        """The exchange has closed."""
        self._far_gone = True
        self._push_down()
        self._leave_if_done()

    # What a healed fault lets go

    def holds(self, path: str) -> bool:
        """Has a silence on this path held anything here?"""
        return self._current.startswith(path) and bool(self._up or self._down or self._near_gone or self._far_gone)

    def go_on(self) -> None:
        """Deliver what was held."""
        self._push_up()
        self._push_down()
        self._leave_if_done()

    def cut(self) -> None:
        """Reset both ends."""
        self._relay.links.discard(self)
        self._count_out()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._dialling is not None:
            self._dialling.cancel()
        self._near_gone = self._far_gone = True
        self._up.clear()
        self._down.clear()
        cut(self._near)
        cut(self._far)

    # Upwards

    @property
    def _current(self) -> str:
        """The path of what is under way, or of the request that waits."""
        if not self.tunnel and self._request is None and self._up:
            words = bytes(self._up[:2000]).split(b" ", 2)
            return words[1].partition(b"?")[0].decode("latin-1") if len(words) == 3 else "/"
        return self.path or "/"

    def _push_up(self) -> None:
        """Forward what may be forwarded to the exchange."""
        if not self._up or self._relay.silent(self._current):
            return
        if self.tunnel:
            self._tunnel_up()
            return
        if self._request is not None:
            return  # one at a time
        try:
            request = take_request(self._up)
        except ValueError:
            self.cut()
            return
        if request is not None:
            self._take(request)

    def _take(self, request: Request) -> None:
        relay = self._relay
        self._request, self.path = request, request.path
        self._record = relay.tally.note(request)
        self._fault = fault = relay.hit(request)
        if fault is not None and fault.kind is Kind.DROP_REQUEST:
            self._close_near()
        elif fault is not None and fault.kind in _MADE_UP and not fault.forward:
            self._reply(self._invented(fault))
        else:
            if self._record is not None:
                self._record["forwarded"] = True
            self._send_far(request.raw)

    def _send_far(self, data: bytes) -> None:
        if self._far is not None:
            self._far.write(data)
            return
        self._dialling = asyncio.get_running_loop().create_task(self._dial(data))

    async def _dial(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: _Far(self), HOST, self._relay.target)
        except OSError:  # the exchange is not there
            self.cut()
            return
        assert self._far is not None
        self._far.write(data)

    def dialled(self, far: asyncio.Transport) -> None:
        """The exchange has taken the connection."""
        self._far = far
        if self._near_gone and self._request is None:
            far.close()

    # Downwards

    def _push_down(self) -> None:
        """Forward what may be forwarded to the program."""
        if self._relay.silent(self._current) or not (self._down or self._far_gone):
            return
        if self.tunnel:
            self._tunnel_down()
            return
        while (request := self._request) is not None and self._waiting is None:
            try:
                reply = take_reply(self._down, request.method, ended=self._far_gone)
            except ValueError:
                self.cut()
                return
            if reply is None:
                if self._far_gone:  # it broke off in the middle: so does what is passed on
                    self._write_near(bytes(self._down))
                return
            if reply.interim:
                self._write_near(reply.raw)
                continue
            self._note_reply(reply)
            self._answer(request, reply)

    def _note_reply(self, reply: Reply) -> None:
        tally = self._relay.tally
        tally.statuses[reply.status] += 1
        code = reply.ret_code
        if code is not None:
            tally.ret_codes[code] += 1
        if self._record is not None:
            self._record["exchange"] = code

    def _answer(self, request: Request, reply: Reply) -> None:
        """Pass the exchange's reply on, or what a fault makes of it."""
        fault = self._fault
        if fault is None or (fault.kind in _MADE_UP and reply.switching):
            self._reply(reply.raw, reply)
        elif fault.kind is Kind.DELAY:
            loop = asyncio.get_running_loop()
            self._waiting = loop.call_later(fault.seconds, self._reply, reply.raw, reply)
        elif fault.kind is Kind.DROP_REPLY:
            self._close_near()
        elif fault.kind is Kind.TRUNCATE:
            body = len(reply.raw) - reply.head
            self._write_near(reply.raw[: reply.head + body // 2])
            self._close_near()
        else:
            self._reply(self._invented(fault))

    def _invented(self, fault: Fault) -> bytes:
        now = int(time.time() * 1000)
        if self._record is not None:
            self._record["told"] = str(fault.ret_code if fault.kind is Kind.RET_CODE else fault.status)
        if fault.kind is Kind.HTML:
            if self._record is not None:
                self._record["told"] = "html"
            return made_up(200, "OK", "text/html", PAGE)
        if fault.kind is Kind.RET_CODE:
            headers = {} if fault.reset_ms is None else {"X-Bapi-Limit-Reset-Timestamp": str(now + fault.reset_ms)}
            body = envelope(fault.ret_code, fault.ret_msg, now)
            return made_up(200, "OK", "application/json; charset=utf-8", body, headers)
        return made_up(fault.status, "Fault", "text/plain", b"fault\n")

    def _reply(self, raw: bytes, real: Reply | None = None) -> None:
        """Write a whole reply; after it the next request may go."""
        request, self._waiting = self._request, None
        assert request is not None
        if self._record is not None and real is not None:
            told = real.ret_code
            self._record["told"] = "nothing" if self._near_gone else str(real.status if told is None else told)
        self._write_near(raw)
        self._request, self._fault, self._record = None, None, None
        if request.upgrade:
            counts = self._relay.tally.socket(request.path)
            if real is not None and real.switching:
                self.tunnel = True
                counts.opened += 1
                counts.live += 1
                self._push_down()
            else:
                counts.refused += 1
        self._push_up()
        self._leave_if_done()

    # Frames

    def _tunnel_up(self) -> None:
        if self._relay.frozen(self.path, "up"):
            return
        data = bytes(self._up)
        self._up.clear()
        counts = self._relay.tally.socket(self.path)
        before = self._frames_up.count
        self._frames_up.pass_by(data)
        counts.frames_up += self._frames_up.count - before
        counts.bytes_up += len(data)
        if self._far is not None and not self._far_gone:
            self._far.write(data)

    def _tunnel_down(self) -> None:
        if self._relay.frozen(self.path, "down"):
            return
        data = bytes(self._down)
        self._down.clear()
        counts = self._relay.tally.socket(self.path)
        before = self._frames_down.count
        self._frames_down.pass_by(data)
        counts.frames_down += self._frames_down.count - before
        counts.bytes_down += len(data)
        self._write_near(data)

    # Ends

    def _write_near(self, data: bytes) -> None:
        if self._near is not None and not self._near_gone:
            self._near.write(data)

    def _close_near(self) -> None:
        """Close the program's end with nothing more to say, and forget what is under way."""
        self._request, self._record = None, None
        self._up.clear()
        if self._near is not None:
            self._near.close()
        self._near_gone = True
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        """Close the other end once one end has gone and nothing is left to be delivered to it."""
        relay = self._relay
        if self not in relay.links:
            return
        if self._far_gone:  # closed as the exchange closed it, once all it said has been passed on
            done = self._waiting is None and not self._held_down()
        else:
            done = self._near_gone and self._request is None and not (self._up and self._held_up())
        if done:
            relay.links.discard(self)
            self._count_out()
            for each in (self._near, self._far):
                if each is not None:
                    each.close()

    def _held_up(self) -> bool:
        return self._relay.silent(self._current) or (self.tunnel and self._relay.frozen(self.path, "up"))

    def _held_down(self) -> bool:
        return self._relay.silent(self._current) or (self.tunnel and self._relay.frozen(self.path, "down"))

    def _count_out(self) -> None:
        if self.tunnel:
            self.tunnel = False
            self._relay.tally.socket(self.path).live -= 1


class _Far(asyncio.Protocol):
    """The exchange's end of a link."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.dialled(cast("asyncio.Transport", transport))

    def data_received(self, data: bytes) -> None:
        self._link.answered(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.far_lost()


async def obey(relay: Relay, order: dict[str, Any]) -> dict[str, Any]:
    """One line of stdin."""
    match order.pop("do"):
        case "fault":
            order["fault"]["kind"] = Kind(order["fault"]["kind"])
            return {"number": await relay.begin(Fault(**order["fault"]))}
        case "heal":
            await relay.heal(order["number"])
            return {}
        case "reset":
            return {"count": relay.reset(order["path"], sockets_only=order["sockets_only"])}
        case "seen":
            return {"seen": relay.tally.as_json()}
        case other:
            return {"error": f"{other} is not known"}


async def serve(target: int, port: int) -> None:
    """Say the port, then obey until stdin is closed."""
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    relay = Relay(target)
    await relay.open(port)
    say({"port": relay.port})
    while line := await orders.readline():
        say(await obey(relay, json.loads(line)))
    await relay.close()


def say(what: dict[str, Any]) -> None:
    """One line on stdout."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.target, arguments.port))
