"""The one verdict: each demand can fail alone, thin samples are said first, and the evidence is what it says it is."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research import significance as sig
from research.backtest import backtest
from research.grid import Grid, Sums, search
from research.ground import Ground
from research.kernel import SUMS
from research.results import Evidence, Fold, Interval, Result, WalkForward
from research.significance import block_sharpe
from research.verdict import (
    HELD_BACK,
    LOSING,
    OVERFIT,
    SURE,
    THIN,
    THIN_OUT,
    Searched,
    gather,
    judge,
    strategy_of,
)
from tests.parity.plain import DEFAULTS, WHOLE
from tests.research.worlds import trends, walk
from trading.laboratory import Verdict
from trading.model import CandleSeries

VALUES = {name: int(value) if name in WHOLE else value for name, value in DEFAULTS.items()}
AXES = (("ema_period", (50, 100, 200)), ("sl_atr_multiplier", (2.0, 4.0, 6.0)))


@cache
def market() -> CandleSeries:
    return trends(21, 12_000)


@cache
def shown() -> Result:
    return backtest(market(), "ema_trend", VALUES)


@cache
def grid() -> tuple[Grid, Searched, Result]:
    """A grid, what was searched, and the best of it."""
    asked = Grid(strategy="ema_trend", values=VALUES, axes=AXES)
    found = search(Ground.of(market()), asked)

    def again(number: int) -> Result:
        return backtest(market(), "ema_trend", asked.chosen(number))

    return asked, Searched.of(found, again), again(int(found.table("sharpe", 0.0).order[0]))


@cache
def evidence() -> Evidence:
    return gather(shown())


def with_metrics(result: Result, **changes: Any) -> Result:
    return replace(result, metrics={**result.metrics, **changes})


# The rule


def test_a_sound_result_is_proven() -> None:
    """And says what it rests on."""
    verdict = judge(shown(), evidence())
    assert verdict.word == "PROVEN"
    assert verdict.reasons[0].startswith("out-of-sample Sharpe ")
    assert any("deflated Sharpe" in reason for reason in verdict.reasons)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"look_ahead": "sees the future: 'x'"}, "sees the future: 'x'"),
        ({"warm_up": "depends on where its history starts"}, "depends on where its history starts"),
        ({"second_opinion": "trade 3"}, "vectorbt disagrees: trade 3"),
        ({"out_of_sample": None, "out_trades": 0}, "nothing out of sample"),
        ({"out_of_sample": -0.31}, "out-of-sample Sharpe -0.3"),
        ({"out_of_sample": 0.0}, "out-of-sample Sharpe 0.0"),
        ({"out_trades": 19}, "19 trades out of sample (<20)"),
        ({"deflated": 0.9499}, "deflated Sharpe 94.9% (<95%)"),
        (
            {"deflated": 0.412, "trials": 1350, "expected_best": 1.38},
            "deflated Sharpe 41.2% (<95%), luck alone 1.4 in 1,350 sets",
        ),
        ({"deflated": None}, "no Sharpe ratio"),
        ({"expectancy_r": Interval(low=-0.02, middle=0.1, high=0.2)}, "expectancy as low as -0.02 R"),
        ({"overfit": 0.62, "overfit_loss": 0.21}, "overfit: 62% of choices below the median, 21% lose money"),
    ],
)
def test_each_demand_fails_alone(changes: dict[str, Any], reason: str) -> None:
    """One reason, the one that is missing."""
    assert judge(shown(), replace(evidence(), **changes)) == Verdict(word="NOT PROVEN", reasons=(reason,))


@pytest.mark.parametrize(
    "changes",
    [
        {"deflated": 0.95},
        {"out_trades": 20, "out_of_sample": 0.01},
        {"expectancy_r": Interval(low=0.001, middle=0.1, high=0.2)},
        {"overfit": 0.5, "overfit_loss": 0.4},
        {"overfit": 0.9, "overfit_loss": 0.05},
        {"trials": 500},
        {"cost_share": 0.97},
    ],
)
def test_demands_that_are_just_met(changes: dict[str, Any]) -> None:
    """The thresholds themselves are good enough; equally good sets are no fault; costs are shown, not judged."""
    assert judge(shown(), replace(evidence(), **changes)).word == "PROVEN"


@pytest.mark.parametrize(
    ("trades", "said"),
    [(99, "99 trades (<100)"), (1, "1 trade (<100)"), (0, "0 trades (<100)"), (None, "0 trades (<100)")],
)
def test_thin_samples_are_said_first(trades: int | None, said: str) -> None:
    """Before anything else, whatever the word."""
    thin = with_metrics(shown(), trades=trades)
    poor = replace(evidence(), look_ahead="sees the future", deflated=0.2)
    assert judge(thin, poor).word == "NOT PROVEN"
    assert judge(thin, poor).reasons[:2] == (said, "sees the future")
    losing = judge(with_metrics(thin, total_return=-0.02), poor)
    assert losing.word == "LOSES"
    assert losing.reasons[:2] == (said, "lost 2.0% net of costs")


def test_a_loss_is_a_loss() -> None:
    """However good the rest looks; the costs are named where they made it one."""
    losing = with_metrics(shown(), total_return=-0.231)
    eaten = replace(evidence(), gross=1000.0, fees=900.0, funding=300.0, slippage=200.0)
    assert judge(losing, eaten) == Verdict(
        word="LOSES", reasons=("lost 23.1% net of costs", "costs 1.4 times the gross profit")
    )
    hopeless = replace(evidence(), gross=-500.0)
    assert judge(losing, hopeless).reasons == ("lost 23.1% net of costs", "loses before costs too")


def test_no_loss_no_trade_is_not_proven() -> None:
    """Nothing happened: that is neither a loss nor a proof, and nothing crashes."""
    quiet = backtest(walk(1, 3000), "ema_trend", {**VALUES, "adx_min": 100.0})
    found = gather(quiet)
    assert (found.probable, found.deflated, found.expectancy_r, found.cost_share) == (None, None, None, None)
    assert (found.gross, found.fees, found.out_trades) == (0.0, 0.0, 0)
    assert judge(quiet, found) == Verdict(
        word="NOT PROVEN", reasons=("0 trades (<100)", "nothing out of sample", "no Sharpe ratio")
    )


def test_certainty_is_never_claimed() -> None:
    """A probability that rounds to one is told as less."""
    sure = judge(shown(), replace(evidence(), deflated=1.0))
    assert "deflated Sharpe 99.9%" in sure.reasons


def test_the_page_names_every_threshold() -> None:
    """What docs/verdict.md promises is what the rule does."""
    page = (Path(__file__).parents[2] / "docs" / "verdict.md").read_text(encoding="utf-8")
    for promise in (
        f"at least {THIN} closed",
        f"from at least {THIN_OUT} trades",
        f"deflated Sharpe ratio at least {SURE:.0%}".replace("%", " %"),
        f"at most {OVERFIT:.0%}".replace("%", " %"),
        f"lose money in at most {LOSING:.0%}".replace("%", " %"),
    ):
        assert promise in page
    assert HELD_BACK == 1 / 3
    assert "the last third of the bars" in page


# The evidence


def test_evidence_is_the_same_every_time() -> None:
    """Seeded throughout."""
    assert gather(shown()) == evidence()


def test_costs_add_up() -> None:
    """What closed trades earned before costs, less what they paid, is their profit."""
    found, trades = evidence(), shown().trades
    assert found.gross - found.fees - found.funding - found.slippage == pytest.approx(trades.pnl.sum())
    assert found.cost_share == pytest.approx((found.fees + found.funding + found.slippage) / found.gross)
    moved = trades.side * trades.qty * (trades.exit_price - trades.entry_price)
    assert found.gross == pytest.approx((moved + trades.slippage).sum())


def test_the_last_third_is_held_back() -> None:
    """Its Sharpe ratio and its trades, and nothing of the bars before it."""
    found, equity = evidence(), shown().equity
    last = np.diff(equity[7999:]) / equity[7999:-1]
    assert len(last) == 4000
    assert found.out_of_sample == pytest.approx(last.mean() / last.std(ddof=1) * math.sqrt(2190))
    assert found.out_trades == int((shown().trades.signal >= 8000).sum())


def test_the_probable_ratio_is_that_of_the_metrics() -> None:
    """Per bar it is the yearly one of the metrics; one trial is not deflated."""
    returns = sig.bar_returns(shown().equity, 10_000.0)
    assert returns is not None
    moments = sig.moments(returns)
    assert moments is not None
    assert moments.sharpe * math.sqrt(2190) == pytest.approx(shown().metrics["sharpe"])
    assert evidence().probable == evidence().deflated == sig.probabilistic_sharpe(moments)
    assert (evidence().trials, evidence().expected_best, evidence().overfit) == (1, 0.0, None)


def test_a_grid_is_deflated_by_its_size() -> None:
    """The more sets were tried, the higher the bar; CSCV looks at all splits of so few."""
    _, searched, best = grid()
    found = gather(best, searched=searched)
    many = gather(best, searched=searched, trials=5000)
    assert found.trials == 9
    assert found.deflated is not None
    assert many.deflated is not None
    assert found.probable is not None
    assert many.deflated < found.deflated < found.probable
    assert (found.expected_best or 0) < (many.expected_best or 0)
    assert found.overfit is not None
    assert found.overfit_loss is not None


def test_trials_without_a_grid_deflate_too() -> None:
    """A backtest that came after a search on the same bars."""
    found = gather(shown(), trials=1000)
    assert found.expected_best == pytest.approx(
        sig.expected_maximum(1000, 1 / (len(market()) - 1)) * math.sqrt(2190), rel=1e-9
    )


def test_a_grid_is_held_back_too() -> None:
    """The set that is best on the first eleven blocks is judged on the last five, whatever set is shown."""
    asked, searched, best = grid()
    start = int(searched.bars[:11].sum())
    assert start + int(searched.bars[11:].sum()) == len(market())
    early = [backtest(market().between(0, start), "ema_trend", asked.chosen(at)) for at in range(asked.combinations)]
    chosen = int(np.argmax([result.metrics["sharpe"] or -9.0 for result in early]))
    result = searched.again(chosen)
    last = np.diff(result.equity[start - 1 :]) / result.equity[start - 1 : -1]
    found = gather(best, searched=searched)
    assert found.out_of_sample == pytest.approx(last.mean() / last.std(ddof=1) * math.sqrt(2190))
    assert found.out_trades == int((result.trades.signal >= start).sum())


def test_rows_are_those_that_were_searched() -> None:
    """A search that was stopped: its rows are fewer, and each is backtested as itself."""
    asked = Grid(strategy="ema_trend", values=VALUES, axes=AXES)
    whole = search(Ground.of(market()), asked)
    whole.done[[0, 2, 5]] = False
    searched = Searched.of(whole, lambda number: backtest(market(), "ema_trend", asked.chosen(number)))
    ratios = block_sharpe(searched.sums, searched.squares, len(market())) * math.sqrt(2190)
    assert len(ratios) == 6
    for row, ratio in enumerate(ratios.tolist()):
        assert searched.again(row).metrics["sharpe"] == pytest.approx(ratio, rel=1e-3)


def test_a_bankrupt_set_does_not_look_calm() -> None:
    """A search stops counting at the ruin; CSCV must see a loss from there on, and no ratio before it is changed."""
    found = Sums.empty(Grid(strategy="ema_trend", values=VALUES, axes=AXES), 3200, market().interval)
    found.done[:] = True
    found.blocks[:, 0], found.blocks[:, 1] = 0.01, 0.02
    found.sums[[4, 7], SUMS.index("ruined")] = 1.0
    found.blocks[4, :, 9:] = 0.0  # the last return lies in block 8
    found.blocks[7] = 0.0  # ruined by its first trade
    before = found.blocks.copy()
    searched = Searched.of(found, lambda number: shown())
    assert searched.sums[4].tolist() == pytest.approx([0.01] * 8 + [-1.0] * 8)
    assert searched.squares[4].tolist() == pytest.approx([0.02] * 8 + [1.0] * 8)
    assert searched.sums[7].tolist() == [-1.0] * 16
    assert np.array_equal(np.delete(searched.sums, [4, 7], axis=0), np.delete(before[:, 0], [4, 7], axis=0))
    assert np.array_equal(found.blocks, before)


def test_a_walk_forward_is_judged_on_its_joined_curve() -> None:
    """Nothing was chosen on it, so nothing is deflated; its Sharpe ratio is the one out of sample."""
    rows = np.arange(6000, 12_000)
    half = backtest(market().between(6000, 12_000), "ema_trend", VALUES)
    fold = Fold(
        train_from=0, train_to=5900, test_from=6000, test_to=12_000, chosen={}, train=shown().metrics, test=half.metrics
    )
    joined = WalkForward(folds=(fold,), rows=rows, equity=half.equity, metrics=half.metrics, embargo=100)
    found = gather(half, walk=joined, searched=grid()[1])
    assert found.out_of_sample == half.metrics["sharpe"]
    assert found.out_trades == half.metrics["trades"]
    assert found.trials == 1
    assert found.deflated == found.probable == gather(half).probable


def test_the_strategy_is_made_from_the_parameters_of_the_result() -> None:
    """The checks look at the very set that was shown."""
    result = backtest(market(), "ema_trend", {**VALUES, "ema_period": 77})
    assert strategy_of(result).longest_period == 77


def test_a_short_history_is_not_called_sound() -> None:
    """Too few bars to check the warm-up: it is said, and nothing is proven."""
    short = backtest(market().between(0, 2000), "ema_trend", VALUES)
    found = gather(short)
    assert found.warm_up == "warm-up not checked: 2,000 bars, 2,400 needed"
    assert judge(short, found).word != "PROVEN"


def test_a_ruined_account_has_no_ratio() -> None:
    """The curve fell below zero: what is undefined stays undefined."""
    equity = shown().equity.copy()
    equity[500:] = -1.0
    ruined = replace(with_metrics(shown(), total_return=-1.0, sharpe=None), equity=equity)
    found = gather(ruined)
    assert (found.probable, found.deflated, found.out_of_sample) == (None, None, None)
    assert judge(ruined, found).word == "LOSES"
