"""What happened, in the past tense: the only thing the trader ever writes down.

The journal holds these in order; the trader's state is a fold over them (`trading.portfolio.Book`), and every
table, card and report is drawn from them. `at` is market time. Requests to the trader are in the imperative.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from trading.model import ExitReason, OrderSide, OrderType, Purpose, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Base of everything in the journal."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Event):
    """The trader came up; `found` is what reconciling with the exchange showed, one line each."""

    badge: str
    symbols: tuple[str, ...]
    interval_minutes: int
    initial_equity: Decimal
    resumed: bool
    found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeDropped(Event):
    """A signal that came while it could not count, and why: see `trading.cycle.busy`."""

    symbol: str
    side: Side
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAnswer:
    """One council member's answer as it is shown: `vote` is its enum, `text` its strongest argument."""

    agent: str
    status: str
    vote: str
    p_win: float | None
    text: str
    against: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One request to a language model, as it was made and as it ended.

    `attempt` counts from 1; `repair` is the one that carried the errors of the answer before it. `status` is one of
    `council.schemas.Status`, `code` the HTTP status (0: no answer came), `finish` the provider's own word for how the
    answer ended, `raw` the answer's text as it came. `bytes_in` and `bytes_out` are UTF-8 bytes of prompt and answer;
    tokens are those that the provider reports, None where it reports none. `key` is the last four characters of the
    key that was used.
    """

    attempt: int
    repair: bool
    status: str
    code: int
    finish: str
    raw: str
    problem: str
    latency_ms: int
    bytes_in: int
    bytes_out: int
    tokens_in: int | None
    tokens_out: int | None
    cost_usd: Decimal
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """All that is kept of asking one agent: what it saw, by which prompt, every call, and the answer as it is shown.

    `packet` is the JSON text that stood in the prompt. `prompt` is its file's name (`quant/v001`); the hashes are
    SHA-256. `twin`: the model failed and its rules twin answered in its place.
    """

    answer: AgentAnswer
    provider: str
    model: str
    prompt: str
    prompt_hash: str
    schema_hash: str
    packet: str
    calls: tuple[ModelCall, ...] = ()
    twin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What another council would have decided on the same candidate: `rules` beside the models, or the other way."""

    council: str
    approved: bool
    size_modifier: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateProposed(Event):
    """A candidate goes before a council that takes its time; its verdict follows. `qty`, `risk_usdt`: the base size."""

    verdict_id: int
    symbol: str
    side: Side
    close: Decimal
    entry: Decimal
    stop: Decimal
    take_profit: Decimal | None
    r_distance: float
    atr: float | None
    qty: Decimal
    risk_usdt: Decimal
    equity: Decimal
    council: str
    signal_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentAnswered(Event):
    """One agent was asked and has answered, or failed to. `verdict_id` is None when a person asked."""

    verdict_id: int | None
    symbol: str
    side: Side
    council: str
    said: Testimony


@dataclass(frozen=True, slots=True, kw_only=True)
class OpinionReached(Event):
    """What the models would have decided on a candidate that the rules have decided on (mode `shadow`)."""

    verdict_id: int
    symbol: str
    side: Side
    council: str
    approved: bool
    size_modifier: float
    reasons: tuple[str, ...]
    answers: tuple[AgentAnswer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictReached(Event):
    """The decision on one candidate; every candidate has exactly one.

    `gate` names who ended it: `guard`, `council`, `risk`, `operator` (somebody asked for less risk meanwhile),
    `superseded` (the next bar closed first) or, when approved, an empty string. `reasons` are sentences for a person.
    `qty` is zero when nothing was sized. `size_modifier` is in 0..1; `clamp` tells which cap held the size down
    (`risk.Sized`). `debated`: a `CandidateProposed` came before it. `opinions` are those of other councils.
    """

    verdict_id: int
    symbol: str
    side: Side
    approved: bool
    gate: str
    reasons: tuple[str, ...]
    close: Decimal
    entry: Decimal
    stop: Decimal
    take_profit: Decimal | None
    r_distance: float
    atr: float | None
    qty: Decimal
    size_modifier: float
    risk_usdt: Decimal
    equity: Decimal
    council: str
    signal_time: datetime
    answers: tuple[AgentAnswer, ...] = ()
    clamp: str = ""
    debated: bool = False
    opinions: tuple[Opinion, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowEnded(Event):
    """How a candidate would have ended by the strategy's rules, followed on its own after every close.

    Nothing of it was traded. `ended` is `stop`, `take_profit`, `trailing` or `signal`; `unfilled` when its entry would
    not have filled, `lost` when its bars are not known any more: then `r` (after fees, slippage and funding) and the
    prices are None. Times are the open times of bars.
    """

    verdict_id: int
    symbol: str
    side: Side
    signal_time: datetime
    ended: str
    entry_time: datetime | None = None
    exit_time: datetime | None = None
    exit_price: float | None = None
    r: float | None = None
    best_r: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CouncilImpaired(Event):
    """Agents of the council have stopped answering; told once. `agents` are their names, `text` says why and what now.
    """

    agents: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CouncilRecovered(Event):
    """All agents answer again; told once."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CouncilModeChanged(Event):
    """Another council decides from now on, also after a restart."""

    mode: str
    old: str
    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIntended(Event):
    """Committed before the order is sent. `signal_time` is the open time of the bar that was decided on.

    `request` is the command that asked for it; empty when the strategy did.
    """

    link_id: str
    verdict_id: int | None
    symbol: str
    purpose: Purpose
    side: OrderSide
    type: OrderType
    qty: Decimal
    price: Decimal | None
    stop: Decimal | None
    take_profit: Decimal | None
    r_distance: float
    signal_time: datetime
    exit_reason: ExitReason | None = None
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAccepted(Event):
    """The exchange acknowledged an order."""

    link_id: str
    symbol: str
    order_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRefused(Event):
    """The exchange refused an order for good, or it was found never to have arrived."""

    link_id: str
    symbol: str
    reason: str
    verdict_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDoubted(Event):
    """The reply was lost: the order may or may not exist. No new entry on the symbol until it is known."""

    link_id: str
    symbol: str
    reason: str
    verdict_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled(Event):
    """A resting order left the book unfilled: `expired`, `run_away`, `flat`, `manual` or the exchange's word.

    `request` is the command that asked for it; empty when nobody did.
    """

    link_id: str
    symbol: str
    purpose: Purpose
    reason: str
    verdict_id: int | None = None
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilled(Event):
    """An execution, booked once by `exec_id`. `slippage_bp` is against the price that was asked for."""

    exec_id: str
    link_id: str
    order_id: str
    verdict_id: int | None
    symbol: str
    purpose: Purpose
    side: OrderSide
    qty: Decimal
    price: Decimal
    fee: Decimal
    maker: bool
    bar_time: datetime
    stop: Decimal | None = None
    risk_usdt: Decimal | None = None
    slippage_bp: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingPaid(Event):
    """Funding booked once by `exec_id`; `amount` is positive when paid, negative when received."""

    exec_id: str
    symbol: str
    amount: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMoved(Event):
    """The stop was moved: `level_r` is the trailing level reached, `locked_r` the result at the new stop, in R.

    Both before costs; `level_r` is 0 when the stop was not trailed: moved on request, or by somebody else.
    """

    symbol: str
    verdict_id: int | None
    old: Decimal
    new: Decimal
    level_r: float
    locked_r: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeClosed(Event):
    """A position is flat again: the finished trade. Fees and funding are positive when paid."""

    verdict_id: int | None
    symbol: str
    side: Side
    signal_time: datetime
    entry_time: datetime
    exit_time: datetime
    entry_price: Decimal
    exit_price: Decimal
    qty: Decimal
    pnl: Decimal
    fees: Decimal
    funding: Decimal
    risk_usdt: Decimal
    r: float
    best_r: float
    worst_r: float
    exit_reason: ExitReason
    cash: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPositionMark:
    """An open position at a close, as `EquityMarked` carries it: the trailing state that must survive."""

    symbol: str
    best: float
    worst: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EquityMarked(Event):
    """The last event of every close: `at` is the close's time; decisions up to it are done.

    `equity` is the cash plus the open positions at the bar's close; `closes` are the closes by symbol.
    """

    equity: float
    cash: Decimal
    exposed: bool
    closes: dict[str, float]
    marks: tuple[OpenPositionMark, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CashAdjusted(Event):
    """The wallet differed by `amount` at two looks with nothing left to book: a deposit or a withdrawal."""

    amount: Decimal
    cash: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingPaused(Event):
    """No new entries from now on; stops and exits go on. `command` is the request's id, handled once."""

    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TradingResumed(Event):
    """Entries are allowed again."""

    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRaised(Event):
    """Something the owner must know: `kind` groups alerts, `text` says what happened and what to do."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsChanged(Event):
    """Settings that differ from config.json from now on. `old` holds the values before, under the same names.

    `source` says where the values come from: `run 88`, `rollback 88`; empty where somebody named them.
    """

    values: dict[str, float]
    old: dict[str, float]
    by: str
    command: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolsChanged(Event):
    """Symbols that get no new entries from now on; what is open on them is looked after as before."""

    muted: tuple[str, ...]
    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDone(Event):
    """The end of a request that is more than a word: `done` or not, and `found`, one line each, for a person.

    `name` is the chat command (`panic`, `close`, …). What it did stands in events of its own before this one;
    for a panic, `found` is the proof: what the exchange showed afterwards, and when it was asked.
    """

    name: str
    done: bool
    found: tuple[str, ...]
    by: str
    command: str


# Requests to the trader: put into its inbox by chat, scheduler and webhook, never journaled themselves. Each ends in
# exactly one event that carries its `command`, however often it is delivered.


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseTrading:
    """Stop taking new entries."""

    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeTrading:
    """Take entries again."""

    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopEntries:
    """Pause, and cancel every resting entry. Positions keep their stops and exits."""

    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panic:
    """Pause, cancel everything, close every position at the market, and prove by the exchange's word that it is so."""

    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosePosition:
    """Close `share` (0 < share <= 1) of the position on a symbol at the market."""

    symbol: str
    share: Decimal
    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveToBreakeven:
    """Move the stop of the position on a symbol to its entry price; refused where that would loosen or trigger it."""

    symbol: str
    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelEntry:
    """Cancel the resting entry on a symbol."""

    symbol: str
    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """Change settings by name (any settable one of the specification), all or none; `source` as in the event."""

    values: dict[str, float]
    by: str
    command: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeCouncil:
    """Let another council decide: `mode` is one of `trading.council.MODES`."""

    mode: str
    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSymbols:
    """From now on these of the configured symbols get no new entries."""

    muted: tuple[str, ...]
    by: str
    command: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconcile:
    """Compare everything with the exchange now, the wallet too."""

    by: str
    command: str


Request = (
    PauseTrading
    | ResumeTrading
    | StopEntries
    | Panic
    | ClosePosition
    | MoveToBreakeven
    | CancelEntry
    | ChangeSettings
    | ChangeSymbols
    | ChangeCouncil
    | Reconcile
)
