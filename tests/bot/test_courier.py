"""The outbox reaches the chat in order, whatever Telegram says and however long it is away."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.access import AllowList
from bot.courier import Pace
from bot.notifier import ANSWER, EVENT
from bot.phone import Phone
from storage.outbox import NewMessage
from tests.bot.phone.driver import Human
from tests.bot.stage import OWNER, STRANGER, HastyClock, Stage, running_phone, staged

ONLY_OWNER = AllowList(OWNER)


def a_note(key: str, text: str = "PAPER note", **more: object) -> NewMessage:
    return NewMessage(**({"key": key, "chat_id": OWNER, "text": text, "priority": EVENT} | more))  # type: ignore[arg-type]


async def drained(stage: Stage) -> list[str]:
    await stage.conversation.drain()
    return [each["text"] for each in await stage.owner.look()]


async def test_markup_that_telegram_refuses_is_sent_as_plain_text(tmp_path: Path) -> None:
    """Nothing is lost for a tag; entities are shown as the characters they stand for."""
    async with staged(tmp_path) as stage:
        await stage.outbox.put([a_note("a", "PAPER <b>1 &lt; 2"), a_note("b", "PAPER next")])
        assert await drained(stage) == ["PAPER 1 < 2", "PAPER next"]


async def test_a_reply_to_a_message_that_is_gone_is_sent_without_it(tmp_path: Path) -> None:
    """The user may delete what was replied to."""
    async with staged(tmp_path) as stage:
        await stage.outbox.put([a_note("a", reply_to=4711)])
        assert await drained(stage) == ["PAPER note"]


async def test_a_chat_that_does_not_exist_does_not_hold_up_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Given up at once and said once; the same for what is too long to send."""
    async with staged(tmp_path) as stage:
        unknown = [a_note(f"x{n}", chat_id=STRANGER) for n in range(3)]
        await stage.outbox.put([*unknown, a_note("long", "x" * 5000), a_note("b", "PAPER next")])
        assert await drained(stage) == ["PAPER next"]
        refused = [each for each in caplog.records if "message_refused" in each.getMessage()]
        assert len(refused) == 2


async def test_a_flood_is_paced_and_telegrams_own_wait_is_kept_exactly(tmp_path: Path) -> None:
    """Against a server with Telegram's limits, without a pace of our own: each 429 is waited out as asked."""
    clock = HastyClock()
    async with running_phone(rate_limit=True) as phone, staged(tmp_path, phone=phone, clock=clock) as stage:
        await stage.outbox.put([a_note(f"{n}", f"PAPER {n}") for n in range(5)])
        assert await drained(stage) == [f"PAPER {n}" for n in range(5)]
        assert 1.0 in clock.waits


async def test_with_a_pace_no_request_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One message a second after a burst of two; the third token is the answer's."""
    async with (
        running_phone(rate_limit=True) as phone,
        staged(tmp_path, phone=phone, pace=Pace(rate=0.9)) as stage,
    ):
        await stage.outbox.put([a_note(f"{n}", f"PAPER {n}") for n in range(4)])
        await stage.owner.until(lambda said: len(said) == 2)
        asked = await stage.owner.say("/status")
        await stage.owner.reply_to(asked)
        order = [each["reply_to"] for each in await stage.owner.look()]
        assert order[2] == asked
        await drained(stage)
        assert not [each for each in caplog.records if "asks_to_wait" in each.getMessage()]


async def test_an_outage_is_waited_out_and_everything_arrives_in_order(tmp_path: Path) -> None:
    """The server goes away in the middle and comes back on the same port; nothing is lost or doubled."""
    async with running_phone() as (first, human):
        port = int(first.url.rsplit(":", 1)[1])
        async with staged(tmp_path, phone=(first, human), clock=HastyClock()) as stage:
            await stage.outbox.put([a_note("a", "PAPER a")])
            assert await drained(stage) == ["PAPER a"]
            await first.stop()
            await stage.outbox.put([a_note(f"{n}", f"PAPER {n}") for n in range(20)])
            second = Phone(None, owner_id=OWNER, port=port)
            await second.start()
            try:
                await stage.conversation.drain()
                said = [each["text"] for each in await Human(human.session).messages(after=0)]
                assert said == [f"PAPER {n}" for n in range(20)]
            finally:
                await second.stop()


async def test_a_conversation_without_telegram_waits_and_stops_quickly(tmp_path: Path) -> None:
    """Trading starts when nobody answers; what was said waits for the next start."""
    async with running_phone() as phone:
        async with staged(tmp_path, phone=phone, api_url="http://127.0.0.1:9", clock=HastyClock()) as stage:
            await stage.outbox.put([a_note("a", "PAPER later")])
            async with asyncio.timeout(2):
                await stage.conversation.stop()
            assert await stage.outbox.pending() == 1
        async with staged(tmp_path, phone=phone) as stage:
            assert await drained(stage) == ["PAPER later"]


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60))
def test_a_pace_is_never_exceeded_and_an_answer_never_waits_for_events(steps: list[tuple[float, bool]]) -> None:
    """At most burst + rate × time in any stretch; events leave the last token alone."""
    pace, now, taken = Pace(rate=1.0, burst=3.0), 0.0, 0
    for passed, answer in steps:
        now += passed
        if pace.wait(1, now, answer=answer) == 0:
            taken += 1
        assert taken <= 3 + now + 1e-6
    fresh = Pace()
    while fresh.wait(1, 0, answer=False) == 0:
        pass
    assert fresh.wait(1, 0, answer=True) == 0
    assert fresh.wait(1, 0, answer=False) == pytest.approx(2.0)
    assert fresh.wait(2, 0, answer=False) == 0


def test_answers_go_before_events() -> None:
    """The outbox sends the smallest priority first."""
    assert ANSWER < EVENT
