"""What somebody wants to know, from words: `BTC 15 365 adx_min=25`, in any order that makes sense.

What is not named is what trades now, so that `/backtest` alone tells how the bot itself would have done.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from bot.settings import TIMEFRAMES, TradingConfig, flaw, no_fraction, parsed
from bot.tuning import Tuning, overlaid, settable
from trading.errors import BadInput
from trading.laboratory import COUNCILS, OBJECTIVES, Finding, Kind, Study, check_council
from trading.parameters import AccountTerms, InstrumentTerms, Parameters, TradeRules, near
from trading.status import Status
from trading.strategy import strategies, strategy_named

Axis = tuple[str, tuple[float, ...]]

USUAL_DAYS: Final = 365
WEEKLY_DAYS: Final = 730
USUAL_FOLDS: Final = 5
MOST_DAYS: Final = 7300
MOST_FOLDS: Final = 24
MOST_VALUES: Final = 1_000
MOST_COMBINATIONS: Final = 1_000_000
_AROUND: Final = (0.5, 0.75, 1.0, 1.25, 1.5)  # of the value that trades now: the usual search looks around it
_SEARCHED: Final = 3  # parameters of the usual search
_TELLING: Final = ("ema_period", "adx_min", "adx_max", "sl_atr_multiplier", "bb_std")  # searched first, where there are
_TIME: Final = re.compile(r"(\d{1,7})(m|min|h|d|w|mo|y)?", re.ASCII | re.IGNORECASE)
_BAR: Final = {"m": 1, "min": 1, "h": 60}
_SPAN: Final = {"d": 1, "w": 7, "mo": 30, "y": 365}
_NUMBER: Final = re.compile(r"[+-]?(\d{1,15}(\.\d{0,15})?|\.\d{1,15})(e[+-]?\d{1,2})?", re.IGNORECASE | re.ASCII)


class Studies:
    """Studies of what trades now and of what else may be named. `overlay` gives the settings changed in the chat."""

    def __init__(
        self, config: TradingConfig, overlay: Callable[[], Mapping[str, float]], status: Callable[[], Status]
    ) -> None:
        self._config = config
        self._overlay = overlay
        self._status = status
        self._tuning = Tuning(config, overlay)

    def strategy(self, symbol: str) -> str:
        """The strategy that trades a symbol."""
        return self._config.choice(symbol).name

    @property
    def traded(self) -> tuple[str, ...]:
        """The symbols that are traded."""
        return self._status().symbols

    @property
    def interval(self) -> int:
        """Minutes of a bar that is traded."""
        return self._status().interval // timedelta(minutes=1)

    def current(self, symbol: str, days: int | None) -> Study:
        """A backtest of exactly what trades now."""
        return Study(
            kind="backtest",
            symbol=symbol,
            interval=self.interval,
            days=days,
            strategy=self.strategy(symbol),
            values=self._values(symbol, self.strategy(symbol)),
        )

    def search(self, symbol: str, days: int | None) -> Study:
        """The usual search around what trades now."""
        study = self.current(symbol, days)
        return dataclasses.replace(study, kind="optimize", grid=usual_grid(study.strategy, study.values))

    def asked(self, kind: Kind, words: Sequence[str], base: Study | None = None) -> Study:
        """The study that the words ask for, over `base` where there is one; `BadInput` says what to write instead."""
        asked = _Words(kind=kind, markets=self._markets(), traded=self._status().symbols)
        for word in words:
            asked.take(word)
        symbol = asked.symbol or (base.symbol if base else self._first())
        strategy = asked.strategy or (base.strategy if base and not asked.symbol else self.strategy(symbol))
        same = base is not None and (base.symbol, base.strategy) == (symbol, strategy)
        values = _typed(strategy, base.values) if base is not None and same else self._values(symbol, strategy)
        fixed, grid = asked.numbers(strategy)
        values |= fixed
        if not grid and kind != "backtest":
            kept = tuple(axis for axis in (base.grid if base is not None and same else ()) if axis[0] not in fixed)
            grid = kept or usual_grid(strategy, values)
        folds = asked.folds or (base.folds if base else 0) or USUAL_FOLDS
        council = asked.council or (base.council if base is not None and kind == "backtest" else "off")
        study = Study(
            kind=kind,
            symbol=symbol,
            interval=asked.interval or (base.interval if base else self.interval),
            days=(base.days if base else USUAL_DAYS) if asked.days == 0 else asked.days,
            strategy=strategy,
            values=values,
            grid=() if kind == "backtest" else grid,
            objective=asked.objective or (base.objective if base else OBJECTIVES[0]),
            folds=folds if kind == "walkforward" else 0,
            council=council,
            limits=self._limits(base) if council != "off" else {},
        )
        check_council(study)
        _refuse_too_many(study)
        return study

    def proposed(self, finding: Finding) -> dict[str, float]:
        """What taking over a run would change: parameters of the strategy and its trade rules, and what was searched.

        Money terms that were merely assumed are not taken over; empty where another strategy trades.
        """
        study = finding.study
        if study.strategy != self.strategy(study.symbol):
            return {}
        own: type[Parameters] = strategy_named(study.strategy).parameters
        names = dict.fromkeys((*own.names(), *TradeRules.names(), *finding.chosen))
        wanted, now = {**study.values, **finding.chosen}, self._tuning.current()
        pairs = {settable(self._config, study.symbol, name): wanted[name] for name in names if name in wanted}
        return {name: value for name, value in pairs.items() if name in now and now[name] != value}

    def fixed(self, finding: Finding) -> dict[str, float]:
        """What a run found best and cannot be changed while the program runs."""
        now = self._tuning.current()
        pairs = {name: settable(self._config, finding.study.symbol, name) for name in finding.chosen}
        return {name: finding.chosen[name] for name, whole in pairs.items() if whole not in now}

    def _limits(self, base: Study | None) -> Mapping[str, float]:
        """The account's limits as they are now, or as they were in a run that had a council."""
        if base is not None and base.has_council:
            return base.limits
        return overlaid(self._config, self._overlay()).limits.as_dict()

    def _values(self, symbol: str, strategy: str) -> dict[str, float]:
        """Every name of the specification with its value now; the defaults of a strategy that does not trade."""
        values = overlaid(self._config, self._overlay()).params(symbol)
        if strategy == self.strategy(symbol):
            return values
        own: Parameters = strategy_named(strategy).parameters()
        others = {*TradeRules.names(), *AccountTerms.names(), *InstrumentTerms.names()}
        return own.as_dict() | {name: value for name, value in values.items() if name in others}

    def _markets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self._status().symbols, *self._config.instruments)))

    def _first(self) -> str:
        return next(iter(self._status().symbols), "BTCUSDT")


@dataclass(slots=True, kw_only=True)
class _Words:
    """The words of one command as they are taken in; 0 and empty: not named. `days` None: all there are."""

    kind: Kind
    markets: tuple[str, ...]
    traded: tuple[str, ...]
    symbol: str = ""
    strategy: str = ""
    objective: str = ""
    council: str = ""
    interval: int = 0
    days: int | None = 0
    folds: int = 0
    pairs: dict[str, str] = field(default_factory=dict)

    def take(self, word: str) -> None:
        """One word; `BadInput` for one that is none."""
        name, equals, value = (piece.strip() for piece in word.partition("="))
        if equals:
            self._pair(name.lower(), value)
        elif symbol := self._market(word):
            self._once("symbol", "market", symbol)
        elif word.lower() in strategies():
            self._once("strategy", "strategy", word.lower())
        elif word.lower() == "all":
            self.days = None
        elif time := _TIME.fullmatch(word):
            self._time(int(time[1]), (time[2] or "").lower(), word)
        else:
            raise BadInput(self._unknown(word))

    def numbers(self, strategy: str) -> tuple[dict[str, float], tuple[Axis, ...]]:
        """Values that were named, and the axes of the grid."""
        specs, fixed, grid = specifications(strategy), dict[str, float](), list[Axis]()
        for name, text in self.pairs.items():
            if name not in specs:
                known = [*specs, "strategy", "objective", "folds", "council"]
                raise BadInput(f"{name[:40]} is no parameter of {strategy}{near(name, known)}: /params lists them")
            values = tuple(dict.fromkeys(_checked(specs[name], each) for each in _listed(name, text)))
            if not values:
                raise BadInput(f"{name} needs a number, like {name}={specs[name].default:g}")
            if len(values) == 1:
                fixed[name] = values[0]
            elif self.kind == "backtest":
                raise BadInput(f"/backtest takes one value of {name}: /optimize {name}={text[:60]} tries them all")
            else:
                grid.append((name, values))
        return fixed, tuple(grid)

    def _pair(self, name: str, value: str) -> None:
        if not name or not value:
            raise BadInput(f"write name=value without blanks, like adx_min=25 (it was {name}={value})")
        if name in {"symbol", "market"}:
            self.take(self._market(value) or value)
        elif name in {"interval", "timeframe", "days"} and (time := _TIME.fullmatch(value)):
            self._time(int(time[1]), (time[2] or ("d" if name == "days" else "m")).lower(), value, bar=name != "days")
        elif name == "strategy":
            strategy_named(value.lower())
            self._once("strategy", "strategy", value.lower())
        elif name == "objective":
            if value.lower() not in OBJECTIVES:
                raise BadInput(f"objective is one of {', '.join(OBJECTIVES)}{near(value.lower(), OBJECTIVES)}")
            self.objective = value.lower()
        elif name == "folds":
            self._folds(value)
        elif name == "council":
            self._council(value.lower())
        elif name in self.pairs:
            raise BadInput(f"{name} is given twice: name it once")
        else:
            self.pairs[name] = value

    def _folds(self, value: str) -> None:
        if self.kind != "walkforward":
            raise BadInput(f"/{self.kind} has no folds: /walkforward folds={value[:10]} does")
        count = int(value) if re.fullmatch(r"\d{1,4}", value, re.ASCII) else 0
        if not 2 <= count <= MOST_FOLDS:
            raise BadInput(f"folds is a number from 2 to {MOST_FOLDS}, like folds={USUAL_FOLDS}")
        self.folds = count

    def _council(self, value: str) -> None:
        if value not in COUNCILS:
            known = f"council is one of {', '.join(COUNCILS)}{near(value, COUNCILS)}"
            raise BadInput(f"{known}: models are not asked about the past")
        if self.kind != "backtest" and value != "off":
            raise BadInput(f"/{self.kind} has no council: /backtest council={value} tries what it finds")
        self._once("council", "council", value)

    def _once(self, place: str, what: str, value: str) -> None:
        known = getattr(self, place)
        if known and known != value:
            raise BadInput(f"there are two {what} names, {known} and {value}: name one")
        setattr(self, place, value)

    def _market(self, word: str) -> str:
        name = word.upper()
        return next((each for each in self.markets if name in {each, each.removesuffix("USDT")}), "")

    def _time(self, number: int, unit: str, word: str, *, bar: bool | None = None) -> None:
        """A bar length or a span: by its unit, else the first bar length is one. `1d` is a bar, `30d` a span."""
        as_bar = number * (1440 if unit == "d" else _BAR.get(unit or "m", 0))
        if bar is None:
            bar = unit in _BAR or (as_bar in TIMEFRAMES and not self.interval and unit in {"", "d"})
        if bar:
            if as_bar not in TIMEFRAMES:
                raise BadInput(f"{word[:20]} is no bar length: one of {', '.join(map(_short, TIMEFRAMES))}")
            if self.interval and self.interval != as_bar:
                raise BadInput(f"there are two bar lengths, {_short(self.interval)} and {word[:20]}: name one")
            self.interval = as_bar
            return
        days = number * _SPAN.get(unit or "d", 0)
        if not 1 <= days <= MOST_DAYS:
            raise BadInput(f"{word[:20]} is no span: from 1 to {MOST_DAYS} days, like 365, 90d or 2y")
        if self.days:
            raise BadInput(f"there are two spans, {self.days}d and {word[:20]}: name one")
        self.days = days

    def _unknown(self, word: str) -> str:
        names = [*(each.removesuffix("USDT") for each in self.markets), *(each.upper() for each in strategies())]
        names += ["COUNCIL=RULES"] if self.kind == "backtest" else []
        traded = self.traded[0].removesuffix("USDT") if self.traded else "BTC"
        hint = near(word.upper()[:40], names)
        return f"{word[:40]} is no market, bar length, span or name=value{hint}: like /{self.kind} {traded} 15m 365d"


def _typed(strategy: str, values: Mapping[str, float]) -> dict[str, float]:
    """Stored values as they were: whole numbers where the specification wants them."""
    whole = {name for name, spec in specifications(strategy).items() if spec.type == "int"}
    return {
        name: int(value) if name in whole and float(value).is_integer() else value for name, value in values.items()
    }


def usual_grid(strategy: str, values: Mapping[str, float]) -> tuple[Axis, ...]:
    """What is searched when nothing is named: a few values around the present one of a few telling parameters."""
    own: type[Parameters] = strategy_named(strategy).parameters
    specs = {spec.name: spec for spec in dataclasses.fields(own)}
    ranked = [name for name in _TELLING if name in specs] + [name for name in specs if name not in _TELLING]
    axes = [(name, _around(specs[name], values[name])) for name in ranked]
    return tuple(axis for axis in axes if len(axis[1]) > 1)[:_SEARCHED]


def _around(spec: dataclasses.Field[Any], now: float) -> tuple[float, ...]:
    found = [now if share == 1 else float(f"{share * now:.3g}") for share in _AROUND]
    if spec.type == "int":
        found = [round(value) for value in found]
    return tuple(dict.fromkeys(value for value in found if flaw(spec, value) is None))


def specifications(strategy: str) -> dict[str, dataclasses.Field[Any]]:
    """Every name of the specification with its field: strategy, rules, account, instrument."""
    groups = (strategy_named(strategy).parameters, TradeRules, AccountTerms, InstrumentTerms)
    return {spec.name: spec for group in groups for spec in dataclasses.fields(group)}


def _listed(name: str, text: str) -> list[str]:
    """The values of `a,b,c` or `start:stop:step`, as text."""
    if ":" not in text:
        return [each for each in text.split(",") if each]
    try:
        start, stop, step = (Decimal(part) for part in text.split(":") if _NUMBER.fullmatch(part))
    except (ValueError, InvalidOperation):
        raise BadInput(f"{name} needs {name}=start:stop:step, like {name}=10:30:5") from None
    count = int((stop - start) / step) + 1 if step else 0
    if not 1 <= count <= MOST_VALUES:
        raise BadInput(f"{name}={text[:40]} would be no value or more than {MOST_VALUES}: choose another step")
    return [str(start + place * step) for place in range(count)]


def _checked(spec: dataclasses.Field[Any], text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise BadInput(f"{spec.name} needs a number, like {spec.name}={spec.default:g} (it was {text[:20]})")
    value = parsed(spec, text)
    if why := flaw(spec, value) or no_fraction(spec.name, value):
        raise BadInput(f"{spec.name} {why}")
    return value


def _refuse_too_many(study: Study) -> None:
    if study.combinations > MOST_COMBINATIONS:
        raise BadInput(
            f"that would be {study.combinations:,} combinations, the chat takes {MOST_COMBINATIONS:,}: "
            "name fewer values, or use main.py optimize"
        )


def _short(minutes: int) -> str:
    if minutes % 1440 == 0:
        return f"{minutes // 1440}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"
