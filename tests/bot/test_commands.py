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
    """Names and descriptions fit Telegram's limits; what only buttons say is not in it."""
    assert [name for name, _ in menu()] == [command.name for command in COMMANDS if not command.hidden]
    assert len(menu()) <= 100
    for name, description in menu():
        assert name.islower()
        assert len(name) <= 32
        assert 1 <= len(description) <= 256
        assert plain(description) == description


def test_everything_of_the_specification_is_there() -> None:
    """The commands of this version, by group."""
    groups: dict[str, set[str]] = {}
    for command in COMMANDS:
        groups.setdefault(command.group, set()).add(command.name)
    see = "status balance orders trades trade profit daily weekly monthly performance equity chart health logs version"
    research = "backtest backtests optimize walkforward compare params apply rollback again abandon"
    assert groups == {
        "see": set(see.split()),
        "council": {"verdicts", "why", "whynot", "council", "ask", "mode"},
        "research": set(research.split()),
        "steer": {"pause", "resume", "stop", "panic", "close", "breakeven", "cancel", "set", "symbols"},
        "rest": {"start", "menu", "help", "gone", "confirm", "dismiss"},
    }


def test_looking_is_for_everybody_steering_for_operators_and_more_risk_for_the_owner() -> None:
    """S2, for the whole table."""
    spends_or_steers = {"ask", "mode"}  # what may let more trades through asks the owner by a card
    for command in COMMANDS:
        if command.raises_risk:
            assert command.needs is Role.OWNER
        elif command.group == "steer" or command.name in spends_or_steers:
            assert command.needs is Role.OPERATOR
        elif command.group == "research":
            owners, lookers = {"apply", "rollback"}, {"backtests", "compare", "params"}
            looks = Role.VIEWER if command.name in lookers else Role.OPERATOR
            assert command.needs is (Role.OWNER if command.name in owners else looks)
        elif command.name != "dismiss":
            assert command.needs is Role.VIEWER


def test_buttons_say_what_words_cannot() -> None:
    """A hidden command in words is none; an old button's is told as one."""
    assert route("/confirm abc")[0].name == "help"
    assert route("/confirm abc", tapped=True)[0].name == "confirm"
    assert route("/a1", tapped=True)[0].name == "gone"
