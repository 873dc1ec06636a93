"""The venue by hand: every step of a bar with its money worked out, and a ledger that always adds up.

The stage: BTCUSDT, ticks of 0.1, four-hour bars from a settlement on. Without costs unless a test names them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trading.rig import (
    BTC,
    COSTLY,
    FEES,
    FLAT,
    FOUR_HOURS,
    START_MS,
    Floor,
    Row,
    code_of,
    floor_with_position,
    instrument,
    number,
    order,
)
from trading.errors import Misconfigured
from trading.exchange.simulated.books import Fill, FillKind, NewOrder, Order, StopKind, TimeInForce, VenueState
from trading.exchange.simulated.ledger import LedgerFile, MemoryKeeper
from trading.exchange.simulated.venue import BY_USER, POST_ONLY_CROSSED, Keeper, Venue, VenueRefusal
from trading.model import OrderSide, Side, utc
from trading.parameters import AccountTerms

BUY, SELL = OrderSide.BUY, OrderSide.SELL
FUNDED = AccountTerms(maker_fee=0.0, taker_fee=0.0, slippage=0.0, funding_rate=0.0001)
START_CASH = Decimal(10000)
REDUCE_ONLY_FLAT, NO_ERROR = "CancelByReduceOnly", "EC_NoError"


# ---- step 1: funding -----------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "paid"), [(BUY, "0.2020"), (SELL, "-0.2020")])
def test_funding_is_paid_by_longs_and_received_by_shorts(side: OrderSide, paid: str) -> None:
    """2 coins at the open of 1010, rate 0.0001: 0.202; the bar at 08:00 settles, the one at 04:00 did not."""
    floor = floor_with_position(side, terms=FUNDED)
    assert floor.payments() == []
    floor.bar((1010, 1011, 1009, 1010))
    (payment,) = floor.payments()
    assert payment.fee == Decimal(paid)
    assert payment.at == utc(START_MS) + 2 * FOUR_HOURS
    assert floor.venue.cash == START_CASH - Decimal(paid)


def test_a_position_opened_in_the_bar_does_not_pay_for_it() -> None:
    """The bar at 00:00 settles at its open; what is filled inside it was not there."""
    floor = Floor(FUNDED, start_ms=START_MS - 4 * 3600 * 1000)
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "2", price="1000"))
    floor.bar((1000, 1001, 999, 1000))
    assert BTC in floor.venue.positions
    assert floor.payments() == []


def test_a_long_bar_settles_every_time_in_it() -> None:
    """A day has three settlements, each at the open price of the day."""
    floor = floor_with_position(terms=FUNDED, interval=timedelta(days=1))
    floor.bar((1010, 1011, 1009, 1010))
    assert [one.fee for one in floor.payments()] == [Decimal("0.2020")] * 3
    day = utc(START_MS) + timedelta(days=2)
    assert [one.at for one in floor.payments()] == [day + timedelta(hours=h) for h in (0, 8, 16)]


def test_a_series_gives_the_rate_of_its_exact_time() -> None:
    """Where the series has no rate for that very settlement the default counts, and it is counted."""
    rates = {BTC: {START_MS + 8 * 3600 * 1000: Decimal("-0.001")}}
    floor = floor_with_position(terms=FUNDED, funding=rates)
    for _ in range(3):
        floor.bar((1000, 1001, 999, 1000))
    assert [one.fee for one in floor.payments()] == [Decimal("-2.0"), Decimal("0.2")]
    assert floor.venue.funding_missing == 1


# ---- step 2: market orders -----------------------------------------------------------------------


def test_a_market_order_between_bars_gets_the_next_open() -> None:
    """Decided at the close 1000, filled at the open 1004, slippage against it, taker fee on the slipped price."""
    floor = Floor(FEES)
    floor.bar(FLAT)
    assert floor.venue.place(order(BUY, "1")).status == "New"
    floor.bar((1004, 1005, 1003, 1004))
    (fill,) = floor.fills()
    assert fill.price == Decimal(1004) * Decimal("1.001")
    assert fill.fee == fill.price * Decimal("0.0005")
    assert not fill.maker


@pytest.mark.parametrize(("side", "price"), [(BUY, "1007.006"), (SELL, "1004.994")])
def test_a_market_order_inside_a_bar_gets_the_current_tick_at_once(side: OrderSide, price: str) -> None:
    """1006 is the tick: a buy pays 0.1% more, a sell gets 0.1% less."""
    floor = Floor(FEES)
    floor.bar(FLAT)
    candle = floor.begin((1000, 1010, 990, 1000))
    floor.venue.tick(BTC, 1006.0, candle.open_time)
    assert floor.venue.place(order(side, "1")).status == "Filled"
    assert [fill.price for fill in floor.fills()] == [Decimal(price)]
    floor.end(candle)


def test_an_exit_due_comes_before_the_stop_of_its_bar() -> None:
    """The bar gaps below the stop: the exit at the open has closed the position already."""
    floor = floor_with_position(stop="980")
    floor.venue.place(order(SELL, "2", link="exit", reduce_only=True))
    floor.bar((970, 971, 960, 965))
    assert [(fill.link_id, fill.price) for fill in floor.fills()][1:] == [("exit", Decimal(970))]


# ---- steps 3 to 5: stops and entries -------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "stop", "bar", "price"),
    [
        (BUY, "980", (975.0, 985.0, 970.0, 984.0), "974.025"),  # through the gap: at the open
        (BUY, "980", (980.0, 985.0, 979.0, 984.0), "979.02"),  # opens on the stop: that is through
        (BUY, "980", (990.0, 991.0, 980.0, 985.0), "979.02"),  # touched is enough
        (SELL, "1020", (1025.0, 1030.0, 1015.0, 1016.0), "1026.025"),
        (SELL, "1020", (1010.0, 1020.0, 1009.0, 1015.0), "1021.02"),
    ],
)
def test_a_stop_gets_its_price_or_the_gap(side: OrderSide, stop: str, bar: Row, price: str) -> None:
    """Sells get 0.1% less, buys pay 0.1% more; taker fee on that."""
    floor = floor_with_position(side, stop=stop, terms=FEES)
    floor.bar(bar)
    exit_fill = floor.fills()[-1]
    assert exit_fill.price == Decimal(price)
    assert (exit_fill.stop_order_type, exit_fill.link_id, exit_fill.maker) == (StopKind.STOP_LOSS, "", False)
    assert floor.venue.positions == {}
    gross = (Decimal(price) - 1000) * 2 * (1 if side is BUY else -1)
    fees = 2 * Decimal(1000) * Decimal("0.0002") + 2 * Decimal(price) * Decimal("0.0005")
    assert floor.venue.cash == START_CASH + gross - fees


def test_a_stop_not_reached_stays() -> None:
    """One tick above it nothing happens."""
    floor = floor_with_position(stop="980")
    floor.bar((990, 991, 980.1, 985))
    assert BTC in floor.venue.positions


@pytest.mark.parametrize(
    ("side", "bar", "filled"),
    [
        (BUY, (1005.0, 1006.0, 1000.0, 1004.0), False),  # at the price is not through it
        (BUY, (1005.0, 1006.0, 999.9, 1004.0), True),
        (BUY, (990.0, 991.0, 985.0, 986.0), True),  # gapped past it: still at exactly 1000
        (SELL, (995.0, 1000.0, 994.0, 996.0), False),
        (SELL, (995.0, 1000.1, 994.0, 996.0), True),
    ],
)
def test_a_resting_entry_fills_strictly_through_its_price(side: OrderSide, bar: Row, filled: bool) -> None:
    """At exactly its price, maker fee, no slippage."""
    floor = Floor(FEES)
    floor.bar(FLAT)
    floor.venue.place(order(side, "1", price="1000", post_only=True))
    floor.bar(bar)
    expected = [(Decimal(1000), True, Decimal("0.2"))] if filled else []
    assert [(fill.price, fill.maker, fill.fee) for fill in floor.fills()] == expected


@pytest.mark.parametrize(
    ("side", "stop", "bar", "exits"),
    [
        (BUY, "980", (1005.0, 1006.0, 970.0, 1004.0), "980"),  # entry, then the stop at its price
        (BUY, "980", (975.0, 976.0, 970.0, 972.0), "975"),  # opens below both: out at the open
        (SELL, "1020", (995.0, 1030.0, 994.0, 1000.0), "1020"),
        (SELL, "1020", (1025.0, 1026.0, 1010.0, 1012.0), "1025"),
    ],
)
def test_entry_and_stop_in_one_bar(side: OrderSide, stop: str, bar: Row, exits: str) -> None:
    """Both fills in this order, at the limit and at the stop (or the open below it)."""
    floor = Floor()
    floor.bar(FLAT)
    floor.venue.place(order(side, "1", price="1000", stop=stop))
    floor.bar(bar)
    assert [fill.price for fill in floor.fills()] == [Decimal(1000), Decimal(exits)]
    assert floor.venue.cash == START_CASH + (Decimal(exits) - 1000) * (1 if side is BUY else -1)


# ---- step 6: take profit -------------------------------------------------------------------------


def test_a_take_profit_fills_only_in_later_bars_and_strictly_through() -> None:
    """Placed at the entry bar's close: 1020 is not through, 1020.1 is; maker fee, exactly its price."""
    floor = floor_with_position(terms=FEES)
    floor.venue.place(order(SELL, "2", price="1020", link="tp", reduce_only=True, post_only=True))
    floor.bar((1010, 1020, 1009, 1015))
    assert len(floor.fills()) == 1
    floor.bar((1015, 1020.1, 1014, 1016))
    last = floor.fills()[-1]
    assert (last.price, last.maker, last.fee) == (Decimal(1020), True, Decimal("8.16") / 20)


def test_a_take_profit_does_not_fill_in_the_bar_that_opened_the_position() -> None:
    """A position opened inside a bar, its take profit placed at once: it waits for the next bar."""
    floor = Floor()
    floor.bar(FLAT)
    candle = floor.begin((1000, 1030, 999, 1010))
    floor.venue.place(order(BUY, "1"))
    floor.venue.place(order(SELL, "1", price="1020", link="tp", reduce_only=True))
    floor.end(candle)
    assert len(floor.fills()) == 1
    floor.bar((1010, 1021, 1009, 1010))
    assert floor.fills()[-1].price == 1020


def test_the_stop_wins_over_the_take_profit() -> None:
    """Both in one bar: the stop fills, the take profit is cancelled."""
    floor = floor_with_position(stop="980")
    floor.venue.place(order(SELL, "2", price="1020", link="tp", reduce_only=True))
    floor.bar((1000, 1030, 970, 1000))
    assert floor.fills()[-1].stop_order_type == StopKind.STOP_LOSS
    assert floor.ending("tp") == ("Cancelled", REDUCE_ONLY_FLAT, NO_ERROR)
    assert floor.venue.orders == {}


# ---- what is taken and what is not ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "price", "crosses"),
    [
        (BUY, "1000", False),
        (BUY, "1000.1", True),
        (SELL, "1000", False),
        (SELL, "999.9", True),
    ],
)
def test_post_only_is_judged_one_tick_around_the_last_price(side: OrderSide, price: str, crosses: bool) -> None:
    """At the close it rests; a tick beyond it would take, and is cancelled."""
    floor = Floor()
    floor.bar(FLAT)
    placed = floor.venue.place(order(side, "1", price=price, post_only=True))
    assert placed.status == ("Cancelled" if crosses else "New")
    assert placed.reject_reason == (POST_ONLY_CROSSED if crosses else NO_ERROR)


def test_a_crossing_limit_without_post_only_takes_at_the_touch() -> None:
    """It fills one tick from the last price, as a taker."""
    floor = Floor(FEES)
    floor.bar(FLAT)
    assert floor.venue.place(order(BUY, "1", price="1010")).status == "Filled"
    (fill,) = floor.fills()
    assert (fill.price, fill.maker) == (Decimal("1000.1"), False)


def test_reduce_only_needs_something_to_reduce() -> None:
    """Flat, or on the position's own side, it is refused."""
    floor = Floor()
    floor.bar(FLAT)
    assert floor.refused(order(SELL, "1", reduce_only=True)) == 110017
    floor = floor_with_position(BUY)
    assert floor.refused(order(BUY, "1", reduce_only=True)) == 110017


def test_reduce_only_is_clamped_to_the_position() -> None:
    """Asked for 5, there are 2: 2 are sold and nobody is short."""
    floor = floor_with_position(BUY, "2")
    assert floor.venue.place(order(SELL, "5", reduce_only=True, link="exit")).asked.qty == 2
    floor.bar(FLAT)
    assert floor.venue.positions == {}
    assert floor.fills()[-1].qty == 2


def test_a_reduce_only_order_that_finds_no_position_is_cancelled() -> None:
    """The stop has closed it meanwhile."""
    floor = floor_with_position(BUY, "2", stop="980")
    candle = floor.begin(FLAT)
    floor.venue.place(order(SELL, "2", price="1050", reduce_only=True, link="tp"))
    floor.end(candle)
    floor.bar((970, 971, 960, 965))
    assert floor.ending("tp") == ("Cancelled", REDUCE_ONLY_FLAT, NO_ERROR)


def test_what_is_malformed_is_refused_by_its_code() -> None:
    """Duplicate id, unknown symbol, off the step, off the tick, too small, no price, no quantity."""
    floor = Floor()
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "1", price="900"))
    assert floor.refused(order(BUY, "1", price="901")) == 110072
    assert floor.refused(order(BUY, "1", link="two", symbol="DOGEUSDT")) == 10001
    assert floor.refused(order(BUY, "1.0005", link="two")) == 10001
    assert floor.refused(order(BUY, "1", price="900.05", link="two")) == 10001
    assert floor.refused(order(BUY, "0", link="two")) == 10001
    assert floor.refused(order(BUY, "-1", link="two")) == 10001
    assert floor.refused(order(BUY, "1", price="0", link="two")) == 10001
    assert floor.refused(order(BUY, "0.004", link="two")) == 110094
    assert len(floor.venue.orders) == 1


def test_a_duplicate_id_is_known_after_the_order_has_closed() -> None:
    """A link id is used once, for ever."""
    floor = floor_with_position()
    assert floor.refused(order(BUY, "1", price="900", link="entry")) == 110072


@pytest.mark.parametrize(
    ("side", "stop", "taken"),
    [
        (BUY, "1000", False),
        (BUY, "1010", False),
        (BUY, "999.9", True),
        (SELL, "1000", False),
        (SELL, "990", False),
        (SELL, "1000.1", True),
        (BUY, "0", False),
    ],
)
def test_a_stop_on_the_wrong_side_rejects_the_entry(side: OrderSide, stop: str, taken: bool) -> None:
    """It must lie on the losing side of the entry price."""
    floor = Floor()
    floor.bar(FLAT)
    asked = order(side, "1", price="1000", stop=stop)
    if taken:
        assert floor.venue.place(asked).status == "New"
    else:
        assert floor.refused(asked) == 10001
        assert floor.venue.orders == {}


def test_a_stop_moves_only_on_its_side_of_the_last_price() -> None:
    """Refused, the old one stays; the same one again is told as such; without a position there is none."""
    floor = floor_with_position(BUY, stop="980")
    floor.venue.protect(BTC, stop_loss=Decimal(990))
    assert code_of(lambda: floor.venue.protect(BTC, stop_loss=Decimal(990))) == 34040
    assert code_of(lambda: floor.venue.protect(BTC, stop_loss=Decimal(1000))) == 10001
    assert floor.venue.positions[BTC].stop == 990
    floor.bar((985, 986, 984, 985))
    assert code_of(lambda: floor.venue.protect(BTC, stop_loss=Decimal(990))) == 10001


def test_margin_counts_positions_and_resting_entries() -> None:
    """At leverage 5 without fees 10,000 carry 50,000: 30 coins at 1000 leave room for 20."""
    floor = Floor()
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "30", price="1000", link="a"))
    assert floor.refused(order(BUY, "20.001", price="1000", link="b")) == 110007
    floor.venue.place(order(BUY, "20", price="1000", link="c"))
    assert floor.venue.available == 0
    floor.venue.cancel(BTC, link_id="c")
    assert floor.venue.available == 4000


def test_a_cancelled_order_is_gone_and_only_a_live_one_can_be_cancelled() -> None:
    """What is filled, cancelled already, unknown, or on another symbol is refused; how it ended can be found."""
    floor = floor_with_position(instruments={BTC: instrument(), "ETHUSDT": instrument("ETHUSDT")})
    rest = floor.venue.place(order(BUY, "1", price="900", link="rest"))
    assert code_of(lambda: floor.venue.cancel("ETHUSDT", link_id="rest")) == 110001
    assert floor.venue.orders == {rest.order_id: rest}
    assert floor.venue.cancel(BTC, link_id="rest") is rest
    assert floor.ending("rest") == ("Cancelled", BY_USER, NO_ERROR)
    for gone in ("rest", "entry", "nobody"):
        assert code_of(partial(floor.venue.cancel, BTC, link_id=gone)) == 110001
    assert floor.ending("entry") == ("Filled", "UNKNOWN", NO_ERROR)
    floor.bar((900, 901, 880, 890))
    assert floor.venue.positions[BTC].qty == 2


# ---- positions -----------------------------------------------------------------------------------


def test_the_entry_price_is_the_weighted_mean() -> None:
    """2 at 1000 and 1 at 970 are 3 at 990."""
    floor = floor_with_position(BUY, "2")
    floor.venue.place(order(BUY, "1", price="970", link="more"))
    floor.bar((980, 981, 960, 965))
    position = floor.venue.positions[BTC]
    assert (position.qty, position.entry_price) == (Decimal(3), Decimal(990))


def test_a_partial_reduce_realises_its_part() -> None:
    """1 of 2 sold at 1010: 10 in cash, the rest stands at its price with its stop."""
    floor = floor_with_position(BUY, "2", stop="980")
    floor.venue.place(order(SELL, "1", link="part", reduce_only=True))
    floor.bar((1010, 1011, 1009, 1010))
    position = floor.venue.positions[BTC]
    assert (position.qty, position.entry_price, position.stop) == (Decimal(1), Decimal(1000), Decimal(980))
    assert floor.venue.cash == START_CASH + 10


def test_a_flip_closes_and_opens() -> None:
    """3 sold out of 2 long at 1010: 20 realised, 1 short at 1010, with the new order's stop."""
    floor = floor_with_position(BUY, "2", stop="980")
    floor.venue.place(order(SELL, "3", link="flip", stop="1030"))
    floor.bar((1010, 1011, 1009, 1010))
    position = floor.venue.positions[BTC]
    assert (position.side, position.qty) == (Side.SHORT, Decimal(1))
    assert (position.entry_price, position.stop) == (Decimal(1010), Decimal(1030))
    assert floor.venue.cash == START_CASH + 20


def test_a_reduce_only_order_never_opens_after_a_flip() -> None:
    """A long's take profit rests, the account is flipped short, the price comes: no larger short."""
    floor = floor_with_position(BUY, "2")
    floor.venue.place(order(SELL, "2", price="1020", link="tp", reduce_only=True))
    floor.venue.place(order(SELL, "3", link="flip"))
    floor.bar((1010, 1011, 1009, 1010))
    floor.bar((1010, 1025, 1009, 1020))
    assert (floor.venue.positions[BTC].side, floor.venue.positions[BTC].qty) == (Side.SHORT, Decimal(1))


def test_a_due_reduce_only_exit_never_opens_after_a_flip() -> None:
    """A market exit waits for the open behind an order that flips the position."""
    floor = floor_with_position(BUY, "2")
    floor.venue.place(order(SELL, "3", link="flip"))
    floor.venue.place(order(SELL, "2", link="exit", reduce_only=True))
    floor.bar((1010, 1011, 1009, 1010))
    assert (floor.venue.positions[BTC].side, floor.venue.positions[BTC].qty) == (Side.SHORT, Decimal(1))


def test_two_due_exits_end_once_each() -> None:
    """The first fills, the second is cancelled as flat: told once, closed once."""
    floor = floor_with_position(BUY, "2")
    floor.venue.place(order(SELL, "2", link="a", reduce_only=True))
    floor.venue.place(order(SELL, "2", link="b", reduce_only=True))
    floor.bar(FLAT)
    assert floor.statuses("b") == ["New", "Cancelled"]


def test_a_cancelled_exit_never_fills() -> None:
    """Exit, new entry, second exit, all due at one open: the second is cancelled with the first."""
    floor = floor_with_position(BUY, "2")
    floor.venue.place(order(SELL, "2", link="a", reduce_only=True))
    floor.venue.place(order(BUY, "1", link="again"))
    floor.venue.place(order(SELL, "2", link="b", reduce_only=True))
    floor.bar(FLAT)
    filled = "b" in [fill.link_id for fill in floor.fills()]
    assert floor.statuses("b") == ["New", "Filled" if filled else "Cancelled"]


# ---- money ---------------------------------------------------------------------------------------


def near(one: Decimal, other: Fraction) -> bool:
    """Equal to 1e-12: averages are rounded to 28 digits."""
    return abs(Fraction(one) - other) < Fraction(1, 10**12)


@dataclass(slots=True)
class Books:
    """A second set of books of one symbol, kept from fills alone, in exact fractions."""

    cash: Fraction = Fraction(10000)
    size: Fraction = Fraction(0)
    price: Fraction = Fraction(0)
    open_fee: Fraction = Fraction(0)
    entry_fees: Fraction = Fraction(0)
    released: Fraction = Fraction(0)
    holding: Fraction = Fraction(0)
    seq: int = 0
    ids: set[str] = field(default_factory=set)

    def book(self, fill: Fill) -> None:
        """Weighted average cost; what closes is realised; the fill must say the same."""
        fee = Fraction(fill.fee)
        if fill.kind is FillKind.FUNDING:
            self.holding -= fee
            assert [fill.closed, fill.pnl, fill.order_id] == [0, 0, ""]
        else:
            self._trade(fill, fee)
        self.cash += Fraction(fill.pnl) - fee
        assert near(fill.cash_after, self.cash)
        assert Fraction(fill.size_after) == self.size
        assert fill.seq > self.seq
        assert fill.exec_id not in self.ids
        self.seq = fill.seq
        self.ids.add(fill.exec_id)

    def _trade(self, fill: Fill, fee: Fraction) -> None:
        signed = fill.side.sign * Fraction(fill.qty)
        opposite = self.size * signed < 0
        closed = min(abs(self.size), abs(signed)) if opposite else Fraction(0)
        sign = 1 if self.size > 0 else -1
        share = self.open_fee * closed / abs(self.size) if closed else Fraction(0)
        assert (Fraction(fill.closed), fill.fee) == (closed, fill.value * fill.fee_rate)
        assert near(fill.entry_value, closed * self.price)
        assert near(fill.pnl, sign * closed * (Fraction(fill.price) - self.price))
        assert near(fill.open_fee, share)
        opened = abs(signed) - closed
        entry_fee = fee * opened / abs(signed)
        self.holding += Fraction(fill.pnl) - (fee - entry_fee)
        if opened:
            held = abs(self.size) - closed
            self.price = (held * self.price + opened * Fraction(fill.price)) / (held + opened)
            self.holding = self.holding if held else Fraction(0)
            self.holding -= entry_fee
        self.size += signed
        self.open_fee += entry_fee - share
        self.entry_fees += entry_fee
        self.released += Fraction(fill.open_fee)


def away_from(last: float, chance: Random, wobble: float = 0.004) -> str:
    """A price on the tick, around the last."""
    return f"{last * (1 + chance.gauss(0, wobble)):.1f}"


def random_request(chance: Random, last: float, name: str) -> NewOrder:
    """Any order that somebody could think of; many are refused."""
    side = chance.choice([BUY, SELL])
    price = None if chance.random() < 0.4 else away_from(last, chance)
    trigger = away_from(last, chance) if chance.random() < 0.25 else None
    base, reduce_only = float(price or trigger or last), chance.random() < 0.3
    guards = [f"{base * (1 + sign * side.sign * chance.uniform(0.002, 0.01)):.1f}" for sign in (-1, 1)]
    stop, take = (None if reduce_only or chance.random() < 0.5 else guard for guard in guards)
    asked = order(
        side,
        f"{chance.uniform(0.01, 4):.3f}",
        price=price,
        link=name,
        stop=stop,
        take=take,
        lasts=chance.choice(list(TimeInForce)) if price else TimeInForce.GTC,
        reduce_only=reduce_only,
    )
    rises = trigger is not None and float(trigger) > last
    return replace(asked, trigger_price=number(trigger), trigger_direction=0 if trigger is None else 1 if rises else 2)


def random_change(venue: Venue, chance: Random, last: float) -> None:
    """An amendment of any live order, and now and then a link id that nobody has."""
    live = [one.asked.link_id for one in venue.orders.values()]
    qty = Decimal(f"{chance.uniform(0.01, 4):.3f}")
    price, stop = (Decimal(away_from(last, chance)) if chance.random() < 0.5 else None for _ in range(2))
    venue.amend(BTC, link_id=chance.choice([*live, "nobody"]), qty=qty, price=price, stop_loss=stop)


def random_protection(venue: Venue, chance: Random, last: float) -> None:
    """Some of stop, take profit and trailing stop, set or taken away."""
    wanted = [Decimal(away_from(last, chance, 0.01)) if chance.random() < 0.5 else None for _ in range(2)]
    wanted = [Decimal(0) if price and chance.random() < 0.1 else price for price in wanted]
    trailing = Decimal(f"{chance.uniform(2, 20):.1f}") if chance.random() < 0.3 else None
    venue.protect(BTC, stop_loss=wanted[0], take_profit=wanted[1], trailing=trailing)


def hand_of_chance(venue: Venue, chance: Random, name: str) -> None:
    """One request: mostly orders, some cancels, amendments, protections, leverages."""
    what, last = chance.random(), venue.last[BTC]
    try:
        if what < 0.6:
            venue.place(random_request(chance, last, name))
        elif what < 0.7:
            venue.cancel(BTC, link_id=f"n{chance.randint(0, 60)}")
        elif what < 0.8:
            random_change(venue, chance, last)
        elif what < 0.96:
            random_protection(venue, chance, last)
        elif what < 0.98:
            venue.cancel_all(conditional=chance.choice([True, False, None]))
        else:
            venue.set_leverage(BTC, Decimal(chance.randint(1, 20)))
    except VenueRefusal:
        pass


def chance_bar(chance: Random, open_: float) -> Row:
    """A bar of about one percent."""
    close = open_ * (1 + chance.gauss(0, 0.006))
    high = max(open_, close) * (1 + chance.expovariate(1 / 0.003))
    low = min(open_, close) * (1 - chance.expovariate(1 / 0.003))
    return (round(open_, 1), round(high, 1), round(low, 1), round(close, 1))


def eventful_bar(floor: Floor, chance: Random, name: str) -> None:
    """Some requests between the bars, a bar that may gap, and sometimes a request inside it."""
    for number_ in range(chance.randint(0, 3)):
        hand_of_chance(floor.venue, chance, f"{name}{number_}")
    gap = chance.gauss(0, 0.004) if chance.random() < 0.2 else 0
    candle = floor.begin(chance_bar(chance, floor.venue.last[BTC] * (1 + gap)))
    if chance.random() < 0.5:
        floor.venue.tick(BTC, round((candle.high + candle.low) / 2, 1), candle.open_time + candle.interval / 2)
        hand_of_chance(floor.venue, chance, f"{name}x")
    floor.end(candle)


def assert_books_agree(floor: Floor, books: Books) -> None:
    """Wallet, position, its fees, its result and its guards are what the fills make of them."""
    venue = floor.venue
    position = venue.positions.get(BTC)
    assert near(venue.cash, books.cash)
    assert near(venue.realised.get(BTC, Decimal(0)), books.cash - 10000)
    assert Fraction(position.size if position else 0) == books.size
    assert near(position.open_fee if position else Decimal(0), books.entry_fees - books.released)
    assert near(venue.unrealised(BTC), books.size * (Fraction(repr(venue.last[BTC])) - books.price))
    if position:
        assert near(position.entry_price, books.price)
        assert near(position.realised, books.holding)
        for kind, guard in position.guards.items():
            asked = guard.asked
            assert (guard.status, guard.stop_order_type) == ("Untriggered", kind)
            assert (asked.qty, asked.side, asked.reduce_only) == (position.qty, OrderSide.closing(position.side), True)


def assert_told_everything(floor: Floor) -> None:
    """Who has listened from the beginning knows every live order as it is now, and no other."""
    heard = {event.order_id: event for event in floor.orders()}
    assert {name: one for name, one in heard.items() if one.open} == {
        one.order_id: one for one in floor.venue.open_orders()
    }


@settings(max_examples=60)
@given(st.integers(0, 2**32).map(Random))
def test_the_ledger_adds_up(chance: Random) -> None:
    """Whatever is asked for and whatever the bars do: wallet, fills, positions, orders and guards agree."""
    floor, books, heard = Floor(COSTLY), Books(), 0
    floor.bar(FLAT)
    for number_ in range(25):
        eventful_bar(floor, chance, f"n{number_}")
        for event in floor.told[heard:]:
            if isinstance(event, Fill):
                books.book(event)
        heard = len(floor.told)
        assert_books_agree(floor, books)
        assert_told_everything(floor)
    assert_orders_agree(floor)


def assert_orders_agree(floor: Floor) -> None:
    """What an order says of its fills is what its fills say; nothing that has ended is left to fill."""
    assert {one.order_id for one in floor.orders()}.isdisjoint(fill.exec_id for fill in floor.fills())
    for ended in floor.venue.keeper.closed_orders():
        fills = list(floor.venue.keeper.fills(order_id=ended.order_id))
        assert ended.filled == sum(fill.qty for fill in fills)
        assert ended.value == sum(fill.value for fill in fills)
        assert ended.fee == sum(fill.fee for fill in fills)
        assert bool(fills) is (ended.status == "Filled")
        assert ended.leaves == 0


def test_chance_leaves_nothing_out() -> None:
    """What the property above walks through: every kind of fill, flips, and every way in which an order ends."""
    chance, floor = Random(4), Floor(COSTLY)
    floor.bar(FLAT)
    for number_ in range(400):
        eventful_bar(floor, chance, f"n{number_}")
    assert {fill.stop_order_type for fill in floor.fills()} == {"", *StopKind}
    assert {fill.maker for fill in floor.fills()} == {True, False}
    assert len(floor.payments()) > 50
    assert any(0 < fill.closed < fill.qty for fill in floor.fills())
    ended = [one for one in floor.orders() if not one.open and one.status != "Triggered"]
    assert {one.status for one in ended} == {"Filled", "Cancelled", "Deactivated"}
    reasons = {one.cancel_type for one in ended} | {one.reject_reason for one in ended}
    assert reasons >= {BY_USER, REDUCE_ONLY_FLAT, "CancelByTpSlTsClear", POST_ONLY_CROSSED, "EC_NoImmediateQtyToFill"}


def test_a_fill_says_what_it_closed_and_what_that_had_cost() -> None:
    """3 sold out of 2 long at 1010: 2 are closed with their whole entry fee, 1 is opened with a third of this fee."""
    floor = floor_with_position(BUY, "2", terms=FEES)
    floor.venue.place(order(SELL, "3", link="flip"))
    floor.bar((1010, 1011, 1009, 1010))
    entry, flip = floor.fills()
    price = Decimal(1010) * Decimal("0.999")
    assert [flip.closed, flip.entry_value, flip.open_fee, flip.size_after] == [2, 2000, entry.fee, -1]
    assert (flip.pnl, flip.fee) == (2 * (price - 1000), 3 * price * Decimal("0.0005"))
    position = floor.venue.positions[BTC]
    assert position.open_fee == flip.fee / 3
    assert position.realised == -flip.fee / 3
    assert [flip.order_qty, flip.leaves, flip.order_type, flip.link_id] == [3, 0, "Market", "flip"]


# ---- the durable ledger --------------------------------------------------------------------------


class Shop(Floor):
    """A floor on a ledger file that can be closed and opened again at any moment."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file = self._file()
        super().__init__(COSTLY, keeper=self.file)

    def _file(self) -> LedgerFile:
        return LedgerFile(self._path, "market-1", lambda: "uid-1")

    def reopen(self) -> VenueState:
        """Kill it and start again; returns the state as it was before."""
        before = self.venue.state()
        self.file.close()
        self.file = self._file()
        self.venue = self.opened(self.file)
        assert self.file.state is not None
        self.venue.restore(self.file.state)
        return before


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """A shop on a new file."""
    made = Shop(tmp_path / "ledger.db")
    yield made
    made.file.close()


def assert_same_state(one: VenueState, other: VenueState) -> None:
    """Equal, value by value, the orders also in their order."""
    assert one == other
    assert list(one.orders) == list(other.orders)


@pytest.mark.parametrize("seed", range(3))
def test_killed_between_any_two_operations_it_is_as_it_was(shop: Shop, seed: int) -> None:
    """State, closed orders and fills come back equal, and it goes on like one that was never closed."""
    chance, twin_chance = Random(seed), Random(seed)
    twin = Floor(COSTLY)
    twin.bar(FLAT)
    shop.bar(FLAT)
    for number_ in range(60):
        hand_of_chance(shop.venue, chance, f"n{number_}")
        hand_of_chance(twin.venue, twin_chance, f"n{number_}")
        assert_same_state(shop.reopen(), shop.venue.state())
        shop.bar(chance_bar(chance, shop.venue.last[BTC]))
        assert_same_state(shop.reopen(), shop.venue.state())
        twin.bar(chance_bar(twin_chance, twin.venue.last[BTC]))
        assert_same_state(twin.venue.state(), shop.venue.state())
    kept, remembered = shop.venue.keeper, twin.venue.keeper
    assert len(list(kept.fills())) > 20
    assert list(kept.fills()) == list(remembered.fills())
    assert list(kept.closed_orders()) == list(remembered.closed_orders())
    assert [kept.find(f"n{n}") for n in range(60)] == [remembered.find(f"n{n}") for n in range(60)]


def test_a_position_comes_back_with_everything_that_guards_it(shop: Shop) -> None:
    """Stop, take profit and trailing stop are live after a restart: the same orders, and one of them ends the trade."""
    shop.bar(FLAT)
    shop.venue.place(order(BUY, "2", price="1000", stop="980", take="1050"))
    shop.bar(FLAT)
    shop.venue.protect(BTC, trailing=Decimal(15))
    shop.bar((1010, 1020, 1009, 1019))
    before = shop.reopen()
    assert {kind: guard.asked.trigger_price for kind, guard in before.positions[BTC].guards.items()} == {
        StopKind.STOP_LOSS: 980,
        StopKind.TAKE_PROFIT: 1050,
        StopKind.TRAILING: 1005,
    }
    assert shop.venue.positions == before.positions
    trailing = before.positions[BTC].guards[StopKind.TRAILING]
    assert shop.venue.order(trailing.order_id) == trailing
    shop.bar((1019, 1020, 1000, 1001))
    shop.reopen()
    assert shop.venue.positions == {}
    last, *_ = shop.venue.keeper.fills()
    assert (last.stop_order_type, last.order_id) == (StopKind.TRAILING, trailing.order_id)
    statuses = {one.stop_order_type: one.cancel_type for one in shop.venue.keeper.closed_orders()}
    assert statuses[StopKind.STOP_LOSS] == statuses[StopKind.TAKE_PROFIT] == "CancelByTpSlTsClear"


def test_a_bar_that_had_begun_is_not_settled_twice(shop: Shop) -> None:
    """Killed inside the bar of a settlement: the position pays once."""
    shop.bar(FLAT)
    shop.venue.place(order(BUY, "2", price="1000"))
    shop.bar(FLAT)
    cash = shop.venue.cash
    shop.begin(FLAT)
    paid = cash - shop.venue.cash
    assert paid == Decimal("0.2")
    shop.reopen()
    shop.bar(FLAT)
    assert shop.venue.cash == cash - paid
    assert len([one for one in shop.venue.keeper.fills() if one.kind is FillKind.FUNDING]) == 1


def test_a_bar_that_had_begun_fills_no_market_order_twice(shop: Shop) -> None:
    """Killed after the open has filled what was due."""
    shop.bar(FLAT)
    shop.venue.place(order(BUY, "2"))
    shop.begin(FLAT)
    shop.reopen()
    shop.bar(FLAT)
    shop.bar(FLAT)
    assert shop.venue.positions[BTC].qty == 2


def test_another_market_format_or_a_finished_one_begins_a_new_account(tmp_path: Path) -> None:
    """Nobody mistakes one ledger's state for another's."""
    path = tmp_path / "deep" / "ledger.db"
    uids = iter(["first", "second", "third", "fourth"])

    def begin(key: str) -> LedgerFile:
        return LedgerFile(path, key, lambda: next(uids))

    ledger = begin("a")
    floor = Floor(COSTLY, keeper=ledger)
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "1", price="1000.1"))
    assert len(list(ledger.fills())) == 1
    ledger.close()

    again = begin("a")
    assert (again.uid, again.state is None) == ("first", False)
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()

    other = begin("b")
    assert (other.uid, other.state, other.find("one")) == ("second", None, None)
    assert (list(other.fills()), list(other.closed_orders())) == ([], [])
    other.finish()
    other.close()

    after = begin("b")
    assert (after.uid, after.state) == ("third", None)
    after.close()

    tampered(path, "UPDATE market SET key = 'b'")  # as a version without formats would have written it
    older = begin("b")
    assert (older.uid, older.state) == ("fourth", None)
    older.close()


def tampered(path: Path, statement: str) -> None:
    """Somebody else writes into the file."""
    with sqlite3.connect(path) as other:
        other.execute(statement)
    other.close()


def test_a_damaged_file_is_refused_with_one_line(tmp_path: Path) -> None:
    """No database, or one whose state cannot be read: the file is named, and what to do."""
    nonsense = tmp_path / "nonsense.db"
    nonsense.write_bytes(b"not a database at all" * 1000)
    unreadable = tmp_path / "unreadable.db"
    LedgerFile(unreadable, "k", lambda: "u").close()
    tampered(unreadable, """UPDATE market SET state = '{"cash": "plenty"}'""")
    for path in (nonsense, unreadable):
        with pytest.raises(Misconfigured) as caught:
            LedgerFile(path, "k", lambda: "u")
        assert str(caught.value).count("\n") == 0
        assert str(path) in str(caught.value)


def test_what_was_told_has_been_kept(tmp_path: Path) -> None:
    """A listener that looks into the file finds the fill that it hears of."""
    ledger = LedgerFile(tmp_path / "l.db", "k", lambda: "u")
    floor = Floor(COSTLY, keeper=ledger)
    found: list[bool] = []

    def look(events: Sequence[Fill | Order]) -> None:
        kept = LedgerFile(tmp_path / "l.db", "k", lambda: "u")
        found.extend(event in list(kept.fills()) for event in events if isinstance(event, Fill))
        kept.close()

    floor.venue.listener = look
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "1"))
    floor.bar(FLAT)
    ledger.close()
    assert found == [True]


@pytest.fixture(params=["memory", "file"])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeper]:
    """Both ways of keeping."""
    if request.param == "memory":
        yield MemoryKeeper()
        return
    file = LedgerFile(tmp_path / "ledger.db", "k", lambda: "u")
    yield file
    file.close()


ETH = "ETHUSDT"


def two_markets(keeper: Keeper) -> Floor:
    """Round trips on two symbols: an entry and an exit each, bar by bar, and an order without a link id."""
    known = {BTC: instrument(), ETH: instrument(ETH)}
    floor = Floor(keeper=keeper, instruments=known, interval=timedelta(hours=1))  # no settlement while they are open
    floor.bar(FLAT)
    floor.bar(FLAT, ETH)
    for side, link in ((BUY, "in"), (SELL, "out")):
        for symbol in (BTC, ETH):
            floor.venue.place(order(side, "1", link=f"{symbol}-{link}", symbol=symbol))
            floor.bar(FLAT, symbol)
    floor.venue.place(order(BUY, "1", price="900", link=""))
    floor.venue.cancel_all()
    return floor


def test_closed_orders_and_fills_come_newest_first(keeper: Keeper) -> None:
    """All of them, or those of a symbol."""
    floor = two_markets(keeper)
    links = ["ETHUSDT-out", "BTCUSDT-out", "ETHUSDT-in", "BTCUSDT-in"]
    assert [fill.link_id for fill in keeper.fills()] == links
    assert list(keeper.fills()) == floor.fills()[::-1]
    assert [fill.link_id for fill in keeper.fills(ETH)] == links[::2]
    assert [one.asked.link_id for one in keeper.closed_orders()] == ["", *links]
    assert [one.asked.link_id for one in keeper.closed_orders(BTC)] == ["", *links[1::2]]
    assert list(keeper.closed_orders("XRPUSDT")) == []


def test_fills_are_chosen_by_time_and_by_order(keeper: Keeper) -> None:
    """Both bounds belong to the span; ids choose one order's fills."""
    fills = two_markets(keeper).fills()[::-1]
    assert list(keeper.fills(since=fills[1].at, until=fills[1].at)) == [fills[1]]
    assert list(keeper.fills(since=fills[2].at)) == fills[:3]
    assert list(keeper.fills(BTC, until=fills[1].at)) == fills[1::2]
    assert list(keeper.fills(order_id=fills[3].order_id)) == [fills[3]]
    assert list(keeper.fills(link_id="ETHUSDT-in")) == [fills[2]]
    assert list(keeper.fills(BTC, link_id="ETHUSDT-in")) == []


def test_a_closed_order_is_found_by_either_id(keeper: Keeper) -> None:
    """As it ended; nothing is nobody."""
    floor = two_markets(keeper)
    for ended in keeper.closed_orders():
        assert keeper.order(ended.order_id) == ended
        assert floor.venue.order(ended.order_id) == ended
        assert ended.asked.link_id == "" or keeper.find(ended.asked.link_id) == ended
    assert (keeper.find(""), keeper.find("nobody"), keeper.order("nobody")) == (None, None, None)


def test_memory_keeps_the_recent_past_only() -> None:
    """A long replay does not grow with its trades."""
    keeper = MemoryKeeper(recent=2)
    two_markets(keeper)
    assert [one.asked.link_id for one in keeper.closed_orders()] == ["", "ETHUSDT-out"]
    assert [fill.link_id for fill in keeper.fills()] == ["ETHUSDT-out", "BTCUSDT-out"]
    assert keeper.find("BTCUSDT-in") is None


def test_a_long_bar_settles_then_fills_in_the_order_of_time(shop: Shop) -> None:
    """A 24-hour bar pays three times at its beginning, then the due exit fills at its open."""
    shop.interval = timedelta(days=1)
    shop.bar(FLAT)
    shop.venue.place(order(BUY, "2", price="1000", link="in"))
    shop.bar(FLAT)
    shop.venue.place(order(SELL, "2", link="out", reduce_only=True))
    shop.bar(FLAT)
    kinds = [fill.kind for fill in shop.venue.keeper.fills()]
    assert kinds == [FillKind.TRADE, *[FillKind.FUNDING] * 3, FillKind.TRADE]
    assert [fill for fill in shop.told if isinstance(fill, Fill)] == list(shop.venue.keeper.fills())[::-1]
