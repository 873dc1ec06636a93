"""Real and made-up candidates for the council's tests, their mirror images, and what became of them.

A candidate is an edge of the default strategy; `outcome` follows one by `spec/strategy.md` (entry, stop, step
trailing, exit beyond the EMA) on its own, whether or not another trade was open: a label, not a backtest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from trading.council import packet as facts
from trading.council.aggregate import aggregate
from trading.council.packet import PacketTerms, QuantPacket, RiskPacket, StrategistPacket
from trading.council.schemas import QuantAnswer, Reply, RiskManagerAnswer, StrategistAnswer
from trading.council.twins import QuantTwin, RiskManagerTwin, StrategistTwin
from trading.model import AccountFacts, CandleSeries, Proposal, Side, utc
from trading.ports import Brief, Deliberation
from trading.strategy import Signals
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters

TERMS = PacketTerms()
STRATEGY = EmaTrend(EmaTrendParameters())
TICKS = 100.0  # prices of the tests are whole hundredths, so that a mirror image is exact
FEES = 0.0002 + 0.00055 + 0.0002  # maker in, taker and slippage out
RECORDED = (
    ("binance-perp/BTCUSDT-1h-20190908-20260517.parquet", (1, 4)),
    ("binance-perp/ETHUSDT-1h-20191127-20260517.parquet", (1, 4)),
    ("binance-perp/BTCUSDT-15m-20230101-20260517.parquet", (1,)),
    ("bybit/BTCUSDT-5m-20250924-20260721.parquet", (1, 6)),
    ("bybit/ETHUSDT-15m-20250924-20260721.parquet", (1,)),
    ("crash-1m/BTCUSDT-1m-20240726-20240825.parquet", (1, 5)),
)


def account(**changes: Any) -> AccountFacts:
    """A flat, healthy account; pass what differs."""
    healthy = AccountFacts(
        equity=Decimal(10_000),
        initial_equity=Decimal(10_000),
        day_r=0.0,
        week_r=0.0,
        drawdown=0.0,
        losing_streak=0,
        bars_since_loss=None,
        open_risk=0.0,
        open_positions=0,
        spread=0.1,
        slippage=0.1,
        funding_rate=0.0001,
        data_age_bars=0.0,
    )
    return dataclasses.replace(healthy, **changes)


def proposal(**changes: Any) -> Proposal:
    """A long from 100 with its stop at 96; pass what differs."""
    plain = Proposal(
        symbol="BTCUSDT",
        side=Side.LONG,
        signal_time=utc(1_700_000_000_000),
        interval=timedelta(hours=4),
        close=100.0,
        entry=Decimal(100),
        stop=Decimal(96),
        take_profit=None,
        take_profit_r=0.0,
        r_distance=4.0,
    )
    return dataclasses.replace(plain, **changes)


def series_of(frame: pd.DataFrame, symbol: str = "BTCUSDT") -> CandleSeries:
    """A frame of candles as a series; prices in hundredths."""
    stamps = frame["timestamp"].to_numpy(np.int64)
    prices = {name: np.round(frame[name].to_numpy(np.float64) * TICKS) for name in ("open", "high", "low", "close")}
    return CandleSeries(
        symbol=symbol,
        interval=timedelta(milliseconds=int(np.diff(stamps).min())),
        timestamp=stamps.copy(),
        volume=frame["volume"].to_numpy(np.float64).copy(),
        **prices,
    )


def resampled(frame: pd.DataFrame, factor: int) -> pd.DataFrame:
    """Complete bars of `factor` times the length."""
    length = int(frame["timestamp"].diff().min()) * factor
    groups = frame.groupby(frame["timestamp"] // length)
    joined = groups.agg(
        timestamp=("timestamp", "first"),
        open=("open", "first"),
        high=("high", "max"),
        low=("low", "min"),
        close=("close", "last"),
        volume=("volume", "sum"),
    )
    return joined[groups.size() == factor]


def recorded(folder: Path) -> Iterator[tuple[str, CandleSeries]]:
    """Every recorded series and timeframe, named."""
    for name, factors in RECORDED:
        frame = pd.read_parquet(folder / name)
        for factor in factors:
            joined = resampled(frame, factor) if factor > 1 else frame
            yield f"{Path(name).stem} x{factor}", series_of(joined, Path(name).name.split("-")[0])


def synthetic(bars: int = 14_000, seed: int = 7) -> CandleSeries:
    """A seeded walk whose drift and volatility change every now and then, in hundredths, 15-minute bars."""
    rng = np.random.default_rng(seed)
    blocks = bars // 100 + 1
    drift = np.repeat(rng.normal(0, 0.0006, blocks), 100)[:bars]
    noise = np.repeat(np.exp(rng.normal(-5.8, 0.4, blocks)), 100)[:bars]
    close = np.exp(np.log(30_000) + np.cumsum(drift + noise * rng.standard_t(4, bars)))
    opened = np.concatenate((close[:1], close[:-1]))
    wick = noise * close
    frame = {
        "timestamp": 1_700_000_100_000 // 900_000 * 900_000 + np.arange(bars, dtype=np.int64) * 900_000,
        "open": opened,
        "high": np.maximum(opened, close) + wick * rng.exponential(0.5, bars),
        "low": np.minimum(opened, close) - wick * rng.exponential(0.5, bars),
        "close": close,
        "volume": rng.lognormal(4, 0.6, bars) * (1 + np.abs(close / opened - 1) * 100),
    }
    return series_of(pd.DataFrame(frame))


def edges(series: CandleSeries, signals: Signals, count: int, first: int = 700) -> list[int]:
    """At most `count` rows of candidates, spread evenly."""
    rows = np.flatnonzero(signals.side)
    rows = rows[rows >= first]
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)].tolist() if len(rows) else []


def brief_at(series: CandleSeries, signals: Signals, row: int, bars: int = 600) -> Brief:
    """The candidate of a row with the `bars` up to it, and what the cycle would say of the account."""
    side = Side.LONG if signals.side[row] > 0 else Side.SHORT
    close, distance = float(series.close[row]), float(signals.stop_distance[row])
    entry = Decimal(round(close * (1 - side.sign * 0.0005)))
    wanted = proposal(
        symbol=series.symbol,
        side=side,
        signal_time=utc(int(series.timestamp[row])),
        interval=series.interval,
        close=close,
        entry=entry,
        stop=entry - side.sign * round(distance),
        r_distance=distance,
    )
    window = series.between(row + 1 - bars, row + 1)
    return Brief(window=window, proposal=wanted, account=account(spread=10.0, slippage=0.0002 * close))


def mirrored(brief: Brief) -> Brief:
    """The same candidate upside down about its close: the other side, the opposite funding."""
    window, wanted = brief.window, brief.proposal
    axis = 2 * window.close[-1]
    turned = dataclasses.replace(
        window,
        open=axis - window.open,
        high=axis - window.low,
        low=axis - window.high,
        close=axis - window.close,
    )
    middle = Decimal(repr(float(axis)))
    other = dataclasses.replace(
        wanted, side=wanted.side.opposite, entry=middle - wanted.entry, stop=middle - wanted.stop
    )
    funding = -brief.account.funding_rate
    return Brief(
        window=turned, proposal=other, account=dataclasses.replace(brief.account, funding_rate=funding)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One candidate before the twins: what each saw, what each said, and the verdict."""

    quant_packet: QuantPacket
    strategist_packet: StrategistPacket
    risk_packet: RiskPacket
    quant: Reply[QuantAnswer]
    strategist: Reply[StrategistAnswer]
    risk_manager: Reply[RiskManagerAnswer]
    ruling: Deliberation


def session(brief: Brief) -> Session:
    """Ask the twins."""
    market = facts.read_market(brief.window)
    quant_packet = facts.quant_packet(brief, market, TERMS)
    strategist_packet = facts.strategist_packet(brief, market, TERMS)
    quant, strategist = QuantTwin().answer(quant_packet), StrategistTwin().answer(strategist_packet)
    risk_packet = facts.risk_packet(brief, market, TERMS, quant, strategist)
    risk_manager = RiskManagerTwin().answer(risk_packet)
    return Session(
        quant_packet=quant_packet,
        strategist_packet=strategist_packet,
        risk_packet=risk_packet,
        quant=quant,
        strategist=strategist,
        risk_manager=risk_manager,
        ruling=aggregate(brief.proposal.side, quant, strategist, risk_manager),
    )


def outcome(series: CandleSeries, signals: Signals, row: int) -> float | None:
    """R after fees of the candidate of a row, followed on its own; None if it never filled or never ended."""
    sign = int(signals.side[row])
    entry, distance = sign * series.close[row] * (1 - sign * 0.0005), signals.stop_distance[row]
    highs, lows = (series.high, series.low) if sign > 0 else (-series.low, -series.high)
    fills = [k for k in range(row + 1, min(row + 4, len(series))) if lows[k] < entry]
    if not fills:
        return None
    leave = signals.exit_long if sign > 0 else signals.exit_short
    gone = _follow(sign * series.open, highs, lows, sign * series.close, leave, fills[0], entry, distance)
    if gone is None:
        return None
    return float((gone - entry - FEES * abs(entry)) / distance)


def _follow(
    opens: Any, highs: Any, lows: Any, closes: Any, leave: Any, first: int, entry: float, distance: float
) -> float | None:
    """The exit price of a long from `first` on; a short comes with its prices negated."""
    stop, best, due = entry - distance, -np.inf, False
    for k in range(first, len(opens)):
        if due or (k > first and opens[k] <= stop):
            return float(opens[k])
        if lows[k] <= stop:
            return float(min(stop, opens[k]) if k == first else stop)
        best = max(entry, closes[k]) if k == first else max(best, highs[k])
        level = np.floor((best - entry) / distance + 1e-9)
        if level >= 1:
            stop = max(stop, entry + (level - 1) * distance)
        due = bool(leave[k]) or bool(level >= 1 and stop >= closes[k])
    return None
