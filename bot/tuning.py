"""Settings that may be changed while the program trades: which, within which range, and which way risk lies.

The values of config.json (with `--set`) are the ground; what was changed in the chat lies over them, is kept in the
journal, and holds from the next close on. What describes the exchange (fees, leverage, the instrument) is not
changed here: it is what it is.

A strategy's parameter has its plain name; that of a symbol with a strategy of its own is named SYMBOL.parameter.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bot.settings import StrategyChoice, TradingConfig, contradictions, flaw, no_fraction, parsed
from trading.errors import BadInput
from trading.parameters import Parameters, Range, near

_OF_ACCOUNT: Final = ("risk_per_trade", "max_position_usdt")
_LESS_IS_SAFER: Final = frozenset(
    {
        *("risk_per_trade", "max_position_usdt", "daily_loss_r", "weekly_loss_r", "max_drawdown", "losing_streak"),
        *("max_open_risk", "max_positions", "max_stop_atr", "max_data_age_bars", "max_slip_atr", "entry_ttl_bars"),
    }
)
_MORE_IS_SAFER: Final = frozenset({"streak_cooldown_bars", "min_stop_atr", "cooldown_bars"})
_NUMBER: Final = re.compile(r"[+-]?(\d{1,18}(\.\d{0,18})?|\.\d{1,18})(e[+-]?\d{1,2})?", re.IGNORECASE | re.ASCII)


def overlaid(config: TradingConfig, values: Mapping[str, float]) -> TradingConfig:
    """The configuration with changed settings over it; those that do not fit it (see `unfit`) change nothing."""
    no, specs = unfit(config, values), _specs(config)
    fitting = {name: _of_kind(specs[name], value) for name, value in values.items() if name not in no}
    changed: dict[str, Any] = {
        place: group.changed({name: fitting[name] for name in group.names() if name in fitting})
        for place, group in _groups(config).items()
    }
    own = {symbol: _overlaid(symbol, choice, fitting) for symbol, choice in config.own.items()}
    return dataclasses.replace(config, strategies={**config.strategies, **own}, **changed)


def _overlaid(symbol: str, choice: StrategyChoice, values: Mapping[str, float]) -> StrategyChoice:
    names = {name: f"{symbol}.{name}" for name in choice.parameters.names()}
    mine = {name: values[whole] for name, whole in names.items() if whole in values}
    return dataclasses.replace(choice, parameters=choice.parameters.changed(mine))


def settable(config: TradingConfig, symbol: str, name: str) -> str:
    """The name under which a symbol's setting is changed; other symbols may share it."""
    own = config.own.get(symbol)
    return f"{symbol}.{name}" if own and name in own.parameters.names() else name


def unfit(config: TradingConfig, values: Mapping[str, float]) -> list[str]:
    """Names whose values this configuration cannot take: of another strategy, of another version."""
    specs = _specs(config)
    return [
        name for name, value in values.items() if name not in specs or flaw(specs[name], _of_kind(specs[name], value))
    ]


def _of_kind(spec: dataclasses.Field[Any], value: float) -> float:
    return int(value) if spec.type == "int" and float(value).is_integer() else value


def _groups(config: TradingConfig) -> dict[str, Parameters]:
    """Parameter sets by the name of their place in the configuration, in the order in which they are shown.

    Without the shared strategy where every symbol has its own.
    """
    groups: dict[str, Parameters] = {"terms": config.terms, "limits": config.limits, "rules": config.rules}
    return groups if len(config.own) == len(config.symbols) else {**groups, "parameters": config.parameters}


def _specs(config: TradingConfig) -> dict[str, dataclasses.Field[Any]]:
    """Every setting that can be changed, by name, in the order in which it is shown."""
    shared = {
        spec.name: spec
        for place, group in _groups(config).items()
        for spec in dataclasses.fields(group)
        if place != "terms" or spec.name in _OF_ACCOUNT
    }
    return shared | {
        f"{symbol}.{spec.name}": spec
        for symbol, choice in config.own.items()
        for spec in dataclasses.fields(choice.parameters)
    }


def _values(config: TradingConfig) -> dict[str, float]:
    """Every value by the name of its setting."""
    shared = {name: value for group in _groups(config).values() for name, value in group.as_dict().items()}
    return shared | {
        f"{symbol}.{name}": value
        for symbol, choice in config.own.items()
        for name, value in choice.parameters.as_dict().items()
    }


def _no_setting(name: str, specs: Mapping[str, object]) -> str:
    """The refusal of a name, with the one that was perhaps meant: `eth.bb_period` is ETHUSDT.bb_period."""
    head, dot, tail = name.partition(".")
    symbol = head.upper().removesuffix("USDT") + "USDT"
    return f"{name[:40]} is no setting that can be changed{near(f'{symbol}.{tail.lower()}' if dot else name, specs)}"


class Tuning:
    """What the chat may change. `overlay` gives what was changed so far (the book's settings)."""

    def __init__(self, config: TradingConfig, overlay: Callable[[], Mapping[str, float]]) -> None:
        self._config = config
        self._overlay = overlay

    def current(self) -> Mapping[str, float]:
        """Every settable name with its value now, account and limits first."""
        values = _values(overlaid(self._config, self._overlay()))
        return {name: values[name] for name in _specs(self._config)}

    def changed(self, words: Sequence[str]) -> Mapping[str, float]:
        """Values of `name=value` words (or one name and one value), checked all together."""
        pairs = [f"{words[0]}={words[1]}"] if len(words) == 2 and "=" not in "".join(words) else list(words)
        specs, values = _specs(self._config), dict[str, float]()
        for pair in pairs:
            name, equals, text = (piece.strip() for piece in pair.partition("="))
            if name not in specs:
                raise BadInput(_no_setting(name, specs))
            if not equals or not _NUMBER.fullmatch(text):
                raise BadInput(f"{name} needs a number: {name}={specs[name].default}")
            if name in values:
                raise BadInput(f"{name} is given twice: name it once")
            value = parsed(specs[name], text)
            if why := flaw(specs[name], value) or no_fraction(name, value):
                raise BadInput(f"{name} {why}")
            values[name] = value
        self._check({**self._overlay(), **values})
        return values

    def explain(self, name: str) -> str:
        """What a setting is, with its range."""
        spec = _specs(self._config).get(name)
        if spec is None:
            raise BadInput(_no_setting(name, _specs(self._config)))
        allowed: Range = spec.metadata["range"]
        least = "" if allowed.least is None else f"; {'above' if allowed.open_ended else 'at least'} {allowed.least:g}"
        return f"{spec.metadata['doc']} ({'a whole number' if spec.type == 'int' else 'a number'}{least})"

    def riskier(self, name: str, old: float, new: float) -> bool:
        """Could this change enlarge a loss? A strategy's parameter may, either way."""
        if name in _LESS_IS_SAFER:
            return new > old
        return new < old if name in _MORE_IS_SAFER else True

    def _check(self, values: Mapping[str, float]) -> None:
        if problems := contradictions(overlaid(self._config, values)):
            raise BadInput(problems[0])
