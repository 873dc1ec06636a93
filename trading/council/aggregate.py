"""Three answers become one verdict. The only way to an approval is the last line of `aggregate`.

Nothing here trusts an answer: a multiplier is clamped to 0..1 (NaN is a rejection), a vote that is neither
for the side nor neutral is a vote against it, and an agent that failed is a rejection (modes `rules`,
`strict`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from trading.council.schemas import (
    A,
    Answer,
    Bias,
    Decision,
    Evidence,
    QuantAnswer,
    Reply,
    RiskManagerAnswer,
    Status,
    StrategistAnswer,
    Vote,
)
from trading.events import AgentAnswer
from trading.model import Side
from trading.ports import Deliberation

QUANT, STRATEGIST, RISK_MANAGER = "quant", "strategist", "risk_manager"
FOR_SIDE = {Side.LONG: (Vote.LONG, Bias.BULLISH), Side.SHORT: (Vote.SHORT, Bias.BEARISH)}


def aggregate(
    side: Side,
    quant: Reply[QuantAnswer],
    strategist: Reply[StrategistAnswer],
    risk_manager: Reply[RiskManagerAnswer],
) -> Deliberation:
    """The verdict on a proposal of `side`; `reasons` are sentences for a person."""
    answers = (
        quant_card(quant),
        strategist_card(strategist),
        risk_manager_card(risk_manager),
    )
    vetoes = tuple(_vetoes(side, quant, strategist, risk_manager))
    multiplier = _multiplier(risk_manager)
    if vetoes or multiplier <= 0.0:
        reasons = vetoes or ("The Risk Manager named no usable size.",)
        return Deliberation(approved=False, size_multiplier=0.0, reasons=reasons, answers=answers)
    reasons = tuple(_consents(side, quant, strategist, multiplier))
    return Deliberation(approved=True, size_multiplier=multiplier, reasons=reasons, answers=answers)


def _vetoes(
    side: Side,
    quant: Reply[QuantAnswer],
    strategist: Reply[StrategistAnswer],
    risk_manager: Reply[RiskManagerAnswer],
) -> Iterator[str]:
    vote, bias = FOR_SIDE[side]
    yield from _failed("Quant", quant.status, quant.answer, quant.problem)
    yield from _failed("Strategist", strategist.status, strategist.answer, strategist.problem)
    yield from _failed("Risk Manager", risk_manager.status, risk_manager.answer, risk_manager.problem)
    if quant.answer and quant.answer.signal not in (vote, Vote.NEUTRAL):
        case = _case(quant.answer.evidence)
        yield f"The Quant votes {quant.answer.signal} against this {side.value}: {case}."
    if strategist.answer and strategist.answer.bias not in (bias, Bias.CHOPPY):
        case = _case(strategist.answer.evidence)
        yield f"The Strategist reads {strategist.answer.bias} against this {side.value}: {case}."
    if risk_manager.answer and risk_manager.answer.decision is not Decision.APPROVED:
        yield f"The Risk Manager rejects it: {risk_manager.answer.rationale}"


def _failed(name: str, status: Status, answer: Answer | None, problem: str) -> Iterator[str]:
    if status is not Status.OK or answer is None:
        yield f"The {name} did not answer ({status}): {problem or 'no reason given'}."


def _multiplier(reply: Reply[RiskManagerAnswer]) -> float:
    """The size the Risk Manager allows, 0 where it allows none or names no number."""
    if reply.answer is None or reply.answer.decision is not Decision.APPROVED:
        return 0.0
    wanted = reply.answer.size_multiplier
    return min(max(float(wanted), 0.0), 1.0) if math.isfinite(wanted) else 0.0


def _consents(
    side: Side, quant: Reply[QuantAnswer], strategist: Reply[StrategistAnswer], multiplier: float
) -> Iterator[str]:
    vote, bias = FOR_SIDE[side]
    if quant.answer:
        stand = f"is for this {side.value}" if quant.answer.signal is vote else "leans neither way"
        yield f"The Quant {stand}: {_case(quant.answer.evidence)}."
    if strategist.answer:
        stand = f"is for this {side.value}" if strategist.answer.bias is bias else "leans neither way"
        yield f"The Strategist {stand}: {_case(strategist.answer.evidence)}."
    size = "full base size" if multiplier == 1.0 else f"{multiplier:.0%} of the base size"
    yield f"The Risk Manager approves {size}."


def _case(evidence: tuple[Evidence, ...]) -> str:
    """The first citation is the strongest one."""
    return evidence[0].reading if evidence else "no evidence given"


def quant_card(reply: Reply[QuantAnswer]) -> AgentAnswer:
    """The Quant's answer as it is stored and shown."""
    if (answer := reply.answer) is None:
        return unanswered(QUANT, reply)
    return AgentAnswer(
        agent=QUANT,
        status=reply.status,
        vote=str(answer.signal),
        p_win=answer.p_win,
        text=_argument(answer.evidence),
        against=answer.against,
        details={"evidence": _listed(answer.evidence)},
    )


def strategist_card(reply: Reply[StrategistAnswer]) -> AgentAnswer:
    """The Strategist's answer as it is stored and shown."""
    if (answer := reply.answer) is None:
        return unanswered(STRATEGIST, reply)
    return AgentAnswer(
        agent=STRATEGIST,
        status=reply.status,
        vote=str(answer.bias),
        p_win=answer.p_win,
        text=_argument(answer.evidence),
        against=answer.against,
        details={
            "evidence": _listed(answer.evidence),
            "structure": str(answer.structure),
            "trap_suspected": answer.trap_suspected,
        },
    )


def risk_manager_card(reply: Reply[RiskManagerAnswer]) -> AgentAnswer:
    """The Risk Manager's answer as it is stored and shown."""
    if (answer := reply.answer) is None:
        return unanswered(RISK_MANAGER, reply)
    return AgentAnswer(
        agent=RISK_MANAGER,
        status=reply.status,
        vote=str(answer.decision),
        p_win=answer.p_win,
        text=answer.rationale,
        against="; ".join(answer.conflicts),
        details={
            "conflicts": list(answer.conflicts),
            "hazards": [str(hazard) for hazard in answer.hazards],
            "size_multiplier": answer.size_multiplier,
        },
    )


def unanswered(agent: str, reply: Reply[A]) -> AgentAnswer:
    """An agent without an answer, as it is stored and shown: why not."""
    return AgentAnswer(agent=agent, status=reply.status, vote="", p_win=None, text=reply.problem)


def _argument(evidence: tuple[Evidence, ...]) -> str:
    """The three readings cited first; all of them are in the details."""
    return "; ".join(item.reading for item in evidence[:3])


def _listed(evidence: tuple[Evidence, ...]) -> list[dict[str, Any]]:
    return [{"key": item.key, "value": item.value, "reading": item.reading} for item in evidence]
