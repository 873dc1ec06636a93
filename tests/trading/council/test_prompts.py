"""The prompts: complete, without a preferred direction, short, and never changed once released."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from tests.trading.council.candidates import (
    STRATEGY,
    Session,
    brief_at,
    edges,
    recorded,
    session,
    synthetic,
)
from trading.council.prompting import FOLDER, LOCK, load_prompts, packet_keys, prompt_named
from trading.council.questions import Prompt
from trading.council.reading import ANSWERS, read, schema_of
from trading.errors import Misconfigured
from trading.model import CandleSeries
from trading.strategy import evaluate

AGENTS = tuple(ANSWERS)
LARGEST = 12_800  # bytes of all three questions of a decision: well under the 14,000 that they may have


def released(agent: str) -> Prompt:
    return load_prompts()[agent]


def test_a_released_prompt_never_changes() -> None:
    """Its hash is in the lock, and the lock knows no file that is gone: answers of long ago keep their prompt.

    A new version adds a file and a line; nothing is ever taken from the lock.
    """
    known = json.loads((FOLDER / LOCK).read_text("utf-8"))
    files = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.glob("*/*.md")}
    assert known == {name: hashlib.sha256(raw).hexdigest() for name, raw in files.items() if name in known}
    drafts = [name for name, raw in files.items() if name not in known and b'status = "released"' in raw]
    assert drafts == [], f"released without a line in {LOCK}"
    assert list(known) == sorted(known)


def test_the_first_prompts_are_still_what_they_were() -> None:
    """A second look at the lock itself: its first lines can only be lost or changed by intent."""
    known = json.loads((FOLDER / LOCK).read_text("utf-8"))
    for agent in AGENTS:
        assert known[f"{agent}/v001.md"] == FIRST[agent]
        assert prompt_named(f"{agent}/v001").sha256 == FIRST[agent]


def test_every_agent_has_a_prompt() -> None:
    """Loaded whole: a system part, a user part with the packet in it."""
    prompts = load_prompts()
    assert tuple(prompts) == AGENTS
    for agent, prompt in prompts.items():
        assert prompt.agent == agent
        assert re.fullmatch(rf"{agent}/v\d{{3}}", prompt.name)
        assert "{{" not in prompt.system
        assert prompt.filled('{"a":1}').count('{"a":1}') == 1
        assert prompt_named(prompt.name) == prompt


FAMILIES = (
    (r"^candle_\d_(?:upper_|lower_)?(\w+)_(?:atr|ratio)$", r"\1"),
    (r"^(?:bullish|bearish)_(\w+)_bars_ago$", r"\1"),
    (r"_bars_ago$", ""),
    (r"^swing_\d$", "swing_0"),
    (r"^return_\d+_atr$", "return_N_atr"),
    (r"^(?:quant|strategist)_p_win$", "_p_win"),
)


@pytest.mark.parametrize("agent", AGENTS)
def test_every_fact_of_the_packet_is_explained(agent: str) -> None:
    """By its name, or by the name of the family that it belongs to."""
    text = released(agent).system
    for key in packet_keys(agent):
        family = key
        for pattern, name in FAMILIES:
            family = re.sub(pattern, name, family)
        assert re.search(rf"(?<![a-z]){re.escape(family)}", text), (key, family)


@pytest.mark.parametrize("agent", AGENTS)
def test_every_word_of_the_answer_is_named(agent: str) -> None:
    """Fields and enums, in the order in which they are to be thought of."""
    text = released(agent).system
    schema = schema_of(agent)
    numbered = re.findall(r"^\d\. (\w+):", text, re.MULTILINE)
    assert numbered == list(schema["properties"])
    for word in re.findall(r'"([A-Z_]+)"', json.dumps(schema)):
        assert re.search(rf"\b{word}\b", text), word


@pytest.mark.parametrize("agent", AGENTS)
def test_the_example_has_the_form_and_nothing_to_copy(agent: str) -> None:
    """It satisfies the schema; repeated as an answer, it is ungrounded or a rejection."""
    example = released(agent).system.rpartition("\n")[2]
    answer = json.loads(example)
    assert list(answer) == list(schema_of(agent)["properties"])
    ANSWERS[agent].model_validate_json(example)
    found = read(agent, example, dict.fromkeys(packet_keys(agent)))
    if agent == "risk_manager":
        assert answer["decision"] == "REJECTED"
    else:
        assert found.problems == ("evidence 'key_in_packet' is not in the packet",)
        assert answer.get("signal", answer.get("bias")) in {"NEUTRAL", "CHOPPY"}


PAIRS = (
    ("long", "short"),
    ("longs", "shorts"),
    ("LONG", "SHORT"),
    ("BULLISH", "BEARISH"),
    ("HH_HL", "LH_LL"),
    ("HH", "LL"),
    ("positive", "negative"),
    ("support_atr", "resistance_atr"),
    ("bullish_marubozu", "bearish_marubozu"),
    ("waterfall", "parabolic"),
)


@pytest.mark.parametrize("agent", AGENTS)
def test_the_wording_prefers_no_direction(agent: str) -> None:
    """Whatever is said of one side is said of the other: each word as often as its opposite."""
    words = re.findall(r"\w+", released(agent).system)
    if agent == "strategist":
        words.remove("positive")  # support and resistance distances both are
    if agent == "risk_manager":
        words.remove("negative")  # a loss has no direction
    for one, other in PAIRS:
        assert words.count(one) == words.count(other), (one, other)
    assert not {"buy", "sell", "bull", "bear", "uptrend", "downtrend"} & {word.lower() for word in words}
    assert "base_rate" in words
    assert "candidates lose" in released(agent).system


@pytest.mark.parametrize("agent", AGENTS)
def test_no_prompt_names_a_market_a_date_or_a_price(agent: str) -> None:
    """Identical facts are the identical question, and nothing recalls the future of a known chart."""
    prompt = released(agent)
    text = f"{prompt.system}\n{prompt.user}"
    assert not re.search(r"BTC|ETH|USD|bitcoin|crypto|bybit|binance|\b(19|20)\d\d\b|\d{4,}", text, re.IGNORECASE)


@pytest.mark.parametrize("agent", AGENTS)
def test_the_form_is_the_end_of_the_system_part(agent: str) -> None:
    """One sentence and the example: what a repair is told again."""
    prompt = released(agent)
    said, example = prompt.form.split("\n")
    assert said.startswith("Reply with one JSON object only")
    assert list(json.loads(example)) == list(schema_of(agent)["properties"])
    assert prompt.system.endswith(prompt.form)


def bytes_of(held: Session) -> tuple[int, int]:
    """What one decision asks (system, user with the packet, schema) and what the twins answer, in bytes."""
    packets = (held.quant_packet, held.strategist_packet, held.risk_packet)
    asked = 0
    for agent, packet in zip(AGENTS, packets, strict=True):
        schema = json.dumps(schema_of(agent), separators=(",", ":"))
        prompt = released(agent)
        asked += len((prompt.system + prompt.filled(packet.json()) + schema).encode())
    replies = (held.quant, held.strategist, held.risk_manager)
    return asked, sum(len(reply.answer.model_dump_json().encode()) for reply in replies if reply.answer)


def assert_short(series: CandleSeries, count: int) -> None:
    signals = evaluate(STRATEGY, series)
    for row in edges(series, signals, count):
        asked, answered = bytes_of(session(brief_at(series, signals, row)))
        assert asked < LARGEST
        assert answered < 5_000


def test_a_decision_is_short_on_made_up_candles() -> None:
    """All three questions together, and all three answers."""
    assert_short(synthetic(), 60)


def test_a_decision_is_short_on_recorded_candles(test_data: Path) -> None:
    """The same on every recorded market and timeframe."""
    for _, series in recorded(test_data):
        assert_short(series, 40)


def test_packet_keys_are_those_of_the_packets() -> None:
    """In the packets' own order."""
    series = synthetic(3_000)
    signals = evaluate(STRATEGY, series)
    held = session(brief_at(series, signals, edges(series, signals, 1)[0]))
    for agent, packet in zip(AGENTS, (held.quant_packet, held.strategist_packet, held.risk_packet), strict=True):
        assert packet_keys(agent) == tuple(packet.facts())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the prompts to spoil."""
    return Path(shutil.copytree(FOLDER, tmp_path / "prompts"))


def spoil(folder: Path, old: str, new: str, name: str = "quant/v001.md") -> None:
    path = folder / name
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")


def lock(folder: Path) -> None:
    """Write the lock anew."""
    files = sorted(folder.glob("*/*.md"))
    known = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / LOCK).write_text(json.dumps(known), "utf-8")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("version = 1", "version = 2", "its version is 2, its file name says 1"),
        ('schema = "quant"', 'schema = "trader"', "its schema is 'trader'"),
        ('schema = "quant"', 'schema = "strategist"', "its schema is 'strategist'"),
        ('"released"', '"final"', "its status is 'final': draft or released"),
        ('"rsi", ', "", "its packet keys are not those of the packet: rsi"),
        ('"rsi", ', '"rsi", "price", ', "its packet keys are not those of the packet: price"),
        (
            '"adx", "relative_volume"',
            '"relative_volume", "adx"',
            "its packet keys are not those of the packet: their order",
        ),
        ("version = 1\n", "", "its front matter has version, schema, status and packet, and nothing else"),
        ("version = 1", "version is 1", "cannot be used"),
        ("+++", "---", "it needs front matter"),
        ("# User", "# Question", "it needs front matter"),
        ("{{packet_json}}", "the packet", "has {{packet_json}} once"),
        ("# System\n", "# System\n{{packet_json}}\n", "has {{packet_json}} once"),
    ],
)
def test_one_clear_error_names_the_file_and_what_is_wrong(folder: Path, old: str, new: str, complaint: str) -> None:
    """Even where the lock was renewed: the file itself makes no sense."""
    spoil(folder, old, new)
    lock(folder)
    with pytest.raises(Misconfigured) as caught:
        load_prompts(folder)
    assert "quant/v001.md" in str(caught.value)
    assert complaint in str(caught.value)


def test_a_changed_prompt_is_not_used(folder: Path) -> None:
    """By a word, without its line in the lock, or without the lock."""
    spoil(folder, "Most candidates lose", "Most candidates win")
    with pytest.raises(Misconfigured, match="has changed since its release: make it a new version"):
        load_prompts(folder)
    (folder / LOCK).write_text("{}", "utf-8")
    with pytest.raises(Misconfigured, match="is not in the lock"):
        load_prompts(folder)
    for broken in ("[]", "{", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")):
        (folder / LOCK).write_text(broken, "utf-8")
        with pytest.raises(Misconfigured, match="the lock of the prompts"):
            load_prompts(folder)


def test_the_newest_released_version_is_asked(folder: Path) -> None:
    """A draft is not used until it is released, and the version before can still be shown."""
    text = (folder / "quant" / "v001.md").read_text("utf-8").replace("version = 1", "version = 2")
    (folder / "quant" / "v002.md").write_text(text.replace('"released"', '"draft"'), "utf-8")
    assert load_prompts(folder)["quant"].name == "quant/v001"
    with pytest.raises(Misconfigured, match="is a draft"):
        prompt_named("quant/v002", folder)
    (folder / "quant" / "v002.md").write_text(text, "utf-8")
    lock(folder)
    assert load_prompts(folder)["quant"].name == "quant/v002"
    assert prompt_named("quant/v001", folder) == prompt_named("quant/v001")


@pytest.mark.parametrize(
    "name", ["quant/v009", "trader/v001", "quant", "", "quant/../quant/v001", "quant/../../questions", "quant/v1"]
)
def test_there_is_no_other_prompt(name: str) -> None:
    """Names that are none."""
    with pytest.raises(Misconfigured, match="there is no prompt"):
        prompt_named(name)


def test_an_agent_without_a_prompt_is_an_error(folder: Path) -> None:
    """Nobody is asked an empty question."""
    shutil.rmtree(folder / "strategist")
    with pytest.raises(Misconfigured, match="no released prompt for the strategist"):
        load_prompts(folder)


FIRST = {
    "quant": "a9bc41c5c41562d868feeaf1a24e9d4dc5e9b9ba424850f55685145558a47c44",
    "strategist": "4f03f091c4d830c5d4ea5f2ab67a534571bce26285f7bacd687bd0dab0de17ed",
    "risk_manager": "bbd3f0f08a1a00d78d43b13ce8563f76491d06fd39ed6f0f6b24022ad1e91cd3",
}
