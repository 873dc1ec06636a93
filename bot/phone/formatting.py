"""Formatted text by Telegram's rules: plain text plus entities whose offsets count UTF-16 code units.

`parse_html` follows td's `parse_html` (td/telegram/MessageEntity.cpp), the parser of the real Bot API, with
its error texts. Not modelled: custom emoji, MarkdownV2, and the splitting of a style that encloses a code
span.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass, replace
from typing import Any, Final

from bot.phone.errors import bad_request

_STYLES: Final = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline",
    "s": "strikethrough", "strike": "strikethrough", "del": "strikethrough", "code": "code", "pre": "pre",
    "a": "text_link", "tg-spoiler": "spoiler", "span": "spoiler", "blockquote": "blockquote",
}  # fmt: skip
_VERBATIM: Final = frozenset({"code", "pre"})
_NO_AUTOMATIC: Final = frozenset({"code", "pre", "text_link"})
_CHARACTER = re.compile(r"&(?:#[xX]([0-9a-fA-F]{1,8})|#([0-9]{1,8})|(lt|gt|amp|quot)(?![A-Za-z]));?")
_NAMED: Final = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_TAG_NAME = re.compile(r"[^\s>]*")
_ATTRIBUTE_NAME = re.compile(r"""[^\s=>/"']*""")
_NAME_TOKEN = re.compile(r"[A-Za-z0-9.\-]*")
_SPACE = re.compile(r"\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_COMMAND = re.compile(r"(?<![\w/<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{1,32})?(?![\w/<>])")
_URL = re.compile(r"https?://[^\s<>\"']+[^\s<>\"'.,;:!?)\]]")
_HTML_TAGS: Final = {
    "bold": "b", "italic": "i", "underline": "u", "strikethrough": "s", "code": "code", "pre": "pre",
    "blockquote": "blockquote", "expandable_blockquote": "blockquote",
}  # fmt: skip


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


def plain(text: str) -> Formatted:
    """Text without a parse mode: trimmed, with commands and links found as Telegram finds them."""
    return _finish(_clean(text).strip(" \n"), [])


def with_entities(text: str, shapes: list[dict[str, Any]]) -> Formatted:
    """Text whose entities the caller worked out itself; unknown fields of an entity are dropped."""
    total = utf16_length(text)
    kept: list[Entity] = []
    for shape in shapes:
        offset, length = int(shape["offset"]), int(shape["length"])
        if offset >= 0 and length > 0 and offset + length <= total:
            url, language = shape.get("url"), shape.get("language")
            kept.append(Entity(type=str(shape["type"]), offset=offset, length=length, url=url, language=language))
    return _trimmed(text, kept)


def parse_html(source: str) -> Formatted:
    """Text in the HTML parse mode; raises Refusal "can't parse entities: ..." where Telegram would."""
    parser = _Parser(_clean(source))
    parser.run()
    return _trimmed("".join(parser.output), parser.entities)


@dataclass(frozen=True, slots=True)
class _OpenTag:
    name: str
    argument: str
    offset: int
    output_index: int


class _Parser:
    """One pass over the source; `position` always stands on the next unread character."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.position = 0
        self.offset = 0
        self.output: list[str] = []
        self.entities: list[Entity] = []
        self.open: list[_OpenTag] = []

    def run(self) -> None:
        while self.position < len(self.source):
            tag = self.source.find("<", self.position)
            end = len(self.source) if tag < 0 else tag
            self._emit(_decoded(self.source[self.position : end]))
            self.position = end
            if tag >= 0:
                self._end_tag() if self.source.startswith("</", tag) else self._start_tag()
        if self.open:
            raise _unparsable(f'Can\'t find end tag corresponding to start tag "{self.open[-1].name}"')

    def _emit(self, text: str) -> None:
        if text:
            self.output.append(text)
            self.offset += utf16_length(text)

    def _peek(self) -> str:
        """The next character, empty at the end."""
        return self.source[self.position : self.position + 1]

    def _read(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.source, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match.group()

    def _byte(self, position: int) -> int:
        return len(self.source[:position].encode("utf-8"))

    def _start_tag(self) -> None:
        begin = self.position
        self.position += 1
        name = self._read(_TAG_NAME).lower()
        if not self._peek():
            raise _unparsable(f"Unclosed start tag at byte offset {self._byte(begin)}")
        if name not in _STYLES:
            raise _unparsable(f'Unsupported start tag "{name}" at byte offset {self._byte(begin)}')
        argument = ""
        while (attribute := self._attribute(name, begin)) is not None:
            argument = _argument(name, *attribute) or argument
        if name == "span" and argument != "spoiler":
            where = self._byte(begin)
            raise _unparsable(f'Tag "span" must have class "tg-spoiler" at byte offset {where}')
        self.open.append(_OpenTag(name, argument, self.offset, len(self.output)))

    def _attribute(self, tag: str, begin: int) -> tuple[str, str | None] | None:
        """The next attribute and its value; None once the closing `>` is eaten."""
        self._read(_SPACE)
        if self._peek() == ">":
            self.position += 1
            return None
        name = self._read(_ATTRIBUTE_NAME).lower()
        if not name:
            problem = "Empty attribute name in the tag" if self._peek() else "Unclosed start tag"
            raise _unparsable(f'{problem} "{tag}" at byte offset {self._byte(begin)}')
        self._read(_SPACE)
        value = self._value() if self._peek() == "=" else None
        if not self._peek():
            raise _unparsable(f'Unclosed start tag "{tag}" at byte offset {self._byte(begin)}')
        return name, value

    def _value(self) -> str:
        self.position += 1
        self._read(_SPACE)
        begin, quote = self.position, self._peek()
        if quote in ("'", '"') and quote:
            end = self.source.find(quote, begin + 1)
            end = len(self.source) if end < 0 else end
            self.position = end + 1
            return _decoded(self.source[begin + 1 : end])
        token = self._read(_NAME_TOKEN).lower()
        if self._peek() and not (self._peek().isspace() or self._peek() == ">"):
            raise _unparsable(f"Unexpected end of name token at byte offset {self._byte(begin)}")
        return token

    def _end_tag(self) -> None:
        begin = self.position
        if not self.open:
            raise _unparsable(f"Unexpected end tag at byte offset {self._byte(begin)}")
        self.position += 2
        name = self._read(_TAG_NAME).lower()
        self._read(_SPACE)
        if self._peek() != ">":
            raise _unparsable(f"Unclosed end tag at byte offset {self._byte(begin)}")
        self.position += 1
        tag = self.open.pop()
        if name and name != tag.name:
            where = f"at byte offset {self._byte(begin)}"
            raise _unparsable(f'Unmatched end tag {where}, expected "</{tag.name}>", found "</{name}>"')
        if self.offset > tag.offset:
            self._close(tag)

    def _close(self, tag: _OpenTag) -> None:
        entity = Entity(type=_STYLES[tag.name], offset=tag.offset, length=self.offset - tag.offset)
        if tag.name in _VERBATIM and self._merged_code(tag, entity):
            return
        if tag.name == "a":
            url = tag.argument or "".join(self.output[tag.output_index :])
            if not re.match(r"(?:https?|tg|mailto|ton)://?\S+", url, re.IGNORECASE):
                return
            entity = replace(entity, url=url)
        if tag.name == "blockquote" and tag.argument:
            entity = replace(entity, type="expandable_blockquote")
        self.entities.append(entity)

    def _merged_code(self, tag: _OpenTag, entity: Entity) -> bool:
        """`<pre><code class="language-x">` is one block; True when the outer tag adds nothing of its own."""
        if tag.name == "code":
            if tag.argument:
                self.entities.append(replace(entity, language=tag.argument))
            return bool(tag.argument)
        inner = self.entities[-1] if self.entities else None
        if inner is None or inner.type != "code" or (inner.offset, inner.length) != (entity.offset, entity.length):
            return False
        self.entities[-1] = replace(entity, language=inner.language)
        return True


def _argument(tag: str, name: str, value: str | None) -> str:
    """The one attribute each tag understands; empty for every other."""
    if tag == "blockquote" and name == "expandable":
        return "1"
    if value is None:
        return ""
    if tag == "a" and name == "href":
        return value
    if tag == "code" and name == "class" and value.startswith("language-"):
        return value.removeprefix("language-")
    if tag == "span" and name == "class" and value.startswith("tg-"):
        return value.removeprefix("tg-")
    return ""


def _unparsable(reason: str) -> Exception:
    return bad_request(f"can't parse entities: {reason}")


def _clean(text: str) -> str:
    return _CONTROL.sub(" ", text.replace("\r", ""))


def _decoded(text: str) -> str:
    return _CHARACTER.sub(_character, text) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    hexadecimal, decimal, named = match.groups()
    if named:
        return _NAMED[named]
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    valid = 0 < code < 0xD800 or 0xDFFF < code <= 0x10FFFF
    return chr(code) if valid else match.group()


def _trimmed(text: str, entities: list[Entity]) -> Formatted:
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
    return _finish(text[lead:], kept)


def _finish(text: str, entities: list[Entity]) -> Formatted:
    kept: list[Entity] = []
    for entity in sorted(entities, key=_outer_first):
        if not any(other.type in _VERBATIM and _inside(entity, other) for other in kept):
            kept.append(entity)
    kept.extend(_automatic(text, kept))
    return Formatted(text, tuple(sorted(kept, key=_outer_first)))


def _outer_first(entity: Entity) -> tuple[int, int, bool]:
    """Of two that cover the same text, code comes first: it bars the other."""
    return entity.offset, -entity.length, entity.type not in _VERBATIM


def _inside(entity: Entity, block: Entity) -> bool:
    return entity is not block and block.offset <= entity.offset and entity.end <= block.end


def _automatic(text: str, entities: list[Entity]) -> list[Entity]:
    """Commands and links that Telegram finds by itself outside code and links."""
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
    for index, entity in enumerate(entities):
        if entity.offset < at or entity.end > end:
            continue
        parts.append(_slice(units, at, entity.offset))
        inner = [other for other in entities[index + 1 :] if _inside(other, entity)]
        parts.append(_wrapped(entity, _render(units, entity.offset, entity.end, inner), units))
        at = entity.end
    parts.append(_slice(units, at, end))
    return "".join(parts)


def _slice(units: bytes, begin: int, end: int) -> str:
    return html.escape(units[begin * 2 : end * 2].decode("utf-16-le", "replace"))


def _wrapped(entity: Entity, inner: str, units: bytes) -> str:
    if entity.type in _HTML_TAGS:
        tag = _HTML_TAGS[entity.type]
        return f"<{tag}>{inner}</{tag}>"
    if entity.type == "spoiler":
        return f'<span class="spoiler">{inner}</span>'
    if entity.type == "bot_command":
        return f'<a class="command" href="#">{inner}</a>'
    url = entity.url if entity.type == "text_link" else None
    if entity.type == "url":
        url = units[entity.offset * 2 : entity.end * 2].decode("utf-16-le", "replace")
    if url is None or not url.lower().startswith(("http://", "https://")):
        return inner
    return f'<a href="{html.escape(url)}" target="_blank" rel="noopener noreferrer">{inner}</a>'
