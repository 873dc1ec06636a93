"""A database of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.database import Database, open_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the test's database is."""
    return tmp_path / "conclave.db"


@pytest.fixture
async def db(path: Path) -> AsyncIterator[Database]:
    """An open, empty database."""
    database = await open_database(path)
    yield database
    await database.close()
