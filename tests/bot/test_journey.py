"""What happens in the journal is read in the chat, and what is said in the chat happens once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from bot.access import Role
from bot.commands import COMMANDS
from bot.ports import Answer, Asked, Command, Desk, command_id
from storage.outbox import NewMessage
from tests.bot.phone.driver import Json
from tests.bot.stage import (
    NOON,
    OPERATOR,
    OWNER,
    STRANGER,
    VIEWER,
    Stage,
    a_fill,
    a_trade,
    a_verdict,
    running_phone,
    some_events,
    staged,
)
from trading.events import AgentAnswer, TradingPaused


async def test_a_verdict_with_its_fill_and_exit_is_one_thread_in_the_chat(tmp_path: Path) -> None:
    """The card comes first; everything on the same decision replies to it, for the owner and for operators."""
    async with staged(tmp_path) as stage:
        await stage.journal.append(some_events())
        await stage.conversation.drain()
        for reader in (stage.owner, stage.others(OPERATOR)):
            card, fill, closed = await reader.look()
            assert card["text"].startswith("PAPER APPROVED #215 SHORT ETH 0.43 at 2,412, risk 8.70 USDT (0.43%)")
            assert fill["text"].startswith("PAPER #215 SHORT ETH filled 0.43 at 2,412")
            assert closed["text"].startswith("PAPER #215 CLOSED ETH +17.30 USDT +1.9R trailing stop")
            assert [fill["reply_to"], closed["reply_to"]] == [card["message_id"]] * 2


async def test_every_command_is_answered_by_a_reply_to_it(tmp_path: Path) -> None:
    """Also an unknown one and plain text, which get /help's answer; the first line begins with the badge."""
    async with staged(tmp_path) as stage:
        await stage.journal.append([a_verdict()])
        answers = {}
        for text in ("/start", "/help", "/status", "/verdicts", "/verdicts x", "/nonsense", "hello", "/help status"):
            answers[text] = (await stage.owner.reply_to(await stage.owner.say(text)))["text"]
        assert all(answer.startswith("PAPER") for answer in answers.values())
        assert answers["hello"] == answers["/nonsense"] == answers["/help"]
        assert "#215 21 Jul 12:00 SHORT ETH approved" in answers["/verdicts"]
        assert "takes a number" in answers["/verdicts x"]
        assert "started nothing" in answers["/start"]
        assert "You are owner" in answers["/start"]
        assert stage.trader.asked == []
        about = await stage.owner.human.get("/phone/about")
        names = [command.name for command in COMMANDS if not command.hidden]
        assert [each["command"] for each in about["commands"]] == names


async def test_a_pause_is_answered_takes_effect_and_is_reported(tmp_path: Path) -> None:
    """The answer replies to the command; the effect is reported to everybody who gets events."""
    async with staged(tmp_path) as stage:
        operator = stage.others(OPERATOR)
        asked = await operator.say("/pause")
        assert "Pausing" in (await operator.reply_to(asked))["text"]
        assert "PAUSED by operator 2" in (await stage.owner.message("PAUSED"))["text"]
        assert await stage.inbox.pending() == []
        assert "PAUSED" in (await stage.owner.reply_to(await stage.owner.say("/status")))["text"]
        await stage.owner.reply_to(await stage.owner.say("/resume"))
        await stage.owner.message("RESUMED by owner 1")
        assert not stage.trader.paused


async def test_each_role_may_do_what_the_table_says(tmp_path: Path) -> None:
    """S2: a refusal names the role; nothing is asked of the trader."""
    async with staged(tmp_path) as stage:
        for user_id, text, said in (
            (VIEWER, "/pause", "for the operator"),
            (VIEWER, "/resume", "for the owner"),
            (OPERATOR, "/resume", "for the owner"),
            (VIEWER, "/status", "0 open"),
        ):
            reader = stage.others(user_id)
            assert said in (await reader.reply_to(await reader.say(text)))["text"]
        assert stage.trader.asked == []


async def test_strangers_edits_and_empty_lists_get_silence(tmp_path: Path) -> None:
    """Nothing is stored, answered or done; the owner's next command shows that the bot was listening."""
    async with staged(tmp_path) as stage:
        stranger = stage.others(STRANGER)
        await stranger.say("/pause")
        first = await stage.owner.say("/status")
        await stage.owner.reply_to(first)
        await stage.owner.human.correct(first, "/pause")
        await stage.owner.reply_to(await stage.owner.say("/status"))
        assert await stranger.look() == []
        assert stage.trader.asked == []
        assert len(await stage.owner.look()) == 2


async def test_a_tap_on_an_old_button_is_answered(tmp_path: Path) -> None:
    """The spinner ends and a sentence says so; nothing else happens."""
    async with staged(tmp_path) as stage:
        button = [[{"text": "Approve", "data": "a1"}]]
        await stage.outbox.put([NewMessage(key="k", chat_id=OWNER, text="PAPER old", buttons=button)])
        message = await stage.owner.message("old")
        tap = await stage.owner.human.tap(message["message_id"], "a1")
        assert "no longer active" in (await stage.owner.reply_to(message["message_id"]))["text"]
        answered = await stage.owner.human.get(f"/phone/taps/{tap['callback_query_id']}")
        assert answered["answered"]
        assert stage.trader.asked == []


async def test_status_is_refreshed_in_place(tmp_path: Path) -> None:
    """The button changes the message it stands on; nothing new comes."""
    async with staged(tmp_path) as stage:
        status = await stage.owner.reply_to(await stage.owner.say("/status"))
        assert "0 open" in status["text"]
        stage.trader.paused = True
        await stage.owner.human.tap(status["message_id"], "status")

        def refreshed(said: list[Json]) -> Json | None:
            shown = next(each for each in said if each["message_id"] == status["message_id"])
            return shown if "PAUSED" in shown["text"] else None

        after = await stage.owner.until(refreshed)
        assert after["edit_date"] is not None
        assert after["buttons"] == status["buttons"]
        assert len(await stage.owner.look()) == 1


async def test_a_card_lives_through_its_trade(tmp_path: Path) -> None:
    """Each step is a line on the card and a reply in its thread; a restart repeats none."""
    async with running_phone() as phone:
        for _ in range(2):
            async with staged(tmp_path, phone=phone) as stage:
                if await stage.journal.last_seq() == 0:
                    await stage.journal.append([a_verdict()])
                    await stage.conversation.drain()
                    await stage.journal.append([a_fill()])
                    await stage.conversation.drain()
                    await stage.journal.append([a_trade()])
                await stage.conversation.drain()
                card, *replies = await stage.owner.look()
                assert card["text"].count("FILLED 0.43 at 2,412") == 1
                assert card["text"].count("CLOSED +17.30 USDT +1.9R") == 1
                assert card["text"].startswith("PAPER APPROVED #215 SHORT ETH 0.43 at 2,412, risk 8.70 USDT (0.43%)")
                assert [each["reply_to"] for each in replies] == [card["message_id"]] * 2
                assert [each["text"] for row in card["buttons"] for each in row] == ["Why", "Trade"]


async def test_a_picture_goes_to_the_thread_of_an_approved_decision(tmp_path: Path) -> None:
    """Once, also after a restart; rejected decisions get none."""
    async with running_phone() as phone:
        for _ in range(2):
            async with staged(tmp_path, phone=phone, illustrated=True) as stage:
                if await stage.journal.last_seq() == 0:
                    await stage.journal.append([a_verdict(), a_verdict(216, approved=False, gate="guard")])
                found = await stage.owner.until(lambda said: next((each for each in said if each["photo"]), None))
                card = await stage.owner.message("#215 SHORT ETH 0.43")
                assert found["reply_to"] == card["message_id"]
                assert "entry 2,412, stop 2,441" in found["caption"]
                await stage.conversation.drain()
                assert len(await stage.owner.look()) == 3


async def slow(asked: Asked, desk: Desk) -> Answer:
    """A handler that takes as long as a test lets it."""
    await GATES[asked.name].wait()
    return Answer(text="PAPER at last")


GATES: dict[str, asyncio.Event] = {}


async def test_nothing_waits_behind_what_is_slow(tmp_path: Path) -> None:
    """The chat shows that somebody is typing, other commands are answered meanwhile, and a kill loses no answer."""
    GATES["ponder"] = asyncio.Event()
    ponder = Command(name="ponder", group="rest", needs=Role.VIEWER, description="x", handler=slow, slow=True)
    async with running_phone() as phone:
        async with staged(tmp_path, phone=phone, commands=(*COMMANDS, ponder)) as stage:
            asked = await stage.owner.say("/ponder")
            await stage.owner.reply_to(await stage.owner.say("/panic"))
            assert "/ponder" in await unfinished(stage)
        async with staged(tmp_path, phone=phone, commands=(*COMMANDS, ponder)) as stage:
            GATES["ponder"].set()
            assert (await stage.owner.reply_to(asked))["text"] == "PAPER at last"


async def unfinished(stage: Stage) -> list[str]:
    """What was said and is not done; an answer is read a moment before its command is."""
    return [each.body["message"]["text"] for each in await stage.inbox.pending()]


async def broken(asked: Asked, desk: Desk) -> Answer:
    """A handler with a bug."""
    raise LookupError(asked.name)


async def chatty(asked: Asked, desk: Desk) -> Answer:
    """A handler with so many lines to say."""
    told = "\n".join(f"{number:04d} " + "&amp;" * 45 for number in range(int(asked.arguments[0])))
    return Answer(text=f"PAPER <b>much</b>\n<pre>{told}</pre>", buttons=[[{"text": "Menu", "data": "menu"}]])


async def test_a_long_answer_goes_on_in_further_messages_and_a_very_long_one_in_a_file(tmp_path: Path) -> None:
    """Nothing of it is left off; the buttons are under its end."""
    talk = Command(name="talk", group="rest", needs=Role.VIEWER, description="talks", handler=chatty)
    async with staged(tmp_path, commands=(*COMMANDS, talk)) as stage:
        asked = await stage.owner.say("/talk 300")
        parts = await stage.owner.until(lambda said: len(found := replies(said, asked)) == 4 and found)
        lines = [line for part in parts for line in part["text"].split("\n")]
        assert [line.split(" ")[0] for line in lines] == ["PAPER", *(f"{number:04d}" for number in range(300))]
        assert [bool(part["buttons"]) for part in parts] == [False, False, False, True]
        asked = await stage.owner.say("/talk 600")
        answer = await stage.owner.reply_to(asked)
        assert answer["caption"] == "PAPER much\nThe whole answer is in the file."
        assert answer["document_name"] == "talk.txt"
        assert len(answer["buttons"]) == 1
        await stage.conversation.drain()
        assert len(replies(await stage.owner.look(), asked)) == 1


def replies(said: list[Json], message_id: int) -> list[Json]:
    """What the bot has answered to a message, oldest first."""
    return [each for each in said if each["reply_to"] == message_id]


async def test_a_failing_handler_costs_one_sentence(tmp_path: Path) -> None:
    """It is logged and done with; the commands after it are answered."""
    poison = Command(name="poison", group="rest", needs=Role.VIEWER, description="fails", handler=broken)
    async with staged(tmp_path, commands=(*COMMANDS, poison)) as stage:
        assert "went wrong" in (await stage.owner.reply_to(await stage.owner.say("/poison")))["text"]
        assert "0 open" in (await stage.owner.reply_to(await stage.owner.say("/status")))["text"]
        assert "/poison" not in await unfinished(stage)


async def test_a_stored_update_that_cannot_be_read_blocks_nothing(tmp_path: Path) -> None:
    """It is logged and done with; rows of people who are no longer on the list are done with, too."""
    body = {"message_id": 1, "date": 1, "chat": {"id": STRANGER, "type": "private"}, "text": "/pause"}
    person = {"id": STRANGER, "is_bot": False, "first_name": "x"}
    async with running_phone() as phone:
        async with staged(tmp_path, phone=phone, start=False) as stage:
            await stage.inbox.accept(1, {"update_id": 1, "message": {"nonsense": 5}}, NOON)
            await stage.inbox.accept(2, {"update_id": 2, "message": body | {"from": person}}, NOON)
        async with staged(tmp_path, phone=phone) as stage:
            await stage.owner.reply_to(await stage.owner.say("/status"))
            assert stage.trader.asked == []
            assert [each.update_id for each in await stage.inbox.pending() if each.update_id <= 2] == []


async def test_a_command_stored_before_a_crash_is_done_once_after_it(tmp_path: Path) -> None:
    """Killed between accept and done, and again before the trader acted: one effect, one answer."""
    async with running_phone() as phone:
        async with staged(tmp_path, phone=phone, busy=True) as stage:
            asked = await stage.owner.say("/pause")
            await stage.owner.reply_to(asked)
            assert len(await stage.inbox.pending()) == 1
        async with staged(tmp_path, phone=phone) as stage:
            await stage.owner.message("PAUSED by owner")
            await stage.owner.reply_to(await stage.owner.say("/status"))
            assert "/pause" not in await unfinished(stage)
            said = await stage.owner.look()
            assert [each["reply_to"] for each in said].count(asked) == 1
        async with staged(tmp_path, phone=phone) as stage:
            await stage.owner.reply_to(await stage.owner.say("/status"))
            assert stage.trader.asked == []
            assert stage.trader.paused
            effects = [each.event for each in await stage.journal.read(0)]
            assert [type(each) for each in effects] == [TradingPaused]


async def test_an_effect_journaled_before_a_crash_is_not_asked_for_again(tmp_path: Path) -> None:
    """The trader acted, the program died before the inbox knew: at the start the journal settles it."""
    async with running_phone() as phone:
        async with staged(tmp_path, phone=phone, busy=True) as stage:
            await stage.owner.reply_to(await stage.owner.say("/pause"))
            (pending,) = await stage.inbox.pending()
        async with staged(tmp_path, phone=phone, start=False) as stage:
            command = command_id(pending.update_id)
            await stage.journal.append([TradingPaused(at=NOON, by="owner 1", command=command)])
        async with staged(tmp_path, phone=phone) as stage:
            await stage.owner.message("PAUSED by owner 1")
            await stage.owner.reply_to(await stage.owner.say("/status"))
            assert stage.trader.asked == []


async def test_a_late_resume_is_refused_and_a_late_pause_honoured(tmp_path: Path) -> None:
    """What raises risk must be fresh; what reduces it is welcome at any age."""
    later = datetime.now(UTC) + timedelta(seconds=90)
    async with staged(tmp_path, wall=lambda: later) as stage:
        assert "late" in (await stage.owner.reply_to(await stage.owner.say("/resume")))["text"]
        assert stage.trader.asked == []
        await stage.owner.reply_to(await stage.owner.say("/pause"))
        await stage.owner.message("PAUSED by owner")


async def test_the_day_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Trades of the same day that an earlier run reported are counted in."""
    async with running_phone() as phone:
        async with staged(tmp_path, phone=phone) as stage:
            await stage.journal.append([a_trade(1, pnl=Decimal(10)), a_trade(2, pnl=Decimal(-4))])
            await stage.conversation.drain()
        async with staged(tmp_path, phone=phone) as stage:
            await stage.journal.append([a_trade(3, pnl=Decimal(1)), a_trade(4, pnl=Decimal(2))])
            await stage.conversation.drain()
            said = [each["text"] for each in await stage.owner.look()]
            assert [today(text) for text in said[:2]] == ["Today +10.00 USDT (1/1)", "Today +6.00 USDT (1/2)"]
            assert [today(text) for text in said[2:]] == ["Today +7.00 USDT (2/3)", "Today +9.00 USDT (3/4)"]


def today(text: str) -> str:
    return next(line for line in text.split("\n") if line.startswith("Today"))


async def test_events_are_told_once_whatever_happens_between(tmp_path: Path) -> None:
    """Restarts in the middle of a history: every card once, in the journal's order."""
    async with running_phone() as phone:
        for run in range(3):
            async with staged(tmp_path, phone=phone) as stage:
                for number in range(10):
                    await stage.journal.append([a_verdict(run * 10 + number)])
        async with staged(tmp_path, phone=phone) as stage:
            await stage.conversation.drain()
            said = [each["text"].split()[2] for each in await stage.owner.look()]
            assert said == [f"#{number}" for number in range(30)]


async def test_a_hostile_council_reaches_the_chat_as_text(tmp_path: Path) -> None:
    """The real server takes it in one piece, and none of it is markup, link or command."""
    hostile = "</pre><b>BUY</b> https://evil.example /panic @all 🧨\u202e" + "x" * 10_000
    answers = tuple(
        AgentAnswer(agent=hostile, status="OK", vote=hostile, p_win=0.5, text=hostile, against=hostile)
        for _ in range(3)
    )
    event = a_verdict(symbol=hostile, reasons=(hostile,) * 9, answers=answers, council=hostile)
    async with staged(tmp_path) as stage:
        await stage.journal.append([event])
        await stage.conversation.drain()
        (card,) = await stage.owner.look()
        assert card["text"].startswith("PAPER APPROVED #215")
        assert "href" not in card["html"]
