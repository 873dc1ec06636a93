"""Many keys in quota buckets: whose turn it is, who rests, who is not used any more.

A bucket is what a provider counts together: a Hugging Face account, a Gemini project. 429 lets a bucket rest for as
long as the provider asks, 402 for six hours; 401 and 403 retire one key until its owner puts another in its place.
The pool is for failover between accounts that the user owns.

Nothing of a key leaves this file but its last four characters, and a fingerprint by which a restart knows it again.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final, Literal, Protocol

from trading.errors import BadInput

KeyState = Literal["healthy", "cooling", "draining", "retired"]

DRAIN_SECONDS: Final = 6 * 3600.0
"""How long a bucket rests whose credits are used up (402)."""
LONGEST_REST: Final = 31 * 86_400.0
"""Seconds; a hint beyond a month is a mistake and must not take a bucket away for ever."""

NAMES: Final = {"huggingface": "Hugging Face", "gemini": "Gemini"}
VARIABLES: Final = {"huggingface": "HF_TOKEN", "gemini": "GEMINI_API_KEY"}
_LONGEST_REASON: Final = 200
_PREFIXES: Final = {"hf_": "huggingface", "AIza": "gemini", "AQ.": "gemini"}
_SHAPE: Final = re.compile(r"[\w.~+/=-]{8,256}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and the bucket it is counted in, named by where it was found (`HF_TOKEN 1`, `KEY_FILE line 3`)."""

    provider: str
    bucket: str
    secret: str = field(repr=False)

    @property
    def tail(self) -> str:
        """The last four characters: all that is ever shown."""
        return self.secret[-4:]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of its SHA-256: all that is ever stored."""
        return hashlib.sha256(self.secret.encode()).hexdigest()[:16]

    @property
    def identity(self) -> tuple[str, str]:
        """Provider and fingerprint."""
        return self.provider, self.fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """What is remembered of a key over restarts. It rests from `since` to `until` (aware UTC), both or neither given.

    `code` is the HTTP status it was retired for; `told` is false while its owner does not know what happened to it.
    """

    provider: str
    fingerprint: str
    state: KeyState = "healthy"
    since: datetime | None = None
    until: datetime | None = None
    why: str = ""
    code: int = 0
    uses: int = 0
    told: bool = True

    @property
    def identity(self) -> tuple[str, str]:
        """Provider and fingerprint."""
        return self.provider, self.fingerprint

    def left(self, now: datetime) -> float:
        """Seconds of rest that are left."""
        return 0.0 if self.until is None else max(0.0, (self.until - now).total_seconds())


class PoolStore(Protocol):
    """Where records survive the process."""

    async def load(self) -> Sequence[KeyRecord]:
        """Every record there is."""
        ...

    async def save(self, records: Sequence[KeyRecord]) -> None:
        """Replace these, committed when it returns. `Transient`: nothing was written."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReport:
    """A key as `doctor` and `health` show it. `seconds` are those of rest that are left; `uses` are of all time."""

    provider: str
    tail: str
    bucket: str
    state: KeyState
    seconds: float
    uses: int
    why: str


class KeyPool:
    """Gives out the least-used key of a bucket that does not rest. `wall` is aware UTC; not for several threads.

    What happens to a key counts at once and is committed before the method returns; uses, and what the owner was told,
    go along with the next commit or `flush`.
    """

    def __init__(self, keys: Iterable[Key], store: PoolStore, wall: Callable[[], datetime]) -> None:
        self._keys = tuple(keys)
        self._store = store
        self._wall = wall
        self._records = {
            key.identity: KeyRecord(provider=key.provider, fingerprint=key.fingerprint) for key in self._keys
        }
        self._unsaved: set[tuple[str, str]] = set()

    async def load(self) -> None:
        """Take up what earlier runs knew, once, before anything else; a key that joins a bucket rests with it."""
        known = {record.identity: record for record in await self._store.load()}
        self._records |= {identity: known[identity] for identity in self._records if identity in known}
        for key in self._keys:
            resting = [self._records[mate.identity] for mate in self._mates(key)]
            longest = max(resting, key=lambda each: each.until.timestamp() if each.until else -math.inf, default=None)
            mine = self._records[key.identity]
            if longest is not None and longest.until is not None and mine.state != "retired":
                joined = replace(longest, fingerprint=key.fingerprint, uses=mine.uses, told=mine.told)
                self._records[key.identity] = joined

    def take(self, provider: str, avoid: Collection[str] = ()) -> Key | None:
        """The least-used healthy key, the first of equals, and counts the use; None when there is none now.

        `avoid` names buckets, or keys by their fingerprint.
        """
        now = self._now()
        free = [
            key
            for key in self._of(provider)
            if key.bucket not in avoid and key.fingerprint not in avoid and not self._records[key.identity].left(now)
        ]
        if not free:
            return None
        key = min(free, key=lambda each: self._records[each.identity].uses)
        record = self._records[key.identity]
        self._put(replace(record, uses=record.uses + 1))
        return key

    def usable(self, key: Key) -> bool:
        """May a key that was taken still be used? Another request may have learnt meanwhile that it may not."""
        record = self._records[key.identity]
        return record.state != "retired" and not record.left(self._now())

    def wait(self, provider: str) -> float | None:
        """Seconds until a bucket is warm again, 0.0 when one is; None when no key is left: none is given, or all of
        them are retired."""
        now = self._now()
        return min((self._records[key.identity].left(now) for key in self._of(provider)), default=None)

    async def cool(self, key: Key, seconds: float, why: str) -> None:
        """Let the key's whole bucket rest so long (at most `LONGEST_REST`); never shortens a rest."""
        await self._rest(key, seconds, "cooling", why)

    async def drain(self, key: Key) -> None:
        """402: the account's credits are used up. Its bucket rests for six hours, and its owner is told."""
        await self._rest(key, DRAIN_SECONDS, "draining", "credits used up (402)")

    async def retire(self, key: Key, code: int) -> None:
        """401 or 403: this key is not used any more, and its owner is told."""
        record = self._records[key.identity]
        if record.state != "retired":
            gone = replace(record, state="retired", since=None, until=None, code=code, told=False)
            self._put(replace(gone, why=f"refused ({code})"))
        await self._save([key])

    async def revive(self) -> None:
        """Take retired keys into use again: whoever has put their rights right says so by this."""
        gone = [key for key in self._keys if self._records[key.identity].state == "retired"]
        for key in gone:
            self._put(replace(self._records[key.identity], state="healthy", code=0, why="", told=True))
        await self._save(gone)

    def drain_alerts(self) -> tuple[str, ...]:
        """What the owner must do something about, each once: sentences. A kill before the next commit repeats them."""
        now = self._now()
        untold = [(key, self._records[key.identity]) for key in self._keys if not self._records[key.identity].told]
        for _, record in untold:
            self._put(replace(record, told=True))
        return tuple(_alert(key, record) for key, record in untold if record.state == "retired" or record.left(now))

    def report(self) -> tuple[KeyReport, ...]:
        """Every key in its order."""
        now = self._now()
        return tuple(_reported(key, self._records[key.identity], now) for key in self._keys)

    async def flush(self) -> None:
        """Commit what is not committed yet; nothing is written where nothing is new. Raises as the store does."""
        if self._unsaved:
            await self._save(())

    async def _rest(self, key: Key, seconds: float, state: KeyState, why: str) -> None:
        now, mates = self._now(), self._mates(key)
        length = timedelta(seconds=_bounded(seconds))
        for mate in mates:
            told = state != "draining" or mate != key  # one key speaks for its bucket
            resting = KeyRecord(
                provider=mate.provider, fingerprint=mate.fingerprint, state=state, why=self._masked(why), told=told
            )
            self._put(_rested(self._records[mate.identity], resting, now, length))
        await self._save(mates)

    def _of(self, provider: str) -> list[Key]:
        """Keys that may be used, now or later."""
        ours = [key for key in self._keys if key.provider == provider]
        return [key for key in ours if self._records[key.identity].state != "retired"]

    def _mates(self, key: Key) -> list[Key]:
        """Keys of its bucket that may be used, itself included."""
        return [each for each in self._of(key.provider) if each.bucket == key.bucket]

    def _masked(self, text: str) -> str:
        for key in self._keys:
            text = text.replace(key.secret, f"…{key.tail}")
        return text[:_LONGEST_REASON]

    def _put(self, record: KeyRecord) -> None:
        self._records[record.identity] = record
        self._unsaved.add(record.identity)

    async def _save(self, keys: Iterable[Key]) -> None:
        """Commit these (another call may be committing them right now) and whatever else is new."""
        going = {identity: self._records[identity] for identity in self._unsaved | {key.identity for key in keys}}
        await self._store.save(list(going.values()))
        self._unsaved -= {identity for identity, record in going.items() if self._records[identity] is record}

    def _now(self) -> datetime:
        """Wall time. After the clock was set back, a rest begins anew instead of lasting until the old time returns."""
        now = self._wall()
        for record in self._records.values():
            if record.since is not None and record.until is not None and record.since > now:
                self._records[record.identity] = replace(record, since=now, until=now + (record.until - record.since))
        return now


def _bounded(seconds: float) -> float:
    """What is no length of time, or lies in the past, is none."""
    return min(seconds, LONGEST_REST) if seconds > 0 else 0.0


def _rested(record: KeyRecord, resting: KeyRecord, now: datetime, length: timedelta) -> KeyRecord:
    """Resting for `length` at least. A drained bucket stays a drained one while it rests, and is told of once."""
    end = now + length
    if record.left(now) > 0 and record.state == "draining":
        resting = replace(resting, state="draining", why=record.why, told=record.told)
    if record.until is not None and record.until >= end:
        return replace(resting, since=record.since, until=record.until, uses=record.uses)
    return replace(resting, since=now, until=end, uses=record.uses)


def _reported(key: Key, record: KeyRecord, now: datetime) -> KeyReport:
    left = record.left(now)
    healthy = record.state != "retired" and not left
    return KeyReport(
        provider=key.provider,
        tail=key.tail,
        bucket=key.bucket,
        state="healthy" if healthy else record.state,
        seconds=left,
        uses=record.uses,
        why="" if healthy else record.why,
    )


def _alert(key: Key, record: KeyRecord) -> str:
    name, variable = NAMES.get(key.provider, key.provider), VARIABLES.get(key.provider, "its variable")
    if record.state == "retired":
        what = f"was refused ({record.code}) and is not used any more"
        return f"A {name} key (…{key.tail}) {what}: put a new one into {variable} or KEY_FILE"
    what = "are used up (402), and its account is left alone for 6 hours"
    return f"The credits of a {name} key (…{key.tail}) {what}: top them up, or put another key into {variable}"


@dataclass(frozen=True, slots=True)
class _Group:
    """Keys of one account."""

    provider: str
    bucket: str
    secrets: tuple[str, ...]


def keys_of(hf: Sequence[str], gemini: Sequence[str], lines: Iterable[str]) -> tuple[Key, ...]:
    """Every key once: those of HF_TOKEN, of GEMINI_API_KEY, and of the lines of KEY_FILE, in this order.

    In the variables commas stand between accounts, in the file each line is one; `|` stands between keys of one
    account. Who names a key twice tells that the accounts are one. `BadInput` says where something is no key.
    """
    variables = (*_of_variable("huggingface", hf), *_of_variable("gemini", gemini))
    homes: dict[tuple[str, str], str] = {}
    for group in (*variables, *_of_file(lines)):
        known = [homes[each] for each in ((group.provider, secret) for secret in group.secrets) if each in homes]
        home = known[0] if known else group.bucket
        for (provider, secret), bucket in homes.items():
            if provider == group.provider and bucket in known:
                homes[provider, secret] = home
        homes |= {(group.provider, secret): home for secret in group.secrets}
    return tuple(Key(provider=provider, bucket=bucket, secret=secret) for (provider, secret), bucket in homes.items())


def _of_variable(provider: str, texts: Sequence[str]) -> Iterator[_Group]:
    variable = VARIABLES[provider]
    for number, item in enumerate((item for text in texts for item in text.split(",")), 1):
        where = f"key {number} of {variable}"
        secrets = _secrets(item, where)
        for secret in secrets:
            meant = _provider_of(secret) or provider
            if meant != provider:
                raise BadInput(f"{where} looks like one of {NAMES[meant]}: put it into {VARIABLES[meant]}")
        if secrets:
            yield _Group(provider, f"{variable} {number}", secrets)


def _of_file(lines: Iterable[str]) -> Iterator[_Group]:
    for number, line in enumerate(lines, 1):
        where = f"line {number} of KEY_FILE"
        found: dict[str, list[str]] = {}
        for secret in _secrets(line.partition("#")[0].lstrip("\ufeff"), where):
            provider = _provider_of(secret)
            if provider is None:
                raise BadInput(f"{where}: a key begins with hf_ (Hugging Face), AIza or AQ. (Gemini); one does not")
            found.setdefault(provider, []).append(secret)
        for provider, secrets in found.items():
            yield _Group(provider, f"KEY_FILE line {number}", tuple(secrets))


def _secrets(text: str, where: str) -> tuple[str, ...]:
    """The keys of one account; what could not stand in a header is none."""
    found = tuple(part for each in text.split("|") if (part := each.strip()))
    if not all(_SHAPE.fullmatch(secret) for secret in found):
        raise BadInput(f"{where} is none: write keys of 8 to 256 letters, digits and .~+/=-_ with | between them")
    return found


def _provider_of(secret: str) -> str | None:
    return next((provider for prefix, provider in _PREFIXES.items() if secret.startswith(prefix)), None)
