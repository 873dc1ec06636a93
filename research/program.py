"""Which code reckons: another program's numbers are not this one's."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parent.parent

SEARCH: Final = (
    *("research/cluster.py", "research/grid.py", "research/ground.py", "research/kernel.py", "research/lanes.py"),
    *("research/results.py", "trading/indicators.py", "trading/model.py", "trading/parameters.py"),
    "trading/strategy/*.py",
)
"""What decides the numbers of a search."""


@cache
def fingerprint(*patterns: str) -> str:
    """Of the files that the patterns name, seen from the project's folder. Reads them, once a process."""
    digest = hashlib.sha256()
    for pattern in patterns:
        for path in sorted(_ROOT.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()
