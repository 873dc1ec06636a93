"""What is written on a chart: letters that the font has, measured and shortened; numbers; times in a zone."""

from __future__ import annotations

import functools
import math
import unicodedata
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from matplotlib import get_data_path
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.font_manager import FontProperties, get_font
from matplotlib.ticker import MaxNLocator

from trading.errors import BadInput
from trading.model import FloatArray, utc

SMALL, VALUE, TITLE = 24, 32, 40  # sizes of letters
_FONTS: Final = Path(get_data_path()) / "fonts" / "ttf"
_LONGEST: Final = 300  # characters of a text that are looked at at all


# ---------------------------------------------------------------------------------------------------------- letters


@functools.cache
def font(bold: bool, size: float) -> FontProperties:
    """The one font of all charts, in a weight and a size."""
    return FontProperties(fname=_FONTS / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"), size=size)


@functools.cache
def _drawable() -> frozenset[int]:
    """The characters that the font can write, in both weights."""
    regular, bold = (set(get_font(_FONTS / name).get_charmap()) for name in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"))
    return frozenset(regular & bold)


def readable(text: str) -> str:
    """What the font can write of a text, on one line: unknown letters become a box, emoji and marks go."""
    known = _drawable()
    kept = []
    for character in unicodedata.normalize("NFC", text[:_LONGEST]):
        category = unicodedata.category(character)
        if category[0] in "ZC":
            kept.append(" " if category in {"Zs", "Zl", "Zp", "Cc"} else "")
        elif ord(character) in known:
            kept.append(character)
        else:
            kept.append("□" if category[0] in "LN" else "")
    return " ".join("".join(kept).split())


@functools.cache
def _ruler() -> RendererAgg:
    return RendererAgg(8, 8, 72)  # type: ignore[no-untyped-call]


@functools.lru_cache(maxsize=4096)
def width(text: str, size: float = SMALL, *, bold: bool = False) -> float:
    """How wide a text is, in pixels."""
    measured: float = _ruler().get_text_width_height_descent(text, font(bold, size), False)[0]  # type: ignore[no-untyped-call]
    return measured


def fitted(text: str, room: float, size: float = SMALL, *, bold: bool = False) -> str:
    """The text, shortened with an ellipsis where it is wider than `room` pixels."""
    text = readable(text)
    if width(text, size, bold=bold) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        fits = width(text[:middle].rstrip() + "…", size, bold=bold) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return text[:low].rstrip() + "…"


def wrapped(text: str, room: float, size: float, *, lines: int) -> list[str]:
    """The text in bold on at most so many lines, broken at blanks, the last one shortened."""
    words, found = readable(text).split(), [""]
    for at, word in enumerate(words):
        longer = f"{found[-1]} {word}".strip()
        if width(longer, size, bold=True) <= room or not found[-1]:
            found[-1] = longer
        elif len(found) == lines:
            found[-1] = " ".join([found[-1], *words[at:]])
            break
        else:
            found.append(word)
    return [fitted(line, room, size, bold=True) for line in found if line]


# ---------------------------------------------------------------------------------------------------------- numbers


def amount(value: float, digits: int = 8) -> str:
    """A price or amount with the digits that count, thousands separated: 62,650.5 · 0.0000123 · 3.2e+18."""
    if not math.isfinite(value):
        return "–"
    if value and not 1e-10 <= abs(value) < 1e15:
        return f"{value:.4g}"
    exact = Decimal(f"{value:.{digits}g}")
    text = f"{exact:,f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) if exact else "0"


def money(value: float, *, sign: bool = False) -> str:
    """An amount of money in few characters: 10,312.40 · 1,204,331 · 12.35M."""
    plus = "+" if sign and value > 0 else ""
    for least, divisor, suffix in ((1e15, 0.0, ""), (1e12, 1e12, "T"), (1e9, 1e9, "B"), (1e7, 1e6, "M")):
        if abs(value) >= least:
            return plus + (f"{value / divisor:,.2f}{suffix}" if divisor else f"{value:.3g}")
    if 0 < abs(value) < 0.01:
        return plus + amount(value, 2)
    return plus + f"{value:,.{0 if abs(value) >= 100_000 else 2}f}"


def ticks(low: float, high: float, most: int = 5) -> FloatArray:
    """A few round numbers between two bounds."""
    found = np.asarray(MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high), np.float64)
    return found[(found >= low) & (found <= high)]


def labels(values: FloatArray, unit: str = "") -> list[str]:
    """Round numbers as they stand on an axis, all with the same number of decimals."""
    largest = float(np.abs(values).max(initial=0.0))
    step = float(np.diff(values).min()) if len(values) > 1 else largest
    for divisor, suffix, most in ((1.0, "", 10), (1e6, "M", 3), (1e9, "B", 3), (1e12, "T", 3)):
        places = _places(step / divisor)
        if step > 1e-10 and largest / divisor < 1e7 and places <= most:
            written = [f"{value / divisor + 0.0:,.{places}f}{suffix}" for value in values.tolist()]
            return [text.removesuffix(suffix if text == f"0{suffix}" else "") + unit for text in written]
    if step >= 1 and largest < 1e15:
        return [f"{value:,.0f}{unit}" for value in values.tolist()]
    digits = max(math.ceil(math.log10(largest / step)) + 2, 3) if 0 < step < largest else 3
    return [f"{value + 0.0:.{digits}g}{unit}" for value in values.tolist()]


def _places(step: float) -> int:
    """Decimals that a step needs; a step of no size needs none."""
    if step <= 0:
        return 0
    places = max(-math.floor(math.log10(step)), 0)
    scaled = step * 10.0**places
    return places if abs(scaled - round(scaled)) < 0.01 else places + 1


# ---------------------------------------------------------------------------------------------------------- times


def zone_named(name: str) -> ZoneInfo:
    """The time zone of that name; `BadInput` when there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadInput(f"{name!r} is no time zone: name one such as Europe/Berlin") from None


def moments(first: int, last: int, zone: ZoneInfo, most: int = 7) -> tuple[FloatArray, list[str]]:
    """Round times in ms UTC between two, with short labels: 14:00, 3 Mar, Mar, 2026."""
    if last - first < 5_000:
        return np.array([float(first)]), [f"{utc(first).astimezone(zone):%H:%M:%S}"]
    locator = AutoDateLocator(tz=zone, minticks=2, maxticks=most)  # type: ignore[no-untyped-call]
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator,
        tz=zone,
        formats=["%Y", "%b", "%d %b", "%H:%M", "%H:%M", "%H:%M:%S"],
        zero_formats=["", "%Y", "%d %b", "%d %b", "%H:%M", "%H:%M"],
        show_offset=False,
    )
    days = locator.tick_values(utc(first).astimezone(zone), utc(last).astimezone(zone))  # type: ignore[no-untyped-call]
    times = np.rint(np.asarray(days, np.float64) * 86_400_000.0)
    within = (times >= first) & (times <= last)
    words = formatter.format_ticks(np.asarray(days)[within])  # type: ignore[no-untyped-call]
    return times[within], [word.removeprefix("0") if " " in word else word for word in words]


def period(first: int, last: int, zone: ZoneInfo) -> str:
    """From when to when, as a line for people: 3 Mar 08:00 – 21 Jul 2026 14:00 · Europe/Berlin."""
    start, end = utc(first).astimezone(zone), utc(last).astimezone(zone)
    year = "" if start.year == end.year else f" {start.year}"
    return f"{day_of(start)}{year} {start:%H:%M} – {day_of(end)} {end.year} {end:%H:%M} · {zone.key}"


def day_of(at: datetime) -> str:
    """The day and month of a time: 3 Mar."""
    return f"{at.day} {at:%b}"
