"""Events for tests: a few by hand, and hypothesis strategies made from the type hints of every event class."""

from __future__ import annotations

import dataclasses
import types
import typing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from trading import events
from trading.events import Event
from trading.model import ExitReason, OrderSide, OrderType, Purpose, Side

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def every_event_class() -> list[type[Event]]:
    """All event classes of trading/events.py."""
    found = [value for value in vars(events).values() if isinstance(value, type)]
    return [cls for cls in found if issubclass(cls, Event) and cls is not Event]


def wall() -> datetime:
    """A wall clock that stands still."""
    return datetime(2026, 11, 22, 8, 0, 0, 123456, tzinfo=UTC)


def content(path: Path, new: bytes | None = None) -> bytes:
    """The bytes of a file, after replacing them with `new` (mode 0644) when given."""
    if new is not None:
        path.write_bytes(new)
        path.chmod(0o644)
    return path.read_bytes()


def alert(number: int) -> events.AlertRaised:
    """A small event that carries its number."""
    return events.AlertRaised(at=START + timedelta(minutes=number), kind="test", text=f"alert {number}")


def intended(
    link_id: str = "cv-1-e", *, verdict_id: int | None = 1, purpose: Purpose = Purpose.ENTRY
) -> events.OrderIntended:
    """An intent to buy."""
    return events.OrderIntended(
        at=START,
        link_id=link_id,
        verdict_id=verdict_id,
        symbol="BTCUSDT",
        purpose=purpose,
        side=OrderSide.BUY,
        type=OrderType.LIMIT,
        qty=Decimal("0.010"),
        price=Decimal("63410.10"),
        stop=Decimal("62650.0"),
        take_profit=None,
        r_distance=760.1,
        signal_time=START - timedelta(hours=4),
    )


def filled(exec_id: str = "x-1", link_id: str = "cv-1-e") -> events.OrderFilled:
    """A fill of `intended`."""
    return events.OrderFilled(
        at=START,
        exec_id=exec_id,
        link_id=link_id,
        order_id="o-1",
        verdict_id=1,
        symbol="BTCUSDT",
        purpose=Purpose.ENTRY,
        side=OrderSide.BUY,
        qty=Decimal("0.010"),
        price=Decimal("63410.10"),
        fee=Decimal("0.12682020"),
        maker=True,
        bar_time=START,
    )


def verdict(number: int = 1, *, approved: bool = True) -> events.VerdictReached:
    """A decision with a council of one."""
    answer = events.AgentAnswer(agent="quant", status="ok", vote="LONG", p_win=0.61, text="trend", details={"a": [1]})
    return events.VerdictReached(
        at=START,
        verdict_id=number,
        symbol="BTCUSDT",
        side=Side.LONG,
        approved=approved,
        gate="" if approved else "council",
        reasons=("because <b>of</b> \U0001f600",),
        close=Decimal("63441.8"),
        entry=Decimal("63410.10"),
        stop=Decimal("62650.0"),
        take_profit=None,
        r_distance=760.1,
        atr=190.02,
        qty=Decimal("0.010"),
        size_modifier=1.0,
        risk_usdt=Decimal("7.60"),
        equity=Decimal("10000.00"),
        council="rules",
        signal_time=START - timedelta(hours=4),
        answers=(answer,),
    )


def closed(verdict_id: int | None = 1, *, pnl: str = "17.30") -> events.TradeClosed:
    """The end of the trade of `verdict`."""
    return events.TradeClosed(
        at=START + timedelta(hours=8),
        verdict_id=verdict_id,
        symbol="BTCUSDT",
        side=Side.LONG,
        signal_time=START - timedelta(hours=4),
        entry_time=START,
        exit_time=START + timedelta(hours=4),
        entry_price=Decimal("63410.10"),
        exit_price=Decimal("65140.10"),
        qty=Decimal("0.010"),
        pnl=Decimal(pnl),
        fees=Decimal("0.93"),
        funding=Decimal("-0.11"),
        risk_usdt=Decimal("7.60"),
        r=1.9,
        best_r=2.3,
        worst_r=-0.4,
        exit_reason=ExitReason.TRAILING,
        cash=Decimal("10017.30"),
    )


def proposed(number: int = 1, *, council: str = "strict") -> events.CandidateProposed:
    """The candidate of `verdict`, before the council."""
    told = verdict(number)
    same = (name for name in events.CandidateProposed.__dataclass_fields__ if name != "council")
    return events.CandidateProposed(**{name: getattr(told, name) for name in same}, council=council)


def model_call(attempt: int = 1, *, status: str = "OK", cost: str = "0.000123", key: str = "ab12") -> events.ModelCall:
    """One request of 1.25 s; its answer has half a surrogate pair in it."""
    return events.ModelCall(
        attempt=attempt,
        repair=False,
        status=status,
        code=200,
        finish="stop",
        raw='{"signal": "LONG \ud800"}',
        problem="" if status == "OK" else "it went wrong",
        latency_ms=1250,
        bytes_in=9_000,
        bytes_out=700,
        tokens_in=2_100,
        tokens_out=None if status == "TIMEOUT" else 160,
        cost_usd=Decimal(cost),
        key=key,
    )


def agent_answer(agent: str = "quant", vote: str = "LONG", *, status: str = "OK", **fields: Any) -> events.AgentAnswer:
    """An answer as it is shown; one that failed has no vote."""
    good = status == "OK"
    return events.AgentAnswer(
        agent=agent, status=status, vote=vote if good else "", p_win=0.6 if good else None, text="because", **fields
    )


def answered(
    number: int | None = 1,
    answer: events.AgentAnswer | None = None,
    *calls: events.ModelCall,
    council: str = "strict",
    twin: bool = False,
) -> events.AgentAnswered:
    """An agent that was asked about the candidate of `verdict`."""
    said = events.Testimony(
        answer=answer or agent_answer(),
        provider="huggingface",
        model="deepseek-ai/DeepSeek-V3.1:fireworks-ai",
        prompt="quant/v001",
        prompt_hash="aa" * 32,
        schema_hash="bb" * 32,
        packet='{"rsi":61.5}',
        calls=calls,
        twin=twin,
    )
    return events.AgentAnswered(
        at=START, verdict_id=number, symbol="BTCUSDT", side=Side.LONG, council=council, said=said
    )


def opinion(number: int = 1, *answers: events.AgentAnswer, size: float = 0.0) -> events.OpinionReached:
    """What the models would have decided on the candidate of `verdict`: so much of the base size."""
    return events.OpinionReached(
        at=START,
        verdict_id=number,
        symbol="BTCUSDT",
        side=Side.LONG,
        council="strict",
        approved=size > 0,
        size_modifier=size,
        reasons=("because",),
        answers=answers,
    )


def shadow_ended(number: int = 1, *, r: float | None = 1.5, ended: str = "trailing") -> events.ShadowEnded:
    """How the candidate of `verdict` would have ended; `r` None: it never filled."""
    traded: dict[str, Any] = {}
    if r is not None:
        traded = {"entry_time": START, "exit_time": START + timedelta(hours=8), "exit_price": 64550.25, "best_r": 2.25}
    return events.ShadowEnded(
        at=START + timedelta(hours=12),
        verdict_id=number,
        symbol="BTCUSDT",
        side=Side.LONG,
        signal_time=START - timedelta(hours=4),
        ended="unfilled" if r is None and ended == "trailing" else ended,
        r=r,
        **traded,
    )


def marked(number: int = 0, *, exposed: bool = False) -> events.EquityMarked:
    """The mark of close number `number`."""
    at = START + timedelta(hours=4 * number)
    return events.EquityMarked(
        at=at, equity=10000 + number / 3, cash=Decimal("10000.10"), exposed=exposed, closes={"BTCUSDT": 63441.8}
    )


def settings_changed() -> events.SettingsChanged:
    """Two settings changed in the chat."""
    values, old = {"risk_per_trade": 0.005, "cooldown_bars": 3.0}, {"risk_per_trade": 0.01, "cooldown_bars": 0.0}
    return events.SettingsChanged(at=START, values=values, old=old, by="ann", command="update:7")


def symbols_changed() -> events.SymbolsChanged:
    """A symbol muted in the chat."""
    return events.SymbolsChanged(at=START, muted=("ETHUSDT",), by="ann", command="update:7")


def command_done() -> events.CommandDone:
    """The proof of a panic."""
    found = ("closed 0.010 of BTCUSDT at 63,410.1, -1.20 USDT", "asked the exchange at 12:00:01 UTC: 0 positions")
    return events.CommandDone(at=START, name="panic", done=True, found=found, by="ann", command="update:7")


def every_event() -> st.SearchStrategy[Event]:
    """Any event with any content that its type hints allow."""
    return st.one_of([built(cls) for cls in every_event_class()])


def built(cls: type[Any]) -> st.SearchStrategy[Any]:
    """Instances of a dataclass from the type hints of its fields."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in dataclasses.fields(cls)})


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of one type hint: anything finite, any text (half surrogates too), any time zone."""
    if hint in SCALARS:
        return SCALARS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return st.none() | values(next(part for part in arguments if part is not type(None)))
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), values(arguments[1]), max_size=3)
    if issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    return built(hint)


def paired(text: str) -> str:
    """Half surrogates stay as they are; two that make a pair become the character, as JSON reads them."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


TEXT = st.text(st.characters(exclude_categories=()), max_size=20).map(paired)
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(2**53), 2**53),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=ZONES),  # noqa: DTZ001
    Any: JSON,
}
