"""How good a council is: its vetoes against chance, its agents against the base rate. Arithmetic on plain data.

Everything is judged on the candidates that ended, in order of time. A weight is the share of the base size that an arm
allowed, R what the candidate came to at full size.

    edge        mean of (weight - mean weight) * R: what the arm earned for each candidate more than the same weights
                dealt out at random would have; it asks whether it vetoed the right ones, not whether it vetoed
    interval    circular moving block bootstrap: candidates of one trend overlap and win or lose together
    random      the same weights, cut into blocks, rotated and shuffled: the same rate, the same sizes, the same
                runs of vetoes, at other candidates

`docs/council.md` says how the word is found and how often it is right.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from trading import grades
from trading.errors import BadInput
from trading.grades import (
    STATUSES,
    TWIN_SHARE,
    AgentCost,
    AgentGrade,
    Arm,
    Ballot,
    Bin,
    Grade,
    Interval,
    Judged,
    Word,
    paid,
)
from trading.model import FloatArray, IntArray, millis, utc

LEVEL: Final = 0.0025
"""How often chance may find the word, on either side: a tenth of the usual, as a grade is looked at again and again."""
LEAST: Final = 30
"""Ended candidates that the council must have favoured, and as many that it must have held back."""
POWER: Final = 0.8
MOST_NEEDED: Final = grades.MOST_NEEDED
DRAWS: Final = 8_000
TURNS: Final = 200  # rotations among the draws of random vetoes
INTERVAL: Final = 2_000  # draws of a skill's interval of 95 %
BAND: Final = 500  # draws of the chart's band
BIN: Final = 0.1  # width of a reliability bin
TRUST: Final = 100
"""Scored answers at which half of what the track record says is believed."""
RISK_MANAGER: Final = "risk_manager"
AT_RANDOM: Final = "at random"
OFF: Final = "off"
WITHOUT: Final = "without "
_MONTH: Final = 365 / 12
_DAY: Final = 86_400_000
_CELLS: Final = 2_000_000  # numbers of one chunk of draws
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curves:
    """Running totals in R over the ended candidates, in order of time: one per arm, and where 95 % of random vetoes
    ran at each of them. `time` is ms UTC of the decisions; all have one length, which may be 0."""

    time: IntArray
    lines: tuple[tuple[str, FloatArray], ...]
    low: FloatArray
    high: FloatArray


def grade(rows: Sequence[Judged], *, seed: int = 0) -> Grade:
    """The grade of the council that decided on these candidates; `BadInput` when there is none, or one is unusable.

    The same rows in any order and the same seed give the same grade. 2,000 candidates take about half a second.
    """
    rows = _ordered(rows)
    ended = [row for row in rows if row.r is not None]
    r = _results(ended)
    council = named(rows)
    own, arms = _weights(ended), arms_of(ended, council)
    spread = _spread(arms, r, seed)
    finding = _found(own, r, spread[:, 0], seed)
    word, reason, needed = _judged(finding, len(rows))
    agents = tuple(_agents(rows, seed))
    cost = math.fsum(agent.cost_usd for agent in agents)
    days = (rows[-1].at - rows[0].at) / _DAY
    return Grade(
        council=council,
        word=word,
        reason=reason,
        needed=needed,
        candidates=len(rows),
        ended=len(ended),
        unfilled=sum(row.ended and row.r is None for row in rows),
        waiting=sum(not (row.ended or row.lost) for row in rows),
        lost=sum(row.lost for row in rows),
        base_rate=float((r > 0).mean()) if len(r) else None,
        avoided=float(((1 - own) * np.maximum(-r, 0)).sum()),
        missed=float(((1 - own) * np.maximum(r, 0)).sum()),
        random=finding.random,
        arms=tuple(_arms(arms, r, spread, finding)),
        agents=agents,
        cost_usd=cost,
        cost_per_decision=cost / len(rows),
        cost_per_month=cost / paid_days * _MONTH if (paid_days := _paid_days(rows)) >= 1 else None,
        first=rows[0].at,
        last=rows[-1].at,
        days=days,
    )


def _paid_days(rows: Sequence[Judged]) -> float:
    """How long the bills are of: from the first decision to the last, and to what was paid before and after them."""
    first, last = rows[0].at, rows[-1].at
    days = [bill.day for row in rows for bill in row.bills or ()]
    if days and min(days) < utc(first).date():
        first = millis(_midnight(min(days)))
    if days and max(days) > utc(last).date():
        last = millis(_midnight(max(days)))
    return (last - first) / _DAY


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def curves(rows: Sequence[Judged], *, seed: int = 0) -> Curves:
    """The running totals of the council, of `off` and of the other councils."""
    rows = _ordered(rows)
    ended, council = [row for row in rows if row.r is not None], named(rows)
    r, own = _results(ended), _weights(ended)
    time = np.array([row.at for row in ended], np.int64)
    if not ended:
        return Curves(time=time, lines=(), low=r, high=r)
    shown = (council, OFF, *others_of(ended))
    lines = tuple((name, np.cumsum(weights * r)) for name, weights in arms_of(ended, council).items() if name in shown)
    orders = _shuffles(np.random.default_rng([seed, 3]), len(r), block_length(len(r)), BAND)
    low, high = np.quantile(np.cumsum(own[orders] * r, axis=1), (0.025, 0.975), axis=0)
    return Curves(time=time, lines=lines, low=low, high=high)


def named(rows: Sequence[Judged]) -> str:
    """The council that decided, or all of them where there were several, in order of their appearance."""
    return ", ".join(dict.fromkeys(row.council for row in rows))


def agents_of(rows: Sequence[Judged]) -> list[str]:
    """Who voted, in order of appearance, and who was only paid."""
    voted = (ballot.agent for row in rows for ballot in row.ballots)
    return list(dict.fromkeys((*voted, *paid(rows))))


def others_of(ended: Sequence[Judged]) -> list[str]:
    """The other councils that gave every ended candidate a weight: without some, an arm is judged on another list."""
    names = dict.fromkeys(name for row in ended for name in row.others)
    return [name for name in names if all(name in row.others for row in ended)]


def _ordered(rows: Sequence[Judged]) -> list[Judged]:
    """In order of time; `BadInput` for what cannot be reckoned with."""
    if not rows:
        raise BadInput("there is no candidate to grade a council by: the next ones come with the next closed bars")
    for row in rows:
        if not all(0 <= weight <= 1 for weight in (row.weight, *row.others.values())):
            raise BadInput(f"verdict {row.verdict_id} has a weight outside 0 to 1: it cannot be graded")
        if row.r is not None and not (row.ended and not row.lost and math.isfinite(row.r)):
            raise BadInput(f"verdict {row.verdict_id} has an outcome of {row.r} R: it cannot be graded")
    return sorted(rows, key=lambda row: (row.at, row.verdict_id))


def _results(ended: Sequence[Judged]) -> FloatArray:
    return np.array([row.r for row in ended], np.float64)


# Arms


def arms_of(ended: Sequence[Judged], council: str) -> dict[str, FloatArray]:
    """The weights of every arm but the random one: the council, `off`, other councils, without one agent each."""
    arms = {council: _weights(ended)}
    arms.setdefault(OFF, np.ones(len(ended)))
    for name in others_of(ended):
        arms.setdefault(name, np.array([row.others[name] for row in ended], np.float64))
    for agent in dict.fromkeys(ballot.agent for row in ended for ballot in row.ballots):
        arms[f"{WITHOUT}{agent.replace('_', ' ')}"] = np.array([without(row, agent) for row in ended], np.float64)
    return arms


def _weights(ended: Sequence[Judged]) -> FloatArray:
    return np.array([row.weight for row in ended], np.float64)


def without(row: Judged, agent: str) -> float:
    """The weight that a candidate would have had without one agent, as far as the ballots tell.

    A veto falls when it rested on that agent alone; then the size is what the Risk Manager named, full where it named
    none. Without the Risk Manager nobody shrinks. Where a twin stood in for one of the others its vote counts, at half
    size; left out with its agent, it halves nothing. A rejection that nobody voted for (a guard in code, a price that
    had run away) stands. What cannot be known: the Risk Manager sees the two votes, so that one who repeats a
    colleague's veto hides what that colleague is worth.
    """
    own = [ballot for ballot in row.ballots if ballot.agent == agent]
    if not own:
        return row.weight
    others = [ballot for ballot in row.ballots if ballot.agent != agent]
    left = _share(others)
    if row.weight > 0:
        return left if agent == RISK_MANAGER else min(row.weight * left / _share(row.ballots), 1.0)
    falls = any(map(_blocks, own)) and not any(map(_blocks, others))
    return left * _size(others) if falls else 0.0


def _share(ballots: Iterable[Ballot]) -> float:
    """Half where a twin voted for one of them."""
    return TWIN_SHARE if any(ballot.twin is not None for ballot in ballots) else 1.0


def _size(ballots: Iterable[Ballot]) -> float:
    """What the Risk Manager among them named."""
    return next((ballot.size for ballot in ballots if ballot.size is not None), 1.0)


def _blocks(ballot: Ballot) -> bool:
    """A vote against the trade, the twin's where one stood in, or no answer at all."""
    return ballot.twin < 0 if ballot.twin is not None else ballot.stance < 0 or ballot.status != "OK"


def _spread(arms: Mapping[str, FloatArray], r: FloatArray, seed: int) -> FloatArray:
    """Edges of every arm (columns) in the same bootstrap samples (rows), of which there are none of one candidate."""
    if len(r) < 2:
        return np.zeros((0, len(arms)))
    weights = np.array(list(arms.values()))
    return _resampled(weights, r, block_length(len(r)), np.random.default_rng([seed, 1]), DRAWS)


def _arms(arms: Mapping[str, FloatArray], r: FloatArray, spread: FloatArray, finding: _Finding) -> Iterator[Arm]:
    """Every arm with its edge, the random one last."""
    own = next(iter(arms.values()))
    for at, (name, weights) in enumerate(arms.items()):
        same = name.startswith(WITHOUT) and bool(len(r)) and np.array_equal(weights, own)
        edge, between = (None if same or not len(r) else edge_of(weights, r)), None
        if edge is not None and _moves(weights, r):
            between = _interval(spread[:, at], edge, finding.blocks)
        yield _arm(name, weights, r, edge, between, same=same)
    yield _at_random(own, r, finding)


def _moves(weights: FloatArray, r: FloatArray) -> bool:
    """Do both differ from candidate to candidate? Else there is no edge."""
    return len(r) > 1 and bool(np.ptp(weights) > 0 and np.ptp(r) > 0)


def _arm(
    name: str, weights: FloatArray, r: FloatArray, edge: float | None, interval: Interval | None, *, same: bool
) -> Arm:
    approved = weights > 0
    return Arm(
        name=name,
        approved=int(approved.sum()),
        vetoed=int((~approved).sum()),
        weight=_mean(weights) or 0.0,
        mean_approved=_mean(r[approved]),
        mean_vetoed=_mean(r[~approved]),
        total=float((weights * r).sum()),
        edge=edge,
        interval=interval,
        same=same,
    )


def _at_random(own: FloatArray, r: FloatArray, finding: _Finding) -> Arm:
    """What random vetoes at the council's rate come to on average; the interval holds 95 % of their edges."""
    approved, mean = int((own > 0).sum()), _mean(r)
    low, high = np.quantile(finding.dealt, (0.025, 0.975)).tolist() if finding.varies else (0.0, 0.0)
    return Arm(
        name=AT_RANDOM,
        approved=approved,
        vetoed=len(own) - approved,
        weight=_mean(own) or 0.0,
        mean_approved=mean if approved else None,
        mean_vetoed=mean if approved < len(own) else None,
        total=(_mean(own) or 0.0) * float(r.sum()),
        edge=0.0 if len(r) else None,
        interval=Interval(low=low, high=high) if finding.varies else None,
    )


def _mean(values: FloatArray) -> float | None:
    return float(values.mean()) if len(values) else None


def _interval(drawn: FloatArray, centre: float, blocks: float) -> Interval:
    low, high = (_quantile(drawn, centre, share, blocks) for share in (0.025, 0.975))
    return Interval(low=low, high=high)


# Edge against chance


def edge_of(weights: FloatArray, r: FloatArray) -> float:
    """R for each candidate above what the same weights at random come to on average."""
    return float(((weights - weights.mean()) * r).mean())


def block_length(count: int) -> int:
    """Candidates that are drawn together: the square root of their number, five at least, but twelve blocks.

    Longer than is usual for a mean (the cube root), because the worst that chance can do is to veto whole trends.
    """
    return max(min(max(5, round(math.sqrt(count))), count // 12), 1)


def _quantile(drawn: FloatArray, centre: float, share: float, blocks: float) -> float:
    """A quantile of bootstrap samples around what was observed, as far out as Student's t of so many blocks says.

    A bootstrap of few blocks is too sure of itself: its spread is that of a normal distribution, and too small by
    the one degree of freedom that the mean takes.
    """
    z, free = _NORMAL.inv_cdf(share), max(blocks - 1, 1.0)
    student = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)  # Fisher and Cornish 1960
    wider = student / z * math.sqrt(blocks / free)
    return centre + (float(np.quantile(drawn, share)) - centre) * wider


def _resampled(weights: FloatArray, r: FloatArray, block: int, rng: np.random.Generator, draws: int) -> FloatArray:
    """Edges of every arm (columns) in each bootstrap sample (rows): blocks of candidates with their weights."""
    columns = np.column_stack((r, weights.T, (weights * r).T))
    sums = _block_means(columns, block, rng, draws)
    arms = len(weights)
    mean, weight, product = sums[:, :1], sums[:, 1 : 1 + arms], sums[:, 1 + arms :]
    return product - weight * mean


def _block_means(columns: FloatArray, block: int, rng: np.random.Generator, draws: int) -> FloatArray:
    """Means of the columns in each sample of blocks from anywhere, the last candidate followed by the first."""
    count = len(columns)
    around = np.concatenate((np.zeros((1, columns.shape[1])), np.cumsum(np.concatenate((columns, columns[:block])), 0)))
    sums = around[block : block + count] - around[:count]
    taken = -(-count // block)
    step, found = max(_CELLS // (taken * columns.shape[1]), 1), []
    for start in range(0, draws, step):
        starts = rng.integers(0, count, (min(step, draws - start), taken))
        found.append(sums[starts].sum(axis=1))
    return np.concatenate(found) / (taken * block)


def _shuffles(rng: np.random.Generator, count: int, block: int, draws: int) -> IntArray:
    """Orders of so many candidates (rows): rotated, then cut into blocks that are shuffled.

    What is left over after the last whole block stays behind them.
    """
    whole = count // block
    order = rng.permuted(np.tile(np.arange(whole), (draws, 1)), axis=1)
    places = (order[:, :, None] * block + np.arange(block)).reshape(draws, whole * block)
    places = np.concatenate((places, np.tile(np.arange(whole * block, count), (draws, 1))), axis=1)
    found: IntArray = (places + rng.integers(0, count, (draws, 1))) % count
    return found


def _dealt(own: FloatArray, r: FloatArray, block: int, rng: np.random.Generator) -> FloatArray:
    """Edges of the weights in such orders: `TURNS` rotations, each with as many ways to shuffle its blocks.

    What every block of weights comes to in every block's place is reckoned once for each rotation.
    """
    count, whole = len(r), len(r) // block
    places, rest = r[: whole * block].reshape(whole, block), r[whole * block :]
    found = []
    for turn in rng.integers(0, count, TURNS):
        turned = np.roll(own, -int(turn))
        earned = turned[: whole * block].reshape(whole, block) @ places.T
        order = rng.permuted(np.tile(np.arange(whole), (DRAWS // TURNS, 1)), axis=1)
        found.append(earned[order, np.arange(whole)].sum(axis=1) + turned[whole * block :] @ rest)
    return np.asarray(np.concatenate(found) / count - own.mean() * r.mean(), np.float64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Finding:
    """A council's edge and what chance makes of its weights.

    favoured, held: candidates above and below its mean weight. drawn: edges of bootstrap samples. dealt: edges of
    random vetoes. varies: both exist. weights_alike: they do not because all weights are one.
    """

    count: int
    block: int
    edge: float
    favoured: int
    held: int
    varies: bool
    weights_alike: bool
    drawn: FloatArray
    dealt: FloatArray

    @property
    def random(self) -> float | None:
        """The share of random vetoes that earned at least as much."""
        return float((self.dealt >= self.edge - 1e-12).mean()) if self.varies else None

    def luck(self, sign: int) -> float:
        """How often chance does as well (sign 1) or as badly (-1), the council itself counted in: never 0."""
        return (1 + int((sign * self.dealt >= sign * self.edge - 1e-12).sum())) / (1 + len(self.dealt))

    def bound(self, sign: int) -> float:
        """The end of the one-sided interval towards zero for an edge of that sign, times the sign."""
        return _quantile(sign * self.drawn, sign * self.edge, LEVEL, self.blocks)

    @property
    def interval(self) -> Interval:
        """Of the edge, 95 %."""
        return _interval(self.drawn, self.edge, self.blocks)

    @property
    def blocks(self) -> float:
        """How many blocks there are."""
        return self.count / self.block

    @property
    def error(self) -> float:
        """The standard error of the edge: the widest that the bootstrap, its tail and chance suggest."""
        z, sign = -_NORMAL.inv_cdf(LEVEL), 1 if self.edge >= 0 else -1
        tail = (abs(self.edge) - self.bound(sign)) / z
        return max(float(self.drawn.std()), tail, float(self.dealt.std()))


def _found(own: FloatArray, r: FloatArray, drawn: FloatArray, seed: int) -> _Finding:
    count, mean = len(r), own.mean() if len(r) else 0.0
    varies, block = _moves(own, r), block_length(count)
    dealt = _dealt(own, r, block, np.random.default_rng([seed, 2])) if varies else np.zeros(0)
    return _Finding(
        count=count,
        block=block,
        edge=edge_of(own, r) if varies else 0.0,
        favoured=int((own > mean).sum()) if varies else 0,
        held=int((own < mean).sum()) if varies else 0,
        varies=varies,
        weights_alike=count > 1 and not np.ptp(own) > 0,
        drawn=drawn,
        dealt=dealt,
    )


# The word


def _judged(finding: _Finding, candidates: int) -> tuple[Word, str, int | None]:
    """The word, why, and about how many ended candidates it takes to know."""
    if not finding.count:
        return "insufficient evidence", f"No candidate of {candidates:,} has an outcome yet.", None
    if not finding.varies:
        return "insufficient evidence", _nothing(finding), None
    sign, edge = (1 if finding.edge >= 0 else -1), _edge_words(finding)
    thin = min(finding.favoured, finding.held) < LEAST
    if not thin and finding.bound(sign) > 0 and finding.luck(sign) <= LEVEL:
        return ("helps" if sign > 0 else "hurts"), f"{edge}, and {_random_words(finding, sign)}.", None
    enough = needed(finding)
    never = f": to know takes more than {MOST_NEEDED:,} candidates" if enough == MOST_NEEDED else ""
    but = _thin(finding) if thin else _random_words(finding, sign)
    return "insufficient evidence", f"{edge}, but {but}{never}.", enough


def _nothing(finding: _Finding) -> str:
    """Why there is no edge to speak of."""
    if finding.count == 1:
        return "Only 1 of its candidates has an outcome yet."
    same = "gave all of them the same size" if finding.weights_alike else "met the same outcome each time"
    return f"Of {finding.count:,} ended candidates nothing can be told: it {same}."


def _edge_words(finding: _Finding) -> str:
    between = finding.interval
    than = "more" if finding.edge >= 0 else "less"
    return (
        f"It earned {abs(finding.edge):.3f} R a candidate {than} than vetoing as much at random "
        f"(95% interval {between.low:+.3f} to {between.high:+.3f} R, {finding.count:,} ended)"
    )


def _random_words(finding: _Finding, sign: int) -> str:
    count = int((sign * finding.dealt >= sign * finding.edge - 1e-12).sum())
    share = "none" if not count else f"{count:,}"
    return f"{share} of {len(finding.dealt):,} random vetoes did as {'well' if sign > 0 else 'badly'}"


def _thin(finding: _Finding) -> str:
    """What there is too little of."""
    if finding.held < LEAST:
        return f"it held back only {finding.held:,} of them ({LEAST} needed)"
    return f"it favoured only {finding.favoured:,} of them ({LEAST} needed)"


def needed(finding: _Finding) -> int | None:
    """Ended candidates that show an edge of the size observed at `LEVEL` in four of five cases; None without an edge.

    Also as many as it takes for `LEAST` on both sides at the rate so far. At most `MOST_NEEDED`.
    """
    if not finding.varies or finding.edge == 0.0:
        return None
    far = _NORMAL.inv_cdf(1 - LEVEL) + _NORMAL.inv_cdf(POWER)
    enough = finding.count * (far * finding.error / abs(finding.edge)) ** 2
    enough = max(enough, finding.count * LEAST / min(finding.favoured, finding.held))
    if enough <= finding.count:
        return None
    return MOST_NEEDED if enough >= MOST_NEEDED else _rounded(enough)


def _rounded(value: float) -> int:
    """Up to two digits: it is an estimate. Below `MOST_NEEDED`, which means more than that."""
    unit = int(10 ** max(len(str(int(value))) - 2, 0))
    rounded = math.ceil(value / unit) * unit
    return rounded if rounded < MOST_NEEDED else rounded - unit


# Agents


def _agents(rows: Sequence[Judged], seed: int) -> Iterator[AgentGrade]:
    """Everybody, with what was paid: by the record of calls where there is one, else by the ballots."""
    recorded, bills = any(row.bills is not None for row in rows), paid(rows)
    for name in agents_of(rows):
        found = _agent(name, rows, seed)
        yield _billed(found, bills.get(name)) if recorded else found


def _billed(agent: AgentGrade, bill: AgentCost | None) -> AgentGrade:
    if bill is None:
        return replace(agent, cost_usd=0.0, calls=0)
    told = (bill.tokens_in, bill.tokens_out) if bill.unreported < bill.calls else None
    return replace(agent, cost_usd=float(bill.cost_usd), calls=bill.calls, tokens=told)


def _agent(name: str, rows: Sequence[Judged], seed: int) -> AgentGrade:
    ballots = [(ballot, row) for row in rows for ballot in row.ballots if ballot.agent == name]
    scored = [
        (said, row.r > 0) for ballot, row in ballots if row.r is not None and (said := stated(ballot)) is not None
    ]
    p, won = np.array(scored, np.float64).reshape(-1, 2).T
    skill, between = skill_of(p, won, seed)
    seconds = [ballot.seconds for ballot, _ in ballots if ballot.seconds is not None]
    return AgentGrade(
        agent=name,
        asked=len(ballots),
        statuses=_counted([ballot.status for ballot, _ in ballots], STATUSES),
        votes=_counted([_VOTES[ballot.stance] for ballot, _ in ballots if ballot.status == "OK"], _VOTES.values()),
        scored=len(p),
        brier=_mean((p - won) ** 2),
        skill=skill,
        skill_interval=between,
        bins=tuple(bins_of(p, won)),
        seconds=(float(np.median(seconds)), float(np.quantile(seconds, 0.95))) if seconds else None,
        cost_usd=math.fsum(ballot.cost_usd for ballot, _ in ballots),
        proposed_weight=proposed_weight(p, won, between),
    )


_VOTES: Final = {1: "for", 0: "neither", -1: "against"}


def stated(ballot: Ballot) -> float | None:
    """The probability of a win that an agent stated, None where it did not answer or named none."""
    p = ballot.p_win
    return p if ballot.status == "OK" and p is not None and 0 <= p <= 1 else None


def _counted(found: Sequence[str], known: Any) -> dict[str, int]:
    """How often each occurs: those that are known in their order, at 0 too, then any other."""
    counts = Counter(found)
    return {name: counts[name] for name in dict.fromkeys((*known, *sorted(counts)))}


def base_rates(won: FloatArray) -> FloatArray:
    """For each candidate the share of wins among all the others: a forecaster that knows the rate, not the outcome."""
    rates: FloatArray = (won.sum() - won) / (len(won) - 1)
    return rates


def skill_of(p: FloatArray, won: FloatArray, seed: int) -> tuple[float | None, Interval | None]:
    """1 - Brier score / that of the base rate, with its bootstrap interval; None where it is undefined.

    The interval takes ten scored answers of which some won and some lost.
    """
    if len(p) < 2:
        return None, None
    own, base = (p - won) ** 2, (base_rates(won) - won) ** 2
    if not base.sum():
        return None, None
    skill = float(1 - own.sum() / base.sum())
    if len(p) < 10:
        return skill, None
    block = block_length(len(p))
    drawn = _block_means(np.column_stack((own, base)), block, np.random.default_rng([seed, 4]), INTERVAL)
    kept = drawn[drawn[:, 1] > 0]
    return skill, _interval(1 - kept[:, 0] / kept[:, 1], skill, len(p) / block)


def bins_of(p: FloatArray, won: FloatArray) -> Iterator[Bin]:
    """Bins of a tenth that hold at least one stated probability; the last includes 1."""
    last = round(1 / BIN) - 1
    places = np.minimum(np.floor(p / BIN + 1e-9).astype(np.int64), last)
    for place in np.unique(places).tolist():
        inside = places == place
        low, high = round(place * BIN, 10), round((place + 1) * BIN, 10)
        mean, share = float(p[inside].mean()), float(won[inside].mean())
        yield Bin(low=low, high=high, count=int(inside.sum()), stated=mean, won=share)


def proposed_weight(p: FloatArray, won: FloatArray, between: Interval | None) -> float:
    """How much of what it states against the base rate its record earns an agent, 0 to 1; a proposal, never applied.

    0 unless the lower end of its skill is above 0 over at least `LEAST` scored answers. Otherwise the share of its
    deviation from the base rate that would have had the least Brier score, times n / (n + `TRUST`).
    """
    if between is None or between.low <= 0 or len(p) < LEAST:
        return 0.0
    base = base_rates(won)
    said, came = p - base, won - base
    power = float(said @ said)
    best = float(said @ came) / power if power else 0.0
    return min(max(best, 0.0), 1.0) * len(p) / (len(p) + TRUST)
