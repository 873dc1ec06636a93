"""What can go wrong in the phone.

PhoneError
├── PhonePortInUse (also OSError)   another program listens on the port: choose another one
├── PhoneStoreUnusable              phone.db cannot be read by this version
├── Refusal                         the Bot API's answer {"ok": false, ...}
└── FaceRefusal                     the JSON face's answer {"error": ...}
"""

from __future__ import annotations

import errno


class PhoneError(Exception):
    """Base of every error the phone raises on purpose."""


class PhonePortInUse(PhoneError, OSError):
    """The wanted port is taken by another program."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.errno = errno.EADDRINUSE
        self.message = f"port {port} is in use: stop the program that listens there, or choose another port"
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class PhoneStoreUnusable(PhoneError):
    """The file is no phone.db, or a newer version wrote it."""


class Refusal(PhoneError):
    """A refused Bot API call: HTTP status and Telegram's own words; `reason` is td's error alone."""

    def __init__(self, status: int, description: str, retry_after: int | None = None, *, reason: str = "") -> None:
        self.status = status
        self.description = description
        self.retry_after = retry_after
        self.reason = reason
        super().__init__(f"{status} {description}")


class FaceRefusal(PhoneError):
    """A refused call of the JSON face: HTTP status and one clear line."""

    def __init__(self, message: str, status: int = 400) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


def bad_request(reason: str) -> Refusal:
    """Telegram's commonest answer, 400: its prefix and td's error, which loses its capital unless it is a CODE."""
    is_code = len(reason) > 1 and (reason[1] == "_" or "A" <= reason[1] <= "Z")
    told = reason if is_code else reason[:1].lower() + reason[1:]
    return Refusal(400, f"Bad Request: {told}", reason=reason)


def unparsable(reason: str) -> Refusal:
    """A text that does not follow its parse mode."""
    return bad_request(f"Can't parse entities: {reason}")
