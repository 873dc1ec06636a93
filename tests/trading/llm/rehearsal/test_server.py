"""The server around its answers: what it refuses, what it remembers, how it is told what to do."""

from __future__ import annotations

import json
import time
from typing import Any

import aiohttp
import pytest

from tests.trading.llm.rehearsal.talk import (
    KEY,
    chat_body,
    checked,
    example,
    gemini_body,
    rehearsing,
    user_text,
)
from trading.errors import BadInput
from trading.llm.rehearsal.items import KINDS
from trading.llm.rehearsal.server import RehearsalServer

STORM = {
    "keys": {"aaaa": ["401*forever"]},
    "buckets": {"one": {"keys": ["bbbb", "cccc"], "script": ["429(0.6)", "402"]}},
    "risk_manager": ["503"],
}


async def test_it_starts_and_stops_as_often_as_it_is_told() -> None:
    """A free port each time; an address only while it runs; twice is an error, stopping twice is none."""
    server = RehearsalServer()
    with pytest.raises(RuntimeError, match="not running"):
        _ = server.url
    for _ in range(2):
        await server.start()
        assert server.url.startswith("http://127.0.0.1:")
        assert server.chat_url == f"{server.url}/v1"
        with pytest.raises(RuntimeError, match="already running"):
            await server.start()
        await server.stop()
        await server.stop()


async def test_a_taken_port_is_an_error() -> None:
    """And nothing is left open."""
    async with RehearsalServer() as server:
        with pytest.raises(OSError, match="in use"):
            await RehearsalServer(port=int(server.url.rpartition(":")[2])).start()


@pytest.mark.parametrize("path", ["", "chat/completions", "v1/models/gemini-9-flash:generateContent", "v2/x"])
async def test_a_path_that_nobody_serves_says_which_are(path: str) -> None:
    """As JSON that both libraries show."""
    async with rehearsing() as (server, _), aiohttp.ClientSession() as session:
        for ask in (session.get, session.post):
            async with ask(f"{server.url}/{path}") as reply:
                assert reply.status == 404
                assert "POST /v1/chat/completions" in (await reply.json())["error"]["message"]


async def test_a_key_in_the_url_is_refused_and_not_kept() -> None:
    """On both wires, beside a good header and without one."""
    async with rehearsing() as (server, caller):
        for query in ("?key=AIzaSECRET99", "?alt=json&key=AIzaSECRET99"):
            heard = await caller.gemini(gemini_body("risk_manager", example("risk_manager")), query=query)
            assert heard.status == 400
            assert heard.json["error"]["status"] == "INVALID_ARGUMENT"
        heard = await caller.chat(chat_body("quant", example("quant")), query="?api_key=hf_SECRET99", key="")
        assert heard.status == 400
        assert "SECRET" not in json.dumps(server.log.as_json())


async def test_nobody_is_refused() -> None:
    """Without a key, as each provider words it."""
    async with rehearsing() as (server, caller):
        assert (await caller.chat(chat_body("quant", example("quant")), key="")).status == 401
        heard = await caller.gemini(gemini_body("quant", example("quant")), key="")
        assert (heard.status, heard.json["error"]["status"]) == (403, "PERMISSION_DENIED")
        assert [entry.key for entry in server.log] == ["", ""]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"",
        {"messages": [{"role": "user", "content": "x"}]},
        {"model": "m"},
        {"model": "m", "messages": []},
        {"model": "m", "messages": ["x"]},
        {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True},
        b"[" * 100_000,
    ],
)
async def test_what_is_no_chat_completion_is_refused(body: Any) -> None:
    """With 400 and the reason."""
    async with rehearsing() as (_, caller):
        heard = await caller.chat(body)
        assert heard.status == 400
        assert heard.json["error"]["message"].startswith("Invalid request")


@pytest.mark.parametrize(
    "body", [b"{", {}, {"contents": []}, {"contents": "x"}, {"contents": [{"parts": []}], "stream": True}]
)
async def test_what_is_no_content_is_refused(body: Any) -> None:
    """The same on Gemini's wire."""
    async with rehearsing() as (_, caller):
        heard = await caller.gemini(body)
        assert (heard.status, heard.json["error"]["status"]) == (400, "INVALID_ARGUMENT")


async def test_gemini_takes_either_bound_on_thinking_but_not_both() -> None:
    """And no deadline under ten seconds."""
    async with rehearsing() as (_, caller):
        both = gemini_body("quant", example("quant"), thinkingConfig={"thinkingBudget": 1, "thinkingLevel": "LOW"})
        assert (await caller.gemini(both)).status == 400
        one = gemini_body("quant", example("quant"), thinkingConfig={"thinkingBudget": 512})
        assert (await caller.gemini(one)).status == 200
        assert (await caller.gemini(one, **{"X-Server-Timeout": "8"})).status == 400
        assert (await caller.gemini(one, **{"X-Server-Timeout": "10"})).status == 200


SHAPES: list[Any] = [
    lambda schema: {"type": "json_object", "value": schema},
    lambda schema: {"type": "json_schema", "json_schema": {"name": "a", "schema": schema, "strict": True}},
    lambda schema: {"type": "json_object"},
    lambda schema: None,
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("agent", ["quant", "strategist", "risk_manager"])
async def test_every_form_of_a_schema_is_understood(shape: Any, agent: str) -> None:
    """The hub client's, OpenAI's, and none at all: then the packet tells who is asked."""
    body = chat_body(agent, example(agent))
    body["response_format"] = shape(body["response_format"]["value"])
    async with rehearsing() as (_, caller):
        checked(agent, (await caller.chat(body)).text or "", example(agent))


async def test_the_fields_come_in_the_order_of_the_asked_schema() -> None:
    """Also in another order than the usual one."""
    body = chat_body("quant", example("quant"))
    schema = body["response_format"]["value"]
    schema["properties"] = dict(reversed(schema["properties"].items()))
    async with rehearsing() as (_, caller):
        assert list(json.loads((await caller.chat(body)).text or "")) == list(schema["properties"])


async def test_the_packet_is_found_in_a_repair_too() -> None:
    """The last user's text holds errors, an earlier one the packet; text in parts is text."""
    facts = example("strategist")
    body = chat_body("strategist", facts)
    body["messages"] = [
        {"role": "user", "content": [{"type": "text", "text": user_text(facts)}]},
        {"role": "assistant", "content": '{"bias": "BULL"}'},
        {"role": "user", "content": 'Your answer {"bias": "BULL"} is invalid: {"bias": "BULL"} is no bias.'},
    ]
    async with rehearsing() as (_, caller):
        checked("strategist", (await caller.chat(body)).text or "", facts)


async def test_who_asks_something_else_is_answered_in_a_sentence() -> None:
    """No packet, no schema that is known: no object either."""
    async with rehearsing() as (_, caller):
        heard = await caller.chat({"model": "m", "messages": [{"role": "user", "content": "What is the time?"}]})
        assert heard.finish == "stop"
        assert "{" not in (heard.text or "")


@pytest.mark.parametrize("wire", ["huggingface", "gemini"])
async def test_an_answer_keeps_to_the_tokens_it_was_given(wire: str) -> None:
    """Too few, and it ends in the middle with the finish that says so."""
    async with rehearsing() as (_, caller):
        if wire == "gemini":
            heard = await caller.gemini(gemini_body("quant", example("quant"), maxOutputTokens=90))
            usage = heard.json["usageMetadata"]
            assert usage["thoughtsTokenCount"] + usage["candidatesTokenCount"] <= 90
        else:
            heard = await caller.chat(chat_body("quant", example("quant"), max_tokens=20))
            assert heard.json["usage"]["completion_tokens"] <= 20
        assert heard.finish in {"length", "MAX_TOKENS"}
        with pytest.raises(ValueError, match="JSON"):
            checked("quant", heard.text or "", example("quant"))


async def test_the_same_seed_says_the_same() -> None:
    """Answer, id and usage, byte for byte, under a standing clock."""

    async def spoken(seed: int) -> list[bytes]:
        async with rehearsing(seed=seed, temperament="drunk", clock=lambda: 1_700_000_000.0) as (_, caller):
            return [(await caller.ask(wire, "quant")).body for wire in ("huggingface", "gemini")]

    assert await spoken(1) == await spoken(1)
    assert await spoken(1) != await spoken(2)


async def test_each_key_and_bucket_has_its_own_script() -> None:
    """A retired key stays refused, a bucket shares its waits, others go on undisturbed."""
    async with rehearsing(script=STORM) as (server, caller):
        codes = [
            (await caller.ask("gemini", "risk_manager", key=f"AIza-{tail}")).status
            for tail in ("aaaa", "bbbb", "cccc", "dddd", "bbbb", "aaaa")
        ]
        assert codes == [401, 429, 402, 503, 200, 401]
        assert [entry.bucket for entry in server.log] == ["aaaa", "one", "one", "dddd", "one", "aaaa"]


async def test_the_log_knows_who_came_too_early() -> None:
    """A bucket that was asked to wait; what was under way then is not blamed, another provider neither."""
    now = [1000.0]
    async with rehearsing(script=STORM, clock=lambda: now[0]) as (server, caller):
        for after in (0.0, 0.1, 0.4, 2.0):
            now[0] = 1000.0 + after
            await caller.ask("gemini", "risk_manager", key="AIza-bbbb")
            await caller.ask("huggingface", "quant", key="hf_xbbbb")
        gemini = [entry.early for entry in server.log if entry.provider == "gemini"]
        assert gemini == [False, False, True, False]
        assert not any(entry.early for entry in server.log if entry.key == "xbbbb")


async def test_no_key_is_kept_anywhere() -> None:
    """Not in the log, not in the remembered bodies, whatever the answer was and wherever the key stood."""
    async with rehearsing(script=["good", "401", "bad_key", "429(1)", "reset", "html"]) as (server, caller):
        for _ in range(5):
            body = chat_body("quant", example("quant"))
            body["messages"].append({"role": "user", "content": f"my key is {KEY}"})
            try:
                heard = await caller.chat(body)
            except aiohttp.ClientError:
                continue
            assert KEY.encode() not in heard.body
        kept = json.dumps([(await caller.control("GET", path))[1] for path in ("log", "bodies", "script")])
        assert KEY not in kept
        assert "[key]" in kept
        assert KEY[-4:] in kept
        assert KEY not in repr(list(server.log))


async def test_the_script_is_set_and_seen_on_the_way() -> None:
    """A new one takes the place of the old; what is none is refused in a line and changes nothing."""
    async with rehearsing(script=["500*3"]) as (_, caller):
        assert await caller.control("GET", "script") == (200, {"any": ["500*3"]})
        assert await caller.control("POST", "script", {"gemini": ["safety"]}) == (200, {"gemini": ["safety"]})
        status, refused = await caller.control("POST", "script", ["saftey"])
        assert (status, "did you mean safety?" in refused["error"]) == (400, True)
        assert await caller.control("GET", "script") == (200, {"gemini": ["safety"]})
        assert (await caller.ask("huggingface", "quant")).status == 200
        assert (await caller.ask("gemini", "risk_manager")).finish == "SAFETY"
        _, log = await caller.control("GET", "log")
        assert [(entry["provider"], entry["agent"], entry["item"]) for entry in log] == [
            ("huggingface", "quant", "good"),
            ("gemini", "risk_manager", "safety"),
        ]
        assert log[0]["bytes_in"] > log[0]["bytes_out"] > 100
        assert abs(log[0]["at"] - time.time()) < 60


async def test_a_script_may_change_the_temperament() -> None:
    """From then on; one that is none is refused and changes nothing."""
    facts = example("quant")
    async with rehearsing() as (_, caller):
        sound = json.loads((await caller.ask("huggingface", "quant")).text or "")
        assert (await caller.control("POST", "script", {"temperament": "contrarian"}))[0] == 200
        contrary = (await caller.ask("huggingface", "quant")).text or ""
        checked("quant", contrary, facts)
        assert {sound["signal"], json.loads(contrary)["signal"]} in ({"LONG", "SHORT"}, {"NEUTRAL"})
        status, refused = await caller.control("POST", "script", {"temperament": "sund", "any": ["500"]})
        assert (status, "did you mean sound?" in refused["error"]) == (400, True)
        assert (await caller.ask("huggingface", "quant")).text == contrary


async def test_a_reset_forgets_everything() -> None:
    """Script, log and bodies."""
    async with rehearsing(script=["500", "hang"]) as (server, caller):
        await caller.ask("huggingface", "quant")
        assert list(server.bodies)
        assert await caller.control("POST", "reset") == (200, {})
        for path, empty in (("script", {}), ("log", []), ("bodies", [])):
            assert await caller.control("GET", path) == (200, empty)
        assert (await caller.ask("huggingface", "quant")).status == 200


async def test_the_vocabulary_can_be_asked_for() -> None:
    """Every item with a line about it."""
    async with rehearsing() as (_, caller):
        status, items = await caller.control("GET", "items")
        assert (status, set(items)) == (200, set(KINDS))
        assert all(items.values())


async def test_a_script_that_is_no_json_is_refused() -> None:
    """On the wire and in the constructor."""
    async with (
        rehearsing() as (server, _),
        aiohttp.ClientSession() as session,
        session.post(f"{server.url}/rehearsal/script", data=b"{") as reply,
    ):
        assert reply.status == 400
        assert "not JSON" in (await reply.json())["error"]
    with pytest.raises(BadInput, match="did you mean think"):
        RehearsalServer(script=["thinking"])


async def test_the_log_and_the_bodies_are_bounded() -> None:
    """The oldest bodies go first."""
    async with rehearsing(keep_bodies=2) as (server, caller):
        for word in ("one", "two", "three"):
            await caller.chat({"model": "m", "messages": [{"role": "user", "content": word}]})
        assert [word for body in server.bodies for word in ("one", "two", "three") if word in body] == ["two", "three"]
        assert (len(server.log), server.log.count) == (3, 3)
