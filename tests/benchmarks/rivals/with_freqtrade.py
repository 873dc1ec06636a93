"""freqtrade's backtester on a strategy of the same kind: run by an interpreter that has it, `FILE.npz COMBINATIONS`.

Like ours: EMA, RSI, ADX and volume let an entry pass, a limit order below the close with a stop at so many ATR, the
stop inside the bar, a stop that trails in steps of R, an exit at the next open once the close is beyond the EMA.
Unlike ours: a limit fills at a touch and waits in minutes, no runaway, one fee for makers and takers with the slippage
in it, a fixed stake, no anti-knife, no funding. It prints one JSON object.

freqtrade asks its exchange for the markets when it starts and cannot be told to do without. The one market it needs is
therefore put into ccxt by hand; nothing else of it is changed. What is timed is `backtest_one_strategy`: indicators,
signals and the walk, without the start of the process, the reading of the files and the printing of tables.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from freqtrade.commands.optimize_commands import setup_optimize_configuration  # type: ignore[import-not-found]
from freqtrade.enums import RunMode  # type: ignore[import-not-found]
from freqtrade.exchange import Exchange  # type: ignore[import-not-found]
from freqtrade.optimize.backtesting import Backtesting  # type: ignore[import-not-found]

PAIR = "BTC/USDT:USDT"
FEE = 0.00055 / 2 + 0.0002 / 2 + 0.0002 / 2
CONFIG: dict[str, Any] = {
    "dry_run": True,
    "dry_run_wallet": 10_000,
    "stake_currency": "USDT",
    "stake_amount": 2_000,
    "max_open_trades": 1,
    "tradable_balance_ratio": 0.99,
    "trading_mode": "futures",
    "margin_mode": "isolated",
    "timeframe": "15m",
    "fee": FEE,
    "futures_funding_rate": 0,
    "exchange": {"name": "binance", "pair_whitelist": [PAIR], "pair_blacklist": []},
    "pairlists": [{"method": "StaticPairList"}],
    "entry_pricing": {"price_side": "same", "use_order_book": True, "order_book_top": 1},
    "exit_pricing": {"price_side": "other", "use_order_book": True, "order_book_top": 1},
    "unfilledtimeout": {"entry": 45, "exit": 45, "unit": "minutes"},
    "export": "none",
    "strategy": "Trend",
}
MARKET = {
    **dict.fromkeys(("spot", "margin", "future", "option", "inverse"), False),
    **dict.fromkeys(("swap", "active", "contract", "linear"), True),
    **dict.fromkeys(("quote", "settle", "quoteId", "settleId"), "USDT"),
    **dict.fromkeys(("base", "baseId"), "BTC"),
    "id": "BTCUSDT",
    "lowercaseId": "btcusdt",
    "symbol": PAIR,
    "type": "swap",
    "taker": 0.00055,
    "maker": 0.0002,
    "contractSize": 1,
    "info": {},
    "precision": {"amount": 0.001, "price": 0.1},
    "limits": {
        "amount": {"min": 0.001, "max": 1_000},
        "price": {"min": 0.1, "max": 1e7},
        "cost": {"min": 5, "max": None},
        "leverage": {"min": 1, "max": 125},
        "market": {"min": 0.001, "max": 1_000},
    },
}
STRATEGY = '''
import numpy as np
import talib
from freqtrade.strategy import IStrategy, stoploss_from_absolute


class Trend(IStrategy):
    INTERFACE_VERSION = 3
    timeframe = "15m"
    can_short = True
    minimal_roi = {}
    stoploss = -0.99
    use_custom_stoploss = True
    process_only_new_candles = True
    startup_candle_count = 0
    order_types = {"entry": "limit", "exit": "market", "stoploss": "market", "stoploss_on_exchange": False}
    ema_period, rsi_period, stop_atr = 200, 14, 4.0

    def leverage(self, pair, current_time, current_rate, proposed_leverage, max_leverage, entry_tag, side, **kwargs):
        return 5.0

    def populate_indicators(self, dataframe, metadata):
        d = dataframe
        d["ema"] = talib.EMA(d["close"], self.ema_period)
        d["rsi"] = talib.RSI(d["close"], self.rsi_period)
        d["adx"] = talib.ADX(d["high"], d["low"], d["close"], 14)
        d["atr"] = talib.ATR(d["high"], d["low"], d["close"], 14)
        d["vma"] = talib.SMA(d["volume"], 20)
        self.rows = {at: row for row, at in enumerate(d["date"])}
        self.atrs = d["atr"].to_numpy()
        return d

    def populate_entry_trend(self, dataframe, metadata):
        d = dataframe
        both = (d["adx"] >= 20) & (d["volume"] >= d["vma"])
        before = d["ema"].shift(1)
        long = (d["close"] > d["ema"]) & (d["ema"] > before) & (d["rsi"] < 75) & both
        short = (d["close"] < d["ema"]) & (d["ema"] < before) & (d["rsi"] > 25) & both
        d.loc[long & ~long.shift(1, fill_value=False), "enter_long"] = 1
        d.loc[short & ~short.shift(1, fill_value=False), "enter_short"] = 1
        return d

    def populate_exit_trend(self, dataframe, metadata):
        dataframe.loc[dataframe["close"] < dataframe["ema"], "exit_long"] = 1
        dataframe.loc[dataframe["close"] > dataframe["ema"], "exit_short"] = 1
        return dataframe

    def custom_entry_price(self, pair, trade, current_time, proposed_rate, entry_tag, side, **kwargs):
        return proposed_rate * (0.9995 if side == "long" else 1.0005)

    def custom_stoploss(self, pair, trade, current_time, current_rate, current_profit, after_fill, **kwargs):
        side = -1 if trade.is_short else 1
        risk = self.stop_atr * self.atrs[max(self.rows[trade.open_date_utc] - 1, 0)]
        if not risk > 0:
            return None
        best = (trade.min_rate if trade.is_short else trade.max_rate) or trade.open_rate
        reached = np.floor(side * (best - trade.open_rate) / risk + 1e-9)
        stop = trade.open_rate + side * (max(reached, 0) - 1) * risk
        return stoploss_from_absolute(stop, current_rate, trade.is_short, trade.leverage)
'''


def _one_market(self: Any, reload: bool = False) -> None:
    self._api_async.set_markets([MARKET])


def prepared(path: str, folder: Path) -> list[str]:
    """freqtrade's folders out of the bars; its arguments."""
    with np.load(path) as bars:
        frame = pd.DataFrame({name: bars[name] for name in ("open", "high", "low", "close", "volume")})
        frame.insert(0, "date", pd.to_datetime(bars["timestamp"], unit="ms", utc=True))
    data = folder / "data" / "binance" / "futures"
    data.mkdir(parents=True)
    (folder / "strategies").mkdir()
    frame.to_feather(data / "BTC_USDT_USDT-15m-futures.feather")
    hours = frame.iloc[::4].reset_index(drop=True)
    for kind in ("mark", "funding_rate"):
        for length in ("1h", "8h"):
            rates = hours if kind == "mark" else hours.assign(open=0.0, high=0.0, low=0.0, close=0.0)
            rates.to_feather(data / f"BTC_USDT_USDT-{length}-{kind}.feather")
    (folder / "strategies" / "trend.py").write_text(STRATEGY)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return [str(folder / "config.json")]


def main(path: str, combinations: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = prepared(path, folder)
        Exchange._load_async_markets = _one_market
        arguments = {"config": files, "user_data_dir": str(folder), "datadir": str(folder / "data" / "binance")}
        test = Backtesting(setup_optimize_configuration({**arguments, "backtest_cache": "none"}, RunMode.BACKTEST))
        test.progress = None
        data, span = test.load_bt_data()
        strategy = test.strategylist[0]

        def run() -> float:
            began = time.perf_counter()
            test.backtest_one_strategy(strategy, data, span)
            return time.perf_counter() - began

        seconds = sorted(run() for _ in range(3))[1]
        trades = test.all_bt_content[strategy.get_strategy_name()]["results"]
        chosen = list(itertools.product((100, 150, 200, 250), (7, 14, 21), (2.0, 3.0, 4.0, 5.0)))[:combinations]
        began = time.perf_counter()
        for strategy.ema_period, strategy.rsi_period, strategy.stop_atr in chosen:
            run()
        grid = time.perf_counter() - began
    bars, gained = len(next(iter(data.values()))), float(trades["profit_abs"].sum())
    found = {"bars": bars, "trades": len(trades), "return": 100 * gained / CONFIG["dry_run_wallet"]}
    print(json.dumps({**found, "seconds": seconds, "combinations": len(chosen), "grid_seconds": grid}))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    main(sys.argv[1], int(sys.argv[2]))
