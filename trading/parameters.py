"""Parameters with ranges: the rules around a strategy, the account's terms, and how a set of names is read.

Every name, default and range is that of the specification. A value outside its range is refused by name.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from trading.errors import BadInput

LONGEST_PERIOD = 100_000  # bars; TA-Lib refuses longer ones
LARGEST_WHOLE = 10**15


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of a number: `least` is included unless `open_ended` says that the value must lie above it."""

    least: float | None = 0.0
    open_ended: bool = False

    def problem(self, value: float) -> str | None:
        """Why `value` is refused, or None."""
        if not math.isfinite(value):
            return "must be a finite number"
        if self.least is None:
            return None
        if self.open_ended and value <= self.least:
            return f"must be greater than {self.least:g}"
        if not self.open_ended and value < self.least:
            return f"must be at least {self.least:g}"
        return None


def param(default: float, doc: str, *, least: float | None = 0.0, above: float | None = None) -> Any:
    """A dataclass field with its range: at least `least`, or strictly above `above`."""
    limits = Range(above, open_ended=True) if above is not None else Range(least)
    return field(default=default, metadata={"range": limits, "doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Base of every parameter set; construction refuses what is out of range, naming it."""

    def __post_init__(self) -> None:
        for spec in dataclasses.fields(self):
            value = getattr(self, spec.name)
            if problem := _problem(spec, value):
                raise BadInput(f"{spec.name} {problem} (it is {value!r})")
            if spec.type == "float":
                object.__setattr__(self, spec.name, float(value))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Every parameter's name, in order."""
        return tuple(spec.name for spec in dataclasses.fields(cls))

    def changed(self, values: Mapping[str, Any]) -> Self:
        """A copy with some values replaced and checked again."""
        return dataclasses.replace(self, **values)

    def varied(self, values: Mapping[str, Any]) -> Self:
        """A copy with values that were checked before, one by one: a search makes a hundred thousand of them."""
        kind = type(self)
        copy, setting = object.__new__(kind), object.__setattr__
        for name in kind.__dataclass_fields__:
            setting(copy, name, values[name] if name in values else getattr(self, name))
        return copy

    def as_dict(self) -> dict[str, Any]:
        """Name to value."""
        return dataclasses.asdict(self)


def _problem(spec: dataclasses.Field[Any], value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "must be a number"
    if spec.type == "int" and not isinstance(value, int):
        return "must be a whole number"
    limits: Range = spec.metadata["range"]
    return limits.problem(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeRules(Parameters):
    """How an entry rests, how its stop trails and when a new one is allowed; in R multiples and bars."""

    take_profit_r: float = param(0.0, "take profit at this many R; 0 means the trailing stop alone")
    trail_start_r: float = param(1.0, "first trailing level in R; 0 turns trailing off")
    trail_step_r: float = param(1.0, "distance between trailing levels in R", above=0.0)
    trail_lag_r: float = param(1.0, "how far the stop follows behind the level reached, in R")
    entry_offset: float = param(0.0005, "the limit entry rests this fraction away from the close")
    entry_ttl_bars: int = param(3, "bars the entry may rest before it is cancelled", least=1)
    runaway_r: float = param(3.0, "cancel the entry once the close is further than this many R from it")
    cooldown_bars: int = param(0, "bars without a new entry after a losing trade")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountTerms(Parameters):
    """Money terms: equity in USDT, fees, slippage and funding as fractions."""

    initial_equity: float = param(10000.0, "equity at the start, USDT", above=0.0)
    risk_per_trade: float = param(0.01, "fraction of equity at risk between entry and stop")
    leverage: float = param(5.0, "leverage of the account", least=1.0)
    max_position_usdt: float = param(15000.0, "largest notional of all positions together, USDT")
    maker_fee: float = param(0.0002, "fee on a resting fill")
    taker_fee: float = param(0.00055, "fee on a market or stop fill")
    slippage: float = param(0.0002, "price moved against a market or stop fill")
    funding_rate: float = param(0.0001, "funding per 8 h settlement where no series says", least=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentTerms(Parameters):
    """Overrides of an instrument's rules (`--set tick_size=…`)."""

    tick_size: float = param(0.1, "smallest price step", above=0.0)
    qty_step: float = param(0.001, "smallest quantity step", above=0.0)
    min_qty: float = param(0.001, "smallest quantity of an order")
    min_notional: float = param(5.0, "smallest notional of an order, USDT")


def too_large(name: str, value: float) -> str | None:
    """Why a value is beyond what any parameter of that name can be; None when it is not."""
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        return "is too large"
    if name.endswith("_period") and value > LONGEST_PERIOD:
        return f"must be at most {LONGEST_PERIOD}"
    return None


def near(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not known: ` (did you mean …?)`, or nothing."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {matches[0]}?)" if matches else ""
