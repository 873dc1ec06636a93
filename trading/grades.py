"""How good a council is: what is asked of the laboratory and what it answers, as plain data.

Everything is in R after fees, slippage and funding, of candidates that were each followed on their own by the
strategy's rules (`trading.shadows`), approved or not: so every arm is judged on the same list. Whatever is undefined
(nothing approved, nothing ended) is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Context, Decimal
from typing import Final, Literal, Protocol

from trading.pictures import Theme

Word = Literal["helps", "hurts", "insufficient evidence"]
MOST_NEEDED: Final = 100_000
"""`Grade.needed` goes no further and then means more than this: nobody waits for more."""
TWIN_SHARE: Final = 0.5
"""Of the size, where a rules twin has voted in the place of a model."""
_EXACT: Final = Context(prec=400)  # digits: no sum of amounts is ever rounded
STATUSES: Final = ("OK", "ABSTAIN", "INVALID", "TIMEOUT", "QUOTA", "ERROR", "SKIPPED_BUDGET")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """What one agent said of one candidate. `stance`: +1 for the trade, -1 against it, 0 neither or no answer.

    `seconds` and `cost_usd` are of all calls together; a rules twin has neither. `twin` is the stance of the twin that
    voted in the place of a model that failed, None where none did. `size` is the share of the base size that a Risk
    Manager named, None where it named none or is not known.
    """

    agent: str
    status: str
    stance: int
    p_win: float | None
    seconds: float | None = None
    cost_usd: float = 0.0
    twin: int | None = None
    size: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCost:
    """What an agent's calls of one UTC day of market time came to.

    Tokens are those that were reported; `unreported` calls have told none.
    """

    day: date
    agent: str
    calls: int
    unreported: int
    tokens_in: int
    tokens_out: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A candidate that a council decided on, and how it ended (`r` None: its entry never filled, it has not ended, or
    that is `lost`: nobody will ever know).

    `at` is ms UTC of the decision. `weight` is the share of the base size that was allowed, 0 when rejected.
    `others` are the weights that other councils gave it, by name. `bills`, where a record is kept of them, are all that
    was paid for models since the candidate before it, also for what never came to a decision; together with the
    other rows' they are the period's. Without a record (None) the ballots tell what was paid.
    """

    verdict_id: int
    at: int
    symbol: str
    side: str
    council: str
    weight: float
    r: float | None
    ended: bool
    ballots: tuple[Ballot, ...] = ()
    others: Mapping[str, float] = field(default_factory=dict)
    lost: bool = False
    bills: tuple[AgentCost, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A 95 % interval of a moving block bootstrap."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way of deciding on the same candidates: `off`, `rules`, the models, without one agent, vetoing at random.

    approved, vetoed: candidates that ended, by what the arm made of them (a shrunk one is approved). mean_*: mean R at
    full size. total: sum of weight times R, what the arm would have earned. edge: R for each candidate that the arm
    earned more than vetoing at random at the same rate would have, with its interval. `same`: the council without one
    agent, and no decision differs. That says nothing about the agent, so that there is neither edge nor interval.
    """

    name: str
    approved: int
    vetoed: int
    weight: float
    mean_approved: float | None
    mean_vetoed: float | None
    total: float
    edge: float | None
    interval: Interval | None
    same: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """A bin of stated probabilities: how many, what was stated on average, and how often it came true."""

    low: float
    high: float
    count: int
    stated: float
    won: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentGrade:
    """One agent. brier: of its stated probabilities of a win, 0 is perfect; skill: 1 - Brier / that of the base rate
    alone, at most 0 for one who knows nothing. seconds: median and 95th percentile. proposed_weight: what its track
    record would earn it, 0 to 1; never applied by itself. cost_usd and calls are of all its calls of the period, tokens
    (in, out) of those that reported any: None where no record of calls is kept."""

    agent: str
    asked: int
    statuses: Mapping[str, int]
    votes: Mapping[str, int]
    scored: int
    brier: float | None
    skill: float | None
    skill_interval: Interval | None
    bins: tuple[Bin, ...]
    seconds: tuple[float, float] | None
    cost_usd: float
    proposed_weight: float
    calls: int | None = None
    tokens: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """How good a council is. `arms` begins with the council itself, then `off`, then the others.

    ended: candidates with an outcome in R, of `candidates`; unfilled, waiting (still followed) and lost (never to be
    known) are the rest. avoided: R of losers it vetoed or shrank, times what was taken off; missed: the same of
    winners; both positive. random: the share of random vetoes at the same rate that earned at least as much. needed:
    about how many ended candidates it takes to know, None when `word` is not insufficient evidence or it cannot be
    said. cost_*: of all calls to models in the period. days: from the first to the last decision.
    """

    council: str
    word: Word
    reason: str
    needed: int | None
    candidates: int
    ended: int
    unfilled: int
    waiting: int
    base_rate: float | None
    avoided: float
    missed: float
    random: float | None
    arms: tuple[Arm, ...]
    agents: tuple[AgentGrade, ...]
    cost_usd: float
    cost_per_decision: float
    cost_per_month: float | None
    first: int
    last: int
    days: float
    lost: int = 0

    @property
    def needs(self) -> str:
        """How many ended candidates it takes to know: `about 240 needed`; empty where that is not said."""
        if self.needed is None:
            return ""
        return f"{'about' if self.needed < MOST_NEEDED else 'more than'} {min(self.needed, MOST_NEEDED):,} needed"


def paid(rows: Sequence[Judged]) -> dict[str, AgentCost]:
    """What each agent's calls of the period came to, by agent (`day`: the last one); empty without a record of them."""
    sums: dict[str, AgentCost] = {}
    for bill in (bill for row in rows for bill in row.bills or ()):
        sums[bill.agent] = added(sums.get(bill.agent), bill)
    return sums


def added(one: AgentCost | None, other: AgentCost) -> AgentCost:
    """Both bills of an agent as one, exactly."""
    if one is None:
        return other
    return AgentCost(
        day=max(one.day, other.day),
        agent=other.agent,
        calls=one.calls + other.calls,
        unreported=one.unreported + other.unreported,
        tokens_in=one.tokens_in + other.tokens_in,
        tokens_out=one.tokens_out + other.tokens_out,
        cost_usd=_EXACT.add(one.cost_usd, other.cost_usd),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A grade with its files: the chart (PNG) and the workbook (xlsx)."""

    grade: Grade
    chart: bytes
    workbook: bytes
    workbook_name: str


class Grader(Protocol):
    """Grades, away from the event loop."""

    async def grade(self, rows: Sequence[Judged], title: str, theme: Theme) -> Graded:
        """The grade of a council with its chart and its workbook; `BadInput` when no candidate is given."""
        ...
