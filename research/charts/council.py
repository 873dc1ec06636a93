"""How good a council is: what it earned against chance, avoided and missed, and what its agents' words are worth.

The word stands in the title with its reason below. Curves run over the ended candidates, one step each, in R.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from research.charts.sheet import (
    EDGE,
    GAP,
    NAME,
    WIDTH,
    Palette,
    Pane,
    Sheet,
    Tag,
    bounds,
    column,
    heading_height,
    sign_colour,
)
from research.charts.words import fitted, labels, period, readable, ticks, width, zone_named
from research.grade import MOST_NEEDED, OFF, Curves
from trading.grades import AgentGrade, Bin, Grade
from trading.model import FloatArray

_HIGH: Final = 1280
_LINE: Final = 34  # of the reason
_LINES: Final = 4
_CURVE: Final = (260.0, 560.0)  # least and greatest height of the curves
_COUNTS: Final = 64  # labels below them
_ROW: Final = 46  # of a bar
_NAMES: Final = 116  # what the panels show, and whose they are, above them
_PANEL: Final = 208
_LABEL: Final = 76  # left of the first panel
_BETWEEN: Final = 34  # panels
_FOOT: Final = 110  # labels below the panels, and the foot line
_MOST: Final = 3  # agents, and other councils, that have room
_DOTS: Final = (12.0, 26.0)  # of a reliability bin: least and largest


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CouncilPicture:
    """A grade with its running totals; `title` says what was graded: rules council, BTCUSDT 4h."""

    title: str
    grade: Grade
    curves: Curves


def council_figure(picture: CouncilPicture, palette: Palette) -> Figure:
    """Heading, running totals, avoided against missed, and a reliability diagram of each agent that was scored."""
    grade = picture.grade
    title, facts = f"{grade.word.upper()}: {picture.title}", facts_of(grade)
    reason = folded(grade.reason, WIDTH - 2 * EDGE)
    agents = [each for each in grade.agents if each.bins][:_MOST]
    head = heading_height(title, facts) + len(reason) * _LINE
    if not picture.curves.lines:
        sheet = Sheet(palette, head + _FOOT)
        _heading(sheet, title, reason, facts)
        sheet.footing(period(grade.first, grade.last, zone_named("UTC")))
        return sheet.figure
    below = GAP + NAME + _COUNTS + 2 * _ROW + (GAP + _NAMES + _PANEL if agents else 0.0) + _FOOT
    high = min(max(_HIGH - head - below, _CURVE[0]), _CURVE[1])
    sheet = Sheet(palette, head + below + high)
    _heading(sheet, title, reason, facts)
    top = head + GAP + NAME
    _curves(sheet, picture, top, high)
    top += high + _COUNTS
    _balance(sheet, grade, top)
    if agents:
        _agents(sheet, grade, agents, top + 2 * _ROW + GAP)
    sheet.footing(period(grade.first, grade.last, zone_named("UTC")))
    return sheet.figure


def facts_of(grade: Grade) -> tuple[tuple[str, str], ...]:
    """What the heading says beside the word."""
    own, off = grade.arms[0], grade.arms[1]
    count = ("Size left", _share(own.weight) if grade.ended else "–")
    if grade.needed is not None:
        count = ("Needed", _needed(grade.needed))
    return (
        ("Edge, R each", "–" if own.edge is None else f"{own.edge:+.3f}"),
        ("Total R", _result(own.total)),
        ("Without it", _result(off.total)),
        ("Ended", f"{grade.ended:,}"),
        count,
    )


def _needed(count: int) -> str:
    return f"{'>' if count >= MOST_NEEDED else '~'}{count:,}"


def _share(value: float) -> str:
    return f"{value:.1%}" if 0 < value < 0.1 else f"{value:.0%}"


def _result(value: float) -> str:
    """R with its sign: +12.4, -1,204."""
    text = f"{value:+,.{0 if abs(value) >= 100 else 1}f}"
    return "0" if not text.strip("+-0.") else text


def folded(text: str, room: float) -> list[str]:
    """A sentence on a few lines, broken at blanks."""
    lines = [""]
    for word in readable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width(longer) > room and len(lines) < _LINES:
            lines.append(word)
        else:
            lines[-1] = longer
    return [*lines[:-1], fitted(lines[-1], room)]


def _heading(sheet: Sheet, title: str, reason: Sequence[str], facts: Sequence[tuple[str, str]]) -> None:
    """The facts stand below the reason, which stands below the title."""
    under = heading_height(title, ())
    sheet.heading(title, ())
    for at, line in enumerate(reason):
        sheet.write(EDGE, under + at * _LINE + 6, line, sheet.palette.muted)
    sheet.facts(under + len(reason) * _LINE, facts)


# Running totals


def _curves(sheet: Sheet, picture: CouncilPicture, top: float, high: float) -> None:
    palette, found = sheet.palette, picture.curves
    lines = found.lines[: 2 + _MOST]
    colours = _colours(lines, palette)
    everything = np.concatenate([np.zeros(1), found.low, found.high, *(values for _, values in lines)])
    up = bounds(float(everything.min()), float(everything.max()))
    values = ticks(*up, 5)
    texts = labels(values)
    tags = [
        Tag(value=float(line[-1]), text=_result(float(line[-1])), colour=colour, filled=not at)
        for at, ((_, line), colour) in enumerate(zip(lines, colours, strict=True))
    ]
    count = len(found.time)
    pane = sheet.pane(top, high, column([*texts, "R"], tags), (0.0, float(count)), up)
    _drawn(pane, found, lines, colours)
    pane.scale(values, texts, tags, unit="R")
    _legend(pane, [name for name, _ in lines], colours)
    places = ticks(0.0, float(count), 6)
    places = places[places == np.round(places)]
    pane.below(places.tolist(), [f"{place:,.0f}" for place in places.tolist()[:-1]] + [f"{places[-1]:,.0f} ended"])


def _colours(lines: Sequence[tuple[str, FloatArray]], palette: Palette) -> list[str]:
    """The council's own is that of ink; no council at all is muted."""
    rest = iter((palette.lines[0], palette.lines[2], palette.lines[4]))
    return [palette.ink if not at else palette.lines[1] if name == OFF else next(rest) for at, (name, _) in _at(lines)]


def _at(lines: Sequence[tuple[str, FloatArray]]) -> list[tuple[int, tuple[str, FloatArray]]]:
    return list(enumerate(lines))


def _drawn(pane: Pane, found: Curves, lines: Sequence[tuple[str, FloatArray]], colours: Sequence[str]) -> None:
    """All curves begin at 0 before the first candidate; the council's own lies on top."""
    at = np.arange(len(found.time) + 1)
    low, high = (np.concatenate(([0.0], each)) for each in (found.low, found.high))
    pane.axes.fill_between(at, low, high, color=pane.palette.muted, alpha=0.25, lw=0)
    pane.axes.axhline(0, color=pane.palette.muted, lw=2)
    for place, ((_, values), colour) in reversed(list(enumerate(zip(lines, colours, strict=True)))):
        wide = 3.0 if place else 4.5
        pane.axes.plot(at, np.concatenate(([0.0], values)), color=colour, lw=wide, solid_joinstyle="round")
    pane.dot(float(at[-1]), float(lines[0][1][-1]), colours[0])


def _legend(pane: Pane, names: Sequence[str], colours: Sequence[str]) -> None:
    """Which line is which, above the curves, as far as there is room."""
    palette, x, y = pane.palette, float(EDGE), pane.top - NAME
    named = [("no council" if name == OFF else name, colour) for name, colour in zip(names, colours, strict=True)]
    for at, (text, colour) in enumerate([named[0], ("95% of random vetoes", ""), *named[1:]]):
        shown = fitted(text, 330)
        if x + 44 + width(shown) > pane.right:
            continue
        if colour:
            pane.sheet.stroke([x, x + 32], [y, y], colour, wide=3.0 if at else 5.0)
        else:
            pane.sheet.box(x, y, 32, 22, palette.muted, alpha=0.35)
        pane.sheet.write(x + 44, y, shown, palette.ink)
        x += 44 + width(shown) + 30


# Avoided and missed


def _balance(sheet: Sheet, grade: Grade, top: float) -> None:
    """Two bars on one scale, with what is left of them."""
    palette = sheet.palette
    rows = (("Losses avoided", grade.avoided, palette.up), ("Gains missed", -grade.missed, palette.down))
    left = EDGE + max(width(name) for name, _, _ in rows) + 24
    right = WIDTH - EDGE - max(width(f"{_result(value)} R", 28, bold=True) for _, value, _ in rows) - 24
    scale = max(grade.avoided, grade.missed) or 1.0
    for at, (name, value, colour) in enumerate(rows):
        y = top + at * _ROW + _ROW / 2
        sheet.write(EDGE, y, name, palette.ink)
        if value:
            sheet.box(left, y, max((right - left) * abs(value) / scale, 4.0), 32, colour)
        text = f"{_result(value)} R"
        sheet.write(WIDTH - EDGE, y, text, sign_colour(palette, value), size=28, bold=True, ha="right")


# Agents


def _agents(sheet: Sheet, grade: Grade, agents: Sequence[AgentGrade], top: float) -> None:
    """A panel for each, all on one scale."""
    rate = "" if grade.base_rate is None else f" Dashed: all won {grade.base_rate:.0%}."
    text = fitted(f"Stated chance to win (across), came true (up).{rate}", WIDTH - 2 * EDGE)
    sheet.write(EDGE, top + 14, text, sheet.palette.muted)
    reach = _reach(agents, grade.base_rate)
    wide = (WIDTH - 2 * EDGE - _LABEL - _BETWEEN * (_MOST - 1)) / _MOST
    for at, agent in enumerate(agents):
        place = (EDGE + _LABEL + at * (wide + _BETWEEN), top + _NAMES)
        _agent(sheet, agent, place, wide, reach, grade.base_rate)
    for share in (0.5, 1.0):
        y = top + _NAMES + _PANEL * (1 - share)
        sheet.write(EDGE + _LABEL - 12, y, f"{reach * share:.0%}", sheet.palette.muted, ha="right")


def _reach(agents: Sequence[AgentGrade], base: float | None) -> float:
    """Where both axes end: all that was stated and all that came true lies below."""
    found = [max(each.stated, each.won) for agent in agents for each in agent.bins]
    return min(math.ceil((max([*found, base or 0.0, 0.15]) + 0.03) * 5) / 5, 1.0)


def _agent(
    sheet: Sheet, agent: AgentGrade, place: tuple[float, float], wide: float, reach: float, base: float | None
) -> None:
    palette, (left, top) = sheet.palette, place
    sheet.write(left, top - 66, fitted(title_of(agent.agent), wide, bold=True), palette.ink, bold=True)
    skill = "skill unknown" if agent.skill is None else f"skill {agent.skill:+.1%}"
    sheet.write(left, top - 32, fitted(skill, wide), _skill_colour(agent, palette))
    axes = _panel(sheet, (left, top), wide, reach)
    if base is not None:
        axes.axhline(base, color=palette.muted, lw=2, ls=(0, (5, 3)), zorder=1)
    axes.add_line(Line2D([0, reach], [0, reach], color=palette.muted, lw=2, zorder=1))
    most = max((each.count for each in agent.bins), default=1)
    for each in agent.bins:
        _bin(axes, each, most, palette)


def _skill_colour(agent: AgentGrade, palette: Palette) -> str:
    """That of its sign where the interval says that it has one."""
    between = agent.skill_interval
    if between is None or between.low <= 0 <= between.high:
        return palette.muted
    return sign_colour(palette, between.low)


def _panel(sheet: Sheet, place: tuple[float, float], wide: float, reach: float) -> Axes:
    """Axes of a panel, labelled at both ends and in the middle."""
    palette, (left, top) = sheet.palette, place
    box = (left / WIDTH, 1 - (top + _PANEL) / sheet.height, wide / WIDTH, _PANEL / sheet.height)
    axes = sheet.figure.add_axes(box, facecolor="none")
    marks = [0.0, reach / 2, reach]
    axes.set(xlim=(0, reach), ylim=(0, reach), xticks=marks, yticks=marks)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="both", length=0, labelleft=False, labelbottom=False)
    axes.grid(visible=True, color=palette.grid, lw=1.5)
    y = top + _PANEL + 26
    sheet.write(left, y, "0%", palette.muted)
    sheet.write(left + wide / 2, y, f"{reach / 2:.0%}", palette.muted, ha="center")
    sheet.write(left + wide, y, f"{reach:.0%}", palette.muted, ha="right")
    return axes


def _bin(axes: Axes, each: Bin, most: int, palette: Palette) -> None:
    """A dot as large as what it stands for, with the 95 % interval of its share (Wilson 1927)."""
    low, high = wilson(each.won, each.count)
    axes.plot([each.stated] * 2, [low, high], color=palette.entry, lw=3, alpha=0.6, zorder=2)
    least, largest = _DOTS
    size = least + (largest - least) * math.sqrt(each.count / most)
    (dot,) = axes.plot(each.stated, each.won, "o", color=palette.entry, ms=size, clip_on=False, zorder=3)
    dot.set(markeredgecolor=palette.back, markeredgewidth=2)


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return middle - half, middle + half


def title_of(agent: str) -> str:
    """An agent's name as it is written: Risk Manager."""
    return agent.replace("_", " ").title()
