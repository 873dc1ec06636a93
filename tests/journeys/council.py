"""The running program with a rehearsed council: a market that proposes when it is told to, models that misbehave on
cue, and what was written down of both.

Exchange, models and program are processes of their own, as a user would start them. Every candidate of the market is
planned: volume falls from bar to bar, and where it rises the strategy has its edge.
"""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from websocket import WebSocket, WebSocketException, WebSocketTimeoutException, create_connection

from tests.journeys.program import Place, Running, call, headline
from tests.parity.series import MIDNIGHT, MINUTE, Array, bars_from, write_candles
from tests.structure import ROOT

BAR_MINUTES = 240
HISTORY = 640  # bars before the first that is traded: more than any fact of a packet needs
FIRST_MS = MIDNIGHT + HISTORY * BAR_MINUTES * MINUTE
"""When the first traded bar opens."""
AGENTS = ("quant", "strategist", "risk_manager")
SETTINGS: Mapping[str, Mapping[str, float]] = {
    "strategy": {
        "ema_period": 20,
        "rsi_long_max": 100,
        "rsi_short_min": 0,
        "adx_period": 5,
        "adx_min": 0,
        "atr_period": 5,
        "sl_atr_multiplier": 6,
        "volume_ma_period": 2,
    },
    "entry": {"entry_offset": 0.03, "entry_ttl_bars": 1, "runaway_r": 100},
    "risk": {"risk_per_trade": 0.005},
    "council": {"daily_usd": 1000, "daily_tokens": 100_000_000},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One symbol: in which bars after the history a long is proposed, and moves (as a share) of single bars."""

    symbol: str
    edges: frozenset[int]
    moves: Mapping[int, float] = field(default_factory=dict)
    start: float = 1_000.0

    def write(self, folder: Path, bars: int) -> str:
        """A candle file of the history and `bars` more; its name."""
        count = HISTORY + bars
        rng = np.random.default_rng(int(self.start))
        changes = rng.normal(0.001, 0.0012, count)
        louder = np.full(count, 0.999)
        for bar, move in self.moves.items():
            changes[HISTORY + bar] = move
        for bar in self.edges:
            louder[HISTORY + bar] = 1.001
        closes: Array = self.start * np.exp(np.cumsum(changes))
        volume: Array = 1e6 * np.cumprod(louder)
        series = bars_from(rng, closes, wick=0.0015, volume=volume, interval=BAR_MINUTES)
        series.bars["timestamp"] = MIDNIGHT + np.arange(count, dtype=np.int64) * BAR_MINUTES * MINUTE
        name = f"{self.symbol}.parquet"
        write_candles(folder / name, series.bars)
        return name


def every(step: int, bars: int) -> frozenset[int]:
    """A candidate in every so many bars, the first after the program had time to start."""
    return frozenset(range(step, bars, step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One row of the journal; `at` is market time, `recorded` seconds since 1970 by the wall."""

    seq: int
    type: str
    at: int
    recorded: float
    body: Mapping[str, Any]


class Models:
    """The rehearsal server, as `main.py llm` starts it."""

    def __init__(self, running: Running) -> None:
        self.running = running
        found = running.until(lambda: re.search(r"HF_BASE_URL=(\S+)", running.out), 30, "model server's address")
        self.url = found.group(1)

    def perform(self, script: Mapping[str, Any]) -> None:
        """A new script in place of the old one."""
        call(f"{self.url}/rehearsal/script", script)

    def log(self) -> list[dict[str, Any]]:
        """Every call so far."""
        return listed(f"{self.url}/rehearsal/log")

    def bodies(self) -> list[str]:
        """The requests as they came."""
        return listed(f"{self.url}/rehearsal/bodies")

    def usage(self, provider: str, model: str, body: str) -> tuple[int, int]:
        """Tokens in and out of a request that is made once more, as the server counts them."""
        chat = provider == "huggingface"
        path = "/v1/chat/completions" if chat else f"/v1beta/models/{model}:generateContent"
        headers = {"Authorization": "Bearer hf_again"} if chat else {"x-goog-api-key": "AIzaAgain"}
        asked = urllib.request.Request(f"{self.url}{path}", data=body.encode(), headers=headers)  # noqa: S310
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310
            told = json.load(answer)
        if chat:
            return told["usage"]["prompt_tokens"], told["usage"]["completion_tokens"]
        usage = told["usageMetadata"]
        return usage["promptTokenCount"], usage["candidatesTokenCount"] + usage["thoughtsTokenCount"]


def listed(address: str) -> list[Any]:
    """GET of a list."""
    with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310
        found = json.load(answer)
    assert isinstance(found, list)
    return found


class Hand:
    """A second follower of the market's pace: it holds the market until the program is there, hears every close at the
    moment it is published, and may let the next bar open."""

    def __init__(self, ws_url: str) -> None:
        self.closes: dict[int, float] = {}
        self._socket: WebSocket = create_connection(f"{ws_url}/paper/pace", timeout=5, suppress_origin=True)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def release(self, close_ms: int) -> float:
        """Let the bar after this close open; the wall's time."""
        self._socket.send(json.dumps({"release": close_ms}))
        return time.time()

    def close(self) -> None:
        """Let go."""
        self._socket.close()
        self._thread.join(5)

    def _listen(self) -> None:
        while True:
            try:
                told = json.loads(self._socket.recv())
            except WebSocketTimeoutException:
                continue
            except (WebSocketException, OSError, ValueError):
                return
            if "now" in told:
                self.closes[int(told["now"])] = time.time()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A market, models and a folder for the program, all running but the program itself."""

    place: Place
    models: Models
    hand: Hand

    @property
    def database(self) -> Path:
        """The program's own."""
        return self.place.data / "conclave.db"

    def start(self, *argv: str) -> Running:
        """The program."""
        return self.place.start("run", "--no-dashboard", *argv)

    def rows(self, after: int = 0) -> list[Told]:
        """The journal after a row; nothing while there is none."""
        if not self.database.exists():
            return []
        query = "SELECT seq, type, at, recorded_at, body FROM journal WHERE seq > ? ORDER BY seq"
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=5)) as db:
                found = db.execute(query, (after,)).fetchall()
        except sqlite3.OperationalError:  # the program is about to make it
            return []
        return [
            Told(seq=seq, type=kind, at=at // 1000, recorded=recorded / 1e6, body=json.loads(body))
            for seq, kind, at, recorded, body in found
        ]

    @property
    def end(self) -> int:
        """The journal's last row."""
        return max((row.seq for row in self.rows()), default=0)

    def of(self, kind: str, after: int = 0) -> list[Told]:
        """Rows of one type."""
        return [row for row in self.rows(after) if row.type == kind]

    def next_of(self, running: Running, kind: str, after: int = 0, seconds: float = 30.0) -> Told:
        """The first row of a type after another, waited for."""
        return running.until(lambda: next(iter(self.of(kind, after)), None), seconds, f"{kind} after {after}")

    def debate(self, running: Running, after: int = 0, seconds: float = 60.0) -> Debate:
        """The next candidate that is debated, from its proposal to its verdict."""
        proposed = self.next_of(running, "CandidateProposed", after, seconds)
        number = proposed.body["verdict_id"]

        def decided() -> Told | None:
            rows = self.of("VerdictReached", proposed.seq)
            return next((row for row in rows if row.body["verdict_id"] == number), None)

        verdict = running.until(decided, 40, f"verdict #{number}")
        said = [row for row in self.of("AgentAnswered", proposed.seq) if row.body["verdict_id"] == number]
        return Debate(
            proposed=proposed, verdict=verdict, said={row.body["said"]["answer"]["agent"]: row for row in said}
        )


@dataclass(frozen=True, kw_only=True)
class Debate:
    """One candidate before the council, as the journal has it; `said` by agent."""

    proposed: Told
    verdict: Told
    said: Mapping[str, Told]

    @property
    def number(self) -> int:
        """Its number in the chat."""
        return int(self.verdict.body["verdict_id"])

    @property
    def seconds(self) -> float:
        """From the proposal's row to the verdict's, by the wall."""
        return self.verdict.recorded - self.proposed.recorded

    @cached_property
    def statuses(self) -> dict[str, str]:
        """How each agent ended."""
        return {agent: str(row.body["said"]["answer"]["status"]) for agent, row in self.said.items()}

    @cached_property
    def calls(self) -> list[dict[str, Any]]:
        """Every request of the three."""
        return [each for agent in AGENTS if agent in self.said for each in self.said[agent].body["said"]["calls"]]

    def card(self, running: Running) -> str:
        """What the chat shows of it, once the verdict is there."""
        sign = re.compile(rf"(APPROVED|REJECTED) #{self.number} ")

        def shown() -> str | None:
            texts = [str(each["text"] or each["caption"]) for each in running.messages()]
            return next((text for text in reversed(texts) if sign.search(text)), None)

        return running.until(shown, 20, f"card of verdict #{self.number}")


def lay_out(folder: Path, symbols: Sequence[str], changes: Mapping[str, Mapping[str, float]]) -> None:
    """A config.json of the shipped one, with a strategy that leaves every edge to the volume."""
    whole = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
    whole["symbols"] = list(symbols)
    for group, values in (*SETTINGS.items(), *changes.items()):
        whole[group].update(values)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")


@contextlib.contextmanager
def scene(
    folder: Path,
    tracks: Sequence[Track],
    *,
    bars: int,
    bar_seconds: float,
    keys: tuple[str, str],
    mode: str = "strict",
    changes: Mapping[str, Mapping[str, float]] | None = None,
    env: Mapping[str, str] | None = None,
) -> Iterator[Scene]:
    """Market and models, and a place for the program; `keys` are HF_TOKEN and GEMINI_API_KEY."""
    symbols = [track.symbol for track in tracks]
    home, own = folder / "exchange", folder / "own"
    for each in (home, own):
        lay_out(each, symbols, changes or {})
    files = [f"{track.symbol}={track.write(home, bars)}" for track in tracks]
    speed = BAR_MINUTES * 60 / bar_seconds
    market = ("--candles", *files, "--history", str(HISTORY), "--speed", f"{speed:g}", "--port", "0")
    with contextlib.ExitStack() as stack:
        exchange = stack.enter_context(Place(folder=home).start("exchange", *market))
        models = Models(stack.enter_context(Place(folder=home).start("llm", "--port", "0")))
        found = exchange.until(lambda: re.search(r"Exchange: (\S+) and (\S+)", exchange.out), 30, "exchange's address")
        rest, ws = found.groups()
        hand = Hand(ws)
        stack.callback(hand.close)
        around = {
            "BYBIT_REST_URL": rest,
            "BYBIT_WS_URL": ws,
            "COUNCIL_MODE": mode,
            "HF_TOKEN": keys[0],
            "GEMINI_API_KEY": keys[1],
            "HF_BASE_URL": models.url,
            "GEMINI_BASE_URL": models.url,
        }
        yield Scene(place=Place(folder=own, env={**around, **(env or {})}), models=models, hand=hand)


def headlines(running: Running) -> list[str]:
    """The first line of every message of the bot."""
    return [headline(each) for each in running.messages() if each["from"] == "bot"]


def measured(**named: float) -> None:
    """Figures for whoever looks (pytest -rP)."""
    sys.stdout.write(" ".join(f"{name}={value:.2f}" for name, value in named.items()) + "\n")


def artefacts(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file that a run has left, with what is in it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, path.read_bytes()


# Every way in which a model may answer, and what the council must make of it

OK, INVALID, ERROR, TIMEOUT, QUOTA = "OK", "INVALID", "ERROR", "TIMEOUT", "QUOTA"
SOUND = (
    *("good", "think", "reasoning_content", "fence", "prose_around", "two_objects", "bom", "injection", "late(1)"),
    "slow_drip(2)",
)
VOTERS_SOUND = ("ungrounded", "ungrounded(value)")  # the Risk Manager cites nothing
ONE_SOUND = ("size0approved", "rejected_with_size")  # the Risk Manager alone has a size
BAD = (
    *("injection(long)", "truncated", "max_tokens", "max_tokens(whole)", "wrong_enum", "lower_enum", "extra_keys"),
    *("missing_key", "duplicate_keys", "deep_nesting", "nan", "infinity", "strings_for_numbers", "size50", "negative"),
    *("prose", "empty", "null_content", "no_choices", "safety", "blocked", "big", "big(where=prose)"),
    *("html", "not_json", "empty_body"),
)
BROKEN = (
    *("400", "bad_model", "404", "408", "413", "422", "500", "502", "503", "504"),
    *("reset", "close", "cut", "hang(1)"),
)
LATE = ("hang", "slow_drip(60)", "late(60)")
KEYS_GONE = ("401", "402", "403", "bad_key", "429", "429(30)", "503(30)")
