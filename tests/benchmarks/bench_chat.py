"""The chat while everything else goes on: how soon /status answers, how late the loop is, how large the bot grows.

The program runs as its users run it, on the demo market. Somebody asks for one chart after the other, decisions get
theirs, candles stream; meanwhile /status is asked ten times a second through the phone. Beside it an idle event loop
in a process of its own measures what the machine itself is late by, in the same run.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import Figure, benchmark
from tests.journeys.program import Place, Running
from tests.structure import ROOT

ASKED = 400
EVERY_SECONDS = 0.1
PATIENCE = 180  # seconds
BACKTEST = "/backtest BTCUSDT 15 365"
_GRID = "ema_period=50:290:10 rsi_period=5:24:1 sl_atr_multiplier=1:5.75:0.25"
SEARCHES = tuple(f"/optimize BTCUSDT 15 {days} {_GRID}" for days in range(365, 325, -1))
CHARTS = ("/equity", "/chart BTC", "/daily", "/performance", "/weekly")
NOTE = "run on the demo market, charts all the time"
CONTROL = """
import asyncio, sys
from bot.vitals import LoopLag
async def idle():
    lag = LoopLag()
    lag.start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    found = lag.lag()
    figures = (("p50", found.p50), ("p99", found.p99), ("p99.9", found.p999), ("max", found.worst))
    print(", ".join(f"{name} {value * 1000:.1f} ms" for name, value in figures))
asyncio.run(idle())
"""
_LAG = re.compile(r"p50 ([\d.]+) ms, p99 ([\d.]+) ms, p99\.9 ([\d.]+) ms, max ([\d.]+) ms")


@benchmark
def chat() -> Iterator[Figure]:
    """Start, /status, charts, loop lag and memory of one running program."""
    with tempfile.TemporaryDirectory() as folder, Place(folder=Path(folder)).start("run", "--no-dashboard") as program:
        began = time.monotonic()
        program.ask("/status", 30)
        yield Figure(name="start to first answer", value=time.monotonic() - began, unit="s", note="warm, a new folder")
        program.until(lambda: any("CLOSED" in str(each["text"]) for each in program.messages()), 120, "closed trade")
        for command in CHARTS:
            program.ask(command)  # the drawing process is warm
        yield from under_load(program)


@benchmark
def chat_during_a_search() -> Iterator[Figure]:
    """The laboratory in the chat: a backtest cold and cached, then /status while a large search runs beside charts."""
    with tempfile.TemporaryDirectory() as folder, Place(folder=Path(folder)).start("run", "--no-dashboard") as program:
        program.ask("/status", 30)
        for name in ("cold", "cached"):
            seconds = finished(program, BACKTEST)
            yield Figure(name=f"{BACKTEST}, {name}", value=seconds, unit="s", note="chart and Excel in the chat")
        for command in CHARTS[:2]:
            program.ask(command)
        over = threading.Event()

        def search() -> None:
            while not over.is_set():
                for command in SEARCHES:  # another span each time: none is known already
                    if not over.is_set():
                        finished(program, command)

        seeker = threading.Thread(target=search)
        seeker.start()
        try:
            yield from under_load(program, "a search of 10,000 sets, vectorbt's report and charts all the time")
        finally:
            over.set()
            seeker.join(120)


def finished(program: Running, text: str) -> float:
    """Seconds from asking for a study until its chart and its workbook are in the chat."""
    return _until(program, text, lambda each, _: bool(each["document"]))  # the workbook comes after its chart


def replied(program: Running, text: str) -> float:
    """Seconds until the reply is in the chat; the phone tells as soon as it is."""
    return _until(program, text, lambda each, said: each["reply_to"] == said)


def _until(program: Running, text: str, wanted: Callable[[Mapping[str, Any], int], bool]) -> float:
    """Say something, then follow the chat's changes as the page does until such a message is among them; seconds."""
    began = time.monotonic()
    said = int(call(f"{program.chat}/phone/messages", {"text": text})["message_id"])
    found = call(f"{program.chat}/phone/messages?after={said}&wait=5")
    while not any(wanted(each, said) for each in found["messages"]):
        if time.monotonic() - began > PATIENCE:
            raise TimeoutError(f"{text} was not answered within {PATIENCE} s")
        found = call(f"{program.chat}/phone/messages?since={found['cursor']}&wait=5")
    return time.monotonic() - began


def under_load(program: Running, note: str = NOTE) -> Iterator[Figure]:
    """Figures of a stretch in which charts are drawn all the time."""
    charts: list[float] = []
    over = threading.Event()

    def draw() -> None:
        while not over.is_set():
            charts.extend(replied(program, command) for command in CHARTS)

    artist = threading.Thread(target=draw)
    with idle_loop() as control:
        artist.start()
        answers = asked(program, "/status")
        over.set()
        artist.join()
    for share in (50, 99):
        yield Figure(name=f"/status p{share}", value=percentile(answers, share), unit="ms", note=note)
    drawn = f"asked for to shown, {len(charts)} of them"
    for share in (50, 99):
        yield Figure(name=f"a chart p{share}", value=percentile(charts, share), unit="ms", note=drawn)
    yield from lags("loop lag", program.ask("/health")[0], note)
    yield from lags("idle loop's lag", control.stdout.read() if control.stdout else "", "the control, in the same run")
    yield Figure(name="memory", value=resident(program.process.pid), unit="MB", note="with phone and paper exchange")


def asked(program: Running, text: str) -> list[float]:
    """Seconds from saying something to its answer, again and again, at a steady pace."""
    spent = []
    for _ in range(ASKED):
        began = time.monotonic()
        spent.append(replied(program, text))
        time.sleep(max(EVERY_SECONDS - (time.monotonic() - began), 0))
    return spent


_lines = threading.local()


def call(address: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """GET, or POST of an object, over a line that stays open, as a browser's does; the object that came back."""
    parts = urllib.parse.urlsplit(address)
    line = getattr(_lines, parts.netloc, None)
    if line is None:
        line = http.client.HTTPConnection(parts.netloc, timeout=20)
        setattr(_lines, parts.netloc, line)
    sent = None if body is None else json.dumps(body)
    line.request("GET" if body is None else "POST", f"{parts.path}?{parts.query}", sent)
    found: dict[str, Any] = json.load(line.getresponse())
    return found


@contextlib.contextmanager
def idle_loop() -> Iterator[subprocess.Popen[str]]:
    """An event loop with nothing to do, measured like the program's."""
    process = subprocess.Popen(
        [sys.executable, "-c", CONTROL],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.stdin:
            process.stdin.close()
        process.wait(10)


def lags(name: str, text: str, note: str) -> Iterator[Figure]:
    """The figures of a line that tells them."""
    found = _LAG.search(text)
    if found is None:
        raise ValueError(f"no lag is told in {text!r}")
    for share, value in zip(("p50", "p99", "p99.9", "max"), found.groups(), strict=True):
        yield Figure(name=f"{name} {share}", value=float(value), unit="ms", note=note)


def percentile(seconds: list[float], share: int) -> float:
    """In milliseconds."""
    return float(np.percentile(seconds, share)) * 1000


def resident(pid: int) -> float:
    """Megabytes that a process has in memory."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6
