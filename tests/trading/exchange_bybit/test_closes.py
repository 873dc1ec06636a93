"""Closes in their order: each once, none left out, whatever the stream loses, doubles or delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trading.exchange_bybit.standin import until
from trading.errors import Transient
from trading.exchange.bybit.clock import HeardClock
from trading.exchange.bybit.closes import Closes
from trading.model import Candle, utc
from trading.ports import BarsClosed

MINUTE = timedelta(minutes=1)
A, B = "AUSDT", "BUSDT"


def bar(number: int, symbol: str = A) -> Candle:
    """The candle that closes at that minute."""
    opening = utc((number - 1) * 60_000)
    return Candle(symbol=symbol, open_time=opening, interval=MINUTE, open=1, high=1, low=1, close=1, volume=1)


def at(number: int) -> datetime:
    return utc(number * 60_000)


class Desk:
    """Closes with an exchange behind that knows the bars up to `known`, and what was delivered."""

    def __init__(self, *symbols: str, known: int = 0, delivered: int | None = 0) -> None:
        self.known = known
        self.missing: set[tuple[str, int]] = set()
        self.asked: list[tuple[str, datetime]] = []
        self.failures = 0
        self.delivered: list[BarsClosed] = []
        self.closes = Closes(
            symbols or (A,), MINUTE, deliver=self.delivered.append, fetch=self.fetch, clock=HeardClock(haste=20)
        )
        self.closes.delivered_up_to = None if delivered is None else at(delivered)

    async def fetch(self, symbol: str, after: datetime) -> Sequence[Candle]:
        self.asked.append((symbol, after))
        await asyncio.sleep(0)
        if self.failures:
            self.failures -= 1
            raise Transient("not now")
        first = (after - utc(0)) // MINUTE + 1
        return [bar(n, symbol) for n in range(first, self.known + 1) if (symbol, n) not in self.missing]

    @property
    def told(self) -> list[tuple[int, str, bool]]:
        """Minute, symbols and lateness of every delivery."""
        return [
            ((each.close_time - utc(0)) // MINUTE, "".join(c.symbol[0] for c in each.candles), each.late)
            for each in self.delivered
        ]


@contextlib.asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Desk]:
    """With its worker, after the first catching up."""
    task = asyncio.create_task(desk.closes.run())
    try:
        await desk.closes.catch_up()
        yield desk
    finally:
        task.cancel()


async def test_a_close_is_told_at_once_and_costs_no_question() -> None:
    """Nobody waits for a worker."""
    async with running(Desk()) as desk:
        asked = len(desk.asked)
        for number in (1, 2, 3):
            desk.closes.heard(bar(number))
            assert desk.told[-1] == (number, "A", False)
        assert len(desk.asked) == asked


async def test_several_symbols_are_told_together() -> None:
    """In the order of the configuration, when the last one is there."""
    async with running(Desk(A, B)) as desk:
        desk.closes.heard(bar(1, B))
        assert desk.told == []
        desk.closes.heard(bar(1, A))
        assert desk.told == [(1, "AB", False)]


async def test_a_symbol_that_lags_is_asked_for_once() -> None:
    """And left out when it has no bar."""
    async with running(Desk(A, B)) as desk:
        desk.asked.clear()
        desk.known = 1
        desk.closes.heard(bar(1, A))
        await until(lambda: desk.told == [(1, "AB", False)])
        assert desk.asked == [(B, at(0))]
        desk.known = 2
        desk.missing.add((B, 2))
        desk.closes.heard(bar(2, A))
        await until(lambda: desk.told[-1] == (2, "A", False))
        assert desk.asked[1:] == [(B, at(1))]


async def test_a_skipped_close_comes_first_and_late() -> None:
    """A frame was lost; the next one shows it."""
    async with running(Desk()) as desk:
        desk.known = 3
        desk.closes.heard(bar(3))
        await until(lambda: len(desk.told) == 3)
        assert desk.told == [(1, "A", True), (2, "A", True), (3, "A", False)]


async def test_a_confirmation_that_never_comes_is_missed() -> None:
    """The next candle has begun: the close is asked for."""
    async with running(Desk()) as desk:
        desk.known = 1
        desk.closes.begun(at(0))
        desk.closes.begun(at(1))
        await until(lambda: desk.told == [(1, "A", False)])
        desk.closes.begun(at(1))
        desk.closes.heard(bar(1))
        assert len(desk.told) == 1


async def test_an_outage_is_made_up_for() -> None:
    """Oldest first; what the stream said meanwhile waits its turn."""
    async with running(Desk(A, B)) as desk:
        desk.closes.hold()
        desk.known = 4
        for symbol in (A, B):
            desk.closes.heard(bar(5, symbol))
        assert desk.told == []
        await desk.closes.catch_up()
        assert desk.told == [(n, "AB", n < 5) for n in range(1, 6)]
        assert desk.closes.delivered_up_to == at(5)


async def test_nothing_is_told_twice_or_backwards() -> None:
    """Old frames are no news."""
    async with running(Desk()) as desk:
        for number in (1, 2, 2, 1, 3, 2):
            desk.closes.heard(bar(number))
        assert [number for number, _, _ in desk.told] == [1, 2, 3]


async def test_without_a_past_the_first_close_is_the_first() -> None:
    """Nobody said where to begin: nothing is asked for."""
    async with running(Desk(delivered=None)) as desk:
        desk.closes.begun(at(6))
        desk.closes.heard(bar(7))
        assert desk.told == [(7, "A", False)]
        assert desk.asked == []


async def test_a_question_that_fails_is_asked_again() -> None:
    """No close is given up."""
    async with running(Desk()) as desk:
        desk.failures = 2
        desk.known = 2
        desk.closes.heard(bar(2))
        await until(lambda: desk.told == [(1, "A", True), (2, "A", False)])
        desk.failures = 1
        with pytest.raises(Transient):
            await desk.closes.catch_up()


EVENTS = st.lists(st.tuples(st.sampled_from(["tick", "lose", "double", "hold", "pause"]), st.sampled_from([A, B])))


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_every_close_is_told_once_in_order(events: list[tuple[str, str]]) -> None:
    """Whatever is lost, doubled, or happens while the stream is down."""
    asyncio.run(_walk(events))


async def _walk(events: list[tuple[str, str]]) -> None:
    async with running(Desk(A, B)) as desk:
        for number, (what, symbol) in enumerate(events, 1):
            desk.known = number
            if what == "hold":
                desk.closes.hold()
            for heard in {"lose": [symbol], "double": [A, B, A, B]}.get(what, [A, B]):
                desk.closes.heard(bar(number, heard))
            if what == "pause":
                await desk.closes.catch_up()
            await asyncio.sleep(0)
        await desk.closes.catch_up()
        assert [(n, symbols) for n, symbols, _ in desk.told] == [(n, "AB") for n in range(1, len(events) + 1)]
