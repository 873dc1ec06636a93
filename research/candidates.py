"""Every candidate that candle files hold, and what became of it: what a council is graded on.

Each edge of the strategy is a candidate, also one that a running account would have had no room for. It is put as the
cycle would put it on a flat and healthy account, and followed to its end by `trading.shadows`, on its own. One that the
first guard in code rejects (`knife` says so) never becomes an order, whatever a council says: no council is asked about
it, and it is part of no grade.

Candidates are made when they are asked for: a window of bars is a view on its series, so that memory grows with the
bars and not with the candidates.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import numpy as np

from trading.council import MODEL_MODES
from trading.council.ballots import ballot_of
from trading.council.packet import WINDOW
from trading.council.questions import Outcome, Question
from trading.council.schemas import Status
from trading.cycle import propose
from trading.events import AgentAnswer, ShadowEnded, Testimony
from trading.grades import Ballot, Judged
from trading.hearing import Minutes
from trading.llm.cassette import Cassette, Unrecorded
from trading.llm.rehearsal.answers import answer_for
from trading.model import (
    MILLISECOND,
    ZERO,
    AccountFacts,
    BoolArray,
    CandleSeries,
    Instrument,
    Proposal,
    Side,
    exact,
    millis,
)
from trading.parameters import AccountTerms, TradeRules
from trading.ports import Brief, Council, Deliberation
from trading.shadows import Shadow, follow
from trading.strategy import Signals, Strategy, evaluate

AT_ONCE: Final = 64  # bars turned into values together while one candidate is followed
BYTES_A_TOKEN: Final = 4
_VOICES: Final = MODEL_MODES - {"shadow"}  # where the answers of a verdict are the models' own


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One candle file as its candidates see it: the bars, the strategy on them, and the terms of trade."""

    series: CandleSeries
    strategy: Strategy
    rules: TradeRules
    terms: AccountTerms
    instrument: Instrument


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a council is asked, and how it ended; `outcome` is None while it has not, at the end of the bars.

    `number` counts from 1 in the order of time; `knife`: its bar is one on which its side must not be entered, or an
    earlier one was and the breaker has not been released since.
    """

    number: int
    brief: Brief
    knife: bool
    outcome: ShadowEnded | None

    @property
    def at(self) -> datetime:
        """When it is decided on: the close of its bar."""
        return self.brief.proposal.signal_time + self.brief.proposal.interval


def candidates(tracks: Iterable[Track]) -> Iterator[Candidate]:
    """The candidates of all files in the order of their closes; at one close, in the order of the files."""
    merged = heapq.merge(*(_edges(track) for track in tracks), key=lambda edge: edge.at)
    for number, edge in enumerate(merged, 1):
        yield edge.candidate(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edge:
    """A row of a file on which the strategy wants in."""

    track: Track
    signals: Signals
    row: int
    knife: bool

    @property
    def at(self) -> int:
        """The close of its bar, ms UTC: where files of different bar lengths meet."""
        series = self.track.series
        return int(series.timestamp[self.row]) + series.interval // MILLISECOND

    def candidate(self, number: int) -> Candidate:
        track, side = self.track, Side.LONG if self.signals.side[self.row] > 0 else Side.SHORT
        candle, distance = track.series.candle(self.row), float(self.signals.stop_distance[self.row])
        proposal = propose(track.rules, track.instrument, candle, distance, side)
        exits = self.signals.exit_long if side is Side.LONG else self.signals.exit_short
        window = track.series.between(self.row + 1 - WINDOW, self.row + 1).locked()
        return Candidate(
            number=number,
            brief=Brief(window=window, proposal=proposal, account=flat_account(track, proposal.close)),
            knife=self.knife,
            outcome=followed(track, proposal, self.row, exits, number),
        )


def _edges(track: Track) -> Iterator[_Edge]:
    signals = evaluate(track.strategy, track.series)
    measured = (signals.stop_distance > 0) & np.isfinite(signals.stop_distance)  # else there is no order
    long, short = signals.latched(signals.hazard_long), signals.latched(signals.hazard_short)
    barred = np.where(signals.side > 0, long, short)
    for row in np.flatnonzero((signals.side != 0) & measured).tolist():
        yield _Edge(track=track, signals=signals, row=row, knife=bool(barred[row]))


def flat_account(track: Track, close: float) -> AccountFacts:
    """An account that has just been opened, at a close: nothing open, nothing lost, the data fresh."""
    equity = exact(track.terms.initial_equity)
    return AccountFacts(
        equity=equity,
        initial_equity=equity,
        day_r=0.0,
        week_r=0.0,
        drawdown=0.0,
        losing_streak=0,
        bars_since_loss=None,
        open_risk=0.0,
        open_positions=0,
        spread=float(track.instrument.tick_size),
        slippage=track.terms.slippage * close,
        funding_rate=track.terms.funding_rate,
        data_age_bars=0.0,
    )


def followed(track: Track, proposal: Proposal, row: int, exits: BoolArray, number: int) -> ShadowEnded | None:
    """How a proposal made at the close of a row ended; None where the bars end before it does."""
    shadow = Shadow(
        verdict_id=number,
        symbol=proposal.symbol,
        side=proposal.side,
        signal_time=proposal.signal_time,
        interval=proposal.interval,
        entry=proposal.entry,
        stop=proposal.stop,
        take_profit=proposal.take_profit,
        r_distance=proposal.r_distance,
        seen=proposal.signal_time,
        trailed=proposal.stop,
    )
    for later, candle in enumerate(track.series.candles(row + 1, AT_ONCE), row + 1):
        out = bool(exits[later])
        if end := follow(shadow, candle, out, rules=track.rules, terms=track.terms, instrument=track.instrument):
            return end
    return None


# What a council says of them


class Hearing:
    """A council before which candidates come one after the other. What it has said of them stays, however it ends.

    rows: the candidates that were heard. barred: those that the first guard rejects, about which nobody is asked.
    missed: the cassette did not know a candidate. spent: no budget was left for one, in words. `others` are councils by
    the name that their weights get; they are asked about the same candidates.
    """

    def __init__(self, council: Council, others: Mapping[str, Council] | None = None) -> None:
        self.rows: list[Judged] = []
        self.barred = 0
        self.missed: Unrecorded | None = None
        self.spent = ""
        self._council = council
        self._others = dict(others or {})

    async def hear(self, candidate: Candidate) -> bool:
        """Ask about one candidate; False where there was no answer to be had, so that the hearing is over.

        A candidate that was not heard to its end is none that the council vetoed: it gets no row.
        """
        if candidate.knife:
            self.barred += 1
            return True
        minutes, weights = Minutes(), {}
        try:
            ruling = await self._council.deliberate(candidate.brief, minutes)
        except Unrecorded as miss:
            self.missed = miss
            return False
        if unpaid := [said.answer for said in minutes.said if said.answer.status == Status.SKIPPED_BUDGET]:
            self.spent = unpaid[0].text
            return False
        for name, other in self._others.items():
            weights[name] = weight_of(await other.deliberate(candidate.brief, Minutes()))
        self.rows.append(judged(candidate, self._council.mode, ruling, minutes, weights))
        return True


def judged(
    candidate: Candidate, council: str, ruling: Deliberation, minutes: Minutes, others: Mapping[str, float]
) -> Judged:
    """A candidate with what was decided on it and what became of it."""
    proposal, outcome = candidate.brief.proposal, candidate.outcome
    heard = minutes.said if council in _VOICES else ()  # in shadow the answers are the rules', what is heard is not
    told = {said.council: said.size_modifier if said.approved else 0.0 for said in ruling.opinions}
    told |= {name: weight_of(said) for name, said in minutes.opinions}
    return Judged(
        verdict_id=candidate.number,
        at=millis(candidate.at),
        symbol=proposal.symbol,
        side=proposal.side.value,
        council=council,
        weight=weight_of(ruling),
        r=outcome.r if outcome else None,
        ended=outcome is not None,
        ballots=tuple(ballot(answer, proposal.side, heard) for answer in ruling.answers),
        others={**told, **others},
    )


def weight_of(ruling: Deliberation) -> float:
    """The share of the base size that a council allows."""
    return ruling.size_multiplier if ruling.approved else 0.0


def ballot(answer: AgentAnswer, side: Side, heard: Sequence[Testimony]) -> Ballot:
    """An agent's answer as a vote on the trade, with what all calls for it took together."""
    own = [said for said in heard if said.answer.agent == answer.agent]
    calls = [call for said in own for call in said.calls]
    return ballot_of(
        answer,
        side,
        failed=next((said.answer.status for said in own if said.twin), ""),
        seconds=sum(call.latency_ms for call in calls) / 1000 if calls else None,
        cost_usd=float(sum(call.cost_usd for call in calls)),
    )


# What it will cost


class Estimator:
    """A `Panel` that asks nobody: it counts the questions, and what they come to when each is answered at once.

    Answered as the model server of our own would; tokens are reckoned at four bytes each, thinking is not foreseen.
    What is on the tape has been paid for.
    """

    def __init__(self, tape: Cassette | None = None) -> None:
        self.questions = 0
        self.tokens = 0
        self.usd = ZERO
        self._tape = tape

    async def ask(self, question: Question, seconds: float) -> Outcome:
        """See `Panel`; always an answer."""
        if self._tape is not None and self._tape.knows(question):
            return await self._tape.ask(question, seconds)
        text = json.dumps(answer_for(question.agent, question.facts))
        asked = question.prompt.system + question.prompt.filled(question.packet)
        tokens_in, tokens_out = (-(-len(part.encode()) // BYTES_A_TOKEN) for part in (asked, text))
        model = question.model
        self.questions += 1
        self.tokens += tokens_in + tokens_out
        self.usd += (exact(model.price_in) * tokens_in + exact(model.price_out) * tokens_out) / Decimal(1_000_000)
        return Outcome(status=Status.OK, text=text)
