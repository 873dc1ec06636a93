"""One exchange per market and worker, shared where state does not matter; clients that are closed for certain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.wire.harness import SYMBOL, Account, Inbox, PaperExchange, ccxt_rest, pybit_http, pybit_socket, running
from tests.wire.markets import FUNDING, GAP, STILL, TIDE


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    """The market stands at 50,000."""
    with running(tmp_path_factory.mktemp("still"), STILL) as exchange:
        yield exchange


@pytest.fixture(scope="session")
def tide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    """The market dips to 49,000 and surges to 51,000, again and again."""
    with running(tmp_path_factory.mktemp("tide"), TIDE) as exchange:
        yield exchange


@pytest.fixture(scope="session")
def gap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    """The market opens at 49,000 after a close of 50,000, again and again."""
    with running(tmp_path_factory.mktemp("gap"), GAP) as exchange:
        yield exchange


@pytest.fixture(scope="session")
def funding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    """The market stands at 50,000 and eight hours pass in a second."""
    with running(tmp_path_factory.mktemp("funding"), FUNDING) as exchange:
        yield exchange


def _account(exchange: PaperExchange) -> Iterator[Account]:
    with pybit_http(exchange) as http:
        yield Account(exchange=exchange, http=http)


def _subscribed(account: Account) -> Iterator[Inbox]:
    """pybit's private socket with every topic; probed by an order, for pybit does not show acknowledgements."""
    inbox = Inbox()
    with pybit_socket(account.exchange, "private") as client:
        client.order_stream(inbox)
        client.execution_stream(inbox)
        client.position_stream(inbox)
        client.wallet_stream(inbox)
        probe = account.limit("Buy", "0.001", "30000")
        inbox.row("order", "the probing order on the private socket", orderId=probe)
        account.cancel(probe)
        yield inbox


@pytest.fixture(scope="session")
def still_account(still: PaperExchange) -> Iterator[Account]:
    yield from _account(still)


@pytest.fixture(scope="session")
def tide_account(tide: PaperExchange) -> Iterator[Account]:
    yield from _account(tide)


@pytest.fixture
def account(still_account: Account) -> Account:
    """A flat account where the market stands still; its wallet is what earlier tests have left."""
    still_account.flatten()
    return still_account


@pytest.fixture
def sailor(tide_account: Account) -> Account:
    """A flat account where the market moves."""
    tide_account.flatten()
    return tide_account


@pytest.fixture(scope="session")
def still_events(still_account: Account) -> Iterator[Inbox]:
    """What the private socket says where the market stands still."""
    yield from _subscribed(still_account)


@pytest.fixture(scope="session")
def tide_events(tide_account: Account) -> Iterator[Inbox]:
    """What the private socket says where the market moves."""
    yield from _subscribed(tide_account)


@pytest.fixture(scope="session")
def gap_account(gap: PaperExchange) -> Iterator[Account]:
    """An account where the market gaps."""
    yield from _account(gap)


@pytest.fixture(scope="session")
def funding_account(funding: PaperExchange) -> Iterator[Account]:
    """An account where funding is due every second."""
    yield from _account(funding)


@pytest.fixture(scope="session")
def still_ccxt(still: PaperExchange) -> Iterator[Any]:
    """ccxt with its markets loaded, where the market stands still."""
    with ccxt_rest(still) as client:
        client.load_markets()
        yield client


@pytest.fixture(scope="session")
def reader(still_account: Account) -> Any:
    """pybit's REST client where the market stands still."""
    return still_account.http


@pytest.fixture(scope="session")
def linear() -> dict[str, str]:
    """What nearly every request names."""
    return {"category": "linear", "symbol": SYMBOL}
