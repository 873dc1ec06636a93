"""The synthetic market: possible bars, always the same ones, and something to see early on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from research.candles import load_candles
from research.synthetic import ACT, synthetic, write_candles
from trading.errors import BadInput
from trading.exchange.simulated.instruments import KNOWN
from trading.model import CandleSeries, FloatArray, millis
from trading.strategy import evaluate
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters

PRICES = ("open", "high", "low", "close")
COLUMNS = ("timestamp", *PRICES, "volume")
WARM_UP = 2400
DAY = 6  # bars


def same(one: CandleSeries, other: CandleSeries) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in COLUMNS)


@given(
    symbol=st.sampled_from([*KNOWN, "FOOUSDT"]),
    seed=st.integers(0, 2**63),
    bars=st.integers(1, 3 * ACT),
    minutes=st.sampled_from([1, 5, 15, 60, 240, 1440]),
)
def test_every_bar_is_possible_and_on_the_tick(symbol: str, seed: int, bars: int, minutes: int) -> None:
    """High above, low below, nothing negative, gapless; prices are the doubles of whole ticks."""
    series = synthetic(symbol, seed=seed, bars=bars, interval_minutes=minutes)
    assert (len(series), series.symbol, series.interval) == (bars, symbol, timedelta(minutes=minutes))
    assert set(np.diff(series.timestamp)) <= {minutes * 60_000}
    assert (series.low > 0).all()
    assert (series.low <= np.minimum(series.open, series.close)).all()
    assert (series.high >= np.maximum(series.open, series.close)).all()
    assert (series.volume >= 0).all()
    if symbol in KNOWN:
        rules = KNOWN[symbol]
        for price in (series.close[0], series.high[-1], series.low[bars // 2]):
            assert float(rules.round_price(float(price))) == price


@given(seed=st.integers(0, 1000), bars=st.integers(1, 3 * ACT), more=st.integers(0, 2 * ACT))
def test_a_longer_market_begins_with_the_shorter_one(seed: int, bars: int, more: int) -> None:
    """Bar k does not depend on how many are asked for: the market goes on after a restart."""
    whole = synthetic("BTCUSDT", seed=seed, bars=bars + more)
    assert same(whole.between(0, bars), synthetic("BTCUSDT", seed=seed, bars=bars))


def test_the_market_of_a_seed_never_changes() -> None:
    """A running market is continued by its seed; whoever changes the generator ends all of them."""
    series = synthetic("BTCUSDT", seed=1, bars=2 * ACT)
    found = sha256(b"".join(getattr(series, name).tobytes() for name in COLUMNS)).hexdigest()
    assert found[:16] == "fc027dbfe59f312c"


def test_seeds_and_symbols_differ() -> None:
    """No two markets move alike."""

    def moves(symbol: str, seed: int) -> FloatArray:
        return np.diff(np.log(synthetic(symbol, seed=seed, bars=1000).close))

    base = moves("BTCUSDT", 1)
    for other in (moves("BTCUSDT", 2), moves("ETHUSDT", 1)):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.2


def test_start_and_price_are_what_is_asked_for() -> None:
    """The first bar opens at the start, at about the start price, with five digits for an unknown symbol."""
    start = datetime(2020, 2, 29, tzinfo=UTC)
    series = synthetic("FOOUSDT", seed=3, bars=100, start=start, start_price=2.5)
    assert series.timestamp[0] == millis(start)
    assert series.open[0] == pytest.approx(2.5, rel=0.05)
    assert all(round(price, 4) == price for price in series.close.tolist())


@pytest.mark.parametrize(
    "wrong",
    [{"bars": 0}, {"bars": -5}, {"interval_minutes": 0}, {"seed": -1}, {"start_price": 0.0}, {"start_price": -1.0}],
)
def test_impossible_markets_are_refused(wrong: dict[str, float]) -> None:
    """No bars, no time, no price."""
    options: dict[str, float] = {"seed": 1, "bars": 10, **wrong}
    with pytest.raises(BadInput, match="a synthetic market needs"):
        synthetic("BTCUSDT", **options)  # type: ignore[arg-type]  # the values are the test's


def test_the_market_has_something_of_everything() -> None:
    """Both directions, waterfalls, parabolas, a gap in every act; no bar without a trade."""
    series = synthetic("BTCUSDT", seed=1, bars=20 * ACT)
    moves = np.diff(np.log(series.close))
    week = np.log(series.close[42:] / series.close[:-42])
    assert (week.max() > 0.2, week.min() < -0.2) == (True, True)
    assert (moves.min() < -0.035, moves.max() > 0.035) == (True, True)
    gaps = np.abs(series.open[1:] / series.close[:-1] - 1)
    assert 15 <= (gaps > 0.005).sum() <= 20
    assert bool((series.volume > 0).all() and (series.high > series.low).all())


def correlation(values: FloatArray, others: FloatArray) -> float:
    return float(np.corrcoef(values, others)[0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_a_chart_of_it_looks_like_a_market(seed: int) -> None:
    """What a trader sees at a glance, not far from four-hour bars of BTCUSDT of 2019 to 2026.

    Those, in stretches of 500 days: deviation of a bar's move 1.0 to 1.7 %, excess kurtosis 6 to 7, correlation of a
    move with the next one -0.07 to 0.02 and of their sizes 0.17 to 0.21, body over range 0.39 to 0.43, correlation of
    volume with range 0.72 to 0.87 and of its logarithm with the next bar's 0.57 to 0.68.
    """
    series = synthetic("BTCUSDT", seed=seed, bars=25 * ACT)
    moves, span = np.diff(np.log(series.close)), series.high - series.low
    assert 0.006 < moves.std() < 0.012
    assert 3 < float(np.mean((moves - moves.mean()) ** 4)) / moves.var() ** 2 - 3 < 10, "crashes, but not only those"
    assert -0.2 < correlation(moves[1:], moves[:-1]) < 0.2, "a saw-tooth, or too smooth"
    assert correlation(np.abs(moves[1:]), np.abs(moves[:-1])) > 0.05, "quiet and loud times"
    assert 0.38 < float(np.mean(np.abs(series.close - series.open) / span)) < 0.5, "wicks"
    assert correlation(series.volume, span / series.close) > 0.5
    volume = np.log(series.volume)
    assert correlation(volume[1:], volume[:-1]) > 0.5


def test_prices_stay_in_bounds() -> None:
    """However long it runs, the market does not drift away."""
    close = synthetic("BTCUSDT", seed=5, bars=100_000).close
    assert (close.min() > 15_000, close.max() < 240_000) == (True, True)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "ETHUSDT", "SOLUSDT"])
@pytest.mark.parametrize("seed", range(4))
def test_the_default_strategy_has_something_to_do(symbol: str, seed: int) -> None:
    """After the warm-up: an edge at least every ten bars, a first one soon, and falling knives among them."""
    series = synthetic(symbol, seed=seed, bars=WARM_UP + 1200)
    signals = evaluate(EmaTrend(EmaTrendParameters()), series)
    side = signals.side[WARM_UP:]
    knives = ((side > 0) & signals.hazard_long[WARM_UP:]) | ((side < 0) & signals.hazard_short[WARM_UP:])
    assert 100 <= np.count_nonzero(side) <= 240
    assert np.count_nonzero(side[: 10 * DAY] != 0) >= 2
    assert np.count_nonzero(knives) >= 3
    assert np.count_nonzero(knives[:600]) >= 1


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_written_candles_are_read_again(tmp_path: Path, suffix: str) -> None:
    """Every format keeps every bit."""
    series = synthetic("ETHUSDT", seed=2, bars=500, interval_minutes=15)
    path = write_candles(series, tmp_path / f"ETHUSDT-15m{suffix}")
    again = load_candles(path, known_symbols=KNOWN).series
    assert (again.symbol, again.interval) == (series.symbol, series.interval)
    assert same(again, series)


def test_candles_are_written_in_known_formats_only(tmp_path: Path) -> None:
    """A name that nothing could read again is refused."""
    with pytest.raises(BadInput, match=r"a candle file is \.parquet"):
        write_candles(synthetic("BTCUSDT", seed=1, bars=5), tmp_path / "candles.txt")
