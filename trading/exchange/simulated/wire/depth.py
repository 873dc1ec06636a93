"""A made-up order book around the best bid and ask: the same price always has the same size in it.

So that a book moves like one: levels appear and vanish at the ends and at the touch, the others stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from trading.exchange.simulated.wire.formats import number
from trading.model import Instrument

MOST_STEPS = 5000
MIXER = 2_654_435_761  # Knuth's multiplicative hash

Level = list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """Levels of price and size as strings, best first."""

    bids: tuple[tuple[str, str], ...]
    asks: tuple[tuple[str, str], ...]


def book(rules: Instrument, bid: Decimal, ask: Decimal, levels: int) -> Book:
    """The book of so many levels on each side; a low price has fewer bids."""
    return Book(bids=_side(rules, bid, -1, levels), asks=_side(rules, ask, 1, levels))


def _side(rules: Instrument, best: Decimal, sign: int, levels: int) -> tuple[tuple[str, str], ...]:
    first = int(best / rules.tick_size)
    steps = range(first, first + sign * levels, sign)
    return tuple((number(ticks * rules.tick_size), size_at(rules, ticks)) for ticks in steps if ticks > 0)


def size_at(rules: Instrument, ticks: int) -> str:
    """The size that stands at a price, counted in ticks."""
    steps = (ticks * MIXER & 0xFFFFFFFF) % MOST_STEPS + 1
    return number(rules.min_qty + steps * rules.qty_step)


def changes(old: tuple[tuple[str, str], ...], new: tuple[tuple[str, str], ...]) -> list[Level]:
    """What turns the one side into the other: size 0 takes a level away, anything else sets it."""
    before, after = dict(old), dict(new)
    gone = [[price, "0"] for price in before if price not in after]
    return gone + [[price, size] for price, size in new if before.get(price) != size]


@dataclass(slots=True)
class Stream:
    """One book topic: what its subscribers hold. `update` grows by one with every change."""

    symbol: str
    levels: int
    held: Book = field(default_factory=lambda: Book(bids=(), asks=()))
    update: int = 0
    told: float = 0.0

    def snapshot(self) -> dict[str, object]:
        """The whole book, as its subscribers hold it."""
        return self._data([list(level) for level in self.held.bids], [list(level) for level in self.held.asks])

    def move(self, new: Book) -> dict[str, object] | None:
        """Go on to a new book and tell the difference; None when there is none."""
        old, self.held = self.held, new
        bids, asks = changes(old.bids, new.bids), changes(old.asks, new.asks)
        if not bids and not asks:
            return None
        self.update += 1
        return self._data(bids, asks)

    def _data(self, bids: list[Level], asks: list[Level]) -> dict[str, object]:
        return {"s": self.symbol, "b": bids, "a": asks, "u": self.update, "seq": self.update}
