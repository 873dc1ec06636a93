"""What is kept of the council: its calls, its decisions for grading, one decision whole, its costs, its shadows."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, select

from storage import tables
from storage.council import NEWEST, CouncilRecords, Record
from storage.database import Database, open_database
from storage.journal import SqlJournal
from storage.migrate import SCRIPTS
from storage.queries import Records
from tests.storage import samples
from tests.storage.samples import agent_answer, answered, model_call
from trading import events
from trading.events import AgentAnswer, Event, VerdictReached
from trading.grades import TWIN_SHARE, AgentCost, Ballot, Judged, paid
from trading.model import Side, millis

MANAGER = {"size_multiplier": 0.6}
VOICES = (
    agent_answer("quant", "LONG"),
    agent_answer("strategist", "CHOPPY"),
    agent_answer("risk_manager", "APPROVED", details=MANAGER),
)


def journal_of(db: Database, account: str = "paper") -> SqlJournal:
    return SqlJournal(db, account, clock=samples.wall)


def decided(number: int, council: str, *answers: AgentAnswer, size: float = 0.0, **changes: Any) -> VerdictReached:
    """A verdict; rejected by the council when it allows no size."""
    fields: dict[str, Any] = {"council": council, "answers": answers, "size_modifier": size}
    return replace(samples.verdict(number, approved=size > 0), **fields | changes)


def counted(number: int, at: int, council: str, weight: float, r: float | None = None, **fields: Any) -> Judged:
    """A candidate as it should be found."""
    values: dict[str, Any] = {"ended": r is not None, "others": {}, "bills": ()} | fields
    return Judged(
        verdict_id=number,
        at=at,
        symbol="BTCUSDT",
        side="long",
        council=council,
        weight=weight,
        r=r,
        **values,
    )


def ballot(agent: str, stance: int, *, status: str = "OK", **fields: Any) -> Ballot:
    return Ballot(agent=agent, status=status, stance=stance, p_win=0.6 if status == "OK" else None, **fields)


async def graded(db: Database, current: str | None = None, **wanted: int) -> list[Judged]:
    """What is graded, without its bills."""
    record = await CouncilRecords(db, "paper").graded(current, **wanted)
    return [replace(row, bills=()) for row in record.rows]


AT = millis(samples.START)
SILENT = (ballot("quant", 1), ballot("strategist", 0), ballot("risk_manager", 1, size=0.6))


async def test_every_call_is_a_row(db: Database) -> None:
    """In its order, with every figure as it was; prompt and answer stand in the journal alone."""
    calls = (model_call(1, status="TIMEOUT", cost="0"), model_call(2, cost="0.000000000000000000012", key="\ud800é12"))
    event = answered(7, agent_answer("strategist"), *calls)
    await journal_of(db).append([samples.alert(1), event, answered(None, agent_answer("quant"), model_call())])
    async with db.read() as session:
        rows = (await session.execute(select(tables.table(tables.Calls)))).mappings().all()
        heard = (await session.execute(select(tables.table(tables.Hearings)))).mappings().all()
    assert [(row["seq"], row["part"], row["verdict_id"], row["attempt"]) for row in rows] == [
        (2, 1, 7, 1),
        (2, 2, 7, 2),
        (3, 1, None, 1),
    ]
    second = dict(rows[1])
    assert second["key"] == "\ufffdé12"
    about = {name: second[name] for name in ("account", "at", "symbol", "agent", "provider", "model", "prompt")}
    said = event.said
    expected: tuple[object, ...] = (
        "paper",
        samples.START,
        "BTCUSDT",
        "strategist",
        said.provider,
        said.model,
        said.prompt,
    )
    assert tuple(about.values()) == expected
    for name in ("status", "code", "latency_ms", "bytes_in", "bytes_out", "tokens_in", "tokens_out", "cost_usd"):
        assert second[name] == getattr(calls[1], name)
    assert rows[0]["tokens_out"] is None
    assert [(row["kind"], row["verdict_id"], row["agent"], row["twin"]) for row in heard] == [
        ("AgentAnswered", 7, "strategist", False),
        ("AgentAnswered", None, "quant", False),
    ]


async def test_a_decision_is_kept_whole(db: Database) -> None:
    """From the candidate to its shadow, in the order in which it came, and nobody else's."""
    said = [answered(1, each, model_call()) for each in VOICES]
    others: list[Event] = [answered(2, VOICES[0], model_call()), answered(None, VOICES[0]), samples.proposed(2)]
    told = decided(1, "strict", *VOICES, size=0.6, debated=True)
    journal, records = journal_of(db), CouncilRecords(db, "paper")
    await journal_of(db, "noise").append([samples.proposed(1), *said, told, samples.shadow_ended(1)])
    assert await records.dossier(1) is None
    await journal.append([samples.proposed(1), *others, said[0], said[1]])
    running = await records.dossier(1)
    assert running is not None
    assert (running.candidate, running.testimonies) == (samples.proposed(1), tuple(said[:2]))
    assert (running.story, running.shadow, running.opinion) == (None, None, None)
    await journal.append([said[2], told, samples.intended(), samples.filled(), samples.closed(), samples.opinion(1)])
    await journal.append([samples.shadow_ended(1), samples.shadow_ended(2)])
    whole = await records.dossier(1)
    assert whole is not None
    assert whole.testimonies == tuple(said)
    assert whole.opinion == samples.opinion(1)
    assert whole.shadow == samples.shadow_ended(1)
    assert whole.story is not None
    assert (whole.story.verdict, whole.story.outcome) == (told, "closed")
    assert whole.story.trade == samples.closed()
    assert await records.dossier(9) is None


async def test_a_shadow_is_found_by_its_number(db: Database) -> None:
    """The first end of each counts; one that never filled has no prices; who has not ended is missing."""
    journal, records = journal_of(db), CouncilRecords(db, "paper")
    unfilled = samples.shadow_ended(3, r=None)
    await journal.append([samples.verdict(1), samples.verdict(2, approved=False), samples.shadow_ended(1), unfilled])
    await journal.append([samples.shadow_ended(1, r=-9.0)])
    await journal_of(db, "noise").append([samples.shadow_ended(2)])
    assert await records.shadow_of(range(1000)) == {1: samples.shadow_ended(1), 3: unfilled}
    assert await records.shadow_of([]) == {}
    stories = [await Records(db, "paper").story(number) for number in (1, 2)]
    assert [story.shadow for story in stories if story] == [samples.shadow_ended(1), None]
    assert await journal.verify() is None


async def test_the_models_are_judged_by_what_they_said(db: Database) -> None:
    """Strict: size, votes, what all calls of each took; how it ended; the rules beside it."""
    beside = (events.Opinion(council="rules", approved=True, size_modifier=0.5),)
    said = [
        answered(1, VOICES[0], model_call(1, status="INVALID"), model_call(2)),
        answered(1, VOICES[1], model_call()),
    ]
    no = replace(VOICES[0], vote="SHORT")
    await journal_of(db).append([*said, answered(1, VOICES[2]), answered(None, VOICES[0], model_call())])
    await journal_of(db).append([decided(1, "strict", *VOICES, size=0.6, opinions=beside)])
    await journal_of(db).append([decided(2, "strict", no, *VOICES[1:], at=samples.START + timedelta(hours=4))])
    await journal_of(db).append([samples.shadow_ended(1, r=-1.07)])
    votes = (
        ballot("quant", 1, seconds=2.5, cost_usd=0.000246),
        ballot("strategist", 0, seconds=1.25, cost_usd=0.000123),
        ballot("risk_manager", 1, size=0.6),
    )
    assert await graded(db) == [
        counted(1, AT, "strict", 0.6, -1.07, ballots=votes, others={"rules": 0.5}),
        counted(2, AT + 4 * 3_600_000, "strict", 0.0, ballots=(ballot("quant", -1), *SILENT[1:])),
    ]
    assert [row.verdict_id for row in await graded(db, newest=1)] == [2]
    assert await CouncilRecords(db, "nobody").graded() == Record(council="")
    assert await CouncilRecords(db, "nobody").graded("strict") == Record(council="strict")


async def test_a_vote_counts_by_the_side_of_the_trade(db: Database) -> None:
    """For a short, SHORT and BEARISH are for it."""
    short = (
        agent_answer("quant", "SHORT"),
        agent_answer("strategist", "BULLISH"),
        agent_answer("risk_manager", "REJECTED"),
    )
    await journal_of(db).append([decided(1, "rules", *short, side=Side.SHORT)])
    (row,) = await graded(db)
    assert row.side == "short"
    assert [each.stance for each in row.ballots] == [1, -1, -1]


async def test_where_a_twin_stood_in_the_model_has_failed(db: Database) -> None:
    """Its twin's vote decided, and is not counted as the model's."""
    failed = agent_answer("quant", status="TIMEOUT")
    said = [answered(1, failed, model_call(status="TIMEOUT", cost="0"), council="degraded", twin=True)]
    said.append(answered(1, VOICES[1], model_call(), council="degraded"))
    await journal_of(db).append([*said, decided(1, "degraded", *VOICES, size=0.3)])
    (row,) = await graded(db)
    first = ballot("quant", 0, status="TIMEOUT", seconds=1.25, twin=1)
    second = ballot("strategist", 0, seconds=1.25, cost_usd=0.000123)
    assert row == counted(1, AT, "degraded", 0.3, ballots=(first, second, SILENT[2]))


async def test_in_the_shadow_the_models_are_graded_and_the_rules_are_others(db: Database) -> None:
    """A candidate that the models did not get to is theirs in no way."""
    no = (replace(VOICES[0], vote="SHORT"), *VOICES[1:])
    said = [answered(1, each, model_call(), council="shadow") for each in no]
    await journal_of(db).append([decided(1, "shadow", *VOICES, size=0.6), *said, samples.opinion(1, *no)])
    await journal_of(db).append([decided(2, "shadow", *VOICES), answered(2, VOICES[0], model_call(), council="shadow")])
    await journal_of(db).append([samples.shadow_ended(1)])
    votes = tuple(
        replace(each, stance=stance, seconds=1.25, cost_usd=0.000123)
        for each, stance in zip(SILENT, (-1, 0, 1), strict=True)
    )
    assert await graded(db) == [counted(1, AT, "shadow", 0.0, 1.5, ballots=votes, others={"rules": 0.6})]


@pytest.mark.parametrize("gate", ["guard", "risk", "operator", "superseded"])
async def test_what_ends_a_candidate_after_the_council_is_not_its_veto(db: Database, gate: str) -> None:
    """Its own word counts: the size that the Risk Manager named, half of it where a twin stood in."""
    twin = answered(2, agent_answer("quant", status="ERROR"), council="degraded", twin=True)
    ended = [decided(1, "degraded", *VOICES, gate=gate), twin, decided(2, "degraded", *VOICES, gate=gate)]
    await journal_of(db).append([*ended, decided(3, "degraded", *VOICES[:2], gate=gate)])
    assert [row.weight for row in await graded(db)] == [0.6, 0.3, 0.0]
    assert TWIN_SHARE == 0.5


async def test_only_what_reached_the_council_is_judged(db: Database) -> None:
    """Not what a guard ended before it, what nobody waited for, or what nobody was asked about."""
    unasked = [decided(1, "strict", gate="guard"), decided(2, "strict", gate="superseded"), decided(3, "off", size=1.0)]
    alone = answered(2, agent_answer("quant", status="ERROR"))
    await journal_of(db).append([alone, decided(4, "rules", *VOICES, size=0.6), *unasked])
    for current in (None, "strict", "off", "rules", "shadow"):
        assert [row.verdict_id for row in await graded(db, current)] == [4]


async def test_an_end_that_is_not_known_is_none(db: Database) -> None:
    """Never filled is an end without R; of bars that are lost there is none, and never will be."""
    await journal_of(db).append([decided(number, "rules", *VOICES) for number in (1, 2, 3)])
    await journal_of(db).append([samples.shadow_ended(1, r=None), samples.shadow_ended(2, r=None, ended="lost")])
    found = [(row.r, row.ended, row.lost) for row in await graded(db)]
    assert found == [(None, True, False), (None, False, True), (None, False, False)]


@pytest.mark.parametrize(
    ("state", "lost"),
    [
        ({"cash": "1"}, [True, False, False]),  # of a program that followed nobody
        ({"followed": {}}, [True, False, False]),
        ({"followed": {"1": {"verdict_id": 1}}}, [False, False, False]),
    ],
)
async def test_who_was_never_followed_is_not_promised_an_end(
    db: Database, state: dict[str, Any], lost: list[bool]
) -> None:
    """The trader follows those of its snapshot and every decision after it, and nobody else."""
    journal, records = journal_of(db), CouncilRecords(db, "paper")
    await journal.append([decided(1, "rules", *VOICES), decided(2, "rules", *VOICES), samples.shadow_ended(2)])
    assert [row.lost for row in await graded(db)] == [False, False]  # no snapshot: it begins with the first event
    await journal.save_snapshot(3, state)
    await journal.append([decided(3, "rules", *VOICES)])
    assert [row.lost for row in await graded(db)] == lost
    followed = [each.followed for number in (1, 2, 3) if (each := await records.dossier(number))]
    assert followed == [not each for each in lost]


async def test_one_council_is_graded_and_the_others_are_counted(db: Database) -> None:
    """The one that decides; who has judged nothing leaves the word to the last one; without a mode the record tells."""
    journal, records = journal_of(db), CouncilRecords(db, "paper")
    await journal.append([decided(number, "strict", *VOICES) for number in (1, 2, 3)])
    await journal.append([decided(4, "off", size=1.0), decided(5, "degraded", *VOICES, size=0.6)])
    await journal.append([decided(number, "rules", *VOICES) for number in range(6, 11)])
    rules = await records.graded()
    assert (rules.council, len(rules.rows), rules.earlier) == ("rules", 5, 0)
    assert rules.others == {"strict": 3, "degraded": 1}
    assert rules.title == "council rules (left out: 1 of degraded, 3 of strict)"
    for current in ("rules", "off", "shadow", "something new"):
        assert await records.graded(current) == rules
    strict = await records.graded("strict")
    assert ([row.verdict_id for row in strict.rows], strict.others) == ([1, 2, 3], {"degraded": 1, "rules": 5})
    changed = events.CouncilModeChanged(at=samples.START, mode="strict", old="rules", by="owner 1", command="x")
    await journal.append([samples.alert(1), changed])
    assert await records.graded() == strict
    await journal.append([decided(11, "rules", *VOICES)])
    assert (await records.graded()).council == "rules"


async def test_in_the_shadow_nothing_is_mixed_with_what_was_traded(db: Database) -> None:
    """What the models said beside the rules is another record than what they decided."""
    said = (decided(2, "shadow", *VOICES, size=0.6), samples.opinion(2, *VOICES))
    await journal_of(db).append([decided(1, "strict", *VOICES, size=0.6), *said])
    record = await CouncilRecords(db, "paper").graded("shadow")
    assert ([row.verdict_id for row in record.rows], record.beside) == ([2], True)
    assert record.title == "council shadow (the models, not traded; left out: 1 of strict)"
    assert not (await CouncilRecords(db, "paper").graded("strict")).beside


async def test_the_last_ones_are_graded_whatever_the_record_holds(db: Database) -> None:
    """As many as are wanted, over every page; what is earlier is counted."""
    for start in range(0, 1203, 400):
        numbers = range(start, min(start + 400, 1203))
        await journal_of(db).append(
            [decided(each, "rules" if each % 2 else "off", *(VOICES if each % 2 else ())) for each in numbers]
        )
    records = CouncilRecords(db, "paper")
    odd = list(range(1, 1203, 2))
    assert len(odd) < NEWEST
    for newest, earlier in ((NEWEST, 0), (len(odd), 0), (300, len(odd) - 300)):
        record = await records.graded(newest=newest)
        assert ([row.verdict_id for row in record.rows], record.earlier) == (odd[-newest:], earlier)
    assert (await records.graded(newest=300)).title == "council rules (left out: 301 earlier ones)"


async def test_costs_are_added_up_by_day_and_agent(db: Database) -> None:
    """Exactly, over every page; a call that reports no tokens is told apart."""
    journal, records = journal_of(db), CouncilRecords(db, "paper")
    assert await records.costs() == []
    tiny, none = model_call(cost="0.00000000000000000001"), replace(model_call(), tokens_in=None, tokens_out=None)
    later = replace(answered(2, agent_answer("risk_manager"), model_call()), at=samples.START + timedelta(days=1))
    await journal.append([*(answered(each, None, *[tiny] * 100) for each in range(41)), later])
    await journal.append([answered(None, None, model_call(), none)])
    await journal_of(db, "noise").append([answered(1, None, model_call())])
    first, second = await records.costs()
    assert (first.day, first.agent, first.calls, first.unreported) == (date(2026, 3, 1), "quant", 4_102, 1)
    assert (first.tokens_in, first.tokens_out) == (4_101 * 2_100, 4_101 * 160)
    assert first.cost_usd == Decimal("0.00024600000000004100")
    assert (second.day, second.agent, second.cost_usd) == (date(2026, 3, 2), "risk_manager", Decimal("0.000123"))


PRICE = Decimal("0.000123")  # of a sample's call


def bill(calls: int, agent: str = "quant", day: int = 1) -> AgentCost:
    """What so many sample calls come to."""
    return AgentCost(
        day=date(2026, 3, day),
        agent=agent,
        calls=calls,
        unreported=0,
        tokens_in=calls * 2_100,
        tokens_out=calls * 160,
        cost_usd=calls * PRICE,
    )


async def test_every_call_of_the_time_is_paid_for(db: Database) -> None:
    """Of candidates that came to no decision, of people's questions, of a debate that goes on: as the calls have it."""
    journal, quant = journal_of(db), agent_answer("quant")
    cut = decided(1, "strict", gate="superseded", reasons=("the next bar closed first",))
    await journal.append([answered(1, quant, model_call()), cut, answered(2, quant, model_call())])
    await journal.append([decided(2, "strict", *VOICES, size=0.6), answered(None, quant, model_call())])
    await journal.append([answered(3, quant, model_call(), council="degraded"), decided(3, "degraded", *VOICES)])
    asked = answered(None, agent_answer("risk_manager"), model_call(), council="degraded")
    tomorrow = replace(answered(4, quant, model_call()), at=samples.START + timedelta(days=1))
    await journal.append([asked, samples.proposed(4), tomorrow])
    records = CouncilRecords(db, "paper")
    (strict,) = (await records.graded("strict")).rows
    assert strict.bills == (bill(3), bill(1, day=2))
    assert (strict.ballots[0].cost_usd, paid([strict])["quant"].calls) == (float(PRICE), 4)
    assert [row.bills for row in (await records.graded("degraded")).rows] == [(bill(1), bill(1, "risk_manager"))]


async def test_a_bill_is_of_its_time(db: Database) -> None:
    """On the first candidate of its day or a later one; what belongs to candidates before those graded is left out."""
    journal, quant = journal_of(db), agent_answer("quant")
    for number in range(1, 6):
        at = samples.START + timedelta(days=number - 1)
        said = replace(answered(number, quant, *[model_call()] * number), at=at)
        answers = VOICES if number != 4 else ()
        await journal.append([said, decided(number, "strict", *answers, at=at)])
    rows = (await CouncilRecords(db, "paper").graded(newest=2)).rows
    assert [row.verdict_id for row in rows] == [3, 5]
    assert [row.bills for row in rows] == [(bill(3, day=3),), (bill(4, day=4), bill(5, day=5))]


async def test_what_the_models_cost_in_the_shadow_is_theirs(db: Database) -> None:
    """Also where the program ended before they had concluded; the rules cost nothing."""
    journal = journal_of(db)
    for number in (1, 2):
        said = [answered(number, each, model_call(), council="shadow") for each in VOICES[:number]]
        await journal.append([decided(number, "shadow", *VOICES), *said])
    await journal.append([samples.opinion(1, *VOICES), decided(3, "rules", *VOICES)])
    records = CouncilRecords(db, "paper")
    (row,) = (await records.graded("shadow")).rows
    assert row.bills == (bill(2), bill(1, "strategist"))
    assert [each.bills for each in (await records.graded("rules")).rows] == [()]


async def test_a_journal_cut_short_is_found_by_what_was_said(path: Path) -> None:
    """A hearing that knows a later event than the chain gives it away."""
    db = await open_database(path)
    await journal_of(db).append([samples.alert(1), samples.alert(2), samples.proposed(1)])
    await db.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM journal WHERE seq = 3")
        connection.execute("UPDATE heads SET seq = 2, hash = (SELECT hash FROM journal WHERE seq = 2)")
    connection.close()
    db = await open_database(path)
    assert await journal_of(db).verify() == 3
    await db.close()


async def test_a_database_from_before_the_models_goes_on(path: Path) -> None:
    """Its verdicts stay, its stories have no shadow, and what comes from now on is kept."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
    engine.dispose()
    known = {name for (name,) in names(path)}
    assert "runs" in known
    assert "calls" not in known
    db = await open_database(path)
    await journal_of(db).append([samples.verdict(1), answered(1, None, model_call()), samples.shadow_ended(1)])
    assert {"calls", "hearings", "shadows", "model_keys", "model_spending"} <= {name for (name,) in names(path)}
    story = await Records(db, "paper").story(1)
    assert story is not None
    assert story.shadow == samples.shadow_ended(1)
    await db.close()


def names(path: Path) -> list[tuple[str]]:
    """The tables of a file."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    return found
