"""What the looking commands answer, on a real database: numbers of the journal, in market time, and never a guess."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.access import Caller, Role
from bot.commands import COMMANDS, route
from bot.handlers.rest import LADDER
from bot.phone.formatting import parse_html, utf16_length
from bot.ports import Answer, Asked, Desk
from bot.text import CAPTION_LIMIT, LIMIT, pages, plain
from storage.database import Database, open_database
from storage.journal import SqlJournal
from tests.bot.stage import NOON, OWNER, PIXEL, SmallPainter, SmallTrader, a_desk, a_fill, a_trade, a_verdict
from tests.bot.test_views import NASTY, a_position, an_entry, an_order
from tests.storage import samples
from tests.structure import ROOT
from trading.errors import Transient
from trading.events import CashAdjusted, EquityMarked, Event, FundingPaid
from trading.model import CandleSeries
from trading.pictures import BarsPicture, CandlePicture, EquityPicture, Picture, RankPicture, Theme

DAY = timedelta(days=1)


class BusyPainter(SmallPainter):
    """One that cannot draw now."""

    async def paint(self, picture: Picture, theme: Theme) -> bytes:
        raise Transient("the drawing process is starting again")


class SilentPrices:
    """An exchange that does not answer."""

    async def history(self, symbol: str, bars: int) -> CandleSeries:
        raise Transient("the exchange does not answer")


@dataclass
class Room:
    """A desk with somebody before it: `said` writes a command, `tapped` presses a button."""

    db: Database
    journal: SqlJournal
    trader: SmallTrader
    painter: SmallPainter
    desk: Desk

    async def hears(self, words: str, *, role: Role = Role.OWNER, tapped: int | None = None) -> Answer:
        """The answer to a command, checked to be one that Telegram takes."""
        command, arguments = route(f"/{words}", COMMANDS, tapped=tapped is not None)
        caller = Caller(user_id=OWNER, role=role)
        asked = Asked(caller=caller, name=command.name, arguments=arguments, update_id=1, at=NOON, tapped=tapped)
        answer = await command.handler(asked, self.desk)
        whole = answer.media or answer.in_place
        for text in [answer.text] if whole else pages(answer.text):
            assert 0 < utf16_length(parse_html(text).text) <= (CAPTION_LIMIT if answer.media else LIMIT)
        for row in answer.buttons or []:
            assert all(each["text"] and 0 < len(each["data"].encode()) <= 64 for each in row)
        return answer

    async def said(self, words: str, **how: Any) -> list[str]:
        """The lines of the answer, without markup."""
        return plain((await self.hears(words, **how)).text).split("\n")

    async def happened(self, *events: Event) -> None:
        """Into the journal."""
        await self.journal.append(events)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """An empty account."""
    db = await open_database(tmp_path / "test.db")
    journal = SqlJournal(db, "test", clock=samples.wall)
    trader, painter = SmallTrader(journal), SmallPainter()
    desk = a_desk(db, trader, painter=painter)
    yield Room(db=db, journal=journal, trader=trader, painter=painter, desk=desk)
    await db.close()


def marked(days_ago: float, equity: float) -> EquityMarked:
    """The equity at a close some days before noon."""
    at = NOON - timedelta(days=days_ago)
    return EquityMarked(at=at, equity=equity, cash=Decimal(10000), exposed=False, closes={})


def closed(number: int, days_ago: float, pnl: str, **changes: Any) -> Event:
    """A trade finished some days before noon."""
    at = NOON - timedelta(days=days_ago)
    return a_trade(number, at=at, exit_time=at, entry_time=at - timedelta(hours=4), pnl=Decimal(pnl), **changes)


def data_of(answer: Answer) -> list[list[str]]:
    return [[each["data"] for each in row] for row in answer.buttons or []]


# /status, /orders, /balance


async def test_status_needs_no_database(room: Room) -> None:
    """It answers while the database is closed."""
    await room.db.close()
    answer = await room.hears("status")
    assert plain(answer.text).startswith("PAPER · 0 open · 21 Jul 12:00")
    assert data_of(answer) == [["status", "orders", "chart BTCUSDT"]]


async def test_status_shows_the_limit_on_heat(room: Room) -> None:
    """As it is set now."""
    room.trader.shows["positions"] = (a_position(symbol="ETHUSDT"),)
    assert "heat 2.1/3.0%   day +26.40" in await room.said("status")
    room.trader.settings["max_open_risk"] = 0.05
    answer = await room.hears("status")
    assert "heat 2.1/5.0%" in plain(answer.text)
    assert data_of(answer)[0][2] == "chart ETHUSDT"


async def test_a_tap_refreshes_the_same_message(room: Room) -> None:
    """Status, orders, health and the menu change in place; a menu's own buttons answer below it."""
    for words in ("status", "orders", "health", "menu"):
        assert (await room.hears(words, tapped=7)).in_place
        assert not (await room.hears(words)).in_place
        assert not (await room.hears(f"{words} new", tapped=7)).in_place


async def test_orders_can_be_cancelled_by_those_who_may(room: Room) -> None:
    """One button for each entry, by the decision's number."""
    room.trader.shows |= {"orders": (an_order(),), "entries": (an_entry(), an_entry(symbol="BTCUSDT", verdict_id=None))}
    assert data_of(await room.hears("orders", role=Role.OPERATOR)) == [
        ["cancel 3", "cancel BTCUSDT", "orders"],
        ["status"],
    ]
    assert data_of(await room.hears("orders", role=Role.VIEWER)) == [["orders", "status"]]


async def test_the_balance_adds_up_what_was_paid(room: Room) -> None:
    """Fees of fills and funding, of the journal; a deposit is no profit."""
    payment = FundingPaid(at=NOON, exec_id="f", symbol="ETHUSDT", amount=Decimal("0.5"))
    await room.happened(a_verdict(), a_fill(), payment)
    said = await room.said("balance")
    assert said[0] == "PAPER equity 10,028.30 USDT, +28.30 USDT (+0.28%) since the start"
    assert "Fees paid 0.21 USDT, funding paid 0.50 USDT" in said
    await room.happened(CashAdjusted(at=NOON, amount=Decimal(20), cash=Decimal(10020)))
    said = await room.said("balance")
    assert said[0] == "PAPER equity 10,028.30 USDT, +8.30 USDT (+0.08%) since the start"
    assert said[-1] == "Deposits less withdrawals +20.00 USDT: not counted in the result"


# /trades, /trade


async def test_trades_are_the_last_ones(room: Room) -> None:
    """As many as are asked for, the newest first, open ones on top."""
    await room.happened(*(closed(number, 20 - number, "1.5") for number in range(1, 16)))
    room.trader.shows["positions"] = (a_position(),)
    said = await room.said("trades")
    assert said[0] == "PAPER last 10 trades +15.00 USDT +19.0R, 10 won, 1 open"
    assert [line.split()[0] for line in said[3:6]] == ["214", "15", "14"]
    assert (await room.said("trades 3"))[0].startswith("PAPER last 3 trades")


async def test_a_trade_is_shown_with_its_way(room: Room) -> None:
    """From the stored events, with buttons for why and chart."""
    await room.happened(a_verdict(), a_fill(), a_trade())
    answer = await room.hears("trade #215")
    assert plain(answer.text).startswith("PAPER #215 SHORT ETH closed +17.30 USDT (+0.86%) +1.9R, trailing")
    assert "FILLED 0.43 at 2,412" in plain(answer.text)
    assert data_of(answer) == [["why 215", "chart ETHUSDT"]]


async def test_an_open_trade_is_marked_at_the_last_price(room: Room) -> None:
    """The trader knows what it is worth."""
    await room.happened(a_verdict(), a_fill())
    room.trader.shows["positions"] = (a_position(verdict_id=215),)
    assert (await room.said("trade 215"))[0] == "PAPER #215 SHORT ETH open +41.20 USDT (+2.04%) +0.8R"


async def test_an_unknown_decision_is_said_to_be_one(room: Room) -> None:
    """With the way to those that there are."""
    assert await room.said("trade 99") == ["PAPER there is no decision #99: /trades lists the last trades"]


# /profit, /daily, /weekly, /monthly, /performance, /equity


async def five_days(room: Room) -> None:
    """An account with trades and marks over five days, the last of them today."""
    await room.happened(
        marked(4.1, 10_000.0), closed(1, 4, "-30.50", r=-1.0, symbol="BTCUSDT"),
        marked(3.1, 9_969.5), closed(2, 1.6, "12", r=0.4), closed(3, 1.55, "8", r=0.2),
        marked(1.0, 9_989.5), closed(4, 0.1, "20.25", r=0.7), marked(0.0, 10_009.75),
    )  # fmt: skip
    room.trader.shows |= {"equity": Decimal("10009.75"), "cash": Decimal("10009.75")}


async def test_profit_sums_up_utc_days(room: Room) -> None:
    """Today and the days before it, midnight to midnight; without a number, everything."""
    await five_days(room)
    today = await room.said("profit 1")
    assert today[0] == "PAPER +20.25 USDT (+0.20%) +0.7R today, 1 trade"
    assert today[-1] == "Days are UTC, as the loss limits count them; from 21 Jul 2026 on"
    three = await room.said("profit 3")
    assert three[0] == "PAPER +40.25 USDT (+0.40%) +1.3R in 3 days, 3 trades"
    assert "Deepest fall 0.00% from a peak, at the closes" in three
    everything = await room.said("profit")
    assert everything[0] == "PAPER +9.75 USDT (+0.10%) +0.3R since the start, 4 trades"
    assert "Profit factor 1.32, expectancy +0.07R a trade" in everything
    assert "Deepest fall 0.30% from a peak, at the closes" in everything
    assert "Worst #1 SHORT BTC -30.50 USDT -1.0R" in everything


@pytest.mark.parametrize(
    ("words", "first", "rows"),
    [
        ("daily", "PAPER today +20.25 USDT +0.7R; 5 days +9.75 USDT +0.3R, 4 trades",
         ["21 Jul 1 100 +20.25 +0.7", "20 Jul 0 – – –", "19 Jul 2 100 +20.00 +0.6", "18 Jul 0 – – –",
          "17 Jul 1 0 -30.50 -1.0"]),
        ("daily 2", "PAPER today +20.25 USDT +0.7R; 2 days +20.25 USDT +0.7R, 1 trade",
         ["21 Jul 1 100 +20.25 +0.7", "20 Jul 0 – – –"]),
        ("weekly", "PAPER this week +20.25 USDT +0.7R; 2 weeks +9.75 USDT +0.3R, 4 trades",
         ["20 Jul 1 100 +20.25 +0.7", "13 Jul 3 67 -10.50 -0.4"]),
        ("monthly", "PAPER this month +9.75 USDT +0.3R; 1 month +9.75 USDT +0.3R, 4 trades",
         ["Jul 26 4 75 +9.75 +0.3"]),
    ],
)  # fmt: skip
async def test_results_by_period_come_with_bars(room: Room, words: str, first: str, rows: Sequence[str]) -> None:
    """No period before the first close on record is made up; the picture shows what the table says."""
    await five_days(room)
    answer = await room.hears(words)
    said = plain(answer.text).split("\n")
    assert said[0] == first
    assert [" ".join(line.split()) for line in said[3:-1]] == list(rows)
    assert answer.media is not None
    assert (answer.media.kind, answer.media.data) == ("photo", PIXEL)
    (picture,) = room.painter.painted
    assert isinstance(picture, BarsPicture)
    assert len(picture.values) == len(rows)


async def test_a_trade_after_the_last_close_is_in_the_table(room: Room) -> None:
    """The newest period is that of the newest trade when the market's last close lies before it."""
    await five_days(room)
    await room.happened(closed(5, -0.6, "1"))
    assert (await room.said("daily"))[0].startswith("PAPER today +1.00 USDT")


async def test_a_long_table_goes_without_its_picture(room: Room) -> None:
    """Where a caption has no room for it."""
    await room.happened(marked(400, 10_000.0), *(closed(number, 60 - number, "1.5") for number in range(60)))
    answer = await room.hears("daily 60")
    assert answer.media is None
    assert len(plain(answer.text).split("\n")) == 64


async def test_performance_ranks_markets_and_ways_out(room: Room) -> None:
    """With bars of the same figures."""
    await five_days(room)
    answer = await room.hears("performance")
    first = "PAPER +9.75 USDT +0.3R in 4 trades; best ETH +40.25 USDT, worst BTC -30.50 USDT"
    assert plain(answer.text).split("\n")[0] == first
    (picture,) = room.painter.painted
    assert isinstance(picture, RankPicture)
    assert picture.groups[0] == ("Market", (("ETH", 40.25, "+1.3R"), ("BTC", -30.5, "-1.0R")))


async def test_the_equity_curve_is_drawn(room: Room) -> None:
    """The last days in market time, with the equity before them as its start."""
    await five_days(room)
    answer = await room.hears("equity 2")
    assert plain(answer.text).split("\n")[:2] == [
        "PAPER equity 10,009.75 USDT, +40.25 USDT (+0.40%) in 2 days",
        "Deepest fall 0.00% from a peak, over 2 closes",
    ]
    (picture,) = room.painter.painted
    assert isinstance(picture, EquityPicture)
    assert (picture.start, picture.equity.tolist()) == (9_969.5, [9_989.5, 10_009.75])
    assert (await room.said("equity"))[0] == "PAPER equity 10,009.75 USDT, +9.75 USDT (+0.10%) in 30 days"


async def test_a_span_without_closes_offers_a_longer_one(room: Room) -> None:
    """When there are closes before it."""
    await room.happened(marked(9, 10_000.0), marked(8, 10_010.0))
    (sentence,) = await room.said("equity 2")
    assert sentence.endswith("fewer than two bars have closed in that time, try /equity 20")
    assert len(await room.said("equity 20")) == 3


@pytest.mark.parametrize("words", ["equity", "daily", "performance", "chart"])
async def test_without_the_painter_there_is_the_text(room: Room, words: str) -> None:
    """And a line that says what is missing."""
    await five_days(room)
    room.desk = dataclasses.replace(room.desk, painter=BusyPainter())
    answer = await room.hears(words)
    assert answer.media is None
    last = plain(answer.text).split("\n")[-1]
    assert last == "The chart could not be drawn now: the drawing process is starting again"


# /chart


async def test_a_chart_shows_fills_and_levels(room: Room) -> None:
    """Candles of the traded timeframe with what was done on them."""
    series = await room.desk.prices.history("BTCUSDT", 50)
    at = series.candle(30).open_time
    await room.happened(a_trade(1, symbol="BTCUSDT", entry_time=at, exit_time=at + timedelta(hours=4), at=NOON + DAY))
    room.trader.shows["positions"] = (a_position(opened=series.candle(45).open_time),)
    answer = await room.hears("chart btc")
    assert plain(answer.text).split("\n")[1] == "LONG 0.012 from 63,410, stop 62,650: +41.20 USDT +0.8R"
    (picture,) = room.painter.painted
    assert isinstance(picture, CandlePicture)
    assert picture.series.symbol == "BTCUSDT"
    assert len(picture.series) == 120
    assert [mark.kind for mark in picture.marks] == ["short", "exit", "long"]
    assert {level.kind for level in picture.levels} == {"entry", "stop"}
    assert {line.name for line in picture.lines} >= {"EMA 200", "RSI 14"}


@pytest.mark.parametrize(("words", "hours"), [("1d", 24), ("480", 8), ("4H", 4), ("1w", 168)])
async def test_a_chart_can_be_put_together_from_traded_bars(room: Room, words: str, hours: int) -> None:
    """Any multiple of them."""
    answer = await room.hears(f"chart BTCUSDT {words}")
    assert answer.media is not None
    (picture,) = room.painter.painted
    assert isinstance(picture, CandlePicture)
    assert picture.series.interval == timedelta(hours=hours)


async def test_another_timeframe_is_told_which_there_are(room: Room) -> None:
    """One sentence with an example."""
    for words in ("1h", "90", "5h", "0", "3y", "-4h", "٤h", "1e3", "99999d", "🙂"):
        (sentence,) = await room.said(f"chart BTC {words}")
        assert "multiple of those: 4h, 8h, 12h, 1d, 3d, 1w; like /chart BTC 1w" in sentence


async def test_another_market_is_told_which_there_are(room: Room) -> None:
    """With the nearest name; none is needed where there is only one."""
    room.trader.shows["symbols"] = ("BTCUSDT", "ETHUSDT")
    assert await room.said("chart EHT") == [
        "PAPER /chart takes a traded market (did you mean ETH?): BTC, ETH; like /chart BTC"
    ]
    answer = await room.hears("chart")
    assert plain(answer.text) == "PAPER /chart takes a traded market: BTC, ETH; like /chart BTC"
    assert data_of(answer) == [["chart BTCUSDT", "chart ETHUSDT"]]
    room.trader.shows["symbols"] = ("ETHUSDT",)
    assert (await room.hears("chart")).media is not None


async def test_a_silent_exchange_is_no_chart(room: Room) -> None:
    """The sentence says why."""
    room.desk = dataclasses.replace(room.desk, prices=SilentPrices())
    (sentence,) = await room.said("chart BTC")
    assert sentence.startswith("PAPER no prices of BTC now: the exchange does not answer")


# /health, /logs, /version


async def test_the_program_tells_how_it_is(room: Room) -> None:
    """Health, the log and the versions."""
    assert (await room.said("health"))[0] == "PAPER healthy, 2 checks"
    assert (await room.said("logs 5"))[1] == "12:00:00 INFO telegram_connected bot=conclave"
    assert (await room.said("version"))[0] == "PAPER conclave 0.1.0"


# Arguments


@pytest.mark.parametrize("name", ["trades", "profit", "daily", "weekly", "monthly", "equity", "logs", "verdicts"])
async def test_a_wrong_number_is_shown_a_right_one(room: Room, name: str) -> None:
    """One sentence with an example that works."""
    for wrong in ("0", "-1", "x", "1.5", "99999", "9" * 40, "٣", "5 6", "1e1"):
        (sentence,) = await room.said(f"{name} {wrong}")
        assert sentence.startswith(f"PAPER /{name} takes a number from 1 to ")
        example = sentence.rpartition("like /")[2]
        assert "takes a number" not in (await room.said(example))[0]


@pytest.mark.parametrize("name", ["trade", "why"])
async def test_a_wrong_decision_number_is_shown_a_right_one(room: Room, name: str) -> None:
    """One sentence with an example."""
    for wrong in ("", "x", "1 2", "-1", "²", "1" * 16, "##1"):
        assert await room.said(f"{name} {wrong}") == [f"PAPER /{name} takes the number of a decision, like /{name} 12"]


@pytest.mark.parametrize(
    "words", ["trades", "profit", "profit 7", "daily", "weekly", "monthly", "performance", "equity", "verdicts"]
)
async def test_an_empty_account_says_when_there_will_be_something(room: Room, words: str) -> None:
    """One sentence, before the first bar, too."""
    assert len(await room.said(words)) == 1
    room.trader.shows |= {"market_time": None, "next_close": None}
    assert len(await room.said(words)) == 1


@pytest.mark.parametrize("nasty", NASTY)
async def test_nothing_that_is_written_breaks_an_answer(room: Room, nasty: str) -> None:
    """Every looking command with a hostile argument gives one message that Telegram takes."""
    room.desk = dataclasses.replace(room.desk, look=dataclasses.replace(room.desk.look, badge=nasty))
    for command in COMMANDS:
        if command.group != "steer" and not command.hidden:
            await room.hears(f"{command.name} {nasty}")


# /start, /help, /menu


async def test_start_names_the_next_step_with_its_lines(room: Room) -> None:
    """From each rung of the way to real money; it asks nothing of the trader."""
    wanted = {
        ("REPLAY ×4", True): "FEED=live",
        ("PAPER", True): "FEED=live",
        ("PAPER", False): "EXCHANGE=demo\nBYBIT_KEY=\nBYBIT_SECRET=",
        ("DEMO", False): "EXCHANGE=testnet\nBYBIT_KEY=\nBYBIT_SECRET=",
        ("TESTNET", False): "EXCHANGE=live\nBYBIT_KEY=\nBYBIT_SECRET=",
    }
    for (badge, made_up), step in wanted.items():
        look = dataclasses.replace(room.desk.look, badge=badge, made_up=made_up)
        room.desk = dataclasses.replace(room.desk, look=look)
        answer = await room.hears("start")
        assert answer.request is None
        assert f"In .env, then start again:\n{step}\n" in plain(answer.text)
    room.desk = dataclasses.replace(room.desk, look=dataclasses.replace(room.desk.look, badge="LIVE"))
    assert "The last step: this is live" in plain((await room.hears("start")).text)


async def test_the_lines_of_the_next_step_are_settings() -> None:
    """Each names a variable of .env.example."""
    known = (ROOT / ".env.example").read_text(encoding="utf-8")
    for rung in LADDER:
        assert all(f"#{line.partition('=')[0]}=" in known for line in rung.lines)


@pytest.mark.parametrize("role", Role)
async def test_help_lists_what_one_may_say(room: Room, role: Role) -> None:
    """By groups, without what only buttons say."""
    said = await room.said("help", role=role)
    listed = {line.split()[0] for line in said if line.startswith("/")}
    wanted = {f"/{each.name}" for each in COMMANDS if each.needs <= role and not each.hidden}
    assert listed == wanted
    others = sum(each.needs > role and not each.hidden for each in COMMANDS)
    assert (f"{others} more are for operators or the owner." in said) == (others > 0)


async def test_help_explains_every_command_with_an_example(room: Room) -> None:
    """The example means the command itself, and says its argument where it takes one."""
    for command in COMMANDS:
        if command.hidden:
            continue
        said = await room.said(f"help {command.name}")
        example = next(line for line in said if line.startswith("For example: ")).removeprefix("For example: ")
        meant, arguments = route(example, COMMANDS)
        assert meant is command
        assert bool(arguments) == bool(command.usage)


async def test_help_offers_the_nearest_name(room: Room) -> None:
    """For one that does not exist, and for one that only buttons say."""
    (sentence,) = await room.said("help chrt")
    assert sentence.endswith("(did you mean chart?): /help lists what there is")
    assert "lists what there is" in (await room.said("help gone"))[0]


async def test_the_menu_offers_what_one_may_do_now(room: Room) -> None:
    """Only what the role may say; pause or resume, whichever makes sense."""
    owner = [each for row in data_of(await room.hears("menu")) for each in row]
    assert "pause" in owner
    assert "resume" not in owner
    room.trader.paused = True
    owner = [each for row in data_of(await room.hears("menu")) for each in row]
    assert "resume" in owner
    assert "pause" not in owner
    viewer = [each for row in data_of(await room.hears("menu", role=Role.VIEWER)) for each in row]
    assert not {"pause", "resume"} & set(viewer)
    for data in owner:
        assert route(f"/{data}", COMMANDS, tapped=True)[0].name == data.split()[0]
