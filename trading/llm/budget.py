"""Tokens and dollars a day: reserved before a call, settled after it.

A day is a UTC day of wall time. A reservation is spent until it is settled: what a kill leaves open counts in full.
Amounts are exact.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from typing import Any, Final, Protocol, TypeVar

from trading.errors import ConclaveError
from trading.model import ZERO

T = TypeVar("T")

_EXACT: Final = Context(prec=400)  # digits: no sum of amounts is ever rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The most that may be spent in a day; 0 allows only what costs nothing."""

    daily_usd: Decimal
    daily_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Tokens (in and out together) and dollars."""

    tokens: int = 0
    usd: Decimal = ZERO

    def plus(self, tokens: int, usd: Decimal) -> Spent:
        """The exact sum."""
        return Spent(tokens=self.tokens + tokens, usd=_EXACT.add(self.usd, usd))

    def within(self, caps: Caps) -> bool:
        """Not above either cap."""
        return self.tokens <= caps.daily_tokens and self.usd <= caps.daily_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A day so far, open reservations in full."""

    day: date
    tokens: int
    usd: Decimal
    caps: Caps


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reservation:
    """Leave to spend so much on `day`; settled once."""

    day: date
    tokens: int
    usd: Decimal


class SpendingStore(Protocol):
    """Where a day's sum survives the process. Each call is one step: nobody else's comes between its parts."""

    async def spent(self, day: date) -> Spent:
        """The sum of a day; zeros for one on which nothing was spent."""
        ...

    async def add(self, day: date, tokens: int, usd: Decimal, caps: Caps | None) -> tuple[bool, Spent]:
        """Add (negative amounts take away), unless the sum would be beyond `caps`: whether it was, and the sum then.

        Committed when it returns. `Transient`: nothing was written.
        """
        ...


class Budget:
    """Keeps a day's calls under its caps; `wall` is aware UTC."""

    def __init__(self, caps: Caps, store: SpendingStore, wall: Callable[[], datetime]) -> None:
        if not caps.daily_usd.is_finite() or caps.daily_usd < 0 or caps.daily_tokens < 0:
            raise ConclaveError(f"a day's caps are amounts of 0 or more, not {caps}")
        self.caps = caps
        self._store = store
        self._wall = wall
        self._open: set[Reservation] = set()
        self._writing: set[asyncio.Task[Any]] = set()
        self._known: dict[date, Spent] | None = None  # the newest day's sum, for `spent`

    async def load(self) -> None:
        """Take up what earlier runs spent today, before `spent` is asked."""
        today = self._today()
        self._remember(today, await self._store.spent(today))

    async def reserve(self, tokens: int, usd: Decimal) -> Reservation | None:
        """Take so much of today's budget; None when not so much is left. Committed when it returns.

        Cancelled, it gives back what it may have taken: a store that has begun to write is not stopped.
        """
        _check(tokens, usd)
        taking = self._start(self._take(tokens, usd))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._start(self._give_back(taking)).set_name("budget: give back")
            raise

    async def _take(self, tokens: int, usd: Decimal) -> Reservation | None:
        day = self._today()
        granted, sum_ = await self._store.add(day, tokens, usd, self.caps)
        self._remember(day, sum_)
        if not granted:
            return None
        reservation = Reservation(day=day, tokens=tokens, usd=usd)
        self._open.add(reservation)
        return reservation

    async def _give_back(self, taking: asyncio.Task[Reservation | None]) -> None:
        if (reservation := await taking) is not None:
            await self._settle(reservation, 0, ZERO)

    async def settle(self, reservation: Reservation, tokens: int, usd: Decimal) -> None:
        """What it really came to, on its own day, be it more. A second time changes nothing.

        Cancelled, it is settled all the same.
        """
        _check(tokens, usd)
        await asyncio.shield(self._start(self._settle(reservation, tokens, usd)))

    async def close(self) -> None:
        """Returns when nothing is being written any more."""
        while self._writing:
            await asyncio.wait(self._writing)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._writing.add(task)
        task.add_done_callback(self._written)
        return task

    def _written(self, task: asyncio.Task[Any]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # whoever still waits for it hears of it; without it, the sum stays booked

    async def _settle(self, reservation: Reservation, tokens: int, usd: Decimal) -> None:
        if reservation not in self._open:
            return
        self._open.discard(reservation)
        more_tokens, more_usd = tokens - reservation.tokens, _EXACT.subtract(usd, reservation.usd)
        _, sum_ = await self._store.add(reservation.day, more_tokens, more_usd, None)
        self._remember(reservation.day, sum_)

    def spent(self) -> Spending:
        """Today so far, as this process last saw it; `ConclaveError` before `load`."""
        if self._known is None:
            raise ConclaveError("what was spent is not known before it was loaded")
        day = self._today()
        today = self._known.get(day, Spent())
        return Spending(day=day, tokens=today.tokens, usd=today.usd, caps=self.caps)

    def _today(self) -> date:
        return self._wall().astimezone(UTC).date()

    def _remember(self, day: date, sum_: Spent) -> None:
        known = self._known or {}
        self._known = {each: known[each] for each in known if each == self._today()} | {day: sum_}


def _check(tokens: int, usd: Decimal) -> None:
    if tokens < 0 or not usd.is_finite() or usd < 0:
        raise ConclaveError(f"{tokens} tokens for {usd} USD cannot be spent")
