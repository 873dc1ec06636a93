"""What a newcomer sees in the first three minutes: everything that the program is about, and not a flood of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot.settings import read_config
from research.synthetic import START, synthetic
from tests.journeys.chatlog import bot
from tests.journeys.program import Place, headline
from tests.structure import ROOT
from trading.model import utc

FASTER = 4  # than the demo: three minutes in three quarters of one
SECONDS = 180
MESSAGES_A_MINUTE = 12
KINDS = {
    "an approval": r" APPROVED #",
    "a fill": r" filled ",
    "a rejection by the anti-knife guard": r" REJECTED #.* by guard: (falling knife|rocket|anti-knife)",
    "a rejection by the council": r" REJECTED #.* by council",
    "a trailing exit": r" CLOSED .* trailing stop",
    "a loss": r" CLOSED \w+ -[\d.,]+ USDT",
}


@pytest.mark.slow
def test_the_first_three_minutes_show_everything(tmp_path: Path) -> None:
    """On the shipped market at the shipped pace (here four times as fast), on every fresh start."""
    speed = read_config(ROOT / "config.json").market.speed * FASTER
    with Place(folder=tmp_path).start("run", "--no-dashboard", "--speed", f"{speed:g}") as running:

        def seen() -> set[str]:
            lines = [headline(each) for each in bot(running.messages())]
            return {kind for kind, words in KINDS.items() if any(re.search(words, line) for line in lines)}

        running.until(lambda: "Conclave starts" in str(running.messages()), 20, "start")
        running.until(lambda: seen() == set(KINDS), SECONDS / FASTER, "sight of everything")
        texts = [each for each in bot(running.messages()) if not each["photo"]]
        assert len(texts) <= MESSAGES_A_MINUTE * SECONDS / 60


def test_there_are_four_hundred_days_before_the_start() -> None:
    """Enough for the slowest indicator, and for a backtest."""
    import main

    config = read_config(ROOT / "config.json")
    series = synthetic("BTCUSDT", seed=config.market.seed, bars=main.WARM_UP_BARS + 1)
    assert (utc(int(series.timestamp[main.WARM_UP_BARS])) - START).days >= 400
