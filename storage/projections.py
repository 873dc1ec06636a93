"""From events to the tables that people and reports ask: one function for each kind of event.

Each returns the statements to run with their parameters. They run in the transaction that commits the event,
so that no table ever knows more or less than the journal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import Executable, bindparam, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from storage import tables
from trading import events
from trading.events import Event
from trading.model import Purpose

INTENT_STATES: Final = ("intended", "accepted", "doubted", "refused", "cancelled", "filled")
VERDICT_OUTCOMES: Final = ("rejected", "approved", "intended", "refused", "cancelled", "filled", "closed")


class Change(NamedTuple):
    """One row to write: `statement` is a constant, so that rows of one statement can go out together."""

    statement: Executable
    values: dict[str, Any]


Projection = Callable[[str, int, Any], Iterable[Change]]

_INTENTS: Final = tables.table(tables.Intents)
_EXECUTIONS: Final = tables.table(tables.Executions)
_VERDICTS: Final = tables.table(tables.Verdicts)

# An intent or a verdict that exists twice is a fault of the trader: the append fails and nothing is sent.
# An execution may be reported twice, that is in the nature of streams: the first report counts.
_ADD_INTENT: Final = insert(_INTENTS)
_ADD_VERDICT: Final = insert(_VERDICTS)
_ADD_EXECUTION: Final = insert(_EXECUTIONS).on_conflict_do_nothing()
_ADD_TRADE: Final = insert(tables.table(tables.Trades))
_ADD_EQUITY: Final = insert(tables.table(tables.Equity))
_ADD_HEARING: Final = insert(tables.table(tables.Hearings))
_ADD_CALL: Final = insert(tables.table(tables.Calls))
# Followed for the record only: an end that is told twice stops nobody, and the first one counts.
_ADD_SHADOW: Final = insert(tables.table(tables.Shadows)).on_conflict_do_nothing()


def _intent_update(*earlier: str) -> Any:
    """Move an intent on from one of the `earlier` states: a late acknowledgement does not undo a fill."""
    return update(_INTENTS).where(
        _INTENTS.c.account == bindparam("of_account"),
        _INTENTS.c.link_id == bindparam("of_link"),
        or_(*(_INTENTS.c.state == state for state in earlier)),  # IN cannot go out for several rows at once
    )


_LIVE: Final = ("intended", "accepted", "doubted")
_ACCEPT_INTENT: Final = _intent_update("intended", "doubted").values(
    state="accepted", order_id=bindparam("new_order_id")
)
_DOUBT_INTENT: Final = _intent_update("intended", "accepted").values(
    state="doubted", reason=bindparam("new_reason", type_=_INTENTS.c.reason.type)
)
_END_INTENT: Final = _intent_update(*_LIVE).values(
    state=bindparam("new_state"), reason=bindparam("new_reason", type_=_INTENTS.c.reason.type)
)
_FILL_INTENT: Final = _intent_update(*_LIVE, "cancelled", "refused").values(
    state="filled", order_id=bindparam("new_order_id")
)
_END_VERDICT: Final = (
    update(_VERDICTS)
    .where(_VERDICTS.c.account == bindparam("of_account"), _VERDICTS.c.verdict_id == bindparam("of_verdict"))
    .values(outcome=bindparam("new_outcome"))
)
# Of an entry that was filled in part, what is cancelled is the rest: its decision stays the filled one.
_UNFILL_VERDICT: Final = (
    update(_VERDICTS)
    .where(
        _VERDICTS.c.account == bindparam("of_account"),
        _VERDICTS.c.verdict_id == bindparam("of_verdict"),
        or_(_VERDICTS.c.outcome == "approved", _VERDICTS.c.outcome == "intended"),
    )
    .values(outcome="cancelled")
)
# A refusal names its order only; the order names the verdict. Refused exits say nothing about the verdict.
_REFUSE_VERDICT: Final = (
    update(_VERDICTS)
    .where(
        _VERDICTS.c.account == bindparam("of_account"),
        _VERDICTS.c.verdict_id
        == select(_INTENTS.c.verdict_id)
        .where(
            _INTENTS.c.account == bindparam("of_account"),
            _INTENTS.c.link_id == bindparam("of_link"),
            _INTENTS.c.purpose == Purpose.ENTRY.value,
        )
        .scalar_subquery(),
    )
    .values(outcome="refused")
)


def project(
    account: str, first: int, batch: Iterable[Event]
) -> list[tuple[Executable, list[dict[str, Any]]]]:
    """All changes of a batch whose first event is number `first`, in order; neighbours of one statement together."""
    changes: list[tuple[Executable, list[dict[str, Any]]]] = []
    for seq, event in enumerate(batch, first):
        projection = PROJECTIONS.get(type(event))
        for statement, values in projection(account, seq, event) if projection else ():
            if changes and changes[-1][0] is statement:
                changes[-1][1].append(values)
            else:
                changes.append((statement, [values]))
    return changes


def _intended(account: str, seq: int, event: events.OrderIntended) -> Iterable[Change]:
    reason = event.exit_reason
    values = {
        "account": account,
        "link_id": event.link_id,
        "seq": seq,
        "at": event.at,
        "state": "intended",
        "symbol": event.symbol,
        "purpose": event.purpose.value,
        "side": event.side.value,
        "type": event.type.value,
        "qty": event.qty,
        "price": event.price,
        "stop": event.stop,
        "take_profit": event.take_profit,
        "verdict_id": event.verdict_id,
        "signal_time": event.signal_time,
        "exit_reason": None if reason is None else reason.value,
    }
    yield Change(_ADD_INTENT, values)
    if event.purpose is Purpose.ENTRY:
        yield from _outcome(account, event.verdict_id, "intended")


def _outcome(account: str, verdict_id: int | None, outcome: str) -> Iterable[Change]:
    if verdict_id is not None:
        values = {"of_account": account, "of_verdict": verdict_id, "new_outcome": outcome}
        yield Change(_END_VERDICT, values)


def _accepted(account: str, _seq: int, event: events.OrderAccepted) -> Iterable[Change]:
    values = {"of_account": account, "of_link": event.link_id, "new_order_id": event.order_id}
    yield Change(_ACCEPT_INTENT, values)


def _doubted(account: str, _seq: int, event: events.OrderDoubted) -> Iterable[Change]:
    values = {"of_account": account, "of_link": event.link_id, "new_reason": event.reason}
    yield Change(_DOUBT_INTENT, values)


def _refused(account: str, _seq: int, event: events.OrderRefused) -> Iterable[Change]:
    order = {"of_account": account, "of_link": event.link_id}
    yield Change(_END_INTENT, {**order, "new_state": "refused", "new_reason": event.reason})
    yield Change(_REFUSE_VERDICT, order)


def _cancelled(account: str, _seq: int, event: events.OrderCancelled) -> Iterable[Change]:
    order = {"of_account": account, "of_link": event.link_id}
    yield Change(_END_INTENT, {**order, "new_state": "cancelled", "new_reason": event.reason})
    if event.purpose is Purpose.ENTRY and event.verdict_id is not None:
        yield Change(_UNFILL_VERDICT, {"of_account": account, "of_verdict": event.verdict_id})


def _filled(account: str, seq: int, event: events.OrderFilled) -> Iterable[Change]:
    values = {
        "account": account,
        "exec_id": event.exec_id,
        "seq": seq,
        "at": event.at,
        "symbol": event.symbol,
        "funding": False,
        "fee": event.fee,
        "link_id": event.link_id,
        "order_id": event.order_id,
        "verdict_id": event.verdict_id,
        "purpose": event.purpose.value,
        "side": event.side.value,
        "qty": event.qty,
        "price": event.price,
        "maker": event.maker,
    }
    yield Change(_ADD_EXECUTION, values)
    order = {"of_account": account, "of_link": event.link_id, "new_order_id": event.order_id}
    yield Change(_FILL_INTENT, order)
    if event.purpose is Purpose.ENTRY:
        yield from _outcome(account, event.verdict_id, "filled")


def _funding(account: str, seq: int, event: events.FundingPaid) -> Iterable[Change]:
    values: dict[str, Any] = dict.fromkeys(column.name for column in _EXECUTIONS.columns)
    values.update(account=account, exec_id=event.exec_id, seq=seq, at=event.at)
    values.update(symbol=event.symbol, funding=True, fee=event.amount)
    yield Change(_ADD_EXECUTION, values)


def _verdict(account: str, seq: int, event: events.VerdictReached) -> Iterable[Change]:
    values = {
        "account": account,
        "verdict_id": event.verdict_id,
        "seq": seq,
        "at": event.at,
        "symbol": event.symbol,
        "side": event.side.value,
        "approved": event.approved,
        "gate": event.gate,
        "reasons": json.dumps(event.reasons),
        "entry": event.entry,
        "stop": event.stop,
        "take_profit": event.take_profit,
        "qty": event.qty,
        "size_modifier": event.size_modifier,
        "risk_usdt": event.risk_usdt,
        "council": event.council,
        "signal_time": event.signal_time,
        "outcome": "approved" if event.approved else "rejected",
    }
    yield Change(_ADD_VERDICT, values)


def _trade(account: str, seq: int, event: events.TradeClosed) -> Iterable[Change]:
    values = {name: getattr(event, name) for name in _TRADE_FIELDS}
    values.update(account=account, seq=seq, side=event.side.value, exit_reason=event.exit_reason.value)
    yield Change(_ADD_TRADE, values)
    yield from _outcome(account, event.verdict_id, "closed")


def _equity(account: str, seq: int, event: events.EquityMarked) -> Iterable[Change]:
    values = {
        "account": account,
        "seq": seq,
        "at": event.at,
        "equity": event.equity,
        "cash": event.cash,
        "exposed": event.exposed,
    }
    yield Change(_ADD_EQUITY, values)


def _heard(account: str, seq: int, event: events.CandidateProposed | events.OpinionReached) -> Iterable[Change]:
    yield Change(_ADD_HEARING, _hearing(account, seq, event, event.verdict_id))


def _answered(account: str, seq: int, event: events.AgentAnswered) -> Iterable[Change]:
    said = event.said
    agent, status = said.answer.agent, str(said.answer.status)
    heard = _hearing(account, seq, event, event.verdict_id)
    yield Change(_ADD_HEARING, {**heard, "agent": agent, "status": status, "twin": said.twin})
    about = {
        "account": account,
        "seq": seq,
        "at": event.at,
        "verdict_id": event.verdict_id,
        "symbol": event.symbol,
        "agent": agent,
        **{name: getattr(said, name) for name in ("provider", "model", "prompt", "prompt_hash")},
    }
    for part, call in enumerate(said.calls, 1):
        yield Change(_ADD_CALL, {**about, "part": part, **{name: getattr(call, name) for name in _CALL_FIELDS}})


def _hearing(account: str, seq: int, event: Event, verdict_id: int | None) -> dict[str, Any]:
    place = {"account": account, "seq": seq, "at": event.at, "verdict_id": verdict_id}
    return {**place, "kind": type(event).__name__, "agent": None, "status": None, "twin": None}


def _shadow(account: str, seq: int, event: events.ShadowEnded) -> Iterable[Change]:
    values = {name: getattr(event, name) for name in events.ShadowEnded.__dataclass_fields__}
    values.update(account=account, seq=seq, side=event.side.value)
    yield Change(_ADD_SHADOW, values)


_CALL_FIELDS: Final = tuple(
    name for name in events.ModelCall.__dataclass_fields__ if name in tables.table(tables.Calls).columns
)
_TRADE_FIELDS: Final = tuple(events.TradeClosed.__dataclass_fields__)

PROJECTIONS: Final[dict[type[Event], Projection]] = {
    events.OrderIntended: _intended,
    events.OrderAccepted: _accepted,
    events.OrderDoubted: _doubted,
    events.OrderRefused: _refused,
    events.OrderCancelled: _cancelled,
    events.OrderFilled: _filled,
    events.FundingPaid: _funding,
    events.VerdictReached: _verdict,
    events.TradeClosed: _trade,
    events.EquityMarked: _equity,
    events.CandidateProposed: _heard,
    events.AgentAnswered: _answered,
    events.OpinionReached: _heard,
    events.ShadowEnded: _shadow,
}
