"""A candidate before a council that takes its time: what goes on meanwhile, what ends it, and what is written down."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.trading.rig import BTC, FLAT, START, Row, Session, Stage, World, instrument, reading, script, series_of
from trading import events as ev
from trading.model import Execution, OrderSide
from trading.parameters import TradeRules
from trading.ports import Brief, Deliberation, FeedEnded, Witness

ETH = "ETHUSDT"
RULES = {BTC: instrument(), ETH: instrument(ETH)}
TRAILED = TradeRules(entry_offset=0.0, runaway_r=100.0, entry_ttl_bars=2)
ENTERED: Row = (1000, 1002, 998, 1000)
AHEAD: Row = (1000, 1045, 999, 1044)
FOUR_HOURS = timedelta(hours=4)

YES = Deliberation(approved=True, size_multiplier=1.0, reasons=("yes",))


def told_by(agent: str) -> ev.Testimony:
    """What an agent might have said."""
    answer = ev.AgentAnswer(agent=agent, status="OK", vote="LONG", p_win=0.4, text="a reason")
    return ev.Testimony(
        answer=answer,
        provider="huggingface",
        model="m",
        prompt=f"{agent}/v001",
        prompt_hash="a" * 64,
        schema_hash="b" * 64,
        packet="{}",
    )


class Debates:
    """A council that says one thing at once, and its word when it is let."""

    mode = "strict"
    debates = True

    def __init__(self, *rulings: Deliberation) -> None:
        self.asked, self.go = asyncio.Event(), asyncio.Event()
        self.rulings = list(rulings) or [YES]
        self.cancelled = False

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """The next ruling, or the last one again."""
        witness.heard(told_by("quant"))
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        witness.heard(told_by("strategist"))
        return self.rulings.pop(0) if len(self.rulings) > 1 else self.rulings[0]


def two_at_once(bars: int = 6) -> Stage:
    """A long of ETH that is open from row 2 and trails at row 3, where BTC has its edge."""
    btc = series_of([FLAT] * bars)
    eth = series_of([FLAT, FLAT, ENTERED, AHEAD, *[(1044.0, 1046.0, 1043.0, 1044.0)] * (bars - 4)], symbol=ETH)
    said = script({3: reading(1)}, btc) | script({1: reading(1)}, eth)
    return Stage(series=[btc, eth], said=said, rules=TRAILED, instruments=RULES)


async def asked_about_btc(world: World, council: Debates) -> None:
    """Of two at once the first edge is ETH's own: it passes, and the council hangs at the next one."""
    if not await world.said(ev.StopMoved):
        council.asked.clear()
        first, council.go = council.go, asyncio.Event()
        first.set()
        await council.asked.wait()


def one_edge(bars: int = 6) -> Stage:
    """BTC has its edge at row 1."""
    series = series_of([FLAT] * bars)
    return Stage(series=[series], said=script({1: reading(1)}, series), rules=TRAILED)


async def until(world: World, met: Callable[[], Awaitable[bool]]) -> None:
    """Returns once a condition holds."""
    async with asyncio.timeout(5):
        while not await met():
            await world.journal.grown(len(await world.events()))


@contextlib.asynccontextmanager
async def debating(stage: Stage, council: Debates, **parts: Any) -> Any:
    """A life in which the council has just been asked."""
    world = World.of(stage)
    session = await Session.begin(world, council=council, **parts)
    running = asyncio.create_task(session.run())
    try:
        async with asyncio.timeout(5):
            await council.asked.wait()
        yield world, session, running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_candidate_is_announced_then_heard_then_decided() -> None:
    """One life of a decision in the journal, in order, at the time of its close."""
    council = Debates()
    async with debating(one_edge(), council) as (world, _, running):
        await until(world, lambda: _has(world, ev.AgentAnswered))
        assert not await world.said(ev.VerdictReached)
        council.go.set()
        await running
        kinds = (ev.CandidateProposed, ev.AgentAnswered, ev.VerdictReached, ev.OrderIntended)
        told = await world.said(*kinds)
    assert [type(event) for event in told] == [kinds[0], kinds[1], kinds[1], kinds[2], kinds[3]]
    proposed, quant, strategist, verdict, _ = told
    assert {event.at for event in told} == {START + 2 * FOUR_HOURS}
    assert {proposed.verdict_id, quant.verdict_id, strategist.verdict_id, verdict.verdict_id} == {1}
    assert [quant.said.answer.agent, strategist.said.answer.agent] == ["quant", "strategist"]
    assert (verdict.approved, verdict.debated, verdict.council) == (True, True, "strict")
    assert (proposed.qty, proposed.entry, proposed.stop) == (verdict.qty, verdict.entry, verdict.stop)


async def _has(world: World, kind: type[ev.Event], count: int = 1) -> bool:
    return len(await world.said(kind)) >= count


async def test_what_is_open_is_protected_before_the_council_is_asked() -> None:
    """The stop of another symbol has moved at this very close, although its turn comes after the hanging one."""
    council = Debates()
    async with debating(two_at_once(), council) as (world, session, _):
        await asked_about_btc(world, council)
        (moved,) = await world.said(ev.StopMoved)
        assert moved.symbol == ETH
        assert moved.new > moved.old
        assert session.desk.book.holdings[ETH].stop == moved.new
        assert (await world.said(ev.CandidateProposed))[-1].symbol == BTC
        assert not [each for each in await world.said(ev.VerdictReached) if each.symbol == BTC]


async def test_a_fill_is_booked_while_the_council_deliberates() -> None:
    """What the exchange reports waits for nobody."""
    council = Debates()
    async with debating(one_edge(), council) as (world, session, _):
        fill = Execution(
            exec_id="x1",
            order_id="o1",
            link_id="",
            symbol=BTC,
            side=OrderSide.BUY,
            qty=Decimal(1),
            price=Decimal(1000),
            fee=Decimal("0.1"),
            maker=True,
            at=session.clock.now(),
            funding=True,
        )
        session.inbox.put(fill)
        await until(world, lambda: _has(world, ev.FundingPaid))
        assert not await world.said(ev.VerdictReached)


async def test_the_next_close_supersedes_a_candidate() -> None:
    """Nobody trades on a bar that is not the last one any more; the close is dealt with at once."""
    council, stage = Debates(), one_edge()
    async with debating(stage, council) as (world, session, _):
        (late,) = stage.closed_between(0, int(stage.series[0].timestamp[3]))[2:3]
        session.inbox.put(dataclasses.replace(late, late=False))
        await until(world, lambda: _has(world, ev.VerdictReached))
        (verdict,) = await world.said(ev.VerdictReached)
    assert (verdict.approved, verdict.gate) == (False, "superseded")
    assert verdict.reasons == ("the next bar closed while the council deliberated",)
    assert council.cancelled
    assert await world.intents() == []


async def test_the_end_of_the_program_does_not_wait() -> None:
    """Ctrl-C in the middle of a debate: a verdict, and the end."""
    council = Debates()
    async with debating(one_edge(), council) as (world, session, running):
        session.inbox.put(FeedEnded())
        async with asyncio.timeout(5):
            await running
        (verdict,) = await world.said(ev.VerdictReached)
    assert (verdict.gate, verdict.debated) == ("operator", True)


async def test_a_debate_that_a_kill_interrupted_ends_at_the_next_start() -> None:
    """One verdict for every candidate, and the card does not hang for ever."""
    council, stage = Debates(), one_edge()
    async with debating(stage, council) as (world, _, running):
        await until(world, lambda: _has(world, ev.CandidateProposed))
        running.cancel()
    again = Debates()
    again.go.set()
    session = await Session.begin(world, council=again)
    await session.run()
    (verdict,) = await world.said(ev.VerdictReached)
    assert (verdict.approved, verdict.gate, verdict.verdict_id) == (False, "operator", 1)
    assert verdict.reasons == ("the program ended while the council deliberated",)
    assert [dropped.reason for dropped in await world.said(ev.EdgeDropped)] == ["decided"]
    assert session.desk.book.debated == {}


async def test_agents_that_do_not_answer_are_told_once_and_their_recovery_once() -> None:
    """Four candidates: well, failing, failing, well."""
    answers = (ev.AgentAnswer(agent="quant", status="OK", vote="LONG", p_win=0.5, text="x"),)
    well = Deliberation(approved=False, size_multiplier=0.0, reasons=("no",), answers=answers)
    ill = dataclasses.replace(well, failed={"quant": "TIMEOUT (8 s)"})
    series = series_of([FLAT] * 12)
    stage = Stage(series=[series], said=script({row: reading(1) for row in (1, 3, 5, 7)}, series), rules=TRAILED)
    council = Debates(well, ill, ill, well)
    council.go.set()
    world = World.of(stage)
    await (await Session.begin(world, council=council)).run()
    told = await world.said(ev.CouncilImpaired, ev.CouncilRecovered)
    assert [type(event) for event in told] == [ev.CouncilImpaired, ev.CouncilRecovered]
    assert told[0].agents == ("quant",)
    assert "TIMEOUT" in told[0].text
    assert "every candidate is rejected" in told[0].text


class Overhears:
    """A council in whose shadow models fail; by the time that they are heard, who decides may have changed."""

    mode = "shadow"
    debates = False

    def __init__(self, then: str) -> None:
        self.then = then

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """The rules' word, and the models' beside it."""
        self.mode = self.then
        no = Deliberation(approved=False, size_multiplier=0.0, reasons=("no",), failed={"quant": "TIMEOUT (8 s)"})
        witness.concluded("strict", no)
        return YES


@pytest.mark.parametrize(("then", "told"), [("shadow", 1), ("rules", 0), ("off", 0)])
async def test_what_the_models_say_in_shadow_may_come_after_a_change_of_mode(then: str, told: int) -> None:
    """It is written down; that they do not answer concerns only a mode that asks them."""
    world = World.of(one_edge())
    await (await Session.begin(world, council=Overhears(then))).run()
    assert [opinion.council for opinion in await world.said(ev.OpinionReached)] == ["strict"]
    assert len(await world.said(ev.CouncilImpaired)) == told


class Sick:
    """A council in whose shadow the models fail at some candidates."""

    mode = "shadow"
    debates = False

    def __init__(self, *failing: tuple[str, ...]) -> None:
        self.failing = list(failing)

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """The rules' word; the models' beside it."""
        answers = tuple(ev.AgentAnswer(agent=each, status="OK", vote="", p_win=0.5, text="x") for each in AGENTS)
        failed = dict.fromkeys(self.failing.pop(0), "TIMEOUT (8 s)")
        no = Deliberation(approved=False, size_multiplier=0.0, reasons=("no",), answers=answers, failed=failed)
        witness.concluded("strict", no)
        return dataclasses.replace(no, failed={})


AGENTS = ("quant", "strategist", "risk_manager")


async def test_trouble_that_takes_turns_is_one_trouble() -> None:
    """Told once in the models' shadow as well, also where others fail by turns; over when nobody fails."""
    series = series_of([FLAT] * 14)
    stage = Stage(series=[series], said=script({row: reading(1) for row in range(1, 12, 2)}, series), rules=TRAILED)
    council = Sick(("quant",), ("risk_manager",), ("quant",), ("risk_manager",), (), ())
    world = World.of(stage)
    await (await Session.begin(world, council=council)).run()
    told = await world.said(ev.CouncilImpaired, ev.CouncilRecovered)
    assert [getattr(event, "agents", "well") for event in told] == [("quant",), ("quant", "risk_manager"), "well"]


class Interrupted(Debates):
    """Hangs; who is cut off has something to say, and a key was refused before."""

    async def deliberate(self, brief: Brief, witness: Witness) -> Deliberation:
        """Until it is cancelled."""
        witness.alerted("a key was refused")
        try:
            return await super().deliberate(brief, witness)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)  # the connection is closed, the call is booked
            witness.heard(told_by("strategist"))
            raise


async def test_what_was_said_before_an_end_is_kept() -> None:
    """The program ends in the middle of a debate: the alert of a key and whoever was cut off are in the journal."""
    council = Interrupted()
    async with debating(one_edge(), council) as (world, session, running):
        session.inbox.put(FeedEnded())
        async with asyncio.timeout(5):
            await running
        assert [alert.text for alert in await world.said(ev.AlertRaised)] == ["a key was refused"]
        said = [answered.said.answer.agent for answered in await world.said(ev.AgentAnswered)]
        assert said == ["quant", "strategist"]


async def test_a_symbol_that_is_muted_while_it_is_decided_on_gets_no_order() -> None:
    """Less risk that is asked for does not wait until the council has spoken."""
    council = Debates()
    async with debating(one_edge(), council) as (world, session, running):
        session.trader.submit(ev.ChangeSymbols(muted=(BTC,), by="ann", command="c1"))
        await until(world, lambda: _has(world, ev.SymbolsChanged))
        assert not await world.said(ev.VerdictReached)
        council.go.set()
        await running
        (verdict,) = await world.said(ev.VerdictReached)
    assert (verdict.approved, verdict.reasons) == (False, ("while the council deliberated: symbol muted",))
    assert await world.intents() == []


async def test_a_stop_moves_to_break_even_while_the_council_deliberates() -> None:
    """It is about another position, and safer at once than later."""
    council = Debates()
    stage = two_at_once()
    async with debating(stage, council) as (world, session, _):
        await asked_about_btc(world, council)
        session.trader.submit(ev.MoveToBreakeven(symbol=ETH, by="ann", command="c1"))
        await until(world, lambda: _has(world, ev.CommandDone))
        assert not [each for each in await world.said(ev.VerdictReached) if each.symbol == BTC]


async def test_money_that_is_freed_meanwhile_does_not_enlarge_a_trade() -> None:
    """The size that guards and council were told is the most; less is taken where it has become too much."""
    council = Debates()
    async with debating(one_edge(), council) as (world, session, running):
        (proposed,) = await world.said(ev.CandidateProposed)
        session.desk.book.cash *= 2
        council.go.set()
        await running
        (verdict,) = await world.said(ev.VerdictReached)
        (intent,) = await world.intents()
    assert verdict.approved
    assert proposed.qty == verdict.qty == intent.qty
    assert verdict.risk_usdt == proposed.risk_usdt
    assert "the size that was decided on cut it" in verdict.clamp


async def test_a_limit_that_is_reached_meanwhile_is_the_last_word() -> None:
    """The pause of another hand, a stop that was hit: what has happened meanwhile counts before the order leaves."""
    council = Debates()
    async with debating(one_edge(), council) as (world, session, running):
        session.desk.blocked[BTC] = "something is not clear"
        council.go.set()
        await running
        (verdict,) = await world.said(ev.VerdictReached)
    assert (verdict.approved, verdict.gate) == (False, "guard")
    assert verdict.reasons == ("while the council deliberated: blocked",)


async def test_rejected_candidates_are_followed_to_their_end() -> None:
    """What a veto has cost or spared is in the journal."""
    no = Deliberation(approved=False, size_multiplier=0.0, reasons=("no",))
    series = series_of([FLAT, FLAT, ENTERED, *[(1000.0, 1001.0, 999.0, 1000.0)] * 10, *[(1000.0, 1001, 970, 975)] * 3])
    stage = Stage(series=[series], said=script({1: reading(1)}, series), rules=TRAILED)
    council = Debates(no)
    council.go.set()
    world = World.of(stage)
    await (await Session.begin(world, council=council)).run()
    (ended,) = await world.said(ev.ShadowEnded)
    assert (ended.verdict_id, ended.ended, ended.exit_time) == (1, "stop", START + 13 * FOUR_HOURS)
    assert ended.r == pytest.approx(-1.0)
    assert await world.trades() == []
