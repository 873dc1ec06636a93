"""A process beside the bot's: its answers, its progress, its ends, and that it never holds up the loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from research.worker import PIECE, Craft, Pieces, Worker
from tests.research.processes import SOON, state, until
from tests.stand_ins.labourer import NICE
from tests.structure import ROOT
from trading.errors import BadInput, Rejected, Transient

CRAFT = Craft(one="thing", many="things", made="made", shorter="ask for less")
LIMITS = ("OMP_NUM_THREADS=1", "NUMBA_NUM_THREADS=2")
MODULE = "tests.stand_ins.labourer"


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = Worker(MODULE, CRAFT, queue=4, limits=LIMITS)
    yield made
    await made.close()


def wish(word: str, *given: object) -> list[Pieces]:
    return [[json.dumps([word, *given]).encode()]]


async def asked(worker: Worker, word: str, *given: object, **terms: Any) -> list[bytes]:
    """The answer's parts, each in one piece."""
    terms.setdefault("deadline", SOON)
    return [b"".join(part) for part in await worker.ask(wish(word, *given), **terms)]


async def at_work(worker: Worker) -> int:
    """The process, started and ready."""
    assert await asked(worker, "sleep", 0) == []
    assert worker.pid is not None
    return worker.pid


async def busy(worker: Worker, word: str, *given: object, **terms: Any) -> asyncio.Task[list[bytes]]:
    """A request that the process is at: it has told of it."""
    begun = asyncio.Event()
    task = asyncio.create_task(asked(worker, word, *given, tell=lambda _: begun.set(), **terms))
    async with asyncio.timeout(SOON):
        await begun.wait()
    return task


@contextlib.contextmanager
def turns() -> Iterator[list[float]]:
    """Seconds of processor time of each turn of the event loop.

    What other programs do to this machine is not in it, nor what collecting the garbage of other tests takes.
    """
    loop, spent, going = asyncio.get_running_loop(), [time.thread_time()], True

    def turn() -> None:
        spent.append(time.thread_time())
        if going:
            loop.call_soon(turn)

    lengths: list[float] = []
    gc.disable()
    turn()
    try:
        yield lengths
    finally:
        going = False
        gc.enable()
        lengths += [after - before for before, after in pairwise(spent)]


# ---- answers -----------------------------------------------------------------------------------------------------


async def test_parts_come_back_as_they_went(worker: Worker) -> None:
    """Whatever bytes, however many parts and pieces, empty ones too."""
    request = [*wish("sleep", 0), [b""], [b"a", b"", b"bc"], [bytes(range(256)) * 2000], []]
    parts = await worker.ask(request, deadline=SOON)
    assert [b"".join(part) for part in parts] == [b"", b"abc", bytes(range(256)) * 2000, b""]


async def test_requests_asked_for_together_are_answered_in_turn(worker: Worker) -> None:
    """Everybody gets their own."""
    tasks = [worker.ask([*wish("sleep", 0), [str(number).encode()]], deadline=SOON) for number in range(4)]
    assert [b"".join(part) for (part,) in await asyncio.gather(*tasks)] == [b"0", b"1", b"2", b"3"]


async def test_what_cannot_be_made_is_said_and_harms_nobody(worker: Worker) -> None:
    """A refusal, a word that it is not the time, a failure in one line; the process stays."""
    pid = await at_work(worker)
    with pytest.raises(BadInput, match=r"^choose otherwise$"):
        await asked(worker, "refuse")
    with pytest.raises(Transient, match=r"^not now$"):
        await asked(worker, "later")
    with pytest.raises(Rejected, match=r"^the thing cannot be made: ZeroDivisionError: by nothing$"):
        await asked(worker, "fail")
    assert await at_work(worker) == pid


async def test_large_answers_do_not_hold_up_the_loop(worker: Worker) -> None:
    """50 MB come in, and are handed on to another process and back, without a turn of more than a few milliseconds."""
    await at_work(worker)
    other = Worker(MODULE, CRAFT, queue=4)
    await at_work(other)
    with turns() as lengths:
        (made,) = await worker.ask(wish("make", 50_000_000), deadline=SOON)
        (back,) = await other.ask([*wish("sleep", 0), made], deadline=SOON)
    await other.close()
    assert sum(map(len, back)) == 50_000_000
    assert max(map(len, back)) <= PIECE
    assert set(b"".join(back)) == {7}
    assert statistics.quantiles(lengths, n=100)[-1] < 0.005
    assert max(lengths) < 0.010


async def test_it_is_polite_and_within_its_limits(worker: Worker) -> None:
    """A session of its own, deaf to Ctrl-C, nice, and told how many threads its libraries may start."""
    pid = await at_work(worker)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, 19)
    os.kill(pid, signal.SIGINT)
    assert await asked(worker, "environment", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS") == [b"1", b"2"]
    assert worker.pid == pid


# ---- progress ----------------------------------------------------------------------------------------------------


async def test_progress_is_told_in_order_and_before_the_answer(worker: Worker) -> None:
    """The first word at once, each later than the one before; after the answer there is none."""
    told: list[int] = []
    assert await asked(worker, "count", 6, 0.25, tell=lambda word: told.append(int(word))) == []
    count = len(told)
    assert told[0] == 0
    assert 3 <= count <= 6
    assert all(before < after for before, after in pairwise(told))
    await asked(worker, "sleep", 0.5)
    assert len(told) == count


async def test_much_progress_is_little_news(worker: Worker) -> None:
    """Of 10,000 words in a moment a few arrive, the newest ones."""
    told: list[int] = []
    began = time.monotonic()
    await asked(worker, "count", 10_000, 0.0001, tell=lambda word: told.append(int(word)))
    assert 1 <= len(told) <= 2 + 5 * (time.monotonic() - began)
    assert told == sorted(told)
    assert await asked(worker, "count", 1000, 0) == []  # nobody listens


async def test_a_listener_that_fails_is_the_callers_failure(worker: Worker) -> None:
    """The work ends with it, and the next caller gets their own answer."""
    pid = await at_work(worker)

    def refuse(_: bytes) -> None:
        raise KeyError("no such message")

    with pytest.raises(KeyError):
        await asked(worker, "count", 100, 0.1, tell=refuse)
    await until(lambda: state(pid) == "-")
    assert await asked(worker, "make", 3) == [b"\x07\x07\x07"]


# ---- failing -----------------------------------------------------------------------------------------------------


async def test_a_process_that_dies_over_its_work_is_replaced_once(worker: Worker) -> None:
    """The next one does the work; nobody notices but the progress, which begins again."""
    pid = await at_work(worker)
    task = await busy(worker, "count", 5, 0.1)
    os.kill(pid, signal.SIGKILL)
    assert await task == []
    assert worker.pid not in {None, pid}


async def test_a_process_that_always_dies_is_given_up(worker: Worker) -> None:
    """After one more try, with a word about it; the worker lives on."""
    with pytest.raises(Transient, match=r"ended with 3.*try again"):
        await asked(worker, "die")
    await at_work(worker)


async def test_what_takes_too_long_is_given_up(worker: Worker) -> None:
    """The process is killed, and another takes its place without being asked."""
    pid = await at_work(worker)
    with pytest.raises(Transient, match=r"within 0\.3 s: ask for less"):
        await asked(worker, "sleep", 3600, deadline=0.3)
    await until(lambda: state(pid) == "-" and worker.pid is not None)
    await at_work(worker)


async def test_cancelled_work_is_ended(worker: Worker) -> None:
    """Also in the middle of compiled code, and of a large request; the next caller gets their own answer."""
    pid = await at_work(worker)
    task = await busy(worker, "count", 1000, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: state(pid) == "-")
    pid = await at_work(worker)
    os.kill(pid, signal.SIGSTOP)
    large = asyncio.create_task(worker.ask([*wish("sleep", 0), [b"x" * 5_000_000]], deadline=SOON))
    await asyncio.sleep(0)
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    await until(lambda: state(pid) == "-")
    assert await asked(worker, "make", 1) == [b"\x07"]


async def test_the_queue_is_short(worker: Worker) -> None:
    """Who comes when it is full is told so at once; who waits may leave without disturbing the others."""
    pid = await at_work(worker)
    os.kill(pid, signal.SIGSTOP)
    waiting = [asyncio.create_task(asked(worker, "sleep", 0)) for _ in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(Transient, match="4 things are being made: ask again in a moment"):
        await asked(worker, "sleep", 0)
    waiting[2].cancel()
    os.kill(pid, signal.SIGCONT)
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in done] == [list, list, asyncio.CancelledError, list]
    assert worker.pid == pid


async def test_a_process_without_its_libraries_says_so() -> None:
    """Why, to whoever asks; warming it up only leaves a word in the log."""
    worker = Worker("tests.stand_ins.broken_labourer", CRAFT, queue=4)
    worker.warm()
    with pytest.raises(Rejected, match="No module named 'vectorbt'"):
        await asked(worker, "sleep", 0)
    assert worker.pid is None
    await worker.close()


# ---- ending ------------------------------------------------------------------------------------------------------


async def test_an_idle_process_gives_its_memory_back() -> None:
    """After a rest, warmed up or used; the next request starts another."""
    worker = Worker(MODULE, CRAFT, queue=4, rest=0.2)
    worker.warm()
    await until(lambda: worker.pid is not None)
    await until(lambda: worker.pid is None)
    pid = await at_work(worker)
    assert await asked(worker, "sleep", 0.5) == []
    assert worker.pid == pid
    await until(lambda: worker.pid is None and state(pid) == "-")
    await at_work(worker)
    await worker.close()


async def test_closing_is_quick_whatever_goes_on(worker: Worker) -> None:
    """Nobody waits for ever, nothing is left."""
    pid = await at_work(worker)
    waiting = [await busy(worker, "count", 1000, 1), asyncio.create_task(asked(worker, "sleep", 0))]
    await asyncio.sleep(0)
    started = time.monotonic()
    await worker.close()
    assert time.monotonic() - started < 1
    assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [Transient] * 2
    assert state(pid) == "-"
    worker.warm()
    with pytest.raises(Transient, match="ending"):
        await asked(worker, "sleep", 0)
    assert worker.pid is None


PARENT = f"""
import asyncio, json, sys
from research.worker import Craft, Worker

async def main() -> None:
    worker = Worker({MODULE!r}, Craft(one="", many="", made="", shorter=""), queue=4, limits=("A=1",))
    await worker.ask([[json.dumps(["sleep", 0]).encode()]], deadline=60)
    print(worker.pid, flush=True)
    if sys.argv[1] != "idle":
        await worker.ask([[json.dumps(["seize", 3600, sys.argv[2]]).encode()]], deadline=3600)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("at", ["idle", "busy"])
async def test_nothing_is_left_when_the_bot_is_killed(at: str, tmp_path: Path) -> None:
    """kill -9 of the parent while the process waits, and while it is deep in compiled code that lets nobody listen."""
    if at == "busy" and sys.platform != "linux":
        pytest.skip("only Linux ends a process that does not listen")
    mark = tmp_path / "begun"
    command = [sys.executable, "-c", PARENT, at, str(mark)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert state(pid) != "-"
        await until(lambda: at == "idle" or mark.exists())
        parent.kill()
        await until(lambda: state(pid) == "-")
