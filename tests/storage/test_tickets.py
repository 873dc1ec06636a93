"""One permission, one effect, only in time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from storage.database import Database
from storage.errors import Conflict
from storage.tickets import Ticket, Tickets
from tests.storage import samples

TICKET = Ticket(
    nonce="n1",
    kind="proposal",
    digest="ab12",
    chat_id=42,
    created_at=samples.START,
    expires_at=samples.START + timedelta(minutes=5),
    body={"qty": "0.010"},
)


async def test_of_many_taps_one_counts(db: Database) -> None:
    """Fifty taps at once, each with an update id of its own: one gets the ticket."""
    tickets = Tickets(db, "paper")
    await tickets.issue(TICKET)
    taps = [tickets.use("n1", user=7, update_id=number, at=samples.START) for number in range(50)]
    got = [ticket for ticket in await asyncio.gather(*taps) if ticket is not None]
    assert got == [TICKET]


async def test_the_same_tap_after_a_crash_counts_again(db: Database) -> None:
    """The update that used it gets it again, even late; any other does not."""
    tickets = Tickets(db, "paper")
    await tickets.issue(TICKET)
    late = TICKET.expires_at + timedelta(hours=1)
    assert await tickets.use("n1", user=7, update_id=1, at=samples.START) == TICKET
    assert await tickets.use("n1", user=7, update_id=1, at=late) == TICKET
    assert await tickets.use("n1", user=7, update_id=2, at=samples.START) is None
    assert await tickets.find("n1") == (TICKET, "used")


async def test_time_is_kept(db: Database) -> None:
    """At its end it is over, and `expire` hands it out once."""
    tickets = Tickets(db, "paper")
    await tickets.issue(TICKET)
    assert await tickets.use("n1", user=7, update_id=1, at=TICKET.expires_at) is None
    assert await tickets.expire(TICKET.expires_at - timedelta(seconds=1)) == []
    assert await tickets.expire(TICKET.expires_at) == [TICKET]
    assert await tickets.expire(TICKET.expires_at) == []
    assert await tickets.use("n1", user=7, update_id=1, at=samples.START) is None


async def test_withdrawn_unknown_foreign_and_double(db: Database) -> None:
    """None of these gives a ticket."""
    tickets = Tickets(db, "paper")
    await tickets.issue(TICKET)
    with pytest.raises(Conflict):
        await tickets.issue(replace(TICKET, digest="other"))
    assert await Tickets(db, "live").use("n1", user=7, update_id=1, at=samples.START) is None
    assert await tickets.use("n2", user=7, update_id=1, at=samples.START) is None
    assert await tickets.withdraw("n1")
    assert not await tickets.withdraw("n1")
    assert await tickets.use("n1", user=7, update_id=1, at=samples.START) is None
