"""What the council's commands answer, on a real database: only what was stored, and what nobody can know is said."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.access import Role
from bot.cards import MODE_MEANS, Look
from bot.handlers.council import PERMITS
from bot.text import plain
from storage.database import open_database
from storage.journal import SqlJournal
from tests.bot.phone.driver import Json
from tests.bot.stage import (
    NEEDS_KEYS,
    NOON,
    OPERATOR,
    PIXEL,
    VIEWER,
    SmallAdviser,
    SmallGrader,
    SmallPainter,
    SmallTrader,
    Stage,
    a_candidate,
    a_desk,
    a_failure,
    a_fill,
    a_shadow,
    a_testimony,
    a_trade,
    a_verdict,
    an_answered,
    an_opinion,
    staged,
)
from tests.bot.test_see import Room, data_of
from tests.bot.test_steer import button, pressed, said
from tests.bot.test_views import NASTY
from tests.storage import samples
from trading.council import MODES
from trading.errors import OutcomeUnknown, Transient
from trading.events import (
    AgentAnswer,
    ChangeCouncil,
    CouncilImpaired,
    CouncilModeChanged,
    CouncilRecovered,
    EdgeDropped,
    Event,
    OrderCancelled,
    StopMoved,
    VerdictReached,
)
from trading.model import Purpose, Side


@pytest.fixture
def grader() -> SmallGrader:
    """The laboratory's."""
    return SmallGrader()


@pytest.fixture
def adviser() -> SmallAdviser:
    """The council that a person may ask."""
    return SmallAdviser()


@pytest.fixture
async def room(tmp_path: Path, grader: SmallGrader, adviser: SmallAdviser) -> AsyncIterator[Room]:
    """An empty account."""
    db = await open_database(tmp_path / "test.db")
    journal = SqlJournal(db, "test", clock=samples.wall)
    trader, painter = SmallTrader(journal), SmallPainter()
    desk = a_desk(db, trader, painter=painter, grader=grader, adviser=adviser)
    yield Room(db=db, journal=journal, trader=trader, painter=painter, desk=desk)
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


async def test_why_tells_a_debate_from_what_was_stored(room: Room) -> None:
    """While it goes on and when it is over; and what a rejected candidate would have come to."""
    await room.happened(a_candidate(), an_answered(a_testimony()))
    under = await room.hears("why 215")
    assert plain(under.text).startswith("PAPER #215 SHORT ETH under debate")
    assert data_of(under) == [["chart ETHUSDT"]]
    rejected = a_verdict(debated=True, approved=False, gate="council", council="strict", reasons=("no answer",))
    await room.happened(an_answered(a_failure("strategist")), rejected)
    told = await room.said("why 215")
    assert told[0] == "PAPER #215 SHORT ETH REJECTED by council"
    assert "Strategist TIMEOUT: no answer in 8 s · 8.0 s" in told
    assert "1 call, 8,120 bytes in, 640 out, tokens 2,345 in, 210 out, 0.0012 USD" in told
    assert told[-1].startswith("Not traded: it is followed by the rules")
    await room.happened(a_shadow(ended="unfilled", r=None, best_r=None))
    assert (await room.said("why 215"))[-1] == "Not traded: would not have filled, 22 Jul 00:00"


# /council


def decided(number: int, r: float | None = 1.0, **changes: Any) -> list[Event]:
    """A decision, and how its candidate ended (None: not yet)."""
    verdict = a_verdict(number, **changes)
    return [verdict] if r is None else [verdict, a_shadow(number, r=r)]


def vetoed(number: int, r: float | None, **changes: Any) -> list[Event]:
    return decided(number, r, approved=False, gate="council", size_modifier=0.0, **changes)


async def test_the_scoreboard_is_the_grade(room: Room, grader: SmallGrader) -> None:
    """Of every candidate that has ended, traded or not; worked out once while nothing new has ended."""
    for number in range(1, 4):
        await room.happened(*decided(number))
        await room.happened(*vetoed(number + 10, -1.0))
    told = await room.said("council")
    assert told[:4] == [
        "PAPER council rules: HELPS, 6 of 6 candidates ended",
        "It avoided 3.0 R and missed 1.5 R.",
        "Approved 3, mean +1.00R · vetoed 3, mean -1.00R",
        "Avoided loss 3.0R, missed gain 1.5R",
    ]
    assert "It cost nothing: no model was asked that is paid" in told
    assert data_of(await room.hears("council")) == [["council chart", "council excel"]]
    chart, book = await room.hears("council chart"), await room.hears("council EXCEL")
    assert (chart.media and (chart.media.kind, chart.media.data)) == ("photo", PIXEL)
    assert (book.media and (book.media.kind, book.media.name)) == ("document", "council.xlsx")
    assert plain(chart.text) == plain(book.text) == "\n".join(told[:2])
    assert grader.asked == [("PAPER council rules", "dark")]
    await room.happened(*decided(20))
    await room.said("council")
    assert len(grader.asked) == 2


async def test_a_grade_takes_five_candidates_that_ended(room: Room, grader: SmallGrader) -> None:
    """Fewer are counted, and what is missing is said; there is nothing to draw."""
    for number in range(1, 5):
        await room.happened(*decided(number))
    await room.happened(*vetoed(9, None), *decided(10, None, answers=(), gate="guard", approved=False))
    for words in ("council", "council chart"):
        assert (await room.said(words))[:4] == [
            "PAPER council rules: 5 decisions, 4 ended, no grade",
            "A grade takes 5 candidates that have ended, traded or not: 1 more candidate to come",
            "Approved 4, vetoed 1",
            "1 still followed, 0 would not have filled",
        ]
    assert (await room.hears("council")).buttons is None
    assert grader.asked == []


async def test_the_scoreboard_is_of_the_council_that_decides(room: Room) -> None:
    """Another one's decisions are counted apart; without one of its own, the last one's are shown."""
    for number in range(1, 7):
        await room.happened(*decided(number))
    await room.happened(*vetoed(10, -1.0, council="strict"))
    room.trader.shows["council"] = "strict"
    told = await room.said("council")
    assert told[0] == "PAPER council strict: 1 decision, 1 ended, no grade"
    assert told[-1] == "Candidates not counted: 6 of rules"
    room.trader.shows["council"] = "degraded"
    assert (await room.said("council"))[0].startswith("PAPER council strict")


async def test_the_chat_grades_what_the_command_line_grades(room: Room, grader: SmallGrader) -> None:
    """The record's own choice, under its name, with what is left out of it."""
    for number in range(1, 4):
        await room.happened(*decided(number, council="strict"))
    for number in range(11, 17):
        await room.happened(*vetoed(number, -1.0))
    record = await room.desk.council.graded()
    assert (record.title, len(record.rows)) == ("council rules (left out: 3 of strict)", 6)
    told = await room.said("council")
    assert told[0] == "PAPER council rules: HELPS, 6 of 6 candidates ended"
    assert told[-1] == "Candidates not counted: 3 of strict"
    assert grader.asked == [(f"PAPER {record.title}", "dark")]


async def test_in_the_shadow_the_models_are_graded(room: Room) -> None:
    """By what they would have decided on what the rules did."""
    room.trader.shows["council"] = "shadow"
    for number in range(1, 6):
        asked = an_answered(a_testimony(), number, council="shadow")
        answers = (a_testimony().answer,)
        await room.happened(a_verdict(number, council="shadow"), asked, an_opinion(number, answers=answers))
        await room.happened(a_shadow(number, r=-1.0))
    told = await room.said("council")
    assert told[0] == "PAPER council shadow: HELPS, 5 of 5 candidates ended"
    assert "Avoided loss 5.0R, missed gain 0.0R" in told
    assert "Cost 0.0012 USD a decision, 0.0060 USD so far" in told
    assert told[-1] == "The models are asked beside the rules, which decide: what they say is not traded"


async def test_what_was_traded_is_not_in_the_shadow(room: Room) -> None:
    """Decisions of the models themselves are another record than what they said beside the rules."""
    for number in range(1, 6):
        await room.happened(*decided(number, council="strict"))
    asked = (an_answered(a_testimony(), 6, council="shadow"), an_opinion(6, answers=(a_testimony().answer,)))
    await room.happened(a_verdict(6, council="shadow"), *asked)
    room.trader.shows["council"] = "shadow"
    told = await room.said("council")
    assert told[0] == "PAPER council shadow: 1 decision, 0 ended, no grade"
    assert told[-2:] == [
        "The models are asked beside the rules, which decide: what they say is not traded",
        "Candidates not counted: 5 of strict",
    ]


async def test_a_model_that_was_paid_for_nothing_was_paid(room: Room) -> None:
    """A debate that the next close broke off."""
    await room.happened(*decided(1, council="strict"))
    cut = a_verdict(2, approved=False, gate="superseded", council="strict", answers=(), debated=True)
    await room.happened(an_answered(a_testimony(), 2), cut)
    told = await room.said("council")
    assert told[0] == "PAPER council strict: 1 decision, 1 ended, no grade"
    assert "Cost 0.0012 USD so far" in told


async def test_what_nobody_follows_is_not_known(room: Room) -> None:
    """Bars that are gone, and decisions from before anybody was followed: the same in /why and in /council."""
    await room.happened(*vetoed(1, None), *vetoed(2, None))
    await room.journal.save_snapshot(2, {"followed": {"2": {}}})
    await room.happened(a_shadow(2, ended="lost", r=None, best_r=None), *vetoed(3, None))
    assert "1 still followed, 0 would not have filled, 2 not known" in await room.said("council")
    ends = [(await room.said(f"why {number}"))[-1] for number in (1, 2, 3)]
    assert ends == [
        "Not traded: what it would have come to is not known, nobody has followed it",
        "Not traded: what it would have come to is not known: its bars are gone, 22 Jul 00:00",
        "Not traded: it is followed by the rules, what it would come to is not known yet",
    ]


@pytest.mark.parametrize("error", [Transient("the laboratory is starting again"), OutcomeUnknown("its worker died")])
async def test_a_laboratory_that_cannot_grade_leaves_the_counts(room: Room, grader: SmallGrader, error: Any) -> None:
    """And says why; the next question asks again."""
    for number in range(1, 6):
        await room.happened(*decided(number))
    grader.fails = error
    told = await room.said("council")
    assert told[:2] == [
        "PAPER council rules: 5 decisions, 5 ended, no grade", f"It cannot be worked out now: {error}",
    ]  # fmt: skip
    grader.fails = None
    assert "5 of 5 candidates ended" in (await room.said("council"))[0]


async def test_who_asks_meanwhile_waits_for_the_same_grade(room: Room, grader: SmallGrader) -> None:
    """Chart, workbook and words of one look are of one piece of work."""
    for number in range(1, 6):
        await room.happened(*decided(number))
    answers = await asyncio.gather(*(room.hears(words) for words in ("council", "council chart", "council excel")))
    assert len({plain(answer.text).split("\n")[0] for answer in answers}) == 1
    assert len(grader.asked) == 1


async def test_the_scoreboard_takes_one_word_at_most(room: Room) -> None:
    """Anything else is told what there is."""
    for words in ("council x", "council chart excel"):
        assert await room.said(words) == ["PAPER /council takes nothing, or one of chart and excel"]


# /mode


async def test_the_modes_say_what_they_mean_and_what_is_missing(room: Room) -> None:
    """With a button for each that can be had."""
    answer = await room.hears("mode")
    told = plain(answer.text).split("\n")
    assert told[0] == f"PAPER council rules: {MODE_MEANS['rules']}"
    assert any(line.startswith("shadow – ") and NEEDS_KEYS in line for line in told)
    assert data_of(answer) == [["mode strict", "mode degraded"], ["mode off"]]
    assert set(MODE_MEANS) == set(MODES) == set(PERMITS)


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.OWNER])
@pytest.mark.parametrize(
    ("old", "new"),
    [("off", "rules"), ("off", "strict"), ("rules", "strict"), ("rules", "degraded"), ("degraded", "strict"),
     ("shadow", "rules")],
)  # fmt: skip
async def test_a_stricter_council_is_one_word_of_any_operator(room: Room, role: Role, old: str, new: str) -> None:
    """At once, also by a button."""
    room.trader.shows["council"] = old
    for tapped in (None, 7):
        answer = await room.hears(f"mode {new.upper()}", role=role, tapped=tapped)
        assert answer.request == ChangeCouncil(mode=new, by=f"{role.label} 1", command="update:1")
        assert plain(answer.text) == f"PAPER Council {old} → {new}: {MODE_MEANS[new]}."


@pytest.mark.parametrize(
    ("old", "new"),
    [("strict", "degraded"), ("strict", "rules"), ("degraded", "rules"), ("rules", "off"), ("cassette", "strict")],
)
async def test_a_looser_council_asks_the_owner(room: Room, old: str, new: str) -> None:
    """Old → new with the effect; an operator is told whose word it takes."""
    room.trader.shows["council"] = old
    answer = await room.hears(f"mode {new}")
    told = plain(answer.text).split("\n")
    assert answer.request is None
    assert told[0] == f"PAPER Change the council? {old} → {new}"
    assert told[2] == f"Then {new}: {MODE_MEANS[new]}"
    assert (answer.buttons or [[{}]])[0][0]["text"] == f"Council {new}"
    refused = await room.hears(f"mode {new}", role=Role.OPERATOR)
    assert plain(refused.text) == "PAPER This may raise risk: only the owner can do it."
    assert refused.request is None


async def test_a_mode_that_cannot_be_had_says_why(room: Room) -> None:
    """What is missing, an unknown word, and off with real money; nothing is asked of the trader."""
    assert await room.said("mode shadow") == [f"PAPER shadow is not possible: it {NEEDS_KEYS}. Nothing was changed."]
    assert await room.said("mode rules") == ["PAPER The council is rules already: nothing changes."]
    for words in ("mode strikt", "mode strict now"):
        assert (await room.said(words))[0].startswith("PAPER /mode takes one of strict, degraded, rules, shadow, off")
    room.desk = dataclasses.replace(room.desk, look=Look(badge="LIVE", real_money=True))
    told = await room.said("mode off")
    assert told == ["LIVE The council is never off with real money: rules is the least there is."]
    room.desk = dataclasses.replace(room.desk, council_modes=lambda: {"rules": ""})
    assert (await room.said("mode strict"))[0].startswith("LIVE strict is not possible: it is not known here")


async def test_the_owner_confirms_a_looser_council_once(tmp_path: Path) -> None:
    """By the card's yes, while it is still true; then the change is told to everybody and answers the yes."""
    async with staged(tmp_path) as stage:
        stage.trader.council = "strict"
        card = await said(stage.owner, "/mode degraded")
        other = await said(stage.owner, "/mode rules")
        after = await pressed(stage, stage.owner, card, button(card, "Council"))
        assert "Confirmed: the council changes, strict → degraded" in after["text"]
        await stage.others(OPERATOR).message("COUNCIL strict → degraded by owner 1")
        assert stage.trader.status().council == "degraded"
        stale = await pressed(stage, stage.owner, other, button(other, "Council"))
        assert "Not done: the council has been changed since" in stale["text"]
        assert [type(request) for request in stage.trader.asked] == [ChangeCouncil]


async def test_a_viewer_changes_and_asks_nothing(tmp_path: Path) -> None:
    """Neither costs nor modes are for somebody who only looks."""
    async with staged(tmp_path) as stage:
        viewer = stage.others(VIEWER)
        for text in ("/mode strict", "/ask BTC"):
            assert "for the operator" in (await said(viewer, text))["text"]
        assert stage.trader.asked == []


# /ask


async def test_a_reading_of_the_market_orders_nothing(room: Room, adviser: SmallAdviser) -> None:
    """Of the side that was named, or that the market suggests."""
    for words, first in (
        ("ask btc", "PAPER BTC LONG: the council would approve 50% of the size. This is a reading, nothing is ordered"),
        ("ask BTCUSDT Short", "PAPER BTC SHORT: the council would reject it. This is a reading, nothing is ordered"),
    ):
        answer = await room.hears(words)
        assert plain(answer.text).split("\n")[0] == first
        assert (answer.request, data_of(answer)) == (None, [["chart BTCUSDT"]])
    assert adviser.asked == [("BTCUSDT", None), ("BTCUSDT", Side.SHORT)]
    assert "Why SHORT: you named it" in await room.said("ask btc short")


async def test_a_reading_that_cannot_be_had_says_why(room: Room, adviser: SmallAdviser) -> None:
    """Of an unknown market, with an unknown side, without a council, and while the exchange is away."""
    for words in ("ask", "ask DOGE"):
        assert (await room.said(words))[0].startswith("PAPER /ask takes a traded market")
    for words in ("ask btc up", "ask btc long now"):
        told = ["PAPER /ask takes one market and at most a side, long or short: like /ask BTC long"]
        assert await room.said(words) == told
    assert adviser.asked == []
    adviser.problem = "the council is off"
    assert await room.said("ask btc") == ["PAPER no reading of BTC: the council is off. Nothing was ordered"]
    adviser.fails = Transient("the exchange does not answer")
    assert await room.said("ask btc") == ["PAPER no reading: the exchange does not answer. Nothing was ordered"]


# The debate in the chat


def a_debate(verdict: VerdictReached) -> list[Event]:
    return [a_candidate(), an_answered(a_testimony()), an_answered(a_failure("strategist")), verdict]


async def shown(stage: Stage) -> list[Json]:
    await stage.conversation.drain()
    return await stage.owner.look()


async def test_a_debate_is_one_thread_in_the_chat(tmp_path: Path) -> None:
    """Its card gets a line for each step; the verdict and what follows reply to it."""
    async with staged(tmp_path) as stage:
        await stage.journal.append(a_debate(a_verdict(debated=True)))
        await stage.journal.append([a_fill(), a_trade(), a_shadow(r=1.5)])
        card, verdict, fill, closed = await shown(stage)
        told = card["text"].split("\n")
        assert told[0] == "PAPER #215 SHORT ETH PROPOSED, the council debates"
        assert [line.partition("12:00 ")[2] for line in told[5:9]] == [
            "Quant SHORT 0.61 · 3.2 s",
            "Strategist TIMEOUT: no answer in 8 s · 8.0 s",
            "APPROVED 0.43 at 2,412, the council shrank it to 50%",
            "FILLED 0.43 at 2,412, fee 0.21, slip +0.0 bp",
        ]
        assert told[-1].endswith("CLOSED +17.30 USDT +1.9R trailing stop")  # an approved one has no shadow
        assert verdict["text"].startswith("PAPER APPROVED #215 SHORT ETH")
        assert [each["reply_to"] for each in (verdict, fill, closed)] == [card["message_id"]] * 3
        assert [each["text"] for each in card["buttons"][0]] == ["Why", "Trade"]


async def test_a_rejected_candidate_is_followed_on_its_card(tmp_path: Path) -> None:
    """One line when it has ended, and no message."""
    async with staged(tmp_path) as stage:
        await stage.journal.append(a_debate(a_verdict(debated=True, approved=False, gate="council", reasons=("trap",))))
        before = await shown(stage)
        await stage.journal.append([a_shadow()])
        after = await shown(stage)
        assert [each["message_id"] for each in after] == [each["message_id"] for each in before]
        assert after[0]["text"] == before[0]["text"] + "\n22 Jul 00:00 would have ended +1.8R by trailing stop"


async def test_without_debates_in_the_chat_the_verdict_comes_as_before(tmp_path: Path) -> None:
    """It opens the thread; nothing is lost with the proposal's card."""
    async with staged(tmp_path, look=Look(badge="PAPER", push={"debate": "off"})) as stage:
        await stage.journal.append([*a_debate(a_verdict(debated=True)), a_fill()])
        verdict, fill = await shown(stage)
        assert verdict["text"].startswith("PAPER APPROVED #215 SHORT ETH")
        assert "FILLED" in verdict["text"]
        assert fill["reply_to"] == verdict["message_id"]


async def test_the_health_of_the_council_is_news(tmp_path: Path) -> None:
    """Impaired, recovered, and another mode, each a message."""
    async with staged(tmp_path) as stage:
        await stage.journal.append(
            [
                CouncilImpaired(at=NOON, agents=("quant",), text="quant: no answer in 8 s."),
                CouncilRecovered(at=NOON, text="every agent answers again"),
                CouncilModeChanged(at=NOON, mode="rules", old="strict", by="owner 1", command="x"),
            ]
        )
        assert [each["text"].split(":")[0] for each in await shown(stage)] == [
            "PAPER COUNCIL IMPAIRED (Quant)",
            "PAPER COUNCIL RECOVERED",
            "PAPER COUNCIL strict → rules by owner 1",
        ]


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
    said = a_testimony(answer=answer, model=storable, prompt=storable, packet=storable)
    heard = an_answered(said, symbol=storable, council=storable)
    await room.happened(heard, event, an_opinion(symbol=storable, council=storable, reasons=(storable,)))
    ended = a_shadow(symbol=storable, ended=storable)
    await room.happened(ended, a_fill(symbol=storable), a_trade(symbol=storable), dropped)
    for words in ("verdicts", "why 215", "trade 215", "council", "whynot", "trades", "performance"):
        await room.hears(words)
