"""Settings and configuration: what is malformed is refused whole, by name, and without its value."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.settings import (
    AGENTS,
    ENTRY,
    GROUPS,
    TRAILING,
    AnswerTerms,
    AskingTerms,
    CouncilConfig,
    MarketTerms,
    Settings,
    TradingConfig,
    apply_overrides,
    effective_mode,
    exposed_key_file,
    missing_for,
    model_keys,
    read_config,
    read_settings,
    with_strategy,
)
from tests.structure import ROOT
from trading.council import MODEL_MODES, MODES
from trading.errors import BadInput, Misconfigured
from trading.exchange.simulated.instruments import KNOWN
from trading.parameters import AccountTerms, InstrumentTerms, TradeRules
from trading.risk import Limits
from trading.strategy.ema_trend import EmaTrend, EmaTrendParameters
from trading.strategy.mean_reversion import MeanReversion, MeanReversionParameters

CANARY = "s3cr3tCANARY"  # stands in refused values and must not come back
SHIPPED = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
TOKEN = "123456789:ABCdefGhIJKlmNoPQRsTUVwxyZ-1234567"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own environment is a setting here."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def written(folder: Path, text: str | bytes, name: str = "config.json") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def config_of(folder: Path, content: object) -> TradingConfig:
    return read_config(written(folder, json.dumps(content)))


def refused_config(path: Path) -> str:
    """The lines with which a configuration is refused; every one begins with the file."""
    with pytest.raises(Misconfigured) as caught:
        read_config(path)
    text = str(caught.value)
    assert all(line.startswith(str(path)) for line in text.splitlines())
    assert CANARY not in text
    return text.replace(str(path), "config.json")


# config.json


def test_the_shipped_configuration_is_the_specification() -> None:
    """The file at the root says every default aloud."""
    config = read_config(ROOT / "config.json")
    assert dataclasses.replace(config, council=CouncilConfig()) == TradingConfig()
    assert config.strategy == EmaTrend(EmaTrendParameters())
    assert config.limits == Limits()
    assert set(SHIPPED) == set(GROUPS)
    assert {*SHIPPED["entry"], *SHIPPED["trailing"]} == set(TradeRules.names()) == {*ENTRY, *TRAILING}
    assert tuple(SHIPPED["limits"]) == Limits.names()
    assert set(SHIPPED["market"]) == set(MarketTerms.names())


def test_the_shipped_council_names_a_model_for_every_agent() -> None:
    """Models and their prices stand in the file and nowhere in code; everything else says its default aloud."""
    council = read_config(ROOT / "config.json").council
    assert (council.mode, council.terms) == ("auto", AskingTerms())
    assert set(SHIPPED["council"]) == {"mode", *AGENTS, *AskingTerms.names()}
    for agent in AGENTS:
        model = council.agents[agent]
        assert model.agent == agent
        assert set(SHIPPED["council"][agent]) == {"provider", "model", *AnswerTerms.names()}
        assert SHIPPED["council"][agent] == {name: getattr(model, name) for name in SHIPPED["council"][agent]}
        assert model.provider == "gemini" or ":" in model.model  # pinned: another host is another model
    assert TradingConfig().council.agents == {}


def test_params_are_every_name_of_the_specification() -> None:
    """What a report shows as parameters is the whole page."""
    params = TradingConfig().params("BTCUSDT")
    kinds = (EmaTrendParameters, TradeRules, AccountTerms, InstrumentTerms)
    assert list(params) == [name for kind in kinds for name in kind.names()]
    assert params["tick_size"] == 0.1


def test_what_is_left_out_keeps_its_default(tmp_path: Path) -> None:
    """An empty object is a whole configuration."""
    assert config_of(tmp_path, {}) == TradingConfig()
    config = config_of(tmp_path, {"strategy": {"ema_period": 50}, "timeframe": 15, "symbols": ["ETHUSDT"]})
    assert config.strategy == EmaTrend(EmaTrendParameters(ema_period=50))
    assert (config.symbols, config.interval.total_seconds()) == (("ETHUSDT",), 900)


def test_a_symbol_may_have_a_strategy_of_its_own(tmp_path: Path) -> None:
    """Another one begins with its defaults, the same one with the shared values; the rest is traded as before."""
    strategies = {"ETHUSDT": {"name": "mean_reversion", "bb_period": 30}, "SOLUSDT": {"rsi_period": 7}}
    config = config_of(tmp_path, {"strategy": {"ema_period": 50, "bb_std": 3.0}, "strategies": strategies})
    assert config.strategy_for("BTCUSDT") == config.strategy == EmaTrend(EmaTrendParameters(ema_period=50, bb_std=3.0))
    assert config.strategy_for("ETHUSDT") == MeanReversion(MeanReversionParameters(bb_period=30))
    assert config.strategy_for("SOLUSDT") == EmaTrend(EmaTrendParameters(ema_period=50, bb_std=3.0, rsi_period=7))
    params = config.params("ETHUSDT")
    kinds = (MeanReversionParameters, TradeRules, AccountTerms, InstrumentTerms)
    assert list(params) == [name for kind in kinds for name in kind.names()]
    assert (params["bb_period"], params["bb_std"], params["tick_size"]) == (30, 2.0, 0.01)


def test_one_strategy_for_every_symbol(tmp_path: Path) -> None:
    """What a symbol has set for it is kept, then what is shared, then the defaults."""
    content = {"strategy": {"ema_period": 50}, "strategies": {"ETHUSDT": {"name": "mean_reversion", "bb_period": 30}}}
    config = config_of(tmp_path, content)
    reverting = with_strategy(config, "mean_reversion")
    assert reverting.strategy_for("ETHUSDT") == MeanReversion(MeanReversionParameters(bb_period=30))
    assert reverting.strategy_for("BTCUSDT") == MeanReversion(MeanReversionParameters())
    trending = with_strategy(config, "ema_trend")
    assert trending.strategy_for("ETHUSDT") == trending.strategy_for("BTCUSDT") == config.strategy
    with pytest.raises(BadInput, match=r"'mean' is not known.*one of ema_trend, mean_reversion"):
        with_strategy(config, "mean")


def test_problems_of_every_strategy_are_named_at_once(tmp_path: Path) -> None:
    """A symbol that nobody knows and its parameters too."""
    content = {
        "strategy": {"name": "mean_reversion", "bb_period": 1},
        "strategies": {"ETHUSD": {"bb_std": -1}, "SOLUSDT": {"name": "ema_trend", "ema_perid": 5}},
    }
    text = refused_config(written(tmp_path, json.dumps(content)))
    named = ["strategy.bb_period", "strategies.ETHUSD", "strategies.ETHUSD.bb_std", "strategies.SOLUSDT.ema_perid"]
    assert [line.split(": ")[1] for line in text.splitlines()] == named


def test_instruments_are_overridden_by_symbol(tmp_path: Path) -> None:
    """One symbol's rules change, the others stay."""
    config = config_of(tmp_path, {"instruments": {"SOLUSDT": {"tick_size": 0.05, "min_qty": 1}}})
    assert config.instruments["SOLUSDT"].tick_size == Decimal("0.05")
    assert config.instruments["SOLUSDT"].min_qty == 1
    assert config.instruments["SOLUSDT"].qty_step == KNOWN["SOLUSDT"].qty_step
    assert config.instruments["BTCUSDT"] == KNOWN["BTCUSDT"]


def changed(path: str, value: object) -> dict[str, Any]:
    """The shipped configuration with the field at a dotted path replaced or added."""
    content: dict[str, Any] = json.loads(json.dumps(SHIPPED))
    *groups, name = path.split(".")
    place = content
    for group in groups:
        place = place.setdefault(group, {})
    place[name] = value
    return content


NAN, INFINITE = float("nan"), float("inf")
BAD_FIELDS: list[tuple[str, object, str]] = [
    ("symbols", [], "must be a list of one symbol or more"),
    ("symbols", CANARY, "must be a list"),
    ("symbols", None, "must be a list"),
    ("symbols", {"BTCUSDT": 1}, "must be a list"),
    ("timeframe", "240", "must be a number of minutes"),
    ("timeframe", 0, "must be a number of minutes"),
    ("timeframe", -15, "must be a number of minutes"),
    ("timeframe", 7, "must be a number of minutes"),
    ("timeframe", 60.0, "must be a number of minutes"),
    ("timeframe", True, "must be a number of minutes"),
    ("timeframe", NAN, "must be a number of minutes"),
    ("strategy", [], "must be a group {…}, not a list"),
    ("strategy", None, "must be a group {…}, not null"),
    ("strategy.name", "ema_trent", "must be one of ema_trend, mean_reversion (did you mean ema_trend?)"),
    ("strategy.name", 5, "must be one of ema_trend"),
    ("strategy.name", [CANARY], "must be one of ema_trend"),
    ("strategy.ema_perid", 200, "unknown name (did you mean ema_period?)"),
    ("strategy.leverage", 5, "unknown name (it belongs into risk)"),
    ("strategy.take_profit_r", 5, "unknown name (it belongs into trailing)"),
    ("strategy.ema_period", 1, "must be at least 2"),
    ("strategy.ema_period", -200, "must be at least 2"),
    ("strategy.ema_period", 200.5, "must be a whole number"),
    ("strategy.ema_period", 200.0, "must be a whole number"),
    ("strategy.ema_period", "200", "must be a whole number, not text"),
    ("strategy.ema_period", CANARY, "must be a whole number, not text"),
    ("strategy.ema_period", None, "must be a whole number, not null"),
    ("strategy.ema_period", True, "must be a whole number, not true or false"),
    ("strategy.ema_period", 100_001, "must be at most 100000"),
    ("strategy.ema_period", 10**400, "is too large"),
    ("strategy.rsi_long_max", NAN, "must be a finite number"),
    ("strategy.rsi_long_max", INFINITE, "must be a finite number"),
    ("strategy.sl_atr_multiplier", 0, "must be greater than 0"),
    ("strategy.sl_atr_multiplier", -4, "must be greater than 0"),
    ("strategy.knife_lookback", 0, "must be at least 1"),
    ("strategy.adx_max", 20, "unknown name (ema_trend does not have it, mean_reversion has)"),
    ("strategies", [], "must be a group {…}, not a list"),
    ("strategies", CANARY, "must be a group {…}, not text"),
    ("strategies.ETHUSD", {}, "unknown symbol (did you mean ETHUSDT?)"),
    ("strategies.ethusdt", {"name": "mean_reversion"}, "unknown symbol (did you mean ETHUSDT?)"),
    ("strategies.ETHUSDT", "mean_reversion", "must be a group {…}, not text"),
    ("strategies.ETHUSDT", None, "must be a group {…}, not null"),
    ("strategies.ETHUSDT.name", "mean_revertion", "mean_reversion (did you mean mean_reversion?)"),
    ("strategies.ETHUSDT.name", CANARY, "must be one of ema_trend, mean_reversion"),
    ("strategies.ETHUSDT.name", None, "must be one of ema_trend, mean_reversion"),
    ("strategies.ETHUSDT.nme", "mean_reversion", "unknown name (did you mean name?)"),
    ("strategies.ETHUSDT.ema_period", 1, "must be at least 2"),
    ("strategies.ETHUSDT.ema_period", CANARY, "must be a whole number, not text"),
    ("strategies.ETHUSDT.adx_max", 20, "unknown name (ema_trend does not have it, mean_reversion has)"),
    ("strategies.ETHUSDT.trail_lag_r", 1, "unknown name (it belongs into trailing)"),
    ("strategies.ETHUSDT.risk_per_trade", 1, "unknown name (it belongs into risk)"),
    ("adx_max", 20, "unknown name (it belongs into strategy)"),
    ("stratgies", {}, "unknown name (did you mean strategies?)"),
    ("entry.entry_offset", -0.1, "must be at least 0"),
    ("entry.entry_offset", 5, "must be a fraction of 1"),
    ("entry.entry_ttl_bars", 0, "must be at least 1"),
    ("entry.entry_ttl", 3, "unknown name (did you mean entry_ttl_bars?)"),
    ("entry.trail_lag_r", 3, "unknown name (it belongs into trailing)"),
    ("trailing.trail_step_r", 0, "must be greater than 0"),
    ("trailing.trail_start_r", -1, "must be at least 0"),
    ("trailing.trail_start_r", {"r": CANARY}, "must be a number, not a group"),
    ("risk", "conservative", "must be a group {…}, not text"),
    ("risk.risk_per_trade", -0.01, "must be at least 0"),
    ("risk.risk_per_trade", 1.5, "must be a fraction of 1: 0.01 is one percent"),
    ("risk.risk_per_trade", NAN, "must be a finite number"),
    ("risk.leverage", 0.5, "must be at least 1"),
    ("risk.leverage", [5], "must be a number, not a list"),
    ("risk.initial_equity", 0, "must be greater than 0"),
    ("risk.initial_equity", -INFINITE, "must be a finite number"),
    ("risk.maker_fee", -0.0001, "must be at least 0"),
    ("risk.funding_rate", NAN, "must be a finite number"),
    ("risk.risk_pertrade", 0.01, "unknown name (did you mean risk_per_trade?)"),
    ("limits.daily_loss_r", -3, "must be greater than 0"),
    ("limits.daily_loss_r", 0, "must be greater than 0"),
    ("limits.max_positions", 0, "must be at least 1"),
    ("limits.max_positions", 2.5, "must be a whole number"),
    ("limits.max_drawdown", 20, "must be a fraction of 1"),
    ("limits.max_open_risk", 0.005, "is below risk.risk_per_trade"),
    ("limits.min_stop_atr", 9, "is above limits.max_stop_atr"),
    ("limits.daily_loss", 3, "unknown name (did you mean daily_loss_r?)"),
    ("council", "rules", "must be a group {…}, not text"),
    ("council.mode", "rule", "must be one of auto, rules, strict, degraded, shadow, off (did you mean rules?)"),
    ("council.mode", "strikt", "(did you mean strict?)"),
    ("council.mode", CANARY, "must be one of auto, rules"),
    ("council.mode", None, "must be one of auto, rules"),
    ("council.modus", "off", "unknown name (did you mean mode?)"),
    ("council.temperature", 1, "unknown name (it belongs into council.AGENT)"),
    ("council.strategst", {}, "unknown name (did you mean strategist?)"),
    ("council.daily_usd", -1, "must be at least 0"),
    ("council.daily_usd", NAN, "must be a finite number"),
    ("council.daily_tokens", 0.5, "must be a whole number"),
    ("council.daily_tokens", 0, "must be at least 1"),
    ("council.council_seconds", 121, "must be at most 120"),
    ("council.council_seconds", 19.9, "is below twice council.agent_seconds"),
    ("council.agent_seconds", 7.9, "council.attempt_seconds: is above council.agent_seconds"),
    ("council.attempt_seconds", 0, "must be greater than 0"),
    ("council.attempt_seconds", INFINITE, "must be a finite number"),
    ("council.quant", "deepseek", "must be a group {…}, not text"),
    ("council.quant", None, "must be a group {…}, not null"),
    ("council.quant.provider", "hugingface", "must be one of huggingface, gemini (did you mean huggingface?)"),
    ("council.quant.provider", CANARY, "must be one of huggingface, gemini"),
    ("council.quant.model", "deepseek", "must be an id of huggingface such as owner/model:provider"),
    ("council.quant.model", "a/b:c:d", "must be an id of huggingface"),
    ("council.quant.model", f"a/{CANARY} b", "must be an id of huggingface"),
    ("council.quant.model", 5, "must be an id of huggingface"),
    ("council.quant.max_tokens", 255, "must be at least 256"),
    ("council.quant.max_tokens", 65_537, "must be at most 65536"),
    ("council.quant.temperature", 2.5, "must be at most 2"),
    ("council.quant.temperature", -0.1, "must be at least 0"),
    ("council.quant.price_in", -1, "must be at least 0"),
    ("council.quant.price_out", "0.4", "must be a number, not text"),
    ("council.quant.daily_usd", 1, "unknown name (it belongs into council)"),
    ("council.quant.modell", "a/b", "unknown name (did you mean model?)"),
    ("council.risk_manager.model", f"models/{CANARY}", "must be an id of gemini such as gemini-…-flash"),
    ("council.risk_manager.max_tokens", 2047, "must be at least 2048 for gemini: its thinking counts too"),
    ("market.seed", -1, "must be at least 0"),
    ("market.seed", 1.5, "must be a whole number"),
    ("market.speed", -1, "must be at least 0"),
    ("market.speed", INFINITE, "must be a finite number"),
    ("market.sped", 1, "unknown name (did you mean speed?)"),
    ("instruments", [], "must be a group {…}, not a list"),
    ("instruments.BTCUSDT", 0.1, "must be a group {…}, not a number"),
    ("instruments.BTCUSD", {"tick_size": 1}, "unknown symbol (did you mean BTCUSDT?)"),
    ("instruments.BTCUSDT.tick_size", 0, "must be greater than 0"),
    ("instruments.BTCUSDT.qty_step", "0.001", "must be a number, not text"),
    ("instruments.BTCUSDT.tik_size", 1, "unknown name (did you mean tick_size?)"),
    ("simbols", ["BTCUSDT"], "unknown name (did you mean symbols?)"),
    ("ema_period", 200, "unknown name (it belongs into strategy)"),
    ("BYBIT_SECRET", CANARY, "unknown name"),
    ("strategy.\n", CANARY, "unknown name"),
    ("x" * 500, CANARY, "unknown name"),
]


@pytest.mark.parametrize(("path", "value", "wanted"), BAD_FIELDS, ids=range(len(BAD_FIELDS)))
def test_a_bad_field_is_named_and_its_value_is_not(
    tmp_path: Path, path: str, value: object, wanted: str
) -> None:
    """One line: the field's path and what to do about it."""
    text = refused_config(written(tmp_path, json.dumps(changed(path, value))))
    named = path if path.isprintable() and len(path) < 40 else path[:9].rstrip("\n")
    assert text.startswith(f"config.json: {named}") or wanted.startswith("council.attempt_seconds")
    assert wanted in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("symbols", "wanted"),
    [
        (["BTCUSDT", "BTCUSDT"], "symbols[1]: BTCUSDT is listed twice"),
        (["BTCUSD"], "symbols[0]: unknown symbol (did you mean BTCUSDT?)"),
        (["btcusdt"], "symbols[0]: unknown symbol (did you mean BTCUSDT?)"),
        (["BTCUSDT", ""], "symbols[1]: unknown symbol (one of BTCUSDT, ETHUSDT"),
        (["BTCUSDT", CANARY], "symbols[1]: unknown symbol (one of"),
        (["BTCUSDT", 5], "symbols[1]: must be text, not a number"),
        ([["BTCUSDT"]], "symbols[0]: must be text, not a list"),
        ([None], "symbols[0]: must be text, not null"),
    ],
)
def test_a_bad_symbol_is_named_by_its_place(tmp_path: Path, symbols: list[object], wanted: str) -> None:
    """A symbol has to be one of the instruments list, once."""
    assert wanted in refused_config(written(tmp_path, json.dumps(changed("symbols", symbols))))


def test_every_problem_is_named_at_once(tmp_path: Path) -> None:
    """Nobody has to start the program five times to mend five mistakes."""
    content = {
        "symbols": ["BTCUSDT", "BTCUSDT"],
        "timefram": 240,
        "strategy": {"ema_perid": 1, "rsi_period": 0},
        "risk": {"risk_per_trade": -1},
        "limits": [],
    }
    text = refused_config(written(tmp_path, json.dumps(content)))
    named = ["timefram", "symbols[1]", "limits"]
    named += ["strategy.ema_perid", "strategy.rsi_period", "risk.risk_per_trade"]
    assert sorted(line.split(": ")[1] for line in text.splitlines()) == sorted(named)


def test_what_costs_money_has_no_default(tmp_path: Path) -> None:
    """An agent is named whole, with its prices, or not at all."""
    text = refused_config(written(tmp_path, json.dumps({"council": {"quant": {}}})))
    named = [f"council.quant.{name}" for name in ("provider", "model", "price_in", "price_out")]
    assert [line.split(": ")[1] for line in text.splitlines()] == named
    whole = {"provider": "gemini", "model": "gemini-x", "price_in": 0, "price_out": 0.5}
    model = config_of(tmp_path, {"council": {"quant": whole}}).council.agents["quant"]
    assert (model.price_in, model.price_out, model.max_tokens) == (0.0, 0.5, 2048)


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "config.json is not valid JSON: line 1, column 1"),
    "blank": (b"\n\n", "config.json is not valid JSON"),
    "cut off": (b'{"symbols": ["BTCUSDT"]', "config.json is not valid JSON: line 1, column 24"),
    "comma too many": (b'{\n  "timeframe": 240,\n}', "config.json is not valid JSON: line "),
    "single quotes": (b"{'timeframe': 240}", "line 1, column 2"),
    "comment": (b'{} // no', "line 1, column 4"),
    "byte order mark": (b"\xef\xbb\xbf{}", "config.json begins with a byte order mark"),
    "UTF-16": ("{}".encode("utf-16"), "config.json begins with a byte order mark"),
    "Latin-1": (b'{\n"symbols": ["\xe4"]}', "config.json: line 2 is not UTF-8"),
    "list": (b"[]", "must be one JSON object"),
    "number": (b"5", "must be one JSON object"),
    "null": (b"null", "must be one JSON object"),
    "twice": (b'{"risk": {"leverage": 1, "leverage": 5}}', "config.json: leverage: appears twice"),
    "bare NaN": (b'{"risk": {"leverage": NaN}}', "config.json: risk.leverage: must be a finite number"),
    "overflow": (b'{"risk": {"leverage": 1e999}}', "config.json: risk.leverage: must be a finite number"),
    "endless digits": (b'{"timeframe": ' + b"9" * 5000 + b"}", "a number too long"),
    "deep": (b"[" * 100_000, "groups too deep"),
    "zero bytes": (b"\0\0\0", "config.json is not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, case: str) -> None:
    """What is not JSON at all says where it stops being JSON."""
    content, wanted = BAD_FILES[case]
    assert wanted in refused_config(written(tmp_path, content))


def test_a_missing_file_is_no_configuration(tmp_path: Path) -> None:
    """Trading with settings that nobody wrote is refused."""
    assert "config.json is missing: restore it" in refused_config(tmp_path / "config.json")
    (tmp_path / "config.json").mkdir()
    assert "config.json cannot be read" in refused_config(tmp_path / "config.json")
    assert "cannot be read" in refused_config(tmp_path / "a\0b")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def fields() -> Iterator[str]:
    """Every path of the shipped configuration, and of a strategy for one symbol."""
    yield from ("strategies.ETHUSDT", "strategies.ETHUSDT.name", "strategies.ETHUSDT.rsi_period")
    for group, values in SHIPPED.items():
        yield group
        if isinstance(values, dict):
            yield from (f"{group}.{name}" for name in values)
    yield from (f"council.{agent}.{name}" for agent in AGENTS for name in SHIPPED["council"][agent])


def accepted_or_refused(path: Path) -> bool:
    """Whether a file is a configuration, or is refused as one; anything else is an error."""
    try:
        config = read_config(path)
        return all(config.strategy_for(symbol).longest_period > 0 for symbol in KNOWN)
    except Misconfigured as error:
        return bool(str(error))


@given(path=st.sampled_from(list(fields())), value=JSON)
def test_any_value_anywhere(tmp_path_factory: pytest.TempPathFactory, path: str, value: object) -> None:
    """Whatever stands in a field: a configuration, or a refusal that names the field."""
    file = written(tmp_path_factory.mktemp("any"), json.dumps(changed(path, value)))
    assert accepted_or_refused(file)


@given(content=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever bytes the file holds: a configuration, or a refusal."""
    assert accepted_or_refused(written(tmp_path_factory.mktemp("any"), content))


# --set


def test_set_takes_every_name_of_the_specification() -> None:
    """Strategy, account and instrument alike, each with the value it already has."""
    config = TradingConfig()
    items = [f"{name}={value!r}" for name, value in config.params("BTCUSDT").items()]
    again = apply_overrides(config, items)
    assert again.params("BTCUSDT") == config.params("BTCUSDT")
    assert {each.tick_size for each in again.instruments.values()} == {Decimal("0.1")}


def test_set_reaches_every_strategy_that_is_traded(tmp_path: Path) -> None:
    """A name that two strategies have is set for both; one that nothing is traded by is refused with its owner."""
    content = {"symbols": ["BTCUSDT", "ETHUSDT"], "strategies": {"ETHUSDT": {"name": "mean_reversion"}}}
    config = config_of(tmp_path, content)
    both = apply_overrides(config, ["bb_period=33", "adx_max=30", "ema_period=50"])
    assert both.strategy_for("BTCUSDT") == EmaTrend(EmaTrendParameters(bb_period=33, ema_period=50))
    assert both.strategy_for("ETHUSDT") == MeanReversion(MeanReversionParameters(bb_period=33, adx_max=30.0))
    for symbols, item, owner in (("BTCUSDT", "adx_max=30", "mean_reversion"), ("ETHUSDT", "ema_period=5", "ema_trend")):
        alone = dataclasses.replace(config, symbols=(symbols,))
        with pytest.raises(BadInput, match=f"is a parameter of {owner}, and nothing is traded by it here"):
            apply_overrides(alone, [item])


def test_set_changes_what_it_names() -> None:
    """Whole numbers may be written with a point, others in any notation; the original stays as it was."""
    config = TradingConfig()
    items = ["ema_period=50.0", " take_profit_r = 2 ", "funding_rate=-1e-4", "tick_size=.5"]
    changed = apply_overrides(config, items)
    assert changed.strategy == EmaTrend(EmaTrendParameters(ema_period=50))
    assert (changed.rules.take_profit_r, changed.terms.funding_rate) == (2.0, -0.0001)
    assert changed.instruments["ETHUSDT"].tick_size == Decimal("0.5")
    assert config == TradingConfig()


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        (["ema_perid=5"], "--set ema_perid: unknown name (did you mean ema_period?)"),
        (["ema_period=1"], "--set ema_period: must be at least 2"),
        (["ema_period=2.5"], "--set ema_period: must be a whole number"),
        (["ema_period=1e9"], "--set ema_period: must be at most 100000"),
        (["entry_ttl_bars=1e300"], "--set entry_ttl_bars: is too large"),
        (["ema_period=abc"], "--set ema_period: must be a number"),
        (["ema_period=1_000"], "--set ema_period: must be a number"),
        (["ema_period=\u0665\u0660"], "--set ema_period: must be a number"),
        (["leverage=nan"], "--set leverage: must be a finite number"),
        (["leverage=-inf"], "--set leverage: must be a finite number"),
        (["leverage=1e999"], "--set leverage: must be a finite number"),
        (["ema_period=nan"], "--set ema_period: must be a finite number"),
        (["risk_per_trade=-0.1"], "--set risk_per_trade: must be at least 0"),
        (["tick_size=0"], "--set tick_size: must be greater than 0"),
        (["leverage"], "--set leverage: write name=value"),
        (["leverage="], "--set leverage: write name=value"),
        (["=5"], "--set =5: write name=value"),
        ([""], "write name=value"),
        (["leverage=5", "leverage=6"], "--set leverage: is set twice"),
        (["daily_usd=9"], "--set daily_usd: is no name of the specification: change it in config.json"),
        (["daily_loss_r=9"], "--set daily_loss_r: is no name of the specification: change it in config.json"),
        (["symbols=BTCUSDT"], "--set symbols: unknown name"),
        (["a=1", "b=2"], "--set a: unknown name; --set b: unknown name"),
        (["a\nb=1"], "--set 'a\\nb': unknown name"),
    ],
)
def test_a_bad_override_is_named(items: list[str], wanted: str) -> None:
    """One line, with the name, all problems in it."""
    with pytest.raises(BadInput) as caught:
        apply_overrides(TradingConfig(), items)
    assert wanted in str(caught.value)
    assert "\n" not in str(caught.value)


@given(
    name=st.sampled_from(list(TradingConfig().params("BTCUSDT"))),
    text=st.text(max_size=8) | st.floats().map(str) | st.integers().map(str),
)
def test_any_override(name: str, text: str) -> None:
    """Whatever is typed: that value, or a refusal that names it in one line."""
    try:
        value = apply_overrides(TradingConfig(), [f"{name}={text}"]).params("BTCUSDT")[name]
        fine = float(value) == float(text.strip())
    except BadInput as error:
        fine = str(error).startswith(f"--set {name}: ") and "\n" not in str(error)
    assert fine


# The environment


def settings_of(folder: Path, values: Mapping[str, str]) -> Settings:
    """Settings from a `.env` file."""
    lines = [f"{name}='{value}'" for name, value in values.items()]
    return read_settings(written(folder, "\n".join(lines), ".env"))


def refused_settings(env_file: Path) -> str:
    with pytest.raises(Misconfigured) as caught:
        read_settings(env_file)
    assert CANARY not in str(caught.value)
    return str(caught.value)


def test_nothing_set_is_paper_on_this_machine(tmp_path: Path) -> None:
    """Every setting has a default; an empty variable is an unset one."""
    settings = read_settings(tmp_path / ".env")
    assert (settings.exchange, settings.feed, settings.council_mode) == ("paper", "synthetic", None)
    assert (settings.telegram_bot_token, settings.telegram_owner_id) == (None, None)
    assert (settings.data_dir, settings.phone_port, settings.zone.key) == (Path("data"), 8080, "UTC")
    assert settings_of(tmp_path, {name.upper(): "" for name in Settings.model_fields}) == settings


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable of the environment leaves the file's value alone."""
    monkeypatch.setenv("PHONE_PORT", "0")
    monkeypatch.setenv("TIMEZONE", "")
    settings = settings_of(tmp_path, {"PHONE_PORT": "81", "TIMEZONE": "Europe/Berlin", "OTHER": "x"})
    assert (settings.phone_port, settings.timezone) == (0, "Europe/Berlin")


def test_everything_set(tmp_path: Path) -> None:
    """Blanks around a value do not count, nor does the case of a choice."""
    settings = settings_of(
        tmp_path,
        {
            "TELEGRAM_BOT_TOKEN": TOKEN,
            "TELEGRAM_OWNER_ID": " 7 ",
            "TELEGRAM_OPERATORS": "8, 9,8",
            "TELEGRAM_VIEWERS": "10",
            "EXCHANGE": "Paper",
            "FEED": "replay",
            "COUNCIL_MODE": "off",
            "DATABASE_URL": "sqlite:///x.db",
            "DATA_DIR": str(tmp_path),
            "LOG_LEVEL": "debug",
            "PHONE_PORT": "65535",
            "TIMEZONE": "Asia/Tokyo",
        },
    )
    assert settings.telegram_bot_token is not None
    assert settings.telegram_bot_token.get_secret_value() == TOKEN
    assert (settings.telegram_owner_id, settings.telegram_operators) == (7, (8, 9))
    assert (settings.exchange, settings.feed, settings.council_mode) == ("paper", "replay", "off")
    assert settings.log_level == "DEBUG"
    assert TOKEN not in repr(settings)


def test_an_own_server_takes_any_token(tmp_path: Path) -> None:
    """The embedded phone and other servers need no token of Telegram's form."""
    settings = settings_of(tmp_path, {"TELEGRAM_BOT_TOKEN": "1:x", "TELEGRAM_API_URL": "http://127.0.0.1:81/"})
    assert settings.telegram_api_url == "http://127.0.0.1:81"


BAD_VARIABLES = [
    ("TELEGRAM_BOT_TOKEN", CANARY, "is not a bot token"),
    ("TELEGRAM_BOT_TOKEN", f"123456:{CANARY}", "is not a bot token"),
    ("TELEGRAM_BOT_TOKEN", f"{TOKEN} {CANARY}", "is not a bot token"),
    ("TELEGRAM_BOT_TOKEN", "   ", "holds only blanks"),
    ("TELEGRAM_BOT_TOKEN", f"a\x07{CANARY}", "cannot be printed"),
    ("TELEGRAM_OWNER_ID", "@" + CANARY, "must be a numeric Telegram user id"),
    ("TELEGRAM_OWNER_ID", "-100123", "must be a numeric Telegram user id"),
    ("TELEGRAM_OWNER_ID", "0", "must be a numeric Telegram user id"),
    ("TELEGRAM_OWNER_ID", "1.5", "must be a numeric Telegram user id"),
    ("TELEGRAM_OWNER_ID", "9" * 30, "must be a numeric Telegram user id"),
    ("TELEGRAM_OPERATORS", "1;2", "must be a numeric Telegram user id"),
    ("TELEGRAM_OPERATORS", "1,,2", "holds only blanks"),
    ("TELEGRAM_VIEWERS", "[1, 2]", "must be a numeric Telegram user id"),
    ("TELEGRAM_API_URL", CANARY, "must be an address such as http://127.0.0.1:8081"),
    ("TELEGRAM_API_URL", "ftp://x", "must be an address"),
    ("TELEGRAM_API_URL", "http://", "must be an address"),
    ("TELEGRAM_API_URL", "http://x:port", "must be an address"),
    ("TELEGRAM_API_URL", "http://[::1", "must be an address"),
    ("EXCHANGE", "papr", "must be one of paper, demo, testnet, live (did you mean paper?)"),
    ("FEED", CANARY, "must be one of synthetic, replay, live"),
    ("BYBIT_REST_URL", f"ftp://{CANARY}", "must be an address such as http://127.0.0.1:8765"),
    ("BYBIT_WS_URL", f"ws://127.0.0.1:1/{CANARY}", "must be an address such as ws://127.0.0.1:8765, without a path"),
    ("FEED_REST_URL", f"http://x:{CANARY}", "must be an address"),
    ("FEED_WS_URL", f"ws://user:{CANARY}@x", "must be an address"),
    ("BYBIT_KEY", f"{CANARY} {CANARY}", "holds a character that no key"),
    ("BYBIT_SECRET", f"{CANARY}?", "holds a character that no key"),
    ("COUNCIL_MODE", "on", "must be one of rules, strict, degraded, shadow, off"),
    ("COUNCIL_MODE", "strikt", "(did you mean strict?)"),
    ("HF_TOKEN", f"hf_{CANARY}, {CANARY}?", "key 2 is none: write keys with commas between them"),
    ("HF_TOKEN", f"hf_{CANARY},", "key 2 is none"),
    ("GEMINI_API_KEY", f"AIza{CANARY}||AIza{CANARY}", "key 1 is none"),
    ("GEMINI_API_KEY", "   ", "holds only blanks"),
    ("HF_BASE_URL", f"http://{CANARY}.example/v1", "must begin with https:// unless it is on this machine"),
    ("HF_BASE_URL", f"https://user:{CANARY}@x/v1", "must be an address such as http://127.0.0.1:8790/v1"),
    ("HF_BASE_URL", f"https://x/v1?key={CANARY}", "must be an address"),
    ("GEMINI_BASE_URL", "ws://127.0.0.1:1", "must be an address"),
    ("GEMINI_BASE_URL", "https://x:port", "must be an address"),
    ("GEMINI_BASE_URL", "http://[::1", "must be an address"),
    ("KEY_FILE", f"/nowhere/{CANARY}", "is not there: make the file, or leave it empty"),
    ("KEY_FILE", str(ROOT), "is no file that can be read"),
    ("KEY_FILE", "~nobody_has_this_name/x", "is no possible file"),
    ("KEY_FILE", "x" * 5000, "is no possible file"),
    ("DATABASE_URL", f"mysql://root:{CANARY}@x/y", "must be an address such as sqlite:///"),
    ("DATABASE_URL", f"postgresql://root:{CANARY}@x/y", "PostgreSQL is not available in this version"),
    ("DATABASE_URL", "sqlite:///", "must be an address"),
    ("DATA_DIR", __file__, "is a file: name a folder"),
    ("DATA_DIR", "x" * 5000, "is no possible folder"),
    ("DATA_DIR", "~nobody_has_this_name/x", "is no possible folder"),
    ("LOG_LEVEL", "LOUD", "must be one of DEBUG, INFO"),
    ("LOG_LEVEL", "DEBUGG", "(did you mean DEBUG?)"),
    ("PHONE_PORT", "65536", "must be a port (0 takes any free one), between 0 and 65535"),
    ("PHONE_PORT", "-1", "must be a port"),
    ("PHONE_PORT", "http", "must be a port"),
    ("PHONE_PORT", "8080.0", "must be a port"),
    ("TIMEZONE", "Europe/Berln", "(did you mean Europe/Berlin?)"),
    ("TIMEZONE", "../../etc/passwd", "must be an IANA time zone"),
    ("TIMEZONE", "Europe", "must be an IANA time zone"),
    ("TIMEZONE", "+02:00", "must be an IANA time zone"),
]


@pytest.mark.parametrize(("name", "value", "wanted"), BAD_VARIABLES)
def test_a_bad_variable_is_named_and_its_value_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: str
) -> None:
    """From the environment or from the file: one line that begins with the name."""
    by_file = refused_settings(written(tmp_path, f"{name}='{value}'", ".env"))
    monkeypatch.setenv(name, value)
    by_environment = refused_settings(tmp_path / "none.env")
    for text in (by_file, by_environment):
        assert text.startswith(f"{name}: ")
        assert wanted in text
        assert "\n" not in text


@pytest.mark.parametrize("exchange", ["live", "demo", "testnet"])
def test_a_real_exchange_needs_its_keys(tmp_path: Path, exchange: str) -> None:
    """Key and secret, both named when both are missing; with them it is accepted and they stay secret."""
    with pytest.raises(Misconfigured, match=r"^BYBIT_KEY is not set: .*\nBYBIT_SECRET is not set: "):
        settings_of(tmp_path, {"EXCHANGE": exchange})
    with pytest.raises(Misconfigured, match=rf"^BYBIT_SECRET is not set: EXCHANGE={exchange} needs"):
        settings_of(tmp_path, {"EXCHANGE": exchange, "BYBIT_KEY": "abc"})
    settings = settings_of(tmp_path, {"EXCHANGE": exchange, "BYBIT_KEY": "abc", "BYBIT_SECRET": CANARY})
    assert settings.keys == ("abc", CANARY)
    assert CANARY not in repr(settings)


def test_the_paper_exchange_has_keys_of_its_own(tmp_path: Path) -> None:
    """`paper` and `paper` unless both are given; one alone is refused."""
    assert settings_of(tmp_path, {}).keys == ("paper", "paper")
    with pytest.raises(Misconfigured, match="belong together"):
        settings_of(tmp_path, {"BYBIT_KEY": "abc"})


@pytest.mark.parametrize("of", ["BYBIT", "FEED"])
def test_an_exchange_elsewhere_has_rest_and_perhaps_sockets(tmp_path: Path, of: str) -> None:
    """The sockets' address alone is refused; loopback may be plain, everything else is encrypted."""
    with pytest.raises(Misconfigured, match=f"{of}_WS_URL is set without {of}_REST_URL"):
        settings_of(tmp_path, {f"{of}_WS_URL": "ws://127.0.0.1:1"})
    with pytest.raises(Misconfigured, match=f"{of}_REST_URL: must begin with https://"):
        settings_of(tmp_path, {f"{of}_REST_URL": "http://exchange.example"})
    both = {f"{of}_REST_URL": "https://api.bybit.com/", f"{of}_WS_URL": "wss://stream.bybit.com"}
    settings = settings_of(tmp_path, both)
    assert getattr(settings, f"{of.lower()}_rest_url") == "https://api.bybit.com"
    assert getattr(settings, f"{of.lower()}_ws_url") == "wss://stream.bybit.com"


HF, GEMINI = "hf_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "AIzaBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"


@pytest.mark.parametrize(
    ("name", "given", "used"),
    [
        ("HF_BASE_URL", "https://router.huggingface.co/v1", "https://router.huggingface.co/v1"),
        ("HF_BASE_URL", "https://router.huggingface.co", "https://router.huggingface.co/v1"),
        ("HF_BASE_URL", "http://127.0.0.1:8790/v1/chat/completions/", "http://127.0.0.1:8790/v1"),
        ("HF_BASE_URL", "http://localhost:8790/hub/", "http://localhost:8790/hub/v1"),
        ("GEMINI_BASE_URL", "http://[::1]:8790/v1beta/", "http://[::1]:8790"),
        ("GEMINI_BASE_URL", "https://generativelanguage.googleapis.com", "https://generativelanguage.googleapis.com"),
        ("GEMINI_BASE_URL", "https://gateway.example/google/v1", "https://gateway.example/google"),
    ],
)
def test_a_models_address_ends_as_its_client_wants_it(tmp_path: Path, name: str, given: str, used: str) -> None:
    """One address, with or without the version, for either client."""
    assert getattr(settings_of(tmp_path, {name: given}), name.lower()) == used


def test_keys_of_models_come_from_variables_and_a_file(tmp_path: Path) -> None:
    """All of them, and no text of theirs in what the settings show."""
    more = [f"hf_{'c' * 34}|AIza{'D' * 35}", "", f"hf_{'e' * 34}"]
    file = written(tmp_path, "\n".join(more), "keys.txt")
    file.chmod(0o600)
    settings = settings_of(tmp_path, {"HF_TOKEN": HF, "GEMINI_API_KEY": GEMINI, "KEY_FILE": str(file)})
    keys = model_keys(settings)
    wanted = [("huggingface", "aaaa"), ("gemini", "BBBB"), ("huggingface", "cccc"), ("gemini", "DDDD")]
    assert {(key.provider, key.secret[-4:]) for key in keys} == {*wanted, ("huggingface", "eeee")}
    assert not any(key.secret in repr(settings) + repr(keys) for key in keys)
    assert exposed_key_file(settings) == ""
    file.chmod(0o644)
    assert exposed_key_file(settings) == f"others on this machine can read KEY_FILE: chmod 600 {file}"
    assert model_keys(settings_of(tmp_path, {})) == ()


def test_a_bad_line_of_the_key_file_is_named(tmp_path: Path) -> None:
    """By its number, and without its text."""
    file = written(tmp_path, f"{HF}\n\nsk-{CANARY}\n", "keys.txt")
    with pytest.raises(Misconfigured, match=r"line 3 of KEY_FILE: a key begins with hf_") as caught:
        settings_of(tmp_path, {"KEY_FILE": str(file)})
    assert CANARY not in str(caught.value)
    with pytest.raises(Misconfigured, match="key 1 of HF_TOKEN looks like one of Gemini: put it into GEMINI_API_KEY"):
        settings_of(tmp_path, {"HF_TOKEN": GEMINI})
    file.write_text(f"# mine\n{HF}\n")
    settings = settings_of(tmp_path, {"KEY_FILE": str(file)})
    file.unlink()
    with pytest.raises(Misconfigured, match="KEY_FILE: is not there"):
        model_keys(settings)


def test_auto_is_strict_once_every_model_has_a_key(tmp_path: Path) -> None:
    """What a mode lacks is named, with what to do about it."""
    council = read_config(ROOT / "config.json").council
    every = model_keys(settings_of(tmp_path, {"HF_TOKEN": HF, "GEMINI_API_KEY": GEMINI}))
    only = {key.provider: (key,) for key in every}
    assert effective_mode(None, council, every) == "strict"
    assert [effective_mode(None, council, keys) for keys in ((), only["huggingface"], only["gemini"])] == ["rules"] * 3
    assert [effective_mode(mode, council, every) for mode in MODES] == list(MODES)
    assert missing_for("degraded", council, only["gemini"]) == ""
    assert missing_for("strict", council, only["gemini"]).startswith("needs HF_TOKEN for the Quant and the Strategist:")
    both = "needs HF_TOKEN for the Quant and the Strategist and GEMINI_API_KEY for the Risk Manager: write it into .env"
    assert missing_for("shadow", council, ()).startswith(both)
    with pytest.raises(Misconfigured, match=r"^COUNCIL_MODE=strict needs HF_TOKEN"):
        effective_mode("strict", council, ())
    with pytest.raises(Misconfigured, match=r"^config.json: council.mode=degraded needs GEMINI_API_KEY for the Risk"):
        effective_mode(None, dataclasses.replace(council, mode="degraded"), only["huggingface"])


def test_a_mode_of_models_needs_models(tmp_path: Path) -> None:
    """A configuration that names none is of the rules, whatever keys there are."""
    keys = model_keys(settings_of(tmp_path, {"HF_TOKEN": HF, "GEMINI_API_KEY": GEMINI}))
    assert effective_mode(None, CouncilConfig(), keys) == "rules"
    for mode in MODEL_MODES:
        assert "needs a model for the" in missing_for(mode, CouncilConfig(), keys)
        with pytest.raises(Misconfigured, match=r"write council\.\w+ into config\.json"):
            effective_mode(mode, CouncilConfig(), keys)


def test_every_bad_variable_is_named_at_once(tmp_path: Path) -> None:
    """The file's mistakes and the variables' alike."""
    bad = {name: value for name, value, _ in reversed(BAD_VARIABLES)}
    lines = [f"{name}='{value}'" for name, value in bad.items()]
    text = refused_settings(written(tmp_path, "\n".join([*lines, "'"]), ".env"))
    assert sorted(line.split(":")[0] for line in text.splitlines() if ".env" not in line) == sorted(bad)
    assert f"line {len(bad) + 1} is not of the form NAME=value" in text


def test_a_misspelt_name_in_the_file_is_refused(tmp_path: Path) -> None:
    """A token that nobody reads would be a surprise; names of other programs and later versions are none."""
    path = written(tmp_path, f"TELEGRAM_BOT_TOKN={CANARY}", ".env")
    wanted = "TELEGRAM_BOT_TOKN: unknown name (did you mean TELEGRAM_BOT_TOKEN?)"
    assert refused_settings(path) == f"{path}: {wanted}"
    later = "REDIS_URL WEBHOOK_PORT TRADINGVIEW_SECRET PYTHONUNBUFFERED COMPOSE_PROJECT_NAME"
    others = written(tmp_path, "\n".join(f"{name}=x" for name in later.split()), ".env")
    assert read_settings(others) == read_settings(tmp_path / "none.env")


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"\xef\xbb\xbfEXCHANGE=paper", "begins with a byte order mark"),
        (b"EXCHANGE=paper\nTIMEZONE=\xff", "line 2 is not UTF-8"),
        (b"EXCHANGE='paper", "line 1 is not of the form NAME=value"),
        (b"=paper", "line 1 is not of the form NAME=value"),
    ],
)
def test_a_bad_env_file_is_named_with_its_line(tmp_path: Path, content: bytes, wanted: str) -> None:
    """What python-dotenv would silently skip is refused."""
    assert wanted in refused_settings(written(tmp_path, content, ".env"))


def test_an_unreadable_env_file_is_refused(tmp_path: Path) -> None:
    """A folder in its place is no empty file."""
    (tmp_path / ".env").mkdir()
    assert ".env cannot be read" in refused_settings(tmp_path / ".env")


NAMES = st.sampled_from([name.upper() for name in Settings.model_fields])


ANYTHING = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(name=NAMES, value=ANYTHING)
def test_any_variable(name: str, value: str) -> None:
    """Whatever a variable holds: settings, or a refusal that names it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        try:
            fine = read_settings(Path("nowhere.env")).zone is not None
        except Misconfigured as error:
            fine = name in str(error)
    assert fine


@given(content=st.binary(max_size=60))
def test_any_env_file(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever bytes the file holds: settings, or a refusal."""
    path = written(tmp_path_factory.mktemp("any"), content, ".env")
    try:
        fine = read_settings(path).zone is not None
    except Misconfigured as error:
        fine = bool(str(error))
    assert fine
