"""A bad line to an exchange: a proxy on loopback that counts what passes, and breaks what a test tells it to.

    with Proxy(target=8765) as proxy:
        ...  # the program talks to proxy.rest and proxy.ws
        proxy.fault(Fault(Kind.DROP_REPLY, path="/v5/order/create", times=1))
        ...
        proxy.heal()
        assert proxy.seen().orders["cv-e-1"][0].exchange == 0

It forwards HTTP/1.1 and WebSockets byte by byte, for every path, and works in a process of its own
(tests/stand_ins/relay.py): a test that is busy does not slow it down. Every call returns once its effect is there.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

from tests.structure import ROOT


class Kind(StrEnum):
    """What goes wrong."""

    REFUSE = "refuse"  # connections are refused, live ones reset (every path)
    SILENT = "silent"  # everything is accepted, nothing is forwarded or answered
    STATUS = "status"  # this HTTP status instead of a reply
    HTML = "html"  # a page of HTML with status 200 instead of a reply
    RET_CODE = "ret_code"  # an envelope with this retCode instead of a reply
    DROP_REQUEST = "drop_request"  # the request is lost: the connection is closed before it is forwarded
    DROP_REPLY = "drop_reply"  # the reply is lost: the connection is closed once the exchange has answered
    TRUNCATE = "truncate"  # half of the reply's body, then the connection is closed
    DELAY = "delay"  # the reply comes so many seconds late
    NO_UPGRADE = "no_upgrade"  # this HTTP status to whoever wants a WebSocket, and nothing to others
    FREEZE = "freeze"  # a WebSocket's frames are held in one direction


_UNTIL_HEALED = frozenset({Kind.REFUSE, Kind.SILENT, Kind.FREEZE})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault on all paths that begin with `path`, for so many requests (None: until it is healed).

    `forward`: a made-up reply (status, html, ret_code) comes after the exchange has had the request, so that it was
    accepted but nobody is told. `status` is for status and no_upgrade. `reset_ms` adds a rate limit header that
    lies so far from now, `lost` makes the end of a silence throw away what it held and reset those connections;
    otherwise it arrives late, as over a line that was cut for a while. `down` is from the exchange to the program.
    """

    kind: Kind
    _: dataclasses.KW_ONLY
    path: str = "/"
    times: int | None = None
    forward: bool = False
    status: int = 503
    ret_code: int = 10016
    ret_msg: str = "Server error."
    reset_ms: int | None = None
    seconds: float = 0.0
    direction: Literal["down", "up"] = "down"
    lost: bool = False

    def __post_init__(self) -> None:
        if self.times is not None and self.kind in _UNTIL_HEALED:
            raise ValueError(f"{self.kind} lasts until it is healed")
        if self.kind is Kind.REFUSE and self.path != "/":
            raise ValueError("a port refuses every path")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One request for a new order: how often it is in the list is how often it was sent.

    `at` is on this machine's monotonic clock. `exchange` is the retCode that the exchange answered (None: it has
    not been asked, or has not answered), `told` what the program was told: a retCode, an HTTP status or `nothing`.
    """

    at: float
    body: str
    forwarded: bool
    exchange: int | None
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """The WebSockets of one path; `down` is from the exchange to the program."""

    opened: int = 0
    refused: int = 0
    live: int = 0
    frames_up: int = 0
    frames_down: int = 0
    bytes_up: int = 0
    bytes_down: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What has passed so far; `requests` by method and path, `hits` by the kind of fault, `up` and `down` in bytes."""

    requests: Mapping[str, int]
    ret_codes: Mapping[int, int]
    statuses: Mapping[int, int]
    orders: Mapping[str, tuple[Sending, ...]]
    sockets: Mapping[str, Sockets]
    hits: Mapping[str, int]
    connections: int
    up: int
    down: int

    def count(self, path: str) -> int:
        """Requests whose path begins so, whatever their method."""
        return sum(count for key, count in self.requests.items() if key.partition(" ")[2].startswith(path))

    @classmethod
    def read(cls, found: Mapping[str, Any]) -> Seen:
        """From the relay's JSON."""
        numbered = {name: {int(k): v for k, v in found[name].items()} for name in ("ret_codes", "statuses")}
        orders = {link: tuple(Sending(**each) for each in sent) for link, sent in found["orders"].items()}
        sockets = {path: Sockets(**each) for path, each in found["sockets"].items()}
        return cls(**{**found, **numbered, "orders": orders, "sockets": sockets})


class Proxy:
    """The line, for use in a `with`: it is up when the block begins and gone when it ends."""

    def __init__(self, target: int, *, port: int = 0) -> None:
        self._target = target
        self._wanted = port
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        words = ["--target", str(self._target), "--port", str(self._wanted)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stand_ins.relay", *words],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port = int(self._answer()["port"])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        with self._process:  # closes the pipes, at which it leaves, and waits for it
            pass

    @property
    def rest(self) -> str:
        """The address for requests."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        """The address for sockets."""
        return f"ws://127.0.0.1:{self.port}"

    def fault(self, fault: Fault) -> int:
        """Begin a fault; its number, for `heal`. Of several that fit a request the oldest counts."""
        return int(self._ask(do="fault", fault=dataclasses.asdict(fault))["number"])

    def heal(self, number: int | None = None) -> None:
        """End one fault, or all of them."""
        self._ask(do="heal", number=number)

    def reset(self, path: str = "/", *, sockets_only: bool = True) -> int:
        """Reset the live WebSockets (or all live connections) of these paths once; how many there were."""
        return int(self._ask(do="reset", path=path, sockets_only=sockets_only)["count"])

    def seen(self) -> Seen:
        """What has passed so far."""
        return Seen.read(self._ask(do="seen")["seen"])

    def _ask(self, **what: Any) -> dict[str, Any]:
        with self._lock:
            assert self._process is not None, "use it in a with"
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
            return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"the proxy is gone: exit code {self._process.wait()}"
        found: dict[str, Any] = json.loads(line)
        assert "error" not in found, found["error"]
        return found
