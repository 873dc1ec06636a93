"""Guards in code, around the council: what they refuse, no answer of anyone can bring back.

    before the council (G1)   the falling-knife breaker first, then numbers, levels, age and account limits
    before the order (G2)     the price is read again: a verdict on a price that has gone is stale

Least quantity, least notional and the distance to liquidation need the size: they are
`trading.risk.size_entry`. `FullGuards` is what trades; `PageGuards` is `spec/strategy.md` and nothing else,
for the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from trading.model import AccountFacts, Proposal, Side
from trading.risk import PAUSED, Limits, breached


@dataclass(frozen=True, slots=True, kw_only=True)
class Objection:
    """Why a candidate ends here: `rule` is the rule's name, `reason` a sentence for a person."""

    rule: str
    reason: str


class Guards(Protocol):
    """What code checks around a council. Pure; an empty tuple or None: nothing stands against the trade."""

    def before_council(
        self,
        proposal: Proposal,
        facts: AccountFacts,
        atr: float | None,
        hazard: bool,
        latched: bool,
        new_risk: float,
        hazard_text: str = "",
    ) -> tuple[Objection, ...]:
        """Every objection, the gravest first. `hazard` is of this bar, `latched` since an earlier one.

        `atr` is in price, `new_risk` the fraction of equity that the entry would put at risk;
        `hazard_text` replaces the plain wording of the knife (see `knife_text`).
        """
        ...

    def shut(self, facts: AccountFacts, new_risk: float = 0.0) -> tuple[Objection, ...]:
        """The account's limits that forbid an entry of so much new risk now, whatever is proposed."""
        ...

    def before_order(
        self, proposal: Proposal, atr: float | None, last_price: Decimal, age_bars: float = 0.0
    ) -> Objection | None:
        """The last look before an order: `age_bars` is how many bars ago the decided bar closed."""
        ...


@dataclass(frozen=True, slots=True)
class FullGuards:
    """All of G1 and G2 under the account's limits."""

    limits: Limits

    def before_council(
        self,
        proposal: Proposal,
        facts: AccountFacts,
        atr: float | None,
        hazard: bool,
        latched: bool,
        new_risk: float,
        hazard_text: str = "",
    ) -> tuple[Objection, ...]:
        """Knife, numbers, levels, age, limits; the limits are judged only on finite numbers."""
        found = [knife_objection(proposal.side, hazard=hazard, latched=latched, text=hazard_text)]
        found += number_objections(proposal, facts, atr, new_risk) or [
            *level_objections(proposal, atr or math.nan, self.limits),
            *age_objections(facts.data_age_bars, self.limits),
            *(Objection(rule=no.rule, reason=no.reason) for no in breached(self.limits, facts, new_risk)),
        ]
        return tuple(objection for objection in found if objection)

    def shut(self, facts: AccountFacts, new_risk: float = 0.0) -> tuple[Objection, ...]:
        """What the limits say; a pause is told by itself."""
        broken = breached(self.limits, facts, new_risk)
        return tuple(Objection(rule=no.rule, reason=no.reason) for no in broken if no.rule != PAUSED.rule)

    def before_order(
        self, proposal: Proposal, atr: float | None, last_price: Decimal, age_bars: float = 0.0
    ) -> Objection | None:
        """Stale when the price has gone or the verdict has grown old."""
        return stale(proposal, atr, last_price, self.limits, age_bars)


@dataclass(frozen=True, slots=True)
class PageGuards:
    """`spec/strategy.md` and nothing else: the anti-knife of this very bar; no latch, no limit, no G2."""

    def before_council(
        self,
        proposal: Proposal,
        facts: AccountFacts,
        atr: float | None,
        hazard: bool,
        latched: bool,
        new_risk: float,
        hazard_text: str = "",
    ) -> tuple[Objection, ...]:
        """The knife on this bar, or a pause: that is no guard of the page, it is the owner's word."""
        found = [knife_objection(proposal.side, hazard=hazard, latched=False, text=hazard_text)]
        found.append(Objection(rule=PAUSED.rule, reason=PAUSED.reason) if facts.paused else None)
        return tuple(objection for objection in found if objection)

    def shut(self, facts: AccountFacts, new_risk: float = 0.0) -> tuple[Objection, ...]:
        """The page knows no limits."""
        return ()

    def before_order(
        self, proposal: Proposal, atr: float | None, last_price: Decimal, age_bars: float = 0.0
    ) -> Objection | None:
        """The page knows no second look."""
        return None


def knife_objection(side: Side, *, hazard: bool, latched: bool, text: str = "") -> Objection | None:
    """The breaker: no long into a waterfall, no short into a parabolic rise, and none until it has calmed."""
    name, band = ("waterfall", "below") if side is Side.LONG else ("parabolic rise", "above")
    if hazard:
        return Objection(rule="knife", reason=text or f"anti-knife: {name} on this bar")
    if latched:
        waits = f"no {side.value} until a bar closes back inside the bands"
        return Objection(rule="knife", reason=f"anti-knife: a {name} closed {band} the bands and {waits}")
    return None


def knife_text(side: Side, move_atr: float, bars: int) -> str:
    """The knife in words: `move_atr` is the size of the move against `side` in ATR, over `bars` bars."""
    if side is Side.LONG:
        return f"falling knife: closed below the bands after a drop of {move_atr:.1f} ATR in {bars} bars"
    return f"rocket: closed above the bands after a rise of {move_atr:.1f} ATR in {bars} bars"


def number_objections(
    proposal: Proposal, facts: AccountFacts, atr: float | None, new_risk: float
) -> list[Objection]:
    """Every number that is not finite, or not positive where it must be; NaN would pass what follows."""
    prices = {"entry": proposal.entry, "stop": proposal.stop, "take_profit": proposal.take_profit}
    positive = {name: float(value) for name, value in prices.items() if value is not None}
    positive |= {"close": proposal.close, "r_distance": proposal.r_distance, "equity": float(facts.equity)}
    found = [_bad_number(name, value) for name, value in positive.items() if not _above_zero(value)]
    if atr is None or not _above_zero(atr):
        found.append(Objection(rule="atr", reason="ATR is not known: too few closed bars to judge distances"))
    finite = {name: getattr(facts, name) for name in _ACCOUNT_NUMBERS} | {"new_risk": new_risk}
    found += [_bad_number(name, value) for name, value in finite.items() if not math.isfinite(value)]
    found += [_bad_number(name, finite[name]) for name in ("open_risk", "new_risk") if finite[name] < 0]
    return found


_ACCOUNT_NUMBERS = (
    "day_r",
    "week_r",
    "drawdown",
    "open_risk",
    "spread",
    "slippage",
    "funding_rate",
    "data_age_bars",
)


def _above_zero(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _bad_number(name: str, value: float) -> Objection:
    words = name.replace("_", " ")
    return Objection(rule="numbers", reason=f"{words} is {value:g}: it must be a finite, sensible number")


def level_objections(proposal: Proposal, atr: float, limits: Limits) -> Iterator[Objection]:
    """Stop and target on their sides, and the stop neither too near nor too far."""
    side, sign = proposal.side.value, proposal.side.sign
    if (proposal.entry - proposal.stop) * sign <= 0:
        yield Objection(rule="stop_side", reason=f"the stop of a {side} lies on the wrong side of the entry")
    target = proposal.take_profit
    if target is not None and (target - proposal.entry) * sign <= 0:
        reason = f"the target of a {side} lies on the wrong side of the entry"
        yield Objection(rule="target_side", reason=reason)
    distance = abs(float(proposal.entry - proposal.stop)) / atr
    if not limits.min_stop_atr <= distance <= limits.max_stop_atr:
        bounds = f"{limits.min_stop_atr:g} to {limits.max_stop_atr:g}"
        reason = f"the stop is {distance:.2f} ATR away, allowed is {bounds}"
        yield Objection(rule="stop_distance", reason=reason)


def age_objections(data_age_bars: float, limits: Limits) -> Iterator[Objection]:
    """A bar that has not closed yet (a negative age), or one that closed too long ago."""
    if data_age_bars < 0:
        yield Objection(rule="open_bar", reason="the bar decided on has not closed yet")
    if data_age_bars > limits.max_data_age_bars:
        reason = f"the data is {data_age_bars:.2f} bars old, at most {limits.max_data_age_bars:g} is allowed"
        yield Objection(rule="data_age", reason=reason)


def stale(
    proposal: Proposal, atr: float | None, last_price: Decimal, limits: Limits, age_bars: float = 0.0
) -> Objection | None:
    """Whether the market has left the price that was decided on, or the verdict has outlived its expiry."""
    price = float(last_price)
    if atr is None or not (_above_zero(atr) and _above_zero(price) and math.isfinite(proposal.close)):
        return Objection(rule="stale", reason="the price cannot be checked again: no last price or no ATR")
    moved = abs(price - proposal.close) / atr
    if moved > limits.max_slip_atr:
        reason = f"the price moved {moved:.2f} ATR since the decision, allowed is {limits.max_slip_atr:g}"
        return Objection(rule="stale", reason=reason)
    if not age_bars <= limits.max_data_age_bars:
        reason = f"the verdict is {age_bars:.2f} bars old, it was good for {limits.max_data_age_bars:g}"
        return Objection(rule="stale", reason=reason)
    return None
