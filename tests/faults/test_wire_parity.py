"""A candle file over the wire gives what it gives in memory: every decision, price and cent, and every order once.

CONCLAVE_FULL_WIRE=1 adds ten months of Bybit's quarter hours (give it `--timeout`, and `-s` to see the figures).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from research.candles import load_candles
from tests.faults.markets import LIVELY, SYMBOL, lively
from tests.faults.wire import FULL, Wire, figures, the_object, wire
from tests.stand_ins.proxy import Fault, Kind, Seen

LOSSY_BARS = 200
BARS = {"off": 170, "rules": 300}


def over_the_wire(line: Wire, council: str, seconds: float) -> dict[str, Any]:
    """Run the file through the exchange's process and hold everything about it against `replay`."""
    expected = line.replay("--council", council)
    began = time.monotonic()
    argv = ("--candles", str(line.candles), "--speed", "0", "--council", council, "--no-dashboard", "--json")
    found = the_object(line.bot.place.run("run", *argv, *line.settings, seconds=seconds))
    took = time.monotonic() - began
    assert found["trades"] == expected["trades"]
    assert found == expected
    seen = line.proxy.seen()
    figures(
        council=council,
        bars=expected["candles"]["rows"],
        trades=len(expected["trades"]),
        orders=len(seen.orders),
        seconds=round(took, 2),
        requests=sum(seen.requests.values()),
        **{path.replace("/v5/", "").replace(" ", "_"): count for path, count in seen.requests.items()},
    )
    everything_was_asked_for(expected, seen)
    return expected


def everything_was_asked_for(expected: Mapping[str, Any], seen: Seen) -> None:
    """An order for each entry, one sending for each order, and a look at the account for each close."""
    bodies = [json.loads(sent[0].body) for sent in seen.orders.values()]
    entries = [body for body in bodies if not body.get("reduceOnly")]
    assert len(entries) >= len(expected["trades"]) + (expected["open_position"] is not None)
    assert all(body.get("stopLoss") for body in entries), "an entry went out without its stop"
    assert {link: len(sent) for link, sent in seen.orders.items() if len(sent) != 1} == {}
    assert {each.told for sent in seen.orders.values() for each in sent} == {"0"}
    rows = expected["candles"]["rows"]
    assert seen.requests["GET /v5/position/list"] >= rows
    assert seen.requests["GET /v5/order/realtime"] >= rows


@pytest.mark.slow
@pytest.mark.parametrize("council", ["off", "rules"])
def test_the_wire_changes_nothing(council: str, tmp_path: Path) -> None:
    """The printed object is `replay`'s, the line saw each order once, the chat tells of everything once."""
    with wire(tmp_path, lively(tmp_path, BARS[council]), LIVELY, speed=0) as line:
        expected = over_the_wire(line, council, 60)
        line.orders_once()
        line.bot.told_all()
    assert len(expected["trades"]) > (8 if council == "off" else 3)
    reasons = {trade["exit_reason"] for trade in expected["trades"]}
    assert reasons >= ({"stop", "take_profit", "signal"} if council == "off" else {"take_profit", "signal"})


def broken_replies() -> list[Fault]:
    """Ways to lose the reply of a request that the exchange has carried out."""
    return [
        Fault(Kind.DROP_REPLY, times=1),
        Fault(Kind.TRUNCATE, times=1),
        Fault(Kind.RET_CODE, ret_code=10016, forward=True, times=1),
        Fault(Kind.HTML, forward=True, times=1),
        Fault(Kind.RET_CODE, ret_code=10000, forward=True, times=1),
        Fault(Kind.STATUS, status=502, forward=True, times=1),
    ]


@pytest.mark.slow
def test_lost_replies_change_nothing(tmp_path: Path) -> None:
    """The first replies to orders, cancels and stop moves are lost, each in another way: the end is `replay`'s."""
    impatient = {**LIVELY, "entry_ttl_bars": 1, "entry_offset": 0.004}  # orders that are cancelled, too
    with wire(tmp_path, lively(tmp_path, LOSSY_BARS), impatient, speed=0) as line:
        for path in ("/v5/order/create", "/v5/order/cancel", "/v5/position/trading-stop"):
            for fault in broken_replies():
                line.proxy.fault(replace(fault, path=path))
        expected = line.replay("--council", "off")
        argv = ("--candles", str(line.candles), "--speed", "0", "--council", "off", "--no-dashboard", "--json")
        found = the_object(line.bot.place.run("run", *argv, *line.settings, seconds=100))
        seen = line.accepted_once()
        figures(**seen.hits, orders=len(seen.orders), sent_again=sum(len(s) - 1 for s in seen.orders.values()))
        assert found["trades"] == expected["trades"]
        assert found == expected
        assert sum(seen.hits.values()) == 3 * len(broken_replies()), "not every fault was met"
        line.orders_once()
        line.bot.told_all()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not FULL, reason="CONCLAVE_FULL_WIRE=1 runs ten months of quarter hours over the wire")
@pytest.mark.parametrize("council", ["off", "rules"])
def test_ten_months_of_quarter_hours(council: str, tmp_path: Path, test_data: Path) -> None:
    """Bybit's own candles with the shipped parameters: the full proof."""
    candles = test_data / "bybit" / f"{SYMBOL}-15m-20250924-20260721.parquet"
    with wire(tmp_path, candles, {}, speed=0) as line:
        over_the_wire(line, council, 3000)
        line.bot.told_all()
    assert len(load_candles(candles, symbol=SYMBOL, interval_minutes=None, known_symbols=(SYMBOL,)).series) > 20_000
