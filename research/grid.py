"""Grid search: every combination of the values named, by the kernel, on all the cores that are given.

    grid = Grid(strategy="ema_trend", values=values, axes=axes_of(["ema_period=100:300:50", "rsi_period=7,14,21"], …))
    sums = search(Ground.of(series), grid, jobs=2)
    table = sums.table("sharpe", seconds)

A combination is a number: the row-major place of its values in the grid. Work is cut into *chunks*: combinations
that share their way out (see `research.kernel`), a few hundred at most, so that progress is told and a search can be
stopped and taken up again between any two of them. Memory is that of the sums, 240 bytes a combination.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from research import kernel
from research.ground import Bits, Ground, packed, rules_of, terms_of
from research.metrics import YEAR
from research.results import GridTable
from trading.errors import BadInput
from trading.indicators import Indicators
from trading.laboratory import OBJECTIVES
from trading.model import BoolArray, FloatArray, IntArray
from trading.parameters import AccountTerms, InstrumentTerms, Parameters, TradeRules, near, too_large
from trading.strategy import Condition, Measure, Rules, strategy_named

MOST: Final = 2_000_000  # combinations of one search
CHUNK: Final = 200  # combinations
_BANK_BYTES: Final = 64 << 20
_INDICATOR_BYTES: Final = 32 << 20
_LEAST_KEPT: Final = 8  # indicators that are remembered however long they are
_MEASURES: Final = 12  # arrays of stop distances that are remembered
_SWITCH_SECONDS: Final = 0.0005  # a thread that comes back from the kernel must not wait for one that plans
_METRIC_OF: Final = dict(zip(OBJECTIVES, ("sharpe", "total_return", "calmar", "expectancy_r"), strict=True))

Axis = tuple[str, tuple[float, ...]]


# What is searched


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Parameters that vary over `axes`, everything else as in `values` (every name of the specification)."""

    strategy: str
    values: Mapping[str, Any]
    axes: tuple[Axis, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many values each axis has."""
        return tuple(len(values) for _, values in self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters that vary."""
        return tuple(name for name, _ in self.axes)

    @property
    def combinations(self) -> int:
        """How many there are."""
        return math.prod(self.shape)

    def varied(self, number: int) -> dict[str, float]:
        """The values of one combination's axes by name."""
        places = np.unravel_index(number, self.shape)
        return {name: values[place] for (name, values), place in zip(self.axes, places, strict=True)}

    def chosen(self, number: int) -> dict[str, Any]:
        """Every name of the specification with the combination's value."""
        return {**self.values, **self.varied(number)}

    def matrix(self) -> FloatArray:
        """The axes' values, a row for each combination and a column for each axis."""
        mesh = np.meshgrid(*(np.array(values, np.float64) for _, values in self.axes), indexing="ij", copy=False)
        return np.stack([each.ravel() for each in mesh], axis=1)

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the outcome on given bars."""
        parts = [self.strategy, sorted(self.values.items()), self.axes]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def axes_of(words: Sequence[str], strategy: str, values: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Axes of `name=a,b,c` and `name=start:stop:step` words (both ends included); `BadInput` says what is wrong."""
    axes = [_axis(word, strategy, values) for word in words]
    names = [name for name, _ in axes]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{name} is on the grid twice: name all its values at once, {name}=a,b,c")
    if not axes:
        raise BadInput("a search needs a grid: --grid name=a,b,c or --grid name=start:stop:step")
    count = math.prod(len(each) for _, each in axes)
    if count > MOST:
        raise BadInput(f"the grid holds {count:,} combinations and {MOST:,} are the most: name fewer values")
    return tuple(axes)


def _axis(word: str, strategy: str, values: Mapping[str, Any]) -> Axis:
    name, equals, text = (piece.strip() for piece in word.partition("="))
    known = _specs(strategy)
    if name not in known:
        raise BadInput(f"--grid {name[:40]}: unknown name{near(name, known)}")
    if not equals or not text:
        raise BadInput(f"--grid {name}: write {name}=a,b,c or {name}=start:stop:step")
    whole = isinstance(values[name], int)
    numbers = [_typed(name, each, whole=whole) for each in _numbers(name, text)]
    if len(set(numbers)) != len(numbers):
        raise BadInput(f"--grid {name}: a value stands there twice: name each once")
    for number in numbers:
        known[name](**{name: number})  # refuses what is out of range, naming it
    return name, tuple(sorted(numbers))


def _numbers(name: str, text: str) -> list[float]:
    try:
        if ":" not in text:
            return [float(each) for each in text.split(",")]
        start, stop, step = (float(each) for each in text.split(":"))
    except ValueError:
        raise BadInput(f"--grid {name}={text[:60]}: write {name}=a,b,c or {name}=start:stop:step in numbers") from None
    if not (math.isfinite(start) and math.isfinite(stop) and 0 < step < math.inf and start <= stop):
        raise BadInput(f"--grid {name}={text[:60]}: start must not be above stop, and step must be above 0")
    if not (stop - start) / step < MOST:
        raise BadInput(f"--grid {name}={text[:60]}: that is more than {MOST:,} values, which are the most")
    count = math.floor((stop - start) / step + 1e-9) + 1
    return [round(start + place * step, 12) for place in range(count)]  # 0.1 + 2 * 0.1 is meant to be 0.3


def _typed(name: str, value: float, *, whole: bool) -> float:
    if not math.isfinite(value):
        raise BadInput(f"--grid {name}: {value} is not a finite number")
    if whole and not value.is_integer():
        raise BadInput(f"--grid {name}: {value:g} must be a whole number")
    if why := too_large(name, int(value) if whole else value):
        raise BadInput(f"--grid {name} {why}")
    return int(value) if whole else value


def _specs(strategy: str) -> dict[str, type[Parameters]]:
    """Every name that may vary, with the group that checks it."""
    groups: tuple[type[Parameters], ...] = (
        strategy_named(strategy).parameters,
        TradeRules,
        AccountTerms,
        InstrumentTerms,
    )
    return {name: group for group in groups for name in group.names()}


# What is found


@dataclass(frozen=True, kw_only=True, eq=False)
class Sums:
    """What the kernel summed up for each combination that is `done`.

    sums: float64 (combinations, 14), see `kernel.SUMS`; blocks: float32 (combinations, 2, 16), bar returns and their
    squares in sixteen spans of time. bars: over how many bars.
    """

    grid: Grid
    bars: int
    interval: timedelta
    done: BoolArray
    sums: FloatArray
    blocks: NDArray[np.float32]

    @classmethod
    def empty(cls, grid: Grid, bars: int, interval: timedelta) -> Sums:
        """Nothing done yet."""
        count = grid.combinations
        return cls(
            grid=grid,
            bars=bars,
            interval=interval,
            done=np.zeros(count, np.bool_),
            sums=np.zeros((count, len(kernel.SUMS))),
            blocks=np.zeros((count, 2, kernel.BLOCKS), np.float32),
        )

    @property
    def bars_per_block(self) -> IntArray:
        """How many bars fall into each block."""
        part = -(-self.bars // kernel.BLOCKS)
        ends = np.minimum(np.arange(1, kernel.BLOCKS + 1, dtype=np.int64) * part, self.bars)
        return np.diff(ends, prepend=0)

    def metrics(self) -> dict[str, FloatArray]:
        """The metrics of the specification for every combination; NaN where they are undefined or not done."""
        of = dict(zip(kernel.SUMS, self.sums.T, strict=True))
        n, per_year = self.bars, YEAR / self.interval
        first = np.array(self._equities())
        with np.errstate(all="ignore"):
            mean, squares = of["returns"] / n, of["squares"]
            sound = (of["ruined"] == 0) & (squares > 0)
            deviation = np.sqrt((squares - of["returns"] * mean) / (n - 1))
            growth = np.where(of["equity"] > 0, (of["equity"] / first) ** (per_year / n) - 1, np.nan)
            table = {
                "total_return": of["equity"] / first - 1,
                "sharpe": np.where(sound, mean / deviation * math.sqrt(per_year), np.nan),
                "sortino": np.where(
                    sound & (of["falls"] > 0), mean / np.sqrt(of["falls"] / n) * math.sqrt(per_year), np.nan
                ),
                "max_drawdown": of["drawdown"],
                "calmar": np.where(of["drawdown"] > 0, growth / of["drawdown"], np.nan),
                "win_rate": np.where(of["trades"] > 0, of["wins"] / of["trades"], np.nan),
                "profit_factor": np.where(of["losses"] < 0, of["gains"] / -of["losses"], np.nan),
                "expectancy_r": np.where(of["trades"] > 0, of["r"] / of["trades"], np.nan),
                "trades": of["trades"].copy(),
                "exposure": of["exposed"] / n,
                "fees": of["fees"].copy(),
                "funding": of["funding"].copy(),
            }
        for values in table.values():
            values[~self.done | ~np.isfinite(values)] = np.nan
        return table

    def _equities(self) -> FloatArray:
        if "initial_equity" in self.grid.names:
            return self.grid.matrix()[:, self.grid.names.index("initial_equity")]
        return np.float64(self.grid.values["initial_equity"])  # type: ignore[return-value]

    def table(self, objective: str, seconds: float) -> GridTable:
        """The grid with its ranking."""
        metrics = self.metrics()
        rows = np.flatnonzero(self.done)
        metrics = {name: values[rows] for name, values in metrics.items()}
        worth = metrics[_METRIC_OF[objective]]
        order = np.argsort(np.where(np.isnan(worth), np.inf, -worth), kind="stable")
        return GridTable(
            names=self.grid.names,
            axes=tuple(values for _, values in self.grid.axes),
            objective=objective,
            values=self.grid.matrix()[rows],
            metrics=metrics,
            order=order,
            combinations=self.grid.combinations,
            evaluated=len(rows),
            seconds=seconds,
        )

    def save(self, path: Path, data: str) -> None:
        """Keep what is done, so that the search can be taken up again; the file is replaced as a whole."""
        aside = path.with_suffix(".tmp")
        with aside.open("wb") as file:
            name = np.array(f"{self.grid.fingerprint} {data} {self.bars}")
            np.savez(file, name=name, done=self.done, sums=self.sums, blocks=self.blocks)
        aside.replace(path)

    def resume(self, path: Path, data: str) -> int:
        """Take over what a search of the same grid on the same bars has done; answers how many."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
                if str(kept["name"]) != f"{self.grid.fingerprint} {data} {self.bars}":
                    return 0
                found = kept["done"], kept["sums"], kept["blocks"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none, or not whole
            return 0
        self.done[:], self.sums[:], self.blocks[:] = found
        return int(self.done.sum())


# How it is searched


@dataclass(frozen=True, slots=True)
class Chunk:
    """Combinations that one call of the kernel does."""

    numbers: IntArray


def chunks(grid: Grid, done: BoolArray, most: int = CHUNK) -> Iterator[Chunk]:
    """The work that is left: combinations of one group together, `most` at a time."""
    outer = _of_groups(grid)
    numbers = np.arange(grid.combinations, dtype=np.int64).reshape(grid.shape)
    inner = [place for place in range(len(grid.axes)) if place not in outer]
    width = math.prod(grid.shape[place] for place in inner)
    for row in numbers.transpose(*outer, *inner).reshape(-1, width):
        left = row[~done[row]]
        for start in range(0, len(left), most):
            yield Chunk(left[start : start + most])


def _of_groups(grid: Grid) -> list[int]:
    """Axes that change the stop or the order's rules: each is varied alone and looked at."""
    planner = Planner(grid)
    first = planner.plan(dict(grid.values)).group
    return [
        place
        for place, (name, values) in enumerate(grid.axes)
        if any(planner.plan({**grid.values, name: value}).group != first for value in values)
    ]


@dataclass(frozen=True, slots=True)
class Plan:
    """One combination for the kernel: its strategy in pieces, and what it shares with its group."""

    rules: Rules
    group: tuple[Any, ...]
    values: Mapping[str, Any]


class Planner:
    """Makes plans. What varies was checked value by value, so that nothing is checked again."""

    _OF_PATH: Final = (
        *("entry_offset", "entry_ttl_bars", "runaway_r", "take_profit_r", "trail_start_r", "trail_step_r"),
        *("trail_lag_r", "tick_size", "funding_rate"),
    )

    def __init__(self, grid: Grid) -> None:
        self._kind = strategy_named(grid.strategy)
        names = self._kind.parameters.names()
        self._base = self._kind.parameters(**{name: grid.values[name] for name in names})

    def plan(self, values: Mapping[str, Any]) -> Plan:
        """The plan of one combination."""
        rules: Rules = self._kind(self._base.varied(values)).rules()
        group = (rules.stop_distance.key, *(values[name] for name in self._OF_PATH))
        return Plan(rules, group, values)


class Bank:
    """Conditions as rows of bits, each made once; when the room is full it begins anew."""

    def __init__(self, series: Any) -> None:
        self.indicators = Indicators(series, keep=max(_INDICATOR_BYTES // (8 * len(series)), _LEAST_KEPT))
        self._words = -(-len(series) // 64)
        self._measured: dict[tuple[Any, ...], FloatArray] = {}
        self._room = max(_BANK_BYTES // (self._words * 8), 1024)
        self._begin()

    def _begin(self) -> None:
        self._rows: dict[tuple[Any, ...], int] = {}
        self._bits = np.zeros((64, self._words), np.uint64)

    def make_room(self, conditions: Iterable[Condition]) -> None:
        """Begin anew where so many distinct ones more might not fit; rows that were answered before are void then."""
        wanted = list(conditions)
        if len(self._rows) + len(wanted) <= self._room:
            return
        if len(self._rows) + len({each.key for each in wanted} - self._rows.keys()) > self._room:
            self._begin()

    def rows(self, groups: Sequence[Sequence[Condition]]) -> tuple[Bits, NDArray[np.int64]]:
        """The bits, and in which of their rows each condition stands: (groups, conditions)."""
        known = self._rows.get
        places = [
            self._made(each) if (row := known(each.key)) is None else row for group in groups for each in group
        ]
        return self._bits, np.array(places, np.int64).reshape(len(groups), -1)

    def measured(self, measure: Measure) -> FloatArray:
        """The measure's values; the newest few are remembered."""
        values = self._measured.pop(measure.key, None)
        if values is None:
            values = np.ascontiguousarray(measure.make(self.indicators), np.float64)
            while len(self._measured) >= _MEASURES:
                del self._measured[next(iter(self._measured))]
        self._measured[measure.key] = values
        return values

    def _made(self, condition: Condition) -> int:
        row = len(self._rows)
        if row == len(self._bits):  # a reader of the old rows keeps the old array
            self._bits = np.concatenate((self._bits, np.zeros_like(self._bits)))
        self._bits[row] = packed(condition.make(self.indicators))
        self._rows[condition.key] = row
        return row


def _conditions(rules: Rules) -> tuple[Condition, ...]:
    """Everything that a group needs as bits."""
    return (*rules.long, *rules.short, rules.hazard_long, rules.hazard_short, rules.exit_long, rules.exit_short)


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Combinations of one group for one call of the kernel, and their places in the chunk."""

    places: IntArray
    bars: kernel.Bars
    rules: FloatArray
    asked: kernel.Asked


Found = tuple[FloatArray, NDArray[np.float32]]


class Searcher:
    """Searches chunks of one grid on one series; may be called from several threads."""

    def __init__(self, ground: Ground, grid: Grid, first: int = 0) -> None:
        self._ground = ground
        self._grid = grid
        self._first = first
        self._planner = Planner(grid)
        self._bank = Bank(ground.series)
        self._lock = threading.Lock()
        self._axes = grid.axes
        of_terms = {*AccountTerms.names(), *InstrumentTerms.names(), "cooldown_bars"}
        self._terms_vary = not of_terms.isdisjoint(grid.names)
        self._terms = terms_of(grid.values)

    def search(self, chunk: Chunk) -> Found:
        """Sums and blocks of the chunk's combinations, in its order."""
        return self.run(self.prepare(chunk))

    def prepare(self, chunk: Chunk) -> list[Batch]:
        """What the kernel is asked, group by group: the part of a search that only one thread at a time can do."""
        with self._lock:  # pieces are made once, by whoever comes first
            plans = [self._planner.plan(values) for values in self._values(chunk.numbers)]
            by_group: dict[tuple[Any, ...], list[int]] = {}
            for place, plan in enumerate(plans):
                by_group.setdefault(plan.group, []).append(place)
            return [self._batch([plans[place] for place in group], np.array(group)) for group in by_group.values()]

    def run(self, batches: Sequence[Batch]) -> Found:
        """The kernel's answer; other threads run meanwhile."""
        count = sum(len(batch.places) for batch in batches)
        sums, blocks = np.empty((count, len(kernel.SUMS))), np.empty((count, 2, kernel.BLOCKS), np.float32)
        for batch in batches:
            shape = len(batch.places)
            found = np.empty((shape, len(kernel.SUMS))), np.empty((shape, 2, kernel.BLOCKS), np.float32)
            kernel.search(self._first, batch.bars, batch.rules, batch.asked, *found)
            sums[batch.places], blocks[batch.places] = found
        return sums, blocks

    def _values(self, numbers: IntArray) -> Iterator[dict[str, Any]]:
        places = np.unravel_index(numbers, self._grid.shape)
        for row in zip(*(each.tolist() for each in places), strict=True):
            values = dict(self._grid.values)
            for (name, of_axis), place in zip(self._axes, row, strict=True):
                values[name] = of_axis[place]
            yield values

    def _batch(self, plans: Sequence[Plan], places: IntArray) -> Batch:
        first, values = plans[0].rules, plans[0].values
        self._bank.make_room(each for plan in plans for each in _conditions(plan.rules))
        bits, longs = self._bank.rows([plan.rules.long for plan in plans])
        bits, shorts = self._bank.rows([plan.rules.short for plan in plans])
        bits, knives = self._bank.rows([(plan.rules.hazard_long, plan.rules.hazard_short) for plan in plans])
        bits, outs = self._bank.rows([(plan.rules.exit_long, plan.rules.exit_short) for plan in plans])
        risk = self._bank.measured(first.stop_distance)
        curve, paid = self._ground.curves(float(values["funding_rate"]))
        if self._terms_vary:
            terms = np.stack([terms_of(plan.values) for plan in plans])
        else:
            terms = np.tile(self._terms, (len(plans), 1))
        order = np.lexsort((*terms[:, kernel.FEES].T, *outs.T))  # those with the same exits and fees together
        return Batch(
            places=places[order],
            bars=kernel.Bars(self._ground.ranges, self._ground.ends, curve, paid, bits, risk),
            rules=rules_of(values),
            asked=kernel.Asked(*(each[order] for each in (longs, shorts, knives, outs, terms))),
        )


class Seek(Protocol):
    """Who searches a grid: this machine (`search`) or a cluster's (`research.cluster.Cluster.search`)."""

    def __call__(
        self,
        ground: Ground,
        grid: Grid,
        *,
        jobs: int = ...,
        first: int = ...,
        known: Sums | None = ...,
        tell: Callable[[int], None] = ...,
        stopped: Callable[[], bool] = ...,
    ) -> Sums: ...


@contextlib.contextmanager
def _prompt_threads() -> Iterator[None]:
    """Threads take turns quickly while a search runs."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def search(
    ground: Ground,
    grid: Grid,
    *,
    jobs: int = 1,
    first: int = 0,
    known: Sums | None = None,
    tell: Callable[[int], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Sums:
    """Search what is left of `known` (nothing done yet without it) on `jobs` threads.

    `tell` hears how many combinations are done, from this thread, a few times a second; when `stopped` is true, or on
    Ctrl-C, what is done so far is kept in the answer (and in `known`).
    """
    sums = known or Sums.empty(grid, len(ground.series) - first, ground.series.interval)
    searcher, work = Searcher(ground, grid, first), chunks(grid, sums.done)
    with _prompt_threads(), ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="search") as pool:
        running: dict[Future[Any], Chunk] = {}
        told = time.monotonic()
        while True:
            while len(running) < 2 * jobs and not stopped() and (chunk := next(work, None)) is not None:
                running[pool.submit(searcher.run, searcher.prepare(chunk))] = chunk
            if not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                numbers = running.pop(future).numbers
                sums.sums[numbers], sums.blocks[numbers] = future.result()
                sums.done[numbers] = True
            if time.monotonic() - told > 0.2:
                tell(int(sums.done.sum()))
                told = time.monotonic()
    tell(int(sums.done.sum()))
    return sums
