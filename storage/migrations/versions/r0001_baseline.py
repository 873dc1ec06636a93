"""The first schema: journal with its hash chain, what is drawn from it, and the chat's own tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table; types are spelled out, so that later models do not change the past."""
    _create_journal()
    _create_orders()
    _create_results()
    _create_chat()


def _text(name: str, *, optional: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Text(), nullable=optional)


def _word(name: str, *, optional: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.String(), nullable=optional)


def _number(name: str, *, optional: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), nullable=optional)


def _real(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Float(), nullable=False)


def _flag(name: str, *, optional: bool = False) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), nullable=optional)


def _bytes(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def _table(name: str, *columns: sa.Column[Any], key: tuple[str, ...]) -> None:
    op.create_table(name, *columns, sa.PrimaryKeyConstraint(*key, name=f"pk_{name}"))


def _create_journal() -> None:
    _table(
        "journal",
        _word("account"),
        _number("seq"),
        _number("at"),
        _word("type"),
        _text("body"),
        _number("recorded_at"),
        _bytes("previous"),
        _bytes("hash"),
        key=("account", "seq"),
    )
    _table("heads", _word("account"), _number("seq"), _bytes("hash"), key=("account",))
    _table("cursors", _word("account"), _word("name"), _number("seq"), key=("account", "name"))
    _table("snapshots", _word("account"), _number("seq"), _text("state"), key=("account",))


def _create_orders() -> None:
    _table(
        "intents",
        _word("account"),
        _word("link_id"),
        _number("seq"),
        _number("at"),
        *(_word(name) for name in ("state", "symbol", "purpose", "side", "type")),
        _text("qty"),
        *(_text(name, optional=True) for name in ("price", "stop", "take_profit")),
        _number("verdict_id", optional=True),
        _number("signal_time"),
        _word("exit_reason", optional=True),
        _word("order_id", optional=True),
        _text("reason", optional=True),
        key=("account", "link_id"),
    )
    _table(
        "executions",
        _word("account"),
        _word("exec_id"),
        _number("seq"),
        _number("at"),
        _word("symbol"),
        _flag("funding"),
        _text("fee"),
        _word("link_id", optional=True),
        _word("order_id", optional=True),
        _number("verdict_id", optional=True),
        _word("purpose", optional=True),
        _word("side", optional=True),
        _text("qty", optional=True),
        _text("price", optional=True),
        _flag("maker", optional=True),
        key=("account", "exec_id"),
    )
    op.create_index("ix_executions_account_seq", "executions", ["account", "seq"])


def _create_results() -> None:
    _table(
        "verdicts",
        _word("account"),
        _number("verdict_id"),
        _number("seq"),
        _number("at"),
        _word("symbol"),
        _word("side"),
        _flag("approved"),
        _word("gate"),
        *(_text(name) for name in ("reasons", "entry", "stop")),
        _text("take_profit", optional=True),
        _text("qty"),
        _real("size_modifier"),
        _text("risk_usdt"),
        _word("council"),
        _number("signal_time"),
        _word("outcome"),
        key=("account", "verdict_id"),
    )
    op.create_index("ix_verdicts_account_seq", "verdicts", ["account", "seq"])
    _table(
        "trades",
        _word("account"),
        _number("seq"),
        _number("at"),
        _number("verdict_id", optional=True),
        _word("symbol"),
        _word("side"),
        *(_number(name) for name in ("signal_time", "entry_time", "exit_time")),
        *(_text(name) for name in ("entry_price", "exit_price", "qty")),
        *(_text(name) for name in ("pnl", "fees", "funding", "risk_usdt")),
        *(_real(name) for name in ("r", "best_r", "worst_r")),
        _word("exit_reason"),
        _text("cash"),
        key=("account", "seq"),
    )
    _table(
        "equity",
        _word("account"),
        _number("seq"),
        _number("at"),
        _real("equity"),
        _text("cash"),
        _flag("exposed"),
        key=("account", "seq"),
    )


def _create_chat() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        *(_word(name) for name in ("account", "key", "state")),
        sa.Column("priority", sa.Integer(), nullable=False),
        _number("chat_id"),
        _text("text"),
        _word("thread", optional=True),
        _number("reply_to", optional=True),
        _flag("silent"),
        _text("buttons", optional=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        _number("chat_message_id", optional=True),
        _text("error", optional=True),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("account", "key", name="uq_outbox_account_key"),
    )
    _partial_index("ix_outbox_waiting", "outbox", ["account", "priority", "id"], "state = 'waiting'")
    op.create_table(
        "inbox",
        sa.Column("id", sa.Integer(), nullable=False),
        _word("account"),
        _number("update_id"),
        _number("received_at"),
        _text("body"),
        _flag("done"),
        sa.PrimaryKeyConstraint("id", name="pk_inbox"),
        sa.UniqueConstraint("account", "update_id", name="uq_inbox_account_update_id"),
    )
    _partial_index("ix_inbox_pending", "inbox", ["account", "id"], "NOT done")
    _table(
        "tickets",
        *(_word(name) for name in ("account", "nonce", "kind", "digest", "state")),
        *(_number(name) for name in ("chat_id", "created_at", "expires_at")),
        _text("body"),
        *(_number(name, optional=True) for name in ("used_by", "used_update", "used_at")),
        key=("account", "nonce"),
    )


def _partial_index(name: str, table: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, table, columns, sqlite_where=condition, postgresql_where=condition)
