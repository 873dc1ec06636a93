"""Objects of the exchange as values: exact, and refused where they cannot be read."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.exchange_bybit.samples import EXECUTION, INSTRUMENT, ORDER, POSITION, WALLET, Object, candle_frame
from trading.exchange.bybit import objects
from trading.exchange.bybit.objects import Unreadable
from trading.model import OrderSide, OrderType, Purpose, Side, utc

MINUTE = timedelta(minutes=1)
JUNK = st.none() | st.booleans() | st.floats() | st.lists(st.integers()) | st.sampled_from(["", "x", "NaN", "Infinity"])


def test_a_fill_is_exact() -> None:
    """Decimals as written, time in UTC."""
    fill = objects.execution_of(EXECUTION)
    assert fill is not None
    assert (fill.qty, fill.price, fill.fee) == (Decimal("0.10"), Decimal("1755.10"), Decimal("0.1"))
    assert str(fill.price) == "1755.10"
    assert (fill.side, fill.maker, fill.at, fill.purpose) == (OrderSide.SELL, False, utc(1672282722429), None)


@pytest.mark.parametrize(
    "bent",
    [
        {"stopOrderType": "StopLoss"},
        {"stopOrderType": "TrailingStop"},
        {"createType": "CreateByStopLoss"},
        {"createType": "CreateByTrailingStop"},
    ],
)
def test_a_stop_of_the_exchange_is_told_apart(bent: Object) -> None:
    """It comes without a link id."""
    fill = objects.execution_of(EXECUTION | {"orderLinkId": ""} | bent)
    assert fill is not None
    assert (fill.purpose, fill.link_id) == (Purpose.STOP, "")


@pytest.mark.parametrize("kind", ["AdlTrade", "BustTrade"])
def test_what_the_exchange_closes_is_a_fill(kind: str) -> None:
    """Liquidation and deleveraging change the size; the fee may be left out."""
    fill = objects.execution_of(EXECUTION | {"execType": kind, "orderLinkId": "", "execFee": ""})
    assert fill is not None
    assert (fill.fee, fill.funding) == (Decimal(0), False)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8))
def test_funding_keeps_its_sign(fee: Decimal) -> None:
    """Positive when paid."""
    paid = objects.execution_of(EXECUTION | {"execType": "Funding", "orderType": "UNKNOWN", "execFee": f"{fee:f}"})
    assert paid is not None
    assert (paid.funding, paid.fee) == (True, fee)


@pytest.mark.parametrize("kind", ["Delivery", "Settle", "BlockTrade", "MovePosition", "SomethingNew"])
def test_other_executions_are_none_of_ours(kind: str) -> None:
    """Ignored, without looking further."""
    assert objects.execution_of({"execType": kind}) is None


def test_an_order_is_exact() -> None:
    """With the exchange's own word for its state."""
    order = objects.order_of(ORDER)
    assert (order.qty, order.filled, order.price) == (Decimal("0.10"), Decimal("0.00"), Decimal("16700.50"))
    assert (order.side, order.type, order.status, order.reason) == (OrderSide.BUY, OrderType.LIMIT, "New", "")


def test_a_market_order_has_no_price() -> None:
    """What stands there is its slippage bound."""
    assert objects.order_of(ORDER | {"orderType": "Market"}).price is None


@pytest.mark.parametrize(
    ("rejected", "cancelled", "reason"),
    [
        ("EC_NoError", "CancelByUser", "CancelByUser"),
        ("EC_PostOnlyWillTakeLiquidity", "UNKNOWN", "EC_PostOnlyWillTakeLiquidity"),
        ("EC_NoError", "", ""),
    ],
)
def test_why_an_order_ended(rejected: str, cancelled: str, reason: str) -> None:
    """The rejection's reason before the kind of cancellation."""
    ended = ORDER | {"orderStatus": "Cancelled", "rejectReason": rejected, "cancelType": cancelled}
    assert objects.order_of(ended).reason == reason


@pytest.mark.parametrize("kind", ["StopLoss", "TakeProfit", "TrailingStop", "PartialStopLoss", "tpslOrder"])
def test_guards_are_no_orders(kind: str) -> None:
    """They belong to a position; an own conditional order does not."""
    assert objects.guards_position({"stopOrderType": kind})
    assert not objects.guards_position({"stopOrderType": "Stop"})
    assert not objects.guards_position(ORDER)


@pytest.mark.parametrize(("written", "stop"), [("16000.0", Decimal(16000)), ("", None), ("0", None), ("0.00", None)])
def test_a_position_has_a_stop_or_none(written: str, stop: Decimal | None) -> None:
    """Three ways to say none."""
    held = objects.position_of(POSITION | {"stopLoss": written, "side": "Sell"})
    assert held is not None
    assert (held.stop, held.side) == (stop, Side.SHORT)


@pytest.mark.parametrize("written", ["", "0", "?", None])
def test_a_position_is_seen_without_its_estimate(written: str | None) -> None:
    """The price of liquidation is only shown: where it cannot be read, it is not known and the position is."""
    held = objects.position_of(POSITION | {"liqPrice": written})
    assert held is not None
    assert held.liquidation is None
    known = objects.position_of(POSITION | {"liqPrice": "51044.8"})
    assert known is not None
    assert known.liquidation == Decimal("51044.8")


def test_a_flat_position_is_none() -> None:
    """Its other fields are empty then."""
    assert objects.position_of({"symbol": "BTCUSDT", "side": "", "size": "0", "avgPrice": "", "stopLoss": ""}) is None


def test_rules_and_cash() -> None:
    """Exactly; a coin that is not listed was never held."""
    rules = objects.instrument_of(INSTRUMENT)
    assert (rules.tick_size, rules.qty_step, rules.min_notional) == (Decimal("0.1"), Decimal("0.001"), Decimal(5))
    assert objects.cash_of(WALLET, "USDT") == Decimal("10000.50")
    assert objects.cash_of(WALLET, "BTC") == 0
    with pytest.raises(Unreadable):
        objects.cash_of({"list": []}, "USDT")


READERS = [
    (
        objects.execution_of,
        EXECUTION,
        ["execId", "orderId", "orderLinkId", "side", "execQty", "execPrice", "execTime", "isMaker"],
    ),
    (
        objects.order_of,
        ORDER,
        ["orderId", "orderLinkId", "symbol", "side", "qty", "price", "orderType", "orderStatus", "reduceOnly"],
    ),
    (objects.position_of, POSITION, ["symbol", "side", "size", "avgPrice", "stopLoss"]),
]


@pytest.mark.parametrize(("read", "sample", "name"), [(r, s, n) for r, s, names in READERS for n in names])
def test_a_missing_field_is_no_default(read: Any, sample: Object, name: str) -> None:
    """Whichever it is."""
    with pytest.raises(Unreadable):
        read({key: value for key, value in sample.items() if key != name})


@pytest.mark.parametrize(("read", "sample"), [(r, s) for r, s, _ in READERS])
@given(st.data())
def test_junk_never_breaks_a_reader(read: Any, sample: Object, data: st.DataObject) -> None:
    """It is read or it is `Unreadable`."""
    name = data.draw(st.sampled_from(sorted(sample)))
    with contextlib.suppress(Unreadable):
        read(sample | {name: data.draw(JUNK)})


@pytest.mark.parametrize("field", ["open", "high", "low", "close"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "", "x", None, 1.5])
def test_an_impossible_candle_is_refused(field: str, value: object) -> None:
    """No order may come from it."""
    bar = candle_frame(0)["data"][0] | {field: value}
    with pytest.raises(Unreadable):
        objects.candle_of(bar, "BTCUSDT", MINUTE)


def test_a_candle_must_hold_its_prices() -> None:
    """High and low are the extremes; a volume of zero is none of anybody's business."""
    row = ["0", "100", "101", "99", "100", "0", "0"]
    assert objects.candle_of_row(row, "BTCUSDT", MINUTE).volume == 0
    for bad in (
        ["0", "100", "99", "98", "99", "1", "1"],
        ["0", "100", "101", "100.5", "101", "1", "1"],
        row[:4],
        ["x", *row[1:]],
    ):
        with pytest.raises(Unreadable):
            objects.candle_of_row(bad, "BTCUSDT", MINUTE)


def test_a_series_is_what_follows_the_last_gap() -> None:
    """Nothing is filled in."""
    candles = [
        objects.candle_of_row([str(ms), "1", "1", "1", "1", "1", "1"], "X", MINUTE)
        for ms in (0, 60_000, 180_000, 240_000)
    ]
    assert objects.series_of(candles, "X", MINUTE).timestamp.tolist() == [180_000, 240_000]
    assert len(objects.series_of([], "X", MINUTE)) == 0
