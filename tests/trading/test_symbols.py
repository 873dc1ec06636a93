"""Several symbols on one account: the order of the configuration, one cash balance, caps over everything."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest

from tests.trading.rig import (
    COSTLY,
    FLAT,
    FREE_RUN,
    HOUR_MS,
    NO_FEES,
    START_MS,
    Died,
    MortalJournal,
    Row,
    Session,
    Stage,
    World,
    away,
    instrument,
    random_series,
    reading,
    script,
    series_of,
    traded,
)
from trading.events import EquityMarked, VerdictReached
from trading.model import ZERO
from trading.parameters import AccountTerms, TradeRules
from trading.signals import Reading

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
RULES = {symbol: instrument(symbol) for symbol in SYMBOLS}
DAYS_MS = 24 * HOUR_MS


def together(symbols: tuple[str, ...], terms: AccountTerms) -> Stage:
    """Every symbol has its edge at the close of row 1, with a stop 20 away."""
    series = [series_of([FLAT] * 4, symbol=symbol) for symbol in symbols]
    said = {key: what for one in series for key, what in script({1: reading(1)}, one).items()}
    return Stage(series=series, said=said, rules=FREE_RUN, terms=terms, instruments=RULES)


@pytest.mark.parametrize("order", list(itertools.permutations(SYMBOLS)))
async def test_the_first_of_the_configuration_is_served_first(order: tuple[str, ...]) -> None:
    """5 coins each are 5,000; a cap of 12,000 leaves 2,000 for the third, whoever that is."""
    terms = AccountTerms(
        maker_fee=0.0, taker_fee=0.0, slippage=0.0, funding_rate=0.0, max_position_usdt=12_000.0
    )
    world = await traded(together(order, terms))
    assert [(intent.symbol, intent.qty) for intent in await world.intents()] == [
        (order[0], Decimal(5)),
        (order[1], Decimal(5)),
        (order[2], Decimal(2)),
    ]


async def test_margin_is_shared() -> None:
    """At leverage 1 10,000 carry 10 coins at 1000 together: the third gets nothing and says why."""
    terms = AccountTerms(maker_fee=0.0, taker_fee=0.0, slippage=0.0, funding_rate=0.0, leverage=1.0)
    world = await traded(together(SYMBOLS, terms))
    assert [intent.qty for intent in await world.intents()] == [5, 5]
    verdict = (await world.said(VerdictReached))[-1]
    assert (verdict.symbol, verdict.approved, verdict.gate) == ("SOLUSDT", False, "risk")


async def test_a_size_comes_from_realised_cash() -> None:
    """An open profit of 500 on one symbol does not enlarge the next entry; a realised one does."""
    rich: list[Row] = [FLAT, FLAT, FLAT, (1000, 1100, 1000, 1100), (1100, 1101, 1099, 1100), (1100, 1101, 1099, 1100)]
    one = series_of([*rich, (1100, 1101, 1099, 1100)], symbol="BTCUSDT")
    other = series_of([FLAT] * 7, symbol="ETHUSDT")
    said = script({1: reading(1), 4: reading(leave=True)}, one) | script({3: reading(1), 5: reading(1)}, other)
    # The first entry of ETHUSDT expires after one bar without a fill: it opens away from its price.
    other.low[4:] = 1000.0
    stage = Stage(
        series=[one, other],
        said=said,
        rules=TradeRules(entry_offset=0.0, trail_start_r=0.0, runaway_r=1000.0, entry_ttl_bars=1),
        terms=NO_FEES,
        instruments=RULES,
    )
    world = await traded(stage)
    sizes = [intent.qty for intent in await world.intents() if intent.stop is not None]
    assert sizes == [5, 5, Decimal("5.25")]


def mixed(seed: int, bars: int = 60) -> Stage:
    """Three random walks with different ranges: one starts later, one ends earlier."""
    rng = np.random.default_rng(seed)
    series = [
        random_series(rng, bars, symbol="BTCUSDT", wobble=0.008),
        random_series(rng, bars - 12, symbol="ETHUSDT", wobble=0.008, start_ms=START_MS + 2 * DAYS_MS, price=200.0),
        random_series(rng, bars - 25, symbol="SOLUSDT", wobble=0.008, price=50.0),
    ]
    said: dict[tuple[str, int], Reading] = {}
    for one in series:
        scale = float(one.close[0]) / 1000
        for row in range(1, len(one)):
            side = int(rng.choice([0, 0, 1, -1]))
            said |= script({row: reading(side, float(rng.uniform(5, 25)) * scale, leave=rng.random() < 0.08)}, one)
    rules = TradeRules(trail_start_r=0.5, trail_step_r=0.5, take_profit_r=2.0)
    return Stage(series=series, said=said, rules=rules, terms=COSTLY, instruments=RULES)


class Auditor:
    """Looks at the account whenever a close has been dealt with."""

    def __init__(self, world: World) -> None:
        self._world = world

    def check(self) -> None:
        """Notional and margin of everything that is open or rests stay within the caps."""
        venue, terms = self._world.venue, self._world.stage.terms
        notional = sum((p.qty * p.entry_price for p in venue.positions.values()), ZERO)
        for order in venue.orders.values():
            if not order.asked.reduce_only and order.asked.price is not None:
                notional += order.leaves * order.asked.price
        assert notional <= Decimal(repr(terms.max_position_usdt)) * (1 + Decimal("1e-9"))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_ranges_may_differ_and_caps_hold_over_all(seed: int) -> None:
    """Everyone trades in its own time; marks and money agree; the cap holds at every close."""
    stage = mixed(seed)
    world = World.of(stage)
    auditor = Auditor(world)
    session = await Session.begin(world)
    world.journal.listen(lambda event: auditor.check() if isinstance(event, EquityMarked) else None)
    await session.run()
    trades = await world.trades()
    assert {trade.symbol for trade in trades} == set(SYMBOLS)
    assert session.desk.book.cash == world.venue.cash
    marks = [event.at for event in await world.said(EquityMarked)]
    assert marks == sorted(set(marks))
    starts = {one.symbol: int(one.timestamp[0]) for one in stage.series}
    ends = {one.symbol: int(one.timestamp[-1]) for one in stage.series}
    for trade in trades:
        assert starts[trade.symbol] <= trade.signal_time.timestamp() * 1000 < ends[trade.symbol]


async def test_several_symbols_survive_a_kill_at_every_append() -> None:
    """The trades, with the cash after each, are those of an undisturbed run."""
    stage = mixed(5, bars=40)
    reference = World.of(stage)
    journal = MortalJournal(reference.journal, 10**9, committed=True)
    await (await Session.begin(reference, journal=journal)).run()
    appends = 10**9 - journal.left
    for number in range(1, appends + 1, 2):
        world = World.of(stage)
        dying = await Session.begin(world, journal=MortalJournal(world.journal, number, committed=number % 4 == 1))
        with pytest.raises(Died):
            await dying.run()
        await (await Session.begin(world)).run()
        assert await world.trades() == await reference.trades(), f"killed at append {number}"


async def test_an_account_is_not_spent_twice_at_one_close() -> None:
    """Resting entries of one symbol count for the next one even before they are acknowledged by a fill."""
    world = await traded(together(SYMBOLS, NO_FEES))
    quantities = [intent.qty * 1000 for intent in await world.intents()]
    assert sum(quantities) <= 15_000
    assert quantities == [5000, 5000, 5000]


async def test_losses_while_away_count_for_the_day_in_which_they_happened() -> None:
    """I8: executions of all symbols are booked in the order of time, not symbol by symbol.

    Away over midnight: ETHUSDT loses 100 on the first day, BTCUSDT 100 on the second. The second day's loss is 100.
    """
    quiet, hit = FLAT, (985.0, 986.0, 970.0, 971.0)
    filled: Row = (1000, 1002, 998, 1000)
    first = series_of([quiet, quiet, filled, quiet, quiet, quiet, quiet, hit, quiet, quiet], symbol="BTCUSDT")
    other = series_of([quiet, quiet, filled, quiet, hit, quiet, quiet, quiet, quiet, quiet], symbol="ETHUSDT")
    said = {key: what for one in (first, other) for key, what in script({1: reading(1)}, one).items()}
    stage = Stage(series=[first, other], said=said, rules=FREE_RUN, terms=NO_FEES, instruments=RULES)
    there = await traded(replace(stage, series=[first.between(0, 9), other.between(0, 9)]))
    attended = (await Session.begin(there)).desk.book.results
    world, session = await away(stage, 3, 8)
    assert len(await world.trades()) == 2
    assert session.desk.book.results.day_pnl == -100
    assert session.desk.book.results == attended
