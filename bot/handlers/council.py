"""What the council decided, why, and how good it is; who sits on it; and where signals die before anyone decides.

What is told of the past is told from what was stored when it happened. A stricter council is had at one word of any
operator; what may let more trades through is shown to the owner first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bot.buttons import button, rows
from bot.cards import MODE_MEANS
from bot.confirmation import ask_owner
from bot.handlers.see import count_of, markets, number_of, symbol_of
from bot.ports import Answer, Asked, Desk
from bot.text import moment, own, prose, word
from bot.views import (
    advice_view,
    grade_caption,
    grade_view,
    mode_change,
    modes_view,
    no_grade_view,
    verdicts_view,
    why_view,
    whynot_view,
)
from bot.views.council import LEAST_ENDED, too_few
from storage.council import Record
from storage.outbox import Media
from trading.errors import ConclaveError
from trading.events import ChangeCouncil
from trading.grades import Graded
from trading.model import Side
from trading.parameters import near

_VERDICTS: Final = (10, 30)
PERMITS: Final = {"strict": 1, "degraded": 2, "rules": 3, "shadow": 3, "off": 4}
"""How much each mode lets through; in the shadow of the models the rules decide."""
_SIDES: Final = {"long": Side.LONG, "short": Side.SHORT}


async def verdicts(asked: Asked, desk: Desk) -> Answer:
    """The last n decisions, the newest first."""
    count = count_of(asked, *_VERDICTS)
    if isinstance(count, str):
        return Answer(text=f"{desk.look.lead} {count}")
    return Answer(text=verdicts_view(await desk.records.decisions(count), desk.look))


async def why(asked: Asked, desk: Desk) -> Answer:
    """One decision with every argument, and what became of it; one under debate, as far as it has come."""
    number = number_of(asked)
    if isinstance(number, str):
        return Answer(text=f"{desk.look.lead} {number}")
    dossier = await desk.council.dossier(number)
    if dossier is None:
        return Answer(text=f"{desk.look.lead} there is no decision #{number}: /verdicts lists the last ones")
    verdict = dossier.story.verdict if dossier.story is not None else None
    about = verdict or dossier.candidate
    taken = [button("Trade", "trade", number)] if verdict is not None and verdict.approved else []
    buttons = rows(*taken, *([button("Chart", "chart", about.symbol)] if about is not None else []))
    return Answer(text=why_view(dossier, desk.look), buttons=buttons)


async def council(asked: Asked, desk: Desk) -> Answer:
    """How good the council that decides now has been, in words, as a picture or as a workbook.

    Of one that has judged nothing yet: the one that decided last.
    """
    wanted = asked.arguments[0].lower() if asked.arguments else ""
    if wanted not in {"", "chart", "excel"} or len(asked.arguments) > 1:
        return Answer(text=f"{desk.look.lead} /council takes nothing, or one of chart and excel")
    record = await desk.council.graded(desk.trader.status().council)
    notes, graded = _notes(record), await _graded(record, desk)
    if isinstance(graded, str):
        return Answer(text=no_grade_view(record.rows, graded, notes, desk.look))
    if wanted == "chart":
        media = Media(kind="photo", name="council.png", data=graded.chart)
    elif wanted == "excel":
        media = Media(kind="document", name=graded.workbook_name, data=graded.workbook)
    else:
        buttons = rows(button("Chart", "council", "chart"), button("Excel", "council", "excel"))
        return Answer(text=grade_view(graded.grade, notes, desk.look), buttons=buttons)
    return Answer(text=grade_caption(graded.grade, desk.look), media=media)


def _notes(record: Record) -> list[str]:
    """Whose decisions are graded, and how many are not."""
    beside = "The models are asked beside the rules, which decide: what they say is not traded"
    left_out = prose(", ".join(record.left_out), 300)
    counted = f"Candidates not counted: {left_out}" if left_out else ""
    return [note for note in (beside if record.beside else "", counted) if note]


async def _graded(record: Record, desk: Desk) -> Graded | str:
    """The grade, or why there is none."""
    ended = sum(row.r is not None for row in record.rows)
    if ended < LEAST_ENDED:
        return too_few(ended)
    try:
        return await desk.grader.grade(record.rows, f"{desk.look.badge} {record.title}", desk.look.theme)
    except ConclaveError as error:
        return f"It cannot be worked out now: {prose(str(error), 300)}"


async def mode(asked: Asked, desk: Desk) -> Answer:
    """Which council decides; another one at once when it is stricter, else after the owner's yes."""
    status, missing = desk.trader.status(), desk.council_modes()
    if not asked.arguments:
        able = [button(name, "mode", name) for name in MODE_MEANS if name != status.council and missing.get(name) == ""]
        text = modes_view(status.council, status.council_health, missing, desk.look)
        return Answer(text=text, buttons=rows(*able, across=2))
    wanted = asked.arguments[0].lower()
    if refusal := _no_mode(wanted, len(asked.arguments), missing, desk):
        return Answer(text=f"{desk.look.lead} {refusal}")
    if wanted == status.council:
        return Answer(text=f"{desk.look.lead} The council is {word(wanted)} already: nothing changes.")
    if PERMITS[wanted] <= PERMITS.get(status.council, 0):
        text = f"{desk.look.lead} <b>Council {word(status.council)} → {wanted}</b>: {MODE_MEANS[wanted]}."
        return Answer(text=text, request=ChangeCouncil(mode=wanted, by=asked.by, command=asked.command_id))
    body = {"mode": wanted, "old": status.council}
    card = mode_change(status.council, wanted, desk.look)
    return await ask_owner(asked, desk, "council", body, card, f"Council {wanted}")


def _no_mode(wanted: str, words: int, missing: Mapping[str, str], desk: Desk) -> str:
    """Why this mode cannot be had; empty when it can."""
    if wanted not in MODE_MEANS or words > 1:
        hint = near(wanted[:40], list(MODE_MEANS))
        return own(f"/mode takes one of {', '.join(MODE_MEANS)}{hint}; alone it says what each means", 300)
    if wanted == "off" and desk.look.real_money:
        return "The council is never off with real money: rules is the least there is."
    if lack := missing.get(wanted, "is not known here"):
        return f"<b>{wanted} is not possible</b>: it {own(lack, 300)}. Nothing was changed."
    return ""


async def ask(asked: Asked, desk: Desk) -> Answer:
    """What the council reads in a market now. Nothing is ever ordered by it."""
    status, words = desk.trader.status(), asked.arguments
    symbol = symbol_of(words[0], status) if words else None
    side = _SIDES.get(words[1].lower()) if len(words) == 2 else None
    if symbol is None:
        return Answer(text=f"{desk.look.lead} {markets(asked, status)}, and may name a side: long or short")
    if len(words) > 1 and (side is None or len(words) > 2):
        example = f"/ask {word(words[0].upper(), 12)} long"
        return Answer(text=f"{desk.look.lead} /ask takes one market and at most a side, long or short: like {example}")
    try:
        advice = await desk.advise(symbol, side)
    except ConclaveError as error:
        return Answer(text=f"{desk.look.lead} <b>no reading</b>: {prose(str(error), 300)}. Nothing was ordered")
    return Answer(text=advice_view(advice, desk.look), buttons=rows(button("Chart", "chart", symbol)))


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
