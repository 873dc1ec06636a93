"""The terminal while the program runs: one plain line for each thing that happened, or the whole screen.

Plain lines are for pipes, log files and simple terminals. The whole screen belongs to `bot.dashboard`, which draws on
a `bot.screen.Screen`. Whatever comes from outside is `inert` before it is shown: no escape sequence, no line break, no
change of writing direction.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import unicodedata
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Final, Protocol

from bot.cards import seconds_of
from bot.text import money, multiple, price, quantity
from trading import events as ev
from trading.ports import Journal

LONGEST: Final = 400  # characters of somebody else's text that are worth a line
_ESCAPES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?)")
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
_STRANGE: Final = "\N{REPLACEMENT CHARACTER}"
_SPELT: Final[dict[int, str]] = {  # flags as their letters; no shades of skin
    **{0x1F1E6 + place: chr(ord("A") + place) for place in range(26)},
    **dict.fromkeys(range(0x1F3FB, 0x1F400), ""),
}


class Display(Protocol):
    """What shows a run to whoever sits at the terminal."""

    async def run(self) -> None:
        """Until it is cancelled."""
        ...


class Terminal:
    """Tails the journal from a place on and hands each line to `show`; keeps nothing."""

    def __init__(self, journal: Journal, after: int, show: Callable[[str], None]) -> None:
        self._journal = journal
        self._seq = after
        self._show = show

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await self._journal.grown(self._seq)
            for recorded in await self._journal.read(self._seq):
                self._seq = recorded.seq
                if line := line_of(recorded.event):
                    self._show(line)


@contextlib.asynccontextmanager
async def beside(display: Display) -> AsyncIterator[None]:
    """Shows while the block runs; when it is left, the terminal is as it was before."""
    showing = asyncio.create_task(display.run(), name="display")
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


# ------------------------------------------------------------------------------------------------------ plain lines


def line_of(event: ev.Event) -> str | None:
    """An event in one line, dated by the market; None for what only the journal needs."""
    words = words_of(event)
    return f"{event.at:%Y-%m-%d %H:%M} {words}" if words else None


def words_of(event: ev.Event) -> str | None:
    """The same without its date."""
    words = _WORDS.get(type(event))
    return inert(words(event)) if words else None


def inert(text: str, most: int = LONGEST) -> str:
    """Somebody else's text on one line of at most `most` characters, each of which stands where it was put.

    Control and format characters, combining marks and emoji joiners are left out, since terminals disagree about their
    width; letters that run from right to left would pull the columns beside them along, and are shown as strange.
    """
    return _inert(text[: 8 * most], most)


@lru_cache(maxsize=512)
def _inert(text: str, most: int) -> str:
    whole = unicodedata.normalize("NFC", _ESCAPES.sub(" ", text)).translate(_SPELT)
    line = " ".join("".join(map(_harmless, whole)).split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _harmless(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() else " "
    category = unicodedata.category(character)
    if category[0] in "CM":
        return " " if category == "Cc" else ""
    if category[0] == "Z":
        return " "
    return _STRANGE if unicodedata.bidirectional(character) in _RIGHT_TO_LEFT else character


def _proposed(event: ev.CandidateProposed) -> str:
    levels = f"entry {price(event.entry)} stop {price(event.stop)}"
    return f"#{event.verdict_id} {event.side.upper()} {event.symbol} PROPOSED {levels}, council {event.council} debates"


def _answered(event: ev.AgentAnswered) -> str:
    """What an agent says; nobody's prose but the reason of a failure."""
    answer, took = event.said.answer, seconds_of(event.said.calls)
    about = "asked by a person:" if event.verdict_id is None else f"#{event.verdict_id}"
    lasted = "" if took is None else f" in {took:.1f} s"
    odds = f" {answer.p_win:.2f}" if answer.p_win is not None else ""
    failed = answer.status.upper() != "OK"
    says = f"{answer.status}{lasted}: {answer.text}" if failed else f"{answer.vote}{odds}{lasted}"
    twin = ", its rules twin votes instead" if event.said.twin else ""
    return f"{about} {answer.agent.replace('_', ' ')} {says}{twin}"


def _opinion(event: ev.OpinionReached) -> str:
    would = f"approved {event.size_modifier:.0%}" if event.approved else "rejected it"
    return f"#{event.verdict_id} {event.symbol} the models would have {would}"


def _about(event: ev.VerdictReached | ev.OrderFilled | ev.TradeClosed | ev.StopMoved | ev.OrderCancelled) -> str:
    """`#12 BTCUSDT`, or the symbol alone where there was no decision."""
    return event.symbol if event.verdict_id is None else f"#{event.verdict_id} {event.symbol}"


def _session(event: ev.SessionStarted) -> str:
    begun = "carries on" if event.resumed else "starts"
    found = f"; found: {'; '.join(event.found)}" if event.found else ""
    return f"{event.badge} {begun}: {', '.join(event.symbols)} {event.interval_minutes} min{found}"


def _verdict(event: ev.VerdictReached) -> str:
    word = "APPROVED" if event.approved else f"REJECTED by {event.gate}"
    why = "" if event.approved else f": {'; '.join(event.reasons)}"
    levels = f"entry {price(event.entry)} stop {price(event.stop)}"
    return f"#{event.verdict_id} {event.side.upper()} {event.symbol} {word} {levels}{why}"


def _fill(event: ev.OrderFilled) -> str:
    what = event.purpose.replace("_", " ")
    return f"{_about(event)} {what} {event.side.lower()} {quantity(event.qty)} at {price(event.price)}"


def _exit(event: ev.TradeClosed) -> str:
    how = event.exit_reason.replace("_", " ")
    return f"{_about(event)} closed by {how} {money(event.pnl)} {multiple(event.r, 2)}"


def _cancelled(event: ev.OrderCancelled) -> str:
    return f"{_about(event)} {event.purpose.replace('_', ' ')} cancelled: {event.reason.replace('_', ' ')}"


def _settings(event: ev.SettingsChanged) -> str:
    changes = (f"{name} {event.old.get(name, '?')} -> {value}" for name, value in event.values.items())
    return f"settings changed by {event.by}: {', '.join(changes)}"


def _done(event: ev.CommandDone) -> str:
    found = f": {'; '.join(event.found)}" if event.found else ""
    return f"/{event.name} by {event.by} {'done' if event.done else 'NOT done'}{found}"


_WORDS: dict[type[ev.Event], Callable[..., str]] = {
    ev.SessionStarted: _session,
    ev.CandidateProposed: _proposed,
    ev.AgentAnswered: _answered,
    ev.VerdictReached: _verdict,
    ev.OpinionReached: _opinion,
    ev.OrderFilled: _fill,
    ev.TradeClosed: _exit,
    ev.StopMoved: lambda event: f"{_about(event)} stop {price(event.old)} -> {price(event.new)}",
    ev.OrderCancelled: _cancelled,
    ev.OrderRefused: lambda event: f"{event.symbol} order refused: {event.reason}",
    ev.OrderDoubted: lambda event: f"{event.symbol} order in doubt: {event.reason}",
    ev.CashAdjusted: lambda event: f"cash adjusted by {money(event.amount)}",
    ev.TradingPaused: lambda event: f"entries paused by {event.by}",
    ev.TradingResumed: lambda event: f"entries resumed by {event.by}",
    ev.AlertRaised: lambda event: f"ALERT {event.text}",
    ev.CouncilImpaired: lambda event: f"COUNCIL IMPAIRED {event.text}",
    ev.CouncilRecovered: lambda event: f"council recovered: {event.text}",
    ev.CouncilModeChanged: lambda event: f"council {event.old} -> {event.mode}, said {event.by}",
    ev.SettingsChanged: _settings,
    ev.SymbolsChanged: lambda event: f"no new entries on {', '.join(event.muted) or 'nothing'}, said {event.by}",
    ev.CommandDone: _done,
}
