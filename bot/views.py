"""Longer answers as HTML: pure functions from a picture of the state. Tables are at most 34 columns wide."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from decimal import Decimal
from typing import Final

from bot.cards import Look
from bot.text import coin, fitted, moment, money, own, percent, price, prose, quantity, visible, word
from trading.events import VerdictReached
from trading.model import Side
from trading.status import EntryView, PositionView, Status

WIDTH: Final = 34
_HEADER: Final = "PAIR  SIDE     uPNL     R   SL%"
_RULE: Final = "-" * len(_HEADER)
_MOST_ROWS: Final = 30


def status_view(status: Status, zone: tzinfo) -> str:
    """The whole account, next close and shut gates; the first line carries the news."""
    lines = [_headline(status, zone)]
    if status.positions:
        lines.append(_table(status))
    else:
        lines.append("No open position")
    lines += [_resting(entry) for entry in status.entries[:_MOST_ROWS]]
    change = (status.equity - status.initial_equity) / status.initial_equity if status.initial_equity else 0
    equity = f"Equity {money(status.equity, sign=False)} ({percent(change, sign=True)})"
    lines += [
        f"{equity}, cash {money(status.cash, sign=False, unit='')}",
        f"Today {money(status.day_pnl)} ({status.day_wins}/{status.day_trades})",
        f"Decisions {status.verdicts}, trades {status.trades}",
        *_outlook(status, zone),
    ]
    return fitted(lines)


def _headline(status: Status, zone: tzinfo) -> str:
    parts = [word(status.badge), "PAUSED"] if status.paused else [word(status.badge)]
    parts.append(f"{len(status.positions)} open")
    if status.positions:
        parts.append(money(sum((each.unrealised for each in status.positions), Decimal(0))))
    parts.append(moment(status.market_time, zone) if status.market_time else "no bar yet")
    return f"<b>{' · '.join(parts)}</b>"


def _table(status: Status) -> str:
    rows = [_position(each, status.leverage) for each in status.positions[:_MOST_ROWS]]
    foot = f"heat {percent(status.open_risk, 1)}   day {_amount(status.day_pnl)}"
    return "<pre>" + "\n".join([_HEADER, _RULE, *rows, _RULE, foot]) + "</pre>"


def _position(view: PositionView, leverage: float) -> str:
    """One row of at most WIDTH columns: `BTC   L5x     +41.2 +0.8   1.2`."""
    side = ("L" if view.side is Side.LONG else "S") + f"{leverage:.3g}x"
    away = min(abs((view.mark - view.stop) / view.mark) * 100, Decimal(999)) if view.mark else Decimal(0)
    name = word(view.symbol.removesuffix("USDT"), 5)
    padded = name + " " * (5 - visible(name))
    return f"{padded} {side[:5]:<5}{_amount(view.unrealised):>8} {_r(view.r):>5}{away:>6.1f}"


def _r(value: float) -> str:
    """A signed R multiple in at most 5 characters."""
    return f"{value:+.1f}" if abs(value) < 100 else f"{max(min(value, 9999), -9999):+.0f}"


def _amount(value: Decimal) -> str:
    """A signed amount in at most 8 characters."""
    if abs(value) < 1000:
        return f"{value:+.1f}"
    return f"{value:+.0f}" if abs(value) < 1_000_000 else f"{value / 1_000_000:+.1f}M"


def _resting(entry: EntryView) -> str:
    about = f"#{entry.verdict_id} " if entry.verdict_id is not None else ""
    bars = "bar" if entry.bars_left == 1 else "bars"
    return (
        f"Resting {about}{entry.side.value.upper()} {coin(entry.symbol)} {quantity(entry.qty)} at"
        f" {price(entry.price)}, stop {price(entry.stop)}, {entry.bars_left} {bars} left"
    )


def _outlook(status: Status, zone: tzinfo) -> list[str]:
    """Silence explains itself: when something can happen next, and what keeps it from happening."""
    lines = []
    if status.next_close is not None:
        lines.append(f"Next close {moment(status.next_close, zone)}")
    if status.gates:
        lines += [f"Gate shut: {own(gate, 200)}" for gate in status.gates[:10]]
    else:
        lines.append("All gates open: waiting for a signal")
    return lines


def verdicts_view(rows: Sequence[tuple[VerdictReached, str]], look: Look) -> str:
    """The last decisions with what became of each, the newest first."""
    if not rows:
        return f"{look.lead} <b>no decision yet</b>: one comes with the first signal after a bar's close"
    approved = sum(event.approved for event, _ in rows)
    counts = f"{approved} approved, {len(rows) - approved} rejected"
    head = f"{look.lead} <b>last {len(rows)} decisions</b>: {counts}"
    return fitted([head, *(_verdict(event, outcome, look.zone) for event, outcome in rows)])


def _verdict(event: VerdictReached, outcome: str, zone: tzinfo) -> str:
    head = f"#{event.verdict_id} {moment(event.at, zone)} {event.side.value.upper()} {coin(event.symbol)}"
    if event.approved:
        return f"{head} approved, {quantity(event.qty)} at {price(event.entry)}: {word(outcome, 40)}"
    why = f": {prose(event.reasons[0], 100)}" if event.reasons else ""
    return f"{head} rejected by {word(event.gate)}{why}"
