"""A candidate before the council: announced, heard while the trader goes on, and its verdict written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from trading import events as ev
from trading.council.packet import WINDOW
from trading.desk import Desk, Interruption
from trading.model import ZERO, AccountFacts, Proposal, exact
from trading.ports import Brief, Deliberation, Overheard
from trading.risk import Refused, Sized
from trading.tending import tend_entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A candidate with what is known about it at its close.

    `base` is its size before the council, `knife` the move against it in words.
    """

    proposal: Proposal
    facts: AccountFacts
    atr: float | None
    base: Sized | Refused
    knife: str
    verdict_id: int


async def hear(desk: Desk, case: Case) -> Deliberation | Interruption:
    """The council's word, or what came that nobody waits for it any more; one that takes its time is announced."""
    proposal = case.proposal
    if desk.council.debates:
        for candle in desk.closed.values():
            await tend_entry(desk, candle)  # the other symbols' too: they wait for nobody
        await desk.record(announcement(desk, case))
    window = desk.signals.window(proposal.symbol, WINDOW)
    brief = Brief(window=window, proposal=proposal, account=case.facts)
    witness = CaseWitness(desk, case, desk.council.mode)
    ruling = await desk.attend(desk.council.deliberate(brief, witness))
    if desk.council.debates and not isinstance(ruling, Interruption):  # in their shadow it is not the models' word
        await tell_health(desk, proposal.signal_time + proposal.interval, ruling)
    return ruling


@dataclass(frozen=True, slots=True)
class CaseWitness:
    """Puts what is said about a candidate into the trader's inbox: only the trader writes anything down.

    `mode` is the council's that was asked: another may decide by the time that all is said.
    """

    desk: Desk
    case: Case
    mode: str

    def heard(self, said: ev.Testimony) -> None:
        """One agent has been asked."""
        self.desk.say(ev.AgentAnswered(**self._about, council=self.mode, said=said))

    def alerted(self, text: str) -> None:
        """What the owner must do something about."""
        self.desk.say(ev.AlertRaised(at=self._about["at"], kind="council", text=text))

    def concluded(self, council: str, ruling: Deliberation) -> None:
        """What the models would have decided."""
        opinion = ev.OpinionReached(
            **self._about,
            council=council,
            approved=ruling.approved,
            size_modifier=ruling.size_multiplier,
            reasons=ruling.reasons,
            answers=ruling.answers,
        )
        self.desk.say(Overheard(opinion=opinion, ruling=ruling, mode=self.mode))

    @property
    def _about(self) -> dict[str, Any]:
        p = self.case.proposal
        at = p.signal_time + p.interval
        return {"at": at, "verdict_id": self.case.verdict_id, "symbol": p.symbol, "side": p.side}


@dataclass(slots=True)
class Minutes:
    """A `Witness` that keeps what is said for whoever has asked; nothing is written down."""

    said: list[ev.Testimony] = field(default_factory=list)
    opinions: list[tuple[str, Deliberation]] = field(default_factory=list)
    alerts: list[str] = field(default_factory=list)

    def heard(self, said: ev.Testimony) -> None:
        """One agent has been asked."""
        self.said.append(said)

    def alerted(self, text: str) -> None:
        """What the owner must do something about."""
        self.alerts.append(text)

    def concluded(self, council: str, ruling: Deliberation) -> None:
        """What the models would have decided."""
        self.opinions.append((council, ruling))


async def tell_health(desk: Desk, at: datetime, ruling: Deliberation) -> None:
    """Agents that stopped answering are told once, and that all of them answer again, once.

    Nobody is taken off the list before everybody on it has answered: failures that take turns are one trouble.
    """
    impaired, failed = desk.book.impaired, tuple(sorted(ruling.failed))
    if set(failed) - set(impaired):
        why = "; ".join(f"{agent.replace('_', ' ')}: {ruling.failed[agent]}" for agent in failed)
        agents = tuple(sorted({*impaired, *failed}))
        text = f"{why}. {WITHOUT[desk.council.mode]}"
        await desk.record(ev.CouncilImpaired(at=at, agents=agents, text=text))
    elif impaired and not failed and _answered(ruling).issuperset(impaired):
        await desk.record(ev.CouncilRecovered(at=at, text="every agent of the council answers again"))


def _answered(ruling: Deliberation) -> set[str]:
    """Who said something: not those who had nothing to judge."""
    return {answer.agent for answer in ruling.answers if answer.status == "OK"}


WITHOUT: Final[Mapping[str, str]] = {
    "strict": "Until it answers, every candidate is rejected; what is open is looked after as before.",
    "degraded": "Until it answers, a rules twin votes for a missing Quant or Strategist at half size; "
    "without the Risk Manager every candidate is rejected.",
    "shadow": "The rules decide; its opinion is missing in the record.",
}


def verdict_of(
    desk: Desk,
    case: Case,
    ruling: Deliberation,
    *,
    sized: Sized | None = None,
    gate: str = "",
    reasons: tuple[str, ...] = (),
) -> ev.VerdictReached:
    """The verdict as it is stored and shown; approved exactly when there is a size."""
    p = case.proposal
    return ev.VerdictReached(
        at=p.signal_time + p.interval,
        verdict_id=case.verdict_id,
        symbol=p.symbol,
        side=p.side,
        approved=sized is not None,
        gate=gate,
        reasons=reasons or ruling.reasons,
        close=exact(p.close),
        entry=p.entry,
        stop=p.stop,
        take_profit=p.take_profit,
        r_distance=p.r_distance,
        atr=case.atr,
        qty=sized.qty if sized else ZERO,
        size_modifier=min(max(ruling.size_multiplier, 0.0), 1.0) if sized else 0.0,
        risk_usdt=sized.risk_usdt if sized else ZERO,
        equity=desk.book.cash,
        council=desk.council.mode,
        signal_time=p.signal_time,
        answers=ruling.answers,
        clamp=sized.clamp if sized else "",
        debated=case.verdict_id in desk.book.debated,
        opinions=ruling.opinions,
    )


def announcement(desk: Desk, case: Case) -> ev.CandidateProposed:
    """The candidate as it goes before the council, at its base size."""
    p, base = case.proposal, case.base
    return ev.CandidateProposed(
        at=p.signal_time + p.interval,
        verdict_id=case.verdict_id,
        symbol=p.symbol,
        side=p.side,
        close=exact(p.close),
        entry=p.entry,
        stop=p.stop,
        take_profit=p.take_profit,
        r_distance=p.r_distance,
        atr=case.atr,
        qty=base.qty if isinstance(base, Sized) else ZERO,
        risk_usdt=base.risk_usdt if isinstance(base, Sized) else ZERO,
        equity=desk.book.cash,
        council=desk.council.mode,
        signal_time=p.signal_time,
    )


def abandoned(proposed: ev.CandidateProposed) -> ev.VerdictReached:
    """The verdict on a candidate that a restart found before the council: nobody knows what was said."""
    named = {name: getattr(proposed, name) for name in ABOUT}
    return ev.VerdictReached(
        **named,
        approved=False,
        gate="operator",
        reasons=("the program ended while the council deliberated",),
        qty=ZERO,
        size_modifier=0.0,
        risk_usdt=ZERO,
        debated=True,
    )


ABOUT: Final = (
    *("at", "verdict_id", "symbol", "side", "close", "entry", "stop", "take_profit", "r_distance", "atr", "equity"),
    *("council", "signal_time"),
)
