"""A terminal taken over whole, and the log meanwhile.

A `Screen` draws pictures on a terminal and gives it back as it was; while it lasts, `caught_log` keeps what is logged
or printed off it. Neither knows what is drawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import select
import signal
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

_ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the second screen, no cursor, no wrapping at the right edge
_LEAVE: Final = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_CLEAR: Final = "\x1b[0m\x1b[2J"
_LEAVING_SECONDS: Final = 1.0

Size = tuple[int, int]  # columns, lines
_Asked = tuple[Size, Callable[[], Sequence[str]]]


def can_be_drawn_on(stream: TextIO, term: str) -> bool:
    """Whether the stream is a terminal that can show a picture, with us in front. `term` is TERM's value."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return os.isatty(fd) and term not in {"", "dumb", "unknown"} and _in_front(fd)


def _in_front(fd: int) -> bool:
    """False for a job in the background of a shell: it would be stopped for touching the terminal."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # nobody controls jobs here
        return True


class Screen:
    """A terminal taken over whole. A thread of its own draws and writes.

    So a terminal that takes nothing (Ctrl-S, a hanging line) holds up nobody, and drawing costs the event loop nothing.
    Only lines that differ are written again. What is typed is neither shown nor left to the shell, and the keys that
    send signals keep working.
    """

    def __init__(self, fd: int, encoding: str = "utf-8") -> None:
        self._fd = fd
        self._encoding = encoding
        self._thread = threading.Thread(target=self._work, name="screen", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._left = asyncio.Event()
        self._wake = threading.Event()
        self._asked: _Asked | None = None
        self._size: Size = (0, 0)
        self._lines: Sequence[str] = ()
        self._last_words: str | None = None
        self._failure: Exception | None = None

    def open(self) -> None:
        """Take the terminal."""
        self._thread.start()

    @property
    def size(self) -> Size:
        """As it is now; never less than a column and a line."""
        columns, lines = os.get_terminal_size(self._fd)
        return max(columns, 1), max(lines, 1)

    @property
    def in_front(self) -> bool:
        """False while the program runs in the background of a shell."""
        return _in_front(self._fd)

    def ready(self) -> bool:
        """False while the last picture is still on its way. Raises what stopped the thread."""
        if self._failure is not None:
            raise self._failure
        return self._asked is None

    def show(self, size: Size, draw: Callable[[], Sequence[str]]) -> None:
        """Have `draw` called in the thread for the lines of a picture, as many as `size` says, and write them."""
        self._asked = size, draw
        self._wake.set()

    async def close(self, last_words: str = "") -> None:
        """Give the terminal back, then write `last_words` on it; gives up when it takes nothing for a second."""
        self._last_words = last_words
        self._wake.set()
        self._go_on()
        try:
            async with asyncio.timeout(_LEAVING_SECONDS):
                await self._left.wait()
        except TimeoutError:
            return
        finally:  # cancelled once more, the process may end any moment now
            self._thread.join(0.1)

    def _go_on(self) -> None:
        """Undo a Ctrl-S, or the terminal would stay as it is."""
        with contextlib.suppress(termios.error):
            if self.in_front:
                termios.tcflow(self._fd, termios.TCOOFF)
                termios.tcflow(self._fd, termios.TCOON)

    # ---- in the thread

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})  # put in the background meanwhile: no reason to stop
        try:
            with self._quiet_keys():
                self._write(_ENTER)
                try:
                    self._paint_on()
                finally:
                    self._write(_LEAVE + (self._last_words or ""))
        except Exception as error:  # noqa: BLE001  it is raised where the next picture is shown
            self._failure = error
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            self._loop.call_soon_threadsafe(self._left.set)

    @contextlib.contextmanager
    def _quiet_keys(self) -> Iterator[None]:
        """No echo of what is typed, and none of it is left to the shell."""
        kept, quiet = termios.tcgetattr(self._fd), termios.tcgetattr(self._fd)
        quiet[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSANOW, quiet)
        try:
            yield
        finally:
            termios.tcflush(self._fd, termios.TCIFLUSH)
            termios.tcsetattr(self._fd, termios.TCSANOW, kept)

    def _paint_on(self) -> None:
        while self._last_words is None:
            self._wake.wait(1.0)
            self._wake.clear()
            termios.tcflush(self._fd, termios.TCIFLUSH)  # a full input queue would swallow Ctrl-C
            if (asked := self._asked) is not None and self._last_words is None:
                self._paint(*asked)
                self._asked = None

    def _paint(self, size: Size, draw: Callable[[], Sequence[str]]) -> None:
        lines = draw()
        fresh = size != self._size
        known = () if fresh else self._lines
        changed = [
            f"\x1b[{row};1H{line}" for row, line in enumerate(lines, 1) if row > len(known) or line != known[row - 1]
        ]
        self._size, self._lines = size, lines
        self._write((_CLEAR if fresh else "") + "".join(changed))

    def _write(self, text: str) -> None:
        data = memoryview(text.encode(self._encoding, "replace"))
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody who shares the terminal has made it so
                select.select([], [self._fd], [], 1.0)


# ----------------------------------------------------------------------------------------------- the log meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A record of the log as the picture shows it; `at` is seconds since the epoch."""

    at: float
    level: int
    text: str


class CaughtLog(logging.Handler):
    """Keeps the last records instead of writing them on the terminal; `alarm` is the last of `alarms` warnings."""

    def __init__(self, keep: int = 30) -> None:
        super().__init__()
        self.lines: deque[LogLine] = deque(maxlen=keep)
        self.alarm: LogLine | None = None
        self.alarms = 0
        self._records: deque[logging.LogRecord] = deque(maxlen=20)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; its traceback shrinks to the exception's own words."""
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  whatever an argument's own __str__ raises
            text = f"a record of {record.name} that cannot be put into words: {record.msg!r}"
        error = record.exc_info[1] if record.exc_info else None
        self.keep(record.created, record.levelno, text if error is None else f"{text}: {error!r}")
        if record.levelno >= logging.WARNING:
            self._records.append(record)

    def keep(self, at: float, level: int, text: str) -> None:
        """Keep one line."""
        line = LogLine(at=at, level=level, text=text)
        self.lines.append(line)
        if level >= logging.WARNING:
            self.alarm = line
            self.alarms += 1

    def tell(self, handlers: Sequence[logging.Handler]) -> None:
        """Hand the last warnings on to those who would have shown them."""
        for record in self._records:
            for handler in handlers:
                handler.handle(record)


class _Caught(io.TextIOBase):
    """What is printed on stderr past the log: lines of the log as well."""

    def __init__(self, log: CaughtLog) -> None:
        self._log = log
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(str.strip, lines):
            self._log.keep(time.time(), logging.WARNING, line)
        return len(text)


@contextlib.contextmanager
def caught_log() -> Iterator[CaughtLog]:
    """While the block runs, nothing is logged or printed onto the terminal; its last warnings are, afterwards."""
    root, caught = logging.getLogger(), CaughtLog()
    replaced = [each for each in root.handlers if isinstance(each, logging.StreamHandler) and _on_terminal(each.stream)]
    for each in root.handlers:  # what keeps secrets out of one keeps them out of the other
        for one in each.filters:
            caught.addFilter(one)
    for each in replaced:
        root.removeHandler(each)
    root.addHandler(caught)
    elsewhere = not _on_terminal(sys.stderr)
    try:
        with contextlib.nullcontext() if elsewhere else contextlib.redirect_stderr(_Caught(caught)):
            yield caught
    finally:
        root.removeHandler(caught)
        for each in replaced:
            root.addHandler(each)
        caught.tell(replaced)


def _on_terminal(stream: object) -> bool:
    """Whether what is written there appears on a terminal."""
    try:
        return isinstance(stream, io.TextIOBase) and stream.isatty()
    except ValueError:  # closed
        return False
