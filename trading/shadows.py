"""What candidates would have come to: each followed on its own by the strategy's rules, whatever else is open.

A shadow fills, trails, pays and ends bar by bar as an order on the exchange would (`spec/strategy.md`, "Entry" and
"What happens inside bar k"), without an order and without a size: its result is in R, of which the quantity is no
part. What the page would never send (no stop distance, a stop too near liquidation) ends `unfilled`; sizes too small
and money that is bound elsewhere are no matter of the candidate. Funding is that of the terms.

Bars are followed once: up to the last one that a shadow has seen they are ignored, so that history and a running
market may overlap. After a gap nobody knows what happened in it, and bars of another length are another strategy's:
the shadow is `lost`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

from trading import trailing
from trading.events import ShadowEnded, VerdictReached
from trading.model import ZERO, Candle, CandleSeries, ExitReason, Instrument, Side, exact, millis
from trading.parameters import AccountTerms, TradeRules
from trading.signals import Reading, RollingWindow, WholeSeries
from trading.strategy import Strategy

SETTLEMENT_MS: Final = 8 * 3_600_000
WARM_PERIODS: Final = 10  # times the longest period: less history before a bar, and its reading is another
UNFILLED, LOST = "unfilled", "lost"


@dataclass(slots=True, kw_only=True)
class Shadow:
    """A candidate on its way. `entry`, `stop` and `take_profit` are as proposed, `r_distance` is R in price; `interval`
    is the length of the bar that was decided on.

    The rest changes with every bar: `seen` is the last bar that was followed, `trailed` where the stop is now, `best`
    the most favourable price since the entry, `due` the reason of an exit at the next open, `paid` the fee of the
    entry and the funding so far for a quantity of one. `entry_time` is None while the entry rests.
    """

    verdict_id: int
    symbol: str
    side: Side
    signal_time: datetime
    interval: timedelta
    entry: Decimal
    stop: Decimal
    take_profit: Decimal | None
    r_distance: float
    seen: datetime
    trailed: Decimal
    entry_time: datetime | None = None
    best: float = 0.0
    due: ExitReason | None = None
    paid: Decimal = ZERO


def opened(event: VerdictReached) -> Shadow:
    """The shadow of a candidate, whatever was decided on it."""
    return Shadow(
        verdict_id=event.verdict_id,
        symbol=event.symbol,
        side=event.side,
        signal_time=event.signal_time,
        interval=event.at - event.signal_time,
        entry=event.entry,
        stop=event.stop,
        take_profit=event.take_profit,
        r_distance=event.r_distance,
        seen=event.signal_time,
        trailed=event.stop,
    )


def follow(
    shadow: Shadow, candle: Candle, exits: bool, *, rules: TradeRules, terms: AccountTerms, instrument: Instrument
) -> ShadowEnded | None:
    """Take one closed bar further; the end when it has come to one. `exits`: the strategy wants out at this close."""
    if candle.open_time <= shadow.seen:
        return None
    if candle.interval != shadow.interval or candle.open_time > shadow.seen + candle.interval:
        return _unknown(shadow, candle.close_time, LOST)
    shadow.seen = candle.open_time
    if shadow.entry_time is None and not _fills(shadow, candle, terms):
        return _unknown(shadow, candle.close_time, UNFILLED) if _gone(shadow, candle, rules, terms) else None
    if (left := _left(shadow, candle, terms)) is not None:
        return _ended(shadow, candle, left, terms)
    _at_the_close(shadow, candle, exits, rules, instrument)
    return None


class _Left(NamedTuple):
    """An exit inside a bar: the price asked for (before slippage, where it is at the market) and why."""

    price: Decimal
    reason: ExitReason
    maker: bool = False


def _fills(shadow: Shadow, candle: Candle, terms: AccountTerms) -> bool:
    """Step 4: the entry fills when the price goes through it, at its own price."""
    limit = float(shadow.entry)
    through = candle.low < limit if shadow.side is Side.LONG else candle.high > limit
    if not through or _never_sent(shadow, terms):
        return False
    shadow.entry_time, shadow.best = candle.open_time, limit
    shadow.paid = shadow.entry * exact(terms.maker_fee)
    return True


def _never_sent(shadow: Shadow, terms: AccountTerms) -> bool:
    """Would rule 2 of the entry skip it at any size? As `risk.size_entry` has it."""
    price, stop = float(shadow.entry), float(shadow.stop)
    return price <= 0 or price == stop or abs(price - stop) / price >= 0.8 / terms.leverage


def _gone(shadow: Shadow, candle: Candle, rules: TradeRules, terms: AccountTerms) -> bool:
    """Rule 4 of the entry at a close: it has rested long enough, or the price has run away from it."""
    if candle.open_time - shadow.signal_time >= rules.entry_ttl_bars * candle.interval:
        return True
    away = abs(candle.close - float(shadow.entry))
    return away > rules.runaway_r * shadow.r_distance or _never_sent(shadow, terms)


def _left(shadow: Shadow, candle: Candle, terms: AccountTerms) -> _Left | None:
    """Steps 1 to 3, 5 and 6: what a position pays in this bar, and whether it ends in it."""
    stop, entered_here = float(shadow.trailed), shadow.entry_time == candle.open_time
    gapped = _beyond(shadow.side, candle.open, stop)
    if not entered_here:
        shadow.paid += _funding(shadow.side, candle, terms)
        if shadow.due is not None or gapped:
            return _Left(exact(candle.open), shadow.due or ExitReason.STOP)
    long = shadow.side is Side.LONG
    if _beyond(shadow.side, candle.low if long else candle.high, stop):
        return _Left(exact(candle.open) if gapped else shadow.trailed, ExitReason.STOP)
    target = shadow.take_profit
    if target is None or entered_here or target <= 0:  # a target below zero is never reached
        return None
    reached = candle.high > float(target) if long else candle.low < float(target)
    return _Left(target, ExitReason.TAKE_PROFIT, maker=True) if reached else None


def _beyond(side: Side, price: float, stop: float) -> bool:
    """Is the price at or past the stop?"""
    return price <= stop if side is Side.LONG else price >= stop


def _funding(side: Side, candle: Candle, terms: AccountTerms) -> Decimal:
    """What a quantity of one pays at the settlements in [open, next open), on the open; negative when received."""
    start, end = millis(candle.open_time), millis(candle.close_time)
    count = -(-end // SETTLEMENT_MS) - -(-start // SETTLEMENT_MS)
    return side.sign * count * exact(candle.open) * exact(terms.funding_rate) if count else ZERO


def _at_the_close(
    shadow: Shadow, candle: Candle, exits: bool, rules: TradeRules, instrument: Instrument
) -> None:
    """Step 7: the best price, the stop that follows it, and an exit at the next open."""
    entry_bar = shadow.entry_time == candle.open_time
    shadow.best = trailing.best_of(shadow.side, shadow.best, entry_bar, candle.high, candle.low, candle.close)
    held = trailing.Held(
        side=shadow.side,
        entry=shadow.entry,
        r_distance=shadow.r_distance,
        stop=shadow.trailed,
        best=shadow.best,
    )
    ask = trailing.step(held, candle.close, exits, rules, instrument)
    shadow.trailed, shadow.due = ask.stop, ask.exit


def _ended(shadow: Shadow, candle: Candle, left: _Left, terms: AccountTerms) -> ShadowEnded:
    """The result of a quantity of one over what it risked: fees, slippage and funding are inside."""
    sign = shadow.side.sign
    price = left.price if left.maker else left.price * (1 - sign * exact(terms.slippage))
    fee = price * exact(terms.maker_fee if left.maker else terms.taker_fee)
    profit = sign * (price - shadow.entry) - fee - shadow.paid
    best = max(sign * shadow.best, sign * float(price))  # the bar on which it ended is not followed
    return ShadowEnded(
        at=candle.close_time,
        verdict_id=shadow.verdict_id,
        symbol=shadow.symbol,
        side=shadow.side,
        signal_time=shadow.signal_time,
        ended=left.reason.value,
        entry_time=shadow.entry_time,
        exit_time=candle.open_time,
        exit_price=float(price),
        r=float(profit / abs(shadow.entry - shadow.stop)),
        best_r=(best - sign * float(shadow.entry)) / shadow.r_distance,
    )


def _unknown(shadow: Shadow, at: datetime, how: str) -> ShadowEnded:
    """An end without a result."""
    return ShadowEnded(
        at=at,
        verdict_id=shadow.verdict_id,
        symbol=shadow.symbol,
        side=shadow.side,
        signal_time=shadow.signal_time,
        ended=how,
    )


class Shadows:
    """The shadows of one account that have not ended."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, Shadow]] = {}

    def __len__(self) -> int:
        return sum(len(of_symbol) for of_symbol in self._open.values())

    def __iter__(self) -> Iterator[Shadow]:
        """Those that have not ended, by symbol, oldest first."""
        return (shadow for of_symbol in self._open.values() for shadow in of_symbol.values())

    def add(self, event: VerdictReached) -> None:
        """Follow a candidate from the bar after its signal on; one that is followed already goes on as it was."""
        self._open.setdefault(event.symbol, {}).setdefault(event.verdict_id, opened(event))

    def close(
        self, candle: Candle, reading: Reading, *, rules: TradeRules, terms: AccountTerms, instrument: Instrument
    ) -> list[ShadowEnded]:
        """Take every shadow of this symbol one bar further; those that ended in it, oldest first."""
        of_symbol, ended = self._open.get(candle.symbol, {}), []
        for shadow in of_symbol.values():
            wants_out = reading.exits(shadow.side)
            end = follow(shadow, candle, wants_out, rules=rules, terms=terms, instrument=instrument)
            if end is not None:
                ended.append(end)
        for end in ended:
            del of_symbol[end.verdict_id]
        return ended

    def rebuild(
        self,
        waiting: Iterable[Shadow],
        history: Mapping[str, CandleSeries],
        strategy_for: Callable[[str], Strategy],
        *,
        rules: TradeRules,
        terms: AccountTerms,
        instruments: Mapping[str, Instrument],
        until: datetime | None = None,
    ) -> list[ShadowEnded]:
        """Start over with these (copies are followed) and bring them up to history's last bar, or to the close `until`.

        Those that ended on the way are answered, in the order of the closes. A symbol without history is traded no
        more, and bars before the history are not known: such shadows are lost. Where history is as long as the window
        of a running market, it has been cut off, and its first bars only warm the indicators.
        """
        self._open = {}
        for shadow in waiting:
            self._open.setdefault(shadow.symbol, {})[shadow.verdict_id] = replace(shadow)
        ended: list[ShadowEnded] = []
        for symbol in list(self._open):
            if (series := history.get(symbol)) is None:
                ended += [_unknown(one, until or one.seen, LOST) for one in self._open.pop(symbol).values()]
                continue
            for candle, reading in self._missed(series, strategy_for(symbol), until):
                ended += self.close(candle, reading, rules=rules, terms=terms, instrument=instruments[symbol])
        return sorted(ended, key=lambda end: end.at)

    def _missed(
        self, series: CandleSeries, strategy: Strategy, until: datetime | None
    ) -> Iterator[tuple[Candle, Reading]]:
        """The bars that the shadows of this symbol wait for, with what the strategy said at their closes."""
        if not len(series):
            return
        waiting, source = self._open[series.symbol], WholeSeries(strategy, [series])
        seen = min(shadow.seen for shadow in waiting.values())
        cut_off = len(series) >= RollingWindow.wanted(strategy)
        warm = WARM_PERIODS * strategy.longest_period if cut_off else 0
        for row, candle in enumerate(series.candles()):
            if not waiting or (until is not None and candle.close_time > until):
                return
            reading = source.read(candle)
            if row >= warm and candle.open_time > seen:
                yield candle, reading
