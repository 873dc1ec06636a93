"""What happens by the wall clock: when it is due, that it happens once, and that a failure stays where it is."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from bot.cards import Look
from bot.scheduler import (
    EIGHT,
    Chores,
    DailyReport,
    DayFacts,
    EveryDay,
    Scheduler,
    daily_text,
    due_days,
    due_moment,
    next_moment,
)
from bot.text import visible
from storage.database import Database, open_database
from storage.equity import DayRecord, Days, EquitySamples
from storage.housekeeping import DiskWatch, Housekeeping, Keep
from storage.journal import SqlJournal
from storage.outbox import NewMessage, Outbox
from storage.queries import Records
from storage.reports import Totals
from storage.tickets import Ticket, Tickets
from tests.bot import stage
from tests.bot.stage import OPERATOR, OWNER, PIXEL, SmallPainter, SmallTrader, a_fill, a_status, a_trade, a_verdict
from trading.errors import ConclaveError, Transient
from trading.events import EquityMarked, Event, FundingPaid, Reconcile, SessionStarted
from trading.model import EPOCH
from trading.pictures import EquityPicture, Picture, Theme
from trading.status import PositionView

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Los_Angeles",
    "America/Santiago",  # summer time jumps over midnight
    "America/Sao_Paulo",
    "Asia/Tokyo",
    "Asia/Kolkata",
    "Asia/Singapore",  # 08:00 is midnight UTC
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Auckland",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)
YESTERDAY = date(2026, 7, 20)


@dataclass
class Walls:
    """A wall clock that is put by hand, and a market clock that shows the same."""

    at: datetime = NOW
    heard: datetime | None = None

    def __call__(self) -> datetime:
        return self.at

    def now(self) -> datetime:
        return self.at if self.heard is None else self.heard

    def monotonic(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class BrokenPainter(SmallPainter):
    """Cannot draw, and says so as it is told to."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    async def paint(self, picture: Picture, theme: Theme) -> bytes:
        await super().paint(picture, theme)
        raise self.error


@dataclass
class Room:
    """One account with everything the jobs need, all of it real but trader, painter and clocks."""

    db: Database
    journal: SqlJournal
    outbox: Outbox
    tickets: Tickets
    samples: EquitySamples
    trader: SmallTrader
    walls: Walls
    painter: SmallPainter
    folder: Path
    recipients: tuple[int, ...] = (OWNER, OPERATOR)
    look: Look = field(default_factory=lambda: Look(badge="PAPER"))

    def chores(self, **changes: Any) -> Chores:
        """As after a start of the program."""
        fields: dict[str, Any] = {
            "db": self.db,
            "account": "test",
            "trader": self.trader,
            "outbox": self.outbox,
            "tickets": self.tickets,
            "samples": self.samples,
            "housekeeping": Housekeeping(self.db, Path(self.db.name), keep=Keep(messages=1)),
            "look": self.look,
            "clock": self.walls,
            "wall": self.walls,
            "recipients": self.recipients,
            "folder": self.folder,
        }
        return Chores(**(fields | changes))

    def report(self, *, at: time = EIGHT) -> DailyReport:
        """As after a start of the program."""
        return DailyReport(
            days=Days(self.db, "test"),
            records=Records(self.db, "test"),
            samples=self.samples,
            trader=self.trader,
            outbox=self.outbox,
            painter=self.painter,
            look=self.look,
            recipients=self.recipients,
            wall=self.walls,
            at=at,
        )

    async def sent(self) -> list[NewMessage]:
        """Take and send all that waits, in the outbox's order."""
        found = []
        while message := await self.outbox.next():
            shown = NewMessage(
                key=message.key,
                chat_id=message.chat_id,
                text="\n".join([message.text, *message.steps]),
                silent=message.silent,
                buttons=message.buttons,
                media=message.media,
                priority=message.priority,
            )
            found.append(shown)
            await self.outbox.sent(message.id, message.id, message.revision)
        return found

    async def began(self, at: datetime = NOW - 30 * DAY) -> None:
        """The account's first session."""
        await self.journal.append([a_session(at)])


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    db = await open_database(tmp_path / "test.db")
    yield a_room(db, Walls(), tmp_path)
    await db.close()


@contextmanager
def said(level: int) -> Iterator[list[logging.LogRecord]]:
    """Every record of the jobs and of APScheduler at a level or above."""

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record)

    found: list[logging.LogRecord] = []
    watch = Watch(level)
    loggers = [logging.getLogger(name) for name in ("bot.scheduler", "apscheduler")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.addHandler(watch)
        each.setLevel(level)
    try:
        yield found
    finally:
        for each, before in zip(loggers, levels, strict=True):
            each.removeHandler(watch)
            each.setLevel(before)


async def until(true: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0.005)


def a_session(at: datetime) -> SessionStarted:
    return SessionStarted(
        at=at, badge="PAPER", symbols=("BTCUSDT",), interval_minutes=240, initial_equity=Decimal(10000), resumed=False
    )


def a_mark(at: datetime, equity: float) -> EquityMarked:
    return EquityMarked(at=at, equity=equity, cash=Decimal(10000), exposed=False, closes={"BTCUSDT": 1.0})


def a_position(**changes: Any) -> PositionView:
    return stage.a_position(**({"mark": Decimal(66843)} | changes))


# ---- when -----------------------------------------------------------------------------------------------------------


def local(*moments: datetime, zone: tzinfo = BERLIN) -> list[str]:
    return [f"{moment.astimezone(zone):%m-%d %H:%M}" for moment in moments]


def fired(at: time, zone: tzinfo, start: datetime, count: int) -> list[datetime]:
    """What APScheduler is told, as it asks."""
    trigger, found, now = EveryDay(at, zone), [], start
    before: datetime | None = None
    for _ in range(count):
        before = trigger.get_next_fire_time(before, now)
        found.append(before)
        now = before
    return found


def test_eight_is_eight_in_summer_and_winter() -> None:
    """The clock on the wall counts: 07:00 UTC in winter, 06:00 in summer."""
    spring = fired(EIGHT, BERLIN, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert [each.hour for each in spring] == [6, 6]
    autumn = fired(EIGHT, BERLIN, datetime(2026, 10, 24, 5, tzinfo=UTC), 3)
    assert [each.hour for each in autumn] == [6, 7, 7]


def test_an_hour_that_does_not_exist_is_not_left_out() -> None:
    """02:30 on the day on which 02:00 is followed by 03:00, and a midnight that is no time of day."""
    nights = fired(time(2, 30), BERLIN, datetime(2026, 3, 28, 12, tzinfo=UTC), 2)
    assert local(*nights) == ["03-29 03:30", "03-30 02:30"]
    santiago = ZoneInfo("America/Santiago")
    midnights = fired(time(0), santiago, datetime(2026, 9, 5, 12, tzinfo=UTC), 2)
    assert local(*midnights, zone=santiago) == ["09-06 01:00", "09-07 00:00"]


def test_an_hour_that_comes_twice_counts_once() -> None:
    """02:30 on the day on which the clocks go back."""
    found = fired(time(2, 30), BERLIN, datetime(2026, 10, 24, 12, tzinfo=UTC), 2)
    assert local(*found) == ["10-25 02:30", "10-26 02:30"]
    assert found[0] == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


zones = st.sampled_from(ZONES).map(ZoneInfo)
hours = st.times().map(lambda at: at.replace(microsecond=0))
days = st.dates(date(2015, 1, 1), date(2035, 12, 31))


@given(zone=zones, at=hours, day=days)
def test_the_trigger_fires_once_a_day(zone: ZoneInfo, at: time, day: date) -> None:
    """One moment each local day, always later, whatever the clocks do."""
    found = fired(at, zone, datetime(day.year, day.month, day.day, tzinfo=UTC), 5)
    assert found == sorted(set(found))
    dates = [each.astimezone(zone).date() for each in found]
    assert [(later - earlier).days for earlier, later in pairwise(dates)] == [1] * 4


@given(zone=zones, at=hours, day=days)
def test_every_day_is_due_once_after_its_end(zone: ZoneInfo, at: time, day: date) -> None:
    """Not before the day is over, within a day after it, when the trigger fires, and no day is forgotten."""
    due = due_moment(day, at, zone)
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + DAY
    assert timedelta(0) <= due - end <= 26 * HOUR
    assert EveryDay(at, zone).get_next_fire_time(None, due) == due
    assert day in due_days(due, at, zone)
    assert day in due_days(due + DAY - timedelta(seconds=1), at, zone)
    assert day not in due_days(due - timedelta(seconds=1), at, zone)
    assert day not in due_days(due + DAY, at, zone)


def test_yesterday_is_reported_at_eight() -> None:
    """In Berlin the morning after; in Tokyo, whose morning comes before the day is over, a day later."""
    assert local(due_moment(YESTERDAY, EIGHT, BERLIN)) == ["07-21 08:00"]
    tokyo = ZoneInfo("Asia/Tokyo")
    assert local(due_moment(YESTERDAY, EIGHT, tokyo), zone=tokyo) == ["07-22 08:00"]
    singapore = ZoneInfo("Asia/Singapore")
    assert local(due_moment(YESTERDAY, EIGHT, singapore), zone=singapore) == ["07-21 08:00"]


@given(zone=zones, at=hours, after=st.datetimes(datetime(2015, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_next_moment_is_the_next(zone: ZoneInfo, at: time, after: datetime) -> None:
    """Never before, and never more than a long day away."""
    found = next_moment(after, at, zone)
    assert after <= found <= after + 26 * HOUR


# ---- the clockwork --------------------------------------------------------------------------------------------------


def names(scheduler: Scheduler) -> list[str]:
    return [job.name for job in scheduler.jobs()]


async def test_a_replay_has_neither_samples_nor_reports(room: Room) -> None:
    """Its days pass in seconds: only what looks after the program itself is left."""
    report = room.report()
    assert names(Scheduler(room.chores(), report, real_time=False)) == ["cards", "disk", "reconcile", "housekeeping"]
    with_time = names(Scheduler(room.chores(), report, real_time=True))
    assert with_time == ["cards", "disk", "reconcile", "housekeeping", "equity", "daily report"]


async def test_every_job_knows_its_next_run(room: Room) -> None:
    """APScheduler is asked: soon after the start what is at once, then as often as it should be."""
    room.look = Look(badge="PAPER", zone=BERLIN)
    scheduler = Scheduler(room.chores(), room.report(), real_time=True)
    assert {job.next_run for job in scheduler.jobs()} == {None}
    began = datetime.now(UTC)
    scheduler.start()
    at_eight = next_moment(began, EIGHT, BERLIN)
    wanted = {
        "cards": began + timedelta(seconds=20),
        "disk": began + timedelta(seconds=60),
        "reconcile": began + timedelta(minutes=15),
        "housekeeping": began + timedelta(minutes=2),
        "equity": began + timedelta(minutes=5),
        "daily report": at_eight,
    }

    def settled() -> bool:
        runs = {job.name: job.next_run for job in scheduler.jobs()}
        return all(abs((runs[name] or EPOCH) - at) < timedelta(seconds=2) for name, at in wanted.items())

    await until(settled)
    async with asyncio.timeout(5):
        while await room.samples.latest() is None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    await scheduler.stop()
    assert {job.next_run for job in scheduler.jobs()} == {None}


async def test_a_failing_job_is_told_once_and_hurts_nobody(room: Room) -> None:
    """The others go on; another kind of failure is news, and so is its end."""
    errors: list[Exception | None] = [ValueError("one"), ValueError("two"), KeyError("three"), None, None]
    runs: Counter[str] = Counter()

    async def failing() -> None:
        error = errors[min(runs["failing"], 4)]
        runs["failing"] += 1
        if error is not None:
            raise error

    async def sound() -> None:
        runs["sound"] += 1

    scheduler = Scheduler(room.chores(), room.report(), real_time=False)
    scheduler.every("failing", 0.05, failing, first=0)
    scheduler.every("sound", 0.05, sound, first=0)
    with said(logging.INFO) as records:
        scheduler.start()
        await until(lambda: runs["failing"] >= 1)
        assert [job.trouble for job in scheduler.jobs() if job.name == "failing"] == ["ValueError"]
        await until(lambda: runs["failing"] >= 5 and runs["sound"] >= 5)
        await scheduler.stop()
    assert {job.trouble for job in scheduler.jobs()} == {""}
    told = [(r.levelname, r.getMessage().split()[0]) for r in records if r.name == "bot.scheduler"]
    assert told == [("ERROR", "job_failed"), ("ERROR", "job_failed"), ("INFO", "job_recovered")]


async def test_a_job_that_hangs_is_ended_before_it_is_due_again(room: Room) -> None:
    """It counts as failed, and comes again."""
    begun: list[float] = []

    async def hanging() -> None:
        begun.append(asyncio.get_running_loop().time())
        await asyncio.Event().wait()

    scheduler = Scheduler(room.chores(), room.report(), real_time=False)
    scheduler.every("hanging", 0.3, hanging, first=0)
    with said(logging.WARNING) as records:
        scheduler.start()
        await until(lambda: len(begun) >= 4)
        await scheduler.stop()
    assert [record.levelname for record in records if record.name == "bot.scheduler"] == ["ERROR"]


async def test_stopping_ends_what_is_under_way(room: Room) -> None:
    """Within the moment, without a word in the log; nothing runs afterwards, and it may be said twice."""
    entered, left = asyncio.Event(), asyncio.Event()

    async def long() -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    scheduler = Scheduler(room.chores(), room.report(), real_time=True)
    scheduler.every("long", 1000, long, first=0)
    with said(logging.WARNING) as records:
        scheduler.start()
        await entered.wait()
        async with asyncio.timeout(1):
            await scheduler.stop()
        assert left.is_set()
        await scheduler.stop()
    assert records == []
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert others == set()


async def test_stopping_right_after_the_start_is_silent(room: Room) -> None:
    """Before the first job has begun, and before anything was started at all."""
    with said(logging.WARNING) as records:
        scheduler = Scheduler(room.chores(), room.report(), real_time=True)
        await scheduler.stop()
        for rounds in range(5):
            scheduler = Scheduler(room.chores(), room.report(), real_time=True)
            scheduler.start()
            for _ in range(rounds):
                await asyncio.sleep(0)
            await scheduler.stop()
        await asyncio.sleep(0.01)
    assert records == []


# ---- samples, reconciling, housekeeping, disk -----------------------------------------------------------------------


async def test_a_sample_is_the_account_as_it_is(room: Room) -> None:
    """Market time, equity and cash of the status, digit by digit."""
    await room.chores().sample_equity()
    sample = await room.samples.latest()
    assert sample is not None
    assert (sample.at, sample.equity, sample.cash) == (NOW, Decimal("10028.3"), Decimal(10000))
    assert sample.unrealised == Decimal("28.3")


async def test_a_market_that_has_not_begun_is_not_sampled(room: Room) -> None:
    """Before the first word of the exchange its clock stands at the epoch."""
    room.walls.heard = EPOCH
    await room.chores().sample_equity()
    assert await room.samples.latest() is None


async def test_each_look_is_asked_for_under_its_own_id(room: Room) -> None:
    """A request has its effect once for each id: two looks need two."""
    chores = room.chores()
    await chores.reconcile()
    room.walls.at += 15 * timedelta(minutes=1)
    await chores.reconcile()
    asked = [each for each in room.trader.asked if isinstance(each, Reconcile)]
    assert [each.by for each in asked] == ["scheduler", "scheduler"]
    assert len({each.command for each in asked}) == 2


async def test_housekeeping_is_done_as_of_now(room: Room) -> None:
    """What it was told to keep stays."""
    await room.outbox.put([NewMessage(key=f"m{place}", chat_id=1, text="t") for place in range(3)])
    await room.sent()
    await room.chores().keep_house()
    kept = [await room.outbox.message_id_of(f"m{place}") for place in range(3)]
    assert kept == [None, None, 3]


async def test_a_full_disk_is_told_to_everybody_once(room: Room) -> None:
    """Urgently; the next minutes and the next start say nothing new on the same day."""
    full = 10**18
    chores = room.chores(disk=DiskWatch(full))
    for _ in range(3):
        await chores.watch_disk()
    told = await room.sent()
    assert [(each.chat_id, each.silent, each.priority) for each in told] == [(OWNER, False, 0), (OPERATOR, False, 0)]
    await room.chores(disk=DiskWatch(full)).watch_disk()
    assert await room.sent() == []
    room.walls.at += DAY
    await room.chores(disk=DiskWatch(full)).watch_disk()
    assert len(await room.sent()) == 2


async def test_space_again_is_told_once_and_quietly(room: Room) -> None:
    """And a disk that runs full a second time on one day is news again."""
    chores = room.chores(disk=DiskWatch(10**18))
    await chores.watch_disk()
    await room.sent()
    enough = chores.disk
    chores.disk = DiskWatch(1)
    chores.disk.told("low")
    await chores.watch_disk()
    await chores.watch_disk()
    assert [each.silent for each in await room.sent()] == [True, True]
    enough.told("enough")
    chores.disk = enough
    await chores.watch_disk()
    assert len(await room.sent()) == 2


async def test_a_disk_too_full_for_the_message_is_told_later(room: Room) -> None:
    """What could not be written stays news."""
    chores = room.chores(disk=DiskWatch(10**18))
    await room.db.write(lambda connection: connection.exec_driver_sql("ALTER TABLE outbox RENAME TO away"))
    with pytest.raises(Transient):
        await chores.watch_disk()
    await room.db.write(lambda connection: connection.exec_driver_sql("ALTER TABLE away RENAME TO outbox"))
    await chores.watch_disk()
    assert len(await room.sent()) == 2


# ---- confirmation cards ---------------------------------------------------------------------------------------------

BUTTONS = [[{"text": "Yes", "data": "yes n"}]]


async def a_card(room: Room, nonce: str = "n", *, seconds: int = 60, card: str = "card") -> None:
    """A card with a button, and the ticket of that button."""
    await room.outbox.put([NewMessage(key=card, chat_id=OWNER, text="Larger risk?", buttons=BUTTONS)])
    ticket = Ticket(
        nonce=nonce,
        kind="set",
        digest="d",
        chat_id=OWNER,
        created_at=room.walls.at,
        expires_at=room.walls.at + timedelta(seconds=seconds),
        body={"card": card},
    )
    await room.tickets.issue(ticket)
    await room.sent()


async def test_an_expired_card_loses_its_buttons_once(room: Room) -> None:
    """Not before its time; then it says that nothing was changed, one time, and the ticket is over."""
    chores = room.chores()
    await a_card(room)
    room.walls.at += timedelta(seconds=59)
    await chores.end_cards()
    assert await room.sent() == []
    room.walls.at += timedelta(seconds=1)
    await chores.end_cards()
    (shown,) = await room.sent()
    assert (shown.key, shown.buttons) == ("card", [])
    assert shown.text == "Larger risk?\nexpired: nothing was changed"
    for again in (chores, room.chores()):
        await again.end_cards()
        assert await room.sent() == []
    assert await room.tickets.use("n", user=OWNER, update_id=1, at=room.walls.at) is None


async def test_a_used_card_keeps_what_it_says(room: Room) -> None:
    """Its permission was used in time: only buttons that are left over go, and nobody says that nothing was changed."""
    await a_card(room)
    await a_card(room, "other")
    assert await room.tickets.use("n", user=OWNER, update_id=1, at=room.walls.at)
    room.walls.at += timedelta(seconds=61)
    await room.chores().end_cards()
    (shown,) = await room.sent()
    assert (shown.text, shown.buttons) == ("Larger risk?", [])


@pytest.mark.parametrize("away", [timedelta(seconds=1), 3 * HOUR, 40 * DAY])
async def test_a_card_that_expired_while_the_program_was_away(room: Room, away: timedelta) -> None:
    """The next start takes the buttons."""
    await a_card(room)
    room.walls.at += timedelta(minutes=1) + away
    await room.chores().end_cards()
    assert [each.buttons for each in await room.sent()] == [[]]


async def test_a_crash_between_ticket_and_card(room: Room) -> None:
    """The ticket was ended, the card was not: the next start takes the buttons."""
    await a_card(room)
    room.walls.at += timedelta(minutes=2)
    await room.tickets.expire(room.walls.at)
    await room.chores().end_cards()
    assert [each.buttons for each in await room.sent()] == [[]]


async def test_a_failure_between_ticket_and_card(room: Room) -> None:
    """The same program tries again twenty seconds later."""
    chores = room.chores()
    await chores.end_cards()
    await a_card(room)
    room.walls.at += timedelta(minutes=2)
    await room.db.write(lambda connection: connection.exec_driver_sql("ALTER TABLE outbox RENAME TO away"))
    with pytest.raises(ConclaveError):
        await chores.end_cards()
    await room.db.write(lambda connection: connection.exec_driver_sql("ALTER TABLE away RENAME TO outbox"))
    await chores.end_cards()
    assert [each.buttons for each in await room.sent()] == [[]]


async def test_a_tap_that_came_first_wins(room: Room) -> None:
    """A ticket used a moment before its end: its card is not touched."""
    await a_card(room)
    room.walls.at += timedelta(seconds=59)
    assert await room.tickets.use("n", user=OWNER, update_id=1, at=room.walls.at)
    room.walls.at += timedelta(seconds=2)
    await room.chores().end_cards()
    assert await room.sent() == []


# ---- the daily report -----------------------------------------------------------------------------------------------


async def a_full_day(room: Room) -> None:
    """An account since July 1st with a day of everything."""
    day = datetime(2026, 7, 20, tzinfo=UTC)
    events: list[Event] = [a_session(datetime(2026, 7, 1, tzinfo=UTC))]
    events += [a_mark(day - 5 * DAY, 10150.0), a_mark(day - 4 * HOUR, 9990.0), a_mark(day, 10000.0)]
    events += [a_verdict(1, at=day + HOUR), a_verdict(2, at=day + HOUR, approved=False)]
    events += [a_verdict(3, at=day - HOUR), a_verdict(4, at=day + DAY)]
    events += [a_fill(1, at=day + HOUR, exec_id="e1", fee=Decimal("1.10"))]
    events += [a_fill(1, at=day + 2 * HOUR, exec_id="e2", link_id="c-2", fee=Decimal("2.02"))]
    events += [FundingPaid(at=day + 8 * HOUR, exec_id="f1", symbol="ETHUSDT", amount=Decimal("0.11"))]
    events += [a_trade(1, at=day + 2 * HOUR, pnl=Decimal("30.90"), r=2.3), a_mark(day + 4 * HOUR, 10040.0)]
    events += [a_trade(None, at=day + 3 * HOUR, pnl=Decimal("-4.50"), r=-0.4)]
    events += [a_trade(None, at=day + DAY, pnl=Decimal(1000), r=9.0), a_mark(day + DAY + 4 * HOUR, 10028.3)]
    await room.journal.append(events)


async def test_the_report_says_what_the_day_brought(room: Room) -> None:
    """Every figure is the day's, and the first line is the news; the chart goes with it."""
    await a_full_day(room)
    room.trader.shows = {"positions": (a_position(),)}
    await room.report().send_due()
    told = await room.sent()
    assert [(each.key, each.chat_id) for each in told] == [
        ("daily:2026-07-20:1", OWNER),
        ("daily:2026-07-20:2", OPERATOR),
    ]
    assert told[0].text.split("\n") == [
        "PAPER <b>DAY 20 Jul: +26.40 USDT (+0.26%) +1.9R, 1 of 2 won</b>",
        "The UTC day: fees 3.12, funding -0.11",
        "Decisions 1 approved, 1 rejected",
        "Now equity 10,028.30 USDT, drawdown 1.20%",
        "LONG BTC +41.20 USDT +0.8R, stop 62,650",
    ]
    assert told[0].media is not None
    assert (told[0].media.kind, told[0].media.name) == ("photo", "equity-2026-07-20.png")
    assert told[0].media.data == PIXEL


async def test_the_chart_is_finer_than_the_closes(room: Room) -> None:
    """Samples between two closes are in it; nothing older than its weeks is."""
    await a_full_day(room)
    await room.journal.append([a_mark(datetime(2026, 6, 1, tzinfo=UTC), 9000.0)])
    for minutes in (5, 10, 15):
        room.walls.at = NOW - timedelta(minutes=minutes)
        await room.chores().sample_equity()
    room.walls.at = NOW
    await room.report().send_due()
    (picture,) = room.painter.painted
    assert isinstance(picture, EquityPicture)
    assert len(picture.time) == len(picture.equity) == 8
    assert picture.start == 9000.0
    assert picture.facts == (("20 Jul", "+26.40"), ("Equity", "10,028.30"), ("Drawdown", "1.20%"))
    assert picture.time.tolist() == sorted(picture.time.tolist())
    assert 9000.0 not in picture.equity


@pytest.mark.parametrize("error", [Transient("no worker"), TimeoutError()])
async def test_without_a_chart_the_words_go_alone(room: Room, error: Exception) -> None:
    """Nobody waits for a picture."""
    await a_full_day(room)
    room.painter = BrokenPainter(error)
    await room.report().send_due()
    told = await room.sent()
    assert [each.media for each in told] == [None, None]
    assert told[0].text.startswith("PAPER <b>DAY 20 Jul: +26.40 USDT")


async def test_a_curve_of_one_point_is_no_chart(room: Room) -> None:
    """The painter is not even asked."""
    await room.began()
    await room.journal.append([a_mark(NOW - DAY, 10000.0)])
    await room.report().send_due()
    assert [each.media for each in await room.sent()] == [None, None]
    assert room.painter.painted == []


async def test_the_report_comes_once(room: Room) -> None:
    """Run twice, started again, sent or still waiting: one message for each chat."""
    await a_full_day(room)
    report = room.report()
    await report.send_due()
    await report.send_due()
    await room.report().send_due()
    assert len(await room.sent()) == 2
    painted = len(room.painter.painted)
    await report.send_due()
    await room.report().send_due()
    assert await room.sent() == []
    assert len(room.painter.painted) == painted


async def test_two_runs_at_once_are_one_report(room: Room) -> None:
    """Whoever comes second finds the keys taken."""
    await a_full_day(room)
    await asyncio.gather(*(room.report().send_due() for _ in range(4)))
    assert len(await room.sent()) == 2


async def test_whoever_joins_gets_the_report_of_the_day(room: Room) -> None:
    """A new operator, the same morning; nobody else gets it again."""
    await a_full_day(room)
    room.recipients = (OWNER,)
    await room.report().send_due()
    await room.sent()
    room.recipients = (OWNER, OPERATOR)
    await room.report().send_due()
    assert [each.chat_id for each in await room.sent()] == [OPERATOR]


@pytest.mark.parametrize(("push", "count"), [("off", 0), ("silent", 2), ("on", 2)])
async def test_the_report_comes_as_it_is_wanted(room: Room, push: str, count: int) -> None:
    """On, silent or not at all."""
    await a_full_day(room)
    room.look = Look(badge="PAPER", push={"daily": push})  # type: ignore[dict-item]
    await room.report().send_due()
    assert [each.silent for each in await room.sent()] == [push == "silent"] * count


@pytest.mark.parametrize("first", [NOW, NOW - HOUR, datetime(2026, 7, 21, tzinfo=UTC)])
async def test_no_report_of_a_day_before_the_first_session(room: Room, first: datetime) -> None:
    """Who starts today has no yesterday."""
    await room.report().send_due()
    await room.began(first)
    await room.report().send_due()
    assert await room.sent() == []
    room.walls.at = datetime(2026, 7, 22, 8, tzinfo=UTC)
    await room.report().send_due()
    assert {each.key for each in await room.sent()} == {"daily:2026-07-21:1", "daily:2026-07-21:2"}


async def test_the_first_day_is_reported_from_its_last_hour_on(room: Room) -> None:
    """A session that began a minute before midnight has a day to report."""
    await room.began(datetime(2026, 7, 20, 23, 59, tzinfo=UTC))
    await room.report().send_due()
    told = await room.sent()
    assert told[0].text.startswith("PAPER <b>DAY 20 Jul: no trade closed</b>\n")


@pytest.mark.parametrize("hour", range(0, 49, 3))
async def test_a_start_at_any_hour(room: Room, hour: int) -> None:
    """Down since long before: the report of the last due morning comes at once, an older one never."""
    room.look = Look(badge="PAPER", zone=BERLIN)
    room.recipients = (OWNER,)
    await room.began()
    room.walls.at = datetime(2026, 7, 21, tzinfo=UTC) + hour * HOUR  # 06:00 UTC is 08:00 in Berlin
    await room.report().send_due()
    wanted = "19" if hour < 6 else "20" if hour < 30 else "21"
    assert [each.key for each in await room.sent()] == [f"daily:2026-07-{wanted}:1"]


def test_every_day_is_told_once_whenever_the_program_starts(tmp_path: Path) -> None:
    """Started at least once within 23 hours, in any zone, over a change of the clocks: each day exactly once."""
    with asyncio.Runner() as runner:
        db = runner.run(open_database(tmp_path / "days.db"))

        @hypothesis(max_examples=40)
        @given(
            zone=zones,
            at=st.sampled_from([EIGHT, time(0), time(2, 30), time(23, 59)]),
            change=st.sampled_from([date(2026, 3, 29), date(2026, 9, 6), date(2026, 10, 4), date(2026, 10, 25)]),
            gaps=st.lists(st.integers(1, 23 * 60), min_size=8, max_size=24),
        )
        def check(zone: ZoneInfo, at: time, change: date, gaps: list[int]) -> None:
            runner.run(one(zone, at, change, gaps))

        async def one(zone: ZoneInfo, at: time, change: date, gaps: list[int]) -> None:
            for table in ("outbox", "journal", "heads"):
                statement = f"DELETE FROM {table}"  # noqa: S608
                await db.write(lambda connection, words=statement: connection.exec_driver_sql(words))  # type: ignore[misc]
            start = datetime(change.year, change.month, change.day, tzinfo=UTC) - 3 * DAY
            walls = Walls(start)
            room = a_room(db, walls, tmp_path, recipients=(OWNER,), look=Look(badge="PAPER", zone=zone))
            await room.began(start - 90 * DAY)
            told: Counter[str] = Counter()
            for gap in gaps:
                walls.at += timedelta(minutes=gap)
                await room.report(at=at).send_due()
                told.update(each.key for each in await room.sent())
            assert set(told.values()) <= {1}
            reported = sorted(date.fromisoformat(key.split(":")[1]) for key in told)
            wanted = [reported[0] + back * DAY for back in range(len(reported))] if reported else []
            assert reported == wanted
            last = walls.at.astimezone(UTC).date() - 3 * DAY
            assert not reported or reported[-1] >= last

        check()
        runner.run(db.close())


def a_room(db: Database, walls: Walls, folder: Path, **changes: Any) -> Room:
    journal = SqlJournal(db, "test", clock=walls)
    return Room(
        db=db,
        journal=journal,
        outbox=Outbox(db, "test"),
        tickets=Tickets(db, "test"),
        samples=EquitySamples(db, "test"),
        trader=SmallTrader(journal),
        walls=walls,
        painter=SmallPainter(),
        folder=folder,
        **changes,
    )


def facts(**changes: Any) -> DayFacts:
    fields: dict[str, Any] = {
        "record": DayRecord(day=YESTERDAY),
        "opening": 10000.0,
        "fallen": 0.0,
        "status": a_status(),
    }
    return DayFacts(**(fields | changes))


def test_a_quiet_day_says_so() -> None:
    """No zero that looks like a result."""
    lines = daily_text(facts(), Look(badge="PAPER")).split("\n")
    assert lines[0] == "PAPER <b>DAY 20 Jul: no trade closed</b>"
    assert lines[-1] == "No open position"


def test_what_is_not_known_is_a_dash() -> None:
    """Per cent of nothing, and a drawdown from no peak."""
    totals = Totals()
    totals.add(a_trade())
    text = daily_text(facts(record=DayRecord(day=YESTERDAY, trades=totals), opening=0.0, fallen=None), Look(badge="X"))
    assert "+17.30 USDT (–) +1.9R, 1 of 1 won" in text
    assert "drawdown –" in text


@given(count=st.integers(0, 200), badge=st.text(max_size=40))
def test_the_report_fits_below_a_picture(count: int, badge: str) -> None:
    """Telegram takes 1024 characters of a caption, whatever is open."""
    lost = Decimal(-(10**9))
    positions = tuple(a_position(symbol=f"{'W' * 12}{place}USDT", unrealised=lost) for place in range(count))
    text = daily_text(facts(status=a_status(positions=positions)), Look(badge=badge))
    assert visible(text) <= 1024
    if count > 10:
        assert f"… {count - 10} more open" in text
