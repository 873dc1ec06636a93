"""One request to one language model, and the two ways in which it fails.

    Unanswered    the model did not answer in time or at all; `hint` says how long its provider asks us to wait
    Refused       the provider refuses this key or this request; `code` says which

An adapter makes one request, raises nothing else, and never retries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from trading.errors import Rejected, Transient


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to one model. `schema` is the JSON schema its answer must satisfy; `repair` are the last answer and
    the errors that were found in it, when it is to be mended."""

    model: str
    system: str
    user: str
    schema: Mapping[str, Any]
    max_tokens: int
    temperature: float
    seconds: float
    repair: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """The answer as it came. `stopped` is true for a normal end, `finish` the provider's own word for it.

    `text` leaves out what the provider marks as thinking. Tokens are those the provider reports (thinking counts as
    output), None where it reports none.
    """

    text: str
    finish: str
    stopped: bool
    tokens_in: int | None
    tokens_out: int | None


class Unanswered(Transient):
    """Nothing was answered: a timeout (`code` 0 and `timeout`), a broken line (0), 408, 429 or 5xx. May be tried again.

    `hint` is in seconds from now, None where the provider gives none. `unsent`: nobody was reached, so that nobody can
    have worked for it.
    """

    def __init__(
        self, message: str, *, code: int = 0, hint: float | None = None, timeout: bool = False, unsent: bool = False
    ) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.timeout = timeout
        self.unsent = unsent


class Refused(Rejected):
    """The provider said no: 400, 401, 402, 403, 404, 413, 422. The message holds no key."""


class LanguageModel(Protocol):
    """One provider's models."""

    @property
    def provider(self) -> str:
        """`huggingface` or `gemini`."""
        ...

    async def answer(self, request: ModelRequest, secret: str) -> ModelReply:
        """Ask once with this key, within `request.seconds`. Raises `Unanswered` or `Refused` and nothing else."""
        ...

    async def close(self) -> None:
        """Close what connections are open."""
        ...
