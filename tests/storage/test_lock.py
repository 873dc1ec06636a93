"""One process for each data directory."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storage.lock import InstanceLock
from trading.errors import AnotherInstance, Misconfigured

HOLDER = """
import sys, time
from pathlib import Path
from storage.lock import InstanceLock
with InstanceLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(directory: Path) -> subprocess.Popen[str]:
    """Another process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    """At once, naming process and folder; a SIGKILL frees the lock, every time."""
    for _ in range(3):
        process = holder(tmp_path)
        began = time.monotonic()
        with pytest.raises(AnotherInstance, match=rf"process {process.pid}.*{tmp_path}"), InstanceLock(tmp_path):
            pytest.fail("two processes hold one lock")
        assert time.monotonic() - began < 1
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        with InstanceLock(tmp_path):
            assert (tmp_path / "instance.lock").read_text().strip() == str(os.getpid())


def test_the_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    """Entering twice in a row works, nested does not, and other folders are other locks."""
    lock = InstanceLock(tmp_path / "new" / "folder")
    for _ in range(2):
        with lock, InstanceLock(tmp_path), pytest.raises(AnotherInstance), InstanceLock(tmp_path / "new" / "folder"):
            pytest.fail("one lock was taken twice")
    assert stat.S_IMODE((tmp_path / "new" / "folder" / "instance.lock").stat().st_mode) == 0o600


def test_a_child_does_not_keep_the_lock_of_its_parent(tmp_path: Path) -> None:
    """A worker that outlives a killed bot must not block its successor."""
    with InstanceLock(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with InstanceLock(tmp_path):
        assert child.poll() is None
    child.kill()
    child.wait()


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    """The message names what to check."""
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match="DATA_DIR"), InstanceLock(tmp_path / "file"):
        pytest.fail("locked a file as a folder")
