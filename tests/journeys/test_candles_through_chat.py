"""A candle file through everything: strategy, council, exchange, journal and chat, as fast as the engine follows.

`run --speed 0 --json` prints what `replay` prints, and the phone tells of every decision, fill and exit once:
in one go, begun anew, and when it is killed in the middle and started again.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.journeys.chatlog import Log, bot, extra, read, recorded, session
from tests.journeys.program import Done, Place, call, headline, phone
from tests.parity.series import MIDNIGHT, Bars, bars_from, walk, write_candles

BARS = 500
LIVELY = {
    "ema_period": 20,
    "rsi_long_max": 100,
    "rsi_short_min": 0,
    "adx_period": 5,
    "adx_min": 0,
    "atr_period": 5,
    "sl_atr_multiplier": 3,
    "volume_ma_period": 2,
    "bb_period": 5,
    "entry_offset": 0,
    "risk_per_trade": 0.005,
}
SETTINGS = [word for name, value in LIVELY.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A clean folder."""
    return Place(folder=tmp_path)


def lay_out(place: Place, name: str = "bars.parquet", *, seed: int = 5, start: float = 2_000.0) -> str:
    """A synthetic file with many trades in it."""
    rng = np.random.default_rng(seed)
    series = bars_from(rng, walk(rng, BARS, start=start, vol=0.006), interval=15)
    series.bars["timestamp"] = MIDNIGHT + np.arange(BARS, dtype=np.int64) * series.interval_ms
    write_candles(place.folder / name, series.bars)
    return name


def run(place: Place, *argv: str, seconds: float = 110.0) -> Done:
    """The file through everything."""
    return place.run("run", "--speed", "0", "--no-dashboard", "--json", *argv, seconds=seconds)


def the_object(done: Done) -> dict[str, Any]:
    """Exit code 0 and exactly one JSON object on stdout."""
    assert done.code == 0, done.err[-2000:]
    assert "Traceback" not in done.err
    found = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def replayed(place: Place, *argv: str) -> dict[str, Any]:
    """What `replay` prints for the same."""
    return the_object(place.run("replay", "--json", *argv))


def both(place: Place) -> tuple[Log, Log]:
    """What the phone tells of the last account, and what the database holds of it."""
    with phone(place) as only:
        return read(session(only.messages())), recorded(place.data / "conclave.db")


def told_once(shown: Log, kept: Log, *, doubles: int = 0) -> None:
    """Every decision, fill and exit has its card, in its decision's thread; at most `doubles` have a second one."""
    twice = 0
    for told, held in ((shown.verdicts, kept.verdicts), (shown.fills, kept.fills), (shown.exits, kept.exits)):
        too_often, missing = extra(told, held)
        assert dict(missing) == {}
        twice += too_often.total()
    assert twice <= doubles
    assert shown.stray == [] or doubles
    assert shown.verdicts == sorted(shown.verdicts) or doubles


@pytest.mark.parametrize("council", ["off", "rules"])
def test_run_is_replay_and_the_phone_tells_all(council: str, place: Place) -> None:
    """The whole object is equal, all of it is in the chat once, and the same command begins anew."""
    argv = ("--candles", lay_out(place), "--council", council, *SETTINGS)
    expected = replayed(place, *argv)
    assert len(expected["trades"]) > (30 if council == "off" else 1)
    assert the_object(run(place, *argv)) == expected
    shown, kept = both(place)
    assert len(kept.exits) == len(expected["trades"])
    assert len(kept.verdicts) >= len(kept.exits)
    told_once(shown, kept)
    assert the_object(run(place, *argv)) == expected
    again, anew = both(place)
    told_once(again, anew)
    assert anew.verdicts == kept.verdicts
    assert place.run("db", "check").code == 0


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_again_and_again(place: Place) -> None:
    """kill -9 at moments that chance picks: the same trades in the end, nothing lost, one double for each kill at most.

    The double is a message that the phone had taken when the program died before it could note so: a chat
    has no key for a message, so that asking again is the only way to lose none.
    """
    argv = ("--candles", lay_out(place), "--council", "off", *SETTINGS)
    expected = replayed(place, *argv)
    chance = random.Random(20)
    words = ("run", "--speed", "0", "--no-dashboard", "--json", *argv)
    kills = reached = 0
    finished: Done | None = None
    for more in (1, chance.randrange(5, 40), chance.randrange(40, 80), 2):
        with place.start(*words) as running:
            address, wanted = running.chat, reached + more
            running.until(lambda a=address, n=wanted: newest(a) >= n, 60, f"message {wanted}")  # type: ignore[misc]
            running.kill()
            kills += 1
        with phone(place) as only:
            reached = newest(only.chat)
            begun = [m for m in bot(only.messages()) if "Conclave starts" in headline(m)]
            assert 1 <= len(begun) <= 1 + kills, "it starts once; a kill may double the message"
    finished = run(place, *argv)
    found = the_object(finished)
    assert found["trades"] == expected["trades"]
    assert found == expected
    shown, kept = both(place)
    assert len(kept.exits) == len(expected["trades"])
    told_once(shown, kept, doubles=kills)
    assert place.run("db", "check").code == 0


def newest(address: str) -> int:
    """The id of the chat's last message."""
    found: Sequence[dict[str, Any]] = call(f"{address}/phone/messages?last=1")["messages"]
    return int(found[-1]["message_id"]) if found else 0


def test_ctrl_c_in_the_middle_and_on(place: Place) -> None:
    """Asked to leave, it leaves with 0 and prints no half object; the next start finishes with replay's."""
    argv = ("--candles", lay_out(place), "--council", "off", *SETTINGS)
    expected = replayed(place, *argv)
    with place.start("run", "--speed", "0", "--no-dashboard", "--json", *argv) as running:
        address = running.chat
        running.until(lambda: newest(address) >= 40, 60, "fortieth message")
        code, seconds = running.leave()
        assert (code, running.out) == (0, "")
        assert seconds < 5
    assert the_object(run(place, *argv)) == expected
    told_once(*both(place))


@pytest.mark.parametrize("council", ["off"])
def test_two_symbols_on_one_account(council: str, place: Place) -> None:
    """Two files, one account, one chat."""
    one, other = lay_out(place, "one.csv"), lay_out(place, "other.csv.gz", seed=6, start=300.0)
    argv = ("--candles", f"BTCUSDT={one}", "--candles", f"ETHUSDT={other}", "--council", council, *SETTINGS)
    expected = replayed(place, *argv)
    assert len(expected["trades"]) > (60 if council == "off" else 1)
    assert the_object(run(place, *argv)) == expected
    shown, kept = both(place)
    assert len(kept.exits) == len(expected["trades"])
    told_once(shown, kept)


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("council", ["rules"])
def test_recorded_hours(council: str, place: Place, test_data: Path) -> None:
    """Two months of Bybit's hours; the whole of its quarters of an hour is tests/faults, with CONCLAVE_FULL_WIRE=1."""
    whole = pd.read_parquet(test_data / "bybit" / "BTCUSDT-1h-20250924-20260721.parquet")
    whole.iloc[:1_500].to_parquet(place.folder / "hours.parquet")
    argv = ("--candles", "hours.parquet", "--council", council, "--set", "ema_period=50", "--set", "adx_min=15")
    expected = replayed(place, *argv)
    assert the_object(run(place, *argv, seconds=200)) == expected
    shown, kept = both(place)
    assert len(kept.exits) == len(expected["trades"]) > 0
    told_once(shown, kept)


def waterfall() -> Bars:
    """A long rise, then three bars down by twenty each; volume comes back on the third: a LONG edge in a fall.

    The mean of a hundred bars is far below and still rises, so that the filter says LONG; the range is ten, so
    that the fall is more than four ATR; the close is below bands of one deviation over five bars.
    """
    rise, fall, after = 400, 3, 20
    steps = np.array([5.0] * rise + [-20.0] * fall + [1.0] * after)
    closes = 1_000 + np.cumsum(steps)
    opens = np.concatenate(([1_000.0], closes[:-1]))
    volume = 1e6 * 0.97 ** np.arange(len(steps))
    volume[rise + fall - 1] = 1e7
    return {
        "timestamp": MIDNIGHT + np.arange(len(steps), dtype=np.int64) * 3_600_000,
        "open": opens,
        "high": np.maximum(opens, closes) + 2.5,
        "low": np.minimum(opens, closes) - 2.5,
        "close": closes,
        "volume": volume,
    }


@pytest.mark.parametrize("council", ["off", "rules"])
def test_a_planted_waterfall_is_refused_in_words(council: str, place: Place) -> None:
    """The anti-knife guard rejects the one candidate, and its card says why; no order, no fill, no trade."""
    write_candles(place.folder / "fall.csv", waterfall())
    changes = ("ema_period=100", "adx_min=0", "rsi_long_max=100", "bb_period=5", "bb_std=1", "volume_ma_period=5")
    argv = ("--candles", "fall.csv", "--council", council, *(w for each in changes for w in ("--set", each)))
    assert the_object(run(place, *argv))["trades"] == []
    with phone(place) as only:
        messages = bot(only.messages())
    (card,) = [headline(each) for each in messages if "REJECTED" in headline(each)]
    assert "REJECTED #1 LONG BTC by guard" in card
    assert "falling knife: closed below the bands after a drop of" in card
    assert "ATR in 3 bars" in card
    assert [each for each in messages if "filled" in headline(each) or "APPROVED" in headline(each)] == []
