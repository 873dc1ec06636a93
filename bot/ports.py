"""What the conversation needs from the outside, and what its command handlers work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from bot.access import Caller, Role
from bot.cards import Look
from bot.studies import Studies
from storage.council import CouncilRecords
from storage.equity import EquitySamples
from storage.outbox import Buttons, Media
from storage.queries import Records
from storage.tickets import Tickets
from trading.events import Request, Testimony
from trading.grades import Grader
from trading.laboratory import Laboratory, Study
from trading.model import CandleSeries, Side
from trading.pictures import Painter
from trading.ports import Deliberation
from trading.status import Status


class Trader(Protocol):
    """The single writer, as the chat sees it: a picture to look at and an inbox to put requests into."""

    def status(self) -> Status:
        """How things stand right now, from memory."""
        ...

    def submit(self, request: Request) -> None:
        """Queue a request; never blocks. Its effect is a journal event with the same `command`, once."""
        ...


class Prices(Protocol):
    """Closed candles of the exchange that is traded on; `Transient` while it cannot be reached."""

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        """Up to `bars` last closed bars at the traded timeframe, oldest first."""
        ...


class Tunable(Protocol):
    """What may be changed while the program runs, by the names of the specification."""

    def current(self) -> Mapping[str, float]:
        """Every settable name with its value now."""
        ...

    def changed(self, words: Sequence[str]) -> Mapping[str, float]:
        """Values of `name=value` words, checked; `BadInput` says in one line what is wrong and the nearest name."""
        ...

    def explain(self, name: str) -> str:
        """What a setting is, with its range: one line."""
        ...

    def riskier(self, name: str, old: float, new: float) -> bool:
        """Could this change enlarge a loss? True as well where nobody can tell (a strategy's parameter)."""
        ...


class Vitals(Protocol):
    """How the program itself is."""

    def health(self) -> Sequence[tuple[str, bool, str]]:
        """Name, well or not, one line: connections with their ages, disk, memory, loop lag, outbox."""
        ...

    def logs(self, count: int) -> Sequence[str]:
        """The last lines of the log, oldest first, without secrets."""
        ...

    def version(self) -> Sequence[tuple[str, str]]:
        """Program, Python, libraries, configuration: name and version."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the council reads in a market now; nothing is ordered by it.

    `side` is the one that it was asked about and `why` says whose choice that was. `at` is the market time of the
    close that was read, `close` its price, `council` the mode. With a `problem` there is no reading, and it says why.
    """

    symbol: str
    council: str
    side: Side | None = None
    why: str = ""
    at: datetime | None = None
    close: float | None = None
    ruling: Deliberation | None = None
    said: tuple[Testimony, ...] = ()
    problem: str = ""


Adviser = Callable[[str, Side | None], Awaitable[Advice]]
"""Asks the council about a configured symbol; without a side, about the one that the market suggests.

Never raises for what models or the exchange do: that is a `problem`.
"""
CouncilModes = Callable[[], Mapping[str, str]]
"""Every mode of the council by name, with what is missing for it as the end of a sentence; empty where nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """Where the answer to long work goes: the key of its message, the chat, what it replies to, and who asked."""

    key: str
    chat_id: int
    reply_to: int | None
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """Long work that is under way or waits; `before` counts what comes before it, `elapsed` seconds."""

    nonce: str
    study: Study
    by: str
    stage: str
    before: int
    elapsed: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What a message shows from now on."""

    text: str
    buttons: Buttons


class Jobs(Protocol):
    """Long work beside the conversation: one at a time, each with a message that tells how far it is."""

    async def begin(self, nonce: str, study: Study, errand: Errand) -> None:
        """Start it, or let it wait its turn; returns at once. A nonce that was used before starts nothing."""
        ...

    async def cancel(self, nonce: str, by: str) -> Shown | None:
        """End it now, its message says so and is returned; None when it is not under way."""
        ...

    def under_way(self) -> Sequence[JobView]:
        """What works or waits, in order."""
        ...

    async def study_of(self, nonce: str) -> Study | None:
        """What was to be found out by work that is over; None for an unknown one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A command as it was asked: by whom, with which words after it, under which id.

    `tapped` is the chat's id of the message whose button was pressed; None for a command that was written.
    """

    caller: Caller
    name: str
    arguments: tuple[str, ...]
    update_id: int
    at: datetime
    tapped: int | None = None

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
    """What a handler says (HTML) and, for a command that changes something, what the trader is asked.

    With a `study` the answer is long work, which tells of itself in messages of its own; `text` is not shown then.
    `buttons` are rows of {"text", "data"}; `data` is a command without its slash ("why 12", "status"), at most 64
    bytes, and is routed, checked and answered like one. `media` is a photo or a document, `text` its caption then.
    `in_place`: a tap's answer replaces the message that carried the button instead of replying to it.
    """

    text: str
    request: Request | None = None
    study: Study | None = None
    buttons: Buttons | None = None
    media: Media | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """All that handlers may look at. They change nothing themselves."""

    trader: Trader
    records: Records
    tickets: Tickets
    samples: EquitySamples
    prices: Prices
    painter: Painter
    tunable: Tunable
    vitals: Vitals
    look: Look
    initial_equity: Callable[[], float]
    studies: Studies
    laboratory: Laboratory
    jobs: Jobs
    council: CouncilRecords
    grader: Grader
    council_modes: CouncilModes
    advise: Adviser
    commands: tuple[Command, ...] = field(repr=False)

    @property
    def params(self) -> Mapping[str, float]:
        """The strategy's and the account's parameters by name, as they are now."""
        return self.tunable.current()


Handler = Callable[[Asked, Desk], Awaitable[Answer]]
Group = Literal["see", "council", "research", "steer", "rest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One row of the command table.

    `raises_risk`: not honoured when it comes late. `slow`: answered beside the others, with a typing indicator.
    `hidden`: only buttons say it; it stands in no menu.
    """

    name: str
    group: Group
    needs: Role
    description: str
    handler: Handler
    usage: str = ""
    raises_risk: bool = False
    slow: bool = False
    hidden: bool = False


_PREFIX = "update:"


def command_id(update_id: int) -> str:
    """The id of the command that came in this update."""
    return f"{_PREFIX}{update_id}"


def said_key(update_id: int, chat_id: int) -> str:
    """The outbox key of the answer to what was said in this update, when it asks the trader for nothing."""
    return f"said:{update_id}:{chat_id}"


def update_of(command: str) -> int | None:
    """The update a command came in; None for one that did not come from the chat."""
    number = command.removeprefix(_PREFIX)
    return int(number) if command.startswith(_PREFIX) and number.isascii() and number.isdigit() else None
