"""What a user gets wrong: each is one clear line on stderr, the contract's exit code, and nothing else.

A line names the thing that is wrong. There is no traceback, nothing on stdout, and no secret anywhere.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.journeys.program import Done, Place, in_process
from tests.structure import ROOT

START = 1_700_006_400_000  # a bar's opening, at midnight UTC
HOUR = 3_600_000
SECRET = "424242:AAF-this_is_a_secret_of_mine_0001"
INPUT, BUSY, CONFIG, ELSE = 2, 75, 78, 1

Prepare = Callable[[Path], object]


def bars(rows: int = 40, *, spacing: int = HOUR) -> pd.DataFrame:
    """Sound bars."""
    price = 1000 + 10 * np.sin(np.arange(rows) / 3)
    return pd.DataFrame(
        {
            "timestamp": START + np.arange(rows, dtype=np.int64) * spacing,
            "open": price,
            "high": price + 5,
            "low": price - 5,
            "close": price + 1,
            "volume": 10.0,
        }
    )


def file(name: str = "bars.csv", change: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> Prepare:
    """Sound bars, then one thing done to them."""

    def prepare(folder: Path) -> None:
        table = bars() if change is None else change(bars())
        path = folder / name
        if path.suffix == ".parquet":
            table.to_parquet(path, index=False)
        else:
            table.to_csv(path, index=False)

    return prepare


def cell(row: int, column: str, value: float) -> Prepare:
    """Sound bars but for one cell."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        table[column] = table[column].astype("float64") if column != "timestamp" else table[column]
        table.loc[row, column] = value
        return table

    return file(change=change)


def content(name: str, data: bytes) -> Prepare:
    """A file that holds these bytes."""
    return lambda folder: (folder / name).write_bytes(data)


def config(path: str, value: object) -> Prepare:
    """The program's own config.json but for one value; `path` may name what is not there."""

    def prepare(folder: Path) -> None:
        whole: Any = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
        *groups, name = path.split(".")
        inner = whole
        for group in groups:
            inner = inner[group]
        inner[name] = value
        (folder / "config.json").write_text(json.dumps(whole), encoding="utf-8")

    return prepare


def env_file(*lines: str) -> Prepare:
    """A .env of these lines."""
    return lambda folder: (folder / ".env").write_text("\n".join([*lines, ""]), encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One wrong thing: what is asked, the exit code, and the words that the one line must hold."""

    argv: tuple[str, ...]
    code: int
    names: tuple[str, ...]
    prepare: tuple[Prepare, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    lines: int = 1


REPLAY = ("replay", "--candles", "bars.csv")
RUN = ("run", "--no-dashboard", "--speed", "0", "--json", "--candles", "bars.csv")


def candles(*names: str, prepare: Prepare, path: str = "bars.csv") -> Case:
    """A candle file that `replay` refuses."""
    return Case(argv=("replay", "--candles", path), code=INPUT, names=(path, *names), prepare=(prepare,))


def setting(item: str, *names: str) -> Case:
    """A `--set` that is refused."""
    return Case(argv=(*REPLAY, "--set", item), code=INPUT, names=names, prepare=(file(),))


def option(*words: str, names: tuple[str, ...], code: int = INPUT) -> Case:
    """Arguments that are refused beside a sound file."""
    return Case(argv=(*REPLAY, *words), code=code, names=names, prepare=(file(),))


def configured(path: str, value: object, *names: str) -> Case:
    """A config.json that is refused."""
    return Case(argv=REPLAY, code=CONFIG, names=names, prepare=(file(), config(path, value)))


def environment(name: str, value: str, *names: str) -> Case:
    """A variable that is refused; its name stands in the line."""
    return Case(argv=REPLAY, code=CONFIG, names=(name, *names), prepare=(file(),), env={name: value})


def two(table: Callable[[], pd.DataFrame], first: str, second: str) -> tuple[Prepare, ...]:
    """Two files, the second of other bars."""
    return (file(first), lambda folder: table().to_csv(folder / second, index=False))


def database(folder: Path) -> None:
    """A sound database in the place's data folder."""
    (folder / "data").mkdir()
    done = Place(folder=folder).run("db", "migrate")
    assert done.code == 0, done.err


QUICK: dict[str, Case] = {
    # candle files
    "missing file": Case(argv=("replay", "--candles", "nope.csv"), code=INPUT, names=("nope.csv", "does not exist")),
    "directory": candles("directory", prepare=lambda folder: (folder / "bars.csv").mkdir()),
    "empty file": candles("empty", prepare=content("bars.csv", b"")),
    "only a header": candles("no rows", prepare=content("bars.csv", b"timestamp,open,high,low,close,volume\n")),
    "corrupt parquet": candles(
        "Parquet", path="bars.parquet", prepare=content("bars.parquet", b"PAR1 not really PAR1")
    ),
    "truncated gzip": candles("gzip", path="bars.csv.gz", prepare=content("bars.csv.gz", b"\x1f\x8b\x08\x00\x00")),
    "text file": candles(".parquet, .csv", path="bars.txt", prepare=content("bars.txt", b"hello")),
    "binary in csv": candles("bars.csv", prepare=content("bars.csv", os.urandom(500))),
    "gap": candles("row 11", "gapped", prepare=file(change=lambda t: t.drop(index=10))),
    "duplicate": candles("row 12", "duplicated", prepare=file(change=lambda t: pd.concat([t[:11], t[10:]]))),
    "unsorted row": candles("row 11", "unsorted", prepare=cell(10, "timestamp", START)),
    "NaN": candles("row 8", "close", prepare=cell(7, "close", float("nan"))),
    "infinite": candles("row 8", "high", prepare=cell(7, "high", float("inf"))),
    "high below close": candles("row 6", "impossible bar", "high", prepare=cell(5, "high", 1.0)),
    "low above open": candles("row 6", "impossible bar", "low", prepare=cell(5, "low", 1012.0)),
    "negative price": candles("row 6", "low", prepare=cell(5, "low", -1.0)),
    "zero price": candles("row 6", "low", prepare=cell(5, "low", 0.0)),
    "negative volume": candles("row 6", "volume", prepare=cell(5, "volume", -1.0)),
    "seconds, not milliseconds": candles(
        "row", prepare=file(change=lambda t: t.assign(timestamp=t["timestamp"] // 1000))
    ),
    "wrong columns": candles(
        "timestamp", "missing", prepare=file(change=lambda t: t.rename(columns={"timestamp": "time"}))
    ),
    "no volume": candles("volume", "missing", prepare=file(change=lambda t: t.drop(columns="volume"))),
    "text in a price": candles("row 1", "close", prepare=file(change=lambda t: t.assign(close="many"))),
    "one row": candles("1 row", prepare=file(change=lambda t: t[:1])),
    "one symbol twice": Case(
        argv=("replay", "--candles", "bars.csv", "more.csv"),
        code=INPUT,
        names=("BTCUSDT", "more than one candle file"),
        prepare=(file(), file("more.csv")),
    ),
    "different bar lengths": Case(
        argv=("replay", "--candles", "BTCUSDT=bars.csv", "--candles", "ETHUSDT=more.csv"),
        code=INPUT,
        names=("bar lengths",),
        prepare=two(lambda: bars(spacing=HOUR // 4), "bars.csv", "more.csv"),
    ),
    "unknown symbol": Case(
        argv=("replay", "--candles", "BTCUSTD=bars.csv"),
        code=INPUT,
        names=("BTCUSTD", "did you mean BTCUSDT?"),
        prepare=(file(),),
    ),
    "unreadable candles": Case(
        argv=("replay", "--candles", "/proc/self/mem.csv"), code=INPUT, names=("/proc/self/mem.csv",)
    ),
    # options
    "no candles": Case(argv=("replay",), code=INPUT, names=("--candles",)),
    "unknown --symbol": option("--symbol", "DOGE", names=("DOGE", "BTCUSDT")),
    "--interval that does not fit": option("--interval", "7", names=("7",)),
    "--interval zero": option("--interval", "0", names=("--interval",)),
    "--interval text": option("--interval", "1h", names=("--interval", "1h")),
    "missing funding": option("--funding", "rates.csv", names=("rates.csv", "does not exist")),
    "--council typo": option("--council", "rulse", names=("rulse", "rules")),
    "--council without keys": option("--council", "strict", names=("strict", "HF_TOKEN", "GEMINI_API_KEY")),
    "--council empty": option("--council", "", names=("--council",)),
    "unknown command": Case(argv=("reply",), code=INPUT, names=("reply",)),
    "unknown option": option("--candels", "x.csv", names=("--candels",)),
    "option without value": option("--council", names=("--council",)),
    "db without task": Case(argv=("db",), code=INPUT, names=("task",)),
    "db with unknown task": Case(argv=("db", "vacuum"), code=INPUT, names=("vacuum", "check")),
    "phone without port": Case(argv=("phone",), code=INPUT, names=("--port",)),
    "phone --port text": Case(argv=("phone", "--port", "http"), code=INPUT, names=("--port", "http")),
    "--speed text": Case(argv=(*RUN, "--speed", "fast"), code=INPUT, names=("--speed", "fast"), prepare=(file(),)),
    "both dashboards": Case(argv=("run", "--dashboard", "--no-dashboard"), code=INPUT, names=("--no-dashboard",)),
    # --set
    "--set misspelt": setting("sl_atr_multipler=3", "sl_atr_multipler", "did you mean sl_atr_multiplier?"),
    "--set unknown": setting("zebra=3", "zebra"),
    "--set text": setting("ema_period=long", "ema_period", "number"),
    "--set fraction for a whole": setting("ema_period=20.5", "ema_period", "whole"),
    "--set negative risk": setting("risk_per_trade=-0.01", "risk_per_trade", "at least 0"),
    "--set nan": setting("risk_per_trade=nan", "risk_per_trade", "finite"),
    "--set inf": setting("leverage=inf", "leverage", "finite"),
    "--set zero leverage": setting("leverage=0", "leverage", "at least 1"),
    "--set without value": setting("leverage=", "leverage", "name=value"),
    "--set without equals": setting("leverage", "leverage", "name=value"),
    "--set zero equity": setting("initial_equity=0", "initial_equity", "greater than 0"),
    "--set zero tick": setting("tick_size=0", "tick_size", "greater than 0"),
    "--set huge period": setting("ema_period=99999999999", "ema_period", "at most"),
    "--set huge ttl": setting("entry_ttl_bars=1e300", "entry_ttl_bars", "too large"),
    "--set twice": Case(
        argv=(*REPLAY, "--set", "leverage=3", "--set", "leverage=4"),
        code=INPUT,
        names=("leverage", "twice"),
        prepare=(file(),),
    ),
    # config.json
    "config: misspelt key": configured("risk.leverge", 3, "risk.leverge", "did you mean leverage?"),
    "config: misspelt group": configured("trailling", {}, "trailling", "did you mean trailing?"),
    "config: text for a number": configured("risk.leverage", "5", "risk.leverage", "number"),
    "config: true for a number": configured("risk.leverage", True, "risk.leverage", "number"),
    "config: list for a group": configured("risk", [1], "risk"),
    "config: null": configured("risk.leverage", None, "risk.leverage"),
    "config: negative risk": configured("risk.risk_per_trade", -0.01, "risk.risk_per_trade", "at least 0"),
    "config: percent for a fraction": configured("risk.risk_per_trade", 2, "risk.risk_per_trade", "fraction"),
    "config: not finite": configured("risk.leverage", float("nan"), "config.json"),
    "config: unknown symbol": configured("symbols", ["BTCUSD"], "symbols", "BTCUSDT"),
    "config: no symbols": configured("symbols", [], "symbols"),
    "config: symbol twice": configured("symbols", ["BTCUSDT", "BTCUSDT"], "symbols"),
    "config: odd timeframe": configured("timeframe", 7, "timeframe"),
    "config: unknown strategy": configured("strategy.name", "ema_trendy", "strategy.name", "ema_trend"),
    "config: unknown council": configured("council.mode", "rule", "council.mode", "rules"),
    "config: negative speed": configured("market.speed", -1, "market.speed"),
    "config: risk above its own limit": configured("risk.risk_per_trade", 0.5, "limits.max_open_risk"),
    "config: three problems at once": Case(
        argv=REPLAY,
        code=CONFIG,
        names=("risk.leverage", "risk.maker_fees", "risk.slippage"),
        prepare=(file(), config("risk", {"leverage": -1, "maker_fees": 0.1, "slippage": "much"})),
        lines=3,
    ),
    "config: invalid JSON": Case(
        argv=REPLAY,
        code=CONFIG,
        names=("config.json", "line 2"),
        prepare=(file(), content("config.json", b'{\n"a": ,}')),
    ),
    "config: empty": Case(
        argv=REPLAY, code=CONFIG, names=("config.json",), prepare=(file(), content("config.json", b""))
    ),
    "config: a list": Case(
        argv=REPLAY, code=CONFIG, names=("config.json",), prepare=(file(), content("config.json", b"[]"))
    ),
    "config: not text": Case(
        argv=REPLAY, code=CONFIG, names=("config.json",), prepare=(file(), content("config.json", b"\xff\xfe\x00{"))
    ),
    "config: a directory": Case(
        argv=REPLAY,
        code=CONFIG,
        names=("config.json",),
        prepare=(file(), lambda folder: (folder / "config.json").mkdir()),
    ),
    "config: a dangling link": Case(
        argv=REPLAY,
        code=CONFIG,
        names=("config.json",),
        prepare=(file(), lambda folder: (folder / "config.json").symlink_to("gone.json")),
    ),
    # the environment
    "port text": environment("PHONE_PORT", "eighty", "digits"),
    "port 99999": environment("PHONE_PORT", "99999", "65535"),
    "EXCHANGE=live without keys": Case(
        argv=REPLAY,
        code=CONFIG,
        names=("BYBIT_KEY", "BYBIT_SECRET", "EXCHANGE=live"),
        prepare=(file(),),
        env={"EXCHANGE": "live"},
        lines=2,
    ),
    "half a key": environment("BYBIT_KEY", "abc", "belong together"),
    "BYBIT_REST_URL in the clear": environment("BYBIT_REST_URL", "http://api.bybit.com", "https"),
    "EXCHANGE typo": environment("EXCHANGE", "papper", "did you mean paper?"),
    "FEED typo": environment("FEED", "synthetik", "did you mean synthetic?"),
    "COUNCIL_MODE unknown": environment("COUNCIL_MODE", "strikt", "rules"),
    "LOG_LEVEL unknown": environment("LOG_LEVEL", "LOUD", "INFO"),
    "TIMEZONE unknown": environment("TIMEZONE", "Europe/Berln", "did you mean Europe/Berlin?"),
    "owner by name": environment("TELEGRAM_OWNER_ID", "@me", "user id"),
    "operators by name": environment("TELEGRAM_OPERATORS", "1,@me", "user id"),
    "token nonsense": environment("TELEGRAM_BOT_TOKEN", "hunter2-hunter2", "bot token"),
    "api url nonsense": environment("TELEGRAM_API_URL", "localhost:8081", "address"),
    "PostgreSQL": environment("DATABASE_URL", f"postgresql://me:{SECRET}@host/db", "not available"),
    "DATABASE_URL nonsense": environment("DATABASE_URL", SECRET, "sqlite:///"),
    "DATA_DIR blank": environment("DATA_DIR", "   ", "blank"),
    "two bad variables": Case(
        argv=REPLAY,
        code=CONFIG,
        names=("PHONE_PORT", "EXCHANGE"),
        prepare=(file(),),
        env={"PHONE_PORT": "-1", "EXCHANGE": "moon"},
        lines=2,
    ),
    ".env: bad value": Case(
        argv=REPLAY, code=CONFIG, names=("LOG_LEVEL",), prepare=(file(), env_file("LOG_LEVEL=loud"))
    ),
    ".env: no assignment": Case(
        argv=REPLAY,
        code=CONFIG,
        names=(".env", "line 2"),
        prepare=(file(), env_file("LOG_LEVEL=INFO", "just words here")),
    ),
    ".env: misspelt name": Case(
        argv=REPLAY,
        code=CONFIG,
        names=("TELEGRAM_BOT_TOKN", "did you mean TELEGRAM_BOT_TOKEN?"),
        prepare=(file(), env_file(f"TELEGRAM_BOT_TOKN={SECRET}")),
    ),
}

NOT_SQLITE = b"this is not a database, it is a text that somebody put here\n" * 100

WHOLE: dict[str, Case] = {
    "run: missing file": Case(argv=(*RUN[:-1], "nope.csv"), code=INPUT, names=("nope.csv", "does not exist")),
    "run: gap": Case(
        argv=RUN, code=INPUT, names=("bars.csv", "gapped"), prepare=(file(change=lambda t: t.drop(index=10)),)
    ),
    "run without its name: unknown option": Case(argv=("--jason",), code=INPUT, names=("--jason",)),
    "FEED=replay without candles": Case(
        argv=("run",), code=INPUT, names=("FEED=replay", "--candles"), env={"FEED": "replay"}
    ),
    "run: EXCHANGE=live with the council off": Case(
        argv=("run", "--council", "off"),
        code=INPUT,
        names=("EXCHANGE=live", "--council off"),
        env={"EXCHANGE": "live", "BYBIT_KEY": "abc", "BYBIT_SECRET": "def"},
    ),
    "run: candles on a real exchange": Case(
        argv=RUN,
        code=INPUT,
        names=("EXCHANGE=demo", "--candles"),
        prepare=(file(),),
        env={"EXCHANGE": "demo", "BYBIT_KEY": "abc", "BYBIT_SECRET": "def"},
    ),
    "exchange: no port": Case(argv=("exchange",), code=INPUT, names=("--port",)),
    "exchange: port 99999": Case(argv=("exchange", "--port", "99999"), code=INPUT, names=("--port 99999",)),
    "exchange: all bars are history": Case(
        argv=("exchange", "--port", "0", "--candles", "bars.csv", "--history", "100000"),
        code=INPUT,
        names=("--history 100000",),
        prepare=(file(),),
    ),
    "run: --speed negative": Case(argv=(*RUN, "--speed", "-1"), code=INPUT, names=("--speed",), prepare=(file(),)),
    "run: --speed nan": Case(argv=(*RUN, "--speed", "nan"), code=INPUT, names=("--speed",), prepare=(file(),)),
    "run: --speed inf": Case(argv=(*RUN, "--speed", "inf"), code=INPUT, names=("--speed",), prepare=(file(),)),
    "run: DATA_DIR is a file": Case(
        argv=RUN, code=CONFIG, names=("DATA_DIR",), prepare=(file(), content("data", b"x"))
    ),
    "run: DATA_DIR under a file": Case(
        argv=RUN,
        code=CONFIG,
        names=("DATA_DIR",),
        prepare=(file(), content("data", b"x")),
        env={"DATA_DIR": "data/deep"},
    ),
    "run: DATA_DIR not writable": Case(
        argv=RUN, code=CONFIG, names=("DATA_DIR",), prepare=(file(),), env={"DATA_DIR": "/proc/no"}
    ),
    "phone: DATA_DIR not writable": Case(
        argv=("phone", "--port", "0"), code=CONFIG, names=("/proc/no",), env={"DATA_DIR": "/proc/no"}
    ),
    "db check: DATA_DIR not writable": Case(
        argv=("db", "check"), code=CONFIG, names=("DATA_DIR",), env={"DATA_DIR": "/proc/no"}
    ),
    "phone --port 99999": Case(argv=("phone", "--port", "99999"), code=INPUT, names=("--port", "99999")),
    "phone --port -1": Case(argv=("phone", "--port", "-1"), code=INPUT, names=("--port", "-1")),
    "db backup without a file": Case(argv=("db", "backup"), code=INPUT, names=("backup", "FILE")),
    "db restore without a file": Case(argv=("db", "restore"), code=INPUT, names=("restore", "FILE")),
    "db backup of nothing": Case(argv=("db", "backup", "copy.db"), code=INPUT, names=("conclave.db",)),
    "db restore of nothing": Case(argv=("db", "restore", "copy.db"), code=INPUT, names=("copy.db",)),
    "db restore of a text": Case(
        argv=("db", "restore", "copy.db"), code=ELSE, names=("copy.db",), prepare=(content("copy.db", NOT_SQLITE),)
    ),
    "db backup into nowhere": Case(
        argv=("db", "backup", "/proc/no/copy.db"),
        code=INPUT,
        names=("/proc/no/copy.db",),
        prepare=(database,),
    ),
    "db backup onto a directory": Case(argv=("db", "backup", "data"), code=INPUT, names=("data",), prepare=(database,)),
}
CORRUPT = ("conclave.db", "exchange-replay.db", "phone.db")


def held(done: Done, case: Case) -> None:
    """Exit code, silence on stdout, one line for each problem, the thing by its name, no secret."""
    assert "Traceback" not in done.err, done.err
    assert done.code == case.code, done.err
    assert done.out == ""
    assert len(done.said) == case.lines, done.err
    assert all(line.startswith("error: ") for line in done.said), done.err
    for name in case.names:
        assert name in done.err
    assert "hunter2" not in done.err
    assert SECRET not in done.err


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A clean folder."""
    return Place(folder=tmp_path)


@pytest.fixture
def same_umask() -> Iterator[None]:
    """The program tightens its umask; the tests after it keep theirs."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


def prepared(case: Case, folder: Path) -> Place:
    """The place of a case, with what it needs."""
    for step in case.prepare:
        step(folder)
    return Place(folder=folder, env=case.env)


@pytest.mark.parametrize("name", QUICK)
def test_refused_before_anything_starts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_umask: None
) -> None:
    """What is wrong with files, options, parameters, config.json and the environment, in this process."""
    place = prepared(QUICK[name], tmp_path)
    for variable in [key for key in os.environ if key.isupper() and key not in {"PATH", "LANG", "HOME"}]:
        if not variable.startswith(("PYTEST", "COV", "PYTHON")):
            monkeypatch.delenv(variable)
    for variable, value in place.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    held(in_process(QUICK[name].argv), QUICK[name])


@pytest.mark.parametrize("name", WHOLE)
def test_refused_by_the_program(name: str, tmp_path: Path) -> None:
    """What only a whole process meets: folders, databases, ports."""
    held(prepared(WHOLE[name], tmp_path).run(*WHOLE[name].argv, seconds=30), WHOLE[name])


@pytest.mark.parametrize("name", ["missing file", "config: negative risk", "port 99999", "unknown command"])
def test_the_same_as_a_process(name: str, tmp_path: Path) -> None:
    """A sample of the quick ones as a user meets them."""
    held(prepared(QUICK[name], tmp_path).run(*QUICK[name].argv, seconds=30), QUICK[name])


def test_sound_input_is_taken(place: Place) -> None:
    """The bars that every case here breaks are sound."""
    file()(place.folder)
    done = place.run("replay", "--candles", "bars.csv", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["candles"]["rows"] == 40


@pytest.mark.parametrize("name", CORRUPT)
def test_a_damaged_store_is_named(name: str, place: Place) -> None:
    """A store that is no database is refused by its path and left as it is."""
    file()(place.folder)
    place.data.mkdir()
    (place.data / name).write_bytes(NOT_SQLITE)
    done = place.run(*RUN, seconds=30)
    code = done.code
    assert code in {ELSE, CONFIG}, done.err
    held(done, Case(argv=RUN, code=code, names=(name,)))
    assert (place.data / name).read_bytes() == NOT_SQLITE


@pytest.mark.parametrize("name", CORRUPT)
def test_a_store_cut_short_is_named(name: str, place: Place) -> None:
    """Half of a real store, as a full disk or a bad copy leaves it."""
    file()(place.folder)
    assert place.run(*RUN).code == 0
    path = place.data / name
    for extra in ("-wal", "-shm"):
        path.with_name(name + extra).unlink(missing_ok=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 100])
    done = place.run(*RUN, seconds=30)
    held(done, Case(argv=RUN, code=ELSE if done.code == ELSE else CONFIG, names=(name,)))


@pytest.mark.parametrize("task", ["check", "migrate"])
def test_db_on_a_damaged_database(task: str, place: Place) -> None:
    """`db` names a file that is no database."""
    place.data.mkdir()
    (place.data / "conclave.db").write_bytes(NOT_SQLITE)
    held(place.run("db", task), Case(argv=("db", task), code=ELSE, names=("conclave.db",)))


def test_restore_of_another_programs_database(place: Place) -> None:
    """A database that is not Conclave's is no backup of it, and the old one stays."""
    import sqlite3

    database(place.folder)
    other = sqlite3.connect(place.folder / "other.db")
    other.execute("CREATE TABLE songs (title TEXT)")
    other.commit()
    other.close()
    before = (place.data / "conclave.db").read_bytes()
    done = place.run("db", "restore", "other.db")
    held(done, Case(argv=(), code=ELSE if done.code == ELSE else INPUT, names=("other.db",)))
    assert (place.data / "conclave.db").read_bytes() == before


@pytest.mark.parametrize("command", ["run", "phone"])
def test_an_occupied_port(command: str, tmp_path: Path) -> None:
    """The port and what to change are named; the exit code depends on who named the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        place = Place(folder=tmp_path, env={"PHONE_PORT": port})
        if command == "run":
            file()(tmp_path)
            held(place.run(*RUN, seconds=30), Case(argv=RUN, code=CONFIG, names=("PHONE_PORT", port)))
        else:
            argv = ("phone", "--port", port)
            held(place.run(*argv, seconds=30), Case(argv=argv, code=INPUT, names=("--port", port)))


def test_a_second_instance_is_sent_away(place: Place) -> None:
    """75 before the heavy imports; after kill -9 of the first the folder is free at once."""
    with place.start("run", "--no-dashboard") as first:
        assert first.chat
        second = place.run("run")
        case = Case(argv=("run",), code=BUSY, names=("another Conclave", str(first.process.pid), "DATA_DIR"))
        held(second, case)
        assert second.seconds < 5
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    with place.start("run", "--no-dashboard") as third:
        assert third.chat
        assert third.leave()[0] == 0


def test_restore_while_it_runs(place: Place) -> None:
    """A backup may be taken from a running Conclave, and put back only when none runs."""
    with place.start("run", "--no-dashboard") as running:
        assert running.chat
        assert place.run("db", "backup", "copy.db").code == 0
        held(place.run("db", "restore", "copy.db"), Case(argv=(), code=BUSY, names=("another Conclave",)))
    assert place.run("db", "restore", "copy.db").code == 0
    assert place.run("db", "check").code == 0


def test_a_full_disk(place: Place) -> None:
    """A disk that fills up ends the run with 1 and a last line that names the file; with room it carries on."""
    file(change=lambda _: bars(1500))(place.folder)
    argv = (*RUN, "--council", "off", "--set", "ema_period=5", "--set", "adx_min=0")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))
    try:
        done = place.run(*argv)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (done.code, done.out) == (ELSE, ""), done.err
    assert done.said[-1].startswith("error: ")
    assert "conclave.db" in done.said[-1]
    after = place.run(*argv)
    whole = place.run("replay", "--candles", "bars.csv", "--json", *argv[-6:])
    assert (after.code, whole.code) == (0, 0), after.err
    assert json.loads(after.out) == json.loads(whole.out)
    assert place.run("db", "check").code == 0
