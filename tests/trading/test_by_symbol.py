"""Two strategies on one account: each symbol has its own readings, its own history and its own council."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.trading.council.candidates import account, proposal, synthetic
from tests.trading.rig import random_series
from trading.council.by_symbol import CouncilBySymbol
from trading.council.packet import WINDOW, PacketTerms
from trading.council.rules import NoCouncil, RulesCouncil
from trading.hearing import Minutes
from trading.ports import Brief
from trading.signals import BySymbol, RollingWindow, WholeSeries
from trading.strategy import Strategy
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters
from trading.strategy.mean_reversion import MeanReversion, MeanReversionParameters

BTC, ETH = "BTCUSDT", "ETHUSDT"
STRATEGIES: dict[str, Strategy] = {
    BTC: EmaTrend(EmaTrendParameters(ema_period=50)),
    ETH: MeanReversion(MeanReversionParameters(bb_std=1.0, adx_max=40.0)),
}


def test_each_symbol_reads_like_its_own_whole_series() -> None:
    """Booleans equal, R equal to 1e-12, over windows that have been cut several times."""
    rng = np.random.default_rng(8)
    series = [random_series(rng, 5000, symbol=symbol, price=price) for symbol, price in ((BTC, 3e4), (ETH, 2e3))]
    begun = 2500
    whole = BySymbol.whole(STRATEGIES.__getitem__, series)
    alone = {one.symbol: WholeSeries(STRATEGIES[one.symbol], [one]) for one in series}
    rolling = BySymbol.rolling(STRATEGIES.__getitem__, [one.between(0, begun) for one in series])
    edges = dict.fromkeys(STRATEGIES, 0)
    for row in range(5000):
        for one in series:
            candle = one.candle(row)
            reading = whole.read(candle)
            assert str(reading) == str(alone[one.symbol].read(candle))  # NaN too
            edges[one.symbol] += reading.side != 0
            if row < begun:
                continue
            live = rolling.read(candle)
            assert (live.side, *live[2:]) == (reading.side, *reading[2:])
            assert live.r == pytest.approx(reading.r, rel=1e-12)
            ours, theirs = rolling.window(one.symbol, 600), whole.window(one.symbol, 600)
            assert (ours.symbol, len(ours)) == (one.symbol, 600)
            assert np.array_equal(ours.close, theirs.close)
    assert min(edges.values()) > 50


def test_all_ask_for_the_history_of_the_slowest() -> None:
    """So that the closes missed while the program was away go together."""
    longest = max(RollingWindow.wanted(each) for each in STRATEGIES.values())
    assert BySymbol.wanted(STRATEGIES.__getitem__, [ETH, BTC]) == longest
    assert BySymbol.wanted(STRATEGIES.__getitem__, [ETH]) == RollingWindow.wanted(STRATEGIES[ETH])
    far = MeanReversion(MeanReversionParameters(knife_lookback=500))
    assert RollingWindow.wanted(far) >= 10_000  # the look-back of the knife counts


async def test_a_proposal_goes_to_the_council_of_its_symbol() -> None:
    """The verdict is that of the council which knows the symbol's strategy."""
    series = synthetic(1000)
    window = series.tail(WINDOW)
    terms = {BTC: PacketTerms(), ETH: PacketTerms(trend_period=20, base_rate=0.53, horizon_bars=6)}
    both = CouncilBySymbol({symbol: RulesCouncil(each) for symbol, each in terms.items()})
    assert both.mode == "rules"
    said = {}
    for symbol, each in terms.items():
        asked = dataclasses.replace(
            proposal(), symbol=symbol, interval=series.interval, close=float(window.close[-1])
        )
        asked = dataclasses.replace(asked, signal_time=window.candle(len(window) - 1).open_time)
        mine = dataclasses.replace(window, symbol=symbol)
        brief = Brief(window=mine, proposal=asked, account=account())
        said[symbol] = await both.deliberate(brief, Minutes())
        assert said[symbol] == RulesCouncil(each).verdict(brief)
    assert [answer.p_win for answer in said[BTC].answers] != [answer.p_win for answer in said[ETH].answers]
    assert CouncilBySymbol({BTC: NoCouncil()}).mode == "off"
