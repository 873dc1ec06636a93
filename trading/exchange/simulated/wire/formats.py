"""How numbers, times and JSON are written: plain decimals in strings, nothing rounded, no exponent."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.model import millis

encode = json.JSONEncoder(separators=(",", ":")).encode


def number(value: Decimal | None) -> str:
    """A decimal with all its digits and no trailing zeros; empty for no value."""
    if value is None:
        return ""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def price(value: float) -> str:
    """The shortest decimal of a float64, as the exchange would have written it."""
    text = repr(value)
    if "e" in text:
        return number(Decimal(text))
    return text.removesuffix(".0")


def stamp(at: datetime) -> str:
    """Milliseconds since the epoch, as a string."""
    return str(millis(at))


def envelope(code: int, message: str, result: dict[str, Any], ext: dict[str, Any], time_ms: int) -> str:
    """The one shape of every REST reply."""
    head = f'{{"retCode":{code},"retMsg":{encode(message)},"result":'
    return f'{head}{encode(result)},"retExtInfo":{encode(ext) if ext else "{}"},"time":{time_ms}}}'
