"""Messages that change after they were sent: steps, pictures, and which revision the chat has."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what was sent before stays as it is."""
    for column in (
        sa.Column("steps", sa.Text(), nullable=True),
        sa.Column("media", sa.LargeBinary(), nullable=True),
        sa.Column("media_kind", sa.String(), nullable=True),
        sa.Column("media_name", sa.Text(), nullable=True),
    ):
        op.add_column("outbox", column)
    op.add_column("outbox", sa.Column("revision", sa.Integer(), nullable=False, server_default="0"))
    op.create_index("ix_outbox_account_chat_id_chat_message_id", "outbox", ["account", "chat_id", "chat_message_id"])
