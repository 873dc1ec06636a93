"""The connection: in the background, said once, ended quickly, and the token in no log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from bot.phone import DEFAULT_TOKEN
from bot.telegram import Redaction
from tests.bot.stage import HastyClock, Reader, running_phone, staged

SECRET = DEFAULT_TOKEN.split(":")[1]


class Refusing:
    """A Bot API server that refuses every call with one status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.calls = 0
        self.enough = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.calls += 1
        if self.calls >= 5:
            self.enough.set()
        body = {"ok": False, "error_code": self.status, "description": f"refused {request.path}"}
        return web.json_response(body, status=self.status)


@asynccontextmanager
async def refusing(status: int) -> AsyncIterator[tuple[Refusing, str]]:
    server = Refusing(status)
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", server.answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield server, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("status", [401, 409, 500, 502])
async def test_a_server_that_refuses_is_tried_again_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Rejected token, second poller, outage: trading goes on, one line, no token in it."""
    caplog.set_level(logging.DEBUG)
    async with (
        running_phone() as phone,
        refusing(status) as (server, url),
        staged(tmp_path, phone=phone, api_url=url, clock=HastyClock()) as stage,
    ):
        await server.enough.wait()
        async with asyncio.timeout(2):
            await stage.conversation.stop()
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1
    assert DEFAULT_TOKEN not in caplog.text
    if status == 401:
        assert "TELEGRAM_BOT_TOKEN" in said[0].getMessage()


async def test_another_poller_is_said_once_and_outlived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """409 on getUpdates: the bot backs off, says so, and hears again once it is alone."""
    async with running_phone() as phone, staged(tmp_path, phone=phone) as stage:
        await stage.conversation.telegram.connected.wait()
        await stage.owner.reply_to(await stage.owner.say("/status"))
        url = f"{phone[0].base_url}{DEFAULT_TOKEN}/getUpdates"
        async with phone[1].session.get(url) as response:
            assert response.status == 200
        reader = Reader(phone[1])
        await reader.reply_to(await reader.say("/status"))
        said = [each for each in caplog.records if "another program polls" in each.getMessage()]
        assert len(said) == 1


async def test_the_updates_of_a_stopped_bot_wait_for_it(tmp_path: Path) -> None:
    """What is said while it is away is answered when it is back; stopping takes no longer than two seconds."""
    async with running_phone() as phone:
        async with staged(tmp_path, phone=phone) as stage:
            await stage.owner.reply_to(await stage.owner.say("/status"))
            async with asyncio.timeout(2):
                await stage.conversation.stop()
        reader = Reader(phone[1])
        asked = await reader.say("/help")
        async with staged(tmp_path, phone=phone):
            await reader.reply_to(asked)


def test_a_secret_leaves_messages_arguments_and_tracebacks() -> None:
    """As it stands, quoted in an address, and its half alone."""
    redact = Redaction([DEFAULT_TOKEN, ""])
    quoted = DEFAULT_TOKEN.replace(":", "%3A")
    assert redact(f"a {DEFAULT_TOKEN} b {quoted} c") == "a *** b *** c"
    try:
        raise ValueError(f"bad url https://x/bot{DEFAULT_TOKEN}/getMe")
    except ValueError:
        logger = logging.getLogger("tests.redaction")
        record = logger.makeRecord(
            logger.name, logging.ERROR, __file__, 1, "failed %s", (DEFAULT_TOKEN,), __import__("sys").exc_info()
        )
    assert redact.filter(record)
    shown = logging.Formatter().format(record)
    assert "failed ***" in shown
    assert DEFAULT_TOKEN not in shown
    assert "ValueError" in shown


def test_an_ordinary_record_is_left_as_it_is() -> None:
    """Arguments included, for formatters that look at them."""
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "a %d", (1,), None)
    assert Redaction([DEFAULT_TOKEN]).filter(record)
    assert record.args == (1,)
