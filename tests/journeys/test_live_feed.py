"""FEED=live without Bybit: one process plays it, and the whole program trades on its prices as it would on Bybit's.

The upstream walks bars of one minute, ten a second; the program has bars of five.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from research.synthetic import synthetic, write_candles
from tests.journeys.chatlog import bot, extra, read, recorded
from tests.journeys.program import Place, Running, headline
from tests.structure import ROOT

SYMBOL = "BTCUSDT"
HISTORY = 13_000  # minutes: more than the warm-up of 2,400 bars
BARS = 24_000
SPEED = 600
BAR = timedelta(minutes=5)
CATCHES_UP = 2  # bars after the one at which it stood still
BACK_SECONDS = 5.0 + CATCHES_UP * 0.5
LEAVE_SECONDS = 5.0
BUSY = {
    "ema_period": 20,
    "rsi_long_max": 100.0,
    "rsi_short_min": 0.0,
    "adx_period": 5,
    "adx_min": 0.0,
    "atr_period": 5,
    "sl_atr_multiplier": 3.0,
    "volume_ma_period": 2,
    "bb_period": 5,
    "entry_offset": 0.002,
    "take_profit_r": 1.5,
    "trail_start_r": 0.5,
    "trail_step_r": 0.25,
    "trail_lag_r": 0.75,
    "risk_per_trade": 0.005,
}


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def port() -> int:
    """Where the upstream is, whenever it is there."""
    return free_port()


@pytest.fixture
def bybit(tmp_path: Path) -> Place:
    """The folder of the exchange that plays Bybit, with its candle file."""
    folder = tmp_path / "bybit"
    folder.mkdir()
    write_candles(synthetic(SYMBOL, seed=2, bars=BARS, interval_minutes=1), folder / f"{SYMBOL}.parquet")
    return Place(folder=folder)


@pytest.fixture
def place(tmp_path: Path, port: int) -> Place:
    """The folder of the program: bars of five minutes and a strategy that trades often."""
    folder = tmp_path / "conclave"
    folder.mkdir()
    config = json.loads((ROOT / "config.json").read_text()) | {"timeframe": 5}
    for group in ("strategy", "entry", "trailing", "risk"):
        config[group] |= {name: value for name, value in BUSY.items() if name in config[group]}
    (folder / "config.json").write_text(json.dumps(config))
    return Place(folder=folder, env={"FEED": "live", "FEED_REST_URL": f"http://127.0.0.1:{port}"})


@contextlib.contextmanager
def playing(bybit: Place, port: int) -> Iterator[Running]:
    """The upstream runs and answers."""
    words = ("--candles", f"{SYMBOL}.parquet", "--history", f"{HISTORY}", "--speed", f"{SPEED}", "--port", f"{port}")
    with bybit.start("exchange", *words) as upstream:
        upstream.until(lambda: "Exchange:" in upstream.out, 20, "upstream")
        yield upstream


def marks(place: Place) -> list[datetime]:
    """The closes that the program has dealt with, in its order."""
    if not (place.data / "conclave.db").exists():
        return []
    with contextlib.closing(sqlite3.connect(f"file:{place.data / 'conclave.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT body FROM journal WHERE type = 'EquityMarked' ORDER BY rowid").fetchall()
    return [datetime.fromisoformat(json.loads(row[0])["at"]) for row in rows]


def accounts(place: Place) -> set[str]:
    """The accounts that the program has ever had."""
    with contextlib.closing(sqlite3.connect(f"file:{place.data / 'conclave.db'}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute("SELECT DISTINCT account FROM journal")}


def goes_on(running: Running, place: Place, seconds: float, *, after: datetime) -> None:
    """Wait for a close that is later than this."""
    running.until(lambda: marks(place)[-1:] > [after], seconds, f"close after {after}")


def carries_on(running: Running) -> bool:
    """Has it said that it goes on with the account that it had?"""
    return any("Conclave carries on" in headline(each) for each in bot(running.messages()))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_program_on_live_prices(bybit: Place, place: Place, port: int) -> None:
    """It trades, outlives its exchange's prices and its own death, and no close is missing or dealt with twice."""
    with place.start("run", "--no-dashboard") as running:
        running.until(lambda: "live_prices_not_reached" in running.err, 20, "word that there are no prices")
        with playing(bybit, port) as upstream:
            assert running.ask("/status", 30)[0].startswith("PAPER")
            running.until(lambda: read(running.messages()).fills, 40, "fill")
            upstream.kill()
        stands = running.until(lambda: marks(place), 5, "close")[-1]
        with playing(bybit, port):
            goes_on(running, place, BACK_SECONDS, after=stands + CATCHES_UP * BAR)
            assert running.err.count("live_prices_not_reached") == 1
            before = marks(place)[-1]
            running.kill()
            with place.start("run", "--no-dashboard") as again:
                goes_on(again, place, 20, after=before + CATCHES_UP * BAR)
                again.until(lambda: carries_on(again), 10, "word that it carries on")
                status = again.ask("/status")[0]
                messages = again.messages()
                code, seconds = again.leave()
                assert (code, seconds < LEAVE_SECONDS) == (0, True), again.err
    assert status.startswith("PAPER")
    told = [headline(each) for each in bot(messages)]
    assert all(line.startswith("PAPER ") for line in told), told
    assert len(accounts(place)) == 1
    shown, kept = read(messages), recorded(place.data / "conclave.db")
    doubled = extra(shown.fills, kept.fills)[0] + extra(shown.exits, kept.exits)[0]
    assert doubled.total() <= 1  # the kill may have come between the sending of one message and its being marked
    assert shown.verdicts == list(range(1, len(shown.verdicts) + 1))
    dealt_with = marks(place)
    assert dealt_with == [dealt_with[0] + number * BAR for number in range(len(dealt_with))]
    for each in (running, again, upstream):
        assert "Traceback" not in each.err
