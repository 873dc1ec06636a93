"""The chat page: what a message looks like and what can be done with it."""

from __future__ import annotations

import asyncio

import pytest
from telegram import InlineKeyboardButton, InlineKeyboardMarkup, InputMediaPhoto, ReplyParameters

from tests.bot.phone.browser import DESKTOP, OWNER, TELEPHONE, Chat
from tests.bot.phone.pictures import painting

pytest.importorskip("playwright.async_api", reason="playwright is not installed")

from playwright.async_api import Route, expect

pytestmark = pytest.mark.asyncio(loop_scope="module")

CUT = "keys => keys.filter(key => key.scrollWidth > key.clientWidth || key.scrollHeight > key.clientHeight).length"


def keys(*rows: list[str]) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup([[InlineKeyboardButton(text, callback_data=text[:60]) for text in row] for row in rows])


# ---- closed to the outside


async def test_nothing_is_fetched_from_outside(chat: Chat, picture: bytes) -> None:
    """Everything comes from the phone itself, and what would not is refused by the policy that came with the page."""
    await chat.bot.send_photo(OWNER, picture)
    await chat.bot.send_message(OWNER, '<a href="https://example.org/x">link</a>', parse_mode="HTML")
    window = await chat.open()
    await expect(window.page.locator(".photo img").first).to_be_visible()
    assert {url for url in window.requests if not url.startswith((chat.phone.url, "data:"))} == set()
    refused = await window.measured(
        """() => new Promise((done) => {
             const found = new Set();
             document.addEventListener("securitypolicyviolation", (event) => {
               found.add(event.effectiveDirective);
               if (found.size === 4) done([...found].sort());
             });
             fetch("https://example.org/").catch(() => {});
             new Image().src = "https://example.org/x.png";
             const script = Object.assign(document.createElement("script"), { textContent: "window.broken = 1" });
             document.head.append(script);
             document.body.setAttribute("style", "color: red");
           })"""
    )
    assert refused == ["connect-src", "img-src", "script-src-elem", "style-src-attr"]
    assert await window.measured("() => window.broken") is None


async def test_a_message_cannot_break_out(chat: Chat) -> None:
    """Whatever a text holds, it is shown as text: when it comes with the page and when it comes later."""
    evil = "</script><img src=x onerror=\"document.title='broken'\"><b>&lt;"
    first = await chat.bot.send_message(OWNER, evil)
    window = await chat.open()
    second = await chat.bot.send_message(OWNER, evil)
    for sent in (first, second):
        await window.shows(sent.message_id, evil)
    assert await window.page.locator(".body img, .body b").count() == 0
    assert await window.page.title() == "Conclave"


# ---- threads


async def test_a_quote_leads_to_what_it_quotes(chat: Chat) -> None:
    """The quote shows who and what; a click brings the original into view, from pages that are not loaded too."""
    root = await chat.bot.send_message(OWNER, "PAPER PROPOSAL #215\nSHORT ETH")
    for number in range(205):
        await chat.bot.send_message(OWNER, f"noise {number}")
    reply = await chat.bot.send_message(OWNER, "filled", reply_parameters=ReplyParameters(root.message_id))
    window = await chat.open()
    quote = window.part(reply.message_id, ".quote")
    await expect(quote).to_contain_text("Conclave")
    await expect(quote).to_contain_text("PAPER PROPOSAL #215")
    assert await window.line(root.message_id).count() == 0
    await quote.click()
    await expect(window.line(root.message_id)).to_be_in_viewport()
    await expect(window.line(root.message_id)).to_contain_class("flash")


async def test_a_thread_can_be_followed(chat: Chat) -> None:
    """A decision's card counts its replies; a click shows it with them alone, live, and Esc leads back."""
    command = await chat.human.say("/status")
    await chat.bot.send_message(OWNER, "flat", reply_parameters=ReplyParameters(command["message_id"]))
    root = await chat.bot.send_message(OWNER, "PROPOSAL #215")
    approved = await chat.bot.send_message(OWNER, "approved", reply_parameters=ReplyParameters(root.message_id))
    await chat.bot.send_message(OWNER, "of another matter")
    await chat.bot.send_message(OWNER, "filled", reply_parameters=ReplyParameters(approved.message_id))
    window = await chat.open()
    chip = window.part(root.message_id, ".replies")
    await expect(chip).to_have_text("2 replies")
    await expect(window.part(command["message_id"], ".replies")).to_be_hidden()
    await chip.click()
    thread = window.page.locator("#thread-messages .body")
    await expect(thread).to_have_text(["PROPOSAL #215", "approved", "filled"])
    await expect(window.page.locator("#thread-title")).to_have_text("PROPOSAL #215")
    await chat.bot.send_message(OWNER, "closed +1.9R", reply_parameters=ReplyParameters(root.message_id))
    await expect(thread).to_have_text(["PROPOSAL #215", "approved", "filled", "closed +1.9R"])
    await expect(window.page.locator("#thread-count")).to_have_text("3 replies")
    await window.page.keyboard.press("Escape")
    await expect(window.page.locator("#thread")).to_be_hidden()
    await expect(chip).to_have_text("3 replies")
    await expect(chip).to_be_focused()


async def test_what_is_written_in_a_thread_belongs_to_it(chat: Chat) -> None:
    """A text from the open thread replies to its top; Back closes the thread."""
    root = await chat.bot.send_message(OWNER, "PROPOSAL #215")
    await chat.bot.send_message(OWNER, "approved", reply_parameters=ReplyParameters(root.message_id))
    window = await chat.open()
    await window.part(root.message_id, ".replies").click()
    await expect(window.page.locator("#thread-messages .body")).to_have_count(2)
    await window.page.fill("#text", "why?")
    await window.page.keyboard.press("Enter")
    await expect(window.page.locator("#thread-messages .body")).to_have_text(["PROPOSAL #215", "approved", "why?"])
    assert (await chat.human.until("why?"))["reply_to"] == root.message_id
    await window.page.go_back()
    await expect(window.page.locator("#thread")).to_be_hidden()


async def test_a_thread_has_an_address(chat: Chat) -> None:
    """Opened by its address the thread is there at once; Esc closes a photo in it first, and then leads to the chat."""
    root = await chat.bot.send_photo(OWNER, painting(600, 400), caption="PROPOSAL #215")
    await chat.bot.send_message(OWNER, "approved", reply_parameters=ReplyParameters(root.message_id))
    window = await chat.open(query=f"?theme=dark#thread-{root.message_id}")
    thread = window.page.locator("#thread")
    await expect(thread.locator(".body")).to_have_text(["PROPOSAL #215", "approved"])
    await thread.locator(".photo").first.click()
    await expect(window.page.locator("#lightbox")).to_be_visible()
    await window.page.keyboard.press("Escape")
    await expect(window.page.locator("#lightbox")).to_be_hidden()
    await expect(thread).to_be_visible()
    await window.page.keyboard.press("Escape")
    await expect(thread).to_be_hidden()
    assert window.page.url == f"{chat.phone.url}/?theme=dark"


# ---- buttons


@pytest.mark.parametrize("size", [TELEPHONE, (320, 640), DESKTOP])
async def test_buttons_fit_their_rows(chat: Chat, size: tuple[int, int]) -> None:
    """Rows of three to five and long texts are drawn whole: no word is cut, nothing sticks out of the window."""
    markup = keys(
        ["Approve -8.70 max", "Half size", "Reject", "Why", "Chart"],
        ["15m", "1h", "4h", "1d"],
        ["Close 25%", "Close 50%", "Close 100%"],
        ["A rather long button that must wrap on a telephone without cutting one of its words"],
    )
    sent = await chat.bot.send_message(OWNER, "short", reply_markup=markup)
    window = await chat.open(size)
    found = window.part(sent.message_id, ".key")
    await expect(found).to_have_count(13)
    assert await found.evaluate_all(CUT) == 0
    ones = await found.evaluate_all("keys => keys.slice(0, 12).filter(key => key.offsetHeight > 44).length")
    assert ones == 0, "a short text needs one line"
    assert await window.measured("() => document.documentElement.scrollWidth <= innerWidth")
    tops = await found.evaluate_all("keys => keys.slice(5, 9).map(key => key.offsetTop)")
    assert len(set(tops)) == 1, "four short ones share a line"


async def test_a_tap_is_answered(chat: Chat) -> None:
    """A tapped button waits until the bot answers: a short answer passes by, an alert stays until it is closed."""
    sent = await chat.bot.send_message(OWNER, "sure?", reply_markup=keys(["Yes", "No"]))
    window = await chat.open()
    for text, alert in (("done", False), ("Too late: it expired", True)):
        button = window.part(sent.message_id, ".key").first
        await button.click()
        await expect(button).to_contain_class("waiting")
        updates = await chat.bot.get_updates(timeout=5)
        query = updates[-1].callback_query
        assert query is not None
        await query.answer(text, show_alert=alert)
        await expect(button).not_to_contain_class("waiting")
        await expect(window.page.locator("#alert-text" if alert else "#toast")).to_have_text(text)
    await window.page.keyboard.press("Enter")
    await expect(window.page.locator("#alert")).to_be_hidden()


# ---- edits


async def test_an_edit_happens_in_place(chat: Chat) -> None:
    """What is being read stays where it is while messages above and below it change; "edited" stands by the time."""
    sent = [await chat.bot.send_message(OWNER, f"message {number}") for number in range(60)]
    window = await chat.open()
    above, read, below = sent[5].message_id, sent[20].message_id, sent[40].message_id
    await window.line(read).scroll_into_view_if_needed()
    before = await window.top(read)
    for message_id in (above, below):
        await chat.bot.edit_message_text("longer\n" * 12 + "end", OWNER, message_id)
    await expect(window.part(above, ".body")).to_contain_text("longer")
    await expect(window.part(below, ".body")).to_contain_text("longer")
    assert await window.top(read) == pytest.approx(before, abs=1)
    await expect(window.part(above, ".edited")).to_have_text("edited")
    await expect(window.part(above, ".edited")).to_be_visible()
    await expect(window.part(read, ".edited")).to_be_hidden()


async def test_an_edit_leaves_focus_and_spoilers_alone(chat: Chat) -> None:
    """Only the parts that changed are drawn again: the key keeps the focus, the spoiler stays open."""
    body, markup = "<tg-spoiler>hidden</tg-spoiler>", keys(["One", "Two"])
    sent = await chat.bot.send_message(OWNER, body, parse_mode="HTML", reply_markup=markup)
    window = await chat.open()
    await window.part(sent.message_id, ".spoiler").click()
    await window.part(sent.message_id, ".key").nth(1).focus()
    await chat.bot.edit_message_reply_markup(OWNER, sent.message_id, reply_markup=keys(["Zero", "Two"]))
    await expect(window.part(sent.message_id, ".key").nth(0)).to_have_text("Zero")
    await expect(window.part(sent.message_id, ".key").nth(1)).to_be_focused()
    await expect(window.part(sent.message_id, ".spoiler")).to_contain_class("open")


async def test_a_progress_message_becomes_a_chart(chat: Chat) -> None:
    """The same line turns from text into a photo, and a deleted message goes."""
    sent = await chat.bot.send_message(OWNER, "[##..] 50%")
    gone = await chat.bot.send_message(OWNER, "for a moment")
    window = await chat.open()
    await chat.bot.edit_message_media(
        InputMediaPhoto(painting(600, 300), caption="Backtest #88"), OWNER, sent.message_id
    )
    await expect(window.part(sent.message_id, ".photo img")).to_be_visible()
    await window.shows(sent.message_id, "Backtest #88")
    await chat.bot.delete_message(OWNER, gone.message_id)
    await expect(window.line(gone.message_id)).to_have_count(0)


# ---- photos and documents


@pytest.mark.parametrize("shape", [(1200, 700), (300, 900), (40, 20)])
async def test_a_photo_keeps_its_place_while_it_loads(chat: Chat, shape: tuple[int, int]) -> None:
    """Its room is there, in its proportions, before a byte of it has come: nothing jumps."""
    sent = await chat.bot.send_photo(OWNER, painting(*shape))
    go = asyncio.Event()

    async def late(route: Route) -> None:
        await go.wait()
        await route.continue_()

    window = await chat.open()
    await window.page.route("**/phone/files/**", late)
    await window.page.reload(wait_until="commit")
    image = window.part(sent.message_id, ".photo img")
    await expect(image).to_be_visible()
    before = await image.bounding_box()
    go.set()
    await expect(image).to_have_js_property("complete", True)
    after = await image.bounding_box()
    assert before is not None
    assert before == after
    if min(shape) > 30:
        assert before["width"] / before["height"] == pytest.approx(shape[0] / shape[1], rel=0.02)
    assert before["width"] <= 390


async def test_a_photo_opens(chat: Chat) -> None:
    """A click opens it over the window; click and keys zoom; Esc, a click beside it and the button close it."""
    first = await chat.bot.send_photo(OWNER, painting(1200, 700), caption="Equity <today>")
    second = await chat.bot.send_photo(OWNER, painting(600, 600))
    window = await chat.open()
    box, image = window.page.locator("#lightbox"), window.page.locator("#lightbox-image")
    photo = window.part(first.message_id, ".photo")
    await photo.click()
    await expect(box).to_be_visible()
    await expect(window.page.locator("#lightbox-caption")).to_have_text("Equity <today>")
    fit = await image.bounding_box()
    assert fit is not None
    assert fit["width"] / fit["height"] == pytest.approx(1200 / 700, rel=0.02)
    assert fit["width"] <= 390
    await image.click()
    await expect(window.page.locator("#lightbox-stage")).to_contain_class("zoomed")
    zoomed = await image.bounding_box()
    assert zoomed is not None
    assert zoomed["width"] == pytest.approx(2.5 * fit["width"], rel=0.01)
    await window.page.keyboard.press("0")
    await window.page.keyboard.press("+")
    larger = await image.bounding_box()
    assert larger is not None
    assert larger["width"] == pytest.approx(1.5 * fit["width"], rel=0.01)
    await window.page.keyboard.press("ArrowRight")
    await expect(image).to_have_attribute("alt", "Photo")
    await window.page.keyboard.press("Escape")
    await expect(box).to_be_hidden()
    await expect(photo).to_be_focused()
    await window.part(second.message_id, ".photo").click()
    await window.page.mouse.click(195, 780)
    await expect(box).to_be_hidden()
    await photo.click()
    await window.page.click("#lightbox-close")
    await expect(box).to_be_hidden()


async def test_a_photo_is_pinched(chat: Chat) -> None:
    """Two fingers that part enlarge the photo, one finger moves it then."""
    sent = await chat.bot.send_photo(OWNER, painting(1200, 700))
    window = await chat.open(has_touch=True)
    await window.part(sent.message_id, ".photo").tap()
    image = window.page.locator("#lightbox-image")
    fit = await image.bounding_box()
    line = await window.page.context.new_cdp_session(window.page)

    async def touch(kind: str, *points: tuple[int, int]) -> None:
        fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        await line.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    await touch("touchStart", (180, 420), (210, 420))
    for spread in range(10, 100, 10):
        await touch("touchMove", (180 - spread, 420), (210 + spread, 420))
    await touch("touchEnd")
    zoomed = await image.bounding_box()
    assert fit is not None
    assert zoomed is not None
    assert zoomed["width"] > 3 * fit["width"]
    await touch("touchStart", (195, 420))
    await touch("touchMove", (215, 430))
    await touch("touchMove", (245, 460))
    await touch("touchEnd")
    moved = await image.bounding_box()
    assert moved is not None
    assert (moved["x"] - zoomed["x"], moved["y"] - zoomed["y"]) == pytest.approx((50, 40), abs=2)


async def test_a_document_downloads(chat: Chat) -> None:
    """Name and size are shown; the file comes down under its own name."""
    content = b"PK" + bytes(84_000)
    sent = await chat.bot.send_document(OWNER, content, filename="Bücher & 1.xlsx")
    window = await chat.open()
    link = window.part(sent.message_id, ".document")
    await expect(link).to_contain_text("Bücher & 1.xlsx")
    await expect(link).to_contain_text("82 KB")
    async with window.page.expect_download() as coming:
        await link.click()
    download = await coming.value
    assert download.suggested_filename == "Bücher & 1.xlsx"
    path = await download.path()
    assert path.read_bytes() == content


# ---- text


@pytest.mark.parametrize("width", [390, 360, 320])
async def test_a_table_of_34_columns_fits_a_telephone(chat: Chat, width: int) -> None:
    """No sideways scrolling, neither of the table nor of the page."""
    rows = ["1234567890" * 3 + "1234", "BTC  L5x  +41.2 +0.8  1.2  17 wide", "█" * 34]
    sent = await chat.bot.send_message(OWNER, f"<pre>{chr(10).join(rows)}</pre>", parse_mode="HTML")
    window = await chat.open((width, 844))
    table = window.part(sent.message_id, "pre")
    await expect(table).to_be_visible()
    assert await table.evaluate("pre => pre.scrollWidth <= pre.clientWidth")
    size = float((await table.evaluate("pre => getComputedStyle(pre).fontSize")).removesuffix("px"))
    assert size >= (13 if width == 390 else 11)
    assert await window.measured("() => document.documentElement.scrollWidth <= innerWidth")


async def test_long_and_foreign_texts_are_readable(chat: Chat) -> None:
    """4,096 characters, an endless word, emoji and right-to-left text stay inside the window, each in its direction."""
    long = await chat.bot.send_message(OWNER, "word " * 819 + "x")
    endless = await chat.bot.send_message(OWNER, "A" * 600)
    arabic = await chat.bot.send_message(OWNER, "مرحبا هذا نص 12.5%")
    emoji = await chat.bot.send_message(OWNER, "👨‍👩‍👧‍👦🇩🇪❤️‍🔥 up 🚀")
    window = await chat.open()
    for sent in (long, endless, arabic, emoji):
        assert sent.text is not None
        await window.shows(sent.message_id, sent.text)
        box = await window.part(sent.message_id, ".bubble").bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    assert await window.measured("() => document.documentElement.scrollWidth <= innerWidth")
    for sent, direction in ((arabic, "rtl"), (emoji, "ltr")):
        await expect(window.part(sent.message_id, ".content")).to_have_css("direction", direction)


async def test_formatted_text_can_be_used(chat: Chat) -> None:
    """A command in a text is sent by a click, a spoiler opens, a folded quote unfolds, text is copied."""
    body = (
        "see /status\n<tg-spoiler>secret</tg-spoiler>\n<blockquote expandable>" + "line\n" * 9 + "last</blockquote>end"
    )
    sent = await chat.bot.send_message(OWNER, body, parse_mode="HTML")
    window = await chat.open(permissions=["clipboard-read", "clipboard-write"])
    await window.part(sent.message_id, ".command").click()
    await chat.human.until("/status")
    spoiler = window.part(sent.message_id, ".spoiler")
    await spoiler.press("Enter")
    await expect(spoiler).to_contain_class("open")
    folded = await window.part(sent.message_id, "blockquote").bounding_box()
    await window.part(sent.message_id, ".unfold").click()
    unfolded = await window.part(sent.message_id, "blockquote").bounding_box()
    assert folded is not None
    assert unfolded is not None
    assert unfolded["height"] > 2 * folded["height"]
    await window.part(sent.message_id, ".bubble").hover()
    await window.part(sent.message_id, ".more").click()
    await window.page.get_by_role("menuitem", name="Copy text").click()
    await expect(window.page.locator("#toast")).to_have_text("Copied")
    assert (await window.measured("() => navigator.clipboard.readText()")).startswith("see /status\nsecret")


async def test_silent_pinned_forwarded_and_reacted(chat: Chat) -> None:
    """A silent message has a muted bell; a pin stands above the chat and leads to its message; the rest is shown."""
    loud = await chat.bot.send_message(OWNER, "loud")
    for number in range(40):
        await chat.bot.send_message(OWNER, f"noise {number}")
    silent = await chat.bot.send_message(OWNER, "quiet", disable_notification=True)
    again = await chat.bot.forward_message(OWNER, OWNER, loud.message_id)
    window = await chat.open()
    await expect(window.part(silent.message_id, ".muted")).to_be_visible()
    await expect(window.part(again.message_id, ".muted")).to_be_hidden()
    await expect(window.part(again.message_id, ".forwarded")).to_have_text("Forwarded from Conclave")
    await expect(window.page.locator("#pin")).to_be_hidden()
    await chat.bot.pin_chat_message(OWNER, loud.message_id)
    await chat.bot.set_message_reaction(OWNER, silent.message_id, "👍")
    await expect(window.part(silent.message_id, ".reaction")).to_have_text("👍")
    await expect(window.page.locator("#pin-text")).to_have_text("loud")
    await window.page.click("#pin")
    await expect(window.line(loud.message_id)).to_be_in_viewport()
    await chat.bot.unpin_chat_message(OWNER)
    await expect(window.page.locator("#pin")).to_be_hidden()
