"""The tree of failures, on the axis callers decide by.

    ConclaveError
    ├── Transient        nothing happened; the same call may be repeated
    ├── Rejected         the other side said no; repeating it is pointless
    ├── OutcomeUnknown   it may or may not have happened; ask before acting again
    ├── Misconfigured    the configuration is wrong; stop (exit 78)
    ├── BadInput         what the user gave a command is wrong (exit 2)
    └── AnotherInstance  a second process on the same data (exit 75)

Adapters translate everything that their libraries raise into one of these.
Every message is one line that tells its reader what to do.
"""

from __future__ import annotations


class ConclaveError(Exception):
    """Base of every failure that this program raises on purpose."""


class Transient(ConclaveError):
    """Nothing happened on the other side; the same call may be repeated."""


class Rejected(ConclaveError):
    """The other side refused for good; `code` is its own return code, 0 when it has none."""

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class OutcomeUnknown(ConclaveError):
    """The call may have had its effect: ask by link id before acting again."""


class Misconfigured(ConclaveError):
    """The configuration is wrong: the program does not start (exit code 78)."""


class BadInput(ConclaveError):
    """What the user handed to a command is wrong (exit code 2)."""


class AnotherInstance(ConclaveError):
    """Another process already works on this data directory (exit code 75)."""
