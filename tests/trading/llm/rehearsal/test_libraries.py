"""Both wires through the unmodified client libraries: what they make of it is what they make of the real thing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx2
import pytest
from google import genai
from google.genai import errors, types
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError

from tests.trading.llm.rehearsal.talk import KEY, SCHEMAS, checked, every_packet, example, settled, user_text
from trading.council.schemas import Facts
from trading.llm.rehearsal.asked import objects_in
from trading.llm.rehearsal.items import BODIES, CODES, SPOILT, WORDS
from trading.llm.rehearsal.server import RehearsalServer

# What google-genai's own subclass of aiohttp's session says on first use, since warnings are errors here.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


class Libraries:
    """The two clients, pointed at the server."""

    def __init__(self, server: RehearsalServer, seconds: float) -> None:
        self.chat = AsyncInferenceClient(base_url=server.chat_url, api_key=KEY, timeout=seconds)
        options = types.HttpOptions(
            base_url=server.url, api_version="v1beta", retry_options=types.HttpRetryOptions(attempts=1)
        )
        self.gemini = genai.Client(vertexai=False, api_key=KEY, http_options=options)

    async def close(self) -> None:
        """Close what connections are open."""
        await self.chat.close()  # type: ignore[no-untyped-call]  # the library's
        await self.gemini.aio.aclose()
        self.gemini.close()

    async def ask_chat(self, agent: str, facts: Facts) -> Any:
        """A chat completion with the schema of the agent."""
        schema = {"name": "answer", "schema": SCHEMAS[agent].model_json_schema(), "strict": True}
        wanted: Any = {"type": "json_schema", "json_schema": schema}
        messages = [{"role": "system", "content": "You judge."}, {"role": "user", "content": user_text(facts)}]
        return await self.chat.chat_completion(
            messages=messages, model="meta-llama/Llama-4:groq", response_format=wanted, max_tokens=1024
        )

    async def ask_gemini(self, agent: str, facts: Facts) -> types.GenerateContentResponse:
        """Generated content with the schema of the agent."""
        config = types.GenerateContentConfig(
            system_instruction="You judge.",
            response_mime_type="application/json",
            response_json_schema=SCHEMAS[agent].model_json_schema(),
            max_output_tokens=2048,
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW),
        )
        return await self.gemini.aio.models.generate_content(
            model="gemini-9-flash", contents=user_text(facts), config=config
        )


@asynccontextmanager
async def libraries(script: object, seconds: float = 20.0) -> AsyncIterator[tuple[RehearsalServer, Libraries]]:
    async with RehearsalServer(script=script) as server:
        both = Libraries(server, seconds)
        try:
            yield server, both
        finally:
            await both.close()


async def test_good_answers_through_huggingface_hub() -> None:
    """Every agent over packets of all kinds, with the metadata that the library gives on."""
    async with libraries(None) as (server, both):
        for one in every_packet()[::20]:
            for agent in SCHEMAS:
                reply = await both.ask_chat(agent, one[agent])
                checked(agent, reply.choices[0].message.content, one[agent])
                assert reply.choices[0].finish_reason == "stop"
        reply = await both.ask_chat("quant", example("quant"))
        assert reply.model == "meta-llama/Llama-4"
        assert reply.id.startswith("chatcmpl-")
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        assert {(entry.provider, entry.agent, entry.key) for entry in server.log} == {
            ("huggingface", agent, KEY[-4:]) for agent in SCHEMAS
        }


async def test_good_answers_through_google_genai() -> None:
    """The same on the other wire."""
    async with libraries(None) as (server, both):
        for one in every_packet()[::20]:
            for agent in SCHEMAS:
                reply = await both.ask_gemini(agent, one[agent])
                checked(agent, reply.text or "", one[agent])
                assert reply.candidates
                assert reply.candidates[0].finish_reason is types.FinishReason.STOP
        reply = await both.ask_gemini("quant", example("quant"))
        assert reply.model_version == "gemini-9-flash"
        usage = reply.usage_metadata
        assert usage
        assert (usage.thoughts_token_count or 0) > 0
        assert {entry.agent for entry in server.log} == set(SCHEMAS)


async def test_huggingface_hub_finds_its_way_with_v1_and_without() -> None:
    """The address that the server prints is enough."""
    async with RehearsalServer() as server:
        for base_url in (server.url, server.chat_url):
            client = AsyncInferenceClient(base_url=base_url, api_key=KEY, timeout=20.0)
            reply = await client.chat_completion(messages=[{"role": "user", "content": "hello"}], model="m")
            assert reply.choices[0].finish_reason == "stop"
            await client.close()  # type: ignore[no-untyped-call]  # the library's


@pytest.mark.parametrize("name", [*WORDS, *SPOILT])
async def test_items_with_status_200_through_both_libraries(name: str) -> None:
    """Neither library finds fault; what wraps an answer is sound at its end."""
    async with libraries([f"{name}*2" if name != "deep_nesting" else "deep_nesting(50)*2"]) as (_, both):
        chat = await both.ask_chat("quant", example("quant"))
        content = await both.ask_gemini("risk_manager", example("risk_manager"))
    if name in WORDS:
        for agent, text in (("quant", chat.choices[0].message.content), ("risk_manager", content.text)):
            checked(agent, json.dumps(list(objects_in(text or ""))[-1]), example(agent))
    else:
        assert not content.candidates or content.candidates[0].content


@pytest.mark.parametrize("name", [name for name in CODES if name != "502"])
async def test_refusals_through_both_libraries(name: str) -> None:
    """Each raises its own error, with the code and the words of the body."""
    async with libraries([f"{name}*2"]) as (server, both):
        with pytest.raises(HfHubHTTPError) as chat:
            await both.ask_chat("quant", example("quant"))
        with pytest.raises(errors.APIError) as content:
            await both.ask_gemini("risk_manager", example("risk_manager"))
        codes = [entry.code for entry in server.log]
    assert [chat.value.response.status_code, content.value.code] == codes
    assert content.value.status
    assert content.value.message


async def test_hints_reach_the_caller_through_both_libraries() -> None:
    """Headers stand on the response of the one, RetryInfo in the details of the other."""
    async with libraries(["429(9)*2"]) as (_, both):
        with pytest.raises(HfHubHTTPError) as chat:
            await both.ask_chat("quant", example("quant"))
        with pytest.raises(errors.ClientError) as content:
            await both.ask_gemini("risk_manager", example("risk_manager"))
    assert chat.value.response.headers["Retry-After"] == "9"
    details: Mapping[str, Any] = content.value.details
    assert details["error"]["details"][-1]["retryDelay"] == "9s"


@pytest.mark.parametrize("name", [*BODIES, "502"])
async def test_foreign_bodies_through_both_libraries(name: str) -> None:
    """Neither takes a page for an answer, and google-genai takes no body at all for an empty one."""
    async with libraries([f"{name}*2"]) as (_, both):
        with pytest.raises((ValueError, HfHubHTTPError)):
            await both.ask_chat("quant", example("quant"))
        if name == "empty_body":
            assert (await both.ask_gemini("risk_manager", example("risk_manager"))).candidates is None
            return
        with pytest.raises((ValueError, errors.ServerError)):
            await both.ask_gemini("risk_manager", example("risk_manager"))


async def test_brackets_without_end_through_both_libraries() -> None:
    """google-genai parses the text on its own account, and breaks on it with an error that is no ValueError."""
    async with libraries(["deep_nesting*2"]) as (_, both):
        chat = await both.ask_chat("quant", example("quant"))
        assert chat.choices[0].message.content.startswith('{"evidence": [[[')
        with pytest.raises(RecursionError):
            await both.ask_gemini("risk_manager", example("risk_manager"))


@pytest.mark.parametrize("name", ["reset", "close", "cut"])
async def test_broken_lines_through_both_libraries(name: str) -> None:
    """Each raises what its own transport raises, and the server saw one call of each."""
    async with libraries([f"{name}*2"]) as (server, both):
        with pytest.raises(httpx2.TransportError):
            await both.ask_chat("quant", example("quant"))
        with pytest.raises(aiohttp.ClientError):
            await both.ask_gemini("risk_manager", example("risk_manager"))
        assert len(server.log) == 2


async def test_waiting_through_both_libraries() -> None:
    """The one gives up by its timeout, the other when it is told; a drip defeats the first one's timeout."""
    async with libraries(["hang*2", "slow_drip(0.9)"], seconds=0.3) as (server, both):
        with pytest.raises(InferenceTimeoutError):
            await both.ask_chat("quant", example("quant"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await both.ask_gemini("risk_manager", example("risk_manager"))
        dripped = await both.ask_chat("quant", example("quant"))
        checked("quant", dripped.choices[0].message.content, example("quant"))
        await settled(server)
        assert (list(server.log)[-1].seconds or 0.0) >= 0.9


async def test_gemini_refuses_a_deadline_that_is_too_short() -> None:
    """The library tells the server its timeout; the real one refuses less than ten seconds."""
    async with RehearsalServer() as server:
        options = types.HttpOptions(base_url=server.url, api_version="v1beta", timeout=5000)
        client = genai.Client(vertexai=False, api_key=KEY, http_options=options)
        with pytest.raises(errors.ClientError, match="Minimum allowed deadline is 10s"):
            await client.aio.models.generate_content(model="gemini-9-flash", contents="hello")
        await client.aio.aclose()
        client.close()
