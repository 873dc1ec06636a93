"""The structure seen from above: `python -m tests.structure` prints it, tests/test_house.py holds it.

Lengths are lines from `def` to the last statement, docstring included. Mocks are uses of unittest.mock and of
monkeypatch.setattr or setitem on anything; a parametrised test counts once, to be strict.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("bot", "research", "storage", "trading")
MOCKS = frozenset({"patch", "Mock", "MagicMock", "AsyncMock", "PropertyMock", "create_autospec"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function of the product: where it stands and how many lines it takes."""

    path: str
    name: str
    lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the house rules speak of."""

    functions: int
    p50: int
    p90: int
    longest: tuple[Function, ...]
    run_cycle: int | None
    tests: int
    mocks: int
    cycles: tuple[tuple[str, ...], ...]

    @property
    def mocks_per_test(self) -> float:
        return self.mocks / self.tests if self.tests else 0.0


def product_files() -> list[Path]:
    """The program's own Python files, without tests."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    main = ROOT / "main.py"
    return [*files, main] if main.exists() else files


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions_in(path: Path) -> Iterator[Function]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield Function(path=path.relative_to(ROOT).as_posix(), name=node.name, lines=lines)


def percentile(sorted_values: list[int], share: float) -> int:
    """The smallest value that at least `share` of the values do not exceed; 0 of nothing."""
    if not sorted_values:
        return 0
    return sorted_values[max(0, math.ceil(len(sorted_values) * share) - 1)]


def tests_and_mocks() -> tuple[int, int]:
    """How many test functions there are, and how many mocks they use."""
    tests = mocks = 0
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                tests += node.name.startswith("test_")
            elif isinstance(node, ast.Call):
                mocks += is_mock(node.func)
    return tests, mocks


def is_mock(called: ast.expr) -> bool:
    """Whether it is `patch`, `patch.object`, `mock.Mock`, anything of `mocker`, or `monkeypatch.setattr`."""
    if isinstance(called, ast.Name):
        return called.id in MOCKS
    if not isinstance(called, ast.Attribute):
        return False
    owner = called.value.id if isinstance(called.value, ast.Name) else ""
    if owner == "monkeypatch":
        return called.attr in {"setattr", "setitem"}
    return called.attr in MOCKS or owner in {"patch", "mocker"}


def import_cycles() -> tuple[tuple[str, ...], ...]:
    """Groups of the program's modules that import each other, directly or through others."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    reached = {module: reachable(graph, module) for module in graph.modules}
    groups = {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in graph.modules
        if module in reached[module]
    }
    return tuple(sorted(groups))


def reachable(graph: grimp.ImportGraph, start: str) -> set[str]:
    """Every module that `start` imports, directly or not; itself only when a cycle leads back to it."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for module in graph.find_modules_directly_imported_by(waiting.pop()):
            if module not in seen:
                seen.add(module)
                waiting.append(module)
    return seen


def figures() -> Figures:
    functions = sorted((f for path in product_files() for f in functions_in(path)), key=lambda f: f.lines)
    lengths = [f.lines for f in functions]
    tests, mocks = tests_and_mocks()
    cycle = [f.lines for f in functions if f.path == "trading/cycle.py" and f.name == "run_cycle"]
    return Figures(
        functions=len(functions),
        p50=percentile(lengths, 0.5),
        p90=percentile(lengths, 0.9),
        longest=tuple(reversed(functions[-5:])),
        run_cycle=max(cycle, default=None),
        tests=tests,
        mocks=mocks,
        cycles=import_cycles(),
    )


def main() -> None:
    seen = figures()
    print(f"functions            {seen.functions}")
    print(f"lines, median        {seen.p50}")
    print(f"lines, 90th centile  {seen.p90}")
    print(f"run_cycle lines      {seen.run_cycle if seen.run_cycle is not None else 'not there'}")
    print(f"mocks per test       {seen.mocks_per_test:.3f} ({seen.mocks} in {seen.tests})")
    print(f"import cycles        {len(seen.cycles)}")
    for group in seen.cycles:
        print(f"  {' '.join(group)}")
    print("longest")
    for function in seen.longest:
        print(f"  {function.lines:4} {function.path} {function.name}")


if __name__ == "__main__":
    main()
