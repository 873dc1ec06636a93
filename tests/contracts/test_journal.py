"""The contract of `trading.ports.Journal`, over every implementation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.database import open_database
from storage.errors import UnreadableEvent
from storage.journal import SqlJournal
from storage.memory import MemoryJournal
from tests.storage import samples
from trading.errors import ConclaveError
from trading.ports import Journal


@pytest.fixture(params=["memory", "sql"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Journal]:
    """An empty journal of each kind."""
    if request.param == "memory":
        yield MemoryJournal(keep=None)
        return
    db = await open_database(tmp_path / "conclave.db")
    yield SqlJournal(db, "paper", clock=samples.wall)
    await db.close()


async def test_reads_what_was_appended(journal: Journal) -> None:
    """Events come back equal, in order, numbered from 1 without gaps."""
    events = [samples.verdict(), samples.intended(), samples.alert(1), samples.marked()]
    assert await journal.append(events[:3]) == 3
    assert await journal.append(events[3:]) == 4
    found = await journal.read(0)
    assert [each.event for each in found] == events
    assert [each.seq for each in found] == [1, 2, 3, 4]


async def test_reads_in_pages(journal: Journal) -> None:
    """`after` is exclusive, `limit` is kept, and the end is an empty answer."""
    await journal.append([samples.alert(number) for number in range(1, 11)])
    assert [each.seq for each in await journal.read(3, limit=4)] == [4, 5, 6, 7]
    assert [each.seq for each in await journal.read(8, limit=4)] == [9, 10]
    assert not await journal.read(10)
    assert not await journal.read(99)


async def test_an_empty_journal(journal: Journal) -> None:
    """Nothing to read, no snapshot, and appending nothing is number 0."""
    assert not await journal.read(0)
    assert await journal.load_snapshot() is None
    assert await journal.append([]) == 0


async def test_appending_nothing_names_the_last_event(journal: Journal) -> None:
    """An empty append changes nothing."""
    await journal.append([samples.alert(1), samples.alert(2)])
    assert await journal.append([]) == 2
    assert len(await journal.read(0)) == 2


async def test_grown_returns_at_once_when_there_is_more(journal: Journal) -> None:
    """A reader that is behind does not wait."""
    await journal.append([samples.alert(1)])
    await asyncio.wait_for(journal.grown(0), 1)


async def test_grown_wakes_every_reader(journal: Journal) -> None:
    """Readers at different places all wake, and only once there is an event after theirs."""
    await journal.append([samples.alert(1)])
    near, far = asyncio.create_task(journal.grown(1)), asyncio.create_task(journal.grown(2))
    await asyncio.sleep(0.05)
    assert not near.done()
    await journal.append([samples.alert(2)])
    await asyncio.wait_for(near, 1)
    await asyncio.sleep(0.05)
    assert not far.done()
    await journal.append([samples.alert(3)])
    await asyncio.wait_for(far, 1)


async def test_a_follower_sees_every_event_once(journal: Journal) -> None:
    """The notifier's loop, against a writer that does not wait for it."""

    async def write() -> None:
        for number in range(1, 101):
            await journal.append([samples.alert(number)] * (number % 3 + 1))

    writer, seen = asyncio.create_task(write()), list[int]()
    while len(seen) < sum(number % 3 + 1 for number in range(1, 101)):
        place = seen[-1] if seen else 0
        await asyncio.wait_for(journal.grown(place), 5)
        seen += [each.seq for each in await journal.read(place, limit=7)]
    await writer
    assert seen == list(range(1, len(seen) + 1))


async def test_concurrent_appends_stay_whole(journal: Journal) -> None:
    """Events of one append stand together, whatever else is appended meanwhile."""
    batches = [[samples.alert(10 * batch + place) for place in range(3)] for batch in range(20)]
    ends = await asyncio.gather(*(journal.append(batch) for batch in batches))
    found = {each.seq: each.event for each in await journal.read(0)}
    assert sorted(ends) == list(range(3, 61, 3))
    for end, batch in zip(ends, batches, strict=True):
        assert [found[end - 2], found[end - 1], found[end]] == batch


async def test_snapshots_replace_each_other(journal: Journal) -> None:
    """The last one counts, and what the caller does to its state afterwards does not change it."""
    await journal.append([samples.alert(1), samples.alert(2)])
    await journal.save_snapshot(1, {"cash": "10000.10"})
    state = {"cash": "1", "floats": [0.1, 1e-300], "open": {"BTCUSDT": None}}
    await journal.save_snapshot(2, state)
    state["cash"] = "changed"
    assert await journal.load_snapshot() == (
        2,
        {"cash": "1", "floats": [0.1, 1e-300], "open": {"BTCUSDT": None}},
    )


async def test_a_snapshot_holds_json_only(journal: Journal) -> None:
    """NaN and objects are refused, and the one before stays."""
    await journal.save_snapshot(0, {"x": 1})
    for bad in (float("nan"), samples.START):
        with pytest.raises(ConclaveError):
            await journal.save_snapshot(0, {"x": bad})
    assert await journal.load_snapshot() == (0, {"x": 1})


async def test_the_sql_journal_refuses_what_it_cannot_keep(tmp_path: Path) -> None:
    """One bad event in a batch and none of it is there."""
    db = await open_database(tmp_path / "conclave.db")
    journal = SqlJournal(db, "paper", clock=samples.wall)
    naive = samples.alert(1).at.replace(tzinfo=None)
    with pytest.raises(UnreadableEvent):
        await journal.append([samples.alert(1), type(samples.alert(1))(at=naive, kind="x", text="y")])
    assert not await journal.read(0)
    await db.close()
