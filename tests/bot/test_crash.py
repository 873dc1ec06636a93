"""F36: the process is killed with SIGKILL between receipt and effect of a command; it is done exactly once."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.bot.stage import Reader, running_phone, staged
from trading.events import TradingPaused


@pytest.mark.parametrize("point", ["after_inbox", "after_answer", "after_submit", "after_chat_send"])
async def test_a_killed_program_does_the_command_exactly_once(tmp_path: Path, point: str) -> None:
    """One effect in the journal, one report; only a kill between sending and noting it repeats that message."""
    async with running_phone() as phone:
        arguments = ("-m", "tests.bot.crashing", str(tmp_path), phone[0].url, point)
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
        asked = await Reader(phone[1]).say("/pause")
        async with asyncio.timeout(60):
            assert await process.wait() == -signal.SIGKILL
        async with staged(tmp_path, phone=phone) as stage:
            await stage.owner.message("PAUSED by owner 1")
            await stage.owner.reply_to(asked)
            await stage.owner.reply_to(await stage.owner.say("/status"))
            said = await stage.owner.look()
            events = [each.event for each in await stage.journal.read(0)]
            assert [type(each) for each in events] == [TradingPaused]
            assert sum("PAUSED by owner" in each["text"] for each in said) == 1
            answers = [each["reply_to"] for each in said].count(asked)
            assert answers == (2 if point == "after_chat_send" else 1)
