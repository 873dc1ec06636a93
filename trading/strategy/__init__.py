"""What a strategy is. Each module of this package that defines `STRATEGY` is one: a second one is one new file.

A strategy looks at closed bars only and says, for every bar at once: does it want in and on which side, how far
away is the stop (R), should an open position leave, and is the bar a falling knife. It knows nothing of orders,
money or time. No value of row t may depend on a row after t; a test cuts the future off and looks.
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol

import numpy as np

from trading.errors import BadInput
from trading.model import BoolArray, CandleSeries, FloatArray, SideArray
from trading.parameters import Parameters, near


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

    def evaluate(self, candles: CandleSeries) -> Signals:
        """Signals for every bar; undefined bars (warm-up) are simply not signals."""
        ...


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
