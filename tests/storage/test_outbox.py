"""Messages to the chat: none lost, none doubled, the urgent first, threads in order."""

from __future__ import annotations

import asyncio
from pathlib import Path

from storage.database import Database, open_database
from storage.journal import SqlJournal
from storage.outbox import Amendment, Media, NewMessage, Outbox
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


async def test_a_change_before_the_message_went_out_goes_out_with_it(db: Database) -> None:
    """One message, with everything that was added meanwhile."""
    outbox = Outbox(db, "paper")
    picture = Media(kind="photo", name="a.png", data=b"png")
    await outbox.put([message("a"), Amendment(key="a", step="filled"), Amendment(key="a", text="b", media=picture)])
    found = await outbox.next()
    assert found is not None
    assert (found.text, found.steps, found.media) == ("b", ("filled",), picture)
    assert (found.revision, found.chat_message_id) == (2, None)
    await outbox.sent(found.id, 1001, found.revision)
    assert await outbox.next() is None


async def test_a_change_of_what_the_chat_has_makes_an_edit(db: Database) -> None:
    """Of one message, however many changes came; buttons and text that were not named stay."""
    outbox = Outbox(db, "paper")
    buttons = [[{"text": "Why", "data": "why 1"}]]
    await outbox.put([NewMessage(key="a", chat_id=7, text="card", buttons=buttons)])
    await send_all(outbox)
    await outbox.put([Amendment(key="a", step="filled"), Amendment(key="a", step="closed", priority=31)])
    found = await outbox.next()
    assert found is not None
    assert (found.text, found.steps, found.buttons) == ("card", ("filled", "closed"), buttons)
    assert (found.chat_message_id, found.priority) == (1001, 31)
    assert await outbox.pending() == 1
    await outbox.sent(found.id, 1001, found.revision)
    assert await outbox.pending() == 0
    assert await outbox.key_of(7, 1001) == "a"
    assert await outbox.key_of(8, 1001) is None


async def test_a_change_while_the_message_is_on_its_way_is_not_lost(db: Database) -> None:
    """What was sent is the older revision: the newer one waits as an edit."""
    outbox = Outbox(db, "paper")
    await outbox.put([message("a")])
    first = await outbox.next()
    assert first is not None
    await outbox.put([Amendment(key="a", step="filled")])
    await outbox.sent(first.id, 1001, first.revision)
    edit = await outbox.next()
    assert edit is not None
    assert (edit.steps, edit.chat_message_id) == (("filled",), 1001)


async def test_pictures_leave_the_database_once_the_chat_has_them(db: Database) -> None:
    """And a later change is one of the caption."""
    outbox = Outbox(db, "paper")
    await outbox.put([NewMessage(key="a", chat_id=7, text="caption", media=Media(kind="photo", name="a", data=b"x"))])
    await send_all(outbox)
    await outbox.put([Amendment(key="a", text="later")])
    edit = await outbox.next()
    assert edit is not None
    assert (edit.media, edit.pictured, edit.text) == (None, True, "later")


async def test_an_edit_that_the_chat_refuses_leaves_the_message(db: Database) -> None:
    """Replies still find it; an unknown or dead message takes no change."""
    outbox = Outbox(db, "paper")
    await outbox.put([message("a"), message("dead")])
    first = await outbox.next()
    assert first is not None
    await outbox.sent(first.id, 1001)
    second = await outbox.next()
    assert second is not None
    await outbox.failed(second.id, "chat not found", permanent=True)
    await outbox.put([Amendment(key=key, step="x") for key in ("a", "dead", "nowhere")])
    edit = await outbox.next()
    assert edit is not None
    assert edit.key == "a"
    await outbox.failed(edit.id, "message to edit not found", permanent=True)
    assert await outbox.pending() == 0
    await outbox.put([message("reply", thread="a")])
    assert await send_all(outbox) == [("reply", 1001)]


async def test_an_edit_of_the_root_does_not_hold_up_its_thread(db: Database) -> None:
    """A reply needs the root's message id, not its newest text."""
    outbox = Outbox(db, "paper")
    await outbox.put([message("root")])
    await send_all(outbox)
    await outbox.put([Amendment(key="root", step="filled"), message("reply", thread="root")])
    found = await outbox.next()
    assert found is not None
    assert (found.key, found.reply_to) == ("reply", 1001)
