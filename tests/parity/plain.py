"""`spec/strategy.md` written plainly: loops over floats, to be read side by side with the page.

The page's own strategy is `ema_trend`; `mean_reversion` is that of `docs/strategies.md`, with the page's entry,
bars, money and metrics. `simulate` is told which.

Nothing here is shared with the product. The comments carry the page's own step numbers. `s` is +1 for a long
and -1 for a short, so that `s * price` turns a comparison of a short into the one the page writes for a long.

`simulate` returns the object of `replay --json` without "candles", and four keys more for the tests:
"entries" (every placed order and what became of it), "rejected" (by the anti-knife guard), "skipped" (by rule
2 of Entry) and "equity" (the curve, marked at every close).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import talib

Bars = Mapping[str, Any]  # timestamp (ms), open, high, low, close, volume: arrays or lists of one length
Params = dict[str, float]

EIGHT_HOURS = 8 * 3_600_000
YEAR = 365 * 86_400_000

STRATEGY: Params = {
    "ema_period": 200,
    "rsi_period": 14,
    "rsi_long_max": 75.0,
    "rsi_short_min": 25.0,
    "adx_period": 14,
    "adx_min": 20.0,
    "atr_period": 14,
    "sl_atr_multiplier": 4.0,
    "take_profit_r": 0.0,
    "trail_start_r": 1.0,
    "trail_step_r": 1.0,
    "trail_lag_r": 1.0,
    "bb_period": 20,
    "bb_std": 2.0,
    "volume_ma_period": 20,
    "knife_lookback": 3,
    "knife_atr": 3.0,
    "entry_offset": 0.0005,
    "entry_ttl_bars": 3,
    "runaway_r": 3.0,
    "cooldown_bars": 0,
}
ACCOUNT: Params = {
    "initial_equity": 10_000.0,
    "risk_per_trade": 0.01,
    "leverage": 5.0,
    "max_position_usdt": 15_000.0,
    "maker_fee": 0.0002,
    "taker_fee": 0.00055,
    "slippage": 0.0002,
    "funding_rate": 0.0001,
}
BTCUSDT: Params = {"tick_size": 0.1, "qty_step": 0.001, "min_qty": 0.001, "min_notional": 5.0}
DEFAULTS: Params = {**STRATEGY, **ACCOUNT, **BTCUSDT}

MEAN_REVERSION: Params = {
    "bb_period": 20,
    "bb_std": 2.0,
    "adx_period": 14,
    "adx_max": 20.0,
    "atr_period": 14,
    "sl_atr_multiplier": 2.0,
    "knife_lookback": 3,
    "knife_atr": 3.0,
}
OF_TREND_ALONE = ("ema_period", "rsi_period", "rsi_long_max", "rsi_short_min", "adx_min", "volume_ma_period")
DEFAULTS_OF: dict[str, Params] = {
    "ema_trend": DEFAULTS,
    "mean_reversion": {
        **{name: value for name, value in DEFAULTS.items() if name not in OF_TREND_ALONE},
        **MEAN_REVERSION,
    },
}

PERIODS = ("ema_period", "rsi_period", "adx_period", "atr_period", "bb_period", "volume_ma_period")
WHOLE = (*PERIODS, "knife_lookback", "entry_ttl_bars", "cooldown_bars")
AT_LEAST: Params = {**dict.fromkeys(PERIODS, 2), "knife_lookback": 1, "entry_ttl_bars": 1, "leverage": 1}
ABOVE_ZERO = ("trail_step_r", "sl_atr_multiplier", "tick_size", "qty_step")


def settings(overrides: Mapping[str, float] | None, strategy: str = "ema_trend") -> Params:
    """Every name of the page with its value; a name or a value the page does not allow is refused by name."""
    defaults = DEFAULTS_OF[strategy]
    for name in overrides or {}:
        if name not in defaults:
            raise ValueError(f"{name} is not a parameter")
    p = {**defaults, **(overrides or {})}
    for name, value in p.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite")
        if name in WHOLE and value != int(value):
            raise ValueError(f"{name} must be whole")
        if name in AT_LEAST and value < AT_LEAST[name]:
            raise ValueError(f"{name} must be at least {AT_LEAST[name]}")
        if name in ABOVE_ZERO and value <= 0:
            raise ValueError(f"{name} must be above zero")
        if value < 0 and name != "funding_rate":
            raise ValueError(f"{name} must not be negative")
    return p


# Rounding


def nearest_tick(x: float, tick: float) -> float:
    """Rounding: half a tick goes away from zero; the result is the double nearest the decimal `n * tick`."""
    n = math.floor(abs(x) / tick + 0.5 + 1e-9 + 1e-15 * abs(x) / tick)
    return math.copysign(float(n * Decimal(repr(tick))), x)


def whole_steps(q: float, step: float) -> float:
    """Rounding of a quantity: down to whole steps, with the same tolerance."""
    n = math.floor(q / step + 1e-9 + 1e-15 * q / step)
    return float(n * Decimal(repr(step)))


# Indicators, signal


@dataclass
class Signals:
    """One value per bar: whether a long and a short wants out, ATR, the two `ok` conditions and the two knives."""

    out_long: list[bool]
    out_short: list[bool]
    atr: list[float]
    long_ok: list[bool]
    short_ok: list[bool]
    waterfall: list[bool]
    parabolic: list[bool]


def signals(bars: Bars, p: Params) -> Signals:
    """Indicators by TA-Lib itself, then the conditions of "Signal at the close of bar t" for every bar."""
    h, low, c, v = (np.asarray(bars[name], dtype=float) for name in ("high", "low", "close", "volume"))
    ema = talib.EMA(c, int(p["ema_period"])).tolist()
    rsi = talib.RSI(c, int(p["rsi_period"])).tolist()
    adx = talib.ADX(h, low, c, int(p["adx_period"])).tolist()
    atr = talib.ATR(h, low, c, int(p["atr_period"])).tolist()
    bands = talib.BBANDS(c, int(p["bb_period"]), float(p["bb_std"]), float(p["bb_std"]))  # on the simple mean
    upper, lower = bands[0].tolist(), bands[2].tolist()
    vma = talib.SMA(v, int(p["volume_ma_period"])).tolist()
    close, volume = c.tolist(), v.tolist()

    n = len(close)
    out_long = [close[t] < ema[t] for t in range(n)]  # 7d; false where the EMA is not defined
    out_short = [close[t] > ema[t] for t in range(n)]
    out = Signals(out_long, out_short, atr, [False] * n, [False] * n, [False] * n, [False] * n)
    lookback = int(p["knife_lookback"])
    for t in range(1, n):
        needed = (ema[t - 1], ema[t], rsi[t], adx[t], atr[t], upper[t], lower[t], vma[t])
        if any(math.isnan(value) for value in needed):
            continue  # an undefined bar
        both = adx[t] >= p["adx_min"] and volume[t] >= vma[t] * (1 - 1e-9) - 1e-9
        out.long_ok[t] = close[t] > ema[t] and ema[t] > ema[t - 1] and rsi[t] < p["rsi_long_max"] and both
        out.short_ok[t] = close[t] < ema[t] and ema[t] < ema[t - 1] and rsi[t] > p["rsi_short_min"] and both
        if t < lookback:
            continue
        width = upper[t] - lower[t]
        percent_b = 0.5 if width == 0 else (close[t] - lower[t]) / width
        fall = close[t - lookback] - close[t]
        out.waterfall[t] = percent_b < 0 and fall >= p["knife_atr"] * atr[t]
        out.parabolic[t] = percent_b > 1 and -fall >= p["knife_atr"] * atr[t]
    return out


def signals_of_mean_reversion(bars: Bars, p: Params) -> Signals:
    """The same for the strategy of `docs/strategies.md`."""
    h, low, c = (np.asarray(bars[name], dtype=float) for name in ("high", "low", "close"))
    adx = talib.ADX(h, low, c, int(p["adx_period"])).tolist()
    atr = talib.ATR(h, low, c, int(p["atr_period"])).tolist()
    bands = talib.BBANDS(c, int(p["bb_period"]), float(p["bb_std"]), float(p["bb_std"]))
    upper, middle, lower = (band.tolist() for band in bands)
    close = c.tolist()

    def percent_b(t: int) -> float:
        width = upper[t] - lower[t]
        return 0.5 if width == 0 else (close[t] - lower[t]) / width  # NaN where the bands are not defined

    n = len(close)
    out = Signals([False] * n, [False] * n, atr, [False] * n, [False] * n, [False] * n, [False] * n)
    lookback = int(p["knife_lookback"])
    for t in range(n):
        out.out_long[t] = close[t] >= middle[t] * (1 - 1e-9)
        out.out_short[t] = close[t] <= middle[t] * (1 + 1e-9)
        if t < 1 or math.isnan(percent_b(t - 1)) or math.isnan(adx[t]) or math.isnan(atr[t]):
            continue  # an undefined bar
        before, now = percent_b(t - 1), percent_b(t)
        out.long_ok[t] = before < 0 and now >= 0 and adx[t] < p["adx_max"]
        out.short_ok[t] = before > 1 and now <= 1 and adx[t] < p["adx_max"]
        if t < lookback:
            continue
        fall = close[t - lookback] - close[t]
        out.waterfall[t] = now < 0 and fall >= p["knife_atr"] * atr[t]
        out.parabolic[t] = now > 1 and -fall >= p["knife_atr"] * atr[t]
    return out


SIGNALS = {"ema_trend": signals, "mean_reversion": signals_of_mean_reversion}


# Entry


@dataclass
class Order:
    """A limit entry: `time` is the open time of the signal bar, `fate` what has become of it."""

    t: int
    time: int
    side: int
    price: float  # L
    qty: float
    r: float  # R, not rounded
    stop: float
    take_profit: float | None
    fate: str = "resting"

    def row(self) -> dict[str, Any]:
        return {
            "time": self.time,
            "side": word(self.side),
            "price": self.price,
            "qty": self.qty,
            "stop": self.stop,
            "take_profit": self.take_profit,
            "fate": self.fate,
        }


def word(side: int) -> str:
    return "long" if side > 0 else "short"


def entry_order(t: int, time: int, s: int, close: float, atr: float, equity: float, p: Params) -> Order | str:
    """Steps 1 and 2 of Entry at the close of bar t; a string says why the candidate is skipped."""
    # 1.
    tick = p["tick_size"]
    price = nearest_tick(close * (1 - s * p["entry_offset"]), tick)
    r = p["sl_atr_multiplier"] * atr
    stop = nearest_tick(price - s * r, tick)
    take_profit = nearest_tick(price + s * p["take_profit_r"] * r, tick) if p["take_profit_r"] > 0 else None
    # 2.
    if equity <= 0:
        return "equity"
    if price == stop:
        return "stop"
    if price <= 0:
        return "price"  # not on the page: a price that rounds to nothing has no order
    distance = abs(price - stop)
    qty = equity * p["risk_per_trade"] / distance  # times size_modifier, 1.0 in a plain backtest
    qty = min(qty, p["max_position_usdt"] / price)
    qty = min(qty, equity / (price * (1 / p["leverage"] + p["maker_fee"] + p["taker_fee"])))
    qty = whole_steps(qty, p["qty_step"])
    if qty < p["min_qty"]:
        return "min_qty"
    if qty * price < p["min_notional"]:
        return "min_notional"
    if distance / price >= 0.8 / p["leverage"]:
        return "leverage"
    return Order(t, time, s, price, qty, r, stop, take_profit)


# What happens inside a bar


@dataclass
class Position:
    """An open position, with what it has paid so far."""

    order: Order
    entry_time: int
    entry: float
    stop: float
    best: float
    entry_fee: float
    funding: float = 0.0
    due: str | None = None  # the reason of an exit due at the next open


def simulate(  # noqa: C901, PLR0912, PLR0915 - one loop in the order of the page, on purpose
    bars: Bars,
    params: Mapping[str, float] | None = None,
    *,
    interval_ms: int,
    funding: Mapping[int, float] | None = None,
    strategy: str = "ema_trend",
) -> dict[str, Any]:
    """The page over `bars` of `interval_ms` each; `funding` maps settlement times (ms) to rates."""
    p = settings(params, strategy)
    time: list[int] = np.asarray(bars["timestamp"]).astype(np.int64).tolist()
    opens, highs, lows, closes = (
        np.asarray(bars[name], dtype=float).tolist() for name in ("open", "high", "low", "close")
    )
    n = len(time)
    if n < 2:
        raise ValueError("at least two bars are required")
    sig = SIGNALS[strategy](bars, p)
    series = funding or {}
    trailing_on = p["trail_start_r"] > 0
    maker, taker = p["maker_fee"], p["taker_fee"]

    cash = p["initial_equity"]
    order: Order | None = None
    position: Position | None = None
    no_signal_before = 0  # the first bar whose close is outside the cooldown
    fees = funding_paid = 0.0
    bars_in_position = 0
    curve: list[float] = []
    trades: list[dict[str, Any]] = []
    entries: list[Order] = []
    rejected: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []

    for k in range(n):
        open_, high, low, close = opens[k], highs[k], lows[k], closes[k]
        leave_at: float | None = None  # the price of an exit in this bar, before slippage
        reason = ""
        by_market = True
        entered_here = False

        # 1. Funding, for a position that was open before this bar.
        if position is not None:
            first = -(-time[k] // EIGHT_HOURS) * EIGHT_HOURS
            for settlement in range(first, time[k] + interval_ms, EIGHT_HOURS):
                rate = series.get(settlement, p["funding_rate"])
                paid = position.order.side * position.order.qty * open_ * rate
                position.funding += paid
                funding_paid += paid
                cash -= paid

        # 2. Exit due.  3. Stop through the gap.
        if position is not None:
            s = position.order.side
            if position.due is not None:
                leave_at, reason = open_, position.due
            elif s * open_ <= s * position.stop:
                leave_at, reason = open_, "stop"

        # 4. Resting entry.
        if order is not None:
            s = order.side
            against = low if s > 0 else high
            if s * against < s * order.price:
                fee = order.qty * order.price * maker
                cash -= fee
                fees += fee
                order.fate = "filled"
                position = Position(order, time[k], order.price, order.stop, order.price, fee)
                order = None
                entered_here = True

        if position is not None and leave_at is None:
            s = position.order.side
            against, ahead = (low, high) if s > 0 else (high, low)
            target = position.order.take_profit
            # 5. Stop.
            if s * against <= s * position.stop:
                through = entered_here and s * open_ <= s * position.stop
                leave_at, reason = (open_ if through else position.stop), "stop"
            # 6. Take profit.
            elif target is not None and not entered_here and s * ahead > s * target:
                leave_at, reason, by_market = target, "take_profit", False

        if position is not None and leave_at is not None:
            s, qty = position.order.side, position.order.qty
            exit_price = leave_at * (1 - s * p["slippage"]) if by_market else leave_at
            fee = qty * exit_price * (taker if by_market else maker)
            fees += fee
            gross = s * qty * (exit_price - position.entry)
            cash += gross - fee
            pnl = gross - position.entry_fee - fee - position.funding
            trades.append(
                {
                    "side": word(s),
                    "signal_time": position.order.time,
                    "entry_time": position.entry_time,
                    "exit_time": time[k],
                    "entry_price": position.entry,
                    "exit_price": exit_price,
                    "qty": qty,
                    "pnl": pnl,
                    "r": pnl / (qty * abs(position.order.price - position.order.stop)),
                    "exit_reason": reason,
                }
            )
            position = None
            if pnl < 0:
                no_signal_before = k + int(p["cooldown_bars"])

        # 7. At the close, position still open.
        if position is not None:
            s, r = position.order.side, position.order.r
            # a.
            ahead = close if entered_here else (high if s > 0 else low)
            position.best = s * max(s * position.best, s * ahead)
            # b.
            reached = False
            if trailing_on:
                steps = math.floor(s * (position.best - position.entry) / (r * p["trail_step_r"]) + 1e-9)
                m = steps * p["trail_step_r"]
                reached = m >= p["trail_start_r"] - 1e-9
                if reached:
                    level = nearest_tick(position.entry + s * (m - p["trail_lag_r"]) * r, p["tick_size"])
                    position.stop = s * max(s * position.stop, s * level)
            # c.
            if reached and s * position.stop >= s * close:
                position.due = "trailing"
            # d.
            elif sig.out_long[k] if s > 0 else sig.out_short[k]:
                position.due = "signal"

        # Entry, step 4: a resting entry at the close of a later bar.
        if order is not None:
            if k == order.t + int(p["entry_ttl_bars"]):
                order.fate = "expired"
                order = None
            elif abs(close - order.price) > p["runaway_r"] * order.r:
                order.fate = "runaway"
                order = None

        # Signal: an edge counts only while flat, with no resting entry, and outside the cooldown.
        if position is None and order is None and k >= no_signal_before and k > 0:
            s = 0
            if sig.long_ok[k] and not sig.long_ok[k - 1]:
                s = 1
            elif sig.short_ok[k] and not sig.short_ok[k - 1]:
                s = -1
            if (s > 0 and sig.waterfall[k]) or (s < 0 and sig.parabolic[k]):
                rejected.append({"time": time[k], "side": word(s)})
            elif s != 0:
                placed = entry_order(k, time[k], s, close, sig.atr[k], cash, p)
                if isinstance(placed, str):
                    skipped.append({"time": time[k], "side": word(s), "why": placed})
                else:
                    order = placed
                    entries.append(placed)

        # Money: the curve is marked at every close.
        value = 0.0
        if position is not None:
            bars_in_position += 1
            value = position.order.side * position.order.qty * (close - position.entry)
        curve.append(cash + value)

    return {
        "params": p,
        "metrics": {
            **metrics(curve, trades, p["initial_equity"], interval_ms),
            "exposure": bars_in_position / n,
            "fees": fees,
            "funding": funding_paid,
        },
        "trades": trades,
        "open_position": None if position is None else open_row(position, closes[-1]),
        "entries": [one.row() for one in entries],
        "rejected": rejected,
        "skipped": skipped,
        "equity": curve,
    }


def open_row(position: Position, last_close: float) -> dict[str, Any]:
    """A position still open after the last bar, valued at the last close."""
    s, qty = position.order.side, position.order.qty
    return {
        "side": word(s),
        "signal_time": position.order.time,
        "entry_time": position.entry_time,
        "entry_price": position.entry,
        "qty": qty,
        "stop": position.stop,
        "take_profit": position.order.take_profit,
        "unrealised": s * qty * (last_close - position.entry),
    }


# Metrics


def metrics(
    curve: Sequence[float], trades: Sequence[Mapping[str, Any]], initial: float, interval_ms: int
) -> dict[str, float | None]:
    """The table of the page; `None` where it is undefined. Exposure, fees and funding are the loop's."""
    n = len(curve)
    per_year = YEAR / interval_ms
    last = curve[-1]

    sharpe = sortino = None
    if all(e > 0 for e in curve):
        before = [initial, *curve[:-1]]
        returns = [(e - b) / b for e, b in zip(curve, before, strict=True)]
        mean = math.fsum(returns) / n
        deviation = math.sqrt(math.fsum((x - mean) ** 2 for x in returns) / (n - 1))
        downside = math.sqrt(math.fsum(x * x for x in returns if x < 0) / n)
        sharpe = mean / deviation * math.sqrt(per_year) if deviation > 0 else None
        sortino = mean / downside * math.sqrt(per_year) if downside > 0 else None

    peak, drawdown = initial, 0.0
    for e in curve:
        peak = max(peak, e)
        drawdown = max(drawdown, (peak - e) / peak)

    calmar = None
    if last > 0 and drawdown > 0:
        try:
            calmar = ((last / initial) ** (per_year / n) - 1) / drawdown
        except OverflowError:
            calmar = None  # never inf

    pnls = [trade["pnl"] for trade in trades]
    gains = math.fsum(x for x in pnls if x > 0)
    losses = -math.fsum(x for x in pnls if x < 0)
    return {
        "total_return": last / initial - 1,
        "sharpe": sharpe,
        "sortino": sortino,
        "max_drawdown": drawdown,
        "calmar": calmar,
        "win_rate": sum(x > 0 for x in pnls) / len(pnls) if pnls else None,
        "profit_factor": gains / losses if losses > 0 else None,
        "expectancy_r": math.fsum(trade["r"] for trade in trades) / len(pnls) if pnls else None,
        "trades": len(trades),
    }
