"""The command table: the one place that says what there is. Router, /help and Telegram's menu read it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bot.access import Role
from bot.handlers import rest, see, steer
from bot.ports import Command

COMMANDS: tuple[Command, ...] = (
    Command(
        name="status",
        group="see",
        needs=Role.VIEWER,
        description="positions, result, next close, and which gate is shut",
        handler=see.status,
    ),
    Command(
        name="verdicts",
        group="council",
        needs=Role.VIEWER,
        description="the last decisions, approved and rejected",
        usage="[n]",
        handler=see.verdicts,
    ),
    Command(
        name="pause",
        group="steer",
        needs=Role.OPERATOR,
        description="no new entries; stops and exits go on",
        handler=steer.pause,
    ),
    Command(
        name="resume",
        group="steer",
        needs=Role.OWNER,
        description="allow new entries again",
        handler=steer.resume,
        raises_risk=True,
    ),
    Command(
        name="start",
        group="rest",
        needs=Role.VIEWER,
        description="where you stand; never starts trading",
        handler=rest.start,
    ),
    Command(
        name="help",
        group="rest",
        needs=Role.VIEWER,
        description="this list, or one command",
        usage="[command]",
        handler=rest.help_,
    ),
)
_SPOKEN = re.compile(r"/([A-Za-z0-9_]{1,32})(?:@\w+)?(?:\s+(.*))?", re.DOTALL)
_LONGEST_ARGUMENTS = 16


def menu(commands: Sequence[Command] = COMMANDS) -> list[tuple[str, str]]:
    """Names and descriptions for Telegram's own menu."""
    return [(command.name, command.description) for command in commands]


def route(text: str, commands: Sequence[Command] = COMMANDS) -> tuple[Command, tuple[str, ...]]:
    """The command a message means, with its arguments; whatever is not one means /help."""
    spoken = _SPOKEN.fullmatch(text.strip())
    name = spoken.group(1).lower() if spoken else ""
    table = {command.name: command for command in commands}
    if spoken is None or name not in table:
        return table["help"], ()
    return table[name], tuple((spoken.group(2) or "").split()[:_LONGEST_ARGUMENTS])
