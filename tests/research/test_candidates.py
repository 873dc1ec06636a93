"""The candidates of candle files: all of them, in the order of time, as the cycle would put them, with their ends."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.backtest import backtest, strategy_of, trade_rows
from research.candidates import Candidate, Estimator, Hearing, Track, candidates
from research.candles import load_candles
from research.sources import resampled
from tests.parity.laboratory import candle_series, values_of
from tests.parity.series import KINDS, random_params
from tests.parity.test_shadow_parity import terms_of
from tests.research.hearings import judge
from tests.trading.council.test_models import MODELS, well
from tests.trading.rig import random_series
from trading import events as ev  # pytest takes any name that begins with Test for a test
from trading.council.guards import knife_objection
from trading.council.models import ModelCouncil, Seats
from trading.council.packet import WINDOW, PacketTerms
from trading.council.prompting import load_prompts
from trading.council.questions import Outcome, Panel, Question
from trading.council.rules import NoCouncil, RulesCouncil
from trading.council.schemas import Status
from trading.errors import BadInput
from trading.events import AgentAnswer, ModelCall, Opinion
from trading.exchange.simulated.instruments import KNOWN
from trading.grades import Ballot, Judged
from trading.llm.cassette import Cassette, Recorder
from trading.model import CandleSeries, Side, millis
from trading.parameters import AccountTerms, TradeRules
from trading.ports import Brief, Deliberation, Witness
from trading.signals import WholeSeries
from trading.strategy import evaluate
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters

QUICK = EmaTrend(EmaTrendParameters(ema_period=10, adx_min=0.0, sl_atr_multiplier=1.5))
BEFORE = 650  # bars that give a council its whole window
HOURLY = ("BTCUSDT-1h-20190908-20260517.parquet", "ETHUSDT-1h-20191127-20260517.parquet")


def track(seed: int = 1, *, symbol: str = "BTCUSDT", bars: int = 900, hours: int = 4) -> Track:
    """A random walk under quick periods."""
    interval = timedelta(hours=hours)
    series = random_series(np.random.default_rng(seed), bars, symbol=symbol, interval=interval)
    return Track(series=series, strategy=QUICK, rules=TradeRules(), terms=AccountTerms(), instrument=KNOWN[symbol])


def late(one: Track) -> list[Candidate]:
    """The candidates with a whole window before them."""
    return [each for each in candidates([one]) if len(each.brief.window) == WINDOW]


# Which, and in what order


KNIVES = EmaTrend(
    EmaTrendParameters(
        ema_period=40, adx_min=0.0, bb_period=5, bb_std=1.0, knife_lookback=1, knife_atr=0.2, volume_ma_period=2
    )
)
LATCHED = EmaTrend(
    EmaTrendParameters(ema_period=5, adx_min=0.0, bb_period=20, bb_std=0.5, knife_atr=0.1, volume_ma_period=2)
)


def test_every_edge_is_a_candidate() -> None:
    """Also while another one is open, and on knife bars."""
    one = replace(track(), strategy=KNIVES)
    found, signals = list(candidates([one])), evaluate(one.strategy, one.series)
    rows = np.flatnonzero(signals.side)
    assert [millis(each.brief.proposal.signal_time) for each in found] == one.series.timestamp[rows].tolist()
    assert [each.brief.proposal.side.sign for each in found] == signals.side[rows].tolist()
    hazard = np.where(signals.side > 0, signals.hazard_long, signals.hazard_short)[rows]
    assert {True, False} == set(hazard.tolist())
    assert all(each.knife for each, is_one in zip(found, hazard.tolist(), strict=True) if is_one)


@pytest.mark.parametrize("strategy", [KNIVES, LATCHED])
def test_a_knife_is_what_the_first_guard_rejects(strategy: EmaTrend) -> None:
    """On its bar, and from then on until a bar is calm again: as the trader reads it, bar by bar."""
    one, found = replace(track(), strategy=strategy), Counter[tuple[bool, bool]]()
    source = WholeSeries(strategy, [one.series])
    said = {each.brief.proposal.signal_time: each for each in candidates([one])}
    for candle in one.series.candles():
        reading = source.read(candle)
        if candle.open_time in said:
            side = said[candle.open_time].brief.proposal.side
            objection = knife_objection(side, hazard=reading.hazard(side), latched=reading.latched(side))
            assert said[candle.open_time].knife is (objection is not None)
            found[reading.hazard(side), reading.latched(side)] += 1
    assert found[False, False] > 5
    assert found[True, True] > 5 if strategy is KNIVES else found[False, True] > 5


def test_files_meet_in_the_order_of_their_closes() -> None:
    """Two symbols and two bar lengths; at one close the order of the files decides."""
    tracks = [track(1), track(2, symbol="ETHUSDT"), track(3, hours=1)]
    found = list(candidates(tracks))
    assert [each.number for each in found] == list(range(1, len(found) + 1))
    assert [each.at for each in found] == sorted(each.at for each in found)
    assert Counter(each.brief.proposal.symbol for each in found).keys() == {"BTCUSDT", "ETHUSDT"}
    alone = [sum(1 for _ in candidates([one])) for one in tracks]
    assert len(found) == sum(alone)


def test_candidates_are_made_when_they_are_asked_for() -> None:
    """The first three of a long file are had in a moment, and their windows are views that nobody can write to."""
    one = track(bars=50_000)
    first = list(islice(candidates([one]), 3))
    assert [each.number for each in first] == [1, 2, 3]
    for each in first:
        assert np.shares_memory(each.brief.window.close, one.series.close)
        assert not each.brief.window.close.flags.writeable


def test_a_brief_is_what_the_cycle_would_put() -> None:
    """The window ends at the signal's bar, the account is flat and healthy, distances are in price."""
    one = track()
    for each in late(one):
        window, proposal, account = each.brief.window, each.brief.proposal, each.brief.account
        assert (window.symbol, int(window.timestamp[-1])) == (proposal.symbol, millis(proposal.signal_time))
        assert proposal.close == window.close[-1]
        assert (proposal.entry - proposal.stop) * proposal.side.sign > 0
        assert account.equity == account.initial_equity == Decimal("10000.0")
        assert (account.spread, account.slippage) == (0.1, 0.0002 * proposal.close)
        assert (account.open_positions, account.drawdown, account.data_age_bars) == (0, 0.0, 0.0)


# What became of them


@pytest.mark.parametrize("strategy", ["ema_trend", "mean_reversion"])
def test_the_kernels_trades_are_ends_of_candidates(strategy: str) -> None:
    """Each trade of a backtest is what became of the candidate of its signal."""
    compared = Counter[str]()
    for kind, make in KINDS.items():
        for number in range(3):
            rng = np.random.default_rng([number, *kind.encode()])
            series = make(rng)
            params = random_params(rng, series.price) | ({"adx_max": 101.0} if strategy == "mean_reversion" else {})
            values = values_of(params, strategy)
            compared += agreed(candle_series(series.bars, series.interval_ms), strategy, values)
    sys.stdout.write(f"compared {strategy}: {compared.total()} trades {dict(compared)}\n")
    assert compared.total() > 500


def agreed(series: CandleSeries, strategy: str, values: Mapping[str, Any]) -> Counter[str]:
    """The trades of a backtest by how they ended; each is compared with its candidate."""
    rules, terms, instrument = terms_of(values)
    chosen = strategy_of(strategy, values)
    one = Track(series=series, strategy=chosen, rules=rules, terms=terms, instrument=instrument)
    ends = {millis(each.brief.proposal.signal_time): each.outcome for each in candidates([one])}
    trades = trade_rows(backtest(series, strategy, values))
    for trade in trades:
        end = ends[trade["signal_time"]]
        assert end is not None
        assert end.entry_time is not None
        assert end.exit_time is not None
        times = (millis(end.entry_time), millis(end.exit_time))
        assert (end.side, end.ended, *times) == tuple(
            trade[name] for name in ("side", "exit_reason", "entry_time", "exit_time")
        )
        assert (end.r, end.exit_price) == pytest.approx((trade["r"], trade["exit_price"]), rel=1e-9, abs=1e-9)
    return Counter(trade["exit_reason"] for trade in trades)


def test_an_end_needs_its_own_bar_and_nothing_after_it() -> None:
    """Cut off before the bar in which it ends a candidate has no outcome, cut off after it the same one."""
    one = replace(track(), rules=TradeRules(entry_offset=0.004, entry_ttl_bars=2))
    ended = [each for each in late(one) if each.outcome][:20]
    assert {"unfilled", "stop", "signal"} <= {each.outcome.ended for each in ended if each.outcome}
    for each in ended:
        assert each.outcome is not None
        row = int(np.searchsorted(one.series.timestamp, millis(each.outcome.at)))  # the bar after its last one
        for stop, outcome in ((row - 1, None), (row, each.outcome)):
            cut = candidates([replace(one, series=one.series.between(0, stop))])
            assert next(islice(cut, each.number - 1, None)).outcome == outcome


# Asking a council


class Wordy:
    """A `Council` of one model that is asked twice, and a second opinion."""

    mode = "strict"
    debates = True

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Half size to longs; the Quant votes LONG whatever is proposed, the Strategist has nothing to say."""
        quant = AgentAnswer(agent="quant", status="OK", vote="LONG", p_win=0.6, text="up")
        mute = AgentAnswer(agent="strategist", status="TIMEOUT", vote="", p_win=None, text="no answer")
        witness.heard(spoken(quant, call(300, "0.001"), call(200, "0.002")))
        witness.heard(spoken(mute))
        taken = brief.proposal.side is Side.LONG
        return Deliberation(
            approved=taken,
            size_multiplier=0.5 if taken else 0.0,
            reasons=(),
            answers=(quant, mute),
            opinions=(Opinion(council="rules", approved=True, size_modifier=0.25),),
        )


def call(latency: int, cost: str) -> ModelCall:
    """A request that was answered."""
    return ModelCall(
        attempt=1,
        repair=False,
        status="OK",
        code=200,
        finish="stop",
        raw="{}",
        problem="",
        latency_ms=latency,
        bytes_in=10,
        bytes_out=2,
        tokens_in=5,
        tokens_out=1,
        cost_usd=Decimal(cost),
        key="abcd",
    )


def spoken(answer: AgentAnswer, *calls: ModelCall) -> ev.Testimony:
    """What is kept of an agent's answer."""
    return ev.Testimony(
        answer=answer,
        provider="p",
        model="m",
        prompt="quant/v001",
        prompt_hash="",
        schema_hash="",
        packet="{}",
        calls=calls,
    )


async def test_a_judged_candidate_carries_votes_costs_and_other_weights() -> None:
    """Stances are from the proposed side; seconds and cost are of all calls; whoever was not called has neither."""
    found = late(track())
    rows = await judge(found, Wordy(), others={"off": NoCouncil()})
    for each, row in zip(found, rows, strict=True):
        sign = each.brief.proposal.side.sign
        outcome = each.outcome
        assert row == Judged(
            verdict_id=each.number,
            at=millis(each.at),
            symbol="BTCUSDT",
            side=each.brief.proposal.side.value,
            council="strict",
            weight=0.5 if sign > 0 else 0.0,
            r=outcome.r if outcome else None,
            ended=outcome is not None,
            ballots=(
                Ballot(agent="quant", status="OK", stance=sign, p_win=0.6, seconds=0.5, cost_usd=0.003),
                Ballot(agent="strategist", status="TIMEOUT", stance=0, p_win=None),
            ),
            others={"rules": 0.25, "off": 1.0},
        )


async def test_nobody_is_asked_about_a_knife() -> None:
    """Such a candidate has no row, so that no arm takes it; how many there were is known."""
    one = replace(track(bars=2000), strategy=KNIVES)
    found, hearing = late(one), Hearing(RulesCouncil())
    for each in found:
        assert await hearing.hear(each)
    barred = [each.number for each in found if each.knife]
    assert hearing.barred == len(barred) > 0
    assert [row.verdict_id for row in hearing.rows] == [each.number for each in found if not each.knife]
    assert hearing.rows == await judge(found, RulesCouncil())


def asking(panel: Panel, mode: str = "strict") -> ModelCouncil:
    """A council of models before this panel."""
    return ModelCouncil(
        mode, Seats(panel=panel, models=MODELS, prompts=load_prompts(), terms=PacketTerms(), monotonic=time.monotonic)
    )


@dataclass
class Purse:
    """A panel of models with money for so many questions."""

    left: int
    asked: int = 0

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """As the twins, until nothing is left."""
        if self.asked == self.left:
            return Outcome(status=Status.SKIPPED_BUDGET, problem="today's budget has ended")
        self.asked += 1
        return well(question)


@pytest.mark.parametrize("mode", ["strict", "degraded"])
@pytest.mark.parametrize("part", [0, 1, 2])
async def test_nobody_is_vetoed_by_an_empty_purse(mode: str, part: int) -> None:
    """It ends at the first candidate that was not heard to its end; those before it have their rows."""
    found, purse = late(track(bars=1500)), Purse(left=12 + part)
    council, whole = asking(purse, mode), asking(Purse(left=1000), mode)
    hearing = Hearing(council)
    went = [await hearing.hear(each) for each in found[:5]]
    assert went == [True] * 4 + [False]
    assert hearing.spent == "today's budget has ended"
    assert hearing.rows == await judge(found[:4], whole)
    assert await judge(found, asking(Purse(left=12 + part), mode)) == hearing.rows


async def test_a_recording_ends_a_hearing_where_it_ends(tmp_path: Path) -> None:
    """What it does not know is no veto: whoever plays it decides whether that is an end or an error."""
    found, path = late(track(bars=1500)), tmp_path / "tape.jsonl"
    with contextlib.closing(Recorder(Purse(left=1000), path)) as recorder:
        rows = await judge(found[:3], asking(recorder))
    hearing = Hearing(asking(Cassette(path)))
    assert [await hearing.hear(each) for each in found[:4]] == [True] * 3 + [False]
    assert hearing.rows == rows
    assert hearing.missed is not None
    with pytest.raises(BadInput, match="has no answer of the"):
        await judge(found, asking(Cassette(path)))


async def test_what_a_hearing_will_cost(tmp_path: Path) -> None:
    """Every question is counted and none is asked; what is on a tape costs nothing any more."""
    found, path = late(track(bars=1500)), tmp_path / "tape.jsonl"
    estimator, purse = Estimator(), Purse(left=100_000)
    await judge(found, asking(estimator))
    await judge(found, asking(purse))
    assert estimator.questions == purse.asked == 3 * len(found) > 30
    assert estimator.usd == estimator.tokens / Decimal(1_000_000)  # both prices are 1 USD a million
    assert 500 < estimator.tokens / estimator.questions < 2500
    with contextlib.closing(Recorder(purse, path)) as recorder:
        await judge(found[:-2], asking(recorder))
    rest = Estimator(Cassette(path))
    await judge(found, asking(rest))
    assert rest.questions == 6
    assert 0 < rest.tokens < estimator.tokens


class Overheard:
    """A `Council` in whose shadow the models conclude at once."""

    mode = "shadow"
    debates = False

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Full size; the models would have rejected it."""
        quant = AgentAnswer(agent="quant", status="OK", vote="LONG", p_win=0.6, text="up")
        witness.heard(spoken(replace(quant, status="TIMEOUT", vote="", p_win=None), call(300, "0.001")))
        witness.concluded("strict", Deliberation(approved=False, size_multiplier=0.0, reasons=("no",)))
        return Deliberation(approved=True, size_multiplier=1.0, reasons=(), answers=(quant,))


async def test_what_the_models_conclude_in_the_shadow_is_another_weight() -> None:
    """Under the name of their council."""
    rows = await judge(late(track()), Overheard())
    assert {(row.weight, row.others["strict"]) for row in rows} == {(1.0, 0.0)}


async def test_the_rules_votes_in_a_shadow_are_free() -> None:
    """The seconds and the price of the models that were heard beside them are not theirs."""
    rows = await judge(late(track()), Overheard())
    ballots = {(said.status, said.p_win, said.seconds, said.cost_usd) for row in rows for said in row.ballots}
    assert ballots == {("OK", 0.6, None, 0.0)}


async def test_the_rules_council_tells_them_apart() -> None:
    """Twins vote for, against and neither; a window too short is a rejection with agents that abstain."""
    found = list(candidates([track(bars=3000)]))
    rows = await judge(found, RulesCouncil())
    whole = [row for each, row in zip(found, rows, strict=True) if len(each.brief.window) == WINDOW]
    assert {ballot.stance for row in whole for ballot in row.ballots} == {-1, 0, 1}
    assert len({row.weight for row in whole}) > 2
    assert all(row.weight == 0 for row in rows if row.ballots[0].status == "ABSTAIN")


# Recorded series


@pytest.fixture
def recorded(test_data: Path) -> list[Track]:
    """Both symbols at 240 minutes under the defaults."""
    tracks = []
    for name in HOURLY:
        series = resampled(load_candles(test_data / "binance-perp" / name, known_symbols=KNOWN).series, 240)
        default = EmaTrend(EmaTrendParameters())
        rules, terms = TradeRules(), AccountTerms()
        tracks.append(
            Track(series=series, strategy=default, rules=rules, terms=terms, instrument=KNOWN[series.symbol])
        )
    return tracks


async def test_the_recorded_years_hold_thousands_of_candidates(recorded: list[Track]) -> None:
    """Both symbols at four hours: over a thousand each, judged by the rules in seconds."""
    began = time.perf_counter()
    found = list(candidates(recorded))
    followed = time.perf_counter()
    rows = await judge(found, RulesCouncil())
    ended = time.perf_counter()
    symbols = Counter(each.brief.proposal.symbol for each in found)
    hows = Counter(each.outcome.ended if each.outcome else "open" for each in found)
    sys.stdout.write(f"candidates {dict(symbols)} {dict(hows)}, knives {sum(each.knife for each in found)}\n")
    sys.stdout.write(f"followed in {followed - began:.1f} s, judged in {ended - followed:.1f} s\n")
    assert min(symbols[symbol] for symbol in ("BTCUSDT", "ETHUSDT")) > 1_000
    assert len({row.weight for row in rows}) > 2
