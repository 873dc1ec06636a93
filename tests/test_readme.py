"""The README keeps its word: every command in it is run here, as a reader would type it.

The commands run in a copy of the project, with candle files under the names that the README uses, and with a
virtual environment whose parts are links to the one that runs the tests, so that nothing is installed twice.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bot.commands import listing
from bot.settings import read_settings
from tests.benchmarks.bench_replay import synthetic
from tests.structure import PACKAGES, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
STEPS = [
    block.replace("   ", "")
    for block in re.findall(r"^ *```ini\n(.*?)^ *```", README, flags=re.MULTILINE | re.DOTALL)
]
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("#")]
TEST_COMMAND = "make test"  # the suite does not run itself once more: .ci/run runs it
RUN_COMMAND = "make run"
SERVERS = [command for command in COMMANDS if re.search(r"main\.py (phone|exchange|llm)", command)]
FINISHING = [command for command in COMMANDS if command not in (TEST_COMMAND, RUN_COMMAND, *SERVERS)]

CTRL_C = b"\x03"
# Gives the command standard input as its controlling terminal, as a terminal window does.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """A copy of the project that commands run in, and the environment they see."""

    folder: Path
    env: dict[str, str]
    port: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    """A fresh copy without a .env, without data, and without any setting of this machine."""
    folder = tmp_path / "conclave"
    folder.mkdir()
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and path.name != ".env":
            shutil.copy2(path, folder)
    link_environment(folder / ".venv")
    port = free_port()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return Workplace(folder=folder, env={**kept, "TERM": "dumb", "PHONE_PORT": str(port)}, port=port)


def link_environment(target: Path) -> None:
    """A virtual environment at `target` that is this one, and counts as installed."""
    target.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (target / part).symlink_to(Path(sys.prefix) / part)
    (target / ".installed").touch()


def lay_out_candles(place: Workplace) -> None:
    """The candle files that the README's examples name: five hundred hours each."""
    for symbol in ("BTCUSDT", "ETHUSDT"):
        synthetic(bars=1_200).to_csv(place.folder / f"{symbol}-15m.csv", index=False)


def phone(port: int) -> list[dict[str, Any]]:
    """The messages of the phone's JSON face; none while it does not answer yet."""
    address = f"http://127.0.0.1:{port}/phone/messages?after=0"
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return list(json.load(answer)["messages"])
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return []


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as page:
            return bool(page.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


class Terminal:
    """A command in a terminal of its own, which shows what it printed and can press Ctrl-C."""

    def __init__(self, command: str, place: Workplace) -> None:
        self.screen, inner = pty.openpty()
        self.shown = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, *shlex.split(command)],
            cwd=place.folder,
            env=place.env,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)

    def read(self, seconds: float) -> str:
        """Everything shown so far, after at most `seconds` of looking."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and select.select([self.screen], [], [], left)[0]:
            try:
                self.shown += os.read(self.screen, 65_536)
            except OSError:  # the other end is closed: the command is over
                break
        return self.shown.decode(errors="replace")

    def leave(self, seconds: float) -> int | None:
        """Press Ctrl-C and return the exit code; None when the command is still there after `seconds`."""
        os.write(self.screen, CTRL_C)
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            self.read(0.1)
        self.read(0.1)
        return self.process.poll()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.screen)


def test_the_readme_shows_commands() -> None:
    """The blocks are found: a README without commands would pass everything else."""
    assert RUN_COMMAND in COMMANDS
    assert TEST_COMMAND in COMMANDS
    assert len(FINISHING) >= 6


def test_the_readme_lists_the_command_table() -> None:
    """Generated from the one table that router, /help and Telegram's menu use."""
    shown = re.search(r"<!-- commands -->\n(.*?)\n?<!-- /commands -->", README, flags=re.DOTALL)
    assert shown is not None
    assert shown.group(1) == listing()


def test_every_step_from_the_demo_to_real_money_is_a_valid_env(tmp_path: Path) -> None:
    """The exact lines of the README, with their placeholders filled in, one step on top of the other."""
    assert len(STEPS) == 4
    token = "7000000001:abcdefghijklmnopqrstuvwxyzABCDEFGHI"
    filled = {"<the token>": token, "<your user id>": "12345", "<key>": "k" * 18, "<secret>": "s" * 36}
    env: dict[str, str] = {}
    reached = []
    for block in STEPS:
        lines = block
        for placeholder, value in filled.items():
            lines = lines.replace(placeholder, value)
        env |= dict(line.split("=", 1) for line in lines.splitlines())
        if env.get("EXCHANGE", "paper") != "paper":
            env.pop("FEED", None)  # these have prices of their own
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in env.items()))
        settings = read_settings(tmp_path / ".env")
        reached.append((settings.exchange, settings.feed))
    assert reached == [("paper", "live"), ("paper", "live"), ("demo", "synthetic"), ("live", "synthetic")]


def test_the_readmes_pictures_exist() -> None:
    """Each of them, and none is heavier than a page may be."""
    pictures = re.findall(r"\]\((docs/pictures/[^)]+)\)", README)
    assert len(pictures) >= 5
    for name in pictures:
        assert 1_000 < (ROOT / name).stat().st_size < 3_000_000, name


def test_ci_runs_the_readmes_test_command() -> None:
    """What a reader is told to run is what every change must pass."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(rf"^{TEST_COMMAND}\b", script, flags=re.MULTILINE)


def run_in(workplace: Workplace, command: str) -> subprocess.CompletedProcess[str]:
    """One command to its end, as typed."""
    return subprocess.run(
        shlex.split(command),
        cwd=workplace.folder,
        env=workplace.env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize("command", FINISHING)
def test_command_runs(command: str, workplace: Workplace) -> None:
    """It exits with 0 and says nothing on stderr that looks like a crash."""
    lay_out_candles(workplace)
    if " db backup " in command:  # the README makes the database two lines earlier
        assert run_in(workplace, command.partition(" db ")[0] + " db migrate").returncode == 0
    done = run_in(workplace, command)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert "Traceback" not in done.stderr
    if "--json" in command:
        assert {"params", "metrics", "trades", "open_position", "candles"} <= json.loads(done.stdout).keys()
    else:
        assert (done.stdout + done.stderr).strip()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_make_run_shows_a_verdict_and_leaves_cleanly(workplace: Workplace) -> None:
    """The first screen: the chat's address, a verdict within a minute, and Ctrl-C ends it with 0."""
    terminal = Terminal(RUN_COMMAND, workplace)
    try:
        until = time.monotonic() + 60
        verdicts: list[str] = []
        while not verdicts and time.monotonic() < until:
            assert terminal.process.poll() is None, terminal.read(0.5)
            terminal.read(0.5)
            texts = [str(message["text"]) for message in phone(workplace.port)]
            verdicts = [text for text in texts if re.search(r"APPROVED|REJECTED", text)]
        assert verdicts, terminal.read(0.5)
        assert f":{workplace.port}" in terminal.read(0.5)
        assert terminal.leave(30) == 0, terminal.read(0.5)
        assert "Traceback" not in terminal.read(0.1)
    finally:
        terminal.close()


@pytest.mark.parametrize("command", SERVERS)
def test_server_answers_and_leaves_cleanly(command: str, workplace: Workplace) -> None:
    """A part that stands alone serves its page and ends with 0 on Ctrl-C."""
    command = re.sub(r"--port \d+", f"--port {workplace.port}", command)
    path = "/v5/market/time" if "exchange" in command else "/rehearsal/items" if " llm " in command else "/"
    lay_out_candles(workplace)
    terminal = Terminal(command, workplace)
    try:
        until = time.monotonic() + 30
        while not answers(workplace.port, path):
            assert time.monotonic() < until, terminal.read(0.5)
            assert terminal.process.poll() is None, terminal.read(0.5)
            terminal.read(0.2)
        assert terminal.leave(20) == 0, terminal.read(0.5)
    finally:
        terminal.close()
