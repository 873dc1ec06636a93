"""The chat as a record: which decisions, fills and exits it tells of, counted against the database."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.journeys.program import headline

Message = Mapping[str, Any]

_VERDICT = re.compile(r"(?:APPROVED|REJECTED) #(\d+) (?:LONG|SHORT)")
_FILL = re.compile(r"#(\d+) (?:LONG|SHORT) \w+ (?:[a-z ]+ )?filled ")
_EXIT = re.compile(r"#(\d+) CLOSED \w+ ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """The ids of the decisions that messages tell of, in the chat's order; one entry for each message."""

    verdicts: list[int]
    fills: list[int]
    exits: list[int]
    cards: Mapping[int, int]  # verdict → its card's message
    stray: list[str]  # fills and exits that do not reply to their verdict's card


def read(messages: Sequence[Message]) -> Log:
    """The log of one account's messages."""
    cards = {
        int(found.group(1)): int(m["message_id"]) for m in bot(messages) if (found := _VERDICT.search(headline(m)))
    }
    return Log(
        verdicts=ids(_VERDICT, messages),
        fills=ids(_FILL, messages),
        exits=ids(_EXIT, messages),
        cards=cards,
        stray=[headline(m) for m in bot(messages) if not threaded(m, cards)],
    )


def bot(messages: Iterable[Message]) -> list[Message]:
    """What the bot wrote."""
    return [each for each in messages if each["from"] == "bot"]


def ids(pattern: re.Pattern[str], messages: Iterable[Message]) -> list[int]:
    """The verdict numbers of the messages whose first line fits."""
    return [int(found.group(1)) for each in bot(messages) if (found := pattern.search(headline(each)))]


def threaded(message: Message, cards: Mapping[int, int]) -> bool:
    """Does a fill or an exit reply to its verdict's card? Other messages need not."""
    found = _FILL.search(headline(message)) or _EXIT.search(headline(message))
    return found is None or message["reply_to"] == cards.get(int(found.group(1)))


def session(messages: Sequence[Message]) -> list[Message]:
    """The messages of the last account: everything from its opening card on."""
    starts = [k for k, each in enumerate(messages) if "Conclave starts" in headline(each)]
    return list(messages[starts[-1] :]) if starts else []


def recorded(database: Path) -> Log:
    """The same ids as the bot's own tables hold them, for the account that was written last."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        (account,) = db.execute("SELECT account FROM journal ORDER BY rowid DESC LIMIT 1").fetchone()

        def column(query: str) -> list[int]:
            return [int(row[0]) for row in db.execute(query, (account,))]

        log = Log(
            verdicts=column("SELECT verdict_id FROM verdicts WHERE account = ? ORDER BY seq"),
            fills=column("SELECT verdict_id FROM executions WHERE account = ? AND NOT funding ORDER BY seq"),
            exits=column("SELECT verdict_id FROM trades WHERE account = ? ORDER BY seq"),
            cards={},
            stray=[],
        )
    db.close()
    return log


def extra(shown: Sequence[int], kept: Sequence[int]) -> tuple[Counter[int], Counter[int]]:
    """What is shown too often, and what is missing."""
    return Counter(shown) - Counter(kept), Counter(kept) - Counter(shown)
