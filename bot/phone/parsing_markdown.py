"""The two Markdown parse modes, as td reads them (td/telegram/MessageEntity.cpp), with its error texts.

Follows `parse_markdown` (legacy) and `parse_markdown_v2`. Offsets in errors count bytes.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import Final

from bot.phone.entities import Entity, Formatted, clean, trimmed
from bot.phone.errors import unparsable
from bot.phone.links import BadLink, checked_link
from bot.phone.scanning import Scanner

_LANGUAGE = re.compile(r"([^\s`]+)(?=\s)")
_LINE_BREAK = re.compile(r"\r\n|\n\r|\n|\r")
_LEGACY_PLAIN = re.compile(r"[^\\_*`\[]+")
_PLAIN = re.compile(r"[^\\_*\[\]()~`>#+\-=|{}.!\n]+")
_PLAIN_IN_CODE = re.compile(r"[^\\`]+")
_ESCAPED = re.compile(r"\\([\x01-\x7e])")
_LEGACY_TYPES: Final = {"_": "italic", "*": "bold", "[": "text_link", "`": "code", "```": "pre"}
_MARKS: Final = (
    ("```", "pre"), ("`", "code"), ("__", "underline"), ("_", "italic"), ("*", "bold"), ("~", "strikethrough"),
    ("||", "spoiler"), ("![", "custom_emoji"), ("[", "text_link"),
)  # fmt: skip
_ENDS: Final = {"text_link": "]", "custom_emoji": "]"} | {
    kind: mark for mark, kind in _MARKS if kind not in ("text_link", "custom_emoji")
}
_NAMES: Final = {"text_link": "TextUrl", "custom_emoji": "CustomEmoji", "blockquote": "BlockQuote"}
_EMOJI_LINK = re.compile(r"tg://emoji\?id=[1-9]\d{0,18}")


def parse_markdown(source: str) -> Formatted:
    """Text in the legacy Markdown parse mode; raises Refusal "can't parse entities: ..." where Telegram would."""
    parser = _Legacy(clean(source))
    parser.run()
    return trimmed("".join(parser.output), parser.entities)


def parse_markdown_v2(source: str) -> Formatted:
    """Text in the MarkdownV2 parse mode; raises Refusal "can't parse entities: ..." where Telegram would."""
    parser = _Second(clean(source))
    parser.run()
    return trimmed("".join(parser.output), parser.entities)


class _Scanner(Scanner):
    """What both dialects of Markdown read alike."""

    def at(self, mark: str) -> bool:
        return self.source.startswith(mark, self.position)

    def language(self) -> str | None:
        """The language after ```, and the line break that follows."""
        name = self.take(_LANGUAGE) or None
        self.take(_LINE_BREAK)
        return name


class _Legacy(_Scanner):
    """Entities do not nest, and nothing is escaped inside one."""

    def run(self) -> None:
        while self.position < len(self.source):
            plain = self.take(_LEGACY_PLAIN)
            if plain:
                self.emit(plain)
            elif self.at("\\"):
                self._backslash()
            else:
                self._entity("```" if self.at("```") else self.source[self.position])

    def _backslash(self) -> None:
        following = self.source[self.position + 1 : self.position + 2]
        escapes = following in ("_", "*", "`", "[") and following
        self.emit(following if escapes else "\\")
        self.position += 2 if escapes else 1

    def _entity(self, mark: str) -> None:
        begin, offset = self.position, self.offset
        self.position += len(mark)
        language = self.language() if mark == "```" else None
        closing = "]" if mark == "[" else mark
        end = self.source.find(closing, self.position)
        if end < 0:
            raise unparsable(f"Can't find end of the entity starting at byte offset {self.octets(begin)}")
        body = self.source[self.position : end]
        self.emit(body)
        self.position = end + len(closing)
        url = self._url(body) if mark == "[" else None
        if body and (url or mark != "["):
            length = self.offset - offset
            kind = _LEGACY_TYPES[mark]
            self.entities.append(Entity(type=kind, offset=offset, length=length, url=url, language=language))

    def _url(self, body: str) -> str | None:
        """The address in brackets, else the text itself; None when it is no address."""
        if self.at("("):
            end = self.source.find(")", self.position)
            end = len(self.source) if end < 0 else end
            body, self.position = self.source[self.position + 1 : end], end + 1
        with contextlib.suppress(BadLink):
            return checked_link(body)
        return None


@dataclass(frozen=True, slots=True)
class _Open:
    """An entity whose end is still to come: where it begins in the source, the text and the output."""

    type: str
    begin: int
    offset: int
    output_index: int
    language: str | None = None

    @property
    def name(self) -> str:
        """td's word for it."""
        return "PreCode" if self.language else _NAMES.get(self.type, self.type.capitalize())


class _Second(_Scanner):
    """Entities nest; every reserved character must be escaped."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.open: list[_Open] = []
        self.line_start = True

    def run(self) -> None:
        while self.position < len(self.source):
            plain = self.take(_PLAIN_IN_CODE if self._in_code() else _PLAIN) or self._escaped()
            if plain:
                self.emit(plain)
                self.line_start = False
            elif not self._close():
                self._begin()
        self._close_quote()
        if self.open:
            raise self._unended()

    def _in_code(self) -> bool:
        return bool(self.open) and self.open[-1].type in ("code", "pre")

    def _escaped(self) -> str:
        """The character after a backslash; a backslash that escapes nothing stands for itself."""
        if not self.at("\\"):
            return ""
        return self.take(_ESCAPED)[1:] or self._next()

    def _next(self) -> str:
        char = self.source[self.position]
        self.position += 1
        return char

    def _quoting(self) -> bool:
        return any(each.type == "blockquote" for each in self.open)

    def _close(self) -> bool:
        """Ends the innermost entity when its mark stands here."""
        if not self.open:
            return False
        if self._quoting() and self.at("\n") and not self.at("\n>"):
            self._next()
            self._close_quote()
            self._new_line()
            return True
        innermost = self.open[-1]
        if innermost.type == "blockquote":
            return self._close_expandable()
        end = _ENDS[innermost.type]
        if not self.at(end) or (end == "_" and self.at("__")):
            return False
        self.position += len(end)
        self._finish(self.open.pop())
        return True

    def _close_expandable(self) -> bool:
        """A quote whose last line ends in || can be folded."""
        if not self.at("||") or self.source[self.position + 2 : self.position + 3] not in ("", "\n"):
            return False
        self.position += 2
        quote = self.open.pop()
        self._add(replace(quote, type="expandable_blockquote"), None)
        return True

    def _close_quote(self) -> None:
        """A quote ends with its line; whatever is still open inside it never ended."""
        if self._quoting():
            if self.open[-1].type != "blockquote":
                raise self._unended()
            self._add(self.open.pop(), None)

    def _finish(self, entity: _Open) -> None:
        url = None
        if entity.type == "text_link":
            text = "".join(self.output[entity.output_index :])
            target = self._target("URL") if self.at("(") else text
            with contextlib.suppress(BadLink):
                url = checked_link(target)
            if url is None:
                return
        if entity.type == "custom_emoji":
            self._check_emoji()
            return
        self._add(entity, url)

    def _check_emoji(self) -> None:
        """A custom emoji stays plain text: only bots with a bought username may send one."""
        if not self.at("("):
            raise unparsable("Custom emoji entity must contain a tg://emoji URL")
        if not _EMOJI_LINK.fullmatch(self._target("custom emoji URL")):
            raise unparsable("Invalid custom emoji identifier specified")

    def _target(self, what: str) -> str:
        """What stands in the parentheses that begin here."""
        self.position += 1
        begin = self.position
        end = re.compile(r"(?:\\[\x01-\x7e]|[^)])*").match(self.source, begin)
        self.position = end.end() if end else begin
        if not self.at(")"):
            raise unparsable(f"Can't find end of a {what} at byte offset {self.octets(begin)}")
        self.position += 1
        return _ESCAPED.sub(r"\1", self.source[begin : self.position - 1])

    def _add(self, entity: _Open, url: str | None) -> None:
        length = self.offset - entity.offset
        if length:
            kind, language = entity.type, entity.language
            self.entities.append(Entity(type=kind, offset=entity.offset, length=length, url=url, language=language))

    def _begin(self) -> None:
        if self.at("\n"):
            self._next()
            self._new_line()
        elif self.at(">") and self.line_start:
            self._push("blockquote", 1)
        else:
            self._open_mark()

    def _new_line(self) -> None:
        self.emit("\n")
        self.line_start = True
        if self._quoting() and self.at(">"):
            self.position += 1

    def _open_mark(self) -> None:
        for mark, kind in _MARKS:
            if self.at(mark):
                self._push(kind, len(mark))
                return
        char = self.source[self.position]
        raise unparsable(f"Character '{char}' is reserved and must be escaped with the preceding '\\'")

    def _push(self, kind: str, width: int) -> None:
        """`**` before a quote is an empty entity: it keeps two quotes apart, and the line still begins."""
        begin = self.position
        self.position += width
        language = self.language() if kind == "pre" else None
        self.open.append(_Open(kind, begin, self.offset, len(self.output), language))
        self.line_start = self.line_start and kind == "bold"

    def _unended(self) -> Exception:
        entity = self.open[-1]
        return unparsable(f"Can't find end of {entity.name} entity at byte offset {self.octets(entity.begin)}")
