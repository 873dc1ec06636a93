"""What is composed from the records: every number is that of an event, a position or a closed candle."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.pictures import (
    candle_picture,
    equity_picture,
    levels_of,
    marks_of,
    periods_picture,
    rank_picture,
    resampled,
    verdict_picture,
)
from bot.text import price
from research.synthetic import synthetic
from storage.queries import EquityCurve
from tests.bot import stage
from trading import indicators
from trading.errors import BadInput
from trading.events import TradeClosed, VerdictReached
from trading.model import CandleSeries, ExitReason, Side, millis, utc
from trading.parameters import TradeRules
from trading.pictures import CandlePicture, Level, Mark
from trading.status import PositionView
from trading.strategy.ema_trend import EmaTrendParameters

BERLIN = ZoneInfo("Europe/Berlin")
START = datetime(2026, 7, 20, tzinfo=UTC)  # a Monday
HOUR = 3_600_000
PARAMS: dict[str, Any] = EmaTrendParameters().as_dict() | TradeRules().as_dict()


def market(bars: int = 400, minutes: int = 240, start: datetime = START) -> CandleSeries:
    return synthetic("BTCUSDT", seed=3, bars=bars, interval_minutes=minutes, start=start)


def curve(*equity: float) -> EquityCurve:
    return EquityCurve(
        time=millis(START) + np.arange(len(equity), dtype=np.int64) * 4 * HOUR,
        equity=np.array(equity, np.float64),
        exposed=np.arange(len(equity)) % 2 == 1,
    )


def a_trade(**changes: Any) -> TradeClosed:
    fields: dict[str, Any] = {
        "at": START, "verdict_id": 214, "symbol": "BTCUSDT", "side": Side.LONG, "signal_time": START,
        "entry_time": START + timedelta(hours=4), "exit_time": START + timedelta(hours=16),
        "entry_price": Decimal("63410.5"), "exit_price": Decimal("64010.1"), "qty": Decimal("0.012"),
        "pnl": Decimal("17.3"), "fees": Decimal("0.93"), "funding": Decimal("-0.11"), "risk_usdt": Decimal("9.12"),
        "r": 1.9, "best_r": 2.3, "worst_r": -0.4, "exit_reason": ExitReason.TRAILING, "cash": Decimal(10_017),
    }  # fmt: skip
    return TradeClosed(**(fields | changes))


def a_position(**changes: Any) -> PositionView:
    short = {
        "side": Side.SHORT, "verdict_id": 215, "stop": Decimal("64650.5"), "unrealised": Decimal("-0.12"), "r": 0.0,
        "best_r": 0.1, "initial_risk": Decimal("14.9"), "opened": START + timedelta(hours=8),
    }  # fmt: skip
    return stage.a_position(**(short | changes))


def a_verdict(series: CandleSeries, row: int, **changes: Any) -> VerdictReached:
    """A decision on one bar of a series."""
    close = Decimal(repr(float(series.close[row])))
    fields: dict[str, Any] = {
        "at": START, "verdict_id": 215, "symbol": "BTCUSDT", "side": Side.LONG, "approved": True, "gate": "",
        "reasons": (), "close": close, "entry": close - 30, "stop": close - 1200, "take_profit": None,
        "r_distance": 1170.0, "atr": 292.5, "qty": Decimal("0.085"), "size_modifier": 1.0,
        "risk_usdt": Decimal("99.45"), "equity": Decimal(10_000), "council": "rules",
        "signal_time": utc(int(series.timestamp[row])),
    }  # fmt: skip
    return VerdictReached(**(fields | changes))


# ---- equity --------------------------------------------------------------------------------------


def test_the_equity_picture_carries_the_news() -> None:
    """Badge, change and return in the title; what the curve says in the facts, and the curve as it is stored."""
    stored = curve(10_000, 10_400, 9_880, 10_312.4)
    picture = equity_picture(stored, 10_000.0, "PAPER", BERLIN)
    assert picture.title == "PAPER equity +312.40 USDT (+3.12%)"
    assert picture.facts == (
        ("Equity", "10,312.40"), ("Return", "+3.12%"), ("Max drawdown", "-5.00%"), ("In position", "67%"),
    )  # fmt: skip
    assert picture.time is stored.time
    assert picture.equity is stored.equity
    assert (picture.start, picture.zone) == (10_000.0, "Europe/Berlin")


def test_the_start_counts_as_a_peak_of_the_drawdown() -> None:
    """As in the metrics of the specification."""
    picture = equity_picture(curve(9_500, 9_900), 10_000.0, "PAPER", UTC)
    assert dict(picture.facts)["Max drawdown"] == "-5.00%"
    assert picture.zone == "UTC"


def test_time_in_a_position_is_time() -> None:
    """Points that lie closer in between do not count more: two bars of four hours in a position, one hour out."""
    finer = dataclasses.replace(
        curve(*[10_000.0] * 5),
        time=millis(START) + np.array([0, 4, 8, 8, 9], np.int64) * HOUR,
        exposed=np.array([False, True, True, False, False]),
    )
    assert dict(equity_picture(finer, 10_000.0, "PAPER", UTC).facts)["In position"] == "89%"
    at_once = dataclasses.replace(finer, time=np.zeros(5, np.int64))
    assert dict(equity_picture(at_once, 10_000.0, "PAPER", UTC).facts)["In position"] == "40%"


def test_without_a_start_there_is_no_return() -> None:
    """No share of nothing."""
    picture = equity_picture(curve(0.0, 12.5), 0.0, "PAPER", UTC)
    assert picture.title == "PAPER equity +12.50 USDT"
    assert "Return" not in dict(picture.facts)


@pytest.mark.parametrize("points", [(), (10_000.0,)])
def test_a_curve_of_less_than_two_points_is_refused(points: tuple[float, ...]) -> None:
    """With a word about when there will be one."""
    with pytest.raises(BadInput, match="second closed bar"):
        equity_picture(curve(*points), 10_000.0, "PAPER", UTC)


# ---- candles -------------------------------------------------------------------------------------


def test_indicators_are_reckoned_over_the_whole_series() -> None:
    """The first candle that is shown has the EMA 200 of the 200 before it; the values are those of the strategy."""
    series = market()
    picture = candle_picture(series, PARAMS, bars=120, title="BTC", zone=BERLIN)
    assert picture.series.timestamp.tolist() == series.timestamp[-120:].tolist()
    ema, upper, middle, lower, rsi = picture.lines
    assert [line.name for line in picture.lines] == ["EMA 200", *["Bollinger 20, 2"] * 3, "RSI 14"]
    assert ema.values.tolist() == indicators.ema(series.close, 200)[-120:].tolist()
    bands = indicators.bollinger(series.close, 20, 2.0)
    assert [line.values.tolist() for line in (upper, middle, lower)] == [band[-120:].tolist() for band in bands]
    assert [line.dashed for line in (upper, middle, lower)] == [False, True, False]
    assert rsi.values.tolist() == indicators.rsi(series.close, 14)[-120:].tolist()
    assert (rsi.pane, picture.guides) == ("RSI 14", {"RSI 14": (25.0, 75.0)})
    assert np.isfinite(ema.values).all()


def test_parameters_are_those_of_now() -> None:
    """What was changed in the chat is what is drawn."""
    changed = PARAMS | {"ema_period": 50, "bb_std": 2.5, "rsi_long_max": 70.0, "rsi_period": 9}
    picture = candle_picture(market(), changed, bars=60, title="BTC", zone=UTC)
    assert [line.name for line in picture.lines] == ["EMA 50", *["Bollinger 20, 2.5"] * 3, "RSI 9"]
    assert picture.guides == {"RSI 9": (25.0, 70.0)}


def test_a_symbol_with_its_own_strategy_has_its_own_indicators() -> None:
    """Its bands, and ADX with the limit of its strategy; no EMA and no RSI, which it does not look at."""
    own = {"bb_period": 30, "bb_std": 1.5, "adx_period": 9, "adx_max": 25.0}
    series = market()
    params = PARAMS | {f"{series.symbol}.{name}": value for name, value in own.items()}
    picture = candle_picture(series, params, bars=120, title="ETH", zone=UTC)
    assert [line.name for line in picture.lines] == [*["Bollinger 30, 1.5"] * 3, "ADX 9"]
    expected = indicators.adx(series.high, series.low, series.close, 9)[-120:]
    assert picture.lines[-1].values.tolist() == expected.tolist()
    assert (picture.lines[-1].pane, picture.guides) == ("ADX 9", {"ADX 9": (25.0,)})
    other = PARAMS | {f"OTHER.{name}": value for name, value in own.items()}
    assert candle_picture(series, other, bars=9, title="", zone=UTC).lines[0].name == "EMA 200"


def test_a_strategy_without_these_parameters_has_its_candles() -> None:
    """Nothing is made up."""
    picture = candle_picture(market(), {"rsi_long_max": 75.0}, bars=60, title="BTC", zone=UTC)
    assert (picture.lines, picture.guides) == ((), {})


def test_few_candles_are_shown_as_they_are() -> None:
    """Indicators that are not defined yet are NaN, not a guess."""
    picture = candle_picture(market(5), PARAMS, bars=120, title="BTC", zone=UTC)
    assert len(picture.series) == 5
    assert all(len(line.values) == 5 and np.isnan(line.values).all() for line in picture.lines)


def test_no_candles_are_refused() -> None:
    """And so is a chart of no bars."""
    with pytest.raises(BadInput, match="at least 1"):
        candle_picture(market().between(0, 0), PARAMS, bars=10, title="BTC", zone=UTC)
    with pytest.raises(BadInput, match="at least 1"):
        candle_picture(market(), PARAMS, bars=0, title="BTC", zone=UTC)


def test_marks_before_the_window_are_left_out() -> None:
    """Levels and facts are passed on."""
    series = market()
    old, new = (Mark(time=int(series.timestamp[row]), price=1.0, kind="long") for row in (-61, -60))
    level = Level(name="Stop", price=1.0, kind="stop")
    picture = candle_picture(
        series, PARAMS, bars=60, title="BTC", zone=UTC, marks=(old, new), levels=(level,), facts=(("24h", "+1%"),)
    )
    assert (picture.marks, picture.levels, picture.facts) == ((new,), (level,), (("24h", "+1%"),))


# ---- timeframes ----------------------------------------------------------------------------------


def rows(series: CandleSeries) -> list[tuple[float, ...]]:
    names = ("timestamp", "open", "high", "low", "close", "volume")
    return list(zip(*(getattr(series, name).tolist() for name in names), strict=True))


@given(
    step=st.sampled_from([1, 5, 15, 60]),
    factor=st.integers(2, 48),
    skipped=st.integers(0, 100),
    bars=st.integers(150, 400),
)
def test_bars_of_a_higher_timeframe_are_those_of_the_exchange(step: int, factor: int, skipped: int, bars: int) -> None:
    """Each begins at a whole multiple in UTC and holds exactly the bars in it, but the last, which may be growing."""
    series = market(bars + skipped, step).between(skipped, bars + skipped)
    length = step * factor * 60_000
    made = resampled(series, step * factor)
    assert made.interval == timedelta(minutes=step * factor)
    assert made.symbol == "BTCUSDT"
    stamps = series.timestamp.tolist()
    groups = [[row for row in rows(series) if row[0] // length == start // length] for start in made.timestamp.tolist()]
    assert stamps[0] <= made.timestamp[0] < stamps[0] + length
    assert all(len(group) == factor for group in groups[:-1])
    assert groups[-1][-1] == rows(series)[-1]
    for bar, group in zip(rows(made), groups, strict=True):
        _, opens, highs, lows, closes, volumes = zip(*group, strict=True)
        assert bar[:5] == (group[0][0], opens[0], max(highs), min(lows), closes[-1])
        assert bar[0] % length == 0
        assert bar[5] == pytest.approx(sum(volumes))


def test_weeks_begin_on_monday() -> None:
    """Though the epoch was a Thursday; the incomplete first week is dropped, the growing last one kept."""
    series = market(bars=24 * 16, minutes=60, start=START + timedelta(days=1))
    weeks = resampled(series, 7 * 1440)
    assert [utc(int(stamp)) for stamp in weeks.timestamp] == [START + timedelta(days=7), START + timedelta(days=14)]
    assert weeks.open[0] == series.open[6 * 24]
    assert weeks.close[-1] == series.close[-1]


def test_the_same_timeframe_is_the_same_series() -> None:
    """Nothing is copied."""
    series = market()
    assert resampled(series, 240) is series


@pytest.mark.parametrize("minutes", [0, -240, 60, 300, 361])
def test_a_timeframe_that_cannot_be_made_is_refused_with_those_that_can(minutes: int) -> None:
    """Lower, or no whole multiple."""
    with pytest.raises(BadInput, match=r"choose one of 240, 720, 1440, 10080$"):
        resampled(market(), minutes)


def test_too_few_candles_for_one_bar_are_refused() -> None:
    """None would be whole from its beginning."""
    with pytest.raises(BadInput, match="too few candles"):
        resampled(market(bars=3, minutes=60, start=START + timedelta(hours=1)), 1440)
    with pytest.raises(BadInput, match="too few candles"):
        resampled(market().between(0, 0), 1440)


# ---- marks and levels ----------------------------------------------------------------------------


def test_marks_are_the_fills_of_trades_and_positions() -> None:
    """Entry and exit of what is finished, the entry of what is open, of this symbol, in the order of time."""
    trades = [a_trade(), a_trade(symbol="ETHUSDT"), a_trade(side=Side.SHORT, pnl=Decimal(-9), r=-1.04)]
    marks = marks_of("BTCUSDT", trades, [a_position(), a_position(symbol="ETHUSDT")])
    entry, exit_, opened = (millis(START) + hours * HOUR for hours in (4, 16, 8))
    assert marks == (
        Mark(time=entry, price=63410.5, kind="long"),
        Mark(time=entry, price=63410.5, kind="short"),
        Mark(time=opened, price=63410.0, kind="short"),
        Mark(time=exit_, price=64010.1, kind="exit", text="+1.9R", won=True),
        Mark(time=exit_, price=64010.1, kind="exit", text="-1.0R", won=False),
    )


def test_a_trade_that_earned_nothing_has_not_won() -> None:
    """As in the win rate of the specification."""
    assert marks_of("BTCUSDT", [a_trade(pnl=Decimal(0))])[1].won is False


def test_levels_of_a_position() -> None:
    """Entry and stop from the entry on; a target only where there is one."""
    opened = millis(START) + 8 * HOUR
    entry = Level(name="Entry", price=63410.0, kind="entry", since=opened)
    stop = Level(name="Stop", price=64650.5, kind="stop", since=opened)
    target = Level(name="Target", price=61000.0, kind="target", since=opened)
    assert levels_of(a_position()) == (entry, stop)
    assert levels_of(a_position(take_profit=Decimal(61000))) == (entry, stop, target)


# ---- decisions -----------------------------------------------------------------------------------


def drawn(event: VerdictReached, series: CandleSeries) -> CandlePicture:
    return verdict_picture(event, series, PARAMS, badge="PAPER", zone=BERLIN)


def test_a_decision_is_shown_as_it_stood() -> None:
    """Nothing that came after it; its own prices; indicators that knew the bars before the window."""
    series = market()
    event = a_verdict(series, 350, take_profit=Decimal(70_000))
    picture = drawn(event, series)
    assert picture.series.timestamp.tolist() == series.timestamp[261:351].tolist()
    assert picture.lines[0].values.tolist() == indicators.ema(series.close, 200)[261:351].tolist()
    at = int(series.timestamp[350])
    assert picture.levels == (
        Level(name="Entry", price=float(event.entry), kind="entry", since=at),
        Level(name="Stop", price=float(event.stop), kind="stop", since=at),
        Level(name="Target", price=70_000.0, kind="target", since=at),
    )
    assert picture.title == "PAPER #215 LONG BTC approved: max loss 99.45 USDT"
    assert dict(picture.facts) == {
        "Entry": price(event.entry), "Stop": price(event.stop), "Target": "70,000", "Size": "0.085 BTC",
    }  # fmt: skip
    assert (picture.marks, picture.zone) == ((), "Europe/Berlin")


def test_candles_after_the_decision_change_nothing() -> None:
    """The picture of an old decision is the one that was sent with it."""
    series = market()
    event = a_verdict(series, 300)
    then, now = drawn(event, series.between(0, 301)), drawn(event, series)
    assert rows(then.series) == rows(now.series)
    assert [line.values.tolist() for line in then.lines] == [line.values.tolist() for line in now.lines]
    assert (then.title, then.levels, then.facts) == (now.title, now.levels, now.facts)


def test_a_rejected_decision_says_who_and_why() -> None:
    """In the title; a long reason is shortened."""
    series = market()
    reason = "the close fell 4.2 ATR within 3 bars, below the lower band: a falling knife, and " + "very " * 30
    event = a_verdict(series, 350, approved=False, gate="guard", reasons=(reason, "another"), qty=Decimal(0))
    picture = drawn(event, series)
    assert picture.title.startswith("PAPER #215 LONG BTC rejected by guard: the close fell 4.2 ATR within 3 bars")
    assert len(picture.title) <= 110
    assert picture.title.endswith("…")
    assert dict(picture.facts)["Target"] == "trailing"
    assert dict(picture.facts)["1R"] == "1,170"
    assert "Size" not in dict(picture.facts)


@pytest.mark.parametrize("shift", [timedelta(days=-900), timedelta(days=900), timedelta(minutes=7)])
def test_a_decision_whose_candles_are_not_at_hand_is_refused(shift: timedelta) -> None:
    """Too old, too new, or of another timeframe: other candles would be no picture of it."""
    series = market()
    event = a_verdict(series, 350)
    with pytest.raises(BadInput, match=r"decision 215 are not at hand: /chart BTCUSDT"):
        drawn(dataclasses.replace(event, signal_time=event.signal_time + shift), series)


# ---- periods and ranks ---------------------------------------------------------------------------


def test_periods_sum_up() -> None:
    """Total, best, worst, and how many went up; zero is not up."""
    picture = periods_picture([("20 Jul", 120.5), ("21 Jul", -40.25), ("22 Jul", 0.0)], title="PAPER daily")
    assert (picture.labels, picture.values) == (("20 Jul", "21 Jul", "22 Jul"), (120.5, -40.25, 0.0))
    assert picture.facts == (("Total", "+80.25"), ("Best", "+120.50"), ("Worst", "-40.25"), ("Up", "1 of 3"))


def test_ranks_put_the_best_first() -> None:
    """Headings in their order, rows by value, empty groups gone."""
    groups = [
        ("Symbol", [("ETHUSDT", -3.0, "2 trades"), ("BTCUSDT", 12.5, "9 trades")]),
        ("Side", []),
        ("Exit", [("stop", -1.0, "")]),
    ]
    picture = rank_picture(groups, title="PAPER 11 trades", unit="R")
    assert picture.groups == (
        ("Symbol", (("BTCUSDT", 12.5, "9 trades"), ("ETHUSDT", -3.0, "2 trades"))),
        ("Exit", (("stop", -1.0, ""),)),
    )
    assert picture.unit == "R"


def test_nothing_to_show_is_said() -> None:
    """An empty chart would look like a broken one."""
    with pytest.raises(BadInput, match="no closed trade"):
        periods_picture([], title="x")
    with pytest.raises(BadInput, match="no closed trade"):
        rank_picture([("Symbol", [])], title="x")
