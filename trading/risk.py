"""Risk: how large, and whether at all. The only module that makes an `Approved`.

`Broker.place` takes `Approved[PlaceOrder]` alone, so nothing reaches an exchange that did not pass here.
Sizes are computed in float64 exactly as the specification writes them and floored to whole steps as `Decimal`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Generic, TypeVar

from trading.model import (
    AccountFacts,
    Instrument,
    OrderSide,
    OrderType,
    PlaceOrder,
    Proposal,
    Purpose,
    Side,
)
from trading.orders import WorkingOrder
from trading.parameters import AccountTerms, Parameters, param

T = TypeVar("T")
_SEAL = object()


class Approved(Generic[T]):
    """An order that passed risk. Only this module holds the seal that makes one."""

    __slots__ = ("order",)

    def __init__(self, order: T, seal: object) -> None:
        if seal is not _SEAL:
            raise TypeError("only trading.risk approves orders")
        self.order = order


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """No order: `rule` is the rule's name, `reason` a sentence for a person."""

    rule: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """What positions and resting entries of the whole account already use."""

    notional: float = 0.0
    margin: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A size that respects every cap. `risk_usdt` is the loss at the stop before fees and slippage.

    `clamp` is the cap that made it smaller than the risk alone would have, with before and after; empty: none did.
    """

    qty: Decimal
    risk_usdt: Decimal
    clamp: str = ""


def size_entry(
    proposal: Proposal,
    *,
    equity: Decimal,
    terms: AccountTerms,
    instrument: Instrument,
    used: Exposure,
    size_modifier: float = 1.0,
) -> Sized | Refused:
    """Entry rule 2 of the specification. With nothing else open, `used` is empty and the page is met exactly.

    The modifier is clamped to 0..1: nobody outside this function can enlarge a position.
    """
    cash, price, stop = float(equity), float(proposal.entry), float(proposal.stop)
    if refusal := _refuse_levels(proposal.side, cash, price, stop, terms):
        return refusal
    shrink = 0.0 if math.isnan(size_modifier) else min(max(size_modifier, 0.0), 1.0)
    margin_rate = 1 / terms.leverage + terms.maker_fee + terms.taker_fee
    wanted = cash * terms.risk_per_trade * shrink / abs(price - stop)
    by_notional = (terms.max_position_usdt - used.notional) / price
    by_margin = (cash - used.margin) / (price * margin_rate)
    qty = instrument.floor_qty(min(wanted, by_notional, by_margin))
    if qty < instrument.min_qty or qty <= 0:
        return Refused(rule="min_qty", reason=f"size {qty} is below the least quantity {instrument.min_qty}")
    if float(qty) * price < float(instrument.min_notional):
        return Refused(rule="min_notional", reason=f"notional is below {instrument.min_notional} USDT")
    clamp, uncapped = "", instrument.floor_qty(wanted)
    if qty != uncapped:
        cap = "max_position_usdt" if by_notional <= by_margin else "the margin that is free"
        clamp = f"{cap} cut it from {uncapped} to {qty}"
    return Sized(qty=qty, risk_usdt=qty * abs(proposal.entry - proposal.stop), clamp=clamp)


def at_most(sized: Sized | Refused, base: Sized | Refused, proposal: Proposal) -> Sized | Refused:
    """The size, but no larger than the base size that guards and council were told, whatever was freed since then."""
    if isinstance(sized, Refused) or isinstance(base, Refused) or sized.qty <= base.qty:
        return sized
    clamp = f"the size that was decided on cut it from {sized.qty} to {base.qty}"
    return Sized(qty=base.qty, risk_usdt=base.qty * abs(proposal.entry - proposal.stop), clamp=clamp)


def _refuse_levels(
    side: Side, cash: float, price: float, stop: float, terms: AccountTerms
) -> Refused | None:
    if not all(map(math.isfinite, (cash, price, stop))):
        return Refused(rule="numbers", reason="equity, entry and stop must be finite numbers")
    if cash <= 0:
        return Refused(rule="equity", reason="there is no equity left to risk")
    if price <= 0 or price == stop:
        return Refused(rule="stop_distance", reason="the stop lies on the entry price")
    if (price - stop) * side.sign < 0:
        return Refused(rule="stop_side", reason=f"the stop of a {side.value} lies on the wrong side of the entry")
    if abs(price - stop) / price >= 0.8 / terms.leverage:
        return Refused(rule="liquidation", reason="the stop would sit too near liquidation at this leverage")
    return None


def margin_of(notional: float, terms: AccountTerms) -> float:
    """Cash that a notional binds: initial margin and both fees."""
    return notional * (1 / terms.leverage + terms.maker_fee + terms.taker_fee)


def approve_entry(proposal: Proposal, sized: Sized, link_id: str) -> Approved[PlaceOrder]:
    """The post-only limit entry with its stop attached."""
    order = PlaceOrder(
        link_id=link_id,
        symbol=proposal.symbol,
        side=OrderSide.opening(proposal.side),
        type=OrderType.LIMIT,
        qty=sized.qty,
        purpose=Purpose.ENTRY,
        price=proposal.entry,
        post_only=True,
        stop_loss=proposal.stop,
    )
    return Approved(order, _SEAL)


def approve_exit(symbol: str, side: Side, qty: Decimal, link_id: str) -> Approved[PlaceOrder]:
    """A reduce-only market exit: it can only lessen risk, so it is always approved."""
    order = PlaceOrder(
        link_id=link_id,
        symbol=symbol,
        side=OrderSide.closing(side),
        type=OrderType.MARKET,
        qty=qty,
        purpose=Purpose.EXIT,
        reduce_only=True,
    )
    return Approved(order, _SEAL)


def approve_take_profit(
    symbol: str, side: Side, qty: Decimal, price: Decimal, link_id: str
) -> Approved[PlaceOrder]:
    """The reduce-only post-only limit that takes profit."""
    order = PlaceOrder(
        link_id=link_id,
        symbol=symbol,
        side=OrderSide.closing(side),
        type=OrderType.LIMIT,
        qty=qty,
        purpose=Purpose.TAKE_PROFIT,
        price=price,
        post_only=True,
        reduce_only=True,
    )
    return Approved(order, _SEAL)


def approve_again(order: WorkingOrder) -> Approved[PlaceOrder]:
    """The same order under the same id: it was approved when it was intended."""
    entry = order.purpose is Purpose.ENTRY
    request = PlaceOrder(
        link_id=order.link_id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        qty=order.qty,
        purpose=order.purpose,
        price=order.price,
        post_only=order.type is OrderType.LIMIT,
        reduce_only=not entry,
        stop_loss=order.stop if entry else None,
    )
    return Approved(request, _SEAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Parameters):
    """The account's limits, conservative by default; R is the base risk of one trade."""

    daily_loss_r: float = param(3.0, "no entry after losing this many R in one UTC day", above=0.0)
    weekly_loss_r: float = param(6.0, "no entry after losing this many R in one ISO week (UTC)", above=0.0)
    max_drawdown: float = param(0.2, "no entry below the equity peak by this fraction", above=0.0)
    losing_streak: int = param(4, "this many losses in a row start a cool-down", least=1)
    streak_cooldown_bars: int = param(6, "bars without an entry after such a streak")
    max_open_risk: float = param(0.03, "open risk of all positions and entries, fraction of equity", above=0.0)
    max_positions: int = param(3, "positions and resting entries at once", least=1)
    min_stop_atr: float = param(0.5, "a stop nearer than this many ATR is refused")
    max_stop_atr: float = param(8.0, "a stop farther than this many ATR is refused", above=0.0)
    max_data_age_bars: float = param(0.5, "a decision on a bar older than this many bars is refused")
    max_slip_atr: float = param(0.25, "price may move this many ATR between decision and order")


PAUSED = Refused(rule="paused", reason="trading is paused: /resume takes entries again")


def breached(limits: Limits, facts: AccountFacts, new_risk: float) -> list[Refused]:
    """Every account limit that forbids a new entry now; `new_risk` is its fraction of equity."""
    found: list[Refused] = []

    def check(bad: bool, rule: str, reason: str) -> None:
        if bad:
            found.append(Refused(rule=rule, reason=reason))

    check(facts.paused, PAUSED.rule, PAUSED.reason)
    check(facts.day_r <= -limits.daily_loss_r, "daily_loss", f"today's loss is {-facts.day_r:.1f}R")
    check(facts.week_r <= -limits.weekly_loss_r, "weekly_loss", f"this week's loss is {-facts.week_r:.1f}R")
    check(facts.drawdown >= limits.max_drawdown, "drawdown", f"drawdown is {facts.drawdown:.1%}")
    cooling = facts.bars_since_loss is not None and facts.bars_since_loss < limits.streak_cooldown_bars
    streak = facts.losing_streak
    check(streak >= limits.losing_streak and cooling, "losing_streak", f"{streak} losses in a row: cooling down")
    total = facts.open_risk + new_risk
    check(total > limits.max_open_risk + 1e-12, "open_risk", f"open risk would be {total:.1%} of equity")
    check(facts.open_positions >= limits.max_positions, "positions", f"{facts.open_positions} are open already")
    return found
