"""What the council decided, why, and how good it was; and where signals die before anyone decides.

Everything is told from what was stored when it happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.buttons import button, rows
from bot.handlers.see import count_of, markets, number_of, symbol_of
from bot.ports import Answer, Asked, Desk
from bot.text import moment
from bot.views import council_view, verdicts_view, why_view, whynot_view
from storage.reports import Result, Scoreboard
from trading.events import TradeClosed

_VERDICTS: Final = (10, 30)
_SCORED: Final = 1000  # decisions on the scoreboard; read in about a tenth of a second


async def verdicts(asked: Asked, desk: Desk) -> Answer:
    """The last n decisions, the newest first."""
    count = count_of(asked, *_VERDICTS)
    if isinstance(count, str):
        return Answer(text=f"{desk.look.lead} {count}")
    return Answer(text=verdicts_view(await desk.records.decisions(count), desk.look))


async def why(asked: Asked, desk: Desk) -> Answer:
    """One decision with every argument, and what became of it."""
    number = number_of(asked)
    if isinstance(number, str):
        return Answer(text=f"{desk.look.lead} {number}")
    story = await desk.records.story(number)
    if story is None:
        return Answer(text=f"{desk.look.lead} there is no decision #{number}: /verdicts lists the last ones")
    taken = [button("Trade", "trade", number)] if story.verdict.approved else []
    buttons = rows(*taken, button("Chart", "chart", story.verdict.symbol))
    return Answer(text=why_view(story, desk.look), buttons=buttons)


async def council(asked: Asked, desk: Desk) -> Answer:
    """The scoreboard over the last decisions."""
    decided = [event for event, _ in await desk.records.decisions(_SCORED)]
    results: dict[int, Result] = {}
    if decided:
        async for page in desk.records.trade_pages(decided[-1].at):
            results.update(_results(page))
    board = Scoreboard(results)
    for event in reversed(decided):
        board.add(event)
    left_out = desk.trader.status().verdicts - len(decided)
    return Answer(text=council_view(board, max(left_out, 0), desk.look))


def _results(page: Sequence[TradeClosed]) -> dict[int, Result]:
    return {each.verdict_id: Result(each.pnl > 0, each.r) for each in page if each.verdict_id is not None}


async def whynot(asked: Asked, desk: Desk) -> Answer:
    """How many signals died at which gate, of one market or of all."""
    now, symbol = desk.trader.status(), None
    if asked.arguments:
        symbol = symbol_of(asked.arguments[0], now)
        if symbol is None or len(asked.arguments) > 1:
            return Answer(text=f"{desk.look.lead} {markets(asked, now)}")
    closes = f"; the next one is {moment(now.next_close, desk.look.zone)}" if now.next_close is not None else ""
    waits = f"one can only come at the close of a bar{closes}"
    return Answer(text=whynot_view(await desk.records.funnel(symbol), symbol, waits, desk.look))
