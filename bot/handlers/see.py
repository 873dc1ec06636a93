"""Commands that only look."""

from __future__ import annotations

from bot.ports import Answer, Asked, Desk
from bot.views import status_view, verdicts_view

_DEFAULT = 10
_MOST = 30


async def status(asked: Asked, desk: Desk) -> Answer:
    """The whole account, and why nothing happens when nothing happens."""
    return Answer(text=status_view(desk.trader.status(), desk.look.zone))


async def verdicts(asked: Asked, desk: Desk) -> Answer:
    """The last n decisions, the newest first."""
    wanted = asked.arguments[0] if asked.arguments else str(_DEFAULT)
    if not (wanted.isascii() and wanted.isdigit() and 0 < int(wanted[:9]) <= _MOST):
        return Answer(text=f"{desk.look.lead} /verdicts takes a number from 1 to {_MOST}, like /verdicts 5")
    found = await desk.records.verdicts(int(wanted))
    rows = [(event, await desk.records.outcome(event.verdict_id) or "") for event in found]
    return Answer(text=verdicts_view(rows, desk.look))
