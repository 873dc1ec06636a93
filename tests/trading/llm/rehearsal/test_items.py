"""Every item of a script, raw, over both wires: what comes is what the item says."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest

from tests.trading.llm.rehearsal.talk import SCHEMAS, VOTES, checked, example, rehearsing, settled, taken, until
from trading.council.schemas import Facts
from trading.llm.rehearsal.answers import answer_for
from trading.llm.rehearsal.asked import objects_in
from trading.llm.rehearsal.items import BODIES, CODES, KINDS, LINES, SPOILT, WORDS

WIRES = ("huggingface", "gemini")
UNREADABLE = ("prose", "empty", "null_content", "no_choices", "safety", "blocked", "truncated", "max_tokens")
BREAKS_SCHEMA = (
    "wrong_enum",
    "lower_enum",
    "extra_keys",
    "missing_key",
    "deep_nesting",
    "nan",
    "infinity",
    "strings_for_numbers",
    "size50",
    "negative",
    "big",
)


def facts_of(agent: str) -> Facts:
    return taken() if agent == "risk_manager" else example(agent)


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("agent", SCHEMAS)
async def test_what_wraps_an_answer_leaves_it_sound(wire: str, agent: str) -> None:
    """Thinking, fences, prose, an example before it: the last object is the sound answer."""
    async with rehearsing(script=[*WORDS]) as (_, caller):
        for name in WORDS:
            heard = await caller.ask(wire, agent, facts_of(agent))
            found = list(objects_in(heard.text or ""))[-1]
            checked(agent, json.dumps(found), facts_of(agent))
            assert heard.finish == {"huggingface": "stop", "gemini": "STOP"}[wire]
            if name != "injection":
                assert found == answer_for(agent, facts_of(agent))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("agent", SCHEMAS)
@pytest.mark.parametrize("name", BREAKS_SCHEMA)
async def test_what_breaks_the_schema(wire: str, agent: str, name: str) -> None:
    """A normal finish, and an answer that must not pass."""
    async with rehearsing(script=[name]) as (_, caller):
        heard = await caller.ask(wire, agent, facts_of(agent))
    assert heard.status == 200
    assert heard.finish.lower() == "stop"
    with pytest.raises(ValueError):  # noqa: PT011  pydantic words it in as many ways as there are items
        checked(agent, heard.text or "", facts_of(agent))
    assert name != "big" or len(heard.body) > 1_000_000


@pytest.mark.parametrize("wire", WIRES)
async def test_a_decision_and_a_size_that_contradict_each_other(wire: str) -> None:
    """The Risk Manager's sizing attacks; other agents have no such field and answer soundly."""
    async with rehearsing(script=["size0approved", "rejected_with_size", "size0approved"]) as (_, caller):
        for decision, size in (("APPROVED", 0.0), ("REJECTED", 1.0)):
            answer = json.loads((await caller.ask(wire, "risk_manager", taken())).text or "")
            assert (answer["decision"], answer["size_multiplier"]) == (decision, size)
        checked("quant", (await caller.ask(wire, "quant")).text or "", example("quant"))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("agent", ["quant", "strategist"])
async def test_evidence_that_is_not_borne_out(wire: str, agent: str) -> None:
    """A key the packet does not have, a value it does not have."""
    async with rehearsing(script=["ungrounded", "ungrounded(value)"]) as (_, caller):
        for words in ("is not in the packet", "in the packet, not"):
            heard = await caller.ask(wire, agent)
            SCHEMAS[agent].model_validate_json(heard.text or "")
            with pytest.raises(ValueError, match=words):
                checked(agent, heard.text or "", example(agent))


@pytest.mark.parametrize("wire", WIRES)
async def test_answers_that_cannot_be_read(wire: str) -> None:
    """No object, no text, no candidate, or a finish that is not normal."""
    async with rehearsing(script=list(UNREADABLE)) as (_, caller):
        heard = {name: await caller.ask(wire, "quant") for name in UNREADABLE}
    assert list(objects_in(heard["prose"].text or "")) == []
    assert heard["empty"].text == ""
    assert heard["null_content"].text is None
    for name in ("truncated", "max_tokens"):
        assert heard[name].finish in {"length", "MAX_TOKENS"}
    assert heard["safety"].finish in {"content_filter", "SAFETY"}
    with pytest.raises(ValueError, match="JSON"):
        checked("quant", heard["truncated"].text or "", example("quant"))
    if wire == "gemini":
        assert "candidates" not in heard["no_choices"].json
        assert heard["blocked"].json["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
        assert "candidates" not in heard["blocked"].json
        assert heard["max_tokens"].json["usageMetadata"]["thoughtsTokenCount"] > 500
    else:
        assert heard["no_choices"].json["choices"] == []
        assert heard["blocked"].finish == "content_filter"
        assert heard["max_tokens"].first["message"]["reasoning_content"]


@pytest.mark.parametrize("wire", WIRES)
async def test_thinking_stands_where_the_provider_puts_it(wire: str) -> None:
    """In a field of its own, or in a part that is marked, and is counted."""
    async with rehearsing(script=["reasoning_content", "max_tokens(whole)"]) as (_, caller):
        heard = await caller.ask(wire, "quant")
        whole = await caller.ask(wire, "quant")
    if wire == "gemini":
        assert heard.first["content"]["parts"][0]["thought"] is True
        usage = heard.json["usageMetadata"]
        assert usage["totalTokenCount"] == sum(
            usage[f"{part}TokenCount"] for part in ("prompt", "candidates", "thoughts")
        )
    else:
        assert "Momentum" in heard.first["message"]["reasoning_content"]
        usage = heard.json["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        assert usage["completion_tokens_details"]["reasoning_tokens"] > 0
    checked("quant", whole.text or "", example("quant"))
    assert whole.finish in {"length", "MAX_TOKENS"}


@pytest.mark.parametrize("wire", WIRES)
async def test_the_vote_twice(wire: str) -> None:
    """First the opposite, then the sound one: a parser that keeps either is fooled or lucky."""
    async with rehearsing(script=["duplicate_keys*3"]) as (_, caller):
        for agent, vote in VOTES.items():
            text = (await caller.ask(wire, agent)).text or ""
            pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
            votes = [value for name, value in pairs if name == vote]
            assert len(votes) == 2
            assert votes[0] != votes[1] == answer_for(agent, example(agent))[vote]


async def test_the_prose_that_would_give_orders() -> None:
    """Short enough to be valid, with everything a chat must not show; long enough to be refused."""
    async with rehearsing(script=["injection", "injection(long)"]) as (_, caller):
        short = (await caller.ask("gemini", "risk_manager")).text or ""
        long = json.loads((await caller.ask("gemini", "risk_manager")).text or "")
    for part in ("Ignore previous", "<script>", "https://", "](", "\u202e", "tg://", "/flatten"):
        assert part in json.loads(short)["rationale"]
    checked("risk_manager", short, example("risk_manager"))
    assert len(long["rationale"]) == 10_000


@pytest.mark.parametrize("wire", WIRES)
async def test_bodies_that_are_not_the_providers(wire: str) -> None:
    """200 with a page, a line of text, nothing at all; a gateway's page for 502."""
    async with rehearsing(script=[*BODIES, "502"]) as (_, caller):
        heard = {name: await caller.ask(wire, "quant") for name in (*BODIES, "502")}
    assert heard["html"].body.startswith(b"<!DOCTYPE html>")
    assert heard["html"].headers["Content-Type"].startswith("text/html")
    assert heard["empty_body"].body == b""
    assert heard["502"].status == 502
    for name in ("not_json", "empty_body"):
        assert heard[name].headers["Content-Type"] == "application/json"
        with pytest.raises(ValueError, match="Expecting value"):
            _ = heard[name].json


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", [name for name in CODES if name != "502"])
async def test_refusals_are_worded_as_the_provider_does(wire: str, name: str) -> None:
    """The code, and an error of the provider's shape that names no key."""
    async with rehearsing(script=[name]) as (server, caller):
        heard = await caller.ask(wire, "quant")
        assert [entry.code for entry in server.log] == [heard.status]
    expected = {"bad_key": 400 if wire == "gemini" else 401, "bad_model": 404 if wire == "gemini" else 400}
    assert heard.status == expected.get(name) or heard.status == int(name)
    error = heard.json["error"]
    if wire == "gemini":
        assert error["code"] == heard.status
        assert error["status"].isupper()
        assert error["message"]
    else:
        assert error if isinstance(error, str) else error["message"]
    assert "Retry-After" not in heard.headers
    assert b"RetryInfo" not in heard.body


@pytest.mark.parametrize("name", ["429", "503"])
@pytest.mark.parametrize("wire", WIRES)
async def test_each_way_to_ask_for_a_wait(wire: str, name: str) -> None:
    """Seconds, a date, both drafts of RateLimit, Gemini's RetryInfo, several at once, none."""
    forms = ("seconds", "date", "ratelimit", "ratelimit_old", "retry_info", "none", "date+ratelimit")
    async with rehearsing(script=[f"{name}(7, form={form})" for form in forms]) as (server, caller):
        heard = {form: await caller.ask(wire, "quant") for form in forms}
        hints = [entry.hint for entry in server.log]
    assert hints == [7.0, 7.0, 7.0, 7.0, 7.0, None, 7.0]
    assert heard["seconds"].headers["Retry-After"] == "7"
    until = parsedate_to_datetime(heard["date"].headers["Retry-After"])
    assert 5.0 < (until - datetime.now(UTC)).total_seconds() < 9.0
    assert heard["ratelimit"].headers["RateLimit"] == '"default";r=0;t=7'
    assert heard["ratelimit_old"].headers["RateLimit"] == "limit=100, remaining=0, reset=7"
    assert "Retry-After" not in heard["none"].headers
    assert {"Retry-After", "RateLimit"} <= set(heard["date+ratelimit"].headers)
    if wire == "gemini":
        details = heard["retry_info"].json["error"]["details"]
        assert {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"} in details
    else:
        assert heard["retry_info"].headers["Retry-After"] == "7"


async def test_without_a_form_each_provider_asks_in_its_own() -> None:
    """Hugging Face in a header, of whole seconds; Gemini in the body, to the fraction."""
    async with rehearsing(script=["429(1.5)*2"]) as (server, caller):
        chat, gemini = await caller.ask("huggingface", "quant"), await caller.ask("gemini", "risk_manager")
        assert [entry.hint for entry in server.log] == [2, 1.5]
    assert chat.headers["Retry-After"] == "2"
    assert "Retry-After" not in gemini.headers
    assert b'"retryDelay": "1.5s"' in gemini.body


# On the line


@pytest.mark.parametrize("wire", WIRES)
async def test_a_late_answer_is_a_good_one(wire: str) -> None:
    """After at least as long as it says."""
    async with rehearsing(script=["late(0.3)"]) as (_, caller):
        began = time.monotonic()
        heard = await caller.ask(wire, "quant")
        assert time.monotonic() - began >= 0.3
    checked("quant", heard.text or "", example("quant"))


@pytest.mark.parametrize("wire", WIRES)
async def test_a_slow_drip_keeps_the_line_busy(wire: str) -> None:
    """Many small pieces over the time that it says, and a good answer at the end."""
    async with rehearsing(script=["slow_drip(0.5)"]) as (server, caller):
        began = time.monotonic()
        heard = await caller.ask(wire, "quant")
        assert time.monotonic() - began >= 0.5
        await settled(server)
        assert [entry.bytes_out for entry in server.log] == [len(heard.body)]
    checked("quant", heard.text or "", example("quant"))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", ["reset", "close", "hang(0.2)"])
async def test_a_line_that_ends_without_an_answer(wire: str, name: str) -> None:
    """Reset, closed at once, closed after a while: no status, and the log knows it."""
    async with rehearsing(script=[name]) as (server, caller):
        with pytest.raises((aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)):
            await caller.ask(wire, "quant")
        await settled(server)
        assert [(entry.code, entry.bytes_out) for entry in server.log] == [(0, 0)]
        assert (await caller.ask(wire, "quant")).status == 200


async def test_a_reset_is_a_reset_and_a_close_is_not() -> None:
    """RST on the one line, FIN on the other: read from the socket itself."""
    async with rehearsing(script=["reset", "close"]) as (server, _):
        body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k1234\r\n"
        asked = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        port = int(server.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(asked)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_an_answer_that_breaks_off() -> None:
    """Half of the promised bytes."""
    async with rehearsing(script=["cut"]) as (_, caller):
        with pytest.raises(aiohttp.ClientPayloadError):
            await caller.ask("gemini", "quant")


async def test_a_caller_that_gives_up_frees_the_server() -> None:
    """A hanging call ends with its caller, and stopping does not wait for one that stays."""
    async with rehearsing(script=["hang*2"]) as (server, caller):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await caller.ask("huggingface", "quant")
        await settled(server)
        staying = asyncio.create_task(caller.ask("gemini", "quant"))
        await until(lambda: len(server.log) == 2)
        began = time.monotonic()
        await server.stop()
        assert time.monotonic() - began < 1.0
        with pytest.raises(aiohttp.ClientError):
            await staying


def test_every_item_is_tried_here() -> None:
    """What is added to the vocabulary is added to these tests."""
    tried = {*WORDS, *BREAKS_SCHEMA, *UNREADABLE, *BODIES, *CODES, "size0approved", "rejected_with_size"}
    assert tried | {"ungrounded", "duplicate_keys"} >= set(SPOILT)
    assert set(LINES) == {"late", "slow_drip", "hang", "reset", "close", "cut"}
    assert set(KINDS) == {*WORDS, *SPOILT, *BODIES, *CODES, *LINES}
