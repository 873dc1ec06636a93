"""Updates from the chat are committed once and come until they are done."""

from __future__ import annotations

import asyncio
from pathlib import Path

from storage.database import Database, open_database
from storage.inbox import InboxStore
from tests.storage import samples


async def test_accepted_updates_survive_and_end(path: Path) -> None:
    """A restart finds what was not done, in the order of arrival; a repeated update is not accepted again."""
    db = await open_database(path)
    inbox = InboxStore(db, "bot")
    for update_id in (12, 11, 13):
        assert await inbox.accept(update_id, {"text": f"/{update_id} ü \ud800"}, samples.START)
    assert not await inbox.accept(12, {"text": "again"}, samples.START)
    await inbox.done(11)
    await db.close()
    db = await open_database(path)
    inbox = InboxStore(db, "bot")
    assert await inbox.pending() == [
        (12, {"text": "/12 ü \ud800"}, samples.START),
        (13, {"text": "/13 ü \ud800"}, samples.START),
    ]
    for update_id in (12, 13, 13):
        await inbox.done(update_id)
    assert not await inbox.accept(13, {}, samples.START)
    assert await inbox.pending() == []
    await db.close()


async def test_bots_are_apart(db: Database) -> None:
    """Two bots may receive the same update id."""
    one, two = InboxStore(db, "1"), InboxStore(db, "2")
    assert await one.accept(1, {}, samples.START)
    assert await two.accept(1, {}, samples.START)
    await one.done(1)
    assert len(await two.pending()) == 1


async def test_the_dispatcher_is_woken_for_what_it_does_not_know(db: Database) -> None:
    """Updates that are being dealt with do not wake it again."""
    inbox = InboxStore(db, "bot")
    await inbox.accept(1, {}, samples.START)
    await asyncio.wait_for(inbox.grown(), 1)
    waiting = asyncio.create_task(inbox.grown(known={1}))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await inbox.accept(2, {}, samples.START)
    await asyncio.wait_for(waiting, 1)
