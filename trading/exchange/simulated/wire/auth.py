"""Who may ask: signatures over the bytes that were received, and the window in which a timestamp counts.

A request is signed over timestamp, key, window and the raw query string or body; a socket over its expiry.
Comparisons take constant time, and no message ever holds the secret or anything made of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from trading.exchange.simulated.venue import VenueRefusal
from trading.exchange.simulated.wire.parameters import INTEGER, wrong

AHEAD_MS = 1000
DEFAULT_WINDOW = "5000"
BAD_TIME = "invalid request, please check your server timestamp or recv_window param."


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The one key of this exchange."""

    key: str
    secret: str = field(repr=False)

    def signature(self, text: bytes) -> str:
        """Lower-case hex HMAC-SHA256."""
        return hmac.digest(self.secret.encode(), text, "sha256").hex()

    def _same(self, given: str, right: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), right.encode())

    def check_request(self, headers: Mapping[str, str], payload: bytes, now_ms: int) -> None:
        """Accept a signed request: 10001, 10002, 10003 or 10004 when it is not to be accepted."""
        key, sign = headers.get("X-BAPI-API-KEY", ""), headers.get("X-BAPI-SIGN", "")
        at = headers.get("X-BAPI-TIMESTAMP", "")
        window = headers.get("X-BAPI-RECV-WINDOW", "") or DEFAULT_WINDOW
        if not (key and sign and at):
            text = f"empty value: apiTimestamp[{at}] apiKey[{key}] apiSignature[{sign}]: openapi sign params error!"
            raise VenueRefusal(10001, text)
        check_time(at, window, now_ms)
        if not self._same(key, self.key):
            raise VenueRefusal(10003, "API key is invalid.")
        origin = (at + key + window).encode(errors="replace") + payload
        if not self._same(sign, self.signature(origin)):
            raise VenueRefusal(10004, f"error sign! origin_string[{origin.decode(errors='replace')}]")

    def check_socket(self, args: object, now_ms: int) -> None:
        """Accept `[key, expires, signature]`; the expiry may be a number or a string."""
        if not isinstance(args, list) or len(args) != 3 or isinstance(args[1], bool):
            raise wrong("auth needs api_key, expires and signature")
        key, expires, sign = (str(item) for item in args)
        if not INTEGER.match(expires):
            raise wrong("expires invalid")
        if not self._same(key, self.key):
            raise VenueRefusal(10003, "API key is invalid.")
        if not self._same(sign, self.signature(f"GET/realtime{expires}".encode())):
            raise VenueRefusal(10004, "error sign!")
        if int(expires) <= now_ms:
            raise VenueRefusal(10004, "Params Error: expires is in the past")


def check_time(at: str, window: str, now_ms: int) -> None:
    """`now - window <= at < now + 1000`, all in milliseconds of the wall clock."""
    if not INTEGER.match(at) or not INTEGER.match(window):
        raise wrong("timestamp or recv_window invalid")
    if not now_ms - int(window) <= int(at) < now_ms + AHEAD_MS:
        text = f"req_timestamp[{at}],server_timestamp[{now_ms}],recv_window[{window}]"
        raise VenueRefusal(10002, f"{BAD_TIME} {text}")
