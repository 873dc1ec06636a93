"""What the terminal shows while the program runs: one plain line for each thing that happened."""

from __future__ import annotations

from collections.abc import Callable

from trading import events as ev
from trading.ports import Journal


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


def line_of(event: ev.Event) -> str | None:
    """An event in one line, dated by the market; None for what only the journal needs."""
    words = _LINES.get(type(event))
    return f"{event.at:%Y-%m-%d %H:%M} {words(event)}" if words else None


def _session(event: ev.SessionStarted) -> str:
    begun = "carries on" if event.resumed else "starts"
    return f"{event.badge} {begun}: {', '.join(event.symbols)} {event.interval_minutes} min"


def _verdict(event: ev.VerdictReached) -> str:
    word = "APPROVED" if event.approved else f"REJECTED by {event.gate}"
    why = "" if event.approved else f": {'; '.join(event.reasons)}"
    return f"#{event.verdict_id} {event.side.upper()} {event.symbol} {word} entry {event.entry} stop {event.stop}{why}"


def _fill(event: ev.OrderFilled) -> str:
    return f"#{event.verdict_id} {event.symbol} {event.purpose} {event.side} {event.qty} at {event.price:f}"


def _exit(event: ev.TradeClosed) -> str:
    return f"#{event.verdict_id} {event.symbol} closed by {event.exit_reason} {event.pnl:+.2f} USDT {event.r:+.2f}R"


_LINES: dict[type[ev.Event], Callable[..., str]] = {
    ev.SessionStarted: _session,
    ev.VerdictReached: _verdict,
    ev.OrderFilled: _fill,
    ev.TradeClosed: _exit,
    ev.StopMoved: lambda event: f"#{event.verdict_id} {event.symbol} stop {event.old} -> {event.new}",
    ev.OrderCancelled: lambda event: f"#{event.verdict_id} {event.symbol} {event.purpose} cancelled: {event.reason}",
    ev.TradingPaused: lambda event: f"entries paused by {event.by}",
    ev.TradingResumed: lambda event: f"entries resumed by {event.by}",
    ev.AlertRaised: lambda event: f"ALERT {event.text}",
}
