"""What every test may lean on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# Examples are reproducible from the printed blob; time is limited by pytest's timeout, not per example.
settings.register_profile("conclave", deadline=None, print_blob=True)
settings.load_profile("conclave")

# A suite that a shell runs in the background is born deaf to Ctrl-C, and so is every program that it starts; the
# journeys press it before the program has taken the signal over.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of recorded market data; a test that asks for it is skipped where there is none."""
    folder = os.environ.get("CONCLAVE_TEST_DATA", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("CONCLAVE_TEST_DATA names no folder with recorded candles")
    return Path(folder)
