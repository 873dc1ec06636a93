"""What is shown of the records: pure functions that compose pictures. Whoever has a painter draws them.

Every number is that of a stored event, of the trader's own state or of a closed candle, or follows from them here;
nothing is filled in. Times are ms UTC. Titles and facts are plain text, not HTML: the painter escapes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta, tzinfo
from decimal import Decimal
from typing import Any, Final

import numpy as np

from bot.text import money, multiple, percent, price, quantity, shortened
from storage.queries import EquityCurve
from trading.errors import BadInput
from trading.events import TradeClosed, VerdictReached
from trading.model import MILLISECOND, CandleSeries, FloatArray, Side, millis
from trading.pictures import (
    BarsPicture,
    CandlePicture,
    EquityPicture,
    Level,
    Line,
    Mark,
    RankPicture,
    drawdown,
)
from trading.status import PositionView

VERDICT_BARS: Final = 90
_TITLE: Final = 110  # about two lines of a phone
_DERIVED: Final = 5  # significant digits of a distance that was computed, not quoted
_TIMEFRAMES: Final = (1, 3, 5, 15, 30, 60, 120, 240, 360, 720, 1440, 10_080)
_MINUTE: Final = 60_000
_WEEK: Final = 7 * 1440 * _MINUTE
_MONDAY: Final = 4 * 1440 * _MINUTE  # the first one after the epoch, a Thursday

Facts = tuple[tuple[str, str], ...]
Rank = tuple[str, float, str]  # label, value, note


def equity_picture(curve: EquityCurve, start: float, title_badge: str, zone: tzinfo) -> EquityPicture:
    """The account over time against `start` (USDT), which counts as a peak; `BadInput` below 2 points."""
    if len(curve) < 2:
        raise BadInput("no equity curve yet: it begins with the second closed bar of the period")
    last, change = float(curve.equity[-1]), float(curve.equity[-1]) - start
    gained = f" ({percent(change / start, sign=True)})" if start > 0 else ""
    facts = [("Equity", money(last, sign=False, unit=""))]
    if start > 0:
        facts.append(("Return", percent(change / start, sign=True)))
    facts.append(("Max drawdown", percent(float(drawdown(curve.equity, start).min()))))
    facts.append(("In position", percent(_exposure(curve), 0)))
    return EquityPicture(
        title=f"{title_badge} equity {money(change)}{gained}",
        time=curve.time,
        equity=curve.equity,
        start=start,
        facts=tuple(facts),
        zone=str(zone),
    )


def _exposure(curve: EquityCurve) -> float:
    """Share of the time that ended in a position, which is that of the bars; points may lie closer in between."""
    lengths = np.diff(curve.time)
    if not lengths.sum() > 0:
        return float(curve.exposed.mean())
    return float(np.average(curve.exposed[1:], weights=lengths))


def candle_picture(
    series: CandleSeries,
    params: Mapping[str, Any],
    *,
    bars: int,
    title: str,
    zone: tzinfo,
    levels: Sequence[Level] = (),
    marks: Sequence[Mark] = (),
    facts: Facts = (),
) -> CandlePicture:
    """The last `bars` candles with the strategy's indicators, reckoned over all of `series`.

    `params` are those of the strategy by name, of a symbol with a strategy of its own SYMBOL.name; an indicator whose
    parameters the symbol's strategy does not have is not drawn.
    """
    if bars < 1 or not len(series):
        raise BadInput("a chart needs at least 1 closed candle: ask again after the next close")
    shown = series.tail(bars)
    first, params = int(shown.timestamp[0]), _of_symbol(params, series.symbol)
    return CandlePicture(
        title=title,
        series=shown,
        lines=tuple(_cut(line, len(shown)) for line in (*_averages(series, params), *_strength(series, params))),
        guides=_guides(params),
        levels=tuple(levels),
        marks=tuple(mark for mark in marks if mark.time >= first),
        facts=facts,
        zone=str(zone),
    )


def _of_symbol(params: Mapping[str, Any], symbol: str) -> Mapping[str, Any]:
    """The parameters of a symbol's own strategy, which are named whole; else the ones that are shared."""
    prefix = f"{symbol}."
    own = {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
    return own or params


def _cut(line: Line, bars: int) -> Line:
    return Line(name=line.name, values=line.values[-bars:], pane=line.pane, dashed=line.dashed)


def _averages(series: CandleSeries, params: Mapping[str, Any]) -> list[Line]:
    """The trend's EMA and the Bollinger Bands, upper band first."""
    from trading import indicators  # TA-Lib and pandas

    lines = []
    if "ema_period" in params:
        period = int(params["ema_period"])
        lines.append(Line(name=f"EMA {period}", values=indicators.ema(series.close, period)))
    if "bb_period" in params and "bb_std" in params:
        period, deviations = int(params["bb_period"]), float(params["bb_std"])
        upper, middle, lower = indicators.bollinger(series.close, period, deviations)
        name = f"Bollinger {period}, {deviations:g}"
        lines += [Line(name=name, values=upper), Line(name=name, values=middle, dashed=True)]
        lines.append(Line(name=name, values=lower))
    return lines


def _strength(series: CandleSeries, params: Mapping[str, Any]) -> list[Line]:
    """RSI, or ADX for a strategy that has no RSI."""
    from trading import indicators

    name = _strength_name(params)
    if "rsi_period" in params:
        return [Line(name=name, values=indicators.rsi(series.close, int(params["rsi_period"])), pane=name)]
    if "adx_period" in params:
        values = indicators.adx(series.high, series.low, series.close, int(params["adx_period"]))
        return [Line(name=name, values=values, pane=name)]
    return []


def _guides(params: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """Beyond which RSI the strategy takes no short (below) and no long (above), or which ADX is its limit."""
    names = ("rsi_short_min", "rsi_long_max") if "rsi_period" in params else ("adx_min", "adx_max")
    limits, pane = tuple(float(params[name]) for name in names if name in params), _strength_name(params)
    return {pane: limits} if limits and pane else {}


def _strength_name(params: Mapping[str, Any]) -> str:
    """The lower pane; empty when the strategy has none."""
    panes = (("RSI", "rsi_period"), ("ADX", "adx_period"))
    return next((f"{pane} {int(params[period])}" for pane, period in panes if period in params), "")


def resampled(series: CandleSeries, minutes: int) -> CandleSeries:
    """The same candles at a higher timeframe, a whole multiple; bars begin where the exchange's do (UTC, Mondays).

    An incomplete first bar is dropped; the last bar holds what has closed of it so far.
    """
    length, step = minutes * _MINUTE, series.interval // MILLISECOND
    if length < step or length % step:
        raise BadInput(f"{minutes} minutes is no timeframe of these candles: choose {_choices(step)}")
    if length == step:
        return series
    origin = _MONDAY if length % _WEEK == 0 else 0
    missing = (origin - int(series.timestamp[0])) % length if len(series) else 0
    whole = series.between(-(-missing // step), len(series))
    if not len(whole):
        raise BadInput(f"too few candles for bars of {minutes} minutes: choose {_choices(step)}")
    return _grouped(whole, (whole.timestamp - origin) // length, origin, length)


def _grouped(series: CandleSeries, group: Any, origin: int, length: int) -> CandleSeries:
    first = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    last = np.append(first[1:], len(group)) - 1
    volume: FloatArray = np.add.reduceat(series.volume, first)
    return CandleSeries(
        symbol=series.symbol,
        interval=timedelta(milliseconds=length),
        timestamp=group[first] * length + origin,
        open=series.open[first],
        high=np.maximum.reduceat(series.high, first),
        low=np.minimum.reduceat(series.low, first),
        close=series.close[last],
        volume=volume,
    )


def _choices(step: int) -> str:
    """The usual timeframes that are multiples of a bar, in words."""
    usual = [str(each) for each in _TIMEFRAMES if each * _MINUTE % step == 0]
    return f"one of {', '.join(usual)}" if usual else f"a multiple of {step / _MINUTE:g}"


def marks_of(symbol: str, trades: Iterable[TradeClosed], positions: Iterable[PositionView] = ()) -> tuple[Mark, ...]:
    """Entries and exits on one symbol, oldest first: of finished trades both, of open positions the entry."""
    marks = []
    for trade in trades:
        if trade.symbol == symbol:
            marks.append(_way_in(trade.side, millis(trade.entry_time), trade.entry_price))
            marks.append(_way_out(trade))
    marks += [
        _way_in(view.side, millis(view.opened), view.entry_price) for view in positions if view.symbol == symbol
    ]
    return tuple(sorted(marks, key=lambda mark: mark.time))


def _way_in(side: Side, time: int, at: Decimal) -> Mark:
    return Mark(time=time, price=float(at), kind="long" if side is Side.LONG else "short")


def _way_out(trade: TradeClosed) -> Mark:
    return Mark(
        time=millis(trade.exit_time),
        price=float(trade.exit_price),
        kind="exit",
        text=multiple(trade.r),
        won=trade.pnl > 0,
    )


def levels_of(view: PositionView) -> tuple[Level, ...]:
    """Entry, stop and target of an open position, from its entry on."""
    return _levels(view.entry_price, view.stop, view.take_profit, millis(view.opened))


def _levels(entry: Decimal, stop: Decimal, target: Decimal | None, since: int) -> tuple[Level, ...]:
    levels = [
        Level(name="Entry", price=float(entry), kind="entry", since=since),
        Level(name="Stop", price=float(stop), kind="stop", since=since),
    ]
    if target is not None:
        levels.append(Level(name="Target", price=float(target), kind="target", since=since))
    return tuple(levels)


def verdict_picture(
    event: VerdictReached,
    series: CandleSeries,
    params: Mapping[str, Any],
    *,
    badge: str,
    zone: tzinfo,
    bars: int = VERDICT_BARS,
) -> CandlePicture:
    """A decision as it stood: the candles up to the one that was decided on, and the prices that were proposed.

    `BadInput` when `series` does not hold that candle.
    """
    at = millis(event.signal_time)
    row = int(np.searchsorted(series.timestamp, at))
    if row == len(series) or series.timestamp[row] != at:
        what = f"the candles of decision {event.verdict_id} are not at hand"
        raise BadInput(f"{what}: /chart {event.symbol} shows the market now")
    return candle_picture(
        series.between(0, row + 1),
        params,
        bars=bars,
        title=_verdict_title(event, badge),
        zone=zone,
        levels=_levels(event.entry, event.stop, event.take_profit, at),
        facts=_verdict_facts(event),
    )


def _verdict_title(event: VerdictReached, badge: str) -> str:
    head = f"{badge} #{event.verdict_id} {event.side.value.upper()} {event.symbol.removesuffix('USDT')}"
    if event.approved:
        return f"{head} approved: max loss {money(event.risk_usdt, sign=False)}"
    by = f" by {event.gate}" if event.gate else ""
    why = f": {event.reasons[0]}" if event.reasons else ""
    return shortened(f"{head} rejected{by}{why}", _TITLE)


def _verdict_facts(event: VerdictReached) -> Facts:
    target = price(event.take_profit) if event.take_profit is not None else "trailing"
    facts = [("Entry", price(event.entry)), ("Stop", price(event.stop)), ("Target", target)]
    if event.approved:
        facts.append(("Size", f"{quantity(event.qty)} {event.symbol.removesuffix('USDT')}"))
    elif math.isfinite(event.r_distance):
        facts.append(("1R", price(event.r_distance, _DERIVED)))
    return tuple(facts)


def periods_picture(rows: Sequence[tuple[str, float]], *, title: str, unit: str = "USDT") -> BarsPicture:
    """Results by period, oldest first: label and value. `BadInput` when there is none."""
    if not rows:
        raise BadInput("no closed trade in this period yet: ask for a longer one")
    values = tuple(float(value) for _, value in rows)
    facts = (
        ("Total", money(math.fsum(values), unit="")),
        ("Best", money(max(values), unit="")),
        ("Worst", money(min(values), unit="")),
        ("Up", f"{sum(value > 0 for value in values)} of {len(values)}"),
    )
    return BarsPicture(title=title, labels=tuple(label for label, _ in rows), values=values, unit=unit, facts=facts)


def rank_picture(groups: Sequence[tuple[str, Sequence[Rank]]], *, title: str, unit: str = "USDT") -> RankPicture:
    """Results by name under headings, the best first. `BadInput` when there is none."""
    ranked = tuple((heading, tuple(sorted(rows, key=lambda row: -row[1]))) for heading, rows in groups if rows)
    if not ranked:
        raise BadInput("no closed trade in this period yet: ask for a longer one")
    return RankPicture(title=title, groups=ranked, unit=unit)
