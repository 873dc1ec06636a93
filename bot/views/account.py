"""How things stand: /status, /balance and /orders, from the trader's memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from decimal import Decimal
from typing import Final

from bot.cards import Look
from bot.text import (
    UNKNOWN,
    coin,
    duration,
    fitted,
    moment,
    money,
    multiple,
    own,
    percent,
    price,
    prose,
    quantity,
    share,
    word,
)
from bot.views.table import Column, amount, table
from bot.views.table import multiple as short_multiple
from trading.model import ZERO, OrderSide, Purpose, Side
from trading.orders import OrderState
from trading.status import EntryView, OrderView, PositionView, Status

_MOST_ROWS: Final = 30
_MOST_LINES: Final = 5
_MOST_GATES: Final = 10
_STALE_SECONDS: Final = 180.0
_POSITIONS: Final = (
    Column("PAIR", 5, left=True),
    Column("SIDE", 5, left=True),
    Column("uPNL", 7),
    Column("R", 5),
    Column("SL%", 4),
    Column("LQ%", 3),
)


def status_view(status: Status, zone: tzinfo, heat_limit: float | None = None) -> str:
    """The whole account, next close and shut gates. It differs only when something has changed.

    `heat_limit` is the most of the equity that may be at risk, as a fraction.
    """
    lines = [_headline(status, zone)]
    if status.positions:
        lines.append(_positions(status, heat_limit))
        lines += [_position_line(each) for each in status.positions[:_MOST_LINES]]
    else:
        lines.append("No open position")
    lines += [_resting(entry) for entry in status.entries[:_MOST_ROWS]]
    lines += [_equity_line(status), _today(status), f"Decisions {status.verdicts}, trades {status.trades}"]
    return fitted([*lines, *_outlook(status, zone)])


def _headline(status: Status, zone: tzinfo) -> str:
    parts = [word(status.badge), "PAUSED"] if status.paused else [word(status.badge)]
    parts.append(f"{len(status.positions)} open")
    if status.positions:
        parts.append(money(_unrealised(status)))
    parts.append(moment(status.market_time, zone) if status.market_time else "no bar yet")
    return f"<b>{' · '.join(parts)}</b>"


def _unrealised(status: Status) -> Decimal:
    return sum((each.unrealised for each in status.positions), ZERO)


def _positions(status: Status, heat_limit: float | None) -> str:
    heat = percent(status.open_risk, 1)
    if heat_limit is not None:
        heat = f"{heat.removesuffix('%')}/{percent(heat_limit, 1)}"
    foot = [f"heat {heat}   day {amount(status.day_pnl)}"]
    left = len(status.positions) - _MOST_ROWS
    if left > 0:
        foot.insert(0, f"… {left} more")
    return table(_POSITIONS, [_row(each, status.leverage) for each in status.positions[:_MOST_ROWS]], *foot)


def _row(view: PositionView, leverage: float) -> list[str]:
    side = "L" if view.side is Side.LONG else "S"
    name = view.symbol.removesuffix("USDT") or view.symbol
    return [name, f"{side}{leverage:.3g}x", amount(view.unrealised), short_multiple(view.r), *_away(view)]


def _away(view: PositionView) -> tuple[str, str]:
    """How far stop and liquidation are from the price, in per cent of it; negative when the price is beyond."""
    return _distance(view, view.stop, places=1), _distance(view, view.liquidation, places=0)


def _distance(view: PositionView, level: Decimal | None, *, places: int) -> str:
    if not view.mark or level is None:
        return UNKNOWN
    away = max(min(view.side.sign * (view.mark - level) / view.mark * 100, Decimal(999)), Decimal(-99))
    short = Decimal("-9.95") < away < Decimal("99.95")
    return f"{away:.{places if short else 0}f}"


def _position_line(view: PositionView) -> str:
    about = f"#{view.verdict_id} " if view.verdict_id is not None else ""
    target = f", target {price(view.take_profit)}" if view.take_profit is not None else ""
    leaving = f"; leaving: {word(view.exit_due).replace('_', ' ')}" if view.exit_due else ""
    levels = f"{quantity(view.qty)} from {price(view.entry_price)}, now {price(view.mark)}, stop {price(view.stop)}"
    return f"{about}{view.side.value.upper()} {coin(view.symbol)} {levels}{target}{leaving}"


def _resting(entry: EntryView) -> str:
    about = f"#{entry.verdict_id} " if entry.verdict_id is not None else ""
    bars = "bar" if entry.bars_left == 1 else "bars"
    return (
        f"Resting {about}{entry.side.value.upper()} {coin(entry.symbol)} {quantity(entry.qty)} at"
        f" {price(entry.price)}, stop {price(entry.stop)}, {entry.bars_left} {bars} left"
    )


def _equity_line(status: Status) -> str:
    change = (status.equity - status.initial_equity) / status.initial_equity if status.initial_equity else None
    since = f" ({percent(change, sign=True)})" if change is not None else ""
    return f"Equity {money(status.equity, sign=False)}{since}, cash {money(status.cash, sign=False, unit='')}"


def _today(status: Status) -> str:
    """The day's result; its share is of the cash at the beginning of that day."""
    began = status.cash - status.day_pnl
    part = f" ({percent(status.day_pnl / began, sign=True)})" if began > 0 else ""
    return f"Today {money(status.day_pnl)}{part}, {status.day_wins} of {status.day_trades} won"


def _outlook(status: Status, zone: tzinfo) -> list[str]:
    """Silence explains itself: when something can happen next, and what keeps it from happening."""
    lines = [f"Next close {moment(status.next_close, zone)}"] if status.next_close is not None else []
    if status.lost:
        lines.append(f"Exchange: {prose(status.lost, 200)}")
    if status.looked_age is not None and status.looked_age > _STALE_SECONDS:
        # In whole steps, so that looking twice does not make a new text.
        steps = int(status.looked_age // _STALE_SECONDS) * int(_STALE_SECONDS)
        lines.append(f"The exchange was last compared more than {duration(timedelta(seconds=steps))} ago")
    if status.council_health:
        lines.append(f"Council {word(status.council)} impaired: {prose(status.council_health, 200)}")
    lines += [f"Gate shut: {own(gate, 200)}" for gate in status.gates[:_MOST_GATES]]
    if len(status.gates) > _MOST_GATES:
        lines.append(f"… and {len(status.gates) - _MOST_GATES} more gates")
    if not status.gates:
        lines.append(f"All gates open: {_waits_for(status)}")
    return lines


def _waits_for(status: Status) -> str:
    taken = {view.symbol for view in status.positions} | {view.symbol for view in status.entries}
    free = [symbol for symbol in status.symbols if symbol not in taken and symbol not in status.muted]
    if not free:
        return "every market is in use"
    names = ", ".join(coin(symbol) for symbol in free[:_MOST_LINES])
    more = f" and {len(free) - _MOST_LINES} more" if len(free) > _MOST_LINES else ""
    return f"waiting for a signal on {names}{more}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid:
    """What the records add to the balance: everything paid so far (funding negative when received), and
    deposits less withdrawals since the start."""

    fees: Decimal
    funding: Decimal
    moved: Decimal


def balance_view(status: Status, paid: Paid, look: Look) -> str:
    """Where the money is, and what became of the money at the start."""
    result = status.equity - status.initial_equity - paid.moved
    base = status.initial_equity
    of_start = f" ({percent(result / base, sign=True)})" if base > 0 else ""
    bound = _margin(status)
    used = f"{len(status.positions)} open, {len(status.entries)} resting, {status.leverage:g}x"
    lines = [
        f"{look.lead} <b>equity {money(status.equity, sign=False)}</b>, {money(result)}{of_start} since the start",
        f"Cash {money(status.cash, sign=False)}",
        f"Unrealised {money(status.equity - status.cash)}",
        f"Margin bound {money(bound, sign=False)} ({used})",
        f"Free {money(status.cash - bound, sign=False)} ({share(status.cash - bound, status.cash)} of the cash)",
        f"Fees paid {money(paid.fees, sign=False)}, {_funding(paid.funding)}",
        f"Started with {money(base, sign=False)}",
    ]
    if paid.moved:
        lines.append(f"Deposits less withdrawals {money(paid.moved)}: not counted in the result")
    return fitted(lines)


def _margin(status: Status) -> Decimal:
    """Initial margin of everything open and resting: notional over leverage."""
    notional = sum((each.qty * each.entry_price for each in status.positions), ZERO)
    notional += sum((each.qty * each.price for each in status.entries), ZERO)
    return notional / Decimal(repr(status.leverage)) if status.leverage > 0 else notional


def _funding(paid: Decimal) -> str:
    """Funding in words: nobody remembers which sign is which."""
    return f"funding {'received' if paid < 0 else 'paid'} {money(abs(paid), sign=False)}"


def orders_view(status: Status, look: Look) -> str:
    """What rests at the exchange or is on its way there."""
    if not status.orders:
        waits = moment(status.next_close, look.zone) if status.next_close is not None else "the first close"
        protected = f" {len(status.positions)} open, their stops are on the exchange." if status.positions else ""
        return f"{look.lead} <b>no order</b>: the next one can come at {waits}.{protected}"
    counts = _counts(status.orders)
    lines = [f"{look.lead} <b>{counts}</b>", *(_order(each, status, look) for each in status.orders[:_MOST_ROWS])]
    if len(status.orders) > _MOST_ROWS:
        lines.append(f"… {len(status.orders) - _MOST_ROWS} more orders")
    lines += [f"Stop {coin(each.symbol)} {price(each.stop)} on the position" for each in status.positions[:_MOST_ROWS]]
    return fitted(lines)


_WORDS: Final = {
    Purpose.ENTRY: ("entry", "entries"),
    Purpose.TAKE_PROFIT: ("take profit", "take profits"),
    Purpose.EXIT: ("exit", "exits"),
    Purpose.STOP: ("stop", "stops"),
}


def _counts(orders: Sequence[OrderView]) -> str:
    parts = []
    for purpose, (one, many) in _WORDS.items():
        count = sum(each.purpose is purpose for each in orders)
        if count:
            parts.append(f"{count} {one if count == 1 else many}")
    return ", ".join(parts)


def _order(order: OrderView, status: Status, look: Look) -> str:
    """`#12 LONG BTC entry 0.012 at 63,410, stop 62,650, 2 bars left`."""
    about = f"#{order.verdict_id} " if order.verdict_id is not None else ""
    opening = order.purpose is Purpose.ENTRY
    bought = order.side is OrderSide.BUY
    side = Side.LONG if bought == opening else Side.SHORT
    at = f"at {price(order.price)}" if order.price is not None else "at the market"
    stop = f", stop {price(order.stop)}" if order.stop is not None else ""
    head = f"{about}{side.value.upper()} {coin(order.symbol)} {_WORDS[order.purpose][0]} {quantity(order.qty)} {at}"
    return f"{head}{stop}{_bars_left(order, status)}, since {moment(order.since, look.zone)}{_state(order)}"


def _bars_left(order: OrderView, status: Status) -> str:
    entry = next((each for each in status.entries if each.symbol == order.symbol), None)
    if order.purpose is not Purpose.ENTRY or entry is None:
        return ""
    return f", {entry.bars_left} {'bar' if entry.bars_left == 1 else 'bars'} left"


def _state(order: OrderView) -> str:
    if order.state is OrderState.DOUBTED:
        return " – in doubt: the exchange is being asked"
    return " – on its way" if order.state is OrderState.INTENDED else ""


def signed_result(pnl: Decimal, base: Decimal | float | None, r: float | None) -> str:
    """`+17.30 USDT (+0.17%) +1.9R`: the house's order of a result; what is not known is left out."""
    parts = [money(pnl)]
    if base is not None and base > 0:
        parts.append(f"({percent(pnl / Decimal(base), sign=True)})")
    if r is not None:
        parts.append(multiple(r))
    return " ".join(parts)
