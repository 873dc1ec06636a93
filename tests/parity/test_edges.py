"""Every edge of `spec/strategy.md` on a few hand-made bars, with the numbers worked out by hand.

Each test asks the plain page and the program one question (fixture `engine`) and holds both to the arithmetic
written in the test. The stage is always the same, so the numbers can be followed:

- Thirty bars of warm-up around 1000, true range exactly 10: ATR(2) = 10 and EMA(20) = 1000 at bar 29.
- Bar T = 30 is the signal bar: it closes at 1004 (996 for a short) and also has a true range of 10.
- Volume is the switch: it rises on the bars in `on`; elsewhere it falls below its mean of two: no signal.
- With `sl_atr_multiplier` 2: R = 20. Long: L = 1004, stop 984. Short: L = 996, stop 1016.
  Size 10000 * 0.01 / 20 = 5. Maker 0.0002, taker 0.0005, slippage 0.001.
- A short's bars are the long's bars mirrored about 1000: price -> 2000 - price.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parity.conftest import Engine
from tests.parity.plain import DEFAULTS, nearest_tick, simulate, whole_steps
from tests.parity.product import product, refused, replay_arguments
from tests.parity.series import Bars, write_candles

Row = tuple[float, float, float, float]  # open, high, low, close

HOUR = 3_600_000
DAY = 24 * HOUR
START = 1_700_006_400_000  # 2023-11-15 00:00 UTC; at one-hour bars T + 2 opens on a settlement (32 h later)
T = 30

STAGE: dict[str, float] = {
    "ema_period": 20,
    "rsi_period": 14,
    "rsi_long_max": 101,
    "rsi_short_min": 0,
    "adx_period": 2,
    "adx_min": 0,
    "atr_period": 2,
    "sl_atr_multiplier": 2,
    "take_profit_r": 0,
    "trail_start_r": 0,
    "trail_step_r": 1,
    "trail_lag_r": 1,
    "bb_period": 2,
    "bb_std": 2,
    "volume_ma_period": 2,
    "knife_lookback": 3,
    "knife_atr": 1000,
    "entry_offset": 0,
    "entry_ttl_bars": 3,
    "runaway_r": 100,
    "cooldown_bars": 0,
    "initial_equity": 10_000,
    "risk_per_trade": 0.01,
    "leverage": 5,
    "max_position_usdt": 15_000,
    "maker_fee": 0.0002,
    "taker_fee": 0.0005,
    "slippage": 0.001,
    "funding_rate": 0,
    "tick_size": 0.1,
    "qty_step": 0.001,
    "min_qty": 0.001,
    "min_notional": 5,
}

SIGNAL: Row = (1000, 1006, 996, 1004)
FILL: Row = (1004, 1006, 1002, 1004)
MISS: Row = (1004, 1010, 1004, 1008)  # touches L = 1004 and does not go through it
CRASH: Row = (500, 510, 490, 500)  # far below every stop of a long
QUIET: Row = (1010, 1012, 1008, 1010)


def at(offset: int, interval_ms: int = HOUR) -> int:
    """The open time of bar T + offset."""
    return START + (T + offset) * interval_ms


def warm_up() -> list[Row]:
    """Thirty bars around 1000, each with a true range of 10; one rise and one fall of 1 or 2 for the RSI."""
    closes = [1000.0, 1001.0, 999.0] + [1000.0] * (T - 3)
    before = [1000.0, *closes[:-1]]
    return [(b, b + 5, b - 5, c) for b, c in zip(before, closes, strict=True)]


def mirror(rows: Iterable[Row]) -> list[Row]:
    """The same bars upside down about 1000."""
    return [(2000 - o, 2000 - low, 2000 - high, 2000 - c) for o, high, low, c in rows]


def bars_of(rows: list[Row], volume: list[float], interval_ms: int = HOUR) -> Bars:
    """Rows as a bars dict with gapless times from START."""
    o, high, low, c = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    times = START + np.arange(len(rows), dtype=np.int64) * interval_ms
    return {"timestamp": times, "open": o, "high": high, "low": low, "close": c, "volume": np.array(volume)}


def scene(*rows: Row, on: Iterable[int] = (0,), side: str = "long", interval_ms: int = HOUR) -> Bars:
    """Warm-up, then `rows` from bar T on; the volume rises on the bars T + `on` and falls on all others."""
    switched = {T + offset for offset in on}
    volume, v = [], 1_000.0
    for k in range(T + len(rows)):
        v = v * 1.5 if k in switched else v * 0.95
        volume.append(v)
    every = warm_up() + list(rows)
    return bars_of(mirror(every) if side == "short" else every, volume, interval_ms)


def ask(
    engine: Engine,
    bars: Bars,
    *,
    interval_ms: int = HOUR,
    funding: Mapping[int, float] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The stage's parameters with `changes`."""
    return engine(bars, {**STAGE, **changes}, interval_ms=interval_ms, funding=funding)


def only_trade(result: dict[str, Any]) -> dict[str, Any]:
    """The one trade there is, and nothing left open."""
    assert len(result["trades"]) == 1
    assert result["open_position"] is None
    trade = result["trades"][0]
    assert isinstance(trade, dict)
    return trade


def exact(value: float) -> Any:
    """Equal to 1e-9, the precision of money."""
    return pytest.approx(value, rel=1e-9, abs=1e-9)


def nothing(result: dict[str, Any]) -> bool:
    """No trade and no position."""
    return result["trades"] == [] and result["open_position"] is None


# Inside a bar, steps 2 and 3: exit due, stop through the gap


def test_step_3_gap_through_the_stop_long(engine: Engine) -> None:
    """Step 3: a long whose bar opens at 980, below its stop of 984, leaves at the open, less slippage."""
    trade = only_trade(ask(engine, scene(SIGNAL, FILL, (980, 990, 975, 985))))
    assert trade["side"] == "long"
    assert (trade["signal_time"], trade["entry_time"], trade["exit_time"]) == (at(0), at(1), at(2))
    assert (trade["entry_price"], trade["qty"], trade["exit_reason"]) == (1004.0, 5.0, "stop")
    assert trade["exit_price"] == exact(979.02)  # 980 * 0.999
    # 5 * (979.02 - 1004) = -124.9; fees 5 * 1004 * 0.0002 = 1.004 and 5 * 979.02 * 0.0005 = 2.44755
    assert trade["pnl"] == exact(-128.35155)
    assert trade["r"] == exact(-1.2835155)  # over 5 * 20


def test_step_3_gap_through_the_stop_short(engine: Engine) -> None:
    """Step 3 mirrored: a short whose bar opens at 1020, above its stop of 1016, buys there, plus slippage."""
    trade = only_trade(ask(engine, scene(SIGNAL, FILL, (980, 990, 975, 985), side="short")))
    assert trade["side"] == "short"
    assert (trade["signal_time"], trade["entry_time"], trade["exit_time"]) == (at(0), at(1), at(2))
    assert (trade["entry_price"], trade["qty"], trade["exit_reason"]) == (996.0, 5.0, "stop")
    assert trade["exit_price"] == exact(1021.02)  # 1020 * 1.001
    # -5 * (1021.02 - 996) = -125.1; fees 5 * 996 * 0.0002 = 0.996 and 5 * 1021.02 * 0.0005 = 2.55255
    assert trade["pnl"] == exact(-128.64855)


@pytest.mark.parametrize(("low", "stopped_at"), [(984.0, 2), (984.1, 3)])
def test_step_5_stop_is_hit_by_a_touch(engine: Engine, low: float, stopped_at: int) -> None:
    """Step 5: `low <= stop` is a touch at 984, and 984.1 is none; the exit is at the stop, less slippage."""
    rows = (SIGNAL, FILL, (1004, 1005, low, 1003), (1003, 1004, 984, 1000))
    trade = only_trade(ask(engine, scene(*rows)))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(stopped_at), "stop")
    assert trade["exit_price"] == exact(983.016)  # 984 * 0.999


def test_step_2_due_exit_comes_before_the_gapped_stop(engine: Engine) -> None:
    """Step 2 before step 3: an exit due at an open below the stop keeps its own reason."""
    rows = (SIGNAL, FILL, (1004, 1005, 989, 990), (970, 975, 960, 970))
    trade = only_trade(ask(engine, scene(*rows)))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), "signal")
    assert trade["exit_price"] == exact(969.03)  # 970 * 0.999


# Step 4: the resting entry


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_4_fills_through_the_price_not_at_it(engine: Engine, side: str) -> None:
    """Step 4: a bar that only touches L does not fill; one that goes a tick through does, at exactly L."""
    rows = (SIGNAL, MISS, (1008, 1012, 1003.9, 1008), CRASH)
    trade = only_trade(ask(engine, scene(*rows, side=side)))
    assert (trade["signal_time"], trade["entry_time"]) == (at(0), at(2))
    assert trade["entry_price"] == (1004.0 if side == "long" else 996.0)


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_4_fills_at_its_price_when_the_bar_gapped_past_it(engine: Engine, side: str) -> None:
    """Step 4: the bar never trades at L (its high is 1003.5), and the fill is at exactly L all the same."""
    trade = only_trade(ask(engine, scene(SIGNAL, (1002, 1003.5, 1001, 1003), CRASH, side=side)))
    assert trade["entry_time"] == at(1)
    assert trade["entry_price"] == (1004.0 if side == "long" else 996.0)


# Step 5: entry and stop in one bar


@pytest.mark.parametrize(
    ("bar", "leave_at"),
    [
        pytest.param((1004, 1005, 984, 990), 984.0, id="falls-to-the-stop"),
        pytest.param((990, 995, 983, 992), 984.0, id="opens-between"),
        pytest.param((983, 1004, 980, 1003), 983.0, id="opens-below-the-stop"),
        pytest.param((984, 1004, 984, 1003), 984.0, id="opens-at-the-stop"),
    ],
)
def test_step_5_entry_and_stop_in_one_bar_long(engine: Engine, bar: Row, leave_at: float) -> None:
    """Step 5: filled at exactly L, and out in the same bar at the stop, or at the open if that is beyond."""
    trade = only_trade(ask(engine, scene(SIGNAL, bar, QUIET)))
    assert (trade["entry_time"], trade["exit_time"], trade["exit_reason"]) == (at(1), at(1), "stop")
    assert trade["entry_price"] == 1004.0
    assert trade["exit_price"] == exact(leave_at * 0.999)
    assert trade["pnl"] == exact(5 * (leave_at * 0.999 - 1004) - 1.004 - 5 * leave_at * 0.999 * 0.0005)


@pytest.mark.parametrize(
    ("bar", "leave_at"),
    [
        pytest.param((1004, 1005, 984, 990), 1016.0, id="rises-to-the-stop"),
        pytest.param((983, 1004, 980, 1003), 1017.0, id="opens-above-the-stop"),
    ],
)
def test_step_5_entry_and_stop_in_one_bar_short(engine: Engine, bar: Row, leave_at: float) -> None:
    """Step 5 mirrored: bought back at the stop, or at the open when that is beyond it, plus slippage."""
    trade = only_trade(ask(engine, scene(SIGNAL, bar, QUIET, side="short")))
    assert (trade["entry_time"], trade["exit_time"], trade["exit_reason"]) == (at(1), at(1), "stop")
    assert trade["entry_price"] == 996.0
    assert trade["exit_price"] == exact(leave_at * 1.001)
    assert trade["pnl"] == exact(-5 * (leave_at * 1.001 - 996) - 0.996 - 5 * leave_at * 1.001 * 0.0005)


# Step 6: take profit


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_6_the_stop_wins_over_the_take_profit(engine: Engine, side: str) -> None:
    """Step 6: a bar that reaches both the stop and the target is a stop."""
    rows = (SIGNAL, FILL, (1004, 1030, 983, 1010))
    trade = only_trade(ask(engine, scene(*rows, side=side), take_profit_r=1))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(2), "stop")
    # 984 * 0.999 and 1016 * 1.001
    assert trade["exit_price"] == exact(983.016 if side == "long" else 1017.016)


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_6_no_take_profit_on_the_entry_bar(engine: Engine, side: str) -> None:
    """Step 6: the entry bar closes beyond the target; the exit is in the next bar, at exactly the target."""
    rows = (SIGNAL, (1004, 1030, 1002, 1028), (1027, 1028, 1026, 1027), QUIET)
    trade = only_trade(ask(engine, scene(*rows, side=side), take_profit_r=1))
    assert (trade["entry_time"], trade["exit_time"], trade["exit_reason"]) == (at(1), at(2), "take_profit")
    if side == "long":
        assert trade["exit_price"] == 1024.0
        assert trade["pnl"] == exact(97.972)  # 5 * 20 - 1.004 - 5 * 1024 * 0.0002, both fees maker
    else:
        assert trade["exit_price"] == 976.0
        assert trade["pnl"] == exact(98.028)  # 5 * 20 - 0.996 - 5 * 976 * 0.0002


@pytest.mark.parametrize(
    ("bar", "leaves"),
    [
        pytest.param((1010, 1024, 1008, 1020), False, id="touch"),
        pytest.param((1010, 1024.1, 1008, 1020), True, id="through"),
        pytest.param((1040, 1045, 1038, 1042), True, id="gapped-past"),
    ],
)
def test_step_6_take_profit_fills_through_its_price(engine: Engine, bar: Row, leaves: bool) -> None:
    """Step 6: a touch of 1024 is no fill, a tick through is; a gap beyond it still fills at 1024 exactly."""
    result = ask(engine, scene(SIGNAL, FILL, bar), take_profit_r=1)
    if leaves:
        assert only_trade(result)["exit_price"] == 1024.0
    else:
        assert result["trades"] == []
        assert result["open_position"] is not None


def test_entry_1_take_profit_counts_from_the_unrounded_r(engine: Engine) -> None:
    """Entry 1: R = 1.97 * 10 = 19.7; stop round(984.3) = 984.5; target round(1004 + 2 * 19.7) = 1043.5."""
    rows = (SIGNAL, FILL, (1030, 1050, 1020, 1040))
    result = ask(engine, scene(*rows), take_profit_r=2, sl_atr_multiplier=1.97, tick_size=0.5)
    trade = only_trade(result)
    assert trade["exit_price"] == 1043.5
    assert trade["qty"] == 5.128  # 100 / 19.5 = 5.12820…
    # 5.128 * (39.5 - 0.0002 * (1004 + 1043.5)), over 5.128 * 19.5
    assert trade["r"] == exact((39.5 - 0.4095) / 19.5)


# Step 7: at the close


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_7a_the_entry_bars_high_does_not_count(engine: Engine, side: str) -> None:
    """Step 7a: the entry bar's high of 1050 is not `best`, its close of 1006 is; the stop does not move."""
    rows = (SIGNAL, (1004, 1050, 1003, 1006), (1006, 1010, 1003, 1008), (1008, 1009, 984, 1000))
    trade = only_trade(ask(engine, scene(*rows, side=side), trail_start_r=1))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), "stop")
    assert trade["exit_price"] == exact(983.016 if side == "long" else 1017.016)


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_7a_the_entry_bars_close_counts(engine: Engine, side: str) -> None:
    """Step 7a: the entry bar closes at 1026, 1.1 R up: m = 1, and the stop goes to 1004 + (1 - 1) * 20."""
    rows = (SIGNAL, (1004, 1050, 1003, 1026), (1026, 1027, 1004, 1020))
    trade = only_trade(ask(engine, scene(*rows, side=side), trail_start_r=1))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(2), "stop")
    assert trade["exit_price"] == exact(1002.996 if side == "long" else 996.996)  # 1004 * 0.999, 996 * 1.001


def test_step_7b_the_stop_moves_only_at_the_close(engine: Engine) -> None:
    """Step 7b: a bar that reaches 1030 and falls to 1001 is not stopped at 1004; the next one is."""
    rows = (SIGNAL, FILL, (1004, 1030, 1001, 1015), (1015, 1016, 1003.9, 1010))
    trade = only_trade(ask(engine, scene(*rows), trail_start_r=1))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), "stop")
    assert trade["exit_price"] == exact(1002.996)


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_7b_steps_and_lag(engine: Engine, side: str) -> None:
    """Step 7b: step 0.5, start 1.5, lag 1.2: none at 1.4 R; at 1.5 R the stop goes 0.3 R past the entry."""
    rows = (
        SIGNAL,
        FILL,
        (1004, 1032, 1003, 1030),  # best 1032, 28 / 10 -> m = 1.0, below the start
        (1030, 1034, 999, 1030),  # best 1034, 30 / 10 -> m = 1.5, stop 1004 + 0.3 * 20 = 1010
        (1030, 1031, 1010, 1020),
    )
    result = ask(engine, scene(*rows, side=side), trail_start_r=1.5, trail_step_r=0.5, trail_lag_r=1.2)
    trade = only_trade(result)
    assert (trade["exit_time"], trade["exit_reason"]) == (at(4), "stop")
    assert trade["exit_price"] == exact(1008.99 if side == "long" else 990.99)  # 1010 * 0.999, 990 * 1.001


def test_step_7b_the_first_level_is_the_smallest_multiple_at_or_above_the_start(engine: Engine) -> None:
    """Step 7b: step 1, start 1.5: nothing at 1.9 R, the first level is 2 R, and the stop goes to 1 R."""
    rows = (
        SIGNAL,
        FILL,
        (1004, 1042, 1003, 1040),  # 1.9 R
        (1040, 1044, 1003, 1040),  # 2 R: stop 1024, from the close on
        (1040, 1041, 1024, 1030),
    )
    trade = only_trade(ask(engine, scene(*rows), trail_start_r=1.5))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(4), "stop")
    assert trade["exit_price"] == exact(1022.976)  # 1024 * 0.999


def test_step_7b_the_stop_never_goes_back(engine: Engine) -> None:
    """Step 7b: with a lag of 3 R the level of 1 R asks for 964, and the stop stays at 984."""
    rows = (SIGNAL, FILL, (1004, 1030, 1003, 1020), (1020, 1021, 984, 1000))
    trade = only_trade(ask(engine, scene(*rows), trail_start_r=1, trail_lag_r=3))
    assert (trade["exit_time"], trade["exit_price"]) == (at(3), exact(983.016))


def test_step_7b_a_level_reached_to_the_last_bit_is_reached(engine: Engine) -> None:
    """Step 7b: R = 3, step 0.1: 1004.3 - 1004 is 0.29999…95 in doubles, and still the first level."""
    rows = (SIGNAL, (1004, 1004.3, 1003.9, 1004), (1004, 1004.3, 1003, 1004.2), (1004, 1004.2, 1003, 1004))
    result = ask(
        engine,
        scene(*rows),
        sl_atr_multiplier=0.3,
        trail_start_r=0.1,
        trail_step_r=0.1,
        trail_lag_r=0,
    )
    trade = only_trade(result)  # stop 1004 + 0.1 * 3 = 1004.3, beyond the close of 1004.2
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), "trailing")
    assert trade["exit_price"] == exact(1002.996)


def test_step_7b_trailing_off(engine: Engine) -> None:
    """Step 7: `trail_start_r` 0 turns trailing off; the first stop is the last."""
    rows = (SIGNAL, FILL, (1004, 1100, 1003, 1090), (1090, 1091, 984, 1010))
    trade = only_trade(ask(engine, scene(*rows), trail_start_r=0))
    assert (trade["exit_time"], trade["exit_price"]) == (at(3), exact(983.016))


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_7c_a_stop_ratcheted_beyond_the_close_leaves_at_the_next_open(engine: Engine, side: str) -> None:
    """Step 7c: lag 0.5 puts the stop at 1014, the close is 1012: out at the next open, reason trailing."""
    rows = (SIGNAL, FILL, (1004, 1030, 1004, 1012), (1013, 1015, 900, 1010))
    trade = only_trade(ask(engine, scene(*rows, side=side), trail_start_r=1, trail_lag_r=0.5))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), "trailing")
    assert trade["exit_price"] == exact(1011.987 if side == "long" else 987.987)  # 1013 * 0.999, 987 * 1.001


@pytest.mark.parametrize(("close", "reason"), [(1014.0, "trailing"), (1014.1, "stop")])
def test_step_7c_at_the_close_is_beyond_it(engine: Engine, close: float, reason: str) -> None:
    """Step 7c: a close of 1014 is at the stop: trailing. 1014.1 is not; the open of 1013 gaps the stop."""
    rows = (SIGNAL, FILL, (1004, 1030, 1004, close), (1013, 1015, 1012, 1014))
    trade = only_trade(ask(engine, scene(*rows), trail_start_r=1, trail_lag_r=0.5))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), reason)
    assert trade["exit_price"] == exact(1011.987)


def test_step_7c_comes_before_7d(engine: Engine) -> None:
    """Step 7c before 7d: a close of 995 is under the stop of 1014 and under the EMA: reason trailing."""
    rows = (SIGNAL, FILL, (1004, 1030, 990, 995), (996, 997, 995, 996))
    trade = only_trade(ask(engine, scene(*rows), trail_start_r=1, trail_lag_r=0.5))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), "trailing")
    assert trade["exit_price"] == exact(995.004)  # 996 * 0.999


@pytest.mark.parametrize("side", ["long", "short"])
def test_step_7d_signal_exit_at_the_next_open_with_slippage(engine: Engine, side: str) -> None:
    """Step 7d: a close of 990 under the EMA of about 1000: out at the next open of 992."""
    rows = (SIGNAL, FILL, (1004, 1005, 989, 990), (992, 993, 991, 992))
    trade = only_trade(ask(engine, scene(*rows, side=side)))
    assert (trade["exit_time"], trade["exit_reason"]) == (at(3), "signal")
    if side == "long":
        assert trade["exit_price"] == exact(991.008)  # 992 * 0.999
        assert trade["pnl"] == exact(5 * (991.008 - 1004) - 1.004 - 5 * 991.008 * 0.0005)
    else:
        assert trade["exit_price"] == exact(1009.008)  # 1008 * 1.001
        assert trade["pnl"] == exact(-5 * (1009.008 - 996) - 0.996 - 5 * 1009.008 * 0.0005)


def test_step_7d_holds_on_the_entry_bar_too(engine: Engine) -> None:
    """Step 7d: an entry bar that closes under the EMA is left at the next open."""
    rows = (SIGNAL, (1004, 1005, 989, 990), (992, 993, 991, 992))
    trade = only_trade(ask(engine, scene(*rows)))
    assert (trade["entry_time"], trade["exit_time"], trade["exit_reason"]) == (at(1), at(2), "signal")


# Entry, steps 3 and 4: life and death of the resting order


@pytest.mark.parametrize(
    ("ttl", "filled_in", "fills"), [(3, 3, True), (3, 4, False), (1, 1, True), (1, 2, False), (5, 5, True)]
)
def test_entry_3_rests_until_t_plus_ttl(engine: Engine, ttl: int, filled_in: int, fills: bool) -> None:
    """Entry 3 and 4: it may fill in bar t + ttl and not in the one after."""
    through: Row = (1008, 1012, 1003.9, 1008)
    rows = [SIGNAL] + [MISS] * (filled_in - 1) + [through, CRASH]
    result = ask(engine, scene(*rows), entry_ttl_bars=ttl)
    if fills:
        assert only_trade(result)["entry_time"] == at(filled_in)
    else:
        assert nothing(result)


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize(("close", "fills"), [(1024.0, True), (1024.1, False)])
def test_entry_4_run_away(engine: Engine, side: str, close: float, fills: bool) -> None:
    """Entry 4: a close exactly 1 R from L leaves the order, one tick more cancels it."""
    rows = (SIGNAL, (1004, 1060, 1004, close), (1008, 1012, 1003.9, 1008), CRASH)
    result = ask(engine, scene(*rows, side=side), runaway_r=1)
    if fills:
        assert only_trade(result)["entry_time"] == at(2)
    else:
        assert nothing(result)


def test_entry_4_an_expired_entry_frees_the_same_close(engine: Engine) -> None:
    """Entry 4: the order expires at the close of t + 3; the edge of that very close is the next order."""
    rows = (
        SIGNAL,
        (1004, 1014, 1004, 1010),
        (1010, 1016, 1006, 1012),
        (1012, 1018, 1008, 1014),  # expiry and edge; every true range is 10: L = 1014, stop 994
        (1014, 1016, 1012, 1014),
        (1014, 1015, 994, 1010),
    )
    trade = only_trade(ask(engine, scene(*rows, on=(0, 3))))
    assert (trade["signal_time"], trade["entry_time"], trade["exit_time"]) == (at(3), at(4), at(5))
    assert (trade["entry_price"], trade["qty"]) == (1014.0, 5.0)
    assert trade["exit_price"] == exact(993.006)  # 994 * 0.999


@pytest.mark.parametrize("ttl", [3, 10], ids=["expires-in-the-same-bar", "would-rest-on"])
def test_entry_4_a_run_away_entry_frees_the_same_close(engine: Engine, ttl: int) -> None:
    """Entry 4: the close of 1026 is 22 > 20 from L; its edge counts, even if the order expires there."""
    rows = (
        SIGNAL,
        (1004, 1014, 1004, 1012),
        (1012, 1022, 1012, 1020),
        (1020, 1030, 1020, 1026),  # L = 1026, stop 1006
        (1026, 1028, 1025, 1027),
        (1027, 1028, 1006, 1010),
    )
    trade = only_trade(ask(engine, scene(*rows, on=(0, 3)), runaway_r=1, entry_ttl_bars=ttl))
    assert (trade["signal_time"], trade["entry_time"], trade["exit_time"]) == (at(3), at(4), at(5))
    assert trade["entry_price"] == 1026.0
    assert trade["exit_price"] == exact(1004.994)  # 1006 * 0.999


@pytest.mark.parametrize("on", [(0, 2), (0, 2, 3)], ids=["edge-while-resting", "still-true-when-freed"])
@pytest.mark.parametrize("side", ["long", "short"])
def test_signal_an_edge_while_an_entry_rests_is_dropped(engine: Engine, side: str, on: tuple[int, ...]) -> None:
    """Signal: the edge of T + 2 is dropped, not queued, and a condition that merely stays true is no edge."""
    rows = (SIGNAL, MISS, (1008, 1012, 1006, 1008), (1008, 1012, 1006, 1010), (1008, 1010, 900, 1000))
    assert nothing(ask(engine, scene(*rows, on=on, side=side)))


def test_signal_an_edge_while_in_a_position_is_dropped(engine: Engine) -> None:
    """Signal: an edge at a close with an open position leaves nothing behind when the position is gone."""
    rows = (SIGNAL, FILL, (1004, 1008, 1003, 1006), (1006, 1007, 984, 1004), (1004, 1005, 900, 950))
    trade = only_trade(ask(engine, scene(*rows, on=(0, 2))))
    assert (trade["signal_time"], trade["exit_time"]) == (at(0), at(3))


# Entry, step 2: size


@pytest.mark.parametrize(
    ("changes", "qty"),
    [
        pytest.param({}, 5.0, id="risk"),
        pytest.param({"risk_per_trade": 1e-6}, None, id="below-min-qty"),  # 0.01 / 20 floors to nothing
        pytest.param({"min_qty": 5}, 5.0, id="at-min-qty"),
        pytest.param({"min_qty": 5.001}, None, id="a-step-below-min-qty"),
        pytest.param({"min_notional": 5020}, 5.0, id="at-min-notional"),  # 5 * 1004 = 5020
        pytest.param({"min_notional": 5020.1}, None, id="below-min-notional"),
        pytest.param({"max_position_usdt": 1004}, 1.0, id="position-cap"),
        pytest.param({"max_position_usdt": 1003.9}, 0.999, id="position-cap-floored"),  # 0.99990
        # 10000 / (1004 * (1 + 0.0007)) = 9.9531…
        pytest.param({"leverage": 1, "risk_per_trade": 1, "max_position_usdt": 1e9}, 9.953, id="margin-cap-at-1"),
        # 10000 / (1004 * (0.2 + 0.0007)) = 49.6271…
        pytest.param({"risk_per_trade": 1, "max_position_usdt": 1e9}, 49.627, id="margin-cap-at-5"),
        # 12 / 20 = 0.6; 0.6 / 0.1 is 5.999999999999999 in doubles and means 6 steps
        pytest.param({"risk_per_trade": 0.0012, "qty_step": 0.1}, 0.6, id="floor-tolerance"),
        pytest.param({"risk_per_trade": 0.0012, "qty_step": 0.25}, 0.5, id="floor"),
        pytest.param({"risk_per_trade": 0.00199, "qty_step": 1}, None, id="floor-to-nothing"),
        pytest.param({"leverage": 40}, 5.0, id="leverage-far-enough"),  # 20 / 1004 < 0.8 / 40 = 0.02
        pytest.param({"leverage": 41}, None, id="leverage-too-near"),  # 20 / 1004 >= 0.8 / 41
        # L = round(1004 * 0.996) = 1000.0 and 20 / 1000 is exactly 0.8 / 40
        pytest.param({"leverage": 40, "entry_offset": 0.004}, None, id="leverage-exactly"),
        pytest.param({"leverage": 39, "entry_offset": 0.004}, 5.0, id="leverage-just-enough"),
        # L - 0.04 and L - 0.05 both round back onto L, L - 0.06 does not; 15000 / 1004 = 14.9402…
        pytest.param({"sl_atr_multiplier": 0.004}, None, id="stop-on-the-entry"),
        pytest.param({"sl_atr_multiplier": 0.005}, None, id="stop-half-a-tick-away"),
        pytest.param({"sl_atr_multiplier": 0.006}, 14.94, id="stop-a-tick-away"),
    ],
)
def test_entry_2_size(engine: Engine, changes: dict[str, Any], qty: float | None) -> None:
    """Entry 2: the size by risk, its caps, its floor, and everything that skips the entry."""
    result = ask(engine, scene(SIGNAL, (1004, 1006, 998, 1004), CRASH), **changes)
    if qty is None:
        assert nothing(result)
    else:
        assert only_trade(result)["qty"] == qty


def test_entry_1_half_a_tick_goes_away_from_zero_for_a_short_stop_too(engine: Engine) -> None:
    """Entry 1: 996 + 0.05 rounds to 996.1: the mirror of a skipped long is placed; 15000 / 996 = 15.06…"""
    rows = (SIGNAL, (1004, 1006, 998, 1004), CRASH)
    trade = only_trade(ask(engine, scene(*rows, side="short"), sl_atr_multiplier=0.005))
    assert (trade["entry_price"], trade["qty"]) == (996.0, 15.06)


def test_money_the_next_size_is_taken_from_the_cash_after_the_trade(engine: Engine) -> None:
    """Money: profits compound, and the close of the exit bar already signals for a flat strategy."""
    result = ask(engine, two_trades(), take_profit_r=0.25, cooldown_bars=5)
    first, second = result["trades"]
    # target 1004 + 0.25 * 20 = 1009: 25 - 5 * 1004 * 0.0002 - 5 * 1009 * 0.0002
    assert (first["exit_time"], first["exit_price"], first["pnl"]) == (at(2), 1009.0, exact(22.987))
    assert (second["signal_time"], second["entry_time"], second["entry_price"]) == (at(2), at(3), 1010.0)
    assert second["qty"] == 5.011  # (10000 + 22.987) * 0.01 / 20 = 5.01149…


def two_trades() -> Bars:
    """A long that takes its profit at 1009 in bar T + 2, and one signalled at that close; true range 10."""
    return scene(
        SIGNAL,
        (1004, 1008, 998, 1004),
        (1004, 1012, 1002, 1010),  # target of the first; signal of the second: L = 1010, stop 990
        (1010, 1014, 1004, 1010),
        (980, 985, 970, 975),  # gap through the stop of the second
        on=(0, 2),
    )


# Cooldown


@pytest.mark.parametrize(
    ("cooldown", "edge", "taken"),
    [(0, 2, True), (1, 2, False), (1, 3, True), (2, 2, False), (2, 3, False), (2, 4, True)],
)
def test_cooldown_after_a_loss(engine: Engine, cooldown: int, edge: int, taken: bool) -> None:
    """Cooldown: after a loss in bar k = T + 2 the closes k … k + cooldown - 1 give no signal."""
    rows = (
        SIGNAL,
        FILL,
        (1004, 1006, 983, 1002),  # stopped at 984
        (1002, 1006, 1001, 1004),
        (1004, 1008, 1003, 1006),
        (1006, 1008, 1000, 1005),
        CRASH,
    )
    trades = ask(engine, scene(*rows, on=(0, edge)), cooldown_bars=cooldown)["trades"]
    assert trades[0]["exit_time"] == at(2)
    assert [trade["signal_time"] for trade in trades[1:]] == ([at(edge)] if taken else [])


# Step 1: funding

HELD: tuple[Row, ...] = (SIGNAL, (1004, 1011, 1002, 1010), QUIET, (980, 985, 970, 975))
HELD_PNL = -128.35155  # 5 * (979.02 - 1004) - 1.004 - 2.44755, before funding


def test_step_1_a_position_pays_at_the_open_of_a_settlement_bar(engine: Engine) -> None:
    """Step 1: T + 2 opens at 1010 on a settlement: 5 * 1010 * 0.001."""
    result = ask(engine, scene(*HELD), funding_rate=0.001)
    assert result["metrics"]["funding"] == exact(5.05)
    assert only_trade(result)["pnl"] == exact(HELD_PNL - 5.05)


def test_step_1_a_short_receives(engine: Engine) -> None:
    """Step 1: the mirrored short receives 5 * 990 * 0.001."""
    result = ask(engine, scene(*HELD, side="short"), funding_rate=0.001)
    assert result["metrics"]["funding"] == exact(-4.95)
    assert only_trade(result)["pnl"] == exact(-128.64855 + 4.95)


def test_step_1_a_negative_rate_pays_the_long(engine: Engine) -> None:
    """Step 1: with a negative rate the long receives."""
    result = ask(engine, scene(*HELD), funding_rate=-0.001)
    assert result["metrics"]["funding"] == exact(-5.05)


def test_step_1_the_entry_bar_pays_nothing(engine: Engine) -> None:
    """Step 1: a position that fills in the settlement's own bar was not open before it."""
    rows = (SIGNAL, MISS, (1008, 1010, 1003, 1008), (980, 985, 970, 975))
    result = ask(engine, scene(*rows), funding_rate=0.001)
    assert only_trade(result)["entry_time"] == at(2)
    assert result["metrics"]["funding"] == 0


@pytest.mark.parametrize(
    ("entry_bar", "exit_bar", "reason", "paid"),
    [
        pytest.param((1004, 1005, 989, 990), (992, 993, 991, 992), "signal", 4.96, id="due-exit"),
        pytest.param(FILL, (980, 985, 970, 975), "stop", 4.9, id="gapped-stop"),
        pytest.param(FILL, (1004, 1005, 984, 990), "stop", 5.02, id="stop-inside"),
    ],
)
def test_step_1_the_exit_bar_pays_first(
    engine: Engine, entry_bar: Row, exit_bar: Row, reason: str, paid: float
) -> None:
    """Step 1 before 2 and 3: a settlement in the exit bar is paid on 5 * open, whatever ends the trade."""
    result = ask(engine, scene(SIGNAL, entry_bar, exit_bar), funding_rate=0.001)
    trade = only_trade(result)
    assert (trade["exit_time"], trade["exit_reason"]) == (at(2), reason)
    assert result["metrics"]["funding"] == exact(paid)


def test_step_1_a_daily_bar_holds_three_settlements(engine: Engine) -> None:
    """Step 1: each daily bar after the entry bar pays three times: 3 * 5 * (1010 + 980) * 0.001."""
    result = ask(engine, scene(*HELD, interval_ms=DAY), interval_ms=DAY, funding_rate=0.001)
    assert result["metrics"]["funding"] == exact(29.85)


def test_step_1_a_bar_of_twelve_hours_holds_two_or_one(engine: Engine) -> None:
    """Step 1: T + 2 opens at midnight (0 h and 8 h), T + 3 at noon (16 h): (2 * 1010 + 980) * 5 * 0.001."""
    half = DAY // 2
    result = ask(engine, scene(*HELD, interval_ms=half), interval_ms=half, funding_rate=0.001)
    assert result["metrics"]["funding"] == exact(15.0)


def test_step_1_a_missing_settlement_falls_back(engine: Engine) -> None:
    """Step 1: the series' 0.01 at T + 2; at T + 10, where it has none, `funding_rate` and no neighbour."""
    rows = (*HELD[:2], *[QUIET] * 9, HELD[3])
    rates = {at(-6): 0.5, at(2): 0.01, at(18): 0.5}
    result = ask(engine, scene(*rows), funding=rates, funding_rate=0.001)
    assert only_trade(result)["exit_time"] == at(11)
    assert result["metrics"]["funding"] == exact(5 * 1010 * 0.01 + 5 * 1010 * 0.001)


# Rounding


@pytest.mark.parametrize(
    ("close", "tick", "price"),
    [
        (1004.05, 0.1, 1004.1),  # 1004.05 / 0.1 is 10040.499999999998 in doubles
        (1004.0499, 0.1, 1004.0),
        (1004.04999999996, 0.1, 1004.1),  # 4e-10 of a tick short of the half: within the tolerance
        (1004.0499999998, 0.1, 1004.0),  # 2e-9 of a tick short: not
        (1003.3, 0.1, 1003.3),  # 10033 * 0.1 is 1003.3000000000001 in doubles
        (1004.25, 0.5, 1004.5),
        (1004.2499, 0.5, 1004.0),
        (1004.005, 0.01, 1004.01),
        (1004.5, 1.0, 1005.0),
        (1004.4999, 1.0, 1004.0),
    ],
)
def test_rounding_of_a_long_entry(engine: Engine, close: float, tick: float, price: float) -> None:
    """Rounding: half a tick goes up, and the price is the double nearest the decimal."""
    rows = ((1000, 1006, 996, close), (1004, 1006, 998, 1004), CRASH)
    assert only_trade(ask(engine, scene(*rows), tick_size=tick))["entry_price"] == price


@pytest.mark.parametrize(("close", "price"), [(995.95, 996.0), (995.9499, 995.9), (996.05, 996.1)])
def test_rounding_of_a_short_entry(engine: Engine, close: float, price: float) -> None:
    """Rounding: half a tick goes away from zero for a short too, so up."""
    bars = scene(SIGNAL, (1004, 1006, 998, 1004), CRASH, side="short")
    bars["close"][T] = close
    assert only_trade(ask(engine, bars))["entry_price"] == price


@given(
    x=st.floats(min_value=-1e6, max_value=1e6),
    tick=st.sampled_from([0.01, 0.1, 0.5, 1.0, 0.0001, 0.05, 2.5]),
)
def test_rounding_is_that_of_fractions(x: float, tick: float) -> None:
    """Rounding: the plain page's double arithmetic gives what the exact decimals give."""
    exact_tick = Fraction(repr(tick))
    steps = abs(Fraction(x)) / exact_tick
    n = math.floor(steps + Fraction(1, 2) + Fraction(1, 10**9) + steps / 10**15)
    expected = float(n * exact_tick)
    assert nearest_tick(x, tick) == (expected if x >= 0 else -expected)
    down = math.floor(steps + Fraction(1, 10**9) + steps / 10**15)
    assert whole_steps(abs(x), tick) == float(down * exact_tick)


# The anti-knife guard


def knife(side: str = "long") -> Bars:
    """Ten bars up 4 and three down 4, all with a true range of 10; an edge on the third (close 1028).

    Ups are (p, p + 7, p - 3, p + 4), downs (p, p + 3, p - 7, p - 4). EMA(20) is near 1020, rising.
    With bands of two bars and 0.5 deviations a falling close has %B = -0.5. The last bar gaps through the
    stop and closes far up.
    """
    rows: list[Row] = []
    p = 1000.0
    for _ in range(10):
        rows.append((p, p + 7, p - 3, p + 4))
        p += 4
    for _ in range(3):
        rows.append((p, p + 3, p - 7, p - 4))
        p -= 4
    rows += [(1028, 1030, 1020, 1026), (500, 1999, 490, 1999)]
    return scene(*rows, on=(12,), side=side)


@pytest.mark.parametrize("side", ["long", "short"])
@pytest.mark.parametrize(("knife_atr", "rejected"), [(1.2, True), (1.21, False)])
def test_knife_rejects_a_move_of_so_many_atrs(engine: Engine, side: str, knife_atr: float, rejected: bool) -> None:
    """Knife: a fall of 12 in three bars is 1.2 ATR: a waterfall at 1.2, none at 1.21; mirrored too."""
    result = ask(engine, knife(side), bb_std=0.5, knife_atr=knife_atr)
    if rejected:
        assert nothing(result)
    else:
        trade = only_trade(result)
        assert (trade["side"], trade["signal_time"]) == (side, at(12))
        assert trade["entry_price"] == (1028.0 if side == "long" else 972.0)


def test_knife_rejections_are_counted_by_the_plain_page() -> None:
    """Knife: the candidate is a rejected verdict, and never an order."""
    result = simulate(knife(), {**STAGE, "bb_std": 0.5, "knife_atr": 1.2}, interval_ms=HOUR)
    assert result["rejected"] == [{"time": at(12), "side": "long"}]
    assert result["entries"] == []


def test_knife_is_false_before_there_are_enough_bars(engine: Engine) -> None:
    """Knife: the signal is bar 42; a look-back of 43 bars has no answer, so nothing is rejected."""
    result = ask(engine, knife(), bb_std=0.5, knife_atr=0, knife_lookback=43)
    assert only_trade(result)["signal_time"] == at(12)


def test_knife_looks_back_to_the_first_bar(engine: Engine) -> None:
    """Knife: a look-back of 42 bars from bar 42 is the first bar; it closed at 1100, above 1028: rejected."""
    bars = knife()
    bars["close"][0], bars["high"][0] = 1100.0, 1105.0
    assert nothing(ask(engine, bars, bb_std=0.5, knife_atr=0, knife_lookback=42))


def test_knife_does_not_reject_a_long_on_a_parabolic_bar(engine: Engine) -> None:
    """Knife: a long is only rejected on a waterfall; the signal bar of the stage has %B = 1.5 and rises."""
    result = ask(engine, scene(SIGNAL, FILL, CRASH), bb_std=0.5, knife_atr=0)
    assert only_trade(result)["signal_time"] == at(0)


def test_percent_b_is_a_half_where_the_band_has_no_width(engine: Engine) -> None:
    """Indicators: with `bb_std` 0 the band has no width, %B is 0.5, and the falling bar is no waterfall."""
    result = ask(engine, knife(), bb_std=0, knife_atr=1.2)
    assert only_trade(result)["signal_time"] == at(12)


# Undefined bars, flat bars, volume


def rising(signal: int) -> Bars:
    """Bars up 4 from the first on, true range 10, one volume; two bars after `signal` comes the crash."""
    rows: list[Row] = []
    for k in range(signal + 2):
        p = 1000.0 + 4 * (k - 1)
        rows.append((p, p + 7, p - 3, p + 4))
    return bars_of([*rows, CRASH], [100.0] * (signal + 3))


@pytest.mark.parametrize(
    ("period", "length", "first"),
    [
        ("adx_period", 2, 3),  # ADX: 2 * period - 1
        ("adx_period", 4, 7),
        ("ema_period", 5, 5),  # the EMA is there at 4, the previous one only at 5
        ("rsi_period", 8, 8),
        ("atr_period", 6, 6),
        ("bb_period", 7, 6),
        ("volume_ma_period", 7, 6),
    ],
)
def test_the_first_defined_bar_may_be_an_edge(engine: Engine, period: str, length: int, first: int) -> None:
    """Indicators: NaN in any, or in the previous EMA, undoes a bar; the first defined bar is an edge."""
    changes: dict[str, Any] = {name: 2 for name in STAGE if name.endswith("_period")}
    changes[period] = length
    trade = only_trade(ask(engine, rising(first), **changes))
    assert trade["signal_time"] == START + first * HOUR
    assert trade["entry_price"] == 1000.0 + 4 * first
    assert trade["qty"] == 5.0  # ATR is 10


@pytest.mark.parametrize(("limit", "taken"), [(100, False), (101, True)])
def test_signal_rsi_is_strictly_below_its_limit(engine: Engine, limit: int, taken: bool) -> None:
    """Signal: without a single loss RSI is 100, which is not below 100."""
    result = ask(engine, rising(3), ema_period=2, rsi_period=2, rsi_long_max=limit)
    assert nothing(result) is not taken


def test_signal_adx_may_be_equal_to_its_minimum(engine: Engine) -> None:
    """Signal: a pure rise has ADX = 100, which is at or above 100."""
    result = ask(engine, rising(3), ema_period=2, rsi_period=2, adx_min=100)
    assert only_trade(result)["signal_time"] == START + 3 * HOUR


def test_flat_bars_give_no_signal(engine: Engine) -> None:
    """Indicators: one price for ever: no range, no width, and the close is never beyond the EMA."""
    bars = bars_of([(1000.0, 1000.0, 1000.0, 1000.0)] * 60, [10.0] * 60)
    assert nothing(ask(engine, bars, knife_atr=0))


def test_a_flat_signal_has_no_stop_distance(engine: Engine) -> None:
    """Entry 2: a drift of a hundredth of a tick per flat bar: ATR rounds away, L == stop, skipped."""
    prices = [1000.0] * 30 + [1000.0 + 0.001 * k for k in range(1, 20)]
    bars = bars_of([(p, p, p, p) for p in prices], [10.0] * len(prices))
    assert nothing(ask(engine, bars))


def test_zero_volume_is_at_its_mean(engine: Engine) -> None:
    """Signal: without any volume 0 >= 0, and the price alone decides."""
    bars = scene(SIGNAL, FILL, CRASH)
    bars["volume"][:] = 0.0
    assert only_trade(ask(engine, bars))["signal_time"] == at(0)


@pytest.mark.parametrize(("less", "taken"), [(1e-9, True), (1e-6, False)])
def test_signal_volume_tolerance(engine: Engine, less: float, taken: bool) -> None:
    """Signal: a volume a billionth below the one before still counts as the mean, a millionth does not."""
    bars = scene(SIGNAL, FILL, CRASH)
    bars["volume"][:] = 1000.0
    bars["volume"][T:] = 1000.0 * (1 - less)
    bars["volume"][T + 1 :] = 1.0
    assert nothing(ask(engine, bars)) is not taken


# The end of the series


def test_a_position_open_at_the_end_is_no_trade(engine: Engine) -> None:
    """After the last bar: open, valued at the last close (5 * 6 up), its entry fee of 1.004 paid."""
    result = ask(engine, scene(SIGNAL, FILL, (1004, 1012, 1003, 1010)))
    assert result["trades"] == []
    held = result["open_position"]
    assert (held["side"], held["entry_time"], held["entry_price"], held["qty"]) == (
        "long",
        at(1),
        1004.0,
        5.0,
    )
    m = result["metrics"]
    assert m["total_return"] == exact(0.0028996)
    assert (m["fees"], m["funding"], m["trades"]) == (exact(1.004), 0, 0)
    assert m["exposure"] == exact(2 / 33)
    assert m["max_drawdown"] == exact(0.0001004)
    assert (m["win_rate"], m["profit_factor"], m["expectancy_r"]) == (None, None, None)


def test_an_open_position_has_paid_its_funding(engine: Engine) -> None:
    """After the last bar: `funding` includes what the open position has paid, 5 * 1010 * 0.001."""
    result = ask(engine, scene(*HELD[:3]), funding_rate=0.001)
    assert result["trades"] == []
    assert result["metrics"]["funding"] == exact(5.05)
    assert result["metrics"]["total_return"] == exact((-1.004 - 5.05 + 5 * 6) / 10_000)


def test_an_exit_due_after_the_last_bar_stays_open(engine: Engine) -> None:
    """After the last bar: an exit decided at the last close has no open to go to; valued at 990."""
    result = ask(engine, scene(SIGNAL, (1004, 1005, 989, 990)))
    assert result["trades"] == []
    assert result["open_position"]["entry_time"] == at(1)
    assert result["metrics"]["total_return"] == exact((-1.004 - 5 * 14) / 10_000)


def test_a_resting_entry_at_the_end_is_nothing(engine: Engine) -> None:
    """After the last bar: an order that never filled has cost nothing."""
    result = ask(engine, scene(SIGNAL, MISS))
    assert nothing(result)
    assert result["metrics"]["fees"] == 0


def test_two_bars_are_enough(engine: Engine) -> None:
    """Metrics: two bars without a trade: everything undefined is null, the rest is nothing."""
    bars = bars_of(warm_up()[:2], [10.0, 10.0])
    result = engine(bars, {}, interval_ms=HOUR)
    assert nothing(result)
    undefined = ("sharpe", "sortino", "calmar", "win_rate", "profit_factor", "expectancy_r")
    assert [result["metrics"][name] for name in undefined] == [None] * 6
    rest = ("total_return", "max_drawdown", "trades", "exposure", "fees", "funding")
    assert [result["metrics"][name] for name in rest] == [0] * 6


def test_one_bar_is_refused_by_the_plain_page() -> None:
    """Metrics: at least two bars are required."""
    with pytest.raises(ValueError, match="two bars"):
        simulate(bars_of(warm_up()[:1], [10.0]), {}, interval_ms=HOUR)


def test_one_bar_is_refused_by_the_program(tmp_path: Path) -> None:
    """Metrics: at least two bars are required: exit code 2 and one line."""
    candles = write_candles(tmp_path / "BTCUSDT-one.csv", bars_of(warm_up()[:1], [10.0]))
    assert refused(replay_arguments(candles, {}, interval_minutes=60)).strip() != ""


# Metrics


def test_metrics_of_two_trades(engine: Engine) -> None:
    """Metrics: every name from its definition, over the two trades of `two_trades`."""
    result = ask(engine, two_trades(), take_profit_r=0.25)
    first = 22.987
    exit_price = 980 * 0.999
    entry_fee, exit_fee = 5.011 * 1010 * 0.0002, 5.011 * exit_price * 0.0005
    second = 5.011 * (exit_price - 1010) - entry_fee - exit_fee
    curve = [10_000.0] * 31  # the bars up to the signal
    curve += [10_000 - 1.004, 10_022.987, 10_022.987 - entry_fee, 10_022.987 + second]
    before = [10_000.0, *curve[:-1]]
    returns = [(e - b) / b for e, b in zip(curve, before, strict=True)]
    year = math.sqrt(365 * 24)
    mean = sum(returns) / 35
    down = math.sqrt(sum(min(x, 0.0) ** 2 for x in returns) / 35)
    drawdown = (10_022.987 - curve[-1]) / 10_022.987

    m = result["metrics"]
    assert (m["trades"], m["win_rate"]) == (2, 0.5)
    assert m["total_return"] == exact((first + second) / 10_000)
    assert m["profit_factor"] == exact(first / -second)
    assert m["expectancy_r"] == exact((first / 100 + second / (5.011 * 20)) / 2)
    assert m["exposure"] == exact(2 / 35)  # T + 1 and T + 3 close with a position
    assert m["fees"] == exact(5 * 1004 * 0.0002 + 5 * 1009 * 0.0002 + entry_fee + exit_fee)
    assert m["max_drawdown"] == exact(drawdown)
    assert m["sharpe"] == exact(mean / statistics.stdev(returns) * year)
    assert m["sortino"] == exact(mean / down * year)
    assert m["calmar"] == exact(((curve[-1] / 10_000) ** (365 * 24 / 35) - 1) / drawdown)


def test_metrics_without_a_loss(engine: Engine) -> None:
    """Metrics: one winner without fees: no loss, no negative return, no drawdown: their ratios are null."""
    rows = (SIGNAL, (1004, 1008, 998, 1004), (1004, 1012, 1002, 1010))
    m = ask(engine, scene(*rows), take_profit_r=0.25, maker_fee=0)["metrics"]
    assert (m["trades"], m["win_rate"], m["max_drawdown"]) == (1, 1, 0)
    assert (m["profit_factor"], m["sortino"], m["calmar"]) == (None, None, None)
    assert m["sharpe"] > 0
    assert m["expectancy_r"] == exact(0.25)


def test_metrics_without_a_gain(engine: Engine) -> None:
    """Metrics: only losses: win rate and profit factor are 0, which is not null."""
    m = ask(engine, scene(SIGNAL, FILL, (980, 990, 975, 985)))["metrics"]
    assert (m["trades"], m["win_rate"], m["profit_factor"]) == (1, 0, 0)


def test_metrics_and_entries_after_ruin(engine: Engine) -> None:
    """Metrics: equity below zero: Sharpe, Sortino, Calmar null, drawdown above 1, no entry follows."""
    rows = (SIGNAL, FILL, CRASH, *[QUIET] * 8, (1010, 1012, 1000, 1008), CRASH)
    bars = scene(*rows, on=(0, 10))
    assert len(ask(engine, bars)["trades"]) == 2  # a small position survives, and the edge of T + 10 is taken
    result = ask(engine, bars, risk_per_trade=1, max_position_usdt=1e9)
    only_trade(result)
    # 49.627 * (500 * 0.999 - 1004), fees 49.627 * 1004 * 0.0002 and 49.627 * 499.5 * 0.0005
    pnl = 49.627 * (499.5 - 1004) - 49.627 * 0.2008 - 49.627 * 0.24975
    m = result["metrics"]
    assert m["total_return"] == exact(pnl / 10_000)
    assert m["max_drawdown"] == exact(-pnl / 10_000)
    assert (m["sharpe"], m["sortino"], m["calmar"]) == (None, None, None)


# Parameters

OUT_OF_RANGE: list[tuple[str, float]] = [
    *[(name, 1) for name in STAGE if name.endswith("_period")],
    ("knife_lookback", 0),
    ("entry_offset", -0.1),
    ("entry_ttl_bars", 0),
    ("trail_start_r", -1),
    ("trail_step_r", 0),
    ("sl_atr_multiplier", 0),
    ("leverage", 0.5),
    ("cooldown_bars", -1),
    ("take_profit_r", -1),
    ("trail_lag_r", math.inf),
    ("risk_per_trade", math.nan),
    ("slippage", -0.1),
    ("maker_fee", -0.1),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE, ids=str)
def test_parameters_out_of_range_are_refused_by_the_plain_page(name: str, value: float) -> None:
    """Parameters: a value outside its range is refused by name."""
    with pytest.raises(ValueError, match=name):
        simulate(bars_of(warm_up(), [10.0] * T), {name: value}, interval_ms=HOUR)


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE, ids=str)
def test_parameters_out_of_range_are_refused_by_the_program(name: str, value: float, tmp_path: Path) -> None:
    """Parameters: a value outside its range is refused by name, with exit code 2."""
    candles = write_candles(tmp_path / "BTCUSDT-hours.parquet", bars_of(warm_up(), [10.0] * T))
    assert name in refused(replay_arguments(candles, {name: value}))


@pytest.mark.parametrize("ask_it", [simulate, product], ids=["plain", "product"])
def test_the_defaults_are_those_of_the_page(ask_it: Callable[..., dict[str, Any]]) -> None:
    """Parameters: without any override both report the page's table."""
    params = ask_it(bars_of(warm_up(), [10.0] * T), {}, interval_ms=HOUR)["params"]
    assert {name: params[name] for name in DEFAULTS} == DEFAULTS
