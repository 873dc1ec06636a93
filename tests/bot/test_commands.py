"""One table: router, /help and menu say the same, and every command asks for its role."""

from __future__ import annotations

import pytest

from bot.access import Role
from bot.commands import COMMANDS, menu, route
from bot.text import plain


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        ("/status", "status", ()),
        ("  /STATUS  ", "status", ()),
        ("/status@conclave_bot", "status", ()),
        ("/verdicts 5", "verdicts", ("5",)),
        ("/verdicts\n5 6", "verdicts", ("5", "6")),
        ("/help pause", "help", ("pause",)),
        ("/nonsense", "help", ()),
        ("/statuss", "help", ()),
        ("hello", "help", ()),
        ("please /pause", "help", ()),
        ("/", "help", ()),
        ("//pause", "help", ()),
        ("", "help", ()),
    ],
)
def test_a_message_means_one_command(text: str, name: str, arguments: tuple[str, ...]) -> None:
    """Whatever is none means /help."""
    command, found = route(text)
    assert (command.name, found) == (name, arguments)


def test_the_menu_is_the_table() -> None:
    """Names and descriptions fit Telegram's limits."""
    assert [name for name, _ in menu()] == [command.name for command in COMMANDS]
    for name, description in menu():
        assert name.islower()
        assert len(name) <= 32
        assert 1 <= len(description) <= 256
        assert plain(description) == description


def test_what_raises_risk_needs_the_owner() -> None:
    """S2, for the whole table."""
    assert {command.name: command.needs for command in COMMANDS} == {
        "start": Role.VIEWER, "help": Role.VIEWER, "status": Role.VIEWER, "verdicts": Role.VIEWER,
        "pause": Role.OPERATOR, "resume": Role.OWNER,
    }  # fmt: skip
    assert all(command.needs is Role.OWNER for command in COMMANDS if command.raises_risk)
