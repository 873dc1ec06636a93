"""Looking at processes from the outside, and waiting for what they come to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

SOON: Final = 20.0  # seconds within which what is waited for happens, on a machine that is busy with other tests


def state(pid: int) -> str:
    """The kernel's letter for a process, `-` when there is none; a dead one nobody asked about is none."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "-"
    return "-" if letter in {"Z", "X"} else letter


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(SOON):
        while not holds():  # noqa: ASYNC110 - the kernel sets no event
            await asyncio.sleep(0.005)
