"""As much of HTTP/1.1 and of WebSocket framing as a relay needs: where a message ends and what to count of it.

Bytes are only looked at, never written anew: signatures and headers go through as they came.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import zlib
from dataclasses import dataclass
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade:[ \t]*websocket", re.IGNORECASE)
_GZIP = re.compile(rb"\r\ncontent-encoding:[ \t]*(gzip|deflate)", re.IGNORECASE)
_RET_CODE = re.compile(rb'"retCode"\s*:\s*(-?\d+)')
_SWITCHING = 101
_BODYLESS = frozenset({204, 304})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came: all its bytes, and what a relay decides by."""

    raw: bytes
    head: int  # where the body begins
    method: str
    path: str  # without the query
    upgrade: bool

    @property
    def body(self) -> bytes:
        """What follows the head, as it came."""
        return self.raw[self.head :]

    @property
    def link_id(self) -> str | None:
        """The orderLinkId of its body, if that is an object with one."""
        with contextlib.suppress(ValueError):
            found = json.loads(self.body)
            if isinstance(found, dict) and found.get("orderLinkId"):
                return str(found["orderLinkId"])
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One reply as it came."""

    raw: bytes
    head: int
    status: int

    @property
    def interim(self) -> bool:
        """A 1xx that the real reply still follows."""
        return 100 <= self.status < _SWITCHING

    @property
    def switching(self) -> bool:
        """From here on it is a tunnel of frames."""
        return self.status == _SWITCHING

    @property
    def ret_code(self) -> int | None:
        """The envelope's retCode; None when there is none to be read."""
        body = self.raw[self.head :]
        head = self.raw[: self.head]
        if _GZIP.search(head):
            with contextlib.suppress(OSError, EOFError, zlib.error):
                body = gzip.decompress(body)
        found = _RET_CODE.search(body)
        return int(found.group(1)) if found else None


def take_request(buffer: bytearray) -> Request | None:
    """The first whole request of the buffer, taken out of it; None while it is not all there."""
    head = _head_of(buffer)
    if head is None:
        return None
    top = bytes(buffer[:head])
    end = _end(buffer, head, top)
    if end is None or len(buffer) < end:
        return None
    words = top.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3:
        raise ValueError(f"this is no request: {top[:80]!r}")
    raw = bytes(buffer[:end])
    del buffer[:end]
    return Request(
        raw=raw,
        head=head,
        method=words[0].decode("latin-1"),
        path=words[1].partition(b"?")[0].decode("latin-1"),
        upgrade=_UPGRADE.search(top) is not None,
    )


def take_reply(buffer: bytearray, method: str, *, ended: bool = False) -> Reply | None:
    """The first whole reply of the buffer, taken out of it; without a length it is over when the line has ended."""
    head = _head_of(buffer)
    if head is None:
        return None
    top = bytes(buffer[:head])
    words = top.split(b" ", 2)
    if len(words) < 2 or not words[1][:3].isdigit():
        raise ValueError(f"this is no reply: {top[:80]!r}")
    status = int(words[1][:3])
    end: int | None
    if status < 200 or status in _BODYLESS or method == "HEAD":
        end = head
    elif _LENGTH.search(top) or _CHUNKED.search(top):
        end = _end(buffer, head, top)
    else:
        end = len(buffer) if ended else None
    if end is None or len(buffer) < end:
        return None
    raw = bytes(buffer[:end])
    del buffer[:end]
    return Reply(raw=raw, head=head, status=status)


def _head_of(buffer: bytearray) -> int | None:
    """Where the body begins."""
    found = buffer.find(b"\r\n\r\n")
    return None if found < 0 else found + 4


def _end(buffer: bytearray, head: int, top: bytes) -> int | None:
    """Where a message ends by its length or its chunks; None while the chunks do not tell yet."""
    if _CHUNKED.search(top):
        return _end_of_chunks(buffer, head)
    length = _LENGTH.search(top)
    return head + int(length.group(1)) if length else head


def _end_of_chunks(buffer: bytearray, at: int) -> int | None:
    """Behind the last chunk and its trailers."""
    while True:
        line = buffer.find(b"\r\n", at)
        if line < 0:
            return None
        size = int(bytes(buffer[at:line]).split(b";")[0], 16)
        if size == 0:
            if buffer[line + 2 : line + 4] == b"\r\n":
                return line + 4
            trailers = buffer.find(b"\r\n\r\n", line)
            return None if trailers < 0 else trailers + 4
        at = line + 2 + size + 2
        if at > len(buffer):
            return None


class Frames:
    """Counts the frames of one direction of a WebSocket as its bytes pass by."""

    __slots__ = ("_head", "_skip", "count")

    def __init__(self) -> None:
        self.count = 0
        self._skip = 0  # bytes of the current frame's payload that are still to come
        self._head = bytearray()  # of a frame header that is not all there

    def pass_by(self, data: bytes) -> None:
        """These bytes follow the ones before."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
                at += step
                continue
            self._head.append(data[at])
            at += 1
            if len(self._head) == _header_size(self._head):
                self._skip = _payload_size(self._head)
                self._head.clear()
                self.count += 1


def _header_size(head: bytearray) -> int:
    """How long a frame's header is, as far as its first bytes tell."""
    if len(head) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
    return 2 + extended + (4 if head[1] & 0x80 else 0)


def _payload_size(head: bytearray) -> int:
    """How much follows a whole header."""
    short = head[1] & 0x7F
    if short < 126:
        return short
    return int.from_bytes(head[2 : 4 if short == 126 else 10], "big")


def made_up(status: int, reason: str, kind: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
    """A whole reply with a body of this kind."""
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def envelope(ret_code: int, ret_msg: str, now_ms: int) -> bytes:
    """The exchange's envelope around no result."""
    whole: dict[str, Any] = {
        "retCode": ret_code,
        "retMsg": ret_msg,
        "result": {},
        "retExtInfo": {},
        "time": now_ms,
    }
    return json.dumps(whole).encode()
