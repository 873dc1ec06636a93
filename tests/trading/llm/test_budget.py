"""A day's budget: reserved before, settled after, never beyond its caps by reservations."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.llm.in_memory import MemorySpending
from tests.trading.llm.test_keys import START, Wall
from trading.errors import ConclaveError
from trading.llm.budget import Budget, Caps, Reservation, Spending, Spent
from trading.model import ZERO

CAPS = Caps(daily_usd=Decimal("1.00"), daily_tokens=100_000)


def budget_of(wall: Wall, store: MemorySpending | None = None, caps: Caps = CAPS) -> Budget:
    return Budget(caps, store or MemorySpending(), wall)


async def reserved(budget: Budget, tokens: int, usd: str) -> Reservation:
    """A reservation that is granted."""
    found = await budget.reserve(tokens, Decimal(usd))
    assert found is not None
    return found


async def test_either_cap_refuses_and_reaching_it_is_fine() -> None:
    """What is left can be spent to the last token and the last cent."""
    budget = budget_of(Wall())
    await reserved(budget, 60_000, "0.10")
    assert await budget.reserve(40_001, ZERO) is None
    assert await budget.reserve(0, Decimal("0.9000001")) is None
    await reserved(budget, 40_000, "0.90")
    assert await budget.reserve(0, ZERO) is not None
    assert await budget.reserve(1, ZERO) is None
    assert budget.spent() == Spending(day=START.date(), tokens=100_000, usd=Decimal("1.00"), caps=CAPS)


async def test_settling_gives_back_what_was_not_spent() -> None:
    """Once; a second time changes nothing, and more than was reserved counts too."""
    budget = budget_of(Wall())
    first, second = await reserved(budget, 50_000, "0.50"), await reserved(budget, 50_000, "0.50")
    await budget.settle(first, 1_234, Decimal("0.0001"))
    await budget.settle(first, 0, ZERO)
    assert (budget.spent().tokens, str(budget.spent().usd)) == (51_234, "0.5001")
    await budget.settle(second, 120_000, Decimal("0.7"))
    assert (budget.spent().tokens, str(budget.spent().usd)) == (121_234, "0.7001")
    assert await budget.reserve(1, ZERO) is None


class Slow(MemorySpending):
    """A store that has its own time, as a thread has."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go = asyncio.Event(), asyncio.Event()

    async def add(self, day: date, tokens: int, usd: Decimal, caps: Caps | None) -> tuple[bool, Spent]:
        """When it is let."""
        self.began.set()
        await self.go.wait()
        return await super().add(day, tokens, usd, caps)


async def test_whoever_is_cancelled_while_it_is_written_leaves_nothing_booked() -> None:
    """What was reserved for a call that is never made is given back, and what is settled is settled."""
    store = Slow()
    budget = budget_of(Wall(), store)
    reserving = asyncio.create_task(budget.reserve(1_000, Decimal("0.1")))
    await store.began.wait()
    reserving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reserving
    store.go.set()
    await budget.close()
    assert (await store.spent(START.date())).tokens == 0
    held = await reserved(budget, 1_000, "0.1")
    store.began.clear()
    store.go.clear()
    settling = asyncio.create_task(budget.settle(held, 10, ZERO))
    await store.began.wait()
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    store.go.set()
    await budget.close()
    assert (await store.spent(START.date())).tokens == 10
    assert budget.spent().tokens == 10


async def test_a_kill_leaves_reservations_spent() -> None:
    """The next process on the same store counts them in full."""
    store = MemorySpending()
    await reserved(budget_of(Wall(), store), 70_000, "0.20")
    again = budget_of(Wall(), store)
    with pytest.raises(ConclaveError, match="loaded"):
        again.spent()
    await again.load()
    assert again.spent().tokens == 70_000
    assert await again.reserve(30_001, ZERO) is None


async def test_a_new_utc_day_begins_with_nothing() -> None:
    """A call that ends after midnight is settled on the day on which it was reserved."""
    wall, store = Wall(datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC)), MemorySpending()
    budget = budget_of(wall, store)
    late = await reserved(budget, 100_000, "1")
    wall.pass_(1.0)
    assert budget.spent() == Spending(day=date(2026, 11, 24), tokens=0, usd=ZERO, caps=CAPS)
    await reserved(budget, 100_000, "1")
    await budget.settle(late, 10, Decimal("0.1"))
    assert budget.spent().tokens == 100_000
    assert (await store.spent(date(2026, 11, 23))).tokens == 10


@pytest.mark.parametrize(("tokens", "usd"), [(-1, "0"), (0, "-0.01"), (0, "NaN"), (0, "Infinity")])
async def test_what_is_no_amount_is_refused(tokens: int, usd: str) -> None:
    """On the way in and on the way back."""
    budget = budget_of(Wall())
    with pytest.raises(ConclaveError):
        await budget.reserve(tokens, Decimal(usd))
    held = await reserved(budget, 1, "0.1")
    with pytest.raises(ConclaveError):
        await budget.settle(held, tokens, Decimal(usd))
    with pytest.raises(ConclaveError):
        budget_of(Wall(), caps=Caps(daily_usd=Decimal(usd), daily_tokens=tokens))


AMOUNTS = st.tuples(st.integers(0, 60_000), st.decimals(0, 1, places=12))
STEPS = st.lists(st.tuples(AMOUNTS, st.none() | AMOUNTS, st.integers(0, 30_000)), max_size=30)


@given(STEPS)
def test_the_sum_is_exact_and_reservations_stay_under_the_caps(
    steps: list[tuple[tuple[int, Decimal], tuple[int, Decimal] | None, int]],
) -> None:
    """Against a plain list of what each day holds: granted exactly when it fits."""

    async def run() -> None:
        wall, store = Wall(), MemorySpending()
        budget = budget_of(wall, store)
        await budget.load()
        days: dict[date, list[tuple[int, Decimal]]] = {}
        for (tokens, usd), real, seconds in steps:
            wall.pass_(seconds)
            today = days.setdefault(wall.at.date(), [])
            held = await budget.reserve(tokens, usd)
            total = sum(each[0] for each in today) + tokens, sum((each[1] for each in today), ZERO) + usd
            fits = total[0] <= CAPS.daily_tokens and total[1] <= CAPS.daily_usd
            assert (held is not None) == fits
            if held is not None:
                today.append(real or (tokens, usd))
                if real:
                    await budget.settle(held, *real)
            assert budget.spent().tokens == sum(each[0] for each in today)
            assert budget.spent().usd == sum((each[1] for each in today), ZERO)

    asyncio.run(run())


@given(st.lists(AMOUNTS, min_size=1, max_size=40))
def test_reservations_made_at_once_do_not_exceed_the_cap_together(amounts: list[tuple[int, Decimal]]) -> None:
    """Whoever comes first; together they stay under both caps."""

    async def run() -> None:
        budget = budget_of(Wall())
        held = await asyncio.gather(*(budget.reserve(*each) for each in amounts))
        granted = [each for each in held if each is not None]
        assert sum(each.tokens for each in granted) == budget.spent().tokens <= CAPS.daily_tokens
        assert sum((each.usd for each in granted), ZERO) == budget.spent().usd <= CAPS.daily_usd

    asyncio.run(run())


async def test_the_day_follows_the_wall_back_too() -> None:
    """A clock that was set back finds its day as it was."""
    wall, store = Wall(), MemorySpending()
    budget = budget_of(wall, store)
    await reserved(budget, 5, "0.1")
    wall.pass_(timedelta(days=2).total_seconds())
    await reserved(budget, 7, "0.1")
    wall.pass_(-timedelta(days=2).total_seconds())
    await reserved(budget, 1, "0.1")
    assert budget.spent().tokens == 6
