"""Both adapters on the real SDKs, against a server that answers whatever a provider may."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
import random
import secrets
import subprocess
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from tests.trading.llm.loopback import (
    ModelServer,
    Reply,
    chat,
    drip,
    generated,
    half,
    hang,
    model_server,
    reset,
    status,
)
from trading.llm.gemini import Gemini
from trading.llm.huggingface import HuggingFace
from trading.llm.wire import LanguageModel, ModelReply, ModelRequest, Refused, Unanswered

SECRET = "hf_" + secrets.token_hex(16)
SCHEMA = {
    "type": "object",
    "properties": {"signal": {"type": "string", "enum": ["LONG", "SHORT"]}},
    "required": ["signal"],
    "additionalProperties": False,
}
REQUEST = ModelRequest(
    model="deep/seek:provider",
    system="You are the Quant.",
    user='{"rsi": 51.2}',
    schema=SCHEMA,
    max_tokens=700,
    temperature=0.2,
    seconds=5.0,
)


@dataclass(frozen=True)
class Wire:
    """One adapter and how its provider speaks."""

    make: Callable[[str | None], LanguageModel]
    good: Callable[..., dict[str, Any]]
    stop: str


WIRES = {"huggingface": Wire(HuggingFace, chat, "stop"), "gemini": Wire(Gemini, generated, "STOP")}


@pytest.fixture(params=sorted(WIRES))
def wire(request: pytest.FixtureRequest) -> Wire:
    """Every test for both."""
    return WIRES[request.param]


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    """A provider."""
    async with model_server() as running:
        yield running


@pytest.fixture
async def client(wire: Wire, server: ModelServer) -> AsyncIterator[LanguageModel]:
    """Its adapter, closed in the end: what it leaves open would fail the test as a warning."""
    model = wire.make(server.url)
    yield model
    await model.close()
    gc.collect()


async def ended(client: LanguageModel, request: ModelRequest = REQUEST) -> Unanswered | Refused:
    """How a request fails that must fail."""
    with pytest.raises((Unanswered, Refused)) as caught:
        await client.answer(request, SECRET)
    assert isinstance(caught.value, Unanswered | Refused)
    return caught.value


async def test_a_good_answer(wire: Wire, server: ModelServer, client: LanguageModel) -> None:
    """The text without the thinking, the provider's own word for its end, and its count of tokens."""
    server.after = status(200, wire.good('{"signal": "LONG"}'))
    reply = await client.answer(REQUEST, SECRET)
    assert reply == ModelReply(
        text='{"signal": "LONG"}', finish=wire.stop, stopped=True, tokens_in=1000, tokens_out=200
    )


async def test_what_goes_out_to_hugging_face(server: ModelServer) -> None:
    """Chat completions, the schema as the library writes it, and the key in a header alone."""
    client = HuggingFace(server.url + "/v1")
    server.after = status(200, chat("{}"))
    await client.answer(replace(REQUEST, repair=("BUY", "BUY is no signal")), SECRET)
    await client.close()
    (asked,) = server.asked
    assert asked.url == f"{server.url}/v1/chat/completions"
    assert asked.key == SECRET
    assert SECRET not in json.dumps(asked.body)
    assert asked.body["model"] == "deep/seek:provider"
    assert asked.body["response_format"] == {"type": "json_object", "value": SCHEMA}
    assert (asked.body["max_tokens"], asked.body["temperature"], asked.body["stream"]) == (700, 0.2, False)
    assert asked.body["messages"] == [
        {"role": "system", "content": "You are the Quant."},
        {"role": "user", "content": '{"rsi": 51.2}'},
        {"role": "assistant", "content": "BUY"},
        {"role": "user", "content": "BUY is no signal"},
    ]


@pytest.mark.parametrize(
    ("model", "thinking"),
    [("gemini-flash-latest", {"thinking_level": "LOW"}), ("gemini-2.5-pro", {"thinking_budget": 512})],
)
async def test_what_goes_out_to_gemini(server: ModelServer, model: str, thinking: dict[str, object]) -> None:
    """`generateContent` of v1beta, little thinking, room for it, and no deadline that the server refuses (400)."""
    client = Gemini(server.url)
    server.after = status(200, generated("{}"))
    await client.answer(replace(REQUEST, model=model, repair=("BUY", "BUY is no signal")), SECRET)
    await client.close()
    (asked,) = server.asked
    assert asked.url == f"{server.url}/v1beta/models/{model}:generateContent"
    assert asked.key == SECRET
    assert SECRET not in json.dumps(asked.body)
    assert int(asked.headers["X-Server-Timeout"]) >= 10
    assert asked.body["systemInstruction"]["parts"] == [{"text": "You are the Quant."}]
    assert [(part["role"], part["parts"][0]["text"]) for part in asked.body["contents"]] == [
        ("user", '{"rsi": 51.2}'),
        ("model", "BUY"),
        ("user", "BUY is no signal"),
    ]
    config = asked.body["generationConfig"]
    assert config.pop("thinkingConfig") in (thinking, {_camel(name): value for name, value in thinking.items()})
    assert config == {
        "temperature": 0.2,
        "maxOutputTokens": 2048,
        "responseMimeType": "application/json",
        "responseJsonSchema": SCHEMA,
    }


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


BODIES: dict[str, tuple[object, str]] = {
    "gemini": ({"error": {"code": 1, "message": f"no {SECRET} here", "status": "X"}}, ""),
    "hub": ({"error": f"no {SECRET} here"}, ""),
    "list": ([{"error": {"message": f"no {SECRET} here"}}], ""),
    "words": (["a", 1, None, {"errors": "b"}], ""),
    "odd": ({"error": [1], "errors": {"message": 3}}, ""),
    "number": (7, ""),
    "text": (f"no {SECRET} here\nsecond line", ""),
    "html": (f"<!doctype html><title>no {SECRET} here</title>" + "<p>page</p>" * 20_000, "text/html"),
    "empty": ("", ""),
    "bytes": (b"\xff\xfe\x00{", ""),
    "edge": ("x" * 180 + SECRET + "y" * 100, ""),
    "escaped": ('{"error": "' + "".join(f"\\u{ord(mark):04x}" for mark in SECRET) + '"}', "application/json"),
    "deep": ("[" * 50_000, "application/json"),
}


@pytest.mark.parametrize("form", sorted(BODIES))
async def test_every_code_with_every_body(server: ModelServer, client: LanguageModel, form: str) -> None:
    """The code decides what it is; the message is one short line that never holds the key, or pages of HTML."""
    body, kind = BODIES[form]
    for code in (302, 400, 401, 402, 403, 404, 409, 413, 418, 422, 408, 429, 500, 502, 503, 504, 529):
        server.after = status(code, body, kind=kind)
        error = await ended(client)
        assert error.code == code
        assert isinstance(error, Unanswered) == (code in {408, 429} or code >= 500)
        _check_said(error)
    assert len(server.asked) == 17


def _check_said(error: Unanswered | Refused) -> None:
    """One line, printable, short, without the key, and no chain that leads to the request."""
    message = str(error)
    assert 0 < len(message) <= 260
    assert message.isprintable()
    assert error.__cause__ is None
    assert error.__context__ is None
    told = message + repr(error) + "".join(traceback.format_exception(error))
    # Not even in part: what is left of a key that was cut through would show.
    assert not any(SECRET[start : start + 12] in told for start in range(len(SECRET) - 11))


HINTS: dict[str, tuple[dict[str, str], object, float | None]] = {
    "seconds": ({"Retry-After": "7"}, "", 7.0),
    "older form": ({"RateLimit": "limit=10, remaining=0, reset=30"}, "", 30.0),
    "newer form": ({"RateLimit": '"default";r=0;t=40', "Retry-After": "soon"}, "", 40.0),
    "body": ({}, {"error": {"details": [{"@type": "x/google.rpc.RetryInfo", "retryDelay": "34s"}]}}, 34.0),
    "none": ({}, {"error": {"details": "none"}}, None),
}


@pytest.mark.parametrize("form", sorted(HINTS))
async def test_waiting_hints(server: ModelServer, client: LanguageModel, form: str) -> None:
    """Headers and body reach the hint through both SDKs, for 429 and for 503."""
    headers, body, seconds = HINTS[form]
    for code in (429, 503):
        server.after = status(code, body, headers)
        error = await ended(client)
        assert isinstance(error, Unanswered)
        assert error.hint == seconds


async def test_a_date_to_wait_for(server: ModelServer, client: LanguageModel) -> None:
    """`Retry-After` as an HTTP date, measured by the server's own clock."""
    until = (datetime.now(UTC) + timedelta(seconds=90)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    server.after = status(429, "", {"Retry-After": until})
    error = await ended(client)
    assert isinstance(error, Unanswered)
    assert error.hint == pytest.approx(90, abs=2)


async def test_gemini_calls_a_wrong_key_a_bad_request(server: ModelServer) -> None:
    """Its reason tells it from a request that is wrong: only the key is of no use any more."""
    client = Gemini(server.url)
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    server.after = status(400, {"error": {"code": 400, "message": "API key not valid.", "details": details}})
    error = await ended(client)
    await client.close()
    assert (error.code, str(error)) == (401, "400: API key not valid.")


UNREADABLE: dict[str, tuple[object, str]] = {
    "html": ("<html><head><title>Welcome</title></head></html>", "text/html"),
    "empty": ("", ""),
    "text": ("OK", ""),
    "null": (None, ""),
    "list": ([], ""),
    "object": ({}, ""),
    "other shape": ({"choices": {"a": 1}, "candidates": {"a": 1}}, ""),
    "error": ({"error": {"message": "overloaded"}}, ""),
    "cut off": ('{"choices": [{"message": {"content": "', ""),
    "deep": ("[" * 50_000, "application/json"),
    "bytes": (b'{"id": "\xff\xfe"}', "application/json"),
}


@pytest.mark.parametrize("form", sorted(UNREADABLE))
async def test_what_is_no_answer_of_a_model(server: ModelServer, client: LanguageModel, form: str) -> None:
    """With status 200, but nothing in it that a model said."""
    body, kind = UNREADABLE[form]
    server.after = status(200, body, kind=kind)
    error = await ended(client)
    assert isinstance(error, Unanswered)
    assert (error.code, error.timeout) == (200, False)
    assert str(error).startswith("200: no answer of a model, but ")
    _check_said(error)


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [], "candidates": [], "usage": {"prompt_tokens": 3}, "usageMetadata": {"promptTokenCount": 3}},
        {"choices": [{}], "candidates": [{}], "usage": {"prompt_tokens": 3}, "usageMetadata": {"promptTokenCount": 3}},
        {
            "choices": [{"message": {"content": None}}],
            "candidates": [{"content": {"parts": [None, {"text": 3}]}}],
            "usage": {"prompt_tokens": 3, "completion_tokens": -1},
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": "4"},
        },
    ],
    ids=["none", "empty", "no text"],
)
async def test_a_model_that_says_nothing(server: ModelServer, client: LanguageModel, answer: object) -> None:
    """An empty text that did not stop, with what it cost."""
    server.after = status(200, answer)
    reply = await client.answer(REQUEST, SECRET)
    assert reply == ModelReply(text="", finish="none given", stopped=False, tokens_in=3, tokens_out=None)


@pytest.mark.parametrize("finish", ["length", "MAX_TOKENS", "SAFETY", "content_filter", "RECITATION", "BRAND_NEW", ""])
async def test_any_other_end_is_no_normal_stop(
    wire: Wire, server: ModelServer, client: LanguageModel, finish: str
) -> None:
    """Also one that the SDK has never heard of."""
    server.after = status(200, wire.good('{"signal"', finish))
    reply = await client.answer(REQUEST, SECRET)
    assert (reply.text, reply.finish, reply.stopped) == ('{"signal"', finish or "none given", False)


async def test_a_prompt_that_gemini_blocks(server: ModelServer) -> None:
    """No candidate, but a reason."""
    client = Gemini(server.url)
    server.after = status(200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
    reply = await client.answer(REQUEST, SECRET)
    await client.close()
    assert (reply.text, reply.finish, reply.stopped) == ("", "BLOCKED:PROHIBITED_CONTENT", False)


async def test_half_a_surrogate_pair_is_replaced(wire: Wire, server: ModelServer, client: LanguageModel) -> None:
    """JSON may hold one, UTF-8 may not: the text can be stored and sent back."""
    server.after = status(200, json.dumps(wire.good("a\ud800b")), kind="application/json")
    reply = await client.answer(REQUEST, SECRET)
    assert reply.text == "a\ufffdb"


@pytest.mark.parametrize("stalling", [hang, drip(200), drip(200, {"Content-Type": "application/json"})])
async def test_a_deadline_is_kept(server: ModelServer, client: LanguageModel, stalling: Reply) -> None:
    """A server that hangs, or keeps sending a byte now and then, is left in time."""
    server.script.append(status(404))
    await ended(client)
    server.after = stalling
    begun = time.monotonic()
    error = await ended(client, replace(REQUEST, seconds=0.3))
    assert 0.28 < time.monotonic() - begun < 0.6
    assert isinstance(error, Unanswered)
    assert (error.code, error.timeout, error.hint) == (0, True, None)
    _check_said(error)


async def test_a_status_counts_where_its_body_never_ends(server: ModelServer, client: LanguageModel) -> None:
    """The headers of a 429 say all there is to know."""
    server.script.append(status(404))
    await ended(client)
    server.after = drip(429, {"Retry-After": "7"})
    error = await ended(client, replace(REQUEST, seconds=0.3))
    assert isinstance(error, Unanswered)
    assert (error.code, error.timeout, error.hint) == (429, False, 7.0)


@pytest.mark.parametrize("broken", [reset, half])
async def test_a_line_that_breaks(server: ModelServer, client: LanguageModel, broken: Reply) -> None:
    """Not repeated by the SDK: one request, one failure."""
    server.after = broken
    error = await ended(client)
    assert isinstance(error, Unanswered)
    assert (error.code, error.timeout) == (0, False)
    assert len(server.asked) == 1
    _check_said(error)


@pytest.mark.parametrize("code", [200, 503])
@pytest.mark.parametrize("packing", ["gzip", "deflate", "br", "gzip, gzip"])
async def test_a_packed_body_is_not_unpacked(
    server: ModelServer, client: LanguageModel, code: int, packing: str
) -> None:
    """A few kilobytes may hold gigabytes, and nobody asked for them packed."""

    async def bomb(_server: ModelServer, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, body=gzip.compress(b"x" * 50_000_000), headers={"content-encoding": packing})

    server.after = bomb
    begun = time.monotonic()
    error = await ended(client)
    assert isinstance(error, Unanswered)
    assert error.code == code
    assert code != 200 or "packed" in str(error)
    assert time.monotonic() - begun < 2.0
    _check_said(error)


async def test_nobody_listens(wire: Wire) -> None:
    """A refused connection is a broken line, at once."""
    async with model_server() as server:
        url = server.url
    client = wire.make(url)
    begun = time.monotonic()
    error = await ended(client)
    await client.close()
    assert time.monotonic() - begun < REQUEST.seconds
    assert isinstance(error, Unanswered)
    assert (error.code, error.timeout, error.unsent) == (0, False, True)


@pytest.mark.parametrize("key", ["", "hf_ab cd", "hf_ab\ncd", "hf_äöü", "hf_ab\x00"])
async def test_a_key_that_cannot_be_one(server: ModelServer, client: LanguageModel, key: str) -> None:
    """Is refused like a wrong key, before it is sent, and not repeated in the message."""
    with pytest.raises(Refused) as caught:
        await client.answer(REQUEST, key)
    assert caught.value.code == 401
    assert not key or key not in str(caught.value)
    assert not server.asked


async def test_the_router_takes_its_own_keys_alone() -> None:
    """The library would call another one our mistake; it is the key's, and nothing is sent."""
    for address in (None, "https://router.huggingface.co/v1"):
        with pytest.raises(Refused) as caught:
            await HuggingFace(address).answer(REQUEST, "sk-of-somebody-else")
        assert caught.value.code == 401


@pytest.mark.parametrize("text", ["x" * 1_000_000, json.dumps([{"a": 1}] * 90_000)])
async def test_a_megabyte_does_not_hold_up_the_loop(
    wire: Wire, server: ModelServer, client: LanguageModel, text: str
) -> None:
    """20 ms of its own time at most, in the best of a few runs; an error's megabyte neither."""
    body = json.dumps(wire.good(text))
    server.script.append(status(404))
    await ended(client)
    for code in (200, 500):
        lags = []
        for _ in range(5):
            server.script.append(status(code, body, kind="application/json"))
            lags.append(await _longest_stall(client))
        assert min(lags) < 0.020


async def _longest_stall(client: LanguageModel) -> float:
    stalls, codes = [0.0], []

    async def watch() -> None:
        while True:
            begun = time.thread_time()
            await asyncio.sleep(0.001)
            stalls.append(time.thread_time() - begun)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        try:
            await client.answer(REQUEST, SECRET)
        except Unanswered as error:
            codes.append(error.code)
        watching.cancel()
    assert codes in ([], [500])
    return max(stalls)


async def test_a_body_without_measure_is_broken_off(wire: Wire, server: ModelServer, client: LanguageModel) -> None:
    """Nothing of it is kept beyond 2 MB."""
    server.after = status(200, wire.good("x" * 3_000_000))
    error = await ended(client)
    assert (error.code, str(error)) == (200, "200: no answer of a model, but one longer than 2097152 bytes")


async def test_cancelling_ends_at_once(server: ModelServer, client: LanguageModel) -> None:
    """The server sees the line close, and the next question is answered as if nothing had been."""
    server.script.extend([status(404), hang])
    await ended(client)
    task = asyncio.create_task(client.answer(REQUEST, SECRET))
    await server.was_asked(2)
    begun = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begun < 0.5
    await asyncio.wait_for(server.left.wait(), 2)
    server.after = status(404)
    assert (await ended(client)).code == 404


async def test_many_at_a_time_with_keys_of_their_own(wire: Wire, server: ModelServer, client: LanguageModel) -> None:
    """Each answer belongs to its question, each key goes with its own."""
    keys = [f"hf_{number:08d}" for number in range(20)]
    for number, key in enumerate(keys):
        server.by_key[key] = status(200, wire.good(f"answer {number}"))
    for key in keys[::2]:
        server.by_key[key] = status(500, {"error": {"message": f"down for {key[-2:]}"}})

    async def one(key: str) -> str:
        try:
            return (await client.answer(REQUEST, key)).text
        except Unanswered as error:
            return str(error)

    said = await asyncio.gather(*(one(key) for key in keys))
    expected = [f"answer {n}" if n % 2 else f"500: down for {keys[n][-2:]}" for n in range(20)]
    assert said == expected


async def test_a_proxy_is_not_asked_for_loopback(
    wire: Wire, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment says."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    client = wire.make(server.url)
    server.after = status(200, wire.good("{}"))
    assert (await client.answer(REQUEST, SECRET)).text == "{}"
    await client.close()


async def test_a_client_that_was_closed_opens_again(wire: Wire, server: ModelServer, client: LanguageModel) -> None:
    """Closing twice is no failure either."""
    server.after = status(200, wire.good("{}"))
    await client.answer(REQUEST, SECRET)
    await client.close()
    await client.close()
    assert (await client.answer(REQUEST, SECRET)).text == "{}"


async def test_no_log_line_holds_a_key(
    wire: Wire, server: ModelServer, client: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Down to what the SDKs say to a debugger."""
    caplog.set_level(logging.DEBUG)
    server.script.extend([status(200, wire.good("{}")), status(401, {"error": SECRET}), reset])
    await client.answer(REQUEST, SECRET)
    await ended(client)
    await ended(client)
    assert SECRET not in caplog.text
    assert SECRET not in repr(client)


async def test_random_bodies_are_an_answer_or_one_of_two_failures(
    wire: Wire, server: ModelServer, client: LanguageModel
) -> None:
    """300 good bodies with something in them replaced or cut off, by a seeded hand."""
    rng = random.Random(6)
    for _ in range(300):
        server.after = status(rng.choice([200, 200, 200, 429]), _spoilt(rng, wire.good("{}")), kind="application/json")
        try:
            assert isinstance(await client.answer(REQUEST, SECRET), ModelReply)
        except (Unanswered, Refused) as error:
            _check_said(error)


def _spoilt(rng: random.Random, body: Any) -> str:
    text = json.dumps(_replaced(rng, body))
    return text[: rng.randrange(len(text))] if rng.random() < 0.2 else text


def _replaced(rng: random.Random, node: Any) -> Any:
    if rng.random() < 0.12:
        return rng.choice([None, [], {}, "text", 7, -1.5, True, [None], {"content": []}, "\ud800"])
    if isinstance(node, dict):
        return {key: _replaced(rng, value) for key, value in node.items()}
    return [_replaced(rng, value) for value in node] if isinstance(node, list) else node


def test_the_libraries_are_loaded_on_first_use() -> None:
    """Importing the adapters imports neither SDK nor what they run on."""
    code = (
        "import sys, trading.llm.gemini, trading.llm.huggingface, trading.llm.caller\n"
        "print([name for name in ('huggingface_hub', 'google.genai', 'httpx2', 'anyio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_hugging_face_is_not_told_who_runs_it(server: ModelServer) -> None:
    """Its library would ask huggingface.co for that, in the middle of the loop, before the first question."""
    client = HuggingFace(server.url)
    await client.ready()
    from huggingface_hub import constants

    assert constants.HF_HUB_DISABLE_TELEMETRY
    await client.close()
