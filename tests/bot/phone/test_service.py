"""The phone as a service: starting, stopping, its port and its file."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
import sys
import time
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bot.phone import Phone, PhonePortInUse, PhoneStoreUnusable, store
from bot.phone.pictures import measure
from tests.bot.phone.driver import Human, call

ROOT = Path(__file__).parents[3]
SERVE = """
import asyncio, pathlib, sys
from bot.phone import Phone

async def serve() -> None:
    phone = Phone(pathlib.Path(sys.argv[1]))
    await phone.start()
    print(phone.url, flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


async def test_an_occupied_port_is_told_clearly(phone: Phone) -> None:
    """The error is an OSError of its own type that names the port; nothing is left behind."""
    port = int(phone.url.rsplit(":", 1)[1])
    second = Phone(None, port=port)
    with pytest.raises(PhonePortInUse, match=f"^port {port} is in use: ") as refused:
        await second.start()
    assert isinstance(refused.value, OSError)
    assert refused.value.port == port
    await second.stop()


async def test_it_stops_while_requests_hang(phone: Phone) -> None:
    """Long polls and event streams are let go; stopping takes less than a second."""
    async with ClientSession(phone.url) as session, session.get("/phone/events") as events:
        poll = asyncio.create_task(call(session, "getUpdates", timeout=50))
        wait = asyncio.create_task(Human(session).read(wait=50))
        await Human(session).say("x", user_id=666)
        begin = time.perf_counter()
        await phone.stop()
        assert time.perf_counter() - begin < 1
        status, answer = await poll
        assert status == 200
        assert answer["ok"]
        assert (await wait)["messages"] == []
        assert b"retry" in await events.read()


async def test_starting_and_stopping_again(tmp_path: Path) -> None:
    """stop is harmless twice, start is not; a stopped phone can start again."""
    phone = Phone(tmp_path)
    await phone.stop()
    with pytest.raises(RuntimeError):
        assert phone.url
    for _ in range(2):
        await phone.start()
        with pytest.raises(RuntimeError):
            await phone.start()
        await phone.stop()
        await phone.stop()


async def test_the_file_is_private(tmp_path: Path) -> None:
    """phone.db and its companions can be read by their owner alone."""
    async with Phone(tmp_path / "new" / "folder"):
        files = list((tmp_path / "new" / "folder").iterdir())
        assert {file.name for file in files} >= {"phone.db", "phone.db-wal"}
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_a_newer_or_broken_file_is_refused(tmp_path: Path) -> None:
    """A file that this version cannot read is told, not overwritten."""
    newer = tmp_path / "newer"
    newer.mkdir()
    database = sqlite3.connect(newer / "phone.db")
    database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(PhoneStoreUnusable, match="version 99, newer than 2"):
        await Phone(newer).start()
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "phone.db").write_bytes(b"this is no database at all" * 100)
    with pytest.raises(PhoneStoreUnusable, match="cannot be opened"):
        await Phone(broken).start()


async def test_the_file_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its messages and taps stay, and their threads are worked out from what replies to what."""
    database = sqlite3.connect(tmp_path / "phone.db")
    database.executescript(store._SCHEMA + store._SEED.format(100) + "PRAGMA user_version=1;")
    row = "INSERT INTO messages VALUES (?, 1, 7, 1, 1700000000, NULL, ?, NULL, ?, NULL, NULL, NULL, 0, ?, ?)"
    texts = [("root", None), ("else", None), ("reply", 1), ("answer", 3)]
    for number, (text, reply_to) in enumerate(texts, 1):
        database.execute(row, (number, text, reply_to, number, number))
    database.execute("INSERT INTO chats VALUES (1, 'Owner', 'owner')")
    database.commit()
    database.close()
    for _ in range(2):
        async with Phone(tmp_path) as phone, ClientSession(phone.url) as session:
            seen = await Human(session).read()
            assert [(each["text"], each["thread"]) for each in seen["messages"]] == [
                ("root", None), ("else", None), ("reply", 1), ("answer", 1),
            ]  # fmt: skip
            assert seen["threads"] == {"1": 2}


async def test_kill_minus_nine_loses_nothing(tmp_path: Path) -> None:
    """What was answered is there after the process was killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with ClientSession(url) as session:
        for number in range(20):
            await Human(session).say(str(number))
        process.send_signal(signal.SIGKILL)
        await process.wait()
    async with Phone(tmp_path) as phone, ClientSession(phone.url) as session:
        assert len(await Human(session).messages()) == 20
        _, answer = await call(session, "getUpdates")
        assert len(answer["result"]) == 20


def test_the_size_of_a_picture(picture: bytes) -> None:
    """PNG, JPEG and GIF tell their size in the header; anything else is no picture."""
    jpeg = b"\xff\xd8\xff\xe0\x00\x04\x00\x00\xff\xff\xc2\x00\x0b\x08\x00\x14\x00\x28\x01\x00\x00\x00"
    assert measure(picture) == ("image/png", 40, 20)
    assert measure(jpeg) == ("image/jpeg", 40, 20)
    assert measure(b"GIF89a\x28\x00\x14\x00") == ("image/gif", 40, 20)
    assert measure(b"\xff\xd8\xff\xe0\x00\x04\x00\x00") is None
    assert measure(b"<svg/>") is None
