"""Bringing a database to the schema of this version.

Alembic does the work and is imported only when there is some: at the head, which is every start but the
first, one SELECT is all it takes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from storage.errors import CorruptDatabase

HEAD: Final = "0005"
"""The newest revision in storage/migrations/versions; a test holds it to what Alembic finds there."""

SCRIPTS: Final = Path(__file__).parent / "migrations"


def current(connection: Connection) -> str | None:
    """The revision the database is at; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def upgrade(connection: Connection) -> None:
    """Upgrade inside the transaction of `connection`; nothing is done at the head.

    `CorruptDatabase` when the database was made by a version of Conclave that this one does not know.
    """
    if current(connection) == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise CorruptDatabase(
            f"the database has a schema that this version does not know ({error}): "
            "run the newer Conclave that made it, or restore a backup"
        ) from error
