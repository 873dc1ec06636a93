"""The first minutes of a new owner: `main.py run` in a clean folder, without any key, and what survives it."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.journeys.chatlog import Message, bot, extra, read, recorded
from tests.journeys.program import Place, Running, headline, phone
from tests.parity.series import bars_from, write_candles
from tests.structure import ROOT

STRANGER = 999
LEAVE_SECONDS = 5.0
BRISK = "43200"  # three times the pace of the demo
_MOMENT = re.compile(r" · (\d\d) (\w{3}) (\d\d:\d\d)$")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A clean folder."""
    return Place(folder=tmp_path)


def texts(running: Running, part: str) -> list[str]:
    """The bot's messages that hold these words."""
    return [str(each["text"]) for each in bot(running.messages()) if part in str(each["text"])]


def market_time(status: str) -> tuple[int, int, str]:
    """The moment in the first line of /status, in an order that holds within a year."""
    found = _MOMENT.search(status.partition("\n")[0])
    assert found is not None, status
    return _MONTHS.index(found.group(2)), int(found.group(1)), found.group(3)


def paused(running: Running) -> bool:
    """What /status says."""
    return "PAUSED" in running.ask("/status")[0].partition("\n")[0]


def nothing_twice(place: Place, messages: Sequence[Message]) -> None:
    """The chat tells of every decision, fill and exit of the database once, decisions numbered without a hole."""
    shown, kept = read(messages), recorded(place.data / "conclave.db")
    for told, held in ((shown.verdicts, kept.verdicts), (shown.fills, kept.fills), (shown.exits, kept.exits)):
        too_often, missing = extra(told, held)
        assert (dict(too_often), dict(missing)) == ({}, {})
    assert shown.verdicts == list(range(1, len(shown.verdicts) + 1))
    assert shown.stray == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_first_evening(place: Place) -> None:
    """Address, verdict, fill, Ctrl-C, and a second start that carries on: numbers, history, report, market time."""
    began = time.monotonic()
    with place.start("run", "--speed", BRISK) as first:
        assert first.chat.startswith("http://127.0.0.1:")
        first.until(lambda: read(first.messages()).verdicts, 60, "verdict card")
        first.until(lambda: read(first.messages()).fills, 120, "fill")
        assert time.monotonic() - began < 120
        before = market_time(first.ask("/status")[0])
        code, seconds = first.leave()
        assert (code, seconds < LEAVE_SECONDS) == (0, True), first.err
        assert "Traceback" not in first.err
        assert first.out == ""
    with place.start("run", "--speed", BRISK) as second:
        history = second.messages()
        seen = len(read(history).verdicts)
        assert seen >= 1
        assert market_time(second.ask("/status")[0]) >= before
        report = second.until(lambda: texts(second, "Conclave carries on"), 20, "restart report")
        assert len(report) == 1
        assert len(texts(second, "Conclave starts")) == 1
        second.until(lambda: len(read(second.messages()).verdicts) > seen, 60, "further verdict")
        code, seconds = second.leave(signal.SIGTERM)
        assert (code, seconds < LEAVE_SECONDS) == (0, True), second.err
    with place.start("run", "--speed", BRISK) as third:  # what was not sent yet is sent now
        third.until(lambda: len(texts(third, "Conclave carries on")) == 2, 20, "second report")
        assert third.leave()[0] == 0
    assert place.run("db", "check").code == 0
    with phone(place) as only:
        nothing_twice(place, only.messages())


@pytest.mark.timeout(180)
def test_a_pause_survives_everything(place: Place) -> None:
    """Ctrl-C, kill -9, a kill in the very moment it was asked for, and /start: only /resume takes it back."""
    with place.start("run", "--no-dashboard") as running:
        running.say("/pause")
        running.until(lambda: texts(running, "PAUSED by"), 20, "pause")
        assert running.leave()[0] == 0
    with place.start("run", "--no-dashboard") as running:
        assert paused(running)
        answer, _ = running.ask("/start")
        assert "blocked" in answer
        assert paused(running)
        running.kill()
    with place.start("run", "--no-dashboard") as running:
        assert paused(running)
        assert texts(running, "RESUMED by") == []
        running.ask("/resume")
        running.until(lambda: texts(running, "RESUMED by"), 20, "resume")
        assert not paused(running)
        running.say("/pause")
        running.kill()
    with place.start("run", "--no-dashboard") as running:
        running.until(lambda: len(texts(running, "PAUSED by")) == 2, 20, "pause that was asked for before the kill")
        assert paused(running)
        assert running.leave()[0] == 0


@pytest.mark.timeout(120)
def test_a_conversation_while_the_market_runs(place: Place) -> None:
    """Every command gets a reply, soon; what is no command gets /help's answer; a stranger gets silence."""
    with place.start("run", "--no-dashboard") as running:
        help_text, _ = running.ask("/help")
        for word in ("/status", "/verdicts", "/pause", "/resume"):
            assert word in help_text
        for nonsense in ("/bogus", "/bogus now", "hello?", "/", "//status", "/статус", "💥", "/status" * 80):
            assert running.ask(nonsense)[0] == help_text
        assert "nothing" in running.ask("/start")[0]
        for mine in ("/status", "/pause", "/start", "hello"):
            running.say(mine, user=STRANGER)
        waits = sorted(running.ask("/status")[1] for _ in range(50))
        assert statistics.median(waits) < 0.5, waits
        assert waits[-1] < 3.0, waits
        assert bot(running.messages(user=STRANGER)) == []
        assert not paused(running)
        assert [each for each in bot(running.messages()) if str(STRANGER) in headline(each)] == []
        assert "Traceback" not in running.err
        assert running.err.count(str(STRANGER)) >= 1, "one log line tells of the stranger"
        assert running.leave()[0] == 0


@pytest.mark.timeout(120)
def test_ctrl_c_at_any_moment_of_the_start(place: Place) -> None:
    """An impatient owner: however early, it leaves at once, without a traceback, and the next start works."""
    for delay in (0.05, 0.3, 0.6, 0.9, 1.2, 1.6, 2.0):
        with place.start("run", "--no-dashboard") as running:
            time.sleep(delay)
            if running.process.poll() is None:
                code, seconds = running.leave()
                assert seconds < LEAVE_SECONDS
                assert code in {0, 1, -signal.SIGINT}, running.err
            if delay > 0.3:  # before that it is Python itself that is stopped
                assert "Traceback" not in running.err, f"after {delay} s"
    with place.start("run", "--no-dashboard") as running:
        assert running.ask("/status")[0]
        running.process.send_signal(signal.SIGINT)
        code, _ = running.leave()
        assert code == 0, running.err
        assert "Traceback" not in running.err


@pytest.mark.parametrize("change", ["another market in between", "another equity", "another symbol"])
def test_a_pause_outlives_a_change_of_account(change: str, place: Place) -> None:
    """Who said /pause and edits config.json, or tries a candle file, has not said /resume."""
    with place.start("run", "--no-dashboard") as running:
        running.ask("/pause")
        running.until(lambda: texts(running, "PAUSED by"), 20, "pause")
        assert running.leave()[0] == 0
    if change == "another market in between":
        bars = bars_from(np.random.default_rng(1), np.full(60, 1000.0), interval=60).bars
        write_candles(place.folder / "bars.csv", bars)
        assert place.run("run", "--candles", "bars.csv", "--speed", "0", "--no-dashboard").code == 0
    else:
        config = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
        config["risk"]["initial_equity"] = 5_000.0 if change == "another equity" else 10_000.0
        config["symbols"] = ["BTCUSDT", "ETHUSDT"] if change == "another symbol" else ["BTCUSDT"]
        (place.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with place.start("run", "--no-dashboard") as running:
        assert paused(running)


def test_ctrl_c_while_the_chat_is_unreachable(place: Place) -> None:
    """The file is at its end and its messages wait for a chat that is not there: Ctrl-C still leaves at once."""
    bars = bars_from(np.random.default_rng(1), np.full(60, 1000.0), interval=60).bars
    write_candles(place.folder / "bars.csv", bars)
    away = Place(folder=place.folder, env={"TELEGRAM_API_URL": "http://127.0.0.1:9"})
    with away.start("run", "--candles", "bars.csv", "--speed", "0", "--no-dashboard") as running:
        running.until(lambda: marks(place) == len(bars["close"]), 30, "end of the file")
        code, seconds = running.leave()
        assert seconds < LEAVE_SECONDS
        assert code == 0, running.err


def marks(place: Place) -> int:
    """How many closes the bot's database holds."""
    file = place.data / "conclave.db"
    if not file.exists():
        return 0
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM equity").fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0
    finally:
        db.close()
