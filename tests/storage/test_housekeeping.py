"""What goes from the database, what never does, and that nobody waits for it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from storage.database import Database, open_database
from storage.equity import EquitySamples
from storage.housekeeping import (
    BIG_LOG,
    LOW_DISK,
    DiskWatch,
    Housekeeping,
    Keep,
    StaleCard,
    fold_log,
    free_space,
    log_size,
    stale_cards,
    waiting,
)
from storage.inbox import InboxStore
from storage.outbox import Amendment, Media, NewMessage, Outbox
from storage.tickets import Ticket, Tickets
from trading.errors import ConclaveError
from trading.model import EPOCH

NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)
DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
NOTHING = {"messages": 0, "files": 0, "updates": 0, "tickets": 0, "samples": 0}
PICTURE = Media(kind="photo", name="a.png", data=b"x" * 1000)


async def at_once(_: float) -> None:
    """Between two batches the writer may breathe; a test need not."""


def housekeeping(db: Database, **keep: Any) -> Housekeeping:
    return Housekeeping(db, Path(db.name), keep=Keep(**keep), pause=at_once)


def a_message(key: str, **fields: Any) -> NewMessage:
    return NewMessage(key=key, chat_id=1, text=f"text of {key}", **fields)


async def rows(db: Database, what: str, table: str) -> list[Any]:
    statement = f"SELECT {what} FROM {table} ORDER BY rowid"  # noqa: S608  the words are this file's own
    return await db.write(lambda connection: [tuple(row) for row in connection.exec_driver_sql(statement)])


async def fill(db: Database, statement: str, values: list[tuple[Any, ...]]) -> None:
    if values:
        await db.write(lambda connection: connection.exec_driver_sql(statement, values))


ADD_MESSAGE = (
    "INSERT INTO outbox (id, account, key, state, priority, chat_id, text, silent, attempts, revision, media)"
    " VALUES (?, ?, ?, ?, 20, 1, 'text', 0, 0, 0, ?)"
)
ADD_TICKET = (
    "INSERT INTO tickets (account, nonce, kind, digest, state, chat_id, created_at, expires_at, body)"
    " VALUES ('paper:1', ?1, 'k', 'd', ?2, 1, ?3, ?3, '{}')"
)
ADD_SAMPLE = "INSERT INTO samples VALUES (?, ?, '1', '1')"
ADD_UPDATE = "INSERT INTO inbox (id, account, update_id, received_at, body, done) VALUES (?, ?, ?, 0, '{}', ?)"


def micros(age: timedelta) -> int:
    """A moment so long before now, as it is stored."""
    return (NOW - age - EPOCH) // timedelta(microseconds=1)


# ---- what goes -----------------------------------------------------------------------------------------------------


async def test_an_empty_database_has_nothing_to_give(db: Database) -> None:
    """Every kind is named, none goes."""
    assert await housekeeping(db).run(NOW) == NOTHING


async def test_the_defaults_leave_a_small_database_alone(db: Database) -> None:
    """Nothing goes before there are many thousands."""
    outbox, inbox = Outbox(db, "paper:1"), InboxStore(db, "7")
    await outbox.put([a_message(f"m{place}") for place in range(50)])
    while message := await outbox.next():
        await outbox.sent(message.id, message.id)
    for place in range(20):
        await inbox.accept(place, {}, NOW - 900 * DAY)
        await inbox.done(place)
    assert await housekeeping(db).run(NOW) == NOTHING
    assert (Keep().messages, Keep().updates, Keep().tickets) == (20_000, 5_000, 1_000)


def test_messages_that_wait_never_go_and_no_more_than_asked(tmp_path: Path) -> None:
    """Of each account the newest finished messages stay, exactly as many, and all that wait; files of the dead go."""
    with asyncio.Runner() as runner:
        db = runner.run(open_database(tmp_path / "messages.db"))
        states = st.sampled_from(["waiting", "sent", "dead"])
        messages = st.lists(st.tuples(st.sampled_from("ab"), states, st.booleans()), max_size=40)

        @hypothesis(max_examples=150)
        @given(found=messages, keep=st.integers(0, 12))
        def check(found: list[tuple[str, str, bool]], keep: int) -> None:
            runner.run(one(found, keep))

        async def one(found: list[tuple[str, str, bool]], keep: int) -> None:
            await db.write(lambda connection: connection.exec_driver_sql("DELETE FROM outbox"))
            values = [
                (place, account, f"k{place}", state, b"picture" if pictured else None)
                for place, (account, state, pictured) in enumerate(found, 1)
            ]
            await fill(db, ADD_MESSAGE, values)
            gone = await housekeeping(db, messages=keep).run(NOW)
            left = {row[0]: row[1:] for row in await rows(db, "id, media", "outbox")}
            assert set(left) == expected(found, keep)
            assert gone["messages"] == len(found) - len(left)
            for place, (_, state, pictured) in enumerate(found, 1):
                if place in left:
                    kept = pictured and state != "dead"
                    assert left[place] == ((b"picture" if kept else None),)

        def expected(found: list[tuple[str, str, bool]], keep: int) -> set[int]:
            stays, seen = set(), Counter[str]()
            for place, (account, state, _) in reversed(list(enumerate(found, 1))):
                seen[account] += state != "waiting"
                if state == "waiting" or seen[account] <= keep:
                    stays.add(place)
            return stays

        check()
        runner.run(db.close())


def test_updates_that_are_not_done_never_go(tmp_path: Path) -> None:
    """Of each bot the newest finished updates stay, exactly as many."""
    with asyncio.Runner() as runner:
        db = runner.run(open_database(tmp_path / "updates.db"))

        @hypothesis(max_examples=80)
        @given(
            found=st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=30), keep=st.integers(0, 10)
        )
        def check(found: list[tuple[str, bool]], keep: int) -> None:
            runner.run(one(found, keep))

        async def one(found: list[tuple[str, bool]], keep: int) -> None:
            await db.write(lambda connection: connection.exec_driver_sql("DELETE FROM inbox"))
            numbered = list(enumerate(found, 1))
            await fill(db, ADD_UPDATE, [(place, bot, place, done) for place, (bot, done) in numbered])
            gone = await housekeeping(db, updates=keep).run(NOW)
            left = {row[0] for row in await rows(db, "id", "inbox")}
            for bot in "ab":
                over = [place for place, (whose, done) in numbered if whose == bot and done]
                newest = set(over[len(over) - keep :]) if keep < len(over) else set(over)
                assert left & set(over) == newest
            assert {place for place, (_, done) in numbered if not done} <= left
            assert gone["updates"] == len(found) - len(left)

        check()
        runner.run(db.close())


def test_tickets_go_when_they_are_over_many_and_old(tmp_path: Path) -> None:
    """A pending one never, a young one never, and of the others the newest stay."""
    with asyncio.Runner() as runner:
        db = runner.run(open_database(tmp_path / "tickets.db"))
        states = st.sampled_from(["pending", "used", "expired", "withdrawn"])
        found_ = st.lists(st.tuples(states, st.integers(0, 60)), max_size=20)

        @hypothesis(max_examples=80)
        @given(found=found_, keep=st.integers(0, 8))
        def check(found: list[tuple[str, int]], keep: int) -> None:
            runner.run(one(found, keep))

        async def one(found: list[tuple[str, int]], keep: int) -> None:
            await db.write(lambda connection: connection.exec_driver_sql("DELETE FROM tickets"))
            ages = [age * DAY + place * SECOND for place, (_, age) in enumerate(found)]
            await fill(db, ADD_TICKET, [(str(p), found[p][0], micros(age)) for p, age in enumerate(ages)])
            await housekeeping(db, tickets=keep).run(NOW)
            left = {int(row[0]) for row in await rows(db, "nonce", "tickets")}
            assert left == stays(found, keep)

        def stays(found: list[tuple[str, int]], keep: int) -> set[int]:
            over = [place for place, (state, _) in enumerate(found) if state != "pending"]
            over.sort(key=lambda place: (found[place][1], place))
            old = {p for p in over[keep:] if found[p][1] * DAY + p * SECOND > 30 * DAY}
            return set(range(len(found))) - old

        check()
        runner.run(db.close())


async def issue(
    tickets: Tickets, nonce: str, *, created: datetime = NOW, seconds: float = 60, card: str | None = None
) -> None:
    body = {} if card is None else {"card": card}
    end = created + timedelta(seconds=seconds)
    ticket = Ticket(
        nonce=nonce, kind="k", digest="d", chat_id=1, created_at=created, expires_at=end, body=body
    )
    await tickets.issue(ticket)


def test_old_samples_thin_out_to_the_last_of_each_hour(tmp_path: Path) -> None:
    """The last month is whole, every hour before it keeps its last sample, each account for itself."""
    with asyncio.Runner() as runner:
        db = runner.run(open_database(tmp_path / "samples.db"))
        minutes = st.sets(st.integers(0, 12 * 60), max_size=40)

        @hypothesis(max_examples=80)
        @given(one_=minutes, other=minutes, age=st.integers(0, 8 * 60))
        def check(one_: set[int], other: set[int], age: int) -> None:
            runner.run(one({"paper:1": one_, "paper:2": other}, timedelta(minutes=age)))

        async def one(found: dict[str, set[int]], age: timedelta) -> None:
            await db.write(lambda connection: connection.exec_driver_sql("DELETE FROM samples"))
            for account, ages in found.items():
                await fill(db, ADD_SAMPLE, [(account, micros(timedelta(minutes=each))) for each in ages])
            gone = await housekeeping(db, samples_age=age).run(NOW)
            whole = (NOW - age).replace(minute=0)
            left = 0
            for account, ages in found.items():
                times = [NOW - timedelta(minutes=minutes_) for minutes_ in ages]
                newest = {at.replace(minute=0): at for at in sorted(times)}
                stay = {at for at in times if at >= whole or newest[at.replace(minute=0)] == at}
                seen = await EquitySamples(db, account).curve()
                assert {datetime.fromtimestamp(at / 1000, UTC) for at in seen.time.tolist()} == stay
                left += len(stay)
            assert gone["samples"] == sum(map(len, found.values())) - left
            assert (await housekeeping(db, samples_age=age).run(NOW))["samples"] == 0

        check()
        runner.run(db.close())


async def test_thirty_days_of_five_minutes_stay_whole(db: Database) -> None:
    """The default: finer than an hour for a month, an hour for ever."""
    ages = [place * timedelta(minutes=5) for place in range(1, 60 * 288 + 1)]
    await fill(db, ADD_SAMPLE, [("paper:1", micros(age)) for age in ages])
    gone = await housekeeping(db).run(NOW)
    curve = await EquitySamples(db, "paper:1").curve()
    assert gone["samples"] == 30 * 24 * 11
    assert len(curve) == 30 * 24 + 30 * 288


# ---- in small steps ------------------------------------------------------------------------------------------------


async def many(db: Database, count: int, state: str = "sent") -> None:
    await fill(db, ADD_MESSAGE, [(place, "paper:1", f"k{place}", state, None) for place in range(1, count + 1)])


async def test_the_writer_is_never_held_for_long(db: Database) -> None:
    """A trader that commits meanwhile hardly notices that thousands of rows go."""
    await many(db, 6_000)
    waits: list[float] = []

    async def trade() -> None:
        while True:
            began = time.perf_counter()
            await db.write(lambda connection: connection.exec_driver_sql("SELECT 1"))
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.001)

    task = asyncio.create_task(trade())
    house = Housekeeping(db, Path(db.name), keep=Keep(messages=0))
    gone = await house.run(NOW)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert gone["messages"] == 6_000
    assert len(waits) > 20
    waits.sort()
    assert waits[len(waits) // 2] < 0.02
    assert waits[len(waits) * 95 // 100] < 0.1  # a turn of 5 ms and its commit, on a machine with other work as well


async def test_a_message_that_comes_alive_meanwhile_stays(db: Database) -> None:
    """Between finding and deleting a sent message may get an edit: it waits again, and is judged again."""
    outbox = Outbox(db, "paper:1")
    await many(db, 1_000)
    amended: list[str] = []

    async def amend(_: float) -> None:
        if not amended:
            left = [row[0] for row in await rows(db, "key", "outbox")]
            amended.extend(left[-50:])
            await outbox.put([Amendment(key=key, step="alive") for key in amended])

    house = Housekeeping(db, None, keep=Keep(messages=0), pause=amend)
    gone = await house.run(NOW)
    assert len(amended) == 50
    assert [row[0] for row in await rows(db, "key", "outbox")] == amended
    assert gone["messages"] == 950
    assert await outbox.pending() == 50


async def test_interrupted_it_carries_on_the_next_time(db: Database) -> None:
    """A stop in the middle leaves whole rows and nothing to repair."""
    await many(db, 1_500)

    async def stop(_: float) -> None:
        raise ConclaveError("the program stops")

    with pytest.raises(ConclaveError):
        await Housekeeping(db, None, keep=Keep(messages=100), pause=stop).run(NOW)
    left = len(await rows(db, "id", "outbox"))
    assert 100 < left < 1_500
    gone = await housekeeping(db, messages=100).run(NOW)
    assert gone["messages"] == left - 100
    assert [row[0] for row in await rows(db, "id", "outbox")] == list(range(1_401, 1_501))


async def test_a_reply_to_a_message_that_is_gone_is_sent_without_it(db: Database) -> None:
    """The thread's root may be pruned years later: what waits for it is sent all the same."""
    outbox = Outbox(db, "paper:1")
    await outbox.put([a_message("root")])
    root = await outbox.next()
    assert root is not None
    await outbox.sent(root.id, 5)
    await outbox.put([a_message("reply", thread="root")])
    await housekeeping(db, messages=0).run(NOW)
    reply = await outbox.next()
    assert reply is not None
    assert (reply.key, reply.reply_to) == ("reply", None)


async def test_a_waiting_picture_is_untouched_and_still_sent(db: Database) -> None:
    """Its file is there when its turn comes."""
    outbox = Outbox(db, "paper:1")
    await outbox.put([a_message("dead", media=PICTURE), a_message("alive", media=PICTURE)])
    dead = await outbox.next()
    assert dead is not None
    await outbox.failed(dead.id, "no", permanent=True)
    gone = await housekeeping(db).run(NOW)
    assert gone == NOTHING  # the dead one's file went with its failure
    alive = await outbox.next()
    assert alive is not None
    assert (alive.key, alive.media) == ("alive", PICTURE)


# ---- the write-ahead log -------------------------------------------------------------------------------------------


async def test_the_log_is_folded_back_and_cut(db: Database) -> None:
    """Nothing is lost and the file beside the database is empty."""
    await many(db, 500)
    file = Path(db.name)
    assert log_size(file) > 0
    assert await asyncio.to_thread(fold_log, file)
    assert log_size(file) == 0
    assert len(await rows(db, "id", "outbox")) == 500


async def test_a_reader_keeps_the_log_and_nobody_waits_for_it(db: Database) -> None:
    """Whoever still reads an old state needs the log: it is left for the next time, at once, and writing goes on."""
    file = Path(db.name)
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM outbox").fetchall()
        await many(db, 300)
        began = time.perf_counter()
        assert not await asyncio.to_thread(fold_log, file)
        assert time.perf_counter() - began < 0.5
        assert reader.execute("SELECT count(*) FROM outbox").fetchone() == (0,)
        assert len(await rows(db, "id", "outbox")) == 300
        reader.execute("COMMIT")
    assert await asyncio.to_thread(fold_log, file)


async def test_a_log_that_grew_is_folded_by_the_way(db: Database) -> None:
    """A reader that stays for long lets the log grow beyond its limit; the hour's housekeeping cuts it."""
    file = Path(db.name)
    blob = Media(kind="document", name="a.bin", data=bytes(9_000_000))
    outbox = Outbox(db, "paper:1")
    with closing(sqlite3.connect(file, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM outbox").fetchall()
        for place in range(8):
            await outbox.put([a_message(f"m{place}", media=blob)])
        assert log_size(file) > BIG_LOG
        reader.execute("COMMIT")
    await housekeeping(db).run(NOW)
    assert log_size(file) < 1_000_000
    assert await outbox.pending() == 8


async def test_a_database_without_a_file_is_kept_as_well(db: Database) -> None:
    """On a server there is no log of ours to fold."""
    await many(db, 30)
    assert (await Housekeeping(db, None, keep=Keep(messages=10)).run(NOW))["messages"] == 20


def test_a_missing_log_is_empty(tmp_path: Path) -> None:
    """Before the first write there is none."""
    assert log_size(tmp_path / "absent.db") == 0


# ---- the disk ------------------------------------------------------------------------------------------------------


def heard(frees: list[int]) -> list[str]:
    """What is said while the free space goes through these figures."""
    watch = DiskWatch()
    said: list[str] = []
    for free in frees:
        if news := watch.news(free):
            watch.told(news)
            said.append(news)
    return said


def test_a_full_disk_is_told_once_and_its_end_once() -> None:
    """Falling below, staying below, and being well above again."""
    low = LOW_DISK
    assert heard([low, low + 1, 10 * low]) == []
    assert heard([2 * low, low - 1, low - 2, low // 2, 0]) == ["low"]
    assert heard([low - 1, low * 2, low * 3]) == ["low", "enough"]
    assert heard([low - 1, low * 2, low - 1]) == ["low", "enough", "low"]


@given(frees=st.lists(st.integers(LOW_DISK - 50_000_000, LOW_DISK + 99_999_999)))
def test_a_disk_at_its_edge_is_told_once(frees: list[int]) -> None:
    """Going up and down around the limit is not news every minute."""
    assert heard(frees) == (["low"] if any(free < LOW_DISK for free in frees) else [])


@given(frees=st.lists(st.integers(0, 3 * LOW_DISK)))
def test_what_is_told_alternates(frees: list[int]) -> None:
    """Low, enough, low, …: never the same twice, and the last word is not wrong."""
    said = heard(frees)
    assert said == (["low", "enough"] * len(said))[: len(said)]
    if frees and frees[-1] < LOW_DISK:
        assert said[-1] == "low"
    if frees and frees[-1] >= LOW_DISK * 1.2:
        assert said[-1:] in ([], ["enough"])


def test_what_could_not_be_told_stays_news() -> None:
    """A full disk may keep the message itself from being written: it is tried again."""
    watch = DiskWatch()
    assert watch.news(1) == "low"
    assert watch.news(1) == "low"
    watch.told("low")
    assert watch.news(1) is None


def test_the_free_space_is_that_of_the_disk(tmp_path: Path) -> None:
    """A number of bytes, and not the size of the disk."""
    assert 0 < free_space(tmp_path) < 10**16


# ---- cards and the outbox ------------------------------------------------------------------------------------------

BUTTONS = [[{"text": "Yes", "data": "yes 1"}]]


async def test_a_card_is_stale_when_its_ticket_is_over(db: Database) -> None:
    """Not before, and not any more once its buttons are gone."""
    outbox, tickets = Outbox(db, "paper:1"), Tickets(db, "paper:1")
    await outbox.put([a_message("card", buttons=BUTTONS)])
    await issue(tickets, "n", card="card")
    assert await stale_cards(db, "paper:1", NOW) == []
    await tickets.expire(NOW + HOUR)
    assert await stale_cards(db, "paper:1", NOW) == [StaleCard(key="card", used=False)]
    assert await stale_cards(db, "paper:2", NOW) == []
    assert await stale_cards(db, "paper:1", NOW + HOUR) == []
    await outbox.put([Amendment(key="card", buttons=[])])
    assert await stale_cards(db, "paper:1", NOW) == []


async def test_a_card_of_several_tickets_waits_for_the_last(db: Database) -> None:
    """One that may still be tapped keeps the buttons; one that was used is not called unused."""
    outbox, tickets = Outbox(db, "paper:1"), Tickets(db, "paper:1")
    await outbox.put([a_message("card", buttons=BUTTONS)])
    await issue(tickets, "short", seconds=10, card="card")
    await issue(tickets, "long", seconds=600, card="card")
    await tickets.expire(NOW + timedelta(seconds=60))
    assert await stale_cards(db, "paper:1", NOW) == []
    await tickets.use("long", user=1, update_id=1, at=NOW + timedelta(seconds=61))
    assert await stale_cards(db, "paper:1", NOW) == [StaleCard(key="card", used=True)]


@pytest.mark.parametrize("card", [None, "unknown"])
async def test_a_ticket_without_a_card_is_nobodys(db: Database, card: str | None) -> None:
    """Not every ticket has a message with buttons, and not every message is still there."""
    tickets = Tickets(db, "paper:1")
    await issue(tickets, "n", card=card)
    await tickets.expire(NOW + HOUR)
    assert await stale_cards(db, "paper:1", NOW) == []


async def test_what_waits_is_counted_and_named(db: Database) -> None:
    """The oldest by id and revision: an edit is another one."""
    outbox = Outbox(db, "paper:1")
    assert (await waiting(db, "paper:1")).count == 0
    await outbox.put([a_message(f"m{place}", media=PICTURE) for place in range(30)])
    seen = await waiting(db, "paper:1")
    assert (seen.count, len(seen.oldest), seen.oldest[0]) == (30, 20, (1, 0))
    await outbox.put([Amendment(key="m0", step="more")])
    assert (await waiting(db, "paper:1")).oldest[0] == (1, 1)
    assert (await waiting(db, "paper:2")).count == 0
