"""`make bench`: runs the registered benchmarks and prints a table, each row as soon as it is known."""

from __future__ import annotations

import importlib
import pkgutil
import sys

from tests import benchmarks


def main(words: list[str]) -> int:
    """Run the benchmarks whose name holds one of `words` (all without words); 2 when none does."""
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("bench_"):
            importlib.import_module(f"{benchmarks.__name__}.{module.name}")
    chosen = [name for name in benchmarks.REGISTRY if not words or any(word in name for word in words)]
    if not chosen:
        known = ", ".join(sorted(benchmarks.REGISTRY))
        print(f"no benchmark is named like {' or '.join(words)}; there are: {known}", file=sys.stderr)
        return 2
    print(f"{'figure':<40} {'value':>14} {'unit':<10} on")
    for name in sorted(chosen):
        for figure in benchmarks.REGISTRY[name]():
            print(f"{figure.name:<40} {figure.value:>14,.1f} {figure.unit:<10} {figure.note}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
