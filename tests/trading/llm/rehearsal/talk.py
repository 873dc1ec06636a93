"""What the rehearsal server's tests say to it: real packets, prompts of either wire, raw requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import aiohttp

from tests.trading.council.candidates import STRATEGY, TERMS, brief_at, edges, mirrored, synthetic
from trading.council import packet
from trading.council.schemas import (
    Facts,
    QuantAnswer,
    Reply,
    RiskManagerAnswer,
    Status,
    StrategistAnswer,
    grounding_errors,
)
from trading.llm.rehearsal import answers
from trading.llm.rehearsal.server import RehearsalServer
from trading.ports import Brief
from trading.strategy import evaluate

KEY = "hf_rehearsal_key_a1b2"
SCHEMAS: Mapping[str, type[QuantAnswer | StrategistAnswer | RiskManagerAnswer]] = {
    "quant": QuantAnswer,
    "strategist": StrategistAnswer,
    "risk_manager": RiskManagerAnswer,
}
VOTES = {"quant": "signal", "strategist": "bias", "risk_manager": "decision"}


@cache
def briefs(count: int = 400) -> tuple[Brief, ...]:
    """Candidates of the default strategy on made-up prices."""
    series = synthetic()
    signals = evaluate(STRATEGY, series)
    return tuple(brief_at(series, signals, row) for row in edges(series, signals, count))


def packets(brief: Brief) -> dict[str, Facts]:
    """Each agent's packet as the prompt holds it; the Risk Manager's with the server's own two answers in it."""
    market = packet.read_market(brief.window)
    quant = loaded(packet.quant_packet(brief, market, TERMS))
    chart = loaded(packet.strategist_packet(brief, market, TERMS))
    first = Reply(status=Status.OK, answer=QuantAnswer.model_validate_json(json.dumps(answers.quant(quant))))
    second = Reply(status=Status.OK, answer=StrategistAnswer.model_validate_json(json.dumps(answers.strategist(chart))))
    risk = loaded(packet.risk_packet(brief, market, TERMS, first, second))
    return {"quant": quant, "strategist": chart, "risk_manager": risk}


def loaded(part: packet.Packet) -> Facts:
    """A packet through its JSON."""
    facts: Facts = json.loads(part.json())
    return facts


@cache
def every_packet() -> tuple[dict[str, Facts], ...]:
    return tuple(packets(brief) for brief in briefs())


@cache
def mirrored_packets(count: int) -> tuple[tuple[dict[str, Facts], dict[str, Facts]], ...]:
    """Packets beside those of the market upside down."""
    return tuple((packets(brief), packets(mirrored(brief))) for brief in briefs()[:count])


def example(agent: str) -> Facts:
    return every_packet()[7][agent]


def taken() -> Facts:
    """A Risk Manager's packet that is approved."""
    offered = (one["risk_manager"] for one in every_packet())
    return next(facts for facts in offered if answers.risk_manager(facts)["size_multiplier"])


def checked(agent: str, text: str, facts: Facts) -> QuantAnswer | StrategistAnswer | RiskManagerAnswer:
    """The answer in a text, valid and grounded, or an error."""
    answer = SCHEMAS[agent].model_validate_json(text)
    if not isinstance(answer, RiskManagerAnswer) and (problems := grounding_errors(answer.evidence, facts)):
        raise ValueError("; ".join(problems))
    return answer


def user_text(facts: Facts) -> str:
    return f"Judge the proposal. An example is {{\"a\": 1}}. The packet:\n{json.dumps(facts)}\nAnswer in JSON."


def chat_body(agent: str, facts: Facts, **changes: Any) -> dict[str, Any]:
    """What huggingface_hub sends."""
    schema = SCHEMAS[agent].model_json_schema()
    return {
        "model": "deepseek-ai/DeepSeek-V3.2:novita",
        "messages": [
            {"role": "system", "content": "You judge, you do not trade."},
            {"role": "user", "content": user_text(facts)},
        ],
        "response_format": {"type": "json_object", "value": schema},
        "max_tokens": 1024,
        "stream": False,
        **changes,
    }


def gemini_body(agent: str, facts: Facts, **config: Any) -> dict[str, Any]:
    """What google-genai sends."""
    return {
        "contents": [{"parts": [{"text": user_text(facts)}], "role": "user"}],
        "systemInstruction": {"parts": [{"text": "You judge, you do not trade."}], "role": "user"},
        "generationConfig": {
            "maxOutputTokens": 2048,
            "responseMimeType": "application/json",
            "responseJsonSchema": SCHEMAS[agent].model_json_schema(),
            "thinkingConfig": {"thinking_level": "LOW"},
            **config,
        },
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A raw reply; its text and its finish, whichever wire it came over."""

    provider: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def first(self) -> dict[str, Any]:
        """The first choice or candidate."""
        found: dict[str, Any] = self.json["choices" if self.provider == "huggingface" else "candidates"][0]
        return found

    @property
    def finish(self) -> str:
        return str(self.first["finish_reason" if self.provider == "huggingface" else "finishReason"])

    @property
    def text(self) -> str | None:
        if self.provider == "huggingface":
            content: str | None = self.first["message"]["content"]
            return content
        parts = [part for part in self.first["content"].get("parts", []) if not part.get("thought")]
        return "".join(part["text"] for part in parts) if parts else None


class Caller:
    """Asks raw, without a client library."""

    def __init__(self, session: aiohttp.ClientSession, server: RehearsalServer) -> None:
        self._session, self._server = session, server

    async def ask(self, provider: str, agent: str, facts: Facts | None = None, *, key: str = KEY) -> Heard:
        """One question as the libraries ask it."""
        packet_asked = example(agent) if facts is None else facts
        if provider == "huggingface":
            return await self.chat(chat_body(agent, packet_asked), key=key)
        return await self.gemini(gemini_body(agent, packet_asked), key=key)

    async def chat(self, body: Any, *, key: str = KEY, query: str = "") -> Heard:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return await self._post("huggingface", f"{self._server.chat_url}/chat/completions{query}", body, headers)

    async def gemini(self, body: Any, *, key: str = KEY, query: str = "", **headers: str) -> Heard:
        url = f"{self._server.url}/v1beta/models/gemini-9-flash:generateContent{query}"
        return await self._post("gemini", url, body, {"x-goog-api-key": key, **headers} if key else headers)

    async def _post(self, provider: str, url: str, body: Any, headers: Mapping[str, str]) -> Heard:
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self._session.post(url, data=sent, headers={"Content-Type": "application/json", **headers}) as reply:
            return Heard(provider=provider, status=reply.status, headers=reply.headers, body=await reply.read())

    async def control(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """A request to what stands beside the wires."""
        async with self._session.request(method, f"{self._server.url}/rehearsal/{path}", json=body) as reply:
            return reply.status, await reply.json()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it, five seconds at most."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  the log has no event
            await asyncio.sleep(0.01)


async def settled(server: RehearsalServer) -> None:
    """Until the log has closed every call."""
    await until(lambda: all(entry.seconds is not None for entry in server.log))


@asynccontextmanager
async def rehearsing(**settings: Any) -> AsyncIterator[tuple[RehearsalServer, Caller]]:
    """A running server and somebody who asks it."""
    async with RehearsalServer(**settings) as server, aiohttp.ClientSession() as session:
        yield server, Caller(session, server)


