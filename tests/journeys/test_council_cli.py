"""`main.py council …`, `llm` and `replay --record` as a user meets them, with every mistake that one can make.

An error is one line that says what to do; nothing ends in a traceback, and no key is ever repeated.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest

from tests.faults.markets import LIVELY, lively, words
from tests.journeys.program import Done, Place
from tests.stand_ins.rehearsal import KEYS, Rehearsal, rehearsal

WHOLE: Final = pytest.mark.skipif(
    "CONCLAVE_FULL_COUNCIL" not in os.environ, reason="every item for every agent: CONCLAVE_FULL_COUNCIL=1"
)
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
        done = place.run("council", "eval", "--candles", candles, "--council", mode, "--record", str(tape))
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
        (("council", "eval", "--candles", "nowhere.parquet", "--funding", "rates.csv"), "--set funding_rate=RATE"),
        (("council", "eval", "--record", "tape.jsonl"), "--candles"),
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


SOME: Final = ("401", "429(600)", "503", "wrong_enum", "html", "hang")
MORE: Final = (
    *("402", "403", "404", "400", "422", "500", "bad_model", "bad_key", "ungrounded", "truncated", "nan", "empty"),
    *("safety", "big", "reset"),
)


@pytest.mark.slow
@pytest.mark.parametrize("item", [*SOME, *(pytest.param(item, marks=WHOLE) for item in MORE)])
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


def test_the_doctor_with_nobody_there(place: Place) -> None:
    """A closed port is no traceback either, and costs nothing."""
    url = "http://127.0.0.1:9"
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


@pytest.mark.slow
def test_knives_are_no_part_of_a_grade(place: Place, tmp_path: Path) -> None:
    """The first guard rejects them before any council: they are counted, and nobody takes them."""
    argv = ("eval", "--candles", str(lively(tmp_path, 900)), *words(LIVELY), "--council", "rules")
    sharp = ("--set", "knife_lookback=1", "--set", "knife_atr=0.2", "--set", "bb_std=1")
    blunt = ("--set", "knife_lookback=1", "--set", "knife_atr=1000", "--set", "bb_std=1")
    grade, whole = (the_object(place.run("council", *argv, *more, "--json", seconds=90)) for more in (sharp, blunt))
    assert grade["guarded"] > 0
    assert (whole["guarded"], whole["unheard"], grade["unheard"]) == (0, 0, 0)
    assert grade["candidates"] + grade["guarded"] == whole["candidates"]
    off = next(arm for arm in grade["arms"] if arm["name"] == "off")
    assert (off["approved"], off["vetoed"]) == (grade["ended"], 0)
    text = place.run("council", *argv, *sharp, seconds=90)
    assert f"{grade['guarded']:,} more take no part" in text.out


# ---- models on files -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Exam:
    """Candles before the models; `deaf` is the same folder without a key and without an address."""

    place: Place
    deaf: Place
    argv: tuple[str, ...]
    tape: Path

    def strict(self, *more: str) -> Done:
        """The models are asked."""
        return self.place.run("council", *self.argv, "--council", "strict", *more, seconds=120)

    def played(self, **env: str) -> dict[str, Any]:
        """What the recording comes to without anybody to ask."""
        deaf = replace(self.deaf, env=env)
        done = deaf.run("council", *self.argv, "--council", str(self.tape), "--json", seconds=90)
        assert done.code == 0, done.err
        return dict(json.loads(done.out))

    def allow(self, tokens: int) -> None:
        """Caps of a day."""
        config = json.loads((Path(__file__).parents[2] / "config.json").read_text())
        config["council"] |= {"daily_tokens": tokens, "daily_usd": 1000.0}
        (self.place.folder / "config.json").write_text(json.dumps(config))


@pytest.fixture
def exam(rehearsed: Place) -> Exam:
    """Forty candidates or so with enough history, under caps that are none."""
    argv = ("eval", "--candles", str(lively(rehearsed.folder, 320)), *words(LIVELY))
    deaf = Place(folder=rehearsed.folder)
    found = Exam(place=rehearsed, deaf=deaf, argv=argv, tape=rehearsed.folder / "tape.jsonl")
    found.allow(1_000_000_000)
    return found


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_recorded_grade_is_the_same_without_a_server(exam: Exam, server: Rehearsal) -> None:
    """Byte for byte, also where shadow is the mode of the bot: a recording is of the models."""
    server.perform({"any": ["good*9", "wrong_enum*2", "empty*2", "503*2"]})
    done = exam.strict("--record", str(exam.tape), "--json")
    assert done.code == 0, done.err
    unsaid(done)
    grade, asked = json.loads(done.out), len(server.log)
    assert asked > 60
    assert (grade["council"], grade["unheard"]) == ("strict", 0)
    assert exam.played() == exam.played(COUNCIL_MODE="shadow") == grade
    assert len(server.log) == asked
    again = exam.strict("--record", str(exam.tape), "--json")
    assert json.loads(again.out) == grade
    assert len(server.log) == asked
    assert " 0 questions to models" in again.err


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_cassette_of_a_replay_is_no_cassette_for_a_grade(exam: Exam) -> None:
    """It asks about other candidates, on another account: how to make one that fits is said."""
    tape, (_, *candles) = str(exam.tape), exam.argv
    done = exam.place.run("replay", *candles, "--council", "strict", "--record", tape, "--json", seconds=120)
    assert done.code == 0, done.err
    refused(exam.deaf.run("council", *exam.argv, "--council", tape), 2, "council eval or replay", "--record FILE")


@pytest.mark.slow
def test_a_list_that_the_day_does_not_allow(exam: Exam, server: Rehearsal) -> None:
    """It is refused before anybody is asked, with what it would take; nothing is written."""
    exam.allow(30_000)
    refused(exam.strict("--record", str(exam.tape)), 2, "30,000 tokens are left", "council.daily_tokens", "rules")
    assert server.log == []
    assert not exam.tape.exists()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_budget_that_ends_on_the_way(exam: Exam, server: Rehearsal) -> None:
    """Whoever was heard is graded, nobody else is a veto; the same command goes on where it ended."""
    exam.allow(1)
    found = re.search(r"about [\d.]+ USD and ([\d,]+) tokens", exam.strict().err)
    assert found
    exam.allow(int(found[1].replace(",", "")) + 1_000)  # what the last questions might come to is more
    done = exam.strict("--record", str(exam.tape), "--json")
    assert done.code == 0, done.err
    grade = json.loads(done.out)
    assert grade["unheard"] > 0
    assert all(agent["statuses"]["SKIPPED_BUDGET"] == 0 for agent in grade["agents"])
    heard, whole = grade["candidates"], grade["candidates"] + grade["unheard"]
    assert f"heard are {heard} of {whole} candidates: today's budget" in done.err
    assert exam.played() == grade
    asked = len(server.log)
    exam.allow(1_000_000_000)
    rest = exam.strict("--record", str(exam.tape), "--json")
    assert json.loads(rest.out)["candidates"] == whole
    assert 0 < len(server.log) - asked <= 3 * grade["unheard"]
    assert exam.played() == json.loads(rest.out)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ctrl_c_keeps_what_was_heard(exam: Exam, server: Rehearsal) -> None:
    """The grade of those who were heard, exit code 1, and a recording that can be played and gone on with."""
    server.perform({"any": ["good*30", "hang*forever"]})
    with exam.place.start("council", *exam.argv, "--council", "strict", "--record", str(exam.tape)) as running:
        running.until(lambda: len(server.log) > 30, 60, "hanging model")
        code, _ = running.leave()
        assert code == 1, running.err
        assert "Traceback" not in running.err
        assert "error: stopped: the same command goes on there" in running.err
        out = running.out
    grade = exam.played()
    assert min(grade["candidates"], grade["unheard"]) > 5
    assert f"Heard are {grade['candidates']} of {grade['candidates'] + grade['unheard']}: stopped" in out


@pytest.mark.slow
def test_a_grade_fits_a_terminal(exam: Exam) -> None:
    """80 columns, and everything that an owner asks: how many more, how often they fail, how fast, at what price."""
    done = exam.strict()
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    figures = ("invalid", "timeout", "p95", "p(win)", "a decision", "a month", "at random")
    for said in ("insufficient evidence", "without every agent's answer: ABSTAIN", *figures):
        assert said in done.out, said


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_questions_without_an_answer_are_not_recorded(exam: Exam) -> None:
    """A run whose budget ends: what nobody was asked is left out of its cassette, and counted."""
    exam.allow(40_000)
    _, *candles = exam.argv
    argv = (*candles, "--council", "strict", "--speed", "0", "--no-dashboard")
    done = exam.place.run("run", *argv, seconds=120)
    assert done.code == 0, done.err[-2000:]
    told = exam.place.run("council", "record", "--out", str(exam.tape))
    assert (told.code, told.err) == (0, "")
    assert "left out" in told.out
    statuses = {json.loads(line)["status"] for line in exam.tape.read_text().splitlines()}
    assert statuses == {"OK"}


def opened(folder: Path) -> None:
    """The chart is a picture and the workbook has sheets."""
    import openpyxl  # type: ignore[import-untyped]
    from PIL import Image

    with Image.open(folder / "council.png") as picture:
        assert picture.size > (300, 200)
    (book,) = folder.glob("*.xlsx")
    sheets = openpyxl.load_workbook(book, read_only=True).sheetnames
    assert sheets
