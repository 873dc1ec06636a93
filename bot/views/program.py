"""How the program itself is: health, log, versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.cards import Look
from bot.text import counted, fitted, own, prose, verbatim, word

_LINE: Final = 300


def health_view(checks: Sequence[tuple[str, bool, str]], look: Look) -> str:
    """Every check; what is not well comes first and stands in the first line."""
    if not checks:
        return f"{look.lead} <b>nothing is known</b> of the program's health yet"
    bad = [name for name, well, _ in checks if not well]
    head = f"{look.lead} <b>healthy</b>, {counted(len(checks), 'check')}"
    if bad:
        named = ", ".join(word(name) for name in bad[:5])
        head = f"{look.lead} <b>{len(bad)} of {len(checks)} not well: {named}</b>"
    ordered = sorted(checks, key=lambda each: each[1])
    lines = [f"{'ok' if well else '<b>BAD</b>'} {word(name, 40)}: {prose(line, 200)}" for name, well, line in ordered]
    return fitted([head, *lines])  # one message: it is refreshed in place


def logs_view(lines: Sequence[str], look: Look) -> str:
    """The last lines of the log, the newest last."""
    if not lines:
        return f"{look.lead} <b>the log is empty</b> so far"
    shown = [verbatim(line, _LINE) for line in lines]
    return f"{look.lead} <b>log</b>: {counted(len(shown), 'line')}, the newest last\n<pre>{chr(10).join(shown)}</pre>"


def version_view(versions: Sequence[tuple[str, str]], look: Look) -> str:
    """What runs, in which version; the program itself comes first."""
    if not versions:
        return f"{look.lead} <b>no version is known</b>"
    name, number = versions[0]
    head = f"{look.lead} <b>{word(name, 40)} {own(number, 80)}</b>"
    return "\n".join([head, *(f"{word(name, 40)} {own(number, 120)}" for name, number in versions[1:])])
