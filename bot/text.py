"""Words and numbers as the chat shows them: escaped, capped, with separators, signs and units.

Every function returns text that is safe inside Telegram's HTML: whatever comes from outside (agents, the
exchange, configuration) passes through `prose` or `word`, which leave nothing that could be markup, a link,
a tappable command or a trick of writing direction. Numbers that are not finite are shown as a dash.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Final

LIMIT: Final = 4096  # characters of one message after entity parsing, counted in UTF-16 code units
CAPTION_LIMIT: Final = 1024  # the same of a photo's or a document's caption
UNKNOWN: Final = "–"
_LARGEST: Final = 18  # digits before the point; beyond it no amount is money
_PRICE_DIGITS: Final = 8
_LINK = re.compile(r"\b[a-z][a-z0-9+.\-]{1,15}://\S*|\bwww\.\S+|\bmailto:\S+", re.IGNORECASE)
# After @ / # $ that start a word; after a dot that a top level domain could follow; in an IP address.
_TRIGGER = re.compile(r"(?<=^[@/#$])(?=\w)|(?<=\W[@/#$])(?=\w)|(?<=\w\.)(?=[^\W\d_]{2})|(?<=\d\.)(?=\d+\.\d)")
_JOINER: Final = "\u2060"  # invisible and without width: breaks what a client would turn into a link
_KEPT_FORMATS: Final = frozenset("\u200d\ufe0f")  # they hold emoji together
_PRE: Final = "<pre>"
_PRE_END: Final = "</pre>"
_TAG = re.compile(r"<[^>]*>")


def prose(text: str, cap: int) -> str:
    """Somebody else's sentence on one line: at most `cap` characters, no link, nothing tappable, escaped."""
    line = " ".join(_LINK.sub("[link]", readable(text[: 8 * cap])).split())
    return html.escape(_TRIGGER.sub(_JOINER, shortened(line, cap)), quote=False)


def own(text: str, cap: int) -> str:
    """A sentence of our own code on one line: escaped and capped, its commands stay tappable."""
    return html.escape(shortened(readable(text), cap), quote=False)


def word(text: str, cap: int = 24) -> str:
    """Somebody else's name (a symbol, an agent, a status)."""
    return prose(text, cap) or UNKNOWN


def label(text: str, cap: int = 32) -> str:
    """Text for a button: one line, at most `cap` code units. Buttons know no markup: nothing is escaped."""
    return shortened(" ".join(readable(text[: 8 * cap]).split()), cap) or UNKNOWN


def verbatim(text: str, cap: int) -> str:
    """A line for a `<pre>` block, where nothing becomes a link or a command: its blanks stay, the rest is safe."""
    return html.escape(shortened(readable(text[: 8 * cap].expandtabs(4)).rstrip(), cap), quote=False)


def readable(text: str) -> str:
    """The text without what steers a display: control characters, line ends, writing direction, half a pair."""
    return "".join(map(_readable, text))


def _readable(character: str) -> str:
    """Control, format, surrogate and unassigned characters become a space or nothing."""
    category = unicodedata.category(character)
    if category in {"Cc", "Zl", "Zp", "Zs"}:
        return " "
    return "" if category[0] == "C" and character not in _KEPT_FORMATS else character


def shortened(text: str, cap: int) -> str:
    """At most `cap` UTF-16 code units, an ellipsis showing where something was left off."""
    if units(text) <= cap:
        return text
    cut = text.encode("utf-16-le", "replace")[: 2 * (cap - 1)].decode("utf-16-le", "ignore")
    return cut.rstrip() + "…"


def units(text: str) -> int:
    """Length as Telegram counts it."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "replace")) // 2


def visible(markup: str) -> int:
    """Length of HTML as Telegram counts it: after entity parsing."""
    return units(html.unescape(_TAG.sub("", markup)))


def fitted(lines: Sequence[str], limit: int = LIMIT) -> str:
    """The lines (each complete HTML) as one message; when it is too long, whole lines at the end give way."""
    text = "\n".join(lines)
    if units(text) <= limit or visible(text) <= limit:
        return text
    kept, room = [], limit - len("\n… 9999 more lines")
    for line in lines:
        room -= visible(line) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join([*kept, f"… {len(lines) - len(kept)} more lines"])


def pages(text: str, limit: int = LIMIT) -> list[str]:
    """HTML as messages of at most `limit` visible characters each, cut at line ends.

    A `<pre>` block may be cut in two, each part a block of its own; every other tag ends on the line it begins on.
    """
    if units(text) <= limit or visible(text) <= limit:
        return [text]
    found: list[list[str]] = [[]]
    room, inside = limit, False
    for line in text.split("\n"):
        length = visible(line) + 1
        if found[-1] and length > room:
            if inside:
                found[-1][-1] += _PRE_END
            found.append([])
            room = limit
        lead = _PRE if inside and not found[-1] else ""
        shown = line if length <= limit + 1 else html.escape(shortened(plain(line), limit), quote=False)
        found[-1].append(lead + shown)
        room -= length
        inside = shown.rfind(_PRE) > shown.rfind(_PRE_END) or (inside and _PRE_END not in shown)
    if inside:
        found[-1][-1] += _PRE_END
    return ["\n".join(lines) for lines in found]


def stepped(text: str, steps: Sequence[str], limit: int = LIMIT) -> str:
    """A card with the lines that were added below it; when it is too long, the oldest steps give way."""
    if not steps:
        return text
    for dropped in range(len(steps) + 1):
        gap = [f"… {dropped} earlier {'step' if dropped == 1 else 'steps'}"] if dropped else []
        whole = "\n".join([text, *gap, *steps[dropped:]])
        if units(whole) <= limit or visible(whole) <= limit:
            return whole
    return fitted(text.split("\n"), limit)


def plain(markup: str) -> str:
    """The same message without any markup, for when Telegram refuses the entities."""
    return html.unescape(_TAG.sub("", markup))


def price(value: Decimal | float, digits: int = _PRICE_DIGITS) -> str:
    """A price with the digits it came with, at most `digits`: thousands separated, trailing zeros gone."""
    exact = _decimal(value)
    if exact is None:
        return UNKNOWN
    if exact.adjusted() > _LARGEST:
        return f"{exact:.4E}"
    places = max(digits - 1 - exact.adjusted(), 0) if exact else 0
    if -(_exponent(exact)) > places:
        exact = round(exact, places)
    return _separated(exact)


def quantity(value: Decimal) -> str:
    """A quantity in the base asset: exactly as it was ordered."""
    exact = _decimal(value)
    return UNKNOWN if exact is None else _separated(exact)


def money(value: Decimal | float, *, sign: bool = True, unit: str = " USDT") -> str:
    """An amount with two digits (four significant ones below a cent), its sign and its currency."""
    exact = _decimal(value)
    if exact is None:
        return UNKNOWN + unit
    if exact.adjusted() > _LARGEST:
        return f"{exact:.4E}{unit}"
    places = 2 if not exact or abs(exact) >= Decimal("0.01") else min(4 - exact.adjusted(), 8)
    shown = round(exact, places)
    return f"{shown + 0:{'+' if sign and shown else ''},.{places}f}{unit}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 trade`, `2 trades`, `2 entries`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def multiple(value: float, digits: int = 1) -> str:
    """A result in R: `+1.9R`."""
    return f"{signed(value, digits)}R"


def percent(fraction: float | Decimal, digits: int = 2, *, sign: bool = False) -> str:
    """A fraction as per cent."""
    exact = _decimal(fraction)
    if exact is None:
        return UNKNOWN
    return f"{signed(float(exact) * 100, digits)}%" if sign else f"{float(exact) * 100:,.{digits}f}%"


def signed(value: float, digits: int) -> str:
    """A number with its sign; there is no minus zero."""
    exact = _decimal(value)
    if exact is None:
        return UNKNOWN
    return f"{round(float(exact), digits) + 0.0:+,.{digits}f}"


def share(part: Decimal, whole: Decimal) -> str:
    """`part` of `whole` in per cent; a dash when there is no whole."""
    of, total = _decimal(part), _decimal(whole)
    return UNKNOWN if of is None or total is None or total <= 0 else percent(of / total)


def duration(length: timedelta) -> str:
    """`3d4h`, `3h12m`, `12m`, `45s`."""
    seconds = max(int(length.total_seconds()), 0)
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m" if minutes else f"{seconds}s"


def moment(at: datetime, zone: tzinfo) -> str:
    """`21 Jul 14:05` in the reader's zone."""
    return f"{at.astimezone(zone):%d %b %H:%M}"


def coin(symbol: str) -> str:
    """`BTCUSDT` as people say it: BTC."""
    short = symbol.removesuffix("USDT")
    return word(short or symbol, 16)


def _decimal(value: Decimal | float) -> Decimal | None:
    """Exact and finite, or None."""
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    return exact if exact.is_finite() and abs(exact.adjusted()) < 30 else None


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0


def _separated(value: Decimal) -> str:
    text = f"{value + 0:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
