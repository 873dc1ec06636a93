"""Cards: the news first, and nothing that anybody writes can break or misuse a message."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.cards import Day, Look, draw
from bot.phone.formatting import parse_html, utf16_length
from bot.text import LIMIT, fitted, plain, price, prose, visible
from tests.bot.stage import NOON, a_fill, a_trade, a_verdict
from trading.events import (
    AgentAnswer,
    AlertRaised,
    EdgeDropped,
    EquityMarked,
    Event,
    FundingPaid,
    OrderAccepted,
    OrderCancelled,
    OrderDoubted,
    OrderRefused,
    SessionStarted,
    StopMoved,
    TradingPaused,
    TradingResumed,
)
from trading.model import Purpose, Side

LOOK = Look(badge="PAPER")
HOSTILE = st.one_of(
    st.text(max_size=300),
    st.sampled_from(
        [
            "<b>bold", "</pre>", "_*[`", "&", "&lt;b&gt;", "<a href='https://evil.example'>x</a>", "\u202egnp.exe",
            "https://evil.example/x?y=1", "evil.com", "see www.evil.com now", "@everybody", "/panic now", "tg://user?id=1",
            "🧨" * 700, "مرحبا " * 200, "x" * 10_000, "<" * 10_000, "&" * 10_000, "a.b" * 4000,
            "\x00\x1b[31m", "\ud800",
        ]
    ),
)  # fmt: skip


def text_of(event: Event, day: Day | None = None) -> str:
    card = draw(event, LOOK, day)
    assert card is not None
    return card.text


def a_session(**changes: Any) -> SessionStarted:
    fields: dict[str, Any] = {
        "at": NOON, "badge": "PAPER", "symbols": ("BTCUSDT", "ETHUSDT"), "interval_minutes": 240,
        "initial_equity": Decimal(10_000), "resumed": True, "found": ("position ETHUSDT 0.43 as expected",),
    }  # fmt: skip
    return SessionStarted(**(fields | changes))


def a_hostile_event(words: str) -> list[Event]:
    """Every kind of event with the words in every field that holds text."""
    answer = AgentAnswer(agent=words, status="OK", vote=words, p_win=0.5, text=words, against=words)
    failed = replace(answer, status=words)
    return [
        a_verdict(symbol=words, gate=words, reasons=(words,) * 9, council=words, answers=(answer, failed) * 4),
        a_verdict(symbol=words, approved=False, gate=words, reasons=(words,) * 9, answers=(answer,) * 8),
        a_fill(symbol=words),
        a_trade(symbol=words),
        a_session(badge=words, symbols=(words,) * 30, found=(words,) * 30),
        OrderCancelled(at=NOON, link_id=words, symbol=words, purpose=Purpose.ENTRY, reason=words, verdict_id=1),
        OrderRefused(at=NOON, link_id=words, symbol=words, reason=words),
        OrderDoubted(at=NOON, link_id=words, symbol=words, reason=words),
        StopMoved(at=NOON, symbol=words, verdict_id=1, old=Decimal(1), new=Decimal(2), level_r=1.0, locked_r=0.0),
        TradingPaused(at=NOON, by=words, command=words),
        TradingResumed(at=NOON, by=words, command=words),
        AlertRaised(at=NOON, kind=words, text=words),
    ]


@given(HOSTILE)
def test_whatever_anybody_writes_is_accepted_short_enough_and_not_tappable(words: str) -> None:
    """S17: no send failure, no live link, no command that a tap would send, one line stays one line."""
    for event in a_hostile_event(words):
        text = text_of(event)
        shown = parse_html(text)
        assert 0 < utf16_length(shown.text) <= LIMIT
        assert {entity.type for entity in shown.entities} <= {"bold"}
        assert visible(text) == utf16_length(plain(text))
        assert not re.search(r"https?://|www\.|[\u202a-\u202e\u2066-\u2069\x00]", shown.text)
        assert shown.text.startswith("PAPER ")


def test_an_approved_verdict_says_it_all_in_its_first_line() -> None:
    """Then prices, votes, the strongest no and the reasons, as the specification's card."""
    lines = plain(text_of(a_verdict())).split("\n")
    assert lines == [
        "PAPER APPROVED #215 SHORT ETH 0.43 at 2,412, risk 8.70 USDT (0.43%)",
        "Entry 2,412  SL 2,441  TP trailing",
        "1R 29 · ATR 14.2 · close 2,410.5 · bar 21 Jul 08:00",
        "Size shrunk to 50% by the council",
        "Council rules: Quant SHORT 0.61 · Strategist BEARISH 0.58 · Risk manager TIMEOUT",
        "Strongest no: “5 lows”",
        "– trend and structure agree",
    ]


def test_a_rejected_verdict_names_who_ended_it_and_why() -> None:
    """On the lock screen, without opening the chat; it makes no sound."""
    card = draw(a_verdict(approved=False, gate="guard", reasons=("waterfall: longs are blocked", "and more")), LOOK)
    assert card is not None
    assert card.silent
    first, *rest = plain(card.text).split("\n")
    assert first == "PAPER REJECTED #215 SHORT ETH by guard: waterfall: longs are blocked"
    assert rest[-1] == "– and more"


def test_an_exit_shows_money_r_reason_costs_and_the_day() -> None:
    """Money with sign and currency, then R; funding received is a plus."""
    day = Day(pnl=Decimal("26.4"), trades=4, wins=3)
    assert plain(text_of(a_trade(), day)).split("\n") == [
        "PAPER #215 CLOSED ETH +17.30 USDT +1.9R trailing stop",
        "SHORT 0.43: 2,412 → 2,371.77 in 3h12m",
        "Fees 0.93, funding -0.11",
        "Best +2.3R, worst -0.4R",
        "Today +26.40 USDT (3/4)",
        "Cash 10,017.30 USDT",
    ]


def test_a_fill_names_the_side_of_the_position_not_of_the_order() -> None:
    """Buying closes a short."""
    assert "SHORT ETH filled 0.43 at 2,412" in plain(text_of(a_fill()))
    closing = a_fill(purpose=Purpose.TAKE_PROFIT, side=a_fill().side.__class__("Buy"))
    assert "SHORT ETH take profit filled" in plain(text_of(closing))


def test_what_is_not_worth_a_message_gives_none() -> None:
    """Orders on their way, marks, dropped edges, funding."""
    quiet: list[Event] = [
        OrderAccepted(at=NOON, link_id="x", symbol="S", order_id="o"),
        EdgeDropped(at=NOON, symbol="S", side=Side.LONG, reason="cooldown"),
        EquityMarked(at=NOON, equity=1.0, cash=Decimal(1), exposed=False, closes={}),
        FundingPaid(at=NOON, exec_id="f", symbol="S", amount=Decimal(1)),
    ]
    assert [draw(event, LOOK) for event in quiet] == [None] * 4


def test_times_are_in_the_readers_zone() -> None:
    """Market time is UTC; the phone's owner is not."""
    card = draw(a_verdict(), Look(badge="PAPER", zone=ZoneInfo("Asia/Kolkata")))
    assert card is not None
    assert "bar 21 Jul 13:30" in card.text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("63410.00", "63,410"), ("0.00001234", "0.00001234"), ("63410.123456789", "63,410.123"), ("2412.5", "2,412.5"),
        ("0", "0"), ("1E+3", "1,000"), ("-0.50", "-0.5"), ("NaN", "–"), ("Infinity", "–"),
        ("0.000000001", "0.000000001"),
    ],
)  # fmt: skip
def test_a_price_keeps_its_digits(value: str, shown: str) -> None:
    """Thousands separated, trailing zeros gone, never in exponent form."""
    assert price(Decimal(value)) == shown


@given(st.decimals(allow_nan=True, allow_infinity=True), st.floats())
def test_no_number_can_break_a_card(amount: Decimal, ratio: float) -> None:
    """Also numbers that no exchange would send."""
    trade = a_trade(pnl=amount, r=ratio, entry_price=amount, cash=amount, fees=amount, funding=amount, qty=amount)
    verdict = a_verdict(risk_usdt=amount, equity=amount, r_distance=ratio, atr=ratio, qty=amount, size_modifier=0.3)
    for event in (trade, verdict, a_fill(price=amount, slippage_bp=ratio, fee=amount)):
        assert utf16_length(parse_html(text_of(event)).text) <= 600


@given(st.lists(st.text(alphabet="ab&<🧨", max_size=600), max_size=40))
def test_too_many_lines_give_way_at_the_end(parts: list[str]) -> None:
    """Whole lines, so that no tag is ever cut."""
    lines = [f"<b>{prose(part, 600)}</b>" for part in parts]
    assert visible(fitted(lines)) <= LIMIT
    parse_html(fitted(lines))


def test_computed_numbers_are_short_and_have_no_minus_zero() -> None:
    """A distance that was computed is not shown to the last digit of a float."""
    assert "1R 1,171.7 · ATR 292.93 ·" in text_of(a_verdict(r_distance=1171.7329111, atr=292.9332312))
    assert "slip +0.0 bp" in text_of(a_fill(slippage_bp=-0.01))


def test_an_empty_trade_takes_no_time() -> None:
    """Durations never go negative."""
    assert " in 0s" in text_of(a_trade(exit_time=NOON - timedelta(seconds=5)))
