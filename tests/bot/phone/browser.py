"""The chat page in a headless Chromium, with the phone, a bot and a human around it.

Skipped by name when playwright or a Chromium is missing. The browser is shared by the tests of a module, and with it
their event loop; every test has a phone and a window of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from telegram import Bot

from bot.phone import DEFAULT_TOKEN, Phone
from tests.bot.phone.driver import Human

if TYPE_CHECKING:  # the tests that need no browser run without playwright
    from playwright.async_api import Browser, Locator, Page

OWNER: Final = 1
TELEPHONE: Final = (390, 844)
DESKTOP: Final = (1280, 800)
_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(slots=True)
class Window:
    """An open page with what it asked for and what went wrong in it."""

    page: Page
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def line(self, message_id: int) -> Locator:
        """A message in the chat."""
        return self.page.locator(f'#messages [data-id="{message_id}"]')

    def part(self, message_id: int, selector: str) -> Locator:
        return self.line(message_id).locator(selector)

    async def shows(self, message_id: int, text: str) -> None:
        """Waits until the message reads so."""
        from playwright.async_api import expect

        await expect(self.part(message_id, ".body")).to_have_text(text)

    async def top(self, message_id: int) -> float:
        """Where the message begins, in pixels from the top of the window."""
        box = await self.line(message_id).bounding_box()
        assert box is not None
        return box["y"]

    async def scroll(self, pixels: int) -> None:
        """Scrolls the chat to `pixels` from its top, and lets the page take note."""
        await self.page.evaluate(
            """pixels => new Promise((done) => {
                 const scroll = document.getElementById("scroll");
                 scroll.scrollTop = pixels;
                 requestAnimationFrame(() => requestAnimationFrame(done));
               })""",
            pixels,
        )

    async def measured(self, script: str, argument: Any = None) -> Any:
        return await self.page.evaluate(script, argument)


@dataclass(frozen=True, slots=True)
class Chat:
    """A phone with its bot and human, and a way to open windows on it."""

    phone: Phone
    bot: Bot
    human: Human
    session: ClientSession
    open: Callable[..., Awaitable[Window]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window, one for the module."""
    playwright_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    async with playwright_api.async_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, _NAMES)), own if Path(own).exists() else None)
        if path is None:
            pytest.skip("chromium is not installed")
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def chat(chromium: Browser) -> AsyncIterator[Chat]:
    """An empty phone; at the end every window must be free of errors."""
    from playwright.async_api import expect

    async with AsyncExitStack() as stack:
        phone = await stack.enter_async_context(Phone(None, owner_id=OWNER))
        bot = Bot(DEFAULT_TOKEN, base_url=phone.base_url, base_file_url=phone.base_file_url)
        await stack.enter_async_context(bot)
        session = await stack.enter_async_context(ClientSession(phone.url))
        windows: list[Window] = []

        async def opened(
            size: tuple[int, int] = TELEPHONE, query: str = "", url: str = phone.url, **options: Any
        ) -> Window:
            shape = {"width": size[0], "height": size[1]}
            context = await chromium.new_context(viewport=shape, **options)  # type: ignore[arg-type]  # a ViewportSize
            stack.push_async_callback(context.close)
            window = Window(await context.new_page())
            windows.append(window)
            window.page.on("request", lambda request: window.requests.append(request.url))
            window.page.on("pageerror", lambda error: window.errors.append(str(error)))
            await window.page.goto(f"{url}/{query}")
            await expect(window.page.locator("#state")).to_have_text("bot")
            return window

        yield Chat(phone, bot, Human(session), session, opened)
        assert [error for window in windows for error in window.errors] == []
