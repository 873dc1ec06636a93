"""Candidates that nobody trades, followed by the page: every way in and out, and what a restart must find again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from pydantic import TypeAdapter

from tests.trading.rig import (
    BTC,
    FEES,
    FOUR_HOURS,
    FREE_RUN,
    NO_FEES,
    START,
    Row,
    instrument,
    random_series,
    reading,
    series_of,
)
from trading.events import ShadowEnded, VerdictReached
from trading.model import ZERO, CandleSeries, Instrument, Side, exact
from trading.parameters import AccountTerms, TradeRules
from trading.shadows import Shadow, Shadows, follow, opened
from trading.signals import WholeSeries
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters

SIGNAL: Row = (1000, 1001, 999, 1000)
FILL: Row = (1000, 1001, 999, 1000)
CALM: Row = (1000, 1002, 998, 1001)
ETH = "ETHUSDT"


def verdict(
    side: Side = Side.LONG,
    *,
    number: int = 1,
    symbol: str = BTC,
    entry: float = 1000.0,
    r: float = 20.0,
    take_profit: float | None = None,
    at: datetime = START,
    interval: timedelta = FOUR_HOURS,
) -> VerdictReached:
    """A rejected candidate of the first bar, priced by hand."""
    return VerdictReached(
        at=at + interval,
        verdict_id=number,
        symbol=symbol,
        side=side,
        approved=False,
        gate="council",
        reasons=("no",),
        close=exact(entry),
        entry=exact(entry),
        stop=exact(entry - side.sign * r),
        take_profit=None if take_profit is None else exact(take_profit),
        r_distance=r,
        atr=r / 4,
        qty=ZERO,
        size_modifier=0.0,
        risk_usdt=ZERO,
        equity=Decimal(10_000),
        council="rules",
        signal_time=at,
    )


def followed(
    rows: Sequence[Row],
    event: VerdictReached | None = None,
    *,
    rules: TradeRules = FREE_RUN,
    terms: AccountTerms = NO_FEES,
    outs: Sequence[int] = (),
    interval: timedelta = FOUR_HOURS,
) -> ShadowEnded | None:
    """The end of a candidate of row 0 over these rows; the strategy wants out at the closes of `outs`."""
    shadow = opened(event or verdict())
    for row, candle in enumerate(series_of(rows, interval=interval).candles()):
        end = follow(shadow, candle, row in outs, rules=rules, terms=terms, instrument=instrument())
        if end is not None:
            return end
    return None


def told(end: ShadowEnded | None) -> tuple[str, int, int, float | None]:
    """How it ended, in which rows it was entered and left, and at what price."""
    assert end is not None
    assert end.entry_time is not None
    assert end.exit_time is not None
    return end.ended, (end.entry_time - START) // FOUR_HOURS, (end.exit_time - START) // FOUR_HOURS, end.exit_price


# The way in


def test_the_bar_of_the_signal_fills_nothing() -> None:
    """The entry rests from the next bar on, however low the signal's bar went."""
    assert followed([(1000, 1001, 900, 1000)]) is None


def test_a_price_that_only_touches_the_entry_does_not_fill_it() -> None:
    """Through, not at: with three bars that touch it the entry expires at the close of the third."""
    end = followed([SIGNAL, *[(1001, 1002, 1000, 1001)] * 3, (1000, 1001, 900, 950)])
    assert end is not None
    assert (end.ended, end.at, end.r, end.entry_time) == ("unfilled", START + 4 * FOUR_HOURS, None, None)


def test_an_entry_fills_at_its_own_price_even_when_the_bar_gaps_past_it() -> None:
    """The bar opens far below a long's entry: it is filled at the entry all the same."""
    end = followed([SIGNAL, (990, 991, 985, 990), (990, 991, 979, 985)])
    assert told(end) == ("stop", 1, 2, 980.0)
    assert end is not None
    assert end.r == -1.0


def test_an_entry_may_fill_in_the_last_bar_of_its_life() -> None:
    """Three bars of life: it fills in the third."""
    waits: Row = (1001, 1002, 1000, 1001)
    assert told(followed([SIGNAL, waits, waits, FILL, (980, 981, 970, 975)])) == ("stop", 3, 4, 980.0)


@pytest.mark.parametrize(("close", "ended"), [(1020.0, False), (1020.1, True)])
def test_an_entry_that_the_price_runs_away_from_is_cancelled(close: float, ended: bool) -> None:
    """Further than one R from the entry at a close, not at one R exactly."""
    rules = replace(FREE_RUN, runaway_r=1.0)
    assert (followed([SIGNAL, (1001, 1021, 1001, close)], rules=rules) is not None) is ended


@pytest.mark.parametrize(("r", "leverage"), [(0.0, 5.0), (160.0, 5.0), (40.0, 20.0)])
def test_what_the_page_never_sends_is_not_filled(r: float, leverage: float) -> None:
    """No stop distance, or a stop that would sit too near liquidation at this leverage."""
    terms = replace(NO_FEES, leverage=leverage)
    end = followed([SIGNAL, FILL], verdict(r=r), terms=terms)
    assert end is not None
    assert (end.ended, end.r) == ("unfilled", None)


# The way out


def test_the_bar_of_the_fill_can_stop_it_out() -> None:
    """At the stop, or at the open where that already lay beyond it."""
    assert told(followed([SIGNAL, (1001, 1002, 979, 1000)])) == ("stop", 1, 1, 980.0)
    assert told(followed([SIGNAL, (970, 990, 969, 980)])) == ("stop", 1, 1, 970.0)


def test_a_gap_through_the_stop_exits_at_the_open() -> None:
    """With the slippage of a market order."""
    end = followed([SIGNAL, FILL, (970, 1100, 960, 1090)], terms=replace(NO_FEES, slippage=0.001))
    assert told(end) == ("stop", 1, 2, 970 * 0.999)


def test_the_target_is_no_exit_in_the_bar_of_the_fill() -> None:
    """It is an order that is placed when the entry's bar has closed; then it fills through its price, at its price."""
    wanted = verdict(take_profit=1010.0)
    high: Row = (1000, 1020, 999, 1005)
    assert told(followed([SIGNAL, high, (1005, 1010, 1004, 1008), high], wanted)) == ("take_profit", 1, 3, 1010.0)


def test_a_bar_that_reaches_stop_and_target_is_a_stop() -> None:
    """Nobody knows which came first: the worse one counts."""
    end = followed([SIGNAL, FILL, (1000, 1100, 900, 1000)], verdict(take_profit=1010.0))
    assert told(end) == ("stop", 1, 2, 980.0)


def test_a_target_below_zero_is_never_reached() -> None:
    """A short whose target lies below zero keeps its stop alone."""
    wanted = verdict(Side.SHORT, take_profit=-10.0)
    assert told(followed([SIGNAL, (1000, 1001, 1, 999), (999, 1030, 990, 1000)], wanted)) == ("stop", 1, 2, 1020.0)


def test_the_stop_follows_a_step_behind() -> None:
    """Two R up, the stop lies one R above the entry; the fill's bar counts with its close alone."""
    rules = replace(FREE_RUN, trail_start_r=1.0)
    rows: list[Row] = [SIGNAL, (1000, 1060, 999, 1000), (1000, 1041, 1000.5, 1040), (1040, 1041, 1015, 1030)]
    end = followed(rows, rules=rules)
    assert told(end) == ("stop", 1, 3, 1020.0)
    assert end is not None
    assert end.r == 1.0
    assert end.best_r == pytest.approx(2.05)


def test_a_stop_beyond_the_close_exits_at_the_next_open() -> None:
    """Reason `trailing`, also where the strategy wants out at the same close."""
    rules = replace(FREE_RUN, trail_start_r=1.0, trail_lag_r=0.5)
    rows: list[Row] = [SIGNAL, FILL, (1000, 1042, 1000, 1025), (1031, 1032, 900, 1000)]
    assert told(followed(rows, rules=rules, outs=[2])) == ("trailing", 1, 3, 1031.0)


def test_the_signals_exit_is_at_the_next_open() -> None:
    """Before anything else of that bar, also in the bar of the fill."""
    assert told(followed([SIGNAL, FILL, CALM, (1005, 1006, 900, 950)], outs=[2])) == ("signal", 1, 3, 1005.0)
    assert told(followed([SIGNAL, FILL, (1005, 1006, 900, 950)], outs=[0, 1])) == ("signal", 1, 2, 1005.0)


def test_what_has_not_ended_has_no_end() -> None:
    """The bars end first: nothing is told."""
    assert followed([SIGNAL, FILL, CALM, CALM]) is None


# The money


def test_r_is_after_fees_and_slippage() -> None:
    """Maker in, taker out on the slipped price, over the distance from entry to stop."""
    end = followed([SIGNAL, FILL, CALM, (1010, 1011, 1009, 1010)], terms=FEES, outs=[2])
    price = 1010 * 0.999
    assert end is not None
    assert end.r == pytest.approx((price - 1000 - 1000 * 0.0002 - price * 0.0005) / 20, rel=1e-12)


def test_a_target_pays_as_a_maker() -> None:
    """No slippage, the smaller fee."""
    end = followed([SIGNAL, FILL, (1000, 1050, 999, 1040)], verdict(take_profit=1040.0), terms=FEES)
    assert end is not None
    assert end.exit_price == 1040.0
    assert end.r == pytest.approx((40 - 1000 * 0.0002 - 1040 * 0.0002) / 20, rel=1e-12)


@pytest.mark.parametrize(
    ("hours", "settled"),
    [(4, 1), (8, 2), (24, 6)],  # bars 2 and 3 of those that open at midnight; bars of a day hold three settlements
)
@pytest.mark.parametrize("side", list(Side))
def test_funding_is_paid_by_whoever_was_open_before_the_bar(side: Side, hours: int, settled: int) -> None:
    """On the open, for every settlement of the bar, the exit's bar included; a short receives it."""
    fills: Row = (1000, 1001, 999, 1000)
    rows: list[Row] = [SIGNAL, fills, (1010, 1012, 1008, 1010), (1010, 1012, 1008, 1010)]
    terms = replace(NO_FEES, funding_rate=0.001)
    interval = timedelta(hours=hours)
    end = followed(rows, verdict(side, interval=interval), terms=terms, outs=[2], interval=interval)
    assert end is not None
    assert end.r == pytest.approx(side.sign * (10 - settled * 1.01) / 20, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_a_short_mirrors_a_long(seed: int) -> None:
    """Upside down about its entry and without costs, a candidate comes to the same R in the same bars."""
    series = random_series(np.random.default_rng(seed), 60, wobble=0.01, tick=1.0)
    rows = list(zip(*(getattr(series, name).tolist() for name in ("open", "high", "low", "close")), strict=True))
    turned: list[Row] = [(2000 - open_, 2000 - low, 2000 - high, 2000 - close) for open_, high, low, close in rows]
    rules = TradeRules(entry_ttl_bars=8, trail_step_r=0.5)
    long = followed(rows, verdict(take_profit=1080.0), rules=rules, outs=[40])
    short = followed(turned, verdict(Side.SHORT, take_profit=920.0), rules=rules, outs=[40])
    assert long is not None
    assert short is not None
    assert (long.ended, long.entry_time, long.exit_time) == (short.ended, short.entry_time, short.exit_time)
    assert long.r == pytest.approx(short.r)
    assert long.best_r == pytest.approx(short.best_r)


# What is missing, and what comes twice


def test_a_bar_is_followed_once() -> None:
    """The same bars again change nothing."""
    rows: list[Row] = [SIGNAL, FILL, (1000, 1041, 1000, 1040)]
    once, twice = opened(verdict()), opened(verdict())
    for candle in series_of(rows).candles():
        for shadow, times in ((once, 1), (twice, 3)):
            for _ in range(times):
                follow(shadow, candle, False, rules=TradeRules(), terms=FEES, instrument=instrument())
    assert once == twice


def test_a_gap_in_the_bars_loses_a_candidate() -> None:
    """Nobody knows what happened in it."""
    series = series_of([SIGNAL, FILL, CALM, CALM])
    shadow = opened(verdict())
    assert follow(shadow, series.candle(1), False, rules=FREE_RUN, terms=NO_FEES, instrument=instrument()) is None
    end = follow(shadow, series.candle(3), False, rules=FREE_RUN, terms=NO_FEES, instrument=instrument())
    assert end is not None
    assert (end.ended, end.r, end.at) == ("lost", None, START + 4 * FOUR_HOURS)


def test_bars_of_another_length_lose_a_candidate() -> None:
    """Somebody has changed the timeframe: what was decided on bars of four hours does not go on on bars of one."""
    end = followed([SIGNAL, FILL], interval=timedelta(hours=1))
    assert end is not None
    assert end.ended == "lost"


def test_a_shadow_survives_its_snapshot() -> None:
    """Written as JSON in the middle of its way and read again, it is the same."""
    shadow, adapter = opened(verdict(take_profit=1300.0)), TypeAdapter(Shadow)
    for candle in series_of([SIGNAL, FILL, (1000, 1041, 1000, 1040)]).candles():
        follow(shadow, candle, candle.close == 1040, rules=TradeRules(), terms=FEES, instrument=instrument())
    assert shadow.due is not None
    written = json.dumps(adapter.dump_python(shadow, mode="json"))
    assert adapter.validate_python(json.loads(written)) == shadow


# The collection

STRATEGY = EmaTrend(
    EmaTrendParameters(
        ema_period=5, rsi_period=3, adx_period=3, adx_min=0.0, atr_period=5, sl_atr_multiplier=1.5, volume_ma_period=2
    )
)
RULES = TradeRules(trail_step_r=0.5, trail_lag_r=0.5)
INSTRUMENTS: Mapping[str, Instrument] = {BTC: instrument(), ETH: instrument(ETH)}


def candidates_of(series: CandleSeries) -> dict[int, VerdictReached]:
    """The candidates of a series by the row of their signal."""
    source = WholeSeries(STRATEGY, [series])
    found: dict[int, VerdictReached] = {}
    for row, candle in enumerate(series.candles()):
        said = source.read(candle)
        if said.side:
            side = Side.LONG if said.side > 0 else Side.SHORT
            r = float(instrument().round_price(said.r))
            found[row] = verdict(side, number=1 + len(found), entry=candle.close, r=r, at=candle.open_time)
    return found


def uninterrupted(series: CandleSeries) -> list[ShadowEnded]:
    """The ends of all candidates, as a program that never stops tells them."""
    wanted, source, shadows = candidates_of(series), WholeSeries(STRATEGY, [series]), Shadows()
    ended: list[ShadowEnded] = []
    for row, candle in enumerate(series.candles()):
        if row in wanted:
            shadows.add(wanted[row])
        said = source.read(candle)
        ended += shadows.close(candle, said, rules=RULES, terms=FEES, instrument=instrument(series.symbol))
    assert len(ended) + len(shadows) == len(wanted)
    return ended


def rebuilt(
    shadows: Shadows, waiting: Sequence[Shadow], history: CandleSeries, until: datetime | None = None
) -> list[ShadowEnded]:
    """`rebuild` with this file's strategy and terms."""
    known = {history.symbol: history}
    return shadows.rebuild(
        waiting, known, lambda _: STRATEGY, rules=RULES, terms=FEES, instruments=INSTRUMENTS, until=until
    )


def test_candidates_overlap_and_each_has_its_own_end() -> None:
    """Dozens of them at once on one symbol; another symbol's bars are no matter of theirs."""
    series = random_series(np.random.default_rng(3), 400)
    ended = uninterrupted(series)
    assert len(ended) > 50
    assert {"stop", "signal", "trailing"} <= {end.ended for end in ended}
    entries = [(end.entry_time, end.exit_time) for end in ended if end.entry_time and end.exit_time]
    assert any(a[0] < b[0] < a[1] for a in entries for b in entries)
    assert [end.at for end in ended] == sorted(end.at for end in ended)


def test_another_symbols_bars_are_no_matter() -> None:
    """A close takes only its own symbol's candidates further, and adding one twice is adding it once."""
    shadows = Shadows()
    for event in (verdict(), verdict(number=2, symbol=ETH), verdict()):
        shadows.add(event)
    assert [shadow.verdict_id for shadow in shadows] == [1, 2]
    candle = series_of([SIGNAL, (970, 990, 969, 980)]).candle(1)
    ended = shadows.close(candle, reading(), rules=FREE_RUN, terms=NO_FEES, instrument=instrument())
    assert [end.verdict_id for end in ended] == [1]
    assert [(shadow.verdict_id, shadow.entry_time) for shadow in shadows] == [(2, None)]


@pytest.mark.parametrize("killed", [30, 120, 250, 390])
def test_a_restart_finds_every_candidate_again(killed: int) -> None:
    """Whenever it comes: brought up to date from history, they end as those of a program that never stopped."""
    series = random_series(np.random.default_rng(3), 400)
    wanted, expected = candidates_of(series), uninterrupted(series)
    at = series.candle(killed).close_time
    told_before = {end.verdict_id for end in expected if end.at <= at}
    waiting = [
        opened(event) for row, event in wanted.items() if row <= killed and event.verdict_id not in told_before
    ]
    untouched, shadows = [replace(shadow) for shadow in waiting], Shadows()
    assert rebuilt(shadows, waiting, series.between(0, killed + 1)) == []
    assert waiting == untouched  # the book's own stay as they were at the decision
    source = WholeSeries(STRATEGY, [series])
    ended: list[ShadowEnded] = []
    for row, candle in enumerate(series.candles()):
        said = source.read(candle)  # bars before the kill come again, as after one between decision and mark
        if row > killed and row in wanted:
            shadows.add(wanted[row])
        ended += shadows.close(candle, said, rules=RULES, terms=FEES, instrument=instrument())
    assert ended == [end for end in expected if end.at > at]


def test_what_ended_meanwhile_is_told_at_the_start() -> None:
    """History that goes further than the program came: up to its end, or to the close that is asked for."""
    series = random_series(np.random.default_rng(3), 400)
    expected = uninterrupted(series)
    waiting = [opened(event) for event in candidates_of(series).values()]
    assert sorted(rebuilt(Shadows(), waiting, series), key=_number) == sorted(expected, key=_number)
    until = series.candle(200).close_time
    early = rebuilt(Shadows(), waiting, series, until=until)
    assert sorted(early, key=_number) == sorted((end for end in expected if end.at <= until), key=_number)


def _number(end: ShadowEnded) -> int:
    return end.verdict_id


def test_bars_before_the_history_are_lost() -> None:
    """A candidate whose next bar history does not have has no outcome; the others have theirs."""
    series = random_series(np.random.default_rng(3), 400)
    wanted = candidates_of(series)
    known, shadows = series.between(100, 400), Shadows()
    ended = {end.verdict_id: end for end in rebuilt(shadows, [opened(event) for event in wanted.values()], known)}
    before = {event.verdict_id for row, event in wanted.items() if row < 99}
    assert before
    assert {number for number, end in ended.items() if end.ended == "lost"} == before
    assert {row for row, event in wanted.items() if event.verdict_id not in ended} <= set(range(99, 400))


def test_a_symbol_without_history_is_lost_and_an_empty_one_waits() -> None:
    """The one is traded no more, the other has only just begun."""
    shadows = Shadows()
    waiting = [opened(verdict()), opened(verdict(number=2, symbol=ETH))]
    ended = rebuilt(shadows, waiting, series_of([]))
    assert [(end.verdict_id, end.ended) for end in ended] == [(2, "lost")]
    assert [shadow.verdict_id for shadow in shadows] == [1]


def test_a_cut_off_history_only_warms_the_indicators_at_first() -> None:
    """As long as the running window, it begins somewhere: what was decided on its first bars has other readings."""
    series = random_series(np.random.default_rng(3), 1600)
    wanted = candidates_of(series)
    ended = rebuilt(Shadows(), [opened(event) for event in wanted.values()], series)
    warm = 10 * STRATEGY.longest_period
    lost = {end.verdict_id for end in ended if end.ended == "lost"}
    assert lost == {event.verdict_id for row, event in wanted.items() if row < warm - 1}
    assert lost
