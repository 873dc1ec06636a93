"""Formatted text as safe HTML for the page."""

from __future__ import annotations

import html
from typing import Final

from bot.phone.entities import Entity, Formatted, inside

_HTML_TAGS: Final = {
    "bold": "b", "italic": "i", "underline": "u", "strikethrough": "s", "code": "code", "pre": "pre",
    "blockquote": "blockquote",
}  # fmt: skip
_BLOCKS: Final = frozenset({"pre", "blockquote", "expandable_blockquote"})
_ACTIVE: Final = {  # what the page lets its reader open or send
    "spoiler": '<span class="spoiler" role="button" tabindex="0">{}</span>',
    "expandable_blockquote": '<blockquote class="expandable">{}</blockquote>',
    "bot_command": '<button class="command" type="button">{}</button>',
}


def to_html(formatted: Formatted) -> str:
    """Safe HTML for the page: everything escaped, only known tags, links only to http(s)."""
    if not formatted.entities:
        return html.escape(formatted.text)
    units = formatted.text.encode("utf-16-le")
    return _render(units, 0, len(units) // 2, list(formatted.entities))


def _render(units: bytes, begin: int, end: int, entities: list[Entity]) -> str:
    """Nested entities inside their parent; one that crosses its neighbour is drawn as plain text."""
    parts: list[str] = []
    at = begin
    after_block = False
    for index, entity in enumerate(entities):
        if entity.offset < at or entity.end > end:
            continue
        block = entity.type in _BLOCKS
        parts.append(_between(_slice(units, at, entity.offset), after_block, block))
        inner = [other for other in entities[index + 1 :] if inside(other, entity)]
        parts.append(_wrapped(entity, _render(units, entity.offset, entity.end, inner), units))
        at, after_block = entity.end, block
    parts.append(_between(_slice(units, at, end), after_block, before_block=False))
    return "".join(parts)


def _between(text: str, after_block: bool, before_block: bool) -> str:
    """A block begins and ends a line by itself: one line break at either side is its own."""
    text = text.removeprefix("\n") if after_block else text
    return text.removesuffix("\n") if before_block else text


def _slice(units: bytes, begin: int, end: int) -> str:
    return html.escape(units[begin * 2 : end * 2].decode("utf-16-le", "replace"))


def _wrapped(entity: Entity, inner: str, units: bytes) -> str:
    if entity.type in _HTML_TAGS:
        tag = _HTML_TAGS[entity.type]
        return f"<{tag}>{inner}</{tag}>"
    if entity.type in _ACTIVE:
        return _ACTIVE[entity.type].format(inner)
    url = entity.url if entity.type == "text_link" else None
    if entity.type == "url":
        url = units[entity.offset * 2 : entity.end * 2].decode("utf-16-le", "replace")
    if url is None or not url.lower().startswith(("http://", "https://")):
        return inner
    return f'<a href="{html.escape(url)}" target="_blank" rel="noopener noreferrer">{inner}</a>'
