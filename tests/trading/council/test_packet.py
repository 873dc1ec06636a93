"""Packets: numbers and enums of the last 600 closed bars, the same to the byte whenever the facts are the same."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import timedelta

import numpy as np
import pytest

from tests.trading.council.candidates import (
    STRATEGY,
    TERMS,
    Session,
    account,
    brief_at,
    edges,
    mirrored,
    session,
    synthetic,
)
from trading.council.packet import (
    WINDOW,
    EquityBand,
    Macro,
    Regime,
    atr_of,
    equity_band,
    latched_knife,
    macro_trend,
    mismatch,
    quant_packet,
    read_market,
    regime,
    rounded,
    strategist_packet,
)
from trading.council.schemas import Bias, Fact, Facts
from trading.model import CandleSeries, Side
from trading.ports import Brief
from trading.strategy import evaluate

SERIES = synthetic()
SIGNALS = evaluate(STRATEGY, SERIES)
ROWS = edges(SERIES, SIGNALS, 150)


def documents(held: Session) -> tuple[str, str, str]:
    return held.quant_packet.json(), held.strategist_packet.json(), held.risk_packet.json()


def scaled(brief: Brief, factor: int) -> Brief:
    """The same candidate at prices `factor` times as high."""
    w, p, a = brief.window, brief.proposal, brief.account
    window = dataclasses.replace(
        w, open=w.open * factor, high=w.high * factor, low=w.low * factor, close=w.close * factor
    )
    wanted = dataclasses.replace(
        p,
        close=p.close * factor,
        entry=p.entry * factor,
        stop=p.stop * factor,
        r_distance=p.r_distance * factor,
    )
    facts = dataclasses.replace(a, spread=a.spread * factor, slippage=a.slippage * factor)
    return Brief(window=window, proposal=wanted, account=facts)


def renamed(brief: Brief, days: int) -> Brief:
    """The same candidate of another market at another time."""
    stamps = brief.window.timestamp + days * 86_400_000
    window = dataclasses.replace(brief.window, symbol="DOGEUSDT", timestamp=stamps)
    moved = brief.proposal.signal_time + timedelta(days=days)
    wanted = dataclasses.replace(brief.proposal, symbol="DOGEUSDT", signal_time=moved)
    return dataclasses.replace(brief, window=window, proposal=wanted)


def test_the_same_tail_is_the_same_packet_to_the_byte() -> None:
    """However much history lies before the window, the agents see the same."""
    for row in ROWS[:40]:
        short, long = (session(brief_at(SERIES, SIGNALS, row, bars)) for bars in (WINDOW, row + 1))
        assert documents(short) == documents(long)
        assert short.ruling == long.ruling


def test_no_symbol_no_date_and_no_absolute_price() -> None:
    """Ten times the price, another symbol, another year: nobody could tell."""
    for row in ROWS[:40]:
        brief = brief_at(SERIES, SIGNALS, row)
        plain = session(brief)
        assert documents(session(scaled(brief, 10))) == documents(plain)
        assert documents(session(renamed(brief, 366))) == documents(plain)


def test_facts_are_flat_json_with_every_key_always_there() -> None:
    """The shape of a packet does not depend on the market."""
    shapes = set()
    for row in ROWS:
        held = session(brief_at(SERIES, SIGNALS, row))
        for packet in (held.quant_packet, held.strategist_packet, held.risk_packet):
            facts = packet.facts()
            assert json.loads(packet.json()) == facts
            assert all(value is None or type(value) in {str, bool, int, float} for value in facts.values())
            assert all(round(value, 3) == value for value in facts.values() if isinstance(value, float))
            assert "-0.0," not in packet.json()
            shapes.add(tuple(facts))
    assert len(shapes) == 3


def test_every_fact_of_the_specification_is_there() -> None:
    """Named here once more, from the page."""
    held = session(brief_at(SERIES, SIGNALS, ROWS[0]))
    quant = {"rsi", "rsi_slope", "rsi_divergence", "percent_b", "band_width_percentile", "atr_percent"}
    quant |= {"atr_percentile", "ema_divergence_atr", "ema_divergence_slope", "trend_distance_atr", "adx"}
    quant |= {"relative_volume", "return_1_atr", "return_3_atr", "return_12_atr"}
    asked = {"side", "stop_atr", "target_r", "horizon_bars", "base_rate"}
    assert set(held.quant_packet.facts()) == quant | asked
    chart = set(held.strategist_packet.facts())
    assert {"structure", "support_atr", "resistance_atr", "higher_timeframe_bias"} | asked <= chart
    assert {f"swing_{age}" for age in range(4)} | {f"candle_{age}_body_ratio" for age in range(5)} <= chart
    assert sum(key.endswith("_bars_ago") for key in chart) == 11
    assert not any(re.search("symbol|time|date|price|equity$", key) for key in held.risk_packet.facts())


def test_few_bars_leave_facts_unknown_and_never_neutral() -> None:
    """RSI is not 50 and a percentile is not a half because nobody knows them."""
    brief = brief_at(SERIES, SIGNALS, ROWS[0], 13)
    facts = quant_packet(brief, read_market(brief.window), TERMS).facts()
    unknown = {key for key, value in facts.items() if value is None}
    assert unknown >= {"stop_atr", "rsi", "percent_b", "atr_percentile", "adx", "return_12_atr", "atr_percent"}
    chart = strategist_packet(brief, read_market(brief.window), TERMS)
    assert chart.higher_timeframe_bias is None
    assert atr_of(brief.window) is None


def test_a_market_that_never_moved_has_no_facts_but_raises_nothing() -> None:
    """Flat candles: no ATR, so no distance can be told."""
    brief = brief_at(SERIES, SIGNALS, ROWS[0])
    level = np.full(len(brief.window), 100.0)
    still = dataclasses.replace(brief.window, open=level, high=level, low=level, close=level)
    held = session(dataclasses.replace(brief, window=still))
    assert held.quant_packet.facts()["rsi"] is None
    assert held.risk_packet.facts()["spread_atr"] is None
    assert not held.ruling.approved


def test_candles_are_distances_from_the_last_close() -> None:
    """Multiplied back, the five candles are those of the window."""
    brief = brief_at(SERIES, SIGNALS, ROWS[3])
    window, atr = brief.window, atr_of(brief.window)
    assert atr is not None
    facts = session(brief).strategist_packet.facts()
    for age in range(5):
        for name in ("open", "high", "low", "close"):
            given = facts[f"candle_{age}_{name}_atr"]
            assert isinstance(given, float)
            price = float(getattr(window, name)[-1 - age])
            assert window.close[-1] + given * atr == pytest.approx(price, abs=6e-4 * atr)


def test_a_window_of_another_bar_or_market_is_noticed() -> None:
    """A verdict is about the very bar that was proposed."""
    brief = brief_at(SERIES, SIGNALS, ROWS[0])
    assert mismatch(brief) is None
    assert mismatch(dataclasses.replace(brief, window=brief.window.between(0, 599)))
    assert mismatch(dataclasses.replace(brief, window=brief.window.between(0, 0)))
    other = dataclasses.replace(brief.proposal, symbol="ETHUSDT")
    assert mismatch(dataclasses.replace(brief, proposal=other))


def test_bands_and_regimes() -> None:
    """Where the enums change."""
    shares = (0.5, 0.8, 0.95, 1.05, 1.06)
    bands = ["BELOW_80", "FROM_80_TO_95", "FROM_95_TO_105", "FROM_95_TO_105", "ABOVE_105"]
    assert [equity_band(share, 1.0) for share in shares] == [EquityBand(band) for band in bands]
    assert equity_band(1.0, 0.0) is None
    assert [regime(rank) for rank in (0.0, 0.25, 0.75, 0.95, None)] == [
        Regime.CALM,
        Regime.NORMAL,
        Regime.ELEVATED,
        Regime.EXTREME,
        None,
    ]
    assert macro_trend(Bias.BULLISH, Side.LONG) is Macro.WITH
    assert macro_trend(Bias.BULLISH, Side.SHORT) is Macro.AGAINST
    assert macro_trend(Bias.CHOPPY, Side.LONG) is Macro.CHOPPY


def test_numbers_have_three_decimals_and_no_negative_zero() -> None:
    """Or the same fact would be two different texts."""
    assert [str(rounded(value)) for value in (-0.0001, 1.23456, -0.0, 7.0)] == ["0.0", "1.235", "0.0", "7.0"]
    assert [rounded(value) for value in (float("nan"), float("inf"), None)] == [None] * 3


def test_the_breaker_flags_are_those_of_the_strategy() -> None:
    """Latched from a waterfall or parabolic bar until a bar closes inside the bands again, as the guards see it."""
    long, short = SIGNALS.latched(SIGNALS.hazard_long), SIGNALS.latched(SIGNALS.hazard_short)
    near = np.flatnonzero(long | short)
    rows = [row for row in sorted({*near, *(near + 1), *(near + 2)}) if 700 <= row < len(SERIES)]
    assert len(near) > 20
    for row in rows[:200]:
        market = read_market(SERIES.between(row + 1 - WINDOW, row + 1))
        assert latched_knife(market, Side.LONG, TERMS) == long[row]
        assert latched_knife(market, Side.SHORT, TERMS) == short[row]


def test_funding_counts_from_the_proposed_side() -> None:
    """A positive rate is paid by longs."""
    brief = brief_at(SERIES, SIGNALS, ROWS[0])
    paid = session(dataclasses.replace(brief, account=account(funding_rate=0.001))).risk_packet
    assert paid.account.funding_bp == 10.0 * brief.proposal.side.sign


@pytest.mark.parametrize("broken", ["day_r", "week_r", "drawdown", "open_risk", "spread", "funding_rate"])
def test_an_account_fact_that_is_no_number_is_unknown_and_ends_in_a_rejection(broken: str) -> None:
    """NaN never becomes a zero."""
    brief = brief_at(SERIES, SIGNALS, ROWS[0])
    held = session(dataclasses.replace(brief, account=account(**{broken: float("nan")})))
    assert held.risk_manager.answer is None
    assert not held.ruling.approved


SIGNED = frozenset(
    {
        "rsi_slope",
        "ema_divergence_atr",
        "ema_divergence_slope",
        "trend_distance_atr",
        "return_1_atr",
        "return_3_atr",
        "return_12_atr",
    }
)
SWAPPED = {
    "long": "short",
    "BULLISH": "BEARISH",
    "HH_HL": "LH_LL",
    "HH": "LL",
    "HL": "LH",
    "LONG": "SHORT",
}
SWAPPED |= {value: key for key, value in SWAPPED.items()}
TURNED_KEYS = (
    ("support", "resistance"),
    ("hammer", "shooting_star"),
    ("bullish", "bearish"),
    ("upper", "lower"),
    ("high_atr", "low_atr"),
    ("waterfall", "parabolic"),
)


def turned_key(key: str) -> str:
    """The key under which the mirror image has this fact."""
    for one, other in TURNED_KEYS:
        if key.startswith(one) or f"_{one}" in key:
            return key.replace(one, other)
        if key.startswith(other) or f"_{other}" in key:
            return key.replace(other, one)
    return key


def turned(key: str, value: Fact) -> Fact:
    """The fact in the mirror image."""
    if isinstance(value, str):
        return SWAPPED.get(value, value)
    if not isinstance(value, float) or isinstance(value, bool):
        return value
    if key in {"rsi", "percent_b"}:
        return (100.0 if key == "rsi" else 1.0) - value
    directional = key in SIGNED or (key.startswith("candle_") and "wick" not in key)
    return -value if directional else value


def assert_turned(plain: Facts, image: Facts) -> None:
    for key, value in plain.items():
        expected, found = turned(key, value), image[turned_key(key)]
        if isinstance(expected, float) and isinstance(found, float):
            assert found == pytest.approx(expected, abs=1.001e-3), key
        else:
            assert found == expected, key


def assert_mirror_image(series: CandleSeries, rows: list[int]) -> None:
    """Upside down, every fact turns and every vote with it; decision and size stay."""
    signals = evaluate(STRATEGY, series)
    for row in rows:
        brief = brief_at(series, signals, row)
        plain, image = session(brief), session(mirrored(brief))
        assert_turned(plain.quant_packet.facts(), image.quant_packet.facts())
        assert_turned(plain.strategist_packet.facts(), image.strategist_packet.facts())
        assert_turned(plain.risk_packet.facts(), image.risk_packet.facts())
        assert plain.risk_manager.answer
        assert image.risk_manager.answer
        assert plain.risk_manager.answer.decision is image.risk_manager.answer.decision
        assert plain.ruling.approved == image.ruling.approved
        assert plain.ruling.size_multiplier == image.ruling.size_multiplier


def test_upside_down_the_market_gives_the_mirror_image() -> None:
    """No definition prefers one direction: on made-up candles."""
    assert_mirror_image(SERIES, ROWS)
