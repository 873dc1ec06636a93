"""What was asked of the server: never a key but its last four characters, never a word of a prompt."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

MOST: Final = 20_000  # entries; the oldest go first
GRACE: Final = 0.25  # seconds: a call that was under way when the bucket was asked to wait is not early


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One call. `at` is seconds since 1970, `seconds` how long it took, None while it is being answered.

    `code` is the HTTP status, 0 where the line was cut or left before there was one. `hint` is how many seconds the
    reply asked to wait; `early` says that the call came while its bucket had been asked to wait (a quarter of a second
    is let pass: what was under way then is not early).
    """

    number: int
    at: float
    provider: str
    agent: str
    model: str
    key: str
    bucket: str
    item: str
    bytes_in: int
    early: bool
    code: int = 0
    bytes_out: int = 0
    hint: float | None = None
    seconds: float | None = None


class Log:
    """Entries in the order in which the calls came; `clock` is seconds since 1970."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._entries: dict[int, Entry] = {}
        self._waits: dict[str, tuple[float, float]] = {}
        self._count = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def count(self) -> int:
        """Calls since the server was made, forgotten ones too."""
        return self._count

    def opened(self, *, bucket: str, provider: str, **fields: Any) -> int:
        """Note a call that has come; its number."""
        now = self._clock()
        asked_at, free_at = self._waits.get(f"{provider}:{bucket}", (0.0, 0.0))
        early = asked_at + GRACE < now < free_at
        entry = Entry(number=self._count, at=now, provider=provider, bucket=bucket, early=early, **fields)
        self._count += 1
        self._entries[entry.number] = entry
        while len(self._entries) > MOST:
            del self._entries[next(iter(self._entries))]
        return entry.number

    def answered(self, number: int, *, code: int, hint: float | None) -> None:
        """The head of the reply is about to leave: a wait that it asks for begins now."""
        self._change(number, code=code, hint=hint)
        entry = self._entries.get(number)
        if entry is not None and hint is not None:
            whose, now = f"{entry.provider}:{entry.bucket}", self._clock()
            _, before = self._waits.get(whose, (0.0, 0.0))
            self._waits[whose] = (now, max(before, now + hint))

    def closed(self, number: int, *, bytes_out: int) -> None:
        """The call is over."""
        entry = self._entries.get(number)
        if entry is not None:
            self._change(number, bytes_out=bytes_out, seconds=round(self._clock() - entry.at, 6))

    def forget(self) -> None:
        """Begin anew; calls that are still being answered stay unknown."""
        self._entries.clear()
        self._waits.clear()

    def as_json(self) -> list[dict[str, Any]]:
        """Every entry as an object."""
        return [dataclasses.asdict(entry) for entry in self]

    def _change(self, number: int, **changes: Any) -> None:
        if number in self._entries:
            self._entries[number] = dataclasses.replace(self._entries[number], **changes)


class Bodies:
    """The last bodies of requests, for whoever looks for what must not be in them; a key in one is blotted out."""

    def __init__(self, keep: int) -> None:
        self._kept: deque[str] = deque(maxlen=keep)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._kept))

    def keep(self, body: bytes, secret: str) -> None:
        """Keep one body."""
        text = body.decode("utf-8", "replace")
        self._kept.append(text.replace(secret, "[key]") if secret else text)

    def forget(self) -> None:
        """Begin anew."""
        self._kept.clear()
