"""What may be changed while the program trades: checked by name and range, and which way risk lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.settings import TradingConfig
from bot.tuning import Tuning, overlaid, unfit
from trading.errors import BadInput

CONFIG = TradingConfig()


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


@given(st.sampled_from(sorted(tuning().current())), st.floats(allow_nan=True, allow_infinity=True))
def test_any_number_is_taken_or_refused_in_one_line(name: str, value: float) -> None:
    """Whatever is taken can be laid over the configuration; every setting explains itself."""
    assert tuning().explain(name)
    try:
        values = tuning().changed([f"{name}={value!r}"])
    except BadInput:
        return
    assert overlaid(CONFIG, values).strategy.longest_period > 0
