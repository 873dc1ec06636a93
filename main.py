"""Conclave's composition root and command line: what is plugged into what, and what a user may ask for.

Nothing imports this module. Every mode runs the same trader; they differ by what is built here.
Exit codes: 0 done, 2 the user's input is wrong, 75 another instance runs, 78 bad configuration, 1 anything else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import gc
import hashlib
import json
import logging
import math
import os
import secrets
import signal
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar

from trading import crashpoints
from trading.errors import AnotherInstance, BadInput, ConclaveError, Misconfigured

if TYPE_CHECKING:
    from bot.office import Building, Office
    from bot.ports import Adviser
    from bot.settings import Settings, TradingConfig
    from bot.terminal import Display
    from research.candidates import Candidate, Hearing, Track
    from research.candles import CandleFile
    from research.fetch import Fetched
    from research.grid import Seek
    from research.replay import Replay
    from research.report import Outcome
    from research.results import GridTable, Report, Result
    from research.sources import CandleSource, Origin
    from research.studio import Studio
    from storage.council import Dossier
    from storage.database import Database
    from storage.journal import SqlJournal
    from trading.council.guards import Guards
    from trading.council.packet import PacketTerms
    from trading.council.questions import Panel
    from trading.desk import Desk, Retune
    from trading.events import ShadowEnded
    from trading.exchange.bybit.exchange import BybitExchange
    from trading.exchange.bybit.history import BybitHistory
    from trading.exchange.simulated.ledger import LedgerFile
    from trading.exchange.simulated.live import LiveMarket
    from trading.exchange.simulated.market import Feed, FollowedPace, Market, SimulatedClock
    from trading.exchange.simulated.pace import WirePace
    from trading.exchange.simulated.service import PaperExchange
    from trading.exchange.simulated.venue import Venue
    from trading.grades import AgentGrade, Arm, Grade, Graded, Judged
    from trading.laboratory import Kind, Laboratory, Progress, Study
    from trading.llm.budget import Spent
    from trading.llm.cassette import Cassette
    from trading.llm.doctor import Finding
    from trading.llm.keys import Key
    from trading.llm.models import Models
    from trading.model import Candle, CandleSeries, Instrument, Side
    from trading.portfolio import Book
    from trading.ports import BarsClosed, Broker, Clock, Council, Journal, MarketData, Pace
    from trading.signals import BySymbol, SignalSource
    from trading.trader import QueueInbox, Trader

T = TypeVar("T")

HERE = Path(__file__).resolve().parent
WARM_UP_BARS = 2400
SYNTHETIC_BARS = 8192
SPARKLINE_BARS = 240
QUESTIONS_AT_ONCE = 3  # of people, to the council: each costs money
MIRRORED = 16  # candidates that the doctor turns upside down
HIGHER = "raise council.daily_usd or council.daily_tokens in config.json"
PROGRESS_SECONDS = 2.0  # between lines of progress off a terminal


# ---------------------------------------------------------------------------------------------- the command line


class Parser(argparse.ArgumentParser):
    """Refuses in one line: argparse's own usage block is for `--help`."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """The commands of the program."""
    parser = Parser(prog="main.py", description="Conclave trades Bybit futures and lives in a Telegram chat.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser)

    run = commands.add_parser("run", help="everything: exchange, trader, council, chat (the default command)")
    candle_options(run)
    speed_option(run)
    shown = run.add_mutually_exclusive_group()
    shown.add_argument("--dashboard", action="store_true", help="a picture on a terminal, else plain lines (default)")
    shown.add_argument("--no-dashboard", action="store_true", help="neither")
    run.set_defaults(action=run_command)

    replay = commands.add_parser("replay", help="candle files through strategy, council and venue; no chat")
    candle_options(replay)
    replay.add_argument("--record", type=Path, metavar="FILE", help="keep what the models say in a cassette")
    replay.set_defaults(action=replay_command)

    council = commands.add_parser("council", help="grade it, examine its models, print a decision, keep a cassette")
    council_options(council.add_subparsers(dest="task", required=True, parser_class=Parser))

    llm = commands.add_parser("llm", help="a scripted model server that speaks for Hugging Face and Gemini")
    llm.add_argument("--port", type=int, required=True)
    llm.add_argument("--script", type=Path, metavar="FILE", help="what goes wrong, and when (docs/rehearsal.md)")
    llm.add_argument("--seed", type=int, default=0)
    llm.set_defaults(action=llm_command)

    exchange = commands.add_parser("exchange", help="the paper exchange's wire face alone")
    market_options(exchange)
    speed_option(exchange)
    exchange.add_argument("--port", type=int, required=True)
    exchange.add_argument("--history", type=int, default=0, metavar="BARS", help="bars that are history at the start")
    exchange.set_defaults(action=exchange_command)

    phone = commands.add_parser("phone", help="the embedded Telegram alone")
    phone.add_argument("--port", type=int, required=True)
    phone.set_defaults(action=phone_command)

    laboratory_commands(commands)
    db = commands.add_parser("db", help="the database")
    db.add_argument("task", choices=("migrate", "check", "backup", "restore"))
    db.add_argument("file", nargs="?", type=Path, help="the backup, for backup and restore")
    db.set_defaults(action=db_command)
    return parser


def laboratory_commands(commands: argparse._SubParsersAction[Parser]) -> None:
    """`fetch`, `backtest` and `optimize`."""
    fetch = commands.add_parser("fetch", help="candles and funding from Bybit into the archive")
    fetch.add_argument("symbol", metavar="SYMBOL")
    fetch.add_argument("--interval", type=int, default=240, metavar="MINUTES", help="bar length (default: 240)")
    fetch.add_argument("--days", type=int, default=365, help="how far back from now (default: 365)")
    fetch.set_defaults(action=fetch_command)

    backtest = commands.add_parser("backtest", help="one strategy over one market's candles, with a verdict")
    study_options(backtest)
    backtest.add_argument("--council", metavar="MODE", help="rules: with the rules council, beside the strategy alone")
    backtest.set_defaults(action=backtest_command)

    optimize = commands.add_parser("optimize", help="a grid search: the best parameters, and how far to believe them")
    study_options(optimize)
    optimize.add_argument("--grid", action="extend", nargs="+", default=[], metavar="name=a,b,c|start:stop:step")
    optimize.add_argument("--objective", default="sharpe", metavar="NAME", help="sharpe, return, calmar or expectancy")
    optimize.add_argument("--jobs", type=int, metavar="N", help="cores (default: all of them)")
    optimize.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler, such as tcp://10.0.0.5:8786")
    optimize.add_argument("--walk-forward", type=int, default=0, metavar="K", help="also choose and test in K steps")
    optimize.set_defaults(action=optimize_command)


def council_options(tasks: argparse._SubParsersAction[Parser]) -> None:
    """The tasks of `council`."""
    grade = tasks.add_parser("eval", help="how good it is: on what it has decided, or on candle files")
    candle_options(grade)
    grade.add_argument("--record", type=Path, metavar="FILE", help="keep what the models say in a cassette, or go on")
    grade.add_argument("--out", type=Path, metavar="DIR", help="where the chart and the workbook go")
    grade.set_defaults(action=council_eval_command)
    doctor = tasks.add_parser("doctor", help="asks every model once: keys, ids, answers, time, price")
    doctor.add_argument("--mirror", action="store_true", help="also turns the market upside down: every vote must turn")
    doctor.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    doctor.set_defaults(action=council_doctor_command)
    show = tasks.add_parser("show", help="one decision, from the packets to the order")
    show.add_argument("id", type=int, metavar="ID")
    show.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")
    show.set_defaults(action=council_show_command)
    record = tasks.add_parser("record", help="a cassette of everything the models have said in a running market")
    record.add_argument("--out", type=Path, required=True, metavar="FILE")
    record.set_defaults(action=council_record_command)


def candle_options(parser: argparse.ArgumentParser) -> None:
    """What `run`, `replay` and `council eval` share."""
    market_options(parser)
    strategy_option(parser)
    parser.add_argument("--council", metavar="MODE", help="rules, strict, degraded, shadow, off, or a cassette")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")


def study_options(parser: argparse.ArgumentParser) -> None:
    """What `backtest` and `optimize` share."""
    parser.add_argument("market", nargs="?", metavar="SYMBOL", help="from the archive, else the synthetic history")
    parser.add_argument("--candles", metavar="FILE", help="a candle file instead")
    parser.add_argument("--symbol", help="the symbol of the candle file")
    parser.add_argument("--interval", type=int, metavar="MINUTES", help="bar length: the candles' own or a multiple")
    parser.add_argument("--days", type=int, metavar="N", help="the last N days only")
    parser.add_argument("--funding", metavar="FILE", help="funding rates by settlement")
    parser.add_argument("--set", action="append", default=[], metavar="name=value", dest="overrides")
    strategy_option(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the chart and the workbook go")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout and nothing else")


def strategy_option(parser: argparse.ArgumentParser) -> None:
    """What every symbol is traded by."""
    parser.add_argument("--strategy", metavar="NAME", help="for every symbol, instead of what config.json says")


def speed_option(parser: argparse.ArgumentParser) -> None:
    """How fast market time goes."""
    parser.add_argument("--speed", type=float, help="market time per wall time; 0 is as fast as the engine follows")


def market_options(parser: argparse.ArgumentParser) -> None:
    """What the market is made of."""
    parser.add_argument("--candles", action="extend", nargs="+", default=[], metavar="[SYMBOL=]FILE")
    parser.add_argument("--symbol", help="the symbol of the candle file")
    parser.add_argument("--interval", type=int, metavar="MINUTES", help="bar length, if not the file's spacing")
    parser.add_argument("--funding", action="append", default=[], metavar="[SYMBOL=]FILE")
    parser.add_argument("--set", action="append", default=[], metavar="name=value", dest="overrides")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; every failure is one line on stderr and an exit code."""
    logging.getLogger("dotenv").setLevel(logging.ERROR)  # a bad line of .env is told once, by us
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or (words[0].startswith("-") and words[0] not in {"-h", "--help"}):
        words.insert(0, "run")
    try:
        args = build_parser().parse_args(words)
        result: int = args.action(args)
        return result
    except SystemExit as leaving:  # argparse's --help
        return int(leaving.code or 0)
    except AnotherInstance as error:
        return fail(error, 75)
    except Misconfigured as error:
        return fail(error, 78)
    except BadInput as error:
        return fail(error, 2)
    except ConclaveError as error:
        return fail(error, 1)
    except KeyboardInterrupt:
        return fail("stopped", 1)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # a full or closed stdout, a folder that went away
        return fail(error, 1)


def fail(error: object, code: int) -> int:
    """Say what is wrong, one line for each problem."""
    for line in str(error).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return code


# -------------------------------------------------------------------------------------------------- what is asked


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which council is to decide: a mode, and the cassette that its models are. `aloud`: on the command line."""

    mode: str
    cassette: Path | None = None
    aloud: bool = False

    @property
    def name(self) -> str:
        """For a person."""
        return self.cassette.name if self.cassette else self.mode


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is traded, with what and by which rules: config.json, `--set` and the candle files taken together."""

    symbols: tuple[str, ...]
    interval: timedelta
    config: TradingConfig
    council: Asked
    files: tuple[CandleFile, ...]
    funding: Mapping[str, Mapping[int, Decimal]]
    funding_files: Mapping[str, Path]

    @property
    def instruments(self) -> dict[str, Instrument]:
        """Trading rules of the symbols that are traded."""
        return {symbol: self.config.instruments[symbol] for symbol in self.symbols}

    @property
    def params(self) -> dict[str, Any]:
        """Every name of the specification with its value for the first symbol.

        Of another symbol what differs by its strategy, as SYMBOL.name.
        """
        first, *others = self.symbols
        more = {f"{each}.{name}": value for each in others for name, value in self.of_strategy(each).items()}
        return self.config.params(first) | more

    def of_strategy(self, symbol: str) -> dict[str, Any]:
        """A symbol's strategy parameters; none where it is traded just like the first symbol."""
        choice = self.config.choice(symbol)
        return {} if choice == self.config.choice(self.symbols[0]) else choice.parameters.as_dict()

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the outcome on given candles."""
        parts = [
            [self.config.params(symbol) for symbol in self.symbols],
            [self.config.choice(symbol).name for symbol in self.symbols],
            [self.council.mode, str(self.council.cassette), str(self.interval), self.config.limits.as_dict()],
            [(file.series.symbol, file.sha256) for file in self.files],
            [(symbol, sorted(table.items())) for symbol, table in self.funding.items()],
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def make_plan(args: argparse.Namespace, settings: Settings, *, resampled: bool = False) -> Plan:
    """Read the configuration and the files that the arguments name; everything wrong is refused here.

    `resampled`: `--interval` may be a multiple of the files' own bar length.
    """
    from bot.settings import read_config
    from research.candles import load_funding

    written = read_config(config_file())
    files = load_files(args, written.instruments, resampled=resampled)
    symbols = tuple(file.series.symbol for file in files) or written.symbols
    config = configured(args, written, symbols)
    funding = funding_files(args.funding, symbols)
    return Plan(
        symbols=symbols,
        interval=files[0].series.interval if files else config.interval,
        config=config,
        council=asked_council(getattr(args, "council", None), settings, config),
        files=files,
        funding={symbol: load_funding(path) for symbol, path in funding.items()},
        funding_files=funding,
    )


def configured(args: argparse.Namespace, config: TradingConfig, symbols: tuple[str, ...]) -> TradingConfig:
    """The configuration for these symbols, with `--strategy` and `--set`."""
    from bot.settings import apply_overrides, with_strategy

    config = replace(config, symbols=symbols)
    name: str | None = getattr(args, "strategy", None)
    return apply_overrides(config if name is None else with_strategy(config, name), args.overrides)


def config_file() -> Path:
    """The folder's own config.json, else the one that came with the program."""
    own = Path("config.json")
    return own if own.exists() or own.is_symlink() else HERE / own


def asked_council(asked: str | None, settings: Settings, config: TradingConfig) -> Asked:
    """The council of `--council` (a mode or a cassette), else of COUNCIL_MODE, else of config.json."""
    from bot.settings import effective_mode, missing_for, model_keys
    from trading.council import MODEL_MODES, MODES
    from trading.parameters import near

    keys = model_keys(settings)
    if asked is None:
        return Asked(mode=effective_mode(settings.council_mode, config.council, keys))
    if asked in MODES:
        if missing := missing_for(asked, config.council, keys):
            raise BadInput(f"--council {asked} {missing}")
        return Asked(mode=asked, aloud=True)
    if not Path(asked).is_file():
        raise BadInput(f"--council {asked} is no mode{near(asked, MODES)} and no file: one of {', '.join(MODES)}")
    mode = settings.council_mode or config.council.mode
    return Asked(mode=mode if mode in MODEL_MODES else "strict", cassette=Path(asked), aloud=True)


def load_files(
    args: argparse.Namespace, known: Mapping[str, Instrument], *, resampled: bool = False
) -> tuple[CandleFile, ...]:
    """The candle files that were named, each symbol once, all of one bar length."""
    from research.candles import load_candles
    from research.sources import taken

    files: list[CandleFile] = []
    for word in args.candles:
        symbol, path = named(word, known)
        if args.symbol and len(args.candles) == 1:
            symbol = symbol or known_symbol(args.symbol, known)
        minutes = None if resampled else args.interval
        file = load_candles(path, symbol=symbol, interval_minutes=minutes, known_symbols=tuple(known))
        files.append(taken(file, args.interval, None) if resampled and args.interval else file)
    symbols = [file.series.symbol for file in files]
    if len(set(symbols)) != len(symbols):
        raise BadInput(f"{symbols[-1]} has more than one candle file: name each with SYMBOL=FILE")
    if len({file.series.interval for file in files}) > 1:
        raise BadInput("the candle files have different bar lengths: replay files of one length together")
    return tuple(files)


def named(word: str, known: Mapping[str, Instrument]) -> tuple[str | None, Path]:
    """`SYMBOL=FILE` or `FILE`; a path may hold an equals sign of its own."""
    head, mark, tail = word.partition("=")
    if mark and head.isalnum() and not Path(word).exists():
        return known_symbol(head, known), Path(tail)
    return None, Path(word)


def known_symbol(symbol: str, known: Mapping[str, Instrument]) -> str:
    """A symbol of the instruments list."""
    from trading.parameters import near

    if symbol not in known:
        raise BadInput(f"symbol {symbol!r} is not known{near(symbol, known)}: one of {', '.join(sorted(known))}")
    return symbol


def funding_files(words: Sequence[str], symbols: tuple[str, ...]) -> dict[str, Path]:
    """Files of funding series by symbol."""
    files: dict[str, Path] = {}
    for word in words:
        head, mark, tail = word.partition("=")
        symbol = head if mark and head in symbols else symbols[0]
        files[symbol] = Path(tail if symbol == head else word)
    return files


# ------------------------------------------------------------------------------------------ what is plugged together


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What a trader trades on: prices and orders of one account, time, pace, and what it is told."""

    market: MarketData
    broker: Broker
    clock: Clock
    pace: Pace
    inbox: QueueInbox
    quotes: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Whose trader it is: the account, its journal, and its book as folded up to `sequence`.

    `commit_behind`: the journal is a disk's, and a quiet close need not wait for it. `absent`: the exchange has not
    been met yet.
    """

    account: str
    badge: str
    journal: Journal
    book: Book
    sequence: int
    commit_behind: bool = False
    absent: bool = False


def make_desk(
    plan: Plan,
    floor: Floor,
    seat: Seat,
    source: SignalSource,
    instruments: Mapping[str, Instrument],
    retune: Retune | None = None,
    panel: Panel | None = None,
) -> Desk:
    """The trader's desk. `retune` makes parts for changed settings; without it they are fixed."""
    from trading.desk import Desk

    council, guards = voices(plan, panel)
    return Desk(
        account=seat.account,
        symbols=plan.symbols,
        interval=plan.interval,
        rules=plan.config.rules,
        terms=plan.config.terms,
        instruments=instruments,
        book=seat.book,
        journal=seat.journal,
        market=floor.market,
        broker=floor.broker,
        council=council,
        guards=guards,
        signals=source,
        clock=floor.clock,
        own_knife_bars=knife_bars(plan),
        retune=retune,
        absent=seat.absent,
        sequence=seat.sequence,
        commit_behind=seat.commit_behind,
    )


def make_trader(desk: Desk, floor: Floor, seat: Seat) -> Trader:
    """The trader at its desk."""
    from trading.trader import Trader

    return Trader(desk, floor.inbox, floor.pace, badge=seat.badge, quotes=floor.quotes)


def voices(plan: Plan, panel: Panel | None) -> tuple[Council, Guards]:
    """Who may object to a trade: the council and the guards. `panel` is whom a council of models asks."""
    from trading.council.by_symbol import CouncilBySymbol
    from trading.council.guards import FullGuards, PageGuards
    from trading.council.rules import NoCouncil

    if plan.council.mode == "off":
        return NoCouncil(), PageGuards()
    councils = {symbol: council_of(plan, symbol, panel) for symbol in plan.symbols}
    return CouncilBySymbol(councils), FullGuards(plan.config.limits)


def council_of(plan: Plan, symbol: str, panel: Panel | None) -> Council:
    """The council of one symbol."""
    from trading.council.models import Deadlines, ModelCouncil, Seats
    from trading.council.prompting import load_prompts
    from trading.council.rules import RulesCouncil

    terms, mode, config = packet_terms(plan, symbol), plan.council.mode, plan.config.council
    if mode == "rules":
        return RulesCouncil(terms)
    if panel is None:
        raise BadInput(f"the council is {mode}, and there is nobody to ask")
    deadlines = Deadlines(council=config.terms.council_seconds, agent=config.terms.agent_seconds)
    seats = Seats(
        panel=panel,
        models=config.agents,
        prompts=load_prompts(),
        terms=terms,
        monotonic=time.monotonic,
        deadlines=deadlines,
    )
    return ModelCouncil(mode, seats)


async def open_panel(
    plan: Plan, settings: Settings, stack: contextlib.AsyncExitStack, database: Database | None = None
) -> Models | Cassette | None:
    """Whom a council of models asks: a cassette, the models that there are keys for, or nobody."""
    from trading.llm.cassette import Cassette

    if plan.council.cassette is not None:
        return Cassette(plan.council.cassette)
    return await open_models(plan.config, settings, stack, database)


async def open_models(
    config: TradingConfig, settings: Settings, stack: contextlib.AsyncExitStack, database: Database | None
) -> Models | None:
    """The models behind the council; None without a key.

    What is known of keys, and what a day has cost, is in the bot's database, whoever asks.
    """
    from bot.settings import model_keys
    from storage.database import open_database
    from storage.model_state import SqlKeys, SqlSpending
    from trading.exchange.bybit.clock import HeardClock
    from trading.llm.budget import Caps
    from trading.llm.caller import Patience
    from trading.llm.models import Memory, Models

    keys = model_keys(settings)
    if not keys:
        return None
    if database is None:
        database = await open_database(database_of(settings))
        stack.push_async_callback(database.close)
    terms = config.council.terms
    models = Models(
        keys,
        caps=Caps(daily_usd=Decimal(repr(terms.daily_usd)), daily_tokens=terms.daily_tokens),
        patience=Patience(attempt_seconds=terms.attempt_seconds),
        memory=Memory(keys=SqlKeys(database), spending=SqlSpending(database)),
        urls={"huggingface": settings.hf_base_url, "gemini": settings.gemini_base_url},
        clock=HeardClock(),
        wall=wall_time,
    )
    stack.push_async_callback(models.close)
    await models.open()
    return models


def packet_terms(plan: Plan, symbol: str) -> PacketTerms:
    """What the council is told about a symbol's strategy."""
    from trading.council.packet import PacketTerms

    return PacketTerms.of(plan.config.strategy_for(symbol), plan.config.params(symbol), plan.interval)


def knife_bars(plan: Plan) -> dict[str, int]:
    """Over how many bars a knife is told, by symbol."""
    return {symbol: packet_terms(plan, symbol).knife_lookback for symbol in plan.symbols}


def retuning(place: Place, floor: Floor, book: Book, sits: str) -> Retune:
    """Makes the desk's parts for settings that lie over the plan's own, and for another council than `sits`."""
    from bot.tuning import Tuning, overlaid
    from trading.council.questions import Nobody
    from trading.desk import Tuned

    plan = place.plan

    async def retune(values: Mapping[str, float], mode: str) -> Tuned:
        before = Tuning(plan.config, lambda: book.settings).current()
        if mode != sits and (missing := council_modes(place).get(mode, "")):
            raise BadInput(f"{mode} {missing}")
        asked = replace(plan.council, mode=mode) if mode else plan.council
        changed = replace(plan, config=overlaid(plan.config, values), council=asked)
        source, _, _ = await warmed_up(changed, floor, book)
        council, guards = voices(changed, place.panel or Nobody(council_modes(place).get(mode, "")))
        return Tuned(
            rules=changed.config.rules,
            terms=changed.config.terms,
            guards=guards,
            council=council,
            signals=source,
            own_knife_bars=knife_bars(changed),
            before=before,
        )

    return retune


# ----------------------------------------------------------------------------------------------------------- replay


def replay_command(args: argparse.Namespace) -> int:
    """`main.py replay`: candle files through the same trader, in memory, as fast as it goes."""
    from bot.settings import read_settings

    if not args.candles:
        raise BadInput("replay needs a candle file: --candles FILE")
    start_logging("WARNING")
    settings = read_settings()
    plan = make_plan(args, settings)
    asyncio.run(replay(plan, settings, record=args.record, as_json=args.json))
    return 0


async def replay(plan: Plan, settings: Settings, *, record: Path | None, as_json: bool) -> None:
    """Run the files to their end and print the outcome; a person sees beside it what it were without a council."""
    from research.replay import replayed
    from research.report import Outcome

    async with contextlib.AsyncExitStack() as stack:
        panel = await replay_panel(plan, settings, record, stack)
        with Outcome(plan.symbols) as outcome, Outcome(plan.symbols) as alone:
            book = await replayed(in_memory(plan, panel), outcome)
            if as_json or plan.council.mode == "off":
                print_outcome(plan, outcome, book, as_json=as_json)
            else:
                await replayed(in_memory(replace(plan, council=Asked(mode="off")), None), alone)
                print_beside(plan, outcome, alone)


async def replay_panel(
    plan: Plan, settings: Settings, record: Path | None, stack: contextlib.AsyncExitStack
) -> Panel | None:
    """Whom the council of a replay asks; with `record`, what is said is kept in a cassette."""
    from trading.council import MODEL_MODES
    from trading.llm.cassette import Recorder

    panel = None
    if plan.council.mode in MODEL_MODES:
        from trading.llm.models import Models

        panel = await open_panel(plan, settings, stack)
        if isinstance(panel, Models):
            stack.callback(tell_keys, panel)
    if record is None:
        return panel
    if panel is None or plan.council.cassette is not None:
        raise BadInput(f"--record keeps what models say: the council is {plan.council.cassette or plan.council.mode}")
    recorder = Recorder(panel, record)
    stack.callback(recorder.close)
    return recorder


def in_memory(plan: Plan, panel: Panel | None) -> Replay:
    """The plan's files, strategy and council, for a replay in this process."""
    from research.replay import Replay

    council, guards = voices(plan, panel)
    return Replay(
        series=tuple(file.series for file in plan.files),
        strategy_for=plan.config.strategy_for,
        rules=plan.config.rules,
        terms=plan.config.terms,
        instruments=plan.instruments,
        council=council,
        guards=guards,
        funding=plan.funding,
        own_knife_bars=knife_bars(plan),
    )


def print_beside(plan: Plan, outcome: Outcome, alone: Outcome) -> None:
    """The metrics with the council, beside those of the strategy alone."""
    equity, interval = plan.config.terms.initial_equity, plan.interval
    before = alone.metrics(equity, interval)
    print(f"{'':<14} {plan.council.name:>14} {'off':>14}")
    for name, value in outcome.metrics(equity, interval).items():
        cells = ("-" if each is None else format(each, ",.6g") for each in (value, before[name]))
        print(f"{name:<14} {' '.join(f'{cell:>14}' for cell in cells)}")


def print_outcome(plan: Plan, outcome: Outcome, book: Book, *, as_json: bool) -> None:
    """The object of the contract, or its metrics for a person."""
    from research.report import candles_of, open_position, write_report

    metrics = outcome.metrics(plan.config.terms.initial_equity, plan.interval)
    if as_json:
        write_report(
            sys.stdout,
            params=plan.params,
            metrics=metrics,
            trades=outcome.trades(),
            position=open_position(book, plan.symbols),
            candles=candles_of(plan.files),
        )
        return
    for name, value in metrics.items():
        print(f"{name:<14} {'-' if value is None else format(value, ',.6g')}")


# -------------------------------------------------------------------------------------------------------------- run


def run_command(args: argparse.Namespace) -> int:
    """`main.py run`: everything, until Ctrl-C or the end of the candle files."""
    from bot.settings import read_settings
    from storage.lock import InstanceLock

    os.umask(0o077)
    if name := os.environ.get("CONCLAVE_CRASHPOINT"):  # set by the fault tests alone
        crashpoints.arm(name)
    settings = read_settings()
    with InstanceLock(settings.data_dir):  # before the heavy imports
        slim_talib()
        plan = make_plan(args, settings)
        check_exchange(plan, settings)
        speed = speed_of(plan, args)
        start_logging("WARNING" if args.no_dashboard else settings.log_level)
        lines = not (args.no_dashboard or args.json)
        asyncio.run(run(plan, settings, speed=speed, as_json=args.json, lines=lines))
    return 0


def slim_talib() -> None:
    """Import TA-Lib without pandas, which it takes in to accept its Series: 85 MB and 0.3 s that nobody has a use for.

    What needs pandas later (a candle file) imports it as ever.
    """
    if "pandas" in sys.modules:
        return
    sys.modules["pandas"] = None  # type: ignore[assignment]  # "not installed", for the length of one import
    try:
        import talib  # noqa: F401
    finally:
        del sys.modules["pandas"]


def check_exchange(plan: Plan, settings: Settings) -> None:
    """What is asked for must fit the exchange that it is asked of."""
    if settings.feed == "replay" and not plan.files:
        raise BadInput("FEED=replay needs a candle file: main.py run --candles FILE")
    if settings.exchange != "paper" and plan.files:
        raise BadInput(f"--candles are for paper trading: EXCHANGE={settings.exchange} has its own prices")
    if settings.exchange != "paper" and plan.council.cassette is not None:
        raise BadInput(f"a cassette knows recorded candles alone: name a mode for EXCHANGE={settings.exchange}")
    if settings.exchange == "live" and plan.council.mode == "off":
        raise BadInput("--council off is refused with EXCHANGE=live: real money is not traded without its guards")


def speed_of(plan: Plan, args: argparse.Namespace) -> float:
    """Market time per wall time."""
    speed: float = plan.config.market.speed if args.speed is None else args.speed
    if not (math.isfinite(speed) and speed >= 0):
        raise BadInput("--speed must be a number of at least 0 (0 is as fast as the engine follows)")
    return speed


def start_logging(level: str) -> None:
    """Plain lines of that level on stderr; other listeners (the chat's /logs) hear from INFO on."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(levelname)-7s %(message)s", force=True)
    root = logging.getLogger()
    for handler in root.handlers:
        handler.setLevel(level)
    root.setLevel(min(logging.INFO, logging.getLevelNamesMapping()[level]))
    for chatty in ("alembic", "httpx", "httpx2", "httpcore", "httpcore2", "apscheduler", "matplotlib"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


async def run(plan: Plan, settings: Settings, *, speed: float, as_json: bool, lines: bool) -> None:
    """Open everything in order, trade until asked to stop or the feed ends, close in the opposite order."""
    from bot.settings import model_keys
    from bot.terminal import beside
    from research.report import Outcome
    from storage.database import open_database

    stop = asked_to_stop()
    async with contextlib.AsyncExitStack() as stack:
        chat = await open_chat(settings, stack)
        paper = None
        if settings.own_exchange:
            paper = make_paper(plan, settings, speed, port=0)
            stack.push_async_callback(paper.stop)
            if not await unless(stop, opened(paper)):
                return
        database = await open_database(database_of(settings))
        stack.push_async_callback(database.close)
        print(f"Chat: {chat.shown}  (Ctrl-C leaves, the next start carries on)", file=sys.stderr, flush=True)
        link = open_link(plan, settings, paper, stack)
        building = open_building(plan, settings, chat, database, stack)
        panel = await open_panel(plan, settings, stack, database)
        keys = model_keys(settings)
        place = Place(plan=plan, settings=settings, speed=speed, building=building, panel=panel, keys=keys)
        met = await unless(stop, met_in_time(place, link))
        if met is None:
            return
        session = await unless(stop, open_session(place, link, met))
        if session is None:
            return
        stack.push_async_callback(session.office.stop)
        await session.office.start()
        if place.illustrated:
            building.painter.warm()
        await unless(stop, models_ready(panel, session.trader))
        gc.collect()
        gc.freeze()  # what the start has made stays: looking through all of it holds the loop up for 0.1 s each time
        sys.setswitchinterval(0.0005)  # the database's thread must not wait 5 ms to say that it has written
        async with contextlib.AsyncExitStack() as shown:
            if lines:
                await shown.enter_async_context(beside(await make_display(place, session, link, chat)))
            complete = await trade(session, paper, stop) and await unless(stop, drained(session.office))
        if complete:
            if paper is not None:
                paper.finish()
            with Outcome(plan.symbols) as outcome:
                await hear_again(session.journal, outcome)
                print_outcome(plan, outcome, session.book, as_json=as_json)


async def models_ready(panel: Models | Cassette | None, trader: Trader) -> None:
    """Load what the council asks its models with, if it does: the first candidate must not wait for that."""
    from trading.council import MODEL_MODES
    from trading.llm.models import Models

    if isinstance(panel, Models) and trader.status().council in MODEL_MODES:
        await panel.ready()


async def ended(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def asked_to_stop() -> asyncio.Event:
    """Set once somebody presses Ctrl-C or ends the process."""
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


async def drained(office: Office) -> bool:
    """True once every message has been sent; what waits at a stop waits on disk."""
    await office.drain()
    return True


async def unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """The result of some work, or None when somebody asks to stop before it is done."""
    task = asyncio.ensure_future(work)
    asked = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
    done = task.done()
    for each in (task, asked):
        each.cancel()
    await asyncio.gather(task, asked, return_exceptions=True)
    return task.result() if done else None


async def hear_again(journal: Journal, outcome: Outcome) -> None:
    """Sum up everything that the journal holds."""
    seq = 0
    while batch := await journal.read(seq, limit=5000):
        for recorded in batch:
            outcome.hear(recorded.event)
        seq = batch[-1].seq


def wall_time() -> datetime:
    """The wall's clock: only for when a row was written."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Where the conversation goes: the Bot API's address (None: Telegram), its token and the owner."""

    api_url: str | None
    token: str
    owner: int | None
    embedded: bool

    @property
    def shown(self) -> str:
        """For the terminal."""
        return self.api_url or "Telegram"


async def open_chat(settings: Settings, stack: contextlib.AsyncExitStack) -> Chat:
    """Telegram when there is a token, another Bot API when there is an address, else the embedded phone.

    Without an owner nobody is obeyed, except on loopback, where the phone's own user is the owner.
    """
    from bot.phone import DEFAULT_TOKEN, Phone, PhonePortInUse, PhoneStoreUnusable
    from trading.exchange.bybit.endpoints import is_loopback

    token, url, owner = settings.telegram_bot_token, settings.telegram_api_url, settings.telegram_owner_id
    secret = token.get_secret_value() if token else DEFAULT_TOKEN
    if url is not None:
        loopback = is_loopback(url)
        return Chat(api_url=url, token=secret, owner=owner or (1 if loopback else None), embedded=loopback)
    if token is not None:
        return Chat(api_url=None, token=secret, owner=owner, embedded=False)
    listed = (*settings.telegram_operators, *settings.telegram_viewers)
    phone = Phone(settings.data_dir, owner_id=owner or 1, listed=listed, port=settings.phone_port)
    try:
        await phone.start()
    except PhonePortInUse as error:
        raise Misconfigured(f"PHONE_PORT: {error}") from error
    except PhoneStoreUnusable as error:
        raise Misconfigured(str(error)) from error
    stack.push_async_callback(phone.stop)
    return Chat(api_url=phone.url, token=secret, owner=owner or 1, embedded=True)


async def opened(paper: PaperExchange) -> bool:
    """True once the paper exchange can be talked to: on live prices it first asks for the bars before now."""
    await paper.start()
    return True


def make_paper(plan: Plan, settings: Settings, speed: float, *, port: int, history: int = 0) -> PaperExchange:
    """A paper exchange on the plan's market, with the books it kept."""
    from trading.exchange.simulated.service import PaperExchange

    live = settings.feed == "live" and not plan.files
    speed = 1.0 if live else speed
    key, secret = settings.keys
    return PaperExchange(
        plan.instruments,
        plan.config.terms,
        open_ledger(plan, settings),
        live_market(plan, settings) if live else bar_market(plan, speed, history),
        funding=plan.funding,
        key=key,
        secret=secret,
        port=port,
        speed=speed,
    )


def bar_market(plan: Plan, speed: float, history: int) -> Callable[[Venue, FollowedPace, SimulatedClock], Market]:
    """A market that walks the plan's bars."""
    from trading.exchange.simulated.market import Market

    feed, start = feed_of(plan, history)

    def make(venue: Venue, pace: FollowedPace, clock: SimulatedClock) -> Market:
        market = Market(venue, feed, pace, clock, lambda _: None, speed=speed)
        market.start_at(start)
        return market

    return make


def live_market(plan: Plan, settings: Settings) -> Callable[[Venue, FollowedPace, SimulatedClock], LiveMarket]:
    """A market on Bybit's own prices, or on those of FEED_REST_URL."""
    from trading.exchange.bybit.clock import HeardClock
    from trading.exchange.bybit.endpoints import endpoints_of
    from trading.exchange.bybit.prices import BybitPrices
    from trading.exchange.bybit.rest import BybitRest
    from trading.exchange.simulated.live import LiveMarket
    from trading.signals import BySymbol

    endpoints = endpoints_of("live", settings.feed_rest_url, settings.feed_ws_url)
    rest = BybitRest(endpoints.rest)
    prices = BybitPrices(rest, endpoints, plan.symbols, plan.interval, HeardClock())
    bars = BySymbol.wanted(plan.config.strategy_for, plan.symbols)

    def make(venue: Venue, pace: FollowedPace, clock: SimulatedClock) -> LiveMarket:
        return LiveMarket(venue, prices, plan.symbols, plan.interval, clock, bars=bars)

    return make


def open_ledger(plan: Plan, settings: Settings) -> LedgerFile:
    """The paper exchange's own books: a file for each endless market, which waits for its return, and one for
    candle files, which begins anew with another file or setting and after its end."""
    from trading.exchange.simulated.ledger import LedgerFile

    if plan.files:
        key, name = f"files:{plan.fingerprint}", "exchange-replay.db"
    elif settings.feed == "live":
        about = (settings.feed_rest_url, plan.symbols, plan.config.terms.initial_equity)
        key, name = f"live:{about}", "exchange-live.db"
    else:
        terms = (plan.config.market.seed, plan.symbols, str(plan.interval), plan.config.terms.initial_equity)
        key = f"synthetic:{terms}"
        name = f"exchange-{hashlib.sha256(key.encode()).hexdigest()[:8]}.db"
    return LedgerFile(settings.data_dir / name, key, lambda: str(10_000_000 + secrets.randbelow(89_999_999)))


@dataclass(frozen=True, kw_only=True)
class Link:
    """The line to an exchange: the adapter, its clock, and for a paper exchange its pace control."""

    exchange: BybitExchange
    clock: Clock
    pace: WirePace | None
    inbox: QueueInbox
    url: str

    @property
    def floor(self) -> Floor:
        """As the trader sees it."""
        from trading.exchange.simulated.market import ReleasePace

        return Floor(
            market=self.exchange,
            broker=self.exchange,
            clock=self.clock,
            pace=self.pace or ReleasePace(),
            inbox=self.inbox,
            quotes=self.exchange.quotes,
        )


def open_link(
    plan: Plan, settings: Settings, paper: PaperExchange | None, stack: contextlib.AsyncExitStack
) -> Link:
    """The adapter of the chosen exchange; nothing is asked yet."""
    from trading.exchange.bybit.clock import HeardClock, WallClock
    from trading.exchange.bybit.endpoints import endpoints_of
    from trading.exchange.bybit.exchange import BybitExchange
    from trading.exchange.bybit.rest import BybitRest
    from trading.exchange.simulated.pace import WirePace
    from trading.trader import QueueInbox

    rest_url, ws_url = settings.bybit_rest_url, settings.bybit_ws_url
    if paper is not None:
        rest_url, ws_url = paper.url, paper.ws_url
    endpoints = endpoints_of(settings.exchange, rest_url, ws_url)
    inbox = QueueInbox()
    key, secret = settings.keys
    rest = BybitRest(endpoints.rest, key=key, secret=secret)
    stack.callback(rest.close)
    clock = HeardClock() if settings.exchange == "paper" else WallClock(lambda: rest.offset)
    exchange = BybitExchange(
        rest, endpoints, symbols=plan.symbols, interval=plan.interval, inbox=inbox, clock=clock, key=key, secret=secret
    )
    stack.push_async_callback(exchange.stop)
    pace = None
    if settings.exchange == "paper":
        pace = WirePace(endpoints.public.removesuffix("/v5/public/linear"), inbox, clock)
        stack.push_async_callback(pace.stop)
    return Link(exchange=exchange, clock=clock, pace=pace, inbox=inbox, url=endpoints.rest)


def database_of(settings: Settings) -> str | Path:
    """The bot's database: DATABASE_URL, or a file in DATA_DIR."""
    url = settings.database_url
    return url.get_secret_value() if url else settings.data_dir / "conclave.db"


@dataclass(frozen=True, kw_only=True)
class Session:
    """Everything of a run that must be kept going."""

    account: str
    inbox: QueueInbox
    trader: Trader
    journal: SqlJournal
    journal_start: int
    book: Book
    office: Office


@dataclass(frozen=True, kw_only=True)
class Place:
    """What does not depend on the account: the plan, the settings, what serves people, and whom the council asks."""

    plan: Plan
    settings: Settings
    speed: float
    building: Building
    panel: Models | Cassette | None
    keys: tuple[Key, ...]

    @property
    def badge(self) -> str:
        """What every message begins with."""
        return badge_of(self.plan, self.settings, self.speed)

    @property
    def real_time(self) -> bool:
        """Does market time go with the wall's?"""
        return self.settings.exchange != "paper" or (self.settings.feed == "live" and not self.plan.files)

    @property
    def illustrated(self) -> bool:
        """Is there time to look at a chart of every decision?"""
        return self.speed > 0 or self.real_time


async def open_session(place: Place, link: Link, met: Introduction) -> Session:
    """Exchange, journal, trader and office of one account, recovered from what they kept."""
    from bot.tuning import overlaid, unfit
    from storage.journal import SqlJournal
    from trading.council.questions import Nobody
    from trading.events import AlertRaised
    from trading.trader import load_book

    plan, settings, account = place.plan, place.settings, met.account
    if link.pace is not None:
        await link.pace.start()
    await link.exchange.start()
    floor = link.floor
    journal = SqlJournal(place.building.database, account, clock=wall_time)
    await journal.check_end()
    equity = await patiently(link, lambda: opening_equity(plan, settings, floor))
    book, sequence = await load_book(journal, equity)
    sequence = await inherit_pause(place, met, floor.clock.now(), book, sequence, journal)
    seat = Seat(account=account, badge=place.badge, journal=journal, book=book, sequence=sequence, commit_behind=True)
    for name in unfit(plan.config, book.settings):
        print(f"{name} was changed in the chat and does not fit the configuration: ignored", file=sys.stderr)
    council, lacking = chosen_council(place, book)
    tuned = replace(plan, config=overlaid(plan.config, book.settings), council=council)
    source, missed, link.exchange.delivered_up_to = await patiently(link, lambda: warmed_up(tuned, floor, book))
    retune = retuning(place, floor, book, council.mode)
    desk = make_desk(tuned, floor, seat, source, met.instruments, retune, place.panel or Nobody(lacking))
    trader = make_trader(desk, floor, seat)
    if lacking:
        link.inbox.put(AlertRaised(at=floor.clock.now(), kind="council", text=lacking))
    await trader.start(floor.clock.now(), missed, followed_up(tuned, desk, source))
    return Session(
        account=account,
        inbox=link.inbox,
        trader=trader,
        journal=journal,
        journal_start=sequence,
        book=book,
        office=make_office(place, link, journal, trader, seat, desk),
    )


def chosen_council(place: Place, book: Book) -> tuple[Asked, str]:
    """The council that was chosen in the chat, unless the command line names one or it cannot be any more: then why."""
    asked = place.plan.council
    if not book.council or asked.aloud:
        return asked, ""
    chosen = replace(asked, mode=book.council)
    if missing := council_modes(place).get(book.council, ""):
        if book.council in {"strict", "degraded"}:  # whoever wanted to be asked is not to be traded for without it
            return chosen, f"the council is {book.council}, which {missing}: until then every candidate is rejected"
        return asked, f"the council chosen here was {book.council}, which {missing}: it is {asked.mode} now"
    return chosen, ""


def council_modes(place: Place) -> dict[str, str]:
    """Every mode of the council with what is missing for it, as the end of a sentence; empty where nothing is."""
    from bot.settings import missing_for
    from trading.council import MODES

    plan = place.plan
    found = {mode: missing_for(mode, plan.config.council, place.keys) for mode in MODES}
    if plan.council.cassette is not None:
        found = dict.fromkeys(MODES, "")
    if place.settings.exchange == "live":
        found["off"] = "is refused with EXCHANGE=live: real money is not traded without its guards"
    return found


def followed_up(plan: Plan, desk: Desk, source: BySymbol) -> list[ShadowEnded]:
    """Take up the candidates that are followed where the last run left them; those that have ended by now."""
    config, book = plan.config, desk.book
    return desk.shadows.rebuild(
        book.followed.values(),
        {symbol: source.window(symbol, sys.maxsize) for symbol in plan.symbols},
        config.strategy_for,
        rules=config.rules,
        terms=config.terms,
        instruments=desk.instruments,
        until=book.last_close,
    )


async def patiently(link: Link, ask: Callable[[], Awaitable[T]]) -> T:
    """An answer of the exchange, once it can be reached; that it cannot is said once."""
    from trading.errors import OutcomeUnknown, Transient

    said = False
    while True:
        try:
            return await ask()
        except (Transient, OutcomeUnknown) as error:
            if not said:
                print(f"{link.url}: {error}; no entries until it answers", file=sys.stderr, flush=True)
            said = True
            await asyncio.sleep(1)


@dataclass(frozen=True, kw_only=True)
class Introduction:
    """What an exchange says of itself and of us: the account's id, and the rules of the symbols.

    `paused`: somebody has paused while it was awaited.
    """

    account: str
    instruments: Mapping[str, Instrument]
    paused: bool = False


async def met_in_time(place: Place, link: Link) -> Introduction:
    """The exchange's introduction; as long as it cannot be reached, the chat answers all the same."""
    from trading.errors import OutcomeUnknown, Transient

    try:
        return await introduced(place.plan, place.settings, link)
    except (Transient, OutcomeUnknown):
        pass
    book, trader, office = await waiting_room(place, link)
    await office.start()
    before = set(book.commands)
    working = asyncio.create_task(trader.run(), name="waiting")
    try:
        met = await patiently(link, lambda: introduced(place.plan, place.settings, link))
        return replace(met, paused=book.paused and set(book.commands) != before)
    finally:
        await ended(working)
        await office.stop()


async def waiting_room(place: Place, link: Link) -> tuple[Book, Trader, Office]:
    """A trader without an account: it can trade nothing, but it says why, and remembers a pause."""
    from storage.journal import SqlJournal
    from trading.exchange.simulated.market import ReleasePace
    from trading.model import exact
    from trading.signals import BySymbol
    from trading.trader import QueueInbox, load_book

    plan = place.plan
    floor = replace(link.floor, pace=ReleasePace(), inbox=QueueInbox())
    account = f"{place.settings.exchange}:away"
    journal = SqlJournal(place.building.database, account, clock=wall_time)
    await journal.check_end()
    book, sequence = await load_book(journal, exact(plan.config.terms.initial_equity))
    seat = Seat(account=account, badge=place.badge, journal=journal, book=book, sequence=sequence, absent=True)
    desk = make_desk(plan, floor, seat, BySymbol({}), plan.instruments, panel=place.panel)
    trader = make_trader(desk, floor, seat)
    await trader.start(wall_time())
    return book, trader, make_office(place, link, journal, trader, seat, desk)


async def introduced(plan: Plan, settings: Settings, link: Link) -> Introduction:
    """Whose account it is and by which rules it trades; a key that must not be used is refused."""
    from trading.errors import Rejected

    exchange = link.exchange
    try:
        account = f"{settings.exchange}:{await exchange.account_id()}"
        if settings.own_exchange:
            return Introduction(account=account, instruments=plan.instruments)
        if settings.exchange != "paper" and (problems := await exchange.key_problems()):
            raise Misconfigured("\n".join(f"BYBIT_KEY: {problem}" for problem in problems))
        await exchange.measure_clock()
        rules = {symbol: await exchange.instrument(symbol) for symbol in plan.symbols}
        for symbol in plan.symbols:
            await exchange.set_leverage(symbol, Decimal(repr(plan.config.terms.leverage)))
    except Rejected as refusal:
        raise Misconfigured(f"{link.url} refuses to trade for us: {refusal}") from refusal
    return Introduction(account=account, instruments=rules)


async def opening_equity(plan: Plan, settings: Settings, floor: Floor) -> Decimal:
    """What the account begins with: the paper exchange's terms, or what the wallet holds."""
    from trading.model import exact

    if settings.exchange == "paper":
        return exact(plan.config.terms.initial_equity)
    return (await floor.broker.snapshot()).cash or Decimal(0)


async def inherit_pause(
    place: Place, met: Introduction, now: datetime, book: Book, sequence: int, journal: Journal
) -> int:
    """Real money starts paused every time; and who has paused before does not want to trade on a new market."""
    from storage.queries import paused_last
    from trading.events import TradingPaused

    if met.paused and not book.paused:
        command = f"awaited:{wall_time().isoformat()}"
        paused = TradingPaused(at=now, by="the pause that was asked for while the exchange was away", command=command)
    elif place.settings.exchange == "live" and not book.paused:
        paused = TradingPaused(at=now, by="the start with real money", command=f"start:{wall_time().isoformat()}")
    elif sequence == 0 and not place.plan.files and await paused_last(place.building.database):
        paused = TradingPaused(at=now, by="the account before this one", command="inherited")
    else:
        return sequence
    sequence = await journal.append([paused])
    book.apply(paused)
    return sequence


def feed_of(plan: Plan, history: int = 0) -> tuple[Feed, datetime]:
    """The bars and where the market starts: a file after `history` bars, the synthetic market after a long history."""
    from trading.exchange.simulated.market import FileFeed, GrowingFeed
    from trading.model import utc

    if plan.files:
        start = utc(min(file.first for file in plan.files)) + history * plan.interval
        return FileFeed([file.series for file in plan.files]), start
    from research.synthetic import synthetic

    minutes, seed = plan.interval // timedelta(minutes=1), plan.config.market.seed

    def generate(bars: int) -> list[CandleSeries]:
        return [synthetic(symbol, seed=seed, bars=bars, interval_minutes=minutes) for symbol in plan.symbols]

    feed = GrowingFeed(generate, SYNTHETIC_BARS)
    return feed, utc(int(feed.series()[0].timestamp[WARM_UP_BARS]))


def badge_of(plan: Plan, settings: Settings, speed: float) -> str:
    """What every message begins with."""
    if settings.exchange != "paper" or not plan.files:
        return settings.exchange.upper()
    return f"REPLAY ×{speed:g}" if speed else "REPLAY"


async def warmed_up(
    plan: Plan, floor: Floor, book: Book
) -> tuple[BySymbol, tuple[BarsClosed, ...], datetime | None]:
    """A window of history up to the last close that was dealt with, the closes missed since, and the newest."""
    import numpy as np

    from trading.model import millis
    from trading.ports import BarsClosed
    from trading.signals import BySymbol

    wanted = BySymbol.wanted(plan.config.strategy_for, plan.symbols)
    known: list[CandleSeries] = []
    # Killed before the first close was dealt with, there was a session all the same, which missed it.
    dealt_with = newest = book.last_close or book.since
    late: dict[datetime, list[Candle]] = {}
    for symbol in plan.symbols:
        series = await floor.market.history(symbol, wanted)
        done = len(series)
        if dealt_with is not None:
            done = int(np.searchsorted(series.timestamp, millis(dealt_with - plan.interval), "right"))
        known.append(series.between(0, done))
        if len(series):
            newest = max(filter(None, (newest, series.candle(len(series) - 1).close_time)))
        for candle in series.candles(done):
            late.setdefault(candle.close_time, []).append(candle)
    missed = tuple(
        BarsClosed(close_time=at, candles=tuple(late[at]), late=at != newest) for at in sorted(late)
    )
    return BySymbol.rolling(plan.config.strategy_for, known), missed, newest


def open_building(
    plan: Plan, settings: Settings, chat: Chat, database: Database, stack: contextlib.AsyncExitStack
) -> Building:
    """The bot's token and people, the painter of charts, the laboratory, the log that can be asked for."""
    from bot.access import AllowList
    from bot.office import Building
    from bot.settings import model_keys
    from bot.telegram import Redaction
    from bot.vitals import LogRing
    from research.grader import StudioGrader
    from research.studio import Studio
    from storage.database import database_file, database_url

    keys = settings.keys if settings.bybit_key else ()  # the paper exchange's own are no secret
    models = [key.secret for key in model_keys(settings)]
    url = database_url(database_of(settings))
    redact = Redaction([chat.token, *keys, *models, url.password or ""])
    log = LogRing(redact)
    logging.getLogger().addHandler(log)
    stack.callback(logging.getLogger().removeHandler, log)
    file = database_file(url) if url.get_backend_name() == "sqlite" else None
    studio = Studio()
    stack.push_async_callback(studio.close)
    folder = file.parent if file else settings.data_dir
    laboratory = open_laboratory(plan, settings, database, studio, folder / "research", stack)
    return Building(
        database=database,
        file=file,
        folder=folder,
        token=chat.token,
        api_url=chat.api_url,
        paced=not chat.embedded,
        allowed=AllowList(chat.owner, settings.telegram_operators, settings.telegram_viewers),
        painter=studio,
        painter_state=lambda: (True, "ready" if studio.pid else "starts with the first chart"),
        laboratory=laboratory,
        grader=StudioGrader(studio),
        log=log,
        redact=redact,
        zone=settings.zone,
        wall=wall_time,
    )


def open_laboratory(
    plan: Plan,
    settings: Settings,
    database: Database,
    studio: Studio,
    folder: Path,
    stack: contextlib.AsyncExitStack,
) -> Laboratory:
    """Backtests and searches for the chat, in a process of their own; what they found is kept in `folder`."""
    from research.desk import Desk
    from research.lab import Lab
    from storage.runs import Runs

    desk = Desk(
        lab=Lab(),
        renderer=studio,
        runs=Runs(database, folder),
        source=candle_source(plan, settings),
        folder=folder,
        wall=wall_time,
        theme=plan.config.chat.theme,
    )
    stack.push_async_callback(desk.close)
    return desk


def candle_source(plan: Plan, settings: Settings) -> CandleSource:
    """Where a study's bars come from: the files that are traded, a market's own past, or the made-up history."""
    from research.fetch import fetch
    from research.sources import ArchiveSource, FileSource, FirstOf, MadeUpSource
    from storage.archive import CandleArchive

    if plan.files:
        return FileSource(files=plan.files, funding=plan.funding_files)
    archive = CandleArchive(settings.data_dir)
    if settings.own_exchange and settings.feed == "synthetic":
        return FirstOf(ArchiveSource(archive=archive), MadeUpSource(seed=plan.config.market.seed))

    async def brought(symbol: str, interval: int, days: int, tell: Callable[[Progress], None]) -> None:
        with contextlib.closing(market_history(settings)) as source:
            await fetch(source, archive, symbol, interval, days, tell)

    return ArchiveSource(archive=archive, fetch=brought)


def make_office(
    place: Place, link: Link, journal: SqlJournal, trader: Trader, seat: Seat, desk: Desk
) -> Office:
    """What serves people around this trader. An account that has not been met has no days to report."""
    from bot.office import Office

    return Office(
        place.building,
        account=seat.account,
        badge=seat.badge,
        config=place.plan.config,
        overlay=lambda: seat.book.settings,
        journal=journal,
        trader=trader,
        prices=link.floor.market,
        laboratory=place.building.laboratory,
        clock=link.clock,
        streams=lambda: streams(link, trader, place.panel),
        council_modes=lambda: council_modes(place),
        advise=adviser(place, desk),
        fingerprint=place.plan.fingerprint,
        real_time=place.real_time and not seat.absent,
        real_money=place.settings.exchange == "live",
        made_up=place.settings.own_exchange and place.settings.feed != "live",
        illustrated=place.illustrated,
    )


def adviser(place: Place, desk: Desk) -> Adviser:
    """Asks the council that there is about a market as it stands; what is said is kept like everything it says."""
    from bot.ports import Advice
    from bot.tuning import overlaid
    from trading.advice import sounding
    from trading.council.rules import RulesCouncil
    from trading.errors import BadInput
    from trading.events import AgentAnswered, AlertRaised
    from trading.hearing import Minutes

    answering = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def advise(symbol: str, side: Side | None) -> Advice:
        if answering.locked():
            problem = f"{QUESTIONS_AT_ONCE} questions are being answered: ask again when one of them has been"
            return Advice(symbol=symbol, council=desk.council.mode, side=side, problem=problem)
        async with answering:
            return await advice(symbol, side)

    async def advice(symbol: str, side: Side | None) -> Advice:
        # In their shadow the models are not waited for: who decides is who is asked.
        plan = replace(place.plan, config=overlaid(place.plan.config, desk.book.settings))
        council = RulesCouncil(packet_terms(plan, symbol)) if desk.council.mode == "shadow" else desk.council
        if council.mode == "off":
            return Advice(symbol=symbol, council="off", problem="the council is off: /mode rules turns it on")
        try:
            asked = sounding(desk, plan.config.strategy_for(symbol), symbol, side)
        except BadInput as error:
            return Advice(symbol=symbol, council=council.mode, side=side, problem=str(error))
        minutes, proposal = Minutes(), asked.brief.proposal
        at = proposal.signal_time + proposal.interval
        ruling = await council.deliberate(asked.brief, minutes)
        for said in minutes.said:
            about: dict[str, Any] = {"at": at, "symbol": symbol, "side": proposal.side, "council": council.mode}
            desk.say(AgentAnswered(**about, verdict_id=None, said=said))
        for text in minutes.alerts:
            desk.say(AlertRaised(at=at, kind="council", text=text))
        return Advice(
            symbol=symbol,
            council=council.mode,
            side=proposal.side,
            why=asked.why,
            at=at,
            close=proposal.close,
            ruling=ruling,
            said=tuple(minutes.said),
        )

    return advise


def streams(link: Link, trader: Trader, panel: Models | Cassette | None) -> list[tuple[str, bool, str]]:
    """The exchange's connections with their ages in words, and the council's models."""
    from trading.llm.models import Models

    def ago(seconds: float | None) -> str:
        return "not yet" if seconds is None else f"{seconds:.0f}s ago"

    rows = [(view.name, view.up, ago(view.silence) if view.up else view.trouble) for view in link.exchange.streams()]
    age = trader.status().looked_age
    models = [("models", *panel.health())] if isinstance(panel, Models) else []
    return [*rows, ("compared", age is not None and age < 120, ago(age)), *models]


async def make_display(place: Place, session: Session, link: Link, chat: Chat) -> Display:
    """The dashboard on a terminal, plain lines anywhere else."""
    from bot.screen import can_be_drawn_on
    from bot.terminal import Terminal

    def show(line: str) -> None:
        print(line, file=sys.stderr)

    if not can_be_drawn_on(sys.stdout, os.environ.get("TERM", "")):
        return Terminal(session.journal, session.journal_start, show)
    from bot.dashboard import Dashboard  # rich
    from storage.queries import Records

    records = Records(place.building.database, session.account)
    trades = [trade async for trade in records.trades_oldest_first()]
    return Dashboard(
        status=session.trader.status,
        journal=session.journal,
        after=await session.journal.last_seq(),
        trades=trades,
        connections=session.office.connections,
        closes=lambda symbol: session.trader.closes(symbol, SPARKLINE_BARS),
        peak=lambda: session.book.peak,
        now=link.clock.now,
        chat=chat.shown,
        speed=None if place.real_time else place.speed,
        zone=place.settings.zone,
        show=show,
    )


async def trade(session: Session, paper: PaperExchange | None, stop: asyncio.Event) -> bool:
    """Run market and trader until the feed ends (True) or somebody asks to stop (False)."""
    from trading.ports import FeedEnded

    trader = asyncio.create_task(session.trader.run(), name="trader")
    asked = asyncio.create_task(stop.wait(), name="stop")
    market = asyncio.create_task(paper.run() if paper else stop.wait(), name="market")
    try:
        await asyncio.wait({market, trader, asked}, return_when=asyncio.FIRST_COMPLETED)
        if market.done() and not asked.done():
            await market  # raises what stopped it, or the end of the feed is on its way to the trader
            await asyncio.wait({trader, asked}, return_when=asyncio.FIRST_COMPLETED)
        if not trader.done():
            market.cancel()
            session.inbox.put(FeedEnded())  # the trader finishes what it is at
        await trader
        return not asked.done()
    finally:
        for task in (market, trader, asked):
            task.cancel()
        await asyncio.gather(market, trader, asked, return_exceptions=True)


# --------------------------------------------------------------------------------------------------- the laboratory


def backtest_command(args: argparse.Namespace) -> int:
    """`main.py backtest`: one parameter set; with `--json` alone only the object, otherwise with everything."""
    slim_talib()
    study, file, funding, made_up = asked_study(args, "backtest")
    if args.json and args.out is None and not study.has_council:
        from research.backtest import backtest

        print_result(backtest(file.series, study.strategy, study.values, funding, sha256=file.sha256))
        return 0
    if args.out is not None:
        make_folder(args.out)
    with progress_told() as tell:
        report = done_study(study, file, funding, made_up=made_up, tell=tell, folder=args.out or Path())
        written = write_files(report, args.out, "backtest") if args.out else []
    if args.json:
        print_result(report.result)
    else:
        tell_report(report, written)
    return 0


def optimize_command(args: argparse.Namespace) -> int:
    """`main.py optimize`: a grid search; Ctrl-C keeps what is done, the same command goes on from there."""
    slim_talib()
    from research.study import Stopped, forget

    study, file, funding, made_up = asked_search(args)
    out = args.out or Path("optimized")
    make_folder(out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(alone_in(out))
        ctrl_c = stack.enter_context(CtrlC(stack.enter_context(progress_told())))
        try:
            report = done_study(
                study,
                file,
                funding,
                made_up=made_up,
                tell=ctrl_c.tell,
                folder=out,
                jobs=args.jobs or os.cpu_count() or 1,
                stopped=ctrl_c.pressed.is_set,
                seek=searching(args, stack),
                keep=True,
            )
            written = write_files(report, out, "optimized")
        except Stopped as stopped:
            tell_search(stopped.table, study, out, as_json=args.json)
            left = stopped.table.combinations - stopped.table.evaluated
            raise ConclaveError(f"stopped with {left:,} combinations to go: the same command goes on there") from None
        except KeyboardInterrupt:
            raise ConclaveError("stopped: what was searched is kept, the same command goes on from there") from None
        forget(out)
    assert report.grid is not None  # noqa: S101 - of an optimisation
    tell_search(report.grid, study, out, as_json=args.json)
    if not args.json:
        tell_report(report, written)
    return 0


def asked_search(
    args: argparse.Namespace,
) -> tuple[Study, CandleFile, Mapping[int, Decimal] | None, bool]:
    """As `asked_study`, with the grid; what needs no candles is looked at first."""
    from research.grid import axes_of
    from research.walkforward import MOST_FOLDS
    from trading.laboratory import OBJECTIVES
    from trading.parameters import near

    if args.objective not in OBJECTIVES:
        hint = near(args.objective, OBJECTIVES)
        raise BadInput(f"--objective {args.objective[:40]} is not known{hint}: one of {', '.join(OBJECTIVES)}")
    if args.jobs is not None and args.jobs < 1:
        raise BadInput(f"--jobs {args.jobs} is not possible: 1 or more")
    if not 0 <= args.walk_forward <= MOST_FOLDS:
        raise BadInput(f"--walk-forward {args.walk_forward} is not possible: 1 to {MOST_FOLDS} folds")
    study, file, funding, made_up = asked_study(args, "optimize")
    grid = axes_of(args.grid, study.strategy, study.values)
    return replace(study, grid=grid, objective=args.objective, folds=args.walk_forward), file, funding, made_up


def searching(args: argparse.Namespace, stack: contextlib.ExitStack) -> Seek:
    """What searches: this machine, or the cluster that is named."""
    from research.grid import search

    if args.cluster is None:
        return search
    from research.cluster import Cluster

    return stack.enter_context(Cluster(args.cluster)).search


class CtrlC:
    """Ctrl-C in an optimisation: a search is asked to stop and to keep what it has, all else is broken off at once."""

    def __init__(self, tell: Callable[[Progress], None]) -> None:
        self.pressed = threading.Event()
        self._tell = tell
        self._searches = False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _heard(self, *_: object) -> None:
        self.pressed.set()
        if not self._searches:
            raise KeyboardInterrupt

    def tell(self, progress: Progress) -> None:
        """Progress, as it is told to the user."""
        self._searches = progress.stage in {"search", "walk-forward"}
        if self.pressed.is_set() and not self._searches:
            raise KeyboardInterrupt
        self._tell(progress)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Two searches never write into one folder; the lock is the kernel's and dies with its process."""
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise AnotherInstance(f"another search writes into {folder}: wait for it or give another --out") from None
    try:
        yield
    finally:
        os.close(held)


def asked_study(
    args: argparse.Namespace, kind: Kind
) -> tuple[Study, CandleFile, Mapping[int, Decimal] | None, bool]:
    """The study that was asked for, its candles, its funding, and whether the candles are made up."""
    from bot.settings import read_config, read_settings
    from research.candles import load_funding
    from trading.laboratory import Study, check_council

    start_logging("WARNING")
    settings, shipped = read_settings(), read_config(config_file())
    if (args.market is None) == (args.candles is None):
        raise BadInput(f"{kind} needs either a SYMBOL or --candles FILE")
    if args.days is not None and args.days < 1:
        raise BadInput(f"--days {args.days} is not possible: 1 or more")
    if args.interval is not None and args.interval < 1:
        raise BadInput(f"--interval {args.interval} is no timeframe: give whole minutes, 1 or more")
    if args.candles is not None:
        file, funding, made_up = candle_file(args, shipped.instruments)
    else:
        file, funding, made_up = stored_candles(args, settings, shipped)
    if args.funding is not None:
        funding = load_funding(Path(args.funding))
    symbol, council = file.series.symbol, getattr(args, "council", None) or "off"
    config = configured(args, shipped, (symbol,))
    study = Study(
        kind=kind,
        symbol=symbol,
        interval=file.series.interval // timedelta(minutes=1),
        days=args.days,
        strategy=config.choice(symbol).name,
        values=config.params(symbol),
        council=council,
        limits={} if council == "off" else config.limits.as_dict(),
    )
    check_council(study)
    return study, file, funding, made_up


Candles = tuple["CandleFile", "Mapping[int, Decimal] | None", bool]


def candle_file(args: argparse.Namespace, known: Mapping[str, Instrument]) -> Candles:
    """A named file, in longer bars where those are asked for."""
    from research.candles import load_candles
    from research.sources import taken

    symbol, path = named(args.candles, known)
    if args.symbol:
        symbol = symbol or known_symbol(args.symbol, known)
    file = load_candles(path, symbol=symbol, known_symbols=tuple(known))
    spacing = file.series.interval // timedelta(minutes=1)
    if args.interval is not None and args.interval % spacing:
        file = load_candles(path, symbol=symbol, interval_minutes=args.interval, known_symbols=tuple(known))
    return taken(file, args.interval or spacing, args.days), None, False


def stored_candles(args: argparse.Namespace, settings: Settings, config: TradingConfig) -> Candles:
    """The archive's candles; where there are none, the synthetic history, and that is said."""
    from research.sources import MadeUpSource, archived
    from storage.archive import CandleArchive
    from trading.laboratory import Study

    symbol, interval = known_symbol(args.market, config.instruments), args.interval or config.timeframe
    origin: Origin | None = archived(CandleArchive(settings.data_dir), symbol, interval, args.days)
    if origin is None and settings.own_exchange and settings.feed == "synthetic":
        asked = Study(kind="backtest", symbol=symbol, interval=interval, days=args.days, strategy="", values={})
        origin = asyncio.run(MadeUpSource(seed=config.market.seed).origin(asked, lambda _: None))
        hint = f"main.py fetch {symbol} --interval {interval}"
        print(f"no candles of {symbol} are stored: these are made-up prices ({hint} brings real ones)", file=sys.stderr)
    if origin is None:
        raise BadInput(f"no candles of {symbol} are stored: main.py fetch {symbol} --interval {interval}")
    file, funding = origin.open()
    return file, funding, origin.made_up


def done_study(
    study: Study,
    file: CandleFile,
    funding: Mapping[int, Decimal] | None,
    *,
    made_up: bool,
    tell: Callable[[Progress], None],
    folder: Path,
    jobs: int = 1,
    stopped: Callable[[], bool] = lambda: False,
    seek: Seek | None = None,
    keep: bool = False,
) -> Report:
    """The study done in this process."""
    from research.grid import search
    from research.study import do

    return do(
        study,
        file,
        funding,
        made_up=made_up,
        trials=study.chosen_from,
        tell=tell,
        folder=folder,
        jobs=jobs,
        stopped=stopped,
        seek=seek or search,
        keep=keep,
    )


def make_folder(folder: Path) -> None:
    """The folder, made where it is not there; `BadInput` where nothing can be written."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadInput(f"--out {folder} cannot be written to: {error.strerror}") from error


def write_files(report: Report, folder: Path, name: str) -> list[Path]:
    """The chart and the workbook, and what an optimisation would apply."""
    from research.render import render
    from research.study import op_config

    chart, workbook = render(report, "light")
    picture = folder / ("heatmap.png" if report.grid is not None else "chart.png")
    files = {picture: chart, folder / f"{name}.xlsx": workbook}
    if report.grid is not None:
        files[folder / "op_config.json"] = (json.dumps(op_config(report), indent=2, allow_nan=False) + "\n").encode()
    for path, content in files.items():
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(content)
        beside.replace(path)  # a reader never meets half of one
    return list(files)


def print_result(result: Result) -> None:
    """The object of the contract."""
    from research.backtest import trade_rows
    from research.report import write_report

    write_report(
        sys.stdout,
        params=result.params,
        metrics=result.metrics,
        trades=trade_rows(result),
        position=result.open_position,
        candles=result.candles,
    )


def tell_report(report: Report, written: Sequence[Path]) -> None:
    """A report for a person: the verdict first."""
    from research.study import finding
    from research.views import beside_lines

    found = finding(report)
    costs = found.fees + found.funding + found.slippage
    prices = " on made-up prices" if report.made_up else ""
    print(f"{report.study.symbol} {report.study.interval}m, {found.bars:,} bars, {report.study.strategy}{prices}")
    print(f"{report.verdict.word}: {'; '.join(report.verdict.reasons)}")
    print(f"net {found.metrics['total_return'] or 0:+.2%} against {found.hold_return:+.2%} for buying and holding")
    print(f"before costs {found.gross:+,.2f} USDT, costs {costs:,.2f} USDT")
    for name, value in report.result.metrics.items():
        print(f"{name:<14} {'-' if value is None else format(value, ',.6g')}")
    for line in (*beside_lines(report), *map(str, written)):
        print(line)


def tell_search(table: GridTable, study: Study, out: Path, *, as_json: bool) -> None:
    """The best sets of a grid, as the object of the contract or as a table; nothing where there are none."""
    from research.study import row_of

    top = [row_of(table, int(row), study.values) for row in table.order[:20]]
    if top and as_json:
        rows = [{"params": {**study.values, **params}, "metrics": metrics} for params, metrics in top]
        counts = {"combinations": table.combinations, "evaluated": table.evaluated, "seconds": table.seconds}
        print(json.dumps({**counts, "best": rows[0], "top": rows, "out": str(out)}, allow_nan=False))
    elif top:
        tell_top(table, top)


def tell_top(table: GridTable, top: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> None:
    """The best sets of a grid as a table."""
    shown = ("sharpe", "total_return", "max_drawdown", "trades")
    print("  ".join([*(f"{name:>17}" for name in table.names), *(f"{name:>12}" for name in shown)]))
    for params, metrics in top[:10]:
        cells = [f"{params[name]:>17g}" for name in table.names]
        figures = ["-" if metrics[name] is None else format(metrics[name], ".4g") for name in shown]
        print("  ".join([*cells, *(f"{each:>12}" for each in figures)]))


# ------------------------------------------------------------------------------------------------------ the council


@dataclass(frozen=True, kw_only=True)
class Heard:
    """What a council has said of candidates, and of which it has not.

    guarded: those that the first guard rejects before any council; unheard: those about which nobody was asked to the
    end, and why. None where it is not known: of what was decided in a running market. left_out: what of that is not
    graded along, such as another council's.
    """

    title: str
    rows: list[Judged]
    guarded: int | None = None
    unheard: int | None = None
    why: str = ""
    stopped: bool = False
    left_out: tuple[str, ...] = ()


def council_eval_command(args: argparse.Namespace) -> int:
    """`main.py council eval`: the grade of what was decided, or of a council on the candidates of candle files."""
    from bot.settings import read_settings

    slim_talib()
    if args.funding:
        flat = "every candidate pays the flat rate of config.json, risk.funding_rate"
        raise BadInput(f"council eval takes no --funding: {flat}; --set funding_rate=RATE takes another one")
    if args.record is not None and not args.candles:
        raise BadInput("--record keeps what models say of the candidates of candle files: name those with --candles")
    about_files = {name: getattr(args, name) for name in ("council", "strategy", "symbol", "interval", "overrides")}
    if not args.candles and (given := [name for name, value in about_files.items() if value]):
        option = given[0].replace("overrides", "set")
        raise BadInput(f"--{option} is about candle files: name them with --candles, or leave it out for the record")
    settings = read_settings()
    start_logging("WARNING")
    if args.out is not None:
        make_folder(args.out)
    found, heard = asyncio.run(graded(args, settings))
    if args.json:
        more = {"guarded": heard.guarded, "unheard": heard.unheard}
        print(json.dumps(dataclasses.asdict(found.grade) | more, allow_nan=False))
    else:
        print_grade(found.grade, heard)
    if args.out is not None:
        for name, content in (("council.png", found.chart), (found.workbook_name, found.workbook)):
            (args.out / name).write_bytes(content)
            print(args.out / name, file=sys.stderr)
    if heard.stopped:
        raise ConclaveError(heard.why)
    return 0


async def graded(args: argparse.Namespace, settings: Settings) -> tuple[Graded, Heard]:
    """The candidates that were asked for, judged and graded."""
    from research.grader import StudioGrader
    from research.studio import Studio

    async with contextlib.AsyncExitStack() as stack:
        if args.candles:
            heard = await judged_on_files(make_plan(args, settings, resampled=True), settings, args.record, stack)
        else:
            heard = await judged_so_far(settings)
        studio = Studio()
        stack.push_async_callback(studio.close)
        return await StudioGrader(studio).grade(heard.rows, heard.title, "light"), heard


async def judged_on_files(
    plan: Plan, settings: Settings, record: Path | None, stack: contextlib.AsyncExitStack
) -> Heard:
    """Every candidate of the plan's files before its council."""
    from research.candidates import candidates
    from trading.council import MODEL_MODES

    mode, cassette = plan.council.mode, plan.council.cassette
    if record is not None and (mode not in MODEL_MODES or cassette is not None):
        raise BadInput(f"--record keeps what models say: the council is {cassette or mode}")
    if cassette is not None and mode != "degraded":  # a recording holds the models' own word, whoever decides elsewhere
        plan = replace(plan, council=replace(plan.council, mode="strict"))
    elif mode == "shadow":
        raise BadInput("in mode shadow the rules decide: --council rules grades them, --council strict the models")
    found = candidates(tracks_of(plan))
    if plan.council.cassette is not None:
        return await played(plan, plan.council.cassette, list(found))
    if mode in MODEL_MODES:
        return await asked_about(plan, settings, record, list(found), stack)
    return await by_rules(plan, found)


def tracks_of(plan: Plan) -> list[Track]:
    """The plan's files as candidates see them."""
    from research.candidates import Track

    return [
        Track(
            series=file.series,
            strategy=plan.config.strategy_for(file.series.symbol),
            rules=plan.config.rules,
            terms=plan.config.terms,
            instrument=plan.instruments[file.series.symbol],
        )
        for file in plan.files
    ]


async def by_rules(plan: Plan, found: Iterable[Candidate]) -> Heard:
    """Before a council in code, which hears everybody."""
    from research.candidates import Hearing

    hearing = Hearing(voices(plan, None)[0])
    for candidate in found:
        await asyncio.sleep(0)  # Ctrl-C is heard
        await hearing.hear(candidate)
    return Heard(title=f"council {plan.council.name}", rows=hearing.rows, guarded=hearing.barred, unheard=0)


async def played(plan: Plan, path: Path, found: Sequence[Candidate]) -> Heard:
    """Before a recording: to its end, where it was broken off; one that does not fit is an error."""
    from research.candidates import Hearing
    from trading.llm.cassette import Cassette

    tape = Cassette(path)
    hearing = Hearing(voices(plan, tape)[0])
    for candidate in found:
        if not await hearing.hear(candidate):
            break
    if hearing.missed and (tape.unplayed or not hearing.rows):
        raise hearing.missed
    why = f"{path} ends there, its recording was broken off" if hearing.missed else hearing.spent
    return heard_of(plan, hearing, found, why)


async def asked_about(
    plan: Plan, settings: Settings, record: Path | None, found: Sequence[Candidate], stack: contextlib.AsyncExitStack
) -> Heard:
    """Before the models: what it will cost is said first, and what has been paid for is graded, however it ends."""
    from research.candidates import Hearing
    from storage.database import open_database
    from trading.llm.cassette import Recorder

    database = await open_database(database_of(settings))
    stack.push_async_callback(database.close)
    models = await open_models(plan.config, settings, stack, database)
    if models is None:
        raise BadInput(f"the council is {plan.council.mode}, and there is nobody to ask")
    await announce(plan, record, found, await left_today(models, database))
    panel: Panel = models
    if record is not None:
        panel = Recorder(models, record, holes=True)
        stack.callback(panel.close)
    await models.ready()
    hearing, stopped = Hearing(voices(plan, panel)[0]), False
    with ctrl_c() as stop:
        for candidate in found:
            going = await unless(stop, hearing.hear(candidate))
            stopped = going is None
            if not going:
                break
    tell_keys(models)
    return heard_of(plan, hearing, found, broken_off(hearing, record, stopped=stopped), stopped=stopped)


def tell_keys(models: Models) -> None:
    """Keys that have been refused: the next run of the bot does not ask with them, and would not know why."""
    for key in models.report():
        if key.state in {"retired", "draining"}:
            cure = "main.py council doctor says what to do"
            print(f"the key …{key.tail} is not used: {key.why}; {cure}", file=sys.stderr)


def broken_off(hearing: Hearing, record: Path | None, *, stopped: bool) -> str:
    """Why not everybody was heard, and what to do about it; empty where everybody was."""
    if not stopped and not hearing.spent:
        return ""
    when = "" if stopped else f" tomorrow (UTC), or {HIGHER}"
    keeps = "" if record else "with --record FILE "
    return f"{'stopped' if stopped else hearing.spent}: {keeps}the same command goes on there{when}"


def heard_of(
    plan: Plan, hearing: Hearing, found: Sequence[Candidate], why: str = "", *, stopped: bool = False
) -> Heard:
    """What there is to grade; where it is not all, a person is told at once."""
    heard, guarded = len(hearing.rows), sum(candidate.knife for candidate in found)
    unheard = len(found) - guarded - heard
    if unheard:
        print(f"heard are {heard:,} of {heard + unheard:,} candidates: {why}", file=sys.stderr)
    if unheard and not heard:
        raise (ConclaveError if stopped else BadInput)("no candidate was heard to the end: there is nothing to grade")
    part = f" (heard: {heard:,} of {heard + unheard:,})" if unheard else ""
    return Heard(
        title=f"council {plan.council.name}{part}",
        rows=hearing.rows,
        guarded=guarded,
        unheard=unheard,
        why=why,
        stopped=stopped,
    )


async def left_today(models: Models, database: Database) -> Spent:
    """What is left of the day's allowance, which everything that asks models shares."""
    from storage.model_state import SqlSpending
    from trading.llm.budget import Spent

    caps, spent = models.caps, await SqlSpending(database).spent(wall_time().date())
    tokens, usd = caps.daily_tokens - spent.tokens, caps.daily_usd - spent.usd
    return Spent(tokens=max(tokens, 0), usd=max(usd, Decimal(0)))


async def announce(plan: Plan, record: Path | None, found: Sequence[Candidate], left: Spent) -> None:
    """Say what will be asked and what it will cost; `BadInput` where the day's allowance clearly is too small."""
    from research.candidates import Estimator, Hearing
    from trading.llm.cassette import kept

    estimator = Estimator(kept(record) if record else None)
    hearing = Hearing(voices(plan, estimator)[0])
    for candidate in found:
        await hearing.hear(candidate)
    many, usd, tokens = len(hearing.rows), estimator.usd, estimator.tokens
    price = f"{many:,} candidates, {estimator.questions:,} questions to models at most: about {amount(usd, tokens)}"
    today = f"{amount(left.usd, left.tokens)} are left of today's allowance, which a running bot shares"
    if usd > left.usd or tokens > left.tokens:
        share = min(left.tokens / tokens, float(left.usd / usd) if usd else 1.0)
        instead = f"{HIGHER}, name a file of fewer candles, or take --council rules"
        raise BadInput(f"{price}, but only {today}, enough for {int(many * share):,} or so: {instead}")
    print(f"{price}; {today}", file=sys.stderr)


def amount(usd: Decimal, tokens: int) -> str:
    """Money and tokens for a person."""
    return f"{usd:.2f} USD and {tokens:,} tokens"


@contextlib.contextmanager
def ctrl_c() -> Iterator[asyncio.Event]:
    """Set once somebody presses Ctrl-C or ends the process meanwhile."""
    stop = asked_to_stop()
    try:
        yield stop
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(name)


async def judged_so_far(settings: Settings) -> Heard:
    """What was decided on the account that was traded last, by the council that decided last."""
    from storage.council import CouncilRecords

    async with decided_on(settings) as (database, account):
        record = await CouncilRecords(database, account).graded()
        return Heard(title=record.title, rows=list(record.rows), left_out=record.left_out)


@contextlib.asynccontextmanager
async def decided_on(settings: Settings) -> AsyncIterator[tuple[Database, str]]:
    """The database, and the account that was decided on last; `BadInput` while nothing has been."""
    from storage.database import open_database
    from storage.queries import last_account

    database = await open_database(database_of(settings))
    try:
        account = await last_account(database)
        if account is None:
            raise BadInput("nothing has been decided yet: main.py run trades, --candles FILE names candles instead")
        yield database, account
    finally:
        await database.close()


def print_grade(grade: Grade, heard: Heard) -> None:
    """A grade for a person, in 80 columns: the word first."""
    print(f"the council ({grade.council}): {grade.word}" + (f" ({grade.needs})" if grade.needs else ""))
    print_wrapped(grade.reason)
    if heard.unheard:
        print_wrapped(f"Heard are {len(heard.rows):,} of {len(heard.rows) + heard.unheard:,}: {heard.why}.")
    print_candidates(grade, heard)
    print_arms(grade.arms)
    if grade.agents:
        print_answers(grade.agents)
        print_scores(grade.agents)
        print_bins(grade.agents)


def print_candidates(grade: Grade, heard: Heard) -> None:
    """How many there were, what became of them, and what it cost to ask about them."""
    print(f"\n{grade.candidates:,} candidates in {grade.days:,.0f} days, {grade.ended:,} ended with a result")
    if heard.guarded:
        print(f"{heard.guarded:,} more take no part: the guard against falling knives rejects them")
    if heard.left_out:
        print_wrapped(f"left out: {', '.join(heard.left_out)}")
    silent = [next((said.status for said in row.ballots if said.status != "OK"), "OK") for row in heard.rows]
    if missing := ", ".join(f"{status} {count:,}" for status, count in Counter(silent).items() if status != "OK"):
        print_wrapped(f"decided on without every agent's answer: {missing}")
    print(f"never filled: {grade.unfilled:,}, not ended yet: {grade.waiting:,}, lost: {grade.lost:,}")
    print(f"avoided {grade.avoided:,.1f}R of losses, missed {grade.missed:,.1f}R of gains")
    month = "" if grade.cost_per_month is None else f", {grade.cost_per_month:.2f} a month"
    price = f"{grade.cost_usd:.4f} USD, {grade.cost_per_decision:.4f} a decision{month}"
    print(f"it cost {price}" if grade.cost_usd else "it cost nothing")


def print_wrapped(text: str) -> None:
    """A sentence as lines of at most 80 characters."""
    print(textwrap.fill(text, 80))


def print_arms(arms: Sequence[Arm]) -> None:
    """Every way of deciding on the same candidates."""
    means = f"{'mean R':>7}{'vetoed':>7}{'mean R':>7}"
    print(f"\n{'arm':<21}{'taken':>6}{means}{'total R':>9}{'edge R':>8}  {'95 %':>13}")
    for arm in arms:
        taken, vetoed = (plain(value, "+.2f") for value in (arm.mean_approved, arm.mean_vetoed))
        nothing = "the same" if arm.same else "-"
        between = f"{arm.interval.low:+.3f} {arm.interval.high:+.3f}" if arm.interval else nothing
        counts = f"{arm.approved:>6,}{taken:>7}{arm.vetoed:>7,}{vetoed:>7}"
        print(f"{arm.name:<21.21}{counts}{arm.total:>+9.1f}{plain(arm.edge, '+.3f'):>8}  {between:>13}")


def print_answers(agents: Sequence[AgentGrade]) -> None:
    """How the agents have answered: shares of what they were asked, seconds, and what it cost."""
    shown = f"{'asked':>6}{'OK':>7}{'invalid':>9}{'timeout':>9}{'else':>7}{'s, median':>11}{'p95':>7}{'USD':>10}"
    print(f"\n{'agent':<14}{shown}")
    for each in agents:
        counts = [each.statuses.get(name, 0) for name in ("OK", "INVALID", "TIMEOUT")]
        ok, invalid, timeout, other = (f"{count / each.asked:.1%}" for count in (*counts, each.asked - sum(counts)))
        median, late = (f"{second:.1f}" for second in each.seconds) if each.seconds else ("-", "-")
        shares = f"{ok:>7}{invalid:>9}{timeout:>9}{other:>7}"
        print(f"{plainly(each.agent):<14.14}{each.asked:>6,}{shares}{median:>11}{late:>7}{each.cost_usd:>10.4f}")


def print_scores(agents: Sequence[AgentGrade]) -> None:
    """What the agents' votes and probabilities are worth."""
    shown = f"{'for':>6}{'neither':>8}{'against':>8}{'Brier':>8}{'skill':>8}  {'95 %':<15}{'weight':>11}"
    print(f"\n{'agent':<14}{shown}")
    for each in agents:
        many, neither, against = (f"{each.votes.get(name, 0):,}" for name in ("for", "neither", "against"))
        between = each.skill_interval
        skill = f"{between.low:+.3f} {between.high:+.3f}" if between else "-"
        scores = f"{plain(each.brier, '.3f'):>8}{plain(each.skill, '+.3f'):>8}  {skill:<15}"
        votes = f"{many:>6}{neither:>8}{against:>8}"
        print(f"{plainly(each.agent):<14.14}{votes}{scores}{each.proposed_weight:>11.2f}")


def print_bins(agents: Sequence[AgentGrade]) -> None:
    """What an agent stated as a probability of a win, and how often it came true, by tenths."""
    bins = {(agent.agent, each.low): each for agent in agents for each in agent.bins}
    if not bins:
        return
    print("\np(win) as stated, on average: the share that won, of so many")
    print(f"{'':<14}" + "".join(f"{plainly(agent.agent):>22.21}" for agent in agents))
    for low in sorted({low for _, low in bins}):
        found = [bins.get((agent.agent, low)) for agent in agents]
        cells = [f"{each.stated:.2f}: {each.won:.2f} of {each.count:,}" if each else "-" for each in found]
        print(f"{f'{low:.1f} to {low + 0.1:.1f}':<14}" + "".join(f"{cell:>22}" for cell in cells))


def plainly(name: str) -> str:
    """An agent's name for a person."""
    return name.replace("_", " ")


def plain(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else format(value, form)


def council_doctor_command(args: argparse.Namespace) -> int:
    """`main.py council doctor`: every model is asked once; 1 when something is not well."""
    from bot.settings import read_config, read_settings
    from trading.llm.doctor import fit

    settings, config = read_settings(), read_config(config_file())
    start_logging("WARNING")
    findings = asyncio.run(examined(settings, config, mirror=MIRRORED if args.mirror else 0))
    if args.json:
        print(json.dumps({"ok": fit(findings), "findings": [dataclasses.asdict(each) for each in findings]}))
    else:
        print("\n".join(finding.line for finding in findings))
    return 0 if fit(findings) else 1


async def examined(settings: Settings, config: TradingConfig, *, mirror: int) -> list[Finding]:
    """The models that there are keys for, or the rules."""
    from storage.database import open_database
    from trading.council.prompting import load_prompts
    from trading.llm.doctor import Examined, examine

    async with contextlib.AsyncExitStack() as stack:
        database = await open_database(database_of(settings))
        stack.push_async_callback(database.close)
        models = await open_models(config, settings, stack, database)
        if models is not None:
            await models.revive()  # whoever asks may have put a key's rights right
        parts = Examined(
            monotonic=time.monotonic,
            panel=models,
            models=config.council.agents,
            prompts=load_prompts(),
            seconds=config.council.terms.agent_seconds,
            keys=models.report if models else tuple,
            caps=models.caps if models else None,
            notes=noted(settings, config),
        )
        return await examine(parts, mirror=mirror)


def noted(settings: Settings, config: TradingConfig) -> list[Finding]:
    """What is not well before anybody is asked: the mode, and who can read the keys."""
    from bot.settings import effective_mode, exposed_key_file, model_keys
    from trading.llm.doctor import Finding

    found = []
    try:
        effective_mode(settings.council_mode, config.council, model_keys(settings))
    except Misconfigured as error:
        found.append(Finding(name="mode", ok=False, text=str(error)))
    if exposed := exposed_key_file(settings):
        found.append(Finding(name="KEY_FILE", ok=False, warning=True, text=exposed))
    return found


def council_show_command(args: argparse.Namespace) -> int:
    """`main.py council show ID`: one decision, from the packets to the order."""
    from bot.settings import read_settings
    from bot.views.dossier import dossier_object, dossier_text

    dossier = asyncio.run(dossier_of(read_settings(), args.id))
    print(json.dumps(dossier_object(dossier), allow_nan=False) if args.json else dossier_text(dossier))
    return 0


async def dossier_of(settings: Settings, number: int) -> Dossier:
    """All that is kept of a decision on the account that was traded last."""
    from storage.council import CouncilRecords

    async with decided_on(settings) as (database, account):
        dossier = await CouncilRecords(database, account).dossier(number)
        if dossier is None:
            raise BadInput(f"there is no decision {number} on {account}: /verdicts in the chat lists the last ones")
        return dossier


def council_record_command(args: argparse.Namespace) -> int:
    """`main.py council record`: what models have said on the account that was traded last, as a cassette."""
    from bot.settings import read_settings

    answers, left = asyncio.run(recorded(read_settings(), args.out))
    more = f", {left:,} questions left out: nobody waited for an answer, or no budget was left for one" if left else ""
    print(f"{args.out}: {answers:,} answers{more}")
    return 0


async def recorded(settings: Settings, out: Path) -> tuple[int, int]:
    """Write the cassette: how many answers it has, and how many questions were never answered."""
    from storage.journal import SqlJournal
    from trading.events import AgentAnswered
    from trading.llm.cassette import left_out, told_line

    async with decided_on(settings) as (database, account):
        journal, seq, count, left = SqlJournal(database, account, clock=wall_time), 0, 0, 0
        with out.open("w", encoding="ascii") as file:
            while batch := await journal.read(seq):
                seq = batch[-1].seq
                said = [each.event.said for each in batch if isinstance(each.event, AgentAnswered)]
                count += sum(file.write(told_line(one)) > 0 for one in said)
                left += sum(map(left_out, said))
        return count, left


def llm_command(args: argparse.Namespace) -> int:
    """`main.py llm`: the scripted model server alone, until Ctrl-C."""
    from trading.llm.rehearsal.script import Script
    from trading.llm.rehearsal.server import RehearsalServer

    script = None if args.script is None else Script.read(args.script)

    async def serve() -> None:
        stop = asked_to_stop()
        server = RehearsalServer(port=args.port, script=script, seed=args.seed)
        await server.start()
        print(f"Models: HF_BASE_URL={server.url} GEMINI_BASE_URL={server.url}", flush=True)
        await stop.wait()
        await server.stop()

    try:
        asyncio.run(serve())
    except (OSError, OverflowError) as error:
        raise BadInput(f"--port {args.port} cannot be opened: {error}") from error
    return 0


# -------------------------------------------------------------------------------------------------- smaller commands


def exchange_command(args: argparse.Namespace) -> int:
    """`main.py exchange`: the paper exchange's wire face alone, until Ctrl-C."""
    from bot.settings import read_settings

    os.umask(0o077)
    settings = read_settings()
    start_logging(settings.log_level)
    plan = make_plan(args, settings)
    speed = speed_of(plan, args)
    if args.history < 0 or (plan.files and args.history >= min(len(file.series) for file in plan.files)):
        raise BadInput(f"--history {args.history} leaves no bar to trade: name fewer")

    async def serve() -> None:
        stop = asked_to_stop()
        paper = make_paper(plan, settings, speed, port=args.port, history=args.history)
        try:
            if await unless(stop, opened(paper)):
                print(f"Exchange: {paper.url} and {paper.ws_url}", flush=True)
                await unless(stop, paper.run())
                await stop.wait()
            if paper.ended:
                paper.finish()
        finally:
            await paper.stop()

    try:
        asyncio.run(serve())
    except (OSError, OverflowError) as error:
        raise BadInput(f"--port {args.port} cannot be opened: {error}") from error
    return 0


def phone_command(args: argparse.Namespace) -> int:
    """`main.py phone`: the embedded Telegram alone, until Ctrl-C."""
    from bot.phone import Phone, PhonePortInUse, PhoneStoreUnusable
    from bot.settings import read_settings

    os.umask(0o077)
    settings = read_settings()

    async def serve() -> None:
        stop = asked_to_stop()
        listed = (*settings.telegram_operators, *settings.telegram_viewers)
        phone = Phone(settings.data_dir, owner_id=settings.telegram_owner_id or 1, listed=listed, port=args.port)
        await phone.start()
        print(f"Phone: {phone.url}", flush=True)
        await stop.wait()
        await phone.stop()

    try:
        asyncio.run(serve())
    except (PhonePortInUse, PhoneStoreUnusable, OverflowError) as error:
        raise BadInput(f"--port {args.port}: {error}") from error
    except OSError as error:
        raise Misconfigured(f"{settings.data_dir} cannot be used ({error.strerror}): check DATA_DIR") from error
    return 0


def fetch_command(args: argparse.Namespace) -> int:
    """`main.py fetch`: bring the archive of one symbol up to the exchange, candles and funding."""
    from bot.settings import read_settings

    os.umask(0o077)
    settings = read_settings()
    start_logging(settings.log_level)
    done = asyncio.run(fetch_until_stopped(args, settings))
    if done is None:
        raise ConclaveError("stopped: what was fetched is stored, the same command goes on from there")
    first, last = (f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}" for ms in (done.first, done.last))
    late = "; the exchange has no older ones" if done.late else ""
    print(
        f"{done.path}: {done.bars} bars, {first} to {last} UTC, {done.new} of them new{late}; "
        f"{done.funding_path.name}: {done.settlements} settlements, {done.new_settlements} of them new; "
        f"{done.seconds:.1f} s"
    )
    return 0


async def fetch_until_stopped(args: argparse.Namespace, settings: Settings) -> Fetched | None:
    """Download; None when somebody pressed Ctrl-C or ended the process before it was done."""
    from research.fetch import fetch
    from storage.archive import CandleArchive

    stop, archive = asked_to_stop(), CandleArchive(settings.data_dir)
    with progress_told() as tell, contextlib.closing(market_history(settings)) as source:
        return await unless(stop, fetch(source, archive, args.symbol, args.interval, args.days, tell))


def market_history(settings: Settings) -> BybitHistory:
    """The address that is set, else Bybit's: the test net's own prices, or those everybody else trades at."""
    from trading.exchange.bybit.endpoints import endpoints_of
    from trading.exchange.bybit.history import BybitHistory
    from trading.exchange.bybit.rest import BybitRest

    environment = "testnet" if settings.exchange == "testnet" else "live"
    url = endpoints_of(environment, settings.bybit_rest_url or settings.feed_rest_url).rest
    return BybitHistory(BybitRest(url), url)


@contextlib.contextmanager
def progress_told() -> Iterator[Callable[[Progress], None]]:
    """Progress on stderr: a bar for each stage on a terminal, else a line now and then."""
    from bot.screen import can_be_drawn_on

    if can_be_drawn_on(sys.stderr, os.environ.get("TERM", "")):
        with progress_bars() as tell:
            yield tell
        return
    latest: Progress | None = None
    told_at = time.monotonic()

    def say(progress: Progress) -> None:
        nonlocal latest, told_at
        if latest is not None and latest.stage != progress.stage:
            print(progress_line(latest), file=sys.stderr)
        elif time.monotonic() - told_at >= PROGRESS_SECONDS:
            print(progress_line(progress), file=sys.stderr)
            told_at, latest = time.monotonic(), None
            return
        latest = progress

    yield say
    if latest is not None:
        print(progress_line(latest), file=sys.stderr)


def progress_line(progress: Progress) -> str:
    """One line about a stage."""
    if not progress.total:
        return progress.stage
    rate = f", {progress.rate:,.0f}/s" if progress.rate else ""
    left = f", {progress.remaining:.0f} s left" if progress.remaining else ""
    return f"{progress.stage}: {progress.done:,} of {progress.total:,}{rate}{left}"


@contextlib.contextmanager
def progress_bars() -> Iterator[Callable[[Progress], None]]:
    """A bar for each stage."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    stages: dict[str, TaskID] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:

        def show(progress: Progress) -> None:
            if progress.stage not in stages:
                stages[progress.stage] = bars.add_task(progress.stage, total=None, rate="")
            rate = f"{progress.rate:,.0f}/s" if progress.rate else ""
            total = progress.total or None  # of nobody knows how many
            bars.update(stages[progress.stage], completed=progress.done, total=total, rate=rate)

        yield show


def db_command(args: argparse.Namespace) -> int:
    """`main.py db`: bring the database to this version, check it, copy it, put a copy back."""
    from bot.settings import read_settings
    from storage.checks import backup, restore
    from storage.database import database_file, database_url

    os.umask(0o077)
    settings = read_settings()
    if args.task in {"backup", "restore"} and args.file is None:
        raise BadInput(f"db {args.task} needs a file: main.py db {args.task} FILE")
    file = database_file(database_url(database_of(settings)))
    if args.task == "backup":
        backup(file, args.file)
        print(f"{file} was copied to {args.file}")
    elif args.task == "restore":
        aside = restore(file, args.file, data_dir=settings.data_dir)
        print(f"{args.file} is now {file}" + (f"; the one before is {aside}" if aside else ""))
    else:
        return asyncio.run(check_database(settings, only_migrate=args.task == "migrate"))
    return 0


async def check_database(settings: Settings, *, only_migrate: bool) -> int:
    """Open (which migrates) and check; 1 when something is broken."""
    from storage.checks import check
    from storage.database import open_database

    database = await open_database(database_of(settings))
    try:
        if only_migrate:
            print(f"{database.name} is at the schema of this version")
            return 0
        findings = await check(database)
        for finding in findings:
            print(f"{'ok    ' if finding.ok else 'BROKEN'} {finding.subject}: {finding.text}")
        return 0 if all(finding.ok for finding in findings) else 1
    finally:
        await database.close()


if __name__ == "__main__":
    exit_code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient second Ctrl-C changes nothing any more
    sys.exit(exit_code)
