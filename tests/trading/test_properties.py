"""The arithmetic of the core as properties: sizes, roundings, trailing, the book, names, signals, the future."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests import structure
from tests.trading.rig import (
    BTC,
    COSTLY,
    START,
    Session,
    Stage,
    World,
    busy_walk,
    instrument,
    random_series,
    traded,
)
from trading import trailing
from trading.cycle import propose
from trading.events import Event, FundingPaid, OrderFilled
from trading.model import CandleSeries, Proposal, Purpose, Side
from trading.orders import OrderState, link_id_of, may_become
from trading.parameters import AccountTerms, TradeRules
from trading.portfolio import Book
from trading.risk import Approved, Exposure, Refused, Sized, size_entry
from trading.signals import RollingWindow, WholeSeries
from trading.strategy import Signals
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters

REPEATABLE = settings(derandomize=True, max_examples=200, deadline=None)
FEWER = settings(derandomize=True, max_examples=25, deadline=None)

TICKS = st.sampled_from(["0.1", "0.01", "0.5", "0.0001", "0.00001", "1", "10", "0.025"])
STEPS = st.sampled_from(["0.001", "0.01", "0.1", "1", "10", "0.005"])
MODIFIERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 0.0, 50.0, 1e308, 1.0000000001]),
)


# ---- sizes ---------------------------------------------------------------------------------------


@st.composite
def proposals(draw: st.DrawFn) -> tuple[Proposal, AccountTerms, Any]:
    """A proposal with terms and an instrument that fit it."""
    rules = instrument(tick=draw(TICKS), step=draw(STEPS), notional="5")
    ticks = draw(st.integers(10, 10**6))
    away = draw(st.integers(0, ticks * 2))
    side = draw(st.sampled_from(list(Side)))
    entry = rules.tick_size * ticks
    terms = AccountTerms(
        risk_per_trade=draw(st.floats(0, 1)),
        leverage=draw(st.floats(1, 100)),
        max_position_usdt=draw(st.floats(0, 1e7)),
        maker_fee=draw(st.floats(0, 0.01)),
        taker_fee=draw(st.floats(0, 0.01)),
    )
    proposal = Proposal(
        symbol=BTC,
        side=side,
        signal_time=START,
        interval=timedelta(hours=4),
        close=float(entry),
        entry=entry,
        stop=entry - side.sign * rules.tick_size * away,
        take_profit=None,
        take_profit_r=0.0,
        r_distance=float(rules.tick_size * away),
    )
    return proposal, terms, rules


@REPEATABLE
@given(
    case=proposals(),
    equity=st.decimals(-1000, 1_000_000, places=6),
    notional=st.floats(0, 1e6),
    margin=st.floats(0, 1e6),
    modifier=MODIFIERS,
)
def test_a_size_respects_every_cap(
    case: tuple[Proposal, AccountTerms, Any], equity: Decimal, notional: float, margin: float, modifier: float
) -> None:
    """Risk, notional and margin with what others use already; at most one millionth of a step above."""
    proposal, terms, rules = case
    sized = size_entry(
        proposal,
        equity=equity,
        terms=terms,
        instrument=rules,
        used=Exposure(notional=notional, margin=margin),
        size_modifier=modifier,
    )
    if isinstance(sized, Refused):
        return
    qty, price = Fraction(sized.qty), Fraction(proposal.entry)
    cash, hair = Fraction(equity), Fraction(rules.qty_step) / 10**6 + Fraction(sized.qty) / 10**12
    assert sized.qty % rules.qty_step == 0
    assert sized.qty >= rules.min_qty
    assert qty * price >= Fraction(rules.min_notional) * (1 - Fraction(1, 10**12))
    assert equity > 0
    distance = abs(price - Fraction(proposal.stop))
    shrink = Fraction(min(max(modifier, 0.0), 1.0))
    assert modifier > 0
    assert (qty - hair) * distance <= cash * Fraction(terms.risk_per_trade) * shrink
    assert (qty - hair) * price <= Fraction(terms.max_position_usdt) - Fraction(notional)
    rate = 1 / Fraction(terms.leverage) + Fraction(terms.maker_fee) + Fraction(terms.taker_fee)
    assert (qty - hair) * price * rate <= cash - Fraction(margin)
    assert distance / price < Fraction(8, 10) / Fraction(terms.leverage) * (1 + Fraction(1, 10**12))
    assert sized.risk_usdt == sized.qty * abs(proposal.entry - proposal.stop)
    by_risk = float(equity) * terms.risk_per_trade * float(shrink) / abs(float(proposal.entry) - float(proposal.stop))
    assert (sized.clamp == "") == (rules.floor_qty(by_risk) == sized.qty)
    assert sized.clamp == "" or sized.clamp.endswith(f"cut it from {rules.floor_qty(by_risk)} to {sized.qty}")


@REPEATABLE
@given(case=proposals(), equity=st.decimals(1, 100_000, places=2), modifier=MODIFIERS)
def test_no_modifier_enlarges(case: tuple[Proposal, AccountTerms, Any], equity: Decimal, modifier: float) -> None:
    """Whatever it is, the size is at most the base size; what is not above zero is no order."""
    proposal, terms, rules = case

    def size(by: float) -> Decimal:
        sized = size_entry(
            proposal, equity=equity, terms=terms, instrument=rules, used=Exposure(), size_modifier=by
        )
        return sized.qty if isinstance(sized, Sized) else Decimal(0)

    assert size(modifier) <= size(1.0)
    if not modifier > 0:
        assert size(modifier) == 0


@REPEATABLE
@given(step=STEPS, steps=st.integers(0, 10**9), over=st.floats(0, 0.999))
def test_a_quantity_is_floored(step: str, steps: int, over: float) -> None:
    """Whole steps, never one too many; a double just below a whole step counts as it (1e-9 of a step)."""
    rules = instrument(step=step)
    asked = float(rules.qty_step) * (steps + over)
    floored = rules.floor_qty(asked)
    assert floored % rules.qty_step == 0
    exact_steps = Fraction(asked) / Fraction(rules.qty_step)
    assert Fraction(floored) / Fraction(rules.qty_step) <= exact_steps + Fraction(1, 10**8) + exact_steps / 10**14
    assert Fraction(floored) / Fraction(rules.qty_step) > exact_steps - 1


@REPEATABLE
@given(tick=TICKS, price=st.floats(-1e7, 1e7))
def test_a_price_is_rounded_to_the_nearest_tick(tick: str, price: float) -> None:
    """Nearest against exact arithmetic wherever it is not within the tolerance of a half; halves from zero."""
    rules = instrument(tick=tick)
    rounded = rules.round_price(price)
    assert rounded % rules.tick_size == 0
    ticks = abs(Fraction(price)) / Fraction(rules.tick_size)
    distance_to_half = abs(ticks % 1 - Fraction(1, 2))
    assume(distance_to_half > Fraction(1, 10**8) + ticks / 10**13)
    assert abs(Fraction(rounded)) / Fraction(rules.tick_size) == math.floor(ticks + Fraction(1, 2))
    assert (rounded >= 0) if price >= 0 else (rounded <= 0)


@REPEATABLE
@given(tick=TICKS, halves=st.integers(0, 10**6), sign=st.sampled_from([1, -1]))
def test_half_a_tick_goes_away_from_zero(tick: str, halves: int, sign: int) -> None:
    """Decimal's own ROUND_HALF_UP (which is away from zero) on prices that lie exactly between two ticks."""
    rules = instrument(tick=tick)
    price = sign * rules.tick_size * (2 * halves + 1) / 2
    expected = (price / rules.tick_size).quantize(Decimal(1), ROUND_HALF_UP) * rules.tick_size
    assert rules.round_price(float(price)) == expected


@REPEATABLE
@given(
    close=st.floats(1, 1e6),
    r=st.floats(1e-6, 1e5),
    side=st.sampled_from(list(Side)),
    offset=st.floats(0, 0.2),
    target=st.floats(0, 20),
)
async def test_a_proposal_lies_on_the_tick_and_on_its_sides(
    close: float, r: float, side: Side, offset: float, target: float
) -> None:
    """Entry, stop and target are the page's, rounded: against Fractions, within half a tick."""
    stage = busy_walk(1, TradeRules(entry_offset=offset, take_profit_r=target), bars=3)
    session = await Session.begin(World.of(stage))
    candle = stage.series[0].candle(1)
    shaped = type(candle)(
        symbol=BTC,
        open_time=candle.open_time,
        interval=candle.interval,
        open=close,
        high=close,
        low=close,
        close=close,
        volume=1.0,
    )
    proposal = propose(session.desk.rules, session.desk.instruments[shaped.symbol], shaped, r, side)
    half = Fraction(5001, 100_000)
    entry = Fraction(proposal.entry)
    assert abs(entry - Fraction(close) * (1 - side.sign * Fraction(offset))) <= half
    assert abs(Fraction(proposal.stop) - (entry - side.sign * Fraction(r))) <= half
    assert (proposal.entry - proposal.stop) * side.sign >= 0
    if proposal.take_profit is None:
        assert target == 0
    else:
        assert abs(Fraction(proposal.take_profit) - (entry + side.sign * Fraction(target) * Fraction(r))) <= half


# ---- trailing ------------------------------------------------------------------------------------


@st.composite
def held(draw: st.DrawFn) -> tuple[trailing.Held, TradeRules, float]:
    """A position in ticks, with rules and a close."""
    side = draw(st.sampled_from(list(Side)))
    entry = draw(st.integers(5_000, 50_000))
    r = draw(st.integers(1, 2_000))
    stop = entry - side.sign * r + side.sign * draw(st.integers(0, 3 * r))
    best = entry + side.sign * draw(st.integers(0, 10 * r))
    close = best - side.sign * draw(st.integers(0, 3 * r))
    rules = TradeRules(
        trail_start_r=draw(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.5, 2.0])),
        trail_step_r=draw(st.sampled_from([0.25, 0.5, 1.0, 2.0])),
        trail_lag_r=draw(st.sampled_from([0.0, 0.5, 1.0, 2.0])),
    )
    position = trailing.Held(
        side=side,
        entry=Decimal(entry) / 10,
        r_distance=r / 10,
        stop=Decimal(stop) / 10,
        best=best / 10,
    )
    return position, rules, close / 10


def plain_level(gain: Fraction, r: Fraction, rules: TradeRules) -> Fraction | None:
    """Whole multiples of step, the first being the smallest at or above start: counted, not computed."""
    if rules.trail_start_r == 0:
        return None
    step, reached = Fraction(rules.trail_step_r), None
    level = step
    while level * r <= gain:
        if level >= Fraction(rules.trail_start_r):
            reached = level
        level += step
    return reached


@REPEATABLE
@given(case=held(), wants_out=st.booleans())
def test_a_trail_is_what_the_page_says(case: tuple[trailing.Held, TradeRules, float], wants_out: bool) -> None:
    """Level, stop and reason against counting in fractions; the stop never moves against the position."""
    position, rules, close = case
    ask = trailing.step(position, close, wants_out, rules, instrument())
    sign = position.side.sign
    assert (ask.stop - position.stop) * sign >= 0
    level = plain_level(
        sign * (Fraction(str(position.best)) - Fraction(position.entry)), Fraction(str(position.r_distance)), rules
    )
    assert ask.level_r == (float(level) if level is not None else 0.0)
    if level is None:
        assert ask.stop == position.stop
        assert (ask.exit is not None) == wants_out
        return
    follows = Fraction(position.entry) + sign * (level - Fraction(rules.trail_lag_r)) * Fraction(
        str(position.r_distance)
    )
    moved = Fraction(ask.stop) - follows
    assert abs(moved) <= Fraction(5001, 100_000) or ask.stop == position.stop
    assert sign * moved >= -Fraction(5001, 100_000)
    beyond = sign * (Fraction(ask.stop) - Fraction(str(close))) >= 0
    reasons = {True: "trailing", False: "signal" if wants_out else None}
    assert ask.exit == reasons[beyond]


@REPEATABLE
@given(
    side=st.sampled_from(list(Side)),
    bars=st.lists(st.tuples(st.integers(1, 500), st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=30),
)
def test_a_stop_only_ratchets(side: Side, bars: list[tuple[int, int, int]]) -> None:
    """Over any path the stop of a long never falls, that of a short never rises."""
    rules = TradeRules(trail_start_r=0.5, trail_step_r=0.5)
    best, stop = 100.0, Decimal(100) - side.sign * 10
    for close, up, down in bars:
        before = best
        best = trailing.best_of(side, best, False, close + up, max(close - down, 1), close)
        assert (best - before) * side.sign >= 0
        position = trailing.Held(side=side, entry=Decimal(100), r_distance=10.0, stop=stop, best=best)
        ask = trailing.step(position, float(close), False, rules, instrument())
        assert (ask.stop - stop) * side.sign >= 0
        stop = ask.stop


@pytest.mark.parametrize(("side", "best"), [(Side.LONG, 104.0), (Side.SHORT, 100.0)])
def test_of_the_entry_bar_only_the_close_counts(side: Side, best: float) -> None:
    """Its extremes may precede the fill at 100; later bars count with their high (low)."""
    assert trailing.best_of(side, 100.0, True, 120.0, 80.0, 104.0) == best
    assert trailing.best_of(side, 100.0, False, 120.0, 80.0, 104.0) == {Side.LONG: 120.0, Side.SHORT: 80.0}[side]


# ---- the book ------------------------------------------------------------------------------------


STAGES = [
    busy_walk(41, TradeRules(trail_start_r=0.5, trail_step_r=0.5, take_profit_r=2.0), bars=60),
    busy_walk(42, TradeRules(entry_ttl_bars=2, runaway_r=0.7, cooldown_bars=2), bars=60, hours=12),
]


async def history(stage: Stage) -> list[Event]:
    """The journal of one life."""
    return await (await traded(stage)).events()


@pytest.mark.parametrize("stage", STAGES, ids=["target", "expiry"])
async def test_money_booked_twice_counts_once(stage: Stage) -> None:
    """Every fill and payment delivered again at once, later, and all of them once more at the end."""
    events = await history(stage)
    once, twice = Book.opening(Decimal(10000)), Book.opening(Decimal(10000))
    paid: list[Event] = []
    for event in events:
        once.apply(event)
        twice.apply(event)
        if isinstance(event, OrderFilled | FundingPaid):
            before = twice.state()
            twice.apply(event)
            for old in paid[-5:]:
                twice.apply(old)
            assert twice.state() == before
            paid.append(event)
    for old in paid:
        twice.apply(old)
    assert len(paid) > 20
    assert once.state() == twice.state()


@pytest.mark.parametrize("stage", STAGES, ids=["target", "expiry"])
async def test_a_book_restored_anywhere_goes_on_equal(stage: Stage) -> None:
    """After every event: state → JSON → book is the same book, and ends the same."""
    events = await history(stage)
    whole = Book.opening(Decimal(10000))
    for event in events:
        whole.apply(event)
    straight = Book.opening(Decimal(10000))
    for number, event in enumerate(events):
        straight.apply(event)
        kept = json.loads(json.dumps(straight.state()))
        again = Book.restored(kept)
        assert again == straight
        assert list(again.booked) == list(straight.booked)
        if number % 17 == 0:
            for later in events[number + 1 :]:
                again.apply(later)
            assert again == whole


async def test_a_trade_and_the_cash_tell_the_same_story() -> None:
    """The pnl of all trades is what the cash has changed by; each trade knows the cash after it."""
    for stage in STAGES:
        world = await traded(stage)
        session = await Session.begin(world)
        trades = await world.trades()
        assert session.desk.book.cash == world.venue.cash
        if not world.venue.positions:
            assert sum((trade.pnl for trade in trades), Decimal(10000)) == pytest.approx(world.venue.cash)
        running = Book.opening(Decimal(10000))
        for event in await world.events():
            running.apply(event)
            if event in trades:
                assert running.cash == event.cash


@REPEATABLE
@given(path=st.lists(st.sampled_from(list(OrderState)), max_size=12))
def test_an_order_never_leaves_its_end(path: list[OrderState]) -> None:
    """Whatever is reported in whatever order: after an end there is nothing."""
    state = OrderState.INTENDED
    ends = {OrderState.FILLED, OrderState.CANCELLED, OrderState.REFUSED}
    for reported in path:
        if may_become(state, reported):
            assert state not in ends
            assert reported is not OrderState.INTENDED
            state = reported
    for end in ends:
        assert not any(may_become(end, other) for other in OrderState)


NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_", min_size=1, max_size=20)
MOMENTS = st.integers(0, 10**7).map(lambda minutes: START + timedelta(minutes=minutes))
WHAT = st.tuples(NAMES, NAMES, st.sampled_from(list(Purpose)), MOMENTS, NAMES | st.just(""))


@REPEATABLE
@given(one=WHAT, other=WHAT)
def test_link_ids_are_names(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """The same for the same, another for anything else; 36 characters of the exchange's alphabet at most."""
    name = link_id_of(*one)
    assert name == link_id_of(*one)
    assert len(name) <= 36
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert (name == link_id_of(*other)) == (one == other)


# ---- signals -------------------------------------------------------------------------------------


@REPEATABLE
@given(bars=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_latch_is_what_a_loop_says(bars: list[tuple[bool, bool]]) -> None:
    """On at a hazard, off at the next calm bar that is none."""
    hazard, calm = np.array([one for one, _ in bars]), np.array([other for _, other in bars])
    nothing = np.zeros(len(bars), dtype=bool)
    signals = Signals(
        side=nothing.astype(np.int8),
        stop_distance=nothing.astype(np.float64),
        exit_long=nothing,
        exit_short=nothing,
        hazard_long=hazard,
        hazard_short=hazard,
        calm=calm,
    )
    on, expected = False, []
    for is_hazard, is_calm in bars:
        on = is_hazard or (on and not is_calm)
        expected.append(on)
    assert signals.latched(hazard).tolist() == expected


PERIODS = {
    "default": EmaTrendParameters(),
    "short": EmaTrendParameters(ema_period=20, rsi_period=5, adx_period=5, atr_period=5),
    "a long ATR": EmaTrendParameters(ema_period=50, atr_period=100),
    "a long RSI": EmaTrendParameters(ema_period=50, rsi_period=100),
    "a long ADX": EmaTrendParameters(ema_period=50, adx_period=100),
}


@pytest.mark.parametrize("periods", list(PERIODS))
def test_a_rolling_window_reads_like_the_whole_series(periods: str) -> None:
    """Booleans equal, R equal to 1e-12, over a series long enough that the window has been cut several times.

    Wilder's smoothing forgets by (1 - 1/n) a bar: after 20 n bars e^-20 = 2e-9 is left.
    """
    series = random_series(np.random.default_rng(5), 9000, price=30_000.0)
    strategy = EmaTrend(PERIODS[periods])
    whole = WholeSeries(strategy, [series])
    kept = RollingWindow.wanted(strategy)
    begun = 4500
    rolling = RollingWindow(strategy, [series.between(0, begun)])
    worst = 0.0
    for row in range(begun):
        whole.read(series.candle(row))
    assert kept < 9000
    for row in range(begun, begun + 1500):
        candle = series.candle(row)
        one, other = whole.read(candle), rolling.read(candle)
        assert (one.side, *one[2:]) == (other.side, *other[2:])
        worst = max(worst, abs(one.r - other.r) / one.r)
        assert np.array_equal(
            rolling.window(BTC, 600).timestamp, whole.window(BTC, 600).timestamp
        )
    assert worst < 1e-12


def test_a_bar_older_than_the_window_is_not_read_as_its_last() -> None:
    """A history that reaches beyond the missed closes must not lend them the newest reading."""
    series = random_series(np.random.default_rng(6), 1500)
    rolling = RollingWindow(EmaTrend(EmaTrendParameters()), [series])
    with pytest.raises(Exception, match=r".+"):
        rolling.read(series.candle(1400))


# ---- the future ----------------------------------------------------------------------------------


def strategy_stage(seed: int, bars: int) -> Stage:
    """The real strategy with short periods on a lively walk: many trades."""
    series = random_series(np.random.default_rng(seed), bars, wobble=0.01)
    return Stage(
        series=[series], rules=TradeRules(take_profit_r=2.0, trail_step_r=0.5, trail_start_r=0.5), terms=COSTLY
    )


LIVELY = EmaTrend(
    EmaTrendParameters(
        ema_period=10, rsi_period=5, adx_period=5, adx_min=5.0, atr_period=5, sl_atr_multiplier=1.5, rsi_long_max=95
    )
)


def whole(stage: Stage, _: Book) -> WholeSeries:
    """Readings computed over the whole file."""
    return WholeSeries(LIVELY, list(stage.series))


def cut(stage: Stage, bars: int) -> Stage:
    """The same scenario without its future."""
    series: Sequence[CandleSeries] = [one.between(0, bars) for one in stage.series]
    return Stage(series=series, rules=stage.rules, terms=stage.terms)


@FEWER
@given(seed=st.integers(0, 10_000), at=st.integers(20, 219))
async def test_no_decision_knows_the_future(seed: int, at: int) -> None:
    """The journal of the shorter series is a beginning of the longer one's, event by event."""
    stage = strategy_stage(seed, 220)
    long = await (await traded(stage, signals=whole)).events()
    short = await (await traded(cut(stage, at), signals=whole)).events()
    assert long[: len(short)] == short


async def test_the_lively_strategy_trades() -> None:
    """The property above is not about empty journals."""
    world = await traded(strategy_stage(3, 220), signals=whole)
    assert len(await world.trades()) > 5


# ---- who approves --------------------------------------------------------------------------------


def test_only_the_seal_approves() -> None:
    """Nobody makes an `Approved` from outside."""
    with pytest.raises(TypeError):
        Approved("order", object())
    with pytest.raises(TypeError):
        Approved("order", None)


def test_only_risk_names_the_seal() -> None:
    """No other module of the program calls `Approved(…)` or reads the seal."""
    guilty = []
    for path in structure.product_files():
        if path.name == "risk.py" and path.parent.name == "trading":
            continue
        for node in ast.walk(structure.parsed(path)):
            called = isinstance(node, ast.Call) and name_of(node.func) == "Approved"
            named = isinstance(node, ast.Name | ast.Attribute) and name_of(node) == "_SEAL"
            if called or named:
                guilty.append(f"{path.name}:{node.lineno}")  # type: ignore[attr-defined]
    assert guilty == []


def name_of(node: ast.AST) -> str:
    """The last part of a name, whatever it is subscripted with."""
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
