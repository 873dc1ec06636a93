"""From top to bottom: which part of the screen gets how much room.

`compose` turns a `Picture` into lines of exactly the screen's width, as many as it is high; it is pure and runs in the
screen's own thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from rich.segment import Segment

from bot.dashboard import panels
from bot.dashboard.cells import Line, Look, cut, fitted, in_ascii, length
from bot.dashboard.story import Picture
from bot.screen import Size
from bot.text import counted

_WIDE: Final = 120  # columns from which two stand side by side


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
    head, foot = panels.head(picture, look, width), panels.foot(picture, look, width, height)
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
    symbols, held = len(picture.markets), len(status.positions) + len(status.entries) + len(panels.targets(status))
    markets = Section(
        title="MARKETS",
        note=panels.span(picture),
        rank=1,
        least=1,
        need=symbols if symbols > 1 else min(_charted(symbols, height), 4),
        want=_charted(symbols, height),
        draw=partial(panels.markets, picture.markets, look),
    )
    positions = Section(
        title="POSITIONS",
        note=panels.held(status),
        rank=0,
        least=1,
        need=held,
        want=max(held, 1),
        draw=partial(panels.positions, status, look),
    )
    council = Section(
        title="COUNCIL",
        note=counted(status.verdicts, "decision"),
        rank=2,
        least=3,
        need=4,
        want=height,
        draw=partial(panels.council, picture.thoughts, look),
    )
    feed = Section(
        title="LATEST", rank=3, least=2, need=2, want=height, draw=partial(panels.feed, picture.feed, look)
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
    note = cut(section.note, width - length(left) - 6)
    right = [Segment(f" {note} ──", faint)] if note else []
    return [*left, Segment("─" * (width - length(left) - length(right)), faint), *right]
