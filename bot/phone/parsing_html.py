"""The HTML parse mode, as td's `parse_html` reads it (td/telegram/MessageEntity.cpp), with its error texts."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import Final

from bot.phone.entities import VERBATIM, Entity, Formatted, clean, trimmed
from bot.phone.errors import unparsable
from bot.phone.links import BadLink, checked_link
from bot.phone.scanning import Scanner

_STYLES: Final = {
    "b": "bold", "strong": "bold", "i": "italic", "em": "italic", "u": "underline", "ins": "underline",
    "s": "strikethrough", "strike": "strikethrough", "del": "strikethrough", "code": "code", "pre": "pre",
    "a": "text_link", "tg-spoiler": "spoiler", "span": "spoiler", "tg-emoji": "custom_emoji",
    "blockquote": "blockquote",
}  # fmt: skip
_CHARACTER = re.compile(r"&(?:#[xX]([0-9a-fA-F]{1,8})|#([0-9]{1,8})|(lt|gt|amp|quot)(?![A-Za-z]));?")
_NAMED: Final = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_TAG_NAME = re.compile(r"[^\s>]*")
_ATTRIBUTE_NAME = re.compile(r"""[^\s=>/"']*""")
_NAME_TOKEN = re.compile(r"[A-Za-z0-9.\-]*")
_SPACE = re.compile(r"\s*")
_LARGEST_ID: Final = 2**63


def parse_html(source: str) -> Formatted:
    """Text in the HTML parse mode; raises Refusal "can't parse entities: ..." where Telegram would."""
    parser = _Parser(clean(source))
    parser.run()
    return trimmed("".join(parser.output), parser.entities)


@dataclass(frozen=True, slots=True)
class _OpenTag:
    name: str
    argument: str
    offset: int
    output_index: int


class _Parser(Scanner):
    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.open: list[_OpenTag] = []

    def run(self) -> None:
        while self.position < len(self.source):
            tag = self.source.find("<", self.position)
            end = len(self.source) if tag < 0 else tag
            self.emit(_decoded(self.source[self.position : end]))
            self.position = end
            if tag >= 0:
                self._end_tag() if self.source.startswith("</", tag) else self._start_tag()
        if self.open:
            raise unparsable(f'Can\'t find end tag corresponding to start tag "{self.open[-1].name}"')

    def _peek(self) -> str:
        """The next character, empty at the end."""
        return self.source[self.position : self.position + 1]

    def _start_tag(self) -> None:
        begin = self.position
        self.position += 1
        name = self.take(_TAG_NAME).lower()
        if not self._peek():
            raise unparsable(f"Unclosed start tag at byte offset {self.octets(begin)}")
        if name not in _STYLES:
            raise unparsable(f'Unsupported start tag "{name}" at byte offset {self.octets(begin)}')
        argument = ""
        while (attribute := self._attribute(name, begin)) is not None:
            argument = _argument(name, *attribute) or argument
        if name == "span" and argument != "spoiler":
            where = self.octets(begin)
            raise unparsable(f'Tag "span" must have class "tg-spoiler" at byte offset {where}')
        self.open.append(_OpenTag(name, argument, self.offset, len(self.output)))

    def _attribute(self, tag: str, begin: int) -> tuple[str, str | None] | None:
        """The next attribute and its value; None once the closing `>` is eaten."""
        self.take(_SPACE)
        if self._peek() == ">":
            self.position += 1
            return None
        name = self.take(_ATTRIBUTE_NAME).lower()
        if not name:
            problem = "Empty attribute name in the tag" if self._peek() else "Unclosed start tag"
            raise unparsable(f'{problem} "{tag}" at byte offset {self.octets(begin)}')
        self.take(_SPACE)
        value = self._value() if self._peek() == "=" else None
        if not self._peek():
            raise unparsable(f'Unclosed start tag "{tag}" at byte offset {self.octets(begin)}')
        return name, value

    def _value(self) -> str:
        self.position += 1
        self.take(_SPACE)
        begin, quote = self.position, self._peek()
        if quote in ("'", '"') and quote:
            end = self.source.find(quote, begin + 1)
            end = len(self.source) if end < 0 else end
            self.position = end + 1
            return _decoded(self.source[begin + 1 : end])
        token = self.take(_NAME_TOKEN).lower()
        if self._peek() and not (self._peek().isspace() or self._peek() == ">"):
            raise unparsable(f"Unexpected end of name token at byte offset {self.octets(begin)}")
        return token

    def _end_tag(self) -> None:
        begin = self.position
        if not self.open:
            raise unparsable(f"Unexpected end tag at byte offset {self.octets(begin)}")
        self.position += 2
        name = self.take(_TAG_NAME).lower()
        self.take(_SPACE)
        if self._peek() != ">":
            raise unparsable(f"Unclosed end tag at byte offset {self.octets(begin)}")
        self.position += 1
        tag = self.open.pop()
        if name and name != tag.name:
            where = f"at byte offset {self.octets(begin)}"
            raise unparsable(f'Unmatched end tag {where}, expected "</{tag.name}>", found "</{name}>"')
        if self.offset > tag.offset:
            self._close(tag)

    def _close(self, tag: _OpenTag) -> None:
        entity = Entity(type=_STYLES[tag.name], offset=tag.offset, length=self.offset - tag.offset)
        if tag.name == "tg-emoji":
            _check_emoji(tag.argument)
        elif tag.name == "a":
            self._close_link(tag, entity)
        elif tag.name == "blockquote" and tag.argument:
            self.entities.append(replace(entity, type="expandable_blockquote"))
        elif tag.name not in VERBATIM or not self._merged_code(tag, entity):
            self.entities.append(entity)

    def _close_link(self, tag: _OpenTag, entity: Entity) -> None:
        """An address that is none leaves plain text."""
        url = tag.argument or "".join(self.output[tag.output_index :])
        with contextlib.suppress(BadLink):
            self.entities.append(replace(entity, url=checked_link(url)))

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


def _check_emoji(identifier: str) -> None:
    """A custom emoji stays plain text: only bots with a bought username may send one."""
    if not re.fullmatch(r"-?\d{1,19}", identifier) or not 0 < abs(int(identifier)) < _LARGEST_ID:
        raise unparsable("Invalid custom emoji identifier specified")


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
    if tag == "tg-emoji" and name == "emoji-id":
        return value
    return ""


def _decoded(text: str) -> str:
    return _CHARACTER.sub(_character, text) if "&" in text else text


def _character(match: re.Match[str]) -> str:
    hexadecimal, decimal, named = match.groups()
    if named:
        return _NAMED[named]
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    valid = 0 < code < 0xD800 or 0xDFFF < code <= 0x10FFFF
    return chr(code) if valid else match.group()
