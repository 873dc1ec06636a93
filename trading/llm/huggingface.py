"""Chat completions through `huggingface_hub.AsyncInferenceClient`, imported on first use.

Without a base URL the router of Hugging Face is asked, and gets the JSON schema in OpenAI's form; an address of one's
own gets what the library makes of it there: `{"type": "json_object", "value": schema}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from trading.llm.wire import ModelReply, ModelRequest, Refused, Unanswered

if TYPE_CHECKING:
    from trading.llm.line import Line

ROUTER: Final = "https://router.huggingface.co"
NORMAL_ENDS: Final = frozenset({"stop", "eos_token"})


class HuggingFace:
    """`LanguageModel`: every provider behind the Hugging Face router, or a server with the same face."""

    provider = "huggingface"

    def __init__(self, base_url: str | None) -> None:
        routed = base_url is None or urlsplit(base_url).hostname == urlsplit(ROUTER).hostname
        self._base_url = None if routed else base_url
        self._opening = asyncio.Lock()
        self._line: Line | None = None

    async def ready(self) -> None:
        """Load the library, in a thread: half a second that the first question need not spend."""
        await self._opened()

    async def answer(self, request: ModelRequest, secret: str) -> ModelReply:
        """Ask once. `Unanswered` with code 200: something came that is no chat completion."""
        if self._base_url is None and not secret.startswith("hf_"):
            raise Refused("the router of Hugging Face takes keys that begin with hf_", code=401)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.seconds
        try:
            async with asyncio.timeout_at(deadline):
                line = await self._opened()
        except TimeoutError:
            raise Unanswered("the library was not loaded in time", timeout=True) from None
        except ImportError as error:
            raise Refused(f"huggingface_hub cannot be loaded: run make install ({error})") from None
        from trading.llm.line import asked

        left = deadline - loop.time()
        return await asked(lambda: _completed(line, self._base_url, request, secret), seconds=left, secret=secret)

    async def close(self) -> None:
        """Close what connections are open."""
        line, self._line = self._line, None
        if line is not None:
            await line.aclose()

    async def _opened(self) -> Line:
        async with self._opening:
            if self._line is None:
                self._line = await asyncio.to_thread(_connected, self._base_url or ROUTER)
            return self._line


def _connected(base_url: str) -> Line:
    """Blocks while the library is imported and the certificates are read."""
    from huggingface_hub import AsyncInferenceClient, constants  # noqa: F401  the first is loaded when it is named

    from trading.llm.line import Line

    # Else the first call asks huggingface.co who started this program, and the loop stands until it answers.
    constants.HF_HUB_DISABLE_TELEMETRY = True

    return Line(base_url)


async def _completed(line: Line, base_url: str | None, request: ModelRequest, secret: str) -> ModelReply:
    from huggingface_hub import AsyncInferenceClient, set_async_client_factory

    client = AsyncInferenceClient(base_url=base_url, api_key=secret, timeout=request.seconds)
    # The factory belongs to the whole process, and is asked before the next line first waits for anything.
    set_async_client_factory(lambda: line)
    output = await client.chat_completion(
        messages=_messages(request),
        model=request.model,
        response_format=_format(request.schema),
        max_tokens=request.max_tokens,
        temperature=request.temperature,
    )
    return _reply(output)


def _messages(request: ModelRequest) -> list[Any]:
    asked = [("system", request.system), ("user", request.user)]
    if request.repair is not None:
        answer, errors = request.repair
        asked += [("assistant", answer), ("user", errors)]
    return [{"role": role, "content": content} for role, content in asked]


def _format(schema: Mapping[str, Any]) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": dict(schema), "strict": True}}


def _reply(output: Mapping[str, Any]) -> ModelReply:
    """The library checks no shape: anything may stand anywhere. Thinking has fields of its own, which stay unread."""
    from trading.llm.line import mapping, text, whole

    choices = output.get("choices")
    if not isinstance(choices, list):
        raise TypeError("no choices")
    choice = mapping(choices[0]) if choices else {}
    usage = mapping(output.get("usage"))
    finish = text(choice.get("finish_reason")) or "none given"
    return ModelReply(
        text=text(mapping(choice.get("message")).get("content")),
        finish=finish,
        stopped=finish in NORMAL_ENDS,
        tokens_in=whole(usage.get("prompt_tokens")),
        tokens_out=whole(usage.get("completion_tokens")),
    )
