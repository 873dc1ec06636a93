"""A model that keeps failing is left alone for a while: a circuit breaker for each model.

    closed       asked as usual; three failures within five minutes open it
    open         not asked for five minutes
    half-open    one question may try; its success closes the breaker, its failure opens it again

Only what the model or its provider does wrong is a failure: timeouts, broken lines, 5xx, answers that stay invalid.
Limits, keys and requests of ours that are wrong (429, 402, 401, 400) say nothing about a model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

FAILURES: Final = 3
WITHIN: Final = 300.0  # seconds
REST: Final = 300.0
TRIAL: Final = 30.0
"""Seconds after which a trial counts as never made: its question was cancelled, or found no key."""


@dataclass(slots=True)
class _Breaker:
    failures: deque[float] = field(default_factory=lambda: deque[float](maxlen=FAILURES))
    shut_until: float | None = None  # None: closed
    on_trial: bool = False


class Breakers:
    """One breaker for each model; `monotonic` in seconds. Forgets everything with the process."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._breakers: dict[str, _Breaker] = {}

    def blocked(self, model: str) -> float | None:
        """Seconds to go before the model may be asked; None when it may be asked now.

        Who is told None by a half-open breaker is its trial, and must say how it went; others wait meanwhile.
        """
        breaker = self._breakers.get(model)
        if breaker is None or breaker.shut_until is None:
            return None
        now = self._monotonic()
        if now < breaker.shut_until:
            return breaker.shut_until - now
        breaker.shut_until, breaker.on_trial = now + TRIAL, True
        return None

    def failed(self, model: str) -> None:
        """A request failed, and it was the model's or its provider's fault."""
        breaker = self._breakers.setdefault(model, _Breaker())
        now = self._monotonic()
        breaker.failures.append(now)
        often = len(breaker.failures) == FAILURES and now - breaker.failures[0] <= WITHIN
        if breaker.on_trial or often:
            breaker.shut_until, breaker.on_trial = now + REST, False

    def succeeded(self, model: str) -> None:
        """An answer came that was read and grounded."""
        self._breakers.pop(model, None)
