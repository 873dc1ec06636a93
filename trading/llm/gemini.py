"""`generateContent` through `google-genai`, imported on first use.

The answer is read from the body, not from the SDK's objects: those warn of finish reasons they do not know, and their
`.parsed` may be None without a word.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from trading.llm.wire import ModelReply, ModelRequest, Refused, Unanswered

if TYPE_CHECKING:
    import httpx2
    from google.genai import Client, types

    from trading.llm.line import Line

DEFAULT_URL: Final = "https://generativelanguage.googleapis.com/"
LEAST_TOKENS: Final = 2048
"""Thinking counts against the answer's tokens: fewer would cut it off."""
LEAST_TIMEOUT_MS: Final = 10_000
"""The SDK tells the server its timeout, and the server refuses (400) deadlines under 10 s: ours are kept here."""
THINKING_TOKENS: Final = 512
"""For models of the 2.x line, which know no levels; allowed by all of them."""


@dataclass(frozen=True, slots=True)
class _Open:
    client: Client
    line: Line


class Gemini:
    """`LanguageModel`: Gemini, or a server with the same face."""

    provider = "gemini"

    def __init__(self, base_url: str | None) -> None:
        self._base_url = base_url or DEFAULT_URL
        self._opening = asyncio.Lock()
        self._open: _Open | None = None

    async def ready(self) -> None:
        """Load the library, in a thread: a second that the first question need not spend."""
        await self._opened()

    async def answer(self, request: ModelRequest, secret: str) -> ModelReply:
        """Ask once. `Unanswered` with code 200: something came that is no answer of `generateContent`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.seconds
        try:
            async with asyncio.timeout_at(deadline):
                client = (await self._opened()).client
        except TimeoutError:
            raise Unanswered("the library was not loaded in time", timeout=True) from None
        except ImportError as error:
            raise Refused(f"google-genai cannot be loaded: run make install ({error})") from None
        from trading.llm.line import asked

        # A wrong key is a 400 here: only its reason tells it from a wrong request.
        left = deadline - loop.time()
        return await asked(
            lambda: _generated(client, request, secret), seconds=left, secret=secret, bad_key="API_KEY_INVALID"
        )

    async def close(self) -> None:
        """Close what connections are open."""
        opened, self._open = self._open, None
        if opened is not None:
            opened.client.close()
            await opened.line.aclose()

    async def _opened(self) -> _Open:
        async with self._opening:
            if self._open is None:
                self._open = await asyncio.to_thread(_connected, self._base_url)
            return self._open


def _connected(base_url: str) -> _Open:
    """Blocks while the library is imported and the certificates are read."""
    from trading.llm.line import Line

    # It warns of keys in the environment, as if it used them.
    logging.getLogger("google_genai._api_client").setLevel(logging.ERROR)
    _rehearse()
    line = Line(base_url)
    return _Open(_client(base_url, line), line)


@functools.cache
def _rehearse() -> None:
    asyncio.run(_rehearsed())


async def _rehearsed() -> None:
    """One call that leads nowhere: the SDK builds its models on first use, which would stall the loop for 60 ms."""
    import httpx2

    request = ModelRequest(model="none", system="-", user="-", schema={}, max_tokens=1, temperature=0.0, seconds=1.0)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json={}))) as nowhere:
        client = _client("http://localhost", nowhere)
        with contextlib.suppress(TypeError):  # nothing is no answer
            await _generated(client, request, "none")
        client.close()


def _client(base_url: str, line: httpx2.AsyncClient) -> Client:
    """One client for all keys: each call brings its own, in the header that this one's would go in."""
    from google.genai import Client, types

    options = types.HttpOptions(base_url=base_url, api_version="v1beta", httpx_async_client=line)
    return Client(vertexai=False, api_key="none", http_options=options)


async def _generated(client: Client, request: ModelRequest, secret: str) -> ModelReply:
    response = await client.aio.models.generate_content(
        model=request.model, contents=_contents(request), config=_config(request, secret)
    )
    http = response.sdk_http_response
    return _reply((http and http.body) or "")


def _config(request: ModelRequest, secret: str) -> types.GenerateContentConfig:
    from google.genai import types

    timeout = max(LEAST_TIMEOUT_MS, round(request.seconds * 1000))
    return types.GenerateContentConfig(
        system_instruction=request.system,
        temperature=request.temperature,
        max_output_tokens=max(LEAST_TOKENS, request.max_tokens),
        response_mime_type="application/json",
        response_json_schema=dict(request.schema),
        thinking_config=_thinking(request.model),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        should_return_http_response=True,
        http_options=types.HttpOptions(timeout=timeout, headers={"x-goog-api-key": secret}),
    )


def _thinking(model: str) -> types.ThinkingConfig:
    """As little as the model's generation can be told; both at once are refused."""
    from google.genai import types

    if model.removeprefix("models/").startswith("gemini-2"):
        return types.ThinkingConfig(thinking_budget=THINKING_TOKENS)
    return types.ThinkingConfig(thinking_level=types.ThinkingLevel.LOW)


def _contents(request: ModelRequest) -> list[Any]:
    asked = [("user", request.user)]
    if request.repair is not None:
        answer, errors = request.repair
        asked += [("model", answer), ("user", errors)]
    return [{"role": role, "parts": [{"text": part}]} for role, part in asked]


def _reply(body: str) -> ModelReply:
    """From the JSON text of a `GenerateContentResponse`, in which anything may be missing."""
    from trading.llm.line import mapping, text, whole

    answer = mapping(json.loads(body))
    usage = mapping(answer.get("usageMetadata"))
    blocked = text(mapping(answer.get("promptFeedback")).get("blockReason"))
    candidates = answer.get("candidates")
    if not isinstance(candidates, list) and not blocked:
        raise TypeError("no candidates")
    candidate = mapping(candidates[0]) if isinstance(candidates, list) and candidates else {}
    finish = f"BLOCKED:{blocked}" if blocked else text(candidate.get("finishReason")) or "none given"
    thought, said = whole(usage.get("thoughtsTokenCount")), whole(usage.get("candidatesTokenCount"))
    return ModelReply(
        text=_text(candidate),
        finish=finish,
        stopped=finish == "STOP",
        tokens_in=whole(usage.get("promptTokenCount")),
        tokens_out=None if thought is None and said is None else (thought or 0) + (said or 0),
    )


def _text(candidate: dict[str, Any]) -> str:
    """The parts in a row, but for thoughts."""
    from trading.llm.line import mapping, text

    parts = mapping(candidate.get("content")).get("parts")
    spoken = [mapping(part) for part in parts] if isinstance(parts, list) else []
    return "".join(text(part.get("text")) for part in spoken if not part.get("thought"))
