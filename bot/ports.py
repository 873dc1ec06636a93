"""What the conversation needs from the outside, and what its command handlers work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from bot.access import Caller, Role
from bot.cards import Look
from storage.queries import Records
from trading.events import Request
from trading.status import Status


class Trader(Protocol):
    """The single writer, as the chat sees it: a picture to look at and an inbox to put requests into."""

    def status(self) -> Status:
        """How things stand right now, from memory."""
        ...

    def submit(self, request: Request) -> None:
        """Queue a request; never blocks. Its effect is a journal event with the same `command`, once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command as it was asked: by whom, with which words after it, and under which id."""

    caller: Caller
    name: str
    arguments: tuple[str, ...]
    update_id: int

    @property
    def command_id(self) -> str:
        """The id under which the trader does it once, however often it is delivered."""
        return command_id(self.update_id)

    @property
    def by(self) -> str:
        """Who asked, for the journal."""
        return f"{self.caller.role.label} {self.caller.user_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a handler says (HTML) and, for a command that changes something, what the trader is asked."""

    text: str
    request: Request | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """All that handlers may look at. They change nothing themselves."""

    trader: Trader
    records: Records
    look: Look
    commands: tuple[Command, ...] = field(repr=False)


Handler = Callable[[Asked, Desk], Awaitable[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One row of the command table. `raises_risk`: not honoured when it comes late."""

    name: str
    group: str
    needs: Role
    description: str
    handler: Handler
    usage: str = ""
    raises_risk: bool = False


_PREFIX = "update:"


def command_id(update_id: int) -> str:
    """The id of the command that came in this update."""
    return f"{_PREFIX}{update_id}"


def update_of(command: str) -> int | None:
    """The update a command came in; None for one that did not come from the chat."""
    number = command.removeprefix(_PREFIX)
    return int(number) if command.startswith(_PREFIX) and number.isascii() and number.isdigit() else None
