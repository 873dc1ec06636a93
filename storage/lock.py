"""One process for each data directory.

The lock is the kernel's (`flock`): it is gone the moment its process is, however that ended, so there is no
stale lock to clean up. The process id in the file is for people and for the refusal.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from trading.errors import AnotherInstance, Misconfigured


class InstanceLock:
    """Held inside `with`; entering raises `AnotherInstance` at once when another process holds it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "instance.lock"
        self._file: int | None = None

    def __enter__(self) -> Self:
        file = self._open()
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(file)
            raise AnotherInstance(
                f"another Conclave (process {holder}) already works in {self._directory}: "
                "stop it first, or set DATA_DIR to another folder"
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let two processes lock two files of one name.
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Close-on-exec is Python's default: a child must not keep the lock of a dead parent.
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise Misconfigured(f"{self._path} does not open ({error.strerror}): check DATA_DIR") from error
