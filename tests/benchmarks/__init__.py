"""The benchmarks: what is measured, and how a figure is named.

A benchmark is a function that yields `Figure`s; `@benchmark` puts it into the registry under its file's name.
`python -m tests.benchmarks [word …]` runs those whose name holds one of the words, or all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number: `value` in `unit`, and in `note` what it was measured on."""

    name: str
    value: float
    unit: str
    note: str = ""


Benchmark = Callable[[], Iterable[Figure]]
REGISTRY: dict[str, Benchmark] = {}


def benchmark(function: Benchmark) -> Benchmark:
    """Register `function` under its file's name without `bench_`."""
    name = function.__module__.rpartition(".")[2].removeprefix("bench_")
    REGISTRY[f"{name}.{function.__name__}"] = function
    return function
