"""What happens by the wall clock: samples of the equity, the daily report, looks at the exchange, housekeeping.

    scheduler = Scheduler(chores, report, real_time=True)
    scheduler.every("vitals", 15, vitals.refresh)   # whatever else somebody wants done now and then
    scheduler.start()                               # inside the running loop; returns at once
    await scheduler.stop()                          # what is under way is cancelled and waited for

One AsyncIOScheduler of our own. Nothing of market time is decided here: when the market runs faster than the wall,
its days and bars are none of a clock's business, and neither samples nor reports are made. A job that fails is
logged once, its recovery once, and no other job knows of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from typing import Any, Final

from apscheduler.schedulers.asyncio import AsyncIOScheduler  # type: ignore[import-untyped]
from apscheduler.triggers.base import BaseTrigger  # type: ignore[import-untyped]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-untyped]

from bot.cards import Look
from bot.notifier import EVENT, URGENT
from bot.pictures import equity_picture
from bot.ports import Trader
from bot.text import CAPTION_LIMIT, UNKNOWN, coin, fitted, money, multiple, percent, price
from storage.database import Database
from storage.equity import DayRecord, Days, EquitySamples, Sample, refined
from storage.housekeeping import DiskWatch, Housekeeping, StaleCard, free_space, stale_cards
from storage.outbox import Amendment, Media, NewMessage, Outbox
from storage.queries import EquityCurve, Records
from storage.reports import midnight
from storage.tickets import Tickets
from trading.errors import ConclaveError
from trading.events import Reconcile
from trading.model import EPOCH, millis
from trading.pictures import Painter
from trading.ports import Clock
from trading.status import PositionView, Status
from trading.steering import SCHEDULER

_LOG = logging.getLogger(__name__)

SAMPLE_SECONDS: Final = 300.0
RECONCILE_SECONDS: Final = 900.0
HOUSEKEEPING_SECONDS: Final = 3600.0
DISK_SECONDS: Final = 60.0
CARDS_SECONDS: Final = 20.0
EIGHT: Final = time(8)
_SETTLED_SECONDS: Final = 120.0  # after a start there is more urgent work than housekeeping
_DAY: Final = timedelta(days=1)
_LONGEST_JOB: Final = 300.0
_PAINT_SECONDS: Final = 60.0
_CHART_DAYS: Final = 30
_MOST_POSITIONS: Final = 10
_EXPIRED: Final = "expired: nothing was changed"
_LOOK_BACK: Final = timedelta(days=2)

Work = Callable[[], Awaitable[None]]


# -------------------------------------------------------------------------------------------------- the clockwork


def next_moment(after: datetime, at: time, zone: tzinfo) -> datetime:
    """The first moment, not before `after`, at which a clock in `zone` shows `at` (in UTC).

    On the day on which summer time jumps over `at` it comes as much later; where the hour comes twice, it is the first.
    """
    day = after.astimezone(zone).date()
    while (moment := datetime.combine(day, at, zone).astimezone(UTC)) < after:
        day += _DAY
    return moment


class EveryDay(BaseTrigger):  # type: ignore[misc]
    """Once a day at a local time. APScheduler's own cron trigger leaves a day out whose hour summer time jumps over."""

    def __init__(self, at: time, zone: tzinfo) -> None:
        self._at = at
        self._zone = zone

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """After the one before, or the first that is not over."""
        after = now if previous_fire_time is None else previous_fire_time + timedelta(microseconds=1)
        return next_moment(after, self._at, self._zone)


class EveryWeek(EveryDay):
    """Once a week, on the given day (Monday is 0) of the zone."""

    def __init__(self, weekday: int, at: time, zone: tzinfo) -> None:
        super().__init__(at, zone)
        self._weekday = weekday

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """The first such day after the one before."""
        moment = super().get_next_fire_time(previous_fire_time, now)
        while moment.astimezone(self._zone).weekday() != self._weekday:
            moment = super().get_next_fire_time(moment, now)
        return moment


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as people see it: when it runs next (None while stopped), and what keeps it from working."""

    name: str
    next_run: datetime | None
    trouble: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    name: str
    work: Work
    trigger: Any
    grace: float
    deadline: float
    first: float | None


class Scheduler:
    """The jobs of one account. It is started once and stopped once.

    `real_time`: market time is the wall's. Otherwise neither is the equity sampled nor is there a daily report.
    """

    def __init__(self, chores: Chores, report: DailyReport, *, real_time: bool) -> None:
        self._engine = AsyncIOScheduler(timezone=UTC)
        self._jobs: dict[str, _Job] = {}
        self._troubles: dict[str, str] = {}
        self._running: set[asyncio.Task[Any]] = set()
        self._stopping = False
        self.every("cards", CARDS_SECONDS, chores.end_cards, first=0)
        self.every("disk", DISK_SECONDS, chores.watch_disk, first=0)
        self.every("reconcile", RECONCILE_SECONDS, chores.reconcile)
        self.every("housekeeping", HOUSEKEEPING_SECONDS, chores.keep_house, first=_SETTLED_SECONDS)
        if real_time:
            self.every("equity", SAMPLE_SECONDS, chores.sample_equity, first=0)
            self._add("daily report", report.send_due, EveryDay(report.at, report.zone), _DAY.total_seconds(), first=0)

    def every(self, name: str, seconds: float, work: Work, *, first: float | None = None) -> None:
        """Have something done every so often; for the first time `first` seconds after the start. Before `start`."""
        self._add(name, work, IntervalTrigger(seconds=seconds, timezone=UTC), seconds, first)

    def weekly(self, name: str, weekday: int, at: time, zone: tzinfo, work: Work) -> None:
        """Have something done once a week (Monday is 0) at a local time. Before `start`."""
        self._add(name, work, EveryWeek(weekday, at, zone), _DAY.total_seconds(), None)

    def start(self) -> None:
        """Begin, in the running loop."""
        now = datetime.now(UTC)
        for job in self._jobs.values():
            first = {} if job.first is None else {"next_run_time": now + timedelta(seconds=job.first)}
            self._engine.add_job(
                self._run,
                job.trigger,
                args=(job,),
                id=job.name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=max(int(job.grace), 1),
                **first,
            )
        self._engine.start()

    async def stop(self) -> None:
        """End every job. A second call does nothing."""
        if self._stopping or not self._engine.running:
            return
        self._stopping = True
        self._engine.pause()
        await asyncio.sleep(0)  # what was begun a moment ago sees that it is over
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._engine.shutdown(wait=False)
        await asyncio.sleep(0)  # the engine ends in the loop's next round

    def jobs(self) -> list[JobView]:
        """Every job, in the order in which they were named."""
        return [
            JobView(name=name, next_run=self._next_run(name), trouble=self._troubles.get(name, ""))
            for name in self._jobs
        ]

    def _next_run(self, name: str) -> datetime | None:
        known = self._engine.get_job(name) if self._engine.running and not self._stopping else None
        return None if known is None else known.next_run_time

    def _add(self, name: str, work: Work, trigger: Any, grace: float, first: float | None) -> None:
        deadline = min(grace * 0.75, _LONGEST_JOB)  # over before it is due again
        self._jobs[name] = _Job(
            name=name, work=work, trigger=trigger, grace=grace, deadline=deadline, first=first
        )

    async def _run(self, job: _Job) -> None:
        """One run of a job. The one boundary at which its failures end."""
        task = asyncio.current_task()
        if self._stopping or task is None:
            return
        self._running.add(task)
        try:
            async with asyncio.timeout(job.deadline):
                await job.work()
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        except Exception as error:  # noqa: BLE001  the supervised boundary of every job
            self._failed(job.name, error)
        else:
            if self._troubles.pop(job.name, ""):
                _LOG.info("job_recovered job='%s'", job.name)
        finally:
            self._running.discard(task)

    def _failed(self, name: str, error: Exception) -> None:
        """Says a failure once, until it is another kind or over."""
        kind = type(error).__name__
        if self._troubles.get(name) != kind:
            _LOG.error("job_failed job='%s' error='%s: %s'", name, kind, error, exc_info=error)
        self._troubles[name] = kind


# ------------------------------------------------------------------------------------------------- what is to be done


@dataclass(slots=True, kw_only=True)
class Chores:
    """The jobs themselves but for the daily report; each may be called at any time and any number of times.

    `wall` is the wall's clock, `clock` the market's. `folder` lies on the disk that must not run full.
    """

    db: Database
    account: str
    trader: Trader
    outbox: Outbox
    tickets: Tickets
    samples: EquitySamples
    housekeeping: Housekeeping
    look: Look
    clock: Clock
    wall: Callable[[], datetime]
    recipients: Sequence[int]
    folder: Path
    disk: DiskWatch = field(default_factory=DiskWatch)
    _alerts: int = 0
    _began: bool = False
    _since: datetime | None = None  # tickets that ran out from then on may have cards with buttons

    async def sample_equity(self) -> None:
        """The account as it is now; nothing before the market's time is known."""
        at, status = self.clock.now(), self.trader.status()
        if at > EPOCH:
            await self.samples.add(Sample(at=at, equity=status.equity, cash=status.cash))

    async def reconcile(self) -> None:
        """Asks for a full look at the exchange, the wallet too."""
        self.trader.submit(Reconcile(by=SCHEDULER, command=f"{SCHEDULER}:{self.wall().isoformat()}"))

    async def keep_house(self) -> None:
        """Old rows go, the write-ahead log is folded back."""
        gone = await self.housekeeping.run(self.wall())
        if any(gone.values()):
            _LOG.info("housekeeping_done %s", " ".join(f"{name}={count}" for name, count in gone.items() if count))

    async def watch_disk(self) -> None:
        """Says once that the disk runs full, and once that it no longer does."""
        free = await asyncio.to_thread(free_space, self.folder)
        if (news := self.disk.news(free)) is None:
            return
        number = self._alerts + (news == "low")
        text = low_disk_text(free, self.look) if news == "low" else disk_text(free, self.look)
        key = f"disk:{self.wall():%Y-%m-%d}:{number}:{news}"
        priority, silent = (URGENT, False) if news == "low" else (EVENT, True)
        await self.outbox.put(
            [
                NewMessage(key=f"{key}:{chat}", chat_id=chat, text=text, priority=priority, silent=silent)
                for chat in self.recipients
            ]
        )
        level = logging.WARNING if news == "low" else logging.INFO
        _LOG.log(level, "disk_%s free_mb=%d", news, free // 1_000_000)
        self._alerts = number
        self.disk.told(news)

    async def end_cards(self) -> None:
        """Tickets whose time is over end, and their cards lose the buttons.

        The cards are looked for in what is stored: those of a crash or of a failure before this call are among them.
        """
        now = self.wall()
        if not self._began:
            self._began, self._since = True, now - _LOOK_BACK
        ended = [each.expires_at for each in await self.tickets.expire(now)]
        if not ended and self._since is None:
            return
        self._since = min([*ended, self._since or now])
        cards = await stale_cards(self.db, self.account, self._since)
        if cards:
            await self.outbox.put([_without_buttons(card) for card in cards])
        self._since = None


def _without_buttons(card: StaleCard) -> Amendment:
    """The end of a card. What was used before the end was said when it was used."""
    return Amendment(key=card.key, buttons=[], step=None if card.used else _EXPIRED)


def low_disk_text(free: int, look: Look) -> str:
    """The disk runs full, and what that means."""
    head = f"{look.lead} <b>ALERT disk</b>: {free / 1e6:,.0f} MB free where the database is"
    return f"{head}. Free some space: without any, nothing can be recorded and no order is sent."


def disk_text(free: int, look: Look) -> str:
    """The disk has space again."""
    return f"{look.lead} <b>Disk</b>: {free / 1e6:,.0f} MB are free again"


# -------------------------------------------------------------------------------------------------- the daily report


def due_moment(day: date, at: time, zone: tzinfo) -> datetime:
    """When a UTC day is reported: the first `at` o'clock in `zone` after its end."""
    return next_moment(midnight(day + _DAY), at, zone)


def due_days(now: datetime, at: time, zone: tzinfo) -> list[date]:
    """UTC days whose report came due within the last 24 hours, oldest first. Each day is due once, in every zone."""
    today = now.astimezone(UTC).date()
    days = [today - back * _DAY for back in (3, 2, 1)]
    return [day for day in days if timedelta(0) <= now - due_moment(day, at, zone) < _DAY]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayFacts:
    """What the report of a day is made of: the day, the equity (USDT) at its beginning, and how things stand now.

    `fallen` is the drawdown now, as a fraction of the highest equity at any close; None without one above zero.
    """

    record: DayRecord
    opening: float
    fallen: float | None
    status: Status


class DailyReport:
    """Yesterday in one message with a chart: for each chat once, late when the program was down at the hour."""

    def __init__(
        self,
        *,
        days: Days,
        records: Records,
        samples: EquitySamples,
        trader: Trader,
        outbox: Outbox,
        painter: Painter,
        look: Look,
        recipients: Sequence[int],
        wall: Callable[[], datetime],
        at: time = EIGHT,
    ) -> None:
        self.at = at
        self.zone = look.zone
        self._days = days
        self._records = records
        self._samples = samples
        self._trader = trader
        self._outbox = outbox
        self._painter = painter
        self._look = look
        self._recipients = tuple(recipients)
        self._wall = wall

    async def send_due(self) -> None:
        """Puts what is due and was not sent yet into the outbox; nothing for days before the first session."""
        push = self._look.push.get("daily", "on")
        first = await self._days.first()
        for day in due_days(self._wall(), self.at, self.zone):
            if push != "off" and first is not None and day >= first:
                await self._send(day, silent=push == "silent")

    async def _send(self, day: date, *, silent: bool) -> None:
        keys = {chat: f"daily:{day:%Y-%m-%d}:{chat}" for chat in self._recipients}
        open_ = [chat for chat, key in keys.items() if await self._outbox.message_id_of(key) is None]
        if not open_:
            return
        closes = await self._records.equity_curve()
        facts = await self._facts(day, closes)
        text = daily_text(facts, self._look)
        media = await self._chart(facts, closes)
        await self._outbox.put(
            [
                NewMessage(key=keys[chat], chat_id=chat, text=text, priority=EVENT, silent=silent, media=media)
                for chat in open_
            ]
        )

    async def _facts(self, day: date, closes: EquityCurve) -> DayFacts:
        status = self._trader.status()
        initial, now = float(status.initial_equity), float(status.equity)
        before = int(closes.time.searchsorted(millis(midnight(day)), "right"))
        peak = max(initial, now, float(closes.equity.max(initial=initial)))
        return DayFacts(
            record=await self._days.record(day),
            opening=float(closes.equity[before - 1]) if before else initial,
            fallen=(peak - now) / peak if peak > 0 else None,
            status=status,
        )

    async def _chart(self, facts: DayFacts, closes: EquityCurve) -> Media | None:
        """The last weeks as a picture; None when it cannot be drawn, for the words say it all."""
        day = facts.record.day
        curve = refined(closes, await self._samples.curve())
        first = int(curve.time.searchsorted(millis(midnight(day + _DAY) - _CHART_DAYS * _DAY)))
        shown = EquityCurve(time=curve.time[first:], equity=curve.equity[first:], exposed=curve.exposed[first:])
        start = float(curve.equity[first - 1]) if first else float(facts.status.initial_equity)
        try:
            picture = replace(equity_picture(shown, start, self._look.badge, self.zone), facts=_labels(facts))
            async with asyncio.timeout(_PAINT_SECONDS):
                data = await self._painter.paint(picture, self._look.theme)
        except (ConclaveError, TimeoutError) as error:
            _LOG.warning("daily_chart_left_out day=%s reason='%s: %s'", day, type(error).__name__, error)
            return None
        return Media(kind="photo", name=f"equity-{day:%Y-%m-%d}.png", data=data)


def _labels(facts: DayFacts) -> tuple[tuple[str, str], ...]:
    """The report's figures, beside the picture's title."""
    return (
        (f"{facts.record.day:%d %b}", money(facts.record.trades.pnl, unit="")),
        ("Equity", money(facts.status.equity, sign=False, unit="")),
        ("Drawdown", UNKNOWN if facts.fallen is None else percent(facts.fallen)),
    )


def daily_text(facts: DayFacts, look: Look) -> str:
    """The report as HTML, short enough for a picture's caption. Funding is positive when received, as on every card."""
    record, status = facts.record, facts.status
    drawdown = UNKNOWN if facts.fallen is None else percent(facts.fallen)
    paid = f"fees {money(record.fees, sign=False, unit='')}, funding {money(record.funding.copy_negate(), unit='')}"
    lines = [
        f"{look.lead} <b>DAY {record.day:%d %b}: {_result(facts)}</b>",
        f"The UTC day: {paid}",
        f"Decisions {record.approved} approved, {record.rejected} rejected",
        f"Now equity {money(status.equity, sign=False)}, drawdown {drawdown}",
    ]
    lines += [_position(each) for each in status.positions[:_MOST_POSITIONS]] or ["No open position"]
    if (more := len(status.positions) - _MOST_POSITIONS) > 0:
        lines.append(f"… {more} more open")
    return fitted(lines, CAPTION_LIMIT)


def _result(facts: DayFacts) -> str:
    """`+26.40 USDT (+0.26%) +1.9R, 3 of 4 won`."""
    totals = facts.record.trades
    if not totals.trades:
        return "no trade closed"
    gained = percent(float(totals.pnl) / facts.opening, sign=True) if facts.opening > 0 else UNKNOWN
    return f"{money(totals.pnl)} ({gained}) {multiple(totals.r)}, {totals.wins} of {totals.trades} won"


def _position(view: PositionView) -> str:
    result = f"{money(view.unrealised)} {multiple(view.r)}"
    return f"{view.side.value.upper()} {coin(view.symbol)} {result}, stop {price(view.stop)}"
