"""A candidate that became a trade has a shadow that ended in the same bars, for the same reason, with the same R.

The trader trades series in memory with its council off, as `replay --council off` does. Beside it, from the candles
and the verdicts alone, every candidate is followed by `trading.shadows`; the trader's own shadows must say the same.
CONCLAVE_FULL_PARITY=1 takes the recorded files whole.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.backtest import strategy_of
from research.candidates import Track
from tests.parity.laboratory import candle_series, values_of
from tests.parity.series import KINDS, random_params
from tests.parity.test_mean_reversion import lively
from tests.parity.test_replay_parity import ETHUSDT, FULL, candles, recorded, seeded
from tests.trading.rig import Stage, traded
from trading.council.rules import NoCouncil
from trading.events import Event, OrderCancelled, ShadowEnded, TradeClosed, VerdictReached
from trading.model import CandleSeries, Instrument, Purpose
from trading.parameters import AccountTerms, TradeRules
from trading.shadows import Shadows
from trading.signals import BySymbol, WholeSeries
from trading.strategy import Strategy

EXACT = 1e-9
SLICE = 1_500  # bars of a recorded file in the quick test
LONG_SLICE = sys.maxsize if FULL else 3_000  # and in the slow one
TRADED = ("stop", "take_profit", "trailing", "signal")
STRATEGIES = ("ema_trend", "mean_reversion")
SETS = {"ema_trend": 2, "mean_reversion": 4}  # of each kind; a random set of the second seldom trades
PARAMS: dict[str, Any] = {"ema_trend": random_params, "mean_reversion": lively}


@dataclass(slots=True)
class Compared:
    """What agreed, by how it ended, and what did not; `on` is the series that is compared now."""

    on: str = ""
    agreed: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def differs(self, why: str) -> None:
        """Note it."""
        self.wrong.append(f"{self.on}: {why}")

    def tell(self, what: str) -> None:
        """One line for `pytest -rP`; fails when something differs."""
        trades = sum(count for how, count in self.agreed.items() if how in TRADED)
        sys.stdout.write(f"compared {what}: trades {trades} of {self.agreed.total()} candidates {dict(self.agreed)}\n")
        assert self.wrong == []


def terms_of(values: Mapping[str, Any]) -> tuple[TradeRules, AccountTerms, Instrument]:
    """A parameter set as the trader has it."""
    rules, terms = (
        kind(**{name: values[name] for name in kind.names() if name in values}) for kind in (TradeRules, AccountTerms)
    )
    names = ("tick_size", "qty_step", "min_qty", "min_notional")
    instrument = Instrument(symbol="BTCUSDT", **{name: Decimal(repr(values[name])) for name in names})
    assert isinstance(rules, TradeRules)
    assert isinstance(terms, AccountTerms)
    return rules, terms, instrument


def beside(track: Track, verdicts: list[VerdictReached]) -> list[ShadowEnded]:
    """The ends of these candidates, from the candles."""
    by_bar = {verdict.signal_time: verdict for verdict in verdicts}
    shadows, source, ended = Shadows(), WholeSeries(track.strategy, [track.series]), []
    for candle in track.series.candles():
        if candle.open_time in by_bar:
            shadows.add(by_bar[candle.open_time])
        said = source.read(candle)
        ended += shadows.close(candle, said, rules=track.rules, terms=track.terms, instrument=track.instrument)
    return ended


async def compare(series: CandleSeries, strategy: Strategy, values: Mapping[str, Any], into: Compared) -> None:
    """Trade the series, follow its candidates, and note every difference."""
    rules, terms, instrument = terms_of(values)
    stage = Stage(series=[series], rules=rules, terms=terms, instruments={"BTCUSDT": instrument})
    world = await traded(
        stage, signals=lambda stage, _: BySymbol.whole(lambda _: strategy, stage.series), council=NoCouncil()
    )
    events = await world.events()
    track = Track(series=series, strategy=strategy, rules=rules, terms=terms, instrument=instrument)
    verdicts = [event for event in events if isinstance(event, VerdictReached)]
    ended = beside(track, verdicts)
    own = [event for event in events if isinstance(event, ShadowEnded)]
    if own != ended:
        into.differs(f"the trader's own shadows tell {len(own)} ends, or others, instead of {len(ended)}")
    judge(events, verdicts, {end.verdict_id: end for end in ended}, into)


def judge(
    events: list[Event], verdicts: list[VerdictReached], ends: Mapping[int, ShadowEnded], into: Compared
) -> None:
    """Trades against shadows that ended, cancelled entries against unfilled ones, nothing against nothing."""
    trades = {event.verdict_id: event for event in events if isinstance(event, TradeClosed)}
    cancelled = [event for event in events if isinstance(event, OrderCancelled) and event.purpose is Purpose.ENTRY]
    gone = {event.verdict_id: event for event in cancelled if event.reason in {"expired", "run_away"}}
    for verdict in verdicts:
        number, end = verdict.verdict_id, ends.get(verdict.verdict_id)
        if (trade := trades.get(number)) is not None:
            found = trade_against(trade, end)
        elif number in gone:
            at = gone[number].at
            found = "" if end and (end.ended, end.at) == ("unfilled", at) else f"unfilled at {at}, not {end}"
        elif verdict.approved:
            found = "" if end is None else f"it has not ended, and not {end}"
        else:
            continue
        if found:
            into.differs(f"candidate {number}: {found}")
        else:
            into.agreed[end.ended if end else "not ended"] += 1


def trade_against(trade: TradeClosed, end: ShadowEnded | None) -> str:
    """Where the shadow of a trade differs from it; empty: nowhere."""
    if end is None or end.r is None or end.best_r is None or end.exit_price is None:
        return f"a trade, and its shadow is {end}"
    want = (trade.exit_reason.value, trade.signal_time, trade.entry_time, trade.exit_time, trade.side)
    got = (end.ended, end.signal_time, end.entry_time, end.exit_time, end.side)
    numbers = ((trade.r, end.r), (trade.best_r, end.best_r), (float(trade.exit_price), end.exit_price))
    near = all(math.isclose(a, b, rel_tol=EXACT, abs_tol=EXACT) for a, b in numbers)
    return "" if want == got and near else f"{end} instead of {trade}"


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_trades_of_synthetic_series_have_the_same_shadows(strategy: str) -> None:
    """Every kind of series under random sets: targets, trailing, short lives, runaways, costs, bars of 5 m to 1 d."""
    compared = Compared()
    for kind, make in KINDS.items():
        for number in range(SETS[strategy]):
            rng, compared.on = seeded("shadows", strategy, kind, number), f"{kind} {number}"
            series = make(rng)
            values = values_of(PARAMS[strategy](rng, series.price), strategy)
            bars = candle_series(series.bars, series.interval_ms)
            await compare(bars, strategy_of(strategy, values), values, compared)
    compared.tell(f"synthetic {strategy}")
    assert min(compared.agreed[how] for how in (*TRADED, "unfilled")) >= 5  # it was worth comparing


# Recorded series


def recorded_cases() -> list[Any]:
    """The files; without test data one case that says so."""
    cases = [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in recorded()]
    return cases or [pytest.param(None, marks=pytest.mark.skip(reason="CONCLAVE_TEST_DATA is not set"))]


def recorded_series(path: Path) -> tuple[CandleSeries, dict[str, float], float]:
    """The bars of a file, the rules of its instrument, and about what it costs."""
    bars, interval_ms = candles(path)
    rules = ETHUSDT if path.name.startswith("ETHUSDT") else {}
    return candle_series(bars, interval_ms), rules, float(np.median(bars["close"]))


@pytest.mark.parametrize("path", recorded_cases())
async def test_trades_of_a_recorded_slice_have_the_same_shadows(path: Path) -> None:
    """The newest bars of every file, under a random set of each strategy."""
    whole, instrument, price = recorded_series(path)
    compared = Compared()
    for strategy in STRATEGIES:
        compared.on = strategy
        values = values_of({**PARAMS[strategy](seeded("slice", path.name, strategy), price), **instrument}, strategy)
        await compare(whole.tail(SLICE), strategy_of(strategy, values), values, compared)
    compared.tell(path.stem)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("path", recorded_cases())
async def test_trades_of_recorded_series_have_the_same_shadows(path: Path, strategy: str) -> None:
    """More of every file: the defaults, the defaults with a target and a half-step trail, and a random set."""
    whole, instrument, price = recorded_series(path)
    compared = Compared()
    target = {"take_profit_r": 2.0, "trail_step_r": 0.5, "entry_ttl_bars": 1, "runaway_r": 0.5}
    for params in ({}, target, PARAMS[strategy](seeded("whole", path.name, strategy), price)):
        compared.on = str(params)
        values = values_of({**params, **instrument}, strategy)
        await compare(whole.tail(LONG_SLICE), strategy_of(strategy, values), values, compared)
    compared.tell(f"{path.stem} {strategy}")
