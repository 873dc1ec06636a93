"""What a strategy is. Each module of this package that defines `STRATEGY` is one: a second one is one new file.

A strategy looks at closed bars only and says, for every bar at once: does it want in and on which side, how far
away is the stop (R), should an open position leave, and is the bar a falling knife. It knows nothing of orders,
money or time. No value of row t may depend on a row after t; a check cuts the future off and looks.

It says so in pieces. A `Piece` is one array together with the parameters it depends on, so that a search over
thousands of parameter sets makes each piece once; `evaluate` puts the pieces of one set together.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache, reduce
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from trading.errors import BadInput
from trading.model import BoolArray, CandleSeries, FloatArray, SideArray
from trading.parameters import Parameters, near

if TYPE_CHECKING:
    from trading.indicators import Indicators  # TA-Lib: whoever only asks for names and ranges does not need it

A = TypeVar("A", BoolArray, FloatArray)


@dataclass(frozen=True, slots=True)
class Piece(Generic[A]):
    """One array of a strategy, one entry per bar, made when it is asked for.

    `key` is its name with the value of every parameter that it depends on: equal keys, equal arrays.
    """

    key: tuple[Hashable, ...]
    make: Callable[[Indicators], A]


Condition = Piece[BoolArray]
Measure = Piece[FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A strategy with its parameters, as pieces.

    long, short: all must hold for the side to be wanted; an entry is proposed on the bar at which they begin to.
    stop_distance: R in price, NaN where undefined.
    exit_long, exit_short: an open position on that side should leave at the next open.
    hazard_long, hazard_short: the bar is one on which this side must not be entered (the anti-knife).
    calm: the bar closed back inside the bands: a latched hazard is over.
    """

    long: tuple[Condition, ...]
    short: tuple[Condition, ...]
    stop_distance: Measure
    exit_long: Condition
    exit_short: Condition
    hazard_long: Condition
    hazard_short: Condition
    calm: Condition


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Signals:
    """A strategy's view of every bar; all arrays have one entry per bar.

    side: int8, +1 wants long, -1 wants short, 0 nothing (an edge, not a state).
    stop_distance: float64, R in price; NaN where undefined.
    exit_long, exit_short: bool, an open position on that side should leave at the next open.
    hazard_long, hazard_short: bool, the bar is one on which this side must not be entered (the anti-knife).
    calm: bool, the bar closed back inside the bands: a latched hazard is over.
    """

    side: SideArray
    stop_distance: FloatArray
    exit_long: BoolArray
    exit_short: BoolArray
    hazard_long: BoolArray
    hazard_short: BoolArray
    calm: BoolArray

    def latched(self, hazard: BoolArray) -> BoolArray:
        """True from a hazard bar on until a later bar is calm again (that bar is free unless it is a hazard)."""
        rows = np.arange(len(hazard))
        last_hazard = np.maximum.accumulate(np.where(hazard, rows, -1))
        last_calm = np.maximum.accumulate(np.where(self.calm & ~hazard, rows, -1))
        result: BoolArray = last_hazard > last_calm
        return result


class Strategy(Protocol):
    """One trading idea with its parameters."""

    name: ClassVar[str]
    parameters: ClassVar[type[Parameters]]

    @property
    def longest_period(self) -> int:
        """The longest look-back in bars; live warm-up history is at least ten times this."""
        ...

    def rules(self) -> Rules:
        """What it says, in pieces; undefined bars (warm-up) are simply not signals."""
        ...


def evaluate(strategy: Strategy, candles: CandleSeries) -> Signals:
    """The strategy's signals for every bar of the series."""
    from trading.indicators import Indicators

    rules, known = strategy.rules(), Indicators(candles)
    long_ok, short_ok = (_together(side, known) for side in (rules.long, rules.short))
    return Signals(
        side=began(long_ok).astype(np.int8) - began(short_ok).astype(np.int8),
        stop_distance=rules.stop_distance.make(known),
        exit_long=rules.exit_long.make(known),
        exit_short=rules.exit_short.make(known),
        hazard_long=rules.hazard_long.make(known),
        hazard_short=rules.hazard_short.make(known),
        calm=rules.calm.make(known),
    )


def _together(conditions: tuple[Condition, ...], known: Indicators) -> BoolArray:
    """True where all of them hold."""
    result: BoolArray = reduce(np.logical_and, (each.make(known) for each in conditions))
    return result


def began(state: BoolArray) -> BoolArray:
    """True where a state begins."""
    result = state.copy()
    result[1:] &= ~state[:-1]
    return result


@cache
def strategies() -> dict[str, type[Any]]:
    """Every strategy of this package by name."""
    found: dict[str, type[Any]] = {}
    for module in pkgutil.iter_modules(__path__):
        strategy = getattr(importlib.import_module(f"{__name__}.{module.name}"), "STRATEGY", None)
        if strategy is not None:
            found[strategy.name] = strategy
    return found


def strategy_named(name: str) -> type[Any]:
    """The strategy class of that name; `BadInput` with a near match when there is none."""
    known = strategies()
    if name not in known:
        raise BadInput(f"strategy {name!r} is not known{near(name, known)}: one of {', '.join(sorted(known))}")
    return known[name]
