"""What the rules council costs and what it does: time per verdict, shares of its answers, R approved and vetoed.

On recorded candidates where CONCLAVE_TEST_DATA names them, on made-up ones otherwise. The R figures follow every
filled candidate on its own by `spec/strategy.md` after fees; candidates of one trend overlap, so their number
says less than it seems to, and a difference within two standard errors says nothing.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks import Figure, benchmark
from tests.trading.council.candidates import (
    STRATEGY,
    TERMS,
    Session,
    brief_at,
    edges,
    outcome,
    recorded,
    session,
    synthetic,
)
from trading.council import packet
from trading.council.rules import RulesCouncil
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin
from trading.model import CandleSeries
from trading.ports import Brief
from trading.strategy import evaluate

EACH = 400  # candidates of one series


def markets() -> Iterator[tuple[str, CandleSeries]]:
    """Recorded series, or one made-up series."""
    data = os.environ.get("CONCLAVE_TEST_DATA", "")
    if data and Path(data).is_dir():
        yield from recorded(Path(data))
    else:
        yield "synthetic", synthetic()


def microseconds(calls: list[Callable[[], object]]) -> float:
    """The median over the calls, each timed alone."""
    taken = []
    for call in calls:
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e6


def packets(brief: Brief, held: Session) -> object:
    """All three packets of a brief, given both answers."""
    market = packet.read_market(brief.window)
    return (
        packet.quant_packet(brief, market, TERMS),
        packet.strategist_packet(brief, market, TERMS),
        packet.risk_packet(brief, market, TERMS, held.quant, held.strategist),
    )


@benchmark
def timings() -> Iterator[Figure]:
    """One verdict, and where its time goes."""
    name, series = next(markets())
    signals = evaluate(STRATEGY, series)
    briefs = [brief_at(series, signals, row) for row in edges(series, signals, EACH)]
    held = [session(brief) for brief in briefs]
    note = f"{len(briefs)} candidates, {name}"
    council = RulesCouncil()
    timed: dict[str, list[Callable[[], object]]] = {
        "council, whole verdict": [partial(council.verdict, brief) for brief in briefs],
        "council, three packets": [partial(packets, brief, one) for brief, one in zip(briefs, held, strict=True)],
        "council, quant twin": [partial(QuantTwin().answer, one.quant_packet) for one in held],
        "council, strategist twin": [partial(StrategistTwin().answer, one.strategist_packet) for one in held],
        "council, risk manager twin": [partial(RiskManagerTwin().answer, one.risk_packet) for one in held],
    }
    for label, calls in timed.items():
        yield Figure(name=label, value=microseconds(calls), unit="us", note=note)


@benchmark
def verdicts() -> Iterator[Figure]:
    """How often each answer is given, and what became of approved and vetoed candidates."""
    held: list[Session] = []
    ended: dict[bool, list[float]] = {True: [], False: []}
    for _, series in markets():
        signals = evaluate(STRATEGY, series)
        for row in edges(series, signals, EACH):
            held.append(session(brief_at(series, signals, row)))
            if (gained := outcome(series, signals, row)) is not None:
                ended[held[-1].ruling.approved].append(gained)
    for question, counter in answers(held).items():
        for answer, count in sorted(counter.items()):
            share = 100 * count / len(held)
            yield Figure(name=f"{question} {answer}", value=share, unit="%", note=f"{len(held)} candidates")
    for approved, name in ((True, "approved"), (False, "vetoed")):
        values = ended[approved]
        error = 1000 * statistics.stdev(values) / len(values) ** 0.5
        note = f"standard error {error:.0f}, {len(values)} filled"
        yield Figure(name=f"mean of {name}", value=1000 * statistics.mean(values), unit="R/1000", note=note)


def answers(held: list[Session]) -> dict[str, Counter[str]]:
    """Question to answer to count."""
    found: dict[str, Counter[str]] = {}
    for one in held:
        quant, strategist, risk = (answer.vote for answer in one.ruling.answers)
        structure = str(one.ruling.answers[1].details.get("structure"))
        given = {"quant": quant, "strategist": strategist, "structure": structure, "risk manager": risk}
        for question, answer in given.items():
            found.setdefault(question, Counter())[answer] += 1
    return found
