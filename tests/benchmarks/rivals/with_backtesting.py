"""backtesting.py on a strategy of the same kind: run by an interpreter that has it, `FILE.npz COMBINATIONS`.

Like ours: EMA, RSI, ADX and volume let an entry pass, a limit order below the close with the stop attached, the stop
inside the bar, a stop that trails in steps of R, an exit at the next open once the close is beyond the EMA, sizes from
the risk, taker fee and slippage as one commission. Unlike ours: a limit fills at a touch, an order neither expires in
bars nor runs away (both are done in `next`, a bar late), one commission for makers and takers, quantities in whole
thousandths of a coin, no ticks, no anti-knife, no funding. It prints one JSON object.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
import talib
from backtesting import Strategy  # type: ignore[import-not-found]
from backtesting.lib import FractionalBacktest  # type: ignore[import-not-found]

COIN = 1000  # thousandths
COMMISSION = 0.00055 / 2 + 0.0002 / 2 + 0.0002 / 2


def ema(close: Any, period: int) -> Any:
    return talib.EMA(np.asarray(close, float), period)


class Trend(Strategy):  # type: ignore[misc]
    """Long and short with the trend."""

    ema_period = 200
    rsi_period = 14
    stop_atr = 4.0

    def init(self) -> None:
        d = self.data
        high, low, close, volume = (np.asarray(x, float) for x in (d.High, d.Low, d.Close, d.Volume))
        mean = self.I(ema, close, self.ema_period, plot=False)
        rsi = talib.RSI(close, self.rsi_period)
        both = (talib.ADX(high, low, close, 14) >= 20) & (volume >= talib.SMA(volume, 20))
        before = np.roll(mean, 1)
        long = (close > mean) & (mean > before) & (rsi < 75) & both
        short = (close < mean) & (mean < before) & (rsi > 25) & both
        edge = (long & ~np.roll(long, 1)).astype(float) - (short & ~np.roll(short, 1))
        self.edge = self.I(lambda: edge, plot=False)
        self.mean = mean
        self.atr = self.I(lambda: talib.ATR(high, low, close, 14), plot=False)
        self.risk, self.placed, self.best, self.entry = 0.0, 0, 0.0, 0.0

    def next(self) -> None:
        close, bar = self.data.Close[-1], len(self.data)
        if self.position:
            self.trail(close)
            return
        if self.orders:
            limit = self.orders[0].limit
            if bar - self.placed >= 3 or abs(close - limit) > 3 * self.risk:
                self.orders[0].cancel()
            else:
                return
        side = self.edge[-1]
        if side and self.atr[-1] > 0:
            self.enter(close, side, bar)

    def enter(self, close: float, side: float, bar: int) -> None:
        limit, risk = close * (1 - side * 0.0005), self.stop_atr * self.atr[-1]
        size = int(min(self.equity * 0.01 / risk, 15_000 / close, self.equity * 4.9 / close))
        if size < 1:
            return
        self.risk, self.placed, self.best, self.entry = risk, bar, limit, limit
        (self.buy if side > 0 else self.sell)(size=size, limit=limit, sl=limit - side * risk)

    def trail(self, close: float) -> None:
        side = 1 if self.position.is_long else -1
        ahead = self.data.High[-1] if side > 0 else self.data.Low[-1]
        self.best = side * max(side * self.best, side * ahead)
        reached = int(side * (self.best - self.entry) / self.risk + 1e-9)
        trade = self.trades[0]
        if reached >= 1:
            level = self.entry + side * (reached - 1) * self.risk
            if side * level >= side * close:
                self.position.close()
                return
            if side * level > side * trade.sl:
                trade.sl = level
        if side * close < side * self.mean[-1]:
            self.position.close()


def main(path: str, combinations: int) -> None:
    with np.load(path) as bars:
        names = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Volume": "volume"}
        index = pd.to_datetime(bars["timestamp"], unit="ms")
        frame = pd.DataFrame({theirs: bars[mine] for theirs, mine in names.items()}, index=index)
    test = FractionalBacktest(
        frame, Trend, cash=10_000, commission=COMMISSION, margin=1 / 5, fractional_unit=1 / COIN, finalize_trades=False
    )
    stats, seconds = test.run(), []
    for _ in range(3):
        began = time.perf_counter()
        stats = test.run()
        seconds.append(time.perf_counter() - began)
    chosen = list(itertools.product((100, 150, 200, 250), (7, 14, 21), (2.0, 3.0, 4.0, 5.0)))[:combinations]
    began = time.perf_counter()
    for ema_period, rsi_period, stop_atr in chosen:
        test.run(ema_period=ema_period, rsi_period=rsi_period, stop_atr=stop_atr)
    print(
        json.dumps(
            {
                "bars": len(frame),
                "trades": int(stats["# Trades"]),
                "return": float(stats["Return [%]"]),
                "seconds": sorted(seconds)[1],
                "combinations": len(chosen),
                "grid_seconds": time.perf_counter() - began,
            }
        )
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(sys.argv[1], int(sys.argv[2]))
