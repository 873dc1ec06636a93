"""A year of candidates before the council of models, and again from the cassette: byte for byte the same.

What is compared is everything the trader writes down (verdicts, agents' answers, orders, trades), the cards that the
chat draws of it, and the object of `replay --json`. Nothing serves a model any more when a cassette is played.
CONCLAVE_FULL_PARITY=1 does it in every mode.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import pandas as pd
import pytest

import main
from bot.cards import Day, Look, draw, step
from bot.settings import read_settings
from research.candles import load_candles
from research.replay import replayed
from research.report import Outcome
from research.sources import resampled
from research.synthetic import synthetic, write_candles
from storage.codec import encode
from tests.faults.markets import LIVELY, words
from tests.journeys.program import Done, Place, in_process
from tests.parity.test_replay_parity import FULL
from tests.stand_ins.rehearsal import Rehearsal, rehearsal
from trading.events import AgentAnswered, CouncilImpaired, Event, OpinionReached, OrderIntended, VerdictReached
from trading.model import CandleSeries

WHOLE: Final = pytest.mark.skipif(not FULL, reason="CONCLAVE_FULL_PARITY=1 runs it")
KNOWN: Final = ("BTCUSDT", "ETHUSDT")
LOOK: Final = Look(badge="REPLAY")
RECORDED: Final = {
    "BTCUSDT": "binance-perp/BTCUSDT-1h-20190908-20260517.parquet",
    "ETHUSDT": "binance-perp/ETHUSDT-1h-20191127-20260517.parquet",
}
YEAR: Final = (1_735_689_600_000, 1_767_225_600_000)  # 2025, ms UTC
SOUND: Final = ("good*3", "think", "fence", "two_objects", "reasoning_content", "prose_around")
BROKEN: Final = ("wrong_enum", "ungrounded", "truncated", "nan", "empty", "safety", "503", "500", "429(1)")


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A replay as everybody saw it: the journal's events as they are stored, and the chat's cards and steps."""

    events: tuple[Event, ...]
    stored: tuple[tuple[str, str], ...]
    cards: tuple[str, ...]
    printed: str

    def of(self, *kinds: type[Event]) -> list[Event]:
        """The events of some kinds, in order."""
        return [event for event in self.events if isinstance(event, kinds)]


def heard(*argv: str) -> Heard:
    """`replay` with these arguments, put together as `main.py` does it, with somebody who listens."""
    args = main.build_parser().parse_args(["replay", *argv, "--json"])
    settings = read_settings()
    plan = main.make_plan(args, settings)
    events: list[Event] = []

    async def play() -> str:
        async with contextlib.AsyncExitStack() as stack:
            panel = await main.replay_panel(plan, settings, args.record, stack)
            with Outcome(plan.symbols) as outcome, contextlib.redirect_stdout(io.StringIO()) as out:
                book = await replayed(main.in_memory(plan, panel), outcome, events.append)
                main.print_outcome(plan, outcome, book, as_json=True)
                return out.getvalue()

    printed = asyncio.run(play())
    return Heard(
        events=tuple(events),
        stored=tuple(encode(event) for event in events),
        cards=tuple(text for event in events for text in drawn(event)),
        printed=printed,
    )


def drawn(event: Event) -> Iterator[str]:
    """What an event looks like in the chat."""
    if (card := draw(event, LOOK, Day())) is not None:
        yield repr(card)
    if (line := step(event, LOOK)) is not None:
        yield repr(line)


def told_apart(one: Heard, other: Heard) -> str:
    """The first thing in which two replays differ; empty where they do not."""
    for name in ("stored", "cards"):
        mine, theirs = getattr(one, name), getattr(other, name)
        for number, (this, that) in enumerate(zip(mine, theirs, strict=False)):
            if this != that:
                return f"{name} {number}: {this!r} and {that!r}"
        if len(mine) != len(theirs):
            return f"{len(mine)} and {len(theirs)} {name}"
    return "" if one.printed == other.printed else "what is printed"


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A folder with candle files, and the stand-in."""

    place: Place
    server: Rehearsal
    candles: tuple[str, ...]
    patch: pytest.MonkeyPatch

    def record(self, mode: str, *more: str) -> Heard:
        """A replay that asks the stand-in; `tape` is what it leaves."""
        for name, value in self.server.env.items():
            self.patch.setenv(name, value)
        return heard(*self.candles, *more, "--council", mode, "--record", str(self.tape(mode)))

    def play(self, mode: str, *more: str) -> Heard:
        """The same from the cassette; there is nobody to ask and nothing to ask with."""
        asked = len(self.server.log)
        for name in self.server.env:
            self.patch.delenv(name, raising=False)
        self.patch.setenv("COUNCIL_MODE", mode)
        found = heard(*self.candles, *more, "--council", str(self.tape(mode)))
        assert len(self.server.log) == asked
        return found

    def tape(self, mode: str) -> Path:
        """The cassette of a mode."""
        return self.place.folder / f"{mode}.jsonl"


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """Two made-up markets of two months."""
    files = [write_candles(made_up(symbol), tmp_path / f"{symbol}-240.parquet") for symbol in KNOWN]
    yield from studio_on(tmp_path, monkeypatch, files, words(LIVELY))


@pytest.fixture
def year(test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    """Bitcoin and Ether, 2025, in bars of four hours, by the defaults."""
    files = [recorded(test_data, symbol, tmp_path) for symbol in KNOWN]
    yield from studio_on(tmp_path, monkeypatch, files, ())


def studio_on(
    folder: Path, patch: pytest.MonkeyPatch, files: list[Path], settings: tuple[str, ...]
) -> Iterator[Studio]:
    """A studio for these files; nothing of this machine's own environment is seen."""
    patch.chdir(folder)
    for name in ("HF_TOKEN", "GEMINI_API_KEY", "KEY_FILE", "COUNCIL_MODE", "HF_BASE_URL", "GEMINI_BASE_URL"):
        patch.delenv(name, raising=False)
    budget = {"daily_usd": 1000.0, "daily_tokens": 1_000_000_000}
    config = json.loads((main.HERE / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "council": {**config["council"], **budget}}))
    candles = ("--candles", *map(str, files), *settings)
    with rehearsal(folder) as server:
        yield Studio(place=Place(folder=folder), server=server, candles=candles, patch=patch)


def made_up(symbol: str, bars: int = 400) -> CandleSeries:
    """One made-up market."""
    return synthetic(symbol, seed=18, bars=bars)


def recorded(folder: Path, symbol: str, into: Path) -> Path:
    """A year of recorded hours as bars of four hours, in a file."""
    series = resampled(load_candles(folder / RECORDED[symbol], known_symbols=KNOWN).series, 240)
    rows = (series.timestamp >= YEAR[0]) & (series.timestamp < YEAR[1])
    assert rows.sum() == timedelta(days=365) // timedelta(hours=4)
    columns = ("timestamp", "open", "high", "low", "close", "volume")
    path = into / f"{symbol}-240.parquet"
    pd.DataFrame({name: getattr(series, name)[rows] for name in columns}).to_parquet(path)
    return path


def weather(seed: int, count: int) -> list[str]:
    """Sound answers in every wrapping, one in four of them bad."""
    rng = random.Random(seed)
    return [rng.choice(BROKEN if rng.random() < 0.25 else SOUND) for _ in range(count)]


def figures(name: str, found: Heard) -> None:
    """What the comparison was about; pytest shows it with -rP."""
    kinds = Counter(type(event).__name__ for event in found.events)
    approved = sum(event.approved for event in found.events if isinstance(event, VerdictReached))
    shown = ("VerdictReached", "AgentAnswered", "OrderIntended", "OpinionReached")
    print(name, {kind: kinds[kind] for kind in shown}, f"approved {approved}, cards {len(found.cards)}")  # noqa: T201


# ---- recorded candles ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["strict", pytest.param("degraded", marks=WHOLE), pytest.param("shadow", marks=WHOLE)])
def test_a_recorded_year(year: Studio, mode: str) -> None:
    """Verdicts, answers, orders and cards are the same, twice, without any server."""
    recording = year.record(mode)
    figures(mode, recording)
    assert len(recording.of(AgentAnswered)) >= 150
    assert len(recording.of(OrderIntended)) >= 30
    for _ in range(2):
        assert told_apart(recording, year.play(mode)) == ""


# ---- made-up candles -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode", ["degraded", "shadow", pytest.param("strict", marks=WHOLE)])
def test_made_up_candles_in_bad_weather(studio: Studio, mode: str) -> None:
    """Answers that fail are on the tape too: every status, every alert and every reason comes again."""
    studio.server.perform({"any": weather(3, 2000)})
    recording = studio.record(mode)
    figures(mode, recording)
    statuses = Counter(event.said.answer.status for event in recording.events if isinstance(event, AgentAnswered))
    assert {"OK", "INVALID"} < set(statuses), statuses
    assert recording.of(CouncilImpaired)
    first, second = studio.play(mode), studio.play(mode)
    assert told_apart(recording, first) == ""
    assert told_apart(first, second) == ""
    assert bool(recording.of(OpinionReached)) is (mode == "shadow")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["strict", "shadow"])
def test_another_markets_cassette(studio: Studio, mode: str) -> None:
    """One clear line, no result and exit code 2; so does a cassette of another prompt, model or setting."""
    studio.record(mode)
    studio.patch.setenv("COUNCIL_MODE", mode)
    other = write_candles(synthetic("BTCUSDT", seed=19, bars=500), studio.place.folder / "BTCUSDT-other.parquet")
    changed = words({**LIVELY, "sl_atr_multiplier": 2})
    cases = (("--candles", str(other), *words(LIVELY)), ("--candles", *studio.candles[1:3], *changed))
    for words_ in cases:
        done = in_process(("replay", *words_, "--council", str(studio.tape(mode)), "--json"))
        refused(done, f"{mode}.jsonl has no answer of the", "candidate")


@pytest.mark.slow
def test_a_spoilt_cassette(studio: Studio) -> None:
    """The line that is wrong is named by its number, a file without a line says what to do."""
    studio.record("strict")
    tape, spoilt = studio.tape("strict"), studio.place.folder / "spoilt.jsonl"
    lines = tape.read_text().splitlines(keepends=True)
    inside = json.loads(lines[2])
    worse = {
        "not JSON": "{",
        "no object": "[]",
        "of another version": json.dumps(inside | {"version": 2}),
        "an unknown status": json.dumps(inside | {"status": "FINE"}),
        "a call too many words": json.dumps(inside | {"calls": [{**inside["calls"][0], "more": 1}]}),
        "no number": json.dumps(inside | {"calls": [{**inside["calls"][0], "cost_usd": "many"}]}),
        "no calls": json.dumps({name: value for name, value in inside.items() if name != "calls"}),
        "deep": "[" * 100_000,
        "half": lines[2][: len(lines[2]) // 2],
    }
    for line in worse.values():
        spoilt.write_text("".join([*lines[:2], line.rstrip("\n") + "\n", *lines[3:]]))
        refused(in_process(("replay", *studio.candles, "--council", str(spoilt), "--json")), "line 3")
    for content, words_ in ((b"", "holds no answers"), (b"\xff\xfe\x00", "is no cassette")):
        spoilt.write_bytes(content)
        refused(in_process(("replay", *studio.candles, "--council", str(spoilt), "--json")), words_)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_run_is_replayed(studio: Studio) -> None:
    """`council record` makes a cassette of what a running bot was told; a replay of it decides and trades the same."""
    place = Place(folder=studio.place.folder, env=studio.server.env)
    argv = (*studio.candles, "--council", "degraded")
    studio.server.perform({"any": weather(4, 60)})
    ran = place.run("run", *argv, "--speed", "0", "--no-dashboard", "--json", seconds=120)
    assert ran.code == 0, ran.err[-2000:]
    kept = place.run("council", "record", "--out", str(studio.tape("degraded")))
    assert (kept.code, kept.err) == (0, "")
    again = studio.play("degraded")
    assert json.loads(again.printed) == json.loads(ran.out)


def refused(done: Done, *said: str) -> None:
    """Exit code 2, nothing on stdout, and one line that holds these words."""
    assert (done.code, done.out) == (2, ""), done.err[-2000:]
    (line,) = done.said
    assert line.startswith("error: ")
    for words_ in said:
        assert words_ in line, line
