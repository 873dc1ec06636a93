"""Bybit's objects: the arithmetic that a client checks against its own."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from trading.exchange.simulated.account import liquidation_price
from trading.exchange.simulated.books import Fill, FillKind, Position
from trading.exchange.simulated.wire.objects import (
    Holding,
    break_even,
    closed_pnl_object,
    position_frame,
    position_object,
    transaction_object,
)
from trading.model import EPOCH, ZERO, OrderSide, Side

FILL = Fill(
    exec_id="x",
    order_id="o",
    link_id="",
    symbol="ETHUSDT",
    side=OrderSide.SELL,
    qty=Decimal(3),
    price=Decimal("1180.59833333"),
    fee=Decimal("2.125077"),
    fee_rate=Decimal("0.0006"),
    maker=False,
    at=EPOCH,
    seq=7,
    closed=Decimal(3),
    pnl=Decimal("-43.1305"),
    entry_value=Decimal("3584.9255"),
    open_fee=Decimal("2.1509553"),
    cash_after=Decimal(100),
)


def test_closed_profit_is_gross_less_the_fees_of_both_ways() -> None:
    """The documentation's own example."""
    shown = closed_pnl_object([FILL], Decimal(5))
    assert Decimal(shown["closedPnl"]) == Decimal("-47.4065323")
    assert (shown["side"], shown["closedSize"], shown["fillCount"]) == ("Sell", "3", "1")
    assert Decimal(shown["openFee"]) + Decimal(shown["closeFee"]) == Decimal("4.2760323")


def test_a_flip_closes_with_its_share_of_the_fee_only() -> None:
    flip = replace(FILL, qty=Decimal(4), fee=Decimal(4), closed=Decimal(1), pnl=ZERO, open_fee=Decimal(2))
    assert Decimal(closed_pnl_object([flip], Decimal(5))["closedPnl"]) == -3


def test_the_log_shows_funding_with_the_opposite_sign_and_what_the_wallet_did() -> None:
    trade = transaction_object(FILL, "77")
    assert Decimal(trade["change"]) == FILL.pnl - FILL.fee
    assert (trade["type"], trade["funding"]) == ("TRADE", "")
    paid = transaction_object(replace(FILL, kind=FillKind.FUNDING, pnl=ZERO, fee=Decimal("0.5")), "77")
    assert (paid["type"], paid["funding"], paid["fee"], paid["change"]) == ("SETTLEMENT", "-0.5", "0", "-0.5")


def test_a_flat_symbol_has_a_row() -> None:
    holding = Holding(
        symbol="ETHUSDT",
        position=None,
        mark=Decimal(1200),
        leverage=Decimal(5),
        realised=ZERO,
        seq=-1,
        taker=Decimal("0.00055"),
    )
    row, frame = position_object(holding), position_frame(holding)
    assert (row["side"], row["size"], row["avgPrice"], row["positionIdx"]) == ("", "0", "", 0)
    assert (frame["entryPrice"], frame["size"], frame["category"]) == ("0", "0", "linear")
    assert "avgPrice" not in frame


def test_break_even_and_liquidation_are_bybits_formulas() -> None:
    held = Position(side=Side.LONG, qty=Decimal(1), entry_price=Decimal(20_000), realised=Decimal(-11))
    assert liquidation_price(held, Decimal(50)) == 19_700
    even = break_even(held, Decimal("0.00055"))
    assert even - held.entry_price - even * Decimal("0.00055") - 11 < Decimal("1e-15")
    assert liquidation_price(held, Decimal(1)) is None
    assert liquidation_price(replace(held, side=Side.SHORT), Decimal(1)) == 39_900
