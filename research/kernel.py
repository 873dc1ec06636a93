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
- All combinations of a group walk through the same few weeks of bars before any goes on: what they look at is near.

Arrays are C-contiguous, and hold the n bars of longs and then their mirror: ranges float64 (2n, 2) low, high; ends
(2n, 2) open, close; curve and paid float64 (2n); bits uint64 (rows, words). Memory behind the curve must be readable,
see `research.lanes`.
This module is imported by the lab worker and by one-shot commands, never by the bot.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numba.cpython.unsafe.numbers import trailing_zeros

from research.lanes import extremes, sums_of_returns

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
FEES: Final = (_MAKER, _TAKER, _SLIP)

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

_0, _1, _2, _3, _4, _5, _6 = (np.uint64(place) for place in range(7))  # unsigned: none counts from the end

_NEARLY: Final = 1.0 - 1e-12  # a quantity of whole steps is a last digit off in a search
SPAN: Final = 2048  # bars that all combinations walk before any goes on; whole words

_njit: Any = njit  # its types do not know every option
_with_room: Any = _njit(cache=True, nogil=True, error_model="numpy")
# Code that makes no arrays does without counting who holds them: counting locks the memory at every look into one,
# which was a fifth of a search.
_compiled: Any = _njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
_inlined: Any = _njit(cache=True, nogil=True, error_model="numpy", _nrt=False, forceinline=True)


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
    return (place << 6) + np.int64(trailing_zeros(word))


@_inlined
def _edges(bits, start, words, asked, each, room):
    """Where a combination proposes an entry (column 0 of `edges`), and where that is a long one (column 1).

    Both sides at once are none, and neither is one on a knife. From word `start` of the bits on; the word after them
    is full, and `later` answers for every word which one is the next that is not empty. wanted: where the sides' own
    conditions hold, a word earlier.
    """
    wanted, edges, later = room.wanted, room.edges, room.later
    one, top, none = np.uint64(1), np.uint64(63), np.uint64(0)
    count, begin = np.uint64(words), np.uint64(start)
    for side, conditions in ((0, asked.longs), (1, asked.shorts)):
        held = wanted[side]
        held[0] = none
        if start > 0:
            held[0] = ~none
            for place in range(conditions.shape[1]):
                held[0] &= bits[conditions[each, place], begin - one]
        line = bits[conditions[each, 0]]
        for word in range(count):
            held[word + one] = line[begin + word]
        for place in range(1, conditions.shape[1]):
            line = bits[conditions[each, place]]
            for word in range(count):
                held[word + one] &= line[begin + word]
    longs, shorts = wanted[0], wanted[1]
    knives, rockets = bits[asked.knives[each, 0]], bits[asked.knives[each, 1]]
    for word in range(count):
        of_long, of_short = longs[word + one], shorts[word + one]
        begun_long = of_long & ~((of_long << one) | (longs[word] >> top))
        begun_short = of_short & ~((of_short << one) | (shorts[word] >> top))
        both = begun_long & begun_short
        begun_long &= ~(both | knives[begin + word])
        edges[word, 0] = begun_long | (begun_short & ~(both | rockets[begin + word]))
        edges[word, 1] = begun_long
    edges[words, 0] = edges[words, 1] = ~none
    following = words
    for word in range(words - 1, -1, -1):
        later[word] = following
        following = word if edges[word, 0] else following
    later[words] = words


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


class Bars(NamedTuple):
    """A series for a search: see the top of this module; risk: R at every bar, float64 (n)."""

    ranges: Any
    ends: Any
    curve: Any
    paid: Any
    bits: Any
    risk: Any


class Asked(NamedTuple):
    """A group of m combinations; those with the same exits and fees stand together.

    longs, shorts: int64 (m, conditions), rows of bits that must all hold for an entry. knives, outs: int64 (m, 2), rows
    of hazards and of exits, of longs and shorts. terms: float64 (m, 13).
    """

    longs: Any
    shorts: Any
    knives: Any
    outs: Any
    terms: Any


class _Room(NamedTuple):
    """What a search writes on.

    Signals of a span, of longs and then of shorts: traced int32 and known int64 (2 SPAN), where its way is written (for
    all), and in one number its end and its record's place (for those with the same exits and fees); -1 where it was not
    followed yet. Room for ways and levels, see `_trace`; for places, amounts and closes, see `_record`; counts: of
    ways and of records. wanted, edges, later: see `_edges`. held uint64 (SPAN) and opened (SPAN, 2): a combination's
    positions in the span. accounts (m, fields), blocks (m, BLOCKS, 3): what is known of each combination so far.
    """

    traced: Any
    known: Any
    ways: Any
    levels: Any
    places: Any
    amounts: Any
    closes: Any
    counts: Any
    wanted: Any
    edges: Any
    later: Any
    held: Any
    opened: Any
    accounts: Any
    blocks: Any


@_inlined
def _trace(bars, side, row, rules, room, way):
    """Follow a signal as if the strategy never wanted out, for every combination with this stop.

    ways: bar of the fill (-1: none), bar of the end, reason, side's place of the signal. levels: limit, stop distance
    over price, one over the stop distance, price of the end.
    """
    ways, levels = room.ways, room.levels
    fate, fill, end, reason, limit, stop, price, _ = _follow(
        bars.ranges, bars.ends, bars.bits, -1, side, row, bars.risk[row], rules
    )
    ways[way, 0] = fill if fate == FILLED else -1
    ways[way, 1] = row + 1 if fate == NO_PRICE else end
    ways[way, 2] = reason
    ways[way, 3] = side * bars.risk.shape[0] + row
    if fate == NO_PRICE:  # too far away for anybody
        limit, stop, price = 1.0, -np.inf, 0.0
    levels[way, 0] = limit
    levels[way, 1] = abs(limit - stop) / abs(limit)
    levels[way, 2] = 1.0 / abs(limit - stop)
    levels[way, 3] = price


@_inlined
def _record(bars, line, side, term, room, way, place):
    """Where such a way ends for a strategy that wants out at the bits of a line: at the next open, if it gets there.

    places: bar of the fill (-1: none), bar of the end, place of the signal. amounts: price, stop distance over price,
    one over the stop distance, and of a unit what it leaves, its fees and its funding; then the bars it is open.
    closes: of a unit the fee of its entry, the lowest and the highest that its closes show; and the base of its curve.
    """
    n, curve, paid = bars.risk.shape[0], bars.curve, bars.paid
    places, amounts, closes = room.places, room.amounts, room.closes
    own = side * n
    fill, end, target = np.int64(room.ways[way, 0]), np.int64(room.ways[way, 1]), room.ways[way, 2] == TARGET
    limit, leaving = room.levels[way, 0], room.levels[way, 3]
    amounts[place, 0], amounts[place, 1], amounts[place, 2] = abs(limit), room.levels[way, 1], room.levels[way, 2]
    amounts[place, 3] = amounts[place, 4] = amounts[place, 5] = amounts[place, 6] = 0.0
    if fill >= 0:
        out = _next(bars.bits, line, fill, end)  # at the close of the bar before the end it is still in time
        if out < end and out + 1 < n:
            end, target, leaving = out + 1, False, bars.ends[own + out + 1, 0]
        base, entry = limit - paid[own + fill], abs(limit) * term[_MAKER]
        low, high = extremes(curve, np.uint64(own + fill), np.uint64(own + end))
        cost, funding = 0.0, paid[own + min(end, n - 1)] - paid[own + fill]
        if end < n:
            rate = term[_MAKER]
            if not target:
                leaving *= 1.0 - (1.0 - 2.0 * side) * term[_SLIP]
                rate = term[_TAKER]
            cost = abs(leaving) * rate
            amounts[place, 3] = leaving - limit - funding - entry - cost
        else:  # it is open after the last bar
            amounts[place, 3] = curve[own + n - 1] - base - entry
        amounts[place, 4], amounts[place, 5], amounts[place, 6] = entry + cost, funding, end - fill
        closes[place, 0], closes[place, 1], closes[place, 2], closes[place, 3] = entry, low - base, high - base, base
    places[place, 0], places[place, 1], places[place, 2] = fill, end, room.ways[way, 3]


@_compiled
def _found(bars, signal, side, row, rules, asked, each, room):
    """Follow a signal that this combination is the first to meet: its end and the place of its record in one number."""
    way = np.int64(room.traced[signal])
    if way < 0:
        way = room.counts[0]
        room.counts[0] += 1
        room.traced[signal] = way
        _trace(bars, side, row, rules, room, way)
    place = room.counts[1]
    room.counts[1] += 1
    _record(bars, asked.outs[each, side], side, asked.terms[each], room, way, place)
    return (np.int64(room.places[place, 1]) << 32) | place


# A combination's account while it is searched, in this order (float64).
_CASH, _PEAK, _DRAWDOWN, _TRADES, _WINS, _GAINS, _LOSSES, _MULTIPLES, _EXPOSED, _FEES, _FUNDING, _RUINED = range(12)
_ROW, _BLOCK, _FIELDS = range(12, 15)


@_inlined
def _trades(bars, start, words, rules, asked, each, room):
    """One combination's trades of one span: from edge to edge, and from one trade's cash to the next one's.

    These two chains are what takes the time, so that everything beside them is looked up, and all else about a trade
    comes to one number, what a unit of it leaves. held, opened: the record of each position, cash before it and its
    quantity. Answers how many there are.
    """
    n, term, account = bars.risk.shape[0], asked.terms[each], room.accounts[each]
    edges, later, known, places, amounts = room.edges, room.later, room.known, room.places, room.amounts
    held, opened = room.held, room.opened
    row, stop = np.int64(account[_ROW]), start + (words << 6)
    share, most, too_far = term[_RISK], term[_MOST], 0.8 / term[_LEVERAGE]
    margin = 1.0 / (1.0 / term[_LEVERAGE] + term[_MAKER] + term[_TAKER])
    per_step, step = (1.0 + 1e-15) / term[_QTY], term[_QTY_NUM] / term[_QTY_DEN]
    least, least_value = max(term[_MIN_QTY], step) * _NEARLY, term[_MIN_VALUE] * _NEARLY
    cooldown = np.int64(term[_COOLDOWN])
    cash, trades, wins = account[_CASH], account[_TRADES], account[_WINS]
    gains, losses, multiples = account[_GAINS], account[_LOSSES], account[_MULTIPLES]
    exposed, fees, funding = account[_EXPOSED], account[_FEES], account[_FUNDING]
    kept = 0
    while row < stop:
        word = np.uint64((row - start) >> 6)
        here = edges[word, _0] >> np.uint64(row & 63) << np.uint64(row & 63)
        if not here:
            word = later[word]
            here = edges[word, _0]
        bit = trailing_zeros(here)
        row = start + np.int64((word << _6) + bit)
        if row >= stop:
            break
        side = np.int64(~edges[word, _1] >> bit & _1)
        signal = np.uint64(side * SPAN + row - start)
        found = known[signal]
        if found < 0:
            found = _found(bars, signal, side, row, rules, asked, each, room)
            known[signal] = found

        # The quantity, as `_sized` has it, in steps.
        at = np.uint64(found & 0xFFFFFFFF)
        price, risked, leaves = amounts[at, _0], amounts[at, _2], amounts[at, _3]
        lots = np.floor(min(cash * (min(share * risked, margin / price) * per_step), most / price * per_step) + 1e-9)
        qty = lots * step
        if not (cash > 0.0 and amounts[at, _1] < too_far and qty >= least and qty * price >= least_value):
            row += 1
            continue
        row = found >> 32
        filled = places[at, _0] >= 0
        held[kept], opened[kept, 0], opened[kept, 1] = at, cash, qty
        kept += filled
        profit = lots * (step * leaves)  # the shortest way to the next one's cash
        cash += profit
        fees += qty * amounts[at, _4]
        funding += qty * amounts[at, _5]
        exposed += amounts[at, _6]
        if row < n:
            trades += filled
            multiples += leaves * risked
            wins += profit > 0.0
            gains += max(profit, 0.0)
            losses += min(profit, 0.0)
        if cooldown > 0 and leaves < 0.0:
            row += cooldown
    account[_ROW], account[_CASH], account[_TRADES], account[_WINS] = row, cash, trades, wins
    account[_GAINS], account[_LOSSES], account[_MULTIPLES] = gains, losses, multiples
    account[_EXPOSED], account[_FEES], account[_FUNDING] = exposed, fees, funding
    return kept


@_inlined
def _equity(bars, first, kept, room, each):
    """What the closes of these positions add to the drawdown, and to the sums of returns by block."""
    n, curve, account, in_block = bars.risk.shape[0], bars.curve, room.accounts[each], room.blocks[each]
    held, opened, places, amounts, closes = room.held, room.opened, room.places, room.amounts, room.closes
    part = (n - first + BLOCKS - 1) // BLOCKS
    peak, drawdown, ruined = account[_PEAK], account[_DRAWDOWN], account[_RUINED] > 0.0
    block = np.int64(account[_BLOCK])
    block_end = first + (block + 1) * part
    for position in range(kept):
        at = held[position]
        opening, qty = opened[position, 0], opened[position, 1]
        fill, end = np.int64(places[at, _0]), np.int64(places[at, _1])
        own = n if places[at, _2] >= n else 0
        base = closes[at, _3]
        # The position: equity is outlay + qty * (curve - base) at each of its closes.
        outlay = opening - qty * closes[at, _0]
        after = opening + qty * amounts[at, _3]

        # Extremes first, because they may spare the bars.
        low = min(after, outlay + qty * closes[at, _1])
        high = max(after, outlay + qty * closes[at, _2])
        if high <= peak:  # no new peak: the deepest point is the lowest
            drawdown = max(drawdown, (peak - low) / peak)
        elif low <= 0.0 or (high - low) > drawdown * high:
            peak, drawdown = _deepened(curve, own + fill, own + end, outlay, qty, base, peak, drawdown)
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
        away = outlay / qty - base
        change = (outlay + qty * (curve[own + fill] - base) - opening) / opening
        total, squares, falls = change, change * change, min(change, 0.0) ** 2
        since = fill + 1
        while True:
            until = min(end, block_end)
            more = sums_of_returns(curve, np.uint64(own + since), np.uint64(own + until), away)
            in_block[block, 0] += total + more[0]
            in_block[block, 1] += squares + more[1]
            in_block[block, 2] += falls + more[2]
            if end <= block_end:
                break
            total = squares = falls = 0.0
            since = block_end
            block += 1
            block_end += part
        if end < n:
            if end >= block_end:
                block += 1
                block_end += part
            equity = outlay + qty * (curve[own + end - 1] - base)
            change = (after - equity) / equity
            in_block[block, 0] += change
            in_block[block, 1] += change * change
            in_block[block, 2] += min(change, 0.0) ** 2
    account[_PEAK], account[_DRAWDOWN], account[_RUINED], account[_BLOCK] = peak, drawdown, ruined, block


@_with_room
def search(first, bars, rules, asked, sums, blocks):
    """A group of combinations: one stop, one set of rules; exits, entries and accounts differ.

    They walk through the bars together, span by span, so that what they look at stays near the processor.
    first: the bar from which on entries are proposed and sums are taken. Writes sums (m, 14) and blocks float32
    (m, 2, 16). Answers how many signals were followed.
    """
    m, words = len(asked.terms), SPAN >> 6
    room = _Room(
        np.full(2 * SPAN, -1, np.int32),
        np.full(2 * SPAN, -1, np.int64),
        np.empty((2 * SPAN, 4), np.int32),
        np.empty((2 * SPAN, 4)),
        np.empty((2 * SPAN, 4), np.int32),
        np.empty((2 * SPAN, 8)),
        np.empty((2 * SPAN, 4)),
        np.zeros(2, np.int64),
        np.empty((2, words + 1), np.uint64),
        np.empty((words + 1, 2), np.uint64),
        np.empty(words + 1, np.uint64),
        np.empty(SPAN + 1, np.uint64),
        np.empty((SPAN + 1, 2)),
        np.zeros((m, _FIELDS)),
        np.zeros((m, BLOCKS, 3)),
    )
    for each in range(m):
        room.accounts[each, _CASH] = room.accounts[each, _PEAK] = asked.terms[each, _EQUITY]
        room.accounts[each, _ROW] = first
    followed = _walked(first, bars, rules, asked, room)
    _summed_up(room, sums, blocks)
    return followed


@_compiled
def _walked(first, bars, rules, asked, room):
    """All combinations through one span, and then through the next one."""
    n, followed = bars.risk.shape[0], 0
    for start in range(first & ~63, n, SPAN):
        words = min(SPAN >> 6, bars.bits.shape[1] - (start >> 6))
        for each in range(len(asked.terms)):
            if each > 0 and not _alike(asked, each):
                _forget(n, start, room.counts[1], room.places, 2, room.known)
                room.counts[1] = 0
            if room.accounts[each, _ROW] < start + (words << 6):
                _edges(bars.bits, start >> 6, words, asked, each, room)
                kept = _trades(bars, start, words, rules, asked, each, room)
                _equity(bars, first, kept, room, each)
        _forget(n, start, room.counts[1], room.places, 2, room.known)
        _forget(n, start, room.counts[0], room.ways, 3, room.traced)
        followed += room.counts[0]
        room.counts[:] = 0
    return followed


@_inlined
def _alike(asked, each):
    """Whether a combination shares its records with the one before: the same exits and fees."""
    outs, terms = asked.outs, asked.terms
    same = outs[each, 0] == outs[each - 1, 0] and outs[each, 1] == outs[each - 1, 1]
    for rate in FEES:
        same = same and terms[each, rate] == terms[each - 1, rate]
    return same


@_compiled
def _forget(n, start, count, written, column, table):
    """Void what the table answers for the signals that are written in that column."""
    for place in range(count):
        signal = np.int64(written[place, column])
        table[signal - start if signal < n else signal - n - start + SPAN] = -1


@_compiled
def _summed_up(room, sums, blocks):
    """Every combination's sums and blocks."""
    for each in range(len(sums)):
        row, account = sums[each], room.accounts[each]
        row[:] = 0.0
        for block in range(BLOCKS):
            for place in range(3):
                row[1 + place] += room.blocks[each, block, place]
            blocks[each, 0, block] = room.blocks[each, block, 0]
            blocks[each, 1, block] = room.blocks[each, block, 1]
        row[0], row[4], row[5], row[6] = account[_CASH], account[_DRAWDOWN], account[_TRADES], account[_WINS]
        row[7], row[8], row[9] = account[_GAINS], account[_LOSSES], account[_MULTIPLES]
        row[10], row[11], row[12], row[13] = account[_EXPOSED], account[_FEES], account[_FUNDING], account[_RUINED]


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
