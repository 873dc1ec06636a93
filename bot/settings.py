"""Settings: what the environment and `config.json` say, checked whole before anything starts.

`Settings` holds secrets, addresses and choices of the environment (and of `.env`, which the environment
overrides); an empty variable is an unset one. `TradingConfig` holds how to trade, from `config.json`.
What is wrong is refused with every problem at once, one line each, naming the variable or the path of the
field and never its value: `Misconfigured` for the environment and the file, `BadInput` for `--set`.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import json
import math
import os
import re
import urllib.parse
import zoneinfo
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo

from dotenv.parser import parse_stream
from pydantic import BeforeValidator, SecretStr, ValidationError, ValidationInfo
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.cards import PUSHED, Push
from trading.council import MODEL_MODES, MODES
from trading.council.questions import PROVIDERS, AgentModel
from trading.errors import BadInput, Misconfigured
from trading.exchange.bybit.endpoints import is_loopback
from trading.exchange.simulated.instruments import KNOWN
from trading.llm.keys import VARIABLES, Key, keys_of
from trading.model import Instrument, exact
from trading.parameters import AccountTerms, InstrumentTerms, Parameters, Range, TradeRules, near, param, too_large
from trading.pictures import Theme
from trading.risk import Limits
from trading.strategy import Strategy, strategies, strategy_named

EXCHANGES = ("paper", "demo", "testnet", "live")
FEEDS = ("synthetic", "replay", "live")
AUTO = "auto"  # strict when every model has a key, else rules
COUNCILS = (AUTO, *MODES)
AGENTS = ("quant", "strategist", "risk_manager")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TIMEFRAMES = (1, 3, 5, 15, 30, 60, 120, 240, 360, 720, 1440)  # minutes; Bybit's kline intervals up to a day

P = TypeVar("P", bound=Parameters)
_TYPED = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?|nan|inf|infinity)", re.ASCII | re.IGNORECASE)


# The environment


def _refuse(why: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{why}", {"why": why})


def _text(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.strip():
        raise _refuse("holds only blanks: write a value, or nothing at all")
    if not value.strip().isprintable():
        raise _refuse("holds a character that cannot be printed: write it again")
    return value.strip()


def _number(least: int, most: int, meaning: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        text = _text(value)
        if isinstance(text, str) and not re.fullmatch(r"\d{1,18}", text, flags=re.ASCII):
            raise _refuse(f"must be {meaning}, in digits")
        if isinstance(text, str | int) and not least <= int(text) <= most:
            raise _refuse(f"must be {meaning}, between {least} and {most}")
        return int(text) if isinstance(text, str) else text

    return check


_user_id = _number(1, 2**52 - 1, "a numeric Telegram user id")


def _user_ids(value: object) -> object:
    text = _text(value)
    if not isinstance(text, str):
        return text
    return tuple(dict.fromkeys(_user_id(part) for part in text.split(",")))


def _choice(known: Collection[str]) -> Callable[[object], object]:
    def check(value: object) -> object:
        name = _text(value)
        if not isinstance(name, str):
            return name
        if name.lower() not in known:
            raise _refuse(f"must be one of {', '.join(known)}{near(name.lower(), known)}")
        return name.lower()

    return check


def _log_level(value: object) -> object:
    name = _text(value)
    if isinstance(name, str) and name.upper() not in LOG_LEVELS:
        raise _refuse(f"must be one of {', '.join(LOG_LEVELS)}{near(name.upper(), LOG_LEVELS)}")
    return name.upper() if isinstance(name, str) else name


def _api_url(value: object) -> object:
    text = _text(value)
    if not isinstance(text, str):
        return text
    try:
        parts = urllib.parse.urlsplit(text)
        sound = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        sound = False
    if not sound or " " in text:
        raise _refuse("must be an address such as http://127.0.0.1:8081")
    return text.rstrip("/")


def _endpoint(*schemes: str) -> Callable[[object], object]:
    """An address that keys are used at: encrypted, or on this machine."""

    def check(value: object) -> object:
        text = _text(value)
        if not isinstance(text, str):
            return text
        plain, encrypted = schemes
        try:
            parts = urllib.parse.urlsplit(text)
            more = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.port == 0
        except ValueError:  # a port that is no number, a broken IPv6 address
            parts, more = urllib.parse.urlsplit(""), "?"
        if not parts.hostname or more or parts.scheme not in schemes or " " in text:
            raise _refuse(f"must be an address such as {plain}://127.0.0.1:8765, without a path")
        if parts.scheme == plain and not is_loopback(text):
            raise _refuse(f"must begin with {encrypted}:// unless it is on this machine")
        return text.rstrip("/")

    return check


def _huggingface_url(value: object) -> object:
    """The router's address ends in /v1: `huggingface_hub` appends /chat/completions to it."""
    address = _keyed_address(value)
    if not isinstance(address, str):
        return address
    root = address.removesuffix("/chat/completions")
    return root if root.endswith("/v1") else f"{root}/v1"


def _gemini_url(value: object) -> object:
    """Gemini's address ends without a version: `google-genai` appends /v1beta and the rest to it."""
    address = _keyed_address(value)
    return re.sub(r"/v1(beta|alpha)?$", "", address) if isinstance(address, str) else address


def _keyed_address(value: object) -> object:
    """An address of a service with keys, perhaps with a path: encrypted, or on this machine."""
    text = _text(value)
    if not isinstance(text, str):
        return text
    try:
        parts = urllib.parse.urlsplit(text)
        sound = bool(parts.hostname) and parts.port != 0 and not parts.username
    except ValueError:  # a port that is no number, a broken IPv6 address
        raise _refuse("must be an address such as http://127.0.0.1:8790/v1") from None
    if not sound or parts.scheme not in {"http", "https"} or re.search(r"[\s?#]", text):
        raise _refuse("must be an address such as http://127.0.0.1:8790/v1")
    if parts.scheme == "http" and not is_loopback(text):
        raise _refuse("must begin with https:// unless it is on this machine")
    return text.rstrip("/")


def _tokens(value: object) -> object:
    """Keys of a model's provider: commas between accounts, `|` between keys of one."""
    text = _text(value.get_secret_value() if isinstance(value, SecretStr) else value)
    if not isinstance(text, str):
        return text
    for place, item in enumerate(text.split(","), 1):
        if not all(re.fullmatch(r"\s*[\w.~+/=-]{8,256}\s*", key, re.ASCII) for key in item.split("|")):
            raise _refuse(f"key {place} is none: write keys with commas between them, | between those of one account")
    return text


def _key_file(value: object) -> object:
    text = _text(value)
    if not isinstance(text, str):
        return text
    try:
        path = Path(text).expanduser()
        missing, readable = not path.exists(), path.is_file() and os.access(path, os.R_OK)
    except (OSError, RuntimeError, ValueError):  # a name too long; no home folder for ~; a zero byte
        raise _refuse("is no possible file: write the whole path") from None
    if missing or not readable:
        raise _refuse("is not there: make the file, or leave it empty" if missing else "is no file that can be read")
    return path


def _key(value: object) -> object:
    text = _text(value.get_secret_value() if isinstance(value, SecretStr) else value)
    if isinstance(text, str) and not re.fullmatch(r"[\w+/=-]{1,128}", text, re.ASCII):
        raise _refuse("holds a character that no key of Bybit's has: write it again")
    return text


def _token(value: object, info: ValidationInfo) -> object:
    text = _text(value.get_secret_value() if isinstance(value, SecretStr) else value)
    if not isinstance(text, str):
        return text
    if info.data.get("telegram_api_url") is None and not re.fullmatch(r"\d{3,}:[\w-]{20,}", text, re.ASCII):
        raise _refuse("is not a bot token: @BotFather gives one, such as 123456:ABC-DEF…")
    if re.search(r"[\s/?#%]", text):
        raise _refuse("holds a character that no bot token has: write it again")
    return text


def _database_url(value: object) -> object:
    text = _text(value.get_secret_value() if isinstance(value, SecretStr) else value)
    if not isinstance(text, str):
        return text
    if re.match(r"postgres", text):
        raise _refuse("PostgreSQL is not available in this version: use sqlite:///PATH, or leave it empty")
    if not re.fullmatch(r"sqlite(\+aiosqlite)?:///.+", text):
        raise _refuse("must be an address such as sqlite:///data/conclave.db")
    return text


def _data_dir(value: object) -> object:
    text = _text(value)
    if not isinstance(text, str):
        return text
    try:
        path = Path(text).expanduser()
        blocked = path.exists() and not path.is_dir()
    except (OSError, RuntimeError):  # a name too long; no home folder for ~
        raise _refuse("is no possible folder: write the whole path") from None
    if blocked:
        raise _refuse("is a file: name a folder")
    return path


def _zone(value: object) -> object:
    name = _text(value)
    if not isinstance(name, str):
        return name
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # not found; not a plain name; a folder of zones
        hint = near(name, zoneinfo.available_timezones())
        raise _refuse(f"must be an IANA time zone such as Europe/Berlin{hint}") from None
    return name


class Settings(BaseSettings):
    """What the environment says; `read_settings` builds it and turns what is wrong into `Misconfigured`."""

    model_config = SettingsConfigDict(
        alias_generator=str.upper,
        case_sensitive=True,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    telegram_api_url: Annotated[str | None, BeforeValidator(_api_url)] = None
    telegram_bot_token: Annotated[SecretStr | None, BeforeValidator(_token)] = None
    telegram_owner_id: Annotated[int | None, BeforeValidator(_user_id)] = None
    telegram_operators: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_user_ids)] = ()
    telegram_viewers: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_user_ids)] = ()
    exchange: Annotated[str, BeforeValidator(_choice(EXCHANGES))] = "paper"
    feed: Annotated[str, BeforeValidator(_choice(FEEDS))] = "synthetic"
    bybit_rest_url: Annotated[str | None, BeforeValidator(_endpoint("http", "https"))] = None
    bybit_ws_url: Annotated[str | None, BeforeValidator(_endpoint("ws", "wss"))] = None
    bybit_key: Annotated[SecretStr | None, BeforeValidator(_key)] = None
    bybit_secret: Annotated[SecretStr | None, BeforeValidator(_key)] = None
    feed_rest_url: Annotated[str | None, BeforeValidator(_endpoint("http", "https"))] = None
    feed_ws_url: Annotated[str | None, BeforeValidator(_endpoint("ws", "wss"))] = None
    council_mode: Annotated[str | None, BeforeValidator(_choice(MODES))] = None  # None: config.json says
    hf_token: Annotated[SecretStr | None, BeforeValidator(_tokens)] = None
    hf_base_url: Annotated[str | None, BeforeValidator(_huggingface_url)] = None  # None: the provider's own
    gemini_api_key: Annotated[SecretStr | None, BeforeValidator(_tokens)] = None
    gemini_base_url: Annotated[str | None, BeforeValidator(_gemini_url)] = None
    key_file: Annotated[Path | None, BeforeValidator(_key_file)] = None
    database_url: Annotated[SecretStr | None, BeforeValidator(_database_url)] = None
    data_dir: Annotated[Path, BeforeValidator(_data_dir)] = Path("data")
    log_level: Annotated[str, BeforeValidator(_log_level)] = "INFO"
    phone_port: Annotated[int, BeforeValidator(_number(0, 65535, "a port (0 takes any free one)"))] = 8080
    timezone: Annotated[str, BeforeValidator(_zone)] = "UTC"

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of times in the chat."""
        return ZoneInfo(self.timezone)

    @property
    def own_exchange(self) -> bool:
        """True when the paper exchange of this process is traded on, and none elsewhere."""
        return self.exchange == "paper" and self.bybit_rest_url is None

    @property
    def keys(self) -> tuple[str, str]:
        """Key and secret of the exchange; the paper exchange takes `paper`, `paper`."""
        key, secret = self.bybit_key, self.bybit_secret
        return key.get_secret_value() if key else "paper", secret.get_secret_value() if secret else "paper"


def read_settings(env_file: Path = Path(".env")) -> Settings:
    """The environment over `env_file` (which may be missing); `Misconfigured` names every problem at once."""
    problems = _env_file_problems(env_file)
    try:
        settings = Settings(_env_file=env_file)  # type: ignore[call-arg]  # pydantic-settings' own argument
    except ValidationError as error:
        problems += [_env_problem(each["loc"], each["msg"]) for each in error.errors(include_input=False)]
    else:
        problems += _contradictions(settings)
        if not problems:
            return settings
    raise Misconfigured("\n".join(problems))


def model_keys(settings: Settings) -> tuple[Key, ...]:
    """Every key of a model's provider: HF_TOKEN, GEMINI_API_KEY and the lines of KEY_FILE.

    `Misconfigured` names the variable or the line of what is wrong, never its text.
    """
    lines = _file_text(settings.key_file) if settings.key_file else ""
    if lines is None:
        raise Misconfigured("KEY_FILE: is not there: make the file, or leave it empty")
    try:
        return keys_of(_revealed(settings.hf_token), _revealed(settings.gemini_api_key), lines.splitlines())
    except BadInput as error:
        raise Misconfigured(str(error)) from None


def _revealed(secret: SecretStr | None) -> tuple[str, ...]:
    return (secret.get_secret_value(),) if secret else ()


def exposed_key_file(settings: Settings) -> str:
    """What to do when others than its owner can read KEY_FILE; empty when they cannot, or there is none."""
    if settings.key_file is None or os.name == "nt" or not settings.key_file.stat().st_mode & 0o077:
        return ""
    return f"others on this machine can read KEY_FILE: chmod 600 {settings.key_file}"


def _contradictions(settings: Settings) -> list[str]:
    """Settings that are sound one by one and do not go together."""
    problems = []
    real = settings.exchange != "paper"
    for name, value in (("BYBIT_KEY", settings.bybit_key), ("BYBIT_SECRET", settings.bybit_secret)):
        if real and value is None:
            problems.append(f"{name} is not set: EXCHANGE={settings.exchange} needs a key of that exchange")
    if (settings.bybit_key is None) is not (settings.bybit_secret is None) and not real:
        problems.append("BYBIT_KEY and BYBIT_SECRET belong together: set both, or neither")
    if settings.bybit_ws_url and not settings.bybit_rest_url:
        problems.append("BYBIT_WS_URL is set without BYBIT_REST_URL: set both, or neither")
    if settings.feed_ws_url and not settings.feed_rest_url:
        problems.append("FEED_WS_URL is set without FEED_REST_URL: set both, or neither")
    try:
        model_keys(settings)
    except Misconfigured as error:
        problems.append(str(error))
    return problems


def _env_problem(loc: tuple[int | str, ...], why: str) -> str:
    return f"{str(loc[0]).upper()}: {why}"


def _env_file_problems(path: Path) -> list[str]:
    """Lines that are no assignments, and names that were probably meant to be another."""
    problems = []
    known = [name.upper() for name in Settings.model_fields]
    for binding in parse_stream(io.StringIO(_file_text(path) or "")):
        if binding.error:
            problems.append(f"{path}: line {binding.original.line} is not of the form NAME=value")
        elif binding.key and binding.key not in known:
            close = difflib.get_close_matches(binding.key.upper(), known, n=1, cutoff=0.8)
            if close:
                problems.append(f"{path}: {_shown(binding.key)}: unknown name (did you mean {close[0]}?)")
    return problems


def _file_text(path: Path) -> str | None:
    """A text file's content, None when there is no such file; `Misconfigured` when it cannot be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name is not possible"
        raise Misconfigured(f"{path} cannot be read: {reason}") from error
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise Misconfigured(f"{path} begins with a byte order mark: save it as UTF-8 without one")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Misconfigured(f"{path}: line {line} is not UTF-8: save the file as UTF-8") from None


def _shown(name: str) -> str:
    """A name from a file as it may stand in a message: printable and short."""
    name = name if name.isprintable() else ascii(name)
    return name if len(name) <= 40 else name[:39] + "…"


# config.json


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketTerms(Parameters):
    """The synthetic market that paper trading runs on when no candle file is named."""

    seed: int = param(48, "seed of the synthetic market: the same seed, the same prices")
    speed: float = param(14400.0, "market time over wall time; 0 is as fast as the engine follows")


@dataclass(frozen=True, slots=True)
class _Span(Range):
    """A range with an upper end."""

    most: float = math.inf

    def problem(self, value: float) -> str | None:
        """Why `value` is refused, or None."""
        if value > self.most:
            return f"must be at most {self.most:g}"
        return Range.problem(self, value)


def _between(default: float, doc: str, span: _Span) -> Any:
    return field(default=default, metadata={"range": span, "doc": doc})


@dataclass(frozen=True, slots=True, kw_only=True)
class AskingTerms(Parameters):
    """What a day of asking models may cost, and how long an answer is waited for."""

    daily_usd: float = param(1.0, "USD that models may cost a day; beyond it nobody is asked")
    daily_tokens: int = param(300_000, "tokens a day, in and out; beyond them nobody is asked", least=1)
    council_seconds: float = _between(25.0, "deadline of the whole council", _Span(0.0, True, 120.0))
    agent_seconds: float = _between(10.0, "deadline of one agent", _Span(0.0, True, 60.0))
    attempt_seconds: float = _between(8.0, "deadline of one request", _Span(0.0, True, 60.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTerms(Parameters):
    """The numbers of one agent's model; prices are USD for a million tokens."""

    max_tokens: int = _between(2048, "most tokens of an answer, thinking included", _Span(256, False, 65_536))
    temperature: float = _between(0.2, "0 always takes the likeliest word", _Span(0.0, False, 2.0))
    price_in: float = _between(0.0, "USD for a million tokens of the question", _Span(0.0, False, 1000.0))
    price_out: float = _between(0.0, "USD for a million tokens of the answer", _Span(0.0, False, 1000.0))


GEMINI_TOKENS = 2048  # thinking counts against them, and less leaves nothing for the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class CouncilConfig:
    """Who decides, by which models (by agent; one that config.json does not name is missing), and within which bounds.

    `mode` is `auto` or one of `trading.council.MODES`; `effective_mode` resolves it.
    """

    mode: str = AUTO
    agents: Mapping[str, AgentModel] = field(default_factory=dict)
    terms: AskingTerms = field(default_factory=AskingTerms)


def effective_mode(asked: str | None, council: CouncilConfig, keys: Collection[Key]) -> str:
    """The mode that is meant: `asked` (COUNCIL_MODE), else config.json's; `auto` is strict if it can be, else rules.

    `Misconfigured` when that mode lacks a model or a key.
    """
    wanted = asked or council.mode
    if wanted == AUTO:
        return "rules" if missing_for("strict", council, keys) else "strict"
    if missing := missing_for(wanted, council, keys):
        where = "COUNCIL_MODE" if asked else "config.json: council.mode"
        raise Misconfigured(f"{where}={wanted} {missing}")
    return wanted


def missing_for(mode: str, council: CouncilConfig, keys: Collection[Key]) -> str:
    """What a mode lacks, as the end of a sentence about it and with what to do; empty when it can be.

    `degraded` replaces a missing Quant or Strategist, so that only the Risk Manager must be there.
    """
    if mode not in MODEL_MODES:
        return ""
    agents = ("risk_manager",) if mode == "degraded" else AGENTS
    if unnamed := [agent for agent in agents if agent not in council.agents]:
        return f"needs a model for {_named(unnamed)}: write council.{unnamed[0]} into config.json"
    held = {key.provider for key in keys}
    without: dict[str, list[str]] = {}
    for agent in agents:
        if (provider := council.agents[agent].provider) not in held:
            without.setdefault(VARIABLES[provider], []).append(agent)
    if not without:
        return ""
    needs = " and ".join(f"{variable} for {_named(names)}" for variable, names in without.items())
    return f"needs {needs}: write it into .env, or the key into KEY_FILE"


def _named(agents: Sequence[str]) -> str:
    return " and ".join(f"the {agent.replace('_', ' ').title()}" for agent in agents)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatConfig:
    """How the chat looks and what it says by itself: the charts' theme, kinds of message that differ from the default,
    and the hour (of the user's zone) of the daily report."""

    theme: Theme = "dark"
    push: Mapping[str, Push] = field(default_factory=dict)
    report_hour: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyChoice:
    """A strategy by name, with its parameters."""

    name: str = "ema_trend"
    parameters: Parameters = field(default_factory=lambda: strategy_named("ema_trend").parameters())

    @property
    def strategy(self) -> Strategy:
        """The strategy itself."""
        strategy: Strategy = strategy_named(self.name)(self.parameters)
        return strategy

    def renamed(self, name: str) -> StrategyChoice:
        """This choice if it is of that strategy already, else that strategy with its defaults."""
        return self if name == self.name else StrategyChoice(name=name, parameters=strategy_named(name).parameters())


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingConfig:
    """How to trade: `config.json`, checked. `instruments` holds every known symbol with its overrides.

    `strategy_name` with `parameters` is for every symbol that `strategies` does not give one of its own.
    """

    symbols: tuple[str, ...] = ("BTCUSDT",)
    timeframe: int = 240
    strategy_name: str = "ema_trend"
    parameters: Parameters = field(default_factory=lambda: strategy_named("ema_trend").parameters())
    strategies: Mapping[str, StrategyChoice] = field(default_factory=dict)
    rules: TradeRules = field(default_factory=TradeRules)
    terms: AccountTerms = field(default_factory=AccountTerms)
    limits: Limits = field(default_factory=Limits)
    council: CouncilConfig = field(default_factory=CouncilConfig)
    market: MarketTerms = field(default_factory=MarketTerms)
    chat: ChatConfig = field(default_factory=ChatConfig)
    instruments: Mapping[str, Instrument] = field(default_factory=lambda: dict(KNOWN))

    @property
    def shared(self) -> StrategyChoice:
        """The strategy of every symbol without one of its own."""
        return StrategyChoice(name=self.strategy_name, parameters=self.parameters)

    @property
    def own(self) -> dict[str, StrategyChoice]:
        """The traded symbols that have a strategy of their own."""
        return {symbol: self.strategies[symbol] for symbol in self.symbols if symbol in self.strategies}

    def choice(self, symbol: str) -> StrategyChoice:
        """The strategy of a symbol, by name and parameters."""
        return self.strategies.get(symbol) or self.shared

    def strategy_for(self, symbol: str) -> Strategy:
        """The strategy that a symbol is traded by."""
        return self.choice(symbol).strategy

    @property
    def strategy(self) -> Strategy:
        """The strategy of every symbol without one of its own."""
        return self.shared.strategy

    @property
    def interval(self) -> timedelta:
        """Length of one bar."""
        return timedelta(minutes=self.timeframe)

    def params(self, symbol: str) -> dict[str, Any]:
        """Every name of the specification with its value: strategy, account and the symbol's instrument."""
        instrument = self.instruments[symbol]
        of_symbol = {name: float(getattr(instrument, name)) for name in InstrumentTerms.names()}
        of_strategy = self.choice(symbol).parameters.as_dict()
        return of_strategy | self.rules.as_dict() | self.terms.as_dict() | of_symbol


TRAILING = ("take_profit_r", "trail_start_r", "trail_step_r", "trail_lag_r")
ENTRY = ("entry_offset", "entry_ttl_bars", "runaway_r", "cooldown_bars")
GROUPS = (
    *("symbols", "timeframe", "strategy", "strategies", "entry", "trailing"),
    *("risk", "limits", "council", "market", "chat", "instruments"),
)
FRACTIONS = {
    *("risk_per_trade", "max_open_risk", "max_drawdown"),
    *("entry_offset", "maker_fee", "taker_fee", "slippage"),
}
_OF_AGENT = {
    "provider": f"write one of {', '.join(PROVIDERS)}",
    "model": "write the id of the model",
    "price_in": "write USD for a million tokens of the question, 0 where it is free",
    "price_out": "write USD for a million tokens of the answer, 0 where it is free",
}
_MODEL_IDS = {
    "huggingface": (re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(:[\w.-]{1,48})?", re.ASCII), "owner/model:provider"),
    "gemini": (re.compile(r"[\w.-]{1,96}", re.ASCII), "gemini-…-flash"),
}
_KINDS = {bool: "true or false", str: "text", list: "a list", dict: "a group", type(None): "null"}


def read_config(path: Path = Path("config.json")) -> TradingConfig:
    """`config.json`, checked whole; what it leaves out keeps its default. `Misconfigured` names every problem."""
    text = _file_text(path)
    if text is None:
        raise Misconfigured(f"{path} is missing: restore it, or write {{}} into it to take the defaults")
    check = _Check()
    try:
        raw = json.loads(text, object_pairs_hook=check.pairs)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise Misconfigured(f"{path} is not valid JSON: {where}: {error.msg}") from None
    except (ValueError, RecursionError):
        raise Misconfigured(f"{path} is not valid JSON: a number too long or groups too deep") from None
    config = check.config(raw)
    if check.problems:
        raise Misconfigured("\n".join(f"{path}: {problem}" for problem in check.problems))
    return config


class _Check:
    """One reading of a configuration; what is wrong collects in `problems`, and defaults stand in for it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def pairs(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """A JSON object; a name that appears twice would otherwise silently count once."""
        names = [name for name, _ in pairs]
        twice = dict.fromkeys(name for name in names if names.count(name) > 1)
        self.problems += [f"{_shown(name)}: appears twice in one group: keep one" for name in twice]
        return dict(pairs)

    def config(self, raw: object) -> TradingConfig:
        """The configuration; meaningless where there were problems."""
        if not isinstance(raw, dict):
            self.problems.append("must be one JSON object, beginning with {")
            return TradingConfig()
        self.unknown("", raw, GROUPS)
        entry = self.values("entry", self.group(raw, "entry"), TradeRules, ENTRY)
        trailing = self.values("trailing", self.group(raw, "trailing"), TradeRules, TRAILING)
        shared = self.strategy("strategy", self.group(raw, "strategy"), StrategyChoice())
        config = TradingConfig(
            symbols=self.symbols(raw.get("symbols", ["BTCUSDT"])),
            timeframe=self.timeframe(raw.get("timeframe", 240)),
            strategy_name=shared.name,
            parameters=shared.parameters,
            strategies=self.strategies(self.group(raw, "strategies"), shared),
            rules=TradeRules(**entry, **trailing),
            terms=AccountTerms(**self.values("risk", self.group(raw, "risk"), AccountTerms)),
            limits=Limits(**self.values("limits", self.group(raw, "limits"), Limits)),
            council=self.council(self.group(raw, "council")),
            market=MarketTerms(**self.values("market", self.group(raw, "market"), MarketTerms)),
            chat=self.chat(self.group(raw, "chat")),
            instruments=self.instruments(self.group(raw, "instruments")),
        )
        self.problems += contradictions(config)
        return config

    def group(self, raw: Mapping[str, Any], name: str, path: str = "") -> dict[str, Any]:
        """A group of names; empty when it is left out."""
        value = raw.get(name, {})
        if isinstance(value, dict):
            return value
        self.problems.append(f"{path or name}: must be a group {{…}}, not {_kind(value)}")
        return {}

    def unknown(self, path: str, given: Mapping[str, Any], known: Collection[str]) -> None:
        """Every name that is not known, with the one that was perhaps meant or the group it belongs into."""
        for name in given:
            if name not in known:
                hint = self.elsewhere(name) or near(name, known)
                self.problems.append(f"{path}{_shown(name)}: unknown name{hint}")

    def values(
        self, path: str, given: Mapping[str, Any], kind: type[Parameters], names: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The sound values of a group of parameters."""
        known = tuple(names) or kind.names()
        self.unknown(f"{path}.", given, known)
        return self.sound(path, given, kind, known)

    def sound(
        self, path: str, given: Mapping[str, Any], kind: type[Parameters], known: Sequence[str]
    ) -> dict[str, Any]:
        """Those of the known names whose values can be."""
        sound = {}
        for spec in dataclasses.fields(kind):
            if spec.name not in given or spec.name not in known:
                continue
            value = given[spec.name]
            if why := flaw(spec, value) or no_fraction(spec.name, value):
                self.problems.append(f"{path}.{spec.name}: {why}")
            else:
                sound[spec.name] = value
        return sound

    def elsewhere(self, name: str) -> str:
        """A hint when a name belongs to another group."""
        groups = {
            "strategy": [name for kind in strategies().values() for name in kind.parameters.names()],
            "entry": ENTRY,
            "trailing": TRAILING,
            "risk": AccountTerms.names(),
            "limits": Limits.names(),
            "council": AskingTerms.names(),
            "council.AGENT": ("provider", "model", *AnswerTerms.names()),
            "market": MarketTerms.names(),
            "instruments.SYMBOL": InstrumentTerms.names(),
        }
        return next((f" (it belongs into {group})" for group, names in groups.items() if name in names), "")

    def symbols(self, given: object) -> tuple[str, ...]:
        """Known symbols, none twice, one at least."""
        if not isinstance(given, list) or not given:
            self.problems.append('symbols: must be a list of one symbol or more, such as ["BTCUSDT"]')
            return ()
        for place, symbol in enumerate(given):
            if not isinstance(symbol, str):
                self.problems.append(f"symbols[{place}]: must be text, not {_kind(symbol)}")
            elif symbol not in KNOWN:
                self.problems.append(f"symbols[{place}]: unknown symbol{_known_symbols(symbol)}")
            elif symbol in given[:place]:
                self.problems.append(f"symbols[{place}]: {symbol} is listed twice")
        return tuple(given)

    def timeframe(self, given: object) -> int:
        """Minutes of one bar."""
        if isinstance(given, bool) or not isinstance(given, int) or given not in TIMEFRAMES:
            choice = ", ".join(map(str, TIMEFRAMES))
            self.problems.append(f"timeframe: must be a number of minutes: one of {choice}")
            return 240
        return given

    def strategy(self, path: str, given: Mapping[str, Any], ground: StrategyChoice) -> StrategyChoice:
        """A strategy by name, its values over those of `ground` where that is the same strategy."""
        known, name = strategies(), given.get("name", ground.name)
        if not isinstance(name, str) or name not in known:
            hint = near(str(name), known)
            self.problems.append(f"{path}.name: must be one of {', '.join(sorted(known))}{hint}")
            return ground  # which names it takes is not known either
        chosen = ground.renamed(name)
        rest = {key: value for key, value in given.items() if key != "name"}
        names = chosen.parameters.names()
        for key in rest:
            if key not in names:
                hint = self.of_another(key, name) or near(key, ("name", *names))
                self.problems.append(f"{path}.{_shown(key)}: unknown name{hint}")
        values = self.sound(path, rest, type(chosen.parameters), names)
        return StrategyChoice(name=name, parameters=chosen.parameters.changed(values))

    def of_another(self, key: str, name: str) -> str:
        """A hint when a name is no parameter of this strategy, but one of another or of another group."""
        owners = _owners(key)
        return f" ({name} does not have it, {owners} has)" if owners else self.elsewhere(key)

    def strategies(self, given: Mapping[str, Any], shared: StrategyChoice) -> dict[str, StrategyChoice]:
        """Strategies of their own by symbol; what one leaves out is the shared one's, if it is the same strategy."""
        own = {}
        for symbol in given:
            path = f"strategies.{_shown(symbol)}"
            if symbol not in KNOWN:
                self.problems.append(f"{path}: unknown symbol{_known_symbols(symbol)}")
            own[symbol] = self.strategy(path, self.group(given, symbol, path), shared)
        return own

    def council(self, given: Mapping[str, Any]) -> CouncilConfig:
        """Who decides, by which models, within which bounds."""
        self.unknown("council.", given, ("mode", *AGENTS, *AskingTerms.names()))
        mode = self.one_of("council.mode", given.get("mode", AUTO), COUNCILS)
        agents = {name: model for name in AGENTS if name in given and (model := self.agent(name, given))}
        terms = AskingTerms(**self.sound("council", given, AskingTerms, AskingTerms.names()))
        return CouncilConfig(mode=mode, agents=agents, terms=terms)

    def agent(self, name: str, council: Mapping[str, Any]) -> AgentModel | None:
        """An agent's model; None where its group cannot be read. What costs money is never taken from a default."""
        path, given = f"council.{name}", self.group(council, name, f"council.{name}")
        if not isinstance(council[name], dict):
            return None
        self.unknown(f"{path}.", given, (*_OF_AGENT, *AnswerTerms.names()))
        self.problems += [f"{path}.{each}: is missing: {why}" for each, why in _OF_AGENT.items() if each not in given]
        provider = self.one_of(f"{path}.provider", given.get("provider", PROVIDERS[0]), PROVIDERS)
        terms = AnswerTerms(**self.sound(path, given, AnswerTerms, AnswerTerms.names()))
        if provider == "gemini" and terms.max_tokens < GEMINI_TOKENS:
            why = f"must be at least {GEMINI_TOKENS} for gemini: its thinking counts too"
            self.problems.append(f"{path}.max_tokens: {why}")
        model = self.model(f"{path}.model", given["model"], provider) if "model" in given else ""
        return AgentModel(agent=name, provider=provider, model=model, **terms.as_dict())

    def model(self, path: str, given: object, provider: str) -> str:
        """A model's id as its provider writes it."""
        form, example = _MODEL_IDS[provider]
        if isinstance(given, str) and form.fullmatch(given):
            return given
        self.problems.append(f"{path}: must be an id of {provider} such as {example}")
        return ""

    def one_of(self, path: str, given: object, known: Sequence[str]) -> str:
        """One of these words."""
        if isinstance(given, str) and given in known:
            return given
        self.problems.append(f"{path}: must be one of {', '.join(known)}{near(str(given), known)}")
        return known[0]

    def instruments(self, given: Mapping[str, Any]) -> dict[str, Instrument]:
        """Every known instrument, with what the configuration overrides."""
        instruments = dict(KNOWN)
        for symbol in given:
            path = f"instruments.{_shown(symbol)}"
            values = self.values(path, self.group(given, symbol, path), InstrumentTerms)
            if symbol not in KNOWN:
                self.problems.append(f"{path}: unknown symbol{_known_symbols(symbol)}")
                continue
            instruments[symbol] = _overridden(KNOWN[symbol], values)
        return instruments

    def chat(self, given: Mapping[str, Any]) -> ChatConfig:
        """The chat's looks and pushes."""
        self.unknown("chat.", given, ["theme", "push", "report_hour"])
        theme, hour = given.get("theme", "dark"), given.get("report_hour", 8)
        if theme not in ("dark", "light"):
            self.problems.append("chat.theme: must be dark or light")
            theme = "dark"
        if isinstance(hour, bool) or not isinstance(hour, int) or not 0 <= hour <= 23:
            self.problems.append("chat.report_hour: must be an hour from 0 to 23")
            hour = 8
        push = self.group(given, "push", "chat.push")
        self.unknown("chat.push.", push, PUSHED)
        for kind, how in push.items():
            if how not in ("on", "silent", "off"):
                self.problems.append(f"chat.push.{_shown(kind)}: must be on, silent or off")
        return ChatConfig(theme=theme, push=dict(push), report_hour=hour)


def contradictions(config: TradingConfig) -> list[str]:
    """Settings that are sound alone and let no trade through together, one line each."""
    limits, found = config.limits, []
    if config.terms.risk_per_trade > limits.max_open_risk:
        found.append("limits.max_open_risk: is below risk.risk_per_trade: no entry could pass")
    if limits.min_stop_atr > limits.max_stop_atr:
        found.append("limits.min_stop_atr: is above limits.max_stop_atr: no entry could pass")
    return found + _waits(config.council.terms)


def _waits(terms: AskingTerms) -> list[str]:
    """Deadlines that do not fit into each other: the Risk Manager is asked after the other two, who answer at once."""
    found = []
    if terms.attempt_seconds > terms.agent_seconds:
        found.append("council.attempt_seconds: is above council.agent_seconds: no request could use it")
    if 2 * terms.agent_seconds > terms.council_seconds:
        found.append("council.council_seconds: is below twice council.agent_seconds: two are asked one after the other")
    return found


def _owners(name: str) -> str:
    """The strategies that have a parameter of that name, in words; empty when none does."""
    return " and ".join(sorted(each for each, kind in strategies().items() if name in kind.parameters.names()))


def _of_no_use(name: str) -> str | None:
    """Why a parameter of a strategy cannot be set where no symbol is traded by that strategy."""
    owners = _owners(name)
    return f"is a parameter of {owners}, and nothing is traded by it here" if owners else None


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a number")


def _known_symbols(symbol: str) -> str:
    return near(symbol.upper(), KNOWN) or f" (one of {', '.join(KNOWN)})"


def flaw(spec: dataclasses.Field[Any], value: object) -> str | None:
    """Why a value cannot be that parameter, without the value."""
    whole = spec.type == "int"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"must be a {'whole ' if whole else ''}number, not {_kind(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return "must be a finite number"
    if whole and isinstance(value, float):
        return "must be a whole number"
    if why := too_large(spec.name, value):
        return why
    allowed: Range = spec.metadata["range"]
    return allowed.problem(value)


def no_fraction(name: str, value: float) -> str | None:
    """Why a value cannot be that fraction; None for a name that is none."""
    return "must be a fraction of 1: 0.01 is one percent" if name in FRACTIONS and value > 1 else None


def _overridden(instrument: Instrument, values: Mapping[str, float]) -> Instrument:
    changes: dict[str, Any] = {name: exact(value) for name, value in values.items()}
    return dataclasses.replace(instrument, **changes)


# --set


def with_strategy(config: TradingConfig, name: str) -> TradingConfig:
    """The configuration with every symbol under that strategy; `BadInput` when there is none of that name.

    A symbol keeps its own parameters where it has that strategy already; else it takes the shared ones if they are
    of that strategy, else the strategy's defaults.
    """
    strategy_named(name)
    shared = config.shared.renamed(name)
    own = {symbol: choice for symbol, choice in config.strategies.items() if choice.name == name}
    return dataclasses.replace(config, strategy_name=name, parameters=shared.parameters, strategies=own)


def apply_overrides(config: TradingConfig, items: Sequence[str]) -> TradingConfig:
    """The configuration with `name=value` pairs of `--set` applied; `BadInput` names all problems in one line.

    Names are those of the specification: of the strategies that the symbols are traded by (then for each that has
    it), account and instrument (then for every symbol).
    """
    used = list(dict.fromkeys(type(config.choice(symbol).parameters) for symbol in config.symbols))
    specs: dict[str, dataclasses.Field[Any]] = {}
    for kind in (*used, TradeRules, AccountTerms, InstrumentTerms):
        specs = {spec.name: spec for spec in dataclasses.fields(kind)} | specs
    values: dict[str, float] = {}
    problems = []
    for item in items:
        name, equals, text = (piece.strip() for piece in item.partition("="))
        if why := _item_flaw(name, equals, text, specs, values):
            problems.append(f"--set {_shown(name or item)}: {why}")
        else:
            values[name] = parsed(specs[name], text)
    if problems:
        raise BadInput("; ".join(problems))
    of_instrument = {name: value for name, value in values.items() if name in InstrumentTerms.names()}
    return dataclasses.replace(
        config,
        parameters=_changed(config.parameters, values),
        strategies={
            symbol: dataclasses.replace(choice, parameters=_changed(choice.parameters, values))
            for symbol, choice in config.strategies.items()
        },
        rules=_changed(config.rules, values),
        terms=_changed(config.terms, values),
        instruments={key: _overridden(each, of_instrument) for key, each in config.instruments.items()},
    )


def _changed(group: P, values: Mapping[str, float]) -> P:
    return group.changed({name: value for name, value in values.items() if name in group.names()})


def _item_flaw(
    name: str, equals: str, text: str, specs: Mapping[str, dataclasses.Field[Any]], seen: Collection[str]
) -> str | None:
    """Why one `name=value` is refused, or None."""
    if not name or not equals or not text:
        return "write name=value"
    if name in {*Limits.names(), *MarketTerms.names(), *AskingTerms.names()}:
        return "is no name of the specification: change it in config.json"
    if name not in specs:
        return _of_no_use(name) or f"unknown name{near(name, specs)}"
    if name in seen:
        return "is set twice: name it once"
    if not _TYPED.fullmatch(text):
        return "must be a number"
    return flaw(specs[name], parsed(specs[name], text))


def parsed(spec: dataclasses.Field[Any], text: str) -> float:
    """The number that was typed; 200.0 is a whole number too."""
    value = float(text)
    return int(value) if spec.type == "int" and value.is_integer() else value
