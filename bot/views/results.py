"""What came of it: trades, results by period, market and way out, and the equity curve in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from decimal import Decimal
from itertools import groupby
from typing import Final

from bot.cards import Look, step
from bot.text import (
    CAPTION_LIMIT,
    UNKNOWN,
    coin,
    counted,
    duration,
    fitted,
    moment,
    money,
    multiple,
    percent,
    price,
    quantity,
    signed,
    word,
)
from bot.views.account import signed_result
from bot.views.table import Column, amount, per_cent, table
from bot.views.table import multiple as short_multiple
from storage.queries import Story
from storage.reports import Period, Totals
from trading.events import Event, FundingPaid, TradeClosed
from trading.model import CandleSeries, ExitReason, Purpose, Side
from trading.status import PositionView, Status

_THIN: Final = 30  # trades below which no rate means much
_MOST_STEPS: Final = 40
_EXITS: Final = {
    ExitReason.STOP: "stop",
    ExitReason.TAKE_PROFIT: "tp",
    ExitReason.TRAILING: "trail",
    ExitReason.SIGNAL: "sig",
    ExitReason.MANUAL: "hand",
    ExitReason.EXTERNAL: "ext",
}
_TRADES: Final = (
    Column("ID", 6),
    Column("PAIR", 5, left=True),
    Column("", 1),
    Column("USDT", 7),
    Column("R", 5),
    Column("EXIT", 5, left=True),
)
_GROUPS: Final = (Column("N", 5), Column("W%", 3), Column("USDT", 7), Column("R", 5))
_MOST_RANKED: Final = 20
_PERIODS: Final[dict[Period, tuple[str, str]]] = {
    "day": ("DAY", "today"),
    "week": ("WEEK", "this week"),
    "month": ("MONTH", "this month"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """The stretch that a report is about. `since`: its first moment, None for all there is; `equity` was had then."""

    words: str
    since: datetime | None = None
    equity: Decimal | float | None = None


def trades_view(closed: Sequence[TradeClosed], positions: Sequence[PositionView], look: Look) -> str:
    """What is open and the last finished trades, the newest first."""
    if not closed and not positions:
        return f"{look.lead} <b>no trade yet</b>: the first one comes with the first entry that is filled"
    totals = Totals()
    for trade in closed:
        totals.add(trade)
    head = f"{look.lead} <b>no trade finished yet</b>"
    if closed:
        trades = "trade" if len(closed) == 1 else f"{len(closed)} trades"
        head = f"{look.lead} <b>last {trades} {signed_result(totals.pnl, None, totals.r)}</b>, {totals.wins} won"
    head += f", {len(positions)} open" if positions else ""
    rows = [_open_row(each) for each in positions] + [_closed_row(each) for each in closed]
    return "\n".join([head, table(_TRADES, rows), "/trade ID shows one from decision to exit"])


def _open_row(view: PositionView) -> list[str]:
    side = "L" if view.side is Side.LONG else "S"
    return [_number(view.verdict_id), _pair(view.symbol), side, amount(view.unrealised), short_multiple(view.r), "open"]


def _closed_row(trade: TradeClosed) -> list[str]:
    side = "L" if trade.side is Side.LONG else "S"
    ends = _EXITS[trade.exit_reason]
    return [_number(trade.verdict_id), _pair(trade.symbol), side, amount(trade.pnl), short_multiple(trade.r), ends]


def _number(verdict_id: int | None) -> str:
    return UNKNOWN if verdict_id is None else str(verdict_id)


def _pair(symbol: str) -> str:
    return symbol.removesuffix("USDT") or symbol


def trade_view(story: Story, position: PositionView | None, look: Look) -> str:
    """One trade by its decision, as far as it has come: numbers, costs, and everything that happened, in order."""
    lines = [_trade_headline(story, position, look)]
    if story.trade is not None:
        lines += _closed_lines(story.trade)
    elif position is not None:
        lines += _open_lines(story, position)
    lines += [_slippage(story)] if story.fills else []
    lines += ["<b>Time line</b>", *_time_line(story, look)]
    return "\n".join(lines)


def _trade_headline(story: Story, position: PositionView | None, look: Look) -> str:
    verdict, trade = story.verdict, story.trade
    head = f"{look.lead} <b>#{verdict.verdict_id} {verdict.side.value.upper()} {coin(verdict.symbol)}"
    if trade is not None:
        result = signed_result(trade.pnl, verdict.equity, trade.r)
        return f"{head} closed {result}</b>, {word(trade.exit_reason.value).replace('_', ' ')}"
    if position is not None:
        return f"{head} open {signed_result(position.unrealised, verdict.equity, position.r)}</b>"
    return f"{head} {became(story.fate)}</b>"


def became(outcome: str) -> str:
    """What became of a decision, in words."""
    return {
        "rejected": "was rejected: there is no trade",
        "approved": "was approved, no order yet",
        "intended": "rests, not filled yet",
        "refused": "was refused by the exchange",
        "cancelled": "was not filled",
        "filled": "was filled",
        "closed": "was closed",
    }.get(outcome, word(outcome))


def _closed_lines(trade: TradeClosed) -> list[str]:
    held = duration(trade.exit_time - trade.entry_time)
    return [
        f"{quantity(trade.qty)}: {price(trade.entry_price)} → {price(trade.exit_price)} in {held}",
        f"Fees {money(trade.fees, sign=False)}, funding {_received(trade.funding)}",
        f"Best {multiple(trade.best_r)}, worst {multiple(trade.worst_r)}",
        f"Risk at the entry {money(trade.risk_usdt, sign=False)}",
    ]


def _open_lines(story: Story, view: PositionView) -> list[str]:
    levels = f"{quantity(view.qty)} from {price(view.entry_price)}, now {price(view.mark)}, stop {price(view.stop)}"
    return [
        levels,
        f"Fees so far {money(story.fees, sign=False)}, funding {_received(story.funding)}",
        f"Best so far {multiple(view.best_r)}, risk at the entry {money(view.initial_risk, sign=False)}",
    ]


def _received(paid: Decimal) -> str:
    """Funding as it moves the cash: negative when it was paid."""
    return money(paid.copy_negate())


def _slippage(story: Story) -> str:
    """Against the prices that were asked for, entry and exit apart, weighted by size."""
    parts = []
    for name, opening in (("entry", True), ("exit", False)):
        fills = [
            fill
            for fill in story.fills
            if (fill.purpose is Purpose.ENTRY) is opening and fill.slippage_bp is not None and fill.qty > 0
        ]
        size = float(sum(fill.qty for fill in fills))
        if size:
            mean = sum(float(fill.qty) * (fill.slippage_bp or 0.0) for fill in fills) / size
            parts.append(f"{name} {signed(mean, 1)} bp")
    return f"Slippage {', '.join(parts) or UNKNOWN} (positive is worse; none is measured at the market)"


def _time_line(story: Story, look: Look) -> list[str]:
    told = [f"{moment(story.verdict.at, look.zone)} decided: {'approved' if story.verdict.approved else 'rejected'}"]
    for funding, group in groupby(story.events, lambda event: isinstance(event, FundingPaid)):
        run = list(group)
        told += [_funded(run, look)] if funding else _steps(run, look)
    if len(told) > _MOST_STEPS:
        left = len(told) - _MOST_STEPS
        told = [told[0], f"… {left} steps left out", *told[1 + left :]]
    return told


def _steps(events: Iterable[Event], look: Look) -> list[str]:
    return [taken.line for event in events if (taken := step(event, look)) is not None]


def _funded(payments: Sequence[Event], look: Look) -> str:
    """Payments that nothing else came between, as one line."""
    paid = sum((each.amount for each in payments if isinstance(each, FundingPaid)), Decimal(0))
    times = f", {len(payments)} times" if len(payments) > 1 else ""
    return f"{moment(payments[-1].at, look.zone)} funding {_received(paid)}{times}"


def profit_view(totals: Totals, span: Span, fall: float | None, look: Look) -> str:
    """The sum of a span: what was earned, how, what it cost, and how deep it fell meanwhile."""
    if not totals.trades:
        return f"{look.lead} <b>no trade finished {span.words}</b>: a result comes with the first exit"
    trades = counted(totals.trades, "trade")
    lines = [
        f"{look.lead} <b>{signed_result(totals.pnl, span.equity, totals.r)}</b> {span.words}, {trades}",
        f"Won {totals.wins} of {totals.trades} ({_rate(totals.win_rate)})",
        f"Profit factor {_decimal(totals.profit_factor)}, expectancy {_r(totals.expectancy_r)} a trade",
        f"Fees {money(totals.fees, sign=False)}, funding {_received(totals.funding)} (in the result)",
        f"Best {_extreme(totals.best)}",
        f"Worst {_extreme(totals.worst)}",
        f"Deepest fall {_rate(fall, 2)} from a peak, at the closes",
    ]
    if totals.trades < _THIN:
        lines.append(f"Thin: {trades}; fewer than {_THIN} prove nothing")
    if span.since is not None:
        lines.append(f"Days are UTC, as the loss limits count them; from {span.since:%d %b %Y} on")
    return fitted(lines)


def _rate(fraction: float | None, digits: int = 0) -> str:
    return UNKNOWN if fraction is None else percent(fraction, digits)


def _decimal(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _r(value: float | None) -> str:
    return UNKNOWN if value is None else multiple(value, 2)


def _extreme(trade: TradeClosed | None) -> str:
    if trade is None:
        return UNKNOWN
    about = f"#{trade.verdict_id} " if trade.verdict_id is not None else ""
    return f"{about}{trade.side.value.upper()} {coin(trade.symbol)} {money(trade.pnl)} {multiple(trade.r)}"


def periods_view(rows: Sequence[tuple[date, Totals]], period: Period, look: Look) -> str:
    """Results by period, the newest first; `rows` come oldest first and are not empty."""
    heading, this = _PERIODS[period]
    whole = Totals()
    for _, totals in rows:
        whole.pnl += totals.pnl
        whole.r += totals.r
        whole.trades += totals.trades
    last = rows[-1][1]
    result = signed_result(last.pnl, None, last.r) if last.trades else "no trade"
    head = f"{look.lead} <b>{this} {result}</b>"
    over = f"{counted(len(rows), period)} {signed_result(whole.pnl, None, whole.r)}, {counted(whole.trades, 'trade')}"
    cells = [[period_label(day, period), *_group(totals)] for day, totals in reversed(rows)]
    return fitted([f"{head}; {over}", table((_named(heading), *_GROUPS), cells), _counted_by(period)])


def _named(heading: str) -> Column:
    return Column(heading, 10, left=True)


def _counted_by(period: Period) -> str:
    kind = {"day": "Days are UTC", "week": "Weeks are ISO weeks from Monday, UTC", "month": "Months are UTC"}[period]
    return f"{kind}, by the moment of the exit, as the loss limits count."


def period_label(day: date, period: Period) -> str:
    """`21 Jul`, `20 Jul` (the week's Monday) or `Jul 26`."""
    return f"{day:%b %y}" if period == "month" else f"{day:%d %b}"


def _group(totals: Totals) -> list[str]:
    if not totals.trades:
        return ["0", UNKNOWN, UNKNOWN, UNKNOWN]
    return [str(totals.trades), per_cent(totals.win_rate), amount(totals.pnl), short_multiple(totals.r)]


def performance_view(
    symbols: Sequence[tuple[str, Totals]], reasons: Sequence[tuple[str, Totals]], look: Look
) -> str:
    """Results by market and by way out, the best first."""
    trades = sum(totals.trades for _, totals in symbols)
    pnl = sum((totals.pnl for _, totals in symbols), Decimal(0))
    r = sum(totals.r for _, totals in symbols)
    best, worst = symbols[0], symbols[-1]
    head = f"{look.lead} <b>{signed_result(pnl, None, r)}</b> in {counted(trades, 'trade')}"
    if len(symbols) > 1:
        head += f"; best {coin(best[0])} {money(best[1].pnl)}, worst {coin(worst[0])} {money(worst[1].pnl)}"
    lines = [head, _ranking("PAIR", [(_pair(name), totals) for name, totals in symbols])]
    lines.append(_ranking("EXIT", [(name.replace("_", " "), totals) for name, totals in reasons]))
    if trades < _THIN:
        lines.append(f"Thin: {counted(trades, 'trade')}; fewer than {_THIN} prove nothing")
    return fitted(lines)


def _ranking(heading: str, rows: Sequence[tuple[str, Totals]]) -> str:
    foot = [f"… {len(rows) - _MOST_RANKED} more"] if len(rows) > _MOST_RANKED else []
    cells = [[name, *_group(totals)] for name, totals in rows[:_MOST_RANKED]]
    return table((_named(heading), *_GROUPS), cells, *foot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """An equity curve in numbers: first and last value in USDT, the deepest fall as a fraction, its closes."""

    first: float
    last: float
    fall: float | None
    closes: int
    began: datetime
    moved: Decimal = Decimal(0)


def equity_view(course: Course, words: str, look: Look) -> str:
    """The curve's caption. Money that was moved in or out is told apart from what was earned."""
    change = course.last - course.first - float(course.moved)
    part = f" ({percent(change / course.first, sign=True)})" if course.first > 0 else ""
    lines = [
        f"{look.lead} <b>equity {money(course.last, sign=False)}, {money(change)}{part}</b> {words}",
        f"Deepest fall {_rate(course.fall, 2)} from a peak, over {course.closes} closes",
        f"From {_day(course.began, look.zone)} with {money(course.first, sign=False)}",
    ]
    if course.moved:
        lines.append(f"Deposits less withdrawals {money(course.moved)}: in the curve, not in the change")
    return fitted(lines, CAPTION_LIMIT)


def _day(at: datetime, zone: tzinfo) -> str:
    return f"{at.astimezone(zone):%d %b %Y %H:%M}"


def chart_view(symbol: str, timeframe: str, series: CandleSeries, status: Status, look: Look) -> str:
    """The chart's caption: the last close, what is open there, what rests there. `series` is not empty."""
    last = float(series.close[-1])
    closed = moment(series.candle(len(series) - 1).close_time, look.zone)
    lines = [f"{look.lead} <b>{coin(symbol)} {timeframe} {price(last)}</b>, closed {closed}"]
    for view in status.positions:
        if view.symbol == symbol:
            result = signed_result(view.unrealised, None, view.r)
            at = f"{quantity(view.qty)} from {price(view.entry_price)}, stop {price(view.stop)}"
            lines.append(f"{view.side.value.upper()} {at}: {result}")
    lines += [
        f"{entry.side.value.upper()} entry rests at {price(entry.price)}, stop {price(entry.stop)}"
        for entry in status.entries
        if entry.symbol == symbol
    ]
    return fitted(lines, CAPTION_LIMIT)
