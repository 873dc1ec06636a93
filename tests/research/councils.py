"""Councils of which it is known what they are worth, on candidates that look like a trend follower's.

Trends last six candidates on average; in one of four the trades are good. 22 % of all trades win, a few R on average
and some of them very many; the others lose about 1 R. So outcomes come in runs and a few trades carry the result,
which is what makes a council hard to judge.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

import numpy as np

from trading.grades import Ballot, Judged
from trading.model import BoolArray, FloatArray

Kind = Literal["useful", "harmful", "random", "whole trends", "regimes"]
USELESS: Final[tuple[Kind, ...]] = ("random", "whole trends", "regimes")
START: Final = 1_700_000_000_000
HOURS: Final = 3_600_000
AGENTS: Final = ("quant", "strategist", "risk_manager")


def market(rng: np.random.Generator, count: int, *, trend: float = 6.0) -> tuple[FloatArray, BoolArray, FloatArray]:
    """R of so many candidates, whether each was in a good trend, and the number of its trend."""
    ends = rng.random(count) < 1 / trend
    number = np.cumsum(ends)
    good = (rng.random(int(number[-1]) + 1) < 0.25)[number]
    won = rng.random(count) < np.where(good, 0.60, 0.0933)
    r = np.where(won, 0.5 + rng.lognormal(1.0, 0.7, count), -1.05 + rng.normal(0, 0.15, count))
    return r, good, number.astype(np.float64)


def weights(rng: np.random.Generator, kind: Kind, good: BoolArray, number: FloatArray) -> FloatArray:
    """What a council allows: nothing or a half to the whole."""
    count = len(good)
    if kind == "random":
        veto = rng.random(count) < 0.5
    elif kind == "whole trends":
        veto = (rng.random(int(number[-1]) + 1) < 0.5)[number.astype(int)]
    elif kind == "regimes":  # of its own, forty candidates long
        runs = np.cumsum(rng.random(count) < 1 / 40)
        veto = (rng.random(int(runs[-1]) + 1) < 0.5)[runs]
    else:
        often, seldom = 0.80, 0.10
        veto = rng.random(count) < np.where(good == (kind == "useful"), seldom, often)
    return np.where(veto, 0.0, rng.choice([0.5, 0.75, 1.0], count))


def bare(kind: Kind, seed: int, count: int = 1000, *, trend: float = 6.0) -> list[Judged]:
    """Candidates without ballots."""
    rng = np.random.default_rng([seed, count])
    r, good, number = market(rng, count, trend=trend)
    found = weights(rng, kind, good, number)
    return [
        candidate(at, weight=weight, r=result)
        for at, (weight, result) in enumerate(zip(found.tolist(), r.tolist(), strict=True))
    ]


def full(kind: Kind = "useful", seed: int = 0, count: int = 1000) -> list[Judged]:
    """The same of a council of models, with ballots, failures, entries that never filled and some still waiting."""
    rng = np.random.default_rng([seed, count, 1])
    r, good, number = market(rng, count)
    found, rules = weights(rng, kind, good, number), weights(rng, "random", good, number)
    rows = []
    for at in range(count):
        ballots = tuple(_ballots(rng, found[at] == 0, bool(good[at])))
        failed = any(ballot.status != "OK" for ballot in ballots)
        ended = at < count - 3
        filled = ended and rng.random() < 0.93
        row = candidate(at, weight=0.0 if failed else float(found[at]), r=float(r[at]) if filled else None, ended=ended)
        rows.append(replace(row, ballots=ballots, others={"rules": float(rules[at])}))
    return rows


def _ballots(rng: np.random.Generator, veto: bool, good: bool) -> list[Ballot]:
    against = int(rng.integers(0, 3))
    found = []
    for at, agent in enumerate(AGENTS):
        if rng.random() < 0.01:
            found.append(ballot(agent, 0, None, status=str(rng.choice(["INVALID", "TIMEOUT", "QUOTA"])), seconds=8.0))
            continue
        stance = -1 if veto and (agent == "risk_manager" or at == against) else 1
        p = float(np.clip((0.5 if good else 0.13) + rng.normal(0, 0.08), 0.02, 0.95))
        found.append(ballot(agent, stance, p, seconds=float(rng.lognormal(0.8, 0.5)), cost_usd=0.0004 * (at + 1)))
    return found


def candidate(
    at: int, *, weight: float = 1.0, r: float | None = 1.0, ended: bool = True, ballots: tuple[Ballot, ...] = ()
) -> Judged:
    """One candidate, nine hours after the one before."""
    symbol, side = ("BTCUSDT", "ETHUSDT")[at % 2], ("long", "short")[at // 5 % 2]
    return Judged(
        verdict_id=at + 1,
        at=START + at * 9 * HOURS,
        symbol=symbol,
        side=side,
        council="strict",
        weight=weight,
        r=r,
        ended=ended,
        ballots=ballots,
    )


def ballot(
    agent: str,
    stance: int,
    p_win: float | None = None,
    *,
    status: str = "OK",
    seconds: float | None = None,
    cost_usd: float = 0.0,
) -> Ballot:
    """What one agent said."""
    return Ballot(agent=agent, status=status, stance=stance, p_win=p_win, seconds=seconds, cost_usd=cost_usd)
