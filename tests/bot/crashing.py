"""A program with the conversation of `stage`, run as `python -m tests.bot.crashing FOLDER API_URL CRASHPOINT`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.bot.stage import staged
from trading.crashpoints import arm


async def live(folder: str, api_url: str, crashpoint: str) -> None:
    """Talk until the armed crash point kills the process."""
    arm(crashpoint)
    async with staged(Path(folder), api_url=api_url):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(live(*sys.argv[1:]))
