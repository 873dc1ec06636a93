"""The owner's yes: a card that says what would change, bound to a hash of exactly that, good once for two minutes."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from bot.access import Role
from bot.buttons import button
from bot.ports import Answer, Asked, Desk, said_key
from bot.text import fitted, moment
from storage.tickets import Ticket

_SECONDS: Final = 120


async def ask_owner(
    asked: Asked, desk: Desk, kind: str, body: Mapping[str, Any], card: Sequence[str], yes: str
) -> Answer:
    """The card that asks the owner; nothing happens until it is confirmed. `body` is what the yes permits."""
    if asked.caller.role < Role.OWNER:
        return Answer(text=f"{desk.look.lead} This may raise risk: only the owner can do it.")
    nonce = secrets.token_urlsafe(9)
    ends = asked.at + timedelta(seconds=_SECONDS)
    ticket = Ticket(
        nonce=nonce,
        kind=kind,
        digest=digest_of(kind, body),
        chat_id=asked.caller.user_id,
        created_at=asked.at,
        expires_at=ends,
        body={**body, "card": said_key(asked.update_id, asked.caller.user_id)},
    )
    await desk.tickets.issue(ticket)
    buttons = [[*button(yes, "confirm", nonce), *button("Leave it", "dismiss", nonce)]]
    text = fitted([*card, f"Expires {moment(ends, desk.look.zone)}: no answer, no change."])
    return Answer(text=text, buttons=buttons)


def digest_of(kind: str, body: Mapping[str, Any]) -> str:
    """The hash of what a ticket permits, whatever card it stands on."""
    plain = {name: value for name, value in body.items() if name != "card"}
    return hashlib.sha256(json.dumps([kind, plain], sort_keys=True).encode()).hexdigest()
