"""What the council's commands answer, on a real database: only what was stored, and what nobody can know is said."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from bot.text import plain
from storage.database import open_database
from storage.journal import SqlJournal
from tests.bot.stage import NOON, SmallPainter, SmallTrader, a_desk, a_fill, a_trade, a_verdict
from tests.bot.test_see import Room, data_of
from tests.bot.test_views import NASTY
from tests.storage import samples
from trading.events import AgentAnswer, EdgeDropped, OrderCancelled, StopMoved
from trading.model import Purpose, Side


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """An empty account."""
    db = await open_database(tmp_path / "test.db")
    journal = SqlJournal(db, "test", clock=samples.wall)
    trader, painter = SmallTrader(journal), SmallPainter()
    yield Room(db=db, journal=journal, trader=trader, painter=painter, desk=a_desk(db, trader, painter=painter))
    await db.close()


async def test_verdicts_are_the_last_ones(room: Room) -> None:
    """The newest first, each with what became of it."""
    await room.happened(*(a_verdict(number, approved=number % 2 == 0, gate="council") for number in range(1, 15)))
    await room.happened(a_trade(14))
    said = await room.said("verdicts")
    assert said[0] == "PAPER last 10 decisions: 5 approved, 5 rejected"
    assert said[1] == "#14 21 Jul 12:00 SHORT ETH approved, 0.43 at 2,412: closed"
    assert said[2].startswith("#13 21 Jul 12:00 SHORT ETH rejected by council")
    assert len(await room.said("verdicts 3")) == 4


async def test_why_tells_an_approved_decision(room: Room) -> None:
    """With the way to its trade."""
    await room.happened(a_verdict(), a_fill(), a_trade())
    answer = await room.hears("why 215")
    assert plain(answer.text).startswith("PAPER #215 SHORT ETH APPROVED, closed +17.30 USDT +1.9R")
    assert data_of(answer) == [["trade 215", "chart ETHUSDT"]]


async def test_why_tells_a_rejected_decision(room: Room) -> None:
    """Without a trade to look at."""
    await room.happened(a_verdict(approved=False, gate="council", reasons=("two of three against",)))
    answer = await room.hears("why 215")
    assert "vetoed by the council\n– two of three against" in plain(answer.text)
    assert data_of(answer) == [["chart ETHUSDT"]]
    assert await room.said("why 99") == ["PAPER there is no decision #99: /verdicts lists the last ones"]


async def test_what_was_not_filled_is_told(room: Room) -> None:
    """An approved entry that expired."""
    gone = OrderCancelled(
        at=NOON + timedelta(hours=12), link_id="e", symbol="ETHUSDT", purpose=Purpose.ENTRY, reason="expired",
        verdict_id=215,
    )  # fmt: skip
    await room.happened(a_verdict(), gone)
    said = await room.said("why 215")
    assert said[0] == "PAPER #215 SHORT ETH APPROVED, was not filled"
    assert said[-1] == "Then it was not filled, 22 Jul 00:00. /trade 215 has the time line"
    assert "22 Jul 00:00 EXPIRED: not filled in time" in await room.said("trade 215")


async def test_an_open_trade_is_told_from_its_fill_on(room: Room) -> None:
    """With the moment at which it was filled, whatever came after it."""
    moved = StopMoved(
        at=NOON + timedelta(hours=8), symbol="ETHUSDT", verdict_id=215, old=Decimal(2441), new=Decimal(2412),
        level_r=1.0, locked_r=0.0,
    )  # fmt: skip
    await room.happened(a_verdict(), a_fill(), moved)
    assert (await room.said("why 215"))[-1] == "Then it was filled, 21 Jul 12:00. /trade 215 has the time line"
    assert (await room.said("trade 215"))[-1] == "21 Jul 20:00 stop 2,441 → 2,412 (+0.0R)"


async def test_the_scoreboard_scores_approved_trades_that_closed(room: Room) -> None:
    """By agent, from decisions and trades of the journal."""
    vetoed = a_verdict(3, approved=False, gate="council")
    guarded = a_verdict(4, approved=False, gate="guard", answers=())
    await room.happened(a_verdict(1), a_trade(1), a_verdict(2), a_trade(2, pnl=Decimal(-9), r=-1.0), vetoed, guarded)
    room.trader.shows["verdicts"] = 4
    said = await room.said("council")
    assert said[0] == "PAPER 4 decisions: 2 approved, 2 closed +0.9R, mean +0.45R"
    assert [" ".join(line.split()) for line in said[3:6]] == [
        "Quant 3 0 0 0 0.262",
        "Strateg. 3 0 0 0 0.256",
        "Risk mgr 0 0 0 100 –",
    ]
    assert "Rejected by council 1, guard 1" in said
    assert "What vetoed trades would have come to only shadow trades could tell; this version has none" in said
    assert not any("older" in line for line in said)


async def test_the_scoreboard_says_what_it_left_out(room: Room) -> None:
    """Decisions beyond the last thousand."""
    await room.happened(*(a_verdict(number, approved=False, gate="guard", answers=()) for number in range(1, 1004)))
    room.trader.shows["verdicts"] = 1003
    said = await room.said("council")
    assert said[0] == "PAPER 1000 decisions: 0 approved, none of them closed yet"
    assert said[1] == "No agent was asked: the council is off, or code rejected every candidate"
    assert said[-1] == "3 older decisions not counted"


async def test_whynot_counts_where_signals_died(room: Room) -> None:
    """Of every market, and of one."""
    drops = [("ETHUSDT", "in_position"), ("BTCUSDT", "cooldown"), ("ETHUSDT", "in_position")]
    await room.happened(*(EdgeDropped(at=NOON, symbol=name, side=Side.LONG, reason=why) for name, why in drops))
    await room.happened(a_verdict(1), a_fill(1), a_verdict(2, approved=False, gate="risk"))
    room.trader.shows["symbols"] = ("BTCUSDT", "ETHUSDT")
    said = [" ".join(line.split()) for line in await room.said("whynot")]
    assert said[0] == "PAPER 5 signals, 1 filled; most died of in position (2)"
    assert said[3:] == [
        "signals 5", "- in position 2", "- cooldown 1", "= decided 2", "- risk 1", "= approved 1",
        "- refused by exchange 0", "- not filled 0", "- still waiting 0", "= filled 1",
    ]  # fmt: skip
    of_btc = [" ".join(line.split()) for line in await room.said("whynot btcusdt")]
    assert of_btc[0] == "PAPER 1 signal on BTC, 0 filled; most died of cooldown (1)"


async def test_no_signal_yet_says_when_one_can_come(room: Room) -> None:
    """At the next close; an unknown market is told which there are."""
    assert await room.said("whynot") == [
        "PAPER no signal yet: one can only come at the close of a bar; the next one is 21 Jul 16:00"
    ]
    assert await room.said("whynot DOGE") == ["PAPER /whynot takes a traded market: BTC; like /whynot BTC"]


async def test_no_decision_yet_is_a_sentence(room: Room) -> None:
    """For the list and for the scoreboard."""
    assert len(await room.said("verdicts")) == len(await room.said("council")) == 1


@pytest.mark.parametrize("nasty", NASTY)
async def test_hostile_agents_break_no_answer(room: Room, nasty: str) -> None:
    """Whatever a model writes into its name, its vote and its arguments."""
    storable = nasty.replace("\ud800", "\ufffd")
    answer = AgentAnswer(agent=storable, status="OK", vote=storable, p_win=0.5, text=storable, against=storable)
    failed = dataclasses.replace(answer, status=storable or "ERROR", p_win=None)
    event = a_verdict(symbol=storable, reasons=(storable,) * 9, council=storable, answers=(answer, failed))
    dropped = EdgeDropped(at=NOON, symbol=storable, side=Side.LONG, reason=storable)
    await room.happened(event, a_fill(symbol=storable), a_trade(symbol=storable), dropped)
    for words in ("verdicts", "why 215", "trade 215", "council", "whynot", "trades", "performance"):
        await room.hears(words)
