"""What happens in the journal is read in the chat, and what is said in the chat happens once."""

from __future__ import annotations

from pathlib import Path

from tests.bot.stage import OPERATOR, some_events, staged


async def test_a_verdict_with_its_fill_and_exit_is_one_thread_in_the_chat(tmp_path: Path) -> None:
    """The card comes first; everything on the same decision replies to it, for the owner and for operators."""
    async with staged(tmp_path) as stage:
        await stage.journal.append(some_events())
        await stage.conversation.drain()
        for reader in (stage.owner, stage.others(OPERATOR)):
            card, fill, closed = await reader.look()
            assert card["text"].startswith("PAPER APPROVED #215 SHORT ETH 0.43 at 2,412, risk 8.70 USDT (0.43%)")
            assert fill["text"].startswith("PAPER #215 SHORT ETH filled 0.43 at 2,412")
            assert closed["text"].startswith("PAPER #215 CLOSED ETH +17.30 USDT +1.9R trailing stop")
            assert [fill["reply_to"], closed["reply_to"]] == [card["message_id"]] * 2
