"""The model stand-in as a process of its own, started by the program's own command."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.journeys.program import Place, Running

KEYS: Mapping[str, str] = {
    "HF_TOKEN": "hf_rehearsal_of_the_one,hf_rehearsal_of_the_two",
    "GEMINI_API_KEY": "AIzaRehearsalOfTheOne,AIzaRehearsalOfTheTwo",
}
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Where it is, and what it has been asked."""

    running: Running

    @property
    def url(self) -> str:
        """Its address, once it listens."""
        running = self.running
        return str(running.until(lambda: re.search(r"HF_BASE_URL=(\S+)", running.out), 30, "the models' address")[1])

    @property
    def env(self) -> dict[str, str]:
        """What a program needs to ask it: addresses, and keys that are none."""
        return {"HF_BASE_URL": self.url, "GEMINI_BASE_URL": self.url, **KEYS}

    @property
    def log(self) -> list[Json]:
        """Every call so far."""
        with urllib.request.urlopen(f"{self.url}/rehearsal/log", timeout=20) as answer:  # noqa: S310 - loopback
            return list(json.load(answer))

    def perform(self, script: object) -> None:
        """Another script."""
        self._post("script", script)

    def reset(self) -> None:
        """No script and an empty log."""
        self._post("reset", {})

    def _post(self, name: str, body: object) -> None:
        data = json.dumps(body).encode()
        with urllib.request.urlopen(f"{self.url}/rehearsal/{name}", data=data, timeout=20):  # noqa: S310
            pass


@contextlib.contextmanager
def rehearsal(folder: Path, script: object = None, seed: int = 5) -> Iterator[Rehearsal]:
    """The stand-in, with a script if need be; what it writes lies in `folder`/rehearsal."""
    place = Place(folder=folder / "rehearsal")
    place.folder.mkdir()
    argv = ["llm", "--port", "0", "--seed", str(seed)]
    if script is not None:
        (place.folder / "script.json").write_text(json.dumps(script))
        argv += ["--script", "script.json"]
    with place.start(*argv) as running:
        yield Rehearsal(running)
