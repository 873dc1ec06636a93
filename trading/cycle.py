"""One trade, from the closed bar to the order: the same in a replay, on paper and live.

`run_cycle` is the whole story; everything it calls is either pure or a port. What is open is dealt with before it
(`trading.tending`) and never waits for the council; then the strategy proposes, guards object, the council may veto
or shrink (`trading.hearing`), risk sizes, and the intent is written before the order leaves.
"""

from __future__ import annotations

import math

from trading import events as ev
from trading import risk
from trading.council.guards import knife_text
from trading.council.packet import WINDOW, atr_of
from trading.desk import Desk, Interruption
from trading.errors import OutcomeUnknown, Rejected, Transient
from trading.hearing import Case, hear, verdict_of
from trading.model import Candle, CandleSeries, Instrument, OrderSide, OrderType, Proposal, Purpose, Side
from trading.orders import link_id_of
from trading.parameters import TradeRules
from trading.ports import Deliberation
from trading.risk import Refused, Sized
from trading.signals import Reading
from trading.tending import tend_entry

NO_COUNCIL = Deliberation(approved=False, size_multiplier=0.0, reasons=())


async def run_cycle(desk: Desk, candle: Candle, reading: Reading) -> None:
    """Decide on one closed bar of one symbol. What is open was protected before, on every symbol."""
    await tend_entry(desk, candle)

    # The strategy proposes. An edge that cannot count now is dropped, not queued.
    if reading.side == 0:
        return
    side = Side.LONG if reading.side > 0 else Side.SHORT
    if reason := busy(desk, candle, reading):
        await desk.record(ev.EdgeDropped(at=candle.close_time, symbol=candle.symbol, side=side, reason=reason))
        return
    case = open_case(desk, candle, reading, side)

    # Guards in code (G1): a hard failure ends here and nothing is spent on the council.
    hazard, latched = reading.hazard(side), reading.latched(side)
    objections = desk.guards.before_council(
        case.proposal, case.facts, case.atr, hazard, latched, new_risk(desk, case), case.knife if hazard else ""
    )
    if objections:
        await reject(desk, case, "guard", tuple(objection.reason for objection in objections))
        return
    if isinstance(case.base, Refused):
        await reject(desk, case, "risk", (case.base.reason,))
        return

    # The council may veto or shrink; nobody waits for it once less risk is asked for, or the next bar closes.
    ruling = await hear(desk, case)
    if isinstance(ruling, Interruption):
        await reject(desk, case, ruling.gate, (f"{ruling.reason} while the council deliberated",))
        return
    if not ruling.approved:
        await reject(desk, case, "council", ruling.reasons, ruling)
        return

    # Guards again, at the fresh price and on what has happened meanwhile (G2), and the final size.
    if stale := await second_look(desk, case, candle, reading):
        await reject(desk, case, "guard", (stale,), ruling)
        return
    if cut := desk.waiting():
        await reject(desk, case, cut.gate, (f"{cut.reason} before the order left",), ruling)
        return
    sized = risk.at_most(size(desk, case.proposal, ruling.size_multiplier), case.base, case.proposal)
    if isinstance(sized, Refused):
        await reject(desk, case, "risk", (sized.reason,), ruling)
        return

    # Verdict and intent are one commit; then the order leaves with its stop attached.
    intent = entry_intent(desk, case, sized)
    verdict = verdict_of(desk, case, ruling, sized=sized)
    await desk.send(intent, risk.approve_entry(case.proposal, sized, intent.link_id), verdict)


def busy(desk: Desk, candle: Candle, reading: Reading) -> str | None:
    """Why an edge cannot count at this close, or None."""
    symbol, book = candle.symbol, desk.book
    reasons = {
        # Before a kill that left this close unmarked: there is one verdict for a candidate.
        "decided": book.decided.get(symbol) == candle.open_time,
        "symbol_muted": symbol in book.muted,
        "in_position": symbol in book.holdings,
        "entry_resting": book.entry_of(symbol) is not None,
        "cooldown": book.cooling_down(symbol, candle.open_time, desk.interval, desk.rules.cooldown_bars),
        "stopping": bool(desk.stopping),
        "blocked": symbol in desk.blocked,
        "exchange_unreachable": bool(desk.lost),
        "stale": desk.late,
        "unmeasured": not 0.0 < reading.r < math.inf,  # without a stop distance there is no order
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def open_case(desk: Desk, candle: Candle, reading: Reading, side: Side) -> Case:
    """Price the proposal and take stock of the account."""
    proposal = propose(desk.rules, desk.instruments[candle.symbol], candle, reading.r, side)
    window = desk.signals.window(candle.symbol, WINDOW)
    atr = atr_of(window)
    return Case(
        proposal=proposal,
        facts=desk.facts(candle),
        atr=atr,
        base=size(desk, proposal, 1.0),
        knife=knife_of(window, side, desk.own_knife_bars.get(candle.symbol, desk.knife_bars), atr),
        verdict_id=desk.book.verdicts + 1,
    )


async def second_look(desk: Desk, case: Case, candle: Candle, reading: Reading) -> str | None:
    """Why the decision is stale by now, or None; a price that cannot be read again is no price to trade on."""
    if desk.council.debates and (reason := busy(desk, candle, reading)):
        return f"while the council deliberated: {reason.replace('_', ' ')}"
    if shut := desk.guards.shut(desk.facts(candle), new_risk(desk, case)):
        return shut[0].reason
    try:
        price = await desk.market.last_price(candle.symbol)
    except (OutcomeUnknown, Transient, Rejected) as error:
        return f"the price could not be read again: {error}"
    objection = desk.guards.before_order(case.proposal, case.atr, price, desk.age_bars(candle))
    return objection.reason if objection else None


def new_risk(desk: Desk, case: Case) -> float:
    """The share of equity that the candidate would put at risk at its base size, the most it can come to."""
    cash = float(desk.book.cash)
    return float(case.base.risk_usdt) / cash if isinstance(case.base, Sized) and cash > 0 else 0.0


def knife_of(window: CandleSeries, side: Side, bars: int, atr: float | None) -> str:
    """The last bars' move against a side, in ATR, in words; empty where it cannot be told."""
    if atr is None or len(window) <= bars:
        return ""
    move = side.sign * float(window.close[-1 - bars] - window.close[-1])
    return knife_text(side, move / atr, bars)


def propose(rules: TradeRules, instrument: Instrument, candle: Candle, r_distance: float, side: Side) -> Proposal:
    """Entry rule 1: the limit below (above) the close, the stop R away, the take profit if there is one."""
    sign = side.sign
    entry = instrument.round_price(candle.close * (1 - sign * rules.entry_offset))
    price = float(entry)
    take_profit = None
    if rules.take_profit_r > 0:
        take_profit = instrument.round_price(price + sign * rules.take_profit_r * r_distance)
    return Proposal(
        symbol=candle.symbol,
        side=side,
        signal_time=candle.open_time,
        interval=candle.interval,
        close=candle.close,
        entry=entry,
        stop=instrument.round_price(price - sign * r_distance),
        take_profit=take_profit,
        take_profit_r=rules.take_profit_r,
        r_distance=r_distance,
    )


def size(desk: Desk, proposal: Proposal, modifier: float) -> Sized | Refused:
    """Entry rule 2 over the whole account."""
    return risk.size_entry(
        proposal,
        equity=desk.book.cash,
        terms=desk.terms,
        instrument=desk.instruments[proposal.symbol],
        used=desk.exposure(),
        size_modifier=modifier,
    )


async def reject(
    desk: Desk, case: Case, gate: str, reasons: tuple[str, ...], ruling: Deliberation = NO_COUNCIL
) -> None:
    """Write down why a candidate ends here."""
    await desk.record(verdict_of(desk, case, ruling, gate=gate, reasons=reasons))


def entry_intent(desk: Desk, case: Case, sized: Sized) -> ev.OrderIntended:
    """The intent of an approved entry; its id depends only on what it is for."""
    p = case.proposal
    return ev.OrderIntended(
        at=p.signal_time + p.interval,
        link_id=link_id_of(desk.account, p.symbol, Purpose.ENTRY, p.signal_time),
        verdict_id=case.verdict_id,
        symbol=p.symbol,
        purpose=Purpose.ENTRY,
        side=OrderSide.opening(p.side),
        type=OrderType.LIMIT,
        qty=sized.qty,
        price=p.entry,
        stop=p.stop,
        take_profit=p.take_profit,
        r_distance=p.r_distance,
        signal_time=p.signal_time,
    )
