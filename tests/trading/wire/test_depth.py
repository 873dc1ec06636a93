"""The made-up book: deltas lead from one to the next, and no level is taken away that was not there."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from trading.exchange.simulated.instruments import KNOWN
from trading.exchange.simulated.wire.depth import Stream, book

RULES = KNOWN["BTCUSDT"]


def applied(held: dict[str, str], levels: object) -> dict[str, str]:
    """As pybit merges a side: taking away what is not there is an error."""
    assert isinstance(levels, list)
    for at, size in levels:
        if size == "0":
            del held[at]
        else:
            held[at] = size
    return held


@given(st.lists(st.integers(1, 400), min_size=1, max_size=12), st.sampled_from([1, 50, 200]))
def test_deltas_lead_to_the_book_there_is(ticks: list[int], levels: int) -> None:
    stream = Stream("BTCUSDT", levels)
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    for number, at in enumerate(ticks):
        bid = RULES.tick_size * at
        there = book(RULES, bid, bid + 2 * RULES.tick_size, levels)
        before = stream.update
        change = stream.move(there)
        if change is None:
            assert number > 0
            assert stream.update == before
        else:
            assert (change["u"], stream.update) == (before + 1, before + 1)
            bids, asks = applied(bids, change["b"]), applied(asks, change["a"])
        assert (bids, asks) == (dict(there.bids), dict(there.asks))


def test_best_levels_come_first_and_a_price_keeps_its_size() -> None:
    first = book(RULES, Decimal("100.0"), Decimal("100.2"), 3)
    assert [at for at, _ in first.bids] == ["100", "99.9", "99.8"]
    assert [at for at, _ in first.asks] == ["100.2", "100.3", "100.4"]
    assert dict(book(RULES, Decimal("99.9"), Decimal("100.1"), 3).bids)["99.8"] == dict(first.bids)["99.8"]
    assert len(book(RULES, Decimal("0.1"), Decimal("0.3"), 50).bids) == 1
