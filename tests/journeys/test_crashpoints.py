"""The real process dies at every named crash point of a trade and is started again: the end is replay's."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.journeys.chatlog import extra, read, recorded, session
from tests.journeys.program import Place, phone
from tests.parity.series import MIDNIGHT, bars_from, walk, write_candles

BARS = 260
NAMES = (
    "before_intent",
    "after_intent",
    "after_send",
    "before_fill",
    "after_fill",
    "before_stop_move",
    "after_stop_move",
    "before_cancel",
    "after_cancel",
    "after_chat_send",
)
SETTINGS = {
    "ema_period": 10,
    "rsi_long_max": 100,
    "rsi_short_min": 0,
    "adx_period": 5,
    "adx_min": 0,
    "atr_period": 5,
    "sl_atr_multiplier": 1.5,
    "volume_ma_period": 2,
    "bb_period": 5,
    "entry_offset": 0.001,
    "entry_ttl_bars": 1,
    "trail_start_r": 0.5,
    "trail_step_r": 0.25,
}
WORDS = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_killed_at_a_named_point(name: str, tmp_path: Path) -> None:
    """SIGKILL at the point itself, then a start like any other: same trades, nothing twice, the chain whole."""
    rng = np.random.default_rng(8)
    series = bars_from(rng, walk(rng, BARS, start=2_000.0, vol=0.006), interval=15)
    series.bars["timestamp"] = MIDNIGHT + np.arange(BARS, dtype=np.int64) * series.interval_ms
    place = Place(folder=tmp_path)
    write_candles(tmp_path / "bars.parquet", series.bars)
    words = ("--candles", "bars.parquet", "--council", "off", "--json", *WORDS)
    expected = json.loads(place.run("replay", *words).out)
    assert len(expected["trades"]) > 5
    armed = replace(place, env={**place.env, "CONCLAVE_CRASHPOINT": name})
    killed = armed.run("run", "--speed", "0", "--no-dashboard", *words)
    assert killed.code == -signal.SIGKILL, f"{name} was never reached: {killed.err}"
    done = place.run("run", "--speed", "0", "--no-dashboard", *words)
    assert done.code == 0, done.err
    assert json.loads(done.out) == expected
    with phone(place) as only:
        shown = read(session(only.messages()))
    kept = recorded(place.data / "conclave.db")
    assert len(kept.exits) == len(expected["trades"])
    doubled = 0
    for told, held in ((shown.verdicts, kept.verdicts), (shown.fills, kept.fills), (shown.exits, kept.exits)):
        too_often, missing = extra(told, held)
        assert dict(missing) == {}, "a message was lost"
        doubled += too_often.total()
    assert doubled <= 1, "a kill doubles the message under way at most"
    assert place.run("db", "check").code == 0
