"""kill -9 of the program with a position open, an entry resting, or an order written down and not sent yet.

A start like any other follows, and the end is that of an undisturbed run.
The moments are found by looking: at the exchange where it is a process of its own (its market waits while nobody
follows it), at the bot's books where it is inside the program. CONCLAVE_FULL_WIRE=1 kills twenty times each.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.markets import LIVELY, lively, words
from tests.faults.wire import FULL, Bot, figures, replayed, the_object, wire
from tests.journeys.program import Done, Place
from tests.stand_ins.proxy import Fault, Kind

BARS = 2_000 if FULL else 200
KILLS = 20 if FULL else 1
ARGV = ("run", "--speed", "0", "--council", "off", "--no-dashboard", "--json")
Moment = Callable[[], object]


class Killer:
    """Runs one command again and again and kills it at chosen moments; counts what it has done."""

    def __init__(self, bot: Bot, argv: tuple[str, ...]) -> None:
        self.bot = bot
        self.argv = argv
        self.kills = 0
        self._chance = random.Random(7)

    def kill_when(self, name: str, moment: Moment, still: Moment | None = None) -> None:
        """Kill it at such a moment, a few closes on from the last kill, until `still` says that it was one."""
        for _ in range(10):
            wanted = self.bot.closes() + self._chance.randrange(1, 8)
            with self.bot.place.start(*self.argv) as running:
                running.until(lambda n=wanted: self.bot.closes() >= n and moment(), 60, name)  # type: ignore[misc]
                running.kill()
            self.kills += 1
            if (still or moment)():
                return
        raise AssertionError(f"ten kills, none of them with this at stake: {name}")

    def kill_after_intent(self) -> None:
        """Let it die by itself between writing an order down and sending it."""
        place = self.bot.place
        armed = replace(place, env={**place.env, "CONCLAVE_CRASHPOINT": "after_intent"})
        done = armed.run(*self.argv)
        assert done.code == -signal.SIGKILL, f"no order was intended any more: {done.err[-2000:]}"
        intended = self.bot.rows("SELECT link_id FROM intents WHERE account = ? AND state = 'intended'")
        assert len(intended) == 1, "it died elsewhere"
        self.kills += 1

    def finish(self) -> Done:
        """Start it once more; it answers its owner, and comes to its end by itself."""
        with self.bot.place.start(*self.argv) as running:
            for command in ("/status", "/verdicts"):
                assert running.ask(command)[0]
            code = running.process.wait(timeout=90)
            return Done(code=code, out=running.out, err=running.err)


@pytest.mark.slow
@pytest.mark.timeout(1800 if FULL else 120)
def test_killed_beside_its_exchange(tmp_path: Path) -> None:
    """The exchange lives on in its own process and waits; it took every order once, and the end is `replay`'s."""
    with wire(tmp_path, lively(tmp_path, BARS), LIVELY, speed=0) as line:
        expected = line.replay("--council", "off")
        assert len(expected["trades"]) > BARS / 20
        killer = Killer(line.bot, (*ARGV, "--candles", str(line.candles), *line.settings))
        for _ in range(KILLS):
            killer.kill_when("open position", line.books.position)
            killer.kill_when("resting entry", line.books.resting)
            killer.kill_after_intent()
        found = the_object(killer.finish())
        assert found["trades"] == expected["trades"]
        assert found == expected
        seen = line.accepted_once()
        line.orders_once()
        line.bot.told_all(doubles=killer.kills)
        figures(kills=killer.kills, trades=len(expected["trades"]), orders=len(seen.orders))
    assert line.bot.place.run("db", "check").code == 0


@pytest.mark.slow
@pytest.mark.timeout(1800 if FULL else 120)
def test_killed_with_its_exchange(tmp_path: Path) -> None:
    """The exchange is inside the program and dies with it: its own books are durable, the end is the same."""
    place = Place(folder=tmp_path)
    bot = Bot(place=place)
    argv = ("--candles", str(lively(tmp_path, BARS)), "--council", "off", *words(LIVELY))
    expected = replayed(*argv)
    killer = Killer(bot, (*ARGV, *argv))
    for _ in range(KILLS):
        killer.kill_when("open position", bot.holding)
        if FULL:  # in CI beside its exchange is enough
            killer.kill_when("resting entry", bot.resting)
        killer.kill_after_intent()
    found = the_object(killer.finish())
    assert found["trades"] == expected["trades"]
    assert found == expected
    bot.told_all(doubles=killer.kills)
    figures(kills=killer.kills, trades=len(expected["trades"]))
    assert place.run("db", "check").code == 0


@pytest.mark.slow
def test_refused_after_the_kill(tmp_path: Path) -> None:
    """An order that was written down is sent at the next start and refused: that is its end, and the run goes on."""
    with wire(tmp_path, lively(tmp_path, 120), LIVELY, speed=0) as line:
        killer = Killer(line.bot, (*ARGV, "--candles", str(line.candles), *line.settings))
        killer.kill_after_intent()
        ((link,),) = line.bot.rows("SELECT link_id FROM intents WHERE account = ? AND state = 'intended'")
        refusal = Fault(Kind.RET_CODE, path="/v5/order/create", ret_code=110007, ret_msg="ab not enough for new order")
        line.proxy.fault(replace(refusal, times=1))
        done = killer.finish()
        assert [each.told for each in line.accepted_once().orders[link]] == ["110007"]
        assert len(the_object(done)["trades"]) > 2
        line.bot.told_all(doubles=killer.kills)


def test_a_moment_is_missed_when_it_is_over(tmp_path: Path) -> None:
    """The killer's own check: a moment that never comes fails by name."""
    killer = Killer(Bot(place=Place(folder=tmp_path)), ("replay", "--candles", "nowhere.csv"))
    with pytest.raises(AssertionError, match="it left with 2"):
        killer.kill_when("never", lambda: False)

