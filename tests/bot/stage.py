"""The conversation with everything real around it: database, python-telegram-bot, phone. Only the trader is small."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
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
from bot.grading import RememberingGrader
from bot.jobs import Jobs
from bot.phone import DEFAULT_TOKEN, Phone
from bot.ports import Advice, Command, Desk
from bot.settings import TradingConfig
from bot.studies import Studies
from bot.tuning import Tuning
from research.synthetic import synthetic
from storage.council import CouncilRecords
from storage.database import Database, open_database
from storage.equity import EquitySamples
from storage.inbox import InboxStore
from storage.journal import SqlJournal
from storage.outbox import Outbox
from storage.queries import Records
from storage.tickets import Tickets
from tests.bot.laboratory import SmallLaboratory
from tests.bot.phone.driver import Human, Json
from trading.council.aggregate import FOR_SIDE
from trading.errors import BadInput, ConclaveError
from trading.events import (
    AgentAnswer,
    AgentAnswered,
    CandidateProposed,
    ChangeCouncil,
    ChangeSettings,
    ChangeSymbols,
    CommandDone,
    CouncilModeChanged,
    Event,
    ModelCall,
    OpinionReached,
    OrderFilled,
    PauseTrading,
    Request,
    ResumeTrading,
    SettingsChanged,
    ShadowEnded,
    SymbolsChanged,
    Testimony,
    TradeClosed,
    TradingPaused,
    TradingResumed,
    VerdictReached,
)
from trading.grades import STATUSES, AgentGrade, Arm, Grade, Graded, Judged
from trading.model import CandleSeries, ExitReason, OrderSide, Purpose, Side
from trading.pictures import Picture, Theme
from trading.ports import Deliberation
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
        self.council = "rules"
        self.shows: dict[str, Any] = {}

    def status(self) -> Status:
        shut = ("paused: /resume takes entries again",) if self.paused else ()
        known: dict[str, Any] = {"paused": self.paused, "gates": shut, "settings": dict(self.settings)}
        return a_status(**(known | {"muted": self.muted, "council": self.council} | self.shows))

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
        if isinstance(request, ChangeCouncil):
            return CouncilModeChanged(**about, mode=request.mode, old=self.council)
        name = type(request).__name__.lower()
        return CommandDone(**about, name=name, done=True, found=("asked the exchange: 0 positions, 0 orders",))

    def _fold(self, event: Event) -> None:
        if isinstance(event, TradingPaused | TradingResumed):
            self.paused = isinstance(event, TradingPaused)
        elif isinstance(event, SettingsChanged):
            self.settings |= event.values
        elif isinstance(event, SymbolsChanged):
            self.muted = event.muted
        elif isinstance(event, CouncilModeChanged):
            self.council = event.mode


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


class SmallGrader:
    """Means and sums of what it is given, and how often it was asked; `fails` is raised instead.

    Its word is the sign of what vetoing was worth.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, Theme]] = []
        self.fails: ConclaveError | None = None

    async def grade(self, rows: Sequence[Judged], title: str, theme: Theme) -> Graded:
        self.asked.append((title, theme))
        if self.fails is not None:
            raise self.fails
        if not rows:
            raise BadInput("there is no candidate")
        return Graded(grade=small_grade(rows), chart=PIXEL, workbook=b"PK-book", workbook_name="council.xlsx")


def small_grade(rows: Sequence[Judged]) -> Grade:
    """What can be said of candidates without a bootstrap."""
    ended = [(row.weight, row.r) for row in rows if row.r is not None]
    avoided = sum((1 - weight) * max(-r, 0.0) for weight, r in ended)
    missed = sum((1 - weight) * max(r, 0.0) for weight, r in ended)
    arms = {rows[-1].council: [weight for weight, _ in ended], "off": [1.0] * len(ended)}
    cost = sum(ballot.cost_usd for row in rows for ballot in row.ballots)
    days = (rows[-1].at - rows[0].at) / 86_400_000
    return Grade(
        council=rows[-1].council,
        word="helps" if avoided > missed else "insufficient evidence",
        reason=f"It avoided {avoided:.1f} R and missed {missed:.1f} R.",
        needed=None if avoided > missed else 10 * len(rows),
        candidates=len(rows),
        ended=len(ended),
        unfilled=sum(row.ended and row.r is None for row in rows),
        waiting=sum(not row.ended and row.r is None for row in rows),
        base_rate=_average([float(r > 0) for _, r in ended]),
        avoided=avoided,
        missed=missed,
        random=None,
        arms=tuple(_arm(name, weights, [r for _, r in ended]) for name, weights in arms.items()),
        agents=tuple(_graded(name, rows) for name in dict.fromkeys(b.agent for row in rows for b in row.ballots)),
        cost_usd=cost,
        cost_per_decision=cost / len(rows),
        cost_per_month=cost / days * 30 if days >= 1 else None,
        first=rows[0].at,
        last=rows[-1].at,
        days=days,
    )


def _average(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _arm(name: str, weights: Sequence[float], results: Sequence[float]) -> Arm:
    pairs = list(zip(weights, results, strict=True))
    return Arm(
        name=name,
        approved=sum(weight > 0 for weight in weights),
        vetoed=sum(weight <= 0 for weight in weights),
        weight=_average(weights) or 0.0,
        mean_approved=_average([r for weight, r in pairs if weight > 0]),
        mean_vetoed=_average([r for weight, r in pairs if weight <= 0]),
        total=sum(weight * r for weight, r in pairs),
        edge=None,
        interval=None,
    )


def _graded(agent: str, rows: Sequence[Judged]) -> AgentGrade:
    said = [(ballot, row.r) for row in rows for ballot in row.ballots if ballot.agent == agent]
    scored = [(b.p_win, r > 0) for b, r in said if b.status == "OK" and b.p_win is not None and r is not None]
    votes = {"for": 1, "neither": 0, "against": -1}
    took = sorted(ballot.seconds for ballot, _ in said if ballot.seconds is not None)
    return AgentGrade(
        agent=agent,
        asked=len(said),
        statuses={name: sum(ballot.status == name for ballot, _ in said) for name in STATUSES},
        votes={
            name: sum(ballot.status == "OK" and ballot.stance == stance for ballot, _ in said)
            for name, stance in votes.items()
        },
        scored=len(scored),
        brier=_average([(odds - won) ** 2 for odds, won in scored]),
        skill=None,
        skill_interval=None,
        bins=(),
        seconds=(took[len(took) // 2], took[-1]) if took else None,
        cost_usd=sum(ballot.cost_usd for ballot, _ in said),
        proposed_weight=0.0,
    )


class SmallAdviser:
    """A council of one that is for every long and against every short, and what it was asked; `fails` is raised."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Side | None]] = []
        self.fails: ConclaveError | None = None
        self.problem = ""

    async def __call__(self, symbol: str, side: Side | None) -> Advice:
        self.asked.append((symbol, side))
        if self.fails is not None:
            raise self.fails
        if self.problem:
            return Advice(symbol=symbol, council="strict", problem=self.problem)
        meant = side or Side.LONG
        vote = str(FOR_SIDE[Side.LONG][0])
        said = a_testimony(vote=vote)
        approved = meant is Side.LONG
        return Advice(
            symbol=symbol,
            council="strict",
            side=meant,
            why="you named it" if side else "the price is above its trend",
            at=NOON,
            close=63_410.5,
            ruling=Deliberation(
                approved=approved,
                size_multiplier=0.5 if approved else 0.0,
                reasons=("the Quant has the only say",),
                answers=(said.answer,),
            ),
            said=(said,),
        )


NEEDS_KEYS = "needs HF_TOKEN in .env"


def small_modes() -> Mapping[str, str]:
    """All can be had but the shadow."""
    return {"rules": "", "strict": "", "degraded": "", "shadow": NEEDS_KEYS, "off": ""}


def a_desk(
    db: Database,
    trader: SmallTrader,
    *,
    commands: tuple[Command, ...] = COMMANDS,
    look: Look | None = None,
    painter: SmallPainter | None = None,
    laboratory: SmallLaboratory | None = None,
    clock: RealClock | None = None,
    grader: SmallGrader | None = None,
    adviser: SmallAdviser | None = None,
    modes: Callable[[], Mapping[str, str]] = small_modes,
) -> Desk:
    """What handlers look at, all of it real but trader, prices, painter, vitals, laboratory, grader and adviser.

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
        council=CouncilRecords(db, "test"),
        grader=RememberingGrader(grader or SmallGrader()),
        council_modes=modes,
        advise=adviser or SmallAdviser(),
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
        "council": "rules",
        "council_health": "",
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


def a_candidate(verdict_id: int = 215, **changes: Any) -> CandidateProposed:
    """What `a_verdict` decides on, before the council."""
    about = a_verdict(verdict_id)
    fields: dict[str, Any] = {
        name: getattr(about, name)
        for name in CandidateProposed.__dataclass_fields__
        if name not in {"qty", "risk_usdt", "council"}
    }
    fields |= {"qty": Decimal("0.860"), "risk_usdt": Decimal("17.40"), "council": "strict"}
    return CandidateProposed(**(fields | changes))


def a_call(**changes: Any) -> ModelCall:
    """One that was answered."""
    fields: dict[str, Any] = {
        "attempt": 1,
        "repair": False,
        "status": "OK",
        "code": 200,
        "finish": "stop",
        "raw": '{"signal":"SHORT"}',
        "problem": "",
        "latency_ms": 3200,
        "bytes_in": 8120,
        "bytes_out": 640,
        "tokens_in": 2345,
        "tokens_out": 210,
        "cost_usd": Decimal("0.0012"),
        "key": "a1b2",
    }
    return ModelCall(**(fields | changes))


def a_testimony(agent: str = "quant", *, vote: str = "SHORT", **changes: Any) -> Testimony:
    """A model that has answered."""
    cited = [{"key": "rsi", "value": 28.4, "reading": "falling"}, {"key": "inside_band", "value": True, "reading": "x"}]
    answer = AgentAnswer(
        agent=agent,
        status="OK",
        vote=vote,
        p_win=0.61,
        text="falling",
        against="squeeze risk",
        details={"evidence": cited},
    )
    fields: dict[str, Any] = {
        "answer": answer,
        "provider": "huggingface",
        "model": "deepseek-ai/DeepSeek-V3.2:novita",
        "prompt": f"{agent}/v001",
        "prompt_hash": "1f" * 32,
        "schema_hash": "2e" * 32,
        "packet": '{"rsi":28.4}',
        "calls": (a_call(),),
    }
    return Testimony(**(fields | changes))


def a_failure(agent: str = "quant", status: str = "TIMEOUT", **changes: Any) -> Testimony:
    """A model that has not."""
    problem = "no answer in 8 s"
    answer = AgentAnswer(agent=agent, status=status, vote="", p_win=None, text=problem)
    call = a_call(status=status, code=0, finish="", raw="", problem=problem, latency_ms=8000, bytes_out=0,
                  tokens_in=None, tokens_out=None, cost_usd=Decimal(0))  # fmt: skip
    fields: dict[str, Any] = {"answer": answer, "calls": (call,)}
    return a_testimony(agent, **(fields | changes))


def an_answered(said: Testimony, verdict_id: int | None = 215, **changes: Any) -> AgentAnswered:
    """An agent's part in the debate about `a_candidate`."""
    fields: dict[str, Any] = {"at": NOON, "symbol": "ETHUSDT", "side": Side.SHORT, "council": "strict"}
    return AgentAnswered(**(fields | {"verdict_id": verdict_id, "said": said} | changes))


def an_opinion(verdict_id: int = 215, **changes: Any) -> OpinionReached:
    """The models against what the rules have approved."""
    fields: dict[str, Any] = {
        "at": NOON,
        "verdict_id": verdict_id,
        "symbol": "ETHUSDT",
        "side": Side.SHORT,
        "council": "strict",
        "approved": False,
        "size_modifier": 0.0,
        "reasons": ("The Quant votes LONG against this short: rising.",),
        "answers": (),
    }
    return OpinionReached(**(fields | changes))


def a_shadow(verdict_id: int = 215, **changes: Any) -> ShadowEnded:
    """A candidate that would have been trailed out with a gain."""
    fields: dict[str, Any] = {
        "at": NOON + timedelta(hours=12),
        "verdict_id": verdict_id,
        "symbol": "ETHUSDT",
        "side": Side.SHORT,
        "signal_time": NOON - timedelta(hours=4),
        "ended": "trailing",
        "entry_time": NOON,
        "exit_time": NOON + timedelta(hours=8),
        "exit_price": 2360.0,
        "r": 1.8,
        "best_r": 2.3,
    }
    return ShadowEnded(**(fields | changes))


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
