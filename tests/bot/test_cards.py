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

from bot.cards import PUSHED, Day, Look, draw, step
from bot.phone.formatting import parse_html, utf16_length
from bot.text import LIMIT, fitted, pages, plain, price, prose, stepped, visible
from tests.bot.stage import (
    NOON,
    a_call,
    a_candidate,
    a_failure,
    a_fill,
    a_shadow,
    a_testimony,
    a_trade,
    a_verdict,
    an_answered,
    an_opinion,
)
from trading.events import (
    AgentAnswer,
    AlertRaised,
    CommandDone,
    CouncilImpaired,
    CouncilModeChanged,
    CouncilRecovered,
    EdgeDropped,
    EquityMarked,
    Event,
    FundingPaid,
    Opinion,
    OrderAccepted,
    OrderCancelled,
    OrderDoubted,
    OrderIntended,
    OrderRefused,
    SessionStarted,
    SettingsChanged,
    StopMoved,
    SymbolsChanged,
    TradingPaused,
    TradingResumed,
)
from trading.model import OrderSide, OrderType, Purpose, Side

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

# What Telegram turns into a link by itself, wherever it stands: a domain, a name, a tag, an address.
TAPPABLE = re.compile(r"\w\.[^\W\d_]{2}|(?<!\w)[@#$][^\W\d]|\d+\.\d+\.\d+\.\d")


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


def an_intent(**changes: Any) -> OrderIntended:
    fields: dict[str, Any] = {
        "at": NOON, "link_id": "c-1", "verdict_id": 215, "symbol": "ETHUSDT", "purpose": Purpose.ENTRY,
        "side": OrderSide.SELL, "type": OrderType.LIMIT, "qty": Decimal("0.43"), "price": Decimal(2412),
        "stop": Decimal(2441), "take_profit": None, "r_distance": 29.0, "signal_time": NOON,
    }  # fmt: skip
    return OrderIntended(**(fields | changes))


def a_hostile_event(words: str) -> list[Event]:
    """Every kind of event with the words in every field that holds text."""
    answer = AgentAnswer(agent=words, status="OK", vote=words, p_win=0.5, text=words, against=words)
    failed = replace(answer, status=words)
    thought = Opinion(council=words, approved=True, size_modifier=0.5)
    return [
        a_candidate(symbol=words, council=words),
        a_verdict(symbol=words, debated=True, answers=(answer,), opinions=(thought,) * 9),
        CouncilImpaired(at=NOON, agents=(words,) * 9, text=words),
        CouncilRecovered(at=NOON, text=words),
        CouncilModeChanged(at=NOON, mode=words, old=words, by=words, command=words),
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
        CommandDone(at=NOON, name=words, done=False, found=(words,) * 30, by=words, command=words),
        SettingsChanged(at=NOON, values={words: 0.1}, old={words: 0.2}, by=words, command=words),
        SymbolsChanged(at=NOON, muted=(words,), by=words, command=words),
        OrderAccepted(at=NOON, link_id=words, symbol=words, order_id=words),
    ]


@given(HOSTILE)
def test_whatever_anybody_writes_is_accepted_short_enough_and_not_tappable(words: str) -> None:
    """S17: no send failure, no live link, no command that a tap would send, one line stays one line."""
    for event in a_hostile_event(words):
        text = text_of(event)
        shown = parse_html(text)
        assert 0 < utf16_length(shown.text) <= LIMIT
        assert {entity.type for entity in shown.entities} <= {"bold"}
        assert not TAPPABLE.search(shown.text)
        assert visible(text) == utf16_length(plain(text))
        assert not re.search(r"https?://|www\.|[\u202a-\u202e\u2066-\u2069\x00]", shown.text)
        assert shown.text.startswith("PAPER ")


@pytest.mark.parametrize(
    "words",
    [
        "see evil.com now", "(evil.com)", "t.me/evil", "mail a@evil.com", "@everybody look", "at 1.2.3.4 now", "#tag",
        "$BTC up", "a.b.evil.com", "evil.xn--p1ai", "пример.рф", "x_y.io.", "one.Two", "\u200bevil.\u200bcom",
    ],
)  # fmt: skip
def test_what_a_model_writes_leads_nowhere(words: str) -> None:
    """Bare domains, names, tags and addresses too; the words can still be read."""
    assert TAPPABLE.search(words.replace("\u200b", ""))
    assert not TAPPABLE.search(prose(words, 200))
    assert prose(words, 200).replace("⁠", "") == words.replace("\u200b", "")


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


def test_the_strongest_no_is_there_when_only_one_has_answered() -> None:
    """Also from one who takes no stand: the case for taking none."""
    lone = AgentAnswer(agent="strategist", status="OK", vote="BEARISH", p_win=0.58, text="LH LL", against="5 lows")
    failed = AgentAnswer(agent="quant", status="TIMEOUT", vote="", p_win=None, text="no answer in 8 s")
    assert "Strongest no: “5 lows”" in text_of(a_verdict(answers=(failed, lone)))
    neutral = replace(lone, vote="CHOPPY", text="a range")
    assert "Strongest no: “a range”" in text_of(a_verdict(answers=(failed, neutral)))
    assert "Strongest no: “5 lows”" in text_of(a_verdict(answers=(replace(neutral, p_win=0.1), lone)))
    assert "Strongest no" not in text_of(a_verdict(answers=(failed,)))


def test_a_rejected_verdict_names_who_ended_it_and_why() -> None:
    """On the lock screen, without opening the chat; it makes no sound."""
    card = draw(a_verdict(approved=False, gate="guard", reasons=("waterfall: longs are blocked", "and more")), LOOK)
    assert card is not None
    assert PUSHED[card.kind] == "silent"
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
    assert PUSHED["order"] == "off"
    quiet: list[Event] = [
        EdgeDropped(at=NOON, symbol="S", side=Side.LONG, reason="cooldown"),
        EquityMarked(at=NOON, equity=1.0, cash=Decimal(1), exposed=False, closes={}),
        FundingPaid(at=NOON, exec_id="f", symbol="S", amount=Decimal(1)),
    ]
    assert [draw(event, LOOK) for event in quiet] == [None] * 3


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


@given(st.lists(st.text(alphabet="ab&<🧨", max_size=900), max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_a_long_text_is_cut_into_messages_without_losing_anything(parts: list[str], begin: int, end: int) -> None:
    """At line ends, each message markup of its own, also in the middle of a table."""
    lines = [f"<b>{prose(part, 900)}</b>x" for part in parts]
    table = [f"{prose(part, 900)}x" for part in parts[begin:end]]
    lines += ["<pre>" + "\n".join(table) + "</pre>"] if table else []
    found = [parse_html(page).text for page in pages("\n".join(lines))]
    assert all(utf16_length(page) <= LIMIT for page in found)
    assert "\n".join(found) == plain("\n".join(lines))


def test_computed_numbers_are_short_and_have_no_minus_zero() -> None:
    """A distance that was computed is not shown to the last digit of a float."""
    assert "1R 1,171.7 · ATR 292.93 ·" in text_of(a_verdict(r_distance=1171.7329111, atr=292.9332312))
    assert "slip +0.0 bp" in text_of(a_fill(slippage_bp=-0.01))


def test_an_empty_trade_takes_no_time() -> None:
    """Durations never go negative."""
    assert " in 0s" in text_of(a_trade(exit_time=NOON - timedelta(seconds=5)))


TRADE_OF_215: list[Event] = [
    an_intent(),
    a_fill(),
    StopMoved(
        at=NOON, symbol="E", verdict_id=215, old=Decimal(2441), new=Decimal(2412), level_r=1.0, locked_r=0.0
    ),
    a_trade(),
]


def test_a_card_tells_the_whole_trade_below_what_it_said_first() -> None:
    """One line for each step, dated; the first numbers stand as they were."""
    card = text_of(a_verdict())
    added = [step(event, LOOK) for event in TRADE_OF_215]
    assert [plain(each.line) for each in added if each] == [
        "21 Jul 12:00 entry order 0.43 at 2,412",
        "21 Jul 12:00 FILLED 0.43 at 2,412, fee 0.21, slip +0.0 bp",
        "21 Jul 12:00 stop 2,441 → 2,412 (+0.0R)",
        "21 Jul 16:00 CLOSED +17.30 USDT +1.9R trailing stop",
    ]
    whole = stepped(card, [each.line for each in added if each])
    assert whole.startswith(card)
    parse_html(whole)


def test_buttons_follow_the_trade() -> None:
    """What can be done to it now; a button holds the decision's number, at most 64 bytes."""
    card = draw(a_verdict(verdict_id=10**15), LOOK)
    assert card is not None
    rows = [card.buttons or []]
    rows += [each.buttons for event in TRADE_OF_215 if (each := step(event, LOOK)) and each.buttons]
    names = [[button["text"] for row in buttons for button in row] for buttons in rows]
    assert names == [["Why", "Chart", "Cancel"], ["Why", "Chart", "Break-even", "Close…"], ["Why", "Trade"]]
    assert all(len(button["data"].encode()) <= 64 for buttons in rows for row in buttons for button in row)


@given(HOSTILE, st.integers(0, 60))
def test_no_step_can_break_a_card(words: str, moves: int) -> None:
    """However many there are, whatever stands in them: it fits, the first numbers and the end are kept."""
    card = text_of(a_verdict(symbol=words, reasons=(words,) * 9))
    moved = step(TRADE_OF_215[2], LOOK)
    ended = step(OrderRefused(at=NOON, link_id=words, symbol=words, reason=words, verdict_id=215), LOOK)
    assert moved is not None
    assert ended is not None
    for limit in (LIMIT, 1024):
        whole = stepped(card, [moved.line] * moves + [ended.line], limit)
        assert utf16_length(parse_html(whole).text) <= limit
        if limit == LIMIT:
            assert plain(whole).startswith(plain(card))
            assert plain(whole).endswith(plain(ended.line))


def test_the_end_of_a_request_says_what_was_found() -> None:
    """For a panic: the proof."""
    proof = ("asked the exchange at 12:00:03 UTC: 0 positions, 0 orders", "closed 0.43 ETHUSDT at 2,400, +5.16 USDT")
    done = CommandDone(at=NOON, name="panic", done=True, found=proof, by="owner 1", command="update:1")
    lines = plain(text_of(done)).split("\n")
    assert lines[0] == "PAPER PANIC DONE: asked the exchange at 12:00:03 UTC: 0 positions, 0 orders"
    assert lines[1] == "– closed 0.43 ETHUSDT at 2,400, +5.16 USDT"


def test_changed_settings_are_told_old_to_new() -> None:
    """In the first line, and that they last."""
    changed = SettingsChanged(
        at=NOON, values={"risk_per_trade": 0.005}, old={"risk_per_trade": 0.01}, by="owner 1", command="c"
    )
    assert "SETTINGS CHANGED by owner 1: risk_per_trade 0.01 → 0.005" in plain(text_of(changed))


# The debate


DEBATE: list[Event] = [
    an_answered(a_testimony()),
    an_answered(a_failure("strategist", twin=True)),
    an_answered(a_testimony("risk_manager", vote="APPROVED", calls=(a_call(), a_call(latency_ms=650)))),
    a_verdict(debated=True),
]


def test_the_debate_is_told_on_the_card_of_its_proposal() -> None:
    """Base size and risk first; then a line for each agent and for the verdict; what stood there stays."""
    card = draw(a_candidate(), LOOK)
    assert card is not None
    assert (card.kind, card.opens_thread, PUSHED[card.kind]) == ("debate", True, "silent")
    assert plain(card.text).split("\n") == [
        "PAPER #215 SHORT ETH PROPOSED, the council debates",
        "Entry 2,412  SL 2,441  TP trailing",
        "1R 29 · ATR 14.2 · close 2,410.5 · bar 21 Jul 08:00",
        "Base size 0.86, risk 17.40 USDT (0.86%)",
        "Council strict: it may veto or shrink this, nothing else",
    ]
    added = [each.line for event in DEBATE if (each := step(event, LOOK))]
    assert [plain(line) for line in added] == [
        "21 Jul 12:00 Quant SHORT 0.61 · 3.2 s",
        "21 Jul 12:00 Strategist TIMEOUT: no answer in 8 s · 8.0 s · its rules twin votes instead",
        "21 Jul 12:00 Risk manager APPROVED 0.61 · 3.9 s",
        "21 Jul 12:00 APPROVED 0.43 at 2,412, the council shrank it to 50%",
    ]
    assert stepped(card.text, added).startswith(card.text)


def test_the_verdict_on_a_debate_is_a_message_of_its_own() -> None:
    """Loud when approved; the buttons that follow the trade are on the card."""
    card, added = draw(a_verdict(debated=True), LOOK), step(a_verdict(debated=True), LOOK)
    assert card is not None
    assert added is not None
    assert (card.kind, card.opens_thread, PUSHED[card.kind]) == ("approved", False, "on")
    names = [[button["text"] for row in buttons or [] for button in row] for buttons in (card.buttons, added.buttons)]
    assert names == [["Why", "Chart"], ["Why", "Chart", "Cancel"]]
    rejected = step(a_verdict(debated=True, approved=False, gate="council", reasons=("trap",)), LOOK)
    assert rejected is not None
    assert plain(rejected.line) == "21 Jul 12:00 REJECTED by council: trap"


def test_a_cap_is_told_beside_what_the_council_shrank() -> None:
    """The share is of the size before the caps: one that holds the base size down too may leave it as it was."""
    capped = a_verdict(debated=True, clamp="max_position_usdt cut it from 0.61 to 0.43")
    told = "Size shrunk to 50% by the council, then max_position_usdt cut it from 0.61 to 0.43"
    assert told in plain(text_of(capped)).split("\n")
    added = step(capped, LOOK)
    assert added is not None
    assert plain(added.line).endswith("APPROVED 0.43 at 2,412, the council shrank it to 50%, a cap holds it")


def test_without_a_card_of_the_debate_the_verdict_opens_the_thread() -> None:
    """When nobody debated, and when debates are not wanted in the chat; then it is no step of itself."""
    silent = Look(badge="PAPER", push={"debate": "off"})
    for event, look in ((a_verdict(), LOOK), (a_verdict(debated=True), silent)):
        card = draw(event, look)
        assert card is not None
        assert card.opens_thread
        assert step(event, look) is None


def test_what_others_would_have_decided_is_told_beside_it() -> None:
    """The rules on the verdict of the models, the models on the card of the rules' verdict."""
    rules = Opinion(council="rules", approved=True, size_modifier=0.5)
    nobody = Opinion(council="off", approved=True, size_modifier=1.0)
    said = plain(text_of(a_verdict(opinions=(rules, nobody)))).split("\n")
    assert "The rules would have approved 50% of it" in said
    assert "No council at all would have approved it in full" in said
    beside = [
        step(an_answered(a_testimony(), council="shadow"), LOOK),
        step(an_opinion(), LOOK),
        step(an_opinion(approved=True, size_modifier=1.0), LOOK),
    ]
    assert [plain(each.line) for each in beside if each] == [
        "21 Jul 12:00 beside it Quant SHORT 0.61 · 3.2 s",
        "21 Jul 12:00 the models would have rejected it: The Quant votes LONG against this short: rising.",
        "21 Jul 12:00 the models would have approved it in full",
    ]
    assert draw(an_opinion(), LOOK) is None


def test_what_a_person_asked_is_on_no_card() -> None:
    """An answer without a decision."""
    asked = an_answered(a_testimony(), None)
    assert (draw(asked, LOOK), step(asked, LOOK)) == (None, None)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "would have ended +1.8R by trailing stop"),
        ({"ended": "stop", "r": -1.02}, "would have ended -1.0R by stop"),
        ({"ended": "stop", "r": 0.4}, "would have ended +0.4R by trailing stop"),
        ({"ended": "take_profit", "r": 2.0}, "would have ended +2.0R by take profit"),
        ({"ended": "signal", "r": 0.0}, "would have ended +0.0R by exit signal"),
        ({"ended": "unfilled", "r": None}, "would not have filled"),
        ({"ended": "lost", "r": None}, "what it would have come to is not known: its bars are gone"),
    ],
)
def test_what_was_not_traded_is_followed_to_its_end(changes: dict[str, Any], line: str) -> None:
    """One line on its card and no message."""
    added = step(a_shadow(**changes), LOOK)
    assert added is not None
    assert plain(added.line) == f"22 Jul 00:00 {line}"
    assert draw(a_shadow(**changes), LOOK) is None


def test_an_impaired_council_is_an_alert() -> None:
    """So is its recovery; another mode is a setting, with what it means."""
    impaired = CouncilImpaired(at=NOON, agents=("quant", "risk_manager"), text="no answer in 8 s. Rejected until then.")
    changed = CouncilModeChanged(at=NOON, mode="strict", old="rules", by="owner 1", command="update:7")
    cards = [draw(event, LOOK) for event in (impaired, CouncilRecovered(at=NOON, text="all answer"), changed)]
    assert [card.kind for card in cards if card] == ["alert", "alert", "settings"]
    assert [card.command for card in cards if card] == ["", "", "update:7"]
    assert [plain(card.text).split("\n")[0] for card in cards if card] == [
        "PAPER COUNCIL IMPAIRED (Quant, Risk manager): no answer in 8 s. Rejected until then.",
        "PAPER COUNCIL RECOVERED: all answer",
        "PAPER COUNCIL rules → strict by owner 1: three models decide; one that does not answer means no trade",
    ]


@given(HOSTILE, st.booleans(), st.integers(0, 5))
def test_no_agent_can_break_the_card_of_its_debate(words: str, twin: bool, calls: int) -> None:
    """Whatever it is called, votes, says, or how it fails: one line, nothing tappable."""
    answer = AgentAnswer(agent=words, status="OK", vote=words, p_win=0.5, text=words, against=words)
    asked = [a_testimony(answer=each, calls=(a_call(status=words),) * calls, twin=twin)
             for each in (answer, replace(answer, status=words, p_win=None))]  # fmt: skip
    events: list[Event] = [an_answered(said, symbol=words, council=words) for said in asked]
    rejected = a_verdict(debated=True, approved=False, gate=words, reasons=(words,))
    events += [a_shadow(ended=words), an_opinion(reasons=(words,)), rejected]
    card = text_of(a_candidate(symbol=words))
    lines = [each.line for event in events if (each := step(event, LOOK))]
    assert len(lines) == len(events)
    whole = parse_html(stepped(card, lines))
    assert {entity.type for entity in whole.entities} <= {"bold"}
    assert not TAPPABLE.search(whole.text)
    assert len(whole.text.split("\n")) == len(card.split("\n")) + len(lines)
    assert utf16_length(whole.text) <= LIMIT
