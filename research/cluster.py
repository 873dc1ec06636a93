"""Grid search on a Dask cluster: `research.grid.search` with other machines' cores instead of this one's.

    with Cluster("tcp://10.0.0.5:8786") as cluster:
        sums = cluster.search(Ground.of(series), grid, jobs=1)

The bars travel once: they are a task of their own whose result every worker keeps, and from which it makes its
`Searcher`, also on a worker that has taken the place of a dead one. Chunks go out in tasks of some hundred
milliseconds, a few for each thread, and come back in any order. A task whose worker died or left is done again by
Dask; one that the cluster has cancelled (somebody restarted it, the connection was made anew) is handed out again from
here, `TIMES` times at most.
Numbers are those of `research.grid.search`, bit for bit, so a worker must run the same code and the same versions of
what reckons: whoever does not is refused by name. How to set up workers: docs/cluster.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.metadata
import logging
import pickle
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from research.program import SEARCH, fingerprint
from trading.errors import BadInput, ConclaveError
from trading.model import FloatArray, IntArray

if TYPE_CHECKING:
    from research.grid import Chunk, Grid, Searcher, Sums
    from research.ground import Ground

REACH: Final = 5.0  # seconds to reach the scheduler
WORKERS: Final = 15.0  # seconds to wait for a first worker
GONE: Final = 60.0  # seconds without any worker in the middle of a search: those that restart are back by then
ANSWER: Final = 20.0  # seconds in the middle of a search that the scheduler may take to say who is there
TIMES: Final = 5  # how often one task is handed out: who cancels it every time does not want it
TASK: Final = 0.3  # seconds of one task
MOST: Final = 20_000  # combinations of one task: its answer is 240 bytes for each
_AHEAD: Final = 2  # tasks in flight for each thread
_GROWTH: Final = 4.0
_LOOK: Final = 0.02  # seconds between two looks at what has come back
_COUNT: Final = 2.0  # seconds between two counts of the workers
_TELL: Final = 0.2
_HELD: Final = 2  # searches that a worker keeps ready
_LIBRARIES: Final = ("distributed", "numpy", "numba", "TA-Lib")
_INSTALL: Final = "Dask is not installed here: .venv/bin/python -m pip install 'distributed>=2026.1'"
_SAME: Final = "every worker needs this project's folder as it is here on its PYTHONPATH, see docs/cluster.md"

Client = Any  # these three are Dask's own; half of their calls carry no types
Future = Any
Arrivals = Any
Answer = tuple[FloatArray, NDArray[np.float32], float]
"""Sums, blocks, and the seconds that they took."""


class Cluster:
    """A Dask cluster behind the address of its scheduler; a context manager, connected inside of it.

    Seconds: `reach` for the scheduler to answer, `workers` for a first worker to be there, `gone` that a search waits
    for workers when the last one has left. Entering raises `BadInput` for what is no address and `ConclaveError` when
    nobody answers there, nobody works there, or the workers' code is another.
    """

    def __init__(self, address: str, *, reach: float = REACH, workers: float = WORKERS, gone: float = GONE) -> None:
        self.address = address
        self._reach, self._workers, self._gone = reach, workers, gone
        self._connected: Client | None = None

    def __enter__(self) -> Self:
        self._connected = client = _connect(self.address, self._reach)
        try:
            _check(client, self.address, self._workers)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._connected is not None:
            self._connected.close(timeout=1)
        self._connected = None

    def search(
        self,
        ground: Ground,
        grid: Grid,
        *,
        jobs: int = 1,
        first: int = 0,
        known: Sums | None = None,
        tell: Callable[[int], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Sums:
        """As `research.grid.search`; `jobs` says nothing here, the workers' threads are what there is.

        `ConclaveError` when the cluster is lost; what is done by then is in `known`.
        """
        from research.grid import Sums

        assert self._connected is not None, "a cluster searches inside its `with`"  # noqa: S101
        sums = known or Sums.empty(grid, len(ground.series) - first, ground.series.interval)
        _Search(self._connected, self.address, ground, sums, first, self._gone).run(tell, stopped)
        return sums


# Coming together


def _connect(address: str, reach: float) -> Client:
    try:
        import distributed
        from distributed.comm.addressing import parse_address, parse_host_port
        from distributed.comm.registry import get_backend
    except ImportError:
        raise ConclaveError(f"--cluster needs what is not there. {_INSTALL}") from None
    for name in ("distributed", "distributed.client"):  # what goes wrong is raised, in one line
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        scheme, place = parse_address(address)
        get_backend(scheme)
        parse_host_port(place)
    except ValueError:
        raise BadInput(f"--cluster {address[:80]} is no address: write tcp://host:8786") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions: they are looked at below
            asyncio.run(asyncio.wait_for(_reached(address, reach), reach))
            connect: Any = distributed.Client
            return connect(address, timeout=reach, set_as_default=False, name="conclave")
    except (OSError, ValueError, TypeError, ImportError) as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise ConclaveError(f"no Dask scheduler answers at {address} within {reach:g} s: {said[:200]}") from None


async def _reached(address: str, reach: float) -> None:
    """A scheduler answers there. Dask's client would wait for ever for one that takes the connection and is silent."""
    import distributed

    async with distributed.rpc(address, timeout=reach) as scheduler:  # type: ignore[no-untyped-call]
        await scheduler.identity()


def _check(client: Client, address: str, patience: float) -> None:
    """Somebody must work there, and everybody must reckon as this process does."""
    try:
        client.wait_for_workers(1, timeout=patience)
    except (TimeoutError, OSError):
        line = f"start some with: dask worker {address} --nthreads 1"
        raise ConclaveError(f"the Dask scheduler at {address} has no workers after {patience:g} s: {line}") from None
    try:
        found: Mapping[str, Any] = client.run(reckons, on_error="return")
    except Exception as error:  # noqa: BLE001 - whatever the other side could not even unpack is raised here as it is
        raise _strange("a worker", error) from None
    own = reckons()
    for worker, theirs in found.items():
        if isinstance(theirs, BaseException):
            raise _strange(f"worker {worker}", theirs)
        _same(worker, theirs, own)


def _strange(who: str, error: BaseException) -> ConclaveError:
    missing = ("ModuleNotFoundError", "ImportError", "AttributeError")
    if any(name in _line(error) for name in missing):  # Dask wraps them
        return ConclaveError(f"{who} lacks this project's code ({_line(error)}): {_SAME}")
    return ConclaveError(f"{who} cannot work ({_line(error)})")


def _same(worker: str, theirs: Mapping[str, str], own: Mapping[str, str]) -> None:
    for name, version in own.items():
        if theirs.get(name) == version:
            continue
        if name == "code":
            raise ConclaveError(f"worker {worker} has another version of this project's code: {_SAME}")
        other = theirs.get(name) or "nothing"
        raise ConclaveError(f"worker {worker} has {name} {other} and this machine {version}: {_SAME}")


@cache
def reckons() -> dict[str, str]:
    """What decides the numbers of a search in this process: the code, and the versions of the libraries."""
    return {"code": fingerprint(*SEARCH), **{name: _version(name) for name in _LIBRARIES}}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


# On this side


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """Combinations, and how often they have been handed out."""

    numbers: IntArray
    times: int


@dataclass(eq=False)
class _Search:
    """One search: what is out, what has come back."""

    client: Client
    address: str
    ground: Ground
    sums: Sums
    first: int
    gone: float
    threads: int = 0
    each: float = 0.0  # seconds of one combination, 0 while nobody knows
    running: dict[Future, _Task] = field(default_factory=dict)
    dropped: list[_Task] = field(default_factory=list)  # cancelled by others, to be handed out again
    parcels: list[Future] = field(default_factory=list)  # the last one holds
    name: str = ""
    manned: float = field(default_factory=time.monotonic)
    counted: float = 0.0

    def run(self, tell: Callable[[int], None], stopped: Callable[[], bool]) -> None:
        """Until everything is done or it is stopped."""
        import distributed

        from research.grid import chunks

        gather: Any = distributed.as_completed
        arrivals: Arrivals = gather(loop=self.client.loop, with_results=True, raise_errors=False)
        work = _Work(chunks(self.sums.grid, self.sums.done), int((~self.sums.done).sum()))
        told = time.monotonic()
        try:
            while not stopped():
                self._count()
                self._hand_out(work, arrivals)
                if not self.running:
                    break
                if not arrivals.has_ready():
                    time.sleep(_LOOK)
                for future, result in arrivals.next_batch(block=False):
                    self._take(future, result)
                if time.monotonic() - told > _TELL:
                    tell(int(self.sums.done.sum()))
                    told = time.monotonic()
        finally:
            self._cancel()
        tell(int(self.sums.done.sum()))

    def _hand_out(self, work: _Work, arrivals: Arrivals) -> None:
        while len(self.running) < max(_AHEAD * self.threads, 2):
            task = self._next(work)
            if task is None:
                return
            future = self.client.submit(_searched, self._parcel(), self.name, task.numbers, reckons(), pure=False)
            self.running[future] = task
            arrivals.add(future)

    def _next(self, work: _Work) -> _Task | None:
        if self.dropped:
            return self.dropped.pop()
        wanted = TASK / self.each if self.each else 1.0
        even = work.left / (_AHEAD * max(self.threads, 1))  # the last tasks are small, so that all end together
        numbers = work.take(int(min(wanted, even, MOST)))
        return None if numbers is None else _Task(numbers=numbers, times=1)

    def _parcel(self) -> Future:
        """The bars and the grid, on their way to the workers; once more when they have been cancelled there."""
        if self.parcels and not self.parcels[-1].cancelled():
            return self.parcels[-1]
        content = pickle.dumps((replace(self.ground, _curves={}), self.sums.grid, self.first), protocol=5)
        self.name = hashlib.sha256(content).hexdigest()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sending large graph")  # once a search, and no file is shared
            key = f"bars-{self.name}-{len(self.parcels)}"  # Dask would answer a cancelled key with the cancelled one
            self.parcels.append(self.client.submit(_carried, content, key=key, pure=True))
        return self.parcels[-1]

    def _take(self, future: Future, result: Any) -> None:
        """What has come back: results, why there are none, or not even that.

        What counts is what is here: the state of the future is that of the worker which held the result, and is "lost"
        by now when that one has left in between.
        """
        task = self.running.pop(future, None)
        if task is None:
            return
        match result:
            case (np.ndarray() as sums, np.ndarray() as blocks, float() as seconds):
                self._keep(task.numbers, sums, blocks, seconds)
            case (_, BaseException() as error, _):
                raise self._failed(error)
            case _:
                self._drop(task)

    def _keep(self, numbers: IntArray, sums: FloatArray, blocks: NDArray[np.float32], seconds: float) -> None:
        self.sums.sums[numbers], self.sums.blocks[numbers] = sums, blocks
        self.sums.done[numbers] = True
        each = max(seconds, 1e-6) / len(numbers)
        self.each = max(each, self.each / _GROWTH) if self.each else each

    def _drop(self, task: _Task) -> None:
        """A task that was cancelled, and not by this search: again, if the scheduler is still there."""
        if task.times >= TIMES:
            raise ConclaveError(
                f"somebody at {self.address} cancels what is searched: a task {TIMES} times; what is done is kept"
            )
        self.dropped.append(replace(task, times=task.times + 1))
        self.counted = 0.0

    @staticmethod
    def _failed(error: BaseException) -> ConclaveError:
        if isinstance(error, ConclaveError):
            return error
        if type(error).__name__ == "KilledWorker":
            return ConclaveError(f"workers died again and again on the same task ({_line(error)}): have they memory?")
        return _strange("a worker", error)

    def _count(self) -> None:
        """How many threads there are; nobody for long is an end, and so is a scheduler that does not say."""
        if self.client.status != "running":
            raise self._lost()
        now = time.monotonic()
        if now - self.counted < _COUNT:
            return
        try:
            self.threads = sum(self.client.nthreads(callback_timeout=ANSWER).values())
        except (OSError, TimeoutError):
            raise self._lost() from None
        self.counted = now
        if self.threads:
            self.manned = now
        elif now - self.manned > self.gone:
            raise ConclaveError(
                f"all workers of {self.address} are gone since {self.gone:g} s; what is done is kept"
            )
        for future in [each for each in self.running if each.cancelled()]:  # not all of them are told of
            self._take(future, None)

    def _lost(self) -> ConclaveError:
        return ConclaveError(f"the Dask scheduler at {self.address} is lost; what is done is kept")

    def _cancel(self) -> None:
        """What is queued is not done; what is being done right now is not waited for."""
        left, self.running = [each for each in self.running if not each.cancelled()], {}
        if left and self.client.status == "running":
            with contextlib.suppress(OSError, TimeoutError, CancelledError):
                self.client.cancel(left, force=True)


class _Work:
    """What is left to hand out, in the grid's own chunks."""

    def __init__(self, chunks: Iterator[Chunk], left: int) -> None:
        self._chunks = chunks
        self.left = left

    def take(self, wanted: int) -> IntArray | None:
        """The next combinations: at least a chunk, about `wanted`; None when there are no more."""
        taken: list[IntArray] = []
        count = 0
        while count < max(wanted, 1) and (chunk := next(self._chunks, None)) is not None:
            taken.append(chunk.numbers)
            count += len(chunk.numbers)
        self.left -= count
        return np.concatenate(taken) if taken else None


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


# On a worker


_searchers: OrderedDict[str, Searcher] = OrderedDict()
_turn = threading.Lock()


def _carried(content: bytes) -> bytes:
    """The bars as a task's result: workers hand it to each other, and Dask makes it again where it was lost."""
    return content


def _searched(content: bytes, name: str, numbers: IntArray, expected: Mapping[str, str]) -> Answer:
    """The combinations' sums and blocks, in their order."""
    from distributed import get_worker

    from research.grid import CHUNK, Chunk

    _same(get_worker().address, reckons(), expected)
    searcher = _searcher(content, name)
    began = time.perf_counter()
    parts = [searcher.search(Chunk(numbers[at : at + CHUNK])) for at in range(0, len(numbers), CHUNK)]
    sums, blocks = (np.concatenate(each) for each in zip(*parts, strict=True))
    return sums, blocks, time.perf_counter() - began


def _searcher(content: bytes, name: str) -> Searcher:
    """Made once for each search on each worker."""
    from research.grid import Searcher

    with _turn:
        if name not in _searchers:
            ground, grid, first = pickle.loads(content)  # noqa: S301 - whoever may send tasks may send code anyway
            _searchers[name] = Searcher(ground, grid, first)
        _searchers.move_to_end(name)
        while len(_searchers) > _HELD:
            _searchers.popitem(last=False)
        return _searchers[name]
