"""What the councils cost and what they do: time per verdict, shares of the answers, R approved and vetoed.

On recorded candidates where CONCLAVE_TEST_DATA names them, on made-up ones otherwise. The R figures follow every
filled candidate on its own by `spec/strategy.md` after fees; candidates of one trend overlap, so their number
says less than it seems to, and a difference within two standard errors says nothing. The council of models is asked
through the stand-in, a process beside this one that answers at once: what is measured is what we add to a model.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

from bot.settings import read_config
from research.candidates import Candidate, Track, candidates
from storage.database import open_database
from storage.model_state import SqlKeys, SqlSpending
from tests.benchmarks import Figure, benchmark
from tests.research.hearings import judge
from tests.stand_ins.rehearsal import KEYS, rehearsal
from tests.structure import ROOT
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
from trading.council.models import ModelCouncil, Seats
from trading.council.prompting import load_prompts
from trading.council.questions import Panel
from trading.council.rules import RulesCouncil
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin
from trading.exchange.bybit.clock import HeardClock
from trading.hearing import Minutes
from trading.llm.budget import Caps
from trading.llm.caller import Patience
from trading.llm.cassette import Cassette, Recorder
from trading.llm.keys import keys_of
from trading.llm.models import Memory, Models
from trading.model import CandleSeries
from trading.ports import Brief
from trading.strategy import evaluate

EACH = 400  # candidates of one series
ASKED = 200  # of them before the models
CONFIG = read_config(ROOT / "config.json")


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


@benchmark
def models() -> Iterator[Figure]:
    """Decisions through the stand-in, and the same ones from their cassette."""
    name, series = next(markets())
    signals = evaluate(STRATEGY, series)
    briefs = [brief_at(series, signals, row) for row in edges(series, signals, ASKED)]
    with tempfile.TemporaryDirectory() as folder, rehearsal(Path(folder)) as server:
        asked, said = asyncio.run(_asked(briefs, server.url, Path(folder)))
    for label, value in (("p50", statistics.median(asked)), ("p99", statistics.quantiles(asked, n=100)[98])):
        note = f"{len(asked)} strict decisions of three models that answer at once, {name}"
        yield Figure(name=f"council, decision {label}", value=value * 1000, unit="ms", note=note)
    yield Figure(name="council, from a cassette", value=len(said) / sum(said), unit="decisions/s", note=name)


async def _asked(briefs: Sequence[Brief], url: str, folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of every decision: with models, recorded, and from the cassette."""
    async with contextlib.AsyncExitStack() as stack:
        database = await open_database(folder / "conclave.db")
        stack.push_async_callback(database.close)
        panel = Models(
            keys_of([KEYS["HF_TOKEN"]], [KEYS["GEMINI_API_KEY"]], []),
            caps=Caps(daily_usd=Decimal(1000), daily_tokens=10**9),
            patience=Patience(),
            memory=Memory(keys=SqlKeys(database), spending=SqlSpending(database)),
            urls={"huggingface": url, "gemini": url},
            clock=HeardClock(),
            wall=lambda: datetime.now(UTC),
            rng=random.Random(1),
        )
        stack.push_async_callback(panel.close)
        await panel.open()
        recorder = Recorder(panel, folder / "tape.jsonl")
        await _decided(briefs[:3], recorder)  # imports of the SDKs and connections
        asked = await _decided(briefs, recorder)
        recorder.close()
        return asked, await _decided(briefs, Cassette(folder / "tape.jsonl"))


async def _decided(briefs: Sequence[Brief], panel: Panel) -> list[float]:
    """Seconds of each decision, one after the other."""
    seats = Seats(
        panel=panel,
        models=CONFIG.council.agents,
        prompts=load_prompts(),
        terms=TERMS,
        monotonic=time.monotonic,
    )
    council, taken = ModelCouncil("strict", seats), []
    for brief in briefs:
        started = time.perf_counter()
        ruling = await council.deliberate(brief, Minutes())
        taken.append(time.perf_counter() - started)
        if ruling.failed:
            raise RuntimeError(f"a model failed, which is not what is measured: {ruling.failed}")
    return taken


@benchmark
def candidates_of_files() -> Iterator[Figure]:
    """What `council eval` does with candle files: make every candidate, follow it to its end, ask the rules."""
    name, series = next(markets())
    track = Track(
        series=series,
        strategy=STRATEGY,
        rules=CONFIG.rules,
        terms=CONFIG.terms,
        instrument=CONFIG.instruments[series.symbol],
    )
    started = time.perf_counter()
    made: list[Candidate] = list(candidates([track]))
    half = time.perf_counter()
    rows = asyncio.run(judge(made, RulesCouncil(TERMS)))
    done = time.perf_counter()
    note = f"{len(rows):,} candidates in {len(series):,} bars, {name}"
    yield Figure(name="council eval, made and followed", value=len(made) / (half - started), unit="/s", note=note)
    yield Figure(name="council eval, judged by the rules", value=len(rows) / (done - half), unit="/s", note=note)
    yield Figure(name="council eval, both", value=len(rows) / (done - started), unit="/s", note=note)
