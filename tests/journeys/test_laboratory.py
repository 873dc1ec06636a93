"""`backtest` and `optimize` as a user runs them: what they print and write, what they refuse, how they are stopped."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.journeys.program import Done, Place, Running, in_process
from tests.journeys.test_candles_through_chat import LIVELY, SETTINGS
from tests.parity.series import MIDNIGHT, MINUTE, bars_from, walk, write_candles

pytestmark = pytest.mark.timeout(300)
BACKTEST = {"params", "metrics", "trades", "open_position", "candles"}
OPTIMIZE = {"combinations", "evaluated", "seconds", "best", "top", "out"}
FILES = {"op_config.json", "optimized.xlsx", "heatmap.png"}
SMALL = ("--grid", "ema_period=10:50:10", "rsi_period=5,9")
LARGE = ("--grid", "ema_period=10:509:1", "rsi_period=5:34:1", "adx_min=0:30:1", "adx_period=5,6")
MEDIUM = ("--grid", "ema_period=10:609:1", "rsi_period=5:24:1", "sl_atr_multiplier=2:7.5:0.5")
MEDIUM_SETS = 600 * 20 * 12
SECRET = "424242:AAF-this_is_a_secret_of_mine_0001"
PNG, ZIP = b"\x89PNG", b"PK\x03\x04"


def lay_out(folder: Path, rows: int = 1_200, name: str = "BTCUSDT-15.parquet", seed: int = 8) -> str:
    """Sound 15-minute bars with many trades in them."""
    rng = np.random.default_rng(seed)
    bars = bars_from(rng, walk(rng, rows, start=2_000.0, vol=0.006), interval=15).bars
    write_candles(folder / name, {**bars, "timestamp": MIDNIGHT + np.arange(rows, dtype=np.int64) * 15 * MINUTE})
    return name


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A clean folder with a candle file in it."""
    lay_out(tmp_path)
    return Place(folder=tmp_path)


CANDLES = ("--candles", "BTCUSDT-15.parquet")


def the_object(done: Done) -> dict[str, Any]:
    """The one thing on stdout."""
    assert done.code == 0, done.err
    assert done.out.count("\n") == 1
    found = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def without_time(found: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal between two runs."""
    return {name: value for name, value in found.items() if name not in {"seconds", "out"}}


def one_line(done: Done, code: int, *words: str) -> str:
    """A refusal: the exit code, one line on stderr, nothing on stdout, no traceback."""
    errors = [line for line in done.said if line.startswith("error: ")]
    assert (done.code, done.out, len(errors)) == (code, "", 1), (done.code, done.out, done.err)
    assert "Traceback" not in done.err
    assert SECRET not in done.err
    for word in words:
        assert word in errors[0], errors[0]
    return errors[0]


# backtest


def test_backtest_prints_the_object_and_writes_its_files(place: Place) -> None:
    """With `--out` the same object and a chart and a workbook beside it."""
    alone = the_object(place.run("backtest", *CANDLES, *SETTINGS, "--json"))
    done = place.run("backtest", *CANDLES, *SETTINGS, "--json", "--out", "deep/results")
    assert the_object(done) == alone
    assert set(alone) == BACKTEST
    assert alone["params"]["ema_period"] == LIVELY["ema_period"]
    assert alone["candles"]["rows"] == 1_200
    assert len(alone["trades"]) > 5
    files = {path.name: path.read_bytes()[:4] for path in (place.folder / "deep" / "results").iterdir()}
    assert files == {"chart.png": PNG, "backtest.xlsx": ZIP}
    assert alone == the_object(place.run("replay", "--council", "off", *CANDLES, *SETTINGS, "--json")) | {
        "params": alone["params"],
        "metrics": alone["metrics"],
        "trades": alone["trades"],
        "open_position": alone["open_position"],
    }


def test_backtest_says_the_verdict_first(place: Place) -> None:
    """For a person: what it is about, the verdict, then the figures."""
    done = place.run("backtest", *CANDLES, *SETTINGS)
    assert done.code == 0, done.err
    about, verdict, *_ = done.out.splitlines()
    assert about.startswith("BTCUSDT 15m, 1,200 bars")
    assert verdict.split(":")[0] in {"PROVEN", "NOT PROVEN", "LOSES"}
    assert "sharpe" in done.out


def test_backtest_of_a_symbol(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up prices where there is no archive, and that is said; the archive where there is one."""
    inside(place, monkeypatch)
    done = in_process(("backtest", "ETHUSDT", "--days", "30", "--json"))
    assert "made-up prices" in done.err
    assert the_object(done)["candles"]["rows"] == 180
    store(place, "ETHUSDT", 600)
    done = in_process(("backtest", "ETHUSDT", "--json"))
    assert "made-up" not in done.err
    assert the_object(done)["candles"]["rows"] == 600
    assert the_object(in_process(("backtest", "ETHUSDT", "--days", "20", "--json")))["candles"]["rows"] == 120


def inside(place: Place, monkeypatch: pytest.MonkeyPatch, **env: str) -> None:
    """This process stands in the place and sees its environment alone, as one started there would."""
    for variable in os.environ:
        monkeypatch.delenv(variable, raising=variable not in {"PATH", "LANG"})
    for variable, value in {**place.environment, **env}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(place.folder)


def store(place: Place, symbol: str, rows: int) -> None:
    """Put 4-hour bars into the archive."""
    from storage.archive import CandleArchive, series_of

    rng = np.random.default_rng(2)
    bars = bars_from(rng, walk(rng, rows), interval=240).bars
    stamps = MIDNIGHT + np.arange(rows, dtype=np.int64) * 240 * MINUTE
    CandleArchive(place.data).add(series_of(symbol, 240, {**bars, "timestamp": stamps}))


# optimize


def optimize(place: Place, *words: str, seconds: float = 200.0) -> Done:
    """A search as the contract's object."""
    return place.run("optimize", *words, "--json", seconds=seconds)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Place, dict[str, Any]]:
    """Ten sets on one core: where, and the object. Nobody changes them."""
    place = Place(folder=tmp_path_factory.mktemp("small"))
    lay_out(place.folder)
    return place, the_object(optimize(place, *CANDLES, *SETTINGS, *SMALL, "--jobs", "1", "--out", "one"))


@pytest.mark.slow
def test_optimize_prints_the_object_and_writes_its_files(small: tuple[Place, dict[str, Any]]) -> None:
    """Ten sets on one core and on two."""
    place, first = small
    second = the_object(optimize(place, *CANDLES, *SETTINGS, *SMALL, "--jobs", "2", "--out", "two"))
    assert without_time(first) == without_time(second)
    assert set(first) == OPTIMIZE
    assert (first["combinations"], first["evaluated"], first["out"]) == (10, 10, "one")
    assert first["best"] == first["top"][0]
    assert len(first["top"]) == 10
    assert all(set(each) == {"params", "metrics"} for each in first["top"])
    assert {path.name for path in (place.folder / "one").iterdir()} == FILES
    written = json.loads((place.folder / "one" / "op_config.json").read_text(encoding="utf-8"))
    assert {**written["values"]} == first["best"]["params"]
    best = the_object(place.run("backtest", *CANDLES, *chosen(first["best"]["params"]), "--json"))
    for name, value in best["metrics"].items():
        assert first["best"]["metrics"][name] == pytest.approx(value, rel=1e-9, abs=1e-12), name


def chosen(params: Mapping[str, float]) -> list[str]:
    """Every parameter as a user sets it."""
    return [word for name, value in params.items() for word in ("--set", f"{name}={value}")]


@pytest.mark.slow
@pytest.mark.parametrize(("objective", "metric"), [("expectancy", "expectancy_r")])
def test_another_objective(place: Place, objective: str, metric: str) -> None:
    """The top list falls in the metric that was asked for; at most twenty sets of many."""
    found = the_object(optimize(place, *CANDLES, *SETTINGS, "--grid", "ema_period=10:59:1", "--objective", objective))
    worth = [each["metrics"][metric] for each in found["top"]]
    assert worth == sorted(worth, reverse=True)
    assert len(worth) == 20
    assert found["out"] == "optimized"


@pytest.mark.slow
def test_walk_forward_and_the_other_strategy(place: Place) -> None:
    """Both plugs at once, for a person."""
    lay_out(place.folder, 3_000)
    grid = ("--grid", "bb_period=10,20", "adx_max=20,40,60")
    done = place.run("optimize", *CANDLES, "--strategy", "mean_reversion", *grid, "--walk-forward", "3", seconds=200)
    assert done.code == 0, done.err
    assert "mean_reversion" in done.out
    assert {path.name for path in (place.folder / "optimized").iterdir()} == FILES


@pytest.mark.slow
def test_on_a_cluster(place: Place, small: tuple[Place, dict[str, Any]]) -> None:
    """The same object as on this machine."""
    distributed: Any = pytest.importorskip("distributed")
    _, alone = small
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        found = optimize(place, *CANDLES, *SETTINGS, *SMALL, "--cluster", cluster.scheduler_address)
        assert without_time(the_object(found)) == without_time(alone)


# Stopped, killed, two at once


def searching(running: Running) -> bool:
    """It has told of its progress."""
    return "search:" in running.err


def long_search(place: Place, grid: tuple[str, ...] = MEDIUM) -> tuple[str, ...]:
    """A search that takes a good while on one core."""
    lay_out(place.folder, 20_000)
    return ("optimize", *CANDLES, *grid, "--out", "found", "--json")


def kept(place: Place) -> int:
    """How many sets the search has put away."""
    try:
        with np.load(place.folder / "found" / "search.npz") as file:
            return int(file["done"].sum())
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_killed_and_stopped_the_same_command_goes_on(place: Place) -> None:
    """kill -9 loses the last seconds at most; Ctrl-C keeps what is done, within two seconds and with one clear line.
    The same command begins where it was, and the whole equals an undisturbed search.
    """
    words = long_search(place)
    with place.start(*words, "--jobs", "1") as running:
        running.until(lambda: kept(place), 60, "file of the search")
        running.kill()
    survived = kept(place)
    assert 0 < survived < MEDIUM_SETS
    with place.start(*words, "--jobs", "1") as running:
        running.until(lambda: searching(running), 60, "progress")
        code, seconds = running.leave()
        part = stopped(code, running)
        assert seconds < 2.0
    assert survived < part["evaluated"] == kept(place) < part["combinations"] == MEDIUM_SETS
    ends_like_an_undisturbed_one(place, words)


def stopped(code: int, running: Running) -> dict[str, Any]:
    """What a search that was asked to stop has printed: one line on stderr, and the object of what it has."""
    assert code == 1
    errors = [line for line in running.err.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "to go: the same command goes on" in errors[0]
    assert "Traceback" not in running.err
    part = json.loads(running.out)
    assert set(part) == OPTIMIZE
    return dict(part)


def ends_like_an_undisturbed_one(place: Place, words: tuple[str, ...]) -> None:
    """The same command twice: the first goes on, the second begins anew."""
    resumed = the_object(place.run(*words, seconds=250))
    assert resumed["evaluated"] == resumed["combinations"] == MEDIUM_SETS
    assert {path.name for path in (place.folder / "found").iterdir()} == FILES
    again = the_object(place.run(*words, seconds=250))
    assert without_time(again) == without_time(resumed)


@pytest.mark.slow
def test_two_at_once_in_one_folder(place: Place) -> None:
    """The second one is told so at once; the first is not disturbed; its lock dies with it."""
    words = long_search(place, LARGE)
    with place.start(*words) as running:
        running.until(lambda: searching(running), 60, "progress")
        one_line(place.run(*words), 75, "found")
        assert running.process.poll() is None
        running.kill()
    done = place.run("optimize", *CANDLES, *SMALL, "--out", "found", "--json", seconds=200)
    assert the_object(done)["evaluated"] == 10


# What a user gets wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """What is asked, and the words that the one line must hold."""

    argv: tuple[str, ...]
    names: tuple[str, ...]
    prepare: Callable[[Path], object] = lambda folder: None
    code: int = 2
    env: dict[str, str] = field(default_factory=dict)


def backtest(*argv: str, names: tuple[str, ...], prepare: Callable[[Path], object] = lambda folder: None) -> Wrong:
    """A backtest of the sound file."""
    return Wrong(argv=("backtest", *CANDLES, *argv), names=names, prepare=prepare)


def search(*argv: str, names: tuple[str, ...], grid: bool = True) -> Wrong:
    """A search over the sound file."""
    return Wrong(argv=("optimize", *CANDLES, *(SMALL if grid else ()), *argv), names=names)


def written(name: str, content: str) -> Callable[[Path], object]:
    """A file of this text."""
    return lambda folder: (folder / name).write_text(content, encoding="utf-8")


WRONG = {
    "unknown symbol": Wrong(argv=("backtest", "BTCUSD"), names=("BTCUSD", "BTCUSDT")),
    "symbol and candles": backtest("BTCUSDT", names=("SYMBOL", "--candles")),
    "neither": Wrong(argv=("backtest",), names=("SYMBOL", "--candles")),
    "no such file": Wrong(argv=("backtest", "--candles", "nothing.csv"), names=("nothing.csv",)),
    "a folder": Wrong(argv=("backtest", "--candles", "."), names=(".",)),
    "no candles in it": Wrong(
        argv=("backtest", "--candles", "x.csv"), names=("x.csv",), prepare=written("x.csv", "hello\n")
    ),
    "one bar": Wrong(
        argv=("backtest", "--candles", "x.csv", "--interval", "15"),
        names=("x.csv", "at least 2"),
        prepare=written("x.csv", "timestamp,open,high,low,close,volume\n1700006400000,5,6,4,5,1\n"),
    ),
    "interval 7": backtest("--interval", "7", names=("7",)),
    "interval 0": backtest("--interval", "0", names=("--interval 0",)),
    "interval -15": backtest("--interval", "-15", names=("--interval -15",)),
    "interval too long": backtest("--interval", "150000000", names=("150000000",)),
    "interval of the archive": Wrong(argv=("backtest", "BTCUSDT", "--interval", "0"), names=("--interval 0",)),
    "days 0": backtest("--days", "0", names=("--days 0",)),
    "days of words": backtest("--days", "many", names=("--days", "many")),
    "unknown setting": backtest("--set", "emaperiod=3", names=("emaperiod", "ema_period")),
    "setting out of range": backtest("--set", "ema_period=-3", names=("ema_period",)),
    "setting of nan": backtest("--set", "risk_per_trade=nan", names=("risk_per_trade",)),
    "unknown strategy": backtest("--strategy", "mean_revesion", names=("mean_revesion", "mean_reversion")),
    "funding is not there": backtest("--funding", "f.csv", names=("f.csv",)),
    "funding of words": backtest("--funding", "f.csv", names=("f.csv",), prepare=written("f.csv", "a,b\n1,x\n")),
    "out is a file": backtest("--out", "BTCUSDT-15.parquet", names=("--out", "BTCUSDT-15.parquet")),
    "out in a file": backtest("--out", "BTCUSDT-15.parquet/x", names=("--out",)),
    "out not writable": backtest("--out", "/proc/nowhere", names=("--out", "/proc/nowhere")),
    "symbol of the file": backtest("--symbol", "BTC", names=("BTC",)),
    "no grid": search(names=("--grid",), grid=False),
    "grid of no name": search("--grid", "=1,2", names=("--grid",), grid=False),
    "grid of an unknown name": search("--grid", "ema_perid=1,2", names=("ema_perid", "ema_period"), grid=False),
    "grid without values": search("--grid", "ema_period", names=("ema_period=a,b,c",), grid=False),
    "grid of words": search("--grid", "ema_period=a,b", names=("ema_period=a,b",), grid=False),
    "grid backwards": search("--grid", "ema_period=9:3:1", names=("ema_period=9:3:1",), grid=False),
    "grid of step 0": search("--grid", "ema_period=3:9:0", names=("ema_period=3:9:0",), grid=False),
    "grid of half periods": search("--grid", "ema_period=3:9:0.5", names=("ema_period", "whole"), grid=False),
    "grid out of range": search("--grid", "ema_period=-3,5", names=("ema_period",), grid=False),
    "grid of nan": search("--grid", "sl_atr_multiplier=nan,5", names=("sl_atr_multiplier",), grid=False),
    "grid twice": search("--grid", "ema_period=5,6", names=("ema_period", "twice")),
    "grid of one value twice": search("--grid", "sl_atr_multiplier=2,2.0", names=("twice",)),
    "grid too large": search("--grid", "sl_atr_multiplier=1:9:0.00001", names=("combinations",)),
    "grid without end": search("--grid", "sl_atr_multiplier=1:1e12:0.1", names=("sl_atr_multiplier",)),
    "objective": search("--objective", "sharp", names=("sharp", "sharpe", "calmar")),
    "jobs 0": search("--jobs", "0", names=("--jobs 0",)),
    "jobs of words": search("--jobs", "all", names=("--jobs",)),
    "walk-forward 99": search("--walk-forward", "99", names=("--walk-forward 99", "50")),
    "walk-forward -1": search("--walk-forward", "-1", names=("--walk-forward -1",)),
    "too few bars for the folds": search("--walk-forward", "40", names=("40 folds", "bars")),
    "cluster of words": search("--cluster", "http://me", names=("--cluster http://me",)),
    "cluster of nothing": search("--cluster", "", names=("--cluster",)),
    "nobody in the cluster": Wrong(
        argv=("optimize", *CANDLES, *SMALL, "--cluster", "tcp://127.0.0.1:1"), names=("127.0.0.1:1",), code=1
    ),
    "unknown option": search("--job", "2", "--fast", names=("--fast",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_clear_line(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Never a traceback, never a secret, nothing on stdout, nothing left behind."""
    case = WRONG[name]
    case.prepare(place.folder)
    inside(place, monkeypatch, TELEGRAM_BOT_TOKEN=SECRET, **case.env)
    began = time.monotonic()
    one_line(in_process(case.argv), case.code, *case.names)
    assert time.monotonic() - began < 30
    assert capfd.readouterr().out == ""
    assert not list(place.folder.glob("**/*.npz"))


def test_the_same_as_a_process(place: Place) -> None:
    """One of them as a user meets it."""
    one_line(optimize(place, *CANDLES, "--grid", "ema_perid=3,4"), 2, "ema_period")
