"""Rows of buttons. `data` is a command without its slash: it is routed and checked like one that was written."""

from __future__ import annotations

from typing import Final

from bot.text import label

_MOST_BYTES: Final = 64  # Telegram refuses longer data


def button(text: str, *words: object) -> list[dict[str, str]]:
    """One button that says a command; none where the command is too long to be said by one."""
    data = " ".join(str(word) for word in words)
    if len(data.encode("utf-8", "surrogatepass")) > _MOST_BYTES or not data.isprintable():
        return []
    return [{"text": label(text), "data": data}]


def rows(*buttons: list[dict[str, str]], across: int = 3) -> list[list[dict[str, str]]] | None:
    """Buttons in rows of at most `across`; None when there is none."""
    flat = [each for group in buttons for each in group]
    return [flat[start : start + across] for start in range(0, len(flat), across)] or None
