"""A running phone, a real python-telegram-bot Bot that talks to it, and a human in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from telegram import Bot

from bot.phone import DEFAULT_TOKEN, Phone
from tests.bot.phone.browser import chat, chromium
from tests.bot.phone.driver import Human
from tests.bot.phone.pictures import painting

__all__ = ["bot", "chat", "chromium", "human", "phone", "picture", "session"]


@pytest.fixture
async def phone() -> AsyncIterator[Phone]:
    async with Phone(None, owner_id=1, listed=[5]) as running:
        yield running


@pytest.fixture
async def bot(phone: Phone) -> AsyncIterator[Bot]:
    async with Bot(DEFAULT_TOKEN, base_url=phone.base_url, base_file_url=phone.base_file_url) as running:
        yield running


@pytest.fixture
async def session(phone: Phone) -> AsyncIterator[ClientSession]:
    async with ClientSession(phone.url) as running:
        yield running


@pytest.fixture
def human(session: ClientSession) -> Human:
    return Human(session)


@pytest.fixture
def picture() -> bytes:
    """A PNG of 40 × 20 grey points."""
    return painting(40, 20)
