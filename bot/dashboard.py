"""The dashboard: the whole program on one screen of the terminal.

`compose` turns a `Picture` (what is known at one moment, frozen) into lines of exactly the screen's width; it is pure
and runs in the screen's own thread. What comes from outside passes through `inert` and is never read as markup.
An amount that is not known is a dash. Import this module only where a dashboard is shown: it needs rich.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache, partial
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.console import COLOR_SYSTEMS, Console
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from bot.cards import stance, strongest_no
from bot.terminal import CaughtLog, LogLine, Screen, Size, Terminal, caught_log, inert, words_of
from bot.text import UNKNOWN, duration, moment, money, multiple, percent, price, quantity
from trading import events as ev
from trading.model import ZERO, OrderSide, Purpose, Side
from trading.orders import OrderState
from trading.ports import Journal
from trading.status import EntryView, OrderView, PositionView, Status

_LOG: Final = logging.getLogger(__name__)
_PERIOD: Final = 0.25  # seconds between two looks at what has changed
_HISTORY: Final = 300  # events before the start that fill the feed
_CLOSES: Final = 240  # closes kept of a symbol: the widest chart
_WIDE: Final = 120  # columns from which two stand side by side
_TALL: Final = 20  # lines of a section from which it tells all it knows
_NO_PRICE: Final = 1e18
_GAP: Final = "  "

Line = list[Segment]


# -------------------------------------------------------------------------------------------------- what is shown


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


# ------------------------------------------------------------------------------------------------- how it looks


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Styles by what they mean."""

    plain: Style
    strong: Style
    faint: Style
    good: Style
    bad: Style
    warn: Style
    accent: Style
    title: Style
    bar: Style
    badge: Style
    real: Style
    paused: Style

    @classmethod
    def of(cls, styles: Mapping[str, str]) -> Palette:
        """From style definitions, for example `bold white on red`."""
        return cls(**{name: Style.parse(words) for name, words in styles.items()})

    def sign(self, value: Decimal | float) -> Style:
        """Profit or loss."""
        return self.good if value > 0 else self.bad if value < 0 else self.plain


COLOURS: Final = Palette.of(
    {
        "plain": "none",
        "strong": "bold",
        "faint": "dim",
        "good": "green",
        "bad": "red",
        "warn": "bold yellow",
        "accent": "cyan",
        "title": "bold cyan",
        "bar": "white on grey23",
        "badge": "bold black on cyan",
        "real": "bold bright_white on red",
        "paused": "bold black on yellow",
    }
)
# Signs and words carry the meaning where there are no colours.
NO_COLOURS: Final = Palette.of(
    {
        "plain": "none",
        "strong": "bold",
        "faint": "dim",
        "good": "none",
        "bad": "none",
        "warn": "bold",
        "accent": "none",
        "title": "bold",
        "bar": "reverse",
        "badge": "bold",
        "real": "bold",
        "paused": "bold reverse",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How everything is drawn: colours, the reader's zone, and the console whose words are wrapped."""

    console: Console
    zone: tzinfo = UTC
    palette: Palette = COLOURS
    ascii_only: bool = False

    @classmethod
    def of(cls, console: Console, zone: tzinfo) -> Look:
        """What this console can show."""
        coloured = console.color_system is not None and not console.no_color
        simple = not console.encoding.lower().replace("-", "").startswith("utf")
        return cls(console=console, zone=zone, palette=COLOURS if coloured else NO_COLOURS, ascii_only=simple)


BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_LIKENESS: Final = str.maketrans("▁▂▃▄▅▆▇█─│…–−×·●○“”’→▲▼", "_.,-~=+#-|~--x.*o\"\"'>^v")


def in_ascii(line: Line) -> Line:
    """The same line for a terminal that knows nothing else, cell by cell."""
    return [Segment(_plainly(text), style) for text, style, _ in line]


def _plainly(text: str) -> str:
    if text.isascii():
        return text
    alike = text.translate(_LIKENESS)
    return "".join(each if each.isascii() else "?" * cell_len(each) for each in alike)


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, an ellipsis showing where something was left off."""
    if cell_len(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1).rstrip()}…" if width > 0 else ""


def fitted(line: Line, width: int) -> Line:
    """The line in exactly `width` cells."""
    length = _length(line)
    if length <= width:
        return Segment.adjust_line_length(line, width)
    kept: Line = []
    for text, style, _ in line:
        room = width - _length(kept)
        if cell_len(text) >= room:
            kept.append(Segment(cut(f"{text}…", room), style))
            break
        kept.append(Segment(text, style))
    return Segment.adjust_line_length(kept, width)


def _length(line: Line) -> int:
    return sum(segment.cell_length for segment in line)


def packed(parts: Sequence[Line], width: int, gap: str = _GAP) -> Line:
    """As many of the parts as fit, the first one always; the most important ones come first."""
    line: Line = []
    for part in filter(None, parts):
        if not line:
            line = list(part)
        elif _length(line) + len(gap) + _length(part) <= width:
            line += [Segment(gap), *part]
    return line


def flowing(parts: Sequence[Line], width: int, gap: str = _GAP) -> list[Line]:
    """All parts, on as many lines as they take."""
    lines: list[Line] = []
    for part in filter(None, parts):
        if lines and _length(lines[-1]) + len(gap) + _length(part) <= width:
            lines[-1] += [Segment(gap), *part]
        else:
            lines.append(list(part))
    return lines


def spread(left: Line, right: Line, width: int, style: Style | None = None) -> Line:
    """Left and right on one line; what is on the right gives way."""
    room = width - _length(left) - _length(right)
    return [*left, Segment(" " * room, style), *right] if room >= 2 else Segment.adjust_line_length(left, width, style)


def wrapped(text: str, width: int, most: int, look: Look) -> list[str]:
    """Somebody else's sentence on at most `most` lines."""
    lines = _wrapped(inert(text), max(width, 1), look.console)
    return [*lines[: most - 1], cut(f"{lines[most - 1]}…", width)] if len(lines) > most else [*lines]


@lru_cache(maxsize=256)
def _wrapped(text: str, width: int, console: Console) -> tuple[str, ...]:
    return tuple(line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold"))


def table(rows: Sequence[Sequence[Segment]], right: str, drop: Sequence[int], width: int) -> list[Line]:
    """Aligned columns, `>` in `right` for those that end alike; those of `drop` give way first, in this order."""
    if not rows:
        return []
    widths = [max(row[place].cell_length for row in rows) for place in range(len(right))]
    shown = [place for place, wide in enumerate(widths) if wide]
    for victim in drop:
        if sum(widths[place] for place in shown) + len(_GAP) * (len(shown) - 1) <= width:
            break
        shown = [place for place in shown if place != victim]
    return [_table_row(row, right, widths, shown) for row in rows]


def _table_row(row: Sequence[Segment], right: str, widths: Sequence[int], shown: Sequence[int]) -> Line:
    line: Line = []
    for place in shown:
        cell, pad = row[place], Segment(" " * (widths[place] - row[place].cell_length))
        line += [Segment(_GAP)] if line else []
        line += [pad, cell] if right[place] == ">" else [cell, pad]
    return line


def chart(values: Sequence[float], width: int, height: int = 1) -> list[str]:
    """The last `width` values as columns of blocks, `height` lines from the top; empty lines without values."""
    shown = _last(values, width)
    if not shown:
        return [""] * height
    low, span, steps = min(shown), max(shown) - min(shown), 8 * height - 1
    levels = [1 + round((value - low) / span * steps) if span else (steps + 1) // 2 for value in shown]
    return [
        "".join(BLOCKS[min(max(level - 8 * below, 0), 8)] for level in levels) for below in range(height - 1, -1, -1)
    ]


_NO_DOT: Final = 0x2800
_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # braille, from the top, left and right


def plot(values: Sequence[float], width: int, height: int) -> list[str]:
    """The last values as a line of braille dots, two to a column; `height` lines from the top. Few ones are spread."""
    shown = _spread_out(_last(values, 2 * width), 2 * width)
    cells = [[_NO_DOT] * width for _ in range(height)]
    low, span, steps = min(shown, default=0.0), max(shown, default=0.0) - min(shown, default=0.0), 4 * height - 1
    before: int | None = None
    for column, value in enumerate(shown):
        row = round((1 - (value - low) / span) * steps) if span else steps // 2
        for dot in range(row, row + 1) if before is None else range(min(row, before), max(row, before) + 1):
            cells[dot // 4][column // 2] |= _DOTS[column % 2][dot % 4]
        before = row
    return ["".join(map(chr, line)).replace(chr(_NO_DOT), " ") for line in cells]


def _last(values: Sequence[float], count: int) -> list[float]:
    """The last values that can be a price."""
    return [value for value in values if abs(value) < _NO_PRICE][-count:] if count > 0 else []


def _spread_out(values: list[float], count: int) -> list[float]:
    """As many values as there are places, on straight lines between those that are known."""
    if not 2 <= len(values) < count:
        return values
    steps = [place * (len(values) - 1) / (count - 1) for place in range(count)]
    whole = [min(int(step), len(values) - 2) for step in steps]
    return [
        values[at] + (values[at + 1] - values[at]) * (step - at) for at, step in zip(whole, steps, strict=True)
    ]


def _coin(symbol: str) -> str:
    """`BTCUSDT` as people say it: BTC."""
    return cut(inert(symbol.removesuffix("USDT") or symbol), 12) or UNKNOWN


# ---------------------------------------------------------------------------------------------- from top to bottom


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A titled part of the screen.

    Of the lines below its title it can do with `least`, tells everything important in `need`, and has a use for `want`.
    Where there is not room for all, a lower `rank` comes first.
    """

    title: str
    note: str = ""
    rank: int
    least: int
    need: int
    want: int
    draw: Callable[[int, int], list[Line]]  # width and lines it may take


def compose(picture: Picture, look: Look, size: Size) -> list[Line]:
    """The whole screen: exactly as many lines as it has, each exactly as wide."""
    width, height = size
    head, foot = _head(picture, look, width), _foot(picture, look, width, height)
    if height < 14:  # no room for everything: what is open comes first, silence explains itself last
        head, foot = head[: max(height, 1)], foot[: max(height - 9, 0)]
    room = height - len(head) - len(foot)
    body = _body(picture, look, width, max(room, 0))
    exact = [*_exact(head, width), *body, *_exact(foot, width)][:height]
    return [in_ascii(line) for line in exact] if look.ascii_only else exact


def _exact(lines: Sequence[Line], width: int) -> list[Line]:
    return [fitted(line, width) for line in lines]


def _body(picture: Picture, look: Look, width: int, height: int) -> list[Line]:
    if width < _WIDE or height < 12:
        return _stack(_sections(picture, look, height), look, width, height)
    left = (width - 3) // 2
    markets, positions, council, feed = _sections(picture, look, height)
    ours = _stack([markets, positions, feed], look, left, height)
    theirs = _stack([council], look, width - 3 - left, height)
    between = Segment(" │ ", look.palette.faint)
    return [[*one, between, *other] for one, other in zip(ours, theirs, strict=True)]


def _sections(picture: Picture, look: Look, height: int) -> list[Section]:
    """Markets, positions, council, feed."""
    status = picture.status
    symbols, held = len(picture.markets), len(status.positions) + len(status.entries) + len(_targets(status))
    markets = Section(
        title="MARKETS",
        note=_span(picture),
        rank=1,
        least=1,
        need=symbols if symbols > 1 else min(_charted(symbols, height), 4),
        want=_charted(symbols, height),
        draw=partial(_markets, picture.markets, look),
    )
    positions = Section(
        title="POSITIONS",
        note=_held(status),
        rank=0,
        least=1,
        need=held,
        want=max(held, 1),
        draw=partial(_positions, status, look),
    )
    council = Section(
        title="COUNCIL",
        note=f"{status.verdicts} decisions",
        rank=2,
        least=3,
        need=4,
        want=height,
        draw=partial(_council, picture.thoughts, look),
    )
    feed = Section(
        title="LATEST", rank=3, least=2, need=2, want=height, draw=partial(_feed, picture.feed, look)
    )
    return [markets, positions, council, feed]


def _charted(symbols: int, height: int) -> int:
    """Lines for the markets: one for each, or charts where a single one or a tall screen leaves room."""
    if symbols == 1 and height >= 14:
        return max(4, min(height // 3, 10))
    return symbols if height < 26 else min(symbols * 7, height // 2)


def _stack(sections: Sequence[Section], look: Look, width: int, height: int) -> list[Line]:
    """Sections below each other in exactly `height` lines."""
    lines: list[Line] = []
    for section, rows in allotted(sections, height):
        drawn = section.draw(width, rows)[:rows]
        lines += [_rule(section, look, width), *drawn, *([] for _ in range(rows - len(drawn)))]
    lines += [[] for _ in range(height - len(lines))]
    return _exact(lines, width)


def allotted(sections: Sequence[Section], height: int) -> list[tuple[Section, int]]:
    """Who gets how many lines below its title: what each can do with, what each needs, then line by line in turn."""
    ranked = sorted(range(len(sections)), key=lambda place: sections[place].rank)
    rows: dict[int, int] = {}
    for place in ranked:
        if height >= sections[place].least + 1:
            rows[place] = sections[place].least
            height -= sections[place].least + 1
    for place in filter(rows.__contains__, ranked):
        more = min(max(sections[place].need - rows[place], 0), height)
        rows[place] += more
        height -= more
    hungry = [place for place in ranked if place in rows]
    while height > 0 and (hungry := [place for place in hungry if rows[place] < sections[place].want]):
        for place in hungry[:height]:
            rows[place] += 1
        height -= len(hungry[:height])
    return [(sections[place], rows[place]) for place in sorted(rows)]


def _rule(section: Section, look: Look, width: int) -> Line:
    """`── POSITIONS ────────── 2 open ──`."""
    faint = look.palette.faint
    left = [Segment("── ", faint), Segment(section.title, look.palette.title), Segment(" ", faint)]
    note = cut(section.note, width - _length(left) - 6)
    right = [Segment(f" {note} ──", faint)] if note else []
    return [*left, Segment("─" * (width - _length(left) - _length(right)), faint), *right]


# ---- the head


def _head(picture: Picture, look: Look, width: int) -> list[Line]:
    """Whose money it is and what time; where the chat is; how much there is."""
    chat = [Segment(" Chat ", look.palette.faint), Segment(cut(inert(picture.chat), width - 7), look.palette.accent)]
    about = [Segment(f"{_pace(picture)} · Ctrl-C leaves ", look.palette.faint)]
    return [_bar(picture, look, width), spread(chat, about, width), *_money(picture, look, width)]


def _bar(picture: Picture, look: Look, width: int) -> Line:
    """Badge, pause and clock: as much of it as fits."""
    status, palette = picture.status, look.palette
    bar = palette.paused if status.paused else palette.bar
    real = status.badge.upper().startswith("LIVE")
    badge = Segment(f" {cut(inert(status.badge), 24)} ", palette.real if real else palette.badge)
    words = [" PAUSED: no new entries", " PAUSED"] if status.paused else [" Conclave"]
    clock = list(_clock(picture, look))
    shorter = [each.removeprefix("next ") for each in clock]
    fits = [
        (name, times)
        for name, times in [*((each, clock) for each in words), (words[-1], shorter), (words[-1], clock[:1])]
        if badge.cell_length + cell_len(name) + cell_len(_GAP.join(times)) + 3 <= width
    ]
    name, times = fits[0] if fits else (words[-1], [])
    return spread([badge, Segment(name, bar)], [Segment(f"{_GAP.join(times)} ", bar)], width, bar)


def _clock(picture: Picture, look: Look) -> Iterator[str]:
    """Market time and the next close, with a countdown where time is real."""
    status, real = picture.status, picture.speed is None
    if status.market_time is None:
        yield "no bar has closed yet"
        return
    now = max(picture.now, status.market_time)
    if not real and status.next_close is not None:  # a fast market may be a bar ahead of what has been dealt with
        now = min(now, status.next_close)
    now = now.astimezone(look.zone)
    yield f"{now:%d %b %H:%M:%S %Z}" if real else f"{now:%d %b %Y %H:%M %Z}"
    if status.next_close is None:
        return
    close = f"next close {status.next_close.astimezone(look.zone):%H:%M}"
    yield f"{close} {_countdown(status.next_close - now)}" if real else close


def _countdown(left: timedelta) -> str:
    """`in 3:59:12`; after its time it is overdue."""
    seconds = int(abs(left).total_seconds())
    shown = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"in {shown}" if left >= timedelta() else f"overdue {shown}"


def _pace(picture: Picture) -> str:
    if picture.speed is None:
        return "real time"
    return f"{picture.speed:,g}× real time" if picture.speed else "as fast as it goes"


def _money(picture: Picture, look: Look, width: int) -> list[Line]:
    """Equity, today, total: money, then per cent, then R."""
    status, palette = picture.status, look.palette
    equity = Segment(money(status.equity, sign=False), palette.strong)
    day, total = _today(picture, look), _total(picture, look)
    wide = max(equity.cell_length, day[0].cell_length, total[0].cell_length)
    first = [[_padded(equity, wide)], *_standing(picture, look)]
    lines = [("Equity", first), ("Today", [[_padded(day[0], wide)], *([cell] for cell in day[1:])])]
    lines.append(("Total", [[_padded(total[0], wide)], *([cell] for cell in total[1:])]))
    return [[Segment(f" {name:<7}", palette.faint), *packed(parts, width - 8, "   ")] for name, parts in lines]


def _padded(cell: Segment, width: int) -> Segment:
    return Segment(" " * (width - cell.cell_length) + cell.text, cell.style)


def _standing(picture: Picture, look: Look) -> list[Line]:
    """What the equity is made of and what it has been."""
    status, palette = picture.status, look.palette
    held = sum((each.unrealised for each in status.positions), ZERO)
    peak = max(picture.peak, float(status.equity))
    down = 1 - float(status.equity) / peak if peak > 0 else None
    return [
        [Segment("drawdown ", palette.faint), Segment(UNKNOWN if down is None else percent(down))],
        [Segment("open ", palette.faint), Segment(money(held), palette.sign(held))] if status.positions else [],
        [Segment("at risk ", palette.faint), Segment(percent(status.open_risk))],
        [Segment("cash ", palette.faint), Segment(money(status.cash, sign=False))],
    ]


def _today(picture: Picture, look: Look) -> list[Segment]:
    """Trades closed on the market's UTC day; the share is that of the balance without them."""
    status, tally, day = picture.status, picture.tally, None
    if tally is not None:
        same = status.market_time is not None and tally.day == f"{status.market_time:%Y-%m-%d}"
        day = tally.day_r if same else 0.0
    lost = status.day_trades - status.day_wins
    record = f"{status.day_wins} won, {lost} lost" if status.day_trades else "no trade closed yet"
    return _result(status.day_pnl, status.cash - status.day_pnl, day, record, look)


def _total(picture: Picture, look: Look) -> list[Segment]:
    """Every trade of the account; the share is that of what it began with."""
    status, tally = picture.status, picture.tally
    if tally is None:
        return _result(None, ZERO, None, f"{status.trades} trades", look)
    record = f"{tally.wins} won, {tally.trades - tally.wins} lost" if tally.trades else "no trade closed yet"
    return _result(tally.pnl, status.initial_equity, tally.r, record, look)


def _result(pnl: Decimal | None, of: Decimal, r: float | None, record: str, look: Look) -> list[Segment]:
    """Money, per cent, R, won and lost."""
    style = look.palette.sign(pnl or 0)
    share = percent(pnl / of, sign=True) if pnl is not None and of > 0 else UNKNOWN
    return [
        Segment(f"{UNKNOWN} USDT" if pnl is None else money(pnl), style),
        Segment(f"{share:>7}", style),
        Segment(f"{UNKNOWN if r is None else multiple(r):>6}", style),
        Segment(record, look.palette.faint),
    ]


# ---- markets


def _span(picture: Picture) -> str:
    """What the charts are made of."""
    bars = duration(picture.status.interval).removesuffix("00m")
    return f"change over the chart, {bars} bars" if any(each.closes for each in picture.markets) else ""


def _markets(markets: Sequence[Market], look: Look, width: int, rows: int) -> list[Line]:
    """A line for each symbol, or a chart where there is room."""
    if markets and rows >= 3 * len(markets):
        shares = [rows // len(markets) + (place < rows % len(markets)) for place in range(len(markets))]
        drawn = [_big_market(one, look, width, share) for one, share in zip(markets, shares, strict=True)]
        return [line for lines in drawn for line in lines]
    lines = _indented(table([_facts(market, look) for market in markets], "<>", (), width - 1))
    room = width - max(map(_length, lines), default=0)
    return _at_most([[*line, *_strip(one, look, room)] for line, one in zip(lines, markets, strict=True)], rows, look)


def _strip(market: Market, look: Look, room: int) -> Line:
    """The change over what the chart beside it shows."""
    wide = room - 13
    values = _values(market)[-max(wide, 2) :]
    change = [Segment(_GAP), *_change(values, look)]
    wide = min(wide, room - _length(change) - len(_GAP))
    drawn = [Segment(_GAP), Segment(chart(values, wide)[0], _trend(values, look))] if wide >= 8 else []
    return [*change, *drawn] if room >= _length(change) else []


def _facts(market: Market, look: Look) -> list[Segment]:
    last = price(market.last) if market.last is not None else UNKNOWN
    name = f"{_coin(market.symbol)} (muted)" if market.muted else _coin(market.symbol)
    return [Segment(name, look.palette.strong), Segment(last, look.palette.strong)]


def _values(market: Market) -> tuple[float, ...]:
    """The closes and the last price after them."""
    last = () if market.last is None else (float(market.last),)
    return tuple(each for each in (*market.closes, *last) if abs(each) < _NO_PRICE)


def _change(values: Sequence[float], look: Look) -> Line:
    """The last price against the first one shown."""
    if len(values) < 2 or not values[0]:
        return [Segment(f"{UNKNOWN:>8}", look.palette.faint)]
    change = values[-1] / values[0] - 1
    return [Segment(f"{percent(change, sign=True):>8}", look.palette.sign(change))]


def _trend(values: Sequence[float], look: Look) -> Style:
    return look.palette.sign(values[-1] - values[0]) if values else look.palette.plain


def _big_market(market: Market, look: Look, width: int, rows: int) -> list[Line]:
    """One line of facts above a chart of all that fits."""
    draw, dots = (chart, 1) if look.ascii_only else (plot, 2)
    values = _values(market)[-dots * (width - 1) :]
    parts = [*([cell] for cell in _facts(market, look)), _change(values, look)]
    if values:
        bounds = f"{price(min(values))} – {price(max(values))} in {len(values) - 1} bars"
        parts.append([Segment(bounds, look.palette.faint)])
    drawn = draw(values, width - 1, rows - 1)
    return _indented([packed(parts, width - 1), *([Segment(text, _trend(values, look))] for text in drawn)])


def _at_most(lines: list[Line], rows: int, look: Look) -> list[Line]:
    """So many of the lines; the last one says how many are missing, where that is not all there is to say."""
    if len(lines) <= max(rows, 1):
        return lines
    if rows <= 1:
        return lines[:1]
    return [*lines[: rows - 1], [Segment(f" … and {len(lines) - rows + 1} more", look.palette.faint)]]


# ---- positions and resting orders


def _targets(status: Status) -> list[OrderView]:
    """Take profits that rest in the book."""
    return [each for each in status.orders if each.purpose is Purpose.TAKE_PROFIT]


def _held(status: Status) -> str:
    resting = len(status.entries) + len(_targets(status))
    shown = f", {resting} resting" if resting else ""
    return f"{len(status.positions)} open{shown}, leverage {status.leverage:g}x"


def _positions(status: Status, look: Look, width: int, rows: int) -> list[Line]:
    held = [_position(each, look) for each in status.positions]
    held += [_entry(each, look) for each in status.entries]
    held += [_target(each, look) for each in _targets(status)]
    if not held:
        return [[Segment(" nothing open, nothing resting", look.palette.faint)]]
    return _at_most(_indented(table(held, "<<<>>>>>><", (0, 6, 3, 4, 5), width - 1)), rows, look)


def _indented(lines: Sequence[Line]) -> list[Line]:
    return [[Segment(" "), *line] for line in lines]


def _position(view: PositionView, look: Look) -> list[Segment]:
    """Number, coin, side, quantity, entry, stop, its distance, profit, R, and what else is known."""
    palette = look.palette
    profit = palette.sign(view.unrealised)
    away = abs(view.mark - view.stop) / view.mark if view.mark and view.stop else None
    note = f"leaving: {inert(view.exit_due)}".replace("_", " ") if view.exit_due else ""
    return [
        *_who(view.verdict_id, view.symbol, view.side, look),
        Segment(quantity(view.qty)),
        Segment(f"at {price(view.entry_price)}"),
        Segment(f"stop {price(view.stop)}") if view.stop else Segment("NO STOP", palette.warn),
        Segment("" if away is None else f"{percent(away)} away", palette.faint),
        Segment(money(view.unrealised), profit),
        Segment(multiple(view.r), profit),
        Segment(note, palette.warn),
    ]


def _entry(view: EntryView, look: Look) -> list[Segment]:
    bars = "bar" if view.bars_left == 1 else "bars"
    return [
        *_who(view.verdict_id, view.symbol, view.side, look),
        Segment(quantity(view.qty)),
        Segment(f"at {price(view.price)}"),
        Segment(f"stop {price(view.stop)}"),
        Segment(""),
        Segment(f"rests {view.bars_left} {bars}", look.palette.accent),
        Segment(""),
        Segment(""),
    ]


def _target(view: OrderView, look: Look) -> list[Segment]:
    state = "in doubt" if view.state is OrderState.DOUBTED else "rests"
    held = Side.LONG if view.side is OrderSide.SELL else Side.SHORT
    number, coin, _ = _who(view.verdict_id, view.symbol, held, look)
    cells = [Segment("TARGET", look.palette.accent), Segment(quantity(view.qty))]
    cells.append(Segment(UNKNOWN if view.price is None else f"at {price(view.price)}"))
    rest = [Segment(""), Segment(""), Segment(state, look.palette.accent), Segment(""), Segment("")]
    return [number, coin, *cells, *rest]


def _who(number: int | None, symbol: str, side: Side, look: Look) -> list[Segment]:
    colour = look.palette.good if side is Side.LONG else look.palette.bad
    return [
        Segment(f"#{number}" if number is not None else UNKNOWN, look.palette.faint),
        Segment(_coin(symbol), look.palette.strong),
        Segment(side.upper(), colour),
    ]


# ---- the council


def _council(thoughts: Sequence[Thought], look: Look, width: int, rows: int) -> list[Line]:
    """The last decisions, the newest first; where there is room, the newest ones with every argument."""
    lines: list[Line] = []
    for place, thought in enumerate(thoughts):
        if len(lines) >= rows:
            break
        lines += _thought(thought, look, width, rows - len(lines), full=rows >= _TALL and place < 3)
        lines += [[]] if rows >= _TALL and not _is_brief(thought.verdict) else []
    return lines or [[Segment(" no decision yet: one comes with the first signal after a close", look.palette.faint)]]


def _thought(thought: Thought, look: Look, width: int, rows: int, *, full: bool) -> list[Line]:
    """What was decided, how everybody voted, the strongest no, and why; at most `rows` lines."""
    event = thought.verdict
    lines = [_decision(thought, look, width)]
    if _is_brief(event):
        return lines
    if full:
        lines += _arguments(event, look, width)
    else:
        votes = [[*_name(answer, look), Segment(" "), *_vote(answer, event.side, look)] for answer in event.answers]
        lines += _indented(_indented(flowing(votes, width - 2, " · ")))
    for mark, text, style in _reasons(event, look, full=full):
        room = min(3 if full else 2, rows - len(lines))
        lines += _said(mark, text, style, look, width, room) if room > 0 else []
    return lines[:rows]


def _reasons(event: ev.VerdictReached, look: Look, *, full: bool) -> list[tuple[str, str, Style]]:
    """The strongest no first, then the other reasons; in full, what an argument above has said is left out."""
    palette, no = look.palette, strongest_no(event.answers, event.side)
    said = [answer.text.strip() for answer in event.answers if full]
    told = [each for each in event.reasons if not any(text and text.partition(";")[0] in each for text in said)]
    repeats = next((each for each in told if no and no in each), "")
    first = [("no: ", repeats or f"“{no}”", palette.warn)] if no and no not in said else []
    return [*first, *(("– ", each, palette.plain) for each in told if each != repeats)]


def _said(mark: str, text: str, style: Style, look: Look, width: int, most: int) -> list[Line]:
    """Somebody's sentence, indented below its mark."""
    return [
        [Segment("  "), Segment(" " * len(mark) if place else mark, look.palette.faint), Segment(line, style)]
        for place, line in enumerate(wrapped(text, width - 3 - len(mark), most, look))
    ]


def _is_brief(event: ev.VerdictReached) -> bool:
    """Nobody was asked: there is no more to tell than fits the line."""
    return not event.answers and not event.approved and len(event.reasons) <= 1


def _decision(thought: Thought, look: Look, width: int) -> Line:
    event, palette = thought.verdict, look.palette
    fate = [Segment(f"{thought.fate}  ", palette.accent)] if thought.fate else []
    right = [*fate, Segment(f"{moment(event.at, look.zone)} ", palette.faint)]
    side = palette.good if event.side is Side.LONG else palette.bad
    name = [
        Segment(f" #{event.verdict_id} ", palette.faint),
        Segment(f"{event.side.upper()} ", side),
        Segment(f"{_coin(event.symbol)} ", palette.strong),
    ]
    if event.approved:
        name += [Segment("APPROVED ", Style.chain(palette.good, palette.strong))]
        facts = [f"{quantity(event.qty)} at {price(event.entry)}", f"stop {price(event.stop)}"]
        facts += [f"size {percent(event.size_modifier, 0)}"] if event.size_modifier < 1 else []
        name += packed([[Segment(fact)] for fact in facts], width - _length(name) - _length(right) - 2, ", ")
    else:
        gate = f"REJECTED by {inert(event.gate, 24)}" if event.gate else "REJECTED"
        name += [Segment(gate, Style.chain(palette.bad, palette.strong))]
        why = inert(event.reasons[0]) if _is_brief(event) and event.reasons else ""
        name += [Segment(cut(f": {why}", max(width - _length(name) - _length(right) - 2, 30)))] if why else []
    return spread(name, right, width)


def _name(answer: ev.AgentAnswer, look: Look) -> Line:
    return [Segment(inert(answer.agent, 24).replace("_", " ").capitalize(), look.palette.faint)]


def _vote(answer: ev.AgentAnswer, side: Side, look: Look) -> Line:
    """`SHORT 0.61`; what failed says how: `TIMEOUT`."""
    if answer.status.upper() != "OK":
        return [Segment(inert(answer.status, 24), look.palette.warn)]
    odds = f" {answer.p_win:.2f}" if answer.p_win is not None else ""
    return [Segment(f"{inert(answer.vote, 24)}{odds}", look.palette.sign(stance(answer, side)))]


def _arguments(event: ev.VerdictReached, look: Look, width: int) -> list[Line]:
    """Everybody's vote with the case made for it beside it; the strongest no stands out."""
    heads = table([[*_name(each, look), *_vote(each, event.side, look)] for each in event.answers], "<<", (), width)
    no = strongest_no(event.answers, event.side)
    lines: list[Line] = []
    for head, answer in zip(heads, event.answers, strict=True):
        room = width - _length(head) - 5
        strongest = bool(no) and answer.text.strip() == no
        style = look.palette.warn if strongest else look.palette.faint
        text = f"no: {answer.text}" if strongest else answer.text
        texts = wrapped(text, room, 2, look) if room >= 20 and answer.text.strip() else []
        lines.append([Segment("  "), *head, *[Segment(f"  {text}", style) for text in texts[:1]]])
        lines += [[Segment(" " * (_length(head) + 4)), Segment(text, style)] for text in texts[1:]]
    return lines


# ---- the feed


def _feed(feed: Sequence[ev.Event], look: Look, width: int, rows: int) -> list[Line]:
    """What happened, the newest first."""
    lines: list[Line] = []
    for event in feed[:rows]:
        when = Segment(f" {moment(event.at, look.zone)}  ", look.palette.faint)
        lines.append([when, Segment(words_of(event) or "", _tone(event, look))])
    return lines or [[Segment(" nothing has happened yet", look.palette.faint)]]


def _tone(event: ev.Event, look: Look) -> Style:
    palette = look.palette
    if isinstance(event, ev.TradeClosed):
        return palette.sign(event.pnl)
    if isinstance(event, ev.AlertRaised | ev.OrderDoubted | ev.OrderRefused | ev.TradingPaused):
        return palette.warn
    if isinstance(event, ev.OrderFilled):
        return palette.accent
    return palette.faint if isinstance(event, ev.OrderCancelled) else palette.plain


# ---- the foot


def _foot(picture: Picture, look: Look, width: int, height: int) -> list[Line]:
    """Why nothing happens, whether everything is connected, what the log says."""
    links = flowing([_link(*each, look) for each in picture.connections], width - 2, "   ")[: 2 if height < 30 else 3]
    return [*_gates(picture.status, look, width, height), *_indented(links), *_log(picture, look, height)]


def _gates(status: Status, look: Look, width: int, height: int) -> list[Line]:
    """A rule that says whether entries are possible; with room, every gate that is shut on a line of its own."""
    palette = look.palette
    lost = (f"the exchange is not heard: {status.lost}",) if status.lost else ()
    gates = [inert(gate) for gate in (*lost, *status.gates)]
    style, name = (palette.warn, "GATES SHUT") if gates else (palette.good, "GATES OPEN")
    why = " · ".join(gates) or "waiting for a signal"
    listed = height >= 30 and cell_len(why) > width - 20
    words = f"{len(gates)} reasons below" if listed else cut(why, width - 20)
    told = Segment(f" {words} ", style if gates else palette.faint)
    left = [Segment("── ", palette.faint), Segment(name, style), told]
    rule = [*left, Segment("─" * (width - _length(left)), palette.faint)]
    return [rule, *_at_most([[Segment(f" {gate}", style)] for gate in gates if listed], 6, look)]


def _link(name: str, well: bool, age: str, look: Look) -> Line:
    palette = look.palette
    return [
        Segment("● " if well else "○ ", palette.good if well else palette.warn),
        Segment(f"{inert(name, 24)} ", palette.faint if well else palette.warn),
        Segment(inert(age, 60), palette.plain if well else palette.warn),
    ]


def _log(picture: Picture, look: Look, height: int) -> list[Line]:
    """The last warning; with room, the last lines, the last warning always among them."""
    alarm = picture.alarm
    if height < 30:
        more = f" ({picture.alarms} so far)" if picture.alarms > 1 else ""
        return [_log_line(alarm, more, look) if alarm else [Segment(" Log: no warning", look.palette.faint)]]
    lines = picture.log[-max((height - 30) // 4, 2) :]
    shown = lines if alarm is None or alarm in lines else (alarm, *lines[1:])
    return [_log_line(line, "", look) for line in shown] or [[Segment(" Log: nothing yet", look.palette.faint)]]


def _log_line(line: LogLine, more: str, look: Look) -> Line:
    at = datetime.fromtimestamp(line.at, look.zone)
    style = look.palette.warn if line.level >= logging.WARNING else look.palette.faint
    name = logging.getLevelName(line.level)
    return [Segment(f" {at:%H:%M:%S} {name}{more} ", style), Segment(inert(line.text), look.palette.plain)]


# ------------------------------------------------------------------------------------------------------ the display


class Dashboard:
    """Draws the program on the terminal until it is cancelled; the same shape as `Terminal`.

    `status` tells how things stand, `now` the market's time, `peak` the highest equity so far and `closes` a symbol's
    last closes, oldest first: all from memory, four times a second. `connections` are rows of name, well or not, and
    age in words. `trades` are the finished ones up to the journal's entry `after`, None when they are not known.
    `speed` is market time per wall time, None where time is real. `show` takes a plain line: what is left when the
    dashboard cannot go on. The console's file must be a terminal (`terminal.can_be_drawn_on`).
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
        return said if not self._look.ascii_only else _plainly(said)

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


def summed(trades: Sequence[ev.TradeClosed]) -> Tally:
    """Finished trades, oldest first, in one."""
    tally = Tally()
    for trade in trades:
        tally = tally.plus(trade)
    return tally


def ansi(line: Line, console: Console) -> str:
    """The line as the terminal takes it."""
    system = COLOR_SYSTEMS[console.color_system or "standard"]
    return "".join(style.render(text, color_system=system) if style else text for text, style, _ in line)
