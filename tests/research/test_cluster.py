"""A grid search on a real Dask cluster of processes: the numbers of `research.grid.search`, whatever dies."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from research.cluster import Cluster
from research.grid import Axis, Grid, Sums, search
from research.ground import EIGHT_HOURS, Ground
from storage.archive import series_of
from tests.parity.plain import DEFAULTS_OF
from tests.parity.series import MIDNIGHT, MINUTE, bars_from, walk
from tests.structure import ROOT
from trading.errors import BadInput, ConclaveError
from trading.model import CandleSeries

distributed: Any = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

pytestmark = [
    pytest.mark.timeout(240),
    # Dask's own, when processes are killed and loops closed under it.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
AXES: tuple[Axis, ...] = (
    ("ema_period", tuple(range(50, 150, 10))),
    ("rsi_period", (6, 10, 14, 20)),
    ("sl_atr_multiplier", (1.5, 2.5, 4.0)),
    ("risk_per_trade", (0.01, 0.02)),
)
LONG: tuple[Axis, ...] = (("ema_period", tuple(range(20, 220))), ("rsi_period", tuple(range(5, 25))), AXES[2])
BARS = 20_000  # which make a search over LONG one of seconds


def series(bars: int = 3_000, seed: int = 3) -> CandleSeries:
    """A synthetic series of 15-minute bars."""
    rng = np.random.default_rng(seed)
    made = bars_from(rng, walk(rng, bars, start=2_000.0, vol=0.006), interval=15).bars
    return series_of("BTCUSDT", 15, {**made, "timestamp": MIDNIGHT + np.arange(bars, dtype=np.int64) * 15 * MINUTE})


def grid(axes: tuple[Axis, ...] = AXES, strategy: str = "ema_trend") -> Grid:
    """Over the defaults."""
    return Grid(strategy=strategy, values=DEFAULTS_OF[strategy], axes=axes)


def same(one: Sums, other: Sums) -> None:
    """Bit for bit."""
    assert np.array_equal(one.done, other.done)
    assert one.sums.tobytes() == other.sums.tobytes()
    assert one.blocks.tobytes() == other.blocks.tobytes()


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """Two workers, a process each, without a dashboard; nothing of them is broken."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as made:
        yield made


@pytest.fixture(scope="module")
def address(local: Any) -> str:
    """Of its scheduler."""
    return str(local.scheduler_address)


@pytest.fixture(scope="module")
def alone() -> Sums:
    """What a search of seconds finds on this machine."""
    return search(Ground.of(series(BARS)), grid(LONG), jobs=2)


@pytest.fixture
def fragile() -> Iterator[Any]:
    """The same, to be broken."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as made:
        yield made


@pytest.mark.parametrize("first", [0, 700])
def test_the_numbers_are_those_of_one_machine(address: str, first: int) -> None:
    """With funding rates, and with bars that only warm the indicators up."""
    funding = {MIDNIGHT + place * EIGHT_HOURS: Decimal("0.0001") * (place % 5 - 2) for place in range(60)}
    ground, told = Ground.of(series(), funding), list[int]()
    alone = search(ground, grid(), jobs=1, first=first)
    with Cluster(address) as cluster:
        same(cluster.search(ground, grid(), jobs=7, first=first, tell=told.append), alone)
    assert told == sorted(told)
    assert told[-1] == grid().combinations


def test_several_searches_over_one_connection(address: str) -> None:
    """As a walk-forward does: other bars, another strategy, the first one again."""
    asked = [
        (series(), grid()),
        (series(1_500), grid()),
        (series(seed=4), grid((("bb_period", (10, 20)), ("adx_max", (15.0, 25.0))), "mean_reversion")),
        (series(), grid()),
    ]
    with Cluster(address) as cluster:
        for bars, each in asked:
            same(cluster.search(Ground.of(bars), each), search(Ground.of(bars), each))


def test_only_what_is_left_is_searched(address: str) -> None:
    """What is known already stays as it is."""
    bars = series()
    known = Sums.empty(grid(), len(bars), bars.interval)
    known.done[::3] = True
    known.sums[::3] = 7.0
    with Cluster(address) as cluster:
        found = cluster.search(Ground.of(bars), grid(), known=known)
    assert found is known
    assert found.done.all()
    alone = search(Ground.of(bars), grid())
    assert np.array_equal(found.sums[1::3], alone.sums[1::3])
    assert (found.sums[::3] == 7.0).all()


def test_stopped_in_the_middle_and_gone_on_with(address: str, alone: Sums) -> None:
    """What is done is kept, what is queued is not waited for, and the rest is done the next time."""
    bars, long, stop = series(BARS), grid(LONG), threading.Event()
    known = Sums.empty(long, len(bars), bars.interval)

    def tell(done: int) -> None:
        if done:
            stop.set()

    with Cluster(address) as cluster:
        cluster.search(Ground.of(bars), long, known=known, tell=tell, stopped=stop.is_set)
        assert stop.is_set()
        assert 0 < known.done.sum() < long.combinations
        cluster.search(Ground.of(bars), long, known=known)
    same(known, alone)


class Canceller:
    """Somebody else at the same scheduler, who cancels whatever is searched: the tasks, and with `bars` these too."""

    def __init__(self, local: Any, *, bars: bool) -> None:
        self._scheduler, self._loop = local.scheduler, local.loop
        self._prefix = "bars-" if bars else "_searched-"

    def cancel(self) -> int:
        """Everything that is there now: how many tasks."""

        async def all_of_them() -> int:
            found = {key: task for key, task in self._scheduler.tasks.items() if str(key).startswith(self._prefix)}
            for key, task in found.items():
                for client in list(task.who_wants or ()):
                    self._scheduler.stimulus_cancel([key], client.client_key, force=True, reason="", msg="")
            return len(found)

        return int(asyncio.run_coroutine_threadsafe(all_of_them(), self._loop.asyncio_loop).result(10))


@pytest.mark.parametrize("bars", [False, True])
def test_what_somebody_else_cancels_is_handed_out_again(local: Any, alone: Sums, *, bars: bool) -> None:
    """The tasks alone, and the bars with everything that needs them."""
    canceller, cancelled = Canceller(local, bars=bars), list[int]()

    def tell(done: int) -> None:
        if done and not cancelled:
            assert done < alone.grid.combinations
            cancelled.append(canceller.cancel())

    with Cluster(local.scheduler_address) as cluster:
        same(cluster.search(Ground.of(series(BARS)), grid(LONG), tell=tell), alone)
    assert cancelled[0] > 0


def test_who_cancels_again_and_again_is_given_up_on(local: Any) -> None:
    """After so many times for one task, with one clear line; what is done is kept."""
    canceller, over, times = Canceller(local, bars=False), threading.Event(), list[int]()
    known = Sums.empty(grid(LONG), BARS, series(2).interval)

    def again_and_again() -> None:
        while not over.wait(0.005):
            times.append(canceller.cancel())

    def tell(done: int) -> None:
        if done and not thread.is_alive():
            thread.start()

    thread = threading.Thread(target=again_and_again)
    try:
        with Cluster(local.scheduler_address) as cluster, pytest.raises(ConclaveError, match="5 times") as refused:
            cluster.search(Ground.of(series(BARS)), grid(LONG), known=known, tell=tell)
    finally:
        over.set()
        thread.join()
    assert "\n" not in str(refused.value)
    assert sum(map(bool, times)) >= 5
    assert 0 < known.done.sum() < known.grid.combinations


@pytest.mark.slow
def test_a_worker_that_is_killed_is_survived(fragile: Any, alone: Sums) -> None:
    """Kill -9 in the middle; its tasks are done again, and so are the bars it held."""
    killed = list[int]()
    pids = [worker.pid for worker in fragile.workers.values()]

    def tell(done: int) -> None:
        if done and not killed:
            assert done < alone.grid.combinations
            killed.extend(pids)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)

    with Cluster(fragile.scheduler_address) as cluster:
        found = cluster.search(Ground.of(series(BARS)), grid(LONG), tell=tell)
    assert killed
    same(found, alone)


def test_nobody_left_is_one_clear_error(fragile: Any) -> None:
    """Workers that leave for good end the search; what is done is kept."""
    bars, long = series(BARS), grid(LONG)
    known = Sums.empty(long, len(bars), bars.interval)

    def tell(done: int) -> None:
        if done and fragile.worker_spec:
            fragile.scale(0)

    with Cluster(fragile.scheduler_address, gone=1.0) as cluster, pytest.raises(ConclaveError, match="gone") as refused:
        cluster.search(Ground.of(bars), long, known=known, tell=tell)
    assert "\n" not in str(refused.value)
    assert 0 < known.done.sum() < long.combinations


def test_a_scheduler_that_dies_is_one_clear_error(tmp_path: Path) -> None:
    """In the middle of a search, within seconds; what is done is kept."""
    known = Sums.empty(grid(LONG), BARS, series(2).interval)
    words = ("--port", "0", "--no-dashboard", "--scheduler-file", "at.json")
    with started(tmp_path, "dask_scheduler", *words) as scheduler:
        address = listening(scheduler, tmp_path / "at.json")
        with (
            started(ROOT, "dask_worker", address, "--no-dashboard", "--no-nanny", "--nthreads", "1"),
            Cluster(address) as cluster,
            pytest.raises(ConclaveError, match="is lost") as refused,
        ):
            cluster.search(
                Ground.of(series(BARS)), grid(LONG), known=known, tell=lambda done: scheduler.kill() if done else None
            )
    assert "\n" not in str(refused.value)
    assert 0 < known.done.sum() < known.grid.combinations


@contextmanager
def started(folder: Path, program: str, *words: str, python_path: str = str(ROOT)) -> Iterator[subprocess.Popen[bytes]]:
    """One of Dask's own programs; killed at the end."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "-m", f"distributed.cli.{program}", *words]
    with subprocess.Popen(
        command,
        cwd=folder,
        env={**env, "PYTHONPATH": python_path} if python_path else env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def listening(scheduler: subprocess.Popen[bytes], file: Path) -> str:
    """The address that it has written into its file."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert scheduler.poll() is None
        with contextlib.suppress(FileNotFoundError, ValueError):
            return str(json.loads(file.read_text(encoding="utf-8"))["address"])
        time.sleep(0.01)
    raise AssertionError("the scheduler does not say where it is")


@pytest.mark.parametrize("address", ["nonsense:with:colons", "http://127.0.0.1:1", "tcp://:port", "", "tcp://127.0.0.1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """Before anything is tried."""
    with pytest.raises(BadInput, match="tcp://host:8786"), Cluster(address):
        pass


def test_nobody_at_the_address(unused_port: int) -> None:
    """One clear line in the time that is given for it."""
    began = time.monotonic()
    cluster = Cluster(f"127.0.0.1:{unused_port}", reach=0.5)
    with pytest.raises(ConclaveError, match=r"no Dask scheduler answers at .* within 0\.5 s") as refused, cluster:
        pass
    assert time.monotonic() - began < 5
    assert "\n" not in str(refused.value)


def test_somebody_silent_at_the_address() -> None:
    """A port that takes the connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(ConclaveError, match="no Dask scheduler answers"), Cluster(
            f"tcp://127.0.0.1:{silent.getsockname()[1]}", reach=0.5
        ):
            pass
        assert time.monotonic() - began < 5


@pytest.fixture
def unused_port() -> int:
    """One that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def foreign(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A cluster whose one worker was started elsewhere, with `request.param` done to its copy of the code."""
    change = request.param
    if change is not None:
        for folder in ("research", "trading", "storage"):
            copied(ROOT / folder, tmp_path / folder)
        change(tmp_path)
    path = "" if change is None else str(tmp_path)
    with distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0") as made:
        words = (made.scheduler_address, "--no-dashboard", "--no-nanny", "--nthreads", "1")
        with started(tmp_path.parent, "dask_worker", *words, python_path=path):
            yield made.scheduler_address


def copied(source: Path, target: Path) -> None:
    """The Python files of a folder, and the kernel as it is compiled beside them, which their times stand for."""
    for path in (*source.rglob("*.py"), *source.glob("__pycache__/*.nb?")):
        beside = target / path.relative_to(source)
        beside.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, beside)


def changed(folder: Path) -> None:
    """One line more in a strategy."""
    with (folder / "trading" / "strategy" / "ema_trend.py").open("a", encoding="utf-8") as file:
        file.write("\n# changed\n")


@pytest.mark.parametrize(
    ("foreign", "words"), [(None, "lacks this project's code"), (changed, "another version")], indirect=["foreign"]
)
def test_a_worker_with_other_code_is_refused(foreign: str, words: str) -> None:
    """By its address, with what to do."""
    with pytest.raises(ConclaveError, match=words) as refused, Cluster(foreign):
        pass
    assert "docs/cluster.md" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("foreign", [lambda folder: None], indirect=True)
def test_a_worker_with_a_copy_of_the_code_works(foreign: str) -> None:
    """The same code in another folder. Where it is compiled once more, that may round the last digit another way."""
    bars = series()
    with Cluster(foreign) as cluster:
        one, other = cluster.search(Ground.of(bars), grid()), search(Ground.of(bars), grid())
    assert np.array_equal(one.done, other.done)
    np.testing.assert_allclose(one.sums, other.sums, rtol=1e-11, atol=1e-13)


def test_without_dask_it_says_how_to_install_it() -> None:
    """In a process that cannot import it."""
    hidden = "import sys; sys.modules['distributed'] = None"
    code = f"{hidden}\nfrom research.cluster import Cluster\nCluster('x:1').__enter__()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "pip install 'distributed" in done.stderr.splitlines()[-1]


def test_no_worker_in_time() -> None:
    """A scheduler alone: one clear line that says how to start one."""
    with (
        distributed.LocalCluster(n_workers=0, processes=True, dashboard_address=":0") as made,
        pytest.raises(ConclaveError, match="has no workers") as refused,
        Cluster(made.scheduler_address, workers=0.5),
    ):
        pass
    assert "no workers after 0.5 s" in str(refused.value)
    assert "dask worker" in str(refused.value)
