"""The tables. Every row but those of `runs`, `model_keys` and `model_spending` belongs to one `account`, so that one
file can hold several and never mix them.

`journal` is the truth; `heads` is the end of each account's hash chain. `intents`, `executions`, `verdicts`,
`trades`, `equity`, `hearings`, `calls` and `shadows` are drawn from it in the same transaction
(storage/projections.py) and name the journal row they come from in `seq`. `cursors` and `snapshots` say how far a
reader or the trader has come. `samples` show the account between two closes, for eyes only. `outbox`, `inbox` and
`tickets` belong to the conversation, `runs` to the laboratory, `model_keys` and `model_spending` to the models.

A change here needs a revision in storage/migrations; a test compares the two.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import BigInteger, Index, MetaData, Table, Text, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from storage.columns import ExactDecimal, PlainText, UtcTime


class Row(SQLModel):
    """Base of every table of this file; named constraints keep migrations portable."""

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Journal(Row, table=True):
    """One event. `hash` covers every other column; `seq` counts each account from 1, without gaps."""

    account: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    type: str
    body: str = Field(sa_type=Text)
    recorded_at: datetime = Field(sa_type=UtcTime)
    previous: bytes
    hash: bytes


class Heads(Row, table=True):
    """The last row of each account's chain: an append that does not continue it changes nothing."""

    account: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    hash: bytes


class Cursors(Row, table=True):
    """How far a reader of the journal has come."""

    account: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)


class Snapshots(Row, table=True):
    """The trader's folded state as of `seq`, as JSON."""

    account: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    state: str = Field(sa_type=Text)


class Intents(Row, table=True):
    """An order as it was meant, committed before it is sent; `state`: see `projections.INTENT_STATES`."""

    account: str = Field(primary_key=True)
    link_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    state: str
    symbol: str
    purpose: str
    side: str
    type: str
    qty: Decimal = Field(sa_type=ExactDecimal)
    price: Decimal | None = Field(default=None, sa_type=ExactDecimal)
    stop: Decimal | None = Field(default=None, sa_type=ExactDecimal)
    take_profit: Decimal | None = Field(default=None, sa_type=ExactDecimal)
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    signal_time: datetime = Field(sa_type=UtcTime)
    exit_reason: str | None = None
    order_id: str | None = None
    reason: str | None = Field(default=None, sa_type=PlainText)


class Executions(Row, table=True):
    """A fill or a funding payment, once per `exec_id`. For funding, `fee` is the amount paid."""

    __table_args__ = (Index(None, "account", "seq"),)

    account: str = Field(primary_key=True)
    exec_id: str = Field(primary_key=True)
    seq: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    symbol: str
    funding: bool
    fee: Decimal = Field(sa_type=ExactDecimal)
    link_id: str | None = None
    order_id: str | None = None
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    purpose: str | None = None
    side: str | None = None
    qty: Decimal | None = Field(default=None, sa_type=ExactDecimal)
    price: Decimal | None = Field(default=None, sa_type=ExactDecimal)
    maker: bool | None = None


class Verdicts(Row, table=True):
    """A decision; the whole event stays in the journal at `seq`. `reasons` is a JSON list."""

    __table_args__ = (Index(None, "account", "seq"),)

    account: str = Field(primary_key=True)
    verdict_id: int = Field(primary_key=True, sa_type=BigInteger)
    seq: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    symbol: str
    side: str
    approved: bool
    gate: str
    reasons: str = Field(sa_type=Text)
    entry: Decimal = Field(sa_type=ExactDecimal)
    stop: Decimal = Field(sa_type=ExactDecimal)
    take_profit: Decimal | None = Field(default=None, sa_type=ExactDecimal)
    qty: Decimal = Field(sa_type=ExactDecimal)
    size_modifier: float
    risk_usdt: Decimal = Field(sa_type=ExactDecimal)
    council: str
    signal_time: datetime = Field(sa_type=UtcTime)
    outcome: str


class Trades(Row, table=True):
    """A finished trade."""

    account: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    symbol: str
    side: str
    signal_time: datetime = Field(sa_type=UtcTime)
    entry_time: datetime = Field(sa_type=UtcTime)
    exit_time: datetime = Field(sa_type=UtcTime)
    entry_price: Decimal = Field(sa_type=ExactDecimal)
    exit_price: Decimal = Field(sa_type=ExactDecimal)
    qty: Decimal = Field(sa_type=ExactDecimal)
    pnl: Decimal = Field(sa_type=ExactDecimal)
    fees: Decimal = Field(sa_type=ExactDecimal)
    funding: Decimal = Field(sa_type=ExactDecimal)
    risk_usdt: Decimal = Field(sa_type=ExactDecimal)
    r: float
    best_r: float
    worst_r: float
    exit_reason: str
    cash: Decimal = Field(sa_type=ExactDecimal)


class Equity(Row, table=True):
    """The equity curve: one row for every close."""

    account: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    equity: float
    cash: Decimal = Field(sa_type=ExactDecimal)
    exposed: bool


class Hearings(Row, table=True):
    """What was said of a candidate before and beside its verdict: `kind` is the event's type in the journal.

    `verdict_id` is None for a question out of a person's mouth. agent, status, twin: of an agent's answer only.
    """

    __table_args__ = (Index(None, "account", "verdict_id"),)

    account: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    kind: str
    agent: str | None = None
    status: str | None = None
    twin: bool | None = None


class Calls(Row, table=True):
    """One request to a language model: number `part`, from 1, of those behind the answer that stands at `seq`.

    Tokens are None where the provider reports none. `key` is the last four characters of the key that was used.
    """

    __table_args__ = (Index(None, "account", "verdict_id"),)

    account: str = Field(primary_key=True)
    seq: int = Field(primary_key=True, sa_type=BigInteger)
    part: int = Field(primary_key=True)
    at: datetime = Field(sa_type=UtcTime)
    verdict_id: int | None = Field(default=None, sa_type=BigInteger)
    symbol: str
    agent: str
    provider: str
    model: str
    prompt: str
    prompt_hash: str
    attempt: int
    repair: bool
    status: str
    code: int
    latency_ms: int = Field(sa_type=BigInteger)
    bytes_in: int = Field(sa_type=BigInteger)
    bytes_out: int = Field(sa_type=BigInteger)
    tokens_in: int | None = Field(default=None, sa_type=BigInteger)
    tokens_out: int | None = Field(default=None, sa_type=BigInteger)
    cost_usd: Decimal = Field(sa_type=ExactDecimal)
    key: str = Field(sa_type=PlainText)


class Shadows(Row, table=True):
    """How a candidate would have ended, traded or not; `ended`: see `events.ShadowEnded`."""

    __table_args__ = (Index(None, "account", "seq"),)

    account: str = Field(primary_key=True)
    verdict_id: int = Field(primary_key=True, sa_type=BigInteger)
    seq: int = Field(sa_type=BigInteger)
    at: datetime = Field(sa_type=UtcTime)
    symbol: str
    side: str
    signal_time: datetime = Field(sa_type=UtcTime)
    ended: str
    entry_time: datetime | None = Field(default=None, sa_type=UtcTime)
    exit_time: datetime | None = Field(default=None, sa_type=UtcTime)
    exit_price: float | None = None
    r: float | None = None
    best_r: float | None = None


class Samples(Row, table=True):
    """The account between two closes, at the last prices of market time `at`."""

    account: str = Field(primary_key=True)
    at: datetime = Field(primary_key=True, sa_type=UtcTime)
    equity: Decimal = Field(sa_type=ExactDecimal)
    cash: Decimal = Field(sa_type=ExactDecimal)


WAITING = text("state = 'waiting'")


class Outbox(Row, table=True):
    """A message to the chat; `state` is `waiting`, `sent` or `dead`. The index holds waiting ones only.

    `revision` counts its changes. One that waits and has a `chat_message_id` is an edit of what the chat shows.
    `steps` is a JSON list of lines below `text`. `media` is empty again once the chat has it.
    """

    __table_args__ = (
        UniqueConstraint("account", "key"),
        Index(
            "ix_outbox_waiting", "account", "priority", "id", sqlite_where=WAITING, postgresql_where=WAITING
        ),
        Index(None, "account", "chat_id", "chat_message_id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    account: str
    key: str
    state: str
    priority: int
    chat_id: int = Field(sa_type=BigInteger)
    text: str = Field(sa_type=PlainText)
    thread: str | None = None
    reply_to: int | None = Field(default=None, sa_type=BigInteger)
    silent: bool
    buttons: str | None = Field(default=None, sa_type=Text)
    attempts: int = 0
    chat_message_id: int | None = Field(default=None, sa_type=BigInteger)
    error: str | None = Field(default=None, sa_type=PlainText)
    steps: str | None = Field(default=None, sa_type=PlainText)
    media: bytes | None = None
    media_kind: str | None = None
    media_name: str | None = Field(default=None, sa_type=PlainText)
    revision: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


PENDING = text("NOT done")


class Inbox(Row, table=True):
    """An update from the chat, committed before it is acknowledged; `account` is the bot's id."""

    __table_args__ = (
        UniqueConstraint("account", "update_id"),
        Index("ix_inbox_pending", "account", "id", sqlite_where=PENDING, postgresql_where=PENDING),
    )

    id: int | None = Field(default=None, primary_key=True)
    account: str
    update_id: int = Field(sa_type=BigInteger)
    received_at: datetime = Field(sa_type=UtcTime)
    body: str = Field(sa_type=Text)
    done: bool = False


class Tickets(Row, table=True):
    """A permission that waits for a tap: single use, bound to the hash of exactly what it permits."""

    account: str = Field(primary_key=True)
    nonce: str = Field(primary_key=True)
    kind: str
    digest: str
    state: str
    chat_id: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(sa_type=UtcTime)
    expires_at: datetime = Field(sa_type=UtcTime)
    body: str = Field(sa_type=Text)
    used_by: int | None = Field(default=None, sa_type=BigInteger)
    used_update: int | None = Field(default=None, sa_type=BigInteger)
    used_at: datetime | None = Field(default=None, sa_type=UtcTime)


class Runs(Row, table=True):
    """What the laboratory found; `finding` is JSON of `version` (storage/runs.py), the columns say where to look.

    `first` and `last` are ms UTC of the bars. `question`, `source` and `params` are fingerprints that the desk tells
    runs apart by, the other two stand in the finding; `sets` counts the parameter sets that were tried.
    """

    __table_args__ = (Index(None, "question", "source"), Index(None, "symbol", "interval", "lineage"))

    number: int | None = Field(default=None, primary_key=True)
    ended: datetime = Field(sa_type=UtcTime)
    kind: str
    symbol: str
    interval: int
    days: int | None = None
    strategy: str
    verdict: str
    seconds: float
    sets: int = Field(sa_type=BigInteger)
    lineage: str = Field(sa_type=PlainText)
    first: int = Field(sa_type=BigInteger)
    last: int = Field(sa_type=BigInteger)
    question: str
    source: str
    params: str
    params_fingerprint: str
    data_fingerprint: str
    version: int
    finding: str = Field(sa_type=Text)


class ModelKeys(Row, table=True):
    """A key of a model's provider, known by a fingerprint: how it fares over restarts (`trading.llm.keys`)."""

    __tablename__ = "model_keys"

    provider: str = Field(primary_key=True)
    fingerprint: str = Field(primary_key=True)
    state: str
    since: datetime | None = Field(default=None, sa_type=UtcTime)
    until: datetime | None = Field(default=None, sa_type=UtcTime)
    why: str = Field(sa_type=PlainText)
    code: int
    uses: int = Field(sa_type=BigInteger)
    told: bool


class ModelSpending(Row, table=True):
    """What a UTC day's calls cost, those included whose end nobody knows; `day` is its ISO date."""

    __tablename__ = "model_spending"

    day: str = Field(primary_key=True)
    tokens: int = Field(sa_type=BigInteger)
    usd: Decimal = Field(sa_type=ExactDecimal)


def table(model: type[Row]) -> Table:
    """The Core table of a model, for statements that need no objects."""
    return Row.metadata.tables[str(model.__tablename__)]
