"""`main.py council …`, `llm` and `replay --record` as a user meets them, with every mistake that one can make.

An error is one line that says what to do; nothing ends in a traceback, and no key is ever repeated.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.markets import LIVELY, lively, words
from tests.journeys.program import Done, Place
from tests.stand_ins.rehearsal import KEYS, Rehearsal, rehearsal

ENOUGH: Final = 320  # bars: the council is heard from the two hundredth on
SHORT: Final = {"agent_seconds": 1.5, "attempt_seconds": 1.5, "council_seconds": 3.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """The stand-in, for everybody here."""
    with rehearsal(tmp_path_factory.mktemp("models")) as running:
        yield running


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A folder in which nothing has happened yet, without keys."""
    return Place(folder=tmp_path)


@pytest.fixture
def rehearsed(place: Place, server: Rehearsal) -> Place:
    """The same with the stand-in as the models."""
    server.reset()
    return replace(place, env=server.env)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory, server: Rehearsal) -> Place:
    """A folder in which a whole run has been before the models."""
    server.reset()
    folder = tmp_path_factory.mktemp("traded")
    place = Place(folder=folder, env=server.env)
    argv = ("--candles", str(lively(folder, ENOUGH)), *words(LIVELY), "--council", "strict")
    done = place.run("run", *argv, "--speed", "0", "--no-dashboard", seconds=120)
    assert done.code == 0, done.err[-2000:]
    return place


def refused(done: Done, code: int, *said: str) -> None:
    """That exit code, nothing on stdout, one line that holds these words, and no key in it."""
    assert (done.code, done.out) == (code, ""), f"{done.code}: {done.out[-500:]}{done.err[-2000:]}"
    (line,) = done.said
    assert line.startswith("error: ")
    for text in said:
        assert text in line, line
    unsaid(done)


def unsaid(done: Done) -> None:
    """No key in either stream."""
    for text in KEYS.values():
        for key in text.split(","):
            assert key not in done.out + done.err
            assert key[5:-4] not in done.out + done.err


def the_object(done: Done) -> dict[str, Any]:
    """One JSON object on stdout and nothing on stderr."""
    assert (done.code, done.err) == (0, ""), done.err[-2000:]
    found = json.loads(done.out)
    assert isinstance(found, dict)
    unsaid(done)
    return found


# ---- mistakes ------------------------------------------------------------------------------------


def test_a_council_that_is_none(place: Place, tmp_path: Path) -> None:
    """A mode that is none names the nearest, one that needs models says what is missing."""
    candles = str(lively(tmp_path, 60))
    for command in ("replay", "run"):
        refused(place.run(command, "--candles", candles, "--council", "nonsense"), 2, "no mode", "strict")
        refused(place.run(command, "--candles", candles, "--council", "strct"), 2, "did you mean strict?")
        refused(place.run(command, "--candles", candles, "--council", str(tmp_path)), 2, "no file")
        for mode, missing in (("strict", "HF_TOKEN"), ("degraded", "GEMINI_API_KEY"), ("shadow", "HF_TOKEN")):
            refused(place.run(command, "--candles", candles, "--council", mode), 2, f"--council {mode}", missing)


def test_nothing_to_record(place: Place, rehearsed: Place, tmp_path: Path) -> None:
    """Rules say nothing worth a cassette, and a cassette is not recorded again."""
    candles, tape = str(lively(tmp_path, 60)), tmp_path / "tape.jsonl"
    for mode in ("rules", "off"):
        done = place.run("replay", "--candles", candles, "--council", mode, "--record", str(tape))
        refused(done, 2, "--record", mode)
    assert not tape.exists()
    unwritable = rehearsed.run("replay", "--candles", candles, "--council", "strict", "--record", "no/such/folder")
    refused(unwritable, 2, "cannot be written")


def test_nothing_decided_yet(place: Place, tmp_path: Path) -> None:
    """Grade, decision and cassette of a database in which nothing has happened."""
    for words_ in (("eval",), ("eval", "--json"), ("show", "1"), ("record", "--out", str(tmp_path / "tape.jsonl"))):
        refused(place.run("council", *words_), 2, "nothing has been decided")
    assert not (tmp_path / "tape.jsonl").exists()


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("council",), "task"),
        (("council", "evil"), "eval"),
        (("council", "show"), "ID"),
        (("council", "show", "one"), "one"),
        (("council", "record"), "--out"),
        (("council", "eval", "--candles", "nowhere.parquet"), "nowhere.parquet"),
        (("council", "eval", "--council", "nonsense", "--candles", "nowhere.parquet"), "nowhere.parquet"),
        (("llm",), "--port"),
        (("llm", "--port", "many"), "--port"),
        (("llm", "--port", "70000"), "--port 70000"),
        (("llm", "--port", "0", "--script", "nowhere.json"), "nowhere.json"),
    ],
)
def test_words_that_are_none(place: Place, argv: tuple[str, ...], said: str) -> None:
    """Every one is a line that names what is wrong."""
    refused(place.run(*argv), 2, said)


def test_a_script_that_is_none(place: Place) -> None:
    """What is wrong with it is said with the nearest name that there is."""
    scripts = {"[": "JSON", '["gud"]': "good", '{"quint": ["good"]}': "quant", '"good*-1"': "good", "3": "item"}
    for script, said in scripts.items():
        (place.folder / "script.json").write_text(script)
        refused(place.run("llm", "--port", "0", "--script", "script.json", seconds=20), 2, said)


def test_a_port_that_is_taken(place: Place) -> None:
    """Somebody else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refused(place.run("llm", "--port", port), 2, f"--port {port}", "in use")


@pytest.mark.parametrize("name", ["HF_TOKEN", "GEMINI_API_KEY", "KEY_FILE"])
def test_a_key_that_is_none(place: Place, name: str) -> None:
    """Its place is named, its text is not."""
    secret = "hf_a secret that nobody may see"
    (place.folder / "keys.txt").write_text(f"{secret}\\n")
    value = "keys.txt" if name == "KEY_FILE" else secret
    done = replace(place, env={name: value}).run("council", "doctor")
    assert (done.code, done.out) == (78, ""), done.err
    assert name in done.err
    assert "secret" not in done.err


# ---- the doctor ----------------------------------------------------------------------------------


def test_the_doctor_without_keys(place: Place) -> None:
    """The rules are examined, and are well."""
    done = place.run("council", "doctor")
    assert (done.code, done.err) == (0, ""), done.err
    found = the_object(place.run("council", "doctor", "--mirror", "--json"))
    assert found["ok"] is True
    assert found["findings"]


def test_the_doctor_with_models(rehearsed: Place) -> None:
    """All three answer; what it took and cost is said."""
    done = rehearsed.run("council", "doctor", "--mirror")
    assert done.code == 0, done.out + done.err
    unsaid(done)


@pytest.mark.slow
@pytest.mark.parametrize(
    "item",
    [
        *("401", "402", "403", "404", "400", "422", "429(600)", "500", "503", "bad_model", "bad_key"),
        *("wrong_enum", "ungrounded", "truncated", "nan", "empty", "html", "safety", "big", "reset", "hang"),
    ],
)
def test_the_doctor_finds_it(rehearsed: Place, server: Rehearsal, item: str) -> None:
    """Exit code 1, a line that says what is wrong, no traceback, no key; in JSON the same."""
    config = json.loads((Path(__file__).parents[2] / "config.json").read_text())
    (rehearsed.folder / "config.json").write_text(json.dumps({**config, "council": {**config["council"], **SHORT}}))
    server.perform({"any": [f"{item}*forever"]})
    done = rehearsed.run("council", "doctor", seconds=60)
    assert done.code == 1, done.out + done.err
    assert "Traceback" not in done.err
    unsaid(done)
    assert [line for line in done.out.splitlines() if not line.startswith("ok")]
    told = rehearsed.run("council", "doctor", "--json", seconds=60)
    assert told.code == 1
    assert json.loads(told.out)["ok"] is False


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:1/v1"])
def test_the_doctor_with_nobody_there(place: Place, url: str) -> None:
    """A closed port is no traceback either."""
    env = {"HF_BASE_URL": url, "GEMINI_BASE_URL": url, **KEYS}
    done = replace(place, env=env).run("council", "doctor", seconds=90)
    assert done.code == 1, done.out + done.err
    assert "Traceback" not in done.err
    unsaid(done)


# ---- a decision, a grade, a cassette -------------------------------------------------------------


@pytest.mark.slow
def test_a_decision_is_shown(traded: Place) -> None:
    """From the packets to the order; an id that is none is said."""
    shown = the_object(traded.run("council", "show", "1", "--json"))
    text = traded.run("council", "show", "1")
    assert (text.code, text.err) == (0, "")
    unsaid(text)
    assert shown
    for number in ("999999", "0", "-1"):
        done = traded.run("council", "show", number)
        assert (done.code, done.out) == (2, ""), done.err
        assert len(done.said) == 1


@pytest.mark.slow
def test_a_number_beyond_every_database(traded: Place) -> None:
    """It is an unknown decision like any other."""
    done = traded.run("council", "show", "99999999999999999999999")
    assert (done.code, done.out, len(done.said)) == (2, "", 1), done.err[-500:]


@pytest.mark.slow
def test_what_was_decided_is_graded(traded: Place, tmp_path: Path) -> None:
    """The run's own candidates, with the chart and the workbook."""
    done = traded.run("council", "eval", "--json", "--out", str(tmp_path / "grade"), seconds=90)
    assert done.code == 0, done.err
    grade = json.loads(done.out)
    assert grade["candidates"] > 10
    assert grade["council"] == "strict"
    assert grade["word"]
    opened(tmp_path / "grade")


@pytest.mark.slow
def test_a_council_is_graded_on_files(place: Place, tmp_path: Path) -> None:
    """Made-up candles before the rules: a word and its reason, as text and as an object."""
    argv = ("eval", "--candles", str(lively(tmp_path, 900)), *words(LIVELY), "--council", "rules")
    grade = the_object(place.run("council", *argv, "--json", seconds=90))
    assert grade["candidates"] > 50
    text = place.run("council", *argv, seconds=90)
    assert text.code == 0
    assert grade["word"] in text.out.splitlines()[0]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_recorded_candles_are_graded(test_data: Path, place: Place, tmp_path: Path) -> None:
    """Six years of two markets in bars of four hours: a thousand candidates at least, and an honest word."""
    folder = test_data / "binance-perp"
    files = [str(next(folder.glob(f"{symbol}-1h-*.parquet"))) for symbol in ("BTCUSDT", "ETHUSDT")]
    argv = ("--candles", *files, "--interval", "240", "--council", "rules", "--out", str(tmp_path / "grade"))
    done = place.run("council", "eval", *argv, "--json", seconds=280)
    assert done.code == 0, done.err
    grade = json.loads(done.out)
    assert grade["candidates"] >= 1000
    assert grade["word"].startswith(("helps", "hurts", "insufficient evidence"))
    opened(tmp_path / "grade")


def opened(folder: Path) -> None:
    """The chart is a picture and the workbook has sheets."""
    import openpyxl  # type: ignore[import-untyped]
    from PIL import Image

    with Image.open(folder / "council.png") as picture:
        assert picture.size > (300, 200)
    (book,) = folder.glob("*.xlsx")
    sheets = openpyxl.load_workbook(book, read_only=True).sheetnames
    assert sheets
