"""The prompts: files that never change once they are released.

    prompts/<agent>/v001.md    front matter between `+++` lines (TOML: version, schema, status, packet), then
                               `# System` and `# User`, the latter with one `{{packet_json}}`
    prompts/prompts.lock       JSON: file -> SHA-256 of its bytes, one line for each released file

To change a prompt, copy it to the next number and edit that; with `status = "draft"` it is not used yet. Released, it
needs its line in the lock, and the answers of before keep the prompt that they were given.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from trading.council.packet import (
    AccountInR,
    AnswerFacts,
    CandleFacts,
    Packet,
    ProposalFacts,
    QuantPacket,
    RiskPacket,
    StrategistPacket,
)
from trading.council.patterns import LAST, NAMES
from trading.council.questions import Prompt
from trading.council.reading import ANSWERS
from trading.errors import Misconfigured

FOLDER: Final = Path(__file__).parent / "prompts"
LOCK = "prompts.lock"
PLACEHOLDER = "{{packet_json}}"
PACKETS: Final[Mapping[str, type[Packet]]] = {
    "quant": QuantPacket,
    "strategist": StrategistPacket,
    "risk_manager": RiskPacket,
}
"""What each agent is shown."""

_FILE = re.compile(r"v(\d{3})\.md")
_PARTS = re.compile(
    r"\+\+\+\n(?P<front>.*?)^\+\+\+\n\s*^# System\n(?P<system>.*?)^# User\n(?P<user>.*)", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """One file as it stands: what its front matter says, and the prompt."""

    version: int
    released: bool
    prompt: Prompt


def load_prompts(folder: Path = FOLDER) -> Mapping[str, Prompt]:
    """Agent -> its newest released prompt. `Misconfigured` names the first file that is not as it should be."""
    return {agent: _newest(agent, folder).prompt for agent in ANSWERS}


def prompt_named(name: str, folder: Path = FOLDER) -> Prompt:
    """A released prompt by its name (`quant/v001`), old ones too; `Misconfigured` when there is none."""
    agent, _, version = name.partition("/")
    path = folder / agent / f"{version}.md"
    if agent not in ANSWERS or not _FILE.fullmatch(f"{version}.md") or not path.is_file():
        raise Misconfigured(f"there is no prompt {name}: see {folder}")
    found = _read_file(path, folder)
    if not found.released:
        raise Misconfigured(f"the prompt {name} is a draft: release it before it is used")
    return found.prompt


def packet_keys(agent: str) -> tuple[str, ...]:
    """The keys of an agent's packet, as `Packet.facts` has them and in its order."""
    keys: list[str] = []
    for spec in dataclasses.fields(PACKETS[agent]):
        keys += _NESTED.get(spec.name, (spec.name,))
    return tuple(sorted(keys, key=_LISTED.__contains__))  # stable: the lists come last


def _names(part: type[ProposalFacts | AnswerFacts | AccountInR | CandleFacts]) -> tuple[str, ...]:
    return tuple(spec.name for spec in dataclasses.fields(part))


_LISTS: Mapping[str, tuple[str, ...]] = {
    "candles": tuple(f"candle_{age}_{name}" for age in range(LAST) for name in _names(CandleFacts)),
    "patterns": tuple(f"{name}_bars_ago" for name in NAMES),
    "swings": tuple(f"swing_{age}" for age in range(4)),
}
_LISTED = frozenset(key for keys in _LISTS.values() for key in keys)
_NESTED: Mapping[str, tuple[str, ...]] = {
    "proposal": _names(ProposalFacts),
    "answers": _names(AnswerFacts),
    "account": _names(AccountInR),
    **_LISTS,
}


def _newest(agent: str, folder: Path) -> PromptFile:
    paths = sorted(path for path in (folder / agent).glob("v*.md") if _FILE.fullmatch(path.name))
    released = [found for path in paths if (found := _read_file(path, folder)).released]
    if not released:
        raise Misconfigured(f"no released prompt for the {agent} in {folder / agent}: restore v001.md")
    return released[-1]


def _read_file(path: Path, folder: Path) -> PromptFile:
    """A file, its front matter checked, its bytes compared with the lock once it is released."""
    name = path.relative_to(folder).as_posix()
    try:
        raw = path.read_bytes()
        found = _parsed(path, raw)
    except (OSError, ValueError) as no:  # UnicodeDecodeError and TOMLDecodeError among them
        raise Misconfigured(f"the prompt {name} cannot be used: {no}") from no
    known = _lock(folder).get(name)
    if found.released and known != found.prompt.sha256:
        state = "is not in the lock" if known is None else "has changed since its release: make it a new version"
        raise Misconfigured(f"the prompt {name} {state} ({folder / LOCK}; its SHA-256 is {found.prompt.sha256})")
    return found


def _lock(folder: Path) -> Mapping[str, Any]:
    path = folder / LOCK
    try:
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as no:
        raise Misconfigured(f"the lock of the prompts cannot be read ({path}): {no}") from no
    if not isinstance(known, dict):
        raise Misconfigured(f"the lock of the prompts must be a JSON object ({path})")
    return known


def _parsed(path: Path, raw: bytes) -> PromptFile:
    agent, number = path.parent.name, _FILE.fullmatch(path.name)
    parts = _PARTS.fullmatch(raw.decode("utf-8"))
    if not parts or not number:
        raise ValueError("it needs front matter between +++ lines, then # System and # User")
    front = tomllib.loads(parts["front"])
    _check_front(front, agent, int(number[1]))
    system, user = parts["system"].strip(), parts["user"].strip()
    if PLACEHOLDER in system or user.count(PLACEHOLDER) != 1:
        raise ValueError(f"its user part, and only that, has {PLACEHOLDER} once")
    prompt = Prompt(
        agent=agent, name=f"{agent}/{path.stem}", sha256=hashlib.sha256(raw).hexdigest(), system=system, user=user
    )
    return PromptFile(version=front["version"], released=front["status"] == "released", prompt=prompt)


def _check_front(front: Mapping[str, Any], agent: str, number: int) -> None:
    """`ValueError` says the first thing that is wrong."""
    if set(front) != {"version", "schema", "status", "packet"}:
        raise ValueError("its front matter has version, schema, status and packet, and nothing else")
    if front["version"] != number:
        raise ValueError(f"its version is {front['version']!r}, its file name says {number}")
    if front["schema"] not in ANSWERS or front["schema"] != agent:
        raise ValueError(f"its schema is {front['schema']!r}, the {agent} answers by {agent!r}")
    if front["status"] not in {"draft", "released"}:
        raise ValueError(f"its status is {front['status']!r}: draft or released")
    if not isinstance(front["packet"], list) or tuple(front["packet"]) != packet_keys(agent):
        wrong = sorted(set(map(str, front["packet"])) ^ set(packet_keys(agent))) or ["their order"]
        raise ValueError(f"its packet keys are not those of the packet: {', '.join(wrong)}")
