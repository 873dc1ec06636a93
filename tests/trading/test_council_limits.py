"""A council may veto or shrink, nothing else: whatever it returns, the order is the proposal's or there is none."""

from __future__ import annotations

import contextlib
import math
from decimal import Decimal
from typing import Any, cast

import numpy as np
import pytest

from tests.trading.rig import (
    COSTLY,
    FLAT,
    FREE_RUN,
    NO_FEES,
    SaysAlways,
    Session,
    Stage,
    World,
    random_series,
    reading,
    script,
    series_of,
    traded,
)
from trading.errors import ConclaveError
from trading.events import VerdictReached
from trading.model import Purpose
from trading.parameters import TradeRules
from trading.portfolio import Book
from trading.ports import Brief, Deliberation, Witness
from trading.signals import RollingWindow
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters

BASE = Decimal(5)  # 1% of 10,000 over a stop 20 away


class Hostile:
    """Says anything at all."""

    mode = "hostile"
    debates = False

    def __init__(self, approved: Any, size: Any) -> None:
        self._ruling = Deliberation(approved=approved, size_multiplier=size, reasons=("because I say so",))

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Approved, with a size of its own."""
        return self._ruling


class Nonsense:
    """Answers with something that is no ruling, or not at all."""

    mode = "nonsense"
    debates = False

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Not a ruling."""
        if isinstance(self._answer, Exception):
            raise self._answer
        return cast("Deliberation", self._answer)


def one_edge(side: int) -> Stage:
    """An edge at row 1; nothing fills."""
    series = series_of([FLAT, FLAT])
    return Stage(series=[series], said=script({1: reading(side)}, series), rules=FREE_RUN, terms=NO_FEES)


async def orders_after(side: int, council: Any) -> tuple[World, list[Any]]:
    """What lies in the books of the venue after the edge; a trader that gives up is fine, an order is not."""
    world = World.of(one_edge(side))
    session = await Session.begin(world, council=council)
    with contextlib.suppress(TypeError, ValueError, AttributeError, RuntimeError, ConclaveError):
        await session.run()
    return world, list(world.venue.orders.values())


async def assert_the_proposal_or_nothing(side: int, council: Any) -> list[Any]:
    """Side, entry and stop are the proposal's; the size is at most the base size."""
    world, orders = await orders_after(side, council)
    assert len(orders) <= 1
    for order in orders:
        asked = order.asked
        assert (asked.side.sign, asked.price) == (side, Decimal(1000))
        assert asked.stop_loss == Decimal(1000 - side * 20)
        assert 0 < asked.qty <= BASE
        assert asked.post_only
        assert not asked.reduce_only
    intents = {intent.link_id: intent.purpose for intent in await world.intents()}
    assert {intents[one.asked.link_id] for one in orders} <= {Purpose.ENTRY}
    return orders


NUMBERS = [50.0, 1e308, math.inf, -math.inf, math.nan, -1.0, -0.0, 0.0, 1e-300, 1.0000001, 0.5, 1.0]
OTHERS = [True, None, "50", "nan", [1.0], {"size": 1}, Decimal(50), 1 + 1j, np.float64(50), np.array([50.0, 1.0])]


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("size", NUMBERS)
async def test_no_number_enlarges(side: int, size: float) -> None:
    """NaN, infinity, 50, less than nothing: at most the base size."""
    orders = await assert_the_proposal_or_nothing(side, Hostile(True, size))
    expected = min(BASE, BASE * Decimal(size)) if 0 < size < 1 else BASE * (size >= 1)
    qty = orders[0].asked.qty if orders else Decimal(0)
    assert qty == expected.quantize(Decimal("0.001"))


@pytest.mark.parametrize("size", OTHERS, ids=str)
async def test_no_other_type_enlarges(size: Any) -> None:
    """What is no number at all is no order, or none larger than the base."""
    await assert_the_proposal_or_nothing(1, Hostile(True, size))


@pytest.mark.parametrize("size", [1.0, 50.0, math.nan])
async def test_a_rejection_with_a_size_is_a_rejection(size: float) -> None:
    """`approved` decides."""
    _, orders = await orders_after(1, Hostile(False, size))
    assert orders == []


ANSWERS = [None, {}, {"approved": True, "size_multiplier": 1.0}, "approved", 1, RuntimeError("down"), ValueError("?")]


@pytest.mark.parametrize("answer", ANSWERS, ids=repr)
async def test_what_is_no_ruling_is_no_order(answer: Any) -> None:
    """No entry without an approval that can be read."""
    _, orders = await orders_after(1, Nonsense(answer))
    assert orders == []


@pytest.mark.parametrize("size", [50.0, 1e308, math.inf])
async def test_a_verdict_shows_the_size_that_was_used(size: float) -> None:
    """`size_modifier` is in 0..1 in the journal, as its event promises, whatever was asked for."""
    world = await traded(one_edge(1), council=Hostile(True, size))
    (verdict,) = await world.said(VerdictReached)
    assert verdict.qty == BASE
    assert verdict.size_modifier == 1.0


class Vandal(SaysAlways):
    """Approves, and scribbles over the bars that it was shown."""

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Overwrite whatever can be written."""
        for column in (brief.window.close, brief.window.high, brief.window.low, brief.window.volume):
            with contextlib.suppress(ValueError):
                column[:] = column[::-1].copy()
        return await super().deliberate(brief, witness)


async def test_a_council_cannot_change_the_bars_of_others() -> None:
    """The window is shown, not lent: later signals do not depend on what a council does to it."""
    strategy = EmaTrend(EmaTrendParameters(ema_period=10, rsi_period=5, adx_period=5, atr_period=5, adx_min=5.0))

    def rolling(stage: Stage, _: Book) -> RollingWindow:
        return RollingWindow(strategy, [one.between(0, 0) for one in stage.series])

    def stage() -> Stage:
        series = random_series(np.random.default_rng(3), 200, wobble=0.01)
        return Stage(series=[series], rules=TradeRules(trail_start_r=0.5), terms=COSTLY)

    plain = await traded(stage(), signals=rolling)
    vandalised = await traded(stage(), signals=rolling, council=Vandal())
    assert len(await plain.trades()) > 3
    assert await vandalised.trades() == await plain.trades()
