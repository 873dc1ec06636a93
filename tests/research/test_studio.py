"""The drawing process: beside the bot, never in its way, and gone when the bot is gone."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator
from datetime import timedelta

import numpy as np
import pytest
from PIL import Image

from research.studio import Studio
from tests.research import samples
from tests.research.processes import state, until
from tests.structure import ROOT
from trading.errors import BadInput, Rejected, Transient
from trading.model import CandleSeries
from trading.pictures import BarsPicture, CandlePicture, EquityPicture, Picture, RankPicture, thinned

NEW_YEAR = 1_735_689_600_000


def equity(points: int = 100, *, zone: str = "UTC", first: int = NEW_YEAR) -> EquityPicture:
    minutes = first + np.arange(points, dtype=np.int64) * 60_000
    curve = 10_000 + np.cumsum(np.random.default_rng(1).normal(0, 10, points))
    return EquityPicture(title="PAPER equity", time=minutes, equity=curve, start=10_000.0, zone=zone)


def candles(count: int) -> CandlePicture:
    close = 100 + np.sin(np.arange(count))
    series = CandleSeries(
        symbol="BTCUSDT",
        interval=timedelta(minutes=1),
        timestamp=NEW_YEAR + np.arange(count, dtype=np.int64) * 60_000,
        open=close,
        high=close + 1,
        low=close - 1,
        close=close,
        volume=np.ones(count),
    )
    return CandlePicture(title="BTC", series=series)


BARS = BarsPicture(title="Daily", labels=("Mon", "Tue"), values=(1.0, -2.0))
RANK = RankPicture(title="Symbols", groups=(("Symbol", (("BTC", 1.0, "2 trades"),)),))
KINDS: tuple[Picture, ...] = (equity(), BARS, RANK, candles(50))


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    made = Studio()
    yield made
    await made.close()


def size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.size


async def at_work(studio: Studio) -> int:
    """The drawing process, started and ready."""
    studio.warm()
    await studio.paint(BARS, "dark")
    assert studio.pid is not None
    return studio.pid


async def frozen(studio: Studio) -> int:
    """The drawing process, ready and stopped: whatever it is asked now, it is busy with."""
    pid = await at_work(studio)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: state(pid) == "T")
    return pid


async def asked(studio: Studio, picture: Picture) -> asyncio.Task[bytes]:
    """A picture that is being drawn."""
    task = asyncio.create_task(studio.paint(picture, "dark"))
    await asyncio.sleep(0)
    return task


# ---- drawing -------------------------------------------------------------------------------------


async def test_every_kind_is_painted_in_both_themes(studio: Studio) -> None:
    """By one process, which is started once."""
    pids = set()
    for picture in KINDS:
        dark, light = await studio.paint(picture, "dark"), await studio.paint(picture, "light")
        assert size(dark) == size(light)
        assert size(dark)[0] == 1080
        assert dark != light
        pids.add(studio.pid)
    assert len(pids) == 1


async def test_pictures_asked_for_together_are_painted_in_turn(studio: Studio) -> None:
    """Everybody gets their own."""
    painted = await asyncio.gather(*(studio.paint(picture, "dark") for picture in KINDS))
    assert [size(each) for each in painted] == [size(await studio.paint(picture, "dark")) for picture in KINDS]


async def test_nothing_is_started_before_it_is_needed(studio: Studio) -> None:
    """Then once: by the first picture, or before it in the background."""
    assert studio.pid is None
    studio.warm()
    studio.warm()
    assert studio.pid is None
    await until(lambda: studio.pid is not None)
    pid = studio.pid
    await studio.paint(BARS, "dark")
    assert studio.pid == pid


async def test_what_cannot_be_drawn_is_said_and_harms_nobody(studio: Studio) -> None:
    """Bad input from either side of the pipe, and a picture on which the library fails; the process stays."""
    pid = await at_work(studio)
    with pytest.raises(BadInput, match="2 points"):
        await studio.paint(equity(1), "dark")
    with pytest.raises(BadInput, match="Mars"):
        await studio.paint(equity(zone="Mars/Olympus"), "dark")
    with pytest.raises(Rejected, match="cannot be drawn"):
        await studio.paint(equity(first=10**17), "dark")  # in the year 3,170,843
    assert size(await studio.paint(BARS, "dark"))[0] == 1080
    assert studio.pid == pid


async def test_a_report_is_drawn_and_written_beside_the_pictures(studio: Studio) -> None:
    """By the same process, from bytes that come in pieces; one that is no report harms nobody."""
    pid = await at_work(studio)
    content = pickle.dumps(samples.report(), protocol=pickle.HIGHEST_PROTOCOL)
    pieces = [content[at : at + 50_000] for at in range(0, len(content), 50_000)]
    chart, workbook = await studio.render(pieces, "light")
    assert size(chart)[0] >= 1080
    assert "xl/workbook.xml" in zipfile.ZipFile(io.BytesIO(workbook)).namelist()
    with pytest.raises(Rejected, match="cannot be drawn"):
        await studio.render([pickle.dumps("no report")], "dark")
    assert studio.pid == pid


def test_little_crosses_the_pipe() -> None:
    """A curve of 300,000 points goes over as what can be seen of it."""
    assert len(pickle.dumps(thinned(equity(300_000)), protocol=pickle.HIGHEST_PROTOCOL)) < 64_000


# ---- failing -------------------------------------------------------------------------------------


async def test_a_dead_process_is_replaced(studio: Studio) -> None:
    """It died while nobody looked: the next picture does not notice."""
    pid = await at_work(studio)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: state(pid) == "-")
    assert size(await studio.paint(BARS, "dark"))[0] == 1080
    assert studio.pid != pid


async def test_a_process_that_dies_while_drawing_is_replaced_once(studio: Studio) -> None:
    """The picture is drawn by the next one."""
    pid = await frozen(studio)
    task = await asked(studio, BARS)
    os.kill(pid, signal.SIGKILL)
    assert size(await task)[0] == 1080
    assert studio.pid != pid


async def test_a_process_that_always_dies_is_given_up(studio: Studio) -> None:
    """After one more try, with a word about it; the studio lives on."""

    async def kill_all() -> None:
        while True:
            with contextlib.suppress(ProcessLookupError):
                if studio.pid is not None:
                    os.kill(studio.pid, signal.SIGKILL)
            await asyncio.sleep(0.001)

    killer = asyncio.create_task(kill_all())
    with pytest.raises(Transient, match="try again"):
        await studio.paint(BARS, "dark")
    killer.cancel()
    assert size(await studio.paint(BARS, "dark"))[0] == 1080


async def test_a_picture_that_takes_too_long_is_given_up() -> None:
    """The process is killed, another takes its place without being asked, and the next picture is drawn."""
    studio = Studio(deadline=0.5)
    pid = await frozen(studio)
    with pytest.raises(Transient, match=r"within 0\.5 s"):
        await studio.paint(candles(50), "dark")
    await until(lambda: state(pid) == "-" and studio.pid is not None)
    assert studio.pid != pid
    await studio.close()


async def test_a_cancelled_picture_leaves_nothing_behind(studio: Studio) -> None:
    """The process that was busy with it is killed, and the next caller gets their own picture."""
    pid = await frozen(studio)
    task = await asked(studio, candles(50))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: state(pid) == "-")
    assert size(await studio.paint(RANK, "dark")) == size(await studio.paint(RANK, "light"))


async def test_waiting_may_be_cancelled_without_disturbing_the_others(studio: Studio) -> None:
    """Only who is drawn for can stop the drawing."""
    pid = await frozen(studio)
    first, second, third = [await asked(studio, picture) for picture in (BARS, candles(50), RANK)]
    second.cancel()
    os.kill(pid, signal.SIGCONT)
    assert size(await first) != size(await third)
    assert second.cancelled()
    assert studio.pid == pid


async def test_the_queue_is_short(studio: Studio) -> None:
    """Who comes when it is full is told so at once; who waits is served."""
    pid = await frozen(studio)
    waiting = [await asked(studio, BARS) for _ in range(8)]
    with pytest.raises(Transient, match="in a moment"):
        await studio.paint(BARS, "dark")
    os.kill(pid, signal.SIGCONT)
    assert {size(each) for each in await asyncio.gather(*waiting)} == {size(await studio.paint(BARS, "dark"))}


# ---- ending --------------------------------------------------------------------------------------


async def test_closing_is_quick_whatever_goes_on() -> None:
    """Within a second, in the middle of a picture and of its queue; nobody waits for ever, nothing is left."""
    studio = Studio()
    pid = await frozen(studio)
    waiting = [await asked(studio, BARS) for _ in range(3)]
    started = time.monotonic()
    await studio.close()
    assert time.monotonic() - started < 1
    assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [Transient] * 3
    assert state(pid) == "-"
    with pytest.raises(Transient, match="ending"):
        await studio.paint(BARS, "dark")
    await studio.close()


@pytest.mark.parametrize("seen", [False, True])
async def test_closing_in_the_middle_of_the_start(seen: bool) -> None:
    """Before the process exists, and before it is ready."""
    studio = Studio()
    studio.warm()
    task = await asked(studio, BARS)
    if seen:
        await until(lambda: studio.pid is not None)
    pid = studio.pid
    await studio.close()
    with pytest.raises(Transient):
        await task
    assert studio.pid is None
    assert pid is None or state(pid) == "-"


async def test_a_studio_that_was_never_used_is_closed() -> None:
    """There is nothing to end."""
    await Studio().close()


async def test_ctrl_c_in_the_terminal_does_not_reach_it(studio: Studio) -> None:
    """It has a session of its own, and ignores the signal all the same. It is polite about the processor."""
    pid = await at_work(studio)
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + 15, 19)
    os.kill(pid, signal.SIGINT)
    assert size(await studio.paint(BARS, "dark"))[0] == 1080
    assert studio.pid == pid


PARENT = """
import asyncio, sys
from research.studio import Studio
from trading.pictures import BarsPicture

async def main() -> None:
    studio = Studio()
    picture = BarsPicture(title="Daily", labels=("Mon",) * 500, values=(1.0,) * 500)
    if sys.argv[1] == "idle":
        await studio.paint(picture, "dark")
    busy = asyncio.create_task(studio.paint(picture, "dark"))
    while studio.pid is None or (sys.argv[1] == "idle" and not busy.done()):
        await asyncio.sleep(0.001)
    print(studio.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["idle", "starting"])
async def test_nothing_is_left_when_the_bot_is_killed(when: str) -> None:
    """kill -9 of the parent, while the drawing process waits and while it is just being started."""
    command = [sys.executable, "-c", PARENT, when]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(await asyncio.to_thread(parent.stdout.readline))
        assert state(pid) != "-"
        parent.kill()
        await until(lambda: state(pid) == "-")


# ---- what each process imports -------------------------------------------------------------------


def modules_after(script: str) -> set[str]:
    """What a fresh interpreter has imported at the end of a script."""
    code = f"{script}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_bot_never_imports_the_plotting_library() -> None:
    """Not when a chart has been painted, either."""
    script = PARENT.replace("sys.argv[1]", "'idle'").replace("print(studio.pid, flush=True)", "await studio.close()")
    loaded = modules_after(script.replace("asyncio.sleep(3600)", "asyncio.sleep(0)"))
    assert "research.studio" in loaded
    assert not {"matplotlib", "PIL", "pandas", "talib", "research.charts"} & loaded


def test_the_drawing_process_imports_nothing_of_the_bot() -> None:
    """No chat, no exchange, no database, no indicators, no global plotting state."""
    loaded = modules_after("import research.studio, research.charts")
    assert "matplotlib" in loaded
    strangers = {"telegram", "pybit", "sqlalchemy", "sqlmodel", "pydantic", "aiohttp", "pandas", "talib", "pyarrow"}
    assert not strangers & loaded
    assert "matplotlib.pyplot" not in loaded
    assert not [name for name in loaded if name.startswith(("bot", "storage", "main"))]
