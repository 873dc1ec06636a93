"""Reading marked-up text once, from its beginning to its end: what the parse modes share."""

from __future__ import annotations

import re

from bot.phone.entities import Entity, utf16_length


class Scanner:
    """One pass over the source; `position` always stands on the next unread character.

    `output` and `entities` are what has come of it so far, `offset` the length of the output as Telegram counts it.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.offset = 0
        self.output: list[str] = []
        self.entities: list[Entity] = []

    def emit(self, text: str) -> None:
        """Adds visible text."""
        self.output.append(text)
        self.offset += utf16_length(text)

    def take(self, pattern: re.Pattern[str]) -> str:
        """Reads what matches here; empty when nothing does."""
        match = pattern.match(self.source, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match.group()

    def octets(self, position: int) -> int:
        """Byte offset of a place in the source, as refusals name it."""
        return len(self.source[:position].encode())
