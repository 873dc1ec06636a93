"""Formatted text by Telegram's rules: every way of giving it, with Telegram's refusals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from bot.phone.entities import Entity, Formatted, clean, finished, is_utf8, trimmed, utf16_length
from bot.phone.errors import bad_request
from bot.phone.fields import FieldProblem, optional_text, required_integer, required_object, required_text
from bot.phone.links import BadLink, checked_link
from bot.phone.parsing_html import parse_html
from bot.phone.parsing_markdown import parse_markdown, parse_markdown_v2
from bot.phone.rendering import to_html

__all__ = ["formatted", "parse_html", "parse_markdown", "parse_markdown_v2", "plain", "to_html", "utf16_length"]

_MODES: Final = {"html": parse_html, "markdown": parse_markdown, "markdownv2": parse_markdown_v2}
_MOST_BYTES: Final = 1 << 15
_LARGEST_OFFSET: Final = 1_000_000
_STYLES: Final = frozenset(
    {
        "bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre", "text_link", "blockquote",
        "expandable_blockquote",
    }
)  # fmt: skip
# Telegram finds these by itself, or has nothing for them in a bot's plain message: what the caller says is dropped.
_DROPPED: Final = frozenset(
    {
        "mention", "hashtag", "cashtag", "bot_command", "url", "email", "phone_number", "bank_card_number",
        "text_mention", "custom_emoji",
    }
)  # fmt: skip


def plain(text: str) -> Formatted:
    """Text without a parse mode: trimmed, with commands and links found as Telegram finds them."""
    return finished(clean(text).strip(" \n"), [])


def formatted(text: str, parse_mode: str, entities: Any) -> Formatted:
    """Text in a parse mode, or with ready-made entities (the JSON value as it came), or plain."""
    if not is_utf8(text):
        raise bad_request("text must be encoded in UTF-8")
    if len(text.encode()) > _MOST_BYTES:
        raise bad_request("text is too long")
    mode = parse_mode.lower()
    if text and mode not in ("", "none"):
        if mode not in _MODES:
            raise bad_request("unsupported parse_mode")
        return _MODES[mode](text)
    return with_entities(text, entities) if isinstance(entities, list) else plain(text)


def with_entities(text: str, shapes: Iterable[Any]) -> Formatted:
    """Text whose entities the caller worked out itself, read as the Bot API server reads them."""
    kept = [entity for shape in shapes if (entity := _entity(shape)) is not None]
    ends = _boundaries(text)
    for entity in sorted(kept, key=lambda each: (each.offset, -each.length)):
        _check_bounds(entity, ends)
    return trimmed(text, [entity for entity in kept if entity.length])


def _entity(shape: Any) -> Entity | None:
    try:
        return _read_entity(shape)
    except FieldProblem as problem:
        raise bad_request(f"Can't parse MessageEntity: {problem}") from problem


def _read_entity(shape: Any) -> Entity | None:
    if not isinstance(shape, dict):
        raise FieldProblem("expected an Object")
    offset, length = required_integer(shape, "offset"), required_integer(shape, "length")
    kind = required_text(shape, "type")
    if kind not in _STYLES | _DROPPED:
        raise FieldProblem("Unsupported type specified" if kind else "Type is not specified")
    if kind == "text_mention":
        required_integer(required_object(shape, "user"), "id")
    if kind == "custom_emoji":
        required_text(shape, "custom_emoji_id")
    if kind in _DROPPED:
        return None
    url = _url(required_text(shape, "url")) if kind == "text_link" else None
    language = optional_text(shape, "language") if kind == "pre" else ""
    return Entity(type=kind, offset=offset, length=length, url=url, language=language or None)


def _url(link: str) -> str:
    try:
        return checked_link(link)
    except BadLink as problem:
        raise bad_request(f"Entity {problem}") from problem


def _boundaries(text: str) -> dict[int, int]:
    """UTF-16 offset of every character, and of the end, with its offset in bytes."""
    units = octets = 0
    ends = {0: 0}
    for char in text:
        units += 1 + (char > "\uffff")
        octets += len(char.encode())
        ends[units] = octets
    return ends


def _check_bounds(entity: Entity, ends: dict[int, int]) -> None:
    last = max(ends)
    for name, value in (("offset", entity.offset), ("length", entity.length)):
        if not 0 <= value <= _LARGEST_OFFSET:
            raise bad_request(f"receive an entity with incorrect {name} {value}")
    if not entity.length:
        return
    if entity.offset >= last:
        raise bad_request(f"entity begins after the end of the text at UTF-16 offset {entity.offset}")
    if entity.end > last:
        raise bad_request(
            f"entity beginning at UTF-16 offset {entity.offset} ends after the end of the text at UTF-16 offset"
            f" {entity.end}"
        )
    for offset, verb in ((entity.offset, "begins"), (entity.end, "ends")):
        if offset not in ends:
            raise bad_request(f"entity {verb} in a middle of a UTF-16 symbol at byte offset {ends[offset + 1]}")
