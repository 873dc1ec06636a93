"""The conversation with everything real around it: database, python-telegram-bot, phone. Only the trader is small."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from bot.access import AllowList
from bot.cards import Look
from bot.commands import COMMANDS
from bot.conversation import Conversation, wall_clock
from bot.courier import Pace
from bot.jobs import Jobs
from bot.phone import DEFAULT_TOKEN, Phone
from bot.ports import Command, Desk
from bot.settings import TradingConfig
from bot.studies import Studies
from bot.tuning import Tuning
from research.synthetic import synthetic
from storage.database import Database, open_database
from storage.equity import EquitySamples
from storage.inbox import InboxStore
from storage.journal import SqlJournal
from storage.outbox import Outbox
from storage.queries import Records
from storage.tickets import Tickets
from tests.bot.laboratory import SmallLaboratory
from tests.bot.phone.driver import Human, Json
from trading.events import (
    AgentAnswer,
    ChangeSettings,
    ChangeSymbols,
    CommandDone,
    Event,
    OrderFilled,
    PauseTrading,
    Request,
    ResumeTrading,
    SettingsChanged,
    SymbolsChanged,
    TradeClosed,
    TradingPaused,
    TradingResumed,
    VerdictReached,
)
from trading.model import CandleSeries, ExitReason, OrderSide, Purpose, Side
from trading.pictures import Picture, Theme
from trading.status import PositionView, Status

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
OWNER, OPERATOR, VIEWER, STRANGER = 1, 2, 3, 99
NOON = datetime(2026, 7, 21, 12, tzinfo=UTC)
ALLOWED = AllowList(OWNER, [OPERATOR], [VIEWER])


class RealClock:
    """Monotonic time as it is; market time stands still."""

    def now(self) -> datetime:
        return NOON

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class HastyClock(RealClock):
    """Waits a thousandth of what it is asked to and remembers what that was."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(seconds / 1000)


class SmallTrader:
    """Does what is asked once per command id and writes that into the journal; `busy` lets requests wait.

    `shows` are fields of the status that differ from a quiet account.
    """

    def __init__(self, journal: SqlJournal, *, busy: bool = False) -> None:
        self._journal = journal
        self._busy = busy
        self._requests: asyncio.Queue[Request] = asyncio.Queue()
        self.asked: list[Request] = []
        self.paused = False
        self.settings: dict[str, float] = {}
        self.muted: tuple[str, ...] = ()
        self.shows: dict[str, Any] = {}

    def status(self) -> Status:
        shut = ("paused: /resume takes entries again",) if self.paused else ()
        known = {"paused": self.paused, "gates": shut, "settings": dict(self.settings), "muted": self.muted}
        return a_status(**(known | self.shows))

    def submit(self, request: Request) -> None:
        self.asked.append(request)
        self._requests.put_nowait(request)

    async def run(self) -> None:
        handled = set()
        for recorded in await self._journal.read(0, 100_000):
            if command := getattr(recorded.event, "command", ""):
                handled.add(command)
                self._fold(recorded.event)
        while not self._busy:
            request = await self._requests.get()
            if request.command not in handled:
                handled.add(request.command)
                effect = self._effect(request)
                await self._journal.append([effect])
                self._fold(effect)

    def _effect(self, request: Request) -> Event:
        about: dict[str, Any] = {"at": NOON, "by": request.by, "command": request.command}
        if isinstance(request, PauseTrading):
            return TradingPaused(**about)
        if isinstance(request, ResumeTrading):
            return TradingResumed(**about)
        if isinstance(request, ChangeSettings):
            now = Tuning(TradingConfig(), lambda: self.settings).current()
            old = {name: now.get(name, 0.0) for name in request.values}
            return SettingsChanged(**about, values=request.values, old=old, source=request.source)
        if isinstance(request, ChangeSymbols):
            return SymbolsChanged(**about, muted=request.muted)
        name = type(request).__name__.lower()
        return CommandDone(**about, name=name, done=True, found=("asked the exchange: 0 positions, 0 orders",))

    def _fold(self, event: Event) -> None:
        if isinstance(event, TradingPaused | TradingResumed):
            self.paused = isinstance(event, TradingPaused)
        elif isinstance(event, SettingsChanged):
            self.settings |= event.values
        elif isinstance(event, SymbolsChanged):
            self.muted = event.muted


class SmallPrices:
    """A synthetic market whose last bar has just closed."""

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        return synthetic(symbol, seed=11, bars=600, start=NOON - 600 * timedelta(hours=4)).tail(bars)


class SmallPainter:
    """A picture of one pixel, and what was asked for."""

    def __init__(self) -> None:
        self.painted: list[Picture] = []

    async def paint(self, picture: Picture, theme: Theme) -> bytes:
        self.painted.append(picture)
        return PIXEL

    def warm(self) -> None:
        """There is nothing to get ready."""


class SmallVitals:
    """A program in good health."""

    def health(self) -> list[tuple[str, bool, str]]:
        return [("exchange", True, "0.2 s ago"), ("disk", True, "12 GB free")]

    def logs(self, count: int) -> list[str]:
        return ["12:00:00 INFO telegram_connected bot=conclave"][-count:]

    def version(self) -> list[tuple[str, str]]:
        return [("conclave", "0.1.0"), ("python", "3.11")]


def a_desk(
    db: Database,
    trader: SmallTrader,
    *,
    commands: tuple[Command, ...] = COMMANDS,
    look: Look | None = None,
    painter: SmallPainter | None = None,
    laboratory: SmallLaboratory | None = None,
    clock: RealClock | None = None,
) -> Desk:
    """What handlers look at, all of it real but trader, prices, painter, vitals and laboratory.

    `clock`: of long work.
    """
    config, look, lab = TradingConfig(), look or Look(badge="PAPER"), laboratory or SmallLaboratory()
    studies = Studies(config, lambda: trader.settings, trader.status)
    jobs = Jobs(
        laboratory=lab,
        studies=studies,
        outbox=Outbox(db, "test"),
        tickets=Tickets(db, "test"),
        look=look,
        clock=clock or RealClock(),
        wall=wall_clock,
        recipients=(OWNER, OPERATOR),
        owners=(OWNER,),
    )
    return Desk(
        trader=trader,
        records=Records(db, "test"),
        tickets=Tickets(db, "test"),
        samples=EquitySamples(db, "test"),
        prices=SmallPrices(),
        painter=painter or SmallPainter(),
        tunable=Tuning(config, lambda: trader.settings),
        vitals=SmallVitals(),
        look=look,
        initial_equity=lambda: 10_000.0,
        studies=studies,
        laboratory=lab,
        jobs=jobs,
        commands=commands,
    )


@dataclass
class Reader:
    """Somebody at the phone who waits for a message instead of sleeping."""

    human: Human
    user_id: int = OWNER
    seen: dict[int, Json] = field(default_factory=dict)
    cursor: int = 0

    async def say(self, text: str) -> int:
        """Write; returns the message id."""
        message_id: int = (await self.human.say(text, user_id=self.user_id))["message_id"]
        return message_id

    async def look(self, seconds: int = 0) -> list[Json]:
        """Everything the bot has said so far, oldest first; waits up to `seconds` for something new."""
        found = await self.human.read(since=self.cursor, wait=seconds, user_id=self.user_id)
        self.cursor = found["cursor"]
        self.seen.update({message["message_id"]: message for message in found["messages"]})
        return [self.seen[each] for each in sorted(self.seen) if self.seen[each]["from"] == "bot"]

    async def until(self, wanted: Callable[[list[Json]], Any], seconds: float = 10) -> Any:
        """The first true value of `wanted` over the bot's messages."""
        async with asyncio.timeout(seconds):
            found = wanted(await self.look())
            while not found:
                found = wanted(await self.look(5))
        return found

    async def reply_to(self, message_id: int) -> Json:
        """The bot's reply to a message."""
        reply: Json = await self.until(
            lambda said: next((each for each in said if each["reply_to"] == message_id), None)
        )
        return reply

    async def message(self, words: str) -> Json:
        """The first message of the bot that holds the words."""
        found: Json = await self.until(
            lambda said: next((each for each in said if words in (each["text"] or each["caption"])), None)
        )
        return found


@dataclass
class Stage:
    """One account with its conversation, a phone and its people."""

    db: Database
    journal: SqlJournal
    outbox: Outbox
    inbox: InboxStore
    trader: SmallTrader
    conversation: Conversation
    jobs: Jobs
    owner: Reader
    others: Callable[[int], Reader]


@asynccontextmanager
async def running_phone(**options: Any) -> AsyncIterator[tuple[Phone, Human]]:
    """A phone and a human in front of it."""
    phone = Phone(None, owner_id=OWNER, listed=[OPERATOR, VIEWER], **options)
    await phone.start()
    try:
        async with ClientSession(phone.url) as session:
            yield phone, Human(session)
    finally:
        await phone.stop()


@contextmanager
def no_task_failed() -> Iterator[None]:
    """A task that failed was started again and may have hidden its failure: here it is one."""

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            failed.append(record.getMessage())

    failed: list[str] = []
    watch, logger = Watch(logging.ERROR), logging.getLogger("bot.conversation")
    logger.addHandler(watch)
    try:
        yield
    finally:
        logger.removeHandler(watch)
    assert failed == []


@asynccontextmanager
async def staged(
    folder: Path,
    *,
    phone: tuple[Phone, Human] | None = None,
    allowed: AllowList = ALLOWED,
    clock: RealClock | None = None,
    pace: Pace | None = None,
    busy: bool = False,
    wall: Callable[[], datetime] = wall_clock,
    commands: tuple[Command, ...] = COMMANDS,
    look: Look | None = None,
    painter: SmallPainter | None = None,
    illustrated: bool = False,
    api_url: str | None = None,
    laboratory: SmallLaboratory | None = None,
    work_clock: RealClock | None = None,
    start: bool = True,
) -> AsyncIterator[Stage]:
    """Everything up on one database; a second one on the same folder is the program started again."""
    async with AsyncExitStack() as stack:
        stack.enter_context(no_task_failed())
        if phone is None:
            phone = await stack.enter_async_context(running_phone())
        server, human = phone
        db = await open_database(folder / "test.db")
        stack.push_async_callback(db.close)
        journal = SqlJournal(db, "test", clock=wall_clock)
        outbox, inbox = Outbox(db, "test"), InboxStore(db, "7000000001")
        trader = SmallTrader(journal, busy=busy)
        work = asyncio.create_task(trader.run())
        stack.callback(work.cancel)
        desk = a_desk(
            db, trader, commands=commands, look=look, painter=painter, laboratory=laboratory, clock=work_clock
        )
        jobs = desk.jobs
        assert isinstance(jobs, Jobs)
        conversation = Conversation(
            token=DEFAULT_TOKEN,
            api_url=api_url or server.url,
            allowed=allowed,
            journal=journal,
            outbox=outbox,
            inbox=inbox,
            desk=desk,
            clock=clock or RealClock(),
            pace=pace,
            illustrated=illustrated,
            wall=wall,
        )
        if start:
            await jobs.start()
            await conversation.start()
            stack.push_async_callback(conversation.stop)
            stack.push_async_callback(jobs.stop)
        yield Stage(
            db=db,
            journal=journal,
            outbox=outbox,
            inbox=inbox,
            trader=trader,
            conversation=conversation,
            jobs=jobs,
            owner=Reader(human),
            others=lambda user_id: Reader(human, user_id),
        )


def a_status(**changes: Any) -> Status:
    """A quiet account."""
    fields: dict[str, Any] = {
        "badge": "PAPER",
        "leverage": 5.0,
        "market_time": NOON,
        "next_close": NOON + timedelta(hours=4),
        "paused": False,
        "gates": (),
        "cash": Decimal(10000),
        "equity": Decimal("10028.3"),
        "initial_equity": Decimal(10000),
        "day_pnl": Decimal("26.4"),
        "day_trades": 4,
        "day_wins": 3,
        "open_risk": 0.021,
        "symbols": ("BTCUSDT",),
        "muted": (),
        "interval": timedelta(hours=4),
        "settings": {},
        "lost": "",
        "looked_age": 0.4,
        "last_prices": {},
        "positions": (),
        "entries": (),
        "orders": (),
        "verdicts": 7,
        "trades": 4,
    }
    return Status(**(fields | changes))


def a_position(**changes: Any) -> PositionView:
    """A long that is ahead."""
    fields: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "side": Side.LONG,
        "verdict_id": 214,
        "qty": Decimal("0.012"),
        "entry_price": Decimal(63410),
        "stop": Decimal(62650),
        "liquidation": None,
        "take_profit": None,
        "mark": Decimal(63420),
        "unrealised": Decimal("41.2"),
        "r": 0.8,
        "best_r": 1.1,
        "initial_risk": Decimal("9.12"),
        "opened": NOON,
        "exit_due": None,
    }
    return PositionView(**(fields | changes))


def a_verdict(verdict_id: int = 215, **changes: Any) -> VerdictReached:
    """An approved short, as the specification's card shows it."""
    fields: dict[str, Any] = {
        "at": NOON,
        "verdict_id": verdict_id,
        "symbol": "ETHUSDT",
        "side": Side.SHORT,
        "approved": True,
        "gate": "",
        "reasons": ("trend and structure agree",),
        "close": Decimal("2410.5"),
        "entry": Decimal("2412.00"),
        "stop": Decimal("2441.0"),
        "take_profit": None,
        "r_distance": 29.0,
        "atr": 14.2,
        "qty": Decimal("0.430"),
        "size_modifier": 0.5,
        "risk_usdt": Decimal("8.70"),
        "equity": Decimal("2023.25"),
        "council": "rules",
        "signal_time": NOON - timedelta(hours=4),
        "answers": (
            AgentAnswer(agent="quant", status="OK", vote="SHORT", p_win=0.61, text="falling", against="squeeze risk"),
            AgentAnswer(agent="strategist", status="OK", vote="BEARISH", p_win=0.58, text="LH LL", against="5 lows"),
            AgentAnswer(agent="risk_manager", status="TIMEOUT", vote="", p_win=None, text=""),
        ),
    }
    return VerdictReached(**(fields | changes))


def a_fill(verdict_id: int | None = 215, **changes: Any) -> OrderFilled:
    """The entry of `a_verdict`, filled."""
    fields: dict[str, Any] = {
        "at": NOON,
        "exec_id": "e1",
        "link_id": "c-1",
        "order_id": "o1",
        "verdict_id": verdict_id,
        "symbol": "ETHUSDT",
        "purpose": Purpose.ENTRY,
        "side": OrderSide.SELL,
        "qty": Decimal("0.430"),
        "price": Decimal("2412.00"),
        "fee": Decimal("0.2074"),
        "maker": True,
        "bar_time": NOON,
        "stop": Decimal("2441.0"),
        "risk_usdt": Decimal("12.47"),
        "slippage_bp": 0.0,
    }
    return OrderFilled(**(fields | changes))


def a_trade(verdict_id: int | None = 215, **changes: Any) -> TradeClosed:
    """A short that was closed with a profit."""
    fields: dict[str, Any] = {
        "at": NOON + timedelta(hours=4),
        "verdict_id": verdict_id,
        "symbol": "ETHUSDT",
        "side": Side.SHORT,
        "signal_time": NOON,
        "entry_time": NOON,
        "exit_time": NOON + timedelta(hours=3, minutes=12),
        "entry_price": Decimal(2412),
        "exit_price": Decimal("2371.77"),
        "qty": Decimal("0.430"),
        "pnl": Decimal("17.30"),
        "fees": Decimal("0.93"),
        "funding": Decimal("0.11"),
        "risk_usdt": Decimal("9.12"),
        "r": 1.9,
        "best_r": 2.3,
        "worst_r": -0.4,
        "exit_reason": ExitReason.TRAILING,
        "cash": Decimal("10017.30"),
    }
    return TradeClosed(**(fields | changes))


def some_events(*more: Event) -> list[Event]:
    """One decision with its fill and its exit."""
    return [a_verdict(), a_fill(), a_trade(), *more]
