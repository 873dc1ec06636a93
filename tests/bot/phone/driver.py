"""A human at the phone: drives the JSON face as a script would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import ClientSession

Json = dict[str, Any]
TOKEN = "7000000001:phone"


@dataclass(frozen=True, slots=True)
class Human:
    """Speaks to one phone; every method answers the parsed JSON and fails on a refusal."""

    session: ClientSession

    async def say(self, text: str, **more: Any) -> Json:
        return await self._post("/phone/messages", {"text": text, **more})

    async def tap(self, message_id: int, data: str, **more: Any) -> Json:
        return await self._post("/phone/taps", {"message_id": message_id, "data": data, **more})

    async def correct(self, message_id: int, text: str) -> Json:
        return await self._post("/phone/edits", {"message_id": message_id, "text": text})

    async def block(self, blocked: bool) -> Json:
        """Block the bot, or let it write again."""
        return await self._post("/phone/blocks", {"blocked": blocked})

    async def read(self, **query: int) -> Json:
        return await self.get("/phone/messages", **query)

    async def messages(self, **query: int) -> list[Json]:
        seen: list[Json] = (await self.read(**query))["messages"]
        return seen

    async def until(self, text: str) -> Json:
        """The first message that reads `text`, waited for if need be; pytest's timeout ends a vain wait."""
        seen = await self.read()
        while True:
            for message in seen["messages"]:
                if message["text"] == text:
                    found: Json = message
                    return found
            seen = await self.read(since=seen["cursor"], wait=30)

    async def get(self, path: str, **query: int) -> Json:
        async with self.session.get(path, params=query) as response:
            answer: Json = await response.json()
            assert response.status == 200, answer
        return answer

    async def refusal(self, path: str, body: str) -> str:
        """The one line with which the face refuses `body` with 400."""
        async with self.session.post(path, data=body) as response:
            answer: Json = await response.json()
            assert response.status == 400, answer
        line = answer["error"]
        assert isinstance(line, str)
        assert "\n" not in line
        return line

    async def _post(self, path: str, body: Json) -> Json:
        async with self.session.post(path, json=body) as response:
            answer: Json = await response.json()
            assert response.status == 200, answer
        return answer


async def call(session: ClientSession, method: str, **parameters: Any) -> tuple[int, Json]:
    """A raw Bot API call with a JSON body: HTTP status and the whole answer."""
    async with session.post(f"/bot{TOKEN}/{method}", json=parameters) as response:
        return response.status, await response.json()
