"""Commands that ask the trader for something. The effect is reported by its own message from the journal."""

from __future__ import annotations

from bot.ports import Answer, Asked, Desk
from trading.events import PauseTrading, ResumeTrading


async def pause(asked: Asked, desk: Desk) -> Answer:
    """Asks for no new entries. Asked every time, also when already paused: the last word counts."""
    already = " (they were not before, either)" if desk.trader.status().paused else ""
    text = (
        f"{desk.look.lead} <b>Pausing</b>: no new entries from now on{already}.\n"
        "Open positions keep their stops and exits. This survives a restart; /resume takes it back."
    )
    return Answer(text=text, request=PauseTrading(by=asked.by, command=asked.command_id))


async def resume(asked: Asked, desk: Desk) -> Answer:
    """Asks for entries again."""
    already = " (they already were)" if not desk.trader.status().paused else ""
    text = f"{desk.look.lead} <b>Resuming</b>: new entries are allowed again{already}.\n/pause takes it back."
    return Answer(text=text, request=ResumeTrading(by=asked.by, command=asked.command_id))
