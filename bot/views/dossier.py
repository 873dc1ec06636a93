"""One decision on the terminal, from packet to order: everything that was stored of it, and nothing else.

Plain text of at most `COLUMNS` columns for a person, JSON types for a script. What models and the exchange said is made
harmless for a terminal; the JSON holds it as it came. Times are UTC.
"""

from __future__ import annotations

import json
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from bot.text import counted, money, multiple, percent, price, quantity, readable
from bot.views.table import width
from storage.codec import encode
from storage.council import Dossier
from storage.queries import Story
from trading import events as ev
from trading.model import ZERO

COLUMNS: Final = 100
_LABEL: Final = 18
_RAW: Final = 8000  # characters of one answer that are shown
_SENTENCE: Final = 2000
_DERIVED: Final = 5  # significant digits of a distance that was computed, not quoted
_STRANGE: Final = "\N{REPLACEMENT CHARACTER}"
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
_AGENTS: Final = {"quant": "QUANT", "strategist": "STRATEGIST", "risk_manager": "RISK MANAGER"}


def dossier_object(dossier: Dossier) -> dict[str, Any]:
    """The same as JSON types: every stored event whole, amounts as text, times in ISO 8601."""
    story = dossier.story
    return {
        "verdict_id": _number(dossier),
        "candidate": _object(dossier.candidate),
        "testimonies": [_object(each) for each in dossier.testimonies],
        "opinion": _object(dossier.opinion),
        "verdict": _object(story.verdict) if story else None,
        "outcome": story.outcome if story else None,
        "events": [_object(each) for each in story.events] if story else [],
        "shadow": _object(dossier.shadow),
    }


def _number(dossier: Dossier) -> int | None:
    about = dossier.story.verdict if dossier.story else dossier.candidate
    return about.verdict_id if about else next((each.verdict_id for each in dossier.testimonies), None)


def _object(event: ev.Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    name, body = encode(event)
    return {"event": name, **json.loads(body)}


def dossier_text(dossier: Dossier) -> str:
    """The whole decision in lines of at most `COLUMNS` columns."""
    return "\n".join(
        [
            *_headline(dossier),
            *_section("PROPOSAL", _proposal(dossier)),
            *_agents(dossier),
            *_section("VERDICT", _verdict(dossier)),
            *_section("OTHER COUNCILS", _opinions(dossier)),
            *_section("ORDER", _order(dossier.story)),
            *_section("SHADOW", _shadow(dossier)),
        ]
    )


# Lines


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", title, *lines]


def _row(label: str, text: str) -> list[str]:
    """A label with its text beside it, wrapped below itself."""
    name = harmless(label[: _LABEL - 2])
    lead = f"  {name:<{_LABEL}}" if width(name) == len(name) else " " * (_LABEL + 2)
    room = COLUMNS - len(lead)
    shown = harmless(text[:_SENTENCE]).strip() or "–"
    lines = textwrap.wrap(shown, room if width(shown) == len(shown) else room // 2)
    return [(lead if place == 0 else " " * len(lead)) + line for place, line in enumerate(lines)]


def _block(text: str, indent: int) -> Iterator[str]:
    """Somebody else's lines as they stand, each in pieces that fit."""
    lead = " " * indent + "| "
    for line in text[:_RAW].split("\n"):
        shown = harmless(line.expandtabs(2)).rstrip()
        room = (COLUMNS - len(lead)) // (1 if width(shown) == len(shown) else 2)
        pieces = textwrap.wrap(shown, room, drop_whitespace=False, break_on_hyphens=False) or [""]
        yield from (f"{lead}{piece}".rstrip() for piece in pieces)
    if len(text) > _RAW:
        yield f"{lead}… {len(text) - _RAW:,} characters more: --json has them"


def harmless(text: str) -> str:
    """Text that a terminal shows where it was put: no escape sequence, no line end, no change of direction."""
    return "".join(map(_harmless, readable(text)))


def _harmless(character: str) -> str:
    if character.isascii():
        return character
    if not character.isprintable():
        return ""
    return _STRANGE if unicodedata.bidirectional(character) in _RIGHT_TO_LEFT else character


def _when(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _bar(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


# The decision


def _headline(dossier: Dossier) -> list[str]:
    story, proposed = dossier.story, dossier.candidate
    about = story.verdict if story else proposed
    if about is None:
        return [f"DECISION {_number(dossier)}"]
    end = "UNDER DEBATE"
    if story:
        end = "APPROVED" if story.verdict.approved else f"REJECTED by {story.verdict.gate}"
    line = f"DECISION {about.verdict_id}  {about.side.value.upper()} {about.symbol}  {end}  (council {about.council})"
    done = "decided" if story else "proposed"
    return [harmless(line)[:COLUMNS], f"bar {_bar(about.signal_time)}, {done} {_when(about.at)}"]


def _proposal(dossier: Dossier) -> Iterator[str]:
    """The candidate as it was proposed; where it was not debated, as the verdict tells it."""
    about = dossier.candidate or (dossier.story.verdict if dossier.story else None)
    if about is None:
        yield from _row("", "nothing is stored of it")
        return
    target = "the trailing stop alone" if about.take_profit is None else price(about.take_profit)
    distance = price(about.r_distance, _DERIVED)
    if about.atr is not None and about.atr > 0:
        distance += f" = {about.r_distance / about.atr:.2f} ATR of {price(about.atr, _DERIVED)}"
    yield from _row("close", price(about.close))
    yield from _row("entry", price(about.entry))
    yield from _row("stop", f"{price(about.stop)}; 1R is {distance}")
    yield from _row("target", target)
    yield from _row("equity", money(about.equity, sign=False))
    if dossier.candidate is not None:
        base = f"{quantity(about.qty)}, at risk {money(about.risk_usdt, sign=False)}"
        yield from _row("base size", base)


# The agents


def _agents(dossier: Dossier) -> Iterator[str]:
    """The models that were asked, then the rules that voted: beside them, in their place, or alone."""
    said = [each.said.answer for each in dossier.testimonies]
    counted_in = dossier.story.verdict.answers if dossier.story else ()
    for each in dossier.testimonies:
        yield from _section(_agent(each.said.answer.agent), _testimony(each))
    for answer in counted_in:
        if answer not in said:
            yield from _section(_agent(answer.agent), [*_row("asked", "its rules in code"), *_read(answer)])
    if not said and not counted_in:
        yield from _section("AGENTS", _row("asked", "nobody"))


def _agent(name: str) -> str:
    return _AGENTS.get(name, harmless(name)[:40].upper())


def _testimony(event: ev.AgentAnswered) -> Iterator[str]:
    said = event.said
    yield from _row("asked", f"{said.model} ({said.provider}), {_when(event.at)}")
    yield from _row("prompt", f"{said.prompt}  {said.prompt_hash}")
    yield from _row("schema", said.schema_hash)
    yield from _row("packet", _size(said.packet))
    yield from _block(_pretty(said.packet), 4)
    for call in said.calls:
        yield from _call(call)
    if not said.calls:
        yield from _row("calls", "none was made")
    if len(said.calls) > 1:
        yield from _row("together", _sum(said.calls))
    yield from _read(said.answer)
    if said.twin:
        yield from _row("stood in", "its rules in code voted in its place, at half size")


def _size(text: str) -> str:
    return f"{len(text.encode('utf-8', 'replace')):,} bytes"


def _pretty(packet: str) -> str:
    """The packet with one fact on a line; as it stands where it is no JSON."""
    try:
        return json.dumps(json.loads(packet), indent=2, ensure_ascii=False)
    except ValueError:
        return packet


def _call(call: ev.ModelCall) -> Iterator[str]:
    name = f"call {call.attempt}{' repair' if call.repair else ''}"
    code = f"HTTP {call.code}" if call.code else "no answer came"
    finish = f", finish {call.finish}" if call.finish else ""
    yield from _row(name, f"{call.status}, {code}{finish}, {call.latency_ms:,} ms, key …{call.key or '–'}")
    yield from _row("", _spent(call.bytes_in, call.bytes_out, call.tokens_in, call.tokens_out, call.cost_usd))
    if call.problem:
        yield from _row("  problem", call.problem)
    if call.raw:
        yield from _row("  answer", f"{_size(call.raw)}, as it came")
        yield from _block(call.raw, 4)


def _spent(bytes_in: int, bytes_out: int, tokens_in: int | None, tokens_out: int | None, cost: Decimal) -> str:
    told = "tokens not reported"
    if tokens_in is not None or tokens_out is not None:
        told = f"{_tokens(tokens_in)} tokens in, {_tokens(tokens_out)} out"
    return f"{bytes_in:,} bytes in, {bytes_out:,} out; {told}; {cost:f} USD"


def _tokens(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def _sum(calls: Sequence[ev.ModelCall]) -> str:
    """All calls of one agent; tokens are of those that were reported."""
    ins = [call.tokens_in for call in calls if call.tokens_in is not None]
    outs = [call.tokens_out for call in calls if call.tokens_out is not None]
    spent = _spent(
        sum(call.bytes_in for call in calls),
        sum(call.bytes_out for call in calls),
        sum(ins) if ins else None,
        sum(outs) if outs else None,
        sum((call.cost_usd for call in calls), ZERO),
    )
    return f"{counted(len(calls), 'call')}, {sum(call.latency_ms for call in calls):,} ms; {spent}"


def _read(answer: ev.AgentAnswer) -> Iterator[str]:
    """What was understood of it."""
    if answer.status.upper() != "OK":
        yield from _row("read", f"{answer.status}: {answer.text or 'no reason given'}")
        return
    belief = "" if answer.p_win is None else f", p(win) {answer.p_win:.2f}"
    yield from _row("read", f"{answer.vote}{belief}")
    yield from _row("because", answer.text)
    if answer.against:
        yield from _row("but", answer.against)
    for name, value in answer.details.items():
        yield from _detail(name, value)


def _detail(name: str, value: object) -> Iterator[str]:
    label = name[: _LABEL - 2].replace("_", " ")
    items = value if isinstance(value, list) else [value]
    for place, item in enumerate(items):
        yield from _row(label if place == 0 else "", _cited(item) if isinstance(item, Mapping) else _plain(item))
    if not items:
        yield from _row(label, "none")


def _cited(item: Mapping[str, Any]) -> str:
    if not {"key", "value", "reading"} <= set(item):
        return json.dumps(item, ensure_ascii=False)
    return f"{item['key']} = {_plain(item['value'])}: {item['reading']}"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# What came of it


def _verdict(dossier: Dossier) -> Iterator[str]:
    if dossier.story is None:
        yield from _row("", "none yet")
        return
    event = dossier.story.verdict
    yield from _row("decided", "APPROVED" if event.approved else f"REJECTED by {event.gate}")
    yield from _row("gates", _gates(event))
    for place, reason in enumerate(event.reasons):
        yield from _row("" if place else "reasons", f"- {reason}")
    if event.approved:
        size = f"{quantity(event.qty)} ({percent(event.size_modifier, 0)} of the base size)"
        yield from _row("size", f"{size}, at risk {money(event.risk_usdt, sign=False)}")
    if event.clamp:
        yield from _row("cap", event.clamp)


def _gates(event: ev.VerdictReached) -> str:
    """The gates in their order, as far as the stored event tells them apart."""
    asked = bool(event.answers)
    council = "nobody to ask" if event.council == "off" else "council passed"
    passed = {
        "council": ["guards passed"],
        "risk": ["guards passed", council],
        "guard": ["guards passed", council] if asked else [],
        "": ["guards passed", council, "size passed"],
    }.get(event.gate, ["guards passed"] if asked else [])
    end = {
        "guard": "stopped by the guards at the second look" if asked else "stopped by the guards",
        "council": "vetoed by the council",
        "risk": "no size that the account allows",
        "operator": "stopped before an order left",
        "superseded": "stopped: the next bar closed first",
        "": "sent",
    }.get(event.gate, f"stopped by {event.gate}")
    return ", ".join([*passed, end])


def _opinions(dossier: Dossier) -> Iterator[str]:
    """What others would have decided: told in the verdict, or reached after it."""
    opinions = dossier.story.verdict.opinions if dossier.story else ()
    for each in opinions:
        yield from _row(each.council, _would(each.approved, each.size_modifier))
    if later := dossier.opinion:
        yield from _row(later.council, _would(later.approved, later.size_modifier))
        for reason in later.reasons:
            yield from _row("", f"- {reason}")
    if not opinions and dossier.opinion is None:
        yield from _row("", "none was asked")


def _would(approved: bool, size: float) -> str:
    return f"would approve at {percent(size, 0)} of the base size" if approved else "would reject"


def _order(story: Story | None) -> Iterator[str]:
    """Its orders, fills, stop moves and its finished trade, in the order in which they happened."""
    if story is None or not story.events:
        yield from _row("", "none was sent" if story is None or not story.verdict.approved else "nothing is stored yet")
        return
    for event in story.events:
        yield from _row(f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M}", _step(event))
    yield from _row("came to", story.fate)


def _step(event: ev.Event) -> str:
    for kind, words in _STEPS:
        if isinstance(event, kind):
            return words(event)
    return type(event).__name__


def _intended(event: ev.OrderIntended) -> str:
    levels = "" if event.price is None else f" at {price(event.price)}"
    levels += "" if event.stop is None else f", stop {price(event.stop)}"
    levels += "" if event.take_profit is None else f", target {price(event.take_profit)}"
    what = f"{event.purpose} {event.type} {event.side} {quantity(event.qty)}{levels}"
    return f"intended {event.link_id}: {what.lower()}"


def _filled(event: ev.OrderFilled) -> str:
    slip = "" if event.slippage_bp is None else f", slipped {event.slippage_bp:+.1f} bp"
    how = "maker" if event.maker else "taker"
    what = f"{event.purpose} {event.side} {quantity(event.qty)} at {price(event.price)}".lower()
    lead = f"filled {event.link_id}".strip()
    return f"{lead}: {what}, {how}, fee {money(event.fee, sign=False)}{slip}"


def _funding(amount: Decimal) -> str:
    return f"funding {'received' if amount < 0 else 'paid'} {money(abs(amount), sign=False)}"


def _closed(event: ev.TradeClosed) -> str:
    paid = f"fees {money(event.fees, sign=False)}, {_funding(event.funding)}"
    span = f"best {multiple(event.best_r, 2)}, worst {multiple(event.worst_r, 2)}"
    how = f"{event.exit_reason}".replace("_", " ")
    return f"closed by {how} at {price(event.exit_price)}: {money(event.pnl)} = {multiple(event.r, 2)}; {paid}; {span}"


_STEPS: Final[tuple[tuple[type[ev.Event], Callable[[Any], str]], ...]] = (
    (ev.OrderIntended, _intended),
    (ev.OrderAccepted, lambda event: f"accepted {event.link_id} as {event.order_id}"),
    (ev.OrderRefused, lambda event: f"refused {event.link_id}: {event.reason}"),
    (ev.OrderDoubted, lambda event: f"in doubt {event.link_id}: {event.reason}"),
    (ev.OrderCancelled, lambda event: f"cancelled {event.link_id}: {event.reason}"),
    (ev.OrderFilled, _filled),
    (ev.FundingPaid, lambda event: _funding(event.amount)),
    (ev.StopMoved, lambda event: f"stop moved from {price(event.old)} to {price(event.new)}"),
    (ev.TradeClosed, _closed),
)


def _shadow(dossier: Dossier) -> Iterator[str]:
    """The candidate on its own, whatever was decided."""
    event = dossier.shadow
    if event is None:
        followed = "it is followed on its own after every close until it has ended"
        yield from _row("", f"no end is stored: {followed if dossier.followed else 'nobody has followed it'}")
        return
    ends = {"unfilled": "its entry would not have filled", "lost": "its bars are not known any more"}
    if event.r is None:
        yield from _row("ended", ends.get(event.ended, event.ended))
        return
    at = "" if event.exit_price is None else f" at {price(event.exit_price)}"
    yield from _row("ended", f"by {event.ended.replace('_', ' ')}{at}: {multiple(event.r, 2)} after costs")
    if event.best_r is not None:
        yield from _row("best", multiple(event.best_r, 2))
    if event.entry_time and event.exit_time:
        yield from _row("bars", f"{_bar(event.entry_time)} to {_bar(event.exit_time)}")
