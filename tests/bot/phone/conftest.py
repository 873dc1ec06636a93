"""A running phone, a real python-telegram-bot Bot that talks to it, and a human in front of it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession
from telegram import Bot

from bot.phone import DEFAULT_TOKEN, Phone
from tests.bot.phone.browser import chat, chromium
from tests.bot.phone.driver import Human

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

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40, 20, 8, 0, 0, 0, 0))
    points = chunk(b"IDAT", zlib.compress((b"\0" + b"\x80" * 40) * 20))
    return b"\x89PNG\r\n\x1a\n" + header + points + chunk(b"IEND", b"")
