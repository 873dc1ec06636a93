"""Where an agent stands on a candidate, as it is counted and graded."""

from __future__ import annotations

import pytest

from trading.council.ballots import ballot_of, stance
from trading.events import AgentAnswer
from trading.model import Side


def an_answer(agent: str = "quant", vote: str = "LONG", status: str = "OK", p_win: float | None = 0.6) -> AgentAnswer:
    return AgentAnswer(agent=agent, status=status, vote=vote, p_win=p_win, text="")


@pytest.mark.parametrize(
    ("answer", "side", "wanted"),
    [
        (an_answer(vote="LONG"), Side.LONG, 1),
        (an_answer(vote="LONG"), Side.SHORT, -1),
        (an_answer(vote="NEUTRAL"), Side.SHORT, 0),
        (an_answer("strategist", "BEARISH"), Side.SHORT, 1),
        (an_answer("strategist", "BEARISH"), Side.LONG, -1),
        (an_answer("strategist", "CHOPPY"), Side.LONG, 0),
        (an_answer("risk_manager", "APPROVED"), Side.SHORT, 1),
        (an_answer("risk_manager", "REJECTED"), Side.SHORT, -1),
        (an_answer("quant", "BUY"), Side.LONG, -1),
        (an_answer("newcomer", "LONG"), Side.LONG, 1),
        (an_answer(vote="LONG", status="TIMEOUT"), Side.LONG, 0),
        (an_answer(vote="", status="ABSTAIN", p_win=None), Side.LONG, 0),
    ],
)
def test_where_an_answer_stands(answer: AgentAnswer, side: Side, wanted: int) -> None:
    """For, against, neutral, or no answer at all; nothing is taken for a vote that is none."""
    assert stance(answer, side) == wanted


def test_a_twin_in_the_place_of_a_model_is_not_its_vote() -> None:
    """The model failed, and that is what is counted."""
    ballot = ballot_of(an_answer(vote="LONG", p_win=0.7), Side.LONG, failed="TIMEOUT", seconds=8.0)
    assert (ballot.status, ballot.stance, ballot.p_win, ballot.seconds) == ("TIMEOUT", 0, None, 8.0)
