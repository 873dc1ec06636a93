"""What the next calls will be answered with.

A script is a list of items for anybody, or a mapping of whom to which items:

    {"any": ["good*3", "500"], "quant": ["think"], "gemini": ["429(30)*forever"],
     "keys": {"a1b2": ["401*forever"]},
     "buckets": {"one": {"keys": ["a1b2", "c3d4"], "script": ["402"]}}}

`"temperament": "contrarian"` beside them says what a good answer is from then on (`temperament`).

A call takes the first item that is left for its key (by its last four characters), then its bucket, its agent, its
provider, then anybody; with nothing left it is answered well.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from trading.errors import BadInput
from trading.llm.rehearsal.items import GOOD, Item, item_of, near

AGENTS: Final = ("quant", "strategist", "risk_manager")
PROVIDERS: Final = ("huggingface", "gemini")
PLAIN: Final = ("any", *AGENTS, *PROVIDERS)
SECTIONS: Final = (*PLAIN, "keys", "buckets", "temperament")
TAIL: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Keys that share one quota: their last four characters."""

    name: str
    keys: frozenset[str]


class Script:
    """Items in queues, one queue for each of whom they are for; used up call by call.

    `temperament` is empty when the script does not speak of one.
    """

    def __init__(
        self,
        queues: Mapping[str, Iterable[Item]] | None = None,
        buckets: Iterable[Bucket] = (),
        temperament: str = "",
    ) -> None:
        self.temperament = temperament
        self._queues = {whom: deque(items) for whom, items in (queues or {}).items()}
        self._buckets = tuple(buckets)

    @classmethod
    def of(cls, source: object) -> Self:
        """A script from its JSON: a list for anybody, or a mapping as above. `BadInput` says what is wrong."""
        if isinstance(source, cls):
            return source
        if source is None:
            return cls()
        if isinstance(source, Mapping):
            return cls(*_sections({str(key): value for key, value in source.items()}))
        return cls({"any": _items("any", source)})

    @classmethod
    def read(cls, path: Path) -> Self:
        """A script from a file of JSON. `BadInput` when it cannot be read or is none."""
        try:
            source = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadInput(f"cannot read the script {path}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{path} is not JSON: {error}") from None
        return cls.of(source)

    def bucket(self, key: str) -> str:
        """The bucket a key belongs to, by its last four characters; the key itself when no bucket is named."""
        return next((bucket.name for bucket in self._buckets if key in bucket.keys), key)

    def take(self, *, provider: str, agent: str, key: str) -> Item:
        """The item for this call, used up."""
        for whom in (f"key:{key}", f"bucket:{self.bucket(key)}", agent, provider, "any"):
            queue = self._queues.get(whom)
            if queue:
                return _used(queue)
        return GOOD

    def left(self) -> dict[str, list[str]]:
        """What has not been used up, by whom it is for."""
        return {whom: [str(item) for item in queue] for whom, queue in self._queues.items() if queue}


def _used(queue: deque[Item]) -> Item:
    item = queue[0]
    if item.times is not None:
        queue.popleft()
        if item.times > 1:
            queue.appendleft(replace(item, times=item.times - 1))
    return replace(item, times=1)


def _sections(source: Mapping[str, object]) -> tuple[dict[str, tuple[Item, ...]], list[Bucket], str]:
    for section in source:
        if section not in SECTIONS:
            raise BadInput(f"a script is for {', '.join(SECTIONS)}, not {section!r}{near(section, SECTIONS)}")
    queues = {whom: _items(whom, source[whom]) for whom in PLAIN if whom in source}
    for key, items in _mapping("keys", source.get("keys", {})).items():
        queues[f"key:{tail_of(key)}"] = _items(f"keys {key}", items)
    buckets = []
    for name, inside in _mapping("buckets", source.get("buckets", {})).items():
        bucket, items = _bucket(name, _mapping(f"bucket {name}", inside))
        buckets.append(bucket)
        queues[f"bucket:{name}"] = items
    return queues, buckets, str(source.get("temperament", ""))


def _bucket(name: str, inside: Mapping[str, object]) -> tuple[Bucket, tuple[Item, ...]]:
    keys = inside.get("keys")
    if not isinstance(keys, list) or not keys or set(inside) - {"keys", "script"}:
        raise BadInput(f'bucket {name} is written {{"keys": ["a1b2", …], "script": [items]}}')
    bucket = Bucket(name=name, keys=frozenset(tail_of(str(key)) for key in keys))
    return bucket, _items(f"bucket {name}", inside.get("script", []))


def _mapping(name: str, source: object) -> Mapping[str, object]:
    if not isinstance(source, Mapping):
        raise BadInput(f"{name} of a script is an object, not {source!r}")
    return {str(key): value for key, value in source.items()}


def _items(whom: str, source: object) -> tuple[Item, ...]:
    if isinstance(source, str | Mapping):
        source = [source]
    if not isinstance(source, list | tuple):
        raise BadInput(f"the script for {whom} is a list of items, not {source!r}")
    items = tuple(item_of(one) for one in source)
    if ended := [item for item in items[:-1] if item.times is None]:
        raise BadInput(f"the script for {whom} goes on after {ended[0]}: an item for ever is the last one")
    return items


def tail_of(key: str) -> str:
    """The last four characters of a key, all that is ever kept of it; a key that short is not told at all."""
    return key[-TAIL:] if len(key) >= TAIL else ""
