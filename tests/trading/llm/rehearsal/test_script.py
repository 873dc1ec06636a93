"""Scripts: what they may say, in which order they are used up, and how they refuse what they do not know."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.errors import BadInput
from trading.llm.rehearsal.items import KINDS, Item, item_of
from trading.llm.rehearsal.script import Script, tail_of


def taken(
    script: Script, count: int, *, key: str = "a1b2", agent: str = "quant", provider: str = "gemini"
) -> list[str]:
    """The next items for a caller, as they are written."""
    return [str(script.take(provider=provider, agent=agent, key=key)) for _ in range(count)]


def test_items_are_used_up_in_order_and_then_all_is_well() -> None:
    """Repeated ones as often as they say."""
    script = Script.of(["think", "429(30)*2", 503])
    assert taken(script, 5) == ["think", "429(retry_after=30)", "429(retry_after=30)", "503", "good"]
    assert script.left() == {}


def test_an_item_for_ever_stays() -> None:
    """Both ways to write it, and as an object."""
    for source in ("401*forever", "401 forever", {"item": "401", "times": "forever"}):
        script = Script.of([source])
        assert taken(script, 3) == ["401"] * 3
        assert script.left() == {"any": ["401*forever"]}


def test_the_nearest_queue_goes_first() -> None:
    """Key before bucket before agent before provider before anybody."""
    source = {
        "any": ["500"],
        "gemini": ["503"],
        "quant": ["fence"],
        "buckets": {"one": {"keys": ["xxa1b2", "c3d4"], "script": ["402"]}},
        "keys": {"a1b2": ["401"]},
    }
    assert taken(Script.of(source), 6) == ["401", "402", "fence", "503", "500", "good"]
    assert taken(Script.of(source), 2, key="c3d4") == ["402", "fence"]
    assert taken(Script.of(source), 2, key="none", provider="huggingface", agent="strategist") == ["500", "good"]
    assert Script.of(source).bucket("c3d4") == "one"
    assert Script.of(source).bucket("e5f6") == "e5f6"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (["thnk"], "no script item 'thnk': did you mean think?"),
        (["truncate"], "did you mean truncated?"),
        (["late(soon)"], "seconds of late is a number"),
        (["good(3)"], "good takes no options"),
        (["429(retry_aftr=3)"], "did you mean retry_after?"),
        (["429(3, form=header)"], "form of 429 is one of seconds, date, ratelimit"),
        (["good*0"], "a whole number of times or forever"),
        (["good**2"], "cannot read the script item"),
        (["401*forever", "good"], "goes on after 401*forever"),
        ({"qant": ["good"]}, "did you mean quant?"),
        ({"any": 5}, "is a list of items"),
        ([None], "a script item is text"),
        ([f"good*{'9' * 5000}"], "good is repeated a whole number of times"),
        ([{"item": "429", "wait": 3}], "429 takes retry_after=…, form=…"),
        ({"buckets": {"one": ["402"]}}, "bucket one of a script is an object"),
        ({"buckets": {"one": {"script": ["402"]}}}, "bucket one is written"),
        ({"keys": ["a1b2"]}, "keys of a script is an object"),
        (7, "is a list of items"),
    ],
)
def test_what_is_no_script_is_refused_in_one_line(source: object, words: str) -> None:
    """With what is wrong, and the nearest word that would be right."""
    with pytest.raises(BadInput) as refused:
        Script.of(source)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", KINDS)
def test_an_item_reads_as_it_is_written(name: str) -> None:
    """Every item, with its options at their defaults or a number, and repeated."""
    options = {option: spec.default for option, spec in KINDS[name].options.items() if spec.default not in {None, ""}}
    for times in (1, 3, None):
        item = Item(name=name, options=options, times=times)
        again = item_of(str(item))
        assert (again.name, again.times) == (name, times)
        assert {option: str(again.options[option]) for option in options} == {
            option: str(float(value) if isinstance(value, int) else value) for option, value in options.items()
        }


@given(st.text(max_size=30))
def test_any_text_is_an_item_or_is_refused(text: str) -> None:
    """Nothing else is raised."""
    with contextlib.suppress(BadInput):
        assert item_of(text).name in KINDS


def test_a_script_from_a_file(tmp_path: Path) -> None:
    """JSON; a file that is missing or none is refused by name."""
    path = tmp_path / "storm.json"
    path.write_text(json.dumps({"any": ["429(1)*2"]}), encoding="utf-8")
    assert taken(Script.read(path), 2) == ["429(retry_after=1)"] * 2
    path.write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match="is not JSON"):
        Script.read(path)
    path.write_text("[" * 200_000)
    with pytest.raises(BadInput, match="is not JSON"):
        Script.read(path)
    with pytest.raises(BadInput, match="cannot read the script"):
        Script.read(tmp_path / "none.json")


def test_of_a_key_only_its_tail_is_kept() -> None:
    """Four characters; a key that is shorter not at all."""
    assert [tail_of(key) for key in ("hf_secret_a1b2", "a1b2", "abc", "")] == ["a1b2", "a1b2", "", ""]
