"""The terminal: plain lines that nothing can upset, and a screen that is given back as it was."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import io
import logging
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.screen import CaughtLog, Screen, can_be_drawn_on, caught_log
from bot.terminal import Terminal, beside, inert, line_of
from storage.memory import MemoryJournal
from tests.bot.stage import NOON, a_candidate, a_failure, a_testimony, a_verdict, an_answered, an_opinion
from trading import events as ev
from trading.model import ExitReason, OrderSide, Purpose, Side

HEBREW = "\u05e9\u05dc\u05d5\u05dd"
HOSTILE = (
    f"\x1b[2J\x1b]0;owned\x07[red]no[/red]\r\n\u202e{HEBREW}\u202c 🚀 👩\u200d👩\u200d👧 e\u0301 \x9b31m\x00" * 300
)


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    """Waits for it; fails when it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)


class Glass:
    """A pseudo terminal and who looks at it: `lines` is what stands there, `main` what the first screen got.

    It understands what a screen writes: places, clearing, the second screen, and nothing of colours.
    """

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self._outer, self.inner = pty.openpty()
        self.file = os.fdopen(os.dup(self.inner), "w", encoding="utf-8")
        self.resize(columns, lines)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._unread = ""
        self.lines: dict[int, str] = {}
        self.main = ""
        self._second = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def look(self) -> None:
        """From now on somebody reads."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._outer, self._read)

    def _read(self) -> None:
        self._unread += self._decoder.decode(os.read(self._outer, 65_536))
        whole = re.match(r"(?s:.*(?=\x1b[^A-Za-z]*$)|.*)", self._unread)
        assert whole is not None
        self._unread = self._unread[whole.end() :]
        for code, text in re.findall(r"(\x1b\[[0-9;?]*[A-Za-z])|([^\x1b]+)", whole[0]):
            self._take(code, text)

    def _take(self, code: str, text: str) -> None:
        if code in {"\x1b[?1049h", "\x1b[?1049l"}:
            self._second = code.endswith("h")
        elif code.endswith("J"):
            self.lines.clear()
        elif code.endswith("H"):
            self._row = int(code[2:].partition(";")[0])
            self.lines[self._row] = ""
        elif text and self._second:
            self.lines[self._row] += text
        else:
            self.main += text

    @property
    def text(self) -> str:
        return "\n".join(self.lines[row] for row in sorted(self.lines))

    def taken(self) -> bool:
        return self._second

    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self.inner)[3] & termios.ECHO)

    def type(self, keys: bytes) -> None:
        os.write(self._outer, keys)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._outer)
        self.file.close()
        os.close(self.inner)
        os.close(self._outer)


@pytest.fixture
def glass() -> Iterator[Glass]:
    """A terminal of 80 columns and 24 lines."""
    made = Glass()
    yield made
    made.close()


def filled(**changes: object) -> ev.OrderFilled:
    fields: dict[str, object] = {
        "at": NOON,
        "exec_id": "e1",
        "link_id": "l1",
        "order_id": "o1",
        "verdict_id": 215,
        "symbol": "ETHUSDT",
        "purpose": Purpose.ENTRY,
        "side": OrderSide.SELL,
        "qty": Decimal("0.43"),
        "price": Decimal("2412.00"),
        "fee": Decimal("0.2"),
        "maker": True,
        "bar_time": NOON,
    }
    return ev.OrderFilled(**(fields | changes))  # type: ignore[arg-type]


def closed(r: float = 1.9, pnl: str = "17.3", *, verdict_id: int | None = 215, days: float = 0) -> ev.TradeClosed:
    at = NOON + timedelta(days=days)
    return ev.TradeClosed(
        at=at,
        verdict_id=verdict_id,
        symbol="ETHUSDT",
        side=Side.SHORT,
        signal_time=at,
        entry_time=at,
        exit_time=at,
        entry_price=Decimal(2412),
        exit_price=Decimal("2371.77"),
        qty=Decimal("0.43"),
        pnl=Decimal(pnl),
        fees=Decimal("0.9"),
        funding=Decimal(0),
        risk_usdt=Decimal("8.7"),
        r=r,
        best_r=2.3,
        worst_r=-0.4,
        exit_reason=ExitReason.TRAILING,
        cash=Decimal("10017.3"),
    )


# ---- plain lines ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (filled(), "2026-07-21 12:00 #215 ETHUSDT entry sell 0.43 at 2,412"),
        (closed(), "2026-07-21 12:00 #215 ETHUSDT closed by trailing +17.30 USDT +1.90R"),
        (
            ev.StopMoved(
                at=NOON,
                symbol="ETHUSDT",
                verdict_id=None,
                old=Decimal("2441.0"),
                new=Decimal(2412),
                level_r=1,
                locked_r=0,
            ),
            "2026-07-21 12:00 ETHUSDT stop 2,441 -> 2,412",
        ),
        (
            ev.OrderDoubted(at=NOON, link_id="l1", symbol="ETHUSDT", reason="no reply"),
            "2026-07-21 12:00 ETHUSDT order in doubt: no reply",
        ),
        (
            ev.SettingsChanged(
                at=NOON, values={"risk_per_trade": 0.02}, old={"risk_per_trade": 0.01}, by="owner 1", command="c"
            ),
            "2026-07-21 12:00 settings changed by owner 1: risk_per_trade 0.01 -> 0.02",
        ),
        (
            a_candidate(),
            "2026-07-21 12:00 #215 SHORT ETHUSDT PROPOSED entry 2,412 stop 2,441, council strict debates",
        ),
        (an_answered(a_testimony()), "2026-07-21 12:00 #215 quant SHORT 0.61 in 3.2 s"),
        (
            an_answered(a_failure(twin=True, calls=()), None),
            "2026-07-21 12:00 asked by a person: quant TIMEOUT: no answer in 8 s, its rules twin votes instead",
        ),
        (an_opinion(), "2026-07-21 12:00 #215 ETHUSDT the models would have rejected it"),
        (
            an_opinion(approved=True, size_modifier=0.5),
            "2026-07-21 12:00 #215 ETHUSDT the models would have approved 50%",
        ),
        (
            ev.CouncilImpaired(at=NOON, agents=("quant",), text="quant: no answer"),
            "2026-07-21 12:00 COUNCIL IMPAIRED quant: no answer",
        ),
        (ev.CouncilRecovered(at=NOON, text="all answer"), "2026-07-21 12:00 council recovered: all answer"),
        (
            ev.CouncilModeChanged(at=NOON, mode="strict", old="rules", by="owner 1", command="c"),
            "2026-07-21 12:00 council rules -> strict, said owner 1",
        ),
        (
            ev.CommandDone(at=NOON, name="panic", done=False, found=("BTCUSDT is open",), by="owner 1", command="c"),
            "2026-07-21 12:00 /panic by owner 1 NOT done: BTCUSDT is open",
        ),
    ],
)
def test_a_line_says_what_happened(event: ev.Event, line: str) -> None:
    assert line_of(event) == line


def test_what_only_the_journal_needs_gives_no_line() -> None:
    """Marks come with every close: they would drown everything else."""
    mark = ev.EquityMarked(at=NOON, equity=1.0, cash=Decimal(1), exposed=False, closes={})
    assert line_of(mark) is None


def test_a_hostile_text_stays_on_its_line() -> None:
    line = line_of(ev.AlertRaised(at=NOON, kind="exchange", text=HOSTILE))
    assert line is not None
    assert line.isprintable()
    assert "owned" not in line
    assert len(line) < 450


@given(st.text())
def test_inert_text_is_printable_and_bounded(text: str) -> None:
    """Nothing in it moves the cursor, and making it inert again changes nothing."""
    shown = inert(text, 40)
    assert shown.isprintable()
    assert len(shown) <= 40
    assert inert(shown, 40) == shown


async def test_the_terminal_tells_what_came_after_its_start() -> None:
    journal, told = MemoryJournal(keep=None), list[str]()
    await journal.append([filled()])
    async with beside(Terminal(journal, 1, told.append)):
        await journal.append([closed(), a_verdict(216)])
        await until(lambda: len(told) == 2)
    assert [line.split()[2] for line in told] == ["#215", "#216"]


# ---- where a picture can be shown ----------------------------------------------------------------


def test_no_picture_off_a_terminal(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as file:
        assert not can_be_drawn_on(file, "xterm")
    assert not can_be_drawn_on(file, "xterm")  # closed
    assert not can_be_drawn_on(io.StringIO(), "xterm")


@pytest.mark.parametrize(("term", "drawn"), [("xterm", True), ("dumb", False), ("unknown", False), ("", False)])
def test_no_picture_on_a_simple_terminal(glass: Glass, term: str, drawn: bool) -> None:
    assert can_be_drawn_on(glass.file, term) is drawn


# ---- the screen ----------------------------------------------------------------------------------


async def test_the_screen_is_given_back_as_it_was(glass: Glass) -> None:
    """The second screen while it lasts, no echo, and the last words on the first one."""
    glass.look()
    screen = Screen(glass.inner)
    screen.open()
    screen.show(screen.size, lambda: ["one", "two"])
    await until(lambda: glass.text == "one\ntwo")
    assert glass.taken()
    assert not glass.echoes()
    await screen.close("good bye\n")
    await until(lambda: "good bye" in glass.main)
    assert not glass.taken()
    assert glass.echoes()


async def test_only_lines_that_differ_are_written(glass: Glass) -> None:
    """What stands there already is left alone; a new size draws everything anew."""
    glass.look()
    screen = Screen(glass.inner)
    screen.open()
    screen.show((80, 24), lambda: ["one", "two", "three"])
    await until(lambda: glass.text == "one\ntwo\nthree")
    glass.lines = {1: "", 2: "", 3: ""}
    await until(screen.ready)
    screen.show((80, 24), lambda: ["one", "TWO", "three"])
    await until(lambda: glass.text == "\nTWO\n")
    await until(screen.ready)
    screen.show((40, 24), lambda: ["one", "TWO", "three"])
    await until(lambda: glass.text == "one\nTWO\nthree")
    await screen.close()


async def test_a_terminal_that_takes_nothing_holds_up_nobody(glass: Glass) -> None:
    """Nobody reads: the loop goes on, and leaving gives up after a second."""
    screen = Screen(glass.inner)
    screen.open()
    screen.show((80, 24), lambda: ["x" * 100_000])
    begun = time.monotonic()
    await asyncio.sleep(0.05)
    assert not screen.ready()
    assert time.monotonic() - begun < 1
    await screen.close("good bye")
    assert time.monotonic() - begun < 4
    glass.look()  # the thread can end now
    await until(lambda: "good bye" in glass.main)


async def test_ctrl_s_does_not_keep_the_terminal(glass: Glass) -> None:
    """A terminal that was stopped by its user goes on when the program leaves."""
    glass.look()
    screen = Screen(glass.inner)
    screen.open()
    screen.show((80, 24), lambda: ["one"])
    await until(lambda: glass.text == "one")
    await until(screen.ready)
    glass.type(b"\x13")
    await until(lambda: not select.select([], [glass.inner], [], 0)[1])  # it has come through
    screen.show((80, 24), lambda: ["two"])
    await asyncio.sleep(0.05)
    assert glass.text == "one"
    await screen.close("good bye\n")
    await until(lambda: "good bye" in glass.main)
    assert not glass.taken()


async def test_what_breaks_in_the_thread_is_raised_in_the_loop(glass: Glass) -> None:
    glass.look()
    screen = Screen(glass.inner)
    screen.open()
    screen.show((80, 24), lambda: [str(1 // 0)])
    with pytest.raises(ZeroDivisionError):
        await until(screen.ready)
    await screen.close()
    await until(lambda: not glass.taken() and glass.echoes())


# ---- the log meanwhile ---------------------------------------------------------------------------


@pytest.fixture
def on_glass(glass: Glass) -> Iterator[logging.Handler]:
    """A handler of the root logger that writes onto the terminal."""
    root, handler = logging.getLogger(), logging.StreamHandler(glass.file)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def test_the_log_is_caught_and_its_warnings_told_afterwards(glass: Glass, on_glass: logging.Handler) -> None:
    glass.look()
    log = logging.getLogger("test")
    with caught_log() as caught:
        log.info("quiet")
        log.warning("loud %s", "indeed")
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("failed")
        assert [line.text for line in caught.lines][:2] == ["quiet", "loud indeed"]
        assert caught.lines[2].text == "failed: ValueError('why')"
        assert caught.alarm == caught.lines[2]
        assert caught.alarms == 2
        assert glass.main == ""
    glass.file.flush()
    await until(lambda: "why" in glass.main)
    assert "loud indeed" in glass.main
    assert "quiet" not in glass.main
    assert on_glass in logging.getLogger().handlers


def test_a_record_that_cannot_be_put_into_words_is_kept_all_the_same() -> None:
    caught = CaughtLog()
    caught.emit(logging.LogRecord("test", logging.INFO, __file__, 1, "broken %d", ("number",), None))
    assert "broken %d" in caught.lines[0].text


def test_secrets_stay_out_of_the_caught_log_too(on_glass: logging.Handler) -> None:
    """The filters of the handlers that it stands in for work on."""

    def redact(record: logging.LogRecord) -> bool:
        record.msg = str(record.msg).replace("secret", "***")
        return True

    on_glass.addFilter(redact)
    with caught_log() as caught:
        logging.getLogger("test").warning("the secret word")
    assert caught.lines[0].text == "the *** word"


def test_a_log_that_goes_elsewhere_is_left_alone(tmp_path: Path) -> None:
    """A handler that writes into a file keeps writing."""
    handler = logging.FileHandler(tmp_path / "log")
    logging.getLogger().addHandler(handler)
    try:
        with caught_log() as caught:
            logging.getLogger("test").warning("both")
        assert caught.lines[0].text == "both"
        assert (tmp_path / "log").read_text() == "both\n"
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


async def test_prints_on_stderr_are_caught(glass: Glass) -> None:
    """What a library prints past the log does not tear the picture."""
    glass.look()
    before, sys.stderr = sys.stderr, glass.file
    try:
        with caught_log() as caught:
            sys.stderr.write("begun, ")
            sys.stderr.write("ended\nnext")
            assert [line.text for line in caught.lines] == ["begun, ended"]
        assert sys.stderr is glass.file
    finally:
        sys.stderr = before
    assert glass.main == ""
