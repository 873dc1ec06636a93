"""Longer answers: the table fits a phone, silence explains itself, and nothing from outside breaks a message."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import views
from bot.buttons import button, rows
from bot.cards import Look
from bot.phone.entities import Formatted
from bot.phone.formatting import parse_html, utf16_length
from bot.ports import Advice
from bot.text import CAPTION_LIMIT, LIMIT, label, pages, plain, units, verbatim
from bot.views import WIDTH, Course, Paid, Span, status_view
from bot.views.table import Column, amount, cell, multiple, per_cent, table, width
from storage.council import Dossier
from storage.queries import Story
from storage.reports import Funnel, Totals, by_reason, by_symbol
from tests.bot import stage
from tests.bot.stage import (
    NEEDS_KEYS,
    NOON,
    a_call,
    a_candidate,
    a_failure,
    a_fill,
    a_shadow,
    a_status,
    a_testimony,
    a_trade,
    a_verdict,
    an_answered,
    an_opinion,
)
from tests.bot.test_cards import TAPPABLE
from tests.storage import samples
from trading.council import MODES
from trading.events import AgentAnswer, FundingPaid, Opinion, OrderFilled, TradeClosed, VerdictReached
from trading.grades import AgentCost, AgentGrade, Arm, Ballot, Grade, Interval, Judged
from trading.model import ExitReason, OrderSide, Purpose, Side, millis
from trading.orders import OrderState
from trading.ports import Deliberation
from trading.status import EntryView, OrderView, PositionView, Status

LOOK = Look(badge="PAPER")
NASTY = (
    "<b>", "</pre>", "_*[", "&", "&lt;", "a&b<c", "\u202eabc", "שלום 12", "مرحبا", "漢字", "😀😀", "👨\u200d👩\u200d👧",
    "⚠️", "\x00\x07", "\n\n", "\ud800", "http://evil.example/x", "@somebody", "/panic", "x" * 10_000, "<" * 5_000, "",
)  # fmt: skip
WORDS = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=()), max_size=60)
AMOUNTS = st.decimals(min_value=Decimal("-1e15"), max_value=Decimal("1e15"), places=3)
PRICES = st.decimals(min_value=0, max_value=Decimal("1e12"), places=4)
RATIOS = st.floats(-1e9, 1e9)
LOOKS = st.builds(Look, badge=WORDS)
NUMBERS = st.none() | st.integers(1, 2**53)


def a_position(**changes: Any) -> PositionView:
    return stage.a_position(**({"liquidation": Decimal("51044.8")} | changes))


def an_entry(**changes: Any) -> EntryView:
    fields: dict[str, Any] = {
        "symbol": "ETHUSDT", "side": Side.SHORT, "verdict_id": 3, "qty": Decimal("0.43"), "price": Decimal(2412),
        "stop": Decimal(2441), "bars_left": 1,
    }  # fmt: skip
    return EntryView(**(fields | changes))


def an_order(**changes: Any) -> OrderView:
    fields: dict[str, Any] = {
        "symbol": "ETHUSDT", "purpose": Purpose.ENTRY, "side": OrderSide.SELL, "qty": Decimal("0.43"),
        "price": Decimal(2412), "stop": Decimal(2441), "since": NOON, "state": OrderState.ACCEPTED, "verdict_id": 3,
    }  # fmt: skip
    return OrderView(**(fields | changes))


def lines(text: str) -> list[str]:
    return plain(text).split("\n")


def accepted(text: str, limit: int = LIMIT) -> Formatted:
    """The message as the phone takes it: markup that parses, not too long, no table wider than the screen."""
    shown = Formatted("", ())
    for part in pages(text) if limit == LIMIT else [text]:
        shown = parse_html(part)
        assert 0 < utf16_length(shown.text) <= limit
        fits_the_screen(shown)
    return shown


def fits_the_screen(shown: Formatted) -> None:
    """No table is wider than a phone."""
    for block in (entity for entity in shown.entities if entity.type == "pre"):
        encoded = shown.text.encode("utf-16-le")[block.offset * 2 : block.end * 2]
        for line in encoded.decode("utf-16-le").split("\n"):
            assert seen(line) <= WIDTH
            assert utf16_length(line) <= WIDTH
            assert not any(unicodedata.bidirectional(each) in {"R", "AL", "AN"} for each in line)


def seen(line: str) -> int:
    """Columns on a screen, by the Unicode database alone: wide and pictured characters take two."""
    wide = [unicodedata.east_asian_width(each) in {"W", "F"} or ord(each) > 0xFFFF for each in line]
    return len(line) + sum(wide)


# /status, /balance, /orders


def test_status_shows_positions_as_a_table_and_what_comes_next() -> None:
    """The first line carries the news; then positions, account, next close, gates."""
    status = a_status(positions=(a_position(), a_position(symbol="ETHUSDT", side=Side.SHORT, r=-0.3, liquidation=None)))
    assert lines(status_view(status, UTC, 0.04)) == [
        "PAPER · 2 open · +82.40 USDT · 21 Jul 12:00",
        "PAIR SIDE   uPNL    R  SL% LQ%",
        "------------------------------",
        "BTC  L5x  +41.20 +0.8  1.2  20",
        "ETH  S5x  +41.20 -0.3 -1.2   –",
        "------------------------------",
        "heat 2.1/4.0%   day +26.40",
        "#214 LONG BTC 0.012 from 63,410, now 63,420, stop 62,650",
        "#214 SHORT ETH 0.012 from 63,410, now 63,420, stop 62,650",
        "Equity 10,028.30 USDT (+0.28%), cash 10,000.00",
        "Today +26.40 USDT (+0.26%), 3 of 4 won",
        "Decisions 7, trades 4",
        "Next close 21 Jul 16:00",
        "All gates open: every market is in use",
    ]


def test_an_idle_account_says_what_it_waits_for() -> None:
    """When the next bar closes, and on which markets a signal may come."""
    text = status_view(a_status(symbols=("BTCUSDT", "ETHUSDT", "ADAUSDT"), entries=(an_entry(),)), UTC)
    assert lines(text)[-2:] == ["Next close 21 Jul 16:00", "All gates open: waiting for a signal on BTC, ADA"]


def test_status_names_every_shut_gate() -> None:
    """Before the first bar, too, and with a stream that is down."""
    gates = ("paused: /resume", "no data")
    status = a_status(market_time=None, next_close=None, paused=True, gates=gates, lost="private stream")
    said = lines(status_view(status, UTC))
    assert said[0] == "PAPER · PAUSED · 0 open · no bar yet"
    assert said[-3:] == ["Exchange: private stream", "Gate shut: paused: /resume", "Gate shut: no data"]


def test_status_says_when_the_council_is_impaired() -> None:
    """Before the gates: what it means for trades is told by /mode."""
    status = a_status(council="strict", council_health="the Quant does not answer", gates=("no data",))
    said = lines(status_view(status, UTC))
    assert said[-2:] == ["Council strict impaired: the Quant does not answer", "Gate shut: no data"]
    assert not any("ouncil" in line for line in lines(status_view(a_status(council="strict"), UTC)))


def test_status_differs_only_when_something_has_changed() -> None:
    """Looking twice gives the same text, so that an edit is none; an old picture says that it is."""
    first, second = (status_view(a_status(looked_age=age), UTC) for age in (0.4, 59.0))
    assert first == second
    stale = [status_view(a_status(looked_age=age), UTC) for age in (190.0, 350.0, 1000.0)]
    assert stale[0] == stale[1] != stale[2]
    assert "The exchange was last compared more than 15m ago" in stale[2]


def test_a_resting_entry_says_how_long_it_still_rests() -> None:
    """One line each."""
    text = status_view(a_status(entries=(an_entry(),)), UTC)
    assert "Resting #3 SHORT ETH 0.43 at 2,412, stop 2,441, 1 bar left" in text


def test_more_positions_than_fit_are_counted() -> None:
    """Thirty rows and the number of the others."""
    text = status_view(a_status(positions=(a_position(),) * 33), UTC)
    assert "… 3 more" in lines(text)


def test_the_balance_tells_result_and_deposits_apart() -> None:
    """Equity less what was there at the start and what was moved in since."""
    paid = Paid(fees=Decimal("12.5"), funding=Decimal("-1.25"), moved=Decimal(100))
    status = a_status(positions=(a_position(),), equity=Decimal("10028.30"), cash=Decimal("9987.10"))
    assert lines(views.balance_view(status, paid, LOOK)) == [
        "PAPER equity 10,028.30 USDT, -71.70 USDT (-0.72%) since the start",
        "Cash 9,987.10 USDT",
        "Unrealised +41.20 USDT",
        "Margin bound 152.18 USDT (1 open, 0 resting, 5x)",
        "Free 9,834.92 USDT (98.48% of the cash)",
        "Fees paid 12.50 USDT, funding received 1.25 USDT",
        "Started with 10,000.00 USDT",
        "Deposits less withdrawals +100.00 USDT: not counted in the result",
    ]


def test_orders_say_what_they_are_for() -> None:
    """Entries with their stop and time, take profits, exits on the way, and doubts."""
    orders = (
        an_order(),
        an_order(symbol="BTCUSDT", purpose=Purpose.TAKE_PROFIT, price=Decimal(65000), stop=None, verdict_id=214),
        an_order(symbol="ADAUSDT", purpose=Purpose.EXIT, side=OrderSide.BUY, price=None, stop=None, verdict_id=None,
                 state=OrderState.INTENDED),
        an_order(symbol="XRPUSDT", state=OrderState.DOUBTED),
    )  # fmt: skip
    status = a_status(orders=orders, entries=(an_entry(),), positions=(a_position(),))
    assert lines(views.orders_view(status, LOOK)) == [
        "PAPER 2 entries, 1 take profit, 1 exit",
        "#3 SHORT ETH entry 0.43 at 2,412, stop 2,441, 1 bar left, since 21 Jul 12:00",
        "#214 LONG BTC take profit 0.43 at 65,000, since 21 Jul 12:00",
        "SHORT ADA exit 0.43 at the market, since 21 Jul 12:00 – on its way",
        "#3 SHORT XRP entry 0.43 at 2,412, stop 2,441, since 21 Jul 12:00 – in doubt: the exchange is being asked",
        "Stop BTC 62,650 on the position",
    ]


def test_no_order_says_when_one_can_come() -> None:
    """At the next close; a position is protected all the same."""
    text = views.orders_view(a_status(positions=(a_position(),)), LOOK)
    assert plain(text).startswith("PAPER no order: the next one can come at 21 Jul 16:00. 1 open")


# /trades, /trade, /profit, /daily …, /performance, /equity


def test_trades_show_what_is_open_and_the_last_ones() -> None:
    """Open ones first, then the newest; the first line sums up the finished ones."""
    closed = [a_trade(), a_trade(None, pnl=Decimal(-1234567), r=-1.0, exit_reason=ExitReason.TAKE_PROFIT)]
    assert lines(views.trades_view(closed, [a_position()], LOOK)) == [
        "PAPER last 2 trades -1,234,549.70 USDT +0.9R, 1 won, 1 open",
        " ID PAIR     USDT    R EXIT",
        "----------------------------",
        "214 BTC  L +41.20 +0.8 open",
        "215 ETH  S +17.30 +1.9 trail",
        "  – ETH  S -1235k -1.0 tp",
        "/trade ID shows one from decision to exit",
    ]


def a_story(**changes: Any) -> Story:
    fields: dict[str, Any] = {"verdict": a_verdict(), "outcome": "closed", "events": (a_fill(), a_trade())}
    return Story(**(fields | changes))


def test_a_trade_is_told_from_decision_to_exit() -> None:
    """Numbers, costs, slippage, and a time line in which payments of funding do not crowd out the rest."""
    payments = [
        FundingPaid(at=NOON + timedelta(hours=n), exec_id=f"f{n}", symbol="ETHUSDT", amount=Decimal("0.05"))
        for n in (1, 2)
    ]
    at = NOON + timedelta(hours=3)
    exit_ = a_fill(purpose=Purpose.STOP, side=OrderSide.BUY, exec_id="e2", slippage_bp=2.4, at=at)
    story = a_story(events=(a_fill(), *payments, exit_, a_trade()))
    assert lines(views.trade_view(story, None, LOOK)) == [
        "PAPER #215 SHORT ETH closed +17.30 USDT (+0.86%) +1.9R, trailing",
        "0.43: 2,412 → 2,371.77 in 3h12m",
        "Fees 0.93 USDT, funding -0.11 USDT",
        "Best +2.3R, worst -0.4R",
        "Risk at the entry 9.12 USDT",
        "Slippage entry +0.0 bp, exit +2.4 bp (positive is worse; none is measured at the market)",
        "Time line",
        "21 Jul 12:00 decided: approved",
        "21 Jul 12:00 FILLED 0.43 at 2,412, fee 0.21, slip +0.0 bp",
        "21 Jul 14:00 funding -0.10 USDT, 2 times",
        "21 Jul 15:00 stop filled 0.43 at 2,412, fee 0.21, slip +2.4 bp",
        "21 Jul 16:00 CLOSED +17.30 USDT +1.9R trailing stop",
    ]


def test_an_open_trade_is_told_so_far() -> None:
    """As the trader sees it now, with what was paid until now."""
    said = lines(views.trade_view(a_story(outcome="filled", events=(a_fill(),)), a_position(verdict_id=215), LOOK))
    assert said[0] == "PAPER #215 SHORT ETH open +41.20 USDT (+2.04%) +0.8R"
    assert said[2] == "Fees so far 0.21 USDT, funding 0.00 USDT"
    assert said[3] == "Best so far +1.1R, risk at the entry 9.12 USDT"


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("rejected", "was rejected: there is no trade"),
        ("intended", "rests, not filled yet"),
        ("cancelled", "was not filled"),
        ("refused", "was refused by the exchange"),
    ],
)
def test_what_became_no_trade_says_so(outcome: str, words: str) -> None:
    """In the first line."""
    text = views.trade_view(a_story(outcome=outcome, events=()), None, LOOK)
    assert lines(text)[0] == f"PAPER #215 SHORT ETH {words}"


def totals_of(*trades: TradeClosed) -> Totals:
    totals = Totals()
    for trade in trades:
        totals.add(trade)
    return totals


def test_profit_says_how_thin_it_is() -> None:
    """The sum, how it came about, what it cost; few trades prove nothing."""
    totals = totals_of(a_trade(), a_trade(216, pnl=Decimal("-8.65"), r=-1.0))
    span = Span(words="in 7 days", since=NOON - timedelta(days=6), equity=Decimal(10000))
    assert lines(views.profit_view(totals, span, 0.0123, LOOK)) == [
        "PAPER +8.65 USDT (+0.09%) +0.9R in 7 days, 2 trades",
        "Won 1 of 2 (50%)",
        "Profit factor 2.00, expectancy +0.45R a trade",
        "Fees 1.86 USDT, funding -0.22 USDT (in the result)",
        "Best #215 SHORT ETH +17.30 USDT +1.9R",
        "Worst #216 SHORT ETH -8.65 USDT -1.0R",
        "Deepest fall 1.23% from a peak, at the closes",
        "Thin: 2 trades; fewer than 30 prove nothing",
        "Days are UTC, as the loss limits count them; from 15 Jul 2026 on",
    ]


def test_what_is_undefined_is_a_dash() -> None:
    """A profit factor without a loss, a fall without a curve, a share of nothing."""
    said = lines(views.profit_view(totals_of(a_trade()), Span(words="today"), None, LOOK))
    assert said[0] == "PAPER +17.30 USDT +1.9R today, 1 trade"
    assert said[2] == "Profit factor –, expectancy +1.90R a trade"
    assert said[6] == "Deepest fall – from a peak, at the closes"


@pytest.mark.parametrize(
    ("period", "first", "heading"),
    [
        ("day", "PAPER today +17.30 USDT +1.9R; 2 days +17.30 USDT +1.9R, 1 trade", "DAY"),
        ("week", "PAPER this week +17.30 USDT +1.9R; 2 weeks +17.30 USDT +1.9R, 1 trade", "WEEK"),
        ("month", "PAPER this month +17.30 USDT +1.9R; 2 months +17.30 USDT +1.9R, 1 trade", "MONTH"),
    ],
)
def test_periods_are_listed_newest_first(period: Any, first: str, heading: str) -> None:
    """One without a trade has no result."""
    results = [(date(2026, 7, 20), Totals()), (date(2026, 7, 21), totals_of(a_trade()))]
    said = lines(views.periods_view(results, period, LOOK))
    assert said[0] == first
    assert said[1].split() == [heading, "N", "W%", "USDT", "R"]
    assert said[3].split()[-4:] == ["1", "100", "+17.30", "+1.9"]
    assert said[4].split()[-4:] == ["0", "–", "–", "–"]
    assert "UTC" in said[-1]


def test_performance_ranks_markets_and_ways_out() -> None:
    """The best first."""
    symbols, reasons = by_symbol(), by_reason()
    for trade in (a_trade(), a_trade(symbol="BTCUSDT", pnl=Decimal(-5), r=-1.0, exit_reason=ExitReason.STOP)):
        symbols.add(trade)
        reasons.add(trade)
    assert lines(views.performance_view(symbols.ranked(), reasons.ranked(), LOOK)) == [
        "PAPER +12.30 USDT +0.9R in 2 trades; best ETH +17.30 USDT, worst BTC -5.00 USDT",
        "PAIR N  W%   USDT    R",
        "----------------------",
        "ETH  1 100 +17.30 +1.9",
        "BTC  1   0  -5.00 -1.0",
        "EXIT     N  W%   USDT    R",
        "--------------------------",
        "trailing 1 100 +17.30 +1.9",
        "stop     1   0  -5.00 -1.0",
        "Thin: 2 trades; fewer than 30 prove nothing",
    ]


def test_the_equity_curve_tells_deposits_apart() -> None:
    """They are in the curve, not in the change."""
    course = Course(first=10_000.0, last=10_150.0, fall=0.021, closes=180, began=NOON, moved=Decimal(100))
    assert lines(views.equity_view(course, "in 30 days", LOOK)) == [
        "PAPER equity 10,150.00 USDT, +50.00 USDT (+0.50%) in 30 days",
        "Deepest fall 2.10% from a peak, over 180 closes",
        "From 21 Jul 2026 12:00 with 10,000.00 USDT",
        "Deposits less withdrawals +100.00 USDT: in the curve, not in the change",
    ]


@pytest.mark.parametrize(
    "text",
    [
        views.trades_view([], [], LOOK),
        views.profit_view(Totals(), Span(words="in 7 days"), None, LOOK),
        views.verdicts_view([], LOOK),
        views.no_grade_view([], "", [], LOOK),
        views.whynot_view(Funnel(), None, "one can only come at the close of a bar", LOOK),
        views.health_view([], LOOK),
        views.logs_view([], LOOK),
    ],
)
def test_nothing_yet_is_a_sentence(text: str) -> None:
    """That says when there will be something, or that there is nothing to know."""
    assert len(lines(text)) == 1
    accepted(text)


# /verdicts, /why, /council, /whynot


def test_verdicts_are_listed_with_what_became_of_them() -> None:
    """The newest first, as they come."""
    rejected = a_verdict(216, approved=False, gate="council", reasons=("two of three against",))
    text = views.verdicts_view([(rejected, "rejected"), (a_verdict(), "closed")], LOOK)
    assert lines(text) == [
        "PAPER last 2 decisions: 1 approved, 1 rejected",
        "#216 21 Jul 12:00 SHORT ETH rejected by council: two of three against",
        "#215 21 Jul 12:00 SHORT ETH approved, 0.43 at 2,412: closed",
    ]


def a_dossier(**changes: Any) -> Dossier:
    fields: dict[str, Any] = {"candidate": None, "testimonies": (), "opinion": None, "story": a_story()}
    return Dossier(**(fields | changes))


def test_why_tells_the_whole_decision() -> None:
    """Candidate, every agent with argument and counter-argument, gates, size and what shrank it, and the end."""
    assert lines(views.why_view(a_dossier(), LOOK)) == [
        "PAPER #215 SHORT ETH APPROVED, closed +17.30 USDT +1.9R",
        "Entry 2,412  SL 2,441  TP trailing",
        "1R 29 = 2.04 ATR of 14.2 · close 2,410.5",
        "Bar 21 Jul 08:00, decided 21 Jul 12:00",
        "Council rules",
        "Quant SHORT, p(win) 0.61",
        "because falling",
        "but squeeze risk",
        "Strategist BEARISH, p(win) 0.58",
        "because LH LL",
        "but 5 lows",
        "Risk manager TIMEOUT: no reason given",
        "Gates guards passed · council approved · sized",
        "– trend and structure agree",
        "Size 0.43 = 1,037.16 USDT; the council shrank it to 50%",
        "Risk 8.70 USDT = 0.43% of 2,023.25 USDT, in whole steps of the market",
        "Then it was closed, 21 Jul 16:00. /trade 215 has the time line",
    ]
    capped = replace(a_story(), verdict=a_verdict(clamp="max_position_usdt cut it from 0.61 to 0.43"))
    assert "Cap: max_position_usdt cut it from 0.61 to 0.43" in lines(views.why_view(a_dossier(story=capped), LOOK))


INTERRUPTED: dict[str, Any] = {"approved": False, "gate": "superseded", "debated": True, "answers": ()}


def debated(**changes: Any) -> VerdictReached:
    """The verdict of a debate in which the Strategist's model failed and its rules stood in."""
    heard = a_testimony().answer
    stood_in = AgentAnswer(agent="strategist", status="OK", vote="BEARISH", p_win=0.58, text="LH LL", against="5 lows")
    said = (heard, stood_in, a_testimony("risk_manager", vote="APPROVED").answer)
    fields: dict[str, Any] = {"council": "degraded", "debated": True, "answers": said}
    return a_verdict(**(fields | changes))


def test_why_tells_the_debate() -> None:
    """Of each model what it said, from which facts, by which prompt, in how many calls, and what they cost."""
    first = a_call(status="INVALID", problem="signal: BUY is not LONG")
    calls = (first, a_call(attempt=2, repair=True, latency_ms=900))
    named = {"hazards": ["DRAWDOWN"], "size_multiplier": 0.5}
    risk = replace(a_testimony("risk_manager", vote="APPROVED").answer, details=named)
    said = (a_testimony(calls=calls), a_failure("strategist", twin=True), a_testimony("risk_manager", answer=risk))
    verdict = debated(opinions=(Opinion(council="rules", approved=True, size_modifier=1.0),))
    verdict = replace(verdict, answers=(*verdict.answers[:2], risk))
    dossier = a_dossier(
        candidate=a_candidate(), testimonies=tuple(map(an_answered, said)), story=a_story(verdict=verdict)
    )
    shown = lines(views.why_view(dossier, LOOK))
    assert shown[4 : shown.index("Gates guards passed · council approved · sized")] == [
        "Council degraded",
        "Quant SHORT 0.61 · 4.1 s",
        "because falling",
        "but squeeze risk",
        "from rsi 28.4, inside_band yes",
        "deepseek-ai/DeepSeek-V3.2:novita, prompt quant/v001",
        "2 calls (1 repair), 16,240 bytes in, 1,280 out, tokens 4,690 in, 420 out, 0.0024 USD",
        "call 1 INVALID: signal: BUY is not LONG",
        "Strategist TIMEOUT: no answer in 8 s · 8.0 s · its rules twin votes instead",
        "deepseek-ai/DeepSeek-V3.2:novita, prompt strategist/v001",
        "1 call, 8,120 bytes in, 0 out, tokens – in, – out, 0.0000 USD",
        "call 1 TIMEOUT: no answer in 8 s",
        "Risk manager APPROVED 0.61 · 3.2 s",
        "because falling",
        "but squeeze risk",
        "hazards DRAWDOWN, size_multiplier 0.5",
        "deepseek-ai/DeepSeek-V3.2:novita, prompt risk_manager/v001",
        "1 call, 8,120 bytes in, 640 out, tokens 2,345 in, 210 out, 0.0012 USD",
        "Strategist BEARISH 0.58 by its rules twin",
        "because LH LL",
        "but 5 lows",
        "The rules would have approved it in full",
    ]


def test_why_tells_models_and_rules_apart_where_the_rules_decide() -> None:
    """The rules first, then who was asked beside them and what they would have done."""
    verdict = a_verdict(council="shadow")
    asked = (an_answered(a_testimony(), council="shadow"),)
    dossier = a_dossier(testimonies=asked, opinion=an_opinion(), story=a_story(verdict=verdict))
    shown = lines(views.why_view(dossier, LOOK))
    assert shown[4:6] == ["Council shadow", "Quant SHORT, p(win) 0.61"]
    place = shown.index("Asked beside it")
    assert shown[place + 1] == "Quant SHORT 0.61 · 3.2 s"
    would = shown.index("The models would have rejected it")
    assert place < would < shown.index("Gates guards passed · council approved · sized")
    assert shown[would + 1] == "– The Quant votes LONG against this short: rising."


def test_why_tells_a_debate_that_goes_on() -> None:
    """The proposal, and what was said so far."""
    dossier = a_dossier(candidate=a_candidate(), story=None)
    assert lines(views.why_view(dossier, LOOK)) == [
        "PAPER #215 SHORT ETH under debate",
        "Entry 2,412  SL 2,441  TP trailing",
        "1R 29 = 2.04 ATR of 14.2 · close 2,410.5",
        "Bar 21 Jul 08:00, proposed 21 Jul 12:00",
        "Base size 0.86, risk 17.40 USDT",
        "Council strict: nobody has answered yet",
    ]
    heard = replace(dossier, testimonies=(an_answered(a_testimony()),))
    assert "Quant SHORT 0.61 · 3.2 s" in lines(views.why_view(heard, LOOK))


@pytest.mark.parametrize(
    ("gate", "asked", "gates"),
    [
        ("operator", False, "Gates stopped before an order left"),
        ("guard", False, "Gates stopped by the guards"),
        ("risk", False, "Gates guards passed · no size that the account allows"),
        ("council", True, "Gates guards passed · vetoed by the council"),
        ("guard", True, "Gates guards passed · council approved · stopped by the guards at the second look"),
        ("risk", True, "Gates guards passed · council approved · no size that the account allows"),
    ],
)
def test_why_names_the_gate_that_was_shut(gate: str, asked: bool, gates: str) -> None:
    """As far as the stored event tells the gates apart; what a rejected trade would have made, once it is known."""
    answers = a_verdict().answers if asked else ()
    event = a_verdict(approved=False, gate=gate, qty=Decimal(0), risk_usdt=Decimal(0), answers=answers)
    story = Story(verdict=event, outcome="rejected")
    said = lines(views.why_view(a_dossier(story=story), LOOK))
    assert said[0] == f"PAPER #215 SHORT ETH REJECTED by {gate}"
    assert gates in said
    assert said[-1] == "Not traded: it is followed by the rules, what it would come to is not known yet"
    unknown = lines(views.why_view(a_dossier(story=story, followed=False), LOOK))
    assert unknown[-1] == "Not traded: what it would have come to is not known, nobody has followed it"
    ended = lines(views.why_view(a_dossier(story=replace(story, shadow=a_shadow())), LOOK))
    assert "Gates guards passed · stopped: the next bar closed first" in lines(
        views.why_view(a_dossier(story=Story(verdict=a_verdict(**INTERRUPTED), outcome="rejected")), LOOK)
    )
    assert ended[-1] == "Not traded: would have ended +1.8R by trailing stop, 22 Jul 00:00, best +2.3R"


DAY_MS = 86_400_000


def an_agent(agent: str = "quant", **changes: Any) -> AgentGrade:
    fields: dict[str, Any] = {
        "agent": agent, "asked": 60, "statuses": {"OK": 54, "ABSTAIN": 0, "INVALID": 3, "TIMEOUT": 3},
        "votes": {"for": 30, "neither": 9, "against": 15}, "scored": 50, "brier": 0.2312, "skill": 0.081,
        "skill_interval": Interval(low=-0.02, high=0.17), "bins": (), "seconds": (3.24, 7.9), "cost_usd": 0.06,
        "proposed_weight": 0.35,
    }  # fmt: skip
    return AgentGrade(**(fields | changes))


def an_arm(name: str, **changes: Any) -> Arm:
    fields: dict[str, Any] = {
        "name": name, "approved": 33, "vetoed": 20, "weight": 0.5, "mean_approved": 0.424, "mean_vetoed": -0.18,
        "total": 8.24, "edge": 0.05, "interval": Interval(low=-0.02, high=0.12),
    }  # fmt: skip
    return Arm(**(fields | changes))


WITHOUT = "without risk manager"


def a_grade(**changes: Any) -> Grade:
    fields: dict[str, Any] = {
        "council": "strict", "word": "insufficient evidence", "needed": 240, "candidates": 60, "ended": 53,
        "reason": "It earned 0.050 R a candidate more than vetoing as much at random, but 21 of 5,000 did as well.",
        "unfilled": 4, "waiting": 3, "base_rate": 0.41, "avoided": 8.2, "missed": 3.1, "random": 0.0421,
        "arms": (an_arm("strict"), an_arm("off", vetoed=0, mean_vetoed=None, edge=None), an_arm(WITHOUT)),
        "agents": (an_agent(), an_agent("risk_manager", brier=None, skill=None, seconds=None)), "cost_usd": 0.12,
        "cost_per_decision": 0.002, "cost_per_month": 0.4, "first": millis(NOON) - 9 * DAY_MS,
        "last": millis(NOON), "days": 9.0,
    }  # fmt: skip
    return Grade(**(fields | changes))


def test_the_scoreboard_begins_with_the_word() -> None:
    """And why; then approved against vetoed, every agent, every arm, the bill, and whose decisions these are."""
    assert lines(views.grade_view(a_grade(), ["12 decisions of other councils not counted"], LOOK)) == [
        "PAPER council strict: INSUFFICIENT EVIDENCE (about 240 needed), 53 of 60 candidates ended",
        "It earned 0.050 R a candidate more than vetoing as much at random, but 21 of 5,000 did as well.",
        "Approved 33, mean +0.42R · vetoed 20, mean -0.18R",
        "Avoided loss 8.2R, missed gain 3.1R",
        "41% of all won · 4.2% of random vetoes earned as much",
        "AGENT    FOR AGN NEU INV% TMO%",
        "------------------------------",
        "Quant     30  15   9    5    5",
        "Risk mgr  30  15   9    5    5",
        "AGENT    BRIER SKILL  N SEC",
        "---------------------------",
        "Quant    0.231 +0.08 50 3.2",
        "Risk mgr     –     – 50   –",
        "FOR, AGN, NEU: votes for, against, neither. INV, TMO: per cent of answers that were invalid, too late",
        "BRIER: 0 is perfect. SKILL: over the base rate alone, 0 knows nothing. SEC: median seconds",
        "Not OK: Quant INVALID 3, TIMEOUT 3; Risk manager INVALID 3, TIMEOUT 3",
        "Weight by track record, proposed and not applied: Quant 0.35, Risk manager 0.35",
        "ARM         IN OUT TOTAL  EDGE",
        "------------------------------",
        "strict      33  20  +8.2 +0.05",
        "off         33   0  +8.2     –",
        "w/o risk m. 33  20  +8.2 +0.05",
        "IN, OUT: candidates taken, vetoed. TOTAL: R earned. EDGE: R a candidate over vetoing at random",
        "Cost 0.0020 USD a decision, 0.4000 USD a month, 0.1200 USD so far",
        "Decided 12 Jul 12:00 to 21 Jul 12:00, 9 days",
        "4 would not have filled, 3 still followed",
        "12 decisions of other councils not counted",
    ]


def test_the_scoreboard_shows_no_figure_where_no_decision_differs() -> None:
    """Nor is that agent's."""
    silent = tuple(an_arm(f"without {name}", edge=None, interval=None, same=True) for name in ("quant", "strategist"))
    said = lines(views.grade_view(a_grade(arms=(*a_grade().arms, *silent)), [], LOOK))
    assert not any(line.startswith(("w/o quant", "w/o strat")) for line in said)
    assert "Without quant or strategist no decision differs, which says nothing about them" in said
    one = lines(views.grade_view(a_grade(arms=(*a_grade().arms, silent[0])), [], LOOK))
    assert "Without quant no decision differs, which says nothing about it" in one
    assert not any("no decision differs" in line for line in lines(views.grade_view(a_grade(), [], LOOK)))


def test_the_scoreboard_counts_every_call_and_what_is_not_known() -> None:
    """As far as they are on record; more than can be waited for is said so."""
    agents = (an_agent(calls=70, tokens=(147_000, 11_200)), an_agent("risk_manager", calls=3))
    said = lines(views.grade_view(a_grade(agents=agents, lost=2, needed=100_000), [], LOOK))
    assert said[0].startswith("PAPER council strict: INSUFFICIENT EVIDENCE (more than 100,000 needed), 53 of 60")
    assert "All 73 calls of the time counted, 147,000 tokens in, 11,200 out" in said
    assert "4 would not have filled, 3 still followed, 2 not known" in said


def test_the_scoreboard_says_when_it_is_sure() -> None:
    """Without a number that would be needed; rules cost nothing."""
    sure = a_grade(word="helps", needed=None, cost_usd=0.0, random=None, base_rate=None)
    said = lines(views.grade_view(sure, [], LOOK))
    assert said[0] == "PAPER council strict: HELPS, 53 of 60 candidates ended"
    assert "It cost nothing: no model was asked that is paid" in said
    assert not any("of random vetoes" in line for line in said)
    caption = lines(views.grade_caption(a_grade(word="hurts", needed=None), LOOK))
    assert caption[0] == "PAPER council strict: HURTS, 53 of 60 candidates ended"
    assert len(caption) == 2


def a_row(number: int = 1, **changes: Any) -> Judged:
    ballots = (
        Ballot(agent="quant", status="OK", stance=1, p_win=0.6, seconds=3.0, cost_usd=0.001),
        Ballot(agent="risk_manager", status="TIMEOUT", stance=0, p_win=None),
    )
    fields: dict[str, Any] = {
        "verdict_id": number, "at": millis(NOON), "symbol": "ETHUSDT", "side": "short", "council": "strict",
        "weight": 0.5, "r": None, "ended": False, "ballots": ballots,
    }  # fmt: skip
    return Judged(**(fields | changes))


def test_before_there_is_a_grade_it_is_counted() -> None:
    """Votes, failures and cost so far, and what is missing."""
    rows = [a_row(1), a_row(2, weight=0.0, r=1.0, ended=True), a_row(3, ended=True)]
    assert lines(views.no_grade_view(rows, "A grade takes more.", [], LOOK)) == [
        "PAPER council strict: 3 decisions, 1 ended, no grade",
        "A grade takes more.",
        "Approved 2, vetoed 1",
        "1 still followed, 1 would not have filled",
        "Quant: 3 for, 0 against, 0 neither",
        "Risk manager: 0 for, 0 against, 0 neither",
        "Not OK: Risk manager TIMEOUT 3",
        "Cost 0.0030 USD so far",
    ]
    assert "No agent was asked" in lines(views.no_grade_view([a_row(ballots=())], "", [], LOOK))


def test_before_there_is_a_grade_its_costs_are_those_on_record() -> None:
    """Also of what never came to a decision; who was lost is not followed."""
    day = AgentCost(
        day=NOON.date(),
        agent="quant",
        calls=9,
        unreported=0,
        tokens_in=9,
        tokens_out=9,
        cost_usd=Decimal("0.05"),
    )
    said = lines(views.no_grade_view([a_row(1, bills=(day,)), a_row(2, bills=(), lost=True)], "", [], LOOK))
    assert "Cost 0.0500 USD so far" in said
    assert "1 still followed, 0 would not have filled, 1 not known" in said


def test_every_mode_is_told_in_a_line() -> None:
    """The one that decides first; what is missing for the others."""
    missing = dict.fromkeys(MODES, "") | {"shadow": NEEDS_KEYS}
    said = lines(views.modes_view("strict", "the Quant does not answer", missing, LOOK))
    assert said == [
        "PAPER council strict: three models decide; one that does not answer means no trade",
        "Impaired: the Quant does not answer",
        "degraded – three models decide; a missing Quant or Strategist is replaced by rules, at half size",
        "rules – three sets of rules in code decide, no model is asked",
        f"shadow – the rules decide, the models are asked and recorded beside them. Not possible now: it {NEEDS_KEYS}",
        "off – nobody decides: the strategy alone, without council, guards and limits",
        "Stricter is done at once; what may let more trades through asks the owner.",
    ]
    assert len(said) == 2 + len(MODES)


def an_advice(**changes: Any) -> Advice:
    said = (a_testimony(), a_failure("strategist"))
    ruling = Deliberation(
        approved=False, size_multiplier=0.0, reasons=("The Strategist did not answer.",),
        answers=tuple(each.answer for each in said),
    )  # fmt: skip
    fields: dict[str, Any] = {
        "symbol": "ETHUSDT", "council": "strict", "side": Side.SHORT, "why": "the price is below its trend",
        "at": NOON, "close": 2410.5, "ruling": ruling, "said": said,
    }  # fmt: skip
    return Advice(**(fields | changes))


def test_advice_says_at_once_that_nothing_is_ordered() -> None:
    """Then whose side it is, each voice, the strongest no, the reasons and the bill."""
    assert lines(views.advice_view(an_advice(), LOOK)) == [
        "PAPER ETH SHORT: the council would reject it. This is a reading, nothing is ordered",
        "Council strict on the close 2,410.5 of 21 Jul 12:00",
        "Why SHORT: the price is below its trend",
        "Quant SHORT 0.61 · 3.2 s",
        "because falling",
        "but squeeze risk",
        "Strategist TIMEOUT: no answer in 8 s · 8.0 s",
        "Strongest no: “squeeze risk”",
        "– The Strategist did not answer.",
        "2 calls, 11.2 s of work, 0.0012 USD",
    ]


def test_advice_of_rules_has_no_bill() -> None:
    """Nobody was paid; without a reading it says why."""
    ruling = Deliberation(approved=True, size_multiplier=0.5, reasons=(), answers=a_verdict().answers)
    said = lines(views.advice_view(an_advice(council="rules", ruling=ruling, said=()), LOOK))
    assert said[0].startswith("PAPER ETH SHORT: the council would approve 50% of the size. This is a reading, nothing")
    assert "Quant SHORT, p(win) 0.61" in said
    assert not any("USD" in line for line in said)
    none = Advice(symbol="ETHUSDT", council="off", problem="the council is off")
    assert lines(views.advice_view(none, LOOK)) == ["PAPER no reading of ETH: the council is off. Nothing was ordered"]


def test_the_funnel_goes_from_signals_to_fills() -> None:
    """What died where; the first line names the deadliest gate."""
    funnel = Funnel(
        dropped={"in_position": 12, "decided": 1},
        rejected={"council": 21, "guard": 8},
        outcomes={"closed": 6, "filled": 1, "cancelled": 7, "refused": 1, "intended": 2},
    )
    assert lines(views.whynot_view(funnel, "BTCUSDT", "", LOOK)) == [
        "PAPER 58 signals on BTC, 7 filled; most died of council (21)",
        "STEP                   N",
        "------------------------",
        "signals               58",
        "- in position         12",
        "= decided             46",
        "- council             21",
        "- guard                8",
        "= approved            17",
        "- refused by exchange  1",
        "- not filled           7",
        "- still waiting        2",
        "= filled               7",
        "1 more were seen again after a restart: they had their decision already",
    ]


# /health, /logs, /version


def test_what_is_not_well_comes_first() -> None:
    """In the first line and at the top of the list."""
    checks = [("disk", True, "12 GB free"), ("stream", False, "silent for 40 s")]
    assert lines(views.health_view(checks, LOOK)) == [
        "PAPER 1 of 2 not well: stream",
        "BAD stream: silent for 40 s",
        "ok disk: 12 GB free",
    ]
    assert lines(views.health_view(checks[:1], LOOK))[0] == "PAPER healthy, 1 check"


def test_a_long_log_goes_on_in_further_messages() -> None:
    """Every line is there, in order, and each message is markup of its own."""
    text = views.logs_view([f"{number} <b>&" + "x" * 200 for number in range(100)], LOOK)
    parts = [parse_html(part) for part in pages(text)]
    assert len(parts) > 1
    assert all(utf16_length(part.text) <= LIMIT and [e.type for e in part.entities][-1] == "pre" for part in parts)
    said = [line for part in parts for line in part.text.split("\n")]
    assert said[0] == "PAPER log: 100 lines, the newest last"
    assert [line.split(" ")[0] for line in said[1:]] == [str(number) for number in range(100)]


def test_versions_are_listed() -> None:
    """The program first."""
    text = views.version_view([("conclave", "0.1.0"), ("Python", "3.11")], LOOK)
    assert lines(text) == ["PAPER conclave 0.1.0", "Python 3.11"]


# Whatever comes from outside


POSITIONS = st.builds(
    a_position, symbol=WORDS, side=st.sampled_from(Side), verdict_id=NUMBERS, qty=PRICES, entry_price=PRICES,
    stop=AMOUNTS, liquidation=st.none() | PRICES,
    take_profit=st.none() | AMOUNTS, mark=PRICES, unrealised=AMOUNTS, r=RATIOS, best_r=RATIOS,
    exit_due=st.none() | WORDS,
)  # fmt: skip
ENTRIES = st.builds(an_entry, symbol=WORDS, verdict_id=NUMBERS, qty=PRICES, price=PRICES, stop=AMOUNTS)
ORDERS = st.builds(
    an_order, symbol=WORDS, purpose=st.sampled_from(Purpose), side=st.sampled_from(OrderSide), qty=PRICES,
    price=st.none() | PRICES, stop=st.none() | AMOUNTS, state=st.sampled_from(OrderState), verdict_id=NUMBERS,
)  # fmt: skip
TRADES = st.builds(
    a_trade, NUMBERS, symbol=WORDS, pnl=AMOUNTS, fees=AMOUNTS, funding=AMOUNTS, risk_usdt=AMOUNTS, qty=PRICES, r=RATIOS,
    best_r=RATIOS, worst_r=RATIOS, exit_reason=st.sampled_from(ExitReason),
)  # fmt: skip
ANSWERS = st.builds(
    AgentAnswer, agent=WORDS, status=WORDS | st.just("OK"), vote=WORDS, p_win=st.none() | st.floats(-1, 2), text=WORDS,
    against=WORDS,
)  # fmt: skip
VERDICTS = st.builds(
    a_verdict, st.integers(1, 2**53), symbol=WORDS, approved=st.booleans(), gate=WORDS, council=WORDS, qty=PRICES,
    reasons=st.lists(WORDS, max_size=12).map(tuple), answers=st.lists(ANSWERS, max_size=8).map(tuple),
    equity=AMOUNTS, risk_usdt=AMOUNTS, size_modifier=st.floats(0, 1), atr=st.none() | RATIOS, r_distance=RATIOS,
)  # fmt: skip
STATUSES = st.builds(
    a_status, badge=WORDS, leverage=st.floats(0, 1000), positions=st.lists(POSITIONS, max_size=40).map(tuple),
    entries=st.lists(ENTRIES, max_size=8).map(tuple), orders=st.lists(ORDERS, max_size=40).map(tuple),
    council=WORDS, council_health=WORDS,
    gates=st.lists(WORDS, max_size=12).map(tuple), symbols=st.lists(WORDS, max_size=8).map(tuple), lost=WORDS,
    cash=AMOUNTS, equity=AMOUNTS, initial_equity=AMOUNTS, day_pnl=AMOUNTS, open_risk=st.floats(0, 100),
)  # fmt: skip
EVENTS = st.lists(samples.every_event(), max_size=60).map(tuple)
STORIES = st.builds(
    Story, verdict=VERDICTS, outcome=WORDS | st.just("closed"), events=EVENTS,
    shadow=st.none() | st.builds(a_shadow, ended=WORDS, r=st.none() | RATIOS, best_r=st.none() | RATIOS),
)  # fmt: skip
CALLS = st.builds(
    a_call, status=WORDS | st.just("OK"), repair=st.booleans(), problem=WORDS, raw=WORDS, finish=WORDS, key=WORDS,
    latency_ms=st.integers(0, 10**6), tokens_in=st.none() | st.integers(0, 10**9), tokens_out=st.none(),
    bytes_in=st.integers(0, 10**9), cost_usd=st.decimals(0, 10**6, places=8),
)  # fmt: skip
CITED = st.fixed_dictionaries({"key": WORDS, "value": WORDS | st.floats() | st.booleans(), "reading": WORDS})
DETAILS = st.dictionaries(WORDS, WORDS | st.floats() | st.none() | st.lists(WORDS, max_size=9), max_size=9)
ASKED = st.builds(
    lambda answer, cited, details: replace(answer, details={**details, "evidence": cited}),
    ANSWERS, st.lists(CITED, max_size=7), DETAILS,
)  # fmt: skip
TESTIMONIES = st.builds(
    a_testimony, answer=ASKED, model=WORDS, prompt=WORDS, packet=WORDS, twin=st.booleans(),
    calls=st.lists(CALLS, max_size=4).map(tuple),
)  # fmt: skip
DOSSIERS = st.builds(
    Dossier, candidate=st.none() | st.builds(a_candidate, symbol=WORDS, council=WORDS, qty=PRICES, risk_usdt=AMOUNTS),
    testimonies=st.lists(st.builds(an_answered, TESTIMONIES, council=WORDS), max_size=4).map(tuple),
    opinion=st.none() | st.builds(an_opinion, council=WORDS, reasons=st.lists(WORDS, max_size=9).map(tuple)),
    story=st.none() | STORIES, followed=st.booleans(),
)  # fmt: skip
NUMBER = st.none() | RATIOS
COUNT = st.integers(0, 10**7)
ARMS = st.builds(
    an_arm, WORDS, approved=COUNT, vetoed=COUNT, mean_approved=NUMBER, mean_vetoed=NUMBER, total=RATIOS, edge=NUMBER,
    same=st.booleans(),
)  # fmt: skip
AGENTS = st.builds(
    an_agent, WORDS, asked=COUNT, statuses=st.dictionaries(WORDS, COUNT, max_size=9),
    votes=st.dictionaries(WORDS, COUNT, max_size=4),
    brier=st.none() | st.floats(0, 1), skill=NUMBER, scored=COUNT, proposed_weight=st.floats(0, 1),
    calls=st.none() | COUNT, tokens=st.none() | st.tuples(COUNT, COUNT),
    seconds=st.none() | st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
)  # fmt: skip
GRADES = st.builds(
    a_grade, council=WORDS, word=st.sampled_from(("helps", "hurts", "insufficient evidence")), reason=WORDS,
    needed=st.none() | COUNT, arms=st.lists(ARMS, max_size=14).map(tuple),
    agents=st.lists(AGENTS, max_size=8).map(tuple), avoided=RATIOS, missed=RATIOS, cost_usd=st.floats(0, 1e9),
    cost_per_month=st.none() | st.floats(0, 1e9), base_rate=st.none() | st.floats(0, 1),
    random=st.none() | st.floats(0, 1),
)  # fmt: skip
RULINGS = st.builds(
    Deliberation, approved=st.booleans(), size_multiplier=st.floats(0, 1),
    reasons=st.lists(WORDS, max_size=12).map(tuple), answers=st.lists(ANSWERS, max_size=8).map(tuple),
)  # fmt: skip
ADVICE = st.builds(
    an_advice, symbol=WORDS, council=WORDS, side=st.none() | st.sampled_from(Side), why=WORDS, problem=WORDS,
    close=NUMBER, ruling=st.none() | RULINGS, said=st.lists(TESTIMONIES, max_size=8).map(tuple),
)  # fmt: skip


@given(STATUSES, st.none() | st.floats(0, 1), LOOKS)
def test_how_things_stand_is_always_a_message(status: Status, limit: float | None, look: Look) -> None:
    """/status, /balance and /orders, whatever is open, in tables of at most 34 columns."""
    accepted(status_view(status, UTC, limit))
    paid = Paid(fees=status.cash, funding=status.equity, moved=status.day_pnl)
    accepted(views.balance_view(status, paid, look))
    accepted(views.orders_view(status, look))


@given(st.lists(TRADES, max_size=30), st.lists(POSITIONS, max_size=5), LOOKS)
def test_results_are_always_messages(closed: list[TradeClosed], positions: list[PositionView], look: Look) -> None:
    """/trades, /profit, /performance and the periods."""
    accepted(views.trades_view(closed, positions, look))
    totals, symbols, reasons = Totals(), by_symbol(), by_reason()
    for trade in closed:
        totals.add(trade)
        symbols.add(trade)
        reasons.add(trade)
    accepted(views.profit_view(totals, Span(words="today", equity=totals.pnl), totals.r, look))
    accepted(views.periods_view([(date(2026, 7, 21), totals)], "month", look))
    if closed:
        accepted(views.performance_view(symbols.ranked(), reasons.ranked(), look))


@given(STORIES, st.none() | POSITIONS, LOOKS)
def test_one_trade_is_always_a_message(story: Story, position: PositionView | None, look: Look) -> None:
    """/trade, whatever happened."""
    accepted(views.trade_view(story, position, look))


def leads_nowhere(text: str) -> None:
    """Nothing of it would be a link to Telegram but commands of ours; inside a table nothing ever is."""
    shown = accepted(text)
    assert {entity.type for entity in shown.entities} <= {"bold", "pre", "bot_command"}
    assert not TAPPABLE.search(plain(re.sub(r"<pre>.*?</pre>", "", text, flags=re.DOTALL)))


@given(DOSSIERS, LOOKS)
def test_one_decision_is_always_a_message(dossier: Dossier, look: Look) -> None:
    """/why, whatever agents wrote and whatever happened."""
    leads_nowhere(views.why_view(dossier, look))
    assert len(pages(views.why_view(dossier, look))) <= 5


@given(GRADES, st.lists(st.just("a note"), max_size=2), LOOKS)
def test_a_grade_is_always_a_message(grade: Grade, notes: list[str], look: Look) -> None:
    """/council, whatever councils and agents are called."""
    leads_nowhere(views.grade_view(grade, notes, look))
    accepted(views.grade_caption(grade, look), CAPTION_LIMIT)


@given(ADVICE, LOOKS)
def test_advice_is_always_a_message(advice: Advice, look: Look) -> None:
    """/ask, whatever models wrote; its first line says that nothing is ordered."""
    text = views.advice_view(advice, look)
    leads_nowhere(text)
    assert "othing " in lines(text)[0]


@given(WORDS, WORDS, st.dictionaries(st.sampled_from(MODES), WORDS), LOOKS)
def test_the_modes_are_always_a_message(mode: str, health: str, missing: dict[str, str], look: Look) -> None:
    """/mode and the card that asks the owner, whatever is missing."""
    accepted(views.modes_view(mode, health, missing, look))
    accepted("\n".join(views.mode_change(mode, "off", look)))


@given(st.lists(VERDICTS, max_size=30), LOOKS)
def test_the_council_is_always_a_message(verdicts: list[VerdictReached], look: Look) -> None:
    """/verdicts, and /council before there is a grade, whatever the agents are called."""
    accepted(views.verdicts_view([(event, event.gate) for event in verdicts], look))
    said = [
        [Ballot(agent=each.agent, status=each.status, stance=1, p_win=None) for each in event.answers]
        for event in verdicts
    ]
    rows = [
        a_row(event.verdict_id, council=event.council, ballots=tuple(ballots))
        for event, ballots in zip(verdicts, said, strict=True)
    ]
    leads_nowhere(views.no_grade_view(rows, "why", ["a note"], look))


COUNTS = st.dictionaries(WORDS, st.integers(0, 10**7), max_size=8)


@given(COUNTS, COUNTS, COUNTS, st.none() | WORDS, LOOKS)
def test_the_funnel_is_always_a_message(
    dropped: dict[str, int], rejected: dict[str, int], outcomes: dict[str, int], symbol: str | None, look: Look
) -> None:
    """Whatever the reasons are called."""
    accepted(views.whynot_view(Funnel(dropped=dropped, rejected=rejected, outcomes=outcomes), symbol, "soon", look))


@given(st.lists(st.tuples(WORDS, st.booleans(), WORDS), max_size=60), LOOKS)
def test_the_program_is_always_a_message(checks: list[tuple[str, bool, str]], look: Look) -> None:
    """/health, /logs and /version, whatever stands in a log."""
    accepted(views.health_view(checks, look))
    accepted_log(views.logs_view([line for _, _, line in checks], look))
    accepted(views.version_view([(name, line) for name, _, line in checks], look))


def accepted_log(text: str) -> None:
    """A log's lines are as long as they are: only markup and length count."""
    assert all(0 < utf16_length(parse_html(part).text) <= LIMIT for part in pages(text))


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.none() | st.floats(0, 1), LOOKS)
def test_a_caption_fits_below_a_picture(first: float, last: float, fall: float | None, look: Look) -> None:
    """At most 1,024 characters."""
    course = Course(first=first, last=last, fall=fall, closes=2, began=NOON, moved=Decimal(1))
    accepted(views.equity_view(course, "in 30 days", look), CAPTION_LIMIT)


# Tables and buttons


def columns_of_tables() -> Iterator[tuple[Column, ...]]:
    from bot.views import account, council, decisions, results

    for module in (account, council, decisions, results):
        for value in vars(module).values():
            if isinstance(value, tuple) and value and all(isinstance(each, Column) for each in value):
                yield value


def test_no_table_can_outgrow_the_screen() -> None:
    """The widest values of all columns with their gaps take at most 34 columns."""
    tables = list(columns_of_tables())
    assert len(tables) >= 5
    for columns in tables:
        assert sum(max(each.most, len(each.title)) for each in columns) + len(columns) - 1 <= WIDTH


@given(st.lists(st.lists(WORDS, min_size=3, max_size=3), max_size=5), st.lists(WORDS, max_size=2))
def test_a_table_keeps_its_columns(cells: list[list[str]], foot: list[str]) -> None:
    """Every row has one line, whatever its values hold."""
    columns = (Column("NAME", 10, left=True), Column("A", 8), Column("B", 8))
    shown = accepted(table(columns, cells, *foot))
    assert len(shown.text.split("\n")) == 2 + len(cells) + (1 + len(foot) if foot else 0)


@given(WORDS, st.integers(1, 34))
def test_a_cell_fits(text: str, most: int) -> None:
    """At most as many columns as it has, never empty."""
    assert 0 < seen(cell(text, most)) <= max(width(cell(text, most)), 1) <= most


@given(st.floats() | st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**40), max_value=10**40))
def test_numbers_fit_their_columns(value: float | Decimal) -> None:
    """Whatever they are."""
    assert len(amount(value)) <= 7
    assert len(multiple(float(value))) <= 5
    assert len(per_cent(value)) <= 3


@pytest.mark.parametrize(
    ("value", "shown"),
    [(41.2, "+41.20"), (-0.001, "+0.00"), (1234.56, "+1234.6"), (-99999.9, "-100000"), (1e6, "+1000k"),
     (2.5e8, "+250.0M"), (float("nan"), "–"), (1e30, "–")],
)  # fmt: skip
def test_amounts_keep_what_digits_they_can(value: float, shown: str) -> None:
    """Two behind the point, then fewer, then thousands."""
    assert amount(value) == shown


@given(WORDS, WORDS)
def test_a_button_is_one_that_telegram_takes(text: str, data: str) -> None:
    """Its data at most 64 bytes and printable; else there is no button."""
    for each in button(text, "chart", data):
        assert 0 < units(each["text"]) <= 32
        assert 0 < len(each["data"].encode()) <= 64


def test_buttons_stand_in_rows() -> None:
    """None when there is none."""
    four = [button(str(number), number) for number in range(4)]
    assert [len(row) for row in rows(*four) or []] == [3, 1]
    assert rows(button("x", "y" * 65)) is None


@given(WORDS, st.integers(1, 300))
def test_labels_and_log_lines_are_capped(text: str, cap: int) -> None:
    """A label is one line and never empty; a log line parses as what it says."""
    assert 0 < units(label(text, cap)) <= cap
    assert "\n" not in label(text, cap)
    assert units(plain(verbatim(text, cap))) <= cap


def test_a_fill_of_another_story_is_not_needed() -> None:
    """Slippage is weighted by size; without a figure there is a dash."""
    fills: tuple[OrderFilled, ...] = (a_fill(slippage_bp=None),)
    said = lines(views.trade_view(a_story(events=(*fills, a_trade())), None, LOOK))
    assert said[5].startswith("Slippage – ")
