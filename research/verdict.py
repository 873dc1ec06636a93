"""What may be believed of a result: the evidence for and against it, and one word.

The rule stands in docs/verdict.md with the reason for every threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from research import significance as sig
from research.checks import look_ahead, warm_up
from research.results import Evidence, Result, WalkForward
from trading.laboratory import Verdict
from trading.model import IntArray
from trading.strategy import Strategy, strategy_named

if TYPE_CHECKING:
    from research.grid import Sums

THIN: Final = 100  # closed trades
THIN_OUT: Final = 20  # closed trades out of sample
SURE: Final = 0.95  # that the true Sharpe ratio is above what luck shows
HELD_BACK: Final = 1 / 3  # of the bars, the last ones
OVERFIT: Final = 0.5  # chosen sets that do no better than the median one
LOSING: Final = 0.05  # chosen sets that lose money where they were not chosen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Searched:
    """A grid's returns in 16 blocks that follow one another up to the last bar: one row per parameter set.

    sums, squares: of bar returns and of their squares, (sets, 16). bars: of each block. again: the backtest of a row
    over the series of the result.
    """

    sums: sig.Sums
    squares: sig.Sums
    bars: IntArray
    again: Callable[[int], Result]

    @classmethod
    def of(cls, found: Sums, again: Callable[[int], Result]) -> Searched:
        """What a search has found; `again` backtests a combination by its number in the grid."""
        from research.kernel import SUMS

        rows = np.flatnonzero(found.done)
        ruined = found.sums[rows, SUMS.index("ruined")] > 0
        blocks = found.blocks if len(rows) == len(found.blocks) and not ruined.any() else found.blocks[rows]
        blocks[ruined] = _to_the_end(blocks[ruined])
        return cls(
            sums=blocks[:, 0],
            squares=blocks[:, 1],
            bars=found.bars_per_block,
            again=lambda row: again(int(rows[row])),
        )


def _to_the_end(ruined: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blocks (sets, 2, 16) of sets that went bankrupt: a search stops counting there, which must not look like calm.

    From the last block with a return on, they lose all there is.
    """
    last = sig.BLOCKS - 1 - np.argmax(ruined[:, 1, ::-1] > 0, axis=1)
    last[~(ruined[:, 1] > 0).any(axis=1)] = 0
    after = np.arange(sig.BLOCKS) >= last[:, None]
    return np.stack((np.where(after, -1, ruined[:, 0]), np.where(after, 1, ruined[:, 1])), axis=1).astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """Bars that nothing was chosen on: Sharpe ratio a year, closed trades."""

    sharpe: float | None
    trades: int


def gather(
    result: Result,
    *,
    trials: int | None = None,
    searched: Searched | None = None,
    walk: WalkForward | None = None,
    second_opinion: str | None = None,
    seed: int = 0,
) -> Evidence:
    """The evidence about a result; seeded, so that the same result gives the same evidence.

    trials: parameter sets that were tried on the bars it is judged by before it was shown; without it those of
    `searched`, or 1. searched: the grid it is the best of. walk: the walk-forward whose joined whole it is; luck is
    then measured on the joined curve, on which nothing was chosen. Costs are those of closed trades.
    """
    count = trials if trials is not None else len(searched.sums) if searched is not None and walk is None else 1
    held = _held_back(result, searched, walk)
    strategy = strategy_of(result)
    again = _bootstrapped(result, seed)
    choice = None if searched is None else sig.overfitting(searched.sums, searched.squares, seed=seed)
    return Evidence(
        trials=count,
        **_against_luck(result, count, searched, walk),
        overfit=None if choice is None else choice.probability,
        overfit_loss=None if choice is None else choice.loss,
        out_of_sample=held.sharpe,
        out_trades=held.trades,
        total_return=None if again is None else again.total_return,
        max_drawdown=None if again is None else again.max_drawdown,
        expectancy_r=None if again is None else again.expectancy_r,
        **_costs(result),
        look_ahead=look_ahead(strategy, result.series, seed=seed),
        warm_up=warm_up(strategy, result.series),
        second_opinion=second_opinion,
    )


def judge(result: Result, evidence: Evidence) -> Verdict:
    """One word and why. LOSES: it lost money net of costs. PROVEN: every demand of the rule is met."""
    profit = result.metrics["total_return"]
    against = [reason for demand in DEMANDS if (reason := demand(result, evidence)) is not None]
    if profit is not None and profit < 0:
        thin = [reason for reason in (_enough(result, evidence),) if reason is not None]
        return Verdict(word="LOSES", reasons=(*thin, *_losses(float(profit), evidence)))
    if against:
        return Verdict(word="NOT PROVEN", reasons=tuple(against))
    return Verdict(word="PROVEN", reasons=_merits(evidence))


def strategy_of(result: Result) -> Strategy:
    """The strategy that made a result, with its parameters."""
    found = strategy_named(result.strategy)
    strategy: Strategy = found(found.parameters(**{name: result.params[name] for name in found.parameters.names()}))
    return strategy


# Evidence


def _against_luck(result: Result, trials: int, searched: Searched | None, walk: WalkForward | None) -> dict[str, Any]:
    """`expected_best` (a year), `probable` and `deflated`; None where the curve has no Sharpe ratio."""
    curve = result.equity if walk is None else walk.equity
    returns = sig.bar_returns(curve, float(result.params["initial_equity"]))
    shown = None if returns is None else sig.moments(returns)
    if shown is None:
        return {"expected_best": None, "probable": None, "deflated": None}
    variance = None if searched is None or trials < 2 else _variance(searched)
    best = sig.luck(shown, trials, variance)
    return {
        "expected_best": best * math.sqrt(sig.bars_per_year(result.series.interval)),
        "probable": sig.probabilistic_sharpe(shown),
        "deflated": sig.probabilistic_sharpe(shown, best),
    }


def _variance(searched: Searched) -> float | None:
    """Variance of the Sharpe ratios (per bar) of the sets that were tried; None for fewer than two that have one."""
    ratios = sig.block_sharpe(searched.sums, searched.squares, int(searched.bars.sum()))
    ratios = ratios[np.isfinite(ratios)]
    return float(np.var(ratios, ddof=1)) if len(ratios) > 1 else None


def _held_back(result: Result, searched: Searched | None, walk: WalkForward | None) -> _Held:
    """The walk-forward; or the last third of the bars, with a grid's set that was best on the bars before them."""
    if walk is not None:
        return _Held(sharpe=walk.metrics["sharpe"], trades=int(walk.metrics["trades"] or 0))
    if searched is None:
        return _since(result, len(result.equity) - round(len(result.equity) * HELD_BACK))
    training = sig.BLOCKS - round(sig.BLOCKS * HELD_BACK)
    bars = int(searched.bars[:training].sum())
    ratios = sig.block_sharpe(searched.sums[:, :training], searched.squares[:, :training], bars)
    if np.isnan(ratios).all():
        return _Held(sharpe=None, trades=0)
    return _since(searched.again(int(np.nanargmax(ratios))), len(result.equity) - int(searched.bars[training:].sum()))


def _since(result: Result, row: int) -> _Held:
    """From that row on; trades count where their signal lies."""
    returns = sig.bar_returns(result.equity, float(result.params["initial_equity"]))
    shown = None if returns is None else sig.moments(returns[row:])
    yearly = math.sqrt(sig.bars_per_year(result.series.interval))
    return _Held(
        sharpe=None if shown is None else shown.sharpe * yearly,
        trades=int(np.count_nonzero(result.trades.signal >= row)),
    )


def _bootstrapped(result: Result, seed: int) -> sig.Resampled | None:
    shares = sig.shares_of_equity(result.trades.pnl, float(result.params["initial_equity"]))
    return sig.bootstrap(shares, result.trades.r, seed=seed)


def _costs(result: Result) -> dict[str, Any]:
    """What closed trades earned before costs, and what they paid."""
    trades = result.trades
    fees, funding, slippage = (float(each.sum()) for each in (trades.fees, trades.funding, trades.slippage))
    gross = float(trades.pnl.sum()) + fees + funding + slippage
    share = (fees + funding + slippage) / gross if gross > 0 else None
    return {"gross": gross, "fees": fees, "funding": funding, "slippage": slippage, "cost_share": share}


# The demands, the weightiest first. Each returns what speaks against a result, or None.


def _enough(result: Result, evidence: Evidence) -> str | None:
    trades = int(result.metrics["trades"] or 0)
    return f"{trades} trade{'' if trades == 1 else 's'} (<{THIN})" if trades < THIN else None


def _causal(result: Result, evidence: Evidence) -> str | None:
    return evidence.look_ahead


def _settled(result: Result, evidence: Evidence) -> str | None:
    return evidence.warm_up


def _seconded(result: Result, evidence: Evidence) -> str | None:
    return None if evidence.second_opinion is None else f"vectorbt disagrees: {evidence.second_opinion}"


def _holds_elsewhere(result: Result, evidence: Evidence) -> str | None:
    if evidence.out_of_sample is None:
        return "nothing out of sample"
    if evidence.out_of_sample <= 0:
        return f"out-of-sample Sharpe {evidence.out_of_sample:.1f}"
    if evidence.out_trades < THIN_OUT:
        return f"{evidence.out_trades} trades out of sample (<{THIN_OUT})"
    return None


def _no_luck(result: Result, evidence: Evidence) -> str | None:
    if evidence.deflated is None or evidence.expected_best is None:
        return "no Sharpe ratio"
    if evidence.deflated >= SURE:
        return None
    sets = f", luck alone {evidence.expected_best:.1f} in {evidence.trials:,} sets" if evidence.trials > 1 else ""
    return f"deflated Sharpe {_percent(evidence.deflated)} (<{SURE:.0%}){sets}"


def _earns(result: Result, evidence: Evidence) -> str | None:
    expectancy = evidence.expectancy_r
    if expectancy is None or expectancy.low > 0:
        return None  # without trades the first demand has said so
    return f"expectancy as low as {expectancy.low:.2f} R"


def _well_chosen(result: Result, evidence: Evidence) -> str | None:
    """Where all sets of a grid are equally good, the best is below the median half of the time, and no harm is done."""
    if evidence.overfit is None or evidence.overfit_loss is None:
        return None
    if evidence.overfit <= OVERFIT or evidence.overfit_loss <= LOSING:
        return None
    return f"overfit: {evidence.overfit:.0%} of choices below the median, {evidence.overfit_loss:.0%} lose money"


DEMANDS: Final = (_enough, _causal, _settled, _seconded, _holds_elsewhere, _no_luck, _earns, _well_chosen)


def _losses(profit: float, evidence: Evidence) -> tuple[str, ...]:
    """Why it loses: by how much, by costs or without them, and whether it was sound at all."""
    paid = evidence.fees + evidence.funding + evidence.slippage
    reasons = [f"lost {-profit:.1%} net of costs"]
    if evidence.gross > 0 and paid > evidence.gross:
        reasons.append(f"costs {paid / evidence.gross:.1f} times the gross profit")
    elif evidence.gross < 0:
        reasons.append("loses before costs too")
    return (*reasons, *(each for each in (evidence.look_ahead, evidence.warm_up) if each is not None))


def _merits(evidence: Evidence) -> tuple[str, ...]:
    """What a proven result rests on."""
    sets = f", {evidence.trials:,} sets tried" if evidence.trials > 1 else ""
    reasons = [
        f"out-of-sample Sharpe {evidence.out_of_sample:.1f}, {evidence.out_trades} trades",
        f"deflated Sharpe {_percent(evidence.deflated or 0.0)}{sets}",
    ]
    if evidence.expectancy_r is not None:
        reasons.append(f"expectancy at least {evidence.expectancy_r.low:.2f} R")
    return tuple(reasons)


def _percent(probability: float) -> str:
    """Rounded down: certainty is never claimed."""
    return f"{math.floor(probability * 1000) / 10 if probability < 1 else 99.9:.1f}%"
