"""A newcomer's first minutes, in a browser of a phone's size, with fingers only: what they do, and what they see.

The pictures of README and its recording are taken here: `make pictures` writes them to docs/pictures.
"""

from __future__ import annotations

import io
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from tests.journeys.browser import Locator, Page, ViewportSize, browsing
from tests.journeys.program import Place, Running
from tests.structure import ROOT

PHONE: ViewportSize = {"width": 390, "height": 844}
Theme = Literal["light", "dark"]
TAKEN = bool(os.environ.get("CONCLAVE_PICTURES"))
THEMES: tuple[Theme, ...] = ("light", "dark") if TAKEN else ("light",)  # the page's own tests look at both
SPEED = "43200"  # three bars of four hours in a second: the journey takes about a minute
FRAME_SECONDS = 0.35
_PROOF = re.compile(r"asked the exchange at \d\d:\d\d:\d\d UTC: 0 positions, 0 orders")


@dataclass
class Album:
    """Pictures of a page, and the frames of a recording."""

    folder: Path
    frames: list[bytes] = field(default_factory=list)
    _last: float = 0.0

    def picture(self, page: Page, name: str) -> None:
        """One picture, looked at: it is as large as the screen and not blank."""
        shot = page.screenshot()
        (self.folder / f"{name}.png").write_bytes(shot)
        image = Image.open(io.BytesIO(shot))
        assert image.size == (PHONE["width"] * 2, PHONE["height"] * 2)
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
        assert colours is not None
        assert len(colours) > 100, name

    def film(self, page: Page) -> None:
        """One frame, if the last one is old enough."""
        if time.monotonic() - self._last >= FRAME_SECONDS:
            self._last = time.monotonic()
            self.frames.append(page.screenshot(type="jpeg", quality=80, scale="css"))

    def recording(self, name: str) -> Path:
        """The frames as an animated picture of half the size."""
        size = (PHONE["width"] * 3 // 4, PHONE["height"] * 3 // 4)
        shots = [Image.open(io.BytesIO(frame)).convert("RGB").resize(size) for frame in self.frames]
        images = [shot.quantize(64, dither=Image.Dither.NONE) for shot in shots]
        path = self.folder / name
        images[0].save(path, save_all=True, append_images=images[1:], duration=350, loop=0, optimize=True)
        return path


@dataclass
class Newcomer:
    """Somebody with a phone in front of the page: looks, types, taps."""

    page: Page
    album: Album
    program: Running

    def until(self, wanted: Locator, seconds: float = 30) -> Locator:
        """Waits for something to be on the page, filming meanwhile."""
        deadline = time.monotonic() + seconds
        while not wanted.count():
            assert time.monotonic() < deadline, f"not on the page: {wanted}\n{self.program.err[-1000:]}"
            assert self.program.process.poll() is None, self.program.err[-2000:]
            self.album.film(self.page)
            self.page.wait_for_timeout(100)
        self.album.film(self.page)
        return wanted

    def say(self, text: str) -> Locator:
        """Types a command, sends it, and waits for the reply to it: its bubble."""
        before = self.replies_to(text).count()
        box = self.page.get_by_role("textbox", name="Message", exact=True)
        box.fill(text)
        self.album.film(self.page)
        self.page.get_by_role("button", name="Send").click()
        self.until(self.replies_to(text).nth(before))
        self.page.wait_for_timeout(150)
        return self.replies_to(text).nth(before)

    def replies_to(self, text: str) -> Locator:
        """The messages of the bot that quote what was said."""
        quote = self.page.locator("button.quote span").filter(has_text=re.compile(rf"^{re.escape(text)}$"))
        return self.page.locator("#messages li.message").filter(has=quote)

    def cards(self, words: str) -> Locator:
        """Messages that hold the words."""
        return self.page.locator("#messages li.message").filter(has_text=re.compile(words))

    def tap(self, message: Locator, button: str) -> None:
        """Presses a button under a message."""
        message.get_by_role("button", name=button).tap()
        self.album.film(self.page)

    def until_open(self) -> Locator:
        """Refreshes a status in place until it shows an open position: the same message, edited."""
        status = self.say("/status")
        deadline = time.monotonic() + 90
        while True:
            self.tap(status, "Refresh")
            self.page.wait_for_timeout(250)
            if "0 open" not in status.inner_text():
                return status
            assert time.monotonic() < deadline, status.inner_text()

    def show(self, message: Locator) -> None:
        """Scrolls so that a message is in sight."""
        message.evaluate("element => element.scrollIntoView({block: 'center'})")
        self.page.wait_for_timeout(250)
        self.album.film(self.page)


@contextmanager
def newcomer(place: Place, theme: Theme, album: Album) -> Iterator[Newcomer]:
    """The program, fresh, with charts of the page's theme, and the page of its phone."""
    config = json.loads((ROOT / "config.json").read_text(encoding="utf-8"))
    config["chat"]["theme"] = theme
    (place.folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with place.start("run", "--no-dashboard", "--speed", SPEED) as program, browsing() as browser:
        context = browser.new_context(
            viewport=PHONE, device_scale_factor=2, has_touch=True, is_mobile=True, color_scheme=theme, locale="en-GB"
        )
        page = context.new_page()
        page.goto(program.chat)
        yield Newcomer(page=page, album=album, program=program)
        context.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where pictures go: the project's own folder when they are made for it."""
    target = ROOT / "docs" / "pictures" if TAKEN else tmp_path / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    return target


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("theme", THEMES)
def test_the_first_minutes(tmp_path: Path, folder: Path, theme: Theme) -> None:
    """First start, a decision's thread, why, status in place, equity, chart, a closed trade, pause, panic's proof."""
    album = Album(folder)
    with newcomer(Place(folder=tmp_path), theme, album) as person:
        first_start(person, theme)
        a_decision_and_its_trade(person, theme)
        looking_around(person, theme)
        less_risk(person, theme)
    if theme == "light":
        recording = album.recording("first-minutes.gif")
        assert 100_000 < recording.stat().st_size < 3_000_000


def first_start(person: Newcomer, theme: Theme) -> None:
    """The page opens on a running bot; /start says where one stands and starts nothing."""
    person.until(person.cards("Conclave starts"))
    answer = person.say("/start")
    text = answer.inner_text()
    assert "PAPER" in text
    assert "FEED=live" in text
    assert "started nothing" in text
    person.show(answer)
    person.album.picture(person.page, f"start-{theme}")


def a_decision_and_its_trade(person: Newcomer, theme: Theme) -> None:
    """An approved decision with its chart; its card tells the trade to its end; /why tells the reasons."""
    card = person.until(person.cards(r"CLOSED [+-][\d.,]+ USDT").filter(has_text="APPROVED"), 120).first
    number = re.search(r"APPROVED #(\d+)", card.inner_text())
    assert number is not None
    thread = card.get_by_role("button", name=re.compile(r"repl(y|ies)"))
    person.show(card)
    person.album.picture(person.page, f"card-{theme}")
    thread.tap()
    opened = person.page.locator("#thread:not([hidden])")
    person.until(opened)
    images = opened.locator("a.photo:not([hidden]) img")
    person.until(images)
    images.first.evaluate("image => image.decode()")
    person.page.wait_for_timeout(300)
    assert opened.locator("li.message").count() >= 4  # the card, its chart, the fill, the exit
    person.album.picture(person.page, f"thread-{theme}")
    opened.get_by_role("button", name="Back to the chat").tap()
    person.tap(card, "Why")
    why = person.until(person.cards(rf"#{number.group(1)} \w+ \w+ APPROVED[\s\S]*p\(win\)")).last
    person.show(why)
    person.album.picture(person.page, f"why-{theme}")


def looking_around(person: Newcomer, theme: Theme) -> None:
    """Status, refreshed in place; equity and candles as pictures that open."""
    status = person.until_open()
    assert "edited" in status.inner_text()
    person.show(status)
    person.album.picture(person.page, f"status-{theme}")
    for command, name in (("/chart BTC", "chart"), ("/equity", "equity")):
        answer = person.say(command)
        image = answer.locator("a.photo img")
        image.evaluate("image => image.decode()")
        person.show(answer)
        person.album.picture(person.page, f"{name}-{theme}")
    person.page.locator("#messages a.photo:not([hidden])").last.tap()
    lightbox = person.page.locator("#lightbox[open]")
    person.until(lightbox)
    person.page.keyboard.press("Escape")
    assert not lightbox.is_visible()


def less_risk(person: Newcomer, theme: Theme) -> None:
    """A pause that can be taken back; with a position open, a panic that ends with the exchange's own word."""
    assert "Pausing" in person.say("/pause").inner_text()
    person.until(person.cards("PAUSED by owner"))
    person.say("/resume")
    person.until(person.cards("RESUMED by owner"))
    person.until_open()
    person.say("/panic")
    proof = person.until(person.cards("PANIC DONE"), 30).last
    assert _PROOF.search(proof.inner_text())
    person.show(proof)
    person.album.picture(person.page, f"panic-{theme}")
    status = person.say("/status").inner_text()
    assert "PAUSED" in status
    assert "0 open" in status
