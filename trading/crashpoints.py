"""Named places at which a test may kill the process. Nothing happens unless one has been armed."""

from __future__ import annotations

import os
import signal

_armed: list[str] = []


def arm(name: str) -> None:
    """Die at the next `crashpoint(name)`; only the composition root calls this, for the fault harness."""
    _armed.append(name)


def crashpoint(name: str) -> None:
    """A place just before or after a side effect."""
    if _armed and name in _armed:
        os.kill(os.getpid(), signal.SIGKILL)
