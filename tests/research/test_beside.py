"""A backtest with a council: what it says with it, what it says without it, and that the latter is the kernel's."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl  # type: ignore[import-untyped]
import pytest

from research.backtest import backtest, strategy_of, trade_rows
from research.beside import MOST_BARS, instrument, with_and_without
from research.candles import CandleFile
from research.charts import draw, figure
from research.report_pictures import chart, equity_picture, facts_of, title_of
from research.results import Beside, Report, Result, Ruled
from research.study import do, finding, params_fingerprint
from research.synthetic import synthetic
from research.verdict import judge
from research.views import MANY, beside_lines, effect_of, limits_of, shut_lines
from research.workbook import write_workbook
from research.workbook.beside import reason_of
from storage.runs import decode, encode
from tests.research import samples
from tests.research.test_charts import check_layout, opened, words
from trading.council.packet import PacketTerms
from trading.errors import BadInput
from trading.laboratory import Progress, Study, check_council
from trading.model import CandleSeries
from trading.parameters import AccountTerms, InstrumentTerms, TradeRules
from trading.pictures import EquityPicture, thinned
from trading.risk import Limits
from trading.strategy import strategy_named

BARS = 3000
LOOSE = {"ema_trend": {"adx_min": 15.0, "ema_period": 100}, "mean_reversion": {"take_profit_r": 1.5}}


def values(strategy: str, changes: Mapping[str, float]) -> dict[str, float]:
    """Every name of the specification."""
    found: dict[str, float] = {}
    for terms in (strategy_named(strategy).parameters(), TradeRules(), AccountTerms(), InstrumentTerms()):
        found |= terms.as_dict()
    return {**found, **changes}


def asked(series: CandleSeries, strategy: str = "ema_trend", **changes: Any) -> Study:
    """A backtest with the rules council."""
    study = Study(
        kind="backtest",
        symbol=series.symbol,
        interval=series.interval // timedelta(minutes=1),
        days=None,
        strategy=strategy,
        values=values(strategy, LOOSE[strategy]),
        council="rules",
    )
    return replace(study, **changes)


@cache
def market(bars: int = BARS) -> CandleSeries:
    """Made-up hours."""
    return synthetic("BTCUSDT", seed=5, bars=bars, interval_minutes=60)


def rates(series: CandleSeries) -> dict[int, Decimal]:
    """A funding series that knows two of three settlements."""
    every, stamps = 8 * 3_600_000, series.timestamp
    times = range(int(stamps[0]) // every * every, int(stamps[-1]), every)
    return {at: Decimal("0.0001") * (place % 7 - 2) for place, at in enumerate(times) if place % 3}


@cache
def both(strategy: str = "ema_trend", funded: bool = False) -> tuple[Result, Beside]:
    """With and without the council."""
    return with_and_without(asked(market(), strategy), market(), rates(market()) if funded else None)


@cache
def report() -> Report:
    """A whole report of the result with the council."""
    own, beside = both()
    whole = samples.report(own, beside=beside)
    return replace(whole, study=asked(market()))


# The two walks


@pytest.mark.parametrize("strategy", ["ema_trend", "mean_reversion"])
@pytest.mark.parametrize("funded", [False, True])
def test_without_a_council_it_is_what_the_kernel_finds(strategy: str, funded: bool) -> None:
    """Trade by trade, close by close, gate by gate."""
    study, series = asked(market(), strategy), market()
    alone = both(strategy, funded)[1].alone
    known = backtest(series, strategy, study.values, rates(series) if funded else None)
    assert len(known.trades) > 10
    for name in known.trades.__slots__:
        mine, other = getattr(alone.trades, name), getattr(known.trades, name)
        assert mine.dtype == other.dtype, name
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(alone.equity, known.equity, rtol=1e-12)
    np.testing.assert_array_equal(alone.exposed, known.exposed)
    assert alone.gates == known.gates
    assert (alone.settlements, alone.unrated, alone.funded) == (known.settlements, known.unrated, funded)
    assert alone.metrics == {name: pytest.approx(value, rel=1e-9) for name, value in known.metrics.items()}
    assert (alone.candles, alone.params) == (known.candles, known.params)
    assert [row["exit_reason"] for row in trade_rows(alone)] == [row["exit_reason"] for row in trade_rows(known)]
    assert (alone.open_position is None) == (known.open_position is None)
    for name, value in (known.open_position or {}).items():
        assert (alone.open_position or {})[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_every_candidate_has_a_verdict_and_what_was_approved_was_placed() -> None:
    """Nothing above base size; whoever said no is named and says why."""
    own, beside = both()
    approved = [said for said in beside.verdicts if said.approved]
    assert len(approved) == own.gates.placed
    assert len(beside.verdicts) == own.gates.edges
    assert all(0 < said.size <= 1 and said.gate == "" for said in approved)
    rejected = [said for said in beside.verdicts if not said.approved]
    assert all(said.size == 0 and said.gate in {"guard", "council", "risk"} for said in rejected)
    assert all(said.reason and said.side in {1, -1} for said in beside.verdicts)
    assert all(said.time - said.signal == 3_600_000 for said in beside.verdicts)
    assert list(beside.verdicts) == sorted(beside.verdicts, key=lambda said: said.time)
    signals = set(own.series.timestamp[own.trades.signal].tolist())
    assert signals <= {said.signal for said in approved}


def test_the_council_changes_the_account_and_never_a_trades_prices() -> None:
    """Where both traded a signal, entry and first stop are the same; no size is above what the verdict allows."""
    own, beside = both()
    alone = beside.alone
    assert 0 < len(own.trades) < len(alone.trades)
    rows = {int(signal): row for row, signal in enumerate(alone.trades.signal)}
    shared = [(row, rows[int(signal)]) for row, signal in enumerate(own.trades.signal) if int(signal) in rows]
    assert len(shared) > 10
    for mine, other in shared:
        for name in ("side", "entry", "entry_price", "stop"):
            assert getattr(own.trades, name)[mine] == getattr(alone.trades, name)[other], name
    sizes = {said.signal: said.size for said in beside.verdicts}
    for row, signal in enumerate(own.trades.signal.tolist()):
        distance = abs(own.trades.entry_price[row] - own.trades.stop[row])
        base = own.equity[signal] * own.params["risk_per_trade"] / distance
        assert own.trades.qty[row] <= sizes[int(own.series.timestamp[signal])] * base * (1 + 1e-9)


def test_it_says_how_far_it_is() -> None:
    """Over both walks together."""
    told: list[int] = []
    with_and_without(asked(market(1200)), market(1200), None, tell=told.append)
    assert told == sorted(told)
    assert (told[-1], len(told)) == (2400, 6)


def test_more_bars_than_anybody_waits_for_are_refused() -> None:
    """With what to ask instead."""
    columns: dict[str, Any] = {name: np.resize(getattr(market(), name), MOST_BARS + 1) for name in COLUMNS}
    long = replace(market(), **columns)
    with pytest.raises(BadInput, match="600,001 bars are too many to replay: at most 600,000, ask for fewer days"):
        with_and_without(asked(long), long, None)


COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")


def test_the_limits_of_the_study_are_those_it_trades_under() -> None:
    """A drawdown that may be no deeper than a hair ends entries for good, and that is told."""
    assert limits_of(asked(market())) == Limits()
    tight = asked(market(), limits={**Limits().as_dict(), "max_drawdown": 0.001})
    own, beside = with_and_without(tight, market(), None)
    effect = effect_of(beside)
    last = max(said.time for said in beside.verdicts if said.approved)
    assert effect.last_entry == last
    assert effect.shut.startswith("drawdown is")
    assert effect.guarded >= MANY
    assert len(own.trades) < 5
    shut = replace(report(), result=own, beside=beside, study=tight)
    said = beside_lines(shut)[-1]
    assert said.startswith("no entry since 20")
    assert said.endswith(effect.shut)
    sheet = openpyxl.load_workbook(io.BytesIO(write_workbook(shut)))["Council"]
    assert f"N{said[1:]}" in {row[0] for row in sheet.iter_rows(values_only=True)}
    never = effect_of(replace(beside, verdicts=tuple(each._replace(approved=False) for each in beside.verdicts)))
    assert shut_lines(never) == [f"no entry at all: {effect.shut}"]


def test_what_became_of_the_candidates_is_counted() -> None:
    """Each of them once."""
    own, beside = both()
    effect = effect_of(beside)
    assert effect.candidates == len(beside.verdicts) == effect.guarded + effect.vetoed + own.gates.placed
    assert 0 < effect.shrunk <= own.gates.placed
    assert effect.metrics == beside.alone.metrics
    assert (effect.last_entry, effect.shut) == (None, "")


def test_what_the_council_is_told_is_what_the_strategy_trades_by() -> None:
    """Its own averages and knife; the base rate of its kind."""
    told = values("ema_trend", {"ema_period": 50, "knife_lookback": 5, "knife_atr": 2.0})
    trend = PacketTerms.of(strategy_of("ema_trend", told), told, timedelta(hours=4))
    assert trend == PacketTerms(trend_period=50, knife_lookback=5, knife_atr=2.0, base_rate=0.32)
    quick = [PacketTerms.of(strategy_of("ema_trend", told), told, timedelta(minutes=m)).base_rate for m in (3, 20, 720)]
    assert quick == [0.20, 0.22, 0.32]
    reversion = PacketTerms.of(strategy_of("mean_reversion", values("mean_reversion", {})), {}, timedelta(hours=4))
    assert (reversion.base_rate, reversion.horizon_bars, reversion.trend_period) == (0.53, 6, 200)


def test_the_market_has_the_steps_of_the_values() -> None:
    """As exact decimals."""
    made = instrument("BTCUSDT", {"tick_size": 0.1, "qty_step": 0.001, "min_qty": 0.001, "min_notional": 5.0})
    assert (made.tick_size, made.qty_step, made.min_notional) == (Decimal("0.1"), Decimal("0.001"), Decimal(5))


# The study


def test_a_study_with_a_council_is_judged_by_what_it_traded(tmp_path: Path) -> None:
    """By the same rules as any other, and vectorbt agrees with its books."""
    file = CandleFile(path=Path("made up"), series=market(), sha256="7c02" * 16)
    told: list[Progress] = []
    done = do(asked(market()), file, None, made_up=True, trials=1, tell=told.append, folder=tmp_path, jobs=1)
    own, beside = both()
    assert done.beside is not None
    assert done.result.metrics == own.metrics
    assert done.beside.verdicts == beside.verdicts
    assert done.verdict == judge(done.result, done.evidence)
    assert (done.evidence.second_opinion, done.evidence.look_ahead, done.evidence.warm_up) == (None, None, None)
    assert [each for each in done.notes if "rules council" in each]
    walked = [each for each in told if each.stage == "replay with and without the council"]
    assert (walked[0].done, walked[-1].done, walked[-1].total) == (0, 2 * BARS, 2 * BARS)
    assert walked[-2].remaining is not None
    small = finding(done)
    assert small.effect == effect_of(beside)
    assert (small.metrics, small.study) == (own.metrics, done.study)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"council": "strict"}, "council=strict is not known: one of off, rules"),
        ({"kind": "optimize", "grid": (("adx_min", (10.0, 20.0)),)}, "a search has no council"),
        ({"kind": "walkforward", "folds": 3}, "a search has no council"),
    ],
)
def test_what_cannot_have_a_council_is_refused_before_anything_is_done(changes: dict[str, Any], refusal: str) -> None:
    """In one line."""
    study = replace(asked(market()), **changes)
    with pytest.raises(BadInput, match=refusal) as refused:
        check_council(study)
    assert "\n" not in str(refused.value)
    file = CandleFile(path=Path("made up"), series=market(), sha256="")
    with pytest.raises(BadInput, match=refusal):
        do(study, file, None, made_up=True, trials=1, tell=lambda _: None, folder=Path(), jobs=1)


def test_a_council_and_its_limits_are_parameters() -> None:
    """Of another fingerprint; one that is off leaves it as it was."""
    off = asked(market(), council="off")
    prints = {params_fingerprint(each) for each in (off, asked(market()), asked(market(), limits={"max_positions": 1}))}
    assert len(prints) == 3
    assert params_fingerprint(replace(off, limits={"max_positions": 1})) == params_fingerprint(off)


def test_a_run_is_stored_with_its_council_and_old_runs_can_still_be_read() -> None:
    """They had none."""
    small = finding(report())
    assert decode(encode(small)) == small
    raw = json.loads(encode(replace(small, study=replace(small.study, council="off"), effect=None)))
    for name in ("council", "limits"):
        del raw["study"][name]
    del raw["effect"]
    old = decode(json.dumps(raw))
    assert (old.study.council, dict(old.study.limits), old.effect) == ("off", {}, None)


# What is shown


def test_a_terminal_gets_both_results_in_words() -> None:
    """And nothing where there was no council."""
    own, beside = both()
    with_it, without, fates = beside_lines(report())
    assert with_it.startswith(f"with the rules council: net {own.metrics['total_return']:+.2%}, drawdown ")
    assert without.endswith(f"{len(beside.alone.trades):,} trades")
    assert fates.startswith(f"candidates: {len(beside.verdicts):,}; {effect_of(beside).vetoed:,} vetoed, ")
    assert beside_lines(replace(report(), beside=None)) == []


def test_the_chart_shows_both_curves_and_names_them() -> None:
    """And buying and holding; the figures stand below each other."""
    drawn = figure(chart(report()), "dark")
    check_layout(drawn)
    written = words(drawn)
    assert {"Rules council", "Without council", "Buy and hold"} <= set(written)
    assert "rules council" in title_of(report())
    own, beside = both()
    nets = [f"{each.metrics['total_return']:+.1%}" for each in (own, beside.alone)]
    assert [value for name, value in facts_of(report()) if name.endswith("net")] == nets
    assert {*nets, "Without: max DD", f"{len(own.trades):,}", f"{len(beside.alone.trades):,}"} <= set(written)
    image = opened(draw(chart(report()), "light"))
    assert (image.width, image.height <= 1280) == (1080, True)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_curves_with_others_beside_them_lie_over_nothing(scale: float) -> None:
    """Also where they are far apart, and without buying and holding."""
    days = np.arange(400)
    curve = 10_000.0 * np.exp(days / 4000)
    picture = EquityPicture(
        title="LOSES: a curve",
        time=1_600_000_000_000 + days * 86_400_000,
        equity=curve,
        start=10_000.0,
        beside=np.linspace(10_000.0, 10_000.0 * scale, len(days)),
        names=("Rules council", "Without council"),
    )
    for each in (picture, replace(picture, hold=curve[::-1].copy())):
        drawn = figure(each, "dark")
        check_layout(drawn)
        assert "Without council" in words(drawn)
        assert bool({"log scale", "log"} & set(words(drawn))) == (scale > 5)


def test_thinning_keeps_the_extremes_of_the_curve_beside() -> None:
    """A curve that is not finite is left out, as buying and holding is."""
    picture = equity_picture(report())
    long = 60_000
    whole = replace(
        picture,
        time=np.arange(long, dtype=np.int64) * 60_000,
        equity=np.linspace(1e4, 2e4, long),
        hold=np.linspace(1e4, 3e4, long),
        beside=1e4 + np.where(np.arange(long) == 777, -5000.0, np.arange(long) / 9),
    )
    kept = thinned(whole)
    assert isinstance(kept, EquityPicture)
    assert kept.beside is not None
    assert len(kept.beside) == len(kept.equity) == len(kept.time) < 12_000
    assert whole.beside is not None
    assert kept.beside.min() == whole.beside.min()
    broken = thinned(replace(whole, beside=np.where(np.arange(long) == 5, np.nan, 1e4)))
    assert isinstance(broken, EquityPicture)
    assert broken.beside is None
    assert broken.hold is not None


@cache
def book() -> Any:
    """The workbook, read back."""
    return openpyxl.load_workbook(io.BytesIO(write_workbook(report())))


def test_the_workbook_has_both_columns_and_every_verdict() -> None:
    """In sheets of their own, and on the front page."""
    own, beside = both()
    assert book().sheetnames[6:8] == ["Council", "Verdicts"]
    sheet = book()["Council"]
    header = [sheet.cell(5, at).value for at in range(1, 5)]
    assert header == ["Key figures", "With the council", "Without", "Difference"]
    rows = {sheet.cell(row, 1).value: [sheet.cell(row, at).value for at in (2, 3, 4)] for row in range(6, 19)}
    nets = own.metrics["total_return"], beside.alone.metrics["total_return"]
    assert None not in nets
    assert rows["Total return"][:2] == [pytest.approx(each) for each in nets]
    assert rows["Trades"] == [len(own.trades), len(beside.alone.trades), len(own.trades) - len(beside.alone.trades)]
    front = book()["Summary"]
    top = next(row for row in range(1, 30) if front.cell(row, 1).value == "Key figures")
    assert front.cell(top, 4).value == "Without council"
    assert front.cell(top + 2, 4).value == pytest.approx(nets[1])
    listed = list(book()["Verdicts"].iter_rows(min_row=2, values_only=True))
    assert len(listed) == len(beside.verdicts)
    for row, said in zip(listed, beside.verdicts, strict=True):
        at = row[0].replace(tzinfo=UTC)
        assert abs(at - datetime.fromtimestamp(said.time / 1000, UTC)) < timedelta(seconds=1)
        side, word = "long" if said.side > 0 else "short", "APPROVED" if said.approved else "REJECTED"
        assert row[1:4] == (side, word, said.size)
        assert row[5] == said.reason


def test_the_most_frequent_reasons_are_counted_without_their_figures() -> None:
    """The first clause tells who and why."""
    said = Ruled(time=1, signal=0, side=1, approved=False, size=0.0, gate="guard", reason="drawdown is 20.1%")
    assert reason_of(said) == "drawdown is …"
    assert reason_of(said._replace(reason="No: -1.30 ATR, 4 losses; and more")) == "No: … ATR, … losses"
    column = [book()["Council"].cell(row, 2).value for row in range(1, book()["Council"].max_row + 1)]
    top = column.index("Candidates") + 1
    counts = [each for each in column[top:] if each is not None]
    assert counts == sorted(counts, reverse=True)
    rejected = sum(not each.approved for each in both()[1].verdicts)
    assert 0 < sum(counts) <= rejected


def test_every_signal_of_a_council_is_accounted_for() -> None:
    """Edges are knives, limits, vetoes, what could not be sized, and what was placed; the limits stand with them."""
    sheet = book()["Assumptions"]
    found = {sheet.cell(row, 1).value: sheet.cell(row, 2).value for row in range(1, sheet.max_row + 1)}
    parts = ("knives", "limits", "vetoed", "skipped", "placed")
    assert found["edges"] == sum(found[each] for each in parts)
    assert found["losing_streak"] == Limits().losing_streak


def test_a_council_without_a_single_candidate_is_shown_all_the_same() -> None:
    """Nothing is divided by nothing."""
    study = asked(market(400), values=values("ema_trend", {"adx_min": 99.0}))
    own, beside = with_and_without(study, market(400), None)
    assert beside.verdicts == ()
    empty = replace(samples.report(own, beside=beside), study=study)
    check_layout(figure(chart(empty), "light"))
    found = openpyxl.load_workbook(io.BytesIO(write_workbook(empty)))
    assert found["Verdicts"]["A2"].value == "There was no candidate."
    assert dataclasses.asdict(effect_of(beside))["candidates"] == 0
