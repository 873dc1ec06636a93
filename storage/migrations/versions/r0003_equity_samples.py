"""The account between two closes, sampled as wall time goes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table; its amounts are text, as everywhere."""
    op.create_table(
        "samples",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("equity", sa.Text(), nullable=False),
        sa.Column("cash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", "at", name="pk_samples"),
    )
