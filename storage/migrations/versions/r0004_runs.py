"""What the laboratory found, run by run."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "runs",
        _column("number", sa.Integer()),
        _column("ended", sa.BigInteger()),
        *(_column(name, sa.String()) for name in ("kind", "symbol")),
        _column("interval", sa.Integer()),
        sa.Column("days", sa.Integer(), nullable=True),
        *(_column(name, sa.String()) for name in ("strategy", "verdict")),
        _column("seconds", sa.Float()),
        _column("sets", sa.BigInteger()),
        _column("lineage", sa.Text()),
        *(_column(name, sa.BigInteger()) for name in ("first", "last")),
        *(_column(name, sa.String()) for name in ("question", "source", "params")),
        *(_column(name, sa.String()) for name in ("params_fingerprint", "data_fingerprint")),
        _column("version", sa.Integer()),
        _column("finding", sa.Text()),
        sa.PrimaryKeyConstraint("number", name="pk_runs"),
    )
    op.create_index("ix_runs_question_source", "runs", ["question", "source"])
    op.create_index("ix_runs_symbol_interval_lineage", "runs", ["symbol", "interval", "lineage"])


def _column(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False)
