"""What a council is asked about a market in which nothing has been proposed: a candidate as it would stand now."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trading.council.packet import WINDOW
from trading.cycle import propose
from trading.desk import Desk
from trading.errors import BadInput
from trading.model import Side
from trading.ports import Brief
from trading.strategy import Strategy, evaluate

AVERAGE_BARS = 12  # whose drift is the side that a market suggests


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounding:
    """What is asked, and in words why about this side."""

    brief: Brief
    why: str


def sounding(desk: Desk, strategy: Strategy, symbol: str, side: Side | None) -> Sounding:
    """An entry at the last close, by the strategy's own rules, signal or not; `BadInput` says why there can be none.

    Without a side it is the strategy's where it has a signal, else the way of the last twelve bars.
    """
    if symbol not in desk.symbols:
        raise BadInput(f"{symbol} is not traded here: one of {', '.join(desk.symbols)}")
    history = desk.signals.window(symbol, strategy.longest_period * 20 + WINDOW)
    if len(history) <= AVERAGE_BARS:
        raise BadInput(f"too few bars of {symbol} have closed yet: ask again after the next close")
    signals, candle = evaluate(strategy, history), history.candle(len(history) - 1)
    distance, signal = float(signals.stop_distance[-1]), int(signals.side[-1])
    if not (np.isfinite(distance) and distance > 0):
        raise BadInput(f"too few bars of {symbol} have closed yet to say how far a stop would be")
    why = "as you asked"
    if side is None and signal:
        side, why = Side.LONG if signal > 0 else Side.SHORT, "the strategy has its signal at this close"
    elif side is None:
        drift = history.close[-1] - history.close[-1 - AVERAGE_BARS]
        side = Side.LONG if drift >= 0 else Side.SHORT
        why = f"the way of the last {AVERAGE_BARS} bars: the strategy has no signal here"
    proposal = propose(desk.rules, desk.instruments[symbol], candle, distance, side)
    window = desk.signals.window(symbol, WINDOW)
    account = replace(desk.facts(candle), data_age_bars=0.0)  # it is about that close, not about now
    return Sounding(brief=Brief(window=window, proposal=proposal, account=account), why=why)
