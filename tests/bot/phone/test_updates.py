"""What the human does reaches the bot: updates, long polls, a whole python-telegram-bot application."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import ClientSession
from telegram import Bot, CallbackQuery, InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.error import Conflict
from telegram.ext import Application, CallbackQueryHandler, CommandHandler, ContextTypes

from bot.phone import DEFAULT_TOKEN, Phone
from tests.bot.phone.driver import Human, call


async def test_a_command_becomes_an_update(bot: Bot, human: Human) -> None:
    """The update carries the sender, the private chat and a bot_command entity."""
    said = await human.say("  /backtest BTCUSDT 15m ")
    (update,) = await bot.get_updates()
    message = update.message
    assert message is not None
    assert (message.text, message.message_id) == ("/backtest BTCUSDT 15m", said["message_id"])
    assert [(each.type, each.offset, each.length) for each in message.entities] == [("bot_command", 0, 9)]
    assert message.from_user is not None
    assert (message.from_user.id, message.from_user.is_bot, message.chat.id) == (1, False, 1)


async def test_a_reply_of_the_human(bot: Bot, human: Human) -> None:
    """A user's reply carries the bot's message."""
    sent = await bot.send_message(1, "which?")
    said = await human.say("that one", reply_to=sent.message_id)
    assert said["reply_to"] == sent.message_id
    (update,) = await bot.get_updates()
    assert update.message is not None
    assert update.message.reply_to_message is not None
    assert update.message.reply_to_message.from_user == bot.bot


async def test_an_edited_message_is_its_own_kind(bot: Bot, human: Human) -> None:
    """A corrected message arrives as edited_message, never as a new one."""
    said = await human.say("/pause")
    await human.correct(said["message_id"], "/resume")
    first, second = await bot.get_updates()
    assert first.message is not None
    assert (second.message, first.message.text) == (None, "/pause")
    assert second.edited_message is not None
    assert second.edited_message.text == "/resume"


async def test_a_tap_is_a_callback_query(bot: Bot, human: Human) -> None:
    """The query names who tapped, the whole message and the data; its answer is seen in the face."""
    markup = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="y:1")]])
    sent = await bot.send_message(1, "sure?", reply_markup=markup)
    tap = await human.tap(sent.message_id, "y:1")
    (update,) = await bot.get_updates()
    query = update.callback_query
    assert isinstance(query, CallbackQuery)
    assert (query.id, query.data, query.from_user.id) == (tap["callback_query_id"], "y:1", 1)
    assert query.message is not None
    assert query.message.message_id == sent.message_id
    assert await query.answer("done", show_alert=True)
    seen = await human.get(f"/phone/taps/{query.id}")
    assert (seen["answered"], seen["answer"], seen["alert"]) == (True, "done", True)


async def test_a_stranger_may_write_and_tap(bot: Bot, human: Human) -> None:
    """Any user id can try; whether it is heard is the bot's decision."""
    markup = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="y:1")]])
    sent = await bot.send_message(1, "sure?", reply_markup=markup)
    await human.say("/status", user_id=666)
    await human.tap(sent.message_id, "y:1", user_id=667)
    written, tapped = await bot.get_updates()
    assert written.effective_user is not None
    assert written.effective_chat is not None
    assert (written.effective_user.id, written.effective_chat.id) == (666, 666)
    assert tapped.callback_query is not None
    assert tapped.callback_query.from_user.id == 667


async def test_the_offset_acknowledges(bot: Bot, human: Human) -> None:
    """Updates come again until a larger offset is asked for; a negative one keeps only the last."""
    for text in ("a", "b", "c", "d"):
        await human.say(text)
    first = await bot.get_updates(limit=2)
    assert [each.message.text for each in first if each.message] == ["a", "b"]
    assert await bot.get_updates(limit=2) == first
    rest = await bot.get_updates(offset=first[-1].update_id + 1)
    assert [each.message.text for each in rest if each.message] == ["c", "d"]
    (last,) = await bot.get_updates(offset=-1)
    assert last.update_id == rest[-1].update_id
    assert await bot.get_updates(offset=last.update_id + 1) == ()


async def test_only_the_allowed_updates_are_queued(bot: Bot, human: Human) -> None:
    """The list lasts until another is given; an empty one brings back the usual kinds."""
    await bot.get_updates(allowed_updates=["callback_query"])
    said = await human.say("not heard")
    assert await bot.get_updates() == ()
    await bot.get_updates(allowed_updates=[])
    await human.correct(said["message_id"], "heard")
    (update,) = await bot.get_updates()
    assert update.edited_message is not None


async def test_pending_updates_can_be_dropped(bot: Bot, human: Human) -> None:
    """deleteWebhook with drop_pending_updates empties the queue and keeps counting."""
    await human.say("a")
    (old,) = await bot.get_updates()
    assert (await bot.get_webhook_info()).pending_update_count == 1
    await bot.delete_webhook(drop_pending_updates=True)
    assert await bot.get_updates() == ()
    await human.say("b")
    (new,) = await bot.get_updates()
    assert new.update_id == old.update_id + 1


async def test_a_long_poll_wakes_at_once(bot: Bot, human: Human) -> None:
    """A poll of 30 s answers as soon as something is said, and after its time with nothing."""
    assert await bot.get_updates(timeout=1) == ()
    poll = asyncio.create_task(bot.get_updates(timeout=30))
    said = await human.say("hello")
    async with asyncio.timeout(5):
        (update,) = await poll
    assert update.message is not None
    assert update.message.message_id == said["message_id"]


async def test_of_three_pollers_one_goes_on(session: ClientSession, human: Human) -> None:
    """Each newer poll ends the one that hangs with 409; the last one gets the update."""
    polls = [asyncio.create_task(call(session, "getUpdates", timeout=30)) for _ in range(3)]
    while len(open_ := [poll for poll in polls if not poll.done()]) > 1:
        await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
    await human.say("who hears?")
    answers = sorted([await poll for poll in polls], key=lambda answer: answer[0])
    assert [status for status, _ in answers] == [200, 409, 409]
    assert answers[0][1]["result"][0]["message"]["text"] == "who hears?"
    assert answers[1][1]["description"] == (
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
    )


async def test_python_telegram_bot_understands_the_conflict(bot: Bot, session: ClientSession) -> None:
    """A poll that another one ended raises Conflict."""
    poll = asyncio.create_task(bot.get_updates(timeout=30))
    while not poll.done():
        assert (await call(session, "getUpdates"))[0] == 200
    with pytest.raises(Conflict, match="make sure that only one bot instance is running"):
        await poll


async def test_a_restart_keeps_history_and_counts_on(tmp_path: Path) -> None:
    """Messages, unheard updates and the command menu survive; update_id and message_id keep growing."""
    seen: list[int] = []
    for round_ in range(3):
        async with Phone(tmp_path) as phone, ClientSession(phone.url) as session:
            human = Human(session)
            await human.say(f"round {round_}")
            _, answer = await call(session, "getUpdates", offset=seen[-1] + 1 if seen else 0)
            seen += [each["update_id"] for each in answer["result"]]
            await human.say("unheard")
            assert len(await human.messages()) == 2 * (round_ + 1)
    assert len(seen) == 5
    assert seen == sorted(set(seen))


async def test_a_fresh_store_counts_from_the_clock() -> None:
    """An inbox that outlives the phone's store never meets an update_id twice."""
    async with Phone(None, clock=lambda: 1_700_000_000.5) as phone, ClientSession(phone.url) as session:
        await Human(session).say("x")
        _, answer = await call(session, "getUpdates")
    assert answer["result"][0]["update_id"] == 1_700_000_001


@pytest.mark.parametrize("restart", [False, True])
async def test_a_real_application_runs_against_it(tmp_path: Path, restart: bool) -> None:
    """An unmodified python-telegram-bot hears a command and a tap, and answers; also over a restart."""
    phone = Phone(tmp_path)
    await phone.start()
    port = int(phone.url.rsplit(":", 1)[1])
    application = _application(phone)
    async with application:
        assert application.updater is not None
        await application.start()
        await application.updater.start_polling(poll_interval=0, timeout=5)
        if restart:
            await phone.stop()
            phone = Phone(tmp_path, port=port)
            await phone.start()
        async with ClientSession(phone.url) as session:
            human = Human(session)
            asked = await human.say("/start")
            answer = await human.until("ready")
            assert answer["reply_to"] == asked["message_id"]
            await human.tap(answer["message_id"], "go")
            assert (await human.until("gone"))["message_id"] == answer["message_id"]
        await application.updater.stop()
        await application.stop()
    await phone.stop()


def _application(phone: Phone) -> Application:  # type: ignore[type-arg]  # six of them
    async def start(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        assert update.message is not None
        markup = InlineKeyboardMarkup([[InlineKeyboardButton("Go", callback_data="go")]])
        await update.message.reply_text("ready", do_quote=True, reply_markup=markup)

    async def tapped(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        assert update.callback_query is not None
        await update.callback_query.answer()
        await update.callback_query.edit_message_text("gone")

    builder = Application.builder().token(DEFAULT_TOKEN).job_queue(None)
    application = builder.base_url(phone.base_url).base_file_url(phone.base_file_url).build()
    application.add_handler(CommandHandler("start", start))
    application.add_handler(CallbackQueryHandler(tapped))
    return application
