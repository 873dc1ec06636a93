"""The parameters of a request, from a query string or a JSON body, read with Bybit's strictness.

Whatever is missing, of the wrong type or out of range is a `VenueRefusal` with code 10001 and a text that names
the parameter. Numbers are exact: no float is ever made of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from trading.exchange.simulated.venue import VenueRefusal
from trading.model import ZERO

PARAMS_ERROR = 10001
LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,36}\Z", re.ASCII)
SYMBOL = re.compile(r"[A-Z0-9-]{1,30}\Z", re.ASCII)
NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,18})?([eE][+-]?\d{1,2})?\Z", re.ASCII)
INTEGER = re.compile(r"-?\d{1,18}\Z", re.ASCII)
LARGEST = Decimal(10) ** 15
FINEST = -18


def wrong(message: str) -> VenueRefusal:
    """The refusal of a parameter."""
    return VenueRefusal(PARAMS_ERROR, f"params error: {message}")


def from_query(raw: str) -> Params:
    """The parameters of an undecoded query string; a repeated one counts with its last value."""
    values: dict[str, Any] = {}
    for pair in raw.split("&") if raw else ():
        name, _, value = pair.partition("=")
        values[name] = unquote_plus(value) if "%" in value or "+" in value else value
    return Params(values)


def from_body(body: bytes) -> Params:
    """The parameters of a JSON body, which must be one object."""
    try:
        values = json.loads(body, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise wrong("request body is not valid JSON") from None
    if not isinstance(values, dict):
        raise wrong("request body must be a JSON object")
    return Params(values)


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


class Params:
    """Named values of one request. An absent, `null` or empty value is no value."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        """A string, empty when there is none; JSON numbers and booleans are taken as they are written."""
        value = self._values.get(name)
        if value is None or value.__class__ is str:
            return value or ""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, Decimal | int):
            return str(value)
        raise wrong(f"{name} invalid")

    def needed(self, name: str) -> str:
        """A string that must be there."""
        value = self.text(name)
        if not value:
            raise wrong(f"{name} is required")
        return value

    def choice(self, name: str, allowed: Collection[str], default: str = "") -> str:
        """One of the allowed words; `default` (empty: required) when there is none."""
        value = self.text(name) or default
        if value not in allowed:
            raise wrong(f"{name} invalid" if value else f"{name} is required")
        return value

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self.text(name)
        if not value:
            return default
        if not INTEGER.match(value) or not low <= int(value) <= high:
            raise wrong(f"{name} invalid")
        return int(value)

    def moment(self, name: str) -> int | None:
        """A time in milliseconds, or None."""
        value = self.integer(name, -1, 0, 10**14)
        return None if value < 0 else value

    def decimal(self, name: str) -> Decimal | None:
        """A finite number that is not negative, or None when there is no value."""
        value = self.text(name)
        if not value:
            return None
        if not NUMBER.match(value):
            raise wrong(f"{name} invalid")
        parsed = Decimal(value)
        if parsed < 0 or parsed >= LARGEST or _decimals(parsed) < FINEST:
            raise wrong(f"{name} invalid")
        return parsed + ZERO

    def amount(self, name: str) -> Decimal | None:
        """Like `decimal`, but zero is no value."""
        return self.decimal(name) or None

    def flag(self, name: str) -> bool:
        """A boolean; False when there is none."""
        return self.choice(name, ("true", "false"), "false") == "true"

    def symbol(self, known: Collection[str]) -> str:
        """A symbol of this exchange, which must be there."""
        value = self.needed("symbol")
        if value not in known:
            raise wrong(f"symbol invalid {value[:30]}" if SYMBOL.match(value) else "symbol invalid")
        return value

    def known_symbol(self, known: Collection[str]) -> str | None:
        """A symbol of this exchange, or None when none is given."""
        return self.symbol(known) if self.text("symbol") else None

    def link_id(self) -> str:
        """The client's own id of an order; empty when there is none."""
        value = self.text("orderLinkId")
        if value and not LINK_ID.match(value):
            raise VenueRefusal(PARAMS_ERROR, "OrderLinkId invalid: at most 36 letters, digits, dashes, underscores")
        return value

    def objects(self, name: str) -> list[Params]:
        """A list of objects that must be there."""
        value = self._values.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise wrong(f"{name} invalid")
        return [Params(item) for item in value]

    def length(self, name: str) -> int:
        """How many items a list has; 1 for anything else."""
        value = self._values.get(name)
        return len(value) if isinstance(value, list) else 1

    def with_default(self, name: str, value: str) -> Params:
        """The same values, and this one where there is none."""
        return self if name in self else Params({**self._values, name: value})

    def __contains__(self, name: str) -> bool:
        return bool(self.text(name))


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
