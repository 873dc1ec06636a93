"""Where each Bybit environment lives: one REST base address and the full addresses of two streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from trading.errors import Misconfigured

PUBLIC_PATH: Final = "/v5/public/linear"
PRIVATE_PATH: Final = "/v5/private"
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
STREAM_SCHEME: Final = {"http": "ws", "https": "wss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """`rest` is a base without a trailing slash; `public` and `private` are whole WebSocket addresses."""

    rest: str
    public: str
    private: str


# A demo account trades on its own hosts but has no public stream: its prices are those of the main one.
HOSTS: Final = {
    "live": Endpoints(
        rest="https://api.bybit.com",
        public="wss://stream.bybit.com" + PUBLIC_PATH,
        private="wss://stream.bybit.com" + PRIVATE_PATH,
    ),
    "testnet": Endpoints(
        rest="https://api-testnet.bybit.com",
        public="wss://stream-testnet.bybit.com" + PUBLIC_PATH,
        private="wss://stream-testnet.bybit.com" + PRIVATE_PATH,
    ),
    "demo": Endpoints(
        rest="https://api-demo.bybit.com",
        public="wss://stream.bybit.com" + PUBLIC_PATH,
        private="wss://stream-demo.bybit.com" + PRIVATE_PATH,
    ),
}


def endpoints_of(exchange: str, rest_url: str | None = None, ws_url: str | None = None) -> Endpoints:
    """The addresses of an environment, or those of the overrides; a stream override is derived when only REST is given.

    `Misconfigured` for a name that is none of Bybit's without an address, or an address that cannot be one.
    """
    rest = _base(rest_url, "BYBIT_REST_URL", ("http", "https")) if rest_url else None
    stream = _base(ws_url, "BYBIT_WS_URL", ("ws", "wss")) if ws_url else None
    if rest and stream is None:
        scheme, _, place = rest.partition("://")
        stream = f"{STREAM_SCHEME[scheme]}://{place}"
    known = HOSTS.get(exchange)
    if known is None and (rest is None or stream is None):
        raise Misconfigured(f"EXCHANGE={exchange} has no address of its own: set BYBIT_REST_URL")
    if known is not None:
        rest = rest or known.rest
    public = stream + PUBLIC_PATH if stream else known.public if known else ""
    private = stream + PRIVATE_PATH if stream else known.private if known else ""
    return Endpoints(rest=rest or "", public=public, private=private)


def is_loopback(url: str) -> bool:
    """True for an address on this machine."""
    return urlsplit(url).hostname in LOOPBACK


def _base(url: str, setting: str, schemes: tuple[str, str]) -> str:
    """The address without what would double the slash; refused when it is none."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port  # raises when it is no number
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in schemes or not parts.hostname or port == 0 or parts.query or parts.fragment or "@" in url:
        raise Misconfigured(f"{setting} is not an address like {schemes[0]}://127.0.0.1:8765")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
