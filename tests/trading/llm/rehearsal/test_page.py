"""docs/rehearsal.md says what the server does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.trading.llm.rehearsal.talk import rehearsing
from trading.llm.rehearsal.items import KINDS, item_of
from trading.llm.rehearsal.script import PLAIN, Script
from trading.llm.rehearsal.temperament import TEMPERAMENTS

PAGE = (Path(__file__).parents[4] / "docs" / "rehearsal.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
ROWS = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
FIRST_COLUMN = [cell for row in ROWS for cell in re.findall(r"`(.*?)`", row)]


def test_every_item_stands_in_a_table() -> None:
    """And every table names items that are there."""
    assert {re.split(r"\W", cell)[0] for cell in FIRST_COLUMN} == set(KINDS)


@pytest.mark.parametrize("source", SCRIPTS)
def test_every_script_of_the_page_is_one(source: str) -> None:
    """Read as the program reads it."""
    assert Script.of(json.loads(source)).left() or "temperament" in source


def test_every_written_item_of_the_page_is_one() -> None:
    """Those with options too, numbers standing for N."""
    written = [cell for cell in re.findall(r"`(\w+\([^`]*\))`", PAGE) if cell != "NAME(VALUE)" and "option" not in cell]
    assert len(written) >= 8
    for cell in written:
        assert item_of(cell.replace("N)", "7)")).name in KINDS


def test_whom_a_script_is_for_and_every_temperament_are_named() -> None:
    """Nothing that can be said is left out."""
    assert not [name for name in (*PLAIN, *TEMPERAMENTS) if f"`{name}`" not in PAGE]


async def test_every_address_of_the_page_answers() -> None:
    """Each of the curl lines, against a running server."""
    lines = re.findall(r"curl (-X POST )?http://127\.0\.0\.1:8790/rehearsal/(\w+)(?: -d '(.*)')?", PAGE)
    assert len(lines) == PAGE.count("curl ")
    async with rehearsing() as (_, caller):
        for posted, path, data in lines:
            method = "POST" if posted or data else "GET"
            status, _answer = await caller.control(method, path, json.loads(data) if data else None)
            assert status == 200
