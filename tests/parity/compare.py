"""What must be equal between two answers to one question, and how exactly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

RELATIVE = 1e-9
SMALL_MONEY = 1e-9  # profits that cancel to nothing have no relative precision
EXACT = ("side", "signal_time", "entry_time", "exit_time", "entry_price", "exit_reason")
CLOSE = ("exit_price", "qty", "pnl", "r")
METRICS = (
    "total_return",
    "sharpe",
    "sortino",
    "max_drawdown",
    "calmar",
    "win_rate",
    "profit_factor",
    "expectancy_r",
    "trades",
    "exposure",
    "fees",
    "funding",
)
OPEN_EXACT = ("side", "entry_time", "entry_price")


def same(expected: Any, actual: Any) -> bool:
    """Numbers within the tolerance, null only for null."""
    if expected is None or actual is None:
        return expected is None and actual is None
    if isinstance(actual, bool) or not isinstance(actual, int | float):
        return False
    return math.isclose(expected, actual, rel_tol=RELATIVE, abs_tol=SMALL_MONEY)


def trade_differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """One line for each field of a trade in which the two differ."""
    wrong = [name for name in EXACT if expected[name] != actual.get(name)]
    wrong += [name for name in CLOSE if not same(expected[name], actual.get(name))]
    return [f"{name}: {actual.get(name)!r} instead of {expected[name]!r}" for name in wrong]


def differences(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> list[str]:
    """Where the program's answer differs from the plain one; of the trades, the first that differs."""
    found: list[str] = []
    theirs, ours = actual["trades"], expected["trades"]
    if len(theirs) != len(ours):
        found.append(f"{len(theirs)} trades instead of {len(ours)}")
    for number, (want, got) in enumerate(zip(ours, theirs, strict=False)):
        wrong = trade_differences(want, got)
        if wrong:
            found.append(f"trade {number} (signal {want['signal_time']}): " + "; ".join(wrong))
            break
    for name in METRICS:
        if name not in actual["metrics"]:
            found.append(f"metric {name} is missing")
        elif not same(expected["metrics"][name], actual["metrics"][name]):
            found.append(f"{name}: {actual['metrics'][name]!r} instead of {expected['metrics'][name]!r}")
    found += open_differences(expected["open_position"], actual["open_position"])
    return found


def open_differences(expected: Mapping[str, Any] | None, actual: Mapping[str, Any] | None) -> list[str]:
    """The open position after the last bar: the page has it reported, so the essentials must agree."""
    if expected is None or actual is None:
        return [] if expected is actual else [f"open position: {actual!r} instead of {expected!r}"]
    wrong = [name for name in OPEN_EXACT if expected[name] != actual.get(name)]
    wrong += [name for name in ("qty", "stop") if name in actual and not same(expected[name], actual[name])]
    wrong += [] if "qty" in actual else ["qty"]
    return [f"open position, {name}: {actual.get(name)!r} instead of {expected[name]!r}" for name in wrong]
