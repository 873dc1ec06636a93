"""Where each environment lives."""

from __future__ import annotations

import pytest

from trading.errors import Misconfigured
from trading.exchange.bybit.endpoints import Endpoints, endpoints_of, is_loopback


def test_a_demo_account_hears_the_main_prices() -> None:
    """It has no public stream of its own."""
    live, demo = endpoints_of("live"), endpoints_of("demo")
    assert demo.public == live.public == "wss://stream.bybit.com/v5/public/linear"
    assert demo.private == "wss://stream-demo.bybit.com/v5/private"
    assert demo.rest == "https://api-demo.bybit.com"


def test_the_testnet_is_apart() -> None:
    """Not one address of the real exchange."""
    testnet = endpoints_of("testnet")
    assert all("testnet" in address for address in (testnet.rest, testnet.public, testnet.private))


@pytest.mark.parametrize(
    ("rest", "ws", "base"),
    [
        ("http://127.0.0.1:8765", None, "ws://127.0.0.1:8765"),
        ("http://127.0.0.1:8765/", None, "ws://127.0.0.1:8765"),
        ("https://exchange.example/paper/", None, "wss://exchange.example/paper"),
        ("http://127.0.0.1:8765", "ws://127.0.0.1:9999", "ws://127.0.0.1:9999"),
    ],
)
@pytest.mark.parametrize("exchange", ["paper", "live", "demo"])
def test_overrides_win_and_the_stream_follows_rest(exchange: str, rest: str, ws: str | None, base: str) -> None:
    """In every environment."""
    assert endpoints_of(exchange, rest, ws) == Endpoints(
        rest=rest.rstrip("/"), public=f"{base}/v5/public/linear", private=f"{base}/v5/private"
    )


def test_the_stream_alone_can_be_overridden() -> None:
    """REST stays where it was."""
    found = endpoints_of("testnet", None, "ws://127.0.0.1:9999")
    assert found.rest == "https://api-testnet.bybit.com"
    assert found.private == "ws://127.0.0.1:9999/v5/private"


@pytest.mark.parametrize(
    ("exchange", "rest", "ws"),
    [
        ("paper", None, None),
        ("paper", None, "ws://127.0.0.1:1"),
        ("live", "127.0.0.1:8765", None),
        ("live", "ftp://127.0.0.1", None),
        ("live", "http://", None),
        ("live", "http://127.0.0.1:http", None),
        ("live", "http://[::1", None),
        ("live", "http://key@127.0.0.1", None),
        ("live", None, "http://127.0.0.1:1"),
    ],
)
def test_what_is_no_address_is_refused(exchange: str, rest: str | None, ws: str | None) -> None:
    """With the name of the setting."""
    with pytest.raises(Misconfigured, match="BYBIT_"):
        endpoints_of(exchange, rest, ws)


def test_loopback_is_known() -> None:
    """By name and by number."""
    assert all(map(is_loopback, ("http://127.0.0.1:1", "http://localhost", "http://[::1]:1")))
    assert not is_loopback("https://api.bybit.com")
