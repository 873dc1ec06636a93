"""The venue by hand: every step of a bar with its money worked out, and a ledger that always adds up.

The stage: BTCUSDT, ticks of 0.1, four-hour bars from a settlement on. Without costs unless a test names them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.trading.rig import BTC, COSTLY, FOUR_HOURS, NO_FEES, START_MS, Floor, Row, instrument, order, series_of
from trading.exchange.simulated.ledger import LedgerFile
from trading.exchange.simulated.venue import (
    BY_USER,
    POST_ONLY_CROSSED,
    REDUCE_ONLY_FLAT,
    Venue,
    VenueRefusal,
)
from trading.model import Candle, ExchangeOrder, Execution, OrderSide, Purpose, Side, utc
from trading.parameters import AccountTerms

BUY, SELL = OrderSide.BUY, OrderSide.SELL
FLAT: Row = (1000, 1001, 999, 1000)
FEES = AccountTerms(maker_fee=0.0002, taker_fee=0.0005, slippage=0.001, funding_rate=0.0)
FUNDED = AccountTerms(maker_fee=0.0, taker_fee=0.0, slippage=0.0, funding_rate=0.0001)
START_CASH = Decimal(10000)


def floor_with_position(
    side: OrderSide = BUY, qty: str = "2", *, terms: AccountTerms = NO_FEES, stop: str | None = None, **more: Any
) -> Floor:
    """A floor whose second bar has filled an entry at 1000; the next bar is the third."""
    floor = Floor(terms, **more)
    floor.bar(FLAT)
    floor.venue.place(order(side, qty, price="1000", stop=stop, link="entry"))
    floor.bar((1000, 1001, 999, 1000))
    assert floor.venue.positions[BTC].qty == Decimal(qty)
    return floor


def refused(floor: Floor, asked: Any) -> int:
    """The code of a refusal."""
    with pytest.raises(VenueRefusal) as caught:
        floor.venue.place(asked)
    return caught.value.code


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
    floor.venue.tick(BTC, 1006.0)
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
    assert (exit_fill.purpose, exit_fill.link_id, exit_fill.maker) == (Purpose.STOP, "", False)
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
    assert floor.fills()[-1].purpose is Purpose.STOP
    ended = floor.venue.find("tp")
    assert ended is not None
    assert (ended.status, ended.reason) == ("Cancelled", REDUCE_ONLY_FLAT)
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
    assert placed.reason == (POST_ONLY_CROSSED if crosses else "")


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
    assert refused(floor, order(SELL, "1", reduce_only=True)) == 110017
    floor = floor_with_position(BUY)
    assert refused(floor, order(BUY, "1", reduce_only=True)) == 110017


def test_reduce_only_is_clamped_to_the_position() -> None:
    """Asked for 5, there are 2: 2 are sold and nobody is short."""
    floor = floor_with_position(BUY, "2")
    assert floor.venue.place(order(SELL, "5", reduce_only=True, link="exit")).qty == 2
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
    ended = floor.venue.find("tp")
    assert ended is not None
    assert ended.reason == REDUCE_ONLY_FLAT


def test_what_is_malformed_is_refused_by_its_code() -> None:
    """Duplicate id, unknown symbol, off the step, off the tick, too small, no price, no quantity."""
    floor = Floor()
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "1", price="900"))
    assert refused(floor, order(BUY, "1", price="901")) == 110072
    assert refused(floor, order(BUY, "1", link="two", symbol="DOGEUSDT")) == 10001
    assert refused(floor, order(BUY, "1.0005", link="two")) == 10001
    assert refused(floor, order(BUY, "1", price="900.05", link="two")) == 10001
    assert refused(floor, order(BUY, "0", link="two")) == 10001
    assert refused(floor, order(BUY, "-1", link="two")) == 10001
    assert refused(floor, order(BUY, "1", price="0", link="two")) == 10001
    assert refused(floor, order(BUY, "0.004", link="two")) == 110094
    assert len(floor.venue.orders) == 1


def test_a_duplicate_id_is_known_after_the_order_has_closed() -> None:
    """A link id is used once, for ever."""
    floor = floor_with_position()
    assert refused(floor, order(BUY, "1", price="900", link="entry")) == 110072


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
        assert refused(floor, asked) == 10001
        assert floor.venue.orders == {}


def test_a_stop_moves_only_on_its_side_of_the_last_price() -> None:
    """Refused, the old one stays; the same one again is no failure; without a position there is none."""
    floor = floor_with_position(BUY, stop="980")
    floor.venue.move_stop(BTC, Decimal(990))
    floor.venue.move_stop(BTC, Decimal(990))
    with pytest.raises(VenueRefusal):
        floor.venue.move_stop(BTC, Decimal(1000))
    assert floor.venue.positions[BTC].stop == 990
    floor.bar((985, 986, 984, 985))
    with pytest.raises(VenueRefusal):
        floor.venue.move_stop(BTC, Decimal(990))


def test_margin_counts_positions_and_resting_entries() -> None:
    """At leverage 5 without fees 10,000 carry 50,000: 30 coins at 1000 leave room for 20."""
    floor = Floor()
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "30", price="1000", link="a"))
    assert refused(floor, order(BUY, "20.001", price="1000", link="b")) == 110007
    floor.venue.place(order(BUY, "20", price="1000", link="c"))
    assert floor.venue.available == 0
    floor.venue.cancel(BTC, "c")
    assert floor.venue.available == 4000


def test_a_cancelled_order_is_gone_and_cancelling_again_tells_how_it_ended() -> None:
    """Cancelled, or filled when the fill came first; an unknown one is refused."""
    floor = floor_with_position()
    assert floor.venue.cancel(BTC, "entry").status == "Filled"
    floor.venue.place(order(BUY, "1", price="900", link="rest"))
    assert floor.venue.cancel(BTC, "rest").reason == BY_USER
    assert floor.venue.cancel(BTC, "rest").status == "Cancelled"
    with pytest.raises(VenueRefusal):
        floor.venue.cancel(BTC, "nobody")
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
    ends = [one.status for one in floor.told if isinstance(one, ExchangeOrder) and one.link_id == "b"]
    assert ends == ["New", "Cancelled"]


def test_a_cancelled_exit_never_fills() -> None:
    """Exit, new entry, second exit, all due at one open: the second is cancelled with the first."""
    floor = floor_with_position(BUY, "2")
    floor.venue.place(order(SELL, "2", link="a", reduce_only=True))
    floor.venue.place(order(BUY, "1", link="again"))
    floor.venue.place(order(SELL, "2", link="b", reduce_only=True))
    floor.bar(FLAT)
    ended = floor.venue.find("b")
    assert ended is not None
    filled = [fill.link_id for fill in floor.fills()]
    assert ended.status == ("Filled" if "b" in filled else "Cancelled")
    statuses = [one.status for one in floor.told if isinstance(one, ExchangeOrder) and one.link_id == "b"]
    assert len(statuses) == 2, statuses


def test_an_order_of_another_symbol_is_not_cancelled_by_name() -> None:
    """A cancel names symbol and id; both must fit."""
    floor = Floor(instruments={BTC: instrument(), "ETHUSDT": instrument("ETHUSDT")})
    floor.bar(FLAT)
    floor.venue.place(order(BUY, "1", price="900", link="btc"))
    with pytest.raises(VenueRefusal):
        floor.venue.cancel("ETHUSDT", "btc")
    assert len(floor.venue.orders) == 1


# ---- the ledger identity -------------------------------------------------------------------------


@dataclass(slots=True)
class Books:
    """A second set of books, kept from executions alone, in exact fractions."""

    cash: Fraction = Fraction(10000)
    fees: Fraction = Fraction(0)
    funding: Fraction = Fraction(0)
    realised: Fraction = Fraction(0)
    qty: dict[str, Fraction] = field(default_factory=dict)
    price: dict[str, Fraction] = field(default_factory=dict)

    def book(self, one: Execution) -> None:
        """Weighted average cost; what closes is realised."""
        if one.funding:
            self.funding += Fraction(one.fee)
            return
        self.fees += Fraction(one.fee)
        signed, at = one.side.sign * Fraction(one.qty), Fraction(one.price)
        held, paid = self.qty.get(one.symbol, Fraction(0)), self.price.get(one.symbol, Fraction(0))
        if held * signed < 0:
            closing = min(abs(held), abs(signed))
            self.realised += closing * (at - paid) * (1 if held > 0 else -1)
        total = held + signed
        if held * signed >= 0 and total:
            self.price[one.symbol] = (paid * abs(held) + at * abs(signed)) / abs(total)
        elif held * total < 0:
            self.price[one.symbol] = at
        self.qty[one.symbol] = total


def random_request(rng: np.random.Generator, floor_last: float, number: int) -> Any:
    """Any order that somebody could think of; many are refused."""
    side = BUY if rng.random() < 0.5 else SELL
    price = None if rng.random() < 0.4 else f"{floor_last * (1 + rng.normal(0, 0.004)):.1f}"
    base = float(price) if price else floor_last
    stop = None if rng.random() < 0.5 else f"{base * (1 - side.sign * rng.uniform(0.002, 0.01)):.1f}"
    reduce_only = bool(rng.random() < 0.35)
    return order(
        side,
        f"{rng.uniform(0.01, 4):.3f}",
        price=price,
        link=f"n{number}",
        stop=None if reduce_only else stop,
        reduce_only=reduce_only,
        post_only=bool(rng.random() < 0.3),
    )


def hand_of_chance(venue: Venue, rng: np.random.Generator, number: int) -> None:
    """One request: mostly orders, some cancels, some moves of the stop."""
    what = rng.random()
    try:
        if what < 0.7:
            venue.place(random_request(rng, venue.last[BTC], number))
        elif what < 0.85:
            venue.cancel(BTC, f"n{rng.integers(0, number + 1)}")
        else:
            venue.move_stop(BTC, Decimal(f"{venue.last[BTC] * (1 + rng.normal(0, 0.01)):.1f}"))
    except VenueRefusal:
        pass


def chance_bar(rng: np.random.Generator, open_: float) -> Row:
    """A bar of about one percent."""
    close = open_ * (1 + rng.normal(0, 0.006))
    high = max(open_, close) * (1 + rng.exponential(0.003))
    low = min(open_, close) * (1 - rng.exponential(0.003))
    return (round(open_, 1), round(high, 1), round(low, 1), round(close, 1))


@pytest.mark.parametrize("seed", range(12))
def test_the_ledger_adds_up(seed: int) -> None:
    """Cash is what was there, plus realised, less fees, less funding, after every operation, to 1e-12."""
    rng = np.random.default_rng(seed)
    floor, books, heard = Floor(COSTLY), Books(), 0
    floor.bar(FLAT)
    number = 0
    for _ in range(60):
        for _ in range(int(rng.integers(0, 4))):
            number += 1
            hand_of_chance(floor.venue, rng, number)
        candle = floor.begin(chance_bar(rng, floor.venue.last[BTC]))
        if rng.random() < 0.5:
            floor.venue.tick(BTC, round((candle.high + candle.low) / 2, 1))
            number += 1
            hand_of_chance(floor.venue, rng, number)
        floor.end(candle)
        for one in floor.told[heard:]:
            if isinstance(one, Execution):
                books.book(one)
        heard = len(floor.told)
        expected = books.cash + books.realised - books.fees - books.funding
        assert abs(Fraction(floor.venue.cash) - expected) < Fraction(1, 10**12)
        position = floor.venue.positions.get(BTC)
        held = position.side.sign * position.qty if position else Decimal(0)
        assert books.qty.get(BTC, Fraction(0)) == Fraction(held)
        assert all(one.request.symbol == BTC for one in floor.venue.orders.values())
    assert len(floor.fills()) > 20


def test_ids_are_never_used_twice() -> None:
    """Order ids and execution ids are unique over a whole life."""
    rng = np.random.default_rng(1)
    floor = Floor(COSTLY)
    floor.bar(FLAT)
    for number in range(200):
        hand_of_chance(floor.venue, rng, number)
        floor.bar(chance_bar(rng, floor.venue.last[BTC]))
    executions = [one.exec_id for one in floor.told if isinstance(one, Execution)]
    assert len(executions) == len(set(executions)) > 50


# ---- the durable ledger --------------------------------------------------------------------------


class Shop:
    """A venue on a ledger file that can be closed and opened again at any moment."""

    def __init__(self, path: Path, key: str = "market-1", terms: AccountTerms = COSTLY) -> None:
        self._path, self._key, self._terms, self._uids = path, key, terms, iter(f"uid-{n}" for n in range(9999))
        self.told: list[Any] = []
        self.open()

    def open(self) -> None:
        """Start on what the file says."""
        self.file = LedgerFile(self._path, self._key, lambda: f"{self._path.name}-{next(self._uids)}")
        self.venue = Venue({BTC: instrument()}, self._terms, self.file, listener=self.told.append)
        if self.file.state is not None:
            self.venue.restore(self.file.state)

    def reopen(self) -> dict[str, Any]:
        """Kill it and start again; returns the state as it was before."""
        before = self.venue.state()
        self.file.close()
        self.open()
        return before


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    """A shop on a new file."""
    made = Shop(tmp_path / "ledger.db")
    yield made
    made.file.close()


@pytest.mark.parametrize("seed", range(3))
def test_killed_between_any_two_operations_it_is_as_it_was(shop: Shop, seed: int) -> None:
    """State, closed orders and executions come back equal, and it goes on like one that was never closed."""
    rng, twin_rng = np.random.default_rng(seed), np.random.default_rng(seed)
    twin = Floor(COSTLY)
    twin.bar(FLAT)
    bar = series_of([FLAT]).candle(0)
    whole_bar(shop.venue, bar)
    opened = START_MS
    for number in range(60):
        hand_of_chance(shop.venue, rng, number)
        hand_of_chance(twin.venue, twin_rng, number)
        assert_same_state(shop.reopen(), shop.venue.state())
        row = chance_bar(rng, shop.venue.last[BTC])
        opened += FOUR_HOURS // timedelta(milliseconds=1)
        candle = series_of([row], start_ms=opened).candle(0)
        whole_bar(shop.venue, candle)
        assert_same_state(shop.reopen(), shop.venue.state())
        twin.bar(chance_bar(twin_rng, twin.venue.last[BTC]))
        assert_same_state(twin.venue.state(), shop.venue.state())
    since = utc(START_MS)
    assert sorted(shop.venue.executions(BTC, since), key=number_of) == twin.venue.executions(BTC, since)
    assert [shop.venue.find(f"n{n}") for n in range(60)] == [twin.venue.find(f"n{n}") for n in range(60)]


def number_of(one: Execution) -> int:
    """Its place in the venue's own sequence."""
    return int(one.exec_id[1:])


def whole_bar(venue: Venue, candle: Candle) -> None:
    """Begin, end, commit."""
    venue.begin_bar(candle.symbol, candle.open_time, candle.interval, candle.open)
    venue.end_bar(candle)
    venue.commit()


def assert_same_state(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Equal, value by value."""
    assert one == other


def test_a_bar_that_had_begun_is_not_settled_twice(shop: Shop) -> None:
    """Killed inside the bar of a settlement: the position pays once."""
    first, second, third = series_of([FLAT, FLAT, FLAT]).candles()
    whole_bar(shop.venue, first)
    shop.venue.place(order(BUY, "2", price="1000"))
    whole_bar(shop.venue, second)
    cash = shop.venue.cash
    shop.venue.begin_bar(BTC, third.open_time, third.interval, third.open)
    shop.venue.commit()
    paid = cash - shop.venue.cash
    assert paid == Decimal("0.2")
    shop.reopen()
    whole_bar(shop.venue, third)
    assert shop.venue.cash == cash - paid
    assert len([one for one in shop.venue.executions(BTC, utc(START_MS)) if one.funding]) == 1


def test_a_bar_that_had_begun_fills_no_market_order_twice(shop: Shop) -> None:
    """Killed after the open has filled what was due."""
    first, second, third = series_of([FLAT, FLAT, FLAT]).candles()
    whole_bar(shop.venue, first)
    shop.venue.place(order(BUY, "2"))
    shop.venue.begin_bar(BTC, second.open_time, second.interval, second.open)
    shop.venue.commit()
    shop.reopen()
    whole_bar(shop.venue, second)
    whole_bar(shop.venue, third)
    assert shop.venue.positions[BTC].qty == 2


def test_executions_come_in_the_order_in_which_they_happened(shop: Shop) -> None:
    """A 24-hour bar pays three times at its beginning, then the due exit fills at its open."""
    rows = series_of([FLAT, FLAT, FLAT], interval=timedelta(days=1))
    first, second, third = rows.candles()
    whole_bar(shop.venue, first)
    shop.venue.place(order(BUY, "2", price="1000", link="in"))
    whole_bar(shop.venue, second)
    shop.venue.place(order(SELL, "2", link="out", reduce_only=True))
    whole_bar(shop.venue, third)
    told = [one.exec_id for one in shop.told if isinstance(one, Execution)]
    assert len(told) == 5
    assert [one.exec_id for one in shop.venue.executions(BTC, utc(START_MS))] == told


Begin = Callable[[Path], LedgerFile]


def test_another_market_or_a_finished_one_begins_a_new_account(tmp_path: Path) -> None:
    """Nobody mistakes one ledger's state for another's."""
    path = tmp_path / "deep" / "ledger.db"
    uids = iter(["first", "second", "third"])

    def begin(key: str) -> LedgerFile:
        return LedgerFile(path, key, lambda: next(uids))

    ledger = begin("a")
    venue = Venue({BTC: instrument()}, COSTLY, ledger)
    whole_bar(venue, series_of([FLAT]).candle(0))
    venue.place(order(BUY, "1", price="900"))
    ledger.close()

    again = begin("a")
    assert (again.uid, again.state is None) == ("first", False)
    assert path.stat().st_mode & 0o777 == 0o600
    again.close()

    other = begin("b")
    assert (other.uid, other.state, other.find("one")) == ("second", None, None)
    other.finish()
    other.close()

    after = begin("b")
    assert (after.uid, after.state) == ("third", None)
    after.close()


def test_what_was_told_has_been_kept(tmp_path: Path) -> None:
    """A listener that looks into the file finds the execution that it hears of."""
    ledger = LedgerFile(tmp_path / "l.db", "k", lambda: "u")
    found: list[bool] = []

    def look(event: Any) -> None:
        if isinstance(event, Execution):
            kept = LedgerFile(tmp_path / "l.db", "k", lambda: "u")
            found.append(event in kept.executions(BTC, utc(0)))
            kept.close()

    venue = Venue({BTC: instrument()}, COSTLY, ledger, listener=look)
    first, second = series_of([FLAT, FLAT]).candles()
    whole_bar(venue, first)
    venue.place(order(BUY, "1"))
    whole_bar(venue, second)
    ledger.close()
    assert found == [True]
