"""What may be changed while the program trades: checked by name and range, and which way risk lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.settings import StrategyChoice, TradingConfig
from bot.tuning import Tuning, overlaid, settable, unfit
from trading.errors import BadInput
from trading.strategy.mean_reversion import MeanReversion, MeanReversionParameters

CONFIG = TradingConfig()
REVERSION = MeanReversionParameters()


def tuning(**overlay: float) -> Tuning:
    return Tuning(CONFIG, lambda: overlay)


def test_what_was_changed_lies_over_the_configuration() -> None:
    """And what describes the exchange is not offered."""
    now = tuning(risk_per_trade=0.005, ema_period=100).current()
    assert (now["risk_per_trade"], now["ema_period"], now["max_positions"]) == (0.005, 100, 3)
    assert not {"leverage", "maker_fee", "tick_size", "initial_equity"} & set(now)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["risk_per_trad", "0.1"], "did you mean risk_per_trade?"),
        (["risk_per_trade"], "needs a number"),
        (["risk_per_trade", "much"], "needs a number"),
        (["risk_per_trade", "nan"], "needs a number"),
        (["risk_per_trade=1e999"], "needs a number"),
        (["risk_per_trade", "1.5"], "a fraction of 1"),
        (["risk_per_trade", "-0.1"], "must be at least 0"),
        (["risk_per_trade", "0.2"], "no entry could pass"),
        (["ema_period", "20.5"], "must be a whole number"),
        (["ema_period", "1000000"], "ema_period"),
        (["max_positions=2", "max_positions=3"], "given twice"),
        (["leverage", "10"], "leverage is no setting"),
        (["a", "b", "c"], "no setting"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(words: list[str], said: str) -> None:
    """Naming it, with the nearest name."""
    with pytest.raises(BadInput, match=said) as refused:
        tuning().changed(words)
    assert "\n" not in str(refused.value)


def test_a_stored_setting_that_no_longer_fits_changes_nothing() -> None:
    """Of another strategy, or of a version with another range: the program starts all the same."""
    stored = {"risk_per_trade": 0.005, "of_another_strategy": 3.0, "ema_period": 20.5, "max_positions": -1.0}
    assert unfit(CONFIG, stored) == ["of_another_strategy", "ema_period", "max_positions"]
    config = overlaid(CONFIG, stored)
    assert config.terms.risk_per_trade == 0.005
    assert (config.parameters, config.limits) == (CONFIG.parameters, CONFIG.limits)


def test_several_are_checked_together() -> None:
    """The order in which they are named does not matter."""
    values = tuning().changed(["risk_per_trade=0.05", "max_open_risk=0.1"])
    assert values == {"risk_per_trade": 0.05, "max_open_risk": 0.1}
    assert overlaid(CONFIG, values).terms.risk_per_trade == 0.05


@pytest.mark.parametrize(
    ("name", "old", "new", "riskier"),
    [
        ("risk_per_trade", 0.01, 0.02, True), ("risk_per_trade", 0.01, 0.005, False),
        ("cooldown_bars", 3, 0, True), ("cooldown_bars", 0, 3, False),
        ("ema_period", 200, 100, True), ("ema_period", 100, 200, True), ("trail_lag_r", 1, 0.5, True),
    ],
)  # fmt: skip
def test_which_way_risk_lies(name: str, old: float, new: float, riskier: bool) -> None:
    """Where nobody can tell, it is taken to rise."""
    assert tuning().riskier(name, old, new) is riskier


def mixed(*symbols: str, **own: MeanReversionParameters) -> TradingConfig:
    """These symbols; those named have a mean reversion of their own."""
    choices = {symbol: StrategyChoice(name="mean_reversion", parameters=values) for symbol, values in own.items()}
    return TradingConfig(symbols=symbols, strategies=choices)


def test_a_symbol_with_its_own_strategy_is_named() -> None:
    """The plain name is the shared strategy's, and changing one leaves the other."""
    config = mixed("BTCUSDT", "ETHUSDT", ETHUSDT=MeanReversionParameters(bb_period=30), SOLUSDT=REVERSION)
    now = Tuning(config, lambda: {"ETHUSDT.adx_max": 25.0, "bb_std": 3.0}).current()
    assert (now["bb_period"], now["ETHUSDT.bb_period"], now["ETHUSDT.adx_max"]) == (20, 30, 25.0)
    assert (now["bb_std"], now["ETHUSDT.bb_std"]) == (3.0, 2.0)
    assert not any(name.startswith("SOLUSDT") for name in now)  # it is not traded
    values = Tuning(config, dict).changed(["ETHUSDT.bb_period", "40"])
    assert values == {"ETHUSDT.bb_period": 40}
    changed = overlaid(config, values)
    assert changed.strategy_for("ETHUSDT") == MeanReversion(MeanReversionParameters(bb_period=40))
    assert changed.strategy_for("SOLUSDT") == MeanReversion(REVERSION)
    assert changed.strategy_for("BTCUSDT") == config.strategy_for("BTCUSDT")
    assert "Bollinger period" in Tuning(config, dict).explain("ETHUSDT.bb_period")
    assert Tuning(config, dict).riskier("ETHUSDT.bb_period", 30, 40)


def test_under_which_name_a_symbols_setting_is_changed() -> None:
    """Its own, else the shared one; an account's setting has one name."""
    config = mixed("BTCUSDT", "ETHUSDT", ETHUSDT=REVERSION)
    assert settable(config, "ETHUSDT", "bb_period") == "ETHUSDT.bb_period"
    assert settable(config, "BTCUSDT", "bb_period") == "bb_period"
    assert settable(config, "ETHUSDT", "risk_per_trade") == "risk_per_trade"


def test_what_nothing_is_traded_by_is_not_offered() -> None:
    """Where every symbol has its own strategy, the shared one is of no use; what was stored of it is left out."""
    config = mixed("ETHUSDT", ETHUSDT=REVERSION)
    now = Tuning(config, dict).current()
    assert "ema_period" not in now
    assert now["take_profit_r"] == 0.0
    stored = {"ema_period": 50.0, "BTCUSDT.bb_period": 30.0, "ETHUSDT.bb_period": 1.0, "ETHUSDT.bb_std": 1.5}
    assert unfit(config, stored) == ["ema_period", "BTCUSDT.bb_period", "ETHUSDT.bb_period"]
    assert overlaid(config, stored).strategy_for("ETHUSDT") == MeanReversion(MeanReversionParameters(bb_std=1.5))
    with pytest.raises(BadInput, match=r"did you mean ETHUSDT\.bb_period\?"):
        Tuning(config, dict).changed(["ETHUSDT.bb_perod", "30"])
    for written in ("eth.bb_period", "ethusdt.BB_period"):
        with pytest.raises(BadInput, match=r"did you mean ETHUSDT\.bb_period\?"):
            Tuning(config, dict).explain(written)
    with pytest.raises(BadInput, match=r"ETHUSDT\.bb_period must be at least 2"):
        Tuning(config, dict).changed(["ETHUSDT.bb_period", "1"])


@given(st.sampled_from(sorted(tuning().current())), st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_is_taken_or_refused_in_one_line(name: str, value: float) -> None:
    """Whatever is taken can be laid over the configuration; every setting explains itself."""
    assert tuning().explain(name)
    try:
        values = tuning().changed([f"{name}={value!r}"])
    except BadInput:
        return
    assert overlaid(CONFIG, values).strategy.longest_period > 0
