"""The key pool in a storm: 5 keys in 3 buckets, and a provider that answers 429, 402, 401 and 503 by a seeded script.

The witness is the rehearsal server: its log says when each call came, with which key, and what it was told. Nobody
asks a bucket before the end of the wait it was told, nobody uses a refused key again, and a spent account is left
alone; nor does a process that finds the database of one that was killed. No key's text is in anything a run leaves
behind. CONCLAVE_FULL_WIRE=1 asks ten times as much and kills ten times.
"""

from __future__ import annotations

import contextlib
import json
import math
import random
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from tests.faults.markets import LIVELY, lively, words
from tests.faults.wire import FULL, Json, figures, until
from tests.journeys.program import Place
from tests.stand_ins.rehearsal import Rehearsal, rehearsal
from tests.structure import ROOT
from trading.llm.keys import DRAIN_SECONDS, Key

QUESTIONS: Final = 2_400 if FULL else 240
KILLS: Final = 10 if FULL else 2
BARS: Final = 1_500 if FULL else 400
AT_ONCE: Final = 24
SECONDS: Final = 4.0  # for one question
GRACE: Final = 0.1  # seconds in which what was under way may still come, besides what a call took at most
COMMITTED: Final = 1.0  # seconds after which what was answered before a kill is in the database
PROVIDERS: Final = ("huggingface", "gemini")
PREFIX: Final = {"huggingface": "hf_", "gemini": "AIza"}
FORMS: Final = {
    "huggingface": ("seconds", "date", "ratelimit", "ratelimit_old", "seconds+ratelimit"),
    "gemini": ("retry_info", "seconds", "date", "retry_info+seconds"),
}
REFUSED: Final = {"huggingface": ("401*forever", "403*forever"), "gemini": ("401*forever", "bad_key*forever")}
BUCKETS: Final = {"one": (0, 1), "two": (2, 3), "three": (4,)}
OF_MODELS: Final = ("HF_BASE_URL", "GEMINI_BASE_URL")


def secrets(provider: str, seed: int) -> list[str]:
    """Five keys whose last four characters tell them apart."""
    rng = random.Random(f"{provider}{seed}")
    alphabet = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
    middles = ("".join(rng.choices(alphabet, k=30)) for _ in range(5))
    return [f"{PREFIX[provider]}{middle}{provider[0]}00{number}" for number, middle in enumerate(middles, 1)]


def key_file(folder: Path, keys: Sequence[str]) -> Path:
    """A line for each bucket."""
    path = folder / "keys.txt"
    path.write_text("".join("|".join(keys[at] for at in places) + "\n" for places in BUCKETS.values()))
    path.chmod(0o600)
    return path


def script(provider: str, keys: Sequence[str], seed: int, rounds: int, *, whole: bool) -> Json:
    """What a bucket's calls are told: waits in every form, errors, and at last credits used up or a quarter of an hour.

    Of the first two buckets a key each is refused for good after a few answers; the last one that is left may be used
    unless the storm is to be a `whole` one.
    """
    rng, tails = random.Random(f"{provider} script {seed}"), [key[-4:] for key in keys]

    def weather() -> Iterator[str]:
        for _ in range(rounds):
            yield f"good*{rng.randint(1, 4)}"
            form = rng.choice(FORMS[provider])
            wait = rng.choice((1, 2))
            limited = f"429(retry_after={wait}, form={form})"
            yield rng.choice((limited, limited, "503", f"503({wait})", "500"))

    long = [f"429(retry_after=900, form={FORMS[provider][0]})"]
    ends = {"one": ["402"], "two": long if whole else [], "three": long}
    buckets = {
        f"{provider} {name}": {"keys": [tails[at] for at in places], "script": [*weather(), *ends[name]]}
        for name, places in BUCKETS.items()
    }
    ill = zip((1, 3), REFUSED[provider], strict=True)
    return {"keys": {tails[at]: [f"good*{rng.randint(2, 5)}", item] for at, item in ill}, "buckets": buckets}


# ---- the rehearsal, and what its log proves ------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What a reply put out of use, from when on and until when: a bucket, or one key."""

    whose: str
    since: float
    ends: float
    why: str


def rests(log: Sequence[Json]) -> list[Rest]:
    """Every rest that was asked for; a call that nobody has answered asks for none."""
    found = []
    for entry in log:
        if entry["seconds"] is None:
            continue
        told = entry["at"] + entry["seconds"]
        if entry["code"] in {401, 403} or entry["item"].startswith("bad_key"):
            found.append(Rest(whose=f"key {entry['key']}", since=told, ends=math.inf, why=entry["item"]))
        elif entry["code"] == 402:
            whose = f"bucket {entry['bucket']}"
            found.append(Rest(whose=whose, since=told, ends=told + DRAIN_SECONDS, why="402"))
        elif entry["hint"]:
            ends = entry["at"] + entry["hint"]
            found.append(Rest(whose=f"bucket {entry['bucket']}", since=told, ends=ends, why=entry["item"]))
    return found


def broken(log: Sequence[Json], grace: float, kills: Sequence[float] = ()) -> list[str]:
    """Calls that should not have been made. What a kill followed at once was perhaps never written down."""
    found = []
    for rest in rests(log):
        lost = next((kill for kill in kills if rest.since <= kill < rest.since + COMMITTED), math.inf)
        for entry in log:
            mine = rest.whose in {f"key {entry['key']}", f"bucket {entry['bucket']}"}
            if mine and rest.since + grace < entry["at"] < min(rest.ends, lost):
                after = entry["at"] - rest.since
                found.append(f"{entry['number']} with {entry['key']}: {after:.2f} s after {rest.why} of {rest.whose}")
    return found


# ---- those who ask -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asking:
    """A process that asks and asks."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    @property
    def told(self) -> list[Json]:
        """Its whole lines so far."""
        lines = self.out.read_text("utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @property
    def answers(self) -> list[Json]:
        """How its questions have ended so far."""
        return [each for each in self.told if "status" in each]

    @property
    def grace(self) -> float:
        """Seconds for which a request that is allowed may be under way: a crowded machine takes its time."""
        answers = self.answers
        return float(GRACE + answers[-1]["lag"] + max(each["longest"] for each in answers))


@dataclass(frozen=True, slots=True)
class Storm:
    """One folder, one provider, five keys, and the server that plays the weather."""

    place: Place
    provider: str
    keys: Sequence[str]
    server: Rehearsal

    @contextlib.contextmanager
    def asking(self, count: int, seconds: float = SECONDS) -> Iterator[Asking]:
        """A process that asks so much, killed at the end if it still does."""
        folder = self.place.folder
        number = len(list(folder.glob("storm-*.out")))
        out, err = folder / f"storm-{number}.out", folder / f"storm-{number}.err"
        argv = [sys.executable, "-m", "tests.faults.keystorm", self.provider, count, seconds, AT_ONCE]
        env = {**self.place.environment, "PYTHONPATH": str(ROOT)}
        with out.open("wb") as first, err.open("wb") as second:
            process = subprocess.Popen(
                list(map(str, argv)), cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=first, stderr=second
            )
        try:
            yield Asking(process, out, err)
        finally:
            process.kill()
            process.wait()

    def states(self) -> dict[str, str]:
        """How each key stands in the database, by its last four characters; only rests beyond a minute count."""
        tails = {Key(provider=self.provider, bucket="", secret=one).fingerprint: one[-4:] for one in self.keys}
        try:
            with contextlib.closing(sqlite3.connect(f"file:{self.place.data}/conclave.db?mode=ro", uri=True)) as db:
                rows = db.execute("SELECT fingerprint, state, until - since FROM model_keys").fetchall()
        except sqlite3.OperationalError:  # it is being made
            return {}
        return {
            tails[print_]: state for print_, state, length in rows if state == "retired" or (length or 0) > 60_000_000
        }


@contextlib.contextmanager
def storm(folder: Path, provider: str, rounds: int, *, seed: int = 7, whole: bool = False) -> Iterator[Storm]:
    """The stand-in with its script, and a place whose program knows it and the keys."""
    keys = secrets(provider, seed)
    place = folder / "bot"
    place.mkdir()
    config = json.loads((ROOT / "config.json").read_text())
    config["council"] |= {"daily_usd": 1000.0, "daily_tokens": 1_000_000_000}
    (place / "config.json").write_text(json.dumps(config))
    (place / "data").mkdir()
    with rehearsal(folder, script(provider, keys, seed, rounds, whole=whole)) as server:
        path = key_file(folder, keys)
        env = {"KEY_FILE": str(path), **dict.fromkeys(OF_MODELS, server.url), "LOG_LEVEL": "DEBUG"}
        yield Storm(Place(folder=place, env=env), provider, keys, server)
    leaked(folder, keys, but=(path,))


def leaked(folder: Path, keys: Sequence[str], but: Sequence[Path] = ()) -> None:
    """Fails where any file holds the inside of a key: its beginning and its last four characters say nothing."""
    files = [path for path in folder.rglob("*") if path.is_file() and path not in but]
    assert files
    for path in files:
        content = path.read_bytes()
        for key in keys:
            assert key[6:-6].encode() not in content, f"{path.name} holds a key (…{key[-4:]})"


@pytest.mark.slow
@pytest.mark.timeout(900 if FULL else 120)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_storm_ends_in_statuses(tmp_path: Path, provider: str) -> None:
    """Some hundred questions at once: every one ends in time, and every rest is kept."""
    with storm(tmp_path, provider, rounds=QUESTIONS // 40, whole=True) as weather:
        with weather.asking(QUESTIONS) as asking:
            assert asking.process.wait(600 if FULL else 90) == 0, asking.err.read_text()[-2000:]
        log, answers = weather.server.log, asking.answers
        assert broken(log, asking.grace) == []
        assert len(answers) == QUESTIONS
        slowest = max(each["seconds"] for each in answers)
        assert slowest < SECONDS + 1 + answers[-1]["lag"]
        codes, ends = Counter(entry["code"] for entry in log), Counter(each["status"] for each in answers)
        assert {200, 402, 429, 503} <= set(codes), "the storm was none"
        assert set(ends) <= {"OK", "QUOTA", "ERROR", "TIMEOUT"}
        assert ends["OK"] > QUESTIONS // 10 < ends["QUOTA"], "some are answered, and at last nobody is left to ask with"
        alerts = Counter(text for each in answers for text in each["alerts"])
        assert sorted(alerts.values()) == [1, 1, 1], "two keys refused and one account spent, each told once"
        figures(
            provider=provider,
            codes=dict(sorted(codes.items())),
            ends=dict(ends),
            rests=len(rests(log)),
            early=sum(entry["early"] for entry in log),
            slowest=slowest,
            grace=round(asking.grace, 3),
        )


@pytest.mark.slow
@pytest.mark.timeout(900 if FULL else 120)
@pytest.mark.parametrize("provider", PROVIDERS if FULL else PROVIDERS[:1])
def test_a_kill_forgets_no_rest(tmp_path: Path, provider: str) -> None:
    """kill -9 in the middle, again and again: who comes next knows who rests, until when, and who is refused."""
    with storm(tmp_path, provider, rounds=6) as weather:
        rng, kills, grace = random.Random(3), [], 0.0
        for turn in range(KILLS):
            with weather.asking(1_000_000) as asking:
                seen = len(weather.server.log)
                wanted = seen + rng.randint(20, 40)
                until(lambda n=wanted, a=asking: len(weather.server.log) >= n and a.answers, 60, "calls")  # type: ignore[misc]
                if turn == KILLS - 1:
                    until(lambda: len(weather.states()) == 4, 60, "two refusals, a spent account, a long wait")
                kills.append(killed(asking))
                grace = max(grace, asking.grace)
        before, states = weather.server.log, weather.states()
        leaked(tmp_path, weather.keys, but=(tmp_path / "keys.txt",))
        with weather.asking(60) as asking:
            assert asking.process.wait(90) == 0, asking.err.read_text()[-2000:]
        log = weather.server.log
        assert broken(log, max(grace, asking.grace), kills) == []
        assert {entry["key"] for entry in log[len(before) :]} == {weather.keys[2][-4:]}, "the one that may be used"
        reported = {each["key"]: each["state"] for each in asking.told if "key" in each}
        assert {tail: state for tail, state in reported.items() if state != "healthy"} == states
        figures(provider=provider, kills=len(kills), calls=len(log), after=len(log) - len(before), states=states)


def killed(asking: Asking) -> float:
    """kill -9; when it was, by the clock of the log."""
    assert asking.process.poll() is None, asking.err.read_text()[-2000:]
    asking.process.kill()
    asking.process.wait()
    return time.time()


# ---- the whole program ---------------------------------------------------------------------------


@contextlib.contextmanager
def everything(folder: Path) -> Iterator[tuple[Place, Rehearsal]]:
    """Both providers in a storm, and the whole program with five keys of each; nothing of a key is left behind."""
    keys = {provider: secrets(provider, 11) for provider in PROVIDERS}
    scripts = [script(provider, keys[provider], 11, 3, whole=False) for provider in PROVIDERS]
    both = {name: {**scripts[0][name], **scripts[1][name]} for name in ("keys", "buckets")}
    path = folder / "keys.txt"
    lines = [line for provider in PROVIDERS for line in key_file(folder, keys[provider]).read_text().splitlines()]
    path.write_text("\n".join(lines))
    place = folder / "bot"
    place.mkdir()
    config = json.loads((ROOT / "config.json").read_text())
    config["council"] |= {"daily_usd": 1000.0, "daily_tokens": 1_000_000_000, "agent_seconds": 2.0}
    config["council"] |= {"attempt_seconds": 2.0, "council_seconds": 4.0}
    (place / "config.json").write_text(json.dumps(config))
    with rehearsal(folder, both) as server:
        env = {"KEY_FILE": str(path), **dict.fromkeys(OF_MODELS, server.url), "LOG_LEVEL": "DEBUG"}
        yield Place(folder=place, env=env), server
    leaked(folder, [*keys["huggingface"], *keys["gemini"]], but=(path,))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_replay_in_a_storm(tmp_path: Path) -> None:
    """The cassette of a replay that met all of this holds no key, and the replay from it ends the same."""
    with everything(tmp_path) as (place, server):
        candles = ["--candles", str(lively(tmp_path, BARS)), *words(LIVELY)]
        told = place.run("replay", *candles, "--council", "degraded", "--record", "tape.jsonl", "--json", seconds=150)
        assert told.code == 0, told.err
        (place.folder / "told.txt").write_text(told.out + told.err)
        tape = [json.loads(line) for line in (place.folder / "tape.jsonl").read_text().splitlines()]
        longest = max(call["latency_ms"] for line in tape for call in line["calls"] if call["code"])
        assert broken(server.log, GRACE + longest / 1000) == []
        codes = Counter(entry["code"] for entry in server.log)
        assert {200, 402, 429} <= set(codes)
        calm = replace(place, env={"COUNCIL_MODE": "degraded"})
        again = calm.run("replay", *candles, "--council", "tape.jsonl", "--json")
        assert (again.code, again.out) == (0, told.out), again.err
        figures(codes=dict(sorted(codes.items())), answers=len(tape))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_killed_run_in_a_storm(tmp_path: Path) -> None:
    """The whole bot, chat and all: killed in the middle of it, started again, asked about its health, and clean."""
    with everything(tmp_path) as (place, server):
        argv = ["run", "--candles", str(lively(tmp_path, BARS)), *words(LIVELY), "--speed", "0", "--council", "strict"]
        with place.start(*argv) as running:
            running.until(lambda: len(server.log) > 30, 90, "calls")
            running.kill()
            killed_at = time.time()
        with place.start(*argv) as running:
            health, keys = running.ask("/health")[0], running.ask("/council")[0]
            assert running.process.wait(120) == 0, running.err[-2000:]
        (place.folder / "told.txt").write_text(health + keys)
        with contextlib.closing(sqlite3.connect(place.data / "conclave.db")) as db:
            ((longest,),) = db.execute("SELECT max(latency_ms) FROM calls WHERE code > 0").fetchall()
        assert broken(server.log, GRACE + longest / 1000, [killed_at]) == []
        codes = Counter(entry["code"] for entry in server.log)
        assert {200, 402, 429} <= set(codes)
        figures(codes=dict(sorted(codes.items())))
