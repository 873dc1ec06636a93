"""The line breaks while an entry rests and fills on the exchange: afterwards the bot knows it, within seconds.

The market does not wait for anybody here: a bar lasts little more than a second. CONCLAVE_FULL_WIRE=1 breaks the
line for a minute, and in more ways.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import pytest

from tests.faults.markets import BAR, STEADY, steady
from tests.faults.wire import FULL, Wire, alerts, figures, until, wire
from tests.journeys.program import Running
from tests.stand_ins.proxy import Fault, Kind

HISTORY = 300
BAR_SECONDS = 1.25
AGREED_SECONDS = 5.0  # after healing: the fill is booked and the stops are the same
STREAMING_SECONDS = 10.0  # after healing: everything works as before
ANSWER_SECONDS = 3.0
TOLD_SECONDS = 20.0
AWAY, BACK = "cannot be reached", "answers again"
STREAMS = ("/v5/private", "/v5/public/linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A way for the line to break, for how long, and whether live sockets break with it.

    `told`: so long that the owner must hear of it; a shorter one may pass in silence.
    """

    fault: Fault
    seconds: float
    sockets: bool = False
    told: bool = False


def seconds(here: float, full: float) -> float:
    """How long, in CI and when everything is to be proved."""
    return full if FULL else here


OUTAGES = {
    "refused": Outage(fault=Fault(Kind.REFUSE), seconds=seconds(8.5, 60), told=True),
    "silence": Outage(fault=Fault(Kind.SILENT), seconds=seconds(6, 60), told=FULL),
    "silence-lost": Outage(fault=Fault(Kind.SILENT, lost=True), seconds=seconds(0, 60), told=True),
    "503": Outage(fault=Fault(Kind.STATUS, status=503), seconds=seconds(3, 60), sockets=True, told=FULL),
    "10006": Outage(
        fault=Fault(Kind.RET_CODE, path="/v5/", ret_code=10006, ret_msg="Too many visits.", reset_ms=-5_000),
        seconds=seconds(2, 60),
    ),
    "html": Outage(fault=Fault(Kind.HTML), seconds=seconds(2, 60), sockets=True, told=FULL),
}
NAMES = [name for name, outage in OUTAGES.items() if outage.seconds]


def nothing(_: Wire) -> None:
    """The line is whole."""


@contextmanager
def trading(folder: Path, *, before: Callable[[Wire], None] = nothing) -> Iterator[tuple[Wire, Running]]:
    """A market that runs and a bot on it, which is asked to leave at the end and does so in order.

    `before` is done to the line before the bot is started.
    """
    live = int((TOLD_SECONDS + OUTAGES["refused"].seconds + 90) / BAR_SECONDS)
    candles = steady(folder, HISTORY + live)
    speed = BAR.total_seconds() / BAR_SECONDS
    argv = ("run", "--council", "off", "--no-dashboard")
    with wire(folder, candles, STEADY, speed=speed, history=HISTORY) as line:
        before(line)
        with line.bot.place.start(*argv, *line.settings) as running:
            yield line, running
            assert running.process.poll() is None, f"it died: {running.err[-3000:]}"
            code, _ = running.leave()
            assert code == 0, running.err[-3000:]
            assert "Traceback" not in running.err, running.err[-3000:]


def unfilled(line: Wire, running: Running) -> str:
    """Wait for an entry in a bar that has opened, whose end will fill it; its orderLinkId."""
    order = running.until(line.books.resting, 40, "resting entry")
    running.until(lambda: line.books.bar() >= int(order["createdTime"]), 10, "bar after the decision")
    return str(order["orderLinkId"])


def agree(line: Wire, link: str) -> bool:
    """Is the fill in the bot's books, and its stop where the exchange has it?"""
    position = line.books.position()
    if position is None or not line.bot.filled(link):
        return False
    return Decimal(position["size"]) == line.bot.filled(link) and Decimal(position["stopLoss"]) == line.bot.stop()


def streaming(line: Wire) -> bool:
    """Has the bot both its streams?"""
    sockets = line.proxy.seen().sockets
    return all(path in sockets and sockets[path].live > 0 for path in STREAMS)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", NAMES)
def test_an_entry_fills_behind_a_broken_line(name: str, tmp_path: Path) -> None:
    """Within five seconds of healing the fill is booked and the stops agree; nothing is sent twice or said twice."""
    outage = OUTAGES[name]
    with trading(tmp_path) as (line, running):
        link = unfilled(line, running)
        line.proxy.fault(outage.fault)
        if outage.sockets:
            line.proxy.reset()
        began = time.monotonic()
        position = until(line.books.position, 10, "fill on the exchange", pause=0.05)
        assert Decimal(position["stopLoss"]) > 0, "a position without a stop"
        if name != "10006":  # there the streams are alive
            assert line.bot.filled(link) == 0, "the line was not broken"
        answer, took = running.ask("/status")
        assert answer
        assert took < ANSWER_SECONDS, "the chat waits for the exchange"
        if outage.told:
            running.until(lambda: alerts(running, AWAY), TOLD_SECONDS, "message of the outage")
        told_after = time.monotonic() - began
        time.sleep(max(0.0, began + outage.seconds - time.monotonic()))  # that is how long it lasts
        line.proxy.heal()
        healed = time.monotonic()
        running.until(lambda: agree(line, link), 30, "agreement with the exchange")
        agreed_after = time.monotonic() - healed
        running.until(lambda: streaming(line), 60, "streams")
        streams_after = time.monotonic() - healed
        closes = line.bot.closes()
        running.until(lambda: line.bot.closes() > closes + 1, 10, "next closes")
        running.until(lambda: len(alerts(running, AWAY)) == len(alerts(running, BACK)), 10, "message that it is back")
        assert len(alerts(running, AWAY)) <= 1, "it was said again and again"
        seen = line.accepted_once()
        line.orders_once()
        figures(
            outage=name,
            lasted=round(healed - began, 1),
            told_after=round(told_after, 1) if outage.told else "-",
            told=len(alerts(running, AWAY)),
            agreed_after=round(agreed_after, 2),
            streams_after=round(streams_after, 2),
            connections=seen.connections,
            **{f"hit_{kind}": count for kind, count in seen.hits.items()},
        )
        assert seen.hits or outage.fault.kind is Kind.SILENT, "nothing met the fault"
        assert agreed_after <= AGREED_SECONDS
        assert streams_after <= STREAMING_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["refused", "silence", "503", "html"] if FULL else ["refused"])
def test_nobody_there_at_the_start(name: str, tmp_path: Path) -> None:
    """The exchange cannot be reached when the program starts: it stays up, says so once, and trades once it can."""

    def broken(line: Wire) -> None:
        line.proxy.fault(OUTAGES[name].fault)

    with trading(tmp_path, before=broken) as (line, running):
        running.until(lambda: AWAY in running.err, 30, "word of it on stderr")
        line.proxy.heal()
        healed = time.monotonic()
        running.until(lambda: line.bot.closes() > 0, 20, "first close")
        working_after = time.monotonic() - healed
        link = unfilled(line, running)
        running.until(lambda: agree(line, link), 10, "entry")
        assert running.err.count(AWAY) == 1
        line.accepted_once()
        figures(start=name, working_after=round(working_after, 1))
        assert working_after <= STREAMING_SECONDS


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_closes_go_on_without_the_public_stream(tmp_path: Path) -> None:
    """Sockets for prices are refused, requests are answered: bars are asked for, stops trail and exits are due."""
    with trading(tmp_path) as (line, running):
        running.until(line.books.position, 40, "open position")
        line.proxy.fault(Fault(Kind.NO_UPGRADE, path="/v5/public", status=502))
        assert line.proxy.reset("/v5/public") == 1
        closes = line.bot.closes()
        until(lambda: line.bot.closes() > closes + 2, 10, "closes that were asked for", pause=0.1)
