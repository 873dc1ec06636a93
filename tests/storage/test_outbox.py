"""Messages to the chat: none lost, none doubled, the urgent first, threads in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

from storage.database import Database, open_database
from storage.journal import SqlJournal
from storage.outbox import NewMessage, Outbox
from tests.storage import samples


def message(key: str, *, priority: int = 5, thread: str | None = None) -> NewMessage:
    """A message whose text is its key."""
    return NewMessage(key=key, chat_id=-1001234567890, text=key, priority=priority, thread=thread)


async def send_all(outbox: Outbox) -> list[tuple[str, int | None]]:
    """Send everything, as the sender would; the chat's ids are 1001, 1002, …"""
    sent: list[tuple[str, int | None]] = []
    while (found := await outbox.next()) is not None:
        sent.append((found.key, found.reply_to))
        await outbox.sent(found.id, 1000 + len(sent))
    return sent


async def test_messages_and_cursor_move_together(db: Database) -> None:
    """A second delivery of the same events puts nothing; a later one goes on."""
    outbox, journal = Outbox(db, "paper"), SqlJournal(db, "paper", clock=samples.wall)
    assert await journal.cursor("chat") == 0
    assert await outbox.deliver("chat", 7, [message("a"), message("b")])
    assert not await outbox.deliver("chat", 7, [message("c")])
    assert not await outbox.deliver("chat", 3, [message("d")])
    assert await outbox.deliver("chat", 8, [message("b"), message("e")])
    assert await journal.cursor("chat") == 8
    assert await outbox.pending() == 3
    assert [key for key, _ in await send_all(outbox)] == ["a", "b", "e"]


async def test_a_restart_repeats_only_what_was_not_reported_sent(path: Path) -> None:
    """Between `deliver` and `sent` a crash repeats the message; after `sent` it never comes again."""
    db = await open_database(path)
    outbox = Outbox(db, "paper")
    await outbox.deliver("chat", 2, [message("a"), message("b")])
    first = await outbox.next()
    assert first is not None
    await outbox.sent(first.id, 1001)
    assert await outbox.next() is not None
    await db.close()
    db = await open_database(path)
    outbox = Outbox(db, "paper")
    assert not await outbox.deliver("chat", 2, [message("a"), message("b")])
    assert [key for key, _ in await send_all(outbox)] == ["b"]
    assert await outbox.message_id_of("a") == 1001
    await db.close()


async def test_the_urgent_come_first_and_then_the_oldest(db: Database) -> None:
    """Priority, then age."""
    outbox = Outbox(db, "paper")
    await outbox.put([message("late", priority=9), message("a"), message("b"), message("panic", priority=0)])
    assert [key for key, _ in await send_all(outbox)] == ["panic", "a", "b", "late"]


async def test_a_thread_starts_with_its_root(db: Database) -> None:
    """An urgent reply pulls the chain above it forward, and replies to the chat's own id of its root."""
    outbox = Outbox(db, "paper")
    await outbox.put(
        [
            message("other"),
            message("root", priority=9),
            message("middle", priority=9, thread="root"),
            message("reply", priority=0, thread="middle"),
        ]
    )
    assert await send_all(outbox) == [("root", None), ("middle", 1001), ("reply", 1002), ("other", None)]


async def test_a_thread_without_a_root_is_sent_alone(db: Database) -> None:
    """An unknown or dead root, or a message that replies to itself, blocks nothing."""
    outbox = Outbox(db, "paper")
    await outbox.put([message("root"), message("reply", thread="root")])
    root = await outbox.next()
    assert root is not None
    await outbox.failed(root.id, "chat not found", permanent=True)
    await outbox.put([message("orphan", thread="nowhere"), message("self", thread="self")])
    await outbox.put([message("one", thread="two"), message("two", thread="one")])
    sent = await send_all(outbox)
    assert sorted(key for key, _ in sent) == ["one", "orphan", "reply", "self", "two"]


async def test_an_explicit_reply_wins_over_the_thread(db: Database) -> None:
    """The answer to a command replies to the command's message."""
    outbox = Outbox(db, "paper")
    await outbox.put([NewMessage(key="a", chat_id=1, text="x", reply_to=77, thread="b"), message("b")])
    assert await send_all(outbox) == [("a", 77), ("b", None)]


async def test_failures(db: Database) -> None:
    """A passing failure keeps the message and counts; a permanent one buries it and the rest goes on."""
    outbox = Outbox(db, "paper")
    await outbox.put([message("a"), message("b")])
    first = await outbox.next()
    assert first is not None
    for attempts in range(1, 4):
        await outbox.failed(first.id, "timed out", permanent=False)
        found = await outbox.next()
        assert found is not None
        assert (found.key, found.attempts) == ("a", attempts)
    await outbox.failed(first.id, "half a surrogate \ud800", permanent=True)
    assert await outbox.pending() == 1
    assert [key for key, _ in await send_all(outbox)] == ["b"]


async def test_everything_of_a_message_is_kept(db: Database) -> None:
    """Buttons, silence, large chat ids, and text that no database would take as it is."""
    outbox = Outbox(db, "paper")
    new = NewMessage(
        key="k",
        chat_id=-1009999999999,
        text="<b>ü\U0001f600</b> \ud800 \x00",
        silent=True,
        buttons=[[{"text": "Approve", "data": "t:1"}], [{"text": "Why", "data": "w:1"}]],
    )
    await outbox.put([new])
    found = await outbox.next()
    assert found is not None
    assert (found.text, found.chat_id) == ("<b>ü\U0001f600</b> \ufffd \ufffd", -1009999999999)
    assert (found.silent, found.buttons) == (True, new.buttons)


async def test_the_sender_is_woken(db: Database) -> None:
    """It sleeps while nothing waits, and a message put at any moment wakes it."""
    outbox = Outbox(db, "paper")
    waiting = asyncio.create_task(outbox.grown())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await Outbox(db, "other").put([message("a")])
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await outbox.deliver("chat", 1, [message("a")])
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(outbox.grown(), 1)


async def test_accounts_have_outboxes_of_their_own(db: Database) -> None:
    """The same key in two accounts is two messages."""
    one, two = Outbox(db, "one"), Outbox(db, "two")
    await one.put([message("a")])
    await two.put([message("a")])
    assert len(await send_all(one)) == len(await send_all(two)) == 1
