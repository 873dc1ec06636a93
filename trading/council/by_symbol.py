"""A council for each symbol: symbols that are traded by different strategies are judged on different facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trading.ports import Brief, Council, Deliberation, Witness


@dataclass(frozen=True, slots=True)
class CouncilBySymbol:
    """Every proposal goes to its own symbol's council; at least one, all of one mode: a `Council`."""

    councils: Mapping[str, Council]

    @property
    def mode(self) -> str:
        """The name in verdicts."""
        return next(iter(self.councils.values())).mode

    @property
    def debates(self) -> bool:
        """Do they take their time?"""
        return next(iter(self.councils.values())).debates

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """The verdict of the council of the proposal's symbol."""
        return await self.councils[brief.proposal.symbol].deliberate(brief, witness)
