"""Charts for a phone: a picture of `trading.pictures` drawn to a PNG, 1080 pixels wide, in a dark or a light theme.

One point of matplotlib is one pixel here. A phone shows the file at about 390 of its own pixels, so that nothing is
written smaller than 24; the file is at most 1280 high wherever the data allow it, which Telegram passes on unscaled.
Layout is computed from the top down with the measured width of every text: what does not fit is shortened or left
out, never laid over something else. Gain and loss are a light teal and a dark orange, which differ in lightness and
in blue for every kind of colour blindness, and every sign is written out as well. matplotlib's own font is used, so
that a chart is the same on every machine; what the font cannot write is left out or shown as an empty box.
Only the drawing process imports this package.
"""

from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from research.charts.bars import bars_figure
from research.charts.candles import candles_figure
from research.charts.council import CouncilPicture, council_figure
from research.charts.equity import equity_figure
from research.charts.heat import grid_figure, months_figure
from research.charts.rank import rank_figure
from research.charts.sheet import PALETTES
from research.charts.stack import stack_figure
from trading.pictures import (
    BarsPicture,
    EquityPicture,
    GridPicture,
    MonthsPicture,
    Picture,
    RankPicture,
    StackPicture,
    Theme,
    thinned,
)


def draw(picture: Picture | CouncilPicture, theme: Theme) -> bytes:
    """The picture as a PNG of at most 10 MB; `BadInput` when it holds nothing that could be shown."""
    content = io.BytesIO()
    canvas = FigureCanvasAgg(figure(picture, theme))
    canvas.print_png(content, pil_kwargs={"compress_level": 4})  # type: ignore[no-untyped-call]
    return content.getvalue()


def figure(picture: Picture | CouncilPicture, theme: Theme) -> Figure:
    """The same as a matplotlib figure, whose pixels are its points."""
    if isinstance(picture, CouncilPicture):
        return council_figure(picture, PALETTES[theme])
    picture, palette = thinned(picture), PALETTES[theme]
    if isinstance(picture, EquityPicture):
        return equity_figure(picture, palette)
    if isinstance(picture, BarsPicture):
        return bars_figure(picture, palette)
    if isinstance(picture, RankPicture):
        return rank_figure(picture, palette)
    if isinstance(picture, MonthsPicture):
        return months_figure(picture, palette)
    if isinstance(picture, GridPicture):
        return grid_figure(picture, palette)
    if isinstance(picture, StackPicture):
        return stack_figure(picture, palette)
    return candles_figure(picture, palette)
