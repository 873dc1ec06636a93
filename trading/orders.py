"""Orders of ours and what may become of them; and the names they go by.

    INTENDED ──► ACCEPTED ──► FILLED
       │  ╲          ├──────► CANCELLED
       │   ► DOUBTED ┤
       └─────────────┴──────► REFUSED

A doubted order is asked for until it is one of the others. An acknowledgement is only a receipt: refusal may follow.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from trading.model import ZERO, ExitReason, OrderSide, OrderType, Purpose, millis


class OrderState(StrEnum):
    """Where an order of ours stands."""

    INTENDED = "intended"
    ACCEPTED = "accepted"
    DOUBTED = "doubted"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REFUSED = "refused"


NEXT: dict[OrderState, frozenset[OrderState]] = {
    OrderState.INTENDED: frozenset(OrderState) - {OrderState.INTENDED},
    OrderState.DOUBTED: frozenset(OrderState) - {OrderState.INTENDED},
    OrderState.ACCEPTED: frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.REFUSED}),
    OrderState.FILLED: frozenset(),
    OrderState.CANCELLED: frozenset(),
    OrderState.REFUSED: frozenset(),
}


def may_become(old: OrderState, new: OrderState) -> bool:
    """Is this a step of the picture above?"""
    return new in NEXT[old]


@dataclass(slots=True, kw_only=True)
class WorkingOrder:
    """An order of ours that is not finished. `signal_time` is the open time of the bar that was decided on."""

    link_id: str
    verdict_id: int | None
    symbol: str
    purpose: Purpose
    side: OrderSide
    type: OrderType
    qty: Decimal
    price: Decimal | None
    stop: Decimal | None
    take_profit: Decimal | None
    r_distance: float
    signal_time: datetime
    exit_reason: ExitReason | None = None
    state: OrderState = OrderState.INTENDED
    filled: Decimal = ZERO

    @property
    def uncertain(self) -> bool:
        """True while nobody knows whether the exchange has it."""
        return self.state in {OrderState.INTENDED, OrderState.DOUBTED}


def link_id_of(account: str, symbol: str, purpose: Purpose, signal_time: datetime, salt: str = "") -> str:
    """The name of an order: a pure function of what it is for, so that a repeat is recognised as one.

    At most 36 characters of [A-Za-z0-9-]. `salt` tells apart orders of one purpose and bar (a manual close).
    """
    text = f"{account}|{symbol}|{purpose}|{millis(signal_time)}|{salt}"
    digest = hashlib.sha256(text.encode()).digest()[:15]
    return f"cv-{purpose[0]}-{base64.b32encode(digest).decode().lower()}"
