"""What can go wrong in the database, on the axis callers decide by.

    ConclaveError
    ├── Transient            locked, disk full or unreadable: nothing was written, the call may be repeated
    ├── Rejected
    │   └── Conflict         a row with this identity exists already
    ├── CorruptDatabase      the file is damaged or is no database of ours
    ├── UnreadableEvent      an event cannot become JSON, or JSON cannot become an event
    └── ForgottenEvents      the embedded journal no longer holds what was asked for
"""

from __future__ import annotations

import sqlite3
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, TimeoutError

from trading.errors import ConclaveError, Rejected, Transient


class CorruptDatabase(ConclaveError):
    """The file is damaged, is no SQLite database, or has a schema that this version does not know."""


class Conflict(Rejected):
    """A row with the same identity exists already: the same thing would be recorded twice."""


class UnreadableEvent(ConclaveError):
    """An event that cannot be written as JSON exactly, or a stored one that cannot be read back."""


class ForgottenEvents(ConclaveError):
    """Events were asked for that the bounded journal in memory has let go of."""


_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def primary_code(error: BaseException | None) -> int:
    """SQLite's primary result code of an error, 0 when it has none."""
    code = getattr(error, "sqlite_errorcode", None)
    return code & 0xFF if isinstance(code, int) else 0


def translated(error: SQLAlchemyError | sqlite3.Error, where: str) -> ConclaveError:
    """The same failure in the words of `trading.errors`; `where` names the database for the reader."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = primary_code(cause)
    if code in _DAMAGED or "Could not decode to UTF-8" in str(cause):
        return damaged(where, str(cause))
    if code == sqlite3.SQLITE_CONSTRAINT:
        return Conflict(f"{where}: {cause}", code=code)
    if isinstance(error, DBAPIError | TimeoutError | sqlite3.OperationalError):
        return Transient(f"{where}: {cause}; check free space, permissions and other programs on the file")
    return ConclaveError(f"{where}: {error}")


def damaged(where: str, what: str) -> CorruptDatabase:
    """The refusal for a file that cannot be trusted, with the way out."""
    return CorruptDatabase(f"{where} is damaged ({what}): stop, and run 'main.py db restore BACKUP'")
