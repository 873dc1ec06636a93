"""Formatted text as values: plain text plus entities whose offsets count UTF-16 code units.

What all ways of formatting share, and what Telegram does to every text: white space around it is dropped, nested
entities are put in order, commands and links are found (td/telegram/MessageEntity.cpp, `fix_formatted_text`). Not
modelled: custom emoji, and the splitting of a style that encloses a code span.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final

VERBATIM: Final = frozenset({"code", "pre"})
_NO_AUTOMATIC: Final = frozenset({"code", "pre", "text_link"})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_COMMAND = re.compile(r"(?<![\w/<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{1,32})?(?![\w/<>])")
_URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One styled stretch of text; offset and length in UTF-16 code units."""

    type: str
    offset: int
    length: int
    url: str | None = None
    language: str | None = None

    @property
    def end(self) -> int:
        return self.offset + self.length

    def shape(self) -> dict[str, Any]:
        """The MessageEntity object of the Bot API."""
        shape: dict[str, Any] = {"type": self.type, "offset": self.offset, "length": self.length}
        if self.url is not None:
            shape["url"] = self.url
        if self.language is not None:
            shape["language"] = self.language
        return shape


@dataclass(frozen=True, slots=True)
class Formatted:
    """Plain text and its entities, sorted by offset, the enclosing one first."""

    text: str
    entities: tuple[Entity, ...] = ()


def is_utf8(text: str) -> bool:
    """False for half a surrogate pair, which JSON can carry and nothing else can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def utf16_length(text: str) -> int:
    """Length as Telegram counts it."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le")) // 2


def entities_to_json(entities: tuple[Entity, ...]) -> str | None:
    """For the store; None when there are none."""
    return json.dumps([entity.shape() for entity in entities]) if entities else None


def entities_from_json(stored: str | None) -> tuple[Entity, ...]:
    return tuple(Entity(**shape) for shape in json.loads(stored)) if stored else ()


def clean(text: str) -> str:
    """Without carriage returns; other control characters become spaces."""
    return _CONTROL.sub(" ", text.replace("\r", ""))


def trimmed(text: str, entities: list[Entity]) -> Formatted:
    """Without trailing white space, and without leading white space up to the first entity."""
    text = text.rstrip(" \n")
    total = utf16_length(text)
    first = min((entity.offset for entity in entities), default=total)
    lead = min(len(text) - len(text.lstrip(" \n")), first)
    kept: list[Entity] = []
    for entity in entities:
        length = min(entity.end, total) - entity.offset
        if length > 0:
            language = entity.language if entity.type == "pre" else None
            kept.append(replace(entity, offset=entity.offset - lead, length=length, language=language))
    return finished(text[lead:], kept)


def finished(text: str, entities: list[Entity]) -> Formatted:
    """In order, nothing inside code, and with the commands and links that Telegram finds by itself."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=_outer_first):
        if not any(other.type in VERBATIM and inside(entity, other) for other in kept):
            kept.append(entity)
    kept.extend(_automatic(text, kept))
    return Formatted(text, tuple(sorted(kept, key=_outer_first)))


def inside(entity: Entity, block: Entity) -> bool:
    """Does `block` enclose `entity`, which is another one?"""
    return entity is not block and block.offset <= entity.offset and entity.end <= block.end


def _outer_first(entity: Entity) -> tuple[int, int, bool]:
    """Of two that cover the same text, code comes first: it bars the other."""
    return entity.offset, -entity.length, entity.type not in VERBATIM


def _automatic(text: str, entities: list[Entity]) -> list[Entity]:
    """Commands and links outside code and links."""
    if "/" not in text:
        return []
    barred = [entity for entity in entities if entity.type in _NO_AUTOMATIC]
    found: list[Entity] = []
    for kind, pattern in (("url", _URL), ("bot_command", _COMMAND)):
        for match in pattern.finditer(text):
            offset = utf16_length(text[: match.start()])
            entity = Entity(type=kind, offset=offset, length=utf16_length(match.group()))
            if not any(entity.offset < other.end and other.offset < entity.end for other in [*barred, *found]):
                found.append(entity)
    return found
