"""Several pictures on one sheet: what the answer to a backtest, a search or a walk-forward shows."""

from __future__ import annotations

from typing import Final

from matplotlib.figure import Figure

from research.charts.equity import equity_on, span
from research.charts.heat import grid_height, grid_on, months_height, months_on
from research.charts.sheet import EDGE, Palette, Sheet, heading_height
from trading.errors import BadInput
from trading.pictures import EquityPicture, GridPicture, MonthsPicture, StackPicture

_HIGH: Final = 1280
_FOOT: Final = 76
_YEARS: Final = 9  # of a table of months in a stack
_TIMES: Final = 56  # labels below a curve
_CURVE: Final = (410.0, 900.0)  # least and greatest height of a curve with its drawdown
_SHARE: Final = 0.22  # of that, the drawdown's
_GRID: Final = 330.0


def stack_figure(picture: StackPicture, palette: Palette) -> Figure:
    """The parts below each other; curves take what the others leave of a phone's height."""
    if not picture.parts:
        raise BadInput("a stack of pictures holds none: choose at least one")
    head = heading_height(picture.title, picture.facts)
    curves = sum(isinstance(part, EquityPicture) for part in picture.parts)
    rest = sum(_height(part) for part in picture.parts if not isinstance(part, EquityPicture))
    least, most = _CURVE
    each = min(max((_HIGH - head - rest - _FOOT) / max(curves, 1), least), most)
    sheet = Sheet(palette, head + rest + each * curves + (_FOOT if curves else EDGE))
    sheet.heading(picture.title, picture.facts)
    top = head
    for part in picture.parts:
        high = each if isinstance(part, EquityPicture) else _height(part)
        _draw(sheet, part, top, high)
        top += high
    covered = next((span(part) for part in picture.parts if isinstance(part, EquityPicture)), "")
    sheet.footing(covered)
    return sheet.figure


def _height(part: MonthsPicture | GridPicture) -> float:
    if isinstance(part, MonthsPicture):
        return months_height(part, _YEARS)
    return grid_height(part, _GRID if len(part.rows) > 1 else 90.0)


def _draw(sheet: Sheet, part: EquityPicture | MonthsPicture | GridPicture, top: float, high: float) -> None:
    if isinstance(part, EquityPicture):
        equity_on(sheet, part, top, top + high - _TIMES, high * _SHARE)
    elif isinstance(part, MonthsPicture):
        months_on(sheet, part, top, most=_YEARS)
    else:
        grid_on(sheet, part, top, _GRID if len(part.rows) > 1 else 90.0)
