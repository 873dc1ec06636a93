"""Charts: readable on a phone, nothing cut off, nothing over something else, whatever the figures are."""

from __future__ import annotations

import io
import itertools
import math
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from research.charts import draw, figure
from research.charts import words as lettering
from research.charts.sheet import PALETTES, spread
from research.synthetic import synthetic
from trading import indicators
from trading.errors import BadInput
from trading.model import CandleSeries, FloatArray, utc
from trading.pictures import (
    MOST,
    BarsPicture,
    CandlePicture,
    EquityPicture,
    Level,
    Line,
    Mark,
    Picture,
    RankPicture,
    Theme,
    drawdown,
    thinned,
)

THEMES: tuple[Theme, ...] = ("dark", "light")
NEW_YEAR = 1_735_689_600_000  # 2025-01-01 UTC
BAR = 4 * 3_600_000
FACTS = (("Return", "+3.12%"), ("Max drawdown", "-7.90%"), ("Trades", "71"), ("Fees", "-93.20"))
UNICODE = "🚀 比特币 $x^2$ _\\frac{1}{2} Привет שלום مرحبا e\u0301 \x00\u202e\ufe0f\n\t ₿ "


def equity(values: Any, **changes: Any) -> EquityPicture:
    """A curve at every fourth hour from its own first value; pass what differs."""
    curve = np.asarray(values, np.float64)
    fields: dict[str, Any] = {
        "title": "PAPER equity +312.40 USDT (+3.12%)",
        "time": NEW_YEAR + np.arange(len(curve), dtype=np.int64) * BAR,
        "equity": curve,
        "start": float(curve[0]),
    }
    return EquityPicture(**(fields | changes))


def walk(count: int, *, sigma: float = 0.01, start: float = 100.0, seed: int = 7) -> FloatArray:
    steps = np.random.default_rng(seed).normal(0, sigma, count)
    return start * np.exp(np.cumsum(steps))


def series(close: Any, **changes: Any) -> CandleSeries:
    """Candles that end at these prices; pass what differs."""
    ends = np.asarray(close, np.float64)
    opens = np.concatenate((ends[:1], ends[:-1]))
    fields: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "interval": timedelta(hours=4),
        "timestamp": NEW_YEAR + np.arange(len(ends), dtype=np.int64) * BAR,
        "open": opens,
        "high": np.maximum(opens, ends) * 1.004,
        "low": np.minimum(opens, ends) * 0.996,
        "close": ends,
        "volume": 1.0 + np.arange(len(ends)) % 7,
    }
    return CandleSeries(**(fields | changes))


def candles(prices: CandleSeries, **changes: Any) -> CandlePicture:
    fields: dict[str, Any] = {"title": "BTC 4h", "series": prices}
    return CandlePicture(**(fields | changes))


def market() -> CandlePicture:
    """A chart with everything on it."""
    whole = synthetic("BTCUSDT", seed=5, bars=700)
    shown = whole.tail(160)
    upper, middle, lower = (each[-160:] for each in indicators.bollinger(whole.close, 20, 2.0))
    last = float(shown.close[-1])
    return candles(
        shown,
        title="BTC 4h 64,210.5 (+1.2% today)",
        lines=(
            Line(name="EMA 200", values=indicators.ema(whole.close, 200)[-160:]),
            Line(name="Bollinger 20, 2", values=upper),
            Line(name="Bollinger 20, 2", values=middle, dashed=True),
            Line(name="Bollinger 20, 2", values=lower),
            Line(name="RSI 14", values=indicators.rsi(whole.close, 14)[-160:], pane="RSI 14"),
        ),
        guides={"RSI 14": (25.0, 75.0)},
        levels=(
            Level(name="Entry", price=last * 0.9995, kind="entry", since=int(shown.timestamp[-20])),
            Level(name="Stop", price=last * 0.97, kind="stop", since=int(shown.timestamp[-20])),
            Level(name="Target", price=last * 1.04, kind="target"),
        ),
        marks=tuple(
            Mark(
                time=int(shown.timestamp[row]),
                price=float(shown.close[row]),
                kind=("long", "exit", "short", "exit")[at % 4],
                text="+1.9R" if at % 2 else "",
                won=at % 4 == 1,
            )
            for at, row in enumerate(range(4, 160, 12))
        ),
        facts=FACTS,
        zone="Europe/Berlin",
    )


def bars(values: Any, **changes: Any) -> BarsPicture:
    numbers = tuple(float(value) for value in values)
    labels = tuple(f"{at % 28 + 1} Jul" for at in range(len(numbers)))
    return BarsPicture(**({"title": "PAPER daily +312.00 USDT", "labels": labels, "values": numbers} | changes))


def rank(*groups: tuple[str, tuple[tuple[str, float, str], ...]], **changes: Any) -> RankPicture:
    return RankPicture(**({"title": "PAPER by symbol", "groups": groups} | changes))


USUAL: dict[str, Picture] = {
    "equity": equity(walk(1800, sigma=0.003, start=10_000), zone="Europe/Berlin", facts=FACTS),
    "bars": bars(np.round(np.random.default_rng(3).normal(8, 40, 14), 2), facts=FACTS),
    "rank": rank(
        ("Symbol", (("BTCUSDT", 412.31, "31 trades, 58% won"), ("1000PEPEUSDT", -120.77, "9 trades, 22% won"))),
        ("Exit", (("trailing stop", 812.4, "34 trades"), ("stop", -480.4, "22 trades"))),
    ),
    "candles": market(),
}
NEAR = tuple(
    Level(name=name, price=price, kind=kind)  # type: ignore[arg-type]
    for name, price, kind in (
        ("Entry", 100.0, "entry"),
        ("Stop", 99.99, "stop"),
        ("Target 1", 100.01, "target"),
        ("Target 2", 100.02, "target"),
        ("Far", 1e9, "target"),
        ("Zero", 0.0, "stop"),
        ("Unknown", math.nan, "stop"),
    )
)
EXTREME: dict[str, Picture] = {
    "constant equity": equity([10_000.0] * 500),
    "two points": equity([10_000, 10_012.5], zone="Asia/Kolkata"),
    "nothing but zero": equity([0.0, 0.0, 0.0]),
    "300,000 points": equity(10_000 + np.cumsum(np.random.default_rng(1).normal(0, 10, 300_000))),
    "not finite": equity([10_000, math.nan, 10_100, math.inf, 9_900, -math.inf, 10_050]),
    "huge equity": equity([1e15, 2e15, -3e17, 1e18]),
    "below zero": equity([100, -50, -200, 10]),
    "tiny equity": equity([1e-7, 2e-7, 1.5e-7]),
    "hardly a gain": equity([10_000, 10_000.01, 10_000.02]),
    "one moment": equity([1.0, 2.0], time=np.array([NEW_YEAR, NEW_YEAR])),
    "seconds": equity([1, 2, 3, 2], time=NEW_YEAR + np.arange(4) * 1000),
    "forty years": equity(10_000 + np.arange(5000.0), time=np.arange(5000) * 3 * 86_400_000),
    "any letters": equity([1, 2, 1.5], title=UNICODE * 9, facts=((UNICODE, "+4.2%"), ("中", "中文" * 40), *FACTS * 2)),
    "no title": equity([100, 110, 105], title=""),
    "only emoji": equity([100, 110, 105], title="🚀🚀🚀"),
    "a word too long": equity([100, 110, 105], title="W" * 400, facts=(("W" * 99, "W" * 99),)),
    "one bar": bars([5.0], labels=("Jul",)),
    "bars of zero": bars([0.0, 0.0, 0.0]),
    "bars out of range": bars([math.nan, 1e300, -1e12, math.inf]),
    "1,000 bars": bars(np.random.default_rng(1).normal(0, 1e6, 1000)),
    "long labels": bars([-1.0, 2.0], labels=(UNICODE * 5, "b"), unit=UNICODE),
    "rank of zero": rank(("Symbol", (("BTC", 0.0, ""),))),
    "rank of losses": rank(("Symbol", (("a", -1.0, "x"), ("b", -1e-9, "y"), ("c", math.nan, "")))),
    "60 rows": rank((UNICODE * 9, tuple((f"{UNICODE}{at}", 1e9 - at * 3e7, UNICODE * 9) for at in range(60)))),
    "one candle": candles(series([100.0])),
    "flat candles": candles(series([100.0] * 50, high=np.full(50, 100.0), low=np.full(50, 100.0))),
    "candles of zero": candles(series(np.zeros(5))),
    "prices of 0.0000123": candles(
        series(walk(200, start=1.23e-5), symbol="1000PEPEUSDC"),
        levels=(
            Level(name="Entry", price=0.0000123, kind="entry"),
            Level(name="Stop", price=0.0000121, kind="stop"),
        ),
    ),
    "prices of 123456.7": candles(
        series(walk(200, start=123_456.7)), levels=(Level(name="Entry", price=123_456.7, kind="entry"),)
    ),
    "levels at one place": candles(series(walk(200)), levels=NEAR),
    "lines of NaN": candles(
        series(walk(200)),
        lines=(
            Line(name="EMA 200", values=np.full(200, np.nan)),
            Line(name="Half", values=np.where(np.arange(200) < 100, np.nan, walk(200))),
            Line(name="Infinite", values=np.where(np.arange(200) == 7, np.inf, walk(200))),
            Line(name="RSI 14", values=np.full(200, np.nan), pane="RSI 14"),
        ),
    ),
    "marks everywhere": candles(
        series(walk(200)),
        levels=NEAR[:2],
        marks=tuple(
            Mark(time=NEW_YEAR + row * BAR, price=float(walk(200)[row % 200]), kind="exit", text=f"+{row}.0R", won=True)
            for row in range(-5, 230, 3)
        ),
    ),
    "marks out of range": candles(
        series(walk(50)),
        marks=tuple(Mark(time=NEW_YEAR, price=price, kind="long", text="x") for price in (0.0, 1e12, math.nan)),
    ),
    "no volume": candles(series(walk(90), volume=np.zeros(90))),
    "huge prices": candles(series(walk(90, start=1e16))),
    "prices near nothing": candles(series(walk(90, start=1e-11))),
    "5,000 candles": candles(series(walk(5000, sigma=0.003))),
    "many indicators": candles(
        series(walk(90)),
        lines=(
            *(Line(name=f"Indicator number {at}", values=walk(90) * (1 + at / 50)) for at in range(9)),
            *(Line(name=f"Pane {at}", values=np.full(90, float(at)), pane=f"Pane {at}") for at in range(4)),
        ),
        guides={"Pane 1": (1.0, 2.0, 2.01)},
    ),
    "minutes in winter time": candles(
        series(
            walk(200),
            interval=timedelta(minutes=1),
            timestamp=1_762_057_800_000 + np.arange(200, dtype=np.int64) * 60_000,  # the hour that New York has twice
        ),
        zone="America/New_York",
    ),
}
ALL = USUAL | EXTREME


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def pixels(content: bytes, colour: str) -> int:
    """How many pixels have exactly this colour."""
    shown = np.asarray(opened(content).convert("RGB"))
    wanted = np.array([round(part * 255) for part in to_rgb(colour)])
    return int((shown == wanted).all(axis=2).sum())


def texts(drawn: Figure) -> list[Text]:
    """Everything that is written on a figure."""
    return [each for each in drawn.findobj(Text) if each.get_visible() and each.get_text()]


def words(drawn: Figure) -> list[str]:
    return [each.get_text() for each in texts(drawn)]


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", USUAL)
def test_a_chart_is_a_png_for_a_phone(kind: str, theme: Theme) -> None:
    """1080 pixels wide, no higher than Telegram passes on unscaled, and far below its limits."""
    content = draw(USUAL[kind], theme)
    image = opened(content)
    assert image.format == "PNG"
    assert image.width == 1080
    assert 300 <= image.height <= 1280
    assert len(content) < 500_000


@pytest.mark.parametrize("kind", USUAL)
def test_the_themes_differ_in_their_background(kind: str) -> None:
    """Most of a dark chart is dark, most of a light one is light."""
    for theme in THEMES:
        content = draw(USUAL[kind], theme)
        assert pixels(content, PALETTES[theme].back) > 0.5 * math.prod(opened(content).size)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("kind", USUAL)
def test_gain_and_loss_have_their_colours(kind: str, theme: Theme) -> None:
    """Each of these charts has both."""
    content = draw(USUAL[kind], theme)
    assert pixels(content, PALETTES[theme].up) > 500
    assert pixels(content, PALETTES[theme].down) > 500


def test_a_chart_without_a_loss_has_none_of_its_colour() -> None:
    """The loss colour says something."""
    for picture in (equity([100.0, 101.0, 105.0]), bars([1.0, 2.0, 3.0])):
        assert pixels(draw(picture, "dark"), PALETTES["dark"].down) == 0
        assert pixels(draw(picture, "dark"), PALETTES["dark"].up) > 500


def test_a_chart_is_the_same_every_time_and_leaves_no_trace() -> None:
    """The same picture, the same file; matplotlib's settings stay as they were."""
    before = dict(mpl.rcParams)
    assert draw(market(), "dark") == draw(market(), "dark")
    assert dict(mpl.rcParams) == before


# ---- colours -------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes 2009, severity 1.0, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> FloatArray:
    parts = np.asarray(to_rgb(colour))
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(light: FloatArray) -> FloatArray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(np.maximum(to_xyz @ light / np.array([0.9505, 1.0, 1.089]), 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """The ratio of the WCAG."""
    dark, light = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(each)) for each in (one, other))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", SIGHT)
def test_gain_and_loss_differ_for_every_eye(sight: str, theme: Theme) -> None:
    """At least 35 apart in CIE L*a*b*, where 2 is just noticeable."""
    up, down = (np.clip(SIGHT[sight] @ linear(each), 0, 1) for each in (PALETTES[theme].up, PALETTES[theme].down))
    assert float(np.linalg.norm(lab(up) - lab(down))) > 35


@pytest.mark.parametrize("theme", THEMES)
def test_what_is_written_can_be_read(theme: Theme) -> None:
    """Contrast against the background, and of the text on a tag against the tag."""
    palette = PALETTES[theme]
    for colour in (palette.ink, palette.muted, palette.up, palette.down, palette.entry):
        assert contrast(colour, palette.back) > 4, colour
    for colour in (palette.up, palette.down, palette.entry):
        assert contrast(colour, palette.on) > 4, colour


# ---- layout --------------------------------------------------------------------------------------


def check_layout(drawn: Figure) -> None:
    """Every text lies inside the figure and on no other text, in letters of at least 8 points on the phone."""
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()  # type: ignore[no-untyped-call]
    wide, high = canvas.get_width_height()
    boxes = [(each.get_text(), each.get_window_extent()) for each in texts(drawn)]
    assert [text for text, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > wide or box.y1 > high] == []
    laid_over = [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
    assert laid_over == []
    assert [each.get_text() for each in texts(drawn) if float(each.get_fontsize()) < 22] == []
    assert [each.get_text() for each in texts(drawn) if each.get_parse_math()] == []  # $ is money here


@pytest.mark.parametrize("name", ALL)
def test_nothing_is_cut_off_and_nothing_lies_over_something_else(name: str) -> None:
    """The usual and the extreme."""
    check_layout(figure(ALL[name], "dark"))


@settings(max_examples=25)
@given(st.data())
def test_no_level_and_no_mark_gets_in_the_way_of_another(data: st.DataObject) -> None:
    """Wherever they are, however many, whatever they are called."""
    prices = st.floats(60, 160) | st.sampled_from([100.0, 100.1, 0.0, 1e9])
    names = st.sampled_from(["Entry", "Stop", "Target", "", "A name that is far too long for a phone"])
    kinds = st.sampled_from(["entry", "stop", "target", "last"])
    levels = data.draw(st.lists(st.builds(Level, name=names, price=prices, kind=kinds), max_size=7))
    times = st.integers(0, 91).map(lambda bar: NEW_YEAR + bar * BAR)
    kinds = st.sampled_from(["long", "short", "exit"])
    marks = st.builds(Mark, time=times, price=prices, kind=kinds, text=st.sampled_from(["", "+1.9R", "-112.5R"]))
    shown = data.draw(st.lists(marks, max_size=9))
    check_layout(figure(candles(series(walk(90)), levels=tuple(levels), marks=tuple(shown)), "light"))


@pytest.mark.parametrize("name", EXTREME)
def test_nothing_breaks_a_chart(name: str) -> None:
    """Warnings are errors here: no glyph is missing, no axis is singular, no value overflows."""
    for theme in THEMES:
        image = opened(draw(EXTREME[name], theme))
        assert image.width + image.height <= 10_000


@pytest.mark.parametrize("name", ["equity", "bars", "candles"])
def test_title_and_facts_are_all_there(name: str) -> None:
    """The title in one or two lines, every fact's label and value."""
    picture = USUAL[name]
    written = words(figure(picture, "light"))
    assert picture.title in " ".join(written)
    assert not isinstance(picture, RankPicture)
    assert {text for fact in picture.facts for text in fact} <= set(written)


def test_a_long_title_is_shortened_after_two_lines() -> None:
    """And says so."""
    written = words(figure(equity([1.0, 2.0], title="never ending story " * 20), "dark"))
    first, second = (text for text in written if "ending" in text)
    assert (first.startswith("never"), first.endswith("…"), second.endswith("…")) == (True, False, True)


def test_units_stand_at_the_axes() -> None:
    """Currency above the money, per cent at the drawdown, thousands separated."""
    written = words(figure(equity([10_000.0, 12_000.0, 11_000.0, 13_000.0]), "dark"))
    assert "USDT" in written
    assert "12,000" in written
    assert any(text.startswith("-") and text.endswith("%") for text in written)
    assert "USDC" in words(figure(candles(series(walk(50), symbol="SOLUSDC")), "dark"))


def test_few_ticks() -> None:
    """A phone has room for a handful."""
    for name, picture in USUAL.items():
        for axes in figure(picture, "dark").axes:
            assert len(axes.get_yticks()) <= 9, name


# ---- equity --------------------------------------------------------------------------------------


def test_the_deepest_drawdown_is_marked_and_dated_in_the_zone() -> None:
    """-50% at the fourth point, 12:00 UTC, which is already the next day in Auckland."""
    curve = equity([100.0, 120.0, 90.0, 60.0, 110.0], zone="Pacific/Auckland")
    assert "max -50.0% on 2 Jan" in words(figure(curve, "dark"))
    assert "none" in words(figure(equity([100.0, 120.0]), "dark"))


def test_the_start_counts_as_a_peak() -> None:
    """A curve that begins below the start is in drawdown from its first point."""
    assert "max -20.0% on 1 Jan" in words(figure(equity([80.0, 90.0, 85.0], start=100.0), "dark"))


def test_thinning_loses_no_extreme() -> None:
    """One point among 300,000 is still drawn, and so is the depth of the drawdown that it makes."""
    curve = np.linspace(10_000, 11_000, 300_000)
    curve[123_456], curve[200_001] = 5_000.0, 20_000.0
    top = figure(equity(curve), "dark").axes[0]
    drawn = np.asarray(top.lines[0].get_ydata())
    assert len(drawn) < 6_000
    assert (drawn.min(), drawn.max()) == (5_000.0, 20_000.0)
    depth, at = drawdown(curve, 10_000.0).min() * 100, utc(NEW_YEAR + 123_456 * BAR)
    assert f"max {depth:.1f}% on {at.day} {at:%b %Y}" in words(figure(equity(curve), "dark"))


@given(st.data())
def test_thinning_keeps_ends_extremes_and_the_deepest_fall(data: st.DataObject) -> None:
    """Whatever the curve: first and last point, lowest and highest, largest drawdown, order."""
    seed = data.draw(st.integers(0, 2**32))
    rng = np.random.default_rng(seed)
    curve = 1000 + np.cumsum(rng.standard_t(2, data.draw(st.integers(4_501, 12_000))))
    start = data.draw(st.sampled_from([float(curve[0]), 1000.0, 0.0, -5.0]))
    picture = thinned(equity(curve, start=start))
    assert isinstance(picture, EquityPicture)
    kept = picture.equity
    assert len(kept) <= 4_500
    assert (kept[0], kept[-1], kept.min(), kept.max()) == (curve[0], curve[-1], curve.min(), curve.max())
    assert drawdown(kept, start).min() == drawdown(curve, start).min()
    assert (np.diff(picture.time) > 0).all()


def test_the_peak_of_the_deepest_fall_is_kept() -> None:
    """Though its bucket has a higher point: 60, 100, 50, 120 fell by half, not from 60 to 50."""
    curve = np.full(9_000, 60.0)
    curve[4_003:4_006] = 100.0, 50.0, 120.0
    curve[4_006:] = 119.0
    kept = thinned(equity(curve))
    assert isinstance(kept, EquityPicture)
    assert len(kept.equity) < 4_000
    assert drawdown(kept.equity, 60.0).min() == -0.5


def test_a_few_points_are_not_thinned() -> None:
    """Nothing is left out of what can be seen."""
    picture = equity(walk(4_000))
    kept = thinned(picture)
    assert isinstance(kept, EquityPicture)
    assert kept.equity.tolist() == picture.equity.tolist()


# ---- bars and ranks ------------------------------------------------------------------------------


def boxes(axes: Axes) -> tuple[PolyCollection, list[tuple[float, float]]]:
    """The first collection of boxes on a pane, and the lower and upper end of each box."""
    found = next(each for each in axes.collections if isinstance(each, PolyCollection))
    heights = [np.asarray(path.vertices, np.float64)[:, 1] for path in found.get_paths()]
    return found, [(float(each.min()), float(each.max())) for each in heights]


def test_bars_go_up_and_down_and_add_up() -> None:
    """Profit above zero, loss below; the line below ends at the sum."""
    drawn = figure(bars([120.5, -40.25, 0.0, 231.75]), "dark")
    assert boxes(drawn.axes[0])[1] == [(0, 120.5), (-40.25, 0), (0, 0), (0, 231.75)]
    assert np.asarray(drawn.axes[1].lines[-2].get_ydata()).tolist() == [0, 120.5, 80.25, 80.25, 312.0]
    assert {"+120.50", "-40.25", "0", "+231.75", "+312.00"} <= set(words(drawn))


def test_a_rank_names_every_row() -> None:
    """Label, signed value with its unit, note."""
    written = words(figure(USUAL["rank"], "dark"))
    assert {"Symbol", "BTCUSDT", "+412.31 USDT", "31 trades, 58% won", "-480.40 USDT", "22 trades"} <= set(written)


def test_a_long_rank_sums_up_what_lies_between() -> None:
    """The best and the worst by name, the rest as one row, and nothing is lost of the sum."""
    rows = tuple((f"row {at}", 100.0 - at, "") for at in range(40))
    written = words(figure(rank(("Symbol", rows)), "dark"))
    assert "row 0" in written
    assert "row 39" in written
    assert "… 27 more" in written
    assert f"+{sum(100 - at for at in range(9, 36)):,.2f} USDT" in written


# ---- candles -------------------------------------------------------------------------------------


def test_every_candle_is_drawn_from_open_to_close() -> None:
    """One body per candle, in the colour of its direction."""
    prices = series([10.0, 12.0, 11.0, 13.0])
    drawn = figure(candles(prices), "light")
    bodies, spans = boxes(drawn.axes[0])
    assert spans[1:] == [(10.0, 12.0), (11.0, 12.0), (11.0, 13.0)]
    palette = PALETTES["light"]
    wanted = [palette.up, palette.up, palette.down, palette.up]
    assert np.asarray(bodies.get_facecolor())[:, :3].tolist() == [list(to_rgb(each)) for each in wanted]


def test_tags_show_levels_and_the_last_price() -> None:
    """Entry, stop and target by name and price as it is quoted; the last close as well."""
    drawn = figure(candles(series([100.5, 101.25]), levels=(NEAR[-1], *NEAR[:2])), "dark")
    assert {"Entry", "100", "Stop", "99.99", "101.25"} <= set(words(drawn))
    heights = {float(np.asarray(line.get_ydata())[0]): line.get_color() for line in drawn.axes[0].lines}
    assert heights == {100.0: PALETTES["dark"].entry, 99.99: PALETTES["dark"].down, 101.25: PALETTES["dark"].up}


def test_a_level_far_away_does_not_squash_the_candles() -> None:
    """It is shown at the edge with an arrow."""
    drawn = figure(candles(series(walk(90)), levels=NEAR), "dark")
    low, high = drawn.axes[0].get_ylim()
    assert high < 200
    assert low > 50
    assert {"▲ 1,000,000,000", "▼ 0"} <= set(words(drawn))


def test_a_level_begins_at_its_bar() -> None:
    """And ends at the right edge."""
    level = Level(name="Stop", price=100.0, kind="stop", since=NEW_YEAR + 30 * BAR)
    axes = figure(candles(series(walk(90)), levels=(level,)), "dark").axes[0]
    (line,) = [line for line in axes.lines if list(np.asarray(line.get_ydata())) == [100.0, 100.0]]
    assert np.asarray(line.get_xdata()).tolist() == [30.0, axes.get_xlim()[1]]


def test_a_mark_lies_in_its_bar_at_its_price() -> None:
    """Also a fill in the middle of a bar, and one in the bar that is still open."""
    prices = series(walk(90))
    marks = (
        Mark(time=NEW_YEAR + 40 * BAR + 1234, price=100.0, kind="long"),
        Mark(time=NEW_YEAR + 90 * BAR, price=101.0, kind="exit", text="+1.0R", won=True),
        Mark(time=NEW_YEAR - 1, price=102.0, kind="short"),
    )
    drawn = figure(candles(prices, marks=marks), "dark")
    lines = [np.asarray(line.get_xydata(), np.float64) for line in drawn.axes[0].lines]
    assert [line[0].tolist() for line in lines if len(line) == 1] == [[40.0, 100.0], [90.0, 101.0]]
    assert "+1.0R" in words(drawn)


def test_panes_below_show_their_guides_and_last_value() -> None:
    """RSI with its limits; an indicator that is nowhere defined has no entry in the legend."""
    drawn = figure(market(), "dark")
    written = words(drawn)
    assert {"RSI 14", "25", "75", "EMA 200", "Bollinger 20, 2", "Volume BTC"} <= set(written)
    assert len(drawn.axes) == 3
    assert "EMA 200" not in words(figure(EXTREME["lines of NaN"], "dark"))
    assert len(figure(EXTREME["no volume"], "dark").axes) == 1
    assert len(figure(candles(series(walk(50)), volume=False), "dark").axes) == 1


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "picture",
    [
        equity([1.0]),
        equity([1.0, math.nan]),
        equity([1.0, 2.0], zone="Mars/Olympus"),
        equity([1.0, 2.0], zone="../etc"),
        candles(series([])),
        candles(series(walk(MOST + 1))),
        bars([]),
        bars([1.0] * (MOST + 1)),
        rank(),
        rank(("Symbol", ())),
    ],
)
def test_what_nobody_could_read_is_refused(picture: Picture) -> None:
    """With a sentence about what to choose."""
    with pytest.raises(BadInput, match=r"choose|come with|name one"):
        draw(picture, "dark")


# ---- letters, numbers, times ---------------------------------------------------------------------


@given(st.text(max_size=80))
def test_any_text_can_be_written(text: str) -> None:
    """What is left of it has a glyph, on one line, and its width is known."""
    shown = lettering.readable(text)
    assert {ord(character) for character in shown} <= lettering._drawable() | {32}
    assert lettering.width(shown) >= 0
    assert lettering.width(lettering.fitted(text, 200)) <= 200


def test_letters_that_are_missing_are_seen_to_be_missing() -> None:
    """A coin whose name the font cannot write is not mistaken for another."""
    assert lettering.readable("比特USDT 🚀 ok\n\u202eevil") == "□□USDT ok evil"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(62650.5, "62,650.5"), (0.0000123, "0.0000123"), (123456.7, "123,456.7"), (0.0, "0"), (1e18, "1e+18"), (-5, "-5")],
)
def test_prices_are_written_as_they_are_quoted(value: float, shown: str) -> None:
    """Thousands separated, no digits that nobody quoted."""
    assert lettering.amount(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (10312.4, "10,312.40"),
        (1204331.2, "1,204,331"),
        (12_345_678, "12.35M"),
        (-2.5e9, "-2.50B"),
        (3.25e12, "3.25T"),
        (1e17, "1e+17"),
        (0.0000123, "0.000012"),
        (0.0, "0.00"),
    ],
)
def test_money_is_short(value: float, shown: str) -> None:
    """Cents where they count, suffixes where they do not."""
    assert lettering.money(value) == shown


@given(st.floats(-1e16, 1e16), st.floats(1e-9, 1e15))
def test_labels_of_ticks_differ(low: float, span: float) -> None:
    """No axis shows one label twice where its ticks can be told apart."""
    if abs(low) > span * 1e6:
        return
    values = lettering.ticks(low, low + span)
    written = lettering.labels(values, "%")
    assert len(set(written)) == len(values)
    assert not {"-0%", "-0.0%"} & set(written)


@given(st.lists(st.floats(0, 500), max_size=14), st.floats(1, 60))
def test_tags_are_spread(wanted: list[float], apart: float) -> None:
    """At least so far apart, inside the pane, in their order, and where they want to be if there is room."""
    ordered = sorted(wanted)
    places = spread(ordered, apart, 0.0, 500.0)
    room = min(apart, 500 / max(len(ordered) - 1, 1))
    assert all(b - a >= room - 1e-6 for a, b in itertools.pairwise(places))
    assert all(-1e-6 <= place <= 500 + 1e-6 for place in places)
    if all(b - a >= apart for a, b in itertools.pairwise(ordered)):
        assert places == pytest.approx(ordered)


@given(
    st.integers(0, 4_000_000_000_000),
    st.integers(2, 10**12),
    st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo"]),
)
def test_times_are_few_and_within_the_axis(first: int, length: int, name: str) -> None:
    """Rising, inside the period, one label each, in any zone."""
    places, labels = lettering.moments(first, first + length, ZoneInfo(name))
    assert len(places) == len(labels) <= 12
    assert all(first <= place <= first + length for place in places)
    assert (np.diff(places) > 0).all()


def test_times_are_those_of_the_zone() -> None:
    """Midnight in Berlin is a date, not 23:00; the foot line names the zone."""
    berlin = ZoneInfo("Europe/Berlin")
    places, labels = lettering.moments(NEW_YEAR, NEW_YEAR + 3 * 86_400_000, berlin)
    assert labels == ["2 Jan", "3 Jan", "4 Jan"]
    assert places[0] == NEW_YEAR + 23 * 3_600_000
    assert lettering.period(NEW_YEAR, NEW_YEAR + BAR, berlin) == "1 Jan 01:00 – 1 Jan 2025 05:00 · Europe/Berlin"
