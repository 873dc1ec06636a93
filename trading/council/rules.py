"""The councils that need no model: the rules twins, and none at all."""

from __future__ import annotations

from dataclasses import dataclass, field

from trading.council.aggregate import aggregate
from trading.council.packet import (
    Market,
    PacketTerms,
    mismatch,
    quant_packet,
    read_market,
    risk_packet,
    strategist_packet,
)
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin
from trading.ports import Brief, Deliberation, Witness


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

    @property
    def debates(self) -> bool:
        """No: it answers at once."""
        return False

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """The verdict of the twins."""
        return self.verdict(brief)

    def verdict(self, brief: Brief) -> Deliberation:
        """The same without an event loop."""
        if problem := mismatch(brief):
            return cannot_judge(problem)
        return self.verdict_on(brief, read_market(brief.window))

    def verdict_on(self, brief: Brief, market: Market) -> Deliberation:
        """The same on a market that has been read."""
        quant = QuantTwin().answer(quant_packet(brief, market, self.terms))
        strategist = StrategistTwin().answer(strategist_packet(brief, market, self.terms))
        packet = risk_packet(brief, market, self.terms, quant, strategist)
        return aggregate(brief.proposal.side, quant, strategist, RiskManagerTwin().answer(packet))


def cannot_judge(problem: str) -> Deliberation:
    """The verdict where there is nothing to judge by."""
    return Deliberation(approved=False, size_multiplier=0.0, reasons=(f"The council cannot judge this: {problem}.",))


@dataclass(frozen=True, slots=True)
class NoCouncil:
    """Nobody is asked: full base size, always. The baseline of `spec/strategy.md`; a `Council`."""

    @property
    def mode(self) -> str:
        """The name in verdicts."""
        return "off"

    @property
    def debates(self) -> bool:
        """No: nobody is asked."""
        return False

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Approved at base size, by nobody."""
        return Deliberation(approved=True, size_multiplier=1.0, reasons=("The council is off.",))
