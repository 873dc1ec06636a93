"""The chat page: reading and writing, with eyes, a keyboard or a screen reader."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from telegram import BotCommand, InlineKeyboardButton, InlineKeyboardMarkup, ReplyParameters

from bot.phone import Phone
from bot.phone.formatting import plain
from bot.phone.rows import Draft
from bot.phone.store import Store
from tests.bot.phone.browser import DESKTOP, OWNER, TELEPHONE, Chat, Window
from tests.bot.phone.driver import call

pytest.importorskip("playwright.async_api", reason="playwright is not installed")

from playwright.async_api import Route, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

COMMANDS = [
    BotCommand("status", "positions"),
    BotCommand("start", "say hello"),
    BotCommand("stop", "stop the program"),
    BotCommand("panic", "block entries, cancel, flatten"),
    BotCommand("backtest", "replay a strategy"),
]
# The contrast of every text that is seen: WCAG 2.2, 1.4.3. Backgrounds are laid over each other up to the first
# opaque one; of a gradient the worse end counts.
CONTRAST = """() => {
  const parse = (text) => {
    const found = [...text.matchAll(/(?:rgba?|color)\\(([^)]+)\\)/g)].map(([, inner]) => {
      const numbers = inner.replace("srgb", "").split(/[\\s,\\/]+/).filter(Boolean).map(Number);
      const [r, g, b, a = 1] = numbers;
      return inner.includes("srgb") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
    });
    return found;
  };
  const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
  const shine = ([r, g, b]) => [r, g, b]
    .map((each) => each / 255).map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4))
    .reduce((sum, each, index) => sum + each * [0.2126, 0.7152, 0.0722][index], 0);
  const ratio = (one, two) => {
    const [low, high] = [shine(one), shine(two)].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const backgrounds = (element) => {
    if (!element) return [[255, 255, 255, 1]];
    const style = getComputedStyle(element);
    const gradient = style.backgroundImage.includes("gradient") ? parse(style.backgroundImage) : [];
    const own = gradient.length ? gradient : parse(style.backgroundColor);
    const behind = (layer) => backgrounds(element.parentElement).map((each) => over(layer, each));
    return own.flatMap((layer) => (layer[3] >= 1 ? [layer] : behind(layer)));
  };
  const unseen = "script, template, .hidden-text, .skip, .spoiler:not(.open), [hidden], :disabled";
  const worst = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || element.closest(unseen)) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const ink = parse(getComputedStyle(element).color)[0];
    const value = Math.min(...backgrounds(element).map((each) => ratio(over(ink, each), each)));
    worst.push([Math.round(value * 100) / 100, text.slice(0, 40), element.className]);
  }
  return worst.sort((a, b) => a[0] - b[0]);
}"""


COUNT = "() => document.querySelectorAll('#messages .message').length"
SCROLLED_UP = """() => new Promise((done) => {
  const list = document.getElementById("messages");
  const lines = () => [...list.querySelectorAll(".message")];
  const up = () => requestAnimationFrame(() => {
    if (lines().length < 5000) { document.getElementById("scroll").scrollTop = 0; return; }
    watch.disconnect();
    done(lines().map((line) => Number(line.dataset.id)));
  });
  const watch = new MutationObserver(up);
  watch.observe(list, { childList: true });
  up();
})"""

AWAITED = """() => {
  const list = document.getElementById("messages");
  window.came = new Promise((done) => new MutationObserver(() => {
    if (list.lastChild.dataset.id === "5001") requestAnimationFrame(done);
  }).observe(list, { childList: true }));
}"""


def remembered(folder: Path, count: int) -> None:
    """A phone's memory of that many messages."""
    store = Store(folder, first_update_id=1)
    with store.writing():
        for number in range(count):
            body = plain(f"message {number}")
            store.add_message(Draft(chat_id=OWNER, sender_id=7, from_bot=True, date=1_700_000_000 + number, body=body))
    store.close()


async def metering(window: Window) -> Callable[[], Awaitable[float]]:
    """Tells the processor seconds that the page's thread has used since, however busy the machine is."""
    line = await window.page.context.new_cdp_session(window.page)
    await line.send("Performance.enable", {"timeDomain": "threadTicks"})

    async def used() -> float:
        found = {each["name"]: each["value"] for each in (await line.send("Performance.getMetrics"))["metrics"]}
        return float(found["TaskDuration"])

    return used


async def told(chat: Chat, text: str, **more: Any) -> int:
    """The bot says something; returns the message id. Without python-telegram-bot it is quick in thousands."""
    status, answer = await call(chat.session, "sendMessage", chat_id=OWNER, text=text, **more)
    assert status == 200, answer
    return int(answer["result"]["message_id"])


async def everything(chat: Chat) -> None:
    """One of each thing that the page can show."""
    yes, no = InlineKeyboardButton("Yes", callback_data="y"), InlineKeyboardButton("No", url="e.org")
    keys = InlineKeyboardMarkup([[yes, no]])
    await chat.bot.set_my_commands(COMMANDS)
    said = await chat.human.say("/status now")
    body = (
        "<b>flat</b> <i>i</i> <code>code</code> <a href='https://e.org'>link</a> /help <tg-spoiler>x</tg-spoiler>\n"
        "<pre>table</pre><blockquote>quoted</blockquote>end"
    )
    reply = ReplyParameters(said["message_id"])
    root = await chat.bot.send_message(
        OWNER, body, parse_mode="HTML", reply_markup=keys, reply_parameters=reply, disable_notification=True
    )
    await chat.human.correct(said["message_id"], "/status then")
    await chat.human.say("and /again", reply_to=root.message_id)
    await chat.bot.send_document(OWNER, b"x", filename="a.xlsx", reply_parameters=reply)
    await chat.bot.forward_message(OWNER, OWNER, root.message_id)
    card = await chat.bot.send_message(OWNER, "card")
    await chat.bot.send_message(OWNER, "step", reply_parameters=ReplyParameters(card.message_id))
    await chat.bot.pin_chat_message(OWNER, card.message_id)
    await chat.bot.set_message_reaction(OWNER, card.message_id, "👍")


# ---- what the bot does, and what was not read yet


async def test_typing_is_shown(chat: Chat) -> None:
    """In the header and as a bubble, for as long as Telegram shows it or until the answer comes."""
    window = await chat.open()
    state, dots = window.page.locator("#state"), window.page.locator("#typing")
    await chat.bot.send_chat_action(OWNER, "typing")
    await expect(state).to_have_text("typing…")
    await expect(dots).to_be_visible()
    await told(chat, "answer")
    await expect(state).to_have_text("bot")
    await expect(dots).to_be_hidden()
    await chat.bot.send_chat_action(OWNER, "upload_photo")
    await expect(state).to_have_text("sending a photo…")
    await expect(state).to_have_text("bot", timeout=8000)


async def test_typing_that_began_before_the_line_stood_is_shown(chat: Chat) -> None:
    """Told after the page was made and before it listened: nothing of it came over the line."""
    window = await chat.open()
    told_then = asyncio.Event()

    async def late(route: Route) -> None:
        await told_then.wait()
        await route.continue_()

    await window.page.route("**/phone/events*", late)
    await window.page.reload()
    await chat.bot.send_chat_action(OWNER, "typing")
    told_then.set()
    await expect(window.page.locator("#state")).to_have_text("typing…", timeout=4000)


async def test_unread_messages_are_marked(chat: Chat) -> None:
    """Who reads further up gets a line, a counter and a title; silent messages raise no title."""
    for number in range(60):
        await told(chat, f"old {number}")
    window = await chat.open()
    count, line = window.page.locator("#count"), window.page.locator("li.unread")
    await expect(window.page.locator("#down")).to_be_hidden()
    await window.scroll(100)
    await expect(window.page.locator("#down")).to_be_visible()
    first = await told(chat, "quiet", disable_notification=True)
    await expect(count).to_have_text("1")
    assert await window.page.title() == "Conclave"
    await told(chat, "loud")
    await expect(count).to_have_text("2")
    await expect(window.page).to_have_title("(1) Conclave")
    await expect(line).to_have_text("Unread messages")
    assert await line.evaluate("line => Number(line.nextElementSibling.dataset.id)") == first
    await window.page.click("#down")
    await expect(line).to_be_in_viewport()
    await expect(count).to_have_text("")
    await expect(window.page).to_have_title("Conclave")
    await window.page.fill("#text", "thanks")
    await window.page.keyboard.press("Enter")
    await expect(line).to_have_count(0)


async def test_the_next_visit_begins_where_the_last_one_ended(chat: Chat) -> None:
    """What came while the page was closed stands below the line."""
    for number in range(40):
        await told(chat, f"old {number}")
    window = await chat.open()
    await window.page.goto("about:blank")
    news = [await told(chat, f"new {number}") for number in range(40)]
    await window.page.goto(chat.phone.url)
    line = window.page.locator("li.unread")
    await expect(line).to_be_in_viewport()
    assert await line.evaluate("line => Number(line.nextElementSibling.dataset.id)") == news[0]
    await expect(window.page.locator("#count")).to_have_text("40")


async def test_who_reads_at_the_end_stays_there(chat: Chat) -> None:
    """New messages come into view, and nothing is counted."""
    window = await chat.open()
    last = 0
    for number in range(50):
        last = await told(chat, f"line {number}")
    await window.shows(last, "line 49")
    await expect(window.line(last)).to_be_in_viewport()
    await expect(window.page.locator("#count")).to_have_text("")


async def test_a_phone_that_was_away_is_found_again(chat: Chat) -> None:
    """The page says that it reconnects, and then shows what it missed."""
    port = int(chat.phone.url.rsplit(":", 1)[1])
    window = await chat.open()
    await chat.phone.stop()
    await expect(window.page.locator("#state")).to_have_text("reconnecting…")
    await window.page.fill("#text", "lost?")
    await window.page.keyboard.press("Enter")
    await expect(window.page.locator("#toast")).to_be_visible()
    await expect(window.page.locator("#text")).to_have_value("lost?")
    async with Phone(None, owner_id=OWNER, port=port):
        message_id = await told(chat, "here again")
        await window.shows(message_id, "here again")
        await expect(window.page.locator("#state")).to_have_text("bot")


# ---- a long chat


async def test_a_long_chat_stays_fluid(chat: Chat, tmp_path: Path) -> None:
    """Of 5,000 messages the newest 200 come first, and pages of more as one scrolls up; a new one costs little."""
    remembered(tmp_path, 5000)
    async with Phone(tmp_path, owner_id=OWNER) as phone, ClientSession(phone.url) as session:
        window = await chat.open(url=phone.url)
        assert await window.measured(COUNT) == 200
        assert await window.measured(SCROLLED_UP) == list(range(1, 5001))
        await expect(window.page.locator("#earlier")).to_be_hidden()
        await window.scroll(10**9)
        await window.measured(AWAITED)
        used = await metering(window)
        await call(session, "sendMessage", chat_id=OWNER, text="one more")
        await window.measured("() => window.came")
        assert await used() < 0.5
        await expect(window.line(5001)).to_be_in_viewport()


async def test_paging_back_keeps_the_place(chat: Chat) -> None:
    """While a page of earlier messages is put above, what is being read does not move."""
    for number in range(450):
        await told(chat, f"message {number}\n" * (1 + number % 3))
    window = await chat.open()
    lines = window.page.locator("#messages .message")
    moved = await window.measured(
        """() => new Promise((done) => {
             const scroll = document.getElementById("scroll");
             const list = document.getElementById("messages");
             scroll.scrollTop = 1500;
             const line = [...list.children].find((each) => each.getBoundingClientRect().top > 200);
             const before = line.getBoundingClientRect().top;
             const count = list.childElementCount;
             new MutationObserver(() => requestAnimationFrame(() => {
               if (list.childElementCount >= count + 100) done(line.getBoundingClientRect().top - before);
             })).observe(list, { childList: true });
             scroll.scrollTop = 1500;
             document.getElementById("earlier").click();
           })"""
    )
    assert moved == pytest.approx(0, abs=1)
    assert await lines.count() >= 300


# ---- the keyboard


async def test_the_keyboard_writes(chat: Chat) -> None:
    """Enter sends, Shift+Enter breaks the line, the arrows recall own texts, Ctrl+Up corrects the last one."""
    window = await chat.open(DESKTOP)
    text = window.page.locator("#text")
    await expect(text).to_be_focused()
    await window.page.keyboard.type("one")
    await window.page.keyboard.press("Shift+Enter")
    await window.page.keyboard.type("two")
    await window.page.keyboard.press("Enter")
    first = await chat.human.until("one\ntwo")
    await window.shows(first["message_id"], "one\ntwo")
    await window.page.keyboard.type("/status")
    await window.page.keyboard.press("Enter")
    second = await chat.human.until("/status")
    await window.shows(second["message_id"], "/status")
    for key, value in (("ArrowUp", "/status"), ("ArrowUp", "one\ntwo"), ("ArrowDown", "/status"), ("ArrowDown", "")):
        await window.page.keyboard.press(key)
        await expect(text).to_have_value(value)
    await window.page.keyboard.press("Control+ArrowUp")
    await expect(window.page.locator("#context-title")).to_have_text("Edit message")
    await window.page.keyboard.type(" now")
    await window.page.keyboard.press("Enter")
    await window.shows(second["message_id"], "/status now")
    await expect(window.page.locator("#context")).to_be_hidden()
    assert [each["text"] for each in await chat.human.messages()] == ["one\ntwo", "/status now"]


async def test_a_reply_is_written_and_given_up(chat: Chat) -> None:
    """The menu of a message begins a reply; Esc gives it up; sent, it carries what it answers."""
    asked = await told(chat, "which one?")
    window = await chat.open()
    context = window.page.locator("#context")
    for give_up in (True, False):
        await window.part(asked, ".bubble").hover()
        await window.part(asked, ".more").click()
        await window.page.get_by_role("menuitem", name="Reply").click()
        await expect(context).to_contain_text("which one?")
        if give_up:
            await window.page.keyboard.press("Escape")
            await expect(context).to_be_hidden()
    await window.page.keyboard.type("that one")
    await window.page.keyboard.press("Enter")
    assert (await chat.human.until("that one"))["reply_to"] == asked
    await expect(context).to_be_hidden()


async def test_the_command_menu(chat: Chat) -> None:
    """The "/" button shows all commands, "/st" those that begin so; arrows choose, Tab completes, Enter sends."""
    await chat.bot.set_my_commands(COMMANDS)
    window = await chat.open()
    menu, text = window.page.locator("#menu"), window.page.locator("#text")
    names = menu.locator("b")
    await window.page.click("#slash")
    await expect(names).to_have_text(["/status", "/start", "/stop", "/panic", "/backtest"])
    await window.page.keyboard.press("Escape")
    await text.fill("")
    await text.press_sequentially("/st")
    await expect(names).to_have_text(["/status", "/start", "/stop", "/backtest"])
    await text.press("ArrowDown")
    await text.press("ArrowDown")
    await expect(text).to_have_attribute("aria-activedescendant", "command-start")
    await text.press("Enter")
    await chat.human.until("/start")
    await expect(menu).to_be_hidden()
    await text.press_sequentially("/pa")
    await text.press("Tab")
    await expect(text).to_have_value("/panic ")
    await expect(menu).to_be_hidden()
    await text.fill("")
    await text.press_sequentially("/st")
    await text.press("Enter")
    await chat.human.until("/st")
    await window.page.click("#slash")
    await menu.get_by_text("/stop").click()
    await chat.human.until("/stop")
    await chat.bot.set_my_commands([BotCommand("new", "another")])
    await expect(async_names := window.page.locator("#menu b")).to_have_count(0)
    await window.page.click("#slash")
    await expect(async_names).to_have_text(["/new"])


async def test_the_focus_has_an_order(chat: Chat) -> None:
    """From the link past the chat through its messages to the box; "/" and Esc lead to the box from anywhere."""
    keys = InlineKeyboardMarkup([[InlineKeyboardButton("Yes", callback_data="y")]])
    await chat.bot.send_message(OWNER, "sure?", reply_markup=keys)
    window = await chat.open(DESKTOP)
    page = window.page
    await expect(page.locator("#text")).to_be_focused()
    for key, target in (("Tab", "#send"), ("Shift+Tab", "#text"), ("Shift+Tab", "#slash"), ("Shift+Tab", ".key")):
        await page.keyboard.press(key)
        await expect(page.locator(target).last).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#text")).to_be_focused()
    await page.locator("#scroll").focus()
    await page.keyboard.press("/")
    await expect(page.locator("#text")).to_have_value("/")
    await page.reload()
    await page.locator(".skip").focus()
    await expect(page.locator(".skip")).to_be_in_viewport()
    await page.keyboard.press("Enter")
    await expect(page.locator("#text")).to_be_focused()


# ---- the screen reader


async def test_a_screen_reader_is_told(chat: Chat) -> None:
    """New messages are read out politely, old ones are not; everything that can be used has a name."""
    await everything(chat)
    window = await chat.open()
    live = window.page.locator("#live")
    await expect(live).to_have_attribute("aria-live", "polite")
    assert await live.text_content() == ""
    await told(chat, "PAPER #216 filled")
    await expect(live).to_have_text("Conclave: PAPER #216 filled")
    nameless = await window.measured(
        """() => [...document.querySelectorAll("button, a[href], select, textarea, img, [role=button]")]
             .filter((each) => each.checkVisibility() && !each.closest("[aria-hidden=true], dialog:not([open])"))
             .filter((each) => !(each.getAttribute("aria-label") ?? each.alt ?? each.textContent).trim())
             .map((each) => each.outerHTML)"""
    )
    assert nameless == []
    await expect(window.page.get_by_role("main", name="Chat")).to_be_visible()
    await expect(window.page.get_by_role("list", name="Messages").get_by_role("listitem").first).to_be_visible()
    await expect(window.page.get_by_role("textbox", name="Message")).to_be_visible()
    assert await window.page.locator("html").get_attribute("lang") == "en"


# ---- colours and sizes


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_text_has_contrast(chat: Chat, theme: str) -> None:
    """Every text that is seen stands out from what is behind it by 4.5:1, in both themes."""
    await everything(chat)
    window = await chat.open(query=f"?theme={theme}")
    await _all_shown(window)
    found = await window.measured(CONTRAST)
    assert len(found) > 50
    assert [each for each in found if each[0] < 4.5] == []


async def _all_shown(window: Window) -> None:
    """Opens what is folded: menus, notices, the line above unread messages."""
    page = window.page
    await page.fill("#text", "")
    await page.locator("#text").press_sequentially("/st")
    await page.evaluate(
        """() => {
          const shown = ["toast", "typing", "context", "down", "empty"];
          for (const id of shown) document.getElementById(id).hidden = false;
          const filled = ["toast", "context-title", "context-text", "count"];
          for (const id of filled) document.getElementById(id).textContent = "text";
          const unread = Object.assign(document.createElement("li"), { className: "unread", textContent: "Unread" });
          document.getElementById("messages").append(unread);
        }"""
    )


@pytest.mark.parametrize(("scheme", "query", "dark"), [
    ("dark", "", True), ("light", "", False), ("dark", "?theme=light", False), ("light", "?theme=dark", True),
    ("light", "?theme=%3Cscript%3E", False),
])  # fmt: skip
async def test_the_theme_follows_the_system_or_the_address(chat: Chat, scheme: str, query: str, dark: bool) -> None:
    """`?theme=` overrides what the system prefers, and nothing else passes."""
    window = await chat.open(query=query, color_scheme=scheme)
    wall = await window.measured("() => getComputedStyle(document.body).backgroundColor")
    assert wall == ("rgb(14, 22, 33)" if dark else "rgb(219, 230, 238)")


@pytest.mark.parametrize("size", [TELEPHONE, DESKTOP, (820, 1180)])
async def test_the_layout_fits_the_window(chat: Chat, size: tuple[int, int]) -> None:
    """The column is centred and at most 760 px wide; nothing sticks out; the box is at the bottom."""
    await everything(chat)
    window = await chat.open(size)
    width, height = size
    assert await window.measured("() => document.documentElement.scrollWidth <= innerWidth")
    column = await window.page.locator("#messages").bounding_box()
    box = await window.page.locator("#composer").bounding_box()
    assert column is not None
    assert box is not None
    assert column["width"] <= 760
    assert column["x"] + column["width"] / 2 == pytest.approx(width / 2, abs=8)
    assert box["y"] + box["height"] == pytest.approx(height, abs=1)


async def test_another_user_has_another_chat(chat: Chat) -> None:
    """The page can be a stranger's: what it writes comes from them, and the owner's messages are not shown."""
    await told(chat, "for the owner")
    window = await chat.open(query="?user_id=666")
    await expect(window.page.locator("#user option:checked")).to_have_text("Stranger 666")
    await expect(window.page.locator("#empty")).to_be_visible()
    await window.page.get_by_role("button", name="/start").click()
    await expect(window.page.locator("#messages .body")).to_have_text(["/start"])
    (update,) = await chat.bot.get_updates()
    assert update.effective_user is not None
    assert update.effective_user.id == 666
