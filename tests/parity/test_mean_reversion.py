"""The second strategy: the program and its plain twin agree, and its pieces are what their keys say."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parity.compare import differences
from tests.parity.plain import DEFAULTS_OF, OF_TREND_ALONE, simulate
from tests.parity.product import product, refused, replay_arguments, replay_file, run
from tests.parity.series import KINDS, Bars, Series, bars_from, random_funding, random_params, walk, write_candles
from tests.parity.test_replay_parity import ETHUSDT, FULL, MANY_BARS, candles, recorded, seeded
from trading.errors import BadInput
from trading.indicators import Indicators
from trading.model import CandleSeries
from trading.strategy import Condition, Measure, Rules, Strategy, evaluate, strategies, strategy_named
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters
from trading.strategy.mean_reversion import MeanReversion, MeanReversionParameters

NAME = "mean_reversion"
SETS = 2
SETS_FOR_MANY_BARS = 0  # whole with CONCLAVE_FULL_PARITY=1; the kernel meets them in test_backtest_parity.py
GOLDEN = "bybit/BTCUSDT-15m-20250924-20260721.parquet"


def lively(rng: np.random.Generator, price: float) -> dict[str, float]:
    """A valid, widely varied parameter set, mostly with many trades at about `price`."""

    def one(*choices: float) -> float:
        return choices[int(rng.integers(0, len(choices)))]

    shared = {name: value for name, value in random_params(rng, price).items() if name not in OF_TREND_ALONE}
    shared |= {"bb_std": one(0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 0.0), "bb_period": int(rng.integers(2, 40))}
    return {**shared, "adx_max": one(15.0, 20.0, 30.0, 50.0, 100.0, 101.0, 0.0)}


# Parity


@pytest.mark.parametrize("number", range(8))
@pytest.mark.parametrize("kind", KINDS)
def test_synthetic_series_give_equal_trades_and_money(kind: str, number: int) -> None:
    """Every kind of series, each time another one with other parameters; every third has funding rates."""
    rng = seeded(NAME, kind, number)
    series = KINDS[kind](rng)
    params = lively(rng, series.price)
    rates = random_funding(rng, series) if number % 3 == 2 else None
    expected = simulate(series.bars, params, interval_ms=series.interval_ms, funding=rates, strategy=NAME)
    actual = product(series.bars, params, interval_ms=series.interval_ms, funding=rates, strategy=NAME)
    assert differences(expected, actual) == []


def test_the_synthetic_matrix_is_worth_comparing() -> None:
    """The matrix holds trades of every exit, on both sides."""
    seen: Counter[tuple[str, str]] = Counter()
    for kind in KINDS:
        for number in range(8):
            rng = seeded(NAME, kind, number)
            series = KINDS[kind](rng)
            result = simulate(
                series.bars, lively(rng, series.price), interval_ms=series.interval_ms, strategy=NAME
            )
            seen.update((trade["side"], trade["exit_reason"]) for trade in result["trades"])
    assert len(seen) == 8
    assert min(seen.values()) >= 20


@pytest.mark.parametrize("kind", ["ranging", "flat", "daily"])
def test_defaults_are_those_of_the_page(kind: str) -> None:
    """Without any `--set` the program trades the defaults of docs/strategies.md, and says which they are."""
    series = KINDS[kind](seeded("defaults", kind))
    expected = simulate(series.bars, {}, interval_ms=series.interval_ms, strategy=NAME)
    actual = product(series.bars, {}, interval_ms=series.interval_ms, strategy=NAME)
    assert differences(expected, actual) == []
    assert actual["params"] == expected["params"]


def recorded_cases() -> list[Any]:
    """Every recorded file with its parameter sets, but for what `test_golden_trades` compares; without test data one
    case that says so.
    """
    cases = []
    for path in recorded():
        many = len(candles(path)[0]["close"]) > MANY_BARS
        sets = SETS_FOR_MANY_BARS if many and not FULL else SETS
        cases += [
            pytest.param(path, number, id=f"{path.parent.name}/{path.stem}-{number}")
            for number in range(sets)
            if number or not path.match(GOLDEN)
        ]
    return cases or [pytest.param(None, 0, marks=pytest.mark.skip(reason="CONCLAVE_TEST_DATA is not set"))]


@pytest.mark.parametrize(("path", "number"), recorded_cases())
def test_recorded_series_give_equal_trades_and_money(path: Path, number: int) -> None:
    """Real candles: the defaults and random parameter sets."""
    bars, interval_ms = candles(path)
    instrument = ETHUSDT if path.name.startswith("ETHUSDT") else {}
    drawn = lively(seeded(NAME, path.name, number), float(np.median(bars["close"]))) if number else {}
    params = {**drawn, **instrument}
    expected = simulate(bars, params, interval_ms=interval_ms, strategy=NAME)
    assert differences(expected, replay_file(path, params, strategy=NAME)) == []


def test_golden_trades() -> None:
    """The default strategy on one recorded file: equal trades and money, counts and a hash of every trade."""
    root = os.environ.get("CONCLAVE_TEST_DATA", "")
    if not root:
        pytest.skip("CONCLAVE_TEST_DATA is not set")
    path = Path(root) / GOLDEN
    bars, interval_ms = candles(path)
    found = replay_file(path, {}, strategy=NAME)
    assert differences(simulate(bars, {}, interval_ms=interval_ms, strategy=NAME), found) == []
    trades = found["trades"]
    rows = [(t["side"], t["signal_time"], t["entry_time"], t["exit_time"], t["exit_reason"]) for t in trades]
    counts = Counter((side, reason) for side, *_, reason in rows)
    assert counts == {
        ("long", "signal"): 119,
        ("long", "stop"): 65,
        ("short", "signal"): 106,
        ("short", "stop"): 56,
    }
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "407f956d6fdb5fa1"


# By hand


def hours(closes: list[float]) -> Bars:
    """Hourly bars that reach one beyond their bodies."""
    close = np.array(closes)
    opens = np.concatenate((close[:1], close[:-1]))
    return {
        "timestamp": 1_700_006_400_000 + np.arange(len(close), dtype=np.int64) * 3_600_000,
        "open": opens,
        "high": np.maximum(opens, close) + 1,
        "low": np.minimum(opens, close) - 1,
        "close": close,
        "volume": np.ones(len(close)),
    }


DIP = [1000.0, 1002.0] * 20 + [980.0, 999.0, 995.0, 996.0, 1003.0, 1003.0, 1003.0]
BY_HAND = {
    "bb_period": 5,
    "bb_std": 1.5,
    "adx_period": 2,
    "adx_max": 101,
    "atr_period": 2,
    "sl_atr_multiplier": 2,
    "trail_start_r": 0,
    "entry_offset": 0,
    "maker_fee": 0,
    "taker_fee": 0,
    "slippage": 0,
    "funding_rate": 0,
}


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_dip_is_bought_and_sold_at_the_middle(mirrored: bool) -> None:
    """Bar 40 closes at 980, below its lower band of 984.2; bar 41 at 999 is back inside. Bar 42 trades lower: bought at
    999; its close of 995 is below the mean of its five closes, 995.2. Bar 43 at 996 is above its mean of 994.4: the
    position leaves at the next open, 996.
    """
    bars = hours([2000 - price for price in DIP] if mirrored else DIP)
    for answer in (
        simulate(bars, BY_HAND, interval_ms=3_600_000, strategy=NAME),
        product(bars, BY_HAND, interval_ms=3_600_000, strategy=NAME),
    ):
        (trade,) = answer["trades"][-1:]
        times = [trade[name] for name in ("signal_time", "entry_time", "exit_time")]
        hour = [(time - 1_700_006_400_000) // 3_600_000 for time in times]
        assert hour == [41, 42, 44]
        assert trade["side"] == ("short" if mirrored else "long")
        sign = -1 if mirrored else 1
        assert [sign * (price - 1000) for price in (trade["entry_price"], trade["exit_price"])] == [-1, -4]
        assert trade["exit_reason"] == "signal"


def test_a_close_at_its_own_mean_has_reached_it() -> None:
    """Prices on ticks meet their mean exactly, but for the last digits of a running mean: those do not decide."""
    rng = np.random.default_rng(3)
    closes = np.round(walk(rng, 20_000, start=30_000.0, vol=0.0001), 0)
    series = candle_series(bars_from(rng, closes, grid=1.0))
    strategy = MeanReversion(MeanReversionParameters(bb_period=2))
    rules, known = strategy.rules(), Indicators(series)
    whole = closes.astype(np.int64)
    level = np.flatnonzero(whole[1:] == whole[:-1]) + 1  # the mean of two equal closes
    assert len(level) > 1000
    assert rules.exit_long.make(known)[level].all()
    assert rules.exit_short.make(known)[level].all()


# Properties of the pieces


def candle_series(series: Series) -> CandleSeries:
    bars: dict[str, Any] = dict(series.bars)
    return CandleSeries(symbol="BTCUSDT", interval=timedelta(milliseconds=series.interval_ms), **bars)


PARAMETERS = st.builds(
    MeanReversionParameters,
    bb_period=st.integers(2, 30),
    bb_std=st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5]),
    adx_period=st.integers(2, 20),
    adx_max=st.sampled_from([0.0, 15.0, 30.0, 100.0]),
    atr_period=st.integers(2, 20),
    sl_atr_multiplier=st.sampled_from([0.5, 2.0, 4.0]),
    knife_lookback=st.integers(1, 8),
    knife_atr=st.sampled_from([0.0, 1.0, 3.0]),
)
TREND = st.builds(
    EmaTrendParameters,
    bb_period=st.integers(2, 5),
    bb_std=st.sampled_from([1.0, 2.0]),
    atr_period=st.integers(2, 4),
    sl_atr_multiplier=st.sampled_from([2.0, 4.0]),
    knife_lookback=st.integers(1, 2),
    knife_atr=st.sampled_from([1.0, 3.0]),
)
QUICK = st.builds(
    MeanReversionParameters,
    bb_period=st.integers(2, 5),
    bb_std=st.sampled_from([1.0, 2.0]),
    adx_max=st.sampled_from([20.0, 30.0]),
    atr_period=st.integers(2, 4),
    sl_atr_multiplier=st.sampled_from([2.0, 4.0]),
    knife_lookback=st.integers(1, 2),
    knife_atr=st.sampled_from([1.0, 3.0]),
)


def pieces(rules: Rules) -> Iterator[Condition | Measure]:
    """Every piece of the rules."""
    for each in dataclasses.fields(rules):
        value = getattr(rules, each.name)
        yield from value if isinstance(value, tuple) else (value,)


def some_series(seed: int, bars: int = 300) -> CandleSeries:
    rng = np.random.default_rng(seed)
    return candle_series(bars_from(rng, walk(rng, bars, vol=0.01), interval=60))


@given(p=PARAMETERS, seed=st.integers(0, 1000), cut=st.integers(1, 299))
def test_no_value_depends_on_a_later_bar(p: MeanReversionParameters, seed: int, cut: int) -> None:
    """Cut the future off: every piece says the same of what is left, to the bit."""
    series = some_series(seed)
    whole, left = Indicators(series), Indicators(series.between(0, cut))
    for piece in pieces(MeanReversion(p).rules()):
        assert np.array_equal(piece.make(whole)[:cut], piece.make(left), equal_nan=piece.key[0] == "atr")


@given(one=QUICK, other=QUICK | TREND, seed=st.integers(0, 50))
def test_equal_keys_are_equal_arrays(
    one: MeanReversionParameters, other: MeanReversionParameters | EmaTrendParameters, seed: int
) -> None:
    """Between two parameter sets and between the two strategies: a search makes each piece once."""
    series = Indicators(some_series(seed, 120))
    second: Strategy = EmaTrend(other) if isinstance(other, EmaTrendParameters) else MeanReversion(other)
    known = {piece.key: piece.make(series) for piece in pieces(MeanReversion(one).rules())}
    for piece in pieces(second.rules()):
        if piece.key in known:
            assert np.array_equal(piece.make(series), known[piece.key], equal_nan=piece.key[0] == "atr")


def test_the_strategies_share_what_is_the_same() -> None:
    """With equal parameters: the stop, both knives, the calm, and whether a bar can be measured."""
    mine = {piece.key for piece in pieces(MeanReversion(MeanReversionParameters()).rules())}
    trend = {piece.key for piece in pieces(EmaTrend(EmaTrendParameters(sl_atr_multiplier=2.0)).rules())}
    assert {key[0] for key in mine & trend} == {"atr", "waterfall", "parabolic", "calm", "measured"}


@given(p=PARAMETERS, name=st.sampled_from(MeanReversionParameters.names()), seed=st.integers(0, 50))
def test_a_key_names_every_parameter_that_counts(p: MeanReversionParameters, name: str, seed: int) -> None:
    """Change one parameter: where a key stays, the array stays."""
    series = Indicators(some_series(seed, 150))
    changed = p.changed({name: getattr(p, name) + 1})
    for before, after in zip(pieces(MeanReversion(p).rules()), pieces(MeanReversion(changed).rules()), strict=True):
        same = np.array_equal(before.make(series), after.make(series), equal_nan=before.key[0] == "atr")
        assert same or before.key != after.key


@given(p=PARAMETERS, seed=st.integers(0, 1000))
def test_an_entry_is_back_inside_and_never_on_a_knife(p: MeanReversionParameters, seed: int) -> None:
    """A waterfall closes below the bands, an entry comes back above their lower edge: no bar is both."""
    said = evaluate(MeanReversion(p), some_series(seed))
    assert not (said.hazard_long & (said.side > 0)).any()
    assert not (said.hazard_short & (said.side < 0)).any()
    assert not np.isnan(said.stop_distance[said.side != 0]).any()


# Its name and its parameters


def test_it_is_found_by_its_name() -> None:
    """One new file is a new strategy."""
    assert strategies()[NAME] is MeanReversion
    assert strategy_named(NAME) is MeanReversion
    assert MeanReversionParameters().as_dict() | DEFAULTS_OF[NAME] == DEFAULTS_OF[NAME]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bb_period", 1, "at least 2"),
        ("bb_std", -0.1, "at least 0"),
        ("adx_period", 1, "at least 2"),
        ("adx_max", math.nan, "finite"),
        ("adx_max", -1, "at least 0"),
        ("atr_period", 1, "at least 2"),
        ("sl_atr_multiplier", 0, "greater than 0"),
        ("knife_lookback", 0, "at least 1"),
        ("knife_atr", -1, "at least 0"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(name: str, value: float, said: str) -> None:
    """As for the other strategy."""
    with pytest.raises(BadInput, match=f"{name} must be .*{said}"):
        MeanReversionParameters(**{name: value})  # type: ignore[arg-type]  # a wrong one, on purpose


def test_a_wrong_name_is_one_line(tmp_path: Path) -> None:
    """On the command line: with the nearest name, or whose parameter it is."""
    path = write_candles(tmp_path / "bars.csv", hours([1000.0, 1001.0] * 10))
    said = refused(replay_arguments(path, {}, strategy="mean_revertion"))
    assert "strategy 'mean_revertion' is not known (did you mean mean_reversion?)" in said
    said = refused(replay_arguments(path, {"ema_period": 50}, strategy=NAME))
    assert "--set ema_period: is a parameter of ema_trend, and nothing is traded by it here" in said
    said = refused(replay_arguments(path, {"adx_mx": 50}, strategy=NAME))
    assert "--set adx_mx: unknown name (did you mean adx_max?)" in said


# Two strategies on one account


def configured(folder: Path, monkeypatch: pytest.MonkeyPatch, **strategies_of: Any) -> None:
    """A config.json in the working folder with strategies of their own for some symbols."""
    (folder / "config.json").write_text(json.dumps({"strategies": strategies_of}), encoding="utf-8")
    monkeypatch.chdir(folder)


def test_each_symbol_is_traded_by_its_own_strategy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One account so large that no cap binds: every symbol's edges and exits are those of its strategy alone."""
    own: dict[str, float] = {"bb_period": 12, "bb_std": 1.2, "adx_max": 60.0, "knife_lookback": 5}
    configured(tmp_path, monkeypatch, ETHUSDT={"name": NAME, **own})
    rng = seeded("two strategies")
    one, other = (bars_from(rng, walk(rng, 900, start=start, vol=0.006), interval=60) for start in (30_000, 2_000))
    other.bars["timestamp"] = one.bars["timestamp"]
    paths = [write_candles(tmp_path / "one.parquet", one.bars), write_candles(tmp_path / "other.csv", other.bars)]
    account = {"risk_per_trade": 0.0001, "max_position_usdt": 1e9, "initial_equity": 1e6, "leverage": 20.0}
    trend = {"ema_period": 30, "adx_min": 10.0}
    words = [f"--set={name}={value!r}" for name, value in (account | trend).items()]
    files = [f"BTCUSDT={paths[0]}", f"ETHUSDT={paths[1]}"]
    code, out, err = run(["replay", "--council", "off", "--json", *words, "--candles", *files])
    assert code == 0, err
    found = json.loads(out)
    assert found["params"]["ema_period"] == 30
    assert {name: found["params"][f"ETHUSDT.{name}"] for name in own} == own
    apart = {
        "BTCUSDT": simulate(one.bars, account | trend, interval_ms=one.interval_ms),
        "ETHUSDT": simulate(other.bars, account | own | ETHUSDT, interval_ms=one.interval_ms, strategy=NAME),
    }
    for symbol, alone in apart.items():
        trades = [trade for trade in found["trades"] if trade["symbol"] == symbol]
        assert len(trades) > 20
        for name in ("side", "signal_time", "entry_time", "exit_time", "entry_price", "exit_reason"):
            assert [trade[name] for trade in trades] == [trade[name] for trade in alone["trades"]]


def test_a_strategy_for_every_symbol_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--strategy` is for every symbol, and keeps the parameters that the file has for it."""
    configured(tmp_path, monkeypatch, ETHUSDT={"name": NAME, "bb_period": 12})
    write_candles(tmp_path / "bars.csv", hours([1000.0, 1001.0] * 10))
    code, out, err = run(["replay", "--json", "--candles", "ETHUSDT=bars.csv", "--strategy", NAME])
    assert code == 0, err
    assert json.loads(out)["params"]["bb_period"] == 12
    code, out, err = run(["replay", "--json", "--candles", "bars.csv", "--strategy", NAME])
    assert (code, json.loads(out)["params"]["bb_period"]) == (0, 20)
    code, out, err = run(["replay", "--json", "--candles", "ETHUSDT=bars.csv", "--strategy", "ema_trend"])
    assert (code, json.loads(out)["params"]["ema_period"]) == (0, 200)
