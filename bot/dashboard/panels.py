"""The parts of the screen: head, markets, positions, council, feed, foot.

Each turns its share of a `Picture` into lines for the room it is given; who puts them together cuts what is too long.
What comes from outside passes through `inert` and is never read as markup; an amount that is not known is a dash.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

from bot.cards import strongest_no
from bot.dashboard.cells import (
    GAP,
    NO_PRICE,
    Line,
    Look,
    chart,
    cut,
    flowing,
    length,
    packed,
    plot,
    spread,
    table,
    wrapped,
)
from bot.dashboard.story import Market, Picture, Thought
from bot.screen import LogLine
from bot.terminal import inert, words_of
from bot.text import UNKNOWN, duration, moment, money, multiple, percent, price, quantity
from trading import events as ev
from trading.council.ballots import stance
from trading.model import ZERO, OrderSide, Purpose, Side
from trading.orders import OrderState
from trading.status import EntryView, OrderView, PositionView, Status

_TALL: Final = 20  # lines of a section from which it tells all it knows


def _coin(symbol: str) -> str:
    """`BTCUSDT` as people say it: BTC."""
    return cut(inert(symbol.removesuffix("USDT") or symbol), 12) or UNKNOWN


# ---- the head


def head(picture: Picture, look: Look, width: int) -> list[Line]:
    """Whose money it is and what time; where the chat is; how much there is."""
    chat = [Segment(" Chat ", look.palette.faint), Segment(cut(inert(picture.chat), width - 7), look.palette.accent)]
    about = [Segment(f"{_pace(picture)} · Ctrl-C leaves ", look.palette.faint)]
    return [_bar(picture, look, width), spread(chat, about, width), *_money(picture, look, width)]


def _bar(picture: Picture, look: Look, width: int) -> Line:
    """Badge, pause and clock: as much of it as fits."""
    status, palette = picture.status, look.palette
    bar = palette.paused if status.paused else palette.bar
    real = status.badge.upper().startswith("LIVE")
    badge = Segment(f" {cut(inert(status.badge), 24)} ", palette.real if real else palette.badge)
    words = [" PAUSED: no new entries", " PAUSED"] if status.paused else [" Conclave"]
    clock = list(_clock(picture, look))
    shorter = [each.removeprefix("next ") for each in clock]
    fits = [
        (name, times)
        for name, times in [*((each, clock) for each in words), (words[-1], shorter), (words[-1], clock[:1])]
        if badge.cell_length + cell_len(name) + cell_len(GAP.join(times)) + 3 <= width
    ]
    name, times = fits[0] if fits else (words[-1], [])
    return spread([badge, Segment(name, bar)], [Segment(f"{GAP.join(times)} ", bar)], width, bar)


def _clock(picture: Picture, look: Look) -> Iterator[str]:
    """Market time and the next close, with a countdown where time is real."""
    status, real = picture.status, picture.speed is None
    if status.market_time is None:
        yield "no bar has closed yet"
        return
    now = max(picture.now, status.market_time)
    if not real and status.next_close is not None:  # a fast market may be a bar ahead of what has been dealt with
        now = min(now, status.next_close)
    now = now.astimezone(look.zone)
    yield f"{now:%d %b %H:%M:%S %Z}" if real else f"{now:%d %b %Y %H:%M %Z}"
    if status.next_close is None:
        return
    close = f"next close {status.next_close.astimezone(look.zone):%H:%M}"
    yield f"{close} {_countdown(status.next_close - now)}" if real else close


def _countdown(left: timedelta) -> str:
    """`in 3:59:12`; after its time it is overdue."""
    seconds = int(abs(left).total_seconds())
    shown = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"in {shown}" if left >= timedelta() else f"overdue {shown}"


def _pace(picture: Picture) -> str:
    if picture.speed is None:
        return "real time"
    return f"{picture.speed:,g}× real time" if picture.speed else "as fast as it goes"


def _money(picture: Picture, look: Look, width: int) -> list[Line]:
    """Equity, today, total: money, then per cent, then R."""
    status, palette = picture.status, look.palette
    equity = Segment(money(status.equity, sign=False), palette.strong)
    day, total = _today(picture, look), _total(picture, look)
    wide = max(equity.cell_length, day[0].cell_length, total[0].cell_length)
    first = [[_padded(equity, wide)], *_standing(picture, look)]
    lines = [("Equity", first), ("Today", [[_padded(day[0], wide)], *([cell] for cell in day[1:])])]
    lines.append(("Total", [[_padded(total[0], wide)], *([cell] for cell in total[1:])]))
    return [[Segment(f" {name:<7}", palette.faint), *packed(parts, width - 8, "   ")] for name, parts in lines]


def _padded(cell: Segment, width: int) -> Segment:
    return Segment(" " * (width - cell.cell_length) + cell.text, cell.style)


def _standing(picture: Picture, look: Look) -> list[Line]:
    """What the equity is made of and what it has been."""
    status, palette = picture.status, look.palette
    held = sum((each.unrealised for each in status.positions), ZERO)
    peak = max(picture.peak, float(status.equity))
    down = 1 - float(status.equity) / peak if peak > 0 else None
    return [
        [Segment("drawdown ", palette.faint), Segment(UNKNOWN if down is None else percent(down))],
        [Segment("open ", palette.faint), Segment(money(held), palette.sign(held))] if status.positions else [],
        [Segment("at risk ", palette.faint), Segment(percent(status.open_risk))],
        [Segment("cash ", palette.faint), Segment(money(status.cash, sign=False))],
    ]


def _today(picture: Picture, look: Look) -> list[Segment]:
    """Trades closed on the market's UTC day; the share is that of the balance without them."""
    status, tally, day = picture.status, picture.tally, None
    if tally is not None:
        same = status.market_time is not None and tally.day == f"{status.market_time:%Y-%m-%d}"
        day = tally.day_r if same else 0.0
    lost = status.day_trades - status.day_wins
    record = f"{status.day_wins} won, {lost} lost" if status.day_trades else "no trade closed yet"
    return _result(status.day_pnl, status.cash - status.day_pnl, day, record, look)


def _total(picture: Picture, look: Look) -> list[Segment]:
    """Every trade of the account; the share is that of what it began with."""
    status, tally = picture.status, picture.tally
    if tally is None:
        return _result(None, ZERO, None, f"{status.trades} trades", look)
    record = f"{tally.wins} won, {tally.trades - tally.wins} lost" if tally.trades else "no trade closed yet"
    return _result(tally.pnl, status.initial_equity, tally.r, record, look)


def _result(pnl: Decimal | None, of: Decimal, r: float | None, record: str, look: Look) -> list[Segment]:
    """Money, per cent, R, won and lost."""
    style = look.palette.sign(pnl or 0)
    share = percent(pnl / of, sign=True) if pnl is not None and of > 0 else UNKNOWN
    return [
        Segment(f"{UNKNOWN} USDT" if pnl is None else money(pnl), style),
        Segment(f"{share:>7}", style),
        Segment(f"{UNKNOWN if r is None else multiple(r):>6}", style),
        Segment(record, look.palette.faint),
    ]


# ---- markets


def span(picture: Picture) -> str:
    """What the charts are made of."""
    bars = duration(picture.status.interval).removesuffix("00m")
    return f"change over the chart, {bars} bars" if any(each.closes for each in picture.markets) else ""


def markets(shown: Sequence[Market], look: Look, width: int, rows: int) -> list[Line]:
    """A line for each symbol, or a chart where there is room."""
    if shown and rows >= 3 * len(shown):
        shares = [rows // len(shown) + (place < rows % len(shown)) for place in range(len(shown))]
        drawn = [_big_market(one, look, width, share) for one, share in zip(shown, shares, strict=True)]
        return [line for lines in drawn for line in lines]
    lines = _indented(table([_facts(market, look) for market in shown], "<>", (), width - 1))
    room = width - max(map(length, lines), default=0)
    return _at_most([[*line, *_strip(one, look, room)] for line, one in zip(lines, shown, strict=True)], rows, look)


def _strip(market: Market, look: Look, room: int) -> Line:
    """The change over what the chart beside it shows."""
    wide = room - 13
    values = _values(market)[-max(wide, 2) :]
    change = [Segment(GAP), *_change(values, look)]
    wide = min(wide, room - length(change) - len(GAP))
    drawn = [Segment(GAP), Segment(chart(values, wide)[0], _trend(values, look))] if wide >= 8 else []
    return [*change, *drawn] if room >= length(change) else []


def _facts(market: Market, look: Look) -> list[Segment]:
    last = price(market.last) if market.last is not None else UNKNOWN
    name = f"{_coin(market.symbol)} (muted)" if market.muted else _coin(market.symbol)
    return [Segment(name, look.palette.strong), Segment(last, look.palette.strong)]


def _values(market: Market) -> tuple[float, ...]:
    """The closes and the last price after them."""
    last = () if market.last is None else (float(market.last),)
    return tuple(each for each in (*market.closes, *last) if abs(each) < NO_PRICE)


def _change(values: Sequence[float], look: Look) -> Line:
    """The last price against the first one shown."""
    if len(values) < 2 or not values[0]:
        return [Segment(f"{UNKNOWN:>8}", look.palette.faint)]
    change = values[-1] / values[0] - 1
    return [Segment(f"{percent(change, sign=True):>8}", look.palette.sign(change))]


def _trend(values: Sequence[float], look: Look) -> Style:
    return look.palette.sign(values[-1] - values[0]) if values else look.palette.plain


def _big_market(market: Market, look: Look, width: int, rows: int) -> list[Line]:
    """One line of facts above a chart of all that fits."""
    draw, dots = (chart, 1) if look.ascii_only else (plot, 2)
    values = _values(market)[-dots * (width - 1) :]
    parts = [*([cell] for cell in _facts(market, look)), _change(values, look)]
    if values:
        bounds = f"{price(min(values))} – {price(max(values))} in {len(values) - 1} bars"
        parts.append([Segment(bounds, look.palette.faint)])
    drawn = draw(values, width - 1, rows - 1)
    return _indented([packed(parts, width - 1), *([Segment(text, _trend(values, look))] for text in drawn)])


def _at_most(lines: list[Line], rows: int, look: Look) -> list[Line]:
    """So many of the lines; the last one says how many are missing, where that is not all there is to say."""
    if len(lines) <= max(rows, 1):
        return lines
    if rows <= 1:
        return lines[:1]
    return [*lines[: rows - 1], [Segment(f" … and {len(lines) - rows + 1} more", look.palette.faint)]]


# ---- positions and resting orders


def targets(status: Status) -> list[OrderView]:
    """Take profits that rest in the book."""
    return [each for each in status.orders if each.purpose is Purpose.TAKE_PROFIT]


def held(status: Status) -> str:
    """How many are open and rest, and the leverage."""
    resting = len(status.entries) + len(targets(status))
    shown = f", {resting} resting" if resting else ""
    return f"{len(status.positions)} open{shown}, leverage {status.leverage:g}x"


def positions(status: Status, look: Look, width: int, rows: int) -> list[Line]:
    """What is open, entries that rest, take profits that rest: a line for each."""
    held = [_position(each, look) for each in status.positions]
    held += [_entry(each, look) for each in status.entries]
    held += [_target(each, look) for each in targets(status)]
    if not held:
        return [[Segment(" nothing open, nothing resting", look.palette.faint)]]
    return _at_most(_indented(table(held, "<<<>>>>>><", (0, 6, 3, 4, 5), width - 1)), rows, look)


def _indented(lines: Sequence[Line]) -> list[Line]:
    return [[Segment(" "), *line] for line in lines]


def _position(view: PositionView, look: Look) -> list[Segment]:
    """Number, coin, side, quantity, entry, stop, its distance, profit, R, and what else is known."""
    palette = look.palette
    profit = palette.sign(view.unrealised)
    away = abs(view.mark - view.stop) / view.mark if view.mark and view.stop else None
    note = f"leaving: {inert(view.exit_due)}".replace("_", " ") if view.exit_due else ""
    return [
        *_who(view.verdict_id, view.symbol, view.side, look),
        Segment(quantity(view.qty)),
        Segment(f"at {price(view.entry_price)}"),
        Segment(f"stop {price(view.stop)}") if view.stop else Segment("NO STOP", palette.warn),
        Segment("" if away is None else f"{percent(away)} away", palette.faint),
        Segment(money(view.unrealised), profit),
        Segment(multiple(view.r), profit),
        Segment(note, palette.warn),
    ]


def _entry(view: EntryView, look: Look) -> list[Segment]:
    bars = "bar" if view.bars_left == 1 else "bars"
    return [
        *_who(view.verdict_id, view.symbol, view.side, look),
        Segment(quantity(view.qty)),
        Segment(f"at {price(view.price)}"),
        Segment(f"stop {price(view.stop)}"),
        Segment(""),
        Segment(f"rests {view.bars_left} {bars}", look.palette.accent),
        Segment(""),
        Segment(""),
    ]


def _target(view: OrderView, look: Look) -> list[Segment]:
    state = "in doubt" if view.state is OrderState.DOUBTED else "rests"
    held = Side.LONG if view.side is OrderSide.SELL else Side.SHORT
    number, coin, _ = _who(view.verdict_id, view.symbol, held, look)
    cells = [Segment("TARGET", look.palette.accent), Segment(quantity(view.qty))]
    cells.append(Segment(UNKNOWN if view.price is None else f"at {price(view.price)}"))
    rest = [Segment(""), Segment(""), Segment(state, look.palette.accent), Segment(""), Segment("")]
    return [number, coin, *cells, *rest]


def _who(number: int | None, symbol: str, side: Side, look: Look) -> list[Segment]:
    colour = look.palette.good if side is Side.LONG else look.palette.bad
    return [
        Segment(f"#{number}" if number is not None else UNKNOWN, look.palette.faint),
        Segment(_coin(symbol), look.palette.strong),
        Segment(side.upper(), colour),
    ]


# ---- the council


def council(thoughts: Sequence[Thought], look: Look, width: int, rows: int) -> list[Line]:
    """The last decisions, the newest first; where there is room, the newest ones with every argument."""
    lines: list[Line] = []
    for place, thought in enumerate(thoughts):
        if len(lines) >= rows:
            break
        lines += _thought(thought, look, width, rows - len(lines), full=rows >= _TALL and place < 3)
        lines += [[]] if rows >= _TALL and not _is_brief(thought.verdict) else []
    return lines or [[Segment(" no decision yet: one comes with the first signal after a close", look.palette.faint)]]


def _thought(thought: Thought, look: Look, width: int, rows: int, *, full: bool) -> list[Line]:
    """What was decided, how everybody voted, the strongest no, and why; at most `rows` lines."""
    event = thought.verdict
    lines = [_decision(thought, look, width)]
    if _is_brief(event):
        return lines
    if full:
        lines += _arguments(event, look, width)
    else:
        votes = [[*_name(answer, look), Segment(" "), *_vote(answer, event.side, look)] for answer in event.answers]
        lines += _indented(_indented(flowing(votes, width - 2, " · ")))
    for mark, text, style in _reasons(event, look, full=full):
        room = min(3 if full else 2, rows - len(lines))
        lines += _said(mark, text, style, look, width, room) if room > 0 else []
    return lines[:rows]


def _reasons(event: ev.VerdictReached, look: Look, *, full: bool) -> list[tuple[str, str, Style]]:
    """The strongest no first, then the other reasons; in full, what an argument above has said is left out."""
    palette, no = look.palette, strongest_no(event.answers, event.side)
    said = [answer.text.strip() for answer in event.answers if full]
    told = [each for each in event.reasons if not any(text and text.partition(";")[0] in each for text in said)]
    repeats = next((each for each in told if no and no in each), "")
    first = [("no: ", repeats or f"“{no}”", palette.warn)] if no and no not in said else []
    return [*first, *(("– ", each, palette.plain) for each in told if each != repeats)]


def _said(mark: str, text: str, style: Style, look: Look, width: int, most: int) -> list[Line]:
    """Somebody's sentence, indented below its mark."""
    return [
        [Segment("  "), Segment(" " * len(mark) if place else mark, look.palette.faint), Segment(line, style)]
        for place, line in enumerate(wrapped(text, width - 3 - len(mark), most, look))
    ]


def _is_brief(event: ev.VerdictReached) -> bool:
    """Nobody was asked: there is no more to tell than fits the line."""
    return not event.answers and not event.approved and len(event.reasons) <= 1


def _decision(thought: Thought, look: Look, width: int) -> Line:
    event, palette = thought.verdict, look.palette
    fate = [Segment(f"{thought.fate}  ", palette.accent)] if thought.fate else []
    right = [*fate, Segment(f"{moment(event.at, look.zone)} ", palette.faint)]
    side = palette.good if event.side is Side.LONG else palette.bad
    name = [
        Segment(f" #{event.verdict_id} ", palette.faint),
        Segment(f"{event.side.upper()} ", side),
        Segment(f"{_coin(event.symbol)} ", palette.strong),
    ]
    if event.approved:
        name += [Segment("APPROVED ", Style.chain(palette.good, palette.strong))]
        facts = [f"{quantity(event.qty)} at {price(event.entry)}", f"stop {price(event.stop)}"]
        facts += [f"size {percent(event.size_modifier, 0)}"] if event.size_modifier < 1 else []
        name += packed([[Segment(fact)] for fact in facts], width - length(name) - length(right) - 2, ", ")
    else:
        gate = f"REJECTED by {inert(event.gate, 24)}" if event.gate else "REJECTED"
        name += [Segment(gate, Style.chain(palette.bad, palette.strong))]
        why = inert(event.reasons[0]) if _is_brief(event) and event.reasons else ""
        name += [Segment(cut(f": {why}", max(width - length(name) - length(right) - 2, 30)))] if why else []
    return spread(name, right, width)


def _name(answer: ev.AgentAnswer, look: Look) -> Line:
    return [Segment(inert(answer.agent, 24).replace("_", " ").capitalize(), look.palette.faint)]


def _vote(answer: ev.AgentAnswer, side: Side, look: Look) -> Line:
    """`SHORT 0.61`; what failed says how: `TIMEOUT`."""
    if answer.status.upper() != "OK":
        return [Segment(inert(answer.status, 24), look.palette.warn)]
    odds = f" {answer.p_win:.2f}" if answer.p_win is not None else ""
    return [Segment(f"{inert(answer.vote, 24)}{odds}", look.palette.sign(stance(answer, side)))]


def _arguments(event: ev.VerdictReached, look: Look, width: int) -> list[Line]:
    """Everybody's vote with the case made for it beside it; the strongest no stands out."""
    heads = table([[*_name(each, look), *_vote(each, event.side, look)] for each in event.answers], "<<", (), width)
    no = strongest_no(event.answers, event.side)
    lines: list[Line] = []
    for head, answer in zip(heads, event.answers, strict=True):
        room = width - length(head) - 5
        strongest = bool(no) and answer.text.strip() == no
        style = look.palette.warn if strongest else look.palette.faint
        text = f"no: {answer.text}" if strongest else answer.text
        texts = wrapped(text, room, 2, look) if room >= 20 and answer.text.strip() else []
        lines.append([Segment("  "), *head, *[Segment(f"  {text}", style) for text in texts[:1]]])
        lines += [[Segment(" " * (length(head) + 4)), Segment(text, style)] for text in texts[1:]]
    return lines


# ---- the feed


def feed(events: Sequence[ev.Event], look: Look, width: int, rows: int) -> list[Line]:
    """What happened, the newest first."""
    lines: list[Line] = []
    for event in events[:rows]:
        when = Segment(f" {moment(event.at, look.zone)}  ", look.palette.faint)
        lines.append([when, Segment(words_of(event) or "", _tone(event, look))])
    return lines or [[Segment(" nothing has happened yet", look.palette.faint)]]


def _tone(event: ev.Event, look: Look) -> Style:
    palette = look.palette
    if isinstance(event, ev.TradeClosed):
        return palette.sign(event.pnl)
    if isinstance(event, ev.AlertRaised | ev.CouncilImpaired | ev.OrderDoubted | ev.OrderRefused | ev.TradingPaused):
        return palette.warn
    if isinstance(event, ev.OrderFilled):
        return palette.accent
    return palette.faint if isinstance(event, ev.OrderCancelled) else palette.plain


# ---- the foot


def foot(picture: Picture, look: Look, width: int, height: int) -> list[Line]:
    """Why nothing happens, whether everything is connected, what the log says."""
    links = flowing([_link(*each, look) for each in picture.connections], width - 2, "   ")[: 2 if height < 30 else 3]
    return [*_gates(picture.status, look, width, height), *_indented(links), *_log(picture, look, height)]


def _gates(status: Status, look: Look, width: int, height: int) -> list[Line]:
    """A rule that says whether entries are possible; with room, every gate that is shut on a line of its own."""
    palette = look.palette
    lost = (f"the exchange is not heard: {status.lost}",) if status.lost else ()
    gates = [inert(gate) for gate in (*lost, *status.gates)]
    style, name = (palette.warn, "GATES SHUT") if gates else (palette.good, "GATES OPEN")
    why = " · ".join(gates) or "waiting for a signal"
    listed = height >= 30 and cell_len(why) > width - 20
    words = f"{len(gates)} reasons below" if listed else cut(why, width - 20)
    told = Segment(f" {words} ", style if gates else palette.faint)
    left = [Segment("── ", palette.faint), Segment(name, style), told]
    rule = [*left, Segment("─" * (width - length(left)), palette.faint)]
    return [rule, *_at_most([[Segment(f" {gate}", style)] for gate in gates if listed], 6, look)]


def _link(name: str, well: bool, age: str, look: Look) -> Line:
    palette = look.palette
    return [
        Segment("● " if well else "○ ", palette.good if well else palette.warn),
        Segment(f"{inert(name, 24)} ", palette.faint if well else palette.warn),
        Segment(inert(age, 60), palette.plain if well else palette.warn),
    ]


def _log(picture: Picture, look: Look, height: int) -> list[Line]:
    """The last warning; with room, the last lines, the last warning always among them."""
    alarm = picture.alarm
    if height < 30:
        more = f" ({picture.alarms} so far)" if picture.alarms > 1 else ""
        return [_log_line(alarm, more, look) if alarm else [Segment(" Log: no warning", look.palette.faint)]]
    lines = picture.log[-max((height - 30) // 4, 2) :]
    shown = lines if alarm is None or alarm in lines else (alarm, *lines[1:])
    return [_log_line(line, "", look) for line in shown] or [[Segment(" Log: nothing yet", look.palette.faint)]]


def _log_line(line: LogLine, more: str, look: Look) -> Line:
    at = datetime.fromtimestamp(line.at, look.zone)
    style = look.palette.warn if line.level >= logging.WARNING else look.palette.faint
    name = logging.getLevelName(line.level)
    return [Segment(f" {at:%H:%M:%S} {name}{more} ", style), Segment(inert(line.text), look.palette.plain)]
