"""Telegram's rules for formatted text."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.phone.entities import Formatted
from bot.phone.errors import Refusal
from bot.phone.formatting import parse_html, parse_markdown, parse_markdown_v2, plain, to_html, utf16_length
from bot.phone.links import BadLink, checked_link


def kinds(formatted: Formatted) -> list[tuple[str, int, int]]:
    return [(entity.type, entity.offset, entity.length) for entity in formatted.entities]


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("<b>bold</b> <i>it</i>", "bold it", [("bold", 0, 4), ("italic", 5, 2)]),
        ("<STRONG>a</STRONG><em>b</em>", "ab", [("bold", 0, 1), ("italic", 1, 1)]),
        ("<b>a <u>b</u></b>", "a b", [("bold", 0, 3), ("underline", 2, 1)]),
        ("<s>x</s><tg-spoiler>y</tg-spoiler>", "xy", [("strikethrough", 0, 1), ("spoiler", 1, 1)]),
        ('<span class="tg-spoiler">y</span>', "y", [("spoiler", 0, 1)]),
        ("<pre>a  b\nc</pre>", "a  b\nc", [("pre", 0, 6)]),
        ("<code>&lt;b&gt;</code>", "<b>", [("code", 0, 3)]),
        ("<pre><b>x</b></pre>", "x", [("pre", 0, 1)]),
        ("<blockquote expandable>q</blockquote>", "q", [("expandable_blockquote", 0, 1)]),
        ("😀<b>x</b>", "😀x", [("bold", 2, 1)]),
        ("<b></b>x", "x", []),
        ("  <b>x</b> \n", "x", [("bold", 0, 1)]),
        ("&amp;lt; &#65;&#x42; &copy; &", "&lt; AB &copy; &", []),
        ("<a href='https://e.org/?a=1&amp;b=2'>e</a>", "e", [("text_link", 0, 1)]),
        ("<a href='javascript:x'>e</a>", "e", []),
        ("see /status now", "see /status now", [("bot_command", 4, 7)]),
        ("<code>/status</code> 3/4 a/b", "/status 3/4 a/b", [("code", 0, 7)]),
        ("https://e.org/a.", "https://e.org/a.", [("url", 0, 15)]),
        ("<b>x</ >", "x", [("bold", 0, 1)]),
    ],
)
def test_html_becomes_text_and_entities(source: str, text: str, entities: list[tuple[str, int, int]]) -> None:
    """Tags become entities in UTF-16 units, characters are decoded, white space around is dropped."""
    formatted = parse_html(source)
    assert formatted.text == text
    assert kinds(formatted) == entities


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("a < b", 'Unsupported start tag "" at byte offset 2'),
        ("<p>x</p>", 'Unsupported start tag "p" at byte offset 0'),
        ("ü<table>", 'Unsupported start tag "table" at byte offset 2'),
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("x <b", "Unclosed start tag at byte offset 2"),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<a href=>x</a><", "Unclosed start tag at byte offset 14"),
        ("<a href='x", 'Unclosed start tag "a" at byte offset 0'),
        ("<a href=x_y>x</a>", "Unexpected end of name token at byte offset 8"),
        ('<a "x">y</a>', 'Empty attribute name in the tag "a" at byte offset 0'),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
    ],
)
def test_broken_html_is_refused_in_telegrams_words(source: str, reason: str) -> None:
    """The refusal names the tag and its byte offset as the real parser does."""
    with pytest.raises(Refusal) as refused:
        parse_html(source)
    assert refused.value.status == 400
    assert refused.value.description == f"Bad Request: can't parse entities: {reason}"


def test_a_code_block_keeps_its_language() -> None:
    """`<pre><code class="language-x">` is one entity."""
    (entity,) = parse_html('<pre><code class="language-python">x = 1</code></pre>').entities
    assert entity.shape() == {"type": "pre", "offset": 0, "length": 5, "language": "python"}


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("<b>a<i>b</i></b>", "<b>a<i>b</i></b>"),
        ("&lt;script&gt;", "&lt;script&gt;"),
        ("<pre>a &lt; b</pre>", "<pre>a &lt; b</pre>"),
        ("a\n<pre>b</pre>\nc", "a<pre>b</pre>c"),
        ("<tg-spoiler>😀</tg-spoiler>!", '<span class="spoiler" role="button" tabindex="0">😀</span>!'),
        ("<blockquote expandable>{q}</blockquote>", '<blockquote class="expandable">{q}</blockquote>'),
        ("/help", '<button class="command" type="button">/help</button>'),
        ("<a href='tg://user?id=1'>me</a>", "me"),
        (
            "<a href='https://e.org/\"&gt;'>e</a>",
            '<a href="https://e.org/&quot;&gt;" target="_blank" rel="noopener noreferrer">e</a>',
        ),
    ],
)
def test_the_page_gets_safe_html(source: str, page: str) -> None:
    """Only known tags leave, everything else is escaped."""
    assert to_html(parse_html(source)) == page


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("*b _i __u__ ||x||_*", "b i u x", [("bold", 0, 7), ("italic", 2, 5), ("underline", 4, 1), ("spoiler", 6, 1)]),
        ("`a*b\\``", "a*b`", [("code", 0, 4)]),
        ("```python\nx = 1\n``` y", "x = 1\n y", [("pre", 0, 6)]),
        ("[e](https://e.org/\\))", "e", [("text_link", 0, 1)]),
        ("[e](no)", "e", []),
        ("> a\n>b\nc", " a\nb\nc", [("blockquote", 0, 4)]),
        ("**>a\n>b||", "a\nb", [("expandable_blockquote", 0, 3)]),
        ("___iu_**__", "iu", [("underline", 0, 2), ("italic", 0, 2)]),
        ("![😀](tg://emoji?id=5)", "😀", []),
        ("1 \\- 2\\.", "1 - 2.", []),
    ],
)  # fmt: skip
def test_markdown_v2_becomes_text_and_entities(source: str, text: str, entities: list[tuple[str, int, int]]) -> None:
    """Entities nest, a backslash escapes, a quote begins its line."""
    formatted = parse_markdown_v2(source)
    assert formatted.text == text
    assert sorted(kinds(formatted)) == sorted(entities)


@pytest.mark.parametrize(
    ("source", "text", "entities"),
    [
        ("*b* _i_ `c` \\*", "b i c *", [("bold", 0, 1), ("italic", 2, 1), ("code", 4, 1)]),
        ("```py\nx\n```", "x", [("pre", 0, 1)]),
        ("[e](e.org) [no](x)", "e no", [("text_link", 0, 1)]),
        ("_a*b_ a\\b", "a*b a\\b", [("italic", 0, 3)]),
    ],
)
def test_legacy_markdown_becomes_text_and_entities(
    source: str, text: str, entities: list[tuple[str, int, int]]
) -> None:
    """Nothing nests, and only four characters can be escaped."""
    formatted = parse_markdown(source)
    assert formatted.text == text
    assert kinds(formatted) == entities


@pytest.mark.parametrize(
    ("link", "full"),
    [
        ("https://e.org", "https://e.org/"),
        ("E.org", "http://e.org/"),
        ("HTTP://e.org:8080/A?b=c d#e", "http://e.org:8080/A?b=c%20d#e"),
        ("e.org?x", "http://e.org/?x"),
        ("user@e.org/x", "http://e.org/x"),
        ("tg:resolve?domain=x", "tg://resolve?domain=x"),
    ],
)
def test_a_link_is_brought_into_its_full_form(link: str, full: str) -> None:
    """Protocol, host in lower case, path."""
    assert checked_link(link) == full


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("", "URL host is empty"),
        ("localhost", "Wrong HTTP URL"),
        ("ftp://e.org", "Unsupported URL protocol"),
        ("http://e.org:x/", "Wrong port number specified in the URL"),
        ("http://e.org:99999/", "Wrong port number specified in the URL"),
        ("http://e|.org", "Disallowed character in URL host"),
    ],
)
def test_what_is_no_link_is_told(link: str, reason: str) -> None:
    """In Telegram's words, with the link."""
    with pytest.raises(BadLink) as problem:
        checked_link(link)
    assert str(problem.value) == f"URL '{link}' is invalid: {reason}"


@given(st.text(max_size=200))
def test_escaped_text_survives(text: str) -> None:
    """What html.escape makes of any text comes back as that text, but for white space around."""
    assert parse_html(html.escape(text)).text == plain(text).text


@given(st.text(alphabet="*_~`|[]()!>\\\\\n.ab😀", max_size=60))
def test_no_markdown_breaks_the_parser(source: str) -> None:
    """Any text is either parsed, with entities inside it, or refused, in both modes."""
    for parse in (parse_markdown, parse_markdown_v2):
        try:
            formatted = parse(source)
        except Refusal:
            continue
        total = utf16_length(formatted.text)
        assert all(0 <= entity.offset < entity.end <= total for entity in formatted.entities)


@given(st.text(alphabet="<>/ab=\"' &;#x1pre/😀\n", max_size=60))
def test_no_source_breaks_the_parser(source: str) -> None:
    """Any text is either parsed, with entities inside it, or refused."""
    try:
        formatted = parse_html(source)
    except Refusal:
        return
    total = utf16_length(formatted.text)
    assert all(0 <= entity.offset < entity.end <= total for entity in formatted.entities)
    assert "<script" not in to_html(formatted)
