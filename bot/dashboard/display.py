"""The dashboard on the terminal: it looks four times a second, and draws where something has changed.

What goes wrong here ends the dashboard and nothing else; the terminal is given back as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from functools import partial
from typing import Final

from rich.console import Console

from bot.dashboard.cells import Look, ansi, plainly
from bot.dashboard.layout import compose
from bot.dashboard.story import Market, Picture, Story, summed
from bot.screen import CaughtLog, Screen, Size, caught_log
from bot.terminal import Terminal, inert
from bot.text import moment, money
from trading import events as ev
from trading.ports import Journal
from trading.status import Status

_LOG: Final = logging.getLogger(__name__)
_PERIOD: Final = 0.25  # seconds between two looks at what has changed
_HISTORY: Final = 300  # events before the start that fill the feed
_CLOSES: Final = 240  # closes kept of a symbol: the widest chart


class Dashboard:
    """Draws the program on the terminal until it is cancelled; the same shape as `Terminal`.

    `status` tells how things stand, `now` the market's time, `peak` the highest equity so far and `closes` a symbol's
    last closes, oldest first: all from memory, four times a second. `connections` are rows of name, well or not, and
    age in words. `trades` are the finished ones up to the journal's entry `after`, None when they are not known.
    `speed` is market time per wall time, None where time is real. `show` takes a plain line: what is left when the
    dashboard cannot go on. The console's file must be a terminal (`screen.can_be_drawn_on`).
    """

    def __init__(
        self,
        *,
        status: Callable[[], Status],
        journal: Journal,
        after: int,
        trades: Sequence[ev.TradeClosed] | None,
        connections: Callable[[], Sequence[tuple[str, bool, str]]],
        closes: Callable[[str], Sequence[float]],
        peak: Callable[[], float],
        now: Callable[[], datetime],
        chat: str,
        speed: float | None,
        zone: tzinfo,
        show: Callable[[str], None],
        console: Console | None = None,
    ) -> None:
        self._status, self._connections, self._closes, self._peak, self._now = status, connections, closes, peak, now
        self._journal, self._after, self._seq = journal, after, after
        self._chat, self._speed, self._show = chat, speed, show
        self._console = console or Console()
        self._look = Look.of(self._console, zone)
        self._story = Story(None if trades is None else summed(trades))
        self._shown: tuple[Picture, Size] | None = None
        self._halted = False  # Ctrl-Z was pressed

    async def run(self) -> None:
        """Until it is cancelled. What goes wrong here ends the dashboard and nothing else: plain lines go on."""
        try:
            await self._draw()
        except Exception as error:  # noqa: BLE001  the one boundary: showing must never hurt trading
            _LOG.warning("dashboard_failed reason='%s' next='plain lines'", inert(repr(error)))
        await Terminal(self._journal, self._seq, self._show).run()

    async def _draw(self) -> None:
        with caught_log() as log, self._halting():
            tail = asyncio.create_task(self._listen(), name="dashboard")
            try:
                while True:
                    await self._on_screen(log, tail)
                    await self._halt()
            finally:
                tail.cancel()
                await asyncio.gather(tail, return_exceptions=True)

    async def _listen(self) -> None:
        """Fold the journal into the story, from a little before the start on."""
        seq = max(self._after - _HISTORY, 0)
        while True:
            await self._journal.grown(seq)
            for recorded in await self._journal.read(seq, limit=100):
                seq = recorded.seq
                self._story.hear(recorded.event, new=seq > self._after)
            self._seq = max(seq, self._after)

    async def _on_screen(self, log: CaughtLog, tail: asyncio.Task[None]) -> None:
        """Draw what has changed until somebody presses Ctrl-Z or cancels."""
        screen = Screen(self._console.file.fileno(), self._console.encoding)
        self._shown, last_words = None, ""
        screen.open()
        try:
            while not self._halted:
                if screen.in_front and screen.ready():
                    self._repaint(screen, log)
                done, _ = await asyncio.wait({tail}, timeout=_PERIOD)
                for ended in done:
                    ended.result()
        except asyncio.CancelledError:
            last_words = self._farewell()
            raise
        finally:
            await screen.close(last_words)

    def _repaint(self, screen: Screen, log: CaughtLog) -> None:
        shown = self._picture(log), screen.size
        if shown != self._shown:
            self._shown = shown
            screen.show(shown[1], partial(self._lines, *shown))

    def _lines(self, picture: Picture, size: Size) -> list[str]:
        """In the screen's thread."""
        return [ansi(line, self._console) for line in compose(picture, self._look, size)]

    def _picture(self, log: CaughtLog) -> Picture:
        real, now = self._speed is None, self._now()
        status = replace(self._status(), looked_age=None)  # an age is no news: the connections tell it in words
        return Picture(
            status=status,
            now=now.replace(microsecond=0) if real else now.replace(second=0, microsecond=0),
            speed=self._speed,
            chat=self._chat,
            markets=tuple(self._market(symbol, status) for symbol in status.symbols),
            tally=self._story.tally,
            peak=self._peak(),
            thoughts=self._story.thoughts,
            feed=tuple(self._story.feed),
            connections=tuple(self._connections()),
            log=tuple(log.lines),
            alarm=log.alarm,
            alarms=log.alarms,
        )

    def _market(self, symbol: str, status: Status) -> Market:
        closes = tuple(map(float, self._closes(symbol)[-_CLOSES:]))
        last, muted = status.last_prices.get(symbol), symbol in status.muted
        return Market(symbol=symbol, closes=closes, last=last, muted=muted)

    def _farewell(self) -> str:
        """How it stands and where it carries on: what is left on the terminal."""
        if self._shown is None:
            return ""
        status = self._shown[0].status
        at = status.market_time
        guarded = status.positions and all(each.stop for each in status.positions)
        where = f" ({moment(at, self._look.zone)} of market time)" if at else ""
        held = f"{len(status.positions)} open{' with stops on the exchange' if guarded else ''}"
        said = (
            f"{inert(status.badge)}: equity {money(status.equity, sign=False)}, today {money(status.day_pnl)},"
            f" {status.trades} trade{'' if status.trades == 1 else 's'}, {held}.\n"
            f"The next start carries on after entry {self._seq} of the journal{where}.\n"
        )
        return said if not self._look.ascii_only else plainly(said)

    @contextlib.contextmanager
    def _halting(self) -> Iterator[None]:
        """Ctrl-Z gives the terminal back before the program stops, where it would stop at all."""
        loop, asks = asyncio.get_running_loop(), signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL
        if asks:
            with contextlib.suppress(ValueError, RuntimeError):  # not in the main thread
                loop.add_signal_handler(signal.SIGTSTP, self._on_halt)
        try:
            yield
        finally:
            if asks:
                loop.remove_signal_handler(signal.SIGTSTP)

    def _on_halt(self) -> None:
        self._halted = True

    async def _halt(self) -> None:
        """Stop as the user wants; goes on once the program is continued."""
        self._halted = False
        os.kill(os.getpid(), signal.SIGSTOP)
