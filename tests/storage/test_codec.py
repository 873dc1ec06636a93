"""Events survive being written as JSON, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings

from storage.codec import decode, encode
from storage.errors import UnreadableEvent
from tests.storage import samples
from trading.events import AlertRaised, Event, FundingPaid


@pytest.mark.parametrize("cls", samples.every_event_class())
def test_every_event_class_has_a_json_form(cls: type[Event]) -> None:
    """No event can be added to the domain without the journal being able to hold it."""

    @settings(max_examples=60)
    @given(samples.built(cls))
    def holds(event: Event) -> None:
        kind, body = encode(event)
        assert body.isascii()
        assert decode(kind, body) == event
        assert decode(kind, body.encode()) == event
        assert encode(decode(kind, body)) == (kind, body)

    holds()


def test_decimal_digits_are_kept() -> None:
    """Trailing zeros and exponents are part of an amount as the exchange wrote it."""
    for digits in ("0.00010", "1E+3", "-0", "123456789012345678901234567890.123456789"):
        paid = FundingPaid(at=samples.START, exec_id="x", symbol="BTCUSDT", amount=Decimal(digits))
        found = decode(*encode(paid))
        assert isinstance(found, FundingPaid)
        assert str(found.amount) == digits


def test_times_come_back_in_utc() -> None:
    """The moment is kept, the zone it was told in is not."""
    told = datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    found = decode(*encode(replace(samples.alert(1), at=told)))
    assert found.at == told
    assert found.at.isoformat() == "2026-03-01T12:00:00+00:00"


UNWRITABLE: list[tuple[Event, str]] = [
    (replace(samples.marked(), equity=float("nan")), "equity"),
    (replace(samples.marked(), closes={"BTCUSDT": float("inf")}), "closes"),
    (replace(samples.marked(), cash=Decimal("NaN")), "cash"),
    (replace(samples.marked(), cash=1.5), "cash"),  # type: ignore[arg-type]
    (replace(samples.marked(), exposed=1), "exposed"),  # type: ignore[arg-type]
    (replace(samples.alert(1), at=datetime(2026, 1, 1)), "at"),  # noqa: DTZ001
    (replace(samples.alert(1), text=7), "text"),  # type: ignore[arg-type]
    (replace(samples.verdict(), side="long"), "side"),  # type: ignore[arg-type]
    (replace(samples.verdict(), reasons="one"), "reasons"),  # type: ignore[arg-type]
    (replace(samples.verdict(), verdict_id=True), "verdict_id"),
]


@pytest.mark.parametrize(("event", "field"), UNWRITABLE)
def test_what_could_not_be_read_back_is_not_written(event: Event, field: str) -> None:
    """A wrong value is refused before the journal has it, with the name of its field."""
    with pytest.raises(UnreadableEvent, match=field):
        encode(event)


def test_free_details_are_json_only() -> None:
    """Details of an agent's answer are free, but NaN and objects are refused there too."""
    for bad in (float("nan"), Decimal(1), object()):
        answer = replace(samples.verdict().answers[0], details={"x": [bad]})
        with pytest.raises(UnreadableEvent):
            encode(replace(samples.verdict(), answers=(answer,)))


def changed(event: Event, **fields: Any) -> tuple[str, str]:
    """An event's stored form with some of its fields replaced."""
    kind, body = encode(event)
    return kind, json.dumps({**json.loads(body), **fields})


@pytest.mark.parametrize(
    "stored",
    [
        ("NoSuchEvent", "{}"),
        ("AgentAnswer", "{}"),
        ("AlertRaised", "not json"),
        ("AlertRaised", "[]"),
        ("AlertRaised", "{}"),
        changed(samples.alert(1), extra=1),
        changed(samples.alert(1), text=None),
        changed(samples.alert(1), at="2026-03-01T12:00:00"),
        changed(samples.alert(1), at="2026-03-01T12:00:00+02:00"),
        changed(samples.marked(), equity="1"),
        changed(samples.marked(), cash="Infinity"),
        changed(samples.marked(), cash="ten"),
        changed(samples.marked(), marks={}),
        changed(samples.verdict(), side="up"),
        changed(samples.verdict(), side=["long"]),
        changed(samples.verdict(), answers=[{"agent": "quant"}]),
        ("EquityMarked", encode(samples.marked())[1].replace("10000.0", "NaN")),
        ("EquityMarked", encode(samples.marked())[1].replace("10000.0", "1e999")),
    ],
)
def test_what_is_not_understood_is_refused(stored: tuple[str, str]) -> None:
    """An unknown type or field, a missing one, or a value of another kind is an error and never a guess."""
    with pytest.raises(UnreadableEvent):
        decode(*stored)


def test_a_field_added_later_reads_as_its_default() -> None:
    """Rows of an older version stay readable when an event gains a field with a default."""
    kind, body = encode(samples.verdict())
    older = {name: value for name, value in json.loads(body).items() if name != "answers"}
    assert decode(kind, json.dumps(older)) == replace(samples.verdict(), answers=())


def test_a_class_of_the_same_name_is_no_event_of_ours() -> None:
    """The name in the journal must mean the domain's class."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Stranger(AlertRaised):
        pass

    with pytest.raises(UnreadableEvent, match="Stranger"):
        encode(Stranger(at=samples.START, kind="x", text="y"))
