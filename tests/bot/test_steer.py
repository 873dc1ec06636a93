"""Steering from the chat: less risk at one word, more risk only by the owner's tap on a card that is still true."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.cards import Look
from bot.conversation import wall_clock
from tests.bot import stage
from tests.bot.phone.driver import Json
from tests.bot.stage import OPERATOR, OWNER, VIEWER, Reader, Stage, staged
from trading.events import (
    CancelEntry,
    ChangeSettings,
    ChangeSymbols,
    ClosePosition,
    MoveToBreakeven,
    Panic,
    ResumeTrading,
    StopEntries,
)
from trading.model import Side
from trading.status import EntryView, PositionView


def a_position(symbol: str = "BTCUSDT", verdict_id: int = 12, **changes: Any) -> PositionView:
    ahead = {"mark": Decimal(63900), "unrealised": Decimal("5.88"), "r": 0.64, "best_r": 0.7}
    return stage.a_position(symbol=symbol, verdict_id=verdict_id, **(ahead | changes))


def an_entry(symbol: str = "ETHUSDT", verdict_id: int = 13) -> EntryView:
    fields: dict[str, Any] = {
        "symbol": symbol, "side": Side.SHORT, "verdict_id": verdict_id, "qty": Decimal("0.43"),
        "price": Decimal(2412), "stop": Decimal(2441), "bars_left": 2,
    }  # fmt: skip
    return EntryView(**fields)


async def said(reader: Reader, text: str) -> Json:
    return await reader.reply_to(await reader.say(text))


async def pressed(stage: Stage, reader: Reader, message: Json, data: str) -> Json:
    """The message as the tap left it."""
    before = message["text"]
    await reader.human.tap(message["message_id"], data, user_id=reader.user_id)

    def changed(shown: list[Json]) -> Json | None:
        found = next(each for each in shown if each["message_id"] == message["message_id"])
        return found if found["text"] != before else None

    after: Json = await reader.until(changed)
    return after


def button(message: Json, word: str) -> str:
    return next(str(each["data"]) for row in message["buttons"] for each in row if word in each["text"])


@pytest.mark.parametrize(
    ("text", "request_type", "answer"),
    [
        ("/stop", StopEntries, "Stopping"), ("/panic", Panic, "PANIC"), ("/close BTC", ClosePosition, "Closing 100%"),
        ("/close 12 50", ClosePosition, "Closing 50%"), ("/breakeven BTCUSDT", MoveToBreakeven, "Break-even"),
        ("/cancel eth", CancelEntry, "Cancelling"), ("/set risk_per_trade 0.005", ChangeSettings, "only lessen risk"),
        ("/symbols -btc", ChangeSymbols, "No new entries on BTC"),
    ],
)  # fmt: skip
async def test_less_risk_is_one_word_of_any_operator(
    tmp_path: Path, text: str, request_type: type, answer: str
) -> None:
    """Answered, asked once, and its end comes as a reply to the answer."""
    async with staged(tmp_path) as stage:
        stage.trader.shows = {"positions": (a_position(),), "entries": (an_entry(),)}
        operator = stage.others(OPERATOR)
        answered = await said(operator, text)
        assert answer in answered["text"]
        end = await operator.until(
            lambda shown: next((each for each in shown if each["reply_to"] == answered["message_id"]), None)
        )
        assert end["text"].startswith("PAPER")
        assert [type(each) for each in stage.trader.asked] == [request_type]
        assert (await said(stage.others(VIEWER), text))["text"].endswith("you are viewer.")
        assert len(stage.trader.asked) == 1


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("/close", "Nothing is open"), ("/close BTC", "no position BTC"), ("/breakeven", "Nothing is open"),
        ("/cancel", "No entry rests"), ("/cancel 99", "no resting entry 99"), ("/set", "risk_per_trade"),
        ("/set risk_per_trade", "fraction of equity at risk"), ("/set nonsense", "no setting"),
        ("/set risk_per_trade 0.01", "nothing changes"), ("/symbols", "BTC: traded"),
        ("/symbols +BTC", "nothing changes"), ("/symbols +DOGE", "config.json"), ("/symbols BTC", "takes a market out"),
        ("/confirm x", "commands"),
    ],
)  # fmt: skip
async def test_what_cannot_be_done_is_said(tmp_path: Path, text: str, answer: str) -> None:
    """In one sentence, and nothing is asked of the trader."""
    async with staged(tmp_path) as stage:
        assert answer in (await said(stage.owner, text))["text"]
        assert stage.trader.asked == []


async def test_what_is_open_is_offered(tmp_path: Path) -> None:
    """A button for each share; a wrong share is refused with a right example."""
    async with staged(tmp_path) as stage:
        stage.trader.shows = {"positions": (a_position(), a_position("ETHUSDT", 13))}
        offer = await said(stage.owner, "/close")
        assert [[each["data"] for each in row] for row in offer["buttons"]] == [
            ["close BTCUSDT 25", "close BTCUSDT 50", "close BTCUSDT 100"],
            ["close ETHUSDT 25", "close ETHUSDT 50", "close ETHUSDT 100"],
        ]
        assert "/close BTC 50" in (await said(stage.owner, "/close BTC 33"))["text"]
        chosen = await said(stage.owner, "/close 13 choose")
        assert len(chosen["buttons"][0]) == 3
        await stage.owner.human.tap(offer["message_id"], "close ETHUSDT 50")
        await stage.owner.message("Closing 50%")
        request = stage.trader.asked[0]
        assert isinstance(request, ClosePosition)
        assert (request.symbol, request.share) == ("ETHUSDT", Decimal("0.5"))


async def test_more_risk_is_shown_first_and_confirmed_by_the_owner_once(tmp_path: Path) -> None:
    """Old → new with its effect in money; the card becomes its own receipt; a second tap finds nothing."""
    async with staged(tmp_path) as stage:
        assert "only the owner" in (await said(stage.others(OPERATOR), "/set risk_per_trade 0.02"))["text"]
        card = await said(stage.owner, "/set risk_per_trade 0.02")
        assert "risk_per_trade: 0.01 → 0.02" in card["text"]
        assert "Loss at the stop: 100.28 → 200.57 USDT" in card["text"]
        assert stage.trader.asked == []
        yes = button(card, "Change")
        after = await pressed(stage, stage.owner, card, yes)
        assert "Confirmed" in after["text"]
        assert after["buttons"] == []
        await stage.owner.message("SETTINGS CHANGED by owner 1: risk_per_trade")
        assert [type(each) for each in stage.trader.asked] == [ChangeSettings]
        assert "*" in (await said(stage.owner, "/set"))["text"]


async def test_a_confirmation_is_void_when_something_has_changed_since(tmp_path: Path) -> None:
    """What was shown is not what would happen."""
    async with staged(tmp_path) as stage:
        card = await said(stage.owner, "/set risk_per_trade 0.02")
        stage.trader.settings["risk_per_trade"] = 0.005
        after = await pressed(stage, stage.owner, card, button(card, "Change"))
        assert "Not done: risk_per_trade has been changed since" in after["text"]
        assert stage.trader.asked == []


async def test_a_confirmation_is_void_after_its_time(tmp_path: Path) -> None:
    """Two minutes by the clock that dates messages."""
    late = timedelta()

    def wall() -> Any:
        return wall_clock() + late

    async with staged(tmp_path, wall=wall) as stage:
        card = await said(stage.owner, "/set risk_per_trade 0.02")
        late = timedelta(minutes=3)
        after = await pressed(stage, stage.owner, card, button(card, "Change"))
        assert "Not done" in after["text"]
        assert stage.trader.asked == []


async def test_a_card_is_left_by_its_no(tmp_path: Path) -> None:
    """And the yes of the same card is void then."""
    async with staged(tmp_path) as stage:
        card = await said(stage.owner, "/set risk_per_trade 0.02")
        yes = button(card, "Change")
        nonce = yes.split()[1]
        after = await pressed(stage, stage.owner, card, f"dismiss {nonce}")
        assert "Left as it was" in after["text"]
        assert after["buttons"] == []
        assert stage.trader.asked == []


async def test_real_money_is_allowed_by_a_card(tmp_path: Path) -> None:
    """Equity, risk and limits in money; nothing is allowed before the tap."""
    async with staged(tmp_path, look=Look(badge="LIVE", real_money=True)) as stage:
        await said(stage.owner, "/pause")
        await stage.owner.message("PAUSED")
        card = await said(stage.owner, "/resume")
        assert "REAL MONEY: allow new entries?" in card["text"]
        assert "Entries: blocked → open" in card["text"]
        assert "Risk per trade 100.28 USDT (1.00%)" in card["text"]
        assert stage.trader.paused
        await pressed(stage, stage.owner, card, button(card, "Trade again"))
        await stage.owner.message("RESUMED by owner 1")
        assert [type(each) for each in stage.trader.asked][1:] == [ResumeTrading]


async def test_somebody_elses_card_cannot_be_confirmed(tmp_path: Path) -> None:
    """A nonce that was seen or guessed is worth nothing in another chat, nor to another role."""
    async with staged(tmp_path) as stage:
        card = await said(stage.owner, "/set risk_per_trade 0.02")
        nonce = button(card, "Change").split()[1]
        for user_id in (OPERATOR, VIEWER):
            reader = stage.others(user_id)
            menu = await said(reader, "/menu")
            assert nonce not in str(menu)
        await stage.owner.human.tap(card["message_id"], f"confirm {nonce}", user_id=OPERATOR)
        assert "open" in (await said(stage.owner, "/status"))["text"]
        assert stage.trader.asked == []
        assert OWNER == 1
