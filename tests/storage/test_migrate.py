"""The schema: what the migrations make is what the models say."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine

from storage.database import Database, open_database
from storage.errors import CorruptDatabase
from storage.migrate import HEAD, SCRIPTS, current
from storage.tables import Row
from tests.storage.samples import content


async def test_migrations_make_the_tables_of_the_models(db: Database) -> None:
    """Autogenerate has nothing to add, types and indexes included."""

    def difference(connection: Connection) -> list[object]:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return list(compare_metadata(context, Row.metadata))

    assert await db.write(difference) == []


async def test_the_statements_are_the_same_too(db: Database, tmp_path: Path) -> None:
    """SQLite's own record of every table and index, partial conditions included."""
    made = tmp_path / "made.db"
    engine = create_engine(f"sqlite:///{made}")
    Row.metadata.create_all(engine)
    engine.dispose()
    assert schema(made) == schema(Path(db.name))


def schema(path: Path) -> dict[str, str]:
    """Statements by name, without the order of clauses inside a table: an added column stands after the keys."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: clauses(sql) for name, sql in rows if name != "alembic_version"}


def clauses(sql: str) -> str:
    """One line for each clause between the outer brackets, sorted."""
    head, _, body = sql.partition("(")
    between = re.split(r",(?![^()]*\))", body.rpartition(")")[0])
    spaced = sorted(" ".join(each.split()).replace(" )", ")").replace("( ", "(") for each in between)
    return "\n".join([" ".join(head.split()), *spaced])


def test_the_head_is_the_newest_revision() -> None:
    """`HEAD` is what saves the import of Alembic at each start: it must be right."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


async def test_alembic_is_not_imported_at_the_head(path: Path) -> None:
    """Every start but the first is spared its price."""
    await (await open_database(path)).close()
    program = (
        "import asyncio, sys\nfrom storage.database import open_database\n"
        f"async def main():\n    await (await open_database({str(path)!r})).close()\n"
        "asyncio.run(main())\nsys.exit('alembic' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
    assert await process.wait() == 0


async def test_a_newer_schema_is_refused(path: Path) -> None:
    """An older Conclave does not write into a newer one's database."""
    await (await open_database(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(CorruptDatabase, match="newer Conclave"):
        await open_database(path)


async def test_an_interrupted_first_start_is_finished_by_the_next(path: Path) -> None:
    """The migration is one transaction: an empty file is migrated as if it were not there."""
    content(path, b"")
    db = await open_database(path)
    assert await db.write(current) == HEAD
    await db.close()
