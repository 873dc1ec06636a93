"""Column types that keep what they are given: exact decimals, aware times, text that any database accepts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from sqlalchemy import BigInteger, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from trading.model import EPOCH

MICROSECOND: Final = timedelta(microseconds=1)


class ExactDecimal(TypeDecorator[Decimal]):
    """A `Decimal` as its own digits; SQLite's NUMERIC would make a float of it."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> str | None:
        """Refuses NaN and infinity."""
        if value is not None and not value.is_finite():
            raise ValueError(f"{value} is not an amount that may be stored")
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Decimal | None:
        """The same digits back."""
        return None if value is None else Decimal(value)


class UtcTime(TypeDecorator[datetime]):
    """An aware time as whole microseconds since 1970 UTC: exact, ordered, and never naive."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuses a time without a zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone: times are aware UTC")
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """The same moment, in UTC."""
        return None if value is None else (EPOCH + value * MICROSECOND).astimezone(UTC)


class PlainText(TypeDecorator[str]):
    """Text from outside: what a database may refuse (half a surrogate pair, NUL) becomes U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as it can be stored."""
        return None if value is None else storable(value)


def storable(text: str) -> str:
    """`text` with every character that a database may refuse replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "\ufffd")
