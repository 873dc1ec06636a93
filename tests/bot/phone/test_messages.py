"""The Bot API through the real python-telegram-bot: sending, editing, deleting, files."""

from __future__ import annotations

import pytest
from aiohttp import ClientSession
from telegram import (
    Bot,
    BotCommand,
    BotCommandScopeAllPrivateChats,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    InputMediaDocument,
    InputMediaPhoto,
    LinkPreviewOptions,
    Message,
    MessageOriginUser,
    ReactionTypeEmoji,
    ReplyKeyboardRemove,
    ReplyParameters,
)
from telegram.constants import ChatAction
from telegram.error import BadRequest

from bot.phone import Phone
from tests.bot.phone.driver import Human

OWNER = 1
KEYBOARD = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="y:1")]])


async def test_the_bot_knows_itself(bot: Bot) -> None:
    """getMe answers the token's number and a bot."""
    me = await bot.get_me()
    assert (me.id, me.is_bot, me.username) == (7000000001, True, "conclave_bot")
    await bot.set_my_name("Quant")
    assert (await bot.get_me()).first_name == "Quant"
    assert (await bot.get_my_name()).name == "Quant"


async def test_a_message_has_telegrams_shape(bot: Bot) -> None:
    """Text, entities, keyboard, sender, chat and date come back as python-telegram-bot knows them."""
    sent = await bot.send_message(
        OWNER,
        "<b>Up</b> 😀 <i>now</i>",
        parse_mode="HTML",
        reply_markup=KEYBOARD,
        disable_notification=True,
        link_preview_options=LinkPreviewOptions(is_disabled=True),
    )
    assert sent.text == "Up 😀 now"
    assert sent.text_html == "<b>Up</b> 😀 <i>now</i>"
    assert sent.from_user is not None
    assert sent.from_user.is_bot
    assert (sent.chat.id, sent.chat.type, sent.chat.first_name) == (OWNER, "private", "Owner")
    assert sent.reply_markup == KEYBOARD
    assert sent.edit_date is None


async def test_a_reply_carries_what_it_answers(bot: Bot, human: Human) -> None:
    """A reply holds the whole original, and the face its id; only one level deep."""
    asked = await human.say("/status")
    first = await bot.send_message(OWNER, "flat", reply_parameters=ReplyParameters(asked["message_id"]))
    second = await bot.send_message(OWNER, "still", reply_to_message_id=first.message_id)
    assert first.reply_to_message is not None
    assert first.reply_to_message.text == "/status"
    assert isinstance(second.reply_to_message, Message)
    assert second.reply_to_message.reply_to_message is None
    assert [each["reply_to"] for each in await human.messages(after=asked["message_id"])] == [1, 2]


async def test_a_reply_to_nothing(bot: Bot) -> None:
    """Refused, unless sending without the reply is allowed."""
    with pytest.raises(BadRequest, match=r"^Message to be replied not found$"):
        await bot.send_message(OWNER, "x", reply_parameters=ReplyParameters(77))
    sent = await bot.send_message(OWNER, "x", reply_parameters=ReplyParameters(77, allow_sending_without_reply=True))
    assert sent.reply_to_message is None


async def test_an_edit_replaces_text_and_keyboard(bot: Bot, human: Human) -> None:
    """editMessageText drops a keyboard that is not given again, and stamps the edit."""
    sent = await bot.send_message(OWNER, "WAITING", reply_markup=KEYBOARD)
    edited = await bot.edit_message_text("<b>APPROVED</b>", OWNER, sent.message_id, parse_mode="HTML")
    assert isinstance(edited, Message)
    assert edited.text == "APPROVED"
    assert edited.reply_markup is None
    assert edited.edit_date is not None
    (seen,) = await human.messages()
    assert (seen["text"], seen["html"], seen["buttons"]) == ("APPROVED", "<b>APPROVED</b>", [])
    assert seen["edit_date"] == int(edited.edit_date.timestamp())


async def test_the_same_content_is_no_edit(bot: Bot) -> None:
    """Text and keyboard alike are refused; either one different is an edit."""
    sent = await bot.send_message(OWNER, "x", reply_markup=KEYBOARD)
    with pytest.raises(BadRequest, match=r"^Message is not modified: specified new message content"):
        await bot.edit_message_text("x", OWNER, sent.message_id, reply_markup=KEYBOARD)
    await bot.edit_message_reply_markup(OWNER, sent.message_id, reply_markup=None)
    with pytest.raises(BadRequest, match=r"^Message is not modified"):
        await bot.edit_message_reply_markup(OWNER, sent.message_id, reply_markup=InlineKeyboardMarkup([]))
    await bot.edit_message_text("<b>x</b>", OWNER, sent.message_id, parse_mode="HTML")


async def test_a_photo_is_stored_and_served(bot: Bot, human: Human, picture: bytes) -> None:
    """A photo has its size, comes back through getFile and through the face, and can be sent again by id."""
    sent = await bot.send_photo(OWNER, picture, caption="<b>Equity</b>", parse_mode="HTML", filename="e.png")
    (size,) = sent.photo
    assert (size.width, size.height, size.file_size) == (40, 20, len(picture))
    assert sent.caption == "Equity"
    file = await bot.get_file(size.file_id)
    assert bytes(await file.download_as_bytearray()) == picture
    again = await bot.send_photo(OWNER, size.file_id)
    assert again.photo[0].file_id == size.file_id
    seen, _ = await human.messages()
    assert (seen["text"], seen["caption"], seen["document"]) == (None, "Equity", None)
    async with human.session.get(seen["photo"]) as response:
        assert response.content_type == "image/png"
        assert await response.read() == picture


async def test_a_document_is_stored_and_served(bot: Bot, human: Human) -> None:
    """A document keeps its name and type; the face gives a link that downloads it."""
    asked = await human.say("/export")
    sent = await bot.send_document(
        OWNER, b"PK-table", filename="Bücher & 1.xlsx", reply_to_message_id=asked["message_id"]
    )
    assert sent.document is not None
    assert (sent.document.file_name, sent.document.file_size) == ("Bücher & 1.xlsx", 8)
    seen = (await human.messages())[-1]
    assert (seen["caption"], seen["photo"], seen["text"]) == (None, None, None)
    async with human.session.get(seen["document"]) as response:
        assert "attachment" in response.headers["Content-Disposition"]
        assert await response.read() == b"PK-table"


async def test_a_progress_message_becomes_the_chart(bot: Bot, human: Human, picture: bytes) -> None:
    """editMessageMedia turns text into a photo; after that its caption is edited, not its text."""
    sent = await bot.send_message(OWNER, "[##..] 50%")
    await bot.edit_message_media(InputMediaPhoto(picture, caption="Backtest #88"), OWNER, sent.message_id)
    await bot.edit_message_caption(OWNER, sent.message_id, caption="<i>Backtest</i>", parse_mode="HTML")
    with pytest.raises(BadRequest, match=r"^There is no text in the message to edit$"):
        await bot.edit_message_text("x", OWNER, sent.message_id)
    (seen,) = await human.messages()
    assert (seen["text"], seen["caption"]) == (None, "Backtest")
    assert seen["photo"] is not None
    changed = await bot.edit_message_media(InputMediaDocument(b"x", filename="b.txt"), OWNER, sent.message_id)
    assert isinstance(changed, Message)
    assert changed.document is not None
    assert changed.photo == ()


async def test_a_deleted_message_is_gone(bot: Bot, human: Human) -> None:
    """Neither side can reach it, its id is not used again, and a poller learns of it."""
    sent = await bot.send_message(OWNER, "secret")
    cursor = (await human.read())["cursor"]
    assert await bot.delete_message(OWNER, sent.message_id)
    with pytest.raises(BadRequest, match=r"^Message to delete not found$"):
        await bot.delete_message(OWNER, sent.message_id)
    with pytest.raises(BadRequest, match=r"^Message to edit not found$"):
        await bot.edit_message_text("x", OWNER, sent.message_id)
    seen = await human.read(since=cursor)
    assert (seen["messages"], seen["deleted"], seen["cursor"]) == ([], [1], cursor + 1)
    assert await bot.delete_messages(OWNER, [sent.message_id, 99])
    assert (await bot.send_message(OWNER, "next")).message_id == 2


async def test_a_large_document_comes_back(bot: Bot, human: Human) -> None:
    """Megabytes go through both ways without a warning."""
    sent = await bot.send_document(OWNER, bytes(3_000_000), filename="big.bin")
    assert sent.document is not None
    file = await bot.get_file(sent.document.file_id)
    assert len(await file.download_as_bytearray()) == 3_000_000
    async with human.session.get((await human.messages())[0]["document"]) as response:
        assert len(await response.read()) == 3_000_000


async def test_the_command_menu(bot: Bot, human: Human) -> None:
    """setMyCommands fills the page's menu; the narrower scope wins."""
    commands = [BotCommand("status", "positions"), BotCommand("help", "this list")]
    assert await bot.set_my_commands(commands)
    assert await bot.get_my_commands() == tuple(commands)
    assert [each["command"] for each in (await human.get("/phone/about"))["commands"]] == ["status", "help"]
    await bot.set_my_commands([BotCommand("panic", "out")], scope=BotCommandScopeAllPrivateChats())
    assert [each["command"] for each in (await human.get("/phone/about"))["commands"]] == ["panic"]
    assert await bot.delete_my_commands(scope=BotCommandScopeAllPrivateChats())
    assert len((await human.get("/phone/about"))["commands"]) == 2


async def test_the_small_calls(bot: Bot) -> None:
    """What a bot does on the side is answered as Telegram answers it."""
    assert await bot.send_chat_action(OWNER, ChatAction.TYPING)
    assert await bot.set_my_description("trades") is True
    assert (await bot.get_my_description()).description == "trades"
    assert await bot.set_my_short_description("t") is True
    assert (await bot.get_my_short_description()).short_description == "t"
    assert (await bot.get_webhook_info()).pending_update_count == 0
    assert await bot.delete_webhook()
    chat = await bot.get_chat(OWNER)
    assert (chat.id, chat.username) == (OWNER, "owner")
    assert (await bot.send_message(OWNER, "x", reply_markup=ReplyKeyboardRemove())).reply_markup is None


async def test_a_get_with_a_query_is_a_call_too(session: ClientSession) -> None:
    """Telegram takes GET, form and JSON alike, and does not mind the method's case."""
    async with session.get("/bot7000000001:phone/SENDMESSAGE", params={"chat_id": "1", "text": "a"}) as got:
        assert (await got.json())["result"]["text"] == "a"
    async with session.post("/bot7000000001:phone/sendMessage", data={"chat_id": "1", "text": "b"}) as got:
        assert (await got.json())["result"]["text"] == "b"


async def test_another_chat_is_another_history(bot: Bot, human: Human, phone: Phone) -> None:
    """A listed user's chat exists from the start; the owner's face does not show it."""
    await bot.send_message(5, "for the viewer")
    assert await human.messages() == []
    assert [each["text"] for each in await human.messages(user_id=5)] == ["for the viewer"]


async def test_an_album_is_one_group(bot: Bot, human: Human, picture: bytes) -> None:
    """Its messages share a group and what they answer, and come back in order; a single item is no album."""
    asked = await human.say("/charts")
    photos = [InputMediaPhoto(picture, caption="<b>one</b>", parse_mode="HTML"), InputMediaPhoto(picture)]
    sent = await bot.send_media_group(OWNER, photos, reply_to_message_id=asked["message_id"])
    assert [each.caption for each in sent] == ["one", None]
    assert len({each.media_group_id for each in sent}) == 1
    assert sent[0].media_group_id is not None
    documents = [InputMediaDocument(b"a", filename="a.txt"), InputMediaDocument(b"b", filename="b.txt")]
    files = await bot.send_media_group(OWNER, documents)
    assert [each.document.file_name for each in files if each.document] == ["a.txt", "b.txt"]
    assert files[0].media_group_id != sent[0].media_group_id
    (alone,) = await bot.send_media_group(OWNER, photos[:1])
    assert alone.media_group_id is None
    seen = await human.messages()
    assert [each["reply_to"] for each in seen[1:3]] == [asked["message_id"]] * 2
    assert [each["album"] for each in seen[1:3]] == [sent[0].media_group_id] * 2


async def test_a_forward_names_its_origin_and_a_copy_does_not(bot: Bot, human: Human, picture: bytes) -> None:
    """Text, entities and media are the same; a copy may have a caption of its own; a forward cannot be edited."""
    said = await human.say("see /status")
    first = await bot.forward_message(OWNER, OWNER, said["message_id"])
    assert isinstance(first.forward_origin, MessageOriginUser)
    assert (first.forward_origin.sender_user.id, first.text) == (OWNER, "see /status")
    again = await bot.forward_message(5, OWNER, first.message_id)
    assert isinstance(again.forward_origin, MessageOriginUser)
    assert again.forward_origin.sender_user.id == OWNER
    with pytest.raises(BadRequest, match=r"^Message can't be edited$"):
        await bot.edit_message_text("x", OWNER, first.message_id)
    chart = await bot.send_photo(OWNER, picture, caption="chart")
    copied = await bot.copy_message(OWNER, OWNER, chart.message_id)
    named = await bot.copy_message(OWNER, OWNER, chart.message_id, caption="<i>mine</i>", parse_mode="HTML")
    by_id = {each["message_id"]: each for each in await human.messages()}
    assert by_id[first.message_id]["forwarded_from"] == "Owner"
    assert by_id[copied.message_id]["forwarded_from"] is None
    assert (by_id[copied.message_id]["caption"], by_id[named.message_id]["caption"]) == ("chart", "mine")
    assert by_id[copied.message_id]["photo"] == by_id[chart.message_id]["photo"]


async def test_pins(bot: Bot, human: Human) -> None:
    """The one pinned last is the chat's; unpinning without an id takes that one, and all can be taken at once."""
    one, two, three = [await bot.send_message(OWNER, text) for text in ("one", "two", "three")]
    for sent in (one, three, two):
        assert await bot.pin_chat_message(OWNER, sent.message_id)
    pinned = (await bot.get_chat(OWNER)).pinned_message
    assert pinned is not None
    assert pinned.message_id == two.message_id
    assert [each["text"] for each in (await human.get("/phone/about"))["pinned"]] == ["two", "three", "one"]
    assert await bot.unpin_chat_message(OWNER)
    assert await bot.unpin_chat_message(OWNER, one.message_id)
    assert [each["pinned"] for each in await human.messages()] == [False, False, True]
    assert await bot.unpin_all_chat_messages(OWNER)
    assert (await bot.get_chat(OWNER)).pinned_message is None


async def test_a_reaction_can_be_taken_back(bot: Bot, human: Human) -> None:
    """One emoji beside a message of either side."""
    said = await human.say("thanks")
    assert await bot.set_message_reaction(OWNER, said["message_id"], ReactionTypeEmoji("❤️"))
    assert [each["reaction"] for each in await human.messages()] == ["❤"]
    assert await bot.set_message_reaction(OWNER, said["message_id"], [])
    assert [each["reaction"] for each in await human.messages()] == [None]


@pytest.mark.parametrize(
    ("mode", "source", "page"),
    [
        ("MarkdownV2", "*b* _i_ __u__ ~s~ `c`", "<b>b</b> <i>i</i> <u>u</u> <s>s</s> <code>c</code>"),
        ("Markdown", "*b* _i_ `c`", "<b>b</b> <i>i</i> <code>c</code>"),
        ("HTML", "<b>b</b>", "<b>b</b>"),
        ("html", "<b>b</b>", "<b>b</b>"),
    ],
)
async def test_every_parse_mode_is_understood(bot: Bot, human: Human, mode: str, source: str, page: str) -> None:
    """All three of Telegram's, in any case."""
    await bot.send_message(OWNER, source, parse_mode=mode)
    assert [each["html"] for each in await human.messages()] == [page]


async def test_logging_out_is_answered(bot: Bot) -> None:
    """As Telegram answers it."""
    assert await bot.log_out()
    assert await bot.close()
