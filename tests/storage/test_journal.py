"""The journal in the database: its chain, its survival, and the tables that are drawn from it."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from storage.database import Database, open_database
from storage.errors import Conflict, ForgottenEvents
from storage.journal import SqlJournal
from storage.memory import MemoryJournal
from storage.outbox import Outbox
from storage.queries import Records
from tests.storage import samples
from trading import events
from trading.events import Event
from trading.model import Purpose


def journal_of(db: Database, account: str = "paper") -> SqlJournal:
    """A journal with a wall clock that stands still."""
    return SqlJournal(db, account, clock=samples.wall)


async def test_accounts_are_apart(db: Database) -> None:
    """Two accounts in one file count for themselves and see nothing of each other."""
    one, two = journal_of(db, "one"), journal_of(db, "two")
    await one.append([samples.alert(1), samples.intended()])
    assert await two.append([samples.intended()]) == 1
    assert [each.event for each in await two.read(0)] == [samples.intended()]
    assert (await Records(db, "one").counts())["intents"] == 1
    assert await one.verify() is None
    assert await two.verify() is None


async def test_two_journals_on_one_account_cannot_fork_the_chain(db: Database) -> None:
    """Each continues what the other wrote."""
    one, two = journal_of(db), journal_of(db)
    for number in range(6):
        await (one, two)[number % 2].append([samples.alert(number)])
    assert [each.seq for each in await one.read(0)] == [1, 2, 3, 4, 5, 6]
    assert await one.verify() is None


async def test_the_journal_goes_on_after_a_restart(path: Path) -> None:
    """Numbers and chain continue; a snapshot and the events after it are the state."""
    for start in range(3):
        db = await open_database(path)
        journal = journal_of(db)
        assert await journal.last_seq() == 2 * start
        await journal.append([samples.alert(1), samples.alert(2)])
        await journal.save_snapshot(2 * start + 1, {"start": start})
        assert await journal.load_snapshot() == (2 * start + 1, {"start": start})
        assert await journal.verify() is None
        await db.close()


async def filled_journal(path: Path, count: int = 40) -> None:
    """A closed database with `count` events of one account."""
    db = await open_database(path)
    for number in range(count):
        event = samples.verdict(number) if number % 3 else samples.alert(number)
        await journal_of(db).append([event])
    await db.close()


async def first_broken(path: Path) -> int | None:
    """What `verify` says of a database that was tampered with while closed."""
    db = await open_database(path)
    try:
        return await journal_of(db).verify()
    finally:
        await db.close()


def tamper(path: Path, statement: str, *values: object) -> None:
    """Change the file behind the program's back."""
    with sqlite3.connect(path) as connection:
        assert connection.execute(statement, values).rowcount >= 1
    connection.close()


async def test_every_flipped_byte_of_a_body_is_found(path: Path) -> None:
    """200 random positions, every one detected at its own event."""
    await filled_journal(path)
    chance = random.Random(7)
    connection = sqlite3.connect(path)
    bodies = dict(connection.execute("SELECT seq, CAST(body AS BLOB) FROM journal"))
    db = await open_database(path)
    journal = journal_of(db)
    for _ in range(200):
        seq = chance.randrange(1, 41)
        body = bytearray(bodies[seq])
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        change = "UPDATE journal SET body = CAST(? AS TEXT) WHERE seq = ?"
        connection.execute(change, (bytes(body), seq))
        connection.commit()
        assert await journal.verify() == seq
        connection.execute(change, (bodies[seq], seq))
        connection.commit()
    assert await journal.verify() is None
    connection.close()
    await db.close()


COPY = """INSERT INTO journal
    SELECT account, 41, at, type, body, recorded_at, hash, hash FROM journal WHERE seq = 40"""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("UPDATE journal SET at = at + 1 WHERE seq = 7", 7),
        ("UPDATE journal SET recorded_at = recorded_at - 1 WHERE seq = 7", 7),
        ("UPDATE journal SET type = 'alertRaised' WHERE seq = 7", 7),
        ("UPDATE journal SET previous = zeroblob(32) WHERE seq = 7", 7),
        ("UPDATE journal SET hash = zeroblob(32) WHERE seq = 7", 7),
        ("UPDATE journal SET account = 'other' WHERE seq = 7", 7),
        ("UPDATE journal SET account = 'other' WHERE seq = 40", 40),
        ("UPDATE journal SET seq = 99 WHERE seq = 40", 40),
        ("UPDATE journal SET seq = 0 WHERE seq = 1", 1),
        ("DELETE FROM journal WHERE seq = 7", 7),
        ("DELETE FROM journal WHERE seq >= 38", 38),
        ("DELETE FROM journal", 1),
        ("UPDATE heads SET seq = 39", 41),
        (COPY, 41),
    ],
)
async def test_every_kind_of_tampering_is_found(path: Path, change: str, expected: int) -> None:
    """Changed columns, missing, moved and added rows, and a chain cut short at its end."""
    await filled_journal(path)
    assert await first_broken(path) is None
    tamper(path, change)
    assert await first_broken(path) == expected


async def test_a_chain_cut_short_with_its_head_is_found_by_what_points_beyond(path: Path) -> None:
    """The last rows and the head are made to agree, but a cursor knows a later event."""
    await filled_journal(path)
    db = await open_database(path)
    await Outbox(db, "paper").deliver("chat", 40, [])
    await db.close()
    tamper(path, "DELETE FROM journal WHERE seq > 30")
    tamper(path, "UPDATE heads SET seq = 30, hash = (SELECT hash FROM journal WHERE seq = 30)")
    assert await first_broken(path) == 31


APPENDER = """
import asyncio, sys
from pathlib import Path
from storage.database import open_database
from storage.journal import SqlJournal
from tests.storage import samples

async def main(path):
    db = await open_database(path)
    journal = SqlJournal(db, "paper", clock=samples.wall)
    number = await journal.last_seq()
    while True:
        number = await journal.append([samples.alert(number), samples.alert(number), samples.marked(number)])
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()

asyncio.run(main(Path(sys.argv[1])))
"""


def killed_while_appending(path: Path, after: float) -> int:
    """Run an appender, kill it with SIGKILL, return the last number that it reported as committed."""
    process = subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last = process.stdout.readline()
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    reported = [last, *process.stdout.read().splitlines(keepends=True)]
    process.wait()
    process.stdout.close()
    return int(next(line for line in reversed(reported) if line.endswith("\n")))


@pytest.mark.slow
async def test_what_was_committed_survives_sigkill(path: Path) -> None:
    """Six kills at random moments: nothing reported is lost, batches are whole, chain and tables agree."""
    chance = random.Random(11)
    for _ in range(6):
        reported = killed_while_appending(path, chance.uniform(0.05, 0.4))
        db = await open_database(path)
        journal = journal_of(db)
        last = await journal.last_seq()
        assert last >= reported
        assert last % 3 == 0
        assert await journal.verify() is None
        assert (await Records(db, "paper").counts())["equity"] == last // 3
        await db.close()


async def test_an_execution_reported_twice_is_one_row(db: Database) -> None:
    """Streams repeat themselves: the first report counts, fees are not doubled."""
    journal = journal_of(db)
    await journal.append([samples.verdict(), samples.intended(), samples.filled()])
    again = replace(samples.filled(), fee=Decimal(99))
    await journal.append([again, again])
    funding = events.FundingPaid(at=samples.START, exec_id="f-1", symbol="BTCUSDT", amount=Decimal("-0.10"))
    await journal.append([funding, funding])
    rows = await Records(db, "paper").executions()
    assert [(row.exec_id, row.funding, str(row.fee)) for row in rows] == [
        ("x-1", False, "0.12682020"),
        ("f-1", True, "-0.10"),
    ]


async def test_an_intent_has_one_link_id(db: Database) -> None:
    """The same link id a second time is refused, with everything that came in the same append."""
    journal = journal_of(db)
    await journal.append([samples.intended()])
    with pytest.raises(Conflict):
        await journal.append([samples.alert(1), samples.intended()])
    assert await journal.append([samples.alert(2)]) == 2
    assert await journal.verify() is None


def about_order(kind: Callable[..., Event], **fields: object) -> Event:
    """An order event of the sample's intent."""
    return kind(at=samples.START, link_id="cv-1-e", symbol="BTCUSDT", **fields)


ACCEPTED = about_order(events.OrderAccepted, order_id="o-1")
DOUBTED = about_order(events.OrderDoubted, reason="timeout")
REFUSED = about_order(events.OrderRefused, reason="110007 \ud800 no balance")
CANCELLED = about_order(events.OrderCancelled, purpose=Purpose.ENTRY, reason="expired", verdict_id=1)


@pytest.mark.parametrize(
    ("story", "state", "outcome"),
    [
        ([], "intended", "intended"),
        ([ACCEPTED], "accepted", "intended"),
        ([DOUBTED], "doubted", "intended"),
        ([DOUBTED, ACCEPTED], "accepted", "intended"),
        ([REFUSED], "refused", "refused"),
        ([ACCEPTED, CANCELLED], "cancelled", "cancelled"),
        ([ACCEPTED, samples.filled()], "filled", "filled"),
        ([samples.filled(), ACCEPTED, DOUBTED], "filled", "filled"),
        ([ACCEPTED, samples.filled(), samples.closed()], "filled", "closed"),
    ],
)
async def test_intents_and_verdicts_follow_their_story(
    db: Database, story: list[Event], state: str, outcome: str
) -> None:
    """State by state, in whatever order the frames came; in one append or one by one."""
    for account, batches in (
        ("whole", [[samples.verdict(), samples.intended(), *story]]),
        ("steps", [[event] for event in (samples.verdict(), samples.intended(), *story)]),
    ):
        for batch in batches:
            await journal_of(db, account).append(batch)
        records = Records(db, account)
        assert [row.state for row in await records.intents()] == [state]
        assert await records.outcome(1) == outcome


async def test_changes_of_one_append_keep_their_order(db: Database) -> None:
    """What happens to one order before another exists must not be done after it."""
    later = samples.filled("x-2", "cv-2-e")
    await journal_of(db).append([samples.intended(), DOUBTED, ACCEPTED, DOUBTED])
    await journal_of(db).append([samples.filled(), samples.intended("cv-2-e"), later, later])
    assert [row.state for row in await Records(db, "paper").intents()] == ["filled", "filled"]


async def test_a_refused_exit_says_nothing_about_the_verdict(db: Database) -> None:
    """Only the entry's refusal ends a decision."""
    exit_order = samples.intended("cv-1-x", purpose=Purpose.EXIT)
    refused = events.OrderRefused(at=samples.START, link_id="cv-1-x", symbol="BTCUSDT", reason="no position")
    await journal_of(db).append([samples.verdict(), samples.intended(), samples.filled(), exit_order, refused])
    assert await Records(db, "paper").outcome(1) == "filled"
    assert [row.link_id for row in await Records(db, "paper").intents("refused")] == ["cv-1-x"]


async def test_the_memory_journal_forgets_and_says_so() -> None:
    """The last `keep` events can be read; below that is an error, never a gap."""
    journal = MemoryJournal(keep=100)
    for number in range(5000):
        await journal.append([samples.alert(number)])
    assert [each.seq for each in await journal.read(4900, limit=2)] == [4901, 4902]
    assert len(await journal.read(4900)) == 100
    with pytest.raises(ForgottenEvents, match="4900"):
        await journal.read(4899)


async def test_the_memory_journal_tells_its_listeners() -> None:
    """Each event once, in order, before `append` returns."""
    journal, heard = MemoryJournal(keep=1), list[Event]()
    journal.listen(heard.append)
    batch: list[Event] = [samples.alert(1), samples.marked(), samples.alert(2)]
    await journal.append(batch)
    assert heard == batch
