"""The program in a folder of its own: run to its end, or kept running and talked to through the phone."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

from tests.structure import ROOT

MAIN = ROOT / "main.py"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A command that came to its end: exit code, both streams, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float = 0.0

    @property
    def said(self) -> list[str]:
        """The lines on stderr."""
        return self.err.splitlines()


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A clean folder to start the program in, and the environment it sees: nothing of this machine's own."""

    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """Where the program keeps everything."""
        return self.folder / "data"

    @property
    def environment(self) -> dict[str, str]:
        """A free port for the phone, data in this folder, then whatever the place adds."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        own = {"HOME": str(self.folder), "PHONE_PORT": "0", "DATA_DIR": str(self.data)}
        return {**kept, **own, **self.env}

    def run(self, *argv: str, seconds: float = 60.0) -> Done:
        """One command to its end, as a process."""
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(MAIN), *argv],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        spent = time.monotonic() - began
        return Done(code=done.returncode, out=done.stdout, err=done.stderr, seconds=spent)

    def start(self, *argv: str) -> Running:
        """One command that stays; use it in a `with`, which kills what is left of it."""
        return Running(self, argv)


def in_process(argv: Sequence[str]) -> Done:
    """The same from inside this process: a tenth of a second instead of a whole one."""
    import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main.main(argv)
    return Done(code=code, out=out.getvalue(), err=err.getvalue())


class Running:
    """A started program. Its streams go to files, so that a full pipe never holds it up."""

    def __init__(self, place: Place, argv: Sequence[str]) -> None:
        number = len(list(place.folder.glob("*.stderr")))
        self._out = place.folder / f"run-{number}.stdout"
        self._err = place.folder / f"run-{number}.stderr"
        self._address: str | None = None
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(MAIN), *argv],
                cwd=place.folder,
                env=place.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def out(self) -> str:
        """Everything on stdout so far."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def err(self) -> str:
        """Everything on stderr so far."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def chat(self) -> str:
        """The address it prints, waited for."""
        if self._address is None:
            self._address = self.until(self._printed_address, 30, "the chat's address")
        return self._address

    def _printed_address(self) -> str | None:
        found = re.search(r"(?:Chat|Phone): (http://[\w.:\[\]]+)", self.err + self.out)
        return found.group(1) if found else None

    def until(self, condition: Callable[[], T | None], seconds: float, what: str) -> T:
        """The first true answer of `condition`; the test fails when the program dies or time is up."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if answer := condition():
                return answer
            assert self.process.poll() is None, f"it left with {self.process.returncode}: {self.err[-2000:]}"
            time.sleep(0.01)
        raise AssertionError(f"no {what} within {seconds:g} s: {self.err[-2000:]}")

    def messages(self, after: int = 0, user: int | None = None) -> list[dict[str, Any]]:
        """The chat after a message."""
        who = "" if user is None else f"&user_id={user}"
        return chat_messages(self.chat, f"after={after}{who}")

    def say(self, text: str, user: int | None = None) -> int:
        """Write into the chat; the id of the message."""
        body = {"text": text} | ({} if user is None else {"user_id": user})
        answer = call(f"{self.chat}/phone/messages", body)
        return int(answer["message_id"])

    def ask(self, text: str, seconds: float = 20.0) -> tuple[str, float]:
        """Say something and wait for the message that replies to it: its text, and the seconds it took."""
        began = time.monotonic()
        said = self.say(text)

        def answered() -> str | None:
            found = [each for each in self.messages(said) if each["reply_to"] == said]
            return str(found[0]["text"]) if found else None

        text = self.until(answered, seconds, f"answer to {text!r}")
        return text, time.monotonic() - began

    def leave(self, with_signal: signal.Signals = signal.SIGINT, seconds: float = 20.0) -> tuple[int, float]:
        """Ask it to leave: its exit code and how long that took."""
        began = time.monotonic()
        self.process.send_signal(with_signal)
        code = self.process.wait(timeout=seconds)
        return code, time.monotonic() - began

    def kill(self) -> None:
        """kill -9, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def call(address: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST of an object; the object that came back."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data=data), timeout=20) as answer:  # noqa: S310
        found = json.load(answer)
    assert isinstance(found, dict)
    return found


def chat_messages(address: str, query: str) -> list[dict[str, Any]]:
    """What the JSON face shows; nothing while it is not there."""
    try:
        return list(call(f"{address}/phone/messages?{query}")["messages"])
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return []


@contextlib.contextmanager
def phone(place: Place) -> Iterator[Running]:
    """The phone alone, to read a chat whose program is gone."""
    with place.start("phone", "--port", "0") as running:
        yield running


def headline(message: Mapping[str, Any]) -> str:
    """The line a lock screen shows."""
    return str(message["text"] or message["caption"] or "").partition("\n")[0]
