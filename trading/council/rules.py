"""The councils that need no model: the rules twins, and none at all."""

from __future__ import annotations

from dataclasses import dataclass, field

from trading.council.aggregate import aggregate
from trading.council.packet import (
    PacketTerms,
    mismatch,
    quant_packet,
    read_market,
    risk_packet,
    strategist_packet,
)
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin
from trading.ports import Brief, Deliberation


@dataclass(frozen=True, slots=True)
class RulesCouncil:
    """Three rules twins on the same packets and under the same aggregation as the models: a `Council`.

    Pure: the same brief gives the same verdict. What cannot be judged (too little history, a window of
    another bar) is a rejection that says so.
    """

    terms: PacketTerms = field(default_factory=PacketTerms)

    @property
    def mode(self) -> str:
        """The name in verdicts."""
        return "rules"

    async def deliberate(self, brief: Brief) -> Deliberation:
        """The verdict of the twins."""
        return self.verdict(brief)

    def verdict(self, brief: Brief) -> Deliberation:
        """The same without an event loop."""
        if problem := mismatch(brief):
            reason = f"The council cannot judge this: {problem}."
            return Deliberation(approved=False, size_multiplier=0.0, reasons=(reason,))
        market = read_market(brief.window)
        quant = QuantTwin().answer(quant_packet(brief, market, self.terms))
        strategist = StrategistTwin().answer(strategist_packet(brief, market, self.terms))
        packet = risk_packet(brief, market, self.terms, quant, strategist)
        return aggregate(brief.proposal.side, quant, strategist, RiskManagerTwin().answer(packet))


@dataclass(frozen=True, slots=True)
class NoCouncil:
    """Nobody is asked: full base size, always. The baseline of `spec/strategy.md`; a `Council`."""

    @property
    def mode(self) -> str:
        """The name in verdicts."""
        return "off"

    async def deliberate(self, brief: Brief) -> Deliberation:
        """Approved at base size, by nobody."""
        return Deliberation(approved=True, size_multiplier=1.0, reasons=("The council is off.",))
