"""The specification's strategy as a vectorbt order function, tuned: flexible, row-wise, its arguments packed.

vectorbt's simulator visits every bar of every combination and asks a compiled function for orders; what it cannot do
itself (a resting limit with expiry and runaway, a stop inside the bar, a stop that trails in steps) is kept in one row
of state for each combination. Indicators are made once per distinct value and the conditions packed into bits.

vectorbt lends no money to a long. Its cash is therefore the equity and a constant credit, as large as the largest
position, which the order function takes off again before it sizes anything: sizes, fills and profits are those of the
specification. Funding is the one thing left out; both sides are run with a rate of 0.

`together` puts all columns into one group. vectorbt then asks once per bar and the function looks for the next column
with an order by itself, which is the quickest way through its simulator that we know; the other way, a group for each
column, is how its documentation shows it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numba import njit
from vectorbt.portfolio import nb  # type: ignore[import-untyped]
from vectorbt.portfolio.base import Portfolio  # type: ignore[import-untyped]
from vectorbt.portfolio.enums import Direction, NoOrder, SizeType  # type: ignore[import-untyped]

from research.ground import steps_of
from trading.indicators import Indicators
from trading.model import CandleSeries, FloatArray, IntArray
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters

LONG, SHORT = 1, 2  # bits: the side is wanted; of the base also: the knife of the side, two places higher
FLAT, RESTING, OPEN = 0.0, 1.0, 2.0
OPENED, HIGH, LOW, CLOSE, ATR = range(5)  # columns of the bars
# A combination's state and its own parameters (columns of the bits, stop in ATR), a float64 each.
PHASE, SIDE, LIMIT, QTY, RISK, STOP, TARGET, BEST, GAINED, PLACED, ENTERED, LEFT, DUE, FREE, BEFORE = range(15)
OF_EMA, OF_RSI, OF_STOP = 15, 16, 17
STATE = 18


class Terms(NamedTuple):
    """Everything that is the same for all combinations."""

    credit: float
    risk: float
    leverage: float
    most: float
    maker: float
    taker: float
    slippage: float
    min_qty: float
    min_notional: float
    step: float
    step_num: float
    step_den: float
    cooldown: float
    offset: float
    ttl: float
    runaway: float
    target: float
    trail_start: float
    trail_step: float
    trail_lag: float
    tick: float
    tick_num: float
    tick_den: float


@njit
def _rounded(x: float, t: Any) -> float:
    n = math.floor(abs(x) / t.tick + 0.5 + 1e-9 + 1e-15 * abs(x) / t.tick)
    return math.copysign(n * t.tick_num / t.tick_den, x)


@njit
def _sized(price: float, stop: float, equity: float, t: Any) -> float:
    """Step 2 of the entry; 0 where it must be skipped."""
    distance = abs(price - stop)
    if equity <= 0.0 or price == stop or price <= 0.0 or distance / price >= 0.8 / t.leverage:
        return 0.0
    qty = min(equity * t.risk / distance, t.most / price, equity / (price * (1.0 / t.leverage + t.maker + t.taker)))
    qty = math.floor(qty / t.step + 1e-9 + 1e-15 * qty / t.step) * t.step_num / t.step_den
    return 0.0 if qty < t.min_qty or qty * price < t.min_notional else qty


@njit
def _gained(best: float, entry: float, s: float, r: float, t: Any) -> float:
    """Step 7b: the level reached, in R."""
    return float(math.floor(s * (best - entry) / (r * t.trail_step) + 1e-9) * t.trail_step)


@njit
def _asked(k: int, col: int, cash: float, state: Any, bars: Any, bits: Any, t: Any) -> Any:  # noqa: C901, PLR0912
    """The next order of this combination in bar k: (size, price, fees, slippage); size 0 when there is none left."""
    phase = state[col, PHASE]
    if phase == RESTING:
        s, limit = state[col, SIDE], state[col, LIMIT]
        if s * (bars[k, LOW] if s > 0.0 else bars[k, HIGH]) < s * limit:
            state[col, PHASE], state[col, ENTERED], state[col, BEST] = OPEN, k, limit
            state[col, DUE], state[col, BEFORE] = 0.0, cash
            return s * state[col, QTY], limit, t.maker, 0.0
        if k - state[col, PLACED] != t.ttl and not abs(bars[k, CLOSE] - limit) > t.runaway * state[col, RISK]:
            return 0.0, 0.0, 0.0, 0.0
        state[col, PHASE] = FLAT
    elif phase == OPEN:
        s, stop, here = state[col, SIDE], state[col, STOP], state[col, ENTERED] == k
        against, ahead = (bars[k, LOW], bars[k, HIGH]) if s > 0.0 else (bars[k, HIGH], bars[k, LOW])
        if s * against <= s * stop or (not here and state[col, DUE] > 0.0):
            state[col, PHASE], state[col, LEFT] = FLAT, k
            through = s * bars[k, OPENED] <= s * stop or (not here and state[col, DUE] > 0.0)
            return -s * state[col, QTY], bars[k, OPENED] if through else stop, t.taker, t.slippage
        if not here and s * ahead > s * state[col, TARGET]:
            state[col, PHASE], state[col, LEFT] = FLAT, k
            return -s * state[col, QTY], state[col, TARGET], t.maker, 0.0
        close, reached = bars[k, CLOSE], False
        if s * (close if here else ahead) > s * state[col, BEST]:
            state[col, BEST] = close if here else ahead
            if t.trail_start > 0.0:
                state[col, GAINED] = _gained(state[col, BEST], state[col, LIMIT], s, state[col, RISK], t)
        if t.trail_start > 0.0 and state[col, GAINED] >= t.trail_start - 1e-9:
            reached = True
            level = _rounded(state[col, LIMIT] + s * (state[col, GAINED] - t.trail_lag) * state[col, RISK], t)
            if s * level > s * stop:
                stop = state[col, STOP] = level
        out = bits[k, int(state[col, OF_EMA])] >> 2
        if (reached and s * stop >= s * close) or out & (LONG if s > 0.0 else SHORT):
            state[col, DUE] = 1.0
        return 0.0, 0.0, 0.0, 0.0
    if state[col, LEFT] == k and cash < state[col, BEFORE]:
        state[col, FREE] = k + t.cooldown
    of_ema, of_rsi = int(state[col, OF_EMA]), int(state[col, OF_RSI])
    wanted = bits[k, of_ema] & bits[k, of_rsi] & bits[k, 0] & 3
    if wanted and k > 0 and k >= state[col, FREE]:
        edge = wanted & ~(bits[k - 1, of_ema] & bits[k - 1, of_rsi] & bits[k - 1, 0])
        if edge and not edge & (bits[k, 0] >> 2):
            s = 1.0 if edge & LONG else -1.0
            limit, r = _rounded(bars[k, CLOSE] * (1.0 - s * t.offset), t), state[col, OF_STOP] * bars[k, ATR]
            stop = _rounded(limit - s * r, t)
            qty = _sized(limit, stop, cash - t.credit, t)
            if qty > 0.0:
                state[col, PHASE], state[col, SIDE], state[col, LIMIT], state[col, QTY] = RESTING, s, limit, qty
                state[col, RISK], state[col, STOP], state[col, PLACED] = r, stop, k
                state[col, TARGET] = _rounded(limit + s * t.target * r, t) if t.target > 0.0 else math.nan
                state[col, GAINED] = _gained(limit, limit, s, r, t)
    return 0.0, 0.0, 0.0, 0.0


@njit
def _order(size: float, price: float, fees: float, slippage: float) -> Any:
    return nb.order_nb(
        size=size, price=price, size_type=SizeType.Amount, direction=Direction.Both, fees=fees, slippage=slippage
    )


@njit
def _one_column(c: Any, state: Any, bars: Any, bits: Any, t: Any) -> Any:
    """A group for each column."""
    col = c.from_col
    size, price, fees, slippage = _asked(c.i, col, c.last_cash[col], state, bars, bits, t)
    if size == 0.0:
        return -1, NoOrder
    return col, _order(size, price, fees, slippage)


@njit
def _all_columns(
    c: Any, state: Any, bars: Any, bits: Any, t: Any, at: Any
) -> Any:
    """One group: `at[0]` is the column to go on with."""
    if c.call_idx == 0:
        at[0] = 0
    for col in range(at[0], c.to_col):
        size, price, fees, slippage = _asked(c.i, col, c.last_cash[col], state, bars, bits, t)
        if size != 0.0:
            at[0] = col
            return col, _order(size, price, fees, slippage)
    return -1, NoOrder


@njit
def _ended(c: Any, out: Any) -> None:
    """After the simulation: what the account was worth at the last close."""
    out[:] = c.last_value


def vectorbt_grid(
    series: CandleSeries, combos: Sequence[Mapping[str, Any]], values: Mapping[str, Any], *, together: bool = False
) -> tuple[IntArray, FloatArray, float]:
    """Trade counts, total returns and seconds, indicators included. `combos` vary the EMA, the RSI and the stop."""
    began = time.perf_counter()
    arguments = (*_packed(series, combos, values), _terms(values))
    worth = np.empty(len(combos))
    credit = arguments[-1].credit
    portfolio = Portfolio.from_order_func(
        pd.DataFrame(np.broadcast_to(series.close[:, None], (len(series), len(combos)))),
        _all_columns if together else _one_column,
        *arguments,
        *((np.zeros(1, np.int64),) if together else ()),
        flexible=True,
        row_wise=True,
        init_cash=float(values["initial_equity"]) + credit,
        group_by=True if together else None,
        cash_sharing=False,
        update_value=False,
        fill_pos_record=False,
        ffill_val_price=False,
        max_orders=max(len(series) // 4, 64) * len(combos),
        post_sim_func_nb=_ended,
        post_sim_args=(worth,),
        freq=pd.Timedelta(series.interval),
    )
    records = portfolio.order_records
    trades = np.bincount(records["col"], minlength=len(combos)) // 2  # an entry without its exit is no trade
    returns = (worth - credit) / float(values["initial_equity"]) - 1
    return trades.astype(np.int64), returns, time.perf_counter() - began


def _terms(values: Mapping[str, Any]) -> Terms:
    tick, step = steps_of("tick_size", values), steps_of("qty_step", values)
    names = ("risk_per_trade", "leverage", "max_position_usdt", "maker_fee", "taker_fee", "slippage", "min_qty")
    rules = ("cooldown_bars", "entry_offset", "entry_ttl_bars", "runaway_r", "take_profit_r")
    trail = ("trail_start_r", "trail_step_r", "trail_lag_r")
    credit, account = 2 * float(values["max_position_usdt"]), [float(values[name]) for name in (*names, "min_notional")]
    return Terms._make([credit, *account, *step, *(float(values[name]) for name in (*rules, *trail)), *tick])


def _packed(series: CandleSeries, combos: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """State with own parameters, bars with ATR, and the conditions as bits: the base, each EMA, each RSI."""
    known = Indicators(series)
    emas = sorted({combo["ema_period"] for combo in combos})
    rsis = sorted({combo["rsi_period"] for combo in combos})
    state = np.zeros((len(combos), STATE))
    state[:, (PLACED, ENTERED, LEFT)] = -1
    state[:, OF_EMA] = [1 + emas.index(combo["ema_period"]) for combo in combos]
    state[:, OF_RSI] = [1 + len(emas) + rsis.index(combo["rsi_period"]) for combo in combos]
    state[:, OF_STOP] = [combo["sl_atr_multiplier"] for combo in combos]
    atr = known.atr(int(values["atr_period"]))
    bars = np.ascontiguousarray(np.stack([series.open, series.high, series.low, series.close, atr], axis=1))
    bits = np.empty((len(series), 1 + len(emas) + len(rsis)), np.uint8)
    for column, period in enumerate(emas, 1):
        rules = _rules(values, ema_period=period)
        out = _bits(rules.exit_long.make(known), rules.exit_short.make(known))
        bits[:, column] = _bits(rules.long[0].make(known), rules.short[0].make(known)) | out << 2
    for column, period in enumerate(rsis, 1 + len(emas)):
        rules = _rules(values, rsi_period=period)
        bits[:, column] = _bits(rules.long[1].make(known), rules.short[1].make(known))
    rules = _rules(values)
    both = np.logical_and.reduce([each.make(known) for each in rules.long[2:]])
    knives = _bits(rules.hazard_long.make(known), rules.hazard_short.make(known))
    bits[:, 0] = _bits(both, both) | knives << 2
    return state, bars, bits


def _rules(values: Mapping[str, Any], **changed: Any) -> Any:
    chosen = {name: {**values, **changed}[name] for name in EmaTrendParameters.names()}
    return EmaTrend(EmaTrendParameters(**chosen)).rules()


def _bits(long: Any, short: Any) -> Any:
    return long.astype(np.uint8) * np.uint8(LONG) | short.astype(np.uint8) * np.uint8(SHORT)
