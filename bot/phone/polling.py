"""getUpdates: the long poll, of which a bot may have one at a time."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from bot.phone.errors import Refusal
from bot.phone.params import Call
from bot.phone.switchboard import Switchboard

_LONGEST_POLL: Final = 50
_MOST_UPDATES: Final = 100
_CONFLICT: Final = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"


class Poller:
    """Hands out the queue of updates. As at Telegram, a new poll ends the one that hangs with 409."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._turn = 0

    async def get_updates(self, call: Call) -> list[dict[str, Any]]:
        """Forgets updates below `offset`, then answers up to `limit`; with none it waits `timeout` seconds.

        The phone makes message, edited_message, callback_query and my_chat_member; `allowed_updates` lasts until it
        is given anew.
        """
        allowed = call.lenient("allowed_updates")
        if isinstance(allowed, list):
            self._board.allow([str(kind) for kind in allowed])
        self._turn += 1
        turn = self._turn
        self._board.updates.ring()
        offset = call.integer("offset")
        if offset:
            with self._board.store.writing():
                self._board.store.acknowledge(offset)
        limit = min(max(call.integer("limit", _MOST_UPDATES), 1), _MOST_UPDATES)
        seconds = min(max(call.integer("timeout"), 0), _LONGEST_POLL)
        return await self._wait(turn, limit, seconds)

    async def _wait(self, turn: int, limit: int, seconds: int) -> list[dict[str, Any]]:
        now = asyncio.get_running_loop().time
        deadline = now() + seconds
        while True:
            if turn != self._turn:
                raise Refusal(409, _CONFLICT)
            updates = self._board.store.updates(limit)
            if updates or now() >= deadline or self._board.updates.closed:
                return updates
            await self._board.updates.wait(deadline - now())
