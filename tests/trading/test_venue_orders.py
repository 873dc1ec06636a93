"""The venue's orders as Bybit has them: how long they live, what wakes them, what changes them, what guards a position.

The stage is that of `test_venue`: BTCUSDT around 1000, ticks of 0.1, and no costs unless a test names them.
"""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from tests.trading.rig import BTC, FEES, FLAT, Floor, Row, code_of, floor_with_position, instrument, order
from trading.exchange.simulated.books import Fill, Order, StopKind, TimeInForce
from trading.exchange.simulated.venue import BY_USER, POST_ONLY_CROSSED
from trading.model import OrderSide, Side

BUY, SELL = OrderSide.BUY, OrderSide.SELL
LOSS, GAIN, TRAILING = StopKind.STOP_LOSS, StopKind.TAKE_PROFIT, StopKind.TRAILING
FILLED = ("Filled", "UNKNOWN", "EC_NoError")
CLEARED = "CancelByTpSlTsClear"
ETH = "ETHUSDT"
TWO = {BTC: instrument(), ETH: instrument(ETH)}


def floor_at_1000(**more: Any) -> Floor:
    """A floor between bars, the last price 1000, the book 999.9 to 1000.1."""
    floor = Floor(**more)
    floor.bar(FLAT)
    return floor


def conditional(side: OrderSide, *, rises_to: str | None = None, falls_to: str | None = None, **more: Any) -> Floor:
    """A floor on which one conditional order waits."""
    floor = floor_at_1000(terms=FEES)
    placed = floor.venue.place(order(side, "1", rises_to=rises_to, falls_to=falls_to, **more))
    assert (placed.status, placed.stop_order_type) == ("Untriggered", StopKind.OWN)
    return floor


# ---- how long an order may wait ------------------------------------------------------------------


@pytest.mark.parametrize("lasts", [TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK])
@pytest.mark.parametrize(("side", "limit", "price"), [(BUY, "1005", "1000.1"), (SELL, "995", "999.9")])
def test_a_limit_that_crosses_takes_at_the_touch(side: OrderSide, limit: str, price: str, lasts: TimeInForce) -> None:
    """The whole of it, at the best price of the other side and as a taker."""
    floor = floor_at_1000(terms=FEES)
    floor.venue.place(order(side, "1", price=limit, lasts=lasts))
    (fill,) = floor.fills()
    assert (fill.price, fill.maker, fill.fee) == (Decimal(price), False, Decimal(price) * Decimal("0.0005"))
    assert floor.statuses("one") == ["New", "Filled"]


@pytest.mark.parametrize(
    ("lasts", "told", "why"),
    [
        (TimeInForce.GTC, ["New"], "EC_NoError"),
        (TimeInForce.POST_ONLY, ["New"], "EC_NoError"),
        (TimeInForce.IOC, ["New", "Cancelled"], "EC_NoImmediateQtyToFill"),
        (TimeInForce.FOK, ["New", "Cancelled"], "EC_NoImmediateQtyToFill"),
    ],
)
def test_a_limit_with_nothing_to_take_rests_or_ends(lasts: TimeInForce, told: list[str], why: str) -> None:
    """Who may wait rests in the book; who may not is accepted and cancelled with nothing filled."""
    floor = floor_at_1000()
    placed = floor.venue.place(order(BUY, "1", price="999", lasts=lasts))
    assert floor.statuses("one") == told
    assert (placed.reject_reason, placed.cancel_type, placed.filled) == (why, "UNKNOWN", Decimal(0))
    assert len(floor.venue.orders) == 2 - len(told)


def test_a_post_only_that_would_take_is_cancelled() -> None:
    """Accepted, then cancelled by the exchange with its reason; it has no more to fill."""
    floor = floor_at_1000()
    placed = floor.venue.place(order(SELL, "1", price="999.9", post_only=True))
    assert floor.ending("one") == ("Cancelled", "UNKNOWN", POST_ONLY_CROSSED)
    assert [placed.filled, placed.leaves, floor.fills()] == [0, 0, []]


# ---- conditional orders --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waits", "bar", "price"),
    [
        ({"rises_to": "1010"}, (1000, 1009.9, 990, 1005), None),
        ({"rises_to": "1010"}, (1000, 1010, 990, 1005), "1010"),
        ({"rises_to": "1010"}, (1012, 1015, 1011, 1013), "1012"),  # gapped over it
        ({"falls_to": "990"}, (1000, 1010, 990.1, 995), None),
        ({"falls_to": "990"}, (1000, 1010, 990, 995), "990"),
        ({"falls_to": "990"}, (985, 989, 984, 986), "985"),
    ],
)
@pytest.mark.parametrize(("side", "slip"), [(BUY, "1.001"), (SELL, "0.999")])
def test_a_trigger_that_is_reached_wakes_a_market_order(
    waits: dict[str, str], bar: Row, price: str | None, side: OrderSide, slip: str
) -> None:
    """At the trigger, or at the open beyond it, slippage against it; short of it by a tick it sleeps on."""
    floor = conditional(side, **waits)
    floor.bar(bar)
    expected = [] if price is None else [(Decimal(price) * Decimal(slip), False, StopKind.OWN)]
    assert [(fill.price, fill.maker, fill.stop_order_type) for fill in floor.fills()] == expected
    assert floor.statuses("one") == ["Untriggered", "Triggered", "Filled"][: 3 if price else 1]


def test_a_limit_rests_once_it_is_triggered() -> None:
    """It does not fill in the bar that wakes it; from the next bar on it is a limit like any other."""
    floor = conditional(BUY, rises_to="1010", price="1005")
    floor.bar((1000, 1012, 1000, 1008))
    assert floor.statuses("one") == ["Untriggered", "Triggered", "New"]
    assert floor.fills() == []
    floor.bar((1008, 1009, 1005, 1006))
    assert floor.fills() == []
    floor.bar((1008, 1009, 1004.9, 1006))
    assert [(fill.price, fill.maker) for fill in floor.fills()] == [(Decimal(1005), True)]
    assert floor.ending("one") == FILLED


def test_a_sleeping_order_binds_no_margin_and_never_fills() -> None:
    """A limit price that the market goes through means nothing before the trigger."""
    floor = conditional(BUY, rises_to="1010", price="995")
    assert floor.venue.available == 10000
    floor.bar((1000, 1001, 980, 985))
    assert floor.fills() == []
    assert floor.venue.available == 10000


def test_a_triggered_order_brings_its_stop() -> None:
    """What is attached protects the position from its first fill on."""
    floor = conditional(BUY, rises_to="1010", stop="1000", take="1030")
    floor.bar((1005, 1011, 1004, 1010))
    position = floor.venue.positions[BTC]
    assert (position.stop, position.take_profit) == (Decimal(1000), Decimal(1030))


def test_a_reduce_only_trigger_closes_what_there_is() -> None:
    """Taken while flat; at its trigger it sells the position and no more."""
    floor = floor_at_1000()
    floor.venue.place(order(SELL, "5", falls_to="990", reduce_only=True, link="own stop"))
    floor.venue.place(order(BUY, "2", link="entry"))
    floor.bar(FLAT)
    floor.bar((995, 996, 989, 995))
    assert floor.venue.positions == {}
    assert [fill.qty for fill in floor.fills()] == [2, 2]


def test_a_reduce_only_order_is_cut_to_what_is_left() -> None:
    """Bybit shrinks it: Filled means that its whole quantity was filled, with nothing left on the execution."""
    floor = floor_with_position(BUY, "2")
    floor.venue.place(order(SELL, "2", price="1020", link="target", reduce_only=True))
    floor.venue.place(order(SELL, "1", link="part", reduce_only=True))
    floor.bar((1000, 1030, 999, 1000))
    target = floor.venue.find("target")
    assert target is not None
    assert (target.status, target.filled, target.asked.qty) == ("Filled", Decimal(1), Decimal(1))
    assert floor.fills()[-1].leaves == 0


@pytest.mark.parametrize("held", [None, SELL])
def test_a_reduce_only_trigger_with_nothing_to_reduce_is_cancelled(held: OrderSide | None) -> None:
    """Flat, or the position is on the order's own side: it wakes and ends, and opens nothing."""
    floor = floor_with_position(held) if held else floor_at_1000()
    floor.venue.place(order(SELL, "1", falls_to="990", reduce_only=True, link="own stop"))
    before = len(floor.fills())
    floor.bar((995, 996, 989, 990))
    assert floor.statuses("own stop") == ["Untriggered", "Triggered", "Cancelled"]
    assert floor.ending("own stop")[1] == "CancelByReduceOnly"
    assert len(floor.fills()) == before


@pytest.mark.parametrize(
    ("waits", "code"),
    [
        ({"rises_to": "1000"}, 110092),
        ({"rises_to": "999.9"}, 110092),
        ({"falls_to": "1000"}, 110093),
        ({"falls_to": "1000.1"}, 110093),
    ],
)
def test_a_trigger_that_has_passed_is_refused(waits: dict[str, str], code: int) -> None:
    """The price must still rise, or fall, to it."""
    floor = floor_at_1000()
    assert floor.refused(order(BUY, "1", **waits)) == code  # type: ignore[arg-type]
    assert (floor.venue.orders, floor.told) == ({}, [])


@pytest.mark.parametrize(("qty", "filled"), [("30", True), ("49.995", True), ("49.996", False)])
def test_margin_is_asked_for_at_the_trigger(qty: str, filled: bool) -> None:
    """10,000 at leverage 5 carry 49.995 coins at 1000.1: more is taken into the books, and cancelled when it wakes."""
    floor = floor_at_1000()
    floor.venue.place(order(BUY, qty, rises_to="1000.1", link="large"))
    floor.bar((1000, 1000.1, 1000, 1000))
    cancelled = ("Cancelled", "CancelByNoMargin", "EC_Others")
    assert floor.ending("large") == (FILLED if filled else cancelled)
    assert (BTC in floor.venue.positions) is filled


def test_at_most_ten_orders_sleep_on_one_symbol() -> None:
    """The eleventh is refused; plain orders and other symbols are not; a cancelled one makes room."""
    floor = floor_at_1000(instruments=TWO)
    floor.bar(FLAT, ETH)
    for name in range(10):
        floor.venue.place(order(BUY, "0.1", rises_to="1010", link=f"n{name}"))
    eleventh = order(BUY, "0.1", rises_to="1010", link="eleventh")
    assert floor.refused(eleventh) == 110009
    floor.venue.place(order(BUY, "0.1", price="990", link="plain"))
    floor.venue.place(order(BUY, "0.1", rises_to="1010", link="other", symbol=ETH))
    floor.venue.cancel(BTC, link_id="n3")
    floor.venue.place(eleventh)
    assert len(floor.venue.open_orders(BTC)) == 11


def test_at_most_five_hundred_orders_rest_on_one_symbol() -> None:
    """The next one is refused."""
    floor = floor_at_1000()
    for name in range(500):
        floor.venue.place(order(BUY, "0.01", price="900", link=f"n{name}"))
    assert floor.refused(order(BUY, "0.01", price="900", link="more")) == 110020


# ---- amending ------------------------------------------------------------------------------------


def floor_with_limit(**more: Any) -> Floor:
    """A floor on which 1 is bid for at 990."""
    floor = floor_at_1000()
    floor.venue.place(order(BUY, "1", price="990", **more))
    return floor


def test_an_amended_order_is_the_same_order() -> None:
    """Quantity (the new total) and price change, ids stay; it is told as it is now, and it fills so."""
    floor = floor_with_limit()
    (placed,) = floor.venue.orders.values()
    floor.venue.amend(BTC, order_id=placed.order_id, qty=Decimal(3))
    amended = floor.venue.amend(BTC, link_id="one", price=Decimal(995))
    assert (amended.order_id, amended.status) == (placed.order_id, "New")
    assert [(told.asked.qty, told.asked.price, told.status) for told in floor.orders()] == [
        (Decimal(1), Decimal(990), "New"),
        (Decimal(3), Decimal(990), "New"),
        (Decimal(3), Decimal(995), "New"),
    ]
    floor.bar((1000, 1001, 994, 996))
    assert [(fill.qty, fill.price, fill.maker) for fill in floor.fills()] == [(Decimal(3), Decimal(995), True)]


def test_the_order_id_decides_which_order_is_amended() -> None:
    """Given both, the order id wins; an id of another symbol is unknown."""
    floor = floor_with_limit()
    other = floor.venue.place(order(BUY, "1", price="980", link="two"))
    assert floor.venue.amend(BTC, order_id=other.order_id, link_id="one", qty=Decimal(2)) is other
    for wrong in ({"symbol": ETH, "link_id": "one"}, {"symbol": BTC, "link_id": "nobody"}):
        assert code_of(partial(floor.venue.amend, qty=Decimal(4), **wrong)) == 110001  # type: ignore[arg-type]


def test_a_request_that_names_no_order_means_none() -> None:
    """An order without a link id is not the one that an empty id asks for."""
    floor = floor_with_limit(link="")
    assert code_of(partial(floor.venue.cancel, BTC)) == 110001
    assert code_of(partial(floor.venue.amend, BTC, qty=Decimal(4))) == 110001
    assert floor.venue.find("") is None


def test_an_amended_price_that_crosses_takes() -> None:
    """At the touch, as a taker."""
    floor = floor_with_limit()
    assert floor.venue.amend(BTC, link_id="one", price=Decimal(1005)).status == "Filled"
    assert [(fill.price, fill.maker) for fill in floor.fills()] == [(Decimal("1000.1"), False)]


def test_an_amended_post_only_that_would_take_is_cancelled() -> None:
    """As if it came anew."""
    floor = floor_with_limit(post_only=True)
    floor.venue.amend(BTC, link_id="one", price=Decimal(1000))
    floor.venue.amend(BTC, link_id="one", price=Decimal("1000.1"))
    assert floor.ending("one") == ("Cancelled", "UNKNOWN", POST_ONLY_CROSSED)
    assert floor.fills() == []


def test_an_amended_trigger_is_the_one_that_counts() -> None:
    """Moved up, the old one wakes nobody; moved to where the price is, it is refused."""
    floor = conditional(BUY, rises_to="1010")
    floor.venue.amend(BTC, link_id="one", trigger_price=Decimal(1020))
    assert code_of(partial(floor.venue.amend, BTC, link_id="one", trigger_price=Decimal(1000))) == 110092
    floor.bar((1000, 1019.9, 999, 1015))
    assert floor.statuses("one") == ["Untriggered", "Untriggered"]
    floor.bar((1015, 1020, 1014, 1016))
    assert floor.fills()[0].price == Decimal(1020) * Decimal("1.001")


def test_an_attached_stop_is_amended_or_taken_away_before_the_fill() -> None:
    """Zero removes it, None leaves it; the position has what the order had when it filled."""
    floor = floor_with_limit(stop="980", take="1020")
    floor.venue.amend(BTC, link_id="one", stop_loss=Decimal(0))
    floor.venue.amend(BTC, link_id="one", take_profit=Decimal(1030))
    floor.bar((1000, 1001, 985, 990))
    position = floor.venue.positions[BTC]
    assert (position.stop, position.take_profit) == (None, Decimal(1030))


CHANGES: list[tuple[dict[str, str], int]] = [
    ({}, 10001),
    ({"qty": "1"}, 10001),
    ({"price": "990", "qty": "1"}, 10001),
    ({"price": "990.05"}, 10001),
    ({"qty": "1.0005"}, 10001),
    ({"stop_loss": "990"}, 10001),
    ({"take_profit": "990"}, 10001),
    ({"qty": "0.005"}, 110094),
    ({"qty": "60"}, 110007),
]


@pytest.mark.parametrize(("change", "code"), CHANGES, ids=str)
def test_an_amendment_that_cannot_be_leaves_the_order_as_it_was(change: dict[str, str], code: int) -> None:
    """Nothing new, off the tick or step, stop on the wrong side, too small, no margin: refused, and not told."""
    floor = floor_with_limit()
    floor.venue.place(order(BUY, "1", price="980", link="two"))
    before, told = [one.copy() for one in floor.venue.orders.values()], len(floor.told)
    values = {name: Decimal(value) for name, value in change.items()}
    assert code_of(partial(floor.venue.amend, BTC, link_id="one", **values)) == code  # type: ignore[arg-type]
    assert list(floor.venue.orders.values()) == before, "changed, or no longer the oldest"
    assert len(floor.told) == told


def test_what_an_order_binds_is_free_for_its_amendment() -> None:
    """1 of 50 possible coins rests: it may grow to 50, not beyond."""
    floor = floor_at_1000()
    floor.venue.place(order(BUY, "1", price="1000"))
    floor.venue.amend(BTC, link_id="one", qty=Decimal(50))
    assert floor.venue.available == 0
    assert code_of(partial(floor.venue.amend, BTC, link_id="one", qty=Decimal("50.001"))) == 110007


def test_a_triggered_limit_that_grows_needs_margin() -> None:
    """Once it rests it is a limit like any other: 60 coins are more than the wallet carries."""
    floor = conditional(BUY, rises_to="1010", price="1000")
    floor.bar((1005, 1011, 1004, 1008))
    assert floor.statuses("one")[-1] == "New"
    assert code_of(partial(floor.venue.amend, BTC, link_id="one", qty=Decimal(60))) == 110007


def test_a_plain_order_gets_no_trigger() -> None:
    """An order that rests already cannot be put to sleep."""
    floor = floor_with_limit()
    amend = partial(floor.venue.amend, BTC, link_id="one", trigger_price=Decimal(1010))
    assert code_of(amend) == 10001


# ---- cancelling ----------------------------------------------------------------------------------


def test_a_sleeping_order_that_is_cancelled_is_deactivated() -> None:
    """It has never been active."""
    floor = conditional(BUY, rises_to="1010")
    floor.venue.cancel(BTC, link_id="one")
    assert floor.ending("one") == ("Deactivated", BY_USER, "EC_NoError")
    floor.bar((1000, 1020, 999, 1015))
    assert floor.fills() == []


@pytest.mark.parametrize(
    ("symbol", "sleeping", "gone"),
    [
        (BTC, None, {"limit", "trigger"}),
        (BTC, False, {"limit"}),
        (BTC, True, {"trigger"}),
        (None, True, {"trigger", "eth trigger"}),
        (None, None, {"limit", "trigger", "eth trigger"}),
    ],
)
def test_cancel_all_takes_one_kind_or_all(symbol: str | None, sleeping: bool | None, gone: set[str]) -> None:
    """Of a symbol or of all; what guards a position is not touched."""
    floor = floor_with_position(stop="980", instruments=TWO)
    floor.bar(FLAT, ETH)
    floor.venue.place(order(BUY, "1", price="990", link="limit"))
    floor.venue.place(order(BUY, "1", rises_to="1010", link="trigger"))
    floor.venue.place(order(BUY, "1", rises_to="1010", link="eth trigger", symbol=ETH))
    cancelled = floor.venue.cancel_all(symbol, conditional=sleeping)
    assert {one.asked.link_id for one in cancelled} == gone
    assert {one.asked.link_id for one in floor.venue.orders.values()} == {"limit", "trigger", "eth trigger"} - gone
    assert {one.cancel_type for one in cancelled} == {BY_USER}
    assert floor.venue.positions[BTC].stop == 980


# ---- what guards a position ----------------------------------------------------------------------


def test_protections_are_set_moved_and_taken_away() -> None:
    """Each is one order of the exchange: made, amended under its own id, deactivated."""
    floor = floor_with_position()
    told = len(floor.told)
    floor.venue.protect(BTC, stop_loss=Decimal(980), take_profit=Decimal(1050))
    floor.venue.protect(BTC, stop_loss=Decimal(990))
    position = floor.venue.positions[BTC]
    assert (position.stop, position.take_profit) == (Decimal(990), Decimal(1050))
    floor.venue.protect(BTC, stop_loss=Decimal(0))
    assert (position.stop, position.take_profit) == (None, Decimal(1050))
    stops = [event for event in floor.orders()[-4:] if event.stop_order_type == LOSS]
    assert [(one.status, one.asked.trigger_price) for one in stops] == [
        ("Untriggered", Decimal(980)),
        ("Untriggered", Decimal(990)),
        ("Deactivated", Decimal(990)),
    ]
    assert len({one.order_id for one in stops}) == 1
    assert stops[-1].cancel_type == BY_USER
    assert len(floor.told) == told + 4
    floor.bar((1000, 1001, 900, 905))
    assert BTC in floor.venue.positions


@pytest.mark.parametrize("side", [BUY, SELL])
def test_a_guard_is_an_order_of_the_exchange(side: OrderSide) -> None:
    """Opposite side, the position's size, reduce-only, at the market, without a link id but with its parent's."""
    floor = floor_with_position(side, stop=f"{1000 - side.sign * 20}", take=f"{1000 + side.sign * 20}")
    gain, loss = (floor.venue.positions[BTC].guards[kind] for kind in (GAIN, LOSS))
    for guard, direction in ((loss, 2 if side is BUY else 1), (gain, 1 if side is BUY else 2)):
        asked = guard.asked
        assert (asked.side.sign, asked.qty, asked.type, asked.link_id) == (-side.sign, Decimal(2), "Market", "")
        assert (asked.reduce_only, asked.close_on_trigger, asked.trigger_direction) == (True, True, direction)
        assert (guard.status, guard.parent_link_id, guard.protects) == ("Untriggered", "entry", True)
        assert floor.venue.order(guard.order_id) is guard
    assert (loss.create_type, gain.create_type) == ("CreateByStopLoss", "CreateByTakeProfit")
    assert {one.order_id for one in floor.venue.open_orders(BTC)} == {loss.order_id, gain.order_id}
    assert floor.venue.orders == {}


@pytest.mark.parametrize(
    ("side", "take", "bar", "price"),
    [
        (BUY, "1020", (1000, 1019.9, 999, 1010), None),
        (BUY, "1020", (1000, 1020, 999, 1010), "1018.98"),
        (BUY, "1020", (1025, 1030, 1024, 1026), "1023.975"),
        (SELL, "980", (1000, 1001, 980, 990), "980.98"),
    ],
)
def test_an_attached_take_profit_sells_at_the_market(side: OrderSide, take: str, bar: Row, price: str | None) -> None:
    """At its price or at the open beyond it, with slippage and the taker's fee: it is a market order."""
    floor = floor_with_position(side, take=take, terms=FEES)
    floor.bar(bar)
    exits = [(fill.price, fill.maker, fill.stop_order_type) for fill in floor.fills()[1:]]
    assert exits == ([(Decimal(price), False, GAIN)] if price else [])


def test_an_attached_take_profit_sleeps_in_the_bar_of_the_entry() -> None:
    """The high may have come before the entry."""
    floor = floor_at_1000()
    floor.venue.place(order(BUY, "1", price="1000", take="1020"))
    floor.bar((1001, 1030, 999, 1010))
    assert len(floor.fills()) == 1


@pytest.mark.parametrize(("side", "sign"), [(BUY, 1), (SELL, -1)])
def test_a_trailing_stop_follows_and_never_goes_back(side: OrderSide, sign: int) -> None:
    """10 behind the best price since it was set; it ends the trade where it stands."""

    def at(distance: float) -> float:
        return 1000 + sign * distance

    def bar(open_: float, best: float, worst: float, close: float) -> None:
        floor.bar((at(open_), max(at(best), at(worst)), min(at(best), at(worst)), at(close)))

    floor = floor_with_position(side)
    floor.venue.protect(BTC, trailing=Decimal(10))
    guard = floor.venue.positions[BTC].guards[TRAILING]
    assert (guard.asked.trigger_price, guard.create_type) == (Decimal(at(-10)), "CreateByTrailingStop")
    bar(0, 15, -5, 12)
    assert guard.asked.trigger_price == Decimal(at(5))
    bar(12, 14, 6, 8)
    assert guard.asked.trigger_price == Decimal(at(5))
    assert floor.venue.positions[BTC].trail == 10
    bar(8, 9, 4, 6)
    assert floor.venue.positions == {}
    assert (floor.fills()[-1].price, floor.fills()[-1].stop_order_type) == (Decimal(at(5)), TRAILING)


def test_a_trailing_stop_is_changed_and_taken_away() -> None:
    """A new distance counts from the last price; zero takes it away."""
    floor = floor_with_position()
    floor.venue.protect(BTC, trailing=Decimal(10))
    floor.venue.protect(BTC, trailing=Decimal(30))
    assert floor.venue.positions[BTC].guards[TRAILING].asked.trigger_price == 970
    floor.venue.protect(BTC, trailing=Decimal(0))
    assert (floor.venue.positions[BTC].trail, floor.venue.positions[BTC].guards) == (None, {})
    floor.bar((1000, 1050, 900, 905))
    assert BTC in floor.venue.positions


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ({"stop_loss": "980"}, 34040),
        ({"trailing": "50"}, 34040),
        ({"take_profit": "0"}, 34040),
        ({"stop_loss": "980", "take_profit": "0", "trailing": "50"}, 34040),
        ({}, 34040),
        ({"stop_loss": "1000"}, 10001),
        ({"stop_loss": "1010"}, 10001),
        ({"take_profit": "1000"}, 10001),
        ({"take_profit": "990"}, 10001),
        ({"stop_loss": "985.05"}, 10001),
        ({"take_profit": "1020.05"}, 10001),
        ({"trailing": "10.05"}, 10001),
        ({"trailing": "-10"}, 10001),
        ({"stop_loss": "-10"}, 10001),
        ({"stop_loss": "990", "take_profit": "990"}, 10001),
    ],
    ids=str,
)
def test_a_protection_that_cannot_be_changes_nothing(wanted: dict[str, str], code: int) -> None:
    """Unchanged, on the wrong side, off the tick, negative: refused as a whole."""
    floor = floor_with_position(stop="980")
    floor.venue.protect(BTC, trailing=Decimal(50))
    told = len(floor.told)
    values = {name: Decimal(value) for name, value in wanted.items()}
    assert code_of(partial(floor.venue.protect, BTC, **values)) == code
    position = floor.venue.positions[BTC]
    assert (position.stop, position.take_profit, position.trail) == (Decimal(980), None, Decimal(50))
    assert len(floor.told) == told


def test_the_sides_are_mirrored_for_a_short() -> None:
    """A stop lies above, a take profit below."""
    floor = floor_with_position(SELL)
    assert code_of(partial(floor.venue.protect, BTC, stop_loss=Decimal(990))) == 10001
    assert code_of(partial(floor.venue.protect, BTC, take_profit=Decimal(1010))) == 10001
    floor.venue.protect(BTC, stop_loss=Decimal(1010), take_profit=Decimal(990))


def test_there_is_nothing_to_protect_when_flat() -> None:
    """Also on a symbol that nobody knows."""
    floor = floor_at_1000()
    for symbol in (BTC, "DOGEUSDT"):
        assert code_of(partial(floor.venue.protect, symbol, stop_loss=Decimal(980))) == 10001


def test_guards_follow_the_size_of_the_position() -> None:
    """Grown and reduced: every guard is told with the new quantity, under its own id."""
    floor = floor_with_position(BUY, "2", stop="900", take="1100")
    ids = {kind: guard.order_id for kind, guard in floor.venue.positions[BTC].guards.items()}
    for side, qty, size in ((BUY, "1", 3), (SELL, "2.5", Decimal("0.5"))):
        floor.venue.place(order(side, qty, link=f"{side}-{qty}"))
        told = len(floor.orders())
        floor.bar(FLAT)
        guards = floor.venue.positions[BTC].guards
        assert {kind: guard.order_id for kind, guard in guards.items()} == ids
        assert {guard.asked.qty for guard in guards.values()} == {size}
        assert {one.order_id for one in floor.orders()[told:] if one.asked.qty == size} == set(ids.values())


def test_an_increase_with_its_own_stop_replaces_the_stop_of_the_whole() -> None:
    """The new stop stands for 3 coins; the take profit, which it did not bring, stays."""
    floor = floor_with_position(BUY, "2", stop="900", take="1100")
    floor.venue.place(order(BUY, "1", stop="950", link="more"))
    floor.bar(FLAT)
    position = floor.venue.positions[BTC]
    assert (position.stop, position.take_profit) == (Decimal(950), Decimal(1100))
    live = [one for one in floor.venue.open_orders() if one.stop_order_type == LOSS]
    assert [(one.asked.trigger_price, one.asked.qty) for one in live] == [(Decimal(950), Decimal(3))]
    floor.venue.place(order(BUY, "1", link="plain"))
    floor.bar(FLAT)
    assert floor.venue.positions[BTC].stop == 950


@pytest.mark.parametrize("how", ["exit", "flip"])
def test_guards_end_with_their_position(how: str) -> None:
    """Closed by an order, or turned: what guarded the old position is cleared, and the new one is naked."""
    floor = floor_with_position(BUY, "2", stop="900", take="1100")
    floor.venue.protect(BTC, trailing=Decimal(80))
    guards = list(floor.venue.positions[BTC].guards.values())
    floor.venue.place(order(SELL, "2", reduce_only=True) if how == "exit" else order(SELL, "3"))
    floor.bar(FLAT)
    assert {(one.open, one.cancel_type) for one in guards} == {(False, CLEARED)}
    told = {one.order_id: one.cancel_type for one in floor.orders()}
    assert {told[one.order_id] for one in guards} == {CLEARED}
    assert floor.venue.open_orders() == []
    if how == "flip":
        position = floor.venue.positions[BTC]
        assert (position.side, position.guards, position.trail) == (Side.SHORT, {}, None)


def test_a_stop_is_told_step_by_step() -> None:
    """Untriggered with the entry's fill; Triggered, its fill, Filled; the sibling is cleared."""
    floor = floor_at_1000(terms=FEES)
    floor.venue.place(order(BUY, "2", price="1000", stop="980", take="1050", link="entry"))
    floor.bar(FLAT)
    loss = floor.venue.positions[BTC].guards[LOSS]
    floor.bar((1000, 1001, 970, 975))
    assert [(one.stop_order_type, one.status) for one in floor.orders() if one.stop_order_type != GAIN] == [
        ("", "New"),
        (LOSS, "Untriggered"),
        ("", "Filled"),
        (LOSS, "Triggered"),
        (LOSS, "Filled"),
    ]
    assert [one.cancel_type for one in floor.orders() if one.stop_order_type == GAIN] == ["UNKNOWN", CLEARED]
    assert isinstance(floor.told[-1], Order)
    entry, fill = floor.fills()
    assert isinstance(entry, Fill)
    assert (fill.order_id, fill.link_id, fill.stop_order_type) == (loss.order_id, "", LOSS)
    assert (fill.create_type, fill.order_type, fill.leaves) == ("CreateByStopLoss", "Market", Decimal(0))
    _, triggered, filled = (one for one in floor.orders() if one.order_id == loss.order_id)
    assert floor.told.index(triggered) < floor.told.index(fill) < floor.told.index(filled)
    assert (triggered.filled, triggered.leaves) == (Decimal(0), Decimal(2))
    assert (filled.filled, filled.leaves, filled.value, filled.fee) == (Decimal(2), Decimal(0), fill.value, fill.fee)


# ---- leverage, questions -------------------------------------------------------------------------


def test_leverage_says_what_the_wallet_carries() -> None:
    """At 10 a position of 2000 binds 200; unchanged, out of range or on an unknown symbol it is refused."""
    floor = floor_with_position(BUY, "2")
    assert floor.venue.leverage == {BTC: 5}
    assert floor.venue.available == 9600
    floor.venue.set_leverage(BTC, Decimal(10))
    assert floor.venue.available == 9800
    floor.venue.place(order(BUY, "98", price="1000", link="all of it"))
    assert floor.venue.available == 0
    for symbol, leverage, code in ((BTC, 10, 110043), (BTC, 0, 110013), (BTC, 101, 110013), ("DOGEUSDT", 5, 10001)):
        assert code_of(partial(floor.venue.set_leverage, symbol, Decimal(leverage))) == code


def test_open_orders_come_newest_first() -> None:
    """Clients' orders and guards, of one symbol or of all."""
    floor = floor_with_position(stop="980", instruments=TWO)
    floor.bar(FLAT, ETH)
    for link, symbol in (("first", BTC), ("second", ETH), ("third", BTC)):
        floor.venue.place(order(BUY, "1", price="900", link=link, symbol=symbol))
    assert [one.asked.link_id for one in floor.venue.open_orders()] == ["third", "second", "first", ""]
    assert [one.asked.link_id for one in floor.venue.open_orders(BTC)] == ["third", "first", ""]
    assert [one.asked.link_id for one in floor.venue.open_orders(ETH)] == ["second"]


def test_an_order_is_found_live_or_closed() -> None:
    """By either id."""
    floor = floor_with_position()
    rests = floor.venue.place(order(BUY, "1", price="900", link="rests"))
    for link in ("entry", "rests"):
        found = floor.venue.find(link)
        assert found is not None
        assert floor.venue.order(found.order_id) == found
    assert floor.venue.find("rests") is rests
    assert (floor.venue.find("nobody"), floor.venue.order("nobody")) == (None, None)


@pytest.mark.parametrize(("where", "code"), [("qty", 110007), ("price", 110007), ("stop", 10001)])
def test_the_largest_numbers_are_refused_like_any_other(where: str, code: int) -> None:
    """As large as the wire lets them be: no margin, or a stop on the wrong side."""
    floor = floor_at_1000()
    asked = {"qty": "1", "price": "1000", "stop": "900"} | {where: "1e14"}
    assert floor.refused(order(BUY, **asked)) == code  # type: ignore[arg-type]


def test_bid_and_ask_are_a_tick_around_the_last_price() -> None:
    """Where nobody tells of a book."""
    floor = floor_at_1000()
    assert (floor.venue.bid(BTC), floor.venue.ask(BTC)) == (Decimal("999.9"), Decimal("1000.1"))
