"""What the council said, what it cost, how its candidates would have ended; keys and spending of its models."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; no older journal holds an event of theirs."""
    _create_hearings()
    _create_calls()
    _create_shadows()
    _create_models()


def _column(name: str, kind: Any, *, optional: bool = False) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=optional)


def _create_hearings() -> None:
    op.create_table(
        "hearings",
        _column("account", sa.String()),
        _column("seq", sa.BigInteger()),
        _column("at", sa.BigInteger()),
        _column("verdict_id", sa.BigInteger(), optional=True),
        _column("kind", sa.String()),
        _column("agent", sa.String(), optional=True),
        _column("status", sa.String(), optional=True),
        _column("twin", sa.Boolean(), optional=True),
        sa.PrimaryKeyConstraint("account", "seq", name="pk_hearings"),
    )
    op.create_index("ix_hearings_account_verdict_id", "hearings", ["account", "verdict_id"])


def _create_calls() -> None:
    op.create_table(
        "calls",
        _column("account", sa.String()),
        _column("seq", sa.BigInteger()),
        _column("part", sa.Integer()),
        _column("at", sa.BigInteger()),
        _column("verdict_id", sa.BigInteger(), optional=True),
        *(_column(name, sa.String()) for name in ("symbol", "agent", "provider", "model", "prompt", "prompt_hash")),
        _column("attempt", sa.Integer()),
        _column("repair", sa.Boolean()),
        _column("status", sa.String()),
        _column("code", sa.Integer()),
        *(_column(name, sa.BigInteger()) for name in ("latency_ms", "bytes_in", "bytes_out")),
        *(_column(name, sa.BigInteger(), optional=True) for name in ("tokens_in", "tokens_out")),
        *(_column(name, sa.Text()) for name in ("cost_usd", "key")),
        sa.PrimaryKeyConstraint("account", "seq", "part", name="pk_calls"),
    )
    op.create_index("ix_calls_account_verdict_id", "calls", ["account", "verdict_id"])


def _create_shadows() -> None:
    op.create_table(
        "shadows",
        _column("account", sa.String()),
        *(_column(name, sa.BigInteger()) for name in ("verdict_id", "seq", "at")),
        *(_column(name, sa.String()) for name in ("symbol", "side")),
        _column("signal_time", sa.BigInteger()),
        _column("ended", sa.String()),
        *(_column(name, sa.BigInteger(), optional=True) for name in ("entry_time", "exit_time")),
        *(_column(name, sa.Float(), optional=True) for name in ("exit_price", "r", "best_r")),
        sa.PrimaryKeyConstraint("account", "verdict_id", name="pk_shadows"),
    )
    op.create_index("ix_shadows_account_seq", "shadows", ["account", "seq"])


def _create_models() -> None:
    op.create_table(
        "model_keys",
        *(_column(name, sa.String()) for name in ("provider", "fingerprint", "state")),
        *(_column(name, sa.BigInteger(), optional=True) for name in ("since", "until")),
        _column("why", sa.Text()),
        _column("code", sa.Integer()),
        _column("uses", sa.BigInteger()),
        _column("told", sa.Boolean()),
        sa.PrimaryKeyConstraint("provider", "fingerprint", name="pk_model_keys"),
    )
    op.create_table(
        "model_spending",
        _column("day", sa.String()),
        _column("tokens", sa.BigInteger()),
        _column("usd", sa.Text()),
        sa.PrimaryKeyConstraint("day", name="pk_model_spending"),
    )
