"""The studio: pictures are drawn in a process of their own, so that the event loop never waits for a chart.

`Studio` lives in the bot's process and imports no plotting library; `work` is the drawing process. It is a fresh
interpreter (`python -m research.studio`) on two pipes rather than one of `multiprocessing`: nothing of the program's
main module is imported again, no thread and no tracker process stands between, and the event loop reads the pipes.

The drawing process has a session of its own, so that Ctrl-C in the terminal is not its concern, and it ends with its
standard input: however the bot ends, kill -9 included, no process is left behind. It draws one picture at a time;
one that is still busy when its picture's deadline has passed, or when nobody waits for the picture any longer, is
killed, and the next picture gets a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pickle
import queue
import signal
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from trading.errors import BadInput, ConclaveError, Rejected, Transient
from trading.pictures import Picture, Theme, thinned

log = logging.getLogger(__name__)

DEADLINE: Final = 10.0  # seconds for one picture
_START: Final = 30.0  # seconds until a new process is ready; the first start on a machine looks through all its fonts
_CLOSE: Final = 1.0
_QUEUE: Final = 8  # pictures drawn and waited for at a time
_NICE: Final = 5
_ROOT: Final = Path(__file__).resolve().parent.parent
_REQUEST, _READY, _PAINTED, _REFUSED, _FAILED = b"?", b"R", b"P", b"B", b"F"
_HEAD: Final = struct.Struct("!cI")  # what it is, and how many bytes follow


class Studio:
    """A `Painter` with one drawing process, started by the first picture or by `warm`."""

    def __init__(self, *, deadline: float = DEADLINE) -> None:
        self._deadline = deadline
        self._turn = asyncio.Lock()
        self._asked = 0
        self._closed = False
        self._artist: _Artist | None = None
        self._leaving: set[_Artist] = set()
        self._warming: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The drawing process; None while there is none."""
        return self._artist.pid if self._artist and self._artist.alive else None

    async def paint(self, picture: Picture, theme: Theme) -> bytes:
        """A PNG. `Transient`: not now; `BadInput`: choose otherwise; `Rejected`: this picture cannot be drawn."""
        request = pickle.dumps((thinned(picture), theme), protocol=pickle.HIGHEST_PROTOCOL)
        if self._asked >= _QUEUE:
            raise Transient(f"{self._asked} charts are being drawn: ask again in a moment")
        self._asked += 1
        try:
            async with self._turn:
                return await self._painted(request)
        finally:
            self._asked -= 1

    def warm(self) -> None:
        """Start the drawing process in the background, so that the first picture does not wait for it."""
        if self._warming is None or self._warming.done():
            self._warming = asyncio.get_running_loop().create_task(self._warm())

    async def close(self) -> None:
        """End the drawing process, at once; what is still being drawn is `Transient`. May be called twice."""
        self._closed = True
        if self._warming is not None:
            self._warming.cancel()
        self._dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE), self._turn:  # whoever waits for a picture has been told
                self._dismiss()
                await asyncio.gather(*(each.gone() for each in self._leaving))

    async def _painted(self, request: bytes) -> bytes:
        """By the process that stands ready, or by a new one when that has died: once."""
        try:
            return await self._drawn(request)
        except _Died as death:
            log.warning("drawing_process_died reason='%s' next='starting another'", death)
        try:
            return await self._drawn(request)
        except _Died as death:
            raise Transient(f"the chart could not be drawn ({death}): try again later") from death

    async def _drawn(self, request: bytes) -> bytes:
        artist = await self._hired()
        try:
            async with asyncio.timeout(self._deadline):
                kind, content = await artist.ask(request)
        except TimeoutError:
            self._dismiss()
            self.warm()
            raise Transient(f"the chart was not finished within {self._deadline:g} s: try a shorter period") from None
        except (_Died, asyncio.CancelledError):
            self._dismiss()  # what it would answer belongs to nobody
            raise
        if kind == _PAINTED:
            return content
        reason = content.decode()
        raise BadInput(reason) if kind == _REFUSED else Rejected(f"the chart cannot be drawn: {reason}")

    async def _hired(self) -> _Artist:
        """The drawing process, ready for work."""
        if self._closed:
            raise Transient("no chart is drawn any more: the program is ending")
        if self._artist is None or not self._artist.alive:
            self._dismiss()
            self._artist = await _Artist.start()
        try:
            async with asyncio.timeout(_START):
                await self._artist.ready()
        except TimeoutError:
            self._dismiss()
            raise Transient(f"the drawing process was not ready within {_START:g} s: try again later") from None
        except (_Died, asyncio.CancelledError):
            self._dismiss()
            raise
        return self._artist

    def _dismiss(self) -> None:
        """Kill the drawing process, if there is one; `close` waits for those that are still leaving."""
        self._leaving = {each for each in self._leaving if each.alive}
        if self._artist is not None:
            self._artist.kill()
            self._leaving.add(self._artist)
        self._artist = None

    async def _warm(self) -> None:
        async with self._turn:
            try:
                await self._hired()
            except (Transient, _Died) as error:
                log.warning("drawing_process_not_started reason='%s' next='when a chart is asked for'", error)


class _Died(ConclaveError):
    """The drawing process ended in the middle of something."""


class _Artist:
    """The drawing process as the bot sees it: asked one thing at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._requests = cast("asyncio.StreamWriter", process.stdin)
        self._answers = cast("asyncio.StreamReader", process.stdout)
        self._ready = False

    @classmethod
    async def start(cls) -> Self:
        """A new process; it answers to `ready` when it has imported what it needs."""
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "research.studio"),
                cwd=_ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise Transient(f"no drawing process can be started ({error.strerror}): try again later") from error
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
        """Wait until it can draw."""
        if not self._ready:
            await self._answer()
            self._ready = True

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """The answer to a request: what it is, and its content. `_Died` when there will be none."""
        try:
            self._requests.write(_HEAD.pack(_REQUEST, len(request)) + request)
            await self._requests.drain()
        except ConnectionError:
            raise await self._death() from None
        return await self._answer()

    def kill(self) -> None:
        """End it without asking."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def gone(self) -> None:
        """Wait until it has ended."""
        await self._process.wait()

    async def _answer(self) -> tuple[bytes, bytes]:
        try:
            kind, size = _HEAD.unpack(await self._answers.readexactly(_HEAD.size))
            return kind, await self._answers.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise await self._death() from None

    async def _death(self) -> _Died:
        self.kill()
        return _Died(f"the drawing process ended with {await self._process.wait()}")


def work() -> None:
    """The drawing process: answers requests on its standard input until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests.put), daemon=True).start()
    from research.charts import draw

    gc.freeze()  # what was imported stays: there is no need to look through it after each picture
    _send(out, _READY, b"")
    while True:
        picture, theme = pickle.loads(requests.get())  # noqa: S301 - our own parent wrote it
        _send(out, *_answered(draw, picture, theme))
        gc.collect()  # a figure refers to itself and holds megabytes


def _answered(draw: Callable[[Picture, Theme], bytes], picture: Picture, theme: Theme) -> tuple[bytes, bytes]:
    try:
        return _PAINTED, draw(picture, theme)
    except BadInput as error:
        return _REFUSED, str(error).encode()
    except Exception as error:  # noqa: BLE001 - one picture that cannot be drawn is no reason to end
        return _FAILED, f"{type(error).__name__}: {error}".encode()


def _listen(source: BinaryIO, put: Callable[[bytes], None]) -> None:
    """Takes requests in; the end of the pipe is the end of the bot, and then of this process, whatever it does."""
    while len(head := source.read(_HEAD.size)) == _HEAD.size:
        _, size = _HEAD.unpack(head)
        put(source.read(size))
    os._exit(0)


def _send(out: BinaryIO, kind: bytes, content: bytes) -> None:
    out.write(_HEAD.pack(kind, len(content)) + content)
    out.flush()


if __name__ == "__main__":
    work()
