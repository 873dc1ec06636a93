"""A backtest with a council: the bars replayed event by event with it, and without it beside.

The kernel knows no council, so the live trader walks the bars twice: under the rules council with the account's full
guards, and as `spec/strategy.md` has it and nothing else. The second one is what the kernel finds; a test holds them
together. It takes about a quarter of a millisecond a bar and pass, against less than a microsecond in the kernel.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import numpy as np

from research.backtest import strategy_of
from research.ground import Ground
from research.metrics import Metrics
from research.replay import Replay, replayed
from research.report import Outcome, open_position, series_row
from research.results import REASONS, Beside, Gates, Result, Ruled, TradeTable
from research.views import limits_of
from trading import events as ev
from trading.council.guards import FullGuards, Guards, PageGuards
from trading.council.packet import PacketTerms
from trading.council.rules import NoCouncil, RulesCouncil
from trading.errors import BadInput
from trading.laboratory import Study
from trading.model import CandleSeries, Instrument, IntArray, Purpose, Side, exact, millis
from trading.parameters import AccountTerms, InstrumentTerms, TradeRules
from trading.ports import Council
from trading.strategy import Signals, evaluate

MOST_BARS: Final = 600_000  # a year of minutes: some ten minutes' work on a busy machine
_TOLD: Final = 512  # bars between two words about progress

Funding = Mapping[int, Decimal]


def with_and_without(
    study: Study,
    series: CandleSeries,
    funding: Funding | None,
    *,
    sha256: str | None = None,
    tell: Callable[[int], None] = lambda bars: None,
) -> tuple[Result, Beside]:
    """The study's result with its council, and beside it the one without; `tell` hears how many bars are walked.

    Blocks; there must be no event loop in this thread. `BadInput`: too many bars, or too few.
    """
    if len(series) > MOST_BARS:
        raise BadInput(f"{len(series):,} bars are too many to replay: at most {MOST_BARS:,}, ask for fewer days")
    walk = _Walk(study, series, funding, sha256)
    own, said = walk.done(walk.rules_council, FullGuards(limits_of(study)), tell)
    before = len(series)
    alone, _ = walk.done(NoCouncil(), PageGuards(), lambda bars: tell(before + bars))
    return own, Beside(council=study.council, alone=alone, verdicts=tuple(said))


@dataclass(slots=True)
class Record:
    """What a replay comes to, as it is told: bars marked, trades closed, candidates decided on.

    `tell` hears of the bars now and then.
    """

    tell: Callable[[int], None]
    equity: array[float] = field(default_factory=lambda: array("d"))
    exposed: bytearray = field(default_factory=bytearray)
    trades: list[ev.TradeClosed] = field(default_factory=list)
    stops: dict[int, Decimal] = field(default_factory=dict)
    verdicts: list[Ruled] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    filled: set[str] = field(default_factory=set)

    def hear(self, event: ev.Event) -> None:
        """One event of the journal, in order."""
        if isinstance(event, ev.EquityMarked):
            self._marked(event)
        elif isinstance(event, ev.TradeClosed):
            self.trades.append(event)
        elif isinstance(event, ev.VerdictReached):
            self._ruled(event)
        elif isinstance(event, ev.OrderIntended | ev.OrderCancelled | ev.OrderFilled):
            self._entry(event)

    def _marked(self, event: ev.EquityMarked) -> None:
        self.equity.append(event.equity)
        self.exposed.append(event.exposed)
        if len(self.equity) % _TOLD == 0:
            self.tell(len(self.equity))

    def _ruled(self, event: ev.VerdictReached) -> None:
        self.stops[event.verdict_id] = event.stop
        self.verdicts.append(
            Ruled(
                time=millis(event.at),
                signal=millis(event.signal_time),
                side=event.side.sign,
                approved=event.approved,
                size=event.size_modifier,
                gate=event.gate,
                reason=event.reasons[0] if event.reasons else "",
            )
        )

    def _entry(self, event: ev.OrderIntended | ev.OrderCancelled | ev.OrderFilled) -> None:
        if event.purpose is not Purpose.ENTRY:
            return
        if isinstance(event, ev.OrderFilled):
            self.filled.add(event.link_id)
        else:
            self.sent["placed" if isinstance(event, ev.OrderIntended) else event.reason] += 1


class _Walk:
    """One study's bars, to be replayed."""

    def __init__(self, study: Study, series: CandleSeries, funding: Funding | None, sha256: str | None) -> None:
        self._study = study
        self._series = series
        self._funding = funding
        self._sha256 = sha256
        self._strategy = strategy_of(study.strategy, study.values)
        self._ground = Ground.of(series, funding)
        self._signals = evaluate(self._strategy, series)
        self._terms = PacketTerms.of(self._strategy, study.values, series.interval)

    @property
    def rules_council(self) -> RulesCouncil:
        """The twins, told of this strategy."""
        return RulesCouncil(self._terms)

    def done(self, council: Council, guards: Guards, tell: Callable[[int], None]) -> tuple[Result, list[Ruled]]:
        """The bars walked to their end."""
        symbol, record = self._series.symbol, Record(tell)
        with Outcome((symbol,)) as outcome:
            book = asyncio.run(replayed(self._replay(council, guards), outcome, record.hear))
            initial = float(self._study.values["initial_equity"])
            metrics = outcome.metrics(initial, self._series.interval)
        tell(len(record.equity))
        return self._result(record, metrics, open_position(book, (symbol,)), guards), record.verdicts

    def _replay(self, council: Council, guards: Guards) -> Replay:
        symbol, values = self._series.symbol, self._study.values
        return Replay(
            series=(self._series,),
            strategy_for=lambda _: self._strategy,
            rules=TradeRules(**_named(TradeRules, values)),
            terms=AccountTerms(**_named(AccountTerms, values)),
            instruments={symbol: instrument(symbol, values)},
            council=council,
            guards=guards,
            funding={} if self._funding is None else {symbol: self._funding},
            own_knife_bars={symbol: self._terms.knife_lookback},
        )

    def _result(
        self, record: Record, metrics: Metrics, held: Mapping[str, Any] | None, guards: Guards
    ) -> Result:
        series, ground = self._series, self._ground
        table = trade_table(record, series, float(self._study.values["slippage"]))
        entry = np.append(table.entry, _rows(series, [held["entry_time"]])) if held else table.entry
        end = np.append(table.exit, len(series) - 1) if held else table.exit
        return Result(
            series=series,
            strategy=self._strategy.name,
            params=dict(self._study.values),
            trades=table,
            equity=np.array(record.equity, np.float64),
            exposed=np.frombuffer(bytes(record.exposed), np.bool_),
            metrics=metrics,
            open_position=held,
            candles=series_row(series, self._sha256),
            gates=gates_of(record, series, self._signals, latching=isinstance(guards, FullGuards)),
            settlements=_within(ground.settled, entry, end),
            unrated=_within(ground.unrated, entry, end),
            funded=ground.funded,
        )


def _named(terms: Any, values: Mapping[str, float]) -> dict[str, Any]:
    return {name: values[name] for name in terms.names() if name in values}


def instrument(symbol: str, values: Mapping[str, float]) -> Instrument:
    """The symbol's trading rules as the values have them."""
    return Instrument(symbol=symbol, **{name: exact(float(values[name])) for name in InstrumentTerms.names()})


def _rows(series: CandleSeries, opens: list[int]) -> IntArray:
    return np.searchsorted(series.timestamp, np.array(opens, np.int64)).astype(np.int64)


def _within(per_bar: IntArray, entry: IntArray, end: IntArray) -> int:
    """How many settlements positions have been through: on the bars after the entry's, up to the exit's."""
    total = np.cumsum(per_bar)
    return int((total[end] - total[entry]).sum())


def trade_table(record: Record, series: CandleSeries, slippage: float) -> TradeTable:
    """The finished trades in columns; what moving the exit price cost is in the price already."""
    trades = record.trades
    side = np.array([trade.side.sign for trade in trades], np.int8)
    reason = np.array([REASONS.index(trade.exit_reason.value) for trade in trades], np.int8)
    leave, qty = (np.array([float(getattr(trade, name)) for trade in trades]) for name in ("exit_price", "qty"))
    at_market = reason != REASONS.index("take_profit")
    asked = np.where(at_market, leave / (1 - side * slippage), leave)

    def column(name: str) -> Any:
        return np.array([float(getattr(trade, name)) for trade in trades], np.float64)

    def rows(name: str) -> IntArray:
        return _rows(series, [millis(getattr(trade, name)) for trade in trades])

    return TradeTable(
        side=side,
        signal=rows("signal_time"),
        entry=rows("entry_time"),
        exit=rows("exit_time"),
        entry_price=column("entry_price"),
        exit_price=leave,
        qty=qty,
        stop=np.array([float(record.stops[trade.verdict_id or 0]) for trade in trades], np.float64),
        pnl=column("pnl"),
        r=column("r"),
        fees=column("fees"),
        funding=column("funding"),
        slippage=qty * np.abs(asked - leave),
        reason=reason,
    )


def gates_of(record: Record, series: CandleSeries, signals: Signals, *, latching: bool) -> Gates:
    """What became of the edges; `latching`: the guards hold a knife against its side until a calm bar."""
    knives = {Side.LONG.sign: signals.hazard_long, Side.SHORT.sign: signals.hazard_short}
    if latching:
        knives = {sign: hazard | signals.latched(hazard) for sign, hazard in knives.items()}
    guarded = [said for said in record.verdicts if said.gate == "guard"]
    rows = _rows(series, [said.signal for said in guarded])
    return Gates(
        edges=len(record.verdicts),
        knives=sum(bool(knives[said.side][row]) for said, row in zip(guarded, rows.tolist(), strict=True)),
        skipped=sum(said.gate == "risk" for said in record.verdicts),
        placed=record.sent["placed"],
        filled=len(record.filled),
        expired=record.sent["expired"],
        ran_away=record.sent["run_away"],
    )
