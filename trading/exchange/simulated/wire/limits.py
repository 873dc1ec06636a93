"""How often each endpoint may be asked: so many requests in any second, told in headers, refused with 10006.

`factor` multiplies every limit: market time may run hundreds of times faster than the wall's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

WINDOW = 1.0
LEAST_WAIT_MS = 25  # a client that waits for the reset finds it in the future still when the reply reaches it
MOST = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What is left of a limit after a request; `allowed` is False when it was one too many."""

    limit: int
    left: int
    reset_ms: int
    allowed: bool

    def headers(self) -> dict[str, str]:
        """As Bybit tells it."""
        return {
            "X-Bapi-Limit": str(self.limit),
            "X-Bapi-Limit-Status": str(self.left),
            "X-Bapi-Limit-Reset-Timestamp": str(self.reset_ms),
        }


class Limits:
    """The requests of the last second, by endpoint."""

    def __init__(self, factor: float = 1.0) -> None:
        self._factor = factor
        self._seen: dict[str, deque[float]] = {}

    def take(self, endpoint: str, per_second: int, now: float, count: int = 1) -> Allowance:
        """Count `count` requests at `now` (seconds of the wall); none of them when they are too many."""
        limit = max(1, int(min(per_second * self._factor, MOST)))
        seen = self._seen.setdefault(endpoint, deque())
        while seen and seen[0] <= now - WINDOW:
            seen.popleft()
        if len(seen) + count > limit:
            reset = int((seen[0] if seen else now) * 1000) + 1001
            reset = max(reset, int(now * 1000) + LEAST_WAIT_MS)
            return Allowance(limit=limit, left=max(limit - len(seen), 0), reset_ms=reset, allowed=False)
        seen.extend([now] * count)
        return Allowance(limit=limit, left=limit - len(seen), reset_ms=int(now * 1000), allowed=True)
