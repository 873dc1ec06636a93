"""The dashboard: every size exact, every text inert, every number true, and nothing of it hurts trading."""

from __future__ import annotations

import asyncio
import io
import logging
import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from bot.cards import strongest_no
from bot.dashboard import Dashboard
from bot.dashboard.cells import COLOURS, NO_COLOURS, Look, chart, plot
from bot.dashboard.layout import compose
from bot.dashboard.story import Market, Picture, Story, Tally, summed
from bot.screen import LogLine
from bot.terminal import beside
from storage.memory import MemoryJournal
from tests.bot import stage
from tests.bot.stage import NOON, a_status, a_verdict
from tests.bot.test_terminal import HOSTILE, Glass, closed, filled, until
from trading import events as ev
from trading.model import OrderSide, Purpose, Side
from trading.orders import OrderState
from trading.status import EntryView, OrderView, PositionView, Status

ROOT = Path(__file__).resolve().parents[2]
SIZES = [(80, 24), (160, 48), (60, 20), (120, 30), (100, 12), (45, 17), (33, 9), (20, 5), (7, 3), (1, 1), (250, 80)]


def a_position(**changes: Any) -> PositionView:
    ahead = {
        "take_profit": Decimal(65000),
        "mark": Decimal(64000),
        "unrealised": Decimal("7.08"),
        "r": 0.776,
        "best_r": 1.0,
    }
    return stage.a_position(**(ahead | changes))


ENTRY = EntryView(
    symbol="ETHUSDT",
    side=Side.SHORT,
    verdict_id=215,
    qty=Decimal("0.43"),
    price=Decimal(2412),
    stop=Decimal(2441),
    bars_left=2,
)
TARGET = OrderView(
    symbol="BTCUSDT",
    purpose=Purpose.TAKE_PROFIT,
    side=OrderSide.SELL,
    qty=Decimal("0.012"),
    price=Decimal(65000),
    stop=None,
    since=NOON,
    state=OrderState.ACCEPTED,
    verdict_id=214,
)
ANSWERS = (
    ev.AgentAnswer(
        agent="quant", status="OK", vote="LONG", p_win=0.31, text="momentum has turned", against="volume is thin"
    ),
    ev.AgentAnswer(
        agent="strategist", status="OK", vote="BEARISH", p_win=0.18, text="lower highs", against="a hammer formed"
    ),
    ev.AgentAnswer(agent="risk_manager", status="TIMEOUT", vote="", p_win=None, text="", against=""),
)
REJECTED = a_verdict(
    216, approved=False, gate="council", side=Side.LONG, reasons=("The Strategist sees lower highs.",), answers=ANSWERS
)
BUSY = a_status(
    positions=(a_position(),),
    entries=(ENTRY,),
    orders=(TARGET,),
    symbols=("BTCUSDT", "ETHUSDT"),
    last_prices={"BTCUSDT": Decimal(64000)},
)


def a_story(*events: ev.Event, tally: Tally | None = None) -> Story:
    story = Story(tally or Tally())
    for event in events:
        story.hear(event, new=True)
    return story


def a_picture(status: Status = BUSY, story: Story | None = None, **changes: Any) -> Picture:
    told = story or a_story(filled(), REJECTED, closed())
    fields: dict[str, Any] = {
        "status": status,
        "now": NOON + timedelta(minutes=1),
        "speed": None,
        "chat": "http://127.0.0.1:8421",
        "markets": (
            Market(symbol="BTCUSDT", closes=(62_000.0, 63_000.0, 63_500.0), last=Decimal(64000)),
            Market(symbol="ETHUSDT", closes=(), last=None),
        ),
        "tally": told.tally,
        "peak": 10_100.0,
        "thoughts": told.thoughts,
        "feed": tuple(told.feed),
        "connections": (("public stream", True, "0.2s"), ("chat", False, "no answer for 95s")),
        "log": (LogLine(at=0.0, level=logging.WARNING, text="telegram_unreachable reason='timeout'"),),
        "alarm": LogLine(at=0.0, level=logging.WARNING, text="telegram_unreachable reason='timeout'"),
        "alarms": 3,
    }
    return Picture(**(fields | changes))


def a_look(*, encoding: str = "utf-8", **more: Any) -> Look:
    return Look.of(Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding), **more), UTC)


LOOK = a_look(force_terminal=True, color_system="truecolor")


def drawn(picture: Picture, columns: int = 80, lines: int = 24, look: Look = LOOK) -> list[str]:
    """The picture's lines as plain text; each is checked to be exactly as wide as the screen."""
    shown = ["".join(text for text, _, _ in line) for line in compose(picture, look, (columns, lines))]
    assert len(shown) == lines
    assert {cell_len(line) for line in shown} <= {columns}
    assert all(line.isprintable() for line in shown)
    return shown


# ---- what is shown -------------------------------------------------------------------------------


@pytest.mark.parametrize(("columns", "lines"), SIZES)
@pytest.mark.parametrize("status", [BUSY, a_status(), a_status(market_time=None, next_close=None, symbols=())])
def test_every_size_is_filled_exactly(columns: int, lines: int, status: Status) -> None:
    drawn(a_picture(status), columns, lines)
    drawn(a_picture(status, markets=(), thoughts=(), feed=(), connections=(), log=(), alarm=None), columns, lines)


@given(columns=st.integers(1, 220), lines=st.integers(1, 70), text=st.text(max_size=300))
def test_no_text_and_no_size_breaks_the_picture(columns: int, lines: int, text: str) -> None:
    drawn(hostile_picture(text), columns, lines)


def test_a_printed_screen_wraps_nowhere() -> None:
    """What rich makes of the lines is what was counted: it prints them as they are."""
    console = Console(file=io.StringIO(), width=80, height=24, record=True, force_terminal=True)
    for line in compose(a_picture(), LOOK, (80, 24)):
        console.print(*(text for text, _, _ in line), sep="", markup=False, highlight=False, emoji=False)
    printed = console.export_text().splitlines()
    assert len(printed) == 24
    assert printed == [line.rstrip() for line in drawn(a_picture())] or printed == drawn(a_picture())


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (160, 48)])
def test_everything_is_on_the_screen(columns: int, lines: int) -> None:
    """80 by 24 is complete: nothing the owner needs is only on a larger screen."""
    text = "\n".join(drawn(a_picture(), columns, lines))
    for fact in (
        " PAPER ",
        "http://127.0.0.1:8421",
        "21 Jul 12:01:00 UTC",
        "next close 16:00 in 3:59:00",
        "Equity 10,028.30 USDT",
        "drawdown 0.71%",
        "open +7.08 USDT",
        "+26.40 USDT",
        "3 won, 1 lost",
        "+17.30 USDT",
        "+0.17%",
        "+1.9R",
        "BTC  64,000",
        "+3.23%",
        "BTC  LONG    0.012  at 63,410  stop 62,650  2.11% away",
        "+0.8R",
        "ETH  SHORT",
        "rests 2 bars",
        "TARGET",
        "at 65,000",
        "#216 LONG ETH REJECTED by council",
        "LONG 0.31",
        "BEARISH 0.18",
        "TIMEOUT",
        "lower highs",
        "closed by trailing +17.30 USDT +1.90R",
        "entry sell 0.43 at 2,412",
        "GATES OPEN",
        "public stream 0.2s",
        "chat no answer for 95s",
        "telegram_unreachable",
        "Ctrl-C",
    ):
        assert fact in text, fact


def test_accelerated_time_has_no_countdown() -> None:
    text = drawn(a_picture(speed=28_800.0))
    assert "21 Jul 2026 12:01 UTC  next close 16:00" in text[0]
    assert "28,800× real time" in text[1]
    assert "as fast as it goes" in drawn(a_picture(speed=0.0))[1]


def test_a_fast_market_is_not_shown_ahead_of_the_next_close() -> None:
    """Its clock may be bars ahead of what has been dealt with."""
    assert "21 Jul 2026 16:00 UTC  next close 16:00" in drawn(a_picture(now=NOON + timedelta(days=1), speed=9e9))[0]


def test_a_close_that_does_not_come_is_overdue() -> None:
    assert "overdue 0:05:30" in drawn(a_picture(now=NOON + timedelta(hours=4, seconds=330)))[0]


def test_a_pause_is_loud_and_says_how_to_end_it() -> None:
    paused = a_status(paused=True, gates=("paused: /resume takes entries again",), badge="LIVE")
    text = drawn(a_picture(paused))
    assert " LIVE  PAUSED: no new entries" in text[0]
    assert any("GATES SHUT paused: /resume takes entries again" in line for line in text)
    bar = compose(a_picture(paused), LOOK, (80, 24))[0]
    assert bar[0].style == COLOURS.real
    assert bar[1].style == COLOURS.paused


def test_a_lost_stream_is_a_shut_gate() -> None:
    text = "\n".join(drawn(a_picture(replace(BUSY, lost="no frame for 12 s"))))
    assert "GATES SHUT the exchange is not heard: no frame for 12 s" in text


def test_many_gates_are_listed_where_there_is_room() -> None:
    gates = tuple(f"{symbol}USDT: cooling down after a loss" for symbol in ("BTC", "ETH", "SOL", "XRP", "ADA"))
    text = drawn(a_picture(a_status(gates=gates)), 100, 40)
    assert all(any(line.startswith(f" {gate}") for line in text) for gate in gates)


def test_what_is_not_known_is_a_dash() -> None:
    """Without the trades before the start there is no total; without a price no change."""
    text = drawn(replace(a_picture(), tally=None))
    total = next(line for line in text if line.startswith(" Total"))
    assert total.split()[1:4] == ["–", "USDT", "–"]
    assert "0.0R" not in total
    assert next(line for line in text if line.startswith(" ETH")).split() == ["ETH", "–", "–"]


def test_a_position_without_a_stop_says_so() -> None:
    text = "\n".join(drawn(a_picture(a_status(positions=(a_position(stop=Decimal(0)),)))))
    assert "NO STOP" in text


def test_what_does_not_fit_is_counted() -> None:
    many = tuple(a_position(symbol=f"C{place}USDT", verdict_id=place) for place in range(30))
    text = "\n".join(drawn(a_picture(a_status(positions=many))))
    assert "30 open" in text
    assert "more" in text


def test_a_muted_symbol_is_marked() -> None:
    market = Market(symbol="BTCUSDT", closes=(), last=None, muted=True)
    assert any("BTC (muted)" in line for line in drawn(a_picture(markets=(market,))))


def test_a_larger_screen_tells_more() -> None:
    """Arguments of each agent, a chart of several lines, the log's last lines."""
    text = "\n".join(drawn(a_picture(), 160, 48))
    assert "momentum has turned" in text
    assert "no: lower highs" in text
    assert "62,000 – 64,000 in 3 bars" in text
    assert "momentum has turned" not in "\n".join(drawn(a_picture()))


# ---- hostile texts -------------------------------------------------------------------------------


def hostile_picture(text: str) -> Picture:
    """Everything that could come from outside says this."""
    answer = ev.AgentAnswer(agent=text, status="OK", vote=text, p_win=0.5, text=text, against=text)
    verdict = a_verdict(
        1, symbol=text, approved=False, gate=text, reasons=(text, text), answers=(answer, replace(answer, status=text))
    )
    story = a_story(verdict, ev.AlertRaised(at=NOON, kind="x", text=text), filled(symbol=text))
    status = a_status(
        badge=text,
        gates=(text, text),
        lost=text,
        positions=(a_position(symbol=text, exit_due=text),),
        entries=(replace(ENTRY, symbol=text),),
        symbols=(text,),
    )
    return a_picture(
        status,
        story,
        chat=text,
        markets=(Market(symbol=text, closes=(1.0, math.nan, 2.0), last=Decimal(2)),),
        connections=((text, False, text),),
        log=(LogLine(at=0.0, level=logging.ERROR, text=text),),
        alarm=LogLine(at=0.0, level=logging.ERROR, text=text),
    )


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_hostile_texts_are_inert(columns: int, lines: int) -> None:
    """No escape, no line break, no change of direction gets through; markup is shown as it was written."""
    text = "".join(drawn(hostile_picture(HOSTILE), columns, lines))
    assert "owned" not in text
    assert not {"\u202e", "\u200d", "\u05e9", "\u0301"} & set(text)
    if columns >= 80:
        assert "[red]no[/red]" in text


# ---- simple terminals ----------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_other_encodings_get_plain_characters(encoding: str, columns: int, lines: int) -> None:
    look = a_look(encoding=encoding, force_terminal=True)
    for picture in (a_picture(), hostile_picture(f"{HOSTILE} 漢字 漢字")):
        assert all(line.isascii() for line in drawn(picture, columns, lines, look))


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    look = a_look(force_terminal=True, color_system="truecolor")
    assert look.palette is NO_COLOURS
    styles = [style for line in compose(a_picture(), look, (80, 24)) for _, style, _ in line if style]
    assert all(style.color is None and style.bgcolor is None for style in styles)


# ---- the parts -----------------------------------------------------------------------------------


def test_trades_are_summed_by_day() -> None:
    """The day's R is that of the latest day; a trade that is told late does not turn it back."""
    told = summed([closed(1.9, "17.3"), closed(-1.0, "-9", days=1), closed(0.5, "4", days=1), closed(3.0, "20")])
    assert (told.trades, told.wins, told.pnl) == (4, 3, Decimal("32.3"))
    assert told.r == pytest.approx(4.4)
    assert told.day_r == pytest.approx(-0.5)


def test_yesterdays_r_is_not_todays() -> None:
    tally = summed([closed(1.9, "17.3", days=-1)])
    today = next(line for line in drawn(replace(a_picture(a_status(day_trades=0)), tally=tally)) if "Today" in line)
    assert "+0.0R" in today


def test_results_before_the_start_are_not_counted_twice() -> None:
    """History fills the feed and the fates; the sum of what was before comes from outside."""
    story = Story(Tally())
    story.hear(REJECTED, new=False)
    story.hear(closed(verdict_id=216), new=False)
    assert story.tally == Tally()
    assert [thought.fate for thought in story.thoughts] == ["closed +1.9R"]
    assert len(story.feed) == 1


@pytest.mark.parametrize(
    ("answers", "no"),
    [
        (ANSWERS, "lower highs"),
        (ANSWERS[:1], "volume is thin"),
        (ANSWERS[2:], ""),
        ((replace(ANSWERS[0], vote="NEUTRAL"),), "momentum has turned"),
        ((replace(ANSWERS[1], vote="CHOPPY"), ANSWERS[0]), "volume is thin"),
        ((), ""),
    ],
)
def test_the_strongest_no_speaks_against_the_trade(answers: Sequence[ev.AgentAnswer], no: str) -> None:
    """From an opponent its case, from a friend its doubt; where all are undecided, their case for that."""
    assert strongest_no(answers, Side.LONG) == no


def test_charts_show_what_is_there() -> None:
    assert chart([1, 2, 3, 8], 10) == ["▁▂▃█"]
    assert chart([5, 5], 10) == ["▄▄"]
    assert chart([], 10, 2) == ["", ""]
    assert chart([0, 16], 10, 2) == [" █", "▁█"]
    assert plot([0, 1, 0, 1], 2, 1) == ["⣸⣿"]
    assert plot([0, 3], 2, 1) == ["⣠⠞"]
    assert plot([math.nan], 2, 1) == ["  "]


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60), st.integers(0, 40), st.integers(1, 6))
def test_charts_keep_their_size(values: list[float], width: int, height: int) -> None:
    assert len(chart(values, width, height)) == height
    assert all(len(line) <= width for line in chart(values, width, height))
    assert [len(line) for line in plot(values, width, height)] == [width] * height


# ---- on a terminal -------------------------------------------------------------------------------


class Run:
    """A program that can be looked at: `status` and the journal may be changed while it is shown."""

    def __init__(self, glass: Glass) -> None:
        self.glass = glass
        self.journal = MemoryJournal(keep=None)
        self.status: Callable[[], Status] = lambda: BUSY
        self.lines: list[str] = []

    def look(self) -> Status:
        return self.status()

    def dashboard(self, **changes: Any) -> Dashboard:
        fields: dict[str, Any] = {
            "status": self.look,
            "journal": self.journal,
            "after": 0,
            "trades": (),
            "connections": lambda: [("chat", True, "1s")],
            "closes": lambda _: [62_000.0, 63_000.0],
            "peak": lambda: 10_100.0,
            "now": lambda: NOON,
            "chat": "http://127.0.0.1:8421",
            "speed": None,
            "zone": UTC,
            "show": self.lines.append,
            "console": Console(file=self.glass.file, force_terminal=True, color_system="truecolor"),
        }
        return Dashboard(**(fields | changes))


@pytest.fixture
def run() -> Iterator[Run]:
    glass = Glass()
    yield Run(glass)
    glass.close()


async def test_it_starts_repaints_and_gives_the_terminal_back(run: Run) -> None:
    """What happens appears, a new size is filled, and at the end the first screen says how it stands."""
    run.glass.look()
    async with beside(run.dashboard()):
        await until(lambda: "GATES OPEN" in run.glass.text)
        assert len(run.glass.lines) == 24
        await run.journal.append([closed()])
        await until(lambda: "closed by trailing" in run.glass.text)
        await until(lambda: "+1.9R" in run.glass.text)
        run.status = lambda: replace(BUSY, paused=True, gates=("paused: /resume takes entries again",))
        await until(lambda: "PAUSED" in run.glass.lines[1])
        run.glass.resize(120, 40)
        await until(lambda: len(run.glass.lines) == 40)
        assert {cell_len(line) for line in run.glass.lines.values()} == {120}
    await until(lambda: "journal" in run.glass.main)
    assert not run.glass.taken()
    assert run.glass.echoes()
    stands = "PAPER: equity 10,028.30 USDT, today +26.40 USDT, 4 trades, 1 open with stops on the exchange."
    assert stands in run.glass.main
    assert "The next start carries on after entry 1 of the journal (21 Jul 12:00 of market time)." in run.glass.main
    assert run.lines == []


async def test_the_log_goes_into_the_picture(run: Run) -> None:
    run.glass.look()
    async with beside(run.dashboard()):
        await until(lambda: "no warning" in run.glass.text)
        logging.getLogger("test").warning("disk nearly full")
        await until(lambda: "WARNING disk nearly full" in run.glass.text)


async def test_nothing_is_written_while_nothing_changes(run: Run) -> None:
    """It looks, and lets the picture stand. Ages that only the status tells are no change."""
    looks: list[Status] = []

    def look() -> Status:
        looks.append(replace(BUSY, looked_age=float(len(looks))))
        return looks[-1]

    run.status = look
    run.glass.look()
    async with beside(run.dashboard()):
        await until(lambda: len(run.glass.lines) == 24 and "WARNING" not in run.glass.text and len(looks) > 1)
        run.glass.lines = dict.fromkeys(run.glass.lines, "")
        seen = len(looks)
        await until(lambda: len(looks) > seen + 3)
        assert set(run.glass.lines.values()) == {""}


async def test_it_carries_on_where_the_journal_is(run: Run) -> None:
    """What was before the start is in the feed, and in the results only as told from outside."""
    await run.journal.append([REJECTED, closed(), filled()])
    run.glass.look()
    async with beside(run.dashboard(after=3, trades=[closed(), closed(verdict_id=None)])):
        await until(lambda: "entry sell 0.43" in run.glass.text)
        await until(lambda: "#216" in run.glass.text)
        total = next(line for line in run.glass.lines.values() if line.startswith(" Total"))
        assert "+3.8R" in total


async def test_a_failure_ends_the_dashboard_and_nothing_else(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """The terminal is given back, it is said once, and plain lines go on where the picture was."""
    run.glass.look()
    async with beside(run.dashboard()):
        await run.journal.append([filled()])
        await until(lambda: "entry sell" in run.glass.text)
        run.status = lambda: a_status(no_such_field=1)
        await until(lambda: not run.glass.taken())
        await run.journal.append([closed()])
        await until(lambda: run.lines)
        await run.journal.append([a_verdict(217)])
        await until(lambda: len(run.lines) == 2)
    assert [line.split()[2] for line in run.lines] == ["#215", "#217"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no_such_field" in caplog.text


async def test_a_broken_journal_ends_it_too(run: Run) -> None:
    """The tail's failure is not lost in a task that nobody looks at."""

    class Broken(MemoryJournal):
        async def read(self, after: int, limit: int = 500) -> Any:
            if len(run.lines) == 0 and limit == 100:
                raise OSError("disk gone")
            return await super().read(after, limit)

    journal = Broken(keep=None)
    run.glass.look()
    async with beside(run.dashboard(journal=journal)):
        await until(run.glass.taken)
        await journal.append([filled()])
        await until(lambda: run.lines)
    assert not run.glass.taken()


async def test_a_terminal_that_takes_nothing_does_not_keep_the_program(run: Run) -> None:
    """Nobody reads what is written: the loop runs on, and leaving takes a second at most."""
    loop = asyncio.get_running_loop()
    os.set_blocking(run.glass.inner, True)
    async with beside(run.dashboard()):
        await asyncio.sleep(0.5)
        begun = loop.time()
    assert loop.time() - begun < 3
    run.glass.look()
    await until(lambda: "journal" in run.glass.main)


IN_A_TERMINAL = """
import asyncio, datetime, fcntl, pickle, signal, sys, termios
from rich.console import Console
from bot.dashboard import Dashboard
from bot.terminal import beside

class Silent:
    async def grown(self, after):
        await asyncio.Event().wait()

async def main():
    stop, status = asyncio.Event(), pickle.loads(bytes.fromhex(sys.argv[1]))
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
    dashboard = Dashboard(
        status=lambda: status, journal=Silent(), after=7, trades=None, connections=lambda: [], closes=lambda _: [],
        peak=lambda: 0.0, now=lambda: status.market_time, chat="", speed=None, zone=datetime.UTC, show=print,
        console=Console(file=sys.stdout, force_terminal=True),
    )
    async with beside(dashboard):
        await stop.wait()

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
asyncio.run(main())
"""


async def test_ctrl_z_gives_the_terminal_back_and_ctrl_c_leaves(run: Run) -> None:
    """Stopped, the first screen is there with its echo; continued, the picture is; left, the summary is."""
    run.glass.look()
    program = subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, pickle.dumps(BUSY).hex()],
        cwd=ROOT,
        stdin=run.glass.inner,
        stdout=run.glass.inner,
        stderr=run.glass.inner,
        start_new_session=True,
    )
    try:
        await until(lambda: "GATES OPEN" in run.glass.text or program.poll() is not None, 30)
        assert program.poll() is None, run.glass.main
        run.glass.type(b"keys that nobody reads\n")
        run.glass.type(b"\x1a")
        await until(lambda: os.waitpid(program.pid, os.WNOHANG | os.WUNTRACED)[0])
        await until(lambda: not run.glass.taken() and run.glass.echoes())
        run.glass.lines.clear()
        program.send_signal(signal.SIGCONT)
        await until(lambda: "GATES OPEN" in run.glass.text and run.glass.taken())
        run.glass.type(b"\x03")
        await until(lambda: program.poll() is not None)
    finally:
        program.kill()
    assert program.returncode == 0
    assert "The next start carries on after entry 7" in run.glass.main
    assert "keys" not in run.glass.main
    assert run.glass.echoes()


def test_rich_is_imported_only_for_a_picture() -> None:
    """Plain lines and the program's start do without it."""
    code = "import sys, bot.screen, bot.terminal; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
