"""The compiled heart of the laboratory: `spec/strategy.md` for one parameter set, and for thousands at once.

Both walks below share the one function that follows an order from its signal to its end (`_follow`), so that what a
search finds is what a single backtest shows. Shorts are longs on mirrored bars (prices negated, high and low swapped):
rounding is symmetric, so that one code serves both sides.

Why the search is fast:

- The way from a signal to an exit depends on the bars, the stop, the exits and the trailing, never on equity nor on
  what let the entry pass. Combinations that agree in stop and trailing (a *group*) trace each signal once; those that
  also agree in their exits share a record of where it ends.
- What lets an entry pass is a bit a bar: a combination's entries are a few ANDs over 64 bars at a time.
- Equity is looked at only while a position is open, in a straight loop over one array: closes less the funding that
  a unit has paid so far (`curve`), of which equity is a linear function between two fills.
- Drawdown needs a look at single bars only where a trade's extremes could deepen it.

Arrays are C-contiguous, and hold the n bars of longs and then their mirror: ranges float64 (2n, 2) low, high; ends
(2n, 2) open, close; curve and paid float64 (2n); bits uint64 (rows, words). They are flat because a view of an array
is counted and forgotten again each time it is made, which takes longer than following a trade for five bars.
This module is imported by the lab worker and by one-shot commands, never by the bot.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import njit

# Rules of an order's way, in this order (float64). `tick` is tick_num / tick_den in whole numbers.
RULES: Final = (
    *("entry_offset", "entry_ttl_bars", "runaway_r", "take_profit_r", "trail_start_r", "trail_step_r", "trail_lag_r"),
    *("tick", "tick_num", "tick_den"),
)
_OFFSET, _TTL, _RUNAWAY, _TARGET, _START, _STEP, _LAG, _TICK, _TICK_NUM, _TICK_DEN = range(10)
# Terms of an account and an instrument, in this order (float64).
TERMS: Final = (
    *("initial_equity", "risk_per_trade", "leverage", "max_position_usdt", "maker_fee", "taker_fee", "slippage"),
    *("min_qty", "min_notional", "step", "step_num", "step_den", "cooldown_bars"),
)
_EQUITY, _RISK, _LEVERAGE, _MOST, _MAKER, _TAKER, _SLIP, _MIN_QTY, _MIN_VALUE = range(9)
_QTY, _QTY_NUM, _QTY_DEN, _COOLDOWN = range(9, 13)

# What became of an order.
FILLED, EXPIRED, RAN_AWAY, RESTS, NO_PRICE = 0, 1, 2, 3, 4
# Why a position was closed, in the order of `results.REASONS`; OPEN: it is not.
STOP, TARGET, TRAILING, SIGNAL, OPEN = 0, 1, 2, 3, 4

# A combination's sums, in this order (float64); `ruined`: the marked equity has been at or below zero.
SUMS: Final = (
    *("equity", "returns", "squares", "falls", "drawdown", "trades", "wins", "gains", "losses", "r", "exposed"),
    *("fees", "funding", "ruined"),
)
BLOCKS: Final = 16  # of bars, for the probability of overfitting

# A de Bruijn sequence: its six highest bits after a shift by k differ for every k, and so tell k.
_SEQUENCE = np.uint64(0x03F79D71B4CB0A89)
_PLACES = np.zeros(64, np.int64)
for _shift in range(64):
    _PLACES[(0x03F79D71B4CB0A89 << _shift & 0xFFFFFFFFFFFFFFFF) >> 58] = _shift

_0, _1, _2, _3, _4, _5, _6, _7 = (np.uint64(place) for place in range(8))  # unsigned: none counts from the end

_NEARLY: Final = 1.0 - 1e-12  # a quantity of whole steps is a last digit off in a search

_inlined: Any = njit(cache=True, nogil=True, error_model="numpy", forceinline=True)
_compiled: Any = njit(cache=True, nogil=True, error_model="numpy")
# The same for sums of finite numbers, in any order.
_summed: Any = njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    forceinline=True,
    fastmath={"reassoc", "nsz", "nnan", "ninf", "contract", "arcp"},
)


@_compiled
def _rounded(x, tick, num, den):
    """The nearest tick, halves away from zero, as the double nearest to the decimal."""
    ticks = abs(x) / tick
    count = math.floor(ticks + 0.5 + 1e-9 + 1e-15 * ticks)
    return math.copysign(count * num / den, x)


@_compiled
def _sized(equity, price, distance, terms):
    """The quantity of an entry; 0 where it is skipped."""
    if equity <= 0.0 or distance / price >= 0.8 / terms[_LEVERAGE]:
        return 0.0
    margin = 1.0 / terms[_LEVERAGE] + terms[_MAKER] + terms[_TAKER]
    qty = min(equity * terms[_RISK] / distance, min(terms[_MOST], equity / margin) / price)
    steps = qty / terms[_QTY]
    qty = math.floor(steps + 1e-9 + 1e-15 * steps) * terms[_QTY_NUM] / terms[_QTY_DEN]
    if qty <= 0.0 or qty < terms[_MIN_QTY] or qty * price < terms[_MIN_VALUE]:
        return 0.0
    return qty


@_inlined
def _bit(bits, line, row):
    return (bits[line, row >> 6] >> np.uint64(row & 63)) & np.uint64(1)


@_inlined
def _follow(ranges, ends, leave, line, side, signal, r, rules):
    """An order from the close of its signal bar on. Prices are those of the (mirrored) bars.

    The strategy wants out at the bars whose bit is set in that line of `leave`; with a line below 0 it never does.

    Answers (fate, bar of the fill, bar of the end, reason, limit, first stop, price of the end, stop at the end):
    an order that was not filled ends with the bar at whose close it was cancelled, or with n while it rests; a
    position ends with the bar of its exit, or with n while it is open.
    """
    n = ranges.shape[0] >> 1
    own = side * n  # where the side's bars begin
    sign = 1.0 - 2.0 * side
    tick, num, den = rules[_TICK], rules[_TICK_NUM], rules[_TICK_DEN]
    limit = _rounded(ends[own + signal, 1] * (1.0 - sign * rules[_OFFSET]), tick, num, den)
    stop = _rounded(limit - r, tick, num, den)
    if not (limit * sign > 0.0 and limit != stop and r > 0.0):
        return NO_PRICE, -1, signal, OPEN, limit, stop, 0.0, stop
    first_stop = stop
    lapse, away = signal + np.int64(rules[_TTL]), rules[_RUNAWAY] * r

    fill = signal + 1
    while True:
        if fill >= n:
            return RESTS, -1, n, OPEN, limit, stop, 0.0, stop
        if ranges[own + fill, 0] < limit:
            break
        if fill == lapse:
            return EXPIRED, -1, fill, OPEN, limit, stop, 0.0, stop
        if abs(ends[own + fill, 1] - limit) > away:
            return RAN_AWAY, -1, fill, OPEN, limit, stop, 0.0, stop
        fill += 1

    target = np.inf
    if rules[_TARGET] > 0.0:
        target = _rounded(limit + rules[_TARGET] * r, tick, num, den)
    start, step, lag = rules[_START], rules[_STEP], rules[_LAG]
    span = r * step
    out = _next(leave, line, fill, n) if line >= 0 else n  # the first close at which the strategy wants out

    # The bar of the fill: its range before the fill is not ours, its close is.
    if ranges[own + fill, 0] <= stop:
        return FILLED, fill, fill, STOP, limit, first_stop, min(ends[own + fill, 0], stop), stop
    best = max(limit, ends[own + fill, 1])
    k = fill
    while True:
        # Here a trailing level may have been reached, or it is the fill's bar, or the strategy wants out.
        due = OPEN
        higher = np.inf  # a best below this reaches no further level
        if start > 0.0:
            steps = math.floor((best - limit) / span + 1e-9)
            if steps * step >= start - 1e-9:
                stop = max(stop, _rounded(limit + (steps * step - lag) * r, tick, num, den))
                # While the stop has not moved, it lies below every low and so below every close.
                if stop >= ends[own + k, 1]:
                    due = TRAILING
            higher = limit + span * (steps + 1.0 - 2e-9) - 1e-15 * abs(limit)
        if due == OPEN and k == out:
            due = SIGNAL
        k += 1
        if k >= n:
            return FILLED, fill, n, OPEN, limit, first_stop, 0.0, stop
        if due != OPEN:
            return FILLED, fill, k, due, limit, first_stop, ends[own + k, 0], stop
        ceiling = min(target, higher)
        at, until = np.uint64(own + k), np.uint64(own + min(out, n - 1))
        while at < until and ranges[at, _0] > stop and ranges[at, _1] <= ceiling:
            at += _1
        k = np.int64(at) - own
        if ranges[at, _0] <= stop:
            return FILLED, fill, k, STOP, limit, first_stop, min(ends[at, _0], stop), stop
        if ranges[at, _1] > target:
            return FILLED, fill, k, TARGET, limit, first_stop, target, stop
        best = max(best, ranges[at, _1])


@_inlined
def _next(bits, line, row, n):
    """The first bar from `row` on whose bit is set in that line of bits; n where there is none."""
    if row >= n:
        return n
    place = row >> 6
    word = bits[line, place] >> np.uint64(row & 63) << np.uint64(row & 63)
    while not word:
        place += 1
        if place >= bits.shape[1]:
            return n
        word = bits[line, place]
    lowest = word & (~word + np.uint64(1))
    return (place << 6) + _PLACES[(lowest * _SEQUENCE) >> np.uint64(58)]


@_compiled
def _edges(bits, longs, shorts, knives, each, edges):
    """Where a combination proposes an entry (row 0 of `edges`), and where that is a long one (row 1).

    Both sides at once are none, and neither is one on a knife.
    """
    before_long = before_short = np.uint64(0)
    one, top = np.uint64(1), np.uint64(63)
    for word in range(bits.shape[1]):
        of_long = bits[longs[each, 0], word]
        for place in range(1, longs.shape[1]):
            of_long &= bits[longs[each, place], word]
        of_short = bits[shorts[each, 0], word]
        for place in range(1, shorts.shape[1]):
            of_short &= bits[shorts[each, place], word]
        begun_long = of_long & ~((of_long << one) | before_long)
        begun_short = of_short & ~((of_short << one) | before_short)
        before_long, before_short = of_long >> top, of_short >> top
        both = begun_long & begun_short
        begun_long &= ~(both | bits[knives[each, 0], word])
        edges[0, word] = begun_long | (begun_short & ~(both | bits[knives[each, 1], word]))
        edges[1, word] = begun_long


@_summed
def _returns(curve, first, last, away):
    """Sum of the bar returns of [first, last) while a position is open, of their squares, of the losses' squares.

    Equity over quantity is the curve, shifted by `away`. Indices are unsigned: a signed one might count from the end.
    """
    total = squares = lost = 0.0
    one = np.uint64(1)
    for k in range(np.uint64(first), np.uint64(last)):
        change = (curve[k] - curve[k - one]) / (curve[k - one] + away)
        total += change
        squares += change * change
        fall = min(change, 0.0)
        lost += fall * fall
    return total, squares, lost


@_summed
def _extremes(curve, first, last):
    """The lowest and the highest of [first, last), which holds one bar at least."""
    low = high = curve[first]
    for k in range(first + 1, last):
        low = min(low, curve[k])
        high = max(high, curve[k])
    return low, high


@_compiled
def _deepened(curve, first, last, cash, qty, base, peak, drawdown):
    """Peak and deepest drawdown after the closes of [first, last), bar by bar."""
    for k in range(first, last):
        equity = cash + qty * (curve[k] - base)
        if equity > peak:
            peak = equity
        elif (peak - equity) / peak > drawdown:
            drawdown = (peak - equity) / peak
    return peak, drawdown


@_inlined
def _trace(ranges, ends, bits, side, row, r, rules, ways, levels, way):
    """Follow a signal as if the strategy never wanted out, for every combination with this stop.

    ways: bar of the fill (-1: none), bar of the end, reason, side's place of the signal. levels: limit, stop distance
    over price, one over the stop distance, price of the end.
    """
    fate, fill, end, reason, limit, stop, price, _ = _follow(ranges, ends, bits, -1, side, row, r, rules)
    ways[way, 0] = fill if fate == FILLED else -1
    ways[way, 1] = row + 1 if fate == NO_PRICE else end
    ways[way, 2] = reason
    ways[way, 3] = side * (ranges.shape[0] >> 1) + row
    if fate == NO_PRICE:  # too far away for anybody
        limit, stop, price = 1.0, -np.inf, 0.0
    levels[way, 0] = limit
    levels[way, 1] = abs(limit - stop) / abs(limit)
    levels[way, 2] = 1.0 / abs(limit - stop)
    levels[way, 3] = price


@_inlined
def _record(ends, curve, paid, bits, line, side, ways, levels, way, places, amounts, place):
    """Where such a way ends for a strategy that wants out at the bits of a line: at the next open, if it gets there.

    places: bar of the fill (-1: none), bar of the end, reason, place of the signal. amounts: limit, stop distance over
    price, one over the stop distance, price of the end, base of the curve, its lowest and its highest, funding of a
    unit.
    """
    n = curve.shape[0] >> 1
    own = side * n
    fill, end, reason, price = np.int64(ways[way, 0]), np.int64(ways[way, 1]), ways[way, 2], levels[way, 3]
    places[place, 3] = ways[way, 3]
    amounts[place, 0], amounts[place, 1], amounts[place, 2] = levels[way, 0], levels[way, 1], levels[way, 2]
    amounts[place, 7] = 0.0
    if fill >= 0:
        out = _next(bits, line, fill, end)  # at the close of the bar before the end it is still in time
        if out < end and out + 1 < n:
            end, reason, price = out + 1, SIGNAL, ends[own + out + 1, 0]
        amounts[place, 4] = levels[way, 0] - paid[own + fill]
        amounts[place, 5], amounts[place, 6] = np.inf, -np.inf
        if end > fill:
            amounts[place, 5], amounts[place, 6] = _extremes(curve, own + fill, own + end)
        amounts[place, 7] = paid[own + min(end, n - 1)] - paid[own + fill]
    places[place, 0], places[place, 1], places[place, 2] = fill, end, reason
    amounts[place, 3] = price


@_compiled
def search(
    first,
    ranges,
    ends,
    curve,
    paid,
    bits,
    risk,
    rules,
    terms,
    longs,
    shorts,
    knives,
    outs,
    traced,
    ways,
    levels,
    known,
    places,
    amounts,
    sums,
    blocks,
):
    """A group of combinations: one stop, one set of rules; exits, entries and accounts differ.

    first: the bar from which on entries are proposed and sums are taken. paid is the funding a unit has paid so
    far.
    risk: R at every bar. longs, shorts: (m, conditions) rows of bits that must all hold; knives, outs: (m, 2) rows of
    hazards and of exits; combinations with the same exits stand together. terms: (m, 13). traced, known: int32 (2n),
    places of a signal's way (for all) and of its record (for those with the same exits), -1 where it was not followed
    yet, which is everywhere before and after a call. ways int32 (c, 4), levels float64 (c, 4), places int32 (c, 4),
    amounts float64 (c, 8): room for them. Writes sums (m, 14) and blocks float32 (m, 2, 16). Answers how many signals
    were followed.
    """
    n = ranges.shape[0] >> 1
    edges = np.empty((2, bits.shape[1]), np.uint64)
    part = (n - first + BLOCKS - 1) // BLOCKS
    in_block = np.zeros((BLOCKS, 3))
    followed = recorded = 0
    for each in range(longs.shape[0]):
        if each > 0 and (outs[each, 0] != outs[each - 1, 0] or outs[each, 1] != outs[each - 1, 1]):
            for place in range(recorded):
                known[places[place, 3]] = -1
            recorded = 0
        _edges(bits, longs, shorts, knives, each, edges)
        maker, taker, slip = terms[each, _MAKER], terms[each, _TAKER], terms[each, _SLIP]
        cooldown = np.int64(terms[each, _COOLDOWN])
        share, most, too_far = terms[each, _RISK], terms[each, _MOST], 0.8 / terms[each, _LEVERAGE]
        margin = 1.0 / (1.0 / terms[each, _LEVERAGE] + maker + taker)
        per_step, step = 1.0 / terms[each, _QTY], terms[each, _QTY_NUM] / terms[each, _QTY_DEN]
        least, least_value = terms[each, _MIN_QTY] * _NEARLY, terms[each, _MIN_VALUE] * _NEARLY
        out_long, out_short = outs[each, 0], outs[each, 1]
        cash = terms[each, _EQUITY]
        peak, drawdown = cash, 0.0
        trades = wins = exposed = 0
        gains = losses = multiples = fees = funding = 0.0
        ruined = False
        in_block[:] = 0.0
        block, block_end = 0, first + part
        row = first
        while True:
            row = _next(edges, 0, row, n)
            if row >= n:
                break
            side = 1 - np.int64(_bit(edges, 1, row))
            own = side * n
            place = known[own + row]
            if place < 0:
                way = traced[own + row]
                if way < 0:
                    way = followed
                    followed += 1
                    traced[own + row] = way
                    _trace(ranges, ends, bits, side, row, risk[row], rules, ways, levels, way)
                place = recorded
                recorded += 1
                known[own + row] = place
                line = out_short if side else out_long
                _record(ends, curve, paid, bits, line, side, ways, levels, way, places, amounts, place)

            # The quantity, as `_sized` has it, and the cash after: what counts is the chain from one trade's cash to
            # the next one's, so that everything else about a trade comes to one number, what a unit of it leaves.
            at = np.uint64(place)
            limit, risked, per_unit = amounts[at, _0], amounts[at, _2], amounts[at, _7]
            price, leaving, rate = abs(limit), amounts[at, _3], maker
            if places[at, _2] != TARGET:
                leaving *= 1.0 - (1.0 - 2.0 * side) * slip
                rate = taker
            cost = abs(leaving) * rate
            leaves = leaving - limit - per_unit - price * maker - cost
            qty = min(cash * (share * risked), most / price, cash * (margin / price))
            steps = qty * per_step
            qty = math.floor(steps + 1e-9 + 1e-15 * steps) * step
            sizeable = cash > 0.0 and amounts[at, _1] < too_far and qty > 0.0
            if not (sizeable and qty >= least and qty * price >= least_value):
                row += 1
                continue
            fill, end = np.int64(places[at, _0]), np.int64(places[at, _1])
            row = end
            if fill < 0:
                continue

            # The position: equity is held + qty * (curve - base) at each of its closes.
            base = amounts[at, _4]
            fee = qty * price * maker
            opening = cash
            held = cash - fee
            fees += fee
            funding += qty * per_unit
            exposed += end - fill
            if end < n:
                profit = qty * leaves
                cash = opening + profit
                fees += qty * cost
                trades += 1
                multiples += leaves * risked
                wins += profit > 0.0
                gains += max(profit, 0.0)
                losses += min(profit, 0.0)
                if cooldown > 0 and leaves < 0.0:  # the next signal must not wait for this trade's money
                    row += cooldown
            else:
                cash = held + qty * (curve[own + n - 1] - base)
            after = cash

            # What its closes add: extremes first, because they may spare the bars.
            low = min(after, held + qty * (amounts[at, _5] - base))
            high = max(after, held + qty * (amounts[at, _6] - base))
            if end == fill:
                low = high = after
            if high <= peak:  # no new peak: the deepest point is the lowest
                drawdown = max(drawdown, (peak - low) / peak)
            elif low <= 0.0 or (high - low) > drawdown * high:
                peak, drawdown = _deepened(curve, own + fill, own + end, held, qty, base, peak, drawdown)
                if after > peak:
                    peak = after
                else:
                    drawdown = max(drawdown, (peak - after) / peak)
            else:
                peak = high
            ruined = ruined or low <= 0.0
            if ruined:
                continue

            # Its returns: up to the first close, between the closes, and on the bar of the exit.
            while fill >= block_end:
                block += 1
                block_end += part
            if end == fill:
                change = (after - opening) / opening
                in_block[block, 0] += change
                in_block[block, 1] += change * change
                in_block[block, 2] += min(change, 0.0) ** 2
                continue
            away = held / qty - base
            change = (held + qty * (curve[own + fill] - base) - opening) / opening
            total, squares, lost = change, change * change, min(change, 0.0) ** 2
            since = fill + 1
            while end > block_end:
                more, more_squares, more_lost = _returns(curve, own + since, own + block_end, away)
                in_block[block, 0] += total + more
                in_block[block, 1] += squares + more_squares
                in_block[block, 2] += lost + more_lost
                total = squares = lost = 0.0
                since = block_end
                block += 1
                block_end += part
            more, more_squares, more_lost = _returns(curve, own + since, own + end, away)
            in_block[block, 0] += total + more
            in_block[block, 1] += squares + more_squares
            in_block[block, 2] += lost + more_lost
            if end < n:
                if end >= block_end:
                    block += 1
                    block_end += part
                equity = held + qty * (curve[own + end - 1] - base)
                change = (after - equity) / equity
                in_block[block, 0] += change
                in_block[block, 1] += change * change
                in_block[block, 2] += min(change, 0.0) ** 2
        row_of = sums[each]
        row_of[0] = cash
        total = squares = falls = 0.0
        for block in range(BLOCKS):
            total += in_block[block, 0]
            squares += in_block[block, 1]
            falls += in_block[block, 2]
            blocks[each, 0, block] = in_block[block, 0]
            blocks[each, 1, block] = in_block[block, 1]
        row_of[1], row_of[2], row_of[3], row_of[4] = total, squares, falls, drawdown
        row_of[5], row_of[6], row_of[7], row_of[8], row_of[9] = trades, wins, gains, losses, multiples
        row_of[10], row_of[11], row_of[12], row_of[13] = exposed, fees, funding, 1.0 if ruined else 0.0
    for place in range(recorded):
        known[places[place, 3]] = -1
    for way in range(followed):
        traced[ways[way, 3]] = -1
    return followed


# One backtest's record of a trade, in this order (float64); bars and codes are whole numbers.
TRADE: Final = (
    *("side", "signal", "entry", "exit", "entry_price", "exit_price", "qty", "stop", "pnl", "r", "fees", "funding"),
    *("slippage", "reason", "last_stop", "target"),
)
# What became of the edges that counted.
GATES: Final = ("edges", "knives", "skipped", "placed", "filled", "expired", "ran_away")


@_compiled
def walk(first, ranges, ends, curve, paid, side_of, leave, hazard, risk, rules, term, trades, equity, exposed, gates):
    """One combination with everything written down: trades (c, 16), equity and exposed (n), gates (7).

    first: the bar from which on entries are proposed. side_of: int8, the proposed side of every bar; hazard: (2, n)
    bool. Answers how many trades were closed and whether one is open after the last bar: it stands in the row after
    them.
    """
    n = ranges.shape[0] >> 1
    cash = term[_EQUITY]
    count = 0
    row, written = first, 0
    while row < n:
        if side_of[row] == 0:
            row += 1
            continue
        gates[0] += 1
        side = 0 if side_of[row] > 0 else 1
        if hazard[side, row]:
            gates[1] += 1
            row += 1
            continue
        own, sign = side * n, 1.0 - 2.0 * side
        fate, fill, end, reason, limit, stop, leaving, last_stop = _follow(
            ranges, ends, leave, side, side, row, risk[row], rules
        )
        price, distance = abs(limit), abs(limit - stop)
        qty = 0.0
        if fate != NO_PRICE:
            qty = _sized(cash, price, distance, term)
        if qty == 0.0:
            gates[2] += 1
            row += 1
            continue
        gates[3] += 1
        if fate != FILLED:
            if fate == EXPIRED:
                gates[5] += 1
            elif fate == RAN_AWAY:
                gates[6] += 1
            row = end
            continue
        gates[4] += 1
        equity[written:fill] = cash
        fee = qty * price * term[_MAKER]
        held = cash - fee
        base = limit - paid[own + fill]
        for k in range(fill, end):
            equity[k] = held + qty * (curve[own + k] - base)
            exposed[k] = True
        written = end
        trade = trades[count]
        trade[0], trade[1], trade[2], trade[3] = sign, row, fill, end
        trade[4], trade[6], trade[7], trade[13], trade[14] = price, qty, sign * stop, reason, sign * last_stop
        if end >= n:
            if rules[_TARGET] > 0.0:
                trade[15] = sign * _rounded(
                    limit + rules[_TARGET] * risk[row], rules[_TICK], rules[_TICK_NUM], rules[_TICK_DEN]
                )
            trade[10], trade[11] = fee, qty * (paid[own + n - 1] - paid[own + fill])
            return count, True
        raw = leaving
        rate = term[_MAKER]
        if reason != TARGET:
            leaving *= 1.0 - sign * term[_SLIP]
            rate = term[_TAKER]
        paid_fee = qty * abs(leaving) * rate
        paid_funding = qty * (paid[own + end] - paid[own + fill])
        profit = qty * (leaving - limit)
        cash = held - paid_funding + (profit - paid_fee)
        profit = profit - fee - paid_fee - paid_funding
        trade[5], trade[8], trade[9] = abs(leaving), profit, profit / (qty * distance)
        trade[10], trade[11], trade[12] = fee + paid_fee, paid_funding, qty * (raw - leaving)
        count += 1
        row = end
        if profit < 0.0:
            row = end + np.int64(term[_COOLDOWN])
    equity[written:] = cash
    return count, False
