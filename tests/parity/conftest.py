"""The question every test of an edge asks twice: of the plain page, and of the program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import pytest

from tests.parity.plain import simulate
from tests.parity.product import product
from tests.parity.series import Bars


class Engine(Protocol):
    """Bars and parameters in, the object of `replay --json` out."""

    def __call__(
        self,
        bars: Bars,
        params: Mapping[str, float],
        *,
        interval_ms: int,
        funding: Mapping[int, float] | None = None,
    ) -> dict[str, Any]: ...


ENGINES: dict[str, Callable[..., dict[str, Any]]] = {"plain": simulate, "product": product}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest) -> Engine:
    """The plain page, then the program."""
    return ENGINES[request.param]
