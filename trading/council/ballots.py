"""An agent's answer as a vote on the trade, as it is counted and graded."""

from __future__ import annotations

from trading.council.aggregate import FOR_SIDE, RISK_MANAGER
from trading.council.schemas import Bias, Decision, Status, Vote
from trading.events import AgentAnswer
from trading.grades import Ballot
from trading.model import Side


def stance(answer: AgentAnswer, side: Side) -> int:
    """+1 for a trade on that side, -1 against it, 0 for neither and where there is no answer.

    What is no vote for it and not neutral is against it.
    """
    if answer.status.upper() != Status.OK:
        return 0
    if answer.vote in (*FOR_SIDE[side], Decision.APPROVED):
        return 1
    return 0 if answer.vote in (Vote.NEUTRAL, Bias.CHOPPY) else -1


def ballot_of(
    answer: AgentAnswer, side: Side, *, failed: str = "", seconds: float | None = None, cost_usd: float = 0.0
) -> Ballot:
    """An agent's word. Where a twin stood in for its model, which `failed`, the twin's vote is not its own."""
    return Ballot(
        agent=answer.agent,
        status=failed or str(answer.status),
        stance=0 if failed else stance(answer, side),
        p_win=None if failed else answer.p_win,
        seconds=seconds,
        cost_usd=cost_usd,
        twin=stance(answer, side) if failed else None,
        size=named_size(answer),
    )


def named_size(answer: AgentAnswer) -> float | None:
    """The share of the base size that a Risk Manager named; None where it named none."""
    share = answer.details.get("size_multiplier")
    if answer.agent != RISK_MANAGER or answer.status != Status.OK or not isinstance(share, float | int):
        return None
    return min(max(float(share), 0.0), 1.0)
