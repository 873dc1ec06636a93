"""Longer answers: the table fits a phone, and silence explains itself."""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot.cards import Look
from bot.phone.formatting import parse_html, utf16_length
from bot.text import LIMIT, plain
from bot.views import WIDTH, status_view, verdicts_view
from tests.bot.stage import NOON, a_status, a_verdict
from trading.model import Side
from trading.status import EntryView, PositionView

AMOUNTS = st.decimals(min_value=Decimal("-1e9"), max_value=Decimal("1e9"), places=3)


def a_position(**changes: Any) -> PositionView:
    fields: dict[str, Any] = {
        "symbol": "BTCUSDT", "side": Side.LONG, "verdict_id": 214, "qty": Decimal("0.012"),
        "entry_price": Decimal(63410), "stop": Decimal(62650), "take_profit": None, "mark": Decimal(63420),
        "unrealised": Decimal("41.2"), "r": 0.8, "opened": NOON, "exit_due": None,
    }  # fmt: skip
    return PositionView(**(fields | changes))


def test_status_shows_positions_as_a_table_and_what_comes_next() -> None:
    """The first line carries the news; then position, account, next close, gates."""
    status = a_status(positions=(a_position(), a_position(symbol="ETHUSDT", side=Side.SHORT, r=-0.3)))
    assert plain(status_view(status, UTC)).split("\n") == [
        "PAPER · 2 open · +82.40 USDT · 21 Jul 12:00",
        "PAIR  SIDE     uPNL     R   SL%",
        "-------------------------------",
        "BTC   L5x     +41.2  +0.8   1.2",
        "ETH   S5x     +41.2  -0.3   1.2",
        "-------------------------------",
        "heat 2.1%   day +26.4",
        "Equity 10,028.30 USDT (+0.28%), cash 10,000.00",
        "Today +26.40 USDT (3/4)",
        "Decisions 7, trades 4",
        "Next close 21 Jul 16:00",
        "All gates open: waiting for a signal",
    ]


def test_status_names_every_shut_gate() -> None:
    """Before the first bar, too."""
    status = a_status(market_time=None, next_close=None, paused=True, gates=("paused: /resume", "no data"))
    lines = plain(status_view(status, UTC)).split("\n")
    assert lines[0] == "PAPER · PAUSED · 0 open · no bar yet"
    assert lines[-2:] == ["Gate shut: paused: /resume", "Gate shut: no data"]


def test_a_resting_entry_says_how_long_it_still_rests() -> None:
    """One line each."""
    entry = EntryView(
        symbol="ETHUSDT", side=Side.SHORT, verdict_id=3, qty=Decimal("0.43"), price=Decimal(2412),
        stop=Decimal(2441), bars_left=1,
    )  # fmt: skip
    text = status_view(a_status(entries=(entry,)), UTC)
    assert "Resting #3 SHORT ETH 0.43 at 2,412, stop 2,441, 1 bar left" in text


@given(
    st.lists(
        st.builds(
            a_position, symbol=st.text(max_size=40), unrealised=AMOUNTS, mark=AMOUNTS, stop=AMOUNTS,
            r=st.floats(-1e6, 1e6), side=st.sampled_from(Side),
        ),
        max_size=60,
    ),
    st.floats(0, 100),
)  # fmt: skip
def test_the_table_never_outgrows_a_phone(positions: list[PositionView], leverage: float) -> None:
    """At most 34 columns and one message, whatever is open."""
    text = status_view(a_status(positions=tuple(positions), leverage=leverage), UTC)
    shown = parse_html(text)
    assert utf16_length(shown.text) <= LIMIT
    for block in (entity for entity in shown.entities if entity.type == "pre"):
        units = shown.text.encode("utf-16-le")[block.offset * 2 : block.end * 2].decode("utf-16-le")
        assert max(utf16_length(line) for line in units.split("\n")) <= WIDTH


def test_verdicts_are_listed_with_what_became_of_them() -> None:
    """The newest first, as they come."""
    rejected = a_verdict(216, approved=False, gate="council", reasons=("two of three against",))
    text = verdicts_view([(rejected, "rejected"), (a_verdict(), "closed")], Look(badge="PAPER"))
    assert plain(text).split("\n") == [
        "PAPER last 2 decisions: 1 approved, 1 rejected",
        "#216 21 Jul 12:00 SHORT ETH rejected by council: two of three against",
        "#215 21 Jul 12:00 SHORT ETH approved, 0.43 at 2,412: closed",
    ]


def test_no_verdict_yet_says_when_one_comes() -> None:
    """Instead of an empty message."""
    assert "no decision yet" in verdicts_view([], Look(badge="PAPER"))


def test_a_long_list_stays_one_message() -> None:
    """Thirty decisions with long reasons."""
    at = NOON + timedelta(days=1)
    events = [(a_verdict(n, at=at, approved=False, reasons=("<b>" * 900,)), "rejected") for n in range(30)]
    assert utf16_length(parse_html(verdicts_view(events, Look(badge="PAPER"))).text) <= LIMIT
