"""What an open position asks for at a close: step 7 of the specification, for a long; a short mirrors it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from trading.model import ExitReason, Instrument, Side
from trading.parameters import TradeRules


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The part of a position that trailing looks at. `best` already includes this bar; R is in price."""

    side: Side
    entry: Decimal
    r_distance: float
    stop: Decimal
    best: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Leave at the next open, or hold with this stop; `level_r` is the trailing level reached, 0 for none."""

    exit: ExitReason | None
    stop: Decimal
    level_r: float


def best_of(side: Side, best: float, entry_bar: bool, high: float, low: float, close: float) -> float:
    """The most favourable price so far; of the entry bar only its close counts, the rest may precede the fill."""
    if side is Side.LONG:
        return max(best, close if entry_bar else high)
    return min(best, close if entry_bar else low)


def step(held: Held, close: float, wants_out: bool, rules: TradeRules, instrument: Instrument) -> Ask:
    """Ratchet the stop (7b); leave when it came to lie at or beyond the close (7c) or on the signal (7d)."""
    sign, entry = held.side.sign, float(held.entry)
    level = _level(sign * (held.best - entry), held.r_distance, rules)
    stop = held.stop
    if level is not None:
        moved = instrument.round_price(entry + sign * (level - rules.trail_lag_r) * held.r_distance)
        stop = max(stop, moved) if held.side is Side.LONG else min(stop, moved)
        if sign * (float(stop) - close) >= 0:
            return Ask(exit=ExitReason.TRAILING, stop=stop, level_r=level)
    reason = ExitReason.SIGNAL if wants_out else None
    return Ask(exit=reason, stop=stop, level_r=level or 0.0)


def _level(gain: float, r_distance: float, rules: TradeRules) -> float | None:
    """The trailing level reached, in R; None while trailing is off or has not started."""
    if rules.trail_start_r == 0:
        return None
    m = math.floor(gain / (r_distance * rules.trail_step_r) + 1e-9) * rules.trail_step_r
    return m if m >= rules.trail_start_r - 1e-9 else None
