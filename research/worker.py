"""A process of our own beside the bot's: what would hold up the event loop is done there.

`Worker` is the bot's side, `serve` the other one: a fresh interpreter (`python -m MODULE`) on two pipes rather than
one of `multiprocessing`: nothing of the program's main module is imported again, no thread and no tracker process
stands between, and the event loop reads the pipes.

The process has a session of its own, so that Ctrl-C in the terminal is not its concern, and it ends with its standard
input: however the bot ends, kill -9 included, no process is left behind. It does one thing at a time; one that is
still busy when the deadline has passed, or when nobody waits for the answer any longer, is killed, and the next
request gets a new one.

Requests and answers are lists of parts, bytes that neither side looks into. An answer is read in pieces and stays in
pieces: one of many megabytes is never copied on the event loop, and can be handed on to the next process as it is.
Before an answer come any number of words about its progress, a few a second, the newest counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import queue
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from trading.errors import BadInput, ConclaveError, Rejected, Transient

log = logging.getLogger(__name__)

Pieces = Sequence[bytes]
"""One part in the pieces in which it came."""
Tell = Callable[[bytes], None]
Answer = Callable[[list[bytes], Tell], Sequence[bytes]]
"""Makes the parts of an answer from those of a request, and may tell how far it is; `BadInput`, `Transient`."""

PIECE: Final = 1 << 16  # about what a pipe holds; copied in some microseconds
PROGRESS_PAUSE: Final = 0.2  # seconds between two words about progress
START: Final = 30.0
"""Seconds until a new process is ready; the first start on a machine looks through all its fonts."""
MODEST: Final = 19
_CLOSE: Final = 1.0
_END: Final = 1.0  # seconds that a process has to end by itself
_ROOT: Final = Path(__file__).resolve().parent.parent
_REQUEST, _READY, _PROGRESS, _DONE, _REFUSED, _LATER, _FAILED = (bytes((letter,)) for letter in b"?RpDBTF")
_HEAD: Final = struct.Struct("!cH")  # what it is, and how many parts follow
_SIZE: Final = struct.Struct("!Q")
_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Craft:
    """What a worker makes, in the words of its refusals: one chart, many charts, drawn; what to do about a long one."""

    one: str
    many: str
    made: str
    shorter: str


class Worker:
    """The bot's side of one process, which is started by the first request or by `warm`.

    `queue`: requests worked on and waiting at a time. `start`: seconds until a new process is ready. `limits`:
    variables of its environment, NAME=VALUE. `rest`: idle seconds after which it ends and gives its memory back; None
    for never.
    """

    def __init__(
        self,
        module: str,
        craft: Craft,
        *,
        queue: int,
        start: float = START,
        limits: tuple[str, ...] = (),
        rest: float | None = None,
    ) -> None:
        self._command = (*(("env", *limits) if limits else ()), sys.executable, "-m", module)
        self._craft = craft
        self._queue = queue
        self._start = start
        self._rest = rest
        self._turn = asyncio.Lock()
        self._asked = 0
        self._closed = False
        self._process: _Process | None = None
        self._leaving: set[_Process] = set()
        self._warming: asyncio.Task[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return self._process.pid if self._process and self._process.alive else None

    async def ask(self, request: Sequence[Pieces], *, deadline: float, tell: Tell | None = None) -> tuple[Pieces, ...]:
        """The parts of the answer. `tell` is called from the event loop, in order, and never after the end.

        `Transient`: not now; `BadInput`: ask differently; `Rejected`: this very thing cannot be made. A process that
        dies over a request is replaced once. Cancelling the call ends the process that works on it.
        """
        if self._asked >= self._queue:
            raise Transient(f"{self._asked} {self._craft.many} are being {self._craft.made}: ask again in a moment")
        self._asked += 1
        try:
            async with self._turn:
                self._stay()
                return await self._made(request, deadline, tell)
        finally:
            self._asked -= 1
            self._tire()

    def warm(self) -> None:
        """Start the process in the background, so that the first request does not wait for it."""
        if not self._closed and (self._warming is None or self._warming.done()):
            self._warming = asyncio.get_running_loop().create_task(self._warm())

    async def close(self) -> None:
        """End the process, at once; what is still being made is `Transient`. May be called twice."""
        self._closed = True
        self._stay()
        if self._warming is not None:
            self._warming.cancel()
        self._dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE), self._turn:  # whoever waits for an answer has been told
                self._dismiss()
                await asyncio.gather(*(each.gone() for each in self._leaving))

    async def _made(self, request: Sequence[Pieces], deadline: float, tell: Tell | None) -> tuple[Pieces, ...]:
        """By the process that stands ready, or by a new one when that has died: once."""
        try:
            return await self._answered(request, deadline, tell)
        except _Died as death:
            log.warning("worker_died makes=%s reason='%s' next='starting another'", self._craft.many, death)
        try:
            return await self._answered(request, deadline, tell)
        except _Died as death:
            raise Transient(
                f"the {self._craft.one} could not be {self._craft.made} ({death}): try again later"
            ) from death

    async def _answered(self, request: Sequence[Pieces], deadline: float, tell: Tell | None) -> tuple[Pieces, ...]:
        process = await self._hired()
        try:
            async with asyncio.timeout(deadline):
                kind, parts = await process.ask(request, tell)
        except TimeoutError:
            self._dismiss()
            self.warm()
            late = f"the {self._craft.one} was not finished within {deadline:g} s"
            raise Transient(f"{late}: {self._craft.shorter}") from None
        except BaseException:
            self._dismiss()  # what it would answer belongs to nobody
            raise
        if kind == _DONE:
            return parts
        reason = b"".join(parts[0]).decode()
        if kind == _FAILED:
            raise Rejected(f"the {self._craft.one} cannot be {self._craft.made}: {reason}")
        raise BadInput(reason) if kind == _REFUSED else Transient(reason)

    async def _hired(self) -> _Process:
        """The process, ready for work."""
        if self._closed:
            raise Transient(f"no {self._craft.one} is {self._craft.made} any more: the program is ending")
        if self._process is None or not self._process.alive:
            self._dismiss()
            self._process = await _Process.start(self._command)
        try:
            async with asyncio.timeout(self._start):
                await self._process.ready()
        except TimeoutError:
            self._dismiss()
            late = f"the process for {self._craft.many} was not ready within {self._start:g} s"
            raise Transient(f"{late}: try again later") from None
        except BaseException:
            self._dismiss()
            raise
        return self._process

    def _dismiss(self) -> None:
        """Kill the process, if there is one; `close` waits for those that are still leaving."""
        self._leaving = {each for each in self._leaving if each.alive}
        if self._process is not None:
            self._process.kill()
            self._leaving.add(self._process)
        self._process = None

    async def _warm(self) -> None:
        async with self._turn:
            self._stay()
            try:
                await self._hired()
            except (ConclaveError, _Died) as error:
                next_time = f"when a {self._craft.one} is asked for"
                log.warning("worker_not_started reason='%s' next='%s'", error, next_time)
        self._tire()

    def _stay(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = None

    def _tire(self) -> None:
        """From now on idle, unless somebody waits."""
        self._stay()
        if self._rest is not None and not self._closed and not self._asked:
            self._alarm = asyncio.get_running_loop().call_later(self._rest, self._dismiss)


class _Died(ConclaveError):
    """The process ended in the middle of something."""


class _Process:
    """The process as the bot sees it: asked one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._requests = cast("asyncio.StreamWriter", process.stdin)
        self._answers = cast("asyncio.StreamReader", process.stdout)
        self._ready = False

    @classmethod
    async def start(cls, command: Sequence[str]) -> Self:
        """A new process; it answers to `ready` when it has imported what it needs."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=_ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                limit=PIECE,
            )
        except OSError as error:
            raise Transient(f"no process can be started ({error.strerror}): try again later") from error
        return cls(process)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False once it is known to have ended."""
        return self._process.returncode is None

    async def ready(self) -> None:
        """Wait until it can work; `Rejected` when it says that it never will."""
        if not self._ready:
            kind, parts = await self._answer(None)
            if kind != _READY:
                raise Rejected(f"{b''.join(parts[0]).decode()}: see README, make install")
            self._ready = True

    async def ask(self, request: Sequence[Pieces], tell: Tell | None) -> tuple[bytes, tuple[Pieces, ...]]:
        """The answer to a request: what it is, and its parts. `_Died` when there will be none."""
        try:
            self._requests.write(_head(_REQUEST, [sum(map(len, part)) for part in request]))
            for part in request:
                for piece in part:
                    await self._write(piece)
            await self._requests.drain()
        except ConnectionError:
            raise await self._death() from None
        return await self._answer(tell)

    async def _write(self, content: bytes) -> None:
        view = memoryview(content)
        for first in range(0, len(view), PIECE):
            self._requests.write(view[first : first + PIECE])
            await self._requests.drain()
            await asyncio.sleep(0)  # a reader that keeps up would keep the loop here

    def kill(self) -> None:
        """End it without asking."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()

    async def _answer(self, tell: Tell | None) -> tuple[bytes, tuple[Pieces, ...]]:
        try:
            while True:
                kind, count = _HEAD.unpack(await self._answers.readexactly(_HEAD.size))
                sizes = [_SIZE.unpack(await self._answers.readexactly(_SIZE.size))[0] for _ in range(count)]
                parts = tuple([await self._pieces(size) for size in sizes])
                if kind != _PROGRESS:
                    return kind, parts
                if tell is not None:
                    tell(b"".join(parts[0]))
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._death() from None

    async def _pieces(self, size: int) -> Pieces:
        pieces = []
        while size:
            piece = await self._answers.read(min(size, PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", size)
            pieces.append(piece)
            size -= len(piece)
        return pieces

    async def _death(self) -> _Died:
        # Its pipes are closed, so it is ending. Killing it right now could ask for its exit code, which is told once.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END):
                await self._process.wait()
        if self.alive:
            self.kill()
        return _Died(f"its process ended with {await self._process.wait()}")


# The other side of the pipes


def serve(prepare: Callable[[], Answer], *, nice: int) -> None:
    """The process: answers requests on its standard input, one after the other, until that ends.

    `prepare` imports what is heavy. What it or an answer fails on is told; only the failure of `prepare` ends the
    process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _be_modest(nice)
    _die_with_parent()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    requests: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests.put), daemon=True).start()
    herald = _Herald(out)
    try:
        answer = prepare()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side is told
        herald.close(_FAILED, [_told(error)])
        return
    gc.freeze()  # what was imported stays: there is no need to look through it after each answer
    herald.close(_READY, [])
    while True:
        herald.close(*_made(answer, requests.get(), herald.tell))
        gc.collect()  # a figure refers to itself and holds megabytes


def _made(answer: Answer, request: list[bytes], tell: Tell) -> tuple[bytes, Sequence[bytes]]:
    try:
        return _DONE, answer(request, tell)
    except BadInput as error:
        return _REFUSED, [str(error).encode()]
    except Transient as error:
        return _LATER, [str(error).encode()]
    except Exception as error:  # noqa: BLE001 - one thing that cannot be made is no reason to end
        return _FAILED, [_told(error)]


def _told(error: Exception) -> bytes:
    text = str(error) if isinstance(error, ConclaveError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split()).encode("utf-8", "replace")


def _be_modest(nice: int) -> None:
    """Give way to everybody else; the most modest run, where the system knows how, only while nobody else wants to."""
    with contextlib.suppress(OSError):
        os.nice(nice)
        if nice == MODEST and hasattr(os, "SCHED_IDLE"):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _die_with_parent() -> None:
    """Where the kernel offers it: compiled code may keep the listening thread waiting for a while."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


class _Herald:
    """Sends what there is to say. Progress goes at most every `PROGRESS_PAUSE`, from a thread of its own: the newest
    word counts, whoever tells it does not wait, and none comes after the answer.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._newest: bytes | None = None
        self._news = threading.Event()
        self._sending = threading.Lock()
        threading.Thread(target=self._go, daemon=True).start()

    def tell(self, word: bytes) -> None:
        """A word about progress."""
        self._newest = word
        self._news.set()

    def close(self, kind: bytes, parts: Sequence[bytes]) -> None:
        """The answer, after which there is no more to say about it."""
        with self._sending:
            self._newest = None
            self._send(kind, parts)

    def _go(self) -> None:
        while self._news.wait():
            self._news.clear()
            with self._sending:
                word, self._newest = self._newest, None
                if word is not None:
                    self._send(_PROGRESS, [word])
            time.sleep(PROGRESS_PAUSE)

    def _send(self, kind: bytes, parts: Sequence[bytes]) -> None:
        self._out.write(_head(kind, list(map(len, parts))))
        for part in parts:
            self._out.write(part)
        self._out.flush()


def _listen(source: BinaryIO, put: Callable[[list[bytes]], None]) -> None:
    """Takes requests in; the end of the pipe is the end of the bot, and then of this process, whatever it does."""
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        _, count = _HEAD.unpack(head)
        sizes = [_SIZE.unpack(source.read(_SIZE.size))[0] for _ in range(count)]
        put([source.read(size) for size in sizes])
    os._exit(0)


def _head(kind: bytes, sizes: Iterable[int]) -> bytes:
    packed = [_SIZE.pack(size) for size in sizes]
    return _HEAD.pack(kind, len(packed)) + b"".join(packed)
