"""Commands that only look: how things stand, what came of it, charts, and how the program is.

Spans are counted in market time, as the journal is: under a replay a day passes in seconds.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from bot.access import Role
from bot.buttons import button, rows
from bot.pictures import (
    candle_picture,
    equity_picture,
    levels_of,
    marks_of,
    periods_picture,
    rank_picture,
    resampled,
)
from bot.ports import Answer, Asked, Desk
from bot.text import CAPTION_LIMIT, coin, counted, label, money, multiple, own, percent, price, prose, visible, word
from bot.views import (
    Course,
    Paid,
    Span,
    balance_view,
    chart_view,
    equity_view,
    health_view,
    logs_view,
    orders_view,
    performance_view,
    periods_view,
    profit_view,
    status_view,
    trade_view,
    trades_view,
    version_view,
)
from bot.views.results import period_label
from storage.equity import refined
from storage.outbox import Media
from storage.queries import EquityCurve
from storage.reports import (
    Period,
    Tally,
    Totals,
    by_period,
    by_reason,
    by_symbol,
    drawdown,
    first_day,
    last_periods,
    midnight,
)
from trading.errors import BadInput, OutcomeUnknown, Rejected, Transient
from trading.events import TradeClosed
from trading.model import EPOCH, ZERO, CandleSeries, utc
from trading.parameters import near
from trading.pictures import Picture
from trading.status import Status

_TRADES: Final = (10, 30)  # what is shown without a number, and the most
_LOGS: Final = (20, 100)
_DAYS: Final = 3650
_EQUITY_DAYS: Final = 30
_PERIODS: Final[dict[Period, tuple[str, int, int]]] = {
    "day": ("daily", 14, 60),
    "week": ("weekly", 12, 52),
    "month": ("monthly", 12, 36),
}
_MOST_CANCELS: Final = 6
_MOST_RANKED: Final = 12
_SHOWN_CANDLES: Final = 120
_WARM_UP: Final = 280  # bars before the shown ones, in which the slowest indicator settles
_MOST_BARS: Final = 5000
_MOST_BARS_IN_ONE: Final = 100  # traded bars in a candle; beyond that too few candles are left to look at
_TIMEFRAME: Final = re.compile(r"(\d{1,6})([mhdw]?)", re.ASCII)
_MINUTES: Final = {"": 1, "m": 1, "h": 60, "d": 1440, "w": 10_080}


async def status(asked: Asked, desk: Desk) -> Answer:
    """The whole account, and why nothing happens when nothing happens. `new` answers a tap with a new message."""
    now = desk.trader.status()
    subject = next((each.symbol for each in now.positions), next(iter(now.symbols), ""))
    buttons = rows(button("Refresh", "status"), button("Orders", "orders"), button("Chart", "chart", subject))
    text = status_view(now, desk.look.zone, desk.tunable.current().get("max_open_risk"))
    return Answer(text=text, buttons=buttons, in_place=refreshes(asked))


def refreshes(asked: Asked) -> bool:
    """Whether the answer to a tap takes the place of the message that carried the button."""
    return asked.tapped is not None and asked.arguments != ("new",)


async def balance(asked: Asked, desk: Desk) -> Answer:
    """Where the money is, and what was paid so far."""
    fees, funding = await desk.records.fees_and_funding()
    paid = Paid(fees=fees, funding=funding, moved=await desk.records.moved_money())
    return Answer(text=balance_view(desk.trader.status(), paid, desk.look))


async def orders(asked: Asked, desk: Desk) -> Answer:
    """What rests, with a button to cancel each entry for those who may."""
    now = desk.trader.status()
    cancels = []
    if asked.caller.role >= Role.OPERATOR:
        cancels = [
            button(f"Cancel {each.symbol.removesuffix('USDT')}", "cancel", each.verdict_id or each.symbol)
            for each in now.entries[:_MOST_CANCELS]
        ]
    buttons = rows(*cancels, button("Refresh", "orders"), button("Status", "status"))
    return Answer(text=orders_view(now, desk.look), buttons=buttons, in_place=refreshes(asked))


async def trades(asked: Asked, desk: Desk) -> Answer:
    """What is open and the last n finished trades."""
    count = count_of(asked, *_TRADES)
    if isinstance(count, str):
        return Answer(text=f"{desk.look.lead} {count}")
    closed = await desk.records.trades(count)
    return Answer(text=trades_view(closed, desk.trader.status().positions, desk.look))


async def trade(asked: Asked, desk: Desk) -> Answer:
    """One trade by the number of its decision, from the stored events."""
    number = number_of(asked)
    if isinstance(number, str):
        return Answer(text=f"{desk.look.lead} {number}")
    story = await desk.records.story(number)
    if story is None:
        return Answer(text=f"{desk.look.lead} there is no decision #{number}: /trades lists the last trades")
    positions = desk.trader.status().positions
    position = next((each for each in positions if each.verdict_id == number), None)
    buttons = rows(button("Why", "why", number), button("Chart", "chart", story.verdict.symbol))
    return Answer(text=trade_view(story, position, desk.look), buttons=buttons)


async def profit(asked: Asked, desk: Desk) -> Answer:
    """The sum of the last UTC days, today among them; without a number, of everything."""
    days = count_of(asked, 0, _DAYS)
    if isinstance(days, str):
        return Answer(text=f"{desk.look.lead} {days}")
    now, records = desk.trader.status(), desk.records
    span = Span(words="since the start", equity=now.initial_equity)
    if days and now.market_time is not None:
        since = midnight(first_day(now.market_time, "day")) - timedelta(days=days - 1)
        before = await records.equity_before(since)
        words = "today" if days == 1 else f"in {days} days"
        span = Span(words=words, since=since, equity=before if before is not None else now.initial_equity)
    totals = Totals()
    async for page in records.trade_pages(*_since(span)):
        for each in page:
            totals.add(each)
    curve = await records.equity_curve(*_since(span))
    began = None if span.equity is None else float(span.equity)
    return Answer(text=profit_view(totals, span, drawdown(curve.equity, began), desk.look))


def _since(span: Span) -> tuple[datetime, ...]:
    return () if span.since is None else (span.since,)


async def daily(asked: Asked, desk: Desk) -> Answer:
    """Results by UTC day, as a table and bars."""
    return await _periods(asked, desk, "day")


async def weekly(asked: Asked, desk: Desk) -> Answer:
    """Results by ISO week, as a table and bars."""
    return await _periods(asked, desk, "week")


async def monthly(asked: Asked, desk: Desk) -> Answer:
    """Results by month, as a table and bars."""
    return await _periods(asked, desk, "month")


async def _periods(asked: Asked, desk: Desk, period: Period) -> Answer:
    name, usual, most = _PERIODS[period]
    count = count_of(asked, usual, most)
    if isinstance(count, str):
        return Answer(text=f"{desk.look.lead} {count}")
    began, newest = await desk.records.first_marked(), await desk.records.trades(1)
    known = [at for at in (desk.trader.status().market_time, *(each.at for each in newest)) if at is not None]
    if not newest or not known:
        return Answer(text=f"{desk.look.lead} <b>no trade finished yet</b>: /{name} begins with the first exit")
    days = last_periods(max(known), period, count)
    if began is not None:
        days = [day for day in days if day >= first_day(began, period)] or days[-1:]
    tally = by_period(period)
    async for page in desk.records.trade_pages(midnight(days[0])):
        for each in page:
            tally.add(each)
    table = [(day, tally.groups.get(day, Totals())) for day in days]
    text = periods_view(table, period, desk.look)
    bars = [(period_label(day, period), float(totals.pnl)) for day, totals in table]
    total = money(sum((totals.pnl for _, totals in table), ZERO))
    title = f"{desk.look.badge} {total} in {counted(len(table), period)}"
    picture = periods_picture(bars, title=title)
    return await _pictured(desk, text, picture, f"{name}.png")


async def performance(asked: Asked, desk: Desk) -> Answer:
    """Results by market and by way out, over everything."""
    symbols, reasons = by_symbol(), by_reason()
    async for page in desk.records.trade_pages():
        for each in page:
            symbols.add(each)
            reasons.add(each)
    if not symbols.groups:
        return Answer(text=f"{desk.look.lead} <b>no trade finished yet</b>: /performance begins with the first exit")
    text = performance_view(symbols.ranked(), reasons.ranked(), desk.look)
    groups = [("Market", _ranks(symbols)), ("Way out", _ranks(reasons))]
    whole = sum((totals.pnl for totals in symbols.groups.values()), ZERO)
    count = sum(totals.trades for totals in symbols.groups.values())
    picture = rank_picture(groups, title=f"{desk.look.badge} {money(whole)} in {counted(count, 'trade')}")
    return await _pictured(desk, text, picture, "performance.png")


def _ranks(tally: Tally[str]) -> list[tuple[str, float, str]]:
    """Label, value and note of the best groups, for the bars."""
    return [
        (label(name.removesuffix("USDT").replace("_", " "), 14), float(totals.pnl), multiple(totals.r))
        for name, totals in tally.ranked()[:_MOST_RANKED]
    ]


async def equity(asked: Asked, desk: Desk) -> Answer:
    """The equity curve of the last days with its drawdown."""
    days = count_of(asked, _EQUITY_DAYS, _DAYS)
    if isinstance(days, str):
        return Answer(text=f"{desk.look.lead} {days}")
    now = desk.trader.status()
    since = now.market_time - timedelta(days=days) if now.market_time is not None else EPOCH
    curve, before = await desk.records.equity_curve(since), await desk.records.equity_before(since)
    if len(curve) < 2:
        few = "it begins with the second close of a bar"
        if before is not None:
            few = f"fewer than two bars have closed in that time, try /equity {min(10 * days, _DAYS)}"
        return Answer(text=f"{desk.look.lead} <b>no equity curve</b>: {few}")
    course = await _course(desk, curve, before if before is not None else float(now.initial_equity))
    text = equity_view(course, "in a day" if days == 1 else f"in {days} days", desk.look)
    drawn = refined(curve, await desk.samples.curve(since))
    picture = equity_picture(drawn, course.first, desk.look.badge, desk.look.zone)
    return await _pictured(desk, text, picture, "equity.png")


async def _course(desk: Desk, curve: EquityCurve, first: float) -> Course:
    began = utc(int(curve.time[0]))
    return Course(
        first=first,
        last=float(curve.equity[-1]),
        fall=drawdown(curve.equity, first),
        closes=len(curve),
        began=began,
        moved=await desk.records.moved_money(began),
    )


async def chart(asked: Asked, desk: Desk) -> Answer:
    """Candles of a market with indicators, fills and the open position's levels."""
    now = desk.trader.status()
    symbol = symbol_of(asked.arguments[0], now) if asked.arguments else _only(now)
    if symbol is None:
        offered = [button(each.removesuffix("USDT"), "chart", each) for each in now.symbols[:_MOST_RANKED]]
        return Answer(text=f"{desk.look.lead} {markets(asked, now)}", buttons=rows(*offered))
    minutes = _minutes(asked.arguments[1] if len(asked.arguments) > 1 else None, now.interval)
    if minutes is None:
        return Answer(text=f"{desk.look.lead} {_timeframes(symbol, now.interval)}")
    bars = minutes * timedelta(minutes=1) // now.interval
    try:
        series = await desk.prices.history(symbol, min(bars * (_SHOWN_CANDLES + _WARM_UP), _MOST_BARS))
    except (Transient, OutcomeUnknown, Rejected) as error:
        why = prose(str(error), 200)
        return Answer(text=f"{desk.look.lead} <b>no prices of {coin(symbol)} now</b>: {why}. Ask again in a minute.")
    if not len(series):
        waits = "the first bar has not closed yet"
        return Answer(text=f"{desk.look.lead} <b>no candles of {coin(symbol)} yet</b>: {waits}")
    return await _candles(desk, symbol, series, minutes, now)


def symbol_of(name: str, now: Status) -> str | None:
    """The traded symbol that a word means: BTC, btcusdt; None for another one."""
    wanted = name.upper()
    return next((each for each in now.symbols if wanted in {each, each.removesuffix("USDT")}), None)


def _only(now: Status) -> str | None:
    return now.symbols[0] if len(now.symbols) == 1 else None


def markets(asked: Asked, now: Status) -> str:
    """That a command takes one of the traded symbols: which there are, with an example."""
    names = [each.removesuffix("USDT") for each in now.symbols]
    listed = ", ".join(word(name) for name in names[:10]) or "none"
    hint = near(asked.arguments[0].upper(), names) if asked.arguments else ""
    example = word(names[0]) if names else "BTC"
    return f"/{asked.name} takes a traded market{own(hint, 60)}: {listed}; like /{asked.name} {example}"


def _minutes(wanted: str | None, traded: timedelta) -> int | None:
    """The minutes of a timeframe (`4h`, `1d`, `240`); None for one that the traded bars cannot be put together to."""
    own_minutes = traded // timedelta(minutes=1)
    if wanted is None:
        return own_minutes
    found = _TIMEFRAME.fullmatch(wanted.lower())
    minutes = int(found[1]) * _MINUTES[found[2]] if found else 0
    fits = own_minutes > 0 and minutes % own_minutes == 0 and 1 <= minutes // own_minutes <= _MOST_BARS_IN_ONE
    return minutes if fits else None


def _timeframes(symbol: str, traded: timedelta) -> str:
    """Which timeframes there are, with an example."""
    own_minutes = traded // timedelta(minutes=1)
    usual = (1, 5, 15, 30, 60, 120, 240, 480, 720, 1440, 4320, 10_080)
    fit = [each for each in usual if each % own_minutes == 0 and 1 <= each // own_minutes <= _MOST_BARS_IN_ONE]
    names = ", ".join(timeframe(each) for each in fit or [own_minutes])
    example = timeframe((fit or [own_minutes])[-1])
    return (
        f"candles are put together from the traded {timeframe(own_minutes)} bars, so a timeframe is a multiple of "
        f"those: {names}; like /chart {coin(symbol)} {example}"
    )


def timeframe(minutes: int) -> str:
    """`15m`, `4h`, `1d`, `1w`."""
    for unit, size in (("w", 10_080), ("d", 1440), ("h", 60)):
        if minutes >= size and minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


async def _candles(desk: Desk, symbol: str, series: CandleSeries, minutes: int, now: Status) -> Answer:
    text = chart_view(symbol, timeframe(minutes), series, now, desk.look)
    try:
        bars = resampled(series, minutes)
    except BadInput as error:
        return Answer(text=f"{text}\n{prose(str(error), 200)}")
    shown = bars.tail(_SHOWN_CANDLES)
    closed: list[TradeClosed] = []
    async for page in desk.records.trade_pages(utc(int(shown.timestamp[0]))):
        closed += [each for each in page if each.symbol == symbol]
    picture = candle_picture(
        bars,
        desk.params,
        bars=len(shown),
        title=f"{desk.look.badge} {coin(symbol)} {timeframe(minutes)} {price(float(bars.close[-1]))}",
        facts=_span(shown),
        zone=desk.look.zone,
        levels=[level for each in now.positions if each.symbol == symbol for level in levels_of(each)],
        marks=marks_of(symbol, closed, now.positions),
    )
    return await _pictured(desk, text, picture, f"{label(symbol, 20)}.png")


def _span(shown: CandleSeries) -> tuple[tuple[str, str], ...]:
    """What the candles say at a glance."""
    change = float(shown.close[-1]) / float(shown.open[0]) - 1
    since = f"{len(shown)} candles"
    return (
        (since, percent(change, sign=True)),
        ("High", price(float(shown.high.max()))),
        ("Low", price(float(shown.low.min()))),
    )


async def health(asked: Asked, desk: Desk) -> Answer:
    """How the program is: connections, disk, memory, delays."""
    text = health_view(desk.vitals.health(), desk.look)
    return Answer(text=text, buttons=rows(button("Refresh", "health")), in_place=refreshes(asked))


async def logs(asked: Asked, desk: Desk) -> Answer:
    """The last lines of the log."""
    count = count_of(asked, *_LOGS)
    if isinstance(count, str):
        return Answer(text=f"{desk.look.lead} {count}")
    return Answer(text=logs_view(desk.vitals.logs(count), desk.look))


async def version(asked: Asked, desk: Desk) -> Answer:
    """What runs, in which version."""
    return Answer(text=version_view(desk.vitals.version(), desk.look))


async def _pictured(desk: Desk, text: str, picture: Picture, name: str) -> Answer:
    """The text below its picture; alone, where it is too long for a caption or the picture cannot be drawn now."""
    if visible(text) > CAPTION_LIMIT:
        return Answer(text=text)
    try:
        data = await desk.painter.paint(picture, desk.look.theme)
    except Transient as error:
        return Answer(text=f"{text}\nThe chart could not be drawn now: {prose(str(error), 160)}")
    return Answer(text=text, media=Media(kind="photo", name=name, data=data))


# Arguments: a wrong one is answered by a sentence with a right example.


def count_of(asked: Asked, usual: int, most: int) -> int | str:
    """The one number after a command, `usual` without it; else a sentence that says what it takes."""
    if not asked.arguments:
        return usual
    word_ = asked.arguments[0]
    number = int(word_) if word_.isascii() and word_.isdigit() and len(word_) < 9 else 0
    if len(asked.arguments) > 1 or not 1 <= number <= most:
        return f"/{asked.name} takes a number from 1 to {most}, like /{asked.name} {min(max(usual, 7), most)}"
    return number


def number_of(asked: Asked) -> int | str:
    """The number of a decision after a command, `12` or `#12`; else a sentence that says so."""
    digits = asked.arguments[0].removeprefix("#") if len(asked.arguments) == 1 else ""
    if digits.isascii() and digits.isdigit() and len(digits) <= 15:
        return int(digits)
    return f"/{asked.name} takes the number of a decision, like /{asked.name} 12"
