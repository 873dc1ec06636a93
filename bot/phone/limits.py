"""Telegram's pace for one bot, as a token bucket per chat and one for all.

Figures: about 1 message/s per chat with bursts of 3 tolerated, 30/s overall (core.telegram.org/bots/faq, "My
bot is hitting limits"). Edits count. The 20 per minute of groups is not modelled: the phone has private chats
only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from bot.phone.errors import Refusal

_CHAT_RATE: Final = 1.0
_CHAT_BURST: Final = 3.0
_OVERALL_RATE: Final = 30.0


@dataclass(slots=True)
class _Bucket:
    rate: float
    burst: float
    tokens: float
    stamp: float

    def wait_for_token(self, now: float) -> float:
        """Seconds until a token is there; 0 when one is."""
        self.tokens = min(self.burst, self.tokens + (now - self.stamp) * self.rate)
        self.stamp = now
        return 0.0 if self.tokens >= 1 else (1 - self.tokens) / self.rate


@dataclass(slots=True)
class RateLimit:
    """Counts sends and edits; `clock` is monotonic seconds."""

    clock: Callable[[], float]
    _chats: dict[int, _Bucket] = field(default_factory=dict)
    _overall: _Bucket | None = None

    def take(self, chat_id: int) -> None:
        """Takes a token or raises Refusal 429 with whole seconds to wait; a refused call takes none."""
        now = self.clock()
        chat = self._chats.setdefault(chat_id, _Bucket(_CHAT_RATE, _CHAT_BURST, _CHAT_BURST, now))
        if self._overall is None:
            self._overall = _Bucket(_OVERALL_RATE, _OVERALL_RATE, _OVERALL_RATE, now)
        wait = max(chat.wait_for_token(now), self._overall.wait_for_token(now))
        if wait > 0:
            seconds = math.ceil(wait)
            raise Refusal(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
        chat.tokens -= 1
        self._overall.tokens -= 1
