"""A process behind a `research.worker.Worker` whose libraries are not there."""

from __future__ import annotations

from research.worker import Answer, serve


def prepare() -> Answer:
    """As an import that fails."""
    raise ImportError("No module named 'vectorbt'")


if __name__ == "__main__":
    serve(prepare, nice=0)
