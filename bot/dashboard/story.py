"""What is shown: a `Picture`, frozen, is what is known at one moment; a `Story` is what it needs of the journal.

Nothing here knows how it looks; what is not known is None.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from bot.screen import LogLine
from bot.terminal import words_of
from bot.text import multiple
from trading import events as ev
from trading.model import ZERO, Purpose
from trading.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Finished trades summed up. `day_r` counts those of the UTC day `day`."""

    pnl: Decimal = ZERO
    r: float = 0.0
    trades: int = 0
    wins: int = 0
    day: str = ""
    day_r: float = 0.0

    def plus(self, trade: ev.TradeClosed) -> Tally:
        """One more trade."""
        day = max(self.day, f"{trade.at:%Y-%m-%d}")
        before = self.day_r if day == self.day else 0.0
        today = trade.r if f"{trade.at:%Y-%m-%d}" == day else 0.0
        return Tally(
            pnl=self.pnl + trade.pnl,
            r=self.r + trade.r,
            trades=self.trades + 1,
            wins=self.wins + (trade.pnl > 0),
            day=day,
            day_r=before + today,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One symbol: its last closes, oldest first, and the last price, None before there is one.

    `muted`: it gets no new entries.
    """

    symbol: str
    closes: tuple[float, ...]
    last: Decimal | None
    muted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Thought:
    """A decision and what became of it."""

    verdict: ev.VerdictReached
    fate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All that one look shows.

    `tally` is None when earlier results are not known; `peak` is the highest equity; `alarm` the last of `alarms`
    warnings and errors, `log` the last lines of any kind.
    """

    status: Status
    now: datetime
    speed: float | None
    chat: str
    markets: tuple[Market, ...]
    tally: Tally | None
    peak: float
    thoughts: tuple[Thought, ...]
    feed: tuple[ev.Event, ...]
    connections: tuple[tuple[str, bool, str], ...]
    log: tuple[LogLine, ...]
    alarm: LogLine | None
    alarms: int


def summed(trades: Sequence[ev.TradeClosed]) -> Tally:
    """Finished trades, oldest first, in one."""
    tally = Tally()
    for trade in trades:
        tally = tally.plus(trade)
    return tally


class Story:
    """What the picture needs of the journal: results, decisions with what became of them, the latest events."""

    def __init__(self, tally: Tally | None) -> None:
        self.tally = tally
        self.feed: deque[ev.Event] = deque(maxlen=100)
        self._verdicts: deque[ev.VerdictReached] = deque(maxlen=30)
        self._fates: OrderedDict[int, str] = OrderedDict()

    def hear(self, event: ev.Event, *, new: bool) -> None:
        """Fold one event in, newest last; only a `new` one counts in the results."""
        if isinstance(event, ev.VerdictReached):
            self._verdicts.appendleft(event)
        elif words_of(event) is not None:
            self.feed.appendleft(event)
        if isinstance(event, ev.TradeClosed) and new and self.tally is not None:
            self.tally = self.tally.plus(event)
        number = getattr(event, "verdict_id", None)
        if number is not None and (fate := _fate(event)):
            self._fates[number] = fate
            if len(self._fates) > 100:
                self._fates.popitem(last=False)

    @property
    def thoughts(self) -> tuple[Thought, ...]:
        """The last decisions, newest first."""
        return tuple(Thought(verdict=each, fate=self._fates.get(each.verdict_id, "")) for each in self._verdicts)


def _fate(event: ev.Event) -> str:
    """What this event makes of the decision behind it; empty when nothing."""
    if isinstance(event, ev.TradeClosed):
        return f"closed {multiple(event.r)}"
    if isinstance(event, ev.OrderFilled):
        return "open" if event.purpose is Purpose.ENTRY else ""
    if isinstance(event, ev.OrderCancelled):
        return "not filled" if event.purpose is Purpose.ENTRY else ""
    if isinstance(event, ev.OrderRefused):
        return "refused"
    return "in doubt" if isinstance(event, ev.OrderDoubted) else ""
