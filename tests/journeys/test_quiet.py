"""A market without a signal: the chat says nothing by itself, and answers at once."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from tests.journeys.chatlog import bot
from tests.journeys.program import Place, Running

CLOSES = 60
NO_SIGNAL = "adx_min=100000"


def closes(place: Place) -> int:
    """How many closes have been dealt with."""
    if not (place.data / "conclave.db").exists():
        return 0
    with (
        contextlib.suppress(sqlite3.OperationalError),  # the tables are being made
        contextlib.closing(sqlite3.connect(f"file:{place.data / 'conclave.db'}?mode=ro", uri=True)) as db,
    ):
        return int(db.execute("SELECT count(*) FROM equity").fetchone()[0])
    return 0


def started(place: Place) -> Running:
    return place.start("run", "--no-dashboard", "--speed", "57600", "--set", NO_SIGNAL)


def test_a_quiet_market_is_quiet(tmp_path: Path) -> None:
    """Sixty closes and not a message after the first, nor an edit; what is asked is answered within a second."""
    place = Place(folder=tmp_path)
    with started(place) as running:
        running.until(lambda: closes(place) >= CLOSES, 60, f"{CLOSES} closes")
        said = bot(running.messages())
        assert [each["edit_date"] for each in said] == [None]
        answer, seconds = running.ask("/status")
        assert "waiting for a signal" in answer
        assert seconds < 1
        assert len(bot(running.messages())) == 2
        assert running.leave()[0] == 0
