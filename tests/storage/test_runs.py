"""The runs of the laboratory: what was found comes back as it was, and what is gone is not made up."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from storage.database import Database, open_database
from storage.runs import CHART, VERSION, WORKBOOK, Identity, Run, Runs, UnreadableFinding, decode, encode
from storage.trials import Tried, trials
from trading.errors import Transient
from trading.laboratory import Finding, Study, Verdict
from trading.model import millis

NOW = datetime(2026, 7, 21, 12, tzinfo=UTC)
DAY = 86_400_000
STUDY = Study(
    kind="optimize",
    symbol="BTCUSDT",
    interval=15,
    days=365,
    strategy="ema_trend",
    values={"ema_period": 200.0, "risk_per_trade": 0.01, "funding_rate": -0.0001},
    grid=(("ema_period", (100.0, 200.0)), ("adx_min", (15.0, 20.0, 25.0))),
    objective="calmar",
    folds=4,
)
FINDING = Finding(
    study=STUDY,
    verdict=Verdict(word="NOT PROVEN", reasons=("41 trades (<100)", "the costs take 63% of the gross profit")),
    metrics={"total_return": 0.1 + 0.2, "sharpe": None, "trades": 41},
    hold_return=-0.25,
    hold_drawdown=0.5,
    gross=123.4,
    fees=1e-17,
    funding=-0.0,
    slippage=3.0,
    out_of_sample=None,
    trials=6,
    first=1_700_000_000_000,
    last=1_700_000_000_000 + 365 * DAY,
    bars=35_040,
    params_fingerprint="a91f" * 16,
    data_fingerprint="7c02" * 16,
    made_up=True,
    seconds=3.25,
    chosen={"ema_period": 100.0},
    rows=(({"ema_period": 100.0, "fold": 1}, {"sharpe": 1.5, "calmar": None, "trades": 7}), ({}, {})),
)
ASKED = Identity(question="q", source="s", params="p", sets=6, lineage="exchange")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "research"


@pytest.fixture
def runs(db: Database, folder: Path) -> Runs:
    return Runs(db, folder)


async def added(runs: Runs, finding: Finding = FINDING, asked: Identity = ASKED, *, ended: datetime = NOW) -> int:
    """A run whose files say which it is."""
    return await runs.add(finding, asked, ended=ended, chart=b"png " + asked.question.encode(), workbook=b"xlsx")


def row_counts(db: Database) -> Any:
    return db.write(lambda connection: connection.exec_driver_sql("SELECT count(*) FROM runs").scalar())


# ---- findings as JSON --------------------------------------------------------------------------------------------

numbers = st.floats(allow_nan=False, allow_infinity=False)
names = st.text(max_size=8)
moments = st.integers(0, 2**50)
metrics = st.dictionaries(names, st.none() | numbers | st.integers(-(2**60), 2**60), max_size=4)
studies = st.builds(
    Study,
    kind=st.sampled_from(("backtest", "optimize", "walkforward")),
    symbol=names,
    interval=st.integers(1, 10_000),
    days=st.none() | st.integers(1, 10_000),
    strategy=names,
    values=st.dictionaries(names, numbers, max_size=4),
    grid=st.lists(st.tuples(names, st.lists(numbers, max_size=3).map(tuple)), max_size=3).map(tuple),
    objective=names,
    folds=st.integers(0, 20),
)
findings = st.builds(
    Finding,
    study=studies,
    verdict=st.builds(
        Verdict, word=st.sampled_from(("PROVEN", "NOT PROVEN", "LOSES")), reasons=st.lists(names, max_size=3).map(tuple)
    ),
    metrics=metrics,
    **dict.fromkeys(("hold_return", "hold_drawdown", "gross", "fees", "funding", "slippage", "seconds"), numbers),
    out_of_sample=st.none() | numbers,
    **dict.fromkeys(("trials", "first", "last", "bars"), moments),
    params_fingerprint=names,
    data_fingerprint=names,
    made_up=st.booleans(),
    chosen=st.dictionaries(names, numbers, max_size=3),
    rows=st.lists(
        st.tuples(st.dictionaries(names, st.none() | st.booleans() | numbers | names, max_size=3), metrics), max_size=3
    ).map(tuple),
    cached=st.booleans(),
)


@hypothesis(max_examples=200)
@given(finding=findings)
def test_a_finding_comes_back_as_it_was(finding: Finding) -> None:
    """Every number, every None, every type."""
    back = decode(encode(finding))
    assert back == finding
    assert repr(back) == repr(finding)  # 1 is not 1.0, and -0.0 is not 0.0


def test_other_mappings_and_numbers_of_numpy_are_stored_as_what_they_are() -> None:
    """Nobody has to convert what a kernel has counted."""
    counted: dict[str, Any] = {"trials": np.int64(7), "made_up": np.bool_(True)}
    odd = replace(
        FINDING,
        **counted,
        metrics=MappingProxyType({"sharpe": np.float64(1.5)}),
        study=replace(STUDY, values=MappingProxyType(dict(STUDY.values))),
    )
    assert decode(encode(odd)) == replace(FINDING, trials=7, metrics={"sharpe": 1.5})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """Undefined is None, never a number that is none."""
    with pytest.raises(UnreadableFinding):
        encode(replace(FINDING, metrics={"sharpe": value}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"study": 1}', encode(FINDING)[:-1] + ',"more":1}', "NaN"])
def test_what_does_not_fit_is_refused(text: str) -> None:
    """Half a finding is none."""
    with pytest.raises(UnreadableFinding):
        decode(text)


def test_fields_added_later_read_as_their_defaults() -> None:
    """An older row stays readable."""
    raw = json.loads(encode(FINDING))
    del raw["cached"], raw["rows"], raw["chosen"]
    with pytest.raises(UnreadableFinding):
        decode(json.dumps(raw | {"study": {}}))
    raw["rows"] = []
    assert decode(json.dumps(raw)) == replace(FINDING, rows=(), chosen={})


# ---- runs --------------------------------------------------------------------------------------------------------


async def test_runs_are_numbered_from_one(runs: Runs) -> None:
    """The list has the newest first, with the moment at which each ended."""
    assert [await added(runs, ended=NOW + timedelta(minutes=each)) for each in range(3)] == [1, 2, 3]
    assert await runs.last(2) == [(3, millis(NOW) + 120_000, FINDING), (2, millis(NOW) + 60_000, FINDING)]
    assert await runs.finding(1) == FINDING
    for unknown in (0, -1, 4, 1 << 70):
        assert await runs.finding(unknown) is None


async def test_an_empty_laboratory_knows_nothing(runs: Runs) -> None:
    """Nothing is made up, and no folder is made."""
    assert await runs.last(10) == []
    assert await runs.known(ASKED) is None
    assert await runs.tried("BTCUSDT", 15, "exchange") == ()


async def test_the_newest_answer_to_a_question_is_known(runs: Runs) -> None:
    """With its files; another question, and the same one about other bars, are not."""
    await added(runs)
    await added(runs, asked=replace(ASKED, question="another"))
    number = await added(runs, replace(FINDING, seconds=1.0))
    known = await runs.known(ASKED)
    assert known == Run(
        number=number, ended=millis(NOW), finding=replace(FINDING, seconds=1.0), chart=b"png q", workbook=b"xlsx"
    )
    assert await runs.known(replace(ASKED, source="other bars")) is None
    assert await runs.known(replace(ASKED, question="third")) is None


@pytest.mark.parametrize("name", [CHART, WORKBOOK])
@pytest.mark.parametrize("gone", [True, False])
async def test_a_run_without_its_files_is_history(runs: Runs, folder: Path, name: str, gone: bool) -> None:
    """One file that is away, or empty after the power was."""
    number = await added(runs)
    file = folder / str(number) / name
    file.unlink() if gone else file.write_bytes(b"")
    assert await runs.known(ASKED) is None
    assert await runs.finding(number) == FINDING
    again = await added(runs)
    assert again == number + 1
    assert (await runs.known(ASKED)) is not None


async def test_files_come_whole(runs: Runs, folder: Path) -> None:
    """A folder appears with both files in it; nothing else lies about, and it is nobody else's to read."""
    await added(runs)
    assert sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*")) == [
        "1",
        "1/chart.png",
        "1/workbook.xlsx",
    ]
    assert (folder / "1").stat().st_mode & 0o077 == 0


async def test_files_of_a_database_that_is_no_more_are_replaced(runs: Runs, folder: Path) -> None:
    """The folder may outlive the database."""
    (folder / "1").mkdir(parents=True)
    (folder / "1" / CHART).write_bytes(b"old")
    await added(runs)
    known = await runs.known(ASKED)
    assert known is not None
    assert known.chart == b"png q"


async def test_old_files_go_and_the_runs_stay(db: Database, folder: Path) -> None:
    """So do folders that an earlier end has left half made, and nothing that is not ours."""
    runs = Runs(db, folder, keep=3)
    for name, age in ((".new-left", 7200), (".new-now", 0)):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (folder.stat().st_mtime - age,) * 2)
    (folder / "notes.txt").write_text("mine")
    for _ in range(5):
        await added(runs)
    assert {each.name for each in folder.iterdir()} == {"3", "4", "5", ".new-now", "notes.txt"}
    assert len(await runs.last(10)) == 5


async def test_a_disk_that_refuses_keeps_nothing(db: Database, folder: Path) -> None:
    """Said in one line; no row, no half a folder."""
    folder.write_text("a file is in the way")
    with pytest.raises(Transient, match="DATA_DIR"):
        await added(Runs(db, folder))
    assert await row_counts(db) == 0


async def test_a_database_that_refuses_leaves_no_files(db: Database, runs: Runs, folder: Path) -> None:
    """Neither a run nor half of one."""
    await db.write(lambda connection: connection.exec_driver_sql("DROP TABLE runs"))
    with pytest.raises(Transient):
        await added(runs)
    assert list(folder.iterdir()) == []


async def test_runs_of_two_writers_do_not_mix(db: Database, runs: Runs, folder: Path) -> None:
    """Each run's files are its own, also with two programs on one database."""
    other = await open_database(db.name)
    questions = [replace(ASKED, question=str(each)) for each in range(8)]
    await asyncio.gather(
        *(added(Runs(other, folder) if place % 2 else runs, asked=each) for place, each in enumerate(questions))
    )
    for each in questions:
        known = await runs.known(each)
        assert known is not None
        assert known.chart == b"png " + each.question.encode()
    await other.close()


async def test_a_finding_of_another_version_is_left_out(db: Database, runs: Runs) -> None:
    """The list goes on without it, and it is no answer."""
    for _ in range(3):
        await added(runs)
    newer = "UPDATE runs SET version = ? WHERE number = 3"
    await db.write(lambda connection: connection.exec_driver_sql(newer, (VERSION + 1,)))
    await db.write(lambda connection: connection.exec_driver_sql("UPDATE runs SET finding = '{}' WHERE number = 2"))
    assert [number for number, _, _ in await runs.last(10)] == [1]
    assert await runs.known(ASKED) is None
    assert await runs.finding(3) is None


# ---- trials ------------------------------------------------------------------------------------------------------


async def test_every_parameter_set_on_these_bars_is_counted_once(runs: Runs) -> None:
    """Also when the bars went on by some days in between; other histories and other bars do not count."""
    first, last = FINDING.first, FINDING.last
    later = replace(FINDING, first=first + DAY, last=last + DAY)
    await added(runs)
    await added(runs, later)
    await added(runs, later, replace(ASKED, params="other", sets=100))
    await added(runs, later, replace(ASKED, params="made up", sets=1000, lineage="synthetic"))
    await added(runs, replace(FINDING, study=replace(STUDY, interval=240)), replace(ASKED, params="long", sets=1000))
    await added(runs, replace(FINDING, study=replace(STUDY, symbol="ETHUSDT")), replace(ASKED, params="eth", sets=1))
    assert await runs.trials("BTCUSDT", 15, "exchange", first, last) == 106
    assert await runs.trials("BTCUSDT", 15, "exchange", first, first) == 6
    assert await runs.trials("BTCUSDT", 15, "exchange", last + 2 * DAY, last + 3 * DAY) == 0
    assert await runs.trials("BTCUSDT", 240, "exchange", first, last) == 1000


def test_a_group_that_grew_counts_with_its_largest_size() -> None:
    """The same fingerprint is the same group."""
    before = [Tried("a", 5, 0, 10), Tried("a", 7, 5, 20), Tried("b", 1, 21, 30)]
    assert trials(before, 0, 20) == 7
    assert trials(before, 20, 21) == 8
    assert trials([], 0, 1) == 0
